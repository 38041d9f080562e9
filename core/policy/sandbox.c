/* One lua_State with limits on memory and time.
 *
 * Memory: our allocator counts and refuses; Lua then collects and, if that does not help, raises a memory error.
 * Time: a count hook reads the clock every HOOK_INSTRUCTIONS. A script is over its time when the deadline is past and
 * it has worked for at least half of the limit itself: a machine that pauses or is crowded is not the script's fault.
 * From then on the hook fires at each instruction, so that a script which catches the error with pcall gets the next
 * one at once. C functions are not interrupted by hooks: those that could run long are replaced or guarded (globals.c,
 * pattern.c). */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "policy/state.h"

#define HOOK_INSTRUCTIONS 10000
#define END_TEXT_BYTES    64

/* "process.lua:12: " of the innermost running line of a script, or "". Allocates nothing and never raises, so that it
 * may be called from within the allocator. */
static void find_line(lua_State *L, char *out, size_t size)
{
    lua_Debug ar;
    out[0] = '\0';
    for (int level = 0; lua_getstack(L, level, &ar) == 1; level++) {
        if (lua_getinfo(L, "Sl", &ar) == 0 || ar.currentline <= 0)
            continue;
        snprintf(out, size, "%s:%d: ", ar.short_src, ar.currentline);
        return;
    }
}

/* A memory error brings neither message handler nor position: they are noted where the memory was refused. While such
 * an error is handled, more may be refused where no line of a script runs any more. */
static void *refuse_memory(struct sandbox *sandbox)
{
    struct policy *policy = (struct policy *)(void *)((char *)sandbox - offsetof(struct policy, sandbox));
    char where[sizeof sandbox->refused_at];
    if (policy->L == NULL)
        return NULL;
    find_line(policy->L, where, sizeof where);
    if (where[0] != '\0')
        memcpy(sandbox->refused_at, where, sizeof where);
    return NULL;
}

static void *limited_alloc(void *arg, void *old, size_t old_size, size_t new_size)
{
    struct sandbox *sandbox = arg;
    if (old == NULL)
        old_size = 0; /* Lua passes a type tag there */
    if (new_size == 0) {
        free(old);
        sandbox->used_bytes -= old_size;
        return NULL;
    }
    if (new_size > old_size && (new_size - old_size > sandbox->limit_bytes ||
                                sandbox->used_bytes > sandbox->limit_bytes - (new_size - old_size)))
        return refuse_memory(sandbox);
    void *memory = realloc(old, new_size);
    if (memory == NULL)
        return NULL;
    sandbox->used_bytes = sandbox->used_bytes - old_size + new_size;
    return memory;
}

static int on_panic(lua_State *L)
{
    const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no message";
    log_error("Lua error outside a protected call: this is a bug of Waybill", LOG_S("error", message));
    abort();
}

static void describe_end(const struct sandbox *sandbox, char *out, size_t size)
{
    if (sandbox->given_up)
        snprintf(out, size, "loading was given up: the service stops");
    else
        snprintf(out, size, "time limit of %lld ms reached", (long long)sandbox->time_ms);
}

static void raise_time_limit(lua_State *L, int level)
{
    char text[END_TEXT_BYTES];
    describe_end(&policy_of(L)->sandbox, text, sizeof text);
    luaL_where(L, level);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    lua_error(L);
}

static int64_t thread_cpu_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

/* Only the first build can be given up: a running policy that is built again is needed for events in hand. */
static bool is_unwanted(const struct policy *policy)
{
    const struct policy_stop *stop = &policy->options.stop;
    return policy->loading && !policy->built && stop->is_wanted != NULL && stop->is_wanted(stop->arg);
}

/* The CPU time is counted from the first look on, which spares the many short calls that are never looked at. */
static bool is_over_time(struct policy *policy)
{
    struct sandbox *sandbox = &policy->sandbox;
    if (sandbox->time_over)
        return true;
    if (is_unwanted(policy))
        return sandbox->time_over = sandbox->given_up = true;
    if (sandbox->cpu_from_us < 0)
        sandbox->cpu_from_us = thread_cpu_us();
    if (mono_is_past(sandbox->deadline, clock_mono()))
        sandbox->time_over = thread_cpu_us() - sandbox->cpu_from_us >= sandbox->time_ms * 1000 / 2;
    return sandbox->time_over;
}

static void on_count(lua_State *L, lua_Debug *unused)
{
    (void)unused;
    if (!is_over_time(policy_of(L)))
        return;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    raise_time_limit(L, 0);
}

bool sandbox_open(struct policy *policy, struct error *err)
{
    policy->sandbox = (struct sandbox){.limit_bytes = (size_t)policy->options.memory_bytes};
    lua_State *L = lua_newstate(limited_alloc, &policy->sandbox);
    if (L == NULL) {
        error_set(err, "script memory limit of %lld bytes is too small for a Lua state",
                  (long long)policy->options.memory_bytes);
        return false;
    }
    *(struct policy **)lua_getextraspace(L) = policy;
    lua_atpanic(L, on_panic);
    lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    policy->L = L;
    return true;
}

