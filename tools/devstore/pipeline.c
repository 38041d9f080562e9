/* Projections, sorting, and pipelines: each stage turns a list of documents into another. */
#include "pipeline.h"
#include "update.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SORT_BYTES = 100 * 1024 * 1024 };

static bool is_flag(value v)
{
    return is_number(v) || v.value_type == BSON_TYPE_BOOL;
}

/* Expressions: a constant, "$field.path", {$literal: ...}, or a document or an array of them. */
static bool expression_check(value expression, struct failure *error)
{
    const char *text = value_text(expression);
    if (text && text[0] == '$' && text[1] == '$')
        return fail(error, 17276, "Use of undefined variable: %s", text + 2);
    if (text && strcmp(text, "$") == 0)
        return fail(error, 16872, "'$' by itself is not a valid FieldPath");
    for (struct fields it = fields_of(expression); fields_next(&it);) {
        if (strcmp(it.key, "$literal") == 0)
            return true;
        if (*it.key == '$')
            return fail(error, 168, "Unrecognized expression '%s'", it.key);
        if (!expression_check(it.v, error))
            return false;
    }
    return true;
}

/* A path through an array yields the array of what it finds in the elements. */
static void append_path(bson_t *out, const char *key, value from, const char *path)
{
    size_t length = strcspn(path, ".");
    value child = from.value_type == BSON_TYPE_DOCUMENT ? document_part(from, path, length) : (value){0};
    if (!path[length]) {
        append_value(out, key, child);
    } else if (child.value_type != BSON_TYPE_ARRAY) {
        append_path(out, key, child, path + length + 1);
    } else {
        struct buffer list = {0};
        bson_t found = BSON_INITIALIZER;
        for (struct fields it = fields_of(child); fields_next(&it);)
            append_path(&found, "", it.v, path + length + 1);
        for (struct fields it = fields_of(document_of(&found)); fields_next(&it);)
            buffer_append(&list, &it.v, sizeof(value));
        append_list(out, key, &list);
        buffer_free(&list);
        bson_destroy(&found);
    }
}

/* Appends the result under the key, or nothing when a path leads nowhere. */
static void evaluate(bson_t *out, const char *key, value expression, value document)
{
    const char *text = value_text(expression);
    bson_t child;
    if (text && *text == '$') {
        append_path(out, key, document, text + 1);
    } else if (document_get(expression, "$literal").value_type) {
        append_value(out, key, document_get(expression, "$literal"));
    } else if (is_container(expression)) {
        open_container(out, key, expression.value_type, &child);
        for (struct fields it = fields_of(expression); fields_next(&it);) {
            uint32_t before = child.len;
            evaluate(&child, it.key, it.v, document);
            if (child.len == before && expression.value_type == BSON_TYPE_ARRAY)
                bson_append_null(&child, it.key, -1);
        }
        bson_append_document_end(out, &child);
    } else {
        append_value(out, key, expression);
    }
}

/* A part of a projection or its tree: fields of their own, not an expression. */
static bool is_nested(value v)
{
    return v.value_type == BSON_TYPE_DOCUMENT && !is_operators(v);
}

static bool add_leaf(struct projection *p, const char *path, value v, struct failure *error)
{
    bool shown = !is_flag(v) || value_truth(v);
    if (!is_flag(v) && !expression_check(v, error))
        return false;
    if (document_path(document_of(p->tree), path).value_type)
        return fail(error, 31250, "Path collision at %s", path);
    if (strcmp(path, "_id") != 0 || !is_flag(v))
        *(shown ? &p->inclusive : &p->exclusive) = true;
    if (p->inclusive && p->exclusive)
        return fail(error, shown ? 31253 : 31254, "Cannot do %s on field %s in %s projection",
                    shown ? "inclusion" : "exclusion", path, shown ? "exclusion" : "inclusion");
    return document_set(&p->tree, path, v, error) ||
           (error->code == 28 && fail(error, 31249, "Path collision at %s", path));
}

