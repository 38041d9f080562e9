/* $push, $addToSet, $pull, $pullAll, $pop: each makes a list of values out of the old array. */
#include "update.h"

#include <stdlib.h>
#include <string.h>

static value *items(const struct buffer *list)
{
    return (void *)list->data;
}

static size_t count(const struct buffer *list)
{
    return list->size / sizeof(value);
}

static void add(struct buffer *list, value v)
{
    buffer_append(list, &v, sizeof v);
}

static void add_all(struct buffer *list, value array)
{
    for (struct fields it = fields_of(array); fields_next(&it);)
        add(list, it.v);
}

/* The values to add: those of $each, or the argument itself. */
static void add_argument(struct buffer *list, value arg)
{
    value each = document_get(arg, "$each");
    if (arg.value_type == BSON_TYPE_DOCUMENT && each.value_type)
        add_all(list, each);
    else
        add(list, arg);
}

static bool is_direction(value v)
{
    int64_t number;
    return value_to_int64(v, &number) && (number == 1 || number == -1);
}

static bool check_sort(value sort, struct failure *error)
{
    if (sort.value_type != BSON_TYPE_DOCUMENT)
        return is_direction(sort) || fail(error, 2,
                                          "The $sort is invalid: use 1/-1 to sort the whole element, or "
                                          "{field:1/-1} to sort embedded fields");
    for (struct fields it = fields_of(sort); fields_next(&it);)
        if (!is_direction(it.v))
            return fail(error, 2, "The $sort element value must be either 1 or -1");
    return !document_is_empty(sort) || fail(error, 2, "The $sort pattern is empty when it should be a set of fields.");
}

static bool check_modifiers(enum operation op, value arg, struct failure *error)
{
    const char *name = op == PUSH ? "$push" : "$addToSet";
    int64_t number;
    for (struct fields it = fields_of(arg); fields_next(&it);) {
        bool each = strcmp(it.key, "$each") == 0, sort = strcmp(it.key, "$sort") == 0;
        if (each && it.v.value_type != BSON_TYPE_ARRAY)
            return fail(error, op == PUSH ? 2 : 14,
                        "The argument to $each in %s must be an array but it was "
                        "of type %s",
                        name, value_type_name(it.v));
        if (!each && (op != PUSH || (!sort && strcmp(it.key, "$slice") && strcmp(it.key, "$position"))))
            return fail(error, 2, "Unrecognized clause in %s: %s", name, it.key);
        if (!each && !sort && !value_to_int64(it.v, &number))
            return fail(error, 2, "The value for %s must be an integer value but was given type: %s", it.key,
                        value_type_name(it.v));
        if (sort && !check_sort(it.v, error))
            return false;
    }
    return true;
}

bool array_check(enum operation op, value arg, struct failure *error)
{
    if (op == POP)
        return is_direction(arg) || fail(error, 9, "$pop expects 1 or -1");
    if (op == PULL_ALL)
        return arg.value_type == BSON_TYPE_ARRAY ||
               fail(error, 2, "$pullAll requires an array argument but was given a %s", value_type_name(arg));
    return arg.value_type != BSON_TYPE_DOCUMENT || !document_get(arg, "$each").value_type ||
           check_modifiers(op, arg, error);
}

static int compare_by(value x, value y, value sort)
{
    if (sort.value_type != BSON_TYPE_DOCUMENT)
        return value_to_double(sort) < 0 ? -value_compare(x, y) : value_compare(x, y);
    for (struct fields it = fields_of(sort); fields_next(&it);) {
        int order = value_compare(or_null(document_path(x, it.key)), or_null(document_path(y, it.key)));
        if (order)
            return value_to_double(it.v) < 0 ? -order : order;
    }
    return 0;
}

