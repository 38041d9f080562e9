/* The scripts of the repository, as ingest and worker run them. */
#include "../check.h"

#include <stdio.h>

#include "base/memory.h"
#include "harness.h"

#define BODY                                                                                                           \
    "{\"event_id\":\"evt_1\",\"type\":\"parcel.in_transit\",\"occurred_at\":\"2026-01-31T12:00:00Z\","                 \
    "\"data\":{\"tracking_number\":\"TN1\",\"location\":\"K\xc3\xb6ln\"}}"

struct fixture {
    struct policy *ingest, *worker;
    struct arena *arena;
};

static int set_up(void **state)
{
    struct fixture *f = memory_alloc(sizeof *f);
    struct script_set *set = harness_shipped();
    struct error err = {{0}};
    struct policy_options ingest = harness_options(POLICY_INGEST), worker = harness_options(POLICY_WORKER);
    char source[] = "demo", values[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    struct config_secret secret = {source, values};
    ingest.secrets = &secret;
    ingest.n_secrets = 1;
    worker.simulate = true;
    f->ingest = policy_new(set, &ingest, &err);
    f->worker = policy_new(set, &worker, &err);
    if (f->ingest == NULL || f->worker == NULL)
        fprintf(stderr, "%s\n", err.text);
    script_set_release(set);
    f->arena = arena_new();
    *state = f;
    return f->ingest == NULL || f->worker == NULL;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    policy_free(f->ingest);
    policy_free(f->worker);
    arena_free(f->arena);
    free(f);
    return 0;
}

static void unsigned_is_refused(void **state)
{
    struct fixture *f = *state;
    struct validation out;
    harness_ask(f->ingest, "demo", slice_of(BODY), NULL, 0, f->arena, &out);
    assert_int_equal(out.kind, VALIDATION_REJECT);
    assert_int_equal(out.status, 401);
    assert_true(slice_is(out.code, "unauthorized"));
    assert_true(contains(out.reason, "missing webhook-id"));
}

static void processing_writes_the_shipment(void **state)
{
    struct fixture *f = *state;
    struct outcome out;
    struct event event = harness_event(BODY);
    harness_run(f->worker, &event, 0, f->arena, &out);
    if (out.kind != OUTCOME_SUCCESS)
        fprintf(stderr, "%.*s\n", SLICE_ARG(out.message));
    assert_int_equal(out.kind, OUTCOME_SUCCESS);
    assert_int_equal(out.n_writes, 1);
    assert_true(slice_is(out.writes[0].collection, "shipments"));
    assert_true(slice_is(out.writes[0].id, "demo/TN1"));
    const char *at = "{\"$date\":{\"$numberLong\":\"1769860800000\"}}";
    struct slice expected = arena_printf(
        f->arena,
        "{\"$max\":{\"latest\":{\"at\":%s,\"event_id\":\"evt_1\",\"status\":\"in_transit\"}},"
        "\"$push\":{\"timeline\":{\"$each\":[{\"at\":%s,\"event_id\":\"evt_1\",\"location\":\"K\xc3\xb6ln\","
        "\"status\":\"in_transit\"}],\"$sort\":{\"at\":1,\"event_id\":1}}},"
        "\"$setOnInsert\":{\"source\":\"demo\",\"tracking_number\":\"TN1\"}}",
        at, at);
    assert_string_equal(out.writes[0].update.base, expected.base);
    assert_true(slice_is(out.result, "{\"shipment\":\"demo/TN1\",\"status\":\"in_transit\"}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(unsigned_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(processing_writes_the_shipment, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
