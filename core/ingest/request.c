#include "ingest/request.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/utf8.h"
#include "event/event.h"
#include "ingest/problem.h"
#include "ingest/syntax.h"

#define RETRY_AFTER_UNAVAILABLE_S 2
#define RETRY_AFTER_BACKLOG_S     5
#define FLOOD_LOG_MS              200 /* a log line of a kind that floods, at most this often */

/* A request on its way; on the stack of request_serve. */
struct journey {
    struct desk *desk;
    const struct http_request *request;
    mono_time started;
    wall_time received_at;
    struct slice source; /* empty: the path is none of ours */
    struct slice content_type;
    struct validation validation;
};

/* What is left of a journey while the queue is asked; its own memory, as the request may go away first. */
struct pending {
    void *handle; /* of the request; NULL when it is gone */
    struct http_wait *wait;
    struct desk *desk;
    mono_time started;
    int status;
    struct slice source, body; /* in the request's memory */
};

/* ---- refusing ---- */

struct refusal {
    struct problem problem;
    struct slice reason; /* for the log only; empty: the detail */
    const char *allow;
    int64_t retry_after_s;
    bool close;
};

static struct slice reason_of(const struct refusal *refusal)
{
    return refusal->reason.len > 0 ? refusal->reason : refusal->problem.detail;
}

/* One line a refusal; those that an outage or a flood repeats without end (429, 503) are thinned out. */
static void log_refusal(struct desk *desk, void *handle, struct slice source, const struct refusal *refusal)
{
    char peer[HTTP_PEER_BYTES];
    uint64_t skipped = 0;
    int status = refusal->problem.status;
    bool is_flood = status == 429 || status == 503;
    if (!log_enabled(LOG_INFO) || (is_flood && !log_gate_open(&desk->gate, FLOOD_LOG_MS, &skipped)))
        return;
    const struct log_field end = {0};
    const struct log_field fields[] = {LOG_SLICE("source", source),
                                       LOG_I("status", status),
                                       LOG_SLICE("code", refusal->problem.code),
                                       LOG_SLICE("reason", reason_of(refusal)),
                                       LOG_S("remote", http_peer(handle, peer)),
                                       is_flood ? LOG_I("skipped", skipped) : end,
                                       end};
    log_write(LOG_INFO, "rejected", fields);
}

static void record_refusal(struct desk *desk, void *handle, struct slice source, const struct refusal *refusal)
{
    log_refusal(desk, handle, source, refusal);
    measures_count(desk->measures, refusal->problem.code);
}

static void send_refusal(struct desk *desk, void *handle, struct slice source, const struct refusal *refusal)
{
    record_refusal(desk, handle, source, refusal);
    buf_clear(&desk->text);
    problem_write(&refusal->problem, &desk->text);
    http_answer(handle, &(struct http_answer){.status = refusal->problem.status,
                                              .content_type = "application/problem+json",
                                              .body = http_keep(handle, buf_slice(&desk->text)),
                                              .allow = refusal->allow,
                                              .retry_after_s = refusal->retry_after_s,
                                              .close = refusal->close || desk->draining});
}

/* The end of a journey that failed: false, so that a check can return it. */
static bool refuse(const struct journey *j, const struct refusal *refusal)
{
    send_refusal(j->desk, j->request->handle, j->source, refusal);
    return false;
}

static bool refuse_as(const struct journey *j, enum problem_id id, const char *detail)
{
    return refuse(j, &(struct refusal){.problem = problem_of(id, detail)});
}

/* ---- what can be told without a script ---- */

static bool is_sound(struct journey *j)
{
    const char *problem = j->request->framing.problem;
    return problem == NULL ||
           refuse(j, &(struct refusal){.problem = problem_of(PROBLEM_BAD_FRAMING, problem), .close = true});
}

static bool is_addressed(struct journey *j)
{
    if (j->source.len == 0)
        return refuse_as(j, PROBLEM_NOT_FOUND, "Events are posted to /v1/events/{source}.");
    if (slice_is(j->request->method, "POST"))
        return true;
    return refuse(j, &(struct refusal){.problem = problem_of(PROBLEM_METHOD_NOT_ALLOWED, "Only POST is possible here."),
                                       .allow = "POST"});
}

static bool is_framed(struct journey *j)
{
    const struct framing *framing = &j->request->framing;
    if (!framing->has_length && !framing->is_chunked)
        return refuse_as(j, PROBLEM_LENGTH_REQUIRED, "The request has neither Content-Length nor chunked encoding.");
    if (j->request->is_too_large)
        return refuse_as(j, PROBLEM_TOO_LARGE, "The body is larger than this service takes.");
    return true;
}

