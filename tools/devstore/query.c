/* Compiling filters. */
#include "query.h"

#include "expression.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_TYPES \
    (1u << BSON_TYPE_DOUBLE | 1u << BSON_TYPE_INT32 | 1u << BSON_TYPE_INT64 | 1u << BSON_TYPE_DECIMAL128)

static bool compile_filter(struct query *q, struct match *parent, struct value filter, struct error *error);
static bool compile_field(struct query *q, struct match *parent, const char *path, struct value v, struct error *error);

bool is_operators(struct value value)
{
    struct field first;
    struct fields it = fields_of(value);
    return value.type == BSON_TYPE_DOCUMENT && fields_next(&it, &first) && first.key[0] == '$' &&
           strcmp(first.key, "$ref") != 0 && strcmp(first.key, "$id") != 0 && strcmp(first.key, "$db") != 0;
}

bool is_array_index(const char *key, size_t length)
{
    return length > 0 && length < 10 && strspn(key, "0123456789") >= length && (length == 1 || key[0] != '0');
}

static struct match *append_child(struct match *parent, struct match *child)
{
    struct match **at = &parent->children;
    while (*at)
        at = &(*at)->next;
    return *at = child;
}

static struct match *add(struct query *q, struct match *parent, enum match_op op, const char *path, struct value arg)
{
    struct match *match = arena_get(q->arena, sizeof *match);
    *match = (struct match){.op = op, .path = path, .arg = arg};
    return append_child(parent, match);
}

static bool regex_flags(const char *options, uint32_t *flags, struct error *error)
{
    static const char letters[] = "imxsu";
    static const uint32_t bits[] = {PCRE2_CASELESS, PCRE2_MULTILINE, PCRE2_EXTENDED, PCRE2_DOTALL, PCRE2_UTF};
    *flags = PCRE2_UTF;
    for (; *options; options++) {
        const char *letter = strchr(letters, *options);
        if (!letter)
            return error_set(error, 51108, "invalid flag in regex options: %c", *options);
        *flags |= bits[letter - letters];
    }
    return true;
}

static bool compile_regex(struct query *q, struct match *match, struct value pattern, const char *options,
                          struct error *error)
{
    const char *text = pattern.type == BSON_TYPE_REGEX ? (const char *)pattern.data : value_text(pattern);
    if (!text)
        return error_set(error, 2, "$regex has to be a string");
    if (pattern.type == BSON_TYPE_REGEX && !options)
        options = text + strlen(text) + 1;
    uint32_t flags;
    if (!regex_flags(options ? options : "", &flags, error))
        return false;
    int code;
    PCRE2_SIZE offset;
    match->regex = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, flags, &code, &offset, NULL);
    if (!match->regex) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(code, why, sizeof why);
        return error_set(error, 51091, "Regular expression is invalid: %s", (const char *)why);
    }
    match->arg = pattern;
    match->next_regex = q->regexes;
    q->regexes = match;
    return true;
}

static bool add_equality(struct query *q, struct match *parent, const char *path, struct value arg, struct error *error)
{
    if (arg.type == BSON_TYPE_UNDEFINED)
        return error_set(error, 2, "cannot compare to undefined");
    if (arg.type == BSON_TYPE_REGEX)
        return compile_regex(q, add(q, parent, MATCH_REGEX, path, arg), arg, NULL, error);
    add(q, parent, MATCH_EQ, path, arg);
    return true;
}

