#include "base/memory.h"
#include "queue/client.h"

static void write_requeue(struct queue *queue, uint32_t partition, struct slice key, const struct event *event)
{
    struct envelope_field fields[ENVELOPE_MAX_FIELDS];
    struct arena *arena = arena_new();
    size_t n = envelope_encode(event, arena, fields);
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct slice *keys = queue->partitions[partition].keys.of;
    redis_pipeline_script(pipeline, SCRIPT_REQUEUE, 3, 2 + 2 * n);
    command_part(&pipeline->text, keys[KEY_EVENTS]);
    command_part(&pipeline->text, keys[KEY_DEAD]);
    command_part(&pipeline->text, keys[KEY_DEAD_INDEX]);
    command_part(&pipeline->text, key);
    command_text(&pipeline->text, event->replay.len > 0 ? "1" : "0");
    for (size_t i = 0; i < n; i++) {
        command_part(&pipeline->text, fields[i].name);
        command_part(&pipeline->text, fields[i].value);
    }
    arena_free(arena);
}

static void write_forget(struct queue *queue, uint32_t partition, struct slice key)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct slice *keys = queue->partitions[partition].keys.of;
    redis_pipeline_script(pipeline, SCRIPT_FORGET_DEAD, 2, 1);
    command_part(&pipeline->text, keys[KEY_DEAD]);
    command_part(&pipeline->text, keys[KEY_DEAD_INDEX]);
    command_part(&pipeline->text, key);
}

enum queue_result queue_requeue(struct queue *queue, const struct event *event, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    struct arena *arena = arena_new();
    struct slice key = event_key(event, arena);
    uint32_t home = event_partition(key, queue->n_partitions);
    write_requeue(queue, home, key, event);
    /* A notice can be elsewhere when the number of partitions has changed since. */
    for (uint32_t p = 0; event->replay.len > 0 && p < queue->n_partitions; p++) {
        if (p != home)
            write_forget(queue, p, key);
    }
    arena_free(arena);
    return queue_run(queue, err);
}

enum queue_result queue_forget_dead(struct queue *queue, struct slice key, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    /* All partitions: the key of a malformed entry does not tell in which it was. */
    for (uint32_t p = 0; p < queue->n_partitions; p++)
        write_forget(queue, p, key);
    return queue_run(queue, err);
}
