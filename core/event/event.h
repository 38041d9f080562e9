/* The domain, pure: an event as ingest accepted it, its identity, and its envelope on the queue.
 * Used by every part above. No I/O, no clock of its own. */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/slice.h"

#define EVENT_SOURCE_MAX_BYTES  64  /* [a-z0-9_-], starts with a letter or digit */
#define EVENT_ID_MAX_BYTES      256 /* UTF-8 without control characters */
#define EVENT_TYPE_MAX_BYTES    128
#define EVENT_TIME_MAX_BYTES    64
#define EVENT_HEADERS_MAX_BYTES 8192
#define ENVELOPE_MAX_BYTES                                                                                             \
    (9u << 20) /* the largest body that can be set, and room for all else: a store takes 16 MiB */
#define EVENT_KEY_MAX_BYTES (EVENT_SOURCE_MAX_BYTES + 1 + EVENT_ID_MAX_BYTES)

/* All slices are views; whoever made the event says whose memory they are in. */
struct event {
    struct slice source;
    struct slice event_id;
    struct slice type;
    struct slice occurred_at; /* as the sender wrote it */
    wall_time received_at;
    struct slice ingest_id;   /* one submission; the same identity submitted again has another */
    struct slice traceparent; /* empty when there is none */
    struct slice content_type;
    struct slice headers; /* "name: value\n" lines as received, without credentials; may be empty */
    struct slice body;    /* byte for byte as signed */
    uint32_t attempt;     /* the number of the attempt that this delivery is for; 1 is the first */
    struct slice replay;  /* who asked for the replay that queued this; empty otherwise */
};

/* The identity: "source/event_id". It is _id in the store and the member in the retry set. In arena. */
struct slice event_key(const struct event *event, struct arena *arena);

/* Which partition an identity lives in; the same on every machine. */
uint32_t event_partition(struct slice key, uint32_t partitions);

/* Names that strangers choose. err says what is wrong with the value, in words fit for an HTTP answer. */
bool event_source_is_valid(struct slice source);
bool event_check_fields(const struct event *event, const char **field, struct error *err) MUST_USE;

/* The envelope: plain fields in this order, readable with redis-cli. Empty optional fields are left out. */
#define ENVELOPE_MAX_FIELDS 12
struct envelope_field {
    struct slice name, value;
};

/* Fills fields (views into event, numbers printed into arena) and returns how many. */
size_t envelope_encode(const struct event *event, struct arena *arena,
                       struct envelope_field fields[ENVELOPE_MAX_FIELDS]);

/* Fills event with views into the fields' values. Unknown fields are ignored; a missing or malformed one is an error.
 */
bool envelope_decode(const struct envelope_field *fields, size_t n, struct event *event, struct error *err) MUST_USE;

#endif
