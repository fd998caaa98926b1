#include "server/prover.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

typedef struct job {
    struct job      *next;
    cmif_prover_task task;
    uint8_t         *proof; /* NULL: err says why */
    size_t           size;
    cmif_err         err;
} job;

struct cmif_prover {
    cmif_maker_options  options;
    cmif_maker         *maker; /* the thread's, once it runs; NULL: the last one failed, and another is to be opened */
    cmif_prover_answer *answer;
    void               *context;
    int                 fd; /* an eventfd: something is done */
    struct event       *event;
    pthread_t           thread;
    bool                started;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t  wake, over;
    job            *waiting, *done; /* oldest first */
    size_t          waiting_count;
    bool            stop, ended;
};

static void append(job **list, job *j)
{
    while (*list) {
        list = &(*list)->next;
    }
    j->next = NULL;
    *list   = j;
}

static void free_jobs(job *list)
{
    while (list) {
        job *next = list->next;
        free(list->proof);
        free(list);
        list = next;
    }
}

/* ---- the thread ---- */

static void make(cmif_prover *p, job *j)
{
    const cmif_prover_task *t       = &j->task;
    const cmif_binding      binding = {
             .role = 's', .nonce = t->nonce, .exporter = t->exporter, .own_key = t->own_key, .other_key = t->other_key};

    cmif_code rc = p->maker ? CMIF_OK : cmif_maker_open(&p->options, &p->maker, &j->err);
    if (rc == CMIF_OK) {
        rc = cmif_proof_make(p->maker, &t->claims, &binding, &j->proof, &j->size, &j->err);
    }
    if (rc == CMIF_E_IO) {
        cmif_maker_free(p->maker);
        p->maker = NULL;
    }
}

static void *work(void *context)
{
    cmif_prover   *p   = context;
    const uint64_t one = 1;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->stop && !p->waiting) {
            pthread_cond_wait(&p->wake, &p->lock);
        }
        if (p->stop) {
            break;
        }
        job *j     = p->waiting;
        p->waiting = j->next;
        p->waiting_count--;
        pthread_mutex_unlock(&p->lock);
        make(p, j);
        pthread_mutex_lock(&p->lock);
        append(&p->done, j);
        while (write(p->fd, &one, sizeof one) < 0 && errno == EINTR) { /* else it is full, and so readable */
        }
    }
    p->ended = true;
    pthread_cond_signal(&p->over);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the event loop's side ---- */

static void on_done(evutil_socket_t fd, short what, void *context)
{
    cmif_prover *p = context;
    uint64_t     count;
    (void) what;

    if (read(fd, &count, sizeof count) < 0) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    job *done = p->done;
    p->done   = NULL;
    pthread_mutex_unlock(&p->lock);
    for (const job *j = done; j; j = j->next) {
        p->answer(p->context, j->task.number, j->proof, j->size, &j->err);
    }
    free_jobs(done);
}

bool cmif_prover_ask(cmif_prover *p, const cmif_prover_task *task)
{
    job *j = calloc(1, sizeof *j);

    pthread_mutex_lock(&p->lock);
    const bool room = j && p->waiting_count < CMIF_PROVER_QUEUE;
    if (room) {
        j->task = *task;
        append(&p->waiting, j);
        p->waiting_count++;
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
    if (!room) {
        free(j);
    }
    return room;
}

void cmif_prover_drop(cmif_prover *p, uint64_t number)
{
    job *dropped = NULL;

    pthread_mutex_lock(&p->lock);
    for (job **at = &p->waiting; *at && !dropped;) {
        if ((*at)->task.number == number) {
            dropped       = *at;
            *at           = dropped->next;
            dropped->next = NULL;
            p->waiting_count--;
        } else {
            at = &(*at)->next;
        }
    }
    pthread_mutex_unlock(&p->lock);
    free_jobs(dropped);
}

/* SIGTERM and the like are for the loop's thread. */
static bool start(cmif_prover *p)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    p->started = pthread_create(&p->thread, NULL, work, p) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p->started;
}

cmif_code cmif_prover_new(struct event_base *base, const cmif_maker_options *maker, cmif_prover_answer *answer,
                          void *context, cmif_prover **out, cmif_err *err)
{
    cmif_code    rc = CMIF_OK;
    cmif_prover *p  = calloc(1, sizeof *p);

    if (!p) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for what makes evidence");
    }
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL); /* else exit() cleans up under a thread that a device holds */
    p->options = *maker;
    p->answer  = answer;
    p->context = context;
    p->fd      = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->event   = p->fd >= 0 ? event_new(base, p->fd, EV_READ | EV_PERSIST, on_done, p) : NULL;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->over, NULL);
    rc = cmif_maker_open(maker, &p->maker, err);
    if (rc == CMIF_OK && (!p->event || event_add(p->event, NULL) != 0 || !start(p))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "cannot start the thread that makes evidence");
    }
    if (rc == CMIF_OK) {
        *out = p;
        p    = NULL;
    }
    cmif_prover_free(p);
    return rc;
}

void cmif_prover_free(cmif_prover *p)
{
    struct timespec until;

    if (!p) {
        return;
    }
    if (p->event) {
        event_free(p->event);
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CMIF_PROVER_END_MS / 1000;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->wake);
    while (p->started && !p->ended && pthread_cond_timedwait(&p->over, &p->lock, &until) == 0) {
    }
    const bool stuck = p->started && !p->ended;
    pthread_mutex_unlock(&p->lock);
    if (stuck) { /* in a device that does not answer: it keeps what it uses until the process ends, which is now */
        pthread_detach(p->thread);
        return;
    }
    if (p->started) {
        pthread_join(p->thread, NULL);
    }
    if (p->fd >= 0) {
        close(p->fd);
    }
    free_jobs(p->waiting);
    free_jobs(p->done);
    cmif_maker_free(p->maker);
    pthread_cond_destroy(&p->over);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
