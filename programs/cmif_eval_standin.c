/* `cmif eval stand-in`: are the baselines those of the research note on privacy (section 1.4)? CUSTEXT by our builder
 * and our sampler, in the note's pipeline: training phrases and dev sentences sanitized, words outside the vocabulary
 * as they are. */
#include "cmif_eval.h"

#include "bag.h"
#include "stats.h"
#include "task.h"

#include "cmif_child.h"
#include "cmif_commands.h"
#include "dp/draw.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WITHIN 0.02

static const struct {
    const char *name, *vectors;
    bool        passes; /* NLTK's stop words, as CUSTEXT+ has it */
    double      expected;
} rows[] = {
    {"custext, base vectors", "vectors/base_41k_100d_i8.txt", false, 0.677},
    {"custext+, base vectors", "vectors/base_41k_100d_i8.txt", true, 0.716},
    {"custext, counter-fitted", "vectors/counterfit_41k_100d_i8.txt", false, 0.717},
    {"custext+, counter-fitted", "vectors/counterfit_41k_100d_i8.txt", true, 0.756},
};
enum { ROWS = sizeof rows / sizeof *rows, RUNS_MAX = 64, WORD_MAX = 256 };
#define CLEAN 0.8096

static bool in_lines(const char *lines, const char *word, size_t size)
{
    for (const char *at = lines; *at;) {
        size_t n = strcspn(at, "\n");
        if (n == size && !memcmp(at, word, size)) {
            return true;
        }
        at += n + (at[n] == '\n');
    }
    return false;
}

static cmif_code read_lines(const char *path, char *out, size_t room, cmif_err *err)
{
    FILE  *file = fopen(path, "re");
    size_t n    = file ? fread(out, 1, room - 1, file) : 0;
    bool   ok   = file && n < room - 1;
    if (file) {
        fclose(file);
    }
    out[n] = '\0';
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot read '%.150s'", path);
}

/* A lexicon of the words of the vectors, in their order: without stop words, where these pass. (The builder adds
 * function words to every lexicon, as the rarest ones: they take part in the last blocks, and are not drawn here.) */
static cmif_code build_lexicon(cmif_tables *t, const char *stop_words, bool passes, const char *path, cmif_err *err)
{
    char      counts[PATH_MAX], list[PATH_MAX], line[512];
    FILE     *from = NULL, *to = NULL;
    cmif_code rc = cmif_tables_data(t, "vectors/unigram_counts.tsv", counts, err);
    if (rc == CMIF_OK &&
        snprintf(list, sizeof list, "%s/stand-in-%d.txt", t->folder, (int) getpid()) >= (int) sizeof list) {
        rc = cmif_fail(err, CMIF_E_IO, "the cache folder's name is too long");
    }
    if (rc == CMIF_OK && (!(from = fopen(counts, "re")) || !(to = fopen(list, "we")))) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%.80s' or write '%.80s'", counts, list);
    }
    while (rc == CMIF_OK && fgets(line, sizeof line, from)) {
        if (!(passes && in_lines(stop_words, line, strcspn(line, "\t"))) && fputs(line, to) < 0) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot write '%.150s': is the disk full?", list);
        }
    }
    if (from) {
        fclose(from);
    }
    if (to && fclose(to) != 0 && rc == CMIF_OK) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%.150s': is the disk full?", list);
    }
    const char *argv[] = {NULL, "lexicon", "build", "--from", list, "-o", path, NULL};
    rc                 = rc == CMIF_OK ? cmif_child_run("cmif-build", (char **) (uintptr_t) argv, NULL, 0, err) : rc;
    if (to) {
        unlink(list);
    }
    return rc;
}

