#include "gateway/upstream.h"

#include "base/bytes.h"
#include "gateway/events.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/http.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

enum { SILENCE = 120, KEY_MAX = 4096, PIN_SIZE = 32 };

typedef struct openai {
    cmif_upstream      upstream; /* first */
    struct evdns_base *dns;
    SSL_CTX           *tls; /* NULL: http */
    bool               pinned;
    uint8_t            pin[PIN_SIZE];
    char               host[256], path[512], there[256]; /* the last: the model's name there */
    uint16_t           port;
    char              *authorization; /* NULL: none */
    uint32_t           silence;
    int64_t            failed_at; /* loop time of the last failure to connect; 0: the last call went well */
} openai;

struct cmif_call {
    openai                   *of;
    cmif_call_hooks           hooks;
    struct evhttp_connection *connection;
    struct evhttp_request    *request;
    SSL                      *ssl; /* the connection's */
    cmif_events               events;
    int                       status;
    bool                      over; /* on_end was called, or nobody listens any more */
    bool doomed, gone; /* a cancel is due, as soon as libevent is done with us; libevent is done with the request */
};

/* ---- the end ---- */

static void call_free(struct cmif_call *c)
{
    cmif_events_wipe(&c->events);
    free(c);
}

static void finish(struct cmif_call *c, cmif_call_end end, const char *sentence, uint32_t retry)
{
    if (!c->over) {
        c->over = true;
        c->hooks.on_end(c->hooks.context, end, sentence, retry);
    }
}

/* What the status of an answer means; its body is not looked at. */
static void finish_status(struct cmif_call *c, struct evhttp_request *request)
{
    const char *later = evhttp_find_header(evhttp_request_get_input_headers(request), "Retry-After");
    uint32_t    retry = later ? (uint32_t) strtoul(later, NULL, 10) : 0;
    char        text[160];
    if (c->status == 429 || c->status == 503) {
        snprintf(text, sizeof text, "the upstream is busy (HTTP %d): try again later", c->status);
        finish(c, CMIF_CALL_BUSY, text, retry > 3600 ? 3600 : retry ? retry : 1);
    } else if (c->status == 401 || c->status == 403) {
        snprintf(text, sizeof text, "the upstream does not take our key (HTTP %d): look at its key file", c->status);
        finish(c, CMIF_CALL_UNTRUSTED, text, 0);
    } else if (c->status >= 400 && c->status < 500) {
        snprintf(text, sizeof text, "the upstream refuses the request (HTTP %d)", c->status);
        finish(c, CMIF_CALL_REFUSED, text, 0);
    } else {
        snprintf(text, sizeof text, "the upstream failed (HTTP %d)", c->status);
        finish(c, CMIF_CALL_UNREACHABLE, text, 0);
    }
}

/* ---- what comes ---- */

static int on_header(struct evhttp_request *request, void *context)
{
    struct cmif_call *c = context;
    c->status           = evhttp_request_get_response_code(request);
    return 0;
}

static void cancel_later(evutil_socket_t fd, short what, void *context)
{
    struct cmif_call *c = context;
    (void) fd, (void) what;
    if (!c->gone) {
        evhttp_cancel_request(c->request); /* on_done does not come any more, and the connection frees itself */
    }
    call_free(c);
}

/* What comes now is not worth waiting for; inside of libevent's own callback nothing of it may be freed. */
static void doom(struct cmif_call *c)
{
    static const struct timeval now = {0};
    if (!c->doomed) {
        c->doomed = event_base_once(c->of->upstream.base, -1, EV_TIMEOUT, cancel_later, c, &now) == 0;
    }
}

static void on_chunk(struct evhttp_request *request, void *context)
{
    struct cmif_call *c     = context;
    struct evbuffer  *in    = evhttp_request_get_input_buffer(request);
    cmif_err          err   = {0};
    const size_t      size  = evbuffer_get_length(in);
    const void       *bytes = size ? evbuffer_pullup(in, -1) : NULL;
    if (c->status == 200 && bytes && !c->over && cmif_events_feed(&c->events, bytes, size, &err) != CMIF_OK) {
        finish(c, CMIF_CALL_LIED, err.text, 0);
        doom(c);
    }
    evbuffer_drain(in, size);
}

