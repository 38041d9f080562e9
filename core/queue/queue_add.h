/* The queue for ingest: adding events without blocking, on the caller's event loop.
 * Uses: base, event; hiredis' asynchronous API, privately. It does not know which loop it runs on: see struct loop_io.
 *
 * One adder a loop thread, one pipelined connection each: all events added in one turn of the loop leave in one write.
 * It connects and reconnects by itself, with backoff and jitter. It is ready once the server has answered a write that
 * changes nothing; when the server refuses writes (out of memory, disk full, too few replicas) it asks again in the
 * same way until it takes them, and when it is read-only it connects again, as another may be the primary. Host names
 * are looked up in a thread aside. The process must ignore SIGPIPE. */
#ifndef QUEUE_QUEUE_ADD_H
#define QUEUE_QUEUE_ADD_H

#include "base/error.h"
#include "event/event.h"

/* What the adder needs of an event loop. All calls happen on the loop's own thread. */
struct loop_io {
    void *loop; /* handed to watch and timer_new */
    /* Watches a connected or connecting socket; on_event(arg, readable, writable). release stops watching and closes
     * fd. */
    void *(*watch)(void *loop, int fd, void (*on_event)(void *arg, bool readable, bool writable), void *arg);
    void (*want_read)(void *watch);  /* from now on */
    void (*want_write)(void *watch); /* once */
    void (*release)(void *watch);    /* allowed inside on_event */
    void *(*timer_new)(void *loop, void (*on_time)(void *arg), void *arg);
    void (*timer_set)(void *timer, int64_t ms); /* once; replaces an earlier setting; ms < 0 stops it */
    void (*timer_free)(void *timer);
};

struct queue_add_options {
    const char *url;
    int64_t timeout_ms; /* connecting, and the oldest unanswered command */
    uint32_t partitions;
    uint32_t ack_replicas; /* wait for so many replicas before an event counts as added */
    int64_t max_backlog;   /* 0: none */
    size_t max_pending;    /* most unanswered events; beyond it queue_add says ADD_UNAVAILABLE at once */
};

enum add_result {
    ADD_OK,          /* Redis has it, as durably as its settings say */
    ADD_UNAVAILABLE, /* away, too slow, or it refuses writes: it may have the event or not */
};

typedef void (*queue_added)(void *arg, enum add_result result);

struct queue_adder;

struct queue_adder *queue_adder_new(const struct queue_add_options *options, const struct loop_io *io,
                                    struct error *err);
/* Calls back everything pending with ADD_UNAVAILABLE. Not inside a callback. */
void queue_adder_free(struct queue_adder *adder);

/* Adds the event; everything is copied before this returns. Calls on_added exactly once, later (never inside this call)
 * - unless it returns false: then the queue is not available right now, and nothing was sent. */
bool queue_add(struct queue_adder *adder, const struct event *event, queue_added on_added, void *arg) MUST_USE;

bool queue_adder_is_ready(const struct queue_adder *adder);     /* connected and taking writes */
bool queue_adder_is_full(const struct queue_adder *adder);      /* the backlog is over max_backlog */
int64_t queue_adder_backlog(const struct queue_adder *adder);   /* as last measured (every 100 ms while connected), plus
                                                                   what was added since; -1 unknown */
size_t queue_adder_pending(const struct queue_adder *adder);    /* events sent and not answered */
uint64_t queue_adder_connects(const struct queue_adder *adder); /* connection attempts so far */
/* Why it is not ready, as a sentence without secrets; "" when it is. */
const char *queue_adder_problem(const struct queue_adder *adder);

#endif