/* Insertion sort keeps equal elements in their order, which qsort does not promise. */
static void sort_list(struct buffer *list, value sort)
{
    value *v = items(list);
    for (size_t i = 1; i < count(list); i++)
        for (size_t j = i; j > 0 && compare_by(v[j - 1], v[j], sort) > 0; j--) {
            value t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
}

static void push(struct buffer *list, value existing, value arg)
{
    struct buffer old = {0};
    bool plain = arg.value_type != BSON_TYPE_DOCUMENT || !document_get(arg, "$each").value_type;
    value modifiers = plain ? (value){0} : arg, sort = document_get(modifiers, "$sort");
    add_all(&old, existing);
    int64_t size = (int64_t)count(&old), position = size, slice;
    if (value_to_int64(document_get(modifiers, "$position"), &position) && position < 0)
        position = position + size < 0 ? 0 : position + size;
    size_t before = (size_t)(position < size ? position : size) * sizeof(value);
    buffer_append(list, old.data, before);
    add_argument(list, arg);
    if (before < old.size)
        buffer_append(list, old.data + before, old.size - before);
    buffer_free(&old);
    if (sort.value_type)
        sort_list(list, sort);
    if (value_to_int64(document_get(modifiers, "$slice"), &slice)) {
        size_t all = count(list), keep = (size_t)(slice < 0 ? -slice : slice);
        if (slice < 0 && keep < all)
            memmove(list->data, items(list) + (all - keep), keep * sizeof(value));
        list->size = (keep < all ? keep : all) * sizeof(value);
    }
}

static bool contains(const struct buffer *list, value v)
{
    for (size_t i = 0; i < count(list); i++)
        if (value_compare(items(list)[i], v) == 0)
            return true;
    return false;
}

static void add_to_set(struct buffer *list, value existing, value arg)
{
    struct buffer added = {0};
    add_all(list, existing);
    add_argument(&added, arg);
    for (size_t i = 0; i < count(&added); i++)
        if (!contains(list, items(&added)[i]))
            add(list, items(&added)[i]);
    buffer_free(&added);
}

/* condition: of a $pull; without one arg holds the values that $pullAll removes. */
static void pull(struct buffer *list, value existing, value arg, const struct match *condition)
{
    struct buffer unwanted = {0};
    add_all(&unwanted, condition ? (value){0} : arg);
    for (struct fields it = fields_of(existing); fields_next(&it);) {
        if (condition ? (condition->number && it.v.value_type != BSON_TYPE_DOCUMENT) || !query_matches(condition, it.v)
                      : !contains(&unwanted, it.v))
            add(list, it.v);
    }
    buffer_free(&unwanted);
}

static void pop(struct buffer *list, value existing, value arg)
{
    add_all(list, existing);
    if (list->size == 0)
        return;
    list->size -= sizeof(value);
    if (value_to_double(arg) < 0)
        memmove(list->data, items(list) + 1, list->size);
}

static bool not_an_array(enum operation op, value existing, const char *key, struct failure *error)
{
    const char *type = value_type_name(existing);
    if (op == PUSH)
        return fail(error, 2, "The field '%s' must be an array but is of type %s", key, type);
    if (op == POP)
        return fail(error, 14, "Path '%s' contains an element of non-array type '%s'", key, type);
    if (op == ADD_TO_SET)
        return fail(error, 2, "Cannot apply $addToSet to non-array field. Field named '%s' has non-array type %s", key,
                    type);
    return fail(error, 2, "Cannot apply $pull to a non-array value");
}

bool array_apply(enum operation op, value existing, value arg, const struct match *condition, const char *key,
                 bson_t *out, struct failure *error)
{
    if (existing.value_type && existing.value_type != BSON_TYPE_ARRAY)
        return not_an_array(op, existing, key, error);
    struct buffer list = {0};
    if (op == PUSH)
        push(&list, existing, arg);
    else if (op == ADD_TO_SET)
        add_to_set(&list, existing, arg);
    else if (op == POP)
        pop(&list, existing, arg);
    else
        pull(&list, existing, arg, condition);
    append_list(out, key, &list);
    buffer_free(&list);
    return true;
}
