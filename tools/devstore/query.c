/* Compiling and matching filters. */
#include "query.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

static bool compile_filter(struct match *parent, value filter, struct failure *error);
static bool compile_field(struct match *parent, const char *path, value v, struct failure *error);

static struct match *add(struct match *parent, enum match_op op, const char *path, value arg)
{
    struct match *match = bson_malloc0(sizeof *match), **at = &parent->children;
    *match = (struct match){.op = op, .path = path, .arg = arg};
    while (*at)
        at = &(*at)->next;
    return *at = match;
}

static void add_key(struct match *m, value v)
{
    if ((m->count & (m->count - 1)) == 0) /* doubles at each power of two */
        m->keys = bson_realloc(m->keys, (m->count ? m->count * 2 : 1) * sizeof *m->keys);
    m->keys[m->count] = (struct buffer){0};
    key_append(&m->keys[m->count++], v);
}

static bool compile_regex(struct match *m, value pattern, value options, struct failure *error)
{
    static const char letters[] = "imxsu";
    static const uint32_t bits[] = {PCRE2_CASELESS, PCRE2_MULTILINE, PCRE2_EXTENDED, PCRE2_DOTALL, PCRE2_UTF};
    bool is_regex = pattern.value_type == BSON_TYPE_REGEX;
    const char *text = is_regex ? pattern.value.v_regex.regex : value_text(pattern), *letter = value_text(options);
    uint32_t flags = PCRE2_UTF;
    int code;
    PCRE2_SIZE offset;
    if (!text)
        return fail(error, 2, "$regex has to be a string");
    if (!letter)
        letter = is_regex ? pattern.value.v_regex.options : "";
    for (; *letter; letter++) {
        const char *known = strchr(letters, *letter);
        if (!known)
            return fail(error, 51108, "invalid flag in regex options: %c", *letter);
        flags |= bits[known - letters];
    }
    m->regex = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, flags, &code, &offset, NULL);
    if (!m->regex) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(code, why, sizeof why);
        return fail(error, 51091, "Regular expression is invalid: %s", (const char *)why);
    }
    return true;
}

/* A plain value in a filter: a regular expression searches, anything else compares. */
static bool compile_equality(struct match *parent, const char *path, value arg, struct failure *error)
{
    if (arg.value_type == BSON_TYPE_UNDEFINED)
        return fail(error, 2, "cannot compare to undefined");
    if (arg.value_type == BSON_TYPE_REGEX)
        return compile_regex(add(parent, MATCH_REGEX, path, arg), arg, (value){0}, error);
    add_key(add(parent, MATCH_EQ, path, arg), arg);
    return true;
}

/* The functions that follow take the argument of an operator into its match. */
static bool take_comparison(struct match *m, struct failure *error)
{
    if (m->arg.value_type == BSON_TYPE_REGEX && (m->op != MATCH_EQ || m->negated))
        return m->op == MATCH_EQ
                   ? fail(error, 2, "Can't have regex as arg to $ne.")
                   : fail(error, 2, "Can't have RegEx as arg to predicate over field '%s'.", m->path ? m->path : "");
    if (m->arg.value_type == BSON_TYPE_UNDEFINED)
        return fail(error, 2, "cannot compare to undefined");
    add_key(m, m->arg);
    return true;
}

/* Regular expressions in the list become children. */
static bool take_in(struct match *m, struct failure *error)
{
    if (m->arg.value_type != BSON_TYPE_ARRAY)
        return fail(error, 2, "$in needs an array");
    for (struct fields it = fields_of(m->arg); fields_next(&it);) {
        if (is_operators(it.v))
            return fail(error, 2, "cannot nest $ under $in");
        if (it.v.value_type != BSON_TYPE_REGEX)
            add_key(m, it.v);
        else if (!compile_equality(m, NULL, it.v, error))
            return false;
    }
    if (m->count)
        qsort(m->keys, m->count, sizeof *m->keys, buffer_compare);
    return true;
}

static bool take_all(struct match *m, struct failure *error)
{
    if (m->arg.value_type != BSON_TYPE_ARRAY)
        return fail(error, 2, "$all needs an array");
    if (document_is_empty(m->arg))
        m->op = MATCH_OR; /* of nothing: it never matches */
    for (struct fields it = fields_of(m->arg); fields_next(&it);) {
        if (is_operators(it.v) && !document_get(it.v, "$elemMatch").value_type)
            return fail(error, 2, "no $ expressions in $all");
        if (!compile_field(m, m->path, it.v, error))
            return false;
    }
    return true;
}

