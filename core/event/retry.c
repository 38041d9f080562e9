#include "event/retry.h"

int64_t retry_delay_ms(const struct retry_schedule *schedule, uint32_t failures, int64_t retry_after_ms,
                       uint64_t random)
{
    int64_t ceiling = schedule->base_ms;
    for (uint32_t i = 1; i < failures && ceiling < schedule->cap_ms; i++)
        ceiling = ceiling > schedule->cap_ms / schedule->factor ? schedule->cap_ms : ceiling * schedule->factor;
    if (ceiling > schedule->cap_ms)
        ceiling = schedule->cap_ms;
    int64_t delay = (int64_t)(random % ((uint64_t)ceiling + 1));
    return delay < retry_after_ms ? retry_after_ms : delay;
}

struct retry_decision retry_decide(const struct retry_schedule *schedule, uint32_t failures, int64_t retry_after_ms,
                                   uint64_t random)
{
    if (failures >= schedule->attempts)
        return (struct retry_decision){.retry = false, .reason = SLICE_LITERAL("retries_exhausted")};
    return (struct retry_decision){.retry = true,
                                   .delay_ms = retry_delay_ms(schedule, failures, retry_after_ms, random)};
}
