/* Policies made of script texts, and requests and events to put to them. */
#ifndef TESTS_POLICY_HARNESS_H
#define TESTS_POLICY_HARNESS_H

#include "policy/policy.h"

struct file {
    const char *name, *text;
};

/* A set of these files, NULL name at the end. Fails with NULL like script_set_read. */
struct script_set *harness_set(const struct file *files, struct error *err);
/* The scripts of the repository. */
struct script_set *harness_shipped(void);
const char *harness_shipped_folder(void);

/* 32 MiB, 5000 ms, no secrets, schedule 1000/2/300000/8. */
struct policy_options harness_options(enum policy_role role);

/* A policy of these files, or NULL with err. */
struct policy *harness_policy(const struct policy_options *options, const struct file *files, struct error *err);
/* An ingest policy (1000 ms) of this validate.lua with the source "demo", or a worker policy of this process.lua. Must
 * succeed.
 */
struct policy *harness_validate(const char *validate);
struct policy *harness_process(const char *process);
struct policy *harness_process_within(const char *process, int64_t time_ms);

struct header {
    const char *name, *value;
};

/* headers: NULL name at the end; may be NULL. */
void harness_ask(struct policy *policy, const char *source, struct slice body, const struct header *headers,
                 int64_t received_at_ms, struct arena *arena, struct validation *out);

/* An event of source "demo" with this body. */
struct event harness_event(const char *body);
void harness_run(struct policy *policy, const struct event *event, uint32_t failures, struct arena *arena,
                 struct outcome *out);

bool contains(struct slice text, const char *part);

#endif
