/* An event from fields: the JSON body that `waybillctl send` makes when it is not given one. */
#ifndef CTL_COMPOSE_H
#define CTL_COMPOSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/memory.h"

/* Every member may be NULL (a default is made) or "" (the field is left out, to see how it is refused). */
struct compose_fields {
    const char *event_id, *type, *occurred_at;
    const char *tracking_number, *status;
    const char *location; /* a JSON object, or a place's name */
    const char *simulate; /* JSON */
    const char *data;     /* a JSON object whose members are added to "data" */
};

/* Adds the body to out. false: one of the JSON texts is not JSON. */
bool compose_event(const struct compose_fields *fields, struct buf *out, struct error *err) MUST_USE;

#endif
