/* Step 4 of the protocol: decide under the token, apply, record. */
#include "commit.h"

#include <stdio.h>

#include "decision.h"

bool commit_is_open(const struct commit_item *item)
{
    return !item->delivery->lost && !item->delivery->committed;
}

struct slice commit_worker(const struct commit *commit, const struct commit_item *item)
{
    return item->worker.len > 0 ? item->worker : slice_of(commit->client->store->worker);
}

static bool takes_part(const struct delivery *delivery)
{
    return (delivery->claim == CLAIM_WON || delivery->claim == CLAIM_DECIDED) && !delivery->lost &&
           !delivery->committed && delivery->decision != DECISION_NONE;
}

static void open_commit(struct commit *commit, struct delivery *deliveries, size_t n)
{
    commit->items = arena_alloc(commit->client->scratch, (n + 1) * sizeof(*commit->items));
    for (size_t i = 0; i < n; i++) {
        if (!takes_part(&deliveries[i]))
            continue;
        commit->items[commit->n++] =
            (struct commit_item){.delivery = &deliveries[i],
                                 .stored = deliveries[i].claim == CLAIM_DECIDED || deliveries[i].decision_stored};
        if (deliveries[i].ended_at.ms == 0)
            deliveries[i].ended_at = commit->now;
        if (deliveries[i].started_at.ms == 0) /* it never ran: poison */
            deliveries[i].started_at = deliveries[i].ended_at;
    }
}

static void close_commit(struct commit *commit)
{
    for (size_t i = 0; i < commit->n; i++)
        if (commit->items[i].attempts != NULL)
            bson_destroy(commit->items[i].attempts);
}

void commit_refuse(struct commit *commit, struct commit_item *item, const char *why)
{
    struct delivery *delivery = item->delivery;
    struct slice message = arena_copy(commit->claim->arena, why, strlen(why));
    delivery->decision = DECISION_DEAD;
    delivery->retry = (struct retry_decision){.reason = SLICE_LITERAL("write_refused")};
    delivery->outcome = (struct outcome){.kind = OUTCOME_PERMANENT,
                                         .error_kind = SLICE_LITERAL("write_refused"),
                                         .message = message,
                                         .retry_after_ms = -1};
    delivery->failures++;
    delivery->decision_stored = false;
    item->stored = false;
}

static void refuse_oversized(struct commit *commit)
{
    for (size_t i = 0; i < commit->n; i++) {
        if (outcome_bytes(&commit->items[i].delivery->outcome) > OUTCOME_MAX_BYTES)
            commit_refuse(commit, &commit->items[i], "result, writes and publishes together are larger than 4 MiB");
    }
}

static struct commit_item *find_item(struct commit *commit, struct slice key)
{
    for (size_t i = 0; i < commit->n; i++)
        if (slice_equal(commit->items[i].delivery->key, key))
            return &commit->items[i];
    return NULL;
}

static void found_owner(void *arg, const bson_t *doc)
{
    struct commit *commit = arg;
    struct commit_item *item = find_item(commit, get_text(doc, "_id"));
    if (item == NULL)
        return;
    item->stored = get_exists(doc, "decision.kind");
    if (slice_equal(get_text(doc, "claim.token"), commit->token))
        item->owner = OWNER_OURS;
    else if (slice_equal(get_text(doc, "commit"), commit->token))
        item->owner = OWNER_DONE;
}

static enum store_result find_items(struct commit *commit, struct commit_item **asked, size_t n,
                                    const char *const *fields, find_row *row, struct error *err)
{
    struct slice *keys = arena_alloc(commit->client->scratch, (n + 1) * sizeof(*keys));
    for (size_t i = 0; i < n; i++)
        keys[i] = asked[i]->delivery->key;
    return client_find_ids(commit->client, commit->client->events, keys, n, fields, row, commit, err);
}

enum store_result commit_check_owners(struct commit *commit, struct commit_item **asked, size_t n, struct error *err)
{
    static const char *const fields[] = {"claim.token", "commit", "decision.kind", NULL};
    for (size_t i = 0; i < n; i++)
        asked[i]->owner = OWNER_GONE;
    enum store_result result = find_items(commit, asked, n, fields, found_owner, err);
    for (size_t i = 0; i < n && result == STORE_OK; i++) {
        asked[i]->delivery->lost = asked[i]->owner == OWNER_GONE;
        asked[i]->delivery->committed = asked[i]->owner == OWNER_DONE;
    }
    return result;
}

