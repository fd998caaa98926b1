#include "channel/channel.h"

#include "base/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 10 << 20, DAY = 24 * 3600 };

/* ---- certificates, made here and now ---- */

typedef struct identity {
    EVP_PKEY *key;
    X509     *cert;
    char      pin[80];
    char      cert_path[128], key_path[128];
} identity;

static char     folder[64];
static identity ca, other_ca, good, other, expired, stranger, client;

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    CHECK(extension && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* names: as subjectAltName takes them; NULL: an authority. issuer NULL: signed by itself. */
static void make(identity *id, const char *name, const char *names, const identity *issuer, long from, long to)
{
    static long serial = 1;
    id->key            = EVP_EC_gen("P-256");
    id->cert           = X509_new();
    X509 *signer       = issuer ? issuer->cert : id->cert;
    X509_set_version(id->cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id->cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(id->cert), from);
    X509_gmtime_adj(X509_getm_notAfter(id->cert), to);
    X509_set_pubkey(id->cert, id->key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(id->cert), "CN", MBSTRING_ASC, (const unsigned char *) name, -1,
                               -1, 0);
    X509_set_issuer_name(id->cert, X509_get_subject_name(signer));
    add_extension(id->cert, signer, NID_basic_constraints, names ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (names) {
        add_extension(id->cert, signer, NID_subject_alt_name, names);
    }
    CHECK(X509_sign(id->cert, issuer ? issuer->key : id->key, EVP_sha256()) > 0);

    unsigned char digest[32];
    unsigned      size;
    X509_digest(id->cert, EVP_sha256(), digest, &size);
    strcpy(id->pin, "sha256:");
    for (size_t i = 0; i < sizeof digest; i++) {
        snprintf(id->pin + 7 + 2 * i, 3, "%02x", digest[i]);
    }
    snprintf(id->cert_path, sizeof id->cert_path, "%s/%s.pem", folder, name);
    snprintf(id->key_path, sizeof id->key_path, "%s/%s.key", folder, name);
    FILE *file = fopen(id->cert_path, "w");
    CHECK(file && PEM_write_X509(file, id->cert) == 1 && fclose(file) == 0);
    file = fopen(id->key_path, "w");
    CHECK(file && PEM_write_PrivateKey(file, id->key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0);
}

static void make_all(void)
{
    make(&ca, "ca", NULL, NULL, 0, DAY);
    make(&other_ca, "other_ca", NULL, NULL, 0, DAY);
    make(&good, "good", "DNS:localhost,IP:127.0.0.1", &ca, 0, DAY);
    make(&other, "other", "DNS:other.example,IP:127.0.0.2", &ca, 0, DAY);
    make(&expired, "expired", "DNS:localhost", &ca, -2 * DAY, -DAY);
    make(&stranger, "stranger", "DNS:localhost", NULL, 0, DAY);
    make(&client, "client", "DNS:client", &ca, 0, DAY);
}

static void unmake(identity *id)
{
    unlink(id->cert_path);
    unlink(id->key_path);
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

/* ---- a server of one connection, in a thread ---- */

typedef enum deed {
    SLOW,        /* read `amount` bytes, in small pieces with pauses */
    ECHO,        /* read `amount` bytes, then send them back; then wait for the client's goodbye */
    STALL,       /* greet, then nothing until told to end */
    HALF,        /* greet, send half of a record; the rest when told */
    CLOSE,       /* greet, read one byte, close without a goodbye */
    GOODBYE,     /* greet, say goodbye properly */
    NO_GREETING, /* accept, then nothing until told to end */
    SHUT_DOOR,   /* accept, close */
    NO_TLS       /* answer in plain text */
} deed;

typedef struct server {
    deed            what;
    const identity *id;      /* NULL: plain bytes on a unix socket */
    const char     *alpn;    /* length-prefixed; NULL: none */
    int             version; /* 0: 1.3 */
    bool            ask;     /* for a client certificate */
    size_t          amount;
    int             listener, tell[2];
    pthread_t       thread;
    char            port[8], path[100];
    bool            greeted, saw_client; /* what happened */
    uint8_t         exporter[32];        /* as the server sees it */
} server;

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                       unsigned in_size, void *context)
{
    const char *mine = context;
    (void) ssl;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_size, (const unsigned char *) mine, (unsigned) strlen(mine), in, in_size) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void nap(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void wait_until_told(const server *s)
{
    char byte;
    (void) !read(s->tell[0], &byte, 1);
}

static void tell(const server *s)
{
    (void) !write(s->tell[1], "x", 1);
}

static bool move_all(SSL *ssl, int fd, uint8_t *bytes, size_t size, bool out)
{
    for (size_t at = 0; at < size;) {
        int     n = (int) (size - at < 100000 ? size - at : 100000);
        ssize_t done =
            ssl ? (out ? SSL_write(ssl, bytes + at, n) : SSL_read(ssl, bytes + at, n))
                : (out ? send(fd, bytes + at, (size_t) n, MSG_NOSIGNAL) : recv(fd, bytes + at, (size_t) n, 0));
        if (done <= 0) {
            return false;
        }
        at += (size_t) done;
    }
    return true;
}

static void serve_half(SSL *ssl, int fd, const server *s)
{
    BIO *held = BIO_new(BIO_s_mem());
    BIO_up_ref(held);
    SSL_set0_wbio(ssl, held);
    SSL_write(ssl, "late", 4);
    char *record;
    long  size = BIO_get_mem_data(held, &record);
    CHECK(size > 20);
    (void) !send(fd, record, 10, MSG_NOSIGNAL);
    wait_until_told(s);
    (void) !send(fd, record + 10, (size_t) size - 10, MSG_NOSIGNAL);
    wait_until_told(s);
    BIO_free(held);
}

static void serve(server *s, int fd)
{
    SSL_CTX *ctx   = NULL;
    SSL     *ssl   = NULL;
    uint8_t *bytes = malloc(s->amount + 1);

    if (s->what == NO_GREETING) {
        wait_until_told(s);
        goto done;
    }
    if (s->what == SHUT_DOOR) {
        goto done;
    }
    if (s->what == NO_TLS) {
        static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
        (void) !send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
        wait_until_told(s);
        goto done;
    }
    if (s->id) {
        ctx = SSL_CTX_new(TLS_server_method());
        SSL_CTX_use_certificate(ctx, s->id->cert);
        SSL_CTX_use_PrivateKey(ctx, s->id->key);
        if (s->version) {
            SSL_CTX_set_max_proto_version(ctx, s->version);
        }
        if (s->alpn) {
            SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, (void *) (uintptr_t) s->alpn);
        }
        if (s->ask) {
            SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
            X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca.cert);
        }
        ssl = SSL_new(ctx);
        SSL_set_fd(ssl, fd);
        s->greeted    = SSL_accept(ssl) == 1;
        s->saw_client = SSL_get0_peer_certificate(ssl) != NULL;
        (void) SSL_export_keying_material(ssl, s->exporter, sizeof s->exporter, "EXPORTER-CMIF-attest-v1", 23, NULL, 0,
                                          0);
        if (!s->greeted) {
            goto done;
        }
    }
    switch (s->what) {
    case ECHO:
        if (move_all(ssl, fd, bytes, s->amount, false) && move_all(ssl, fd, bytes, s->amount, true)) {
            (void) move_all(ssl, fd, bytes, 1, false);
        }
        break;
    case SLOW:
        while (s->amount && move_all(ssl, fd, bytes, BIG / 20, false)) {
            nap(150);
            s->amount -= BIG / 20;
        }
        break;
    case HALF:
        serve_half(ssl, fd, s);
        break;
    case CLOSE:
        (void) move_all(ssl, fd, bytes, 1, false);
        break;
    case GOODBYE:
        SSL_shutdown(ssl);
        wait_until_told(s);
        break;
    default:
        wait_until_told(s);
        break;
    }
done:
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    free(bytes);
}

static void *server_main(void *context)
{
    server  *s = context;
    sigset_t all;
    sigfillset(&all); /* the server may write to who has gone; the client must not rely on that */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int fd = accept(s->listener, NULL, NULL);
    if (fd >= 0) {
        serve(s, fd);
        close(fd);
    }
    return NULL;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int                fd      = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(address.sun_path, path);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof address) == 0 && listen(fd, 1) == 0);
    return fd;
}

