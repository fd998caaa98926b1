#include "generate.h"

#include "base/bytes.h"
#include "cmif_client.h"
#include "rouge.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STREAMS = 2, SERVERS_MAX = 32, CONTEXT = 3072, LABELS = 2 };

const size_t cmif_score_counts[CMIF_GENERATION_TASKS] = {4, 1, 1};

/* What comes before an example, all public: a system message, and for labels two reviews with their answers. */
static const struct {
    const char *question, *shots[2];
    uint32_t    tokens; /* of an answer */
} asked[CMIF_GENERATION_TASKS] = {
    {.question = "You are given an article. Answer with a summary of it in one sentence.", .tokens = 64},
    {.question = "You are given a sentence and a question about it. Answer in one sentence.", .tokens = 48},
    {.question = "Is the review of a film positive or negative? Answer with one word, positive or negative.",
     .shots    = {"a dull and clumsy film that is far too long .", "a warm , funny film with a fine cast ."},
     .tokens   = 1},
};
static const char *const labels[LABELS] = {"negative", "positive"};

typedef struct stream {
    struct crew  *crew;
    pthread_t     thread;
    bool          started;
    cmif_session *session;
    cmif_guard    guard, plain; /* plain: of the answers that others are compared with */
    cmif_secret   answer;       /* bytes as they came */
    size_t        label;        /* the likelier one */
} stream;

typedef struct crew {
    cmif_client          client; /* file, tokenizer, table, chat: encoding under the lock, for one at a time */
    cmif_private_server *servers[SERVERS_MAX];
    uint32_t             server_count;
    stream              *streams;
    size_t               stream_count;
    cmif_generation_task what;
    const cmif_task     *task;
    cmif_secret         *clean;         /* CMIF_ANSWER: [examples] the answer in the clear, once it was needed */
    bool                *is_clean;      /* [examples] whether it was */
    int32_t              first[LABELS]; /* CMIF_LABEL: the first token of each */
    cmif_scored         *now;           /* what is worked at */
    const char          *name;          /* of it */
    char                 path[PATH_MAX];
    json_t              *kept;
    pthread_mutex_t      lock;
    size_t               next;
    cmif_code            rc;
    cmif_err             err;
} crew;

/* ---- what is kept ---- {"0": [score, ..., words changed, words] or null, ...} by example */

static bool hash_text(EVP_MD_CTX *sha, const char *text)
{
    return EVP_DigestUpdate(sha, text ? text : "", text ? strlen(text) + 1 : 1);
}

