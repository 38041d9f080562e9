#include "queue/pipeline.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "queue/command.h"
#include "queue/reply_error.h"

void redis_pipeline_clear(struct redis_pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->n; i++) {
        if (pipeline->calls[i].reply != NULL)
            freeReplyObject(pipeline->calls[i].reply);
    }
    pipeline->n = 0;
    buf_clear(&pipeline->text);
}

void redis_pipeline_free(struct redis_pipeline *pipeline)
{
    redis_pipeline_clear(pipeline);
    buf_free(&pipeline->text);
    free(pipeline->calls);
    *pipeline = (struct redis_pipeline){0};
}

void redis_pipeline_command(struct redis_pipeline *pipeline, size_t n_parts)
{
    if (pipeline->n == pipeline->room) {
        pipeline->room = pipeline->room == 0 ? 16 : pipeline->room * 2;
        pipeline->calls = memory_resize(pipeline->calls, pipeline->room * sizeof(*pipeline->calls));
    }
    pipeline->calls[pipeline->n++] = (struct call){.start = pipeline->text.len, .resend = true};
    command_begin(&pipeline->text, n_parts);
}

void redis_pipeline_script(struct redis_pipeline *pipeline, enum script_id script, size_t n_keys, size_t n_args)
{
    redis_pipeline_command(pipeline, 3 + n_keys + n_args);
    command_text(&pipeline->text, "EVALSHA");
    command_text(&pipeline->text, scripts[script].sha1);
    command_number(&pipeline->text, (int64_t)n_keys);
}

void redis_pipeline_load_scripts(struct redis_pipeline *pipeline)
{
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        redis_pipeline_command(pipeline, 3);
        command_text(&pipeline->text, "SCRIPT");
        command_text(&pipeline->text, "LOAD");
        command_part(&pipeline->text, scripts[i].text);
    }
}

static size_t call_length(const struct redis_pipeline *pipeline, size_t i)
{
    size_t end = i + 1 < pipeline->n ? pipeline->calls[i + 1].start : pipeline->text.len;
    return end - pipeline->calls[i].start;
}

static enum queue_result connection_failed(const redisContext *redis, struct error *err)
{
    if (redis->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK))
        error_set(err, "Redis did not answer in time");
    else
        error_set(err, "the connection to Redis broke: %s", redis->errstr);
    return QUEUE_UNAVAILABLE;
}

/* Sends the calls that are marked and reads their replies. */
static enum queue_result exchange(struct redis_pipeline *pipeline, redisContext *redis, struct error *err)
{
    for (size_t i = 0; i < pipeline->n; i++) {
        const struct call *call = &pipeline->calls[i];
        if (call->resend &&
            redisAppendFormattedCommand(redis, pipeline->text.data + call->start, call_length(pipeline, i)) != REDIS_OK)
            return connection_failed(redis, err);
    }
    for (size_t i = 0; i < pipeline->n; i++) {
        struct call *call = &pipeline->calls[i];
        if (!call->resend)
            continue;
        void *reply = NULL;
        if (redisGetReply(redis, &reply) != REDIS_OK)
            return connection_failed(redis, err);
        if (call->reply != NULL)
            freeReplyObject(call->reply);
        call->reply = reply;
    }
    return QUEUE_OK;
}

static bool is_error(const struct call *call, enum reply_error *error)
{
    if (call->reply->type != REDIS_REPLY_ERROR)
        return false;
    *error = reply_error_of(call->reply->str);
    return true;
}

/* Marks the calls that found their script unknown; true when there are any. */
static bool mark_forgotten(struct redis_pipeline *pipeline)
{
    bool any = false;
    for (size_t i = 0; i < pipeline->n; i++) {
        enum reply_error error = REPLY_REFUSED;
        pipeline->calls[i].resend = is_error(&pipeline->calls[i], &error) && error == REPLY_NO_SCRIPT;
        any = any || pipeline->calls[i].resend;
    }
    return any;
}

static void describe(const char *reply, enum reply_error error, struct error *err)
{
    switch (error) {
    case REPLY_NO_GROUP:
        error_set(err, "Redis lost the consumer group, and so perhaps events; open the queue again (%s)", reply);
        break;
    case REPLY_REFUSED:
        error_set(err, "Redis refuses: %s%s", reply, reply_error_advice(reply));
        break;
    default:
        error_set(err, "Redis cannot serve now: %s", reply);
    }
}

/* The worst error among the replies decides: a refusal before an outage; among equals the first. */
static enum queue_result judge(const struct redis_pipeline *pipeline, struct error *err)
{
    enum queue_result worst = QUEUE_OK;
    for (size_t i = 0; i < pipeline->n; i++) {
        enum reply_error error;
        if (!is_error(&pipeline->calls[i], &error))
            continue;
        enum queue_result result = error == REPLY_REFUSED ? QUEUE_REFUSED : QUEUE_UNAVAILABLE;
        if (worst == QUEUE_OK || (worst == QUEUE_UNAVAILABLE && result == QUEUE_REFUSED)) {
            worst = result;
            describe(pipeline->calls[i].reply->str, error, err);
        }
    }
    return worst;
}

static enum queue_result load_again(redisContext *redis, struct error *err)
{
    struct redis_pipeline loading = {0};
    redis_pipeline_load_scripts(&loading);
    enum queue_result result = exchange(&loading, redis, err);
    if (result == QUEUE_OK)
        result = judge(&loading, err);
    redis_pipeline_free(&loading);
    return result;
}

enum queue_result redis_pipeline_run(struct redis_pipeline *pipeline, redisContext *redis, struct error *err)
{
    enum queue_result result = exchange(pipeline, redis, err);
    if (result == QUEUE_OK && mark_forgotten(pipeline)) {
        result = load_again(redis, err);
        if (result == QUEUE_OK)
            result = exchange(pipeline, redis, err);
    }
    return result == QUEUE_OK ? judge(pipeline, err) : result;
}

bool reply_number(const redisReply *reply, int64_t *out)
{
    if (reply->type != REDIS_REPLY_INTEGER)
        return false;
    *out = reply->integer;
    return true;
}

bool reply_is_list(const redisReply *reply, size_t at_least)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements >= at_least;
}

struct slice reply_slice(const redisReply *reply)
{
    bool is_text = reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
    return is_text ? (struct slice){reply->str, reply->len} : (struct slice){"", 0};
}
