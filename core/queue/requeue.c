#include "base/memory.h"
#include "queue/client.h"

static void write_requeue(struct queue *queue, struct slice key, const struct event *event,
                          const struct envelope_field *fields, size_t n)
{
    struct pipeline *pipeline = &queue->pipeline;
    const struct slice *keys = queue->partitions[event_partition(key, queue->n_partitions)].keys.of;
    pipeline_script(pipeline, SCRIPT_REQUEUE, 3, 2 + 2 * n);
    command_part(&pipeline->text, keys[KEY_EVENTS]);
    command_part(&pipeline->text, keys[KEY_DEAD]);
    command_part(&pipeline->text, keys[KEY_DEAD_INDEX]);
    command_part(&pipeline->text, key);
    command_text(&pipeline->text, event->replay.len > 0 ? "1" : "0");
    for (size_t i = 0; i < n; i++) {
        command_part(&pipeline->text, fields[i].name);
        command_part(&pipeline->text, fields[i].value);
    }
}

enum queue_result queue_requeue(struct queue *queue, const struct event *event, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    struct envelope_field fields[ENVELOPE_MAX_FIELDS];
    struct arena *arena = arena_new();
    struct buf key = {0};
    event_key(event, &key);
    write_requeue(queue, buf_slice(&key), event, fields, envelope_encode(event, arena, fields));
    buf_free(&key);
    arena_free(arena);
    return queue_run(queue, err);
}

enum queue_result queue_forget_dead(struct queue *queue, struct slice key, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    struct pipeline *pipeline = &queue->pipeline;
    const struct slice *keys = queue->partitions[event_partition(key, queue->n_partitions)].keys.of;
    pipeline_script(pipeline, SCRIPT_FORGET_DEAD, 2, 1);
    command_part(&pipeline->text, keys[KEY_DEAD]);
    command_part(&pipeline->text, keys[KEY_DEAD_INDEX]);
    command_part(&pipeline->text, key);
    return queue_run(queue, err);
}
