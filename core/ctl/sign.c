#include "ctl/sign.h"

#include <string.h>

#include "base/crypto.h"

struct signer {
    const struct sign_job *job;
    struct arena *arena;
    struct http_header *headers;
    size_t n;
};

static void add_header(struct signer *s, const char *name, struct slice value)
{
    s->headers[s->n++] = (struct http_header){name, value};
}

static bool starts_with(struct slice text, const char *prefix)
{
    size_t n = strlen(prefix);
    return text.len >= n && memcmp(text.base, prefix, n) == 0;
}

static struct slice encoded(struct signer *s, struct slice bytes, bool base64)
{
    struct buf text = {0};
    if (base64)
        crypto_base64_encode(bytes, &text);
    else
        crypto_hex_encode(bytes, &text);
    struct slice copy = arena_copy(s->arena, text.data, text.len);
    buf_free(&text);
    return copy;
}

/* HMAC-SHA256 of an optional signed prefix and the body, as text. */
static struct slice hmac_text(struct signer *s, struct slice key, struct slice prefix, bool base64)
{
    unsigned char mac[CRYPTO_SHA256_BYTES];
    const struct slice parts[] = {prefix, s->job->body};
    crypto_hmac_sha256(key, parts, 2, mac);
    return encoded(s, (struct slice){(const char *)mac, sizeof mac}, base64);
}

/* A webhook-id is signed between dots and travels as a header: an event id that cannot be one is replaced by its
 * hash, so that the same event has the same id each time it is sent. */
static struct slice webhook_id(struct signer *s)
{
    struct slice id = s->job->event_id;
    bool fits = id.len > 0 && id.len <= 256;
    for (size_t i = 0; fits && i < id.len; i++)
        fits = id.base[i] > ' ' && id.base[i] < 0x7f && id.base[i] != '.';
    if (fits)
        return id;
    unsigned char hash[CRYPTO_SHA256_BYTES];
    crypto_sha256(id.len > 0 ? id : s->job->body, hash);
    struct slice hex = encoded(s, (struct slice){(const char *)hash, 16}, false);
    return arena_printf(s->arena, "msg_%.*s", SLICE_ARG(hex));
}

static bool decode_key(struct slice secret, const char *prefix, struct buf *key, struct error *err)
{
    size_t skip = starts_with(secret, prefix) ? strlen(prefix) : 0;
    if (crypto_base64_decode((struct slice){secret.base + skip, secret.len - skip}, true, key) && key->len > 0)
        return true;
    error_set(err, "the secret is not %s followed by base64", prefix);
    return false;
}

static bool sign_ed25519(struct signer *s, struct slice prefix, struct slice *signature, struct error *err)
{
    struct buf key = {0}, message = {0};
    unsigned char raw[CRYPTO_ED25519_SIGNATURE_BYTES];
    bool ok = decode_key(s->job->secret, "whsk_", &key, err);
    if (ok) {
        buf_add_slice(&message, prefix);
        buf_add_slice(&message, s->job->body);
        /* A key of 64 bytes is the seed with the public key behind it. */
        size_t seed = key.len == 2 * CRYPTO_ED25519_KEY_BYTES ? CRYPTO_ED25519_KEY_BYTES : key.len;
        ok = crypto_ed25519_sign((struct slice){key.data, seed}, buf_slice(&message), raw);
        if (!ok)
            error_set(err, "the whsk_ key is not an ed25519 key of 32 or 64 bytes");
    }
    if (ok) {
        struct slice text = encoded(s, (struct slice){(const char *)raw, sizeof raw}, true);
        *signature = arena_printf(s->arena, "v1a,%.*s", SLICE_ARG(text));
    }
    memory_wipe(key.data, key.len);
    buf_free(&key);
    buf_free(&message);
    return ok;
}

static bool sign_hmac_v1(struct signer *s, struct slice prefix, struct slice *signature, struct error *err)
{
    struct buf key = {0};
    bool ok = decode_key(s->job->secret, "whsec_", &key, err);
    if (ok) {
        struct slice text = hmac_text(s, buf_slice(&key), prefix, true);
        *signature = arena_printf(s->arena, "v1,%.*s", SLICE_ARG(text));
    }
    memory_wipe(key.data, key.len);
    buf_free(&key);
    return ok;
}

