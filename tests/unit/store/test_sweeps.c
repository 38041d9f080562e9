/* The reconciler and the retention. */
#include "bench.h"

#include <stdio.h>

enum { STALE_MS = 60000 };

struct catch
{
    struct bench *bench;
    struct event events[16];
    size_t n;
    bool refuse;
};

static bool take_note(void *arg, const struct event *event)
{
    struct catch *caught = arg;
    assert_true(caught->n < 16);
    struct event *copy = &caught->events[caught->n++];
    *copy = *event;
    copy->event_id = arena_copy(caught->bench->arena, event->event_id.base, event->event_id.len);
    copy->body = arena_copy(caught->bench->arena, event->body.base, event->body.len);
    return !caught->refuse;
}

static struct catch sweep_as(struct bench *bench, const char *epoch, bool refuse)
{
    struct catch caught = {.bench = bench, .refuse = refuse};
    struct slice epochs[] = {slice_of(epoch)};
    struct store_reconcile job = {.epochs = epochs,
                                  .partitions = 1,
                                  .lease_ms = LEASE_MS,
                                  .stale_ms = STALE_MS,
                                  .max = 16,
                                  .requeue = take_note,
                                  .arg = &caught};
    struct error err = {{0}};
    size_t found = 0;
    if (store_reconcile(bench->a, &job, &found, &err) != STORE_OK)
        fail_msg("store_reconcile: %s", err.text);
    assert_int_equal(found, caught.n);
    return caught;
}

static struct catch sweep(struct bench *bench, const char *epoch)
{
    return sweep_as(bench, epoch, false);
}

/* Each test begins with nothing unresolved. */
static int clear_events(void **state)
{
    struct bench *bench = *state;
    mongoc_collection_t *events = mongoc_client_get_collection(bench->raw, bench->database, "events");
    bson_t all = BSON_INITIALIZER;
    mongoc_collection_delete_many(events, &all, NULL, NULL, NULL);
    bson_destroy(&all);
    mongoc_collection_destroy(events);
    return 0;
}

static struct delivery processing(struct bench *bench)
{
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    return d;
}

static struct delivery waiting(struct bench *bench, int64_t delay_ms)
{
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_badly(&d, DECISION_RETRY, delay_ms, "");
    commit_one(bench->a, &claim, &d);
    return d;
}

static void age(struct bench *bench, const struct delivery *d, int64_t ms)
{
    char update[200];
    long long at = (long long)(clock_wall().ms - ms);
    snprintf(update, sizeof(update), "{\"$set\":{\"sweep_at\":{\"$date\":{\"$numberLong\":\"%lld\"}}}}", at);
    change(bench, "events", d->key, update);
}

static void what_is_in_hand_is_left_alone(void **state)
{
    struct bench *bench = *state;
    struct delivery d = processing(bench), done = processing(bench);
    (void)d;
    (void)done;
    waiting(bench, 0);
    clock_sleep_ms(2);
    assert_int_equal(sweep(bench, "epoch-1").n, 0);
}

static void a_new_epoch_brings_back_what_its_owner_left(void **state)
{
    struct bench *bench = *state;
    struct delivery d = processing(bench);
    assert_int_equal(sweep(bench, "epoch-2").n, 0); /* its owner may still be at it */
    age(bench, &d, LEASE_MS + 1);
    struct catch caught = sweep(bench, "epoch-2");
    assert_int_equal(caught.n, 1);
    assert_true(slice_equal(caught.events[0].event_id, d.event.event_id));
    assert_true(slice_equal(caught.events[0].body, d.event.body));
    assert_int_equal(caught.events[0].attempt, 1);
    assert_string_equal(text_at(bench, "events", d.key, "queue_epoch"), "epoch-2");
    assert_int_equal(sweep(bench, "epoch-2").n, 0);
    assert_int_equal(sweep(bench, "epoch-3").n, 1);
}

static void a_new_epoch_brings_back_what_is_due(void **state)
{
    struct bench *bench = *state;
    struct delivery due = waiting(bench, 0), later = waiting(bench, 50000);
    clock_sleep_ms(2);
    struct catch caught = sweep(bench, "epoch-2");
    assert_int_equal(caught.n, 1);
    assert_true(slice_equal(caught.events[0].event_id, due.event.event_id));
    assert_int_equal(caught.events[0].attempt, 2);
    assert_string_equal(text_at(bench, "events", later.key, "queue_epoch"), "epoch-1");
    assert_int_equal(sweep(bench, "epoch-2").n, 0);
}

