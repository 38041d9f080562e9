/* The delivery protocol of docs/decisions/0004-delivery-protocol.md, for Spin: one identity, its document, its entries.
 *
 * Every option of a `do` below is one atomic step of one party: one Redis script, one single-document operation of the
 * store, or something that happens inside a worker. Anything may happen between two steps: another worker's step, a
 * crash, a lapse of the lease (a worker that is merely late from then on is the zombie). README.md says what is left
 * out. */
#include "rules.pml"
#include "world.pml"

/* ---- What must hold after every step. */
#define here(e) (entry[e].state != GONE && (doc.status == ABSENT || entry[e].submission == doc.ingest))
#define in_queue /* the event, as its document knows it, is somewhere in Redis */                                      \
    ((retry_attempt != 0 && retry_submission == doc.ingest) || here(1) || here(2) || here(3) || here(4) ||             \
     here(5) || here(6))

#define promise(text, condition)                                                                                      \
    if                                                                                                                 \
    :: !(condition) -> printf(text); assert(condition)                                                                 \
    :: else                                                                                                            \
    fi

inline check()
{
    d_step {
        printf("        document "); printm(doc.status);
        printf(" attempt %d, token %d, entry %d, decision ", doc.attempt, doc.token, doc.claim_entry);
        printm(doc.decision);
        printf("; retry set %d; epoch %d of %d\n", retry_attempt, doc.epoch, epoch);
        promise("BROKEN P2: effects are applied once\n", shipment_writes <= 1);
        promise("BROKEN P2: effects of one decision at most\n", !(alert_a && alert_b));
        promise("BROKEN P2: published once\n", published <= 1);
        promise("BROKEN P2: dead, without effects of a success\n",
                doc.status != DEAD || (shipment == NONE && !alert_a && !alert_b));
        promise("BROKEN P2: succeeded, with all its effects\n",
                doc.status != SUCCEEDED || (shipment == doc.outcome && alert_a == (doc.outcome == SUCCEED_A) &&
                                            alert_b == (doc.outcome == SUCCEED_B)));
        promise("BROKEN P2: no letter asks for a review of what succeeded\n",
                doc.status != SUCCEEDED || letter != UNREVIEWED);
        promise("BROKEN P2: what is dead has its letter\n", doc.status != DEAD || letter == UNREVIEWED);
        promise("BROKEN P1: unresolved, so in the queue, or of another epoch, or between the halves of a replay\n",
                in_queue || submitted == 0 || resolved || (doc.status == ABSENT && forgotten) ||
                (doc.status != ABSENT && doc.epoch != epoch) || replay_open)
    }
}

/* ---- 1. take and reclaim. An entry that shows no sign of life may be reclaimed at any time; one whose owner is alive
 * only when the lease lapses. */
#define reclaimable(e)                                                                                                 \
    (entry[e].state == PENDING &&                                                                                      \
     (entry[e].owner == NOBODY || (lapses < LAPSES && entry[e].owner / BATCH != worker)))
#define takeable(e) ((entry[e].state == NEW || reclaimable(e)) && (BATCH == 1 || delivery[me ^ 1].entry != e))
#define take(e)     takeable(e) -> my.entry = e

inline received()
{
    if
    :: mine.owner != NOBODY -> lapses++
    :: else
    fi;
    mine.state = PENDING;
    mine.owner = me;
    mine.deliveries = (mine.deliveries > DELIVERY_LIMIT -> mine.deliveries : mine.deliveries + 1);
    my.submission = mine.submission;
    my.attempt = mine.attempt;
    my.suspect = (mine.deliveries > DELIVERY_LIMIT);
    my.epoch = epoch;
    for (j : 0 .. PLACES - 1) { /* the token of the batch that is being filled */
        my.token = (j / BATCH == worker && delivery[j].token != 0 -> delivery[j].token : my.token)
    }
    if
    :: my.token == 0 -> fresh_token(my.token)
    :: else
    fi;
    j = 0;
    my.pc = CLAIM
}

