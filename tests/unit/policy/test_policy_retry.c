/* The call into retry_policy.lua: there is always a decision. */
#include "../check.h"

#include "base/log.h"
#include "base/memory.h"
#include "harness.h"

static struct policy *with_retry(const char *script)
{
    struct policy_options options = harness_options(POLICY_WORKER);
    options.time_ms = 1000;
    struct error err;
    struct policy *policy = harness_policy(
        &options, (struct file[]){{"process.lua", "return function() end"}, {"retry_policy.lua", script}, {0}}, &err);
    if (policy == NULL)
        fail_msg("%s", err.text);
    return policy;
}

static struct outcome failed(enum outcome_kind kind, const char *error_kind, int64_t retry_after_ms)
{
    return (struct outcome){.kind = kind,
                            .message = SLICE_LITERAL("it failed"),
                            .error_kind = slice_of(error_kind),
                            .retry_after_ms = retry_after_ms};
}

static struct retry_decision ask(struct policy *policy, uint32_t failures, struct outcome outcome, struct arena *arena)
{
    struct event event = harness_event("{}");
    struct policy_attempt attempt = {.attempt = failures + 1, .failures = failures, .worker = "test"};
    return policy_retry(policy, &event, &attempt, &outcome, arena);
}

static void the_failure_is_seen(void **state)
{
    (void)state;
    struct policy *policy = with_retry(
        "return function(f, ctx)\n"
        "  local s = ctx.schedule\n"
        "  assert(f.kind == 'busy' and f.message == 'it failed' and f.outcome == 'transient' and f.attempt == 4)\n"
        "  assert(f.failures == 3 and f.source == 'demo' and f.type == 'parcel.in_transit' and f.retry_after_ms == "
        "77)\n"
        "  assert(s.base_ms == 1000 and s.factor == 2 and s.cap_ms == 300000 and s.attempts == 8)\n"
        "  assert(not pcall(function() s.base_ms = 1 end))\n"
        "  return retry(1234)\n"
        "end");
    struct arena *arena = arena_new();
    struct retry_decision decision = ask(policy, 3, failed(OUTCOME_TRANSIENT, "busy", 77), arena);
    assert_true(decision.retry);
    assert_int_equal(decision.delay_ms, 1234);
    policy_free(policy);
    arena_free(arena);
}

struct answer {
    const char *script; /* the body of the function */
    bool retry;
    int64_t delay_from_ms, delay_to_ms;
    const char *reason;
};

static void answers_are_checked(void **state)
{
    (void)state;
    const struct answer answers[] = {
        {"return retry(0)", true, 0, 0, NULL},
        {"return retry(0.5)", true, 1, 1, NULL},
        {"return retry(1e300)", true, INT64_C(30) * 86400000, INT64_C(30) * 86400000, NULL},
        {"return dead('no_use')", false, 0, 0, "no_use"},
        {"error(dead('raised'))", false, 0, 0, "raised"},
        {"return retry(backoff(ctx.schedule, 1))", true, 0, 1000, NULL},
        {"return retry(backoff({ base_ms = 10, factor = 3, cap_ms = 50 }, 9))", true, 0, 50, NULL},
        {"return retry(backoff(ctx.schedule, 1, 5000))", true, 5000, 5000, NULL},
        /* the built-in schedule: after the third failure at most 4 s */
        {"return default()", true, 0, 4000, NULL},
        {"return", true, 0, 4000, NULL},
        {"return 5", true, 0, 4000, NULL},
        {"return {}", true, 0, 4000, NULL},
        {"return retry(-1)", true, 0, 4000, NULL},
        {"return retry(0/0)", true, 0, 4000, NULL},
        {"return dead('Not A Word')", true, 0, 4000, NULL},
        {"return dead()", true, 0, 4000, NULL},
        {"return backoff({}, 1)", true, 0, 4000, NULL},
        {"return fail.permanent('x')", true, 0, 4000, NULL},
        {"error('boom')", true, 0, 4000, NULL},
        {"while true do end", true, 0, 4000, NULL},
        {"return ('x'):rep(1 << 30)", true, 0, 4000, NULL},
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct answer *want = &answers[i];
        struct slice script = arena_printf(arena, "return function(_, ctx) %s end", want->script);
        struct policy *policy = with_retry(script.base);
        struct retry_decision got = ask(policy, 3, failed(OUTCOME_TRANSIENT, "transient", -1), arena);
        bool right = got.retry == want->retry;
        if (want->retry)
            right = right && got.delay_ms >= want->delay_from_ms && got.delay_ms <= want->delay_to_ms;
        else
            right = right && slice_is(got.reason, want->reason);
        if (!right)
            fail_msg("%s gave retry %d after %lld: %.*s", want->script, got.retry, (long long)got.delay_ms,
                     SLICE_ARG(got.reason));
        policy_free(policy);
    }
    arena_free(arena);
}

static void the_built_in_decision_knows_the_end(void **state)
{
    (void)state;
    struct policy *policy = with_retry("return function() error('broken') end");
    struct arena *arena = arena_new();
    struct retry_decision decision = ask(policy, 8, failed(OUTCOME_TRANSIENT, "transient", -1), arena);
    assert_false(decision.retry);
    assert_true(slice_is(decision.reason, "retries_exhausted"));
    decision = ask(policy, 1, failed(OUTCOME_PERMANENT, "permanent", -1), arena);
    assert_false(decision.retry);
    assert_true(slice_is(decision.reason, "permanent_failure"));
    decision = ask(policy, 1, failed(OUTCOME_TRANSIENT, "transient", 90000), arena);
    assert_true(decision.retry);
    assert_int_equal(decision.delay_ms, 90000);
    policy_free(policy);
    arena_free(arena);
}

static void faults_are_counted(void **state)
{
    (void)state;
    struct policy_options options = harness_options(POLICY_WORKER);
    options.metrics = metrics_new();
    struct error err;
    struct policy *policy = harness_policy(&options,
                                           (struct file[]){{"process.lua", "return function() end"},
                                                           {"retry_policy.lua", "return function() return 1 end"},
                                                           {0}},
                                           &err);
    assert_non_null(policy);
    struct arena *arena = arena_new();
    ask(policy, 1, failed(OUTCOME_TRANSIENT, "transient", -1), arena);
    struct buf text = {0};
    metrics_write(options.metrics, &text);
    assert_non_null(strstr(text.data, "waybill_script_errors_total{script=\"retry_policy\",kind=\"bad_return\"} 1"));
    buf_free(&text);
    policy_free(policy);
    metrics_free(options.metrics);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_failure_is_seen),
        cmocka_unit_test(answers_are_checked),
        cmocka_unit_test(the_built_in_decision_knows_the_end),
        cmocka_unit_test(faults_are_counted),
    };
    log_open("test", LOG_ERROR + 1, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
