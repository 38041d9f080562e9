/* The call into validate.lua. */
#include "base/memory.h"
#include "policy/state.h"

#define REQUEST_TYPE          "request"
#define MAX_HEADER_NAME_BYTES 128
#define MAX_HEADER_VALUES     100
#define MAX_DETAIL_BYTES      1000

struct validate_call {
    struct policy *policy;
    const struct policy_request *request;
    struct arena *arena;
    struct validation *out;
};

/* request */

static const struct policy_request *request_of(const void *call)
{
    return ((const struct validate_call *)call)->request;
}

static void push_slice(lua_State *L, struct slice slice)
{
    lua_pushlstring(L, slice.base, slice.len);
}

static void push_body(lua_State *L, const void *call)
{
    object_push_body(L, request_of(call)->body);
}

static void push_source_name(lua_State *L, const void *call)
{
    push_slice(L, request_of(call)->source);
}

static void push_content_type(lua_State *L, const void *call)
{
    push_slice(L, request_of(call)->content_type);
}

static void push_received_at(lua_State *L, const void *call)
{
    lua_pushinteger(L, request_of(call)->received_at.ms);
}

/* The name at index 2 in lower case. */
static struct slice check_header_name(lua_State *L, char lower[MAX_HEADER_NAME_BYTES])
{
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len > 0 && len <= MAX_HEADER_NAME_BYTES, 2, "not a header name");
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 32 : name[i]);
    return (struct slice){lower, len};
}

/* request:header(name): the value, or nil. A repeated header ends the call: there is no right one to choose. */
static int request_header(lua_State *L)
{
    const struct policy_request *request = request_of(object_target(L, REQUEST_TYPE));
    char lower[MAX_HEADER_NAME_BYTES];
    struct slice name = check_header_name(L, lower), value, second;
    if (!request->header(request->headers, name, 0, &value)) {
        lua_pushnil(L);
        return 1;
    }
    if (request->header(request->headers, name, 1, &second)) {
        const char *text = lua_pushlstring(L, name.base, name.len);
        verdict_raise_reject(L, "repeated_header", text, "this header must be there once only");
    }
    push_slice(L, value);
    return 1;
}

/* request:sole_header(name): the value of a header that is there exactly once; else nil and "missing" or "repeated".
 * For signatures: strangers must not learn from a special answer that a source exists. */
static int request_sole_header(lua_State *L)
{
    const struct policy_request *request = request_of(object_target(L, REQUEST_TYPE));
    char lower[MAX_HEADER_NAME_BYTES];
    struct slice name = check_header_name(L, lower), value, second;
    bool there = request->header(request->headers, name, 0, &value);
    if (there && !request->header(request->headers, name, 1, &second)) {
        push_slice(L, value);
        return 1;
    }
    luaL_pushfail(L);
    lua_pushstring(L, there ? "repeated" : "missing");
    return 2;
}

/* request:headers(name): a list of all values. */
static int request_headers(lua_State *L)
{
    const struct policy_request *request = request_of(object_target(L, REQUEST_TYPE));
    char lower[MAX_HEADER_NAME_BYTES];
    struct slice name = check_header_name(L, lower), value;
    lua_newtable(L);
    for (size_t i = 0; i < MAX_HEADER_VALUES && request->header(request->headers, name, i, &value); i++) {
        push_slice(L, value);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* request:json(): the decoded body. A body that is no JSON object ends the call with the answer that says why. */
static int request_json(lua_State *L)
{
    const struct policy_request *request = request_of(object_target(L, REQUEST_TYPE));
    lua_settop(L, 1);
    struct error err;
    if (!object_push_json(L, request->body, &err))
        verdict_raise_reject(L, "invalid_json", NULL, err.text);
    size_t at = strspn(request->body.base, " \t\r\n"); /* there is a value: the check found one */
    if (request->body.base[at] != '{')
        verdict_raise_reject(L, "not_an_object", NULL, "the body must be a JSON object");
    return 1;
}

void validate_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"header", request_header},
                                       {"headers", request_headers},
                                       {"sole_header", request_sole_header},
                                       {"json", request_json},
                                       {NULL, NULL}};
    static const struct object_field fields[] = {{"body", push_body},
                                                 {"source_name", push_source_name},
                                                 {"content_type", push_content_type},
                                                 {"received_at_ms", push_received_at},
                                                 {NULL, NULL}};
    object_define(L, REQUEST_TYPE, methods, fields);
}

/* The verdict. These read raw fields only, so no script code runs. */

static void check_string(lua_State *L, int index, const char *name, struct arena *arena, struct slice *out)
{
    if (!call_get_string(L, index, name, arena, out))
        call_refuse_answer(L, "validate.lua answered with a %s that is not a string", name);
}

/* The whole number in field name, or fallback when it is absent. */
static lua_Integer check_status(lua_State *L, int index, lua_Integer fallback)
{
    lua_pushliteral(L, "status");
    int type = lua_rawget(L, index), is_integer;
    lua_Integer status = lua_tointegerx(L, -1, &is_integer);
    lua_pop(L, 1);
    if (type == LUA_TNIL)
        return fallback;
    if (type != LUA_TNUMBER || !is_integer)
        call_refuse_answer(L, "validate.lua answered with a status that is not a whole number");
    return status;
}

