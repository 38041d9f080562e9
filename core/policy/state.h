/* The inside of a policy: shared by the files of this part, seen by nobody else.
 *
 * "Raises" in a comment means: may leave by a Lua error, so it is called below sandbox_run only, and the caller holds
 * nothing that would leak. Memory that must outlive an error belongs to the struct policy (scratch) or to the caller's
 * arena. */
#ifndef POLICY_STATE_H
#define POLICY_STATE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/clock.h"
#include "policy/policy.h"
#include "policy/script_set.h"

enum run_result { RUN_OK, RUN_ERROR, RUN_TIME_LIMIT, RUN_MEMORY_LIMIT };

/* The scripts whose faults are counted apart. */
enum script_role { SCRIPT_VALIDATE, SCRIPT_PROCESS, SCRIPT_RETRY, SCRIPT_ROLES };
enum fault_kind { FAULT_ERROR, FAULT_TIME_LIMIT, FAULT_MEMORY_LIMIT, FAULT_BAD_RETURN, FAULT_KINDS };

struct sandbox {
    size_t used_bytes, limit_bytes;
    mono_time deadline;
    int64_t time_ms;             /* the limit that the deadline came from, for messages */
    int64_t cpu_from_us;         /* of the thread, when the clock was first looked at; -1: not yet */
    bool time_over, memory_over; /* sticky until the next run */
    bool given_up;               /* with time_over: not for its time, but as the process is to end */
    char refused_at[160];        /* the line that was running when memory was last refused: "process.lua:12: " */
};

struct source {
    char name[EVENT_SOURCE_MAX_BYTES + 1];
    struct policy_source_limits limits;
    struct buf secrets; /* each with a NUL behind it */
};

struct process_call;

struct policy {
    lua_State *L; /* NULL when it could not be built again */
    struct script_set *set;
    struct policy_options options; /* its secrets are our own copy */
    struct sandbox sandbox;
    struct buf scratch;    /* bytes under construction: decoded keys, encoded values */
    struct buf error_text; /* of the last run that failed: one line, with file:line */
    struct buf traceback;  /* the rest of it */
    struct log_gate fault_gate;
    int log_lines;        /* in this call */
    size_t pattern_steps; /* work of the pattern matcher since it looked at the clock */
    bool loading;         /* top levels and self-checks are running */
    bool built;           /* once before: its sources stay as they are */
    size_t built_bytes;   /* in use after loading */
    bool bad_answer;      /* the last run failed because of what the script returned */

    int script_refs[SCRIPT_ROLES]; /* functions in the registry */
    int retry_ctx_ref, sources_ref;
    uint64_t call;                /* number of the run that is going on */
    void *record;                 /* what its objects show */
    struct process_call *process; /* the same, in a call of process.lua; else NULL */
    struct source *sources;       /* those that are switched on, sorted by name */
    size_t n_sources;
    struct metric *faults[SCRIPT_ROLES][FAULT_KINDS]; /* NULL without metrics */
};

static inline struct policy *policy_of(lua_State *L)
{
    return *(struct policy **)lua_getextraspace(L);
}

/* sandbox.c: the state and its limits */
bool sandbox_open(struct policy *policy, struct error *err);
void sandbox_close(struct policy *policy);
/* Calls body(record as light userdata) protected and under limits; objects show the record. Otherwise than RUN_OK,
 * error_text and traceback are set. */
enum run_result sandbox_run(struct policy *policy, lua_CFunction body, void *record, int64_t time_ms);
/* Pushes the message handler that adds a traceback; returns its index. Raises. */
int sandbox_push_handler(lua_State *L);
/* Calls the function below its n_args with one result. An error value that is a verdict (error(fail.transient(…)))
 * counts as the result. Raises. */
void sandbox_call_script(lua_State *L, int n_args);
int64_t sandbox_remaining_ms(const struct policy *policy);
/* Puts the deadline off by as much as now is later than a wait was to end. */
void sandbox_excuse_delay(struct policy *policy, mono_time due);
/* Raises when the script is over its time: in C code that works for long. */
void sandbox_check_work(lua_State *L);
/* Raises when the deadline is past: before and after anything that blocks. */
void sandbox_check_deadline(lua_State *L);

/* globals.c: what scripts see. All raise. */
void globals_open(lua_State *L);
/* Makes a global of the table on top, read-only, and pops it. */
void globals_add_library(lua_State *L, const char *name);
/* Puts a read-only view in the place of the table on top. */
void globals_push_view(lua_State *L, const char *name);
/* Makes a global of a function or constant on top, and pops it. */
void globals_add(lua_State *L, const char *name);
/* Runs a script of the set once and leaves its first value (as require does); the second, if any, above it when wanted.
 */
void globals_require(lua_State *L, const char *name, bool second_value);

