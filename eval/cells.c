#include "cells.h"

#include "export.h"
#include "pairs.h"
#include "stats.h"

#include "base/bytes.h"
#include "cmif_figures.h"

#include <errno.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static bool hash_task(EVP_MD_CTX *sha, const cmif_task *task, const uint8_t *truth)
{
    bool ok = true;
    for (size_t i = 0; ok && task && i < task->count; i++) {
        const char *text = task->examples[i].text, *second = task->examples[i].second;
        ok = EVP_DigestUpdate(sha, text, strlen(text) + 1) && EVP_DigestUpdate(sha, &truth[i], 1) &&
             (!second || EVP_DigestUpdate(sha, second, strlen(second) + 1));
    }
    return ok && EVP_DigestUpdate(sha, "", 1);
}

cmif_code cmif_bench_name(cmif_bench *b, cmif_err *err)
{
    uint8_t     hash[32];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool        ok  = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) &&
              EVP_DigestUpdate(sha, cmif_runner_client(b->runner)->model_id, 32) &&
              EVP_DigestUpdate(sha,
                               b->similarity ? "S"
                               : b->adapted  ? "A"
                                             : "I",
                               1) &&
              hash_task(sha, b->task, b->truth) && hash_task(sha, b->train, b->train_truth) &&
              EVP_DigestFinal_ex(sha, hash, NULL);
    EVP_MD_CTX_free(sha);
    if (!ok) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    cmif_hex(hash, 32, b->name);
    return CMIF_OK;
}

/* ---- what is kept ---- {"labels": [[1, 0, ...], ...], "words": [[drawn, passed, unknown], ...]} */

/* The file of the runs over one table: named by everything that decides what a run could say. */
static cmif_code kept_path(const cmif_bench *b, const cmif_cell *cell, const cmif_block_seed *s, const char *lm,
                           char path[static PATH_MAX], cmif_err *err)
{
    uint8_t hash[32];
    char    text[512], hex[33];
    snprintf(text, sizeof text, "runs 1 %s %s %s %s%s", b->name, s->table,
             cell->arm ? cmif_rows_kinds[cell->rows] : "clean", *lm ? "discounts " : "", lm);
    EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL);
    cmif_hex(hash, 16, hex);
    return snprintf(path, PATH_MAX, "%s/runs-%s.json", b->tables->folder, hex) < PATH_MAX
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "the cache folder's name is too long");
}

enum { MICRO = 1000000 };

static void put(const cmif_bench *b, cmif_trial *t, size_t i, int32_t value)
{
    if (b->similarity) {
        t->cosines[i] = value;
    } else {
        t->labels[i] = (uint8_t) value;
    }
}

/* What an earlier command finished; what is not as it should be is as if it were not there. */
static void take_kept(const cmif_bench *b, const char *path, cmif_block_seed *s, size_t wanted)
{
    const size_t n      = b->task->count;
    json_t      *kept   = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    json_t      *labels = json_object_get(kept, "labels"), *words = json_object_get(kept, "words");
    for (size_t r = 0; r < wanted && r < json_array_size(labels) && r < json_array_size(words); r++) {
        json_t     *run = json_array_get(labels, r);
        cmif_trial *t   = &s->trials[r];
        json_int_t  drawn, passed, unknown;
        bool        ok = json_array_size(run) == n &&
                  json_unpack(json_array_get(words, r), "[I, I, I]", &drawn, &passed, &unknown) == 0;
        for (size_t i = 0; ok && i < n; i++) {
            json_t *label = json_array_get(run, i);
            ok            = json_is_integer(label) && json_integer_value(label) >= (b->similarity ? -MICRO : 0) &&
                 json_integer_value(label) <= (b->similarity ? MICRO : 255);
            put(b, t, i, ok ? (int32_t) json_integer_value(label) : 0);
        }
        if (!ok) {
            break;
        }
        t->drawn   = (uint64_t) drawn;
        t->passed  = (uint64_t) passed;
        t->unknown = (uint64_t) unknown;
        s->count = s->from_before = r + 1;
    }
    json_decref(kept);
}

