/* Projections and sorting. */
#include "projection.h"

#include "expression.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH = 1024, MAX_SORT_BYTES = 100 * 1024 * 1024 };

static bool is_flag(struct value v)
{
    return value_is_number(v) || v.type == BSON_TYPE_BOOL;
}

bool projection_compile(struct projection *p, struct value spec, struct value let, struct error *error)
{
    struct field f;
    bool include = false, exclude = false;
    *p = (struct projection){.spec = spec, .let = let};
    for (struct fields it = fields_of(spec); fields_next(&it, &f);) {
        if (!*f.key || strstr(f.key, ".$") || f.key[0] == '$' || strlen(f.key) >= MAX_PATH)
            return error_set(error, 2, "positional projection and field '%.100s' are not supported", f.key);
        if (!is_flag(f.value) && !expression_check(f.value, let, error))
            return false;
        bool shown = !is_flag(f.value) || value_truth(f.value);
        if (strcmp(f.key, "_id") == 0 && is_flag(f.value))
            p->hide_id = !shown;
        else if (shown)
            include = true;
        else
            exclude = true;
        if (include && exclude)
            return error_set(error, shown ? 31253 : 31254, "Cannot do %s on field %s in %s projection",
                             shown ? "inclusion" : "exclusion", f.key, shown ? "exclusion" : "inclusion");
    }
    p->inclusive = include || (!exclude && document_get(spec, "_id").type && !p->hide_id);
    return true;
}

/* 1: the projection names this path, 2: it names something below it, 0: neither. */
static int named(const struct projection *p, const char *path)
{
    struct field f;
    size_t length = strlen(path);
    for (struct fields it = fields_of(p->spec); fields_next(&it, &f);)
        if (strncmp(f.key, path, length) == 0 && (f.key[length] == 0 || f.key[length] == '.'))
            return f.key[length] ? 2 : is_flag(f.value) ? 1 : 0;
    return 0;
}

static void project(const struct projection *p, struct value container, char path[MAX_PATH], struct buffer *out);

static void project_field(const struct projection *p, const char *key, struct value v, char path[MAX_PATH],
                          int how, struct buffer *out)
{
    if (how == 2 && value_is_container(v)) {
        put_head(out, key, strlen(key), v.type);
        project(p, v, path, out);
    } else if (how == 1 ? p->inclusive : !p->inclusive) {
        put_value(out, key, v);
    }
}

/* The elements of an array are projected with the array's own path. */
static void project(const struct projection *p, struct value container, char path[MAX_PATH], struct buffer *out)
{
    size_t mark = document_open(out), length = strlen(path), count = 0;
    bool array = container.type == BSON_TYPE_ARRAY;
    struct field f;
    for (struct fields it = fields_of(container); fields_next(&it, &f);) {
        char key[24];
        if (array) {
            snprintf(key, sizeof key, "%zu", count++);
            if (value_is_container(f.value))
                project_field(p, key, f.value, path, 2, out);
            else if (!p->inclusive)
                put_value(out, key, f.value);
            else
                count--;
            continue;
        }
        if (strlen(f.key) + length + 2 > MAX_PATH)
            continue;
        snprintf(path + length, MAX_PATH - length, "%s%s", length ? "." : "", f.key);
        int how = named(p, path);
        if (!length && strcmp(f.key, "_id") == 0 && how != 2)
            how = p->inclusive != p->hide_id; /* shown unless it is switched off */
        project_field(p, f.key, f.value, path, how, out);
        path[length] = 0;
    }
    document_close(out, mark);
}

void projection_apply(const struct projection *p, struct value document, struct buffer *out)
{
    char path[MAX_PATH] = "";
    struct arena arena = {0};
    struct field f;
    if (document_is_empty(p->spec)) {
        buffer_append(out, document.data, document.size);
        return;
    }
    size_t mark = out->size;
    project(p, document, path, out);
    for (struct fields it = fields_of(p->spec); fields_next(&it, &f);)
        if (!is_flag(f.value)) {
            out->size--; /* opens the document again */
            put_value(out, f.key, expression_evaluate(f.value, document, p->let, &arena));
            document_close(out, mark);
        }
    arena_free(&arena);
}

bool check_sort(struct value sort, struct error *error)
{
    struct field f;
    int64_t direction;
    for (struct fields it = fields_of(sort); fields_next(&it, &f);) {
        if (!*f.key || (f.key[0] == '$' && strcmp(f.key, "$natural") != 0))
            return error_set(error, 56, "FieldPath field names may not %s.", *f.key ? "start with '$'" : "be empty");
        if (!value_to_int64(f.value, &direction) || (direction != 1 && direction != -1))
            return error_set(error, f.value.type == BSON_TYPE_DOCUMENT ? 115 : 15975,
                             "$sort key ordering must be 1 (for ascending) or -1 (for descending)");
    }
    return true;
}

/* An array stands for its least element, or for its greatest in a descending sort. */
void sort_key(struct value document, struct value sort, struct buffer *key)
{
    struct field f;
    struct buffer values = {0};
    for (struct fields it = fields_of(sort); fields_next(&it, &f);) {
        bool descending = value_to_double(f.value) < 0;
        values.size = 0;
        value_collect(document, f.key, &values);
        const struct value *list = (const void *)values.data;
        struct value best = list[0];
        for (size_t i = 1; i < values.size / sizeof best; i++)
            if (descending ? value_compare(list[i], best) > 0 : value_compare(list[i], best) < 0)
                best = list[i];
        if (best.type == BSON_TYPE_EOD)
            best.type = BSON_TYPE_NULL;
        key_append(key, best, descending);
    }
    buffer_free(&values);
}

struct entry {
    const uint8_t *key;
    size_t key_size, order;
    struct value document;
};

bool sorter_add(struct sorter *s, struct value document, struct error *error)
{
    struct buffer key = {0};
    sort_key(document, s->sort, &key);
    struct entry entry = {.key = (uint8_t *)arena_string(&s->arena, (char *)key.data, key.size), .key_size = key.size,
                          .order = s->entries.size, .document = value_copy(&s->arena, document)};
    buffer_append(&s->entries, &entry, sizeof entry);
    buffer_free(&key);
    s->bytes += entry.key_size + document.size;
    return s->bytes <= MAX_SORT_BYTES ||
           error_set(error, 292, "Sort exceeded memory limit of %d bytes, but did not opt in to external sorting.",
                     MAX_SORT_BYTES);
}

static int by_entry(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = bytes_compare(x->key, x->key_size, y->key, y->key_size);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

void sorter_finish(struct sorter *s, int64_t skip, int64_t limit, struct buffer *out)
{
    struct entry *list = (void *)s->entries.data;
    int64_t count = (int64_t)(s->entries.size / sizeof *list);
    if (count)
        qsort(list, (size_t)count, sizeof *list, by_entry);
    for (int64_t i = skip; i < count && (limit == 0 || i - skip < limit); i++)
        buffer_append(out, list[i].document.data, list[i].document.size);
    buffer_free(&s->entries);
    arena_free(&s->arena);
}
