/* One loop thread of ingest: an event loop with its HTTP context, listener, queue adder and policy. Everything in it
 * belongs to its thread; other threads use only the calls below. */
#ifndef INGEST_LOOP_H
#define INGEST_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "ingest/http.h"
#include "ingest/rate.h"
#include "policy/policy.h"

struct ssl_ctx_st;

struct loop_options {
    const struct config *config;
    struct http *http;
    struct rate *rate;
    struct measures *measures;
    struct ssl_ctx_st *tls; /* NULL: plain HTTP. The loop shares it */
    int listen_fd;
    size_t max_connections; /* of this thread */
    size_t max_in_all;      /* connections of all threads */
};

/* The library's configuration for loops. NULL: it is not the library that we know. */
struct http *loop_http_new(const struct config *config);

struct loop;

/* Starts the thread and waits until it serves. policy becomes the loop's on success. NULL: err says why. */
struct loop *loop_start(const struct loop_options *options, struct policy *policy, struct error *err);

/* Gives the loop a newer policy and certificate (NULL: none), which become its own; it swaps between two events. */
void loop_offer(struct loop *loop, struct policy *policy, struct ssl_ctx_st *tls);

struct loop_report {
    bool ready; /* the queue takes events */
    int64_t backlog, pending;
    size_t connections;
    char problem[256]; /* why it is not ready */
};
void loop_report(struct loop *loop, struct loop_report *out);

/* Tells the loop to finish what is in flight and to end; returns at once. */
void loop_drain(struct loop *loop);
/* Waits for its end. How many connections were left when the time was up, and cut off. */
size_t loop_wait(struct loop *loop);
/* After loop_wait. */
void loop_free(struct loop *loop);

#endif
