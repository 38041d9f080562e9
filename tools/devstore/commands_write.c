/* insert, update, delete, findAndModify. */
#include "commands.h"
#include "pipeline.h"
#include "update.h"

#include <string.h>

/* One write command. */
struct batch {
    struct request *request;
    struct failure *error; /* of the statement that runs */
    int64_t matched, modified;
    struct buffer found;              /* the document as it was */
    bson_t changed, upserted, errors; /* the document as it is; two arrays of the answer */
    size_t upserted_count, error_count;
};

static void batch_begin(struct batch *b, struct request *request)
{
    *b = (struct batch){.request = request, .error = &request->error};
    bson_init(&b->changed);
    bson_init(&b->upserted);
    bson_init(&b->errors);
}

static void batch_end(struct batch *b)
{
    buffer_free(&b->found);
    bson_destroy(&b->changed);
    bson_destroy(&b->upserted);
    bson_destroy(&b->errors);
}

/* The statements (value): the documents of a sequence, or of the array of that name in the body. */
static bool statements(struct request *request, const char *name, struct buffer *list)
{
    value array = argument(request, name), document;
    for (size_t i = 0; i < request->sequence_count; i++)
        if (strcmp(request->sequences[i].name, name) == 0)
            for (size_t at = 0; documents_next(&request->sequences[i].documents, &at, &document);)
                buffer_append(list, &document, sizeof document);
    for (struct fields it = fields_of(array); fields_next(&it);) {
        document = it.v;
        if (document.value_type != BSON_TYPE_DOCUMENT)
            return fail(&request->error, 14, "BSON field '%s.%s.%s' is the wrong type '%s', expected type 'object'",
                        request->name, name, it.key, value_type_name(document));
        buffer_append(list, &document, sizeof document);
    }
    size_t count = list->size / sizeof document;
    return (count >= 1 && count <= MAX_WRITE_BATCH) ||
           fail(&request->error, 21, "Write batch sizes must be between 1 and %d. Got %zu operations.", MAX_WRITE_BATCH,
                count);
}

static void add_write_error(struct batch *b, size_t index)
{
    bson_t *entry = BCON_NEW("index", BCON_INT32((int32_t)index));
    append_error(entry, b->error);
    append_item(&b->errors, b->error_count++, document_of(entry));
    bson_destroy(entry);
    failure_clear(b->error);
}

/* Runs the statements of a bulk in order; an error of one is an entry of writeErrors, but a malformed one fails the
 * command before anything is written. */
static bool run_batch(struct request *request, const char *list_name,
                      bool (*check)(value statement, struct failure *error),
                      bool (*run)(struct batch *b, value statement, size_t index))
{
    struct batch b;
    struct buffer list = {0};
    batch_begin(&b, request);
    bool ok = statements(request, list_name, &list);
    const value *statement = (const void *)list.data;
    size_t count = list.size / sizeof *statement;
    bool ordered = !argument(request, "ordered").value_type || flag(request, "ordered");
    for (size_t i = 0; ok && check && i < count; i++)
        ok = check(statement[i], &request->error);
    for (size_t i = 0; ok && i < count && !(ordered && b.error_count); i++)
        if (!run(&b, statement[i], i))
            add_write_error(&b, i);
    append_number(request->out, "n", b.matched);
    if (strcmp(list_name, "updates") == 0)
        append_number(request->out, "nModified", b.modified);
    if (b.upserted_count)
        bson_append_array(request->out, "upserted", -1, &b.upserted);
    if (b.error_count)
        bson_append_array(request->out, "writeErrors", -1, &b.errors);
    buffer_free(&list);
    batch_end(&b);
    return ok;
}

/* Stores the document in b->changed. */
static bool store_new(struct batch *b)
{
    struct request *r = b->request;
    if (!r->collection && !(r->collection = collection_create(r->handle, r->ns, b->error)))
        return false;
    return row_insert(r->handle, r->collection, document_of(&b->changed), b->error);
}

static bool insert_one(struct batch *b, value document, size_t index)
{
    (void)index;
    bool ok = document_for_storage(document, &b->changed, b->error) && store_new(b);
    b->matched += ok;
    return ok;
}

bool command_insert(struct request *request)
{
    return run_batch(request, "documents", NULL, insert_one);
}