static cmif_code keep(const cmif_bench *b, const char *path, const cmif_block_seed *s, cmif_err *err)
{
    char    part[PATH_MAX];
    json_t *labels = json_array(), *words = json_array();
    for (size_t r = 0; r < s->count; r++) {
        const cmif_trial *t   = &s->trials[r];
        json_t           *run = json_array();
        for (size_t i = 0; i < b->task->count; i++) {
            json_array_append_new(run, json_integer(b->similarity ? t->cosines[i] : t->labels[i]));
        }
        json_array_append_new(labels, run);
        json_array_append_new(
            words, json_pack("[I, I, I]", (json_int_t) t->drawn, (json_int_t) t->passed, (json_int_t) t->unknown));
    }
    json_t *kept = json_pack("{s:o, s:o}", "labels", labels, "words", words);
    bool    ok   = kept && snprintf(part, sizeof part, "%s.%d", path, (int) getpid()) < (int) sizeof part &&
              json_dump_file(kept, part, JSON_COMPACT) == 0 && rename(part, path) == 0;
    json_decref(kept);
    return ok ? CMIF_OK
              : cmif_fail(err, CMIF_E_IO, "cannot keep a finished run in '%s': is the disk full?", b->tables->folder);
}

/* ---- one run ---- */

static uint8_t best_of(const float *logits, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (uint8_t) best;
}

/* Texts of an example: one, or the two of a pair, each of which is sent by itself. */
static size_t texts_of(const cmif_task *task)
{
    return task->count && task->examples[0].second ? 2 : 1;
}

/* All texts of a task through guard and wire; *out: the ticket of each, the caller's to free. */
static cmif_code send_all(cmif_bench *b, cmif_guard *guard, cmif_bayes *bayes, const cmif_task *task, const char *what,
                          size_t **out, cmif_err *err)
{
    const size_t texts = texts_of(task), n = texts * task->count;
    const double first   = now();
    double       alone   = 0;
    size_t      *tickets = calloc(n ? n : 1, sizeof *tickets);
    cmif_code    rc      = tickets ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu results", n);
    for (size_t i = 0; rc == CMIF_OK && i < n; i++) {
        cmif_secret    text     = {0};
        cmif_released *released = NULL;
        const char    *from     = i % texts ? task->examples[i / texts].second : task->examples[i / texts].text;
        double         began    = now();
        rc                      = cmif_secret_append(&text, from, strlen(from), err);
        rc                      = rc == CMIF_OK ? cmif_guard_release(guard, &text, &released, NULL, err) : rc;
        alone += now() - began;
        rc = rc == CMIF_OK ? cmif_runner_put(b->runner, bayes, released, &tickets[i], err) : rc;
        cmif_released_free(released);
        cmif_secret_wipe(&text);
        if (rc != CMIF_OK && rc != CMIF_E_CANCELLED) {
            cmif_err_context(err, "example %zu", i / texts + 1);
        }
        if (i % 64 == 0) {
            char status[192];
            snprintf(status, sizeof status, "%s: %zu of %zu", what, i / texts, task->count);
            cmif_status(status);
        }
    }
    rc = rc == CMIF_OK ? cmif_runner_wait(b->runner, err) : rc;
    if (rc == CMIF_OK && guard->table) {
        b->release_seconds += alone;
        b->send_seconds += now() - first;
        b->released += n;
    }
    if (rc == CMIF_OK) {
        *out    = tickets;
        tickets = NULL;
    }
    free(tickets);
    return rc;
}

/* What a head sees of an example: the vector of its text, or the features of a pair. */
static void look(const cmif_bench *b, const cmif_task *task, const size_t *tickets, size_t i, float *out)
{
    const size_t width = cmif_runner_outputs(b->runner);
    if (texts_of(task) == 2) {
        cmif_pair_features(cmif_runner_vector(b->runner, tickets[2 * i]),
                           cmif_runner_vector(b->runner, tickets[2 * i + 1]), width, out);
    } else {
        memcpy(out, cmif_runner_vector(b->runner, tickets[i]), width * sizeof *out);
    }
}

#define RIDGE 0.01 /* of the mean loss; not searched for: the head is a ruler, not a contest */

static cmif_code train_head(cmif_bench *b, cmif_guard *guard, cmif_bayes *bayes, const char *what, cmif_linear **out,
                            cmif_err *err)
{
    const size_t n = b->train->count, outputs = cmif_runner_outputs(b->runner);
    const size_t width   = texts_of(b->train) == 2 ? CMIF_PAIR_FEATURES(outputs) : outputs;
    size_t      *tickets = NULL;
    float       *vectors = calloc(n * width, sizeof *vectors);
    cmif_code    rc      = vectors ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu vectors", n);
    rc                   = rc == CMIF_OK ? send_all(b, guard, bayes, b->train, what, &tickets, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && i < n; i++) {
        look(b, b->train, tickets, i, vectors + i * width);
    }
    rc = rc == CMIF_OK ? cmif_linear_train(vectors, b->train_truth, n, width, b->label_count, RIDGE, out, err) : rc;
    free(tickets);
    free(vectors);
    return rc;
}

