#include "queue/client.h"
#include "queue/durability.h"

static bool add_measure(const redisReply *reply, struct queue_depth *depth)
{
    int64_t value[6];
    if (!reply_is_list(reply, 6))
        return false;
    for (size_t i = 0; i < 6; i++) {
        if (!reply_number(reply->element[i], &value[i]))
            return false;
    }
    depth->stream += value[0];
    depth->pending += value[1];
    depth->retry += value[2];
    depth->dead += value[3];
    if (value[4] > depth->oldest_ms)
        depth->oldest_ms = value[4];
    if (value[5] > depth->consumers) /* the same consumers take from each partition */
        depth->consumers = value[5];
    return true;
}

enum queue_result queue_measure(struct queue *queue, struct queue_depth *depth, struct error *err)
{
    *depth = (struct queue_depth){0};
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    struct redis_pipeline *pipeline = &queue->pipeline;
    for (uint32_t p = 0; p < queue->n_partitions; p++) {
        const struct slice *keys = queue->partitions[p].keys.of;
        redis_pipeline_script(pipeline, SCRIPT_MEASURE, 3, 1);
        command_part(&pipeline->text, keys[KEY_EVENTS]);
        command_part(&pipeline->text, keys[KEY_RETRY]);
        command_part(&pipeline->text, keys[KEY_DEAD]);
        command_text(&pipeline->text, QUEUE_GROUP);
    }
    result = queue_run(queue, err);
    for (uint32_t p = 0; result == QUEUE_OK && p < queue->n_partitions; p++) {
        if (!add_measure(pipeline->calls[p].reply, depth))
            result = queue_nonsense(queue, "measure", err);
    }
    return result;
}

enum queue_result queue_check_durability(struct queue *queue, char *warning, size_t size, struct error *err)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    warning[0] = '\0';
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    redis_pipeline_command(pipeline, DURABILITY_PARTS);
    for (size_t i = 0; i < DURABILITY_PARTS; i++)
        command_part(&pipeline->text, durability_command[i]);
    result = queue_run(queue, err);
    if (result == QUEUE_UNAVAILABLE)
        return result;
    durability_judge(pipeline->calls[0].reply, warning, size); /* a refusal too: managed servers do not let us ask */
    return QUEUE_OK;
}
