/* The call into process.lua. */
#include "base/memory.h"
#include "policy/state.h"

#define EVENT_TYPE        "event"
#define MAX_MESSAGE_BYTES 2000

/* event: the target is the struct process_call */

static const struct event *event_of(const void *call)
{
    return ((const struct process_call *)call)->event;
}

static void push_slice(lua_State *L, struct slice slice)
{
    lua_pushlstring(L, slice.base, slice.len);
}

static void push_source(lua_State *L, const void *call)
{
    push_slice(L, event_of(call)->source);
}

static void push_event_id(lua_State *L, const void *call)
{
    push_slice(L, event_of(call)->event_id);
}

static void push_type(lua_State *L, const void *call)
{
    push_slice(L, event_of(call)->type);
}

static void push_occurred_at(lua_State *L, const void *call)
{
    push_slice(L, event_of(call)->occurred_at);
}

static void push_received_at(lua_State *L, const void *call)
{
    lua_pushinteger(L, event_of(call)->received_at.ms);
}

static void push_attempt(lua_State *L, const void *call)
{
    lua_pushinteger(L, ((const struct process_call *)call)->attempt->attempt);
}

static void push_body(lua_State *L, const void *call)
{
    object_push_body(L, event_of(call)->body);
}

static void push_key(lua_State *L, const void *call)
{
    push_slice(L, ((const struct process_call *)call)->key);
}

static void push_optional(lua_State *L, struct slice slice)
{
    if (slice.len == 0)
        lua_pushnil(L);
    else
        push_slice(L, slice);
}

static void push_replay(lua_State *L, const void *call)
{
    push_optional(L, event_of(call)->replay);
}

static void push_traceparent(lua_State *L, const void *call)
{
    push_optional(L, event_of(call)->traceparent);
}

static void push_ingest_id(lua_State *L, const void *call)
{
    push_slice(L, event_of(call)->ingest_id);
}

/* event:json(): a body that is no JSON is a permanent failure; no retry would change it. */
static int event_json(lua_State *L)
{
    const struct process_call *call = object_target(L, EVENT_TYPE);
    lua_settop(L, 1);
    struct error err;
    if (!object_push_json(L, call->event->body, &err))
        verdict_raise_outcome(L, OUTCOME_PERMANENT, "invalid_json", err.text, -1);
    return 1;
}

void process_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"json", event_json}, {NULL, NULL}};
    static const struct object_field fields[] = {{"source", push_source},
                                                 {"event_id", push_event_id},
                                                 {"type", push_type},
                                                 {"occurred_at", push_occurred_at},
                                                 {"received_at_ms", push_received_at},
                                                 {"attempt", push_attempt},
                                                 {"body", push_body},
                                                 {"key", push_key},
                                                 {"replay", push_replay},
                                                 {"traceparent", push_traceparent},
                                                 {"ingest_id", push_ingest_id},
                                                 {NULL, NULL}};
    object_define(L, EVENT_TYPE, methods, fields);
}

/* The outcome */

static int64_t get_integer(lua_State *L, int index, const char *name, int64_t fallback)
{
    lua_pushstring(L, name);
    lua_rawget(L, index);
    int64_t value = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : fallback;
    lua_pop(L, 1);
    return value;
}

/* The kind that a verdict's field outcome names. */
static enum outcome_kind get_outcome(lua_State *L, int index)
{
    enum outcome_kind kind = OUTCOME_TRANSIENT;
    lua_pushliteral(L, "outcome");
    lua_rawget(L, index);
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    while (kind < OUTCOME_ERROR && strcmp(name, outcome_name(kind)) != 0)
        kind++;
    if (kind == OUTCOME_ERROR)
        call_refuse_answer(L, "process.lua changed a verdict: its outcome is '%s'", name);
    lua_pop(L, 1);
    return kind;
}

