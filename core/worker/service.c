#include "worker/service.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/id.h"
#include "base/json.h"
#include "base/signals.h"
#include "worker/keeper.h"

struct service {
    struct worker_shared shared;
    struct metrics *registry;
    mono_time started_at;
    size_t n_pipelines;
    struct pipeline *pipelines;
    struct keeper keeper;
    pthread_t *threads; /* the pipelines', then the keeper's */
    sem_t ended;        /* counts the threads that are at their end */
    struct admin *admin;

    pthread_mutex_t reload_lock; /* one reload at a time: they come from the main thread and the admin listener's */
    pthread_mutex_t lock;        /* guards what follows; never held for long */
    uint32_t generation;         /* changes under both locks */
    char script_hash[65];
};

/* --- scripts ----------------------------------------------------------------------------------------------------- */

static bool host_find(void *arg, struct slice collection, struct slice id, struct arena *arena, struct slice *json,
                      struct error *err)
{
    struct pipeline *pipeline = arg;
    enum store_result result = store_find(pipeline->store, collection, id, arena, json, err);
    if (result == STORE_NOT_FOUND)
        *json = (struct slice){0};
    return result == STORE_OK || result == STORE_NOT_FOUND;
}

static bool is_stopping(const void *arg)
{
    const struct service *s = arg;
    return atomic_load(&s->shared.stopping) || signals_stop_is_pending();
}

static struct policy *build_policy(struct service *s, struct pipeline *pipeline, struct script_set *scripts,
                                   struct error *err)
{
    const struct config *config = s->shared.config;
    struct policy_options options = {
        .role = POLICY_WORKER,
        .memory_bytes = config->script_memory_bytes,
        .time_ms = config->handler_limit_ms,
        .simulate = config->simulate,
        .schedule = {config->retry_base_ms, config->retry_factor, config->retry_cap_ms, config->retry_attempts},
        .host = {pipeline, host_find},
        .http = {pipeline->http, http_client_perform},
        .stop = {s, script_set_generation(scripts) == 1 ? NULL : is_stopping},
        .metrics = s->registry,
    };
    return policy_new(scripts, &options, err);
}

/* One policy for each pipeline, all or none. */
static struct policy **build_policies(struct service *s, struct script_set *scripts, struct error *err)
{
    struct policy **policies = memory_alloc(s->n_pipelines * sizeof *policies);
    for (size_t i = 0; i < s->n_pipelines; i++) {
        policies[i] = build_policy(s, &s->pipelines[i], scripts, err);
        if (policies[i] != NULL)
            continue;
        while (i-- > 0)
            policy_free(policies[i]);
        free(policies);
        return NULL;
    }
    return policies;
}

static bool load_generation(struct service *s, struct error *err)
{
    struct script_set *scripts = script_set_read(s->shared.config->scripts, s->generation + 1, err);
    if (scripts == NULL)
        return false;
    struct policy **policies = build_policies(s, scripts, err);
    if (policies != NULL) {
        for (size_t i = 0; i < s->n_pipelines; i++)
            pipeline_offer(&s->pipelines[i], policies[i]);
        pthread_mutex_lock(&s->lock);
        s->generation++;
        snprintf(s->script_hash, sizeof s->script_hash, "%s", script_set_hash(scripts));
        pthread_mutex_unlock(&s->lock);
        metric_set(s->shared.metrics.generation, s->generation);
        free(policies);
    }
    script_set_release(scripts);
    return policies != NULL;
}

bool service_reload(struct service *s, struct error *err)
{
    pthread_mutex_lock(&s->reload_lock);
    bool good = load_generation(s, err);
    metric_add(good ? s->shared.metrics.reloads_good : s->shared.metrics.reloads_bad, 1);
    if (good)
        log_info("scripts reloaded", LOG_I("generation", s->generation), LOG_S("hash", s->script_hash));
    else
        log_error("reload failed: the running scripts stay", LOG_S("error", err->text),
                  LOG_I("generation", s->generation));
    pthread_mutex_unlock(&s->reload_lock);
    return good;
}

/* --- admin ------------------------------------------------------------------------------------------------------- */

static size_t connected_pipelines(const struct service *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_pipelines; i++)
        n += atomic_load(&s->pipelines[i].queue_up) ? 1 : 0;
    return n;
}

static void tell_store(struct service *s, struct buf *out)
{
    struct breaker *b = &s->shared.breaker;
    unsigned away = breaker_held(b, HELD_AWAY), refused = breaker_held(b, HELD_REFUSED);
    struct error why;
    breaker_why(b, &why);
    if (breaker_is_good(b))
        buf_add_text(out, "store: ok\n");
    else if (refused > 0)
        buf_printf(out, "store: refuses events, which hold %u of %zu pipelines: %s\n", refused, s->n_pipelines,
                   why.text);
    else if (breaker_is_open(b))
        buf_add_text(out, "store: away, nothing is taken until it is back\n");
    else
        buf_printf(out, "store: answers, but has not taken yet what %u of %zu pipelines hold: %s\n", away,
                   s->n_pipelines, why.text);
}