/* $in: one sorted list, or an OR of it and the regular expressions. */
static bool compile_in(struct query *q, struct match *parent, const char *path, struct value arg, struct error *error)
{
    struct match holder = {0}, *in = add(q, &holder, MATCH_IN, path, arg);
    struct field field;
    size_t count = 0;
    if (arg.type != BSON_TYPE_ARRAY)
        return error_set(error, 2, "$in needs an array");
    for (struct fields it = fields_of(arg); fields_next(&it, &field);)
        count++;
    in->list = arena_get(q->arena, (count + 1) * sizeof *in->list);
    for (struct fields it = fields_of(arg); fields_next(&it, &field);) {
        if (is_operators(field.value))
            return error_set(error, 2, "cannot nest $ under $in");
        if (field.value.type != BSON_TYPE_REGEX)
            in->list[in->count++] = field.value;
        else if (!add_equality(q, &holder, path, field.value, error))
            return false;
    }
    qsort(in->list, in->count, sizeof *in->list, value_order);
    append_child(in->next ? add(q, parent, MATCH_OR, NULL, arg) : parent, in);
    return true;
}

static bool compile_all(struct query *q, struct match *parent, const char *path, struct value arg, struct error *error)
{
    if (arg.type != BSON_TYPE_ARRAY)
        return error_set(error, 2, "$all needs an array");
    if (document_is_empty(arg))
        return compile_in(q, parent, path, arg, error); /* both match nothing */
    struct field field;
    for (struct fields it = fields_of(arg); fields_next(&it, &field);) {
        bool operators = is_operators(field.value);
        if (operators && !document_get(field.value, "$elemMatch").type)
            return error_set(error, 2, "no $ expressions in $all");
        if (!(operators ? compile_field : add_equality)(q, parent, path, field.value, error))
            return false;
    }
    return true;
}

static bool type_bit(struct value arg, uint32_t *types, struct error *error)
{
    const char *name = value_text(arg);
    int64_t number = 0;
    if (!name && !value_to_int64(arg, &number))
        return error_set(error, 14, "type must be represented as a number or a string");
    if (name && strcmp(name, "number") == 0) {
        *types |= NUMBER_TYPES;
        return true;
    }
    for (uint32_t bit = BSON_TYPE_DOUBLE; bit <= TYPE_BIT_MAXKEY; bit++) {
        bson_type_t type = bit == TYPE_BIT_MINKEY ? BSON_TYPE_MINKEY : bit == TYPE_BIT_MAXKEY ? BSON_TYPE_MAXKEY : bit;
        int64_t code = type == BSON_TYPE_MINKEY ? -1 : (int64_t)type;
        if (name ? strcmp(name, value_type_name((struct value){.type = type})) == 0 : number == code) {
            *types |= 1u << bit;
            return true;
        }
    }
    return name ? error_set(error, 2, "Unknown type name alias: %s", name)
                : error_set(error, 2, "Invalid numerical type code: %lld", (long long)number);
}

static bool compile_type(struct match *match, struct value arg, struct error *error)
{
    if (arg.type != BSON_TYPE_ARRAY)
        return type_bit(arg, &match->types, error);
    struct field field;
    for (struct fields it = fields_of(arg); fields_next(&it, &field);)
        if (!type_bit(field.value, &match->types, error))
            return false;
    return match->types || error_set(error, 9, "%s must match at least one type", match->path ? match->path : "");
}

static bool compile_mod(struct match *match, struct value arg, struct error *error)
{
    struct value divisor = document_get(arg, "0"), remainder = document_get(arg, "1");
    if (arg.type != BSON_TYPE_ARRAY)
        return error_set(error, 2, "malformed mod, needs to be an array");
    if (!remainder.type || document_get(arg, "2").type)
        return error_set(error, 2, "malformed mod, %s elements", remainder.type ? "too many" : "not enough");
    if (!value_is_number(divisor) || !value_is_number(remainder))
        return error_set(error, 2, "malformed mod, %s not a number", value_is_number(divisor) ? "remainder" : "divisor");
    if (!value_to_integer(divisor, &match->divisor) || !value_to_integer(remainder, &match->remainder))
        return error_set(error, 2, "malformed mod, value is out of range of int64");
    return match->divisor != 0 || error_set(error, 2, "divisor cannot be 0");
}

static bool compile_size(struct match *match, struct value arg, struct error *error)
{
    if (!value_to_int64(arg, &match->remainder))
        return error_set(error, 2, "Failed to parse $size. Expected a number in: $size");
    return match->remainder >= 0 ||
           error_set(error, 2, "Failed to parse $size. Expected a non-negative number in: $size: %lld",
                     (long long)match->remainder);
}

