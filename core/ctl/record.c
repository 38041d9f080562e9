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

static enum ctl_exit print_record(struct ctl *ctl, const char *key, bool json, const struct buf *text,
                                  record_printer *print)
{
    struct error err;
    const struct json_value *record = json_read(buf_slice(text), ctl->arena, &err);
    if (record == NULL)
        return ctl_fail(ctl, CTL_NOT_GOOD, "the store's record is not JSON: %s", err.text);
    if (json)
        output_line(text);
    else
        print(ctl->arena, key, record);
    return CTL_OK;
}

enum ctl_exit record_show(struct ctl *ctl, const char *key, bool json, record_reader *read, record_printer *print)
{
    struct backends backends = {0};
    struct buf text = {0};
    struct error err;
    enum ctl_exit exit_code = backends_check_key(ctl, key);
    if (exit_code == CTL_OK)
        exit_code = backends_open_store(ctl, &backends);
    if (exit_code == CTL_OK)
        exit_code = backends_store_exit(ctl, read(backends.client, slice_of(key), &text, &err), key, &err);
    if (exit_code == CTL_OK)
        exit_code = print_record(ctl, key, json, &text, print);
    buf_free(&text);
    backends_close(&backends);
    return exit_code;
}
