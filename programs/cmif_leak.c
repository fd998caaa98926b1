/* `cmif leak-test`: attack what would leave the machine, and say what comes back. */
#include "cmif_leak.h"
#include "cmif_commands.h"
#include "cmif_figures.h"

#include "attack.h"
#include "base/bytes.h"
#include "dp/noise.h"
#include "report.h"
#include "stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LMS_MAX      = 4,
    FILES_MAX    = 4096,
    RESULTS_MAX  = 64,
    STEPS        = 8,
    SIMULATIONS  = 1000000,
    REPEATED     = 1000, /* words that are released over and over */
    QUERIED      = 60,
    QUERIES_MOST = 20000, /* beyond that the closed form stands alone */
    PAIRS        = 25,
    PAIR_DRAWS   = 40000,
    EXIT_FLAGGED = 3
};
#define CONFIDENCE 0.95

static cmif_guard_options guard_options = {.no_guarantee = true}; /* baselines are there to be attacked */
static const char        *texts_path, *attacks, *lms, *report_path, *model;
static uint32_t           seeds = 3, show_words;
static const char        *reconstruct;

static const cmif_option options[] = {
    {0, "channel", "FILE", CMIF_OPTION_TEXT, &guard_options.channel, 0, 0, "attack this table (default: setup's)"},
    {0, "policy", "NAME|FILE", CMIF_OPTION_TEXT, &guard_options.policy, 0, 0, "attack what this policy releases"},
    {0, "texts", "FILE|FOLDER", CMIF_OPTION_TEXT, &texts_path, 0, 0, "of your own: .txt, or .tsv with a text a line"},
    {0, "attacks", "LIST", CMIF_OPTION_TEXT, &attacks, 0, 0, "only these, a comma between two; see below"},
    {0, "lm", "FILE[,FILE]", CMIF_OPTION_TEXT, &lms, 0, 0, "for hmm: made by 'cmif lexicon lm build'"},
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &model, 0, 0, "for nearest: whose rows (default minilm, if pulled)"},
    {0, "seeds", "N", CMIF_OPTION_COUNT, &seeds, 1, 1000, "releases that are attacked and averaged (default 3)"},
    {0, "reconstruct", "MODEL", CMIF_OPTION_TEXT, &reconstruct, 0, 0, "let this model guess 20 of the texts: slow"},
    {0, "show-words", "N", CMIF_OPTION_COUNT, &show_words, 1, 1000, "name the N words recovered most often"},
    {'o', "output", "REPORT", CMIF_OPTION_TEXT, &report_path, 0, 0, "write a report, REPORT.html"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name         = "leak-test",
    .args         = "[options]",
    .summary      = "attack what would leave this machine, and say what comes back",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = "Attacks: nearest bayes hmm repeat query epsilon entities. Nothing of the texts\n"
                    "is kept or shown, but for --show-words. Exit code 3: it leaks more than claimed.\n",
};
static const char *const known[] = {"nearest", "bayes", "hmm", "repeat", "query", "epsilon", "entities", "mask"};
enum { KNOWN = sizeof known / sizeof *known };

/* ---- what is found ---- */

typedef struct rate {
    double        mean;
    cmif_interval interval; /* of as many words as one release has */
    uint64_t      count;
} rate;

typedef struct result { /* one attack on words */
    char attack[16], variant[80];
    rate drawn, changed;
} result;

typedef struct doc {
    cmif_secret         text;
    cmif_attack_entity *entities;
    size_t              entity_count;
    bool                first;    /* of its file: a conversation begins */
    cmif_secret         released; /* of a text that a model is to guess */
} doc;

typedef struct leak {
    cmif_guard         guard;
    cmif_attack       *attack; /* NULL: nothing is drawn */
    cmif_noise        *noise;
    cmif_lm           *lm[LMS_MAX];
    char               lm_name[LMS_MAX][64];
    size_t             lm_count;
    doc               *docs;
    size_t             doc_count, doc_capacity;
    cmif_attack_texts *releases; /* [seeds] */

    result   results[RESULTS_MAX];
    size_t   result_count;
    uint64_t words, clear, drawn, hidden;
    struct {
        bool          there;
        double        uniform, prior;
        uint64_t      uniform_hits, prior_hits;
        cmif_interval uniform_seen, prior_seen; /* of SIMULATIONS */
    } bayes;
    struct {
        size_t   words;
        uint64_t hits[STEPS];
        uint64_t again, same; /* texts sent again in one conversation; those that left byte for byte as before */
    } repeat;
    struct {
        size_t words, never, simulated;
        double median, ratio; /* of the closed form; simulated over closed */
    } query;
    struct {
        bool              there, flagged;
        cmif_attack_bound bound;
        double            claimed;
    } epsilon;
    cmif_attack_found found;
    cmif_rebuilt      rebuilt;
    uint64_t         *worst; /* [word_count] times named */
    char              mechanism[160], certified[160];
    char              no_rows[200], no_lm[80]; /* why not */
    double            seconds;
} leak;

static const uint32_t steps[STEPS] = {1, 2, 4, 8, 16, 32, 64, 128};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static bool in_list(const char *list, const char *name)
{
    for (const char *at = list; at && *at;) {
        size_t n = strcspn(at, ",");
        if (n == strlen(name) && !memcmp(at, name, n)) {
            return true;
        }
        at += n + (at[n] == ',');
    }
    return false;
}

static bool asked(const char *name)
{
    return attacks ? in_list(attacks, name) : strcmp(name, "mask") != 0;
}

static cmif_code check_attacks(cmif_err *err)
{
    for (const char *at = attacks; at && *at;) {
        char   name[32] = "";
        size_t n = strcspn(at, ","), i = 0;
        snprintf(name, sizeof name, "%.*s", (int) (n < 31 ? n : 31), at);
        while (i < KNOWN && strcmp(name, known[i]) != 0) {
            i++;
        }
        if (i == KNOWN) {
            const char *near = cmif_nearest(name, known, KNOWN);
            return cmif_fail(err, CMIF_E_RANGE,
                             "--attacks takes nearest, bayes, hmm, repeat, query, epsilon, entities%s%s%s",
                             near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
        }
        at += n + (at[n] == ',');
    }
    return CMIF_OK;
}

/* ---- texts ---- */

static cmif_code add_doc(leak *l, const uint8_t *text, size_t size, bool first, cmif_err *err)
{
    cmif_code rc = cmif_check_utf8(text, size, err);
    if (rc != CMIF_OK || size == 0) {
        return rc;
    }
    if (l->doc_count == l->doc_capacity) {
        size_t capacity = l->doc_capacity ? 2 * l->doc_capacity : 64;
        doc   *docs     = realloc(l->docs, capacity * sizeof *docs);
        if (!docs) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu texts", capacity);
        }
        l->docs         = docs;
        l->doc_capacity = capacity;
    }
    doc *d = &l->docs[l->doc_count];
    *d     = (doc){.first = first};
    rc     = cmif_secret_append(&d->text, text, size, err);
    rc = rc == CMIF_OK ? cmif_attack_entities((char *) d->text.data, &d->text.size, &d->entities, &d->entity_count, err)
                       : rc;
    if (rc == CMIF_OK) {
        l->doc_count++;
    } else {
        cmif_secret_wipe(&d->text);
    }
    return rc;
}

