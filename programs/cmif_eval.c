/* `cmif eval`: what is left of a task when its words go through a mechanism, and what may be said of the difference. */
#include "cmif_commands.h"

#include "cells.h"
#include "cmif_eval.h"
#include "report.h"
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    CELLS_MAX    = 512,
    EPSILONS_MAX = 8,
    TRAIN_MAX    = 4000,
    EXPORT_TEXTS = 20000,
    ATTACKED     = 2 /* releases */
};
#define CONFIDENCE 0.95
#define TASKS "sst2, subjectivity, qnli, mrpc, similarity, sst2-zero-shot, chat, xsum, stand-in, or FILE.tsv"

static const char *model, *data, *mechanisms, *epsilons = "1,2,3", *setting = "I", *train_path, *policies, *json_path,
                                              *report_path, *final_path, *export_path, *tuned;
static uint32_t seeds, block_seeds = 1, limit, threads;
static bool     again, goals, attacks;

static const cmif_option options[] = {
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &model, 0, 0, "a classifier (default: the data's minilm-sst2)"},
    {0, "data", "FOLDER", CMIF_OPTION_TEXT, &data, 0, 0, "of the data sets (default: CMIF_DATA, ../shared/data)"},
    {0, "mechanisms", "LIST", CMIF_OPTION_TEXT, &mechanisms, 0, 0, "only these, a comma between two; 'all'; see below"},
    {'e', "epsilon", "LIST", CMIF_OPTION_TEXT, &epsilons, 0, 0, "asked of those that have one (default 1,2,3)"},
    {0, "seeds", "N", CMIF_OPTION_COUNT, &seeds, 1, 1000, "runs of what draws noise (default 5; --export: 1)"},
    {0, "block-seeds", "N", CMIF_OPTION_COUNT, &block_seeds, 1, 100, "searches for blocks, averaged (default 1)"},
    {0, "setting", "I|A", CMIF_OPTION_TEXT, &setting, 0, 0, "I: trained on clean text (default); A: on what leaves"},
    {0, "train", "FILE", CMIF_OPTION_TEXT, &train_path, 0, 0, "examples for a linear head, where the model has none"},
    {0, "export", "FOLDER", CMIF_OPTION_TEXT, &export_path, 0, 0, "write what leaves of --train there, to train on"},
    {0, "tuned", "FOLDER", CMIF_OPTION_TEXT, &tuned, 0, 0, "setting A: models that tools/finetune made of it"},
    {0, "policy", "LIST", CMIF_OPTION_TEXT, &policies, 0, 0, "of xsum, chat (default clean,names,topics,words)"},
    {0, "limit", "N", CMIF_OPTION_COUNT, &limit, 1, 1 << 24, "only N examples (default: all; of xsum 20 ...)"},
    {0, "again", NULL, CMIF_OPTION_FLAG, &again, 0, 0, "draw anew; default: finished runs are kept and used"},
    {0, "final", "FILE", CMIF_OPTION_TEXT, &final_path, 0, 0, "a test split, read once at the very end; it is told"},
    {0, "attacks", NULL, CMIF_OPTION_FLAG, &attacks, 0, 0, "also attack what leaves, with words and in context"},
    {0, "goals", NULL, CMIF_OPTION_FLAG, &goals, 0, 0, "attack, too; say which goals are met; exit 3: not all"},
    {0, "threads", "N", CMIF_OPTION_COUNT, &threads, 1, 64, "servers of one thread each (default: all cores)"},
    {'o', "output", "REPORT", CMIF_OPTION_TEXT, &report_path, 0, 0, "write a report, REPORT.html"},
    {0, "json", "FILE", CMIF_OPTION_TEXT, &json_path, 0, 0, "write all figures as JSON"},
    {'q', "quiet", NULL, CMIF_OPTION_FLAG, &cmif_quiet, 0, 0, "nothing but results and errors"},
};
static const cmif_command command = {
    .name         = "eval",
    .args         = "[options] TASK",
    .summary      = "measure what is left of a task's accuracy under each mechanism",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = "Tasks: sst2 (its dev split), or FILE.tsv (sentence TAB label, the model's or\n"
                    "their numbers); by a head over vectors: subjectivity, qnli, mrpc, or FILE.tsv\n"
                    "(text TAB text TAB label, with --train); similarity [FILE.tsv of pairs]; of a\n"
                    "model that generates: sst2-zero-shot, chat, xsum.\n"
                    "Mechanisms: control control-all santext santext+ metric custext custext+ paper\n"
                    "paper-half rnm subset krr full general-k20 general-k20-all general-k20-v0\n"
                    "general-k100 general-k200; when named: custext+code general-k5 -k10 -k50.\n"
                    "The text as it is, and saying the commonest label always, are measured, too.\n"
                    "docs/evaluation.md tells more.\n",
};

typedef struct compared { /* with a baseline at the same epsilon */
    bool          there;
    cmif_compared test;
    double        adjusted; /* Holm's, of all that are shown */
} compared;

typedef struct line {
    cmif_cell     cell;
    cmif_interval interval;
    compared      with[2]; /* custext+, paper; plain rows */
} line;
static const char *const baselines[2] = {"custext+", "paper"};

typedef struct evaluation {
    cmif_bench  bench;
    cmif_leaks  leaks;
    cmif_tables tables;
    cmif_task   whole, other; /* what was read */
    cmif_task   task, train;  /* parts of it */
    char        path[PATH_MAX], *epsilon_text;
    char        command[512]; /* as it was given */
    const char *epsilon[EPSILONS_MAX];
    size_t      epsilon_count;
    line       *lines;
    size_t      count;
    double      majority, seconds;
    cmif_str   *labels; /* of the model */
    size_t      label_count;
    json_t     *goals;
    bool        met;
} evaluation;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* ---- what is asked for ---- */

bool cmif_eval_in_list(const char *list, const char *name)
{
    for (size_t size = strlen(name); list && *list;) {
        size_t n = strcspn(list, ",");
        if (n == size && !memcmp(list, name, n)) {
            return true;
        }
        list += n + (list[n] == ',');
    }
    return false;
}

static cmif_code check_mechanisms(cmif_err *err)
{
    const char *names[64];
    for (size_t i = 0; i < cmif_arm_count; i++) {
        names[i] = cmif_arms[i].name;
    }
    for (const char *at = mechanisms; at && *at && strcmp(mechanisms, "all") != 0;) {
        char   name[64] = "";
        size_t n = strcspn(at, ","), i = 0;
        snprintf(name, sizeof name, "%.*s", (int) (n < 63 ? n : 63), at);
        while (i < cmif_arm_count && strcmp(name, cmif_arms[i].name) != 0) {
            i++;
        }
        if (i == cmif_arm_count && strcmp(name, "clean") != 0) {
            const char *near = cmif_nearest(name, names, cmif_arm_count);
            return cmif_fail(err, CMIF_E_RANGE, "--mechanisms knows no '%.40s'%s%s: 'cmif eval --help' lists them",
                             name, near ? "; did you mean " : "", near ? near : "");
        }
        at += n + (at[n] == ',');
    }
    return CMIF_OK;
}

static cmif_code read_epsilons(evaluation *e, cmif_err *err)
{
    e->epsilon_text = strdup(epsilons);
    char *rest      = NULL;
    for (char *at = e->epsilon_text ? strtok_r(e->epsilon_text, ",", &rest) : NULL; at;
         at       = strtok_r(NULL, ",", &rest)) {
        char  *end;
        double value = strtod(at, &end);
        if (*end || !(value > 0 && value <= 16) || e->epsilon_count == EPSILONS_MAX) {
            return cmif_fail(err, CMIF_E_RANGE, "--epsilon takes up to %d numbers above 0, at most 16, such as 1,2,3",
                             EPSILONS_MAX);
        }
        e->epsilon[e->epsilon_count++] = at;
    }
    return e->epsilon_count ? CMIF_OK : cmif_fail(err, CMIF_E_RANGE, "--epsilon takes numbers such as 1,2,3");
}

