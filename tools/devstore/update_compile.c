/* Compiling updates. */
#include "update.h"

#include <stdlib.h>
#include <string.h>

const char *const update_op_names[OP_COUNT] = {"$push", "$addToSet", "$pull", "$pullAll", "$pop", "$set", "$unset",
    "$inc", "$mul", "$min", "$max", "$rename", "$setOnInsert", "$currentDate"};

/* MongoDB's order of new fields: by name, numbers by value; a dot sorts first, so that conflicts are neighbours. */
static int compare_paths(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    size_t x = strspn(a, "0123456789"), y = strspn(b, "0123456789");
    if (x && y && x != y)
        return x < y ? -1 : 1;
    if (*a == '.' || *b == '.')
        return *a == '.' ? (*b == 0 ? 1 : *b == '.' ? 0 : -1) : (*a == 0 ? -1 : 1);
    return (unsigned char)*a - (unsigned char)*b;
}

static int by_path(const void *a, const void *b)
{
    return compare_paths(((const struct modification *)a)->path, ((const struct modification *)b)->path);
}

static bool check_path(const char *path, struct error *error)
{
    if (!*path)
        return error_set(error, 56, "An empty update path is not valid.");
    for (const char *part = path;; part += strcspn(part, ".") + 1) {
        size_t length = strcspn(part, ".");
        if (length == 0)
            return error_set(error, 56, "The update path '%s' contains an empty field name, which is not allowed.", path);
        bool positional = length == 1 || (part[1] == '[' && part[length - 1] == ']');
        if (part[0] == '$' && (!positional || part == path))
            return part == path && positional
                       ? error_set(error, 2, "Cannot have positional (i.e. '$') element in the first position in path '%s'", path)
                       : error_set(error, 52, "The dollar ($) prefixed field '%.*s' in '%s' is not valid for storage.",
                                   (int)length, part, path);
        if (!part[length])
            return true;
    }
}

static bool check_conflicts(const struct update *u, struct error *error)
{
    for (size_t i = 1; i < u->count; i++) {
        const char *a = u->list[i - 1].path, *b = u->list[i].path;
        size_t length = strlen(a);
        if (strncmp(a, b, length) == 0 && (b[length] == 0 || b[length] == '.'))
            return error_set(error, 40, "Updating the path '%s' would create a conflict at '%s'", b, a);
    }
    return true;
}

static bool check_argument(struct modification *mod, struct update *u, struct error *error)
{
    bool arithmetic = mod->op == OP_INC || mod->op == OP_MUL;
    if (arithmetic && !value_is_number(mod->arg))
        return error_set(error, 14, "Cannot %s with non-numeric argument: {%s}",
                         mod->op == OP_INC ? "increment" : "multiply", mod->path);
    if (arithmetic && mod->arg.type == BSON_TYPE_DECIMAL128)
        return error_set(error, 2, "arithmetic on decimal128 is not supported");
    const char *type = value_text(document_get(mod->arg, "$type"));
    if (mod->op == OP_CURRENT_DATE && mod->arg.type != BSON_TYPE_BOOL &&
        !(type && (strcmp(type, "date") == 0 || strcmp(type, "timestamp") == 0)))
        return error_set(error, 2, "%s is not valid type for $currentDate. Please use a boolean ('true') or a $type "
                                   "expression ({$type: 'timestamp/date'}).", value_type_name(mod->arg));
    if (mod->op == OP_PULL) {
        mod->condition = arena_get(u->arena, sizeof *mod->condition);
        return query_compile_condition(mod->condition, u->arena, mod->arg, error);
    }
    return mod->op > OP_POP || array_check((enum array_op)mod->op, mod->arg, error);
}

static bool add_modification(struct update *u, enum op op, struct field f, struct error *error)
{
    struct modification *mod = &u->list[u->count++];
    *mod = (struct modification){.op = op, .path = f.key, .arg = f.value};
    if (op == OP_RENAME) {
        if (!value_text(f.value))
            return error_set(error, 2, "The 'to' field for $rename must be a string: %s", f.key);
        if (strcmp(value_text(f.value), f.key) == 0)
            return error_set(error, 2, "The source and target field for $rename must differ: %s", f.key);
        if (strchr(f.key, '$') || strchr(value_text(f.value), '$'))
            return error_set(error, 2, "The fields for $rename may not be dynamic: %s", f.key);
        u->list[u->count++] = (struct modification){.op = OP_UNSET, .path = f.key};
        mod->path = value_text(f.value);
        mod->from = f.key;
    }
    u->positional = u->positional || strchr(mod->path, '$') != NULL;
    return check_path(mod->path, error) && check_argument(mod, u, error);
}

