/* The store: MongoDB holds one document an event (identity, idempotency and history) and the dead letters.
 * Uses: base, event; mongo-c-driver, privately. Knows neither Lua nor the queue.
 * docs/decisions/0004-delivery-protocol.md is the protocol that these calls are the steps of.
 *
 * store_init once per process before threads, store_cleanup once after. A store (one pool) is shared by the threads of
 * a process; a client belongs to one thread at a time.
 *
 * Every call is bounded: no round trip begins after half a lease, and each ends within its own time-outs (a sixth of a
 * lease, at most 5 s). A connection that broke while it was idle is replaced inside the call. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/buf.h"
#include "base/error.h"
#include "event/delivery.h"

enum store_result {
    STORE_OK,
    /* Away or in trouble: what was asked may or may not have happened; every call may be repeated. Also when it does
     * not let us in: a wrong password is a mistake in the settings, and no event's fault. */
    STORE_UNAVAILABLE,
    STORE_REFUSED, /* it will not work by repeating it: err says why. In a batch: at least one delivery is to blame */
    STORE_NOT_FOUND,
};

struct store_options {
    const char *url;    /* database from the path, "waybill" when there is none. Options in it win over our defaults */
    const char *worker; /* who we are, in claims and attempts */
    int64_t lease_ms;   /* time-outs are derived from it; 0: 30000 */
};

void store_init(void);
void store_cleanup(void);

struct store;
struct store *store_open(const struct store_options *options,
                         struct error *err); /* NULL: malformed or unknown option in the URL */
void store_close(struct store *store);

struct store_client;
struct store_client *store_client_new(struct store *store); /* NULL: more clients than the URL's maxPoolSize (100) */
void store_client_free(struct store_client *client);

/* Makes the indexes. Needed once per process before the first claim. */
enum store_result store_prepare(struct store_client *client, struct error *err) MUST_USE;
enum store_result store_ping(struct store_client *client, struct error *err) MUST_USE;

/* claim: fills in each delivery's claim state and counters. epochs[partition] is the queue's epoch, kept with the
 * claim. One bulk insert for those that are new; the others are read and, where that is right, taken over by
 * conditional updates. Duplicates are counted here, each submission once. May be repeated as a whole after
 * STORE_UNAVAILABLE (the claims of the first try are known by `token` and entry). Malformed deliveries stay CLAIM_NONE,
 * lost ones become CLAIM_HELD.
 *
 * CLAIM_WON: attempt is the number to run now, failures those before it.
 * CLAIM_DECIDED: also decision, retry, outcome (result, writes, publishes, message, error_kind), started_at, ended_at,
 *   script_hash, and failures as after that attempt; their memory is claim->arena's. store_commit goes on from there.
 * CLAIM_FINISHED: finished_dead, with retry.reason; or outcome.publishes, which settling must add again.
 * CLAIM_WAITING: wait_ms, next_attempt. */
struct store_claim {
    char token[64]; /* of this batch: unique, chosen by the caller, the same when a call is repeated */
    const struct slice *epochs;
    int64_t lease_ms;
    struct arena *arena; /* for what a stored decision brings along (CLAIM_DECIDED) */
};
enum store_result store_claim(struct store_client *client, const struct store_claim *claim, struct delivery *deliveries,
                              size_t n, struct error *err) MUST_USE;

/* commit, in three steps, for all deliveries of the batch that are ours (CLAIM_WON, CLAIM_DECIDED), have a decision,
 * and are neither lost nor committed:
 * 1. decisions that have effects (writes, publishes, a dead letter) are stored under the token;
 * 2. the effects in the store are applied, each once per event;
 * 3. the attempt is recorded and the status set under the token.
 * Sets committed, or lost when the token was no longer ours. Every call that was cut off may be repeated with the same
 * arguments.
 *
 * The caller sets failures to what it is after this attempt. The delay of DECISION_RETRY is retry.delay_ms; that of
 * DECISION_SNOOZE too or, when it is 0, outcome.retry_after_ms. DECISION_DEAD with reason "poison" is recorded as an
 * attempt with outcome "poison"; times that are 0 become the time of the commit.
 *
 * A write that the store refuses for good (no operators, a document of another shape, a unique index, a collection of
 * ours, more than 4 MiB of effects) turns its delivery into DECISION_DEAD with reason "write_refused", the server's
 * words as outcome.message (in claim->arena), no publishes, and one more failure. Its other writes may have been
 * applied. */
enum store_result store_commit(struct store_client *client, const struct store_claim *claim,
                               struct delivery *deliveries, size_t n, struct error *err) MUST_USE;

/* Gives up our claims without a result (drain): the next owner need not wait for the lease. */
enum store_result store_release(struct store_client *client, const struct store_claim *claim,
                                struct delivery *deliveries, size_t n, struct error *err) MUST_USE;

/* A dead letter for an entry that was no envelope. _id is "malformed/<entry id>". Burying again changes nothing. */
enum store_result store_bury_malformed(struct store_client *client, const struct delivery *delivery,
                                       struct error *err) MUST_USE;

/* The reconciler: unresolved events that nobody can be working on, because they
 * - bear none of the current epochs (the queue that held them is gone), and their claim is older than lease_ms or their
 *   next attempt is due; or
 * - have been untouched for stale_ms beyond that, and were not queued again in that time.
 * Calls requeue(arg, event) for at most max of them (the event's slices live during the call; attempt is the next one),
 * and marks those for which it returned true as queued under the epoch of their partition. *found: how many it called
 * for. An event that waits for a later attempt is left alone until that is due. */
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

/* For waybillctl. JSON texts are added to out: _id is called "key", times are RFC 3339 text, binary is base64. */
enum store_result store_event_show(struct store_client *client, struct slice key, struct buf *out,
                                   struct error *err) MUST_USE;
enum store_result store_dead_show(struct store_client *client, struct slice key, struct buf *out,
                                  struct error *err) MUST_USE;
/* Adds one JSON array of summaries (no bodies), newest first. Members that are NULL match all; limit 0: no limit.
 * With `after` they come in the order of their keys, from the one behind it on ("": the first): pages that stay whole
 * while letters come and go. */
struct store_dead_filter {
    const char *status, *source, *reason, *after;
    int64_t skip, limit;
};
enum store_result store_dead_list(struct store_client *client, const struct store_dead_filter *filter, struct buf *out,
                                  struct error *err) MUST_USE;
enum store_result store_dead_count(struct store_client *client, const struct store_dead_filter *filter, int64_t *count,
                                   struct error *err) MUST_USE;

/* Replay, store's half: the event goes from dead to retry_wait for its next attempt with its failures forgotten, and
 * then the letter becomes replayed by `who`. Fills event (memory in arena; attempt is the next one, replay is who) to
 * be queued with queue_requeue. STORE_REFUSED when it is not dead (err says what it is), or was discarded (err says by
 * whom and when) and `discarded_too` is not set. May be repeated after a crash in between, and until the next attempt
 * runs. Each review is also kept in the letter's `reviews`. */
enum store_result store_dead_replay(struct store_client *client, struct slice key, struct slice who, bool discarded_too,
                                    struct arena *arena, struct event *event, struct error *err) MUST_USE;
/* Discarding again is STORE_OK; a letter that was replayed is STORE_REFUSED. note may be empty. The event is marked
 * first and the letter second: of a discard and a replay at the same time one is refused. */
enum store_result store_dead_discard(struct store_client *client, struct slice key, struct slice who, struct slice note,
                                     struct error *err) MUST_USE;

#endif
