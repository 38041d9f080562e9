#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "queue/client.h"

#define PARTITIONS_MAX 1024

struct queue *queue_new(const struct queue_options *options, struct error *err)
{
    struct redis_url url;
    if (!redis_url_parse(options->url, &url, err))
        return NULL;
    if (options->partitions < 1 || options->partitions > PARTITIONS_MAX || options->timeout_ms < 1 ||
        options->lease_ms < 1) {
        error_set(err, "the queue needs 1 to %d partitions, a time limit and a lease of at least 1 ms", PARTITIONS_MAX);
        return NULL;
    }
    struct queue *queue = memory_alloc(sizeof(*queue));
    queue->url = url;
    queue->consumer = memory_strdup(options->consumer == NULL ? "" : options->consumer);
    queue->timeout_ms = options->timeout_ms;
    queue->lease_ms = options->lease_ms;
    queue->n_partitions = options->partitions;
    queue->partitions = memory_alloc(options->partitions * sizeof(*queue->partitions));
    for (uint32_t i = 0; i < options->partitions; i++)
        queue_keys_init(&queue->partitions[i].keys, i);
    memory_wipe(&url, sizeof(url));
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    connection_close(queue);
    redis_pipeline_free(&queue->pipeline);
    free(queue->partitions);
    free(queue->consumer);
    memory_wipe(&queue->url, sizeof(queue->url));
    free(queue);
}

enum queue_result queue_run(struct queue *queue, struct error *err)
{
    enum queue_result result = redis_pipeline_run(&queue->pipeline, queue->redis, err);
    if (result != QUEUE_OK)
        connection_close(queue); /* replies may be outstanding, and another server may be the right one by now */
    return result;
}

enum queue_result queue_nonsense(struct queue *queue, const char *what, struct error *err)
{
    error_set(err, "Redis answered something unexpected to %s", what);
    connection_close(queue);
    return QUEUE_REFUSED;
}

/* Takes note of a partition's epoch; one that differs from what was known means that data may be lost. */
static bool note_epoch(struct queue *queue, struct partition *partition, const redisReply *reply)
{
    struct slice epoch = reply_slice(reply);
    if (epoch.len == 0 || epoch.len >= sizeof(partition->epoch))
        return false;
    if (!slice_is(epoch, partition->epoch)) {
        memcpy(partition->epoch, epoch.base, epoch.len);
        partition->epoch[epoch.len] = '\0';
        queue->renewed = true;
    }
    return true;
}

static enum queue_result open_partitions(struct queue *queue, struct error *err)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    redis_pipeline_clear(pipeline);
    for (uint32_t i = 0; i < queue->n_partitions; i++) {
        const struct slice *keys = queue->partitions[i].keys.of;
        char fresh[ID_TEXT_BYTES];
        redis_pipeline_script(pipeline, SCRIPT_OPEN, 2, 2);
        command_part(&pipeline->text, keys[KEY_EVENTS]);
        command_part(&pipeline->text, keys[KEY_EPOCH]);
        command_text(&pipeline->text, QUEUE_GROUP);
        command_text(&pipeline->text, id_new(clock_wall(), fresh));
    }
    enum queue_result result = queue_run(queue, err);
    if (result != QUEUE_OK)
        return result;
    for (uint32_t i = 0; i < queue->n_partitions; i++) {
        if (!note_epoch(queue, &queue->partitions[i], pipeline->calls[i].reply))
            return queue_nonsense(queue, "open", err);
    }
    queue->is_open = true;
    return QUEUE_OK;
}

static enum queue_result connect_if_needed(struct queue *queue, struct error *err)
{
    return queue->redis != NULL ? QUEUE_OK : connection_open(queue, err);
}

enum queue_result queue_begin(struct queue *queue, struct error *err)
{
    enum queue_result result = connect_if_needed(queue, err);
    if (result == QUEUE_OK && !connection_set_timeout(queue, queue->timeout_ms, err))
        result = QUEUE_UNAVAILABLE;
    if (result == QUEUE_OK && !queue->is_open && queue->consumer[0] != '\0')
        result = open_partitions(queue, err);
    redis_pipeline_clear(&queue->pipeline);
    return result;
}

enum queue_result queue_open(struct queue *queue, bool *renewed, struct error *err)
{
    *renewed = false;
    enum queue_result result = connect_if_needed(queue, err);
    if (result == QUEUE_OK && !connection_set_timeout(queue, queue->timeout_ms, err))
        result = QUEUE_UNAVAILABLE;
    if (result == QUEUE_OK)
        result = open_partitions(queue, err);
    if (result != QUEUE_OK)
        return result;
    *renewed = queue->renewed;
    queue->renewed = false;
    return QUEUE_OK;
}

void queue_ask_epoch(struct queue *queue, uint32_t partition)
{
    redis_pipeline_command(&queue->pipeline, 2);
    command_text(&queue->pipeline.text, "GET");
    command_part(&queue->pipeline.text, queue->partitions[partition].keys.of[KEY_EPOCH]);
}

enum queue_result queue_check_epoch(struct queue *queue, uint32_t partition, const redisReply *reply, struct error *err)
{
    if (!queue->is_open || slice_is(reply_slice(reply), queue->partitions[partition].epoch))
        return QUEUE_OK;
    connection_close(queue);
    error_set(err, "Redis bears another epoch: it lost what it had; open the queue again");
    return QUEUE_UNAVAILABLE;
}

struct slice queue_epoch(const struct queue *queue, uint32_t partition)
{
    return partition < queue->n_partitions ? slice_of(queue->partitions[partition].epoch) : (struct slice){"", 0};
}