static int listen_tcp(char port[static 8])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t          size    = sizeof address;
    int                fd      = socket(AF_INET, SOCK_STREAM, 0);
    const int          small   = 1 << 16; /* so that what waits in the kernel is bounded */
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *) &address, size) == 0 && listen(fd, 1) == 0);
    CHECK(getsockname(fd, (struct sockaddr *) &address, &size) == 0);
    snprintf(port, 8, "%u", ntohs(address.sin_port));
    return fd;
}

static void start(server *s)
{
    CHECK(pipe(s->tell) == 0);
    if (s->id || s->what == NO_TLS || s->what == NO_GREETING || s->what == SHUT_DOOR) {
        s->listener = listen_tcp(s->port);
    } else {
        snprintf(s->path, sizeof s->path, "%s/socket", folder);
        s->listener = listen_unix(s->path);
    }
    CHECK(pthread_create(&s->thread, NULL, server_main, s) == 0);
}

static void end(server *s)
{
    tell(s);
    tell(s);
    shutdown(s->listener, SHUT_RDWR); /* in case nobody came */
    pthread_join(s->thread, NULL);
    close(s->listener);
    close(s->tell[0]);
    close(s->tell[1]);
    if (s->path[0]) {
        unlink(s->path);
    }
}

#define CMIF_ALPN "\6cmif/1"

