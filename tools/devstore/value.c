/* What values mean: conversions, order, and keys that sort in that order. */
#include "value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t load64(const uint8_t *at)
{
    uint64_t n;
    memcpy(&n, at, sizeof n);
    return BSON_UINT64_FROM_LE(n);
}

int64_t value_int64(struct value value)
{
    return (int64_t)load64(value.data);
}

static int32_t value_int32(struct value value)
{
    uint32_t n;
    memcpy(&n, value.data, sizeof n);
    return (int32_t)BSON_UINT32_FROM_LE(n);
}

bool value_is_number(struct value value)
{
    return value_rank(value.type) == value_rank(BSON_TYPE_INT32);
}

static void decimal_text(struct value value, char text[BSON_DECIMAL128_STRING])
{
    bson_decimal128_t decimal = {.low = load64(value.data), .high = load64(value.data + 8)};
    bson_decimal128_to_string(&decimal, text);
}

/* 113 bits hold the 34 digits of a decimal128 well enough to order them. */
static _Float128 value_wide(struct value value)
{
    if (value.type == BSON_TYPE_INT64)
        return (_Float128)value_int64(value);
    if (value.type != BSON_TYPE_DECIMAL128)
        return (_Float128)value_to_double(value);
    char text[BSON_DECIMAL128_STRING];
    decimal_text(value, text);
    return strtof128(text, NULL);
}

double value_to_double(struct value value)
{
    switch (value.type) {
    case BSON_TYPE_INT32: return value_int32(value);
    case BSON_TYPE_INT64: return (double)value_int64(value);
    case BSON_TYPE_DECIMAL128: return (double)value_wide(value);
    case BSON_TYPE_DOUBLE: {
        uint64_t bits = load64(value.data);
        double number;
        memcpy(&number, &bits, sizeof number);
        return number;
    }
    default: return 0;
    }
}

bool value_to_integer(struct value value, int64_t *out)
{
    if (value.type == BSON_TYPE_INT32)
        *out = value_int32(value);
    else if (value.type == BSON_TYPE_INT64)
        *out = value_int64(value);
    else {
        double number = value_to_double(value);
        if (!value_is_number(value) || !(number >= -0x1p63 && number < 0x1p63))
            return false;
        *out = (int64_t)number;
    }
    return true;
}

bool value_to_int64(struct value value, int64_t *out)
{
    return value_to_integer(value, out) &&
           (value.type == BSON_TYPE_INT32 || value.type == BSON_TYPE_INT64 || (double)*out == value_to_double(value));
}

bool value_is_nan(struct value value)
{
    return (value.type == BSON_TYPE_DOUBLE || value.type == BSON_TYPE_DECIMAL128) && isnan(value_to_double(value));
}

bool value_truth(struct value value)
{
    if (value.type == BSON_TYPE_BOOL)
        return value.data[0] != 0;
    if (value_is_number(value))
        return value_to_double(value) != 0;
    return value.type != BSON_TYPE_EOD && value.type != BSON_TYPE_NULL && value.type != BSON_TYPE_UNDEFINED;
}

const char *value_text(struct value value)
{
    return value.type == BSON_TYPE_UTF8 ? (const char *)value.data + 4 : NULL;
}

const char *value_type_name(struct value value)
{
    static const char *const names[] = {
        "missing", "double", "string", "object", "array", "binData", "undefined", "objectId", "bool", "date", "null",
        "regex", "dbPointer", "javascript", "symbol", "javascriptWithScope", "int", "timestamp", "long", "decimal"};
    if (value.type == BSON_TYPE_MINKEY)
        return "minKey";
    return value.type == BSON_TYPE_MAXKEY ? "maxKey" : names[value.type];
}