/* One file: a text, or as many as it has lines. */
static cmif_code read_file(leak *l, const char *path, cmif_err *err)
{
    const char *dot  = strrchr(path, '.');
    cmif_secret text = {0};
    uint8_t     chunk[65536];
    cmif_code   rc = CMIF_OK;
    int         fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
    }
    for (ssize_t n = 1; rc == CMIF_OK && n != 0;) {
        n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno != EINTR) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
        } else if (n > 0) {
            rc = text.size > (size_t) 1 << 28 ? cmif_fail(err, CMIF_E_RANGE, "'%s' has more than 256 MB", path)
                                              : cmif_secret_append(&text, chunk, (size_t) n, err);
        }
    }
    cmif_wipe(chunk, sizeof chunk);
    close(fd);
    bool lines = dot && (!strcmp(dot, ".tsv") || !strcmp(dot, ".csv"));
    for (size_t at = 0, end; rc == CMIF_OK && lines && at < text.size;
         at        = end + 1) { /* what stands before the last tab */
        const uint8_t *newline = memchr(text.data + at, '\n', text.size - at);
        size_t         to = end = newline ? (size_t) (newline - text.data) : text.size;
        for (size_t i = at; i < end; i++) {
            to = text.data[i] == '\t' ? i : to;
        }
        rc = add_doc(l, text.data + at, to - at, at == 0, err);
    }
    rc = rc == CMIF_OK && !lines ? add_doc(l, text.data, text.size, true, err) : rc;
    if (rc != CMIF_OK && !strstr(err->text, path)) {
        cmif_err_context(err, "texts '%s'", path);
    }
    cmif_secret_wipe(&text);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static cmif_code read_folder(leak *l, const char *path, cmif_err *err)
{
    char    **names = calloc(FILES_MAX, sizeof *names), file[PATH_MAX];
    size_t    count = 0;
    cmif_code rc    = CMIF_OK;
    DIR      *dir   = opendir(path);
    if (!dir || !names) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open the folder '%s': %s", path, strerror(errno));
        goto done;
    }
    for (struct dirent *e; rc == CMIF_OK && (e = readdir(dir));) {
        const char *dot = strrchr(e->d_name, '.');
        if (e->d_name[0] == '.' || !dot || (strcmp(dot, ".txt") != 0 && strcmp(dot, ".tsv") != 0)) {
            continue;
        }
        if (count == FILES_MAX || !(names[count] = strdup(e->d_name))) {
            rc = cmif_fail(err, CMIF_E_RANGE, "more than %d texts in '%s'", FILES_MAX, path);
        } else {
            count++;
        }
    }
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = snprintf(file, sizeof file, "%s/%s", path, names[i]) < (int) sizeof file
                 ? read_file(l, file, err)
                 : cmif_fail(err, CMIF_E_IO, "a name in '%s' is too long", path);
    }
done:
    for (size_t i = 0; names && i < count; i++) {
        free(names[i]);
    }
    free(names);
    if (dir) {
        closedir(dir);
    }
    return rc;
}

static cmif_code read_texts(leak *l, cmif_err *err)
{
    char        made[PATH_MAX];
    const char *data = getenv("CMIF_DATA"), *path = texts_path;
    struct stat is;
    if (!path) {
        snprintf(made, sizeof made, "%s/sst2/dev.tsv", data && *data ? data : "../shared/data");
        path = made;
    }
    if (stat(path, &is) != 0) {
        return cmif_fail(err, CMIF_E_IO, "there is no '%s': name your own texts with --texts%s", path,
                         texts_path ? "" : ", or the folder of data sets with CMIF_DATA");
    }
    cmif_code rc = S_ISDIR(is.st_mode) ? read_folder(l, path, err) : read_file(l, path, err);
    if (rc == CMIF_OK && l->doc_count == 0) {
        rc = cmif_fail(err, CMIF_E_RANGE, "'%s' holds no text: .txt and .tsv are read", path);
    }
    return rc;
}

/* ---- releases ---- */

/* Release one text, as `cmif run` would; spans are the guard's until the next. */
static cmif_code release_doc(leak *l, const doc *d, cmif_released **out, cmif_left *left, cmif_err *err)
{
    cmif_secret copy = {0}; /* the guard wipes what it releases */
    cmif_code   rc   = cmif_secret_append(&copy, d->text.data, d->text.size, err);
    rc               = rc == CMIF_OK ? cmif_guard_release(&l->guard, &copy, out, left, err) : rc;
    cmif_secret_wipe(&copy);
    return rc;
}

/* Names and numbers of a text: do they stand in its release, and which surrogate did each get? */
static cmif_code look_at_entities(leak *l, const doc *d, const cmif_released *released, const cmif_left *left,
                                  cmif_attack_book *book, cmif_err *err)
{
    size_t      size;
    const char *out = (const char *) cmif_released_bytes(released, &size), *text = (const char *) d->text.data;
    cmif_code   rc = CMIF_OK;
    cmif_attack_verbatim(&l->found, text, d->entities, d->entity_count, out, size);
    for (size_t i = 0; rc == CMIF_OK && i < left->count; i++) {
        const cmif_released_span *s = &left->spans[i];
        if (s->action == CMIF_ACTION_SURROGATE) {
            rc = cmif_attack_book_add(book, s->class, text + s->from, s->size, out + s->out_from, s->out_size, err);
        }
    }
    return rc;
}

/* Send a text again: in one conversation it must leave as it did. */
static cmif_code send_again(leak *l, const doc *d, const cmif_released *before, cmif_err *err)
{
    cmif_released *again = NULL;
    size_t         size, size_again;
    cmif_code      rc = release_doc(l, d, &again, NULL, err);
    if (rc == CMIF_OK) {
        const uint8_t *bytes       = cmif_released_bytes(before, &size),
                      *bytes_again = cmif_released_bytes(again, &size_again);
        l->repeat.again++;
        l->repeat.same += size == size_again && !memcmp(bytes, bytes_again, size);
    }
    cmif_released_free(again);
    return rc;
}

