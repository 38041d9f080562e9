/* The reconciler's and the retention's sweeps. Both go by {status, sweep_at}: sweep_at is when an event was claimed
 * (processing), when its next attempt is due (retry_wait), or when it was resolved. */
#include "client.h"
#include "document.h"

#define EXPIRE_BATCH 1000

struct sweep {
    struct store_client *client;
    const struct store_reconcile *job;
    wall_time now;
    struct bulk *marks;
    size_t found;
    enum store_result result;
    struct error *err;
};

/* Bears another epoch: the queue that held it is gone. */
static void put_epoch_option(bson_t *any, size_t index, const char *status, wall_time before,
                             const struct store_reconcile *job)
{
    struct index_name name;
    bson_t option;
    put_open(any, index_name(&name, index), &option);
    put_word(&option, "status", status);
    put_operator_time(&option, "sweep_at", "$lt", before);
    put_operator_list(&option, "queue_epoch", "$nin", job->epochs, job->partitions);
    put_close(any, &option);
}

/* Under the current epochs an entry may rightly wait for long in a long queue: that net is coarse, and what went
 * through it once is left alone for as long again. */
static void put_stale_option(bson_t *any, size_t index, wall_time before)
{
    struct index_name name;
    bson_t option, negation;
    put_open(any, index_name(&name, index), &option);
    put_operator_time(&option, "sweep_at", "$lt", before);
    put_open(&option, "requeued_at", &negation);
    put_operator_time(&negation, "$not", "$gte", before);
    put_close(&option, &negation);
    put_close(any, &option);
}

static void put_filter(bson_t *filter, const struct sweep *sweep)
{
    const struct store_reconcile *job = sweep->job;
    const struct slice unresolved[] = {SLICE_LITERAL(STATUS_PROCESSING), SLICE_LITERAL(STATUS_RETRY_WAIT)};
    bson_t any;
    put_operator_list(filter, "status", "$in", unresolved, 2);
    put_operator_time(filter, "sweep_at", "$lt", sweep->now);
    put_open_array(filter, "$or", &any);
    put_epoch_option(&any, 0, STATUS_PROCESSING, (wall_time){sweep->now.ms - job->lease_ms}, job);
    put_epoch_option(&any, 1, STATUS_RETRY_WAIT, sweep->now, job);
    put_stale_option(&any, 2, (wall_time){sweep->now.ms - job->stale_ms});
    put_close_array(filter, &any);
}

/* Nothing but the epoch: whoever claims the event meanwhile is not disturbed. */
static bool add_mark(const struct sweep *sweep, const bson_t *doc, struct slice epoch, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    put_text(&filter, "_id", get_text(doc, "_id"));
    put_text(&filter, "status", get_text(doc, "status"));
    put_int(&filter, "attempt", get_int(doc, "attempt", 0));
    put_open(&update, "$set", &part);
    put_text(&part, "queue_epoch", epoch);
    put_time(&part, "requeued_at", sweep->now);
    put_close(&update, &part);
    bool added = bulk_update(sweep->marks, &filter, &update, false, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

static void found_orphan(void *arg, const bson_t *doc)
{
    struct sweep *sweep = arg;
    const struct store_reconcile *job = sweep->job;
    struct event event;
    document_read(doc, &event);
    sweep->found++;
    if (!job->requeue(job->arg, &event) || sweep->result != STORE_OK)
        return;
    uint32_t partition = event_partition(get_text(doc, "_id"), job->partitions);
    if (!add_mark(sweep, doc, job->epochs[partition], sweep->err))
        sweep->result = STORE_REFUSED;
}

static enum store_result find_orphans(struct sweep *sweep)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    put_filter(&filter, sweep);
    put_long(&opts, "limit", (int64_t)sweep->job->max);
    enum store_result result =
        client_find(sweep->client, sweep->client->events, &filter, &opts, found_orphan, sweep, sweep->err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return result;
}

static enum store_result reconcile_once(struct store_client *client, const struct store_reconcile *job, size_t *found,
                                        struct error *err)
{
    struct bulk marks;
    struct sweep sweep = {
        .client = client, .job = job, .now = clock_wall(), .marks = &marks, .result = STORE_OK, .err = err};
    client_begin(client);
    bulk_open(&marks, client, client->events);
    enum store_result result = find_orphans(&sweep);
    *found = sweep.found;
    client_begin(client); /* the queue's time was not the store's; and what was queued is marked in any case */
    struct error mark_err = {{0}};
    enum store_result marked = bulk_run(&marks, &mark_err);
    bulk_close(&marks);
    if (result == STORE_OK)
        result = sweep.result;
    if (result == STORE_OK && marked != STORE_OK) {
        *err = mark_err;
        result = marked;
    }
    return result;
}

enum store_result store_reconcile(struct store_client *client, const struct store_reconcile *job, size_t *found,
                                  struct error *err)
{
    *found = 0;
    if (job->max == 0)
        return STORE_OK;
    enum store_result result = reconcile_once(client, job, found, err);
    if (*found == 0 && result == STORE_UNAVAILABLE)
        result = reconcile_once(client, job, found, err);
    return result;
}

struct expiry {
    struct store_client *client;
    struct slice *ids;
    size_t n, max;
};

static void found_expired(void *arg, const bson_t *doc)
{
    struct expiry *expiry = arg;
    if (expiry->n < expiry->max)
        expiry->ids[expiry->n++] = slice_keep(expiry->client->scratch, get_text(doc, "_id"));
}

static enum store_result find_expired(struct expiry *expiry, wall_time before, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, projection;
    put_word(&filter, "status", STATUS_SUCCEEDED);
    put_operator_time(&filter, "sweep_at", "$lt", before);
    put_long(&opts, "limit", (int64_t)expiry->max);
    put_open(&opts, "projection", &projection);
    put_int(&projection, "_id", 1);
    put_close(&opts, &projection);
    enum store_result result =
        client_find(expiry->client, expiry->client->events, &filter, &opts, found_expired, expiry, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return result;
}

static enum store_result delete_expired(const struct expiry *expiry, int64_t *deleted, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, reply;
    bson_error_t error = {0};
    put_operator_list(&filter, "_id", "$in", expiry->ids, expiry->n);
    put_word(&filter, "status", STATUS_SUCCEEDED);
    bool ok = mongoc_collection_delete_many(expiry->client->events, &filter, NULL, &reply, &error);
    *deleted += get_int(&reply, "deletedCount", 0);
    bson_destroy(&reply);
    bson_destroy(&filter);
    return ok ? STORE_OK : client_fail(expiry->client, &error, err);
}

enum store_result store_expire(struct store_client *client, int64_t age_ms, int64_t max, int64_t *deleted,
                               struct error *err)
{
    wall_time before = {clock_wall().ms - age_ms};
    bool more = true;
    *deleted = 0;
    while (more && *deleted < max) {
        client_begin(client);
        struct expiry expiry = {.client = client};
        expiry.max = max - *deleted < EXPIRE_BATCH ? (size_t)(max - *deleted) : EXPIRE_BATCH;
        expiry.ids = arena_alloc(client->scratch, expiry.max * sizeof(*expiry.ids));
        enum store_result result = find_expired(&expiry, before, err);
        if (result == STORE_OK && expiry.n > 0)
            result = delete_expired(&expiry, deleted, err);
        if (result != STORE_OK)
            return result;
        more = expiry.n == expiry.max;
    }
    return STORE_OK;
}
