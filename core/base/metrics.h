/* Counters, gauges and histograms in the Prometheus text format (version 0.0.4). Names carry the prefix waybill_, a
 * base unit and, for counters, _total. Label values come from closed sets, never from strangers.
 *
 * Metrics are made at start-up and live as long as the process; changing one is thread-safe and lock-free. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdint.h>

#include "base/buf.h"

struct metrics; /* the registry of one process */
struct metric;  /* one time series: a name with one set of labels */

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/* labels is the text between the braces (as `code="bad_signature"`), or NULL. Asking again for the same name and
 * labels gives the same metric; the help text of the first stays. Takes a lock: not for hot paths. */
struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *labels, const char *help);
struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *labels, const char *help);
/* Of seconds, with fixed buckets from 100 µs to 60 s. */
struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *labels, const char *help);

void metric_add(struct metric *metric, int64_t n);         /* counter or gauge */
void metric_set(struct metric *metric, int64_t value);     /* gauge */
void metric_observe_us(struct metric *metric, int64_t us); /* histogram */
int64_t metric_value(const struct metric *metric);         /* counter or gauge */

void metrics_write(struct metrics *metrics, struct buf *out);

#endif
