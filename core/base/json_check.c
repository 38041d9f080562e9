#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"

struct checker {
    const unsigned char *p, *end, *start;
    struct error *err;
};

static bool fail(struct checker *c, const char *what)
{
    error_set(c->err, "%s at byte %zu", what, (size_t)(c->p - c->start));
    return false;
}

static void skip_space(struct checker *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static bool is_digit(const struct checker *c)
{
    return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static void skip_digits(struct checker *c)
{
    while (is_digit(c))
        c->p++;
}

/* Numbers too large for a double would silently become infinity in Lua: refused here. Only an exponent or a very long
 * integer part can do it, so the conversion is rare. */
static bool check_finite(struct checker *c, const unsigned char *from, bool has_exponent)
{
    size_t len = (size_t)(c->p - from);
    if (!has_exponent && len < 300)
        return true;
    if (len > 1024)
        return fail(c, "number too long");
    char text[1025];
    memcpy(text, from, len);
    text[len] = '\0';
    return isfinite(strtod(text, NULL)) || fail(c, "number out of range");
}

static bool check_number(struct checker *c)
{
    const unsigned char *from = c->p;
    bool has_exponent = false;
    if (*c->p == '-')
        c->p++;
    if (!is_digit(c))
        return fail(c, "bad number");
    if (*c->p == '0') {
        c->p++;
        if (is_digit(c))
            return fail(c, "number with a leading zero");
    } else {
        skip_digits(c);
    }
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!is_digit(c))
            return fail(c, "bad number");
        skip_digits(c);
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        has_exponent = true;
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-'))
            c->p++;
        if (!is_digit(c))
            return fail(c, "bad number");
        skip_digits(c);
    }
    return check_finite(c, from, has_exponent);
}

/* The four digits of \uXXXX at c->p; -1 when they are not there. */
static int take_hex4(struct checker *c)
{
    if (c->end - c->p < 4)
        return -1;
    int value = 0;
    for (int i = 0; i < 4; i++, c->p++) {
        unsigned char d = *c->p;
        int digit = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool check_unicode_escape(struct checker *c)
{
    int unit = take_hex4(c);
    if (unit < 0)
        return fail(c, "bad \\u escape");
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return fail(c, "unpaired surrogate");
    if (unit < 0xd800 || unit > 0xdbff)
        return true;
    if (c->end - c->p < 2 || c->p[0] != '\\' || c->p[1] != 'u')
        return fail(c, "unpaired surrogate");
    c->p += 2;
    unit = take_hex4(c);
    return (unit >= 0xdc00 && unit <= 0xdfff) || fail(c, "unpaired surrogate");
}

static bool check_escape(struct checker *c)
{
    c->p++;
    if (c->p == c->end)
        return fail(c, "unfinished string");
    unsigned char e = *c->p++;
    if (e == 'u')
        return check_unicode_escape(c);
    if (e != 0 && strchr("\"\\/bfnrt", e) != NULL)
        return true;
    c->p--;
    return fail(c, "bad escape");
}

static bool check_string(struct checker *c)
{
    c->p++;
    while (c->p < c->end) {
        unsigned char b = *c->p;
        if (b == '"') {
            c->p++;
            return true;
        }
        if (b == '\\') {
            if (!check_escape(c))
                return false;
        } else if (b < 0x20) {
            return fail(c, "control character in a string");
        } else if (b < 0x80) {
            c->p++;
        } else {
            size_t n = utf8_sequence(c->p, (size_t)(c->end - c->p));
            if (n == 0)
                return fail(c, "invalid UTF-8");
            c->p += n;
        }
    }
    return fail(c, "unfinished string");
}

static bool check_word(struct checker *c, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(c->end - c->p) < len || memcmp(c->p, word, len) != 0)
        return fail(c, "unexpected character");
    c->p += len;
    return true;
}

static bool check_scalar(struct checker *c)
{
    switch (*c->p) {
    case '"':
        return check_string(c);
    case 't':
        return check_word(c, "true");
    case 'f':
        return check_word(c, "false");
    case 'n':
        return check_word(c, "null");
    case '-':
    case '0' ... '9':
        return check_number(c);
    default:
        return fail(c, "unexpected character");
    }
}

/* The name and colon of an object's next member. */
static bool check_name(struct checker *c)
{
    skip_space(c);
    if (c->p == c->end || *c->p != '"')
        return fail(c, "expected a member name");
    if (!check_string(c))
        return false;
    skip_space(c);
    if (c->p == c->end || *c->p != ':')
        return fail(c, "expected a colon");
    c->p++;
    return true;
}

/* Opens what starts at c->p. *empty tells that it was closed at once. */
static bool check_open(struct checker *c, char *closers, int *depth, bool *empty)
{
    if (*depth == JSON_MAX_DEPTH)
        return fail(c, "nested too deep");
    char closer = *c->p == '{' ? '}' : ']';
    c->p++;
    skip_space(c);
    *empty = c->p < c->end && *c->p == (unsigned char)closer;
    if (*empty) {
        c->p++;
        return true;
    }
    closers[(*depth)++] = closer;
    return closer == ']' || check_name(c);
}

/* After a value: closes what ends here and takes the comma before the next value. *done when the outermost is closed.
 */
static bool check_after_value(struct checker *c, char *closers, int *depth, bool *done)
{
    while (*depth > 0) {
        skip_space(c);
        if (c->p == c->end)
            return fail(c, "unfinished value");
        if (*c->p == ',') {
            c->p++;
            return closers[*depth - 1] == ']' || check_name(c);
        }
        if (*c->p != (unsigned char)closers[*depth - 1])
            return fail(c, "expected a comma or a closing bracket");
        c->p++;
        (*depth)--;
    }
    *done = true;
    return true;
}

bool json_check(struct slice text, struct error *err)
{
    const unsigned char *base = (const unsigned char *)text.base;
    struct checker c = {base, base + text.len, base, err};
    char closers[JSON_MAX_DEPTH];
    int depth = 0;
    bool done = false;
    while (!done) {
        skip_space(&c);
        if (c.p == c.end)
            return fail(&c, depth == 0 ? "nothing there" : "unfinished value");
        bool closed = true; /* a whole value was read */
        if (*c.p == '{' || *c.p == '[') {
            if (!check_open(&c, closers, &depth, &closed))
                return false;
        } else if (!check_scalar(&c)) {
            return false;
        }
        if (closed && !check_after_value(&c, closers, &depth, &done))
            return false;
    }
    skip_space(&c);
    return c.p == c.end || fail(&c, "more after the end");
}
