/* waybillctl send: signs events and posts them, or prints them signed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/utf8.h"
#include "ctl/compose.h"
#include "ctl/ctl.h"
#include "ctl/http_client.h"
#include "ctl/json_read.h"
#include "ctl/output.h"
#include "ctl/sign.h"

#define INPUT_MAX_BYTES (size_t)(64 * 1024 * 1024)

struct options {
    const char *source, *url, *ca_file, *scheme, *file, *content_type, *signed_at;
    struct compose_fields fields;
    const char *hmac_header, *hmac_prefix, *hmac_encoding;
    bool lines, print_curl, print_json, json;
    int64_t timeout_ms;
};

#define AT(member) offsetof(struct options, member)
static const struct flag flags[] = {
    {"source", FLAG_TEXT, AT(source), "NAME", "who sends (default demo)"},
    {"type", FLAG_TEXT, AT(fields.type), "TYPE", "default parcel.in_transit"},
    {"tracking-number", FLAG_TEXT, AT(fields.tracking_number), "NUMBER", "default a new one"},
    {"status", FLAG_TEXT, AT(fields.status), "TEXT", "default the type's last word"},
    {"location", FLAG_TEXT, AT(fields.location), "TEXT", "a place's name, or a JSON object"},
    {"event-id", FLAG_TEXT, AT(fields.event_id), "ID", "default a new one"},
    {"occurred-at", FLAG_TEXT, AT(fields.occurred_at), "TIME", "RFC 3339, default now"},
    {"data", FLAG_TEXT, AT(fields.data), "JSON", "an object; its members are added to data"},
    {"simulate", FLAG_TEXT, AT(fields.simulate), "JSON", "data.simulate, as {\"fail\":\"transient\",\"times\":2}"},
    {"file", FLAG_TEXT, AT(file), "FILE", "post this body as it is, byte for byte; - is standard input"},
    {"lines", FLAG_SWITCH, AT(lines), NULL, "the file holds one event a line (JSON Lines)"},
    {"scheme", FLAG_TEXT, AT(scheme), "NAME", "standard-webhooks (default), github, stripe, shopify, plain-hmac"},
    {"hmac-header", FLAG_TEXT, AT(hmac_header), "NAME", "plain-hmac: header (default X-Signature)"},
    {"hmac-prefix", FLAG_TEXT, AT(hmac_prefix), "TEXT", "plain-hmac: before the value (default none)"},
    {"hmac-encoding", FLAG_TEXT, AT(hmac_encoding), "hex|base64", "plain-hmac: default hex"},
    {"signed-at", FLAG_TEXT, AT(signed_at), "TIME", "RFC 3339, default now"},
    {"content-type", FLAG_TEXT, AT(content_type), "TYPE", "default application/json"},
    {"url", FLAG_TEXT, AT(url), "URL", "default http://WAYBILL_LISTEN/v1/events/SOURCE"},
    {"ca-file", FLAG_TEXT, AT(ca_file), "FILE", "https: trust these certificates (default WAYBILL_TLS_CERT_FILE)"},
    {"timeout-ms", FLAG_COUNT, AT(timeout_ms), "MS", "wait so long for an answer (default 10000)"},
    {"print-curl", FLAG_SWITCH, AT(print_curl), NULL, "send nothing; print a curl command for a shell"},
    {"print-json", FLAG_SWITCH, AT(print_json), NULL, "send nothing; print url, headers and body as JSON"},
    {"json", FLAG_SWITCH, AT(json), NULL, "print answers as JSON, one a line"},
    {0},
};

struct sender {
    struct ctl *ctl;
    struct arena *arena; /* of the message at hand */
    const struct options *options;
    struct ctl_http *client;
    const char *url, *ca_file;
    struct slice secret;
    size_t n_sent, n_refused;
};

/* One signed request; slices are in the arena or the caller's. */
struct message {
    struct slice body, event_id;
    struct http_header headers[SIGN_MAX_HEADERS + 1];
    size_t n_headers;
};

static const char *or_else(const char *value, const char *fallback)
{
    return value != NULL ? value : fallback;
}

