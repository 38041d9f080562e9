/* Userdata for scripts: fields and methods over a C record that lives for one call only. One userdata a type and state
 * is made at load and used again for each call; two user values cache what is costly to make. */
#include "policy/state.h"

#define BODY_SLOT 1
#define JSON_SLOT 2

/* Upvalue 1: name -> method, or light userdata of the struct object_field. */
static int on_index(lua_State *L)
{
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    int type = lua_rawget(L, lua_upvalueindex(1));
    if (type != LUA_TLIGHTUSERDATA)
        return 1;
    const struct object_field *field = lua_touserdata(L, 3);
    const struct object *object = lua_touserdata(L, 1); /* only our objects have this metamethod, and it is hidden */
    if (object->target == NULL)
        return luaL_error(L, "%s used after the call", lua_tostring(L, lua_upvalueindex(2)));
    field->push(L, object->target);
    return 1;
}

static int on_new_index(lua_State *L)
{
    return luaL_error(L, "%s is read-only", lua_tostring(L, lua_upvalueindex(1)));
}

struct object *object_new(lua_State *L, const char *type, const luaL_Reg *methods, const struct object_field *fields)
{
    struct object *object = lua_newuserdatauv(L, sizeof *object, 2);
    object->target = NULL;
    luaL_newmetatable(L, type);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    for (const struct object_field *field = fields; field->name != NULL; field++) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)field);
        lua_setfield(L, -2, field->name);
    }
    lua_pushstring(L, type);
    lua_pushcclosure(L, on_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, type);
    lua_pushcclosure(L, on_new_index, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    return object;
}

void *object_target(lua_State *L, const char *type)
{
    struct object *object = luaL_checkudata(L, 1, type);
    if (object->target == NULL)
        luaL_error(L, "%s used after the call", type);
    return object->target;
}

void object_push_body(lua_State *L, struct slice body)
{
    if (lua_getiuservalue(L, 1, BODY_SLOT) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_pushlstring(L, body.base, body.len);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, BODY_SLOT);
}

bool object_push_json(lua_State *L, struct slice body, struct error *err)
{
    if (lua_getiuservalue(L, 1, JSON_SLOT) != LUA_TNIL)
        return true;
    lua_pop(L, 1);
    object_push_body(L, body);
    if (!json_decode(L, err)) {
        lua_pop(L, 1);
        return false;
    }
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, JSON_SLOT);
    return true;
}

void object_clear(lua_State *L, struct object *object, int ref)
{
    object->target = NULL;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    for (int slot = BODY_SLOT; slot <= JSON_SLOT; slot++) {
        lua_pushnil(L);
        lua_setiuservalue(L, -2, slot);
    }
    lua_pop(L, 1);
}
