/* waybill-worker: takes events from Redis and brings each to its one outcome. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/probe.h"
#include "base/log.h"
#include "base/signals.h"
#include "store/store.h"
#include "worker/service.h"

#define EXIT_NOT_WELL     1
#define EXIT_BAD_SETTINGS 2
#define PROBE_TIMEOUT_MS  2000

static int refuse(const struct error *err)
{
    fprintf(stderr, "waybill-worker: %s\n", err->text);
    return EXIT_BAD_SETTINGS;
}

static void serve(struct service *service)
{
    struct error err;
    while (signals_wait(-1) == SIGNAL_RELOAD)
        (void)!service_reload(service, &err); /* logged there */
}

static int probe(const struct config *config, const char *path)
{
    struct error err;
    if (probe_ask(config->admin_listen, path, PROBE_TIMEOUT_MS, &err))
        return EXIT_SUCCESS;
    (void)refuse(&err);
    return EXIT_NOT_WELL;
}

static int run(const struct config *config)
{
    struct error err;
    log_open("waybill-worker", config->log_level, config->log_format);
    if (config->simulate)
        log_warn("WAYBILL_SIMULATE=1: events can ask for failures; never in production");

    struct metrics *metrics = metrics_new();
    store_init();
    struct service *service = service_start(config, metrics, &err);
    int status = EXIT_SUCCESS;
    if (service == NULL) {
        status = refuse(&err);
    } else {
        serve(service);
        if (!service_stop(service))
            _exit(EXIT_FAILURE); /* threads still run: nothing of theirs may be freed */
    }
    store_cleanup();
    metrics_free(metrics);
    return status;
}

int main(int argc, char **argv)
{
    struct config config;
    struct error err;
    signals_block();
    const char *probe_path = probe_take_flag(&argc, argv);
    enum config_result loaded = config_load(&config, CONFIG_WORKER, &argc, argv, &err);
    int status = EXIT_SUCCESS;
    if (loaded == CONFIG_BAD)
        status = refuse(&err);
    else if (loaded == CONFIG_OK)
        status = probe_path != NULL ? probe(&config, probe_path) : run(&config);
    config_free(&config);
    return status;
}
