/* Limits and the walls of the sandbox: what a script cannot do, and that the state lives on afterwards. */
#include "../check.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "harness.h"

#define GOOD "return function() return { ok = true } end"

struct attempt {
    const char *script;     /* a process.lua */
    enum outcome_kind kind; /* of a call */
    const char *message;    /* part of it */
};

/* Runs each script in a state of its own, twice: after a fault the state must work as before. */
static void check_attempts(const struct attempt *attempts, size_t n, int64_t time_ms)
{
    struct arena *arena = arena_new();
    for (size_t i = 0; i < n; i++) {
        struct policy *policy = harness_process_within(attempts[i].script, time_ms);
        struct event event = harness_event("{}");
        for (int round = 0; round < 2; round++) {
            struct outcome out;
            harness_run(policy, &event, 0, arena, &out);
            if (out.kind != attempts[i].kind || !contains(out.message, attempts[i].message))
                fail_msg("%s\n gave %s: %.*s", attempts[i].script, outcome_name(out.kind), SLICE_ARG(out.message));
        }
        policy_free(policy);
    }
    arena_free(arena);
}

#define CHECK_ATTEMPTS(attempts) check_attempts((attempts), sizeof(attempts) / sizeof *(attempts), 5000)

static void endless_work_is_stopped(void **state)
{
    (void)state;
    const struct attempt attempts[] = {
        {"return function()\n while true do end\n end", OUTCOME_TIME_LIMIT, "process.lua:2: time limit of 200 ms"},
        {"return function()\n while true do pcall(function() while true do end end) end\n end", OUTCOME_TIME_LIMIT,
         "time limit"},
        {"local function f() while true do end end\n return function() return pcall(f) end", OUTCOME_TIME_LIMIT,
         "time limit"},
        {"local function f() while true do end end\n return function() return xpcall(f, f) end", OUTCOME_TIME_LIMIT,
         "time limit"},
        {"return function() local x <close> = setmetatable({}, {__close = function() while true do end end})\n"
         "while true do end end",
         OUTCOME_TIME_LIMIT, "time limit"},
        {"return function() return error(setmetatable({}, {__tostring = function() while true do end end})) end",
         OUTCOME_TIME_LIMIT, "time limit"},
        {"return function() (('a'):rep(40)):find(('a*'):rep(40) .. 'b') end", OUTCOME_TIME_LIMIT, "time limit"},
        {"return function() string.find(('a'):rep(30), ('a?'):rep(30) .. ('a'):rep(31)) end", OUTCOME_TIME_LIMIT,
         "process.lua:1: time limit"},
        {"return function() string.gsub(('a'):rep(100000), '.-b', '') end", OUTCOME_TIME_LIMIT, "time limit"},
        {"return function() for _ in string.gmatch(('x'):rep(100000), '.-.-b') do end end", OUTCOME_TIME_LIMIT,
         "time limit"},
        /* few instructions, much work */
        {"return function() local t = ('x'):rep(1 << 20) for _ = 1, 1500 do crypto.sha256(t) end end",
         OUTCOME_TIME_LIMIT, "process.lua:1: time limit"},
        {"return function() local t = ('x'):rep(1 << 20) for _ = 1, 1500 do crypto.hmac_sha256('k', t) end end",
         OUTCOME_TIME_LIMIT, "process.lua:1: time limit"},
        {"return function() local t, s = ('x'):rep(1 << 20), ('\\0'):rep(64)\n"
         "local k = crypto.hex_decode('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a')\n"
         "for _ = 1, 1500 do crypto.ed25519_verify(k, t, s) end end",
         OUTCOME_TIME_LIMIT, "process.lua:3: time limit"},
        {"return function() local t = ('x'):rep(1 << 20) for _ = 1, 1500 do crypto.hex_encode(t) end end",
         OUTCOME_TIME_LIMIT, "process.lua:1: time limit"},
        {"return function() time.sleep_ms(60000) end", OUTCOME_TIME_LIMIT, "time limit"},
        {"return function() pcall(time.sleep_ms, 60000) pcall(time.sleep_ms, 60000) end", OUTCOME_TIME_LIMIT, ""},
    };
    check_attempts(attempts, sizeof attempts / sizeof *attempts, 200);
}

