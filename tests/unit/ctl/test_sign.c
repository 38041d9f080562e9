/* The sender's signatures against published vectors, and against the verifying half where there is none. */
#include "../check.h"

#include "base/crypto.h"
#include "ctl/sign.h"

static struct slice header(const struct http_header *headers, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(headers[i].name, name) == 0)
            return headers[i].value;
    return (struct slice){0};
}

/* Signs and returns one header's value; it lives as long as the arena. */
static struct slice signed_header(const struct sign_job *job, struct arena *arena, const char *name)
{
    struct http_header headers[SIGN_MAX_HEADERS];
    size_t n;
    struct error err;
    assert_true(sign(job, arena, headers, &n, &err));
    return header(headers, n, name);
}

static void standard_webhooks_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *secret, *id, *body, *signature;
        int64_t seconds;
    } vectors[] = {
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "{\"test\": 2432232314}",
         "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", 1614265330},
        {"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
         "{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
         "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=", 1649367553},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct arena *arena = arena_new();
        const struct sign_job job = {.scheme = "standard-webhooks",
                                     .secret = slice_of(vectors[i].secret),
                                     .event_id = slice_of(vectors[i].id),
                                     .body = slice_of(vectors[i].body),
                                     .signed_at = {vectors[i].seconds * 1000 + 999}};
        assert_true(slice_is(signed_header(&job, arena, "webhook-signature"), vectors[i].signature));
        assert_true(slice_is(signed_header(&job, arena, "webhook-id"), vectors[i].id));
        arena_free(arena);
    }
}

static void github_vector(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const struct sign_job job = {.scheme = "github",
                                 .secret = slice_of("It's a Secret to Everybody"),
                                 .event_id = slice_of("1"),
                                 .body = slice_of("Hello, World!")};
    assert_true(slice_is(signed_header(&job, arena, "X-Hub-Signature-256"),
                         "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"));
    arena_free(arena);
}

static void plain_hmac_with_prefix_and_encodings(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct sign_job job = {.scheme = "plain-hmac",
                           .secret = slice_of("secretkey"),
                           .body = slice_of("{\"key\": \"value\"}"),
                           .hmac_header = "Courier-Signature",
                           .hmac_prefix = "p=",
                           .hmac_encoding = "hex"};
    assert_true(slice_is(signed_header(&job, arena, "Courier-Signature"),
                         "p=1eed4b3d41f4653ac64fd56f1bf1cbfd349e4482cbc11dff7134bd93e5da4b0a"));
    job.hmac_encoding = "base64";
    assert_true(
        slice_is(signed_header(&job, arena, "Courier-Signature"), "p=Hu1LPUH0ZTrGT9VvG/HL/TSeRILLwR3/cTS9k+XaSwo="));
    job.hmac_encoding = "rot13";
    struct http_header headers[SIGN_MAX_HEADERS];
    size_t n;
    struct error err;
    assert_false(sign(&job, arena, headers, &n, &err));
    arena_free(arena);
}

/* Stripe uses the secret as it is, although it looks like one to be decoded. */
static void stripe_signs_time_and_body(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const struct sign_job job = {
        .scheme = "stripe", .secret = slice_of("whsec_test"), .body = slice_of("{}"), .signed_at = {1700000000000}};
    unsigned char mac[CRYPTO_SHA256_BYTES];
    const struct slice text = SLICE_LITERAL("1700000000.{}");
    crypto_hmac_sha256(slice_of("whsec_test"), &text, 1, mac);
    struct buf expected = {0};
    buf_add_text(&expected, "t=1700000000,v1=");
    crypto_hex_encode((struct slice){(const char *)mac, sizeof mac}, &expected);
    assert_true(slice_equal(signed_header(&job, arena, "Stripe-Signature"), buf_slice(&expected)));
    buf_free(&expected);
    arena_free(arena);
}

static void ed25519_signature_verifies(void **state)
{
    (void)state;
    /* RFC 8032, section 7.1, test 1: the seed and its public key. */
    struct buf seed = {0}, public_key = {0}, secret = {0}, raw = {0};
    assert_true(crypto_hex_decode(slice_of("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"), &seed));
    assert_true(
        crypto_hex_decode(slice_of("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"), &public_key));
    buf_add_text(&secret, "whsk_");
    crypto_base64_encode(buf_slice(&seed), &secret);
    struct arena *arena = arena_new();
    const struct sign_job job = {.scheme = "standard-webhooks",
                                 .secret = buf_slice(&secret),
                                 .event_id = slice_of("evt_1"),
                                 .body = slice_of("{}"),
                                 .signed_at = {1700000000000}};
    struct slice value = signed_header(&job, arena, "webhook-signature");
    assert_true(value.len > 4 && memcmp(value.base, "v1a,", 4) == 0);
    assert_true(crypto_base64_decode((struct slice){value.base + 4, value.len - 4}, false, &raw));
    assert_true(crypto_ed25519_verify(buf_slice(&public_key), slice_of("evt_1.1700000000.{}"), buf_slice(&raw)));
    arena_free(arena);
    buf_free(&seed);
    buf_free(&public_key);
    buf_free(&secret);
    buf_free(&raw);
}

/* Both lead to an id without a dot that is a header, the same each time. */
static void ids_that_cannot_travel_are_hashed(void **state)
{
    (void)state;
    static const char *const ids[] = {"evt.1", "évt", "", "evt 1"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct arena *arena = arena_new();
        const struct sign_job job = {.scheme = "standard-webhooks",
                                     .secret = slice_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
                                     .event_id = slice_of(ids[i]),
                                     .body = slice_of("{}")};
        struct slice id = signed_header(&job, arena, "webhook-id");
        assert_int_equal(id.len, 4 + 32);
        assert_memory_equal(id.base, "msg_", 4);
        assert_true(slice_equal(id, signed_header(&job, arena, "webhook-id")));
        arena_free(arena);
    }
}

static void bad_secrets_and_schemes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *scheme, *secret;
    } bad[] = {{"standard-webhooks", "whsec_not base64!"},
               {"standard-webhooks", "whsec_"},
               {"standard-webhooks", "whsk_AAAA"},
               {"rot13", "x"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *arena = arena_new();
        struct http_header headers[SIGN_MAX_HEADERS];
        size_t n;
        struct error err = {""};
        const struct sign_job job = {
            .scheme = bad[i].scheme, .secret = slice_of(bad[i].secret), .body = slice_of("{}")};
        assert_false(sign(&job, arena, headers, &n, &err));
        assert_true(err.text[0] != '\0');
        arena_free(arena);
    }
}

static void chooses_the_first_secret_that_can_sign(void **state)
{
    (void)state;
    assert_true(slice_is(sign_choose_secret("whsec_a whsec_b"), "whsec_a"));
    assert_true(slice_is(sign_choose_secret(" \n whpk_a\twhsk_b "), "whsk_b"));
    assert_int_equal(sign_choose_secret("whpk_a").len, 0);
    assert_int_equal(sign_choose_secret("").len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(standard_webhooks_vectors),
        cmocka_unit_test(github_vector),
        cmocka_unit_test(plain_hmac_with_prefix_and_encodings),
        cmocka_unit_test(stripe_signs_time_and_body),
        cmocka_unit_test(ed25519_signature_verifies),
        cmocka_unit_test(ids_that_cannot_travel_are_hashed),
        cmocka_unit_test(bad_secrets_and_schemes_are_refused),
        cmocka_unit_test(chooses_the_first_secret_that_can_sign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
