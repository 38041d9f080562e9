/* waybillctl status: is everything there and ready, and what is waiting. */
#include <stdio.h>

#include "base/json.h"
#include "ctl/admin_call.h"
#include "ctl/backends.h"
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
    struct admin_answer ready, status;
};

static const char *const letter_states[] = {"unreviewed", "replayed", "discarded"};
#define N_LETTER_STATES (sizeof letter_states / sizeof *letter_states)

struct report {
    struct service ingest, worker;
    bool redis_reached, store_reached;
    struct queue_depth depth;
    char durability[512]; /* a warning, or "" */
    int64_t letters[N_LETTER_STATES];
    struct error redis_error, store_error;
};

static void ask_service(struct ctl *ctl, struct ctl_http *client, struct service *service)
{
    service->ready = admin_call(ctl, client, service->address, "GET", "/readyz");
    if (service->ready.reached)
        service->status = admin_call(ctl, client, service->address, "GET", "/status");
}

static enum ctl_exit ask_redis(const struct ctl *ctl, struct report *report)
{
    struct backends backends = {0};
    enum ctl_exit exit_code = backends_open_queue(ctl, &backends);
    if (exit_code == CTL_OK) {
        struct error *err = &report->redis_error;
        report->redis_reached =
            queue_measure(backends.queue, &report->depth, err) == QUEUE_OK &&
            queue_check_durability(backends.queue, report->durability, sizeof report->durability, err) == QUEUE_OK;
    }
    backends_close(&backends);
    return exit_code;
}

static enum ctl_exit ask_store(const struct ctl *ctl, struct report *report)
{
    struct backends backends = {0};
    enum ctl_exit exit_code = backends_open_store(ctl, &backends);
    report->store_reached = exit_code == CTL_OK;
    for (size_t i = 0; i < N_LETTER_STATES && report->store_reached; i++) {
        const struct store_dead_filter filter = {.status = letter_states[i]};
        report->store_reached =
            store_dead_count(backends.client, &filter, &report->letters[i], &report->store_error) == STORE_OK;
    }
    backends_close(&backends);
    return exit_code;
}

static enum ctl_exit judge(const struct report *r)
{
    if (!r->ingest.ready.reached || !r->worker.ready.reached || !r->redis_reached || !r->store_reached)
        return CTL_UNREACHABLE;
    return r->ingest.ready.status == 200 && r->worker.ready.status == 200 ? CTL_OK : CTL_NOT_GOOD;
}

/* "redis: ok\nstore: down\n" on one line. */
static struct slice one_line(struct arena *arena, struct slice text)
{
    struct buf line = {0};
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] != '\n')
            buf_add_char(&line, text.base[i]);
        else if (i + 1 < text.len)
            buf_add_text(&line, ", ");
    }
    struct slice copy = arena_copy(arena, line.data, line.len);
    buf_free(&line);
    return copy;
}

static void add_service_row(struct ctl *ctl, struct output_table *table, const struct service *s)
{
    struct slice state = SLICE_LITERAL("not reachable"), detail = s->ready.text;
    if (s->ready.reached) {
        const struct json_value *scripts = json_get(s->status.json, "scripts");
        struct slice generation = json_text(json_get(scripts, "generation")),
                     hash = json_text(json_get(scripts, "hash"));
        struct slice version = json_text(json_get(s->status.json, "version"));
        int64_t uptime_ms = json_integer(json_get(s->status.json, "uptime_s"), 0) * 1000;
        state = s->ready.status == 200 ? SLICE_LITERAL("ready") : SLICE_LITERAL("NOT READY");
        detail = arena_printf(ctl->arena, "%s, version %.*s, scripts %.*s (%.*s), up %.*s; %.*s", s->address,
                              SLICE_ARG(version), SLICE_ARG(generation), SLICE_ARG(hash),
                              SLICE_ARG(output_duration(ctl->arena, uptime_ms)),
                              SLICE_ARG(one_line(ctl->arena, s->ready.text)));
    }
    output_table_add(table, (const struct slice[]){slice_of(s->name), state, detail});
}

static struct slice queue_text(struct ctl *ctl, const struct queue_depth *d)
{
    struct slice oldest = {0};
    if (d->stream > 0)
        oldest = arena_printf(ctl->arena, " (%lld in workers' hands, the oldest is there for %.*s)",
                              (long long)d->pending, SLICE_ARG(output_duration(ctl->arena, d->oldest_ms)));
    return arena_printf(ctl->arena, "%lld queued%.*s, %lld wait for a retry, %lld dead", (long long)d->stream,
                        SLICE_ARG(oldest), (long long)d->retry, (long long)d->dead);
}

static void add_redis_row(struct ctl *ctl, struct output_table *table, const struct report *r)
{
    struct slice state = SLICE_LITERAL("not reachable"), detail = slice_of(r->redis_error.text);
    if (r->redis_reached) {
        state = SLICE_LITERAL("reachable");
        detail = queue_text(ctl, &r->depth);
    }
    output_table_add(table, (const struct slice[]){SLICE_LITERAL("redis"), state, detail});
}