static bool says_it_runs(void *fd, struct slice collection, struct slice id, struct arena *arena, struct slice *json,
                         struct error *err)
{
    (void)collection, (void)id, (void)arena, (void)err;
    *json = (struct slice){0};
    return write(*(const int *)fd, "", 1) == 1;
}

/* In a process of its own: says when it runs, then sleeps within its limit. */
static int sleep_for_a_while(int fd)
{
    struct policy_options options = harness_options(POLICY_WORKER);
    options.time_ms = 2000;
    options.host = (struct policy_host){&fd, says_it_runs};
    struct error err;
    struct policy *policy = harness_policy(
        &options,
        (struct file[]){{"process.lua", "return function() mongo.find('a', 'b') time.sleep_ms(400) return {} end"},
                        {"retry_policy.lua", "return function() return default() end"},
                        {0}},
        &err);
    if (policy == NULL)
        return 1;
    struct event event = harness_event("{}");
    struct outcome out;
    harness_run(policy, &event, 0, arena_new(), &out);
    return out.kind == OUTCOME_SUCCESS ? 0 : 2;
}

static char state_of(pid_t pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    return *(strrchr(text, ')') + 2);
}

/* The freeze is not the script's fault. */
static void a_freeze_while_it_sleeps_is_not_charged(void **state)
{
    (void)state;
    int fds[2], status;
    char byte;
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(sleep_for_a_while(fds[1]));
    assert_int_equal(read(fds[0], &byte, 1), 1);
    while (state_of(child) == 'R')
        clock_sleep_ms(1);
    kill(child, SIGSTOP);
    clock_sleep_ms(2500);
    kill(child, SIGCONT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(fds[0]);
    close(fds[1]);
}

static void memory_is_limited(void **state)
{
    (void)state;
    const struct attempt attempts[] = {
        {"return function() local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end end", OUTCOME_MEMORY_LIMIT,
         "lua:1: memory limit of "},
        {"return function() return { s = string.rep('x', 1 << 30) } end", OUTCOME_MEMORY_LIMIT,
         "lua:1: memory limit of "},
        {"return function() local s = 'x' while true do s = s .. s end end", OUTCOME_MEMORY_LIMIT,
         "lua:1: memory limit of "},
        {"return function() local t = {} for i = 1, 1 << 40 do t[i] = i end end", OUTCOME_MEMORY_LIMIT,
         "lua:1: memory limit of "},
        {"return function() local v = json.decode('[' .. ('[],'):rep(1000000) .. '1]') return { v } end",
         OUTCOME_MEMORY_LIMIT, "lua:1: memory limit of "},
        {"return function() pcall(string.rep, 'x', 1 << 30) return fail.permanent('went on') end", OUTCOME_PERMANENT,
         "went on"},
        {"local function f() return f() + 1 end return function() return f() end", OUTCOME_MEMORY_LIMIT,
         "lua:1: memory limit of "},
    };
    CHECK_ATTEMPTS(attempts);
}

/* C loops of the library that no hook would interrupt. */
static void long_library_calls_are_refused(void **state)
{
    (void)state;
    const struct attempt attempts[] = {
        {"return function() if ('').rep('', math.maxinteger) == '' then return fail.permanent('empty') end end",
         OUTCOME_PERMANENT, "empty"},
        {"return function() table.move({}, 1, math.maxinteger - 1, 2) end", OUTCOME_ERROR, "table.move of more than"},
        {"return function() local t = {} for i = 0, 62 do t[1 << i] = 1 t[(1 << i) + 1] = 1 end table.insert(t, 1, 1) "
         "end",
         OUTCOME_ERROR, "a list of more than"},
        {"return function() table.remove(setmetatable({}, {__len = function() return 1 << 60 end}), 1) end",
         OUTCOME_ERROR, "a list of more than"},
        {"return function() local t = {} for i = 1, 200000 do t[i] = i end table.sort(t) end", OUTCOME_ERROR,
         "a list of more than 100000"},
        {"return function() table.concat(setmetatable({}, {__len = function() return 1 << 60 end}), 'x') end",
         OUTCOME_ERROR, "a list of more than"},
    };
    CHECK_ATTEMPTS(attempts);
}

static void nothing_leads_out(void **state)
{
    (void)state;
    static const char *const names[] = {"io",     "os",       "debug",          "package", "coroutine",
                                        "dofile", "loadfile", "collectgarbage", "warn",    NULL};
    struct arena *arena = arena_new();
    for (const char *const *name = names; *name != NULL; name++) {
        struct slice script = arena_printf(arena, "return function()\n return %s.x\n end", *name);
        struct slice message = arena_printf(arena, "process.lua:2: undefined variable '%s'", *name);
        const struct attempt attempt = {script.base, OUTCOME_ERROR, message.base};
        check_attempts(&attempt, 1, 5000);
    }
    arena_free(arena);
    const struct attempt attempts[] = {
        {"return function() return fail.permanent(tostring(string.dump)) end", OUTCOME_PERMANENT, "nil"},
        {"return function() local f, why = load('\\27Lua') return fail.permanent(why) end", OUTCOME_PERMANENT,
         "attempt to load a binary chunk"},
        {"return function() local f, why = load('\\27Lua', 'x', 'b') return fail.permanent(why) end", OUTCOME_PERMANENT,
         "attempt to load a binary chunk"},
        {"return function() load('x = 1')() end", OUTCOME_ERROR, "assignment to undeclared variable 'x'"},
        {"return function() require('../x') end", OUTCOME_ERROR,
         "process.lua:1: require: '../x' must be required while"},
        {"return function() setmetatable({}, {__gc = function() end}) end", OUTCOME_ERROR,
         "process.lua:1: __gc is not allowed"},
        {"return function() local m = {} local t = setmetatable({}, m) m.__gc = function() while true do end end\n"
         " t = nil for i = 1, 100000 do local x = {} end return fail.permanent('alive') end",
         OUTCOME_PERMANENT, "alive"},
    };
    CHECK_ATTEMPTS(attempts);
}

static void globals_are_read_only(void **state)
{
    (void)state;
    const struct attempt attempts[] = {
        {"return function()\n oops = 1\n end", OUTCOME_ERROR,
         "process.lua:2: assignment to undeclared variable 'oops'"},
        {"return function() _G.oops = 1 end", OUTCOME_ERROR, "undeclared variable 'oops'"},
        {"return function() rawset(_G, 'oops', 1) end", OUTCOME_ERROR, "rawset: the table is read-only"},
        {"return function() rawset(string, 'find', 1) end", OUTCOME_ERROR, "rawset: the table is read-only"},
        {"return function() string.find = print end", OUTCOME_ERROR,
         "attempt to change 'find' of the read-only table 'string'"},
        {"return function() crypto.equal = function() return true end end", OUTCOME_ERROR, "read-only table 'crypto'"},
        {"return function() table.insert(_G, 1) end", OUTCOME_ERROR, "undeclared variable"},
        {"return function() getmetatable('').__index = {} end", OUTCOME_ERROR, "attempt to index a boolean"},
        {"return function() getmetatable(string).__index = {} end", OUTCOME_ERROR, "attempt to index a boolean"},
        {"return function() setmetatable(_G, {}) end", OUTCOME_ERROR, "cannot change a protected metatable"},
        {"return function(event) event.source = 'x' end", OUTCOME_ERROR, "event is read-only"},
        /* iterating hands out no way to the real tables */
        {"return function() for name, lib in pairs(_G) do if name == 'string' then lib.find = 1 end end end",
         OUTCOME_ERROR, "read-only table 'string'"},
        {"return function() local n = 0 for name in pairs(string) do n = n + 1 end\n"
         "return fail.permanent(n > 10 and 'listed' or 'empty') end",
         OUTCOME_PERMANENT, "listed"},
        {"return function() for name, f in pairs(_G) do if type(f) == 'table' and rawget(f, 'print') then\n"
         "return fail.permanent(name) end end return fail.permanent('none leads there') end",
         OUTCOME_PERMANENT, "none leads there"},
    };
    CHECK_ATTEMPTS(attempts);
}

static void objects_die_with_the_call(void **state)
{
    (void)state;
    struct policy *policy = harness_process("local kept\n"
                                            "return function(event, ctx)\n"
                                            "  if not kept then kept = { event, ctx } return end\n"
                                            "  local _, why = pcall(function() return kept[1].body end)\n"
                                            "  local _, why2 = pcall(function() return kept[1]:json() end)\n"
                                            "  local _, why3 = pcall(function() kept[2]:publish('t', 1) end)\n"
                                            "  return fail.permanent(why .. '|' .. why2 .. '|' .. why3)\n"
                                            "end");
    struct arena *arena = arena_new();
    struct event event = harness_event("{}");
    struct outcome out;
    harness_run(policy, &event, 0, arena, &out);
    assert_int_equal(out.kind, OUTCOME_SUCCESS);
    harness_run(policy, &event, 0, arena, &out);
    assert_string_equal(out.message.base,
                        "process.lua:4: event used after the call|process.lua:5: event used after the "
                        "call|process.lua:6: ctx used after the call");
    policy_free(policy);
    arena_free(arena);
}

/* A script that hoards in its variables is not out of memory for ever. */
static void a_full_state_is_built_again(void **state)
{
    (void)state;
    struct policy *policy = harness_process("local hoard = {}\n"
                                            "return function()\n"
                                            "  hoard[#hoard + 1] = ('x'):rep(1000000) .. #hoard\n"
                                            "  return { n = #hoard }\n"
                                            "end");
    struct arena *arena = arena_new();
    struct event event = harness_event("{}");
    int most = 0;
    for (int i = 0; i < 100; i++) {
        struct outcome out;
        harness_run(policy, &event, 0, arena, &out);
        assert_int_equal(out.kind, OUTCOME_SUCCESS);
        int n = atoi(out.result.base + strlen("{\"n\":"));
        most = n > most ? n : most;
    }
    assert_in_range(most, 10, 40);
    policy_free(policy);
    arena_free(arena);
}

struct load {
    struct file files[5];
    const char *message;
};

#define RETRY "return function() return default() end"

static void bad_scripts_do_not_load(void **state)
{
    (void)state;
    const struct load loads[] = {
        {{{"process.lua", "return function() retrun 1 end"}, {"retry_policy.lua", RETRY}},
         "process.lua:1: syntax error"},
        {{{"process.lua", "return 1"}, {"retry_policy.lua", RETRY}}, "process.lua returned a number"},
        {{{"process.lua", GOOD}}, "retry_policy.lua is not in the scripts folder"},
        {{{"process.lua", "\nx = 1 return function() end"}, {"retry_policy.lua", RETRY}},
         "process.lua:2: assignment to undeclared variable 'x'"},
        {{{"process.lua", "require('../etc/passwd')"}, {"retry_policy.lua", RETRY}}, "is not a module name"},
        {{{"process.lua", "require('/etc/passwd')"}, {"retry_policy.lua", RETRY}}, "is not a module name"},
        {{{"process.lua", "require('lib..x')"}, {"retry_policy.lua", RETRY}}, "is not a module name"},
        {{{"process.lua", "require('lib.none')"}, {"retry_policy.lua", RETRY}},
         "process.lua:1: lib/none.lua is not in the scripts folder"},
        {{{"process.lua", "require('a') " GOOD},
          {"a.lua", "require('b')"},
          {"b.lua", "require('a')"},
          {"retry_policy.lua", RETRY}},
         "b.lua:1: require: 'a' requires itself"},
        {{{"process.lua", "\n\nwhile true do end"}, {"retry_policy.lua", RETRY}},
         "process.lua:3: time limit of 2000 ms"},
        {{{"process.lua", "\nmetrics.counter('a', '\\xff')"}, {"retry_policy.lua", RETRY}},
         "process.lua:2: bad argument #2 to 'counter' (the help text is not UTF-8)"},
        {{{"process.lua", "local t = {} while true do t[#t + 1] = {} end"}, {"retry_policy.lua", RETRY}},
         "lua:1: memory limit of "},
        {{{"process.lua", "return function() end, {{ name = 'adds up', run = function()\n assert(1 == 2, 'no') end }}"},
          {"retry_policy.lua", RETRY}},
         "process.lua:2: no (check 'adds up' of process.lua)"},
        {{{"process.lua", "return function() end, {{ name = 'adds up', run = function()\n error('no') end }}"},
          {"retry_policy.lua", RETRY}},
         "process.lua:2: no (check 'adds up' of process.lua)"},
        {{{"process.lua", "return function() end, { function() end }"}, {"retry_policy.lua", RETRY}},
         "process.lua: check 1 is not a table"},
        {{{"process.lua", GOOD},
          {"retry_policy.lua", RETRY},
          {"tests/process_x.lua", "return {{ name = 'n', run = function() error('bad') end }}"}},
         "tests/process_x.lua:1: bad (check 'n' of tests/process_x.lua)"},
        {{{"process.lua", GOOD}, {"retry_policy.lua", RETRY}, {"tests/retry_x.lua", "return nil"}},
         "tests/retry_x.lua: it must return a list of checks"},
    };
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        struct policy_options options = harness_options(POLICY_WORKER);
        options.time_ms = 10; /* so that loading gets its least: 2 s */
        options.memory_bytes = 4 * 1024 * 1024;
        struct error err;
        struct policy *policy = harness_policy(&options, loads[i].files, &err);
        if (policy != NULL || strstr(err.text, loads[i].message) == NULL)
            fail_msg("case %zu gave: %s", i, policy != NULL ? "a policy" : err.text);
    }
}

