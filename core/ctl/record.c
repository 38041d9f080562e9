#include "ctl/record.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/utf8.h"
#include "ctl/output.h"

void record_line(const char *label, struct slice value)
{
    if (value.len > 0)
        printf("  %-13s %.*s\n", label, SLICE_ARG(value));
}

void record_time(struct arena *arena, const char *label, const struct json_value *time)
{
    int64_t ms;
    char text[CLOCK_TEXT_BYTES];
    if (!json_time_ms(time, &ms))
        return;
    struct slice age = output_age(arena, ms, clock_wall().ms);
    record_line(label, arena_printf(arena, "%s  (%.*s)", clock_format((wall_time){ms}, text), SLICE_ARG(age)));
}

/* "retry in 813ms", "succeed", "dead". */
static struct slice next_step(struct arena *arena, const struct json_value *attempt)
{
    struct slice decision = json_text(json_get(attempt, "decision"));
    int64_t delay_ms = json_integer(json_get(attempt, "delay_ms"), -1);
    if (delay_ms < 0)
        return decision;
    return arena_printf(arena, "%.*s in %.*s", SLICE_ARG(decision), SLICE_ARG(output_duration(arena, delay_ms)));
}

static struct slice failure(struct arena *arena, const struct json_value *attempt)
{
    struct slice kind = json_text(json_get(attempt, "error_kind"));
    struct slice message = json_text(json_get(attempt, "message"));
    if (kind.len == 0)
        return message;
    return arena_printf(arena, "%.*s: %.*s", SLICE_ARG(kind), SLICE_ARG(message));
}

void record_attempts(struct arena *arena, const struct json_value *attempts)
{
    if (attempts == NULL || attempts->first == NULL)
        return;
    struct output_table table = {.n_columns = 6};
    const struct slice heading[] = {SLICE_LITERAL("attempt"), SLICE_LITERAL("started"), SLICE_LITERAL("took"),
                                    SLICE_LITERAL("outcome"), SLICE_LITERAL("then"),    SLICE_LITERAL("error")};
    output_table_add(&table, heading);
    for (const struct json_value *attempt = attempts->first; attempt != NULL; attempt = attempt->next) {
        int64_t ms;
        char text[CLOCK_TEXT_BYTES] = "?";
        if (json_time_ms(json_get(attempt, "started_at"), &ms))
            clock_format((wall_time){ms}, text);
        const struct slice cells[] = {json_text(json_get(attempt, "number")),
                                      arena_printf(arena, "%s", text),
                                      output_duration(arena, json_integer(json_get(attempt, "duration_ms"), 0)),
                                      json_text(json_get(attempt, "outcome")),
                                      next_step(arena, attempt),
                                      failure(arena, attempt)};
        output_table_add(&table, cells);
    }
    printf("\n");
    output_table_print(&table);
    output_table_free(&table);
}

/* Bytes come as base64. Adds them to out; false when they are none. */
static bool decode(const struct json_value *value, struct buf *out)
{
    return value != NULL && value->type == JSON_STRING && crypto_base64_decode(value->text, false, out);
}

void record_body(const struct json_value *record)
{
    struct buf body = {0};
    if (decode(json_get(record, "body"), &body) && body.len > 0) {
        printf("\n");
        fwrite(body.data, 1, body.len, stdout);
        printf("\n");
    }
    buf_free(&body);
}

static void write_bytes(struct json_writer *w, const char *name, const struct json_value *value)
{
    struct buf bytes = {0};
    if (decode(value, &bytes) && utf8_check(buf_slice(&bytes)))
        json_member_string(w, name, buf_slice(&bytes));
    else
        json_member_text(w, name, NULL);
    buf_free(&bytes);
}

void record_print_json(const struct json_value *record)
{
    struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_object_open(&w);
    for (const struct json_value *member = record->first; member != NULL; member = member->next) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", SLICE_ARG(member->name));
        if (slice_is(member->name, "body") || slice_is(member->name, "headers")) {
            write_bytes(&w, name, member);
        } else {
            json_name(&w, name);
            json_raw(&w, member->raw);
        }
        if (slice_is(member->name, "body"))
            json_member_string(&w, "body_base64", member->text);
    }
    json_object_close(&w);
    output_line(&out);
    buf_free(&out);
}
