/* Compiling and applying updates. */
#include "update.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PADDING = 1500000 };

static const char *const names[] = {"$set",    "$setOnInsert", "$unset", "$inc",      "$mul",  "$min",     "$max",
                                    "$rename", "$currentDate", "$push",  "$addToSet", "$pull", "$pullAll", "$pop"};

struct modification {
    enum operation op;
    const char *path, *from; /* from: of a $rename */
    value arg;
    struct match *condition; /* $pull */
};

/* MongoDB's order of new fields: by name, numbers by value; a dot sorts first, so that conflicts are neighbours. */
static int by_path(const void *x, const void *y)
{
    const char *a = ((const struct modification *)x)->path, *b = ((const struct modification *)y)->path;
    while (*a && *a == *b)
        a++, b++;
    size_t digits_a = strspn(a, "0123456789"), digits_b = strspn(b, "0123456789");
    if (digits_a && digits_b && digits_a != digits_b)
        return digits_a < digits_b ? -1 : 1;
    int rank_a = *a == '.' ? 1 : (unsigned char)*a, rank_b = *b == '.' ? 1 : (unsigned char)*b;
    return rank_a - rank_b;
}

static bool check_path(const char *path, struct failure *error)
{
    if (!*path)
        return fail(error, 56, "An empty update path is not valid.");
    for (const char *part = path;; part += strcspn(part, ".") + 1) {
        size_t length = strcspn(part, ".");
        if (length == 0)
            return fail(error, 56, "The update path '%s' contains an empty field name, which is not allowed.", path);
        if (part[0] == '$' && (length == 1 || part[1] == '['))
            return fail(error, 2, "positional updates are not supported: '%s'", path);
        if (part[0] == '$')
            return fail(error, 52, "The dollar ($) prefixed field '%.*s' in '%s' is not valid for storage.",
                        (int)length, part, path);
        if (!part[length])
            return true;
    }
}

static bool is_within(const char *path, const char *outer)
{
    size_t length = strlen(outer);
    return strncmp(path, outer, length) == 0 && (path[length] == 0 || path[length] == '.');
}

static bool check_conflicts(const struct update *u, struct failure *error)
{
    for (size_t i = 1; i < u->count; i++) {
        const char *a = u->list[i - 1].path, *b = u->list[i].path;
        if (is_within(b, a))
            return fail(error, 40, "Updating the path '%s' would create a conflict at '%s'", b, a);
    }
    return true;
}

static bool check_argument(struct modification *mod, struct failure *error)
{
    enum operation op = mod->op;
    const char *type = value_text(document_get(mod->arg, "$type"));
    if ((op == INC || op == MUL) && !is_number(mod->arg))
        return fail(error, 14, "Cannot %s with non-numeric argument: {%s}", op == INC ? "increment" : "multiply",
                    mod->path);
    if ((op == INC || op == MUL) && mod->arg.value_type == BSON_TYPE_DECIMAL128)
        return fail(error, 2, "arithmetic on decimal128 is not supported");
    if (op == CURRENT_DATE && mod->arg.value_type != BSON_TYPE_BOOL &&
        !(type && (strcmp(type, "date") == 0 || strcmp(type, "timestamp") == 0)))
        return fail(error, 2,
                    "%s is not valid type for $currentDate. Please use a boolean ('true') or a $type "
                    "expression ({$type: 'timestamp/date'}).",
                    value_type_name(mod->arg));
    if (op == PULL)
        return (mod->condition = query_compile_element(mod->arg, error)) != NULL;
    return op < PUSH || array_check(op, mod->arg, error);
}

static struct modification *add(struct update *u, enum operation op, const char *path, value arg)
{
    u->list = bson_realloc(u->list, (u->count + 1) * sizeof *u->list);
    u->list[u->count] = (struct modification){.op = op, .path = path, .arg = arg};
    return &u->list[u->count++];
}

static bool add_rename(struct update *u, const char *from, value to, struct failure *error)
{
    const char *path = value_text(to);
    if (!path)
        return fail(error, 2, "The 'to' field for $rename must be a string: %s", from);
    if (is_within(path, from) || is_within(from, path))
        return fail(error, 2, "The source and target field for $rename must differ and not be on one path: %s", from);
    if (strchr(from, '$') || strchr(path, '$'))
        return fail(error, 2, "The fields for $rename may not be dynamic: %s", from);
    add(u, UNSET, from, to);
    add(u, RENAME, path, to)->from = from;
    return check_path(path, error) && check_path(from, error);
}

