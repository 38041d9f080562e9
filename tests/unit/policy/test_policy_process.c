/* The call into process.lua: the event, the effects that it asks for, and the ways an attempt can end. */
#include "../check.h"

#include <stdio.h>

#include "base/log.h"
#include "base/memory.h"
#include "harness.h"

struct run {
    const char *script;
    enum outcome_kind kind;
    const char *text; /* success: the result; else part of the message */
    const char *error_kind;
    int64_t retry_after_ms;
};

static void check_runs(const struct run *runs, size_t n)
{
    struct arena *arena = arena_new();
    for (size_t i = 0; i < n; i++) {
        struct policy *policy = harness_process(runs[i].script);
        struct event event = harness_event("{\"a\":[1,2],\"n\":null}");
        struct outcome out;
        harness_run(policy, &event, 2, arena, &out);
        bool right = out.kind == runs[i].kind && out.retry_after_ms == runs[i].retry_after_ms;
        if (out.kind == OUTCOME_SUCCESS)
            right = right && slice_is(out.result, runs[i].text);
        else
            right = right && contains(out.message, runs[i].text) && slice_is(out.error_kind, runs[i].error_kind);
        if (!right)
            fail_msg("%s\n gave %s (%.*s, %lld): %.*s%.*s", runs[i].script, outcome_name(out.kind),
                     SLICE_ARG(out.error_kind), (long long)out.retry_after_ms, SLICE_ARG(out.message),
                     SLICE_ARG(out.result));
        policy_free(policy);
    }
    arena_free(arena);
}

#define CHECK_RUNS(runs) check_runs((runs), sizeof(runs) / sizeof *(runs))

static void every_way_to_end(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"return function() end", OUTCOME_SUCCESS, "null", NULL, -1},
        {"return function() return {} end", OUTCOME_SUCCESS, "{}", NULL, -1},
        {"return function() return fail.transient('later') end", OUTCOME_TRANSIENT, "later", "transient", -1},
        {"return function() return fail.transient('later', { kind = 'busy', retry_after_ms = 1500.2 }) end",
         OUTCOME_TRANSIENT, "later", "busy", 1501},
        {"return function() return fail.permanent('never', { kind = 'bad_data' }) end", OUTCOME_PERMANENT, "never",
         "bad_data", -1},
        {"return function() return snooze(250) end", OUTCOME_SNOOZE, "", "snooze", 250},
        {"return function() return snooze(1e15) end", OUTCOME_SNOOZE, "", "snooze", INT64_C(30) * 86400000},
        {"return function() error(fail.transient('raised')) end", OUTCOME_TRANSIENT, "raised", "transient", -1},
        {"local function deep() error(fail.permanent('raised')) end return function() deep() end", OUTCOME_PERMANENT,
         "raised", "permanent", -1},
        {"return function() error(snooze(10)) end", OUTCOME_SNOOZE, "", "snooze", 10},
        {"return function()\n error('boom') end", OUTCOME_ERROR, "process.lua:2: boom", "error", -1},
        {"return function()\n return nil .. 'x' end", OUTCOME_ERROR, "process.lua:2: attempt to concatenate", "error",
         -1},
        {"return function() return 1 end", OUTCOME_ERROR, "returned a number", "error", -1},
        {"return function() return accept{} end", OUTCOME_ERROR, "verdict of another script", "error", -1},
        {"return function() return { f = print } end", OUTCOME_ERROR, "a value of type function (at f)", "error", -1},
        {"return function() return fail.transient() end", OUTCOME_ERROR, "string expected", "error", -1},
        {"return function() return fail.transient('x', { kind = 'Not A Word' }) end", OUTCOME_ERROR,
         "kind is a word of [a-z0-9_]", "error", -1},
        {"return function() return snooze(-1) end", OUTCOME_ERROR, "0 or more", "error", -1},
        {"return function() return snooze(0/0) end", OUTCOME_ERROR, "0 or more", "error", -1},
    };
    CHECK_RUNS(runs);
}

