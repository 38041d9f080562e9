/* Taking: groups and epochs, fields, malformed entries, partitions, waiting. */
#include <stdio.h>
#include <stdlib.h>

#include "sample.h"

#include "base/clock.h"

static struct redis_server server;
static struct arena *arena;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    server_do(&server, "FLUSHALL");
    arena = arena_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static struct queue_batch take(struct queue *queue, size_t max, int64_t wait_ms)
{
    struct queue_batch batch = {.arena = arena};
    assert_result(queue_take(queue, max, wait_ms, &batch, &err), QUEUE_OK, &err);
    return batch;
}

static void open_makes_group_and_epoch_once(void **state)
{
    struct queue *one = sample_queue(&server, "one", 1000), *two = sample_queue(&server, "two", 1000);
    char epoch[256];
    bool renewed = false;
    (void)state;
    assert_result(queue_open(one, &renewed, &err), QUEUE_OK, &err);
    assert_true(renewed);
    server_text(&server, epoch, "GET waybill:{0}:epoch");
    assert_true(strlen(epoch) > 20);
    assert_slice(queue_epoch(one, 0), epoch);
    assert_result(queue_open(one, &renewed, &err), QUEUE_OK, &err);
    assert_false(renewed);
    sample_open(two);
    assert_slice(queue_epoch(two, 0), epoch);
    assert_int_equal(queue_epoch(two, 7).len, 0);
    queue_free(one);
    queue_free(two);
}

static void group_begins_at_the_start_of_the_stream(void **state)
{
    struct queue *ctl = sample_queue(&server, "", 1000), *worker = sample_queue(&server, "w", 1000);
    (void)state;
    sample_requeue(ctl, "early");
    assert_int_equal(server_number(&server, "EXISTS waybill:{0}:epoch"), 0); /* a tool makes no group */
    struct queue_batch batch = take(worker, 10, 0);
    assert_int_equal(batch.n, 1);
    assert_slice(batch.deliveries[0].event.event_id, "early");
    queue_free(ctl);
    queue_free(worker);
}

static void fields_survive(void **state)
{
    struct queue *queue = sample_queue(&server, "w", 1000);
    static const char body[] = "\0\r\n$5\r\n\xff\xfe{\"a\":1}\0";
    struct slice binary = {body, sizeof(body) - 1};
    struct event event = sample_event("binary", binary);
    (void)state;
    event.traceparent = SLICE_LITERAL("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    event.attempt = 3;
    event.replay = SLICE_LITERAL("ops");
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
    struct queue_batch batch = take(queue, 10, 0);
    assert_int_equal(batch.n, 1);
    const struct delivery *d = &batch.deliveries[0];
    assert_slice(d->key, "demo/binary");
    assert_int_equal(d->partition, 0);
    assert_int_equal(d->deliveries, 1);
    assert_int_equal(d->malformed.len, 0);
    assert_true(slice_equal(d->event.body, binary));
    assert_slice(d->event.source, "demo");
    assert_slice(d->event.type, "parcel.delivered");
    assert_slice(d->event.occurred_at, "2026-01-31T12:00:00Z");
    assert_slice(d->event.ingest_id, "01HZZZZZZZZZZZZZZZZZZZZZZZ");
    assert_slice(d->event.content_type, "application/json");
    assert_slice(d->event.headers, "user-agent: test\nwebhook-id: x\n");
    assert_true(slice_equal(d->event.traceparent, event.traceparent));
    assert_int_equal(d->event.received_at.ms, 1769860800123);
    assert_int_equal(d->event.attempt, 3);
    assert_slice(d->event.replay, "ops");
    queue_free(queue);
}

static void malformed_entries_are_delivered_marked(void **state)
{
    struct queue *queue = sample_queue(&server, "w", 1000);
    char id[256], key[300];
    (void)state;
    sample_open(queue);
    server_text(&server, id, "XADD waybill:{0}:events 1234567890123-5 source demo event_id e1 odd %b", "\"\xff\"",
                (size_t)3);
    sample_requeue(queue, "good");
    struct queue_batch batch = take(queue, 10, 0);
    assert_int_equal(batch.n, 2);
    const struct delivery *bad = &batch.deliveries[0];
    assert_true(bad->malformed.len > 0);
    assert_slice(bad->event.body, "{\"source\":\"demo\",\"event_id\":\"e1\",\"odd\":\"\\\"\xef\xbf\xbd\\\"\"}");
    assert_int_equal(bad->event.received_at.ms, 1234567890123);
    assert_int_equal(bad->event.source.len, 0);
    assert_int_equal(bad->event.attempt, 1);
    assert_slice(bad->entry_id, id);
    snprintf(key, sizeof(key), "malformed/%s", id);
    assert_slice(bad->key, key);
    assert_slice(batch.deliveries[1].event.event_id, "good");
    assert_int_equal(batch.deliveries[1].malformed.len, 0);
    queue_free(queue);
}

static void takes_at_most_max(void **state)
{
    struct queue *queue = sample_queue(&server, "w", 1000);
    char id[16];
    (void)state;
    for (int i = 0; i < 25; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        sample_requeue(queue, id);
    }
    assert_int_equal(take(queue, 10, 0).n, 10);
    assert_int_equal(take(queue, 10, 0).n, 10);
    struct queue_batch last = take(queue, 10, 0);
    assert_int_equal(last.n, 5);
    assert_slice(last.deliveries[4].event.event_id, "e24");
    assert_int_equal(take(queue, 10, 0).n, 0);
    queue_free(queue);
}

static void partitions_are_all_served(void **state)
{
    struct queue *queue = sample_queue_with(server.url, "w", 1000, 2000, 4);
    char id[16];
    size_t taken = 0, per_partition[4] = {0};
    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "e%d", i);
        sample_requeue(queue, id);
    }
    /* A batch smaller than the number of partitions must neither exceed max nor starve one. */
    while (taken < 20) {
        struct queue_batch batch = take(queue, 3, 1000);
        assert_in_range(batch.n, 1, 3);
        for (size_t i = 0; i < batch.n; i++) {
            const struct delivery *d = &batch.deliveries[i];
            assert_int_equal(d->partition, event_partition(d->key, 4));
            per_partition[d->partition]++;
        }
        taken += batch.n;
    }
    for (int p = 0; p < 4; p++)
        assert_true(per_partition[p] > 0);
    while (taken < 40)
        taken += take(queue, 9, 1000).n;
    assert_int_equal(take(queue, 9, 0).n, 0);
    queue_free(queue);
}

