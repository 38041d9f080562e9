/*
 * storage.h - collections and indexes on one SQLite file.
 *
 * A table of documents by row number and a table of index entries (key, row number); _id is the first index of each
 * collection. One writer at a time with group commit; readers have connections and snapshots of their own.
 */
#ifndef DEVSTORE_STORAGE_H
#define DEVSTORE_STORAGE_H

#include "query.h"

#include <stdatomic.h>

#define MAX_INDEX_FIELDS 32

struct store;
struct handle; /* one SQLite connection with its prepared statements */

/* What is dropped stays in memory until the end, so that whoever reads a list may go on. */
struct index {
    int64_t id;
    const char *name;
    value spec; /* as listIndexes shows it */
    const char *paths[MAX_INDEX_FIELDS];
    size_t count;
    bool unique;
    atomic_bool dropped;
    atomic_bool multikey; /* some document has an array there: one document may have several keys */
    struct index *_Atomic next;
};

struct collection {
    const char *ns; /* database.collection */
    int64_t first_row, last_row;
    struct index *_Atomic indexes; /* _id_ first */
    struct collection *_Atomic next;
};

struct range {
    struct buffer low, high; /* low <= key < high */
};

struct scan {
    struct handle *handle;
    struct collection *collection; /* NULL: nothing is found */
    const struct match *query;
    const struct index *index; /* NULL: in the order of insertion */
    bool backwards, ordered;   /* ordered: the documents come as the sort asks */
    struct range *ranges;
    bool by_rows; /* of a multikey index: a document may have several keys there */
    int64_t *rows;
    size_t count, row_count, at;
    void *statement;
    int64_t deadline; /* CLOCK_MONOTONIC milliseconds, 0: none; to be set before the scan is opened */
};

/* NULL with a sentence in message: the file cannot be used. path ":memory:": a temporary file without syncs. */
struct store *store_open(const char *path, char message[256]);
void store_close(struct store *store);
int64_t store_examined(struct store *store); /* documents that scans looked at */
int64_t clock_ms(void);

/* Between begin and end the caller is the only writer. end returns when it is on disk, together with others. */
struct handle *store_write_begin(struct store *store);
bool store_write_end(struct store *store, struct failure *error);
/* Between begin and end the handle sees one state of the data. */
struct handle *store_read_begin(struct store *store, struct failure *error);
void store_read_end(struct handle *handle);

struct collection *store_collections(struct store *store); /* the first */
struct collection *collection_find(struct store *store, const char *ns);
struct index *index_find(struct collection *collection, value name_or_key);
struct collection *collection_create(struct handle *writer, const char *ns, struct failure *error);
bool collection_drop(struct handle *writer, struct collection *collection, struct failure *error);
bool index_create(struct handle *writer, struct collection *collection, value spec, struct failure *error);
bool index_drop(struct handle *writer, struct collection *collection, struct index *index, struct failure *error);

/* Rows. Nothing has changed when a write fails (a duplicate key: 11000). An EOD document: there is none. */
bool row_write(struct handle *writer, struct collection *collection, int64_t row, value old, value changed,
               struct failure *error);
bool row_insert(struct handle *writer, struct collection *collection, value document, struct failure *error);
bool row_get(struct handle *handle, int64_t row, struct buffer *document); /* false: it is gone */
int64_t collection_count(struct handle *handle, const struct collection *collection);

/* Scans give the documents that match. next: 1 a document (valid until the next call), 0 the end, -1 an error. */
bool scan_open(struct scan *scan, struct handle *handle, struct collection *collection, const struct match *query,
               value sort, value hint, struct failure *error);
int scan_next(struct scan *scan, int64_t *row, value *document, struct failure *error);
void scan_close(struct scan *scan);

#endif
