/* The ingest service: its loop threads, their scripts, and what operators see of it.
 * Uses: base, event, policy, queue (adding), admin; libh2o, privately. */
#ifndef INGEST_INGEST_H
#define INGEST_INGEST_H

#include "admin/admin.h"
#include "base/config.h"
#include "base/error.h"

struct ingest;

/* Reads the scripts, opens the public listener and starts the threads. NULL: err says what is wrong, and nothing runs.
 * config must outlive it. */
struct ingest *ingest_start(const struct config *config, struct error *err);

/* host:port of the public listener, with the port that was chosen for port 0. */
const char *ingest_address(const struct ingest *ingest);

/* For admin_start; valid until ingest_stop. */
struct admin_service ingest_admin_service(struct ingest *ingest);

/* Reads the scripts (and the certificate) anew and gives each thread a new policy. On any error all threads keep what
 * they have. Logs and counts the result. Thread-safe. */
bool ingest_reload(struct ingest *ingest, struct error *err);

/* From now on /readyz says no, new requests get 503, and what is in flight is finished. Waits for the end of it, at
 * most config->drain_ms and a little. false: what was left then was cut off, as the log says. */
bool ingest_drain(struct ingest *ingest);
/* After ingest_drain, and after the admin listener was stopped. */
void ingest_free(struct ingest *ingest);

#endif
