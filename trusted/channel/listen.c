#define _GNU_SOURCE /* accept4 */
#include "channel/listen.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct cmif_listener {
    int      fd;
    SSL_CTX *ctx;
    char     pin[CMIF_LISTEN_PIN_SIZE], address[CMIF_LISTEN_ADDRESS_SIZE];
};

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text ? text : "no reason given";
}

/* ---- the certificate ---- */

/* Clients pin it, so it says little and does not expire (RFC 5280 4.1.2.5). */
static bool self_sign(X509 *cert, EVP_PKEY *key)
{
    unsigned char name[] = "cmif";
    uint8_t       serial[16];
    X509_NAME    *subject = X509_get_subject_name(cert);
    BIGNUM       *number  = RAND_bytes(serial, sizeof serial) == 1 ? BN_bin2bn(serial, sizeof serial, NULL) : NULL;
    bool ok = number && X509_set_version(cert, 2) == 1 && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) &&
              X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, name, -1, -1, 0) == 1 &&
              X509_set_issuer_name(cert, subject) == 1 && X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
              ASN1_TIME_set_string(X509_getm_notAfter(cert), "99991231235959Z") == 1 &&
              X509_set_pubkey(cert, key) == 1 && X509_sign(cert, key, EVP_sha256()) > 0;
    BN_free(number);
    return ok;
}

/* Key and certificate in one file, so that they cannot come apart; written beside, then linked: of two programs that
 * start together one makes it, and both use it. */
static cmif_code make_own(const char *path, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    EVP_PKEY *key  = EVP_EC_gen("P-256");
    X509     *cert = X509_new();
    FILE     *file = NULL;
    char      beside[4200];
    int       fd = -1;

    if (snprintf(beside, sizeof beside, "%s.%ld", path, (long) getpid()) >= (int) sizeof beside) {
        rc = cmif_fail(err, CMIF_E_RANGE, "the path of the certificate is too long");
        goto done;
    }
    if (!key || !cert || !self_sign(cert, key)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "cannot make a certificate: %s", reason());
        goto done;
    }
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

static cmif_code tls_open(cmif_listener *listener, const cmif_listen_options *o, cmif_err *err)
{
    const char *cert = o->cert ? o->cert : o->own, *key = o->cert ? o->key : o->own;
    uint8_t     digest[32];
    unsigned    size = 0;

    ERR_clear_error();
    if (!o->cert && access(o->own, F_OK) != 0) {
        cmif_code rc = make_own(o->own, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    SSL_CTX *ctx = listener->ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "cannot set up TLS 1.3: %s", reason());
    }
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as a certificate in PEM: %s", cert, reason());
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as the private key of '%s': %s", key, cert, reason());
    }
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0); /* every connection is a handshake, and is bound to it */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY); /* else a read lasts as long as KeyUpdates come in */
    if (X509_digest(SSL_CTX_get0_certificate(ctx), EVP_sha256(), digest, &size) != 1 || size != sizeof digest) {
        return cmif_fail(err, CMIF_E_FORMAT, "cannot hash the certificate: %s", reason());
    }
    memcpy(listener->pin, "sha256:", 7);
    cmif_hex(digest, sizeof digest, listener->pin + 7);
    return CMIF_OK;
}

/* ---- the socket ---- */

static void say_address(const struct sockaddr_storage *from, socklen_t size, char out[static CMIF_LISTEN_ADDRESS_SIZE])
{
    char host[48], port[8];
    if (getnameinfo((const struct sockaddr *) from, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(out, CMIF_LISTEN_ADDRESS_SIZE, "unknown");
    } else {
        snprintf(out, CMIF_LISTEN_ADDRESS_SIZE, from->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    }
}

static cmif_code socket_open(cmif_listener *listener, const cmif_listen_options *o, cmif_err *err)
{
    const struct addrinfo   hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo        *found = NULL;
    struct sockaddr_storage here  = {0};
    socklen_t               size  = sizeof here;
    const int               one   = 1;
    const int               bad   = getaddrinfo(o->host, o->port, &hints, &found);
    if (bad) {
        return cmif_fail(err, CMIF_E_IO, "cannot look up %s:%s: %s", o->host, o->port, gai_strerror(bad));
    }
    listener->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok      = listener->fd >= 0 && setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(listener->fd, found->ai_addr, found->ai_addrlen) == 0 && listen(listener->fd, 64) == 0 &&
              getsockname(listener->fd, (struct sockaddr *) &here, &size) == 0;
    freeaddrinfo(found);
    if (!ok) {
        return cmif_fail(err, CMIF_E_IO, "cannot listen on %s:%s: %s", o->host, o->port, strerror(errno));
    }
    say_address(&here, size, listener->address);
    return CMIF_OK;
}

cmif_code cmif_listener_open(const cmif_listen_options *options, cmif_listener **out, cmif_err *err)
{
    cmif_listener *listener = calloc(1, sizeof *listener);
    if (!listener) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to listen");
    }
    listener->fd = -1;
    cmif_code rc = tls_open(listener, options, err);
    rc           = rc ? rc : socket_open(listener, options, err);
    if (rc == CMIF_OK) {
        *out     = listener;
        listener = NULL;
    }
    cmif_listener_free(listener);
    return rc;
}

void cmif_listener_free(cmif_listener *listener)
{
    if (listener) {
        if (listener->fd >= 0) {
            close(listener->fd);
        }
        SSL_CTX_free(listener->ctx);
    }
    free(listener);
}

const char *cmif_listener_pin(const cmif_listener *listener)
{
    return listener->pin;
}

const char *cmif_listener_address(const cmif_listener *listener)
{
    return listener->address;
}

cmif_code cmif_listener_wait(cmif_listener *listener, int wake, int *fd, char address[static CMIF_LISTEN_ADDRESS_SIZE],
                             cmif_err *err)
{
    const int one = 1;
    for (;;) {
        struct sockaddr_storage from = {0};
        socklen_t               size = sizeof from;
        struct pollfd           p[2] = {{.fd = listener->fd, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
        if (poll(p, 2, -1) < 0) {
            if (errno == EINTR && wake >= 0) {
                continue;
            }
            return cmif_fail(err, errno == EINTR ? CMIF_E_CANCELLED : CMIF_E_IO, "waiting for a connection: %s",
                             strerror(errno));
        }
        if (p[1].revents) {
            return cmif_fail(err, CMIF_E_CANCELLED, "asked to end");
        }
        const int taken = accept4(listener->fd, (struct sockaddr *) &from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (taken >= 0) {
            (void) setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            say_address(&from, size, address);
            *fd = taken;
            return CMIF_OK;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM) { /* others will end: look again soon */
            (void) poll(&p[1], 1, 100);
        } else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK || errno == EOPNOTSUPP) {
            return cmif_fail(err, CMIF_E_IO, "cannot take a connection: %s", strerror(errno));
        }
    }
}

cmif_code cmif_listener_greet(cmif_listener *listener, int fd, int seconds, cmif_channel **out, cmif_err *err)
{
    return cmif_channel_accept(fd, listener->ctx, seconds, out, err);
}