static server tls_server(deed what, const identity *id)
{
    return (server){.what = what, .id = id, .alpn = CMIF_ALPN, .amount = 1};
}

static cmif_peer peer_of(const server *s)
{
    return s->path[0] ? (cmif_peer){.path = s->path, .connect_seconds = 5}
                      : (cmif_peer){.host = "localhost", .port = s->port, .connect_seconds = 5};
}

/* Does opening fail with this code, this in the text, and nothing else changed? */
static bool refused(const cmif_peer *peer, cmif_code code, const char *part)
{
    cmif_channel *channel = NULL;
    cmif_err      err     = {0};
    cmif_code     rc      = cmif_channel_open(peer, &channel, &err);
    bool          as_told = rc == code && err.code == code && strstr(err.text, part) && !channel;
    if (!as_told) {
        fprintf(stderr, "expected %s with '%s', found %s: %s\n", cmif_code_name(code), part, cmif_code_name(rc),
                err.text);
    }
    cmif_channel_free(channel);
    return as_told;
}

static cmif_channel *opened(const cmif_peer *peer)
{
    cmif_channel *channel = NULL;
    cmif_err      err     = {0};
    if (cmif_channel_open(peer, &channel, &err) != CMIF_OK) {
        fprintf(stderr, "cannot open: %s\n", err.text);
    }
    CHECK(channel != NULL);
    return channel;
}

/* One byte there and back. */
static bool talks(cmif_channel *channel)
{
    uint8_t byte = 0;
    size_t  size = 0;
    return channel && cmif_channel_send(channel, "k", 1, 5, -1, NULL) == CMIF_OK &&
           cmif_channel_receive(channel, &byte, 1, &size, 5, -1, NULL) == CMIF_OK && size == 1 && byte == 'k';
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- who is it ---- */

static void the_pinned_server_is_trusted_without_any_authority(void)
{
    server s = tls_server(ECHO, &stranger);
    start(&s);
    cmif_peer peer        = peer_of(&s);
    peer.pin              = stranger.pin;
    cmif_channel *channel = opened(&peer);
    CHECK(talks(channel));
    CHECK(cmif_channel_sent(channel) == 1 && cmif_channel_received(channel) == 1);
    cmif_channel_free(channel);
    end(&s);

    char loud[80]; /* capital digits are digits */
    strcpy(loud, expired.pin);
    for (char *c = loud + 7; *c; c++) {
        *c = *c >= 'a' ? (char) (*c - 32) : *c;
    }
    s = tls_server(ECHO, &expired); /* the pin alone decides */
    start(&s);
    peer     = peer_of(&s);
    peer.pin = loud;
    channel  = opened(&peer);
    CHECK(talks(channel));
    cmif_channel_free(channel);
    end(&s);
}

static void another_certificate_than_the_pinned_is_refused_and_learns_nothing(void)
{
    server s = tls_server(ECHO, &good);
    s.ask    = true;
    start(&s);
    cmif_peer peer = peer_of(&s);
    peer.pin       = stranger.pin;
    peer.ca        = ca.cert_path; /* an authority does not help against a pin */
    peer.cert      = client.cert_path;
    peer.key       = client.key_path;
    CHECK(refused(&peer, CMIF_E_TRUST, stranger.pin));
    end(&s);
    CHECK(!s.greeted && !s.saw_client);

    s = tls_server(ECHO, &good);
    start(&s);
    peer     = peer_of(&s);
    peer.pin = stranger.pin;
    CHECK(refused(&peer, CMIF_E_TRUST, good.pin)); /* the other fingerprint is there, too */
    end(&s);

    for (size_t at = 7; at < 71; at += 9) { /* one digit is enough */
        char pin[80];
        strcpy(pin, good.pin);
        pin[at] = pin[at] == '0' ? '1' : '0';
        s       = tls_server(ECHO, &good);
        start(&s);
        peer     = peer_of(&s);
        peer.pin = pin;
        CHECK(refused(&peer, CMIF_E_TRUST, "pinned is"));
        end(&s);
    }
}

static void an_authority_vouches_for_its_servers_and_their_names(void)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (size_t i = 0; i < 2; i++) {
        server s = tls_server(ECHO, &good);
        start(&s);
        cmif_peer peer        = peer_of(&s);
        peer.host             = hosts[i];
        peer.ca               = ca.cert_path;
        cmif_channel *channel = opened(&peer);
        CHECK(talks(channel));
        cmif_channel_free(channel);
        end(&s);
    }
}

