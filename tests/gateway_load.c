/* gateway_load - a fast upstream, and many clients at once: what a gateway between them adds, and whether every answer
 * is right.
 *
 *     gateway_load serve PORT COUNTS MS      says back what it was told, in EVENTS pieces over MS milliseconds. How
 * many requests came is kept in the file COUNTS, also when it is killed. What comes under /plain is neither counted nor
 * looked at. gateway_load drive SECONDS MS OPTION... gateway=PORT:STREAMS direct=PORT:STREAMS proxy=PORT:STREAMS    who
 * is asked, by how many streams at once pid=PID       whose memory is looked at vanish=N      N of 100 clients go away
 * in mid-stream storm=1       upstreams and gateways come and go: an answer may break off, but what came of it must be
 * right
 *
 * An answer begins with the time when the upstream had the request and ends with the time when it said so: what was on
 * the way is told from what the upstream took for itself. Clients send talks of three turns, with the whole history
 * each time, made of names that must not leave and must come back. Exit code 1: something was wrong. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KEPT "kept.example" /* in every talk; it never leaves */

enum { EVENTS = 20, BODY_MAX = 1 << 20, TURNS = 3, HUNG_SECONDS = 30, PATHS = 3 };

typedef struct counts { /* in a file that outlives who writes it */
    uint64_t requests, leaks;
} counts;

static struct event_base *base;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *why)
{
    fprintf(stderr, "gateway_load: %s\n", why);
    exit(2);
}

/* ---- the upstream ---- */

typedef struct stream {
    struct bufferevent *bev;
    struct event       *timer;
    char               *text; /* what it is told to say; NULL: no request */
    size_t              size, at;
    int                 event;
} stream;

static volatile counts *seen;
static int64_t          pause_us;

static void put_event(stream *s, const char *text, size_t size, const char *finish)
{
    json_t *delta = finish ? json_object() : json_pack("{s:s%}", "content", text, size);
    json_t *tree  = json_pack("{s:s, s:s, s:[{s:i, s:o, s:s?}]}", "object", "chat.completion.chunk", "model", "there",
                              "choices", "index", 0, "delta", delta, "finish_reason", finish);
    char   *line  = json_dumps(tree, JSON_COMPACT);
    if (!line) {
        die("no memory, or no UTF-8");
    }
    evbuffer_add_printf(bufferevent_get_output(s->bev), "%zx\r\ndata: %s\n\n\r\n", strlen(line) + 8, line);
    free(line);
    json_decref(tree);
}

static void next_event(evutil_socket_t fd, short what, void *context)
{
    const struct timeval pause = {.tv_sec = pause_us / 1000000, .tv_usec = pause_us % 1000000};
    stream              *s     = context;
    char                 time_[40];
    (void) fd, (void) what;
    s->event++;
    size_t upto = s->size * (size_t) s->event / (EVENTS - 1);
    while (upto < s->size && ((unsigned char) s->text[upto] & 0xc0) == 0x80) {
        upto++;
    }
    if (s->event < EVENTS) {
        put_event(s, s->text + s->at, upto - s->at, NULL);
        s->at = upto;
        event_add(s->timer, &pause);
        return;
    }
    put_event(s, time_, (size_t) snprintf(time_, sizeof time_, " <%" PRId64 ">", now_ns()), NULL);
    put_event(s, "", 0, "stop");
    static const char last[] =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20}}\n\ndata: [DONE]\n\n";
    evbuffer_add_printf(bufferevent_get_output(s->bev), "%zx\r\n%s\r\n0\r\n\r\n", sizeof last - 1, last);
    free(s->text);
    s->text = NULL;
}

static void stream_free(stream *s)
{
    bufferevent_free(s->bev);
    event_free(s->timer);
    free(s->text);
    free(s);
}