static bool admin_ready(void *arg, struct buf *out)
{
    struct service *s = arg;
    size_t connected = connected_pipelines(s);
    bool store = breaker_is_good(&s->shared.breaker), draining = atomic_load(&s->shared.stopping);
    buf_printf(out, "redis: %s (%zu of %zu pipelines)\n", connected == s->n_pipelines ? "ok" : "away", connected,
               s->n_pipelines);
    tell_store(s, out);
    if (draining)
        buf_add_text(out, "draining\n");
    return connected == s->n_pipelines && store && !draining;
}

static void write_scripts(struct service *s, struct json_writer *w)
{
    pthread_mutex_lock(&s->lock);
    json_member_int(w, "generation", s->generation);
    json_member_text(w, "hash", s->script_hash);
    pthread_mutex_unlock(&s->lock);
}

static void write_queue(struct service *s, struct json_writer *w)
{
    const struct worker_metrics *m = &s->shared.metrics;
    json_member_int(w, "connected_pipelines", (int64_t)connected_pipelines(s));
    json_member_int(w, "stream", metric_value(m->depth_stream));
    json_member_int(w, "pending", metric_value(m->depth_pending));
    json_member_int(w, "retry", metric_value(m->depth_retry));
    json_member_int(w, "dead", metric_value(m->depth_dead));
    json_member_int(w, "oldest_seconds", metric_value(m->oldest_seconds));
}

static void write_store(struct service *s, struct json_writer *w)
{
    struct breaker *b = &s->shared.breaker;
    struct error why;
    breaker_why(b, &why);
    json_member_bool(w, "up", breaker_is_good(b));
    json_member_int(w, "breaker_opened", atomic_load(&b->opened));
    json_member_int(w, "pipelines_held", (int64_t)breaker_held(b, HELD_AWAY) + breaker_held(b, HELD_REFUSED));
    json_member_text(w, "error", why.text[0] == '\0' ? NULL : why.text);
    json_member_int(w, "dead_letters_unreviewed", metric_value(s->shared.metrics.letters_unreviewed));
}

static void admin_status(void *arg, struct buf *out)
{
    struct service *s = arg;
    const struct worker_metrics *m = &s->shared.metrics;
    struct json_writer w = json_writer(out);
    json_object_open(&w);
    json_member_text(&w, "service", "waybill-worker");
    json_member_text(&w, "version", WAYBILL_VERSION);
    json_member_text(&w, "worker", s->shared.name);
    json_member_int(&w, "pid", getpid());
    json_member_int(&w, "uptime_s", mono_elapsed_ms(s->started_at, clock_mono()) / 1000);
    json_member_int(&w, "threads", (int64_t)s->n_pipelines);
    json_name(&w, "scripts");
    json_object_open(&w);
    write_scripts(s, &w);
    json_object_close(&w);
    json_name(&w, "queue");
    json_object_open(&w);
    write_queue(s, &w);
    json_object_close(&w);
    json_name(&w, "store");
    json_object_open(&w);
    write_store(s, &w);
    json_object_close(&w);
    json_member_int(&w, "in_hand", metric_value(m->in_hand));
    json_member_int(&w, "backlog", metric_value(m->depth_stream) + metric_value(m->depth_retry));
    json_member_bool(&w, "draining", atomic_load(&s->shared.stopping));
    json_member_bool(&w, "simulate", s->shared.config->simulate);
    json_object_close(&w);
}

static bool admin_reload(void *arg, struct buf *out, struct error *err)
{
    struct service *s = arg;
    if (!service_reload(s, err))
        return false;
    struct json_writer w = json_writer(out);
    json_object_open(&w);
    write_scripts(s, &w);
    json_object_close(&w);
    return true;
}

/* --- start and stop ---------------------------------------------------------------------------------------------- */

static void name_worker(char *out, size_t size)
{
    char host[64] = "worker", id[ID_TEXT_BYTES];
    if (gethostname(host, sizeof host - 1) != 0)
        strcpy(host, "worker");
    snprintf(out, size, "%s-%ld-%.6s", host, (long)getpid(), id_new(clock_wall(), id) + 20);
}

static bool open_parts(struct service *s, struct error *err)
{
    const struct config *config = s->shared.config;
    struct store_options options = {.url = config->mongo_url, .worker = s->shared.name, .lease_ms = config->lease_ms};
    s->shared.store = store_open(&options, err);
    if (s->shared.store == NULL)
        return false;
    for (size_t i = 0; i < s->n_pipelines; i++) {
        if (!pipeline_init(&s->pipelines[i], &s->shared, i, err))
            return false;
    }
    return keeper_init(&s->keeper, &s->shared, err) && load_generation(s, err);
}

