#include "gateway/http.h"

#include "gateway/access.h"
#include "gateway/page.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BODY_MAX = 32 << 20, HEADERS_MAX = 64 << 10, READ_SECONDS = 60, PING_SECONDS = 10, UNREAD_MAX = 16 << 20 };

typedef struct exchange { /* one POST, from its release to its last byte */
    cmif_gateway          *of;
    struct exchange       *next;
    struct evhttp_request *http; /* NULL: the client went away */
    cmif_request          *request;
    cmif_talk             *talk;
    cmif_tab               entry;
    cmif_talk_counts       counts;
    cmif_upstream         *upstream;
    cmif_call             *call; /* NULL: over, or not begun */
    cmif_reply            *reply;
    struct event          *later, *ping, *gone;
    struct evbuffer       *out;   /* what is not with libevent yet */
    cmif_err               fault; /* what a hook met; it is dealt with outside of it */
    bool                   begun; /* the client has the headers of a stream */
    int64_t                started_us;
} exchange;

struct cmif_gateway {
    cmif_gateway_options        options;
    struct evhttp              *http;
    struct evhttp_bound_socket *socket;
    uint16_t                    port;
    cmif_access                *access;
    exchange                   *exchanges;
    size_t                      busy;
    uint64_t                    number;
    bool                        draining;
    struct event               *tick;
    uint64_t                    requests[CMIF_ENDPOINTS][6]; /* by hundreds of their status */
    uint64_t                    words[CMIF_SPAN_CLASSES], draws, epsilon_micro, sent;
};

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- answers without an upstream ---- */

static void add_header(struct evhttp_request *http, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(http), name, value);
}

/* Pages of other origins may ask a gateway on this machine only with its key: browsers are told so. */
static void common_headers(const cmif_gateway *g, struct evhttp_request *http)
{
    add_header(http, "Cache-Control", "no-store");
    add_header(http, "X-Content-Type-Options", "nosniff");
    if (cmif_access_needed(g->access)) {
        add_header(http, "Access-Control-Allow-Origin", "*");
        add_header(http, "Access-Control-Allow-Headers", "authorization, content-type, x-cmif-show");
        add_header(http, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
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

static void answer(cmif_gateway *g, struct evhttp_request *http, int status, const char *type, const void *bytes,
                   size_t size)
{
    struct evbuffer *body = evbuffer_new();
    common_headers(g, http);
    add_header(http, "Content-Type", type);
    if (body) {
        evbuffer_add(body, bytes, size);
    }
    evhttp_send_reply(http, status, status_text(status), body);
    if (body) {
        evbuffer_free(body);
    }
}

static void answer_error(cmif_gateway *g, struct evhttp_request *http, int status, const char *code, const char *param,
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
        add_header(http, "Retry-After", seconds);
    }
    if (cmif_reply_error(&text, sentence, type, param && *param ? param : NULL, code, NULL) == CMIF_OK) {
        answer(g, http, status, "application/json", text.data, text.size);
    } else {
        evhttp_send_reply(http, 500, "Internal Server Error", NULL);
    }
    cmif_secret_wipe(&text);
}

/* ---- an exchange ---- */

static void exchange_free(exchange *x)
{
    exchange **at = &x->of->exchanges;
    while (*at && *at != x) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = x->next;
        x->of->busy--;
    }
    if (x->call) {
        x->upstream->kind->cancel(x->call);
    }
    if (x->later) {
        event_free(x->later);
    }
    if (x->ping) {
        event_free(x->ping);
    }
    if (x->gone) {
        event_free(x->gone);
    }
    if (x->out) {
        evbuffer_free(x->out);
    }
    cmif_reply_free(x->reply);
    cmif_tab_close(&x->entry);
    if (x->talk) {
        cmif_talk_end(x->talk);
    }
    cmif_request_free(x->request);
    free(x);
}

static void count(exchange *x, int status)
{
    x->of->requests[x->request->endpoint][status / 100 % 6]++;
}

static void on_closed(struct evhttp_connection *connection, void *context)
{
    exchange *x = context;
    (void) connection;
    if (x->http && !evhttp_request_get_connection(x->http)) { /* nobody else's any more: writing to the client failed */
        evhttp_request_free(x->http);
    }
    x->http = NULL;
    event_active(x->later, 0, 0);
}

/* libevent reads nothing while a request is answered, and so would not see a client go: it must not be told to read,
 * since what came then would end the program. */
static void on_gone(evutil_socket_t fd, short what, void *context)
{
    exchange *x = context;
    char      byte; /* a reset comes as something to read; nothing is taken away, only looked at */
    if (!(what & EV_CLOSED)) {
        const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n > 0 || (n < 0 && errno == EAGAIN)) {
            return; /* it asks on: that it has gone is seen when it is written to */
        }
    }
    if (x->http) {
        struct evhttp_connection *connection = evhttp_request_get_connection(x->http);
        x->http                              = NULL;
        evhttp_connection_set_closecb(connection, NULL, NULL);
        evhttp_connection_free(connection);
        event_active(x->later, 0, 0);
    }
}

