/* What scripts see: the parts of Lua's standard library that are safe, and our own.
 *
 * Left out: io, os, package, debug, coroutine (the hook's count starts again in each), collectgarbage, dofile,
 * loadfile, string.dump. Replaced: load (text only), require (the script set only), print (the log), setmetatable
 * (no __gc: finalizers run with hooks off), rawset (respects read-only tables), xpcall (its handler would run inside
 * the hook that stops a script, where nothing can stop the handler). Guarded: library functions whose C loops are as
 * long as an argument says.
 *
 * Globals and libraries are read-only: scripts see an empty table whose metatable leads to the real one. */
#include <lualib.h>
#include <stdio.h>

#include "base/log.h"
#include "policy/pattern.h"

#define MAX_LIST_ITEMS        INT64_C(10000000) /* more cannot be in memory; "#t" of a sparse table may say so */
#define MAX_SORT_ITEMS        100000
#define MAX_MODULE_NAME_BYTES 100

static const char read_only_key, loaded_key, loading_mark; /* addresses: keys in the registry and metatables */

/* Read-only tables */

static int refuse_change(lua_State *L)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    const char *table = lua_tostring(L, lua_upvalueindex(1));
    if (strcmp(table, "_G") == 0)
        return luaL_error(L, "assignment to undeclared variable '%s': say local, or return it from the script", name);
    return luaL_error(L, "attempt to change '%s' of the read-only table '%s'", name, table);
}

static int refuse_undefined(lua_State *L)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    return luaL_error(L, "undefined variable '%s'", name);
}

static int proxy_next(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_next(L, 1))
        return 2;
    lua_pushnil(L);
    return 1;
}

static int proxy_pairs(lua_State *L)
{
    lua_pushcfunction(L, proxy_next);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushnil(L);
    return 3;
}

/* Puts a read-only view in the place of the table on top. (pairs of the view would hand out the real table: it gets a
 * copy of it, made here.) */
void globals_push_view(lua_State *L, const char *name)
{
    int real = lua_gettop(L);
    lua_newtable(L);
    lua_createtable(L, 0, 5);
    lua_pushvalue(L, real);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_pushcclosure(L, refuse_change, 1);
    lua_setfield(L, -2, "__newindex");
    lua_newtable(L);
    for (lua_pushnil(L); lua_next(L, real) != 0;) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_settable(L, -4);
    }
    lua_pushcclosure(L, proxy_pairs, 1);
    lua_setfield(L, -2, "__pairs");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushboolean(L, 1);
    lua_rawsetp(L, -2, &read_only_key);
    lua_setmetatable(L, -2);
    lua_remove(L, real);
}

void globals_add(lua_State *L, const char *name)
{
    lua_setglobal(L, name);
}

void globals_add_library(lua_State *L, const char *name)
{
    globals_push_view(L, name);
    lua_setglobal(L, name);
}

static int script_rawset(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    if (lua_getmetatable(L, 1)) {
        if (lua_rawgetp(L, -1, &read_only_key) != LUA_TNIL)
            return luaL_error(L, "rawset: the table is read-only");
        lua_pop(L, 2);
    }
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

static int script_setmetatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "__gc is not allowed");
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/* xpcall(f, handler, …) whose handler runs after f has ended. */
static int script_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    int n = lua_gettop(L);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* f handler true f … */
    if (lua_pcall(L, n - 2, LUA_MULTRET, 0) == LUA_OK)
        return lua_gettop(L) - 2;
    lua_pushvalue(L, 2);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* Code */

static int script_load(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *name = luaL_optstring(L, 2, text);
    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (!lua_isnone(L, 4)) {
        lua_pushvalue(L, 4);
        if (lua_setupvalue(L, -2, 1) == NULL)
            lua_pop(L, 1);
    }
    return 1;
}

static bool is_module_name(const char *name)
{
    bool start = true; /* of a part between dots */
    for (const char *p = name; *p != '\0'; p++) {
        bool word =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_' || *p == '-';
        if (!word && (*p != '.' || start))
            return false;
        start = !word;
    }
    return !start && strlen(name) <= MAX_MODULE_NAME_BYTES;
}

static const struct script *find_module(lua_State *L, const char *name)
{
    if (!is_module_name(name))
        luaL_error(L, "require: '%s' is not a module name (as 'lib.signature')", name);
    char path[MAX_MODULE_NAME_BYTES + 5];
    snprintf(path, sizeof path, "%s", name);
    for (char *dot = path; (dot = strchr(dot, '.')) != NULL;)
        *dot = '/';
    strcat(path, ".lua");
    const struct script *script = script_set_find(policy_of(L)->set, path);
    if (script == NULL)
        luaL_error(L, "%s is not in the scripts folder", path);
    return script;
}