static cmif_code build_channel(cmif_tables *t, const char *stop_words, size_t row, char path[static PATH_MAX],
                               cmif_err *err)
{
    char      vectors[PATH_MAX], lexicon[PATH_MAX + 8], hash[65];
    cmif_code rc = cmif_tables_data(t, rows[row].vectors, vectors, err);
    rc           = rc == CMIF_OK ? cmif_tables_hash(vectors, hash, err) : rc;
    if (rc == CMIF_OK &&
        snprintf(path, PATH_MAX, "%s/stand-in-%d-%.16s.cmifch", t->folder, rows[row].passes, hash) >= PATH_MAX) {
        rc = cmif_fail(err, CMIF_E_IO, "the cache folder's name is too long");
    }
    if (rc != CMIF_OK || access(path, R_OK) == 0) {
        return rc;
    }
    snprintf(lexicon, sizeof lexicon, "%s.gguf", path);
    const char *argv[] = {NULL, "channel",   "build", "--mechanism", "custext", "-k", "20", "-e",
                          "1",  "--vectors", vectors, "-l",          lexicon,   "-o", path, NULL};
    rc                 = build_lexicon(t, stop_words, rows[row].passes, lexicon, err);
    rc                 = rc == CMIF_OK ? cmif_child_run("cmif-build", (char **) (uintptr_t) argv, NULL, 0, err) : rc;
    if (rc != CMIF_OK && !err->text[0]) {
        rc = cmif_fail(err, CMIF_E_IO, "the table of the stand-in could not be built; the reason is above");
    }
    unlink(lexicon);
    return rc;
}

typedef struct source {      /* what words are drawn from */
    const cmif_table *table; /* NULL: texts stay as they are */
    cmif_noise       *noise;
    const char       *passing; /* words that are not drawn, one a line */
} source;

/* A text as it leaves: each word, between blanks, that the table has and that does not pass is drawn. *out is the
 * caller's. */
static cmif_code draw_text(const source *from, const char *text, char **out, cmif_err *err)
{
    const size_t room = strlen(text) * (CMIF_TABLE_WORD_SIZE_MAX + 1) + 2; /* every byte a word, at most */
    char        *to   = malloc(room);
    size_t       used = 0;
    cmif_code    rc   = to ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a text");
    for (const char *at = text; rc == CMIF_OK && *at;) {
        size_t   n    = strcspn(at, " ");
        cmif_str word = {at, n};
        uint32_t id   = n ? cmif_table_find(from->table, word) : CMIF_NO_WORD, drawn;
        if (id != CMIF_NO_WORD && id != 0 && !in_lines(from->passing, at, n)) {
            rc   = cmif_dp_draw(from->table, from->noise, &id, 1, &drawn, err);
            word = rc == CMIF_OK ? cmif_table_word(from->table, drawn) : word;
        }
        memcpy(to + used, word.data, word.size);
        used += word.size;
        at += n;
        if (*at) {
            to[used++] = *at++;
        }
    }
    if (rc == CMIF_OK) {
        to[used] = '\0';
        *out     = to;
        to       = NULL;
    }
    free(to);
    return rc;
}

static void wipe_texts(char **texts, size_t count)
{
    for (size_t i = 0; texts && i < count; i++) {
        free(texts[i]);
    }
    free(texts);
}

static cmif_code draw_texts(const source *from, const cmif_task *task, char ***out, cmif_err *err)
{
    char    **texts = calloc(task->count, sizeof *texts);
    cmif_code rc    = texts ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu texts", task->count);
    for (size_t i = 0; rc == CMIF_OK && i < task->count; i++) {
        if (from->table) {
            rc = draw_text(from, task->examples[i].text, &texts[i], err);
        } else if (!(texts[i] = strdup(task->examples[i].text))) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu texts", task->count);
        }
    }
    if (rc == CMIF_OK) {
        *out  = texts;
        texts = NULL;
    }
    wipe_texts(texts, task->count);
    return rc;
}

static cmif_code run_once(const source *by, const cmif_task *train, const cmif_task *dev, const uint8_t *truth,
                          double *accuracy, cmif_err *err)
{
    char    **from = NULL, **to = NULL;
    cmif_code rc = draw_texts(by, train, &from, err);
    rc           = rc == CMIF_OK ? draw_texts(by, dev, &to, err) : rc;
    rc           = rc == CMIF_OK ? cmif_bag_accuracy(&(cmif_bag_texts){from, truth, train->count},
                                                     &(cmif_bag_texts){to, truth + train->count, dev->count}, accuracy, err)
                                 : rc;
    wipe_texts(from, train->count);
    wipe_texts(to, dev->count);
    return rc;
}

