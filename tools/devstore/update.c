/* Applying updates. */
#include "update.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_PADDING = 1500000 };

/* One modification on its way into one document. */
struct edit {
    const struct modification *mod;
    const char *path;
    struct value original; /* the document before the whole update */
    struct arena *arena;
    struct error *error;
};

static void put_sum(struct buffer *out, const char *key, struct value a, struct value b, int64_t whole)
{
    if (a.type == BSON_TYPE_INT32 && b.type == BSON_TYPE_INT32)
        put_number(out, key, whole); /* an int64 when it does not fit */
    else
        put_int64(out, key, whole);
}

static bool apply_arithmetic(struct edit *e, const char *key, struct value old, struct buffer *out)
{
    bool multiply = e->mod->op == OP_MUL;
    struct value arg = e->mod->arg;
    if (!old.type && !multiply) {
        put_value(out, key, arg);
        return true;
    }
    static const uint8_t zero[8] = {0};
    if (!old.type)
        old = (struct value){.type = arg.type, .size = arg.size, .data = zero};
    if (!value_is_number(old))
        return error_set(e->error, 14, "Cannot apply %s to a value of non-numeric type. The document has the field '%s' "
                                       "of non-numeric type %s", update_op_names[e->mod->op], key, value_type_name(old));
    if (old.type == BSON_TYPE_DECIMAL128)
        return error_set(e->error, 2, "arithmetic on decimal128 is not supported");
    int64_t x = 0, y = 0, whole;
    if (old.type == BSON_TYPE_DOUBLE || arg.type == BSON_TYPE_DOUBLE) {
        double p = value_to_double(old), q = value_to_double(arg);
        put_double(out, key, multiply ? p * q : p + q);
        return true;
    }
    value_to_int64(old, &x);
    value_to_int64(arg, &y);
    if (multiply ? __builtin_mul_overflow(x, y, &whole) : __builtin_add_overflow(x, y, &whole))
        return error_set(e->error, 2, "Failed to apply %s operations to current value ((NumberLong)%lld)",
                         update_op_names[e->mod->op], (long long)x);
    put_sum(out, key, old, arg, whole);
    return true;
}

