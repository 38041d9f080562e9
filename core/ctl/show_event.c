/* waybillctl events show: one event's document, with its history. */
#include <stdio.h>

#include "ctl/backends.h"
#include "ctl/output.h"
#include "ctl/record.h"

struct options {
    bool json;
};

static const struct flag flags[] = {
    {"json", FLAG_SWITCH, offsetof(struct options, json), NULL, "the whole document as JSON"},
    {0},
};

static void print_event(struct arena *arena, const char *key, const struct json_value *event)
{
    struct slice status = json_text(json_get(event, "status"));
    const struct json_value *ingestion = json_get(event, "ingestion");
    printf("%s  %.*s\n", key, SLICE_ARG(status));
    record_line("type", json_text(json_get(event, "type")));
    record_line("occurred", json_text(json_get(event, "occurred_at")));
    record_time(arena, "received", json_get(ingestion, "received_at"));
    record_line("ingest id", json_text(json_get(ingestion, "ingest_id")));
    record_time(arena, "next attempt", json_get(event, "next_attempt_at"));
    record_time(arena, "resolved", json_get(event, "resolved_at"));
    record_line("dead because", json_text(json_get(event, "reason")));
    record_line("replayed by", json_text(json_get(event, "replay")));
    record_line("duplicates", json_text(json_get(event, "duplicates")));
    if (json_integer(json_get(event, "conflicts"), 0) > 0)
        record_line("conflicts", json_text(json_get(event, "conflicts")));
    record_line("body SHA-256", json_text(json_get(event, "body_sha256")));
    record_attempts(arena, json_get(event, "attempts"));
    record_body(event);
    if (slice_is(status, "dead"))
        printf("\nTry it again: waybillctl dlq replay %.*s\n", SLICE_ARG(output_shell_word(arena, key)));
}

static enum ctl_exit run_show(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc;
    const struct options *o = options;
    struct backends backends = {0};
    struct buf text = {0};
    struct error err;
    enum ctl_exit exit_code = backends_check_key(argv[0]);
    if (exit_code == CTL_OK)
        exit_code = backends_open_store(ctl, &backends);
    if (exit_code == CTL_OK)
        exit_code =
            backends_store_exit(store_event_show(backends.client, slice_of(argv[0]), &text, &err), argv[0], &err);
    if (exit_code == CTL_OK) {
        const struct json_value *event = json_read(buf_slice(&text), ctl->arena, &err);
        if (event == NULL)
            exit_code = ctl_fail(CTL_NOT_GOOD, "the store's record is not JSON: %s", err.text);
        else if (o->json)
            output_line(&text);
        else
            print_event(ctl->arena, argv[0], event);
    }
    buf_free(&text);
    backends_close(&backends);
    return exit_code;
}

const struct command events_commands[] = {
    {"events show", "KEY", "what became of an event: status, attempts, duplicates, body", NULL, 1, 1, flags,
     sizeof(struct options), run_show},
    {0},
};
