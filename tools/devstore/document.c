/* Memory, and building and walking raw BSON. */
#include "value.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK = 4096 };

struct arena_block {
    struct arena_block *next;
    size_t used, capacity;
    _Alignas(16) uint8_t bytes[];
};

void *reallocate(void *old, size_t size)
{
    void *p = realloc(old, size ? size : 1);
    if (!p) {
        fputs("waybill-devstore: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *allocate(size_t size)
{
    return reallocate(NULL, size);
}

void *arena_get(struct arena *arena, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    struct arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < size) {
        size_t capacity = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        block = allocate(sizeof *block + capacity);
        *block = (struct arena_block){.next = arena->blocks, .capacity = capacity};
        arena->blocks = block;
    }
    void *p = block->bytes + block->used;
    block->used += size;
    return memset(p, 0, size);
}

char *arena_string(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_get(arena, length + 1);
    memcpy(copy, text, length);
    return copy;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

static uint8_t *buffer_grow(struct buffer *buffer, size_t size)
{
    if (buffer->capacity - buffer->size < size) {
        size_t capacity = buffer->capacity ? buffer->capacity * 2 : 256;
        while (capacity - buffer->size < size)
            capacity *= 2;
        buffer->data = reallocate(buffer->data, capacity);
        buffer->capacity = capacity;
    }
    buffer->size += size;
    return buffer->data + buffer->size - size;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size)
        memcpy(buffer_grow(buffer, size), data, size);
}

void buffer_byte(struct buffer *buffer, unsigned byte)
{
    *buffer_grow(buffer, 1) = (uint8_t)byte;
}

void buffer_print(struct buffer *buffer, const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (n > 0)
        buffer_append(buffer, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

bool error_set(struct error *error, int code, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error->message, sizeof error->message, format, list);
    va_end(list);
    error->code = code;
    error->details.size = 0;
    return false;
}

void error_clear(struct error *error)
{
    error->code = 0;
    buffer_free(&error->details);
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return BSON_UINT32_FROM_LE(n);
}

/* Bytes of a value, from its first ones; only for checked documents. */
static uint32_t value_size(bson_type_t type, const uint8_t *at)
{
    switch (type) {
    case BSON_TYPE_DOUBLE: case BSON_TYPE_DATE_TIME: case BSON_TYPE_TIMESTAMP: case BSON_TYPE_INT64: return 8;
    case BSON_TYPE_INT32: return 4;
    case BSON_TYPE_BOOL: return 1;
    case BSON_TYPE_OID: return 12;
    case BSON_TYPE_DECIMAL128: return 16;
    case BSON_TYPE_UTF8: case BSON_TYPE_CODE: case BSON_TYPE_SYMBOL: return 4 + load32(at);
    case BSON_TYPE_DOCUMENT: case BSON_TYPE_ARRAY: case BSON_TYPE_CODEWSCOPE: return load32(at);
    case BSON_TYPE_BINARY: return 5 + load32(at);
    case BSON_TYPE_DBPOINTER: return 4 + load32(at) + 12;
    case BSON_TYPE_REGEX: {
        size_t pattern = strlen((const char *)at) + 1;
        return (uint32_t)(pattern + strlen((const char *)at + pattern) + 1);
    }
    default: return 0; /* null, undefined, MinKey, MaxKey */
    }
}

static bool string_check(const uint8_t *at, size_t left)
{
    uint32_t n = left >= 5 ? load32(at) : 0;
    return n >= 1 && n <= left - 4 && at[3 + n] == 0;
}

/* The same from a stranger: says no, instead of running over the end. */
static bool value_check(bson_type_t type, const uint8_t *at, size_t left, unsigned depth)
{
    switch (type) {
    case BSON_TYPE_NULL: case BSON_TYPE_UNDEFINED: case BSON_TYPE_MINKEY: case BSON_TYPE_MAXKEY: return true;
    case BSON_TYPE_UTF8: case BSON_TYPE_CODE: case BSON_TYPE_SYMBOL: return string_check(at, left);
    case BSON_TYPE_DOCUMENT: case BSON_TYPE_ARRAY: return depth > 0 && document_check(at, left, depth - 1);
    case BSON_TYPE_BINARY: return left >= 5 && load32(at) <= left - 5;
    case BSON_TYPE_DBPOINTER: return string_check(at, left) && left - 4 - load32(at) >= 12;
    case BSON_TYPE_REGEX: {
        const uint8_t *end = memchr(at, 0, left);
        return end && memchr(end + 1, 0, left - (size_t)(end + 1 - at));
    }
    case BSON_TYPE_CODEWSCOPE: {
        if (left < 14 || load32(at) < 14 || load32(at) > left || !string_check(at + 4, load32(at) - 4) || depth == 0)
            return false;
        uint32_t code = 8 + load32(at + 4);
        return document_check(at + code, load32(at) - code, depth - 1);
    }
    case BSON_TYPE_BOOL: return left >= 1 && at[0] <= 1;
    case BSON_TYPE_DOUBLE: case BSON_TYPE_DATE_TIME: case BSON_TYPE_TIMESTAMP: case BSON_TYPE_INT64:
    case BSON_TYPE_INT32: case BSON_TYPE_OID: case BSON_TYPE_DECIMAL128: return left >= value_size(type, at);
    default: return false;
    }
}

bool document_check(const uint8_t *data, size_t available, unsigned depth)
{
    if (available < 5 || load32(data) < 5 || load32(data) > available || data[load32(data) - 1] != 0)
        return false;
    const uint8_t *at = data + 4, *end = data + load32(data) - 1;
    while (at < end) {
        bson_type_t type = (bson_type_t)*at++;
        const uint8_t *key_end = memchr(at, 0, (size_t)(end - at));
        if (!key_end || !value_check(type, key_end + 1, (size_t)(end - key_end - 1), depth))
            return false;
        at = key_end + 1 + value_size(type, key_end + 1);
    }
    return at == end;
}

struct value document_view(const uint8_t *data)
{
    return (struct value){.type = BSON_TYPE_DOCUMENT, .size = load32(data), .data = data};
}

bool value_is_container(struct value value)
{
    return value.type == BSON_TYPE_DOCUMENT || value.type == BSON_TYPE_ARRAY;
}

struct fields fields_of(struct value document)
{
    static const uint8_t none[8] = {0};
    return (struct fields){.at = value_is_container(document) ? document.data + 4 : none};
}

bool fields_next(struct fields *fields, struct field *field)
{
    const uint8_t *at = fields->at;
    if (*at == 0)
        return false;
    field->value.type = (bson_type_t)*at;
    field->key = (const char *)at + 1;
    field->value.data = at + 1 + strlen(field->key) + 1;
    field->value.size = value_size(field->value.type, field->value.data);
    fields->at = field->value.data + field->value.size;
    return true;
}

struct value document_get_part(struct value document, const char *key, size_t length)
{
    struct field field;
    for (struct fields it = fields_of(document); fields_next(&it, &field);)
        if (strncmp(field.key, key, length) == 0 && field.key[length] == 0)
            return field.value;
    return (struct value){0};
}

struct value document_get(struct value document, const char *key)
{
    return document_get_part(document, key, strlen(key));
}

struct value document_path(struct value document, const char *path)
{
    while (document.type) {
        size_t n = strcspn(path, ".");
        document = document_get_part(document, path, n);
        if (!path[n])
            break;
        path += n + 1;
    }
    return document;
}

bool document_is_empty(struct value document)
{
    return *fields_of(document).at == 0;
}

unsigned value_depth(struct value value)
{
    unsigned deepest = 0;
    struct field field;
    for (struct fields it = fields_of(value); fields_next(&it, &field);) {
        unsigned depth = value_is_container(field.value) ? value_depth(field.value) : 0;
        deepest = depth > deepest ? depth : deepest;
    }
    return value_is_container(value) ? deepest + 1 : 0;
}

size_t document_open(struct buffer *buffer)
{
    buffer_grow(buffer, 4);
    return buffer->size - 4;
}

void document_close(struct buffer *buffer, size_t mark)
{
    buffer_byte(buffer, 0);
    uint32_t size = BSON_UINT32_TO_LE((uint32_t)(buffer->size - mark));
    memcpy(buffer->data + mark, &size, sizeof size);
}

void put_head(struct buffer *buffer, const char *key, size_t length, bson_type_t type)
{
    uint8_t *at = buffer_grow(buffer, length + 2);
    at[0] = (uint8_t)type;
    memcpy(at + 1, key, length);
    at[length + 1] = 0;
}

size_t put_open(struct buffer *buffer, const char *key, bson_type_t type)
{
    put_head(buffer, key, strlen(key), type);
    return document_open(buffer);
}

static void put_raw(struct buffer *buffer, const char *key, bson_type_t type, const void *data, size_t size)
{
    put_head(buffer, key, strlen(key), type);
    buffer_append(buffer, data, size);
}

void put_value(struct buffer *buffer, const char *key, struct value value)
{
    if (value.type)
        put_raw(buffer, key, value.type, value.data, value.size);
}

void put_item(struct buffer *buffer, size_t index, struct value value)
{
    char key[24];
    snprintf(key, sizeof key, "%zu", index);
    put_value(buffer, key, value);
}

static void put_eight(struct buffer *buffer, const char *key, bson_type_t type, uint64_t bits)
{
    bits = BSON_UINT64_TO_LE(bits);
    put_raw(buffer, key, type, &bits, 8);
}

void put_double(struct buffer *buffer, const char *key, double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    put_eight(buffer, key, BSON_TYPE_DOUBLE, bits);
}

void put_int32(struct buffer *buffer, const char *key, int32_t number)
{
    uint32_t bits = BSON_UINT32_TO_LE((uint32_t)number);
    put_raw(buffer, key, BSON_TYPE_INT32, &bits, 4);
}

void put_int64(struct buffer *buffer, const char *key, int64_t number)
{
    put_eight(buffer, key, BSON_TYPE_INT64, (uint64_t)number);
}

void put_date(struct buffer *buffer, const char *key, int64_t milliseconds)
{
    put_eight(buffer, key, BSON_TYPE_DATE_TIME, (uint64_t)milliseconds);
}

void put_bool(struct buffer *buffer, const char *key, bool truth)
{
    put_raw(buffer, key, BSON_TYPE_BOOL, truth ? "\1" : "\0", 1);
}

void put_string(struct buffer *buffer, const char *key, const char *text)
{
    uint32_t size = (uint32_t)strlen(text) + 1, le = BSON_UINT32_TO_LE(size);
    put_raw(buffer, key, BSON_TYPE_UTF8, &le, 4);
    buffer_append(buffer, text, size);
}

void put_null(struct buffer *buffer, const char *key)
{
    put_raw(buffer, key, BSON_TYPE_NULL, NULL, 0);
}

void put_new_id(struct buffer *buffer)
{
    bson_oid_t oid;
    bson_oid_init(&oid, NULL);
    put_raw(buffer, "_id", BSON_TYPE_OID, oid.bytes, sizeof oid.bytes);
}

void put_number(struct buffer *buffer, const char *key, int64_t number)
{
    if (number >= INT32_MIN && number <= INT32_MAX)
        put_int32(buffer, key, (int32_t)number);
    else
        put_int64(buffer, key, number);
}

struct value buffer_document(const struct buffer *buffer)
{
    return document_view(buffer->data);
}

struct value value_copy(struct arena *arena, struct value value)
{
    if (value.size) {
        uint8_t *copy = arena_get(arena, value.size);
        memcpy(copy, value.data, value.size);
        value.data = copy;
    }
    return value;
}