static cmif_code release_all(leak *l, uint32_t seed, cmif_err *err)
{
    cmif_attack_book *book = NULL;
    cmif_code         rc   = cmif_attack_book_new(&book, err);
    for (size_t i = 0; rc == CMIF_OK && i < l->doc_count; i++) {
        const doc     *d        = &l->docs[i];
        cmif_released *released = NULL;
        cmif_left      left     = {0};
        if (cmif_interrupted) {
            rc = cmif_fail(err, CMIF_E_CANCELLED, "interrupted");
            break;
        }
        if (d->first) {
            cmif_attack_book_map(book, &l->found);
            rc = cmif_guard_renew(&l->guard, err);
        }
        rc = rc == CMIF_OK ? release_doc(l, d, &released, &left, err) : rc;
        if (rc == CMIF_OK && l->attack) {
            rc = cmif_attack_add(l->attack, &l->releases[seed], d->text.data, d->text.size, released, left.spans,
                                 left.count, err);
        }
        if (rc == CMIF_OK && seed == 0 && reconstruct && i < CMIF_REBUILD_TEXTS) {
            size_t         size;
            const uint8_t *bytes = cmif_released_bytes(released, &size);
            rc = cmif_secret_append(&l->docs[i].released, bytes, size < CMIF_REBUILD_SIZE ? size : CMIF_REBUILD_SIZE,
                                    err);
        }
        if (rc == CMIF_OK && seed == 0 && asked("entities")) {
            rc = look_at_entities(l, d, released, &left, book, err);
        }
        if (rc == CMIF_OK && seed == 0 && asked("repeat") && l->guard.kind == CMIF_GUARD_POLICY) {
            rc = send_again(l, d, released, err);
        }
        if (rc != CMIF_OK) {
            cmif_err_context(err, "text %zu", i + 1);
        }
        cmif_released_free(released);
    }
    if (rc == CMIF_OK) {
        cmif_attack_book_map(book, &l->found);
    }
    cmif_attack_book_free(book);
    return rc;
}

static void count_words(leak *l)
{
    for (size_t i = 0; l->attack && i < l->releases[0].count; i++) {
        const uint8_t kind = l->releases[0].words[i].kind;
        l->words++;
        l->clear += kind == CMIF_ATTACK_CLEAR;
        l->drawn += kind == CMIF_ATTACK_DRAWN;
        l->hidden += kind == CMIF_ATTACK_HIDDEN;
    }
}

/* ---- attacks ---- */

static rate rate_of(uint64_t hits, uint64_t count, uint32_t runs)
{
    runs       = runs ? runs : 1;
    rate r     = {.mean = count ? (double) hits / (double) count : NAN, .count = count / runs};
    r.interval = cmif_stats_wilson((hits + runs / 2) / runs, r.count, CONFIDENCE);
    return r;
}

static result *add_result(leak *l, const char *attack, const char *variant, const cmif_attack_score *sum, uint32_t runs)
{
    result *r = &l->results[l->result_count < RESULTS_MAX - 1 ? l->result_count++ : RESULTS_MAX - 1];
    snprintf(r->attack, sizeof r->attack, "%s", attack);
    snprintf(r->variant, sizeof r->variant, "%s", variant);
    r->drawn   = rate_of(sum->drawn_hits, sum->drawn, runs);
    r->changed = rate_of(sum->changed_hits, sum->changed, runs);
    return r;
}

static void add_score(cmif_attack_score *sum, const cmif_attack_score *one)
{
    sum->drawn += one->drawn;
    sum->drawn_hits += one->drawn_hits;
    sum->changed += one->changed;
    sum->changed_hits += one->changed_hits;
}

/* Words by how often the best attack so far named them. */
static void note_worst(leak *l, const cmif_attack_texts *texts, const uint32_t *guess)
{
    for (size_t i = 0; l->worst && i < texts->count; i++) {
        const cmif_attack_word *w = &texts->words[i];
        l->worst[w->original] += w->kind == CMIF_ATTACK_DRAWN && guess[i] == w->original;
    }
}

static cmif_code run_bayes(leak *l, cmif_err *err)
{
    const uint32_t       words = l->guard.table->word_count;
    double              *prior = malloc(words * sizeof *prior);
    uint32_t            *best  = malloc(words * sizeof *best);
    cmif_noise_and_table of    = {l->guard.table, l->noise};
    cmif_code            rc    = CMIF_OK;
    if (!prior || !best) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the prior of %u words", words);
        goto done;
    }
    cmif_attack_prior_uniform(l->attack, prior);
    l->bayes.uniform = cmif_attack_bayes(l->attack, prior, best);
    rc = cmif_attack_simulate(l->attack, prior, best, cmif_attack_shipped(&of), SIMULATIONS, 1, &l->bayes.uniform_hits,
                              err);
    for (size_t which = 0; rc == CMIF_OK && which < 1 + l->lm_count; which++) {
        cmif_attack_score sum = {0};
        char              variant[80];
        if (which == 0) {
            cmif_attack_prior_table(l->attack, prior);
            snprintf(variant, sizeof variant, "unigrams of the table");
        } else {
            cmif_attack_prior_lm(l->attack, l->lm[which - 1], prior);
            snprintf(variant, sizeof variant, "unigrams of %s", l->lm_name[which - 1]);
        }
        double closed = cmif_attack_bayes(l->attack, prior, best);
        if (which == 0) {
            l->bayes.prior = closed;
            rc             = cmif_attack_simulate(l->attack, prior, best, cmif_attack_shipped(&of), SIMULATIONS, 2,
                                                  &l->bayes.prior_hits, err);
        }
        for (uint32_t s = 0; rc == CMIF_OK && s < seeds; s++) {
            uint32_t *guess = malloc((l->releases[s].count + 1) * sizeof *guess);
            if (!guess) {
                rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu guesses", l->releases[s].count);
                break;
            }
            for (size_t i = 0; i < l->releases[s].count; i++) {
                guess[i] = best[l->releases[s].words[i].released];
            }
            cmif_attack_score one = cmif_attack_judge(&l->releases[s], guess);
            add_score(&sum, &one);
            if (which == 0 && (l->lm_count == 0 || !asked("hmm"))) {
                note_worst(l, &l->releases[s], guess);
            }
            free(guess);
        }
        if (rc == CMIF_OK) {
            add_result(l, "bayes", variant, &sum, seeds);
        }
    }
    l->bayes.there        = rc == CMIF_OK;
    l->bayes.uniform_seen = cmif_stats_wilson(l->bayes.uniform_hits, SIMULATIONS, CONFIDENCE);
    l->bayes.prior_seen   = cmif_stats_wilson(l->bayes.prior_hits, SIMULATIONS, CONFIDENCE);
done:
    free(prior);
    free(best);
    return rc;
}

