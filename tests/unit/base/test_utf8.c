/* Well-formed UTF-8, wherever in a text the bytes stand: the check takes eight at a time. */
#include "../check.h"

#include "base/utf8.h"

#define TEXT_BYTES 40

/* Is the sequence accepted at that place of a text that is ASCII otherwise? */
static bool accepts_at(const char *sequence, size_t at)
{
    char text[TEXT_BYTES];
    size_t len = strlen(sequence);
    memset(text, 'x', sizeof text);
    memcpy(text + at, sequence, len);
    return utf8_check((struct slice){text, sizeof text});
}

static void sequences_are_judged_at_every_place(void **state)
{
    (void)state;
    static const struct {
        const char *sequence;
        bool good;
    } cases[] = {
        {"\x7f", true},
        {"\xc2\x80", true},
        {"\xdf\xbf", true},
        {"\xe0\xa0\x80", true},
        {"\xed\x9f\xbf", true},
        {"\xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\x80", false},
        {"\xc0\x80", false},
        {"\xc3", false},
        {"\xe0\x9f\xbf", false},
        {"\xe2\x82", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5", false},
        {"\xff", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t at = 0; at + strlen(cases[i].sequence) <= TEXT_BYTES; at++)
            assert_int_equal(accepts_at(cases[i].sequence, at), cases[i].good);
    }
}

/* The last sequence is cut off, or just fits. */
static void the_end_is_the_end(void **state)
{
    (void)state;
    static const char text[] = "xxxxxxxxxxxxx\xe2\x82\xac";
    for (size_t start = 0; start < 13; start++) {
        for (size_t len = 0; len <= 16 - start; len++) {
            bool cut = start + len > 13 && start + len < 16;
            assert_int_equal(utf8_check((struct slice){text + start, len}), !cut);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_are_judged_at_every_place),
        cmocka_unit_test(the_end_is_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