static void on_error(enum evhttp_request_error error, void *context)
{
    struct cmif_call *c = context;
    if (error == EVREQ_HTTP_TIMEOUT) {
        finish(c, CMIF_CALL_LATE, "the upstream said nothing for too long", 0);
    } else if (error == EVREQ_HTTP_INVALID_HEADER || error == EVREQ_HTTP_DATA_TOO_LONG) {
        finish(c, CMIF_CALL_LIED, "the upstream does not speak HTTP as it should", 0);
    }
}

static void free_connection(evutil_socket_t fd, short what, void *connection)
{
    (void) fd, (void) what;
    evhttp_connection_free(connection);
}

/* Comes last, whatever happened, but for a cancel; request is NULL when there was no answer. */
static void on_done(struct evhttp_request *request, void *context)
{
    struct cmif_call *c   = context;
    cmif_err          err = {0};
    if (!request || c->status == 0) {
        const bool refused = c->ssl && SSL_get_verify_result(c->ssl) != X509_V_OK;
        c->of->failed_at   = 1;
        finish(c, refused ? CMIF_CALL_UNTRUSTED : CMIF_CALL_UNREACHABLE,
               refused          ? "the upstream's certificate is refused: look at its pin or CA"
               : c->status == 0 ? "the upstream cannot be reached"
                                : "the upstream broke off",
               0);
    } else if (c->status != 200) {
        finish_status(c, request);
    } else {
        on_chunk(request, c); /* what came since */
        c->of->failed_at = 0;
        if (!c->over && cmif_events_end(&c->events, &err) != CMIF_OK) {
            finish(c, CMIF_CALL_LIED, err.text, 0);
        }
        finish(c, CMIF_CALL_DONE, "", 0);
    }
    if (request && c->status == 0) { /* never made: libevent 2.1 forgets to free such a one */
        static const struct timeval now = {0};
        (void) event_base_once(c->of->upstream.base, -1, EV_TIMEOUT, free_connection, c->connection, &now);
    }
    c->gone = true; /* and the connection frees itself */
    if (!c->doomed) {
        call_free(c);
    }
}

/* ---- asking ---- */

static int pin_check(X509_STORE_CTX *store, void *context)
{
    const openai *o    = context;
    X509         *cert = X509_STORE_CTX_get0_cert(store);
    uint8_t       found[EVP_MAX_MD_SIZE];
    unsigned      size = 0;
    const bool    same = cert && X509_digest(cert, EVP_sha256(), found, &size) == 1 && size == PIN_SIZE &&
                      CRYPTO_memcmp(found, o->pin, PIN_SIZE) == 0;
    X509_STORE_CTX_set_error(store, same ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return same;
}

static cmif_code connect_to(openai *o, struct cmif_call *c, cmif_err *err)
{
    struct bufferevent *bev = NULL;
    if (o->tls) {
        c->ssl = SSL_new(o->tls);
        if (!c->ssl || SSL_set_tlsext_host_name(c->ssl, o->host) != 1 ||
            (!o->pinned && SSL_set1_host(c->ssl, o->host) != 1)) {
            SSL_free(c->ssl);
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
        }
        bev = bufferevent_openssl_socket_new(o->upstream.base, -1, c->ssl, BUFFEREVENT_SSL_CONNECTING,
                                             BEV_OPT_CLOSE_ON_FREE);
        if (!bev) {
            SSL_free(c->ssl);
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
        }
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 0);
    }
    c->connection = evhttp_connection_base_bufferevent_new(o->upstream.base, o->dns, bev, o->host, o->port);
    if (!c->connection) {
        if (bev) {
            bufferevent_free(bev);
        }
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a connection");
    }
    evhttp_connection_set_timeout(c->connection, (int) o->silence);
    evhttp_connection_set_max_headers_size(c->connection, 65536);
    evhttp_connection_free_on_completion(c->connection);
    return CMIF_OK;
}

