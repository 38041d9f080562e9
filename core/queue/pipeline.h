/* A pipeline: commands that go to Redis in one write, and their replies. */
#ifndef QUEUE_PIPELINE_H
#define QUEUE_PIPELINE_H

#include <hiredis.h>

#include "base/buf.h"
#include "base/error.h"
#include "queue/queue.h"
#include "queue/scripts.h"

struct call {
    size_t start;      /* of its command in the text; the next call's start ends it */
    bool resend;       /* its script was not known: again, after loading */
    redisReply *reply; /* owned; NULL until run */
};

struct redis_pipeline {
    struct buf text;
    struct call *calls;
    size_t n, room;
};

void redis_pipeline_clear(struct redis_pipeline *pipeline); /* frees the replies */
void redis_pipeline_free(struct redis_pipeline *pipeline);

/* Begins a command of n_parts, its name included; the parts are added with command_… to &pipeline->text. */
void redis_pipeline_command(struct redis_pipeline *pipeline, size_t n_parts);
/* Begins a script's call; n_keys keys and then n_args arguments are to be added. */
void redis_pipeline_script(struct redis_pipeline *pipeline, enum script_id script, size_t n_keys, size_t n_args);
void redis_pipeline_load_scripts(struct redis_pipeline *pipeline);

/* Sends all and reads all replies, loading the scripts again when the server has forgotten them. QUEUE_OK: every reply
 * is there and none is an error. Else err says what was wrong, and the connection is not to be used again. */
enum queue_result redis_pipeline_run(struct redis_pipeline *pipeline, redisContext *redis, struct error *err) MUST_USE;

/* Replies, with the type checked: false when the server's answer is not of the kind that was asked for. */
bool reply_number(const redisReply *reply, int64_t *out);
bool reply_is_list(const redisReply *reply, size_t at_least);
struct slice reply_slice(const redisReply *reply); /* empty when it is not a string */

#endif
