#include "gateway/post.h"

#include "base/bytes.h"
#include "channel/pin.h"
#include "secret/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/http.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* A connection is kept for less than the 5 seconds after which common servers close one. */
enum { SILENCE = 120, KEY_MAX = 4096, IDLE_SECONDS = 4, IDLE_MAX = 32 };

typedef struct link { /* a connection: a post's, idle, or dead */
    struct link              *next;
    cmif_there               *there;
    struct evhttp_connection *connection;
    SSL                      *ssl;   /* the connection's; NULL: http */
    bool                      heard; /* something came since it was last taken */
} link;

struct cmif_there {
    struct event_base *base;
    link              *idle, *dead; /* the one used last first; freed outside of libevent's callbacks, by */
    struct event      *sweep;
    size_t             idle_count;
    struct evdns_base *dns;
    SSL_CTX           *tls; /* NULL: http */
    bool               pinned;
    cmif_pin           pin;
    char               host[256], path[512];
    uint16_t           port;
    char              *authorization; /* NULL: none */
    uint32_t           silence;
};

struct cmif_post {
    cmif_there            *there;
    cmif_post_hooks        hooks;
    char                  *path;
    struct evbuffer       *body; /* NULL: a GET */
    uint32_t               seconds;
    link                  *link; /* NULL: given back */
    struct evhttp_request *request;
    int                    status;
    int64_t                sent_us;
    bool                   used;   /* the connection was not new: it may have been closed just then */
    bool                   asking; /* libevent has not taken the request yet */
    bool                   over;   /* on_end was called, or nobody listens any more */
    bool                   inside; /* libevent is at the request, and must not lose it */
    bool doomed, gone; /* a cancel is due, as soon as libevent is done with us; it is done with the request */
};

/* ---- connections ---- */

static void on_came(struct evbuffer *in, const struct evbuffer_cb_info *info, void *context)
{
    link *l = context;
    (void) in;
    l->heard = l->heard || info->n_added > 0;
}

static void on_sweep(evutil_socket_t fd, short what, void *context)
{
    cmif_there *there = context;
    (void) fd, (void) what;
    for (link *l = there->dead, *next; l; l = next) {
        next = l->next;
        evbuffer_remove_cb(bufferevent_get_input(evhttp_connection_get_bufferevent(l->connection)), on_came, l);
        evhttp_connection_free(l->connection);
        free(l);
    }
    there->dead = NULL;
}

static void drop(link *l)
{
    cmif_there *there = l->there;
    link      **at    = &there->idle;
    while (*at && *at != l) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = l->next;
        there->idle_count--;
    }
    evhttp_connection_set_closecb(l->connection, NULL, NULL);
    l->next     = there->dead;
    there->dead = l;
    event_active(there->sweep, 0, 0);
}

static void on_idle_closed(struct evhttp_connection *connection, void *context)
{
    (void) connection;
    drop(context);
}

/* The end of an answer: is the connection good for another one? */
static bool is_whole(const link *l, struct evhttp_request *request)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
    struct bufferevent     *bev     = evhttp_connection_get_bufferevent(l->connection);
    return evhttp_request_get_response_code(request) >= 200 && /* 103: the answer itself is still to come */
           (evhttp_find_header(headers, "Content-Length") || evhttp_find_header(headers, "Transfer-Encoding")) &&
           bufferevent_getfd(bev) >= 0 &&                        /* "Connection: close" has closed it */
           evbuffer_get_length(bufferevent_get_input(bev)) == 0; /* nothing that nobody asked for */
}

static void keep(link *l)
{
    static const struct timeval most  = {.tv_sec = IDLE_SECONDS};
    cmif_there                 *there = l->there;
    if (there->idle_count == IDLE_MAX) {
        drop(l);
        return;
    }
    bufferevent_set_timeouts(evhttp_connection_get_bufferevent(l->connection), &most, NULL);
    evhttp_connection_set_closecb(l->connection, on_idle_closed, l);
    l->next     = there->idle;
    there->idle = l;
    there->idle_count++;
}

