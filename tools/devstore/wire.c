/* Sockets and frames. Whatever a stranger sends ends his own connection at most. */
#include "commands.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OP_REPLY = 1, OP_QUERY = 2004, OP_MSG = 2013 };
enum { FLAG_CHECKSUM = 1, FLAG_MORE_TO_COME = 2, FLAGS_REQUIRED = 0xffff };
enum { HEADER = 16, MAX_CONNECTIONS = 1000, READ_STEP = 64 * 1024, STOP_MS = 5000 };

struct connection {
    int fd;
    struct server *server;
    struct client client;
};

/* False: the server stops, and the socket has not become ready in the time left. */
static bool wait_for(const struct connection *c, short events, int patience_ms)
{
    struct pollfd fds[2] = {{.fd = c->fd, .events = events}, {.fd = c->server->stop_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (!fds[1].revents)
        return true;
    return patience_ms > 0 && poll(fds, 1, patience_ms) == 1;
}

/* Grows with what arrives, not with what the header promises. What is not complete when the server stops, is lost. */
static bool receive(const struct connection *c, struct buffer *in, size_t size)
{
    while (in->size < size) {
        size_t have = in->size, want = size - have < READ_STEP ? size - have : READ_STEP;
        if (!wait_for(c, POLLIN, 0))
            return false;
        buffer_append(in, NULL, want);
        ssize_t n = recv(c->fd, in->data + have, want, MSG_DONTWAIT);
        in->size = have + (n > 0 ? (size_t)n : 0);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return false;
    }
    return true;
}

/* What is being answered is still sent when the server stops, unless its client does not read. */
static bool send_all(const struct connection *c, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EINTR && (errno != EAGAIN || !wait_for(c, POLLOUT, STOP_MS)))
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
    for (const uint8_t *document = name_end + 1; document < end; document += int32_at(document)) {
        size_t left = (size_t)(end - document);
        if (left < 5 || int32_at(document) < 5 || (size_t)int32_at(document) > left ||
            !document_check(document, (size_t)int32_at(document), MAX_REQUEST_DEPTH))
            return false;
    }
    request->sequences[request->sequence_count++] =
        (struct sequence){.name = (const char *)at + 4,
                          .documents = {.data = (uint8_t *)name_end + 1, .size = (size_t)(end - name_end - 1)}};
    return true;
}

static bool parse_message(struct request *request, const uint8_t *at, size_t size, int32_t *flags)
{
    if (size < 4)
        return false;
    *flags = int32_at(at);
    const uint8_t *end = at + size - (*flags & FLAG_CHECKSUM ? 4 : 0);
    if ((*flags & FLAGS_REQUIRED & ~(FLAG_CHECKSUM | FLAG_MORE_TO_COME)) || end < at + 4)
        return false;
    for (at += 4; at < end;) {
        uint8_t kind = *at++;
        size_t left = (size_t)(end - at);
        if (left < 5 || int32_at(at) < 5 || (size_t)int32_at(at) > left)
            return false;
        size_t section = (size_t)int32_at(at);
        if (kind == 0 ? request->body.value_type || !document_check(at, section, MAX_REQUEST_DEPTH)
                      : kind != 1 || !parse_sequence(request, at, section))
            return false;
        if (kind == 0)
            request->body = document_view(at);
        at += section;
    }
    return request->body.value_type != BSON_TYPE_EOD;
}

/* The handshake of old: flags, "database.$cmd", skip, limit, document. */
static bool parse_query(struct request *request, uint8_t *at, size_t size)
{
    uint8_t *name_end = size > 4 ? memchr(at + 4, 0, size - 4) : NULL;
    char *name = (char *)at + 4, *dot = name_end ? strstr(name, ".$cmd") : NULL;
    size_t head = name_end ? (size_t)(name_end - at) + 9 : size;
    if (!dot || dot[5] || size < head || !document_check(at + head, size - head, MAX_REQUEST_DEPTH))
        return false;
    *dot = 0;
    request->legacy = true;
    request->db = name;
    request->body = document_view(at + head);
    value wrapped = document_get(request->body, "$query");
    if (wrapped.value_type == BSON_TYPE_DOCUMENT)
        request->body = wrapped;
    return true;
}

static bool reply(const struct connection *c, int32_t opcode, uint32_t response_to, const bson_t *document)
{
    uint32_t head[9] = {[2] = BSON_UINT32_TO_LE(response_to), [3] = BSON_UINT32_TO_LE((uint32_t)opcode)};
    size_t head_size = HEADER + (opcode == OP_REPLY ? 20 : 5); /* OP_MSG: flags 0, a section of kind 0 */
    struct buffer out = {0};
    head[0] = BSON_UINT32_TO_LE((uint32_t)head_size + document->len);
    if (opcode == OP_REPLY)
        head[8] = BSON_UINT32_TO_LE(1); /* numberReturned */
    buffer_append(&out, head, head_size);
    buffer_append(&out, bson_get_data(document), document->len);
    bool ok = send_all(c, out.data, out.size);
    buffer_free(&out);
    return ok;
}

/* One request and its answer; false ends the connection. */
static bool serve_one(struct connection *c, struct buffer *in)
{
    struct request request = {.server = c->server, .client = &c->client};
    int32_t flags = 0;
    in->size = 0;
    if (!receive(c, in, HEADER))
        return false;
    int32_t length = int32_at(in->data), id = int32_at(in->data + 4), opcode = int32_at(in->data + 12);
    if (length < HEADER || length > MAX_MESSAGE_BYTES || (opcode != OP_MSG && opcode != OP_QUERY) ||
        !receive(c, in, (size_t)length))
        return false;
    uint8_t *at = in->data + HEADER;
    size_t size = (size_t)length - HEADER;
    if (!(opcode == OP_MSG ? parse_message(&request, at, size, &flags) : parse_query(&request, at, size)))
        return false;
    bson_t answer = BSON_INITIALIZER;
    bool ok = command_run(&request, &answer) &&
              (flags & FLAG_MORE_TO_COME || reply(c, opcode == OP_MSG ? OP_MSG : OP_REPLY, (uint32_t)id, &answer));
    bson_destroy(&answer);
    return ok;
}

static void *connection_loop(void *context)
{
    struct connection *c = context;
    struct buffer in = {0};
    while (serve_one(c, &in))
        if (in.capacity > 16 * READ_STEP) /* do not keep the room of one giant for good */
            buffer_free(&in);
    buffer_free(&in);
    close(c->fd);
    pthread_mutex_lock(&c->server->lock);
    c->server->connections--;
    pthread_cond_signal(&c->server->left);
    pthread_mutex_unlock(&c->server->lock);
    bson_free(c);
    return NULL;
}

static void welcome(struct server *server, int fd)
{
    struct connection *c = bson_malloc0(sizeof *c);
    int on = 1;
    pthread_t thread;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *c = (struct connection){.fd = fd, .server = server, .client.id = ++server->last_id};
    pthread_mutex_lock(&server->lock);
    bool full = server->connections >= MAX_CONNECTIONS;
    if (!full && pthread_create(&thread, NULL, connection_loop, c) == 0) {
        server->connections++;
        pthread_detach(thread);
        c = NULL;
    }
    pthread_mutex_unlock(&server->lock);
    if (c)
        close(fd);
    bson_free(c);
}

void server_run(struct server *server, int listener)
{
    struct pollfd fds[2] = {{.fd = server->stop_fd, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    while (!(fds[0].revents & POLLIN)) {
        if (poll(fds, 2, -1) < 0 || !(fds[1].revents & POLLIN))
            continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            welcome(server, fd);
        else if (errno == EMFILE || errno == ENFILE)
            poll(fds, 1, 50); /* no descriptors left: wait for one, do not spin */
    }
    pthread_mutex_lock(&server->lock);
    while (server->connections > 0)
        pthread_cond_wait(&server->left, &server->lock);
    pthread_mutex_unlock(&server->lock);
}
