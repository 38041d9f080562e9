/* Step 4b for those that died: their dead letters, each death once. */
#include "commit.h"
#include "decision.h"
#include "document.h"

#define MAX_TRIES 4

struct letter {
    struct commit_item *item;
    bool done;
};

struct letter_run {
    struct commit *commit;
    struct letter *letters;
    size_t n;
};

static bool is_told(const struct letter *letter, const bson_t *doc)
{
    const struct delivery *delivery = letter->item->delivery;
    return slice_equal(get_text(doc, "ingest_id"), delivery->event.ingest_id) &&
           get_int(doc, "attempt", -1) >= (int64_t)delivery->attempt;
}

/* The same as a filter, turned round: no letter yet tells of this death. The attempt that killed numbers the deaths of
 * one submission; after the event's document expired, a later submission may die with a lower number. */
static void put_guard(bson_t *filter, const struct delivery *delivery)
{
    bson_t any, option, less;
    put_text(filter, "_id", delivery->key);
    put_open_array(filter, "$or", &any);
    put_open(&any, "0", &option);
    put_operator_text(&option, "ingest_id", "$ne", delivery->event.ingest_id);
    put_close(&any, &option);
    put_open(&any, "1", &option);
    put_open(&option, "attempt", &less);
    put_int(&less, "$lt", delivery->attempt);
    put_close(&option, &less);
    put_close(&any, &option);
    put_close_array(filter, &any);
}

static void put_error(bson_t *set, const struct outcome *outcome, struct slice reason)
{
    bson_t error;
    put_open(set, "error", &error);
    put_text(&error, "kind", outcome->error_kind.len > 0 ? outcome->error_kind : reason);
    put_cut(&error, "message", outcome->message, MESSAGE_MAX_BYTES);
    put_close(set, &error);
}

static void put_all_attempts(bson_t *set, const struct commit *commit, const struct commit_item *item)
{
    bson_t list;
    bson_iter_t it;
    size_t n = 0;
    struct index_name index;
    put_open_array(set, "attempts", &list);
    if (item->attempts != NULL && bson_iter_init(&it, item->attempts))
        while (bson_iter_next(&it))
            bson_append_iter(&list, index_name(&index, n++), -1, &it);
    put_attempt(&list, index_name(&index, n), item->delivery, commit_worker(commit, item));
    put_close_array(set, &list);
}

static void put_letter(bson_t *set, const struct commit *commit, const struct commit_item *item)
{
    const struct delivery *delivery = item->delivery;
    const struct event *event = &delivery->event;
    char sha256[SHA256_HEX_BYTES];
    bson_t review;
    body_hash(event->body, sha256);
    put_text(set, "source", event->source);
    put_text(set, "event_id", event->event_id);
    put_text(set, "type", event->type);
    put_text(set, "ingest_id", event->ingest_id);
    put_text(set, "reason", delivery->retry.reason);
    put_error(set, &delivery->outcome, delivery->retry.reason);
    put_int(set, "attempt", delivery->attempt);
    put_int(set, "failures", delivery->failures);
    put_all_attempts(set, commit, item);
    put_time(set, "first_received_at", event->received_at);
    put_time(set, "died_at", delivery->ended_at);
    put_text(set, "content_type", event->content_type);
    put_bytes(set, "headers", event->headers);
    put_bytes(set, "body", event->body);
    put_word(set, "body_sha256", sha256);
    put_open(set, "review", &review);
    put_word(&review, "status", "unreviewed");
    put_close(set, &review);
}

static bool add_letter(struct commit *commit, struct commit_item *item, struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    put_guard(&filter, item->delivery);
    put_open(&update, "$set", &part);
    put_letter(&part, commit, item);
    put_close(&update, &part);
    put_open(&update, "$inc", &part);
    put_int(&part, "deaths", 1);
    put_close(&update, &part);
    bool added = bulk_update(bulk, &filter, &update, true, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

static enum store_result write_letters(struct letter_run *run, struct error *err)
{
    struct store_client *client = run->commit->client;
    struct letter **added = arena_alloc(client->scratch, (run->n + 1) * sizeof(*added));
    enum store_result result = STORE_OK;
    struct bulk bulk;
    bulk_open(&bulk, client, client->letters);
    for (size_t i = 0; i < run->n && result == STORE_OK; i++) {
        if (run->letters[i].done)
            continue;
        added[bulk.n] = &run->letters[i];
        result = add_letter(run->commit, run->letters[i].item, &bulk, err) ? STORE_OK : STORE_REFUSED;
    }
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK)
        result = bulk_first_error(&bulk, CODE_DUPLICATE_KEY, err);
    for (size_t i = 0; i < bulk.n && result == STORE_OK; i++)
        added[i]->done = true;
    for (size_t i = 0; i < bulk.n_errors && result == STORE_OK; i++)
        added[bulk.errors[i].index]->done = false;
    bulk_close(&bulk);
    return result;
}

static void found_letter(void *arg, const bson_t *doc)
{
    struct letter_run *run = arg;
    struct slice key = get_text(doc, "_id");
    for (size_t i = 0; i < run->n; i++)
        if (slice_equal(run->letters[i].item->delivery->key, key))
            run->letters[i].done = run->letters[i].done || is_told(&run->letters[i], doc);
}

/* Those that met a letter which is there: does it tell of this death already, or did it only appear just now? */
static enum store_result check_letters(struct letter_run *run, bool *any, struct error *err)
{
    static const char *const fields[] = {"ingest_id", "attempt", NULL};
    struct store_client *client = run->commit->client;
    struct slice *keys = arena_alloc(client->scratch, (run->n + 1) * sizeof(*keys));
    size_t n = 0;
    for (size_t i = 0; i < run->n; i++)
        if (!run->letters[i].done)
            keys[n++] = run->letters[i].item->delivery->key;
    *any = n > 0;
    return n == 0 ? STORE_OK : client_find_ids(client, client->letters, keys, n, fields, found_letter, run, err);
}

enum store_result commit_apply_letters(struct commit *commit, struct error *err)
{
    struct letter_run run = {.commit = commit};
    run.letters = arena_alloc(commit->client->scratch, (commit->n + 1) * sizeof(*run.letters));
    for (size_t i = 0; i < commit->n; i++)
        if (commit_is_open(&commit->items[i]) && commit->items[i].delivery->decision == DECISION_DEAD)
            run.letters[run.n++].item = &commit->items[i];
    bool any = run.n > 0;
    for (int tries = 0; any && tries < MAX_TRIES; tries++) {
        enum store_result result = write_letters(&run, err);
        if (result == STORE_OK)
            result = check_letters(&run, &any, err);
        if (result != STORE_OK)
            return result;
    }
    for (size_t i = 0; i < run.n; i++)
        if (!run.letters[i].done) {
            error_set(err, "the dead letter of %.*s cannot be written now",
                      SLICE_ARG(run.letters[i].item->delivery->key));
            return STORE_UNAVAILABLE;
        }
    return STORE_OK;
}
