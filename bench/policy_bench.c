/* How long one call into the scripts takes: policy_bench SCRIPTS [CALLS]
 *
 * validate: a Standard Webhooks event of about 620 bytes, right signature, through the shipped validate.lua (HMAC,
 * strict JSON check, decoding, fields). process: the same event through process.lua. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/memory.h"
#include "policy/policy.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define NOW_MS INT64_C(1769860800000)

static const char body[] =
    "{\"event_id\":\"evt_01HZX3V8Q2N7K4M5P6R7S8T9VA\",\"type\":\"parcel.out_for_delivery\","
    "\"occurred_at\":\"2026-01-31T11:59:58.250Z\",\"api_version\":\"2026-01-01\",\"livemode\":false,"
    "\"data\":{\"tracking_number\":\"00340434161094042557\",\"carrier\":\"DHL Paket\",\"service\":\"standard\","
    "\"weight_g\":1840,\"pieces\":1,\"location\":\"K\xc3\xb6ln-Ossendorf\",\"country\":\"DE\","
    "\"recipient\":{\"name\":\"J. M\xc3\xbcller\",\"postcode\":\"50829\",\"city\":\"K\xc3\xb6ln\"},"
    "\"estimated_delivery\":{\"from\":\"2026-01-31T13:00:00+01:00\",\"to\":\"2026-01-31T16:00:00+01:00\"},"
    "\"note\":\"The parcel has left the depot and is on its way to the recipient.\"},"
    "\"meta\":{\"trace\":\"a1b2c3d4e5f6\",\"retry\":0}}";

struct headers {
    char timestamp[24], signature[64];
};

static bool find_header(void *arg, struct slice name, size_t index, struct slice *value)
{
    struct headers *headers = arg;
    if (index > 0)
        return false;
    if (slice_is(name, "webhook-id"))
        *value = SLICE_LITERAL("msg_2b1Xo8QzWm4TnYpRkUvJcHdGfAe");
    else if (slice_is(name, "webhook-timestamp"))
        *value = slice_of(headers->timestamp);
    else if (slice_is(name, "webhook-signature"))
        *value = slice_of(headers->signature);
    else
        return false;
    return true;
}

static void sign(struct headers *headers)
{
    struct buf key = {0}, text = {0};
    snprintf(headers->timestamp, sizeof headers->timestamp, "%lld", (long long)(NOW_MS / 1000));
    if (!crypto_base64_decode(slice_of(SECRET + strlen("whsec_")), true, &key))
        abort();
    struct slice parts[] = {SLICE_LITERAL("msg_2b1Xo8QzWm4TnYpRkUvJcHdGfAe."), slice_of(headers->timestamp),
                            SLICE_LITERAL("."), slice_of(body)};
    unsigned char mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(buf_slice(&key), parts, 4, mac);
    crypto_base64_encode((struct slice){(char *)mac, sizeof mac}, &text);
    snprintf(headers->signature, sizeof headers->signature, "v1,%s", text.data);
    buf_free(&key);
    buf_free(&text);
}

static struct policy *open_policy(const char *scripts, enum policy_role role)
{
    char source[] = "demo", values[] = SECRET;
    struct config_secret secret = {source, values};
    struct policy_options options = {.role = role,
                                     .memory_bytes = 64 * 1024 * 1024,
                                     .time_ms = 1000,
                                     .schedule = {1000, 2, 300000, 8},
                                     .secrets = &secret,
                                     .n_secrets = 1};
    struct error err;
    struct script_set *set = script_set_read(scripts, 1, &err);
    struct policy *policy = set == NULL ? NULL : policy_new(set, &options, &err);
    script_set_release(set);
    if (policy == NULL) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return policy;
}

/* CPU time: what others do on the machine counts less. */
static double cpu_us(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

static void report(const char *name, double from_us, long calls)
{
    printf("%-8s %6.2f us of CPU a call (%ld calls, body of %zu bytes)\n", name, (cpu_us() - from_us) / (double)calls,
           calls, strlen(body));
}

static void bench_validate(const char *scripts, long calls)
{
    struct policy *policy = open_policy(scripts, POLICY_INGEST);
    struct headers headers;
    sign(&headers);
    struct policy_request request = {.source = SLICE_LITERAL("demo"),
                                     .body = slice_of(body),
                                     .content_type = SLICE_LITERAL("application/json"),
                                     .received_at = {NOW_MS},
                                     .headers = &headers,
                                     .header = find_header};
    struct arena *arena = arena_new();
    double from_us = cpu_us();
    for (long i = 0; i < calls; i++) {
        struct validation out;
        policy_validate(policy, &request, arena, &out);
        if (out.kind != VALIDATION_ACCEPT) {
            fprintf(stderr, "not accepted: %.*s %.*s\n", SLICE_ARG(out.reason), SLICE_ARG(out.detail));
            exit(1);
        }
        arena_reset(arena);
    }
    report("validate", from_us, calls);
    arena_free(arena);
    policy_free(policy);
}

static void bench_process(const char *scripts, long calls)
{
    struct policy *policy = open_policy(scripts, POLICY_WORKER);
    struct event event = {.source = SLICE_LITERAL("demo"),
                          .event_id = SLICE_LITERAL("evt_01HZX3V8Q2N7K4M5P6R7S8T9VA"),
                          .type = SLICE_LITERAL("parcel.out_for_delivery"),
                          .occurred_at = SLICE_LITERAL("2026-01-31T11:59:58.250Z"),
                          .received_at = {NOW_MS},
                          .body = slice_of(body),
                          .attempt = 1};
    struct policy_attempt attempt = {.attempt = 1, .worker = "bench"};
    struct arena *arena = arena_new();
    double from_us = cpu_us();
    for (long i = 0; i < calls; i++) {
        struct outcome out;
        policy_process(policy, &event, &attempt, arena, &out);
        if (out.kind != OUTCOME_SUCCESS) {
            fprintf(stderr, "no success: %.*s\n", SLICE_ARG(out.message));
            exit(1);
        }
        arena_reset(arena);
    }
    report("process", from_us, calls);
    arena_free(arena);
    policy_free(policy);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s SCRIPTS [CALLS]\n", argv[0]);
        return 2;
    }
    long calls = argc > 2 ? atol(argv[2]) : 200000;
    log_open("policy_bench", LOG_ERROR, LOG_TEXT);
    bench_validate(argv[1], calls < 1 ? 1 : calls);
    bench_process(argv[1], calls < 1 ? 1 : calls);
    return 0;
}
