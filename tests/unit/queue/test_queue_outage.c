/* The blocking client when Redis is away, stalled, emptied, read-only, busy, or will not have us. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sample.h"

#include "base/clock.h"
#include "queue/reply_error.h"

#define TIMEOUT_MS 300

static struct redis_server server;
static struct queue *queue;
static struct arena *arena;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    server_do(&server, "FLUSHALL");
    arena = arena_new();
    queue = sample_queue_with(server.url, "w", 60000, TIMEOUT_MS, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    queue_free(queue);
    arena_free(arena);
    return 0;
}

static enum queue_result take(struct queue_batch *batch, int64_t wait_ms)
{
    *batch = (struct queue_batch){.arena = arena};
    return queue_take(queue, 10, wait_ms, batch, &err);
}

static struct delivery the_one;

/* Takes or reclaims the only event there is; it must have been delivered so often. */
static void take_the_one(uint32_t deliveries)
{
    struct queue_batch batch = {.arena = arena};
    for (mono_time end = mono_after_ms(clock_mono(), 5000); batch.n == 0 && !mono_is_past(end, clock_mono());) {
        assert_result(queue_reclaim(queue, 10, &batch, &err), QUEUE_OK, &err);
        if (batch.n == 0)
            assert_result(take(&batch, 20), QUEUE_OK, &err);
    }
    assert_int_equal(batch.n, 1);
    assert_int_equal(batch.deliveries[0].deliveries, deliveries);
    the_one = batch.deliveries[0];
}

static int64_t pending_of(const char *consumer)
{
    redisReply *reply = server_ask(&server, "XPENDING waybill:{0}:events workers - + 100 %s", consumer);
    int64_t n = (int64_t)reply->elements;
    freeReplyObject(reply);
    return n;
}

static void killed_and_restarted(void **state)
{
    struct queue_batch batch;
    bool renewed = true;
    (void)state;
    sample_open(queue);
    sample_requeue(queue, "kept");
    server_kill(&server);
    assert_result(take(&batch, 0), QUEUE_UNAVAILABLE, &err);
    assert_int_equal(batch.n, 0);
    mono_time start = clock_mono();
    assert_result(take(&batch, 1000), QUEUE_UNAVAILABLE, &err); /* at once: nobody listens */
    assert_true(mono_elapsed_ms(start, clock_mono()) < 900);
    assert_non_null(strstr(err.text, "cannot connect to Redis at 127.0.0.1"));
    server_restart(&server);
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
    assert_false(renewed); /* nothing was lost */
    assert_result(take(&batch, 0), QUEUE_OK, &err);
    assert_int_equal(batch.n, 1);
}

static void stalled(void **state)
{
    struct queue_batch batch;
    (void)state;
    sample_open(queue);
    sample_requeue(queue, "e");
    server_pause(&server);
    mono_time start = clock_mono();
    assert_result(take(&batch, 200), QUEUE_UNAVAILABLE, &err);
    assert_non_null(strstr(err.text, "in time"));
    assert_in_range(mono_elapsed_ms(start, clock_mono()), 200 + TIMEOUT_MS - 20, 200 + TIMEOUT_MS + 2000);
    start = clock_mono();
    assert_result(take(&batch, 0), QUEUE_UNAVAILABLE, &err); /* connects (the kernel answers), is not greeted */
    assert_in_range(mono_elapsed_ms(start, clock_mono()), TIMEOUT_MS - 20, TIMEOUT_MS + 2000);
    server_resume(&server);
    take_the_one(1);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 1);
}

/* Redis does what it was asked after we gave up waiting: entries are ours and we do not know. However often that
 * happens, it must not look like a worker that crashes on the event again and again. */
static void lost_answers_are_no_deliveries(void **state)
{
    struct queue_batch batch;
    (void)state;
    sample_open(queue);
    sample_requeue(queue, "e");
    for (int i = 0; i < 4; i++) {
        server_pause(&server);
        batch = (struct queue_batch){.arena = arena};
        assert_result(i % 2 == 0 ? queue_take(queue, 10, 0, &batch, &err) : queue_reclaim(queue, 10, &batch, &err),
                      QUEUE_UNAVAILABLE, &err);
        server_resume(&server);
        while (i % 2 == 0 && server_number(&server, "XLEN waybill:{0}:events") == 1 && pending_of("w") == 0)
            clock_sleep_ms(1); /* until it was done all the same */
    }
    take_the_one(1);
    /* Handing back that fails is made good too. */
    batch = (struct queue_batch){.arena = arena};
    assert_result(queue_hand_back(queue, &the_one, 1, &err), QUEUE_OK, &err);
    take_the_one(1);
    server_kill(&server);
    assert_result(queue_hand_back(queue, &the_one, 1, &err), QUEUE_UNAVAILABLE, &err);
    server_restart(&server);
    take_the_one(1);
}