/* Runs the script and leaves two values. */
static void run_script(lua_State *L, const struct script *script)
{
    const char *chunk = lua_pushfstring(L, "@%s", script->name);
    if (luaL_loadbufferx(L, script->text.base, script->text.len, chunk, "t") != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
    lua_call(L, 0, 2);
    if (lua_isnil(L, -2)) {
        lua_pushboolean(L, 1);
        lua_replace(L, -3);
    }
}

void globals_require(lua_State *L, const char *name, bool second_value)
{
    luaL_checkstack(L, 10, "require nested too deep");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    int loaded = lua_gettop(L);
    if (lua_getfield(L, loaded, name) != LUA_TNIL) {
        if (lua_touserdata(L, -1) == &loading_mark)
            luaL_error(L, "require: '%s' requires itself, directly or through others", name);
        lua_pushnil(L);
    } else {
        lua_pop(L, 1);
        const struct script *script = find_module(L, name);
        lua_pushlightuserdata(L, (void *)(uintptr_t)&loading_mark);
        lua_setfield(L, loaded, name);
        run_script(L, script);
        lua_pushvalue(L, -2);
        lua_setfield(L, loaded, name);
    }
    lua_remove(L, loaded);
    if (!second_value)
        lua_pop(L, 1);
}

static int script_require(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    if (!policy_of(L)->loading) { /* what is loaded already is found at any time */
        lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
        if (lua_getfield(L, -1, name) == LUA_TNIL)
            return luaL_error(L, "require: '%s' must be required while the scripts are loaded, not in a call", name);
        return 1;
    }
    globals_require(L, name, false);
    return 1;
}

/* Guards */

static lua_Integer check_list(lua_State *L, lua_Integer max)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = luaL_len(L, 1);
    if (n > max)
        luaL_error(L, "a list of more than %I items", (LUAI_UACINT)max);
    return n;
}

static int call_original(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L); /* in this frame, so that errors name the caller's line */
}

static int guarded_list(lua_State *L)
{
    check_list(L, MAX_LIST_ITEMS);
    return call_original(L);
}

static int guarded_sort(lua_State *L)
{
    check_list(L, MAX_SORT_ITEMS);
    return call_original(L);
}

static int guarded_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
    if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from >= (lua_Unsigned)MAX_LIST_ITEMS)
        return luaL_error(L, "table.move of more than %I items", (LUAI_UACINT)MAX_LIST_ITEMS);
    return call_original(L);
}

static int guarded_rep(lua_State *L)
{
    size_t len, separator_len;
    luaL_checklstring(L, 1, &len);
    luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &separator_len);
    if (len == 0 && separator_len == 0) { /* the original counts to n all the same */
        lua_pushliteral(L, "");
        return 1;
    }
    return call_original(L);
}

/* Wraps the functions of the table on top that the list names. */
static void guard(lua_State *L, const luaL_Reg *guards)
{
    for (; guards->name != NULL; guards++) {
        lua_getfield(L, -1, guards->name);
        lua_pushcclosure(L, guards->func, 1);
        lua_setfield(L, -2, guards->name);
    }
}

static void remove_names(lua_State *L, const char *const *names)
{
    for (; *names != NULL; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
}

/* The library under its name; leaves it on the stack. */
static void open_library(lua_State *L, const char *name, lua_CFunction open)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

static void open_base(lua_State *L)
{
    static const char *const removed[] = {"_G", "collectgarbage", "dofile", "loadfile", "warn", NULL};
    static const luaL_Reg replaced[] = {
        {"load", script_load},     {"require", script_require}, {"setmetatable", script_setmetatable},
        {"rawset", script_rawset}, {"xpcall", script_xpcall},   {NULL, NULL}};
    open_library(L, LUA_GNAME, luaopen_base);
    remove_names(L, removed);
    luaL_setfuncs(L, replaced, 0);
    lua_pop(L, 1);
}

static void open_string(lua_State *L)
{
    static const char *const removed[] = {"dump", NULL};
    static const luaL_Reg guards[] = {{"rep", guarded_rep}, {NULL, NULL}};
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    remove_names(L, removed);
    guard(L, guards);
    pattern_open(L);
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1); /* of all strings; its __index is the library */
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    globals_add_library(L, LUA_STRLIBNAME);
}

static void open_table(lua_State *L)
{
    static const luaL_Reg guards[] = {{"insert", guarded_list}, {"remove", guarded_list}, {"concat", guarded_list},
                                      {"sort", guarded_sort},   {"move", guarded_move},   {NULL, NULL}};
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    guard(L, guards);
    globals_add_library(L, LUA_TABLIBNAME);
}

/* waybill: what a script may know about where it runs. */
static void open_waybill(lua_State *L)
{
    const struct policy *policy = policy_of(L);
    lua_newtable(L);
    lua_pushliteral(L, WAYBILL_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, policy->options.role == POLICY_INGEST ? "ingest" : "worker");
    lua_setfield(L, -2, "role");
    lua_pushboolean(L, policy->options.simulate);
    lua_setfield(L, -2, "simulate");
    lua_pushinteger(L, script_set_generation(policy->set));
    lua_setfield(L, -2, "generation");
    lua_pushstring(L, script_set_hash(policy->set));
    lua_setfield(L, -2, "hash");
    globals_add_library(L, "waybill");
}

static void seal(lua_State *L)
{
    lua_pushglobaltable(L);
    int real = lua_gettop(L);
    lua_createtable(L, 0, 1); /* behind the globals: reading one that is not there */
    lua_pushcfunction(L, refuse_undefined);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, real);
    lua_pushvalue(L, real);
    globals_push_view(L, LUA_GNAME);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushliteral(L, LUA_GNAME);
    lua_insert(L, -2);
    lua_rawset(L, real); /* _G is the view, too */
    lua_pop(L, 1);
}

void globals_open(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
    open_base(L);
    open_string(L);
    open_table(L);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    globals_add_library(L, LUA_MATHLIBNAME);
    open_library(L, LUA_UTF8LIBNAME, luaopen_utf8);
    globals_add_library(L, LUA_UTF8LIBNAME);
    open_waybill(L);
    bind_crypto(L);
    bind_json(L);
    bind_log(L);
    bind_metrics(L);
    bind_mongo(L);
    bind_time(L);
    bind_verdicts(L);
    if (policy_of(L)->options.role == POLICY_WORKER)
        bind_http(L);
    sources_bind(L);
    seal(L);
}
