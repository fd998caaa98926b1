#include "server/worker.h"

#include "server/child.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKER_QUEUE_MAX (8u << 20) /* bytes that may wait for the engine before is_full */
#define WORKER_DEATHS_MAX 5         /* useless lives in a row before on_broken */
#define WORKER_RETRY_MS 30000       /* between lives once broken */

extern char **environ;

struct cmif_worker {
    cmif_worker_options options;
    cmif_worker_hooks   hooks;
    struct event_base  *base;
    struct bufferevent *pipe; /* NULL: no engine process */
    struct event       *tick; /* heartbeat, restart */
    char                program[4096];
    char                path[4096]; /* of the model: options.engine.path points here */
    pid_t               pid;
    bool                ready, expecting, was_ready_once;
    unsigned            deaths; /* in a row, without anything useful in between */
    uint64_t            heard_ms, pinged_ms, restart_ms;
    cmif_frame_welcome  welcome;
    char                last_words[CMIF_WIRE_TEXT_MAX + 1];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

/* bin/cmif-server finds libexec/cmif/cmif-engine beside itself, installed or in a build folder. */
static cmif_code worker_find_program(cmif_worker *w, cmif_err *err)
{
    char    self[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot read /proc/self/exe: %s", strerror(errno));
    }
    self[n] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(self, '/');
        if (slash) {
            *slash = '\0';
        }
    }
    snprintf(w->program, sizeof w->program, "%s/libexec/cmif/cmif-engine", self);
    if (access(w->program, X_OK) != 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot run the engine program '%s': %s; is the installation whole?",
                         w->program, strerror(errno));
    }
    return CMIF_OK;
}

/* The child gets the socket as descriptor 3; every other descriptor of ours is close-on-exec. */
static cmif_code worker_spawn(cmif_worker *w, int child_fd, cmif_err *err)
{
    const cmif_engine_options *e = &w->options.engine;
    posix_spawn_file_actions_t actions;
    char                       numbers[5][16];
    char *argv[] = {w->program, w->path, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], NULL};

    snprintf(numbers[0], sizeof numbers[0], "%" PRIu32, e->slots);
    snprintf(numbers[1], sizeof numbers[1], "%" PRIu32, e->context);
    snprintf(numbers[2], sizeof numbers[2], "%" PRIu32, e->batch);
    snprintf(numbers[3], sizeof numbers[3], "%" PRIu32, e->threads);
    snprintf(numbers[4], sizeof numbers[4], "%" PRId32, e->gpu_layers);

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO,
                                     STDOUT_FILENO); /* ours may be a pipe that tells of our end */
    posix_spawn_file_actions_adddup2(&actions, child_fd, CMIF_CHILD_FD);
    int failed = posix_spawn(&w->pid, w->program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        w->pid = 0;
        return cmif_fail(err, CMIF_E_IO, "cannot start '%s': %s", w->program, strerror(failed));
    }
    return CMIF_OK;
}

static void worker_on_read(struct bufferevent *pipe, void *context);
static void worker_on_write(struct bufferevent *pipe, void *context);
static void worker_on_event(struct bufferevent *pipe, short what, void *context);

static cmif_code worker_start(cmif_worker *w, cmif_err *err)
{
    cmif_code rc    = CMIF_OK;
    int       fd[2] = {-1, -1};

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot make a socket pair for the engine: %s", strerror(errno));
        goto done;
    }
    /* the child's end blocks: a busy server slows the engine down instead of losing messages. It must not be 3 itself:
     * dup2 onto itself would leave it close-on-exec. */
    int flags = fcntl(fd[1], F_GETFL);
    int child = fcntl(fd[1], F_DUPFD_CLOEXEC, CMIF_CHILD_FD + 1);
    if (flags < 0 || child < 0 || fcntl(fd[1], F_SETFL, flags & ~O_NONBLOCK) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot set up the engine's socket: %s", strerror(errno));
        goto done;
    }
    close(fd[1]);
    fd[1]   = child;
    w->pipe = bufferevent_socket_new(w->base, fd[0], BEV_OPT_CLOSE_ON_FREE);
    if (!w->pipe) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the engine's buffers");
        goto done;
    }
    fd[0] = -1;
    rc    = worker_spawn(w, fd[1], err);
    if (rc != CMIF_OK) {
        bufferevent_free(w->pipe);
        w->pipe = NULL;
        goto done;
    }
    w->heard_ms      = now_ms();
    w->last_words[0] = '\0';
    bufferevent_setcb(w->pipe, worker_on_read, worker_on_write, worker_on_event, w);
    bufferevent_setwatermark(w->pipe, EV_WRITE, WORKER_QUEUE_MAX / 2, 0);
    bufferevent_enable(w->pipe, EV_READ | EV_WRITE);
