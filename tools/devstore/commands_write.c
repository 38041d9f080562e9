/* insert, update, delete, findAndModify. */
#include "commands.h"
#include "projection.h"
#include "update.h"

#include <string.h>

/* One write command while it holds the writer. */
struct batch {
    struct request *request;
    const char *ns;
    struct handle *writer;
    struct collection *collection; /* NULL until something is stored in it */
    int64_t matched, modified;
    struct buffer upserted, errors, found, changed; /* the first two: array elements of the answer */
    size_t upserted_count, error_count;
    struct error *error;
};

static bool batch_begin(struct batch *b, struct request *request, struct error *error)
{
    *b = (struct batch){.request = request, .ns = request_namespace(request, error), .error = error};
    if (!b->ns)
        return false;
    b->writer = store_write_begin(request->server->store);
    b->collection = collection_find(request->server->store, b->ns);
    return true;
}

static bool batch_end(struct batch *b)
{
    bool ok = store_write_end(b->request->server->store, b->error);
    buffer_free(&b->upserted);
    buffer_free(&b->errors);
    buffer_free(&b->found);
    buffer_free(&b->changed);
    return ok;
}

static bool need_collection(struct batch *b, struct error *error)
{
    if (!b->collection)
        b->collection = collection_create(b->writer, b->ns, error);
    return b->collection != NULL;
}

static void add_write_error(struct batch *b, size_t index, const struct error *error)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", b->error_count++);
    size_t mark = put_open(&b->errors, key, BSON_TYPE_DOCUMENT);
    put_number(&b->errors, "index", (int64_t)index);
    put_error(&b->errors, error);
    document_close(&b->errors, mark);
}

static void add_upserted(struct batch *b, size_t index, struct value id)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", b->upserted_count++);
    size_t mark = put_open(&b->upserted, key, BSON_TYPE_DOCUMENT);
    put_number(&b->upserted, "index", (int64_t)index);
    put_value(&b->upserted, "_id", id);
    document_close(&b->upserted, mark);
}

static void put_array(struct buffer *out, const char *key, const struct buffer *elements)
{
    if (!elements->size)
        return;
    size_t mark = put_open(out, key, BSON_TYPE_ARRAY);
    buffer_append(out, elements->data, elements->size);
    document_close(out, mark);
}

typedef bool operation(struct batch *b, struct value op, size_t index, struct error *error);
typedef bool check(struct value op, struct error *error);

/* Runs the operations of a bulk, in order; an error of one is an entry of writeErrors, but a malformed one fails the
 * command before anything is written. */
static bool run_batch(struct request *request, const char *list_name, check *well_formed, operation *run,
                      struct buffer *out, struct error *error)
{
    struct batch b;
    struct value *list, flag = argument(request, "ordered");
    size_t count;
    if (!argument_list(request, list_name, &list, &count, error))
        return false;
    for (size_t i = 0; well_formed && i < count; i++)
        if (!well_formed(list[i], error))
            return false;
    if (!batch_begin(&b, request, error))
        return false;
    bool ordered = !flag.type || value_truth(flag);
    for (size_t i = 0; i < count && !(ordered && b.error_count); i++) {
        struct error failed = {0};
        if (!run(&b, list[i], i, &failed))
            add_write_error(&b, i, &failed);
        error_clear(&failed);
    }
    put_number(out, "n", b.matched);
    put_array(out, "upserted", &b.upserted);
    if (strcmp(list_name, "updates") == 0)
        put_number(out, "nModified", b.modified);
    put_array(out, "writeErrors", &b.errors);
    return batch_end(&b);
}

static bool insert_one(struct batch *b, struct value document, size_t index, struct error *error)
{
    (void)index;
    if (!document_for_storage(document, &b->changed, error) || !need_collection(b, error) ||
        !row_insert(b->writer, b->collection, buffer_document(&b->changed), error))
        return false;
    b->matched++;
    return true;
}