/* The head of setting I: of texts as they are. */
static cmif_code train_clean(cmif_bench *b, cmif_err *err)
{
    const cmif_guard_options options = {.policy = "none"};
    cmif_guard               guard   = {0};
    cmif_code                rc      = cmif_guard_open(&options, false, &guard, err);
    rc = rc == CMIF_OK ? train_head(b, &guard, NULL, "training on clean text", &b->head, err) : rc;
    cmif_guard_close(&guard);
    return rc;
}

static cmif_code run_once(cmif_bench *b, cmif_guard *guard, cmif_bayes *bayes, const cmif_linear *head,
                          const char *what, cmif_trial *t, cmif_err *err)
{
    const cmif_guard_totals before  = guard->totals;
    size_t                 *tickets = NULL;
    const size_t            width   = cmif_runner_outputs(b->runner);
    float                  *seen    = calloc(CMIF_PAIR_FEATURES(width), sizeof *seen);
    cmif_code               rc =
        seen ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu numbers", CMIF_PAIR_FEATURES(width));
    rc = rc == CMIF_OK ? send_all(b, guard, bayes, b->task, what, &tickets, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && i < b->task->count; i++) {
        look(b, b->task, tickets, i, seen);
        put(b, t, i,
            b->similarity ? (int32_t) lround(MICRO * (double) seen[2 * width])
            : head        ? cmif_linear_label(head, seen)
                          : best_of(seen, width));
    }
    t->drawn   = guard->totals.draws - before.draws;
    t->passed  = guard->totals.passed - before.passed;
    t->unknown = guard->totals.unknown - before.unknown;
    free(tickets);
    free(seen);
    return rc;
}

/* ---- a table, and the rows that go with it ---- */

