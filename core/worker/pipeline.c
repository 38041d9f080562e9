#include "worker/pipeline.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/id.h"
#include "worker/run.h"
#include "worker/settlement.h"

#define TAKE_WAIT_MS  200    /* how long a stop may go unnoticed while there is nothing to do */
#define RUN_BUDGET_US 250000 /* handlers of one batch run so long before what is done gets committed */
#define FIRST_BATCH   8
#define SUSPECT_AT    3    /* from this delivery on an entry runs alone, so that its crash is charged to it alone */
#define GIVE_UP_MS    2000 /* how long a stop waits for a store or a Redis that is away */
#define LOG_EVERY_MS  5000
#define STORE_EASE    30 /* a step within this part of a lease is an easy one */

static bool is_stopping(const struct pipeline *p)
{
    return atomic_load(&p->shared->stopping);
}

static struct worker_metrics *metrics_of(const struct pipeline *p)
{
    return &p->shared->metrics;
}

static void count(const struct pipeline *p, enum delivery_result result)
{
    metric_add(metrics_of(p)->results[result], 1);
}

/* --- Redis ------------------------------------------------------------------------------------------------------- */

static void set_queue_up(struct pipeline *p, bool up)
{
    p->queue_is_open = up;
    if (atomic_exchange(&p->queue_up, up) != up)
        metric_add(metrics_of(p)->queue_up, up ? 1 : -1);
}

static void queue_failed(struct pipeline *p, enum queue_result result, const struct error *err)
{
    uint64_t skipped;
    set_queue_up(p, false);
    metric_add(metrics_of(p)->queue_errors, 1);
    if (log_gate_open(&p->queue_gate, LOG_EVERY_MS, &skipped))
        log_warn(result == QUEUE_REFUSED ? "Redis refuses" : "Redis is not available", LOG_S("error", err->text),
                 LOG_I("not_logged", skipped));
    clock_sleep_ms(backoff_next_ms(&p->queue_backoff, 50, result == QUEUE_REFUSED ? 5000 : 2000));
}

static bool open_queue(struct pipeline *p)
{
    struct error err;
    bool renewed;
    enum queue_result result = queue_open(p->queue, &renewed, &err);
    if (result != QUEUE_OK) {
        queue_failed(p, result, &err);
        return false;
    }
    set_queue_up(p, true);
    if (renewed)
        atomic_store(&p->shared->reconcile_now, true);
    return true;
}

/* A third of the lease; less when a handler may run for most of a lease: two signs of life must lie closer together
 * than that. After one that failed, a twelfth: it connects again by itself, and while the store is away nothing else
 * does. */
static int64_t keep_every_ms(const struct pipeline *p)
{
    const struct config *config = p->shared->config;
    int64_t third = config->lease_ms / 3, spare = (config->lease_ms - config->handler_limit_ms) / 2;
    return !p->queue_is_open ? config->lease_ms / 12 : spare < third ? spare : third;
}

/* A sign of life for what is in hand, when it is time. If Redis is away for so long that the lease runs out, that is
 * safe too. */
static void keep_lease(struct pipeline *p)
{
    struct error err;
    if (mono_elapsed_ms(p->kept_at, clock_mono()) < keep_every_ms(p))
        return;
    set_queue_up(p, queue_keep(p->queue, p->batch.deliveries, p->batch.n, &err) == QUEUE_OK);
    p->kept_at = clock_mono();
}

/* --- take -------------------------------------------------------------------------------------------------------- */

/* Leaves only the first suspect, or the entries that are none: the others go back, uncounted. */
static bool isolate_suspects(struct pipeline *p, struct error *err)
{
    struct delivery *d = p->batch.deliveries;
    size_t n_good = 0, n = p->batch.n;
    for (size_t i = 0; i < n; i++) {
        if (d[i].deliveries < SUSPECT_AT) {
            struct delivery swap = d[n_good];
            d[n_good++] = d[i];
            d[i] = swap;
        }
    }
    size_t keep = n_good > 0 ? n_good : n > 0 ? 1 : 0;
    p->batch.n = keep;
    return keep == n || queue_hand_back(p->queue, d + keep, n - keep, err) == QUEUE_OK;
}

