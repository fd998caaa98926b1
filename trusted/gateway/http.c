#include "gateway/front.h"

#include <event2/buffer.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BODY_MAX = 32 << 20, HEADERS_MAX = 64 << 10, READ_SECONDS = 60 };

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
        cmif_front_header(http, "Access-Control-Allow-Headers", "authorization, content-type, x-cmif-show");
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
    case 429:
        return "Too Many Requests";
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

static bool allowed(cmif_gateway *g, struct evhttp_request *http, const char **owner)
{
    const struct evkeyvalq *in = evhttp_request_get_input_headers(http);
    cmif_access_answer      answer =
        cmif_access_check(g->access, evhttp_find_header(in, "Authorization"), evhttp_find_header(in, "Host"),
                          evhttp_find_header(in, "Origin"), cmif_front_now_us(), owner);
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
    const char                *path = uri ? evhttp_uri_get_path(uri) : NULL, *owner = "local";
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
    if (!allowed(g, http, &owner)) {
        return;
    }
    for (cmif_endpoint e = CMIF_ENDPOINT_CHAT; e < CMIF_ENDPOINTS; e++) {
        if (!strcmp(path, cmif_endpoint_path(e) + 3)) {
            if (method != EVHTTP_REQ_POST) {
                cmif_front_error(g, http, 405, NULL, NULL, "this is for POST", 0);
            } else if (g->draining) {
                cmif_front_error(g, http, 503, "upstream_unavailable", NULL, "the gateway is going away", 5);
            } else {
                cmif_front_post(g, http, e, owner);
            }
            return;
        }
    }
    if (method != EVHTTP_REQ_GET) {
        cmif_front_error(g, http, strcmp(path, "/responses") == 0 ? 501 : 404, NULL, NULL,
                         "no such endpoint: chat/completions, completions and embeddings are there", 0);
    } else if (!strcmp(path, "/models")) {
        cmif_front_models(g, http, NULL);
    } else if (!strncmp(path, "/models/", 8)) {
        cmif_front_models(g, http, path + 8);
    } else if (cmif_front_page(g, http, path)) {
        return;
    } else if (!strcmp(path, "/status")) {
        cmif_front_status(g, http, owner);
    } else if (!strcmp(path, "/receipts")) {
        cmif_front_receipts(g, http);
    } else if (!strcmp(path, "/ready")) {
        cmif_front_ready(g, http);
    } else if (!strcmp(path, "/metrics")) {
        cmif_front_metrics(g, http);
    } else if (!strcmp(path, "/version")) {
        cmif_front_json(g, http, 200, json_pack("{s:s, s:s}", "version", CMIF_VERSION, "policy", g->options.policy));
    } else {
        cmif_front_error(g, http, 404, NULL, NULL, "no such page", 0);
    }
}

/* ---- life ---- */

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    cmif_gateway *g = context;
    (void) fd, (void) what;
    cmif_talks_tick(g->options.talks, (int64_t) time(NULL));
}

cmif_code cmif_gateway_new(const cmif_gateway_options *options, cmif_gateway **out, cmif_err *err)
{
    const struct timeval    second = {.tv_sec = 1};
    struct sockaddr_storage bound;
    socklen_t               size = sizeof bound;
    cmif_gateway           *g    = calloc(1, sizeof *g);
    cmif_code               rc   = g ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a gateway");
    if (rc == CMIF_OK) {
        g->options = *options;
        rc         = cmif_access_open(options->keys_file, options->address, &g->access, err);
    }
    if (rc == CMIF_OK) {
        g->http = evhttp_new(options->base);
        g->tick = event_new(options->base, -1, EV_PERSIST, on_tick, g);
        rc      = g->http && g->tick && event_add(g->tick, &second) == 0
                      ? CMIF_OK
                      : cmif_fail(err, CMIF_E_MEMORY, "no memory for a gateway");
    }
    if (rc == CMIF_OK) {
        evhttp_set_allowed_methods(g->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_OPTIONS);
        evhttp_set_max_headers_size(g->http, HEADERS_MAX);
        evhttp_set_max_body_size(g->http, (ev_ssize_t) (options->body_max ? options->body_max : BODY_MAX));
        evhttp_set_timeout(g->http, READ_SECONDS);
        evhttp_set_gencb(g->http, on_request, g);
        g->socket = evhttp_bind_socket_with_handle(g->http, options->address, options->port);
        rc = g->socket && getsockname(evhttp_bound_socket_get_fd(g->socket), (struct sockaddr *) &bound, &size) == 0
                 ? CMIF_OK
                 : cmif_fail(err, CMIF_E_IO, "cannot listen on %s, port %u: %s; is another gateway there?",
                             options->address, options->port, evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    }
    if (rc == CMIF_OK) {
        const struct sockaddr_in  *v4 = (const struct sockaddr_in *) (const void *) &bound;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) (const void *) &bound;
        g->port                       = ntohs(bound.ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
        *out                          = g;
        g                             = NULL;
    }
    cmif_gateway_free(g);
    return rc;
}

uint16_t cmif_gateway_port(const cmif_gateway *g)
{
    return g->port;
}

size_t cmif_gateway_busy(const cmif_gateway *g)
{
    return g->busy;
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
    free(g);
}
