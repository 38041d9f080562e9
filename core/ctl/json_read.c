#include "ctl/json_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

/* json_check has been here before: the text is well-formed and not too deep for recursion. */
struct reader {
    const char *p;
    struct arena *arena;
};

static struct json_value *read_value(struct reader *r);

static void skip_space(struct reader *r)
{
    r->p += strspn(r->p, " \t\r\n");
}

static unsigned hex4(const char *p)
{
    char digits[5] = {p[0], p[1], p[2], p[3], '\0'};
    return (unsigned)strtoul(digits, NULL, 16);
}

static size_t put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[n] | c);
    return n;
}

/* Reads what is behind a backslash; an escape is never shorter than the character it stands for. */
static const char *unescape(const char *p, char **out)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (*p != 'u') {
        const char *at = strchr(from, *p);
        *(*out)++ = at != NULL ? to[at - from] : *p;
        return p + 1;
    }
    unsigned c = hex4(p + 1);
    p += 5;
    if (c >= 0xd800 && c < 0xdc00) { /* the check has seen its other half */
        c = 0x10000 + ((c - 0xd800) << 10) + (hex4(p + 2) - 0xdc00);
        p += 6;
    }
    *out += put_utf8(*out, c);
    return p;
}

static struct slice read_string(struct reader *r)
{
    const char *start = ++r->p, *end = start;
    while (*end != '"')
        end += *end == '\\' ? 2 : 1;
    char *text = arena_alloc(r->arena, (size_t)(end - start) + 1), *out = text;
    for (const char *p = start; p < end;) {
        if (*p == '\\')
            p = unescape(p + 1, &out);
        else
            *out++ = *p++;
    }
    r->p = end + 1;
    return (struct slice){text, (size_t)(out - text)};
}

static void read_children(struct reader *r, struct json_value *parent, char close)
{
    struct json_value **end = &parent->first;
    r->p++;
    for (skip_space(r); *r->p != close; skip_space(r)) {
        struct slice name = {0};
        if (*r->p == ',') {
            r->p++;
            skip_space(r);
        }
        if (close == '}') {
            name = read_string(r);
            skip_space(r);
            r->p++; /* the colon */
        }
        *end = read_value(r);
        (*end)->name = name;
        end = &(*end)->next;
    }
    r->p++;
}

static struct json_value *read_value(struct reader *r)
{
    skip_space(r);
    struct json_value *value = arena_alloc(r->arena, sizeof *value);
    const char *start = r->p;
    if (*start == '{' || *start == '[') {
        value->type = *start == '{' ? JSON_OBJECT : JSON_ARRAY;
        read_children(r, value, *start == '{' ? '}' : ']');
    } else if (*start == '"') {
        value->type = JSON_STRING;
        value->text = read_string(r);
    } else {
        value->type = *start == 'n' ? JSON_NULL : *start == 't' || *start == 'f' ? JSON_BOOL : JSON_NUMBER;
        r->p += strcspn(r->p, ",]} \t\r\n");
    }
    value->raw = (struct slice){start, (size_t)(r->p - start)};
    if (value->type != JSON_STRING)
        value->text = value->raw;
    return value;
}

struct json_value *json_read(struct slice text, struct arena *arena, struct error *err)
{
    if (!json_check(text, err))
        return NULL;
    struct reader r = {arena_copy(arena, text.base, text.len).base, arena}; /* the copy ends in NUL */
    return read_value(&r);
}

const struct json_value *json_get(const struct json_value *object, const char *name)
{
    if (object == NULL || object->type != JSON_OBJECT)
        return NULL;
    for (const struct json_value *member = object->first; member != NULL; member = member->next)
        if (slice_is(member->name, name))
            return member;
    return NULL;
}

struct slice json_text(const struct json_value *value)
{
    return value == NULL || value->type == JSON_NULL ? (struct slice){0} : value->text;
}

int64_t json_integer(const struct json_value *value, int64_t fallback)
{
    char text[32], *end;
    if (value == NULL || value->type != JSON_NUMBER || value->text.len >= sizeof text)
        return fallback;
    memcpy(text, value->text.base, value->text.len);
    text[value->text.len] = '\0';
    long long number = strtoll(text, &end, 10);
    return *end != '\0' ? fallback : number;
}

bool json_time_ms(const struct json_value *value, int64_t *ms)
{
    wall_time time;
    if (value == NULL || value->type != JSON_STRING || !clock_parse(value->text, &time))
        return false;
    *ms = time.ms;
    return true;
}