/* ---- the task ---- */

/* Of a task that is one file, of which a part is for testing and a part for training a head; else NULL. */
static const char *one_file(const char *task)
{
    static const char *const files[][2] = {{"subjectivity", "subjectivity/subjectivity_filtered.tsv"},
                                           {"qnli", "qnli/dev.tsv"},
                                           {"mrpc", "mrpc/train.tsv"}};
    for (size_t i = 0; task && i < sizeof files / sizeof *files; i++) {
        if (!strcmp(task, files[i][0])) {
            return files[i][1];
        }
    }
    return NULL;
}

/* The model's own labels; none: label_count stays 0. */
static cmif_code model_labels(evaluation *e, cmif_err *err)
{
    char               key[128];
    const cmif_client *c = cmif_runner_client(e->bench.runner);
    snprintf(key, sizeof key, "%.*s.classifier.output_labels", (int) (c->arch.size < 64 ? c->arch.size : 64),
             c->arch.data);
    if (!cmif_gguf_find(c->file, key)) {
        return CMIF_OK;
    }
    cmif_code rc = cmif_gguf_get_strs(c->file, key, &e->labels, &e->label_count, err);
    if (rc == CMIF_OK && (e->label_count != cmif_runner_outputs(e->bench.runner) || e->label_count > 256)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the model has %zu labels, the server gives %zu numbers", e->label_count,
                       cmif_runner_outputs(e->bench.runner));
    }
    return rc;
}

/* The number of a label of the file, as the model counts: by name, else it is the number. */
static cmif_code find_label(const evaluation *e, const char *label, uint8_t *out, cmif_err *err)
{
    for (size_t i = 0; i < e->label_count; i++) {
        if (e->labels[i].size == strlen(label) && !memcmp(e->labels[i].data, label, e->labels[i].size)) {
            *out = (uint8_t) i;
            return CMIF_OK;
        }
    }
    char         *end;
    unsigned long number = strtoul(label, &end, 10);
    if (label[0] >= '0' && label[0] <= '9' && !*end && number < e->label_count) {
        *out = (uint8_t) number;
        return CMIF_OK;
    }
    return cmif_fail(err, CMIF_E_FORMAT, "the file has a label that %s does not know: it has %zu",
                     e->bench.train ? "the training file" : "the model", e->label_count);
}

static cmif_code truths(const evaluation *e, const cmif_task *task, const cmif_task *from, uint8_t **out, cmif_err *err)
{
    uint8_t  *truth = calloc(task->count ? task->count : 1, 1);
    cmif_code rc    = truth ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu labels", task->count);
    for (size_t i = 0; rc == CMIF_OK && i < task->count; i++) {
        rc = find_label(e, from->labels[task->examples[i].label], &truth[i], err);
    }
    *out = truth;
    return rc;
}

static cmif_code read_task(const char *path, size_t most, cmif_task *out, cmif_err *err)
{
    cmif_code rc = cmif_task_open(path, most, 1, out, err);
    if (rc == CMIF_OK && !out->label_count) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "'%.150s' has no labels: a line is sentence TAB label", path);
    }
    return rc;
}

/* Every fifth example is for testing, of the others up to TRAIN_MAX are for training; evenly spread where there are
 * more, or a limit says so: the file may be sorted by label. */
static cmif_code split_task(evaluation *e, cmif_err *err)
{
    e->task.examples  = calloc(e->whole.count, sizeof *e->task.examples);
    e->train.examples = calloc(e->whole.count, sizeof *e->train.examples);
    if (!e->task.examples || !e->train.examples) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu examples", e->whole.count);
    }
    const size_t tests = (e->whole.count + 4) / 5, others = e->whole.count - tests;
    for (size_t i = 0; i < e->whole.count; i++) {
        const bool   tested = i % 5 == 0;
        const size_t at = tested ? i / 5 : i - i / 5 - 1, of = tested ? tests : others;
        const size_t most = !tested ? TRAIN_MAX : limit ? limit : tests;
        if (most >= of || at * most / of != (at + 1) * most / of) {
            cmif_task *to             = tested ? &e->task : &e->train;
            to->examples[to->count++] = e->whole.examples[i];
        }
    }
    return CMIF_OK;
}

/* The head's labels are those of the file it is trained on. */
static cmif_code open_train(evaluation *e, const char *name, cmif_err *err)
{
    char             path[PATH_MAX];
    const cmif_task *from = &e->whole;
    cmif_code        rc   = CMIF_OK;
    if (!one_file(name)) {
        snprintf(path, sizeof path, "%s", train_path ? train_path : "");
        if (!train_path && name && !strcmp(name, "sst2")) {
            rc = cmif_tables_data(&e->tables, "sst2/train.tsv", path, err);
        } else if (!train_path) {
            rc = cmif_fail(err, CMIF_E_RANGE,
                           "the model has no labels of its own: name examples for a linear head with --train");
        }
        rc = rc == CMIF_OK ? read_task(path, TRAIN_MAX, &e->other, err) : rc;
        if (rc == CMIF_OK && !e->other.examples[0].second != !e->whole.examples[0].second) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "'%.150s' must have as many sentences a line as the examples", path);
        }
        from              = &e->other;
        e->train.examples = e->other.examples;
        e->train.count    = e->other.count;
    }
    e->labels = rc == CMIF_OK ? calloc(from->label_count, sizeof *e->labels) : NULL;
    if (rc == CMIF_OK && !e->labels) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu labels", from->label_count);
    }
    for (size_t i = 0; rc == CMIF_OK && i < from->label_count; i++) {
        e->labels[i] = (cmif_str){from->labels[i], strlen(from->labels[i])};
    }
    e->label_count = e->bench.label_count = from->label_count;
    e->bench.train                        = &e->train;
    e->bench.adapted                      = !strcmp(setting, "A");
    return rc == CMIF_OK ? truths(e, &e->train, from, &e->bench.train_truth, err) : rc;
}

static cmif_code open_task(evaluation *e, const char *name, cmif_err *err)
{
    cmif_code rc = read_task(e->path, 0, &e->whole, err);
    if (rc == CMIF_OK && one_file(name)) {
        rc = split_task(e, err);
    } else if (rc == CMIF_OK) {
        e->task.examples = e->whole.examples;
        e->task.count    = e->whole.count;
    }
    e->task.count = limit && limit < e->task.count ? limit : e->task.count;
    e->bench.task = &e->task;
    if (rc == CMIF_OK && e->label_count && e->whole.examples[0].second) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED,
                       "pairs take a head over two vectors: name a model without labels of its own, such as minilm");
    } else if (rc == CMIF_OK && (!e->label_count || one_file(name))) {
        free(e->labels); /* a classifier of something else */
        e->labels = NULL;
        rc        = open_train(e, name, err);
    } else if (rc == CMIF_OK && ((!strcmp(setting, "A") && !tuned) || (train_path && !export_path))) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED,
                       "the model has labels of its own, learned on clean text: train it on what leaves (--export, "
                       "tools/finetune, --tuned), or name one without, such as minilm");
    } else if (rc == CMIF_OK) {
        e->bench.tuned   = tuned;
        e->bench.adapted = tuned != NULL;
    }
    if (rc == CMIF_OK && e->bench.train && (tuned || export_path)) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "--export and --tuned are for a classifier, with labels of its own");
    }
    rc               = rc == CMIF_OK ? truths(e, &e->task, &e->whole, &e->bench.truth, err) : rc;
    uint64_t of[256] = {0}, most = 0;
    for (size_t i = 0; rc == CMIF_OK && i < e->task.count; i++) {
        most = ++of[e->bench.truth[i]] > most ? of[e->bench.truth[i]] : most;
    }
    e->majority = (double) most / (double) (e->task.count ? e->task.count : 1);
    return rc == CMIF_OK ? cmif_bench_name(&e->bench, err) : rc;
}

