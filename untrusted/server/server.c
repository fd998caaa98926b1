#include "server/server.h"

#include "server/conn.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint64_t cmif_server_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static const char *const evidence_names[] = {[CMIF_MAKER_TDX] = "tdx",
                                             [CMIF_MAKER_SNP] = "snp",
                                             [CMIF_MAKER_SGX] = "sgx",
                                             [CMIF_MAKER_TPM] = "tpm",
                                             [CMIF_MAKER_SIM] = "sim"};

const char *cmif_server_evidence_name(cmif_maker_kind kind)
{
    return kind > 0 && (size_t) kind < sizeof evidence_names / sizeof *evidence_names ? evidence_names[kind] : NULL;
}

void cmif_server_serve_waiting(server *s)
{
    while (cmif_worker_is_ready(s->worker)) {
        conn *first = NULL;
        for (conn *c = s->conns; c; c = c->next) {
            if (c->waiting && (!first || c->waiting_ms < first->waiting_ms ||
                               (c->waiting_ms == first->waiting_ms && c->number < first->number))) {
                first = c;
            }
        }
        if (!first || !conn_start(first)) {
            return;
        }
        if (first->paused) {
            conn_process(first); /* its rows are in the input since long */
        }
    }
}

/* ---- the engine's hooks ---- */

/* One line that programs and people can wait for, and what to type on the other side. */
static void say_ready(const server *s)
{
    const bool  tls      = s->tls != NULL;
    const char *kind     = s->prover ? cmif_server_evidence_name(s->options->evidence.kind) : NULL;
    const bool  insecure = s->options->evidence.kind == CMIF_MAKER_SIM;

    if (s->options->json) {
        json_t *names = json_array();
        for (size_t i = 0; i < s->door_count; i++) {
            json_array_append_new(names, json_string(s->doors[i].name));
        }
        json_t *line = json_pack("{s:b, s:o, s:s?, s:s?, s:b}", "ready", 1, "listen", names, "pin", tls ? s->pin : NULL,
                                 "evidence", kind, "insecure", insecure);
        if (line) {
            json_dumpf(line, stdout, JSON_COMPACT);
            json_decref(line);
        }
        putchar('\n');
    } else {
        printf("ready");
        for (size_t i = 0; i < s->door_count; i++) {
            printf(" %s", s->doors[i].name);
        }
        printf("%s%s", tls ? " pin " : "", tls ? s->pin : "");
        printf("%s%s%s\n", kind ? " evidence " : "", kind ? kind : "", insecure ? " INSECURE" : "");
    }
    fflush(stdout);
    for (size_t i = 0; !s->options->json && i < s->door_count; i++) {
        bool local = s->doors[i].local;
        fprintf(stderr, "cmif-server: on the client: cmif run -m CLIENT.gguf --server %s%s%s \"...\"\n",
                s->doors[i].name, local ? "" : " --pin ", local ? "" : s->pin);
    }
}

static void stop_with(server *s, cmif_code code, const char *text)
{
    cmif_fail(&s->failure, code, "%s", text);
    event_base_loopbreak(s->base);
}

static bool same_model(const cmif_frame_welcome *a, const cmif_frame_welcome *b)
{
    return memcmp(a->model_id, b->model_id, sizeof a->model_id) == 0 && a->width == b->width && a->vocab == b->vocab &&
           a->context == b->context && a->outputs == b->outputs && a->flags == b->flags;
}

static void on_ready(void *context, const cmif_frame_welcome *engine)
{
    server            *s       = context;
    cmif_frame_welcome welcome = *engine;
    const bool         first   = s->welcome.rows_max == 0;

    /* rows of one frame: whatever their type, a client may send as many as fit as f32 */
    uint32_t rows        = (CMIF_WIRE_PAYLOAD_MAX - 64) / (4 * welcome.width);
    welcome.rows_max     = rows > UINT16_MAX ? UINT16_MAX : rows;
    welcome.idle_seconds = s->options->idle_seconds;
    if (!first && !same_model(&welcome, &s->welcome)) {
        stop_with(s, CMIF_E_FORMAT, "the model file is another one than at start: start the server again");
        return;
    }
    s->welcome   = welcome;
    s->broken[0] = '\0';
    s->ready_ms  = cmif_server_now_ms();
    if (first) {
        s->row = malloc(welcome.width * sizeof *s->row);
        if (!s->row) {
            stop_with(s, CMIF_E_MEMORY, "no memory for one row");
            return;
        }
        for (size_t i = 0; i < s->door_count && !s->shutting_ms; i++) {
            evconnlistener_enable(s->listeners[i]);
        }
        say_ready(s);
    } else {
        fprintf(stderr, "cmif-server: engine: ready again\n");
    }
    cmif_server_serve_waiting(s);
}

static void on_message(void *context, const cmif_pipe_message *m)
{
    server    *s    = context;
    cmif_seat *seat = s->seats.slots[m->slot];

    if (seat && seat->busy && seat->run == m->run) { /* else it is about a run that is over */
        conn_on_message(s, seat, m);
    }
}

