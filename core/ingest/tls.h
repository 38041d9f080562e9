/* TLS for the public listener: OpenSSL's context for HTTP/1.1 with TLS 1.2 or newer. */
#ifndef INGEST_TLS_H
#define INGEST_TLS_H

#include "base/error.h"

struct ssl_ctx_st;

/* NULL: err names the file. Reference counted and shared by threads; connections hold references of their own. */
struct ssl_ctx_st *tls_new(const char *cert_file, const char *key_file, struct error *err);
struct ssl_ctx_st *tls_share(struct ssl_ctx_st *tls); /* one more owner; NULL is allowed */
void tls_free(struct ssl_ctx_st *tls);                /* NULL is allowed */

#endif