static cmif_code run_hmm(leak *l, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t which = 0; rc == CMIF_OK && which < l->lm_count; which++) {
        cmif_attack_score sum = {0};
        for (uint32_t s = 0; rc == CMIF_OK && s < seeds; s++) {
            uint32_t *guess = malloc((l->releases[s].count + 1) * sizeof *guess);
            rc              = guess ? cmif_attack_hmm(l->attack, l->lm[which], &l->releases[s], guess, NULL, err)
                                    : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu guesses", l->releases[s].count);
            if (rc == CMIF_OK) {
                cmif_attack_score one = cmif_attack_judge(&l->releases[s], guess);
                add_score(&sum, &one);
                if (which + 1 == l->lm_count) {
                    note_worst(l, &l->releases[s], guess);
                }
            }
            free(guess);
        }
        if (rc == CMIF_OK) {
            add_result(l, "hmm", l->lm_name[which], &sum, seeds);
        } else {
            cmif_err_context(err, "attack hmm with '%s'", l->lm_name[which]);
        }
    }
    return rc;
}

/* Rows of every word of a table, as they would be sent. */
static cmif_code make_rows(const cmif_table *table, const cmif_attack *only, cmif_client *client, float *rows,
                           cmif_err *err)
{
    const size_t width = cmif_embed_width(client->embed);
    cmif_bayes  *bayes = NULL;
    cmif_code    rc    = cmif_bayes_new(table, NULL, client->tokenizer, client->embed, &bayes, err);
    for (uint32_t word = 1; rc == CMIF_OK && word < table->word_count; word++) {
        if (!only || cmif_attack_leaves(only, word)) {
            rc = cmif_bayes_row(bayes, word, rows + (size_t) word * width, err);
        }
    }
    cmif_bayes_free(bayes);
    return rc;
}

static cmif_code run_nearest(leak *l, cmif_err *err)
{
    char        path[PATH_MAX];
    cmif_halves halves;
    cmif_client client = {0};
    float      *rows = NULL, *sent = NULL;
    cmif_code   rc = cmif_cache_model(model ? model : "minilm", path, err);
    if (rc != CMIF_OK && !model) {
        snprintf(l->no_rows, sizeof l->no_rows, "no model: name one with -m, or 'cmif pull minilm'");
        return CMIF_OK;
    }
    rc = rc == CMIF_OK ? cmif_cache_halves(path, true, &halves, err) : rc;
    rc = rc == CMIF_OK ? cmif_client_load(halves.client, &client, err) : rc;
    if (rc == CMIF_OK) {
        const size_t count = (size_t) l->guard.table->word_count * cmif_embed_width(client.embed);
        rows               = calloc(count, sizeof *rows);
        sent               = calloc(count, sizeof *sent);
        rc                 = rows && sent
                                 ? CMIF_OK
                                 : cmif_fail(err, CMIF_E_MEMORY, "no memory for the rows of %u words", l->guard.table->word_count);
    }
    rc = rc == CMIF_OK ? make_rows(cmif_attack_itself(l->attack), NULL, &client, rows, err) : rc;
    rc = rc == CMIF_OK ? make_rows(l->guard.table, l->attack, &client, sent, err) : rc;
    for (int bayes = 0; rc == CMIF_OK && bayes < 2; bayes++) {
        cmif_attack_score sums[CMIF_ATTACK_NEAR] = {{0, 0, 0, 0}}, one[CMIF_ATTACK_NEAR];
        cmif_status(bayes ? "nearest rows: Bayes rows" : "nearest rows: plain rows");
        rc = cmif_attack_nearest(l->attack, rows, bayes ? sent : rows, cmif_embed_width(client.embed), &l->releases[0],
                                 one, err);
        for (size_t k = 0; rc == CMIF_OK && k < CMIF_ATTACK_NEAR; k++) { /* of one release: rows take the longest */
            char variant[80];
            add_score(&sums[k], &one[k]);
            snprintf(variant, sizeof variant, "%s rows, nearest %u", bayes ? "Bayes" : "plain", cmif_attack_near[k]);
            add_result(l, "nearest", variant, &sums[k], 1);
        }
    }
    free(rows);
    free(sent);
    cmif_client_close(&client);
    return rc;
}

/* A word of the texts that was drawn, as often as it is written. */
static uint32_t a_drawn_word(const leak *l, uint64_t *random)
{
    const cmif_attack_texts *texts = &l->releases[0];
    for (;;) {
        *random                   = *random * 6364136223846793005u + 1442695040888963407u;
        const cmif_attack_word *w = &texts->words[(size_t) ((*random >> 33) % texts->count)];
        if (w->kind == CMIF_ATTACK_DRAWN) {
            return w->original;
        }
    }
}

/* Words that one release leaves in question, at most. */
static double candidates(const cmif_table *t)
{
    uint32_t most = t->stride + 1;
    for (uint32_t b = 0; b < t->block_count; b++) {
        most = t->words_in[b] > most ? t->words_in[b] : most;
    }
    return most;
}

static cmif_code run_repeat(leak *l, cmif_err *err)
{
    static uint32_t      words[REPEATED];
    const cmif_table    *t      = l->guard.table;
    double              *prior  = malloc(t->word_count * sizeof *prior);
    uint64_t             random = 11;
    cmif_noise_and_table of     = {t, l->noise};
    if (!prior) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the prior of %u words", t->word_count);
    }
    double fit      = 2e6 / candidates(t);
    l->repeat.words = fit < 30 ? 30 : fit < REPEATED ? (size_t) fit : REPEATED;
    for (size_t i = 0; i < l->repeat.words; i++) {
        words[i] = a_drawn_word(l, &random);
    }
    cmif_attack_prior_table(l->attack, prior);
    cmif_code rc = cmif_attack_repeat(l->attack, prior, words, l->repeat.words, steps, STEPS, cmif_attack_shipped(&of),
                                      l->repeat.hits, err);
    cmif_wipe(words, sizeof words);
    free(prior);
    return rc;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static cmif_code run_query(leak *l, cmif_err *err)
{
    const cmif_table    *t = l->guard.table;
    double               closed[QUERIED], ratio[QUERIED], cost = candidates(t) * (t->stride + 1.0), fit = 1e9 / cost;
    uint64_t             random = 12;
    cmif_noise_and_table of     = {t, l->noise};
    cmif_code            rc     = CMIF_OK;
    l->query.words              = fit < 3 ? 3 : fit < QUERIED ? (size_t) fit : QUERIED;
    for (size_t i = 0; rc == CMIF_OK && i < l->query.words; i++) {
        const uint32_t word = a_drawn_word(l, &random);
        uint64_t       used = 0;
        rc                  = cmif_attack_query(l->attack, word, CONFIDENCE, &closed[i], err);
        l->query.never += isinf(closed[i]) != 0;
        if (rc == CMIF_OK && closed[i] >= 1 && closed[i] <= QUERIES_MOST && closed[i] * candidates(t) < 5e6) {
            rc = cmif_attack_query_simulate(l->attack, word, CONFIDENCE, 100 * QUERIES_MOST, cmif_attack_shipped(&of),
                                            &used, err);
            ratio[l->query.simulated++] = (double) used / closed[i];
        }
    }
    if (rc == CMIF_OK) {
        qsort(closed, l->query.words, sizeof *closed, by_size);
        qsort(ratio, l->query.simulated, sizeof *ratio, by_size);
        l->query.median = closed[l->query.words / 2];
        l->query.ratio  = l->query.simulated ? ratio[l->query.simulated / 2] : NAN;
    }
    return rc;
}

