#include "ingest/listener.h"

#include <errno.h>
#include <h2o.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "ingest/http.h"

#define ACCEPTS_A_TURN  32  /* fairness towards the connections that are already there */
#define ACCEPT_PAUSE_MS 100 /* when the system has no descriptor left: polling on would spin */
#define LINGER_MS       2000

/* At the cap, whoever has had no request for so long has to make room for somebody who waits. */
#define ROOM_IDLE_MS  1000
#define ROOM_PAUSE_MS 100 /* until the next look whether somebody can */

struct connection {
    struct connection *next, *prev;
    struct listener *listener;
    h2o_socket_t *socket;
    mono_time waiting_since; /* for its next request, when not busy */
    bool busy;               /* a request is being answered */
    bool leaving;            /* reads no more than what the kernel has already, and closes then */
    int linger_fd;           /* -1, or a duplicate that keeps the connection open when the library closes it */
};

struct listener {
    struct listener_options options;
    h2o_accept_ctx_t accept;
    h2o_socket_t *socket; /* NULL while not accepting for good */
    void *pause;          /* timer */
    bool paused;
    bool is_crowded; /* at the cap, and nobody to send away now; or somebody just was */
    void *patience;  /* timer: the next connection that has waited for too long */
    bool is_patience_set;
    struct connection *connections; /* open; a list without order */
    struct lingering *lingers;
    size_t n; /* connections and lingers */
    struct log_gate gate, room_gate;
};

/* What is left of a connection whose answer is sent and whose input is thrown away. */
struct lingering {
    struct lingering *next, *prev;
    struct listener *listener;
    void *watch, *timer;
    int fd;
    size_t discarded;
};

static void on_acceptable(h2o_socket_t *socket, const char *err);

static void update_accepting(struct listener *listener)
{
    if (listener->socket == NULL)
        return;
    bool wanted = !listener->paused && !listener->is_crowded; /* at the cap too, to see that somebody waits */
    if (wanted && !h2o_socket_is_reading(listener->socket))
        h2o_socket_read_start(listener->socket, on_acceptable);
    else if (!wanted && h2o_socket_is_reading(listener->socket))
        h2o_socket_read_stop(listener->socket);
}

static void add_count(struct listener *listener, int by)
{
    listener->n = by > 0 ? listener->n + 1 : listener->n - 1;
    listener->is_crowded = listener->is_crowded && by > 0;
    metric_add(listener->options.measures->connections, by);
    update_accepting(listener);
}

/* ---- lingering ---- */

static void linger_end(struct lingering *linger)
{
    struct listener *listener = linger->listener;
    struct loop_io io = loop_h2o_io(listener->options.loop);
    if (linger->prev != NULL)
        linger->prev->next = linger->next;
    else
        listener->lingers = linger->next;
    if (linger->next != NULL)
        linger->next->prev = linger->prev;
    io.release(linger->watch);
    io.timer_free(linger->timer);
    free(linger);
    add_count(listener, -1);
}

static void linger_on_time(void *arg)
{
    linger_end(arg);
}

static void linger_on_event(void *arg, bool readable, bool writable)
{
    (void)readable;
    (void)writable;
    struct lingering *linger = arg;
    char scrap[65536];
    ssize_t got = recv(linger->fd, scrap, sizeof scrap, MSG_DONTWAIT);
    if (got > 0)
        linger->discarded += (size_t)got;
    bool over = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    if (over || linger->discarded > linger->listener->options.linger_max_bytes)
        linger_end(linger);
}

static void linger_start(struct listener *listener, int fd)
{
    struct loop_io io = loop_h2o_io(listener->options.loop);
    struct lingering *linger = memory_alloc(sizeof *linger);
    *linger = (struct lingering){.next = listener->lingers, .listener = listener, .fd = fd};
    if (linger->next != NULL)
        linger->next->prev = linger;
    listener->lingers = linger;
    shutdown(fd, SHUT_WR);
    linger->watch = io.watch(io.loop, fd, linger_on_event, linger);
    linger->timer = io.timer_new(io.loop, linger_on_time, linger);
    io.timer_set(linger->timer, LINGER_MS);
    io.want_read(linger->watch);
    add_count(listener, +1);
}