static bool compile_element_match(struct query *q, struct match *parent, const char *path, struct value arg,
                                  struct error *error)
{
    if (arg.type != BSON_TYPE_DOCUMENT)
        return error_set(error, 2, "$elemMatch needs an Object");
    struct field first = {.key = ""};
    struct fields it = fields_of(arg);
    fields_next(&it, &first);
    bool logical = !strcmp(first.key, "$and") || !strcmp(first.key, "$or") || !strcmp(first.key, "$nor");
    bool on_value = is_operators(arg) && !logical;
    struct match *match = add(q, parent, on_value ? MATCH_ELEMENT_VALUE : MATCH_ELEMENT_OBJECT, path, arg);
    return on_value ? compile_field(q, match, NULL, arg, error) : compile_filter(q, match, arg, error);
}

static bool compile_negation(struct query *q, struct match *parent, const char *path, struct value arg,
                             struct error *error)
{
    struct match *match = add(q, parent, MATCH_NOT, NULL, arg);
    if (arg.type == BSON_TYPE_REGEX)
        return add_equality(q, match, path, arg, error);
    if (!is_operators(arg))
        return error_set(error, 2, "$not needs a regex or a document");
    return compile_field(q, add(q, match, MATCH_AND, NULL, arg), path, arg, error);
}

static bool compile_operator(struct query *q, struct match *parent, const char *path, struct field op, struct value all,
                             struct error *error)
{
    static const struct {
        const char *name;
        enum match_op op;
    } plain[] = {{"$gt", MATCH_GT}, {"$gte", MATCH_GTE}, {"$lt", MATCH_LT}, {"$lte", MATCH_LTE},
                 {"$exists", MATCH_EXISTS}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(op.key, plain[i].name) == 0) {
            if (op.value.type == BSON_TYPE_REGEX && plain[i].op != MATCH_EXISTS)
                return error_set(error, 2, "Can't have RegEx as arg to predicate over field '%s'.", path ? path : "");
            struct match *not = plain[i].op == MATCH_EXISTS && !value_truth(op.value)
                                    ? add(q, parent, MATCH_NOT, NULL, op.value) : parent;
            add(q, not, plain[i].op, path, op.value);
            return true;
        }
    if (strcmp(op.key, "$eq") == 0) {
        add(q, parent, MATCH_EQ, path, op.value); /* $eq with a regular expression compares, it does not search */
        return true;
    }
    if (strcmp(op.key, "$ne") == 0)
        return op.value.type != BSON_TYPE_REGEX
                   ? add_equality(q, add(q, parent, MATCH_NOT, NULL, op.value), path, op.value, error)
                   : error_set(error, 2, "Can't have regex as arg to $ne.");
    if (strcmp(op.key, "$in") == 0)
        return compile_in(q, parent, path, op.value, error);
    if (strcmp(op.key, "$nin") == 0)
        return compile_in(q, add(q, parent, MATCH_NOT, NULL, op.value), path, op.value, error);
    if (strcmp(op.key, "$not") == 0)
        return compile_negation(q, parent, path, op.value, error);
    if (strcmp(op.key, "$all") == 0)
        return compile_all(q, parent, path, op.value, error);
    if (strcmp(op.key, "$elemMatch") == 0)
        return compile_element_match(q, parent, path, op.value, error);
    if (strcmp(op.key, "$size") == 0)
        return compile_size(add(q, parent, MATCH_SIZE, path, op.value), op.value, error);
    if (strcmp(op.key, "$type") == 0)
        return compile_type(add(q, parent, MATCH_TYPE, path, op.value), op.value, error);
    if (strcmp(op.key, "$mod") == 0)
        return compile_mod(add(q, parent, MATCH_MOD, path, op.value), op.value, error);
    if (strcmp(op.key, "$regex") == 0)
        return compile_regex(q, add(q, parent, MATCH_REGEX, path, op.value), op.value,
                             value_text(document_get(all, "$options")), error);
    if (strcmp(op.key, "$options") == 0)
        return document_get(all, "$regex").type || error_set(error, 2, "$options needs a $regex");
    return error_set(error, 2, "unknown operator: %s", op.key);
}