static cmif_code run_epsilon(leak *l, cmif_err *err)
{
    const cmif_table       *t       = l->guard.table;
    const cmif_certificate *c       = &l->guard.certificate;
    const bool              claims  = t->claim.adjacency != CMIF_ADJACENT_NONE;
    const double            nominal = (double) t->claim.epsilon_num / (double) t->claim.epsilon_den;
    cmif_noise_and_table    of      = {t, l->noise};
    uint64_t                seed    = (uint64_t) time(NULL);
    cmif_code rc     = cmif_attack_epsilon(l->attack, cmif_attack_shipped(&of), (uint32_t[]){c->word_high, c->word_low},
                                           t->claim.adjacency != CMIF_ADJACENT_BLOCK, PAIRS, PAIR_DRAWS, 0.999, seed,
                                           &l->epsilon.bound, err);
    l->epsilon.there = rc == CMIF_OK;
    l->epsilon.claimed = claims && c->pure ? (double) c->epsilon_micro * 1e-6 : nominal;
    l->epsilon.flagged = l->epsilon.there && l->epsilon.bound.epsilon > l->epsilon.claimed;
    return rc;
}

static cmif_code run_rebuild(leak *l, cmif_err *err)
{
    cmif_rebuild_text texts[CMIF_REBUILD_TEXTS];
    size_t            count = 0;
    for (; count < l->doc_count && count < CMIF_REBUILD_TEXTS; count++) {
        const doc *d = &l->docs[count];
        texts[count] = (cmif_rebuild_text){.text = (const char *) d->text.data,
                                           .size = d->text.size < CMIF_REBUILD_SIZE ? d->text.size : CMIF_REBUILD_SIZE,
                                           .released      = d->released.size ? (const char *) d->released.data : "",
                                           .released_size = d->released.size,
                                           .entities      = d->entities};
        while (texts[count].entity_count < d->entity_count &&
               d->entities[texts[count].entity_count].from + d->entities[texts[count].entity_count].size <=
                   texts[count].size) {
            texts[count].entity_count++;
        }
    }
    return cmif_rebuild(reconstruct, texts, count, &l->rebuilt, err);
}

static cmif_code attack_all(leak *l, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (rc == CMIF_OK && asked("bayes")) {
        cmif_status("Bayes, a word at a time");
        rc = run_bayes(l, err);
    }
    if (rc == CMIF_OK && asked("hmm")) {
        cmif_status("Bayes, a sentence at a time");
        rc = run_hmm(l, err);
    }
    if (rc == CMIF_OK && l->drawn && asked("nearest")) {
        rc = run_nearest(l, err);
    }
    if (rc == CMIF_OK && l->drawn && asked("repeat")) {
        cmif_status("repetition");
        rc = run_repeat(l, err);
    }
    if (rc == CMIF_OK && l->drawn && asked("query")) {
        cmif_status("queries");
        rc = run_query(l, err);
    }
    if (rc == CMIF_OK && asked("epsilon")) {
        cmif_status("a lower bound of epsilon");
        rc = run_epsilon(l, err);
    }
    cmif_status(NULL);
    return rc;
}

/* ---- telling ---- */

static const char *percent(double share, char out[static 16])
{
    snprintf(out, 16, isnan(share) ? "-" : "%.1f", 100 * share);
    return out;
}

static const char *rate_text(const rate *r, char out[static 48])
{
    if (r->count == 0) {
        snprintf(out, 48, "-");
    } else {
        snprintf(out, 48, "%.1f [%.1f, %.1f]", 100 * r->mean, 100 * r->interval.low, 100 * r->interval.high);
    }
    return out;
}

/* The words that were named most often, most often first; (show_words) ids. */
static size_t worst_words(const leak *l, uint32_t *words)
{
    size_t count = 0;
    for (uint32_t w = 1; l->worst && w < l->guard.table->word_count; w++) {
        if (!l->worst[w] || (count == show_words && l->worst[w] <= l->worst[words[count - 1]])) {
            continue;
        }
        size_t at = count < show_words ? count++ : count - 1;
        for (; at > 0 && l->worst[words[at - 1]] < l->worst[w]; at--) {
            words[at] = words[at - 1];
        }
        words[at] = w;
    }
    return count;
}

static const char *epsilon_text(double epsilon, char out[static 32])
{
    snprintf(out, 32, epsilon > 0 ? "%.3f" : "0", epsilon);
    return out;
}

