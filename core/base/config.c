#include "base/config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/memory.h"

extern char **environ;

enum kind { KIND_TEXT, KIND_URL /* may hold a password */, KIND_INT, KIND_BOOL, KIND_LEVEL, KIND_FORMAT };

struct setting {
    const char *name; /* WAYBILL_… */
    enum kind kind;
    size_t offset;
    const char *fallback; /* NULL: none */
    int64_t min, max;
    unsigned users;
    const char *unit, *help;
};

#define AT(field) offsetof(struct config, field)
#define SERVICES  (CONFIG_INGEST | CONFIG_WORKER)
#define ALL       (CONFIG_INGEST | CONFIG_WORKER | CONFIG_CTL)

static const struct setting settings[] = {
    {"WAYBILL_LISTEN", KIND_TEXT, AT(listen), "127.0.0.1:8080", 0, 0, CONFIG_INGEST | CONFIG_CTL, "host:port",
     "ingest's public listener"},
    {"WAYBILL_ADMIN_LISTEN", KIND_TEXT, AT(admin_listen), NULL, 0, 0, SERVICES, "host:port",
     "admin listener (default 127.0.0.1:9080 for ingest, 127.0.0.1:9081 for worker)"},
    {"WAYBILL_INGEST_ADMIN", KIND_TEXT, AT(ingest_admin), "127.0.0.1:9080", 0, 0, CONFIG_CTL, "host:port",
     "where ingest's admin listener is"},
    {"WAYBILL_WORKER_ADMIN", KIND_TEXT, AT(worker_admin), "127.0.0.1:9081", 0, 0, CONFIG_CTL, "host:port",
     "where the worker's admin listener is"},
    {"WAYBILL_REDIS_URL", KIND_URL, AT(redis_url), "redis://127.0.0.1:6379/0", 0, 0, ALL, "URL",
     "redis://[user:password@]host[:port][/db] or unix://[user:password@]/path[?db=N]"},
    {"WAYBILL_MONGO_URL", KIND_URL, AT(mongo_url), "mongodb://127.0.0.1:27017/waybill", 0, 0,
     CONFIG_WORKER | CONFIG_CTL, "URL", "MongoDB connection string with the database's name"},
    {"WAYBILL_SCRIPTS", KIND_TEXT, AT(scripts), "scripts", 0, 0, ALL, "folder", "the Lua policies"},
    {"WAYBILL_THREADS", KIND_INT, AT(threads), "1", 1, 256, SERVICES, "threads",
     "loops of ingest, pipelines of worker"},
    {"WAYBILL_BODY_LIMIT_BYTES", KIND_INT, AT(body_limit_bytes), "1048576", 1, 8388608, CONFIG_INGEST, "bytes",
     "a larger body is answered 413"},
    {"WAYBILL_MAX_CONNECTIONS", KIND_INT, AT(max_connections), "1000", 1, 100000, CONFIG_INGEST, "connections",
     "most open connections of the public listener; for more, those that are idle longest are closed, else they wait"},
    {"WAYBILL_REQUEST_TIMEOUT_MS", KIND_INT, AT(request_timeout_ms), "30000", 100, 3600000, CONFIG_INGEST, "ms",
     "a request must arrive whole within this; also how long an idle connection is kept"},
    {"WAYBILL_QUEUE_TIMEOUT_MS", KIND_INT, AT(queue_timeout_ms), "2000", 10, 60000, ALL, "ms",
     "Redis slower than this is an outage: 503"},
    {"WAYBILL_VALIDATE_LIMIT_MS", KIND_INT, AT(validate_limit_ms), "100", 1, 10000, CONFIG_INGEST | CONFIG_CTL, "ms",
     "wall time of one validate.lua call"},
    {"WAYBILL_HANDLER_LIMIT_MS", KIND_INT, AT(handler_limit_ms), "10000", 1, 3600000, CONFIG_WORKER | CONFIG_CTL, "ms",
     "wall time of one process.lua call"},
    {"WAYBILL_SCRIPT_MEMORY_BYTES", KIND_INT, AT(script_memory_bytes), "67108864", 1048576, INT64_C(1) << 34, ALL,
     "bytes", "memory of one Lua state"},
    {"WAYBILL_LEASE_MS", KIND_INT, AT(lease_ms), "30000", 100, 86400000, CONFIG_WORKER | CONFIG_CTL, "ms",
     "how long a taken event stays a worker's own without a sign of life"},
    {"WAYBILL_BATCH", KIND_INT, AT(batch), "64", 1, 1000, CONFIG_WORKER, "events",
     "most events that a pipeline takes at once"},
    {"WAYBILL_DELIVERY_LIMIT", KIND_INT, AT(delivery_limit), "5", 2, 1000, CONFIG_WORKER, "deliveries",
     "deliveries without a result after which an event is dead-lettered as poison"},
    {"WAYBILL_RETRY_BASE_MS", KIND_INT, AT(retry_base_ms), "1000", 1, 86400000, CONFIG_WORKER | CONFIG_CTL, "ms",
     "built-in schedule: the first wait is random up to this"},
    {"WAYBILL_RETRY_FACTOR", KIND_INT, AT(retry_factor), "2", 1, 100, CONFIG_WORKER | CONFIG_CTL, "",
     "built-in schedule: growth of the wait from one attempt to the next"},
    {"WAYBILL_RETRY_CAP_MS", KIND_INT, AT(retry_cap_ms), "300000", 1, INT64_C(2592000000), CONFIG_WORKER | CONFIG_CTL,
     "ms", "built-in schedule: no wait is longer"},
    {"WAYBILL_RETRY_ATTEMPTS", KIND_INT, AT(retry_attempts), "8", 1, 10000, CONFIG_WORKER | CONFIG_CTL, "attempts",
     "built-in schedule: after so many the event is dead-lettered"},
    {"WAYBILL_MAX_BACKLOG", KIND_INT, AT(max_backlog), "0", 0, INT64_MAX, CONFIG_INGEST, "events",
     "above it ingest answers 429; 0: no limit"},
    {"WAYBILL_ACK_REPLICAS", KIND_INT, AT(ack_replicas), "0", 0, 100, CONFIG_INGEST, "replicas",
     "Redis replicas that must have an event before it is acknowledged"},
    {"WAYBILL_PARTITIONS", KIND_INT, AT(partitions), "1", 1, 1024, ALL, "partitions",
     "of the queue; the same for all services"},
    {"WAYBILL_DRAIN_MS", KIND_INT, AT(drain_ms), "15000", 0, 3600000, SERVICES, "ms",
     "how long a stop waits for what is in flight"},
    {"WAYBILL_RECONCILE_MS", KIND_INT, AT(reconcile_ms), "600000", 1000, 86400000, CONFIG_WORKER, "ms",
     "an event unresolved and untouched for so long beyond its time is queued again"},
    {"WAYBILL_RETENTION_DAYS", KIND_INT, AT(retention_days), "0", 0, 36500, CONFIG_WORKER, "days",
     "succeeded events older than this are deleted; 0: never"},
    {"WAYBILL_SIMULATE", KIND_BOOL, AT(simulate), "0", 0, 0, ALL, "0 or 1",
     "lets data.simulate in an event ask for failures; never in production"},
    {"WAYBILL_TLS_CERT_FILE", KIND_TEXT, AT(tls_cert_file), NULL, 0, 0, CONFIG_INGEST, "file",
     "certificate chain (PEM); with it the public listener speaks TLS"},
    {"WAYBILL_TLS_KEY_FILE", KIND_TEXT, AT(tls_key_file), NULL, 0, 0, CONFIG_INGEST, "file", "its private key (PEM)"},
    {"WAYBILL_LOG_LEVEL", KIND_LEVEL, AT(log_level), "info", 0, 0, ALL, "", "debug, info, warn or error"},
    {"WAYBILL_LOG_FORMAT", KIND_FORMAT, AT(log_format), NULL, 0, 0, ALL, "",
     "text or json (default: text on a terminal, else json)"},
};
#define N_SETTINGS (sizeof settings / sizeof *settings)

