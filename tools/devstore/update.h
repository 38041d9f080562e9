/*
 * update.h - MongoDB's update language: compile an update once, apply it to documents.
 *
 * Purpose: update operators, replacement, positional paths, the document an upsert starts from.
 * Users: commands_write. Depends on: value, query ($pull, arrayFilters, the filter of an upsert).
 */
#ifndef DEVSTORE_UPDATE_H
#define DEVSTORE_UPDATE_H

#include "query.h"

enum op { /* the ones on arrays first, in the order of enum array_op */
    OP_PUSH, OP_ADD_TO_SET, OP_PULL, OP_PULL_ALL, OP_POP,
    OP_SET, OP_UNSET, OP_INC, OP_MUL, OP_MIN, OP_MAX, OP_RENAME, OP_SET_ON_INSERT, OP_CURRENT_DATE, OP_COUNT
};

struct modification {
    enum op op;
    const char *path, *from; /* from: of a $rename */
    struct value arg;
    struct query *condition; /* $pull */
};

struct array_filter {
    const char *id;
    struct query query;
    bool used;
    struct array_filter *next;
};

struct update {
    struct arena *arena;
    struct value replacement; /* EOD: operators */
    struct modification *list; /* sorted by path: the order in which MongoDB adds fields */
    size_t count;
    struct array_filter *filters;
    bool positional; /* some path has a $: where the filter matched is of interest */
};

/* The update keeps pointers into both values. update_free only after update_compile, whatever it returned. */
bool update_compile(struct update *update, struct arena *arena, struct value spec, struct value array_filters,
                    struct error *error);
void update_free(struct update *update);
bool update_is_operators(const struct update *update);
/* position: of the array element that the filter matched, -1 for none. The result replaces what is in out. */
bool update_apply(const struct update *update, struct value document, int64_t position, bool inserting,
                  struct buffer *out, struct error *error);
/* The document that an upsert makes when nothing matches. */
bool update_upsert(const struct update *update, const struct query *query, struct buffer *out, struct error *error);
/* A document ready to be stored: _id first (made when missing), within the limits. */
bool document_for_storage(struct value document, struct buffer *out, struct error *error);

extern const char *const update_op_names[OP_COUNT];
struct array_filter *update_filter(const struct update *update, const char *id, size_t length);

/* update_array.c: the operators on arrays. Each appends the field's new value under the key. */
enum array_op { ARRAY_PUSH, ARRAY_ADD_TO_SET, ARRAY_PULL, ARRAY_PULL_ALL, ARRAY_POP };
bool array_check(enum array_op op, struct value arg, struct error *error);
bool array_apply(enum array_op op, struct value existing, struct value arg, const struct query *condition,
                 const char *key, struct buffer *out, struct error *error);

#endif