void sandbox_close(struct policy *policy)
{
    if (policy->L != NULL)
        lua_close(policy->L);
    policy->L = NULL;
}

/* Keeps verdicts as they are; anything else becomes a string with a traceback. */
static int add_traceback(lua_State *L)
{
    if (verdict_tag_of(L, 1) != VERDICT_NONE)
        return 1;
    const char *message = lua_tostring(L, 1);
    if (message == NULL && luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
        message = lua_tostring(L, -1);
    if (message == NULL) {
        char where[sizeof policy_of(L)->sandbox.refused_at];
        find_line(L, where, sizeof where);
        message = lua_pushfstring(L, "%serror object is a %s value", where, luaL_typename(L, 1));
    }
    luaL_traceback(L, L, message, 1);
    return 1;
}

int sandbox_push_handler(lua_State *L)
{
    lua_pushcfunction(L, add_traceback);
    return lua_gettop(L);
}

void sandbox_call_script(lua_State *L, int n_args)
{
    int handler = lua_gettop(L) - n_args;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, handler);
    int status = lua_pcall(L, n_args, 1, handler);
    lua_remove(L, handler);
    if (status == LUA_ERRMEM)
        policy_of(L)->sandbox.memory_over = true;
    if (status != LUA_OK && verdict_tag_of(L, -1) == VERDICT_NONE)
        lua_error(L);
}

static void arm(struct policy *policy, int64_t time_ms)
{
    struct sandbox *sandbox = &policy->sandbox;
    if (sandbox->time_over)
        lua_sethook(policy->L, on_count, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    sandbox->time_over = sandbox->memory_over = sandbox->given_up = false;
    sandbox->refused_at[0] = '\0';
    sandbox->limit_bytes = (size_t)policy->options.memory_bytes;
    sandbox->time_ms = time_ms;
    sandbox->cpu_from_us = -1;
    sandbox->deadline = mono_after_ms(clock_mono(), time_ms);
    policy->log_lines = 0;
    policy->bad_answer = false;
}

static void keep_error(struct policy *policy)
{
    size_t len = 0;
    const char *text = lua_type(policy->L, -1) == LUA_TSTRING ? lua_tolstring(policy->L, -1, &len) : NULL;
    if (text == NULL)
        text = "error without a message", len = strlen(text);
    const char *trace = memmem(text, len, "\nstack traceback:", strlen("\nstack traceback:"));
    size_t first = trace == NULL ? len : (size_t)(trace - text);
    buf_clear(&policy->error_text);
    buf_clear(&policy->traceback);
    buf_add(&policy->error_text, text, first);
    buf_add(&policy->traceback, text + first, len - first);
}

enum run_result sandbox_run(struct policy *policy, lua_CFunction body, void *record, int64_t time_ms)
{
    lua_State *L = policy->L;
    lua_settop(L, 0);
    arm(policy, time_ms);
    policy->call++;
    policy->record = record;
    lua_pushcfunction(L, body); /* a light C function: allocates nothing */
    lua_pushlightuserdata(L, record);
    int status = lua_pcall(L, 1, 0, 0);
    if (status == LUA_OK && !policy->sandbox.time_over)
        return RUN_OK;
    if (status == LUA_OK)
        lua_pushnil(L);
    keep_error(policy);
    lua_settop(L, 0);
    if (policy->sandbox.time_over) {
        char text[END_TEXT_BYTES];
        describe_end(&policy->sandbox, text, sizeof text);
        if (memmem(policy->error_text.data, policy->error_text.len, text, strlen(text)) == NULL) {
            buf_clear(&policy->error_text); /* the script caught the error and ended some other way */
            buf_add_text(&policy->error_text, text);
        }
        return RUN_TIME_LIMIT;
    }
    if (status != LUA_ERRMEM && !policy->sandbox.memory_over)
        return RUN_ERROR;
    buf_clear(&policy->error_text);
    buf_printf(&policy->error_text, "%smemory limit of %lld bytes reached", policy->sandbox.refused_at,
               (long long)policy->options.memory_bytes);
    return RUN_MEMORY_LIMIT;
}

int64_t sandbox_remaining_ms(const struct policy *policy)
{
    int64_t left = mono_elapsed_ms(clock_mono(), policy->sandbox.deadline);
    return left < 0 ? 0 : left;
}

void sandbox_excuse_delay(struct policy *policy, mono_time due)
{
    int64_t late_us = clock_mono().us - due.us;
    if (late_us > 0)
        policy->sandbox.deadline.us += late_us;
}

void sandbox_check_work(lua_State *L)
{
    if (!is_over_time(policy_of(L)))
        return;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    raise_time_limit(L, 1);
}

void sandbox_check_deadline(lua_State *L)
{
    struct sandbox *sandbox = &policy_of(L)->sandbox;
    if (!mono_is_past(sandbox->deadline, clock_mono()))
        return;
    sandbox->time_over = true;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    raise_time_limit(L, 1);
}
