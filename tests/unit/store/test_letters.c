/* Dead letters: each death once, reviewed by people, replayed, and never hidden. */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>

#include "base/json.h"

static struct delivery dead_event_of(struct bench *bench, const char *event_id, const char *reason)
{
    struct delivery d = delivery_new(bench, event_id);
    struct store_claim claim = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_badly(&d, DECISION_DEAD, 0, reason);
    commit_one(bench->a, &claim, &d);
    return d;
}

static struct delivery dead_event(struct bench *bench, const char *reason)
{
    return dead_event_of(bench, new_id(bench), reason);
}

static enum store_result replay(struct bench *bench, struct slice key, struct event *event, struct error *err)
{
    return store_dead_replay(bench->a, key, SLICE_LITERAL("alice"), false, bench->arena, event, err);
}

/* The store fails after the event's half, before the letter's. */
static void cut_off_replay(struct bench *bench, struct slice key, struct event *event)
{
    struct error err = {{0}};
    fail_commands(bench, "{\"skip\":1}", "\"failCommands\":[\"update\"],\"errorCode\":91");
    enum store_result result = replay(bench, key, event, &err);
    fail_no_more(bench);
    assert_int_equal(result, STORE_UNAVAILABLE);
}

/* The next life: the replayed event is queued, claimed, and ends as told. */
static struct delivery live_again(struct bench *bench, const struct delivery *d, const struct event *event,
                                  enum decision_kind end)
{
    struct delivery next = delivery_retry(bench, d, event->attempt);
    struct store_claim claim = claim_new(bench);
    next.event = *event;
    assert_int_equal(claim_one(bench->b, &claim, &next), CLAIM_WON);
    assert_int_equal(next.failures, 0);
    if (end == DECISION_SUCCEED)
        ran_well(&next);
    else
        ran_badly(&next, end, 0, "again");
    commit_one(bench->b, &claim, &next);
    return next;
}

static void a_letter_has_all_that_an_operator_needs(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_badly(&d, DECISION_RETRY, 0, "");
    commit_one(bench->a, &claim, &d);
    struct delivery retry = delivery_retry(bench, &d, 2);
    claim = claim_new(bench);
    claim_one(bench->b, &claim, &retry);
    ran_badly(&retry, DECISION_DEAD, 0, "retries_exhausted");
    commit_one(bench->b, &claim, &retry);
    const struct slice key = d.key;
    assert_string_equal(text_at(bench, "dead_letters", key, "reason"), "retries_exhausted");
    assert_string_equal(text_at(bench, "dead_letters", key, "error.kind"), "depot_away");
    assert_string_equal(text_at(bench, "dead_letters", key, "error.message"), "the depot does not answer");
    assert_int_equal(number_at(bench, "dead_letters", key, "attempt"), 2);
    assert_int_equal(number_at(bench, "dead_letters", key, "failures"), 2);
    assert_int_equal(length_at(bench, "dead_letters", key, "attempts"), 2);
    assert_string_equal(text_at(bench, "dead_letters", key, "attempts.0.worker"), "worker-a");
    assert_string_equal(text_at(bench, "dead_letters", key, "attempts.1.worker"), "worker-b");
    assert_string_equal(text_at(bench, "dead_letters", key, "body"), d.event.body.base);
    assert_string_equal(text_at(bench, "dead_letters", key, "headers"), d.event.headers.base);
    assert_int_equal(number_at(bench, "dead_letters", key, "first_received_at"), d.event.received_at.ms);
    assert_int_equal(number_at(bench, "dead_letters", key, "died_at"), retry.ended_at.ms);
    assert_string_equal(text_at(bench, "dead_letters", key, "review.status"), "unreviewed");
    assert_int_equal(number_at(bench, "dead_letters", key, "deaths"), 1);
}