/* ---- connections ---- */

static void on_close(void *arg)
{
    struct connection *connection = arg;
    struct listener *listener = connection->listener;
    if (connection->prev != NULL)
        connection->prev->next = connection->next;
    else
        listener->connections = connection->next;
    if (connection->next != NULL)
        connection->next->prev = connection->prev;
    if (connection->linger_fd >= 0)
        linger_start(listener, connection->linger_fd);
    free(connection);
    add_count(listener, -1);
}

static bool has_part_of_request(const struct connection *connection)
{
    return connection->socket->input != NULL && connection->socket->input->size > 0;
}

/* The library has no call to close a connection. When reading ends it does so itself, and what the kernel already has
 * of a request is still read and answered. */
static void send_away(struct connection *connection)
{
    connection->leaving = true;
    shutdown(h2o_socket_get_fd(connection->socket), SHUT_RD);
}

static void begin_waiting(struct connection *connection)
{
    struct listener *listener = connection->listener;
    connection->waiting_since = clock_mono();
    if (!listener->is_patience_set)
        loop_h2o_timer_set(listener->patience, listener->options.request_timeout_ms);
    listener->is_patience_set = true;
}

static void reject_slow_sender(const struct connection *connection)
{
    char peer[HTTP_PEER_BYTES];
    metric_add(connection->listener->options.measures->slow_senders, 1);
    log_info("rejected", LOG_S("reason", "The request did not arrive whole in time."),
             LOG_S("remote", http_peer_of(connection->socket, peer)));
}

/* Sends those away that have waited for too long, and sets the timer for the next one. */
static void on_patience_over(void *arg)
{
    struct listener *listener = arg;
    int64_t limit_ms = listener->options.request_timeout_ms, next_ms = -1;
    for (struct connection *c = listener->connections; c != NULL; c = c->next) {
        if (c->busy || c->leaving)
            continue;
        int64_t left_ms = limit_ms - mono_elapsed_ms(c->waiting_since, clock_mono());
        if (left_ms <= 0) {
            if (has_part_of_request(c))
                reject_slow_sender(c);
            send_away(c);
        } else if (next_ms < 0 || left_ms < next_ms) {
            next_ms = left_ms;
        }
    }
    listener->is_patience_set = next_ms >= 0;
    loop_h2o_timer_set(listener->patience, next_ms);
}

static void open_connection(struct listener *listener, h2o_socket_t *socket)
{
    struct connection *connection = memory_alloc(sizeof *connection);
    *connection =
        (struct connection){.next = listener->connections, .listener = listener, .socket = socket, .linger_fd = -1};
    if (connection->next != NULL)
        connection->next->prev = connection;
    listener->connections = connection;
    socket->on_close.cb = on_close;
    socket->on_close.data = connection;
    begin_waiting(connection);
    add_count(listener, +1);
    h2o_accept(&listener->accept, socket);
}

static void on_pause_over(void *arg)
{
    struct listener *listener = arg;
    listener->paused = listener->is_crowded = false;
    update_accepting(listener);
}

static void pause_accepting(struct listener *listener, int error)
{
    uint64_t skipped;
    if (log_gate_open(&listener->gate, 5000, &skipped))
        log_warn("cannot accept connections", LOG_S("error", strerror(error)), LOG_I("skipped", skipped));
    listener->paused = true;
    loop_h2o_timer_set(listener->pause, ACCEPT_PAUSE_MS);
    update_accepting(listener);
}

/* NULL: nobody who could go without harm. */
static struct connection *find_longest_idle(const struct listener *listener)
{
    struct connection *longest = NULL;
    for (struct connection *c = listener->connections; c != NULL; c = c->next) {
        bool is_idle = !c->busy && !c->leaving && !has_part_of_request(c);
        if (is_idle && (longest == NULL || c->waiting_since.us < longest->waiting_since.us))
            longest = c;
    }
    bool is_long = longest != NULL && mono_elapsed_ms(longest->waiting_since, clock_mono()) >= ROOM_IDLE_MS;
    return is_long ? longest : NULL;
}

