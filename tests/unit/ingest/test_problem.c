/* Problem documents (RFC 9457). */
#include "../check.h"

#include "ingest/problem.h"

static void assert_written(const struct problem *problem, const char *expected)
{
    struct buf out = {0};
    problem_write(problem, &out);
    assert_string_equal(out.data, expected);
    buf_free(&out);
}

static void a_problem_of_the_list(void **state)
{
    (void)state;
    struct problem problem = problem_of(PROBLEM_NOT_FOUND, "Not here.");
    assert_int_equal(problem.status, 404);
    assert_written(&problem,
                   "{\"type\":\"urn:waybill:problem:not_found\",\"title\":\"No such resource\",\"status\":404,"
                   "\"detail\":\"Not here.\",\"code\":\"not_found\"}\n");
}

static void a_field_and_text_that_needs_escapes(void **state)
{
    (void)state;
    struct problem problem = problem_of(PROBLEM_INVALID_FIELD, "not \"good\"\n");
    problem.field = slice_of("data.a\"b");
    assert_written(&problem,
                   "{\"type\":\"urn:waybill:problem:invalid_field\",\"title\":\"Invalid field\",\"status\":422,"
                   "\"detail\":\"not \\\"good\\\"\\n\",\"code\":\"invalid_field\",\"field\":\"data.a\\\"b\"}\n");
}

/* Senders unsubscribe on 410 and follow 3xx: no code may have one. */
static void statuses_are_4xx_or_503(void **state)
{
    (void)state;
    for (int id = 0; id < PROBLEM_COUNT; id++) {
        int status = problem_of((enum problem_id)id, "").status;
        assert_true((status >= 400 && status < 500 && status != 410) || status == 503);
        assert_string_not_equal(problem_status_title(status), "Request Refused");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_problem_of_the_list),
        cmocka_unit_test(a_field_and_text_that_needs_escapes),
        cmocka_unit_test(statuses_are_4xx_or_503),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
