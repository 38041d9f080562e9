/* $push, $addToSet, $pull, $pullAll, $pop. */
#include "update.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(list) ((list).size / sizeof(struct value))

static struct value *items(const struct buffer *list)
{
    return (void *)list->data;
}

static void add_all(struct buffer *list, struct value array)
{
    struct field f;
    for (struct fields it = fields_of(array); fields_next(&it, &f);)
        buffer_append(list, &f.value, sizeof f.value);
}

/* The values to add: those of $each, or the argument itself. */
static void added_values(struct value arg, struct buffer *list)
{
    struct value each = document_get(arg, "$each");
    if (arg.type == BSON_TYPE_DOCUMENT && each.type)
        add_all(list, each);
    else
        buffer_append(list, &arg, sizeof arg);
}

static bool check_sort(struct value sort, struct error *error)
{
    struct field f;
    int64_t direction;
    if (sort.type != BSON_TYPE_DOCUMENT)
        return (value_to_int64(sort, &direction) && (direction == 1 || direction == -1)) ||
               error_set(error, 2, "The $sort is invalid: use 1/-1 to sort the whole element, or {field:1/-1} to sort "
                                   "embedded fields");
    for (struct fields it = fields_of(sort); fields_next(&it, &f);)
        if (!value_to_int64(f.value, &direction) || (direction != 1 && direction != -1))
            return error_set(error, 2, "The $sort element value must be either 1 or -1");
    return !document_is_empty(sort) || error_set(error, 2, "The $sort pattern is empty when it should be a set of fields.");
}

bool array_check(enum array_op op, struct value arg, struct error *error)
{
    int64_t number;
    struct field f;
    if (op == ARRAY_POP)
        return (value_to_int64(arg, &number) && (number == 1 || number == -1)) ||
               error_set(error, 9, "$pop expects 1 or -1");
    if (op == ARRAY_PULL_ALL)
        return arg.type == BSON_TYPE_ARRAY || error_set(error, 2, "$pullAll requires an array argument but was given a %s",
                                                        value_type_name(arg));
    if (op == ARRAY_PULL || arg.type != BSON_TYPE_DOCUMENT || !document_get(arg, "$each").type)
        return true;
    for (struct fields it = fields_of(arg); fields_next(&it, &f);) {
        bool each = strcmp(f.key, "$each") == 0, sort = strcmp(f.key, "$sort") == 0;
        if (each && f.value.type != BSON_TYPE_ARRAY)
            return error_set(error, op == ARRAY_PUSH ? 2 : 14, "The argument to $each in %s must be an array but it was "
                             "of type %s", op == ARRAY_PUSH ? "$push" : "$addToSet", value_type_name(f.value));
        if (!each && (op != ARRAY_PUSH || (!sort && strcmp(f.key, "$slice") && strcmp(f.key, "$position"))))
            return error_set(error, 2, "Unrecognized clause in %s: %s", op == ARRAY_PUSH ? "$push" : "$addToSet", f.key);
        if (!each && !sort && !value_to_int64(f.value, &number))
            return error_set(error, 2, "The value for %s must be an integer value but was given type: %s", f.key,
                             value_type_name(f.value));
        if (sort && !check_sort(f.value, error))
            return false;
    }
    return true;
}

static int compare_by(const struct value *x, const struct value *y, const struct value *sort)
{
    struct field f;
    if (sort->type != BSON_TYPE_DOCUMENT)
        return value_to_double(*sort) < 0 ? -value_compare(*x, *y) : value_compare(*x, *y);
    for (struct fields it = fields_of(*sort); fields_next(&it, &f);) {
        int order = value_compare(document_path(*x, f.key), document_path(*y, f.key));
        if (order)
            return value_to_double(f.value) < 0 ? -order : order;
    }
    return 0;
}

