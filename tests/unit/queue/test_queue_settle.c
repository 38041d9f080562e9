/* Settling: each way an entry can end, exactly once, whatever bytes it has. */
#include <stdio.h>
#include <stdlib.h>

#include "sample.h"

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

/* Puts n events "e0", "e1" … on the stream and takes them. */
static struct queue_batch take_new(int n)
{
    struct queue_batch batch = {.arena = arena};
    char id[16];
    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        sample_requeue(queue, id);
    }
    assert_result(queue_take(queue, (size_t)n, 0, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, n);
    return batch;
}

static void settle(const struct settlement *settlements, size_t n)
{
    assert_result(queue_settle(queue, settlements, n, &err), QUEUE_OK, &err);
}

static int64_t stream_length(void)
{
    return server_number(&server, "XLEN waybill:{0}:events");
}

static int64_t pending_count(void)
{
    struct queue_depth depth;
    assert_result(queue_measure(queue, &depth, &err), QUEUE_OK, &err);
    return depth.pending;
}

static void drop_takes_entries_away(void **state)
{
    struct queue_batch batch = take_new(3);
    struct settlement settlements[3] = {
        {.delivery = &batch.deliveries[0], .kind = SETTLE_DROP},
        {.delivery = &batch.deliveries[1], .kind = SETTLE_LEAVE},
        {.delivery = &batch.deliveries[2], .kind = SETTLE_DROP},
    };
    (void)state;
    assert_int_equal(pending_count(), 3);
    settle(settlements, 3);
    assert_int_equal(stream_length(), 1);
    assert_int_equal(pending_count(), 1);
    settle(settlements, 3); /* again: harmless */
    assert_int_equal(stream_length(), 1);
    settle(settlements, 0);
}

