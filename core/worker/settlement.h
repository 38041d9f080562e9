/* Step 5 of the protocol: what becomes of an entry, given what the store said and did. Pure. */
#ifndef WORKER_SETTLEMENT_H
#define WORKER_SETTLEMENT_H

#include "queue/queue.h"
#include "worker/worker_metrics.h"

/* What to do with a delivery's entry once its batch was committed. */
struct settlement settlement_of(const struct delivery *delivery);

/* The same for the counters. */
enum delivery_result settlement_result(const struct delivery *delivery);

#endif
