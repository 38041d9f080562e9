/*
 * expression.h - the part of MongoDB's aggregation expressions that the store has.
 *
 * Purpose: field paths, variables of `let`, constants, comparisons and boolean operators; for $expr, $group, $project.
 * Users: query, aggregate, projection. Depends on: value.
 */
#ifndef DEVSTORE_EXPRESSION_H
#define DEVSTORE_EXPRESSION_H

#include "value.h"

/* Says no to what is not supported, so that evaluation cannot fail. */
bool expression_check(struct value expression, struct value let, struct error *error);
/* The result points into the expression, the document, `let` or the arena; type EOD when missing. */
struct value expression_evaluate(struct value expression, struct value document, struct value let, struct arena *arena);
bool expression_truth(struct value expression, struct value document, struct value let);

#endif
