/* A delivery: one event in a worker's hands. The pipeline's one record: each stage fills in its part and hands the
 * same array on: take -> claim -> run -> commit -> settle. docs/decisions/0004-delivery-protocol.md is the protocol. */
#ifndef EVENT_DELIVERY_H
#define EVENT_DELIVERY_H

#include "event/event.h"
#include "event/retry.h"
#include "event/verdict.h"

/* What the store says about our right to work on an event. */
enum claim_state {
    CLAIM_NONE,      /* not asked yet */
    CLAIM_WON,       /* ours: run the handler */
    CLAIM_DECIDED,   /* ours, and an earlier owner had stored its decision: apply and commit that, do not run again */
    CLAIM_DUPLICATE, /* the identity is another submission's: counted, to be settled */
    CLAIM_CONFLICT,  /* the same, and its body differs */
    CLAIM_FINISHED,  /* already succeeded or dead: only the settling is missing */
    CLAIM_WAITING,   /* already waiting for a later attempt: only the settling is missing */
    CLAIM_HELD,      /* somebody else is working on it: leave the entry as it is */
};

/* What happens to the event now. Stored with the claim before its effects are applied, so that an effect is always
 * the effect of the one decision that was made. */
enum decision_kind { DECISION_NONE, DECISION_SUCCEED, DECISION_RETRY, DECISION_SNOOZE, DECISION_DEAD };

struct delivery {
    /* take */
    struct event event;
    struct slice key;      /* source/event_id */
    struct slice entry_id; /* in the stream */
    uint32_t partition;
    uint32_t deliveries;    /* how often this entry was handed out, this time included */
    struct slice malformed; /* not empty: not an envelope, and why. event is then empty but for body and received_at */

    /* claim */
    enum claim_state claim;
    uint32_t attempt;      /* number of the attempt to run now */
    uint32_t failures;     /* charged failures so far in this life (a replay starts a new one) */
    bool finished_dead;    /* CLAIM_FINISHED: dead rather than succeeded */
    int64_t wait_ms;       /* CLAIM_WAITING: how long from now */
    uint32_t next_attempt; /* CLAIM_WAITING: which attempt it waits for */
    bool lost;             /* somebody else took it over meanwhile: nothing more may be done with it */

    /* run */
    struct outcome outcome;
    wall_time started_at, ended_at;
    int64_t run_us;
    enum decision_kind decision;
    struct retry_decision retry;
    struct slice script_hash; /* of the generation that ran it */

    /* commit: how far it came, so that a store that is too slow for all of it at once gets on try by try */
    bool decision_stored, effects_applied;
    bool committed;
};

#endif
