#include "serve/serve.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text ? text : "no reason given";
}

/* ---- a certificate of our own ---- */

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    const bool      ok        = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* Clients pin it, so it says little and does not expire. */
static bool self_sign(X509 *cert, EVP_PKEY *key, const char *common)
{
    BIGNUM    *serial = BN_new();
    X509_NAME *name   = X509_get_subject_name(cert);
    const bool ok =
        serial && X509_set_version(cert, 2) == 1 && BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
        BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) common, -1, -1, 0) == 1 &&
        X509_set_issuer_name(cert, name) == 1 && X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
        ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") == 1 && X509_set_pubkey(cert, key) == 1 &&
        add_extension(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1") &&
        add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, NID_ext_key_usage, "serverAuth") && X509_sign(cert, key, EVP_sha256()) > 0;
    BN_free(serial);
    return ok;
}

cmif_code cmif_serve_own(const char *path, const char *name, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    EVP_PKEY *key  = NULL;
    X509     *cert = NULL;
    FILE     *file = NULL;
    char      beside[4200];
    int       fd = -1;

    if (access(path, F_OK) == 0) {
        return CMIF_OK;
    }
    if (snprintf(beside, sizeof beside, "%s.%ld", path, (long) getpid()) >= (int) sizeof beside) {
        return cmif_fail(err, CMIF_E_RANGE, "the path of the certificate is too long");
    }
    ERR_clear_error();
    key  = EVP_EC_gen("P-256");
    cert = X509_new();
    if (!key || !cert || !self_sign(cert, key, name)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "cannot make a certificate: %s", reason());
        goto done;
    }
    /* key and certificate in one file, so that they cannot come apart; written beside, then linked */
    fd   = open(beside, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file || PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) != 1 || PEM_write_X509(file, cert) != 1 ||
        fflush(file) != 0 || fsync(fd) != 0 || (link(beside, path) != 0 && errno != EEXIST)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write the certificate '%s': %s", path, strerror(errno));
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
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

/* ---- the context ---- */

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                       unsigned in_size, void *context)
{
    static const unsigned char alpn[] = {6, 'c', 'm', 'i', 'f', '/', '1'};
    unsigned char             *chosen;
    (void) ssl, (void) context;
    if (SSL_select_next_proto(&chosen, out_size, alpn, sizeof alpn, in, in_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void) buffer, (void) size, (void) writing, (void) context;
    return -1;
}

cmif_code cmif_serve_tls(const char *cert, const char *key, SSL_CTX **out, char pin[static CMIF_SERVE_PIN_SIZE],
                         cmif_err *err)
{
    cmif_code rc  = CMIF_OK;
    SSL_CTX  *ctx = SSL_CTX_new(TLS_server_method());
    uint8_t   digest[EVP_MAX_MD_SIZE];
    unsigned  size = 0;

    ERR_clear_error();
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "cannot set up TLS 1.3: %s", reason());
        goto done;
    }
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase); /* nobody is there to be asked */
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as a certificate in PEM: %s", cert, reason());
        goto done;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as the private key of '%s': %s", key, cert, reason());
        goto done;
    }
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0); /* every connection is a handshake, and is bound to it */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY); /* else a read lasts as long as KeyUpdates come in */
    const X509 *own = SSL_CTX_get0_certificate(ctx);
    if (!own || X509_digest(own, EVP_sha256(), digest, &size) != 1 || size != 32) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot hash the certificate: %s", reason());
        goto done;
    }
    memcpy(pin, "sha256:", 7);
    cmif_hex(digest, size, pin + 7);
    *out = ctx;
    ctx  = NULL;
done:
    SSL_CTX_free(ctx);
    return rc;
}
