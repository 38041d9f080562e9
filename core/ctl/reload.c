/* waybillctl reload: both services load the scripts again; what is broken leaves the old ones running. */
#include <stdio.h>

#include "base/json.h"
#include "ctl/admin_call.h"
#include "ctl/output.h"

struct options {
    bool json;
};

static const struct flag flags[] = {
    {"json", FLAG_SWITCH, offsetof(struct options, json), NULL, "print one JSON object"},
    {0},
};

struct service {
    const char *name, *address;
    struct admin_answer answer;
};

static enum ctl_exit judge(const struct service *s)
{
    if (!s->answer.reached)
        return CTL_UNREACHABLE;
    return s->answer.status == 200 ? CTL_OK : CTL_NOT_GOOD;
}

/* The error member when there is one, else the whole answer. */
static struct slice complaint(const struct service *s)
{
    struct slice error = json_text(json_get(s->answer.json, "error"));
    return error.len > 0 ? error : s->answer.text;
}

static void print_service(const struct service *s)
{
    if (judge(s) == CTL_OK) {
        struct slice generation = json_text(json_get(s->answer.json, "generation"));
        struct slice hash = json_text(json_get(s->answer.json, "hash"));
        printf("%s  reloaded: generation %.*s, hash %.*s\n", s->name, SLICE_ARG(generation), SLICE_ARG(hash));
    } else if (s->answer.reached) {
        printf("%s  NOT reloaded, the old scripts run on: %.*s\n", s->name, SLICE_ARG(complaint(s)));
    } else {
        printf("%s  not reachable: %.*s\n", s->name, SLICE_ARG(s->answer.text));
    }
}

static void write_service(struct json_writer *w, const struct service *s)
{
    bool ok = judge(s) == CTL_OK;
    json_name(w, s->name);
    json_object_open(w);
    json_member_text(w, "address", s->address);
    json_member_bool(w, "reached", s->answer.reached);
    json_member_bool(w, "reloaded", ok);
    if (ok) {
        json_member_int(w, "generation", json_integer(json_get(s->answer.json, "generation"), 0));
        json_member_string(w, "hash", json_text(json_get(s->answer.json, "hash")));
    } else {
        json_member_string(w, "error", complaint(s));
    }
    json_object_close(w);
}

static void print_json(const struct service *services, size_t n, bool ok)
{
    struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_object_open(&w);
    json_member_bool(&w, "ok", ok);
    for (size_t i = 0; i < n; i++)
        write_service(&w, &services[i]);
    json_object_close(&w);
    output_line(&out);
    buf_free(&out);
}

static enum ctl_exit run_reload(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc, (void)argv;
    struct service services[] = {{"ingest", ctl->config.ingest_admin, {0}}, {"worker", ctl->config.worker_admin, {0}}};
    const size_t n = sizeof services / sizeof *services;
    bool json = ((const struct options *)options)->json;
    struct ctl_http *client = ctl_http_new(NULL);
    enum ctl_exit worst = CTL_OK;
    for (size_t i = 0; i < n; i++) {
        services[i].answer = admin_call(ctl, client, services[i].address, "POST", "/reload");
        worst = judge(&services[i]) > worst ? judge(&services[i]) : worst;
        if (!json)
            print_service(&services[i]);
    }
    ctl_http_free(client);
    if (json)
        print_json(services, n, worst == CTL_OK);
    return worst;
}

const struct command reload_commands[] = {
    {"reload", "", "make both services load the scripts again",
     "The same as SIGHUP, with an answer. Exit code 0: both run the new scripts; 1: one refused them (its error has\n"
     "file and line); 3: one cannot be reached. `waybillctl check` looks at scripts without loading them.\n",
     0, 0, flags, sizeof(struct options), run_reload},
    {0},
};
