#include "ctl/backends.h"

#include <string.h>

/* A person waits: the store's and the queue's own limits follow from a short lease. */
#define CTL_LEASE_MS 30000

enum ctl_exit backends_open_store(const struct ctl *ctl, struct backends *backends)
{
    const struct store_options options = {
        .url = ctl->config.mongo_url, .worker = "waybillctl", .lease_ms = CTL_LEASE_MS};
    struct error err;
    store_init();
    backends->store = store_open(&options, &err);
    if (backends->store == NULL) {
        store_cleanup();
        return ctl_fail(CTL_USAGE, "%s", err.text);
    }
    backends->client = store_client_new(backends->store);
    return CTL_OK;
}

enum ctl_exit backends_open_queue(const struct ctl *ctl, struct backends *backends)
{
    const struct queue_options options = {.url = ctl->config.redis_url,
                                          .consumer = "",
                                          .timeout_ms = ctl->config.queue_timeout_ms,
                                          .lease_ms = CTL_LEASE_MS,
                                          .partitions = (uint32_t)ctl->config.partitions};
    struct error err;
    backends->queue = queue_new(&options, &err);
    return backends->queue != NULL ? CTL_OK : ctl_fail(CTL_USAGE, "WAYBILL_REDIS_URL: %s", err.text);
}

void backends_close(struct backends *backends)
{
    if (backends->queue != NULL)
        queue_free(backends->queue);
    if (backends->store == NULL)
        return;
    store_client_free(backends->client);
    store_close(backends->store);
    store_cleanup();
}

enum ctl_exit backends_store_exit(enum store_result result, const char *what, const struct error *err)
{
    switch (result) {
    case STORE_OK:
        return CTL_OK;
    case STORE_NOT_FOUND:
        return ctl_fail(CTL_NOT_FOUND, "%s: not found", what);
    case STORE_UNAVAILABLE:
        return ctl_fail(CTL_UNREACHABLE,
                        "the store cannot be reached: %s (WAYBILL_MONGO_URL names it; after `make run`: `. .run/env`)",
                        err->text);
    case STORE_REFUSED:
    default:
        return ctl_fail(CTL_NOT_GOOD, "%s", err->text);
    }
}

enum ctl_exit backends_queue_exit(enum queue_result result, const struct error *err)
{
    switch (result) {
    case QUEUE_OK:
        return CTL_OK;
    case QUEUE_UNAVAILABLE:
        return ctl_fail(CTL_UNREACHABLE,
                        "Redis cannot be reached: %s (WAYBILL_REDIS_URL names it; after `make run`: `. .run/env`)",
                        err->text);
    case QUEUE_REFUSED:
    default:
        return ctl_fail(CTL_NOT_GOOD, "Redis: %s", err->text);
    }
}

enum ctl_exit backends_check_key(const char *key)
{
    const char *slash = strchr(key, '/');
    if (slash != NULL && slash != key && slash[1] != '\0')
        return CTL_OK;
    return ctl_fail(CTL_USAGE, "\"%s\" is no key: give SOURCE/EVENT_ID, as in demo/%s", key,
                    slash == NULL && *key != '\0' ? key : "evt_01");
}
