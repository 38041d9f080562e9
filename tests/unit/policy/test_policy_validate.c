/* The call into validate.lua: what a script can ask of a request, and what C makes of its answer. */
#include "../check.h"

#include "base/log.h"
#include "base/memory.h"
#include "harness.h"

struct answer {
    const char *script; /* a validate.lua */
    const char *body;
    enum validation_kind kind;
    int status;         /* of accept or reject */
    const char *code;   /* reject */
    const char *detail; /* part of it; fault: of the error */
};

#define BODY_OF_JSON "return function(request) local body = request:json()\n return reject{ code = 'seen', detail = "

static const struct header headers[] = {{"x-one", "1"}, {"x-two", "a"}, {"x-two", "b"}, {0}};

static void check_answers(const struct answer *answers, size_t n)
{
    struct arena *arena = arena_new();
    for (size_t i = 0; i < n; i++) {
        const struct answer *want = &answers[i];
        struct policy *policy = harness_validate(want->script);
        struct validation out;
        harness_ask(policy, "demo", slice_of(want->body), headers, 1769860800500, arena, &out);
        int status = out.kind == VALIDATION_ACCEPT ? out.accept_status : out.status;
        if (out.kind != want->kind || status != want->status ||
            !slice_is(out.code, want->code == NULL ? "" : want->code) || !contains(out.detail, want->detail))
            fail_msg("%s with %s\n gave kind %d status %d %.*s: %.*s", want->script, want->body, out.kind, status,
                     SLICE_ARG(out.code), SLICE_ARG(out.detail));
        policy_free(policy);
    }
    arena_free(arena);
}

#define CHECK_ANSWERS(answers) check_answers((answers), sizeof(answers) / sizeof *(answers))

static void the_request_is_seen(void **state)
{
    (void)state;
    struct policy *policy = harness_validate(
        "return function(request, source)\n"
        "  return reject{ status = 400, code = 'seen', field = request.source_name, detail = table.concat({\n"
        "    request.body, request.content_type, tostring(request.received_at_ms), request:header('X-One'),\n"
        "    tostring(request:header('x-none')), table.concat(request:headers('x-two'), '+'),\n"
        "    tostring(select(2, request:sole_header('x-two'))), tostring(select(2, request:sole_header('x-none'))),\n"
        "    request:sole_header('x-one'), type(source) }, ' ') }\n"
        "end");
    struct arena *arena = arena_new();
    struct validation out;
    harness_ask(policy, "demo", slice_of("{}"), headers, 1769860800500, arena, &out);
    assert_string_equal(out.detail.base, "{} application/json 1769860800500 1 nil a+b repeated missing 1 table");
    assert_string_equal(out.field.base, "demo");
    harness_ask(policy, "other", slice_of("{}"), headers, 1769860800500, arena, &out);
    assert_true(contains(out.detail, " nil")); /* an unknown source */
    policy_free(policy);
    arena_free(arena);
}

static void a_nul_in_the_body_is_kept(void **state)
{
    (void)state;
    struct policy *policy = harness_validate("return function(request) return reject{ code = 'seen', detail =\n"
                                             "tostring(#request.body) .. tostring(request.body:byte(2)) } end");
    struct arena *arena = arena_new();
    struct validation out;
    harness_ask(policy, "demo", (struct slice){"a\0b", 3}, NULL, 0, arena, &out);
    assert_string_equal(out.detail.base, "30");
    policy_free(policy);
    arena_free(arena);
}

