#include "queue/client.h"

/* ids of one partition's deliveries that are still ours */
static size_t count_held(const struct delivery *deliveries, size_t n, uint32_t partition)
{
    size_t held = 0;
    for (size_t i = 0; i < n; i++)
        held += deliveries[i].partition == partition && !deliveries[i].lost;
    return held;
}

/* One call a partition: KEYS events; ARGV group, consumer, ids. */
static void write_calls(struct queue *queue, enum script_id script, const struct delivery *deliveries, size_t n)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    for (uint32_t p = 0; p < queue->n_partitions; p++) {
        size_t held = count_held(deliveries, n, p);
        if (held == 0)
            continue;
        redis_pipeline_script(pipeline, script, 1, 2 + held);
        command_part(&pipeline->text, queue->partitions[p].keys.of[KEY_EVENTS]);
        command_text(&pipeline->text, QUEUE_GROUP);
        command_text(&pipeline->text, queue->consumer);
        for (size_t i = 0; i < n; i++) {
            if (deliveries[i].partition == p && !deliveries[i].lost)
                command_part(&pipeline->text, deliveries[i].entry_id);
        }
    }
}

/* The delivery that was the position-th id (from 1) of its partition's call. */
static struct delivery *at_position(struct delivery *deliveries, size_t n, uint32_t partition, int64_t position)
{
    for (size_t i = 0; i < n; i++) {
        if (deliveries[i].partition == partition && !deliveries[i].lost && --position == 0)
            return &deliveries[i];
    }
    return NULL;
}

/* From the last position down, so that marking does not shift the positions that are still to come. */
static bool mark_lost(const redisReply *positions, struct delivery *deliveries, size_t n, uint32_t partition)
{
    if (!reply_is_list(positions, 0))
        return false;
    for (size_t i = positions->elements; i-- > 0;) {
        int64_t position;
        if (!reply_number(positions->element[i], &position))
            return false;
        struct delivery *delivery = at_position(deliveries, n, partition, position);
        if (delivery == NULL)
            return false;
        delivery->lost = true;
    }
    return true;
}

enum queue_result queue_keep(struct queue *queue, struct delivery *deliveries, size_t n, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    write_calls(queue, SCRIPT_KEEP, deliveries, n);
    result = queue_run(queue, err);
    if (result != QUEUE_OK)
        return result;
    size_t call = 0;
    for (uint32_t p = 0; p < queue->n_partitions; p++) {
        if (count_held(deliveries, n, p) == 0)
            continue;
        if (!mark_lost(queue->pipeline.calls[call++].reply, deliveries, n, p))
            return queue_nonsense(queue, "keep", err);
    }
    return QUEUE_OK;
}

enum queue_result queue_hand_back(struct queue *queue, const struct delivery *deliveries, size_t n, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result == QUEUE_OK) {
        write_calls(queue, SCRIPT_HAND_BACK, deliveries, n);
        result = queue_run(queue, err);
    }
    if (result != QUEUE_OK)
        queue->in_doubt = true; /* the next take or reclaim does it */
    return result;
}
