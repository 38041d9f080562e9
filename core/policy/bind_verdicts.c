/* The words that scripts answer with. Each makes a table with a tag that scripts cannot forge; reading them is the
 * calls' part. A verdict may be returned or raised with error(). */
#include <math.h>

#include "base/id.h"
#include "policy/state.h"

static const char tag_key;                 /* in a tag's metatable: which tag it is */
static const char tags[VERDICT_RETRY + 1]; /* addresses: metatables in the registry */

enum verdict_tag verdict_tag_of(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return VERDICT_NONE;
    lua_rawgetp(L, -1, &tag_key);
    enum verdict_tag tag = (enum verdict_tag)lua_tointeger(L, -1); /* 0 when it is no number */
    lua_pop(L, 2);
    return tag;
}

static void make_tag(lua_State *L, enum verdict_tag tag)
{
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, tag);
    lua_rawsetp(L, -2, &tag_key);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &tags[tag]);
}

/* Tags the table on top. */
static void set_tag(lua_State *L, enum verdict_tag tag)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &tags[tag]);
    lua_setmetatable(L, -2);
}

static int tag_argument(lua_State *L, enum verdict_tag tag, const char *name)
{
    if (!lua_istable(L, 1))
        return luaL_error(L, "%s wants a table, as %s{…}", name, name);
    if (lua_getmetatable(L, 1))
        return luaL_error(L, "%s: the table has a metatable already", name);
    lua_settop(L, 1);
    set_tag(L, tag);
    return 1;
}

static int script_accept(lua_State *L)
{
    return tag_argument(L, VERDICT_ACCEPT, "accept");
}

static int script_reject(lua_State *L)
{
    return tag_argument(L, VERDICT_REJECT, "reject");
}

static void set_string(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

void verdict_raise_reject(lua_State *L, const char *code, const char *field, const char *detail)
{
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, 400);
    lua_setfield(L, -2, "status");
    set_string(L, "code", code);
    if (field != NULL)
        set_string(L, "field", field);
    set_string(L, "detail", detail);
    set_tag(L, VERDICT_REJECT);
    lua_error(L);
    __builtin_unreachable();
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

void verdict_raise_outcome(lua_State *L, enum outcome_kind kind, const char *error_kind, const char *message,
                           int64_t retry_after_ms)
{
    lua_createtable(L, 0, 4);
    set_string(L, "outcome", outcome_name(kind));
    set_string(L, "kind", error_kind);
    set_string(L, "message", message);
    set_integer(L, "retry_after_ms", retry_after_ms);
    set_tag(L, VERDICT_OUTCOME);
    lua_error(L);
    __builtin_unreachable();
}

/* A delay in ms: not negative, cut to the longest that there is. */
static int64_t check_delay(lua_State *L, int index)
{
    lua_Number ms = luaL_checknumber(L, index);
    luaL_argcheck(L, ms >= 0, index, "a delay in milliseconds is 0 or more");
    return ms >= (lua_Number)DELAY_MAX_MS ? DELAY_MAX_MS : (int64_t)ceil(ms);
}

static bool is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return len > 0 && len <= 64;
}

static const char *check_word(lua_State *L, int index, const char *what)
{
    size_t len;
    const char *word = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;
    if (word == NULL || !is_word(word, len))
        luaL_error(L, "%s is a word of [a-z0-9_], at most 64 of them", what);
    return word;
}

/* fail.transient(message[, {kind=, retry_after_ms=}]), fail.permanent(message[, {kind=}]) */
static int push_failure(lua_State *L, enum outcome_kind kind)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    bool has_options = !lua_isnoneornil(L, 2);
    if (has_options)
        luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_createtable(L, 0, 4);
    set_string(L, "outcome", outcome_name(kind));
    lua_pushvalue(L, 1);
    lua_setfield(L, 3, "message");
    if (has_options && lua_getfield(L, 2, "kind") != LUA_TNIL) {
        check_word(L, -1, "kind");
        lua_setfield(L, 3, "kind");
    }
    lua_settop(L, 3);
    if (has_options && lua_getfield(L, 2, "retry_after_ms") != LUA_TNIL) {
        int64_t ms = check_delay(L, -1);
        lua_settop(L, 3);
        set_integer(L, "retry_after_ms", ms);
    }
    lua_settop(L, 3);
    set_tag(L, VERDICT_OUTCOME);
    return 1;
}

static int script_transient(lua_State *L)
{
    return push_failure(L, OUTCOME_TRANSIENT);
}

static int script_permanent(lua_State *L)
{
    return push_failure(L, OUTCOME_PERMANENT);
}

static int script_snooze(lua_State *L)
{
    int64_t ms = check_delay(L, 1);
    lua_createtable(L, 0, 2);
    set_string(L, "outcome", outcome_name(OUTCOME_SNOOZE));
    set_integer(L, "retry_after_ms", ms);
    set_tag(L, VERDICT_OUTCOME);
    return 1;
}

static int script_retry(lua_State *L)
{
    int64_t ms = check_delay(L, 1);
    lua_createtable(L, 0, 1);
    set_integer(L, "delay_ms", ms);
    set_tag(L, VERDICT_RETRY);
    return 1;
}

static int script_dead(lua_State *L)
{
    check_word(L, 1, "the reason");
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "reason");
    set_tag(L, VERDICT_RETRY);
    return 1;
}

static int script_default(lua_State *L)
{
    lua_createtable(L, 0, 0);
    set_tag(L, VERDICT_RETRY);
    return 1;
}

static int64_t get_schedule_number(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    lua_Number n = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(n >= 0 && n <= 1e15))
        luaL_error(L, "backoff: the schedule's %s is not a number of 0 or more", name);
    lua_pop(L, 1);
    return (int64_t)n;
}

/* backoff(schedule, failures[, retry_after_ms]): a random delay by full jitter. */
static int script_backoff(lua_State *L)
{
    luaL_checkany(L, 1);
    struct retry_schedule schedule = {.base_ms = get_schedule_number(L, "base_ms"),
                                      .factor = get_schedule_number(L, "factor"),
                                      .cap_ms = get_schedule_number(L, "cap_ms")};
    lua_Integer failures = luaL_checkinteger(L, 2);
    luaL_argcheck(L, failures >= 1 && failures <= UINT32_MAX, 2, "failures is 1 or more");
    int64_t retry_after_ms = lua_isnoneornil(L, 3) ? -1 : check_delay(L, 3);
    lua_pushinteger(L, retry_delay_ms(&schedule, (uint32_t)failures, retry_after_ms, id_random()));
    return 1;
}

void bind_verdicts(lua_State *L)
{
    static const luaL_Reg globals[] = {
        {"accept", script_accept}, {"reject", script_reject},   {"snooze", script_snooze},   {"retry", script_retry},
        {"dead", script_dead},     {"default", script_default}, {"backoff", script_backoff}, {NULL, NULL}};
    static const luaL_Reg failures[] = {{"transient", script_transient}, {"permanent", script_permanent}, {NULL, NULL}};
    for (enum verdict_tag tag = VERDICT_ACCEPT; tag <= VERDICT_RETRY; tag++)
        make_tag(L, tag);
    for (const luaL_Reg *global = globals; global->name != NULL; global++) {
        lua_pushcfunction(L, global->func);
        globals_add(L, global->name);
    }
    luaL_newlib(L, failures);
    globals_add_library(L, "fail");
}
