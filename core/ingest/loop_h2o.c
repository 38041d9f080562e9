#include "ingest/loop_h2o.h"

#include <errno.h>
#include <h2o.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

/* Writing is asked for with each event. A connected socket nearly always takes it, so that it is tried at the end of
 * the turn, with all that the turn brought together; polling for it, at two more system calls and a turn, is for the
 * first time (the connection is being made) and for when it was tried and not all was taken. */
struct watch {
    struct watch *next_writer; /* in loop->writers, when queued */
    struct loop_h2o *loop;
    h2o_socket_t *socket;
    bool was_writable; /* once */
    bool queued, writing;
    bool released; /* while it was queued: freed when its turn comes */
    void (*on_event)(void *arg, bool readable, bool writable);
    void *arg;
};

struct timer {
    struct timer *next;
    struct loop_h2o *loop;
    void (*on_time)(void *arg);
    void *arg;
    mono_time due; /* NEVER: not set */
    bool freed;    /* swept by the next turn, as it may be freed while the list is walked */
};

struct loop_h2o {
    h2o_evloop_t *evloop;
    struct timer *timers; /* a handful */
    struct watch *writers;
    struct log_gate gate;
};

#define NEVER INT64_MAX

struct loop_h2o *loop_h2o_new(h2o_evloop_t *evloop)
{
    struct loop_h2o *loop = memory_alloc(sizeof *loop);
    loop->evloop = evloop;
    return loop;
}

static void sweep_timers(struct loop_h2o *loop)
{
    for (struct timer **link = &loop->timers; *link != NULL;) {
        struct timer *timer = *link;
        if (timer->freed) {
            *link = timer->next;
            free(timer);
        } else {
            link = &timer->next;
        }
    }
}

void loop_h2o_free(struct loop_h2o *loop)
{
    if (loop == NULL)
        return;
    sweep_timers(loop);
    free(loop);
}

/* h2o reads nothing from these sockets (DONT_READ), it only tells. The watch may be gone when on_event returns. */
static void on_readable(h2o_socket_t *socket, const char *err)
{
    (void)err;
    struct watch *watch = socket->data;
    watch->on_event(watch->arg, true, false);
}

static void on_writable(h2o_socket_t *socket, const char *err)
{
    (void)err;
    struct watch *watch = socket->data;
    watch->was_writable = true;
    watch->on_event(watch->arg, false, true);
}

static void *watch_fd(void *loop, int fd, void (*on_event)(void *arg, bool readable, bool writable), void *arg)
{
    struct watch *watch = memory_alloc(sizeof *watch);
    watch->loop = loop;
    watch->socket = h2o_evloop_socket_create(((struct loop_h2o *)loop)->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    watch->socket->data = watch;
    watch->on_event = on_event;
    watch->arg = arg;
    return watch;
}

static void want_read(void *arg)
{
    struct watch *watch = arg;
    if (!h2o_socket_is_reading(watch->socket))
        h2o_socket_read_start(watch->socket, on_readable);
}

static void want_write(void *arg)
{
    struct watch *watch = arg;
    if (watch->queued || h2o_socket_is_writing(watch->socket))
        return;
    if (watch->was_writable && !watch->writing) {
        watch->queued = true;
        watch->next_writer = watch->loop->writers;
        watch->loop->writers = watch;
    } else {
        h2o_socket_notify_write(watch->socket, on_writable);
    }
}

static void release(void *arg)
{
    struct watch *watch = arg;
    h2o_socket_close(watch->socket);
    watch->released = true;
    if (!watch->queued && !watch->writing)
        free(watch);
}

static void run_writers(struct loop_h2o *loop)
{
    while (loop->writers != NULL) {
        struct watch *watch = loop->writers;
        loop->writers = watch->next_writer;
        watch->queued = false;
        watch->writing = true;
        if (!watch->released)
            watch->on_event(watch->arg, false, true);
        watch->writing = false;
        if (watch->released)
            free(watch);
    }
}

void *loop_h2o_timer_new(void *arg, void (*on_time)(void *arg), void *timer_arg)
{
    struct loop_h2o *loop = arg;
    struct timer *timer = memory_alloc(sizeof *timer);
    *timer = (struct timer){loop->timers, loop, on_time, timer_arg, {NEVER}, false};
    loop->timers = timer;
    return timer;
}

void loop_h2o_timer_set(void *arg, int64_t ms)
{
    struct timer *timer = arg;
    timer->due = ms < 0 ? (mono_time){NEVER} : mono_after_ms(clock_mono(), ms);
}

void loop_h2o_timer_free(void *arg)
{
    struct timer *timer = arg;
    if (timer == NULL)
        return;
    timer->due = (mono_time){NEVER};
    timer->freed = true;
}

struct loop_io loop_h2o_io(struct loop_h2o *loop)
{
    return (struct loop_io){.loop = loop,
                            .watch = watch_fd,
                            .want_read = want_read,
                            .want_write = want_write,
                            .release = release,
                            .timer_new = loop_h2o_timer_new,
                            .timer_set = loop_h2o_timer_set,
                            .timer_free = loop_h2o_timer_free};
}

/* What is written outside of h2o's turn has its callbacks in the next one, which must not wait then. */
static bool has_callbacks(const struct loop_h2o *loop)
{
    return loop->evloop->_pending_as_client != NULL || loop->evloop->_pending_as_server != NULL;
}

static int32_t wait_for_timers(const struct loop_h2o *loop, int32_t max_wait_ms)
{
    int64_t due = NEVER;
    for (const struct timer *timer = loop->timers; timer != NULL; timer = timer->next)
        due = timer->due.us < due ? timer->due.us : due;
    if (due == NEVER)
        return max_wait_ms;
    int64_t left_us = due - clock_mono().us;
    if (left_us <= 0)
        return 0;
    int64_t left_ms = (left_us + 999) / 1000;
    return left_ms < max_wait_ms ? (int32_t)left_ms : max_wait_ms;
}

static void run_timers(struct loop_h2o *loop)
{
    mono_time now = clock_mono();
    bool any_freed = false;
    for (struct timer *timer = loop->timers; timer != NULL; timer = timer->next) {
        if (timer->due.us <= now.us) {
            timer->due = (mono_time){NEVER};
            timer->on_time(timer->arg);
        }
        any_freed = any_freed || timer->freed;
    }
    if (any_freed)
        sweep_timers(loop);
}

void loop_h2o_turn(struct loop_h2o *loop, int32_t max_wait_ms)
{
    uint64_t skipped;
    int32_t wait_ms = has_callbacks(loop) ? 0 : wait_for_timers(loop, max_wait_ms);
    /* EINTR is an ordinary end of a turn. Anything else is epoll out of resources: the next turn tries again. */
    if (h2o_evloop_run(loop->evloop, wait_ms) != 0 && errno != EINTR && log_gate_open(&loop->gate, 1000, &skipped))
        log_error("event loop", LOG_S("error", strerror(errno)), LOG_I("skipped", skipped));
    run_timers(loop);
    run_writers(loop);
}
