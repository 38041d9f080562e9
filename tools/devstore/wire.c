/* Sockets and frames. Whatever a stranger sends ends his own connection at most. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OP_REPLY = 1, OP_QUERY = 2004, OP_MSG = 2013 };
enum { FLAG_CHECKSUM = 1, FLAG_MORE_TO_COME = 2, FLAGS_REQUIRED = 0xffff };
enum { HEADER = 16, MAX_CONNECTIONS = 1000, READ_STEP = 64 * 1024, STOP_SECONDS = 5 };

struct listener {
    int fd;
};

struct connection {
    int fd;
    struct server *server;
    struct crowd *crowd;
    struct client client;
    struct connection *next, **link;
};

/* The connections there are, so that a stop can end them. */
struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t empty;
    struct connection *list;
    int64_t last_id;
};

static int32_t get32(const uint8_t *at)
{
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return (int32_t)BSON_UINT32_FROM_LE(n);
}

static void set32(uint8_t *at, int32_t number)
{
    uint32_t n = BSON_UINT32_TO_LE((uint32_t)number);
    memcpy(at, &n, sizeof n);
}

/* Grows with what arrives, not with what the header promises. */
static bool receive(int fd, struct buffer *in, size_t size)
{
    while (in->size < size) {
        size_t have = in->size, want = size - have;
        if (in->capacity - have < want && in->capacity - have < READ_STEP) {
            in->capacity += READ_STEP + in->capacity;
            in->data = reallocate(in->data, in->capacity);
        }
        size_t room = in->capacity - have;
        ssize_t n = recv(fd, in->data + have, room < want ? room : want, 0);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        in->size += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return false;
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* A section of kind 1: size, name, documents. */
static bool parse_sequence(struct request *request, const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size, *name_end = memchr(at + 4, 0, size - 4);
    if (!name_end || request->sequence_count == MAX_SEQUENCES)
        return false;
    struct sequence *s = &request->sequences[request->sequence_count++];
    *s = (struct sequence){.name = (const char *)at + 4, .at = name_end + 1, .end = end};
    for (const uint8_t *document = s->at; document < end; document += get32(document))
        if (!document_check(document, (size_t)(end - document), MAX_REQUEST_DEPTH))
            return false;
    return true;
}

static bool parse_message(struct request *request, const uint8_t *at, size_t size, int32_t *flags)
{
    if (size < 4)
        return false;
    *flags = get32(at);
    const uint8_t *end = at + size - (*flags & FLAG_CHECKSUM ? 4 : 0);
    if ((*flags & FLAGS_REQUIRED & ~(FLAG_CHECKSUM | FLAG_MORE_TO_COME)) || end < at + 4)
        return false;
    for (at += 4; at < end;) {
        uint8_t kind = *at++;
        size_t left = (size_t)(end - at);
        if (left < 5 || get32(at) < 5 || (size_t)get32(at) > left)
            return false;
        if (kind == 0 ? request->body.type || !document_check(at, left, MAX_REQUEST_DEPTH)
                      : kind != 1 || !parse_sequence(request, at, (size_t)get32(at)))
            return false;
        if (kind == 0)
            request->body = document_view(at);
        at += get32(at);
    }
    return request->body.type != BSON_TYPE_EOD;
}

/* The handshake of old: flags, "database.$cmd", skip, limit, document. */
static bool parse_query(struct request *request, const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size, *name = at + 4;
    const uint8_t *name_end = size > 4 ? memchr(name, 0, size - 4) : NULL;
    const char *dot = name_end ? strstr((const char *)name, ".$cmd") : NULL;
    if (!dot || dot[5] || end - name_end < 9 ||
        !document_check(name_end + 9, (size_t)(end - name_end - 9), MAX_REQUEST_DEPTH))
        return false;
    request->legacy = true;
    request->db = arena_string(&request->arena, (const char *)name, (size_t)(dot - (const char *)name));
    request->body = document_view(name_end + 9);
    struct value wrapped = document_get(request->body, "$query");
    if (wrapped.type == BSON_TYPE_DOCUMENT)
        request->body = wrapped;
    return true;
}

static void begin_reply(struct buffer *out, int32_t opcode, int32_t response_to)
{
    static const uint8_t zeros[HEADER + 20] = {0};
    out->size = 0;
    buffer_append(out, zeros, HEADER + (opcode == OP_REPLY ? 20 : 5)); /* OP_MSG: flags 0, a section of kind 0 */
    set32(out->data + 8, response_to);
    set32(out->data + 12, opcode);
    if (opcode == OP_REPLY)
        set32(out->data + HEADER + 16, 1); /* numberReturned */
}

/* One request and its answer; false ends the connection. */
static bool serve_one(struct connection *c, struct buffer *in, struct buffer *out)
{
    struct request request = {.server = c->server, .client = &c->client};
    int32_t flags = 0;
    in->size = 0;
    if (!receive(c->fd, in, HEADER))
        return false;
    int32_t length = get32(in->data), id = get32(in->data + 4), opcode = get32(in->data + 12);
    if (length < HEADER || length > MAX_MESSAGE_BYTES || (opcode != OP_MSG && opcode != OP_QUERY) ||
        !receive(c->fd, in, (size_t)length))
        return false;
    const uint8_t *at = in->data + HEADER;
    size_t size = (size_t)length - HEADER;
    if (!(opcode == OP_MSG ? parse_message(&request, at, size, &flags) : parse_query(&request, at, size))) {
        arena_free(&request.arena);
        return false;
    }
    begin_reply(out, opcode == OP_MSG ? OP_MSG : OP_REPLY, id);
    if (!command_run(&request, out))
        return false;
    set32(out->data, (int32_t)out->size);
    return (flags & FLAG_MORE_TO_COME) || send_all(c->fd, out->data, out->size);
}

static void leave(struct connection *c)
{
    struct crowd *crowd = c->crowd;
    pthread_mutex_lock(&crowd->lock);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    close(c->fd); /* under the lock: a stop must not shut down a number that was given away again */
    atomic_fetch_sub(&c->server->connections, 1);
    free(c);
    if (!crowd->list)
        pthread_cond_signal(&crowd->empty);
    pthread_mutex_unlock(&crowd->lock);
}

static void *connection_loop(void *context)
{
    struct connection *c = context;
    struct buffer in = {0}, out = {0};
    while (serve_one(c, &in, &out)) {
        if (in.capacity > 16 * READ_STEP) /* do not keep the room of one giant for good */
            buffer_free(&in);
        if (out.capacity > 16 * READ_STEP)
            buffer_free(&out);
    }
    buffer_free(&in);
    buffer_free(&out);
    leave(c);
    return NULL;
}

static void welcome(struct crowd *crowd, struct server *server, int fd)
{
    int on = 1;
    pthread_t thread;
    pthread_attr_t detached;
    if (atomic_load(&server->connections) >= MAX_CONNECTIONS) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = allocate(sizeof *c);
    pthread_mutex_lock(&crowd->lock);
    *c = (struct connection){.fd = fd, .server = server, .crowd = crowd, .client.id = ++crowd->last_id,
                             .next = crowd->list, .link = &crowd->list};
    if (c->next)
        c->next->link = &c->next;
    crowd->list = c;
    atomic_fetch_add(&server->connections, 1);
    pthread_mutex_unlock(&crowd->lock);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, connection_loop, c) != 0)
        leave(c);
    pthread_attr_destroy(&detached);
}

