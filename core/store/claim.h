/* Inside the store: what one call of store_claim keeps in mind. */
#ifndef STORE_CLAIM_H
#define STORE_CLAIM_H

#include "client.h"
#include "document.h"

enum claim_plan { PLAN_NONE, PLAN_INSERT, PLAN_TAKE, PLAN_COUNT };

struct claim_item {
    struct delivery *delivery;
    char sha256[SHA256_HEX_BYTES];
    bool open;  /* we do not know yet what it is */
    bool found; /* in the last read */
    enum claim_plan plan;
    enum claim_state then; /* PLAN_TAKE: what it is when the update fits */
    /* PLAN_TAKE: what the document must still look like, in scratch. A decision that its owner stores between our read
     * and our update must not be missed, so it is part of it. */
    bool waiting; /* retry_wait for attempt waits_for; else processing under old_token */
    int64_t waits_for;
    struct slice old_token, old_decision;
};

struct claim_run {
    struct store_client *client;
    const struct store_claim *claim;
    struct slice token;
    wall_time now;
    struct claim_item *items;
    size_t n;
};

struct claim_stamp claim_stamp_of(const struct claim_run *run, const struct claim_item *item);

/* sort_out.c: the table of the protocol's step 2. The fields of the document that it looks at: */
extern const char *const claim_fields[];
void claim_sort_out(struct claim_run *run, struct claim_item *item, const bson_t *doc);

#endif
