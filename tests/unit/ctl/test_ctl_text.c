/* What waybillctl reads and writes as text: flags, JSON, composed events, ages. */
#include "../check.h"

#include "base/json.h"
#include "ctl/compose.h"
#include "ctl/flags.h"
#include "ctl/json_read.h"
#include "ctl/output.h"

struct options {
    const char *name;
    int64_t limit;
    bool json;
};

static const struct flag flags[] = {
    {"name", FLAG_TEXT, offsetof(struct options, name), "TEXT", ""},
    {"limit", FLAG_COUNT, offsetof(struct options, limit), "N", ""},
    {"json", FLAG_SWITCH, offsetof(struct options, json), NULL, ""},
    {0},
};

static void flags_are_taken_and_the_rest_is_left(void **state)
{
    (void)state;
    char *argv[] = {"ctl", "--limit", "5", "word", "--name=a=b", "--redis-url", "x", "--json", "--names", NULL};
    int argc = 9;
    struct options options = {0};
    struct error err;
    assert_true(flags_take(flags, &options, &argc, argv, &err));
    assert_int_equal(argc, 5);
    assert_string_equal(argv[1], "word");
    assert_string_equal(argv[2], "--redis-url");
    assert_string_equal(argv[4], "--names");
    assert_null(argv[5]);
    assert_string_equal(options.name, "a=b");
    assert_int_equal(options.limit, 5);
    assert_true(options.json);
}

static void bad_flags_are_refused(void **state)
{
    (void)state;
    static char *const bad[][2] = {
        {"--limit", "-1"}, {"--limit", "5x"},      {"--limit", ""},  {"--limit", "99999999999999999999"},
        {"--name", NULL},  {"--json=yes", "word"}, {"--limit", NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *argv[] = {"ctl", bad[i][0], bad[i][1], NULL};
        int argc = bad[i][1] == NULL ? 2 : 3;
        struct options options = {0};
        struct error err;
        assert_false(flags_take(flags, &options, &argc, argv, &err));
    }
}

static void json_is_read_into_a_tree(void **state)
{
    (void)state;
    static const char text[] =
        " {\"a\":{\"b\":[1,-2, {\"c\":\"x\\u00e9\\ud83d\\ude9a\\n\\\"\\/\"}]},\"n\":null,\"t\":true,"
        "\"big\":9007199254740993,\"real\":1.5,\"empty\":{} ,\"list\":[]} ";
    struct arena *arena = arena_new();
    struct error err;
    const struct json_value *v = json_read(slice_of(text), arena, &err);
    assert_non_null(v);
    const struct json_value *list = json_get(json_get(v, "a"), "b");
    assert_int_equal(list->type, JSON_ARRAY);
    assert_int_equal(json_integer(list->first->next, 0), -2);
    assert_true(slice_is(json_text(json_get(list->first->next->next, "c")), "xé🚚\n\"/"));
    assert_int_equal(json_integer(json_get(v, "big"), 0), 9007199254740993);
    assert_int_equal(json_integer(json_get(v, "real"), -7), -7);
    assert_int_equal(json_text(json_get(v, "n")).len, 0);
    assert_null(json_get(v, "empty")->first);
    assert_true(slice_is(json_get(v, "a")->raw, "{\"b\":[1,-2, {\"c\":\"x\\u00e9\\ud83d\\ude9a\\n\\\"\\/\"}]}"));
    assert_null(json_get(json_get(v, "nothing"), "x"));
    assert_null(json_read(slice_of("{\"a\":}"), arena, &err));
    arena_free(arena);
}

static void times_are_read(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct error err;
    int64_t ms;
    const struct json_value *v = json_read(slice_of("[\"1970-01-01T00:00:01.5Z\",\"yesterday\",5]"), arena, &err);
    assert_true(json_time_ms(v->first, &ms));
    assert_int_equal(ms, 1500);
    assert_false(json_time_ms(v->first->next, &ms));
    assert_false(json_time_ms(v->first->next->next, &ms));
    assert_false(json_time_ms(NULL, &ms));
    arena_free(arena);
}

static void events_are_composed(void **state)
{
    (void)state;
    const struct compose_fields fields = {.event_id = "evt_1",
                                          .type = "parcel.delivered",
                                          .occurred_at = "2026-01-01T00:00:00Z",
                                          .tracking_number = "WB\"1",
                                          .location = "O'Hare",
                                          .simulate = " {\"fail\":\"permanent\"}\n",
                                          .data = "{ \"a\":1, \"b\":[] }"};
    struct buf body = {0};
    struct error err;
    assert_true(compose_event(&fields, &body, &err));
    assert_string_equal(
        body.data, "{\"event_id\":\"evt_1\",\"type\":\"parcel.delivered\",\"occurred_at\":\"2026-01-01T00:00:00Z\","
                   "\"data\":{\"tracking_number\":\"WB\\\"1\",\"status\":\"delivered\",\"location\":\"O'Hare\","
                   "\"simulate\":{\"fail\":\"permanent\"}, \"a\":1, \"b\":[] }}");
    assert_true(json_check(buf_slice(&body), &err));
    buf_free(&body);
}

static void empty_fields_are_left_out_and_missing_ones_made(void **state)
{
    (void)state;
    const struct compose_fields fields = {.tracking_number = "", .data = "{}"};
    struct arena *arena = arena_new();
    struct buf body = {0};
    struct error err;
    assert_true(compose_event(&fields, &body, &err));
    const struct json_value *event = json_read(buf_slice(&body), arena, &err);
    assert_non_null(event);
    int64_t ms;
    assert_int_equal(json_text(json_get(event, "event_id")).len, 4 + 26);
    assert_true(json_time_ms(json_get(event, "occurred_at"), &ms));
    assert_true(slice_is(json_text(json_get(json_get(event, "data"), "status")), "in_transit"));
    assert_null(json_get(json_get(event, "data"), "tracking_number"));
    buf_free(&body);
    arena_free(arena);
}

static void what_is_no_json_is_not_composed(void **state)
{
    (void)state;
    static const struct compose_fields bad[] = {
        {.data = "[]"}, {.data = "{\"a\":}"}, {.simulate = "yes"}, {.location = "{\"name\":"}, {.data = "{} {}"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf body = {0};
        struct error err;
        assert_false(compose_event(&bad[i], &body, &err));
        buf_free(&body);
    }
}

static void ages_are_short(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } ages[] = {{-12000, "in 12s"},       {0, "now"},        {999, "now"},        {1000, "1.0s ago"},
                {59999, "59s ago"},       {60000, "1m ago"}, {3600000, "1h ago"}, {86400000, "24h ago"},
                {2 * 86400000, "2d ago"}, {-250, "in 250ms"}};
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof ages / sizeof *ages; i++)
        assert_true(slice_is(output_age(arena, 1000000000000, 1000000000000 + ages[i].ms), ages[i].text));
    arena_free(arena);
}

static void words_of_a_shell_are_quoted(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    assert_true(slice_is(output_shell_word(arena, "demo/a b"), "'demo/a b'"));
    assert_true(slice_is(output_shell_word(arena, "x'; y; 'z"), "'x'\\''; y; '\\''z'"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_taken_and_the_rest_is_left),
        cmocka_unit_test(bad_flags_are_refused),
        cmocka_unit_test(json_is_read_into_a_tree),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(events_are_composed),
        cmocka_unit_test(empty_fields_are_left_out_and_missing_ones_made),
        cmocka_unit_test(what_is_no_json_is_not_composed),
        cmocka_unit_test(ages_are_short),
        cmocka_unit_test(words_of_a_shell_are_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
