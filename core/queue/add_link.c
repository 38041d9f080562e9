#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "queue/adder.h"
#include "queue/command.h"
#include "queue/reply_error.h"

#define REDIAL_FIRST_MS 50
#define REDIAL_CAP_MS   2000
#define TICK_MS         50
#define LOG_EVERY_MS    10000

static void on_timer(void *arg);

bool link_start(struct queue_adder *adder)
{
    adder->timer = adder->io.timer_new(adder->io.loop, on_timer, adder);
    if (adder->timer == NULL)
        return false;
    adder->io.timer_set(adder->timer, 0);
    return true;
}

/* ---- the end of a link ---- */

static void log_end(struct queue_adder *adder, bool was_up)
{
    uint64_t skipped = 0;
    if (was_up)
        log_warn("lost the connection to Redis", LOG_S("reason", adder->reason.text));
    else if (log_gate_open(&adder->gate, LOG_EVERY_MS, &skipped))
        log_warn("cannot connect to Redis", LOG_S("reason", adder->reason.text), LOG_I("tries", adder->dials));
}

/* Ends the link, calls back everything pending and sets the timer for the next try. Never inside a call of hiredis. */
static void end(struct queue_adder *adder)
{
    redisAsyncContext *redis = adder->redis;
    bool was_up = adder->state == LINK_READY || adder->state == LINK_REFUSING;
    adder->redis = NULL; /* from here on the callbacks know that it is over */
    adder->state = LINK_DOWN;
    adder->lost = adder->drop = false;
    if (redis != NULL)
        redisAsyncFree(redis);
    controls_reset(adder);
    log_end(adder, was_up);
    adder->io.timer_set(adder->timer, backoff_next_ms(&adder->redial, REDIAL_FIRST_MS, REDIAL_CAP_MS));
    adder_complete(adder, adder->tail, false);
    adder->waited = adder->tail;
}

void link_stop(struct queue_adder *adder)
{
    redisAsyncContext *redis = adder->redis;
    adder->redis = NULL;
    adder->state = LINK_DOWN;
    lookup_cancel(adder);
    if (redis != NULL)
        redisAsyncFree(redis);
    if (adder->timer != NULL)
        adder->io.timer_free(adder->timer);
    adder_complete(adder, adder->tail, false);
}

void link_drop(struct queue_adder *adder, const char *format, ...)
{
    va_list args;
    if (adder->drop || adder->lost)
        return; /* the first reason is the one to tell */
    va_start(args, format);
    vsnprintf(adder->reason.text, sizeof(adder->reason.text), format, args);
    va_end(args);
    adder->drop = true;
}

/* ---- hiredis' hooks ---- */

static void on_event(void *arg, bool readable, bool writable)
{
    struct queue_adder *adder = arg;
    if (writable && adder->redis != NULL) {
        adder->writes = false;
        adder->writing = true;
        adder_append_wait(adder);
        adder->writing = false;
        redisAsyncHandleWrite(adder->redis);
    }
    if (readable && adder->redis != NULL && !adder->drop)
        redisAsyncHandleRead(adder->redis);
    if (adder->lost || adder->drop)
        end(adder);
}

static void add_read(void *arg)
{
    struct queue_adder *adder = arg;
    if (!adder->reads)
        adder->io.want_read(adder->watch);
    adder->reads = true;
}

static void add_write(void *arg)
{
    struct queue_adder *adder = arg;
    if (adder->writing)
        return;
    if (!adder->writes)
        adder->io.want_write(adder->watch);
    adder->writes = true;
}

/* The watch owns the socket: hiredis must not close it too. */
static void cleanup(void *arg)
{
    struct queue_adder *adder = arg;
    if (adder->attached == NULL)
        return;
    adder->attached->c.fd = -1;
    adder->attached = NULL;
    adder->io.release(adder->watch);
    adder->watch = NULL;
}

static bool attach(struct queue_adder *adder, redisAsyncContext *redis)
{
    adder->reads = adder->writes = adder->writing = false;
    adder->watch = adder->io.watch(adder->io.loop, redis->c.fd, on_event, adder);
    if (adder->watch == NULL)
        return false;
    adder->attached = redis;
    redis->data = adder;
    redis->ev.data = adder;
    redis->ev.addRead = add_read;
    redis->ev.addWrite = add_write;
    redis->ev.cleanup = cleanup;
    return true;
}

/* ---- the beginning of a link ---- */

static void on_greeted(redisAsyncContext *redis, void *reply_arg, void *arg)
{
    struct queue_adder *adder = redis->data;
    const redisReply *reply = reply_arg;
    (void)arg;
    if (reply == NULL || adder->redis != redis)
        return;
    control_answered(adder);
    if (reply->type == REDIS_REPLY_ERROR)
        link_drop(adder, "Redis refuses: %s%s", reply->str, reply_error_advice(reply->str));
}

