#include "worker/breaker.h"

void breaker_init(struct breaker *breaker)
{
    atomic_init(&breaker->open, true);
    atomic_init(&breaker->opened, 0);
}

bool breaker_trip(struct breaker *breaker)
{
    if (atomic_exchange(&breaker->open, true))
        return false;
    atomic_fetch_add(&breaker->opened, 1);
    return true;
}

bool breaker_close(struct breaker *breaker)
{
    return atomic_exchange(&breaker->open, false);
}

bool breaker_is_open(const struct breaker *breaker)
{
    return atomic_load(&breaker->open);
}
