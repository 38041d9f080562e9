/* The breaker between the pipelines of one process and the store: open while the store is away. Pipelines stop taking
 * then and hold what they have; one thread, the keeper, probes. A probe that succeeds lets them try again: whether the
 * store also takes what they write is known when it has taken it, and until then the worker does not call itself ready.
 * Shared by threads. */
#ifndef WORKER_BREAKER_H
#define WORKER_BREAKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Why a pipeline cannot go on with the batch in its hands. */
enum breaker_hold {
    HELD_NOT,
    HELD_AWAY,    /* the store fails as one that is away does, its pings may succeed */
    HELD_REFUSED, /* it refuses an event, and refuses to keep it as a dead letter too */
};

struct breaker {
    atomic_bool open;
    atomic_uint opened; /* how often it went from closed to open */
    atomic_uint held[HELD_REFUSED + 1];
    pthread_mutex_t lock; /* guards why */
    struct error why;     /* what the last pipeline to be held was told */
};

/* Starts open: nothing is taken before the store was reached once. */
void breaker_init(struct breaker *breaker);
void breaker_free(struct breaker *breaker);
/* true when this call opened it. */
bool breaker_trip(struct breaker *breaker);
/* true when this call closed it. */
bool breaker_close(struct breaker *breaker);
bool breaker_is_open(const struct breaker *breaker);

/* A pipeline's state, kept in *mine, changes to `now` (why: NULL for HELD_NOT). true when it is another than before. */
bool breaker_hold(struct breaker *breaker, enum breaker_hold *mine, enum breaker_hold now, const struct error *why);
unsigned breaker_held(const struct breaker *breaker, enum breaker_hold what);
/* Closed, and no pipeline is held. */
bool breaker_is_good(const struct breaker *breaker);
/* What the store said to those that are held, on one line; empty when nobody is. */
void breaker_why(struct breaker *breaker, struct error *why);

#endif
