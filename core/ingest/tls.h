/* TLS for the public listener: OpenSSL's context for HTTP/1.1 with TLS 1.2 or newer. */
#ifndef INGEST_TLS_H
#define INGEST_TLS_H

#include <stdbool.h>

#include "base/error.h"

struct ssl_ctx_st;

/* NULL: err names the file. Reference counted and shared by threads; a connection holds one of its own from its
 * first bytes on, but not yet when it is accepted. */
struct ssl_ctx_st *tls_new(const char *cert_file, const char *key_file, struct error *err);
struct ssl_ctx_st *tls_share(struct ssl_ctx_st *tls);         /* one more owner; NULL is allowed */
bool tls_is_same(struct ssl_ctx_st *a, struct ssl_ctx_st *b); /* the same certificate and chain */
void tls_free(struct ssl_ctx_st *tls);                        /* NULL is allowed */

#endif
