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
        return ctl_fail(ctl, CTL_USAGE, "%s", err.text);
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
    return backends->queue != NULL ? CTL_OK : ctl_fail(ctl, CTL_USAGE, "WAYBILL_REDIS_URL: %s", err.text);
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

static void say_unreachable(const char *what, const char *setting, struct error *err)
{
    const struct error why = *err;
    error_set(err, "%s cannot be reached: %s (%s names it; after `make run`: `. .run/env`)", what, why.text, setting);
}

enum ctl_exit backends_store_code(enum store_result result, const char *what, struct error *err)
{
    switch (result) {
    case STORE_OK:
        return CTL_OK;
    case STORE_NOT_FOUND:
        error_set(err, "%s: not found", what);
        return CTL_NOT_FOUND;
    case STORE_UNAVAILABLE:
        say_unreachable("the store", "WAYBILL_MONGO_URL", err);
        return CTL_UNREACHABLE;
    case STORE_REFUSED:
    default:
        return CTL_NOT_GOOD;
    }
}

enum ctl_exit backends_queue_code(enum queue_result result, struct error *err)
{
    switch (result) {
    case QUEUE_OK:
        return CTL_OK;
    case QUEUE_UNAVAILABLE:
        say_unreachable("Redis", "WAYBILL_REDIS_URL", err);
        return CTL_UNREACHABLE;
    case QUEUE_REFUSED:
    default:
        error_prefix(err, "Redis");
        return CTL_NOT_GOOD;
    }
}

enum ctl_exit backends_store_exit(const struct ctl *ctl, enum store_result result, const char *what, struct error *err)
{
    enum ctl_exit code = backends_store_code(result, what, err);
    return code == CTL_OK ? CTL_OK : ctl_fail(ctl, code, "%s", err->text);
}

enum ctl_exit backends_queue_exit(const struct ctl *ctl, enum queue_result result, struct error *err)
{
    enum ctl_exit code = backends_queue_code(result, err);
    return code == CTL_OK ? CTL_OK : ctl_fail(ctl, code, "%s", err->text);
}

enum ctl_exit backends_check_key(const struct ctl *ctl, const char *key)
{
    const char *slash = strchr(key, '/');
    if (slash != NULL && slash != key && slash[1] != '\0')
        return CTL_OK;
    return ctl_fail(ctl, CTL_USAGE, "\"%s\" is no key: give SOURCE/EVENT_ID, as in demo/%s", key,
                    slash == NULL && *key != '\0' ? key : "evt_01");
}
