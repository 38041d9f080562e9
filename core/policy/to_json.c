/* A Lua value as strict JSON. The text is the same for equal values (keys in byte order), integers stay integers and
 * floats stay floats, and whatever JSON cannot say is an error that names the place. Tables are read raw, so no script
 * code runs in here.
 *
 * In an update document, names that begin with '$' mean something to MongoDB. They are let through as operators (first
 * level), as modifiers of $push and the like (third level), and inside typed values made by the mongo library; in any
 * other place they are refused, so that data copied from a stranger's event cannot become operators or types. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"
#include "policy/state.h"

#define MAX_DEPTH 64

struct encoder {
    lua_State *L;
    struct buf *out;
    enum to_json_mode mode;
    int depth;                    /* of tables around the value */
    bool modifiers;               /* inside an operator that takes modifiers */
    bool typed;                   /* inside a typed value */
    struct slice path[MAX_DEPTH]; /* names and, as empty slices, array places on the way to the value */
};

static const char array_key, typed_key; /* addresses: fields of the metatables that mark tables */

static void encode_value(struct encoder *e, int index);

static void mark(lua_State *L, const char *key)
{
    if (lua_getmetatable(L, -1))
        luaL_error(L, "the table has a metatable already");
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 2);
        lua_pushboolean(L, 1);
        lua_rawsetp(L, -2, key);
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, key);
    }
    lua_setmetatable(L, -2);
}

void to_json_mark_array(lua_State *L)
{
    mark(L, &array_key);
}

void to_json_mark_typed(lua_State *L)
{
    mark(L, &typed_key);
}

static bool is_marked(lua_State *L, int index, const char *key)
{
    if (!lua_getmetatable(L, index))
        return false;
    bool marked = lua_rawgetp(L, -1, key) != LUA_TNIL;
    lua_pop(L, 2);
    return marked;
}

_Noreturn static void refuse(struct encoder *e, const char *what)
{
    buf_clear(e->out); /* it serves for the place now */
    for (int i = 0; i < e->depth && i < MAX_DEPTH; i++) {
        if (i > 0)
            buf_add_char(e->out, '.');
        if (e->path[i].base == NULL)
            buf_printf(e->out, "[%zu]", e->path[i].len);
        else
            buf_add_slice(e->out, e->path[i]);
        if (e->out->len > 200)
            break;
    }
    if (e->out->len == 0)
        luaL_error(e->L, "cannot encode as JSON: %s", what);
    luaL_error(e->L, "cannot encode as JSON: %s (at %s)", what, e->out->data);
    abort(); /* luaL_error does not return */
}

static void check_size(struct encoder *e)
{
    if (e->out->len > TO_JSON_MAX_BYTES)
        refuse(e, "larger than 4 MiB");
}

static void encode_float(struct encoder *e, double value)
{
    if (!isfinite(value))
        refuse(e, "a number that is not finite");
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_add_text(e->out, text);
    if (strpbrk(text, ".e") == NULL)
        buf_add_text(e->out, ".0");
}

static void encode_string(struct encoder *e, struct slice text)
{
    if (text.len > TO_JSON_MAX_BYTES)
        refuse(e, "larger than 4 MiB");
    if (!utf8_check(text))
        refuse(e, "a string that is not UTF-8");
    json_add_string(e->out, text);
    check_size(e);
}

static void encode_array(struct encoder *e, int index, lua_Unsigned n)
{
    buf_add_char(e->out, '[');
    for (lua_Unsigned i = 1; i <= n; i++) {
        if (i > 1)
            buf_add_char(e->out, ',');
        e->path[e->depth - 1] = (struct slice){NULL, (size_t)i};
        lua_rawgeti(e->L, index, (lua_Integer)i);
        encode_value(e, lua_gettop(e->L));
        lua_pop(e->L, 1);
    }
    buf_add_char(e->out, ']');
}

static bool is_one_of(struct slice name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (slice_is(name, *names))
            return true;
    }
    return false;
}

static void check_operator(struct encoder *e, struct slice name)
{
    static const char *const operators[] = {"$set",    "$unset", "$inc",         "$mul",      "$min",  "$max",
                                            "$rename", "$push",  "$setOnInsert", "$addToSet", "$pull", "$pullAll",
                                            "$pop",    "$bit",   "$currentDate", NULL};
    static const char *const with_modifiers[] = {"$push", "$addToSet", "$pull", "$currentDate", NULL};
    if (!is_one_of(name, operators))
        refuse(e, "not an update operator");
    e->modifiers = is_one_of(name, with_modifiers);
}

