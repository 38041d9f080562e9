#include "ingest/ingest.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/signals.h"
#include "ingest/loop.h"
#include "ingest/measures.h"
#include "ingest/tls.h"

#define LISTEN_BACKLOG       1024
#define SPARE_DESCRIPTORS    64 /* Redis, logs, loops, admin */
#define DESCRIPTORS_A_THREAD 8

struct ingest {
    const struct config *config;
    mono_time started;
    char address[280];
    int listen_fd;
    struct ssl_ctx_st *tls; /* the newest; the loops share it */
    struct http *http;
    struct rate *rate;
    struct metrics *metrics;
    struct measures measures;
    struct loop **loops;
    size_t n_loops;
    atomic_bool draining;

    pthread_mutex_t reload_lock; /* one reload at a time */
    pthread_mutex_t lock;        /* guards what follows; never held for long */
    struct script_set *scripts;  /* changes under both locks */
};

/* ---- scripts ---- */

/* What a load is made of. */
struct load {
    struct script_set *set;
    struct config_secret *secrets;
    size_t n_secrets;
};

static bool is_stopping(const void *arg)
{
    const struct ingest *ingest = arg;
    return atomic_load(&ingest->draining) || signals_stop_is_pending();
}

static struct policy *new_policy(const struct ingest *ingest, const struct load *load, bool quiet, struct error *err)
{
    const struct config *config = ingest->config;
    struct policy_options options = {
        .role = POLICY_INGEST,
        .memory_bytes = config->script_memory_bytes,
        .time_ms = config->validate_limit_ms,
        .simulate = config->simulate,
        .quiet = quiet,
        .schedule = {config->retry_base_ms, config->retry_factor, config->retry_cap_ms, config->retry_attempts},
        .secrets = load->secrets,
        .n_secrets = load->n_secrets,
        .stop = {ingest, script_set_generation(load->set) == 1 ? NULL : is_stopping},
        .metrics = ingest->metrics};
    return policy_new(load->set, &options, err);
}

static void free_policies(struct policy **policies, size_t n)
{
    for (size_t i = 0; i < n; i++)
        policy_free(policies[i]);
    free(policies);
}

/* One policy a thread, or NULL. */
static struct policy **new_policies(const struct ingest *ingest, const struct load *load, struct error *err)
{
    size_t n = (size_t)ingest->config->threads;
    struct policy **policies = memory_alloc(n * sizeof *policies);
    for (size_t i = 0; i < n; i++) {
        policies[i] = new_policy(ingest, load, i > 0, err);
        if (policies[i] == NULL) {
            free_policies(policies, i);
            return NULL;
        }
    }
    return policies;
}

static void configure_rates(struct ingest *ingest, const struct policy *policy)
{
    struct rate_limit *limits = NULL;
    struct policy_source_limits limit;
    const char *name;
    size_t n = 0;
    for (; policy_source(policy, n, &name, &limit); n++) {
        limits = memory_resize(limits, (n + 1) * sizeof *limits);
        limits[n] = (struct rate_limit){name, limit.per_second, limit.burst};
    }
    rate_configure(ingest->rate, limits, n, clock_mono());
    free(limits);
}

static void adopt_scripts(struct ingest *ingest, struct script_set *set)
{
    pthread_mutex_lock(&ingest->lock);
    struct script_set *old = ingest->scripts;
    ingest->scripts = set;
    pthread_mutex_unlock(&ingest->lock);
    script_set_release(old);
    metric_set(ingest->measures.generation, script_set_generation(set));
}

/* *tls is NULL for plain HTTP. */
static bool load_certificate(const struct ingest *ingest, struct ssl_ctx_st **tls, struct error *err)
{
    const struct config *config = ingest->config;
    *tls = config->tls_cert_file == NULL ? NULL : tls_new(config->tls_cert_file, config->tls_key_file, err);
    return *tls != NULL || config->tls_cert_file == NULL;
}

