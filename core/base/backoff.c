#include "base/backoff.h"

#include "base/id.h"

int64_t backoff_next_ms(struct backoff *backoff, int64_t first_ms, int64_t cap_ms)
{
    int64_t ms = first_ms;
    for (uint32_t i = 0; i < backoff->failures && ms < cap_ms; i++)
        ms *= 2;
    if (ms > cap_ms)
        ms = cap_ms;
    backoff->failures++;
    return ms / 2 + id_random_below(ms / 2 + 1);
}