/* Paragraphs that stand under the table, on the terminal and in the report alike; NULL: no such. */
enum { LINES = 10 };
static const char *line_of(const leak *l, int which, char out[static 512])
{
    char a[32], b[32], c[32];
    out[0] = '\0';
    if (which == 0 && l->bayes.there) {
        snprintf(out, 512,
                 "Over the whole table, words as frequent as its prior says: %.1f %% in closed form, %.1f %% by "
                 "drawing [%.1f, %.1f]; "
                 "all words alike: %.2f %%, by drawing %.2f %%.",
                 100 * l->bayes.prior, 100.0 * (double) l->bayes.prior_hits / SIMULATIONS,
                 100 * l->bayes.prior_seen.low, 100 * l->bayes.prior_seen.high, 100 * l->bayes.uniform,
                 100.0 * (double) l->bayes.uniform_hits / SIMULATIONS);
    } else if (which == 1 && l->repeat.words) {
        size_t at = (size_t) snprintf(
            out, 512, "Released 1, 2, 4, ... %u times with fresh noise, %zu words of the texts are named in",
            steps[STEPS - 1], l->repeat.words);
        for (size_t i = 0; i < STEPS; i++) {
            at += (size_t) snprintf(out + at, 512 - at, " %.1f",
                                    100.0 * (double) l->repeat.hits[i] / (double) l->repeat.words);
        }
        snprintf(out + at, 512 - at, " %%.");
    } else if (which == 2 && l->repeat.again) {
        snprintf(out, 512,
                 "Sent again in one conversation, %llu of %llu texts left byte for byte as before: as one release.",
                 (unsigned long long) l->repeat.same, (unsigned long long) l->repeat.again);
    } else if (which == 3 && l->query.words) {
        size_t at = (size_t) snprintf(
            out, 512, "Queries until a word is known with 95 %% confidence, of %zu words: ", l->query.words);
        at += (size_t) (isinf(l->query.median)
                            ? snprintf(out + at, 512 - at, "never, for the median word")
                            : snprintf(out + at, 512 - at, "%.0f for the median word", l->query.median));
        at += (size_t) snprintf(out + at, 512 - at, "; never for %zu", l->query.never);
        at += (size_t) (l->query.simulated
                            ? snprintf(out + at, 512 - at, "; by drawing %.2f times the closed form (%zu words)",
                                       l->query.ratio, l->query.simulated)
                            : 0);
        snprintf(out + at, 512 - at, ".");
    } else if (which == 4 && l->epsilon.there) {
        const bool claims = l->guard.table->claim.adjacency != CMIF_ADJACENT_NONE;
        snprintf(out, 512, "Epsilon is at least %s by %u pairs of %d draws (99.9 %% sure); %s %s: %s.",
                 epsilon_text(l->epsilon.bound.epsilon, a), l->epsilon.bound.pairs, 2 * PAIR_DRAWS,
                 claims ? "certified" : "no guarantee is claimed, asked for was", epsilon_text(l->epsilon.claimed, b),
                 l->epsilon.flagged ? "FLAGGED, it leaks more" : "nothing found against it");
    } else if (which == 5 && l->found.entities) {
        snprintf(out, 512,
                 "Of %llu names, numbers and codes in the texts, %llu (%s %%) stand in the release, a word of %llu (%s "
                 "%%) does.",
                 (unsigned long long) l->found.entities, (unsigned long long) l->found.whole,
                 percent((double) l->found.whole / (double) l->found.entities, a), (unsigned long long) l->found.part,
                 percent((double) l->found.part / (double) l->found.entities, b));
    } else if (which == 6 && l->found.surrogates) {
        snprintf(out, 512,
                 "Of %llu made-up pieces, one who is told all originals and how often each is written maps %s %% back "
                 "by frequency; "
                 "at random %s %%.",
                 (unsigned long long) l->found.surrogates,
                 percent((double) l->found.mapped / (double) l->found.surrogates, a),
                 percent(l->found.chance / (double) l->found.surrogates, c));
    } else if (which == 7 && l->rebuilt.texts) {
        const cmif_rebuilt *r = &l->rebuilt;
        snprintf(out, 512,
                 "Of %llu words that the releases of %llu texts lack, the model's guess holds %s %% (a guess at "
                 "another text: %s %%); "
                 "of %llu names, numbers and codes, %llu.",
                 (unsigned long long) r->words, (unsigned long long) r->texts,
                 percent(r->words ? (double) r->named / (double) r->words : NAN, a),
                 percent(r->words ? (double) r->by_chance / (double) r->words : NAN, b),
                 (unsigned long long) r->found.entities, (unsigned long long) r->found.whole);
    } else if (which == 8 && (l->no_rows[0] || l->no_lm[0])) {
        snprintf(out, 512, "Not tried: %s%s%s.", l->no_lm, l->no_lm[0] && l->no_rows[0] ? "; " : "",
                 l->no_rows[0] ? "nearest: " : "");
        if (l->no_rows[0]) {
            snprintf(out + strlen(out) - 1, 512 - strlen(out), "%s.", l->no_rows);
        }
    } else if (which == 9 && attacks && in_list(attacks, "mask")) {
        snprintf(out, 512,
                 "Not supported: mask. It needs an encoder with its masked-token head, and no model format that is "
                 "read here has one.");
    }
    return out[0] ? out : NULL;
}

/* At most 80 columns. */
static void put_wrapped(const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column && column + 1 + n > 79) {
            fputs("\n  ", stdout);
            column = 2;
        } else if (column) {
            putchar(' ');
            column++;
        }
        fwrite(text, 1, n, stdout);
        column += n;
        text += n + strspn(text + n, " ");
    }
    putchar('\n');
}

static void heading(const leak *l, char out[static 256])
{
    char a[16], b[16], c[16];
    if (!l->attack) {
        snprintf(out, 256, "%zu texts; nothing of this policy is drawn from a channel", l->doc_count);
        return;
    }
    snprintf(out, 256, "%zu texts, %llu words: %s %% in clear, %s %% drawn, %s %% hidden whole", l->doc_count,
             (unsigned long long) l->words, percent((double) l->clear / (double) l->words, a),
             percent((double) l->drawn / (double) l->words, b), percent((double) l->hidden / (double) l->words, c));
}

static void print_leak(const leak *l)
{
    char     text[512], drawn[48], changed[48];
    uint32_t worst[1000];
    heading(l, text);
    put_wrapped(text);
    if (l->attack) {
        snprintf(text, sizeof text, "%s: %s", l->mechanism, l->certified);
        put_wrapped(text);
    }
    if (l->result_count) {
        printf("\n%-46s %-17s %s\n", "words named by an attacker, % [95 %]", "drawn", "changed");
    }
    for (size_t i = 0; i < l->result_count; i++) {
        const result *r = &l->results[i];
        printf("%-8s %-36.36s  %-17s %s\n", r->attack, r->variant, rate_text(&r->drawn, drawn),
               rate_text(&r->changed, changed));
    }
    for (int i = 0; i < LINES; i++) {
        if (line_of(l, i, text)) {
            putchar('\n');
            put_wrapped(text);
        }
    }
    size_t count = show_words ? worst_words(l, worst) : 0;
    for (size_t i = 0; i < count; i++) {
        cmif_str w = cmif_table_word(l->guard.table, worst[i]);
        printf("%s%-20.*s %llu times\n", i ? "" : "\nNamed most often:\n", (int) w.size, w.data,
               (unsigned long long) l->worst[worst[i]]);
    }
}

static json_t *rate_json(const rate *r)
{
    return r->count ? json_pack("{s:f, s:f, s:f, s:I}", "rate", r->mean, "low", r->interval.low, "high",
                                r->interval.high, "words", (json_int_t) r->count)
                    : json_null();
}

