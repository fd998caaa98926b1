#include "gateway/split.h"

#include "gateway/ask.h"

#include "secret/secret.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { RETRY_SECONDS = 5, PROBE_SECONDS = 5, FULL_SECONDS = 30 };

typedef struct split split;

typedef struct seat { /* a session and its thread */
    split            *of;
    pthread_t         thread;
    bool              started;
    pthread_cond_t    go;
    cmif_session     *session; /* NULL: not open. Set by the thread, under the lock */
    struct cmif_call *job;     /* set by the loop, under the lock; the thread's until job->ended */
    cmif_ids          held;    /* the loop's: whose rows the server still has, as far as we know */
    int64_t           used_us; /* the loop's: begin of its last call */
} seat;

struct cmif_call { /* waiting: in the upstream's list; else some seat's job */
    split            *of;
    struct cmif_call *next;
    cmif_call_hooks   hooks;
    cmif_ask          ask;
    bool              probe;   /* asks nothing: is the server there, and who it must be? */
    bool              silent;  /* cancelled: no hook is called any more */
    bool              refused; /* it never gets a seat */
    int64_t           since_us;

    /* what the thread says; under the lock, while it has not ended */
    int32_t   *came;
    size_t     came_count, came_room;
    float     *vectors; /* (inputs, outputs); those below vector_count are there */
    size_t     vector_count;
    bool       ended, unopened, lost; /* unopened: there was no session; lost: no memory for a token */
    bool       unwanted;              /* cancelled, or enough came: said by the loop */
    cmif_code  rc;
    cmif_usage usage;

    /* the loop's: from tokens to text */
    uint64_t    tokens;
    size_t      vectors_shown;
    uint8_t     part[4]; /* of a character */
    size_t      part_size;
    cmif_secret held;            /* whole characters that may be the begin of a stop */
    bool        trim;            /* no white space has ended yet: some answers begin with a space */
    bool        stopped, broken; /* a stop came; no memory for text */
};

struct split {
    cmif_upstream      upstream; /* first */
    cmif_split_options options;
    cmif_frame_welcome server;
    cmif_ask_model     model;
    seat              *seats;
    struct cmif_call  *waiting; /* oldest first */
    size_t             waiting_count;
    int64_t            full_until_us; /* the server took no more sessions: none is opened before */
    int64_t            probed_us;
    cmif_code          down; /* why the last call did not reach it */

    int             wake; /* eventfd: the loop has something to look at */
    struct event   *event;
    pthread_mutex_t lock;
    bool            quits;
};

static void wake(const split *u)
{
    const uint64_t one = 1;
    (void) !write(u->wake, &one, sizeof one);
}

/* ---- in a seat's thread ---- */

static bool on_token(void *context, int32_t id, float margin, const float *logits)
{
    struct cmif_call *c = context;
    (void) margin, (void) logits;
    pthread_mutex_lock(&c->of->lock);
    if (c->came_count == c->came_room) {
        const size_t room = c->came_room ? 2 * c->came_room : 32;
        int32_t     *more = realloc(c->came, room * sizeof *more);
        c->lost           = !more;
        c->came           = more ? more : c->came;
        c->came_room      = more ? room : c->came_room;
    }
    if (!c->lost) {
        c->came[c->came_count++] = id;
    }
    const bool go_on = !c->lost && !c->unwanted;
    pthread_mutex_unlock(&c->of->lock);
    wake(c->of);
    return go_on;
}

static cmif_code encode_all(cmif_session *session, struct cmif_call *c, cmif_err *err)
{
    const size_t outputs = c->of->server.outputs;
    cmif_code    rc      = CMIF_OK;
    for (size_t i = 0; i < c->ask.input_count && rc == CMIF_OK; i++) {
        rc = cmif_session_encode(session, &c->ask.inputs[i], c->vectors + i * outputs, &c->usage, err);
        pthread_mutex_lock(&c->of->lock);
        c->vector_count = rc == CMIF_OK ? i + 1 : i;
        rc              = rc == CMIF_OK && c->unwanted ? CMIF_E_CANCELLED : rc;
        pthread_mutex_unlock(&c->of->lock);
        wake(c->of);
    }
    return rc;
}

