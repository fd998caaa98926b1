#include "server/tls.h"

#include "base/bytes.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *tls_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "no reason given";
}

/* $XDG_STATE_HOME/cmif, made when it is not there. */
static cmif_code state_folder(char *path, size_t size, cmif_err *err)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int         n;

    if (state && state[0] == '/') {
        n = snprintf(path, size, "%s/cmif", state);
    } else if (home && home[0] == '/') {
        n = snprintf(path, size, "%s/.local/state/cmif", home);
    } else {
        return cmif_fail(err, CMIF_E_IO,
                         "neither XDG_STATE_HOME nor HOME names a folder for the server's certificate: set "
                         "one, or name a certificate with --tls-cert and --tls-key");
    }
    if (n < 0 || (size_t) n >= size) {
        return cmif_fail(err, CMIF_E_RANGE, "the state folder's path is longer than %zu bytes", size - 1);
    }
    for (char *at = path + 1;; at++) {
        if (*at == '/' || *at == '\0') {
            char end = *at;
            *at      = '\0';
            int made = mkdir(path, 0700);
            int why  = errno;
            *at      = end;
            if (made != 0 && why != EEXIST) {
                return cmif_fail(err, CMIF_E_IO, "cannot make the state folder '%s': %s", path, strerror(why));
            }
            if (end == '\0') {
                return CMIF_OK;
            }
        }
    }
}

cmif_code cmif_tls_open(const cmif_tls_options *options, SSL_CTX **out, char pin[static CMIF_SERVE_PIN_SIZE],
                        cmif_err *err)
{
    cmif_code   rc   = CMIF_OK;
    SSL_CTX    *ctx  = NULL;
    const char *cert = options->cert, *key = options->key;
    char        own[4096];

    if (!cert) {
        rc = state_folder(own, sizeof own - sizeof "/server.pem", err);
        if (rc == CMIF_OK) {
            rc   = cmif_serve_own(strcat(own, "/server.pem"), "cmif-server", err);
            cert = key = own;
        }
    }
    rc = rc == CMIF_OK ? cmif_serve_tls(cert, key, &ctx, pin, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    if (options->client_ca) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->client_ca);
        if (!names || SSL_CTX_load_verify_file(ctx, options->client_ca) != 1) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as the CA of client certificates: %s",
                           options->client_ca, tls_reason());
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            SSL_CTX_free(ctx);
            return rc;
        }
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    *out = ctx;
    return CMIF_OK;
}

static bool key_hash(const X509 *cert, uint8_t out[static CMIF_WIRE_HASH_SIZE])
{
    unsigned char *der  = NULL;
    const int      size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    const bool     good = size > 0 && EVP_Digest(der, (size_t) size, out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return good;
}

cmif_code cmif_tls_own_key(SSL_CTX *ctx, uint8_t out[static CMIF_WIRE_HASH_SIZE], cmif_err *err)
{
    const X509 *cert = SSL_CTX_get0_certificate(ctx);
    return cert && key_hash(cert, out)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_FORMAT, "cannot hash the key of the certificate: %s", tls_reason());
}

cmif_code cmif_tls_exporter(SSL *ssl, uint8_t out[static 32], cmif_err *err)
{
    return SSL_export_keying_material(ssl, out, 32, CMIF_WIRE_EXPORTER, sizeof CMIF_WIRE_EXPORTER - 1, NULL, 0,
                                      /* use_context= */ 0) == 1
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "TLS exports no keying material: %s", tls_reason());
}

cmif_code cmif_tls_peer(SSL *ssl, uint8_t owner[static CMIF_WIRE_HASH_SIZE], cmif_err *err)
{
    const unsigned char *chosen = NULL;
    unsigned             size   = 0;
    X509                *cert   = SSL_get0_peer_certificate(ssl);

    SSL_get0_alpn_selected(ssl, &chosen, &size);
    if (size != sizeof CMIF_WIRE_ALPN - 1 || memcmp(chosen, CMIF_WIRE_ALPN, size) != 0) {
        return cmif_fail(err, CMIF_E_TRUST, "the client did not ask for ALPN " CMIF_WIRE_ALPN);
    }
    memset(owner, 0, CMIF_WIRE_HASH_SIZE);
    return !cert || key_hash(cert, owner)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_TRUST, "the client's key cannot be read: %s", tls_reason());
}
