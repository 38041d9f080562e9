/* metrics: counters of scripts. They are made while the scripts are loaded, so that their names and labels are a closed
 * set, never something out of an event. */
#include "base/utf8.h"
#include "policy/state.h"

#define COUNTER_TYPE     "counter"
#define MAX_NAME_BYTES   64
#define MAX_LABELS_BYTES 256

static bool is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (!(text[i] >= 'a' && text[i] <= 'z') && text[i] != '_' && !(digit && i > 0))
            return false;
    }
    return len > 0 && len <= MAX_NAME_BYTES;
}

static bool is_label_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\')
            return false;
    }
    return len <= MAX_NAME_BYTES;
}

/* Adds {name="value",…} as Prometheus writes it to scratch. */
static void add_labels(lua_State *L, int table, struct buf *out)
{
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        size_t name_len, value_len;
        luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING, table,
                      "labels are strings by name");
        const char *name = lua_tolstring(L, -2, &name_len), *value = lua_tolstring(L, -1, &value_len);
        luaL_argcheck(L, is_word(name, name_len), table, "a label name is [a-z_][a-z0-9_]*");
        luaL_argcheck(L, is_label_value(value, value_len), table, "a label value is short printable ASCII");
        buf_printf(out, "%s%s=\"%s\"", out->len > 0 ? "," : "", name, value);
        luaL_argcheck(L, out->len <= MAX_LABELS_BYTES, table, "too many labels");
    }
}

/* metrics.counter(name, help[, labels]) */
static int script_counter(lua_State *L)
{
    struct policy *policy = policy_of(L);
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len), *help = luaL_checkstring(L, 2);
    luaL_argcheck(L, is_word(name, len), 1, "a counter name is [a-z_][a-z0-9_]*");
    luaL_argcheck(L, utf8_check(slice_of(help)), 2, "the help text is not UTF-8");
    if (!policy->loading)
        return luaL_error(L, "metrics.counter: make counters while the scripts are loaded, not in a call");
    buf_clear(&policy->scratch);
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        lua_settop(L, 3);
        add_labels(L, 3, &policy->scratch);
    }
    struct metric **counter = lua_newuserdatauv(L, sizeof *counter, 0);
    *counter = NULL;
    luaL_setmetatable(L, COUNTER_TYPE);
    lua_pushfstring(L, "waybill_script_%s_total", name);
    if (policy->options.metrics != NULL)
        *counter = metrics_counter(policy->options.metrics, lua_tostring(L, -1),
                                   policy->scratch.len > 0 ? policy->scratch.data : NULL, help);
    lua_pop(L, 1);
    return 1;
}

/* counter:add([n]) */
static int script_add(lua_State *L)
{
    struct metric **counter = luaL_checkudata(L, 1, COUNTER_TYPE);
    lua_Integer n = luaL_optinteger(L, 2, 1);
    luaL_argcheck(L, n >= 0, 2, "a counter only grows");
    if (*counter != NULL)
        metric_add(*counter, n);
    return 0;
}

void bind_metrics(lua_State *L)
{
    static const luaL_Reg functions[] = {{"counter", script_counter}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"add", script_add}, {NULL, NULL}};
    luaL_newmetatable(L, COUNTER_TYPE);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    globals_add_library(L, "metrics");
}
