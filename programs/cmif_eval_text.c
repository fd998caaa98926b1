/* `cmif eval xsum`, `chat` and `sst2-zero-shot`: what is left of what a model writes when it is asked through a policy
 * or a mechanism. */
#include "cmif_eval.h"

#include "cmif_client.h"
#include "generate.h"
#include "report.h"
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS_MAX = 64 };
#define CONFIDENCE 0.95

/* One task: its data, and how its scores are called. */
typedef struct kind {
    const char          *name, *file, *title, *caption;
    cmif_generation_task task;
    uint32_t             examples; /* unless --limit says */
    const char          *scores[CMIF_SCORES_MAX];
} kind;
static const kind kinds[] = {
    {"xsum",
     "xsum/xsum_0shot.jsonl",
     "What is left of a summary",
     "F1 against the reference, with stemming; names are put back before a summary is compared.",
     CMIF_SUMMARIZE,
     20,
     {"ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"}},
    {"chat",
     "qnli/dev.tsv",
     "What is left of an answer",
     "Token F1 against the model's own answer to the same text in the clear; names are put back before. Clean is asked "
     "twice.",
     CMIF_ANSWER,
     40,
     {"token F1"}},
    {"sst2-zero-shot",
     "sst2/dev.tsv",
     "What is left of a label without training",
     "Accuracy by the likelier first token of 'positive' and 'negative', behind two reviews with their labels.",
     CMIF_LABEL,
     200,
     {"accuracy"}},
};

static const kind *kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!strcmp(kinds[i].name, name)) {
            return &kinds[i];
        }
    }
    return NULL;
}

bool cmif_eval_is_text(const char *task)
{
    return kind_of(task) != NULL;
}

typedef struct summed { /* over the examples that both this row and the first one have */
    cmif_difference mean[CMIF_SCORES_MAX], from_first[CMIF_SCORES_MAX]; /* mean: from 0 */
    size_t          count;
    double          changed;
} summed;

typedef struct table {
    const kind              *kind;
    const cmif_eval_options *options;
    cmif_scored              rows[ROWS_MAX];
    summed                   sums[ROWS_MAX];
    size_t                   count, examples, scores;
    double                   majority; /* of labels; else NAN */
} table;

static cmif_code sum(const cmif_scored *first, const cmif_scored *s, size_t scores, bool rates, summed *out,
                     cmif_err *err)
{
    double *a = calloc(3 * (s->count + 1), sizeof *a), *b = a ? a + s->count + 1 : NULL;
    if (!a) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for scores");
    }
    const double *zero = b + s->count + 1;
    for (size_t k = 0; k < scores; k++) {
        out->count = 0;
        for (size_t i = 0; i < s->count; i++) {
            if (s->there[i] && first->there[i]) {
                a[out->count]   = s->scores[i][k];
                b[out->count++] = first->scores[i][k];
            }
        }
        out->mean[k]            = cmif_stats_paired(a, zero, out->count, CONFIDENCE);
        out->from_first[k]      = cmif_stats_paired(a, b, out->count, CONFIDENCE);
        out->mean[k].difference = cmif_stats_mean(a, out->count).mean; /* of one, too */
    }
    if (rates && out->count) {
        out->mean[0].interval = cmif_stats_wilson((uint64_t) llround(out->mean[0].difference * (double) out->count),
                                                  out->count, CONFIDENCE);
    }
    out->changed = s->words ? (double) s->changed / (double) s->words : NAN;
    free(a);
    return CMIF_OK;
}

static json_t *real_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static void put_name(const cmif_scored *s, char *out, size_t room)
{
    snprintf(out, room, "%s%s%s", s->policy ? s->policy : s->arm->name, s->epsilon ? ", epsilon " : "",
             s->epsilon ? s->epsilon : "");
}

static json_t *figures(const table *t)
{
    json_t *results = json_array();
    for (size_t i = 0; i < t->count; i++) {
        const cmif_scored *s      = &t->rows[i];
        json_t            *object = json_pack("{s:s?, s:s?, s:s?, s:I, s:o}", "policy", s->policy, "mechanism",
                                   s->arm ? s->arm->name : NULL, "epsilon", s->epsilon, "examples",
                                              (json_int_t) t->sums[i].count, "changed", real_or_null(t->sums[i].changed));
        for (size_t k = 0; object && k < t->scores; k++) {
            const cmif_difference *m = &t->sums[i].mean[k], *d = &t->sums[i].from_first[k];
            json_object_set_new(object, t->kind->scores[k],
                                json_pack("{s:o, s:[o, o], s:o, s:[o, o], s:o}", "mean", real_or_null(m->difference),
                                          "interval", real_or_null(m->interval.low), real_or_null(m->interval.high),
                                          "difference", real_or_null(d->difference), "difference_interval",
                                          real_or_null(d->interval.low), real_or_null(d->interval.high), "p",
                                          real_or_null(d->p)));
        }
        json_array_append_new(results, object);
    }
    return results;
}

