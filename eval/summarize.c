#include "summarize.h"

#include "base/bytes.h"
#include "cmif_client.h"

#include <math.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STREAMS = 2, SERVERS_MAX = 32, TOKENS = 64, CONTEXT = 3072 };

static const char question[] = "You are given an article. Answer with a summary of it in one sentence.";

typedef struct stream {
    struct crew  *crew;
    pthread_t     thread;
    bool          started;
    cmif_session *session;
    cmif_guard    guard;
    cmif_secret   answer; /* bytes as they came */
} stream;

typedef struct crew {
    cmif_client          client; /* file, tokenizer, table, chat: encoding under the lock, for one at a time */
    cmif_private_server *servers[SERVERS_MAX];
    uint32_t             server_count;
    stream              *streams;
    size_t               stream_count;
    const cmif_task     *task;
    cmif_summaries      *now; /* what is worked at */
    char                 path[PATH_MAX];
    json_t              *kept;
    pthread_mutex_t      lock;
    size_t               next;
    cmif_code            rc;
    cmif_err             err;
} crew;

/* ---- what is kept ---- {"0": [f1 of one, two, l, lsum] or null, ...} by article */

static cmif_code open_kept(crew *c, const cmif_tables *tables, const cmif_guard *guard, bool again, cmif_err *err)
{
    uint8_t     hash[32];
    char        hex[33];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool ok = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) && EVP_DigestUpdate(sha, c->client.model_id, 32) &&
              EVP_DigestUpdate(sha, c->now->policy, strlen(c->now->policy) + 1) &&
              EVP_DigestUpdate(sha, question, sizeof question) &&
              (!guard->table || EVP_DigestUpdate(sha, guard->table->hash, 32));
    for (size_t i = 0; ok && i < c->task->count; i++) {
        ok = EVP_DigestUpdate(sha, c->task->examples[i].text, strlen(c->task->examples[i].text) + 1);
    }
    ok = ok && EVP_DigestFinal_ex(sha, hash, NULL);
    EVP_MD_CTX_free(sha);
    cmif_hex(hash, ok ? 16 : 0, hex);
    if (!ok || snprintf(c->path, sizeof c->path, "%s/summaries-%s.json", tables->folder, hex) >= (int) sizeof c->path) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    json_t *kept = again ? NULL : json_load_file(c->path, 0, NULL);
    json_decref(c->kept);
    c->kept = json_is_object(kept) ? kept : json_object();
    if (c->kept != kept) {
        json_decref(kept);
    }
    return c->kept ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for what is kept");
}

/* Whether an earlier command finished the article. */
static bool take_kept(crew *c, size_t article)
{
    char        name[24];
    cmif_rouge *s = &c->now->scores[article];
    snprintf(name, sizeof name, "%zu", article);
    json_t *found = json_object_get(c->kept, name);
    bool    there = found && json_unpack(found, "[F, F, F, F!]", &s->one.f1, &s->two.f1, &s->l.f1, &s->lsum.f1) == 0;
    c->now->there[article] = there;
    return there || json_is_null(found);
}

static cmif_code keep(crew *c, size_t article, cmif_err *err)
{
    char              name[24], part[PATH_MAX];
    const cmif_rouge *s = &c->now->scores[article];
    snprintf(name, sizeof name, "%zu", article);
    json_object_set_new(c->kept, name,
                        c->now->there[article] ? json_pack("[f, f, f, f]", s->one.f1, s->two.f1, s->l.f1, s->lsum.f1)
                                               : json_null());
    bool ok = snprintf(part, sizeof part, "%s.%d", c->path, (int) getpid()) < (int) sizeof part &&
              json_dump_file(c->kept, part, JSON_COMPACT) == 0 && rename(part, c->path) == 0;
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot keep a finished summary in the cache: is the disk full?");
}

/* ---- one article ---- */

static bool on_token(void *context, int32_t id, float margin, const float *logits)
{
    stream *s = context;
    char    piece[512];
    (void) margin;
    (void) logits;
    size_t size = cmif_tokenizer_decode(s->crew->client.tokenizer, id, false, piece, sizeof piece);
    return cmif_secret_append(&s->answer, piece, size, NULL) == CMIF_OK && !cmif_interrupted;
}

