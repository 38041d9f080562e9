#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const int64_t bucket_us[] = {100,    250,    500,    1000,    2500,    5000,    10000,    25000,    50000,
                                    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000};
#define N_BUCKETS (sizeof bucket_us / sizeof *bucket_us)

struct metric {
    struct metric *next;
    enum metric_kind kind;
    char *name, *labels, *help; /* labels may be NULL */
    _Atomic int64_t value;      /* histogram: how many */
    _Atomic int64_t sum_us;
    _Atomic int64_t buckets[N_BUCKETS + 1]; /* not cumulative; the last is +Inf */
};

struct metrics {
    pthread_mutex_t lock; /* guards the list; the metrics themselves are atomic */
    struct metric *first, **last;
};

struct metrics *metrics_new(void)
{
    struct metrics *metrics = memory_alloc(sizeof *metrics);
    pthread_mutex_init(&metrics->lock, NULL);
    metrics->last = &metrics->first;
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    for (struct metric *m = metrics->first, *next; m != NULL; m = next) {
        next = m->next;
        free(m->name);
        free(m->labels);
        free(m->help);
        free(m);
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static bool same_labels(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static struct metric *find_or_add(struct metrics *metrics, enum metric_kind kind, const char *name, const char *labels,
                                  const char *help)
{
    pthread_mutex_lock(&metrics->lock);
    struct metric *m = metrics->first;
    while (m != NULL && !(strcmp(m->name, name) == 0 && same_labels(m->labels, labels)))
        m = m->next;
    if (m == NULL) {
        m = memory_alloc(sizeof *m);
        m->kind = kind;
        m->name = memory_strdup(name);
        m->labels = labels == NULL ? NULL : memory_strdup(labels);
        m->help = memory_strdup(help);
        *metrics->last = m;
        metrics->last = &m->next;
    }
    pthread_mutex_unlock(&metrics->lock);
    return m;
}

struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *labels, const char *help)
{
    return find_or_add(metrics, METRIC_COUNTER, name, labels, help);
}

struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *labels, const char *help)
{
    return find_or_add(metrics, METRIC_GAUGE, name, labels, help);
}

struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *labels, const char *help)
{
    return find_or_add(metrics, METRIC_HISTOGRAM, name, labels, help);
}

void metric_add(struct metric *metric, int64_t n)
{
    atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
}

void metric_set(struct metric *metric, int64_t value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

int64_t metric_value(const struct metric *metric)
{
    return atomic_load_explicit(&((struct metric *)(uintptr_t)metric)->value, memory_order_relaxed);
}

void metric_observe_us(struct metric *metric, int64_t us)
{
    size_t i = 0;
    while (i < N_BUCKETS && us > bucket_us[i])
        i++;
    atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->sum_us, us, memory_order_relaxed);
    metric_add(metric, 1);
}

static void write_series(struct buf *out, const struct metric *m, const char *suffix)
{
    if (m->labels == NULL)
        buf_printf(out, "%s%s ", m->name, suffix);
    else
        buf_printf(out, "%s%s{%s} ", m->name, suffix, m->labels);
}

static void write_histogram(struct buf *out, struct metric *m)
{
    const char *labels = m->labels == NULL ? "" : m->labels, *comma = m->labels == NULL ? "" : ",";
    int64_t total = 0;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        total += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %lld\n", m->name, labels, comma, (double)bucket_us[i] / 1e6,
                   (long long)total);
    }
    total += atomic_load_explicit(&m->buckets[N_BUCKETS], memory_order_relaxed);
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %lld\n", m->name, labels, comma, (long long)total);
    write_series(out, m, "_sum");
    buf_printf(out, "%.6f\n", (double)atomic_load_explicit(&m->sum_us, memory_order_relaxed) / 1e6);
    write_series(out, m, "_count");
    buf_printf(out, "%lld\n", (long long)total);
}

static void write_help(struct buf *out, const struct metric *m)
{
    buf_printf(out, "# HELP %s ", m->name);
    for (const char *p = m->help; *p != '\0'; p++) {
        if (*p == '\n' || *p == '\\')
            buf_add_char(out, '\\');
        buf_add_char(out, *p == '\n' ? 'n' : *p);
    }
    buf_add_char(out, '\n');
}

static void write_family(struct buf *out, struct metric *first)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    write_help(out, first);
    buf_printf(out, "# TYPE %s %s\n", first->name, kinds[first->kind]);
    for (struct metric *m = first; m != NULL; m = m->next) {
        if (strcmp(m->name, first->name) != 0)
            continue;
        if (m->kind == METRIC_HISTOGRAM) {
            write_histogram(out, m);
        } else {
            write_series(out, m, "");
            buf_printf(out, "%lld\n", (long long)metric_value(m));
        }
    }
}

static bool is_first_of_family(const struct metrics *metrics, const struct metric *metric)
{
    const struct metric *m = metrics->first;
    while (strcmp(m->name, metric->name) != 0)
        m = m->next;
    return m == metric;
}

void metrics_write(struct metrics *metrics, struct buf *out)
{
    pthread_mutex_lock(&metrics->lock);
    for (struct metric *m = metrics->first; m != NULL; m = m->next) {
        if (is_first_of_family(metrics, m))
            write_family(out, m);
    }
    pthread_mutex_unlock(&metrics->lock);
}
