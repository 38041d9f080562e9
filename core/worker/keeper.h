/* The keeper: the one thread of a worker process that looks after what no single batch does: it moves due events from
 * the retry set, probes the store while the breaker is open, reconciles, measures, and deletes what retention allows.
 */
#ifndef WORKER_KEEPER_H
#define WORKER_KEEPER_H

#include "worker/pipeline.h"

struct keeper {
    struct worker_shared *shared;
    struct queue *queue;
    struct store_client *store;
    struct slice *epochs;
    bool queue_is_open, prepared;
    struct backoff queue_backoff, store_backoff;
    struct log_gate queue_gate, store_gate;
    mono_time queue_at, store_at, measure_at, letters_at, reconcile_at, expire_at; /* when each is next due */
    char durability[512]; /* the last warning about Redis' settings */
};

bool keeper_init(struct keeper *keeper, struct worker_shared *shared, struct error *err);
void keeper_free(struct keeper *keeper);

/* The thread's main; returns when shared->stopping is set. */
void keeper_run(void *keeper);

#endif
