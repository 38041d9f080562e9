/* Identity, envelope, retry schedule. */
#include "../check.h"

#include "base/id.h"
#include "event/event.h"
#include "event/retry.h"

static struct event sample(void)
{
    return (struct event){
        .source = SLICE_LITERAL("demo"),
        .event_id = SLICE_LITERAL("evt_1"),
        .type = SLICE_LITERAL("parcel.delivered"),
        .occurred_at = SLICE_LITERAL("2026-01-31T12:00:00Z"),
        .received_at = {1769860800123},
        .ingest_id = SLICE_LITERAL("01KG"),
        .content_type = SLICE_LITERAL("application/json"),
        .body = {"{\"a\":\0\"x\"}", 10},
        .attempt = 1,
    };
}

static void an_envelope_comes_back_as_it_was(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct envelope_field fields[ENVELOPE_MAX_FIELDS];
    struct event event = sample(), back;
    struct error err;
    event.attempt = 3;
    event.replay = SLICE_LITERAL("operator");
    event.headers = SLICE_LITERAL("webhook-id: 1\n");
    size_t n = envelope_encode(&event, arena, fields);
    assert_true(envelope_decode(fields, n, &back, &err));
    assert_true(slice_equal(back.body, event.body));
    assert_true(slice_equal(back.headers, event.headers));
    assert_true(slice_equal(back.replay, event.replay));
    assert_int_equal(back.attempt, 3);
    assert_int_equal(back.received_at.ms, event.received_at.ms);
    assert_int_equal(back.traceparent.len, 0);
    arena_free(arena);
}

static void each_required_field_is_missed(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct envelope_field fields[ENVELOPE_MAX_FIELDS], fewer[ENVELOPE_MAX_FIELDS];
    struct event event = sample(), back;
    struct error err;
    size_t n = envelope_encode(&event, arena, fields);
    for (size_t leave = 0; leave < n; leave++) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++) {
            if (i != leave)
                fewer[kept++] = fields[i];
        }
        bool optional = slice_is(fields[leave].name, "content_type");
        assert_int_equal(envelope_decode(fewer, kept, &back, &err), optional);
        if (!optional)
            assert_non_null(strstr(err.text, fields[leave].name.base));
    }
    arena_free(arena);
}

static void numbers_of_an_envelope_are_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "0", "-1", "1x", "4294967296", "99999999999999999999"};
    struct arena *arena = arena_new();
    struct envelope_field fields[ENVELOPE_MAX_FIELDS + 1];
    struct event event = sample(), back;
    struct error err;
    size_t n = envelope_encode(&event, arena, fields);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fields[n] = (struct envelope_field){SLICE_LITERAL("attempt"), slice_of(bad[i])};
        assert_false(envelope_decode(fields, n + 1, &back, &err));
    }
    fields[n] = (struct envelope_field){SLICE_LITERAL("received_at"), SLICE_LITERAL("253402300799999")};
    assert_true(envelope_decode(fields, n + 1, &back, &err));
    fields[n].value = SLICE_LITERAL("253402300800000"); /* the year 10000 */
    assert_false(envelope_decode(fields, n + 1, &back, &err));
    arena_free(arena);
}

static void names_that_would_break_keys_are_refused(void **state)
{
    (void)state;
    assert_true(event_source_is_valid(SLICE_LITERAL("demo-2_x")));
    static const char *const bad[] = {"", "Demo", "de mo", "de/mo", "-demo", "_demo", "d\xc3\xa9mo", "de.mo", "{demo}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(event_source_is_valid(slice_of(bad[i])));
    struct event event = sample();
    struct error err;
    const char *field;
    event.event_id = SLICE_LITERAL("a\nb");
    assert_false(event_check_fields(&event, &field, &err));
    assert_string_equal(field, "event_id");
    event.event_id = SLICE_LITERAL("a\xff");
    assert_false(event_check_fields(&event, &field, &err));
    event.event_id = SLICE_LITERAL("a\xc2\x9b"
                                   "31m"); /* what terminals take for an escape */
    assert_false(event_check_fields(&event, &field, &err));
    event.event_id = SLICE_LITERAL("\u00a0\u00e9 '{}*/");
    assert_true(event_check_fields(&event, &field, &err));
    char longest[EVENT_ID_MAX_BYTES + 1];
    memset(longest, 'x', sizeof longest);
    event.event_id = (struct slice){longest, EVENT_ID_MAX_BYTES};
    assert_true(event_check_fields(&event, &field, &err));
    event.event_id.len++;
    assert_false(event_check_fields(&event, &field, &err));
}

static void an_identity_has_one_partition(void **state)
{
    (void)state;
    struct buf key = {0};
    struct event event = sample();
    struct arena *arena = arena_new();
    assert_true(slice_is(event_key(&event, arena), "demo/evt_1"));
    assert_int_equal(event_partition(event_key(&event, arena), 1), 0);
    arena_free(arena);
    uint32_t seen[4] = {0};
    for (int i = 0; i < 1000; i++) {
        buf_clear(&key);
        buf_printf(&key, "demo/evt_%d", i);
        seen[event_partition(buf_slice(&key), 4)]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(seen[i], 150, 350);
    buf_free(&key);
}

static void delays_grow_with_full_jitter(void **state)
{
    (void)state;
    struct retry_schedule schedule = {1000, 2, 300000, 8};
    int64_t ceilings[] = {1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000, 300000, 300000};
    for (uint32_t failures = 1; failures <= 11; failures++) {
        int64_t ceiling = ceilings[failures - 1], longest = 0;
        for (int i = 0; i < 200; i++) {
            int64_t delay = retry_delay_ms(&schedule, failures, -1, id_random());
            assert_in_range(delay, 0, ceiling);
            longest = delay > longest ? delay : longest;
        }
        assert_true(longest > ceiling / 2);
    }
    assert_int_equal(retry_delay_ms(&schedule, 1, 5000, 1), 5000);
    struct retry_schedule flat = {10, 1, 10, 3};
    assert_in_range(retry_delay_ms(&flat, 4000000000u, -1, id_random()), 0, 10);
}

static void attempts_run_out(void **state)
{
    (void)state;
    struct retry_schedule schedule = {1000, 2, 300000, 3};
    assert_true(retry_decide(&schedule, 2, -1, 7).retry);
    struct retry_decision last = retry_decide(&schedule, 3, -1, 7);
    assert_false(last.retry);
    assert_true(slice_is(last.reason, "retries_exhausted"));
}

static void ids_are_unique_and_sort_by_time(void **state)
{
    (void)state;
    char a[ID_TEXT_BYTES], b[ID_TEXT_BYTES];
    id_new((wall_time){1000}, a);
    id_new((wall_time){1001}, b);
    assert_true(strcmp(a, b) < 0);
    assert_int_equal(strlen(a), 26);
    id_new((wall_time){1000}, b);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_envelope_comes_back_as_it_was),
        cmocka_unit_test(each_required_field_is_missed),
        cmocka_unit_test(numbers_of_an_envelope_are_strict),
        cmocka_unit_test(names_that_would_break_keys_are_refused),
        cmocka_unit_test(an_identity_has_one_partition),
        cmocka_unit_test(delays_grow_with_full_jitter),
        cmocka_unit_test(attempts_run_out),
        cmocka_unit_test(ids_are_unique_and_sort_by_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
