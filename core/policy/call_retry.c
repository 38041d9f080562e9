/* The call into retry_policy.lua. Whatever it does, there is a decision: the built-in one if need be. */
#include "base/id.h"
#include "base/memory.h"
#include "policy/state.h"

struct retry_call {
    struct policy *policy;
    const struct event *event;
    const struct policy_attempt *attempt;
    const struct outcome *outcome;
    struct arena *arena;
    struct retry_decision decision;
};

static void set_slice(lua_State *L, const char *name, struct slice slice)
{
    lua_pushlstring(L, slice.base, slice.len);
    lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

/* ctx of retry_policy.lua: the settings' schedule. */
void retry_open(lua_State *L)
{
    const struct retry_schedule *schedule = &policy_of(L)->options.schedule;
    lua_createtable(L, 0, 1);
    lua_createtable(L, 0, 4);
    set_integer(L, "base_ms", schedule->base_ms);
    set_integer(L, "factor", schedule->factor);
    set_integer(L, "cap_ms", schedule->cap_ms);
    set_integer(L, "attempts", schedule->attempts);
    globals_push_view(L, "ctx.schedule");
    lua_setfield(L, -2, "schedule");
    globals_push_view(L, "ctx");
    policy_of(L)->retry_ctx_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void push_failure(lua_State *L, const struct retry_call *call)
{
    lua_createtable(L, 0, 8);
    set_slice(L, "kind", call->outcome->error_kind);
    set_slice(L, "message", call->outcome->message);
    set_slice(L, "outcome", slice_of(outcome_name(call->outcome->kind)));
    set_integer(L, "attempt", call->attempt->attempt);
    set_integer(L, "failures", call->attempt->failures);
    set_slice(L, "source", call->event->source);
    set_slice(L, "type", call->event->type);
    if (call->outcome->retry_after_ms >= 0)
        set_integer(L, "retry_after_ms", call->outcome->retry_after_ms);
}

static struct retry_decision built_in(const struct retry_call *call)
{
    if (call->outcome->kind == OUTCOME_PERMANENT)
        return (struct retry_decision){.reason = SLICE_LITERAL("permanent_failure")};
    return retry_decide(&call->policy->options.schedule, call->attempt->failures, call->outcome->retry_after_ms,
                        id_random());
}

static void read_decision(lua_State *L, struct retry_call *call, int index)
{
    if (verdict_tag_of(L, index) != VERDICT_RETRY)
        call_refuse_answer(L, "retry_policy.lua returned a %s; it must return retry(…), dead(…) or default()",
                           luaL_typename(L, index));
    lua_pushliteral(L, "delay_ms");
    if (lua_rawget(L, index) == LUA_TNUMBER) {
        int64_t ms = lua_tointeger(L, -1); /* checked by retry(), if the script has left it alone */
        ms = ms < 0 ? 0 : ms > DELAY_MAX_MS ? DELAY_MAX_MS : ms;
        call->decision = (struct retry_decision){.retry = true, .delay_ms = ms};
        return;
    }
    struct slice reason;
    call_get_string(L, index, "reason", call->arena, &reason);
    call->decision = reason.len > 0 ? (struct retry_decision){.reason = reason} : built_in(call);
}

static int call_body(lua_State *L)
{
    struct retry_call *call = lua_touserdata(L, 1);
    const struct policy *policy = call->policy;
    lua_rawgeti(L, LUA_REGISTRYINDEX, policy->script_refs[SCRIPT_RETRY]);
    push_failure(L, call);
    lua_rawgeti(L, LUA_REGISTRYINDEX, policy->retry_ctx_ref);
    sandbox_call_script(L, 2);
    read_decision(L, call, 2);
    return 0;
}

struct retry_decision policy_retry(struct policy *policy, const struct event *event,
                                   const struct policy_attempt *attempt, const struct outcome *outcome,
                                   struct arena *arena)
{
    struct retry_call call = {.policy = policy, .event = event, .attempt = attempt, .outcome = outcome, .arena = arena};
    if (!call_prepare(policy))
        return built_in(&call);
    enum run_result result = sandbox_run(policy, call_body, &call, policy->options.time_ms);
    if (result != RUN_OK) {
        call_report_fault(policy, SCRIPT_RETRY, call_fault_of(policy, result), buf_slice(&policy->error_text));
        return built_in(&call);
    }
    return call.decision;
}
