/* waybillctl check: compiles the scripts as both services would and runs their self-checks. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "ctl/ctl.h"
#include "ctl/json_read.h"
#include "ctl/output.h"
#include "policy/policy.h"

struct options {
    bool json;
};

static const struct flag flags[] = {
    {"json", FLAG_SWITCH, offsetof(struct options, json), NULL, "print one JSON object"},
    {0},
};

struct verdict {
    const char *role;
    bool ok;
    struct error err;
};

static void check_role(const struct ctl *ctl, struct script_set *set, enum policy_role role, struct verdict *verdict)
{
    const struct config *c = &ctl->config;
    struct metrics *metrics = metrics_new();
    const struct policy_options options = {
        .role = role,
        .memory_bytes = c->script_memory_bytes,
        .time_ms = role == POLICY_INGEST ? c->validate_limit_ms : c->handler_limit_ms,
        .simulate = c->simulate,
        .schedule = {c->retry_base_ms, c->retry_factor, c->retry_cap_ms, c->retry_attempts},
        .secrets = c->secrets,
        .n_secrets = c->n_secrets,
        .metrics = metrics,
    };
    struct policy *policy = policy_new(set, &options, &verdict->err);
    verdict->ok = policy != NULL;
    if (policy != NULL)
        policy_free(policy);
    metrics_free(metrics);
}

struct place {
    struct slice file; /* below the folder of the scripts; empty when the error has none */
    long line;
    const char *message;
};

/* "file:line: message" into its parts. */
static struct place place_of(const char *text)
{
    const char *colon = strchr(text, ':');
    long line = 0;
    int used = 0;
    if (colon == NULL || sscanf(colon + 1, "%9ld:%n", &line, &used) != 1 || used == 0)
        return (struct place){{0}, 0, text};
    const char *message = colon + 1 + used;
    return (struct place){{text, (size_t)(colon - text)}, line, message + strspn(message, " ")};
}

static void write_problem(struct json_writer *w, const struct verdict *verdict)
{
    struct place place = place_of(verdict->err.text);
    json_object_open(w);
    json_member_text(w, "role", verdict->role);
    if (place.file.len > 0) {
        json_member_string(w, "file", place.file);
        json_member_int(w, "line", place.line);
    }
    json_member_text(w, "message", place.message);
    json_object_close(w);
}

static void print_problem(const struct verdict *verdict, const char *dir)
{
    struct place place = place_of(verdict->err.text);
    if (place.file.len > 0)
        printf("%s/%.*s:%ld: %s (%s)\n", dir, SLICE_ARG(place.file), place.line, place.message, verdict->role);
    else
        printf("%s (%s)\n", verdict->err.text, verdict->role);
}

static void print_json(const struct verdict *verdicts, size_t n, const char *hash, bool ok)
{
    struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_object_open(&w);
    json_member_bool(&w, "ok", ok);
    json_member_text(&w, "hash", hash);
    json_name(&w, "problems");
    json_array_open(&w);
    for (size_t i = 0; i < n; i++)
        if (!verdicts[i].ok)
            write_problem(&w, &verdicts[i]);
    json_array_close(&w);
    json_object_close(&w);
    output_line(&out);
    buf_free(&out);
}

static void print_text(const struct verdict *verdicts, size_t n, const char *dir, const char *hash, bool ok)
{
    for (size_t i = 0; i < n; i++)
        if (!verdicts[i].ok)
            print_problem(&verdicts[i], dir);
    if (ok)
        printf("%s: good for both services, hash %s\n", dir, hash);
}

static enum ctl_exit run_check(struct ctl *ctl, const void *options, int argc, char **argv)
{
    bool json = ((const struct options *)options)->json;
    const char *dir = argc > 0 ? argv[0] : ctl->config.scripts;
    struct verdict verdicts[] = {{"ingest", false, {{0}}}, {"worker", false, {{0}}}};
    struct error err;
    log_open("waybillctl", LOG_WARN, ctl->config.log_format); /* what a service would warn of at load is news here */
    struct script_set *set = script_set_read(dir, 1, &err);
    if (set == NULL)
        return ctl_fail(ctl, CTL_NOT_GOOD, "%s", err.text);
    check_role(ctl, set, POLICY_INGEST, &verdicts[0]);
    check_role(ctl, set, POLICY_WORKER, &verdicts[1]);
    bool ok = verdicts[0].ok && verdicts[1].ok;
    if (json)
        print_json(verdicts, 2, script_set_hash(set), ok);
    else
        print_text(verdicts, 2, dir, script_set_hash(set), ok);
    script_set_release(set);
    return ok ? CTL_OK : CTL_NOT_GOOD;
}

const struct command check_commands[] = {
    {"check", "[FOLDER]", "compile the scripts and run their self-checks, without a service",
     "FOLDER is WAYBILL_SCRIPTS when left out. Exit code 1 when a service would refuse the scripts; each problem has\n"
     "file and line. What a service would only warn of is on standard error.\n",
     0, 1, flags, sizeof(struct options), run_check},
    {0},
};