/* Where WAYBILL_LISTEN is reached from this machine: "all interfaces" is no address to connect to. */
static bool default_url(struct ctl *ctl, const char *source, const char **url, struct error *err)
{
    struct address address;
    if (!address_parse(ctl->config.listen, &address, err))
        return false;
    const char *host = address.host;
    if (*host == '\0' || strcmp(host, "0.0.0.0") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        host = "::1";
    bool v6 = strchr(host, ':') != NULL;
    *url = arena_printf(ctl->arena, "%s://%s%s%s:%u/v1/events/%s", ctl->config.tls_cert_file != NULL ? "https" : "http",
                        v6 ? "[" : "", host, v6 ? "]" : "", address.port, source)
               .base;
    return true;
}

/* A source's secrets are under its name with '-' as '_'. */
static struct slice find_secret(const struct ctl *ctl, const char *source)
{
    char name[80];
    snprintf(name, sizeof name, "%s", source);
    for (char *p = name; *p != '\0'; p++)
        *p = *p == '-' ? '_' : *p;
    for (size_t i = 0; i < ctl->config.n_secrets; i++)
        if (strcmp(ctl->config.secrets[i].source, name) == 0)
            return sign_choose_secret(ctl->config.secrets[i].values);
    return (struct slice){0};
}

static bool read_stream(FILE *stream, struct buf *out)
{
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, stream)) > 0 && out->len <= INPUT_MAX_BYTES)
        buf_add(out, block, n);
    return ferror(stream) == 0 && out->len <= INPUT_MAX_BYTES;
}

static bool read_input(const char *path, struct buf *out, struct error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *stream = is_stdin ? stdin : fopen(path, "re");
    if (stream == NULL) {
        error_set(err, "cannot open \"%s\": %s", path, strerror(errno));
        return false;
    }
    bool ok = read_stream(stream, out);
    if (!ok)
        error_set(err, "cannot read \"%s\": %s", path, out->len > INPUT_MAX_BYTES ? "over 64 MiB" : strerror(errno));
    if (!is_stdin)
        fclose(stream);
    return ok;
}

static bool make_message(struct sender *s, struct slice body, struct message *message, struct error *err)
{
    const struct options *o = s->options;
    const struct json_value *event = json_read(body, s->arena, NULL); /* a body that is no JSON is sent all the same */
    wall_time signed_at = clock_wall();
    if (o->signed_at != NULL && !clock_parse(slice_of(o->signed_at), &signed_at)) {
        error_set(err, "--signed-at: \"%s\" is not an RFC 3339 time", o->signed_at);
        return false;
    }
    *message = (struct message){.body = body, .event_id = json_text(json_get(event, "event_id"))};
    const struct sign_job job = {.scheme = or_else(o->scheme, "standard-webhooks"),
                                 .secret = s->secret,
                                 .event_id = message->event_id,
                                 .type = json_text(json_get(event, "type")),
                                 .body = body,
                                 .signed_at = signed_at,
                                 .hmac_header = or_else(o->hmac_header, "X-Signature"),
                                 .hmac_prefix = or_else(o->hmac_prefix, ""),
                                 .hmac_encoding = or_else(o->hmac_encoding, "hex")};
    message->headers[0] = (struct http_header){"Content-Type", slice_of(or_else(o->content_type, "application/json"))};
    size_t n;
    if (!sign(&job, s->arena, message->headers + 1, &n, err))
        return false;
    message->n_headers = n + 1;
    return true;
}

static enum ctl_exit print_curl(const struct sender *s, const struct message *message)
{
    if (memchr(message->body.base, '\0', message->body.len) != NULL)
        return ctl_fail(s->ctl, CTL_USAGE, "the body holds a NUL byte, which no command line can: use --print-json");
    struct buf line = {0};
    buf_add_text(&line, "curl -sS -i ");
    if (http_is_loopback(s->url) && (getenv("http_proxy") != NULL || getenv("all_proxy") != NULL))
        buf_add_text(&line, "--noproxy '*' ");
    if (s->ca_file != NULL) {
        buf_add_text(&line, "--cacert ");
        output_add_shell_word(&line, slice_of(s->ca_file));
        buf_add_char(&line, ' ');
    }
    buf_add_text(&line, "-X POST ");
    output_add_shell_word(&line, slice_of(s->url));
    for (size_t i = 0; i < message->n_headers; i++) {
        struct buf header = {0};
        buf_printf(&header, "%s: %.*s", message->headers[i].name, SLICE_ARG(message->headers[i].value));
        buf_add_text(&line, " -H ");
        output_add_shell_word(&line, buf_slice(&header));
        buf_free(&header);
    }
    buf_add_text(&line, " --data-raw "); /* not --data: a body that starts with '@' is no file name */
    output_add_shell_word(&line, message->body);
    printf("%s\n", line.data);
    buf_free(&line);
    return CTL_OK;
}