static bool take_exists(struct match *m, struct failure *error)
{
    (void)error;
    m->negated = !value_truth(m->arg);
    return true;
}

/* MinKey and MaxKey get the bits above the other types. */
static uint32_t type_bit(bson_type_t type)
{
    return 1u << (type == BSON_TYPE_MINKEY ? 20 : type == BSON_TYPE_MAXKEY ? 21 : type);
}

static bool add_type(struct match *m, value arg, struct failure *error)
{
    const char *name = value_text(arg);
    int64_t number = 0;
    if (!name && !value_to_int64(arg, &number))
        return fail(error, 14, "type must be represented as a number or a string");
    uint32_t types = 0;
    for (int code = -1; code <= BSON_TYPE_MAXKEY; code = code == BSON_TYPE_DECIMAL128 ? BSON_TYPE_MAXKEY : code + 1) {
        value v = {.value_type = code < 0 ? BSON_TYPE_MINKEY : (bson_type_t)code};
        bool numeric = name && strcmp(name, "number") == 0 && is_number(v);
        if (code && (numeric || (name ? strcmp(name, value_type_name(v)) == 0 : number == code)))
            types |= type_bit(v.value_type);
    }
    m->types |= types;
    if (types)
        return true;
    return name ? fail(error, 2, "Unknown type name alias: %s", name)
                : fail(error, 2, "Invalid numerical type code: %lld", (long long)number);
}

static bool take_type(struct match *m, struct failure *error)
{
    if (m->arg.value_type != BSON_TYPE_ARRAY)
        return add_type(m, m->arg, error);
    for (struct fields it = fields_of(m->arg); fields_next(&it);)
        if (!add_type(m, it.v, error))
            return false;
    return m->types || fail(error, 9, "%s must match at least one type", m->path ? m->path : "");
}

static bool take_mod(struct match *m, struct failure *error)
{
    value divisor = document_get(m->arg, "0"), remainder = document_get(m->arg, "1");
    if (m->arg.value_type != BSON_TYPE_ARRAY)
        return fail(error, 2, "malformed mod, needs to be an array");
    if (!remainder.value_type || document_get(m->arg, "2").value_type)
        return fail(error, 2, "malformed mod, %s elements", remainder.value_type ? "too many" : "not enough");
    if (!is_number(divisor) || !is_number(remainder))
        return fail(error, 2, "malformed mod, %s not a number", is_number(divisor) ? "remainder" : "divisor");
    if (!value_to_integer(divisor, &m->modulo) || !value_to_integer(remainder, &m->number))
        return fail(error, 2, "malformed mod, value is out of range of int64");
    return m->modulo != 0 || fail(error, 2, "divisor cannot be 0");
}

static bool take_size(struct match *m, struct failure *error)
{
    if (!value_to_int64(m->arg, &m->number))
        return fail(error, 2, "Failed to parse $size. Expected a number in: $size");
    return m->number >= 0 || fail(error, 2, "Failed to parse $size. Expected a non-negative number in: $size: %lld",
                                  (long long)m->number);
}

static bool take_regex(struct match *m, struct failure *error)
{
    return compile_regex(m, m->arg, document_get(m->beside, "$options"), error);
}

static bool take_options(struct match *m, struct failure *error)
{
    m->op = MATCH_AND; /* of nothing: $regex has read them */
    return document_get(m->beside, "$regex").value_type || fail(error, 2, "$options needs a $regex");
}

/* A condition on the fields of an element, not on the element itself. */
static bool is_filter(value condition)
{
    struct fields it = fields_of(condition);
    const char *first = fields_next(&it) ? it.key : "";
    return condition.value_type == BSON_TYPE_DOCUMENT &&
           (!is_operators(condition) || !strcmp(first, "$and") || !strcmp(first, "$or") || !strcmp(first, "$nor"));
}

static bool take_element(struct match *m, struct failure *error)
{
    if (m->arg.value_type != BSON_TYPE_DOCUMENT)
        return fail(error, 2, "$elemMatch needs an Object");
    m->number = is_filter(m->arg);
    return m->number ? compile_filter(m, m->arg, error) : compile_field(m, NULL, m->arg, error);
}

