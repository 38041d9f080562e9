/* The scripts' own checks: a second value of a script, and the files tests/<role>_*.lua. They run at each load. */
#include <stdio.h>

#include "policy/state.h"

/* Runs the case at the top; pops it. */
static void run_case(lua_State *L, const char *script, lua_Integer number)
{
    int top = lua_gettop(L);
    if (!lua_istable(L, top))
        luaL_error(L, "%s: check %I is not a table {name=, run=}", script, (LUAI_UACINT)number);
    if (lua_getfield(L, top, "name") != LUA_TSTRING)
        luaL_error(L, "%s: check %I has no name", script, (LUAI_UACINT)number);
    const char *name = lua_tostring(L, -1);
    if (lua_getfield(L, top, "run") != LUA_TFUNCTION)
        luaL_error(L, "%s: check '%s' has no function run", script, name);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK)
        luaL_error(L, "%s (check '%s' of %s)", luaL_tolstring(L, -1, NULL), name, script); /* file:line first */
    lua_settop(L, top - 1);
}

void self_check_run(lua_State *L, const char *script)
{
    int cases = lua_gettop(L);
    if (!lua_isnil(L, cases)) {
        if (!lua_istable(L, cases))
            luaL_error(L, "%s: the checks are not a list", script);
        lua_Integer n = luaL_len(L, cases);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_geti(L, cases, i);
            run_case(L, script, i);
        }
    }
    lua_pop(L, 1);
}

/* "tests/validate_demo.lua" -> "tests.validate_demo" */
static const char *push_module_name(lua_State *L, const char *file)
{
    lua_pushlstring(L, file, strlen(file) - strlen(".lua"));
    luaL_gsub(L, lua_tostring(L, -1), "/", ".");
    lua_remove(L, -2);
    return lua_tostring(L, -1);
}

void self_check_run_tests(lua_State *L, const char *prefix)
{
    char start[64];
    int len = snprintf(start, sizeof start, "tests/%s_", prefix);
    size_t n;
    const struct script *scripts = script_set_scripts(policy_of(L)->set, &n);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(scripts[i].name, start, (size_t)len) != 0)
            continue;
        globals_require(L, push_module_name(L, scripts[i].name), false);
        if (!lua_istable(L, -1))
            luaL_error(L, "%s: it must return a list of checks", scripts[i].name);
        self_check_run(L, scripts[i].name);
        lua_pop(L, 1);
    }
}
