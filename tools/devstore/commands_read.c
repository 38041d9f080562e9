/* find, getMore, killCursors, count, distinct, aggregate. */
#include "aggregate.h"
#include "commands.h"
#include "projection.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BATCH = 101, CURSOR_IDLE_MS = 10 * 60 * 1000 };

/* A find or an aggregate with more to give. Between two commands it holds no snapshot, only a place. */
struct cursor {
    int64_t id, used_ms;
    const char *ns;
    struct arena arena;   /* holds the command's document and all that is compiled from it */
    struct query query;
    struct projection projection;
    struct scan scan;
    int64_t skip, limit; /* left; limit 0: none */
    bool stored;         /* the documents are in results, not in the scan */
    struct buffer results, held; /* held: one that did not fit the batch */
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
    query_free(&c->query);
    buffer_free(&c->results);
    buffer_free(&c->held);
    arena_free(&c->arena);
    free(c);
}

struct cursors *cursors_open(void)
{
    struct cursors *cursors = memset(allocate(sizeof *cursors), 0, sizeof *cursors);
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
    free(cursors);
}

static struct cursor *cursor_new(struct request *request, const char *ns)
{
    struct cursor *c = memset(allocate(sizeof *c), 0, sizeof *c);
    c->ns = arena_string(&c->arena, ns, strlen(ns));
    c->scan.deadline = request->deadline;
    return c;
}

static void cursor_keep(struct cursors *cursors, struct cursor *c)
{
    pthread_mutex_lock(&cursors->lock);
    c->used_ms = clock_ms();
    if (!c->id)
        c->id = ++cursors->last_id;
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
}

static struct cursor *cursor_take(struct cursors *cursors, int64_t id, const char *ns)
{
    pthread_mutex_lock(&cursors->lock);
    struct cursor **at = &cursors->list, *c;
    while (*at && ((*at)->id != id || strcmp((*at)->ns, ns) != 0))
        at = &(*at)->next;
    c = *at;
    if (c)
        *at = c->next;
    pthread_mutex_unlock(&cursors->lock);
    return c;
}

static int cursor_next(struct cursor *c, struct value *document, struct error *error)
{
    int64_t row;
    if (c->held.size) {
        *document = buffer_document(&c->held);
        return 1;
    }
    if (c->stored) {
        if (c->at >= c->results.size)
            return 0;
        *document = document_view(c->results.data + c->at);
        c->at += document->size;
        return 1;
    }
    int found = 1;
    while (c->skip > 0 && (found = scan_next(&c->scan, &row, document, error)) == 1)
        c->skip--;
    return found == 1 ? scan_next(&c->scan, &row, document, error) : found;
}

/* One batch; more: whether there may be another. */
static bool fill(struct cursor *c, int64_t batch_size, struct buffer *out, bool *more, struct error *error)
{
    struct value document;
    size_t start = out->size;
    int found = 1;
    int64_t count = 0;
    char key[24];
    while (count < batch_size && (found = cursor_next(c, &document, error)) == 1) {
        if (count > 0 && out->size - start + document.size > MAX_DOCUMENT_BYTES) {
            if (!c->held.size)
                buffer_append(&c->held, document.data, document.size);
            break;
        }
        snprintf(key, sizeof key, "%lld", (long long)count++);
        put_head(out, key, strlen(key), BSON_TYPE_DOCUMENT);
        projection_apply(&c->projection, document, out);
        c->held.size = 0;
        if (c->limit > 0 && --c->limit == 0)
            found = 0;
        if (found == 0)
            break;
    }
    *more = found == 1 && !(c->stored && c->at >= c->results.size && !c->held.size);
    return found >= 0;
}

/* Writes the cursor's part of the answer, and keeps the cursor or frees it. */
static bool answer(struct request *request, struct cursor *c, const char *batch_name, int64_t batch_size, bool single,
                   struct buffer *out, struct error *error)
{
    struct buffer batch = {0};
    bool more = false, ok = fill(c, batch_size, &batch, &more, error);
    bool keep = ok && more && !single;
    size_t mark = put_open(out, "cursor", BSON_TYPE_DOCUMENT);
    size_t list = put_open(out, batch_name, BSON_TYPE_ARRAY);
    buffer_append(out, batch.data, batch.size);
    document_close(out, list);
    if (c->scan.handle) {
        scan_pause(&c->scan);
        store_read_end(c->scan.handle);
        c->scan.handle = NULL;
    }
    const char *ns = arena_string(&request->arena, c->ns, strlen(c->ns));
    int64_t id = 0;
    if (keep) {
        cursor_keep(request->server->cursors, c);
        id = c->id;
    } else {
        cursor_free(c);
    }
    put_int64(out, "id", id);
    put_string(out, "ns", ns);
    document_close(out, mark);
    buffer_free(&batch);
    return ok;
}

static void abandon(struct cursor *c)
{
    struct handle *handle = c->scan.handle;
    cursor_free(c); /* resets its statement first */
    if (handle)
        store_read_end(handle);
}

