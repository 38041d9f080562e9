/* json: strict decoding (checked first, because lua-cjson alone takes more than JSON) and exact encoding. */
#include <math.h>

#include "base/json.h"
#include "policy/state.h"

int luaopen_cjson(lua_State *L); /* lua-cjson's header is not there for 5.4 */

static const char decode_key; /* address: cjson's decode in the registry */

/* More than decoding can use for each byte of text: the worst is a list of empty tables. */
#define DECODED_BYTES_PER_BYTE 64

#define MAX_DECODE_BYTES (4 * 1024 * 1024)  /* of text that a script made; bodies have a limit of their own */
#define MAX_EXACT        9007199254740991.0 /* above it neighbouring whole numbers are the same float */

/* cjson holds a buffer of its own while it decodes, and would leak it on a memory error. So the limit is stretched
 * while it runs, by what the text can need at most; if the value is too large, the next allocation is refused. */
static int call_cjson(lua_State *L, size_t len)
{
    struct sandbox *sandbox = &policy_of(L)->sandbox;
    size_t limit = sandbox->limit_bytes;
    sandbox->limit_bytes = limit + len * DECODED_BYTES_PER_BYTE + 65536;
    int status = lua_pcall(L, 1, 1, 0);
    sandbox->limit_bytes = limit;
    return status;
}

/* cjson makes every number a float, so that 12 would print as "12.0" and be stored as a double. Whole numbers become
 * integers again in the table at the top, as far as a float holds them exactly (2^53). */
static void restore_integers(lua_State *L)
{
    int table = lua_gettop(L);
    luaL_checkstack(L, 4, "JSON too deep");
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        int type = lua_type(L, -1);
        if (type == LUA_TTABLE) {
            restore_integers(L);
        } else if (type == LUA_TNUMBER) {
            lua_Number value = lua_tonumber(L, -1);
            if (fabs(value) > MAX_EXACT || value != floor(value))
                continue;
            lua_pushvalue(L, -2);
            lua_pushinteger(L, (lua_Integer)value);
            lua_rawset(L, table); /* an existing key: the walk goes on undisturbed */
        }
    }
}

bool json_decode(lua_State *L, struct error *err)
{
    struct slice text;
    text.base = lua_tolstring(L, -1, &text.len);
    if (!json_check(text, err))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &decode_key);
    lua_pushvalue(L, -2);
    if (call_cjson(L, text.len) != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
    if (lua_istable(L, -1))
        restore_integers(L);
    return true;
}

/* json.decode(text) -> value, or nil and the reason */
static int script_decode(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    luaL_argcheck(L, lua_rawlen(L, 1) <= MAX_DECODE_BYTES, 1, "larger than 4 MiB");
    lua_settop(L, 1);
    struct error err;
    if (json_decode(L, &err))
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, err.text);
    return 2;
}

static int script_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    struct buf *scratch = &policy_of(L)->scratch;
    buf_clear(scratch);
    to_json(L, 1, TO_JSON_PLAIN, scratch);
    lua_pushlstring(L, scratch->data, scratch->len);
    return 1;
}

static int script_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    to_json_mark_array(L);
    return 1;
}

void bind_json(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"decode", script_decode}, {"encode", script_encode}, {"array", script_array}, {NULL, NULL}};
    lua_pushcfunction(L, luaopen_cjson);
    lua_call(L, 0, 1);
    lua_getfield(L, -1, "decode");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &decode_key);
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    globals_add_library(L, "json");
}