bool command_insert(struct request *request, struct buffer *out, struct error *error)
{
    return run_batch(request, "documents", NULL, insert_one, out, error);
}

/* The first match in the order of the sort, copied to b->found: 1, none: 0, an error: -1. */
static int find_first(struct batch *b, const struct query *query, struct value sort, struct value hint, int64_t *row,
                      struct error *error)
{
    struct scan scan = {.deadline = b->request->deadline};
    struct value document;
    struct buffer best = {0}, key = {0};
    int64_t at;
    int result = scan_open(&scan, b->writer, b->collection, query, sort, hint, error) ? 0 : -1, step = 0;
    bool whole = result == 0 && !document_is_empty(sort) && !scan.ordered, found = false;
    while (result == 0 && (!found || whole) && (step = scan_next(&scan, &at, &document, error)) == 1) {
        key.size = 0;
        if (whole)
            sort_key(document, sort, &key);
        if (found && bytes_compare(key.data, key.size, best.data, best.size) >= 0)
            continue;
        found = true;
        *row = at;
        best.size = b->found.size = 0;
        buffer_append(&best, key.data, key.size);
        buffer_append(&b->found, document.data, document.size);
    }
    scan_close(&scan);
    buffer_free(&best);
    buffer_free(&key);
    return result || step < 0 ? -1 : found;
}

/* All matches, before anything is written: an update must not meet its own results. */
static bool find_rows(struct batch *b, const struct query *query, struct value hint, struct buffer *rows,
                      struct error *error)
{
    struct scan scan = {.deadline = b->request->deadline};
    struct value document;
    int64_t row;
    int step = -1;
    if (scan_open(&scan, b->writer, b->collection, query, (struct value){0}, hint, error))
        while ((step = scan_next(&scan, &row, &document, error)) == 1)
            buffer_append(rows, &row, sizeof row);
    scan_close(&scan);
    return step == 0;
}

/* Applies the update to the document in b->found; the result stays in b->changed. */
static bool update_row(struct batch *b, const struct update *u, const struct query *query, int64_t row,
                       struct error *error)
{
    int64_t position = -1;
    struct value old = buffer_document(&b->found);
    if (u->positional)
        query_matches(query, old, &position);
    if (!update_apply(u, old, position, false, &b->changed, error))
        return false;
    struct value changed = buffer_document(&b->changed);
    b->matched++;
    if (old.size == changed.size && memcmp(old.data, changed.data, old.size) == 0)
        return true;
    if (value_depth(changed) > MAX_DOCUMENT_DEPTH)
        return error_set(error, 15, "Document exceeds the maximum of %d nested levels", MAX_DOCUMENT_DEPTH);
    if (!row_update(b->writer, b->collection, row, old, changed, error)) {
        b->matched--;
        return false;
    }
    b->modified++;
    return true;
}

/* b->changed holds the new document afterwards. */
static bool upsert(struct batch *b, const struct update *u, const struct query *query, struct error *error)
{
    return update_upsert(u, query, &b->changed, error) && need_collection(b, error) &&
           row_insert(b->writer, b->collection, buffer_document(&b->changed), error);
}

static bool update_many(struct batch *b, const struct update *u, const struct query *query, struct value hint,
                        struct error *error)
{
    struct buffer rows = {0};
    bool ok = find_rows(b, query, hint, &rows, error);
    const int64_t *list = (const void *)rows.data;
    for (size_t i = 0; ok && i < rows.size / sizeof *list; i++)
        ok = !row_get(b->writer, b->collection, list[i], &b->found) || update_row(b, u, query, list[i], error);
    buffer_free(&rows);
    return ok;
}

