/* The few cryptographic operations that signatures need, over OpenSSL. Thread-safe. */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"

#define CRYPTO_SHA256_BYTES            32
#define CRYPTO_ED25519_KEY_BYTES       32
#define CRYPTO_ED25519_SIGNATURE_BYTES 64

/* HMAC-SHA256 over the parts one after the other. The MAC context is kept per thread and reused. */
void crypto_hmac_sha256(struct slice key, const struct slice *parts, size_t n_parts,
                        unsigned char out[CRYPTO_SHA256_BYTES]);
void crypto_sha256(struct slice data, unsigned char out[CRYPTO_SHA256_BYTES]);

/* Ed25519 (RFC 8032). Wrong lengths verify as false. sign: seed is the 32-byte private key; false when it is not. */
bool crypto_ed25519_verify(struct slice public_key, struct slice message, struct slice signature);
bool crypto_ed25519_sign(struct slice seed, struct slice message, unsigned char out[CRYPTO_ED25519_SIGNATURE_BYTES]);

/* Compares in time that depends on the lengths only. */
bool crypto_equal(struct slice a, struct slice b);

/* Strict: standard alphabet (RFC 4648, section 4), right padding, no white space, no bits left over. Adds to out;
 * false leaves out as it was. Padding may be left off when allow_unpadded. */
bool crypto_base64_decode(struct slice text, bool allow_unpadded, struct buf *out);
void crypto_base64_encode(struct slice data, struct buf *out);

/* Strict pairs of hex digits, either case. */
bool crypto_hex_decode(struct slice text, struct buf *out);
void crypto_hex_encode(struct slice data, struct buf *out); /* lower case */
/* The same for n bytes into 2 n + 1 characters: a NUL is behind the digits. */
void crypto_hex(const unsigned char *bytes, size_t n, char *out);

#endif