static void replay_gives_the_event_back(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event;
    struct error err = {{0}};
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_OK);
    assert_int_equal(event.attempt, 2);
    assert_true(slice_is(event.replay, "alice"));
    assert_true(slice_equal(event.body, d.event.body));
    assert_true(slice_equal(event.headers, d.event.headers));
    assert_true(slice_equal(event.ingest_id, d.event.ingest_id));
    assert_true(slice_equal(event.source, d.event.source));
    assert_true(slice_equal(event.event_id, d.event.event_id));
    assert_true(slice_equal(event.type, d.event.type));
    assert_true(slice_equal(event.occurred_at, d.event.occurred_at));
    assert_true(slice_equal(event.content_type, d.event.content_type));
    assert_int_equal(event.received_at.ms, d.event.received_at.ms);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "retry_wait");
    assert_int_equal(number_at(bench, "events", d.key, "failures"), 0);
    assert_int_equal(number_at(bench, "events", d.key, "replays"), 1);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "replayed");
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.by"), "alice");
    live_again(bench, &d, &event, DECISION_SUCCEED);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
    assert_int_equal(length_at(bench, "events", d.key, "attempts"), 2);
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_REFUSED);
    assert_non_null(strstr(err.text, "succeeded"));
}

static void a_second_death_is_unreviewed_again(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event;
    struct error err = {{0}};
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_OK);
    live_again(bench, &d, &event, DECISION_DEAD);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "unreviewed");
    assert_false(exists_at(bench, "dead_letters", d.key, "review.by"));
    assert_string_equal(text_at(bench, "dead_letters", d.key, "reason"), "again");
    assert_int_equal(number_at(bench, "dead_letters", d.key, "attempt"), 2);
    assert_int_equal(number_at(bench, "dead_letters", d.key, "deaths"), 2);
    assert_int_equal(length_at(bench, "dead_letters", d.key, "reviews"), 1);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "reviews.0.by"), "alice");
    assert_int_equal(length_at(bench, "dead_letters", d.key, "attempts"), 2);
}

/* The event's half is done, the letter's is not: the letter stays in sight, and doing it again finishes it. */
static void a_replay_that_was_cut_off_is_repeated(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event;
    struct error err = {{0}};
    cut_off_replay(bench, d.key, &event);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "retry_wait");
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "unreviewed");
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_OK);
    assert_int_equal(event.attempt, 2);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "replayed");
    assert_int_equal(number_at(bench, "events", d.key, "replays"), 1);
    assert_int_equal(length_at(bench, "dead_letters", d.key, "reviews"), 1);
}

/* Whoever was cut off did not come back, and the reconciler queued the event: the letter is all that is left to do. */
static void a_replay_that_was_cut_off_and_went_well_is_finished(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event, revived;
    struct error err = {{0}};
    cut_off_replay(bench, d.key, &revived);
    live_again(bench, &d, &revived, DECISION_SUCCEED);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "unreviewed");
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_REFUSED);
    assert_non_null(strstr(err.text, "succeeded"));
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "replayed");
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
}

struct slow_replay {
    struct store_client *client;
    struct arena *arena;
    struct slice key;
    enum store_result result;
};

static void *replay_slowly(void *arg)
{
    struct slow_replay *slow = arg;
    struct event event;
    struct error err;
    slow->result = store_dead_replay(slow->client, slow->key, SLICE_LITERAL("bob"), false, slow->arena, &event, &err);
    return NULL;
}

static void wait_for_status(struct bench *bench, struct slice key, const char *status)
{
    for (int tries = 0; strcmp(text_at(bench, "events", key, "status"), status) != 0; tries++) {
        assert_true(tries < 500);
        clock_sleep_ms(2);
    }
}

/* Between the two halves the event ran and died again: the letter tells of the new death, which nobody reviewed. */
static void a_late_review_does_not_hide_a_new_death(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct store *store = patient_store(bench, "patient");
    struct slow_replay slow = {.client = store_client_new(store), .arena = arena_new(), .key = d.key};
    struct event event = d.event;
    pthread_t thread;
    fail_commands_of(bench, "patient", "{\"skip\":1}",
                     "\"failCommands\":[\"update\"],\"blockConnection\":true,\"blockTimeMS\":1500");
    assert_int_equal(pthread_create(&thread, NULL, replay_slowly, &slow), 0);
    wait_for_status(bench, d.key, "retry_wait");
    event.attempt = 2;
    live_again(bench, &d, &event, DECISION_DEAD);
    assert_int_equal(length_at(bench, "dead_letters", d.key, "reviews"), 0); /* the review is still on its way */
    pthread_join(thread, NULL);
    fail_no_more(bench);
    assert_int_equal(slow.result, STORE_OK);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "unreviewed");
    assert_int_equal(number_at(bench, "dead_letters", d.key, "attempt"), 2);
    arena_free(slow.arena);
    store_client_free(slow.client);
    store_close(store);
}

