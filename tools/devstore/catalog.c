/* Collections, indexes and rows. */
#include "storage_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 100000, ROW_BITS = 40 }; /* the rows of a collection are numbered from its id << ROW_BITS on */

static void *own(struct store *store, void *memory)
{
    buffer_append(&store->owned, &memory, sizeof memory);
    return memory;
}

static struct buffer bytes_of(value document)
{
    return (struct buffer){.data = document.value.v_doc.data, .size = document.value.v_doc.data_len};
}

static struct index *index_new(struct store *store, int64_t id, value spec, bool multikey)
{
    struct index *index = own(store, bson_malloc0(sizeof *index));
    struct buffer copy = {0};
    buffer_append_document(&copy, spec);
    index->id = id;
    index->spec = document_view(own(store, copy.data));
    index->name = value_text(document_get(index->spec, "name"));
    index->unique = value_truth(document_get(spec, "unique")) || strcmp(index->name, "_id_") == 0;
    atomic_init(&index->multikey, multikey);
    for (struct fields it = fields_of(document_get(index->spec, "key")); fields_next(&it);)
        index->paths[index->count++] = it.key;
    return index;
}

static void index_publish(struct collection *c, struct index *index)
{
    struct index *_Atomic *at = &c->indexes;
    while (*at)
        at = &(*at)->next;
    *at = index;
}

static struct collection *collection_publish(struct store *store, const char *ns, struct index *id_index)
{
    struct collection *c = own(store, bson_malloc0(sizeof *c));
    c->ns = own(store, bson_strdup(ns));
    c->first_row = c->last_row = id_index->id << ROW_BITS;
    c->indexes = id_index;
    c->next = store->collections;
    return store->collections = c;
}

struct parameters all_rows(const struct collection *c)
{
    return (struct parameters){.number = c->first_row, .limit = c->first_row + ((int64_t)1 << ROW_BITS)};
}

bool catalog_load(struct store *store)
{
    sqlite3_stmt *rows = NULL;
    if (sqlite3_prepare_v2(store->writer->db, "SELECT id, ns, spec, multikey FROM catalog ORDER BY id", -1, &rows,
                           NULL) != SQLITE_OK)
        return false;
    while (sqlite3_step(rows) == SQLITE_ROW) {
        const char *ns = sqlite3_column_blob(rows, 1);
        struct collection *c = collection_find(store, ns);
        struct index *index = index_new(store, sqlite3_column_int64(rows, 0),
                                        document_view(sqlite3_column_blob(rows, 2)), sqlite3_column_int(rows, 3));
        if (c)
            index_publish(c, index);
        else
            collection_publish(store, ns, index);
    }
    for (struct collection *c = store->collections; c; c = c->next) {
        sqlite3_stmt *last =
            handle_bind(store->writer, "SELECT max(r) FROM documents WHERE r > ?1 AND r < ?2", all_rows(c));
        if (sqlite3_step(last) == SQLITE_ROW && sqlite3_column_type(last, 0) != SQLITE_NULL)
            c->last_row = sqlite3_column_int64(last, 0);
        sqlite3_reset(last);
    }
    return sqlite3_finalize(rows) == SQLITE_OK;
}

struct collection *store_collections(struct store *store)
{
    return store->collections;
}

struct collection *collection_find(struct store *store, const char *ns)
{
    struct collection *c = store->collections;
    while (c && strcmp(c->ns, ns) != 0)
        c = c->next;
    return c;
}

struct index *index_find(struct collection *c, value name_or_key)
{
    const char *name = value_text(name_or_key);
    struct index *index = c->indexes;
    while (index &&
           (name ? strcmp(index->name, name) != 0 : value_compare(document_get(index->spec, "key"), name_or_key) != 0))
        index = index->next;
    return index;
}

static bool catalog_add(struct handle *writer, const char *ns, value spec, int64_t *id, struct failure *error)
{
    struct buffer name = {.data = (uint8_t *)ns, .size = strlen(ns) + 1};
    if (!handle_run(writer, "INSERT INTO catalog (ns, spec, multikey) VALUES (?3, ?4, 0)",
                    (struct parameters){.low = name, .high = bytes_of(spec)}, NULL, error))
        return false;
    *id = sqlite3_last_insert_rowid(writer->db);
    return true;
}

struct collection *collection_create(struct handle *writer, const char *ns, struct failure *error)
{
    bson_t *spec = BCON_NEW("v", BCON_INT32(2), "key", "{", "_id", BCON_INT32(1), "}", "name", BCON_UTF8("_id_"));
    int64_t id;
    struct collection *c = NULL;
    if (catalog_add(writer, ns, document_of(spec), &id, error) && store_flush(writer, error))
        c = collection_publish(writer->store, ns, index_new(writer->store, id, document_of(spec), false));
    bson_destroy(spec);
    return c;
}

