/* The life of a policy: build the state, load the scripts of its role, let them check themselves. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "policy/state.h"

#define LOAD_TIME_FACTOR 10
#define LOAD_TIME_MIN_MS 2000
#define LOAD_TIME_MAX_MS 5000 /* who asked for a reload waits for it, and perhaps a stop too */

/* Loads a main script: its function goes to the registry, its checks run. */
static void load_main(lua_State *L, enum script_role role, const char *name)
{
    lua_pushfstring(L, "%s.lua", name);
    const char *file = lua_tostring(L, -1);
    globals_require(L, name, true);
    if (!lua_isfunction(L, -2))
        luaL_error(L, "%s returned a %s; it must return a function", file, luaL_typename(L, -2));
    self_check_run(L, file);
    policy_of(L)->script_refs[role] = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}

static void load_ingest(lua_State *L)
{
    validate_open(L);
    globals_require(L, "sources", false);
    sources_read(L);
    load_main(L, SCRIPT_VALIDATE, "validate");
    self_check_run_tests(L, "validate");
}

static void load_worker(lua_State *L)
{
    process_open(L);
    ctx_open(L);
    retry_open(L);
    load_main(L, SCRIPT_PROCESS, "process");
    load_main(L, SCRIPT_RETRY, "retry_policy");
    self_check_run_tests(L, "process");
    self_check_run_tests(L, "retry");
}

static int load_body(lua_State *L)
{
    globals_open(L);
    if (policy_of(L)->options.role == POLICY_INGEST)
        load_ingest(L);
    else
        load_worker(L);
    return 0;
}

static int64_t load_time_ms(const struct policy_options *options)
{
    int64_t ms = options->time_ms * LOAD_TIME_FACTOR;
    return ms < LOAD_TIME_MIN_MS ? LOAD_TIME_MIN_MS : ms > LOAD_TIME_MAX_MS ? LOAD_TIME_MAX_MS : ms;
}

bool policy_build(struct policy *policy, struct error *err)
{
    if (!sandbox_open(policy, err))
        return false;
    policy->loading = true;
    enum run_result result = sandbox_run(policy, load_body, NULL, load_time_ms(&policy->options));
    policy->loading = false;
    if (result == RUN_OK) {
        lua_gc(policy->L, LUA_GCCOLLECT);
        policy->built = true;
        policy->built_bytes = policy->sandbox.used_bytes;
        return true;
    }
    error_set(err, "%.*s", SLICE_ARG(buf_slice(&policy->error_text)));
    sandbox_close(policy);
    return false;
}

/* Our own copy: a state that is built again needs them again. */
static void copy_secrets(struct policy *policy, const struct policy_options *options)
{
    struct config_secret *copies = memory_alloc(options->n_secrets * sizeof *copies);
    for (size_t i = 0; i < options->n_secrets; i++) {
        copies[i].source = memory_strdup(options->secrets[i].source);
        copies[i].values = memory_strdup(options->secrets[i].values);
    }
    policy->options.secrets = copies;
}

static void free_secrets(struct policy *policy)
{
    for (size_t i = 0; i < policy->options.n_secrets; i++) {
        const struct config_secret *secret = &policy->options.secrets[i];
        memory_wipe(secret->values, strlen(secret->values));
        free(secret->values);
        free(secret->source);
    }
    free((void *)(uintptr_t)policy->options.secrets);
}

static void make_counters(struct policy *policy)
{
    static const char *const scripts[SCRIPT_ROLES] = {
        [SCRIPT_VALIDATE] = "validate", [SCRIPT_PROCESS] = "process", [SCRIPT_RETRY] = "retry_policy"};
    static const char *const kinds[FAULT_KINDS] = {[FAULT_ERROR] = "error",
                                                   [FAULT_TIME_LIMIT] = "time_limit",
                                                   [FAULT_MEMORY_LIMIT] = "memory_limit",
                                                   [FAULT_BAD_RETURN] = "bad_return"};
    bool ingest = policy->options.role == POLICY_INGEST;
    for (int role = 0; role < SCRIPT_ROLES; role++) {
        for (int kind = 0; kind < FAULT_KINDS && ingest == (role == SCRIPT_VALIDATE); kind++) {
            char labels[64];
            snprintf(labels, sizeof labels, "script=\"%s\",kind=\"%s\"", scripts[role], kinds[kind]);
            policy->faults[role][kind] = metrics_counter(policy->options.metrics, "waybill_script_errors_total", labels,
                                                         "Calls into scripts that failed by the script's fault");
        }
    }
}

struct policy *policy_new(struct script_set *set, const struct policy_options *options, struct error *err)
{
    struct policy *policy = memory_alloc(sizeof *policy);
    policy->set = script_set_share(set);
    policy->options = *options;
    copy_secrets(policy, options);
    if (options->metrics != NULL)
        make_counters(policy);
    if (policy_build(policy, err))
        return policy;
    policy_free(policy);
    return NULL;
}

void policy_free(struct policy *policy)
{
    if (policy == NULL)
        return;
    sandbox_close(policy);
    script_set_release(policy->set);
    free_secrets(policy);
    sources_free(policy);
    buf_free(&policy->scratch);
    buf_free(&policy->error_text);
    buf_free(&policy->traceback);
    free(policy);
}

const struct script_set *policy_scripts(const struct policy *policy)
{
    return policy->set;
}