static void emptied_while_taking(void **state)
{
    struct queue_batch batch;
    bool renewed = false;
    char epoch[256];
    (void)state;
    sample_open(queue);
    snprintf(epoch, sizeof(epoch), "%.*s", SLICE_ARG(queue_epoch(queue, 0)));
    server_do(&server, "FLUSHALL");
    assert_result(take(&batch, 0), QUEUE_UNAVAILABLE, &err);
    assert_non_null(strstr(err.text, "lost the consumer group"));
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
    assert_true(renewed);
    assert_false(slice_is(queue_epoch(queue, 0), epoch));
    assert_result(take(&batch, 0), QUEUE_OK, &err);
}

static void *flush_soon(void *arg)
{
    redisContext *redis = redisConnect("127.0.0.1", server.port);
    (void)arg;
    clock_sleep_ms(100); /* by then the test waits in its take */
    redisReply *reply = redisCommand(redis, "FLUSHALL");
    freeReplyObject(reply);
    redisFree(redis);
    return NULL;
}

static void emptied_while_waiting(void **state)
{
    struct queue_batch batch;
    pthread_t thread;
    bool renewed = false;
    (void)state;
    sample_open(queue);
    pthread_create(&thread, NULL, flush_soon, NULL);
    assert_result(take(&batch, 10000), QUEUE_UNAVAILABLE, &err);
    pthread_join(thread, NULL);
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
    assert_true(renewed);
}

/* Another worker is first to make the group again: whatever takes or promotes must notice by the epoch. */
static void emptied_unnoticed(void **state)
{
    struct queue *other = sample_queue(&server, "other", 60000);
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct queue_batch batch = {.arena = arena};
        size_t moved;
        int64_t next_ms;
        bool renewed = false;
        sample_open(queue);
        server_do(&server, "FLUSHALL");
        sample_open(other);
        assert_result(way == 0   ? queue_promote(queue, &moved, &next_ms, &err)
                      : way == 1 ? queue_take(queue, 10, 0, &batch, &err)
                                 : queue_reclaim(queue, 10, &batch, &err),
                      QUEUE_UNAVAILABLE, &err);
        assert_non_null(strstr(err.text, "epoch"));
        assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
        assert_true(renewed);
        assert_true(slice_equal(queue_epoch(queue, 0), queue_epoch(other, 0)));
    }
    queue_free(other);
}

/* A call that connects again by itself finds the new epoch; the next open must still tell. */
static void renewal_is_not_swallowed(void **state)
{
    struct queue_batch batch;
    bool renewed = false;
    (void)state;
    sample_open(queue);
    server_do(&server, "FLUSHALL");
    assert_result(take(&batch, 0), QUEUE_UNAVAILABLE, &err);
    assert_result(take(&batch, 0), QUEUE_OK, &err);
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
    assert_true(renewed);
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
    assert_false(renewed);
}

static void group_destroyed(void **state)
{
    struct queue_batch batch;
    bool renewed = false;
    (void)state;
    sample_open(queue);
    sample_requeue(queue, "e");
    assert_result(take(&batch, 0), QUEUE_OK, &err);
    server_do(&server, "XGROUP DESTROY waybill:{0}:events workers");
    assert_result(queue_keep(queue, batch.deliveries, batch.n, &err), QUEUE_UNAVAILABLE, &err);
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
    assert_true(renewed);
    assert_result(queue_keep(queue, batch.deliveries, batch.n, &err), QUEUE_OK, &err);
    assert_true(batch.deliveries[0].lost);
    assert_result(take(&batch, 0), QUEUE_OK, &err); /* delivered again */
    assert_int_equal(batch.n, 1);
}

static void read_only(void **state)
{
    struct event event = sample_event("e", SLICE_LITERAL("{}"));
    (void)state;
    sample_open(queue);
    server_do(&server, "REPLICAOF 127.0.0.1 1");
    assert_result(queue_requeue(queue, &event, &err), QUEUE_UNAVAILABLE, &err);
    server_do(&server, "REPLICAOF NO ONE");
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
}

static void *spin(void *arg)
{
    redisContext *redis = redisConnect("127.0.0.1", server.port);
    (void)arg;
    redisReply *reply = redisCommand(redis, "EVAL %s 0", "while true do end");
    freeReplyObject(reply);
    redisFree(redis);
    return NULL;
}

static void busy(void **state)
{
    struct queue_batch batch;
    pthread_t thread;
    enum queue_result result = QUEUE_OK;
    (void)state;
    sample_open(queue);
    server_do(&server, "CONFIG SET busy-reply-threshold 20");
    pthread_create(&thread, NULL, spin, NULL);
    for (mono_time end = mono_after_ms(clock_mono(), 5000); result == QUEUE_OK && !mono_is_past(end, clock_mono());)
        result = take(&batch, 0);
    assert_result(result, QUEUE_UNAVAILABLE, &err);
    assert_non_null(strstr(err.text, "BUSY"));
    server_do(&server, "SCRIPT KILL");
    pthread_join(thread, NULL);
    assert_result(take(&batch, 0), QUEUE_OK, &err);
}

static void wrong_type_is_told(void **state)
{
    bool renewed;
    (void)state;
    server_do(&server, "SET waybill:{0}:events x");
    assert_result(queue_open(queue, &renewed, &err), QUEUE_REFUSED, &err);
    assert_non_null(strstr(err.text, "something else uses a key that begins with waybill:"));
}

