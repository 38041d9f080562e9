#include "worker/run.h"

#include "base/log.h"

static void log_failure(const struct delivery *d, const char *what)
{
    log_info(what, LOG_SLICE("key", d->key), LOG_I("attempt", d->attempt),
             LOG_S("outcome", outcome_name(d->outcome.kind)), LOG_SLICE("error_kind", d->outcome.error_kind),
             LOG_SLICE("error", d->outcome.message), LOG_I("delay_ms", d->retry.retry ? d->retry.delay_ms : 0),
             LOG_SLICE("reason", d->retry.reason));
}

/* An entry that was handed out again and again and never came to a result has probably killed its workers. */
static bool is_poison(const struct run_context *context, const struct delivery *d)
{
    return d->deliveries > context->delivery_limit;
}

static void decide_poison(const struct run_context *context, struct delivery *d)
{
    d->outcome = (struct outcome){
        .kind = OUTCOME_ERROR,
        .error_kind = SLICE_LITERAL("poison"),
        .message =
            arena_printf(context->arena, "delivered %u times without a result: workers died on it or were stopped",
                         d->deliveries - 1),
        .retry_after_ms = -1,
    };
    d->started_at = d->ended_at = clock_wall();
    d->failures++;
    d->decision = DECISION_DEAD;
    d->retry = (struct retry_decision){.retry = false, .reason = SLICE_LITERAL("poison")};
    metric_add(context->metrics->poisoned, 1);
    log_failure(d, "event is poison");
}

static void decide_after_failure(const struct run_context *context, struct delivery *d)
{
    d->failures++;
    struct policy_attempt attempt = {d->attempt, d->failures, context->worker};
    d->retry = policy_retry(context->policy, &d->event, &attempt, &d->outcome, context->arena);
    d->decision = d->retry.retry ? DECISION_RETRY : DECISION_DEAD;
    log_failure(d, d->retry.retry ? "attempt failed" : "event is dead");
}

static void decide(const struct run_context *context, struct delivery *d)
{
    switch (d->outcome.kind) {
    case OUTCOME_SUCCESS:
        d->decision = DECISION_SUCCEED;
        break;
    case OUTCOME_SNOOZE:
        d->decision = DECISION_SNOOZE;
        d->retry = (struct retry_decision){.retry = true, .delay_ms = d->outcome.retry_after_ms};
        break;
    case OUTCOME_TRANSIENT:
    case OUTCOME_PERMANENT:
    case OUTCOME_ERROR:
    case OUTCOME_TIME_LIMIT:
    case OUTCOME_MEMORY_LIMIT:
        decide_after_failure(context, d);
        break;
    }
}

void run_delivery(const struct run_context *context, struct delivery *d)
{
    d->script_hash = slice_of(script_set_hash(policy_scripts(context->policy)));
    if (is_poison(context, d)) {
        decide_poison(context, d);
        return;
    }
    struct policy_attempt attempt = {d->attempt, d->failures, context->worker};
    d->started_at = clock_wall();
    mono_time from = clock_mono();
    policy_process(context->policy, &d->event, &attempt, context->arena, &d->outcome);
    d->run_us = clock_mono().us - from.us;
    d->ended_at = clock_wall();
    metric_observe_us(context->metrics->handler_seconds, d->run_us);
    metric_add(context->metrics->attempts[d->outcome.kind], 1);
    decide(context, d);
}
