#include "ingest/tls.h"

#include <h2o.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL_CTX *fail(SSL_CTX *tls, struct error *err, const char *what, const char *file)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    ERR_clear_error();
    error_set(err, "%s '%s': %s", what, file, reason);
    SSL_CTX_free(tls);
    return NULL;
}

SSL_CTX *tls_new(const char *cert_file, const char *key_file, struct error *err)
{
    /* The library would speak HTTP/2 to whoever chose it: offering http/1.1 alone keeps it off. */
    static const h2o_iovec_t protocols[] = {{H2O_STRLIT("http/1.1")}, {NULL, 0}};
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL)
        return fail(NULL, err, "cannot set up TLS for", cert_file);
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (SSL_CTX_use_certificate_chain_file(tls, cert_file) != 1)
        return fail(tls, err, "cannot use WAYBILL_TLS_CERT_FILE", cert_file);
    if (SSL_CTX_use_PrivateKey_file(tls, key_file, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(tls) != 1)
        return fail(tls, err, "cannot use WAYBILL_TLS_KEY_FILE", key_file);
    h2o_ssl_register_alpn_protocols(tls, protocols);
    return tls;
}

SSL_CTX *tls_share(SSL_CTX *tls)
{
    if (tls != NULL)
        SSL_CTX_up_ref(tls);
    return tls;
}

void tls_free(SSL_CTX *tls)
{
    SSL_CTX_free(tls);
}

static STACK_OF(X509) * chain_of(SSL_CTX *tls)
{
    STACK_OF(X509) *chain = NULL;
    SSL_CTX_get0_chain_certs(tls, &chain);
    return chain;
}

bool tls_is_same(SSL_CTX *a, SSL_CTX *b)
{
    STACK_OF(X509) *chain_a = chain_of(a), *chain_b = chain_of(b);
    int n = chain_a == NULL ? 0 : sk_X509_num(chain_a);
    bool same = X509_cmp(SSL_CTX_get0_certificate(a), SSL_CTX_get0_certificate(b)) == 0 &&
                n == (chain_b == NULL ? 0 : sk_X509_num(chain_b));
    for (int i = 0; same && i < n; i++)
        same = X509_cmp(sk_X509_value(chain_a, i), sk_X509_value(chain_b, i)) == 0;
    return same;
}