static bool compile_operator(struct update *u, const char *name, value group, struct failure *error)
{
    enum operation op = SET;
    while (op <= POP && strcmp(names[op], name) != 0)
        op++;
    if (op > POP)
        return fail(error, 9,
                    "Unknown modifier: %s. Expected a valid update modifier or pipeline-style update "
                    "specified as an array",
                    name);
    if (group.value_type != BSON_TYPE_DOCUMENT)
        return fail(error, 9,
                    "Modifiers operate on fields but we found type %s instead. For example: {$mod: "
                    "{<field>: ...}} not {%s: ...}",
                    value_type_name(group), name);
    for (struct fields it = fields_of(group); fields_next(&it);) {
        if (op == RENAME ? !add_rename(u, it.key, it.v, error)
                         : !check_path(it.key, error) || !check_argument(add(u, op, it.key, it.v), error))
            return false;
    }
    return true;
}

static bool check_replacement(value replacement, struct failure *error)
{
    for (struct fields it = fields_of(replacement); fields_next(&it);)
        if (*it.key == '$')
            return fail(error, 52,
                        "The dollar ($) prefixed field '%s' in '%s' is not allowed in the context of an "
                        "update's replacement document. Consider using an aggregation pipeline with "
                        "$replaceWith.",
                        it.key, it.key);
    return true;
}

bool update_compile(struct update *u, value spec, struct failure *error)
{
    *u = (struct update){0};
    if (spec.value_type == BSON_TYPE_ARRAY)
        return fail(error, 115, "pipeline-style updates are not supported");
    if (spec.value_type != BSON_TYPE_DOCUMENT)
        return fail(error, 9, "Update argument must be either an object or an array");
    struct fields it = fields_of(spec);
    if (!fields_next(&it) || *it.key != '$') {
        u->replacement = spec;
        return check_replacement(spec, error);
    }
    do
        if (!compile_operator(u, it.key, it.v, error))
            return false;
    while (fields_next(&it));
    if (u->count)
        qsort(u->list, u->count, sizeof *u->list, by_path);
    return check_conflicts(u, error);
}

void update_free(struct update *u)
{
    for (size_t i = 0; i < u->count; i++)
        query_free(u->list[i].condition);
    bson_free(u->list);
}

/* One modification on its way into one document. */
struct edit {
    const struct modification *mod;
    value original; /* the document before the whole update */
    struct failure *error;
};

static bool apply_arithmetic(struct edit *e, const char *key, value old, bson_t *out)
{
    enum operation op = e->mod->op;
    value arg = e->mod->arg;
    int64_t x = 0, y = 0, whole;
    if (!old.value_type && op == MUL)
        old = (value){.value_type = arg.value_type}; /* a zero of that type */
    if (!old.value_type)
        return bson_append_value(out, key, -1, &arg);
    if (!is_number(old))
        return fail(e->error, 14,
                    "Cannot apply %s to a value of non-numeric type. The document has the field '%s' "
                    "of non-numeric type %s",
                    names[op], key, value_type_name(old));
    if (old.value_type == BSON_TYPE_DECIMAL128)
        return fail(e->error, 2, "arithmetic on decimal128 is not supported");
    if (old.value_type == BSON_TYPE_DOUBLE || arg.value_type == BSON_TYPE_DOUBLE) {
        double p = value_to_double(old), q = value_to_double(arg);
        return bson_append_double(out, key, -1, op == MUL ? p * q : p + q);
    }
    value_to_int64(old, &x);
    value_to_int64(arg, &y);
    if (op == MUL ? __builtin_mul_overflow(x, y, &whole) : __builtin_add_overflow(x, y, &whole))
        return fail(e->error, 2, "Failed to apply %s operations to current value ((NumberLong)%lld)", names[op],
                    (long long)x);
    if (old.value_type == BSON_TYPE_INT64 || arg.value_type == BSON_TYPE_INT64)
        return bson_append_int64(out, key, -1, whole);
    append_number(out, key, whole); /* an int64 when it does not fit */
    return true;
}

/* The end of the path: appends the field's new value, or nothing. */
static bool apply_leaf(struct edit *e, const char *key, value old, bson_type_t parent, bson_t *out)
{
    const struct modification *mod = e->mod;
    const char *type = value_text(document_get(mod->arg, "$type"));
    struct timeval now;
    int order;
    switch (mod->op) {
    case SET:
    case SET_ON_INSERT:
        append_value(out, key, mod->arg);
        return true;
    case UNSET: /* the elements behind one of an array keep their places */
        return parent != BSON_TYPE_ARRAY || bson_append_null(out, key, -1);
    case INC:
    case MUL:
        return apply_arithmetic(e, key, old, out);
    case MIN:
    case MAX:
        order = old.value_type ? value_compare(mod->arg, old) : 0;
        append_value(out, key, !old.value_type || (mod->op == MIN ? order < 0 : order > 0) ? mod->arg : old);
        return true;
    case RENAME:
        append_value(out, key, document_path(e->original, mod->from));
        return true;
    case CURRENT_DATE:
        bson_gettimeofday(&now);
        return type && strcmp(type, "timestamp") == 0 ? bson_append_timestamp(out, key, -1, (uint32_t)now.tv_sec, 1)
                                                      : bson_append_timeval(out, key, -1, &now);
    default:
        return array_apply(mod->op, old, mod->arg, mod->condition, key, out, e->error);
    }
}

