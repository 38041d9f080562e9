/* Step 4b: the writes of scripts, once per event; decisions that an owner leaves behind; writes that are refused. */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>

static struct delivery ran_once(struct bench *bench, struct store_claim *claim)
{
    struct delivery d = delivery_new(bench, new_id(bench));
    *claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, claim, &d), CLAIM_WON);
    ran_well(&d);
    return d;
}

static void a_write_is_applied_with_the_event(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = ran_once(bench, &claim);
    add_write(bench, &d, "parcels", "w1",
              "{\"$set\":{\"status\":\"delivered\"},\"$push\":{\"timeline\":{\"t\":1}},\"$inc\":{\"n\":1}}");
    add_publish(bench, &d, "shipped", "{}");
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_string_equal(text_at(bench, "parcels", slice_of("w1"), "status"), "delivered");
    assert_int_equal(number_at(bench, "parcels", slice_of("w1"), "n"), 1);
    assert_int_equal(length_at(bench, "parcels", slice_of("w1"), "timeline"), 1);
    assert_string_equal(text_at(bench, "parcels", slice_of("w1"), "applied.0"), d.key.base);
    assert_int_equal(number_at(bench, "events", d.key, "outcome.writes"), 1);
    assert_string_equal(text_at(bench, "events", d.key, "outcome.publishes.0.topic"), "shipped");
    assert_false(exists_at(bench, "events", d.key, "decision"));
}

static void applying_again_changes_nothing(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = ran_once(bench, &claim);
    add_write(bench, &d, "parcels", "w2", "{\"$inc\":{\"n\":1}}");
    commit_one(bench->a, &claim, &d);
    /* As if all after the effects had been lost: the document is ours again, with its decision. */
    change(bench, "events", d.key,
           "{\"$set\":{\"status\":\"processing\"},\"$unset\":{\"commit\":\"\",\"attempts\":\"\"}}");
    char update[256];
    snprintf(update, sizeof(update), "{\"$set\":{\"claim\":{\"token\":\"%s\",\"entry_id\":\"x\"}}}", claim.token);
    change(bench, "events", d.key, update);
    d.committed = false;
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_int_equal(number_at(bench, "parcels", slice_of("w2"), "n"), 1);
    assert_int_equal(length_at(bench, "parcels", slice_of("w2"), "applied"), 1);
}

static void several_events_may_write_to_one_document(void **state)
{
    enum { N = 12 };
    struct bench *bench = *state;
    struct delivery batch[N];
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    for (size_t i = 0; i < N; i++)
        batch[i] = delivery_new(bench, new_id(bench));
    assert_int_equal(store_claim(bench->a, &claim, batch, N, &err), STORE_OK);
    for (size_t i = 0; i < N; i++) {
        ran_well(&batch[i]);
        add_write(bench, &batch[i], i % 2 == 0 ? "parcels" : "depots", "shared", "{\"$inc\":{\"n\":1}}");
    }
    assert_int_equal(store_commit(bench->a, &claim, batch, N, &err), STORE_OK);
    assert_int_equal(number_at(bench, "parcels", slice_of("shared"), "n"), N / 2);
    assert_int_equal(number_at(bench, "depots", slice_of("shared"), "n"), N / 2);
}

static void one_event_may_write_to_one_document_twice_in_order(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = ran_once(bench, &claim);
    add_write(bench, &d, "parcels", "w3", "{\"$set\":{\"step\":1},\"$inc\":{\"n\":1}}");
    add_write(bench, &d, "parcels", "w4", "{\"$inc\":{\"n\":1}}");
    add_write(bench, &d, "parcels", "w3", "{\"$set\":{\"step\":2},\"$inc\":{\"n\":1}}");
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_int_equal(number_at(bench, "parcels", slice_of("w3"), "n"), 2);
    assert_int_equal(number_at(bench, "parcels", slice_of("w3"), "step"), 2);
    assert_int_equal(length_at(bench, "parcels", slice_of("w3"), "applied"), 2);
}