int value_rank(bson_type_t type)
{
    switch (type) {
    case BSON_TYPE_MINKEY: return 1;
    case BSON_TYPE_EOD: case BSON_TYPE_UNDEFINED: return 2;
    case BSON_TYPE_NULL: return 5;
    case BSON_TYPE_DOUBLE: case BSON_TYPE_INT32: case BSON_TYPE_INT64: case BSON_TYPE_DECIMAL128: return 10;
    case BSON_TYPE_UTF8: case BSON_TYPE_SYMBOL: return 15;
    case BSON_TYPE_DOCUMENT: return 20;
    case BSON_TYPE_ARRAY: return 25;
    case BSON_TYPE_BINARY: return 30;
    case BSON_TYPE_OID: return 35;
    case BSON_TYPE_BOOL: return 40;
    case BSON_TYPE_DATE_TIME: return 45;
    case BSON_TYPE_TIMESTAMP: return 47;
    case BSON_TYPE_REGEX: return 50;
    case BSON_TYPE_DBPOINTER: return 55;
    case BSON_TYPE_CODE: return 60;
    case BSON_TYPE_CODEWSCOPE: return 65;
    default: return 127;
    }
}

static int sign(bool less, bool greater)
{
    return (int)greater - (int)less;
}

/* Exact: a 64-bit integer never goes through a double. */
static int compare_int_double(int64_t i, double d)
{
    if (isnan(d) || d < -0x1p63)
        return 1;
    if (d >= 0x1p63)
        return -1;
    int64_t whole = (int64_t)d;
    return i != whole ? sign(i < whole, i > whole) : sign(d > (double)whole, d < (double)whole);
}

static int compare_doubles(_Float128 x, _Float128 y)
{
    if (x != x || y != y)
        return sign(x != x && y == y, x == x && y != y); /* NaN is the lowest number */
    return sign(x < y, x > y);
}

static int compare_numbers(struct value a, struct value b)
{
    if (a.type == BSON_TYPE_DECIMAL128 || b.type == BSON_TYPE_DECIMAL128)
        return compare_doubles(value_wide(a), value_wide(b));
    if (a.type == BSON_TYPE_DOUBLE && b.type == BSON_TYPE_DOUBLE)
        return compare_doubles((_Float128)value_to_double(a), (_Float128)value_to_double(b));
    int64_t x = 0, y = 0;
    if (a.type == BSON_TYPE_DOUBLE)
        return value_to_int64(b, &y) ? -compare_int_double(y, value_to_double(a)) : 0;
    value_to_int64(a, &x);
    if (b.type == BSON_TYPE_DOUBLE)
        return compare_int_double(x, value_to_double(b));
    value_to_int64(b, &y);
    return sign(x < y, x > y);
}

int bytes_compare(const void *a, size_t a_size, const void *b, size_t b_size)
{
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common ? memcmp(a, b, common) : 0; /* what has no size may have no address */
    return order ? order : sign(a_size < b_size, a_size > b_size);
}

static int compare_bytes(struct value a, struct value b)
{
    return bytes_compare(a.data, a.size, b.data, b.size);
}

static int compare_containers(struct value a, struct value b)
{
    struct fields x = fields_of(a), y = fields_of(b);
    struct field p, q;
    for (;;) {
        bool more_a = fields_next(&x, &p), more_b = fields_next(&y, &q);
        if (!more_a || !more_b)
            return sign(more_b, more_a);
        int order = value_rank(p.value.type) - value_rank(q.value.type);
        if (!order)
            order = strcmp(p.key, q.key);
        if (!order)
            order = value_compare(p.value, q.value);
        if (order)
            return order;
    }
}

static struct value string_bytes(struct value value)
{
    return (struct value){.data = value.data + 4, .size = value.size - 5};
}

int value_compare(struct value a, struct value b)
{
    int rank = value_rank(a.type);
    if (rank != value_rank(b.type))
        return rank - value_rank(b.type);
    switch (a.type) {
    case BSON_TYPE_DOUBLE: case BSON_TYPE_INT32: case BSON_TYPE_INT64: case BSON_TYPE_DECIMAL128:
        return compare_numbers(a, b);
    case BSON_TYPE_UTF8: case BSON_TYPE_SYMBOL: case BSON_TYPE_CODE:
        return compare_bytes(string_bytes(a), string_bytes(b));
    case BSON_TYPE_DOCUMENT: case BSON_TYPE_ARRAY: return compare_containers(a, b);
    case BSON_TYPE_BINARY: /* length first, then subtype and bytes */
        return a.size != b.size ? sign(a.size < b.size, a.size > b.size) : memcmp(a.data + 4, b.data + 4, a.size - 4);
    case BSON_TYPE_DATE_TIME: return sign(value_int64(a) < value_int64(b), value_int64(a) > value_int64(b));
    case BSON_TYPE_TIMESTAMP: return sign(load64(a.data) < load64(b.data), load64(a.data) > load64(b.data));
    default: return compare_bytes(a, b);
    }
}

