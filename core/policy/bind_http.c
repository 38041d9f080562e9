/* http: calls to other services from process.lua. Bounded by what is left of the call's time. */
#include <ctype.h>

#include "base/memory.h"
#include "policy/state.h"

#define DEFAULT_TIMEOUT_MS 10000
#define MAX_HEADERS        50
#define MAX_HEADER_BYTES   8192
#define MAX_URL_BYTES      8192
#define MAX_BODY_BYTES     (4 * 1024 * 1024)

/* The string in field name of the request table (index 1), or fallback; stays alive in the table. */
static struct slice get_text(lua_State *L, const char *name, const char *fallback)
{
    struct slice text = slice_of(fallback);
    int type = lua_getfield(L, 1, name);
    if (type == LUA_TSTRING)
        text.base = lua_tolstring(L, -1, &text.len);
    else if (type != LUA_TNIL || fallback == NULL)
        luaL_error(L, "http.request wants a string as %s", name);
    lua_pop(L, 1);
    return text;
}

static bool is_plain(struct slice text, size_t max)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.base[i] < ' ' || text.base[i] == 0x7f)
            return false;
    }
    return text.len > 0 && text.len <= max;
}

static const char *get_url(lua_State *L)
{
    struct slice url = get_text(L, "url", NULL);
    bool http = url.len > 7 && memcmp(url.base, "http://", 7) == 0;
    bool https = url.len > 8 && memcmp(url.base, "https://", 8) == 0;
    if (!(http || https) || !is_plain(url, MAX_URL_BYTES) || memchr(url.base, ' ', url.len) != NULL)
        luaL_error(L, "http.request: url must begin with http:// or https:// and have no spaces in it");
    return url.base;
}

static const char *get_method(lua_State *L)
{
    struct slice method = get_text(L, "method", "GET");
    for (size_t i = 0; i < method.len; i++) {
        if (method.base[i] < 'A' || method.base[i] > 'Z' || i >= 16)
            luaL_error(L, "http.request: method must be a word in capitals");
    }
    return method.len > 0 ? method.base : "GET";
}

static int64_t get_timeout(lua_State *L)
{
    int64_t left = sandbox_remaining_ms(policy_of(L)), timeout = DEFAULT_TIMEOUT_MS;
    if (lua_getfield(L, 1, "timeout_ms") != LUA_TNIL) {
        lua_Number asked = luaL_checknumber(L, -1);
        if (!(asked >= 1))
            luaL_error(L, "http.request: timeout_ms must be 1 or more");
        timeout = asked < (lua_Number)left ? (int64_t)asked : left;
    }
    lua_pop(L, 1);
    timeout = timeout < left ? timeout : left;
    return timeout < 1 ? 1 : timeout; /* 0 would be no limit for libcurl */
}

static bool is_header_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (!isalnum((unsigned char)name.base[i]) && name.base[i] != '-' && name.base[i] != '_')
            return false;
    }
    return name.len > 0 && name.len <= 128;
}

/* "Name: value" for each entry of the table headers; texts in the call's arena. */
static size_t get_headers(lua_State *L, struct arena *arena, const char *headers[MAX_HEADERS])
{
    size_t n = 0;
    int type = lua_getfield(L, 1, "headers");
    if (type != LUA_TTABLE && type != LUA_TNIL)
        luaL_error(L, "http.request wants a table as headers");
    for (lua_pushnil(L); type == LUA_TTABLE && lua_next(L, -2) != 0; lua_pop(L, 1)) {
        struct slice name, value;
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING || n == MAX_HEADERS)
            luaL_error(L, "http.request: headers are strings by name, at most %d of them", MAX_HEADERS);
        name.base = lua_tolstring(L, -2, &name.len);
        value.base = lua_tolstring(L, -1, &value.len);
        if (!is_header_name(name) || !is_plain(value, MAX_HEADER_BYTES))
            luaL_error(L, "http.request: header '%s' is not one line of text", name.base);
        headers[n++] = arena_printf(arena, "%s: %s", name.base, value.base).base;
    }
    lua_settop(L, 1);
    return n;
}

/* Sets response.headers[lower-case name]; a repeated header's values are joined by ", ". */
static void add_header(lua_State *L, struct slice line)
{
    const char *colon = memchr(line.base, ':', line.len);
    if (colon == NULL)
        return;
    luaL_Buffer name;
    luaL_buffinit(L, &name);
    for (const char *p = line.base; p < colon; p++)
        luaL_addchar(&name, (char)tolower((unsigned char)*p));
    luaL_pushresult(&name);
    const char *from = colon + 1, *to = line.base + line.len;
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    lua_pushvalue(L, -1);
    bool repeated = lua_rawget(L, -3) == LUA_TSTRING;
    if (repeated) {
        lua_pushliteral(L, ", ");
        lua_pushlstring(L, from, (size_t)(to - from));
        lua_concat(L, 3);
    } else {
        lua_pop(L, 1);
        lua_pushlstring(L, from, (size_t)(to - from));
    }
    lua_rawset(L, -3);
}

static void push_response(lua_State *L, const struct policy_http_response *response)
{
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, response->status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, response->body.base, response->body.len);
    lua_setfield(L, -2, "body");
    lua_newtable(L);
    const char *p = response->headers.base, *end = p + response->headers.len;
    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p)), *to = newline == NULL ? end : newline;
        add_header(L, (struct slice){p, (size_t)(to - p)});
        p = to + 1;
    }
    lua_setfield(L, -2, "headers");
}

/* http.request{url=, method=, headers=, body=, timeout_ms=} -> {status=, headers=, body=}, or nil and why there is no
 * answer. */
static int script_request(lua_State *L)
{
    const struct policy *policy = policy_of(L);
    const struct policy_http *http = &policy->options.http;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (http->perform == NULL || policy->process == NULL)
        return luaL_error(L, "http.request is there in a call of process.lua only");
    struct arena *arena = policy->process->arena;
    const char *headers[MAX_HEADERS];
    sandbox_check_deadline(L);
    struct policy_http_request request = {.url = get_url(L), .method = get_method(L), .body = get_text(L, "body", "")};
    if (request.body.len > MAX_BODY_BYTES)
        return luaL_error(L, "http.request: the body is larger than %d bytes", MAX_BODY_BYTES);
    request.headers = headers;
    request.n_headers = get_headers(L, arena, headers);
    request.timeout_ms = get_timeout(L);
    struct policy_http_response response = {0};
    struct error err;
    bool answered = http->perform(http->arg, &request, arena, &response, &err);
    sandbox_check_deadline(L);
    if (answered) {
        push_response(L, &response);
        return 1;
    }
    luaL_pushfail(L);
    lua_pushstring(L, err.text);
    return 2;
}

void bind_http(lua_State *L)
{
    static const luaL_Reg functions[] = {{"request", script_request}, {NULL, NULL}};
    luaL_newlib(L, functions);
    globals_add_library(L, "http");
}
