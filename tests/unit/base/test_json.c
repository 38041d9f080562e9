/* The strict JSON check (RFC 8259) and the writer. */
#include "../check.h"

#include "base/json.h"

static bool accepts(const char *text)
{
    struct error err;
    return json_check(slice_of(text), &err);
}

static void accepts_every_kind_of_value(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{}",
        "[]",
        " \t\r\n{ } ",
        "\"\"",
        "0",
        "-0",
        "-0.0",
        "1e5",
        "1E+5",
        "12.5e-3",
        "true",
        "false",
        "null",
        "[1,2,[3,{\"a\":[]}],\"x\"]",
        "{\"a\":{\"b\":[null,true]},\"c\":\"\\u00e9\\\\\\/\\n\"}",
        "\"\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80 \xc3\xa9 \xed\x9f\xbf\"",
        "9007199254740993",
        "1e308",
        "{\"a\":1,\"a\":2}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!accepts(good[i]))
            fail_msg("refused: %s", good[i]);
    }
}

static void refuses_what_lenient_parsers_take(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{1:2}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "tru",
        "nul",
        "True",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"\t\"",
        "\"\x01\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"",
        "\"\xc0\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xff\"",
        "\"\xe2\x82\"",
        "{} {}",
        "1 2",
        "[] x",
        "// c\n1",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (accepts(bad[i]))
            fail_msg("accepted: %s", bad[i]);
    }
}

static void refuses_a_nul_byte_and_what_follows(void **state)
{
    (void)state;
    struct error err;
    assert_false(json_check((struct slice){"{\"a\":1}\0garbage", 15}, &err));
    assert_false(json_check((struct slice){"{\"a\":\"x\0y\"}", 11}, &err));
    assert_false(json_check((struct slice){"{}\0", 3}, &err));
}

static void bounds_the_depth(void **state)
{
    (void)state;
    char text[2 * (JSON_MAX_DEPTH + 1) + 1];
    for (size_t depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = '\0';
        assert_int_equal(accepts(text), depth == JSON_MAX_DEPTH);
    }
}

static void never_reads_past_the_end(void **state)
{
    (void)state;
    static const char whole[] = "{\"a\":[1.5e3,\"\\ud83d\\ude00\xf0\x9f\x98\x80\",true,null]}";
    for (size_t len = 0; len < sizeof whole - 1; len++) {
        char *exact = malloc(len + 1); /* a sanitizer sees the byte behind it */
        memcpy(exact, whole, len);
        exact = realloc(exact, len > 0 ? len : 1);
        struct error err;
        assert_false(json_check((struct slice){exact, len}, &err));
        free(exact);
    }
}

static void says_where_it_went_wrong(void **state)
{
    (void)state;
    struct error err;
    assert_false(json_check(SLICE_LITERAL("{\"a\":tru}"), &err));
    assert_string_equal(err.text, "unexpected character at byte 5");
}

static void writes_json_that_it_accepts(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer w = json_writer(&out);
    struct error err;
    json_object_open(&w);
    json_member_string(&w, "s", SLICE_LITERAL("a\"\\\n\x01\xff\xc3\xa9"));
    json_member_int(&w, "i", INT64_MIN);
    json_name(&w, "list");
    json_array_open(&w);
    json_double(&w, 0.1);
    json_null(&w);
    json_bool(&w, false);
    json_array_close(&w);
    json_object_close(&w);
    assert_string_equal(out.data, "{\"s\":\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa9\",\"i\":-9223372036854775808,"
                                  "\"list\":[0.10000000000000001,null,false]}");
    assert_true(json_check(buf_slice(&out), &err));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_kind_of_value),
        cmocka_unit_test(refuses_what_lenient_parsers_take),
        cmocka_unit_test(refuses_a_nul_byte_and_what_follows),
        cmocka_unit_test(bounds_the_depth),
        cmocka_unit_test(never_reads_past_the_end),
        cmocka_unit_test(says_where_it_went_wrong),
        cmocka_unit_test(writes_json_that_it_accepts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
