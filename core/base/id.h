/* Ids and random numbers. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdint.h>

#include "base/clock.h"

#define ID_TEXT_BYTES 27

/* A new id of 26 characters (Crockford base 32: 48 bits of wall time in ms, 80 random bits), so that ids sort by time.
 * Thread-safe; different in every process. Returns out. */
const char *id_new(wall_time now, char out[ID_TEXT_BYTES]);

/* Random bits for jitter and ids; seeded from the kernel per thread. Not for keys. */
uint64_t id_random(void);

/* Evenly distributed in [0, bound); 0 for bound <= 0. */
int64_t id_random_below(int64_t bound);

#endif
