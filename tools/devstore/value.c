/* Reading and comparing values. */
#include "value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (buffer->capacity - buffer->size < size) {
        buffer->capacity = buffer->capacity * 2 + size + 48;
        buffer->data = bson_realloc(buffer->data, buffer->capacity);
    }
    if (data && size)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

void buffer_append_document(struct buffer *buffer, value document)
{
    buffer_append(buffer, document.value.v_doc.data, document.value.v_doc.data_len);
}

int buffer_compare(const void *a, const void *b)
{
    const struct buffer *x = a, *y = b;
    size_t common = x->size < y->size ? x->size : y->size;
    int order = common ? memcmp(x->data, y->data, common) : 0; /* what has no size may have no address */
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

void buffer_free(struct buffer *buffer)
{
    bson_free(buffer->data);
    *buffer = (struct buffer){0};
}

bool fail(struct failure *error, int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error->message, sizeof error->message, format, list);
    va_end(list);
    error->code = code;
    return false;
}

void failure_clear(struct failure *error)
{
    bson_destroy(error->details);
    *error = (struct failure){0};
}

int32_t int32_at(const uint8_t *at)
{
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return (int32_t)BSON_UINT32_FROM_LE(number);
}

/* libbson checks each value against the end of its document; nesting without end would overflow the stack. */
bool document_check(const uint8_t *data, size_t size, unsigned depth)
{
    bson_iter_t it;
    if (depth == 0 || size < 5 || !bson_iter_init_from_data(&it, data, size))
        return false;
    while (bson_iter_next(&it)) {
        value v = *bson_iter_value(&it);
        if (is_container(v) && !document_check(v.value.v_doc.data, v.value.v_doc.data_len, depth - 1))
            return false;
        if (v.value_type == BSON_TYPE_CODEWSCOPE &&
            !document_check(v.value.v_codewscope.scope_data, v.value.v_codewscope.scope_len, depth - 1))
            return false;
    }
    return it.err_off == 0 && it.off == size - 1;
}

value document_view(const uint8_t *data)
{
    return (value){.value_type = BSON_TYPE_DOCUMENT,
                   .value.v_doc = {.data = (uint8_t *)data, .data_len = (uint32_t)int32_at(data)}};
}

value document_of(const bson_t *bson)
{
    return document_view(bson_get_data(bson));
}

bool documents_next(const struct buffer *documents, size_t *at, value *document)
{
    if (*at >= documents->size)
        return false;
    *document = document_view(documents->data + *at);
    *at += document->value.v_doc.data_len;
    return true;
}

struct fields fields_of(value container)
{
    static const uint8_t none[5] = {sizeof none};
    struct fields fields = {.key = ""};
    if (!is_container(container))
        container = document_view(none);
    bson_iter_init_from_data(&fields.iter, container.value.v_doc.data, container.value.v_doc.data_len);
    return fields;
}

bool fields_next(struct fields *fields)
{
    if (!bson_iter_next(&fields->iter))
        return false;
    fields->key = bson_iter_key(&fields->iter);
    fields->v = *bson_iter_value(&fields->iter);
    return true;
}

value document_part(value document, const char *key, size_t length)
{
    struct fields it = fields_of(document);
    return bson_iter_find_w_len(&it.iter, key, (int)length) ? *bson_iter_value(&it.iter) : (value){0};
}

value document_get(value document, const char *key)
{
    return document_part(document, key, strlen(key));
}

value document_path(value document, const char *path)
{
    size_t length = strcspn(path, ".");
    value child = document_part(document, path, length);
    return path[length] ? document_path(child, path + length + 1) : child;
}

bool document_is_empty(value document)
{
    struct fields it = fields_of(document);
    return !fields_next(&it);
}

bool is_container(value v)
{
    return v.value_type == BSON_TYPE_DOCUMENT || v.value_type == BSON_TYPE_ARRAY;
}

bool is_operators(value v)
{
    struct fields it = fields_of(v);
    const char *key = v.value_type == BSON_TYPE_DOCUMENT && fields_next(&it) ? it.key : "";
    return *key == '$' && strcmp(key, "$ref") != 0 && strcmp(key, "$id") != 0 && strcmp(key, "$db") != 0;
}

bool is_number(value v)
{
    return key_rank(v) == key_rank((value){.value_type = BSON_TYPE_INT32});
}

bool is_nan(value v)
{
    return is_number(v) && isnan(value_to_double(v));
}

