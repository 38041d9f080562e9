#include "ingest/http.h"

#include <arpa/inet.h>
#include <h2o.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/memory.h"
#include "ingest/listener.h"
#include "ingest/parser.h"

/* While an answer is waited for, a sender may send his next requests; beyond so many bytes he must wait. */
#define PIPELINE_MAX_BYTES 65536

#define LAST_PATIENCE_MS 1000

struct http {
    h2o_globalconf_t config;
    h2o_handler_t *handler;
    struct http_options options;
};

struct handler {
    h2o_handler_t super;
    struct http *http;
};

struct filter {
    h2o_filter_t super;
    struct http *http;
};

static struct slice slice_from(h2o_iovec_t iovec)
{
    return (struct slice){iovec.base, iovec.len};
}

static h2o_socket_t *socket_of(h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn);
}

/* ---- the request ---- */

bool http_header_at(void *handle, size_t index, struct slice *name, struct slice *value)
{
    const h2o_req_t *req = handle;
    if (index >= req->headers.size)
        return false;
    *name = slice_from(*req->headers.entries[index].name);
    *value = slice_from(req->headers.entries[index].value);
    return true;
}

bool http_header(void *handle, struct slice name, size_t index, struct slice *value)
{
    struct slice candidate;
    for (size_t i = 0; http_header_at(handle, i, &candidate, value); i++) {
        if (slice_equal(candidate, name) && index-- == 0)
            return true;
    }
    return false;
}

struct slice http_keep(void *handle, struct slice bytes)
{
    h2o_req_t *req = handle;
    return slice_from(h2o_strdup(&req->pool, bytes.base, bytes.len));
}

const char *http_peer(void *handle, char out[HTTP_PEER_BYTES])
{
    return http_peer_of(socket_of(handle), out);
}

const char *http_peer_of(h2o_socket_t *socket, char out[HTTP_PEER_BYTES])
{
    struct sockaddr_storage address = {0};
    char host[INET6_ADDRSTRLEN] = "unknown";
    unsigned port = 0;
    if (h2o_socket_getpeername(socket, (struct sockaddr *)&address) > 0) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        bool is_v6 = address.ss_family == AF_INET6;
        inet_ntop(address.ss_family, is_v6 ? (const void *)&v6->sin6_addr : &v4->sin_addr, host, sizeof host);
        port = ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
    }
    snprintf(out, HTTP_PEER_BYTES, strchr(host, ':') == NULL ? "%s:%u" : "[%s]:%u", host, port);
    return out;
}

/* ---- the answer ---- */