static enum ctl_exit print_json(const struct sender *s, const struct message *message)
{
    struct buf out = {0}, base64 = {0};
    struct json_writer w = json_writer(&out);
    json_object_open(&w);
    json_member_text(&w, "url", s->url);
    json_member_text(&w, "method", "POST");
    json_name(&w, "headers");
    json_object_open(&w);
    for (size_t i = 0; i < message->n_headers; i++)
        json_member_string(&w, message->headers[i].name, message->headers[i].value);
    json_object_close(&w);
    if (utf8_check(message->body))
        json_member_string(&w, "body", message->body);
    else
        json_member_text(&w, "body", NULL);
    crypto_base64_encode(message->body, &base64);
    json_member_string(&w, "body_base64", buf_slice(&base64));
    json_object_close(&w);
    output_line(&out);
    buf_free(&base64);
    buf_free(&out);
    return CTL_OK;
}

static void write_text(struct json_writer *w, const char *name, struct slice text)
{
    if (text.len > 0)
        json_member_string(w, name, text);
    else
        json_member_text(w, name, NULL);
}

static void write_times(struct json_writer *w, const struct http_response *response)
{
    char elapsed_ms[32];
    int n = snprintf(elapsed_ms, sizeof elapsed_ms, "%.3f", (double)response->elapsed_us / 1000);
    json_name(w, "elapsed_ms");
    json_raw(w, (struct slice){elapsed_ms, (size_t)n});
    json_name(w, "retry_after_s");
    if (response->retry_after_s < 0)
        json_null(w);
    else
        json_int(w, response->retry_after_s);
}

static void print_answer_json(const struct sender *s, const struct http_response *response, struct slice event_id)
{
    const struct json_value *body = json_read(buf_slice(&response->body), s->arena, NULL);
    struct buf out = {0};
    struct json_writer w = json_writer(&out);
    json_object_open(&w);
    json_member_int(&w, "status", response->status);
    write_text(&w, "event_id", event_id);
    write_text(&w, "ingest_id", json_text(json_get(body, "ingest_id")));
    write_text(&w, "code", json_text(json_get(body, "code")));
    write_times(&w, response);
    json_name(&w, "body"); /* the answer itself, as JSON when it is that */
    if (body != NULL)
        json_raw(&w, body->raw);
    else
        json_string(&w, buf_slice(&response->body));
    json_object_close(&w);
    output_line(&out);
    buf_free(&out);
}

static void print_answer(const struct sender *s, const struct http_response *response, struct slice event_id)
{
    const struct json_value *body = json_read(buf_slice(&response->body), s->arena, NULL);
    printf("%d ", response->status);
    if (response->status < 300) {
        struct slice status = json_text(json_get(body, "status"));
        struct slice ingest_id = json_text(json_get(body, "ingest_id"));
        printf("%.*s  event_id %.*s  ingest_id %.*s", SLICE_ARG(status), SLICE_ARG(event_id), SLICE_ARG(ingest_id));
    } else {
        struct slice code = json_text(json_get(body, "code")), field = json_text(json_get(body, "field"));
        struct slice detail = json_text(json_get(body, "detail"));
        printf("%.*s%s%.*s", SLICE_ARG(code), field.len > 0 ? "  " : "", SLICE_ARG(field));
        if (detail.len > 0)
            printf("  %.*s", SLICE_ARG(detail));
        if (event_id.len > 0)
            printf("  event_id %.*s", SLICE_ARG(event_id));
        if (response->retry_after_s >= 0)
            printf("  retry after %lld s", (long long)response->retry_after_s);
    }
    printf("  (%.1f ms)\n", (double)response->elapsed_us / 1000);
}

static enum ctl_exit post(struct sender *s, const struct message *message)
{
    const struct http_request request = {"POST",           s->url,
                                         message->headers, message->n_headers,
                                         message->body,    s->options->timeout_ms > 0 ? s->options->timeout_ms : 10000};
    struct http_response response;
    struct error err;
    enum ctl_exit exit_code = CTL_OK;
    if (!ctl_http_send(s->client, &request, &response, &err)) {
        exit_code = ctl_fail(s->ctl, CTL_UNREACHABLE, "%s (is the gateway running? `make run` starts one)", err.text);
    } else {
        s->n_sent++;
        if (s->options->json)
            print_answer_json(s, &response, message->event_id);
        else
            print_answer(s, &response, message->event_id);
        if (response.status < 200 || response.status > 299) {
            s->n_refused++;
            exit_code = CTL_NOT_GOOD;
        }
    }
    buf_free(&response.body);
    return exit_code;
}

static enum ctl_exit send_one(struct sender *s, struct slice body)
{
    struct message message;
    struct error err;
    if (!make_message(s, body, &message, &err))
        return ctl_fail(s->ctl, CTL_USAGE, "%s", err.text);
    if (s->options->print_curl)
        return print_curl(s, &message);
    if (s->options->print_json)
        return print_json(s, &message);
    return post(s, &message);
}