/* ---- measuring ---- */

static void plan(evaluation *e)
{
    e->lines[e->count++].cell = (cmif_cell){0};
    for (size_t a = 0; a < cmif_arm_count; a++) {
        const cmif_arm *arm   = &cmif_arms[a];
        const bool      front = attacks && !strncmp(arm->name, "general-", strlen("general-")); /* every K of ours */
        if (mechanisms && strcmp(mechanisms, "all") != 0 ? !cmif_eval_in_list(mechanisms, arm->name)
                                                         : !mechanisms && arm->in_doubt && !front) {
            continue;
        }
        for (size_t i = 0; i < (arm->epsilon ? e->epsilon_count : 1); i++) {
            for (int r = 0; r < CMIF_EVAL_ROWS; r++) {
                if ((arm->rows >> r & 1) && e->count < CELLS_MAX) {
                    e->lines[e->count++].cell = (cmif_cell){
                        .arm = arm, .epsilon = arm->epsilon ? e->epsilon[i] : NULL, .rows = (cmif_rows_kind) r};
                }
            }
        }
    }
}

static const line *find_line(const evaluation *e, const char *name, const char *epsilon, cmif_rows_kind rows)
{
    for (size_t i = 0; i < e->count; i++) {
        const cmif_cell *c = &e->lines[i].cell;
        if (c->arm && !strcmp(c->arm->name, name) && c->rows == rows &&
            (!c->epsilon || !epsilon || !strcmp(c->epsilon, epsilon))) {
            return &e->lines[i];
        }
    }
    return NULL;
}

static size_t runs_of(const cmif_cell *c, size_t *from_before)
{
    size_t count = 0;
    *from_before = 0;
    for (size_t s = 0; s < c->count; s++) {
        count += c->blocks[s].count;
        *from_before += c->blocks[s].from_before;
    }
    return count;
}

/* Every line beside each baseline at its epsilon (the first one, where it has none to choose). */
static cmif_code compare(evaluation *e, cmif_err *err)
{
    double      *p = calloc(2 * e->count + 1, sizeof *p), *adjusted = calloc(2 * e->count + 1, sizeof *adjusted);
    compared   **at     = calloc(2 * e->count + 1, sizeof *at);
    size_t       tested = 0;
    const size_t n      = e->task.count;
    const bool   ok     = p && adjusted && at;
    for (size_t i = 0; ok && i < e->count; i++) {
        line *l = &e->lines[i];
        for (size_t b = 0; b < 2; b++) {
            const line *base =
                find_line(e, baselines[b], l->cell.epsilon ? l->cell.epsilon : e->epsilon[0], CMIF_EVAL_PLAIN);
            if (!base || base == l || !l->cell.arm) {
                continue;
            }
            size_t old;
            l->with[b] =
                (compared){.there = true,
                           .test  = cmif_stats_compare(l->cell.shares, runs_of(&l->cell, &old), base->cell.shares,
                                                       runs_of(&base->cell, &old), n, CONFIDENCE)};
            p[tested]    = l->with[b].test.paired.p;
            at[tested++] = &l->with[b];
        }
    }
    if (ok) {
        cmif_stats_holm(p, tested, adjusted);
    }
    for (size_t i = 0; ok && i < tested; i++) {
        at[i]->adjusted = adjusted[i];
    }
    free(p);
    free(adjusted);
    free(at);
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for comparisons");
}

/* The attackers' language models. */
static cmif_code open_leaks(evaluation *e, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (int in = 0; rc == CMIF_OK && in < 2; in++) {
        char path[PATH_MAX];
        rc = cmif_tables_lm(&e->tables, in, path, err);
        rc = rc == CMIF_OK ? cmif_lm_open(path, &e->leaks.lm[in], err) : rc;
    }
    e->leaks.releases = ATTACKED;
    e->bench.leaks    = &e->leaks;
    return rc;
}

/* ---- training on what leaves ---- */

/* Every model that a row of the table needs is there; else the row is not. */
static cmif_code leave_out(evaluation *e, cmif_err *err)
{
    char      path[PATH_MAX], first[64] = "";
    size_t    kept = 0, before = e->count;
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < before; i++) {
        const cmif_cell *c     = &e->lines[i].cell;
        bool             there = true;
        for (uint32_t seed = 1; rc == CMIF_OK && seed <= (c->arm && c->arm->blocks ? block_seeds : 1); seed++) {
            rc    = cmif_cell_file(c, seed, tuned, path, err);
            there = there && access(path, R_OK) == 0;
        }
        if (!there && !*first) {
            snprintf(first, sizeof first, "%s", strrchr(path, '/') + 1);
        }
        if (there) {
            e->lines[kept++].cell = *c;
        }
    }
    e->count = rc == CMIF_OK ? kept : before;
    if (rc == CMIF_OK && !kept) {
        rc = cmif_fail(err, CMIF_E_IO,
                       "'%.100s' has no model for any row of the table, such as %s: make them with --export and "
                       "tools/finetune",
                       tuned, first);
    } else if (rc == CMIF_OK && kept < before && !cmif_quiet) {
        fprintf(stderr, "%zu rows of the table are left out: there is no model for them, such as %s\n", before - kept,
                first);
    }
    return rc;
}

static cmif_code export_rows(evaluation *e, const char *name, cmif_err *err)
{
    char      path[PATH_MAX], folder[PATH_MAX];
    cmif_task texts = {0};
    uint8_t  *truth = NULL;
    cmif_code rc    = CMIF_OK;
    snprintf(path, sizeof path, "%s", train_path ? train_path : "");
    if (snprintf(folder, sizeof folder, "%s", export_path) >= (int) sizeof folder) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--export is too long");
    } else if (!train_path) {
        rc = !strcmp(name, "sst2") ? cmif_tables_data(&e->tables, "sst2/glue_train_phrases.tsv", path, err)
                                   : cmif_fail(err, CMIF_E_RANGE, "name what is to be exported with --train");
    }
    rc = rc == CMIF_OK ? cmif_make_folders(folder, err) : rc;
    rc = rc == CMIF_OK ? read_task(path, limit ? limit : EXPORT_TEXTS, &texts, err) : rc;
    if (rc == CMIF_OK && texts.examples[0].second) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "'%.150s' has pairs: one sentence and its label a line are exported",
                       path);
    }
    size_t dropped = rc == CMIF_OK ? cmif_task_drop(&texts, &e->whole) : 0;
    rc             = rc == CMIF_OK ? truths(e, &texts, &texts, &truth, err) : rc;
    if (dropped && rc == CMIF_OK && !cmif_quiet) {
        printf("%zu texts are left out: they are tested on\n", dropped);
    }
    for (size_t i = 0; rc == CMIF_OK && i < e->count; i++) {
        const cmif_cell *c = &e->lines[i].cell;
        for (uint32_t seed = 1; rc == CMIF_OK && seed <= (c->arm && c->arm->blocks ? block_seeds : 1); seed++) {
            rc = cmif_cell_export(&e->bench, c, seed, &texts, truth, seeds, export_path, err);
        }
    }
    free(truth);
    cmif_task_wipe(&texts);
    return rc;
}