struct buffer index_prefix(int64_t id)
{
    uint32_t big_endian = BSON_UINT32_TO_BE((uint32_t)id);
    struct buffer prefix = {0};
    buffer_append(&prefix, &big_endian, sizeof big_endian);
    return prefix;
}

/* Without the entries and the row of the catalogue nothing of an index is left. */
static bool index_clear(struct handle *writer, const struct index *index, struct failure *error)
{
    struct parameters all = {.low = index_prefix(index->id), .high = index_prefix(index->id + 1)};
    bool ok =
        handle_run(writer, "DELETE FROM entries WHERE k >= ?3 AND k < ?4", all, NULL, error) &&
        handle_run(writer, "DELETE FROM catalog WHERE id = ?1", (struct parameters){.number = index->id}, NULL, error);
    buffer_free(&all.low);
    buffer_free(&all.high);
    return ok;
}

bool collection_drop(struct handle *writer, struct collection *c, struct failure *error)
{
    struct collection *_Atomic *at = &writer->store->collections;
    bool ok = handle_run(writer, "DELETE FROM documents WHERE r > ?1 AND r < ?2", all_rows(c), NULL, error);
    for (struct index *index = c->indexes; ok && index; index = index->next)
        ok = index_clear(writer, index, error);
    if (!ok || !store_flush(writer, error))
        return false;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    return true;
}

int64_t collection_count(struct handle *handle, const struct collection *c)
{
    sqlite3_stmt *statement =
        handle_bind(handle, "SELECT count(*) FROM documents WHERE r > ?1 AND r < ?2", all_rows(c));
    int64_t count = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return count;
}

/* Appends every combination of one value a field, as a size and a key. Only one field has more than one value, unless
 * they share an array. */
static void combine(const struct index *index, const struct buffer *values, size_t field, struct buffer *key,
                    struct buffer *keys)
{
    const value *list = (const void *)values[field].data;
    size_t start = key->size;
    if (field == index->count) {
        buffer_append(keys, &key->size, sizeof key->size);
        buffer_append(keys, key->data, key->size);
        return;
    }
    for (size_t i = 0; i < values[field].size / sizeof *list; i++, key->size = start) {
        key_append(key, or_null(list[i]));
        combine(index, values, field + 1, key, keys);
    }
}

/* Views the next of the keys. */
static bool next_key(const struct buffer *keys, size_t *at, struct buffer *key)
{
    if (*at >= keys->size)
        return false;
    memcpy(&key->size, keys->data + *at, sizeof key->size);
    key->data = keys->data + *at + sizeof key->size;
    *at += sizeof key->size + key->size;
    return true;
}

/* The keys of a document in an index; of no document none. */
static bool index_keys(const struct index *index, value document, struct buffer *keys, struct failure *error)
{
    struct buffer values[MAX_INDEX_FIELDS + 1] = {0}, key = index_prefix(index->id);
    size_t total = document.value_type != BSON_TYPE_EOD, arrays = 0;
    for (size_t i = 0; total && i < index->count; i++) {
        path_elements(document, index->paths[i], &values[i]);
        arrays += document_path(document, index->paths[i]).value_type == BSON_TYPE_ARRAY;
        total *= values[i].size / sizeof(value);
    }
    bool ok = (arrays < 2 && total < MAX_KEYS) || fail(error, 171, "cannot index parallel arrays");
    if (ok && total)
        combine(index, values, 0, &key, keys);
    buffer_free(&key);
    for (size_t i = 0; i < index->count; i++)
        buffer_free(&values[i]);
    return ok;
}

static bool duplicate(const struct collection *c, const struct index *index, value document, struct failure *error)
{
    bson_t values = BSON_INITIALIZER;
    bson_string_t *text = bson_string_new(NULL);
    for (size_t i = 0; i < index->count; i++) {
        struct buffer found = {0};
        path_elements(document, index->paths[i], &found);
        append_value(&values, index->paths[i], or_null(*(value *)(void *)found.data));
        buffer_free(&found);
    }
    value_print(text, document_of(&values));
    fail(error, 11000, "E11000 duplicate key error collection: %s index: %s dup key: %s", c->ns, index->name,
         text->str);
    error->details = bson_new();
    append_value(error->details, "keyPattern", document_get(index->spec, "key"));
    bson_append_document(error->details, "keyValue", -1, &values);
    bson_string_free(text, true);
    bson_destroy(&values);
    return false;
}

static bool index_probe(struct handle *writer, const struct collection *c, const struct index *index, int64_t row,
                        const struct buffer *keys, value document, struct failure *error)
{
    struct parameters entry = {.number = row};
    bool taken = false;
    for (size_t at = 0; index->unique && next_key(keys, &at, &entry.low);) {
        if (!handle_run(writer, "SELECT 1 FROM entries WHERE k = ?3 AND r <> ?1", entry, &taken, error))
            return false;
        if (taken)
            return duplicate(c, index, document, error);
    }
    return true;
}