static void passwords(void **state)
{
    char url[160];
    bool renewed;
    (void)state;
    server_do(&server, "CONFIG SET requirepass s3cret%%20word");
    assert_result(queue_open(queue, &renewed, &err), QUEUE_REFUSED, &err);
    assert_non_null(strstr(err.text, "needs a password"));

    snprintf(url, sizeof(url), "redis://:not-it@127.0.0.1:%d", server.port);
    struct queue *wrong = sample_queue_with(url, "w", 60000, TIMEOUT_MS, 1);
    assert_result(queue_open(wrong, &renewed, &err), QUEUE_REFUSED, &err);
    assert_non_null(strstr(err.text, "WRONGPASS"));
    assert_null(strstr(err.text, "not-it"));
    queue_free(wrong);

    server_do(&server, "ACL SETUSER alice on >wonder allcommands ~waybill:*");
    snprintf(url, sizeof(url), "redis://alice:wonder@127.0.0.1:%d", server.port);
    struct queue *alice = sample_queue_with(url, "w", 60000, TIMEOUT_MS, 1);
    assert_result(queue_open(alice, &renewed, &err), QUEUE_OK, &err);
    queue_free(alice);
    server_do(&server, "CONFIG SET requirepass %s", "");
}

static void missing_permission_is_told(void **state)
{
    char url[160];
    bool renewed;
    (void)state;
    server_do(&server, "ACL SETUSER bob on >builder +auth +script");
    snprintf(url, sizeof(url), "redis://bob:builder@127.0.0.1:%d", server.port);
    struct queue *bob = sample_queue_with(url, "w", 60000, TIMEOUT_MS, 1);
    assert_result(queue_open(bob, &renewed, &err), QUEUE_REFUSED, &err);
    assert_non_null(strstr(err.text, "permission"));
    queue_free(bob);
}

static void durability_is_checked(void **state)
{
    char warning[512];
    (void)state;
    assert_result(queue_check_durability(queue, warning, sizeof(warning), &err), QUEUE_OK, &err);
    assert_string_equal(warning, "");
    server_do(&server, "CONFIG SET appendfsync everysec maxmemory-policy allkeys-lru");
    assert_result(queue_check_durability(queue, warning, sizeof(warning), &err), QUEUE_OK, &err);
    assert_non_null(strstr(warning, "appendfsync is everysec"));
    assert_non_null(strstr(warning, "maxmemory-policy is allkeys-lru"));
    server_do(&server, "CONFIG SET appendonly no maxmemory-policy volatile-lru");
    assert_result(queue_check_durability(queue, warning, sizeof(warning), &err), QUEUE_OK, &err);
    assert_non_null(strstr(warning, "appendonly is no"));
    assert_null(strstr(warning, "maxmemory"));
    server_do(&server, "CONFIG SET appendonly yes appendfsync always maxmemory-policy noeviction");
    server_do(&server, "ACL SETUSER eve on >apple allkeys allcommands -config");
    char url[160];
    snprintf(url, sizeof(url), "redis://eve:apple@127.0.0.1:%d", server.port);
    struct queue *eve = sample_queue_with(url, "w", 60000, TIMEOUT_MS, 1);
    assert_result(queue_check_durability(eve, warning, sizeof(warning), &err), QUEUE_OK, &err);
    assert_non_null(strstr(warning, "does not tell"));
    queue_free(eve);
}

static void error_replies_are_told_apart(void **state)
{
    (void)state;
    static const char *const unavailable[] = {
        "LOADING Redis is loading the dataset in memory",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script.",
        "UNKILLABLE Sorry the script already executed write commands",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "ERR max number of clients reached",
    };
    for (size_t i = 0; i < sizeof(unavailable) / sizeof(unavailable[0]); i++)
        assert_int_equal(reply_error_of(unavailable[i]), REPLY_UNAVAILABLE);
    assert_int_equal(reply_error_of("READONLY You can't write against a read only replica."), REPLY_READ_ONLY);
    assert_int_equal(reply_error_of("MASTERDOWN Link with MASTER is down"), REPLY_READ_ONLY);
    assert_int_equal(reply_error_of("CLUSTERDOWN The cluster is down"), REPLY_READ_ONLY);
    assert_int_equal(reply_error_of("NOGROUP No such key"), REPLY_NO_GROUP);
    assert_int_equal(reply_error_of("NOSCRIPT No matching script."), REPLY_NO_SCRIPT);
    assert_int_equal(reply_error_of("WRONGTYPE Operation against a key"), REPLY_REFUSED);
    assert_int_equal(reply_error_of("OOMPH is no code of Redis"), REPLY_REFUSED);
    assert_int_equal(reply_error_of(""), REPLY_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_and_restarted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stalled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_answers_are_no_deliveries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(emptied_while_taking, set_up, tear_down),
        cmocka_unit_test_setup_teardown(emptied_while_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(emptied_unnoticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(renewal_is_not_swallowed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(group_destroyed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(busy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_type_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(passwords, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_permission_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(durability_is_checked, set_up, tear_down),
        cmocka_unit_test(error_replies_are_told_apart),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