static void what_nobody_touched_is_queued_once_in_a_while(void **state)
{
    struct bench *bench = *state;
    struct delivery a = processing(bench), b = waiting(bench, 0), c = waiting(bench, 0);
    age(bench, &a, STALE_MS + 1000);
    age(bench, &b, STALE_MS + 1000);
    age(bench, &c, STALE_MS - 10000);
    assert_int_equal(sweep(bench, "epoch-1").n, 2);
    assert_int_equal(sweep(bench, "epoch-1").n, 0); /* it may wait in a long queue now */
    change(bench, "events", b.key, "{\"$set\":{\"requeued_at\":{\"$date\":{\"$numberLong\":\"1000\"}}}}");
    assert_int_equal(sweep(bench, "epoch-1").n, 1);
}

static void what_could_not_be_queued_is_found_again(void **state)
{
    struct bench *bench = *state;
    waiting(bench, 0);
    clock_sleep_ms(2);
    assert_int_equal(sweep_as(bench, "epoch-2", true).n, 1);
    assert_int_equal(sweep_as(bench, "epoch-2", true).n, 1);
    assert_int_equal(sweep(bench, "epoch-2").n, 1);
    assert_int_equal(sweep(bench, "epoch-2").n, 0);
}

static void what_is_resolved_never_comes_back(void **state)
{
    struct bench *bench = *state;
    for (int dead = 0; dead <= 1; dead++) {
        struct delivery d = delivery_new(bench, new_id(bench));
        struct store_claim claim = claim_new(bench);
        claim_one(bench->a, &claim, &d);
        if (dead)
            ran_badly(&d, DECISION_DEAD, 0, "permanent");
        else
            ran_well(&d);
        commit_one(bench->a, &claim, &d);
        age(bench, &d, 10 * STALE_MS);
    }
    assert_int_equal(sweep(bench, "epoch-2").n, 0);
}

static void a_superfluous_entry_is_sorted_out(void **state)
{
    struct bench *bench = *state;
    struct delivery d = waiting(bench, 0);
    clock_sleep_ms(2);
    struct catch caught = sweep(bench, "epoch-2");
    assert_int_equal(caught.n, 1);
    struct delivery original = delivery_retry(bench, &d, 2), superfluous = delivery_retry(bench, &d, 2);
    struct store_claim claim = claim_new(bench), other = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &claim, &original), CLAIM_WON);
    assert_int_equal(claim_one(bench->b, &other, &superfluous), CLAIM_HELD);
    ran_well(&original);
    commit_one(bench->a, &claim, &original);
    assert_int_equal(claim_one(bench->b, &other, &superfluous), CLAIM_FINISHED);
}

static struct delivery succeeded(struct bench *bench)
{
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    claim_one(bench->a, &claim, &d);
    ran_well(&d);
    commit_one(bench->a, &claim, &d);
    return d;
}

static void only_old_successes_expire_and_only_so_many(void **state)
{
    struct bench *bench = *state;
    struct error err = {{0}};
    struct delivery left = waiting(bench, 0), dead = processing(bench), fresh = succeeded(bench);
    int64_t deleted = 0;
    for (int i = 0; i < 5; i++) {
        struct delivery old = succeeded(bench);
        age(bench, &old, 5000);
    }
    age(bench, &left, 5000);
    age(bench, &dead, 5000);
    change(bench, "events", dead.key, "{\"$set\":{\"status\":\"dead\"}}");
    assert_int_equal(store_expire(bench->a, 4000, 3, &deleted, &err), STORE_OK);
    assert_int_equal(deleted, 3);
    assert_int_equal(count(bench, "events", "{\"status\":\"succeeded\"}"), 3);
    assert_int_equal(store_expire(bench->a, 4000, 100, &deleted, &err), STORE_OK);
    assert_int_equal(deleted, 2);
    assert_true(exists_at(bench, "events", fresh.key, "_id"));
    assert_true(exists_at(bench, "events", left.key, "_id"));
    assert_true(exists_at(bench, "events", dead.key, "_id"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_in_hand_is_left_alone, clear_events),
        cmocka_unit_test_setup(a_new_epoch_brings_back_what_its_owner_left, clear_events),
        cmocka_unit_test_setup(a_new_epoch_brings_back_what_is_due, clear_events),
        cmocka_unit_test_setup(what_nobody_touched_is_queued_once_in_a_while, clear_events),
        cmocka_unit_test_setup(what_could_not_be_queued_is_found_again, clear_events),
        cmocka_unit_test_setup(what_is_resolved_never_comes_back, clear_events),
        cmocka_unit_test_setup(a_superfluous_entry_is_sorted_out, clear_events),
        cmocka_unit_test_setup(only_old_successes_expire_and_only_so_many, clear_events),
    };
    return cmocka_run_group_tests_name("store: sweeps", tests, bench_setup, bench_teardown);
}
