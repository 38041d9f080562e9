/* Settings: environment variables WAYBILL_…, each with a flag of the same name. One list for all executables; each
 * reads those that it uses. Secrets come from variables or files (…_FILE), never from a command line. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/secrets.h"

enum config_user { CONFIG_INGEST = 1, CONFIG_WORKER = 2, CONFIG_CTL = 4 };

struct config {
    char *listen;                      /* host:port */
    char *admin_listen;                /* host:port; the default depends on the executable */
    char *ingest_admin, *worker_admin; /* waybillctl: where the services' admin listeners are, host:port */
    char *redis_url, *mongo_url, *scripts;
    int64_t threads;
    int64_t body_limit_bytes;
    int64_t max_connections;     /* of ingest's public listener, all threads together */
    int64_t request_timeout_ms;  /* a whole request must have arrived within this; also keep-alive idle time */
    int64_t queue_timeout_ms;    /* Redis slower than this is an outage */
    int64_t validate_limit_ms;   /* wall time of one validate.lua call */
    int64_t handler_limit_ms;    /* wall time of one process.lua call */
    int64_t script_memory_bytes; /* of one Lua state */
    int64_t lease_ms;
    int64_t batch;          /* most events that one thread takes at once */
    int64_t delivery_limit; /* deliveries without a result after which an event is poison */
    int64_t retry_base_ms, retry_factor, retry_cap_ms, retry_attempts;
    int64_t max_backlog;  /* 0: none */
    int64_t ack_replicas; /* replicas that must have an event before it is acknowledged; 0: none */
    int64_t partitions;
    int64_t drain_ms;       /* how long SIGTERM waits for what is in flight */
    int64_t reconcile_ms;   /* how long an event is unresolved and unowned before it is queued again */
    int64_t retention_days; /* succeeded events older than this are deleted; 0: never */
    bool simulate;
    char *tls_cert_file, *tls_key_file; /* NULL: plain HTTP */
    enum log_level log_level;
    enum log_format log_format;
    struct config_secret *secrets; /* as they were when it was loaded */
    size_t n_secrets;
};

enum config_result { CONFIG_OK, CONFIG_EXIT_OK /* --help or --version was printed */, CONFIG_BAD };

/* Reads the environment, then the flags (which win), checks every value and the relations between them. args that are
 * not flags are left in argv, *argc adjusted (waybillctl's words). On CONFIG_BAD err names the setting. */
enum config_result config_load(struct config *config, enum config_user user, int *argc, char **argv,
                               struct error *err) MUST_USE;
void config_free(struct config *config); /* wipes secrets */

/* The list of this executable's settings with units and defaults, as --help prints it. */
void config_print_help(FILE *out, enum config_user user);

#endif
