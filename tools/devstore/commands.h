/*
 * commands.h - the server: MongoDB's database commands turn one request into one answer and know nothing of sockets.
 */
#ifndef DEVSTORE_COMMANDS_H
#define DEVSTORE_COMMANDS_H

#include "storage.h"

#include <pthread.h>

#define MAX_MESSAGE_BYTES 48000000
#define MAX_WRITE_BATCH   100000
#define MAX_SEQUENCES     4

struct server {
    struct store *store;
    struct failpoint *failpoint;
    struct cursors *cursors;
    int stop_fd; /* readable once the server stops */
    int64_t started_ms;
    pthread_mutex_t lock;
    pthread_cond_t left; /* a connection has ended */
    int connections;
    int64_t last_id; /* of a connection */
};

struct client {
    int64_t id;
    char application[128]; /* from the first hello */
};

/* A list of documents that came beside the command's own document. */
struct sequence {
    const char *name;
    struct buffer documents; /* a view */
};

struct request {
    struct server *server;
    struct client *client;
    value body;
    struct sequence sequences[MAX_SEQUENCES];
    size_t sequence_count;
    const char *name, *db;
    char *ns;                      /* database.collection, of the commands that have one */
    struct handle *handle;         /* a reader or the writer, as the command needs */
    struct collection *collection; /* NULL: there is none */
    bool legacy;                   /* came as OP_QUERY */
    int64_t deadline;
    bson_t *out; /* the answer; `ok` is added for the command */
    struct failure error;
};

bool server_open(struct server *server, const char *file, char message[256]);
/* wire.c: serves at a listening socket until stop_fd becomes readable, then until all connections have ended. */
void server_run(struct server *server, int listener);
void server_close(struct server *server);
/* Appends the answer to reply; false: close the connection without one (a failpoint asked for it). */
bool command_run(struct request *request, bson_t *reply);

typedef bool command_function(struct request *request);
command_function command_insert, command_update, command_delete, command_find_and_modify, command_find,
    command_get_more, command_kill_cursors, command_count, command_distinct, command_aggregate, command_hello,
    command_ping, command_build_info, command_server_status, command_get_parameter, command_create, command_drop,
    command_drop_database, command_create_indexes, command_list_indexes, command_drop_indexes, command_list_collections,
    command_list_databases, command_line, command_configure_failpoint;

/* What they share. */
value argument(const struct request *request, const char *name);
bool flag(const struct request *request, const char *name);
bool check_refused(value document, const char *words, struct failure *error); /* options that are not supported */
bool check_collation(value options, struct failure *error);
bool check_document(value v, const char *field, struct failure *error); /* missing is fine */
bool check_known(value document, const char *where, const char *known, struct failure *error);
bool argument_int64(value v, const char *field, int64_t *out, struct failure *error); /* missing: as it was */
void append_error(bson_t *out, const struct failure *error);

struct cursors *cursors_open(void);
void cursors_close(struct cursors *cursors);

struct failpoint *failpoint_open(void);
void failpoint_close(struct failpoint *failpoint);
enum failpoint_action { FAILPOINT_NONE, FAILPOINT_ERROR, FAILPOINT_CLOSE };
/* Blocks if that is asked for. after: what to append to the answer once the command has run (or failed). */
enum failpoint_action failpoint_apply(struct request *request, bson_t *after);

#endif
