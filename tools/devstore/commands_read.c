/* find, getMore, killCursors, count, distinct, aggregate. */
#include "commands.h"
#include "pipeline.h"

#include <string.h>

enum { FIRST_BATCH = 101, BATCH_BYTES = 4 * 1024 * 1024, CURSOR_IDLE_MS = 10 * 60 * 1000 };

/* A find or an aggregate with more to give. Between two commands it holds no snapshot, only a place. */
struct cursor {
    int64_t id, used_ms;
    char *ns;
    struct buffer body; /* the command: what was compiled points into it */
    struct match *query;
    struct projection projection;
    struct scan scan;
    int64_t skip, limit; /* left; limit 0: none */
    bool stored;         /* the documents are in results, not in the scan */
    struct buffer results;
    size_t at;
    struct cursor *next;
};

struct cursors {
    pthread_mutex_t lock;
    struct cursor *list;
    int64_t last_id;
};

static void cursor_free(struct cursor *c)
{
    scan_close(&c->scan);
    query_free(c->query);
    buffer_free(&c->results);
    buffer_free(&c->body);
    bson_free(c->ns);
    bson_free(c);
}

struct cursors *cursors_open(void)
{
    struct cursors *cursors = bson_malloc0(sizeof *cursors);
    pthread_mutex_init(&cursors->lock, NULL);
    cursors->last_id = clock_ms() << 20; /* not those of an earlier run */
    return cursors;
}

void cursors_close(struct cursors *cursors)
{
    while (cursors->list) {
        struct cursor *next = cursors->list->next;
        cursor_free(cursors->list);
        cursors->list = next;
    }
    bson_free(cursors);
}

static struct cursor *cursor_new(struct request *request)
{
    struct cursor *c = bson_malloc0(sizeof *c);
    c->ns = bson_strdup(request->ns);
    c->scan.deadline = request->deadline;
    buffer_append(&c->body, request->body.value.v_doc.data, request->body.value.v_doc.data_len);
    return c;
}

/* Puts a cursor back for the next getMore, and frees those that nobody has asked for in a long time. */
static int64_t cursor_keep(struct cursors *cursors, struct cursor *c)
{
    pthread_mutex_lock(&cursors->lock);
    c->used_ms = clock_ms();
    if (!c->id)
        c->id = ++cursors->last_id;
    int64_t id = c->id; /* another connection may take it as soon as the lock is gone */
    for (struct cursor **at = &cursors->list; *at;) {
        struct cursor *old = *at;
        if (c->used_ms - old->used_ms > CURSOR_IDLE_MS) {
            *at = old->next;
            cursor_free(old);
        } else {
            at = &old->next;
        }
    }
    c->next = cursors->list;
    cursors->list = c;
    pthread_mutex_unlock(&cursors->lock);
    return id;
}

static struct cursor *cursor_take(struct cursors *cursors, int64_t id, const char *ns)
{
    pthread_mutex_lock(&cursors->lock);
    struct cursor **at = &cursors->list;
    while (*at && ((*at)->id != id || strcmp((*at)->ns, ns) != 0))
        at = &(*at)->next;
    struct cursor *c = *at;
    if (c)
        *at = c->next;
    pthread_mutex_unlock(&cursors->lock);
    return c;
}

/* 1 a document, 0 the end, -1 an error. */
static int cursor_next(struct cursor *c, value *document, struct error *error)
{
    int found;
    int64_t row;
    do
        found = c->stored ? documents_next(&c->results, &c->at, document) : scan_next(&c->scan, &row, document, error);
    while (found == 1 && c->skip-- > 0);
    return found;
}

/* Appends one batch; gives 1 if there may be another. A document over the limit of bytes is still in. */
static int append_batch(struct cursor *c, int64_t size, bson_t *batch, struct error *error)
{
    value document;
    int found = 1;
    for (int64_t count = 0; count < size && batch->len < BATCH_BYTES; count++) {
        if ((found = cursor_next(c, &document, error)) != 1)
            return found;
        bson_t shown = BSON_INITIALIZER;
        projection_apply(&c->projection, document, &shown);
        append_item(batch, (size_t)count, document_of(&shown));
        bson_destroy(&shown);
        if (c->limit > 0 && --c->limit == 0)
            return 0;
    }
    return !c->stored || c->at < c->results.size;
}