static json_t *document(const table *t)
{
    char    date[16], command[64], name[64];
    time_t  now  = time(NULL);
    json_t *rows = json_array(), *columns = json_pack("[s, s, s]", "policy", "examples", "words changed");
    json_t *points = json_array();
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    snprintf(command, sizeof command, "cmif eval %s", t->kind->name);
    for (size_t k = 0; k < t->scores; k++) {
        json_array_append_new(columns, json_string(t->kind->scores[k]));
    }
    for (size_t i = 0; i < t->count; i++) {
        const summed *s = &t->sums[i];
        put_name(&t->rows[i], name, sizeof name);
        json_t *row = json_pack("[s, I, o]", name, (json_int_t) s->count, real_or_null(s->changed));
        for (size_t k = 0; k < t->scores; k++) {
            json_array_append_new(row, real_or_null(s->mean[k].difference));
        }
        json_array_append_new(rows, row);
        if (s->count > 1) {
            json_array_append_new(points, json_pack("[s, f, f, f]", name, s->mean[0].difference,
                                                    s->mean[0].interval.low, s->mean[0].interval.high));
        }
    }
    json_t *sections =
        json_pack("[{s:s, s:{s:o, s:s, s:o, s:s}}]", "heading", "By policy", "table", "columns", columns, "align",
                  t->scores == 1 ? "lrrr" : "lrrrrrr", "rows", rows, "caption", t->kind->caption);
    if (json_array_size(points)) {
        json_array_append_new(sections,
                              json_pack("{s:s, s:{s:s, s:{s:s}, s:{s:s}, s:[{s:s, s:O}], s:s}}", "heading",
                                        t->kind->scores[0], "plot", "kind", "bars", "x", "label", "policy", "y",
                                        "label", t->kind->scores[0], "series", "name", t->kind->scores[0], "points",
                                        points, "caption", "With 95 % intervals of the mean."));
    }
    json_decref(points);
    return json_pack("{s:s, s:s, s:s, s:o}", "title", t->kind->title, "made", date, "command", command, "sections",
                     sections);
}

static void print_table(const table *t)
{
    const char  *dim = cmif_style_of(stdout, CMIF_DIM), *plain = cmif_style_of(stdout, CMIF_PLAIN);
    const size_t main = t->scores == 1 ? 0 : 2; /* ROUGE-L */
    printf("%s%-22s %8s %8s", dim, "policy", "examples", "changed");
    for (size_t k = 0; k < t->scores; k++) {
        printf(" %10s", t->kind->scores[k]);
    }
    printf("   %s less than the first's by%s\n", t->kind->scores[main], plain);
    for (size_t i = 0; i < t->count; i++) {
        const summed          *s           = &t->sums[i];
        const cmif_difference *d           = &s->from_first[main];
        char                   changed[16] = "", name[64];
        if (!isnan(s->changed)) {
            snprintf(changed, sizeof changed, "%.1f %%", 100 * s->changed);
        }
        put_name(&t->rows[i], name, sizeof name);
        printf("%-22s %8zu %8s", name, s->count, changed);
        for (size_t k = 0; k < t->scores; k++) {
            if (s->count) {
                printf(" %10.4f", s->mean[k].difference);
            } else {
                printf(" %10s", "");
            }
        }
        if (i && s->count > 1) {
            printf("   %.4f [%.4f, %.4f], p %.3f", -d->difference, -d->interval.high, -d->interval.low, d->p);
        }
        putchar('\n');
    }
    if (!isnan(t->majority)) {
        printf("the commonest label, always: %.4f\n", t->majority);
    }
    if (!cmif_quiet) {
        size_t before = 0;
        for (size_t i = 0; i < t->count; i++) {
            before += t->rows[i].from_before;
        }
        printf("\n%zu examples, one run of each row; %zu of %zu answers from earlier commands. One that does not fit "
               "the context, or that a policy refuses, is left out\n",
               t->examples, before, t->examples * t->count);
    }
}

static cmif_code write_out(const table *t, cmif_err *err)
{
    const cmif_eval_options *o   = t->options;
    json_t                  *all = o->json
                                       ? json_pack("{s:s, s:I, s:o, s:o}", "task", t->kind->name, "examples", (json_int_t) t->examples,
                                                   "majority", real_or_null(t->majority), "results", figures(t))
                                       : NULL;
    return cmif_eval_write(o->json, all, o->report, o->report ? document(t) : NULL, err);
}