static cmif_code generate(cmif_session *session, struct cmif_call *c, cmif_err *err)
{
    cmif_generation how = {
        .sampling = c->ask.sampling, .max_tokens = c->ask.max_tokens, .on_token = on_token, .context = c};
    how.stop_count = cmif_tokenizer_stops(c->of->options.tokenizer, &how.stops);
    how.stop_count = how.stop_count < CMIF_WIRE_STOPS_MAX ? how.stop_count : CMIF_WIRE_STOPS_MAX;
    return cmif_session_generate(session, &c->ask.inputs[0], true, &how, &c->usage, err);
}

static cmif_code work(seat *s, struct cmif_call *c)
{
    split        *u       = s->of;
    cmif_session *session = s->session; /* no other thread sets it */
    cmif_err      err     = {0};        /* what it says may be the server's words: it goes nowhere */
    cmif_code     rc      = CMIF_OK;
    bool          wanted  = true;

    if (!session || c->probe) {
        rc          = u->options.open(u->options.context, &session, &err);
        c->unopened = rc != CMIF_OK;
        if (rc == CMIF_OK && c->probe) {
            cmif_session_free(session);
            return CMIF_OK;
        }
    }
    if (rc == CMIF_OK) {
        pthread_mutex_lock(&u->lock);
        s->session = session;
        wanted     = !c->unwanted; /* from here on a cancel reaches the session */
        pthread_mutex_unlock(&u->lock);
    }
    if (rc != CMIF_OK || !wanted) {
        return rc != CMIF_OK ? rc : CMIF_E_CANCELLED;
    }
    rc = c->vectors ? encode_all(session, c, &err) : generate(session, c, &err);
    return c->lost ? CMIF_E_MEMORY : rc;
}

static void *serve(void *context)
{
    seat  *s = context;
    split *u = s->of;
    pthread_mutex_lock(&u->lock);
    while (!u->quits) {
        struct cmif_call *c = s->job;
        if (!c || c->ended) {
            pthread_cond_wait(&s->go, &u->lock);
            continue;
        }
        pthread_mutex_unlock(&u->lock);
        const cmif_code rc = work(s, c);
        pthread_mutex_lock(&u->lock);
        c->rc    = rc;
        c->ended = true;
        wake(u);
    }
    pthread_mutex_unlock(&u->lock);
    return NULL;
}

/* ---- on the loop: seats ---- */

static void call_free(struct cmif_call *c)
{
    cmif_ask_wipe(&c->ask);
    cmif_secret_wipe(&c->held);
    free(c->came);
    free(c->vectors);
    free(c);
}

static size_t same_ids(const cmif_ids *a, const cmif_ids *b)
{
    size_t n = 0;
    while (n < a->count && n < b->count && a->at[n] == b->at[n]) {
        n++;
    }
    return n;
}

/* The idle seat that fits best: one that holds the begin of this very conversation, an empty one, one that is not open
 * yet, or the one that was idle longest. What conversations have in common, such as a system message, makes none
 * theirs. */
static seat *choose(const split *u, const struct cmif_call *c)
{
    seat  *own = NULL, *empty = NULL, *fresh = NULL, *oldest = NULL;
    size_t most = 0;
    for (seat *s = u->seats; s < u->seats + u->options.sessions; s++) {
        const size_t same = s->job || c->probe || c->vectors ? 0 : same_ids(&s->held, &c->ask.inputs[0]);
        if (s->job) {
            continue;
        }
        if (same > most && 2 * same >= s->held.count) {
            own  = s;
            most = same;
        }
        if (!s->session) {
            fresh = fresh || cmif_now_us() < u->full_until_us ? fresh : s;
        } else if (s->held.count == 0) {
            empty = s;
        } else if (!oldest || s->used_us < oldest->used_us) {
            oldest = s;
        }
    }
    return own ? own : empty ? empty : fresh ? fresh : oldest;
}

static bool start_thread(seat *s)
{
    sigset_t all, before;
    if (!s->started) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
        s->started = pthread_create(&s->thread, NULL, serve, s) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return s->started;
}

static void seat_call(seat *s, struct cmif_call *c)
{
    s->used_us = cmif_now_us();
    cmif_session_forget_cancel(s->session); /* one that came after the end of the last call */
    pthread_mutex_lock(&s->of->lock);
    s->job = c;
    pthread_cond_signal(&s->go);
    pthread_mutex_unlock(&s->of->lock);
}

