/* Collections and indexes: what there is, and the keys a document has in an index. */
#include "catalog.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct catalog {
    pthread_rwlock_t lock; /* taken for writing by the one writer only */
    struct collection *collections;
    struct arena arena; /* what is dropped stays, for readers that still hold it */
};

static bool run(sqlite3 *db, const char *text, int64_t id)
{
    char *sql = sqlite3_mprintf(text, (long long)id);
    bool ok = sql && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_free(sql);
    return ok;
}

static void publish_index(struct catalog *catalog, struct collection *c, int64_t id, struct value spec, bool multikey)
{
    struct index *index = arena_get(&catalog->arena, sizeof *index);
    struct field part;
    index->id = id;
    index->spec = value_copy(&catalog->arena, spec);
    index->name = (char *)(uintptr_t)value_text(document_get(index->spec, "name"));
    index->unique = id == 0 || value_truth(document_get(spec, "unique"));
    atomic_init(&index->multikey, multikey);
    for (struct fields it = fields_of(document_get(index->spec, "key")); fields_next(&it, &part); index->count++) {
        index->paths[index->count] = part.key;
        index->descending[index->count] = value_to_double(part.value) < 0;
    }
    struct index **at = &c->indexes;
    while (*at)
        at = &(*at)->next;
    *at = index;
}

static struct collection *publish_collection(struct catalog *catalog, int64_t id, const char *ns)
{
    struct collection *c = arena_get(&catalog->arena, sizeof *c);
    struct buffer spec = {0};
    size_t mark = document_open(&spec);
    put_int32(&spec, "v", 2);
    size_t key = put_open(&spec, "key", BSON_TYPE_DOCUMENT);
    put_int32(&spec, "_id", 1);
    document_close(&spec, key);
    put_string(&spec, "name", "_id_");
    document_close(&spec, mark);
    *c = (struct collection){.id = id, .ns = arena_string(&catalog->arena, ns, strlen(ns)),
                             .next = catalog->collections};
    publish_index(catalog, c, 0, buffer_document(&spec), false);
    buffer_free(&spec);
    return catalog->collections = c;
}

static bool load(struct catalog *catalog, sqlite3 *db)
{
    sqlite3_stmt *rows = NULL;
    if (sqlite3_exec(db,
                     "CREATE TABLE IF NOT EXISTS collections (id INTEGER PRIMARY KEY AUTOINCREMENT, ns TEXT UNIQUE);"
                     "CREATE TABLE IF NOT EXISTS indexes (id INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER, "
                     "spec BLOB, multikey INTEGER DEFAULT 0)", NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "SELECT id, ns FROM collections", -1, &rows, NULL) != SQLITE_OK)
        return false;
    while (sqlite3_step(rows) == SQLITE_ROW)
        publish_collection(catalog, sqlite3_column_int64(rows, 0), (const char *)sqlite3_column_text(rows, 1));
    if (sqlite3_finalize(rows) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "SELECT id, collection, spec, multikey FROM indexes ORDER BY id", -1, &rows, NULL) !=
            SQLITE_OK)
        return false;
    while (sqlite3_step(rows) == SQLITE_ROW)
        for (struct collection *c = catalog->collections; c; c = c->next)
            if (c->id == sqlite3_column_int64(rows, 1))
                publish_index(catalog, c, sqlite3_column_int64(rows, 0),
                              document_view(sqlite3_column_blob(rows, 2)), sqlite3_column_int(rows, 3) != 0);
    return sqlite3_finalize(rows) == SQLITE_OK;
}

struct catalog *catalog_load(sqlite3 *db, struct error *error)
{
    struct catalog *catalog = memset(allocate(sizeof *catalog), 0, sizeof *catalog);
    pthread_rwlock_init(&catalog->lock, NULL);
    if (load(catalog, db))
        return catalog;
    error_set(error, 96, "%s", sqlite3_errmsg(db));
    catalog_free(catalog);
    return NULL;
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    arena_free(&catalog->arena);
    pthread_rwlock_destroy(&catalog->lock);
    free(catalog);
}

void catalog_read_lock(struct catalog *catalog)
{
    pthread_rwlock_rdlock(&catalog->lock);
}

