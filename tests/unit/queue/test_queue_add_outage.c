/* Adding when Redis is away, dies, stalls, is full, read-only, or will not have us: every event is answered once, in
 * time, and the adder heals by itself. */
#include <stdio.h>

#include "adder_helper.h"

#include "base/clock.h"

#define TIMEOUT_MS 400

static struct redis_server server;
static struct poll_loop *loop;

static int set_up(void **state)
{
    (void)state;
    server_do(&server, "FLUSHALL");
    loop = poll_loop_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    poll_loop_free(loop);
    return 0;
}

static struct queue_adder *adder_of(const char *url)
{
    struct queue_add_options options = {.url = url, .timeout_ms = TIMEOUT_MS, .partitions = 1, .max_pending = 1000};
    return adder_start(loop, &options);
}

static struct queue_adder *ready_adder(void)
{
    struct queue_adder *adder = adder_of(server.url);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    return adder;
}

static int add_many(struct queue_adder *adder, int n, struct counts *counts)
{
    char id[16];
    int sent = 0;
    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        sent += adder_add(adder, id, counts);
    }
    return sent;
}

static void killed_with_events_in_flight(void **state)
{
    struct queue_adder *adder = ready_adder();
    struct counts counts = {0};
    (void)state;
    assert_int_equal(add_many(adder, 100, &counts), 100);
    server_kill(&server);
    assert_int_equal(add_many(adder, 100, &counts), 100); /* nobody knows yet */
    assert_true(poll_loop_run(loop, adder_is_idle, adder, TIMEOUT_MS));
    assert_int_equal(counts.ok, 0);
    assert_int_equal(counts.unavailable, 200);
    assert_false(queue_adder_is_ready(adder));
    assert_int_equal(queue_adder_backlog(adder), -1);
    assert_false(adder_add(adder, "e", &counts));
    server_restart(&server);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_OK);
    queue_adder_free(adder);
}

static void acknowledged_events_survive_a_kill(void **state)
{
    struct queue_adder *adder = ready_adder();
    struct counts counts = {0};
    (void)state;
    for (int round = 0; round < 5; round++) {
        assert_true(poll_loop_run(loop, adder_is_ready, adder, 10000));
        add_many(adder, 200, &counts);
        poll_loop_run(loop, NULL, NULL, round); /* somewhere in the middle */
        server_kill(&server);
        assert_true(poll_loop_run(loop, adder_is_idle, adder, 2000));
        server_restart(&server);
    }
    assert_int_equal(counts.ok + counts.unavailable, 1000);
    assert_true(server_number(&server, "XLEN waybill:{0}:events") >= counts.ok);
    queue_adder_free(adder);
}

static void tries_are_paced(void **state)
{
    struct queue_adder *adder = ready_adder();
    (void)state;
    server_kill(&server);
    assert_true(poll_loop_run(loop, adder_is_not_ready, adder, 1000));
    uint64_t before = queue_adder_connects(adder);
    poll_loop_run(loop, NULL, NULL, 1500);
    /* 50 ms doubling, at least half of each fixed: 25 + 50 + 100 + 200 + 400 + 800 ms at the shortest. */
    assert_in_range(queue_adder_connects(adder) - before, 3, 7);
    server_restart(&server);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    queue_adder_free(adder);
}

static void absent_at_the_start(void **state)
{
    (void)state;
    server_kill(&server);
    struct queue_adder *adder = adder_of(server.url);
    struct counts counts = {0};
    poll_loop_run(loop, NULL, NULL, 100);
    assert_false(queue_adder_is_ready(adder));
    assert_false(adder_add(adder, "e", &counts));
    server_restart(&server);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    queue_adder_free(adder);
}

static void unix_socket_gone(void **state)
{
    struct queue_adder *adder = adder_of("unix:///tmp/waybill-no-such-folder/redis.sock");
    (void)state;
    poll_loop_run(loop, NULL, NULL, 300);
    assert_false(queue_adder_is_ready(adder));
    assert_in_range(queue_adder_connects(adder), 2, 6);
    queue_adder_free(adder);
}

static void unknown_name(void **state)
{
    struct queue_adder *adder = adder_of("redis://no-such-host.invalid:6379");
    (void)state;
    poll_loop_run(loop, NULL, NULL, 200);
    assert_false(queue_adder_is_ready(adder));
    assert_in_range(queue_adder_connects(adder), 1, 6);
    queue_adder_free(adder);
}

static void stalled(void **state)
{
    struct queue_adder *adder = ready_adder();
    struct counts counts = {0};
    (void)state;
    mono_time start = clock_mono();
    server_pause(&server);
    assert_int_equal(add_many(adder, 10, &counts), 10);
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    /* The measuring may have been waiting for its answer already when Redis stopped. */
    assert_in_range(mono_elapsed_ms(start, clock_mono()), TIMEOUT_MS / 2, TIMEOUT_MS + 1000);
    assert_int_equal(counts.unavailable, 10);
    assert_false(queue_adder_is_ready(adder));
    poll_loop_run(loop, NULL, NULL, TIMEOUT_MS + 300); /* connecting works, greeting does not */
    assert_false(queue_adder_is_ready(adder));
    server_resume(&server);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_OK);
    queue_adder_free(adder);
}