static void apply_current_date(struct edit *e, const char *key, struct buffer *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const char *type = value_text(document_get(e->mod->arg, "$type"));
    if (!type || strcmp(type, "date") == 0) {
        put_date(out, key, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
        return;
    }
    uint64_t stamp = BSON_UINT64_TO_LE((uint64_t)now.tv_sec << 32 | 1);
    put_value(out, key, (struct value){BSON_TYPE_TIMESTAMP, sizeof stamp, (const uint8_t *)&stamp});
}

/* The end of the path: appends the field's new value, or nothing. */
static bool apply_leaf(struct edit *e, const char *key, struct value old, bson_type_t parent, struct buffer *out)
{
    const struct modification *mod = e->mod;
    int order = old.type && (mod->op == OP_MIN || mod->op == OP_MAX) ? value_compare(mod->arg, old) : 0;
    switch (mod->op) {
    case OP_SET: case OP_SET_ON_INSERT: put_value(out, key, mod->arg); return true;
    case OP_UNSET:
        if (parent == BSON_TYPE_ARRAY)
            put_null(out, key); /* the elements behind it keep their places */
        return true;
    case OP_INC: case OP_MUL: return apply_arithmetic(e, key, old, out);
    case OP_MIN: put_value(out, key, !old.type || order < 0 ? mod->arg : old); return true;
    case OP_MAX: put_value(out, key, !old.type || order > 0 ? mod->arg : old); return true;
    case OP_RENAME: put_value(out, key, document_path(e->original, mod->from)); return true;
    case OP_CURRENT_DATE: apply_current_date(e, key, out); return true;
    default: return array_apply((enum array_op)mod->op, old, mod->arg, mod->condition, key, out, e->error);
    }
}

static bool creates(const struct modification *mod)
{
    return mod->op != OP_UNSET && mod->op != OP_PULL && mod->op != OP_PULL_ALL && mod->op != OP_POP;
}

static bool edit_container(struct edit *e, struct value container, const char *path, struct buffer *out);

static bool not_viable(struct edit *e, const char *part, const char *key, struct value in)
{
    struct buffer text = {0};
    value_print(&text, in);
    buffer_byte(&text, 0);
    error_set(e->error, 28, "Cannot create field '%.*s' in element {%s: %.300s}", (int)strcspn(part, "."), part, key,
              (char *)text.data);
    buffer_free(&text);
    return false;
}

static bool edit_field(struct edit *e, const char *key, struct value old, bson_type_t parent, const char *rest,
                       struct buffer *out)
{
    if (!rest)
        return apply_leaf(e, key, old, parent, out);
    if (value_is_container(old) || !old.type) {
        put_head(out, key, strlen(key), old.type ? old.type : BSON_TYPE_DOCUMENT);
        if (old.type == BSON_TYPE_ARRAY && !is_array_index(rest, strcspn(rest, ".")) && creates(e->mod))
            return not_viable(e, rest, key, old);
        return edit_container(e, old, rest, out);
    }
    if (creates(e->mod))
        return not_viable(e, rest, key, old);
    put_value(out, key, old);
    return true;
}

/* Copies a document or an array with the field at the path changed; a missing one counts as an empty document. */
static bool edit_container(struct edit *e, struct value container, const char *path, struct buffer *out)
{
    size_t length = strcspn(path, "."), count = 0, mark = document_open(out);
    const char *rest = path[length] ? path + length + 1 : NULL;
    bool found = false;
    struct field f;
    for (struct fields it = fields_of(container); fields_next(&it, &f); count++) {
        if (found || strncmp(f.key, path, length) != 0 || f.key[length]) {
            put_value(out, f.key, f.value);
        } else {
            found = true;
            if (!edit_field(e, f.key, f.value, container.type, rest, out))
                return false;
        }
    }
    if (!found && creates(e->mod)) {
        const char *key = arena_string(e->arena, path, length);
        size_t index = container.type == BSON_TYPE_ARRAY ? strtoul(key, NULL, 10) : 0;
        if (index > count + MAX_PADDING)
            return error_set(e->error, 2, "can't backfill more than %d elements", MAX_PADDING);
        for (; container.type == BSON_TYPE_ARRAY && count < index; count++)
            put_item(out, count, (struct value){.type = BSON_TYPE_NULL, .data = (const uint8_t *)""});
        if (!edit_field(e, key, (struct value){0}, container.type, rest, out))
            return false;
    }
    document_close(out, mark);
    return true;
}

struct application {
    const struct update *update;
    struct edit edit;
    int64_t position;
    struct buffer *now, *next; /* the document as it is, and room for its next form */
};

static bool element_matches(const struct array_filter *filter, struct value element)
{
    struct buffer wrapped = {0};
    size_t mark = document_open(&wrapped);
    put_value(&wrapped, filter->id, element);
    document_close(&wrapped, mark);
    bool matches = query_matches(&filter->query, buffer_document(&wrapped), NULL);
    buffer_free(&wrapped);
    return matches;
}

static bool apply_path(struct application *a, const char *path);

/* Goes on with the element of that index in place of the positional part of the path. */
static bool apply_element(struct application *a, const char *path, const char *part, int64_t index)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)index);
    const char *tail = part + strcspn(part, ".");
    size_t size = strlen(path) + sizeof number;
    char *concrete = arena_get(a->edit.arena, size);
    snprintf(concrete, size, "%.*s%s%s", (int)(part - path), path, number, tail);
    return apply_path(a, concrete);
}

static bool apply_positional(struct application *a, const char *path, const char *part)
{
    if (part[1] != '[')
        return a->position >= 0 ? apply_element(a, path, part, a->position)
                                : error_set(a->edit.error, 2, "The positional operator did not find the match needed "
                                                              "from the query.");
    const char *before = arena_string(a->edit.arena, path, (size_t)(part - path - 1));
    struct value array = document_path(buffer_document(a->now), before);
    if (array.type != BSON_TYPE_ARRAY)
        return array.type ? error_set(a->edit.error, 2, "Cannot apply array updates to non-array element %s", before)
                          : error_set(a->edit.error, 2, "The path '%s' must exist in the document in order to apply array "
                                                        "updates.", before);
    const struct array_filter *filter = update_filter(a->update, part + 2, strcspn(part + 2, "]"));
    struct field f;
    int64_t index = 0;
    array = value_copy(a->edit.arena, array); /* the document changes under the loop */
    for (struct fields it = fields_of(array); fields_next(&it, &f); index++)
        if ((!filter || element_matches(filter, f.value)) && !apply_element(a, path, part, index))
            return false;
    return true;
}

static bool apply_path(struct application *a, const char *path)
{
    const char *positional = strstr(path, ".$");
    if (positional)
        return apply_positional(a, path, positional + 1);
    a->edit.path = path;
    a->next->size = 0;
    if (!edit_container(&a->edit, buffer_document(a->now), path, a->next))
        return false;
    struct buffer *t = a->now;
    a->now = a->next;
    a->next = t;
    return true;
}

static bool replace(const struct update *u, struct value document, struct buffer *out, struct error *error)
{
    struct value id = document_get(document, "_id"), wanted = document_get(u->replacement, "_id");
    struct field f;
    if (id.type && wanted.type && value_compare(id, wanted) != 0) {
        struct buffer text = {0};
        value_print(&text, wanted);
        error_set(error, 66, "After applying the update, the (immutable) field '_id' was found to have been altered to "
                             "_id: %.*s", (int)text.size, (char *)text.data);
        buffer_free(&text);
        return false;
    }
    out->size = 0;
    size_t mark = document_open(out);
    put_value(out, "_id", id.type ? id : wanted);
    for (struct fields it = fields_of(u->replacement); fields_next(&it, &f);)
        if (strcmp(f.key, "_id") != 0)
            put_value(out, f.key, f.value);
    document_close(out, mark);
    return true;
}

