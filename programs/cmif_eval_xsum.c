/* `cmif eval xsum`: what is left of a summary when the article goes through a policy. */
#include "cmif_eval.h"

#include "cmif_client.h"
#include "report.h"
#include "stats.h"
#include "summarize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLICIES_MAX = 8, ARTICLES = 20, KINDS = 4 };
#define CONFIDENCE 0.95

static const char *const kinds[KINDS] = {"ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"};

static double f1_of(const cmif_rouge *s, size_t kind)
{
    const cmif_rouge_score *const of[KINDS] = {&s->one, &s->two, &s->l, &s->lsum};
    return of[kind]->f1;
}

typedef struct summed { /* over the articles that both this policy and the first one have */
    double          mean[KINDS];
    cmif_difference from_first[KINDS];
    size_t          count;
} summed;

static cmif_code sum(const cmif_summaries *first, const cmif_summaries *s, summed *out, cmif_err *err)
{
    double *a = calloc(s->count + 1, sizeof *a), *b = calloc(s->count + 1, sizeof *b);
    for (size_t k = 0; a && b && k < KINDS; k++) {
        out->count = 0;
        for (size_t i = 0; i < s->count; i++) {
            if (s->there[i] && first->there[i]) {
                a[out->count]   = f1_of(&s->scores[i], k);
                b[out->count++] = f1_of(&first->scores[i], k);
            }
        }
        out->mean[k]       = cmif_stats_mean(a, out->count).mean;
        out->from_first[k] = cmif_stats_paired(a, b, out->count, CONFIDENCE);
    }
    bool ok = a && b;
    free(a);
    free(b);
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for scores");
}

static json_t *real_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *figures(const cmif_summaries *all, const summed *sums, size_t count)
{
    json_t *results = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *object = json_pack("{s:s, s:I, s:o}", "policy", all[i].policy, "articles", (json_int_t) sums[i].count,
                                   "changed", real_or_null(all[i].changed));
        for (size_t k = 0; object && k < KINDS; k++) {
            const cmif_difference *d = &sums[i].from_first[k];
            json_object_set_new(object, kinds[k],
                                json_pack("{s:o, s:o, s:[o, o], s:o}", "f1", real_or_null(sums[i].mean[k]),
                                          "difference", real_or_null(d->difference), "difference_interval",
                                          real_or_null(d->interval.low), real_or_null(d->interval.high), "p",
                                          real_or_null(d->p)));
        }
        json_array_append_new(results, object);
    }
    return results;
}

static json_t *document(const cmif_summaries *all, const summed *sums, size_t count)
{
    char    date[16];
    time_t  t    = time(NULL);
    json_t *rows = json_array();
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&t));
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(rows, json_pack("[s, I, o, o, o, o, o]", all[i].policy, (json_int_t) sums[i].count,
                                              real_or_null(all[i].changed), real_or_null(sums[i].mean[0]),
                                              real_or_null(sums[i].mean[1]), real_or_null(sums[i].mean[2]),
                                              real_or_null(sums[i].mean[3])));
    }
    return json_pack("{s:s, s:s, s:s, s:[{s:s, s:{s:[s,s,s,s,s,s,s], s:s, s:o, s:s}}]}", "title",
                     "What is left of a summary", "made", date, "command", "cmif eval xsum", "sections", "heading",
                     "Summaries in one sentence", "table", "columns", "policy", "articles", "words changed", kinds[0],
                     kinds[1], kinds[2], kinds[3], "align", "lrrrrrr", "rows", rows, "caption",
                     "F1 against the reference, with stemming; names are put back before a summary is compared.");
}