static void greet(struct queue_adder *adder)
{
    const struct redis_url *url = &adder->url;
    char database[20];
    adder->state = LINK_GREETING;
    if (url->password[0] != '\0' && url->user[0] != '\0') {
        const struct slice parts[] = {SLICE_LITERAL("AUTH"), slice_of(url->user), slice_of(url->password)};
        control_send(adder, on_greeted, NULL, parts, 3);
    } else if (url->password[0] != '\0') {
        const struct slice parts[] = {SLICE_LITERAL("AUTH"), slice_of(url->password)};
        control_send(adder, on_greeted, NULL, parts, 2);
    }
    if (url->password[0] != '\0')
        memory_wipe(adder->command.data, adder->command.size);
    if (url->database > 0) {
        const struct slice parts[] = {SLICE_LITERAL("SELECT"), command_digits(database, (uint64_t)url->database)};
        control_send(adder, on_greeted, NULL, parts, 2);
    }
    probe_send(adder); /* its success makes the link READY */
}

static void on_connect(const redisAsyncContext *redis, int status)
{
    struct queue_adder *adder = redis->data;
    if (adder->redis != redis)
        return;
    if (status == REDIS_OK) {
        greet(adder);
        return;
    }
    /* hiredis frees the context now, and onDisconnect is not called. */
    adder->redis = NULL;
    adder->lost = true;
    error_set(&adder->reason, "%s", redis->errstr);
}

static void on_disconnect(const redisAsyncContext *redis, int status)
{
    struct queue_adder *adder = redis->data;
    (void)status;
    if (adder->redis != redis)
        return; /* our own doing */
    adder->redis = NULL;
    adder->lost = true;
    error_set(&adder->reason, "%s", redis->errstr != NULL && redis->errstr[0] != '\0' ? redis->errstr : "closed");
}

/* NULL when the connecting cannot even begin; reason says why. */
static redisAsyncContext *open_socket(struct queue_adder *adder, const char *numeric_host)
{
    bool is_unix = adder->url.unix_path[0] != '\0';
    if (!is_unix && numeric_host == NULL)
        return NULL; /* the lookup has set the reason */
    redisAsyncContext *redis =
        is_unix ? redisAsyncConnectUnix(adder->url.unix_path) : redisAsyncConnect(numeric_host, adder->url.port);
    if (redis != NULL && redis->err == 0 && fcntl(redis->c.fd, F_SETFD, FD_CLOEXEC) == 0 && attach(adder, redis))
        return redis;
    bool has_text = redis != NULL && redis->err != 0;
    error_set(&adder->reason, "%s", has_text ? redis->errstr : "cannot make or watch a socket");
    if (redis != NULL)
        redisAsyncFree(redis);
    return NULL;
}

void link_dial(struct queue_adder *adder, const char *numeric_host)
{
    adder->state = LINK_CONNECTING;
    adder->dialled_at = clock_mono();
    redisAsyncContext *redis = open_socket(adder, numeric_host);
    if (redis == NULL) {
        end(adder);
        return;
    }
    adder->redis = redis;
    /* The first of these asks for the write event that tells the end of connecting: after attaching. */
    redisAsyncSetConnectCallback(redis, on_connect);
    redisAsyncSetDisconnectCallback(redis, on_disconnect);
    adder->io.timer_set(adder->timer, TICK_MS);
}

void link_refused(struct queue_adder *adder, const char *reply)
{
    enum reply_error error = reply_error_of(reply);
    if (error == REPLY_READ_ONLY || strncmp(reply, "NOAUTH", 6) == 0) {
        link_drop(adder, "%s", reply); /* another server may be the primary by now; connecting again asks */
        return;
    }
    if (adder->state == LINK_REFUSING)
        return;
    error_set(&adder->reason, "refusing writes: %s%s", reply, reply_error_advice(reply));
    log_warn("Redis takes no events", LOG_S("reason", adder->reason.text));
    adder->state = LINK_REFUSING;
    adder->probe_at = mono_after_ms(clock_mono(), backoff_next_ms(&adder->reprobe, PROBE_FIRST_MS, PROBE_CAP_MS));
}

/* ---- time ---- */

static bool is_stuck(const struct queue_adder *adder, mono_time now)
{
    int64_t limit = adder->options.timeout_ms;
    if (adder->state == LINK_CONNECTING || adder->state == LINK_GREETING)
        return mono_elapsed_ms(adder->dialled_at, now) >= limit;
    bool events =
        adder->head < adder->tail && mono_elapsed_ms(adder->ring[adder->head & adder->ring_mask].sent_at, now) >= limit;
    return events || (adder->controls > 0 && mono_elapsed_ms(adder->control_since, now) >= limit);
}

static void begin(struct queue_adder *adder)
{
    adder->dials++;
    adder->state = LINK_RESOLVING;
    if (adder->url.unix_path[0] != '\0')
        link_dial(adder, NULL);
    else
        lookup_start(adder);
}

static void on_timer(void *arg)
{
    struct queue_adder *adder = arg;
    mono_time now = clock_mono();
    if (adder->state == LINK_RESOLVING)
        return; /* the lookup goes on by itself */
    if (adder->state == LINK_DOWN) {
        begin(adder);
        return;
    }
    if (is_stuck(adder, now))
        link_drop(adder, "no answer within %lld ms", (long long)adder->options.timeout_ms);
    else
        controls_tick(adder, now);
    if (adder->drop) {
        end(adder);
        return;
    }
    int64_t tick = adder->options.timeout_ms / 4;
    adder->io.timer_set(adder->timer, tick < 1 ? 1 : tick > TICK_MS ? TICK_MS : tick);
}
