#include "ingest/measures.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "ingest/problem.h"

#define MAX_CODES  100 /* a script that makes codes up must not grow the metrics without end */
#define CODE_BYTES 65

struct answer_counts {
    pthread_mutex_t lock;
    size_t n;
    struct {
        char code[CODE_BYTES];
        struct metric *metric;
    } of[MAX_CODES];
};

static struct metric *counter_of(struct measures *m, const char *code)
{
    char labels[CODE_BYTES + 16];
    snprintf(labels, sizeof labels, "code=\"%s\"", code);
    return metrics_counter(m->registry, "waybill_ingest_requests_total", labels, "Requests answered, by code.");
}

static struct metric *gauge(struct measures *m, const char *name, const char *help)
{
    return metrics_gauge(m->registry, name, NULL, help);
}

static struct metric *reloads(struct measures *m, const char *labels)
{
    return metrics_counter(m->registry, "waybill_scripts_reloads_total", labels, "Reloads of the scripts, by result.");
}

static struct metric *find_or_add(struct measures *m, struct slice code)
{
    struct answer_counts *answers = m->answers;
    for (size_t i = 0; i < answers->n; i++) {
        if (slice_is(code, answers->of[i].code))
            return answers->of[i].metric;
    }
    if (answers->n == MAX_CODES || code.len >= CODE_BYTES)
        return counter_of(m, "other");
    memcpy(answers->of[answers->n].code, code.base, code.len);
    answers->of[answers->n].metric = counter_of(m, answers->of[answers->n].code);
    return answers->of[answers->n++].metric;
}

/* From the start, as an alert on growth does not see the step from no counter to the first count. */
static void open_counters(struct measures *m)
{
    m->answered_accepted = counter_of(m, "accepted");
    for (int id = 0; id < PROBLEM_COUNT; id++)
        (void)find_or_add(m, problem_of((enum problem_id)id, "").code);
}

void measures_open(struct measures *m, struct metrics *registry)
{
    *m = (struct measures){.registry = registry, .answers = memory_alloc(sizeof *m->answers)};
    pthread_mutex_init(&m->answers->lock, NULL);
    open_counters(m);
    m->accepted =
        metrics_counter(registry, "waybill_ingest_events_accepted_total", NULL, "Events acknowledged: Redis has them.");
    m->slow_senders = metrics_counter(registry, "waybill_ingest_slow_senders_total", NULL,
                                      "Requests that did not arrive whole in time: their connections were closed.");
    m->ack_seconds = metrics_histogram(registry, "waybill_ingest_ack_seconds", NULL,
                                       "From a request read whole to its acknowledgement.");
    m->connections = gauge(m, "waybill_ingest_connections", "Open connections of the public listener.");
    m->pending = gauge(m, "waybill_ingest_pending", "Events sent to Redis and not answered yet.");
    m->queue_ready = gauge(m, "waybill_ingest_queue_ready", "1 when every thread can add to the queue.");
    m->backlog = gauge(m, "waybill_backlog_events", "Events waiting in the queue; -1: unknown.");
    m->generation = gauge(m, "waybill_scripts_generation", "Running number of the scripts in use.");
    m->reloads_ok = reloads(m, "result=\"ok\"");
    m->reloads_failed = reloads(m, "result=\"failed\"");
    struct metric *build =
        metrics_gauge(registry, "waybill_build_info", "version=\"" WAYBILL_VERSION "\"", "Always 1.");
    metric_set(build, 1);
}

void measures_close(struct measures *m)
{
    if (m->answers == NULL)
        return;
    pthread_mutex_destroy(&m->answers->lock);
    free(m->answers);
}

void measures_count(struct measures *m, struct slice code)
{
    pthread_mutex_lock(&m->answers->lock);
    struct metric *metric = find_or_add(m, code);
    pthread_mutex_unlock(&m->answers->lock);
    metric_add(metric, 1);
}