/* The first match in the order of the sort, copied to b->found: 1, none: 0, an error: -1. */
static int find_first(struct batch *b, const struct match *query, value sort, value hint, int64_t *row)
{
    struct scan scan = {.deadline = b->request->deadline};
    struct buffer best = {0};
    value document;
    int64_t at;
    int step = scan_open(&scan, b->request->handle, b->request->collection, query, sort, hint, b->error) ? 1 : -1;
    bool whole = !document_is_empty(sort) && !scan.ordered, found = false;
    while (step == 1 && (!found || whole) && (step = scan_next(&scan, &at, &document, b->error)) == 1) {
        struct buffer key = {0};
        if (whole)
            sort_key(document, sort, &key);
        if (!found || buffer_compare(&key, &best) < 0) {
            found = true;
            *row = at;
            b->found.size = best.size = 0;
            buffer_append(&best, key.data, key.size);
            buffer_append_document(&b->found, document);
        }
        buffer_free(&key);
    }
    scan_close(&scan);
    buffer_free(&best);
    return step < 0 ? -1 : found;
}

/* Applies the update to the document in b->found; the result stays in b->changed. */
static bool update_row(struct batch *b, const struct update *u, int64_t row)
{
    struct request *r = b->request;
    value old = document_view(b->found.data);
    if (!update_apply(u, old, false, &b->changed, b->error))
        return false;
    value changed = document_of(&b->changed);
    bool same =
        b->found.size == b->changed.len && memcmp(b->found.data, bson_get_data(&b->changed), b->found.size) == 0;
    if (!same &&
        (!document_check_depth(changed, b->error) || !row_write(r->handle, r->collection, row, old, changed, b->error)))
        return false;
    b->matched++;
    b->modified += !same;
    return true;
}

static bool delete_row(struct batch *b, const struct update *u, int64_t row)
{
    (void)u;
    bool ok =
        row_write(b->request->handle, b->request->collection, row, document_view(b->found.data), (value){0}, b->error);
    b->matched += ok;
    return ok;
}

/* Finds all matches before anything is written: an update must not meet its own results. */
static bool change_all(struct batch *b, const struct match *query, value hint, const struct update *u,
                       bool (*change)(struct batch *b, const struct update *u, int64_t row))
{
    struct request *r = b->request;
    struct scan scan = {.deadline = r->deadline};
    struct buffer rows = {0};
    value document;
    int64_t row;
    int found = scan_open(&scan, r->handle, r->collection, query, (value){0}, hint, b->error) ? 1 : -1;
    while (found == 1 && (found = scan_next(&scan, &row, &document, b->error)) == 1)
        buffer_append(&rows, &row, sizeof row);
    scan_close(&scan);
    bool ok = found == 0;
    const int64_t *list = (const void *)rows.data;
    for (size_t i = 0; ok && i < rows.size / sizeof *list; i++)
        ok = !row_get(r->handle, list[i], &b->found) || change(b, u, list[i]);
    buffer_free(&rows);
    return ok;
}

static bool change_first(struct batch *b, const struct match *query, value hint, const struct update *u,
                         bool (*change)(struct batch *b, const struct update *u, int64_t row))
{
    int64_t row;
    int found = find_first(b, query, (value){0}, hint, &row);
    return found == 0 || (found == 1 && change(b, u, row));
}

static bool run_update(struct batch *b, value statement, size_t index, const struct match *query,
                       const struct update *u)
{
    int64_t before = b->matched;
    bool multi = value_truth(document_get(statement, "multi"));
    if (multi && u->replacement.value_type)
        return fail(b->error, 9, "multi update is not supported for replacement-style update");
    if (!(multi ? change_all : change_first)(b, query, document_get(statement, "hint"), u, update_row))
        return false;
    if (b->matched > before || !value_truth(document_get(statement, "upsert")))
        return true;
    if (!update_upsert(u, query, &b->changed, b->error) || !store_new(b))
        return false;
    b->matched++;
    bson_t *entry = BCON_NEW("index", BCON_INT32((int32_t)index));
    append_value(entry, "_id", document_get(document_of(&b->changed), "_id"));
    append_item(&b->upserted, b->upserted_count++, document_of(entry));
    bson_destroy(entry);
    return true;
}

static bool update_one(struct batch *b, value statement, size_t index)
{
    struct update u = {0};
    struct match *query = query_compile(document_get(statement, "q"), b->error);
    bool ok = query && update_compile(&u, document_get(statement, "u"), b->error) &&
              run_update(b, statement, index, query, &u);
    update_free(&u);
    query_free(query);
    return ok;
}

static bool is_required(value statement, const char *where, const char *field, struct failure *error)
{
    return document_get(statement, field).value_type ||
           fail(error, 40414, "BSON field '%s.%s' is missing but a required field", where, field);
}