/* What is being answered is still sent, unless its client does not read. */
static void disperse(struct crowd *crowd)
{
    struct timespec patience;
    clock_gettime(CLOCK_REALTIME, &patience);
    patience.tv_sec += STOP_SECONDS;
    pthread_mutex_lock(&crowd->lock);
    for (struct connection *c = crowd->list; c; c = c->next)
        shutdown(c->fd, SHUT_RD);
    while (crowd->list && pthread_cond_timedwait(&crowd->empty, &crowd->lock, &patience) == 0)
        ;
    for (struct connection *c = crowd->list; c; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    while (crowd->list)
        pthread_cond_wait(&crowd->empty, &crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
}

void listener_serve(struct listener *listener, struct server *server)
{
    struct crowd crowd = {.lock = PTHREAD_MUTEX_INITIALIZER, .empty = PTHREAD_COND_INITIALIZER};
    struct pollfd fds[2] = {{.fd = server->stop_fd, .events = POLLIN}, {.fd = listener->fd, .events = POLLIN}};
    while (!(fds[0].revents & POLLIN)) {
        if (poll(fds, 2, -1) < 0 || !(fds[1].revents & POLLIN))
            continue;
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            welcome(&crowd, server, fd);
        else if (errno == EMFILE || errno == ENFILE)
            poll(fds, 1, 50); /* no descriptors left: wait for one, do not spin */
    }
    disperse(&crowd);
}

struct listener *listener_open(const char *address, char message[256])
{
    char host[200];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    snprintf(host, sizeof host, "%.*s", colon ? (int)(colon - address) : 0, address);
    size_t length = strlen(host);
    if (length > 2 && host[0] == '[' && host[length - 1] == ']') { /* [::1]:27017 */
        memmove(host, host + 1, length);
        host[length - 2] = 0;
    }
    int failed = colon ? getaddrinfo(*host ? host : NULL, colon + 1, &hints, &found) : EAI_NONAME;
    if (failed) {
        snprintf(message, 256, "--listen %.100s is not host:port (%.100s)", address, gai_strerror(failed));
        return NULL;
    }
    int on = 1, fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 256) == 0;
    if (!ok)
        snprintf(message, 256, "cannot listen on %.100s: %s", address, strerror(errno));
    freeaddrinfo(found);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct listener *listener = allocate(sizeof *listener);
    listener->fd = fd;
    return listener;
}

void listener_name(const struct listener *listener, char text[64])
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[48] = "?", port[8] = "?";
    if (getsockname(listener->fd, (struct sockaddr *)&address, &size) == 0)
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, 64, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

void listener_close(struct listener *listener)
{
    close(listener->fd);
    free(listener);
}
