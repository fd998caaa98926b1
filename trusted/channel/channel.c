#define _GNU_SOURCE /* struct ucred */
#include "channel/channel.h"

#include "base/bytes.h"
#include "channel/listen.h"
#include "channel/pin.h"
#include "wire/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct cmif_channel {
    int         fd;
    BIO_METHOD *method; /* of ssl's bio; must outlive it */
    SSL        *ssl;    /* NULL: a unix socket */
    cmif_err    fault;  /* TLS failed, and OpenSSL says why only once: nothing more can be sent or received */
    uint64_t    sent, received;
    bool        accepted; /* we are the server */

    bool     pinned; /* is there a pin? */
    cmif_pin pin;
};

/* ---- waiting ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until fd is ready for events, wake is readable, or the deadline has come. */
static cmif_code wait_for(int fd, short events, int wake, int64_t deadline, cmif_err *err)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = wake, .events = POLLIN}};
        int64_t       left = deadline - now_ms();
        int           n    = poll(p, 2, left < 0 ? 0 : left > 60000 ? 60000 : (int) left);
        if (n > 0 && (left > 0 || p[1].revents)) {
            return p[1].revents ? cmif_fail(err, CMIF_E_CANCELLED, "cancelled while waiting for the server") : CMIF_OK;
        }
        if (n < 0 && errno != EINTR) {
            return cmif_fail(err, CMIF_E_IO, "cannot wait for the server: %s", strerror(errno));
        }
        if (n >= 0 && left <= 0) {
            return cmif_fail(err, CMIF_E_IO,
                             "the server did not answer in time: is it overloaded, or the network down?");
        }
    }
}

/* ---- TLS ---- */

/* A socket BIO that raises no SIGPIPE; OpenSSL's own does. */
static int bio_read(BIO *bio, char *to, int room)
{
    const cmif_channel *channel = BIO_get_data(bio);
    ssize_t             n       = recv(channel->fd, to, (size_t) room, 0);
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        BIO_set_retry_read(bio);
    }
    return (int) n;
}

static int bio_write(BIO *bio, const char *from, int size)
{
    const cmif_channel *channel = BIO_get_data(bio);
    ssize_t             n       = send(channel->fd, from, (size_t) size, MSG_NOSIGNAL);
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        BIO_set_retry_write(bio);
    }
    return (int) n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void) bio, (void) number, (void) pointer;
    return command == BIO_CTRL_FLUSH;
}

/* Why the last call of OpenSSL failed. */
static const char *reason(void)
{
    const unsigned long code = ERR_peek_last_error();
    const char         *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    return text ? text : "no reason given";
}

/* A TLS call failed for good (SSL_get_error said `kind`): say so in a person's words. */
static cmif_code tls_fault(cmif_channel *channel, int kind, cmif_err *err)
{
    const int  saved   = errno;
    const int  why     = ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_SSL ? ERR_GET_REASON(ERR_peek_last_error()) : 0;
    const bool greeted = SSL_is_init_finished(channel->ssl);
    const long verify  = SSL_get_verify_result(channel->ssl);
    char       pin[CMIF_PIN_TEXT], found[CMIF_PIN_TEXT];

    if (kind == SSL_ERROR_ZERO_RETURN || why == SSL_R_UNEXPECTED_EOF_WHILE_READING ||
        (kind == SSL_ERROR_SYSCALL && saved == 0)) {
        return cmif_fail(err, CMIF_E_IO,
                         greeted ? channel->accepted ? "the client closed the connection"
                                                     : "the server closed the connection"
                                 : "closed while greeting: is it a cmif-server that listens with TLS?");
    }
    if (kind == SSL_ERROR_SYSCALL) {
        return cmif_fail(err, CMIF_E_IO, "the connection broke: %s%s", strerror(saved),
                         greeted ? "" : "; is it a cmif-server that listens with TLS?");
    }
    if (why == SSL_R_CERTIFICATE_VERIFY_FAILED && channel->pinned) {
        cmif_hex(channel->pin.wanted, CMIF_PIN_SIZE, pin);
        cmif_hex(channel->pin.found, CMIF_PIN_SIZE, found);
        return cmif_fail(
            err, CMIF_E_TRUST,
            "pinned is sha256:%s, the server has sha256:%s: ask its owner, and change the pin only if told so", pin,
            found);
    }
    if (why == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "the server's certificate is refused: %s; check the CA file, the host's name and the clock",
                         X509_verify_cert_error_string(verify));
    }
    if (why == SSL_R_WRONG_VERSION_NUMBER) {
        return cmif_fail(
            err, CMIF_E_TRUST,
            "expected TLS 1.3, found something else: is it the port of a cmif-server that listens with TLS?");
    }
    if (why == SSL_R_UNSUPPORTED_PROTOCOL || why == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION) {
        return cmif_fail(err, CMIF_E_TRUST, "expected TLS 1.3, the server has only an older TLS: is it a cmif-server?");
    }
    if (why == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL) {
        return cmif_fail(err, CMIF_E_TRUST, "the server does not speak cmif/1: is it a cmif-server of this version?");
    }
    if (why == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED) {
        return cmif_fail(err, CMIF_E_TRUST, "the server wants a client certificate: give yours, with its key");
    }
    return cmif_fail(err, why > SSL_AD_REASON_OFFSET ? CMIF_E_TRUST : CMIF_E_IO, "TLS failed: %s%s", reason(),
                     why > SSL_AD_REASON_OFFSET ? "; the server refuses us" : "");
}

