/* What the store's tests share: a server, two clients (two workers), deliveries made by hand, and the documents as they
 * are in the database. */
#ifndef TESTS_STORE_BENCH_H
#define TESTS_STORE_BENCH_H

#include "../check.h"

#include <mongoc/mongoc.h>

#include "base/memory.h"
#include "store/store.h"

#define LEASE_MS 6000 /* a socket waits for a second */

/* devstore.c: the server. WAYBILL_TEST_MONGO_URL, or a waybill-devstore of our own on a file in a temporary folder. */
struct server {
    int pid; /* 0: not ours */
    int port;
    char folder[64];
    char url[512]; /* without a database */
};
void server_start(struct server *server);
void server_stop(struct server *server);    /* and removes its folder */
void server_kill(struct server *server);    /* SIGKILL; the file stays */
void server_restart(struct server *server); /* on the same port and file */

struct bench {
    struct server server;
    char url[640]; /* with a database of this test's own */
    char database[64];
    struct store *stores[2];
    struct store_client *a, *b; /* two workers, "worker-a" and "worker-b" */
    mongoc_client_t *raw;
    struct arena *arena;
    uint64_t serial;
    struct slice epochs[1];
};

int bench_setup(void **state);    /* one server and bench a group */
int bench_teardown(void **state); /* the database goes too */

/* An event in a worker's hands. Everything lives in bench's arena. */
struct delivery delivery_new(struct bench *bench, const char *event_id);
/* The same identity, submitted once more (another ingest_id and entry). */
struct delivery delivery_again(struct bench *bench, const struct delivery *first, const char *body);
/* Another entry of the same submission, for a later attempt. */
struct delivery delivery_retry(struct bench *bench, const struct delivery *first, uint32_t attempt);
/* The same entry, handed out once more. */
struct delivery delivery_redelivered(struct bench *bench, const struct delivery *first);
/* An id that no other test uses. */
const char *new_id(struct bench *bench);

struct store_claim claim_new(struct bench *bench);
/* Claims one delivery and says what came of it. */
enum claim_state claim_one(struct store_client *client, const struct store_claim *claim, struct delivery *delivery);
void commit_one(struct store_client *client, const struct store_claim *claim, struct delivery *delivery);

/* As the worker fills deliveries in. */
void ran_well(struct delivery *delivery);
void ran_badly(struct delivery *delivery, enum decision_kind decision, int64_t delay_ms, const char *reason);
void add_write(struct bench *bench, struct delivery *delivery, const char *collection, const char *id,
               const char *update);
void add_publish(struct bench *bench, struct delivery *delivery, const char *topic, const char *payload);

/* The database as it is. */
bson_t *document(struct bench *bench, const char *collection, struct slice id); /* NULL: there is none. bson_destroy */
int64_t count(struct bench *bench, const char *collection, const char *filter_json);
/* One value by its dotted path: text, or -1 / "" when there is none. */
int64_t number_at(struct bench *bench, const char *collection, struct slice id, const char *path);
const char *text_at(struct bench *bench, const char *collection, struct slice id, const char *path);
bool exists_at(struct bench *bench, const char *collection, struct slice id, const char *path);
size_t length_at(struct bench *bench, const char *collection, struct slice id, const char *path);
void change(struct bench *bench, const char *collection, struct slice id, const char *update_json);

/* configureFailPoint failCommand, for the connections named app (NULL: all of the workers). mode: "{\"times\": 1}",
 * "{\"skip\": 2}" (from then on always), "\"alwaysOn\"", "\"off\"". data: what a command meets, and which. The test is
 * skipped where there are no fail points. */
void fail_commands_of(struct bench *bench, const char *app, const char *mode, const char *data);
void fail_commands(struct bench *bench, const char *mode, const char *data); /* of all workers */
void fail_no_more(struct bench *bench);

/* One more store, whose connections have a name of their own for fail points, and which waits long for its answers. */
struct store *patient_store(struct bench *bench, const char *appname);

#endif
