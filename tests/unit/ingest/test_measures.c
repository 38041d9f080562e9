/* Counting answers by code, with codes that scripts make up. */
#include "../check.h"

#include <stdio.h>

#include "ingest/measures.h"

static int64_t counted(struct metrics *registry, const char *labels)
{
    return metric_value(metrics_counter(registry, "waybill_ingest_requests_total", labels, ""));
}

static void each_code_has_its_counter(void **state)
{
    (void)state;
    struct metrics *registry = metrics_new();
    struct measures measures;
    measures_open(&measures, registry);
    for (int i = 0; i < 3; i++)
        measures_count(&measures, slice_of("unauthorized"));
    measures_count(&measures, slice_of("not_found"));
    assert_int_equal(counted(registry, "code=\"unauthorized\""), 3);
    assert_int_equal(counted(registry, "code=\"not_found\""), 1);
    measures_close(&measures);
    metrics_free(registry);
}

static void alerts_see_the_first_count(void **state)
{
    (void)state;
    struct metrics *registry = metrics_new();
    struct measures measures;
    struct buf text = {0};
    measures_open(&measures, registry);
    metrics_write(registry, &text);
    assert_non_null(strstr(text.data, "waybill_ingest_requests_total{code=\"queue_unavailable\"} 0\n"));
    buf_free(&text);
    measures_close(&measures);
    metrics_free(registry);
}

static void made_up_codes_do_not_grow_without_end(void **state)
{
    (void)state;
    struct metrics *registry = metrics_new();
    struct measures measures;
    measures_open(&measures, registry);
    measures_count(&measures, slice_of("unauthorized"));
    for (int i = 0; i < 1000; i++) {
        char code[32];
        snprintf(code, sizeof code, "made_up_%d", i);
        measures_count(&measures, slice_of(code));
    }
    measures_count(&measures, slice_of("unauthorized"));
    assert_int_equal(counted(registry, "code=\"unauthorized\""), 2);
    assert_int_equal(counted(registry, "code=\"made_up_0\""), 1);
    assert_int_equal(counted(registry, "code=\"made_up_999\""), 0);
    assert_true(counted(registry, "code=\"other\"") >= 900);
    measures_close(&measures);
    metrics_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_code_has_its_counter),
        cmocka_unit_test(alerts_see_the_first_count),
        cmocka_unit_test(made_up_codes_do_not_grow_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
