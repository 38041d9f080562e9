/* What there is: the store, Redis, the workers' memory; and what one does with them. */

#define PLACES  (WORKERS * BATCH)
#define ENTRIES 6
#define TOKENS  (2 * PLACES + 3)
#define NOBODY  255

/* ---- The store: the event's document, its dead letter, and the documents that process.lua writes to. */
mtype = { ABSENT, PROCESSING, RETRY_WAIT, SUCCEEDED, DEAD };
mtype = { NONE, SUCCEED_A, SUCCEED_B, RETRY, DIE }; /* A and B: two runs need not want the same effects */
mtype = { NO_STEP, DECIDE_STEP, COMMIT_STEP };
mtype = { NO_LETTER, UNREVIEWED, REPLAYED };

typedef Document {
    mtype status = ABSENT;
    byte ingest;      /* which submission it is: ingest_id */
    byte attempt;     /* that is run, or waited for */
    byte token;       /* claim.token; 0: no claim */
    byte claim_entry; /* claim's entry */
    byte epoch;
    mtype decision = NONE; /* stored by 4a, removed by 4c */
    byte mark;                      /* `commit`: whose update was the last, … */
    mtype mark_step = NO_STEP; /* … and which */
    mtype outcome = NONE;
};
Document doc;
mtype letter = NO_LETTER;
byte letter_attempt;
mtype shipment = NONE; /* written by either success */
byte shipment_writes;
bool alert_a, alert_b; /* written by A, by B only */

/* ---- Redis: the stream with its pending lists, and the retry set. */
mtype = { GONE, NEW, PENDING };
typedef Entry {
    mtype state = GONE;
    byte submission;
    byte attempt;
    byte deliveries;
    byte owner = NOBODY; /* PENDING: the place that works on it; NOBODY: no sign of life any more */
};
Entry entry[ENTRIES + 1]; /* [0] is unused */
byte retry_attempt, retry_submission; /* the one member of the retry set; 0: empty */
byte epoch;
bool publish_marker;
byte published; /* entries that the event's publishes added to other streams */

/* ---- A worker's memory: one delivery in each of its places. A crash forgets it. */
mtype = { IDLE, CLAIM, FIND, TAKE_OVER, RUN, DECIDE, APPLY_1, APPLY_2, COMMIT, SETTLE };
mtype = { LEAVE, DROP, TO_RETRY, TO_DEAD };
typedef Delivery {
    mtype pc = IDLE;
    byte entry;
    byte submission; /* the entry's */
    byte attempt;    /* the entry's; once claimed, the document's */
    bool suspect;    /* the entry was delivered more often than the limit */
    byte token;
    byte epoch;
    mtype seen_status = ABSENT; /* by FIND, for the take-over's filter */
    byte seen_token;
    mtype decision = NONE; /* seen by FIND, or made by RUN */
    mtype settling = LEAVE;
    bool publishes;
};
Delivery delivery[PLACES];
bool sealed[WORKERS]; /* the batch is being worked on: nothing joins it */
#define my     delivery[me]
#define worker (me / BATCH)
#define mine   entry[my.entry]

byte submitted; /* acknowledged so far */
bool replay_open; /* the store's half of a replay is done, the queue's is not */
bool forgotten;   /* Redis lost what nobody had claimed */
byte crashes, lapses, lost_answers, replays, redis_losses, group_losses, superfluous;
byte i, j, k, slot; /* scratch inside one step */
byte used;

#define unresolved (doc.status == PROCESSING || doc.status == RETRY_WAIT)
#define resolved   (doc.status == SUCCEEDED || doc.status == DEAD)
#define success(d) ((d) == SUCCEED_A || (d) == SUCCEED_B)

/* ---- Helpers. Tokens and entry ids are unique for ever in reality; here one is used again once nothing remembers
 * it. */
inline fresh_token(answer)
{
    d_step {
        answer = 0;
        for (i : 1 .. TOKENS) {
            used = (doc.token == i || doc.mark == i);
            for (j : 0 .. PLACES - 1) {
                used = used || delivery[j].token == i || delivery[j].seen_token == i
            }
            if
            :: !used && answer == 0 -> answer = i
            :: else
            fi
        }
        assert(answer != 0); /* else TOKENS is too small */
        i = 0; j = 0; used = false
    }
}

inline add(a_submission, an_attempt) /* XADD */
{
    d_step {
        slot = 0;
        for (i : 1 .. ENTRIES) {
            used = (entry[i].state != GONE || doc.claim_entry == i);
            for (j : 0 .. PLACES - 1) {
                used = used || delivery[j].entry == i
            }
            if
            :: !used && slot == 0 -> slot = i
            :: else
            fi
        }
        assert(slot != 0); /* else ENTRIES is too small */
        entry[slot].state = NEW;
        entry[slot].submission = a_submission;
        entry[slot].attempt = an_attempt;
        i = 0; j = 0; slot = 0; used = false
    }
}

inline remove(which) /* XACK and XDEL */
{
    d_step {
        entry[which].state = GONE;
        entry[which].submission = 0;
        entry[which].attempt = 0;
        entry[which].deliveries = 0;
        entry[which].owner = NOBODY
    }
}

inline forget(p) /* the place is empty again; what it still owns shows no sign of life from now on */
{
    d_step {
        if
        :: delivery[p].entry != 0 && entry[delivery[p].entry].owner == p -> entry[delivery[p].entry].owner = NOBODY
        :: else
        fi;
        delivery[p].pc = IDLE;
        delivery[p].entry = 0;
        delivery[p].submission = 0;
        delivery[p].attempt = 0;
        delivery[p].suspect = false;
        delivery[p].token = 0;
        delivery[p].epoch = 0;
        delivery[p].seen_status = ABSENT;
        delivery[p].seen_token = 0;
        delivery[p].decision = NONE;
        delivery[p].settling = LEAVE;
        delivery[p].publishes = false;
        used = false;
        for (j : 0 .. PLACES - 1) {
            used = used || (j / BATCH == (p) / BATCH && delivery[j].pc != IDLE)
        }
        sealed[(p) / BATCH] = sealed[(p) / BATCH] && used;
        j = 0; used = false
    }
}

/* The caller was told; or it was not, and repeats the call (the pc stays where it is). */
inline answered(next)
{
    if
    :: my.pc = next
    :: lost_answers < LOST_ANSWERS -> lost_answers++
    fi
}