static cmif_code measure(evaluation *e, cmif_err *err)
{
    double    began = now();
    cmif_code rc    = attacks ? open_leaks(e, err) : CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < e->count; i++) {
        line *l = &e->lines[i];
        rc      = cmif_cell_run(&e->bench, &l->cell, block_seeds, seeds, err);
        rc      = rc == CMIF_OK ? cmif_cell_sum(&e->bench, &l->cell, err) : rc;
        l->interval =
            cmif_stats_wilson((uint64_t) llround(l->cell.accuracy * (double) e->task.count), e->task.count, CONFIDENCE);
    }
    cmif_status(NULL);
    e->seconds = now() - began - e->tables.seconds - e->bench.attack_seconds;
    return rc == CMIF_OK ? compare(e, err) : rc;
}

/* ---- what is said ---- */

static void put_p(char *out, size_t room, const compared *with)
{
    if (!with->there || with->adjusted < 1e-9) {
        snprintf(out, room, "%s%s", with->there ? "<1e-9" : "", with->there && with->test.exact ? "*" : "");
    } else {
        size_t used = (size_t) snprintf(out, room, with->adjusted < 0.001 ? "%.0e" : "%.3f", with->adjusted);
        snprintf(out + used, room - used, "%s", with->test.exact ? "*" : "");
    }
}

static void print_table(const evaluation *e)
{
    const cmif_style dim   = CMIF_DIM;
    const char      *style = cmif_style_of(stdout, dim), *plain = cmif_style_of(stdout, CMIF_PLAIN);
    printf("%s%-16s %-7s %-18s %-18s %8s %6s  %-14s %4s %6s %7s %7s%s\n", style, "mechanism", "epsilon", "certified",
           "rows", "accuracy", "sd", "95 % interval", "runs", "clear", "p cust+", "p paper", plain);
    printf("%-16s %-7s %-18s %-18s %8.4f\n", "majority", "", "", "", e->majority);
    for (size_t i = 0; i < e->count; i++) {
        const line      *l      = &e->lines[i];
        const cmif_cell *c      = &l->cell;
        char             sd[16] = "", p[2][16];
        size_t           old, runs = runs_of(c, &old);
        if (!isnan(c->sd)) {
            snprintf(sd, sizeof sd, "%.4f", c->sd);
        }
        put_p(p[0], sizeof p[0], &l->with[0]);
        put_p(p[1], sizeof p[1], &l->with[1]);
        printf("%-16s %-7s %-18s %-18s %8.4f %6s  [%.3f, %.3f] %4zu %5.1f%% %7s %7s\n", c->arm ? c->arm->name : "clean",
               c->epsilon ? c->epsilon : "", c->arm ? c->blocks[0].certified : "none",
               c->arm ? cmif_rows_kinds[c->rows] : "", c->accuracy, sd, l->interval.low, l->interval.high, runs,
               100 * c->clear, p[0], p[1]);
    }
    printf(
        "%sp: paired t over sentences, all runs of both rows, after Holm; *: McNemar, where both rows have one run%s\n",
        style, plain);
}

/* Share of drawn words that an attacker names: mean over block seeds, and Wilson's interval for the words of one
 * release. */
static double named(const cmif_cell *c, cmif_leak_kind kind, cmif_interval *in)
{
    double sum = 0;
    for (size_t s = 0; s < c->count; s++) {
        sum += c->blocks[s].leak.named[kind] / (double) c->count;
    }
    uint64_t words = c->count ? c->blocks[0].leak.drawn : 0;
    sum            = words ? sum : NAN; /* nothing is drawn, or nothing was attacked */
    *in            = isnan(sum) ? (cmif_interval){NAN, NAN}
                                : cmif_stats_wilson((uint64_t) llround(sum * (double) words), words, CONFIDENCE);
    return sum;
}

/* One line for each table: rows do not matter to who reads words. */
static bool tells_leaks(const evaluation *e, size_t i)
{
    const cmif_cell *c = &e->lines[i].cell, *before = i ? &e->lines[i - 1].cell : NULL;
    return attacks && c->arm && !(before && before->arm == c->arm && before->epsilon == c->epsilon);
}

static void print_leaks(const evaluation *e)
{
    printf("\nnamed, of drawn words, by who knows the table\n%s%-16s %-7s", cmif_style_of(stdout, CMIF_DIM),
           "mechanism", "epsilon");
    for (int kind = 0; kind < CMIF_LEAK_KINDS; kind++) {
        printf(" %-20s", cmif_leak_names[kind]);
    }
    printf(" %6s%s\n", "words", cmif_style_of(stdout, CMIF_PLAIN));
    for (size_t i = 0; i < e->count; i++) {
        const cmif_cell *c = &e->lines[i].cell;
        if (!tells_leaks(e, i)) {
            continue;
        }
        printf("%-16s %-7s", c->arm->name, c->epsilon ? c->epsilon : "");
        for (int kind = 0; kind < CMIF_LEAK_KINDS; kind++) {
            cmif_interval in;
            double        share = named(c, (cmif_leak_kind) kind, &in);
            if (isnan(share)) {
                printf(" %-20s", "-");
            } else {
                printf(" %.3f [%.3f, %.3f]", share, in.low, in.high);
            }
        }
        printf(" %6llu\n", (unsigned long long) c->blocks[0].leak.drawn);
    }
}

static json_t *real_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *line_json(const evaluation *e, const line *l)
{
    const cmif_cell *c    = &l->cell;
    json_t          *runs = json_array(), *tables = json_array();
    for (size_t s = 0; s < c->count; s++) {
        json_t *of = json_array();
        for (size_t r = 0; r < c->blocks[s].count; r++) {
            size_t right = 0;
            for (size_t i = 0; i < e->task.count; i++) {
                right += c->blocks[s].trials[r].labels[i] == e->bench.truth[i];
            }
            json_array_append_new(of, json_real((double) right / (double) e->task.count));
        }
        json_array_append_new(runs, of);
        if (c->arm) {
            json_array_append_new(
                tables, json_pack("{s:s, s:s, s:o, s:o}", "sha256", c->blocks[s].table, "certified",
                                  c->blocks[s].certified, "attack", real_or_null(c->blocks[s].attack), "block_seed",
                                  c->arm->blocks ? json_integer((json_int_t) c->blocks[s].seed) : json_null()));
        }
    }
    json_t *object =
        json_pack("{s:s, s:s?, s:s, s:f, s:o, s:[f, f], s:o, s:f, s:o, s:s?}", "mechanism",
                  c->arm ? c->arm->name : "clean", "epsilon", c->epsilon, "rows", cmif_rows_kinds[c->rows], "accuracy",
                  c->accuracy, "sd", real_or_null(c->sd), "interval", l->interval.low, l->interval.high, "runs", runs,
                  "clear", c->clear, "tables", tables, "about", c->arm ? c->arm->about : NULL);
    for (int kind = 0; object && attacks && c->arm && kind < CMIF_LEAK_KINDS; kind++) {
        cmif_interval in;
        double        share    = named(c, (cmif_leak_kind) kind, &in);
        json_t       *seeds_of = json_array(), *of = kind ? json_object_get(object, "named") : json_object();
        for (size_t s = 0; s < c->count; s++) {
            json_array_append_new(seeds_of, real_or_null(c->blocks[s].leak.named[kind]));
        }
        json_object_set_new(of, cmif_leak_names[kind],
                            json_pack("{s:o, s:[o, o], s:o}", "share", real_or_null(share), "interval",
                                      real_or_null(in.low), real_or_null(in.high), "block_seeds", seeds_of));
        if (!kind) {
            json_object_set_new(object, "named", of);
        }
    }
    for (size_t b = 0; object && b < 2; b++) {
        const compared *with = &l->with[b];
        if (with->there) {
            char name[32];
            snprintf(name, sizeof name, "against_%s", baselines[b]);
            json_object_set_new(
                object, name,
                json_pack("{s:s, s:f, s:f, s:f, s:[f, f]}", "test", with->test.exact ? "mcnemar" : "paired t", "p",
                          with->test.paired.p, "holm_p", with->adjusted, "difference", with->test.paired.difference,
                          "difference_interval", with->test.paired.interval.low, with->test.paired.interval.high));
        }
    }
    return object;
}

