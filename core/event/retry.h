/* The retry schedule: exponential backoff with full jitter. */
#ifndef EVENT_RETRY_H
#define EVENT_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct retry_schedule {
    int64_t base_ms, factor, cap_ms, attempts;
};

struct retry_decision {
    bool retry;          /* else dead */
    int64_t delay_ms;    /* retry */
    struct slice reason; /* dead: why, a short machine word such as "retries_exhausted" or the policy's own */
};

/* The wait before the next attempt after `failures` charged failures (1 is the first): a random time in
 * [0, min(cap, base·factor^(failures-1))], never below retry_after_ms (-1: none). random is any 64 random bits. */
int64_t retry_delay_ms(const struct retry_schedule *schedule, uint32_t failures, int64_t retry_after_ms,
                       uint64_t random);

/* The built-in decision: dead with "retries_exhausted" when the attempts are used up, else the delay above. */
struct retry_decision retry_decide(const struct retry_schedule *schedule, uint32_t failures, int64_t retry_after_ms,
                                   uint64_t random);

#endif
