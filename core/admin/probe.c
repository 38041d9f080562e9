#include "admin/probe.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"

#define ANSWER_BYTES 4096

const char *probe_take_flag(int *argc, char **argv)
{
    const char *path = NULL;
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--check-live") == 0)
            path = "/livez";
        else if (strcmp(argv[i], "--check-ready") == 0)
            path = "/readyz";
        else
            argv[kept++] = argv[i];
    }
    if (kept < *argc)
        argv[kept] = NULL;
    *argc = kept;
    return path;
}

static const char *reachable_host(const char *host)
{
    if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

/* Bounds each of connect, send and receive by what is left until the deadline. */
static bool limit_time(int fd, mono_time deadline)
{
    int64_t left_us = deadline.us - clock_mono().us;
    if (left_us <= 0) {
        errno = ETIMEDOUT;
        return false;
    }
    struct timeval limit = {.tv_sec = left_us / 1000000, .tv_usec = left_us % 1000000};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
}

static bool send_request(int fd, const char *path)
{
    char request[128];
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
    return send(fd, request, (size_t)len, MSG_NOSIGNAL) == len;
}

/* Reads until the service closes, or the buffer is full: more is of no use here. */
static bool read_answer(int fd, mono_time deadline, char *answer)
{
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len < ANSWER_BYTES - 1) {
        if (!limit_time(fd, deadline))
            return false;
        n = recv(fd, answer + len, ANSWER_BYTES - 1 - len, 0);
        len += n > 0 ? (size_t)n : 0;
    }
    answer[len] = '\0';
    return n >= 0;
}

static bool exchange(const struct addrinfo *to, const char *path, mono_time deadline, char *answer)
{
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool good = limit_time(fd, deadline) && connect(fd, to->ai_addr, to->ai_addrlen) == 0 && send_request(fd, path) &&
                read_answer(fd, deadline, answer);
    int why = errno;
    close(fd);
    errno = why;
    return good;
}

static bool judge(const char *answer, struct error *err)
{
    int status = 0;
    char space[2];
    const char *body = strstr(answer, "\r\n\r\n");
    if (sscanf(answer, "HTTP/1.%*1[01] %3d%1[ ]", &status, space) != 2 || body == NULL) {
        error_set(err, "what answered there is no admin listener");
        return false;
    }
    if (status != 200)
        error_set(err, "%d: %s", status, body + 4);
    return status == 200;
}

/* A service that stops in the middle of its time-out says so in words, not as "resource temporarily unavailable". */
static const char *reason(int code)
{
    return code == EAGAIN || code == EINPROGRESS || code == ETIMEDOUT ? "no answer in time" : strerror(code);
}

bool probe_ask(const char *listen, const char *path, int64_t timeout_ms, struct error *err)
{
    struct address address;
    if (!address_parse(listen, &address, err))
        return false;
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    char port[8], answer[ANSWER_BYTES];
    snprintf(port, sizeof port, "%u", (unsigned)address.port);
    int code = getaddrinfo(reachable_host(address.host), port, &hints, &found);
    if (code != 0) {
        error_set(err, "%s: %s", listen, gai_strerror(code));
        return false;
    }
    bool answered = exchange(found, path, mono_after_ms(clock_mono(), timeout_ms), answer);
    if (!answered)
        error_set(err, "%s: %s", listen, reason(errno));
    freeaddrinfo(found);
    return answered && judge(answer, err);
}