static cmif_code describe(const cmif_guard *guard, cmif_block_seed *s, cmif_err *err)
{
    cmif_figures figures;
    cmif_code    rc = cmif_figures_get(guard->table, &figures, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    cmif_hex(guard->table->hash, 32, s->table);
    /* per-word neighbours have no blocks: the closed form is not about them */
    s->attack = guard->table->claim.mechanism == CMIF_MECHANISM_PAPER ? NAN : figures.attack;
    if (guard->certificate.pure) {
        static const char *const between[] = {", unclaimed", " in a block", " any two"};
        snprintf(s->certified, sizeof s->certified, "%.4g%s", (double) guard->certificate.epsilon_micro / 1e6,
                 between[guard->table->claim.adjacency]);
    } else {
        snprintf(s->certified, sizeof s->certified, "none");
    }
    return CMIF_OK;
}

/* What a cell's texts go through, over one table. */
typedef struct passage {
    cmif_guard  guard;
    cmif_lm    *lm;
    cmif_bayes *bayes;
    char        lm_path[PATH_MAX], lm_hash[65];
} passage;

static cmif_code open_table(cmif_bench *b, const cmif_cell *cell, cmif_block_seed *s, passage *p, cmif_err *err)
{
    char               channel[PATH_MAX];
    cmif_guard_options options = {
        .policy = cell->arm ? "channel" : "none", .channel = cell->arm ? channel : NULL, .no_guarantee = cell->arm};
    cmif_code rc =
        cell->arm ? cmif_tables_channel(b->tables, cell->arm, cell->epsilon, s->seed, channel, err) : CMIF_OK;
    rc        = rc == CMIF_OK ? cmif_guard_open(&options, false, &p->guard, err) : rc;
    s->attack = NAN;
    if (rc == CMIF_OK && p->guard.table) {
        rc = describe(&p->guard, s, err);
    }
    if (rc == CMIF_OK && cell->arm && cell->rows >= CMIF_EVAL_CONTEXT_OUT) {
        rc = cmif_tables_lm(b->tables, cell->rows == CMIF_EVAL_CONTEXT_IN, p->lm_path, err);
        rc = rc == CMIF_OK ? cmif_tables_hash(p->lm_path, p->lm_hash, err) : rc;
    }
    return rc;
}

/* The rows of words that were drawn, where they are not those of what was drawn. */
static cmif_code open_rows(cmif_bench *b, const cmif_cell *cell, passage *p, cmif_err *err)
{
    cmif_client *client = cmif_runner_client(b->runner);
    if (!cell->arm || cell->rows == CMIF_EVAL_PLAIN) {
        return CMIF_OK;
    }
    cmif_code rc = *p->lm_hash ? cmif_lm_open(p->lm_path, &p->lm, err) : CMIF_OK;
    return rc == CMIF_OK ? cmif_bayes_new(p->guard.table, p->lm, client->tokenizer, client->embed, &p->bayes, err) : rc;
}

static void close_passage(passage *p)
{
    cmif_bayes_free(p->bayes);
    cmif_lm_free(p->lm);
    cmif_guard_close(&p->guard);
}

/* ---- models of their own (setting A) ---- */

enum { ORIGIN = 256 };

cmif_code cmif_cell_file(const cmif_cell *cell, uint64_t seed, const char *folder, char path[static PATH_MAX],
                         cmif_err *err)
{
    static const char *const rows[CMIF_EVAL_ROWS] = {"plain", "bayes", "context", "context-in"};
    char                     number[32]           = "";
    if (seed != 1) {
        snprintf(number, sizeof number, "-%llu", (unsigned long long) seed);
    }
    int size = snprintf(path, PATH_MAX, "%s/%s%s%s-%s%s.gguf", folder, cell->arm ? cell->arm->name : "clean",
                        cell->epsilon ? "-" : "", cell->epsilon ? cell->epsilon : "", rows[cell->rows], number);
    return size < PATH_MAX ? CMIF_OK : cmif_fail(err, CMIF_E_RANGE, "the name of the folder is too long");
}

/* What decides the rows of a cell beside the texts: no model that was trained on others may pass for its own. */
static void origin_of(const cmif_cell *cell, const cmif_block_seed *s, const passage *p, char out[static ORIGIN])
{
    snprintf(out, ORIGIN, "%s rows of %s%s", cmif_rows_kinds[cell->rows], cell->arm ? "table " : "text as it is",
             s->table);
    if (*p->lm_hash) {
        snprintf(out + strlen(out), ORIGIN - strlen(out), " and language model %s", p->lm_hash);
    }
}

static cmif_code open_tuned(const cmif_bench *b, const cmif_cell *cell, const cmif_block_seed *s, const passage *p,
                            cmif_runner **out, cmif_err *err)
{
    char       path[PATH_MAX], origin[ORIGIN];
    uint8_t    model[32];
    cmif_str   of;
    cmif_gguf *file = NULL;
    cmif_code  rc   = cmif_cell_file(cell, s->seed, b->tuned, path, err);
    rc              = rc == CMIF_OK ? cmif_gguf_open(path, &file, err) : rc;
    rc              = rc == CMIF_OK ? cmif_gguf_get_str(file, "cmif.tuned.of", &of, err) : rc;
    rc              = rc == CMIF_OK ? cmif_gguf_get_hash(file, "cmif.tuned.model", model, err) : rc;
    origin_of(cell, s, p, origin);
    if (rc == CMIF_OK && !cmif_str_is(of, origin)) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "it was trained on other rows than this row of the table sends: export and "
                       "train again");
    }
    if (rc == CMIF_OK && memcmp(model, cmif_runner_client(b->runner)->model_id, sizeof model) != 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "it was made from another model: name that one with --model");
    }
    cmif_gguf_free(file);
    rc = rc == CMIF_OK ? cmif_runner_open(path, b->threads, out, err) : rc;
    if (rc != CMIF_OK) {
        cmif_err_context(err, "'%.100s'", path);
    }
    return rc;
}

static void add_counts(cmif_runner_counts *to, const cmif_runner *runner)
{
    cmif_runner_counts n = cmif_runner_totals(runner);
    to->texts += n.texts;
    to->computed += n.computed;
    to->servers = n.servers;
    to->rows_seconds += n.rows_seconds;
    to->encode_seconds += n.encode_seconds;
}

cmif_runner_counts cmif_bench_totals(const cmif_bench *b)
{
    cmif_runner_counts n = b->before;
    add_counts(&n, b->runner);
    return n;
}

