#include "gateway/front.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    BODY_MAX        = 32 << 20,
    HEADERS_MAX     = 64 << 10,
    READ_SECONDS    = 60,
    REQUEST_SECONDS = 120,
    TICKS           = 4 /* of a second */
};

int64_t cmif_front_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- answers without an upstream ---- */

void cmif_front_header(struct evhttp_request *http, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(http), name, value);
}

/* Pages of other origins may ask a gateway on this machine only with its key: browsers are told so. */
void cmif_front_headers(const cmif_gateway *g, struct evhttp_request *http)
{
    cmif_front_header(http, "Cache-Control", "no-store");
    cmif_front_header(http, "X-Content-Type-Options", "nosniff");
    if (cmif_access_needed(g->access)) {
        cmif_front_header(http, "Access-Control-Allow-Origin", "*");
        cmif_front_header(http, "Access-Control-Allow-Headers",
                          "authorization, content-type, x-cmif-policy, x-cmif-show");
        cmif_front_header(http, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    }
}

static const char *status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 429:
        return "Too Many Requests";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Internal Server Error";
    }
}

void cmif_front_answer(cmif_gateway *g, struct evhttp_request *http, int status, const char *type, const void *bytes,
                       size_t size)
{
    struct evbuffer *body = evbuffer_new();
    cmif_front_headers(g, http);
    cmif_front_header(http, "Content-Type", type);
    if (body) {
        evbuffer_add(body, bytes, size);
    }
    evhttp_send_reply(http, status, status_text(status), body);
    if (body) {
        evbuffer_free(body);
    }
}

void cmif_front_error(cmif_gateway *g, struct evhttp_request *http, int status, const char *code, const char *param,
                      const char *sentence, uint32_t retry)
{
    const char *type = status == 401   ? "authentication_error"
                       : status == 403 ? "permission_error"
                       : status == 429 ? "rate_limit_error"
                       : status < 500  ? "invalid_request_error"
                                       : "server_error";
    cmif_secret text = {0};
    char        seconds[16];
    if (retry) {
        snprintf(seconds, sizeof seconds, "%u", retry);
        cmif_front_header(http, "Retry-After", seconds);
    }
    if (cmif_reply_error(&text, sentence, type, param && *param ? param : NULL, code, NULL) == CMIF_OK) {
        cmif_front_answer(g, http, status, "application/json", text.data, text.size);
    } else {
        evhttp_send_reply(http, 500, "Internal Server Error", NULL);
    }
    cmif_secret_wipe(&text);
}

/* ---- who, and under which policy ---- */

cmif_gateway_policy *cmif_front_policy(const cmif_gateway *g, const char *name)
{
    const cmif_gateway_rules *r = &g->options.rules;
    for (size_t i = 0; i < r->policy_count; i++) {
        if (!strcmp(r->policies[i]->name, name)) {
            return r->policies[i];
        }
    }
    return NULL;
}

cmif_gateway_policy *cmif_front_key_policy(const cmif_gateway *g, const cmif_access_key *key)
{
    return key && *key->policy ? cmif_front_policy(g, key->policy) : g->options.rules.policies[0];
}

const char *cmif_front_owner(const cmif_access_key *key)
{
    return key ? key->name : "local";
}

static bool allowed(cmif_gateway *g, struct evhttp_request *http, cmif_access_key **key)
{
    const struct evkeyvalq *in = evhttp_request_get_input_headers(http);
    cmif_access_answer      answer =
        cmif_access_check(g->access, evhttp_find_header(in, "Authorization"), evhttp_find_header(in, "Host"),
                          evhttp_find_header(in, "Origin"), cmif_front_now_us(), key);
    switch (answer) {
    case CMIF_ACCESS_YES:
        return true;
    case CMIF_ACCESS_TOO_OFTEN:
        cmif_front_error(g, http, 429, "rate_limit_exceeded", NULL, "too many wrong keys: wait", 10);
        return false;
    case CMIF_ACCESS_STRANGE:
        cmif_front_error(
            g, http, 403, "permission_error", NULL,
            "this came under the name of another host, or from a page of another origin: a gateway without "
            "keys answers programs of this machine",
            0);
        return false;
    default:
        cmif_front_error(g, http, 401, "invalid_api_key", NULL, "this gateway wants a key: Authorization: Bearer KEY",
                         0);
        return false;
    }
}

