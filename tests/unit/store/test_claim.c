/* Step 2 of the protocol: each row of the claim table, and what happens when several ask at once. */
#include "bench.h"

#include <pthread.h>

static void a_new_event_is_ours(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    d.event.traceparent = SLICE_LITERAL("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    assert_int_equal(d.attempt, 1);
    assert_int_equal(d.failures, 0);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "processing");
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), claim.token);
    assert_string_equal(text_at(bench, "events", d.key, "claim.worker"), "worker-a");
    assert_string_equal(text_at(bench, "events", d.key, "claim.entry_id"), d.entry_id.base);
    assert_string_equal(text_at(bench, "events", d.key, "body"), d.event.body.base);
    assert_int_equal(strlen(text_at(bench, "events", d.key, "body_sha256")), 64);
    assert_string_equal(text_at(bench, "events", d.key, "queue_epoch"), "epoch-1");
    assert_string_equal(text_at(bench, "events", d.key, "ingestion.validation"), "accepted");
    assert_string_equal(text_at(bench, "events", d.key, "ingestion.traceparent"), d.event.traceparent.base);
    assert_int_equal(number_at(bench, "events", d.key, "ingestion.queued_at"), atoll(d.entry_id.base));
    assert_int_equal(number_at(bench, "events", d.key, "ingestion.received_at"), d.event.received_at.ms);
}

static void bytes_that_are_no_text_are_kept(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    d.event.body = (struct slice){"{\"a\":\"\xff\0\"}", 10};
    d.event.headers = SLICE_LITERAL("x: \xc3\x28\n");
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    bson_t *doc = document(bench, "events", d.key);
    bson_iter_t it;
    uint32_t len = 0;
    const uint8_t *data = NULL;
    assert_true(bson_iter_init_find(&it, doc, "body") && BSON_ITER_HOLDS_BINARY(&it));
    bson_iter_binary(&it, NULL, &len, &data);
    assert_int_equal(len, 10);
    assert_memory_equal(data, d.event.body.base, 10);
    assert_true(bson_iter_init_find(&it, doc, "headers") && BSON_ITER_HOLDS_BINARY(&it));
    bson_destroy(doc);
}

static void our_own_token_is_ours_again(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    assert_int_equal(d.attempt, 1);
}

static void another_submission_is_a_duplicate_counted_once(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct delivery again = delivery_again(bench, &d, NULL);
    struct store_claim first = claim_new(bench), second = claim_new(bench), third = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &first, &d), CLAIM_WON);
    assert_int_equal(claim_one(bench->b, &second, &again), CLAIM_DUPLICATE);
    assert_int_equal(claim_one(bench->b, &second, &again), CLAIM_DUPLICATE);
    again.deliveries = 3;
    assert_int_equal(claim_one(bench->a, &third, &again), CLAIM_DUPLICATE);
    assert_int_equal(number_at(bench, "events", d.key, "duplicates"), 1);
    assert_int_equal(number_at(bench, "events", d.key, "conflicts"), 0);
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), first.token);
}

static void another_body_is_a_conflict_and_the_first_stays(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct delivery other = delivery_again(bench, &d, "{\"event_id\":\"other\"}");
    struct store_claim first = claim_new(bench), second = claim_new(bench);
    claim_one(bench->a, &first, &d);
    assert_int_equal(claim_one(bench->b, &second, &other), CLAIM_CONFLICT);
    assert_int_equal(claim_one(bench->b, &second, &other), CLAIM_CONFLICT);
    assert_int_equal(number_at(bench, "events", d.key, "conflicts"), 1);
    assert_int_equal(number_at(bench, "events", d.key, "duplicates"), 0);
    assert_string_equal(text_at(bench, "events", d.key, "body"), d.event.body.base);
}

static void duplicates_of_a_finished_event_are_duplicates(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench)), again = delivery_again(bench, &d, NULL);
    struct store_claim first = claim_new(bench), second = claim_new(bench);
    claim_one(bench->a, &first, &d);
    ran_well(&d);
    commit_one(bench->a, &first, &d);
    assert_int_equal(claim_one(bench->b, &second, &again), CLAIM_DUPLICATE);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
}

static void one_batch_may_hold_one_identity_many_times(void **state)
{
    enum { N = 50 };
    struct bench *bench = *state;
    struct delivery batch[N];
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    batch[0] = delivery_new(bench, new_id(bench));
    for (size_t i = 1; i < N; i++)
        batch[i] = delivery_again(bench, &batch[0], i % 10 == 0 ? "{\"other\":1}" : NULL);
    assert_int_equal(store_claim(bench->a, &claim, batch, N, &err), STORE_OK);
    assert_int_equal(batch[0].claim, CLAIM_WON);
    for (size_t i = 1; i < N; i++)
        assert_int_equal(batch[i].claim, i % 10 == 0 ? CLAIM_CONFLICT : CLAIM_DUPLICATE);
    assert_int_equal(number_at(bench, "events", batch[0].key, "duplicates"), 45);
    assert_int_equal(number_at(bench, "events", batch[0].key, "conflicts"), 4);
    assert_int_equal(store_claim(bench->a, &claim, batch, N, &err), STORE_OK);
    assert_int_equal(batch[0].claim, CLAIM_WON);
    assert_int_equal(number_at(bench, "events", batch[0].key, "duplicates"), 45);
    assert_int_equal(length_at(bench, "events", batch[0].key, "seen_ingest_ids"), 49);
}