static json_t *number_json(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *leak_json(const leak *l)
{
    json_t  *results = json_array(), *repeat = json_array(), *worst = json_array(), *not_tried = json_array();
    uint32_t words[1000];
    char     text[512];
    for (size_t i = 0; i < l->result_count; i++) {
        const result *r = &l->results[i];
        json_array_append_new(results, json_pack("{s:s, s:s, s:o, s:o}", "attack", r->attack, "variant", r->variant,
                                                 "drawn", rate_json(&r->drawn), "changed", rate_json(&r->changed)));
    }
    for (size_t i = 0; l->repeat.words && i < STEPS; i++) {
        json_array_append_new(repeat, json_pack("{s:I, s:f}", "releases", (json_int_t) steps[i], "rate",
                                                (double) l->repeat.hits[i] / (double) l->repeat.words));
    }
    size_t count = show_words ? worst_words(l, words) : 0;
    for (size_t i = 0; i < count; i++) {
        cmif_str w = cmif_table_word(l->guard.table, words[i]);
        json_array_append_new(
            worst, json_pack("{s:s%, s:I}", "word", w.data, w.size, "times", (json_int_t) l->worst[words[i]]));
    }
    for (int i = 8; i < LINES; i++) {
        if (line_of(l, i, text)) {
            json_array_append_new(not_tried, json_string(text));
        }
    }
    json_t *out = json_pack("{s:I, s:{s:I, s:I, s:I, s:I}, s:I, s:o, s:o, s:o, s:o, s:b, s:f}", "texts",
                            (json_int_t) l->doc_count, "words", "all", (json_int_t) l->words, "clear",
                            (json_int_t) l->clear, "drawn", (json_int_t) l->drawn, "hidden", (json_int_t) l->hidden,
                            "seeds", (json_int_t) seeds, "attacks", results, "repetition", repeat, "not_tried",
                            not_tried, "worst", worst, "flagged", l->epsilon.flagged, "seconds", l->seconds);
    if (out && l->guard.table) {
        char hash[65];
        cmif_hex(l->guard.table->hash, 32, hash);
        json_object_set_new(
            out, "channel",
            json_pack("{s:s, s:s, s:s}", "mechanism", l->mechanism, "certified", l->certified, "hash", hash));
    }
    if (out && l->bayes.there) {
        json_object_set_new(out, "closed_form",
                            json_pack("{s:f, s:f, s:f, s:f, s:I}", "prior", l->bayes.prior, "prior_drawn",
                                      (double) l->bayes.prior_hits / SIMULATIONS, "uniform", l->bayes.uniform,
                                      "uniform_drawn", (double) l->bayes.uniform_hits / SIMULATIONS, "draws",
                                      (json_int_t) SIMULATIONS));
    }
    if (out && l->query.words) {
        json_object_set_new(out, "query",
                            json_pack("{s:I, s:o, s:I, s:o}", "words", (json_int_t) l->query.words, "median",
                                      number_json(l->query.median), "never", (json_int_t) l->query.never, "drawn_ratio",
                                      number_json(l->query.ratio)));
    }
    if (out && l->epsilon.there) {
        json_object_set_new(out, "epsilon",
                            json_pack("{s:o, s:f, s:I}", "at_least", number_json(fmax(l->epsilon.bound.epsilon, 0)),
                                      "claimed", l->epsilon.claimed, "pairs", (json_int_t) l->epsilon.bound.pairs));
    }
    if (out && l->repeat.again) {
        json_object_set_new(
            out, "sent_again",
            json_pack("{s:I, s:I}", "texts", (json_int_t) l->repeat.again, "same", (json_int_t) l->repeat.same));
    }
    if (out && l->rebuilt.texts) {
        const cmif_rebuilt *r = &l->rebuilt;
        json_object_set_new(out, "reconstruction",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "texts", (json_int_t) r->texts, "words",
                                      (json_int_t) r->words, "named", (json_int_t) r->named, "by_chance",
                                      (json_int_t) r->by_chance, "entities", (json_int_t) r->found.entities, "whole",
                                      (json_int_t) r->found.whole));
    }
    if (out && l->found.entities) {
        json_object_set_new(out, "entities",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "found", (json_int_t) l->found.entities,
                                      "whole", (json_int_t) l->found.whole, "part", (json_int_t) l->found.part,
                                      "surrogates", (json_int_t) l->found.surrogates, "mapped",
                                      (json_int_t) l->found.mapped, "chance", l->found.chance));
    }
    return out;
}

static json_t *point(const char *name, const rate *r)
{
    return json_pack("[s, f, f, f]", name, r->mean, r->interval.low, r->interval.high);
}

/* The document of report.h. */
static json_t *report_json(const leak *l)
{
    char      text[512], a[48], b[48], made[16], hash[65] = "none";
    time_t    when = time(NULL);
    struct tm parts;
    json_t   *rows = json_array(), *bars = json_array(), *curve = json_array(), *said = json_array(),
           *worst = json_array();
    uint32_t words[1000];
    strftime(made, sizeof made, "%Y-%m-%d", gmtime_r(&when, &parts));
    for (size_t i = 0; i < l->result_count; i++) {
        const result *r = &l->results[i];
        json_array_append_new(
            rows, json_pack("[s, s, s, s]", r->attack, r->variant, rate_text(&r->drawn, a), rate_text(&r->changed, b)));
        if (r->drawn.count) {
            snprintf(text, sizeof text, "%s: %s", r->attack, r->variant);
            json_array_append_new(bars, point(text, &r->drawn));
        }
    }
    for (size_t i = 0; l->repeat.words && i < STEPS; i++) {
        const double  share = (double) l->repeat.hits[i] / (double) l->repeat.words;
        cmif_interval in    = cmif_stats_wilson(l->repeat.hits[i], l->repeat.words, CONFIDENCE);
        json_array_append_new(curve, json_pack("[i, f, f, f]", (int) steps[i], share, in.low, in.high));
    }
    for (int i = 0; i < LINES; i++) {
        if (line_of(l, i, text)) {
            json_array_append_new(said, json_string(text));
        }
    }
    size_t count = show_words ? worst_words(l, words) : 0;
    for (size_t i = 0; i < count; i++) {
        cmif_str w = cmif_table_word(l->guard.table, words[i]);
        json_array_append_new(worst, json_pack("[s%, I]", w.data, w.size, (json_int_t) l->worst[words[i]]));
    }
    if (l->guard.table) {
        cmif_hex(l->guard.table->hash, 32, hash);
    }
    heading(l, text);
    json_t *sections = json_pack(
        "[{s:s, s:[s,s], s:{s:[s,s,s,s], s:s, s:o, s:s}}]", "heading", "What an attacker names", "text", text,
        "A word counts as named when the attack's answer (of nearest k: one of its k) is the word that was written. "
        "Words in clear are "
        "not counted: everybody has them. Changed: words that left as another.",
        "table", "columns", "attack", "with", "of drawn words, %", "of changed ones, %", "align", "llrr", "rows", rows,
        "caption", "95 % Wilson intervals for the words of one release; words of one text are not independent.");
    json_array_append_new(sections, json_pack("{s:s, s:o}", "heading", "What else was tried", "text", said));
    if (json_array_size(bars)) {
        json_array_append_new(sections, json_pack("{s:s, s:{s:s, s:{s:s}, s:{s:s}, s:[{s:s, s:o}]}}", "heading",
                                                  "Named, of drawn words", "plot", "kind", "bars", "x", "label",
                                                  "attack", "y", "label", "share of drawn words", "series", "name",
                                                  "drawn words", "points", bars));
    } else {
        json_decref(bars);
    }
    if (json_array_size(curve)) {
        json_array_append_new(
            sections,
            json_pack("{s:s, s:{s:s, s:{s:s, s:b}, s:{s:s}, s:[{s:s, s:o}], s:s}}", "heading", "Repetition", "plot",
                      "kind", "line", "x", "label", "releases with fresh noise", "log", 1, "y", "label", "share named",
                      "series", "name", l->mechanism, "points", curve, "caption",
                      "The sanitizer keeps what it drew in a conversation: there, many releases are as one."));
    } else {
        json_decref(curve);
    }
    if (count) {
        json_array_append_new(sections, json_pack("{s:s, s:{s:[s,s], s:s, s:o}}", "heading", "Words named most often",
                                                  "table", "columns", "word", "times", "align", "lr", "rows", worst));
    } else {
        json_decref(worst);
    }
    return json_pack("{s:s, s:s, s:s, s:[[s,s],[s,s],[s,s],[s,I],[s,s]], s:o}", "title", "Leak test", "made", made,
                     "command", "cmif leak-test", "facts", "channel", l->mechanism, "guarantee", l->certified, "table",
                     hash, "releases attacked", (json_int_t) seeds, "version", CMIF_VERSION, "sections", sections);
}

