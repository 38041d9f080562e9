/* The scripts of the repository, as ingest and worker run them. */
#include "../check.h"

#include <glob.h>
#include <stdio.h>

#include "base/crypto.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "harness.h"

#define BODY                                                                                                           \
    "{\"event_id\":\"evt_1\",\"type\":\"parcel.in_transit\",\"occurred_at\":\"2026-01-31T12:00:00Z\","                 \
    "\"data\":{\"tracking_number\":\"TN1\",\"location\":{\"city\":\"K\xc3\xb6ln\",\"lat\":50.9}}}"

struct fixture {
    struct policy *ingest, *worker;
    struct arena *arena;
};

static int set_up(void **state)
{
    struct fixture *f = memory_alloc(sizeof *f);
    struct script_set *set = harness_shipped();
    struct error err = {{0}};
    struct policy_options ingest = harness_options(POLICY_INGEST), worker = harness_options(POLICY_WORKER);
    char source[] = "demo", values[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    struct config_secret secret = {source, values};
    ingest.secrets = &secret;
    ingest.n_secrets = 1;
    worker.simulate = true;
    worker.time_ms = 1000;
    worker.memory_bytes = 8 * 1024 * 1024;
    f->ingest = policy_new(set, &ingest, &err);
    f->worker = policy_new(set, &worker, &err);
    if (f->ingest == NULL || f->worker == NULL)
        fprintf(stderr, "%s\n", err.text);
    script_set_release(set);
    f->arena = arena_new();
    *state = f;
    return f->ingest == NULL || f->worker == NULL;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    policy_free(f->ingest);
    policy_free(f->worker);
    arena_free(f->arena);
    free(f);
    return 0;
}

/* Signatures */

struct signed_case {
    const char *source;
    const char *body;
    int64_t now_s;
    struct header headers[6];
    const char *reason; /* part of it; NULL: accepted by the signature, and then judged by its body */
    bool stale;
};

#define VECTOR_1_BODY "{\"test\": 2432232314}"
#define VECTOR_1      "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define VECTOR_2_BODY "{\"email\":\"test@example.com\",\"username\":\"test_user\"}"
#define VECTOR_2      "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
#define ID_1                                                                                                           \
    {                                                                                                                  \
        "webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"                                                                   \
    }
#define ID_2                                                                                                           \
    {                                                                                                                  \
        "webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"                                                                \
    }
#define TS_1                                                                                                           \
    {                                                                                                                  \
        "webhook-timestamp", "1614265330"                                                                              \
    }
#define TS_2                                                                                                           \
    {                                                                                                                  \
        "webhook-timestamp", "1649367553"                                                                              \
    }
#define SIG(text)                                                                                                      \
    {                                                                                                                  \
        "webhook-signature", text                                                                                      \
    }
#define CASE_1(now, reason, stale, ...)                                                                                \
    {                                                                                                                  \
        "vectors", VECTOR_1_BODY, now, {__VA_ARGS__}, reason, stale                                                    \
    }
#define GITHUB_HEX "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
#define SENDCLOUD  "1eed4b3d41f4653ac64fd56f1bf1cbfd349e4482cbc11dff7134bd93e5da4b0a"
#define WRONG      "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define TS1_S      1614265330

/* A validate.lua around the shipped signature library: accepts what is signed right, whatever the body. */
#define SIGNATURE_ONLY                                                                                                 \
    "local verifiers = require('lib.signature').verifiers(require('sources'))\n"                                       \
    "return function(request, source)\n"                                                                               \
    "  if not source then return reject{ status = 401, code = 'unauthorized', reason = 'no such source' } end\n"       \
    "  local ok, reason, stale = verifiers[source](request, source)\n"                                                 \
    "  if ok then return accept{ event_id = tostring(reason), type = 't', occurred_at = 'x' } end\n"                   \
    "  return reject{ status = 401, code = stale and 'stale' or 'unauthorized', reason = reason }\n"                   \
    "end"

#define SOURCES                                                                                                        \
    "return {\n"                                                                                                       \
    "  vectors = { scheme = 'standard-webhooks', secrets = { 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',\n"              \
    "    'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' } },\n"                                                              \
    "  bare = { scheme = 'standard-webhooks', secrets = { 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' } },\n"                   \
    "  short = { scheme = 'standard-webhooks', secrets = { 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' },\n"              \
    "    tolerance_s = 10 },\n"                                                                                        \
    "  github = { scheme = 'github', secrets = { 'old', \"It's a Secret to Everybody\" } },\n"                         \
    "  stripe = { scheme = 'stripe', secrets = { 'whsec_test_secret' } },\n"                                           \
    "  shopify = { scheme = 'shopify', secrets = { 'hush' } },\n"                                                      \
    "  sendcloud = { scheme = 'plain-hmac', header = 'Sendcloud-Signature', encoding = 'hex',\n"                       \
    "    secrets = { 'secretkey' } },\n"                                                                               \
    "  easypost = { scheme = 'plain-hmac', header = 'x-hmac-signature', prefix = 'hmac-sha256-hex=',\n"                \
    "    encoding = 'hex', secrets = { 'secretkey' } },\n"                                                             \
    "  public = { scheme = 'standard-webhooks', secrets = { 'whpk_@PUBLIC@' } },\n"                                    \
    "  own = { scheme = function(request, source)\n"                                                                   \
    "      if request:header('x-token') == source.token then return true, 1 end\n"                                     \
    "      return false, 'wrong token' end, token = 'letmein' } }"

/* RFC 8032, section 7.1, test 1: the seed and its public key. */
static const unsigned char seed[32] = {0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
                                       0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
                                       0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
static const char public_hex[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

static const char *public_base64(struct arena *arena)
{
    struct buf key = {0}, text = {0};
    assert_true(crypto_hex_decode(slice_of(public_hex), &key));
    crypto_base64_encode(buf_slice(&key), &text);
    const char *copy = arena_copy(arena, text.data, text.len).base;
    buf_free(&key);
    buf_free(&text);
    return copy;
}

static char *read_shipped(const char *name)
{
    static char text[65536];
    char path[512];
    snprintf(path, sizeof path, "%s/%s", harness_shipped_folder(), name);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t n = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    text[n] = '\0';
    return text;
}

static struct policy *signature_policy(struct arena *arena)
{
    const char *mark = strstr(SOURCES, "@PUBLIC@");
    struct slice sources = arena_printf(arena, "%.*s%s%s", (int)(mark - SOURCES), SOURCES, public_base64(arena),
                                        mark + strlen("@PUBLIC@"));
    struct policy_options options = harness_options(POLICY_INGEST);
    struct error err;
    struct policy *policy = harness_policy(&options,
                                           (struct file[]){{"sources.lua", sources.base},
                                                           {"validate.lua", SIGNATURE_ONLY},
                                                           {"lib/signature.lua", read_shipped("lib/signature.lua")},
                                                           {0}},
                                           &err);
    if (policy == NULL)
        fail_msg("%s", err.text);
    return policy;
}

static void check_signed(const struct signed_case *cases, size_t n)
{
    struct arena *arena = arena_new();
    struct policy *policy = signature_policy(arena);
    for (size_t i = 0; i < n; i++) {
        const struct signed_case *want = &cases[i];
        struct validation out;
        harness_ask(policy, want->source, slice_of(want->body), want->headers, want->now_s * 1000 + 999, arena, &out);
        bool right = want->reason == NULL
                         ? out.kind == VALIDATION_ACCEPT
                         : out.kind == VALIDATION_REJECT && out.status == 401 && contains(out.reason, want->reason) &&
                               slice_is(out.code, want->stale ? "stale" : "unauthorized");
        if (!right)
            fail_msg("case %zu (%s) gave kind %d %.*s: %.*s %.*s", i, want->source, out.kind, SLICE_ARG(out.code),
                     SLICE_ARG(out.reason), SLICE_ARG(out.detail));
    }
    policy_free(policy);
    arena_free(arena);
}

#define CHECK_SIGNED(cases) check_signed((cases), sizeof(cases) / sizeof *(cases))

static void standard_webhooks_v1(void **state)
{
    (void)state;
    const struct signed_case cases[] = {
        CASE_1(TS1_S, NULL, false, ID_1, TS_1, SIG(VECTOR_1)),
        {"vectors", VECTOR_2_BODY, 1649367553, {ID_2, TS_2, SIG(VECTOR_2)}, NULL, false},
        {"bare", VECTOR_1_BODY, TS1_S, {ID_1, TS_1, SIG(VECTOR_1)}, NULL, false},
        CASE_1(TS1_S, NULL, false, ID_1, TS_1, SIG(WRONG " v2,x nonsense v1, " VECTOR_1)),
        /* the time, both ways: exactly the tolerance passes */
        CASE_1(TS1_S + 300, NULL, false, ID_1, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S - 300, NULL, false, ID_1, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S + 301, "signed 301 s ago", true, ID_1, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S - 301, "signed for 301 s from now", true, ID_1, TS_1, SIG(VECTOR_1)),
        {"short", VECTOR_1_BODY, TS1_S + 11, {ID_1, TS_1, SIG(VECTOR_1)}, "signed 11 s ago", true},
        /* stale and wrong is wrong */
        CASE_1(TS1_S + 301, "wrong signature", false, ID_1, TS_1, SIG(WRONG)),
        CASE_1(TS1_S, "missing webhook-id", false, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S, "missing webhook-timestamp", false, ID_1, SIG(VECTOR_1)),
        CASE_1(TS1_S, "missing webhook-signature", false, ID_1, TS_1),
        CASE_1(TS1_S, "repeated webhook-id", false, ID_1, ID_1, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S, "repeated webhook-signature", false, ID_1, TS_1, SIG(VECTOR_1), SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-id", false, {"webhook-id", "msg_p5jX.N8"}, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-id", false, {"webhook-id", ""}, TS_1, SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-timestamp", false, ID_1, {"webhook-timestamp", "1614265330.0"}, SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-timestamp", false, ID_1, {"webhook-timestamp", "+1614265330"}, SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-timestamp", false, ID_1, {"webhook-timestamp", "0x6037b832"}, SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-timestamp", false, ID_1, {"webhook-timestamp", ""}, SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-timestamp", false, ID_1, {"webhook-timestamp", "99999999999999999999"},
               SIG(VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-signature", false, ID_1, TS_1, SIG("")),
        CASE_1(TS1_S, "wrong signature", false, ID_1, TS_1, SIG("v1,")),
        CASE_1(TS1_S, "wrong signature", false, ID_1, TS_1, SIG("v1,g0hM9SsE")),
        CASE_1(TS1_S, "malformed webhook-signature", false, ID_1, TS_1,
               SIG("v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")),
        CASE_1(TS1_S, "malformed webhook-signature", false, ID_1, TS_1,
               SIG("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE")),
        CASE_1(TS1_S, "wrong signature", false, ID_1, TS_1, SIG("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=")),
        /* the 17th entry is not looked at */
        CASE_1(TS1_S, NULL, false, ID_1, TS_1, SIG("a a a a a a a a a a a a a a a " VECTOR_1)),
        CASE_1(TS1_S, "malformed webhook-signature", false, ID_1, TS_1,
               SIG("a a a a a a a a a a a a a a a a " VECTOR_1)),
        {"vectors", VECTOR_1_BODY " ", TS1_S, {ID_1, TS_1, SIG(VECTOR_1)}, "wrong signature", false},
        {"nobody", VECTOR_1_BODY, TS1_S, {ID_1, TS_1, SIG(VECTOR_1)}, "no such source", false},
    };
    CHECK_SIGNED(cases);
}

/* The right secret's number is told, for rotation. */
static void the_matching_secret_is_named(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct policy *policy = signature_policy(arena);
    struct header headers[] = {ID_1, TS_1, SIG(VECTOR_1), {0}};
    struct validation out;
    harness_ask(policy, "vectors", slice_of(VECTOR_1_BODY), headers, TS1_S * INT64_C(1000), arena, &out);
    assert_string_equal(out.event_id.base, "2");
    policy_free(policy);
    arena_free(arena);
}

static void standard_webhooks_v1a(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    unsigned char signature[CRYPTO_ED25519_SIGNATURE_BYTES];
    struct slice text = SLICE_LITERAL("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." VECTOR_1_BODY);
    assert_true(crypto_ed25519_sign((struct slice){(const char *)seed, 32}, text, signature));
    struct buf base64 = {0};
    crypto_base64_encode((struct slice){(char *)signature, sizeof signature}, &base64);
    const char *right = arena_printf(arena, "v1,%s v1a,%s", "AAAA", base64.data).base;
    const char *wrong_tag = arena_printf(arena, "v1,%s", base64.data).base;
    const struct signed_case cases[] = {
        {"public", VECTOR_1_BODY, TS1_S, {ID_1, TS_1, SIG(right)}, NULL, false},
        {"public", VECTOR_1_BODY, TS1_S + 301, {ID_1, TS_1, SIG(right)}, "signed 301 s ago", true},
        {"public", VECTOR_2_BODY, TS1_S, {ID_1, TS_1, SIG(right)}, "wrong signature", false},
        {"public", VECTOR_1_BODY, TS1_S, {ID_1, TS_1, SIG(wrong_tag)}, "wrong signature", false},
        {"vectors", VECTOR_1_BODY, TS1_S, {ID_1, TS_1, SIG(right)}, "wrong signature", false},
    };
    CHECK_SIGNED(cases);
    buf_free(&base64);
    arena_free(arena);
}

/* t=…,v1=… made as the scheme says; the library never sees this code. */
static const char *stripe_header(struct arena *arena, const char *key, const char *time, const char *body)
{
    struct slice parts[] = {slice_of(time), SLICE_LITERAL("."), slice_of(body)};
    unsigned char mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(slice_of(key), parts, 3, mac);
    struct buf hex = {0};
    crypto_hex_encode((struct slice){(char *)mac, sizeof mac}, &hex);
    const char *text = arena_printf(arena, "t=%s,v1=%s", time, hex.data).base;
    buf_free(&hex);
    return text;
}

static void stripe(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const char *right = stripe_header(arena, "whsec_test_secret", "1614265330", "{}");
    const char *wrong = stripe_header(arena, "test_secret", "1614265330", "{}");
    const char *with_others =
        arena_printf(arena, "t=1614265330,v0=aa,v1=%064d,%s", 0, right + strlen("t=1614265330,")).base;
    const char *two_times = arena_printf(arena, "t=1614265330,%s", right).base;
    const char *no_time = right + strlen("t=1614265330,");
#define STRIPE(text, now, reason, stale)                                                                               \
    {                                                                                                                  \
        "stripe", "{}", now, {{"stripe-signature", text}}, reason, stale                                               \
    }
    const struct signed_case cases[] = {
        STRIPE(right, TS1_S, NULL, false),
        STRIPE(with_others, TS1_S, NULL, false),
        STRIPE(right, TS1_S + 300, NULL, false),
        STRIPE(right, TS1_S + 301, "signed 301 s ago", true),
        STRIPE(wrong, TS1_S, "wrong signature", false),
        STRIPE(two_times, TS1_S, "malformed stripe-signature", false),
        STRIPE(no_time, TS1_S, "malformed stripe-signature", false),
        STRIPE("t=1614265330,v1=zz", TS1_S, "malformed stripe-signature", false),
        STRIPE("", TS1_S, "malformed stripe-signature", false),
        {"stripe", "{}", TS1_S, {{0}}, "missing stripe-signature", false},
    };
    CHECK_SIGNED(cases);
    arena_free(arena);
}

static const char *body_base64(struct arena *arena, const char *key, const char *body)
{
    struct slice part = slice_of(body);
    unsigned char mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(slice_of(key), &part, 1, mac);
    struct buf base64 = {0};
    crypto_base64_encode((struct slice){(char *)mac, sizeof mac}, &base64);
    const char *text = arena_copy(arena, base64.data, base64.len).base;
    buf_free(&base64);
    return text;
}

static void schemes_over_the_body_alone(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const char *shopify = body_base64(arena, "hush", "{}");
    const struct signed_case cases[] = {
        {"github", "Hello, World!", 0, {{"x-hub-signature-256", "sha256=" GITHUB_HEX}}, NULL, false},
        {"github", "Hello, World?", 0, {{"x-hub-signature-256", "sha256=" GITHUB_HEX}}, "wrong signature", false},
        {"github", "Hello, World!", 0, {{"x-hub-signature-256", GITHUB_HEX}}, "malformed x-hub-signature-256", false},
        {"github", "Hello, World!", 0, {{"x-hub-signature-256", "sha256=7571"}}, "malformed", false},
        {"github", "Hello, World!", 0, {{0}}, "missing x-hub-signature-256", false},
        {"shopify", "{}", 0, {{"x-shopify-hmac-sha256", shopify}}, NULL, false},
        {"shopify", "{ }", 0, {{"x-shopify-hmac-sha256", shopify}}, "wrong signature", false},
        {"shopify", "{}", 0, {{"x-shopify-hmac-sha256", "!"}}, "malformed", false},
        {"sendcloud", "{\"key\": \"value\"}", 0, {{"sendcloud-signature", SENDCLOUD}}, NULL, false},
        {"sendcloud", "{\"key\":\"value\"}", 0, {{"sendcloud-signature", SENDCLOUD}}, "wrong signature", false},
        {"easypost", "{\"key\": \"value\"}", 0, {{"x-hmac-signature", "hmac-sha256-hex=" SENDCLOUD}}, NULL, false},
        {"easypost", "{\"key\": \"value\"}", 0, {{"x-hmac-signature", SENDCLOUD}}, "malformed", false},
        {"own", "{}", 0, {{"x-token", "letmein"}}, NULL, false},
        {"own", "{}", 0, {{"x-token", "no"}}, "wrong token", false},
    };
    CHECK_SIGNED(cases);
    arena_free(arena);
}

/* A policy around the shipped signature library with a crypto that counts: the reason is how often it hashed. */
static struct policy *counting_policy(struct arena *arena)
{
    struct slice validate =
        arena_printf(arena,
                     "local n = 0\n"
                     "local function counted(f) return function(...) n = n + 1 return f(...) end end\n"
                     "local counting = setmetatable({ hmac_sha256 = counted(crypto.hmac_sha256),\n"
                     "  ed25519_verify = counted(crypto.ed25519_verify) }, { __index = crypto })\n"
                     "local library = load([==[%s]==], 'signature', 't',\n"
                     "  setmetatable({ crypto = counting }, { __index = _ENV }))()\n"
                     "local verifiers = library.verifiers(require('sources'))\n"
                     "return function(request, source)\n"
                     "  n = 0\n"
                     "  local ok = verifiers[source](request, source)\n"
                     "  return reject{ status = 401, code = ok and 'right' or 'wrong', reason = tostring(n) }\n"
                     "end",
                     read_shipped("lib/signature.lua"));
    struct slice sources =
        arena_printf(arena,
                     "local key = '%s'\n"
                     "return { hmac = { scheme = 'standard-webhooks', secrets = { 'whsec_AAAA', 'whsec_BBBB',\n"
                     "    'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' } },\n"
                     "  public = { scheme = 'standard-webhooks', secrets = { 'whpk_' .. key, 'whpk_' .. key } },\n"
                     "  stripe = { scheme = 'stripe', secrets = { 'a', 'b' } } }",
                     public_base64(arena));
    struct policy_options options = harness_options(POLICY_INGEST);
    struct error err;
    struct policy *policy = harness_policy(
        &options, (struct file[]){{"sources.lua", sources.base}, {"validate.lua", validate.base}, {0}}, &err);
    if (policy == NULL)
        fail_msg("%s", err.text);
    return policy;
}

static const char *repeated(struct arena *arena, const char *entry, size_t n)
{
    struct buf text = {0};
    for (size_t i = 0; i < n; i++)
        buf_add_text(&text, entry);
    const char *copy = arena_printf(arena, "%.*s", SLICE_ARG(buf_slice(&text))).base;
    buf_free(&text);
    return copy;
}

/* Who knows no secret shall not choose how much work a request makes. */
static void wrong_signatures_cost_no_more_than_one(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const char *wrong_v1a = arena_printf(arena, " v1a,%085dA==", 0).base;
    const char *sixteen = repeated(arena, " " WRONG, 15), *right = arena_printf(arena, "%s %s", sixteen, VECTOR_1).base;
    const char *wrong_stripe = repeated(arena, ",v1=" GITHUB_HEX, 15);
    const struct {
        const char *source, *signatures, *code, *hashes;
    } cases[] = {
        {"hmac", WRONG, "wrong", "3"},
        {"hmac", repeated(arena, " " WRONG, 16), "wrong", "3"},
        {"hmac", right, "right", "3"},
        {"hmac", repeated(arena, " v1,AAAA", 16), "wrong", "0"}, /* too short to be one */
        {"public", repeated(arena, " " WRONG, 16), "wrong", "0"},
        {"public", wrong_v1a, "wrong", "2"},
        {"public", repeated(arena, wrong_v1a, 16), "wrong", "8"},
        {"public", repeated(arena, " v1a,AAAA", 16), "wrong", "0"},
        {"stripe", arena_printf(arena, "t=1614265330%s", wrong_stripe).base, "wrong", "2"},
    };
    struct policy *policy = counting_policy(arena);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct header headers[] = {
            ID_1, TS_1, SIG(cases[i].signatures), {"stripe-signature", cases[i].signatures}, {0}};
        struct validation out;
        harness_ask(policy, cases[i].source, slice_of(VECTOR_1_BODY), headers, TS1_S * INT64_C(1000), arena, &out);
        if (!slice_is(out.code, cases[i].code) || !slice_is(out.reason, cases[i].hashes))
            fail_msg("case %zu gave %.*s after %.*s hashes %.*s", i, SLICE_ARG(out.code), SLICE_ARG(out.reason),
                     SLICE_ARG(out.detail));
    }
    policy_free(policy);
    arena_free(arena);
}

static void bad_sources_do_not_load(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"scheme = 'standard-webhooks', secrets = { 'whsec_!' }", "source 's': secret 1 is not base64"},
        {"scheme = 'standard-webhooks', secrets = { 'AAAA', 'whsec_' }", "secret 2 is not base64"},
        {"scheme = 'standard-webhooks', secrets = { 'whpk_AAAA' }", "secret 1 (whpk_) is not a key of 32 bytes"},
        {"scheme = 'standard-webhooks', secrets = { 'whsk_AAAA' }", "secret 1 is a private key"},
        {"scheme = 'rot13', secrets = { 'x' }", "there is no scheme 'rot13'"},
        {"scheme = 'plain-hmac', secrets = { 'x' }", "plain-hmac needs header"},
        {"scheme = 'plain-hmac', header = 'x', secrets = { 'x' }", "plain-hmac needs encoding"},
        /* also while there is no secret yet */
        {"scheme = 'rot13'", "sources.lua: source 's': there is no scheme 'rot13'"},
        {"secrets = {}", "there is no scheme 'nil'"},
        {"scheme = 'plain-hmac'", "source 's': plain-hmac needs header"},
        {"scheme = 'plain-hmac', header = 'x', encoding = 'b64'", "plain-hmac needs encoding"},
        {"scheme = 'plain-hmac', header = 'x', encoding = 'hex', prefx = 'p='", "knows no field 'prefx'"},
        {"scheme = 'plain-hmac', header = {}, encoding = 'hex'", "header must be a string, not a table"},
        {"scheme = 'plain-hmac', header = 'x', encoding = 'hex', prefix = 1", "prefix must be a string, not a number"},
        {"scheme = 'github', tolerance_s = 5", "the scheme 'github' knows no field 'tolerance_s'"},
        {"scheme = 'stripe', tolerance_s = '5'", "tolerance_s must be a number, not a string"},
        {"scheme = 'stripe', tolerance_s = -5", "tolerance_s must not be negative"},
        {"scheme = 'stripe', 'stray'", "knows no field '1'"},
        {"scheme = 'stripe', courier = 'couriers.acme'", "source 's': courier must be a table"},
        {"scheme = 'stripe', courier = { identify = function() end }", "its courier has no function parcel"},
        {"scheme = function() end, courier = {}", "its courier has no function identify"},
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct policy_options options = harness_options(POLICY_INGEST);
        struct error err = {{0}};
        struct slice sources = arena_printf(arena, "return { s = { %s } }", cases[i][0]);
        struct policy *policy = harness_policy(&options,
                                               (struct file[]){{"sources.lua", sources.base},
                                                               {"validate.lua", SIGNATURE_ONLY},
                                                               {"lib/signature.lua", read_shipped("lib/signature.lua")},
                                                               {0}},
                                               &err);
        if (policy != NULL || strstr(err.text, cases[i][1]) == NULL)
            fail_msg("%s gave: %s", cases[i][0], policy != NULL ? "a policy" : err.text);
    }
    arena_free(arena);
}

/* validate.lua */

/* Signs the body for the demo source and asks, age_s after it was signed. */
static void ask_signed_slice(struct fixture *f, struct slice body, int64_t age_s, struct validation *out)
{
    struct buf key = {0}, base64 = {0};
    assert_true(crypto_base64_decode(slice_of("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), true, &key));
    struct slice parts[] = {SLICE_LITERAL("msg_1.1614265330."), body};
    unsigned char mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(buf_slice(&key), parts, 2, mac);
    buf_add_text(&base64, "v1,");
    crypto_base64_encode((struct slice){(char *)mac, sizeof mac}, &base64);
    struct header headers[] = {{"webhook-id", "msg_1"}, TS_1, SIG(base64.data), {0}};
    harness_ask(f->ingest, "demo", body, headers, (TS1_S + age_s) * INT64_C(1000), f->arena, out);
    buf_free(&key);
    buf_free(&base64);
}

static void ask_signed(struct fixture *f, const char *body, struct validation *out)
{
    ask_signed_slice(f, slice_of(body), 0, out);
}

static void strangers_get_one_answer(void **state)
{
    struct fixture *f = *state;
    struct header none[] = {{0}}, wrong[] = {ID_1, TS_1, SIG(WRONG), {0}}, malformed[] = {ID_1, TS_1, SIG("x"), {0}},
                  repeated[] = {ID_1, ID_1, TS_1, SIG(WRONG), {0}};
    const struct {
        const char *source;
        const struct header *headers;
    } strangers[] = {{"demo", none},    {"demo", wrong},      {"demo", malformed}, {"demo", repeated},
                     {"nobody", wrong}, {"aftership", wrong}, {"", none}};
    struct validation first, out;
    harness_ask(f->ingest, "demo", slice_of(BODY), none, 0, f->arena, &first);
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        harness_ask(f->ingest, strangers[i].source, slice_of(BODY), strangers[i].headers, 0, f->arena, &out);
        assert_int_equal(out.kind, VALIDATION_REJECT);
        assert_int_equal(out.status, 401);
        assert_true(slice_is(out.code, "unauthorized"));
        assert_true(slice_equal(out.detail, first.detail) && out.field.len == 0 && out.reason.len > 0);
    }
}

static void a_good_event_is_accepted(void **state)
{
    struct fixture *f = *state;
    struct validation out;
    ask_signed(f, BODY, &out);
    assert_int_equal(out.kind, VALIDATION_ACCEPT);
    assert_int_equal(out.accept_status, 202);
    assert_string_equal(out.event_id.base, "evt_1");
    assert_string_equal(out.type.base, "parcel.in_transit");
    assert_string_equal(out.occurred_at.base, "2026-01-31T12:00:00Z");
}

static void a_stale_event_is_told_so(void **state)
{
    struct fixture *f = *state;
    struct validation out;
    ask_signed_slice(f, slice_of(BODY), 300, &out);
    assert_int_equal(out.kind, VALIDATION_ACCEPT);
    ask_signed_slice(f, slice_of(BODY), 301, &out);
    assert_int_equal(out.kind, VALIDATION_REJECT);
    assert_int_equal(out.status, 401);
    assert_true(slice_is(out.code, "stale_timestamp"));
    assert_true(contains(out.reason, "signed 301 s ago"));
}

static void fields_are_required(void **state)
{
    struct fixture *f = *state;
#define EVENT(id, type, at, data) "{" id type at data "\"end\":0}"
#define ID                        "\"event_id\":\"1\","
#define TYPE                      "\"type\":\"t\","
#define AT                        "\"occurred_at\":\"2026-01-31T12:00:00+01:00\","
#define DATA                      "\"data\":{\"tracking_number\":\"T\"},"
    const struct {
        const char *body;
        int status;
        const char *code, *field, *detail;
    } cases[] = {
        {EVENT("", TYPE, AT, DATA), 422, "missing_field", "event_id", "event_id is required"},
        {EVENT("\"event_id\":null,", TYPE, AT, DATA), 422, "missing_field", "event_id", ""},
        {EVENT("\"event_id\":12,", TYPE, AT, DATA), 422, "invalid_field", "event_id", "must be a string"},
        {EVENT("\"event_id\":\"\",", TYPE, AT, DATA), 422, "invalid_field", "event_id", "1 to 256"},
        {EVENT("\"event_id\":\"a\\u0000b\",", TYPE, AT, DATA), 422, "invalid_field", "event_id", "control"},
        {EVENT(ID, "", AT, DATA), 422, "missing_field", "type", ""},
        {EVENT(ID, TYPE, "", DATA), 422, "missing_field", "occurred_at", ""},
        {EVENT(ID, TYPE, "\"occurred_at\":\"yesterday\",", DATA), 422, "invalid_field", "occurred_at", "RFC 3339"},
        {EVENT(ID, TYPE, "\"occurred_at\":1769860800,", DATA), 422, "invalid_field", "occurred_at", "string"},
        {EVENT(ID, TYPE, AT, ""), 422, "missing_field", "data", ""},
        {EVENT(ID, TYPE, AT, "\"data\":[],"), 422, "missing_field", "data.tracking_number", ""},
        {EVENT(ID, TYPE, AT, "\"data\":\"x\","), 422, "invalid_field", "data", "object"},
        {EVENT(ID, TYPE, AT, "\"data\":{},"), 422, "missing_field", "data.tracking_number",
         "data.tracking_number is required"},
        {EVENT(ID, TYPE, AT, "\"data\":{\"tracking_number\":5},"), 422, "invalid_field", "data.tracking_number", ""},
        {"[]", 400, "not_an_object", "", ""},
        {"{", 400, "invalid_json", "", "byte 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct validation out;
        ask_signed(f, cases[i].body, &out);
        if (out.kind != VALIDATION_REJECT || out.status != cases[i].status || !slice_is(out.code, cases[i].code) ||
            !slice_is(out.field, cases[i].field) || !contains(out.detail, cases[i].detail))
            fail_msg("%s gave kind %d status %d %.*s %.*s: %.*s", cases[i].body, out.kind, out.status,
                     SLICE_ARG(out.code), SLICE_ARG(out.field), SLICE_ARG(out.detail));
    }
}

/* process.lua */

static void processing_writes_the_shipment(void **state)
{
    struct fixture *f = *state;
    struct outcome out;
    struct event event = harness_event(BODY);
    harness_run(f->worker, &event, 0, f->arena, &out);
    if (out.kind != OUTCOME_SUCCESS)
        fprintf(stderr, "%.*s\n", SLICE_ARG(out.message));
    assert_int_equal(out.kind, OUTCOME_SUCCESS);
    assert_int_equal(out.n_writes, 1);
    assert_true(slice_is(out.writes[0].collection, "shipments"));
    assert_true(slice_is(out.writes[0].id, "demo/TN1"));
    const char *at = "{\"$date\":{\"$numberLong\":\"1769860800000\"}}";
    struct slice expected = arena_printf(
        f->arena,
        "{\"$max\":{\"latest\":{\"at\":%s,\"event_id\":\"evt_1\",\"status\":\"in_transit\"}},"
        "\"$push\":{\"timeline\":{\"$each\":[{\"at\":%s,\"event_id\":\"evt_1\",\"location\":{\"city\":\"K\xc3\xb6ln\"},"
        "\"status\":\"in_transit\"}],\"$sort\":{\"at\":1,\"event_id\":1}}},"
        "\"$setOnInsert\":{\"source\":\"demo\",\"tracking_number\":\"TN1\"}}",
        at, at);
    assert_string_equal(out.writes[0].update.base, expected.base);
    assert_true(slice_is(out.result, "{\"shipment\":\"demo/TN1\",\"status\":\"in_transit\"}"));
}

static struct outcome run(struct fixture *f, const char *type, const char *data, uint32_t failures, const char *replay)
{
    struct slice body = arena_printf(f->arena, "{\"data\":{\"tracking_number\":\"T\"%s}}", data);
    struct event event = harness_event(body.base);
    struct outcome out;
    event.type = slice_of(type);
    event.replay = slice_of(replay);
    harness_run(f->worker, &event, failures, f->arena, &out);
    return out;
}

/* Each event of tests/data is accepted, and processed, as it stands. */

static void check_event(struct fixture *f, const char *file, const char *body)
{
    struct validation in;
    ask_signed(f, body, &in);
    if (in.kind != VALIDATION_ACCEPT)
        fail_msg("%s: %s\n%.*s: %.*s %.*s", file, body, SLICE_ARG(in.code), SLICE_ARG(in.field), SLICE_ARG(in.detail));
    struct event event = harness_event(body);
    event.event_id = in.event_id;
    event.type = in.type;
    event.occurred_at = in.occurred_at;
    struct outcome out;
    harness_run(f->worker, &event, 0, f->arena, &out);
    if (out.kind != OUTCOME_SUCCESS || out.n_writes != 1)
        fail_msg("%s: %s\n%.*s", file, body, SLICE_ARG(out.message));
    struct error err;
    assert_true(json_check(out.writes[0].update, &err));
}

static int check_events(struct fixture *f, const char *file)
{
    FILE *in = fopen(file, "rb");
    assert_non_null(in);
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    int n = 0;
    for (; (len = getline(&line, &size, in)) > 0; n++) {
        line[len - 1] = '\0';
        check_event(f, file, line);
        arena_reset(f->arena);
    }
    free(line);
    fclose(in);
    return n;
}

static void real_events_go_through(void **state)
{
    glob_t files;
    assert_int_equal(glob(TEST_DATA "/parcels/*.jsonl", 0, NULL, &files), 0);
    int n = check_events(*state, TEST_DATA "/limits.jsonl");
    for (size_t i = 0; i < files.gl_pathc; i++)
        n += check_events(*state, files.gl_pathv[i]);
    globfree(&files);
    assert_in_range(n, 40, 100000);
}

/* The text behind "name": in a line of the manifest, up to its closing quote; "" when it is not there. */
static const char *member(struct arena *arena, const char *line, const char *name)
{
    struct slice key = arena_printf(arena, "\"%s\": \"", name);
    const char *at = strstr(line, key.base);
    if (at == NULL)
        return "";
    at += key.len;
    return arena_copy(arena, at, strcspn(at, "\"")).base;
}

static void check_refused(struct fixture *f, const char *line)
{
    const char *file = member(f->arena, line, "file"), *status = strstr(line, "\"status\": ");
    struct slice path = arena_printf(f->arena, TEST_DATA "/bad/%s", file);
    FILE *in = fopen(path.base, "rb");
    assert_non_null(in);
    static char body[2 * 1024 * 1024];
    size_t len = fread(body, 1, sizeof body, in);
    fclose(in);
    struct validation out;
    ask_signed_slice(f, (struct slice){body, len}, 0, &out);
    if (out.kind != VALIDATION_REJECT || status == NULL || out.status != atoi(status + strlen("\"status\": ")) ||
        !slice_is(out.code, member(f->arena, line, "code")) || !slice_is(out.field, member(f->arena, line, "field")))
        fail_msg("%s gave kind %d %d %.*s %.*s: %.*s", line, out.kind, out.status, SLICE_ARG(out.code),
                 SLICE_ARG(out.field), SLICE_ARG(out.detail));
}

static void bad_events_are_refused(void **state)
{
    struct fixture *f = *state;
    FILE *in = fopen(TEST_DATA "/bad/manifest.jsonl", "rb");
    assert_non_null(in);
    char *line = NULL;
    size_t size = 0;
    int n = 0;
    for (; getline(&line, &size, in) > 0; n++) {
        check_refused(f, line);
        arena_reset(f->arena);
    }
    free(line);
    fclose(in);
    assert_in_range(n, 20, 100000);
}

static void an_unknown_type_is_kept_under_its_own_name(void **state)
{
    struct outcome out = run(*state, "parcel.eaten", "", 0, NULL);
    assert_int_equal(out.kind, OUTCOME_SUCCESS);
    assert_non_null(strstr(out.writes[0].update.base, "\"status\":\"eaten\""));
}

#define SIMULATE(order) ",\"simulate\":" order

static void failures_come_to_order(void **state)
{
    const struct {
        const char *data;
        uint32_t failures;
        const char *replay;
        enum outcome_kind kind;
    } cases[] = {
        {SIMULATE("{\"fail\":\"transient\",\"times\":3}"), 0, NULL, OUTCOME_TRANSIENT},
        {SIMULATE("{\"fail\":\"transient\",\"times\":3}"), 2, NULL, OUTCOME_TRANSIENT},
        {SIMULATE("{\"fail\":\"transient\",\"times\":3}"), 3, NULL, OUTCOME_SUCCESS},
        {SIMULATE("{\"fail\":\"transient\"}"), 1, NULL, OUTCOME_SUCCESS},
        {SIMULATE("{\"fail\":\"permanent\"}"), 0, "anna", OUTCOME_PERMANENT},
        {SIMULATE("{\"fail\":\"permanent\",\"until_replay\":true}"), 0, NULL, OUTCOME_PERMANENT},
        {SIMULATE("{\"fail\":\"permanent\",\"until_replay\":true}"), 0, "anna", OUTCOME_SUCCESS},
        {SIMULATE("{\"fail\":\"error\"}"), 0, NULL, OUTCOME_ERROR},
        {SIMULATE("{\"fail\":\"loop\"}"), 0, NULL, OUTCOME_TIME_LIMIT},
        {SIMULATE("{\"fail\":\"memory\"}"), 0, NULL, OUTCOME_MEMORY_LIMIT},
        {SIMULATE("{\"delay_ms\":1}"), 0, NULL, OUTCOME_SUCCESS},
        {SIMULATE("{\"delay_ms\":1e9}"), 0, NULL, OUTCOME_TIME_LIMIT},
        {SIMULATE("{\"fail\":\"nonsense\",\"delay_ms\":\"x\"}"), 0, NULL, OUTCOME_SUCCESS},
        {SIMULATE("\"x\""), 0, NULL, OUTCOME_SUCCESS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome out = run(*state, "parcel.delivered", cases[i].data, cases[i].failures, cases[i].replay);
        if (out.kind != cases[i].kind)
            fail_msg("%s gave %s: %.*s", cases[i].data, outcome_name(out.kind), SLICE_ARG(out.message));
    }
}

static struct retry_decision decide(struct fixture *f, enum outcome_kind kind, const char *error_kind,
                                    uint32_t failures)
{
    struct event event = harness_event("{}");
    struct policy_attempt attempt = {.attempt = failures, .failures = failures, .worker = "test"};
    struct outcome outcome = {.kind = kind, .error_kind = slice_of(error_kind), .retry_after_ms = -1};
    return policy_retry(f->worker, &event, &attempt, &outcome, f->arena);
}

static void the_shipped_policy_follows_the_settings(void **state)
{
    struct fixture *f = *state;
    struct retry_decision decision = decide(f, OUTCOME_PERMANENT, "permanent", 1);
    assert_false(decision.retry);
    assert_true(slice_is(decision.reason, "permanent_failure"));
    int64_t longest = 0;
    for (int i = 0; i < 200; i++) {
        decision = decide(f, OUTCOME_TRANSIENT, "simulated", 3);
        assert_true(decision.retry);
        assert_in_range(decision.delay_ms, 0, 4000);
        longest = decision.delay_ms > longest ? decision.delay_ms : longest;
    }
    assert_in_range(longest, 3000, 4000);
    assert_true(decide(f, OUTCOME_TIME_LIMIT, "time_limit", 7).retry);
    decision = decide(f, OUTCOME_ERROR, "error", 8);
    assert_false(decision.retry);
    assert_true(slice_is(decision.reason, "retries_exhausted"));
    assert_true(decide(f, OUTCOME_TRANSIENT, "rate_limited", 19).retry);
    assert_false(decide(f, OUTCOME_TRANSIENT, "rate_limited", 20).retry);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(standard_webhooks_v1),
        cmocka_unit_test(the_matching_secret_is_named),
        cmocka_unit_test(standard_webhooks_v1a),
        cmocka_unit_test(stripe),
        cmocka_unit_test(schemes_over_the_body_alone),
        cmocka_unit_test(wrong_signatures_cost_no_more_than_one),
        cmocka_unit_test(bad_sources_do_not_load),
        TEST(strangers_get_one_answer),
        TEST(a_good_event_is_accepted),
        TEST(a_stale_event_is_told_so),
        TEST(fields_are_required),
        TEST(processing_writes_the_shipment),
        TEST(real_events_go_through),
        TEST(bad_events_are_refused),
        TEST(an_unknown_type_is_kept_under_its_own_name),
        TEST(failures_come_to_order),
        TEST(the_shipped_policy_follows_the_settings),
    };
    log_open("test", LOG_ERROR + 1, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