static cmif_code openai_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                              cmif_call **out, cmif_err *err)
{
    openai           *o    = (openai *) (void *) upstream;
    cmif_secret       body = {0};
    char              path[600];
    struct cmif_call *c = calloc(1, sizeof *c);
    cmif_code         rc =
        c ? cmif_request_body(request, o->there, &body, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    if (rc != CMIF_OK) {
        goto done;
    }
    c->of     = o;
    c->hooks  = *hooks;
    c->events = (cmif_events){.endpoint = request->endpoint, .hooks = &c->hooks};
    rc        = connect_to(o, c, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    c->request = evhttp_request_new(on_done, c);
    if (!c->request) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
        goto done;
    }
    evhttp_request_set_header_cb(c->request, on_header);
    evhttp_request_set_chunked_cb(c->request, on_chunk);
    evhttp_request_set_error_cb(c->request, on_error);
    struct evkeyvalq *headers = evhttp_request_get_output_headers(c->request);
    snprintf(path, sizeof path, "%s%s", o->path, cmif_endpoint_path(request->endpoint) + 3); /* without "/v1" */
    if (evhttp_add_header(headers, "Host", o->host) != 0 ||
        evhttp_add_header(headers, "Content-Type", "application/json") != 0 ||
        evhttp_add_header(headers, "Connection", "close") != 0 ||
        (o->authorization && evhttp_add_header(headers, "Authorization", o->authorization) != 0) ||
        evbuffer_add(evhttp_request_get_output_buffer(c->request), body.data, body.size) != 0) {
        evhttp_request_free(c->request);
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
        goto done;
    }
    if (evhttp_make_request(c->connection, c->request, EVHTTP_REQ_POST, path) != 0) { /* it has freed the request */
        rc = cmif_fail(err, CMIF_E_IO, "the upstream cannot be asked");
        goto done;
    }
    *out = c;
    c    = NULL;
done:
    if (c && c->connection) {
        evhttp_connection_free(c->connection);
    }
    if (c) {
        call_free(c);
    }
    cmif_secret_wipe(&body);
    return rc;
}

static void openai_cancel(struct cmif_call *c)
{
    c->over = true;
    doom(c);
}

static cmif_upstream_state openai_state(const cmif_upstream *upstream, char *sentence, size_t room)
{
    const openai *o = (const openai *) (const void *) upstream;
    snprintf(sentence, room, "%s", o->failed_at ? "the last call did not reach it" : "");
    return o->failed_at ? CMIF_UPSTREAM_DOWN : CMIF_UPSTREAM_READY;
}

static void openai_free(cmif_upstream *upstream)
{
    openai *o = (openai *) (void *) upstream;
    if (o->dns) {
        evdns_base_free(o->dns, 0);
    }
    SSL_CTX_free(o->tls);
    if (o->authorization) {
        cmif_wipe(o->authorization, strlen(o->authorization));
        free(o->authorization);
    }
    free(o);
}

static const cmif_upstream_kind kind = {
    .name = "openai", .start = openai_start, .cancel = openai_cancel, .free = openai_free, .state = openai_state};

/* ---- opening ---- */

static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1");
}

static cmif_code take_url(openai *o, const char *url, bool *tls, cmif_err *err)
{
    struct evhttp_uri *uri    = evhttp_uri_parse(url);
    const char        *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL, *host = uri ? evhttp_uri_get_host(uri) : NULL;
    const char        *path = uri ? evhttp_uri_get_path(uri) : NULL;
    cmif_code          rc   = CMIF_OK;
    if (!scheme || !host || !*host || evhttp_uri_get_query(uri) || evhttp_uri_get_userinfo(uri) ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "an upstream's address is http://HOST:PORT or https://HOST[:PORT][/PATH]");
    } else if (strlen(host) >= sizeof o->host || strlen(path) + 8 >= sizeof o->path) {
        rc = cmif_fail(err, CMIF_E_RANGE, "an upstream's address is too long");
    } else {
        *tls                 = !strcmp(scheme, "https");
        const size_t bracket = host[0] == '[' ? 1 : 0;
        const int    port    = evhttp_uri_get_port(uri);
        const size_t n       = strlen(path) && path[strlen(path) - 1] == '/' ? strlen(path) - 1 : strlen(path);
        o->port              = (uint16_t) (port > 0 ? port : *tls ? 443 : 80);
        snprintf(o->host, sizeof o->host, "%.*s", (int) strcspn(host + bracket, "]"), host + bracket);
        snprintf(o->path, sizeof o->path, n ? "%.*s" : "/v1", (int) n, path);
        if (!*tls && !is_loopback(o->host)) {
            rc = cmif_fail(err, CMIF_E_RANGE,
                           "http:// is for this machine only: say https:// for an upstream elsewhere");
        }
    }
    if (uri) {
        evhttp_uri_free(uri);
    }
    return rc;
}