/* From here on the request is libevent's alone. */
static struct evhttp_request *let_go(exchange *x)
{
    struct evhttp_request *http = x->http;
    x->http                     = NULL;
    if (x->gone) {
        event_del(x->gone);
    }
    if (http) {
        evhttp_connection_set_closecb(evhttp_request_get_connection(http), NULL, NULL);
    }
    return http;
}

static void end_with_error(exchange *x, int status, const char *code, const char *sentence, uint32_t retry)
{
    const bool begun = x->begun;
    cmif_err   err;
    if (x->http && begun) { /* in mid-stream: an event, and no [DONE] */
        if (cmif_reply_fail(x->reply, "server_error", code, sentence, &err) == CMIF_OK) {
            evhttp_send_reply_chunk(x->http, x->out);
        }
    }
    struct evhttp_request *http = let_go(x);
    count(x, status);
    if (http && begun) {
        evhttp_send_reply_end(http);
    } else if (http) {
        answer_error(x->of, http, status, code, NULL, sentence, retry);
    }
    exchange_free(x);
}

/* What reply.c writes: gathered, and sent at once where the client streams. */
static cmif_code sink(void *context, const void *bytes, size_t size, cmif_err *err)
{
    exchange *x = context;
    return evbuffer_add(x->out, bytes, size) == 0 ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for an answer");
}

static void flush(exchange *x)
{
    if (!x->http || !x->request->stream || x->request->endpoint == CMIF_ENDPOINT_EMBEDDINGS ||
        evbuffer_get_length(x->out) == 0) {
        return;
    }
    if (!x->begun) {
        x->begun = true;
        common_headers(x->of, x->http);
        add_header(x->http, "Content-Type", "text/event-stream");
        add_header(x->http, "X-Accel-Buffering", "no");
        evhttp_send_reply_start(x->http, 200, "OK");
    }
    x->of->sent += evbuffer_get_length(x->out);
    evhttp_send_reply_chunk(x->http, x->out);
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(x->http));
    if (bev && evbuffer_get_length(bufferevent_get_output(bev)) > UNREAD_MAX) {
        (void) cmif_fail(&x->fault, CMIF_E_IO, "the client does not read its answer");
        event_active(x->later, 0, 0);
    }
}

/* Outside of the hooks: the client went away, or a hook met something. */
static void on_later(evutil_socket_t fd, short what, void *context)
{
    exchange *x = context;
    (void) fd, (void) what;
    if (x->http && x->fault.code != CMIF_OK) {
        const bool lied = x->fault.code == CMIF_E_PEER;
        end_with_error(x, lied ? 502 : 500, lied ? "upstream_unavailable" : "server_error", x->fault.text, 0);
    } else {
        count(x, 499);
        exchange_free(x);
    }
}

static void on_ping(evutil_socket_t fd, short what, void *context)
{
    exchange *x = context;
    (void) fd, (void) what;
    if (x->begun && cmif_reply_ping(x->reply, NULL) == CMIF_OK) {
        flush(x);
    }
}

/* ---- hooks ---- */

