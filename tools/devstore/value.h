/*
 * value.h - BSON as the development store sees it: views of values, building documents, order, keys.
 *
 * Purpose: documents stay raw bytes from the socket to SQLite and back; a `struct value` is a view of a part of them.
 * Users: every other part. Depends on: libbson (type numbers, ObjectId, decimal128).
 *
 * Bytes must have passed document_check() once, at the door; everything after it walks without looking at bounds.
 */
#ifndef DEVSTORE_VALUE_H
#define DEVSTORE_VALUE_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DOCUMENT_BYTES (16 * 1024 * 1024)
#define MAX_DOCUMENT_DEPTH 100 /* of what is stored */
#define MAX_REQUEST_DEPTH 200  /* of a command around it */

struct value {
    bson_type_t type; /* BSON_TYPE_EOD: no such value */
    uint32_t size;
    const uint8_t *data;
};

struct field {
    const char *key;
    struct value value;
};

struct fields {
    const uint8_t *at;
};

struct buffer {
    uint8_t *data;
    size_t size, capacity;
};

/* Everything that lives as long as one request (or one cursor) comes from an arena and goes with it. */
struct arena {
    struct arena_block *blocks;
};

struct error {
    int code;
    char message[768];
    struct buffer details; /* further fields of the answer, as raw elements (keyPattern, keyValue) */
};

/* Memory. Running out of it ends the process: what was acknowledged is on disk. */
void *allocate(size_t size);
void *reallocate(void *old, size_t size);
void *arena_get(struct arena *arena, size_t size); /* zeroed */
char *arena_string(struct arena *arena, const char *text, size_t length);
void arena_free(struct arena *arena);
void buffer_append(struct buffer *buffer, const void *data, size_t size);
void buffer_byte(struct buffer *buffer, unsigned byte);
void buffer_print(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_free(struct buffer *buffer);

/* Errors carry MongoDB's codes. error_set always returns false, so that a failing function can end with it. */
bool error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void error_clear(struct error *error);

/* Reading. */
bool document_check(const uint8_t *data, size_t available, unsigned depth);
struct value document_view(const uint8_t *data);
struct fields fields_of(struct value document); /* of anything but a document or an array: no fields */
bool fields_next(struct fields *fields, struct field *field);
struct value document_get(struct value document, const char *key);
struct value document_get_part(struct value document, const char *key, size_t length);
struct value document_path(struct value document, const char *path); /* dotted, no array traversal */
bool document_is_empty(struct value document);
unsigned value_depth(struct value value);
bool value_is_number(struct value value);
bool value_is_container(struct value value);
bool value_to_int64(struct value value, int64_t *out); /* a number without a fraction */
bool value_to_integer(struct value value, int64_t *out); /* cuts a fraction off; not NaN or out of range */
double value_to_double(struct value value);
bool value_truth(struct value value);
const char *value_text(struct value value); /* of a string, else NULL */
int64_t value_int64(struct value value);    /* the eight bytes of an int64, a date or a timestamp */
const char *value_type_name(struct value value);

/* Appends each struct value that an index on the path would hold: the elements of arrays; EOD when missing. */
void value_collect(struct value document, const char *path, struct buffer *values);

/* Building. open returns a mark for close; put_* append one element. */
size_t document_open(struct buffer *buffer);
void document_close(struct buffer *buffer, size_t mark);
size_t put_open(struct buffer *buffer, const char *key, bson_type_t type);
void put_head(struct buffer *buffer, const char *key, size_t length, bson_type_t type);
void put_value(struct buffer *buffer, const char *key, struct value value);
void put_item(struct buffer *buffer, size_t index, struct value value); /* of an array */
void put_double(struct buffer *buffer, const char *key, double number);
void put_int32(struct buffer *buffer, const char *key, int32_t number);
void put_int64(struct buffer *buffer, const char *key, int64_t number);
void put_date(struct buffer *buffer, const char *key, int64_t milliseconds);
void put_bool(struct buffer *buffer, const char *key, bool truth);
void put_string(struct buffer *buffer, const char *key, const char *text);
void put_null(struct buffer *buffer, const char *key);
void put_new_id(struct buffer *buffer);
void put_number(struct buffer *buffer, const char *key, int64_t number); /* int32 when it fits */
struct value buffer_document(const struct buffer *buffer);
struct value value_copy(struct arena *arena, struct value value);

/* Order, as MongoDB's manual gives it. */
int value_rank(bson_type_t type);
int value_compare(struct value a, struct value b);
int value_order(const void *a, const void *b); /* value_compare for qsort and bsearch */
int bytes_compare(const void *a, size_t a_size, const void *b, size_t b_size);
bool value_is_nan(struct value value);
/* An encoding whose memcmp order is value_compare's order; no key is a prefix of another. */
void key_append(struct buffer *buffer, struct value value, bool descending);
/* As MongoDB's messages show values: { a: 1, b: "x" } */
void value_print(struct buffer *out, struct value value);

#endif