static void the_event_is_seen(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"return function(e, ctx) return { e.source, e.event_id, e.type, e.occurred_at, e.received_at_ms, e.attempt,\n"
         "  e.body, e.key, tostring(e.replay), tostring(e.traceparent), ctx.attempt, ctx.failures, ctx.key, "
         "ctx.worker,\n"
         "  tostring(e.nothing) } end",
         OUTCOME_SUCCESS,
         "[\"demo\",\"evt_1\",\"parcel.in_transit\",\"2026-01-31T12:00:00Z\",1769860800500,3,"
         "\"{\\\"a\\\":[1,2],\\\"n\\\":null}\",\"demo/evt_1\",\"nil\",\"nil\",3,2,\"demo/evt_1\",\"test\",\"nil\"]",
         NULL, -1},
        {"return function(e) return { same = e:json() == e:json(), n = e:json().n == json.null, a = #e:json().a } end",
         OUTCOME_SUCCESS, "{\"a\":2,\"n\":true,\"same\":true}", NULL, -1},
        {"return function(e, ctx) return { r = waybill.role, s = waybill.simulate, g = waybill.generation } end",
         OUTCOME_SUCCESS, "{\"g\":1,\"r\":\"worker\",\"s\":false}", NULL, -1},
    };
    CHECK_RUNS(runs);
}

static void values_become_exact_json(void **state)
{
    (void)state;
#define RETURNS(value) "return function() return { v = " value " } end"
#define REFUSED(value, what)                                                                                           \
    {                                                                                                                  \
        RETURNS(value), OUTCOME_ERROR, what, "error", -1                                                               \
    }
#define GIVES(value, json)                                                                                             \
    {                                                                                                                  \
        RETURNS(value), OUTCOME_SUCCESS, "{\"v\":" json "}", NULL, -1                                                  \
    }
    const struct run runs[] = {
        GIVES("1", "1"),
        GIVES("9007199254740993", "9007199254740993"),
        GIVES("math.mininteger", "-9223372036854775808"),
        GIVES("1.0", "1.0"),
        GIVES("0.1", "0.1"),
        GIVES("1/3", "0.3333333333333333"),
        GIVES("2^53", "9007199254740992.0"),
        GIVES("1e300", "1e+300"),
        GIVES("-0.0", "-0.0"),
        GIVES("'\"\\\\\\n\\0\\u{7f}\xc3\xb6'", "\"\\\"\\\\\\n\\u0000\\u007f\xc3\xb6\""),
        GIVES("json.null", "null"),
        GIVES("true", "true"),
        GIVES("{}", "{}"),
        GIVES("json.array{}", "[]"),
        GIVES("{ 1, { 2 }, {} }", "[1,[2],{}]"),
        GIVES("{ b = 1, a = 2, B = 3, ['a.b'] = 4, aa = 5 }", "{\"B\":3,\"a\":2,\"a.b\":4,\"aa\":5,\"b\":1}"),
        GIVES("mongo.date(1769860800000)", "{\"$date\":{\"$numberLong\":\"1769860800000\"}}"),
        REFUSED("0/0", "not finite (at v)"),
        REFUSED("math.huge", "not finite"),
        REFUSED("'\\xff'", "not UTF-8"),
        REFUSED("{ x = { '\\xed\\xa0\\x80' } }", "not UTF-8 (at v.x.[1])"),
        REFUSED("{ ['\\xff'] = 1 }", "not UTF-8"),
        REFUSED("{ 1, nil, 3 }", "holes"),
        REFUSED("{ 1, 2, x = 3 }", "neither a list"),
        REFUSED("{ [true] = 3 }", "neither a list"),
        REFUSED("{ [1.5] = 3 }", "neither a list"),
        REFUSED("json.array{ x = 1 }", "other keys than 1 to n"),
        REFUSED("('x'):rep(5000000)", "larger than 4 MiB"),
        {"return function() local t = {} t.t = t return t end", OUTCOME_ERROR, "or a cycle", "error", -1},
        {"return function() local t = {} for i = 1, 63 do t = { t } end return { n = #json.encode(t) } end",
         OUTCOME_SUCCESS, "{\"n\":128}", NULL, -1},
        {"return function() local t = {} for i = 1, 64 do t = { t } end return t end", OUTCOME_ERROR, "deeper than 64",
         "error", -1},
        /* raw access: no metamethod runs */
        {"return function() return setmetatable({ a = 1 }, { __index = error, __pairs = error, __len = error }) end",
         OUTCOME_SUCCESS, "{\"a\":1}", NULL, -1},
    };
    CHECK_RUNS(runs);
}