/* The ids of the question and the article as it may leave. *fits: false: too long, or refused. The lock is held. */
static cmif_code prepare(stream *s, const char *article, cmif_ids *ids, bool *fits, cmif_err *err)
{
    cmif_client   *c     = &s->crew->client;
    cmif_secret    text  = {0};
    cmif_released *rules = NULL, *released = NULL;
    cmif_code      rc = cmif_guard_renew(&s->guard, err); /* each article is a conversation of its own */
    rc                = rc == CMIF_OK ? cmif_secret_append(&text, article, strlen(article), err) : rc;
    rc                = rc == CMIF_OK ? cmif_dp_release_identity(question, sizeof question - 1, &rules, err) : rc;
    if (rc == CMIF_OK) {
        rc    = cmif_guard_release(&s->guard, &text, &released, NULL, err);
        *fits = rc == CMIF_OK;
        rc    = rc == CMIF_E_RANGE ? CMIF_OK : rc; /* refused by the policy: it is counted */
    }
    if (rc == CMIF_OK && *fits) {
        const cmif_message messages[] = {{CMIF_ROLE_SYSTEM, rules}, {CMIF_ROLE_USER, released}};
        rc                            = cmif_chat_render(c->chat, messages, 2, ids, err);
        *fits                         = ids->count + TOKENS < cmif_session_server(s->session)->context;
    }
    cmif_released_free(rules);
    cmif_released_free(released);
    cmif_secret_wipe(&text);
    return rc;
}

static cmif_code score(stream *s, const char *reference, cmif_rouge *out, cmif_err *err)
{
    cmif_restore       *restore = NULL;
    cmif_restore_counts counts  = {0};
    cmif_secret         shown   = {0};
    const cmif_secret  *answer  = &s->answer;
    cmif_code           rc      = cmif_guard_restorer(&s->guard, false, &restore, err);
    if (rc == CMIF_OK && restore) {
        rc     = cmif_restore_feed(restore, answer->data, answer->size, &shown, err);
        rc     = rc == CMIF_OK ? cmif_restore_end(restore, &shown, &counts, err) : rc;
        answer = &shown;
    }
    if (rc == CMIF_OK) {
        rc = cmif_rouge_score_text(reference, strlen(reference), answer->data ? (const char *) answer->data : "",
                                   answer->size, true, out, err);
    }
    cmif_restore_free(restore);
    cmif_secret_wipe(&shown);
    return rc;
}

static cmif_code one(stream *s, size_t article, cmif_rouge *scores, bool *there, cmif_err *err)
{
    crew               *c     = s->crew;
    const cmif_example *e     = &c->task->examples[article];
    cmif_ids            ids   = {0};
    cmif_usage          usage = {0};
    cmif_generation     how   = {.sampling = {.top_p = 1}, .max_tokens = TOKENS, .on_token = on_token, .context = s};
    pthread_mutex_lock(&c->lock);
    how.stop_count = cmif_tokenizer_stops(c->client.tokenizer, &how.stops);
    how.stop_count = how.stop_count < CMIF_WIRE_STOPS_MAX ? how.stop_count : CMIF_WIRE_STOPS_MAX;
    cmif_code rc   = prepare(s, e->text, &ids, there, err);
    pthread_mutex_unlock(&c->lock);
    s->answer.size = 0;
    if (rc == CMIF_OK && *there) {
        rc = cmif_session_generate(s->session, &ids, false, &how, &usage, err);
        rc = rc == CMIF_OK ? score(s, e->reference, scores, err) : rc;
    }
    cmif_ids_free(&ids);
    return rc;
}