static cmif_code tls_broken(const cmif_channel *channel, cmif_err *err)
{
    if (err) {
        *err = channel->fault;
    }
    return channel->fault.code;
}

/* What SSL_get_error says about `result`: wait and try again (OK), or an error. */
static cmif_code tls_again(cmif_channel *channel, int result, int wake, int64_t deadline, cmif_err *err)
{
    const int kind = SSL_get_error(channel->ssl, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        return wait_for(channel->fd, kind == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, wake, deadline, err);
    }
    tls_fault(channel, kind, &channel->fault);
    return tls_broken(channel, err);
}

/* OpenSSL would ask a person on the terminal for the passphrase of a key. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void) buffer, (void) size, (void) writing, (void) context;
    return -1;
}

static cmif_code tls_context(const cmif_peer *peer, cmif_channel *channel, SSL_CTX *ctx, cmif_err *err)
{
    static const unsigned char alpn[] = {6, 'c', 'm', 'i', 'f', '/', '1'};

    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE); /* so that a slow peer can be told from a dead one */
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);         /* else a read lasts as long as KeyUpdates come in */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 || SSL_CTX_set_alpn_protos(ctx, alpn, sizeof alpn)) {
        return cmif_fail(err, CMIF_E_TRUST, "this OpenSSL cannot do TLS 1.3: %s", reason());
    }
    if (peer->pin) {
        if (!cmif_pin_parse(peer->pin, &channel->pin)) {
            return cmif_fail(err, CMIF_E_TRUST,
                             "a pin is sha256: and 64 hex digits, as cmif-server prints it; found '%s'", peer->pin);
        }
        channel->pinned = true;
        SSL_CTX_set_cert_verify_callback(ctx, cmif_pin_check, &channel->pin);
    } else if (!peer->ca) {
        return cmif_fail(
            err, CMIF_E_TRUST,
            "no pin and no CA file to know the server by: give the pin that cmif-server prints when it starts");
    } else if (SSL_CTX_load_verify_file(ctx, peer->ca) != 1) {
        return cmif_fail(err, CMIF_E_IO, "cannot read CA certificates from '%s': %s", peer->ca, reason());
    }
    if (!peer->cert != !peer->key) {
        return cmif_fail(err, CMIF_E_TRUST, "a client certificate needs its key, and a key its certificate: give both");
    }
    if (peer->cert && SSL_CTX_use_certificate_chain_file(ctx, peer->cert) != 1) {
        return cmif_fail(err, CMIF_E_IO, "cannot read the client certificate '%s': %s", peer->cert, reason());
    }
    if (peer->key &&
        (SSL_CTX_use_PrivateKey_file(ctx, peer->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)) {
        return cmif_fail(err, CMIF_E_IO, "cannot use the client key '%s' (PEM, without a passphrase): %s", peer->key,
                         reason());
    }
    return CMIF_OK;
}

/* The name to check is an address or a host name; with a pin neither matters, and the name is only said (SNI). */
static bool tls_name(SSL *ssl, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];
    const bool    numeric = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    if (numeric) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

/* TLS over the channel's socket, not begun. */
static cmif_code tls_attach(cmif_channel *channel, SSL_CTX *ctx, cmif_err *err)
{
    channel->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "cmif socket");
    BIO *bio        = channel->method ? BIO_new(channel->method) : NULL;
    channel->ssl    = SSL_new(ctx);
    if (!bio || !channel->ssl) {
        BIO_free(bio);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
    }
    BIO_meth_set_read(channel->method, bio_read);
    BIO_meth_set_write(channel->method, bio_write);
    BIO_meth_set_ctrl(channel->method, bio_control);
    BIO_set_data(bio, channel);
    BIO_set_init(bio, 1);
    SSL_set_bio(channel->ssl, bio, bio);
    return CMIF_OK;
}