/* The new one as ours, or NULL when it is the one that we have: then the loops need not change. */
static struct ssl_ctx_st *adopt_certificate(struct ingest *ingest, struct ssl_ctx_st *tls)
{
    if (tls == NULL || tls_is_same(tls, ingest->tls)) {
        tls_free(tls);
        return NULL;
    }
    tls_free(ingest->tls);
    ingest->tls = tls;
    return tls;
}

/* The same with the secrets that the files hold now. */
static struct policy **reload_policies(const struct ingest *ingest, struct script_set *set, struct error *err)
{
    struct load load = {.set = set};
    if (!secrets_read(&load.secrets, &load.n_secrets, err))
        return NULL;
    struct policy **policies = new_policies(ingest, &load, err);
    secrets_free(load.secrets, load.n_secrets);
    return policies;
}

static bool reload_locked(struct ingest *ingest, struct error *err)
{
    uint32_t generation = script_set_generation(ingest->scripts) + 1;
    struct script_set *set = script_set_read(ingest->config->scripts, generation, err);
    if (set == NULL)
        return false;
    struct ssl_ctx_st *tls = NULL;
    struct policy **policies = reload_policies(ingest, set, err);
    if (policies == NULL || !load_certificate(ingest, &tls, err)) {
        free_policies(policies, policies == NULL ? 0 : ingest->n_loops);
        script_set_release(set);
        return false;
    }
    configure_rates(ingest, policies[0]);
    tls = adopt_certificate(ingest, tls);
    for (size_t i = 0; i < ingest->n_loops; i++)
        loop_offer(ingest->loops[i], policies[i], tls_share(tls));
    free(policies);
    adopt_scripts(ingest, set);
    log_info("scripts reloaded", LOG_I("generation", generation), LOG_S("hash", script_set_hash(set)));
    return true;
}

bool ingest_reload(struct ingest *ingest, struct error *err)
{
    pthread_mutex_lock(&ingest->reload_lock);
    bool good = reload_locked(ingest, err);
    pthread_mutex_unlock(&ingest->reload_lock);
    metric_add(good ? ingest->measures.reloads_ok : ingest->measures.reloads_failed, 1);
    if (!good)
        log_error("reload failed, the running scripts stay", LOG_S("error", err->text));
    return good;
}

/* ---- start ---- */

/* A connection needs a descriptor, and one more while it lingers. */
static size_t connection_cap(const struct config *config)
{
    struct rlimit limit;
    size_t wanted = (size_t)config->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    size_t spare = SPARE_DESCRIPTORS + DESCRIPTORS_A_THREAD * (size_t)config->threads;
    size_t possible = limit.rlim_cur > spare ? ((size_t)limit.rlim_cur - spare) / 2 : 1;
    if (wanted <= possible)
        return wanted;
    log_warn("fewer connections than WAYBILL_MAX_CONNECTIONS: raise the limit of open files (ulimit -n)",
             LOG_I("connections", possible));
    return possible;
}

/* The library has no time limit for sending. Accepted sockets inherit this one: a peer that takes nothing for so long
 * (it is gone, or does not read its answers) loses the connection. */
static void bound_writing(int listen_fd, int64_t limit_ms)
{
    unsigned ms = (unsigned)limit_ms;
    if (setsockopt(listen_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms) != 0)
        log_warn("no time limit for slow readers", LOG_S("error", strerror(errno)));
}

static bool open_listener(struct ingest *ingest, struct error *err)
{
    const struct config *config = ingest->config;
    struct address address;
    if (!address_parse(config->listen, &address, err)) {
        error_prefix(err, "WAYBILL_LISTEN");
        return false;
    }
    if (!load_certificate(ingest, &ingest->tls, err))
        return false;
    ingest->listen_fd = address_listen(&address, LISTEN_BACKLOG, &address.port, err);
    if (ingest->listen_fd < 0) {
        error_prefix(err, "WAYBILL_LISTEN");
        return false;
    }
    bound_writing(ingest->listen_fd, config->request_timeout_ms);
    bool is_v6 = strchr(address.host, ':') != NULL;
    snprintf(ingest->address, sizeof ingest->address, is_v6 ? "[%s]:%u" : "%s:%u", address.host, address.port);
    return true;
}