/* Without events in flight, a stall is noticed by the measuring. */
static void stalled_while_idle(void **state)
{
    struct queue_adder *adder = ready_adder();
    (void)state;
    server_pause(&server);
    assert_true(poll_loop_run(loop, adder_is_not_ready, adder, 1000 + TIMEOUT_MS + 2000));
    server_resume(&server);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    queue_adder_free(adder);
}

static void out_of_memory(void **state)
{
    struct queue_adder *adder = ready_adder();
    struct counts counts = {0};
    (void)state;
    server_do(&server, "CONFIG SET maxmemory 1");
    assert_int_equal(add_many(adder, 10, &counts), 10);
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    assert_int_equal(counts.unavailable, 10);
    assert_false(queue_adder_is_ready(adder));
    assert_false(adder_add(adder, "e", &counts));
    poll_loop_run(loop, NULL, NULL, 500);
    assert_false(queue_adder_is_ready(adder));
    assert_int_equal(queue_adder_connects(adder), 1); /* the link is fine */
    server_do(&server, "CONFIG SET maxmemory 0");
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 3000));
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_OK);
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 1);
    queue_adder_free(adder);
}

static void out_of_memory_at_the_start(void **state)
{
    (void)state;
    server_do(&server, "CONFIG SET maxmemory 1");
    struct queue_adder *adder = adder_of(server.url);
    poll_loop_run(loop, NULL, NULL, 300);
    assert_false(queue_adder_is_ready(adder));
    server_do(&server, "CONFIG SET maxmemory 0");
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 3000));
    queue_adder_free(adder);
}

static void read_only(void **state)
{
    struct queue_adder *adder = ready_adder();
    (void)state;
    server_do(&server, "REPLICAOF 127.0.0.1 1");
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_UNAVAILABLE);
    assert_false(queue_adder_is_ready(adder));
    poll_loop_run(loop, NULL, NULL, 300);
    assert_false(queue_adder_is_ready(adder));
    assert_true(queue_adder_connects(adder) >= 2); /* another server may be the primary now */
    server_do(&server, "REPLICAOF NO ONE");
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_OK);
    queue_adder_free(adder);
}

static void a_key_of_the_wrong_type(void **state)
{
    struct queue_adder *adder = ready_adder();
    struct counts counts = {0};
    uint64_t turns = 0;
    (void)state;
    server_do(&server, "SET waybill:{0}:events x");
    for (mono_time end = mono_after_ms(clock_mono(), 1000); !mono_is_past(end, clock_mono()); turns++) {
        adder_add(adder, "e", &counts);
        poll_loop_run(loop, NULL, NULL, 5);
    }
    assert_int_equal(counts.ok, 0);
    assert_in_range(counts.unavailable, 1, 20); /* far fewer than turns: refused at once while it is known */
    server_do(&server, "DEL waybill:{0}:events");
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_OK);
    queue_adder_free(adder);
}

static void passwords(void **state)
{
    char url[160];
    (void)state;
    server_do(&server, "CONFIG SET requirepass secret");
    struct queue_adder *adder = adder_of(server.url);
    poll_loop_run(loop, NULL, NULL, 200);
    assert_false(queue_adder_is_ready(adder));
    queue_adder_free(adder);
    snprintf(url, sizeof(url), "redis://:wrong@127.0.0.1:%d", server.port);
    adder = adder_of(url);
    poll_loop_run(loop, NULL, NULL, 200);
    assert_false(queue_adder_is_ready(adder));
    queue_adder_free(adder);
    snprintf(url, sizeof(url), "redis://default:secret@127.0.0.1:%d/1", server.port);
    adder = adder_of(url);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 3000));
    queue_adder_free(adder);
    server_do(&server, "CONFIG SET requirepass %s", "");
}

/* A callback that reacts to the outage by adding again must be told no, not served for ever. */
static struct queue_adder *again_adder;
static int again_calls;

static void add_again(void *arg, enum add_result result)
{
    struct event event = sample_event("again", SLICE_LITERAL("{}"));
    (void)arg;
    again_calls++;
    if (result == ADD_UNAVAILABLE)
        assert_false(queue_add(again_adder, &event, add_again, NULL));
}

static void callbacks_of_an_outage_may_add(void **state)
{
    struct event event = sample_event("e", SLICE_LITERAL("{}"));
    (void)state;
    again_adder = ready_adder();
    again_calls = 0;
    for (int i = 0; i < 5; i++)
        assert_true(queue_add(again_adder, &event, add_again, NULL));
    server_kill(&server);
    assert_true(poll_loop_run(loop, adder_is_idle, again_adder, 2000));
    assert_int_equal(again_calls, 5);
    queue_adder_free(again_adder);
    server_restart(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_with_events_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(acknowledged_events_survive_a_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tries_are_paced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(absent_at_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_socket_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stalled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stalled_while_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(out_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(out_of_memory_at_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_of_the_wrong_type, set_up, tear_down),
        cmocka_unit_test_setup_teardown(passwords, set_up, tear_down),
        cmocka_unit_test_setup_teardown(callbacks_of_an_outage_may_add, set_up, tear_down),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
