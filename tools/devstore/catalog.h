/*
 * catalog.h - inside storage: which collections and indexes there are, index keys, and what the planner needs.
 *
 * Users: storage.c, catalog.c, plan.c only. Depends on: storage.h, SQLite.
 */
#ifndef DEVSTORE_CATALOG_H
#define DEVSTORE_CATALOG_H

#include "storage.h"

#include <sqlite3.h>

enum sql {
    SQL_BY_ID, SQL_BY_ROW, SQL_TABLE, SQL_TABLE_DOWN, SQL_ID_RANGE, SQL_ID_RANGE_DOWN, SQL_INDEX, SQL_INDEX_DOWN,
    SQL_INDEX_ROWS, SQL_INSERT, SQL_UPDATE, SQL_DELETE, SQL_INDEX_ADD, SQL_INDEX_REMOVE, SQL_INDEX_PROBE, SQL_COUNT
};

struct key {
    const uint8_t *data;
    size_t size;
};

struct keys {
    struct key *list; /* sorted, each once */
    size_t count;
};

struct catalog *catalog_load(sqlite3 *db, struct error *error);
void catalog_free(struct catalog *catalog);
void catalog_read_lock(struct catalog *catalog);
void catalog_unlock(struct catalog *catalog);

struct catalog *store_catalog(struct store *store);
struct catalog *handle_catalog(struct handle *handle);
sqlite3 *handle_db(struct handle *handle);
void *statement_get(struct handle *handle, enum sql sql, int64_t collection, int64_t index, struct error *error);
void handle_examined(struct handle *handle);
bool handle_error(struct handle *handle, struct error *error);
bool store_flush(struct handle *writer, struct error *error);

bool index_keys(const struct index *index, struct value document, struct arena *arena, struct keys *keys,
                struct error *error);
bool index_set_multikey(struct handle *writer, struct index *index, struct error *error);
bool keys_equal(const struct keys *a, const struct keys *b);
bool index_fill(struct handle *writer, struct collection *collection, struct index *index, int64_t row,
                struct value document, struct error *error);
void plan_make(struct scan *scan, struct value sort, const struct index *hint);

#endif