/* However long a call may take, who waits for a reload does not wait for minutes. */
static void endless_loading_is_stopped_soon(void **state)
{
    (void)state;
    struct policy_options options = harness_options(POLICY_WORKER);
    options.time_ms = 60000;
    struct error err;
    assert_null(harness_policy(
        &options, (struct file[]){{"process.lua", "while true do end"}, {"retry_policy.lua", RETRY}, {0}}, &err));
    assert_non_null(strstr(err.text, "process.lua:1: time limit of 5000 ms"));
}

static bool is_wanted(const void *arg)
{
    return *(const bool *)arg;
}

static void loading_is_given_up_for_a_stop(void **state)
{
    (void)state;
    static const char *const scripts[] = {"while true do end",
                                          "while true do pcall(function() while true do end end) end",
                                          "string.find(('a'):rep(30), ('a?'):rep(30) .. ('a'):rep(31))"};
    bool stop = true;
    struct policy_options options = harness_options(POLICY_WORKER);
    options.stop = (struct policy_stop){&stop, is_wanted};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct error err;
        assert_null(harness_policy(
            &options, (struct file[]){{"process.lua", scripts[i]}, {"retry_policy.lua", RETRY}, {0}}, &err));
        assert_non_null(strstr(err.text, "loading was given up"));
    }
}

