#include "run.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SESSIONS    = 8, /* of each server: while one batch of the engine is computed, the next one waits (measured) */
    SERVERS_MAX = 64,
    WAITING_MAX = 64, /* texts that wait, for each server */
    KEY_SIZE    = 16,
    FIRST_SLOTS = 1 << 16 /* of the table of texts that were computed */
};

typedef struct job {
    struct job *next;
    cmif_ids    ids;
    float      *more; /* rows of the ids beyond the vocabulary, in order */
    size_t      ticket;
} job;

typedef struct worker {
    struct cmif_runner *runner;
    pthread_t           thread;
    bool                started;
    cmif_embed         *embed; /* of its own: it answers for the rows of the job */
    cmif_session       *session;
    const job          *at;
    float              *vector;
    double              seconds;
} worker;

struct cmif_runner {
    cmif_client          client; /* file, tokenizer, table; no session */
    cmif_private_server *servers[SERVERS_MAX];
    uint32_t             server_count;
    worker              *workers;
    size_t               worker_count, width, vocab, outputs;

    pthread_mutex_t lock;
    pthread_cond_t  work, room; /* something to do; a job was taken, or finished */
    job            *first, *last;
    size_t          waiting, under_way;
    bool            ends;
    cmif_code       rc; /* of the first failure */
    cmif_err        err;

    uint8_t (*keys)[KEY_SIZE]; /* [ticket_room] */
    float    *vectors;         /* [ticket_room][outputs] */
    size_t    tickets, ticket_room;
    uint32_t *slots; /* [slot_count], a power of two: ticket + 1; 0: free */
    size_t    slot_count;
    uint64_t  texts;
    double    rows_seconds;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void job_free(job *j)
{
    if (j) {
        cmif_ids_free(&j->ids);
        free(j->more);
        free(j);
    }
}

/* ---- workers ---- */

/* A row beside the table: that of the job's id, wherever it stands. */
static bool give_row(void *context, size_t index, float *row)
{
    const worker      *w = context;
    const cmif_runner *r = w->runner;
    for (size_t i = 0, n = 0; i < w->at->ids.count; i++) {
        size_t id = (size_t) w->at->ids.at[i];
        if (id == r->vocab + index) {
            memcpy(row, w->at->more + n * r->width, r->width * sizeof *row);
            return true;
        }
        n += id >= r->vocab;
    }
    return false;
}

static void *work(void *context)
{
    worker      *w = context;
    cmif_runner *r = w->runner;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->first && !r->ends) {
            pthread_cond_wait(&r->work, &r->lock);
        }
        if (!r->first) {
            break;
        }
        job *j   = r->first;
        r->first = j->next;
        r->last  = r->first ? r->last : NULL;
        r->waiting--;
        bool go_on = r->rc == CMIF_OK;
        pthread_mutex_unlock(&r->lock);

        cmif_usage usage = {0};
        cmif_err   err   = {0};
        w->at            = j;
        cmif_code rc     = go_on ? cmif_session_encode(w->session, &j->ids, w->vector, &usage, &err) : CMIF_OK;

