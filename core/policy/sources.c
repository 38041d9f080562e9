/* sources.lua: who may send. The entries' meaning is the scripts' (lib/signature.lua and the courier mappings); C reads
 * what it enforces or needs itself: names, secrets there or not, rate and accept_status. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "policy/state.h"

/* A source's name as it is in variables: '-' is '_'. */
static bool is_secret_of(const struct config_secret *secret, const char *source)
{
    size_t i = 0;
    for (; secret->source[i] != '\0' && source[i] != '\0'; i++) {
        if (secret->source[i] != (source[i] == '-' ? '_' : source[i]))
            return false;
    }
    return secret->source[i] == source[i];
}

/* secrets(name): the list of strings in WAYBILL_SECRET_<NAME>. Empty in the worker, which has none. */
static int script_secrets(lua_State *L)
{
    const struct policy_options *options = &policy_of(L)->options;
    const char *source = luaL_checkstring(L, 1);
    lua_newtable(L);
    lua_Integer n = 0;
    for (size_t i = 0; i < options->n_secrets; i++) {
        if (!is_secret_of(&options->secrets[i], source))
            continue;
        for (const char *p = options->secrets[i].values; *p != '\0';) {
            size_t space = strspn(p, " \t\r\n"), len = strcspn(p + space, " \t\r\n");
            if (len > 0) {
                lua_pushlstring(L, p + space, len);
                lua_rawseti(L, -2, ++n);
            }
            p += space + len;
        }
    }
    return 1;
}

void sources_bind(lua_State *L)
{
    lua_pushcfunction(L, script_secrets);
    globals_add(L, "secrets");
}

/* The number in field name of the table at index; 0 when absent. */
static double get_rate(lua_State *L, int index, const char *source, const char *name)
{
    int type = lua_getfield(L, index, name);
    double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    if (type == LUA_TNIL)
        return 0;
    if (type != LUA_TNUMBER || !(value > 0 && value <= 1e9))
        luaL_error(L, "sources.lua: source '%s': rate.%s is not a number above 0", source, name);
    return value;
}

static struct policy_source_limits read_rate(lua_State *L, int config, const char *name)
{
    struct policy_source_limits limits = {0};
    int type = lua_getfield(L, config, "rate");
    if (type == LUA_TTABLE) {
        limits.per_second = get_rate(L, lua_gettop(L), name, "per_second");
        limits.burst = get_rate(L, lua_gettop(L), name, "burst");
        if (limits.per_second == 0)
            luaL_error(L, "sources.lua: source '%s': rate without per_second", name);
        if (limits.burst == 0)
            limits.burst = limits.per_second < 1 ? 1 : limits.per_second;
        if (limits.burst < 1)
            luaL_error(L, "sources.lua: source '%s': rate.burst below 1 would let nothing through", name);
    } else if (type != LUA_TNIL) {
        luaL_error(L, "sources.lua: source '%s': rate must be a table {per_second=, burst=}", name);
    }
    lua_pop(L, 1);
    return limits;
}

static void check_accept_status(lua_State *L, int config, const char *name)
{
    int type = lua_getfield(L, config, "accept_status");
    if (type != LUA_TNIL && !(lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 200 && lua_tointeger(L, -1) <= 299))
        luaL_error(L, "sources.lua: source '%s': accept_status must be 200 to 299", name);
    lua_pop(L, 1);
}

/* Once a load: not again for each thread, nor when a state is built again. */
static bool may_warn(const struct policy *policy)
{
    return !policy->options.quiet && !policy->built;
}

static void warn_switched_off(const char *name)
{
    char variable[sizeof "WAYBILL_SECRET_" + EVENT_SOURCE_MAX_BYTES] = "WAYBILL_SECRET_";
    for (char *p = variable + strlen(variable); *name != '\0'; name++)
        *p++ = (char)(*name == '-' ? '_' : *name >= 'a' && *name <= 'z' ? *name - 32 : *name);
    log_warn("source is switched off: it has no secret", LOG_S("set", variable));
}

/* A source whose scheme is a function may need no secret. */
static bool is_switched_on(lua_State *L, int config, const char *name)
{
    bool on = lua_getfield(L, config, "scheme") == LUA_TFUNCTION;
    int type = lua_getfield(L, config, "secrets");
    if (type != LUA_TTABLE && type != LUA_TNIL)
        luaL_error(L, "sources.lua: source '%s': secrets must be a list, as secrets(\"%s\") gives it", name, name);
    on = on || (type == LUA_TTABLE && lua_rawlen(L, -1) > 0);
    lua_pop(L, 2);
    return on;
}