/* Variables with our prefix that belong to the project's tools, not to an executable. */
static const char *const tool_variables[] = {
    "WAYBILL_RUN_DIR", "WAYBILL_BIN_DIR", "WAYBILL_DEVSTORE",    "WAYBILL_WORKER_ADMIN_LISTEN",
    "WAYBILL_BIND",    "WAYBILL_PORT",    "WAYBILL_SCRIPTS_DIR", "WAYBILL_SECRETS_DIR"};
static const char test_prefix[] = "WAYBILL_TEST_";

static const struct setting *find_setting(const char *name, size_t len)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (strlen(settings[i].name) == len && memcmp(settings[i].name, name, len) == 0)
            return &settings[i];
    }
    return NULL;
}

static void set_text(struct config *config, size_t offset, const char *value)
{
    char **slot = (char **)((char *)config + offset);
    free(*slot);
    *slot = memory_strdup(value);
}

static bool set_int(struct config *config, const struct setting *s, const char *value, struct error *err)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    bool digits_only = value[0] != '\0' && strspn(value, "0123456789") == strlen(value);
    if (!digits_only || errno != 0 || *end != '\0' || n < s->min || n > s->max) {
        if (s->max == INT64_MAX)
            error_set(err, "%s: '%s' is not a whole number of %s from %lld", s->name, value, s->unit,
                      (long long)s->min);
        else
            error_set(err, "%s: '%s' is not a whole number%s%s from %lld to %lld", s->name, value,
                      s->unit[0] == '\0' ? "" : " of ", s->unit, (long long)s->min, (long long)s->max);
        return false;
    }
    *(int64_t *)(void *)((char *)config + s->offset) = n;
    return true;
}

