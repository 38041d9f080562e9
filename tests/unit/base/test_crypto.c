/* Encodings and signatures against published vectors. */
#include "../check.h"

#include "base/crypto.h"

static void hmac_matches_rfc_4231(void **state)
{
    (void)state;
    unsigned char mac[CRYPTO_SHA256_BYTES];
    struct buf hex = {0};
    struct slice parts[] = {SLICE_LITERAL("what do ya want "), SLICE_LITERAL(""), SLICE_LITERAL("for nothing?")};
    crypto_hmac_sha256(SLICE_LITERAL("Jefe"), parts, 3, mac);
    crypto_hex_encode((struct slice){(char *)mac, sizeof mac}, &hex);
    assert_string_equal(hex.data, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    buf_free(&hex);
}

static void the_reused_context_forgets_the_last_key(void **state)
{
    (void)state;
    unsigned char first[CRYPTO_SHA256_BYTES], again[CRYPTO_SHA256_BYTES], other[CRYPTO_SHA256_BYTES];
    struct slice text = SLICE_LITERAL("text");
    crypto_hmac_sha256(SLICE_LITERAL("a"), &text, 1, first);
    crypto_hmac_sha256(SLICE_LITERAL(""), &text, 1, other);
    crypto_hmac_sha256(SLICE_LITERAL("a"), &text, 1, again);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
}

static void ed25519_signs_and_verifies_rfc_8032(void **state)
{
    (void)state;
    struct buf seed = {0}, key = {0}, wanted = {0};
    unsigned char signature[CRYPTO_ED25519_SIGNATURE_BYTES];
    assert_true(
        crypto_hex_decode(SLICE_LITERAL("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"), &seed));
    assert_true(
        crypto_hex_decode(SLICE_LITERAL("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"), &key));
    assert_true(crypto_hex_decode(SLICE_LITERAL("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                                                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
                                  &wanted));
    struct slice message = SLICE_LITERAL("\x72"), made = {(char *)signature, sizeof signature};
    assert_true(crypto_ed25519_sign(buf_slice(&seed), message, signature));
    assert_true(slice_equal(made, buf_slice(&wanted)));
    assert_true(crypto_ed25519_verify(buf_slice(&key), message, made));
    signature[0] ^= 1;
    assert_false(crypto_ed25519_verify(buf_slice(&key), message, made));
    assert_false(crypto_ed25519_verify(buf_slice(&key), message, (struct slice){made.base, 63}));
    buf_free(&seed);
    buf_free(&key);
    buf_free(&wanted);
}

static bool base64(const char *text, bool unpadded, const char *wanted)
{
    struct buf out = {0};
    bool good = crypto_base64_decode(slice_of(text), unpadded, &out);
    if (good)
        assert_true(slice_is(buf_slice(&out), wanted));
    else
        assert_int_equal(out.len, 0);
    buf_free(&out);
    return good;
}

static void base64_is_strict(void **state)
{
    (void)state;
    assert_true(base64("", false, ""));
    assert_true(base64("Zg==", false, "f"));
    assert_true(base64("Zm9vYg==", false, "foob"));
    assert_true(base64("Zm9vYmE=", false, "fooba"));
    assert_true(base64("Zm9vYmE", true, "fooba"));
    static const char *const bad[] = {
        "Zg", "Zg=", "Zg===", "Z", "Zg==Zg==", "Zh==", "Zm9=v", "Zm 9v", "Zm9v\n", "Zm9-", "=", "===="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (base64(bad[i], false, ""))
            fail_msg("accepted: %s", bad[i]);
    }
    assert_false(base64("Zg=", true, ""));
    struct buf out = {0};
    crypto_base64_encode(SLICE_LITERAL("fooba"), &out);
    assert_string_equal(out.data, "Zm9vYmE=");
    buf_free(&out);
}

static void hex_is_strict(void **state)
{
    (void)state;
    struct buf out = {0};
    assert_true(crypto_hex_decode(SLICE_LITERAL("00fFa5"), &out));
    assert_memory_equal(out.data, "\x00\xff\xa5", 3);
    assert_false(crypto_hex_decode(SLICE_LITERAL("0"), &out));
    assert_false(crypto_hex_decode(SLICE_LITERAL("00 g"), &out));
    assert_int_equal(out.len, 3);
    crypto_hex_encode(SLICE_LITERAL("\x00\xff\xa5"), &out);
    assert_memory_equal(out.data,
                        "\x00\xff\xa5"
                        "00ffa5",
                        10);
    assert_int_equal(out.len, 9);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac_matches_rfc_4231),
        cmocka_unit_test(the_reused_context_forgets_the_last_key),
        cmocka_unit_test(ed25519_signs_and_verifies_rfc_8032),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(hex_is_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
