/* Inside the store: what one call of store_commit keeps in mind. */
#ifndef STORE_COMMIT_H
#define STORE_COMMIT_H

#include "bson.h"
#include "client.h"

enum commit_owner { OWNER_GONE, OWNER_OURS, OWNER_DONE };

struct commit_item {
    struct delivery *delivery;
    bool stored;             /* its decision is in the document */
    enum commit_owner owner; /* by the last read */
    bson_t *attempts;        /* the recorded ones, for a dead letter; owned */
    struct slice worker;     /* who ran it, when that was not us (a decision that we took over); in scratch */
};

struct commit {
    struct store_client *client;
    const struct store_claim *claim;
    struct slice token;
    wall_time now;
    struct commit_item *items;
    size_t n;
};

/* Still ours, and not done. */
bool commit_is_open(const struct commit_item *item);
struct slice commit_worker(const struct commit *commit, const struct commit_item *item);

/* Step a, and again for decisions that changed in step b. */
enum store_result commit_store_decisions(struct commit *commit, struct error *err) MUST_USE;

/* Step b, effects.c and letter.c. A write that is refused for good makes its delivery dead. */
enum store_result commit_apply_writes(struct commit *commit, struct error *err) MUST_USE;
enum store_result commit_apply_letters(struct commit *commit, struct error *err) MUST_USE;

/* The delivery's effects cannot be: it is dead with reason "write_refused" and this message. */
void commit_refuse(struct commit *commit, struct commit_item *item, const char *why);

/* Step c, record.c. */
enum store_result commit_record(struct commit *commit, struct error *err) MUST_USE;

/* A bulk's totals fell short: one read tells whose token is where, and sets lost and committed. What is still ours was
 * not written. */
enum store_result commit_check_owners(struct commit *commit, struct commit_item **asked, size_t n,
                                      struct error *err) MUST_USE;

#endif
