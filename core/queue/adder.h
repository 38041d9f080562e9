/* The inside of struct queue_adder, for the files of this part.
 *
 * The link to Redis goes DOWN -> RESOLVING -> CONNECTING -> GREETING -> READY, and back to DOWN whenever something
 * fails; only the timer takes it up again. REFUSING is a link that works to a server that takes no writes: probed until
 * it does. */
#ifndef QUEUE_ADDER_H
#define QUEUE_ADDER_H

#include <hiredis.h>

#include <async.h>

#include "base/address.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "queue/keys.h"
#include "queue/queue_add.h"

/* How often a server that refuses writes is asked again. */
#define PROBE_FIRST_MS 50
#define PROBE_CAP_MS   1000

enum link_state { LINK_DOWN, LINK_RESOLVING, LINK_CONNECTING, LINK_GREETING, LINK_READY, LINK_REFUSING };

/* An event that was sent and is not answered. */
struct pending {
    queue_added on_added;
    void *arg;
    mono_time sent_at;
    size_t bytes;
    bool added; /* Redis said so; with ack_replicas, WAIT's answer is still to come */
};

struct adder_partition {
    struct queue_keys keys;
    struct buf head; /* "XADD key *", ready to send */
};

struct queue_adder {
    struct redis_url url;
    struct queue_add_options options; /* its url is not kept */
    struct loop_io io;
    struct adder_partition *partitions;

    /* the link (add_link.c) */
    enum link_state state;
    redisAsyncContext *redis;    /* NULL when hiredis has freed it or is about to; owned by hiredis from then on */
    redisAsyncContext *attached; /* whose socket is watched */
    void *watch, *timer;
    bool reads, writes; /* what the watch is asked for */
    bool writing;       /* a write follows at once: hiredis need not ask for an event */
    bool lost;          /* hiredis has ended the link: reason says why */
    bool drop;          /* we want to end it, once hiredis' call that we are in has returned */
    struct error reason;
    mono_time dialled_at;
    struct backoff redial;
    uint64_t dials;
    struct lookup *lookup; /* while RESOLVING */
    void *lookup_watch;
    struct log_gate gate;
    char durability[512]; /* the last warning about the server's settings */

    /* events, in the order of sending (add.c). Positions count from 0 for ever; head <= answered <= tail. */
    struct pending *ring;
    size_t ring_mask;
    uint64_t head;     /* the oldest that was not called back */
    uint64_t answered; /* the oldest whose XADD was not answered */
    uint64_t tail;     /* the next to be sent */
    uint64_t waited;   /* a WAIT was sent for those before */
    size_t pending_bytes;
    struct buf command;
    struct arena *arena;

    /* commands of our own: greeting, probe, measuring, WAIT (add_backlog.c) */
    size_t controls;         /* unanswered */
    mono_time control_since; /* the last answer to one, or when the first of these was sent */
    size_t probe_left;       /* unanswered commands of the probe */
    bool probe_failed;
    mono_time probe_at;
    struct backoff reprobe;
    size_t measure_left;
    mono_time measure_at;
    int64_t measuring;       /* sum so far */
    uint64_t measuring_from; /* the tail when measuring began */
    int64_t measured;        /* -1: unknown */
    uint64_t measured_from;
};

/* add.c */
void adder_complete(struct queue_adder *adder, uint64_t before, bool may_succeed); /* calls back all events before */
void adder_append_wait(struct queue_adder *adder);

/* add_link.c */
bool link_start(struct queue_adder *adder);
void link_stop(struct queue_adder *adder); /* for queue_adder_free */
void link_dial(struct queue_adder *adder,
               const char *numeric_host);                        /* the end of RESOLVING; NULL: reason says why not */
void link_refused(struct queue_adder *adder, const char *reply); /* an error reply to something that writes */
void link_drop(struct queue_adder *adder, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* add_backlog.c */
bool control_send(struct queue_adder *adder, redisCallbackFn *on_reply, void *arg, const struct slice *parts, size_t n);
void control_answered(struct queue_adder *adder);
void probe_send(struct queue_adder *adder);
void controls_tick(struct queue_adder *adder, mono_time now);
void controls_reset(struct queue_adder *adder);

/* add_resolve.c: getaddrinfo in a thread of its own, as it can block for many seconds when a name server is away. */
void lookup_start(struct queue_adder *adder);
void lookup_cancel(struct queue_adder *adder);

#endif
