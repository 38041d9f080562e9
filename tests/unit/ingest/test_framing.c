/* The scan of raw request heads: what is sound passes, what is ambiguous or malformed is named. */
#include "../check.h"

#include <stdio.h>

#include "ingest/framing.h"

#define LINE "POST /v1/events/demo HTTP/1.1\r\n"
#define HOST "host: a\r\n"

static struct framing scan(const char *text)
{
    struct framing framing;
    framing_scan(slice_of(text), &framing);
    return framing;
}

static void assert_sound(const char *text, bool has_length, bool is_chunked)
{
    struct framing framing = scan(text);
    if (framing.problem != NULL)
        fail_msg("refused with: %s\n%s", framing.problem, text);
    assert_int_equal(framing.has_length, has_length);
    assert_int_equal(framing.is_chunked, is_chunked);
}

static void assert_refused(const char *text, const char *with)
{
    struct framing framing = scan(text);
    if (framing.problem == NULL)
        fail_msg("taken for sound:\n%s", text);
    if (strstr(framing.problem, with) == NULL)
        fail_msg("refused with '%s', not with '%s':\n%s", framing.problem, with, text);
}

static void sound_heads(void **state)
{
    (void)state;
    assert_sound(LINE HOST "content-length: 5\r\n\r\nhello", true, false);
    assert_sound(LINE HOST "Content-Length:5\r\n\r\n", true, false);
    assert_sound(LINE HOST "content-length: \t 0 \t\r\n\r\n", true, false);
    assert_sound(LINE HOST "Transfer-Encoding: chunked\r\n\r\n", false, true);
    assert_sound(LINE HOST "transfer-encoding: CHUNKED \r\n\r\n", false, true);
    assert_sound(LINE HOST "\r\n", false, false);
    assert_sound("\r\n" LINE HOST "\r\n", false, false);
    assert_sound("POST /v1/events/demo HTTP/1.0\r\n\r\n", false, false);
    assert_sound("POST /v1/events/demo HTTP/1.0\r\ncontent-length: 1\r\n\r\n", true, false);
    assert_sound(LINE HOST "x-empty:\r\nx-utf8: \xc3\xa9\r\nx-tab: a\tb\r\nx!#$%&'*+-.^_`|~9: token\r\n\r\n", false,
                 false);
}

static void what_follows_the_head_does_not_matter(void **state)
{
    (void)state;
    assert_sound(LINE HOST "content-length: 5\r\n\r\ncontent-length: 6\r\n\n\n\x01", true, false);
}

