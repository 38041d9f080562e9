/* The review of dead letters, and letters of entries that were no envelope. */
#include <stdio.h>

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

struct replay {
    struct slice key, who;
    bool discarded_too;
};

static enum store_result revive_event(struct store_client *client, const bson_t *doc, const struct replay *replay,
                                      int64_t *matched, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    int64_t attempt = get_int(doc, "attempt", 0);
    wall_time now = clock_wall();
    put_text(&filter, "_id", get_text(doc, "_id"));
    put_word(&filter, "status", STATUS_DEAD);
    put_int(&filter, "attempt", attempt);
    if (!replay->discarded_too)
        put_operator_bool(&filter, "discarded", "$exists", false);
    put_open(&update, "$set", &part);
    put_word(&part, "status", STATUS_RETRY_WAIT);
    put_int(&part, "next_attempt", attempt + 1);
    put_time(&part, "next_attempt_at", now);
    put_time(&part, "sweep_at", now);
    put_int(&part, "failures", 0);
    put_text(&part, "replay", replay->who);
    put_time(&part, "updated_at", now);
    put_close(&update, &part);
    put_open(&update, "$inc", &part);
    put_int(&part, "replays", 1);
    put_close(&update, &part);
    put_open(&update, "$unset", &part);
    put_word(&part, "reason", "");
    put_word(&part, "resolved_at", "");
    put_word(&part, "discarded", "");
    put_word(&part, "requeued_at", "");
    put_word(&part, "queue_epoch", ""); /* not queued yet: should we be cut off here, the reconciler does it */
    put_close(&update, &part);
    enum store_result result = client_update(client, client->events, &filter, &update, matched, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return result;
}

/* The letter of this very death becomes replayed; one that tells of a later death stays unreviewed. */
static enum store_result mark_replayed(struct store_client *client, const struct replay *replay, struct slice ingest_id,
                                       int64_t attempt, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
    int64_t matched = 0;
    put_text(&filter, "_id", replay->key);
    put_text(&filter, "ingest_id", ingest_id);
    put_int(&filter, "attempt", attempt);
    put_operator_text(&filter, "review.status", "$ne", SLICE_LITERAL("replayed"));
    put_review(&update, "replayed", replay->who, (struct slice){0}, attempt, clock_wall());
    enum store_result result = client_update(client, client->letters, &filter, &update, &matched, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return result;
}

/* The letter of the last death that the event's document tells of; NULL when there is none. For bson_destroy. */
static enum store_result read_letter_of(struct store_client *client, const bson_t *doc, bson_t **letter,
                                        struct error *err)
{
    enum store_result result = client_get(client, client->letters, get_text(doc, "_id"), letter, err);
    if (result != STORE_OK)
        return result == STORE_NOT_FOUND ? STORE_OK : result;
    if (get_int(*letter, "attempt", -1) <= get_int(doc, "attempt", -2) && /* else a death that is being recorded now */
        slice_equal(get_text(*letter, "ingest_id"), get_text(doc, "ingestion.ingest_id")))
        return STORE_OK;
    bson_destroy(*letter);
    *letter = NULL;
    return STORE_OK;
}

static void say_discarded(struct slice key, const bson_t *doc, const char *member, struct error *err)
{
    char by[32], at[32], note[32], time[CLOCK_TEXT_BYTES];
    snprintf(by, sizeof by, "%s.by", member);
    snprintf(at, sizeof at, "%s.at", member);
    snprintf(note, sizeof note, "%s.note", member);
    struct slice why = get_text(doc, note);
    error_set(err, "%.*s was discarded by %.*s at %s and is replayed with --discarded only%s%.*s", SLICE_ARG(key),
              SLICE_ARG(get_text(doc, by)), clock_format(get_time(doc, at), time), why.len > 0 ? ": " : "",
              SLICE_ARG(why));
}

/* The event's mark decides. The letter is asked too: it was discarded before events were marked. */
static enum store_result check_not_discarded(struct store_client *client, struct slice key, const bson_t *doc,
                                             struct error *err)
{
    if (get_exists(doc, "discarded")) {
        say_discarded(key, doc, "discarded", err);
        return STORE_REFUSED;
    }
    bson_t *letter = NULL;
    enum store_result result = read_letter_of(client, doc, &letter, err);
    if (letter == NULL)
        return result;
    if (slice_is(get_text(letter, "review.status"), "discarded")) {
        say_discarded(key, letter, "review", err);
        result = STORE_REFUSED;
    }
    bson_destroy(letter);
    return result;
}

static enum store_result revive_dead(struct store_client *client, const struct replay *replay, const bson_t *doc,
                                     struct error *err)
{
    int64_t matched = 0;
    enum store_result result = STORE_OK;
    if (!replay->discarded_too)
        result = check_not_discarded(client, replay->key, doc, err);
    if (result == STORE_OK)
        result = revive_event(client, doc, replay, &matched, err);
    if (result != STORE_OK || matched > 0)
        return result;
    error_set(err, "%.*s was changed by somebody else just now", SLICE_ARG(replay->key));
    return STORE_REFUSED;
}

/* The event is not dead. Nothing has run since its death: a replay that was cut off after the event's half, to be
 * finished. It has gone on: such a replay, too, and all that it left to do is the letter, or nobody would ever be done
 * with it. */
static enum store_result check_revived(struct store_client *client, const struct replay *replay, const bson_t *doc,
                                       struct error *err)
{
    struct slice status = get_text(doc, "status");
    bson_t *letter = NULL;
    enum store_result result = read_letter_of(client, doc, &letter, err);
    if (result != STORE_OK)
        return result;
    error_set(err, "%.*s is not dead, it is %.*s", SLICE_ARG(replay->key), SLICE_ARG(status));
    if (letter == NULL)
        return STORE_REFUSED;
    int64_t attempt = get_int(letter, "attempt", 0);
    bool waits = slice_is(status, STATUS_RETRY_WAIT) && attempt == get_int(doc, "attempt", -1);
    if (!waits && slice_is(get_text(letter, "review.status"), "unreviewed")) {
        result = mark_replayed(client, replay, get_text(letter, "ingest_id"), attempt, err);
        if (result == STORE_OK)
            error_set(err, "%.*s was replayed before and is %.*s: its letter is marked as replayed now",
                      SLICE_ARG(replay->key), SLICE_ARG(status));
    }
    bson_destroy(letter);
    return result == STORE_OK && !waits ? STORE_REFUSED : result;
}

static enum store_result replay_event(struct store_client *client, const struct replay *replay, struct arena *arena,
                                      struct event *event, struct error *err)
{
    bson_t *doc = NULL;
    struct slice key = replay->key;
    enum store_result result = client_get(client, client->events, key, &doc, err);
    if (result == STORE_NOT_FOUND && key.len > 10 && memcmp(key.base, "malformed/", 10) == 0) {
        error_set(err, "%.*s was no envelope: there is nothing to replay, only to discard", SLICE_ARG(key));
        return STORE_REFUSED;
    }
    if (result != STORE_OK)
        return result;
    if (slice_is(get_text(doc, "status"), STATUS_DEAD))
        result = revive_dead(client, replay, doc, err);
    else
        result = check_revived(client, replay, doc, err);
    document_read_kept(doc, arena, event);
    event->replay = slice_keep(arena, replay->who);
    bson_destroy(doc);
    return result;
}

static enum store_result replay_once(struct store_client *client, const struct replay *replay, struct arena *arena,
                                     struct event *event, struct error *err)
{
    client_begin(client);
    enum store_result result = replay_event(client, replay, arena, event, err);
    if (result != STORE_OK)
        return result;
    return mark_replayed(client, replay, event->ingest_id, (int64_t)event->attempt - 1, err);
}

enum store_result store_dead_replay(struct store_client *client, struct slice key, struct slice who, bool discarded_too,
                                    struct arena *arena, struct event *event, struct error *err)
{
    const struct replay replay = {key, who, discarded_too};
    enum store_result result = replay_once(client, &replay, arena, event, err);
    return client_should_repeat(client, result) ? replay_once(client, &replay, arena, event, err) : result;
}

struct discard {
    struct slice key, who, note;
    wall_time now;
};

/* A letter may be put aside beside an event that cannot be replayed: one that is gone or was none, or succeeded. */
static enum store_result check_done_with(struct store_client *client, struct slice key, struct error *err)
{
    bson_t *doc = NULL;
    enum store_result result = client_get(client, client->events, key, &doc, err);
    if (result != STORE_OK)
        return result == STORE_NOT_FOUND ? STORE_OK : result;
    struct slice status = get_text(doc, "status");
    if (!slice_is(status, STATUS_SUCCEEDED)) {
        error_set(err, "%.*s was changed by somebody else just now: it is %.*s", SLICE_ARG(key), SLICE_ARG(status));
        result = STORE_REFUSED;
    }
    bson_destroy(doc);
    return result;
}

/* From now on no replay revives the event of this death. */
static enum store_result mark_event_discarded(struct store_client *client, const struct discard *discard,
                                              const bson_t *letter, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, set, mark;
    int64_t matched = 0;
    put_text(&filter, "_id", discard->key);
    put_text(&filter, "ingestion.ingest_id", get_text(letter, "ingest_id"));
    put_int(&filter, "attempt", get_int(letter, "attempt", 0));
    put_word(&filter, "status", STATUS_DEAD);
    put_open(&update, "$set", &set);
    put_open(&set, "discarded", &mark);
    put_text(&mark, "by", discard->who);
    put_time(&mark, "at", discard->now);
    put_optional(&mark, "note", discard->note);
    put_close(&set, &mark);
    put_close(&update, &set);
    enum store_result result = client_update(client, client->events, &filter, &update, &matched, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return result == STORE_OK && matched == 0 ? check_done_with(client, discard->key, err) : result;
}

static enum store_result mark_letter_discarded(struct store_client *client, const struct discard *discard,
                                               const bson_t *letter, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
    int64_t matched = 0, attempt = get_int(letter, "attempt", 0);
    put_text(&filter, "_id", discard->key);
    put_int(&filter, "attempt", attempt); /* of the death that was looked at */
    put_word(&filter, "review.status", "unreviewed");
    put_review(&update, "discarded", discard->who, discard->note, attempt, discard->now);
    enum store_result result = client_update(client, client->letters, &filter, &update, &matched, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    if (result != STORE_OK || matched > 0)
        return result;
    error_set(err, "the dead letter %.*s was reviewed by somebody else just now", SLICE_ARG(discard->key));
    return STORE_REFUSED;
}

static enum store_result discard_once(struct store_client *client, const struct discard *discard, struct error *err)
{
    bson_t *letter = NULL;
    client_begin(client);
    enum store_result result = client_get(client, client->letters, discard->key, &letter, err);
    if (result != STORE_OK)
        return result;
    struct slice status = get_text(letter, "review.status");
    if (slice_is(status, "unreviewed")) {
        result = mark_event_discarded(client, discard, letter, err);
        if (result == STORE_OK)
            result = mark_letter_discarded(client, discard, letter, err);
    } else if (!slice_is(status, "discarded")) {
        error_set(err, "the dead letter %.*s is already %.*s", SLICE_ARG(discard->key), SLICE_ARG(status));
        result = STORE_REFUSED;
    }
    bson_destroy(letter);
    return result;
}

enum store_result store_dead_discard(struct store_client *client, struct slice key, struct slice who, struct slice note,
                                     struct error *err)
{
    const struct discard discard = {key, who, note, clock_wall()};
    enum store_result result = discard_once(client, &discard, err);
    return client_should_repeat(client, result) ? discard_once(client, &discard, err) : result;
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