static void more_drops_than_a_script_can_unpack(void **state)
{
    static const char fill[] = "for i = 1, 9000 do redis.call('XADD', KEYS[1], '*', 'n', i) end";
    struct queue_batch batch = {.arena = arena};
    (void)state;
    server_do(&server, "EVAL %s 1 waybill:{0}:events", fill);
    assert_result(queue_take(queue, 9000, 0, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, 9000);
    struct settlement *settlements = arena_alloc(arena, batch.n * sizeof(*settlements));
    for (size_t i = 0; i < batch.n; i++)
        settlements[i] = (struct settlement){.delivery = &batch.deliveries[i], .kind = SETTLE_DROP};
    settle(settlements, batch.n);
    assert_int_equal(stream_length(), 0);
    assert_int_equal(pending_count(), 0);
}

static void lost_deliveries_are_left_alone(void **state)
{
    struct queue_batch batch = take_new(1);
    struct settlement settlement = {.delivery = &batch.deliveries[0], .kind = SETTLE_DROP};
    (void)state;
    batch.deliveries[0].lost = true;
    settle(&settlement, 1);
    settlement.kind = SETTLE_DEAD;
    settle(&settlement, 1);
    assert_int_equal(stream_length(), 1);
    assert_int_equal(pending_count(), 1);
}

static void publishes_are_added_once(void **state)
{
    struct queue_batch batch = take_new(1);
    const struct effect_publish publishes[] = {
        {.topic = SLICE_LITERAL("parcels.done"), .payload = SLICE_LITERAL("{\"a\":1}")},
        {.topic = SLICE_LITERAL("audit"), .payload = SLICE_LITERAL("[2]")},
    };
    struct settlement settlement = {
        .delivery = &batch.deliveries[0], .kind = SETTLE_DROP, .publishes = publishes, .n_publishes = 2};
    (void)state;
    settle(&settlement, 1);
    settle(&settlement, 1);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:out:audit"), 1);
    assert_int_equal(stream_length(), 0);
    redisReply *reply = server_ask(&server, "XRANGE waybill:{0}:out:parcels.done - +");
    assert_int_equal(reply->elements, 1);
    const redisReply *fields = reply->element[0]->element[1];
    assert_int_equal(fields->elements, 4);
    assert_string_equal(fields->element[0]->str, "key");
    assert_string_equal(fields->element[1]->str, "demo/e0");
    assert_string_equal(fields->element[2]->str, "payload");
    assert_string_equal(fields->element[3]->str, "{\"a\":1}");
    freeReplyObject(reply);
}

/* A reconciler can queue an event again whose first entry is still there, or was lost after the commit. */
static void an_event_publishes_once_whatever_its_entries(void **state)
{
    struct queue_batch batch = take_new(1);
    struct delivery second = batch.deliveries[0];
    const struct effect_publish publish = {.topic = SLICE_LITERAL("t"), .payload = SLICE_LITERAL("1")};
    struct settlement settlement = {.delivery = &second, .kind = SETTLE_DROP, .publishes = &publish, .n_publishes = 1};
    (void)state;
    second.entry_id = SLICE_LITERAL("1-1"); /* gone */
    settle(&settlement, 1);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:out:t"), 1);
    settlement.delivery = &batch.deliveries[0];
    settle(&settlement, 1);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:out:t"), 1);
    assert_int_equal(stream_length(), 0);
}

static void a_publish_that_cannot_be_added_changes_nothing(void **state)
{
    struct queue_batch batch = take_new(2);
    const struct effect_publish publishes[] = {
        {.topic = SLICE_LITERAL("good"), .payload = SLICE_LITERAL("1")},
        {.topic = SLICE_LITERAL("taken"), .payload = SLICE_LITERAL("2")},
    };
    struct settlement settlements[] = {
        {.delivery = &batch.deliveries[0], .kind = SETTLE_DROP, .publishes = publishes, .n_publishes = 2},
        {.delivery = &batch.deliveries[1], .kind = SETTLE_DROP},
    };
    (void)state;
    server_do(&server, "SET waybill:{0}:out:taken x");
    assert_result(queue_settle(queue, settlements, 2, &err), QUEUE_REFUSED, &err);
    assert_non_null(strstr(err.text, "waybill:{0}:out:taken"));
    assert_int_equal(server_number(&server, "EXISTS waybill:{0}:out:good"), 0);
    assert_int_equal(stream_length(), 1); /* the other one is settled all the same */
    assert_int_equal(pending_count(), 1);
}

static void dead_leaves_one_notice(void **state)
{
    struct queue_batch batch = take_new(1);
    struct settlement settlement = {
        .delivery = &batch.deliveries[0], .kind = SETTLE_DEAD, .reason = SLICE_LITERAL("retries_exhausted")};
    (void)state;
    settle(&settlement, 1);
    settle(&settlement, 1);
    assert_int_equal(stream_length(), 0);
    assert_int_equal(pending_count(), 0);
    redisReply *reply = server_ask(&server, "XRANGE waybill:{0}:dead - +");
    assert_int_equal(reply->elements, 1);
    const redisReply *fields = reply->element[0]->element[1];
    assert_int_equal(fields->elements, 8);
    assert_string_equal(fields->element[1]->str, "demo/e0");
    assert_string_equal(fields->element[3]->str, "demo");
    assert_string_equal(fields->element[5]->str, "retries_exhausted");
    assert_string_equal(fields->element[6]->str, "time");
    int64_t added_ms = strtoll(reply->element[0]->element[0]->str, NULL, 10); /* the clock, read a moment later */
    assert_in_range(strtoll(fields->element[7]->str, NULL, 10), added_ms - 5000, added_ms);
    freeReplyObject(reply);
}

static void kill_event(const char *id)
{
    struct queue_batch batch = {.arena = arena};
    sample_requeue(queue, id);
    assert_result(queue_take(queue, 1, 0, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, 1);
    struct settlement settlement = {
        .delivery = &batch.deliveries[0], .kind = SETTLE_DEAD, .reason = SLICE_LITERAL("x")};
    settle(&settlement, 1);
}

static void notices_go_by_replay_and_by_review(void **state)
{
    struct event event = sample_event("a", SLICE_LITERAL("{}"));
    (void)state;
    kill_event("a");
    kill_event("b");
    kill_event("a"); /* the newer notice replaces the older */
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:dead"), 2);
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err); /* the reconciler's: no replay */
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:dead"), 2);
    event.replay = SLICE_LITERAL("ops");
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:dead"), 1);
    assert_result(queue_forget_dead(queue, SLICE_LITERAL("demo/a"), &err), QUEUE_OK, &err);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:dead"), 1);
    assert_result(queue_forget_dead(queue, SLICE_LITERAL("demo/b"), &err), QUEUE_OK, &err);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:dead"), 0);
    assert_int_equal(server_number(&server, "HLEN waybill:{0}:dead_index"), 0);
}

static void forgotten_scripts_are_loaded_again(void **state)
{
    struct queue_batch batch = take_new(3);
    const struct effect_publish publish = {.topic = SLICE_LITERAL("t"), .payload = SLICE_LITERAL("1")};
    struct settlement settlements[] = {
        {.delivery = &batch.deliveries[0], .kind = SETTLE_DROP, .publishes = &publish, .n_publishes = 1},
        {.delivery = &batch.deliveries[1], .kind = SETTLE_RETRY, .delay_ms = 1000, .next_attempt = 2},
        {.delivery = &batch.deliveries[2], .kind = SETTLE_DROP},
    };
    (void)state;
    server_do(&server, "SCRIPT FLUSH");
    /* One script is known again: only the others are sent again, and nothing is done twice. */
    redisReply *reply = server_ask(&server, "SCRIPT LOAD %s", "return 1");
    freeReplyObject(reply);
    settle(settlements, 3);
    assert_int_equal(stream_length(), 0);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:out:t"), 1);
    assert_int_equal(server_number(&server, "ZCARD waybill:{0}:retry"), 1);
}

static void settling_works_without_free_memory(void **state)
{
    struct queue_batch batch = take_new(3);
    struct settlement settlements[] = {
        {.delivery = &batch.deliveries[0], .kind = SETTLE_DROP},
        {.delivery = &batch.deliveries[1], .kind = SETTLE_RETRY, .delay_ms = 1, .next_attempt = 2},
        {.delivery = &batch.deliveries[2], .kind = SETTLE_DEAD, .reason = SLICE_LITERAL("x")},
    };
    struct event event = sample_event("new", SLICE_LITERAL("{}"));
    (void)state;
    server_do(&server, "CONFIG SET maxmemory 1");
    settle(settlements, 3); /* how the memory becomes free */
    assert_int_equal(stream_length(), 0);
    assert_result(queue_requeue(queue, &event, &err), QUEUE_UNAVAILABLE, &err); /* more would not help */
    assert_non_null(strstr(err.text, "OOM"));
    server_do(&server, "CONFIG SET maxmemory 0");
    assert_int_equal(server_number(&server, "ZCARD waybill:{0}:retry"), 1);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:dead"), 1);
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
}

static void malformed_entries_can_be_buried(void **state)
{
    struct queue *two = sample_queue_with(server.url, "w", 60000, 2000, 2);
    struct queue_batch batch = {.arena = arena};
    (void)state;
    sample_open(two);
    server_do(&server, "XADD waybill:{1}:events * what ever");
    assert_result(queue_take(two, 10, 0, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, 1);
    struct settlement settlement = {
        .delivery = &batch.deliveries[0], .kind = SETTLE_DEAD, .reason = SLICE_LITERAL("malformed")};
    assert_result(queue_settle(two, &settlement, 1, &err), QUEUE_OK, &err);
    assert_int_equal(server_number(&server, "XLEN waybill:{1}:events"), 0);
    assert_int_equal(server_number(&server, "XLEN waybill:{1}:dead"), 1);
    assert_result(queue_forget_dead(two, batch.deliveries[0].key, &err), QUEUE_OK, &err);
    assert_int_equal(server_number(&server, "XLEN waybill:{1}:dead"), 0);
    queue_free(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(drop_takes_entries_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_drops_than_a_script_can_unpack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_deliveries_are_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(publishes_are_added_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_event_publishes_once_whatever_its_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_publish_that_cannot_be_added_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(dead_leaves_one_notice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(notices_go_by_replay_and_by_review, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forgotten_scripts_are_loaded_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settling_works_without_free_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(malformed_entries_can_be_buried, set_up, tear_down),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
