/* Adding with ack_replicas: an event counts as added when a real replica has it too. */
#include <stdio.h>
#include <stdlib.h>

#include "adder_helper.h"

#include "base/clock.h"

#define TIMEOUT_MS 1500

static struct redis_server primary, replica;
static struct poll_loop *loop;

static void follow(void)
{
    server_do(&replica, "REPLICAOF 127.0.0.1 %d", primary.port);
    for (mono_time end = mono_after_ms(clock_mono(), 20000); !mono_is_past(end, clock_mono()); clock_sleep_ms(20)) {
        redisReply *reply = server_ask(&replica, "ROLE");
        bool up = reply->elements > 3 && strcmp(reply->element[3]->str, "connected") == 0;
        freeReplyObject(reply);
        server_do(&primary, "SET warm-up 1");
        if (up && server_number(&primary, "WAIT 1 1000") == 1) {
            server_do(&primary, "DEL warm-up");
            return;
        }
    }
    fail_msg("the replica does not follow");
}

static int set_up(void **state)
{
    (void)state;
    server_do(&primary, "FLUSHALL");
    follow();
    loop = poll_loop_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    poll_loop_free(loop);
    return 0;
}

static struct queue_adder *adder_for(uint32_t replicas)
{
    struct queue_add_options options = {
        .url = primary.url, .timeout_ms = TIMEOUT_MS, .partitions = 1, .max_pending = 1000, .ack_replicas = replicas};
    return adder_start(loop, &options);
}

static void added_when_the_replica_has_it(void **state)
{
    struct queue_adder *adder = adder_for(1);
    struct counts counts = {0};
    char id[16];
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    server_do(&primary, "CONFIG RESETSTAT");
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 50; i++) {
            snprintf(id, sizeof(id), "e%d", i);
            assert_true(adder_add(adder, id, &counts));
        }
        assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    }
    assert_int_equal(counts.ok, 150);
    assert_int_equal(server_number(&replica, "XLEN waybill:{0}:events"), 150);
    redisReply *reply = server_ask(&primary, "INFO commandstats");
    assert_non_null(strstr(reply->str, "cmdstat_wait:calls=3,")); /* one a turn, not one an event */
    freeReplyObject(reply);
    queue_adder_free(adder);
}

static void too_few_replicas(void **state)
{
    struct queue_adder *adder = adder_for(2);
    (void)state;
    poll_loop_run(loop, NULL, NULL, TIMEOUT_MS);
    assert_false(queue_adder_is_ready(adder));
    queue_adder_free(adder);
}

static void the_replica_stalls(void **state)
{
    struct queue_adder *adder = adder_for(1);
    struct counts counts = {0};
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    server_pause(&replica);
    assert_true(adder_add(adder, "e", &counts));
    mono_time start = clock_mono();
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    assert_true(mono_elapsed_ms(start, clock_mono()) <= TIMEOUT_MS + 300);
    assert_int_equal(counts.unavailable, 1);
    assert_false(queue_adder_is_ready(adder));
    server_resume(&replica);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 10000));
    assert_int_equal(adder_add_and_wait(loop, adder, "f"), ADD_OK);
    queue_adder_free(adder);
}

static void the_replica_dies_and_returns(void **state)
{
    struct queue_adder *adder = adder_for(1);
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    server_kill(&replica);
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_UNAVAILABLE);
    server_restart(&replica);
    follow();
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 20000));
    assert_int_equal(adder_add_and_wait(loop, adder, "f"), ADD_OK);
    queue_adder_free(adder);
}

static void refused_events_are_not_made_good_by_wait(void **state)
{
    struct queue_adder *adder = adder_for(1);
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    server_do(&primary, "CONFIG SET maxmemory 1");
    assert_int_equal(adder_add_and_wait(loop, adder, "e"), ADD_UNAVAILABLE);
    server_do(&primary, "CONFIG SET maxmemory 0");
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_int_equal(adder_add_and_wait(loop, adder, "f"), ADD_OK);
    queue_adder_free(adder);
}

static void freed_while_waiting_for_a_replica(void **state)
{
    struct queue_adder *adder = adder_for(1);
    struct counts counts = {0};
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    server_pause(&replica);
    assert_true(adder_add(adder, "e", &counts));
    poll_loop_run(loop, NULL, NULL, 50); /* XADD is answered, WAIT is not */
    assert_int_equal(queue_adder_pending(adder), 1);
    queue_adder_free(adder);
    assert_int_equal(counts.unavailable, 1);
    server_resume(&replica);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(added_when_the_replica_has_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_few_replicas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_replica_stalls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_replica_dies_and_returns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_events_are_not_made_good_by_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freed_while_waiting_for_a_replica, set_up, tear_down),
    };
    server_start(&primary, "--repl-diskless-sync-delay", "0");
    server_start(&replica, "--repl-diskless-sync-delay", "0");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&primary);
    server_destroy(&replica);
    return failed;
}