done:
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0) {
            close(fd[i]);
        }
    }
    return rc;
}

/* End the process for good and say how it ended. */
static void worker_reap(cmif_worker *w, char *why, size_t why_size)
{
    int status = 0;

    if (w->pipe) {
        bufferevent_free(w->pipe);
        w->pipe = NULL;
    }
    if (w->pid > 0) {
        /* it may be on its way out by itself: give its exit status a moment, then make sure */
        pid_t gone = 0;
        for (int i = 0; i < 20 && gone == 0; i++) {
            gone = waitpid(w->pid, &status, WNOHANG);
            if (gone == 0) {
                usleep(5000);
            }
        }
        if (gone == 0) {
            kill(w->pid, SIGKILL);
            waitpid(w->pid, &status, 0);
        }
    }
    w->pid   = 0;
    w->ready = false;
    if (WIFSIGNALED(status)) {
        snprintf(why, why_size, "signal %d", WTERMSIG(status));
    } else {
        snprintf(why, why_size, "exit %d", WEXITSTATUS(status));
    }
}

static void worker_down(cmif_worker *w, const char *reason)
{
    char ending[64];

    worker_reap(w, ending, sizeof ending);
    w->deaths++;
    bool     broken = w->deaths > WORKER_DEATHS_MAX || !w->was_ready_once;
    uint64_t wait   = w->deaths <= 1 ? 0 : (uint64_t) 100 << (w->deaths - 1);
    w->restart_ms   = now_ms() + (broken ? WORKER_RETRY_MS : wait);
    fprintf(stderr, "cmif-server: engine: %s (%s); %s\n", reason, ending,
            broken ? "it keeps failing" : "starting it again");
    w->hooks.on_down(w->hooks.context);
    if (broken) {
        char why[CMIF_WIRE_TEXT_MAX + 128];
        if (w->last_words[0]) {
            snprintf(why, sizeof why, "%s", w->last_words);
        } else {
            snprintf(why, sizeof why, "the engine %s (%s)%s", reason, ending,
                     w->was_ready_once ? " again and again"
                                       : " while loading the model; is the file whole, and is there memory for it?");
        }
        w->hooks.on_broken(w->hooks.context, why);
    }
}

static void worker_message(cmif_worker *w, const cmif_pipe_message *m)
{
    const cmif_frame *f = &m->frame;

    if (!w->ready && f->kind == CMIF_FRAME_ERROR) {
        memcpy(w->last_words, f->error.text, f->error.size);
        w->last_words[f->error.size] = '\0';
    } else if (!w->ready && f->kind == CMIF_FRAME_WELCOME) {
        w->ready          = true;
        w->was_ready_once = true;
        w->welcome        = f->welcome;
        w->hooks.on_ready(w->hooks.context, &w->welcome);
    } else if (w->ready && f->kind != CMIF_FRAME_WELCOME && f->kind != CMIF_FRAME_PONG) {
        w->hooks.on_message(w->hooks.context, m);
    }
}

static void worker_on_read(struct bufferevent *pipe, void *context)
{
    cmif_worker     *w  = context;
    struct evbuffer *in = bufferevent_get_input(pipe);

    w->heard_ms = now_ms();
    for (;;) {
        uint8_t           head[CMIF_PIPE_HEADER_SIZE + CMIF_WIRE_HEADER_SIZE];
        cmif_pipe_message m;
        cmif_err          err  = {0};
        size_t            size = 0;
        ev_ssize_t        got  = evbuffer_copyout(in, head, sizeof head);
        cmif_code         rc   = cmif_pipe_peek(head, got > 0 ? (size_t) got : 0, &size, &err);
        if (rc == CMIF_OK && (size == 0 || size > evbuffer_get_length(in))) {
            return;
        }
        const unsigned char *bytes = rc == CMIF_OK ? evbuffer_pullup(in, (ev_ssize_t) size) : NULL;
        if (rc == CMIF_OK && !bytes) {
            rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for a message of the engine");
        }
        if (rc == CMIF_OK) {
            rc = cmif_pipe_decode(CMIF_PIPE_ENGINE, w->options.engine.slots, bytes, size, &m, &err);
        }
        if (rc != CMIF_OK) {
            fprintf(stderr, "cmif-server: %s\n", err.text);
            kill(w->pid, SIGKILL);
            worker_down(w, "sent what makes no sense");
            return;
        }
        worker_message(w, &m);
        evbuffer_drain(in, size);
    }
}

