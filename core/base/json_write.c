#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "base/utf8.h"

static void add_escape(struct buf *out, unsigned char c)
{
    switch (c) {
    case '"':
        buf_add(out, "\\\"", 2);
        break;
    case '\\':
        buf_add(out, "\\\\", 2);
        break;
    case '\n':
        buf_add(out, "\\n", 2);
        break;
    case '\r':
        buf_add(out, "\\r", 2);
        break;
    case '\t':
        buf_add(out, "\\t", 2);
        break;
    default:
        buf_printf(out, "\\u%04x", c);
    }
}

void json_add_string(struct buf *out, struct slice text)
{
    const unsigned char *p = (const unsigned char *)text.base;
    size_t plain = 0; /* start of the run that needs no escape */
    buf_reserve(out, text.len + 2);
    buf_add_char(out, '"');
    for (size_t i = 0; i < text.len;) {
        size_t n = p[i] < 0x80 ? 1 : utf8_sequence(p + i, text.len - i);
        bool special = n == 0 || p[i] < 0x20 || p[i] == '"' || p[i] == '\\' || p[i] == 0x7f;
        if (!special) {
            i += n;
            continue;
        }
        buf_add(out, text.base + plain, i - plain);
        if (n == 0)
            buf_add_text(out, "\xef\xbf\xbd");
        else
            add_escape(out, p[i]);
        plain = ++i;
    }
    if (text.len > plain)
        buf_add(out, text.base + plain, text.len - plain);
    buf_add_char(out, '"');
}

static void before_value(struct json_writer *w)
{
    if (w->need_comma)
        buf_add_char(w->out, ',');
    w->need_comma = true;
}

static void open_with(struct json_writer *w, char c)
{
    before_value(w);
    buf_add_char(w->out, c);
    w->need_comma = false;
}

static void close_with(struct json_writer *w, char c)
{
    buf_add_char(w->out, c);
    w->need_comma = true;
}

void json_object_open(struct json_writer *w)
{
    open_with(w, '{');
}

void json_object_close(struct json_writer *w)
{
    close_with(w, '}');
}

void json_array_open(struct json_writer *w)
{
    open_with(w, '[');
}

void json_array_close(struct json_writer *w)
{
    close_with(w, ']');
}

void json_name(struct json_writer *w, const char *name)
{
    before_value(w);
    json_add_string(w->out, slice_of(name));
    buf_add_char(w->out, ':');
    w->need_comma = false;
}

void json_string(struct json_writer *w, struct slice value)
{
    before_value(w);
    json_add_string(w->out, value);
}

void json_int(struct json_writer *w, int64_t value)
{
    before_value(w);
    buf_printf(w->out, "%lld", (long long)value);
}

void json_double(struct json_writer *w, double value)
{
    before_value(w);
    if (isfinite(value))
        buf_printf(w->out, "%.17g", value);
    else
        buf_add_text(w->out, "null");
}

void json_bool(struct json_writer *w, bool value)
{
    before_value(w);
    buf_add_text(w->out, value ? "true" : "false");
}

void json_null(struct json_writer *w)
{
    before_value(w);
    buf_add_text(w->out, "null");
}

void json_raw(struct json_writer *w, struct slice json)
{
    before_value(w);
    buf_add_slice(w->out, json);
}

void json_member_text(struct json_writer *w, const char *name, const char *value)
{
    json_name(w, name);
    if (value == NULL)
        json_null(w);
    else
        json_string(w, slice_of(value));
}

void json_member_string(struct json_writer *w, const char *name, struct slice value)
{
    json_name(w, name);
    json_string(w, value);
}

void json_member_int(struct json_writer *w, const char *name, int64_t value)
{
    json_name(w, name);
    json_int(w, value);
}

void json_member_bool(struct json_writer *w, const char *name, bool value)
{
    json_name(w, name);
    json_bool(w, value);
}
