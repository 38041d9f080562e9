/* Userdata for scripts: fields and methods over the record of one call. Each call makes its own objects, and they bear
 * its number: an object that a script has kept is refused later instead of reading what is gone. Two user values cache
 * what is costly to make. */
#include "policy/state.h"

#define BODY_SLOT 1
#define JSON_SLOT 2

struct object {
    uint64_t call; /* number of the call that it belongs to */
};

static void check_alive(lua_State *L, const struct object *object, const char *type)
{
    if (object->call != policy_of(L)->call)
        luaL_error(L, "%s used after the call", type);
}

/* Upvalue 1: name -> method, or light userdata of the struct object_field; upvalue 2: the type's name. */
static int on_index(lua_State *L)
{
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TLIGHTUSERDATA)
        return 1;
    const struct object_field *field = lua_touserdata(L, 3);
    check_alive(L, lua_touserdata(L, 1), lua_tostring(L, lua_upvalueindex(2))); /* only objects have this metamethod */
    field->push(L, policy_of(L)->record);
    return 1;
}

static int on_new_index(lua_State *L)
{
    return luaL_error(L, "%s is read-only", lua_tostring(L, lua_upvalueindex(1)));
}

void object_define(lua_State *L, const char *type, const luaL_Reg *methods, const struct object_field *fields)
{
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
    lua_pop(L, 1);
}

void object_push(lua_State *L, const char *type)
{
    struct object *object = lua_newuserdatauv(L, sizeof *object, 2);
    object->call = policy_of(L)->call;
    luaL_setmetatable(L, type);
}

void *object_target(lua_State *L, const char *type)
{
    check_alive(L, luaL_checkudata(L, 1, type), type);
    return policy_of(L)->record;
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