static enum queue_result reclaim(struct pipeline *p, struct error *err)
{
    int64_t lease_ms = p->shared->config->lease_ms, every_ms = lease_ms / 4 < 1000 ? lease_ms / 4 : 1000;
    p->reclaim_at = mono_after_ms(clock_mono(), every_ms / 2 + id_random_below(every_ms / 2 + 1));
    enum queue_result result = queue_reclaim(p->queue, p->batch_size, &p->batch, err);
    if (result != QUEUE_OK || p->batch.n == 0)
        return result;
    metric_add(metrics_of(p)->reclaimed, (int64_t)p->batch.n);
    log_info("took over from a silent worker", LOG_I("entries", p->batch.n));
    p->reclaim_at = clock_mono(); /* there may be more */
    return isolate_suspects(p, err) ? QUEUE_OK : QUEUE_UNAVAILABLE;
}

/* Fills the batch: first what silent workers left behind, then what is new. false: Redis is away. */
static bool take(struct pipeline *p)
{
    struct error err;
    enum queue_result result = QUEUE_OK;
    p->batch = (struct queue_batch){.arena = p->taken};
    if (mono_is_past(p->reclaim_at, clock_mono()))
        result = reclaim(p, &err);
    if (result == QUEUE_OK && p->batch.n == 0)
        result = queue_take(p->queue, p->batch_size, TAKE_WAIT_MS, &p->batch, &err);
    if (result == QUEUE_OK) {
        backoff_reset(&p->queue_backoff);
        return true;
    }
    queue_failed(p, result, &err);
    return false;
}

/* --- the store --------------------------------------------------------------------------------------------------- */

/* Waits for the store to be tried again, and keeps the lease meanwhile. false: a stop came and it is still away. */
static bool hold(struct pipeline *p)
{
    mono_time give_up = mono_after_ms(clock_mono(), GIVE_UP_MS);
    mono_time again = mono_after_ms(clock_mono(), backoff_next_ms(&p->store_backoff, 50, 2000));
    for (;;) {
        mono_time now = clock_mono();
        if (mono_is_past(again, now) && !breaker_is_open(&p->shared->breaker))
            return true;
        if (is_stopping(p) && mono_is_past(give_up, now))
            return false;
        keep_lease(p);
        clock_sleep_ms(20);
    }
}

static void store_failed(struct pipeline *p, const struct error *err)
{
    uint64_t skipped;
    metric_add(metrics_of(p)->store_errors, 1);
    breaker_trip(&p->shared->breaker);
    breaker_hold(&p->shared->breaker, &p->held, HELD_AWAY, err);
    worker_show_store(p->shared);
    if (log_gate_open(&p->store_gate, LOG_EVERY_MS, &skipped))
        log_warn("the store is not available: holding what was taken", LOG_S("error", err->text),
                 LOG_I("events", p->batch.n), LOG_I("not_logged", skipped));
}

typedef enum store_result (*store_step)(struct store_client *, const struct store_claim *, struct delivery *, size_t,
                                        struct error *);

/* Nothing can be done about it here (a rule of the store's own, say, that events do not keep): the event waits in our
 * hands until somebody changes that. Said once, and in readiness. */
static void refused_for_good(struct pipeline *p, const struct delivery *d, const struct error *err)
{
    if (!breaker_hold(&p->shared->breaker, &p->held, HELD_REFUSED, err))
        return;
    worker_show_store(p->shared);
    log_error("the store refuses an event and leaves no way to go on: its pipeline tries until it is taken",
              LOG_SLICE("key", d->key), LOG_S("error", err->text));
}

/* The store refuses this one event's step for good. A result that cannot be stored becomes a death that can; but what
 * has had its effects is no dead letter: it stays as it is, its decision in the store, for whoever comes after a lease.
 */
static bool bury_refused(struct pipeline *p, struct delivery *d, const struct error *err)
{
    metric_add(metrics_of(p)->store_errors, 1);
    if (d->decision == DECISION_NONE || d->decision == DECISION_DEAD) {
        refused_for_good(p, d, err);
        return false;
    }
    log_error("the store refuses an event", LOG_SLICE("key", d->key), LOG_S("error", err->text));
    if (d->effects_applied) {
        d->lost = true;
        return true;
    }
    d->failures++;
    d->decision_stored = false;
    d->decision = DECISION_DEAD;
    d->retry = (struct retry_decision){.retry = false, .reason = SLICE_LITERAL("store_refused")};
    d->outcome = (struct outcome){.kind = OUTCOME_ERROR,
                                  .error_kind = SLICE_LITERAL("store_refused"),
                                  .message = arena_copy(p->working, err->text, strlen(err->text)),
                                  .retry_after_ms = -1};
    return true;
}