/* The file of what is worked at: named by everything that decides a score but the draws. */
static cmif_code open_kept(crew *c, const cmif_tables *tables, const cmif_guard *guard, bool again, cmif_err *err)
{
    uint8_t     hash[32];
    char        hex[33];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool ok = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) && EVP_DigestUpdate(sha, c->client.model_id, 32) &&
              hash_text(sha, c->now->policy ? c->now->policy : "mechanism") &&
              hash_text(sha, asked[c->what].question) && hash_text(sha, asked[c->what].shots[0]) &&
              hash_text(sha, asked[c->what].shots[1]) &&
              (!guard->table || EVP_DigestUpdate(sha, guard->table->hash, 32));
    for (size_t i = 0; ok && i < c->task->count; i++) {
        const cmif_example *e = &c->task->examples[i];
        ok                    = hash_text(sha, e->text) && hash_text(sha, e->second) && hash_text(sha, e->reference) &&
             EVP_DigestUpdate(sha, &e->label, sizeof e->label);
    }
    ok = ok && EVP_DigestFinal_ex(sha, hash, NULL);
    EVP_MD_CTX_free(sha);
    cmif_hex(hash, ok ? 16 : 0, hex);
    if (!ok || snprintf(c->path, sizeof c->path, "%s/scores-%s.json", tables->folder, hex) >= (int) sizeof c->path) {
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

/* Whether an earlier command finished the example; what is not as it should be is as if it were not there. */
static bool take_kept(crew *c, size_t example)
{
    char   name[24];
    size_t count = cmif_score_counts[c->what];
    double read[CMIF_SCORES_MAX];
    snprintf(name, sizeof name, "%zu", example);
    json_t *found = json_object_get(c->kept, name);
    if (json_is_null(found)) {
        return true;
    }
    json_t *changed = json_array_get(found, count), *words = json_array_get(found, count + 1);
    bool    ok = json_array_size(found) == count + 2 && json_is_integer(changed) && json_is_integer(words) &&
              json_integer_value(changed) >= 0 && json_integer_value(words) >= json_integer_value(changed);
    for (size_t k = 0; ok && k < count; k++) {
        read[k] = json_number_value(json_array_get(found, k));
        ok      = json_is_number(json_array_get(found, k)) && read[k] >= 0 && read[k] <= 1;
    }
    if (ok) {
        memcpy(c->now->scores[example], read, count * sizeof *read);
        c->now->there[example] = true;
        c->now->changed += (uint64_t) json_integer_value(changed);
        c->now->words += (uint64_t) json_integer_value(words);
    }
    return ok;
}

static cmif_code keep(crew *c, size_t example, uint64_t changed, uint64_t words, cmif_err *err)
{
    char    name[24], part[PATH_MAX];
    json_t *made = c->now->there[example] ? json_array() : json_null();
    snprintf(name, sizeof name, "%zu", example);
    if (c->now->there[example]) {
        for (size_t k = 0; k < cmif_score_counts[c->what]; k++) {
            json_array_append_new(made, json_real(c->now->scores[example][k]));
        }
        json_array_append_new(made, json_integer((json_int_t) changed));
        json_array_append_new(made, json_integer((json_int_t) words));
    }
    json_object_set_new(c->kept, name, made);
    bool ok = snprintf(part, sizeof part, "%s.%d", c->path, (int) getpid()) < (int) sizeof part &&
              json_dump_file(c->kept, part, JSON_COMPACT) == 0 && rename(part, c->path) == 0;
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot keep a finished answer in the cache: is the disk full?");
}

/* ---- one example ---- */

static bool on_token(void *context, int32_t id, float margin, const float *logits)
{
    stream *s = context;
    crew   *c = s->crew;
    char    piece[512];
    (void) margin;
    if (logits) {
        s->label = logits[c->first[1]] > logits[c->first[0]];
    }
    size_t size = cmif_tokenizer_decode(c->client.tokenizer, id, false, piece, sizeof piece);
    return cmif_secret_append(&s->answer, piece, size, NULL) == CMIF_OK && !cmif_interrupted;
}

/* The words of an example as the person would type them. */
static cmif_code type(const cmif_example *e, cmif_secret *text, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (e->second) { /* what the question is about comes first */
        rc = cmif_secret_append(text, e->second, strlen(e->second), err);
        rc = rc == CMIF_OK ? cmif_secret_append(text, "\n", 1, err) : rc;
    }
    return rc == CMIF_OK ? cmif_secret_append(text, e->text, strlen(e->text), err) : rc;
}

/* The ids of what is asked and of the example as it may leave. *fits: false: too long, or refused. The lock is held. */
static cmif_code prepare(stream *s, cmif_guard *guard, const cmif_example *e, cmif_ids *ids, bool *fits, cmif_err *err)
{
    cmif_client   *c        = &s->crew->client;
    cmif_secret    text     = {0};
    cmif_released *parts[6] = {0}; /* system, two reviews and their labels, the example */
    cmif_message   messages[6];
    size_t         count = 0;
    const char *said[5], *const *shots = asked[s->crew->what].shots;
    said[count++] = asked[s->crew->what].question;
    for (size_t i = 0; i < LABELS && shots[0]; i++) {
        said[count++] = shots[i];
        said[count++] = labels[i];
    }
    cmif_code rc = cmif_guard_renew(guard, err); /* each example is a conversation of its own */
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc          = cmif_dp_release_identity(said[i], strlen(said[i]), &parts[i], err);
        messages[i] = (cmif_message){i == 0  ? CMIF_ROLE_SYSTEM
                                     : i % 2 ? CMIF_ROLE_USER
                                             : CMIF_ROLE_ASSISTANT,
                                     parts[i]};
    }
    rc = rc == CMIF_OK ? type(e, &text, err) : rc;
    if (rc == CMIF_OK) {
        rc    = cmif_guard_release(guard, &text, &parts[count], NULL, err);
        *fits = rc == CMIF_OK;
        rc    = rc == CMIF_E_RANGE ? CMIF_OK : rc; /* refused by the policy: it is counted */
    }
    if (rc == CMIF_OK && *fits) {
        messages[count] = (cmif_message){CMIF_ROLE_USER, parts[count]};
        rc              = cmif_chat_render(c->chat, messages, count + 1, ids, err);
        *fits           = ids->count + asked[s->crew->what].tokens < cmif_session_server(s->session)->context;
    }
    for (size_t i = 0; i <= count; i++) {
        cmif_released_free(parts[i]);
    }
    cmif_secret_wipe(&text);
    return rc;
}