static bool index_move(struct handle *writer, struct index *index, int64_t row, const struct buffer *old,
                       const struct buffer *new, struct failure *error)
{
    struct parameters entry = {.number = row};
    bool ok = true;
    size_t count = 0;
    for (size_t at = 0; ok && next_key(old, &at, &entry.low);)
        ok = handle_run(writer, "DELETE FROM entries WHERE k = ?3 AND r = ?1", entry, NULL, error);
    for (size_t at = 0; ok && next_key(new, &at, &entry.low); count++)
        ok = handle_run(writer, "INSERT OR IGNORE INTO entries (k, r) VALUES (?3, ?1)", entry, NULL, error);
    if (!ok || count < 2 || index->multikey)
        return ok;
    index->multikey = true;
    return handle_run(writer, "UPDATE catalog SET multikey = 1 WHERE id = ?1", (struct parameters){.number = index->id},
                      NULL, error);
}

/* Looks for duplicates in one index, or moves the row in it. */
static bool index_change(struct handle *writer, const struct collection *c, struct index *index, int64_t row, value old,
                         value changed, bool probe, struct failure *error)
{
    struct buffer before = {0}, after = {0};
    bool ok = index_keys(index, old, &before, error) && index_keys(index, changed, &after, error);
    if (ok && buffer_compare(&before, &after) != 0)
        ok = probe ? index_probe(writer, c, index, row, &after, changed, error)
                   : index_move(writer, index, row, &before, &after, error);
    buffer_free(&before);
    buffer_free(&after);
    return ok;
}

/* All indexes are asked before one is written to. */
bool row_write(struct handle *writer, struct collection *c, int64_t row, value old, value changed,
               struct failure *error)
{
    const char *sql = !changed.value_type ? "DELETE FROM documents WHERE r = ?1"
                      : old.value_type    ? "UPDATE documents SET doc = ?3 WHERE r = ?1"
                                          : "INSERT INTO documents (r, doc) VALUES (?1, ?3)";
    for (int probe = 1; probe >= 0; probe--)
        for (struct index *index = c->indexes; index; index = index->next)
            if (!index_change(writer, c, index, row, old, changed, probe, error))
                return false;
    return handle_run(writer, sql, (struct parameters){.number = row, .low = bytes_of(changed)}, NULL, error);
}

bool row_insert(struct handle *writer, struct collection *c, value document, struct failure *error)
{
    return row_write(writer, c, ++c->last_row, (value){0}, document, error);
}

bool row_get(struct handle *handle, int64_t row, struct buffer *document)
{
    sqlite3_stmt *statement =
        handle_bind(handle, "SELECT doc FROM documents WHERE r = ?1", (struct parameters){.number = row});
    document->size = 0;
    if (sqlite3_step(statement) == SQLITE_ROW)
        buffer_append(document, sqlite3_column_blob(statement, 0), (size_t)sqlite3_column_bytes(statement, 0));
    sqlite3_reset(statement);
    return document->size > 0;
}

/* Fills the new index from the documents there are. */
static bool index_build(struct handle *writer, struct collection *c, struct index *index, struct failure *error)
{
    struct scan scan = {0};
    value document;
    int64_t row;
    int found = -1;
    struct match *all = query_compile((value){0}, error);
    bool ok = scan_open(&scan, writer, c, all, (value){0}, (value){0}, error);
    while (ok && (found = scan_next(&scan, &row, &document, error)) == 1)
        for (int probe = 1; ok && probe >= 0; probe--)
            ok = index_change(writer, c, index, row, (value){0}, document, probe, error);
    scan_close(&scan);
    query_free(all);
    return ok && found == 0;
}

bool index_create(struct handle *writer, struct collection *c, value spec, struct failure *error)
{
    int64_t id;
    struct failure ignored;
    if (!catalog_add(writer, c->ns, spec, &id, error))
        return false;
    struct index *index = index_new(writer->store, id, spec, false);
    if (!index_build(writer, c, index, error))
        return index_clear(writer, index, &ignored) && false;
    if (!store_flush(writer, error))
        return false;
    index_publish(c, index);
    return true;
}

bool index_drop(struct handle *writer, struct collection *c, struct index *index, struct failure *error)
{
    struct index *_Atomic *at = &c->indexes;
    index->dropped = true; /* before it is gone on disk: readers must not take no entries for no documents */
    index->dropped = index_clear(writer, index, error) && store_flush(writer, error);
    if (!index->dropped)
        return false;
    while (*at != index)
        at = &(*at)->next;
    *at = index->next;
    return true;
}
