#include "adder_helper.h"

struct queue_adder *adder_start(struct poll_loop *loop, const struct queue_add_options *options)
{
    struct error err = {{0}};
    struct loop_io io = poll_loop_io(loop);
    struct queue_adder *adder = queue_adder_new(options, &io, &err);
    if (adder == NULL)
        fail_msg("queue_adder_new: %s", err.text);
    return adder;
}

void adder_count(void *arg, enum add_result result)
{
    struct counts *counts = arg;
    counts->ok += result == ADD_OK;
    counts->unavailable += result == ADD_UNAVAILABLE;
}

bool adder_add(struct queue_adder *adder, const char *id, struct counts *counts)
{
    struct event event = sample_event(id, SLICE_LITERAL("{\"n\":1}"));
    int before = counts->ok + counts->unavailable;
    bool sent = queue_add(adder, &event, adder_count, counts);
    assert_int_equal(counts->ok + counts->unavailable, before); /* never inside queue_add */
    return sent;
}

static bool is_counted(void *arg)
{
    struct counts *counts = arg;
    return counts->ok + counts->unavailable > 0;
}

enum add_result adder_add_and_wait(struct poll_loop *loop, struct queue_adder *adder, const char *id)
{
    struct counts counts = {0};
    if (!adder_add(adder, id, &counts))
        return ADD_UNAVAILABLE;
    assert_true(poll_loop_run(loop, is_counted, &counts, 10000));
    return counts.ok > 0 ? ADD_OK : ADD_UNAVAILABLE;
}

bool adder_is_ready(void *adder)
{
    return queue_adder_is_ready(adder);
}

bool adder_is_not_ready(void *adder)
{
    return !queue_adder_is_ready(adder);
}

bool adder_is_idle(void *adder)
{
    return queue_adder_pending(adder) == 0;
}