static void json_is_strict(void **state)
{
    (void)state;
    const char *touch = "return function(request) local _ = request:json() return reject{ code = 'seen' } end";
    const struct answer answers[] = {
        {touch, "{\"a\":1}", VALIDATION_REJECT, 422, "seen", ""},
        {touch, " {\"a\":[1,{\"b\":null}]}\n", VALIDATION_REJECT, 422, "seen", ""},
        {touch, "", VALIDATION_REJECT, 400, "invalid_json", "at byte 0"},
        {touch, "{\"a\":1", VALIDATION_REJECT, 400, "invalid_json", "at byte 6"},
        {touch, "{\"a\":1}x", VALIDATION_REJECT, 400, "invalid_json", "more after the end at byte 7"},
        {touch, "{\"a\":01}", VALIDATION_REJECT, 400, "invalid_json", "leading zero"},
        {touch, "{\"a\":NaN}", VALIDATION_REJECT, 400, "invalid_json", "byte 5"},
        {touch, "{\"a\":0x10}", VALIDATION_REJECT, 400, "invalid_json", ""},
        {touch, "{\"a\":1e999}", VALIDATION_REJECT, 400, "invalid_json", "out of range"},
        {touch, "{\"a\":\"\xff\"}", VALIDATION_REJECT, 400, "invalid_json", "UTF-8"},
        {touch, "{\"a\":\"\\ud800\"}", VALIDATION_REJECT, 400, "invalid_json", "surrogate"},
        {touch, "[]", VALIDATION_REJECT, 400, "not_an_object", "JSON object"},
        {touch, " \"text\"", VALIDATION_REJECT, 400, "not_an_object", ""},
        {touch, "null", VALIDATION_REJECT, 400, "not_an_object", ""},
        /* even when the script would swallow the error, it gets no value */
        {"return function(request) local ok, value = pcall(request.json, request)\n"
         "return reject{ code = ok and 'decoded' or 'refused' } end",
         "{", VALIDATION_REJECT, 422, "refused", ""},
    };
    CHECK_ANSWERS(answers);
}

static void json_values_arrive(void **state)
{
    (void)state;
    const struct answer answers[] = {
        {BODY_OF_JSON "tostring(body.a == json.null) } end", "{\"a\":null}", VALIDATION_REJECT, 422, "seen", "true"},
        {BODY_OF_JSON "body.a } end", "{\"a\":\"K\\u00f6ln \xf0\x9f\x93\xa6\"}", VALIDATION_REJECT, 422, "seen",
         "K\xc3\xb6ln \xf0\x9f\x93\xa6"},
        {BODY_OF_JSON "tostring(body.a[2].b) } end", "{\"a\":[1,{\"b\":true}]}", VALIDATION_REJECT, 422, "seen",
         "true"},
        {BODY_OF_JSON "tostring(request:json() == body) } end", "{}", VALIDATION_REJECT, 422, "seen", "true"},
        {BODY_OF_JSON "request.body } end", "{\"a\":9007199254740993}", VALIDATION_REJECT, 422, "seen",
         "9007199254740993"},
    };
    CHECK_ANSWERS(answers);
}

static void answers_are_checked(void **state)
{
    (void)state;
#define ACCEPT(fields) "return function()\n return accept{ " fields " } end"
#define REJECT(fields) "return function()\n return reject{ " fields " } end"
    const struct answer answers[] = {
        {ACCEPT("event_id = '1', type = 't', occurred_at = 'now'"), "", VALIDATION_ACCEPT, 202, NULL, ""},
        {ACCEPT("event_id = '1', type = 't', occurred_at = 'now', status = 200"), "", VALIDATION_ACCEPT, 200, NULL, ""},
        {ACCEPT("event_id = '1', type = 't', occurred_at = 'now', status = 302"), "", VALIDATION_FAULT, 0, NULL,
         "status 302"},
        {ACCEPT("event_id = 1, type = 't', occurred_at = 'now'"), "", VALIDATION_FAULT, 0, NULL,
         "event_id that is not a string"},
        /* the sender's values: a 422 that names the field */
        {ACCEPT("event_id = '', type = 't', occurred_at = 'now'"), "", VALIDATION_REJECT, 422, "invalid_field",
         "1 to 256"},
        {ACCEPT("event_id = 'a\\0b', type = 't', occurred_at = 'now'"), "", VALIDATION_REJECT, 422, "invalid_field",
         "control"},
        {ACCEPT("event_id = ('x'):rep(257), type = 't', occurred_at = 'now'"), "", VALIDATION_REJECT, 422,
         "invalid_field", "257"},
        {ACCEPT("event_id = 'x', type = '\\xff', occurred_at = 'now'"), "", VALIDATION_REJECT, 422, "invalid_field",
         "UTF-8"},
        {ACCEPT("event_id = 'x', type = 't'"), "", VALIDATION_REJECT, 422, "invalid_field", "1 to 64"},
        {REJECT("status = 404, code = 'gone_1'"), "", VALIDATION_REJECT, 404, "gone_1", ""},
        {REJECT("status = 410, code = 'gone'"), "", VALIDATION_FAULT, 0, NULL, "410"},
        {REJECT("status = 500, code = 'x'"), "", VALIDATION_FAULT, 0, NULL, "status 500"},
        {REJECT("status = 399, code = 'x'"), "", VALIDATION_FAULT, 0, NULL, "status 399"},
        {REJECT("status = '422', code = 'x'"), "", VALIDATION_FAULT, 0, NULL, "not a whole number"},
        {REJECT("status = 422.5, code = 'x'"), "", VALIDATION_FAULT, 0, NULL, "not a whole number"},
        {REJECT("status = 422"), "", VALIDATION_FAULT, 0, NULL, "without a code"},
        {REJECT("status = 422, code = 'Bad Code'"), "", VALIDATION_FAULT, 0, NULL, "without a code"},
        {REJECT("status = 422, code = 'x', detail = {}"), "", VALIDATION_FAULT, 0, NULL, "detail that is not a string"},
        {"return function() end", "", VALIDATION_FAULT, 0, NULL, "returned a nil"},
        {"return function() return true end", "", VALIDATION_FAULT, 0, NULL, "returned a boolean"},
        {"return function() return fail.permanent('x') end", "", VALIDATION_FAULT, 0, NULL, "returned a table"},
        {"return function() return accept('x') end", "", VALIDATION_FAULT, 0, NULL,
         "validate.lua:1: accept wants a table"},
        {"return function()\n error('boom') end", "", VALIDATION_FAULT, 0, NULL, "validate.lua:2: boom"},
        {"return function()\n local x = nil + 1 end", "", VALIDATION_FAULT, 0, NULL,
         "validate.lua:2: attempt to perform"},
        {"return function()\n error({}) end", "", VALIDATION_FAULT, 0, NULL, "error object is a table value"},
        {"return function() error(reject{ code = 'raised' }) end", "", VALIDATION_REJECT, 422, "raised", ""},
        {"return function() while true do end end", "", VALIDATION_FAULT, 0, NULL, "time limit"},
        {"return function() return ('x'):rep(1 << 30) end", "", VALIDATION_FAULT, 0, NULL, "lua:1: memory limit of "},
        {"return function() time.sleep_ms(1) end", "", VALIDATION_FAULT, 0, NULL, "time.sleep_ms is not there"},
        {"return function() return http.request{} end", "", VALIDATION_FAULT, 0, NULL, "undefined variable 'http'"},
        {"return function(r) return reject{ code = 'x', detail = r:header('x-two') } end", "", VALIDATION_REJECT, 400,
         "repeated_header", "once only"},
    };
    CHECK_ANSWERS(answers);
}