static void *work(void *context)
{
    stream *s = context;
    crew   *c = s->crew;
    pthread_mutex_lock(&c->lock);
    while (c->rc == CMIF_OK && c->next < c->task->count) {
        size_t article = c->next++;
        if (take_kept(c, article)) {
            c->now->from_before++;
            continue;
        }
        char status[96];
        snprintf(status, sizeof status, "%s: article %zu of %zu", c->now->policy, article + 1, c->task->count);
        cmif_status(status);
        pthread_mutex_unlock(&c->lock);

        cmif_rouge scores = {0};
        bool       there  = false;
        cmif_err   err    = {0};
        cmif_code  rc     = one(s, article, &scores, &there, &err);

        pthread_mutex_lock(&c->lock);
        if (rc == CMIF_OK && cmif_interrupted) {
            rc = cmif_fail(&err, CMIF_E_CANCELLED, "stopped");
        }
        if (rc == CMIF_OK) {
            c->now->scores[article] = scores;
            c->now->there[article]  = there;
            rc                      = keep(c, article, &err);
        }
        if (rc != CMIF_OK && c->rc == CMIF_OK) {
            c->rc  = rc;
            c->err = err;
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- all ---- */

static cmif_code under_policy(crew *c, const cmif_tables *tables, bool again, cmif_err *err)
{
    cmif_guard_options options = {.policy = !strcmp(c->now->policy, "clean") ? "none" : c->now->policy};
    cmif_code          rc      = CMIF_OK;
    uint64_t           changed = 0, words = 0;
    c->now->scores = calloc(c->task->count, sizeof *c->now->scores);
    c->now->there  = calloc(c->task->count, sizeof *c->now->there);
    c->next        = 0;
    if (!c->now->scores || !c->now->there) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu scores", c->task->count);
    }
    for (size_t i = 0; rc == CMIF_OK && i < c->stream_count; i++) {
        rc = cmif_guard_open(&options, false, &c->streams[i].guard, err);
    }
    rc = rc == CMIF_OK ? open_kept(c, tables, &c->streams[0].guard, again, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && i < c->stream_count; i++) {
        stream *s  = &c->streams[i];
        s->started = pthread_create(&s->thread, NULL, work, s) == 0;
        rc         = s->started ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot start a thread");
    }
    for (size_t i = 0; i < c->stream_count; i++) {
        stream *s = &c->streams[i];
        if (s->started) {
            pthread_join(s->thread, NULL);
            s->started = false;
        }
        changed += s->guard.totals.surrogates + s->guard.totals.draws;
        words += s->guard.totals.surrogates + s->guard.totals.draws + s->guard.totals.passed;
        cmif_guard_close(&s->guard);
    }
    c->now->changed = words ? (double) changed / (double) words : NAN;
    c->now->count   = c->task->count;
    if (rc == CMIF_OK && c->rc != CMIF_OK) {
        rc   = c->rc;
        *err = c->err;
    }
    return rc;
}

static cmif_code start(crew *c, const char *model, uint32_t threads, cmif_err *err)
{
    long     cores  = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = threads ? threads : (uint32_t) (cores > 0 ? cores : 1);
    c->server_count = wanted < 1 ? 1 : wanted < SERVERS_MAX ? wanted : SERVERS_MAX;
    c->stream_count = (size_t) c->server_count * STREAMS;
    c->streams      = calloc(c->stream_count, sizeof *c->streams);
    cmif_code rc    = c->streams ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for streams");
    rc              = rc == CMIF_OK ? cmif_cache_halves(model, true, &c->client.halves, err) : rc;
    for (uint32_t i = 0; rc == CMIF_OK && i < c->server_count; i++) {
        rc = cmif_private_server_start(c->client.halves.server, STREAMS, CONTEXT, 1, &c->servers[i], err);
    }
    rc = rc == CMIF_OK ? cmif_client_load(c->client.halves.client, &c->client, err) : rc;
    if (rc == CMIF_OK && !c->client.chat) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "summaries are asked for in a chat: %s", c->client.no_chat.text);
    }
    for (uint32_t i = 0; rc == CMIF_OK && i < c->server_count; i++) {
        rc = cmif_private_server_wait(c->servers[i], err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < c->stream_count; i++) {
        cmif_session_options options = {
            .model_id = c->client.model_id,
            .row_type = CMIF_ROWS_F32,
            .peer     = {.path = cmif_private_server_socket(c->servers[i / STREAMS]), .connect_seconds = 10},
        };
        c->streams[i].crew = c;
        rc                 = cmif_session_open(&options, c->client.embed, &c->streams[i].session, err);
    }
    return rc;
}

cmif_code cmif_summarize(const char *model, uint32_t threads, cmif_tables *tables, const cmif_task *task, bool again,
                         cmif_summaries *out, size_t policy_count, cmif_err *err)
{
    crew c = {.task = task};
    pthread_mutex_init(&c.lock, NULL);
    cmif_code rc = start(&c, model, threads, err);
    for (size_t i = 0; rc == CMIF_OK && i < policy_count; i++) {
        c.now = &out[i];
        rc    = under_policy(&c, tables, again, err);
    }
    cmif_status(NULL);
    for (size_t i = 0; c.streams && i < c.stream_count; i++) {
        cmif_session_free(c.streams[i].session);
        cmif_secret_wipe(&c.streams[i].answer);
    }
    for (uint32_t i = 0; i < c.server_count; i++) {
        cmif_private_server_stop(c.servers[i]);
    }
    free(c.streams);
    json_decref(c.kept);
    cmif_client_close(&c.client);
    pthread_mutex_destroy(&c.lock);
    return rc;
}

void cmif_summaries_wipe(cmif_summaries *s)
{
    free(s->scores);
    free(s->there);
    *s = (cmif_summaries){0};
}
