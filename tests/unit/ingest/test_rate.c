/* Token buckets: burst, refill, waiting times, and what a reload keeps. Time is made up. */
#include "../check.h"

#include "ingest/rate.h"

static const mono_time start = {1000000};

static mono_time after(int64_t ms)
{
    return mono_after_ms(start, ms);
}

static struct rate *rate_with(double per_second, double burst)
{
    struct rate *rate = rate_new();
    rate_configure(rate, &(struct rate_limit){"demo", per_second, burst}, 1, start);
    return rate;
}

static bool take(struct rate *rate, mono_time now, int64_t *wait_ms)
{
    *wait_ms = -1;
    return rate_take(rate, slice_of("demo"), now, wait_ms);
}

static void sources_without_a_limit_always_pass(void **state)
{
    (void)state;
    struct rate *rate = rate_with(0, 0);
    int64_t wait_ms;
    for (int i = 0; i < 1000; i++)
        assert_true(take(rate, start, &wait_ms));
    assert_true(rate_take(rate, slice_of("unknown"), start, &wait_ms));
    rate_free(rate);
}

static void a_burst_then_the_rate(void **state)
{
    (void)state;
    struct rate *rate = rate_with(2, 3);
    int64_t wait_ms;
    for (int i = 0; i < 3; i++)
        assert_true(take(rate, start, &wait_ms));
    assert_false(take(rate, start, &wait_ms));
    assert_int_equal(wait_ms, 500);
    assert_false(take(rate, after(250), &wait_ms));
    assert_int_equal(wait_ms, 250);
    assert_true(take(rate, after(500), &wait_ms));
    assert_false(take(rate, after(500), &wait_ms));
    rate_free(rate);
}

static void idle_time_fills_up_to_the_burst(void **state)
{
    (void)state;
    struct rate *rate = rate_with(10, 2);
    int64_t wait_ms;
    assert_true(take(rate, start, &wait_ms));
    for (int i = 0; i < 2; i++)
        assert_true(take(rate, after(3600000), &wait_ms));
    assert_false(take(rate, after(3600000), &wait_ms));
    rate_free(rate);
}

static void slow_rates_still_give_one(void **state)
{
    (void)state;
    struct rate *rate = rate_with(0.1, 0);
    int64_t wait_ms;
    assert_true(take(rate, start, &wait_ms));
    assert_false(take(rate, start, &wait_ms));
    assert_int_equal(wait_ms, 10000);
    rate_free(rate);
}

static void a_reload_keeps_what_is_in_a_bucket(void **state)
{
    (void)state;
    struct rate *rate = rate_with(1, 5);
    int64_t wait_ms;
    for (int i = 0; i < 5; i++)
        assert_true(take(rate, start, &wait_ms));
    const struct rate_limit more[] = {{"other", 1, 1}, {"demo", 1, 100}};
    rate_configure(rate, more, 2, start);
    assert_false(take(rate, start, &wait_ms));
    assert_true(rate_take(rate, slice_of("other"), start, &wait_ms));
    assert_false(rate_take(rate, slice_of("other"), start, &wait_ms));
    rate_configure(rate, NULL, 0, start);
    assert_true(take(rate, start, &wait_ms));
    rate_free(rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_without_a_limit_always_pass), cmocka_unit_test(a_burst_then_the_rate),
        cmocka_unit_test(idle_time_fills_up_to_the_burst),     cmocka_unit_test(slow_rates_still_give_one),
        cmocka_unit_test(a_reload_keeps_what_is_in_a_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
