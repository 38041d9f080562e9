/* The retry set: due times, order, exact envelopes, and what a restart or a damaged set does. */
#include <stdio.h>
#include <stdlib.h>

#include "sample.h"

#include "base/clock.h"

static struct redis_server server;
static struct queue *queue;
static struct arena *arena;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    server_do(&server, "FLUSHALL");
    arena = arena_new();
    queue = sample_queue(&server, "w", 60000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    queue_free(queue);
    arena_free(arena);
    return 0;
}

static struct queue_batch take(size_t expected)
{
    struct queue_batch batch = {.arena = arena};
    assert_result(queue_take(queue, 1000, 0, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, expected);
    return batch;
}

static void retry(const struct delivery *delivery, int64_t delay_ms, uint32_t next_attempt)
{
    struct settlement settlement = {
        .delivery = delivery, .kind = SETTLE_RETRY, .delay_ms = delay_ms, .next_attempt = next_attempt};
    assert_result(queue_settle(queue, &settlement, 1, &err), QUEUE_OK, &err);
}

static size_t promote(int64_t *next_ms)
{
    size_t moved = 0;
    assert_result(queue_promote(queue, &moved, next_ms, &err), QUEUE_OK, &err);
    return moved;
}

static size_t promote_when_due(int64_t *next_ms)
{
    size_t moved = 0;
    for (mono_time end = mono_after_ms(clock_mono(), 5000); moved == 0 && !mono_is_past(end, clock_mono());) {
        moved = promote(next_ms);
        if (moved == 0)
            clock_sleep_ms(*next_ms < 0 ? 10 : *next_ms + 1);
    }
    return moved;
}

static bool is_waiting(const char *key)
{
    bool waiting;
    assert_result(queue_is_waiting(queue, slice_of(key), &waiting, &err), QUEUE_OK, &err);
    return waiting;
}

enum { DELAY_MS = 800 }; /* long enough for what is asked of it in the meantime */

static void waits_until_due(void **state)
{
    int64_t next_ms;
    (void)state;
    assert_int_equal(promote(&next_ms), 0);
    assert_int_equal(next_ms, -1);
    sample_requeue(queue, "e");
    mono_time start = clock_mono();
    retry(take(1).deliveries, DELAY_MS, 2);
    assert_true(is_waiting("demo/e"));
    assert_false(is_waiting("demo/other"));
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 0);
    assert_int_equal(server_number(&server, "HLEN waybill:{0}:envelopes"), 1);
    struct queue_depth depth;
    assert_result(queue_measure(queue, &depth, &err), QUEUE_OK, &err);
    assert_int_equal(depth.pending, 0);
    assert_int_equal(promote(&next_ms), 0);
    assert_in_range(next_ms, 1, DELAY_MS);
    assert_int_equal(promote_when_due(&next_ms), 1);
    assert_true(mono_elapsed_ms(start, clock_mono()) >= DELAY_MS - 1); /* Redis keeps whole milliseconds */
    assert_int_equal(next_ms, -1);
    assert_false(is_waiting("demo/e"));
    assert_int_equal(server_number(&server, "HLEN waybill:{0}:envelopes"), 0);
    struct queue_batch batch = take(1);
    assert_int_equal(batch.deliveries[0].event.attempt, 2);
    assert_int_equal(batch.deliveries[0].deliveries, 1); /* a new entry */
}

static void envelopes_survive_exactly(void **state)
{
    static const char body[] = "\0\r\n\xff\xc0\x80{\"a\":1}\0\0";
    struct slice binary = {body, sizeof(body) - 1};
    struct event event = sample_event("binary", binary);
    int64_t next_ms;
    (void)state;
    event.replay = SLICE_LITERAL("ops");
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
    for (uint32_t attempt = 2; attempt < 5; attempt++) {
        retry(take(1).deliveries, 0, attempt);
        assert_int_equal(promote_when_due(&next_ms), 1);
        redisReply *reply = server_ask(&server, "XRANGE waybill:{0}:events - +");
        assert_int_equal(reply->element[0]->element[1]->elements, 22); /* attempt is there once */
        freeReplyObject(reply);
    }
    struct queue_batch batch = take(1);
    const struct event *back = &batch.deliveries[0].event;
    assert_true(slice_equal(back->body, binary));
    assert_slice(back->headers, "user-agent: test\nwebhook-id: x\n");
    assert_slice(back->replay, "ops");
    assert_int_equal(back->received_at.ms, 1769860800123);
    assert_int_equal(back->attempt, 4);
}