static void discard_is_remembered_with_its_note(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event;
    struct error err = {{0}};
    struct slice who = SLICE_LITERAL("bob"), note = SLICE_LITERAL("test data");
    assert_int_equal(store_dead_discard(bench->a, d.key, who, note, &err), STORE_OK);
    assert_int_equal(store_dead_discard(bench->a, d.key, who, note, &err), STORE_OK);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "discarded");
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.note"), "test data");
    assert_int_equal(length_at(bench, "dead_letters", d.key, "reviews"), 1);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "dead");
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_REFUSED);
    assert_non_null(strstr(err.text, "was discarded by bob at 20"));
    assert_non_null(strstr(err.text, "test data"));
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "discarded");
    assert_int_equal(store_dead_replay(bench->a, d.key, who, true, bench->arena, &event, &err),
                     STORE_OK); /* he changed his mind */
    assert_false(exists_at(bench, "events", d.key, "discarded"));
    assert_int_equal(store_dead_discard(bench->a, d.key, who, note, &err), STORE_REFUSED);
    assert_non_null(strstr(err.text, "replayed"));
    live_again(bench, &d, &event, DECISION_DEAD); /* nobody discarded this death */
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_OK);
}

/* The event is marked, the letter is not: it stays in sight, cannot be replayed, and discarding it again finishes it.
 */
static void a_discard_that_was_cut_off_holds(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct slice who = SLICE_LITERAL("bob"), note = SLICE_LITERAL("test data");
    struct event event;
    struct error err = {{0}};
    fail_commands(bench, "{\"skip\":1}", "\"failCommands\":[\"update\"],\"errorCode\":91");
    enum store_result result = store_dead_discard(bench->a, d.key, who, note, &err);
    fail_no_more(bench);
    assert_int_equal(result, STORE_UNAVAILABLE);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "unreviewed");
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_REFUSED);
    assert_non_null(strstr(err.text, "was discarded by bob at 20"));
    assert_int_equal(store_dead_discard(bench->a, d.key, who, note, &err), STORE_OK);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "discarded");
}

/* The event's half of a replay is done: the letter, still unreviewed, tells of a death that is over. */
static void what_is_being_replayed_is_not_discarded(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event;
    struct error err = {{0}};
    cut_off_replay(bench, d.key, &event);
    assert_int_equal(store_dead_discard(bench->a, d.key, SLICE_LITERAL("bob"), SLICE_LITERAL("why"), &err),
                     STORE_REFUSED);
    assert_non_null(strstr(err.text, "retry_wait"));
    event = d.event;
    event.attempt = 2;
    live_again(bench, &d, &event, DECISION_SUCCEED);
    assert_int_equal(store_dead_discard(bench->a, d.key, SLICE_LITERAL("bob"), SLICE_LITERAL("why"), &err), STORE_OK);
}

static void unknown_keys_are_not_found(void **state)
{
    struct bench *bench = *state;
    struct event event;
    struct error err = {{0}};
    struct buf out = {0};
    struct slice key = SLICE_LITERAL("demo/nobody");
    assert_int_equal(replay(bench, key, &event, &err), STORE_NOT_FOUND);
    assert_int_equal(store_dead_discard(bench->a, key, SLICE_LITERAL("x"), (struct slice){0}, &err), STORE_NOT_FOUND);
    assert_int_equal(store_event_show(bench->a, key, &out, &err), STORE_NOT_FOUND);
    assert_int_equal(store_dead_show(bench->a, key, &out, &err), STORE_NOT_FOUND);
    assert_non_null(strstr(err.text, "demo/nobody"));
    assert_int_equal(out.len, 0);
}

