#include "queue/client.h"

static bool is_plain_drop(const struct settlement *settlement)
{
    return settlement->kind == SETTLE_DROP && settlement->n_publishes == 0 && !settlement->delivery->lost;
}

/* All entries of a partition that just go, in one call. */
static void write_drops(struct queue *queue, uint32_t partition, const struct settlement *settlements, size_t n)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    size_t drops = 0;
    for (size_t i = 0; i < n; i++)
        drops += is_plain_drop(&settlements[i]) && settlements[i].delivery->partition == partition;
    if (drops == 0)
        return;
    redis_pipeline_script(pipeline, SCRIPT_DROP, 1, 1 + drops);
    command_part(&pipeline->text, queue->partitions[partition].keys.of[KEY_EVENTS]);
    command_text(&pipeline->text, QUEUE_GROUP);
    for (size_t i = 0; i < n; i++) {
        if (is_plain_drop(&settlements[i]) && settlements[i].delivery->partition == partition)
            command_part(&pipeline->text, settlements[i].delivery->entry_id);
    }
}

static void write_publish(struct queue *queue, const struct settlement *settlement)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct delivery *delivery = settlement->delivery;
    size_t n = settlement->n_publishes;
    struct buf key = {0};
    redis_pipeline_script(pipeline, SCRIPT_PUBLISH, 2 + n, 3 + n);
    command_part(&pipeline->text, queue->partitions[delivery->partition].keys.of[KEY_EVENTS]);
    queue_key_published(delivery->partition, delivery->key, &key);
    command_part(&pipeline->text, buf_slice(&key));
    for (size_t i = 0; i < n; i++) {
        buf_clear(&key);
        queue_key_out(delivery->partition, settlement->publishes[i].topic, &key);
        command_part(&pipeline->text, buf_slice(&key));
    }
    command_text(&pipeline->text, QUEUE_GROUP);
    command_part(&pipeline->text, delivery->entry_id);
    command_part(&pipeline->text, delivery->key);
    for (size_t i = 0; i < n; i++)
        command_part(&pipeline->text, settlement->publishes[i].payload);
    buf_free(&key);
}

static void write_retry(struct queue *queue, const struct settlement *settlement)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct delivery *delivery = settlement->delivery;
    const struct slice *keys = queue->partitions[delivery->partition].keys.of;
    redis_pipeline_script(pipeline, SCRIPT_RETRY, 3, 5);
    command_part(&pipeline->text, keys[KEY_EVENTS]);
    command_part(&pipeline->text, keys[KEY_RETRY]);
    command_part(&pipeline->text, keys[KEY_ENVELOPES]);
    command_text(&pipeline->text, QUEUE_GROUP);
    command_part(&pipeline->text, delivery->entry_id);
    command_part(&pipeline->text, delivery->key);
    command_number(&pipeline->text, settlement->delay_ms);
    command_number(&pipeline->text, settlement->next_attempt);
}

static void write_dead(struct queue *queue, const struct settlement *settlement)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct delivery *delivery = settlement->delivery;
    const struct slice *keys = queue->partitions[delivery->partition].keys.of;
    redis_pipeline_script(pipeline, SCRIPT_DEAD, 3, 5);
    command_part(&pipeline->text, keys[KEY_EVENTS]);
    command_part(&pipeline->text, keys[KEY_DEAD]);
    command_part(&pipeline->text, keys[KEY_DEAD_INDEX]);
    command_text(&pipeline->text, QUEUE_GROUP);
    command_part(&pipeline->text, delivery->entry_id);
    command_part(&pipeline->text, delivery->key);
    command_part(&pipeline->text, delivery->event.source);
    command_part(&pipeline->text, settlement->reason);
}

static void write_settlement(struct queue *queue, const struct settlement *settlement)
{
    if (settlement->delivery->lost) /* somebody else's by now */
        return;
    switch (settlement->kind) {
    case SETTLE_LEAVE:
        break;
    case SETTLE_DROP:
        if (settlement->n_publishes > 0)
            write_publish(queue, settlement);
        break;
    case SETTLE_RETRY:
        write_retry(queue, settlement);
        break;
    case SETTLE_DEAD:
        write_dead(queue, settlement);
        break;
    }
}

enum queue_result queue_settle(struct queue *queue, const struct settlement *settlements, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (settlements[i].delivery->partition >= queue->n_partitions) {
            error_set(err, "a delivery of partition %u, which this queue does not have",
                      settlements[i].delivery->partition);
            return QUEUE_REFUSED;
        }
    }
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    for (uint32_t p = 0; p < queue->n_partitions; p++)
        write_drops(queue, p, settlements, n);
    for (size_t i = 0; i < n; i++)
        write_settlement(queue, &settlements[i]);
    return queue_run(queue, err);
}
