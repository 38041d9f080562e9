#include "ingest/framing.h"

#include <strings.h>

/* What has been seen of a head so far. */
struct scan {
    struct framing *out;
    const char *at, *end;
    unsigned lengths, encodings, hosts;
    bool is_http_1_0;
};

static bool refuse(struct scan *scan, const char *problem)
{
    scan->out->problem = problem;
    return false;
}

/* Takes the next line without its CRLF. A line ends in CRLF and holds no other control character but tab. */
static bool take_line(struct scan *scan, struct slice *line)
{
    const char *newline = memchr(scan->at, '\n', (size_t)(scan->end - scan->at));
    if (newline != NULL && (newline == scan->at || newline[-1] != '\r'))
        return refuse(scan, "A line of the request head does not end in CRLF.");
    const char *end = newline == NULL ? scan->end : newline - 1;
    *line = (struct slice){scan->at, (size_t)(end - scan->at)};
    for (size_t i = 0; i < line->len; i++) {
        unsigned char c = (unsigned char)line->base[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return refuse(scan, "The request head has a control character.");
    }
    if (newline == NULL)
        return refuse(scan, "The request head is malformed or has no end.");
    scan->at = newline + 1;
    return true;
}

/* "METHOD target HTTP/1.x" */
static bool check_request_line(struct scan *scan, struct slice line)
{
    static const char version[] = " HTTP/1.";
    size_t tail = sizeof version; /* the version and its last digit */
    if (line.len <= tail || memcmp(line.base + line.len - tail, version, sizeof version - 1) != 0)
        return refuse(scan, "The request line is not METHOD target HTTP/1.1.");
    struct slice words = {line.base, line.len - tail};
    const char *space = memchr(words.base, ' ', words.len);
    const char *end = words.base + words.len;
    if (space == NULL || space == words.base || space + 1 == end || memchr(space + 1, ' ', (size_t)(end - space - 1)))
        return refuse(scan, "The request line is not METHOD target HTTP/1.1.");
    scan->is_http_1_0 = line.base[line.len - 1] == '0';
    return true;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_token(struct slice name)
{
    static const char extra[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < name.len; i++) {
        if (!is_alphanumeric(name.base[i]) && memchr(extra, name.base[i], sizeof extra - 1) == NULL)
            return false;
    }
    return name.len > 0;
}

static bool is_named(struct slice name, const char *lower)
{
    return name.len == strlen(lower) && strncasecmp(name.base, lower, name.len) == 0;
}

static struct slice trim(struct slice value)
{
    while (value.len > 0 && (value.base[0] == ' ' || value.base[0] == '\t')) {
        value.base++;
        value.len--;
    }
    while (value.len > 0 && (value.base[value.len - 1] == ' ' || value.base[value.len - 1] == '\t'))
        value.len--;
    return value;
}

static bool check_length(struct scan *scan, struct slice value)
{
    scan->out->has_length = true;
    if (++scan->lengths > 1)
        return refuse(scan, "There is more than one Content-Length.");
    bool digits = value.len > 0 && value.len <= 18;
    for (size_t i = 0; digits && i < value.len; i++)
        digits = value.base[i] >= '0' && value.base[i] <= '9';
    return digits || refuse(scan, "Content-Length is not a decimal number.");
}

static bool check_encoding(struct scan *scan, struct slice value)
{
    scan->out->is_chunked = true;
    if (++scan->encodings > 1)
        return refuse(scan, "There is more than one Transfer-Encoding.");
    return is_named(value, "chunked") || refuse(scan, "Transfer-Encoding is not exactly chunked.");
}

/* The characters of a host name, an address literal and a port (RFC 3986, section 3.2); empty is allowed. */
static bool check_host(struct scan *scan, struct slice value)
{
    static const char others[] = "-._~!$&'()*+,;=%:[]";
    if (++scan->hosts > 1)
        return refuse(scan, "There is more than one Host.");
    for (size_t i = 0; i < value.len; i++) {
        if (!is_alphanumeric(value.base[i]) && memchr(others, value.base[i], sizeof others - 1) == NULL)
            return refuse(scan, "Host is not a host name.");
    }
    return true;
}

static bool check_header(struct scan *scan, struct slice line)
{
    if (line.base[0] == ' ' || line.base[0] == '\t')
        return refuse(scan, "A header is folded over several lines.");
    const char *colon = memchr(line.base, ':', line.len);
    if (colon == NULL)
        return refuse(scan, "A header line has no colon.");
    struct slice name = {line.base, (size_t)(colon - line.base)};
    struct slice value = trim((struct slice){colon + 1, line.len - name.len - 1});
    if (!is_token(name))
        return refuse(scan, "A header has a malformed name.");
    if (is_named(name, "content-length"))
        return check_length(scan, value);
    if (is_named(name, "transfer-encoding"))
        return check_encoding(scan, value);
    return !is_named(name, "host") || check_host(scan, value);
}

/* What only the whole head tells. */
static bool check_together(struct scan *scan)
{
    if (scan->lengths > 0 && scan->encodings > 0)
        return refuse(scan, "There are both Content-Length and Transfer-Encoding.");
    if (scan->encodings > 0 && scan->is_http_1_0)
        return refuse(scan, "HTTP/1.0 has no Transfer-Encoding.");
    if (scan->hosts == 0 && !scan->is_http_1_0)
        return refuse(scan, "There is no Host.");
    return true;
}

void framing_scan(struct slice input, struct framing *out)
{
    *out = (struct framing){0};
    struct scan scan = {.out = out, .at = input.base, .end = input.base + input.len};
    struct slice line;
    if (!take_line(&scan, &line) || (line.len == 0 && !take_line(&scan, &line)) || !check_request_line(&scan, line))
        return;
    do {
        if (!take_line(&scan, &line) || (line.len > 0 && !check_header(&scan, line)))
            return;
    } while (line.len > 0);
    (void)check_together(&scan);
}