static void a_certificate_that_proves_nothing_is_refused_with_the_reason(void)
{
    const struct {
        const identity *server;
        const char     *host, *ca, *reason;
    } cases[] = {
        {&good, "localhost", other_ca.cert_path, "local issuer"},
        {&stranger, "localhost", ca.cert_path, "self-signed"},
        {&other, "localhost", ca.cert_path, "hostname mismatch"},
        {&other, "127.0.0.1", ca.cert_path, "IP address mismatch"},
        {&expired, "localhost", ca.cert_path, "expired"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        server s = tls_server(ECHO, cases[i].server);
        start(&s);
        cmif_peer peer = peer_of(&s);
        peer.host      = cases[i].host;
        peer.ca        = cases[i].ca;
        CHECK(refused(&peer, CMIF_E_TRUST, cases[i].reason));
        end(&s);
        CHECK(!s.greeted);
    }
}

static void a_server_that_asks_gets_our_certificate(void)
{
    for (int give = 0; give < 2; give++) {
        server s = tls_server(ECHO, &good);
        s.ask    = true;
        start(&s);
        cmif_peer peer        = peer_of(&s);
        peer.pin              = good.pin;
        peer.cert             = give ? client.cert_path : NULL;
        peer.key              = give ? client.key_path : NULL;
        cmif_channel *channel = opened(&peer);
        if (give) {
            CHECK(talks(channel));
        } else { /* TLS 1.3 says so only after the greeting */
            cmif_err err = {0};
            uint8_t  byte;
            size_t   size;
            CHECK(cmif_channel_receive(channel, &byte, 1, &size, 5, -1, &err) == CMIF_E_TRUST);
            CHECK(strstr(err.text, "client certificate"));
            CHECK(cmif_channel_ready(channel));
            CHECK(cmif_channel_send(channel, "x", 1, 5, -1, &err) == CMIF_E_TRUST); /* and it stays so */
        }
        cmif_channel_free(channel);
        end(&s);
        CHECK(s.saw_client == give);
    }
}

static void only_tls_1_3_with_our_protocol_will_do(void)
{
    const struct {
        server      s;
        cmif_code   code;
        const char *text;
    } cases[] = {
        {{.what = ECHO, .id = &good, .alpn = CMIF_ALPN, .version = TLS1_2_VERSION}, CMIF_E_TRUST, "older TLS"},
        {{.what = ECHO, .id = &good}, CMIF_E_TRUST, "not cmif/1"},
        {{.what = ECHO, .id = &good, .alpn = "\2h2"}, CMIF_E_TRUST, "does not speak cmif/1"},
        {{.what = ECHO, .id = &good, .alpn = "\6cmif/2"}, CMIF_E_TRUST, "does not speak cmif/1"},
        {{.what = NO_TLS}, CMIF_E_TRUST, "expected TLS 1.3"},
        {{.what = SHUT_DOOR}, CMIF_E_IO, "is it a cmif-server"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        server s = cases[i].s;
        start(&s);
        cmif_peer peer = peer_of(&s);
        peer.pin       = good.pin;
        CHECK(refused(&peer, cases[i].code, cases[i].text));
        end(&s);
    }
}

static void our_own_mistakes_are_named_before_anybody_is_asked(void)
{
    static const char *const bad_pins[] = {"",
                                           "sha256:",
                                           "00",
                                           "sha1:0000000000000000000000000000000000000000",
                                           "sha256:000000000000000000000000000000000000000000000000000000000000000",
                                           "sha256:00000000000000000000000000000000000000000000000000000000000000000",
                                           "sha256:000000000000000000000000000000000000000000000000000000000000000g",
                                           "sha256: 00000000000000000000000000000000000000000000000000000000000000"};
    cmif_peer                peer       = {.host = "localhost", .port = "1", .connect_seconds = 5};
    CHECK(refused(&peer, CMIF_E_TRUST, "no pin and no CA"));
    for (size_t i = 0; i < sizeof bad_pins / sizeof *bad_pins; i++) {
        peer.pin = bad_pins[i];
        CHECK(refused(&peer, CMIF_E_TRUST, "64 hex digits"));
    }
    peer.pin = NULL;
    peer.ca  = "/nonexistent/ca.pem";
    CHECK(refused(&peer, CMIF_E_IO, "/nonexistent/ca.pem"));
    peer.ca = good.key_path; /* no certificate in it */
    CHECK(refused(&peer, CMIF_E_IO, good.key_path));
    peer.ca   = ca.cert_path;
    peer.cert = client.cert_path;
    CHECK(refused(&peer, CMIF_E_TRUST, "give both"));
    peer.cert = NULL;
    peer.key  = client.key_path;
    CHECK(refused(&peer, CMIF_E_TRUST, "give both"));
    peer.cert = "/nonexistent/cert.pem";
    CHECK(refused(&peer, CMIF_E_IO, "/nonexistent/cert.pem"));
    peer.cert = client.cert_path;
    peer.key  = good.key_path; /* of another certificate */
    CHECK(refused(&peer, CMIF_E_IO, "mismatch"));

    char locked[128]; /* must not ask a person for the passphrase */
    snprintf(locked, sizeof locked, "%s/locked.key", folder);
    FILE *file = fopen(locked, "w");
    CHECK(file &&
          PEM_write_PrivateKey(file, client.key, EVP_aes_128_cbc(), (const unsigned char *) "secret", 6, NULL, NULL) ==
              1 &&
          fclose(file) == 0);
    peer.key = locked;
    CHECK(refused(&peer, CMIF_E_IO, "without a passphrase"));
    unlink(locked);

    peer = (cmif_peer){.host = "localhost", .port = "no such service", .pin = good.pin};
    CHECK(refused(&peer, CMIF_E_IO, "check host and port"));
}

/* ---- nobody there, or slow ---- */

static void a_closed_port_is_said_to_be_closed(void)
{
    char port[8];
    close(listen_tcp(port));
    cmif_peer peer = {.host = "127.0.0.1", .port = port, .pin = good.pin, .connect_seconds = 5};
    CHECK(refused(&peer, CMIF_E_IO, "refused"));
    CHECK(refused(&peer, CMIF_E_IO, port));
}

static void a_server_that_does_not_greet_is_left_in_time(void)
{
    server s = {.what = NO_GREETING};
    start(&s);
    cmif_peer peer       = peer_of(&s);
    peer.pin             = good.pin;
    peer.connect_seconds = 1;
    int64_t before       = now_ms();
    CHECK(refused(&peer, CMIF_E_IO, "in time"));
    CHECK(now_ms() - before >= 900 && now_ms() - before < 3000);
    end(&s);
}

/* The rest is asked of both kinds of channel. */
static const identity *const kinds[] = {&good, NULL};
#define FOR_BOTH_KINDS(k) for (size_t k = 0; k < 2; k++)

static server kind_server(size_t kind, deed what)
{
    return (server){.what = what, .id = kinds[kind], .alpn = CMIF_ALPN, .amount = 1};
}

static cmif_channel *connected(server *s)
{
    start(s);
    cmif_peer peer = peer_of(s);
    peer.pin       = good.pin;
    return opened(&peer);
}

static void ten_megabytes_go_there_and_back(void)
{
    uint8_t *out = malloc(BIG), *in = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) {
        out[i] = (uint8_t) (i * 2654435761u >> 13);
    }
    FOR_BOTH_KINDS(k)
    {
        server s              = kind_server(k, ECHO);
        s.amount              = BIG;
        cmif_channel *channel = connected(&s);
        size_t        at = 0, size = 1;
        CHECK(cmif_channel_send(channel, out, BIG, 10, -1, NULL) == CMIF_OK);
        while (at < BIG && cmif_channel_receive(channel, in + at, BIG - at, &size, 10, -1, NULL) == CMIF_OK) {
            CHECK(size >= 1 && size <= BIG - at);
            at += size;
        }
        CHECK(at == BIG && memcmp(in, out, BIG) == 0);
        CHECK(cmif_channel_sent(channel) == BIG && cmif_channel_received(channel) == BIG);
        CHECK(cmif_channel_send(channel, out, 0, 10, -1, NULL) == CMIF_OK);
        cmif_channel_free(channel);
        end(&s);
    }
    free(out);
    free(in);
}

static void a_peer_that_stalls_is_left_in_time(void)
{
    uint8_t *bytes = calloc(1, BIG);
    FOR_BOTH_KINDS(k)
    {
        server        s       = kind_server(k, STALL);
        cmif_channel *channel = connected(&s);
        size_t        size    = 99;
        cmif_err      err     = {0};
        CHECK(!cmif_channel_ready(channel));
        int64_t before = now_ms();
        CHECK(cmif_channel_receive(channel, bytes, 10, &size, 1, -1, &err) == CMIF_E_IO && size == 99);
        CHECK(strstr(err.text, "in time") && now_ms() - before >= 900 && now_ms() - before < 3000);
        before = now_ms();
        CHECK(cmif_channel_send(channel, bytes, BIG, 1, -1, &err) == CMIF_E_IO);
        CHECK(strstr(err.text, "in time") && now_ms() - before >= 900 && now_ms() - before < 3000);
        cmif_channel_free(channel);
        end(&s);
    }
    free(bytes);
}

static void a_peer_that_is_slow_is_not_a_peer_that_stalls(void)
{
    uint8_t *bytes = calloc(1, BIG);
    FOR_BOTH_KINDS(k)
    {
        server s              = kind_server(k, SLOW);
        s.amount              = BIG;
        cmif_channel *channel = connected(&s);
        int64_t       before  = now_ms();
        CHECK(cmif_channel_send(channel, bytes, BIG, 1, -1, NULL) == CMIF_OK);
        CHECK(now_ms() - before > 1200); /* longer than the patience, but never without progress for so long */
        cmif_channel_free(channel);
        end(&s);
    }
    free(bytes);
}

static void a_readable_wake_descriptor_ends_the_waiting(void)
{
    uint8_t *bytes = calloc(1, BIG);
    FOR_BOTH_KINDS(k)
    {
        server        s       = kind_server(k, ECHO);
        cmif_channel *channel = connected(&s);
        size_t        size    = 99;
        int           wake[2];
        CHECK(pipe(wake) == 0 && write(wake[1], "x", 1) == 1);
        int64_t before = now_ms();
        CHECK(cmif_channel_receive(channel, bytes, 10, &size, 20, wake[0], NULL) == CMIF_E_CANCELLED && size == 99);
        CHECK(talks(channel)); /* as good as before */
        CHECK(cmif_channel_receive(channel, bytes, 10, &size, 20, wake[0], NULL) == CMIF_E_CANCELLED);
        cmif_channel_free(channel);
        end(&s);

        s       = kind_server(k, STALL);
        channel = connected(&s);
        CHECK(cmif_channel_send(channel, bytes, BIG, 20, wake[0], NULL) == CMIF_E_CANCELLED);
        CHECK(now_ms() - before < 5000);
        cmif_channel_free(channel);
        end(&s);
        close(wake[0]);
        close(wake[1]);
    }
    free(bytes);
}

/* SIGPIPE has its default action here: it would end this program. */
static void a_peer_that_goes_away_is_an_error_and_no_signal(void)
{
    uint8_t *bytes = calloc(1, BIG);
    FOR_BOTH_KINDS(k)
    {
        server        s       = kind_server(k, CLOSE);
        cmif_channel *channel = connected(&s);
        size_t        size    = 99;
        cmif_err      err     = {0};
        cmif_code     rc      = CMIF_OK;
        CHECK(cmif_channel_send(channel, "x", 1, 5, -1, &err) == CMIF_OK);
        CHECK(cmif_channel_receive(channel, bytes, 10, &size, 5, -1, &err) == CMIF_E_IO && size == 99);
        CHECK(strstr(err.text, "closed") || strstr(err.text, "gone") || strstr(err.text, "broke"));
        CHECK(cmif_channel_ready(channel));
        CHECK(cmif_channel_receive(channel, bytes, 10, &size, 5, -1, &err) == CMIF_E_IO);
        CHECK(cmif_channel_send(channel, bytes, BIG, 5, -1, &err) == CMIF_E_IO);
        cmif_channel_free(channel);
        end(&s);

        s       = kind_server(k, CLOSE);
        channel = connected(&s);
        CHECK(cmif_channel_send(channel, bytes, BIG, 5, -1, &err) == CMIF_E_IO); /* in the middle */
        cmif_channel_free(channel);
        end(&s);

        s       = kind_server(k, CLOSE); /* nothing unread there: no reset, but a half-closed connection */
        channel = connected(&s);
        CHECK(cmif_channel_send(channel, "x", 1, 5, -1, &err) == CMIF_OK);
        for (int i = 0; i < 3; i++) {
            nap(50);
            rc = cmif_channel_send(channel, "x", 1, 5, -1, &err);
        }
        CHECK(rc == CMIF_E_IO);
        cmif_channel_free(channel);
        end(&s);
    }
    server        s       = tls_server(GOODBYE, &good);
    cmif_channel *channel = connected(&s);
    size_t        size;
    cmif_err      err = {0};
    CHECK(cmif_channel_receive(channel, bytes, 10, &size, 5, -1, &err) == CMIF_E_IO && strstr(err.text, "closed"));
    cmif_channel_free(channel);
    end(&s);
    free(bytes);
}

static bool soon_ready(cmif_channel *channel)
{
    for (int i = 0; i < 400; i++) {
        if (cmif_channel_ready(channel)) {
            return true;
        }
        nap(5);
    }
    return false;
}

static void ready_means_that_a_receive_will_not_wait(void)
{
    FOR_BOTH_KINDS(k)
    {
        server s              = kind_server(k, ECHO);
        s.amount              = 3;
        cmif_channel *channel = connected(&s);
        uint8_t       byte;
        size_t        size;
        CHECK(!cmif_channel_ready(channel));
        CHECK(cmif_channel_send(channel, "abc", 3, 5, -1, NULL) == CMIF_OK);
        for (int i = 0; i < 3; i++) {
            CHECK(soon_ready(channel)); /* also for what TLS holds already */
            CHECK(cmif_channel_receive(channel, &byte, 1, &size, 0, -1, NULL) == CMIF_OK && byte == 'a' + i);
        }
        CHECK(!cmif_channel_ready(channel));
        cmif_channel_free(channel);
        end(&s);
    }
    server        s       = tls_server(HALF, &good);
    cmif_channel *channel = connected(&s);
    uint8_t       bytes[4];
    size_t        size;
    nap(100); /* ten bytes of the record are in the socket by now */
    CHECK(!cmif_channel_ready(channel));
    tell(&s);
    CHECK(soon_ready(channel));
    CHECK(cmif_channel_receive(channel, bytes, 4, &size, 5, -1, NULL) == CMIF_OK && memcmp(bytes, "late", 4) == 0);
    cmif_channel_free(channel);
    end(&s);
}

/* ---- unix sockets ---- */

static void a_socket_that_is_not_there_or_cannot_be_is_named(void)
{
    char path[200];
    snprintf(path, sizeof path, "%s/absent", folder);
    cmif_peer peer = {.path = path};
    CHECK(refused(&peer, CMIF_E_IO, "absent"));
    CHECK(refused(&peer, CMIF_E_IO, "is cmif-server running"));
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    CHECK(refused(&peer, CMIF_E_IO, "shorter"));
    path[108] = '\0'; /* one more than fits */
    CHECK(refused(&peer, CMIF_E_IO, "shorter"));
}

static void a_socket_of_another_user_is_refused(void)
{
    if (geteuid() != 0) {
        printf("       not root: no other user to be\n");
        return;
    }
    char path[100], byte;
    int  up[2];
    snprintf(path, sizeof path, "%s/other_user", folder);
    CHECK(pipe(up) == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(up[0]);
        int fd = setuid(65534) == 0 ? listen_unix(path) : -1;
        (void) !write(up[1], "x", 1);
        (void) !accept(fd, NULL, NULL);
        pause();
        _exit(0);
    }
    CHECK(child > 0 && read(up[0], &byte, 1) == 1);
    cmif_peer peer = {.path = path, .connect_seconds = 5};
    CHECK(refused(&peer, CMIF_E_TRUST, "65534"));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(up[0]);
    close(up[1]);
    unlink(path);
}

/* ---- what evidence is bound to ---- */

static bool is_key_of(const uint8_t hash[static 32], const identity *id)
{
    unsigned char *der = NULL;
    uint8_t        expected[32];
    const int      size = i2d_PUBKEY(id->key, &der);
    const bool     same = size > 0 && EVP_Digest(der, (size_t) size, expected, NULL, EVP_sha256(), NULL) == 1 &&
                      !memcmp(hash, expected, sizeof expected);
    OPENSSL_free(der);
    return same;
}

static void a_binding_is_of_this_connection_and_of_the_keys_that_it_was_made_with(void)
{
    static const uint8_t none[32] = {0};
    uint8_t              exporter[3][32], own[32], other_key[32];
    for (int i = 0; i < 3; i++) { /* asked for our certificate; not asked; having none */
        server s = tls_server(ECHO, &good);
        s.ask    = i == 0;
        start(&s);
        cmif_peer peer        = peer_of(&s);
        peer.pin              = good.pin;
        peer.cert             = i < 2 ? client.cert_path : NULL;
        peer.key              = i < 2 ? client.key_path : NULL;
        cmif_channel *channel = opened(&peer);
        CHECK(cmif_channel_binding(channel, exporter[i], own, other_key, NULL) == CMIF_OK);
        CHECK(is_key_of(other_key, &good) && (i == 0 ? is_key_of(own, &client) : !memcmp(own, none, 32)));
        CHECK(talks(channel));
        cmif_channel_free(channel);
        end(&s);
        CHECK(s.saw_client == (i == 0) && !memcmp(exporter[i], s.exporter, 32));
    }
    CHECK(memcmp(exporter[0], exporter[1], 32) != 0 && memcmp(exporter[1], exporter[2], 32) != 0 &&
          memcmp(exporter[2], none, 32) != 0);
}

static void what_is_no_tls_or_broke_binds_nothing(void)
{
    uint8_t  exporter[32] = {7}, own[32] = {7}, other_key[32] = {7}, byte;
    size_t   size;
    cmif_err err = {0};
    server   s   = {.what = ECHO, .amount = 1};
    start(&s);
    cmif_peer     peer    = peer_of(&s);
    cmif_channel *channel = opened(&peer);
    CHECK(cmif_channel_binding(channel, exporter, own, other_key, &err) == CMIF_E_UNSUPPORTED &&
          strstr(err.text, "evidence needs TLS"));
    cmif_channel_free(channel);
    end(&s);

    s = tls_server(CLOSE, &good);
    start(&s);
    peer     = peer_of(&s);
    peer.pin = good.pin;
    channel  = opened(&peer);
    CHECK(cmif_channel_send(channel, "x", 1, 5, -1, NULL) == CMIF_OK &&
          cmif_channel_receive(channel, &byte, 1, &size, 5, -1, NULL) == CMIF_E_IO);
    CHECK(cmif_channel_binding(channel, exporter, own, other_key, NULL) == CMIF_E_IO);
    CHECK(exporter[0] == 7 && own[0] == 7 && other_key[0] == 7);
    cmif_channel_free(channel);
    end(&s);
}

int main(void)
{
    strcpy(folder, "/tmp/cmif-channel-XXXXXX");
    if (!mkdtemp(folder) || chmod(folder, 0777) != 0) {
        return 1;
    }
    make_all();
    RUN(the_pinned_server_is_trusted_without_any_authority);
    RUN(another_certificate_than_the_pinned_is_refused_and_learns_nothing);
    RUN(an_authority_vouches_for_its_servers_and_their_names);
    RUN(a_certificate_that_proves_nothing_is_refused_with_the_reason);
    RUN(a_server_that_asks_gets_our_certificate);
    RUN(only_tls_1_3_with_our_protocol_will_do);
    RUN(our_own_mistakes_are_named_before_anybody_is_asked);
    RUN(a_closed_port_is_said_to_be_closed);
    RUN(a_server_that_does_not_greet_is_left_in_time);
    RUN(ten_megabytes_go_there_and_back);
    RUN(a_peer_that_stalls_is_left_in_time);
    RUN(a_peer_that_is_slow_is_not_a_peer_that_stalls);
    RUN(a_readable_wake_descriptor_ends_the_waiting);
    RUN(a_peer_that_goes_away_is_an_error_and_no_signal);
    RUN(ready_means_that_a_receive_will_not_wait);
    RUN(a_socket_that_is_not_there_or_cannot_be_is_named);
    RUN(a_socket_of_another_user_is_refused);
    RUN(a_binding_is_of_this_connection_and_of_the_keys_that_it_was_made_with);
    RUN(what_is_no_tls_or_broke_binds_nothing);
    identity *all[] = {&ca, &other_ca, &good, &other, &expired, &stranger, &client};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        unmake(all[i]);
    }
    rmdir(folder);
    return check_report();
}
