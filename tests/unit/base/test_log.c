/* Log lines: one a call, whatever the names and values of its fields are. */
#include "../check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

/* What is written to standard error for one line with this field, without the time in front. */
static const char *line_of(enum log_format format, struct log_field field)
{
    static char text[1024];
    char path[] = "/tmp/waybill-log-XXXXXX";
    int file = mkstemp(path), real = dup(STDERR_FILENO);
    assert_true(file >= 0 && real >= 0);
    unlink(path);
    log_open("test", LOG_INFO, format);
    dup2(file, STDERR_FILENO);
    log_info("message", field);
    dup2(real, STDERR_FILENO);
    close(real);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    close(file);
    assert_true(n > 0);
    text[n] = '\0';
    const char *after_time = strstr(text, format == LOG_TEXT ? "info " : "\"level\"");
    assert_non_null(after_time);
    return after_time;
}

static void text_quotes_what_is_not_one_word(void **state)
{
    (void)state;
    const struct {
        struct log_field field;
        const char *line;
    } cases[] = {
        {LOG_S("name", "value"), "info  test: message name=value\n"},
        {LOG_I("name", -7), "info  test: message name=-7\n"},
        {LOG_S("name", ""), "info  test: message name=\"\"\n"},
        {LOG_S("name", "two words"), "info  test: message name=\"two words\"\n"},
        {LOG_S("name", "a\nb=\"c\""), "info  test: message name=\"a\\nb=\\\"c\\\"\"\n"},
        {LOG_S("a=b\n2026 info forged", "x"), "info  test: message \"a=b\\n2026 info forged\"=x\n"},
        {LOG_I("a b", 1), "info  test: message \"a b\"=1\n"},
        {LOG_S("", "x"), "info  test: message \"\"=x\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(line_of(LOG_TEXT, cases[i].field), cases[i].line);
}

static void json_is_json(void **state)
{
    (void)state;
    assert_string_equal(line_of(LOG_JSON, LOG_S("a\n\"", "b\n")),
                        "\"level\":\"info\",\"service\":\"test\",\"message\":\"message\",\"a\\n\\\"\":\"b\\n\"}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_quotes_what_is_not_one_word),
        cmocka_unit_test(json_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
