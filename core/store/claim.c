/* Step 2 of the protocol: claim by insert; what is there already is read and sorted out, and taken over where that
 * is right. Every write is conditional, so the whole may be repeated. */
#include "claim.h"

/* A document may change between our read and our update; each round reads again what did not fit. */
#define MAX_ROUNDS 5

struct claim_stamp claim_stamp_of(const struct claim_run *run, const struct claim_item *item)
{
    return (struct claim_stamp){
        .token = run->token,
        .worker = slice_of(run->client->store->worker),
        .entry_id = item->delivery->entry_id,
        .epoch = run->claim->epochs == NULL ? (struct slice){0} : run->claim->epochs[item->delivery->partition],
        .now = run->now,
    };
}

static void open_item(struct claim_run *run, struct delivery *delivery)
{
    struct claim_item *item = &run->items[run->n++];
    bool is_new = delivery->event.attempt <= 1 && delivery->deliveries <= 1;
    *item = (struct claim_item){.delivery = delivery, .open = true, .plan = is_new ? PLAN_INSERT : PLAN_NONE};
    body_hash(delivery->event.body, item->sha256);
}

static void open_run(struct claim_run *run, struct delivery *deliveries, size_t n)
{
    run->items = arena_alloc(run->client->scratch, (n + 1) * sizeof(*run->items));
    for (size_t i = 0; i < n; i++) {
        deliveries[i].claim = deliveries[i].lost ? CLAIM_HELD : CLAIM_NONE;
        if (deliveries[i].malformed.len == 0 && !deliveries[i].lost)
            open_item(run, &deliveries[i]);
    }
}

static bool add_insert(struct claim_run *run, struct claim_item *item, struct bulk *bulk, struct error *err)
{
    bson_t doc = BSON_INITIALIZER;
    struct claim_stamp stamp = claim_stamp_of(run, item);
    document_build(&doc, item->delivery, &stamp, item->sha256);
    bool added = bulk_insert(bulk, &doc, err);
    bson_destroy(&doc);
    return added;
}

static void win(struct claim_item *item)
{
    struct delivery *delivery = item->delivery;
    delivery->claim = CLAIM_WON;
    delivery->attempt = delivery->event.attempt > 0 ? delivery->event.attempt : 1;
    delivery->failures = 0;
    item->open = false;
}

/* Those that were refused as duplicate keys stay open. */
static enum store_result read_inserts(const struct bulk *bulk, struct claim_item **added, struct error *err)
{
    enum store_result result = bulk_first_error(bulk, CODE_DUPLICATE_KEY, err);
    if (result != STORE_OK)
        return result;
    if (bulk->inserted + (int64_t)bulk->n_errors < (int64_t)bulk->n) {
        error_set(err, "the store answered for %lld of %zu inserts only", (long long)bulk->inserted, bulk->n);
        return STORE_UNAVAILABLE;
    }
    for (size_t i = 0; i < bulk->n_errors; i++)
        added[bulk->errors[i].index] = NULL;
    for (size_t i = 0; i < bulk->n; i++)
        if (added[i] != NULL)
            win(added[i]);
    return STORE_OK;
}

static enum store_result insert_planned(struct claim_run *run, struct error *err)
{
    struct claim_item **added = arena_alloc(run->client->scratch, (run->n + 1) * sizeof(struct claim_item *));
    enum store_result result = STORE_OK;
    struct bulk bulk;
    bulk_open(&bulk, run->client, run->client->events);
    for (size_t i = 0; i < run->n && result == STORE_OK; i++) {
        struct claim_item *item = &run->items[i];
        if (item->plan != PLAN_INSERT)
            continue;
        item->plan = PLAN_NONE;
        added[bulk.n] = item;
        result = add_insert(run, item, &bulk, err) ? STORE_OK : STORE_REFUSED;
    }
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK)
        result = read_inserts(&bulk, added, err);
    bulk_close(&bulk);
    return result;
}

