#include "gateway/front.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* ---- TLS ---- */

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text ? text : "no reason given";
}

cmif_code cmif_front_tls(const char *cert, const char *key, SSL_CTX **out, cmif_err *err)
{
    SSL_CTX  *ctx = SSL_CTX_new(TLS_server_method());
    cmif_code rc  = CMIF_OK;
    ERR_clear_error();
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for TLS");
    } else if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as a certificate in PEM: %s", cert, reason());
    } else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "cannot use '%s' as the private key of '%s': %s", key, cert, reason());
    }
    ERR_clear_error();
    if (rc == CMIF_OK) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
        *out = ctx;
        ctx  = NULL;
    }
    SSL_CTX_free(ctx);
    return rc;
}

/* ---- a client that is slow ---- libevent gives up one that says nothing; one that says a byte now and then would be
 * waited for as long as it likes. What belongs to a connection is kept by its socket: libevent tells us of its end in
 * no other way than by giving the socket to another one. */

enum { SOCKETS_MAX = 1 << 17, PAGE_MAX = 2048 };
static uint32_t begun[SOCKETS_MAX]; /* the second in which an unfinished request began; 0: there is none */
static uint32_t patience;           /* seconds */

static uint32_t now_seconds(void)
{
    return (uint32_t) (cmif_front_now_us() / 1000000) + 1;
}

static uint32_t *begun_of(struct bufferevent *bev)
{
    const evutil_socket_t fd = bufferevent_getfd(bev);
    return fd >= 0 && fd < SOCKETS_MAX ? &begun[fd] : NULL;
}

static void on_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
    const struct timeval at_once = {.tv_usec = 1};
    uint32_t            *at      = begun_of(context);
    (void) buffer;
    if (at && info->n_added) {
        *at = *at ? *at : now_seconds();
        if (now_seconds() - *at > patience) {
            bufferevent_set_timeouts(context, &at_once, NULL);
        }
    }
}

static void on_first_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
    uint32_t *at = begun_of(context);
    if (at) {
        *at = 0; /* of whoever had this socket before */
    }
    evbuffer_remove_cb(buffer, on_first_input, context);
    evbuffer_add_cb(buffer, on_input, context);
    on_input(buffer, info, context);
}

void cmif_front_request_came(struct evhttp_request *http)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(http);
    uint32_t                 *at         = connection ? begun_of(evhttp_connection_get_bufferevent(connection)) : NULL;
    if (at) {
        *at = 0;
    }
}

/* ---- a request that is none ---- libevent 2.1 says so by itself, with a page of HTML; programs read JSON. */

static const char *sentence_of(int status)
{
    switch (status) {
    case 413:
        return "the body is too large (it may have 32 MiB), or its chunks are none";
    case 417:
        return "the gateway knows no other expectation than 100-continue";
    case 501:
        return "the gateway takes GET, POST and OPTIONS";
    default:
        return "this is no HTTP request: the gateway cannot read its first line or its headers, of which it takes 64 "
               "KiB";
    }
}

static void on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
    const size_t size = evbuffer_get_length(buffer);
    char         text[PAGE_MAX + 1];
    (void) context;
    if (!info->n_added || size < 16 || size > PAGE_MAX || evbuffer_copyout(buffer, text, size) != (ev_ssize_t) size) {
        return;
    }
    text[size]       = '\0';
    const char *body = strstr(text, "\r\n\r\n<HTML><HEAD>"), *type = strstr(text, "\r\nContent-Type: text/html\r\n");
    if (strncmp(text, "HTTP/1.", 7) != 0 || !body || !type || type > body) {
        return; /* one of ours */
    }
    const int   status = atoi(text + 9);
    cmif_secret json   = {0};
    if (cmif_reply_error(&json, sentence_of(status), "invalid_request_error", NULL, NULL, NULL) == CMIF_OK) {
        evbuffer_drain(buffer, size);
        evbuffer_add_printf(buffer,
                            "%.*s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: "
                            "close\r\nCache-Control: no-store\r\n\r\n",
                            (int) strcspn(text, "\r"), text, json.size);
        evbuffer_add(buffer, json.data, json.size);
    }
    cmif_secret_wipe(&json);
}

static void on_refused(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
    const struct timeval at_once = {.tv_usec = 1};
    if (info->n_added) {
        evbuffer_drain(buffer, SIZE_MAX);
        bufferevent_set_timeouts(context, &at_once, NULL);
    }
}

struct bufferevent *cmif_front_connection(struct event_base *base, void *gateway)
{
    const cmif_gateway *g   = gateway;
    struct bufferevent *bev = NULL;
    SSL                *ssl = g->tls ? SSL_new(g->tls) : NULL;
    if (ssl) {
        bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    } else if (!g->tls) {
        bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    }
    if (!bev) { /* NULL would have libevent speak plain HTTP */
        SSL_free(ssl);
        bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
        if (!bev) {
            abort();
        }
        evbuffer_add_cb(bufferevent_get_input(bev), on_refused, bev);
        return bev;
    }
    if (ssl) {
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    }
    patience = g->options.request_seconds;
    evbuffer_add_cb(bufferevent_get_input(bev), on_first_input, bev);
    evbuffer_add_cb(bufferevent_get_output(bev), on_output, NULL);
    return bev;
}
