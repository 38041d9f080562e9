#include "base/log.h"
#include "queue/client.h"

/* Per partition and call: bounded, because the server serves nobody else meanwhile. More that is due gives next_ms = 0.
 */
#define PROMOTE_MAX_ENTRIES 256
#define PROMOTE_MAX_BYTES   (4 * 1024 * 1024)

static void write_promote(struct queue *queue, uint32_t partition)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct slice *keys = queue->partitions[partition].keys.of;
    redis_pipeline_script(pipeline, SCRIPT_PROMOTE, 3, 2);
    command_part(&pipeline->text, keys[KEY_EVENTS]);
    command_part(&pipeline->text, keys[KEY_RETRY]);
    command_part(&pipeline->text, keys[KEY_ENVELOPES]);
    command_number(&pipeline->text, PROMOTE_MAX_ENTRIES);
    command_number(&pipeline->text, PROMOTE_MAX_BYTES);
}

static void report_orphans(uint32_t partition, int64_t orphans)
{
    if (orphans > 0)
        log_error("retries without an envelope were dropped; the reconciler queues their events again",
                  LOG_I("partition", partition), LOG_I("count", orphans));
}

/* promote's answer for one partition: [moved, next_ms, orphans]. */
static bool read_promoted(uint32_t partition, const redisReply *reply, size_t *moved, int64_t *next_ms)
{
    int64_t here, next, orphans;
    if (!reply_is_list(reply, 3) || !reply_number(reply->element[0], &here) ||
        !reply_number(reply->element[1], &next) || !reply_number(reply->element[2], &orphans))
        return false;
    *moved += (size_t)here;
    if (next >= 0 && (*next_ms < 0 || next < *next_ms))
        *next_ms = next;
    report_orphans(partition, orphans);
    return true;
}

enum queue_result queue_promote(struct queue *queue, size_t *moved, int64_t *next_ms, struct error *err)
{
    *moved = 0;
    *next_ms = -1;
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    for (uint32_t p = 0; p < queue->n_partitions; p++) {
        write_promote(queue, p);
        queue_ask_epoch(queue, p);
    }
    result = queue_run(queue, err);
    for (uint32_t p = 0; result == QUEUE_OK && p < queue->n_partitions; p++) {
        const struct call *calls = &queue->pipeline.calls[2 * p];
        if (!read_promoted(p, calls[0].reply, moved, next_ms))
            return queue_nonsense(queue, "promote", err);
        result = queue_check_epoch(queue, p, calls[1].reply, err);
    }
    return result;
}

enum queue_result queue_is_waiting(struct queue *queue, struct slice key, bool *waiting, struct error *err)
{
    *waiting = false;
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    struct redis_pipeline *pipeline = &queue->pipeline;
    /* All partitions: their number may have been another when the event came. */
    for (uint32_t p = 0; p < queue->n_partitions; p++) {
        redis_pipeline_command(pipeline, 3);
        command_text(&pipeline->text, "ZSCORE");
        command_part(&pipeline->text, queue->partitions[p].keys.of[KEY_RETRY]);
        command_part(&pipeline->text, key);
    }
    result = queue_run(queue, err);
    for (uint32_t p = 0; result == QUEUE_OK && p < queue->n_partitions; p++)
        *waiting = *waiting || pipeline->calls[p].reply->type != REDIS_REPLY_NIL;
    return result;
}