static void add_store_row(struct ctl *ctl, struct output_table *table, const struct report *r)
{
    struct slice state = SLICE_LITERAL("not reachable"), detail = slice_of(r->store_error.text);
    if (r->store_reached) {
        state = SLICE_LITERAL("reachable");
        detail = arena_printf(ctl->arena, "dead letters: %lld unreviewed, %lld replayed, %lld discarded",
                              (long long)r->letters[0], (long long)r->letters[1], (long long)r->letters[2]);
    }
    output_table_add(table, (const struct slice[]){SLICE_LITERAL("store"), state, detail});
}

/* After a reload that one of them refused. */
static bool scripts_differ(const struct report *r)
{
    struct slice ingest = json_text(json_get(json_get(r->ingest.status.json, "scripts"), "hash"));
    struct slice worker = json_text(json_get(json_get(r->worker.status.json, "scripts"), "hash"));
    return ingest.len > 0 && worker.len > 0 && !slice_equal(ingest, worker);
}

static void print_report(struct ctl *ctl, const struct report *r)
{
    struct output_table table = {.n_columns = 3};
    add_service_row(ctl, &table, &r->ingest);
    add_service_row(ctl, &table, &r->worker);
    add_redis_row(ctl, &table, r);
    add_store_row(ctl, &table, r);
    output_table_print(&table);
    output_table_free(&table);
    if (r->durability[0] != '\0')
        printf("\nWarning: %s\n", r->durability);
    if (scripts_differ(r))
        printf("\nWarning: ingest and worker run different scripts: waybillctl check, then waybillctl reload\n");
    if (r->letters[0] > 0)
        printf("\n%lld dead letter%s for somebody to look: waybillctl dlq list\n", (long long)r->letters[0],
               r->letters[0] == 1 ? " waits" : "s wait");
}

static void write_service(struct json_writer *w, const struct service *s)
{
    json_name(w, s->name);
    json_object_open(w);
    json_member_text(w, "address", s->address);
    json_member_bool(w, "reached", s->ready.reached);
    json_member_bool(w, "ready", s->ready.reached && s->ready.status == 200);
    json_member_string(w, s->ready.reached ? "checks" : "error", s->ready.text);
    json_name(w, "status");
    if (s->status.json != NULL)
        json_raw(w, s->status.json->raw);
    else
        json_null(w);
    json_object_close(w);
}

static void write_redis(struct json_writer *w, const struct report *r)
{
    json_name(w, "redis");
    json_object_open(w);
    json_member_bool(w, "reached", r->redis_reached);
    if (r->redis_reached) {
        json_member_int(w, "stream", r->depth.stream);
        json_member_int(w, "pending", r->depth.pending);
        json_member_int(w, "retry", r->depth.retry);
        json_member_int(w, "dead", r->depth.dead);
        json_member_int(w, "oldest_ms", r->depth.oldest_ms);
        json_member_int(w, "consumers", r->depth.consumers);
        json_member_text(w, "warning", r->durability[0] != '\0' ? r->durability : NULL);
    } else {
        json_member_text(w, "error", r->redis_error.text);
    }
    json_object_close(w);
}

static void write_store(struct json_writer *w, const struct report *r)
{
    json_name(w, "store");
    json_object_open(w);
    json_member_bool(w, "reached", r->store_reached);
    if (r->store_reached) {
        json_name(w, "dead_letters");
        json_object_open(w);
        for (size_t i = 0; i < N_LETTER_STATES; i++)
            json_member_int(w, letter_states[i], r->letters[i]);
        json_object_close(w);
    } else {
        json_member_text(w, "error", r->store_error.text);
    }
    json_object_close(w);
}

static void print_report_json(const struct report *r)
{
    struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_object_open(&w);
    json_member_bool(&w, "ok", judge(r) == CTL_OK);
    write_service(&w, &r->ingest);
    write_service(&w, &r->worker);
    write_redis(&w, r);
    write_store(&w, r);
    json_object_close(&w);
    output_line(&out);
    buf_free(&out);
}

static enum ctl_exit run_status(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc, (void)argv;
    struct report report = {.ingest = {.name = "ingest", .address = ctl->config.ingest_admin},
                            .worker = {.name = "worker", .address = ctl->config.worker_admin}};
    struct ctl_http *client = ctl_http_new(NULL);
    ask_service(ctl, client, &report.ingest);
    ask_service(ctl, client, &report.worker);
    ctl_http_free(client);
    enum ctl_exit exit_code = ask_redis(ctl, &report);
    if (exit_code == CTL_OK)
        exit_code = ask_store(ctl, &report);
    if (exit_code != CTL_OK)
        return exit_code;
    if (((const struct options *)options)->json)
        print_report_json(&report);
    else
        print_report(ctl, &report);
    return judge(&report);
}

const struct command status_commands[] = {
    {"status", "", "what is running, ready and waiting",
     "Exit code 0: all is there and ready; 1: a service is not ready; 3: something cannot be reached.\n", 0, 0, flags,
     sizeof(struct options), run_status},
    {0},
};
