/* TLS for the public listener: OpenSSL's context for HTTP/1.1 with TLS 1.2 or newer. */
#ifndef INGEST_TLS_H
#define INGEST_TLS_H

#include "base/error.h"

struct ssl_ctx_st;

/* NULL: err names the file. Shared by threads; connections hold references of their own. */
struct ssl_ctx_st *tls_new(const char *cert_file, const char *key_file, struct error *err);
void tls_free(struct ssl_ctx_st *tls); /* NULL is allowed */

#endif