static void an_accepted_event_is_handed_out(void **state)
{
    (void)state;
    struct policy *policy =
        harness_validate("return function() return accept{ event_id = 'e-1', type = 't.x', occurred_at = 'when' } end");
    struct arena *arena = arena_new();
    struct validation out;
    harness_ask(policy, "demo", slice_of("{}"), NULL, 0, arena, &out);
    assert_string_equal(out.event_id.base, "e-1");
    assert_string_equal(out.type.base, "t.x");
    assert_string_equal(out.occurred_at.base, "when");
    policy_free(policy);
    arena_free(arena);
}

struct sources {
    const char *text;
    const char *message; /* NULL: loads */
};

#define VALIDATE "return function(_, source) return reject{ code = source and 'known' or 'unknown' } end"

static struct policy *with_sources(const char *text, struct error *err)
{
    struct policy_options options = harness_options(POLICY_INGEST);
    char a[] = "my_shop", a_values[] = "one  two\n", b[] = "nobody", b_values[] = "x";
    struct config_secret secrets[] = {{a, a_values}, {b, b_values}};
    options.secrets = secrets;
    options.n_secrets = 2;
    return harness_policy(&options, (struct file[]){{"sources.lua", text}, {"validate.lua", VALIDATE}, {0}}, err);
}

