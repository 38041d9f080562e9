/*
 * query.h - MongoDB's query language: compile a filter once, match it against documents.
 *
 * Purpose: the match operators with MongoDB's rules for arrays, null and types; the planner reads the compiled tree.
 * Users: storage (planning), commands, update ($pull, arrayFilters), aggregate. Depends on: value, PCRE2.
 */
#ifndef DEVSTORE_QUERY_H
#define DEVSTORE_QUERY_H

#include "value.h"

enum match_op {
    MATCH_AND, MATCH_OR, MATCH_NOR, MATCH_NOT, /* of the children */
    MATCH_ELEMENT_OBJECT, MATCH_ELEMENT_VALUE, /* $elemMatch: the children hold for one element */
    MATCH_EQ, MATCH_GT, MATCH_GTE, MATCH_LT, MATCH_LTE, MATCH_IN, MATCH_EXISTS, MATCH_TYPE, MATCH_SIZE, MATCH_REGEX,
    MATCH_MOD, MATCH_EXPR
};

enum { TYPE_BIT_MINKEY = 20, TYPE_BIT_MAXKEY = 21 }; /* the others are their type's number */

struct match {
    enum match_op op;
    const char *path; /* NULL: the value itself */
    struct value arg;
    struct value *list; /* $in: sorted */
    size_t count;
    uint32_t types;            /* $type: one bit a type */
    int64_t divisor, remainder; /* $mod; $size in remainder */
    void *regex;               /* pcre2_code */
    struct match *children, *next, *next_regex;
};

struct query {
    struct arena *arena;
    struct match *root; /* a MATCH_AND */
    struct match *regexes;
    struct value let;
};

/* The query keeps pointers into the filter. query_free only after query_compile, whatever it returned. */
bool query_compile(struct query *query, struct arena *arena, struct value filter, struct value let, struct error *error);
void query_free(struct query *query);
/* position, unless NULL: the index of the array element that matched, for the positional operator; else untouched. */
bool query_matches(const struct query *query, struct value document, int64_t *position);
/* $pull: the condition on one array element, as a document of operators or a filter on its fields. */
bool query_compile_condition(struct query *query, struct arena *arena, struct value condition, struct error *error);
bool query_matches_value(const struct query *query, struct value value);
bool is_operators(struct value value); /* a document whose first key starts with a dollar sign */
bool is_array_index(const char *key, size_t length);

#endif