/* What was loaded is needed for what is in hand: it is also built again then. */
static void a_stop_leaves_what_runs_alone(void **state)
{
    (void)state;
    bool stop = false;
    struct policy_options options = harness_options(POLICY_WORKER);
    options.stop = (struct policy_stop){&stop, is_wanted};
    struct error err;
    struct policy *policy =
        harness_policy(&options,
                       (struct file[]){{"process.lua", "local hoard = {}\n"
                                                       "for i = 1, 100000 do hoard[1] = nil end\n"
                                                       "return function()\n"
                                                       "  hoard[#hoard + 1] = ('x'):rep(1000000) .. #hoard\n"
                                                       "end"},
                                       {"retry_policy.lua", RETRY},
                                       {0}},
                       &err);
    assert_non_null(policy);
    stop = true;
    struct arena *arena = arena_new();
    struct event event = harness_event("{}");
    for (int i = 0; i < 60; i++) {
        struct outcome out;
        harness_run(policy, &event, 0, arena, &out);
        assert_int_equal(out.kind, OUTCOME_SUCCESS);
    }
    policy_free(policy);
    arena_free(arena);
}

static void tests_of_the_other_role_are_left_alone(void **state)
{
    (void)state;
    struct policy_options options = harness_options(POLICY_WORKER);
    struct error err;
    struct policy *policy = harness_policy(
        &options,
        (struct file[]){
            {"process.lua", GOOD}, {"retry_policy.lua", RETRY}, {"tests/validate_x.lua", "error('no')"}, {0}},
        &err);
    assert_non_null(policy);
    policy_free(policy);
}

