/* The event loop that the queue's adder runs on (struct loop_io), made of h2o's loop and sockets, and timers on the
 * monotonic clock (h2o's own follow the wall clock, which may jump). One a thread. */
#ifndef INGEST_LOOP_H2O_H
#define INGEST_LOOP_H2O_H

#include <stdint.h>

#include "queue/queue_add.h"

struct st_h2o_evloop_t;
struct loop_h2o;

struct loop_h2o *loop_h2o_new(struct st_h2o_evloop_t *evloop); /* evloop is the caller's and outlives it */
void loop_h2o_free(struct loop_h2o *loop);

/* The calls for the adder; valid as long as loop. */
struct loop_io loop_h2o_io(struct loop_h2o *loop);

/* One turn: waits at most max_wait_ms for something to happen, runs what is ready, then the timers that are due. */
void loop_h2o_turn(struct loop_h2o *loop, int32_t max_wait_ms);

/* A timer for the thread's own use: as in struct loop_io. */
void *loop_h2o_timer_new(void *loop, void (*on_time)(void *arg), void *arg);
void loop_h2o_timer_set(void *timer, int64_t ms);
void loop_h2o_timer_free(void *timer);

#endif
