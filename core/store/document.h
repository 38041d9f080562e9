/* Inside the store: an event's document, as it is made, read and stamped with a claim. */
#ifndef STORE_DOCUMENT_H
#define STORE_DOCUMENT_H

#include "bson.h"
#include "event/delivery.h"

#define SHA256_HEX_BYTES 65

#define STATUS_PROCESSING "processing"
#define STATUS_RETRY_WAIT "retry_wait"
#define STATUS_SUCCEEDED  "succeeded"
#define STATUS_DEAD       "dead"

/* Lists in a document keep their last 100. */
#define HISTORY_MAX 100

void body_hash(struct slice body, char hex[SHA256_HEX_BYTES]);

struct claim_stamp {
    struct slice token, worker, entry_id, epoch;
    wall_time now;
};
/* claim: {token, worker, at, entry_id} */
void put_claim(bson_t *doc, const struct claim_stamp *stamp);

/* A new document, claimed at once. Its attempts go on counting from the entry's number: a document that was there
 * before (expired, lost) may have left a dead letter with higher numbers. */
void document_build(bson_t *out, const struct delivery *delivery, const struct claim_stamp *stamp, const char *sha256);

/* The event for its next attempt. Views into doc. */
void document_read(const bson_t *doc, struct event *event);
/* The same, copied into arena. */
void document_read_kept(const bson_t *doc, struct arena *arena, struct event *event);

#endif
