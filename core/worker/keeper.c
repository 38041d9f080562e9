#include "worker/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/memory.h"

#define TURN_MS       50   /* a due event waits no longer than this to be moved */
#define PROBE_MS      1000 /* between pings of a store that answers */
#define MEASURE_MS    1000
#define LETTERS_MS    5000 /* counting many letters costs the store something */
#define RECONCILE_MS  5000 /* half of it is random, so that several workers do not do it at once */
#define RECONCILE_MAX 500
#define EXPIRE_MS     60000
#define EXPIRE_MAX    1000
#define LOG_EVERY_MS  5000
#define MS_A_DAY      INT64_C(86400000)

static mono_time in_ms(int64_t ms)
{
    return mono_after_ms(clock_mono(), ms);
}

static bool is_due(mono_time at)
{
    return mono_is_past(at, clock_mono());
}

/* --- Redis ------------------------------------------------------------------------------------------------------- */

static void queue_failed(struct keeper *k, const struct error *err)
{
    uint64_t skipped;
    k->queue_is_open = false;
    k->queue_at = in_ms(backoff_next_ms(&k->queue_backoff, 50, 2000));
    metric_add(k->shared->metrics.queue_errors, 1);
    if (log_gate_open(&k->queue_gate, LOG_EVERY_MS, &skipped))
        log_warn("Redis is not available", LOG_S("error", err->text), LOG_I("not_logged", skipped));
}

static void warn_about_durability(struct keeper *k)
{
    struct error err;
    char warning[sizeof k->durability] = "";
    if (queue_check_durability(k->queue, warning, sizeof warning, &err) != QUEUE_OK)
        return; /* a server that does not let us ask */
    if (warning[0] != '\0' && strcmp(warning, k->durability) != 0)
        log_warn("Redis' settings do not keep the promises", LOG_S("problem", warning));
    memcpy(k->durability, warning, sizeof warning);
}

static bool open_queue(struct keeper *k)
{
    struct error err;
    bool renewed;
    if (queue_open(k->queue, &renewed, &err) != QUEUE_OK) {
        queue_failed(k, &err);
        return false;
    }
    if (!k->queue_is_open)
        warn_about_durability(k);
    k->queue_is_open = true;
    if (renewed)
        atomic_store(&k->shared->reconcile_now, true);
    return true;
}

/* Moves what is due; returns how long the next one can wait. */
static int64_t promote(struct keeper *k)
{
    struct error err;
    size_t moved;
    int64_t next_ms;
    do {
        if (queue_promote(k->queue, &moved, &next_ms, &err) != QUEUE_OK) {
            queue_failed(k, &err);
            return TURN_MS;
        }
        backoff_reset(&k->queue_backoff);
        metric_add(k->shared->metrics.promoted, (int64_t)moved);
    } while (moved > 0 && next_ms == 0 && !atomic_load(&k->shared->stopping));
    return next_ms < 0 || next_ms > TURN_MS ? TURN_MS : next_ms < 1 ? 1 : next_ms;
}

/* --- the store --------------------------------------------------------------------------------------------------- */

static void store_failed(struct keeper *k, const struct error *err)
{
    uint64_t skipped;
    metric_add(k->shared->metrics.store_errors, 1);
    breaker_trip(&k->shared->breaker);
    worker_show_store(k->shared);
    k->store_at = in_ms(backoff_next_ms(&k->store_backoff, 100, 2000));
    if (log_gate_open(&k->store_gate, LOG_EVERY_MS, &skipped))
        log_warn("the store is not available: nothing is taken until it is", LOG_S("error", err->text),
                 LOG_I("not_logged", skipped));
}

static void probe_store(struct keeper *k)
{
    struct error err;
    enum store_result result = k->prepared ? store_ping(k->store, &err) : store_prepare(k->store, &err);
    if (result != STORE_OK) {
        store_failed(k, &err);
        return;
    }
    k->prepared = true;
    backoff_reset(&k->store_backoff);
    k->store_at = in_ms(PROBE_MS);
    bool closed = breaker_close(&k->shared->breaker);
    worker_show_store(k->shared);
    if (closed && breaker_held(&k->shared->breaker, HELD_AWAY) == 0) /* else who is held will say when that is over */
        log_info("the store answers");
}

struct requeueing {
    struct keeper *keeper;
    bool failed;
};

static bool requeue(void *arg, const struct event *event)
{
    struct requeueing *job = arg;
    struct error err;
    if (job->failed)
        return false;
    if (queue_requeue(job->keeper->queue, event, &err) == QUEUE_OK)
        return true;
    queue_failed(job->keeper, &err);
    job->failed = true;
    return false;
}

