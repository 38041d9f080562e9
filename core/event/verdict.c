#include "event/verdict.h"

size_t outcome_bytes(const struct outcome *outcome)
{
    size_t bytes = outcome->result.len;
    for (size_t i = 0; i < outcome->n_writes; i++)
        bytes += outcome->writes[i].id.len + outcome->writes[i].update.len;
    for (size_t i = 0; i < outcome->n_publishes; i++)
        bytes += outcome->publishes[i].payload.len;
    return bytes;
}

const char *outcome_name(enum outcome_kind kind)
{
    static const char *const names[] = {
        [OUTCOME_SUCCESS] = "success",
        [OUTCOME_TRANSIENT] = "transient",
        [OUTCOME_PERMANENT] = "permanent",
        [OUTCOME_SNOOZE] = "snooze",
        [OUTCOME_ERROR] = "error",
        [OUTCOME_TIME_LIMIT] = "time_limit",
        [OUTCOME_MEMORY_LIMIT] = "memory_limit",
    };
    return names[kind];
}
