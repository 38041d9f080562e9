/* The review of dead letters, and letters of entries that were no envelope. */
#include "client.h"
#include "document.h"

/* review and its place in the history, in one update. */
static void put_review(bson_t *update, const char *status, struct slice who, struct slice note, int64_t attempt,
                       wall_time now)
{
    bson_t set, push, review;
    put_open(update, "$set", &set);
    put_open(&set, "review", &review);
    put_word(&review, "status", status);
    put_text(&review, "by", who);
    put_time(&review, "at", now);
    put_optional(&review, "note", note);
    put_close(&set, &review);
    put_close(update, &set);
    put_open(update, "$push", &push);
    put_open(&push, "reviews", &review);
    put_word(&review, "status", status);
    put_text(&review, "by", who);
    put_time(&review, "at", now);
    put_optional(&review, "note", note);
    put_int(&review, "attempt", attempt);
    put_close(&push, &review);
    put_close(update, &push);
}

static enum store_result revive_event(struct store_client *client, const bson_t *doc, struct slice who,
                                      int64_t *matched, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    int64_t attempt = get_int(doc, "attempt", 0);
    wall_time now = clock_wall();
    put_text(&filter, "_id", get_text(doc, "_id"));
    put_word(&filter, "status", STATUS_DEAD);
    put_int(&filter, "attempt", attempt);
    put_open(&update, "$set", &part);
    put_word(&part, "status", STATUS_RETRY_WAIT);
    put_int(&part, "next_attempt", attempt + 1);
    put_time(&part, "next_attempt_at", now);
    put_time(&part, "sweep_at", now);
    put_int(&part, "failures", 0);
    put_text(&part, "replay", who);
    put_time(&part, "updated_at", now);
    put_close(&update, &part);
    put_open(&update, "$inc", &part);
    put_int(&part, "replays", 1);
    put_close(&update, &part);
    put_open(&update, "$unset", &part);
    put_word(&part, "reason", "");
    put_word(&part, "resolved_at", "");
    put_word(&part, "requeued_at", "");
    put_word(&part, "queue_epoch", ""); /* not queued yet: should we be cut off here, the reconciler does it */
    put_close(&update, &part);
    enum store_result result = client_update(client, client->events, &filter, &update, matched, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return result;
}

/* The letter of this very death becomes replayed; one that tells of a later death stays unreviewed. */
static enum store_result mark_replayed(struct store_client *client, struct slice key, struct slice who,
                                       const struct event *event, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
    int64_t attempt = (int64_t)event->attempt - 1, matched = 0;
    put_text(&filter, "_id", key);
    put_text(&filter, "ingest_id", event->ingest_id);
    put_int(&filter, "attempt", attempt);
    put_operator_text(&filter, "review.status", "$ne", SLICE_LITERAL("replayed"));
    put_review(&update, "replayed", who, (struct slice){0}, attempt, clock_wall());
    enum store_result result = client_update(client, client->letters, &filter, &update, &matched, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return result;
}

/* A replay that was cut off after the event's half: since its death nothing has run. */
static enum store_result check_revived(struct store_client *client, struct slice key, const bson_t *doc,
                                       struct error *err)
{
    struct slice status = get_text(doc, "status");
    bson_t *letter = NULL;
    bool revived = false;
    if (slice_is(status, STATUS_RETRY_WAIT)) {
        enum store_result result = client_get(client, client->letters, key, &letter, err);
        if (result != STORE_OK && result != STORE_NOT_FOUND)
            return result;
        revived = letter != NULL && get_int(letter, "attempt", -1) == get_int(doc, "attempt", -2) &&
                  slice_equal(get_text(letter, "ingest_id"), get_text(doc, "ingestion.ingest_id"));
        if (letter != NULL)
            bson_destroy(letter);
    }
    if (revived)
        return STORE_OK;
    error_set(err, "%.*s is not dead, it is %.*s", SLICE_ARG(key), SLICE_ARG(status));
    return STORE_REFUSED;
}

static enum store_result replay_event(struct store_client *client, struct slice key, struct slice who,
                                      struct arena *arena, struct event *event, struct error *err)
{
    bson_t *doc = NULL;
    int64_t matched = 0;
    enum store_result result = client_get(client, client->events, key, &doc, err);
    if (result == STORE_NOT_FOUND && key.len > 10 && memcmp(key.base, "malformed/", 10) == 0) {
        error_set(err, "%.*s was no envelope: there is nothing to replay, only to discard", SLICE_ARG(key));
        return STORE_REFUSED;
    }
    if (result != STORE_OK)
        return result;
    if (slice_is(get_text(doc, "status"), STATUS_DEAD)) {
        result = revive_event(client, doc, who, &matched, err);
        if (result == STORE_OK && matched == 0) {
            error_set(err, "%.*s was changed by somebody else just now", SLICE_ARG(key));
            result = STORE_REFUSED;
        }
    } else {
        result = check_revived(client, key, doc, err);
    }
    document_read_kept(doc, arena, event);
    event->replay = slice_keep(arena, who);
    bson_destroy(doc);
    return result;
}

static enum store_result replay_once(struct store_client *client, struct slice key, struct slice who,
                                     struct arena *arena, struct event *event, struct error *err)
{
    client_begin(client);
    enum store_result result = replay_event(client, key, who, arena, event, err);
    return result == STORE_OK ? mark_replayed(client, key, who, event, err) : result;
}

enum store_result store_dead_replay(struct store_client *client, struct slice key, struct slice who,
                                    struct arena *arena, struct event *event, struct error *err)
{
    enum store_result result = replay_once(client, key, who, arena, event, err);
    return client_should_repeat(client, result) ? replay_once(client, key, who, arena, event, err) : result;
}

static enum store_result discard_once(struct store_client *client, struct slice key, struct slice who,
                                      struct slice note, struct error *err)
{
    bson_t *letter = NULL;
    client_begin(client);
    enum store_result result = client_get(client, client->letters, key, &letter, err);
    if (result != STORE_OK)
        return result;
    struct slice status = get_text(letter, "review.status");
    if (slice_is(status, "unreviewed")) {
        bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
        int64_t matched = 0, attempt = get_int(letter, "attempt", 0);
        put_text(&filter, "_id", key);
        put_int(&filter, "attempt", attempt); /* of the death that was looked at */
        put_word(&filter, "review.status", "unreviewed");
        put_review(&update, "discarded", who, note, attempt, clock_wall());
        result = client_update(client, client->letters, &filter, &update, &matched, err);
        bson_destroy(&filter);
        bson_destroy(&update);
    } else if (!slice_is(status, "discarded")) {
        error_set(err, "the dead letter %.*s is already %.*s", SLICE_ARG(key), SLICE_ARG(status));
        result = STORE_REFUSED;
    }
    bson_destroy(letter);
    return result;
}

enum store_result store_dead_discard(struct store_client *client, struct slice key, struct slice who, struct slice note,
                                     struct error *err)
{
    enum store_result result = discard_once(client, key, who, note, err);
    return client_should_repeat(client, result) ? discard_once(client, key, who, note, err) : result;
}

static void put_malformed(bson_t *doc, struct slice key, const struct delivery *delivery, wall_time now)
{
    char sha256[SHA256_HEX_BYTES];
    bson_t part;
    body_hash(delivery->event.body, sha256);
    put_text(doc, "_id", key);
    put_word(doc, "source", "malformed");
    put_text(doc, "event_id", delivery->entry_id);
    put_word(doc, "type", "");
    put_word(doc, "ingest_id", "");
    put_word(doc, "reason", "malformed");
    put_open(doc, "error", &part);
    put_word(&part, "kind", "malformed");
    put_text(&part, "message", delivery->malformed);
    put_close(doc, &part);
    put_int(doc, "attempt", 0);
    put_int(doc, "failures", 0);
    put_open_array(doc, "attempts", &part);
    put_close_array(doc, &part);
    put_time(doc, "first_received_at", delivery->event.received_at);
    put_time(doc, "died_at", now);
    put_bytes(doc, "body", delivery->event.body);
    put_word(doc, "body_sha256", sha256);
    put_int(doc, "deaths", 1);
    put_open(doc, "review", &part);
    put_word(&part, "status", "unreviewed");
    put_close(doc, &part);
}

static enum store_result bury_once(struct store_client *client, const struct delivery *delivery, struct error *err)
{
    bson_t doc = BSON_INITIALIZER;
    struct bulk bulk;
    client_begin(client);
    struct slice key = arena_printf(client->scratch, "malformed/%.*s", SLICE_ARG(delivery->entry_id));
    put_malformed(&doc, key, delivery, clock_wall());
    bulk_open(&bulk, client, client->letters);
    enum store_result result = bulk_insert(&bulk, &doc, err) ? bulk_run(&bulk, err) : STORE_REFUSED;
    if (result == STORE_OK)
        result = bulk_first_error(&bulk, CODE_DUPLICATE_KEY, err); /* it was buried before */
    bulk_close(&bulk);
    bson_destroy(&doc);
    return result;
}

enum store_result store_bury_malformed(struct store_client *client, const struct delivery *delivery, struct error *err)
{
    enum store_result result = bury_once(client, delivery, err);
    return client_should_repeat(client, result) ? bury_once(client, delivery, err) : result;
}
