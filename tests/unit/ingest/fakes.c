#include "fakes.h"

#include <stdlib.h>

#include "base/memory.h"
#include "policy/policy.h"
#include "queue/queue_add.h"

struct fakes fakes;

/* ---- queue ---- */

struct item {
    struct item *next;
    queue_added on_added;
    void *arg;
    enum add_result result;
};

struct queue_adder {
    struct loop_io io;
    void *timer;
    struct item *items;
    size_t pending;
};

static void call_back_all(struct queue_adder *adder)
{
    while (adder->items != NULL) {
        struct item *item = adder->items;
        adder->items = item->next;
        adder->pending--;
        item->on_added(item->arg, item->result);
        free(item);
    }
}

static void on_time(void *arg)
{
    call_back_all(arg);
}

struct queue_adder *queue_adder_new(const struct queue_add_options *options, const struct loop_io *io,
                                    struct error *err)
{
    (void)options;
    (void)err;
    struct queue_adder *adder = memory_alloc(sizeof *adder);
    adder->io = *io;
    adder->timer = io->timer_new(io->loop, on_time, adder);
    return adder;
}

void queue_adder_free(struct queue_adder *adder)
{
    if (adder == NULL)
        return;
    call_back_all(adder);
    adder->io.timer_free(adder->timer);
    free(adder);
}

bool queue_add(struct queue_adder *adder, const struct event *event, queue_added on_added, void *arg)
{
    (void)event;
    int mode = atomic_load(&fakes.mode);
    if (mode == FAKE_UNAVAILABLE)
        return false;
    struct item *item = memory_alloc(sizeof *item);
    *item = (struct item){adder->items, on_added, arg, mode == FAKE_ANSWERS ? ADD_OK : ADD_UNAVAILABLE};
    adder->items = item;
    adder->pending++;
    atomic_fetch_add(&fakes.added, 1);
    if (mode != FAKE_NEVER)
        adder->io.timer_set(adder->timer, atomic_load(&fakes.delay_ms));
    return true;
}

bool queue_adder_is_ready(const struct queue_adder *adder)
{
    (void)adder;
    return atomic_load(&fakes.mode) != FAKE_UNAVAILABLE;
}

bool queue_adder_is_full(const struct queue_adder *adder)
{
    (void)adder;
    return atomic_load(&fakes.full);
}

int64_t queue_adder_backlog(const struct queue_adder *adder)
{
    (void)adder;
    return 0;
}

size_t queue_adder_pending(const struct queue_adder *adder)
{
    return adder->pending;
}

const char *queue_adder_problem(const struct queue_adder *adder)
{
    (void)adder;
    return "it is a fake";
}

/* ---- policy: every JSON-like body is an event with the id of its first header x-id ---- */

void policy_free(struct policy *policy)
{
    (void)policy;
}

bool policy_has_secret(const struct policy *policy, struct slice source, struct slice text)
{
    (void)policy, (void)source, (void)text;
    return false;
}

void policy_validate(struct policy *policy, const struct policy_request *request, struct arena *arena,
                     struct validation *out)
{
    (void)policy;
    struct slice id;
    *out = (struct validation){.kind = VALIDATION_REJECT,
                               .status = 401,
                               .code = SLICE_LITERAL("unauthorized"),
                               .detail = SLICE_LITERAL("no x-id")};
    if (!request->header(request->headers, SLICE_LITERAL("x-id"), 0, &id))
        return;
    *out = (struct validation){.kind = slice_is(id, "fault") ? VALIDATION_FAULT : VALIDATION_ACCEPT,
                               .event_id = arena_copy(arena, id.base, id.len),
                               .type = SLICE_LITERAL("test"),
                               .occurred_at = SLICE_LITERAL("2026-01-01T00:00:00Z"),
                               .accept_status = 202,
                               .detail = SLICE_LITERAL("validate.lua:1: a fault")};
}