static void on_down(void *context)
{
    server    *s = context;
    cmif_seat *next;

    s->ready_ms = 0;
    for (cmif_seat *seat = s->seats.first; seat; seat = next) {
        next          = seat->next;
        seat->busy    = false;
        seat->used_ms = cmif_server_now_ms(); /* the client has its time to come back */
        cmif_seats_stand(&s->seats, seat, CMIF_RESET_ENGINE);
        if (!seat->conn) {
            cmif_seats_remove(&s->seats, seat);
        }
    }
    for (conn *c = s->conns; c; c = c->next) {
        conn_on_down(c);
    }
}

static void on_broken(void *context, const char *why)
{
    server *s = context;

    if (s->welcome.rows_max == 0) {
        stop_with(s, CMIF_E_IO, why);
        return;
    }
    snprintf(s->broken, sizeof s->broken, "%s", why);
    for (conn *c = s->conns; c; c = c->next) {
        if (c->waiting) {
            conn_fail(c, CMIF_WIRE_E_ENGINE, "the server's engine keeps failing: %s", why);
        }
    }
}

static void on_drained(void *context)
{
    server *s = context;
    for (conn *c = s->conns; c; c = c->next) {
        if (c->paused && !c->waiting) {
            conn_process(c);
        }
    }
}

static void on_proof(void *context, uint64_t number, const uint8_t *proof, size_t size, const cmif_err *why)
{
    server *s = context;
    for (conn *c = s->conns; c; c = c->next) {
        if (c->number == number && c->proving) { /* else its client went away meanwhile */
            conn_on_proof(c, proof, size, why);
            return;
        }
    }
}

/* ---- the loop's events ---- */

static void on_sweep(evutil_socket_t fd, short what, void *context)
{
    server *s = context;
    (void) fd, (void) what;

    for (conn **at = &s->conns; *at;) {
        conn *c = *at;
        if (c->dead) {
            *at = c->next;
            s->conn_count--;
            conn_free(c);
        } else {
            at = &c->next;
        }
    }
    if (s->shutting_ms && !s->conns) {
        event_base_loopbreak(s->base);
    }
}

static void expire_sessions(server *s, uint64_t now)
{
    cmif_seat *next;
    for (cmif_seat *seat = s->seats.first; seat; seat = next) {
        next = seat->next;
        if (!seat->conn && !seat->busy && now - seat->used_ms > (uint64_t) s->options->idle_seconds * 1000) {
            cmif_seats_remove(&s->seats, seat);
        }
    }
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    server  *s    = context;
    uint64_t now  = cmif_server_now_ms();
    bool     busy = false;
    (void) fd, (void) what;

    for (conn *c = s->conns; c; c = c->next) {
        conn_on_tick(c, now);
        if (s->shutting_ms && now - s->shutting_ms > CMIF_GRACE_MS) {
            conn_fail(c, CMIF_WIRE_E_SHUTDOWN, "the server is going away");
        }
    }
    for (uint32_t i = 0; i < s->seats.slot_count; i++) {
        busy |= s->seats.slots[i] && s->seats.slots[i]->busy;
    }
    cmif_worker_expect(s->worker, busy);
    expire_sessions(s, now);
    if (s->shutting_ms && now - s->shutting_ms > CMIF_GRACE_MS + CMIF_LINGER_MS) {
        event_base_loopbreak(s->base);
    }
    for (size_t i = 0; i < s->door_count && s->welcome.rows_max && !s->shutting_ms; i++) {
        evconnlistener_enable(s->listeners[i]); /* after on_accept_error */
    }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
                      void *context)
{
    server *s = context;
    (void) address, (void) size;
    for (size_t i = 0; i < s->door_count; i++) {
        if (s->listeners[i] == listener) {
            conn_accept(s, fd, s->doors[i].local);
        }
    }
}

static void on_accept_error(struct evconnlistener *listener, void *context)
{
    (void) context;
    fprintf(stderr, "cmif-server: cannot accept a connection: %s\n", strerror(errno));
    evconnlistener_disable(listener); /* until the next tick: no busy loop when descriptors ran out */
}

static void close_doors(server *s)
{
    for (size_t i = 0; i < s->door_count; i++) {
        if (s->listeners[i]) {
            evconnlistener_free(s->listeners[i]);
        }
        s->listeners[i] = NULL;
        cmif_door_close(&s->doors[i]);
    }
    s->door_count = 0;
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    server *s = context;
    (void) number, (void) what;

    if (s->shutting_ms) { /* asked twice */
        event_base_loopbreak(s->base);
        return;
    }
    fprintf(stderr, "cmif-server: ending; running streams have %d s\n", CMIF_GRACE_MS / 1000);
    s->shutting_ms = cmif_server_now_ms();
    close_doors(s);
    for (conn *c = s->conns; c; c = c->next) {
        if (!conn_is_working(c) || c->waiting) {
            conn_fail(c, CMIF_WIRE_E_SHUTDOWN, "the server is going away");
        }
    }
    event_active(s->sweep, EV_TIMEOUT, 0);
}

