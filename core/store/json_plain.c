#include "json_plain.h"

#include <math.h>

#include "base/crypto.h"

#define MAX_DEPTH 100 /* of a MongoDB document */

static void write_members(struct json_writer *w, bson_iter_t *it, bool is_array, int depth);

static void write_binary(struct json_writer *w, const bson_iter_t *it)
{
    struct buf text = {0};
    uint32_t len = 0;
    const uint8_t *data = NULL;
    bson_iter_binary(it, NULL, &len, &data);
    crypto_base64_encode((struct slice){(const char *)data, len}, &text);
    json_string(w, buf_slice(&text));
    buf_free(&text);
}

static void write_nested(struct json_writer *w, const bson_iter_t *it, int depth)
{
    bson_iter_t child;
    if (depth >= MAX_DEPTH || !bson_iter_recurse(it, &child))
        json_null(w);
    else
        write_members(w, &child, BSON_ITER_HOLDS_ARRAY(it), depth + 1);
}

static void write_double(struct json_writer *w, double value)
{
    if (isfinite(value))
        json_double(w, value);
    else
        json_null(w);
}

/* Types that neither we nor scripts' results can hold show their Extended JSON. */
static void write_other(struct json_writer *w, const bson_iter_t *it)
{
    bson_t wrapped = BSON_INITIALIZER;
    bson_append_iter(&wrapped, "v", 1, it);
    size_t len = 0;
    char *text = bson_as_relaxed_extended_json(&wrapped, &len);
    if (text == NULL)
        json_null(w);
    else
        json_raw(w, (struct slice){text, len});
    bson_free(text);
    bson_destroy(&wrapped);
}

static void write_value(struct json_writer *w, const bson_iter_t *it, int depth)
{
    char time[CLOCK_TEXT_BYTES];
    switch (bson_iter_type(it)) {
    case BSON_TYPE_UTF8:
        json_string(w, iter_text(it));
        break;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        json_int(w, bson_iter_as_int64(it));
        break;
    case BSON_TYPE_DOUBLE:
        write_double(w, bson_iter_double(it));
        break;
    case BSON_TYPE_BOOL:
        json_bool(w, bson_iter_bool(it));
        break;
    case BSON_TYPE_NULL:
        json_null(w);
        break;
    case BSON_TYPE_DATE_TIME:
        json_string(w, slice_of(clock_format((wall_time){bson_iter_date_time(it)}, time)));
        break;
    case BSON_TYPE_BINARY:
        write_binary(w, it);
        break;
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        write_nested(w, it, depth);
        break;
    default:
        write_other(w, it);
        break;
    }
}

static void write_members(struct json_writer *w, bson_iter_t *it, bool is_array, int depth)
{
    if (is_array)
        json_array_open(w);
    else
        json_object_open(w);
    while (bson_iter_next(it)) {
        if (!is_array)
            json_name(w, depth == 0 && strcmp(bson_iter_key(it), "_id") == 0 ? "key" : bson_iter_key(it));
        write_value(w, it, depth);
    }
    if (is_array)
        json_array_close(w);
    else
        json_object_close(w);
}

void json_plain(struct json_writer *w, const bson_t *doc)
{
    bson_iter_t it;
    if (bson_iter_init(&it, doc))
        write_members(w, &it, false, 0);
    else
        json_null(w);
}