/* {"a.b": 1} and {a: {b: 1}} are the same. */
static bool add_leaves(struct projection *p, const char *above, value spec, struct failure *error)
{
    bool ok = !document_is_empty(spec) || fail(error, 51270, "An empty sub-projection is not a valid value: %s", above);
    for (struct fields it = fields_of(spec); ok && fields_next(&it);) {
        char *path = bson_strdup_printf("%s%s%s", above, *above ? "." : "", it.key);
        ok = (is_nested(it.v) ? add_leaves : add_leaf)(p, path, it.v, error);
        bson_free(path);
    }
    return ok;
}

bool projection_compile(struct projection *p, value spec, struct failure *error)
{
    *p = (struct projection){.tree = bson_new()};
    if (!document_is_empty(spec) && !add_leaves(p, "", spec, error))
        return false;
    value id = document_get(document_of(p->tree), "_id");
    p->inclusive = p->inclusive || (!p->exclusive && value_truth(id));
    if (p->inclusive && !id.value_type)
        bson_append_bool(p->tree, "_id", -1, true); /* shown unless it is switched off */
    return true;
}

void projection_free(struct projection *p)
{
    bson_destroy(p->tree);
}

static bool computes(value tree)
{
    struct fields it = fields_of(tree);
    while (fields_next(&it))
        if (is_nested(it.v) ? computes(it.v) : !is_flag(it.v))
            return true;
    return false;
}

/* Adds what the tree computes from the whole document, beside what has been shown of the container. */
static void compute(value tree, value whole, value container, bson_t *out)
{
    bson_t child;
    for (struct fields it = fields_of(tree); fields_next(&it);) {
        if (!is_nested(it.v) && !is_flag(it.v)) {
            evaluate(out, it.key, it.v, whole);
        } else if (computes(it.v) && !is_container(document_get(container, it.key))) {
            bson_append_document_begin(out, it.key, -1, &child);
            compute(it.v, whole, (value){0}, &child);
            bson_append_document_end(out, &child);
        }
    }
}

/* tree: of the container; the elements of an array are projected with the array's own. */
static void project(const struct projection *p, value tree, value whole, value container, bson_t *out)
{
    bool array = container.value_type == BSON_TYPE_ARRAY;
    uint32_t index = 0;
    for (struct fields it = fields_of(container); fields_next(&it);) {
        value how = array ? tree : document_get(tree, it.key);
        const char *key = it.key;
        char number[16];
        bson_t child;
        if (array)
            bson_uint32_to_string(index, &key, number, sizeof number);
        if (is_nested(how) && is_container(it.v)) {
            open_container(out, key, it.v.value_type, &child);
            project(p, how, whole, it.v, &child);
            bson_append_document_end(out, &child);
        } else if (is_flag(how) ? value_truth(how) : !p->inclusive) {
            bson_append_value(out, key, -1, &it.v);
        } else {
            continue;
        }
        index++;
    }
    if (!array)
        compute(tree, whole, container, out);
}

void projection_apply(const struct projection *p, value document, bson_t *out)
{
    project(p, document_of(p->tree), document, document, out);
}

bool sort_check(value sort, struct failure *error)
{
    int64_t direction;
    for (struct fields it = fields_of(sort); fields_next(&it);) {
        if (!*it.key || (*it.key == '$' && strcmp(it.key, "$natural") != 0))
            return fail(error, 56, "FieldPath field names may not %s.", *it.key ? "start with '$'" : "be empty");
        if (!value_to_int64(it.v, &direction) || (direction != 1 && direction != -1))
            return fail(error, it.v.value_type == BSON_TYPE_DOCUMENT ? 115 : 15975,
                        "$sort key ordering must be 1 (for ascending) or -1 (for descending)");
    }
    return true;
}

/* An array stands for its least element, or for its greatest in a descending sort. */
void sort_key(value document, value sort, struct buffer *key)
{
    struct buffer values = {0};
    for (struct fields it = fields_of(sort); fields_next(&it);) {
        bool descending = value_to_double(it.v) < 0;
        values.size = 0;
        path_elements(document, it.key, &values);
        value *list = (void *)values.data, best = list[0];
        for (size_t i = 1; i < values.size / sizeof best; i++)
            if (descending ? value_compare(list[i], best) > 0 : value_compare(list[i], best) < 0)
                best = list[i];
        size_t start = key->size;
        key_append(key, or_null(best));
        for (size_t i = start; descending && i < key->size; i++)
            key->data[i] = (uint8_t)~key->data[i];
    }
    buffer_free(&values);
}