        pthread_mutex_lock(&r->lock);
        w->seconds += (double) usage.total_us / 1e6;
        if (rc == CMIF_OK) {
            memcpy(r->vectors + j->ticket * r->outputs, w->vector, r->outputs * sizeof *w->vector);
        } else if (r->rc == CMIF_OK) {
            r->rc  = rc;
            r->err = err;
        }
        r->under_way--;
        job_free(j);
        pthread_cond_signal(&r->room);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static cmif_code start_worker(cmif_runner *r, worker *w, const cmif_private_server *server, cmif_err *err)
{
    cmif_session_options options = {
        .model_id = r->client.model_id,
        .row_type = CMIF_ROWS_F32,
        .peer     = {.path = cmif_private_server_socket(server), .connect_seconds = 10},
    };
    w->runner    = r;
    cmif_code rc = cmif_embed_open(r->client.file, &w->embed, err);
    if (rc == CMIF_OK) {
        cmif_embed_set_more(w->embed, give_row, w);
        rc = cmif_session_open(&options, w->embed, &w->session, err);
    }
    if (rc == CMIF_OK && !(cmif_session_server(w->session)->flags & CMIF_WELCOME_ENCODER)) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "the model (%.*s) generates text: an encoder is needed here",
                       (int) (r->client.arch.size < 32 ? r->client.arch.size : 32), r->client.arch.data);
    }
    if (rc == CMIF_OK) {
        r->outputs = cmif_session_server(w->session)->outputs;
        w->vector  = calloc(r->outputs, sizeof *w->vector);
        rc         = w->vector ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu numbers", r->outputs);
    }
    return rc;
}

/* ---- opening and closing ---- */

cmif_code cmif_runner_open(const char *model, uint32_t threads, cmif_runner **out, cmif_err *err)
{
    cmif_runner *r = calloc(1, sizeof *r);
    if (!r) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a runner");
    }
    long     cores  = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = threads ? threads : (uint32_t) (cores > 0 ? cores : 1);
    r->server_count = wanted < 1 ? 1 : wanted < SERVERS_MAX ? wanted : SERVERS_MAX;
    r->worker_count = (size_t) r->server_count * SESSIONS;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->room, NULL);
    r->slot_count = FIRST_SLOTS;
    r->slots      = calloc(r->slot_count, sizeof *r->slots);
    r->workers    = calloc(r->worker_count, sizeof *r->workers);
    cmif_code rc  = r->slots && r->workers ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for sessions");

    rc = rc == CMIF_OK ? cmif_cache_halves(model, true, &r->client.halves, err) : rc;
    for (uint32_t i = 0; rc == CMIF_OK && i < r->server_count; i++) {
        rc = cmif_private_server_start(r->client.halves.server, SESSIONS, 0, 1, &r->servers[i], err);
    }
    rc = rc == CMIF_OK ? cmif_client_load(r->client.halves.client, &r->client, err) : rc;
    for (uint32_t i = 0; rc == CMIF_OK && i < r->server_count; i++) {
        rc = cmif_private_server_wait(r->servers[i], err);
    }
    if (rc == CMIF_OK) {
        r->client.row_type = CMIF_ROWS_F32;
        r->width           = cmif_embed_width(r->client.embed);
        r->vocab           = cmif_embed_vocab(r->client.embed);
    }
    for (size_t i = 0; rc == CMIF_OK && i < r->worker_count; i++) {
        rc = start_worker(r, &r->workers[i], r->servers[i / SESSIONS], err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < r->worker_count; i++) {
        r->workers[i].started = pthread_create(&r->workers[i].thread, NULL, work, &r->workers[i]) == 0;
        rc                    = r->workers[i].started ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot start a thread");
    }
    if (rc == CMIF_OK) {
        *out = r;
        r    = NULL;
    }
    cmif_runner_close(r);
    return rc;
}

void cmif_runner_close(cmif_runner *r)
{
    if (!r) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->ends = true;
    r->rc   = r->rc == CMIF_OK ? CMIF_E_CANCELLED : r->rc; /* what still waits is not computed */
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; r->workers && i < r->worker_count; i++) {
        worker *w = &r->workers[i];
        if (w->started) {
            pthread_join(w->thread, NULL);
        }
        cmif_session_free(w->session);
        cmif_embed_free(w->embed);
        free(w->vector);
    }
    for (uint32_t i = 0; i < r->server_count; i++) {
        cmif_private_server_stop(r->servers[i]);
    }
    cmif_client_close(&r->client);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->room);
    free(r->workers);
    free(r->slots);
    free(r->keys);
    free(r->vectors);
    free(r);
}