static void reconcile(struct keeper *k)
{
    const struct config *config = k->shared->config;
    struct requeueing job = {.keeper = k};
    struct error err;
    size_t found = 0;
    k->reconcile_at = in_ms(RECONCILE_MS / 2 + id_random_below(RECONCILE_MS / 2)); /* also after a failure: no haste */
    bool asked = atomic_exchange(&k->shared->reconcile_now, false);
    if (!open_queue(k)) /* for the epochs of now */
        return;
    for (uint32_t i = 0; i < (uint32_t)config->partitions; i++)
        k->epochs[i] = queue_epoch(k->queue, i);
    struct store_reconcile what = {.epochs = k->epochs,
                                   .partitions = (uint32_t)config->partitions,
                                   .lease_ms = config->lease_ms,
                                   .stale_ms = config->reconcile_ms,
                                   .max = RECONCILE_MAX,
                                   .requeue = requeue,
                                   .arg = &job};
    if (store_reconcile(k->store, &what, &found, &err) != STORE_OK) {
        store_failed(k, &err);
        return;
    }
    if (found > 0)
        log_warn("queued again from the store", LOG_I("events", found), LOG_I("after_new_epoch", asked));
    metric_add(k->shared->metrics.reconciled, (int64_t)found);
    if (found == RECONCILE_MAX && !job.failed)
        atomic_store(&k->shared->reconcile_now, true);
}

static void expire(struct keeper *k)
{
    struct error err;
    int64_t deleted = 0, days = k->shared->config->retention_days;
    k->expire_at = in_ms(EXPIRE_MS / 2 + id_random_below(EXPIRE_MS / 2));
    if (days == 0)
        return;
    if (store_expire(k->store, days * MS_A_DAY, EXPIRE_MAX, &deleted, &err) != STORE_OK)
        store_failed(k, &err);
    metric_add(k->shared->metrics.expired, deleted);
    if (deleted == EXPIRE_MAX)
        k->expire_at = in_ms(1000);
}

static void measure_queue(struct keeper *k)
{
    struct worker_metrics *m = &k->shared->metrics;
    struct queue_depth depth;
    struct error err;
    if (queue_measure(k->queue, &depth, &err) != QUEUE_OK) {
        queue_failed(k, &err);
        return;
    }
    metric_set(m->depth_stream, depth.stream);
    metric_set(m->depth_pending, depth.pending);
    metric_set(m->depth_retry, depth.retry);
    metric_set(m->depth_dead, depth.dead);
    metric_set(m->oldest_seconds, depth.oldest_ms / 1000);
}

static void measure_store(struct keeper *k)
{
    struct store_dead_filter unreviewed = {.status = "unreviewed"};
    struct error err;
    int64_t letters;
    if (store_dead_count(k->store, &unreviewed, &letters, &err) == STORE_OK)
        metric_set(k->shared->metrics.letters_unreviewed, letters);
    else
        store_failed(k, &err);
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

static void look_after_store(struct keeper *k)
{
    if (is_due(k->store_at))
        probe_store(k);
    if (breaker_is_open(&k->shared->breaker))
        return;
    if (k->queue_is_open && (atomic_load(&k->shared->reconcile_now) || is_due(k->reconcile_at)))
        reconcile(k);
    if (is_due(k->expire_at))
        expire(k);
}

static void measure(struct keeper *k)
{
    k->measure_at = in_ms(MEASURE_MS);
    if (k->queue_is_open)
        measure_queue(k);
    if (is_due(k->letters_at) && !breaker_is_open(&k->shared->breaker)) {
        k->letters_at = in_ms(LETTERS_MS);
        measure_store(k);
    }
}

void keeper_run(void *arg)
{
    struct keeper *k = arg;
    while (!atomic_load(&k->shared->stopping)) {
        int64_t pause_ms = TURN_MS;
        if (k->queue_is_open || (is_due(k->queue_at) && open_queue(k)))
            pause_ms = promote(k);
        look_after_store(k);
        if (is_due(k->measure_at))
            measure(k);
        clock_sleep_ms(pause_ms);
    }
}

bool keeper_init(struct keeper *k, struct worker_shared *shared, struct error *err)
{
    *k = (struct keeper){.shared = shared};
    k->epochs = memory_alloc((size_t)shared->config->partitions * sizeof *k->epochs);
    struct queue_options options = {.url = shared->config->redis_url,
                                    .consumer = "",
                                    .timeout_ms = shared->config->queue_timeout_ms,
                                    .lease_ms = shared->config->lease_ms,
                                    .partitions = (uint32_t)shared->config->partitions};
    k->queue = queue_new(&options, err);
    k->store = k->queue == NULL ? NULL : worker_store_client(shared, err);
    return k->store != NULL;
}

void keeper_free(struct keeper *k)
{
    queue_free(k->queue);
    store_client_free(k->store);
    free(k->epochs);
}
