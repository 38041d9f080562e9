/* The store: MongoDB holds one document an event (identity, idempotency and history) and the dead letters.
 * Uses: base, event; mongo-c-driver, privately. Knows neither Lua nor the queue.
 * docs/decisions/0004-delivery-protocol.md is the protocol that these calls are the steps of.
 *
 * store_init once per process before threads, store_cleanup once after. A store (one pool) is shared by the threads of
 * a process; a client belongs to one thread at a time. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/buf.h"
#include "base/error.h"
#include "event/delivery.h"

enum store_result {
    STORE_OK,
    STORE_UNAVAILABLE, /* away or in trouble: what was asked may or may not have happened; every step may be repeated */
    STORE_REFUSED,     /* it will not work by repeating it: err says why */
    STORE_NOT_FOUND,
};

struct store_options {
    const char *url;    /* database from the path, "waybill" when there is none */
    const char *worker; /* who we are, in claims and attempts */
    int64_t lease_ms; /* server selection and socket time-outs are derived from it: one call ends well within a lease */
};

void store_init(void);
void store_cleanup(void);

struct store;
struct store *store_open(const struct store_options *options,
                         struct error *err); /* NULL: malformed or unknown option in the URL */
void store_close(struct store *store);

struct store_client;
struct store_client *store_client_new(struct store *store);
void store_client_free(struct store_client *client);

/* Makes the indexes. Needed once per process before the first claim. */
enum store_result store_prepare(struct store_client *client, struct error *err) MUST_USE;
enum store_result store_ping(struct store_client *client, struct error *err) MUST_USE;

/* claim: fills in each delivery's claim state and counters. epochs[partition] is the queue's epoch, kept with the
 * claim. One bulk insert for those that are new; the others are read and, where that is right, taken over by
 * conditional updates. Duplicates are counted here. May be repeated as a whole after STORE_UNAVAILABLE (the token of
 * the first try is known by `token`). */
struct store_claim {
    char token[64]; /* of this batch: unique, chosen by the caller, the same when a call is repeated */
    const struct slice *epochs;
    int64_t lease_ms;
    struct arena *arena; /* for what a stored decision brings along (CLAIM_DECIDED) */
};
enum store_result store_claim(struct store_client *client, const struct store_claim *claim, struct delivery *deliveries,
                              size_t n, struct error *err) MUST_USE;

/* commit, in three steps, for all deliveries of the batch that are ours and not lost:
 * 1. decisions that have effects (writes, publishes, a dead letter) are stored under the token;
 * 2. the effects in the store are applied, each once per event;
 * 3. the attempt is recorded and the status set under the token.
 * Sets committed, or lost when the token was no longer ours. A write that the store refuses for good turns that
 * delivery's decision into DECISION_DEAD with reason "write_refused" and the server's message.
 * Every call that was cut off may be repeated with the same arguments. */
enum store_result store_commit(struct store_client *client, const struct store_claim *claim,
                               struct delivery *deliveries, size_t n, struct error *err) MUST_USE;

/* Gives up our claims without a result (drain): the next owner need not wait for the lease. */
enum store_result store_release(struct store_client *client, const struct store_claim *claim,
                                struct delivery *deliveries, size_t n, struct error *err) MUST_USE;

/* A dead letter for an entry that was no envelope. _id is "malformed/<entry id>". */
enum store_result store_bury_malformed(struct store_client *client, const struct delivery *delivery,
                                       struct error *err) MUST_USE;

/* The reconciler: events that are unresolved, and either bear none of the current epochs, or nobody has touched for
 * stale_ms. Calls requeue(arg, event) for at most max of them (the event's slices live during the call), and marks
 * those for which it returned true as queued under the epoch of their partition. *found: how many it called for. */
struct store_reconcile {
    const struct slice *epochs;
    uint32_t partitions;
    int64_t lease_ms, stale_ms;
    size_t max;
    bool (*requeue)(void *arg, const struct event *event);
    void *arg;
};
enum store_result store_reconcile(struct store_client *client, const struct store_reconcile *job, size_t *found,
                                  struct error *err) MUST_USE;

/* Deletes at most max succeeded events that were resolved more than age_ms ago. */
enum store_result store_expire(struct store_client *client, int64_t age_ms, int64_t max, int64_t *deleted,
                               struct error *err) MUST_USE;

/* A document for scripts: *json is Extended JSON (relaxed) in arena. */
enum store_result store_find(struct store_client *client, struct slice collection, struct slice id, struct arena *arena,
                             struct slice *json, struct error *err) MUST_USE;

/* For waybillctl. JSON texts are added to out. */
enum store_result store_event_show(struct store_client *client, struct slice key, struct buf *out,
                                   struct error *err) MUST_USE;
enum store_result store_dead_show(struct store_client *client, struct slice key, struct buf *out,
                                  struct error *err) MUST_USE;
/* Adds one JSON array of summaries (no bodies), newest first. status NULL: all; source and reason may be NULL. */
struct store_dead_filter {
    const char *status, *source, *reason;
    int64_t skip, limit;
};
enum store_result store_dead_list(struct store_client *client, const struct store_dead_filter *filter, struct buf *out,
                                  struct error *err) MUST_USE;
enum store_result store_dead_count(struct store_client *client, const struct store_dead_filter *filter, int64_t *count,
                                   struct error *err) MUST_USE;

/* Replay, store's half: the event goes from dead to retry_wait for its next attempt with its failures forgotten, and
 * the letter becomes replayed by `who`. Fills event (memory in arena) to be queued with queue_requeue. STORE_REFUSED
 * when it is not dead (err says what it is). Repeating after a crash in between is possible. */
enum store_result store_dead_replay(struct store_client *client, struct slice key, struct slice who,
                                    struct arena *arena, struct event *event, struct error *err) MUST_USE;
enum store_result store_dead_discard(struct store_client *client, struct slice key, struct slice who, struct slice note,
                                     struct error *err) MUST_USE;

#endif