static int word_index(const char *value, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(value, words[i]) == 0)
            return i;
    }
    return -1;
}

static bool set_value(struct config *config, const struct setting *s, const char *value, struct error *err)
{
    static const char *const bools[] = {"0", "1", NULL};
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    static const char *const formats[] = {"text", "json", NULL};
    void *slot = (char *)config + s->offset;
    int word;
    switch (s->kind) {
    case KIND_TEXT:
    case KIND_URL:
        if (value[0] == '\0') {
            error_set(err, "%s is set but empty; unset it or give a value (%s)", s->name, s->unit);
            return false;
        }
        set_text(config, s->offset, value);
        return true;
    case KIND_INT:
        return set_int(config, s, value, err);
    case KIND_BOOL:
        if ((word = word_index(value, bools)) >= 0)
            *(bool *)slot = word == 1;
        break;
    case KIND_LEVEL:
        if ((word = word_index(value, levels)) >= 0)
            *(enum log_level *)slot = (enum log_level)word;
        break;
    case KIND_FORMAT:
    default:
        if ((word = word_index(value, formats)) >= 0)
            *(enum log_format *)slot = (enum log_format)word;
        break;
    }
    if (word < 0)
        error_set(err, "%s: '%s' is not one of: %s", s->name, value, s->kind == KIND_BOOL ? "0, 1" : s->help);
    return word >= 0;
}

static bool set_defaults(struct config *config, enum config_user user, struct error *err)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (settings[i].fallback != NULL && !set_value(config, &settings[i], settings[i].fallback, err))
            return false;
    }
    set_text(config, AT(admin_listen), user == CONFIG_WORKER ? "127.0.0.1:9081" : "127.0.0.1:9080");
    config->log_format = isatty(STDERR_FILENO) ? LOG_TEXT : LOG_JSON;
    return true;
}

static bool ends_in_file(const char *name, size_t len)
{
    return len > 5 && memcmp(name + len - 5, "_FILE", 5) == 0;
}

static bool take_file_variable(struct config *config, const struct setting *s, const char *path, struct error *err)
{
    if (getenv(s->name) != NULL) {
        error_set(err, "%s and %s_FILE are both set; give one of them", s->name, s->name);
        return false;
    }
    char *text = secrets_read_file(s->name, path, err);
    if (text == NULL)
        return false;
    bool good = set_value(config, s, text, err);
    memory_wipe(text, strlen(text));
    free(text);
    return good;
}

