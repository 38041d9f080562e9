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
    record_line("discarded by", json_text(json_get(json_get(event, "discarded"), "by")));
    record_line("replayed by", json_text(json_get(event, "replay")));
    record_line("duplicates", json_text(json_get(event, "duplicates")));
    if (json_integer(json_get(event, "conflicts"), 0) > 0)
        record_line("conflicts", json_text(json_get(event, "conflicts")));
    record_line("body SHA-256", json_text(json_get(event, "body_sha256")));
    record_attempts(arena, json_get(event, "attempts"));
    record_body(event);
    if (slice_is(status, "dead") && json_get(event, "discarded") == NULL)
        printf("\nTry it again: waybillctl dlq replay %.*s\n", SLICE_ARG(output_shell_word(arena, key)));
}

static enum ctl_exit run_show(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc;
    const struct options *o = options;
    return record_show(ctl, argv[0], o->json, store_event_show, print_event);
}

const struct command events_commands[] = {
    {"events show", "KEY", "what became of an event: status, attempts, duplicates, body", NULL, 1, 1, flags,
     sizeof(struct options), run_show},
    {0},
};
