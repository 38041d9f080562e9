/* Adding, on a healthy server. */
#include <netdb.h>
#include <stdio.h>

#include "adder_helper.h"

static struct redis_server server;
static struct poll_loop *loop;
static struct error err;

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

static struct queue_adder *adder_with(const char *url, uint32_t partitions, int64_t max_backlog, size_t max_pending)
{
    struct queue_add_options options = {.url = url,
                                        .timeout_ms = 1000,
                                        .partitions = partitions,
                                        .max_backlog = max_backlog,
                                        .max_pending = max_pending};
    return adder_start(loop, &options);
}

static bool is_full(void *adder)
{
    return queue_adder_is_full(adder);
}

static bool is_not_full(void *adder)
{
    return !queue_adder_is_full(adder);
}

static bool is_measured(void *adder)
{
    return queue_adder_backlog(adder) >= 0;
}

static void not_ready_before_connected(void **state)
{
    struct queue_adder *adder = adder_with(server.url, 1, 0, 100);
    struct counts counts = {0};
    (void)state;
    assert_false(queue_adder_is_ready(adder));
    assert_int_equal(queue_adder_backlog(adder), -1);
    assert_false(adder_add(adder, "e", &counts));
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_int_equal(queue_adder_connects(adder), 1);
    assert_int_equal(counts.ok + counts.unavailable, 0);
    assert_int_equal(server_number(&server, "DBSIZE"), 0); /* being ready leaves nothing behind */
    queue_adder_free(adder);
}

static void many_in_one_turn_leave_in_one_write(void **state)
{
    struct queue_adder *adder = adder_with(server.url, 1, 0, 1000);
    struct counts counts = {0};
    char id[16];
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    uint64_t writes = poll_loop_writes(loop);
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        assert_true(adder_add(adder, id, &counts));
    }
    assert_int_equal(counts.ok, 0); /* never inside queue_add */
    assert_int_equal(queue_adder_pending(adder), 200);
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    assert_int_equal(counts.ok, 200);
    assert_in_range(poll_loop_writes(loop) - writes, 1, 3); /* a tick may add one of its own */
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 200);
    queue_adder_free(adder);
}

static void worker_reads_what_was_added(void **state)
{
    struct queue_adder *adder = adder_with(server.url, 3, 0, 100);
    struct queue *queue = sample_queue_with(server.url, "w", 1000, 2000, 3);
    struct arena *arena = arena_new();
    struct queue_batch batch = {.arena = arena};
    struct counts counts = {0};
    static const char body[] = "\0\r\n\xff*3\r\n\0";
    struct slice binary = {body, sizeof(body) - 1};
    struct event event = sample_event("pär/cel", binary);
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_true(queue_add(adder, &event, adder_count, &counts));
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    assert_result(queue_take(queue, 10, 1000, &batch, &err), QUEUE_OK, &err);
    assert_int_equal(batch.n, 1);
    assert_slice(batch.deliveries[0].key, "demo/pär/cel");
    assert_true(slice_equal(batch.deliveries[0].event.body, binary));
    assert_int_equal(batch.deliveries[0].event.received_at.ms, 1769860800123);
    assert_int_equal(batch.deliveries[0].partition, event_partition(batch.deliveries[0].key, 3));
    queue_free(queue);
    arena_free(arena);
    queue_adder_free(adder);
}

static void pending_is_bounded(void **state)
{
    struct queue_adder *adder = adder_with(server.url, 1, 0, 5);
    struct counts counts = {0};
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    for (int i = 0; i < 5; i++)
        assert_true(adder_add(adder, "e", &counts));
    assert_false(adder_add(adder, "e", &counts));
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    assert_int_equal(counts.ok, 5);
    assert_true(adder_add(adder, "e", &counts));
    queue_adder_free(adder); /* with one unanswered: called back */
    assert_int_equal(counts.unavailable, 1);
}