static void waits_no_longer_than_asked(void **state)
{
    /* The answer's time limit is shorter than the wait: waiting is not slowness. */
    struct queue *queue = sample_queue_with(server.url, "w", 1000, 100, 1);
    (void)state;
    sample_open(queue);
    mono_time start = clock_mono();
    assert_int_equal(take(queue, 10, 300).n, 0);
    assert_in_range(mono_elapsed_ms(start, clock_mono()), 290, 1500);
    start = clock_mono();
    assert_int_equal(take(queue, 10, 0).n, 0);
    assert_in_range(mono_elapsed_ms(start, clock_mono()), 0, 250);
    queue_free(queue);
}

static void unix_socket_and_database(void **state)
{
    char url[160];
    (void)state;
    snprintf(url, sizeof(url), "%s?db=3", server.unix_url);
    struct queue *queue = sample_queue_with(url, "w", 1000, 2000, 1);
    sample_requeue(queue, "e");
    assert_int_equal(server_number(&server, "EXISTS waybill:{0}:events"), 0);
    server_do(&server, "SELECT 3");
    assert_int_equal(server_number(&server, "XLEN waybill:{0}:events"), 1);
    server_do(&server, "SELECT 0");
    queue_free(queue);
}

static void taking_needs_a_consumer(void **state)
{
    struct queue *queue = sample_queue(&server, "", 1000);
    struct queue_batch batch = {.arena = arena};
    (void)state;
    assert_result(queue_take(queue, 10, 0, &batch, &err), QUEUE_REFUSED, &err);
    assert_non_null(strstr(err.text, "consumer"));
    queue_free(queue);
}

static void bad_options_are_refused(void **state)
{
    struct queue_options options = {.url = "http://x", .consumer = "", .timeout_ms = 1, .lease_ms = 1, .partitions = 1};
    (void)state;
    assert_null(queue_new(&options, &err));
    options.url = server.url;
    options.partitions = 0;
    assert_null(queue_new(&options, &err));
    assert_non_null(strstr(err.text, "partitions"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(open_makes_group_and_epoch_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(group_begins_at_the_start_of_the_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fields_survive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(malformed_entries_are_delivered_marked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_at_most_max, set_up, tear_down),
        cmocka_unit_test_setup_teardown(partitions_are_all_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waits_no_longer_than_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_socket_and_database, set_up, tear_down),
        cmocka_unit_test_setup_teardown(taking_needs_a_consumer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_options_are_refused, set_up, tear_down),
    };
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