/* ---- 2. claim: insert (first attempts only; losers and all others are read), find, conditional update. */
inline insert()
{
    sealed[worker] = true;
    if
    :: !EPOCH_OF_TAKE -> my.epoch = epoch
    :: else
    fi;
    if
    :: my.attempt == 1 && doc.status == ABSENT ->
        doc.status = PROCESSING;
        doc.ingest = my.submission;
        doc.attempt = 1;
        doc.token = my.token;
        doc.claim_entry = my.entry;
        doc.epoch = my.epoch;
        answered(RUN)
    :: else -> my.pc = FIND
    fi
}

/* Is somebody alive working under the document's claim? Then it grows older than a lease only by a lapse. */
inline holder_alive(answer)
{
    d_step {
        answer = false;
        for (j : 0 .. PLACES - 1) {
            answer = answer || (delivery[j].pc != IDLE && delivery[j].token == doc.token &&
                                delivery[j].entry == doc.claim_entry)
        }
        j = 0
    }
}

inline will_settle(kind)
{
    my.settling = kind;
    my.seen_token = 0;
    my.seen_status = ABSENT;
    my.pc = SETTLE
}

inline will_take_over()
{
    my.seen_status = doc.status;
    my.seen_token = doc.token;
    my.decision = doc.decision;
    my.attempt = doc.attempt;
    my.pc = TAKE_OVER
}

/* The page's table, row by row. */
inline find()
{
    holder_alive(used);
    if
    :: doc.token == my.token && (!OWN_TOKEN_CHECKS_ENTRY || doc.claim_entry == my.entry) -> /* an answer was lost */
        my.decision = doc.decision;
        my.attempt = doc.attempt;
        my.pc = (doc.decision == NONE -> RUN : APPLY_1)
    :: else ->
        if
        :: doc.ingest != my.submission -> will_settle(DROP) /* duplicate or conflict */
        :: else ->
            if
            :: doc.status == SUCCEEDED -> /* finished */
                my.publishes = PUBLISHES_KEPT;
                will_settle(DROP)
            :: doc.status == DEAD -> will_settle(TO_DEAD) /* finished */
            :: doc.status == RETRY_WAIT && doc.attempt > my.attempt -> /* waiting */
                my.attempt = doc.attempt;
                will_settle(TO_RETRY)
            :: doc.status == RETRY_WAIT && doc.attempt <= my.attempt ->
                assert(doc.attempt == my.attempt || !REPLAY_STORE_FIRST); /* no entry is ahead of its document */
                will_take_over()
            :: doc.status == PROCESSING && doc.token == my.token -> forget(me) /* held by our batch's other entry */
            :: doc.status == PROCESSING && doc.token != my.token ->
                if
                :: doc.claim_entry == my.entry -> will_take_over()
                :: doc.claim_entry != my.entry && CLAIMS_AGE && !used -> will_take_over() /* older than a lease */
                :: doc.claim_entry != my.entry && CLAIMS_AGE && used && lapses < LAPSES -> lapses++; will_take_over()
                :: doc.claim_entry != my.entry && (!CLAIMS_AGE || used) -> forget(me) /* held */
                fi
            fi
        fi
    fi;
    used = false
}

inline take_over()
{
    if
    :: ((doc.status == my.seen_status && doc.attempt == my.attempt && doc.token == my.seen_token) ||
        !TAKEOVER_CHECKS_TOKEN) &&
           (doc.decision == my.decision || !TAKEOVER_CHECKS_DECISION) ->
        doc.status = PROCESSING;
        doc.token = my.token;
        doc.claim_entry = my.entry;
        doc.epoch = my.epoch;
        if
        :: atomic { lost_answers < LOST_ANSWERS -> lost_answers++; my.pc = FIND; my.decision = NONE }
        :: my.pc = (my.decision == NONE || (my.suspect && !DECISION_BEATS_POISON) -> RUN : APPLY_1)
        fi
    :: else -> my.decision = NONE; my.pc = FIND /* read again */
    fi;
    my.seen_token = 0;
    my.seen_status = ABSENT
}