int value_order(const void *a, const void *b)
{
    return value_compare(*(const struct value *)a, *(const struct value *)b);
}

static void key_big_endian(struct buffer *out, uint64_t number, unsigned bytes)
{
    while (bytes-- > 0)
        buffer_byte(out, (unsigned)(number >> (8 * bytes)) & 0xff);
}

/* NUL bytes are escaped, so that the end mark sorts before any longer text. */
static void key_text(struct buffer *out, const uint8_t *at, size_t size)
{
    while (size > 0) {
        const uint8_t *nul = memchr(at, 0, size);
        size_t run = nul ? (size_t)(nul - at) : size;
        buffer_append(out, at, run);
        if (nul) {
            buffer_append(out, "\0\xff", 2);
            run++;
        }
        at += run;
        size -= run;
    }
    buffer_append(out, "\0\0", 2);
}

/* The largest double that is not above the number, then how far above it the number is, in parts of the gap to the
 * next double: 1, 1L and 1.0 get one key, and 2^53 + 1 its own. */
static void key_number(struct buffer *out, struct value value)
{
    double base = value_to_double(value);
    uint64_t bits = 0, above = 0;
    int64_t whole;
    if (value.type == BSON_TYPE_INT64) {
        whole = value_int64(value);
        if (base >= 0x1p63 || (int64_t)base > whole)
            base = nextafter(base, -INFINITY);
        double gap = nextafter(base, INFINITY) - base;
        if (gap >= 1)
            above = ((uint64_t)(whole - (int64_t)base) << 48) / (uint64_t)gap;
    } else if (value.type == BSON_TYPE_DECIMAL128 && isfinite(base)) {
        _Float128 wide = value_wide(value);
        if ((_Float128)base > wide)
            base = nextafter(base, -INFINITY);
        _Float128 gap = (_Float128)nextafter(base, INFINITY) - (_Float128)base;
        above = (uint64_t)((wide - (_Float128)base) / gap * 0x1p48f128);
    }
    if (base == 0)
        base = 0; /* -0.0 equals 0.0 */
    memcpy(&bits, &base, sizeof bits);
    bits = isnan(base) ? 0 : bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
    key_big_endian(out, bits, 8);
    buffer_byte(out, above != 0);
    if (above)
        key_big_endian(out, above, 7);
}

static void key_payload(struct buffer *out, struct value value);

static void key_container(struct buffer *out, struct value value)
{
    struct field field;
    for (struct fields it = fields_of(value); fields_next(&it, &field);) {
        buffer_byte(out, (unsigned)value_rank(field.value.type));
        if (value.type == BSON_TYPE_DOCUMENT)
            buffer_append(out, field.key, strlen(field.key) + 1);
        key_payload(out, field.value);
    }
    buffer_byte(out, 0);
}

static void key_payload(struct buffer *out, struct value value)
{
    switch (value.type) {
    case BSON_TYPE_DOUBLE: case BSON_TYPE_INT32: case BSON_TYPE_INT64: case BSON_TYPE_DECIMAL128:
        key_number(out, value);
        break;
    case BSON_TYPE_UTF8: case BSON_TYPE_SYMBOL: case BSON_TYPE_CODE:
        key_text(out, value.data + 4, value.size - 5);
        break;
    case BSON_TYPE_DOCUMENT: case BSON_TYPE_ARRAY:
        key_container(out, value);
        break;
    case BSON_TYPE_BINARY:
        key_big_endian(out, value.size, 4);
        buffer_append(out, value.data + 4, value.size - 4);
        break;
    case BSON_TYPE_DATE_TIME:
        key_big_endian(out, load64(value.data) ^ (uint64_t)1 << 63, 8);
        break;
    case BSON_TYPE_TIMESTAMP:
        key_big_endian(out, load64(value.data), 8);
        break;
    case BSON_TYPE_OID: case BSON_TYPE_BOOL:
        buffer_append(out, value.data, value.size);
        break;
    default:
        key_text(out, value.data, value.size);
    }
}

