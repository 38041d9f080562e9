/*
 * update.h - MongoDB's update language: compile an update once, apply it to documents.
 *
 * Update operators, replacement, and the document that an upsert starts from.
 */
#ifndef DEVSTORE_UPDATE_H
#define DEVSTORE_UPDATE_H

#include "query.h"

struct update {
    value replacement;         /* EOD: operators */
    struct modification *list; /* sorted by path: the order in which MongoDB adds fields */
    size_t count;
};

/* The update keeps pointers into the specification. update_free only after update_compile, whatever it returned. */
bool update_compile(struct update *update, value spec, struct error *error);
void update_free(struct update *update);
/* The result replaces what is in out. */
bool update_apply(const struct update *update, value document, bool inserting, bson_t *out, struct error *error);
/* The document that an upsert makes when nothing matches. */
bool update_upsert(const struct update *update, const struct match *query, bson_t *out, struct error *error);
/* A document ready to be stored: _id first (made when missing), within the limits. */
bool document_for_storage(value document, bson_t *out, struct error *error);
bool document_check_depth(value document, struct error *error);

/* update_array.c: the operators on arrays. apply appends the field's new value under the key. */
enum array_operator { ARRAY_PUSH, ARRAY_ADD_TO_SET, ARRAY_PULL, ARRAY_PULL_ALL, ARRAY_POP };
bool array_check(enum array_operator op, value arg, struct error *error);
bool array_apply(enum array_operator op, value existing, value arg, const struct match *condition, const char *key,
                 bson_t *out, struct error *error);

#endif
