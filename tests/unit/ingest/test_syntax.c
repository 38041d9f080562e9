/* The path of an event, media types, and W3C trace context. */
#include "../check.h"

#include "ingest/syntax.h"

static void good_paths(void **state)
{
    (void)state;
    struct slice source;
    assert_true(syntax_event_path(slice_of("/v1/events/demo"), &source));
    assert_true(slice_is(source, "demo"));
    assert_true(syntax_event_path(slice_of("/v1/events/a-b_9"), &source));
    assert_true(syntax_event_path(slice_of("/v1/events/7"), &source));
    assert_true(syntax_event_path(slice_of("http://host/v1/events/demo"), &source));
    assert_true(slice_is(source, "demo"));
    assert_true(syntax_event_path(slice_of("HTTPS://[::1]:8080/v1/events/demo"), &source));
    assert_true(slice_is(source, "demo"));
}

static void bad_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "",
        "/",
        "/v1/events",
        "/v1/events/",
        "/v1/events/demo/",
        "/v1/events/demo/x",
        "/v1/events//demo",
        "//v1/events/demo",
        "/v1/./events/demo",
        "/v1/events/../events/demo",
        "/v1/events/..",
        "/v1/events/demo?a=b",
        "/v1/events/demo#a",
        "/v1/events/dem%6f",
        "/v1/%65vents/demo",
        "/V1/events/demo",
        "/v1/events/Demo",
        "/v1/events/-demo",
        "/v1/events/de mo",
        "http:///v1/events/demo",
        "http://host",
        "http://host//v1/events/demo",
        "http://host?/v1/events/demo",
        "http://user@host/v1/events/demo",
        "http:/v1/events/demo",
        "ftp://host/v1/events/demo",
        "v1/events/demo",
        "*",
        "/v1/events/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", /* 65 bytes */
    };
    struct slice source;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (syntax_event_path(slice_of(paths[i]), &source))
            fail_msg("taken: %s", paths[i]);
    }
}

static void json_types(void **state)
{
    (void)state;
    static const char *const good[] = {"application/json",
                                       "Application/JSON",
                                       "application/json; charset=utf-8",
                                       "application/json;charset=utf-8",
                                       "application/json ;x",
                                       "application/cloudevents+json",
                                       "application/vnd.acme.v1+json; charset=utf-8"};
    static const char *const bad[] = {"",
                                      "json",
                                      "text/json",
                                      "text/plain",
                                      "application/",
                                      "application/xml",
                                      "application/jsonx",
                                      "application/json x",
                                      "application/json, text/plain",
                                      "application/+json",
                                      "application/json+xml",
                                      "application/x-www-form-urlencoded",
                                      "multipart/form-data; boundary=application/json"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!syntax_is_json_type(slice_of(good[i])))
            fail_msg("refused: %s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (syntax_is_json_type(slice_of(bad[i])))
            fail_msg("taken: %s", bad[i]);
    }
}

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static void traceparents(void **state)
{
    (void)state;
    static const char *const good[] = {"00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-00",
                                       "01-" TRACE "-" PARENT "-01",
                                       "cc-" TRACE "-" PARENT "-01-what-the-future-brings"};
    static const char *const bad[] = {"",
                                      "00",
                                      "ff-" TRACE "-" PARENT "-01",
                                      "00-" TRACE "-" PARENT "-01-more",
                                      "00-" TRACE "-" PARENT "-0",
                                      "00-" TRACE "-" PARENT "-0g",
                                      "00-" TRACE "-" PARENT "-01 ",
                                      "01-" TRACE "-" PARENT "-01x",
                                      "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
                                      "00-00000000000000000000000000000000-" PARENT "-01",
                                      "00-" TRACE "-0000000000000000-01",
                                      "00_" TRACE "-" PARENT "-01",
                                      "0g-" TRACE "-" PARENT "-01"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!syntax_is_traceparent(slice_of(good[i])))
            fail_msg("refused: %s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (syntax_is_traceparent(slice_of(bad[i])))
            fail_msg("taken: %s", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_paths),
        cmocka_unit_test(bad_paths),
        cmocka_unit_test(json_types),
        cmocka_unit_test(traceparents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