static void on_request(struct evhttp_request *http, void *context)
{
    cmif_gateway              *g      = context;
    const enum evhttp_cmd_type method = evhttp_request_get_command(http);
    const struct evhttp_uri   *uri    = evhttp_request_get_evhttp_uri(http);
    const char                *path   = uri ? evhttp_uri_get_path(uri) : NULL;
    cmif_access_key           *key    = NULL;
    cmif_front_request_came(http);
    path = path && !strncmp(path, "/v1/", 4) ? path + 3 : path ? path : "";

    if (method == EVHTTP_REQ_OPTIONS) {
        cmif_front_headers(g, http);
        evhttp_send_reply(http, 204, "No Content", NULL);
        return;
    }
    if (!strcmp(path, "/health")) {
        cmif_front_json(g, http, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    if (method == EVHTTP_REQ_GET && cmif_access_needed(g->access) && cmif_front_page(g, http, path)) {
        return;
    }
    if (!strcmp(path, "/ready") && cmif_access_needed(g->access) &&
        !evhttp_find_header(evhttp_request_get_input_headers(http), "Authorization")) {
        cmif_front_ready(g, http, /* reason= */ false); /* what looks after us, a cluster's probe, has no key */
        return;
    }
    if (!allowed(g, http, &key)) {
        return;
    }
    for (cmif_endpoint e = CMIF_ENDPOINT_CHAT; e < CMIF_ENDPOINTS; e++) {
        if (!strcmp(path, cmif_endpoint_path(e) + 3)) {
            if (method != EVHTTP_REQ_POST) {
                cmif_front_error(g, http, 405, NULL, NULL, "this is for POST", 0);
            } else if (g->draining) {
                cmif_front_error(g, http, 503, "upstream_unavailable", NULL, "the gateway is going away", 5);
            } else {
                cmif_front_post(g, http, e, key);
            }
            return;
        }
    }
    if (method != EVHTTP_REQ_GET) {
        const bool known = method == EVHTTP_REQ_POST && !strcmp(path, "/responses");
        cmif_front_error(
            g, http,
            known                       ? 501
            : method == EVHTTP_REQ_POST ? 404
                                        : 405,
            NULL, NULL,
            known ? "/v1/responses is not there: a conversation that a server keeps cannot be kept from it; "
                    "ask /v1/chat/completions"
            : method == EVHTTP_REQ_POST ? "no such endpoint: chat/completions, completions and embeddings are there"
                                        : "the gateway takes GET, POST and OPTIONS",
            0);
    } else if (!strcmp(path, "/models")) {
        cmif_front_models(g, http, NULL);
    } else if (!strncmp(path, "/models/", 8)) {
        cmif_front_models(g, http, path + 8);
    } else if (cmif_front_page(g, http, path)) {
        return;
    } else if (!strcmp(path, "/status")) {
        cmif_front_status(g, http, key);
    } else if (!strcmp(path, "/receipts")) {
        cmif_front_receipts(g, http);
    } else if (!strcmp(path, "/ready")) {
        cmif_front_ready(g, http, /* reason= */ true);
    } else if (!strcmp(path, "/metrics")) {
        cmif_front_metrics(g, http);
    } else if (!strcmp(path, "/version")) {
        cmif_front_json(
            g, http, 200,
            json_pack("{s:s, s:s}", "version", CMIF_VERSION, "policy", cmif_front_key_policy(g, key)->name));
    } else {
        cmif_front_error(g, http, 404, NULL, NULL, "no such page", 0);
    }
}

/* ---- life ---- */

/* No descriptor is left for one more connection: it waits in the kernel's queue for a second, and not in a loop. */
static bool crowded;

static void on_accept_error(struct evconnlistener *listener, void *context)
{
    (void) context;
    if (!crowded) {
        fprintf(stderr, "cmif-gateway: a connection waits: %s\n", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    }
    crowded = true;
    evconnlistener_disable(listener);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    cmif_gateway *g      = context;
    const bool    second = ++g->ticks % TICKS == 0;
    bool          good   = true;
    cmif_err      err;
    (void) fd, (void) what;
    if (second && crowded && g->socket) {
        struct evconnlistener *listener = evhttp_bound_socket_get_listener(g->socket);
        crowded                         = false; /* until the next error, which says so again */
        evconnlistener_enable(listener);
    }
    const cmif_gateway_rules *r = &g->options.rules;
    cmif_gateway_settle(g);
    for (size_t i = 0; i <= r->policy_count; i++) {
        cmif_gateway_policy *first = i < r->policy_count ? r->policies[i] : r->gone ? r->gone->was : NULL;
        for (cmif_gateway_policy *p = first; p; p = p->was) {
            (void) !cmif_books_look_ahead(p->books, &err); /* failing, each request meets it, and says so */
            if (!second) {
                continue;
            }
            cmif_talks_tick(p->talks, (int64_t) time(NULL));
            if (cmif_books_file(p->books, &err) != CMIF_OK) {
                good = false;
                if (!g->unfiled) { /* said once, tried every second */
                    fprintf(stderr, "cmif-gateway: receipts of the last second are not on disk: %s\n", err.text);
                }
            }
        }
    }
    g->unfiled = second ? !good : g->unfiled;
}

static cmif_code open_access(const cmif_gateway *g, const cmif_gateway_rules *rules, cmif_access **out, cmif_err *err)
{
    const char  *names[CMIF_GATEWAY_POLICIES_MAX];
    cmif_access *access = NULL;
    cmif_code    rc     = cmif_access_open(rules->keys_file, g->address, &access, err);
    for (size_t i = 0; rc == CMIF_OK && i < rules->policy_count; i++) {
        names[i] = rules->policies[i]->name;
    }
    const cmif_access_key *strange =
        rc == CMIF_OK ? cmif_access_strange_policy(access, names, rules->policy_count) : NULL;
    if (strange) {
        rc = cmif_fail(err, CMIF_E_RANGE, "'%s': the policy of %s is none that the gateway has", rules->keys_file,
                       strange->name);
        cmif_access_free(access);
    }
    *out = rc == CMIF_OK ? access : *out;
    return rc;
}

cmif_code cmif_gateway_reload(cmif_gateway *g, const cmif_gateway_rules *rules, cmif_err *err)
{
    cmif_access *access = NULL;
    SSL_CTX     *tls    = NULL;
    cmif_code    rc     = open_access(g, rules, &access, err);
    if (rc == CMIF_OK && rules->tls_cert) {
        rc = cmif_front_tls(rules->tls_cert, rules->tls_key, &tls, err);
    }
    if (rc != CMIF_OK) {
        cmif_access_free(access);
        return rc;
    }
    cmif_gateway_settle(g); /* books that are closed next write the same ledger */
    if (g->access) {
        cmif_access_succeed(access, g->access);
    }
    cmif_access_free(g->access);
    SSL_CTX_free(g->tls); /* connections have it, too */
    g->access                  = access;
    g->tls                     = tls;
    g->options.rules           = *rules;
    g->options.rules.keys_file = g->options.rules.tls_cert = g->options.rules.tls_key = NULL;
    return CMIF_OK;
}

/* Where the socket is bound, in numbers. */
static cmif_code take_address(cmif_gateway *g, int fd, cmif_err *err)
{
    struct sockaddr_storage bound;
    socklen_t               size = sizeof bound;
    char                    port[8];
    int                     type = 0;
    socklen_t               len  = sizeof type;
    if (getsockname(fd, (struct sockaddr *) &bound, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM ||
        (bound.ss_family != AF_INET && bound.ss_family != AF_INET6) ||
        getnameinfo((struct sockaddr *) &bound, size, g->address, sizeof g->address, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return cmif_fail(err, CMIF_E_IO, "the socket that was handed over is none of TCP");
    }
    g->port = (uint16_t) strtoul(port, NULL, 10);
    return CMIF_OK;
}

static cmif_code start_listening(cmif_gateway *g, cmif_err *err)
{
    const cmif_gateway_options *o = &g->options;
    if (o->listening > 0) {
        evutil_make_socket_nonblocking(o->listening);
        g->socket = evhttp_accept_socket_with_handle(g->http, o->listening);
    } else {
        g->socket = evhttp_bind_socket_with_handle(g->http, o->address, o->port);
    }
    if (g->socket) {
        evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(g->socket), on_accept_error);
    }
    if (o->listening > 0) {
        return g->socket ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a socket");
    }
    return g->socket ? take_address(g, evhttp_bound_socket_get_fd(g->socket), err)
                     : cmif_fail(err, CMIF_E_IO, "cannot listen on %s, port %u: %s; is another gateway there?",
                                 o->address, o->port, evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
}

cmif_code cmif_gateway_check(const cmif_gateway_options *options, cmif_err *err)
{
    cmif_gateway *g  = calloc(1, sizeof *g);
    cmif_code     rc = g ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a gateway");
    if (rc == CMIF_OK) {
        snprintf(g->address, sizeof g->address, "%s", options->address);
        rc = cmif_gateway_reload(g, &options->rules, err);
    }
    cmif_gateway_free(g);
    return rc;
}

cmif_code cmif_gateway_new(const cmif_gateway_options *options, cmif_gateway **out, cmif_err *err)
{
    const struct timeval tick = {.tv_usec = 1000000 / TICKS};
    cmif_gateway        *g    = calloc(1, sizeof *g);
    cmif_code            rc   = g ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a gateway");
    if (rc == CMIF_OK) {
        TAILQ_INIT(&g->exchanges);
        TAILQ_INIT(&g->waiting);
        g->options                 = *options;
        g->options.body_max        = options->body_max ? options->body_max : BODY_MAX;
        g->options.request_seconds = options->request_seconds ? options->request_seconds : REQUEST_SECONDS;
        snprintf(g->address, sizeof g->address, "%s", options->address ? options->address : "");
        rc = options->listening > 0 ? take_address(g, options->listening, err) : CMIF_OK;
        rc = rc == CMIF_OK ? cmif_gateway_reload(g, &options->rules, err) : rc;
    }
    if (rc == CMIF_OK) {
        g->http = evhttp_new(options->base);
        g->tick = event_new(options->base, -1, EV_PERSIST, on_tick, g);
        rc      = g->http && g->tick && event_add(g->tick, &tick) == 0
                      ? CMIF_OK
                      : cmif_fail(err, CMIF_E_MEMORY, "no memory for a gateway");
    }
    if (rc == CMIF_OK) {
        const uint32_t patience = g->options.request_seconds;
        evhttp_set_allowed_methods(g->http, UINT16_MAX); /* others are told so by us, as JSON */
        evhttp_set_max_headers_size(g->http, HEADERS_MAX);
        evhttp_set_max_body_size(g->http, (ev_ssize_t) g->options.body_max);
        evhttp_set_timeout(g->http, (int) (patience < READ_SECONDS ? patience : READ_SECONDS));
        evhttp_set_gencb(g->http, on_request, g);
        (void) evhttp_set_flags(g->http, EVHTTP_SERVER_LINGERING_CLOSE); /* who sends too much can read that it was */
        evhttp_set_bevcb(g->http, cmif_front_connection, g);
        rc = start_listening(g, err);
    }
    if (rc == CMIF_OK) {
        *out = g;
        g    = NULL;
    }
    cmif_gateway_free(g);
    return rc;
}

const char *cmif_gateway_address(const cmif_gateway *g)
{
    return g->address;
}

uint16_t cmif_gateway_port(const cmif_gateway *g)
{
    return g->port;
}

size_t cmif_gateway_busy(const cmif_gateway *g)
{
    return g->busy + g->unsent;
}

void cmif_gateway_drain(cmif_gateway *g)
{
    g->draining = true;
    if (g->socket) {
        evhttp_del_accept_socket(g->http, g->socket);
        g->socket = NULL;
    }
}

void cmif_gateway_free(cmif_gateway *g)
{
    if (!g) {
        return;
    }
    cmif_front_end(g);
    if (g->http) {
        evhttp_free(g->http);
    }
    if (g->tick) {
        event_free(g->tick);
    }
    cmif_access_free(g->access);
    SSL_CTX_free(g->tls);
    free(g);
}