static bool compile_field(struct query *q, struct match *parent, const char *path, struct value v, struct error *error)
{
    if (!is_operators(v))
        return add_equality(q, parent, path, v, error);
    struct field op;
    for (struct fields it = fields_of(v); fields_next(&it, &op);)
        if (!compile_operator(q, parent, path, op, v, error))
            return false;
    return true;
}

static bool compile_list(struct query *q, struct match *parent, struct field op, struct error *error)
{
    if (op.value.type != BSON_TYPE_ARRAY || document_is_empty(op.value))
        return error_set(error, 2, "%s must be %s array", op.key, op.value.type == BSON_TYPE_ARRAY ? "a nonempty" : "an");
    struct field clause;
    for (struct fields it = fields_of(op.value); fields_next(&it, &clause);) {
        if (clause.value.type != BSON_TYPE_DOCUMENT)
            return error_set(error, 2, "$or/$and/$nor entries need to be full objects");
        /* an $and is flattened into its parent when that is one: the planner looks at the top level only */
        bool flat = parent->op == MATCH_AND;
        if (!compile_filter(q, flat ? parent : add(q, parent, MATCH_AND, NULL, clause.value), clause.value, error))
            return false;
    }
    return true;
}

static bool compile_filter(struct query *q, struct match *parent, struct value filter, struct error *error)
{
    struct field f;
    for (struct fields it = fields_of(filter); fields_next(&it, &f);) {
        bool ok;
        if (f.key[0] != '$' || strcmp(f.key, "$ref") == 0 || strcmp(f.key, "$id") == 0)
            ok = compile_field(q, parent, f.key, f.value, error);
        else if (strcmp(f.key, "$and") == 0)
            ok = compile_list(q, parent->op == MATCH_AND ? parent : add(q, parent, MATCH_AND, NULL, f.value), f, error);
        else if (strcmp(f.key, "$or") == 0)
            ok = compile_list(q, add(q, parent, MATCH_OR, NULL, f.value), f, error);
        else if (strcmp(f.key, "$nor") == 0)
            ok = compile_list(q, add(q, parent, MATCH_NOR, NULL, f.value), f, error);
        else if (strcmp(f.key, "$expr") == 0)
            ok = add(q, parent, MATCH_EXPR, NULL, f.value) && expression_check(f.value, q->let, error);
        else if (strcmp(f.key, "$comment") == 0)
            ok = true;
        else
            ok = error_set(error, 2, "unknown top level operator: %s. If you have a field name that starts with a '$' "
                                     "symbol, consider using $getField or $setField.", f.key);
        if (!ok)
            return false;
    }
    return true;
}

static void query_begin(struct query *q, struct arena *arena, struct value let)
{
    *q = (struct query){.arena = arena, .let = let, .root = arena_get(arena, sizeof *q->root)};
    q->root->op = MATCH_AND;
}

bool query_compile(struct query *q, struct arena *arena, struct value filter, struct value let, struct error *error)
{
    query_begin(q, arena, let);
    return compile_filter(q, q->root, filter, error);
}

bool query_compile_condition(struct query *q, struct arena *arena, struct value condition, struct error *error)
{
    query_begin(q, arena, (struct value){0});
    if (condition.type == BSON_TYPE_DOCUMENT && !is_operators(condition))
        return compile_filter(q, q->root, condition, error);
    return compile_field(q, q->root, NULL, condition, error);
}

void query_free(struct query *q)
{
    for (struct match *m = q->regexes; m; m = m->next_regex)
        pcre2_code_free(m->regex);
    q->regexes = NULL;
}
