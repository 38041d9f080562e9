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
    buffer_append(&copy, spec.value.v_doc.data, spec.value.v_doc.data_len);
    index->id = id;
    index->spec = document_view(own(store, copy.data));
    index->name = value_text(document_get(index->spec, "name"));
    index->unique = value_truth(document_get(spec, "unique")) || strcmp(index->name, "_id_") == 0;
    atomic_init(&index->multikey, multikey);
    for (bson_iter_t it = fields_of(document_get(index->spec, "key")); bson_iter_next(&it);)
        index->paths[index->count++] = bson_iter_key(&it);
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

int64_t collection_end(const struct collection *c)
{
    return c->first_row + ((int64_t)1 << ROW_BITS);
}

static struct parameters all_rows(const struct collection *c)
{
    return (struct parameters){.number = c->first_row, .limit = collection_end(c)};
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
        sqlite3_stmt *last = handle_bind(store->writer, SQL_ROWS_DOWN, all_rows(c));
        if (sqlite3_step(last) == SQLITE_ROW)
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

static bool catalog_add(struct handle *writer, const char *ns, value spec, int64_t *id, struct error *error)
{
    struct buffer name = {.data = (uint8_t *)ns, .size = strlen(ns) + 1};
    if (!handle_run(writer, SQL_CATALOG_ADD, (struct parameters){.low = name, .high = bytes_of(spec)}, NULL, error))
        return false;
    *id = sqlite3_last_insert_rowid(writer->db);
    return true;
}

struct collection *collection_create(struct handle *writer, const char *ns, struct error *error)
{
    bson_t *spec = BCON_NEW("v", BCON_INT32(2), "key", "{", "_id", BCON_INT32(1), "}", "name", BCON_UTF8("_id_"));
    int64_t id;
    struct collection *c = NULL;
    if (catalog_add(writer, ns, document_of(spec), &id, error) && store_flush(writer, error))
        c = collection_publish(writer->store, ns, index_new(writer->store, id, document_of(spec), false));
    bson_destroy(spec);
    return c;
}

void index_prefix(const struct index *index, struct buffer *key)
{
    uint32_t id = BSON_UINT32_TO_BE((uint32_t)index->id);
    buffer_append(key, &id, sizeof id);
}

/* Without the entries and the row of the catalogue nothing of an index is left. */
static bool index_clear(struct handle *writer, struct index *index, struct error *error)
{
    struct buffer low = {0}, high = {0};
    index_prefix(index, &low);
    index_prefix(&(struct index){.id = index->id + 1}, &high);
    bool ok = handle_run(writer, SQL_ENTRY_CLEAR, (struct parameters){.low = low, .high = high}, NULL, error) &&
              handle_run(writer, SQL_CATALOG_REMOVE, (struct parameters){.number = index->id}, NULL, error);
    buffer_free(&low);
    buffer_free(&high);
    index->dropped = ok;
    return ok;
}

bool collection_drop(struct handle *writer, struct collection *c, struct error *error)
{
    struct collection *_Atomic *at = &writer->store->collections;
    bool ok = handle_run(writer, SQL_CLEAR, all_rows(c), NULL, error);
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
    sqlite3_stmt *statement = handle_bind(handle, SQL_COUNT, all_rows(c));
    int64_t count = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return count;
}

/* Every combination of one value a field, as a key: only one field has more than one, unless they share an array. */
static void combine(const struct index *index, const struct buffer *values, size_t field, struct buffer *key,
                    struct buffer *keys)
{
    const value *list = (const void *)values[field].data;
    size_t start = key->size;
    if (field == index->count) {
        struct buffer copy = {0};
        buffer_append(&copy, key->data, key->size);
        buffer_append(keys, &copy, sizeof copy);
        return;
    }
    for (size_t i = 0; i < values[field].size / sizeof *list; i++, key->size = start) {
        key_append(key, list[i].value_type ? list[i] : (value){.value_type = BSON_TYPE_NULL});
        combine(index, values, field + 1, key, keys);
    }
}

static size_t count(const struct buffer *keys)
{
    return keys->size / sizeof *keys;
}

static struct buffer *list(const struct buffer *keys)
{
    return (void *)keys->data;
}

static void keys_free(struct buffer *keys)
{
    for (size_t i = 0; i < count(keys); i++)
        buffer_free(&list(keys)[i]);
    buffer_free(keys);
}

/* The keys of a document in an index (struct buffer), sorted, each once; of no document none. */
static bool index_keys(const struct index *index, value document, struct buffer *keys, struct error *error)
{
    struct buffer values[MAX_INDEX_FIELDS + 1] = {0}, key = {0};
    size_t total = document.value_type != BSON_TYPE_EOD, arrays = 0, kept = 0;
    for (size_t i = 0; total && i < index->count; i++) {
        path_elements(document, index->paths[i], &values[i]);
        arrays += document_path(document, index->paths[i]).value_type == BSON_TYPE_ARRAY;
        total *= values[i].size / sizeof(value);
    }
    bool ok = (arrays < 2 && total < MAX_KEYS) || error_set(error, 171, "cannot index parallel arrays");
    index_prefix(index, &key);
    if (ok && total) {
        combine(index, values, 0, &key, keys);
        qsort(keys->data, count(keys), sizeof key, buffer_compare);
        for (size_t i = 0; i < count(keys); i++)
            if (kept == 0 || buffer_compare(&list(keys)[kept - 1], &list(keys)[i]) != 0)
                list(keys)[kept++] = list(keys)[i];
            else
                buffer_free(&list(keys)[i]);
        keys->size = kept * sizeof key;
    }
    buffer_free(&key);
    for (size_t i = 0; i < index->count; i++)
        buffer_free(&values[i]);
    return ok;
}

static bool keys_equal(const struct buffer *a, const struct buffer *b)
{
    bool equal = a->size == b->size;
    for (size_t i = 0; equal && i < count(a); i++)
        equal = buffer_compare(&list(a)[i], &list(b)[i]) == 0;
    return equal;
}

static bool duplicate(const struct collection *c, const struct index *index, value document, struct error *error)
{
    bson_t values = BSON_INITIALIZER;
    bson_string_t *text = bson_string_new(NULL);
    for (size_t i = 0; i < index->count; i++) {
        struct buffer found = {0};
        path_elements(document, index->paths[i], &found);
        value first = *(value *)(void *)found.data;
        append_value(&values, index->paths[i], first.value_type ? first : (value){.value_type = BSON_TYPE_NULL});
        buffer_free(&found);
    }
    value_print(text, document_of(&values));
    error_set(error, 11000, "E11000 duplicate key error collection: %s index: %s dup key: %s", c->ns, index->name,
              text->str);
    error->details = bson_new();
    append_value(error->details, "keyPattern", document_get(index->spec, "key"));
    bson_append_document(error->details, "keyValue", -1, &values);
    bson_string_free(text, true);
    bson_destroy(&values);
    return false;
}

static bool index_probe(struct handle *writer, const struct collection *c, const struct index *index, int64_t row,
                        const struct buffer *keys, value document, struct error *error)
{
    bool taken = false;
    for (size_t i = 0; index->unique && i < count(keys); i++)
        if (!handle_run(writer, SQL_ENTRY_PROBE, (struct parameters){.number = row, .low = list(keys)[i]}, &taken,
                        error) ||
            taken)
            return taken && duplicate(c, index, document, error);
    return true;
}

static bool index_move(struct handle *writer, struct index *index, int64_t row, const struct buffer *old,
                       const struct buffer *new, struct error *error)
{
    bool ok = true;
    if (count(new) > 1 && !index->multikey) {
        ok = handle_run(writer, SQL_CATALOG_MULTIKEY, (struct parameters){.number = index->id}, NULL, error);
        index->multikey = true;
    }
    for (size_t i = 0; ok && i < count(old); i++)
        ok = handle_run(writer, SQL_ENTRY_REMOVE, (struct parameters){.number = row, .low = list(old)[i]}, NULL, error);
    for (size_t i = 0; ok && i < count(new); i++)
        ok = handle_run(writer, SQL_ENTRY_ADD, (struct parameters){.number = row, .low = list(new)[i]}, NULL, error);
    return ok;
}

/* Looks for duplicates in one index, or moves the row in it. */
static bool index_change(struct handle *writer, const struct collection *c, struct index *index, int64_t row, value old,
                         value changed, bool probe, struct error *error)
{
    struct buffer before = {0}, after = {0};
    bool ok = index_keys(index, old, &before, error) && index_keys(index, changed, &after, error);
    if (ok && !keys_equal(&before, &after))
        ok = probe ? index_probe(writer, c, index, row, &after, changed, error)
                   : index_move(writer, index, row, &before, &after, error);
    keys_free(&before);
    keys_free(&after);
    return ok;
}

/* All indexes are asked before one is written to. */
bool row_write(struct handle *writer, struct collection *c, int64_t row, value old, value changed, struct error *error)
{
    enum sql sql = !changed.value_type ? SQL_DELETE : old.value_type ? SQL_UPDATE : SQL_INSERT;
    for (int probe = 1; probe >= 0; probe--)
        for (struct index *index = c->indexes; index; index = index->next)
            if (!index_change(writer, c, index, row, old, changed, probe, error))
                return false;
    return handle_run(writer, sql, (struct parameters){.number = row, .low = bytes_of(changed)}, NULL, error);
}

bool row_insert(struct handle *writer, struct collection *c, value document, struct error *error)
{
    return row_write(writer, c, ++c->last_row, (value){0}, document, error);
}

bool row_get(struct handle *handle, int64_t row, struct buffer *document)
{
    sqlite3_stmt *statement = handle_bind(handle, SQL_DOCUMENT, (struct parameters){.number = row});
    document->size = 0;
    if (sqlite3_step(statement) == SQLITE_ROW)
        buffer_append(document, sqlite3_column_blob(statement, 0), (size_t)sqlite3_column_bytes(statement, 0));
    sqlite3_reset(statement);
    return document->size > 0;
}

/* Fills the new index from the documents there are. */
static bool index_build(struct handle *writer, struct collection *c, struct index *index, struct error *error)
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

bool index_create(struct handle *writer, struct collection *c, value spec, struct error *error)
{
    int64_t id;
    struct error ignored;
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

bool index_drop(struct handle *writer, struct collection *c, struct index *index, struct error *error)
{
    struct index *_Atomic *at = &c->indexes;
    if (!index_clear(writer, index, error) || !store_flush(writer, error))
        return false;
    while (*at != index)
        at = &(*at)->next;
    *at = index->next;
    return true;
}