static void read_tagged(lua_State *L, struct process_call *call, int index)
{
    static const char *const default_kinds[] = {
        [OUTCOME_TRANSIENT] = "transient", [OUTCOME_PERMANENT] = "permanent", [OUTCOME_SNOOZE] = "snooze"};
    struct outcome *out = call->out;
    out->kind = get_outcome(L, index);
    if (!call_get_string(L, index, "message", call->arena, &out->message) ||
        !call_get_string(L, index, "kind", call->arena, &out->error_kind))
        call_refuse_answer(L, "process.lua changed a verdict: its message or kind is not a string");
    out->retry_after_ms = get_integer(L, index, "retry_after_ms", -1);
    if (out->retry_after_ms < -1 || out->retry_after_ms > DELAY_MAX_MS)
        out->retry_after_ms = out->retry_after_ms < 0 ? 0 : DELAY_MAX_MS;
    if (out->message.len > MAX_MESSAGE_BYTES)
        out->message.len = MAX_MESSAGE_BYTES;
    if (out->error_kind.len == 0)
        out->error_kind = slice_of(default_kinds[out->kind]);
}

static void read_result(lua_State *L, struct process_call *call, int index)
{
    struct outcome *out = call->out;
    if (lua_isnil(L, index)) {
        out->result = SLICE_LITERAL("null");
        return;
    }
    if (!lua_istable(L, index) || verdict_tag_of(L, index) != VERDICT_NONE)
        call_refuse_answer(L, "process.lua returned a %s; it must return a table, nothing, fail.…(…) or snooze(…)",
                           lua_istable(L, index) ? "verdict of another script" : luaL_typename(L, index));
    struct buf *scratch = &call->policy->scratch;
    buf_clear(scratch);
    to_json(L, index, TO_JSON_PLAIN, scratch);
    if (outcome_bytes(out) + scratch->len > OUTCOME_MAX_BYTES)
        call_refuse_answer(L,
                           "process.lua returned a table that is, with its writes and messages, larger than %d bytes",
                           (int)OUTCOME_MAX_BYTES);
    out->result = arena_copy(call->arena, scratch->data, scratch->len);
}

static int call_body(lua_State *L)
{
    struct process_call *call = lua_touserdata(L, 1);
    const struct policy *policy = call->policy;
    lua_rawgeti(L, LUA_REGISTRYINDEX, policy->script_refs[SCRIPT_PROCESS]);
    object_push(L, EVENT_TYPE);
    object_push(L, CTX_TYPE);
    sandbox_call_script(L, 2);
    if (verdict_tag_of(L, 2) == VERDICT_OUTCOME)
        read_tagged(L, call, 2);
    else
        read_result(L, call, 2);
    return 0;
}

static void set_fault(struct process_call *call, enum fault_kind fault)
{
    static const enum outcome_kind kinds[FAULT_KINDS] = {[FAULT_ERROR] = OUTCOME_ERROR,
                                                         [FAULT_TIME_LIMIT] = OUTCOME_TIME_LIMIT,
                                                         [FAULT_MEMORY_LIMIT] = OUTCOME_MEMORY_LIMIT,
                                                         [FAULT_BAD_RETURN] = OUTCOME_ERROR};
    struct outcome *out = call->out;
    *out = (struct outcome){.kind = kinds[fault],
                            .message = call_error(call->policy, call->arena),
                            .error_kind = slice_of(outcome_name(kinds[fault])),
                            .retry_after_ms = -1};
    call_report_fault(call->policy, SCRIPT_PROCESS, fault, out->message);
}

void policy_process(struct policy *policy, const struct event *event, const struct policy_attempt *attempt,
                    struct arena *arena, struct outcome *out)
{
    *out = (struct outcome){.kind = OUTCOME_SUCCESS, .retry_after_ms = -1};
    struct process_call call = {.policy = policy,
                                .event = event,
                                .attempt = attempt,
                                .key = event_key(event, arena),
                                .arena = arena,
                                .out = out};
    if (!call_prepare(policy)) {
        set_fault(&call, FAULT_ERROR);
        return;
    }
    policy->process = &call;
    enum run_result result = sandbox_run(policy, call_body, &call, policy->options.time_ms);
    policy->process = NULL;
    if (result != RUN_OK)
        set_fault(&call, call_fault_of(policy, result));
    else if (out->kind != OUTCOME_SUCCESS)
        out->n_writes = out->n_publishes = 0; /* a failed attempt has no effects */
}