static void take_request(stream *s, const char *head, const char *body, size_t size)
{
    static const struct timeval now   = {0};
    const bool                  plain = strstr(head, "POST /plain/") == head;
    char                        time_[40];
    const int64_t               came     = now_ns();
    json_t                     *tree     = json_loadb(body, size, 0, NULL);
    json_t                     *messages = json_object_get(tree, "messages");
    const char                 *content =
        json_string_value(json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content"));
    if (!plain) {
        seen->requests++;
        seen->leaks += memmem(body, size, KEPT, sizeof KEPT - 1) != NULL;
    }
    if (!content) {
        die("a request without a message");
    }
    s->size = (size_t) snprintf(time_, sizeof time_, "<%" PRId64 "> ", came) + strlen(content);
    s->text = malloc(s->size + 1);
    if (!s->text) {
        die("no memory");
    }
    strcpy(stpcpy(s->text, time_), content);
    s->at    = 0;
    s->event = 0;
    json_decref(tree);
    evbuffer_add_printf(bufferevent_get_output(s->bev),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n%s\r\n",
                        strstr(head, "Connection: close") ? "Connection: close\r\n" : "");
    event_add(s->timer, &now);
}

static void on_bytes(struct bufferevent *bev, void *context)
{
    stream             *s   = context;
    struct evbuffer    *in  = bufferevent_get_input(bev);
    struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
    if (end.pos < 0 || s->text) {
        return;
    }
    const size_t head_size = (size_t) end.pos + 4;
    char        *head      = calloc(1, head_size + 1);
    if (!head || evbuffer_copyout(in, head, head_size) < 0) {
        die("no memory");
    }
    const char  *length = strcasestr(head, "content-length:");
    const size_t size   = length ? strtoul(length + 15, NULL, 10) : 0;
    if (!size || size > BODY_MAX) {
        die("a request without a length");
    }
    if (evbuffer_get_length(in) >= head_size + size) {
        take_request(s, head, (const char *) evbuffer_pullup(in, (ssize_t) (head_size + size)) + head_size, size);
        evbuffer_drain(in, head_size + size);
    }
    free(head);
}

static void on_gone(struct bufferevent *bev, short what, void *context)
{
    (void) bev, (void) what;
    stream_free(context);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int size,
                      void *context)
{
    stream *s = calloc(1, sizeof *s);
    (void) listener, (void) from, (void) size, (void) context;
    s->bev   = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    s->timer = evtimer_new(base, next_event, s);
    bufferevent_setcb(s->bev, on_bytes, NULL, on_gone, s);
    bufferevent_enable(s->bev, EV_READ | EV_WRITE);
}

static int serve(uint16_t port, const char *file, int ms)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *seen) != 0 ||
        (seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
        die("no file for counts");
    }
    pause_us = (int64_t) ms * 1000 / (EVENTS - 1);
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 1024,
                                (const struct sockaddr *) (const void *) &address, sizeof address);
    struct sockaddr_in bound;
    socklen_t          size = sizeof bound;
    if (!listener || getsockname(evconnlistener_get_fd(listener), (struct sockaddr *) (void *) &bound, &size) != 0) {
        die("cannot listen");
    }
    printf("ready %u\n", ntohs(bound.sin_port));
    fflush(stdout);
    return event_base_dispatch(base);
}

/* ---- clients ---- */

static const char *const path_names[PATHS] = {"gateway", "direct", "proxy"};

typedef struct path { /* one of those who are asked */
    uint16_t port;
    int      streams;
    uint64_t done, failed, broken, wrong, hung, vanished;
    double  *ms, *up_ms, *down_ms; /* on the way: there, back, together */
    size_t   count, room;
} path;

typedef struct slot { /* a client, again and again */
    path                     *at;
    struct evhttp_connection *connection;
    struct evhttp_request    *request; /* NULL: none under way */
    struct event             *again, *deadline;
    json_t                   *messages;
    char                      expected[512];
    int                       turn, chunks, vanish_at;
    struct evbuffer          *in, *text; /* unread bytes of the stream; the answer so far */
    int64_t                   sent_ns;
    bool                      finished, strange;
} slot;

static path     paths[PATHS];
static int      turn_ms, vanish, storm, pid;
static int64_t  begin_ns, end_ns;
static long     memory_quarter;
static uint64_t running;

static unsigned chance(unsigned below)
{
    static uint64_t x = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (unsigned) ((x >> 33) % below);
}

