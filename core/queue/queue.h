/* The queue for the worker and waybillctl: a blocking client of Redis.
 * Uses: base, event; hiredis, privately. Knows neither Lua nor the store.
 *
 * Every move between structures is one server-side script (scripts/, embedded at build time). Times are Redis' own.
 * A client belongs to one thread, in a process that ignores SIGPIPE. After anything but QUEUE_OK the connection is
 * gone; the next call connects again at once (the caller paces itself: see base/backoff.h). A client that connects by
 * itself also makes the group and the epoch again when they are missing, except one without a consumer name.
 *
 * Keys of partition N, each with "waybill:{N}:" before it:
 * - events: stream of envelopes, consumer group "workers"
 * - retry: zset of event keys, score = due in ms
 * - envelopes: hash by event key, what waits in retry (a MessagePack list: exact for any bytes)
 * - dead: stream of notices (key, source, reason, time in ms), at most one an event
 * - dead_index: hash by event key, the id of its notice, so that removing one needs no scan
 * - out:<topic>: streams of what scripts publish (key, payload)
 * - epoch: string */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "base/error.h"
#include "event/delivery.h"

enum queue_result {
    QUEUE_OK,
    QUEUE_UNAVAILABLE, /* away, too slow, LOADING, READONLY, OOM, MISCONF, …: what was asked may or may not have
                          happened; ask again later */
    QUEUE_REFUSED,     /* a mistake of ours or of the settings (wrong password, wrong type of key): err says what */
};

struct queue_options {
    const char *url;
    const char *consumer; /* unique for this thread of this process; empty for waybillctl, which takes nothing */
    int64_t timeout_ms;   /* connecting, and each answer */
    int64_t lease_ms;
    uint32_t partitions;
};

struct queue;

/* Connects to nothing yet. NULL with err when the URL is malformed. */
struct queue *queue_new(const struct queue_options *options, struct error *err);
void queue_free(struct queue *queue);

/* Connects when there is no connection, and makes what is missing: the group of each partition (from the stream's
 * beginning) and its epoch. *renewed: at least one epoch is new to this client since the last call, so Redis may have
 * lost what it had; the first call always says so. When Redis is found to have lost its data in between, take, reclaim,
 * promote and keep say QUEUE_UNAVAILABLE, so that the caller comes here. */
enum queue_result queue_open(struct queue *queue, bool *renewed, struct error *err) MUST_USE;

/* The epoch of a partition: a random id made with the partition's data and lost with it. Valid until queue_open. */
struct slice queue_epoch(const struct queue *queue, uint32_t partition);

/* A batch of deliveries and the memory that their slices point into. Taking replaces what was in it: settle or give up
 * a batch before taking the next. n is 0 after any failure; what was handed out all the same (its answer was lost), and
 * whatever else this consumer has pending then, is handed back by the next take or reclaim, uncounted: an outage is
 * nobody's crash. */
struct queue_batch {
    struct delivery *deliveries;
    size_t n;
    struct arena *arena; /* the caller's: reset it when the batch is done */
};

/* Takes at most max new entries, waiting at most wait_ms for the first. Malformed entries are delivered, marked,
 * with the key "malformed/<entry id>". */
enum queue_result queue_take(struct queue *queue, size_t max, int64_t wait_ms, struct queue_batch *batch,
                             struct error *err) MUST_USE;
/* Takes over at most max entries whose owner gave no sign of life for a lease. */
enum queue_result queue_reclaim(struct queue *queue, size_t max, struct queue_batch *batch, struct error *err) MUST_USE;
/* Moves what is due from the retry set to the stream. *moved: how many; *next_ms: until the next is due (-1: none; 0:
 * there is more, as one call's work is bounded). */
enum queue_result queue_promote(struct queue *queue, size_t *moved, int64_t *next_ms, struct error *err) MUST_USE;

/* A sign of life for each delivery that is not lost yet; sets lost on those that another consumer has now. */
enum queue_result queue_keep(struct queue *queue, struct delivery *deliveries, size_t n, struct error *err) MUST_USE;
/* Hands back untouched what is not lost: at once available to reclaim, and this delivery is not counted. */
enum queue_result queue_hand_back(struct queue *queue, const struct delivery *deliveries, size_t n,
                                  struct error *err) MUST_USE;

/* What settling does with one entry. */
enum settle_kind {
    SETTLE_LEAVE, /* nothing: it stays pending */
    SETTLE_DROP,  /* acknowledge and delete (succeeded, duplicate); publishes are added in the same step */
    SETTLE_RETRY, /* remember the envelope in the retry set with its next attempt, acknowledge, delete */
    SETTLE_DEAD,  /* leave a notice in the dead stream, acknowledge, delete */
};
struct settlement {
    const struct delivery *delivery;
    enum settle_kind kind;
    const struct effect_publish *publishes; /* drop */
    size_t n_publishes;
    int64_t delay_ms;      /* retry */
    uint32_t next_attempt; /* retry */
    struct slice reason;   /* dead */
};
/* One pipelined round trip. An entry that is gone already changes nothing, so settling again is harmless, and
 * deliveries that are lost are skipped. One that is refused (a publish to a key of another type) leaves the others
 * settled. Works on a server that is out of memory too. */
enum queue_result queue_settle(struct queue *queue, const struct settlement *settlements, size_t n,
                               struct error *err) MUST_USE;

/* Puts an event (again) on the stream: for the reconciler and for replay. With a replay, the notices about key in the
 * dead stream go in the same step. */
enum queue_result queue_requeue(struct queue *queue, const struct event *event, struct error *err) MUST_USE;
/* Removes the dead stream's notices about key (its letter was reviewed). */
enum queue_result queue_forget_dead(struct queue *queue, struct slice key, struct error *err) MUST_USE;
/* true when key waits in the retry set. */
enum queue_result queue_is_waiting(struct queue *queue, struct slice key, bool *waiting, struct error *err) MUST_USE;

/* Leaves the group if nothing is pending; at the end of a drained thread. Also removes long-gone idle consumers. */
enum queue_result queue_leave(struct queue *queue, struct error *err) MUST_USE;

struct queue_depth {
    int64_t stream, pending, retry, dead; /* entries; pending are those in workers' hands */
    int64_t oldest_ms;                    /* age of the oldest entry in the stream; 0 when empty */
    int64_t consumers;
};
enum queue_result queue_measure(struct queue *queue, struct queue_depth *depth, struct error *err) MUST_USE;

/* A sentence when the server's settings could lose or evict events (maxmemory-policy, appendonly, appendfsync); "" when
 * good. */
enum queue_result queue_check_durability(struct queue *queue, char *warning, size_t size, struct error *err) MUST_USE;

#endif
