#include "ctl/record.h"

#include <stdio.h>

#include "base/clock.h"
#include "ctl/output.h"

void record_line(const char *label, struct slice value)
{
    if (value.len == 0)
        return;
    printf("  %-13s ", label);
    output_text(value);
    printf("\n");
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

void record_body(const struct json_value *record)
{
    struct slice body = json_text(json_get(record, "body"));
    if (body.len == 0)
        return;
    printf("\n");
    output_lines(body);
}
