/* One request's life: request -> policy_validate -> queue_add -> reply. request.c reads from top to bottom. */
#ifndef INGEST_REQUEST_H
#define INGEST_REQUEST_H

#include "base/log.h"
#include "base/memory.h"
#include "ingest/http.h"
#include "ingest/measures.h"
#include "ingest/rate.h"
#include "policy/policy.h"
#include "queue/queue_add.h"

/* What serving requests needs; one a thread. All pointers are the loop's. */
struct desk {
    struct policy *policy;
    struct queue_adder *adder; /* NULL at the very end of a drain */
    struct rate *rate;         /* shared */
    struct measures *measures; /* shared */
    struct arena *arena;       /* reset for each request */
    struct buf text;           /* for building answers */
    bool draining;
    struct log_gate gate; /* for refusals that come in floods */
};

/* Serves a request: answers it now, or when the queue has it. */
void request_serve(struct desk *desk, const struct http_request *request);

/* A request that was refused before it was read whole, and is answered already: logs and counts it. */
void request_refused(struct desk *desk, void *handle, struct slice path, const struct problem *problem);

#endif