static bool take_not(struct match *m, struct failure *error)
{
    return m->arg.value_type == BSON_TYPE_REGEX || is_operators(m->arg)
               ? compile_field(m, m->path, m->arg, error)
               : fail(error, 2, "$not needs a regex or a document");
}

static bool compile_operator(struct match *parent, const char *path, struct fields *it, value all,
                             struct failure *error)
{
    static const struct {
        const char *name;
        enum match_op op;
        bool negated;
        bool (*take)(struct match *m, struct failure *error);
    } operators[] = {
        {"$eq", MATCH_EQ, false, take_comparison},
        {"$ne", MATCH_EQ, true, take_comparison},
        {"$gt", MATCH_GT, false, take_comparison},
        {"$gte", MATCH_GTE, false, take_comparison},
        {"$lt", MATCH_LT, false, take_comparison},
        {"$lte", MATCH_LTE, false, take_comparison},
        {"$in", MATCH_IN, false, take_in},
        {"$nin", MATCH_IN, true, take_in},
        {"$exists", MATCH_EXISTS, false, take_exists},
        {"$type", MATCH_TYPE, false, take_type},
        {"$not", MATCH_AND, true, take_not},
        {"$all", MATCH_AND, false, take_all},
        {"$elemMatch", MATCH_ELEMENT, false, take_element},
        {"$size", MATCH_SIZE, false, take_size},
        {"$regex", MATCH_REGEX, false, take_regex},
        {"$options", MATCH_AND, false, take_options},
        {"$mod", MATCH_MOD, false, take_mod},
    };
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strcmp(it->key, operators[i].name) == 0) {
            struct match *m = add(parent, operators[i].op, path, it->v);
            m->negated = operators[i].negated;
            m->beside = all;
            return operators[i].take(m, error);
        }
    return fail(error, 2, "unknown operator: %s", it->key);
}

static bool compile_field(struct match *parent, const char *path, value v, struct failure *error)
{
    if (!is_operators(v))
        return compile_equality(parent, path, v, error);
    for (struct fields it = fields_of(v); fields_next(&it);)
        if (!compile_operator(parent, path, &it, v, error))
            return false;
    return true;
}

static bool compile_list(struct match *parent, const char *name, value list, struct failure *error)
{
    if (list.value_type != BSON_TYPE_ARRAY || document_is_empty(list))
        return fail(error, 2, "%s must be %s array", name, list.value_type == BSON_TYPE_ARRAY ? "a nonempty" : "an");
    for (struct fields it = fields_of(list); fields_next(&it);) {
        if (it.v.value_type != BSON_TYPE_DOCUMENT)
            return fail(error, 2, "$or/$and/$nor entries need to be full objects");
        if (!compile_filter(add(parent, MATCH_AND, NULL, it.v), it.v, error))
            return false;
    }
    return true;
}

static bool compile_filter(struct match *parent, value filter, struct failure *error)
{
    for (struct fields it = fields_of(filter); fields_next(&it);) {
        bool ok = true;
        if (*it.key != '$' || strcmp(it.key, "$ref") == 0 || strcmp(it.key, "$id") == 0) {
            ok = compile_field(parent, it.key, it.v, error);
        } else if (strcmp(it.key, "$and") == 0) {
            ok = compile_list(add(parent, MATCH_AND, NULL, it.v), it.key, it.v, error);
        } else if (strcmp(it.key, "$or") == 0 || strcmp(it.key, "$nor") == 0) {
            struct match *any = add(parent, MATCH_OR, NULL, it.v);
            any->negated = it.key[1] == 'n';
            ok = compile_list(any, it.key, it.v, error);
        } else if (strcmp(it.key, "$comment") != 0) {
            ok = fail(error, 2,
                      "unknown top level operator: %s. If you have a field name that starts with a '$' "
                      "symbol, consider using $getField or $setField.",
                      it.key);
        }
        if (!ok)
            return false;
    }
    return true;
}

static struct match *compile(value spec, bool operators, struct failure *error)
{
    struct match *root = bson_malloc0(sizeof *root); /* a MATCH_AND */
    if (operators ? compile_field(root, NULL, spec, error) : compile_filter(root, spec, error))
        return root;
    query_free(root);
    return NULL;
}

struct match *query_compile(value filter, struct failure *error)
{
    return compile(filter, false, error);
}

struct match *query_compile_element(value condition, struct failure *error)
{
    struct match *query = compile(condition, !is_filter(condition), error);
    if (query)
        query->number = is_filter(condition);
    return query;
}