static struct cmif_call *take_waiting(split *u, struct cmif_call *c)
{
    struct cmif_call **at = &u->waiting;
    while (*at && *at != c) {
        at = &(*at)->next;
    }
    if (*at) {
        *at     = c->next;
        c->next = NULL;
        u->waiting_count--;
    }
    return c;
}

static void put_waiting(split *u, struct cmif_call *c, bool first)
{
    struct cmif_call **at = &u->waiting;
    while (!first && *at) {
        at = &(*at)->next;
    }
    c->next = *at;
    *at     = c;
    u->waiting_count++;
}

static void seat_waiting(split *u)
{
    seat *s;
    while (u->waiting && !u->waiting->refused && (s = choose(u, u->waiting)) && start_thread(s)) {
        seat_call(s, take_waiting(u, u->waiting));
    }
}

/* The thread's generate or encode ends soon. */
static void call_off(seat *s)
{
    pthread_mutex_lock(&s->of->lock);
    s->job->unwanted = true;
    if (s->session && !s->job->ended && !s->job->probe) {
        cmif_session_cancel(s->session);
    }
    pthread_mutex_unlock(&s->of->lock);
}

/* ---- on the loop: from tokens to text ---- */

/* Bytes of the well-formed character at the start (Unicode table 3-7); 0: there is none; -1: it is only cut short. */
static int character(const uint8_t *p, size_t size)
{
    const int     n    = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    const uint8_t low  = p[0] == 0xe0   ? 0xa0
                         : p[0] == 0xf0 ? 0x90
                                        : 0x80,
                  high = p[0] == 0xed   ? 0x9f
                         : p[0] == 0xf4 ? 0x8f
                                        : 0xbf;
    for (int i = 1; i < n; i++) {
        if ((size_t) i == size) {
            return -1;
        }
        if (p[i] < (i == 1 ? low : 0x80) || p[i] > (i == 1 ? high : 0xbf)) {
            return 0;
        }
    }
    return n;
}

static cmif_code put_character(struct cmif_call *c, const uint8_t *bytes, int size)
{
    static const uint8_t replacement[] = {0xef, 0xbf, 0xbd};
    if (size == 1 && c->trim && strchr(" \n\r\t", *bytes)) {
        return CMIF_OK;
    }
    c->trim = false;
    return cmif_secret_append(&c->held, size ? bytes : replacement, size ? (size_t) size : sizeof replacement, NULL);
}

static cmif_code put_bytes(struct cmif_call *c, const uint8_t *bytes, size_t size)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; i < size && rc == CMIF_OK; i++) {
        c->part[c->part_size++] = bytes[i];
        const int n             = character(c->part, c->part_size);
        if (n >= 0) {
            i -= n == 0 && c->part_size > 1; /* what ended a character that is none may begin the next */
            rc           = put_character(c, c->part, n);
            c->part_size = 0;
        }
    }
    return rc;
}

/* How many of the bytes may be passed on: those before a stop, or before what may become one. */
static size_t before_stop(const struct cmif_call *c, bool *found)
{
    *found = false;
    for (size_t at = 0; at < c->held.size; at++) {
        const size_t left = c->held.size - at;
        bool         may  = false;
        for (size_t i = 0; i < c->ask.stop_count; i++) {
            const size_t size = c->ask.stops[i].size;
            if (!memcmp(c->held.data + at, c->ask.stops[i].bytes, left < size ? left : size)) {
                *found = *found || size <= left;
                may    = true;
            }
        }
        if (may) {
            return at;
        }
    }
    return c->held.size;
}

static void show(struct cmif_call *c, bool all)
{
    bool         found = false;
    const size_t here = before_stop(c, &found), size = all && !found ? c->held.size : here;
    if (size) {
        c->hooks.on_text(c->hooks.context, 0, (const char *) c->held.data, size);
    }
    if (found) {
        c->stopped = true;
    }
    const size_t left = c->stopped ? 0 : c->held.size - size;
    if (left) {
        memmove(c->held.data, c->held.data + size, left);
    }
    if (c->held.size) {
        cmif_wipe(c->held.data + left, c->held.size - left);
        c->held.size = left;
    }
}

