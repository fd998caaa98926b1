/* storm - many streams at once against one server, while its engine is killed, compared with each stream run alone.
 *
 *   storm CLIENT.gguf SERVER.gguf [--streams N] [--slots N] [--tokens N] [--kills N | --seconds N] [--threads N]
 *         [--longest ROWS]
 *
 * Greedy and seeded streams of mixed lengths are run alone first. Then all run together, again and again, until the
 * engine child was killed (-9) so many times at random moments, or so many seconds are over. Every stream must end, and
 * its tokens must equal those of its run alone, or first differ where the choice was close: some kernels depend on who
 * else is in the batch, so the last bits of logits may differ. Close is a margin (docs/wire.md) below 1e-3; of a drawn
 * token, also below twice what logits after a prompt of that length are seen to differ by when another stream is there,
 * measured first.
 * Prints counts, margins, the longest gap between two tokens, and the memory of server and engine over time. */
#include "rig.h"

#include "dp/released_ids.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLOSE_MARGIN 1e-3f
#define TOKENS_MAX 512
#define LENGTHS 6

typedef struct stream {
    unsigned      index;
    pthread_t     thread;
    cmif_ids      prompt;
    cmif_sampling sampling;
    int32_t       alone[TOKENS_MAX], now[TOKENS_MAX];
    float         margins[TOKENS_MAX];
    uint32_t      alone_count, now_count;
    double        last, gap; /* seconds */
    unsigned      rounds, equal, close, far, failed, replays;
    float         worst; /* the largest margin at which a round first differed */
} stream;

static rig         host;
static uint32_t    tokens = 48, longest = 190;
static atomic_bool over;
static float       company_difference[LENGTHS]; /* by length of the prompt */

static bool keep_token(void *context, int32_t id, float margin, const float *logits)
{
    stream *s = context;
    double  t = rig_now();
    (void) logits;
    s->gap  = t - s->last > s->gap ? t - s->last : s->gap;
    s->last = t;
    if (s->rounds == 0) { /* alone */
        s->margins[s->now_count] = margin;
    }
    s->now[s->now_count++] = id;
    return true;
}

static cmif_code generate(stream *s, cmif_session *session, cmif_err *err)
{
    cmif_generation how   = {.sampling   = s->sampling,
                             .max_tokens = tokens,
                             .flags      = CMIF_BEGIN_MARGIN,
                             .on_token   = keep_token,
                             .context    = s};
    cmif_usage      usage = {0};
    s->now_count          = 0;
    s->last               = rig_now();
    cmif_code rc          = cmif_session_generate(session, &s->prompt, false, &how, &usage, err);
    s->replays += usage.replays;
    return rc;
}

/* ---- by how much logits of the same ids differ when another stream is in the batch ---- */

typedef struct step_logits {
    float   *at; /* of token number `number` */
    uint32_t number, count;
} step_logits;

static bool keep_logits(void *context, int32_t id, float margin, const float *logits)
{
    step_logits *l = context;
    (void) id;
    (void) margin;
    if (l->count++ == l->number) {
        memcpy(l->at, logits, cmif_embed_vocab(host.table) * sizeof *logits);
    }
    return true;
}