/* ---- 3. run: the script may want anything. An entry that was delivered too often is dead without running. */
inline run_script()
{
    if
    :: my.suspect -> my.decision = DIE
    :: !my.suspect -> my.decision = SUCCEED_A
    :: !my.suspect -> my.decision = SUCCEED_B
    :: !my.suspect && my.attempt < ATTEMPTS -> my.decision = RETRY
    :: !my.suspect -> my.decision = DIE
    fi;
    if
    :: !STORE_FIRST -> will_settle_decision()
    :: STORE_FIRST && my.decision == RETRY -> my.pc = COMMIT
    :: STORE_FIRST && my.decision != RETRY -> my.pc = (DECISION_FIRST -> DECIDE : APPLY_1)
    fi
}

/* ---- 4. commit. */
#define marked(step) (doc.mark == my.token && (doc.mark_step == step || !MARK_NAMES_STEP))

inline lost()
{
    if
    :: LOST_SETTLES_NOTHING -> forget(me)
    :: else -> will_settle_decision()
    fi
}

inline decide() /* 4a */
{
    if
    :: doc.token == my.token || !DECIDE_CHECKS_TOKEN ->
        doc.decision = my.decision;
        doc.mark = my.token;
        doc.mark_step = DECIDE_STEP;
        answered(APPLY_1)
    :: else ->
        if
        :: marked(DECIDE_STEP) -> my.pc = APPLY_1
        :: else -> lost()
        fi
    fi
}

inline apply_1() /* 4b: the shipment, or the dead letter */
{
    if
    :: my.decision == DIE && (letter_attempt < my.attempt || !LETTER_NAMES_ATTEMPT) ->
        letter = UNREVIEWED;
        letter_attempt = my.attempt
    :: success(my.decision) && (shipment == NONE || !EFFECTS_GUARDED) ->
        shipment = my.decision;
        shipment_writes++
    :: else /* 11000: applied already */
    fi;
    if
    :: my.decision == DIE -> answered(COMMIT)
    :: else -> answered(APPLY_2)
    fi
}

inline apply_2() /* 4b: a second document, another one for A than for B */
{
    alert_a = alert_a || my.decision == SUCCEED_A;
    alert_b = alert_b || my.decision == SUCCEED_B;
    answered(COMMIT)
}

inline commit() /* 4c */
{
    if
    :: doc.token == my.token || !COMMIT_CHECKS_TOKEN ->
        doc.outcome = (success(my.decision) -> my.decision : doc.outcome);
        doc.attempt = (my.decision == RETRY -> my.attempt + 1 : my.attempt);
        if
        :: my.decision == RETRY -> doc.status = RETRY_WAIT
        :: my.decision == DIE -> doc.status = DEAD
        :: success(my.decision) -> doc.status = SUCCEEDED
        fi;
        doc.token = 0;
        doc.claim_entry = 0;
        doc.decision = NONE;
        doc.mark = my.token;
        doc.mark_step = COMMIT_STEP;
        if
        :: lost_answers < LOST_ANSWERS -> lost_answers++
        :: committed()
        fi
    :: else ->
        if
        :: marked(COMMIT_STEP) -> committed()
        :: else -> lost()
        fi
    fi
}

inline committed()
{
    if
    :: STORE_FIRST -> will_settle_decision()
    :: else -> forget(me)
    fi
}

/* ---- 5. settle. */
inline will_settle_decision()
{
    my.publishes = success(my.decision);
    if
    :: my.decision == RETRY -> my.attempt = my.attempt + 1; will_settle(TO_RETRY)
    :: my.decision == DIE -> will_settle(TO_DEAD)
    :: success(my.decision) -> will_settle(DROP)
    fi
}

