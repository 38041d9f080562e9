#include "worker/worker_metrics.h"

#include <stdio.h>

static const char *const result_labels[RESULT_COUNT] = {
    [RESULT_SUCCEEDED] = "result=\"succeeded\"", [RESULT_RETRY] = "result=\"retry\"",
    [RESULT_SNOOZED] = "result=\"snoozed\"",     [RESULT_DEAD] = "result=\"dead\"",
    [RESULT_DUPLICATE] = "result=\"duplicate\"", [RESULT_CONFLICT] = "result=\"conflict\"",
    [RESULT_RESETTLED] = "result=\"resettled\"", [RESULT_HELD] = "result=\"held\"",
    [RESULT_LOST] = "result=\"lost\"",           [RESULT_HANDED_BACK] = "result=\"handed_back\"",
};

static void init_families(struct worker_metrics *m, struct metrics *r)
{
    for (int i = 0; i < RESULT_COUNT; i++)
        m->results[i] = metrics_counter(r, "waybill_worker_deliveries_total", result_labels[i],
                                        "Deliveries by what became of them.");
    for (int i = 0; i <= OUTCOME_MEMORY_LIMIT; i++) {
        char label[64];
        snprintf(label, sizeof label, "outcome=\"%s\"", outcome_name((enum outcome_kind)i));
        m->attempts[i] =
            metrics_counter(r, "waybill_worker_attempts_total", label, "Runs of process.lua by how they ended.");
    }
}

static void init_queue(struct worker_metrics *m, struct metrics *r)
{
    static const char help[] = "Entries of the queue by place; pending are those in workers' hands.";
    m->depth_stream = metrics_gauge(r, "waybill_queue_events", "place=\"stream\"", help);
    m->depth_pending = metrics_gauge(r, "waybill_queue_events", "place=\"pending\"", help);
    m->depth_retry = metrics_gauge(r, "waybill_queue_events", "place=\"retry\"", help);
    m->depth_dead = metrics_gauge(r, "waybill_queue_events", "place=\"dead\"", help);
    m->oldest_seconds =
        metrics_gauge(r, "waybill_queue_oldest_seconds", NULL, "Age of the oldest entry in the stream.");
    m->letters_unreviewed =
        metrics_gauge(r, "waybill_dead_letters_unreviewed", NULL, "Dead letters that nobody has reviewed.");
    m->reclaimed = metrics_counter(r, "waybill_worker_reclaimed_total", NULL,
                                   "Entries taken over from workers that gave no sign of life for a lease.");
    m->promoted = metrics_counter(r, "waybill_worker_promoted_total", NULL,
                                  "Events moved from the retry set when they were due.");
    m->reconciled =
        metrics_counter(r, "waybill_worker_reconciled_total", NULL, "Unresolved events queued again from the store.");
    m->expired = metrics_counter(r, "waybill_worker_expired_total", NULL, "Succeeded events deleted by retention.");
    m->poisoned = metrics_counter(r, "waybill_worker_poison_total", NULL,
                                  "Events dead-lettered because workers died on them too often.");
}

void worker_metrics_init(struct worker_metrics *m, struct metrics *r)
{
    static const char reload_help[] = "Script reloads by result.";
    init_families(m, r);
    init_queue(m, r);
    m->handler_seconds = metrics_histogram(r, "waybill_worker_handler_seconds", NULL, "One call of process.lua.");
    m->resolution_seconds = metrics_histogram(r, "waybill_worker_resolution_seconds", NULL,
                                              "From acceptance to succeeded or dead-lettered.");
    m->batch_events =
        metrics_gauge(r, "waybill_worker_batch_events", NULL, "Events that a pipeline takes at once now.");
    m->in_hand = metrics_gauge(r, "waybill_worker_in_hand", NULL, "Events taken and not settled yet.");
    m->store_up =
        metrics_gauge(r, "waybill_worker_store_up", NULL, "1 while the store answers and takes what it is given.");
    m->queue_up = metrics_gauge(r, "waybill_worker_queue_up", NULL, "Pipelines that are connected to Redis.");
    m->store_errors = metrics_counter(r, "waybill_worker_store_errors_total", NULL, "Store calls that failed.");
    m->queue_errors = metrics_counter(r, "waybill_worker_queue_errors_total", NULL, "Redis calls that failed.");
    m->generation = metrics_gauge(r, "waybill_scripts_generation", NULL, "Generation of the running scripts.");
    m->reloads_good = metrics_counter(r, "waybill_scripts_reloads_total", "result=\"ok\"", reload_help);
    m->reloads_bad = metrics_counter(r, "waybill_scripts_reloads_total", "result=\"failed\"", reload_help);
}