/* The starter holds the other end of a pipe of ours; the kernel closes it however the starter dies. */
static void on_parent(evutil_socket_t fd, short what, void *context)
{
    server *s = context;
    char    ignored[64];
    (void) what;
    if (read(fd, ignored, sizeof ignored) <= 0) {
        event_base_loopbreak(s->base);
    }
}

/* ---- start and end ---- */

static cmif_code open_doors(server *s, cmif_err *err)
{
    for (size_t i = 0; i < s->options->listen_count; i++) {
        cmif_door *door = &s->doors[i];
        cmif_code  rc   = cmif_door_open(s->options->listen[i], door, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        s->door_count   = i + 1;
        s->listeners[i] = evconnlistener_new(s->base, on_accept, s, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED,
                                             /* backlog= */ 0, door->fd);
        if (!s->listeners[i]) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory to listen on '%s'", door->name);
        }
        evconnlistener_set_error_cb(s->listeners[i], on_accept_error);
        if (!door->local && !s->tls) {
            rc = cmif_tls_open(&s->options->tls, &s->tls, s->pin, err);
            if (rc == CMIF_OK) {
                rc = cmif_tls_own_key(s->tls, s->own_key, err);
            }
            if (rc != CMIF_OK) {
                return rc;
            }
        }
    }
    return CMIF_OK;
}

static bool is_pipe(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* Standard input ends, or nobody reads standard output any more: both make the descriptor readable. */
static cmif_code watch_parent(server *s, cmif_err *err)
{
    int fd = is_pipe(STDIN_FILENO) ? STDIN_FILENO : STDOUT_FILENO;

    if (!is_pipe(fd)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--die-with-parent: standard input or output must be a pipe that the parent holds open");
    }
    s->parent = event_new(s->base, fd, EV_READ | EV_PERSIST, on_parent, s);
    return s->parent && event_add(s->parent, NULL) == 0 ? CMIF_OK
                                                        : cmif_fail(err, CMIF_E_MEMORY, "no memory for an event");
}

static cmif_code open_loop(server *s, cmif_err *err)
{
    s->base = event_base_new();
    if (!s->base) {
        return cmif_fail(err, CMIF_E_MEMORY, "cannot make an event loop");
    }
    s->tick      = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    s->sweep     = event_new(s->base, -1, 0, on_sweep, s);
    s->interrupt = evsignal_new(s->base, SIGINT, on_signal, s);
    s->terminate = evsignal_new(s->base, SIGTERM, on_signal, s);
    if (!s->tick || !s->sweep || !s->interrupt || !s->terminate || event_add(s->interrupt, NULL) != 0 ||
        event_add(s->terminate, NULL) != 0 || event_add(s->tick, &(struct timeval){.tv_usec = 200000}) != 0) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for events");
    }
    return CMIF_OK;
}

static void set_limits(void)
{
    struct rlimit files;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* rows stay out of core files */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGPIPE, SIG_IGN);
}

static void close_all(server *s)
{
    close_doors(s);
    for (conn *c = s->conns; c; c = c->next) {
        c->seat = NULL;
        c->dead = true;
    }
    while (s->conns) {
        conn *c  = s->conns;
        s->conns = c->next;
        conn_free(c);
    }
    while (s->seats.first) {
        cmif_seats_remove(&s->seats, s->seats.first);
    }
    cmif_worker_free(s->worker);
    cmif_prover_free(s->prover);
    struct event *events[] = {s->tick, s->sweep, s->interrupt, s->terminate, s->parent};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i]) {
            event_free(events[i]);
        }
    }
    if (s->base) {
        event_base_free(s->base);
    }
    SSL_CTX_free(s->tls);
    free(s->row);
    free(s);
}

cmif_code cmif_server_run(const cmif_server_options *options, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    server   *s  = calloc(1, sizeof *s);

    if (!s) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a server");
    }
    s->options          = options;
    s->seats.slot_count = options->worker.engine.slots;
    set_limits();
    rc = open_loop(s, err);
    if (rc == CMIF_OK && options->die_with_parent) {
        rc = watch_parent(s, err);
    }
    if (rc == CMIF_OK && options->evidence.kind) {
        rc = cmif_prover_new(s->base, &options->evidence, on_proof, s, &s->prover, err);
    }
    if (rc == CMIF_OK) {
        rc = open_doors(s, err); /* before the model is loaded: a port in use is told at once */
    }
    if (rc == CMIF_OK && s->prover && !s->tls) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--evidence needs a --listen HOST:PORT: evidence is bound to TLS");
    }
    if (rc == CMIF_OK) {
        const cmif_worker_hooks hooks = {.on_ready   = on_ready,
                                         .on_message = on_message,
                                         .on_down    = on_down,
                                         .on_broken  = on_broken,
                                         .on_drained = on_drained,
                                         .context    = s};
        rc                            = cmif_worker_new(s->base, &options->worker, &hooks, &s->worker, err);
    }
    if (rc == CMIF_OK && event_base_dispatch(s->base) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "the event loop failed");
    }
    if (rc == CMIF_OK && s->failure.code != CMIF_OK) {
        rc   = s->failure.code;
        *err = s->failure;
    }
    close_all(s);
    return rc;
}