static cmif_code show(const cmif_eval_options *o, const cmif_summaries *all, const summed *sums, size_t count,
                      size_t articles, cmif_err *err)
{
    const char *dim = cmif_style_of(stdout, CMIF_DIM), *plain = cmif_style_of(stdout, CMIF_PLAIN);
    printf("%s%-16s %8s %8s %8s %8s %8s %10s   %s%s\n", dim, "policy", "articles", "changed", kinds[0], kinds[1],
           kinds[2], kinds[3], "ROUGE-L less than the first's by", plain);
    for (size_t i = 0; i < count; i++) {
        const cmif_difference *d           = &sums[i].from_first[2];
        char                   changed[16] = "";
        if (!isnan(all[i].changed)) {
            snprintf(changed, sizeof changed, "%.1f %%", 100 * all[i].changed);
        }
        printf("%-16s %8zu %8s %8.4f %8.4f %8.4f %10.4f", all[i].policy, sums[i].count, changed, sums[i].mean[0],
               sums[i].mean[1], sums[i].mean[2], sums[i].mean[3]);
        if (i && sums[i].count > 1) {
            printf("   %.4f [%.4f, %.4f], p %.3f", -d->difference, -d->interval.high, -d->interval.low, d->p);
        }
        putchar('\n');
    }
    printf("\n%zu articles; one that does not fit the context, or that a policy refuses, is left out\n", articles);
    cmif_code rc = CMIF_OK;
    if (o->json) {
        json_t *object = json_pack("{s:s, s:I, s:o}", "task", "xsum", "examples", (json_int_t) articles, "results",
                                   figures(all, sums, count));
        rc             = object && json_dump_file(object, o->json, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0
                             ? CMIF_OK
                             : cmif_fail(err, CMIF_E_IO, "cannot write '%.150s': is there such a folder, and room on the disk?",
                                         o->json);
        json_decref(object);
    }
    if (rc == CMIF_OK && o->report) {
        json_t *page = document(all, sums, count);
        rc = page ? cmif_report_write(page, o->report, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for the report");
        json_decref(page);
    }
    return rc;
}

int cmif_eval_xsum(const cmif_eval_options *o)
{
    cmif_tables    tables            = {0};
    cmif_task      task              = {0};
    cmif_summaries all[POLICIES_MAX] = {{0}};
    static summed  sums[POLICIES_MAX];
    size_t         count = 0;
    char           path[PATH_MAX], *rest = NULL;
    char          *list = strdup(o->policies ? o->policies : "clean,names,topics,words");
    cmif_err       err  = {0};
    cmif_code      rc   = list ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for a list");

    for (char *at = list ? strtok_r(list, ",", &rest) : NULL; rc == CMIF_OK && at; at = strtok_r(NULL, ",", &rest)) {
        const cmif_guard_options options = {.policy = !strcmp(at, "clean") ? "none" : at};
        rc = count == POLICIES_MAX ? cmif_fail(&err, CMIF_E_RANGE, "--policy takes at most %d", POLICIES_MAX)
                                   : cmif_guard_check(&options, &err);
        if (rc == CMIF_OK) {
            all[count++].policy = at;
        }
    }
    if (rc != CMIF_OK) {
        free(list);
        return cmif_report_usage(&err);
    }
    rc = cmif_tables_open(o->data, &tables, &err);
    rc = rc == CMIF_OK ? cmif_tables_data(&tables, "xsum/xsum_0shot.jsonl", path, &err) : rc;
    rc = rc == CMIF_OK ? cmif_task_open(path, 0, 0, &task, &err) : rc;
    if (rc == CMIF_OK && !task.examples[0].reference) {
        rc = cmif_fail(&err, CMIF_E_FORMAT, "'%.150s' has no references to compare with", path);
    }
    const size_t wanted = o->limit ? o->limit : ARTICLES;
    task.count          = wanted < task.count ? wanted : task.count;
    rc                  = rc == CMIF_OK
                              ? cmif_summarize(o->model ? o->model : "smollm2", o->threads, &tables, &task, o->again, all, count, &err)
                              : rc;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = sum(&all[0], &all[i], &sums[i], &err);
    }
    rc            = rc == CMIF_OK ? show(o, all, sums, count, task.count, &err) : rc;
    int exit_code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
    for (size_t i = 0; i < count; i++) {
        cmif_summaries_wipe(&all[i]);
    }
    cmif_task_wipe(&task);
    free(list);
    return exit_code;
}
