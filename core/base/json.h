/* JSON: a strict check of what strangers send (RFC 8259), and a small writer for what we say. No parser into a tree:
 * bodies are kept as they came, and Lua decodes them. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

#define JSON_MAX_DEPTH 64

/* true when text is exactly one JSON value: UTF-8 (RFC 3629: no surrogates, no overlong forms), numbers by the grammar
 * and finite as doubles, no unpaired surrogate escape, depth <= JSON_MAX_DEPTH, nothing but white space around it.
 * Duplicate member names in one object are not looked for. On false, err says what is wrong at which byte. */
bool json_check(struct slice text, struct error *err) MUST_USE;

/* Adds text as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void json_add_string(struct buf *out, struct slice text);

/* The writer puts commas and colons; the caller pairs open and close. name NULL inside an array. */
struct json_writer {
    struct buf *out;
    bool need_comma;
};

static inline struct json_writer json_writer(struct buf *out)
{
    return (struct json_writer){out, false};
}

void json_object_open(struct json_writer *w);
void json_object_close(struct json_writer *w);
void json_array_open(struct json_writer *w);
void json_array_close(struct json_writer *w);
void json_name(struct json_writer *w, const char *name); /* then one value or open */
void json_string(struct json_writer *w, struct slice value);
void json_int(struct json_writer *w, int64_t value);
void json_double(struct json_writer *w, double value);
void json_bool(struct json_writer *w, bool value);
void json_null(struct json_writer *w);
void json_raw(struct json_writer *w, struct slice json);                           /* already JSON */
void json_member_text(struct json_writer *w, const char *name, const char *value); /* NULL writes null */
void json_member_string(struct json_writer *w, const char *name, struct slice value);
void json_member_int(struct json_writer *w, const char *name, int64_t value);
void json_member_bool(struct json_writer *w, const char *name, bool value);

#endif