/* Everything that can be wrong on our side is found here, before anybody is connected to. */
static cmif_code tls_prepare(const cmif_peer *peer, cmif_channel *channel, cmif_err *err)
{
    ERR_clear_error();
    SSL_CTX  *ctx = SSL_CTX_new(TLS_client_method());
    cmif_code rc  = ctx ? tls_context(peer, channel, ctx, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
    rc            = rc ? rc : tls_attach(channel, ctx, err);
    if (rc == CMIF_OK && !tls_name(channel->ssl, peer->host)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
    }
    SSL_CTX_free(ctx);
    return rc;
}

static cmif_code tls_greet(cmif_channel *channel, int64_t deadline, cmif_err *err)
{
    const unsigned char *protocol;
    unsigned             size;
    int                  result = 0;

    while (result != 1) {
        ERR_clear_error();
        errno        = 0;
        result       = channel->accepted ? SSL_accept(channel->ssl) : SSL_connect(channel->ssl);
        cmif_code rc = result == 1 ? CMIF_OK : tls_again(channel, result, -1, deadline, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    SSL_get0_alpn_selected(channel->ssl, &protocol, &size);
    if (size != 6 || memcmp(protocol, "cmif/1", 6) != 0) {
        return cmif_fail(err, CMIF_E_TRUST, "the server speaks TLS 1.3, but not cmif/1: is it a cmif-server?");
    }
    if (channel->accepted) {
        return CMIF_OK;
    }
    /* Belt and braces: a handshake without a certificate needs a session ticket, and we take none. */
    if (channel->pinned ? !channel->pin.asked : SSL_get_verify_result(channel->ssl) != X509_V_OK) {
        return cmif_fail(err, CMIF_E_TRUST, "the server showed no certificate");
    }
    return CMIF_OK;
}

/* ---- sockets ---- */

static cmif_code unix_open(const cmif_peer *peer, cmif_channel *channel, int seconds, cmif_err *err)
{
    struct sockaddr_un   address  = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = seconds};
    struct ucred         who;
    socklen_t            who_size = sizeof who;

    if (strlen(peer->path) >= sizeof address.sun_path) {
        return cmif_fail(err, CMIF_E_IO, "the path has %zu bytes, a socket's has at most %zu: choose a shorter one",
                         strlen(peer->path), sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, peer->path, strlen(peer->path));
    channel->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (channel->fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make a socket: %s", strerror(errno));
    }
    /* connect() waits while too many others do; poll() would not show that */
    (void) setsockopt(channel->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int failed;
    do {
        failed = connect(channel->fd, (const struct sockaddr *) &address, sizeof address);
    } while (failed && errno == EINTR);
    if (failed) {
        return cmif_fail(err, CMIF_E_IO, "cannot connect: %s; is cmif-server running there?", strerror(errno));
    }
    if (getsockopt(channel->fd, SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot learn whose socket it is: %s", strerror(errno));
    }
    if (who.uid != geteuid()) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "the server there runs as user %u, expected %u: run it as the same user, or use TLS", who.uid,
                         geteuid());
    }
    if (fcntl(channel->fd, F_SETFL, O_NONBLOCK) != 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot set up the socket: %s", strerror(errno));
    }
    return CMIF_OK;
}

static cmif_code tcp_connect(const struct addrinfo *to, cmif_channel *channel, int64_t deadline, cmif_err *err)
{
    const int one    = 1;
    int       failed = 0;
    socklen_t size   = sizeof failed;

    channel->fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (channel->fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make a socket: %s", strerror(errno));
    }
    if (connect(channel->fd, to->ai_addr, to->ai_addrlen) != 0) {
        failed = errno;
    }
    if (failed == EINPROGRESS) {
        cmif_code rc = wait_for(channel->fd, POLLOUT, -1, deadline, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &failed, &size) != 0) {
            failed = errno;
        }
    }
    if (failed) {
        return cmif_fail(err, CMIF_E_IO, "cannot connect: %s; %s", strerror(failed),
                         failed == ECONNREFUSED ? "is cmif-server running there?" : "is the network up?");
    }
    (void) setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* slower without, not wrong */
    return CMIF_OK;
}

static cmif_code tcp_open(const cmif_peer *peer, cmif_channel *channel, int64_t deadline, cmif_err *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo      *all   = NULL;
    const int             bad   = getaddrinfo(peer->host, peer->port, &hints, &all);
    if (bad) {
        return cmif_fail(err, CMIF_E_IO, "cannot look up the address: %s; check host and port",
                         bad == EAI_SYSTEM ? strerror(errno) : gai_strerror(bad));
    }
    cmif_code rc = CMIF_E_IO;
    for (const struct addrinfo *to = all; to && rc != CMIF_OK; to = to->ai_next) {
        if (channel->fd >= 0) {
            close(channel->fd);
        }
        rc = tcp_connect(to, channel, deadline, err);
    }
    freeaddrinfo(all);
    return rc;
}

/* ---- the channel ---- */

cmif_code cmif_channel_open(const cmif_peer *peer, cmif_channel **out, cmif_err *err)
{
    const int     seconds = peer->connect_seconds > 0 ? peer->connect_seconds : 10;
    cmif_code     rc      = CMIF_OK;
    cmif_channel *channel = calloc(1, sizeof *channel);

    if (!channel) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a connection");
        goto done;
    }
    channel->fd = -1;
    if (peer->path) {
        rc = unix_open(peer, channel, seconds, err);
    } else {
        const int64_t deadline = now_ms() + (int64_t) seconds * 1000;
        rc                     = tls_prepare(peer, channel, err);
        if (rc == CMIF_OK) {
            rc = tcp_open(peer, channel, deadline, err);
        }
        if (rc == CMIF_OK) {
            rc = tls_greet(channel, deadline, err);
        }
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, peer->path ? "%s" : "%s:%s", peer->path ? peer->path : peer->host, peer->port);
        goto done;
    }
    *out    = channel;
    channel = NULL;
done:
    cmif_channel_free(channel);
    return rc;
}

