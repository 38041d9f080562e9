/* The strict decoder of chunked bodies: each text is fed whole and in two parts, cut at every place. */
#include "../check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/slice.h"
#include "ingest/chunks.h"

struct decoded {
    ssize_t result;
    char *bytes; /* the body, and what was left behind it */
    size_t len;  /* of the body */
};

/* As the library does it: what newly came lies behind the body so far. */
static struct decoded decode(const char *text, size_t len, size_t cut)
{
    struct chunks chunks = {.unused = 1};
    struct decoded d = {CHUNKS_INCOMPLETE, malloc(len + 1), 0};
    size_t starts[] = {0, cut, len};
    for (int part = 0; part < 2 && d.result == CHUNKS_INCOMPLETE; part++) {
        size_t n = starts[part + 1] - starts[part], rest = part == 0 ? len - cut : 0;
        memcpy(d.bytes + d.len, text + starts[part], n);
        d.result = chunks_decode(&chunks, d.bytes + d.len, &n);
        d.len += n;
        if (d.result >= 0) { /* what was not fed yet is behind the end too */
            memcpy(d.bytes + d.len + d.result, text + len - rest, rest);
            d.result += (ssize_t)rest;
        }
    }
    return d;
}

static void assert_decoded(const char *text, const char *body, const char *behind)
{
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        struct decoded d = decode(text, strlen(text), cut);
        if (d.result != (ssize_t)strlen(behind) || !slice_equal((struct slice){d.bytes, d.len}, slice_of(body)) ||
            memcmp(d.bytes + d.len, behind, strlen(behind)) != 0)
            fail_msg("cut at %zu: %zd, '%.*s' of\n%s", cut, d.result, (int)d.len, d.bytes, text);
        free(d.bytes);
    }
}

static void assert_result(const char *text, size_t len, ssize_t result)
{
    for (size_t cut = 0; cut <= len; cut++) {
        struct decoded d = decode(text, len, cut);
        if (d.result != result)
            fail_msg("cut at %zu: %zd of\n%s", cut, d.result, text);
        free(d.bytes);
    }
}

static void bodies_are_put_together(void **state)
{
    (void)state;
    assert_decoded("0\r\n\r\n", "", "");
    assert_decoded("5\r\nhello\r\n0\r\n\r\n", "hello", "");
    assert_decoded("1\r\nh\r\n4\r\nello\r\n0\r\n\r\nPOST / HTTP/1.1\r\n", "hello", "POST / HTTP/1.1\r\n");
    assert_decoded("00A\r\n0123456789\r\nb\r\n\r\n0\r\n\r\nabcd\r\n000\r\n\r\n", "0123456789\r\n0\r\n\r\nabcd", "");
}

static void extensions_and_trailers_are_left_out(void **state)
{
    (void)state;
    assert_decoded("5;a\r\nhello\r\n0;b=\"c;d\"\r\n\r\n", "hello", "");
    assert_decoded("5 \t; a = b\r\nhello\r\n0\r\n\r\n", "hello", "");
    assert_decoded("5\r\nhello\r\n0\r\nDigest: x\r\nContent-Length: 3\r\n\r\nnext", "hello", "next");
}

static void what_is_cut_off_is_incomplete(void **state)
{
    (void)state;
    const char text[] = "5;a\r\nhello\r\n0\r\nT: 1\r\n\r\n";
    for (size_t len = 0; len < sizeof text - 1; len++)
        assert_result(text, len, CHUNKS_INCOMPLETE);
}

static void what_others_may_read_differently_is_broken(void **state)
{
    (void)state;
    const char *const texts[] = {
        "\r\n",
        ";a\r\n",
        "-1\r\n",
        "+5\r\nhello",
        " 5\r\nhello",
        "g\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5\rhello",
        "5\rX\nhello",
        "5;a\rb\r\nhello",
        "5;\x01\r\nhello",
        "5;\x7f\r\nhello",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\nT: 1\n\r\n",
        "0\r\nT: \x02\r\n\r\n",
        "10000000000000000\r\n",
        "FFFFFFFFFFFFFFFF\r\n",
        "8000000000000000\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_result(texts[i], strlen(texts[i]), CHUNKS_BROKEN);
    assert_result("5;\0\r\nhello", 11, CHUNKS_BROKEN);
}

static ssize_t decode_extra(const char *before, size_t n)
{
    struct chunks chunks = {0};
    char text[64];
    size_t len = (size_t)snprintf(text, sizeof text, "%s", before);
    ssize_t result = chunks_decode(&chunks, text, &len);
    while (n-- > 0 && result == CHUNKS_INCOMPLETE) {
        text[0] = 'x';
        len = 1;
        result = chunks_decode(&chunks, text, &len);
    }
    return result;
}

static void extras_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(decode_extra("5;", CHUNKS_EXTRA_MAX_BYTES), CHUNKS_INCOMPLETE);
    assert_int_equal(decode_extra("5;", CHUNKS_EXTRA_MAX_BYTES + 1), CHUNKS_BROKEN);
    assert_int_equal(decode_extra("0\r\n", CHUNKS_EXTRA_MAX_BYTES), CHUNKS_INCOMPLETE);
    assert_int_equal(decode_extra("0\r\n", CHUNKS_EXTRA_MAX_BYTES + 1), CHUNKS_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_put_together),
        cmocka_unit_test(extensions_and_trailers_are_left_out),
        cmocka_unit_test(what_is_cut_off_is_incomplete),
        cmocka_unit_test(what_others_may_read_differently_is_broken),
        cmocka_unit_test(extras_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