/* The document expired after a replayed success; the same identity comes again and dies with a lower number. */
static void a_later_submission_s_death_is_told_too(void **state)
{
    struct bench *bench = *state;
    struct delivery d = dead_event(bench, "permanent");
    struct event event;
    struct error err = {{0}};
    int64_t deleted = 0;
    assert_int_equal(replay(bench, d.key, &event, &err), STORE_OK);
    live_again(bench, &d, &event, DECISION_SUCCEED);
    clock_sleep_ms(2);
    assert_int_equal(store_expire(bench->a, 0, 100000, &deleted, &err), STORE_OK);
    assert_null(document(bench, "events", d.key));
    struct delivery again = delivery_again(bench, &d, NULL);
    struct store_claim claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &claim, &again), CLAIM_WON);
    ran_badly(&again, DECISION_DEAD, 0, "later");
    commit_one(bench->a, &claim, &again);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "reason"), "later");
    assert_string_equal(text_at(bench, "dead_letters", d.key, "review.status"), "unreviewed");
    assert_int_equal(number_at(bench, "dead_letters", d.key, "deaths"), 2);
}

static void malformed_entries_are_buried_once(void **state)
{
    struct bench *bench = *state;
    struct delivery d = {.entry_id = SLICE_LITERAL("1700000000000-5"), .malformed = SLICE_LITERAL("no field 'source'")};
    struct slice key = SLICE_LITERAL("malformed/1700000000000-5");
    struct event event;
    struct error err = {{0}};
    d.event.body = SLICE_LITERAL("what was there");
    assert_int_equal(store_bury_malformed(bench->a, &d, &err), STORE_OK);
    assert_int_equal(store_bury_malformed(bench->a, &d, &err), STORE_OK);
    assert_string_equal(text_at(bench, "dead_letters", key, "reason"), "malformed");
    assert_string_equal(text_at(bench, "dead_letters", key, "error.message"), "no field 'source'");
    assert_string_equal(text_at(bench, "dead_letters", key, "body"), "what was there");
    assert_string_equal(text_at(bench, "dead_letters", key, "review.status"), "unreviewed");
    assert_int_equal(replay(bench, key, &event, &err), STORE_REFUSED);
    assert_non_null(strstr(err.text, "no envelope"));
    assert_int_equal(store_dead_discard(bench->a, key, SLICE_LITERAL("x"), (struct slice){0}, &err), STORE_OK);
}