static void check_refused(struct bench *bench, const char *collection, const char *id, const char *update,
                          const char *said)
{
    struct store_claim claim;
    struct delivery d = ran_once(bench, &claim);
    add_write(bench, &d, collection, id, update);
    add_publish(bench, &d, "shipped", "{}");
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    assert_int_equal(d.decision, DECISION_DEAD);
    assert_true(slice_is(d.retry.reason, "write_refused"));
    assert_int_equal(d.failures, 1);
    assert_int_equal(d.outcome.n_publishes, 0);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "dead");
    assert_string_equal(text_at(bench, "events", d.key, "reason"), "write_refused");
    assert_string_equal(text_at(bench, "dead_letters", d.key, "error.kind"), "write_refused");
    assert_string_equal(text_at(bench, "dead_letters", d.key, "attempts.0.outcome"), "permanent");
    if (strstr(text_at(bench, "dead_letters", d.key, "error.message"), said) == NULL)
        fail_msg("'%s' does not say '%s'", text_at(bench, "dead_letters", d.key, "error.message"), said);
}

static void what_cannot_be_written_kills_and_says_why(void **state)
{
    struct bench *bench = *state;
    check_refused(bench, "refusals", "r", "{\"status\":1}", "not an update operator");
    check_refused(bench, "refusals", "r", "{\"$set\":5}", "needs an object");
    check_refused(bench, "refusals", "r", "not json", "not Extended JSON");
    check_refused(bench, "refusals", "r", "", "not Extended JSON");
    check_refused(bench, "refusals", "r", "{\"$frobnicate\":{\"a\":1}}", "refusals/r");
    check_refused(bench, "refusals", "r", "{\"$set\":{\"_id\":\"other\"}}", "_id");
    check_refused(bench, "refusals", "r", "{\"$push\":{\"applied\":1}}", "own field");
    check_refused(bench, "refusals", "r", "{\"$set\":{\"applied\":[]}}", "applied");
    check_refused(bench, "refusals", "", "{\"$set\":{\"a\":1}}", "id must be");
    check_refused(bench, "refusals", "\xff", "{\"$set\":{\"a\":1}}", "id must be");
    check_refused(bench, "events", "r", "{\"$set\":{\"a\":1}}", "gateway's own");
    check_refused(bench, "dead_letters", "r", "{\"$set\":{\"a\":1}}", "gateway's own");
    check_refused(bench, "system.users", "r", "{\"$set\":{\"a\":1}}", "not a name");
    check_refused(bench, "a$b", "r", "{\"$set\":{\"a\":1}}", "not a name");
    check_refused(bench, "", "r", "{\"$set\":{\"a\":1}}", "not a name");
    assert_int_equal(count(bench, "refusals", "{}"), 0);
}

static void a_document_of_another_shape_refuses(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = ran_once(bench, &claim);
    add_write(bench, &d, "parcels", "w5", "{\"$set\":{\"n\":\"text\"}}");
    commit_one(bench->a, &claim, &d);
    check_refused(bench, "parcels", "w5", "{\"$inc\":{\"n\":1}}", "w5");
    assert_int_equal(length_at(bench, "parcels", slice_of("w5"), "applied"), 1);
}

static void neighbours_of_a_refused_write_are_committed(void **state)
{
    struct bench *bench = *state;
    struct delivery batch[] = {delivery_new(bench, new_id(bench)), delivery_new(bench, new_id(bench)),
                               delivery_new(bench, new_id(bench))};
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    assert_int_equal(store_claim(bench->a, &claim, batch, 3, &err), STORE_OK);
    for (size_t i = 0; i < 3; i++) {
        ran_well(&batch[i]);
        add_write(bench, &batch[i], "neighbours", "n", i == 1 ? "{\"$inc\":{\"_id\":1}}" : "{\"$inc\":{\"n\":1}}");
    }
    assert_int_equal(store_commit(bench->a, &claim, batch, 3, &err), STORE_OK);
    assert_int_equal(number_at(bench, "neighbours", slice_of("n"), "n"), 2);
    assert_string_equal(text_at(bench, "events", batch[0].key, "status"), "succeeded");
    assert_string_equal(text_at(bench, "events", batch[1].key, "status"), "dead");
    assert_string_equal(text_at(bench, "events", batch[2].key, "status"), "succeeded");
}