cmif_client *cmif_runner_client(cmif_runner *r)
{
    return &r->client;
}
size_t cmif_runner_outputs(const cmif_runner *r)
{
    return r->outputs;
}
const float *cmif_runner_vector(const cmif_runner *r, size_t ticket)
{
    return r->vectors + ticket * r->outputs;
}

cmif_runner_counts cmif_runner_totals(const cmif_runner *r)
{
    cmif_runner_counts n = {
        .texts = r->texts, .computed = r->tickets, .servers = r->server_count, .rows_seconds = r->rows_seconds};
    for (size_t i = 0; i < r->worker_count; i++) {
        n.encode_seconds += r->workers[i].seconds;
    }
    return n;
}

/* ---- what was computed before ---- */

/* The key of a text: its ids, and in place of those beyond the vocabulary, which mean something else in every table,
 * their rows. */
static cmif_code make_key(const cmif_runner *r, const job *j, uint8_t key[static KEY_SIZE], cmif_err *err)
{
    uint8_t     hash[32];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool        ok  = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL);
    for (size_t i = 0, n = 0; ok && i < j->ids.count; i++) {
        int32_t id = (size_t) j->ids.at[i] < r->vocab ? j->ids.at[i] : -1;
        ok         = EVP_DigestUpdate(sha, &id, sizeof id);
        if (ok && id < 0) {
            ok = EVP_DigestUpdate(sha, j->more + n++ * r->width, r->width * sizeof *j->more);
        }
    }
    ok = ok && EVP_DigestFinal_ex(sha, hash, NULL);
    EVP_MD_CTX_free(sha);
    memcpy(key, hash, ok ? KEY_SIZE : 0);
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
}

static size_t slot_of(const cmif_runner *r, const uint8_t key[static KEY_SIZE])
{
    uint64_t at;
    memcpy(&at, key, sizeof at);
    at &= r->slot_count - 1;
    while (r->slots[at] && memcmp(r->keys[r->slots[at] - 1], key, KEY_SIZE) != 0) {
        at = (at + 1) & (r->slot_count - 1);
    }
    return (size_t) at;
}

/* Room for one ticket more; the lock is held, because workers write vectors. */
static cmif_code grow(cmif_runner *r, cmif_err *err)
{
    if (r->tickets == r->ticket_room) {
        size_t room    = r->ticket_room ? 2 * r->ticket_room : 4096;
        void  *keys    = realloc(r->keys, room * sizeof *r->keys);
        r->keys        = keys ? keys : r->keys;
        float *vectors = realloc(r->vectors, room * r->outputs * sizeof *vectors);
        r->vectors     = vectors ? vectors : r->vectors;
        if (!keys || !vectors) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu results", room);
        }
        r->ticket_room = room;
    }
    if (2 * r->tickets >= r->slot_count) {
        uint32_t    *old   = r->slots;
        const size_t count = r->slot_count > FIRST_SLOTS ? 2 * r->slot_count : 2 * (size_t) FIRST_SLOTS;
        uint32_t    *slots = calloc(count, sizeof *slots);
        if (!slots) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu results", r->slot_count);
        }
        r->slots      = slots;
        r->slot_count = count;
        for (uint32_t t = 0; t < r->tickets; t++) {
            r->slots[slot_of(r, r->keys[t])] = t + 1;
        }
        free(old);
    }
    return CMIF_OK;
}

/* ---- putting ---- */

