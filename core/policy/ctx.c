/* ctx: what process.lua may ask for beside its result. Effects are collected here and applied by the store and the
 * queue after the script has succeeded, once per event. */
#include "base/id.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "policy/state.h"

#define MAX_EFFECTS          100
#define MAX_ID_BYTES         1000
#define MAX_NAME_BYTES       64
#define STORE_AWAY_SNOOZE_MS 1000

static void push_attempt(lua_State *L, const void *call)
{
    lua_pushinteger(L, ((const struct process_call *)call)->attempt->attempt);
}

static void push_failures(lua_State *L, const void *call)
{
    lua_pushinteger(L, ((const struct process_call *)call)->attempt->failures);
}

static void push_key(lua_State *L, const void *call)
{
    struct slice key = ((const struct process_call *)call)->key;
    lua_pushlstring(L, key.base, key.len);
}

static void push_worker(lua_State *L, const void *call)
{
    lua_pushstring(L, ((const struct process_call *)call)->attempt->worker);
}

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '.' && c != '-')
            return false;
    }
    return name.len > 0 && name.len <= MAX_NAME_BYTES && name.base[0] != '.';
}

static void check_collection(lua_State *L, struct slice name, bool to_write)
{
    if (!is_name(name))
        luaL_error(L, "a collection name is made of [a-z0-9_.-], at most 64 of them");
    bool system = name.len >= 7 && memcmp(name.base, "system.", 7) == 0;
    if (system || (to_write && (slice_is(name, "events") || slice_is(name, "dead_letters"))))
        luaL_error(L, "the collection '%s' is not for scripts", name.base);
}

static void check_id(lua_State *L, struct slice id)
{
    if (id.len == 0 || id.len > MAX_ID_BYTES || !utf8_check(id))
        luaL_error(L, "an id is a string of 1 to %d bytes of UTF-8", MAX_ID_BYTES);
}

/* The string in field name of the table at index 2; it stays in the table. */
static struct slice get_string(lua_State *L, const char *what, const char *name)
{
    struct slice text;
    if (lua_getfield(L, 2, name) != LUA_TSTRING)
        luaL_error(L, "%s wants a string as %s", what, name);
    text.base = lua_tolstring(L, -1, &text.len);
    lua_pop(L, 1);
    return text;
}

static void check_field_names(lua_State *L, const char *what, const char *const *names)
{
    for (lua_pushnil(L); lua_next(L, 2) != 0; lua_pop(L, 1)) {
        const char *const *name = names;
        while (*name != NULL && !(lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), *name) == 0))
            name++;
        if (*name == NULL)
            luaL_error(L, "%s does not know the field '%s'", what, luaL_tolstring(L, -2, NULL));
    }
}

/* The array with room for one more; grown in the call's arena. */
static void *with_room(struct arena *arena, void *array, size_t n, size_t *size, size_t item_bytes)
{
    if (n < *size)
        return array;
    *size = *size == 0 ? 4 : *size * 2;
    void *larger = arena_alloc(arena, *size * item_bytes);
    if (n > 0)
        memcpy(larger, array, n * item_bytes);
    return larger;
}

static struct slice keep(struct process_call *call, struct slice bytes)
{
    return arena_copy(call->arena, bytes.base, bytes.len);
}

/* What the store would refuse is refused here, where the script's line is known. */
static void check_effects(lua_State *L, const struct outcome *out, size_t more_bytes)
{
    if (out->n_writes + out->n_publishes >= MAX_EFFECTS)
        luaL_error(L, "more than %d writes and messages for one event", MAX_EFFECTS);
    if (outcome_bytes(out) + more_bytes > OUTCOME_MAX_BYTES)
        luaL_error(L, "more than %d bytes of writes and messages for one event", (int)OUTCOME_MAX_BYTES);
}

static void check_first_write(lua_State *L, const struct outcome *out, struct slice collection, struct slice id)
{
    for (size_t i = 0; i < out->n_writes; i++) {
        if (slice_equal(out->writes[i].collection, collection) && slice_equal(out->writes[i].id, id))
            luaL_error(L, "a second write to %s '%s' in one event: put both into one update", collection.base, id.base);
    }
}