static size_t occurrences(const struct buf *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text->data; at != NULL && (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static void letters_are_listed_newest_first_and_counted(void **state)
{
    struct bench *bench = *state;
    struct store_dead_filter filter = {.status = "unreviewed", .reason = "listed", .limit = 2};
    struct delivery letters[3];
    struct error err = {{0}};
    struct buf out = {0};
    int64_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        letters[i] = dead_event(bench, "listed");
        clock_sleep_ms(2);
    }
    assert_int_equal(store_dead_list(bench->a, &filter, &out, &err), STORE_OK);
    assert_true(json_check(buf_slice(&out), &err));
    assert_int_equal(occurrences(&out, "\"key\":"), 2);
    assert_int_equal(occurrences(&out, "\"body\""), 0);
    const char *newest = strstr(out.data, letters[2].key.base), *second = strstr(out.data, letters[1].key.base);
    assert_true(newest != NULL && second != NULL && newest < second);
    buf_clear(&out);
    filter.skip = 2;
    assert_int_equal(store_dead_list(bench->a, &filter, &out, &err), STORE_OK);
    assert_non_null(strstr(out.data, letters[0].key.base));
    assert_int_equal(occurrences(&out, "\"key\":"), 1);
    assert_int_equal(store_dead_count(bench->a, &filter, &n, &err), STORE_OK);
    assert_int_equal(n, 3);
    filter.source = "other";
    assert_int_equal(store_dead_count(bench->a, &filter, &n, &err), STORE_OK);
    assert_int_equal(n, 0);
    buf_clear(&out);
    assert_int_equal(store_dead_list(bench->a, &filter, &out, &err), STORE_OK);
    assert_string_equal(out.data, "[]");
    buf_free(&out);
}

/* A letter that comes between two pages neither repeats nor hides another. */
static void pages_by_key_stay_whole(void **state)
{
    struct bench *bench = *state;
    struct store_dead_filter filter = {.status = "unreviewed", .reason = "paged", .limit = 2, .after = ""};
    struct slice keys[] = {dead_event_of(bench, "paged_b", "paged").key, dead_event_of(bench, "paged_c", "paged").key,
                           dead_event_of(bench, "paged_d", "paged").key};
    struct error err = {{0}};
    struct buf out = {0};
    assert_int_equal(store_dead_list(bench->a, &filter, &out, &err), STORE_OK);
    assert_int_equal(occurrences(&out, "\"key\":"), 2);
    const char *first = strstr(out.data, keys[0].base), *second = strstr(out.data, keys[1].base);
    assert_true(first != NULL && second != NULL && first < second);
    dead_event_of(bench, "paged_a", "paged");
    buf_clear(&out);
    filter.after = keys[1].base;
    assert_int_equal(store_dead_list(bench->a, &filter, &out, &err), STORE_OK);
    assert_int_equal(occurrences(&out, "\"key\":"), 1);
    assert_non_null(strstr(out.data, keys[2].base));
    buf_free(&out);
}

static void what_is_shown_is_plain_json(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    struct buf out = {0};
    char time[CLOCK_TEXT_BYTES], received[64];
    d.event.body = (struct slice){"\xff\x00", 2};
    claim_one(bench->a, &claim, &d);
    ran_well(&d);
    d.outcome.result = SLICE_LITERAL("{\"list\":[1,2.5,null,true,\"é\"],\"empty\":{}}");
    commit_one(bench->a, &claim, &d);
    assert_int_equal(store_event_show(bench->a, d.key, &out, &err), STORE_OK);
    if (!json_check(buf_slice(&out), &err))
        fail_msg("%s: %s", err.text, out.data);
    snprintf(received, sizeof(received), "\"received_at\":\"%s\"", clock_format(d.event.received_at, time));
    assert_non_null(strstr(out.data, received));
    assert_non_null(strstr(out.data, "\"body\":\"/wA=\""));
    assert_non_null(strstr(out.data, "\"list\":[1,2.5,null,true,\"é\"],\"empty\":{}"));
    assert_non_null(strstr(out.data, d.key.base));
    buf_free(&out);
}

static void scripts_find_documents_as_extended_json(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    struct slice json = {0};
    claim_one(bench->a, &claim, &d);
    ran_well(&d);
    add_write(bench, &d, "parcels", "find-me", "{\"$set\":{\"at\":{\"$date\":\"2026-01-31T12:00:00Z\"},\"n\":1}}");
    commit_one(bench->a, &claim, &d);
    assert_int_equal(
        store_find(bench->a, SLICE_LITERAL("parcels"), SLICE_LITERAL("find-me"), bench->arena, &json, &err), STORE_OK);
    assert_non_null(strstr(json.base, "{ \"$date\" : \"2026-01-31T12:00:00Z\" }"));
    assert_int_equal(store_find(bench->a, SLICE_LITERAL("parcels"), SLICE_LITERAL("nobody"), bench->arena, &json, &err),
                     STORE_NOT_FOUND);
    assert_int_equal(store_find(bench->a, SLICE_LITERAL("$cmd"), SLICE_LITERAL("x"), bench->arena, &json, &err),
                     STORE_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_letter_has_all_that_an_operator_needs),
        cmocka_unit_test(replay_gives_the_event_back),
        cmocka_unit_test(a_second_death_is_unreviewed_again),
        cmocka_unit_test(a_replay_that_was_cut_off_is_repeated),
        cmocka_unit_test(a_replay_that_was_cut_off_and_went_well_is_finished),
        cmocka_unit_test(a_late_review_does_not_hide_a_new_death),
        cmocka_unit_test(discard_is_remembered_with_its_note),
        cmocka_unit_test(a_discard_that_was_cut_off_holds),
        cmocka_unit_test(what_is_being_replayed_is_not_discarded),
        cmocka_unit_test(unknown_keys_are_not_found),
        cmocka_unit_test(a_later_submission_s_death_is_told_too),
        cmocka_unit_test(malformed_entries_are_buried_once),
        cmocka_unit_test(letters_are_listed_newest_first_and_counted),
        cmocka_unit_test(pages_by_key_stay_whole),
        cmocka_unit_test(what_is_shown_is_plain_json),
        cmocka_unit_test(scripts_find_documents_as_extended_json),
    };
    return cmocka_run_group_tests_name("store: letters", tests, bench_setup, bench_teardown);
}