inline settle()
{
    if
    :: my.publishes && PUBLISHES_MARKED && !publish_marker -> published++; publish_marker = true
    :: else
    fi;
    if
    :: (mine.state != GONE || !SETTLE_CHECKS_ENTRY) && (mine.owner == me || !SETTLE_CHECKS_OWNER) ->
        published = published + (my.publishes && !PUBLISHES_MARKED);
        if
        :: my.settling == TO_RETRY -> retry_attempt = my.attempt; retry_submission = my.submission
        :: else
        fi;
        remove(my.entry)
    :: else
    fi;
    if
    :: lost_answers < LOST_ANSWERS -> lost_answers++
    :: STORE_FIRST || my.decision == NONE -> forget(me)
    :: !STORE_FIRST && my.decision == RETRY -> my.attempt = my.attempt - 1; my.pc = COMMIT
    :: !STORE_FIRST && my.decision != RETRY && my.decision != NONE -> my.pc = DECIDE
    fi
}

/* ---- The parties. */
#define step(name)                                                                                                     \
    my.pc == name -> printf("worker %d: ", worker); printm(my.pc);                                                     \
    printf(" entry %d (submission %d, attempt %d), token %d, ", my.entry, my.submission, my.attempt, my.token);        \
    printm(my.decision); printf("\n");

proctype place(byte me) /* one delivery at a time of the worker that it belongs to */
{
    do
    :: atomic {
        my.pc == IDLE && !sealed[worker] &&
            (takeable(1) || takeable(2) || takeable(3) || takeable(4) || takeable(5) || takeable(6)) ->
        if
        :: take(1)
        :: take(2)
        :: take(3)
        :: take(4)
        :: take(5)
        :: take(6)
        fi;
        received();
        printf("worker %d: take, entry %d (submission %d, attempt %d), token %d, lapses %d\n", worker, my.entry,
               my.submission, my.attempt, my.token, lapses);
        check() }
    :: atomic { step(CLAIM) insert(); check() }
    :: atomic { step(FIND) find(); check() }
    :: atomic { step(TAKE_OVER) take_over(); check() }
    :: atomic { step(RUN) run_script(); check() }
    :: atomic { step(DECIDE) decide(); check() }
    :: atomic { step(APPLY_1) apply_1(); check() }
    :: atomic { step(APPLY_2) apply_2(); check() }
    :: atomic { step(COMMIT) commit(); check() }
    :: atomic { step(SETTLE) settle(); check() }
    :: atomic { /* a sign of life: an owner that finds its entry in other hands stops working on it */
        my.pc != IDLE && mine.state == PENDING && mine.owner != me ->
        printf("worker %d: sign of life, entry %d is not its own\n", worker, my.entry);
        if
        :: KEEP_CHECKS_OWNER -> forget(me)
        :: !KEEP_CHECKS_OWNER -> mine.owner = me
        fi;
        check() }
    :: atomic { /* SIGKILL: the memory of the whole worker is gone, its entries stay pending */
        my.pc != IDLE && crashes < CRASHES ->
        printf("worker %d: killed at ", worker); printm(my.pc); printf("\n");
        crashes++;
        for (i : 0 .. PLACES - 1) {
            if
            :: i / BATCH == worker -> forget(i)
            :: else
            fi
        }
        i = 0;
        check() }
    od
}

active proctype sender()
{
    do
    :: atomic { submitted < SUBMISSIONS -> printf("sender: submission\n"); submitted++; add(submitted, 1); check() }
    od
}

