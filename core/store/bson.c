#include "bson.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

static void must(bool appended)
{
    if (!appended)
        abort(); /* beyond BSON's 2 GiB: see bson.h */
}

static void append_utf8(bson_t *doc, const char *name, struct slice text)
{
    must(text.len <= INT32_MAX);
    must(bson_append_utf8(doc, name, -1, text.len == 0 ? "" : text.base, (int)text.len));
}

static void append_repaired(bson_t *doc, const char *name, struct slice text)
{
    struct buf repaired = {0};
    for (size_t at = 0; at < text.len;) {
        size_t len = utf8_sequence((const unsigned char *)text.base + at, text.len - at);
        if (len == 0)
            buf_add_text(&repaired, "\xEF\xBF\xBD");
        else
            buf_add(&repaired, text.base + at, len);
        at += len == 0 ? 1 : len;
    }
    append_utf8(doc, name, buf_slice(&repaired));
    buf_free(&repaired);
}

void put_text(bson_t *doc, const char *name, struct slice text)
{
    if (utf8_check(text))
        append_utf8(doc, name, text);
    else
        append_repaired(doc, name, text);
}

void put_word(bson_t *doc, const char *name, const char *text)
{
    put_text(doc, name, slice_of(text));
}

void put_optional(bson_t *doc, const char *name, struct slice text)
{
    if (text.len > 0)
        put_text(doc, name, text);
}

void put_cut(bson_t *doc, const char *name, struct slice text, size_t max_bytes)
{
    if (text.len > max_bytes) {
        text.len = max_bytes;
        while (text.len > 0 && ((unsigned char)text.base[text.len] & 0xC0) == 0x80)
            text.len--;
    }
    put_optional(doc, name, text);
}

void put_bytes(bson_t *doc, const char *name, struct slice bytes)
{
    if (utf8_check(bytes) && (bytes.len == 0 || memchr(bytes.base, '\0', bytes.len) == NULL)) {
        append_utf8(doc, name, bytes);
        return;
    }
    must(bytes.len <= INT32_MAX);
    must(bson_append_binary(doc, name, -1, BSON_SUBTYPE_BINARY, (const uint8_t *)bytes.base, (uint32_t)bytes.len));
}

void put_int(bson_t *doc, const char *name, int64_t value)
{
    if (value >= INT32_MIN && value <= INT32_MAX)
        must(bson_append_int32(doc, name, -1, (int32_t)value));
    else
        put_long(doc, name, value);
}

void put_long(bson_t *doc, const char *name, int64_t value)
{
    must(bson_append_int64(doc, name, -1, value));
}

void put_bool(bson_t *doc, const char *name, bool value)
{
    must(bson_append_bool(doc, name, -1, value));
}

void put_time(bson_t *doc, const char *name, wall_time time)
{
    must(bson_append_date_time(doc, name, -1, time.ms));
}

void put_document(bson_t *doc, const char *name, const bson_t *value)
{
    must(bson_append_document(doc, name, -1, value));
}

void put_array(bson_t *doc, const char *name, const bson_t *value)
{
    must(bson_append_array(doc, name, -1, value));
}

void put_open(bson_t *doc, const char *name, bson_t *child)
{
    must(bson_append_document_begin(doc, name, -1, child));
}

void put_close(bson_t *doc, bson_t *child)
{
    must(bson_append_document_end(doc, child));
}

void put_open_array(bson_t *doc, const char *name, bson_t *child)
{
    must(bson_append_array_begin(doc, name, -1, child));
}

void put_close_array(bson_t *doc, bson_t *child)
{
    must(bson_append_array_end(doc, child));
}

const char *index_name(struct index_name *name, size_t index)
{
    const char *text = NULL;
    bson_uint32_to_string((uint32_t)index, &text, name->text, sizeof(name->text));
    return text;
}

void put_operator_text(bson_t *doc, const char *name, const char *op, struct slice value)
{
    bson_t child;
    put_open(doc, name, &child);
    put_text(&child, op, value);
    put_close(doc, &child);
}

void put_operator_bool(bson_t *doc, const char *name, const char *op, bool value)
{
    bson_t child;
    put_open(doc, name, &child);
    put_bool(&child, op, value);
    put_close(doc, &child);
}

void put_operator_time(bson_t *doc, const char *name, const char *op, wall_time value)
{
    bson_t child;
    put_open(doc, name, &child);
    put_time(&child, op, value);
    put_close(doc, &child);
}

void put_operator_list(bson_t *doc, const char *name, const char *op, const struct slice *values, size_t n)
{
    bson_t child, list;
    put_open(doc, name, &child);
    put_open_array(&child, op, &list);
    for (size_t i = 0; i < n; i++) {
        struct index_name index;
        put_text(&list, index_name(&index, i), values[i]);
    }
    put_close_array(&child, &list);
    put_close(doc, &child);
}

static bool find(const bson_t *doc, const char *path, bson_iter_t *found)
{
    bson_iter_t it;
    return bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, path, found);
}

struct slice iter_text(const bson_iter_t *it)
{
    if (!BSON_ITER_HOLDS_UTF8(it))
        return (struct slice){0};
    uint32_t len = 0;
    const char *text = bson_iter_utf8(it, &len);
    return (struct slice){text, len};
}

struct slice get_text(const bson_t *doc, const char *path)
{
    bson_iter_t it;
    return find(doc, path, &it) ? iter_text(&it) : (struct slice){0};
}

struct slice get_bytes(const bson_t *doc, const char *path)
{
    bson_iter_t it;
    if (!find(doc, path, &it))
        return (struct slice){0};
    if (!BSON_ITER_HOLDS_BINARY(&it))
        return iter_text(&it);
    uint32_t len = 0;
    const uint8_t *data = NULL;
    bson_iter_binary(&it, NULL, &len, &data);
    return (struct slice){(const char *)data, len};
}

int64_t get_int(const bson_t *doc, const char *path, int64_t fallback)
{
    bson_iter_t it;
    return find(doc, path, &it) && BSON_ITER_HOLDS_NUMBER(&it) ? bson_iter_as_int64(&it) : fallback;
}

wall_time get_time(const bson_t *doc, const char *path)
{
    bson_iter_t it;
    return (wall_time){find(doc, path, &it) && BSON_ITER_HOLDS_DATE_TIME(&it) ? bson_iter_date_time(&it) : 0};
}

bool get_exists(const bson_t *doc, const char *path)
{
    bson_iter_t it;
    return find(doc, path, &it);
}

bool get_document(const bson_t *doc, const char *path, bson_t *out)
{
    bson_iter_t it;
    if (!find(doc, path, &it) || !BSON_ITER_HOLDS_DOCUMENT(&it))
        return false;
    uint32_t len = 0;
    const uint8_t *data = NULL;
    bson_iter_document(&it, &len, &data);
    return bson_init_static(out, data, len);
}

bool get_array(const bson_t *doc, const char *path, bson_t *out)
{
    bson_iter_t it;
    if (!find(doc, path, &it) || !BSON_ITER_HOLDS_ARRAY(&it))
        return false;
    uint32_t len = 0;
    const uint8_t *data = NULL;
    bson_iter_array(&it, &len, &data);
    return bson_init_static(out, data, len);
}

struct slice slice_keep(struct arena *arena, struct slice text)
{
    return text.len == 0 ? (struct slice){0} : arena_copy(arena, text.base, text.len);
}
