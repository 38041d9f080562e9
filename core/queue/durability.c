#include "queue/durability.h"

#include <stdbool.h>
#include <stdio.h>

#include "queue/pipeline.h"

static const char *const names[] = {"maxmemory-policy", "appendonly", "appendfsync"};

const struct slice durability_command[DURABILITY_PARTS] = {
    SLICE_LITERAL("CONFIG"),     SLICE_LITERAL("GET"),         SLICE_LITERAL("maxmemory-policy"),
    SLICE_LITERAL("appendonly"), SLICE_LITERAL("appendfsync"),
};

static void add_warning(char *warning, size_t size, const char *text, struct slice value, const char *advice)
{
    size_t len = strlen(warning);
    snprintf(warning + len, size - len, "%s%s is %.*s (%s)", len == 0 ? "Redis could lose events: " : "; ", text,
             SLICE_ARG(value), advice);
}

/* Of ours, only the marks of what was published expire, so the volatile policies evict no event. */
static bool is_policy_safe(struct slice policy)
{
    return slice_is(policy, "noeviction") || (policy.len > 9 && memcmp(policy.base, "volatile-", 9) == 0);
}

/* CONFIG GET answers names and values in turn, in no certain order, without what it does not know. */
static bool read_setting(const redisReply *reply, const char *name, struct slice *value)
{
    if (!reply_is_list(reply, 0))
        return false;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        if (slice_is(reply_slice(reply->element[i]), name)) {
            *value = reply_slice(reply->element[i + 1]);
            return true;
        }
    }
    return false;
}

static void say_untold(const redisReply *reply, char *warning, size_t size)
{
    bool is_error = reply->type == REDIS_REPLY_ERROR;
    snprintf(warning, size,
             "Redis does not tell its settings%s%s%s: make sure that maxmemory-policy is noeviction, appendonly yes "
             "and appendfsync always",
             is_error ? " (" : "", is_error ? reply->str : "", is_error ? ")" : "");
}

void durability_judge(const redisReply *reply, char *warning, size_t size)
{
    struct slice policy, append, sync;
    warning[0] = '\0';
    if (!read_setting(reply, names[0], &policy) || !read_setting(reply, names[1], &append) ||
        !read_setting(reply, names[2], &sync)) {
        say_untold(reply, warning, size);
        return;
    }
    if (!is_policy_safe(policy))
        add_warning(warning, size, names[0], policy, "it may evict the queue; set noeviction");
    if (!slice_is(append, "yes"))
        add_warning(warning, size, names[1], append, "a restart forgets what was acknowledged; set yes");
    else if (!slice_is(sync, "always"))
        add_warning(warning, size, names[2], sync, "a crash forgets what was just acknowledged; set always");
}