static cmif_code take_tls(openai *o, const cmif_openai_options *options, cmif_err *err)
{
    o->tls = SSL_CTX_new(TLS_client_method());
    if (!o->tls || SSL_CTX_set_min_proto_version(o->tls, TLS1_2_VERSION) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
    }
    SSL_CTX_set_verify(o->tls, SSL_VERIFY_PEER, NULL);
    if (options->pin) {
        if (strncmp(options->pin, "sha256:", 7) != 0 || strlen(options->pin) != 7 + 2 * PIN_SIZE ||
            !cmif_unhex(options->pin + 7, PIN_SIZE, o->pin)) {
            return cmif_fail(err, CMIF_E_RANGE, "a pin is sha256: and 64 hex digits of the certificate's hash");
        }
        o->pinned = true;
        SSL_CTX_set_cert_verify_callback(o->tls, pin_check, o);
    } else if (options->ca ? SSL_CTX_load_verify_file(o->tls, options->ca) != 1
                           : SSL_CTX_set_default_verify_paths(o->tls) != 1) {
        ERR_clear_error();
        return cmif_fail(err, CMIF_E_IO, "cannot read CA certificates%s%s%s", options->ca ? " from '" : "",
                         options->ca ? options->ca : "", options->ca ? "'" : "");
    }
    return CMIF_OK;
}

static cmif_code take_key(openai *o, const char *path, cmif_err *err)
{
    static const char bearer[] = "Bearer ";
    char              key[KEY_MAX];
    FILE             *file = fopen(path, "re");
    size_t            size = file ? fread(key, 1, sizeof key, file) : 0;
    if (file) {
        fclose(file);
    }
    while (size && (key[size - 1] == '\n' || key[size - 1] == '\r' || key[size - 1] == ' ')) {
        size--;
    }
    bool good = size > 0 && size < sizeof key;
    for (size_t i = 0; i < size; i++) {
        good = good && key[i] > ' ' && key[i] < 0x7f;
    }
    o->authorization = good ? calloc(1, sizeof bearer + size) : NULL;
    if (o->authorization) {
        memcpy(o->authorization, bearer, sizeof bearer - 1);
        memcpy(o->authorization + sizeof bearer - 1, key, size);
    }
    cmif_wipe(key, sizeof key);
    return !file ? cmif_fail(err, CMIF_E_IO, "cannot read the upstream's key file '%s'", path)
           : !good
               ? cmif_fail(err, CMIF_E_FORMAT, "'%s' is no key file: expected one line of printable characters", path)
           : !o->authorization ? cmif_fail(err, CMIF_E_MEMORY, "no memory for a key")
                               : CMIF_OK;
}

cmif_code cmif_openai_new(struct event_base *base, const cmif_openai_options *options, cmif_upstream **out,
                          cmif_err *err)
{
    bool      tls = false;
    openai   *o   = calloc(1, sizeof *o);
    cmif_code rc =
        o ? take_url(o, options->url, &tls, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
    if (rc != CMIF_OK) {
        goto done;
    }
    o->upstream      = (cmif_upstream){.kind = &kind, .base = base};
    o->silence       = options->silence_seconds ? options->silence_seconds : SILENCE;
    const char *name = options->name ? options->name : options->model;
    if (strlen(options->model) >= sizeof o->there || strlen(name) >= sizeof o->upstream.model) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a model's name is too long");
        goto done;
    }
    strcpy(o->there, options->model);
    strcpy(o->upstream.model, name);
    if (tls) {
        rc = take_tls(o, options, err);
    } else if (options->pin || options->ca) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a pin and a CA are for https://");
    }
    if (rc == CMIF_OK && options->key_file) {
        rc = take_key(o, options->key_file, err);
    }
    if (rc == CMIF_OK) { /* names are looked up beside the loop, not in it */
        o->dns = evdns_base_new(base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        *out   = &o->upstream;
        o      = NULL;
    }
done:
    if (o) {
        openai_free(&o->upstream);
    }
    return rc;
}