static void make_unique(struct bench *bench, const char *collection, const char *field)
{
    char text[256];
    bson_error_t error = {0};
    snprintf(text, sizeof(text),
             "{\"createIndexes\":\"%s\",\"indexes\":[{\"key\":{\"%s\":1},\"name\":\"u\",\"unique\":true}]}", collection,
             field);
    bson_t *command = bson_new_from_json((const uint8_t *)text, -1, &error);
    if (!mongoc_client_command_simple(bench->raw, bench->database, command, NULL, NULL, &error))
        fail_msg("createIndexes: %s", error.message);
    bson_destroy(command);
}

static void another_unique_index_is_a_refusal_not_a_repetition(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    make_unique(bench, "labels", "label");
    struct delivery d = ran_once(bench, &claim);
    add_write(bench, &d, "labels", "l1", "{\"$set\":{\"label\":\"L\"}}");
    commit_one(bench->a, &claim, &d);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
    check_refused(bench, "labels", "l2", "{\"$set\":{\"label\":\"L\"}}", "E11000");
    assert_null(document(bench, "labels", slice_of("l2")));
}

static void effects_that_are_too_large_are_refused(void **state)
{
    enum { SIZE = 5 << 20 };
    struct bench *bench = *state;
    char *update = memory_alloc(SIZE + 64);
    strcpy(update, "{\"$set\":{\"text\":\"");
    memset(update + strlen(update), 'x', SIZE);
    strcat(update, "\"}}");
    check_refused(bench, "large", "l", update, "4 MiB");
    free(update);
}

/* --- an owner that dies between the steps ----------------------------------------------------------------------- */

/* The n-th update of a commit and all later ones break the connection: the owner died just before it. */
static void die_before_update(struct bench *bench, int nth, const struct store_claim *claim, struct delivery *d)
{
    char mode[32];
    struct error err = {{0}};
    snprintf(mode, sizeof(mode), "{\"skip\":%d}", nth - 1);
    fail_commands(bench, mode, "\"failCommands\":[\"update\"],\"closeConnection\":true");
    enum store_result result = store_commit(bench->a, claim, d, 1, &err);
    fail_no_more(bench);
    assert_int_equal(result, STORE_UNAVAILABLE);
    assert_false(d->committed);
    assert_false(d->lost);
}

static struct delivery with_effects(struct bench *bench, struct store_claim *claim, const char *target)
{
    struct delivery d = ran_once(bench, claim);
    add_write(bench, &d, "taken", target, "{\"$inc\":{\"n\":1},\"$set\":{\"by\":\"first run\"}}");
    add_publish(bench, &d, "shipped", "{\"n\":1}");
    return d;
}

/* The next owner finds the decision, and finishes it: as a worker that knows nothing else. */
static void finish_as_b(struct bench *bench, const struct delivery *d)
{
    struct store_claim later = claim_new(bench);
    struct delivery again = delivery_redelivered(bench, d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_DECIDED);
    assert_int_equal(again.attempt, d->attempt);
    assert_int_equal(again.decision, d->decision);
    assert_int_equal(again.failures, d->failures);
    assert_int_equal(again.outcome.n_writes, d->outcome.n_writes);
    assert_int_equal(again.outcome.n_publishes, d->outcome.n_publishes);
    assert_true(slice_equal(again.outcome.result, d->outcome.result));
    assert_true(slice_equal(again.outcome.message, d->outcome.message));
    assert_int_equal(again.started_at.ms, d->started_at.ms);
    assert_int_equal(again.ended_at.ms, d->ended_at.ms);
    commit_one(bench->b, &later, &again);
    assert_true(again.committed);
    assert_int_equal(length_at(bench, "events", d->key, "attempts"), 1);
    assert_string_equal(text_at(bench, "events", d->key, "attempts.0.worker"), "worker-a");
    assert_false(exists_at(bench, "events", d->key, "decision"));
}

/* The first owner wakes up. */
static void check_zombie(struct bench *bench, const struct store_claim *claim, struct delivery *d)
{
    commit_one(bench->a, claim, d);
    assert_true(d->lost);
    assert_false(d->committed);
    assert_int_equal(length_at(bench, "events", d->key, "attempts"), 1);
}