static cmif_code make_job(cmif_runner *r, cmif_bayes *bayes, const cmif_released *text, job *j, cmif_err *err)
{
    cmif_part part = {.text = text};
    size_t    more = 0;
    (void) cmif_released_bytes(text, &part.size);

    cmif_code rc = cmif_tokenizer_put_start(r->client.tokenizer, &j->ids, err);
    if (rc == CMIF_OK) {
        rc = bayes ? cmif_bayes_encode(bayes, text, &j->ids, err)
                   : cmif_tokenizer_encode(r->client.tokenizer, &part, 1, &j->ids, err);
    }
    rc = rc == CMIF_OK ? cmif_tokenizer_put_end(r->client.tokenizer, &j->ids, err) : rc;
    for (size_t i = 0; i < j->ids.count; i++) {
        more += (size_t) j->ids.at[i] >= r->vocab;
    }
    if (rc == CMIF_OK && more && !(j->more = malloc(more * r->width * sizeof *j->more))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows", more);
    }
    for (size_t i = 0, n = 0; rc == CMIF_OK && more && i < j->ids.count; i++) {
        if ((size_t) j->ids.at[i] >= r->vocab) {
            rc = cmif_embed_rows(r->client.embed, &j->ids, i, 1, CMIF_ROWS_F32, j->more + n++ * r->width, err);
        }
    }
    return rc;
}

cmif_code cmif_runner_rows(cmif_runner *r, cmif_bayes *bayes, const cmif_released *text, float **rows, size_t *count,
                           cmif_err *err)
{
    float *all = NULL;
    job   *j   = calloc(1, sizeof *j);
    if (!j) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a text");
    }
    cmif_code rc = make_job(r, bayes, text, j, err);
    if (rc == CMIF_OK && !(all = calloc(j->ids.count + 1, r->width * sizeof *all))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows", j->ids.count);
    }
    rc = rc == CMIF_OK ? cmif_embed_rows(r->client.embed, &j->ids, 0, j->ids.count, CMIF_ROWS_F32, all, err) : rc;
    if (rc == CMIF_OK) {
        *rows  = all;
        *count = j->ids.count;
        all    = NULL;
    }
    free(all);
    job_free(j);
    return rc;
}

cmif_code cmif_runner_put(cmif_runner *r, cmif_bayes *bayes, const cmif_released *text, size_t *ticket, cmif_err *err)
{
    uint8_t key[KEY_SIZE];
    job    *j = calloc(1, sizeof *j);
    if (!j) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a text");
    }
    double    began = now();
    cmif_code rc    = make_job(r, bayes, text, j, err);
    r->rows_seconds += now() - began;
    rc = rc == CMIF_OK ? make_key(r, j, key, err) : rc;
    if (rc != CMIF_OK) {
        job_free(j);
        return rc;
    }
    pthread_mutex_lock(&r->lock);
    r->texts++;
    size_t slot = slot_of(r, key);
    if (r->slots[slot]) {
        *ticket = r->slots[slot] - 1;
    } else {
        while (r->waiting >= (size_t) WAITING_MAX * r->server_count && r->rc == CMIF_OK) {
            pthread_cond_wait(&r->room, &r->lock);
        }
        rc = grow(r, err);
        if (rc == CMIF_OK) {
            j->ticket = *ticket = r->tickets;
            memcpy(r->keys[r->tickets], key, KEY_SIZE);
            r->slots[slot_of(r, key)]               = (uint32_t) ++r->tickets;
            *(r->last ? &r->last->next : &r->first) = j;
            r->last                                 = j;
            r->waiting++;
            r->under_way++;
            j = NULL;
            pthread_cond_signal(&r->work);
        }
    }
    if (cmif_interrupted && r->rc == CMIF_OK) {
        r->rc = cmif_fail(&r->err, CMIF_E_CANCELLED, "stopped");
    }
    if (rc == CMIF_OK && r->rc != CMIF_OK) {
        rc   = r->rc;
        *err = r->err;
    }
    pthread_mutex_unlock(&r->lock);
    job_free(j);
    return rc;
}

cmif_code cmif_runner_wait(cmif_runner *r, cmif_err *err)
{
    pthread_mutex_lock(&r->lock);
    while (r->under_way) {
        pthread_cond_wait(&r->room, &r->lock);
    }
    cmif_code rc = r->rc;
    if (rc != CMIF_OK) {
        *err = r->err;
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}