#define WRITE(fields)  "return function(_, ctx)\n ctx:write{ " fields " } end"
#define UPDATE(update) WRITE("collection = 'parcels', id = 'p1', update = " update)

static void writes_are_collected(void **state)
{
    (void)state;
    struct policy *policy =
        harness_process("return function(e, ctx)\n"
                        "  ctx:write{ collection = 'parcels', id = 'p1', update = { ['$set'] = { a = 1, ['b.c'] = 1.0, "
                        "d = json.null },\n"
                        "    ['$push'] = { list = { ['$each'] = { 1 }, ['$sort'] = { at = 1 }, ['$slice'] = -5 } },\n"
                        "    ['$min'] = { first = mongo.date(5) }, ['$inc'] = { n = mongo.long(1) } } }\n"
                        "  ctx:write{ collection = 'parcels', id = 'p2', update = { ['$unset'] = { a = '' } } }\n"
                        "  ctx:write{ collection = 'other-1', id = 'p1', update = { ['$addToSet'] = { a = { ['$each'] "
                        "= json.array{} } } } }\n"
                        "  ctx:write{ collection = 'a', id = '1', update = { ['$inc'] = { a = 1 } } }\n"
                        "  ctx:write{ collection = 'a', id = '2', update = { ['$inc'] = { a = 1 } } }\n"
                        "  ctx:publish('parcels.changed', { id = 'p1', list = json.array{}, ['$any'] = 1 })\n"
                        "  ctx:publish{topic = 't', payload = 'text'}\n"
                        "  return { done = true }\n"
                        "end");
    struct arena *arena = arena_new();
    struct event event = harness_event("{}");
    struct outcome out;
    harness_run(policy, &event, 0, arena, &out);
    if (out.kind != OUTCOME_SUCCESS)
        fail_msg("%.*s", SLICE_ARG(out.message));
    assert_int_equal(out.n_writes, 5);
    assert_string_equal(
        out.writes[0].update.base,
        "{\"$inc\":{\"n\":{\"$numberLong\":\"1\"}},\"$min\":{\"first\":{\"$date\":{\"$numberLong\":\"5\"}}},"
        "\"$push\":{\"list\":{\"$each\":[1],\"$slice\":-5,\"$sort\":{\"at\":1}}},"
        "\"$set\":{\"a\":1,\"b.c\":1.0,\"d\":null}}");
    assert_string_equal(out.writes[1].id.base, "p2");
    assert_string_equal(out.writes[2].collection.base, "other-1");
    assert_string_equal(out.writes[2].update.base, "{\"$addToSet\":{\"a\":{\"$each\":[]}}}");
    assert_string_equal(out.writes[4].id.base, "2");
    assert_int_equal(out.n_publishes, 2);
    assert_string_equal(out.publishes[0].topic.base, "parcels.changed");
    assert_string_equal(out.publishes[0].payload.base, "{\"$any\":1,\"id\":\"p1\",\"list\":[]}");
    assert_string_equal(out.publishes[1].payload.base, "\"text\"");
    policy_free(policy);
    arena_free(arena);
}

