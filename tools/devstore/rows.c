/* Rows of collections, and their entries in the indexes. */
#include "catalog.h"

#include <stdio.h>

static bool step_done(struct handle *writer, sqlite3_stmt *statement, struct error *error)
{
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    return result == SQLITE_DONE || handle_error(writer, error);
}

static bool row_remove(struct handle *writer, struct collection *c, int64_t row, struct error *error)
{
    sqlite3_stmt *statement = statement_get(writer, SQL_DELETE, c->id, 0, error);
    if (!statement)
        return false;
    sqlite3_bind_int64(statement, 1, row);
    return step_done(writer, statement, error);
}

static bool duplicate(const struct collection *c, const struct index *index, struct value document, struct error *error)
{
    struct buffer text = {0}, values = {0}, details = {0};
    size_t mark = document_open(&values);
    for (size_t i = 0; i < index->count; i++) {
        struct buffer found = {0};
        value_collect(document, index->paths[i], &found);
        struct value first = *(struct value *)(void *)found.data;
        if (first.type == BSON_TYPE_EOD)
            put_null(&values, index->paths[i]);
        put_value(&values, index->paths[i], first);
        buffer_free(&found);
    }
    document_close(&values, mark);
    value_print(&text, buffer_document(&values));
    buffer_byte(&text, 0);
    put_value(&details, "keyPattern", document_get(index->spec, "key"));
    put_value(&details, "keyValue", buffer_document(&values));
    error_set(error, 11000, "E11000 duplicate key error collection: %s index: %s dup key: %s", c->ns, index->name,
              (char *)text.data);
    buffer_append(&error->details, details.data, details.size);
    buffer_free(&details);
    buffer_free(&values);
    buffer_free(&text);
    return false;
}

/* One entry of a secondary index: add it, remove it, or look for another row's. */
static bool index_entry(struct handle *writer, enum sql sql, const struct index *index, struct key key, int64_t row,
                        bool *found, struct error *error)
{
    sqlite3_stmt *statement = statement_get(writer, sql, 0, index->id, error);
    if (!statement)
        return false;
    sqlite3_bind_blob64(statement, 1, key.data, key.size, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, row);
    if (!found)
        return step_done(writer, statement, error);
    *found = sqlite3_step(statement) == SQLITE_ROW;
    return sqlite3_reset(statement) == SQLITE_OK || handle_error(writer, error);
}

static bool index_move(struct handle *writer, struct index *index, const struct keys *old, const struct keys *new,
                       int64_t row, struct error *error)
{
    if (new->count > 1 && !atomic_load(&index->multikey) && !index_set_multikey(writer, index, error))
        return false;
    for (size_t i = 0; i < old->count; i++)
        if (!index_entry(writer, SQL_INDEX_REMOVE, index, old->list[i], row, NULL, error))
            return false;
    for (size_t i = 0; i < new->count; i++)
        if (!index_entry(writer, SQL_INDEX_ADD, index, new->list[i], row, NULL, error))
            return false;
    return true;
}

static bool index_check(struct handle *writer, const struct collection *c, struct index *index, const struct keys *keys,
                        int64_t row, struct value document, struct error *error)
{
    for (size_t i = 0; index->unique && i < keys->count; i++) {
        bool taken = false;
        if (!index_entry(writer, SQL_INDEX_PROBE, index, keys->list[i], row, &taken, error))
            return false;
        if (taken)
            return duplicate(c, index, document, error);
    }
    return true;
}

/* Moves a row in all secondary indexes; old or changed may be missing. Checks all of them before it writes to one. */
static bool indexes_move(struct handle *writer, struct collection *c, int64_t row, struct value old,
                         struct value changed, struct error *error)
{
    bool ok = true;
    struct arena arena = {0};
    for (int pass = 0; ok && pass < 2; pass++)
        for (struct index *index = c->indexes->next; ok && index; index = index->next) {
            struct keys before = {0}, after = {0};
            ok = (!old.type || index_keys(index, old, &arena, &before, error)) &&
                 (!changed.type || index_keys(index, changed, &arena, &after, error));
            if (!ok || keys_equal(&before, &after))
                continue;
            ok = pass == 0 ? index_check(writer, c, index, &after, row, changed, error)
                           : index_move(writer, index, &before, &after, row, error);
        }
    arena_free(&arena);
    return ok;
}

bool index_fill(struct handle *writer, struct collection *c, struct index *index, int64_t row, struct value document,
                struct error *error)
{
    struct arena arena = {0};
    struct keys none = {0}, keys = {0};
    bool ok = index_keys(index, document, &arena, &keys, error) &&
              index_check(writer, c, index, &keys, row, document, error) &&
              index_move(writer, index, &none, &keys, row, error);
    arena_free(&arena);
    return ok;
}

bool row_insert(struct handle *writer, struct collection *c, struct value document, struct error *error)
{
    sqlite3_stmt *statement = statement_get(writer, SQL_INSERT, c->id, 0, error);
    if (!statement)
        return false;
    struct buffer key = {0};
    key_append(&key, document_get(document, "_id"), false);
    sqlite3_bind_blob64(statement, 1, key.data, key.size, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 2, document.data, document.size, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    buffer_free(&key);
    if (result == SQLITE_CONSTRAINT)
        return duplicate(c, c->indexes, document, error);
    if (result != SQLITE_DONE)
        return handle_error(writer, error);
    if (!c->indexes->next)
        return true;
    int64_t row = sqlite3_last_insert_rowid(handle_db(writer));
    struct error ignored = {0};
    return indexes_move(writer, c, row, (struct value){0}, document, error) ||
           (row_remove(writer, c, row, &ignored) && false);
}

bool row_update(struct handle *writer, struct collection *c, int64_t row, struct value old, struct value changed,
                struct error *error)
{
    if (c->indexes->next && !indexes_move(writer, c, row, old, changed, error))
        return false;
    sqlite3_stmt *statement = statement_get(writer, SQL_UPDATE, c->id, 0, error);
    if (!statement)
        return false;
    sqlite3_bind_int64(statement, 1, row);
    sqlite3_bind_blob64(statement, 2, changed.data, changed.size, SQLITE_STATIC);
    return step_done(writer, statement, error);
}

bool row_delete(struct handle *writer, struct collection *c, int64_t row, struct value old, struct error *error)
{
    if (c->indexes->next && !indexes_move(writer, c, row, old, (struct value){0}, error))
        return false;
    return row_remove(writer, c, row, error);
}

bool row_get(struct handle *handle, struct collection *c, int64_t row, struct buffer *document)
{
    struct error ignored = {0};
    sqlite3_stmt *statement = statement_get(handle, SQL_BY_ROW, c->id, 0, &ignored);
    if (!statement)
        return false;
    sqlite3_bind_int64(statement, 1, row);
    document->size = 0;
    if (sqlite3_step(statement) == SQLITE_ROW)
        buffer_append(document, sqlite3_column_blob(statement, 1), (size_t)sqlite3_column_bytes(statement, 1));
    sqlite3_reset(statement);
    return document->size > 0;
}

int64_t collection_count(struct handle *handle, struct collection *c)
{
    char text[64];
    sqlite3_stmt *statement;
    snprintf(text, sizeof text, "SELECT count(*) FROM c%lld", (long long)c->id);
    if (sqlite3_prepare_v2(handle_db(handle), text, -1, &statement, NULL) != SQLITE_OK)
        return 0;
    int64_t count = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return count;
}