static bool start_loops(struct ingest *ingest, struct policy **policies, struct error *err)
{
    size_t threads = (size_t)ingest->config->threads;
    size_t share = (connection_cap(ingest->config) + threads - 1) / threads;
    struct loop_options options = {.config = ingest->config,
                                   .http = ingest->http,
                                   .rate = ingest->rate,
                                   .measures = &ingest->measures,
                                   .tls = ingest->tls,
                                   .listen_fd = ingest->listen_fd,
                                   .max_connections = share,
                                   .max_in_all = share * threads};
    ingest->loops = memory_alloc(threads * sizeof *ingest->loops);
    for (; ingest->n_loops < threads; ingest->n_loops++) {
        struct loop *loop = loop_start(&options, policies[ingest->n_loops], err);
        if (loop == NULL)
            return false;
        ingest->loops[ingest->n_loops] = loop;
        policies[ingest->n_loops] = NULL;
    }
    return true;
}

static bool start(struct ingest *ingest, struct error *err)
{
    if (ingest->http == NULL) {
        error_set(err, "the HTTP library is not the libh2o 2.2 that this was built for");
        return false;
    }
    ingest->scripts = script_set_read(ingest->config->scripts, 1, err);
    if (ingest->scripts == NULL)
        return false;
    const struct load load = {ingest->scripts, ingest->config->secrets, ingest->config->n_secrets};
    struct policy **policies = new_policies(ingest, &load, err);
    if (policies == NULL)
        return false;
    metric_set(ingest->measures.generation, 1);
    configure_rates(ingest, policies[0]);
    bool good = open_listener(ingest, err) && start_loops(ingest, policies, err);
    free_policies(policies, (size_t)ingest->config->threads); /* those that no loop took */
    return good;
}

struct ingest *ingest_start(const struct config *config, struct error *err)
{
    struct ingest *ingest = memory_alloc(sizeof *ingest);
    ingest->config = config;
    ingest->started = clock_mono();
    ingest->listen_fd = -1;
    ingest->rate = rate_new();
    ingest->metrics = metrics_new();
    measures_open(&ingest->measures, ingest->metrics);
    ingest->http = loop_http_new(config);
    pthread_mutex_init(&ingest->reload_lock, NULL);
    pthread_mutex_init(&ingest->lock, NULL);
    if (start(ingest, err))
        return ingest;
    (void)ingest_drain(ingest);
    ingest_free(ingest);
    return NULL;
}

const char *ingest_address(const struct ingest *ingest)
{
    return ingest->address;
}

/* ---- what operators see; on the admin listener's threads ---- */

/* All loops together: ready when each is. */
static struct loop_report report_of_all(const struct ingest *ingest)
{
    struct loop_report all = {.ready = true, .backlog = -1}, one;
    for (size_t i = 0; i < ingest->n_loops; i++) {
        loop_report(ingest->loops[i], &one);
        all.pending += one.pending;
        all.connections += one.connections;
        /* Each measures the same queue. */
        all.backlog = one.backlog > all.backlog ? one.backlog : all.backlog;
        if (!one.ready && all.ready)
            memcpy(all.problem, one.problem, sizeof all.problem);
        all.ready = all.ready && one.ready;
    }
    return all;
}

static bool answer_ready(void *arg, struct buf *out)
{
    struct ingest *ingest = arg;
    struct loop_report report = report_of_all(ingest);
    bool draining = atomic_load(&ingest->draining);
    buf_printf(out, "redis: %s\n", report.ready ? "ok" : report.problem);
    buf_printf(out, "draining: %s\n", draining ? "yes" : "no");
    return report.ready && !draining;
}