static void took(exchange *x, cmif_code rc)
{
    if (rc != CMIF_OK) {
        x->fault.code = rc;
        event_active(x->later, 0, 0);
    } else {
        flush(x);
    }
}

#define LISTENS(x) ((x)->http && (x)->fault.code == CMIF_OK)

static void on_text(void *context, uint32_t choice, const char *bytes, size_t size)
{
    exchange *x = context;
    if (LISTENS(x)) {
        took(x, cmif_reply_text(x->reply, choice, bytes, size, &x->fault));
    }
}

static void on_refusal(void *context, uint32_t choice, const char *bytes, size_t size)
{
    exchange *x = context;
    if (LISTENS(x)) {
        took(x, cmif_reply_refusal(x->reply, choice, bytes, size, &x->fault));
    }
}

static void on_tool(void *context, uint32_t choice, uint32_t index, const char *name, size_t name_size,
                    const char *arguments, size_t size)
{
    exchange *x = context;
    if (LISTENS(x)) {
        took(x, cmif_reply_tool(x->reply, choice, index, name, name_size, arguments, size, &x->fault));
    }
}

static void on_logprobs(void *context, uint32_t choice, const json_t *logprobs)
{
    exchange *x = context;
    if (LISTENS(x)) {
        took(x, cmif_reply_logprobs(x->reply, choice, logprobs, &x->fault));
    }
}

static void on_vector(void *context, uint32_t index, const float *values, size_t n)
{
    exchange *x = context;
    if (LISTENS(x)) {
        took(x, cmif_reply_vector(x->reply, index, values, n, &x->fault));
    }
}

static void on_finish(void *context, uint32_t choice, cmif_finish reason)
{
    exchange *x = context;
    if (LISTENS(x)) {
        took(x, cmif_reply_finish(x->reply, choice, reason, &x->fault));
    }
}

static void on_usage(void *context, const cmif_call_usage *usage)
{
    exchange *x = context;
    cmif_reply_usage(x->reply, usage);
}

/* What a key may still spend today; INFINITY: as much as it likes. */
static double left_today(const cmif_gateway *g, const char *owner)
{
    double spent = 0, budget = INFINITY;
    return cmif_books_today(g->options.books, owner, &spent, &budget, NULL) == CMIF_OK ? fmax(0, budget - spent) : 0;
}

static void end_well(exchange *x)
{
    cmif_reply_extension extension = {.counts = &x->counts, .epsilon_left_day = left_today(x->of, x->entry.spend.key)};
    size_t               size;
    const void          *came = cmif_reply_came(x->reply, &size);
    cmif_err             err  = {0};
    if (cmif_tab_receipt(&x->entry, x->upstream->model_id, came, size, &extension.receipt, &err) != CMIF_OK) {
        fprintf(stderr, "cmif-gateway: no receipt was written: %s\n", err.text);
    }
    if (cmif_reply_end(x->reply, &extension, &err) != CMIF_OK) {
        evbuffer_drain(x->out, SIZE_MAX);
        end_with_error(x, 502, "upstream_unavailable", err.text, 0);
        return;
    }
    flush(x);
    struct evhttp_request *http = let_go(x);
    count(x, 200);
    if (x->begun) {
        evhttp_send_reply_end(http);
    } else {
        common_headers(x->of, http);
        add_header(http, "Content-Type", cmif_reply_type(x->reply));
        x->of->sent += evbuffer_get_length(x->out);
        evhttp_send_reply(http, 200, "OK", x->out);
    }
    exchange_free(x);
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    static const struct {
        int         status;
        const char *code;
    } ends[] = {
        [CMIF_CALL_REFUSED] = {400, "upstream_refused"},         [CMIF_CALL_BUSY] = {503, "upstream_unavailable"},
        [CMIF_CALL_UNREACHABLE] = {502, "upstream_unavailable"}, [CMIF_CALL_UNTRUSTED] = {502, "attestation_failed"},
        [CMIF_CALL_LIED] = {502, "upstream_unavailable"},        [CMIF_CALL_LATE] = {504, "upstream_unavailable"},
        [CMIF_CALL_CANCELLED] = {503, "upstream_unavailable"}};
    exchange *x = context;
    x->call     = NULL;
    if (!LISTENS(x)) {
        event_active(x->later, 0, 0);
    } else if (end == CMIF_CALL_DONE) {
        end_well(x);
    } else {
        end_with_error(x, ends[end].status, ends[end].code, sentence, retry);
    }
}

