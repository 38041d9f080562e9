#include "base/crypto.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>

/* OpenSSL failing at SHA-256 or HMAC means that the library itself is broken: no caller could do better. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

static pthread_once_t mac_once = PTHREAD_ONCE_INIT;
static pthread_key_t mac_key;

static void mac_free(void *context)
{
    EVP_MAC_CTX_free(context);
}

static void mac_key_create(void)
{
    if (pthread_key_create(&mac_key, mac_free) != 0)
        abort();
}

/* Fetching the algorithm costs more than the MAC of a whole event: one context a thread, freed when the thread ends. */
static EVP_MAC_CTX *mac_context(void)
{
    pthread_once(&mac_once, mac_key_create);
    EVP_MAC_CTX *context = pthread_getspecific(mac_key);
    if (context != NULL)
        return context;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    must(mac != NULL);
    context = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    must(context != NULL);
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    must(EVP_MAC_CTX_set_params(context, params));
    must(pthread_setspecific(mac_key, context) == 0);
    return context;
}

void crypto_hmac_sha256(struct slice key, const struct slice *parts, size_t n_parts,
                        unsigned char out[CRYPTO_SHA256_BYTES])
{
    static const unsigned char empty_key[1] = {0};
    EVP_MAC_CTX *context = mac_context();
    const unsigned char *bytes = key.len == 0 ? empty_key : (const unsigned char *)key.base;
    must(EVP_MAC_init(context, bytes, key.len, NULL));
    for (size_t i = 0; i < n_parts; i++) {
        if (parts[i].len > 0)
            must(EVP_MAC_update(context, (const unsigned char *)parts[i].base, parts[i].len));
    }
    size_t len = 0;
    must(EVP_MAC_final(context, out, &len, CRYPTO_SHA256_BYTES));
}

void crypto_sha256(struct slice data, unsigned char out[CRYPTO_SHA256_BYTES])
{
    unsigned int len = 0;
    must(EVP_Digest(data.base, data.len, out, &len, EVP_sha256(), NULL));
}

bool crypto_ed25519_verify(struct slice public_key, struct slice message, struct slice signature)
{
    if (public_key.len != CRYPTO_ED25519_KEY_BYTES || signature.len != CRYPTO_ED25519_SIGNATURE_BYTES)
        return false;
    EVP_PKEY *key =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)public_key.base, public_key.len);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = key != NULL && context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(context, (const unsigned char *)signature.base, signature.len,
                                 (const unsigned char *)message.base, message.len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return good;
}

bool crypto_ed25519_sign(struct slice seed, struct slice message, unsigned char out[CRYPTO_ED25519_SIGNATURE_BYTES])
{
    if (seed.len != CRYPTO_ED25519_KEY_BYTES)
        return false;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)seed.base, seed.len);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t len = CRYPTO_ED25519_SIGNATURE_BYTES;
    bool good = key != NULL && context != NULL && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestSign(context, out, &len, (const unsigned char *)message.base, message.len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return good;
}

bool crypto_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.base, b.base, a.len) == 0);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool crypto_base64_decode(struct slice text, bool allow_unpadded, struct buf *out)
{
    size_t digits = text.len;
    while (digits > 0 && text.len - digits < 2 && text.base[digits - 1] == '=')
        digits--;
    size_t padding = text.len - digits, tail = digits % 4;
    bool padded_right = text.len % 4 == 0;
    if (tail == 1 || (!padded_right && !(allow_unpadded && padding == 0)))
        return false;
    size_t start = out->len;
    unsigned bits = 0, held = 0;
    buf_reserve(out, digits);
    for (size_t i = 0; i < digits; i++) {
        int value = base64_value(text.base[i]);
        if (value < 0) {
            out->len = start;
            return false;
        }
        held = (held << 6 | (unsigned)value) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buf_add_char(out, (char)(held >> bits & 0xff));
        }
    }
    if ((held & ((1u << bits) - 1)) != 0) {
        out->len = start;
        return false;
    }
    return true;
}

void crypto_base64_encode(struct slice data, struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)data.base;
    buf_reserve(out, (data.len + 2) / 3 * 4);
    for (size_t i = 0; i < data.len; i += 3) {
        size_t left = data.len - i;
        unsigned three = (unsigned)p[i] << 16;
        if (left > 1)
            three |= (unsigned)p[i + 1] << 8;
        if (left > 2)
            three |= p[i + 2];
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=',
                        left > 2 ? digits[three & 63] : '='};
        buf_add(out, four, 4);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool crypto_hex_decode(struct slice text, struct buf *out)
{
    if (text.len % 2 != 0)
        return false;
    size_t start = out->len;
    for (size_t i = 0; i < text.len; i += 2) {
        int high = hex_value(text.base[i]), low = hex_value(text.base[i + 1]);
        if (high < 0 || low < 0) {
            out->len = start;
            return false;
        }
        buf_add_char(out, (char)(high << 4 | low));
    }
    return true;
}

void crypto_hex(const unsigned char *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
}

void crypto_hex_encode(struct slice data, struct buf *out)
{
    buf_reserve(out, data.len * 2);
    crypto_hex((const unsigned char *)data.base, data.len, out->data + out->len);
    out->len += data.len * 2;
}
