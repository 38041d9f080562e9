/* Policy: the Lua scripts, sandboxed. The only part that knows Lua.
 * Uses: base, event; Lua 5.4 and lua-cjson, privately. Knows neither the queue nor the store: what scripts may ask of
 * them comes in as a table of functions (struct policy_host).
 *
 * A script set is the bytes of one generation of scripts: immutable, reference counted, shared by threads. A policy is
 * one lua_State built from a set: one thread at a time. Nothing here ever raises a Lua error to the caller. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/config.h"
#include "base/error.h"
#include "base/metrics.h"
#include "event/event.h"
#include "event/retry.h"
#include "event/verdict.h"

struct script_set;

/* Reads every .lua file below dir (bounded: 1 MiB a file, 1,000 files). generation is the caller's running number. */
struct script_set *script_set_read(const char *dir, uint32_t generation, struct error *err);
struct script_set *script_set_share(struct script_set *set); /* one more owner; thread-safe */
void script_set_release(struct script_set *set);
uint32_t script_set_generation(const struct script_set *set);
const char *script_set_hash(const struct script_set *set); /* 12 hex digits over all names and bytes */

enum policy_role {
    POLICY_INGEST, /* sources.lua, validate.lua */
    POLICY_WORKER, /* process.lua, retry_policy.lua */
};

/* One HTTP exchange that a script asks for. The binding has checked all of it. */
struct policy_http_request {
    const char *method, *url;   /* http:// or https:// */
    const char *const *headers; /* "Name: value" each */
    size_t n_headers;
    struct slice body;
    int64_t timeout_ms; /* for the whole exchange; never more than what is left of the call */
};

struct policy_http_response {
    int status;
    struct slice headers; /* lines as they came, "Name: value" */
    struct slice body;
};

/* What scripts may ask of the world outside Lua (worker only; a function may be NULL, then the binding raises an
 * error). Called on the thread that runs the policy. */
struct policy_http {
    void *arg;
    /* Slices of the response in arena. false: no answer, err says why. policy/http_client.h has one over libcurl. */
    bool (*perform)(void *arg, const struct policy_http_request *request, struct arena *arena,
                    struct policy_http_response *response, struct error *err);
};

struct policy_host {
    void *arg;
    /* One document as Extended JSON in arena; *json empty when there is none. false: could not ask (transient), err
     * says why. */
    bool (*find)(void *arg, struct slice collection, struct slice id, struct arena *arena, struct slice *json,
                 struct error *err);
};

/* Whether the process is to end: loading is given up then, and fails. For reloads; what once was built goes on. */
struct policy_stop {
    const void *arg;
    bool (*is_wanted)(const void *arg); /* NULL: never. Often asked, on the thread that loads */
};

struct policy_options {
    enum policy_role role;
    int64_t memory_bytes; /* of the state, all in all */
    int64_t time_ms; /* wall time of one call of validate or process; loading and self-checks get 10 times this, but
                        2 s to 5 s */
    bool simulate;   /* waybill.simulate for scripts */
    bool quiet;      /* another policy of the same load has warned of what sources.lua lacks */
    struct retry_schedule schedule;      /* the built-in one; scripts see it and may deviate */
    const struct config_secret *secrets; /* ingest: kept as a pointer during policy_new only */
    size_t n_secrets;
    struct policy_host host;
    struct policy_http http;
    struct policy_stop stop;
    struct metrics *metrics; /* for waybill_script_errors_total{script=…,kind=…} and scripts' own counters */
};

struct policy;

/* Builds the state, runs the scripts' top levels and self-checks under limits. NULL: err has file:line. */
struct policy *policy_new(struct script_set *set, const struct policy_options *options, struct error *err);
void policy_free(struct policy *policy);
const struct script_set *policy_scripts(const struct policy *policy);

/* What validate.lua is asked about. header finds a request header by lower-case name (all values when it is repeated,
 * by index); false when there is none at this index. */
struct policy_request {
    struct slice source; /* from the path; not yet known to exist */
    struct slice body;
    struct slice content_type;
    wall_time received_at;
    void *headers;
    bool (*header)(void *headers, struct slice name, size_t index, struct slice *value);
};

/* Per-source limits that C enforces. */
struct policy_source_limits {
    double per_second, burst; /* 0: no limit */
};
/* Sources of the set, for limits and metrics: fills name (NUL-terminated view, lives as long as policy) and limits;
 * false past the end. */
bool policy_source(const struct policy *policy, size_t index, const char **name, struct policy_source_limits *limits);
/* Whether one of the source's secrets stands in text, which must then be kept nowhere. */
bool policy_has_secret(const struct policy *policy, struct slice source, struct slice text);

/* Calls validate.lua. Slices of out are in arena. Always fills out. */
void policy_validate(struct policy *policy, const struct policy_request *request, struct arena *arena,
                     struct validation *out);

struct policy_attempt {
    uint32_t attempt, failures;
    const char *worker;
};
/* Calls process.lua. Slices of out are in arena. Always fills out. */
void policy_process(struct policy *policy, const struct event *event, const struct policy_attempt *attempt,
                    struct arena *arena, struct outcome *out);

/* Calls retry_policy.lua about a failed attempt; `failures` includes this one. When the script throws or returns
 * nonsense: the built-in schedule, counted. Delays are clamped to [0, 30 days]. */
struct retry_decision policy_retry(struct policy *policy, const struct event *event,
                                   const struct policy_attempt *attempt, const struct outcome *outcome,
                                   struct arena *arena);

#endif