static bool is_stop(const split *u, int32_t id)
{
    const int32_t *stops;
    const size_t   count = cmif_tokenizer_stops(u->options.tokenizer, &stops);
    for (size_t i = 0; i < count; i++) {
        if (stops[i] == id) {
            return true;
        }
    }
    return false;
}

static void take_token(seat *s, struct cmif_call *c, int32_t id)
{
    char text[512];
    c->tokens++;
    if (is_stop(s->of, id)) { /* it ends the answer, it is not part of it */
        return;
    }
    const size_t    size = cmif_tokenizer_decode(s->of->options.tokenizer, id, false, text, sizeof text);
    const cmif_code rc   = put_bytes(c, (const uint8_t *) text, size);
    cmif_wipe(text, size);
    if (rc != CMIF_OK) {
        c->broken = true;
    } else {
        show(c, false);
    }
    if (c->broken || c->stopped) {
        call_off(s);
    }
}

/* ---- on the loop: the end of a call ---- */

static const struct ending {
    cmif_call_end end;
    const char   *sentence;
} endings[] = {
    [CMIF_E_IO]          = {CMIF_CALL_UNREACHABLE, "the server cannot be reached, or broke off"},
    [CMIF_E_FORMAT]      = {CMIF_CALL_LIED, "the server does not answer as it should"},
    [CMIF_E_RANGE]       = {CMIF_CALL_REFUSED, "the server's context is too small for this"},
    [CMIF_E_TRUST]       = {CMIF_CALL_UNTRUSTED,
                            "the server is not who it must be: its certificate or its evidence is refused"},
    [CMIF_E_BUDGET]      = {CMIF_CALL_REFUSED, "the server's limits are reached"},
    [CMIF_E_MEMORY]      = {CMIF_CALL_UNREACHABLE, "the gateway has no memory for this"},
    [CMIF_E_UNSUPPORTED] = {CMIF_CALL_LIED, "the server has another model than before"},
    [CMIF_E_PEER]        = {CMIF_CALL_UNREACHABLE, "the server gave up: its log says why"},
    [CMIF_E_CANCELLED]   = {CMIF_CALL_CANCELLED, "stopped"},
};

static void end_call(struct cmif_call *c, cmif_call_end end, const char *sentence, uint32_t retry)
{
    if (!c->silent) {
        c->hooks.on_end(c->hooks.context, end, sentence, retry);
    }
    call_free(c);
}

static void end_well(struct cmif_call *c)
{
    const cmif_call_usage usage = {c->ask.prompt, c->vectors ? 0 : c->usage.reused_rows, c->tokens};
    const bool            full  = c->usage.reason == CMIF_DONE_LENGTH || c->usage.reason == CMIF_DONE_CONTEXT;
    if (!c->silent && !c->vectors) {
        if (c->part_size && !c->stopped && put_character(c, NULL, 0) != CMIF_OK) {
            end_call(c, endings[CMIF_E_MEMORY].end, endings[CMIF_E_MEMORY].sentence, 0);
            return;
        }
        show(c, true);
        c->hooks.on_finish(c->hooks.context, 0, full && !c->stopped ? CMIF_FINISH_LENGTH : CMIF_FINISH_STOP);
    }
    if (!c->silent) {
        c->hooks.on_usage(c->hooks.context, &usage);
    }
    end_call(c, CMIF_CALL_DONE, "", 0);
}

static bool others_open(split *u, const seat *but)
{
    bool open = false;
    pthread_mutex_lock(&u->lock);
    for (const seat *s = u->seats; s < u->seats + u->options.sessions; s++) {
        open = open || (s != but && s->session);
    }
    pthread_mutex_unlock(&u->lock);
    return open;
}