static void bad_writes_are_refused(void **state)
{
    (void)state;
#define BAD(script, what)                                                                                              \
    {                                                                                                                  \
        script, OUTCOME_ERROR, what, "error", -1                                                                       \
    }
    const struct run runs[] = {
        BAD(WRITE("id = 'p1', update = {}"), "process.lua:2: ctx:write wants a string as collection"),
        BAD(WRITE("collection = 'a', id = 1, update = {}"), "wants a string as id"),
        BAD(WRITE("collection = 'a', id = '', update = {}"), "an id is a string of 1 to 1000 bytes"),
        BAD(WRITE("collection = 'a', id = '\\xff', update = {}"), "an id is"),
        BAD(WRITE("collection = 'a', id = 'x', update = 1"), "a table of update operators"),
        BAD(WRITE("collection = 'a', id = 'x', upsert = 1, update = {}"), "does not know the field 'upsert'"),
        BAD(WRITE("collection = 'A b', id = 'x', update = {}"), "a collection name is made of"),
        BAD(WRITE("collection = 'a$b', id = 'x', update = {}"), "a collection name is made of"),
        BAD(WRITE("collection = 'events', id = 'x', update = {}"), "not for scripts"),
        BAD(WRITE("collection = 'dead_letters', id = 'x', update = {}"), "not for scripts"),
        BAD(WRITE("collection = 'system.users', id = 'x', update = {}"), "not for scripts"),
        BAD(UPDATE("{}"), "empty update"),
        BAD(UPDATE("{ a = 1 }"), "not an update operator (at a)"),
        BAD(UPDATE("{ ['$where'] = { a = 1 } }"), "not an update operator"),
        BAD(UPDATE("{ { ['$set'] = { a = 1 } } }"), "a table of update operators"),
        BAD(UPDATE("{ ['$set'] = { _id = 1 } }"), "a field that Waybill keeps itself"),
        BAD(UPDATE("{ ['$set'] = { applied = 1 } }"), "a field that Waybill keeps itself"),
        BAD(UPDATE("{ ['$set'] = { ['applied.x'] = 1 } }"), "a field that Waybill keeps itself"),
        BAD(UPDATE("{ ['$set'] = { ['$x'] = 1 } }"), "not a field name"),
        BAD(UPDATE("{ ['$set'] = { [''] = 1 } }"), "not a field name"),
        /* data of a stranger cannot become a type or an operator */
        BAD(UPDATE("{ ['$set'] = { a = { ['$date'] = 'x' } } }"), "begins with '$'"),
        BAD(UPDATE("{ ['$push'] = { a = { b = { ['$each'] = {} } } } }"), "begins with '$'"),
        BAD(UPDATE("{ ['$set'] = { a = { { ['$oid'] = 'x' } } } }"), "begins with '$'"),
        BAD("return function(_, ctx) for i = 1, 101 do ctx:publish('t', i) end end", "more than 100 writes"),
        BAD("return function(_, ctx) for i = 1, 2 do ctx:publish('t', ('x'):rep(3000000)) end end",
            "process.lua:1: more than 4194304 bytes of writes and messages"),
        BAD("return function(_, ctx)\n for i = 1, 2 do\n ctx:write{ collection = 'a', id = 'x' .. i,\n"
            "update = { ['$set'] = { a = ('x'):rep(3000000) } } } end end",
            "process.lua:3: more than 4194304 bytes of writes and messages"),
        BAD("return function(_, ctx) ctx:publish('t', ('x'):rep(3000000)) return { a = ('x'):rep(3000000) } end",
            "process.lua returned a table that is, with its writes and messages, larger than 4194304 bytes"),
        BAD("return function(_, ctx) for i = 1, 2 do ctx:write{ collection = 'a', id = 'i',\n"
            "update = { ['$inc'] = { n = 1 } } } end end",
            "a second write to a 'i'"),
        BAD("return function(_, ctx) ctx:publish('T', 1) end", "a topic is made of"),
        BAD("return function(_, ctx) ctx:publish('t') end", "value expected"),
        BAD("return function(_, ctx) ctx:publish{payload = 1} end", "string expected"),
        BAD("return function(_, ctx) ctx.write({}, {}) end", "ctx expected"),
        BAD("return function() mongo.date(0/0) end", "not a time"),
    };
    CHECK_RUNS(runs);
}

