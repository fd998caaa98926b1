#include "gateway/front.h"

#include "gateway/post.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PING_SECONDS = 10, UNREAD_MAX = 16 << 20 };

struct cmif_exchange { /* one POST, from its release to its last byte */
    cmif_gateway *of;
    TAILQ_ENTRY(cmif_exchange) all, wait;
    struct evhttp_request *http; /* NULL: the client went away */
    cmif_request          *request;
    cmif_gateway_policy   *policy; /* it leaves under */
    cmif_talk             *talk;
    cmif_tab               entry;
    cmif_talk_counts       counts;
    cmif_upstream         *upstream;
    cmif_call             *call; /* NULL: over, or not begun */
    cmif_reply            *reply;
    struct event          *later, *ping, *gone, *settle;
    bool                   waits;   /* for its entry to be on disk: nothing of it has been sent */
    int                    watched; /* TLS: the socket once more, for gone; -1 */
    struct evbuffer       *out;     /* what is not with libevent yet */
    cmif_err               fault;   /* what a hook met; it is dealt with outside of it */
    bool                   begun;   /* the client has the headers of a stream */
    bool                   ended;   /* it is answered, and counted */
    int64_t                started_us;
};
typedef struct cmif_exchange exchange;

static void stop_waiting(exchange *x)
{
    if (x->waits) {
        TAILQ_REMOVE(&x->of->waiting, x, wait);
    }
    x->waits = false;
}

static void exchange_free(exchange *x)
{
    TAILQ_REMOVE(&x->of->exchanges, x, all);
    x->of->busy--;
    stop_waiting(x);
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
    if (x->watched >= 0) {
        close(x->watched);
    }
    if (x->settle) {
        event_free(x->settle);
    }
    if (x->out) {
        evbuffer_free(x->out);
    }
    cmif_reply_free(x->reply);
    cmif_tab_close(&x->entry);
    if (x->talk) {
        cmif_talk_end(x->talk);
    }
    if (x->policy) {
        x->policy->users--;
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
        const ssize_t n    = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        struct pollfd look = {.fd = fd}; /* what came before a reset is still there to be read */
        const bool    cut  = poll(&look, 1, 0) > 0 && look.revents & (POLLERR | POLLHUP);
        if (!cut && (n > 0 || (n < 0 && errno == EAGAIN))) {
            return; /* it asks on: that it has gone is seen when it is written to, or (TLS says goodbye first) looked at
                     */
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

/* A TLS client says goodbye in a record of its own, which must not be taken for a request: told of each arrival once,
 * on a second descriptor since libevent's own is told otherwise, we look again when its connection ends. */
static struct event *watch(exchange *x)
{
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(evhttp_request_get_connection(x->http)));
    if (!x->of->tls) {
        return event_new(x->of->options.base, fd, EV_READ | EV_CLOSED, on_gone, x);
    }
    x->watched = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return x->watched < 0
               ? NULL
               : event_new(x->of->options.base, x->watched, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_gone, x);
}

/* An answer is with libevent until its last byte is with the kernel, or its client has gone: one of the two is told. */
static void on_unsent(struct evhttp_connection *connection, void *context)
{
    cmif_gateway *g = context;
    (void) connection;
    g->unsent--;
}

static void on_sent(struct evhttp_request *http, void *context)
{
    evhttp_connection_set_closecb(evhttp_request_get_connection(http), NULL, NULL);
    on_unsent(NULL, context);
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
        x->of->unsent++;
        evhttp_connection_set_closecb(evhttp_request_get_connection(http), on_unsent, x->of);
        evhttp_request_set_on_complete_cb(http, on_sent, x->of);
    }
    return http;
}

static void end_with_param(exchange *x, int status, const char *code, const char *param, const char *sentence,
                           uint32_t retry)
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
        cmif_front_error(x->of, http, status, code, param, sentence, retry);
    }
    exchange_free(x);
}

static void end_with_error(exchange *x, int status, const char *code, const char *sentence, uint32_t retry)
{
    end_with_param(x, status, code, NULL, sentence, retry);
}

