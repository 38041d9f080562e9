/*
 * commands.h - MongoDB's database commands.
 *
 * Purpose: turns one request into one answer; knows nothing of sockets.
 * Users: wire, main. Depends on: storage, query, update, projection, aggregate.
 */
#ifndef DEVSTORE_COMMANDS_H
#define DEVSTORE_COMMANDS_H

#include "storage.h"

#include <pthread.h>

#define MAX_MESSAGE_BYTES 48000000
#define MAX_WRITE_BATCH 100000
#define MAX_SEQUENCES 4

struct cursor;
struct failpoint;

struct server {
    struct store *store;
    struct failpoint *failpoint;
    struct cursors *cursors;
    int stop_fd; /* readable once the server stops */
    int64_t started_ms;
    atomic_int connections;
};

struct client {
    int64_t id;
    char application[128]; /* from the first hello */
};

/* A list of documents that came beside the command's own document. */
struct sequence {
    const char *name;
    const uint8_t *at, *end;
};

struct request {
    struct server *server;
    struct client *client;
    struct value body;
    struct sequence sequences[MAX_SEQUENCES];
    size_t sequence_count;
    struct arena arena; /* gone after the answer */
    const char *name, *db;
    bool legacy; /* came as OP_QUERY */
    int64_t deadline;
};

bool server_open(struct server *server, const char *file, char message[256]);
void server_close(struct server *server);
/* Puts the answer into reply; false: close the connection without one (a failpoint asked for it). */
bool command_run(struct request *request, struct buffer *reply);

/* The commands. Each appends the fields of its answer to an open document; `ok` is added for it. */
typedef bool command_function(struct request *request, struct buffer *out, struct error *error);
command_function command_insert, command_update, command_delete, command_find_and_modify;
command_function command_find, command_get_more, command_kill_cursors, command_count, command_distinct,
    command_aggregate;
command_function command_hello, command_ping, command_build_info, command_server_status, command_get_parameter,
    command_connection_status, command_command_line, command_whats_my_uri, command_create, command_drop, command_drop_database,
    command_create_indexes, command_list_indexes, command_drop_indexes, command_list_collections,
    command_list_databases;
command_function failpoint_configure;

/* What they share. */
struct value argument(const struct request *request, const char *name);
const char *request_namespace(struct request *request, struct error *error); /* NULL: error is set */
bool check_collation(struct value options, struct error *error);
bool check_document(struct value value, const char *field, struct error *error); /* missing is fine */
bool argument_int64(struct value value, const char *field, int64_t *out, struct error *error); /* missing: as it was */
bool check_known(struct value document, const char *where, const char *known, struct error *error);
/* The documents of a sequence, or of the array of that name in the body. */
bool argument_list(struct request *request, const char *name, struct value **list, size_t *count, struct error *error);
void put_error(struct buffer *out, const struct error *error);

struct cursors *cursors_open(void);
void cursors_close(struct cursors *cursors);

/* failpoint.c */
struct failpoint *failpoint_open(void);
void failpoint_free(struct failpoint *failpoint);
enum failpoint_action { FAILPOINT_NONE, FAILPOINT_ERROR, FAILPOINT_CLOSE };
/* Blocks if that is asked for. after: what to append to the answer once the command has run (or failed). */
enum failpoint_action failpoint_apply(struct request *request, struct buffer *after, struct error *error);

#endif
