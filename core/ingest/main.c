/* waybill-ingest: takes signed events over HTTP and hands them to the queue. This file is its table of contents. */
#include <stdio.h>

#include "admin/admin.h"
#include "admin/probe.h"
#include "base/config.h"
#include "base/log.h"
#include "base/signals.h"
#include "ingest/ingest.h"

enum { EXIT_DONE = 0, EXIT_CUT_OFF = 1, EXIT_NOT_WELL = 1, EXIT_BAD_START = 2 };
#define PROBE_TIMEOUT_MS 2000

static int fail(const char *what, const struct error *err)
{
    fprintf(stderr, "waybill-ingest: %s%s\n", what, err->text);
    return EXIT_BAD_START;
}

static void warn_of_simulation(const struct config *config)
{
    if (config->simulate)
        log_warn("WAYBILL_SIMULATE=1: EVENTS MAY ASK FOR FAILURES. NEVER IN PRODUCTION");
}

static void serve_until_stopped(struct ingest *ingest)
{
    struct error err; /* logged by ingest_reload */
    for (;;) {
        switch (signals_wait(-1)) {
        case SIGNAL_RELOAD:
            (void)!ingest_reload(ingest, &err);
            break;
        case SIGNAL_STOP:
            return;
        case SIGNAL_NONE:
        default:
            break;
        }
    }
}

static int run(const struct config *config)
{
    struct error err;
    log_open("waybill-ingest", config->log_level, config->log_format);
    warn_of_simulation(config);
    struct ingest *ingest = ingest_start(config, &err);
    if (ingest == NULL)
        return fail("", &err);
    struct admin_service service = ingest_admin_service(ingest);
    struct admin *admin = admin_start(config->admin_listen, &service, &err);
    if (admin != NULL) {
        log_info("ready", LOG_S("listen", ingest_address(ingest)), LOG_S("admin", admin_address(admin)),
                 LOG_S("version", WAYBILL_VERSION));
        serve_until_stopped(ingest);
        log_info("stopping");
    }
    bool drained = ingest_drain(ingest);
    admin_stop(admin);
    ingest_free(ingest);
    if (admin == NULL)
        return fail("WAYBILL_ADMIN_LISTEN: ", &err);
    log_info("stopped");
    return drained ? EXIT_DONE : EXIT_CUT_OFF;
}

static int probe(const struct config *config, const char *path)
{
    struct error err;
    if (probe_ask(config->admin_listen, path, PROBE_TIMEOUT_MS, &err))
        return EXIT_DONE;
    (void)fail("", &err);
    return EXIT_NOT_WELL;
}

int main(int argc, char **argv)
{
    signals_block();
    const char *probe_path = probe_take_flag(&argc, argv);
    struct config config;
    struct error err;
    enum config_result result = config_load(&config, CONFIG_INGEST, &argc, argv, &err);
    int code = EXIT_DONE;
    if (result == CONFIG_BAD)
        code = fail("", &err);
    else if (result == CONFIG_OK)
        code = probe_path != NULL ? probe(&config, probe_path) : run(&config);
    config_free(&config);
    return code;
}