static bool belongs_to_tools(const char *name, size_t len)
{
    if (strncmp(name, test_prefix, sizeof test_prefix - 1) == 0)
        return true;
    for (size_t i = 0; i < sizeof tool_variables / sizeof *tool_variables; i++) {
        if (strlen(tool_variables[i]) == len && memcmp(tool_variables[i], name, len) == 0)
            return true;
    }
    return false;
}

static bool take_variable(struct config *config, const char *name, size_t len, const char *value, struct error *err)
{
    if (secrets_is_variable(name, len))
        return true; /* see secrets_read */
    const struct setting *s = find_setting(name, len);
    if (s != NULL)
        return set_value(config, s, value, err);
    if (ends_in_file(name, len)) {
        s = find_setting(name, len - 5);
        if (s != NULL && s->kind == KIND_URL)
            return take_file_variable(config, s, value, err);
    }
    if (belongs_to_tools(name, len))
        return true;
    error_set(err, "%.*s is not a setting of Waybill: misspelt? --help lists them", (int)len, name);
    return false;
}

static bool read_environment(struct config *config, struct error *err)
{
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL || strncmp(*entry, "WAYBILL_", 8) != 0)
            continue;
        if (!take_variable(config, *entry, (size_t)(equals - *entry), equals + 1, err))
            return false;
    }
    return true;
}

/* "--redis-url" for WAYBILL_REDIS_URL. */
static void flag_name(const struct setting *s, char *out, size_t size)
{
    snprintf(out, size, "--%s", s->name + 8);
    for (char *p = out + 2; *p != '\0'; p++)
        *p = (char)(*p == '_' ? '-' : *p >= 'A' && *p <= 'Z' ? *p | 32 : *p);
}

static const struct setting *find_flag(const char *flag, size_t len, enum config_user user)
{
    char name[64];
    for (size_t i = 0; i < N_SETTINGS; i++) {
        flag_name(&settings[i], name, sizeof name);
        if ((settings[i].users & user) != 0 && strlen(name) == len && memcmp(name, flag, len) == 0)
            return &settings[i];
    }
    return NULL;
}

static bool has_password(const char *url)
{
    const char *host = strstr(url, "://");
    const char *at = host == NULL ? NULL : strchr(host + 3, '@');
    const char *colon = host == NULL ? NULL : strchr(host + 3, ':');
    return at != NULL && colon != NULL && colon < at;
}

static bool take_flag(struct config *config, const struct setting *s, const char *value, struct error *err)
{
    if (s->kind == KIND_URL && has_password(value)) {
        error_set(err, "a password on a command line can be read by everybody on the machine: give it in %s or %s_FILE",
                  s->name, s->name);
        return false;
    }
    return set_value(config, s, value, err);
}

/* Takes the flags out of argv. waybillctl has words and flags of its own, which are left where they are. */
static enum config_result read_flags(struct config *config, enum config_user user, int *argc, char **argv,
                                     struct error *err)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        const char *arg = argv[i], *equals = strchr(arg, '=');
        size_t len = equals == NULL ? strlen(arg) : (size_t)(equals - arg);
        const struct setting *s = find_flag(arg, len, user);
        if (s != NULL) {
            const char *value = equals != NULL ? equals + 1 : i + 1 < *argc ? argv[++i] : NULL;
            if (value == NULL) {
                error_set(err, "%s needs a value (%s)", arg, s->unit);
                return CONFIG_BAD;
            }
            if (!take_flag(config, s, value, err))
                return CONFIG_BAD;
        } else if (user == CONFIG_CTL) {
            argv[kept++] = argv[i];
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            printf("Usage: %s [--SETTING VALUE …] [--check-live | --check-ready]\n\n"
                   "--check-live and --check-ready ask the one that runs already, on its admin listener, and end with "
                   "0 or 1.\n\n",
                   user == CONFIG_INGEST ? "waybill-ingest" : "waybill-worker");
            config_print_help(stdout, user);
            return CONFIG_EXIT_OK;
        } else if (strcmp(arg, "--version") == 0) {
            printf("waybill %s\n", WAYBILL_VERSION);
            return CONFIG_EXIT_OK;
        } else {
            error_set(err, "unknown argument '%s': --help lists the settings", arg);
            return CONFIG_BAD;
        }
    }
    argv[kept] = NULL;
    *argc = kept;
    return CONFIG_OK;
}