static void a_failure_has_no_effects(void **state)
{
    (void)state;
    const char *endings[] = {"return fail.transient('x')", "return snooze(1)", "error('x')", "return 1"};
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        struct slice script =
            arena_printf(arena,
                         "return function(_, ctx) ctx:publish('t', 1)\n"
                         "ctx:write{ collection = 'a', id = '1', update = { ['$inc'] = { n = 1 } } }\n"
                         "%s end",
                         endings[i]);
        struct policy *policy = harness_process(script.base);
        struct event event = harness_event("{}");
        struct outcome out;
        harness_run(policy, &event, 0, arena, &out);
        assert_int_not_equal(out.kind, OUTCOME_SUCCESS);
        assert_int_equal(out.n_writes, 0);
        assert_int_equal(out.n_publishes, 0);
        policy_free(policy);
    }
    arena_free(arena);
}

static void a_body_that_is_no_json_fails_for_good(void **state)
{
    (void)state;
    struct policy *policy = harness_process("return function(e) return e:json() end");
    struct arena *arena = arena_new();
    struct event event = harness_event("{\"a\":");
    struct outcome out;
    harness_run(policy, &event, 0, arena, &out);
    assert_int_equal(out.kind, OUTCOME_PERMANENT);
    assert_true(slice_is(out.error_kind, "invalid_json"));
    policy_free(policy);
    arena_free(arena);
}

/* Hosts */

static bool find(void *arg, struct slice collection, struct slice id, struct arena *arena, struct slice *json,
                 struct error *err)
{
    if (slice_is(id, "away")) {
        error_set(err, "no server answers");
        return false;
    }
    if (slice_is(id, "there"))
        *json = arena_printf(arena, "{\"collection\":\"%.*s\",\"n\":%d,\"at\":{\"$date\":\"2026-01-31T12:00:00Z\"}}",
                             SLICE_ARG(collection), *(int *)arg);
    return true;
}

static bool answer(void *arg, const struct policy_http_request *request, struct arena *arena,
                   struct policy_http_response *response, struct error *err)
{
    if (strstr(request->url, "refused") != NULL) {
        error_set(err, "connection refused");
        return false;
    }
    struct buf *seen = arg;
    buf_printf(seen, "%s %s %.*s %lld", request->method, request->url, SLICE_ARG(request->body),
               (long long)request->timeout_ms);
    for (size_t i = 0; i < request->n_headers; i++)
        buf_printf(seen, " [%s]", request->headers[i]);
    const char *headers = "Content-Type: text/plain\r\nX-A: 1\r\nx-a:2 \r\n\r\n";
    *response = (struct policy_http_response){201, arena_copy(arena, headers, strlen(headers)), SLICE_LITERAL("hello")};
    return true;
}

static struct policy *with_host(const char *process, int *n, struct buf *seen)
{
    struct policy_options options = harness_options(POLICY_WORKER);
    options.host = (struct policy_host){n, find};
    options.http = (struct policy_http){seen, answer};
    struct error err;
    struct policy *policy = harness_policy(
        &options,
        (struct file[]){{"process.lua", process}, {"retry_policy.lua", "return function() return default() end"}, {0}},
        &err);
    assert_non_null(policy);
    return policy;
}

static void run_with_host(const char *process, struct buf *seen, struct arena *arena, struct outcome *out)
{
    int n = 7;
    struct policy *policy = with_host(process, &n, seen);
    struct event event = harness_event("{}");
    harness_run(policy, &event, 0, arena, out);
    policy_free(policy);
}

