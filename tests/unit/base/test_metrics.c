/* The Prometheus text format. */
#include "../check.h"

#include "base/metrics.h"

static void families_are_written_as_the_format_wants(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct buf out = {0};
    metric_add(metrics_counter(metrics, "a_total", "x=\"1\"", "First line\nsecond \\ line"), 2);
    metric_set(metrics_gauge(metrics, "b", NULL, "Plain \"text\""), -3);
    metric_add(metrics_counter(metrics, "a_total", "x=\"2\"", "ignored"), 1);
    metrics_write(metrics, &out);
    assert_string_equal(out.data, "# HELP a_total First line\\nsecond \\\\ line\n"
                                  "# TYPE a_total counter\n"
                                  "a_total{x=\"1\"} 2\n"
                                  "a_total{x=\"2\"} 1\n"
                                  "# HELP b Plain \"text\"\n"
                                  "# TYPE b gauge\n"
                                  "b -3\n");
    buf_free(&out);
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(families_are_written_as_the_format_wants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
