/* The store in trouble: what is transient, what is for good, and that a repetition finishes what was cut off. */
#include "bench.h"

#include <stdio.h>

/* Each command of the protocol fails once as told, at each place in turn; the same calls again finish the work. */
static void check_survives(struct bench *bench, const char *fault)
{
    static const char *const commands[] = {"insert", "find", "update"};
    for (size_t c = 0; c < 3; c++)
        for (int place = 0; place < 3; place++) {
            struct delivery batch[] = {delivery_new(bench, new_id(bench)), delivery_new(bench, new_id(bench)),
                                       delivery_new(bench, new_id(bench))};
            struct store_claim claim = claim_new(bench);
            struct error err = {{0}};
            char mode[32], data[256];
            batch[1] = delivery_again(bench, &batch[0], NULL);
            snprintf(mode, sizeof(mode), "{\"skip\":%d}", place);
            snprintf(data, sizeof(data), "\"failCommands\":[\"%s\"],%s", commands[c], fault);
            fail_commands(bench, mode, data);
            enum store_result result = store_claim(bench->a, &claim, batch, 3, &err);
            fail_no_more(bench);
            assert_true(result == STORE_OK || result == STORE_UNAVAILABLE);
            if (result != STORE_OK)
                assert_int_equal(store_claim(bench->a, &claim, batch, 3, &err), STORE_OK);
            assert_int_equal(batch[0].claim, CLAIM_WON);
            assert_int_equal(batch[1].claim, CLAIM_DUPLICATE);
            assert_int_equal(batch[2].claim, CLAIM_WON);
            ran_well(&batch[0]);
            add_write(bench, &batch[0], "faults", batch[0].event.event_id.base, "{\"$inc\":{\"n\":1}}");
            ran_badly(&batch[2], DECISION_DEAD, 0, "permanent");
            fail_commands(bench, mode, data);
            result = store_commit(bench->a, &claim, batch, 3, &err);
            fail_no_more(bench);
            assert_true(result == STORE_OK || result == STORE_UNAVAILABLE);
            if (result != STORE_OK)
                assert_int_equal(store_commit(bench->a, &claim, batch, 3, &err), STORE_OK);
            assert_true(batch[0].committed && batch[2].committed);
            assert_int_equal(number_at(bench, "events", batch[0].key, "duplicates"), 1);
            assert_int_equal(length_at(bench, "events", batch[0].key, "attempts"), 1);
            assert_int_equal(number_at(bench, "faults", batch[0].event.event_id, "n"), 1);
            assert_int_equal(number_at(bench, "dead_letters", batch[2].key, "deaths"), 1);
            assert_string_equal(text_at(bench, "events", batch[2].key, "status"), "dead");
        }
}

static void a_server_that_shuts_down_is_transient(void **state)
{
    check_survives(*state, "\"errorCode\":91");
}

static void a_full_disk_is_transient(void **state)
{
    check_survives(*state, "\"errorCode\":14031");
}

static void a_broken_connection_is_transient(void **state)
{
    check_survives(*state, "\"closeConnection\":true");
}

static void an_unconfirmed_write_is_transient(void **state)
{
    struct bench *bench = *state;
    static const char concern[] =
        "\"writeConcernError\":{\"code\":64,\"errmsg\":\"waiting for replication timed out\"}";
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    char data[256];
    check_survives(bench, concern);
    snprintf(data, sizeof(data), "\"failCommands\":[\"insert\"],%s", concern);
    fail_commands(bench, "{\"times\":1}", data);
    assert_int_equal(store_claim(bench->a, &claim, &d, 1, &err), STORE_UNAVAILABLE);
    assert_non_null(strstr(err.text, "majority"));
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
}

static enum store_result ping_with(struct bench *bench, const char *mode, const char *fault, struct error *err)
{
    char data[128];
    snprintf(data, sizeof(data), "\"failCommands\":[\"ping\"],%s", fault);
    fail_commands(bench, mode, data);
    enum store_result result = store_ping(bench->a, err);
    fail_no_more(bench);
    return result;
}

static void errors_are_classified(void **state)
{
    struct bench *bench = *state;
    static const int transient[] = {6,   7,    46,   50,    59,    72,    89,    91,    112,   189,   262,
                                    365, 8000, 9001, 10107, 11000, 11600, 11602, 13435, 13436, 14031, 16500};
    static const int final[] = {2, 9, 14, 22, 73, 121, 166, 10334};
    static const char always[] = "\"alwaysOn\""; /* the driver itself repeats reads once */
    struct error err = {{0}};
    char fault[64];
    for (size_t i = 0; i < sizeof(transient) / sizeof(transient[0]); i++) {
        snprintf(fault, sizeof(fault), "\"errorCode\":%d", transient[i]);
        assert_int_equal(ping_with(bench, always, fault, &err), STORE_UNAVAILABLE);
        assert_int_equal(store_ping(bench->a, &err), STORE_OK);
    }
    for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++) {
        snprintf(fault, sizeof(fault), "\"errorCode\":%d", final[i]);
        assert_int_equal(ping_with(bench, always, fault, &err), STORE_REFUSED);
    }
    assert_int_equal(ping_with(bench, always, "\"errorCode\":99999", &err), STORE_UNAVAILABLE); /* in no list */
    assert_int_equal(ping_with(bench, always, "\"errorCode\":13", &err), STORE_UNAVAILABLE);
    assert_non_null(strstr(err.text, "WAYBILL_MONGO_URL"));
}