static bool sign_standard_webhooks(struct signer *s, struct error *err)
{
    struct slice id = webhook_id(s), signature;
    struct slice timestamp = arena_printf(s->arena, "%lld", (long long)(s->job->signed_at.ms / 1000));
    struct slice prefix = arena_printf(s->arena, "%.*s.%.*s.", SLICE_ARG(id), SLICE_ARG(timestamp));
    bool ok = starts_with(s->job->secret, "whsk_") ? sign_ed25519(s, prefix, &signature, err)
                                                   : sign_hmac_v1(s, prefix, &signature, err);
    if (!ok)
        return false;
    add_header(s, "webhook-id", id);
    add_header(s, "webhook-timestamp", timestamp);
    add_header(s, "webhook-signature", signature);
    return true;
}

static bool sign_github(struct signer *s, struct error *err)
{
    (void)err;
    struct slice hex = hmac_text(s, s->job->secret, (struct slice){0}, false);
    add_header(s, "X-GitHub-Delivery", webhook_id(s));
    add_header(s, "X-Hub-Signature-256", arena_printf(s->arena, "sha256=%.*s", SLICE_ARG(hex)));
    return true;
}

static bool sign_stripe(struct signer *s, struct error *err)
{
    (void)err;
    long long seconds = (long long)(s->job->signed_at.ms / 1000);
    struct slice hex = hmac_text(s, s->job->secret, arena_printf(s->arena, "%lld.", seconds), false);
    add_header(s, "Stripe-Signature", arena_printf(s->arena, "t=%lld,v1=%.*s", seconds, SLICE_ARG(hex)));
    return true;
}

static bool sign_shopify(struct signer *s, struct error *err)
{
    (void)err;
    add_header(s, "X-Shopify-Webhook-Id", webhook_id(s));
    add_header(s, "X-Shopify-Hmac-SHA256", hmac_text(s, s->job->secret, (struct slice){0}, true));
    return true;
}

static bool sign_plain_hmac(struct signer *s, struct error *err)
{
    bool base64 = strcmp(s->job->hmac_encoding, "base64") == 0;
    if (!base64 && strcmp(s->job->hmac_encoding, "hex") != 0) {
        error_set(err, "--hmac-encoding is \"%s\"; it is hex or base64", s->job->hmac_encoding);
        return false;
    }
    struct slice text = hmac_text(s, s->job->secret, (struct slice){0}, base64);
    add_header(s, s->job->hmac_header, arena_printf(s->arena, "%s%.*s", s->job->hmac_prefix, SLICE_ARG(text)));
    return true;
}

bool sign(const struct sign_job *job, struct arena *arena, struct http_header headers[SIGN_MAX_HEADERS], size_t *n,
          struct error *err)
{
    static const struct {
        const char *name;
        bool (*sign)(struct signer *s, struct error *err);
    } schemes[] = {
        {"standard-webhooks", sign_standard_webhooks},
        {"github", sign_github},
        {"stripe", sign_stripe},
        {"shopify", sign_shopify},
        {"plain-hmac", sign_plain_hmac},
    };
    struct signer s = {job, arena, headers, 0};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (strcmp(schemes[i].name, job->scheme) != 0)
            continue;
        bool ok = schemes[i].sign(&s, err);
        *n = s.n;
        return ok;
    }
    error_set(err, "there is no scheme \"%s\": standard-webhooks, github, stripe, shopify or plain-hmac", job->scheme);
    return false;
}

struct slice sign_choose_secret(const char *values)
{
    while (*values != '\0') {
        size_t n = strcspn(values, " \t\r\n");
        if (n > 0 && strncmp(values, "whpk_", 5) != 0)
            return (struct slice){values, n};
        values += n;
        values += strspn(values, " \t\r\n");
    }
    return (struct slice){0};
}