static const char *settings(const evaluation *e)
{
    return e->bench.adapted ? "A: trained on what leaves" : "I: trained on clean text; only what is asked is sanitized";
}

static json_t *evaluation_json(const evaluation *e)
{
    char               id[65];
    const cmif_client *c       = cmif_runner_client(e->bench.runner);
    cmif_runner_counts n       = cmif_bench_totals(&e->bench);
    json_t            *results = json_array(), *numbers = json_array();
    for (size_t i = 0; i < 32; i++) {
        snprintf(id + 2 * i, 3, "%02x", c->model_id[i]);
    }
    for (size_t i = 0; i < e->count; i++) {
        json_array_append_new(results, line_json(e, &e->lines[i]));
    }
    for (uint32_t i = 1; i <= block_seeds; i++) {
        json_array_append_new(numbers, json_integer(i));
    }
    const char *name = strrchr(e->path, '/');
    return json_pack(
        "{s:s, s:b, s:s, s:I, s:{s:s%, s:s}, s:f, s:{s:I, s:s}, s:o, s:o, s:{s:f, s:f, s:f, s:f, s:f}, s:{s:I, s:I}}",
        "task", final_path ? (name ? name + 1 : e->path) : e->path, "final", final_path != NULL, "setting", settings(e),
        "examples", (json_int_t) e->task.count, "model", "name", c->name.data, c->name.size, "id", id, "majority",
        e->majority, "noise", "runs", (json_int_t) seeds, "source", "the shipped generator, which takes no seed",
        "block_seeds", numbers, "results", results, "seconds", "evaluating", e->seconds, "building", e->tables.seconds,
        "sanitizing", e->bench.release_seconds, "rows", n.rows_seconds, "encoding", n.encode_seconds, "texts", "sent",
        (json_int_t) n.texts, "computed", (json_int_t) n.computed);
}

/* ---- goals ---- */

/* What was not measured was not met. */
static void goal(evaluation *e, const char *what, double found, bool at_least, double bound)
{
    bool met = at_least ? found >= bound : found <= bound; /* false for NAN */
    char figure[32];
    snprintf(figure, sizeof figure, isnan(found) ? "not measured" : "%.4g", found);
    e->met = e->met && met;
    printf("goal: %-64s %12s, %s %.4g  %s\n", what, figure, at_least ? "at least" : "at most", bound,
           met ? "met" : "NOT MET");
    json_array_append_new(e->goals, json_pack("{s:s, s:o, s:s, s:f, s:b}", "goal", what, "found", real_or_null(found),
                                              "is", at_least ? "at least" : "at most", "bound", bound, "met", met));
}

static double accuracy_of(const line *l)
{
    return l ? l->cell.accuracy : NAN;
}

static double named_of(const line *l, cmif_leak_kind kind)
{
    cmif_interval in;
    return l ? named(&l->cell, kind, &in) : NAN;
}

/* Of the worst of its tables; NAN: of one nothing is certified. */
static double certified_of(const line *l)
{
    double most = l ? 0 : NAN;
    for (size_t s = 0; l && s < l->cell.count; s++) {
        char  *end;
        double value = strtod(l->cell.blocks[s].certified, &end);
        if (end == l->cell.blocks[s].certified || strstr(end, "unclaimed")) {
            return NAN;
        }
        most = fmax(most, value);
    }
    return most;
}

/* Against custext+ and paper, as they are published, at epsilon 1. */
static void goals_of(evaluation *e, const char *name, const line *cust, const line *paper)
{
    const line *us = find_line(e, name, "1", CMIF_EVAL_BAYES);
    char        what[128];
#define GOAL(found, at_least, bound, ...)                                                                              \
    (snprintf(what, sizeof what, __VA_ARGS__), goal(e, what, found, at_least, bound))
    GOAL(certified_of(us), false, 1, "%s: certified epsilon", name);
    GOAL(accuracy_of(us) - accuracy_of(cust), true, 0.10, "%s, Bayes rows: accuracy over custext+", name);
    GOAL(us && us->with[0].there ? us->with[0].adjusted : NAN, false, 0.01, "%s, Bayes rows: p against custext+", name);
    GOAL(accuracy_of(us) - accuracy_of(paper), true, 0, "%s, Bayes rows: accuracy over paper", name);
    GOAL(us && us->with[1].there ? us->with[1].adjusted : NAN, false, 0.01, "%s, Bayes rows: p against paper", name);
    for (int kind = 0; kind < CMIF_LEAK_KINDS; kind++) {
        const cmif_leak_kind of     = (cmif_leak_kind) kind;
        const double         theirs = fmin(named_of(cust, of), named_of(paper, of)); /* of who leaks less */
        GOAL(named_of(us, of) - theirs, false, 0.05, "%s: attack over theirs, %s", name, cmif_leak_names[kind]);
    }
    GOAL(accuracy_of(us), true, 0.855, "%s, Bayes rows: accuracy", name);
}

/* A point of the front: rows in context, in domain, as the study had it. */
static void goals_of_front(evaluation *e, const char *name, double accuracy, double hmm, double unigram)
{
    const line *us = find_line(e, name, NULL, CMIF_EVAL_CONTEXT_IN);
    char        what[128];
    GOAL(accuracy_of(us), true, accuracy, "%s, rows in context, in domain: accuracy", name);
    GOAL(named_of(us, CMIF_LEAK_HMM_IN), false, hmm, "%s: hmm, in domain", name);
    GOAL(named_of(us, CMIF_LEAK_UNIGRAM), false, unigram, "%s: unigram", name);
#undef GOAL
}

/* The arm in blocks that are made for this classifier, where it was measured. */
static const char *ours(evaluation *e, const char *own, const char *name)
{
    return find_line(e, own, NULL, CMIF_EVAL_BAYES) || find_line(e, own, "1", CMIF_EVAL_BAYES) ? own : name;
}