/* What came, or closed, since the loop last looked: nothing of it is for the next request. */
static bool is_quiet(const link *l)
{
    char byte;
    return recv(bufferevent_getfd(evhttp_connection_get_bufferevent(l->connection)), &byte, 1,
                MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
}

/* NULL: there is none. */
static link *take_idle(cmif_there *there, uint32_t seconds)
{
    const struct timeval most = {.tv_sec = seconds};
    while (there->idle && !is_quiet(there->idle)) {
        drop(there->idle);
    }
    link *l = there->idle;
    if (l) {
        l->heard    = false;
        there->idle = l->next;
        there->idle_count--;
        evhttp_connection_set_closecb(l->connection, NULL, NULL);
        bufferevent_set_timeouts(evhttp_connection_get_bufferevent(l->connection), &most, &most);
    }
    return l;
}

/* ---- the end ---- */

static void post_free(cmif_post *p)
{
    if (p->body) {
        evbuffer_free(p->body);
    }
    free(p->path);
    free(p);
}

static void let_go(cmif_post *p)
{
    p->hooks.on_gone(p->hooks.context);
    post_free(p);
}

static void finish(cmif_post *p, cmif_call_end end, const char *sentence, uint32_t retry)
{
    if (!p->over) {
        p->over = true;
        p->hooks.on_end(p->hooks.context, end, sentence, retry);
    }
}

/* What the status of an answer means; its body is not looked at. */
static void finish_status(cmif_post *p, struct evhttp_request *request)
{
    const char *later = evhttp_find_header(evhttp_request_get_input_headers(request), "Retry-After");
    uint32_t    retry = later ? (uint32_t) strtoul(later, NULL, 10) : 0;
    char        text[160];
    if (p->status == 429 || p->status == 503) {
        snprintf(text, sizeof text, "the upstream is busy (HTTP %d): try again later", p->status);
        finish(p, CMIF_CALL_BUSY, text, retry > 3600 ? 3600 : retry ? retry : 1);
    } else if (p->status == 401 || p->status == 403) {
        snprintf(text, sizeof text, "the upstream does not take our key (HTTP %d): look at its key file", p->status);
        finish(p, CMIF_CALL_UNTRUSTED, text, 0);
    } else if (p->status >= 400 && p->status < 500) {
        snprintf(text, sizeof text, "the upstream refuses the request (HTTP %d)", p->status);
        finish(p, CMIF_CALL_REFUSED, text, 0);
    } else {
        snprintf(text, sizeof text, "the upstream failed (HTTP %d)", p->status);
        finish(p, CMIF_CALL_UNREACHABLE, text, 0);
    }
}

/* ---- what comes ---- */

static int on_header(struct evhttp_request *request, void *context)
{
    cmif_post *p = context;
    p->status    = evhttp_request_get_response_code(request);
    return 0;
}

static void cancel_later(evutil_socket_t fd, short what, void *context)
{
    cmif_post *p = context;
    (void) fd, (void) what;
    if (!p->gone) {
        evhttp_cancel_request(p->request); /* on_done does not come any more */
        drop(p->link);
    }
    let_go(p);
}

/* What comes now is not worth waiting for; inside of libevent's own callback nothing of it may be freed. */
static void doom(cmif_post *p)
{
    static const struct timeval now = {0};
    if (!p->doomed) {
        p->doomed = event_base_once(p->there->base, -1, EV_TIMEOUT, cancel_later, p, &now) == 0;
    }
}

static void on_chunk(struct evhttp_request *request, void *context)
{
    cmif_post       *p     = context;
    struct evbuffer *in    = evhttp_request_get_input_buffer(request);
    cmif_err         err   = {0};
    const size_t     size  = evbuffer_get_length(in);
    const void      *bytes = size ? evbuffer_pullup(in, -1) : NULL;
    if (p->status == 200 && bytes && !p->over) {
        p->inside = true;
        if (p->hooks.on_bytes(p->hooks.context, bytes, size, &err) != CMIF_OK && !p->over) {
            finish(p, CMIF_CALL_LIED, err.text, 0);
            doom(p);
        }
        p->inside = false;
    }
    evbuffer_drain(in, size);
}

static void on_error(enum evhttp_request_error error, void *context)
{
    cmif_post *p = context;
    if (error == EVREQ_HTTP_TIMEOUT) {
        finish(p, CMIF_CALL_LATE, "the upstream said nothing for too long", 0);
    } else if (error == EVREQ_HTTP_INVALID_HEADER || error == EVREQ_HTTP_DATA_TOO_LONG) {
        finish(p, CMIF_CALL_LIED, "the upstream does not speak HTTP as it should", 0);
    }
}

static cmif_code transmit(cmif_post *p, cmif_err *err);

/* RFC 9112, 9.3.1: an upstream that closed while we wrote has not begun. Who said something has, and who took its time
 * may have. */
static bool met_a_close(const cmif_post *p)
{
    return p->used && !p->link->heard && cmif_now_us() - p->sent_us < (int64_t) IDLE_SECONDS * 1000000;
}

/* Comes last, whatever happened, but for a cancel; request is NULL when there was no answer. */
static void on_done(struct evhttp_request *request, void *context)
{
    cmif_post *p     = context;
    link      *l     = p->link;
    const bool whole = request && p->status != 0 && is_whole(l, request);
    if (p->asking) { /* there is not even a way: who asks is told by transmit */
        p->asking = false;
        return;
    }
    p->gone = true;
    if (!request || p->status == 0) {
        const bool refused = l->ssl && SSL_get_verify_result(l->ssl) != X509_V_OK;
        if (met_a_close(p) && !p->over && !p->doomed) {
            drop(l);
            p->gone = transmit(p, NULL) != CMIF_OK;
            if (!p->gone) {
                return;
            }
            l = NULL;
        }
        finish(p, refused ? CMIF_CALL_UNTRUSTED : CMIF_CALL_UNREACHABLE,
               refused          ? "the upstream's certificate is refused: look at its pin or CA"
               : p->status == 0 ? "the upstream cannot be reached"
                                : "the upstream broke off",
               0);
    } else if (p->status != 200) {
        finish_status(p, request);
    } else {
        on_chunk(request, p); /* what came since */
        finish(p, CMIF_CALL_DONE, "", 0);
    }
    if (l && whole) {
        keep(l);
    } else if (l) {
        drop(l);
    }
    if (!p->doomed) {
        let_go(p);
    }
}

/* ---- asking ---- */

static bool is_address(const char *host)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* Who the certificate must name, unless a pin says it: a host, or an address, which is not said in the greeting (RFC
 * 6066 section 3). */
static bool name_server(const cmif_there *there, SSL *ssl)
{
    return is_address(there->host)
               ? there->pinned || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), there->host) == 1
               : SSL_set_tlsext_host_name(ssl, there->host) == 1 &&
                     (there->pinned || SSL_set1_host(ssl, there->host) == 1);
}