static void one_batch_may_hold_two_entries_of_one_submission(void **state)
{
    struct bench *bench = *state;
    struct delivery first = delivery_new(bench, new_id(bench));
    struct delivery batch[] = {first, delivery_retry(bench, &first, 1)};
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    assert_int_equal(store_claim(bench->a, &claim, batch, 2, &err), STORE_OK);
    assert_int_equal(batch[0].claim, CLAIM_WON);
    assert_int_equal(batch[1].claim, CLAIM_HELD);
}

static void what_is_finished_is_told_with_its_publishes(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_well(&d);
    add_publish(bench, &d, "shipped", "{\"id\":1}");
    commit_one(bench->a, &claim, &d);
    struct delivery again = delivery_redelivered(bench, &d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_FINISHED);
    assert_false(again.finished_dead);
    assert_int_equal(again.outcome.n_publishes, 1);
    assert_true(slice_is(again.outcome.publishes[0].topic, "shipped"));
    assert_true(slice_is(again.outcome.publishes[0].payload, "{\"id\":1}"));
}

static void what_is_dead_is_told_with_its_reason(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_badly(&d, DECISION_DEAD, 0, "permanent");
    commit_one(bench->a, &claim, &d);
    struct delivery again = delivery_redelivered(bench, &d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_FINISHED);
    assert_true(again.finished_dead);
    assert_true(slice_is(again.retry.reason, "permanent"));
}

static void an_entry_for_an_earlier_attempt_waits(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_badly(&d, DECISION_RETRY, 60000, "");
    commit_one(bench->a, &claim, &d);
    struct delivery again = delivery_redelivered(bench, &d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_WAITING);
    assert_int_equal(again.next_attempt, 2);
    assert_in_range(again.wait_ms, 50000, 60000);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "retry_wait");
}

static void the_entry_for_its_attempt_is_claimed(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_badly(&d, DECISION_RETRY, 0, "");
    commit_one(bench->a, &claim, &d);
    struct delivery retry = delivery_retry(bench, &d, 2);
    assert_int_equal(claim_one(bench->b, &later, &retry), CLAIM_WON);
    assert_int_equal(retry.attempt, 2);
    assert_int_equal(retry.failures, 1);
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), later.token);
    assert_false(exists_at(bench, "events", d.key, "next_attempt"));
}

static void the_same_entry_is_taken_over(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    struct delivery again = delivery_redelivered(bench, &d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_WON);
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), later.token);
    assert_string_equal(text_at(bench, "events", d.key, "claim.worker"), "worker-b");
}

static void another_entry_finds_it_held_until_the_lease_is_over(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct delivery other = delivery_retry(bench, &d, 1);
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    assert_int_equal(claim_one(bench->b, &later, &other), CLAIM_HELD);
    change(bench, "events", d.key, "{\"$set\":{\"claim.at\":{\"$date\":{\"$numberLong\":\"1000\"}}}}");
    assert_int_equal(claim_one(bench->b, &later, &other), CLAIM_WON);
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), later.token);
}

static void what_has_vanished_is_inserted(void **state)
{
    struct bench *bench = *state;
    struct delivery first = delivery_new(bench, new_id(bench));
    struct delivery retry = delivery_retry(bench, &first, 4);
    struct store_claim claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &claim, &retry), CLAIM_WON);
    assert_int_equal(retry.attempt, 4);
    assert_int_equal(number_at(bench, "events", first.key, "attempt"), 3);
}

static void a_released_claim_is_free_at_once(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct delivery other = delivery_retry(bench, &d, 1);
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    struct error err = {{0}};
    claim_one(bench->a, &claim, &d);
    assert_int_equal(store_release(bench->a, &claim, &d, 1, &err), STORE_OK);
    assert_int_equal(d.claim, CLAIM_NONE);
    assert_int_equal(claim_one(bench->b, &later, &other), CLAIM_WON);
    assert_int_equal(other.attempt, 1);
}

static void a_release_does_not_touch_what_others_have(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench)), again = delivery_redelivered(bench, &d);
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    struct error err = {{0}};
    claim_one(bench->a, &claim, &d);
    claim_one(bench->b, &later, &again);
    assert_int_equal(store_release(bench->a, &claim, &d, 1, &err), STORE_OK);
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), later.token);
}

