/* BSON in our terms: slices in, slices out. Nothing here talks to a server.
 *
 * The put_ functions end the process when a document would grow beyond what BSON can hold (2 GiB): everything that
 * goes in is bounded long before. */
#ifndef STORE_BSON_H
#define STORE_BSON_H

#include <bson/bson.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/slice.h"

/* Text that is not UTF-8 gets U+FFFD for its bad bytes: a server must never refuse a record for its wording. */
void put_text(bson_t *doc, const char *name, struct slice text);
void put_word(bson_t *doc, const char *name, const char *text);
/* Leaves the field out when there is nothing to say. */
void put_optional(bson_t *doc, const char *name, struct slice text);
/* Like put_optional, cut to max_bytes at a character's border. */
void put_cut(bson_t *doc, const char *name, struct slice text, size_t max_bytes);
/* A string when it is UTF-8 without NUL, else binary: bytes that must come back as they were. */
void put_bytes(bson_t *doc, const char *name, struct slice bytes);
void put_int(bson_t *doc, const char *name, int64_t value); /* int32 when it fits */
void put_long(bson_t *doc, const char *name, int64_t value);
void put_bool(bson_t *doc, const char *name, bool value);
void put_time(bson_t *doc, const char *name, wall_time time);
void put_document(bson_t *doc, const char *name, const bson_t *value);
void put_array(bson_t *doc, const char *name, const bson_t *value);

/* Nested: between open and close only the child may be added to (libbson ends the process otherwise). */
void put_open(bson_t *doc, const char *name, bson_t *child);
void put_close(bson_t *doc, bson_t *child);
void put_open_array(bson_t *doc, const char *name, bson_t *child);
void put_close_array(bson_t *doc, bson_t *child);

/* Elements of an array need their index as name. */
struct index_name {
    char text[16];
};
const char *index_name(struct index_name *name, size_t index);

/* {name: {operator: value}} and other one-liners of filters. */
void put_operator_text(bson_t *doc, const char *name, const char *op, struct slice value);
void put_operator_bool(bson_t *doc, const char *name, const char *op, bool value);
void put_operator_time(bson_t *doc, const char *name, const char *op, wall_time value);
/* {name: {$in: [values]}}, or another operator that takes a list. */
void put_operator_list(bson_t *doc, const char *name, const char *op, const struct slice *values, size_t n);

/* Views into doc; path is dotted. Absent or of another type: empty, or the fallback. */
struct slice get_text(const bson_t *doc, const char *path);
struct slice get_bytes(const bson_t *doc, const char *path); /* string or binary */
int64_t get_int(const bson_t *doc, const char *path, int64_t fallback);
wall_time get_time(const bson_t *doc, const char *path);
bool get_exists(const bson_t *doc, const char *path);
/* *out is a view that needs no bson_destroy. */
bool get_document(const bson_t *doc, const char *path, bson_t *out);
bool get_array(const bson_t *doc, const char *path, bson_t *out);

struct slice iter_text(const bson_iter_t *it);
struct slice slice_keep(struct arena *arena, struct slice text);

#endif