static void sources_are_checked(void **state)
{
    (void)state;
    const struct sources cases[] = {
        {"return 1", "sources.lua returned a number"},
        {"return { Demo = {} }", "'Demo' is not a source name"},
        {"return { ['a/b'] = {} }", "'a/b' is not a source name"},
        {"return { [1] = {} }", "'1' is not a source name"},
        {"return { demo = 1 }", "source 'demo' must be a table"},
        {"return { demo = { rate = 5 } }", "rate must be a table"},
        {"return { demo = { rate = { burst = 5 } } }", "rate without per_second"},
        {"return { demo = { rate = { per_second = -1 } } }", "rate.per_second is not a number above 0"},
        {"return { demo = { rate = { per_second = '1' } } }", "rate.per_second is not a number above 0"},
        {"return { demo = { rate = { per_second = 1, burst = 0.5 } } }", "would let nothing through"},
        {"return { demo = { accept_status = 302 } }", "accept_status must be 200 to 299"},
        {"return { demo = { secrets = 'x' } }", "secrets must be a list"},
        {"return {}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {{0}};
        struct policy *policy = with_sources(cases[i].text, &err);
        bool right =
            cases[i].message == NULL ? policy != NULL : policy == NULL && strstr(err.text, cases[i].message) != NULL;
        if (!right)
            fail_msg("%s gave: %s", cases[i].text, policy != NULL ? "a policy" : err.text);
        policy_free(policy);
    }
}

static void sources_without_secrets_are_off(void **state)
{
    (void)state;
    struct error err;
    struct policy *policy =
        with_sources("local s = secrets('my-shop') assert(#s == 2 and s[1] == 'one' and s[2] == 'two')\n"
                     "return { ['my-shop'] = { secrets = s, rate = { per_second = 2.5 } },\n"
                     "         off = { secrets = secrets('off') },\n"
                     "         free = { scheme = function() return true end, rate = { per_second = 5, burst = 50 } } }",
                     &err);
    assert_non_null(policy);
    const char *name;
    struct policy_source_limits limits;
    assert_true(policy_source(policy, 0, &name, &limits));
    assert_string_equal(name, "free");
    assert_true(limits.per_second == 5 && limits.burst == 50);
    assert_true(policy_source(policy, 1, &name, &limits));
    assert_string_equal(name, "my-shop");
    assert_true(limits.per_second == 2.5 && limits.burst == 2.5);
    assert_false(policy_source(policy, 2, &name, &limits));

    struct arena *arena = arena_new();
    struct validation out;
    harness_ask(policy, "my-shop", slice_of("{}"), NULL, 0, arena, &out);
    assert_true(slice_is(out.code, "known"));
    harness_ask(policy, "off", slice_of("{}"), NULL, 0, arena, &out);
    assert_true(slice_is(out.code, "unknown"));
    harness_ask(policy, "x", slice_of("{}"), NULL, 0, arena, &out);
    assert_true(slice_is(out.code, "unknown"));
    policy_free(policy);
    arena_free(arena);
}

static void secrets_are_recognised(void **state)
{
    (void)state;
    struct error err;
    struct policy *policy =
        with_sources("return { ['my-shop'] = { secrets = secrets('my-shop') }, other = { secrets = { '', 'a b' } },\n"
                     "         off = { secrets = {} }, free = { scheme = function() return true end } }",
                     &err);
    assert_non_null(policy);
    const struct {
        const char *source, *text;
        bool has;
    } cases[] = {
        {"my-shop", "one", true}, {"my-shop", "token=two;", true}, {"my-shop", "on", false}, {"my-shop", "", false},
        {"my-sho", "one", false}, {"my-shopp", "one", false},      {"other", "one", false},  {"other", "xa by", true},
        {"off", "one", false},    {"free", "one", false},          {"nobody", "one", false}, {"", "one", false},
        {"other", "a\tb", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (policy_has_secret(policy, slice_of(cases[i].source), slice_of(cases[i].text)) != cases[i].has)
            fail_msg("%s: '%s'", cases[i].source, cases[i].text);
    }
    policy_free(policy);
}

static void sources_give_the_accept_status(void **state)
{
    (void)state;
    struct policy_options options = harness_options(POLICY_INGEST);
    struct error err;
    struct policy *policy = harness_policy(
        &options,
        (struct file[]){
            {"sources.lua", "return { a = { scheme = function() return true end, accept_status = 200 } }"},
            {"validate.lua", "return function() return accept{ event_id = '1', type = 't', occurred_at = 'x' } end"},
            {0}},
        &err);
    assert_non_null(policy);
    struct arena *arena = arena_new();
    struct validation out;
    harness_ask(policy, "a", slice_of("{}"), NULL, 0, arena, &out);
    assert_int_equal(out.accept_status, 200);
    policy_free(policy);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_is_seen),    cmocka_unit_test(a_nul_in_the_body_is_kept),
        cmocka_unit_test(json_is_strict),         cmocka_unit_test(json_values_arrive),
        cmocka_unit_test(answers_are_checked),    cmocka_unit_test(an_accepted_event_is_handed_out),
        cmocka_unit_test(sources_are_checked),    cmocka_unit_test(sources_without_secrets_are_off),
        cmocka_unit_test(secrets_are_recognised), cmocka_unit_test(sources_give_the_accept_status),
    };
    log_open("test", LOG_ERROR + 1, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