static void a_connection_that_broke_once_is_replaced_at_once(void **state)
{
    struct bench *bench = *state;
    struct error err = {{0}};
    assert_int_equal(ping_with(bench, "{\"times\":1}", "\"closeConnection\":true", &err), STORE_OK);
}

/* The server does it after we gave up waiting. */
static void a_write_that_comes_late_is_harmless(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    fail_commands(bench, "{\"times\":1}",
                  "\"failCommands\":[\"insert\"],\"blockConnection\":true,\"blockTimeMS\":1400");
    assert_int_equal(store_claim(bench->a, &claim, &d, 1, &err), STORE_UNAVAILABLE);
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    ran_well(&d);
    add_write(bench, &d, "late", "l", "{\"$inc\":{\"n\":1}}");
    for (int update = 0; update < 3; update++) {
        fail_commands(bench, "{\"times\":1}",
                      "\"failCommands\":[\"update\"],\"blockConnection\":true,\"blockTimeMS\":1400");
        assert_int_equal(store_commit(bench->a, &claim, &d, 1, &err), STORE_UNAVAILABLE);
    }
    commit_one(bench->a, &claim, &d);
    assert_true(d.committed);
    clock_sleep_ms(1500); /* the late ones have come by now */
    assert_int_equal(length_at(bench, "events", d.key, "attempts"), 1);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
    assert_int_equal(number_at(bench, "late", slice_of("l"), "n"), 1);
}

static void a_hanging_server_costs_less_than_a_lease(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    mono_time before = clock_mono();
    fail_commands(bench, "{\"times\":1}",
                  "\"failCommands\":[\"insert\"],\"blockConnection\":true,\"blockTimeMS\":2500");
    enum store_result result = store_claim(bench->a, &claim, &d, 1, &err);
    fail_no_more(bench);
    assert_int_equal(result, STORE_UNAVAILABLE);
    assert_true(mono_elapsed_ms(before, clock_mono()) < LEASE_MS / 2);
}

static void a_killed_server_is_away_and_loses_nothing(void **state)
{
    struct bench *bench = *state;
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    struct error err = {{0}};
    if (bench->server.pid == 0)
        skip(); /* not ours to kill */
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
    server_kill(&bench->server);
    ran_well(&d);
    mono_time before = clock_mono();
    assert_int_equal(store_commit(bench->a, &claim, &d, 1, &err), STORE_UNAVAILABLE);
    assert_int_equal(store_commit(bench->a, &claim, &d, 1, &err), STORE_UNAVAILABLE);
    assert_true(mono_elapsed_ms(before, clock_mono()) < LEASE_MS);
    assert_false(d.lost);
    server_restart(&bench->server);
    enum store_result result = STORE_UNAVAILABLE;
    for (int tries = 0; tries < 20 && result == STORE_UNAVAILABLE; tries++)
        result = store_commit(bench->a, &claim, &d, 1, &err);
    assert_int_equal(result, STORE_OK);
    assert_true(d.committed);
    assert_string_equal(text_at(bench, "events", d.key, "status"), "succeeded");
}

/* Nothing but a restart happened meanwhile: nobody need notice. */
static void a_restart_while_idle_goes_unnoticed(void **state)
{
    struct bench *bench = *state;
    struct error err = {{0}};
    if (bench->server.pid == 0)
        skip();
    assert_int_equal(store_ping(bench->a, &err), STORE_OK);
    server_kill(&bench->server);
    server_restart(&bench->server);
    struct delivery d = delivery_new(bench, new_id(bench));
    struct store_claim claim = claim_new(bench);
    assert_int_equal(claim_one(bench->a, &claim, &d), CLAIM_WON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_shuts_down_is_transient),
        cmocka_unit_test(a_full_disk_is_transient),
        cmocka_unit_test(a_broken_connection_is_transient),
        cmocka_unit_test(an_unconfirmed_write_is_transient),
        cmocka_unit_test(errors_are_classified),
        cmocka_unit_test(a_connection_that_broke_once_is_replaced_at_once),
        cmocka_unit_test(a_write_that_comes_late_is_harmless),
        cmocka_unit_test(a_hanging_server_costs_less_than_a_lease),
        cmocka_unit_test(a_killed_server_is_away_and_loses_nothing),
        cmocka_unit_test(a_restart_while_idle_goes_unnoticed),
    };
    return cmocka_run_group_tests_name("store: faults", tests, bench_setup, bench_teardown);
}