static void set_store_batch(struct pipeline *p, size_t size)
{
    size_t max = (size_t)p->shared->config->batch;
    p->store_batch = size < 1 ? 1 : size > max ? max : size;
    if (p->batch_size > p->store_batch)
        p->batch_size = p->store_batch;
}

/* A store that took so many in a small part of the time that it has can have more at once. */
static void store_took(struct pipeline *p, size_t n, mono_time began)
{
    backoff_reset(&p->store_backoff);
    if (n >= p->store_batch && mono_elapsed_ms(began, clock_mono()) < p->shared->config->lease_ms / STORE_EASE)
        set_store_batch(p, p->store_batch * 2);
    if (!breaker_hold(&p->shared->breaker, &p->held, HELD_NOT, NULL))
        return;
    worker_show_store(p->shared);
    log_info("the store takes again what it is given");
}

/* Does a step until the store has taken it. When the store refuses a whole batch, halves find the one that it is about;
 * when it fails again and again, the batch may be more than it can take in time, and halves are tried, too.
 * false: a stop came while the store was away. */
static bool do_step(struct pipeline *p, store_step step, const struct store_claim *claim, struct delivery *d, size_t n)
{
    struct error err;
    for (int tries = 1; n > 0; tries++) {
        keep_lease(p);
        mono_time began = clock_mono();
        enum store_result result = step(p->store, claim, d, n, &err);
        if (result == STORE_OK) {
            store_took(p, n, began);
            return true;
        }
        if (result == STORE_REFUSED && n == 1 && bury_refused(p, d, &err))
            continue;
        if (result == STORE_UNAVAILABLE)
            store_failed(p, &err);
        if ((result == STORE_UNAVAILABLE || n == 1) && !hold(p))
            return false;
        if (n > 1 && (result == STORE_REFUSED || tries == 2)) {
            if (result == STORE_UNAVAILABLE)
                set_store_batch(p, n / 2);
            return do_step(p, step, claim, d, n / 2) && do_step(p, step, claim, d + n / 2, n - n / 2);
        }
    }
    return true;
}

static enum store_result bury_malformed(struct store_client *client, const struct store_claim *claim,
                                        struct delivery *deliveries, size_t n, struct error *err)
{
    (void)claim;
    enum store_result result = STORE_OK;
    for (size_t i = 0; i < n && result == STORE_OK; i++)
        result = store_bury_malformed(client, &deliveries[i], err);
    return result;
}

/* Entries that are no envelopes go to the end of the batch and to the dead letters. Returns how many are good. */
static size_t part_malformed(struct pipeline *p)
{
    size_t good = 0;
    for (size_t i = 0; i < p->batch.n; i++) {
        struct delivery d = p->batch.deliveries[i];
        if (d.malformed.len > 0)
            continue;
        p->batch.deliveries[i] = p->batch.deliveries[good];
        p->batch.deliveries[good++] = d;
    }
    return good;
}

/* --- run --------------------------------------------------------------------------------------------------------- */

static void adapt(struct pipeline *p, size_t runs, int64_t us)
{
    if (runs == 0)
        return;
    int64_t each = us / (int64_t)runs, fits = RUN_BUDGET_US / (each < 1 ? 1 : each);
    size_t size = p->batch_size * 2;
    if ((int64_t)size > fits)
        size = fits < 1 ? 1 : (size_t)fits;
    p->batch_size = size > p->store_batch ? p->store_batch : size;
    metric_set(metrics_of(p)->batch_events, (int64_t)p->batch_size);
}

/* Runs handlers from deliveries[from] on until the budget is spent or a stop comes; returns where it stopped. */
static size_t run(struct pipeline *p, size_t from, size_t n)
{
    struct run_context context = {p->policy, p->consumer, (uint32_t)p->shared->config->delivery_limit, metrics_of(p),
                                  p->working};
    size_t i = from, runs = 0;
    int64_t us = 0;
    for (; i < n && us < RUN_BUDGET_US; i++) {
        struct delivery *d = &p->batch.deliveries[i];
        if (d->claim != CLAIM_WON || d->lost)
            continue;
        if (is_stopping(p))
            break;
        run_delivery(&context, d);
        us += d->run_us;
        runs++;
        keep_lease(p);
    }
    adapt(p, runs, us);
    return i;
}