static bool is_array_index(const char *path)
{
    size_t length = strspn(path, "0123456789");
    return length > 0 && length < 10 && (length == 1 || *path != '0') && (path[length] == 0 || path[length] == '.');
}

static bool creates(const struct modification *mod)
{
    return mod->op != UNSET && mod->op <= ADD_TO_SET;
}

static bool not_viable(struct edit *e, const char *part, const char *key, value in)
{
    bson_string_t *text = bson_string_new(NULL);
    value_print(text, in);
    fail(e->error, 28, "Cannot create field '%.*s' in element {%s: %.300s}", (int)strcspn(part, "."), part, key,
         text->str);
    bson_string_free(text, true);
    return false;
}

static bool edit_fields(struct edit *e, value container, const char *path, bson_t *out);

static bool edit_field(struct edit *e, const char *key, value old, bson_type_t parent, const char *rest, bson_t *out)
{
    bool array = old.value_type == BSON_TYPE_ARRAY;
    if (!rest)
        return apply_leaf(e, key, old, parent, out);
    if (array ? !is_array_index(rest) : old.value_type && !is_container(old))
        return e->mod->op == UNSET ? bson_append_value(out, key, -1, &old) : not_viable(e, rest, key, old);
    bson_t child;
    open_container(out, key, old.value_type, &child);
    bool ok = edit_fields(e, old, rest, &child);
    bson_append_document_end(out, &child);
    return ok;
}

/* Copies the fields of a document or an array with the one at the path changed; a missing one has no fields. */
static bool edit_fields(struct edit *e, value container, const char *path, bson_t *out)
{
    size_t length = strcspn(path, "."), count = 0;
    const char *rest = path[length] ? path + length + 1 : NULL;
    char *key = bson_strndup(path, length);
    bool found = false, ok = true, array = container.value_type == BSON_TYPE_ARRAY;
    for (struct fields it = fields_of(container); ok && fields_next(&it); count++) {
        value field = it.v;
        if (found || strcmp(it.key, key) != 0) {
            bson_append_value(out, it.key, -1, &field);
        } else {
            found = true;
            ok = edit_field(e, key, field, container.value_type, rest, out);
        }
    }
    if (ok && !found && creates(e->mod)) {
        size_t index = array ? strtoul(key, NULL, 10) : 0;
        if (index > count + MAX_PADDING)
            ok = fail(e->error, 2, "can't backfill more than %d elements", MAX_PADDING);
        for (; ok && array && count < index; count++)
            append_item(out, count, (value){.value_type = BSON_TYPE_NULL});
        ok = ok && edit_field(e, key, (value){0}, container.value_type, rest, out);
    }
    bson_free(key);
    return ok;
}

static bool replace(const struct update *u, value document, bson_t *out, struct failure *error)
{
    value id = document_get(document, "_id"), wanted = document_get(u->replacement, "_id");
    append_value(out, "_id", id.value_type ? id : wanted);
    for (struct fields it = fields_of(u->replacement); fields_next(&it);)
        if (strcmp(it.key, "_id") != 0)
            bson_append_value(out, it.key, -1, &it.v);
    if (!id.value_type || !wanted.value_type || value_compare(id, wanted) == 0)
        return true;
    bson_string_t *text = bson_string_new(NULL);
    value_print(text, wanted);
    fail(error, 66,
         "After applying the update, the (immutable) field '_id' was found to have been altered to "
         "_id: %s",
         text->str);
    bson_string_free(text, true);
    return false;
}

/* $rename goes neither into an array nor out of one. */
static bool check_rename(value document, const char *path, struct failure *error)
{
    for (const char *rest = path; (rest = strchr(rest, '.')) != NULL; rest++) {
        char *above = bson_strndup(path, (size_t)(rest - path));
        value parent = document_path(document, above);
        bson_free(above);
        if (parent.value_type == BSON_TYPE_ARRAY)
            return fail(error, 2, "The source or destination field cannot be an array element, '%s'", path);
    }
    return true;
}

static bool edit(bson_t **now, const struct modification *mod, value original, struct failure *error)
{
    struct edit e = {.mod = mod, .original = original, .error = error};
    bson_t *next = bson_new();
    bool ok = edit_fields(&e, document_of(*now), mod->path, next);
    bson_destroy(*now);
    *now = next;
    return ok;
}