static void compose(char *out, size_t room)
{
    static const char *const first[] = {"Marisol", "Thomas", "Aisha", "Ingrid", "Kenji", "Olga",
                                        "Pedro",   "Fatima", "Liam",  "Zuzana", "Mateo", "Renée"};
    static const char *const last[]  = {"Okonkwo", "Lindqvist", "Nakamura", "Fernandez", "Kowalski",
                                        "Ivanova", "Haddad",    "Murphy",   "Novak",     "Müller"};
    const char     *a = first[chance(12)], *b = last[chance(10)], *c = first[chance(12)], *d = last[chance(10)];
    static uint64_t number;
    snprintf(out, room,
             "You said: I am %s %s, and %s %s is my doctor. Write to %c%c%c%" PRIu64 "@" KEPT
             " about it, card 4111 1111 1111 1111, and tell %s when %s is back.",
             a, b, c, d, 'a' + (int) chance(26), 'a' + (int) chance(26), 'a' + (int) chance(26), ++number, a, d);
}

static void ask(slot *s);

static void on_again(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what;
    if (now_ns() < end_ns) {
        ask(context);
    } else if (running == 0) {
        event_base_loopbreak(base);
    }
}

/* The next one: a moment later, so that streams do not march in step. */
static void over(slot *s, bool well)
{
    const struct timeval soon = {.tv_usec = (well ? 1000 : 20000) + (int) chance(20000)};
    s->request                = NULL;
    s->turn                   = well ? s->turn + 1 : TURNS;
    running--;
    event_del(s->deadline);
    if (now_ns() < end_ns) {
        event_add(s->again, &soon);
    } else if (running == 0) {
        event_base_loopbreak(base);
    }
}

static void new_connection(slot *s)
{
    if (s->connection) {
        evhttp_connection_free(s->connection);
    }
    s->connection = evhttp_connection_base_new(base, NULL, "127.0.0.1", s->at->port);
    evhttp_connection_set_timeout(s->connection, 2 * HUNG_SECONDS);
}

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    slot *s = context;
    (void) fd, (void) what;
    s->at->hung++;
    evhttp_cancel_request(s->request);
    new_connection(s);
    over(s, false);
}

static void vanish_now(evutil_socket_t fd, short what, void *context)
{
    slot *s = context;
    (void) fd, (void) what;
    if (s->request && s->vanish_at) {
        s->at->vanished++;
        evhttp_cancel_request(s->request);
        new_connection(s);
        over(s, false);
    }
}

/* The answer so far, without its first time: is it what was said, as far as it goes? */
static const char *said(slot *s, int64_t *came)
{
    evbuffer_add(s->text, "", 1);
    const char *text = (const char *) evbuffer_pullup(s->text, -1), *close = strstr(text, "> ");
    *came = *text == '<' && close ? strtoll(text + 1, NULL, 10) : 0;
    return *came ? close + 2 : text;
}

static void measure(slot *s, int64_t came, int64_t ended)
{
    path         *p   = s->at;
    const int64_t now = now_ns();
    if (p->count == p->room) {
        p->room    = p->room ? 2 * p->room : 4096;
        p->ms      = realloc(p->ms, p->room * sizeof *p->ms);
        p->up_ms   = realloc(p->up_ms, p->room * sizeof *p->up_ms);
        p->down_ms = realloc(p->down_ms, p->room * sizeof *p->down_ms);
        if (!p->ms || !p->up_ms || !p->down_ms) {
            die("no memory");
        }
    }
    p->up_ms[p->count]   = (double) (came - s->sent_ns) / 1e6;
    p->down_ms[p->count] = (double) (now - ended) / 1e6;
    p->ms[p->count]      = p->up_ms[p->count] + p->down_ms[p->count];
    p->count++;
}