static void tell(const char *name, const cmif_mean *found, double expected, json_t *all, bool *met)
{
    char sd[16]   = "";
    bool this_one = fabs(found->mean - expected) <= WITHIN;
    if (found->count > 1) {
        snprintf(sd, sizeof sd, "%.4f", found->sd);
    }
    printf("%-26s %8.4f %7s %9.4f %+11.4f  %s\n", name, found->mean, sd, expected, found->mean - expected,
           this_one ? "met" : "NOT MET");
    *met = *met && this_one;
    json_array_append_new(all, json_pack("{s:s, s:f, s:o, s:I, s:f, s:b}", "row", name, "accuracy", found->mean, "sd",
                                         found->count > 1 ? json_real(found->sd) : json_null(), "runs",
                                         (json_int_t) found->count, "expected", expected, "met", this_one));
}

int cmif_eval_stand_in(const cmif_eval_options *options)
{
    cmif_tables t     = {0};
    cmif_task   train = {0}, dev = {0};
    cmif_noise *noise = NULL;
    cmif_err    err   = {0};
    char        path[PATH_MAX], stop_words[8192];
    uint8_t    *truth = NULL;
    double      found[RUNS_MAX];
    bool        met   = true;
    json_t     *all   = json_array();
    uint32_t    seeds = options->seeds < RUNS_MAX ? options->seeds : RUNS_MAX;

    cmif_code rc = cmif_tables_open(options->data, &t, &err);
    rc           = rc == CMIF_OK ? cmif_tables_data(&t, "stopwords/nltk_english_179.txt", path, &err) : rc;
    rc           = rc == CMIF_OK ? read_lines(path, stop_words, sizeof stop_words, &err) : rc;
    rc           = rc == CMIF_OK ? cmif_tables_data(&t, "sst2/glue_train_phrases.tsv", path, &err) : rc;
    rc           = rc == CMIF_OK ? cmif_task_open(path, 0, 1, &train, &err) : rc;
    rc           = rc == CMIF_OK ? cmif_tables_data(&t, "sst2/dev.tsv", path, &err) : rc;
    rc           = rc == CMIF_OK ? cmif_task_open(path, 0, 1, &dev, &err) : rc;
    rc           = rc == CMIF_OK ? cmif_noise_new(&noise, &err) : rc;
    truth        = rc == CMIF_OK ? calloc(train.count + dev.count, 1) : NULL;
    if (rc == CMIF_OK && !truth) {
        rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for %zu labels", train.count + dev.count);
    }
    for (size_t i = 0; rc == CMIF_OK && i < train.count + dev.count; i++) {
        truth[i] = (uint8_t) (i < train.count ? train.examples[i].label : dev.examples[i - train.count].label);
    }
    if (rc == CMIF_OK) {
        rc = run_once(&(source){0}, &train, &dev, truth, found, &err);
    }
    if (rc == CMIF_OK) {
        cmif_mean clean = cmif_stats_mean(found, 1);
        printf("%-26s %8s %7s %9s %11s\n", "CUSTEXT, K 20, epsilon 1", "accuracy", "sd", "expected", "difference");
        tell("clean", &clean, CLEAN, all, &met);
    }
    for (size_t row = 0; rc == CMIF_OK && row < ROWS; row++) {
        cmif_table *table = NULL;
        cmif_status(rows[row].name);
        rc              = build_channel(&t, stop_words, row, path, &err);
        rc              = rc == CMIF_OK ? cmif_table_open(path, &table, NULL, &err) : rc;
        const source by = {table, noise, rows[row].passes ? stop_words : ""};
        for (uint32_t r = 0; rc == CMIF_OK && r < seeds; r++) {
            rc = cmif_interrupted ? cmif_fail(&err, CMIF_E_CANCELLED, "stopped")
                                  : run_once(&by, &train, &dev, truth, &found[r], &err);
        }
        cmif_status(NULL);
        if (rc == CMIF_OK) {
            cmif_mean mean = cmif_stats_mean(found, seeds);
            tell(rows[row].name, &mean, rows[row].expected, all, &met);
        }
        cmif_table_free(table);
    }
    cmif_status(NULL);
    if (rc == CMIF_OK && options->json && json_dump_file(all, options->json, JSON_INDENT(1)) != 0) {
        rc = cmif_fail(&err, CMIF_E_IO, "cannot write '%.150s': is there such a folder, and room on the disk?",
                       options->json);
    }
    json_decref(all);
    free(truth);
    cmif_noise_free(noise);
    cmif_task_wipe(&train);
    cmif_task_wipe(&dev);
    return rc != CMIF_OK ? cmif_report(&err) : met ? CMIF_EXIT_OK : CMIF_EVAL_NOT_MET;
}
