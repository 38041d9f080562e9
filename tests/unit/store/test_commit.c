/* Step 4 of the protocol: attempts recorded, statuses set, and only by the owner. */
#include "bench.h"

static struct delivery claimed(struct bench *bench, struct store_claim *claim)
{
    struct delivery d = delivery_new(bench, new_id(bench));
    *claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, claim, &d), CLAIM_WON);
    return d;
}

static void a_success_is_recorded(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    ran_well(&d);
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_false(d.lost);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
    assert_string_equal(text_at(bench, "events", d.key, "outcome.result.parcel"), "P1");
    assert_int_equal(number_at(bench, "events", d.key, "outcome.result.n"), 3);
    assert_int_equal(number_at(bench, "events", d.key, "attempt"), 1);
    assert_int_equal(length_at(bench, "events", d.key, "attempts"), 1);
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.number"), 1);
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.duration_ms"), 7);
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.outcome"), "success");
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.worker"), "worker-a");
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.script_hash"), "hash-1");
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.charged"), 0);
    assert_true(number_at(bench, "events", d.key, "resolved_at") > 0);
    assert_false(exists_at(bench, "events", d.key, "claim"));
    assert_false(exists_at(bench, "events", d.key, "decision"));
}

static void odd_results_are_kept_as_text_or_value(void **state)
{
    struct bench *bench = *state;
    static const char *const results[] = {"null", "\"done\"", "[1,2]", "{\"$oid\":5}", ""};
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        struct store_claim claim;
        struct delivery d = claimed(bench, &claim);
        ran_well(&d);
        d.outcome.result = slice_of(results[i]);
        commit_one(bench->a, &claim, &d);
        assert_true(d.committed);
        assert_true(exists_at(bench, "events", d.key, "outcome.result"));
        if (i == 1)
            assert_string_equal(text_at(bench, "events", d.key, "outcome.result"), "done");
        if (i == 3)
            assert_string_equal(text_at(bench, "events", d.key, "outcome.result"), "{\"$oid\":5}");
    }
}

static void a_failure_waits_for_its_next_attempt(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    ran_badly(&d, DECISION_RETRY, 1500, "");
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "retry_wait");
    assert_int_equal(number_at(bench, "events", d.key, "next_attempt"), 2);
    assert_int_equal(number_at(bench, "events", d.key, "next_attempt_at"), d.ended_at.ms + 1500);
    assert_int_equal(number_at(bench, "events", d.key, "failures"), 1);
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.outcome"), "transient");
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.error_kind"), "depot_away");
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.decision"), "retry");
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.charged"), 1);
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.delay_ms"), 1500);
}

static void a_snooze_is_recorded_and_not_charged(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    ran_badly(&d, DECISION_SNOOZE, 0, "");
    d.outcome.retry_after_ms = 900;
    commit_one(bench->a, &claim, &d);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "retry_wait");
    assert_int_equal(number_at(bench, "events", d.key, "next_attempt"), 2);
    assert_int_equal(number_at(bench, "events", d.key, "next_attempt_at"), d.ended_at.ms + 900);
    assert_int_equal(number_at(bench, "events", d.key, "failures"), 0);
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.charged"), 0);
}

static void attempts_are_numbered_without_gaps_and_kept_to_a_hundred(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    struct slice key = d.key;
    for (uint32_t attempt = 1; attempt <= 105; attempt++) {
        assert_int_equal(d.attempt, attempt);
        ran_badly(&d, DECISION_RETRY, 0, "");
        commit_one(bench->a, &claim, &d);
        d = delivery_retry(bench, &d, attempt + 1);
        claim = claim_new(bench);
        assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
        assert_int_equal(d.failures, attempt);
    }
    assert_int_equal(number_at(bench, "events", key, "attempt"), 105);
    assert_int_equal(length_at(bench, "events", key, "attempts"), 100);
    assert_int_equal(number_at(bench, "events", key, "attempts.0.number"), 6);
    assert_int_equal(number_at(bench, "events", key, "attempts.99.number"), 105);
}

static void words_that_are_no_utf8_do_not_stop_a_commit(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    ran_badly(&d, DECISION_RETRY, 0, "");
    d.outcome.message = SLICE_LITERAL("bad \xff\xc3 byte");
    d.outcome.error_kind = SLICE_LITERAL("\xed\xa0\x80");
    commit_one(bench->a, &claim, &d);
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.message"), "bad \xEF\xBF\xBD\xEF\xBF\xBD byte");
}