/* Insertion sort below keeps equal elements in their order, which qsort does not promise. */
static void sort_list(struct buffer *list, struct value sort)
{
    struct value *v = items(list);
    for (size_t i = 1; i < COUNT(*list); i++)
        for (size_t j = i; j > 0 && compare_by(&v[j - 1], &v[j], &sort) > 0; j--) {
            struct value t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
}

static void push(struct value existing, struct value arg, struct buffer *list)
{
    struct value each = document_get(arg, "$each");
    if (arg.type != BSON_TYPE_DOCUMENT || !each.type) {
        add_all(list, existing);
        buffer_append(list, &arg, sizeof arg);
        return;
    }
    struct buffer old = {0};
    add_all(&old, existing);
    int64_t size = (int64_t)COUNT(old), position = size, slice;
    if (value_to_int64(document_get(arg, "$position"), &position) && position < 0)
        position = position + size < 0 ? 0 : position + size;
    size_t before = (size_t)(position < size ? position : size) * sizeof(struct value);
    buffer_append(list, old.data, before);
    add_all(list, each);
    if (old.size > before)
        buffer_append(list, old.data + before, old.size - before);
    buffer_free(&old);
    struct value sort = document_get(arg, "$sort");
    if (sort.type)
        sort_list(list, sort);
    if (value_to_int64(document_get(arg, "$slice"), &slice)) {
        size_t count = COUNT(*list), keep = (size_t)(slice < 0 ? -slice : slice);
        if (slice < 0 && keep < count)
            memmove(list->data, items(list) + (count - keep), keep * sizeof(struct value));
        list->size = (keep < count ? keep : count) * sizeof(struct value);
    }
}

static bool contains(const struct buffer *list, struct value v)
{
    for (size_t i = 0; i < COUNT(*list); i++)
        if (value_compare(items(list)[i], v) == 0)
            return true;
    return false;
}

static void add_to_set(struct value existing, struct value arg, struct buffer *list)
{
    struct buffer added = {0};
    add_all(list, existing);
    added_values(arg, &added);
    for (size_t i = 0; i < COUNT(added); i++)
        if (!contains(list, items(&added)[i]))
            buffer_append(list, &items(&added)[i], sizeof(struct value));
    buffer_free(&added);
}

static void pull(struct value existing, struct value arg, const struct query *condition, struct buffer *list)
{
    struct buffer unwanted = {0};
    struct field f;
    bool filter = arg.type == BSON_TYPE_DOCUMENT && !is_operators(arg);
    add_all(&unwanted, condition ? (struct value){0} : arg);
    for (struct fields it = fields_of(existing); fields_next(&it, &f);)
        if (condition ? (filter && !value_is_container(f.value)) || !query_matches_value(condition, f.value)
                      : !contains(&unwanted, f.value))
            buffer_append(list, &f.value, sizeof f.value);
    buffer_free(&unwanted);
}

static void pop(struct value existing, struct value arg, struct buffer *list)
{
    add_all(list, existing);
    if (list->size == 0)
        return;
    list->size -= sizeof(struct value);
    if (value_to_double(arg) < 0)
        memmove(list->data, items(list) + 1, list->size);
}

bool array_apply(enum array_op op, struct value existing, struct value arg, const struct query *condition,
                 const char *key, struct buffer *out, struct error *error)
{
    const char *type = value_type_name(existing);
    if (existing.type && existing.type != BSON_TYPE_ARRAY)
        return op == ARRAY_PUSH ? error_set(error, 2, "The field '%s' must be an array but is of type %s", key, type)
               : op == ARRAY_POP ? error_set(error, 14, "Path '%s' contains an element of non-array type '%s'", key, type)
               : op == ARRAY_ADD_TO_SET
                   ? error_set(error, 2, "Cannot apply $addToSet to non-array field. Field named '%s' has non-array type %s",
                               key, type)
                   : error_set(error, 2, "Cannot apply $pull to a non-array value");
    struct buffer list = {0};
    if (op == ARRAY_PUSH)
        push(existing, arg, &list);
    else if (op == ARRAY_ADD_TO_SET)
        add_to_set(existing, arg, &list);
    else if (op == ARRAY_POP)
        pop(existing, arg, &list);
    else
        pull(existing, arg, condition, &list);
    size_t mark = put_open(out, key, BSON_TYPE_ARRAY);
    for (size_t i = 0; i < COUNT(list); i++)
        put_item(out, i, items(&list)[i]);
    document_close(out, mark);
    buffer_free(&list);
    return true;
}
