#include <stdio.h>

#include "queue/client.h"

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

/* ---- durability ---- */

static void add_warning(char *warning, size_t size, const char *text, struct slice value, const char *advice)
{
    size_t len = strlen(warning);
    snprintf(warning + len, size - len, "%s%s is %.*s (%s)", len == 0 ? "Redis could lose events: " : "; ", text,
             SLICE_ARG(value), advice);
}

/* We set no expiry on anything, so the volatile policies evict nothing of ours. */
static bool is_policy_safe(struct slice policy)
{
    return slice_is(policy, "noeviction") || (policy.len > 9 && memcmp(policy.base, "volatile-", 9) == 0);
}

/* CONFIG GET answers [name, value], or nothing for a name that it does not know. */
static bool read_setting(const redisReply *reply, struct slice *value)
{
    if (!reply_is_list(reply, 2))
        return false;
    *value = reply_slice(reply->element[1]);
    return true;
}

static void judge_settings(const struct redis_pipeline *pipeline, char *warning, size_t size)
{
    struct slice policy, append, sync;
    if (!read_setting(pipeline->calls[0].reply, &policy) || !read_setting(pipeline->calls[1].reply, &append) ||
        !read_setting(pipeline->calls[2].reply, &sync)) {
        snprintf(warning, size,
                 "Redis does not tell its settings: make sure that maxmemory-policy is noeviction, "
                 "appendonly yes and appendfsync always");
        return;
    }
    if (!is_policy_safe(policy))
        add_warning(warning, size, "maxmemory-policy", policy, "it may evict the queue; set noeviction");
    if (!slice_is(append, "yes"))
        add_warning(warning, size, "appendonly", append, "a restart forgets what was acknowledged; set yes");
    else if (!slice_is(sync, "always"))
        add_warning(warning, size, "appendfsync", sync, "a crash forgets what was just acknowledged; set always");
}

enum queue_result queue_check_durability(struct queue *queue, char *warning, size_t size, struct error *err)
{
    static const char *const names[] = {"maxmemory-policy", "appendonly", "appendfsync"};
    warning[0] = '\0';
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    for (size_t i = 0; i < 3; i++) {
        redis_pipeline_command(&queue->pipeline, 3);
        command_text(&queue->pipeline.text, "CONFIG");
        command_text(&queue->pipeline.text, "GET");
        command_text(&queue->pipeline.text, names[i]);
    }
    result = queue_run(queue, err);
    if (result == QUEUE_REFUSED) { /* managed servers do not let us ask */
        snprintf(warning, size,
                 "Redis does not tell its settings (%s): make sure that maxmemory-policy is noeviction, "
                 "appendonly yes and appendfsync always",
                 err == NULL ? "" : err->text);
        return QUEUE_OK;
    }
    if (result == QUEUE_OK)
        judge_settings(&queue->pipeline, warning, size);
    return result;
}