/* 113 bits hold the 34 digits of a decimal128 well enough to order them. */
static _Float128 decimal(value v)
{
    char text[BSON_DECIMAL128_STRING];
    bson_decimal128_to_string(&v.value.v_decimal128, text);
    return strtof128(text, NULL);
}

double value_to_double(value v)
{
    switch (v.value_type) {
    case BSON_TYPE_INT32:
        return v.value.v_int32;
    case BSON_TYPE_INT64:
        return (double)v.value.v_int64;
    case BSON_TYPE_DOUBLE:
        return v.value.v_double;
    default:
        return v.value_type == BSON_TYPE_DECIMAL128 ? (double)decimal(v) : 0;
    }
}

bool value_to_integer(value v, int64_t *out)
{
    double number = value_to_double(v);
    if (v.value_type == BSON_TYPE_INT64)
        *out = v.value.v_int64;
    else if (is_number(v) && number >= -0x1p63 && number < 0x1p63)
        *out = (int64_t)number;
    else
        return false;
    return true;
}

bool value_to_int64(value v, int64_t *out)
{
    return value_to_integer(v, out) && (double)*out == value_to_double(v);
}

bool value_truth(value v)
{
    if (v.value_type == BSON_TYPE_BOOL)
        return v.value.v_bool;
    if (is_number(v))
        return value_to_double(v) != 0;
    return v.value_type != BSON_TYPE_EOD && v.value_type != BSON_TYPE_NULL && v.value_type != BSON_TYPE_UNDEFINED;
}

value or_null(value v)
{
    return v.value_type ? v : (value){.value_type = BSON_TYPE_NULL};
}

const char *value_text(value v)
{
    return v.value_type == BSON_TYPE_UTF8 ? v.value.v_utf8.str : NULL;
}

const char *value_type_name(value v)
{
    static const char *const names[] = {
        "missing", "double",    "string", "object", "array",     "binData",    "undefined", "objectId",
        "bool",    "date",      "null",   "regex",  "dbPointer", "javascript", "symbol",    "javascriptWithScope",
        "int",     "timestamp", "long",   "decimal"};
    if (v.value_type == BSON_TYPE_MINKEY)
        return "minKey";
    return v.value_type == BSON_TYPE_MAXKEY ? "maxKey" : names[v.value_type];
}

static void print_container(bson_string_t *out, value v)
{
    bool array = v.value_type == BSON_TYPE_ARRAY;
    const char *separator = " ";
    bson_string_append(out, array ? "[" : "{");
    for (struct fields it = fields_of(v); fields_next(&it); separator = ", ") {
        bson_string_append(out, separator);
        if (!array)
            bson_string_append_printf(out, "%.200s: ", it.key);
        value_print(out, it.v);
    }
    bson_string_append(out, array ? " ]" : " }");
}

void value_print(bson_string_t *out, value v)
{
    char text[BSON_DECIMAL128_STRING];
    double number = value_to_double(v);
    int64_t whole = 0;
    if (is_container(v)) {
        print_container(out, v);
    } else if (v.value_type == BSON_TYPE_DOUBLE) {
        bson_string_append_printf(out, floor(number) == number && fabs(number) < 1e15 ? "%.1f" : "%.17g", number);
    } else if (v.value_type == BSON_TYPE_DECIMAL128) {
        bson_decimal128_to_string(&v.value.v_decimal128, text);
        bson_string_append(out, text);
    } else if (value_to_integer(v, &whole)) {
        bson_string_append_printf(out, "%lld", (long long)whole);
    } else if (v.value_type == BSON_TYPE_UTF8) {
        bson_string_append_printf(out, "\"%.300s\"", value_text(v));
    } else if (v.value_type == BSON_TYPE_OID) {
        bson_oid_to_string(&v.value.v_oid, text);
        bson_string_append_printf(out, "ObjectId('%s')", text);
    } else if (v.value_type == BSON_TYPE_DATE_TIME) {
        bson_string_append_printf(out, "new Date(%lld)", (long long)v.value.v_datetime);
    } else if (v.value_type == BSON_TYPE_BOOL) {
        bson_string_append(out, v.value.v_bool ? "true" : "false");
    } else {
        bson_string_append(out, value_type_name(v));
    }
}

