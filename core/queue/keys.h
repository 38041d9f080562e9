/* The names of everything in Redis. The hash tag keeps a partition's keys on one node of a cluster. */
#ifndef QUEUE_KEYS_H
#define QUEUE_KEYS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define QUEUE_GROUP "workers"

enum queue_key {
    KEY_EVENTS,     /* stream */
    KEY_RETRY,      /* zset of event keys, score = due in ms */
    KEY_ENVELOPES,  /* hash by event key: what waits in retry */
    KEY_DEAD,       /* stream of notices */
    KEY_DEAD_INDEX, /* hash by event key: the id of its notice */
    KEY_EPOCH,      /* string */
    KEY_PROBE,      /* never exists: see add_backlog.c */
    KEY_COUNT,
};

#define KEY_MAX_BYTES 48

struct queue_keys {
    char text[KEY_COUNT][KEY_MAX_BYTES];
    struct slice of[KEY_COUNT]; /* views into text: the struct must not move */
};

void queue_keys_init(struct queue_keys *keys, uint32_t partition);

/* Adds "waybill:{N}:out:<topic>". */
void queue_key_out(uint32_t partition, struct slice topic, struct buf *out);

/* Adds "waybill:{N}:published:<event key>", the marker of an event whose messages were published. */
void queue_key_published(uint32_t partition, struct slice event_key, struct buf *out);

#endif
