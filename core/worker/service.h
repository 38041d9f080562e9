/* The worker service: its threads, its reloads, and what its admin listener tells. */
#ifndef WORKER_SERVICE_H
#define WORKER_SERVICE_H

#include "base/config.h"
#include "base/error.h"
#include "base/metrics.h"

struct service;

/* Loads the scripts, opens what is needed and starts the threads. NULL: err says why. A Redis or a store that is away
 * is no error. config and metrics live longer than the service. */
struct service *service_start(const struct config *config, struct metrics *metrics, struct error *err);

/* Builds new policies aside and offers them to the pipelines; on any error the running ones stay. Logs the result. */
bool service_reload(struct service *service, struct error *err);

/* Finishes what is in flight, hands back the rest, ends the threads. false when WAYBILL_DRAIN_MS was not enough: the
 * threads still run then, and the process should just exit; what they held is reclaimed by others. Frees the service
 * otherwise. */
bool service_stop(struct service *service);

#endif
