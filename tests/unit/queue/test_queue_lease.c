/* Leases: who owns an entry, for how long, and how often it counts as delivered. */
#include "sample.h"

#include "base/clock.h"
#include "queue/scripts.h"

#define LEASE_MS 150
#define CLOCK_MS 1 /* Redis keeps moments in whole milliseconds, so a lease may seem this much shorter */

static struct redis_server server;
static struct queue *one, *two;
static struct arena *arena;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    server_do(&server, "FLUSHALL");
    arena = arena_new();
    one = sample_queue(&server, "one", LEASE_MS);
    two = sample_queue(&server, "two", LEASE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    queue_free(one);
    queue_free(two);
    arena_free(arena);
    return 0;
}

static struct queue_batch take(struct queue *queue, size_t expected)
{
    struct queue_batch batch = {.arena = arena};
    assert_result(queue_take(queue, 100, 0, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, expected);
    return batch;
}

static struct queue_batch reclaim(struct queue *queue, size_t max)
{
    struct queue_batch batch = {.arena = arena};
    assert_result(queue_reclaim(queue, max, &batch, &err), QUEUE_OK, &err);
    return batch;
}

static struct queue_batch reclaim_when_idle(struct queue *queue, size_t max)
{
    struct queue_batch batch = {.arena = arena};
    for (mono_time end = mono_after_ms(clock_mono(), 5000); batch.n == 0 && !mono_is_past(end, clock_mono());) {
        clock_sleep_ms(5);
        batch = reclaim(queue, max);
    }
    return batch;
}

static void reclaimed_after_a_lease_and_counted(void **state)
{
    (void)state;
    sample_requeue(one, "e");
    mono_time taken = clock_mono();
    take(one, 1);
    if (mono_elapsed_ms(taken, clock_mono()) < LEASE_MS / 2)
        assert_int_equal(reclaim(two, 10).n, 0);
    struct queue_batch batch = reclaim_when_idle(two, 10);
    assert_in_range(mono_elapsed_ms(taken, clock_mono()), LEASE_MS - CLOCK_MS, 5000);
    assert_int_equal(batch.n, 1);
    assert_slice(batch.deliveries[0].event.event_id, "e");
    assert_slice(batch.deliveries[0].key, "demo/e");
    assert_int_equal(batch.deliveries[0].deliveries, 2);
    batch = reclaim_when_idle(one, 10);
    assert_int_equal(batch.deliveries[0].deliveries, 3);
}

static void reclaim_takes_at_most_max(void **state)
{
    (void)state;
    sample_requeue(one, "a");
    sample_requeue(one, "b");
    sample_requeue(one, "c");
    take(one, 3);
    assert_int_equal(reclaim_when_idle(two, 2).n, 2);
    assert_int_equal(reclaim_when_idle(two, 2).n, 1);
}

static void keeping_keeps(void **state)
{
    (void)state;
    sample_requeue(one, "e");
    struct queue_batch batch = take(one, 1);
    for (mono_time end = mono_after_ms(clock_mono(), 3 * LEASE_MS); !mono_is_past(end, clock_mono());) {
        mono_time before = clock_mono();
        assert_result(queue_keep(one, batch.deliveries, batch.n, &err), QUEUE_OK, &err);
        size_t taken = reclaim(two, 10).n;
        if (mono_elapsed_ms(before, clock_mono()) < LEASE_MS) /* else this test was stalled itself */
            assert_int_equal(taken, 0);
        if (taken > 0)
            return;
        clock_sleep_ms(10);
    }
    assert_false(batch.deliveries[0].lost);
    assert_int_equal(reclaim_when_idle(two, 10).deliveries[0].deliveries, 2); /* signs of life are no deliveries */
}

/* A worker that stalled past its lease wakes up: it must learn what it has lost, and must not take it back. */
static void a_zombie_learns_what_it_lost(void **state)
{
    (void)state;
    sample_requeue(one, "a");
    sample_requeue(one, "b");
    sample_requeue(one, "c");
    struct queue_batch zombie = take(one, 3);
    struct queue_batch thief = reclaim_when_idle(two, 2); /* a and b */
    assert_int_equal(thief.n, 2);
    assert_result(queue_keep(one, zombie.deliveries, 3, &err), QUEUE_OK, &err);
    assert_true(zombie.deliveries[0].lost);
    assert_true(zombie.deliveries[1].lost);
    assert_false(zombie.deliveries[2].lost);
    assert_result(queue_keep(two, thief.deliveries, 2, &err), QUEUE_OK, &err);
    assert_false(thief.deliveries[0].lost);
    /* One who does not know yet must not give away what is another's either. */
    zombie.deliveries[0].lost = zombie.deliveries[1].lost = false;
    assert_result(queue_hand_back(one, zombie.deliveries, 2, &err), QUEUE_OK, &err);
    assert_result(queue_keep(two, thief.deliveries, 2, &err), QUEUE_OK, &err);
    assert_false(thief.deliveries[0].lost);
    assert_false(thief.deliveries[1].lost);
}

static void settled_entries_are_lost_to_others(void **state)
{
    (void)state;
    sample_requeue(one, "a");
    struct queue_batch zombie = take(one, 1);
    struct queue_batch thief = reclaim_when_idle(two, 1);
    struct settlement drop = {.delivery = thief.deliveries, .kind = SETTLE_DROP};
    assert_result(queue_settle(two, &drop, 1, &err), QUEUE_OK, &err);
    struct settlement retry = {.delivery = zombie.deliveries, .kind = SETTLE_RETRY, .delay_ms = 1, .next_attempt = 2};
    assert_result(queue_settle(one, &retry, 1, &err), QUEUE_OK, &err);
    assert_int_equal(server_number(&server, "ZCARD waybill:{0}:retry"), 0);
    assert_result(queue_keep(one, zombie.deliveries, 1, &err), QUEUE_OK, &err);
    assert_true(zombie.deliveries[0].lost);
}

static void handing_back_is_immediate_and_not_counted(void **state)
{
    struct queue *patient = sample_queue(&server, "patient", 600000);
    (void)state;
    sample_requeue(one, "e");
    struct queue_batch batch = take(one, 1);
    for (int i = 0; i < 3; i++) {
        assert_result(queue_hand_back(one, batch.deliveries, 1, &err), QUEUE_OK, &err);
        batch = reclaim(patient, 10); /* at once, whatever the lease */
        assert_int_equal(batch.n, 1);
        assert_int_equal(batch.deliveries[0].deliveries, 1);
        assert_result(queue_hand_back(patient, batch.deliveries, 1, &err), QUEUE_OK, &err);
        batch = reclaim(one, 10);
        assert_int_equal(batch.deliveries[0].deliveries, 1);
    }
    queue_free(patient);
}

static void deleted_entries_leave_the_pending_list(void **state)
{
    struct queue_depth depth;
    (void)state;
    sample_requeue(one, "e");
    struct queue_batch batch = take(one, 1);
    server_do(&server, "XDEL waybill:{0}:events %b", batch.deliveries[0].entry_id.base,
              batch.deliveries[0].entry_id.len);
    assert_result(queue_keep(one, batch.deliveries, 1, &err), QUEUE_OK, &err);
    assert_true(batch.deliveries[0].lost);
    sample_requeue(one, "f");
    batch = take(one, 1);
    server_do(&server, "XDEL waybill:{0}:events %b", batch.deliveries[0].entry_id.base,
              batch.deliveries[0].entry_id.len);
    do {
        clock_sleep_ms(5);
        assert_int_equal(reclaim(two, 10).n, 0);
        assert_result(queue_measure(one, &depth, &err), QUEUE_OK, &err);
    } while (depth.pending > 0); /* the test's own time limit ends this when it never happens */
}

static void leaving_needs_empty_hands(void **state)
{
    struct queue_depth depth;
    (void)state;
    sample_requeue(one, "e");
    struct queue_batch batch = take(one, 1);
    assert_result(queue_leave(one, &err), QUEUE_OK, &err);
    assert_result(queue_measure(one, &depth, &err), QUEUE_OK, &err);
    assert_int_equal(depth.consumers, 1);
    assert_int_equal(depth.pending, 1);
    struct settlement drop = {.delivery = batch.deliveries, .kind = SETTLE_DROP};
    assert_result(queue_settle(one, &drop, 1, &err), QUEUE_OK, &err);
    assert_result(queue_leave(one, &err), QUEUE_OK, &err);
    assert_result(queue_measure(one, &depth, &err), QUEUE_OK, &err);
    assert_int_equal(depth.consumers, 0);
}

static int64_t consumers(void)
{
    struct queue_depth depth;
    assert_result(queue_measure(one, &depth, &err), QUEUE_OK, &err);
    return depth.consumers;
}

/* Those that were not seen for long go, but never one that holds an entry. */
static void idle_consumers_are_removed(void **state)
{
    (void)state;
    sample_requeue(one, "e");
    take(one, 1);
    reclaim(two, 10); /* has nothing, and is a consumer all the same */
    assert_int_equal(consumers(), 2);
    struct slice script = scripts[SCRIPT_LEAVE].text;
    const char *call = "EVAL %b 1 waybill:{0}:events workers %s %s";
    assert_int_equal(server_number(&server, call, script.base, script.len, "", "3600000"), 0);
    assert_int_equal(server_number(&server, call, script.base, script.len, "", "0"), 1);
    assert_int_equal(consumers(), 1);
    assert_int_equal(reclaim_when_idle(two, 10).n, 1); /* the one with the entry stayed, or this would be lost */
}

static void measures_what_there_is(void **state)
{
    struct queue *many = sample_queue_with(server.url, "many", LEASE_MS, 2000, 2);
    struct queue_depth depth;
    (void)state;
    assert_result(queue_measure(many, &depth, &err), QUEUE_OK, &err);
    assert_int_equal(depth.stream + depth.pending + depth.retry + depth.dead + depth.oldest_ms, 0);
    server_do(&server, "XADD waybill:{0}:events 1-1 a b");
    server_do(&server, "XADD waybill:{1}:events * a b");
    server_do(&server, "XADD waybill:{1}:events * a b");
    server_do(&server, "ZADD waybill:{1}:retry 1 a 2 b");
    server_do(&server, "XADD waybill:{0}:dead * key x");
    take(one, 1); /* of partition 0 */
    assert_result(queue_measure(many, &depth, &err), QUEUE_OK, &err);
    assert_int_equal(depth.stream, 3);
    assert_int_equal(depth.pending, 1);
    assert_int_equal(depth.retry, 2);
    assert_int_equal(depth.dead, 1);
    assert_int_equal(depth.consumers, 1);
    assert_true(depth.oldest_ms > 1000000);
    queue_free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reclaimed_after_a_lease_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reclaim_takes_at_most_max, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeping_keeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_zombie_learns_what_it_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settled_entries_are_lost_to_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(handing_back_is_immediate_and_not_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleted_entries_leave_the_pending_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leaving_needs_empty_hands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(idle_consumers_are_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(measures_what_there_is, set_up, tear_down),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