/* Each line that is not blank is one body. Goes on after a refusal, stops when nobody answers. */
static enum ctl_exit send_lines(struct sender *s, struct slice text)
{
    enum ctl_exit worst = CTL_OK;
    for (size_t at = 0; at < text.len;) {
        const char *end = memchr(text.base + at, '\n', text.len - at);
        struct slice line = {text.base + at, end == NULL ? text.len - at : (size_t)(end - text.base) - at};
        at += line.len + 1;
        if (line.len > 0 && line.base[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0)
            continue;
        enum ctl_exit one = send_one(s, line);
        arena_reset(s->arena);
        if (one == CTL_UNREACHABLE || one == CTL_USAGE)
            return one;
        worst = one > worst ? one : worst;
    }
    if (!s->options->json && !s->options->print_curl && !s->options->print_json)
        printf("%zu sent, %zu accepted, %zu refused\n", s->n_sent, s->n_sent - s->n_refused, s->n_refused);
    return worst;
}

static enum ctl_exit send_events(struct sender *s)
{
    const struct options *o = s->options;
    struct buf body = {0};
    struct error err;
    bool ok = o->file != NULL ? read_input(o->file, &body, &err) : compose_event(&o->fields, &body, &err);
    enum ctl_exit exit_code;
    if (!ok)
        exit_code = ctl_fail(s->ctl, CTL_USAGE, "%s", err.text);
    else if (o->lines)
        exit_code = send_lines(s, buf_slice(&body));
    else
        exit_code = send_one(s, buf_slice(&body));
    buf_free(&body);
    return exit_code;
}

static bool fields_are_given(const struct compose_fields *f)
{
    return f->event_id != NULL || f->type != NULL || f->occurred_at != NULL || f->tracking_number != NULL ||
           f->status != NULL || f->location != NULL || f->simulate != NULL || f->data != NULL;
}

static enum ctl_exit run_send(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct options *o = options;
    const char *source = or_else(o->source, "demo");
    struct sender s = {.ctl = ctl, .options = o, .url = o->url};
    struct error err;
    if (o->file != NULL && fields_are_given(&o->fields))
        return ctl_fail(ctl, CTL_USAGE, "--file sends a body as it is: it goes with no flag that names a field");
    if (o->lines && o->file == NULL)
        return ctl_fail(ctl, CTL_USAGE, "--lines needs --file FILE (or --file - for standard input)");
    if (s.url != NULL && strncmp(s.url, "http://", 7) != 0 && strncmp(s.url, "https://", 8) != 0)
        return ctl_fail(ctl, CTL_USAGE, "--url: \"%s\" is no http:// or https:// URL", s.url);
    if (s.url == NULL && !default_url(ctl, source, &s.url, &err))
        return ctl_fail(ctl, CTL_USAGE, "WAYBILL_LISTEN: %s", err.text);
    s.secret = find_secret(ctl, source);
    if (s.secret.len == 0) {
        const char *variable = output_upper(ctl->arena, source);
        return ctl_fail(ctl, CTL_USAGE,
                        "no secret to sign with for source \"%s\": set WAYBILL_SECRET_%s or "
                        "WAYBILL_SECRET_%s_FILE (after `make run`: `. .run/env`)",
                        source, variable, variable);
    }
    s.ca_file = or_else(o->ca_file, ctl->config.tls_cert_file);
    s.client = ctl_http_new(s.ca_file);
    s.arena = arena_new();
    enum ctl_exit exit_code = send_events(&s);
    arena_free(s.arena);
    ctl_http_free(s.client);
    return exit_code;
}

const struct command send_commands[] = {
    {"send", "", "sign events and post them to the gateway",
     "The event is made from fields, or read with --file. The secret comes from WAYBILL_SECRET_<SOURCE> or\n"
     "WAYBILL_SECRET_<SOURCE>_FILE; of several the first is used. An empty value (--tracking-number '') leaves\n"
     "a field out. What is left to send is new each time, the time included: to send the very same event again, a\n"
     "duplicate, give --event-id, --tracking-number and --occurred-at. Any other difference makes it a conflict.\n"
     "Exit code 0: every event was accepted; 1: one was refused; 3: no answer.\n"
     "\n"
     "  waybillctl send --type parcel.delivered --tracking-number WB123456785GB --location 'Leeds'\n"
     "  waybillctl send --file tests/data/parcels/01-leeds-to-bristol.jsonl --lines\n"
     "  waybillctl send --simulate '{\"fail\":\"transient\",\"times\":2}'\n",
     0, 0, flags, sizeof(struct options), run_send},
    {0},
};
