/* A small event loop over poll(2), to run the adder on in tests. */
#ifndef TEST_POLL_LOOP_H
#define TEST_POLL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "queue/queue_add.h"

struct poll_loop;

struct poll_loop *poll_loop_new(void);
void poll_loop_free(struct poll_loop *loop); /* fails the test when watches or timers are left */
struct loop_io poll_loop_io(struct poll_loop *loop);

/* Runs until condition(arg) or until ms have passed; returns what condition says at the end. NULL: all of ms. */
bool poll_loop_run(struct poll_loop *loop, bool (*condition)(void *arg), void *arg, int64_t ms);
uint64_t poll_loop_turns(const struct poll_loop *loop);
uint64_t poll_loop_writes(const struct poll_loop *loop); /* write events delivered */

#endif
