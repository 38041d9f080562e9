/*
 * storage.h - collections and indexes on one SQLite file.
 *
 * Purpose: a table a collection (row number, key of _id, document), a side table a secondary index (key, row number);
 * one writer at a time with group commit; readers on connections of their own, which never wait for the writer.
 * Users: commands. Depends on: value, query (the planner reads compiled filters), SQLite.
 */
#ifndef DEVSTORE_STORAGE_H
#define DEVSTORE_STORAGE_H

#include "query.h"

#include <stdatomic.h>

#define MAX_INDEX_FIELDS 32

struct store;
struct handle; /* one SQLite connection with its prepared statements */

struct index {
    int64_t id; /* 0: the key column of the collection's own table */
    char *name;
    struct value spec; /* as listIndexes shows it */
    const char *paths[MAX_INDEX_FIELDS];
    bool descending[MAX_INDEX_FIELDS];
    size_t count;
    bool unique;
    atomic_bool multikey; /* some document has an array there: one document may have several keys */
    struct index *next;
};

struct collection {
    int64_t id;
    char *ns; /* database.collection */
    struct index *indexes; /* _id_ first */
    struct collection *next;
};

struct range {
    struct buffer low, high; /* low <= key < high */
};

struct scan {
    struct handle *handle;
    struct collection *collection;
    const struct query *query;
    const struct index *index; /* NULL: the whole table */
    bool backwards, ordered; /* ordered: the rows come as the sort asks */
    struct range *ranges;
    size_t count, at;
    int64_t *rows; /* of a multikey index: collected first, so that no document comes twice */
    int64_t row;   /* the last one given out, and its key: where to go on after a pause */
    struct buffer key;
    void *statement;
    int64_t deadline; /* CLOCK_MONOTONIC milliseconds, 0: none */
    struct arena arena;
};

/* NULL with a sentence in message: the file cannot be used. path ":memory:": a temporary file without syncs. */
struct store *store_open(const char *path, char message[256]);
void store_close(struct store *store);
uint64_t store_examined(struct store *store);
int64_t clock_ms(void);

/* Between begin and end the caller is the only writer. end returns when it is on disk, together with others. */
struct handle *store_write_begin(struct store *store);
bool store_write_end(struct store *store, struct error *error);
struct handle *store_read_begin(struct store *store, struct error *error);
void store_read_end(struct handle *handle);

/* The catalogue. What is dropped stays in memory until the end, so that readers may hold on to it. */
struct collection *collection_find(struct store *store, const char *ns);
struct collection *collection_create(struct handle *writer, const char *ns, struct error *error);
bool collection_drop(struct handle *writer, struct collection *collection, struct error *error);
bool index_create(struct handle *writer, struct collection *collection, struct value spec, struct error *error);
bool index_drop(struct handle *writer, struct collection *collection, struct index *index, struct error *error);
struct index *index_find(struct store *store, struct collection *collection, struct value name_or_key);
/* Calls visit for each collection whose namespace starts with the prefix. */
void collection_each(struct store *store, const char *prefix, void (*visit)(struct collection *, void *), void *context);
int64_t collection_count(struct handle *handle, struct collection *collection);

/* Rows. Nothing has changed when one of them fails (a duplicate key: 11000). */
bool row_insert(struct handle *writer, struct collection *collection, struct value document, struct error *error);
bool row_update(struct handle *writer, struct collection *collection, int64_t row, struct value old,
                struct value changed, struct error *error);
bool row_delete(struct handle *writer, struct collection *collection, int64_t row, struct value old,
                struct error *error);
bool row_get(struct handle *handle, struct collection *collection, int64_t row, struct buffer *document);

/* Scans give the documents that match the query. next: 1 a document (valid until the next call), 0 the end, -1 error. */
bool scan_open(struct scan *scan, struct handle *handle, struct collection *collection, const struct query *query,
               struct value sort, struct value hint, struct error *error);
int scan_next(struct scan *scan, int64_t *row, struct value *document, struct error *error);
void scan_pause(struct scan *scan);
void scan_resume(struct scan *scan, struct handle *handle);
void scan_close(struct scan *scan);

#endif
