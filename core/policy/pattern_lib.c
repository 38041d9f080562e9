/* string.find, match, gmatch and gsub over our matcher. */
#include "policy/pattern.h"

static struct slice check_text(lua_State *L, int index)
{
    struct slice text;
    text.base = luaL_checklstring(L, index, &text.len);
    return text;
}

/* The optional start at index as an offset; len + 1 when it is beyond the end. */
static size_t check_start(lua_State *L, int index, size_t len)
{
    lua_Integer start = luaL_optinteger(L, index, 1);
    if (start > 0)
        return (lua_Unsigned)start - 1 > len ? len + 1 : (size_t)start - 1;
    if (start == 0 || (lua_Unsigned)-start > len)
        return 0;
    return len - (size_t)-start;
}

static bool take_anchor(struct slice *text)
{
    bool anchored = text->len > 0 && text->base[0] == '^';
    if (anchored)
        *text = (struct slice){text->base + 1, text->len - 1};
    return anchored;
}

static bool has_specials(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] != '\0' && strchr("^$*+?.([%-", text.base[i]) != NULL)
            return true;
    }
    return false;
}

static int push_positions(lua_State *L, const char *base, const char *from, const char *to)
{
    lua_pushinteger(L, from - base + 1);
    lua_pushinteger(L, to - base);
    return 2;
}

static int find_plain(lua_State *L, struct slice subject, size_t start, struct slice text)
{
    const char *from = subject.base + start;
    const char *found = text.len == 0 ? from : memmem(from, subject.len - start, text.base, text.len);
    if (found != NULL)
        return push_positions(L, subject.base, found, found + text.len);
    luaL_pushfail(L);
    return 1;
}

static int find_or_match(lua_State *L, bool find)
{
    struct slice subject = check_text(L, 1), text = check_text(L, 2);
    size_t start = check_start(L, 3, subject.len);
    if (start > subject.len) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || !has_specials(text)))
        return find_plain(L, subject, start, text);
    bool anchored = take_anchor(&text);
    struct pattern pattern = {.L = L, .subject = subject, .text = text};
    const char *from = subject.base + start;
    do {
        const char *to = pattern_match(&pattern, from);
        if (to != NULL && find)
            return push_positions(L, subject.base, from, to) + pattern_push_captures(&pattern, false, from, to);
        if (to != NULL)
            return pattern_push_captures(&pattern, true, from, to);
    } while (!anchored && from++ < subject.base + subject.len);
    luaL_pushfail(L);
    return 1;
}

static int script_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int script_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* Upvalues: subject, pattern, offset to go on from, offset of the end of the last match (-1: none). */
static int gmatch_next(lua_State *L)
{
    struct slice subject = check_text(L, lua_upvalueindex(1)), text = check_text(L, lua_upvalueindex(2));
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(3)), last = lua_tointeger(L, lua_upvalueindex(4));
    struct pattern pattern = {.L = L, .subject = subject, .text = text};
    for (; at <= (lua_Integer)subject.len; at++) {
        const char *from = subject.base + at, *to = pattern_match(&pattern, from);
        if (to == NULL || to - subject.base == last) /* an empty match right behind a match is none */
            continue;
        lua_pushinteger(L, to - subject.base);
        lua_copy(L, -1, lua_upvalueindex(3));
        lua_copy(L, -1, lua_upvalueindex(4));
        lua_pop(L, 1);
        return pattern_push_captures(&pattern, true, from, to);
    }
    return 0;
}

static int script_gmatch(lua_State *L)
{
    struct slice subject = check_text(L, 1);
    check_text(L, 2);
    size_t start = check_start(L, 3, subject.len);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)start);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* Adds the replacement text at index 3, with %0 to %9 filled in. */
static void add_text(struct pattern *pattern, luaL_Buffer *out, const char *from, const char *to)
{
    lua_State *L = pattern->L;
    size_t len;
    const char *text = lua_tolstring(L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            luaL_addchar(out, text[i]);
            continue;
        }
        i++;
        char c = i < len ? text[i] : '\0';
        if (c == '%') {
            luaL_addchar(out, '%');
        } else if (c == '0') {
            luaL_addlstring(out, from, (size_t)(to - from));
        } else if (c >= '1' && c <= '9') {
            pattern_push_capture(pattern, c - '1', from, to);
            luaL_tolstring(L, -1, NULL); /* a position is a number */
            lua_remove(L, -2);
            luaL_addvalue(out);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
}

/* Adds what the replacement makes of the match [from, to). */
static void add_replacement(struct pattern *pattern, luaL_Buffer *out, const char *from, const char *to)
{
    lua_State *L = pattern->L;
    if (lua_type(L, 3) == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        int n = pattern_push_captures(pattern, true, from, to);
        lua_call(L, n, 1);
    } else if (lua_type(L, 3) == LUA_TTABLE) {
        pattern_push_capture(pattern, 0, from, to);
        lua_gettable(L, 3);
    } else {
        add_text(pattern, out, from, to);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, from, (size_t)(to - from)); /* nil or false keeps the text */
    } else if (lua_isstring(L, -1)) {
        luaL_addvalue(out);
    } else {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
}

static void check_replacement(lua_State *L)
{
    int type = lua_type(L, 3);
    luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
                     "string/function/table");
}

static int script_gsub(lua_State *L)
{
    struct slice subject = check_text(L, 1), text = check_text(L, 2);
    check_replacement(L);
    lua_Integer max = luaL_optinteger(L, 4, LUA_MAXINTEGER), n = 0;
    bool anchored = take_anchor(&text);
    struct pattern pattern = {.L = L, .subject = subject, .text = text};
    const char *at = subject.base, *end = subject.base + subject.len, *last = NULL;
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    while (n < max) {
        const char *to = pattern_match(&pattern, at);
        if (to != NULL && to != last) {
            n++;
            add_replacement(&pattern, &out, at, to);
            at = last = to;
        } else if (at < end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchored)
            break;
    }
    luaL_addlstring(&out, at, (size_t)(end - at));
    luaL_pushresult(&out);
    lua_pushinteger(L, n);
    return 2;
}

void pattern_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"find", script_find}, {"match", script_match}, {"gmatch", script_gmatch}, {"gsub", script_gsub}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