/* The identity and the guard that makes a write happen once are the store's. */
static void check_path(struct encoder *e, struct slice path)
{
    static const char *const reserved[] = {"_id", "applied", NULL};
    const char *dot = memchr(path.base, '.', path.len);
    struct slice first = {path.base, dot == NULL ? path.len : (size_t)(dot - path.base)};
    if (first.len == 0 || first.base[0] == '$')
        refuse(e, "not a field name");
    if (is_one_of(first, reserved))
        refuse(e, "a field that Waybill keeps itself");
}

static void check_name(struct encoder *e, struct slice name)
{
    if (e->mode == TO_JSON_PLAIN || e->typed)
        return;
    if (e->depth == 1)
        check_operator(e, name);
    else if (e->depth == 2)
        check_path(e, name);
    else if (name.len > 0 && name.base[0] == '$' && !(e->depth == 3 && e->modifiers))
        refuse(e, "a name that begins with '$'; use the mongo library for types");
}

static int by_bytes(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int order = memcmp(x->base, y->base, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* Pushes an array of the table's names, sorted; it lives on the Lua stack, so an error leaks nothing. */
static struct slice *push_sorted_names(struct encoder *e, int index, size_t *n)
{
    lua_State *L = e->L;
    *n = 0;
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1))
        (*n)++;
    struct slice *names = lua_newuserdatauv(L, *n * sizeof *names, 0);
    size_t i = 0;
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1), i++) {
        if (lua_type(L, -2) != LUA_TSTRING)
            refuse(e, "a table that is neither a list from 1 to n nor has only strings as keys");
        names[i].base = lua_tolstring(L, -2, &names[i].len);
    }
    qsort(names, *n, sizeof *names, by_bytes);
    return names;
}

static void encode_object(struct encoder *e, int index)
{
    lua_State *L = e->L;
    size_t n;
    const struct slice *names = push_sorted_names(e, index, &n);
    buf_add_char(e->out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_add_char(e->out, ',');
        e->path[e->depth - 1] = names[i];
        check_name(e, names[i]);
        encode_string(e, names[i]);
        buf_add_char(e->out, ':');
        lua_pushlstring(L, names[i].base, names[i].len);
        lua_rawget(L, index);
        encode_value(e, lua_gettop(L));
        lua_pop(L, 1);
    }
    buf_add_char(e->out, '}');
    lua_pop(L, 1);
}

/* A list has the keys 1 to n and no other. An empty table is an object unless it is marked. */
static bool is_list(struct encoder *e, int index, lua_Unsigned *n)
{
    lua_State *L = e->L;
    *n = lua_rawlen(L, index);
    bool marked = is_marked(L, index, &array_key);
    if (*n == 0 && !marked)
        return false;
    lua_Unsigned found = 0;
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (key < 1 || (lua_Unsigned)key > *n) {
            lua_pop(L, 2);
            if (marked)
                refuse(e, "an array with other keys than 1 to n");
            return false;
        }
        found++;
    }
    if (found != *n)
        refuse(e, "a list with holes");
    return true;
}

static void encode_table(struct encoder *e, int index)
{
    if (e->depth == MAX_DEPTH)
        refuse(e, "nested deeper than 64 levels, or a cycle");
    luaL_checkstack(e->L, 10, "value too deep");
    bool outer_typed = e->typed;
    e->typed = e->typed || is_marked(e->L, index, &typed_key);
    e->depth++;
    e->path[e->depth - 1] = (struct slice){"?", 1};
    lua_Unsigned n;
    if (is_list(e, index, &n))
        encode_array(e, index, n);
    else
        encode_object(e, index);
    e->depth--;
    e->typed = outer_typed;
    check_size(e);
}

static void encode_value(struct encoder *e, int index)
{
    lua_State *L = e->L;
    struct slice text;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        buf_add_text(e->out, lua_toboolean(L, index) ? "true" : "false");
        return;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            buf_printf(e->out, "%lld", (long long)lua_tointeger(L, index));
        else
            encode_float(e, lua_tonumber(L, index));
        return;
    case LUA_TSTRING:
        text.base = lua_tolstring(L, index, &text.len);
        encode_string(e, text);
        return;
    case LUA_TTABLE:
        encode_table(e, index);
        return;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL) {
            buf_add_text(e->out, "null");
            return;
        }
        break;
    default:
        break;
    }
    refuse(e, lua_pushfstring(L, "a value of type %s", luaL_typename(L, index)));
}

void to_json(lua_State *L, int index, enum to_json_mode mode, struct buf *out)
{
    struct encoder e = {.L = L, .out = out, .mode = mode};
    index = lua_absindex(L, index);
    if (mode == TO_JSON_UPDATE && lua_rawlen(L, index) > 0)
        refuse(&e, "an update is a table of update operators");
    encode_value(&e, index);
}
