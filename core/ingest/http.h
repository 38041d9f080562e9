/* HTTP as a request's life needs it: what was asked, memory that lives as long as the request, one answer. Behind it is
 * libh2o 2.2.5 (HTTP/1.1 only; docs/decisions): http.c, listener.c, loop_h2o.c and loop.c are the files to touch when
 * it is replaced. */
#ifndef INGEST_HTTP_H
#define INGEST_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "ingest/framing.h"
#include "ingest/problem.h"

/* A request that was read whole. Views live until it is answered, body only until http_wait. */
struct http_request {
    void *handle; /* the library's; for the calls below */
    struct slice method, path, body;
    struct framing framing;
    bool is_too_large; /* by one byte; larger ones the library refuses while it reads */
};

struct http_answer {
    int status;
    const char *content_type; /* static; NULL: none */
    struct slice body;        /* static, or from http_keep */
    const char *allow;        /* static; NULL: none */
    int64_t retry_after_s;    /* 0: none */
    bool close;               /* the connection ends with this answer */
};

/* The value of the index-th header with this lower-case name. handle is http_request.handle. */
bool http_header(void *handle, struct slice name, size_t index, struct slice *value);
/* The headers in order; false past the end. Framing headers, Host, Expect and Upgrade are not among them. */
bool http_header_at(void *handle, size_t index, struct slice *name, struct slice *value);

/* Copies into the request's memory. */
struct slice http_keep(void *handle, struct slice bytes);

/* The sender's address, as text. Returns out. */
#define HTTP_PEER_BYTES 64
const char *http_peer(void *handle, char out[HTTP_PEER_BYTES]);
struct st_h2o_socket_t;
const char *http_peer_of(struct st_h2o_socket_t *socket, char out[HTTP_PEER_BYTES]);

/* Sends the one answer; the handle is gone afterwards. */
void http_answer(void *handle, const struct http_answer *answer);

/* For an answer that comes in a later turn: watches the connection meanwhile. *slot must hold the handle, and becomes
 * NULL should the request go away first; then there is nothing to answer any more. */
struct http_wait;
struct http_wait *http_wait(void *handle, void **slot);
/* Ends the watch, just before the answer. Not when *slot is NULL. */
void http_wait_end(struct http_wait *wait);

/* The library's configuration, shared by all threads. */
struct http;
struct http_options {
    size_t body_limit_bytes;
    int64_t request_timeout_ms;
    void (*on_request)(void *thread, const struct http_request *request);
    /* The library answers this one, with this problem: only to be logged and counted. */
    void (*on_refused)(void *thread, void *handle, struct slice path, const struct problem *problem);
};
struct http *http_new(const struct http_options *options); /* NULL: not the library that we know */
void http_free(struct http *http);

/* The library's side of a thread: its context on an event loop; thread goes to on_request. */
struct st_h2o_context_t;
struct st_h2o_evloop_t;
struct st_h2o_context_t *http_context_new(struct http *http, struct st_h2o_evloop_t *evloop, void *thread);
void http_context_free(struct st_h2o_context_t *context); /* no connection may be left */

#endif
