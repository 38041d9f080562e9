/* Reading JSON answers of our own services and of the store into a small tree. The text is checked strictly first. */
#ifndef CTL_JSON_READ_H
#define CTL_JSON_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/slice.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_value {
    enum json_type type;
    struct slice name; /* as a member of an object */
    struct slice raw;  /* the value as it stands in the text */
    struct slice text; /* a string's characters; else as raw */
    struct json_value *first, *next;
};

/* Memory is the arena's and text's. NULL: err says what is not JSON. */
struct json_value *json_read(struct slice text, struct arena *arena, struct error *err);

/* Every accessor takes NULL for "there is none" and passes it on, so that they can be chained. */
const struct json_value *json_get(const struct json_value *object, const char *name);

/* A string's text, or a number or bool as written; empty for null and for what is not there. */
struct slice json_text(const struct json_value *value);

/* A whole number; fallback for anything else. */
int64_t json_integer(const struct json_value *value, int64_t fallback);

/* RFC 3339 text as ms of wall time. false: it is none. */
bool json_time_ms(const struct json_value *value, int64_t *ms);

#endif