void query_free(struct match *query)
{
    while (query) {
        struct match *next = query->next;
        query_free(query->children);
        for (size_t i = 0; i < query->count; i++)
            buffer_free(&query->keys[i]);
        bson_free(query->keys);
        pcre2_code_free(query->regex);
        bson_free(query);
        query = next;
    }
}

static bool test_children(const struct match *m, value v, bool all)
{
    for (const struct match *child = m->children; child; child = child->next)
        if (query_matches(child, v) != all)
            return !all;
    return all;
}

/* Comparisons hold within one type only, and a NaN is neither less nor greater than anything. */
static bool test_keys(const struct match *m, value v)
{
    struct buffer key = {0};
    if (!v.value_type || v.value_type == BSON_TYPE_UNDEFINED)
        v = (value){.value_type = BSON_TYPE_NULL};
    key_append(&key, v);
    bool holds = false;
    if (m->op == MATCH_EQ || m->op == MATCH_IN) {
        holds = m->count && bsearch(&key, m->keys, m->count, sizeof key, buffer_compare);
    } else if ((key_rank(v) == key_rank(m->arg) && is_nan(v) == is_nan(m->arg)) ||
               m->arg.value_type == BSON_TYPE_MINKEY || m->arg.value_type == BSON_TYPE_MAXKEY) {
        int order = buffer_compare(&key, m->keys);
        holds = (order > 0 && m->op <= MATCH_GTE) || (order < 0 && m->op >= MATCH_LT) ||
                (order == 0 && (m->op == MATCH_GTE || m->op == MATCH_LTE));
    }
    buffer_free(&key);
    return holds;
}

static bool test_regex(const struct match *m, value v)
{
    if (v.value_type == BSON_TYPE_REGEX && m->arg.value_type == BSON_TYPE_REGEX)
        return value_compare(v, m->arg) == 0;
    if (v.value_type != BSON_TYPE_UTF8 && v.value_type != BSON_TYPE_SYMBOL)
        return false;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    PCRE2_SPTR text = (PCRE2_SPTR)v.value.v_utf8.str;
    int found = data ? pcre2_match(m->regex, text, v.value.v_utf8.len, 0, 0, data, NULL) : -1;
    pcre2_match_data_free(data);
    return found >= 0;
}

static bool test_elements(const struct match *m, value v)
{
    int64_t count = 0;
    if (v.value_type != BSON_TYPE_ARRAY)
        return false;
    for (struct fields it = fields_of(v); fields_next(&it); count++) {
        if (m->op == MATCH_ELEMENT && (!m->number || is_container(it.v)) && test_children(m, it.v, true))
            return true;
    }
    return m->op == MATCH_SIZE && count == m->number;
}

/* One value, as it is: arrays are not looked into. */
static bool test(const struct match *m, value v)
{
    int64_t number;
    switch (m->op) {
    case MATCH_EXISTS:
        return v.value_type != BSON_TYPE_EOD;
    case MATCH_TYPE:
        return v.value_type && (m->types & type_bit(v.value_type));
    case MATCH_MOD:
        return value_to_integer(v, &number) && (m->modulo == -1 ? 0 : number % m->modulo) == m->number;
    case MATCH_REGEX:
        return test_regex(m, v);
    case MATCH_SIZE:
    case MATCH_ELEMENT:
        return test_elements(m, v);
    default:
        return test_keys(m, v) || (m->op == MATCH_IN && test_children(m, v, false));
    }
}

/* At the end of a path an array stands for itself and for each of its elements. */
static bool test_path(const struct match *m, value document)
{
    struct buffer found = {0};
    bool holds = false;
    path_values(document, m->path, &found);
    const value *list = (const void *)found.data;
    for (size_t i = 0; !holds && i < found.size / sizeof *list; i++) {
        holds = test(m, list[i]);
        if (list[i].value_type == BSON_TYPE_ARRAY && m->op < MATCH_EXISTS)
            for (struct fields it = fields_of(list[i]); !holds && fields_next(&it);)
                holds = test(m, it.v);
    }
    buffer_free(&found);
    return holds;
}

bool query_matches(const struct match *m, value v)
{
    bool holds = m->op <= MATCH_OR ? test_children(m, v, m->op == MATCH_AND) : m->path ? test_path(m, v) : test(m, v);
    return holds != m->negated;
}
