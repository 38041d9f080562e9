/* Pacing of what is tried again: exponential with jitter, between first_ms and cap_ms. Zero-initialised is ready. */
#ifndef BASE_BACKOFF_H
#define BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
    uint32_t failures;
};

/* The wait before the next try: half of it fixed, half random, doubling with each call up to cap_ms. */
int64_t backoff_next_ms(struct backoff *backoff, int64_t first_ms, int64_t cap_ms);

static inline void backoff_reset(struct backoff *backoff)
{
    backoff->failures = 0;
}

#endif