/* Writes the cursor's part of the answer, and keeps the cursor or frees it. */
static bool answer(struct request *request, struct cursor *c, const char *batch_name, int64_t size, bool single)
{
    bson_t batch = BSON_INITIALIZER;
    int more = append_batch(c, size, &batch, &request->error);
    int64_t id = 0;
    if (more == 1 && !single)
        id = cursor_keep(request->server->cursors, c);
    else
        cursor_free(c);
    BCON_APPEND(request->out, "cursor", "{", "id", BCON_INT64(id), "ns", BCON_UTF8(request->ns), batch_name,
                BCON_ARRAY(&batch), "}");
    bson_destroy(&batch);
    return more >= 0;
}

static bool sort_results(struct cursor *c, value sort, struct error *error)
{
    value document;
    int64_t row;
    int found;
    while ((found = scan_next(&c->scan, &row, &document, error)) == 1)
        buffer_append(&c->results, document.value.v_doc.data, document.value.v_doc.data_len);
    c->stored = true;
    return found == 0 && sort_documents(&c->results, sort, error);
}

static bool open_find(struct request *request, struct cursor *c)
{
    struct error *error = &request->error;
    value body = document_view(c->body.data), sort = document_get(body, "sort");
    return argument_int64(document_get(body, "skip"), "skip", &c->skip, error) &&
           argument_int64(document_get(body, "limit"), "limit", &c->limit, error) &&
           (c->query = query_compile(document_get(body, "filter"), error)) &&
           projection_check(&c->projection, document_get(body, "projection"), error) &&
           scan_open(&c->scan, request->handle, request->collection, c->query, sort, document_get(body, "hint"),
                     error) &&
           (document_is_empty(sort) || c->scan.ordered || sort_results(c, sort, error));
}

bool command_find(struct request *request)
{
    static const char *const refused[] = {"tailable", "awaitData", "max", "min", "returnKey", "showRecordId"};
    struct error *error = &request->error;
    int64_t size = FIRST_BATCH;
    if (!refuse(request, refused, sizeof refused / sizeof *refused) ||
        !check_document(argument(request, "filter"), "find.filter", error) ||
        !check_document(argument(request, "sort"), "find.sort", error) ||
        !check_document(argument(request, "projection"), "find.projection", error) ||
        !sort_check(argument(request, "sort"), error) ||
        !argument_int64(argument(request, "batchSize"), "batchSize", &size, error))
        return false;
    struct cursor *c = cursor_new(request);
    if (open_find(request, c))
        return answer(request, c, "firstBatch", size, flag(request, "singleBatch"));
    cursor_free(c);
    return false;
}

bool command_get_more(struct request *request)
{
    int64_t id = 0, size = 0;
    if (!argument_int64(argument(request, "batchSize"), "batchSize", &size, &request->error))
        return false;
    value_to_int64(argument(request, "getMore"), &id);
    struct cursor *c = cursor_take(request->server->cursors, id, request->ns);
    if (!c)
        return error_set(&request->error, 43, "cursor id %lld not found", (long long)id);
    c->scan.deadline = request->deadline;
    c->scan.handle = request->handle;
    return answer(request, c, "nextBatch", size ? size : INT64_MAX, false);
}

bool command_kill_cursors(struct request *request)
{
    struct buffer killed = {0}, missing = {0}, none = {0};
    for (bson_iter_t it = fields_of(argument(request, "cursors")); bson_iter_next(&it);) {
        int64_t id = 0;
        value_to_int64(*bson_iter_value(&it), &id);
        struct cursor *c = cursor_take(request->server->cursors, id, request->ns);
        buffer_append(c ? &killed : &missing, bson_iter_value(&it), sizeof(value));
        if (c)
            cursor_free(c);
    }
    append_list(request->out, "cursorsKilled", &killed);
    append_list(request->out, "cursorsNotFound", &missing);
    append_list(request->out, "cursorsAlive", &none);
    append_list(request->out, "cursorsUnknown", &none);
    buffer_free(&killed);
    buffer_free(&missing);
    return true;
}