static bool add_take(struct claim_run *run, struct claim_item *item, struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    struct claim_stamp stamp = claim_stamp_of(run, item);
    put_text(&filter, "_id", item->delivery->key);
    put_word(&filter, "status", item->waiting ? STATUS_RETRY_WAIT : STATUS_PROCESSING);
    if (item->waiting)
        put_int(&filter, "next_attempt", item->waits_for);
    else
        put_text(&filter, "claim.token", item->old_token);
    if (item->old_decision.len > 0)
        put_text(&filter, "decision.kind", item->old_decision);
    else
        put_operator_bool(&filter, "decision", "$exists", false);
    put_open(&update, "$set", &part);
    put_word(&part, "status", STATUS_PROCESSING);
    put_claim(&part, &stamp);
    put_text(&part, "queue_epoch", stamp.epoch);
    put_time(&part, "sweep_at", stamp.now);
    put_time(&part, "updated_at", stamp.now);
    put_close(&update, &part);
    put_open(&update, "$unset", &part);
    put_word(&part, "next_attempt", "");
    put_word(&part, "next_attempt_at", "");
    put_word(&part, "requeued_at", "");
    put_close(&update, &part);
    bool added = bulk_update(bulk, &filter, &update, false, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

/* Each submission counts once, however often it is seen: its ingest_id is remembered in the same update. */
static bool add_count(struct claim_item *item, struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part, push, each;
    struct slice ingest_id = item->delivery->event.ingest_id;
    put_text(&filter, "_id", item->delivery->key);
    put_operator_text(&filter, "seen_ingest_ids", "$ne", ingest_id);
    put_open(&update, "$inc", &part);
    put_int(&part, item->delivery->claim == CLAIM_CONFLICT ? "conflicts" : "duplicates", 1);
    put_close(&update, &part);
    put_open(&update, "$push", &part);
    put_open(&part, "seen_ingest_ids", &push);
    put_open_array(&push, "$each", &each);
    put_text(&each, "0", ingest_id);
    put_close_array(&push, &each);
    put_int(&push, "$slice", -HISTORY_MAX);
    put_close(&part, &push);
    put_close(&update, &part);
    bool added = bulk_update(bulk, &filter, &update, false, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

/* Totals are all that a bulk says. When they fall short the takes stay open, and the next read tells. */
static void read_takes(struct claim_run *run, const struct bulk *bulk)
{
    bool all_matched = bulk->matched == (int64_t)bulk->n;
    for (size_t i = 0; i < run->n; i++) {
        struct claim_item *item = &run->items[i];
        if (item->plan == PLAN_TAKE && all_matched) {
            item->delivery->claim = item->then;
            item->open = false;
        }
        item->plan = PLAN_NONE;
    }
}

static enum store_result update_planned(struct claim_run *run, struct error *err)
{
    enum store_result result = STORE_OK;
    struct bulk bulk;
    bulk_open(&bulk, run->client, run->client->events);
    for (size_t i = 0; i < run->n && result == STORE_OK; i++) {
        struct claim_item *item = &run->items[i];
        if (item->plan == PLAN_TAKE)
            result = add_take(run, item, &bulk, err) ? STORE_OK : STORE_REFUSED;
        else if (item->plan == PLAN_COUNT)
            result = add_count(item, &bulk, err) ? STORE_OK : STORE_REFUSED;
    }
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK)
        result = bulk_first_error(&bulk, 0, err);
    if (result == STORE_OK)
        read_takes(run, &bulk);
    bulk_close(&bulk);
    return result;
}

static void found_document(void *arg, const bson_t *doc)
{
    struct claim_run *run = arg;
    struct slice key = get_text(doc, "_id");
    for (size_t i = 0; i < run->n; i++)
        if (run->items[i].open && slice_equal(run->items[i].delivery->key, key))
            claim_sort_out(run, &run->items[i], doc);
}

static enum store_result read_open(struct claim_run *run, size_t *n_open, struct error *err)
{
    struct slice *keys = arena_alloc(run->client->scratch, (run->n + 1) * sizeof(*keys));
    *n_open = 0;
    for (size_t i = 0; i < run->n; i++) {
        run->items[i].found = false;
        if (run->items[i].open)
            keys[(*n_open)++] = run->items[i].delivery->key;
    }
    if (*n_open == 0)
        return STORE_OK;
    return client_find_ids(run->client, run->client->events, keys, *n_open, claim_fields, found_document, run, err);
}

/* One read of what is open, and the writes that follow from it. */
static enum store_result claim_round(struct claim_run *run, bool *done, struct error *err)
{
    size_t n_open = 0;
    enum store_result result = read_open(run, &n_open, err);
    *done = n_open == 0;
    if (result != STORE_OK || *done)
        return result;
    for (size_t i = 0; i < run->n; i++)
        if (run->items[i].open && !run->items[i].found)
            run->items[i].plan = PLAN_INSERT; /* it has vanished */
    result = insert_planned(run, err);
    return result == STORE_OK ? update_planned(run, err) : result;
}

static enum store_result claim_once(struct store_client *client, const struct store_claim *claim,
                                    struct delivery *deliveries, size_t n, struct error *err)
{
    client_begin(client);
    struct claim_run run = {.client = client, .claim = claim, .token = slice_of(claim->token), .now = clock_wall()};
    open_run(&run, deliveries, n);
    enum store_result result = insert_planned(&run, err);
    bool done = false;
    for (int round = 0; round < MAX_ROUNDS && result == STORE_OK && !done; round++)
        result = claim_round(&run, &done, err);
    for (size_t i = 0; i < run.n && result == STORE_OK; i++)
        if (run.items[i].open) /* so much is going on there that somebody else has it for sure */
            run.items[i].delivery->claim = CLAIM_HELD;
    return result;
}

enum store_result store_claim(struct store_client *client, const struct store_claim *claim, struct delivery *deliveries,
                              size_t n, struct error *err)
{
    enum store_result result = claim_once(client, claim, deliveries, n, err);
    if (client_should_repeat(client, result))
        result = claim_once(client, claim, deliveries, n, err);
    return result;
}