static bool compile_operator(struct update *u, struct field group, struct error *error)
{
    enum op op = 0;
    while (op < OP_COUNT && strcmp(update_op_names[op], group.key) != 0)
        op++;
    if (op == OP_COUNT)
        return error_set(error, 9, "Unknown modifier: %s. Expected a valid update modifier or pipeline-style update "
                                   "specified as an array", group.key);
    if (group.value.type != BSON_TYPE_DOCUMENT)
        return error_set(error, 9, "Modifiers operate on fields but we found type %s instead. For example: {$mod: "
                                   "{<field>: ...}} not {%s: ...}", value_type_name(group.value), group.key);
    struct field f;
    for (struct fields it = fields_of(group.value); fields_next(&it, &f);)
        if (!add_modification(u, op, f, error))
            return false;
    return true;
}

struct array_filter *update_filter(const struct update *u, const char *id, size_t length)
{
    struct array_filter *filter = u->filters;
    while (filter && (strncmp(filter->id, id, length) != 0 || filter->id[length]))
        filter = filter->next;
    return filter;
}

static bool compile_filters(struct update *u, struct value filters, struct error *error)
{
    struct field f;
    for (struct fields it = fields_of(filters); fields_next(&it, &f);) {
        struct field first, inner;
        struct fields parts = fields_of(f.value);
        if (f.value.type != BSON_TYPE_DOCUMENT || !fields_next(&parts, &first))
            return error_set(error, 9, "Cannot use an expression without a top-level field name in arrayFilters");
        while (first.key[0] == '$') { /* { $or: [ { "id.x": 1 } ] } */
            struct fields nested = fields_of(first.value);
            if (!fields_next(&nested, &inner))
                return error_set(error, 9, "Cannot use an expression without a top-level field name in arrayFilters");
            first = inner.key[0] >= '0' && inner.key[0] <= '9' ? (struct field){"$", inner.value} : inner;
        }
        size_t length = strcspn(first.key, ".");
        if (update_filter(u, first.key, length))
            return error_set(error, 9, "Found multiple array filters with the same top-level field name %.*s",
                             (int)length, first.key);
        struct array_filter *filter = arena_get(u->arena, sizeof *filter);
        *filter = (struct array_filter){.id = arena_string(u->arena, first.key, length), .next = u->filters};
        u->filters = filter;
        if (!query_compile(&filter->query, u->arena, f.value, (struct value){0}, error))
            return false;
    }
    return true;
}

/* Every identifier in a path has its filter, and every filter is named by a path. */
static bool check_filters(const struct update *u, struct error *error)
{
    for (size_t i = 0; i < u->count; i++)
        for (const char *at = u->list[i].path; (at = strstr(at, ".$[")) != NULL; at++) {
            size_t length = strcspn(at + 3, "]");
            struct array_filter *filter = update_filter(u, at + 3, length);
            if (length > 0 && !filter)
                return error_set(error, 2, "No array filter found for identifier '%.*s' in path '%s'", (int)length,
                                 at + 3, u->list[i].path);
            if (length > 0)
                filter->used = true;
        }
    for (const struct array_filter *filter = u->filters; filter; filter = filter->next)
        if (!filter->used)
            return error_set(error, 9, "The array filter for identifier '%s' was not used in the update", filter->id);
    return true;
}

static bool check_replacement(struct value replacement, struct error *error)
{
    struct field f;
    for (struct fields it = fields_of(replacement); fields_next(&it, &f);)
        if (f.key[0] == '$')
            return error_set(error, 52, "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of an "
                                        "update's replacement document. Consider using an aggregation pipeline with "
                                        "$replaceWith.", f.key, f.key);
    return true;
}

bool update_is_operators(const struct update *u)
{
    return u->replacement.type == BSON_TYPE_EOD;
}

bool update_compile(struct update *u, struct arena *arena, struct value spec, struct value array_filters,
                    struct error *error)
{
    *u = (struct update){.arena = arena};
    struct field f, inner;
    size_t count = 0;
    if (spec.type == BSON_TYPE_ARRAY)
        return error_set(error, 115, "pipeline-style updates are not supported");
    if (spec.type != BSON_TYPE_DOCUMENT)
        return error_set(error, 9, "Update argument must be either an object or an array");
    struct fields first = fields_of(spec);
    if (!fields_next(&first, &f) || f.key[0] != '$') {
        u->replacement = spec;
        return check_replacement(spec, error);
    }
    for (struct fields it = fields_of(spec); fields_next(&it, &f);)
        for (struct fields in = fields_of(f.value); fields_next(&in, &inner);)
            count += 2; /* a $rename makes two */
    u->list = arena_get(arena, (count + 1) * sizeof *u->list);
    for (struct fields it = fields_of(spec); fields_next(&it, &f);)
        if (!compile_operator(u, f, error))
            return false;
    qsort(u->list, u->count, sizeof *u->list, by_path);
    return check_conflicts(u, error) && compile_filters(u, array_filters, error) && check_filters(u, error);
}

void update_free(struct update *u)
{
    for (size_t i = 0; i < u->count; i++)
        if (u->list[i].condition)
            query_free(u->list[i].condition);
    for (struct array_filter *filter = u->filters; filter; filter = filter->next)
        query_free(&filter->query);
}