static void write_scripts(struct ingest *ingest, struct json_writer *w)
{
    pthread_mutex_lock(&ingest->lock);
    json_object_open(w);
    json_member_int(w, "generation", script_set_generation(ingest->scripts));
    json_member_text(w, "hash", script_set_hash(ingest->scripts));
    json_object_close(w);
    pthread_mutex_unlock(&ingest->lock);
}

static void answer_status(void *arg, struct buf *out)
{
    struct ingest *ingest = arg;
    struct loop_report report = report_of_all(ingest);
    struct json_writer w = json_writer(out);
    json_object_open(&w);
    json_member_text(&w, "service", "waybill-ingest");
    json_member_text(&w, "version", WAYBILL_VERSION);
    json_member_int(&w, "pid", getpid());
    json_member_int(&w, "uptime_s", mono_elapsed_ms(ingest->started, clock_mono()) / 1000);
    json_member_text(&w, "listen", ingest->address);
    json_name(&w, "scripts");
    write_scripts(ingest, &w);
    json_member_int(&w, "threads", (int64_t)ingest->n_loops);
    json_member_int(&w, "connections", (int64_t)report.connections);
    json_member_int(&w, "pending", report.pending);
    json_member_int(&w, "backlog", report.backlog);
    json_name(&w, "queue");
    json_object_open(&w);
    json_member_bool(&w, "ready", report.ready);
    json_member_text(&w, "problem", report.ready ? NULL : report.problem);
    json_object_close(&w);
    json_member_bool(&w, "draining", atomic_load(&ingest->draining));
    json_member_bool(&w, "simulate", ingest->config->simulate);
    json_object_close(&w);
    buf_add_char(out, '\n');
}

static void refresh_gauges(void *arg)
{
    struct ingest *ingest = arg;
    struct loop_report report = report_of_all(ingest);
    metric_set(ingest->measures.pending, report.pending);
    metric_set(ingest->measures.queue_ready, report.ready);
    metric_set(ingest->measures.backlog, report.backlog);
}

static bool answer_reload(void *arg, struct buf *out, struct error *err)
{
    struct ingest *ingest = arg;
    if (!ingest_reload(ingest, err))
        return false;
    struct json_writer w = json_writer(out);
    write_scripts(ingest, &w);
    buf_add_char(out, '\n');
    return true;
}

struct admin_service ingest_admin_service(struct ingest *ingest)
{
    return (struct admin_service){.arg = ingest,
                                  .ready = answer_ready,
                                  .status = answer_status,
                                  .measure = refresh_gauges,
                                  .reload = answer_reload,
                                  .metrics = ingest->metrics};
}

/* ---- stop ---- */

bool ingest_drain(struct ingest *ingest)
{
    size_t n_cut = 0;
    atomic_store(&ingest->draining, true);
    for (size_t i = 0; i < ingest->n_loops; i++)
        loop_drain(ingest->loops[i]);
    for (size_t i = 0; i < ingest->n_loops; i++)
        n_cut += loop_wait(ingest->loops[i]);
    if (n_cut > 0)
        log_warn("connections were cut off at the end of the drain", LOG_I("connections", n_cut));
    if (ingest->listen_fd >= 0)
        close(ingest->listen_fd);
    ingest->listen_fd = -1;
    return n_cut == 0;
}

void ingest_free(struct ingest *ingest)
{
    if (ingest == NULL)
        return;
    for (size_t i = 0; i < ingest->n_loops; i++)
        loop_free(ingest->loops[i]);
    free(ingest->loops);
    http_free(ingest->http);
    tls_free(ingest->tls);
    script_set_release(ingest->scripts);
    rate_free(ingest->rate);
    measures_close(&ingest->measures);
    metrics_free(ingest->metrics);
    pthread_mutex_destroy(&ingest->reload_lock);
    pthread_mutex_destroy(&ingest->lock);
    free(ingest);
}
