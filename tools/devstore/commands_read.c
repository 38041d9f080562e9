/* find, getMore, killCursors, count, distinct, aggregate. */
#include "commands.h"
#include "pipeline.h"

#include <string.h>

enum { FIRST_BATCH = 101, BATCH_BYTES = 4 * 1024 * 1024, CURSOR_IDLE_MS = 10 * 60 * 1000 };

/* What a find or an aggregate has still to give: its results are complete before the first batch goes out. */
struct cursor {
    int64_t id, used_ms;
    char *ns;
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
    buffer_free(&c->results);
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

/* Writes the next batch, and keeps the cursor or frees it. A document over the limit of bytes is still in. */
static bool answer(struct request *request, struct cursor *c, const char *batch_name, int64_t size, bool single)
{
    bson_t batch = BSON_INITIALIZER;
    value document;
    for (int64_t n = 0; n < size && batch.len < BATCH_BYTES && documents_next(&c->results, &c->at, &document); n++)
        append_item(&batch, (size_t)n, document);
    int64_t id = 0;
    if (c->at < c->results.size && !single)
        id = cursor_keep(request->server->cursors, c);
    else
        cursor_free(c);
    BCON_APPEND(request->out, "cursor", "{", "id", BCON_INT64(id), "ns", BCON_UTF8(request->ns), batch_name,
                BCON_ARRAY(&batch), "}");
    bson_destroy(&batch);
    return true;
}

static bool answer_first(struct request *request, struct buffer results, int64_t size, bool single)
{
    struct cursor *c = bson_malloc0(sizeof *c);
    c->ns = bson_strdup(request->ns);
    c->results = results;
    return answer(request, c, "firstBatch", size, single);
}

bool command_get_more(struct request *request)
{
    int64_t id = 0, size = 0;
    if (!argument_int64(argument(request, "batchSize"), "batchSize", &size, &request->error))
        return false;
    value_to_int64(argument(request, "getMore"), &id);
    struct cursor *c = cursor_take(request->server->cursors, id, request->ns);
    if (!c)
        return fail(&request->error, 43, "cursor id %lld not found", (long long)id);
    return answer(request, c, "nextBatch", size ? size : INT64_MAX, false);
}

bool command_kill_cursors(struct request *request)
{
    struct buffer killed = {0}, missing = {0}, none = {0};
    for (struct fields it = fields_of(argument(request, "cursors")); fields_next(&it);) {
        int64_t id = 0;
        value_to_int64(it.v, &id);
        struct cursor *c = cursor_take(request->server->cursors, id, request->ns);
        buffer_append(c ? &killed : &missing, &it.v, sizeof(value));
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

/* The matches of a filter. */
struct search {
    struct match *query;
    struct scan scan;
};

static bool search_open(struct request *request, struct search *s, value filter, value sort)
{
    *s = (struct search){.query = query_compile(filter, &request->error), .scan.deadline = request->deadline};
    return s->query && scan_open(&s->scan, request->handle, request->collection, s->query, sort,
                                 argument(request, "hint"), &request->error);
}

static void search_close(struct search *s)
{
    scan_close(&s->scan);
    query_free(s->query);
}

/* Appends documents to results until there are enough of them (0: all). */
static bool search_collect(struct request *request, struct search *s, int64_t enough, struct buffer *results)
{
    value document;
    int64_t row;
    int found;
    while ((found = scan_next(&s->scan, &row, &document, &request->error)) == 1) {
        buffer_append_document(results, document);
        if (enough && --enough == 0)
            return true;
    }
    return found == 0;
}

/* Leaves what is shown of the documents from skip on, of at most limit (0: all). */
static void show(struct buffer *documents, int64_t skip, int64_t limit, const struct projection *projection)
{
    struct buffer shown = {0};
    value document;
    int64_t n = 0;
    for (size_t at = 0; (!limit || n < skip + limit) && documents_next(documents, &at, &document); n++) {
        bson_t made = BSON_INITIALIZER;
        projection_apply(projection, document, &made);
        if (n >= skip)
            buffer_append(&shown, bson_get_data(&made), made.len);
        bson_destroy(&made);
    }
    buffer_free(documents);
    *documents = shown;
}

bool command_find(struct request *request)
{
    struct failure *error = &request->error;
    value filter = argument(request, "filter"), sort = argument(request, "sort");
    value fields = argument(request, "projection");
    int64_t size = FIRST_BATCH, skip = 0, limit = 0;
    struct projection projection;
    struct search s = {0};
    struct buffer results = {0};
    if (!check_refused(request->body, "tailable awaitData max min returnKey showRecordId", error) ||
        !check_document(filter, "find.filter", error) || !check_document(sort, "find.sort", error) ||
        !check_document(fields, "find.projection", error) || !sort_check(sort, error) ||
        !argument_int64(argument(request, "batchSize"), "batchSize", &size, error) ||
        !argument_int64(argument(request, "skip"), "skip", &skip, error) ||
        !argument_int64(argument(request, "limit"), "limit", &limit, error))
        return false;
    bool ok = projection_compile(&projection, fields, error) && search_open(request, &s, filter, sort);
    bool sorted = document_is_empty(sort) || s.scan.ordered;
    ok = ok && search_collect(request, &s, sorted && limit ? skip + limit : 0, &results) &&
         (sorted || sort_documents(&results, sort, error));
    search_close(&s);
    if (ok)
        show(&results, skip, limit, &projection);
    projection_free(&projection);
    if (ok)
        return answer_first(request, results, size, flag(request, "singleBatch"));
    buffer_free(&results);
    return false;
}

bool command_count(struct request *request)
{
    value filter = argument(request, "query"), document;
    int64_t skip = 0, limit = 0, n = 0, row;
    int found = 0;
    struct search s = {0};
    if (!check_document(filter, "count.query", &request->error) ||
        !argument_int64(argument(request, "skip"), "skip", &skip, &request->error))
        return false;
    if (value_to_integer(argument(request, "limit"), &limit) && limit < 0)
        limit = -limit; /* counts the same, as for find */
    if (document_is_empty(filter) && !argument(request, "hint").value_type) {
        n = request->collection ? collection_count(request->handle, request->collection) : 0;
    } else {
        found = search_open(request, &s, filter, (value){0}) ? 1 : -1;
        while (found == 1 && (found = scan_next(&s.scan, &row, &document, &request->error)) == 1)
            n++;
        search_close(&s);
    }
    n = n > skip ? n - skip : 0;
    append_number(request->out, "n", limit > 0 && n > limit ? limit : n);
    return found == 0;
}

bool command_distinct(struct request *request)
{
    value key = argument(request, "key"), filter = argument(request, "query"), document;
    struct buffer documents = {0}, values = {0};
    struct search s;
    if (!check_document(filter, "distinct.query", &request->error))
        return false;
    if (!value_text(key))
        return fail(&request->error, 14, "BSON field 'distinct.key' is the wrong type '%s', expected type 'string'",
                    value_type_name(key));
    bool ok = search_open(request, &s, filter, (value){0}) && search_collect(request, &s, 0, &documents);
    for (size_t at = 0; documents_next(&documents, &at, &document);)
        path_elements(document, value_text(key), &values);
    keep_distinct(&values);
    append_list(request->out, "values", &values);
    search_close(&s);
    buffer_free(&documents);
    buffer_free(&values);
    return ok;
}

bool command_aggregate(struct request *request)
{
    value options = argument(request, "cursor"), stages = argument(request, "pipeline");
    int64_t size = FIRST_BATCH;
    struct buffer results = {0};
    struct search s;
    if (flag(request, "explain"))
        return fail(&request->error, 115, "explain is not supported");
    if (options.value_type != BSON_TYPE_DOCUMENT)
        return fail(&request->error, 9,
                    "The 'cursor' option is required, except for aggregate with the explain "
                    "argument");
    if (!argument_int64(document_get(options, "batchSize"), "batchSize", &size, &request->error))
        return false;
    /* a leading $match is the scan's first, which may find an index for it */
    bool ok = search_open(request, &s, document_path(stages, "0.$match"), (value){0}) &&
              search_collect(request, &s, 0, &results) && pipeline_run(stages, &results, &request->error);
    search_close(&s);
    if (ok)
        return answer_first(request, results, size, false);
    buffer_free(&results);
    return false;
}
