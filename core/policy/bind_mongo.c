/* mongo: values that JSON has no word for, and reading one document. */
#include <math.h>

#include "policy/state.h"

/* {name: {"$numberLong": "n"}} or {"$numberLong": "n"}, marked as typed. */
static void push_long(lua_State *L, int64_t n)
{
    lua_createtable(L, 0, 1);
    lua_pushfstring(L, "%I", (LUAI_UACINT)n);
    lua_setfield(L, -2, "$numberLong");
    to_json_mark_typed(L);
}

static int script_long(lua_State *L)
{
    push_long(L, luaL_checkinteger(L, 1));
    return 1;
}

static int script_date(lua_State *L)
{
    lua_Number ms = luaL_checknumber(L, 1);
    luaL_argcheck(L, fabs(ms) <= 9e15, 1, "not a time in milliseconds");
    lua_createtable(L, 0, 1);
    push_long(L, lua_isinteger(L, 1) ? lua_tointeger(L, 1) : (int64_t)floor(ms));
    lua_setfield(L, -2, "$date");
    to_json_mark_typed(L);
    return 1;
}

/* mongo.ms(value): the milliseconds of a date in a document that was read; nil when it is no date. */
static int script_ms(lua_State *L)
{
    wall_time time;
    struct slice text;
    if (lua_istable(L, 1) && lua_getfield(L, 1, "$date") != LUA_TNIL) {
        if (lua_istable(L, -1))
            lua_getfield(L, -1, "$numberLong");
        lua_Integer ms;
        int is_number;
        ms = lua_tointegerx(L, -1, &is_number);
        if (is_number) {
            lua_pushinteger(L, ms);
            return 1;
        }
        if (lua_type(L, -1) == LUA_TSTRING) {
            text.base = lua_tolstring(L, -1, &text.len);
            if (clock_parse(text, &time)) {
                lua_pushinteger(L, time.ms);
                return 1;
            }
        }
    }
    luaL_pushfail(L);
    return 1;
}

static int script_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    to_json_mark_array(L);
    return 1;
}

static int script_find(lua_State *L)
{
    struct slice collection, id;
    luaL_checktype(L, 1, LUA_TSTRING);
    luaL_checktype(L, 2, LUA_TSTRING);
    collection.base = lua_tolstring(L, 1, &collection.len);
    id.base = lua_tolstring(L, 2, &id.len);
    ctx_push_found(L, collection, id);
    return 1;
}

void bind_mongo(lua_State *L)
{
    static const luaL_Reg functions[] = {{"date", script_date},   {"long", script_long}, {"ms", script_ms},
                                         {"array", script_array}, {"find", script_find}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    globals_add_library(L, "mongo");
}
