/* Aggregation expressions, evaluated as they are written. */
#include "expression.h"

#include <string.h>

static const char *const comparisons[] = {"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"};

static int comparison_of(const char *name)
{
    for (int i = 0; i < 6; i++)
        if (strcmp(name, comparisons[i]) == 0)
            return i;
    return -1;
}

static bool check_operator(struct field op, struct value let, struct error *error)
{
    struct field arg;
    size_t count = 0;
    if (strcmp(op.key, "$literal") == 0)
        return true;
    bool comparison = comparison_of(op.key) >= 0;
    if (!comparison && strcmp(op.key, "$and") && strcmp(op.key, "$or") && strcmp(op.key, "$not"))
        return error_set(error, 168, "Unrecognized expression '%s'", op.key);
    if (op.value.type != BSON_TYPE_ARRAY)
        return comparison ? error_set(error, 16020, "Expression %s takes exactly 2 arguments. 1 were passed in.", op.key)
                          : expression_check(op.value, let, error);
    for (struct fields it = fields_of(op.value); fields_next(&it, &arg); count++)
        if (!expression_check(arg.value, let, error))
            return false;
    return !comparison || count == 2 ||
           error_set(error, 16020, "Expression %s takes exactly 2 arguments. %zu were passed in.", op.key, count);
}

static bool check_variable(const char *name, struct value let, struct error *error)
{
    size_t length = strcspn(name, ".");
    if (document_get_part(let, name, length).type || (length == 4 && strncmp(name, "ROOT", 4) == 0) ||
        (length == 7 && strncmp(name, "CURRENT", 7) == 0))
        return true;
    return error_set(error, 17276, "Use of undefined variable: %.*s", (int)length, name);
}

bool expression_check(struct value expression, struct value let, struct error *error)
{
    const char *text = value_text(expression);
    if (text && text[0] == '$' && text[1] == '$')
        return check_variable(text + 2, let, error);
    if (text && strcmp(text, "$") == 0)
        return error_set(error, 16872, "'$' by itself is not a valid FieldPath");
    struct field field;
    for (struct fields it = fields_of(expression); fields_next(&it, &field);)
        if (field.key[0] == '$' ? !check_operator(field, let, error) : !expression_check(field.value, let, error))
            return false;
    return true;
}

/* A path through an array yields the array of what it finds in the elements. */
static struct value path_value(struct value from, const char *path, struct arena *arena)
{
    size_t length = strcspn(path, ".");
    struct value child = document_get_part(from, path, length);
    if (from.type != BSON_TYPE_DOCUMENT)
        return (struct value){0};
    if (!path[length])
        return child;
    if (child.type != BSON_TYPE_ARRAY)
        return path_value(child, path + length + 1, arena);
    struct buffer list = {0};
    struct field element;
    size_t count = 0, mark = document_open(&list);
    for (struct fields it = fields_of(child); fields_next(&it, &element);) {
        struct value found = path_value(element.value, path + length + 1, arena);
        if (found.type)
            put_item(&list, count++, found);
    }
    document_close(&list, mark);
    struct value result = buffer_document(&list);
    result.type = BSON_TYPE_ARRAY;
    result = value_copy(arena, result);
    buffer_free(&list);
    return result;
}

static struct value variable(const char *name, struct value document, struct value let, struct arena *arena)
{
    size_t length = strcspn(name, ".");
    struct value found = document_get_part(let, name, length);
    if (!found.type)
        found = document;
    return name[length] ? path_value(found, name + length + 1, arena) : found;
}

static bool apply(struct field op, struct value document, struct value let, struct arena *arena)
{
    int comparison = comparison_of(op.key);
    if (comparison >= 0) {
        int order = value_compare(expression_evaluate(document_get(op.value, "0"), document, let, arena),
                                  expression_evaluate(document_get(op.value, "1"), document, let, arena));
        bool results[] = {order == 0, order != 0, order > 0, order >= 0, order < 0, order <= 0};
        return results[comparison];
    }
    bool any = false, all = true;
    struct field arg;
    if (op.value.type != BSON_TYPE_ARRAY)
        any = all = value_truth(expression_evaluate(op.value, document, let, arena));
    else
        for (struct fields it = fields_of(op.value); fields_next(&it, &arg);) {
            bool truth = value_truth(expression_evaluate(arg.value, document, let, arena));
            any = any || truth;
            all = all && truth;
        }
    return strcmp(op.key, "$or") == 0 ? any : strcmp(op.key, "$not") == 0 ? !all : all;
}

static struct value construct(struct value expression, struct value document, struct value let, struct arena *arena)
{
    struct buffer out = {0};
    struct field field;
    size_t mark = document_open(&out);
    for (struct fields it = fields_of(expression); fields_next(&it, &field);) {
        struct value item = expression_evaluate(field.value, document, let, arena);
        if (item.type)
            put_value(&out, field.key, item);
        else if (expression.type == BSON_TYPE_ARRAY)
            put_null(&out, field.key);
    }
    document_close(&out, mark);
    struct value result = buffer_document(&out);
    result.type = expression.type;
    result = value_copy(arena, result);
    buffer_free(&out);
    return result;
}

struct value expression_evaluate(struct value expression, struct value document, struct value let, struct arena *arena)
{
    static const uint8_t truths[] = {0, 1};
    const char *text = value_text(expression);
    if (text && text[0] == '$')
        return text[1] == '$' ? variable(text + 2, document, let, arena) : path_value(document, text + 1, arena);
    if (!value_is_container(expression))
        return expression;
    struct field first = {.key = ""};
    struct fields it = fields_of(expression);
    fields_next(&it, &first);
    if (first.key[0] != '$')
        return construct(expression, document, let, arena);
    if (strcmp(first.key, "$literal") == 0)
        return first.value;
    return (struct value){.type = BSON_TYPE_BOOL, .size = 1, .data = &truths[apply(first, document, let, arena)]};
}

bool expression_truth(struct value expression, struct value document, struct value let)
{
    struct arena arena = {0};
    bool truth = value_truth(expression_evaluate(expression, document, let, &arena));
    arena_free(&arena);
    return truth;
}
