/* The breaker between the pipelines of one process and the store: open while the store is away. Pipelines stop taking
 * then and hold what they have; one thread, the keeper, probes. Shared by threads. */
#ifndef WORKER_BREAKER_H
#define WORKER_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct breaker {
    atomic_bool open;
    atomic_uint opened; /* how often it went from closed to open */
};

/* Starts open: nothing is taken before the store was reached once. */
void breaker_init(struct breaker *breaker);
/* true when this call opened it. */
bool breaker_trip(struct breaker *breaker);
/* true when this call closed it. */
bool breaker_close(struct breaker *breaker);
bool breaker_is_open(const struct breaker *breaker);

#endif