/* The strings in the list secrets of the table at index. */
static void copy_secrets(lua_State *L, int config, struct buf *out)
{
    size_t len;
    if (lua_getfield(L, config, "secrets") == LUA_TTABLE) {
        for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING; lua_pop(L, 1), i++) {
            const char *secret = lua_tolstring(L, -1, &len);
            buf_add(out, secret, len + 1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void add_source(lua_State *L, int config, const char *name, struct policy_source_limits limits)
{
    struct policy *policy = policy_of(L);
    policy->sources = memory_resize(policy->sources, (policy->n_sources + 1) * sizeof *policy->sources);
    struct source *source = &policy->sources[policy->n_sources++];
    *source = (struct source){.limits = limits};
    memcpy(source->name, name, strlen(name));
    copy_secrets(L, config, &source->secrets);
}

/* The entry at the top, its name below it. Adds it to the table at `on` when it is switched on. */
static void read_source(lua_State *L, int on)
{
    int config = lua_gettop(L);
    if (lua_type(L, -2) != LUA_TSTRING || !event_source_is_valid(slice_of(lua_tostring(L, -2))))
        luaL_error(L, "sources.lua: '%s' is not a source name: [a-z0-9_-], at most %d of them",
                   luaL_tolstring(L, -2, NULL), EVENT_SOURCE_MAX_BYTES);
    const char *name = lua_tostring(L, -2);
    if (!lua_istable(L, config))
        luaL_error(L, "sources.lua: source '%s' must be a table", name);
    struct policy_source_limits limits = read_rate(L, config, name);
    check_accept_status(L, config, name);
    if (!is_switched_on(L, config, name)) {
        if (may_warn(policy_of(L)))
            warn_switched_off(name);
        return;
    }
    if (!policy_of(L)->built) /* else callers hold pointers to the names */
        add_source(L, config, name, limits);
    lua_pushvalue(L, config);
    lua_setfield(L, on, name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct source *)a)->name, ((const struct source *)b)->name);
}

static void warn_unused_secrets(lua_State *L, int table)
{
    const struct policy_options *options = &policy_of(L)->options;
    for (size_t i = 0; i < options->n_secrets; i++) {
        bool used = false;
        for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
            used = used || is_secret_of(&options->secrets[i], lua_tostring(L, -2));
        if (!used)
            log_warn("secret for a source that sources.lua does not have", LOG_S("source", options->secrets[i].source));
    }
}

void sources_read(lua_State *L)
{
    struct policy *policy = policy_of(L);
    int table = lua_gettop(L);
    if (!lua_istable(L, table))
        luaL_error(L, "sources.lua returned a %s; it must return a table of sources", luaL_typename(L, table));
    if (!policy->built)
        policy->n_sources = 0;
    lua_newtable(L);
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1))
        read_source(L, table + 1);
    if (policy->n_sources > 1)
        qsort(policy->sources, policy->n_sources, sizeof *policy->sources, by_name);
    if (may_warn(policy))
        warn_unused_secrets(L, table);
    policy->sources_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}

static int compare_name(const void *key, const void *source)
{
    const struct slice *wanted = key;
    const char *name = ((const struct source *)source)->name;
    int order = strncmp(wanted->base, name, wanted->len);
    return order != 0 || name[wanted->len] == '\0' ? order : -1;
}

bool policy_has_secret(const struct policy *policy, struct slice source, struct slice text)
{
    const struct source *found =
        policy->n_sources == 0 || source.len > EVENT_SOURCE_MAX_BYTES
            ? NULL
            : bsearch(&source, policy->sources, policy->n_sources, sizeof *policy->sources, compare_name);
    if (found == NULL)
        return false;
    for (size_t at = 0, len; at < found->secrets.len; at += len + 1) {
        const char *secret = found->secrets.data + at;
        len = strlen(secret);
        if (len > 0 && memmem(text.base, text.len, secret, len) != NULL)
            return true;
    }
    return false;
}

void sources_free(struct policy *policy)
{
    for (size_t i = 0; i < policy->n_sources; i++) {
        struct buf *secrets = &policy->sources[i].secrets;
        if (secrets->len > 0)
            memory_wipe(secrets->data, secrets->len);
        buf_free(secrets);
    }
    free(policy->sources);
}

bool policy_source(const struct policy *policy, size_t index, const char **name, struct policy_source_limits *limits)
{
    if (index >= policy->n_sources)
        return false;
    *name = policy->sources[index].name;
    *limits = policy->sources[index].limits;
    return true;
}
