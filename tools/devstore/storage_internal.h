/*
 * storage_internal.h - what the files of storage share: the store, and SQLite's statements.
 */
#ifndef DEVSTORE_STORAGE_INTERNAL_H
#define DEVSTORE_STORAGE_INTERNAL_H

#include "storage.h"

#include <pthread.h>
#include <sqlite3.h>

enum sql {
    SQL_DOCUMENT,
    SQL_ROWS,
    SQL_ROWS_DOWN, /* each _DOWN follows its upward twin */
    SQL_ENTRIES,
    SQL_ENTRIES_DOWN,
    SQL_COUNT,
    SQL_INSERT,
    SQL_UPDATE,
    SQL_DELETE,
    SQL_CLEAR,
    SQL_ENTRY_ADD,
    SQL_ENTRY_REMOVE,
    SQL_ENTRY_PROBE,
    SQL_ENTRY_CLEAR,
    SQL_CATALOG_ADD,
    SQL_CATALOG_REMOVE,
    SQL_CATALOG_MULTIKEY,
    SQL_BEGIN,
    SQL_BEGIN_WRITE,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_STATEMENTS
};

/* The parameters ?1 to ?4; a statement takes those that its text names. */
struct parameters {
    int64_t number, limit;
    struct buffer low, high;
};

struct handle {
    sqlite3 *db;
    struct store *store;
    struct handle *next;
    sqlite3_stmt *statements[SQL_STATEMENTS];
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
    pthread_cond_t group_done;
    atomic_int queued; /* writers that want write_lock */
    struct group *group;
    atomic_llong examined;
    struct collection *_Atomic collections;
    struct buffer owned; /* void *: all that the catalogue ever allocated */
};

/* The statement with its parameters bound, to be stepped and reset. */
sqlite3_stmt *handle_bind(struct handle *handle, enum sql sql, struct parameters parameters);
/* Runs it up to its first row. found, unless NULL: whether there is one. */
bool handle_run(struct handle *handle, enum sql sql, struct parameters parameters, bool *found, struct error *error);
bool handle_error(struct handle *handle, struct error *error);
/* Changes of the catalogue are committed before anybody sees them. */
bool store_flush(struct handle *writer, struct error *error);
bool catalog_load(struct store *store);
int64_t collection_end(const struct collection *collection); /* above its row numbers */

/* The start of all entries of an index. */
void index_prefix(const struct index *index, struct buffer *key);

#endif