static void worker_on_write(struct bufferevent *pipe, void *context)
{
    cmif_worker *w = context;
    (void) pipe;
    if (w->ready) {
        w->hooks.on_drained(w->hooks.context);
    }
}

static void worker_on_event(struct bufferevent *pipe, short what, void *context)
{
    (void) pipe;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
        worker_down(context, "died");
    }
}

static void worker_on_tick(evutil_socket_t fd, short what, void *context)
{
    cmif_worker *w   = context;
    uint64_t     now = now_ms();
    (void) fd, (void) what;

    if (!w->pipe) {
        cmif_err err = {0};
        if (now >= w->restart_ms && worker_start(w, &err) != CMIF_OK) {
            fprintf(stderr, "cmif-server: engine: %s\n", err.text);
            w->restart_ms = now + WORKER_RETRY_MS;
        }
        return;
    }
    if (!w->ready || !w->expecting) {
        w->heard_ms = now; /* loading takes what it takes; an engine without work may sleep */
        return;
    }
    if (now - w->heard_ms > (uint64_t) w->options.stall_seconds * 1000) {
        kill(w->pid, SIGKILL);
        worker_down(w, "gave no sign of life");
        return;
    }
    if (now - w->pinged_ms >= 1000) {
        w->pinged_ms = now;
        cmif_worker_send(w, &(cmif_pipe_message){.frame = {.kind = CMIF_FRAME_PING}});
    }
}

cmif_code cmif_worker_new(struct event_base *base, const cmif_worker_options *options, const cmif_worker_hooks *hooks,
                          cmif_worker **out, cmif_err *err)
{
    cmif_code    rc = CMIF_OK;
    cmif_worker *w  = calloc(1, sizeof *w);

    if (!w || !(w->tick = event_new(base, -1, EV_PERSIST, worker_on_tick, w))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the engine's supervisor");
        goto done;
    }
    w->base    = base;
    w->options = *options;
    w->hooks   = *hooks;
    if (snprintf(w->path, sizeof w->path, "%s", options->engine.path) >= (int) sizeof w->path) {
        rc = cmif_fail(err, CMIF_E_RANGE, "the model's path is longer than %zu bytes", sizeof w->path - 1);
        goto done;
    }
    rc = worker_find_program(w, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = worker_start(w, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    event_add(w->tick, &(struct timeval){.tv_usec = 50000});
    *out = w;
    w    = NULL;
done:
    cmif_worker_free(w);
    return rc;
}

void cmif_worker_free(cmif_worker *worker)
{
    if (!worker) {
        return;
    }
    char ending[64];
    if (worker->pid > 0) {
        kill(worker->pid, SIGKILL);
    }
    worker_reap(worker, ending, sizeof ending);
    if (worker->tick) {
        event_free(worker->tick);
    }
    free(worker);
}

bool cmif_worker_is_ready(const cmif_worker *worker)
{
    return worker->ready;
}

bool cmif_worker_is_full(const cmif_worker *worker)
{
    return worker->pipe && evbuffer_get_length(bufferevent_get_output(worker->pipe)) > WORKER_QUEUE_MAX;
}

void cmif_worker_send(cmif_worker *worker, const cmif_pipe_message *message)
{
    struct evbuffer_iovec room;
    cmif_err              err  = {0};
    size_t                used = 0;

    if (!worker->ready) {
        return;
    }
    struct evbuffer *out  = bufferevent_get_output(worker->pipe);
    size_t           size = cmif_pipe_size(message);
    bool             ok   = evbuffer_reserve_space(out, (ev_ssize_t) size, &room, 1) == 1 &&
              cmif_pipe_encode(message, room.iov_base, size, &used, &err) == CMIF_OK;
    room.iov_len = used;
    if (!ok || evbuffer_commit_space(out, &room, 1) != 0) {
        /* a lost message would leave somebody waiting for ever: a dead engine does not */
        fprintf(stderr, "cmif-server: engine pipe: %s\n", err.text[0] ? err.text : "no memory");
        kill(worker->pid, SIGKILL);
    }
}

void cmif_worker_expect(cmif_worker *worker, bool work)
{
    worker->expecting = work;
}

void cmif_worker_praise(cmif_worker *worker)
{
    worker->deaths = 0;
}
