#include "base/address.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/slice.h"

static bool parse_port(const char *text, uint16_t *port)
{
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
        return false;
    long value = strtol(text, NULL, 10);
    if (value > 65535)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* Splits at the last colon outside of brackets, so that [::1]:80 works; copies the host without its brackets. */
static bool split_host(const char *text, size_t len, char *host, size_t host_size, size_t *port_at)
{
    const char *close = memchr(text, ']', len);
    const char *from = close == NULL ? text : close;
    const char *colon = memchr(from, ':', len - (size_t)(from - text));
    size_t host_len = colon == NULL ? len : (size_t)(colon - text);
    *port_at = colon == NULL ? len : host_len + 1;
    if (text[0] == '[') {
        if (close == NULL || (size_t)(close - text) != host_len - 1)
            return false;
        text++;
        host_len -= 2;
    }
    if (host_len >= host_size)
        return false;
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    return true;
}

bool address_parse(const char *text, struct address *out, struct error *err)
{
    size_t port_at;
    if (split_host(text, strlen(text), out->host, sizeof out->host, &port_at) && text[port_at] != '\0' &&
        parse_port(text + port_at, &out->port))
        return true;
    error_set(err, "'%s' is not host:port with a port from 0 to 65535", text);
    return false;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool percent_decode(struct slice text, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        if (c == '%') {
            if (text.len - i < 3 || hex_digit(text.base[i + 1]) < 0 || hex_digit(text.base[i + 2]) < 0)
                return false;
            c = (char)(hex_digit(text.base[i + 1]) << 4 | hex_digit(text.base[i + 2]));
            i += 2;
        }
        if (n + 1 >= size || c == '\0')
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

/* Takes "user:password@" from the front of *rest. */
static bool take_credentials(const char **rest, struct redis_url *out)
{
    const char *at = strchr(*rest, '@');
    if (at == NULL)
        return true;
    const char *colon = memchr(*rest, ':', (size_t)(at - *rest));
    const char *user_end = colon == NULL ? at : colon;
    bool good = percent_decode((struct slice){*rest, (size_t)(user_end - *rest)}, out->user, sizeof out->user);
    if (colon != NULL)
        good = good &&
               percent_decode((struct slice){colon + 1, (size_t)(at - colon - 1)}, out->password, sizeof out->password);
    *rest = at + 1;
    return good;
}

static bool parse_database(const char *text, int *database)
{
    size_t len = strlen(text);
    if (len == 0 || len > 4 || strspn(text, "0123456789") != len)
        return false;
    *database = atoi(text);
    return true;
}

static bool parse_unix(const char *rest, struct redis_url *out)
{
    const char *query = strchr(rest, '?');
    size_t len = query == NULL ? strlen(rest) : (size_t)(query - rest);
    if (rest[0] != '/' || len >= sizeof out->unix_path)
        return false;
    memcpy(out->unix_path, rest, len);
    out->unix_path[len] = '\0';
    if (query == NULL)
        return true;
    return strncmp(query, "?db=", 4) == 0 && parse_database(query + 4, &out->database);
}

static bool parse_tcp(const char *rest, struct redis_url *out)
{
    const char *slash = strchr(rest, '/');
    size_t len = slash == NULL ? strlen(rest) : (size_t)(slash - rest), port_at;
    if (slash != NULL && slash[1] != '\0' && !parse_database(slash + 1, &out->database))
        return false;
    if (!split_host(rest, len, out->host, sizeof out->host, &port_at) || out->host[0] == '\0')
        return false;
    out->port = 6379;
    if (port_at == len && rest[len - (len > 0)] != ':')
        return true;
    char port[8];
    if (len - port_at >= sizeof port)
        return false;
    memcpy(port, rest + port_at, len - port_at);
    port[len - port_at] = '\0';
    return parse_port(port, &out->port) && out->port != 0;
}

/* The URL itself is not in the message: it may hold a password. */
bool redis_url_parse(const char *text, struct redis_url *out, struct error *err)
{
    *out = (struct redis_url){0};
    const char *rest = strstr(text, "://");
    size_t scheme_len = rest == NULL ? 0 : (size_t)(rest - text);
    struct slice scheme = {text, scheme_len};
    bool is_unix = slice_is(scheme, "unix") || slice_is(scheme, "redis+unix");
    if (slice_is(scheme, "rediss")) {
        error_set(err, "rediss:// (TLS) is not supported: use a local TLS proxy and redis:// or unix://");
        return false;
    }
    if (is_unix || slice_is(scheme, "redis")) {
        rest += 3;
        if (take_credentials(&rest, out) && (is_unix ? parse_unix(rest, out) : parse_tcp(rest, out)))
            return true;
    }
    error_set(err, "not a Redis URL: redis://[user:password@]host[:port][/db] or unix://[user:password@]/path[?db=N]");
    return false;
}

static int listen_on(const struct addrinfo *info, int backlog, struct error *err)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error_set(err, "cannot make a socket: %s", strerror(errno));
        return -1;
    }
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, backlog) == 0)
        return fd;
    if (errno == EADDRINUSE)
        error_set(err, "the port is in use: stop what uses it, or choose another port");
    else if (errno == EACCES)
        error_set(err, "no permission for this port: choose one above 1023");
    else
        error_set(err, "cannot listen there: %s", strerror(errno));
    close(fd);
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char port[8] = "0";
    if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
        getnameinfo((struct sockaddr *)&bound, len, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    return (uint16_t)atoi(port);
}

int address_listen(const struct address *address, int backlog, uint16_t *port, struct error *err)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)address->port);
    int code = getaddrinfo(address->host[0] == '\0' ? NULL : address->host, service, &hints, &found);
    if (code != 0) {
        error_set(err, "cannot listen on '%s': %s", address->host, gai_strerror(code));
        return -1;
    }
    int fd = listen_on(found, backlog, err);
    freeaddrinfo(found);
    if (fd < 0)
        error_prefix(err, "%s:%u", address->host, (unsigned)address->port);
    else
        *port = port_of(fd);
    return fd;
}