/* --- settle ------------------------------------------------------------------------------------------------------ */

static void count_results(struct pipeline *p, const struct delivery *d, size_t n)
{
    int64_t now_ms = clock_wall().ms;
    for (size_t i = 0; i < n; i++) {
        enum delivery_result result = settlement_result(&d[i]);
        count(p, result);
        if (result == RESULT_SUCCEEDED || result == RESULT_DEAD)
            metric_observe_us(metrics_of(p)->resolution_seconds, (now_ms - d[i].event.received_at.ms) * 1000);
        if (result == RESULT_LOST)
            log_warn("event was taken over by another worker: our result does not count", LOG_SLICE("key", d[i].key));
    }
}

/* Tries until Redis has taken or refused them; what it refuses is told in err. QUEUE_UNAVAILABLE: a stop came while it
 * was away. */
static enum queue_result try_settling(struct pipeline *p, const struct settlement *settlements, size_t n,
                                      struct error *err)
{
    mono_time give_up = mono_after_ms(clock_mono(), GIVE_UP_MS);
    for (;;) {
        if (p->queue_is_open || open_queue(p)) {
            enum queue_result result = queue_settle(p->queue, settlements, n, err);
            if (result == QUEUE_OK)
                backoff_reset(&p->queue_backoff);
            else
                queue_failed(p, result, err);
            if (result != QUEUE_UNAVAILABLE)
                return result;
        }
        if (is_stopping(p) && mono_is_past(give_up, clock_mono()))
            return QUEUE_UNAVAILABLE;
    }
}

/* The results are in the store already: what cannot be settled now stays pending, and its redelivery settles it. One
 * that Redis refuses (its topic's key is no stream, say) must not hold up the others: halves find it. */
static void settle_all(struct pipeline *p, const struct settlement *settlements, size_t n)
{
    struct error err;
    enum queue_result result = try_settling(p, settlements, n, &err);
    if (result == QUEUE_UNAVAILABLE) {
        log_warn("stopping while Redis is away: settled by the next worker", LOG_I("events", n));
    } else if (result == QUEUE_REFUSED && n > 1) {
        settle_all(p, settlements, n / 2);
        settle_all(p, settlements + n / 2, n - n / 2);
    } else if (result == QUEUE_REFUSED) {
        log_error("Redis refuses to settle an event: tried again after the lease",
                  LOG_SLICE("key", settlements[0].delivery->key), LOG_S("error", err.text));
    }
}

static void settle(struct pipeline *p, struct delivery *d, size_t n)
{
    struct settlement *settlements = arena_alloc(p->working, n * sizeof *settlements);
    for (size_t i = 0; i < n; i++)
        settlements[i] = settlement_of(&d[i]);
    settle_all(p, settlements, n);
    count_results(p, d, n);
}

/* --- the journey of a batch -------------------------------------------------------------------------------------- */

/* The epochs as they were when the batch was taken: if Redis loses its data meanwhile, what we commit must not look as
 * if the new epoch had it. */
static struct slice *epochs_now(struct pipeline *p)
{
    size_t n = (size_t)p->shared->config->partitions;
    struct slice *epochs = arena_alloc(p->taken, n * sizeof *epochs);
    for (size_t i = 0; i < n; i++) {
        struct slice epoch = queue_epoch(p->queue, (uint32_t)i);
        epochs[i] = arena_copy(p->taken, epoch.base, epoch.len);
    }
    return epochs;
}

static void hand_back(struct pipeline *p, const struct store_claim *claim, size_t from, size_t n)
{
    struct error err;
    struct delivery *d = p->batch.deliveries + from;
    if (n == from)
        return;
    /* Both are kindnesses to the next owner, who finds out by himself when they fail. */
    if (!breaker_is_open(&p->shared->breaker) && store_release(p->store, claim, d, n - from, &err) != STORE_OK)
        log_debug("claims were not released", LOG_S("error", err.text));
    if (queue_hand_back(p->queue, d, n - from, &err) != QUEUE_OK)
        log_debug("entries were not handed back: they are reclaimed after the lease");
    metric_add(metrics_of(p)->results[RESULT_HANDED_BACK], (int64_t)(n - from));
}

