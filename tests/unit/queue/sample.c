#include "sample.h"

#include <stdio.h>

struct event sample_event(const char *id, struct slice body)
{
    return (struct event){
        .source = SLICE_LITERAL("demo"),
        .event_id = slice_of(id),
        .type = SLICE_LITERAL("parcel.delivered"),
        .occurred_at = SLICE_LITERAL("2026-01-31T12:00:00Z"),
        .received_at = {1769860800123},
        .ingest_id = SLICE_LITERAL("01HZZZZZZZZZZZZZZZZZZZZZZZ"),
        .content_type = SLICE_LITERAL("application/json"),
        .headers = SLICE_LITERAL("user-agent: test\nwebhook-id: x\n"),
        .body = body,
        .attempt = 1,
    };
}

struct queue *sample_queue_with(const char *url, const char *consumer, int64_t lease_ms, int64_t timeout_ms,
                                uint32_t partitions)
{
    struct queue_options options = {
        .url = url, .consumer = consumer, .timeout_ms = timeout_ms, .lease_ms = lease_ms, .partitions = partitions};
    struct error err = {{0}};
    struct queue *queue = queue_new(&options, &err);
    if (queue == NULL)
        fail_msg("queue_new: %s", err.text);
    return queue;
}

struct queue *sample_queue(struct redis_server *server, const char *consumer, int64_t lease_ms)
{
    return sample_queue_with(server->url, consumer, lease_ms, 2000, 1);
}

void sample_open(struct queue *queue)
{
    struct error err = {{0}};
    bool renewed;
    assert_result(queue_open(queue, &renewed, &err), QUEUE_OK, &err);
}

void sample_requeue(struct queue *queue, const char *id)
{
    struct error err = {{0}};
    struct event event = sample_event(id, SLICE_LITERAL("{\"n\":1}"));
    assert_result(queue_requeue(queue, &event, &err), QUEUE_OK, &err);
}

void assert_result_at(enum queue_result result, enum queue_result expected, const struct error *err, const char *file,
                      int line)
{
    if (result != expected) {
        print_error("result %d instead of %d: %s\n", result, expected, err->text);
        _fail(file, line);
    }
}

void assert_slice_at(struct slice slice, const char *text, const char *file, int line)
{
    if (!slice_is(slice, text)) {
        print_error("'%.*s' instead of '%s'\n", SLICE_ARG(slice), text);
        _fail(file, line);
    }
}
