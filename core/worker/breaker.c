#include "worker/breaker.h"

void breaker_init(struct breaker *breaker)
{
    atomic_init(&breaker->open, true);
    atomic_init(&breaker->opened, 0);
    for (int i = HELD_NOT; i <= HELD_REFUSED; i++)
        atomic_init(&breaker->held[i], 0);
    pthread_mutex_init(&breaker->lock, NULL);
    breaker->why.text[0] = '\0';
}

void breaker_free(struct breaker *breaker)
{
    pthread_mutex_destroy(&breaker->lock);
}

bool breaker_trip(struct breaker *breaker)
{
    if (atomic_exchange(&breaker->open, true))
        return false;
    if (breaker_held(breaker, HELD_AWAY) == 0) /* else it is the same trouble still */
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

bool breaker_hold(struct breaker *breaker, enum breaker_hold *mine, enum breaker_hold now, const struct error *why)
{
    if (why != NULL) {
        pthread_mutex_lock(&breaker->lock);
        breaker->why = *why;
        pthread_mutex_unlock(&breaker->lock);
    }
    if (*mine == now)
        return false;
    if (now != HELD_NOT)
        atomic_fetch_add(&breaker->held[now], 1); /* before the other goes: never good in between */
    if (*mine != HELD_NOT)
        atomic_fetch_sub(&breaker->held[*mine], 1);
    *mine = now;
    return true;
}

unsigned breaker_held(const struct breaker *breaker, enum breaker_hold what)
{
    return atomic_load(&breaker->held[what]);
}

bool breaker_is_good(const struct breaker *breaker)
{
    return !breaker_is_open(breaker) && breaker_held(breaker, HELD_AWAY) == 0 &&
           breaker_held(breaker, HELD_REFUSED) == 0;
}

void breaker_why(struct breaker *breaker, struct error *why)
{
    why->text[0] = '\0';
    if (breaker_held(breaker, HELD_AWAY) + breaker_held(breaker, HELD_REFUSED) == 0)
        return;
    pthread_mutex_lock(&breaker->lock);
    *why = breaker->why;
    pthread_mutex_unlock(&breaker->lock);
    for (char *c = why->text; *c != '\0'; c++)
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
}
