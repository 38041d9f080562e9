#include "event/verdict.h"

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