static void large_bodies_survive(void **state)
{
    struct slice body = {memset(arena_alloc(arena, 1u << 20), 0xfe, 1u << 20), 1u << 20};
    struct event event = sample_event("large", body);
    int64_t next_ms;
    (void)state;
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
    retry(take(1).deliveries, 0, 2);
    assert_int_equal(promote_when_due(&next_ms), 1);
    assert_true(slice_equal(take(1).deliveries[0].event.body, body));
}

static void promoted_in_the_order_of_due_times(void **state)
{
    int64_t next_ms;
    (void)state;
    sample_requeue(queue, "late");
    sample_requeue(queue, "early");
    sample_requeue(queue, "later");
    struct queue_batch batch = take(3);
    retry(&batch.deliveries[0], 30, 2);
    retry(&batch.deliveries[1], 5, 2);
    retry(&batch.deliveries[2], 60000, 2);
    clock_sleep_ms(50);
    assert_int_equal(promote(&next_ms), 2);
    assert_in_range(next_ms, 50000, 60000);
    batch = take(2);
    assert_slice(batch.deliveries[0].event.event_id, "early");
    assert_slice(batch.deliveries[1].event.event_id, "late");
}

static void a_restart_forgets_nothing(void **state)
{
    int64_t next_ms;
    (void)state;
    sample_requeue(queue, "waiting");
    sample_requeue(queue, "pending");
    struct queue_batch batch = take(2);
    retry(&batch.deliveries[0], 1, 2);
    server_restart(&server);
    size_t moved;
    /* The first use of the old connection finds it broken, the next makes a new one. */
    assert_result(queue_promote(queue, &moved, &next_ms, &err), QUEUE_UNAVAILABLE, &err);
    assert_int_equal(promote_when_due(&next_ms), 1);
    assert_slice(take(1).deliveries[0].event.event_id, "waiting");
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 2);
}

static void a_batch_is_bounded(void **state)
{
    char id[16];
    int64_t next_ms;
    (void)state;
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        sample_requeue(queue, id);
    }
    struct queue_batch batch = take(300);
    struct settlement *settlements = arena_alloc(arena, 300 * sizeof(*settlements));
    for (size_t i = 0; i < 300; i++)
        settlements[i] = (struct settlement){.delivery = &batch.deliveries[i], .kind = SETTLE_RETRY, .next_attempt = 2};
    assert_result(queue_settle(queue, settlements, 300, &err), QUEUE_OK, &err);
    clock_sleep_ms(2);
    size_t first = promote(&next_ms);
    assert_in_range(first, 1, 299);
    assert_int_equal(next_ms, 0); /* there is more */
    assert_int_equal(first + promote(&next_ms), 300);
    assert_int_equal(next_ms, -1);
}

static void damage_is_survived(void **state)
{
    int64_t next_ms;
    (void)state;
    sample_open(queue);
    server_do(&server, "ZADD waybill:{0}:retry 1 demo/orphan 2 demo/damaged");
    server_do(&server, "HSET waybill:{0}:envelopes demo/damaged %b", "\xc1\x00", (size_t)2);
    assert_int_equal(promote(&next_ms), 1);
    assert_int_equal(server_number(&server, "ZCARD waybill:{0}:retry"), 0);
    struct queue_batch batch = take(1);
    assert_true(batch.deliveries[0].malformed.len > 0); /* not lost: the worker buries it */
}

static void a_later_settlement_replaces_an_earlier(void **state)
{
    int64_t next_ms;
    (void)state;
    sample_requeue(queue, "twice");
    sample_requeue(queue, "twice");
    struct queue_batch batch = take(2);
    retry(&batch.deliveries[0], 60000, 2);
    retry(&batch.deliveries[1], 0, 3);
    assert_int_equal(promote_when_due(&next_ms), 1);
    assert_int_equal(next_ms, -1);
    assert_int_equal(take(1).deliveries[0].event.attempt, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(waits_until_due, set_up, tear_down),
        cmocka_unit_test_setup_teardown(envelopes_survive_exactly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_bodies_survive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(promoted_in_the_order_of_due_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_restart_forgets_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_survived, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_later_settlement_replaces_an_earlier, set_up, tear_down),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
