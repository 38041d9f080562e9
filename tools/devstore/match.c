/* Matching documents against a compiled filter. */
#include "expression.h"
#include "query.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

static struct value null_if_missing(struct value v)
{
    if (v.type == BSON_TYPE_EOD || v.type == BSON_TYPE_UNDEFINED)
        return (struct value){.type = BSON_TYPE_NULL, .data = v.data};
    return v;
}

/* Comparisons hold within one type only, and a NaN is neither less nor greater than anything. */
static bool test_order(const struct match *m, struct value v)
{
    v = null_if_missing(v);
    if (value_rank(v.type) != value_rank(m->arg.type) && m->arg.type != BSON_TYPE_MINKEY &&
        m->arg.type != BSON_TYPE_MAXKEY)
        return false;
    if (value_is_nan(v) != value_is_nan(m->arg))
        return false;
    int order = value_compare(v, m->arg);
    bool equal = order == 0 && (m->op == MATCH_GTE || m->op == MATCH_LTE);
    return equal || (m->op == MATCH_GT || m->op == MATCH_GTE ? order > 0 : order < 0);
}

static bool test_regex(const struct match *m, struct value v)
{
    if (v.type == BSON_TYPE_REGEX && m->arg.type == BSON_TYPE_REGEX)
        return value_compare(v, m->arg) == 0;
    if (v.type != BSON_TYPE_UTF8 && v.type != BSON_TYPE_SYMBOL)
        return false;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int found = data ? pcre2_match(m->regex, v.data + 4, v.size - 5, 0, 0, data, NULL) : -1;
    pcre2_match_data_free(data);
    return found >= 0;
}

static bool test_mod(const struct match *m, struct value v)
{
    int64_t number;
    if (!value_is_number(v) || !value_to_integer(v, &number))
        return false;
    return (m->divisor == -1 ? 0 : number % m->divisor) == m->remainder;
}

static bool evaluate(const struct query *q, const struct match *m, struct value v, int64_t *position);

static bool all_children(const struct query *q, const struct match *m, struct value v, int64_t *position)
{
    for (const struct match *child = m->children; child; child = child->next)
        if (!evaluate(q, child, v, position))
            return false;
    return true;
}

static bool test_elements(const struct query *q, const struct match *m, struct value v, int64_t *position)
{
    struct field element;
    int64_t index = 0;
    if (v.type != BSON_TYPE_ARRAY)
        return false;
    for (struct fields it = fields_of(v); fields_next(&it, &element); index++)
        if ((m->op == MATCH_ELEMENT_VALUE || value_is_container(element.value)) &&
            all_children(q, m, element.value, NULL)) {
            if (position)
                *position = index;
            return true;
        }
    return false;
}

static bool test_size(const struct match *m, struct value v)
{
    struct field element;
    int64_t count = 0;
    for (struct fields it = fields_of(v); fields_next(&it, &element);)
        count++;
    return v.type == BSON_TYPE_ARRAY && count == m->remainder;
}

/* One value, as it is: arrays are not looked into. */
static bool test(const struct query *q, const struct match *m, struct value v, int64_t *position)
{
    switch (m->op) {
    case MATCH_EQ: return value_compare(null_if_missing(v), m->arg) == 0;
    case MATCH_GT: case MATCH_GTE: case MATCH_LT: case MATCH_LTE: return test_order(m, v);
    case MATCH_IN: {
        struct value key = null_if_missing(v);
        return bsearch(&key, m->list, m->count, sizeof *m->list, value_order) != NULL;
    }
    case MATCH_EXISTS: return v.type != BSON_TYPE_EOD;
    case MATCH_TYPE:
        return v.type && m->types >> (v.type == BSON_TYPE_MINKEY   ? TYPE_BIT_MINKEY
                                      : v.type == BSON_TYPE_MAXKEY ? TYPE_BIT_MAXKEY : v.type) & 1;
    case MATCH_SIZE: return test_size(m, v);
    case MATCH_REGEX: return test_regex(m, v);
    case MATCH_MOD: return test_mod(m, v);
    default: return test_elements(q, m, v, position);
    }
}

/* At the end of a path an array stands for each of its elements, and for itself. */
static bool test_leaf(const struct query *q, const struct match *m, struct value v, int64_t *position)
{
    bool whole = m->op == MATCH_SIZE || m->op == MATCH_EXISTS || m->op == MATCH_ELEMENT_OBJECT ||
                 m->op == MATCH_ELEMENT_VALUE;
    struct field element;
    int64_t index = 0;
    if (v.type == BSON_TYPE_ARRAY && !whole)
        for (struct fields it = fields_of(v); fields_next(&it, &element); index++)
            if (test(q, m, element.value, NULL)) {
                if (position)
                    *position = index;
                return true;
            }
    return test(q, m, v, position);
}

/* On the way an array stands for each document in it, and a number in the path may be an index. */
static bool test_path(const struct query *q, const struct match *m, struct value v, const char *path, int64_t *position)
{
    size_t length = strcspn(path, ".");
    struct value child = document_get_part(v, path, length);
    if (!path[length])
        return test_leaf(q, m, child, position);
    const char *rest = path + length + 1;
    if (child.type == BSON_TYPE_DOCUMENT)
        return test_path(q, m, child, rest, position);
    if (child.type != BSON_TYPE_ARRAY)
        return test(q, m, (struct value){0}, NULL);
    struct field element;
    int64_t index = 0;
    for (struct fields it = fields_of(child); fields_next(&it, &element); index++)
        if (element.value.type == BSON_TYPE_DOCUMENT && test_path(q, m, element.value, rest, NULL)) {
            if (position)
                *position = index;
            return true;
        }
    size_t next = strcspn(rest, ".");
    return is_array_index(rest, next) && document_get_part(child, rest, next).type &&
           test_path(q, m, child, rest, position);
}

static bool evaluate(const struct query *q, const struct match *m, struct value v, int64_t *position)
{
    switch (m->op) {
    case MATCH_AND: return all_children(q, m, v, position);
    case MATCH_OR: case MATCH_NOR:
        for (const struct match *child = m->children; child; child = child->next)
            if (evaluate(q, child, v, m->op == MATCH_OR ? position : NULL))
                return m->op == MATCH_OR;
        return m->op == MATCH_NOR;
    case MATCH_NOT: return !evaluate(q, m->children, v, NULL);
    case MATCH_EXPR: return expression_truth(m->arg, v, q->let);
    default: return m->path ? test_path(q, m, v, m->path, position) : test(q, m, v, position);
    }
}

bool query_matches(const struct query *q, struct value document, int64_t *position)
{
    return all_children(q, q->root, document, position);
}

bool query_matches_value(const struct query *q, struct value value)
{
    return all_children(q, q->root, value, NULL);
}
