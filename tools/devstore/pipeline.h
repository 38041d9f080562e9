/*
 * pipeline.h - what happens to documents after they were found: projection, order, aggregation.
 */
#ifndef DEVSTORE_PIPELINE_H
#define DEVSTORE_PIPELINE_H

#include "query.h"

struct projection {
    bson_t *tree; /* flags and expressions, nested as the fields are that they are for */
    bool inclusive, exclusive;
};

/* To be freed whatever compile returned. */
bool projection_compile(struct projection *projection, value spec, struct failure *error);
void projection_free(struct projection *projection);
void projection_apply(const struct projection *projection, value document, bson_t *out);

bool sort_check(value sort, struct failure *error);
/* Appends a key: memcmp on keys is the order of the sort. */
void sort_key(value document, value sort, struct buffer *key);

/* Puts documents in order, those with equal keys as they came. */
bool sort_documents(struct buffer *documents, value sort, struct failure *error);
/* Sorts values and leaves each once; what is missing or undefined goes. */
void keep_distinct(struct buffer *values);

/* $match $group $sort $skip $limit $project $count: turns the documents into what comes out at the end. */
bool pipeline_run(value stages, struct buffer *documents, struct failure *error);

#endif