static bool start_admin(struct service *s, struct error *err)
{
    struct admin_service admin = {
        .arg = s, .ready = admin_ready, .status = admin_status, .reload = admin_reload, .metrics = s->registry};
    s->admin = admin_start(s->shared.config->admin_listen, &admin, err);
    if (s->admin == NULL)
        error_prefix(err, "WAYBILL_ADMIN_LISTEN");
    return s->admin != NULL;
}

struct thread_start {
    void (*main_of)(void *part);
    void *part;
    sem_t *ended;
};

static void *run_thread(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
    free(arg);
    start.main_of(start.part);
    sem_post(start.ended);
    return NULL;
}

static int start_thread(struct service *s, size_t i)
{
    bool is_keeper = i == s->n_pipelines;
    struct thread_start *start = memory_alloc(sizeof *start);
    *start = (struct thread_start){.main_of = is_keeper ? keeper_run : pipeline_run,
                                   .part = is_keeper ? (void *)&s->keeper : (void *)&s->pipelines[i],
                                   .ended = &s->ended};
    int code = pthread_create(&s->threads[i], NULL, run_thread, start);
    if (code != 0)
        free(start);
    return code;
}

static bool start_threads(struct service *s, struct error *err)
{
    for (size_t i = 0; i <= s->n_pipelines; i++) {
        int code = start_thread(s, i);
        if (code == 0)
            continue;
        error_set(err, "cannot start a thread: %s", strerror(code));
        atomic_store(&s->shared.stopping, true);
        while (i-- > 0)
            pthread_join(s->threads[i], NULL);
        return false;
    }
    return true;
}

static void service_free(struct service *s)
{
    admin_stop(s->admin);
    for (size_t i = 0; i < s->n_pipelines; i++)
        pipeline_free(&s->pipelines[i]);
    keeper_free(&s->keeper);
    store_close(s->shared.store);
    breaker_free(&s->shared.breaker);
    pthread_mutex_destroy(&s->reload_lock);
    pthread_mutex_destroy(&s->lock);
    sem_destroy(&s->ended);
    free(s->pipelines);
    free(s->threads);
    free(s);
}

/* Under the lock, as a reload may come as soon as the admin listener is there. */
static void log_ready(struct service *s)
{
    pthread_mutex_lock(&s->lock);
    log_info("ready", LOG_S("worker", s->shared.name), LOG_S("admin", s->shared.config->admin_listen),
             LOG_I("threads", s->shared.config->threads), LOG_S("scripts", s->script_hash));
    pthread_mutex_unlock(&s->lock);
}

struct service *service_start(const struct config *config, struct metrics *metrics, struct error *err)
{
    struct service *s = memory_alloc(sizeof *s);
    s->shared.config = config;
    s->registry = metrics;
    s->started_at = clock_mono();
    s->n_pipelines = (size_t)config->threads;
    s->pipelines = memory_alloc(s->n_pipelines * sizeof *s->pipelines);
    s->threads = memory_alloc((s->n_pipelines + 1) * sizeof *s->threads);
    pthread_mutex_init(&s->reload_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    sem_init(&s->ended, 0, 0);
    breaker_init(&s->shared.breaker);
    worker_metrics_init(&s->shared.metrics, metrics);
    name_worker(s->shared.name, sizeof s->shared.name);
    if (!open_parts(s, err) || !start_admin(s, err) || !start_threads(s, err)) {
        service_free(s);
        return NULL;
    }
    log_ready(s);
    return s;
}

/* Joins all threads, if they end before the deadline. (Not by a timed join: ThreadSanitizer does not know the one on
 * the monotonic clock, and would see a race in everything that is freed afterwards.) */
static bool join_until(struct service *s, mono_time deadline)
{
    struct timespec at = {.tv_sec = deadline.us / 1000000, .tv_nsec = (deadline.us % 1000000) * 1000};
    for (size_t i = 0; i <= s->n_pipelines; i++) {
        while (sem_clockwait(&s->ended, CLOCK_MONOTONIC, &at) != 0) {
            if (errno != EINTR)
                return false;
        }
    }
    for (size_t i = 0; i <= s->n_pipelines; i++)
        pthread_join(s->threads[i], NULL);
    return true;
}

bool service_stop(struct service *s)
{
    log_info("draining: what is in flight is finished, the rest handed back");
    atomic_store(&s->shared.stopping, true);
    if (!join_until(s, mono_after_ms(clock_mono(), s->shared.config->drain_ms))) {
        log_warn("not drained in time: the rest is reclaimed by other workers after the lease",
                 LOG_I("drain_ms", s->shared.config->drain_ms));
        return false;
    }
    log_info("drained");
    service_free(s);
    return true;
}
