/* Inside the store: connections, round trips and what their errors mean. */
#ifndef STORE_CLIENT_H
#define STORE_CLIENT_H

#include <mongoc/mongoc.h>

#include "base/clock.h"
#include "base/memory.h"
#include "store/store.h"

struct store {
    mongoc_client_pool_t *pool;
    char *database;
    char *worker;
    int64_t lease_ms;
};

struct store_client {
    struct store *store;
    mongoc_client_t *client;
    mongoc_collection_t *events, *letters;
    bson_t unordered, upsert;    /* options that never change */
    bson_t unchecked;            /* the same, for documents that were made here: their texts were checked already */
    struct arena *scratch;       /* of one call */
    mono_time started, deadline; /* of one call */
    bool cut_off;                /* the last failure was a broken connection */
};

/* Each public call: begin, do it, and once more when should_repeat. */
void client_begin(struct store_client *client);
/* true when the connection broke at once: it had gone stale while idle (a restarted server), so that a second try
 * is right. After a time-out it is not. */
bool client_should_repeat(const struct store_client *client, enum store_result result);

/* Asked before each round trip. false: the call has used up its time, err says so. */
bool client_is_in_time(const struct store_client *client, struct error *err) MUST_USE;

/* failure.c. What an error of the driver means; fills err. */
enum store_result client_fail(struct store_client *client, const bson_error_t *error, struct error *err);
bool code_is_transient(int64_t code);

#define CODE_DUPLICATE_KEY 11000

/* One unordered bulk of one kind of operation. bulk_open … bulk_close, always. */
struct write_error {
    size_t index; /* as bulk_insert and bulk_update counted */
    int64_t code;
    struct slice message; /* lives until bulk_close */
};
struct bulk {
    struct store_client *client;
    mongoc_bulk_operation_t *operation;
    size_t n;
    bson_t reply;
    int64_t inserted, matched, upserted;
    struct write_error *errors; /* in scratch */
    size_t n_errors;
};
void bulk_open(struct bulk *bulk, struct store_client *client, mongoc_collection_t *collection);
/* false: the driver refuses the operation, err says why; it is left out and does not count. */
bool bulk_insert(struct bulk *bulk, const bson_t *doc, struct error *err) MUST_USE;
bool bulk_update(struct bulk *bulk, const bson_t *filter, const bson_t *update, bool upsert,
                 struct error *err) MUST_USE;
/* STORE_OK: the server took every operation, except those in errors. An empty bulk is STORE_OK without a round trip. */
enum store_result bulk_run(struct bulk *bulk, struct error *err) MUST_USE;
void bulk_close(struct bulk *bulk);
/* The first error that is not in `tolerated` as a result; STORE_OK when there is none. */
enum store_result bulk_first_error(const struct bulk *bulk, int64_t tolerated, struct error *err) MUST_USE;

/* A single conditional update. *matched: documents that fitted. */
enum store_result client_update(struct store_client *client, mongoc_collection_t *collection, const bson_t *filter,
                                const bson_t *update, int64_t *matched, struct error *err) MUST_USE;

/* Calls row for each document found. doc lives during the call. */
typedef void find_row(void *arg, const bson_t *doc);
enum store_result client_find(struct store_client *client, mongoc_collection_t *collection, const bson_t *filter,
                              const bson_t *opts, find_row *row, void *arg, struct error *err) MUST_USE;
/* The same by _id, with a projection (NULL: all). */
enum store_result client_find_ids(struct store_client *client, mongoc_collection_t *collection, const struct slice *ids,
                                  size_t n, const char *const *fields, find_row *row, void *arg,
                                  struct error *err) MUST_USE;
/* One document as a copy for bson_destroy, or STORE_NOT_FOUND. */
enum store_result client_get(struct store_client *client, mongoc_collection_t *collection, struct slice id,
                             bson_t **doc, struct error *err) MUST_USE;

/* For scripts' collections: NULL with err when the name is not one that they may use. Destroy it. */
mongoc_collection_t *client_collection(struct store_client *client, struct slice name, struct error *err);

#endif