static bool check_address(const char *name, const char *value, struct error *err)
{
    struct address address;
    if (address_parse(value, &address, err))
        return true;
    error_prefix(err, "%s", name);
    return false;
}

static bool check_relations(const struct config *config, enum config_user user, struct error *err)
{
    struct redis_url redis;
    if (!check_address("WAYBILL_LISTEN", config->listen, err) ||
        !check_address("WAYBILL_ADMIN_LISTEN", config->admin_listen, err) ||
        !check_address("WAYBILL_INGEST_ADMIN", config->ingest_admin, err) ||
        !check_address("WAYBILL_WORKER_ADMIN", config->worker_admin, err))
        return false;
    if (!redis_url_parse(config->redis_url, &redis, err)) {
        error_prefix(err, "WAYBILL_REDIS_URL");
        return false;
    }
    if ((user & CONFIG_WORKER) != 0 && config->lease_ms <= config->handler_limit_ms) {
        error_set(err,
                  "WAYBILL_LEASE_MS (%lld) must be longer than WAYBILL_HANDLER_LIMIT_MS (%lld), or events are taken "
                  "away from workers that still work on them",
                  (long long)config->lease_ms, (long long)config->handler_limit_ms);
        return false;
    }
    if (config->retry_cap_ms < config->retry_base_ms) {
        error_set(err, "WAYBILL_RETRY_CAP_MS (%lld) is shorter than WAYBILL_RETRY_BASE_MS (%lld)",
                  (long long)config->retry_cap_ms, (long long)config->retry_base_ms);
        return false;
    }
    if ((config->tls_cert_file == NULL) != (config->tls_key_file == NULL)) {
        error_set(err, "WAYBILL_TLS_CERT_FILE and WAYBILL_TLS_KEY_FILE go together: one of them is missing");
        return false;
    }
    return true;
}

enum config_result config_load(struct config *config, enum config_user user, int *argc, char **argv, struct error *err)
{
    *config = (struct config){0};
    if (!set_defaults(config, user, err) || !read_environment(config, err) ||
        !secrets_read(&config->secrets, &config->n_secrets, err))
        return CONFIG_BAD;
    enum config_result result = read_flags(config, user, argc, argv, err);
    if (result == CONFIG_OK && !check_relations(config, user, err))
        result = CONFIG_BAD;
    return result;
}

void config_free(struct config *config)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        if (settings[i].kind != KIND_TEXT && settings[i].kind != KIND_URL)
            continue;
        char **slot = (char **)((char *)config + settings[i].offset);
        if (*slot != NULL)
            memory_wipe(*slot, strlen(*slot));
        free(*slot);
    }
    secrets_free(config->secrets, config->n_secrets);
    *config = (struct config){0};
}

void config_print_help(FILE *out, enum config_user user)
{
    fprintf(out, "Settings are environment variables, each with a flag of the same name:\n\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if ((s->users & user) == 0)
            continue;
        char flag[64];
        flag_name(s, flag, sizeof flag);
        fprintf(out, "  %-28s %s\n      %s", s->name, flag, s->help);
        if (s->unit[0] != '\0')
            fprintf(out, " [%s]", s->unit);
        if (s->fallback != NULL)
            fprintf(out, " (default %s)", s->fallback);
        if (s->kind == KIND_URL)
            fprintf(out, "; %s_FILE reads it from a file", s->name);
        fputc('\n', out);
    }
    if ((user & (CONFIG_INGEST | CONFIG_CTL)) != 0)
        fprintf(out, "  WAYBILL_SECRET_<SOURCE>      no flag\n      secrets of a source, space-separated, all valid; "
                     "WAYBILL_SECRET_<SOURCE>_FILE reads them from a file\n");
}