static bool check_find(const struct request *request, struct error *error)
{
    static const char *const refused[] = {"tailable", "awaitData", "max", "min", "returnKey", "showRecordId"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (value_truth(argument(request, refused[i])))
            return error_set(error, 115, "find option '%s' is not supported", refused[i]);
    return check_document(argument(request, "filter"), "find.filter", error) &&
           check_document(argument(request, "sort"), "find.sort", error) &&
           check_document(argument(request, "projection"), "find.projection", error) &&
           check_sort(argument(request, "sort"), error) && check_collation(request->body, error);
}

static bool open_scan(struct request *request, struct cursor *c, struct value sort, struct value hint,
                      struct error *error)
{
    struct handle *handle = store_read_begin(request->server->store, error);
    if (!handle)
        return false;
    bool ok = scan_open(&c->scan, handle, collection_find(request->server->store, c->ns), &c->query, sort, hint, error);
    c->scan.handle = handle;
    return ok;
}

static bool sort_all(struct cursor *c, struct value sort, struct error *error)
{
    struct sorter sorter = {.sort = sort};
    struct value document;
    int64_t row;
    int found = 1;
    bool ok = true;
    while (ok && (found = scan_next(&c->scan, &row, &document, error)) == 1)
        ok = sorter_add(&sorter, document, error);
    sorter_finish(&sorter, c->skip, c->limit, &c->results);
    c->stored = true;
    c->limit = 0;
    return ok && found == 0;
}

static bool open_find(struct request *request, struct cursor *c, struct error *error)
{
    struct value body = value_copy(&c->arena, request->body), sort = document_get(body, "sort");
    struct value let = document_get(body, "let");
    if (!argument_int64(document_get(body, "skip"), "skip", &c->skip, error) ||
        !argument_int64(document_get(body, "limit"), "limit", &c->limit, error) ||
        !query_compile(&c->query, &c->arena, document_get(body, "filter"), let, error) ||
        !projection_compile(&c->projection, document_get(body, "projection"), let, error) ||
        !open_scan(request, c, sort, document_get(body, "hint"), error))
        return false;
    return document_is_empty(sort) || c->scan.ordered || sort_all(c, sort, error);
}

bool command_find(struct request *request, struct buffer *out, struct error *error)
{
    int64_t batch_size = FIRST_BATCH;
    const char *ns = request_namespace(request, error);
    if (!ns || !check_find(request, error) ||
        !argument_int64(argument(request, "batchSize"), "batchSize", &batch_size, error))
        return false;
    struct cursor *c = cursor_new(request, ns);
    if (!open_find(request, c, error)) {
        abandon(c);
        return false;
    }
    return answer(request, c, "firstBatch", batch_size, value_truth(argument(request, "singleBatch")), out, error);
}

bool command_get_more(struct request *request, struct buffer *out, struct error *error)
{
    int64_t id = 0, batch_size = INT64_MAX;
    const char *ns = request_namespace(request, error);
    if (!ns || !argument_int64(argument(request, "batchSize"), "batchSize", &batch_size, error))
        return false;
    value_to_int64(argument(request, "getMore"), &id);
    struct cursor *c = cursor_take(request->server->cursors, id, ns);
    if (!c)
        return error_set(error, 43, "cursor id %lld not found", (long long)id);
    c->scan.deadline = request->deadline;
    if (!c->stored) {
        struct handle *handle = store_read_begin(request->server->store, error);
        scan_resume(&c->scan, handle);
        if (!handle) {
            abandon(c);
            return false;
        }
    }
    return answer(request, c, "nextBatch", batch_size ? batch_size : INT64_MAX, false, out, error);
}

bool command_kill_cursors(struct request *request, struct buffer *out, struct error *error)
{
    struct buffer killed = {0}, missing = {0};
    struct field f;
    size_t counts[2] = {0};
    const char *ns = request_namespace(request, error);
    if (!ns)
        return false;
    for (struct fields it = fields_of(argument(request, "cursors")); fields_next(&it, &f);) {
        int64_t id = 0;
        value_to_int64(f.value, &id);
        struct cursor *c = cursor_take(request->server->cursors, id, ns);
        put_item(c ? &killed : &missing, counts[!c]++, f.value);
        if (c)
            cursor_free(c);
    }
    static const char *const names[] = {"cursorsKilled", "cursorsNotFound", "cursorsAlive", "cursorsUnknown"};
    for (size_t i = 0; i < 4; i++) {
        size_t mark = put_open(out, names[i], BSON_TYPE_ARRAY);
        if (i < 2)
            buffer_append(out, i ? missing.data : killed.data, i ? missing.size : killed.size);
        document_close(out, mark);
    }
    buffer_free(&killed);
    buffer_free(&missing);
    return true;
}

/* Calls visit for each match of the filter. */
typedef bool visit_function(struct cursor *c, struct value document, void *context, struct error *error);

static bool each_match(struct request *request, struct cursor *c, struct value filter, visit_function *visit,
                       void *context, struct error *error)
{
    struct value document;
    int64_t row;
    int found = -1;
    bool ok = query_compile(&c->query, &c->arena, filter, argument(request, "let"), error) &&
              open_scan(request, c, (struct value){0}, argument(request, "hint"), error);
    while (ok && (found = scan_next(&c->scan, &row, &document, error)) == 1)
        ok = visit(c, document, context, error);
    return ok && found == 0;
}

static bool count_one(struct cursor *c, struct value document, void *context, struct error *error)
{
    (void)c, (void)document, (void)error;
    ++*(int64_t *)context;
    return true;
}

bool command_count(struct request *request, struct buffer *out, struct error *error)
{
    const char *ns = request_namespace(request, error);
    struct value filter = argument(request, "query"), limited = argument(request, "limit");
    int64_t skip = 0, limit = 0, n = 0;
    if (!ns || !check_document(filter, "count.query", error) || !check_collation(request->body, error) ||
        !argument_int64(argument(request, "skip"), "skip", &skip, error))
        return false;
    if (value_to_integer(limited, &limit) && limit < 0)
        limit = -limit; /* counts the same, as for find */
    struct cursor *c = cursor_new(request, ns);
    bool ok;
    if (document_is_empty(filter) && !argument(request, "hint").type) {
        struct collection *collection = collection_find(request->server->store, ns);
        c->scan.handle = store_read_begin(request->server->store, error);
        ok = c->scan.handle != NULL;
        n = ok && collection ? collection_count(c->scan.handle, collection) : 0;
    } else {
        ok = each_match(request, c, filter, count_one, &n, error);
    }
    abandon(c);
    n = n > skip ? n - skip : 0;
    put_number(out, "n", limit > 0 && n > limit ? limit : n);
    return ok;
}

struct distinct {
    const char *path;
    struct buffer values; /* struct value */
};

static bool collect_distinct(struct cursor *c, struct value document, void *context, struct error *error)
{
    struct distinct *distinct = context;
    struct buffer found = {0};
    (void)error;
    value_collect(document, distinct->path, &found);
    for (size_t i = 0; i < found.size / sizeof(struct value); i++) {
        struct value v = value_copy(&c->arena, ((struct value *)(void *)found.data)[i]);
        if (v.type != BSON_TYPE_EOD && v.type != BSON_TYPE_UNDEFINED)
            buffer_append(&distinct->values, &v, sizeof v);
    }
    buffer_free(&found);
    return true;
}

bool command_distinct(struct request *request, struct buffer *out, struct error *error)
{
    const char *ns = request_namespace(request, error);
    struct value key = argument(request, "key"), filter = argument(request, "query");
    struct distinct distinct = {.path = value_text(key)};
    if (!ns || !check_document(filter, "distinct.query", error) || !check_collation(request->body, error))
        return false;
    if (!distinct.path)
        return error_set(error, 14, "BSON field 'distinct.key' is the wrong type '%s', expected type 'string'",
                         value_type_name(key));
    struct cursor *c = cursor_new(request, ns);
    bool ok = each_match(request, c, filter, collect_distinct, &distinct, error);
    struct value *list = (void *)distinct.values.data;
    size_t count = distinct.values.size / sizeof *list, kept = 0;
    size_t mark = put_open(out, "values", BSON_TYPE_ARRAY);
    if (count)
        qsort(list, count, sizeof *list, value_order);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || value_compare(list[i - 1], list[i]) != 0)
            put_item(out, kept++, list[i]);
    document_close(out, mark);
    buffer_free(&distinct.values);
    abandon(c);
    return ok;
}