static void documents_are_found(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct outcome out;
    run_with_host(
        "return function(_, ctx) local d = ctx:find('parcels', 'there')\n"
        "return { c = d.collection, n = d.n, at = mongo.ms(d.at), none = mongo.find('parcels', 'x') == nil } end",
        NULL, arena, &out);
    assert_true(slice_is(out.result, "{\"at\":1769860800000,\"c\":\"parcels\",\"n\":7,\"none\":true}"));
    /* a store that is away is nobody's failure */
    run_with_host("return function(_, ctx) return ctx:find('parcels', 'away') end", NULL, arena, &out);
    assert_int_equal(out.kind, OUTCOME_SNOOZE);
    assert_in_range(out.retry_after_ms, 1000, 2000);
    assert_true(contains(out.message, "no server answers"));
    run_with_host("return function(_, ctx) return ctx:find('system.users', 'x') end", NULL, arena, &out);
    assert_int_equal(out.kind, OUTCOME_ERROR);
    struct policy *policy = harness_process("return function(_, ctx) return ctx:find('parcels', 'x') end");
    struct event event = harness_event("{}");
    harness_run(policy, &event, 0, arena, &out);
    assert_true(contains(out.message, "in a call of process.lua only"));
    policy_free(policy);
    arena_free(arena);
}

static void http_goes_through_the_host(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct buf seen = {0};
    struct outcome out;
    run_with_host("return function() local r = http.request{ url = 'https://x.test/a', method = 'PUT', body = 'b',\n"
                  "timeout_ms = 50, headers = { ['X-Key'] = 'k' } } return r end",
                  &seen, arena, &out);
    assert_string_equal(seen.data, "PUT https://x.test/a b 50 [X-Key: k]");
    assert_true(
        slice_is(out.result,
                 "{\"body\":\"hello\",\"headers\":{\"content-type\":\"text/plain\",\"x-a\":\"1, 2\"},\"status\":201}"));
    buf_clear(&seen);
    run_with_host("return function() http.request{ url = 'http://x.test/', timeout_ms = 1e9 } end", &seen, arena, &out);
    int timeout = atoi(seen.data + strlen("GET http://x.test/  "));
    assert_in_range(timeout, 1, 5000); /* never more than is left of the call */
    run_with_host("return function() return { select(2, http.request{ url = 'http://refused/' }) } end", &seen, arena,
                  &out);
    assert_true(slice_is(out.result, "[\"connection refused\"]"));
    const char *bad[] = {"url = 'file:///etc/passwd'",
                         "url = 'http://a b/'",
                         "url = 'http://x/\\r\\nX: y'",
                         "url = 5",
                         "",
                         "url = 'http://x/', method = 'get'",
                         "url = 'http://x/', headers = { ['A'] = 'b\\r\\nC: d' }",
                         "url = 'http://x/', headers = { ['A:'] = 'b' }",
                         "url = 'http://x/', timeout_ms = 0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct slice script = arena_printf(arena, "return function() http.request{ %s } end", bad[i]);
        run_with_host(script.base, &seen, arena, &out);
        if (out.kind != OUTCOME_ERROR || !contains(out.message, "process.lua:1: http.request"))
            fail_msg("%s gave %.*s", bad[i], SLICE_ARG(out.message));
    }
    buf_free(&seen);
    arena_free(arena);
}