static bool run_update(struct batch *b, struct value op, size_t index, const struct query *query,
                       const struct update *u, struct error *error)
{
    int64_t before = b->matched, row;
    struct value hint = document_get(op, "hint");
    if (value_truth(document_get(op, "multi"))) {
        if (!update_is_operators(u))
            return error_set(error, 9, "multi update is not supported for replacement-style update");
        if (!update_many(b, u, query, hint, error))
            return false;
    } else {
        int found = find_first(b, query, (struct value){0}, hint, &row, error);
        if (found < 0 || (found && !update_row(b, u, query, row, error)))
            return false;
    }
    if (b->matched > before || !value_truth(document_get(op, "upsert")))
        return true;
    if (!upsert(b, u, query, error))
        return false;
    b->matched++;
    add_upserted(b, index, document_get(buffer_document(&b->changed), "_id"));
    return true;
}

static bool required(struct value op, const char *where, const char *field, struct error *error)
{
    return document_get(op, field).type ||
           error_set(error, 40414, "BSON field '%s.%s' is missing but a required field", where, field);
}

static bool check_update(struct value op, struct error *error)
{
    return check_known(op, "update.updates", "q u multi upsert collation arrayFilters hint", error) &&
           required(op, "update.updates", "q", error) && required(op, "update.updates", "u", error) &&
           check_document(document_get(op, "q"), "update.updates.q", error) && check_collation(op, error);
}

static bool update_one(struct batch *b, struct value op, size_t index, struct error *error)
{
    struct query query = {0};
    struct update u = {0};
    struct arena arena = {0};
    bool ok = query_compile(&query, &arena, document_get(op, "q"), argument(b->request, "let"), error) &&
              update_compile(&u, &arena, document_get(op, "u"), document_get(op, "arrayFilters"), error) &&
              run_update(b, op, index, &query, &u, error);
    update_free(&u);
    query_free(&query);
    arena_free(&arena);
    return ok;
}

bool command_update(struct request *request, struct buffer *out, struct error *error)
{
    return run_batch(request, "updates", check_update, update_one, out, error);
}

static bool delete_row(struct batch *b, int64_t row, struct error *error)
{
    if (!row_delete(b->writer, b->collection, row, buffer_document(&b->found), error))
        return false;
    b->matched++;
    return true;
}

static bool run_delete(struct batch *b, struct value op, const struct query *query, int64_t limit, struct error *error)
{
    struct value hint = document_get(op, "hint");
    int64_t row;
    if (limit == 1) {
        int found = find_first(b, query, (struct value){0}, hint, &row, error);
        return found == 0 || (found > 0 && delete_row(b, row, error));
    }
    struct buffer rows = {0};
    bool ok = find_rows(b, query, hint, &rows, error);
    const int64_t *list = (const void *)rows.data;
    for (size_t i = 0; ok && i < rows.size / sizeof *list; i++)
        ok = !row_get(b->writer, b->collection, list[i], &b->found) || delete_row(b, list[i], error);
    buffer_free(&rows);
    return ok;
}

static bool check_delete(struct value op, struct error *error)
{
    int64_t limit = -1;
    if (!check_known(op, "delete.deletes", "q limit collation hint", error) ||
        !required(op, "delete.deletes", "q", error) || !required(op, "delete.deletes", "limit", error) ||
        !check_document(document_get(op, "q"), "delete.deletes.q", error) || !check_collation(op, error))
        return false;
    return (value_to_int64(document_get(op, "limit"), &limit) && (limit == 0 || limit == 1)) ||
           error_set(error, 9, "The limit field in delete objects must be 0 or 1. Got %lld", (long long)limit);
}

static bool delete_one(struct batch *b, struct value op, size_t index, struct error *error)
{
    struct query query = {0};
    struct arena arena = {0};
    int64_t limit = 0;
    (void)index;
    value_to_int64(document_get(op, "limit"), &limit);
    bool ok = query_compile(&query, &arena, document_get(op, "q"), argument(b->request, "let"), error) &&
         run_delete(b, op, &query, limit, error);
    query_free(&query);
    arena_free(&arena);
    return ok;
}

bool command_delete(struct request *request, struct buffer *out, struct error *error)
{
    return run_batch(request, "deletes", check_delete, delete_one, out, error);
}