static bool push_one(struct cursor *c, struct value document, void *context, struct error *error)
{
    (void)c;
    return pipeline_push(context, document, error);
}

/* A leading $match is left to the scan, which may find an index for it. */
static bool run_pipeline(struct request *request, struct cursor *c, struct pipeline *p, struct error *error)
{
    struct value stages = argument(request, "pipeline"), first = document_get(document_get(stages, "0"), "$match");
    if (!pipeline_compile(p, stages, argument(request, "let"), error) ||
        !each_match(request, c, first, push_one, p, error) || !pipeline_finish(p, error))
        return false;
    c->results = p->results;
    p->results = (struct buffer){0};
    c->stored = true;
    return true;
}

bool command_aggregate(struct request *request, struct buffer *out, struct error *error)
{
    struct value options = argument(request, "cursor");
    int64_t batch_size = FIRST_BATCH;
    struct pipeline p;
    if (value_is_number(argument(request, "aggregate")))
        return error_set(error, 115, "aggregate on a database is not supported");
    const char *ns = request_namespace(request, error);
    if (!ns || !check_collation(request->body, error) ||
        !argument_int64(document_get(options, "batchSize"), "batchSize", &batch_size, error))
        return false;
    if (value_truth(argument(request, "explain")))
        return error_set(error, 115, "explain is not supported");
    if (options.type != BSON_TYPE_DOCUMENT)
        return error_set(error, 9, "The 'cursor' option is required, except for aggregate with the explain argument");
    struct cursor *c = cursor_new(request, ns);
    bool ok = run_pipeline(request, c, &p, error);
    pipeline_free(&p);
    if (!ok) {
        abandon(c);
        return false;
    }
    return answer(request, c, "firstBatch", batch_size, false, out, error);
}
