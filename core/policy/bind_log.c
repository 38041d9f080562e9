/* log: lines of scripts in the service's log, bounded in number and size. print is log.info. */
#include "base/log.h"
#include "policy/state.h"

#define MAX_LINES_PER_CALL 100
#define MAX_TEXT_BYTES     1000
#define MAX_FIELDS         16

static bool may_write(struct policy *policy)
{
    policy->log_lines++;
    if (policy->log_lines == MAX_LINES_PER_CALL)
        log_warn("a script logs too much: its further lines in this call are left out",
                 LOG_I("lines", MAX_LINES_PER_CALL));
    return policy->log_lines < MAX_LINES_PER_CALL;
}

static struct slice cut(const char *text, size_t len)
{
    return (struct slice){text, len < MAX_TEXT_BYTES ? len : MAX_TEXT_BYTES};
}

/* A string that stays on the stack. */
static struct slice to_text(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_tolstring(L, index, &len);
    return cut(text, len);
}

/* Adds the table's string keys as fields; their texts stay on the stack. */
static size_t collect_fields(lua_State *L, int table, struct log_field *fields, size_t n)
{
    luaL_checkstack(L, 4 * MAX_FIELDS, "log fields");
    lua_pushnil(L);
    while (n < MAX_FIELDS && lua_next(L, table) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            size_t len;
            const char *name = lua_tolstring(L, -2, &len);
            if (len > MAX_TEXT_BYTES) {
                name = lua_pushlstring(L, name, MAX_TEXT_BYTES);
                lua_insert(L, -3); /* name key value */
            }
            fields[n++] = LOG_SLICE(name, to_text(L, -1));
            lua_insert(L, -3); /* text key value */
        }
        lua_pop(L, 1);
    }
    return n;
}

static void write_line(lua_State *L, enum log_level level, struct slice message, int table)
{
    if (!log_enabled(level) || !may_write(policy_of(L)))
        return;
    struct log_field fields[MAX_FIELDS + 1] = {0};
    size_t n = 0;
    luaL_where(L, 1);
    size_t where_len;
    const char *where = lua_tolstring(L, -1, &where_len);
    fields[n++] = LOG_SLICE("text", message);
    if (where_len > 2) /* without the ": " behind it */
        fields[n++] = LOG_SLICE("script", cut(where, where_len - 2));
    if (lua_istable(L, table))
        n = collect_fields(L, table, fields, n);
    log_write(level, "script", fields);
}

static int log_at(lua_State *L, enum log_level level)
{
    struct slice message = to_text(L, 1);
    lua_insert(L, 1); /* the text is first now, the table third */
    write_line(L, level, message, 3);
    return 0;
}

static int script_debug(lua_State *L)
{
    return log_at(L, LOG_DEBUG);
}

static int script_info(lua_State *L)
{
    return log_at(L, LOG_INFO);
}

static int script_warn(lua_State *L)
{
    return log_at(L, LOG_WARN);
}

static int script_error(lua_State *L)
{
    return log_at(L, LOG_ERROR);
}

static int script_print(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer text;
    luaL_buffinit(L, &text);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addchar(&text, ' ');
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&text);
    }
    luaL_pushresult(&text);
    size_t len;
    const char *line = lua_tolstring(L, -1, &len);
    write_line(L, LOG_INFO, cut(line, len), n + 2);
    return 0;
}

void bind_log(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"debug", script_debug}, {"info", script_info}, {"warn", script_warn}, {"error", script_error}, {NULL, NULL}};
    luaL_newlib(L, functions);
    globals_add_library(L, "log");
    lua_pushcfunction(L, script_print);
    globals_add(L, "print");
}