static void on_done(struct evhttp_request *request, void *context)
{
    slot        *s = context;
    path        *p = s->at;
    int64_t      came;
    const char  *text   = said(s, &came);
    const int    status = request ? evhttp_request_get_response_code(request) : 0;
    const size_t size = strlen(s->expected), long_ = strlen(text);
    bool         well = false;
    if (status == 200 && s->finished) {
        const char   *last  = long_ > size + 2 ? text + size : "";
        const int64_t ended = !strncmp(last, " <", 2) ? strtoll(last + 2, NULL, 10) : 0;
        well                = came && ended && !strncmp(text, s->expected, size) && !s->strange;
        p->done += well;
        p->wrong += !well;
        if (well) {
            measure(s, came, ended);
            json_array_append_new(s->messages, json_pack("{s:s, s:o}", "role", "assistant", "content",
                                                         json_string((const char *) evbuffer_pullup(s->text, -1))));
        } else {
            fprintf(stderr, "gateway_load: wrong: '%s' in place of '%s'\n", text, s->expected);
        }
    } else if (storm && !s->strange) {
        p->broken++;
        if (came && strncmp(text, s->expected, long_ < size ? long_ : size) != 0) { /* what came before it broke off */
            p->wrong++;
            fprintf(stderr, "gateway_load: wrong: '%s' in place of '%s'\n", text, s->expected);
        }
    } else {
        p->failed++;
        fprintf(stderr, "gateway_load: %s: HTTP %d, %s: %.300s\n", path_names[p - paths], status,
                s->strange ? "no stream" : "broke off", text);
    }
    if (status != 200 || !s->finished) { /* it may have closed */
        s->request = NULL;
    }
    over(s, well);
}

static void take_line(slot *s, const char *line)
{
    if (!strncmp(line, "data: [DONE]", 12)) {
        s->finished = true;
        return;
    }
    json_t     *tree = strncmp(line, "data: ", 6) == 0 ? json_loads(line + 6, 0, NULL) : NULL;
    const char *text = json_string_value(
        json_object_get(json_object_get(json_array_get(json_object_get(tree, "choices"), 0), "delta"), "content"));
    if (text) {
        evbuffer_add(s->text, text, strlen(text));
    } else if (!tree && *line && *line != ':') {
        s->strange = true;
    }
    json_decref(tree);
}

static void on_chunk(struct evhttp_request *request, void *context)
{
    static const struct timeval now = {0};
    slot                       *s   = context;
    char                       *line;
    struct evbuffer            *in = evhttp_request_get_input_buffer(request);
    if (evhttp_request_get_response_code(request) != 200) {
        return;
    }
    evbuffer_add_buffer(s->in, in);
    while ((line = evbuffer_readln(s->in, NULL, EVBUFFER_EOL_LF))) {
        take_line(s, line);
        free(line);
    }
    if (s->vanish_at && ++s->chunks == s->vanish_at) {
        event_base_once(base, -1, EV_TIMEOUT, vanish_now, s, &now);
    }
}

static void ask(slot *s)
{
    const struct timeval deadline = {.tv_sec = HUNG_SECONDS + turn_ms / 1000};
    if (s->turn == TURNS || !s->messages) {
        json_decref(s->messages);
        s->messages = json_array();
        s->turn     = 0;
    }
    compose(s->expected, sizeof s->expected);
    evbuffer_drain(s->in, SIZE_MAX);
    evbuffer_drain(s->text, SIZE_MAX);
    s->finished = s->strange = false;
    s->chunks                = 0;
    s->vanish_at             = (int) chance(100) < vanish && s->at == paths ? 1 + (int) chance(EVENTS) : 0;
    json_array_append_new(s->messages, json_pack("{s:s, s:s}", "role", "user", "content", s->expected));
    json_t *tree = json_pack("{s:s, s:b, s:O}", "model", "there", "stream", 1, "messages", s->messages);
    char   *body = json_dumps(tree, JSON_COMPACT);
    json_decref(tree);
    if (!body) {
        die("no memory");
    }
    s->request = evhttp_request_new(on_done, s);
    evhttp_request_set_chunked_cb(s->request, on_chunk);
    evhttp_add_header(evhttp_request_get_output_headers(s->request), "Host", "127.0.0.1");
    evhttp_add_header(evhttp_request_get_output_headers(s->request), "Content-Type", "application/json");
    evbuffer_add(evhttp_request_get_output_buffer(s->request), body, strlen(body));
    free(body);
    running++;
    event_add(s->deadline, &deadline);
    s->sent_ns = now_ns();
    if (evhttp_make_request(s->connection, s->request, EVHTTP_REQ_POST,
                            s->at == paths ? "/v1/chat/completions" : "/plain/chat/completions") != 0) {
        die("a request cannot be made");
    }
}

/* ---- figures ---- */