/* What findAndModify did, and the document that it shows: none, b->found or b->changed. */
struct outcome {
    bool updated, upserted;
    const struct buffer *shown;
};

static bool modify(struct batch *b, const struct query *query, const struct update *u, struct outcome *outcome,
                   struct error *error)
{
    struct request *request = b->request;
    bool new = value_truth(argument(request, "new"));
    int64_t row;
    int found = find_first(b, query, argument(request, "sort"), argument(request, "hint"), &row, error);
    if (found < 0)
        return false;
    if (value_truth(argument(request, "remove"))) {
        outcome->shown = found ? &b->found : NULL;
        return !found || delete_row(b, row, error);
    }
    if (found) {
        outcome->updated = true;
        outcome->shown = new ? &b->changed : &b->found;
        return update_row(b, u, query, row, error);
    }
    if (!value_truth(argument(request, "upsert")))
        return true;
    outcome->upserted = true;
    outcome->shown = new ? &b->changed : NULL;
    return upsert(b, u, query, error);
}

static void put_outcome(struct batch *b, const struct outcome *outcome, const struct projection *projection,
                        struct buffer *out)
{
    bool remove = value_truth(argument(b->request, "remove"));
    size_t mark = put_open(out, "lastErrorObject", BSON_TYPE_DOCUMENT);
    put_int32(out, "n", b->matched > 0 || outcome->upserted);
    if (!remove)
        put_bool(out, "updatedExisting", outcome->updated);
    if (outcome->upserted)
        put_value(out, "upserted", document_get(buffer_document(&b->changed), "_id"));
    document_close(out, mark);
    if (outcome->shown) {
        put_head(out, "value", 5, BSON_TYPE_DOCUMENT);
        projection_apply(projection, buffer_document(outcome->shown), out);
    } else {
        put_null(out, "value");
    }
}

static bool check_find_and_modify(const struct request *request, struct error *error)
{
    bool remove = value_truth(argument(request, "remove")), update = argument(request, "update").type;
    if (remove && update)
        return error_set(error, 9, "Cannot specify both an 'update' and 'remove'=true");
    if (!remove && !update)
        return error_set(error, 9, "Either an update or remove=true must be specified");
    if (remove && (value_truth(argument(request, "new")) || value_truth(argument(request, "upsert"))))
        return error_set(error, 9, "Cannot specify both '%s'=true and 'remove'=true; 'remove' always returns the deleted "
                                   "document", value_truth(argument(request, "new")) ? "new" : "upsert");
    return check_document(argument(request, "query"), "findAndModify.query", error) &&
           check_document(argument(request, "sort"), "findAndModify.sort", error) &&
           check_document(argument(request, "fields"), "findAndModify.fields", error) &&
           check_sort(argument(request, "sort"), error) && check_collation(request->body, error);
}

bool command_find_and_modify(struct request *request, struct buffer *out, struct error *error)
{
    struct query query = {0};
    struct update u = {0};
    struct projection projection = {0};
    struct batch b;
    struct outcome outcome = {0};
    bool remove = value_truth(argument(request, "remove"));
    bool ok = check_find_and_modify(request, error) &&
              query_compile(&query, &request->arena, argument(request, "query"), argument(request, "let"), error) &&
              projection_compile(&projection, argument(request, "fields"), argument(request, "let"), error) &&
              (remove || update_compile(&u, &request->arena, argument(request, "update"),
                                        argument(request, "arrayFilters"), error));
    if (ok && (ok = batch_begin(&b, request, error))) {
        ok = modify(&b, &query, &u, &outcome, error);
        if (ok)
            put_outcome(&b, &outcome, &projection, out);
        struct error late = {0};
        b.error = ok ? error : &late; /* the first error is the one to tell */
        ok = batch_end(&b) && ok;
    }
    update_free(&u);
    query_free(&query);
    return ok;
}