cmif_code cmif_channel_accept(int fd, SSL_CTX *ctx, int seconds, cmif_channel **out, cmif_err *err)
{
    cmif_code     rc      = CMIF_OK;
    cmif_channel *channel = calloc(1, sizeof *channel);
    if (!channel) {
        close(fd);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a connection");
    }
    channel->fd       = fd;
    channel->accepted = true;
    rc                = tls_attach(channel, ctx, err);
    rc                = rc ? rc : tls_greet(channel, now_ms() + (int64_t) seconds * 1000, err);
    if (rc == CMIF_OK) {
        *out    = channel;
        channel = NULL;
    }
    cmif_channel_free(channel);
    return rc;
}

void cmif_channel_free(cmif_channel *channel)
{
    if (!channel) {
        return;
    }
    if (channel->ssl && channel->fault.code == CMIF_OK && SSL_is_init_finished(channel->ssl)) {
        ERR_clear_error();
        SSL_shutdown(channel->ssl); /* a goodbye if there is room for it */
    }
    SSL_free(channel->ssl);
    BIO_meth_free(channel->method);
    if (channel->fd >= 0) {
        close(channel->fd);
    }
    free(channel);
}

/* One attempt: bytes moved, or 0 after a wait that makes another attempt worthwhile. */
static cmif_code write_some(cmif_channel *channel, const uint8_t *bytes, size_t size, size_t *moved, int64_t deadline,
                            int wake, cmif_err *err)
{
    errno = 0;
    if (channel->fault.code != CMIF_OK) {
        return tls_broken(channel, err);
    }
    if (channel->ssl) {
        ERR_clear_error();
        const int result = SSL_write_ex(channel->ssl, bytes, size, moved);
        if (result == 1) {
            return CMIF_OK;
        }
        *moved = 0;
        return tls_again(channel, result, wake, deadline, err);
    }
    const ssize_t n = send(channel->fd, bytes, size, MSG_NOSIGNAL);
    *moved          = n > 0 ? (size_t) n : 0;
    if (n >= 0 || errno == EINTR) {
        return CMIF_OK;
    }
    if (errno != EAGAIN) {
        return cmif_fail(err, CMIF_E_IO, "the server is gone: %s", strerror(errno));
    }
    return wait_for(channel->fd, POLLOUT, wake, deadline, err);
}

