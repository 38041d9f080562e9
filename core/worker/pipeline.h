/* A pipeline: one thread that takes batches of events and brings each to a result:
 * take -> claim -> run -> commit -> settle (docs/decisions/0004-delivery-protocol.md). */
#ifndef WORKER_PIPELINE_H
#define WORKER_PIPELINE_H

#include <stdatomic.h>

#include "base/backoff.h"
#include "base/config.h"
#include "base/log.h"
#include "policy/http_client.h"
#include "policy/policy.h"
#include "queue/queue.h"
#include "store/store.h"
#include "worker/breaker.h"
#include "worker/worker_metrics.h"

/* What the threads of one worker process share. */
struct worker_shared {
    const struct config *config;
    struct store *store;
    struct breaker breaker;
    atomic_bool stopping;
    atomic_bool reconcile_now; /* Redis may have lost what it had */
    struct worker_metrics metrics;
    char name[128]; /* of this process: host-pid-random */
};

/* Tells the store's gauge how the breaker is. */
void worker_show_store(struct worker_shared *shared);

/* A thread's client of the store; NULL with err when the pool has none left. */
struct store_client *worker_store_client(struct worker_shared *shared, struct error *err);

struct pipeline {
    struct worker_shared *shared;
    char consumer[160];
    _Atomic(struct policy *) next_policy; /* the mailbox of a reload; the pipeline takes and owns it */
    struct policy *policy;
    struct queue *queue;
    struct store_client *store;
    struct http_client *http; /* for scripts */
    struct arena *taken;      /* a batch's deliveries and bodies */
    struct arena *working;    /* what its scripts said */
    struct queue_batch batch;
    size_t batch_size;  /* adapts to how long handlers take */
    size_t store_batch; /* and is no larger than what the store can take in time */
    mono_time kept_at;  /* the last sign of life for the batch in hand */
    mono_time reclaim_at;
    struct backoff queue_backoff, store_backoff;
    struct log_gate queue_gate, store_gate;
    enum breaker_hold held; /* as the breaker counted it */
    bool queue_is_open;
    atomic_bool queue_up; /* for readiness */
};

bool pipeline_init(struct pipeline *pipeline, struct worker_shared *shared, size_t index, struct error *err);
void pipeline_free(struct pipeline *pipeline);

/* The thread's main; returns when shared->stopping is set and what it held is finished or handed back. */
void pipeline_run(void *pipeline);

/* Hands a new policy over (owned by the pipeline from now on); any thread. */
void pipeline_offer(struct pipeline *pipeline, struct policy *policy);

#endif