static bool check_size(const struct buffer *out, struct error *error)
{
    return out->size <= MAX_DOCUMENT_BYTES ||
           error_set(error, 17419, "Resulting document after update is larger than %d", MAX_DOCUMENT_BYTES);
}

bool update_apply(const struct update *u, struct value document, int64_t position, bool inserting, struct buffer *out,
                  struct error *error)
{
    if (u->replacement.type)
        return replace(u, document, out, error) && check_size(out, error);
    struct arena arena = {0};
    struct buffer other = {0};
    bool ok = true;
    struct application a = {.update = u, .position = position, .now = out, .next = &other,
                            .edit = {.original = document, .arena = &arena, .error = error}};
    out->size = 0;
    buffer_append(out, document.data, document.size);
    for (size_t i = 0; ok && i < u->count; i++) {
        const struct modification *mod = &u->list[i];
        if ((mod->op == OP_SET_ON_INSERT && !inserting) ||
            (mod->op == OP_RENAME && !document_path(document, mod->from).type))
            continue;
        a.edit.mod = mod;
        ok = apply_path(&a, mod->path);
    }
    if (a.now == &other) {
        struct buffer t = *out;
        *out = other;
        other = t;
    }
    struct value id = document_get(document, "_id");
    if (ok && id.type && value_compare(id, document_get(buffer_document(out), "_id")) != 0)
        ok = error_set(error, 66, "Performing an update on the path '_id' would modify the immutable field '_id'");
    buffer_free(&other);
    arena_free(&arena);
    return ok && check_size(out, error);
}

/* The equalities of the filter are the first fields of the new document. */
bool update_upsert(const struct update *u, const struct query *query, struct buffer *out, struct error *error)
{
    struct buffer base = {0}, next = {0};
    struct arena arena = {0};
    size_t mark = document_open(&base);
    bool ok = true;
    document_close(&base, mark);
    for (const struct match *m = query->root->children; ok && m; m = m->next) {
        if (m->op != MATCH_EQ || !m->path || (u->replacement.type && strcmp(m->path, "_id") != 0))
            continue;
        if (document_path(buffer_document(&base), m->path).type) {
            ok = error_set(error, 54, "cannot infer query fields to set, path '%s' is matched twice", m->path);
            break;
        }
        struct modification mod = {.op = OP_SET, .path = m->path, .arg = m->arg};
        struct edit edit = {.mod = &mod, .path = m->path, .arena = &arena, .error = error};
        next.size = 0;
        ok = edit_container(&edit, buffer_document(&base), m->path, &next);
        struct buffer t = base;
        base = next;
        next = t;
    }
    ok = ok && update_apply(u, buffer_document(&base), -1, true, &next, error) &&
         document_for_storage(buffer_document(&next), out, error);
    buffer_free(&base);
    buffer_free(&next);
    arena_free(&arena);
    return ok;
}

static bool check_id(struct value id, struct error *error)
{
    struct field f;
    if (id.type == BSON_TYPE_ARRAY || id.type == BSON_TYPE_REGEX || id.type == BSON_TYPE_UNDEFINED)
        return error_set(error, 53, "The '_id' value cannot be of type %s", value_type_name(id));
    for (struct fields it = fields_of(id); fields_next(&it, &f);)
        if (f.key[0] == '$')
            return error_set(error, 52, "_id fields may not contain '$'-prefixed fields: %s is not valid for storage.",
                             f.key);
    return true;
}

bool document_for_storage(struct value document, struct buffer *out, struct error *error)
{
    struct value id = document_get(document, "_id");
    struct field f;
    if (document.size > MAX_DOCUMENT_BYTES)
        return error_set(error, 10334, "object to insert too large. size in bytes: %u, max size: %d", document.size,
                         MAX_DOCUMENT_BYTES);
    if (value_depth(document) > MAX_DOCUMENT_DEPTH)
        return error_set(error, 15, "Document exceeds the maximum of %d nested levels", MAX_DOCUMENT_DEPTH);
    if (!check_id(id, error))
        return false;
    out->size = 0;
    size_t mark = document_open(out);
    if (id.type)
        put_value(out, "_id", id);
    else
        put_new_id(out);
    for (struct fields it = fields_of(document); fields_next(&it, &f);)
        if (strcmp(f.key, "_id") != 0)
            put_value(out, f.key, f.value);
    document_close(out, mark);
    return true;
}