static void ambiguous_lengths(void **state)
{
    (void)state;
    assert_refused(LINE HOST "content-length: 5\r\ncontent-length: 5\r\n\r\n", "more than one Content-Length");
    assert_refused(LINE HOST "content-length: 0\r\nCONTENT-LENGTH: 44\r\n\r\n", "more than one Content-Length");
    assert_refused(LINE HOST "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", "both");
    assert_refused(LINE HOST "transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n", "both");
    assert_refused(LINE HOST "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                   "more than one Transfer");
    assert_refused("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.0");
}

static void encodings_other_than_chunked(void **state)
{
    (void)state;
    static const char *const values[] = {"gzip, chunked", "chunked, chunked", "chunked,", "xchunked", "identity", "",
                                         "\"chunked\"",   "chunked;a=b",      "chunke"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[256];
        snprintf(text, sizeof text, LINE HOST "transfer-encoding: %s\r\n\r\n", values[i]);
        assert_refused(text, "not exactly chunked");
    }
}

static void lengths_that_are_no_number(void **state)
{
    (void)state;
    static const char *const values[] = {"",    "-1",  "+5", "5 5", "5,5",  "0x5",
                                         "5.0", "1e3", "5a", " ",   "\xb2", "1234567890123456789"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[256];
        snprintf(text, sizeof text, LINE HOST "content-length: %s\r\n\r\n", values[i]);
        assert_refused(text, "not a decimal number");
    }
}

static void lines_that_are_no_headers(void **state)
{
    (void)state;
    assert_refused(LINE HOST "no colon\r\n\r\n", "no colon");
    assert_refused(LINE HOST " folded: a\r\n\r\n", "folded");
    assert_refused(LINE HOST "x: a\r\n\tfolded\r\n\r\n", "folded");
    assert_refused(LINE HOST ": no name\r\n\r\n", "malformed name");
    assert_refused(LINE HOST "x : space\r\n\r\n", "malformed name");
    assert_refused(LINE HOST "x y: space\r\n\r\n", "malformed name");
    assert_refused(LINE HOST "x\xe9: not ascii\r\n\r\n", "malformed name");
    assert_refused(LINE HOST "content-length : 5\r\n\r\n", "malformed name");
}

static void line_ends_and_control_characters(void **state)
{
    (void)state;
    assert_refused(LINE HOST "x: a\n\r\n", "CRLF");
    assert_refused("POST / HTTP/1.1\nhost: a\r\n\r\n", "CRLF");
    assert_refused(LINE HOST "x: a\r\n\n", "CRLF");
    assert_refused(LINE HOST "x: a\rb\r\n\r\n", "control character");
    assert_refused(LINE HOST "x: a\x01\r\n\r\n", "control character");
    assert_refused(LINE HOST "x: a\x7f\r\n\r\n", "control character");
    static const char with_nul[] = LINE HOST "x: a\0content-length: 5\r\n\r\n";
    struct framing framing;
    framing_scan((struct slice){with_nul, sizeof with_nul - 1}, &framing);
    assert_non_null(framing.problem);
}

static void hosts(void **state)
{
    (void)state;
    assert_refused(LINE "\r\n", "no Host");
    assert_sound(LINE "Host:\r\n\r\n", false, false);
    assert_sound(LINE "Host: a.example:8080\r\n\r\n", false, false);
    assert_sound(LINE "Host: [2001:db8::1]:80\r\n\r\n", false, false);
    assert_refused(LINE "Host: a b\r\n\r\n", "not a host name");
    assert_refused(LINE "Host: a/b\r\n\r\n", "not a host name");
    assert_refused(LINE "Host: a@b\r\n\r\n", "not a host name");
    assert_refused(LINE "Host: \xff\r\n\r\n", "not a host name");
    assert_refused(LINE HOST "Host: b\r\n\r\n", "more than one Host");
    assert_refused("POST / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", "more than one Host");
}

static void request_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {"POST /",          "POST",           " / HTTP/1.1",     "POST /a b HTTP/1.1",
                                        "POST / HTTP/2.0", "POST / HTTP/1.", "POST/ HTTP/1.1x", "HTTP/1.1"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s\r\nhost: a\r\n\r\n", lines[i]);
        assert_refused(text, "request line");
    }
}

/* A head is read in full or not at all: no cut of a good one is sound. */
static void every_cut_is_refused(void **state)
{
    (void)state;
    static const char text[] = LINE HOST "content-length: 5\r\n\r\n";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *copy = malloc(n + 1); /* of the exact size, so that a sanitizer sees a read beyond it */
        memcpy(copy, text, n);
        struct framing framing;
        framing_scan((struct slice){copy, n}, &framing);
        free(copy);
        assert_non_null(framing.problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_heads),
        cmocka_unit_test(what_follows_the_head_does_not_matter),
        cmocka_unit_test(ambiguous_lengths),
        cmocka_unit_test(encodings_other_than_chunked),
        cmocka_unit_test(lengths_that_are_no_number),
        cmocka_unit_test(lines_that_are_no_headers),
        cmocka_unit_test(line_ends_and_control_characters),
        cmocka_unit_test(hosts),
        cmocka_unit_test(request_lines),
        cmocka_unit_test(every_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