static cmif_code connect_to(cmif_there *there, uint32_t seconds, link **out, cmif_err *err)
{
    struct bufferevent *bev = NULL;
    link               *l   = calloc(1, sizeof *l);
    if (!l) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a connection");
    }
    l->there = there;
    if (there->tls) {
        l->ssl = SSL_new(there->tls);
        bev    = l->ssl && name_server(there, l->ssl)
                     ? bufferevent_openssl_socket_new(there->base, -1, l->ssl, BUFFEREVENT_SSL_CONNECTING,
                                                      BEV_OPT_CLOSE_ON_FREE)
                     : NULL;
        if (!bev) {
            SSL_free(l->ssl);
            free(l);
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
        }
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 0);
    }
    l->connection = evhttp_connection_base_bufferevent_new(there->base, there->dns, bev, there->host, there->port);
    if (!l->connection) {
        if (bev) {
            bufferevent_free(bev);
        }
        free(l);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a connection");
    }
    struct bufferevent *made = evhttp_connection_get_bufferevent(l->connection);
    if (!evbuffer_add_cb(bufferevent_get_input(made), on_came, l)) {
        evhttp_connection_free(l->connection);
        free(l);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a connection");
    }
    evhttp_connection_set_timeout(l->connection, (int) seconds);
    evhttp_connection_set_max_headers_size(l->connection, 65536);
    *out = l;
    return CMIF_OK;
}