static void end_job(seat *s)
{
    split            *u = s->of;
    struct cmif_call *c = s->job;
    pthread_mutex_lock(&u->lock);
    s->job = NULL;
    pthread_mutex_unlock(&u->lock);

    const bool well = c->rc == CMIF_OK || (c->rc == CMIF_E_CANCELLED && c->stopped);
    if (!c->vectors && !c->probe) { /* the answer's ids are with the prompt's now */
        cmif_ids_free(&s->held);
        if (c->rc == CMIF_OK || c->rc == CMIF_E_CANCELLED) {
            s->held          = c->ask.inputs[0];
            c->ask.inputs[0] = (cmif_ids){0};
        }
    }
    if (c->rc == CMIF_OK) {
        u->down = CMIF_OK;
    } else if (c->rc == CMIF_E_PEER && c->unopened && others_open(u, s)) { /* it takes no more sessions than it has */
        u->full_until_us = cmif_now_us() + (int64_t) FULL_SECONDS * 1000000;
        if (!c->silent) {
            c->ended = c->unopened = false;
            put_waiting(u, c, true);
            return;
        }
    } else if (c->rc != CMIF_E_CANCELLED && c->rc != CMIF_E_MEMORY && c->rc != CMIF_E_RANGE) {
        u->down = c->rc;
    }
    if (well && !c->broken) {
        end_well(c);
    } else {
        const struct ending *e = &endings[c->broken ? CMIF_E_MEMORY : c->rc];
        end_call(c, e->end, e->sentence, 0);
    }
}

/* What a seat's thread has said since. */
static void look_at(seat *s)
{
    split            *u = s->of;
    struct cmif_call *c = s->job;
    pthread_mutex_lock(&u->lock);
    int32_t     *came    = c->came;
    const size_t count   = c->came_count;
    const size_t vectors = c->vector_count;
    const bool   ended   = c->ended;
    c->came              = NULL;
    c->came_count = c->came_room = 0;
    pthread_mutex_unlock(&u->lock);

    for (size_t i = 0; i < count && !c->silent && !c->stopped && !c->broken; i++) {
        take_token(s, c, came[i]);
    }
    for (; c->vectors_shown < vectors && !c->silent; c->vectors_shown++) {
        c->hooks.on_vector(c->hooks.context, (uint32_t) c->vectors_shown,
                           c->vectors + c->vectors_shown * u->server.outputs, u->server.outputs);
    }
    free(came);
    if (ended) {
        end_job(s);
    }
}

