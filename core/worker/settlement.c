#include "worker/settlement.h"

static struct settlement settle_committed(const struct delivery *d)
{
    struct settlement s = {.delivery = d};
    if (d->lost || !d->committed)
        return s; /* SETTLE_LEAVE: it is somebody else's now */
    switch (d->decision) {
    case DECISION_SUCCEED:
        s.kind = SETTLE_DROP;
        s.publishes = d->outcome.publishes;
        s.n_publishes = d->outcome.n_publishes;
        break;
    case DECISION_RETRY:
    case DECISION_SNOOZE:
        s.kind = SETTLE_RETRY;
        s.delay_ms = d->retry.delay_ms;
        s.next_attempt = d->attempt + 1;
        break;
    case DECISION_DEAD:
        s.kind = SETTLE_DEAD;
        s.reason = d->retry.reason;
        break;
    case DECISION_NONE:
        break;
    }
    return s;
}

struct settlement settlement_of(const struct delivery *d)
{
    struct settlement s = {.delivery = d};
    if (d->malformed.len > 0)
        return (struct settlement){.delivery = d, .kind = SETTLE_DEAD, .reason = SLICE_LITERAL("malformed")};
    switch (d->claim) {
    case CLAIM_WON:
    case CLAIM_DECIDED:
        return settle_committed(d);
    case CLAIM_DUPLICATE:
    case CLAIM_CONFLICT:
        s.kind = SETTLE_DROP;
        return s;
    case CLAIM_FINISHED:
        s.kind = d->finished_dead ? SETTLE_DEAD : SETTLE_DROP;
        s.reason = d->retry.reason.len > 0 ? d->retry.reason : SLICE_LITERAL("dead");
        s.publishes = d->outcome.publishes;
        s.n_publishes = d->outcome.n_publishes;
        return s;
    case CLAIM_WAITING:
        s.kind = SETTLE_RETRY;
        s.delay_ms = d->wait_ms;
        s.next_attempt = d->next_attempt;
        return s;
    case CLAIM_HELD:
    case CLAIM_NONE:
        return s;
    }
    return s;
}

enum delivery_result settlement_result(const struct delivery *d)
{
    switch (d->claim) {
    case CLAIM_DUPLICATE:
        return RESULT_DUPLICATE;
    case CLAIM_CONFLICT:
        return RESULT_CONFLICT;
    case CLAIM_FINISHED:
    case CLAIM_WAITING:
        return RESULT_RESETTLED;
    case CLAIM_HELD:
        return RESULT_HELD;
    case CLAIM_NONE:
        return RESULT_DEAD; /* malformed */
    case CLAIM_WON:
    case CLAIM_DECIDED:
        break;
    }
    if (d->lost || !d->committed)
        return RESULT_LOST;
    return d->decision == DECISION_SUCCEED  ? RESULT_SUCCEEDED
           : d->decision == DECISION_RETRY  ? RESULT_RETRY
           : d->decision == DECISION_SNOOZE ? RESULT_SNOOZED
                                            : RESULT_DEAD;
}