static cmif_code read_some(cmif_channel *channel, uint8_t *buffer, size_t room, size_t *moved, int64_t deadline,
                           int wake, cmif_err *err)
{
    errno = 0;
    if (channel->fault.code != CMIF_OK) {
        return tls_broken(channel, err);
    }
    if (channel->ssl) {
        ERR_clear_error();
        const int result = SSL_read_ex(channel->ssl, buffer, room, moved);
        if (result == 1) {
            return CMIF_OK;
        }
        *moved = 0;
        return tls_again(channel, result, wake, deadline, err);
    }
    const ssize_t n = recv(channel->fd, buffer, room, 0);
    *moved          = n > 0 ? (size_t) n : 0;
    if (n > 0 || (n < 0 && errno == EINTR)) {
        return CMIF_OK;
    }
    if (n == 0) {
        return cmif_fail(err, CMIF_E_IO, "the server closed the connection");
    }
    if (errno != EAGAIN) {
        return cmif_fail(err, CMIF_E_IO, "the server is gone: %s", strerror(errno));
    }
    return wait_for(channel->fd, POLLIN, wake, deadline, err);
}

cmif_code cmif_channel_send(cmif_channel *channel, const void *bytes, size_t size, int seconds, int wake, cmif_err *err)
{
    const uint8_t *at       = bytes;
    int64_t        deadline = now_ms() + (int64_t) seconds * 1000;
    while (size) {
        size_t    moved = 0;
        cmif_code rc    = write_some(channel, at, size, &moved, deadline, wake, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (moved) {
            at += moved;
            size -= moved;
            channel->sent += moved;
            deadline = now_ms() + (int64_t) seconds * 1000;
        }
    }
    return CMIF_OK;
}

cmif_code cmif_channel_receive(cmif_channel *channel, void *buffer, size_t room, size_t *size, int seconds, int wake,
                               cmif_err *err)
{
    const int64_t deadline = now_ms() + (int64_t) seconds * 1000;
    size_t        moved    = 0;
    while (moved == 0) {
        cmif_code rc = read_some(channel, buffer, room, &moved, deadline, wake, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    channel->received += moved;
    *size = moved;
    return CMIF_OK;
}

/* SHA-256 over the DER SubjectPublicKeyInfo: the whole of it, algorithm included. */
static bool key_hash(const X509 *cert, uint8_t out[static 32])
{
    unsigned char *der  = NULL;
    const int      size = cert ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : 0;
    const bool     good = size > 0 && EVP_Digest(der, (size_t) size, out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return good;
}

cmif_code cmif_channel_binding(cmif_channel *channel, uint8_t exporter[static 32], uint8_t own_key[static 32],
                               uint8_t peer_key[static 32], cmif_err *err)
{
    static const char label[] = CMIF_WIRE_EXPORTER;
    uint8_t           value[32], own[32] = {0}, peer[32] = {0};
    int               signature;
    if (!channel->ssl) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "evidence needs TLS, since it is bound to a TLS connection: found a unix socket");
    }
    if (channel->fault.code != CMIF_OK) {
        return tls_broken(channel, err);
    }
    ERR_clear_error();
    /* Ours counts only if the server asked for it and we signed with it: else it has seen none. */
    const bool shown  = SSL_get_signature_nid(channel->ssl, &signature) == 1;
    X509      *theirs = SSL_get0_peer_certificate(channel->ssl);
    if (SSL_export_keying_material(channel->ssl, value, sizeof value, label, sizeof label - 1, NULL, 0, 0) != 1 ||
        ((theirs || !channel->accepted) && !key_hash(theirs, peer)) || /* a client may have none */
        (shown && !key_hash(SSL_get_certificate(channel->ssl), own))) {
        return cmif_fail(err, CMIF_E_IO, "cannot tell what binds evidence to this connection: %s", reason());
    }
    memcpy(exporter, value, sizeof value);
    memcpy(own_key, own, sizeof own);
    memcpy(peer_key, peer, sizeof peer);
    return CMIF_OK;
}

bool cmif_channel_ready(cmif_channel *channel)
{
    uint8_t byte;
    if (channel->ssl && channel->fault.code == CMIF_OK) {
        ERR_clear_error();
        errno            = 0;
        const int result = SSL_peek(channel->ssl, &byte, 1);
        const int kind   = SSL_get_error(channel->ssl, result);
        if (result <= 0 && kind != SSL_ERROR_WANT_READ && kind != SSL_ERROR_WANT_WRITE) {
            tls_fault(channel, kind, &channel->fault);
        }
        return result > 0 || channel->fault.code != CMIF_OK;
    }
    return channel->ssl || recv(channel->fd, &byte, 1, MSG_PEEK) >= 0 || (errno != EAGAIN && errno != EINTR);
}

uint64_t cmif_channel_sent(const cmif_channel *channel)
{
    return channel->sent;
}

uint64_t cmif_channel_received(const cmif_channel *channel)
{
    return channel->received;
}