static bool check_update(value statement, struct failure *error)
{
    if (!check_known(statement, "update.updates", "q u multi upsert collation arrayFilters hint", error) ||
        !is_required(statement, "update.updates", "q", error) ||
        !is_required(statement, "update.updates", "u", error) ||
        !check_document(document_get(statement, "q"), "update.updates.q", error) || !check_collation(statement, error))
        return false;
    return document_is_empty(document_get(statement, "arrayFilters")) ||
           fail(error, 115, "arrayFilters is not supported");
}

bool command_update(struct request *request)
{
    return run_batch(request, "updates", check_update, update_one);
}

static bool check_delete(value statement, struct failure *error)
{
    int64_t limit = -1;
    if (!check_known(statement, "delete.deletes", "q limit collation hint", error) ||
        !is_required(statement, "delete.deletes", "q", error) ||
        !is_required(statement, "delete.deletes", "limit", error) ||
        !check_document(document_get(statement, "q"), "delete.deletes.q", error) || !check_collation(statement, error))
        return false;
    return (value_to_int64(document_get(statement, "limit"), &limit) && (limit == 0 || limit == 1)) ||
           fail(error, 9, "The limit field in delete objects must be 0 or 1. Got %lld", (long long)limit);
}

static bool delete_one(struct batch *b, value statement, size_t index)
{
    (void)index;
    struct match *query = query_compile(document_get(statement, "q"), b->error);
    bool first = value_truth(document_get(statement, "limit"));
    bool ok = query && (first ? change_first : change_all)(b, query, document_get(statement, "hint"), NULL, delete_row);
    query_free(query);
    return ok;
}

bool command_delete(struct request *request)
{
    return run_batch(request, "deletes", check_delete, delete_one);
}

static bool check_find_and_modify(const struct request *request, struct failure *error)
{
    bool remove = flag(request, "remove"), update = argument(request, "update").value_type;
    if (remove && update)
        return fail(error, 9, "Cannot specify both an 'update' and 'remove'=true");
    if (!remove && !update)
        return fail(error, 9, "Either an update or remove=true must be specified");
    if (remove && (flag(request, "new") || flag(request, "upsert")))
        return fail(error, 9,
                    "Cannot specify both '%s'=true and 'remove'=true; 'remove' always returns the deleted "
                    "document",
                    flag(request, "new") ? "new" : "upsert");
    return check_document(argument(request, "query"), "findAndModify.query", error) &&
           check_document(argument(request, "sort"), "findAndModify.sort", error) &&
           check_document(argument(request, "fields"), "findAndModify.fields", error) &&
           sort_check(argument(request, "sort"), error);
}

/* Answers with the document before or after, or null. */
static bool find_and_modify(struct batch *b, const struct match *query, const struct update *u,
                            const struct projection *projection)
{
    struct request *r = b->request;
    bool remove = flag(r, "remove"), new = flag(r, "new");
    int64_t row;
    int found = find_first(b, query, argument(r, "sort"), argument(r, "hint"), &row);
    bool upsert = found == 0 && flag(r, "upsert");
    if (found < 0 || (found && !(remove ? delete_row : update_row)(b, u, row)))
        return false;
    if (upsert && (!update_upsert(u, query, &b->changed, b->error) || !store_new(b)))
        return false;
    bson_t *outcome = BCON_NEW("n", BCON_INT32(found || upsert)), shown = BSON_INITIALIZER;
    if (!remove)
        bson_append_bool(outcome, "updatedExisting", -1, found);
    if (upsert)
        append_value(outcome, "upserted", document_get(document_of(&b->changed), "_id"));
    bson_append_document(r->out, "lastErrorObject", -1, outcome);
    bson_destroy(outcome);
    if (found || (upsert && new))
        projection_apply(projection, new ? document_of(&b->changed) : document_view(b->found.data), &shown);
    append_value(r->out, "value",
                 found || (upsert && new) ? document_of(&shown) : (value){.value_type = BSON_TYPE_NULL});
    bson_destroy(&shown);
    return true;
}

bool command_find_and_modify(struct request *request)
{
    struct failure *error = &request->error;
    struct batch b;
    struct update u = {0};
    struct match *query = NULL;
    struct projection projection = {0};
    batch_begin(&b, request);
    bool ok = check_find_and_modify(request, error) && (query = query_compile(argument(request, "query"), error)) &&
              projection_compile(&projection, argument(request, "fields"), error) &&
              (flag(request, "remove") || update_compile(&u, argument(request, "update"), error)) &&
              find_and_modify(&b, query, &u, &projection);
    projection_free(&projection);
    update_free(&u);
    query_free(query);
    batch_end(&b);
    return ok;
}