static cmif_code logits_of(const cmif_ids *prompt, uint32_t number, float *out, cmif_err *err)
{
    step_logits     l       = {.at = out, .number = number};
    cmif_session   *session = NULL;
    cmif_ids        ids     = {0};
    cmif_generation how     = {.sampling   = {.top_p = 1},
                               .max_tokens = number + 1,
                               .flags      = CMIF_BEGIN_LOGITS,
                               .on_token   = keep_logits,
                               .context    = &l};
    cmif_code       rc      = cmif_ids_append(&ids, prompt->at, prompt->count, err);
    if (rc == CMIF_OK) {
        rc = cmif_session_open(&host.options, host.table, &session, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_session_generate(session, &ids, false, &how, NULL, err);
    }
    cmif_session_free(session);
    cmif_ids_free(&ids);
    return rc;
}

static atomic_bool company_started;

static bool company_goes_on(void *context, int32_t id, float margin, const float *logits)
{
    (void) context;
    (void) id;
    (void) margin;
    (void) logits;
    atomic_store(&company_started, true);
    return true;
}

static void *keep_company(void *context)
{
    cmif_session   *session = *(cmif_session **) context;
    cmif_ids        prompt  = {0};
    int32_t         id      = 300;
    cmif_generation how     = {.sampling = {.top_p = 1}, .max_tokens = 500, .on_token = company_goes_on};
    if (cmif_ids_append(&prompt, &id, 1, NULL) == CMIF_OK) {
        (void) !cmif_session_generate(session, &prompt, false, &how, NULL, NULL);
    }
    cmif_ids_free(&prompt);
    return NULL;
}

static cmif_code measure_company(const stream *streams, unsigned count, cmif_err *err)
{
    const size_t   vocab  = cmif_embed_vocab(host.table);
    const uint32_t number = 1; /* the first that is computed as a step; later ones may follow other tokens */
    float         *a = calloc(vocab, sizeof *a), *b = calloc(vocab, sizeof *b);
    cmif_code      rc = a && b ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory");
    for (unsigned i = 0; rc == CMIF_OK && i < count && i < LENGTHS; i++) {
        cmif_session *company = NULL;
        pthread_t     thread;
        rc = logits_of(&streams[i].prompt, number, a, err);
        if (rc == CMIF_OK) {
            rc = cmif_session_open(&host.options, host.table, &company, err);
        }
        if (rc != CMIF_OK) {
            break;
        }
        atomic_store(&company_started, false);
        pthread_create(&thread, NULL, keep_company, &company);
        while (!atomic_load(&company_started)) {
            usleep(1000);
        }
        rc = logits_of(&streams[i].prompt, number, b, err);
        cmif_session_cancel(company);
        pthread_join(thread, NULL);
        cmif_session_free(company);
        for (size_t v = 0; rc == CMIF_OK && v < vocab; v++) {
            float difference      = a[v] > b[v] ? a[v] - b[v] : b[v] - a[v];
            company_difference[i] = difference > company_difference[i] ? difference : company_difference[i];
        }
        printf("  a prompt of %zu rows: logits differ by up to %.2g when another stream is beside it\n",
               streams[i].prompt.count, (double) company_difference[i]);
    }
    free(a);
    free(b);
    return rc;
}

static void compare(stream *s)
{
    uint32_t i = 0;
    while (i < s->now_count && i < s->alone_count && s->now[i] == s->alone[i]) {
        i++;
    }
    if (i == s->now_count && i == s->alone_count) {
        s->equal++;
        return;
    }
    float seen   = 2 * company_difference[s->index % LENGTHS];
    float close  = s->sampling.temperature > 0 && seen > CLOSE_MARGIN ? seen : CLOSE_MARGIN;
    float margin = i < s->alone_count ? s->margins[i] : 1e9f;
    s->worst     = margin > s->worst ? margin : s->worst;
    *(margin < close ? &s->close : &s->far) += 1;
    printf("  a stream of %zu rows, %s, first differs at token %u of %u, margin %g\n", s->prompt.count,
           s->sampling.temperature > 0 ? "seeded" : "greedy", i, s->alone_count, (double) margin);
}

static void *storm(void *context)
{
    stream       *s       = context;
    cmif_session *session = NULL;
    while (!atomic_load(&over)) {
        cmif_err  err = {0};
        cmif_code rc  = session ? CMIF_OK : cmif_session_open(&host.options, host.table, &session, &err);
        s->rounds++;
        if (rc == CMIF_OK) {
            rc = generate(s, session, &err);
        }
        if (rc != CMIF_OK) {
            printf("  a stream failed: %s\n", err.text);
            s->failed++;
            cmif_session_free(session);
            session = NULL;
            continue;
        }
        compare(s);
        /* the next round starts without a cache: with one, only the end of the prompt would be computed, in a shape
         * that the run alone did not have */
        cmif_session_free(session);
        session = NULL;
    }
    cmif_session_free(session);
    return NULL;
}

static long resident_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "RssAnon: %ld", &kib) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib;
}

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t) ((uint64_t) random_state * n >> 32);
}

static void make_stream(stream *s, unsigned index)
{
    static const uint32_t parts[LENGTHS] = {1, 8, 20, 45, 75, 100}; /* of the longest, in hundredths */
    uint32_t              length         = 1 + longest * parts[index % LENGTHS] / 100 + random_below(10);
    for (uint32_t i = 0; i < length; i++) {
        int32_t id = 300 + (int32_t) random_below((uint32_t) cmif_embed_vocab(host.table) - 300);
        if (cmif_ids_append(&s->prompt, &id, 1, NULL) != CMIF_OK) {
            abort();
        }
    }
    s->index    = index;
    s->sampling = (cmif_sampling){.top_p = 1};
    if (index % 2) {
        s->sampling = (cmif_sampling){.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .seed = index};
    }
}