/* "tools: this model ..." is about the field tools. */
static void end_with_refusal(exchange *x, const char *sentence)
{
    char         param[CMIF_REQUEST_PARAM_SIZE];
    const size_t size = strcspn(sentence, ": ");
    const bool   named =
        sentence[size] == ':' && size < sizeof param && cmif_field_find(x->request->endpoint, "", sentence, size);
    snprintf(param, sizeof param, "%.*s", named ? (int) size : 0, sentence);
    end_with_param(x, 400, NULL, param, sentence, 0);
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
        const int at_once =
            1; /* else the kernel keeps an event back until the client has acknowledged the one before */
        x->begun = true;
        (void) setsockopt(bufferevent_getfd(evhttp_connection_get_bufferevent(evhttp_request_get_connection(x->http))),
                          IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
        cmif_front_headers(x->of, x->http);
        cmif_front_header(x->http, "Content-Type", "text/event-stream");
        cmif_front_header(x->http, "X-Accel-Buffering", "no");
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

/* Outside of the hooks: the answer is on its way, the client went away, or a hook met something. */
static void on_later(evutil_socket_t fd, short what, void *context)
{
    exchange *x = context;
    (void) fd, (void) what;
    if (x->ended) {
        exchange_free(x);
    } else if (x->http && x->fault.code != CMIF_OK) {
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

/* What its key may still spend today; INFINITY: as much as it likes. */
static double left_today(const exchange *x)
{
    double spent = 0, budget = INFINITY;
    return x->entry.entered ? x->entry.left_day
           : cmif_books_today(x->policy->books, x->entry.spend.key, &spent, &budget, NULL) == CMIF_OK
               ? fmax(0, budget - spent)
               : 0;
}

static void end_well(exchange *x)
{
    static const struct timeval soon      = {0};
    cmif_reply_extension        extension = {
               .counts = &x->counts, .policy = x->policy->name, .epsilon_left_day = left_today(x)};
    size_t      size;
    const void *came = cmif_reply_came(x->reply, &size);
    cmif_err    err  = {0};
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
    struct bufferevent    *bev  = evhttp_connection_get_bufferevent(evhttp_request_get_connection(http));
    const size_t           mine = x->of->unsent;
    count(x, 200);
    if (x->begun) {
        evhttp_send_reply_end(http);
    } else {
        cmif_front_headers(x->of, http);
        cmif_front_header(http, "Content-Type", cmif_reply_type(x->reply));
        x->of->sent += evbuffer_get_length(x->out);
        evhttp_send_reply(http, 200, "OK", x->out);
    }
    if (x->of->unsent == mine) { /* else it was sent, and its connection may have ended with it */
        cmif_write_now(bev);
    }
    x->ended = true;
    event_del(x->ping);
    if (event_add(x->later, &soon) != 0) { /* behind the answer's last bytes */
        exchange_free(x);
    }
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
    cmif_front_error(g, http, status, code, param, sentence, retry);
}

/* ---- which policy ---- */

/* Whether b lets out nothing that a keeps. */
static bool tightens(const cmif_gateway_policy *a, const cmif_gateway_policy *b)
{
    return !a->policy || (b->policy && cmif_policy_tightens(a->policy, b->policy));
}

/* Whether something of the request was kept back under p, or under what p was before it was read again. */
static bool knows(const cmif_gateway_policy *p, const char *owner, const cmif_request *request)
{
    while (p && !cmif_talks_knows(p->talks, owner, request)) {
        p = p->was;
    }
    return p != NULL;
}

/* Of those that let out nothing that a or b keeps one that keeps no more than the others do. NULL: there is none. */
static cmif_gateway_policy *tighter_than_both(const cmif_gateway_rules *r, const cmif_gateway_policy *a,
                                              const cmif_gateway_policy *b)
{
    cmif_gateway_policy *best = NULL;
    for (size_t i = 0; i < r->policy_count; i++) {
        cmif_gateway_policy *p = r->policies[i];
        best                   = tightens(a, p) && tightens(b, p) && (!best || tightens(p, best)) ? p : best;
    }
    return best;
}

/* The key's, or a tighter one that the request asks for; and where its conversation left under a tighter one already,
 * that one: what was kept then is not let out by leaving a header away. Where that one is gone, one that is as tight.
 * NULL: it was answered. */
static cmif_gateway_policy *choose_policy(exchange *x, const cmif_access_key *key)
{
    const cmif_gateway_rules *r      = &x->of->options.rules;
    const char               *owner  = cmif_front_owner(key);
    const char               *asked  = evhttp_find_header(evhttp_request_get_input_headers(x->http), "X-CMIF-Policy");
    cmif_gateway_policy      *of_key = cmif_front_key_policy(x->of, key),
                        *best        = asked ? cmif_front_policy(x->of, asked) : of_key;
    if (!best) {
        end_with_error(x, 400, "policy_unknown", "X-CMIF-Policy: the gateway has no policy of this name", 0);
        return NULL;
    }
    if (!tightens(of_key, best)) {
        end_with_error(x, 403, "policy_denied",
                       "X-CMIF-Policy: this policy lets out something that the key's own keeps; a request may only ask "
                       "for a tighter one",
                       0);
        return NULL;
    }
    for (size_t i = 0; i < r->policy_count && best; i++) {
        cmif_gateway_policy *p = r->policies[i];
        if (p != best && knows(p, owner, x->request) && !tightens(p, best)) {
            best = tightens(best, p) ? p : NULL;
        }
    }
    for (const cmif_gateway_policy *p = r->gone ? r->gone->was : NULL; p && best; p = p->was) {
        if (cmif_talks_knows(p->talks, owner, x->request) && !tightens(p, best)) {
            best = tighter_than_both(r, p, best);
        }
    }
    if (!best) {
        end_with_error(x, 403, "policy_denied",
                       "this conversation left under another policy, and neither keeps all that the other does: "
                       "begin a new one",
                       0);
    }
    return best;
}

/* ---- to the upstream, once it is entered ---- */

static void send_on(exchange *x)
{
    const cmif_call_hooks hooks = {.on_text     = on_text,
                                   .on_refusal  = on_refusal,
                                   .on_tool     = on_tool,
                                   .on_logprobs = on_logprobs,
                                   .on_vector   = on_vector,
                                   .on_finish   = on_finish,
                                   .on_usage    = on_usage,
                                   .on_end      = on_end,
                                   .context     = x};
    cmif_err              err   = {0};
    cmif_code             rc    = cmif_upstream_start(x->upstream, x->request, &hooks, &x->call, &err);
    if (rc == CMIF_E_RANGE) {
        end_with_refusal(x, err.text);
    } else if (rc != CMIF_OK) {
        end_with_error(x, rc == CMIF_E_IO ? 502 : 500, rc == CMIF_E_IO ? "upstream_unavailable" : "server_error",
                       err.text, 0);
    }
}

/* Requests that came together wait for the disk together: one write for all their entries, then they are sent. All who
 * wait have the same books. */
static void settle(cmif_gateway *g, cmif_books *books)
{
    cmif_err        err = {0};
    const cmif_code rc  = cmif_books_settle(books, &err);
    for (exchange *x = TAILQ_FIRST(&g->waiting); x; x = TAILQ_FIRST(&g->waiting)) {
        stop_waiting(x);
        if (rc != CMIF_OK) {
            cmif_talk_unsettled(x->talk, &x->entry);
            end_with_error(x, 500, "server_error", err.text, 0);
        } else if (x->http) { /* else its client went away: it is about to be freed, and stays counted */
            send_on(x);
        }
    }
}

static void on_settle(evutil_socket_t fd, short what, void *context)
{
    exchange *x = context;
    (void) fd, (void) what;
    if (x->waits) {
        settle(x->of, cmif_talk_books(x->talk));
    }
}

/* Other books than these write the same ledger, which would wait for us. */
static void settle_others(cmif_gateway *g, const cmif_books *books)
{
    const exchange *x = TAILQ_FIRST(&g->waiting);
    if (x && cmif_talk_books(x->talk) != books) {
        settle(g, cmif_talk_books(x->talk));
    }
}

void cmif_gateway_settle(cmif_gateway *g)
{
    settle_others(g, NULL);
}

void cmif_front_post(cmif_gateway *g, struct evhttp_request *http, cmif_endpoint endpoint, cmif_access_key *key)
{
    struct evbuffer     *in      = evhttp_request_get_input_buffer(http);
    const size_t         size    = evbuffer_get_length(in);
    const void          *body    = size ? (const void *) evbuffer_pullup(in, -1) : "";
    cmif_request_problem problem = {{0}};
    cmif_err             err     = {0};
    const struct timeval pings   = {.tv_sec = PING_SECONDS};
    cmif_request        *request = NULL;
    const uint32_t       wait    = cmif_access_rate(key, cmif_front_now_us());

    if (wait) {
        refuse(g, http, endpoint, 429, "rate_limit_exceeded", NULL, "this key asks more often than it may", wait);
        return;
    }
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
    *x = (exchange){.of = g, .http = http, .request = request, .started_us = cmif_front_now_us(), .watched = -1};
    const char *show = evhttp_find_header(evhttp_request_get_input_headers(http), "X-CMIF-Show");
    request->show    = show && !strcmp(show, "left");
    TAILQ_INSERT_TAIL(&g->exchanges, x, all);
    g->busy++;
    x->upstream = upstream_of(g, request->model);
    if (!x->upstream) {
        end_with_error(x, 404, "model_not_found", "no such model here: GET /v1/models lists them", 0);
        return;
    }
    x->later  = event_new(g->options.base, -1, 0, on_later, x);
    x->ping   = event_new(g->options.base, -1, EV_PERSIST, on_ping, x);
    x->out    = evbuffer_new();
    x->gone   = watch(x);
    x->settle = event_new(g->options.base, -1, 0, on_settle, x);
    if (!x->later || !x->ping || !x->out || !x->gone || !x->settle || event_add(x->ping, &pings) != 0 ||
        event_add(x->gone, NULL) != 0) {
        end_with_error(x, 500, "server_error", "no memory for a request", 0);
        return;
    }
    cmif_code rc = cmif_upstream_check(x->upstream, request, &err);
    if (rc != CMIF_OK) {
        end_with_refusal(x, err.text);
        return;
    }
    cmif_gateway_policy *policy = choose_policy(x, key);
    if (!policy) {
        return;
    }
    x->policy = policy;
    policy->users++;
    rc = cmif_talks_find(policy->talks, cmif_front_owner(key), request, (int64_t) time(NULL), &x->talk, &err);
    if (rc != CMIF_OK) {
        end_with_error(x, rc == CMIF_E_RANGE ? 503 : 500, "server_error", err.text, rc == CMIF_E_RANGE ? 5 : 0);
        return;
    }
    settle_others(g, cmif_talk_books(x->talk));
    cmif_books_gather(cmif_talk_books(x->talk));
    rc = cmif_talk_release(x->talk, request, &x->entry, &x->counts, &err);
    if (rc != CMIF_OK) {
        end_with_error(x,
                       rc == CMIF_E_BUDGET        ? 403
                       : rc == CMIF_E_RANGE       ? 400
                       : rc == CMIF_E_UNSUPPORTED ? 413
                       : rc == CMIF_E_MEMORY      ? 503
                                                  : 500,
                       rc == CMIF_E_BUDGET || rc == CMIF_E_RANGE ? "policy_denied"
                       : rc == CMIF_E_UNSUPPORTED                ? "conversation_too_long"
                                                                 : "server_error",
                       err.text, rc == CMIF_E_MEMORY ? 5 : 0);
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
    rc                             = cmif_reply_new(&about, &x->reply, &err);
    if (rc != CMIF_OK) {
        settle(g, cmif_talk_books(x->talk)); /* its entry stays */
        end_with_error(x, 500, "server_error", err.text, 0);
        return;
    }
    evhttp_connection_set_closecb(evhttp_request_get_connection(http), on_closed, x);
    if (!x->entry.waits) {
        send_on(x);
        return;
    }
    x->waits = true;
    TAILQ_INSERT_TAIL(&g->waiting, x, wait);
    event_active(x->settle, 0, 0); /* behind the requests that are there already */
}

void cmif_front_end(cmif_gateway *g)
{
    for (exchange *x = TAILQ_FIRST(&g->exchanges); x; x = TAILQ_FIRST(&g->exchanges)) {
        (void) let_go(x);
        exchange_free(x);
    }
}
