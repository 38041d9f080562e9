/* The sender's half of the signature schemes: the headers that prove a body to a source. */
#ifndef CTL_SIGN_H
#define CTL_SIGN_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "ctl/http_client.h"

#define SIGN_MAX_HEADERS 6

struct sign_job {
    const char *scheme; /* standard-webhooks, github, stripe, shopify, plain-hmac */
    struct slice secret;
    struct slice event_id; /* what the sender calls the event; becomes the delivery id where the scheme has one */
    struct slice type;
    struct slice body;
    wall_time signed_at;
    const char *hmac_header, *hmac_prefix, *hmac_encoding; /* plain-hmac */
};

/* Fills headers (values in arena) and *n. false: err says what is wrong with the scheme or the secret. */
bool sign(const struct sign_job *job, struct arena *arena, struct http_header headers[SIGN_MAX_HEADERS], size_t *n,
          struct error *err) MUST_USE;

/* The first secret of the space-separated list that can sign (a public key cannot); empty when there is none. */
struct slice sign_choose_secret(const char *values);

#endif