static void death_before_the_decision_runs_again(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim, later = claim_new(bench);
    struct delivery d = with_effects(bench, &claim, "t1");
    die_before_update(bench, 1, &claim, &d);
    assert_null(document(bench, "taken", slice_of("t1")));
    struct delivery again = delivery_redelivered(bench, &d);
    assert_int_equal(claim_one(bench->b, &later, &again), CLAIM_WON);
    assert_int_equal(again.attempt, 1);
    commit_one(bench->a, &claim, &d);
    assert_true(d.lost);
    assert_null(document(bench, "taken", slice_of("t1")));
}

static void death_after_the_decision_is_finished_by_the_next(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = with_effects(bench, &claim, "t2");
    die_before_update(bench, 2, &claim, &d);
    assert_true(exists_at(bench, "events", d.key, "decision"));
    assert_null(document(bench, "taken", slice_of("t2")));
    finish_as_b(bench, &d);
    assert_int_equal(number_at(bench, "taken", slice_of("t2"), "n"), 1);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
    assert_string_equal(text_at(bench, "events", d.key, "outcome.result.parcel"), "P1");
    check_zombie(bench, &claim, &d);
    assert_int_equal(number_at(bench, "taken", slice_of("t2"), "n"), 1);
}

static void death_after_the_effects_is_finished_by_the_next(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = with_effects(bench, &claim, "t3");
    die_before_update(bench, 3, &claim, &d);
    assert_int_equal(number_at(bench, "taken", slice_of("t3"), "n"), 1);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "processing");
    finish_as_b(bench, &d);
    assert_int_equal(number_at(bench, "taken", slice_of("t3"), "n"), 1);
    check_zombie(bench, &claim, &d);
    assert_int_equal(number_at(bench, "taken", slice_of("t3"), "n"), 1);
}

static void death_before_the_letter_is_finished_by_the_next(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    for (int nth = 2; nth <= 3; nth++) {
        struct delivery d = ran_once(bench, &claim);
        ran_badly(&d, DECISION_DEAD, 0, "permanent");
        die_before_update(bench, nth, &claim, &d);
        finish_as_b(bench, &d);
        assert_string_equal(text_at(bench, "events", d.key, "status"), "dead");
        assert_string_equal(text_at(bench, "dead_letters", d.key, "reason"), "permanent");
        assert_int_equal(number_at(bench, "dead_letters", d.key, "deaths"), 1);
        assert_int_equal(length_at(bench, "dead_letters", d.key, "attempts"), 1);
        check_zombie(bench, &claim, &d);
        assert_int_equal(number_at(bench, "dead_letters", d.key, "deaths"), 1);
    }
}

static void the_owner_itself_may_repeat_after_each_break(void **state)
{
    struct bench *bench = *state;
    for (int nth = 1; nth <= 3; nth++) {
        struct store_claim claim;
        struct delivery d = with_effects(bench, &claim, nth == 1 ? "o1" : nth == 2 ? "o2" : "o3");
        die_before_update(bench, nth, &claim, &d);
        commit_one(bench->a, &claim, &d);
        assert_true(d.committed);
        assert_int_equal(length_at(bench, "events", d.key, "attempts"), 1);
        assert_int_equal(number_at(bench, "taken", d.outcome.writes[0].id, "n"), 1);
    }
}

struct takeover {
    struct store_client *client;
    struct store_claim claim;
    struct delivery delivery;
    enum store_result result;
};

static void *take_over(void *arg)
{
    struct takeover *takeover = arg;
    struct error err;
    takeover->result = store_claim(takeover->client, &takeover->claim, &takeover->delivery, 1, &err);
    return NULL;
}

/* The old owner stores its decision between the next one's read and its update, which is held up meanwhile. (Were the
 * read still under way when it does, the test would be weaker, not wrong.) */