/* A server that was away is looked for, so that /ready says when it is back. */
static void probe(split *u)
{
    struct cmif_call *c = calloc(1, sizeof *c);
    if (!c) {
        return;
    }
    *c           = (struct cmif_call){.of = u, .probe = true, .silent = true};
    seat *s      = choose(u, c);
    u->probed_us = cmif_now_us();
    if (s && start_thread(s)) {
        seat_call(s, c);
    } else {
        call_free(c);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    split        *u = context;
    uint64_t      count;
    const int64_t now = cmif_now_us();
    (void) what;
    (void) !read(fd, &count, sizeof count);
    for (seat *s = u->seats; s < u->seats + u->options.sessions; s++) {
        if (s->job) {
            look_at(s);
        }
    }
    for (struct cmif_call *c = u->waiting, *next; c; c = next) {
        next = c->next;
        if (c->refused || now - c->since_us >= (int64_t) u->options.wait_seconds * 1000000) {
            end_call(take_waiting(u, c), CMIF_CALL_BUSY, "every session with the server is in use: try again later",
                     RETRY_SECONDS);
            next = u->waiting; /* a hook may have changed the list */
        }
    }
    seat_waiting(u);
    if (u->down != CMIF_OK && now - u->probed_us >= (int64_t) PROBE_SECONDS * 1000000) {
        probe(u);
    }
}

/* ---- the kind ---- */

static cmif_code split_check(const cmif_upstream *upstream, const cmif_request *request, cmif_err *err)
{
    const split *u = (const split *) (const void *) upstream;
    return cmif_ask_check(request, &u->model, err);
}

static cmif_code split_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                             cmif_call **out, cmif_err *err)
{
    split            *u = (split *) (void *) upstream;
    struct cmif_call *c = calloc(1, sizeof *c);
    cmif_code         rc =
        c ? cmif_ask_read(request, &u->model, &c->ask, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    if (rc == CMIF_OK && request->endpoint == CMIF_ENDPOINT_EMBEDDINGS) {
        c->vectors = calloc(c->ask.input_count, u->server.outputs * sizeof *c->vectors);
        rc         = c->vectors ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for vectors");
    }
    if (rc != CMIF_OK) {
        if (c) {
            call_free(c);
        }
        return rc;
    }
    c->of       = u;
    c->hooks    = *hooks;
    c->since_us = cmif_now_us();
    c->trim     = c->ask.chat;
    c->refused  = u->waiting_count >= CMIF_SPLIT_WAITING_MAX;
    put_waiting(u, c, false);
    seat_waiting(u);
    if (c->refused) {
        wake(u); /* hooks are not called in here */
    }
    *out = c;
    return CMIF_OK;
}

static void split_cancel(cmif_call *c)
{
    split *u  = c->of;
    c->silent = true;
    for (seat *s = u->seats; s < u->seats + u->options.sessions; s++) {
        if (s->job == c) { /* freed once its thread has ended it */
            call_off(s);
            return;
        }
    }
    call_free(take_waiting(u, c));
}

static cmif_upstream_state split_state(const cmif_upstream *upstream, char *sentence, size_t room)
{
    const split *u = (const split *) (const void *) upstream;
    snprintf(sentence, room, "%s", u->down == CMIF_OK ? "" : endings[u->down].sentence);
    return u->down == CMIF_OK ? CMIF_UPSTREAM_READY : CMIF_UPSTREAM_DOWN;
}

static void split_free(cmif_upstream *upstream)
{
    split *u = (split *) (void *) upstream;
    pthread_mutex_lock(&u->lock);
    u->quits = true;
    for (seat *s = u->seats; u->seats && s < u->seats + u->options.sessions; s++) {
        if (s->job) {
            s->job->unwanted = true;
        }
        if (s->job && s->session) {
            cmif_session_cancel(s->session);
        }
        pthread_cond_signal(&s->go);
    }
    pthread_mutex_unlock(&u->lock);
    for (seat *s = u->seats; u->seats && s < u->seats + u->options.sessions; s++) {
        if (s->started) {
            pthread_join(s->thread, NULL);
        }
        if (s->job) {
            call_free(s->job);
        }
        cmif_session_free(s->session);
        cmif_ids_free(&s->held);
        pthread_cond_destroy(&s->go);
    }
    while (u->waiting) {
        call_free(take_waiting(u, u->waiting));
    }
    if (u->event) {
        event_free(u->event);
    }
    if (u->wake >= 0) {
        close(u->wake);
    }
    pthread_mutex_destroy(&u->lock);
    free(u->seats);
    free(u);
}

static const cmif_upstream_kind kind = {.name   = "cmif",
                                        .check  = split_check,
                                        .start  = split_start,
                                        .cancel = split_cancel,
                                        .free   = split_free,
                                        .state  = split_state};

cmif_code cmif_split_new(struct event_base *base, const cmif_split_options *options, cmif_upstream **out, cmif_err *err)
{
    const struct timeval second = {.tv_sec = 1};
    cmif_code            rc     = CMIF_OK;
    split               *u      = calloc(1, sizeof *u);
    if (!u) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
    }
    pthread_mutex_init(&u->lock, NULL);
    u->upstream = (cmif_upstream){.kind = &kind, .base = base};
    u->options  = *options;
    u->server   = *cmif_session_server(options->first);
    u->model    = (cmif_ask_model){.tokenizer = options->tokenizer,
                                   .chat      = options->chat,
                                   .no_chat   = options->no_chat,
                                   .encoder   = u->server.flags & CMIF_WELCOME_ENCODER,
                                   .outputs   = u->server.outputs,
                                   .context   = u->server.context};
    u->wake     = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    u->seats    = calloc(options->sessions, sizeof *u->seats);
    u->event    = u->wake >= 0 ? event_new(base, u->wake, EV_READ | EV_PERSIST, on_wake, u) : NULL;
    memcpy(u->upstream.model_id, options->model_id, sizeof u->upstream.model_id);
    snprintf(u->upstream.model, sizeof u->upstream.model, "%s", options->name);
    if (u->wake < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot make an event descriptor: %s", strerror(errno));
        goto done;
    }
    if (!u->seats || !u->event ||
        event_add(u->event, &second) != 0) { /* once a second at least: who has waited too long? */
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %u sessions", options->sessions);
        goto done;
    }
    for (seat *s = u->seats; s < u->seats + options->sessions; s++) {
        s->of = u;
        pthread_cond_init(&s->go, NULL);
    }
    u->seats[0].session = options->first;
    *out                = &u->upstream;
    u                   = NULL;
done:
    if (u) {
        split_free(&u->upstream);
    }
    return rc;
}
