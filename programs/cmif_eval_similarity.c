/* `cmif eval similarity`: do vectors of what leaves order pairs of texts as vectors of the texts do? */
#include "cmif_eval.h"

#include "cells.h"
#include "cmif_client.h"
#include "pairs.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS_MAX = 128, PAIRS = 1000 };

typedef struct similarity {
    const cmif_eval_options *options;
    cmif_bench               bench;
    cmif_tables              tables;
    cmif_task                task;
    cmif_cell                cells[ROWS_MAX];
    cmif_interval            intervals[ROWS_MAX];
    size_t                   count;
    char                     path[PATH_MAX];
} similarity;

/* The text as it is, then each mechanism at each epsilon with plain and with Bayes rows. */
static cmif_code plan(similarity *s, cmif_err *err)
{
    const cmif_eval_options *o    = s->options;
    const char              *list = o->mechanisms ? o->mechanisms
                                                  : "control,custext+,paper,rnm,full,general-k20,"
                                                    "general-k20-v0,general-k100,general-k200";
    s->count                      = 1;
    for (size_t a = 0; a < cmif_arm_count; a++) {
        const cmif_arm *arm = &cmif_arms[a];
        if (strcmp(list, "all") != 0 ? !cmif_eval_in_list(list, arm->name) : arm->in_doubt) {
            continue;
        }
        for (size_t i = 0; i < (arm->epsilon ? o->epsilon_count : 1); i++) {
            for (int r = CMIF_EVAL_PLAIN; r <= CMIF_EVAL_BAYES; r++) {
                if (!(arm->rows >> r & 1)) {
                    continue;
                }
                if (s->count == ROWS_MAX) {
                    return cmif_fail(err, CMIF_E_RANGE, "more than %d rows: name fewer mechanisms or epsilons",
                                     ROWS_MAX);
                }
                s->cells[s->count++] =
                    (cmif_cell){.arm = arm, .epsilon = arm->epsilon ? o->epsilon[i] : NULL, .rows = (cmif_rows_kind) r};
            }
        }
    }
    return CMIF_OK;
}

static cmif_code measure(similarity *s, cmif_err *err)
{
    cmif_code rc = cmif_bench_name(&s->bench, err);
    for (size_t i = 0; rc == CMIF_OK && i < s->count; i++) {
        cmif_cell *c    = &s->cells[i];
        rc              = cmif_cell_run(&s->bench, c, s->options->block_seeds, s->options->seeds, err);
        rc              = rc == CMIF_OK ? cmif_cell_sum(&s->bench, c, err) : rc;
        s->bench.clean  = rc == CMIF_OK ? s->cells[0].blocks[0].trials[0].cosines : NULL;
        s->intervals[i] = cmif_pair_interval(c->accuracy, s->task.count);
    }
    cmif_status(NULL);
    return rc;
}

/* ---- what is said ---- */

static size_t runs_of(const cmif_cell *c, size_t *before)
{
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        count += c->blocks[i].count;
        *before += c->blocks[i].from_before;
    }
    return count;
}

static json_t *real_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static void print_table(const similarity *s)
{
    size_t before = 0, runs = 0;
    printf("%s%-16s %-7s %-18s %-6s %8s %6s  %-14s %4s %6s%s\n", cmif_style_of(stdout, CMIF_DIM), "mechanism",
           "epsilon", "certified", "rows", "Spearman", "sd", "95 % interval", "runs", "clear",
           cmif_style_of(stdout, CMIF_PLAIN));
    for (size_t i = 0; i < s->count; i++) {
        const cmif_cell *c      = &s->cells[i];
        char             sd[16] = "";
        size_t           n      = runs_of(c, &before);
        runs += n;
        if (!isnan(c->sd)) {
            snprintf(sd, sizeof sd, "%.4f", c->sd);
        }
        printf("%-16s %-7s %-18s %-6s %8.4f %6s  [%.3f, %.3f] %4zu %5.1f%%\n", c->arm ? c->arm->name : "clean",
               c->epsilon ? c->epsilon : "", c->arm ? c->blocks[0].certified : "none",
               c->arm ? cmif_rows_kinds[c->rows] : "", c->accuracy, sd, s->intervals[i].low, s->intervals[i].high, n,
               100 * c->clear);
    }
    if (!cmif_quiet) {
        printf("\n%zu pairs; %zu runs, %zu of them from earlier commands\n", s->task.count, runs, before);
    }
}

static json_t *figures(const similarity *s)
{
    json_t *results = json_array();
    for (size_t i = 0; i < s->count; i++) {
        const cmif_cell *c      = &s->cells[i];
        size_t           before = 0;
        json_array_append_new(results,
                              json_pack("{s:s, s:s?, s:s, s:s, s:o, s:o, s:[f, f], s:I, s:o}", "mechanism",
                                        c->arm ? c->arm->name : "clean", "epsilon", c->epsilon, "rows",
                                        cmif_rows_kinds[c->rows], "certified", c->arm ? c->blocks[0].certified : "none",
                                        "spearman", real_or_null(c->accuracy), "sd", real_or_null(c->sd), "interval",
                                        s->intervals[i].low, s->intervals[i].high, "runs",
                                        (json_int_t) runs_of(c, &before), "clear", real_or_null(c->clear)));
    }
    const char *name = strrchr(s->path, '/');
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "task", "similarity", "pairs", name ? name + 1 : s->path, "examples",
                     (json_int_t) s->task.count, "block_seeds", (json_int_t) s->options->block_seeds, "results",
                     results);
}