static void a_decision_that_comes_while_taking_over_is_not_missed(void **state)
{
    struct bench *bench = *state;
    struct store_claim claim;
    struct delivery d = with_effects(bench, &claim, "t4");
    struct store *store = patient_store(bench, "patient");
    struct takeover takeover = {
        .client = store_client_new(store), .claim = claim_new(bench), .delivery = delivery_redelivered(bench, &d)};
    pthread_t thread;
    takeover.claim.arena = arena_new();
    fail_commands_of(bench, "patient", "{\"times\":1}",
                     "\"failCommands\":[\"update\"],\"blockConnection\":true,\"blockTimeMS\":1500");
    assert_int_equal(pthread_create(&thread, NULL, take_over, &takeover), 0);
    clock_sleep_ms(300);
    change(bench, "events", d.key, "{\"$set\":{\"decision\":{\"kind\":\"dead\",\"reason\":\"just now\"}}}");
    assert_string_equal(text_at(bench, "events", d.key, "claim.token"), claim.token);
    pthread_join(thread, NULL);
    assert_int_equal(takeover.result, STORE_OK);
    assert_int_equal(takeover.delivery.claim, CLAIM_DECIDED);
    assert_int_equal(takeover.delivery.decision, DECISION_DEAD);
    assert_true(slice_is(takeover.delivery.retry.reason, "just now"));
    arena_free(takeover.claim.arena);
    store_client_free(takeover.client);
    store_close(store);
}

enum { WRITERS = 8, ROUNDS = 8 };

struct writer {
    struct store *store;
    struct store_claim claim;
    struct delivery delivery;
    pthread_barrier_t *start;
    enum store_result result;
};

static void *write_at_once(void *arg)
{
    struct writer *writer = arg;
    struct error err;
    struct store_client *client = store_client_new(writer->store);
    pthread_barrier_wait(writer->start);
    writer->result = store_commit(client, &writer->claim, &writer->delivery, 1, &err);
    store_client_free(client);
    return NULL;
}

/* Each makes the document when it sees none: all but one meet a duplicate key that does not mean "applied already". */
static void writers_that_make_one_document_at_once_all_apply(void **state)
{
    struct bench *bench = *state;
    for (int round = 0; round < ROUNDS; round++) {
        struct writer writers[WRITERS];
        pthread_t threads[WRITERS];
        pthread_barrier_t start;
        const char *target = new_id(bench);
        pthread_barrier_init(&start, NULL, WRITERS);
        for (size_t i = 0; i < WRITERS; i++) {
            writers[i] = (struct writer){.store = bench->stores[0], .start = &start};
            writers[i].delivery = ran_once(bench, &writers[i].claim);
            writers[i].claim.arena = arena_new();
            add_write(bench, &writers[i].delivery, "crowded", target, "{\"$inc\":{\"n\":1}}");
        }
        for (size_t i = 0; i < WRITERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, write_at_once, &writers[i]), 0);
        for (size_t i = 0; i < WRITERS; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(writers[i].result, STORE_OK);
            assert_int_equal(writers[i].delivery.decision, DECISION_SUCCEED);
            arena_free(writers[i].claim.arena);
        }
        pthread_barrier_destroy(&start);
        assert_int_equal(number_at(bench, "crowded", slice_of(target), "n"), WRITERS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_is_applied_with_the_event),
        cmocka_unit_test(applying_again_changes_nothing),
        cmocka_unit_test(several_events_may_write_to_one_document),
        cmocka_unit_test(one_event_may_write_to_one_document_twice_in_order),
        cmocka_unit_test(what_cannot_be_written_kills_and_says_why),
        cmocka_unit_test(a_document_of_another_shape_refuses),
        cmocka_unit_test(neighbours_of_a_refused_write_are_committed),
        cmocka_unit_test(another_unique_index_is_a_refusal_not_a_repetition),
        cmocka_unit_test(effects_that_are_too_large_are_refused),
        cmocka_unit_test(death_before_the_decision_runs_again),
        cmocka_unit_test(death_after_the_decision_is_finished_by_the_next),
        cmocka_unit_test(death_after_the_effects_is_finished_by_the_next),
        cmocka_unit_test(death_before_the_letter_is_finished_by_the_next),
        cmocka_unit_test(the_owner_itself_may_repeat_after_each_break),
        cmocka_unit_test(writers_that_make_one_document_at_once_all_apply),
        cmocka_unit_test(a_decision_that_comes_while_taking_over_is_not_missed),
    };
    return cmocka_run_group_tests_name("store: writes", tests, bench_setup, bench_teardown);
}