void http_answer(void *handle, const struct http_answer *answer)
{
    static h2o_generator_t generator; /* all in one piece: nothing to continue or to stop */
    h2o_req_t *req = handle;
    req->res.status = answer->status;
    req->res.reason = problem_status_title(answer->status);
    req->res.content_length = answer->body.len;
    if (answer->content_type != NULL)
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, answer->content_type,
                       strlen(answer->content_type));
    if (answer->allow != NULL)
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("allow"), 0, NULL, answer->allow,
                              strlen(answer->allow));
    if (answer->retry_after_s > 0) {
        char *text = h2o_mem_alloc_pool(&req->pool, 24);
        int len = snprintf(text, 24, "%lld", (long long)answer->retry_after_s);
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("retry-after"), 0, NULL, text, (size_t)len);
    }
    if (answer->close)
        req->http1_is_persistent = 0;
    h2o_iovec_t body = h2o_iovec_init(answer->body.base, answer->body.len);
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
    h2o_start_response(req, &generator);
    h2o_send(req, &body, is_head || body.len == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

/* ---- waiting ---- */

struct http_wait {
    void **slot;
};

static void on_request_gone(void *arg)
{
    struct http_wait *wait = arg;
    if (wait->slot != NULL)
        *wait->slot = NULL;
}

/* The sender's next request, or his end. The first stays in the buffer until this one is answered; after the second the
 * answer is still sent, as only his sending half may be closed. */
static void on_input_meanwhile(h2o_socket_t *socket, const char *err)
{
    if (err != NULL || socket->input->size > PIPELINE_MAX_BYTES)
        h2o_socket_read_stop(socket);
}

struct http_wait *http_wait(void *handle, void **slot)
{
    h2o_req_t *req = handle;
    struct http_wait *wait = h2o_mem_alloc_shared(&req->pool, sizeof *wait, on_request_gone);
    wait->slot = slot;
    /* The library has stopped reading, and would take the socket out of the poll set and put it back for every
     * request: two system calls that this saves. */
    h2o_socket_read_start(socket_of(req), on_input_meanwhile);
    return wait;
}

void http_wait_end(struct http_wait *wait)
{
    wait->slot = NULL;
}

/* ---- what the library calls ---- */

/* The library looks for keep-alive only, and in the last such header. */
static bool asks_to_close(h2o_req_t *req)
{
    struct slice value;
    for (size_t i = 0; http_header(req, SLICE_LITERAL("connection"), i, &value); i++) {
        if (h2o_contains_token(value.base, value.len, H2O_STRLIT("close"), ','))
            return true;
    }
    return false;
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct http *http = ((struct handler *)self)->http;
    h2o_socket_t *socket = socket_of(req);
    struct http_request request = {.handle = req,
                                   .method = slice_from(req->input.method),
                                   .path = slice_from(req->input.path),
                                   .body = slice_from(req->entity),
                                   .is_too_large = req->entity.len > http->options.body_limit_bytes};
    connection_begins_request(connection_of(socket));
    if (asks_to_close(req))
        req->http1_is_persistent = 0;
    /* The buffer begins with the head of the request in hand, also when several are pipelined. */
    framing_scan((struct slice){socket->input->bytes, socket->input->size}, &request.framing);
    if (parser_refused(request.method) && request.framing.problem == NULL)
        request.framing.problem = "The request head is malformed or too large.";
    if (request.framing.problem != NULL) {
        /* Nobody knows where this request ends: nothing behind it may be taken for another one. */
        req->http1_is_persistent = 0;
        connection_lingers(connection_of(socket));
    }
    http->options.on_request(h2o_context_get_handler_context(req->conn->ctx, self), &request);
    return 0;
}

static void on_request_done(h2o_logger_t *self, h2o_req_t *req)
{
    (void)self;
    connection_ends_request(connection_of(socket_of(req)));
}

/* Answers that the library makes itself (a length that is no number, a body over the limit, an unknown expectation) get
 * our form. They come before the handler, so that it is they that have no generator of ours. */
struct replacement {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void send_replacement(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    (void)bufs;
    h2o_iovec_t body = ((struct replacement *)self)->body;
    bool is_head = n == 0;
    h2o_ostream_send_next(self, req, &body, is_head ? 0 : 1, state);
}

static struct problem library_problem(int status)
{
    switch (status) {
    case 413:
        return problem_of(PROBLEM_TOO_LARGE, "The body is larger than this service takes.");
    case 417:
        return problem_of(PROBLEM_EXPECTATION_FAILED, "The only expectation that is met is 100-continue.");
    default:
        return problem_of(PROBLEM_BAD_FRAMING, "The length or the chunks of the body are malformed.");
    }
}

static void on_setup_answer(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct connection *connection = connection_of(socket_of(req));
    if (connection_is_busy(connection)) { /* the handler's own answer */
        h2o_setup_next_ostream(req, slot);
        return;
    }
    connection_begins_request(connection);
    struct http *http = ((struct filter *)self)->http;
    struct problem problem = library_problem(req->res.status);
    struct buf body = {0};
    problem_write(&problem, &body);
    http->options.on_refused(h2o_context_get_handler_context(req->conn->ctx, http->handler), req,
                             slice_from(req->input.path), &problem);
    req->res.reason = problem_status_title(problem.status);
    req->res.headers = (h2o_headers_t){0};
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("application/problem+json"));
    req->res.content_length = body.len;
    struct replacement *replacement = (void *)h2o_add_ostream(req, sizeof *replacement, slot);
    replacement->super.do_send = send_replacement;
    replacement->body = h2o_strdup(&req->pool, body.data, body.len);
    buf_free(&body);
    connection_lingers(connection);
    h2o_setup_next_ostream(req, &replacement->super.next);
}

/* ---- configuration ---- */

struct http *http_new(const struct http_options *options)
{
    if (!parser_open())
        return NULL;
    struct http *http = memory_alloc(sizeof *http);
    http->options = *options;
    h2o_config_init(&http->config);
    http->config.server_name = (h2o_iovec_t){0};
    /* A chunked body must stay below what the library is told, one with a length may reach it. With one more, neither
     * is refused too early; what has just that one byte too many is left to us. */
    http->config.max_request_entity_size = options->body_limit_bytes + 1;
    /* The listener is first, and tells of it. This is for those who go on sending all the same. */
    http->config.http1.req_timeout = (uint64_t)(options->request_timeout_ms + LAST_PATIENCE_MS);
    http->config.http1.upgrade_to_http2 = 0;
    http->config.http2.callbacks = (h2o_protocol_callbacks_t){0};
    h2o_hostconf_t *host = h2o_config_register_host(&http->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    /* No path is registered: every request, and every answer of the library's own, goes through the fallback. */
    struct handler *handler = (void *)h2o_create_handler(&host->fallback_path, sizeof *handler);
    handler->super.on_req = on_request;
    handler->http = http;
    http->handler = &handler->super;
    struct filter *filter = (void *)h2o_create_filter(&host->fallback_path, sizeof *filter);
    filter->super.on_setup_ostream = on_setup_answer;
    filter->http = http;
    h2o_create_logger(&host->fallback_path, sizeof(h2o_logger_t))->log_access = on_request_done;
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL)
        return;
    h2o_config_dispose(&http->config);
    free(http);
}

h2o_context_t *http_context_new(struct http *http, h2o_evloop_t *evloop, void *thread)
{
    h2o_context_t *context = memory_alloc(sizeof *context);
    h2o_context_init(context, evloop, &http->config);
    h2o_context_set_handler_context(context, http->handler, thread);
    return context;
}

void http_context_free(h2o_context_t *context)
{
    if (context == NULL)
        return;
    h2o_context_dispose(context);
    free(context);
}
