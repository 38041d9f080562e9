#include "poll_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"

#define MANY 16

struct watch {
    struct poll_loop *loop;
    int fd;
    bool used, reads, writes;
    void (*on_event)(void *arg, bool readable, bool writable);
    void *arg;
};

struct timer {
    bool used, set;
    mono_time due;
    void (*on_time)(void *arg);
    void *arg;
};

struct poll_loop {
    int held[1024]; /* numbers of released sockets: see release */
    size_t n_held;
    struct watch watches[MANY];
    struct timer timers[MANY];
    uint64_t turns, writes;
};

struct poll_loop *poll_loop_new(void)
{
    return memory_alloc(sizeof(struct poll_loop));
}

void poll_loop_free(struct poll_loop *loop)
{
    for (int i = 0; i < MANY; i++) {
        assert_false(loop->watches[i].used);
        assert_false(loop->timers[i].used);
    }
    for (size_t i = 0; i < loop->n_held; i++)
        assert_int_equal(close(loop->held[i]), 0);
    free(loop);
}

static void *watch(void *loop_arg, int fd, void (*on_event)(void *arg, bool readable, bool writable), void *arg)
{
    struct poll_loop *loop = loop_arg;
    for (int i = 0; i < MANY; i++) {
        if (loop->watches[i].used)
            continue;
        loop->watches[i] = (struct watch){.loop = loop, .fd = fd, .used = true, .on_event = on_event, .arg = arg};
        return &loop->watches[i];
    }
    return NULL;
}

static void want_read(void *arg)
{
    ((struct watch *)arg)->reads = true;
}

/* As strict as h2o's loop: asking again before the event came is a mistake. */
static void want_write(void *arg)
{
    struct watch *w = arg;
    assert_false(w->writes);
    w->writes = true;
}

static void release(void *arg)
{
    struct watch *w = arg;
    struct poll_loop *loop = w->loop;
    assert_true(w->used);
    w->used = false;
    /* The socket goes, its number stays taken: who closes it a second time is found out when the loop is freed. */
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(null >= 0 && loop->n_held < sizeof(loop->held) / sizeof(loop->held[0]));
    assert_int_equal(dup2(null, w->fd), w->fd);
    close(null);
    loop->held[loop->n_held++] = w->fd;
}

static void *timer_new(void *loop_arg, void (*on_time)(void *arg), void *arg)
{
    struct poll_loop *loop = loop_arg;
    for (int i = 0; i < MANY; i++) {
        if (loop->timers[i].used)
            continue;
        loop->timers[i] = (struct timer){.used = true, .on_time = on_time, .arg = arg};
        return &loop->timers[i];
    }
    return NULL;
}

static void timer_set(void *arg, int64_t ms)
{
    struct timer *timer = arg;
    timer->set = ms >= 0;
    timer->due = mono_after_ms(clock_mono(), ms);
}

static void timer_free(void *arg)
{
    ((struct timer *)arg)->used = false;
}

struct loop_io poll_loop_io(struct poll_loop *loop)
{
    return (struct loop_io){
        .loop = loop,
        .watch = watch,
        .want_read = want_read,
        .want_write = want_write,
        .release = release,
        .timer_new = timer_new,
        .timer_set = timer_set,
        .timer_free = timer_free,
    };
}

static void run_timers(struct poll_loop *loop)
{
    mono_time now = clock_mono();
    for (int i = 0; i < MANY; i++) {
        struct timer *timer = &loop->timers[i];
        if (!timer->used || !timer->set || !mono_is_past(timer->due, now))
            continue;
        timer->set = false;
        timer->on_time(timer->arg);
    }
}

static void run_watches(struct poll_loop *loop)
{
    struct pollfd polled[MANY];
    for (int i = 0; i < MANY; i++) {
        const struct watch *w = &loop->watches[i];
        short events = (short)((w->reads ? POLLIN : 0) | (w->writes ? POLLOUT : 0));
        polled[i] = (struct pollfd){.fd = w->used && events != 0 ? w->fd : -1, .events = events};
    }
    if (poll(polled, MANY, 2) <= 0)
        return;
    for (int i = 0; i < MANY; i++) {
        struct watch *w = &loop->watches[i];
        bool broken = (polled[i].revents & (POLLERR | POLLHUP)) != 0;
        bool readable = w->reads && ((polled[i].revents & POLLIN) != 0 || broken);
        bool writable = w->writes && ((polled[i].revents & POLLOUT) != 0 || broken);
        if (!w->used || w->fd != polled[i].fd || (!readable && !writable))
            continue;
        if (writable)
            w->writes = false;
        loop->writes += writable;
        w->on_event(w->arg, readable, writable);
    }
}

bool poll_loop_run(struct poll_loop *loop, bool (*condition)(void *arg), void *arg, int64_t ms)
{
    mono_time end = mono_after_ms(clock_mono(), ms);
    while (condition == NULL || !condition(arg)) {
        if (mono_is_past(end, clock_mono()))
            return condition == NULL;
        run_timers(loop);
        run_watches(loop);
        loop->turns++;
    }
    return true;
}

uint64_t poll_loop_turns(const struct poll_loop *loop)
{
    return loop->turns;
}

uint64_t poll_loop_writes(const struct poll_loop *loop)
{
    return loop->writes;
}