void path_values(value document, const char *path, struct buffer *values)
{
    size_t length = strcspn(path, ".");
    value child = document_part(document, path, length);
    const char *rest = path + length + 1;
    if (!path[length]) {
        buffer_append(values, &child, sizeof child);
        return;
    }
    for (struct fields it = fields_of(child); child.value_type == BSON_TYPE_ARRAY && fields_next(&it);)
        if (it.v.value_type == BSON_TYPE_DOCUMENT)
            path_values(it.v, rest, values);
    if (child.value_type != BSON_TYPE_ARRAY || document_part(child, rest, strcspn(rest, ".")).value_type)
        path_values(child, rest, values);
}

void path_elements(value document, const char *path, struct buffer *values)
{
    static const value missing = {0}, undefined = {.value_type = BSON_TYPE_UNDEFINED};
    struct buffer found = {0};
    path_values(document, path, &found);
    const value *list = (const void *)found.data;
    for (size_t i = 0; i < found.size / sizeof *list; i++) {
        if (list[i].value_type != BSON_TYPE_ARRAY)
            buffer_append(values, &list[i], sizeof *list);
        else if (document_is_empty(list[i]))
            buffer_append(values, &undefined, sizeof undefined);
        for (struct fields it = fields_of(list[i]); list[i].value_type == BSON_TYPE_ARRAY && fields_next(&it);)
            buffer_append(values, &it.v, sizeof *list);
    }
    if (!found.size)
        buffer_append(values, &missing, sizeof missing);
    buffer_free(&found);
}

uint8_t key_rank(value v)
{
    static const uint8_t ranks[] = {
        [BSON_TYPE_EOD] = 2,     [BSON_TYPE_UNDEFINED] = 2,  [BSON_TYPE_NULL] = 5,        [BSON_TYPE_DOUBLE] = 10,
        [BSON_TYPE_INT32] = 10,  [BSON_TYPE_INT64] = 10,     [BSON_TYPE_DECIMAL128] = 10, [BSON_TYPE_UTF8] = 15,
        [BSON_TYPE_SYMBOL] = 15, [BSON_TYPE_DOCUMENT] = 20,  [BSON_TYPE_ARRAY] = 25,      [BSON_TYPE_BINARY] = 30,
        [BSON_TYPE_OID] = 35,    [BSON_TYPE_BOOL] = 40,      [BSON_TYPE_DATE_TIME] = 45,  [BSON_TYPE_TIMESTAMP] = 47,
        [BSON_TYPE_REGEX] = 50,  [BSON_TYPE_DBPOINTER] = 55, [BSON_TYPE_CODE] = 60,       [BSON_TYPE_CODEWSCOPE] = 65};
    if (v.value_type == BSON_TYPE_MINKEY)
        return 1;
    return v.value_type == BSON_TYPE_MAXKEY ? 127 : ranks[v.value_type];
}

static void key_big_endian(struct buffer *key, uint64_t number, size_t bytes)
{
    number = BSON_UINT64_TO_BE(number);
    buffer_append(key, (uint8_t *)&number + sizeof number - bytes, bytes);
}

/* NUL bytes are escaped, so that the end mark sorts before any longer text. */
static void key_text(struct buffer *key, const char *text, size_t size)
{
    for (const char *nul; (nul = memchr(text, 0, size)) != NULL;) {
        buffer_append(key, text, (size_t)(nul - text));
        buffer_append(key, "\0\xff", 2);
        size -= (size_t)(nul + 1 - text);
        text = nul + 1;
    }
    buffer_append(key, text, size);
    buffer_append(key, "\0\0", 2);
}

/* The largest double that is not above the number, then how far above it the number is, in parts of the gap to the
 * next double: 1, 1L and 1.0 get one key, and 2^53 + 1 its own. */
static void key_number(struct buffer *key, value v)
{
    double base = value_to_double(v);
    uint64_t bits, above = 0;
    _Float128 exact = v.value_type == BSON_TYPE_INT64        ? (_Float128)v.value.v_int64
                      : v.value_type == BSON_TYPE_DECIMAL128 ? decimal(v)
                                                             : (_Float128)base;
    if (isfinite(base) && exact != (_Float128)base) {
        if ((_Float128)base > exact)
            base = nextafter(base, -INFINITY);
        _Float128 gap = (_Float128)nextafter(base, INFINITY) - (_Float128)base;
        above = (uint64_t)((exact - (_Float128)base) / gap * 0x1p48f128);
    }
    base += 0.0; /* -0.0 equals 0.0 */
    memcpy(&bits, &base, sizeof bits);
    key_big_endian(key, isnan(base) ? 0 : bits >> 63 ? ~bits : bits | (uint64_t)1 << 63, 8);
    key_big_endian(key, above != 0, 1);
    if (above)
        key_big_endian(key, above, 7);
}

