/*
 * aggregate.h - aggregation pipelines, run to the end at once.
 *
 * Purpose: $match $group $sort $skip $limit $project $count over documents that are pushed in.
 * Users: commands_read. Depends on: query, projection, expression.
 */
#ifndef DEVSTORE_AGGREGATE_H
#define DEVSTORE_AGGREGATE_H

#include "projection.h"
#include "query.h"

struct stage;

struct pipeline {
    struct arena arena;
    struct value let;
    struct stage *first;
    struct buffer results; /* documents, one after the other */
};

/* pipeline_free only after pipeline_compile, whatever it returned. */
bool pipeline_compile(struct pipeline *pipeline, struct value stages, struct value let, struct error *error);
bool pipeline_push(struct pipeline *pipeline, struct value document, struct error *error);
bool pipeline_finish(struct pipeline *pipeline, struct error *error);
void pipeline_free(struct pipeline *pipeline);

#endif