static json_t *document(const similarity *s)
{
    char    date[16], facts[64];
    time_t  now  = time(NULL);
    json_t *rows = json_array(), *points = json_array();
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    snprintf(facts, sizeof facts, "%zu", s->task.count);
    for (size_t i = 0; i < s->count; i++) {
        const cmif_cell *c = &s->cells[i];
        char             clear[16], name[64];
        snprintf(clear, sizeof clear, "%.1f %%", 100 * c->clear);
        snprintf(name, sizeof name, "%s%s%s%s%s", c->arm ? c->arm->name : "clean", c->epsilon ? ", " : "",
                 c->epsilon ? c->epsilon : "", c->arm ? ", " : "", c->arm ? cmif_rows_kinds[c->rows] : "");
        json_array_append_new(rows, json_pack("[s, s, s, s, o, o, s]", c->arm ? c->arm->name : "clean",
                                              c->epsilon ? c->epsilon : "", c->arm ? c->blocks[0].certified : "none",
                                              c->arm ? cmif_rows_kinds[c->rows] : "", real_or_null(c->accuracy),
                                              real_or_null(c->sd), clear));
        if (!isnan(c->accuracy)) {
            json_array_append_new(
                points, json_pack("[s, f, f, f]", name, c->accuracy, s->intervals[i].low, s->intervals[i].high));
        }
    }
    return json_pack("{s:s, s:s, s:s, s:[[s, s]], s:[{s:s, s:{s:[s,s,s,s,s,s,s], s:s, s:o, s:s}, s:{s:s, s:{s:s}, "
                     "s:{s:s}, s:[{s:s, s:o}]}}]}",
                     "title", "What is left of similarity", "made", date, "command", "cmif eval similarity", "facts",
                     "pairs", facts, "sections", "heading", "Order of pairs", "table", "columns", "mechanism",
                     "epsilon", "certified", "rows", "Spearman", "sd", "in clear", "align", "llllrrr", "rows", rows,
                     "caption", "Rank correlation of the cosines of pairs, of what leaves with the text as it is.",
                     "plot", "kind", "bars", "x", "label", "mechanism", "y", "label", "Spearman's correlation",
                     "series", "name", "with 95 % interval", "points", points);
}

static cmif_code write_out(const similarity *s, cmif_err *err)
{
    const cmif_eval_options *o = s->options;
    return cmif_eval_write(o->json, o->json ? figures(s) : NULL, o->report, o->report ? document(s) : NULL, err);
}

int cmif_eval_similarity(const char *file, const cmif_eval_options *o)
{
    static similarity s;
    cmif_err          err = {0};
    s                     = (similarity){.options = o};
    cmif_code rc          = plan(&s, &err);
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    snprintf(s.path, sizeof s.path, "%s", file ? file : "");
    rc = cmif_tables_open(o->data, &s.tables, &err);
    rc = rc == CMIF_OK && !file ? cmif_tables_data(&s.tables, "mrpc/train.tsv", s.path, &err) : rc;
    rc = rc == CMIF_OK ? cmif_task_open(s.path, o->limit ? o->limit : PAIRS, 1, &s.task, &err) : rc;
    if (rc == CMIF_OK && (s.task.count < 4 || !s.task.examples[0].second)) {
        rc = cmif_fail(&err, CMIF_E_FORMAT, "'%.150s' is no file of four pairs and more: text TAB text TAB label",
                       s.path);
    }
    s.bench = (cmif_bench){.tables     = &s.tables,
                           .task       = &s.task,
                           .truth      = rc == CMIF_OK ? calloc(s.task.count, 1) : NULL, /* no label is looked at */
                           .again      = o->again,
                           .threads    = o->threads,
                           .similarity = true};
    if (rc == CMIF_OK && !s.bench.truth) {
        rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for %zu pairs", s.task.count);
    }
    rc = rc == CMIF_OK ? cmif_runner_open(o->model ? o->model : "minilm", o->threads, &s.bench.runner, &err) : rc;
    rc = rc == CMIF_OK ? measure(&s, &err) : rc;
    if (rc == CMIF_OK) {
        print_table(&s);
        rc = write_out(&s, &err);
    }
    int exit_code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
    for (size_t i = 0; i < s.count; i++) {
        cmif_cell_wipe(&s.cells[i]);
    }
    free(s.bench.truth);
    cmif_task_wipe(&s.task);
    cmif_runner_close(s.bench.runner);
    return exit_code;
}
