#include "ingest/loop.h"

#include <h2o.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "ingest/listener.h"
#include "ingest/loop_h2o.h"
#include "ingest/request.h"
#include "ingest/tls.h"

#define CUT_MS 200 /* at the end of a drain, for the last answers, and for what was cut off to go away */

#define LINGER_MIN_BYTES (1u << 20)

enum loop_state { LOOP_STARTING, LOOP_RUNNING, LOOP_FAILED, LOOP_ENDED };

struct retired_tls {
    struct retired_tls *next;
    struct ssl_ctx_st *tls;
};

struct loop {
    struct loop_options options;
    pthread_t thread;

    /* The thread's own. */
    h2o_evloop_t *evloop;
    struct loop_h2o *io;
    h2o_context_t *context;
    h2o_multithread_receiver_t wake;
    struct listener *listener;
    struct desk desk;
    struct ssl_ctx_st *tls; /* shared */
    struct retired_tls *retired;
    size_t n_cut; /* connections that were left when the time was up */

    /* From other threads. */
    _Atomic(struct policy *) offered_policy;
    _Atomic(struct ssl_ctx_st *) offered_tls;
    atomic_bool drain;

    /* To other threads. */
    pthread_mutex_t lock; /* state, start_error, report */
    pthread_cond_t state_changed;
    enum loop_state state;
    struct error start_error;
    struct loop_report report;
};

/* ---- on the loop's thread ---- */

static void on_request(void *thread, const struct http_request *request)
{
    struct loop *loop = thread;
    request_serve(&loop->desk, request);
}

static void on_refused(void *thread, void *handle, struct slice path, const struct problem *problem)
{
    struct loop *loop = thread;
    request_refused(&loop->desk, handle, path, problem);
}

static void on_wake(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    (void)receiver;
    (void)messages; /* never any: being woken is all */
}

/* An accepted connection uses the context that was in force, without being one of its owners, until its first bytes
 * arrive. So one that was replaced is kept as long as the loop; that happens once for each new certificate. */
static void retire_tls(struct loop *loop)
{
    struct retired_tls *retired = memory_alloc(sizeof *retired);
    *retired = (struct retired_tls){loop->retired, loop->tls};
    loop->retired = retired;
}

static void free_retired_tls(struct loop *loop)
{
    for (struct retired_tls *next; loop->retired != NULL; loop->retired = next) {
        next = loop->retired->next;
        tls_free(loop->retired->tls);
        free(loop->retired);
    }
}

static void take_offers(struct loop *loop)
{
    struct policy *policy = atomic_exchange(&loop->offered_policy, NULL);
    if (policy != NULL) {
        policy_free(loop->desk.policy);
        loop->desk.policy = policy;
    }
    struct ssl_ctx_st *tls = atomic_exchange(&loop->offered_tls, NULL);
    if (tls != NULL) {
        listener_set_tls(loop->listener, tls);
        retire_tls(loop);
        loop->tls = tls;
    }
}

static void publish_report(struct loop *loop)
{
    const struct queue_adder *adder = loop->desk.adder;
    pthread_mutex_lock(&loop->lock);
    struct loop_report *report = &loop->report;
    report->ready = adder != NULL && queue_adder_is_ready(adder);
    report->backlog = adder == NULL ? -1 : queue_adder_backlog(adder);
    report->pending = adder == NULL ? 0 : (int64_t)queue_adder_pending(adder);
    report->connections = listener_connections(loop->listener);
    if (!report->ready)
        snprintf(report->problem, sizeof report->problem, "%s",
                 adder == NULL ? "shutting down" : queue_adder_problem(adder));
    pthread_mutex_unlock(&loop->lock);
}

static void turn(struct loop *loop, int32_t max_wait_ms)
{
    loop_h2o_turn(loop->io, max_wait_ms);
    take_offers(loop);
    publish_report(loop);
}

static struct queue_adder *new_adder(struct loop *loop, struct error *err)
{
    const struct config *config = loop->options.config;
    struct queue_add_options options = {.url = config->redis_url,
                                        .timeout_ms = config->queue_timeout_ms,
                                        .partitions = (uint32_t)config->partitions,
                                        .ack_replicas = (uint32_t)config->ack_replicas,
                                        .max_backlog = config->max_backlog,
                                        /* A connection asks for one event at a time. */
                                        .max_pending = loop->options.max_connections};
    struct loop_io io = loop_h2o_io(loop->io);
    return queue_adder_new(&options, &io, err);
}

/* A sender whose body is somewhat over the limit should see his 413; one that sends without end should not be listened
 * to. */
static size_t linger_max_bytes(const struct config *config)
{
    size_t generous = 4 * (size_t)config->body_limit_bytes;
    return generous > LINGER_MIN_BYTES ? generous : LINGER_MIN_BYTES;
}

static bool set_up(struct loop *loop, struct error *err)
{
    /* On this thread, as h2o keeps per-thread stocks of memory that its sockets refer to. */
    loop->evloop = h2o_evloop_create();
    loop->io = loop_h2o_new(loop->evloop);
    loop->desk.arena = arena_new();
    loop->desk.adder = new_adder(loop, err);
    if (loop->desk.adder == NULL)
        return false;
    loop->context = http_context_new(loop->options.http, loop->evloop, loop);
    h2o_multithread_register_receiver(loop->context->queue, &loop->wake, on_wake);
    struct listener_options options = {.context = loop->context,
                                       .loop = loop->io,
                                       .fd = loop->options.listen_fd,
                                       .tls = loop->tls,
                                       .max_connections = loop->options.max_connections,
                                       .max_in_all = loop->options.max_in_all,
                                       .request_timeout_ms = loop->options.config->request_timeout_ms,
                                       .linger_max_bytes = linger_max_bytes(loop->options.config),
                                       .measures = loop->options.measures};
    loop->listener = listener_new(&options);
    if (loop->listener == NULL)
        error_set(err, "cannot duplicate the listening socket: too many open files");
    return loop->listener != NULL;
}