/* The request on a connection that is there, and once more on a new one. On an error the post is as it was. */
static cmif_code transmit(cmif_post *p, cmif_err *err)
{
    cmif_there      *there = p->there;
    struct evbuffer *body  = p->body;
    cmif_code        rc    = CMIF_OK;

    p->link    = p->used ? NULL : take_idle(there, p->seconds);
    p->used    = p->link != NULL;
    p->request = evhttp_request_new(on_done, p);
    if (!p->request) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    } else if (!p->link) {
        rc = connect_to(there, p->seconds, &p->link, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    evhttp_request_set_header_cb(p->request, on_header);
    evhttp_request_set_chunked_cb(p->request, on_chunk);
    evhttp_request_set_error_cb(p->request, on_error);
    struct evkeyvalq *headers = evhttp_request_get_output_headers(p->request);
    struct evbuffer  *out     = evhttp_request_get_output_buffer(p->request);
    char              host[sizeof there->host + 16], port[8] = "";
    if (there->port != (there->tls ? 443 : 80)) {
        snprintf(port, sizeof port, ":%u", there->port);
    }
    snprintf(host, sizeof host, strchr(there->host, ':') ? "[%s]%s" : "%s%s", there->host, port); /* RFC 9110, 7.2 */
    if (evhttp_add_header(headers, "Host", host) != 0 ||
        (body && evhttp_add_header(headers, "Content-Type", "application/json") != 0) ||
        (there->authorization && evhttp_add_header(headers, "Authorization", there->authorization) != 0) ||
        (body && (p->used ? evbuffer_add_buffer_reference(out, body) : evbuffer_add_buffer(out, body)) != 0)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
        goto done;
    }
    struct evhttp_request *request = p->request;
    p->request                     = NULL; /* where this fails, it has freed it */
    p->sent_us                     = cmif_now_us();
    p->asking                      = true;
    if (evhttp_make_request(p->link->connection, request, body ? EVHTTP_REQ_POST : EVHTTP_REQ_GET, p->path) != 0 ||
        !p->asking) {
        rc = cmif_fail(err, CMIF_E_IO, "the upstream cannot be reached");
        goto done;
    }
    p->asking  = false;
    p->request = request;
    if (p->used) {
        cmif_write_now(evhttp_connection_get_bufferevent(p->link->connection));
    }
done:
    if (rc != CMIF_OK && p->request) {
        evhttp_request_free(p->request);
        p->request = NULL;
    }
    if (rc != CMIF_OK && p->link) {
        drop(p->link);
        p->link = NULL;
    }
    return rc;
}

cmif_code cmif_post_start(cmif_there *there, const char *path, struct evbuffer *body, uint32_t seconds,
                          const cmif_post_hooks *hooks, cmif_post **out, cmif_err *err)
{
    cmif_post *p  = calloc(1, sizeof *p);
    cmif_code  rc = CMIF_OK;
    if (!p || !(p->path = strdup(path)) ||
        (body && (!(p->body = evbuffer_new()) || evbuffer_add_buffer(p->body, body) != 0))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    }
    if (rc == CMIF_OK) {
        p->there   = there;
        p->hooks   = *hooks;
        p->seconds = seconds ? seconds : there->silence;
        rc         = transmit(p, err);
    }
    if (rc == CMIF_OK) {
        *out = p;
    } else if (p) {
        post_free(p);
    }
    return rc;
}

void cmif_write_now(struct bufferevent *bev)
{
    struct evbuffer *out = bufferevent_get_output(bev);
    if (!bufferevent_openssl_get_ssl(bev) && evbuffer_get_length(out) && evbuffer_unfreeze(out, 1) == 0) {
        (void) evbuffer_write(out, bufferevent_getfd(bev)); /* what is left, or fails, is for the loop */
        (void) evbuffer_freeze(out, 1);
    }
}

void cmif_post_cancel(cmif_post *p)
{
    p->over = true;
    if (p->inside) {
        doom(p);
    } else if (!p->doomed) {
        evhttp_cancel_request(p->request); /* on_done does not come any more */
        drop(p->link);
        let_go(p);
    }
}

/* ---- opening ---- */

static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strcmp(host, "::1") || (is_address(host) && !strncmp(host, "127.", 4));
}

static cmif_code take_url(cmif_there *there, const char *url, bool *tls, cmif_err *err)
{
    struct evhttp_uri *uri    = evhttp_uri_parse(url);
    const char        *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL, *host = uri ? evhttp_uri_get_host(uri) : NULL;
    const char        *path = uri ? evhttp_uri_get_path(uri) : NULL;
    cmif_code          rc   = CMIF_OK;
    if (!scheme || !host || !*host || evhttp_uri_get_query(uri) || evhttp_uri_get_userinfo(uri) ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "an upstream's address is http://HOST:PORT or https://HOST[:PORT][/PATH]");
    } else if (strlen(host) >= sizeof there->host || strlen(path) + 8 >= sizeof there->path) {
        rc = cmif_fail(err, CMIF_E_RANGE, "an upstream's address is too long");
    } else {
        *tls                 = !strcmp(scheme, "https");
        const size_t bracket = host[0] == '[' ? 1 : 0;
        const int    port    = evhttp_uri_get_port(uri);
        const size_t n       = strlen(path) && path[strlen(path) - 1] == '/' ? strlen(path) - 1 : strlen(path);
        there->port          = (uint16_t) (port > 0 ? port : *tls ? 443 : 80);
        snprintf(there->host, sizeof there->host, "%.*s", (int) strcspn(host + bracket, "]"), host + bracket);
        snprintf(there->path, sizeof there->path, "%.*s", (int) n, path);
        if (!*tls && !is_loopback(there->host)) {
            rc = cmif_fail(err, CMIF_E_RANGE,
                           "http:// is for this machine only: say https:// for an upstream elsewhere");
        }
    }
    if (uri) {
        evhttp_uri_free(uri);
    }
    return rc;
}