static long memory_of(int who)
{
    char name[40], line[200];
    long kib = 0;
    snprintf(name, sizeof name, "/proc/%d/status", who);
    FILE *file = who ? fopen(name, "re") : NULL;
    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, "VmRSS:", 6)) {
            kib = strtol(line + 6, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kib;
}

static void on_quarter(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    memory_quarter = memory_of(pid);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double percentile(double *values, size_t count, double share)
{
    qsort(values, count, sizeof *values, by_value);
    return count ? values[(size_t) ((double) (count - 1) * share)] : 0;
}

static int report(void)
{
    bool    good = true;
    json_t *tree =
        json_pack("{s:I, s:I}", "memory_quarter", (json_int_t) memory_quarter, "memory", (json_int_t) memory_of(pid));
    for (size_t i = 0; i < PATHS; i++) {
        path *p = &paths[i];
        if (p->streams) {
            json_object_set_new(
                tree, path_names[i],
                json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "streams", p->streams,
                          "done", (json_int_t) p->done, "failed", (json_int_t) p->failed, "broken",
                          (json_int_t) p->broken, "wrong", (json_int_t) p->wrong, "hung", (json_int_t) p->hung,
                          "vanished", (json_int_t) p->vanished, "p50", percentile(p->ms, p->count, 0.5), "p99",
                          percentile(p->ms, p->count, 0.99), "up_p50", percentile(p->up_ms, p->count, 0.5), "up_p99",
                          percentile(p->up_ms, p->count, 0.99), "down_p50", percentile(p->down_ms, p->count, 0.5),
                          "down_p99", percentile(p->down_ms, p->count, 0.99)));
            good = good && p->done && !p->failed && !p->wrong && !p->hung;
        }
    }
    json_dumpf(tree, stdout, JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(tree);
    return good ? 0 : 1;
}

/* Enough: what is under way is waited for. */
static void on_term(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    end_ns = now_ns();
    if (running == 0) {
        event_base_loopbreak(base);
    }
}

static int drive(double seconds)
{
    event_add(evsignal_new(base, SIGTERM, on_term, NULL), NULL);
    const struct timeval quarter = {.tv_sec = (long) (seconds / 4), .tv_usec = (long) (seconds * 250000) % 1000000};
    begin_ns                     = now_ns();
    end_ns                       = begin_ns + (int64_t) (seconds * 1e9);
    event_base_once(base, -1, EV_TIMEOUT, on_quarter, NULL, &quarter);
    for (path *p = paths; p < paths + PATHS; p++) {
        for (int i = 0; i < p->streams; i++) {
            slot                *s     = calloc(1, sizeof *s);
            const unsigned       wait  = chance((unsigned) turn_ms * 1000 + 1);
            const struct timeval start = {.tv_sec = wait / 1000000, .tv_usec = wait % 1000000};
            s->at                      = p;
            s->in                      = evbuffer_new();
            s->text                    = evbuffer_new();
            s->again                   = evtimer_new(base, on_again, s);
            s->deadline                = evtimer_new(base, on_deadline, s);
            s->turn                    = TURNS;
            new_connection(s);
            event_add(s->again, &start);
        }
    }
    event_base_dispatch(base);
    return report();
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    if (argc == 5 && !strcmp(argv[1], "serve")) {
        return serve((uint16_t) atoi(argv[2]), argv[3], atoi(argv[4]));
    }
    if (argc < 5 || strcmp(argv[1], "drive") != 0) {
        die("gateway_load serve PORT COUNTS MS | drive SECONDS MS OPTION...");
    }
    turn_ms = atoi(argv[3]);
    for (int i = 4; i < argc; i++) {
        unsigned port;
        int      streams;
        char     name[16];
        if (sscanf(argv[i], "%15[a-z]=%u:%d", name, &port, &streams) == 3) {
            for (size_t p = 0; p < PATHS; p++) {
                if (!strcmp(name, path_names[p])) {
                    paths[p].port    = (uint16_t) port;
                    paths[p].streams = streams;
                }
            }
        } else if (sscanf(argv[i], "pid=%d", &pid) + sscanf(argv[i], "vanish=%d", &vanish) +
                       sscanf(argv[i], "storm=%d", &storm) !=
                   1) {
            die("an option that is none");
        }
    }
    return drive(atof(argv[2]));
}
