#include "harness.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void write_file(const char *folder, const struct file *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file->name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *out = fopen(path, "wb");
    if (out == NULL || fputs(file->text, out) < 0 || fclose(out) != 0)
        abort();
}

struct script_set *harness_set(const struct file *files, struct error *err)
{
    char folder[] = "/tmp/policy-test-XXXXXX";
    if (mkdtemp(folder) == NULL)
        abort();
    for (; files->name != NULL; files++)
        write_file(folder, files);
    struct script_set *set = script_set_read(folder, 1, err);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return set;
}

const char *harness_shipped_folder(void)
{
    return SHIPPED_SCRIPTS;
}

struct script_set *harness_shipped(void)
{
    struct error err;
    struct script_set *set = script_set_read(SHIPPED_SCRIPTS, 1, &err);
    if (set == NULL) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return set;
}

struct policy_options harness_options(enum policy_role role)
{
    return (struct policy_options){.role = role,
                                   .memory_bytes = 32 * 1024 * 1024,
                                   .time_ms = 5000,
                                   .schedule = {.base_ms = 1000, .factor = 2, .cap_ms = 300000, .attempts = 8}};
}

struct policy *harness_policy(const struct policy_options *options, const struct file *files, struct error *err)
{
    struct script_set *set = harness_set(files, err);
    if (set == NULL)
        return NULL;
    struct policy *policy = policy_new(set, options, err);
    script_set_release(set); /* the policy has its own share */
    return policy;
}

static struct policy *must(const struct policy_options *options, const struct file *files)
{
    struct error err;
    struct policy *policy = harness_policy(options, files, &err);
    if (policy == NULL) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return policy;
}

struct policy *harness_validate(const char *validate)
{
    struct policy_options options = harness_options(POLICY_INGEST);
    options.time_ms = 1000;
    return must(&options, (struct file[]){{"sources.lua", "return { demo = { scheme = function() return true end } }"},
                                          {"validate.lua", validate},
                                          {0}});
}

struct policy *harness_process(const char *process)
{
    return harness_process_within(process, harness_options(POLICY_WORKER).time_ms);
}

struct policy *harness_process_within(const char *process, int64_t time_ms)
{
    struct policy_options options = harness_options(POLICY_WORKER);
    options.time_ms = time_ms;
    return must(
        &options,
        (struct file[]){{"process.lua", process}, {"retry_policy.lua", "return function() return default() end"}, {0}});
}

static bool find_header(void *headers, struct slice name, size_t index, struct slice *value)
{
    const struct header *header = headers;
    for (; header != NULL && header->name != NULL; header++) {
        if (slice_is(name, header->name) && index-- == 0) {
            *value = slice_of(header->value);
            return true;
        }
    }
    return false;
}

void harness_ask(struct policy *policy, const char *source, struct slice body, const struct header *headers,
                 int64_t received_at_ms, struct arena *arena, struct validation *out)
{
    struct policy_request request = {.source = slice_of(source),
                                     .body = body,
                                     .content_type = SLICE_LITERAL("application/json"),
                                     .received_at = {received_at_ms},
                                     .headers = (void *)(uintptr_t)headers,
                                     .header = find_header};
    policy_validate(policy, &request, arena, out);
}

struct event harness_event(const char *body)
{
    return (struct event){.source = SLICE_LITERAL("demo"),
                          .event_id = SLICE_LITERAL("evt_1"),
                          .type = SLICE_LITERAL("parcel.in_transit"),
                          .occurred_at = SLICE_LITERAL("2026-01-31T12:00:00Z"),
                          .received_at = {1769860800500},
                          .ingest_id = SLICE_LITERAL("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
                          .content_type = SLICE_LITERAL("application/json"),
                          .body = slice_of(body),
                          .attempt = 1};
}

void harness_run(struct policy *policy, const struct event *event, uint32_t failures, struct arena *arena,
                 struct outcome *out)
{
    struct policy_attempt attempt = {.attempt = failures + 1, .failures = failures, .worker = "test"};
    policy_process(policy, event, &attempt, arena, out);
}

bool contains(struct slice text, const char *part)
{
    return part[0] == '\0' || memmem(text.base, text.len, part, strlen(part)) != NULL;
}