/* Our string functions against what Lua's manual says. */
static void patterns_work_as_in_lua(void **state)
{
    (void)state;
#define SAYS(expression, json)                                                                                         \
    {                                                                                                                  \
        "return function() return { " expression " } end", OUTCOME_SUCCESS, json, NULL, -1                             \
    }
    const struct run runs[] = {
        SAYS("('hello world'):find('o w')", "[5,7]"),
        SAYS("('hello'):find('l')", "[3,3]"),
        SAYS("('hello'):find('l', 4)", "[4,4]"),
        SAYS("('hello'):find('l', -1)", "{}"),
        SAYS("('hello'):find('')", "[1,0]"),
        SAYS("('hello'):find('', 6)", "[6,5]"),
        SAYS("tostring(('hello'):find('', 7))", "[\"nil\"]"),
        SAYS("('a.b'):find('.', 1, true)", "[2,2]"),
        SAYS("('a+b'):find('+b', 1, true)", "[2,3]"),
        SAYS("('key = value'):match('^(%w+)%s*=%s*(%w+)$')", "[\"key\",\"value\"]"),
        SAYS("('  trim me  '):match('^%s*(.-)%s*$')", "[\"trim me\"]"),
        SAYS("('2026-01-31'):match('(%d+)-(%d+)-(%d+)')", "[\"2026\",\"01\",\"31\"]"),
        SAYS("('hello'):match('()ll()')", "[3,5]"),
        SAYS("('THE (quick) fox'):find('%((%a+)%)')", "[5,11,\"quick\"]"),
        SAYS("('f(a(b)c)d'):match('%b()')", "[\"(a(b)c)\"]"),
        SAYS("('THE (quick) fox'):gsub('%f[%a]%a+', '<%0>')", "[\"<THE> (<quick>) <fox>\",3]"),
        SAYS("('\"it\\'s\" x'):match('([\"\\'])(.-)%1')", "[\"\\\"\",\"it's\"]"),
        SAYS("('abc'):match('^b')", "{}"),
        SAYS("tostring(('abc'):match('d*'))", "[\"\"]"),
        SAYS("('aaab'):match('a-b')", "[\"aaab\"]"),
        SAYS("('aaab'):match('a?ab')", "[\"aab\"]"),
        SAYS("('x^y'):match('[%^]')", "[\"^\"]"),
        SAYS("('a]b'):match('[]]')", "[\"]\"]"),
        SAYS("('a-b'):match('[a%-]+')", "[\"a-\"]"),
        SAYS("('abc123'):match('[^%a]+')", "[\"123\"]"),
        SAYS("('m'):match('[a-z]')", "[\"m\"]"),
        SAYS("('a\\0b'):match('%z') or 'no z'", "[\"no z\"]"),
        SAYS("#('a\\0b'):match('.+')", "[3]"),
        SAYS("('abc'):gsub('', '-')", "[\"-a-b-c-\",4]"),
        SAYS("('hello world'):gsub('o', '0', 1)", "[\"hell0 world\",1]"),
        SAYS("('abc'):gsub('%w', '%0%0')", "[\"aabbcc\",3]"),
        SAYS("('hello world'):gsub('(%w+) (%w+)', '%2 %1')", "[\"world hello\",1]"),
        SAYS("('$name is $age'):gsub('%$(%w+)', { name = 'Bob', age = 5 })", "[\"Bob is 5\",2]"),
        SAYS("('abc'):gsub('%w', { a = false })", "[\"abc\",3]"),
        SAYS("('abc'):gsub('^a', 'x')", "[\"xbc\",1]"),
        SAYS("('aaa'):gsub('^a', 'x')", "[\"xaa\",1]"),
        SAYS("('100%'):gsub('%%', '%%%%')", "[\"100%%\",1]"),
        SAYS("(function() local t = {} for k, v in ('a=1, b=2'):gmatch('(%w)=(%w)') do t[k] = v end return t end)()",
             "[{\"a\":\"1\",\"b\":\"2\"}]"),
        SAYS("(function() local n = 0 for _ in ('abc'):gmatch('') do n = n + 1 end return n end)()", "[4]"),
        SAYS("(function() local t = {} for w in ('one two'):gmatch('%a+', 3) do t[#t + 1] = w end return t end)()",
             "[[\"e\",\"two\"]]"),
#define RAISES(expression, what) {"return function() local _ = " expression " end", OUTCOME_ERROR, what, "error", -1}
        RAISES("('a'):find('[a')", "process.lua:1: malformed pattern (missing ']')"),
        RAISES("('a'):find('%')", "malformed pattern (ends with '%')"),
        RAISES("('a'):find('(a')", "unfinished capture"),
        RAISES("('a'):match('a)')", "invalid pattern capture"),
        RAISES("('a'):find('%1')", "invalid capture index %1"),
        RAISES("('a'):find('%b')", "missing arguments to '%b'"),
        RAISES("('a'):find('%f')", "missing '[' after '%f'"),
        RAISES("('a'):gsub('a', '%2')", "invalid capture index %2"),
        RAISES("('a'):gsub('a', '%x')", "invalid use of '%'"),
        RAISES("('a'):gsub('a', function() return {} end)", "invalid replacement value (a table)"),
        RAISES("('a'):gsub('a')", "string/function/table expected"),
        RAISES("('a'):rep(40):match(('(a)'):rep(33))", "too many captures"),
        RAISES("('x'):match(('x?'):rep(300) .. 'y')", "pattern too complex"),
    };
    CHECK_RUNS(runs);
}

