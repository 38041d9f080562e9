/* Adders on a loop of the test's own, for the tests of adding. */
#ifndef TEST_ADDER_HELPER_H
#define TEST_ADDER_HELPER_H

#include "poll_loop.h"
#include "sample.h"

struct counts {
    int ok, unavailable;
};

struct queue_adder *adder_start(struct poll_loop *loop, const struct queue_add_options *options);
void adder_count(void *counts, enum add_result result); /* a queue_added */
bool adder_add(struct queue_adder *adder, const char *id, struct counts *counts);
/* Adds and waits for the answer; ADD_UNAVAILABLE when it is not even tried. */
enum add_result adder_add_and_wait(struct poll_loop *loop, struct queue_adder *adder, const char *id);

/* Conditions for poll_loop_run; arg is the adder. */
bool adder_is_ready(void *adder);
bool adder_is_not_ready(void *adder);
bool adder_is_idle(void *adder);

#endif
