/*
 * projection.h - which fields of a document are shown, and in which order documents come.
 *
 * Users: commands_read, commands_write, aggregate. Depends on: value, expression.
 */
#ifndef DEVSTORE_PROJECTION_H
#define DEVSTORE_PROJECTION_H

#include "value.h"

struct projection {
    struct value spec, let;
    bool inclusive, hide_id;
};

bool projection_compile(struct projection *projection, struct value spec, struct value let, struct error *error);
/* Appends a whole document. */
void projection_apply(const struct projection *projection, struct value document, struct buffer *out);

bool check_sort(struct value sort, struct error *error);
/* Appends a key: memcmp on keys is the order of the sort. */
void sort_key(struct value document, struct value sort, struct buffer *key);

/* Collects documents, then gives them in order. */
struct sorter {
    struct value sort;
    struct arena arena;
    struct buffer entries;
    size_t bytes;
};
bool sorter_add(struct sorter *sorter, struct value document, struct error *error);
/* The documents in order, from skip on and at most limit (0: all), one after the other. */
void sorter_finish(struct sorter *sorter, int64_t skip, int64_t limit, struct buffer *out);

#endif
