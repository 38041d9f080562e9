/* What the worker counts. Made once, used by all its threads. */
#ifndef WORKER_WORKER_METRICS_H
#define WORKER_WORKER_METRICS_H

#include "base/metrics.h"
#include "event/delivery.h"

/* What became of a delivery. */
enum delivery_result {
    RESULT_SUCCEEDED,
    RESULT_RETRY,
    RESULT_SNOOZED,
    RESULT_DEAD,
    RESULT_DUPLICATE,
    RESULT_CONFLICT,
    RESULT_RESETTLED, /* it was decided before; only the settling was missing */
    RESULT_HELD,      /* left to its owner */
    RESULT_LOST,      /* taken over by another worker meanwhile */
    RESULT_HANDED_BACK,
    RESULT_COUNT
};

struct worker_metrics {
    struct metric *results[RESULT_COUNT];
    struct metric *attempts[OUTCOME_MEMORY_LIMIT + 1];
    struct metric *handler_seconds;    /* one process.lua call */
    struct metric *resolution_seconds; /* from acceptance to succeeded or dead */
    struct metric *batch_events;       /* how many a pipeline takes at once now */
    struct metric *in_hand;            /* events that pipelines hold */
    struct metric *store_up, *queue_up;
    struct metric *store_errors, *queue_errors;
    struct metric *reclaimed, *poisoned, *reconciled, *promoted, *expired;
    struct metric *depth_stream, *depth_pending, *depth_retry, *depth_dead;
    struct metric *oldest_seconds, *letters_unreviewed;
    struct metric *generation, *reloads_good, *reloads_bad;
};

void worker_metrics_init(struct worker_metrics *m, struct metrics *registry);

#endif