active proctype redis()
{
    do
    :: atomic { retry_attempt != 0 ->
        printf("redis: promote attempt %d\n", retry_attempt);
        add(retry_submission, retry_attempt);
        retry_attempt = 0; retry_submission = 0;
        check() }
    :: atomic { redis_losses < REDIS_LOSSES && submitted > 0 && !resolved ->
        printf("redis: comes back empty\n");
        redis_losses++;
        publish_marker = false; published = 0;
        epoch++;
        for (i : 1 .. ENTRIES) {
            remove(i)
        }
        i = 0;
        retry_attempt = 0; retry_submission = 0;
        forgotten = forgotten || doc.status == ABSENT;
        check() }
    :: atomic { group_losses < GROUP_LOSSES ->
        printf("redis: the group is lost and made again\n");
        group_losses++;
        for (i : 1 .. ENTRIES) {
            if
            :: entry[i].state == PENDING -> entry[i].state = NEW; entry[i].owner = NOBODY; entry[i].deliveries = 0
            :: else
            fi
        }
        i = 0;
        check() }
    od
}

/* Replays a dead event; may die between the halves and does not come back. */
active proctype operator()
{
    do
    :: atomic { replays < REPLAYS && doc.status == DEAD && REPLAY_STORE_FIRST ->
        replays++;
        printf("operator: replay, store half\n");
        doc.status = RETRY_WAIT; doc.attempt++;
        letter = REPLAYED;
        replay_open = true;
        check() }
        if
        :: atomic {
            printf("operator: replay, queue half\n");
            add(doc.ingest, doc.attempt);
            replay_open = false;
            check() }
        :: RECONCILER
        fi
    :: atomic { replays < REPLAYS && doc.status == DEAD && !REPLAY_STORE_FIRST ->
        replays++;
        printf("operator: replay, queue half first\n");
        add(doc.ingest, doc.attempt + 1);
        check() }
        atomic { doc.status == DEAD ->
            printf("operator: replay, store half\n");
            doc.status = RETRY_WAIT; doc.attempt++;
            letter = REPLAYED;
            check() }
    od
}

/* Re-queues what bears another epoch; and, as the second net, what is nowhere (in reality: what nobody touched for
 * long). */
active proctype reconciler()
{
    byte seen_epoch, seen_ingest, seen_attempt;
    do
    :: atomic { RECONCILER && unresolved && (doc.epoch != epoch || !in_queue || superfluous < SUPERFLUOUS) ->
        superfluous = superfluous + (doc.epoch == epoch && in_queue);
        seen_epoch = epoch; seen_ingest = doc.ingest; seen_attempt = doc.attempt };
        atomic {
            printf("reconciler: re-queue attempt %d\n", seen_attempt);
            add(seen_ingest, seen_attempt);
            replay_open = false;
            check() };
        atomic {
            if
            :: unresolved -> printf("reconciler: mark epoch %d\n", seen_epoch); doc.epoch = seen_epoch
            :: else
            fi;
            seen_epoch = 0; seen_ingest = 0; seen_attempt = 0;
            check() }
    od
}

/* P1: when nothing can happen any more, the event is resolved and nothing is left of it in Redis. */
active proctype quiet()
{
    atomic {
        timeout ->
        for (i : 1 .. ENTRIES) {
            promise("BROKEN P1: nothing is left in stream and pending lists\n", entry[i].state == GONE)
        }
        for (i : 0 .. PLACES - 1) {
            assert(delivery[i].pc == IDLE)
        }
        i = 0;
        promise("BROKEN P1: nothing is left in the retry set\n", retry_attempt == 0);
        promise("BROKEN P1: the event is resolved\n", resolved || (doc.status == ABSENT && forgotten));
        promise("BROKEN P2: what succeeded was published\n",
                doc.status != SUCCEEDED || published == 1 || redis_losses > 0)
    }
}

init
{
    atomic {
        for (i : 0 .. PLACES - 1) {
            run place(i)
        }
        i = 0
    }
}

#ifdef LIVENESS
/* P1 as liveness, each party getting its turn again and again (weak fairness): the event comes to its end. */
#define settled(e) (entry[e].state == GONE)
ltl resolves {
    <>[](submitted == SUBMISSIONS && resolved && retry_attempt == 0 && settled(1) && settled(2) && settled(3) &&
         settled(4) && settled(5) && settled(6))
}
#endif
