#include "policy/pattern.h"

#include <ctype.h>

#define MAX_DEPTH       200
#define STEPS_PER_CHECK 65536 /* well under a millisecond */

static const char *match(struct pattern *m, const char *s, const char *p);

static const char *subject_end(const struct pattern *m)
{
    return m->subject.base + m->subject.len;
}

static const char *text_end(const struct pattern *m)
{
    return m->text.base + m->text.len;
}

/* Counts work; looks at the clock now and then. The count goes on from one library call to the next. */
static void count_steps(struct pattern *m, size_t n)
{
    size_t *steps = &policy_of(m->L)->pattern_steps;
    *steps += n;
    if (*steps < STEPS_PER_CHECK)
        return;
    *steps = 0;
    sandbox_check_work(m->L);
}

/* The end of the set that begins behind '[' at p: behind its ']'. A ']' that comes first stands for itself. */
static const char *set_end(const struct pattern *m, const char *p)
{
    const char *end = text_end(m);
    if (p < end && *p == '^')
        p++;
    for (bool first = true; p < end; first = false) {
        if (*p == ']' && !first)
            return p + 1;
        p += *p == '%' ? 2 : 1;
    }
    luaL_error(m->L, "malformed pattern (missing ']')");
    return NULL;
}

/* The end of the single-character item at p. */
static const char *item_end(const struct pattern *m, const char *p)
{
    if (*p == '[')
        return set_end(m, p + 1);
    if (*p != '%')
        return p + 1;
    if (p + 1 == text_end(m))
        luaL_error(m->L, "malformed pattern (ends with '%%')");
    return p + 2;
}

static bool class_has(unsigned char class, unsigned char c)
{
    bool has;
    switch (tolower(class)) {
    case 'a':
        has = isalpha(c) != 0;
        break;
    case 'c':
        has = iscntrl(c) != 0;
        break;
    case 'd':
        has = isdigit(c) != 0;
        break;
    case 'g':
        has = isgraph(c) != 0;
        break;
    case 'l':
        has = islower(c) != 0;
        break;
    case 'p':
        has = ispunct(c) != 0;
        break;
    case 's':
        has = isspace(c) != 0;
        break;
    case 'u':
        has = isupper(c) != 0;
        break;
    case 'w':
        has = isalnum(c) != 0;
        break;
    case 'x':
        has = isxdigit(c) != 0;
        break;
    default: /* an escaped character */
        return class == c;
    }
    return isupper(class) ? !has : has;
}

/* Is c in the set from behind '[' to `last`, its ']'? */
static bool set_has(const char *p, const char *last, unsigned char c)
{
    bool negated = *p == '^';
    if (negated)
        p++;
    while (p < last) {
        if (*p == '%') {
            if (class_has((unsigned char)p[1], c))
                return !negated;
            p += 2;
        } else if (p + 2 < last && p[1] == '-') {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return !negated;
            p += 3;
        } else if ((unsigned char)*p++ == c) {
            return !negated;
        }
    }
    return negated;
}

/* Does the item [p, end) match the character at s? */
static bool item_has(struct pattern *m, const char *s, const char *p, const char *end)
{
    count_steps(m, 1);
    if (s >= subject_end(m))
        return false;
    unsigned char c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return class_has((unsigned char)p[1], c);
    case '[':
        return set_has(p + 1, end - 1, c);
    default:
        return (unsigned char)*p == c;
    }
}

static const char *match_longest(struct pattern *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t n = 0;
    while (item_has(m, s + n, p, end))
        n++;
    for (; n >= 0; n--) {
        const char *to = match(m, s + n, end + 1);
        if (to != NULL)
            return to;
    }
    return NULL;
}

static const char *match_shortest(struct pattern *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *to = match(m, s, end + 1);
        if (to != NULL)
            return to;
        if (!item_has(m, s, p, end))
            return NULL;
    }
}

static const char *open_capture(struct pattern *m, const char *s, const char *p, ptrdiff_t mark)
{
    if (m->n_captures == PATTERN_MAX_CAPTURES)
        luaL_error(m->L, "too many captures");
    m->captures[m->n_captures++] = (struct pattern_capture){s, mark};
    const char *to = match(m, s, p);
    if (to == NULL)
        m->n_captures--;
    return to;
}

static const char *close_capture(struct pattern *m, const char *s, const char *p)
{
    int i = m->n_captures - 1;
    while (i >= 0 && m->captures[i].len != CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].start;
    const char *to = match(m, s, p);
    if (to == NULL)
        m->captures[i].len = CAPTURE_OPEN;
    return to;
}

/* %1 to %9: where the text of that capture, repeated at s, ends. */
static const char *match_again(struct pattern *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->n_captures || m->captures[i].len == CAPTURE_OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    if (m->captures[i].len == CAPTURE_POSITION)
        return NULL; /* a position is no text */
    size_t len = (size_t)m->captures[i].len;
    count_steps(m, len / 64);
    bool same = (size_t)(subject_end(m) - s) >= len && memcmp(m->captures[i].start, s, len) == 0;
    return same ? s + len : NULL;
}