static void work(struct pipeline *p)
{
    struct delivery *d = p->batch.deliveries;
    size_t good = part_malformed(p), n = p->batch.n, from = 0;
    struct store_claim claim = {.epochs = epochs_now(p), .lease_ms = p->shared->config->lease_ms, .arena = p->working};
    id_new(clock_wall(), claim.token);

    bool ok = do_step(p, bury_malformed, &claim, d + good, n - good) && do_step(p, store_claim, &claim, d, good);
    while (ok && from < good) {
        size_t to = run(p, from, good);
        if (to == from)
            break; /* stopping */
        ok = do_step(p, store_commit, &claim, d + from, to - from);
        if (ok)
            settle(p, d + from, to - from);
        from = ok ? to : from;
    }
    if (ok && n > good)
        settle(p, d + good, n - good);
    hand_back(p, &claim, from, ok ? good : n);
}

static void adopt_policy(struct pipeline *p)
{
    struct policy *next = atomic_exchange(&p->next_policy, NULL);
    if (next == NULL)
        return;
    policy_free(p->policy);
    p->policy = next;
}

void pipeline_run(void *arg)
{
    struct pipeline *p = arg;
    struct error err;
    while (!is_stopping(p)) {
        if (breaker_is_open(&p->shared->breaker)) {
            clock_sleep_ms(20);
        } else if ((p->queue_is_open || open_queue(p)) && take(p) && p->batch.n > 0) {
            p->kept_at = clock_mono();
            metric_add(metrics_of(p)->in_hand, (int64_t)p->batch.n);
            size_t n = p->batch.n;
            adopt_policy(p); /* after the wait: an event sent after a reload meets the new rules */
            work(p);
            metric_add(metrics_of(p)->in_hand, -(int64_t)n);
        }
        arena_reset(p->taken);
        arena_reset(p->working);
    }
    if (p->queue_is_open && queue_leave(p->queue, &err) != QUEUE_OK)
        log_debug("did not leave the group", LOG_S("error", err.text));
    set_queue_up(p, false);
}

void pipeline_offer(struct pipeline *p, struct policy *policy)
{
    policy_free(atomic_exchange(&p->next_policy, policy));
}

void worker_show_store(struct worker_shared *shared)
{
    metric_set(shared->metrics.store_up, breaker_is_good(&shared->breaker));
}

struct store_client *worker_store_client(struct worker_shared *shared, struct error *err)
{
    struct store_client *client = store_client_new(shared->store);
    if (client == NULL)
        error_set(err, "WAYBILL_MONGO_URL: maxPoolSize is too small for WAYBILL_THREADS (%lld) and one more",
                  (long long)shared->config->threads);
    return client;
}

bool pipeline_init(struct pipeline *p, struct worker_shared *shared, size_t index, struct error *err)
{
    *p = (struct pipeline){.shared = shared};
    snprintf(p->consumer, sizeof p->consumer, "%s-%zu", shared->name, index);
    p->store_batch = (size_t)shared->config->batch;
    p->batch_size = p->store_batch < FIRST_BATCH ? p->store_batch : FIRST_BATCH;
    p->taken = arena_new();
    p->working = arena_new();
    p->reclaim_at = clock_mono();
    struct queue_options options = {.url = shared->config->redis_url,
                                    .consumer = p->consumer,
                                    .timeout_ms = shared->config->queue_timeout_ms,
                                    .lease_ms = shared->config->lease_ms,
                                    .partitions = (uint32_t)shared->config->partitions};
    p->queue = queue_new(&options, err);
    p->store = p->queue == NULL ? NULL : worker_store_client(shared, err);
    p->http = p->store == NULL ? NULL : http_client_new(err);
    return p->http != NULL;
}

void pipeline_free(struct pipeline *p)
{
    policy_free(p->policy);
    policy_free(atomic_exchange(&p->next_policy, NULL));
    queue_free(p->queue);
    store_client_free(p->store);
    http_client_free(p->http);
    arena_free(p->taken);
    arena_free(p->working);
}