void catalog_unlock(struct catalog *catalog)
{
    pthread_rwlock_unlock(&catalog->lock);
}

struct collection *collection_find(struct store *store, const char *ns)
{
    struct catalog *catalog = store_catalog(store);
    catalog_read_lock(catalog);
    struct collection *c = catalog->collections;
    while (c && strcmp(c->ns, ns) != 0)
        c = c->next;
    catalog_unlock(catalog);
    return c;
}

void collection_each(struct store *store, const char *prefix, void (*visit)(struct collection *, void *), void *context)
{
    struct catalog *catalog = store_catalog(store);
    catalog_read_lock(catalog);
    for (struct collection *c = catalog->collections; c; c = c->next)
        if (strncmp(c->ns, prefix, strlen(prefix)) == 0)
            visit(c, context);
    catalog_unlock(catalog);
}

struct index *index_find(struct store *store, struct collection *c, struct value name_or_key)
{
    struct catalog *catalog = store_catalog(store);
    const char *name = value_text(name_or_key);
    catalog_read_lock(catalog);
    struct index *index = c->indexes;
    while (index && (name ? strcmp(index->name, name) != 0
                          : value_compare(document_get(index->spec, "key"), name_or_key) != 0))
        index = index->next;
    catalog_unlock(catalog);
    return index;
}

struct collection *collection_create(struct handle *writer, const char *ns, struct error *error)
{
    sqlite3 *db = handle_db(writer);
    struct catalog *catalog = handle_catalog(writer);
    char *sql = sqlite3_mprintf("INSERT INTO collections (ns) VALUES (%Q)", ns);
    bool ok = sql && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_free(sql);
    int64_t id = sqlite3_last_insert_rowid(db);
    if (!ok || !run(db, "CREATE TABLE c%lld (r INTEGER PRIMARY KEY, k BLOB NOT NULL UNIQUE, doc BLOB NOT NULL)", id)) {
        handle_error(writer, error);
        return NULL;
    }
    if (!store_flush(writer, error))
        return NULL;
    pthread_rwlock_wrlock(&catalog->lock);
    struct collection *c = publish_collection(catalog, id, ns);
    catalog_unlock(catalog);
    return c;
}

bool collection_drop(struct handle *writer, struct collection *c, struct error *error)
{
    struct catalog *catalog = handle_catalog(writer);
    sqlite3 *db = handle_db(writer);
    pthread_rwlock_wrlock(&catalog->lock);
    struct collection **at = &catalog->collections;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    catalog_unlock(catalog);
    bool ok = run(db, "DELETE FROM collections WHERE id = %lld", c->id) &&
              run(db, "DELETE FROM indexes WHERE collection = %lld", c->id) && run(db, "DROP TABLE c%lld", c->id);
    for (struct index *index = c->indexes->next; ok && index; index = index->next)
        ok = run(db, "DROP TABLE x%lld", index->id);
    return ok ? store_flush(writer, error) : handle_error(writer, error);
}

/* Fills the new index from the documents there are. */
static bool build(struct handle *writer, struct collection *c, struct index *index, struct error *error)
{
    sqlite3_stmt *rows = statement_get(writer, SQL_TABLE, c->id, 0, error);
    if (!rows)
        return false;
    bool ok = true;
    sqlite3_bind_int64(rows, 1, -1);
    while (ok && sqlite3_step(rows) == SQLITE_ROW)
        ok = index_fill(writer, c, index, sqlite3_column_int64(rows, 0), document_view(sqlite3_column_blob(rows, 1)),
                        error);
    return (sqlite3_reset(rows) == SQLITE_OK || !ok || handle_error(writer, error)) && ok;
}

