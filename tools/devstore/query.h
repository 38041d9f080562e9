/*
 * query.h - MongoDB's query language: compile a filter once, match it against documents.
 *
 * The match operators with MongoDB's rules for arrays, null and types; the planner reads the compiled tree.
 */
#ifndef DEVSTORE_QUERY_H
#define DEVSTORE_QUERY_H

#include "value.h"

enum match_op {
    MATCH_AND, /* of the children, as the next */
    MATCH_OR,
    MATCH_EQ,
    MATCH_IN,
    MATCH_GT,
    MATCH_GTE,
    MATCH_LT,
    MATCH_LTE,
    MATCH_REGEX,
    MATCH_TYPE,
    MATCH_MOD,
    MATCH_EXISTS, /* from here on an array is looked at as a whole */
    MATCH_SIZE,
    MATCH_ELEMENT /* $elemMatch: the children hold for one element */
};

struct match {
    enum match_op op;
    bool negated;
    const char *path;    /* NULL: the value itself */
    value arg, beside;   /* beside: all operators on the path, for $options */
    struct buffer *keys; /* what is compared with, encoded and sorted */
    size_t count;
    uint32_t types;         /* $type: one bit a type */
    int64_t number, modulo; /* of $mod and $size; number of $elemMatch and $pull: only documents match */
    void *regex;            /* pcre2_code */
    struct match *children, *next;
};

/* A MATCH_AND, to be freed with query_free; it keeps pointers into the filter. NULL: error is set. */
struct match *query_compile(value filter, struct failure *error);
/* $pull: the condition on one array element, as a document of operators or a filter on its fields. */
struct match *query_compile_element(value condition, struct failure *error);
void query_free(struct match *query);
bool query_matches(const struct match *query, value v);

#endif