static lua_Integer source_accept_status(lua_State *L, int source)
{
    if (!lua_istable(L, source))
        return 202;
    lua_pushliteral(L, "accept_status");
    lua_rawget(L, source);
    lua_Integer status = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 202; /* checked when sources.lua was read */
    lua_pop(L, 1);
    return status;
}

/* The sender's values are checked against what an event may hold: answered like the script's own 422. */
static void check_event_fields(struct validate_call *call)
{
    struct validation *out = call->out;
    struct event event = {.event_id = out->event_id, .type = out->type, .occurred_at = out->occurred_at};
    const char *field;
    struct error err;
    if (event_check_fields(&event, &field, &err))
        return;
    *out = (struct validation){.kind = VALIDATION_REJECT,
                               .status = 422,
                               .code = SLICE_LITERAL("invalid_field"),
                               .field = slice_of(field),
                               .detail = arena_copy(call->arena, err.text, strlen(err.text))};
}

static void read_accept(lua_State *L, struct validate_call *call, int index, int source)
{
    struct validation *out = call->out;
    check_string(L, index, "event_id", call->arena, &out->event_id);
    check_string(L, index, "type", call->arena, &out->type);
    check_string(L, index, "occurred_at", call->arena, &out->occurred_at);
    lua_Integer status = check_status(L, index, source_accept_status(L, source));
    if (status < 200 || status > 299)
        call_refuse_answer(L, "validate.lua accepted with status %I: it must be 200 to 299", (LUAI_UACINT)status);
    out->accept_status = (int)status;
    out->kind = VALIDATION_ACCEPT;
    check_event_fields(call);
}

static bool is_code(struct slice code)
{
    for (size_t i = 0; i < code.len; i++) {
        char c = code.base[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return code.len > 0 && code.len <= 64;
}

static void read_reject(lua_State *L, struct validate_call *call, int index)
{
    struct validation *out = call->out;
    check_string(L, index, "code", call->arena, &out->code);
    check_string(L, index, "field", call->arena, &out->field);
    check_string(L, index, "detail", call->arena, &out->detail);
    check_string(L, index, "reason", call->arena, &out->reason);
    lua_Integer status = check_status(L, index, 422);
    if (status < 400 || status > 499 || status == 410)
        call_refuse_answer(
            L,
            "validate.lua rejected with status %I: it must be 400 to 499, and not 410, which senders take as "
            "the end of a subscription",
            (LUAI_UACINT)status);
    if (!is_code(out->code))
        call_refuse_answer(L, "validate.lua rejected without a code of [a-z0-9_]+");
    if (out->detail.len > MAX_DETAIL_BYTES)
        out->detail.len = MAX_DETAIL_BYTES;
    out->status = (int)status;
    out->kind = VALIDATION_REJECT;
}

static void read_verdict(lua_State *L, struct validate_call *call, int index, int source)
{
    switch (verdict_tag_of(L, index)) {
    case VERDICT_ACCEPT:
        read_accept(L, call, index, source);
        return;
    case VERDICT_REJECT:
        read_reject(L, call, index);
        return;
    case VERDICT_NONE:
    case VERDICT_OUTCOME:
    case VERDICT_RETRY:
        break;
    }
    call_refuse_answer(L, "validate.lua returned a %s; it must return accept{…} or reject{…}", luaL_typename(L, index));
}

static int call_body(lua_State *L)
{
    struct validate_call *call = lua_touserdata(L, 1);
    struct policy *policy = call->policy;
    lua_rawgeti(L, LUA_REGISTRYINDEX, policy->sources_ref);
    push_slice(L, call->request->source);
    lua_rawget(L, 2); /* 3: the source, or nil */
    lua_rawgeti(L, LUA_REGISTRYINDEX, policy->script_refs[SCRIPT_VALIDATE]);
    object_push(L, REQUEST_TYPE);
    lua_pushvalue(L, 3);
    sandbox_call_script(L, 2);
    read_verdict(L, call, 4, 3);
    return 0;
}

static void set_fault(struct validate_call *call, enum fault_kind kind)
{
    *call->out = (struct validation){.kind = VALIDATION_FAULT, .detail = call_error(call->policy, call->arena)};
    call_report_fault(call->policy, SCRIPT_VALIDATE, kind, call->out->detail);
}

void policy_validate(struct policy *policy, const struct policy_request *request, struct arena *arena,
                     struct validation *out)
{
    struct validate_call call = {.policy = policy, .request = request, .arena = arena, .out = out};
    *out = (struct validation){.kind = VALIDATION_FAULT};
    if (!call_prepare(policy)) {
        set_fault(&call, FAULT_ERROR);
        return;
    }
    enum run_result result = sandbox_run(policy, call_body, &call, policy->options.time_ms);
    if (result != RUN_OK)
        set_fault(&call, call_fault_of(policy, result));
}