/* A reload is a new policy beside the old one. */
static void generations_stand_side_by_side(void **state)
{
    (void)state;
    struct policy *old = harness_process("return function() return { v = 1 } end"), *new;
    struct policy_options options = harness_options(POLICY_WORKER);
    struct error err;
    assert_null(harness_policy(&options, (struct file[]){{"process.lua", "broken"}, {0}}, &err));
    new = harness_process("return function() return { v = 2 } end");
    assert_string_not_equal(script_set_hash(policy_scripts(old)), script_set_hash(policy_scripts(new)));
    struct arena *arena = arena_new();
    struct event event = harness_event("{}");
    struct outcome a, b;
    harness_run(old, &event, 0, arena, &a);
    harness_run(new, &event, 0, arena, &b);
    assert_true(slice_is(a.result, "{\"v\":1}"));
    assert_true(slice_is(b.result, "{\"v\":2}"));
    policy_free(old);
    policy_free(new);
    arena_free(arena);
}

static void a_folder_that_is_not_there_says_so(void **state)
{
    (void)state;
    struct error err;
    assert_null(script_set_read("/nonexistent/scripts", 1, &err));
    assert_non_null(strstr(err.text, "/nonexistent/scripts"));
    assert_null(harness_set((struct file[]){{"readme.txt", "no script"}, {0}}, &err));
    assert_non_null(strstr(err.text, "no .lua file"));
}