static void check_goals(evaluation *e)
{
    const char *rnm = ours(e, "rnm-own", "rnm"), *general = ours(e, "general-k20-own", "general-k20");
    const line *bayes = find_line(e, rnm, "1", CMIF_EVAL_BAYES);
    char        what[64];
    putchar('\n');
    if (e->bench.adapted) {
        const line *santext = find_line(e, "santext", "1", CMIF_EVAL_PLAIN);
        snprintf(what, sizeof what, "%s, Bayes rows, setting A: accuracy", rnm);
        goal(e, what, accuracy_of(bayes), true, 0.87);
        snprintf(what, sizeof what, "%s, Bayes rows, setting A: accuracy", general);
        goal(e, what, accuracy_of(find_line(e, general, NULL, CMIF_EVAL_BAYES)), true, 0.87);
        const char *full = ours(e, "full-in", "full");
        snprintf(what, sizeof what, "%s, everything protected, setting A: accuracy", full);
        goal(e, what, accuracy_of(find_line(e, full, "1", CMIF_EVAL_BAYES)), true, 0.62);
        goal(e, "santext is at chance there: low end of its interval", santext ? santext->interval.low : NAN, false,
             e->majority);
        return;
    }
    const line *paper = find_line(e, "paper", "1", CMIF_EVAL_PLAIN),
               *cust  = find_line(e, "custext+", "1", CMIF_EVAL_PLAIN);
    goals_of(e, rnm, cust, paper);
    goals_of(e, general, cust, paper);
    goal(e, "rnm, Bayes rows: accuracy over its own text",
         accuracy_of(find_line(e, "rnm", "1", CMIF_EVAL_BAYES)) -
             accuracy_of(find_line(e, "rnm", "1", CMIF_EVAL_PLAIN)),
         true, 0.06);
    goals_of_front(e, ours(e, "general-k100-own", "general-k100"), 0.86, 0.36, 0.23);
    goals_of_front(e, ours(e, "general-k200-own", "general-k200"), 0.845, 0.29, 0.16);
}

/* ---- the report ---- */

/* Closed form, unigram prior, averaged over block seeds. */
static double attack_of(const cmif_cell *c)
{
    double attack = 0;
    for (size_t s = 0; s < c->count; s++) {
        attack += c->blocks[s].attack / (double) c->count;
    }
    return attack;
}

/* Share of sanitizing in the time of the answers, which all servers give at once. */
static double overhead(const evaluation *e)
{
    return e->bench.send_seconds > 0
               ? e->bench.release_seconds / (e->bench.send_seconds * cmif_bench_totals(&e->bench).servers)
               : 0;
}

/* Accuracy against one attack: a series for ours with each kind of rows that is worth while, and one for each of the
 * mechanisms beside it that are nearest: as many as a plot can tell apart. At the first epsilon. NULL: nothing to draw.
 */
static json_t *frontier_json(const evaluation *e, cmif_leak_kind kind)
{
    static const struct {
        const char    *name, *end, *series; /* of ours K is between the two */
        cmif_rows_kind rows;
    } drawn[] = {
        {"general-k", "", "general, Bayes rows", CMIF_EVAL_BAYES},
        {"general-k", "", "general, rows in context, in domain", CMIF_EVAL_CONTEXT_IN},
        {"general-k", "-own", "general-own, Bayes rows", CMIF_EVAL_BAYES},
        {"general-k", "-own", "general-own, rows in context, in domain", CMIF_EVAL_CONTEXT_IN},
        {"custext+", "", "custext+", CMIF_EVAL_PLAIN},
        {"paper", "", "paper", CMIF_EVAL_PLAIN},
        {"rnm", "", "rnm, Bayes rows", CMIF_EVAL_BAYES},
        {"subset", "", "subset, Bayes rows", CMIF_EVAL_BAYES},
    };
    json_t *series = json_array();
    for (size_t d = 0; d < sizeof drawn / sizeof *drawn; d++) {
        const bool ours   = drawn[d].name[strlen(drawn[d].name) - 1] == 'k';
        json_t    *points = json_array(), *labels = json_array(), *marked = json_array();
        for (size_t i = 0; i < e->count; i++) {
            const cmif_cell *c    = &e->lines[i].cell;
            const char      *name = c->arm ? c->arm->name : "";
            int              k = 0, used = 0; /* of general-kK: all of name is used, but for the end */
            cmif_interval    in;
            double           share = named(c, kind, &in);
            if (c->rows != drawn[d].rows || (c->epsilon && c->epsilon != e->epsilon[0]) || isnan(share) ||
                (ours ? sscanf(name, "general-k%d%n", &k, &used) != 1 || strcmp(name + used, drawn[d].end) != 0
                      : strncmp(name, drawn[d].name, strlen(drawn[d].name)) != 0 ||
                            (name[strlen(drawn[d].name)] && strcmp(name + strlen(drawn[d].name), "-own") != 0))) {
                continue;
            }
            if (!strcmp(name, "general-k100")) {
                json_array_append_new(marked, json_integer((json_int_t) json_array_size(points)));
            }
            char label[16];
            snprintf(label, sizeof label, ours ? "K %d" : strstr(name, "-own") ? "own" : "", k);
            json_array_append_new(labels, json_string(label));
            json_array_append_new(points, json_pack("[f, f, f, f]", share, c->accuracy, e->lines[i].interval.low,
                                                    e->lines[i].interval.high));
        }
        if (json_array_size(points)) {
            json_array_append_new(series, json_pack("{s:s, s:O, s:O, s:O}", "name", drawn[d].series, "points", points,
                                                    "labels", labels, "marked", marked));
        }
        json_decref(points);
        json_decref(labels);
        json_decref(marked);
    }
    if (!json_array_size(series)) {
        json_decref(series);
        return NULL;
    }
    char heading[96], label[96];
    snprintf(heading, sizeof heading, "The front: accuracy against %s",
             kind == CMIF_LEAK_HMM_IN ? "the best attacker" : "a word by itself");
    snprintf(label, sizeof label, "drawn words named, %s", cmif_leak_names[kind]);
    return json_pack("{s:s, s:{s:s, s:{s:s}, s:{s:s}, s:o, s:s}}", "heading", heading, "plot", "kind", "scatter", "x",
                     "label", label, "y", "label", "accuracy", "series", series, "caption",
                     kind == CMIF_LEAK_HMM_IN
                         ? "Up and left is better. This attacker knows the table and text of the same kind, and reads "
                           "whole sentences. "
                           "Ringed: the default profile."
                         : "The same, by who knows the table and how frequent words are, and sees one word.");
}

static json_t *leaks_json(const evaluation *e)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < e->count; i++) {
        const cmif_cell *c = &e->lines[i].cell;
        if (!tells_leaks(e, i)) {
            continue;
        }
        json_t *row = json_pack("[s, s]", c->arm->name, c->epsilon ? c->epsilon : "");
        for (int kind = 0; kind < CMIF_LEAK_KINDS; kind++) {
            cmif_interval in;
            char          note[32];
            double        share = named(c, (cmif_leak_kind) kind, &in);
            snprintf(note, sizeof note, "%.3f to %.3f", in.low, in.high);
            json_array_append_new(row,
                                  isnan(share) ? json_null() : json_pack("{s:f, s:s}", "text", share, "note", note));
        }
        json_array_append_new(rows, row);
    }
    return json_pack("{s:s, s:[s], s:{s:[s,s,s,s,s,s], s:s, s:o, s:s}}", "heading", "What an attacker names", "text",
                     "Share of the drawn words that are named, whatever rows are sent: by a word itself and its "
                     "frequency (the table's "
                     "prior; text of the same kind), and by the whole sentence (forward-backward with bigrams of other "
                     "text; of text of the same kind, too). "
                     "The last one is the one to read.",
                     "table", "columns", "mechanism", "epsilon", cmif_leak_names[0], cmif_leak_names[1],
                     cmif_leak_names[2], cmif_leak_names[3], "align", "llrrrr", "rows", rows, "caption",
                     "Means over block seeds and releases; 95 % Wilson intervals for the words of one release.");
}