/* The answer with its names put back, in shown, which is empty; with labels, s->label. */
static cmif_code answer(stream *s, cmif_guard *guard, const cmif_example *e, cmif_secret *shown, bool *there,
                        cmif_err *err)
{
    crew               *c       = s->crew;
    cmif_ids            ids     = {0};
    cmif_usage          usage   = {0};
    cmif_restore       *restore = NULL;
    cmif_restore_counts counts  = {0};
    cmif_generation     how     = {.sampling   = {.top_p = 1},
                                   .max_tokens = asked[c->what].tokens,
                                   .flags      = c->what == CMIF_LABEL ? CMIF_BEGIN_LOGITS : 0,
                                   .on_token   = on_token,
                                   .context    = s};
    pthread_mutex_lock(&c->lock);
    how.stop_count = cmif_tokenizer_stops(c->client.tokenizer, &how.stops);
    how.stop_count = how.stop_count < CMIF_WIRE_STOPS_MAX ? how.stop_count : CMIF_WIRE_STOPS_MAX;
    cmif_code rc   = prepare(s, guard, e, &ids, there, err);
    pthread_mutex_unlock(&c->lock);
    s->answer.size = 0;
    if (rc == CMIF_OK && *there) {
        rc = cmif_session_generate(s->session, &ids, false, &how, &usage, err);
        rc = rc == CMIF_OK ? cmif_guard_restorer(guard, false, &restore, err) : rc;
        if (rc == CMIF_OK && restore) {
            rc = cmif_restore_feed(restore, s->answer.data, s->answer.size, shown, err);
            rc = rc == CMIF_OK ? cmif_restore_end(restore, shown, &counts, err) : rc;
        } else if (rc == CMIF_OK) {
            rc = cmif_secret_append(shown, s->answer.data, s->answer.size, err);
        }
    }
    cmif_restore_free(restore);
    cmif_ids_free(&ids);
    return rc;
}

static cmif_code one(stream *s, size_t example, double *scores, bool *there, cmif_err *err)
{
    crew               *c     = s->crew;
    const cmif_example *e     = &c->task->examples[example];
    cmif_secret         shown = {0};
    cmif_rouge          found = {0};
    cmif_code           rc    = CMIF_OK;
    if (c->what == CMIF_ANSWER && !c->is_clean[example]) { /* no other stream has this example now */
        rc                   = answer(s, &s->plain, e, &c->clean[example], there, err);
        c->is_clean[example] = rc == CMIF_OK && !cmif_interrupted;
    }
    rc = rc == CMIF_OK ? answer(s, &s->guard, e, &shown, there, err) : rc;
    if (rc != CMIF_OK || !*there) {
        goto done;
    }
    if (c->what == CMIF_LABEL) {
        scores[0] = s->label == e->label;
        goto done;
    }
    const char *against = e->reference;
    size_t      size    = against ? strlen(against) : 0;
    if (c->what == CMIF_ANSWER) {
        against = (const char *) c->clean[example].data;
        size    = c->clean[example].size;
        *there  = size > 0;
    }
    rc = cmif_rouge_score_text(against ? against : "", size, shown.data ? (const char *) shown.data : "", shown.size,
                               c->what == CMIF_SUMMARIZE, &found, err);
    const double f1[CMIF_SCORES_MAX] = {found.one.f1, found.two.f1, found.l.f1, found.lsum.f1};
    memcpy(scores, f1, cmif_score_counts[c->what] * sizeof *f1);
done:
    cmif_secret_wipe(&shown);
    return rc;
}

/* Words that left otherwise, and all, of everything the guard released. */
static void count_words(const cmif_guard *g, uint64_t *changed, uint64_t *words)
{
    *changed = *words = 0;
    for (size_t k = CMIF_SPAN_OTHER + 1; k < CMIF_SPAN_CLASSES; k++) {
        const uint64_t *n = g->totals.by_class[k];
        *changed += n[CMIF_ACTION_CHANNEL] + n[CMIF_ACTION_SURROGATE];
        *words += n[CMIF_ACTION_CHANNEL] + n[CMIF_ACTION_SURROGATE] + n[CMIF_ACTION_PASS];
    }
}