static void a_batch_of_all_kinds_is_committed(void **state)
{
    enum { N = 64 };
    struct bench *bench = *state;
    struct delivery batch[N];
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    for (size_t i = 0; i < N; i++)
        batch[i] = delivery_new(bench, new_id(bench));
    assert_int_equal(store_claim(bench->a, &claim, batch, N, &err), STORE_OK);
    for (size_t i = 0; i < N; i++) {
        if (i % 4 == 0)
            ran_well(&batch[i]);
        else if (i % 4 == 3)
            continue; /* not run: a stop came */
        else
            ran_badly(&batch[i], i % 4 == 1 ? DECISION_RETRY : DECISION_DEAD, 10, "permanent");
    }
    assert_int_equal(store_commit(bench->a, &claim, batch, N, &err), STORE_OK);
    static const char *const statuses[] = {"succeeded", "retry_wait", "dead", "processing"};
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(batch[i].committed, i % 4 != 3);
        assert_string_equal(text_at(bench, "events", batch[i].key, "status"), statuses[i % 4]);
    }
}

static void committing_again_changes_nothing(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    ran_well(&d);
    commit_one(bench->a, &claim, &d);
    d.committed = false; /* as if the answer had been lost */
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_false(d.lost);
    assert_int_equal(length_at(bench, "events", d.key, "attempts"), 1);
}

static void who_lost_the_token_changes_and_applies_nothing(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim, later = claim_new(bench);
    struct delivery d = claimed(bench, &claim);
    struct delivery again = delivery_redelivered(bench, &d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_WON);
    ran_well(&d);
    add_write(bench, &d, "zombies", "z1", "{\"$set\":{\"by\":\"the dead\"}}");
    commit_one(bench->a, &claim, &d);
    assert_true(d.lost);
    assert_false(d.committed);
    assert_null(document(bench, "zombies", slice_of("z1")));
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), later.token);
    assert_false(exists_at(bench, "events", d.key, "decision"));
    ran_badly(&again, DECISION_RETRY, 0, "");
    commit_one(bench->b, &later, &again);
    assert_true(again.committed);
}

static void a_loser_among_winners_is_found(void **state)
{
    enum { N = 8 };
    struct bench *bench = *state;
    struct delivery batch[N];
    struct store_claim claim = claim_new(bench), later = claim_new(bench);
    struct error err = {{0}};
    for (size_t i = 0; i < N; i++)
        batch[i] = delivery_new(bench, new_id(bench));
    assert_int_equal(store_claim(bench->a, &claim, batch, N, &err), STORE_OK);
    struct delivery taken = delivery_redelivered(bench, &batch[5]);
    claim_one(bench->b, &later, &taken);
    for (size_t i = 0; i < N; i++)
        ran_well(&batch[i]);
    assert_int_equal(store_commit(bench->a, &claim, batch, N, &err), STORE_OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(batch[i].committed, i != 5);
        assert_int_equal(batch[i].lost, i == 5);
    }
}

static void a_zombie_dead_letter_is_not_written(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim, later = claim_new(bench);
    struct delivery d = claimed(bench, &claim);
    struct delivery again = delivery_redelivered(bench, &d);
    claim_one(bench->b, &later, &again);
    ran_badly(&d, DECISION_DEAD, 0, "permanent");
    commit_one(bench->a, &claim, &d);
    assert_true(d.lost);
    assert_null(document(bench, "dead_letters", d.key));
}

static void poison_is_dead_without_having_run(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = claimed(bench, &claim);
    d.decision = DECISION_DEAD;
    d.failures++;
    d.retry.reason = SLICE_LITERAL("poison");
    d.outcome =
        (struct outcome){.kind = OUTCOME_ERROR, .message = SLICE_LITERAL("delivered 5 times"), .retry_after_ms = -1};
    commit_one(bench->a, &claim, &d);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "dead");
    assert_string_equal(text_at(bench, "events", d.key, "reason"), "poison");
    assert_string_equal(text_at(bench, "events", d.key, "attempts.0.outcome"), "poison");
    assert_int_equal(number_at(bench, "events", d.key, "attempts.0.duration_ms"), 0);
    assert_true(number_at(bench, "events", d.key, "attempts.0.started_at") > 0);
    assert_string_equal(text_at(bench, "dead_letters", d.key, "reason"), "poison");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_success_is_recorded),
        cmocka_unit_test(odd_results_are_kept_as_text_or_value),
        cmocka_unit_test(a_failure_waits_for_its_next_attempt),
        cmocka_unit_test(a_snooze_is_recorded_and_not_charged),
        cmocka_unit_test(attempts_are_numbered_without_gaps_and_kept_to_a_hundred),
        cmocka_unit_test(words_that_are_no_utf8_do_not_stop_a_commit),
        cmocka_unit_test(a_batch_of_all_kinds_is_committed),
        cmocka_unit_test(committing_again_changes_nothing),
        cmocka_unit_test(who_lost_the_token_changes_and_applies_nothing),
        cmocka_unit_test(a_loser_among_winners_is_found),
        cmocka_unit_test(a_zombie_dead_letter_is_not_written),
        cmocka_unit_test(poison_is_dead_without_having_run),
    };
    return cmocka_run_group_tests_name("store: commit", tests, bench_setup, bench_teardown);
}
