/* Verdicts: every way a script can end, as plain data. policy fills them, the services act on them. */
#ifndef EVENT_VERDICT_H
#define EVENT_VERDICT_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* validate.lua */
enum validation_kind {
    VALIDATION_ACCEPT,
    VALIDATION_REJECT, /* the script's decision, or ours for the sender's fault (bad JSON) */
    VALIDATION_FAULT,  /* the script broke: error, limit, nonsense returned. Answered 503 (our fault, so the sender
                          retries) */
};

struct validation {
    enum validation_kind kind;
    struct slice event_id, type, occurred_at; /* accept */
    int accept_status;                        /* accept: 202 unless the source says otherwise (2xx) */
    int status;                               /* reject: 400 to 499, never 410 */
    struct slice code, field, detail; /* reject; field may be empty. fault: detail is the error with file:line */
    struct slice reason;              /* reject: for the log only, may say more than detail; may be empty */
};

/* process.lua */
enum outcome_kind {
    OUTCOME_SUCCESS,
    OUTCOME_TRANSIENT, /* fail.transient */
    OUTCOME_PERMANENT, /* fail.permanent */
    OUTCOME_SNOOZE,    /* not now: burns no attempt */
    OUTCOME_ERROR,     /* the script threw, or returned nonsense */
    OUTCOME_TIME_LIMIT,
    OUTCOME_MEMORY_LIMIT,
};

/* A change of one document that the script asked for: applied once per event. */
struct effect_write {
    struct slice collection, id;
    struct slice update; /* update operators as MongoDB Extended JSON */
};

/* A message for another Redis stream: added once per event. */
struct effect_publish {
    struct slice topic;   /* [a-z0-9_.-]{1,64} */
    struct slice payload; /* JSON */
};

struct outcome {
    enum outcome_kind kind;
    struct slice result; /* success: what the script returned, as JSON ("null" when nothing) */
    struct effect_write *writes;
    size_t n_writes;
    struct effect_publish *publishes;
    size_t n_publishes;
    struct slice message; /* failure: human-readable, with file:line for OUTCOME_ERROR */
    struct slice
        error_kind; /* failure: short machine word: the script's own, or "error", "time_limit", "memory_limit" */
    int64_t retry_after_ms; /* transient: what the other side asked for; -1 when nothing. snooze: how long */
};

/* What a success may carry, so that it fits into the event's document beside the body and the history. */
#define OUTCOME_MAX_BYTES ((size_t)4 * 1024 * 1024)
size_t outcome_bytes(const struct outcome *outcome); /* of the result, the writes' ids and updates, and the payloads */

const char *outcome_name(enum outcome_kind kind); /* "success", "transient", … as in attempt records and metrics */

#endif