static void malformed_and_lost_deliveries_are_left_alone(void **state)
{
    struct bench *bench = *state;
    struct delivery batch[] = {delivery_new(bench, new_id(bench)), delivery_new(bench, new_id(bench)),
                               delivery_new(bench, new_id(bench))};
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    batch[0].malformed = SLICE_LITERAL("no source");
    batch[1].lost = true;
    assert_int_equal(store_claim(bench->a, &claim, batch, 3, &err), STORE_OK);
    assert_int_equal(batch[0].claim, CLAIM_NONE);
    assert_int_equal(batch[1].claim, CLAIM_HELD);
    assert_int_equal(batch[2].claim, CLAIM_WON);
    assert_null(document(bench, "events", batch[0].key));
    assert_null(document(bench, "events", batch[1].key));
}

/* --- many at once ------------------------------------------------------------------------------------------------ */

enum { RACERS = 30 };

struct racer {
    struct store *store;
    struct store_claim claim;
    struct delivery delivery;
    struct arena *arena;
    pthread_barrier_t *start;
    enum store_result result;
};

static void *race(void *arg)
{
    struct racer *racer = arg;
    struct error err;
    struct store_client *client = store_client_new(racer->store);
    pthread_barrier_wait(racer->start);
    racer->result = store_claim(client, &racer->claim, &racer->delivery, 1, &err);
    store_client_free(client);
    return NULL;
}

static void run_race(struct racer *racers, pthread_barrier_t *start)
{
    pthread_t threads[RACERS];
    pthread_barrier_init(start, NULL, RACERS);
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(start);
}

static size_t count_claims(const struct racer *racers, enum claim_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < RACERS; i++)
        n += racers[i].result == STORE_OK && racers[i].delivery.claim == state;
    return n;
}

static void prepare_race(struct bench *bench, struct racer *racers, pthread_barrier_t *start)
{
    for (size_t i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.store = bench->stores[i % 2], .claim = claim_new(bench), .start = start};
        racers[i].arena = racers[i].claim.arena = arena_new();
    }
}

static void free_race(struct racer *racers)
{
    for (size_t i = 0; i < RACERS; i++)
        arena_free(racers[i].arena);
}

static void of_thirty_submissions_at_once_one_wins(void **state)
{
    struct bench *bench = *state;
    struct racer racers[RACERS];
    pthread_barrier_t start;
    struct delivery first = delivery_new(bench, new_id(bench));
    prepare_race(bench, racers, &start);
    for (size_t i = 0; i < RACERS; i++)
        racers[i].delivery = delivery_again(bench, &first, NULL);
    run_race(racers, &start);
    assert_int_equal(count_claims(racers, CLAIM_WON), 1);
    assert_int_equal(count_claims(racers, CLAIM_DUPLICATE), RACERS - 1);
    assert_int_equal(number_at(bench, "events", first.key, "duplicates"), RACERS - 1);
    free_race(racers);
}

static void of_thirty_that_take_over_at_once_one_wins_last(void **state)
{
    struct bench *bench = *state;
    struct racer racers[RACERS];
    pthread_barrier_t start;
    struct delivery first = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    claim_one(bench->a, &claim, &first);
    ran_badly(&first, DECISION_RETRY, 0, "");
    commit_one(bench->a, &claim, &first);
    prepare_race(bench, racers, &start);
    for (size_t i = 0; i < RACERS; i++)
        racers[i].delivery = delivery_retry(bench, &first, 2);
    run_race(racers, &start);
    assert_int_equal(count_claims(racers, CLAIM_WON), 1);
    assert_int_equal(count_claims(racers, CLAIM_HELD), RACERS - 1);
    free_race(racers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_event_is_ours),
        cmocka_unit_test(bytes_that_are_no_text_are_kept),
        cmocka_unit_test(our_own_token_is_ours_again),
        cmocka_unit_test(another_submission_is_a_duplicate_counted_once),
        cmocka_unit_test(another_body_is_a_conflict_and_the_first_stays),
        cmocka_unit_test(duplicates_of_a_finished_event_are_duplicates),
        cmocka_unit_test(one_batch_may_hold_one_identity_many_times),
        cmocka_unit_test(one_batch_may_hold_two_entries_of_one_submission),
        cmocka_unit_test(what_is_finished_is_told_with_its_publishes),
        cmocka_unit_test(what_is_dead_is_told_with_its_reason),
        cmocka_unit_test(an_entry_for_an_earlier_attempt_waits),
        cmocka_unit_test(the_entry_for_its_attempt_is_claimed),
        cmocka_unit_test(the_same_entry_is_taken_over),
        cmocka_unit_test(another_entry_finds_it_held_until_the_lease_is_over),
        cmocka_unit_test(what_has_vanished_is_inserted),
        cmocka_unit_test(a_released_claim_is_free_at_once),
        cmocka_unit_test(a_release_does_not_touch_what_others_have),
        cmocka_unit_test(malformed_and_lost_deliveries_are_left_alone),
        cmocka_unit_test(of_thirty_submissions_at_once_one_wins),
        cmocka_unit_test(of_thirty_that_take_over_at_once_one_wins_last),
    };
    return cmocka_run_group_tests_name("store: claim", tests, bench_setup, bench_teardown);
}