int main(int argc, char **argv)
{
    unsigned    count = 20, slots = 0, kills = 0, seconds = 0;
    const char *threads = "2";
    if (argc < 3) {
        fprintf(stderr,
                "usage: storm CLIENT.gguf SERVER.gguf [--streams N] [--slots N] [--tokens N] [--kills N | --seconds N] "
                "[--threads N]\n");
        return 2;
    }
    for (int i = 3; i + 1 < argc; i += 2) {
        unsigned value = (unsigned) strtoul(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--streams")) {
            count = value;
        } else if (!strcmp(argv[i], "--slots")) {
            slots = value;
        } else if (!strcmp(argv[i], "--tokens")) {
            tokens = value < TOKENS_MAX ? value : TOKENS_MAX;
        } else if (!strcmp(argv[i], "--longest")) {
            longest = value < 450 ? value : 450;
        } else if (!strcmp(argv[i], "--kills")) {
            kills = value;
        } else if (!strcmp(argv[i], "--seconds")) {
            seconds = value;
        } else if (!strcmp(argv[i], "--threads")) {
            threads = argv[i + 1];
        }
    }
    slots = slots ? slots : count;

    char     sessions[16];
    cmif_err err = {0};
    snprintf(sessions, sizeof sessions, "%u", slots);
    const char *arguments[] = {
        "--max-sessions", sessions, "--max-context", "512", "--max-connections", "256", "--threads", threads, NULL};
    if (rig_open(&host, argv[1], &err) != CMIF_OK || rig_start(&host, argv[2], arguments, &err) != CMIF_OK) {
        fprintf(stderr, "storm: %s\n", err.text);
        rig_stop(&host);
        return 1;
    }
    stream *streams = calloc(count, sizeof *streams);
    int     status  = 1;
    if (!streams) {
        goto done;
    }
    for (unsigned i = 0; i < count; i++) {
        stream       *s       = &streams[i];
        cmif_session *session = NULL;
        make_stream(s, i);
        if (cmif_session_open(&host.options, host.table, &session, &err) != CMIF_OK ||
            generate(s, session, &err) != CMIF_OK) {
            fprintf(stderr, "storm: alone: %s\n", err.text);
            cmif_session_free(session);
            goto done;
        }
        cmif_session_free(session);
        memcpy(s->alone, s->now, sizeof s->alone);
        s->alone_count = s->now_count;
        s->gap         = 0;
    }
    if (measure_company(streams, count, &err) != CMIF_OK) {
        fprintf(stderr, "storm: alone: %s\n", err.text);
        goto done;
    }
    printf("%u streams ran alone, %u tokens each\n", count, tokens);

    double   start = rig_now(), warm_at = 0;
    long     warm_server = 0, warm_engine = 0;
    unsigned killed = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_create(&streams[i].thread, NULL, storm, &streams[i]);
    }
    while (kills ? killed < kills : rig_now() - start < seconds) {
        usleep(kills ? 1000000 + random_below(7000000) : 500000);
        pid_t engine = rig_child_of(host.server);
        if (kills && engine > 0) {
            kill(engine, SIGKILL);
            killed++;
        }
        if (!kills && !warm_at && rig_now() - start > seconds / 4.0) {
            warm_at     = rig_now() - start;
            warm_server = resident_kib(host.server);
            warm_engine = resident_kib(engine);
        }
    }
    long end_server = resident_kib(host.server), end_engine = resident_kib(rig_child_of(host.server));
    atomic_store(&over, true);
    stream sum = {0};
    for (unsigned i = 0; i < count; i++) {
        stream *s = &streams[i];
        pthread_join(s->thread, NULL);
        sum.rounds += s->rounds;
        sum.equal += s->equal;
        sum.close += s->close;
        sum.far += s->far;
        sum.failed += s->failed;
        sum.replays += s->replays;
        sum.gap   = s->gap > sum.gap ? s->gap : sum.gap;
        sum.worst = s->worst > sum.worst ? s->worst : sum.worst;
        if (s->rounds == 0) {
            printf("  stream %u never ended a round\n", i);
            sum.failed++;
        }
    }
    printf("%u engine kills, %.0f s, %u rounds: %u equal to the run alone, %u differ where the choice was close, %u "
           "elsewhere, "
           "%u failed; %u replays; longest gap between tokens %.2f s\n",
           killed, rig_now() - start, sum.rounds, sum.equal, sum.close, sum.far, sum.failed, sum.replays, sum.gap);
    if (!kills) {
        printf("memory after %.0f s and at the end, MiB: server %.1f and %.1f, engine %.1f and %.1f\n", warm_at,
               (double) warm_server / 1024, (double) end_server / 1024, (double) warm_engine / 1024,
               (double) end_engine / 1024);
    }
    bool flat = kills || (end_server < warm_server + warm_server / 10 + 8192 &&
                          end_engine < warm_engine + warm_engine / 20 + 16384);
    if (!flat) {
        printf("memory grew\n");
    }
    status = sum.far || sum.failed || !flat || !sum.equal;
    printf("%s\n", status ? "FAILED" : "ok");
done:
    rig_stop(&host);
    for (unsigned i = 0; streams && i < count; i++) {
        cmif_ids_free(&streams[i].prompt);
    }
    free(streams);
    return status;
}