static cmif_code take_tls(cmif_there *there, const cmif_openai_options *options, cmif_err *err)
{
    there->tls = SSL_CTX_new(TLS_client_method());
    if (!there->tls || SSL_CTX_set_min_proto_version(there->tls, TLS1_2_VERSION) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
    }
    SSL_CTX_set_verify(there->tls, SSL_VERIFY_PEER, NULL);
    if (options->pin) {
        if (!cmif_pin_parse(options->pin, &there->pin)) {
            return cmif_fail(err, CMIF_E_RANGE, "a pin is sha256: and 64 hex digits of the certificate's hash");
        }
        there->pinned = true;
        SSL_CTX_set_cert_verify_callback(there->tls, cmif_pin_check, &there->pin);
    } else if (options->ca ? SSL_CTX_load_verify_file(there->tls, options->ca) != 1
                           : SSL_CTX_set_default_verify_paths(there->tls) != 1) {
        ERR_clear_error();
        return cmif_fail(err, CMIF_E_IO, "cannot read CA certificates%s%s%s", options->ca ? " from '" : "",
                         options->ca ? options->ca : "", options->ca ? "'" : "");
    }
    return CMIF_OK;
}

static cmif_code take_key(cmif_there *there, const char *path, cmif_err *err)
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
    there->authorization = good ? calloc(1, sizeof bearer + size) : NULL;
    if (there->authorization) {
        memcpy(there->authorization, bearer, sizeof bearer - 1);
        memcpy(there->authorization + sizeof bearer - 1, key, size);
    }
    cmif_wipe(key, sizeof key);
    return !file ? cmif_fail(err, CMIF_E_IO, "cannot read the upstream's key file '%s'", path)
           : !good
               ? cmif_fail(err, CMIF_E_FORMAT, "'%s' is no key file: expected one line of printable characters", path)
           : !there->authorization ? cmif_fail(err, CMIF_E_MEMORY, "no memory for a key")
                                   : CMIF_OK;
}

void cmif_there_free(cmif_there *there)
{
    if (!there) {
        return;
    }
    while (there->idle) {
        drop(there->idle);
    }
    on_sweep(-1, 0, there);
    if (there->sweep) {
        event_free(there->sweep);
    }
    if (there->dns) {
        evdns_base_free(there->dns, 0);
    }
    SSL_CTX_free(there->tls);
    if (there->authorization) {
        cmif_wipe(there->authorization, strlen(there->authorization));
        free(there->authorization);
    }
    free(there);
}

const char *cmif_there_path(const cmif_there *there)
{
    return there->path;
}

cmif_code cmif_there_new(struct event_base *base, const cmif_openai_options *options, cmif_there **out, cmif_err *err)
{
    bool        tls   = false;
    cmif_there *there = calloc(1, sizeof *there);
    cmif_code   rc =
        there ? take_url(there, options->url, &tls, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
    if (rc != CMIF_OK) {
        goto done;
    }
    there->base    = base;
    there->silence = options->silence_seconds ? options->silence_seconds : SILENCE;
    there->sweep   = event_new(base, -1, 0, on_sweep, there);
    if (!there->sweep) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
        goto done;
    }
    if (tls) {
        rc = take_tls(there, options, err);
    } else if (options->pin || options->ca) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a pin and a CA are for https://");
    }
    if (rc == CMIF_OK && options->key_file) {
        rc = take_key(there, options->key_file, err);
    }
    if (rc == CMIF_OK) { /* names are looked up beside the loop, not in it */
        there->dns = evdns_base_new(base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        *out       = there;
        there      = NULL;
    }
done:
    cmif_there_free(there);
    return rc;
}