/* ---- a POST ---- */

static cmif_upstream *upstream_of(const cmif_gateway *g, cmif_str model)
{
    for (size_t i = 0; i < g->options.upstream_count; i++) {
        if (cmif_str_is(model, g->options.upstreams[i]->model)) {
            return g->options.upstreams[i];
        }
    }
    return NULL;
}

static void refuse(cmif_gateway *g, struct evhttp_request *http, cmif_endpoint endpoint, int status, const char *code,
                   const char *param, const char *sentence, uint32_t retry)
{
    g->requests[endpoint][status / 100 % 6]++;
    answer_error(g, http, status, code, param, sentence, retry);
}

static void post(cmif_gateway *g, struct evhttp_request *http, cmif_endpoint endpoint, const char *owner)
{
    struct evbuffer     *in      = evhttp_request_get_input_buffer(http);
    const size_t         size    = evbuffer_get_length(in);
    const void          *body    = size ? (const void *) evbuffer_pullup(in, -1) : "";
    cmif_request_problem problem = {{0}};
    cmif_err             err     = {0};
    const struct timeval pings   = {.tv_sec = PING_SECONDS};
    cmif_request        *request = NULL;

    if (cmif_request_parse(endpoint, body, size, &request, &problem, &err) != CMIF_OK) {
        const bool memory = err.code == CMIF_E_MEMORY;
        refuse(g, http, endpoint, memory ? 500 : 400, memory ? "server_error" : NULL, problem.param, err.text, 0);
        return;
    }
    exchange *x = calloc(1, sizeof *x);
    if (!x) {
        cmif_request_free(request);
        refuse(g, http, endpoint, 500, "server_error", NULL, "no memory for a request", 0);
        return;
    }
    *x = (exchange){.of = g, .http = http, .request = request, .started_us = now_us(), .next = g->exchanges};
    const char *show = evhttp_find_header(evhttp_request_get_input_headers(http), "X-CMIF-Show");
    request->show    = show && !strcmp(show, "left");
    g->exchanges     = x;
    g->busy++;
    x->upstream = upstream_of(g, request->model);
    if (!x->upstream) {
        end_with_error(x, 404, "model_not_found", "no such model here: GET /v1/models lists them", 0);
        return;
    }
    x->later = event_new(g->options.base, -1, 0, on_later, x);
    x->ping  = event_new(g->options.base, -1, EV_PERSIST, on_ping, x);
    x->out   = evbuffer_new();
    x->gone  = event_new(g->options.base,
                         bufferevent_getfd(evhttp_connection_get_bufferevent(evhttp_request_get_connection(http))),
                         EV_READ | EV_CLOSED, on_gone, x);
    if (!x->later || !x->ping || !x->out || !x->gone || event_add(x->ping, &pings) != 0 ||
        event_add(x->gone, NULL) != 0) {
        end_with_error(x, 500, "server_error", "no memory for a request", 0);
        return;
    }
    cmif_code rc = cmif_upstream_check(x->upstream, request, &err);
    if (rc != CMIF_OK) {
        end_with_error(x, 400, NULL, err.text, 0);
        return;
    }
    rc = cmif_talks_find(g->options.talks, owner, request, (int64_t) time(NULL), &x->talk, &err);
    if (rc != CMIF_OK) {
        end_with_error(x, rc == CMIF_E_RANGE ? 503 : 500, "server_error", err.text, rc == CMIF_E_RANGE ? 5 : 0);
        return;
    }
    rc = cmif_talk_release(x->talk, request, &x->entry, &x->counts, &err);
    if (rc != CMIF_OK) {
        end_with_error(x,
                       rc == CMIF_E_BUDGET  ? 403
                       : rc == CMIF_E_RANGE ? 400
                                            : 500,
                       rc == CMIF_E_BUDGET || rc == CMIF_E_RANGE ? "policy_denied" : "server_error", err.text, 0);
        return;
    }
    for (size_t c = 0; c < CMIF_SPAN_CLASSES; c++) {
        g->words[c] += x->counts.by_class[c][CMIF_ACTION_CHANNEL] + x->counts.by_class[c][CMIF_ACTION_SURROGATE];
    }
    g->draws += x->counts.draws;
    g->epsilon_micro += x->counts.epsilon_micro;

    const cmif_reply_options about = {.request = request,
                                      .talk    = x->talk,
                                      .model   = x->upstream->model,
                                      .created = (int64_t) time(NULL),
                                      .number  = ++g->number,
                                      .sink    = sink,
                                      .context = x};
    const cmif_call_hooks    hooks = {.on_text     = on_text,
                                      .on_refusal  = on_refusal,
                                      .on_tool     = on_tool,
                                      .on_logprobs = on_logprobs,
                                      .on_vector   = on_vector,
                                      .on_finish   = on_finish,
                                      .on_usage    = on_usage,
                                      .on_end      = on_end,
                                      .context     = x};
    rc                             = cmif_reply_new(&about, &x->reply, &err);
    if (rc == CMIF_OK) {
        evhttp_connection_set_closecb(evhttp_request_get_connection(http), on_closed, x);
        rc = cmif_upstream_start(x->upstream, request, &hooks, &x->call, &err);
    }
    if (rc != CMIF_OK) {
        end_with_error(x,
                       rc == CMIF_E_RANGE ? 400
                       : rc == CMIF_E_IO  ? 502
                                          : 500,
                       rc == CMIF_E_IO      ? "upstream_unavailable"
                       : rc == CMIF_E_RANGE ? NULL
                                            : "server_error",
                       err.text, 0);
    }
}