static void key_payload(struct buffer *key, value v);

static void key_fields(struct buffer *key, value container)
{
    for (struct fields it = fields_of(container); fields_next(&it);) {
        key_big_endian(key, key_rank(it.v), 1);
        if (container.value_type == BSON_TYPE_DOCUMENT)
            buffer_append(key, it.key, strlen(it.key) + 1);
        key_payload(key, it.v);
    }
    key_big_endian(key, 0, 1);
}

static void key_payload(struct buffer *key, value v)
{
    switch (v.value_type) {
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
    case BSON_TYPE_CODE: /* libbson's views of the three are alike */
        key_text(key, v.value.v_utf8.str, v.value.v_utf8.len);
        break;
    case BSON_TYPE_CODEWSCOPE:
        key_text(key, v.value.v_codewscope.code, v.value.v_codewscope.code_len);
        key_fields(key, document_view(v.value.v_codewscope.scope_data));
        break;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        key_fields(key, v);
        break;
    case BSON_TYPE_BINARY: /* length first, then subtype and bytes */
        key_big_endian(key, v.value.v_binary.data_len, 4);
        key_big_endian(key, v.value.v_binary.subtype, 1);
        buffer_append(key, v.value.v_binary.data, v.value.v_binary.data_len);
        break;
    case BSON_TYPE_BOOL:
        key_big_endian(key, v.value.v_bool, 1);
        break;
    case BSON_TYPE_DATE_TIME:
        key_big_endian(key, (uint64_t)v.value.v_datetime ^ (uint64_t)1 << 63, 8);
        break;
    case BSON_TYPE_TIMESTAMP:
        key_big_endian(key, v.value.v_timestamp.timestamp, 4);
        key_big_endian(key, v.value.v_timestamp.increment, 4);
        break;
    case BSON_TYPE_OID:
        buffer_append(key, v.value.v_oid.bytes, sizeof v.value.v_oid.bytes);
        break;
    case BSON_TYPE_REGEX:
        key_text(key, v.value.v_regex.regex, strlen(v.value.v_regex.regex));
        key_text(key, v.value.v_regex.options, strlen(v.value.v_regex.options));
        break;
    case BSON_TYPE_DBPOINTER:
        key_text(key, v.value.v_dbpointer.collection, v.value.v_dbpointer.collection_len);
        buffer_append(key, v.value.v_dbpointer.oid.bytes, sizeof v.value.v_dbpointer.oid.bytes);
        break;
    default: /* the rest are numbers, or their rank says it all */
        if (is_number(v))
            key_number(key, v);
    }
}

void key_append(struct buffer *key, value v)
{
    key_big_endian(key, key_rank(v), 1);
    key_payload(key, v);
}

int value_compare(value a, value b)
{
    struct buffer x = {0}, y = {0};
    key_append(&x, a);
    key_append(&y, b);
    int order = buffer_compare(&x, &y);
    buffer_free(&x);
    buffer_free(&y);
    return order;
}

void open_container(bson_t *out, const char *key, bson_type_t type, bson_t *child)
{
    if (type == BSON_TYPE_ARRAY)
        bson_append_array_begin(out, key, -1, child);
    else
        bson_append_document_begin(out, key, -1, child);
}

void append_value(bson_t *out, const char *key, value v)
{
    if (v.value_type)
        bson_append_value(out, key, -1, &v);
}

void append_item(bson_t *array, size_t index, value v)
{
    char text[16];
    const char *key;
    bson_uint32_to_string((uint32_t)index, &key, text, sizeof text);
    append_value(array, key, v);
}

void append_number(bson_t *out, const char *key, int64_t number)
{
    if (number >= INT32_MIN && number <= INT32_MAX)
        bson_append_int32(out, key, -1, (int32_t)number);
    else
        bson_append_int64(out, key, -1, number);
}

void append_list(bson_t *out, const char *key, const struct buffer *values)
{
    bson_t array;
    bson_append_array_begin(out, key, -1, &array);
    for (size_t i = 0; i < values->size / sizeof(value); i++)
        append_item(&array, i, ((const value *)(const void *)values->data)[i]);
    bson_append_array_end(out, &array);
}