/* Somebody waits to be accepted. As long as another thread has room, it is that one's turn. */
static void make_room(struct listener *listener)
{
    uint64_t skipped;
    const struct listener_options *options = &listener->options;
    bool is_full = metric_value(options->measures->connections) >= (int64_t)options->max_in_all;
    struct connection *longest = is_full ? find_longest_idle(listener) : NULL;
    if (longest != NULL) {
        if (log_gate_open(&listener->room_gate, 5000, &skipped))
            log_warn("all connections are taken: the longest idle ones are closed for others",
                     LOG_I("connections", options->max_in_all), LOG_I("skipped", skipped));
        send_away(longest);
    }
    listener->is_crowded = true;
    loop_h2o_timer_set(listener->pause, ROOM_PAUSE_MS);
    update_accepting(listener);
}

static void on_acceptable(h2o_socket_t *socket, const char *err)
{
    (void)err;
    struct listener *listener = socket->data;
    if (listener->n >= listener->options.max_connections) {
        make_room(listener);
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN && listener->n < listener->options.max_connections; i++) {
        h2o_socket_t *accepted = h2o_evloop_socket_accept(socket);
        if (accepted != NULL) {
            open_connection(listener, accepted);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(listener, errno);
        return;
    }
}

struct listener *listener_new(const struct listener_options *options)
{
    int fd = dup(options->fd);
    if (fd < 0)
        return NULL;
    struct listener *listener = memory_alloc(sizeof *listener);
    listener->options = *options;
    listener->accept = (h2o_accept_ctx_t){
        .ctx = options->context, .hosts = options->context->globalconf->hosts, .ssl_ctx = options->tls};
    listener->pause = loop_h2o_timer_new(options->loop, on_pause_over, listener);
    listener->patience = loop_h2o_timer_new(options->loop, on_patience_over, listener);
    listener->socket = h2o_evloop_socket_create(options->context->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->socket->data = listener;
    update_accepting(listener);
    return listener;
}

static void stop_accepting(struct listener *listener)
{
    if (listener->socket == NULL)
        return;
    h2o_socket_read_stop(listener->socket);
    h2o_socket_close(listener->socket);
    listener->socket = NULL;
}

void listener_free(struct listener *listener)
{
    if (listener == NULL)
        return;
    stop_accepting(listener);
    loop_h2o_timer_free(listener->pause);
    loop_h2o_timer_free(listener->patience);
    free(listener);
}

size_t listener_connections(const struct listener *listener)
{
    return listener->n;
}

void listener_set_tls(struct listener *listener, struct ssl_ctx_st *tls)
{
    listener->accept.ssl_ctx = tls;
}

void listener_drain(struct listener *listener)
{
    stop_accepting(listener);
    for (struct connection *c = listener->connections; c != NULL; c = c->next) {
        if (!c->busy && !has_part_of_request(c))
            send_away(c);
    }
}

void listener_cut(struct listener *listener)
{
    for (struct connection *c = listener->connections; c != NULL; c = c->next)
        shutdown(h2o_socket_get_fd(c->socket), SHUT_RDWR);
    while (listener->lingers != NULL)
        linger_end(listener->lingers);
}

struct connection *connection_of(h2o_socket_t *socket)
{
    return socket->on_close.data;
}

void connection_begins_request(struct connection *connection)
{
    connection->busy = true;
}

void connection_ends_request(struct connection *connection)
{
    connection->busy = false;
    begin_waiting(connection);
}

bool connection_is_busy(const struct connection *connection)
{
    return connection->busy;
}

void connection_lingers(struct connection *connection)
{
    if (connection->linger_fd < 0)
        connection->linger_fd = dup(h2o_socket_get_fd(connection->socket));
}
