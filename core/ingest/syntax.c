#include "ingest/syntax.h"

#include <strings.h>

#include "event/event.h"

/* target from its path on, when it begins with a scheme of ours and any host; else as it is. */
static struct slice skip_origin(struct slice target)
{
    static const struct slice schemes[] = {SLICE_LITERAL("http://"), SLICE_LITERAL("https://")};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t n = schemes[i].len;
        if (target.len <= n || strncasecmp(target.base, schemes[i].base, n) != 0)
            continue;
        size_t end = n;
        while (end < target.len && memchr("/?#@", target.base[end], 4) == NULL)
            end++;
        if (end > n && end < target.len && target.base[end] == '/')
            return (struct slice){target.base + end, target.len - end};
    }
    return target;
}

bool syntax_event_path(struct slice target, struct slice *source)
{
    static const char prefix[] = "/v1/events/";
    size_t n = sizeof prefix - 1;
    struct slice path = skip_origin(target);
    if (path.len <= n || memcmp(path.base, prefix, n) != 0)
        return false;
    *source = (struct slice){path.base + n, path.len - n};
    return event_source_is_valid(*source);
}

/* The characters of a subtype name (RFC 6838, section 4.2). */
static bool is_subtype_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$&-^_.+", c) != NULL);
}

bool syntax_is_json_type(struct slice content_type)
{
    static const char prefix[] = "application/", suffix[] = "+json";
    size_t n = sizeof prefix - 1, s = sizeof suffix - 1;
    if (content_type.len < n || strncasecmp(content_type.base, prefix, n) != 0)
        return false;
    const char *subtype = content_type.base + n;
    size_t len = 0, left = content_type.len - n;
    while (len < left && is_subtype_char(subtype[len]))
        len++;
    size_t end = len;
    while (end < left && (subtype[end] == ' ' || subtype[end] == '\t'))
        end++;
    if (end < left && subtype[end] != ';')
        return false;
    return (len == 4 && strncasecmp(subtype, "json", 4) == 0) ||
           (len > s && strncasecmp(subtype + len - s, suffix, s) == 0);
}

bool syntax_is_identity(struct slice content_encoding)
{
    return content_encoding.len == 0 ||
           (content_encoding.len == 8 && strncasecmp(content_encoding.base, "identity", 8) == 0);
}

/* n lower-case hex digits at text, not all of them '0' unless allowed. */
static bool is_hex(const char *text, size_t n, bool may_be_zero)
{
    bool zero = true;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        zero = zero && c == '0';
    }
    return may_be_zero || !zero;
}

bool syntax_is_traceparent(struct slice v)
{
    /* version-trace_id-parent_id-flags: 2, 32, 16 and 2 digits */
    if (v.len < 55 || v.len > 256 || v.base[2] != '-' || v.base[35] != '-' || v.base[52] != '-')
        return false;
    if (!is_hex(v.base, 2, true) || memcmp(v.base, "ff", 2) == 0 || !is_hex(v.base + 53, 2, true))
        return false;
    if (!is_hex(v.base + 3, 32, false) || !is_hex(v.base + 36, 16, false))
        return false;
    return v.len == 55 || (memcmp(v.base, "00", 2) != 0 && v.base[55] == '-');
}
