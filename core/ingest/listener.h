/* The public listener of one thread: accepts up to a cap of connections, counts them, closes the idle ones at a drain.
 * All threads accept from one shared socket, so nothing is lost when a thread stops. */
#ifndef INGEST_LISTENER_H
#define INGEST_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/metrics.h"
#include "ingest/loop_h2o.h"
#include "ingest/measures.h"

struct st_h2o_context_t;
struct st_h2o_socket_t;
struct ssl_ctx_st;

struct listener_options {
    struct st_h2o_context_t *context;
    struct loop_h2o *loop;
    int fd;                     /* listening; duplicated, the caller keeps his */
    struct ssl_ctx_st *tls;     /* NULL: plain HTTP. Shared */
    size_t max_connections;     /* of this thread; at the cap a newcomer waits until one closes */
    size_t max_in_all;          /* of all threads; at that cap one that is idle is closed for him */
    int64_t request_timeout_ms; /* that long a connection is kept while it waits for a whole request */
    size_t linger_max_bytes;    /* most that is read and thrown away behind a last answer */
    struct measures *measures;
};

struct listener;
struct listener *listener_new(const struct listener_options *options);
void listener_free(struct listener *listener); /* connections must be closed */
size_t listener_connections(const struct listener *listener);

/* For connections from now on. */
void listener_set_tls(struct listener *listener, struct ssl_ctx_st *tls);

/* No new connections, and the idle ones are closed; those with a request in progress close after their answer. */
void listener_drain(struct listener *listener);
/* Cuts what is left, in the middle of whatever it does. */
void listener_cut(struct listener *listener);

/* For http.c: what happens on the connection behind an accepted socket. */
struct connection;
struct connection *connection_of(struct st_h2o_socket_t *socket);
void connection_begins_request(struct connection *connection);
void connection_ends_request(struct connection *connection);
bool connection_is_busy(const struct connection *connection); /* between the two */
/* The connection is about to be closed although its sender may still be sending: go on reading for a while, so that the
 * sender gets to see the answer instead of a reset. */
void connection_lingers(struct connection *connection);

#endif
