/* The inside of struct queue, for the files of this part. */
#ifndef QUEUE_CLIENT_H
#define QUEUE_CLIENT_H

#include <hiredis.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/id.h"
#include "queue/command.h"
#include "queue/keys.h"
#include "queue/pipeline.h"
#include "queue/queue.h"

struct partition {
    struct queue_keys keys;
    char epoch[64]; /* "" until the first open */
};

struct queue {
    struct redis_url url;
    char *consumer; /* "" takes nothing: groups are not made by its calls, only by queue_open */
    int64_t timeout_ms, lease_ms;
    uint32_t n_partitions;
    struct partition *partitions;

    redisContext *redis;     /* NULL: not connected */
    int64_t read_timeout_ms; /* as set on the socket */
    bool is_open;            /* on this connection, group and epoch of each partition were seen */
    bool in_doubt; /* an answer was lost that may have handed us entries, or the handing back of some failed */
    bool renewed;  /* an epoch changed since the last queue_open told */

    uint32_t turn;                  /* the partition to begin with, so that none starves */
    mono_time sweep_at;             /* when to look for long-gone consumers again */
    struct redis_pipeline pipeline; /* of the current call */
};

/* connection.c: connects, authenticates, selects the database, loads the scripts. The password never gets into err. */
enum queue_result connection_open(struct queue *queue, struct error *err) MUST_USE;
void connection_close(struct queue *queue);
bool connection_set_timeout(struct queue *queue, int64_t ms, struct error *err) MUST_USE;

/* Every call's frame: begin connects and opens when necessary and empties the pipeline; run sends it. After anything
 * but QUEUE_OK the connection is closed. */
enum queue_result queue_begin(struct queue *queue, struct error *err) MUST_USE;
enum queue_result queue_run(struct queue *queue, struct error *err) MUST_USE;
/* The epoch can change while we are connected: Redis was emptied, and another client was first to make the group again.
 * So whatever takes or promotes asks for it in the same round trip: ask adds the call, check judges its reply. */
void queue_ask_epoch(struct queue *queue, uint32_t partition);
enum queue_result queue_check_epoch(struct queue *queue, uint32_t partition, const redisReply *reply,
                                    struct error *err) MUST_USE;
/* For an answer of the wrong shape. */
enum queue_result queue_nonsense(struct queue *queue, const char *what, struct error *err) MUST_USE;

#endif