bool index_create(struct handle *writer, struct collection *c, struct value spec, struct error *error)
{
    sqlite3 *db = handle_db(writer);
    struct catalog *catalog = handle_catalog(writer);
    sqlite3_stmt *insert = NULL;
    bool ok = sqlite3_prepare_v2(db, "INSERT INTO indexes (collection, spec) VALUES (?1, ?2)", -1, &insert, NULL) ==
                  SQLITE_OK &&
              sqlite3_bind_int64(insert, 1, c->id) == SQLITE_OK &&
              sqlite3_bind_blob64(insert, 2, spec.data, spec.size, SQLITE_STATIC) == SQLITE_OK &&
              sqlite3_step(insert) == SQLITE_DONE;
    sqlite3_finalize(insert);
    int64_t id = sqlite3_last_insert_rowid(db);
    if (!ok || !run(db, "CREATE TABLE x%lld (k BLOB, r INTEGER, PRIMARY KEY (k, r)) WITHOUT ROWID", id))
        return handle_error(writer, error);
    struct collection draft = {.id = c->id, .ns = c->ns};
    publish_index(catalog, &draft, id, spec, false);
    if (!build(writer, c, draft.indexes, error))
        return run(db, "DROP TABLE x%lld", id) && run(db, "DELETE FROM indexes WHERE id = %lld", id) && false;
    if (!store_flush(writer, error))
        return false;
    pthread_rwlock_wrlock(&catalog->lock);
    struct index *last = c->indexes;
    while (last->next)
        last = last->next;
    last->next = draft.indexes;
    catalog_unlock(catalog);
    return true;
}

bool index_drop(struct handle *writer, struct collection *c, struct index *index, struct error *error)
{
    struct catalog *catalog = handle_catalog(writer);
    pthread_rwlock_wrlock(&catalog->lock);
    struct index **at = &c->indexes;
    while (*at != index)
        at = &(*at)->next;
    *at = index->next;
    catalog_unlock(catalog);
    if (!run(handle_db(writer), "DELETE FROM indexes WHERE id = %lld", index->id) ||
        !run(handle_db(writer), "DROP TABLE x%lld", index->id))
        return handle_error(writer, error);
    return store_flush(writer, error);
}

bool index_set_multikey(struct handle *writer, struct index *index, struct error *error)
{
    atomic_store(&index->multikey, true);
    return run(handle_db(writer), "UPDATE indexes SET multikey = 1 WHERE id = %lld", index->id) ||
           handle_error(writer, error);
}

static int by_key(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    return bytes_compare(x->data, x->size, y->data, y->size);
}

/* Every combination of one value a field: only one field has more than one, unless they share an array. */
static void combine(const struct index *index, const struct buffer *values, size_t field, struct buffer *key,
                    struct arena *arena, struct keys *keys)
{
    if (field == index->count) {
        keys->list[keys->count++] =
            (struct key){.data = (uint8_t *)arena_string(arena, (char *)key->data, key->size), .size = key->size};
        return;
    }
    const struct value *list = (const void *)values[field].data;
    size_t start = key->size;
    for (size_t i = 0; i < values[field].size / sizeof *list; i++) {
        struct value v = list[i];
        if (v.type == BSON_TYPE_EOD)
            v.type = BSON_TYPE_NULL;
        key_append(key, v, index->descending[field]);
        combine(index, values, field + 1, key, arena, keys);
        key->size = start;
    }
}

bool index_keys(const struct index *index, struct value document, struct arena *arena, struct keys *keys,
                struct error *error)
{
    struct buffer values[MAX_INDEX_FIELDS] = {0}, key = {0};
    size_t total = 1, arrays = 0, kept = 0;
    for (size_t i = 0; i < index->count; i++) {
        value_collect(document, index->paths[i], &values[i]);
        arrays += document_path(document, index->paths[i]).type == BSON_TYPE_ARRAY;
        total *= values[i].size / sizeof(struct value);
    }
    bool ok = (arrays < 2 && total < 100000) || error_set(error, 171, "cannot index parallel arrays");
    if (ok) {
        *keys = (struct keys){.list = arena_get(arena, total * sizeof *keys->list)};
        combine(index, values, 0, &key, arena, keys);
        qsort(keys->list, keys->count, sizeof *keys->list, by_key);
        for (size_t i = 0; i < keys->count; i++)
            if (kept == 0 || by_key(&keys->list[kept - 1], &keys->list[i]) != 0)
                keys->list[kept++] = keys->list[i];
        keys->count = kept;
    }
    buffer_free(&key);
    for (size_t i = 0; i < index->count; i++)
        buffer_free(&values[i]);
    return ok;
}

bool keys_equal(const struct keys *a, const struct keys *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++)
        equal = by_key(&a->list[i], &b->list[i]) == 0;
    return equal;
}
