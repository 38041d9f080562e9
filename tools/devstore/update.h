/*
 * update.h - MongoDB's update language: compile an update once, apply it to documents.
 *
 * Update operators, replacement, and the document that an upsert starts from.
 */
#ifndef DEVSTORE_UPDATE_H
#define DEVSTORE_UPDATE_H

#include "query.h"

enum operation {
    SET,
    SET_ON_INSERT,
    UNSET,
    INC,
    MUL,
    MIN,
    MAX,
    RENAME,
    CURRENT_DATE,
    PUSH,
    ADD_TO_SET,
    PULL,
    PULL_ALL,
    POP
};

struct update {
    value replacement;         /* EOD: operators */
    struct modification *list; /* sorted by path: the order in which MongoDB adds fields */
    size_t count;
};

/* The update keeps pointers into the specification. update_free only after update_compile, whatever it returned. */
bool update_compile(struct update *update, value spec, struct failure *error);
void update_free(struct update *update);
/* The result replaces what is in out. */
bool update_apply(const struct update *update, value document, bool inserting, bson_t *out, struct failure *error);
/* The document that an upsert makes when nothing matches. */
bool update_upsert(const struct update *update, const struct match *query, bson_t *out, struct failure *error);
/* $set of one field. */
bool document_set(bson_t **document, const char *path, value v, struct failure *error);
/* A document ready to be stored: _id first (made when missing), within the limits. */
bool document_for_storage(value document, bson_t *out, struct failure *error);
bool document_check_depth(value document, struct failure *error);

/* update_array.c: the operators on arrays. apply appends the field's new value under the key. */
bool array_check(enum operation op, value arg, struct failure *error);
bool array_apply(enum operation op, value existing, value arg, const struct match *condition, const char *key,
                 bson_t *out, struct failure *error);

#endif