/* A cursor over the matches of a filter, in no particular order. */
static struct cursor *search(struct request *request, value filter)
{
    struct cursor *c = cursor_new(request);
    c->query = query_compile(filter, &request->error);
    if (c->query && scan_open(&c->scan, request->handle, request->collection, c->query, (value){0},
                              argument(request, "hint"), &request->error))
        return c;
    cursor_free(c);
    return NULL;
}

bool command_count(struct request *request)
{
    value filter = argument(request, "query"), limited = argument(request, "limit"), document;
    int64_t skip = 0, limit = 0, n = 0;
    int found = 0;
    if (!check_document(filter, "count.query", &request->error) ||
        !argument_int64(argument(request, "skip"), "skip", &skip, &request->error))
        return false;
    if (value_to_integer(limited, &limit) && limit < 0)
        limit = -limit; /* counts the same, as for find */
    if (document_is_empty(filter) && !argument(request, "hint").value_type) {
        n = request->collection ? collection_count(request->handle, request->collection) : 0;
    } else {
        struct cursor *c = search(request, filter);
        if (!c)
            return false;
        while ((found = cursor_next(c, &document, &request->error)) == 1)
            n++;
        cursor_free(c);
    }
    n = n > skip ? n - skip : 0;
    append_number(request->out, "n", limit > 0 && n > limit ? limit : n);
    return found == 0;
}

bool command_distinct(struct request *request)
{
    value key = argument(request, "key"), filter = argument(request, "query"), document;
    const char *path = value_text(key);
    bson_t copies = BSON_INITIALIZER;
    struct buffer values = {0};
    int found;
    if (!check_document(filter, "distinct.query", &request->error))
        return false;
    if (!path)
        return error_set(&request->error, 14,
                         "BSON field 'distinct.key' is the wrong type '%s', expected type 'string'",
                         value_type_name(key));
    struct cursor *c = search(request, filter);
    if (!c)
        return false;
    while ((found = cursor_next(c, &document, &request->error)) == 1) {
        values.size = 0;
        path_elements(document, path, &values);
        const value *list = (const void *)values.data;
        for (size_t i = 0; i < values.size / sizeof *list; i++)
            append_value(&copies, "", list[i]);
    }
    values.size = 0;
    for (bson_iter_t it = fields_of(document_of(&copies)); bson_iter_next(&it);)
        if (bson_iter_type(&it) != BSON_TYPE_UNDEFINED) /* of an empty array */
            buffer_append(&values, bson_iter_value(&it), sizeof(value));
    keep_distinct(&values);
    append_list(request->out, "values", &values);
    buffer_free(&values);
    bson_destroy(&copies);
    cursor_free(c);
    return found == 0;
}

bool command_aggregate(struct request *request)
{
    value options = argument(request, "cursor"), stages = argument(request, "pipeline"), document;
    int64_t size = FIRST_BATCH;
    int found;
    if (flag(request, "explain"))
        return error_set(&request->error, 115, "explain is not supported");
    if (options.value_type != BSON_TYPE_DOCUMENT)
        return error_set(&request->error, 9,
                         "The 'cursor' option is required, except for aggregate with the explain "
                         "argument");
    if (!argument_int64(document_get(options, "batchSize"), "batchSize", &size, &request->error))
        return false;
    /* a leading $match is the scan's first, which may find an index for it */
    struct cursor *c = search(request, document_path(stages, "0.$match"));
    if (!c)
        return false;
    while ((found = scan_next(&c->scan, &(int64_t){0}, &document, &request->error)) == 1)
        buffer_append(&c->results, document.value.v_doc.data, document.value.v_doc.data_len);
    c->stored = true;
    if (found == 0 && pipeline_run(stages, &c->results, &request->error))
        return answer(request, c, "firstBatch", size, false);
    cursor_free(c);
    return false;
}