static void faults_are_counted(void **state)
{
    (void)state;
    struct policy_options options = harness_options(POLICY_WORKER);
    struct error err;
    options.metrics = metrics_new();
    struct policy *policy = harness_policy(
        &options,
        (struct file[]){{"process.lua", "local seen = metrics.counter('seen', 'Events seen', { kind = 'x' })\n"
                                        "return function() seen:add() error('boom') end"},
                        {"retry_policy.lua", RETRY},
                        {0}},
        &err);
    assert_non_null(policy);
    struct arena *arena = arena_new();
    struct event event = harness_event("{}");
    struct outcome out;
    harness_run(policy, &event, 0, arena, &out);
    struct buf text = {0};
    metrics_write(options.metrics, &text);
    assert_non_null(strstr(text.data, "waybill_script_errors_total{script=\"process\",kind=\"error\"} 1"));
    assert_non_null(strstr(text.data, "waybill_script_seen_total{kind=\"x\"} 1"));
    buf_free(&text);
    policy_free(policy);
    metrics_free(options.metrics);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_work_is_stopped),
        cmocka_unit_test(a_freeze_while_it_sleeps_is_not_charged),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(long_library_calls_are_refused),
        cmocka_unit_test(nothing_leads_out),
        cmocka_unit_test(globals_are_read_only),
        cmocka_unit_test(objects_die_with_the_call),
        cmocka_unit_test(a_full_state_is_built_again),
        cmocka_unit_test(bad_scripts_do_not_load),
        cmocka_unit_test(endless_loading_is_stopped_soon),
        cmocka_unit_test(loading_is_given_up_for_a_stop),
        cmocka_unit_test(a_stop_leaves_what_runs_alone),
        cmocka_unit_test(tests_of_the_other_role_are_left_alone),
        cmocka_unit_test(generations_stand_side_by_side),
        cmocka_unit_test(a_folder_that_is_not_there_says_so),
        cmocka_unit_test(faults_are_counted),
    };
    log_open("test", LOG_ERROR + 1, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