static void tear_down(struct loop *loop)
{
    queue_adder_free(loop->desk.adder);
    listener_free(loop->listener);
    loop_h2o_turn(loop->io, 0); /* h2o frees closed sockets at the next turn */
    if (loop->context != NULL)
        h2o_multithread_unregister_receiver(loop->context->queue, &loop->wake);
    http_context_free(loop->context);
    loop_h2o_free(loop->io);
    h2o_evloop_destroy(loop->evloop);
    policy_free(loop->desk.policy);
    tls_free(loop->tls);
    free_retired_tls(loop);
    arena_free(loop->desk.arena);
    buf_free(&loop->desk.text);
}

static void turn_until_closed(struct loop *loop, int64_t limit_ms)
{
    mono_time deadline = mono_after_ms(clock_mono(), limit_ms);
    while (listener_connections(loop->listener) > 0 && !mono_is_past(deadline, clock_mono()))
        turn(loop, 20);
}

/* Finishes what is in flight. When the time is up, what waits for the queue gets its 503 and what is still being sent
 * is cut off. */
static void drain(struct loop *loop)
{
    loop->desk.draining = true;
    h2o_context_request_shutdown(loop->context);
    listener_drain(loop->listener);
    turn_until_closed(loop, loop->options.config->drain_ms);
    struct queue_adder *adder = loop->desk.adder;
    loop->desk.adder = NULL;
    queue_adder_free(adder);
    turn_until_closed(loop, CUT_MS); /* the 503s go out */
    loop->n_cut = listener_connections(loop->listener);
    if (loop->n_cut > 0) {
        listener_cut(loop->listener);
        turn_until_closed(loop, CUT_MS);
    }
}

static void announce(struct loop *loop, enum loop_state state, const struct error *err)
{
    pthread_mutex_lock(&loop->lock);
    loop->state = state;
    if (err != NULL)
        loop->start_error = *err;
    pthread_cond_signal(&loop->state_changed);
    pthread_mutex_unlock(&loop->lock);
}

static void *run(void *arg)
{
    struct loop *loop = arg;
    struct error err;
    if (!set_up(loop, &err)) {
        loop->desk.policy = NULL; /* still the caller's */
        tear_down(loop);
        announce(loop, LOOP_FAILED, &err);
        return NULL;
    }
    publish_report(loop);
    announce(loop, LOOP_RUNNING, NULL);
    while (!atomic_load(&loop->drain))
        turn(loop, 60000);
    drain(loop);
    announce(loop, LOOP_ENDED, NULL);
    if (listener_connections(loop->listener) == 0)
        tear_down(loop);
    return NULL;
}

/* ---- on other threads ---- */

struct http *loop_http_new(const struct config *config)
{
    struct http_options options = {.body_limit_bytes = (size_t)config->body_limit_bytes,
                                   .request_timeout_ms = config->request_timeout_ms,
                                   .on_request = on_request,
                                   .on_refused = on_refused};
    return http_new(&options);
}

static void destroy(struct loop *loop)
{
    pthread_cond_destroy(&loop->state_changed);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

struct loop *loop_start(const struct loop_options *options, struct policy *policy, struct error *err)
{
    struct loop *loop = memory_alloc(sizeof *loop);
    loop->options = *options;
    loop->tls = tls_share(options->tls);
    loop->desk = (struct desk){.policy = policy, .rate = options->rate, .measures = options->measures};
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->state_changed, NULL);
    int code = pthread_create(&loop->thread, NULL, run, loop);
    if (code != 0) {
        error_set(err, "cannot start a thread: %s", strerror(code));
        tls_free(loop->tls);
        destroy(loop);
        return NULL;
    }
    pthread_mutex_lock(&loop->lock);
    while (loop->state == LOOP_STARTING)
        pthread_cond_wait(&loop->state_changed, &loop->lock);
    bool failed = loop->state == LOOP_FAILED;
    pthread_mutex_unlock(&loop->lock);
    if (!failed)
        return loop;
    pthread_join(loop->thread, NULL);
    *err = loop->start_error;
    destroy(loop);
    return NULL;
}

/* The lock keeps the thread from taking down what it is woken by. */
static void wake(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    if (loop->state == LOOP_RUNNING)
        h2o_multithread_send_message(&loop->wake, NULL);
    pthread_mutex_unlock(&loop->lock);
}

void loop_offer(struct loop *loop, struct policy *policy, struct ssl_ctx_st *tls)
{
    /* What comes back was never taken. */
    policy_free(atomic_exchange(&loop->offered_policy, policy));
    tls_free(atomic_exchange(&loop->offered_tls, tls));
    wake(loop);
}

void loop_report(struct loop *loop, struct loop_report *out)
{
    pthread_mutex_lock(&loop->lock);
    *out = loop->report;
    pthread_mutex_unlock(&loop->lock);
    if (out->ready)
        out->problem[0] = '\0';
}

void loop_drain(struct loop *loop)
{
    atomic_store(&loop->drain, true);
    wake(loop);
}

size_t loop_wait(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
    return loop->n_cut;
}

void loop_free(struct loop *loop)
{
    policy_free(atomic_exchange(&loop->offered_policy, NULL));
    tls_free(atomic_exchange(&loop->offered_tls, NULL));
    destroy(loop);
}