static void times_are_read_and_written(void **state)
{
    (void)state;
    const struct run runs[] = {
        SAYS("time.parse('2026-01-31T12:00:00Z')", "[1769860800000]"),
        SAYS("time.parse('2026-01-31T13:00:00.5+01:00')", "[1769860800500]"),
        SAYS("tostring(time.parse('2026-02-30T12:00:00Z')), tostring(time.parse('now')), tostring(time.parse(5))",
             "[\"nil\",\"nil\",\"nil\"]"),
        SAYS("time.format(1769860800500)", "[\"2026-01-31T12:00:00.500Z\"]"),
        SAYS("math.type(time.now_ms())", "[\"integer\"]"),
        RAISES("time.format(0/0)", "not between the years"),
        RAISES("time.format(1e18)", "not between the years"),
    };
    CHECK_RUNS(runs);
}

static void bytes_are_handled(void **state)
{
    (void)state;
    const struct run runs[] = {
        SAYS("crypto.hex_encode(crypto.hmac_sha256(\"It's a Secret to Everybody\", 'Hello, ', 'World!'))",
             "[\"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\"]"),
        SAYS("crypto.hex_encode(crypto.sha256('abc'))",
             "[\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"]"),
        SAYS("crypto.base64_encode('abcd'), crypto.base64_decode('YWJjZA=='), "
             "tostring(crypto.base64_decode('YWJjZA')),\n"
             "crypto.base64_decode('YWJjZA', true), tostring(crypto.hex_decode('0g')), crypto.hex_decode('4A4b')",
             "[\"YWJjZA==\",\"abcd\",\"nil\",\"abcd\",\"nil\",\"JK\"]"),
        SAYS("crypto.equal('a', 'a'), crypto.equal('a', 'b'), crypto.equal('a', 'aa')", "[true,false,false]"),
        SAYS("json.decode('{\"a\":[1,-2,1.5,1e2,9007199254740991,9007199254740993,{\"b\":0}]}')",
             "[{\"a\":[1,-2,1.5,100,9007199254740991,9007199254740992.0,{\"b\":0}]}]"),
        SAYS("tostring(json.decode('[12]')[1])", "[\"12\"]"),
        SAYS("json.encode({ a = 1 }), tostring(json.decode('{')), select(2, json.decode('{'))",
             "[\"{\\\"a\\\":1}\",\"nil\",\"expected a member name at byte 1\"]"),
        RAISES("crypto.equal(1, '1')", "string expected"),
    };
    CHECK_RUNS(runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_end),
        cmocka_unit_test(the_event_is_seen),
        cmocka_unit_test(values_become_exact_json),
        cmocka_unit_test(writes_are_collected),
        cmocka_unit_test(bad_writes_are_refused),
        cmocka_unit_test(a_failure_has_no_effects),
        cmocka_unit_test(a_body_that_is_no_json_fails_for_good),
        cmocka_unit_test(documents_are_found),
        cmocka_unit_test(http_goes_through_the_host),
        cmocka_unit_test(patterns_work_as_in_lua),
        cmocka_unit_test(times_are_read_and_written),
        cmocka_unit_test(bytes_are_handled),
    };
    log_open("test", LOG_ERROR + 1, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