static void *work(void *context)
{
    stream *s = context;
    crew   *c = s->crew;
    pthread_mutex_lock(&c->lock);
    while (c->rc == CMIF_OK && c->next < c->task->count) {
        size_t example = c->next++;
        if (take_kept(c, example)) {
            c->now->from_before++;
            continue;
        }
        char     status[96];
        uint64_t changed[2], words[2];
        snprintf(status, sizeof status, "%s: %zu of %zu", c->name, example + 1, c->task->count);
        count_words(&s->guard, &changed[0], &words[0]);
        cmif_status(status);
        pthread_mutex_unlock(&c->lock);

        double    scores[CMIF_SCORES_MAX] = {0};
        bool      there                   = false;
        cmif_err  err                     = {0};
        cmif_code rc                      = one(s, example, scores, &there, &err);
        count_words(&s->guard, &changed[1], &words[1]);

        pthread_mutex_lock(&c->lock);
        if (rc == CMIF_OK && cmif_interrupted) {
            rc = cmif_fail(&err, CMIF_E_CANCELLED, "stopped");
        }
        if (rc == CMIF_OK) {
            memcpy(c->now->scores[example], scores, sizeof scores);
            c->now->there[example] = there;
            c->now->changed += there ? changed[1] - changed[0] : 0;
            c->now->words += there ? words[1] - words[0] : 0;
            rc = keep(c, example, changed[1] - changed[0], words[1] - words[0], &err);
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

static cmif_code under_one(crew *c, cmif_tables *tables, bool again, cmif_err *err)
{
    char               channel[PATH_MAX];
    const cmif_arm    *arm   = c->now->arm;
    cmif_guard_options plain = {.policy = "none"}, options = plain;
    cmif_code          rc = CMIF_OK;
    c->now->scores        = calloc(c->task->count, sizeof *c->now->scores);
    c->now->there         = calloc(c->task->count, sizeof *c->now->there);
    c->now->count         = c->task->count;
    c->name               = arm ? arm->name : c->now->policy;
    c->next               = 0;
    if (!c->now->scores || !c->now->there) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu scores", c->task->count);
    }
    if (arm) {
        rc      = cmif_tables_channel(tables, arm, c->now->epsilon, 1, channel, err);
        options = (cmif_guard_options){.policy = "channel", .channel = channel, .no_guarantee = true};
    } else if (strcmp(c->now->policy, "clean") != 0) {
        options.policy = c->now->policy;
    }
    for (size_t i = 0; rc == CMIF_OK && i < c->stream_count; i++) {
        rc = cmif_guard_open(&options, false, &c->streams[i].guard, err);
        rc = rc == CMIF_OK ? cmif_guard_open(&plain, false, &c->streams[i].plain, err) : rc;
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
        cmif_guard_close(&s->guard);
        cmif_guard_close(&s->plain);
    }
    if (rc == CMIF_OK && c->rc != CMIF_OK) {
        rc   = c->rc;
        *err = c->err;
    }
    return rc;
}

/* The token that each label begins with, as an answer would. */
static cmif_code find_labels(crew *c, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < LABELS; i++) {
        cmif_ids        ids  = {0};
        const cmif_part part = {.literal = {labels[i], strlen(labels[i])}};
        rc                   = cmif_tokenizer_encode(c->client.tokenizer, &part, 1, &ids, err);
        c->first[i]          = rc == CMIF_OK && ids.count ? ids.at[0] : -1;
        cmif_ids_free(&ids);
    }
    if (rc == CMIF_OK && (c->first[0] < 0 || c->first[1] < 0 || c->first[0] == c->first[1])) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "the model's words for 'negative' and 'positive' begin with one token");
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
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "the task is asked for in a chat: %s", c->client.no_chat.text);
    }
    if (rc == CMIF_OK && c->what == CMIF_LABEL) {
        rc = find_labels(c, err);
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

cmif_code cmif_generate_all(cmif_generation_task what, const char *model, uint32_t threads, cmif_tables *tables,
                            const cmif_task *task, bool again, cmif_scored *out, size_t count, cmif_err *err)
{
    crew c = {.what     = what,
              .task     = task,
              .clean    = calloc(task->count, sizeof *c.clean),
              .is_clean = calloc(task->count, sizeof *c.is_clean)};
    pthread_mutex_init(&c.lock, NULL);
    cmif_code rc = c.clean && c.is_clean ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for answers");
    rc           = rc == CMIF_OK ? start(&c, model, threads, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        c.now = &out[i];
        rc    = under_one(&c, tables, again, err);
    }
    cmif_status(NULL);
    for (size_t i = 0; c.streams && i < c.stream_count; i++) {
        cmif_session_free(c.streams[i].session);
        cmif_secret_wipe(&c.streams[i].answer);
    }
    for (uint32_t i = 0; i < c.server_count; i++) {
        cmif_private_server_stop(c.servers[i]);
    }
    for (size_t i = 0; c.clean && i < task->count; i++) {
        cmif_secret_wipe(&c.clean[i]);
    }
    free(c.clean);
    free(c.is_clean);
    free(c.streams);
    json_decref(c.kept);
    cmif_client_close(&c.client);
    pthread_mutex_destroy(&c.lock);
    return rc;
}

void cmif_scored_wipe(cmif_scored *s)
{
    free(s->scores);
    free(s->there);
    *s = (cmif_scored){0};
}