static json_t *report_json(const evaluation *e)
{
    char    date[16], facts[6][192];
    time_t  t    = time(NULL);
    json_t *rows = json_array(), *points[3] = {json_array(), json_array(), json_array()}, *about = json_array();
    json_t *marked[3] = {json_array(), json_array(), json_array()}; /* our default profile */
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&t));
    cmif_runner_counts n = cmif_bench_totals(&e->bench);

    json_array_append_new(
        rows, json_pack("[s, s, s, s, f, n, s, s, n, n, n]", "majority", "", "", "", e->majority, "", "", ""));
    for (size_t i = 0; i < e->count; i++) {
        const line      *l = &e->lines[i];
        const cmif_cell *c = &l->cell;
        char             interval[32], clear[16], p[2][16];
        snprintf(interval, sizeof interval, "%.3f to %.3f", l->interval.low, l->interval.high);
        snprintf(clear, sizeof clear, "%.1f %%", 100 * c->clear);
        put_p(p[0], sizeof p[0], &l->with[0]);
        put_p(p[1], sizeof p[1], &l->with[1]);
        json_array_append_new(rows, json_pack("[s, s, s, s, f, o, s, s, o, s, s]", c->arm ? c->arm->name : "clean",
                                              c->epsilon ? c->epsilon : "", c->arm ? c->blocks[0].certified : "none",
                                              c->arm ? cmif_rows_kinds[c->rows] : "", c->accuracy, real_or_null(c->sd),
                                              interval, clear, c->arm ? real_or_null(attack_of(c)) : json_null(), p[0],
                                              p[1]));
        if (c->arm && !isnan(attack_of(c))) {
            size_t which = c->rows == CMIF_EVAL_PLAIN ? 0 : c->rows == CMIF_EVAL_BAYES ? 1 : 2;
            if (!strcmp(c->arm->name, "general-k100")) {
                json_array_append_new(marked[which], json_integer((json_int_t) json_array_size(points[which])));
            }
            json_array_append_new(
                points[which], json_pack("[f, f, f, f]", attack_of(c), c->accuracy, l->interval.low, l->interval.high));
        }
        if (c->arm && (!i || e->lines[i - 1].cell.arm != c->arm)) {
            json_array_append_new(about, json_pack("[s, s]", c->arm->name, c->arm->about));
        }
    }
    json_t                  *series  = json_array();
    static const char *const names[] = {"plain rows", "Bayes rows", "rows in context"};
    for (size_t i = 0; i < 3; i++) {
        if (json_array_size(points[i])) {
            json_array_append_new(
                series, json_pack("{s:s, s:O, s:O}", "name", names[i], "points", points[i], "marked", marked[i]));
        }
        json_decref(points[i]);
        json_decref(marked[i]);
    }
    snprintf(facts[0], sizeof facts[0], "%zu%s", e->task.count, final_path ? "; a TEST SPLIT, read with --final" : "");
    snprintf(facts[1], sizeof facts[1], "%u for what draws noise; the generator takes no seed", seeds);
    snprintf(facts[2], sizeof facts[2], "1 to %u", block_seeds);
    snprintf(facts[3], sizeof facts[3], "%.0f s evaluating, %.0f s building tables", e->seconds, e->tables.seconds);
    snprintf(facts[5], sizeof facts[5], "%s%s", settings(e),
             e->bench.train ? "; a linear head over frozen vectors" : "");
    if (n.texts) {
        snprintf(facts[4], sizeof facts[4],
                 "%.0f us a text for sanitizing, %.2f %% of the time of its answer (the paper: 0.6 to 0.74 %%); %.0f "
                 "us for rows",
                 1e6 * e->bench.release_seconds / (double) (e->bench.released ? e->bench.released : 1),
                 100 * overhead(e), 1e6 * n.rows_seconds / (double) n.texts);
    } else {
        snprintf(facts[4], sizeof facts[4], "not measured: all runs are of earlier commands");
    }
    json_t *first = json_pack(
        "{s:s, s:[s], s:{s:[s,s,s,s,s,s,s,s,s,s,s], s:s, s:o, s:s}}", "heading", "Accuracy", "text",
        "p: against the baseline (its plain rows) at the same epsilon, after Holm's correction for all that are shown; "
        "by a "
        "paired t test over sentences of the shares of runs that were right, all seeds of noise and blocks alike. "
        "*: both rows have one run, and McNemar's exact test compares them.",
        "table", "columns", "mechanism", "epsilon", "certified", "rows", "accuracy", "sd", "95 % interval", "in clear",
        "attack", "p, custext+", "p, paper", "align", "llllrrrrrrr", "rows", rows, "caption",
        "In clear: share of words that leave as they are. Attack: share of drawn words that are named by who knows "
        "table and "
        "prior and sees one word (closed form).");
    json_t *sections = json_pack("[o]", first);
    if (attacks) {
        json_t *front[] = {frontier_json(e, CMIF_LEAK_HMM_IN), frontier_json(e, CMIF_LEAK_UNIGRAM), leaks_json(e)};
        for (size_t i = 0; i < sizeof front / sizeof *front; i++) {
            json_array_append_new(sections, front[i]); /* NULL is refused */
        }
        json_decref(series);
    } else if (json_array_size(series)) {
        json_array_append_new(sections, json_pack("{s:s, s:{s:s, s:{s:s}, s:{s:s}, s:o, s:s}}", "heading",
                                                  "Accuracy against attack", "plot", "kind", "scatter", "x", "label",
                                                  "words named from one released word", "y", "label", "accuracy",
                                                  "series", series, "caption",
                                                  "Ringed: the default profile. This attacker sees one word and knows "
                                                  "no language; 'cmif leak-test' has stronger ones."));
    } else {
        json_decref(series);
    }
    json_array_append_new(sections,
                          json_pack("{s:s, s:{s:[s,s], s:s, s:o}}", "heading", "What each mechanism follows", "table",
                                    "columns", "mechanism", "what it is", "align", "ll", "rows", about));
    return json_pack("{s:s, s:s, s:s, s:[[s,s],[s,s],[s,s],[s,s],[s,s],[s,s]], s:o}", "title",
                     "What is left of the task", "made", date, "command", e->command, "facts", "setting", facts[5],
                     "examples", facts[0], "runs", facts[1], "block seeds", facts[2], "time", facts[3], "cost",
                     facts[4], "sections", sections);
}

