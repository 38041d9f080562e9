/* The process's side: the driver's start and end, its log lines, the URL and the pool. */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "bson.h"

#define DEFAULT_LEASE_MS 30000

/* An unknown option in a URL is only a log line for the driver. While this thread parses a URL, the line lands here. */
static _Thread_local struct error *parse_complaint;

static enum log_level level_of(mongoc_log_level_t level)
{
    switch (level) {
    case MONGOC_LOG_LEVEL_ERROR:
    case MONGOC_LOG_LEVEL_CRITICAL:
        return LOG_ERROR;
    case MONGOC_LOG_LEVEL_WARNING:
        return LOG_WARN;
    default:
        return LOG_DEBUG;
    }
}

static void driver_says(mongoc_log_level_t level, const char *domain, const char *message, void *arg)
{
    (void)arg;
    if (parse_complaint != NULL) {
        if (level <= MONGOC_LOG_LEVEL_WARNING && parse_complaint->text[0] == '\0')
            error_set(parse_complaint, "%s", message);
        return;
    }
    LOG_AT(level_of(level), "mongo driver", LOG_S("part", domain), LOG_S("text", message));
}

/* The driver keeps its counters in shared memory that only a clean exit removes; what a SIGKILL leaves behind would
 * trip the next process of the same id, and fill the memory of a machine in time. Without its name it ends with the
 * process. */
static void unname_driver_counters(void)
{
    char name[32];
    snprintf(name, sizeof(name), "/mongoc-%ld", (long)getpid());
    (void)shm_unlink(name); /* none: the driver does not do so */
}

void store_init(void)
{
    mongoc_log_set_handler(driver_says, NULL);
    mongoc_init();
    unname_driver_counters();
}

void store_cleanup(void)
{
    mongoc_cleanup();
    mongoc_log_set_handler(mongoc_log_default_handler, NULL);
}

/* NULL with the driver's words when it does not like the URL, or has something to say about it. */
static mongoc_uri_t *parse_as_it_is(const char *url, struct error *why)
{
    struct error complaint = {{0}};
    bson_error_t error = {0};
    parse_complaint = &complaint;
    mongoc_uri_t *uri = mongoc_uri_new_with_error(url, &error);
    parse_complaint = NULL;
    if (uri != NULL && complaint.text[0] == '\0')
        return uri;
    error_set(why, "%s", uri == NULL ? error.message : complaint.text);
    if (uri != NULL)
        mongoc_uri_destroy(uri);
    return NULL;
}

/* The URL without its user and password; NULL when it has none. free() it. */
static char *without_login(const char *url)
{
    const char *hosts = strstr(url, "://"), *at = NULL;
    for (const char *c = url; *c != '\0' && *c != '?'; c++)
        at = *c == '@' ? c : at;
    if (hosts == NULL || at == NULL || at < hosts)
        return NULL;
    char *text = memory_strdup(url);
    memmove(text + (hosts + 3 - url), at + 1, strlen(at + 1) + 1);
    return text;
}

/* The driver's words may quote the password: what is told is what it says of the URL without it. */
static mongoc_uri_t *parse(const char *url, struct error *err)
{
    struct error why = {{0}};
    mongoc_uri_t *uri = parse_as_it_is(url, &why);
    if (uri != NULL)
        return uri;
    char *bare = without_login(url);
    mongoc_uri_t *bare_uri = bare == NULL ? NULL : parse_as_it_is(bare, &why);
    if (bare_uri != NULL) {
        error_set(&why, "its user or password is malformed: reserved characters in them are written as %%XX");
        mongoc_uri_destroy(bare_uri);
    }
    free(bare);
    error_set(err, "WAYBILL_MONGO_URL: %s", why.text);
    return NULL;
}

static void set_default(mongoc_uri_t *uri, const char *option, int64_t value)
{
    if (!mongoc_uri_has_option(uri, option))
        mongoc_uri_set_option_as_int32(uri, option, (int32_t)value);
}

static int64_t share_of_lease(int64_t lease_ms, int64_t part, int64_t least_ms, int64_t most_ms)
{
    int64_t ms = lease_ms / part;
    return ms < least_ms ? least_ms : ms > most_ms ? most_ms : ms;
}

/* A call ends well within a lease even if the server hangs: its owner must still be able to give signs of life. After a
 * broken connection the driver looks for the server again at half-second steps, so selection must outlast one. */
static void set_limits(mongoc_uri_t *uri, int64_t lease_ms)
{
    int64_t connect_ms = share_of_lease(lease_ms, 30, 750, 1000);
    set_default(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, connect_ms);
    set_default(uri, MONGOC_URI_CONNECTTIMEOUTMS, connect_ms);
    set_default(uri, MONGOC_URI_SOCKETTIMEOUTMS, share_of_lease(lease_ms, 6, 500, 5000));
    set_default(uri, MONGOC_URI_WAITQUEUETIMEOUTMS, connect_ms);
    set_default(uri, MONGOC_URI_HEARTBEATFREQUENCYMS, 1000);
    if (mongoc_uri_get_appname(uri) == NULL)
        mongoc_uri_set_appname(uri, "waybill-worker");
}

static bool set_concern(mongoc_uri_t *uri, struct error *err)
{
    mongoc_write_concern_t *concern = mongoc_write_concern_copy(mongoc_uri_get_write_concern(uri));
    if (!mongoc_uri_has_option(uri, MONGOC_URI_W))
        mongoc_write_concern_set_w(concern, MONGOC_WRITE_CONCERN_W_MAJORITY);
    bool acknowledged = mongoc_write_concern_get_w(concern) != 0;
    if (acknowledged && !mongoc_uri_has_option(uri, MONGOC_URI_JOURNAL))
        mongoc_write_concern_set_journal(concern, true);
    mongoc_uri_set_write_concern(uri, concern);
    mongoc_write_concern_destroy(concern);
    if (!acknowledged)
        error_set(err, "WAYBILL_MONGO_URL: w=0 would lose events; leave it out, or use w=majority");
    return acknowledged;
}

/* A pool, though a thread keeps its client for life, for the sake of the pool's monitor: it sees within a heartbeat
 * that a server is back. A client without one leaves a server that has failed alone for five seconds. */
struct store *store_open(const struct store_options *options, struct error *err)
{
    int64_t lease_ms = options->lease_ms > 0 ? options->lease_ms : DEFAULT_LEASE_MS;
    mongoc_uri_t *uri = parse(options->url, err);
    if (uri == NULL)
        return NULL;
    set_limits(uri, lease_ms);
    bson_error_t error = {0};
    mongoc_client_pool_t *pool = NULL;
    if (set_concern(uri, err)) {
        pool = mongoc_client_pool_new_with_error(uri, &error);
        if (pool == NULL)
            error_set(err, "WAYBILL_MONGO_URL: %s", error.message);
    }
    struct store *store = NULL;
    if (pool != NULL) {
        const char *database = mongoc_uri_get_database(uri);
        mongoc_client_pool_set_error_api(pool, MONGOC_ERROR_API_VERSION_2);
        store = memory_alloc(sizeof(*store));
        store->pool = pool;
        store->database = memory_strdup(database != NULL && database[0] != '\0' ? database : "waybill");
        store->worker = memory_strdup(options->worker != NULL ? options->worker : "");
        store->lease_ms = lease_ms;
    }
    mongoc_uri_destroy(uri);
    return store;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    mongoc_client_pool_destroy(store->pool);
    free(store->database);
    free(store->worker);
    free(store);
}
