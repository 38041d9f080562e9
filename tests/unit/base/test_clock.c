/* RFC 3339 times, backoff. */
#include "../check.h"

#include "base/backoff.h"
#include "base/clock.h"

static int64_t parsed(const char *text)
{
    wall_time time;
    return clock_parse(slice_of(text), &time) ? time.ms : INT64_MIN;
}

static void reads_times_of_all_zones(void **state)
{
    (void)state;
    assert_int_equal(parsed("1970-01-01T00:00:00Z"), 0);
    assert_int_equal(parsed("2026-01-31T12:00:00Z"), 1769860800000);
    assert_int_equal(parsed("2026-01-31T12:00:00.5Z"), 1769860800500);
    assert_int_equal(parsed("2026-01-31T12:00:00.123456789Z"), 1769860800123);
    assert_int_equal(parsed("2026-01-31T17:45:00+05:45"), 1769860800000);
    assert_int_equal(parsed("2026-01-31T00:30:00-11:30"), 1769860800000);
    assert_int_equal(parsed("2024-02-29t23:59:60z"), 1709251200000);
    assert_int_equal(parsed("1969-12-31T23:59:59Z"), -1000);
}

static void refuses_what_is_no_time(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00Z",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+0545",
        "2026-01-31T12:00:00+05:60",
        "2026-01-31T12:00:00Zx",
        " 2026-01-31T12:00:00Z",
        "20260131T120000Z",
        "2026-1-31T12:00:00Z",
        "1900-02-29T00:00:00Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parsed(bad[i]) != INT64_MIN)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_BYTES];
    assert_string_equal(clock_format((wall_time){1769860800123}, text), "2026-01-31T12:00:00.123Z");
    assert_string_equal(clock_format((wall_time){-1}, text), "1969-12-31T23:59:59.999Z");
    assert_int_equal(parsed(text), -1);
}

static void backs_off_up_to_the_cap(void **state)
{
    (void)state;
    struct backoff backoff = {0};
    int64_t ceiling = 100;
    for (int i = 0; i < 12; i++) {
        int64_t wait = backoff_next_ms(&backoff, 100, 2000);
        assert_in_range(wait, ceiling / 2, ceiling);
        ceiling = ceiling * 2 > 2000 ? 2000 : ceiling * 2;
    }
    backoff_reset(&backoff);
    assert_in_range(backoff_next_ms(&backoff, 100, 2000), 50, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_times_of_all_zones),
        cmocka_unit_test(refuses_what_is_no_time),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(backs_off_up_to_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
