/* What the three calls into scripts share. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "policy/state.h"

#define FAULT_LOG_EVERY_MS 1000
#define MAX_MESSAGE_BYTES  2000

static const char *const script_names[SCRIPT_ROLES] = {
    [SCRIPT_VALIDATE] = "validate.lua", [SCRIPT_PROCESS] = "process.lua", [SCRIPT_RETRY] = "retry_policy.lua"};

void call_report_fault(struct policy *policy, enum script_role role, enum fault_kind kind, struct slice message)
{
    if (policy->faults[role][kind] != NULL)
        metric_add(policy->faults[role][kind], 1);
    uint64_t skipped;
    if (!log_gate_open(&policy->fault_gate, FAULT_LOG_EVERY_MS, &skipped))
        return;
    struct slice trace = kind == FAULT_ERROR ? buf_slice(&policy->traceback) : (struct slice){"", 0};
    log_error("script failed", LOG_S("script", script_names[role]), LOG_SLICE("error", message),
              LOG_SLICE("traceback", trace), LOG_S("hash", script_set_hash(policy->set)), LOG_I("not_shown", skipped));
}

void call_refuse_answer(lua_State *L, const char *format, ...)
{
    policy_of(L)->bad_answer = true;
    va_list args;
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_error(L);
    abort(); /* not reached */
}

enum fault_kind call_fault_of(const struct policy *policy, enum run_result result)
{
    switch (result) {
    case RUN_TIME_LIMIT:
        return FAULT_TIME_LIMIT;
    case RUN_MEMORY_LIMIT:
        return FAULT_MEMORY_LIMIT;
    case RUN_OK:
    case RUN_ERROR:
        break;
    }
    return policy->bad_answer ? FAULT_BAD_RETURN : FAULT_ERROR;
}

/* A script that keeps more and more in its variables would fail every later call. When what it had after loading has
 * grown by more than half of the room that was left, and a collection does not help, the state is built again. */
bool call_prepare(struct policy *policy)
{
    size_t most = policy->built_bytes + ((size_t)policy->options.memory_bytes - policy->built_bytes) / 2;
    if (policy->L != NULL && policy->sandbox.used_bytes > most) {
        lua_gc(policy->L, LUA_GCCOLLECT);
        if (policy->sandbox.used_bytes > most) {
            log_warn("scripts keep too much in their variables: their state is built again",
                     LOG_I("used_bytes", policy->sandbox.used_bytes),
                     LOG_I("limit_bytes", policy->options.memory_bytes));
            sandbox_close(policy);
        }
    }
    struct error err;
    if (policy->L == NULL && !policy_build(policy, &err)) {
        buf_clear(&policy->error_text);
        buf_add_text(&policy->error_text, err.text);
        return false;
    }
    return true;
}

bool call_get_string(lua_State *L, int index, const char *name, struct arena *arena, struct slice *out)
{
    *out = (struct slice){"", 0};
    lua_pushstring(L, name);
    int type = lua_rawget(L, index);
    size_t len;
    if (type == LUA_TSTRING) {
        const char *text = lua_tolstring(L, -1, &len);
        *out = arena_copy(arena, text, len);
    }
    lua_pop(L, 1);
    return type == LUA_TSTRING || type == LUA_TNIL;
}

struct slice call_error(const struct policy *policy, struct arena *arena)
{
    struct slice text = buf_slice(&policy->error_text);
    return arena_copy(arena, text.base, text.len < MAX_MESSAGE_BYTES ? text.len : MAX_MESSAGE_BYTES);
}
