/*
 * value.h - BSON as the development store sees it: reading documents, the order of values, keys that sort so.
 *
 * Documents stay raw bytes from the socket to SQLite and back; a `value` is libbson's view of a part of them.
 * Bytes from a stranger pass document_check() once, at the door. Running out of memory ends the process (libbson's
 * allocators do it): what was acknowledged is on disk.
 */
#ifndef DEVSTORE_VALUE_H
#define DEVSTORE_VALUE_H

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DOCUMENT_BYTES (16 * 1024 * 1024)
#define MAX_DOCUMENT_DEPTH 100 /* of what is stored */
#define MAX_REQUEST_DEPTH  200 /* of a command around it */

typedef bson_value_t value; /* BSON_TYPE_EOD: no such value */

/* for (struct fields it = fields_of(document); fields_next(&it);) ... it.key ... it.v ... */
struct fields {
    const char *key;
    value v;
    bson_iter_t iter;
};

struct buffer {
    uint8_t *data;
    size_t size, capacity;
};

struct failure {
    int code; /* MongoDB's */
    char message[768];
    bson_t *details; /* further fields of the answer (keyPattern, keyValue), or NULL */
};

void buffer_append(struct buffer *buffer, const void *data, size_t size); /* data NULL: room only */
void buffer_append_document(struct buffer *buffer, value document);
int buffer_compare(const void *a, const void *b); /* struct buffer: memcmp, then length */
void buffer_free(struct buffer *buffer);

/* fail always returns false, so that a failing function can end with it. */
bool fail(struct failure *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void failure_clear(struct failure *error);

/* Reading. A value that is neither a document nor an array has no fields. */
int32_t int32_at(const uint8_t *at);
bool document_check(const uint8_t *data, size_t size, unsigned depth);
value document_view(const uint8_t *data);
value document_of(const bson_t *bson);
bool documents_next(const struct buffer *documents, size_t *at, value *document); /* stored one after the other */
struct fields fields_of(value container);
bool fields_next(struct fields *fields); /* false: there was no further one */
value document_get(value document, const char *key);
value document_part(value document, const char *key, size_t length);
value document_path(value document, const char *path); /* dotted; a number is an index, arrays are not searched */
bool document_is_empty(value document);
bool is_container(value v);
bool is_operators(value v); /* a document whose first key starts with a dollar sign */
bool is_number(value v);
bool is_nan(value v);
bool value_to_int64(value v, int64_t *out);   /* a number without a fraction */
bool value_to_integer(value v, int64_t *out); /* cuts a fraction off; not NaN or out of range */
double value_to_double(value v);
bool value_truth(value v);
value or_null(value v);          /* null when it is missing */
const char *value_text(value v); /* of a string, else NULL */
const char *value_type_name(value v);
void value_print(bson_string_t *out, value v); /* as MongoDB's messages show values: { a: 1, b: "x" } */

/* Appends what is at the end of a path, searching arrays on the way; EOD where a document lacks it. */
void path_values(value document, const char *path, struct buffer *values);
/* The same with the elements of arrays instead of the arrays: what an index on the path holds, and never nothing. */
void path_elements(value document, const char *path, struct buffer *values);

/* An encoding whose memcmp order is the order of values in MongoDB's manual; no key is a prefix of another. */
void key_append(struct buffer *key, value v);
uint8_t key_rank(value v); /* its first byte: values of one rank compare with each other */
int value_compare(value a, value b);

/* Building, beyond what libbson has. A container ends with bson_append_document_end, whatever its type. */
void open_container(bson_t *out, const char *key, bson_type_t type, bson_t *child);
void append_value(bson_t *out, const char *key, value v); /* nothing when v is EOD */
void append_item(bson_t *array, size_t index, value v);
void append_number(bson_t *out, const char *key, int64_t number); /* int32 when it fits */
void append_list(bson_t *out, const char *key, const struct buffer *values);

#endif