static void backlog_is_measured_and_limits(void **state)
{
    struct queue_adder *adder = adder_with(server.url, 2, 10, 100);
    struct counts counts = {0};
    char id[16];
    (void)state;
    assert_true(poll_loop_run(loop, is_measured, adder, 5000));
    assert_int_equal(queue_adder_backlog(adder), 0);
    server_do(&server, "ZADD waybill:{1}:retry 1 a 2 b 3 c");
    for (int i = 0; i < 8; i++) {
        assert_false(queue_adder_is_full(adder) && i < 7);
        snprintf(id, sizeof(id), "e%d", i);
        assert_true(adder_add(adder, id, &counts));
        assert_true(queue_adder_backlog(adder) >= i + 1); /* at once, before it is measured again */
    }
    assert_true(poll_loop_run(loop, is_full, adder, 5000));
    assert_int_equal(queue_adder_backlog(adder), 11);
    server_do(&server, "DEL waybill:{1}:retry");
    assert_true(poll_loop_run(loop, is_not_full, adder, 5000));
    queue_adder_free(adder);
}

static void unix_socket_and_database(void **state)
{
    char url[160];
    struct counts counts = {0};
    (void)state;
    snprintf(url, sizeof(url), "%s?db=2", server.unix_url);
    struct queue_adder *adder = adder_with(url, 1, 0, 10);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_true(adder_add(adder, "e", &counts));
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    queue_adder_free(adder);
    assert_int_equal(counts.ok, 1);
    server_do(&server, "SELECT 2");
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 1);
    server_do(&server, "SELECT 0");
}

/* A bare system (a chroot without /etc/hosts, say) does not know the name. */
static bool localhost_is_known(void)
{
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", NULL, NULL, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

static void names_are_looked_up(void **state)
{
    char url[160];
    struct counts counts = {0};
    (void)state;
    if (!localhost_is_known())
        skip();
    snprintf(url, sizeof(url), "redis://localhost:%d/2", server.port);
    struct queue_adder *adder = adder_with(url, 1, 0, 10);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000) || queue_adder_connects(adder) > 1);
    assert_true(poll_loop_run(loop, adder_is_ready, adder, 5000));
    assert_true(adder_add(adder, "e", &counts));
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    queue_adder_free(adder);
    assert_int_equal(counts.ok, 1);
    server_do(&server, "SELECT 2");
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 1);
    server_do(&server, "SELECT 0");
}

static void freed_while_looking_up(void **state)
{
    char url[160];
    (void)state;
    snprintf(url, sizeof(url), "redis://localhost:%d", server.port);
    struct queue_adder *adder = adder_with(url, 1, 0, 10);
    poll_loop_run(loop, NULL, NULL, 0);
    queue_adder_free(adder);
}

/* Adds the next event in the callback of the one before. */
struct chain {
    struct queue_adder *adder;
    int left;
    bool in_add;
};

static void add_next(void *arg, enum add_result result)
{
    struct chain *chain = arg;
    struct event event = sample_event("chain", SLICE_LITERAL("{}"));
    assert_int_equal(result, ADD_OK);
    assert_false(chain->in_add);
    if (chain->left-- == 0)
        return;
    chain->in_add = true;
    assert_true(queue_add(chain->adder, &event, add_next, chain));
    chain->in_add = false;
}

static bool is_chain_done(void *arg)
{
    return ((struct chain *)arg)->left < 0;
}

static void callbacks_may_add(void **state)
{
    struct chain chain = {.adder = adder_with(server.url, 1, 0, 1), .left = 50};
    (void)state;
    assert_true(poll_loop_run(loop, adder_is_ready, chain.adder, 5000));
    add_next(&chain, ADD_OK);
    assert_true(poll_loop_run(loop, is_chain_done, &chain, 5000));
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 50);
    queue_adder_free(chain.adder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(not_ready_before_connected, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_in_one_turn_leave_in_one_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(worker_reads_what_was_added, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pending_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(backlog_is_measured_and_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_socket_and_database, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_looked_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freed_while_looking_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(callbacks_may_add, set_up, tear_down),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
