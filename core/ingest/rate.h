/* Rate limits: one token bucket a source, for the whole process. Thread-safe. */
#ifndef INGEST_RATE_H
#define INGEST_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/slice.h"

struct rate_limit {
    const char *source;       /* copied */
    double per_second, burst; /* per_second 0: no limit. burst below 1 counts as one second's worth, at least 1 */
};

struct rate;

struct rate *rate_new(void);
void rate_free(struct rate *rate);

/* Sets the limits of all sources; a source that had a bucket keeps what is in it, up to its new burst. */
void rate_configure(struct rate *rate, const struct rate_limit *limits, size_t n, mono_time now);

/* Takes one token. false: there is none, and *wait_ms is when there will be. A source without a limit always gets one.
 */
bool rate_take(struct rate *rate, struct slice source, mono_time now, int64_t *wait_ms);

#endif