static bool add_decision(struct commit *commit, struct commit_item *item, struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    put_text(&filter, "_id", item->delivery->key);
    put_text(&filter, "claim.token", commit->token);
    put_open(&update, "$set", &part);
    put_decision(&part, "decision", item->delivery, commit_worker(commit, item));
    put_close(&update, &part);
    bool added = bulk_update(bulk, &filter, &update, false, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

/* A decision that the document cannot hold becomes a smaller one. */
static enum store_result read_decision_errors(struct commit *commit, const struct bulk *bulk,
                                              struct commit_item **asked, struct error *err)
{
    for (size_t i = 0; i < bulk->n_errors; i++) {
        struct commit_item *item = asked[bulk->errors[i].index];
        char why[sizeof(err->text)];
        if (item->delivery->decision == DECISION_DEAD)
            return bulk_first_error(bulk, 0, err);
        snprintf(why, sizeof(why), "the store refused the decision: %.*s", SLICE_ARG(bulk->errors[i].message));
        commit_refuse(commit, item, why);
    }
    return STORE_OK;
}

static bool has_error(const struct bulk *bulk, size_t index)
{
    for (size_t i = 0; i < bulk->n_errors; i++)
        if (bulk->errors[i].index == index)
            return true;
    return false;
}

static enum store_result read_decisions(struct commit *commit, const struct bulk *bulk, struct commit_item **asked,
                                        struct error *err)
{
    for (size_t i = 0; i < bulk->n; i++)
        asked[i]->stored = true;
    enum store_result result = read_decision_errors(commit, bulk, asked, err);
    if (result != STORE_OK || bulk->matched + (int64_t)bulk->n_errors == (int64_t)bulk->n)
        return result;
    result = commit_check_owners(commit, asked, bulk->n, err);
    for (size_t i = 0; i < bulk->n && result == STORE_OK; i++) {
        if (asked[i]->owner != OWNER_OURS || asked[i]->stored || has_error(bulk, i))
            continue;
        error_set(err, "the store did not take the decision about %.*s", SLICE_ARG(asked[i]->delivery->key));
        result = STORE_UNAVAILABLE;
    }
    return result;
}

enum store_result commit_store_decisions(struct commit *commit, struct error *err)
{
    struct commit_item **asked = arena_alloc(commit->client->scratch, (commit->n + 1) * sizeof(struct commit_item *));
    enum store_result result = STORE_OK;
    struct bulk bulk;
    bulk_open(&bulk, commit->client, commit->client->events);
    for (size_t i = 0; i < commit->n && result == STORE_OK; i++) {
        struct commit_item *item = &commit->items[i];
        if (item->stored || !commit_is_open(item) || !decision_has_effects(item->delivery))
            continue;
        asked[bulk.n] = item;
        result = add_decision(commit, item, &bulk, err) ? STORE_OK : STORE_REFUSED;
    }
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK && bulk.n > 0)
        result = read_decisions(commit, &bulk, asked, err);
    for (size_t i = 0; i < bulk.n && result == STORE_OK; i++)
        asked[i]->delivery->decision_stored = asked[i]->stored;
    bulk_close(&bulk);
    return result;
}

static void found_history(void *arg, const bson_t *doc)
{
    struct commit *commit = arg;
    struct commit_item *item = find_item(commit, get_text(doc, "_id"));
    bson_t attempts;
    if (item == NULL)
        return;
    item->worker = slice_keep(commit->client->scratch, get_text(doc, "decision.attempt.worker"));
    if (item->attempts == NULL && get_array(doc, "attempts", &attempts))
        item->attempts = bson_copy(&attempts);
}

/* What a dead letter tells of earlier attempts, and who ran what we took over. */
static enum store_result read_history(struct commit *commit, struct error *err)
{
    static const char *const fields[] = {"attempts", "decision.attempt.worker", NULL};
    struct commit_item **asked = arena_alloc(commit->client->scratch, (commit->n + 1) * sizeof(struct commit_item *));
    size_t n = 0;
    for (size_t i = 0; i < commit->n; i++) {
        const struct delivery *delivery = commit->items[i].delivery;
        bool is_rare = delivery->decision == DECISION_DEAD || delivery->claim == CLAIM_DECIDED;
        if (is_rare && commit_is_open(&commit->items[i]))
            asked[n++] = &commit->items[i];
    }
    return n == 0 ? STORE_OK : find_items(commit, asked, n, fields, found_history, err);
}

typedef enum store_result commit_step(struct commit *commit, struct error *err);

static enum store_result commit_once(struct store_client *client, const struct store_claim *claim,
                                     struct delivery *deliveries, size_t n, struct error *err)
{
    static commit_step *const steps[] = {
        commit_store_decisions, commit_apply_writes,
        read_history,           commit_store_decisions, /* those that step b changed */
        commit_apply_letters,   commit_record,
    };
    client_begin(client);
    struct commit commit = {.client = client, .claim = claim, .token = slice_of(claim->token), .now = clock_wall()};
    open_commit(&commit, deliveries, n);
    refuse_oversized(&commit);
    enum store_result result = STORE_OK;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && result == STORE_OK; i++)
        result = steps[i](&commit, err);
    close_commit(&commit);
    return result;
}

enum store_result store_commit(struct store_client *client, const struct store_claim *claim,
                               struct delivery *deliveries, size_t n, struct error *err)
{
    enum store_result result = commit_once(client, claim, deliveries, n, err);
    if (client_should_repeat(client, result))
        result = commit_once(client, claim, deliveries, n, err);
    return result;
}