/* ---- what is there ---- */

static json_t *model_json(const cmif_upstream *u)
{
    return json_pack("{s:s, s:s, s:i, s:s}", "id", u->model, "object", "model", "created", 0, "owned_by",
                     u->kind->name);
}

static void send_json(cmif_gateway *g, struct evhttp_request *http, int status, json_t *tree)
{
    char *text = tree ? json_dumps(tree, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    if (text) {
        answer(g, http, status, "application/json", text, strlen(text));
    } else {
        evhttp_send_reply(http, 500, "Internal Server Error", NULL);
    }
    free(text);
    json_decref(tree);
}

static void get_models(cmif_gateway *g, struct evhttp_request *http, const char *id)
{
    json_t *list = json_array();
    for (size_t i = 0; i < g->options.upstream_count; i++) {
        const cmif_upstream *u = g->options.upstreams[i];
        if (id && !strcmp(id, u->model)) {
            json_decref(list);
            send_json(g, http, 200, model_json(u));
            return;
        }
        json_array_append_new(list, model_json(u));
    }
    if (id) {
        json_decref(list);
        answer_error(g, http, 404, "model_not_found", "model", "no such model here: GET /v1/models lists them", 0);
    } else {
        send_json(g, http, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
    }
}

/* Live: this program answers. Ready: so would an upstream. */
static void get_ready(cmif_gateway *g, struct evhttp_request *http)
{
    char why[160] = "there is no upstream";
    bool ready    = false;
    for (size_t i = 0; i < g->options.upstream_count && !ready; i++) {
        const cmif_upstream *u = g->options.upstreams[i];
        ready                  = u->kind->state(u, why, sizeof why) == CMIF_UPSTREAM_READY;
    }
    ready              = ready && !g->draining;
    const char *reason = g->draining ? "shutting down" : why;
    send_json(g, http, ready ? 200 : 503,
              ready ? json_pack("{s:s}", "status", "ok")
                    : json_pack("{s:s, s:s}", "status", "unavailable", "reason", reason));
}

static void get_metrics(cmif_gateway *g, struct evhttp_request *http)
{
    static const char *const endpoints[] = {"chat", "completions", "embeddings"};
    struct evbuffer         *body        = evbuffer_new();
    if (!body) {
        evhttp_send_reply(http, 500, "Internal Server Error", NULL);
        return;
    }
    evbuffer_add_printf(body, "# TYPE cmif_requests_total counter\n");
    for (size_t e = 0; e < CMIF_ENDPOINTS; e++) {
        for (size_t s = 2; s < 6; s++) {
            evbuffer_add_printf(body, "cmif_requests_total{endpoint=\"%s\",code=\"%zuxx\"} %" PRIu64 "\n", endpoints[e],
                                s, g->requests[e][s]);
        }
    }
    evbuffer_add_printf(body,
                        "# TYPE cmif_requests_running gauge\ncmif_requests_running %zu\n# TYPE cmif_conversations "
                        "gauge\ncmif_conversations %zu\n",
                        g->busy, cmif_talks_count(g->options.talks));
    evbuffer_add_printf(body, "# TYPE cmif_words_replaced_total counter\n");
    for (size_t c = CMIF_SPAN_OTHER + 1; c < CMIF_SPAN_CLASSES; c++) {
        evbuffer_add_printf(body, "cmif_words_replaced_total{class=\"%s\"} %" PRIu64 "\n",
                            cmif_span_class_name((cmif_span_class) c), g->words[c]);
    }
    evbuffer_add_printf(body,
                        "# TYPE cmif_draws_total counter\ncmif_draws_total %" PRIu64
                        "\n# TYPE cmif_epsilon_spent_total counter\ncmif_epsilon_spent_total %.6f\n",
                        g->draws, (double) g->epsilon_micro / 1e6);
    common_headers(g, http);
    add_header(http, "Content-Type", "text/plain; version=0.0.4");
    evhttp_send_reply(http, 200, "OK", body);
    evbuffer_free(body);
}

/* What the page shows: whose key it is, what is promised, what is spent. */
static void get_status(cmif_gateway *g, struct evhttp_request *http, const char *owner)
{
    double   spent = 0, budget = INFINITY;
    char     why[160];
    cmif_err err;
    json_t  *list = json_array();
    if (cmif_books_today(g->options.books, owner, &spent, &budget, &err) != CMIF_OK) {
        json_decref(list);
        answer_error(g, http, 500, "server_error", NULL, err.text, 0);
        return;
    }
    for (size_t i = 0; i < g->options.upstream_count; i++) {
        const cmif_upstream      *u     = g->options.upstreams[i];
        const cmif_upstream_state state = (why[0] = '\0', u->kind->state(u, why, sizeof why));
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s}", "model", u->model, "kind", u->kind->name, "ready",
                                              state == CMIF_UPSTREAM_READY, "says", why));
    }
    send_json(g, http, 200,
              json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:f, s:o}, s:b}", "version", CMIF_VERSION, "policy",
                        g->options.policy, "guarantee", g->options.guarantee ? g->options.guarantee : "", "key", owner,
                        "upstreams", list, "today", "epsilon", spent, "budget",
                        isfinite(budget) ? json_real(budget) : json_null(), "receipts",
                        g->options.receipts && !cmif_access_needed(g->access)));
}

