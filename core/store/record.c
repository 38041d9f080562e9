/* Step 4c: the attempt is recorded and the status set, under the token; claim and decision go. Also giving claims up.
 */
#include "commit.h"

#include "decision.h"
#include "document.h"
#include <stdio.h>

/* The script's result as a document of its own kind; as text when it is not what BSON can say. */
static void put_result(bson_t *doc, struct slice json)
{
    struct buf wrapped = {0};
    bson_error_t error = {0};
    bson_iter_t it;
    buf_printf(&wrapped, "{\"v\":%.*s}", SLICE_ARG(json));
    bson_t *parsed = bson_new_from_json((const uint8_t *)wrapped.data, (ssize_t)wrapped.len, &error);
    if (parsed == NULL || !bson_iter_init_find(&it, parsed, "v") || bson_count_keys(parsed) != 1 ||
        !bson_append_iter(doc, "result", -1, &it))
        put_bytes(doc, "result", json);
    if (parsed != NULL)
        bson_destroy(parsed);
    buf_free(&wrapped);
}

static void put_outcome(bson_t *set, const struct outcome *outcome)
{
    bson_t doc;
    put_open(set, "outcome", &doc);
    put_result(&doc, outcome->result.len > 0 ? outcome->result : SLICE_LITERAL("null"));
    put_int(&doc, "writes", (int64_t)outcome->n_writes);
    put_publishes(&doc, outcome);
    put_close(set, &doc);
}

static void put_resolved(bson_t *set, const char *status, wall_time now)
{
    put_word(set, "status", status);
    put_time(set, "resolved_at", now);
    put_time(set, "sweep_at", now);
}

static void put_waiting(bson_t *set, const struct delivery *delivery)
{
    wall_time due = {delivery->ended_at.ms + decision_delay_ms(delivery)};
    put_word(set, "status", STATUS_RETRY_WAIT);
    put_int(set, "next_attempt", (int64_t)delivery->attempt + 1);
    put_time(set, "next_attempt_at", due);
    put_time(set, "sweep_at", due);
}

static void put_set(bson_t *update, const struct commit *commit, const struct delivery *delivery)
{
    bson_t set;
    put_open(update, "$set", &set);
    if (delivery->decision == DECISION_SUCCEED) {
        put_resolved(&set, STATUS_SUCCEEDED, commit->now);
        put_outcome(&set, &delivery->outcome);
    } else if (delivery->decision == DECISION_DEAD) {
        put_resolved(&set, STATUS_DEAD, commit->now);
        put_text(&set, "reason", delivery->retry.reason);
    } else {
        put_waiting(&set, delivery);
    }
    put_int(&set, "attempt", delivery->attempt);
    put_int(&set, "failures", delivery->failures);
    put_text(&set, "commit", commit->token);
    put_time(&set, "updated_at", commit->now);
    put_close(update, &set);
}

static void put_history(bson_t *update, const struct delivery *delivery, struct slice worker)
{
    bson_t push, attempts, each;
    put_open(update, "$push", &push);
    put_open(&push, "attempts", &attempts);
    put_open_array(&attempts, "$each", &each);
    put_attempt(&each, "0", delivery, worker);
    put_close_array(&attempts, &each);
    put_int(&attempts, "$slice", -HISTORY_MAX);
    put_close(&push, &attempts);
    put_close(update, &push);
}

static bool add_record(struct commit *commit, struct commit_item *item, struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, unset;
    put_text(&filter, "_id", item->delivery->key);
    put_text(&filter, "claim.token", commit->token);
    put_set(&update, commit, item->delivery);
    put_history(&update, item->delivery, commit_worker(commit, item));
    put_open(&update, "$unset", &unset);
    put_word(&unset, "claim", "");
    put_word(&unset, "decision", "");
    put_close(&update, &unset);
    bool added = bulk_update(bulk, &filter, &update, false, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

static enum store_result read_records(struct commit *commit, const struct bulk *bulk, struct commit_item **asked,
                                      struct error *err)
{
    if (bulk->matched == (int64_t)bulk->n) {
        for (size_t i = 0; i < bulk->n; i++)
            asked[i]->delivery->committed = true;
        return STORE_OK;
    }
    enum store_result result = commit_check_owners(commit, asked, bulk->n, err);
    for (size_t i = 0; i < bulk->n && result == STORE_OK; i++) {
        if (asked[i]->owner != OWNER_OURS)
            continue;
        result = bulk_first_error(bulk, 0, err);
        if (result == STORE_OK) {
            error_set(err, "the store did not take the result of %.*s", SLICE_ARG(asked[i]->delivery->key));
            result = STORE_UNAVAILABLE;
        }
    }
    return result;
}

enum store_result commit_record(struct commit *commit, struct error *err)
{
    struct commit_item **asked = arena_alloc(commit->client->scratch, (commit->n + 1) * sizeof(struct commit_item *));
    enum store_result result = STORE_OK;
    struct bulk bulk;
    bulk_open(&bulk, commit->client, commit->client->events);
    for (size_t i = 0; i < commit->n && result == STORE_OK; i++) {
        if (!commit_is_open(&commit->items[i]))
            continue;
        asked[bulk.n] = &commit->items[i];
        result = add_record(commit, &commit->items[i], &bulk, err) ? STORE_OK : STORE_REFUSED;
    }
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK && bulk.n > 0)
        result = read_records(commit, &bulk, asked, err);
    bulk_close(&bulk);
    return result;
}

/* Nobody's token and a time long past: the next entry that comes along takes it, and we cannot commit any more. */
static bool add_release(const struct store_claim *claim, const struct delivery *delivery, wall_time now,
                        struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, set;
    char nobody[sizeof(claim->token) + 16]; /* never the same twice: a take-over must not fit a later release */
    snprintf(nobody, sizeof(nobody), "released/%s", claim->token);
    put_text(&filter, "_id", delivery->key);
    put_text(&filter, "claim.token", slice_of(claim->token));
    put_open(&update, "$set", &set);
    put_word(&set, "claim.token", nobody);
    put_time(&set, "claim.at", (wall_time){0});
    put_time(&set, "updated_at", now);
    put_close(&update, &set);
    bool added = bulk_update(bulk, &filter, &update, false, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

static bool is_releasable(const struct delivery *delivery)
{
    return (delivery->claim == CLAIM_WON || delivery->claim == CLAIM_DECIDED) && !delivery->lost &&
           !delivery->committed;
}

static enum store_result release_once(struct store_client *client, const struct store_claim *claim,
                                      struct delivery *deliveries, size_t n, struct error *err)
{
    client_begin(client);
    enum store_result result = STORE_OK;
    wall_time now = clock_wall();
    struct bulk bulk;
    bulk_open(&bulk, client, client->events);
    for (size_t i = 0; i < n && result == STORE_OK; i++)
        if (is_releasable(&deliveries[i]))
            result = add_release(claim, &deliveries[i], now, &bulk, err) ? STORE_OK : STORE_REFUSED;
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK)
        result = bulk_first_error(&bulk, 0, err);
    for (size_t i = 0; i < n && result == STORE_OK; i++)
        if (is_releasable(&deliveries[i]))
            deliveries[i].claim = CLAIM_NONE;
    bulk_close(&bulk);
    return result;
}

enum store_result store_release(struct store_client *client, const struct store_claim *claim,
                                struct delivery *deliveries, size_t n, struct error *err)
{
    enum store_result result = release_once(client, claim, deliveries, n, err);
    if (client_should_repeat(client, result))
        result = release_once(client, claim, deliveries, n, err);
    return result;
}
