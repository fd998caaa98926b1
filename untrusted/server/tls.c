#include "server/tls.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const unsigned char alpn[] = {sizeof CMIF_WIRE_ALPN - 1, 'c', 'm', 'i', 'f', '/', '1'};

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

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool            ok        = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* Key and certificate in one PEM file, so that they cannot come apart. Clients pin the certificate, so it says little
 * and does not expire (RFC 5280 4.1.2.5: 99991231235959Z). */
static cmif_code make_self_signed(FILE *file, cmif_err *err)
{
    cmif_code     rc       = CMIF_OK;
    EVP_PKEY     *key      = EVP_EC_gen("P-256");
    X509         *cert     = X509_new();
    BIGNUM       *serial   = BN_new();
    X509_NAME    *name     = cert ? X509_get_subject_name(cert) : NULL;
    unsigned char common[] = "cmif-server";

    bool ok = key && name && serial && X509_set_version(cert, 2) == 1 &&
              BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) &&
              X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common, -1, -1, 0) == 1 &&
              X509_set_issuer_name(cert, name) == 1 && X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
              ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") == 1 &&
              X509_set_pubkey(cert, key) == 1 &&
              add_extension(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1") &&
              add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(cert, NID_ext_key_usage, "serverAuth") && X509_sign(cert, key, EVP_sha256()) > 0;
    if (!ok) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "cannot make a certificate: %s", tls_reason());
    } else if (PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) != 1 || PEM_write_X509(file, cert) != 1) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write the certificate: %s", strerror(errno));
    }
    BN_free(serial);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

/* Write beside, then link: of two servers that start together one makes it, and both use it. */
static cmif_code make_own_certificate(const char *path, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    FILE     *file = NULL;
    char      beside[4200];

    snprintf(beside, sizeof beside, "%s.%ld", path, (long) getpid());
    int fd = open(beside, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || !(file = fdopen(fd, "w"))) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%s': %s", beside, strerror(errno));
        goto done;
    }
    rc = make_self_signed(file, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    if (fflush(file) != 0 || fsync(fd) != 0 || (link(beside, path) != 0 && errno != EEXIST)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%s': %s", path, strerror(errno));
    }
done:
    if (file) {
        fclose(file);
    } else if (fd >= 0) {
        close(fd);
    }
    if (fd >= 0) {
        unlink(beside);
    }
    return rc;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                       unsigned in_size, void *context)
{
    unsigned char *chosen;
    (void) ssl, (void) context;
    if (SSL_select_next_proto(&chosen, out_size, alpn, sizeof alpn, in, in_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static cmif_code certificate_pin(SSL_CTX *ctx, char pin[static CMIF_PIN_SIZE], cmif_err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned      size = 0;
    const X509   *cert = SSL_CTX_get0_certificate(ctx);

    if (!cert || X509_digest(cert, EVP_sha256(), digest, &size) != 1 || size != 32) {
        return cmif_fail(err, CMIF_E_FORMAT, "cannot hash the certificate: %s", tls_reason());
    }
    memcpy(pin, "sha256:", 7);
    cmif_hex(digest, size, pin + 7);
    return CMIF_OK;
}

cmif_code cmif_tls_open(const cmif_tls_options *options, SSL_CTX **out, char pin[static CMIF_PIN_SIZE], cmif_err *err)
{
    cmif_code   rc   = CMIF_OK;
    SSL_CTX    *ctx  = SSL_CTX_new(TLS_server_method());
    const char *cert = options->cert, *key = options->key;
    char        own[4096];

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "cannot set up TLS 1.3: %s", tls_reason());
        goto done;
    }
    if (!cert) {
        rc = state_folder(own, sizeof own - sizeof "/server.pem", err);
        if (rc != CMIF_OK) {
            goto done;
        }
        strcat(own, "/server.pem");
        if (access(own, F_OK) != 0) {
            rc = make_own_certificate(own, err);
            if (rc != CMIF_OK) {
                goto done;
            }
        }
        cert = key = own;
    }
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as a certificate in PEM: %s", cert, tls_reason());
        goto done;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as the private key of '%s': %s", key, cert, tls_reason());
        goto done;
    }
    if (options->client_ca) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->client_ca);
        if (!names || SSL_CTX_load_verify_file(ctx, options->client_ca) != 1) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as the CA of client certificates: %s",
                           options->client_ca, tls_reason());
            goto done;
        }
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0); /* every connection shows its certificate anew */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY); /* a record in each turn of the loop, however many KeyUpdates come */
    rc = certificate_pin(ctx, pin, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    *out = ctx;
    ctx  = NULL;
done:
    SSL_CTX_free(ctx);
    return rc;
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
    if (size != sizeof alpn - 1 || memcmp(chosen, alpn + 1, size) != 0) {
        return cmif_fail(err, CMIF_E_TRUST, "the client did not ask for ALPN " CMIF_WIRE_ALPN);
    }
    memset(owner, 0, CMIF_WIRE_HASH_SIZE);
    return !cert || key_hash(cert, owner)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_TRUST, "the client's key cannot be read: %s", tls_reason());
}