/* ctx:write{collection=, id=, update=} */
static int ctx_write(lua_State *L)
{
    static const char *const names[] = {"collection", "id", "update", NULL};
    struct process_call *call = object_target(L, CTX_TYPE);
    luaL_checktype(L, 2, LUA_TTABLE);
    check_field_names(L, "ctx:write", names);
    struct slice collection = get_string(L, "ctx:write", "collection"), id = get_string(L, "ctx:write", "id");
    check_collection(L, collection, true);
    check_id(L, id);
    if (lua_getfield(L, 2, "update") != LUA_TTABLE)
        return luaL_error(L, "ctx:write wants a table of update operators as update");
    struct buf *scratch = &call->policy->scratch;
    buf_clear(scratch);
    to_json(L, -1, TO_JSON_UPDATE, scratch);
    if (scratch->len <= 2)
        return luaL_error(L, "ctx:write with an empty update");
    struct outcome *out = call->out;
    check_first_write(L, out, collection, id);
    check_effects(L, out, id.len + scratch->len);
    out->writes = with_room(call->arena, out->writes, out->n_writes, &call->writes_size, sizeof *out->writes);
    out->writes[out->n_writes++] =
        (struct effect_write){keep(call, collection), keep(call, id), keep(call, buf_slice(scratch))};
    return 0;
}

/* ctx:publish{topic = …, payload = …}, as ctx:write takes its parts, or ctx:publish(topic, payload) */
static int ctx_publish(lua_State *L)
{
    struct process_call *call = object_target(L, CTX_TYPE);
    struct slice topic;
    if (lua_istable(L, 2)) {
        lua_settop(L, 2);
        lua_getfield(L, 2, "topic");
        lua_getfield(L, 2, "payload");
        lua_remove(L, 2);
    }
    luaL_checktype(L, 2, LUA_TSTRING);
    luaL_checkany(L, 3);
    topic.base = lua_tolstring(L, 2, &topic.len);
    luaL_argcheck(L, is_name(topic), 2, "a topic is made of [a-z0-9_.-], at most 64 of them");
    struct buf *scratch = &call->policy->scratch;
    buf_clear(scratch);
    to_json(L, 3, TO_JSON_PLAIN, scratch);
    struct outcome *out = call->out;
    check_effects(L, out, scratch->len);
    out->publishes =
        with_room(call->arena, out->publishes, out->n_publishes, &call->publishes_size, sizeof *out->publishes);
    out->publishes[out->n_publishes++] = (struct effect_publish){keep(call, topic), keep(call, buf_slice(scratch))};
    return 0;
}

void ctx_push_found(lua_State *L, struct slice collection, struct slice id)
{
    const struct process_call *call = policy_of(L)->process;
    const struct policy_host *host = &policy_of(L)->options.host;
    check_collection(L, collection, false);
    check_id(L, id);
    if (host->find == NULL || call == NULL)
        luaL_error(L, "documents can be read in a call of process.lua only");
    sandbox_check_deadline(L);
    struct slice json = {0};
    struct error err;
    if (!host->find(host->arg, collection, id, call->arena, &json,
                    &err)) /* not the event's fault: no attempt is charged */
        verdict_raise_outcome(L, OUTCOME_SNOOZE, "store", err.text,
                              STORE_AWAY_SNOOZE_MS + id_random_below(STORE_AWAY_SNOOZE_MS));
    sandbox_check_deadline(L);
    if (json.len == 0) {
        lua_pushnil(L);
        return;
    }
    lua_pushlstring(L, json.base, json.len);
    if (!json_decode(L, &err))
        luaL_error(L, "the store's document cannot be read: %s", err.text);
}

/* ctx:find(collection, id) */
static int ctx_find(lua_State *L)
{
    object_target(L, CTX_TYPE);
    struct slice collection, id;
    luaL_checktype(L, 2, LUA_TSTRING);
    luaL_checktype(L, 3, LUA_TSTRING);
    collection.base = lua_tolstring(L, 2, &collection.len);
    id.base = lua_tolstring(L, 3, &id.len);
    ctx_push_found(L, collection, id);
    return 1;
}

void ctx_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"write", ctx_write}, {"publish", ctx_publish}, {"find", ctx_find}, {NULL, NULL}};
    static const struct object_field fields[] = {{"attempt", push_attempt},
                                                 {"failures", push_failures},
                                                 {"key", push_key},
                                                 {"worker", push_worker},
                                                 {NULL, NULL}};
    object_define(L, CTX_TYPE, methods, fields);
}