void key_append(struct buffer *out, struct value value, bool descending)
{
    size_t start = out->size;
    buffer_byte(out, (unsigned)value_rank(value.type));
    key_payload(out, value);
    if (descending)
        for (size_t i = start; i < out->size; i++)
            out->data[i] = (uint8_t)~out->data[i];
}

static void print_container(struct buffer *out, struct value value)
{
    bool array = value.type == BSON_TYPE_ARRAY;
    const char *separator = " ";
    struct field field;
    buffer_print(out, array ? "[" : "{");
    for (struct fields it = fields_of(value); fields_next(&it, &field); separator = ", ") {
        if (array)
            buffer_print(out, "%s", separator);
        else
            buffer_print(out, "%s%.200s: ", separator, field.key);
        value_print(out, field.value);
    }
    buffer_print(out, array ? " ]" : " }");
}

void value_print(struct buffer *out, struct value value)
{
    char text[BSON_DECIMAL128_STRING];
    switch (value.type) {
    case BSON_TYPE_DOUBLE: {
        double number = value_to_double(value);
        buffer_print(out, floor(number) == number && fabs(number) < 1e15 ? "%.1f" : "%.17g", number);
        break;
    }
    case BSON_TYPE_INT32: case BSON_TYPE_INT64: {
        int64_t number = 0;
        value_to_int64(value, &number);
        buffer_print(out, "%lld", (long long)number);
        break;
    }
    case BSON_TYPE_DECIMAL128:
        decimal_text(value, text);
        buffer_print(out, "%s", text);
        break;
    case BSON_TYPE_UTF8: buffer_print(out, "\"%.300s\"", value_text(value)); break;
    case BSON_TYPE_DOCUMENT: case BSON_TYPE_ARRAY: print_container(out, value); break;
    case BSON_TYPE_BOOL: buffer_print(out, value.data[0] ? "true" : "false"); break;
    case BSON_TYPE_DATE_TIME: buffer_print(out, "new Date(%lld)", (long long)value_int64(value)); break;
    case BSON_TYPE_OID:
        buffer_print(out, "ObjectId('");
        for (unsigned i = 0; i < 12; i++)
            buffer_print(out, "%02x", value.data[i]);
        buffer_print(out, "')");
        break;
    case BSON_TYPE_NULL: buffer_print(out, "null"); break;
    default: buffer_print(out, "%s", value_type_name(value));
    }
}

static void collect_leaf(struct value v, struct buffer *values)
{
    struct field element;
    if (v.type != BSON_TYPE_ARRAY)
        buffer_append(values, &v, sizeof v);
    else if (document_is_empty(v))
        buffer_append(values, &(struct value){.type = BSON_TYPE_UNDEFINED, .data = v.data}, sizeof v);
    for (struct fields it = fields_of(v); v.type == BSON_TYPE_ARRAY && fields_next(&it, &element);)
        buffer_append(values, &element.value, sizeof element.value);
}

void value_collect(struct value document, const char *path, struct buffer *values)
{
    size_t length = strcspn(path, "."), before = values->size;
    struct value child = document_get_part(document, path, length);
    if (!path[length]) {
        collect_leaf(child, values);
        return;
    }
    struct field element;
    if (child.type == BSON_TYPE_ARRAY) {
        for (struct fields it = fields_of(child); fields_next(&it, &element);)
            if (element.value.type == BSON_TYPE_DOCUMENT)
                value_collect(element.value, path + length + 1, values);
        if (document_get_part(child, path + length + 1, strcspn(path + length + 1, ".")).type)
            value_collect(child, path + length + 1, values);
    } else {
        value_collect(child, path + length + 1, values);
    }
    if (values->size == before) /* an array with no document in it */
        buffer_append(values, &(struct value){0}, sizeof child);
}