/* %bxy at s: where the balanced text ends. p is behind "%b". */
static const char *match_balanced(struct pattern *m, const char *s, const char *p)
{
    if (text_end(m) - p < 2)
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= subject_end(m) || *s != p[0])
        return NULL;
    int open = 1;
    for (s++; s < subject_end(m); s++) {
        count_steps(m, 1);
        if (*s == p[1]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

/* %f[set] at s: is there an edge, from outside the set to inside? p is at '['. */
static bool is_frontier(struct pattern *m, const char *s, const char *p, const char **end)
{
    if (p >= text_end(m) || *p != '[')
        luaL_error(m->L, "missing '[' after '%%f' in pattern");
    *end = set_end(m, p + 1);
    unsigned char before = s == m->subject.base ? '\0' : (unsigned char)s[-1];
    unsigned char here = s == subject_end(m) ? '\0' : (unsigned char)*s;
    return !set_has(p + 1, *end - 1, before) && set_has(p + 1, *end - 1, here);
}

/* One step over the special item at *p (%b, %f or %1…%9). false, and *s is NULL: no match. */
static bool match_special(struct pattern *m, const char **s, const char **p)
{
    char kind = (*p)[1];
    if (kind == 'f') {
        if (!is_frontier(m, *s, *p + 2, p))
            *s = NULL;
        return *s != NULL;
    }
    *s = kind == 'b' ? match_balanced(m, *s, *p + 2) : match_again(m, *s, kind);
    *p += kind == 'b' ? 4 : 2;
    return *s != NULL;
}

static bool is_special(const struct pattern *m, const char *p)
{
    return *p == '%' && p + 1 < text_end(m) && (p[1] == 'b' || p[1] == 'f' || isdigit((unsigned char)p[1]));
}

/* One item with what is behind it. *done: *s is the result; else go on at *s and *p. */
static void match_item(struct pattern *m, const char **s, const char **p, bool *done)
{
    const char *end = item_end(m, *p);
    char quantifier = end < text_end(m) ? *end : '\0';
    *done = true;
    if (quantifier == '*') {
        *s = match_longest(m, *s, *p, end);
    } else if (quantifier == '+') {
        *s = item_has(m, *s, *p, end) ? match_longest(m, *s + 1, *p, end) : NULL;
    } else if (quantifier == '-') {
        *s = match_shortest(m, *s, *p, end);
    } else if (quantifier == '?') {
        const char *to = item_has(m, *s, *p, end) ? match(m, *s + 1, end + 1) : NULL;
        *s = to != NULL ? to : match(m, *s, end + 1);
    } else {
        *done = !item_has(m, *s, *p, end);
        *s = *done ? NULL : *s + 1;
        *p = end;
    }
}

/* The end of a match of the pattern from p at s, or NULL. Recursion is as deep as the pattern has captures and
 * quantifiers. */
static const char *match(struct pattern *m, const char *s, const char *p)
{
    if (++m->depth > MAX_DEPTH)
        luaL_error(m->L, "pattern too complex");
    bool done = false;
    while (!done && p < text_end(m)) {
        count_steps(m, 1);
        if (*p == '(') {
            bool position = p + 1 < text_end(m) && p[1] == ')';
            s = open_capture(m, s, p + (position ? 2 : 1), position ? CAPTURE_POSITION : CAPTURE_OPEN);
            done = true;
        } else if (*p == ')') {
            s = close_capture(m, s, p + 1);
            done = true;
        } else if (*p == '$' && p + 1 == text_end(m)) {
            s = s == subject_end(m) ? s : NULL;
            done = true;
        } else if (is_special(m, p)) {
            done = !match_special(m, &s, &p);
        } else {
            match_item(m, &s, &p, &done);
        }
    }
    m->depth--;
    return s;
}

const char *pattern_match(struct pattern *m, const char *from)
{
    m->n_captures = 0;
    m->depth = 0;
    return match(m, from, m->text.base);
}

void pattern_push_capture(struct pattern *m, int i, const char *from, const char *to)
{
    if (i >= m->n_captures) {
        if (i != 0)
            luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, from, (size_t)(to - from));
        return;
    }
    struct pattern_capture capture = m->captures[i];
    if (capture.len == CAPTURE_OPEN)
        luaL_error(m->L, "unfinished capture");
    if (capture.len == CAPTURE_POSITION)
        lua_pushinteger(m->L, capture.start - m->subject.base + 1);
    else
        lua_pushlstring(m->L, capture.start, (size_t)capture.len);
}

int pattern_push_captures(struct pattern *m, bool whole, const char *from, const char *to)
{
    int n = m->n_captures == 0 && whole ? 1 : m->n_captures;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        pattern_push_capture(m, i, from, to);
    return n;
}