static bool is_json_type(struct journey *j)
{
    static const struct slice name = SLICE_LITERAL("content-type");
    struct slice again;
    void *handle = j->request->handle;
    if (http_header(handle, name, 0, &j->content_type) && !http_header(handle, name, 1, &again) &&
        syntax_is_json_type(j->content_type))
        return true;
    return refuse_as(j, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json.");
}

static bool is_plain(struct journey *j)
{
    static const struct slice name = SLICE_LITERAL("content-encoding");
    struct slice coding;
    for (size_t i = 0; http_header(j->request->handle, name, i, &coding); i++) {
        if (!syntax_is_identity(coding))
            return refuse_as(j, PROBLEM_UNSUPPORTED_ENCODING, "The body must be sent without a Content-Encoding.");
    }
    return true;
}

static bool is_open(struct journey *j)
{
    return !j->desk->draining ||
           refuse(j,
                  &(struct refusal){.problem = problem_of(PROBLEM_SHUTTING_DOWN, "The service is stopping; try again."),
                                    .retry_after_s = RETRY_AFTER_UNAVAILABLE_S,
                                    .close = true});
}

/* ---- validation ---- */

/* Codes go into metrics and URNs. */
static struct slice tidy_code(struct slice code)
{
    bool good = code.len > 0 && code.len <= 64;
    for (size_t i = 0; good && i < code.len; i++) {
        char c = code.base[i];
        good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    }
    return good ? code : SLICE_LITERAL("rejected");
}

static bool refuse_by_script(const struct journey *j)
{
    const struct validation *v = &j->validation;
    return refuse(j, &(struct refusal){.problem = {.status = v->status,
                                                   .code = tidy_code(v->code),
                                                   .title = slice_of(problem_status_title(v->status)),
                                                   .detail = v->detail,
                                                   .field = v->field},
                                       .reason = v->reason,
                                       .retry_after_s = v->status == 429 ? RETRY_AFTER_BACKLOG_S : 0});
}

static bool is_valid(struct journey *j)
{
    struct policy_request question = {.source = j->source,
                                      .body = j->request->body,
                                      .content_type = j->content_type,
                                      .received_at = j->received_at,
                                      .headers = j->request->handle,
                                      .header = http_header};
    policy_validate(j->desk->policy, &question, j->desk->arena, &j->validation);
    if (j->validation.kind == VALIDATION_ACCEPT)
        return true;
    if (j->validation.kind == VALIDATION_REJECT)
        return refuse_by_script(j);
    /* policy has logged the fault, with its traceback */
    return refuse(
        j, &(struct refusal){.problem = problem_of(PROBLEM_SCRIPT_FAULT, "The event could not be checked; try again."),
                             .reason = j->validation.detail,
                             .retry_after_s = RETRY_AFTER_UNAVAILABLE_S});
}

/* ---- limits ---- */

static bool is_within_limits(struct journey *j)
{
    int64_t wait_ms;
    if (!rate_take(j->desk->rate, j->source, j->started, &wait_ms))
        return refuse(j, &(struct refusal){.problem = problem_of(PROBLEM_RATE_LIMITED, "This source sends too fast."),
                                           .retry_after_s = (wait_ms + 999) / 1000});
    if (queue_adder_is_full(j->desk->adder))
        return refuse(j, &(struct refusal){.problem = problem_of(PROBLEM_BACKLOG_FULL,
                                                                 "Too many events are waiting; try again later."),
                                           .retry_after_s = RETRY_AFTER_BACKLOG_S});
    return true;
}

/* ---- the event ---- */

/* A script may take any header for a token, so a value that holds the source's secret is one, too. */
static bool is_credential(const struct journey *j, struct slice name, struct slice value)
{
    return slice_is(name, "authorization") || slice_is(name, "cookie") || slice_is(name, "proxy-authorization") ||
           policy_has_secret(j->desk->policy, j->source, value);
}

/* "name: value" lines, as many as fit. What is not UTF-8 would not fit into the store. */
static struct slice collect_headers(const struct journey *j)
{
    struct slice name, value;
    struct buf *text = &j->desk->text;
    buf_clear(text);
    for (size_t i = 0; http_header_at(j->request->handle, i, &name, &value); i++) {
        if (is_credential(j, name, value) || !utf8_check(value) ||
            text->len + name.len + value.len + 3 > EVENT_HEADERS_MAX_BYTES)
            continue;
        buf_add_slice(text, name);
        buf_add(text, ": ", 2);
        buf_add_slice(text, value);
        buf_add_char(text, '\n');
    }
    return arena_copy(j->desk->arena, text->data, text->len);
}

static struct slice find_traceparent(const struct journey *j)
{
    static const struct slice name = SLICE_LITERAL("traceparent");
    struct slice value, again;
    void *handle = j->request->handle;
    if (http_header(handle, name, 0, &value) && !http_header(handle, name, 1, &again) && syntax_is_traceparent(value))
        return value;
    return (struct slice){0};
}

static struct slice write_receipt(const struct journey *j, const struct event *event)
{
    char received_at[CLOCK_TEXT_BYTES];
    struct buf *text = &j->desk->text;
    buf_clear(text);
    buf_add_text(text, "{\"status\":\"accepted\",\"event_id\":");
    json_add_string(text, event->event_id);
    buf_add_text(text, ",\"ingest_id\":\"");
    buf_add_slice(text, event->ingest_id);
    buf_add_text(text, "\",\"received_at\":\"");
    buf_add_text(text, clock_format(event->received_at, received_at));
    buf_add_text(text, "\"}\n");
    return http_keep(j->request->handle, buf_slice(text));
}

/* ---- the queue, and the reply ---- */

static void refuse_unavailable(struct desk *desk, void *handle, struct slice source)
{
    const char *reason = desk->adder == NULL ? "shutting down" : queue_adder_problem(desk->adder);
    struct refusal refusal = {.problem =
                                  problem_of(PROBLEM_QUEUE_UNAVAILABLE, "The event was not accepted; send it again."),
                              .reason = slice_of(reason),
                              .retry_after_s = RETRY_AFTER_UNAVAILABLE_S};
    send_refusal(desk, handle, source, &refusal);
}

static void acknowledge(const struct pending *pending)
{
    struct measures *m = pending->desk->measures;
    metric_add(m->accepted, 1);
    metric_add(m->answered_accepted, 1);
    metric_observe_us(m->ack_seconds, clock_mono().us - pending->started.us);
    http_answer(pending->handle, &(struct http_answer){.status = pending->status,
                                                       .content_type = "application/json",
                                                       .body = pending->body,
                                                       .close = pending->desk->draining});
}

/* Exactly once for each event that was added. The request and this record know each other: the request's end clears
 * handle, and the wait is ended here before the answer lets the request's memory go. */
static void on_added(void *arg, enum add_result result)
{
    struct pending *pending = arg;
    if (pending->handle != NULL) {
        http_wait_end(pending->wait);
        if (result == ADD_OK)
            acknowledge(pending);
        else
            refuse_unavailable(pending->desk, pending->handle, pending->source);
    }
    free(pending);
}

static void add(struct journey *j, const struct event *event)
{
    void *handle = j->request->handle;
    struct pending *pending = memory_alloc(sizeof *pending);
    *pending = (struct pending){.handle = handle,
                                .desk = j->desk,
                                .started = j->started,
                                .status = j->validation.accept_status,
                                .source = j->source,
                                .body = write_receipt(j, event)};
    if (!queue_add(j->desk->adder, event, on_added, pending)) {
        free(pending);
        refuse_unavailable(j->desk, handle, j->source);
        return;
    }
    /* From here on the body may move: the queue has its own copy. */
    pending->wait = http_wait(handle, &pending->handle);
}

static void hand_over(struct journey *j)
{
    char ingest_id[ID_TEXT_BYTES];
    struct event event = {.source = j->source,
                          .event_id = j->validation.event_id,
                          .type = j->validation.type,
                          .occurred_at = j->validation.occurred_at,
                          .received_at = j->received_at,
                          .ingest_id = slice_of(id_new(j->received_at, ingest_id)),
                          .traceparent = find_traceparent(j),
                          .content_type = j->content_type,
                          .headers = collect_headers(j),
                          .body = j->request->body,
                          .attempt = 1};
    const char *field;
    struct error err;
    if (!event_check_fields(&event, &field, &err)) {
        struct refusal refusal = {.problem = problem_of(PROBLEM_INVALID_FIELD, err.text)};
        refusal.problem.field = slice_of(field);
        refuse(j, &refusal);
        return;
    }
    log_debug("adding", LOG_SLICE("source", event.source), LOG_SLICE("event_id", event.event_id),
              LOG_SLICE("ingest_id", event.ingest_id));
    add(j, &event);
}

/* Empty: the path is none of ours. */
static struct slice source_of(struct slice path)
{
    struct slice source;
    return syntax_event_path(path, &source) ? source : (struct slice){0};
}

void request_refused(struct desk *desk, void *handle, struct slice path, const struct problem *problem)
{
    record_refusal(desk, handle, source_of(path), &(struct refusal){.problem = *problem});
}

void request_serve(struct desk *desk, const struct http_request *request)
{
    struct journey j = {.desk = desk,
                        .request = request,
                        .started = clock_mono(),
                        .received_at = clock_wall(),
                        .source = source_of(request->path)};
    arena_reset(desk->arena);
    if (is_sound(&j) && is_addressed(&j) && is_framed(&j) && is_json_type(&j) && is_plain(&j) && is_open(&j) &&
        is_valid(&j) && is_within_limits(&j))
        hand_over(&j);
}