bool document_set(bson_t **document, const char *path, value v, struct failure *error)
{
    struct modification mod = {.op = SET, .path = path, .arg = v};
    return check_path(path, error) && edit(document, &mod, v, error);
}

static bool modify(const struct update *u, value document, bool inserting, bson_t *out, struct failure *error)
{
    bson_t *now = bson_new_from_data(document.value.v_doc.data, document.value.v_doc.data_len);
    bool ok = true;
    for (size_t i = 0; ok && i < u->count; i++) {
        const struct modification *mod = &u->list[i];
        if ((mod->op != SET_ON_INSERT || inserting) &&
            (mod->op != RENAME || document_path(document, mod->from).value_type))
            ok = (mod->op != RENAME ||
                  (check_rename(document, mod->from, error) && check_rename(document, mod->path, error))) &&
                 edit(&now, mod, document, error);
    }
    value id = document_get(document, "_id");
    if (ok && id.value_type && value_compare(id, document_get(document_of(now), "_id")) != 0)
        ok = fail(error, 66, "Performing an update on the path '_id' would modify the immutable field '_id'");
    bson_concat(out, now);
    bson_destroy(now);
    return ok;
}

bool update_apply(const struct update *u, value document, bool inserting, bson_t *out, struct failure *error)
{
    bson_reinit(out);
    if (!(u->replacement.value_type ? replace(u, document, out, error) : modify(u, document, inserting, out, error)))
        return false;
    return out->len <= MAX_DOCUMENT_BYTES ||
           fail(error, 17419, "Resulting document after update is larger than %d", MAX_DOCUMENT_BYTES);
}

/* The equalities of the filter are the first fields of the new document; a replacement takes the _id alone. */
static bool add_equalities(const struct match *query, bool replacement, bson_t **base, struct failure *error)
{
    bool ok = true;
    for (const struct match *m = query->children; ok && m; m = m->next) {
        bool sole = m->op == MATCH_OR && m->children && !m->children->next;
        if ((m->op == MATCH_AND || sole) && !m->negated)
            ok = add_equalities(m, replacement, base, error);
        bool equal = m->op == MATCH_EQ || (m->op == MATCH_IN && m->count == 1 && !m->children);
        if (!equal || m->negated || (replacement && strcmp(m->path, "_id") != 0))
            continue;
        if (document_path(document_of(*base), m->path).value_type)
            return fail(error, 54, "cannot infer query fields to set, path '%s' is matched twice", m->path);
        ok = document_set(base, m->path, m->op == MATCH_EQ ? m->arg : document_get(m->arg, "0"), error);
    }
    return ok;
}

bool update_upsert(const struct update *u, const struct match *query, bson_t *out, struct failure *error)
{
    bson_t *base = bson_new(), made = BSON_INITIALIZER;
    bool ok = add_equalities(query, u->replacement.value_type != BSON_TYPE_EOD, &base, error) &&
              update_apply(u, document_of(base), true, &made, error) &&
              document_for_storage(document_of(&made), out, error);
    bson_destroy(base);
    bson_destroy(&made);
    return ok;
}

static bool check_id(value id, struct failure *error)
{
    if (id.value_type == BSON_TYPE_ARRAY || id.value_type == BSON_TYPE_REGEX || id.value_type == BSON_TYPE_UNDEFINED)
        return fail(error, 53, "The '_id' value cannot be of type %s", value_type_name(id));
    for (struct fields it = fields_of(id); fields_next(&it);)
        if (*it.key == '$')
            return fail(error, 52, "_id fields may not contain '$'-prefixed fields: %s is not valid for storage.",
                        it.key);
    return true;
}

bool document_check_depth(value document, struct failure *error)
{
    return document_check(document.value.v_doc.data, document.value.v_doc.data_len, MAX_DOCUMENT_DEPTH) ||
           fail(error, 15, "Document exceeds the maximum of %d nested levels", MAX_DOCUMENT_DEPTH);
}

bool document_for_storage(value document, bson_t *out, struct failure *error)
{
    value id = document_get(document, "_id");
    bson_oid_t made;
    if (document.value.v_doc.data_len > MAX_DOCUMENT_BYTES)
        return fail(error, 10334, "object to insert too large. size in bytes: %u, max size: %d",
                    document.value.v_doc.data_len, MAX_DOCUMENT_BYTES);
    if (!document_check_depth(document, error) || !check_id(id, error))
        return false;
    bson_reinit(out);
    bson_oid_init(&made, NULL);
    if (id.value_type)
        append_value(out, "_id", id);
    else
        bson_append_oid(out, "_id", -1, &made);
    for (struct fields it = fields_of(document); fields_next(&it);)
        if (strcmp(it.key, "_id") != 0)
            bson_append_value(out, it.key, -1, &it.v);
    return true;
}