/* object.c: userdata with fields and methods */
struct object_field {
    const char *name;
    void (*push)(lua_State *L, const void *record); /* pushes one value; raises; the object is at index 1 */
};
/* Makes the type. Raises. */
void object_define(lua_State *L, const char *type, const luaL_Reg *methods, const struct object_field *fields);
/* Pushes an object for the run that is going on. Raises. */
void object_push(lua_State *L, const char *type);
/* The record behind the object at index 1. Raises when it is none, or used after its call. */
void *object_target(lua_State *L, const char *type);
/* Pushes body as a string, made once a call. Raises. */
void object_push_body(lua_State *L, struct slice body);
/* Pushes the decoded body, decoded once a call; false (nothing pushed) with the position when it is not JSON. Raises.
 */
bool object_push_json(lua_State *L, struct slice body, struct error *err);

/* bind_*.c: each makes its globals. All raise. */
void bind_crypto(lua_State *L);
void bind_json(lua_State *L);
void bind_log(lua_State *L);
void bind_metrics(lua_State *L);
void bind_mongo(lua_State *L);
void bind_time(lua_State *L);
void bind_verdicts(lua_State *L);
void bind_http(lua_State *L);

/* bind_json.c */
/* Pushes the value of the JSON text at the top, in its place; false leaves the text and tells why. Raises. */
bool json_decode(lua_State *L, struct error *err);

/* to_json.c */
#define TO_JSON_MAX_BYTES (4 * 1024 * 1024)
enum to_json_mode { TO_JSON_PLAIN, TO_JSON_UPDATE /* a MongoDB update document in Extended JSON */ };
/* Adds the value at index as JSON to out, which must survive an error (scratch). Raises with what is wrong and where.
 */
void to_json(lua_State *L, int index, enum to_json_mode mode, struct buf *out);
/* Lets the table on top be an array even when it is empty. Raises. */
void to_json_mark_array(lua_State *L);
/* Lets the table on top be a typed value ({"$date": …}). Raises. */
void to_json_mark_typed(lua_State *L);

/* bind_verdicts.c: what accept, reject, fail, snooze, retry, dead and default return: tables with one of these tags */
enum verdict_tag { VERDICT_NONE, VERDICT_ACCEPT, VERDICT_REJECT, VERDICT_OUTCOME, VERDICT_RETRY };
enum verdict_tag verdict_tag_of(lua_State *L, int index); /* never raises */
/* Ends the call from within a method: as if the script had returned reject{…} or fail/snooze. They raise, always. */
_Noreturn void verdict_raise_reject(lua_State *L, const char *code, const char *field, const char *detail);
_Noreturn void verdict_raise_outcome(lua_State *L, enum outcome_kind kind, const char *error_kind, const char *message,
                                     int64_t retry_after_ms);
#define DELAY_MAX_MS (INT64_C(30) * 24 * 3600 * 1000)

/* sources.c: reads sources.lua's table on top of the stack into policy->sources and sources_ref; pops it. Raises. */
void sources_read(lua_State *L);
void sources_bind(lua_State *L); /* the global secrets(name) */
void sources_free(struct policy *policy);

/* self_check.c: runs the cases on top of the stack (nil, or a list of {name=, run=}) and pops them. Raises. */
void self_check_run(lua_State *L, const char *script);
/* Runs scripts/tests/<prefix>*.lua of the set. Raises. */
void self_check_run_tests(lua_State *L, const char *prefix);

/* ctx.c: what process.lua asks for */
struct process_call {
    struct policy *policy;
    const struct event *event;
    const struct policy_attempt *attempt;
    struct slice key;
    struct arena *arena;
    struct outcome *out;
    size_t writes_size, publishes_size; /* room in out's arrays */
};
#define CTX_TYPE "ctx"
void ctx_open(lua_State *L);      /* the ctx type; pushed with object_push(L, "ctx"). Raises. */
void process_open(lua_State *L);  /* the event type. Raises. */
void validate_open(lua_State *L); /* the request type. Raises. */
void retry_open(lua_State *L);    /* retry_policy.lua's ctx. Raises. */
/* Pushes the document as a table, or nil. Ends the call with a snooze when the store cannot be asked. Raises. */
void ctx_push_found(lua_State *L, struct slice collection, struct slice id);

/* call.c: what the three calls share */
/* Counts and logs a fault of a script. */
void call_report_fault(struct policy *policy, enum script_role role, enum fault_kind kind, struct slice message);
enum fault_kind call_fault_of(const struct policy *policy, enum run_result result);
/* Raises: the script answered with something that it must not. */
_Noreturn void call_refuse_answer(lua_State *L, const char *format, ...);
/* Gets a state that a script filled to its limit back into shape. Call before each run; false: there is no state. */
bool call_prepare(struct policy *policy);
/* The string in field name of the table at index; false when it is there and no string. Empty when absent. Never
 * raises. */
bool call_get_string(lua_State *L, int index, const char *name, struct arena *arena, struct slice *out);
struct slice call_error(const struct policy *policy, struct arena *arena);

/* policy.c */
bool policy_build(struct policy *policy, struct error *err);

#endif
