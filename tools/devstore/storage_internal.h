/*
 * storage_internal.h - what the files of storage share: the store, and SQLite's statements.
 */
#ifndef DEVSTORE_STORAGE_INTERNAL_H
#define DEVSTORE_STORAGE_INTERNAL_H

#include "storage.h"

#include <pthread.h>
#include <sqlite3.h>

enum { MAX_STATEMENTS = 32 };

/* The parameters ?1 to ?4; a statement takes those that its text names. */
struct parameters {
    int64_t number, limit;
    struct buffer low, high;
};

struct handle {
    sqlite3 *db;
    struct store *store;
    struct handle *next;
    struct {
        const char *sql;
        sqlite3_stmt *statement;
    } statements[MAX_STATEMENTS];
};

/* One SQLite transaction, and the commands that wait for it to be on disk. */
struct group {
    size_t members;
    bool done, broken;
};

struct store {
    char path[4096];
    bool temporary;
    int lock_fd;
    struct handle *writer, *readers; /* readers: the idle ones */
    pthread_mutex_t write_lock, group_lock, reader_lock;
    pthread_cond_t group_done, checkpoint_due;
    pthread_t checkpointer;
    int log_pages;
    bool stopping;
    atomic_int queued; /* writers that want write_lock */
    struct group *group;
    atomic_llong examined;
    struct collection *_Atomic collections;
    struct buffer owned; /* void *: all that the catalogue ever allocated */
};

/* The statement for a constant text with its parameters bound, to be stepped and reset. One that cannot be made is
 * NULL, and fails when it is stepped. */
sqlite3_stmt *handle_bind(struct handle *handle, const char *sql, struct parameters parameters);
/* Runs it up to its first row. found, unless NULL: whether there is one. */
bool handle_run(struct handle *handle, const char *sql, struct parameters parameters, bool *found,
                struct failure *error);
bool handle_error(struct handle *handle, struct failure *error);
/* Changes of the catalogue are committed before anybody sees them. */
bool store_flush(struct handle *writer, struct failure *error);

bool catalog_load(struct store *store);
struct parameters all_rows(const struct collection *collection); /* number < row < limit */
struct buffer index_prefix(int64_t id);                          /* of all entries of an index */

#endif