struct entry {
    struct buffer key;
    size_t order;
    value document;
};

static int by_entry(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = buffer_compare(&x->key, &y->key);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

/* Views of the documents in the order of the keys that key_of makes of them, those with equal keys as they came. */
static struct buffer sort_entries(const struct buffer *documents, value spec,
                                  void (*key_of)(value document, value spec, struct buffer *key))
{
    struct buffer entries = {0};
    struct entry entry = {.order = 0};
    for (size_t at = 0; documents_next(documents, &at, &entry.document); entry.order++) {
        entry.key = (struct buffer){0};
        key_of(entry.document, spec, &entry.key);
        buffer_append(&entries, &entry, sizeof entry);
    }
    if (entries.size)
        qsort(entries.data, entry.order, sizeof entry, by_entry);
    return entries;
}

static void free_entries(struct buffer *entries)
{
    struct entry *list = (void *)entries->data;
    for (size_t i = 0; i < entries->size / sizeof *list; i++)
        buffer_free(&list[i].key);
    buffer_free(entries);
}

bool sort_documents(struct buffer *documents, value sort, struct failure *error)
{
    if (documents->size > MAX_SORT_BYTES)
        return fail(error, 292, "Sort exceeded memory limit of %d bytes, but did not opt in to external sorting.",
                    MAX_SORT_BYTES);
    struct buffer entries = sort_entries(documents, sort, sort_key), sorted = {0};
    const struct entry *list = (void *)entries.data;
    for (size_t i = 0; i < entries.size / sizeof *list; i++)
        buffer_append_document(&sorted, list[i].document);
    free_entries(&entries);
    buffer_free(documents);
    *documents = sorted;
    return true;
}

static void append_sum(bson_t *out, const char *key, const value *list, size_t count, bool average)
{
    int64_t whole = 0, numbers = 0, x;
    double real = 0;
    bool wide = false, floating = false;
    for (size_t i = 0; i < count; i++) {
        if (!is_number(list[i]))
            continue;
        numbers++;
        real += value_to_double(list[i]);
        wide = wide || list[i].value_type == BSON_TYPE_INT64;
        floating = floating || list[i].value_type == BSON_TYPE_DOUBLE || !value_to_int64(list[i], &x) ||
                   __builtin_add_overflow(whole, x, &whole);
    }
    if (average && !numbers)
        bson_append_null(out, key, -1);
    else if (average || floating)
        bson_append_double(out, key, -1, average ? real / (double)numbers : real);
    else if (wide)
        bson_append_int64(out, key, -1, whole);
    else
        append_number(out, key, whole);
}

/* The least or the greatest value that is not null. */
static value extreme(const value *list, size_t count, bool greatest)
{
    value best = {.value_type = BSON_TYPE_NULL};
    for (size_t i = 0; i < count; i++) {
        int order = best.value_type == BSON_TYPE_NULL ? 0 : value_compare(list[i], best);
        if (list[i].value_type != BSON_TYPE_NULL && (!order || (greatest ? order > 0 : order < 0)))
            best = list[i];
    }
    return best;
}

static int by_value(const void *a, const void *b)
{
    return value_compare(*(const value *)a, *(const value *)b);
}

void keep_distinct(struct buffer *values)
{
    value *list = (void *)values->data;
    size_t count = values->size / sizeof *list, kept = 0;
    if (count)
        qsort(list, count, sizeof *list, by_value);
    for (size_t i = 0; i < count; i++)
        if (key_rank(list[i]) != key_rank((value){0}) && (kept == 0 || value_compare(list[kept - 1], list[i]) != 0))
            list[kept++] = list[i];
    values->size = kept * sizeof *list;
}

enum accumulator { OF_SUM, OF_AVG, OF_MIN, OF_MAX, OF_FIRST, OF_LAST, OF_PUSH, OF_SET, OF_COUNT, ACCUMULATORS };

static enum accumulator accumulator_named(const char *name)
{
    static const char *const names[ACCUMULATORS] = {"$sum",  "$avg",  "$min",      "$max",  "$first",
                                                    "$last", "$push", "$addToSet", "$count"};
    enum accumulator kind = 0;
    while (kind < ACCUMULATORS && strcmp(names[kind], name) != 0)
        kind++;
    return kind;
}

/* call: of an accumulator, as {$sum: expression}; group: the documents. */
static void accumulate(bson_t *out, const char *key, struct fields *call, const struct entry *group, size_t size)
{
    enum accumulator kind = accumulator_named(call->key);
    bson_t made = BSON_INITIALIZER;
    struct buffer values = {0};
    for (size_t i = kind == OF_LAST ? size - 1 : 0; i < (kind == OF_FIRST ? 1 : size); i++)
        evaluate(&made, "", call->v, group[i].document);
    for (struct fields it = fields_of(document_of(&made)); fields_next(&it);)
        buffer_append(&values, &it.v, sizeof(value));
    const value *list = (void *)values.data;
    size_t count = values.size / sizeof *list;
    if (kind == OF_SET)
        keep_distinct(&values);
    if (kind == OF_COUNT)
        append_number(out, key, (int64_t)size);
    else if (kind == OF_SUM || kind == OF_AVG)
        append_sum(out, key, list, count, kind == OF_AVG);
    else if (kind == OF_PUSH || kind == OF_SET)
        append_list(out, key, &values);
    else
        append_value(out, key, extreme(list, count, kind == OF_MAX));
    buffer_free(&values);
    bson_destroy(&made);
}

static bool check_group(value spec, struct failure *error)
{
    if (spec.value_type != BSON_TYPE_DOCUMENT)
        return fail(error, 15947, "a group's fields must be specified in an object");
    if (!document_get(spec, "_id").value_type)
        return fail(error, 15955, "a group specification must include an _id");
    for (struct fields it = fields_of(spec); fields_next(&it);) {
        struct fields call = fields_of(it.v), more;
        bool id = strcmp(it.key, "_id") == 0;
        if (strchr(it.key, '.'))
            return fail(error, 40235, "The field name '%s' cannot contain '.'", it.key);
        if (!id && (it.v.value_type != BSON_TYPE_DOCUMENT || !fields_next(&call)))
            return fail(error, 40234, "The field '%s' must be an accumulator object", it.key);
        if (!id && accumulator_named(call.key) == ACCUMULATORS)
            return fail(error, 15952, "unknown group operator '%s'", call.key);
        if (!id && (more = call, fields_next(&more)))
            return fail(error, 40238, "The field '%s' must specify one accumulator", it.key);
        if (!expression_check(id ? it.v : call.v, error))
            return false;
    }
    return true;
}

static void append_group_id(bson_t *out, value id, value document)
{
    evaluate(out, "_id", id, document);
    if (document_is_empty(document_of(out)))
        bson_append_null(out, "_id", -1);
}

static void group_key(value document, value id, struct buffer *key)
{
    bson_t made = BSON_INITIALIZER;
    append_group_id(&made, id, document);
    key_append(key, document_get(document_of(&made), "_id"));
    bson_destroy(&made);
}

static void add_document(struct buffer *documents, const bson_t *made)
{
    buffer_append(documents, bson_get_data(made), made->len);
}

/* A stage reads documents and appends to out. */
typedef bool stage_function(value spec, const struct buffer *documents, struct buffer *out, struct failure *error);

static bool stage_group(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    value id = document_get(spec, "_id");
    if (!check_group(spec, error))
        return false;
    struct buffer entries = sort_entries(documents, id, group_key);
    const struct entry *list = (void *)entries.data;
    size_t count = entries.size / sizeof *list;
    for (size_t i = 0, size; i < count; i += size) {
        for (size = 1; i + size < count && buffer_compare(&list[i].key, &list[i + size].key) == 0;)
            size++;
        bson_t made = BSON_INITIALIZER;
        append_group_id(&made, id, list[i].document);
        for (struct fields it = fields_of(spec); fields_next(&it);) {
            struct fields call = fields_of(it.v);
            if (strcmp(it.key, "_id") != 0 && fields_next(&call))
                accumulate(&made, it.key, &call, &list[i], size);
        }
        add_document(out, &made);
        bson_destroy(&made);
    }
    free_entries(&entries);
    return true;
}

static bool stage_match(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    value document;
    if (spec.value_type != BSON_TYPE_DOCUMENT)
        return fail(error, 15959, "the match filter must be an expression in an object");
    struct match *query = query_compile(spec, error);
    for (size_t at = 0; query && documents_next(documents, &at, &document);)
        if (query_matches(query, document))
            buffer_append_document(out, document);
    query_free(query);
    return query != NULL;
}

static bool stage_sort(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    if (spec.value_type != BSON_TYPE_DOCUMENT || document_is_empty(spec))
        return fail(error, spec.value_type == BSON_TYPE_DOCUMENT ? 15976 : 15973,
                    "$sort stage must have at least one sort key");
    buffer_append(out, documents->data, documents->size);
    return sort_check(spec, error) && sort_documents(out, spec, error);
}

static bool stage_project(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    struct projection projection;
    value document;
    if (spec.value_type != BSON_TYPE_DOCUMENT || document_is_empty(spec))
        return fail(error, 51272, "Invalid $project: specification must have at least one field");
    bool ok = projection_compile(&projection, spec, error);
    for (size_t at = 0; ok && documents_next(documents, &at, &document);) {
        bson_t made = BSON_INITIALIZER;
        projection_apply(&projection, document, &made);
        add_document(out, &made);
        bson_destroy(&made);
    }
    projection_free(&projection);
    return ok;
}

static bool stage_skip(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    int64_t number;
    value document;
    if (!value_to_int64(spec, &number) || number < 0)
        return fail(error, 5107200, "invalid argument to $skip stage: it must be a non-negative number");
    for (size_t at = 0; documents_next(documents, &at, &document); number--)
        if (number <= 0)
            buffer_append_document(out, document);
    return true;
}

static bool stage_limit(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    int64_t number = -1;
    size_t at = 0;
    value document;
    if (!value_to_int64(spec, &number) || number < 1)
        return fail(error, is_number(spec) && number == 0 ? 15958 : 5107201,
                    "invalid argument to $limit stage: it must be a positive number");
    while (number-- > 0 && documents_next(documents, &at, &document))
        ;
    buffer_append(out, documents->data, at);
    return true;
}

static bool stage_count(value spec, const struct buffer *documents, struct buffer *out, struct failure *error)
{
    const char *name = value_text(spec);
    value document;
    int64_t count = 0;
    if (!name || !*name || *name == '$' || strchr(name, '.'))
        return fail(error, 40156, "the count field must be a non-empty string, not start with '$' nor contain '.'");
    for (size_t at = 0; documents_next(documents, &at, &document);)
        count++;
    bson_t made = BSON_INITIALIZER;
    append_number(&made, name, count);
    if (count)
        add_document(out, &made);
    bson_destroy(&made);
    return true;
}

static bool run_stage(value stage, struct buffer *documents, struct failure *error)
{
    static const struct {
        const char *name;
        stage_function *run;
    } stages[] = {{"$match", stage_match}, {"$group", stage_group},     {"$sort", stage_sort},  {"$skip", stage_skip},
                  {"$limit", stage_limit}, {"$project", stage_project}, {"$count", stage_count}};
    struct fields op = fields_of(stage), more;
    if (stage.value_type != BSON_TYPE_DOCUMENT || !fields_next(&op) || (more = op, fields_next(&more)))
        return fail(error, 40323, "A pipeline stage specification object must contain exactly one field.");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (strcmp(stages[i].name, op.key) == 0) {
            struct buffer out = {0};
            bool ok = stages[i].run(op.v, documents, &out, error);
            buffer_free(documents);
            *documents = out;
            return ok;
        }
    return fail(error, 40324, "Unrecognized pipeline stage name: '%s'", op.key);
}

bool pipeline_run(value stages, struct buffer *documents, struct failure *error)
{
    if (stages.value_type != BSON_TYPE_ARRAY)
        return fail(error, 14, "'pipeline' option must be specified as an array");
    for (struct fields it = fields_of(stages); fields_next(&it);)
        if (!run_stage(it.v, documents, error))
            return false;
    return true;
}