cmif_code cmif_cell_export(cmif_bench *b, const cmif_cell *cell, uint64_t seed, const cmif_task *texts,
                           const uint8_t *truth, size_t releases, const char *folder, cmif_err *err)
{
    char            path[PATH_MAX], origin[ORIGIN], status[192];
    passage         p    = {0};
    cmif_block_seed s    = {.seed = seed};
    cmif_client    *c    = cmif_runner_client(b->runner);
    cmif_export    *file = NULL;
    const size_t    all  = releases * texts->count;
    cmif_code       rc   = cmif_cell_file(cell, seed, folder, path, err);
    rc                   = rc == CMIF_OK ? open_table(b, cell, &s, &p, err) : rc;
    rc                   = rc == CMIF_OK ? open_rows(b, cell, &p, err) : rc;
    rc                   = rc == CMIF_OK ? cmif_export_new(cmif_embed_width(c->embed), &file, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && i < all; i++) {
        const size_t   n        = i / releases;
        cmif_secret    text     = {0};
        cmif_released *released = NULL;
        const char    *from     = texts->examples[n].text;
        float         *rows     = NULL;
        size_t         count    = 0;
        rc                      = cmif_secret_append(&text, from, strlen(from), err);
        rc                      = rc == CMIF_OK ? cmif_guard_release(&p.guard, &text, &released, NULL, err) : rc;
        rc = rc == CMIF_OK ? cmif_runner_rows(b->runner, p.bayes, released, &rows, &count, err) : rc;
        rc = rc == CMIF_OK ? cmif_export_put(file, rows, count, truth[n], err) : rc;
        free(rows);
        cmif_released_free(released);
        cmif_secret_wipe(&text);
        if (rc == CMIF_OK && cmif_interrupted) {
            rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped");
        } else if (rc != CMIF_OK) {
            cmif_err_context(err, "example %zu", n + 1);
        }
        if (i % 256 == 0) {
            snprintf(status, sizeof status, "%s, %s: %zu of %zu", cell->arm ? cell->arm->name : "clean",
                     cmif_rows_kinds[cell->rows], i, all);
            cmif_status(status);
        }
    }
    origin_of(cell, &s, &p, origin);
    rc = rc == CMIF_OK ? cmif_export_write(file, c->model_id, origin, path, err) : rc;
    cmif_status(NULL);
    if (rc == CMIF_OK && !cmif_quiet) {
        printf("%s: %zu texts, %zu different rows\n", path, all, cmif_export_rows(file));
    }
    cmif_export_free(file);
    close_passage(&p);
    return rc;
}

/* ---- the runs over one table ---- */

static cmif_code run_block(cmif_bench *b, const cmif_cell *cell, cmif_block_seed *s, size_t trials, cmif_err *err)
{
    passage      p    = {0};
    cmif_linear *own  = NULL;
    cmif_runner *base = b->runner;
    char         path[PATH_MAX], what[128], name[sizeof b->name];
    memcpy(name, b->name, sizeof name);

    cmif_code rc = open_table(b, cell, s, &p, err);
    if (rc == CMIF_OK && p.guard.table && b->leaks) {
        double began = now();
        rc           = cmif_leaks_measure(b->leaks, &p.guard, b->task, &s->leak, err);
        b->attack_seconds += now() - began;
    }
    if (rc == CMIF_OK && b->tuned) {
        rc = open_tuned(b, cell, s, &p, &b->runner, err);
        rc = rc == CMIF_OK ? cmif_bench_name(b, err) : rc;
    }
    rc = rc == CMIF_OK ? kept_path(b, cell, s, p.lm_hash, path, err) : rc;
    if (rc == CMIF_OK && !b->again) {
        take_kept(b, path, s, trials);
    }
    rc = rc == CMIF_OK && s->count < trials ? open_rows(b, cell, &p, err) : rc;
    if (rc == CMIF_OK && s->count < trials && b->train && b->adapted) {
        snprintf(what, sizeof what, "%s: training on what leaves", cell->arm ? cell->arm->name : "clean");
        rc = train_head(b, &p.guard, p.bayes, what, &own, err);
    } else if (rc == CMIF_OK && s->count < trials && b->train && !b->head) {
        rc = train_clean(b, err);
    }
    while (rc == CMIF_OK && s->count < trials) {
        snprintf(what, sizeof what, "%s%s%s, %s, block seed %llu, run %zu of %zu",
                 cell->arm ? cell->arm->name : "clean", cell->epsilon ? ", epsilon " : "",
                 cell->epsilon ? cell->epsilon : "", cmif_rows_kinds[cell->rows], (unsigned long long) s->seed,
                 s->count + 1, trials);
        rc = run_once(b, &p.guard, p.bayes, own ? own : b->head, what, &s->trials[s->count], err);
        if (rc == CMIF_OK) {
            s->count++;
            rc = keep(b, path, s, err);
        }
    }
    cmif_linear_free(own);
    close_passage(&p);
    if (b->runner != base) {
        add_counts(&b->before, b->runner);
        cmif_runner_close(b->runner);
        b->runner = base;
        memcpy(b->name, name, sizeof name);
    }
    return rc;
}