cmif_code cmif_eval_write(const char *json, json_t *figures, const char *report, json_t *page, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (json && (!figures || json_dump_file(figures, json, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%.150s': is there such a folder, and room on the disk?", json);
    }
    if (rc == CMIF_OK && report) {
        rc = page ? cmif_report_write(page, report, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for the report");
    }
    json_decref(figures);
    json_decref(page);
    return rc;
}

static cmif_code write_out(const evaluation *e, cmif_err *err)
{
    json_t *figures = json_path ? evaluation_json(e) : NULL;
    if (figures && e->goals) {
        json_object_set(figures, "goals", e->goals);
    }
    return cmif_eval_write(json_path, figures, report_path, report_path ? report_json(e) : NULL, err);
}

static void print_time(const evaluation *e)
{
    cmif_runner_counts n     = cmif_bench_totals(&e->bench);
    double             texts = (double) (n.texts ? n.texts : 1);
    size_t             runs = 0, old = 0;
    for (size_t i = 0; i < e->count; i++) {
        size_t before;
        runs += runs_of(&e->lines[i].cell, &before);
        old += before;
    }
    printf("\nsetting %s%s\n", settings(e), e->bench.train ? "; a linear head over frozen vectors" : "");
    printf("%zu runs of %zu examples, %zu of them from earlier commands; %.0f s, and %.0f s for building %u tables\n",
           runs, e->task.count, old, e->seconds, e->tables.seconds, e->tables.made);
    if (n.texts) {
        printf("%llu texts, %llu of them computed; a text takes %.0f us to sanitize, %.2f %% of the time of its "
               "answer (the paper: 0.6 to 0.74 %%), and %.0f us to make rows of\n",
               (unsigned long long) n.texts, (unsigned long long) n.computed,
               1e6 * e->bench.release_seconds / (double) (e->bench.released ? e->bench.released : 1), 100 * overhead(e),
               1e6 * n.rows_seconds / texts);
    }
}

/* Which file is the task, and which model does it by default. */
static cmif_code choose(evaluation *e, const char *name, char chosen[static PATH_MAX], cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (final_path || strchr(name, '.')) {
        snprintf(e->path, sizeof e->path, "%s", final_path ? final_path : name);
    } else {
        rc = cmif_tables_data(&e->tables, one_file(name) ? one_file(name) : "sst2/dev.tsv", e->path, err);
    }
    int size = model ? snprintf(chosen, PATH_MAX, "%s", model)
               : one_file(name)
                   ? snprintf(chosen, PATH_MAX, "minilm")
                   : snprintf(chosen, PATH_MAX, "%s/../models/minilm-sst2/minilm-sst2-f16.gguf", e->tables.data);
    return rc == CMIF_OK && size >= PATH_MAX ? cmif_fail(err, CMIF_E_RANGE, "--model is too long") : rc;
}

/* Neither classification nor anything beside it that a table of mechanisms is made of. */
static bool has_own_runner(const char *task)
{
    return cmif_eval_is_text(task) || !strcmp(task, "similarity") || !strcmp(task, "stand-in");
}

static cmif_code check_arguments(evaluation *e, int count, char **argv, cmif_err *err)
{
    if (count != 1 && !(count == 2 && !strcmp(argv[0], "similarity"))) {
        return cmif_fail(err, CMIF_E_RANGE, "which task? eval takes one: " TASKS);
    }
    if (strcmp(argv[0], "sst2") != 0 && !one_file(argv[0]) && !has_own_runner(argv[0]) && !strchr(argv[0], '.')) {
        return cmif_fail(err, CMIF_E_RANGE, "there is no such task: eval takes " TASKS);
    }
    if (strcmp(setting, "I") != 0 && strcmp(setting, "A") != 0) {
        return cmif_fail(err, CMIF_E_RANGE, "--setting takes I (trained on clean text) or A (on what leaves)");
    }
    if (tuned && (export_path || strcmp(setting, "A") != 0)) {
        return cmif_fail(err, CMIF_E_RANGE, "--tuned goes with --setting A, and without --export");
    }
    if (one_file(argv[0]) && (final_path || train_path)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "%s is one file, of which every fifth example is for testing: leave out --%s", argv[0],
                         final_path ? "final" : "train");
    }
    if ((cmif_eval_is_text(argv[0]) || !strcmp(argv[0], "similarity")) &&
        (final_path || train_path || export_path || strcmp(setting, "I") != 0)) {
        return cmif_fail(err, CMIF_E_RANGE, "%s trains nothing: leave out --final, --train, --export and --setting",
                         argv[0]);
    }
    if (policies && !cmif_eval_is_text(argv[0])) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--policy is for xsum, chat and sst2-zero-shot; --mechanisms is for the others");
    }
    if ((attacks || goals) && has_own_runner(argv[0])) {
        return cmif_fail(err, CMIF_E_RANGE, "--attacks and --goals are for a task of labels, such as sst2");
    }
    cmif_code rc = check_mechanisms(err);
    return rc == CMIF_OK ? read_epsilons(e, err) : rc;
}

int cmif_eval(int argc, char **argv)
{
    static evaluation e;
    char              chosen[PATH_MAX];
    cmif_err          err  = {0};
    int               rest = 0, exit_code;

    size_t used = (size_t) snprintf(e.command, sizeof e.command, "cmif eval");
    for (int i = 0; i < argc && used < sizeof e.command; i++) {
        used += (size_t) snprintf(e.command + used, sizeof e.command - used, " %s", argv[i]);
    }
    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    rc           = rc == CMIF_OK ? check_arguments(&e, rest, argv, &err) : rc;
    seeds        = seeds ? seeds : export_path ? 1 : 5; /* releases of each text that is exported */
    if (rc != CMIF_OK) {
        exit_code = cmif_report_usage(&err);
        goto done;
    }
    if (has_own_runner(argv[0])) {
        const cmif_eval_options o = {.model         = model,
                                     .data          = data,
                                     .policies      = policies,
                                     .mechanisms    = mechanisms,
                                     .json          = json_path,
                                     .report        = report_path,
                                     .epsilon       = e.epsilon,
                                     .epsilon_count = e.epsilon_count,
                                     .limit         = limit,
                                     .threads       = threads,
                                     .seeds         = seeds,
                                     .block_seeds   = block_seeds,
                                     .again         = again};
        exit_code                 = cmif_eval_is_text(argv[0])     ? cmif_eval_text(argv[0], &o)
                                    : !strcmp(argv[0], "stand-in") ? cmif_eval_stand_in(&o)
                                                                   : cmif_eval_similarity(rest > 1 ? argv[1] : NULL, &o);
        goto done;
    }
    attacks = attacks || goals;
    e.met   = true;
    e.goals = goals ? json_array() : NULL;
    e.lines = calloc(CELLS_MAX, sizeof *e.lines);
    rc      = e.lines ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for the table");
    rc      = rc == CMIF_OK ? cmif_tables_open(data, &e.tables, &err) : rc;
    rc      = rc == CMIF_OK ? choose(&e, argv[0], chosen, &err) : rc;
    snprintf(e.tables.model, sizeof e.tables.model, "%s", chosen);
    e.bench = (cmif_bench){.tables = &e.tables, .again = again, .threads = threads};
    rc      = rc == CMIF_OK ? cmif_runner_open(chosen, threads, &e.bench.runner, &err) : rc;
    rc      = rc == CMIF_OK ? model_labels(&e, &err) : rc;
    rc      = rc == CMIF_OK ? open_task(&e, argv[0], &err) : rc;
    if (rc == CMIF_OK) {
        plan(&e);
        rc = tuned ? leave_out(&e, &err) : CMIF_OK;
        rc = rc != CMIF_OK ? rc : export_path ? export_rows(&e, argv[0], &err) : measure(&e, &err);
    }
    if (rc == CMIF_OK && !export_path) {
        print_table(&e);
        if (attacks) {
            print_leaks(&e);
        }
        if (!cmif_quiet) {
            print_time(&e);
        }
        if (goals) {
            check_goals(&e);
        }
        rc = write_out(&e, &err);
    }
    cmif_status(NULL);
    exit_code = rc != CMIF_OK ? cmif_report(&err) : e.met ? CMIF_EXIT_OK : CMIF_EVAL_NOT_MET;
done:
    for (size_t i = 0; e.lines && i < e.count; i++) {
        cmif_cell_wipe(&e.lines[i].cell);
    }
    if (one_file(rest ? argv[0] : NULL)) { /* else parts are the whole */
        free(e.task.examples);
        free(e.train.examples);
    }
    free(e.lines);
    free(e.labels);
    free(e.bench.truth);
    free(e.bench.train_truth);
    free(e.epsilon_text);
    json_decref(e.goals);
    cmif_leaks_wipe(&e.leaks);
    cmif_linear_free(e.bench.head);
    cmif_task_wipe(&e.whole);
    cmif_task_wipe(&e.other);
    cmif_runner_close(e.bench.runner);
    return exit_code;
}