/* The rows of the table: policies, in policies, which is cut up; then each mechanism at each epsilon. */
static cmif_code plan(table *t, char *policies, cmif_err *err)
{
    const cmif_eval_options *o    = t->options;
    char                    *rest = NULL;
    cmif_code                rc   = CMIF_OK;
    for (char *at = strtok_r(policies, ",", &rest); rc == CMIF_OK && at; at = strtok_r(NULL, ",", &rest)) {
        const cmif_guard_options options = {.policy = !strcmp(at, "clean") ? "none" : at};
        rc = t->count == ROWS_MAX ? cmif_fail(err, CMIF_E_RANGE, "--policy takes at most %d", ROWS_MAX)
                                  : cmif_guard_check(&options, err);
        if (rc == CMIF_OK) {
            t->rows[t->count++].policy = at;
        }
    }
    for (size_t a = 0; rc == CMIF_OK && o->mechanisms && a < cmif_arm_count; a++) {
        const cmif_arm *arm = &cmif_arms[a];
        const bool      all = !strcmp(o->mechanisms, "all"), words = arm->rows & 1u << CMIF_EVAL_PLAIN;
        if (all ? arm->in_doubt || !words : !cmif_eval_in_list(o->mechanisms, arm->name)) {
            continue;
        }
        if (!words) {
            rc = cmif_fail(err, CMIF_E_RANGE,
                           "'%s' has rows and no words to send, and models that generate have no use for those: leave "
                           "it out of --mechanisms",
                           arm->name);
        }
        for (size_t i = 0; rc == CMIF_OK && i < (arm->epsilon ? o->epsilon_count : 1); i++) {
            if (t->count == ROWS_MAX) {
                rc = cmif_fail(err, CMIF_E_RANGE, "more than %d rows: name fewer mechanisms or epsilons", ROWS_MAX);
            } else {
                t->rows[t->count].arm       = arm;
                t->rows[t->count++].epsilon = arm->epsilon ? o->epsilon[i] : NULL;
            }
        }
    }
    return rc == CMIF_OK && !t->count ? cmif_fail(err, CMIF_E_RANGE, "--policy names none") : rc;
}

int cmif_eval_text(const char *name, const cmif_eval_options *o)
{
    static table t;
    cmif_tables  tables = {0};
    cmif_task    task   = {0};
    char         path[PATH_MAX], *list = strdup(o->policies ? o->policies : "clean,names,topics,words");
    cmif_err     err = {0};
    cmif_code    rc  = list ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for a list");

    t        = (table){.kind = kind_of(name), .options = o, .majority = NAN};
    t.scores = cmif_score_counts[t.kind->task];
    rc       = rc == CMIF_OK ? plan(&t, list, &err) : rc;
    if (rc != CMIF_OK) {
        free(list);
        return cmif_report_usage(&err);
    }
    rc                              = cmif_tables_open(o->data, &tables, &err);
    rc                              = rc == CMIF_OK ? cmif_tables_data(&tables, t.kind->file, path, &err) : rc;
    rc                              = rc == CMIF_OK ? cmif_task_open(path, 0, 0, &task, &err) : rc;
    const cmif_generation_task what = t.kind->task;
    if (rc == CMIF_OK && (what == CMIF_SUMMARIZE ? !task.examples[0].reference
                          : what == CMIF_ANSWER  ? !task.examples[0].second
                                                 : task.label_count != 2)) {
        rc = cmif_fail(&err, CMIF_E_FORMAT, "'%.150s' is not the data set it should be", path);
    }
    const size_t wanted = o->limit ? o->limit : t.kind->examples;
    task.count          = wanted < task.count ? wanted : task.count;
    t.examples          = task.count;
    size_t ones         = 0;
    for (size_t i = 0; what == CMIF_LABEL && i < task.count; i++) {
        ones += task.examples[i].label == 1;
    }
    if (what == CMIF_LABEL && task.count) {
        t.majority = (double) (2 * ones > task.count ? ones : task.count - ones) / (double) task.count;
    }
    rc = rc == CMIF_OK ? cmif_generate_all(what, o->model ? o->model : "smollm2", o->threads, &tables, &task, o->again,
                                           t.rows, t.count, &err)
                       : rc;
    for (size_t i = 0; rc == CMIF_OK && i < t.count; i++) {
        rc = sum(&t.rows[0], &t.rows[i], t.scores, what == CMIF_LABEL, &t.sums[i], &err);
    }
    if (rc == CMIF_OK) {
        print_table(&t);
        rc = write_out(&t, &err);
    }
    int exit_code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
    for (size_t i = 0; i < t.count; i++) {
        cmif_scored_wipe(&t.rows[i]);
    }
    cmif_task_wipe(&task);
    free(list);
    return exit_code;
}