/* The signed chain, which holds counts of all keys: for the person's own machine only. */
static void get_receipts(cmif_gateway *g, struct evhttp_request *http)
{
    const bool       ours = g->options.receipts && !cmif_access_needed(g->access);
    const int        fd   = ours ? open(g->options.receipts, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    struct stat      about;
    struct evbuffer *body = fd >= 0 ? evbuffer_new() : NULL;
    if (body && fstat(fd, &about) == 0 && about.st_size > 0 && evbuffer_add_file(body, fd, 0, about.st_size) == 0) {
        common_headers(g, http);
        add_header(http, "Content-Type", "application/x-ndjson");
        add_header(http, "Content-Disposition", "attachment; filename=\"receipts.jsonl\"");
        evhttp_send_reply(http, 200, "OK", body); /* the buffer closes fd */
    } else {
        if (fd >= 0) {
            close(fd);
        }
        answer_error(g, http, 404, NULL, NULL,
                     "there is no receipt yet, or they are not given out here: only where the gateway needs no key", 0);
    }
    if (body) {
        evbuffer_free(body);
    }
}

/* The page and its parts: nobody's words are in them, so that a browser may load them before it has a key. */
static bool get_page(cmif_gateway *g, struct evhttp_request *http, const char *path)
{
    for (size_t i = 0; i < cmif_page_count; i++) {
        const cmif_page *p = &cmif_pages[i];
        if (!strcmp(path, p->path)) {
            add_header(http, "Content-Security-Policy",
                       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
            add_header(http, "Referrer-Policy", "no-referrer");
            add_header(http, "Cross-Origin-Opener-Policy", "same-origin");
            answer(g, http, 200, p->type, p->bytes, p->size);
            return true;
        }
    }
    return false;
}

static bool allowed(cmif_gateway *g, struct evhttp_request *http, const char **owner)
{
    const struct evkeyvalq *in = evhttp_request_get_input_headers(http);
    cmif_access_answer      answer =
        cmif_access_check(g->access, evhttp_find_header(in, "Authorization"), evhttp_find_header(in, "Host"),
                          evhttp_find_header(in, "Origin"), now_us(), owner);
    switch (answer) {
    case CMIF_ACCESS_YES:
        return true;
    case CMIF_ACCESS_TOO_OFTEN:
        answer_error(g, http, 429, "rate_limit_exceeded", NULL, "too many wrong keys: wait", 10);
        return false;
    case CMIF_ACCESS_STRANGE:
        answer_error(g, http, 403, "permission_error", NULL,
                     "this came under the name of another host, or from a page of another origin: a gateway without "
                     "keys answers programs of this machine",
                     0);
        return false;
    default:
        answer_error(g, http, 401, "invalid_api_key", NULL, "this gateway wants a key: Authorization: Bearer KEY", 0);
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
        common_headers(g, http);
        evhttp_send_reply(http, 204, "No Content", NULL);
        return;
    }
    if (!strcmp(path, "/health")) {
        send_json(g, http, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    if (method == EVHTTP_REQ_GET && cmif_access_needed(g->access) && get_page(g, http, path)) {
        return;
    }
    if (!allowed(g, http, &owner)) {
        return;
    }
    for (cmif_endpoint e = CMIF_ENDPOINT_CHAT; e < CMIF_ENDPOINTS; e++) {
        if (!strcmp(path, cmif_endpoint_path(e) + 3)) {
            if (method != EVHTTP_REQ_POST) {
                answer_error(g, http, 405, NULL, NULL, "this is for POST", 0);
            } else if (g->draining) {
                answer_error(g, http, 503, "upstream_unavailable", NULL, "the gateway is going away", 5);
            } else {
                post(g, http, e, owner);
            }
            return;
        }
    }
    if (method != EVHTTP_REQ_GET) {
        answer_error(g, http, strcmp(path, "/responses") == 0 ? 501 : 404, NULL, NULL,
                     "no such endpoint: chat/completions, completions and embeddings are there", 0);
    } else if (!strcmp(path, "/models")) {
        get_models(g, http, NULL);
    } else if (!strncmp(path, "/models/", 8)) {
        get_models(g, http, path + 8);
    } else if (get_page(g, http, path)) {
        return;
    } else if (!strcmp(path, "/status")) {
        get_status(g, http, owner);
    } else if (!strcmp(path, "/receipts")) {
        get_receipts(g, http);
    } else if (!strcmp(path, "/ready")) {
        get_ready(g, http);
    } else if (!strcmp(path, "/metrics")) {
        get_metrics(g, http);
    } else if (!strcmp(path, "/version")) {
        send_json(g, http, 200, json_pack("{s:s, s:s}", "version", CMIF_VERSION, "policy", g->options.policy));
    } else {
        answer_error(g, http, 404, NULL, NULL, "no such page", 0);
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
    while (g->exchanges) {
        (void) let_go(g->exchanges);
        exchange_free(g->exchanges);
    }
    if (g->http) {
        evhttp_free(g->http);
    }
    if (g->tick) {
        event_free(g->tick);
    }
    cmif_access_free(g->access);
    free(g);
}
