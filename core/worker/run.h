/* The run stage: process.lua and, after a failure, retry_policy.lua turn a claimed delivery into a decision. */
#ifndef WORKER_RUN_H
#define WORKER_RUN_H

#include "event/delivery.h"
#include "policy/policy.h"
#include "worker/worker_metrics.h"

struct run_context {
    struct policy *policy;
    const char *worker;
    uint32_t delivery_limit;
    struct worker_metrics *metrics;
    struct arena *arena; /* what the scripts say lives here until the batch is settled */
};

/* Fills outcome, times, decision, retry and script_hash; delivery->failures counts this attempt afterwards if it is
 * charged. */
void run_delivery(const struct run_context *context, struct delivery *delivery);

#endif