cmif_code cmif_cell_run(cmif_bench *b, cmif_cell *cell, size_t seeds, size_t trials, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    seeds        = cell->arm && cell->arm->blocks ? seeds : 1;
    trials       = cell->arm && cell->arm->noise ? trials : 1;
    cell->blocks = calloc(seeds, sizeof *cell->blocks);
    if (!cell->blocks) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu tables", seeds);
    }
    for (size_t i = 0; rc == CMIF_OK && i < seeds; i++) {
        cmif_block_seed *s = &cell->blocks[cell->count++];
        s->seed            = i + 1;
        s->trials          = calloc(trials, sizeof *s->trials);
        for (size_t r = 0; s->trials && r < trials; r++) {
            s->trials[r].labels  = calloc(b->task->count, 1);
            s->trials[r].cosines = b->similarity ? calloc(b->task->count, sizeof *s->trials[r].cosines) : NULL;
            rc                   = s->trials[r].labels && (s->trials[r].cosines || !b->similarity)
                                       ? rc
                                       : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu labels", b->task->count);
        }
        rc = s->trials ? rc : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu runs", trials);
        if (rc == CMIF_OK) {
            rc = run_block(b, cell, s, trials, err);
        }
        if (rc != CMIF_OK) { /* wipe counts on all labels */
            s->count = s->trials ? trials : 0;
        }
    }
    return rc;
}

/* How far two runs order the same pairs alike. */
static cmif_code agree(const int32_t *a, const int32_t *b, size_t count, double *out, cmif_err *err)
{
    double *x = calloc(2 * count, sizeof *x);
    if (!x) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu cosines", count);
    }
    for (size_t i = 0; i < count; i++) {
        x[i]         = a[i];
        x[count + i] = b[i];
    }
    cmif_code rc = cmif_pair_spearman(x, x + count, count, out, err);
    free(x);
    return rc;
}

cmif_code cmif_cell_sum(const cmif_bench *b, cmif_cell *cell, cmif_err *err)
{
    const size_t n     = b->task->count;
    size_t       count = 0, at = 0;
    uint64_t     passed = 0, words = 0;
    cmif_code    rc = CMIF_OK;
    for (size_t s = 0; s < cell->count; s++) {
        count += cell->blocks[s].count;
    }
    double *runs = calloc(count ? count : 1, sizeof *runs);
    cell->shares = calloc(n, sizeof *cell->shares);
    if (!runs || !cell->shares) {
        free(runs);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu shares", n);
    }
    for (size_t s = 0; s < cell->count; s++) {
        for (size_t r = 0; r < cell->blocks[s].count; r++, at++) {
            const cmif_trial *t = &cell->blocks[s].trials[r];
            passed += t->passed;
            words += t->drawn + t->passed + t->unknown;
            for (size_t i = 0; i < n && !b->similarity; i++) {
                bool right = t->labels[i] == b->truth[i];
                runs[at] += right ? 1.0 / (double) n : 0;
                cell->shares[i] += right ? 1.0 / (double) count : 0;
            }
            if (rc == CMIF_OK && b->similarity) {
                rc = agree(b->clean ? b->clean : t->cosines, t->cosines, n, &runs[at], err);
            }
        }
    }
    cmif_mean mean = cmif_stats_mean(runs, count); /* as many runs for each table */
    cell->accuracy = mean.mean;
    cell->sd       = mean.sd;
    cell->clear    = cell->arm ? words ? (double) passed / (double) words : NAN : 1;
    free(runs);
    return rc;
}

void cmif_cell_wipe(cmif_cell *cell)
{
    for (size_t s = 0; s < cell->count; s++) {
        for (size_t r = 0; r < cell->blocks[s].count; r++) {
            free(cell->blocks[s].trials[r].labels);
            free(cell->blocks[s].trials[r].cosines);
        }
        free(cell->blocks[s].trials);
    }
    free(cell->blocks);
    free(cell->shares);
    *cell = (cmif_cell){0};
}