static cmif_code tell(const leak *l, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (report_path) {
        json_t *document = report_json(l);
        rc               = document ? cmif_report_write(document, report_path, err)
                                    : cmif_fail(err, CMIF_E_MEMORY, "no memory for the report");
        json_decref(document);
    }
    if (rc == CMIF_OK && cmif_json) {
        return cmif_print_json(leak_json(l), err);
    }
    if (rc == CMIF_OK) {
        print_leak(l);
        rc = fflush(stdout) == 0
                 ? CMIF_OK
                 : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
    }
    return rc;
}

/* ---- the command ---- */

static cmif_code open_lms(leak *l, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (const char *at = lms; rc == CMIF_OK && at && *at;) {
        char   path[PATH_MAX];
        size_t n = strcspn(at, ",");
        if (l->lm_count == LMS_MAX || n >= sizeof path) {
            return cmif_fail(err, CMIF_E_RANGE, "--lm takes at most %d files, a comma between two", LMS_MAX);
        }
        snprintf(path, sizeof path, "%.*s", (int) n, at);
        const char *slash = strrchr(path, '/');
        snprintf(l->lm_name[l->lm_count], sizeof *l->lm_name, "%.60s", slash ? slash + 1 : path);
        rc = cmif_lm_open(path, &l->lm[l->lm_count], err);
        l->lm_count += rc == CMIF_OK;
        at += n + (at[n] == ',');
    }
    return rc;
}

static cmif_code open_leak(leak *l, cmif_err *err)
{
    cmif_code rc = open_lms(l, err);
    rc           = rc == CMIF_OK ? read_texts(l, err) : rc;
    rc           = rc == CMIF_OK ? cmif_guard_open(&guard_options, false, &l->guard, err) : rc;
    snprintf(l->mechanism, sizeof l->mechanism, "none");
    snprintf(l->certified, sizeof l->certified, "nothing is drawn");
    if (rc != CMIF_OK || !l->guard.table) {
        return rc;
    }
    char certified[96];
    cmif_figures_mechanism(&l->guard.table->claim, l->mechanism, sizeof l->mechanism);
    cmif_figures_certified(&l->guard.certificate, l->guard.table, certified, sizeof certified);
    snprintf(l->certified, sizeof l->certified, "%s, %s", certified,
             l->guard.table->claim.adjacency == CMIF_ADJACENT_NONE
                 ? "nothing is claimed"
                 : cmif_adjacency_sentence(l->guard.table->claim.adjacency));
    seeds = l->guard.table->stride == 0 ? 1 : seeds; /* nothing is random: every release is the same */
    rc    = cmif_attack_new(l->guard.table, &l->attack, err);
    rc    = rc == CMIF_OK ? cmif_noise_new(&l->noise, err) : rc;
    if (l->lm_count == 0 && asked("hmm")) {
        snprintf(l->no_lm, sizeof l->no_lm, "hmm, the strongest: it wants a language model, --lm");
    }
    l->releases = calloc(seeds, sizeof *l->releases);
    l->worst    = show_words ? calloc(l->guard.table->word_count, sizeof *l->worst) : NULL;
    if (rc == CMIF_OK && (!l->releases || (show_words && !l->worst))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %u releases", seeds);
    }
    return rc;
}

static void close_leak(leak *l)
{
    for (size_t i = 0; i < l->doc_count; i++) {
        cmif_secret_wipe(&l->docs[i].text);
        cmif_secret_wipe(&l->docs[i].released);
        free(l->docs[i].entities);
    }
    free(l->docs);
    for (uint32_t s = 0; l->releases && s < seeds; s++) {
        cmif_attack_texts_wipe(&l->releases[s]);
    }
    free(l->releases);
    free(l->worst);
    for (size_t i = 0; i < l->lm_count; i++) {
        cmif_lm_free(l->lm[i]);
    }
    cmif_attack_free(l->attack);
    cmif_noise_free(l->noise);
    cmif_guard_close(&l->guard);
}

int cmif_leak_test(int argc, char **argv)
{
    static leak l;
    cmif_err    err   = {0};
    int         rest  = 0;
    double      begun = now();
    cmif_code   rc    = cmif_options_parse(&command, argc, argv, &rest, &err);

    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "leak-test takes only options: texts go behind --texts");
    }
    rc = rc == CMIF_OK ? check_attacks(&err) : rc;
    if (!guard_options.policy) {
        guard_options.policy = "channel";
    }
    guard_options.no_guarantee = !strcmp(guard_options.policy, "channel") || guard_options.channel;
    rc                         = rc == CMIF_OK ? cmif_guard_check(&guard_options, &err) : rc;
    if (rc == CMIF_OK && !strcmp(guard_options.policy, "none")) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "--policy none releases everything as it is: there is nothing to attack");
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    cmif_status("reading");
    rc = open_leak(&l, &err);
    for (uint32_t s = 0; rc == CMIF_OK && s < (l.attack ? seeds : 1); s++) {
        cmif_status("releasing");
        rc = release_all(&l, s, &err);
    }
    if (rc == CMIF_OK && l.attack) {
        count_words(&l);
        rc = attack_all(&l, &err);
    }
    if (rc == CMIF_OK && reconstruct) {
        rc = run_rebuild(&l, &err);
    }
    cmif_status(NULL);
    l.seconds = now() - begun;
    rc        = rc == CMIF_OK ? tell(&l, &err) : rc;
    bool bad  = l.epsilon.flagged;
    close_leak(&l);
    return rc != CMIF_OK ? cmif_report(&err) : bad ? EXIT_FLAGGED : CMIF_EXIT_OK;
}
