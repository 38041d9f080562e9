/* waybill-worker: takes events from Redis and brings each to its one outcome. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signals.h"
#include "store/store.h"
#include "worker/service.h"

#define EXIT_BAD_SETTINGS 2

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

int main(int argc, char **argv)
{
    struct config config;
    struct error err;
    signals_block();
    enum config_result loaded = config_load(&config, CONFIG_WORKER, &argc, argv, &err);
    if (loaded != CONFIG_OK) {
        int status = loaded == CONFIG_EXIT_OK ? EXIT_SUCCESS : refuse(&err);
        config_free(&config);
        return status;
    }
    log_open("waybill-worker", config.log_level, config.log_format);
    if (config.simulate)
        log_warn("WAYBILL_SIMULATE=1: events can ask for failures; never in production");

    struct metrics *metrics = metrics_new();
    store_init();
    struct service *service = service_start(&config, metrics, &err);
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
    config_free(&config);
    return status;
}
