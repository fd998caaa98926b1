#include "mechanism/plan.h"
#include "vectors/neighbours.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- metric, santext, santext+: the exponential mechanism on distance ---- */

/* Words without a vector, the unknown word among them, share row 0: a uniform draw. The others have rows of their own.
 * santext+ keeps frequent words in blocks of their own, each with the sensitive words and itself as outputs; metric has
 * rude words as rows, not as outputs. */
typedef struct metric_work {
    uint32_t   *word;      /* [row_count] of a row; row 0: the words without a vector */
    uint32_t   *row;       /* [words] */
    bool       *sensitive; /* [words] an output of all rows */
    bool        keeps;     /* santext+: a word that is not keeps itself as one more output */
    uint32_t    outputs;   /* so many are */
    double     *diameters; /* [row_count] largest distance of each row */
    long double unit;      /* distances are told in it */
    long double p;         /* share of the draws of a word that is not sensitive; the rest keeps it */
} metric_work;

static double distance(const float *a, const float *b, size_t width)
{
    double lane[4] = {0};
    for (size_t i = 0; i < width; i++) {
        double d = (double) a[i] - (double) b[i];
        lane[i % 4] += d * d;
    }
    return sqrt((lane[0] + lane[1]) + (lane[2] + lane[3]));
}

static cmif_code diameter_job(table_plan *plan, uint32_t row, cmif_err *err)
{
    (void) err;
    metric_work *work = plan->work;
    for (uint32_t other = row + 1; row > 0 && other < plan->row_count; other++) {
        double d = distance(plan_row(plan, work->word[row]), plan_row(plan, work->word[other]), plan->vectors->width);
        work->diameters[row] = d > work->diameters[row] ? d : work->diameters[row];
    }
    return CMIF_OK;
}

static cmif_code metric_job(table_plan *plan, uint32_t row, cmif_err *err)
{
    metric_work    *work  = plan->work;
    const uint32_t  block = plan->block_of[row], word = work->word[row];
    const uint32_t *outputs = plan->outputs + plan->block_at[block];
    const size_t    n       = plan->block_at[block + 1] - plan->block_at[block];
    const bool      keeps   = row > 0 && work->keeps && !work->sensitive[word];
    long double    *q       = calloc(2 * n, sizeof *q);
    if (!q) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %zu words", n);
    }
    long double *p   = q + n;
    size_t       own = n;
    for (size_t j = 0; j < n && row > 0; j++) {
        q[j] = -distance(plan_row(plan, word), plan_row(plan, outputs[j]), plan->vectors->width) / work->unit;
        own  = keeps && outputs[j] == word ? j : own;
    }
    if (keeps) { /* the draw is among the others */
        memmove(q + own, q + own + 1, (n - own - 1) * sizeof *q);
        cmif_closed_gumbel(q, n - 1, plan->epsilon / 2, p);
        memmove(p + own + 1, p + own, (n - own - 1) * sizeof *p);
        for (size_t j = 0; j < n; j++) {
            p[j] = j == own ? 1 - work->p : p[j] * work->p;
        }
    } else {
        cmif_closed_gumbel(q, n, plan->epsilon / 2, p);
    }
    cmif_code rc = cmif_round_block(p, 1, n, plan->bits, plan->num, plan->den,
                                    plan->weights + (size_t) row * plan->stride, plan->stride, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "row %" PRIu32, row);
    }
    free(q);
    return rc;
}

typedef struct ranked { /* sorted by key, then by id */
    double   key;
    uint32_t id;
} ranked;

static int by_key(const void *left, const void *right)
{
    const ranked *l = left, *r = right;
    if (l->key != r->key) {
        return l->key < r->key ? -1 : 1;
    }
    return l->id < r->id ? -1 : l->id > r->id;
}

/* A float that a person wrote with a few digits, as those digits. */
static long double as_written(float value)
{
    return roundl((long double) value * 1e6L) / 1e6L;
}

/* santext+: the least frequent share w of the words that have a vector is sensitive. */
static cmif_code find_sensitive(table_plan *plan, metric_work *work, cmif_err *err)
{
    const cmif_mechanism_options *options = plan->options;
    const bool                    plus    = options->mechanism == CMIF_MECHANISM_SANTEXT_PLUS;
    const long double             share   = !plus ? 1 : as_written(options->w > 0 ? options->w : .9F);
    uint32_t                      known   = 0;
    work->p                               = as_written(options->p > 0 ? options->p : .3F);
    if (!(share <= 1 && work->p < 1)) {
        return cmif_fail(err, CMIF_E_RANGE, "w is %.6Lf and p is %.6Lf; w is at most 1, p below 1", share, work->p);
    }
    ranked *order = calloc(plan->words, sizeof *order);
    if (!order) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " words", plan->words);
    }
    for (uint32_t w = 1; w < plan->words; w++) {
        if (plan->vectors->known[w] && plan_releases(plan, w)) { /* among equals the later word is the rarer one */
            order[known++] = (ranked){.key = plan->lexicon->prior[w], .id = plan->words - w};
        }
    }
    qsort(order, known, sizeof *order, by_key);
    work->outputs = (uint32_t) floorl(share * (long double) known);
    for (uint32_t i = 0; i < work->outputs; i++) {
        work->sensitive[plan->words - order[i].id] = true;
    }
    free(order);
    if (work->outputs == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "%" PRIu32 " words have a vector: none can be released", known);
    }
    return CMIF_OK;
}

cmif_code plan_metric(table_plan *plan, cmif_err *err)
{
    metric_work work = {.unit = 1, .keeps = plan->options->mechanism == CMIF_MECHANISM_SANTEXT_PLUS};
    uint32_t    rows = 1, blocks = 1, next = 0;
    cmif_code   rc = CMIF_OK;

    plan->bits     = 63; /* far words are rare */
    plan->work     = &work;
    work.word      = calloc(plan->words, sizeof *work.word);
    work.row       = calloc(plan->words, sizeof *work.row);
    work.sensitive = calloc(plan->words, sizeof *work.sensitive);
    work.diameters = calloc(plan->words, sizeof *work.diameters);
    if (!work.word || !work.row || !work.sensitive || !work.diameters) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " words", plan->words);
        goto done;
    }
    rc = find_sensitive(plan, &work, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t w = 1; w < plan->words; w++) {
        if (plan->vectors->known[w]) {
            blocks += work.keeps && !work.sensitive[w];
            work.word[rows] = w;
            work.row[w]     = rows++;
        }
    }
    rc = plan_room(plan, rows, blocks, (uint64_t) blocks * work.outputs + blocks - 1, work.outputs + (blocks > 1), err);
    if (rc != CMIF_OK) {
        goto done;
    }
    memcpy(plan->row_of, work.row, plan->words * sizeof *plan->row_of);
    for (uint32_t r = 0, b = 0; r < rows; r++) { /* block 0 holds row 0 and the sensitive words */
        uint32_t kept = r > 0 && work.keeps && !work.sensitive[work.word[r]] ? work.word[r] : 0;
        if (kept) {
            plan->block_of[r] = ++b;
        }
        for (uint32_t w = 1; (r == 0 || kept) && w < plan->words; w++) {
            if (work.sensitive[w] || w == kept) {
                plan->outputs[next++] = w;
            }
        }
        plan->block_at[b + 1] = next;
    }
    if (plan->options->mechanism ==
        CMIF_MECHANISM_METRIC) { /* so that epsilon is what two words lose that are farthest apart */
        rc        = plan_run(plan, diameter_job, rows, "distances", err);
        work.unit = 0;
        for (uint32_t r = 0; r < rows; r++) {
            work.unit = work.diameters[r] > work.unit ? work.diameters[r] : work.unit;
        }
        work.unit = work.unit > 0 ? work.unit : 1;
    }
    rc = rc == CMIF_OK ? plan_run(plan, metric_job, rows, "rows of words", err) : rc;
done:
    plan->work = NULL;
    free(work.word);
    free(work.row);
    free(work.sensitive);
    free(work.diameters);
    return rc;
}

static bool joining(const table_plan *plan, uint32_t word) /* a function word or a negation */
{
    return plan->lexicon->word_class[word] <= CMIF_CLASS_NEGATION;
}

/* ---- full: k-ary randomized response between classes of all words ---- */

/* Cut ids into `classes` parts of equal size: along the direction in which they differ most, again and again. */
static void split(const table_plan *plan, ranked *ids, size_t count, uint32_t classes, uint32_t first, double *room,
                  uint32_t *class_of)
{
    const size_t width = plan->vectors->width;
    double      *mean = room, *axis = room + width, *turned = room + 2 * width;
    if (classes == 1) {
        for (size_t i = 0; i < count; i++) {
            class_of[ids[i].id] = first;
        }
        return;
    }
    memset(mean, 0, width * sizeof *mean);
    for (size_t i = 0; i < count; i++) {
        const float *row = plan_row(plan, ids[i].id);
        for (size_t j = 0; j < width; j++) {
            mean[j] += (double) row[j] / (double) count;
        }
    }
    for (size_t j = 0; j < width; j++) {
        axis[j] = 1 / (double) (j + 1); /* any start that no symmetry of the data shares */
    }
    for (int round = 0; round < 16; round++) { /* power iteration; the last round's projections are the keys */
        double length = 0;
        memset(turned, 0, width * sizeof *turned);
        for (size_t i = 0; i < count; i++) {
            const float *row = plan_row(plan, ids[i].id);
            ids[i].key       = 0;
            for (size_t j = 0; j < width; j++) {
                ids[i].key += ((double) row[j] - mean[j]) * axis[j];
            }
            for (size_t j = 0; j < width; j++) {
                turned[j] += ((double) row[j] - mean[j]) * ids[i].key;
            }
        }
        for (size_t j = 0; j < width; j++) {
            length += turned[j] * turned[j];
        }
        for (size_t j = 0; j < width && length > 0; j++) {
            axis[j] = turned[j] / sqrt(length);
        }
    }
    qsort(ids, count, sizeof *ids, by_key);
    const uint32_t left = classes / 2;
    const size_t   cut  = count * left / classes;
    split(plan, ids, cut, left, first, room, class_of);
    split(plan, ids + cut, count - cut, classes - left, first + left, room, class_of);
}

static cmif_code find_clusters(const table_plan *plan, uint32_t classes, uint32_t *class_of, cmif_err *err)
{
    ranked   *ids  = calloc(plan->words, sizeof *ids);
    double   *room = calloc(3 * (size_t) plan->vectors->width, sizeof *room);
    cmif_code rc   = CMIF_OK;
    if (!ids || !room) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for clusters of %" PRIu32 " words", plan->words);
        goto done;
    }
    for (uint32_t w = 0; w < plan->words; w++) {
        ids[w].id = w;
    }
    split(plan, ids, plan->words, classes, 0, room, class_of);
done:
    free(ids);
    free(room);
    return rc;
}

static uint32_t valence_class(uint32_t classes, float valence)
{
    if (classes == 2) {
        return !(valence < 0); /* what is not known is not negative */
    }
    return valence > .8F ? 2 : valence < -.8F ? 0 : 1;
}

/* The member nearest by cosine to the class's weighted mean; without vectors the most frequent one. Words that say
 * something come before those that only join others, and rude ones do not count. 0: the class has no word. */
static cmif_code find_medoids(const table_plan *plan, uint32_t classes, const uint32_t *class_of, uint32_t *medoid,
                              cmif_err *err)
{
    const size_t width = plan->vectors ? plan->vectors->width : 0;
    double      *mean  = calloc((size_t) classes * (width + 1), sizeof *mean);
    double      *best  = calloc(classes, sizeof *best);
    cmif_code    rc    = CMIF_OK;
    if (!mean || !best) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " classes", classes);
        goto done;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t w = 1; w < plan->words; w++) {
            const uint32_t c      = class_of[w];
            const bool     joins  = joining(plan, w);
            const float   *row    = width ? plan_row(plan, w) : NULL;
            const double   length = width ? sqrt(plan_dot(row, row, width)) : 0, prior = plan->lexicon->prior[w];
            double        *centre = mean + c * (width + 1), score = width ? 0 : prior;
            for (size_t j = 0; j < width && length > 0; j++) {
                centre[j] += pass == 0 && !joins ? prior * (double) row[j] / length : 0;
                score += centre[j] * (double) row[j] / length;
            }
            if (pass == 1 && plan_releases(plan, w) &&
                (medoid[c] == 0 || joining(plan, medoid[c]) > joins ||
                 (joining(plan, medoid[c]) == joins && score > best[c]))) {
                medoid[c] = w;
                best[c]   = score;
            }
        }
    }
done:
    free(mean);
    free(best);
    return rc;
}

enum { CLASSES_MAX = 64 };

static int by_id(const void *left, const void *right)
{
    const uint32_t *l = left, *r = right;
    return *l < *r ? -1 : *l > *r;
}

cmif_code plan_full(table_plan *plan, cmif_err *err)
{
    const uint32_t classes             = plan->options->classes ? plan->options->classes : plan->valence ? 3 : 32;
    uint32_t       medoid[CLASSES_MAX] = {0}, renumbered[CLASSES_MAX], seen = 0;
    uint32_t      *class_of = NULL;
    long double   *p        = NULL;
    cmif_code      rc       = CMIF_OK;

    if (classes < 2 || (classes > 3 && classes < 8) || classes > CLASSES_MAX || (classes < 8 && !plan->valence)) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "%" PRIu32 " classes; there can be 2 or 3 by valence, which is %s, or 8 to %d by vectors",
                       classes, plan->valence ? "known" : "not known here", CLASSES_MAX);
        goto done;
    }
    class_of = calloc(plan->words, sizeof *class_of);
    p        = calloc((size_t) classes * classes, sizeof *p);
    if (!class_of || !p) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the classes of %" PRIu32 " words", plan->words);
        goto done;
    }
    for (uint32_t w = 0; w < plan->words && classes < 8; w++) {
        class_of[w] = valence_class(classes, w == 0 ? NAN : plan->valence[w]);
    }
    if (classes >= 8) {
        rc = find_clusters(plan, classes, class_of, err);
    }
    rc = rc == CMIF_OK ? find_medoids(plan, classes, class_of, medoid, err) : rc;
    rc = rc == CMIF_OK ? plan_room(plan, classes, 1, classes, classes, err) : rc;
    for (uint32_t c = 0; c < classes && rc == CMIF_OK; c++) {
        plan->outputs[c] = medoid[c];
        renumbered[c]    = UINT32_MAX;
        if (medoid[c] == 0) {
            rc = cmif_fail(err, CMIF_E_RANGE, "class %" PRIu32 " of %" PRIu32 " has no word", c, classes);
        }
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    plan->block_at[1] = classes;
    qsort(plan->outputs, classes, sizeof *plan->outputs, by_id);
    for (uint32_t w = 0; w < plan->words; w++) {
        uint32_t c = class_of[w];
        if (renumbered[c] == UINT32_MAX) {
            const long double boost = expl(plan->epsilon), sum = boost + (long double) (classes - 1);
            for (uint32_t j = 0; j < classes; j++) {
                p[(size_t) seen * classes + j] = (plan->outputs[j] == medoid[c] ? boost : 1) / sum;
            }
            renumbered[c] = seen++;
        }
        plan->row_of[w] = renumbered[c];
    }
    rc = cmif_round_block(p, classes, classes, plan->bits, plan->num, plan->den, plan->weights, classes, err);
done:
    free(class_of);
    free(p);
    return rc;
}

/* ---- paper: each word among its own nearest neighbours. A baseline: it hides no word ---- */

/* Words that pass as they are: alone in their block, or without blocks those of the classes that pass. */
static void find_passing(const table_plan *plan, uint32_t *size, bool *passes)
{
    for (uint32_t w = 0; plan->blocks && w < plan->words; w++) {
        size[plan->blocks->block_of[w]]++;
    }
    for (uint32_t w = 1; w < plan->words; w++) {
        passes[w] = plan->blocks ? size[plan->blocks->block_of[w]] == 1 : joining(plan, w);
    }
}

typedef struct paper_work {
    uint32_t *at;      /* [words] place among the candidates, or UINT32_MAX */
    uint32_t *word;    /* [candidates] */
    uint32_t *ids;     /* (candidates, k) */
    double   *cosines; /* (candidates, k) */
    uint32_t  k;
} paper_work;

static cmif_code paper_job(table_plan *plan, uint32_t word, cmif_err *err)
{
    const paper_work *work    = plan->work;
    const size_t      k       = plan->block_at[word + 1] - plan->block_at[word];
    uint32_t         *outputs = plan->outputs + plan->block_at[word];
    uint64_t         *weights = plan->weights + (size_t) word * plan->stride;
    cmif_code         rc      = CMIF_OK;
    if (work->at[word] == UINT32_MAX) {
        weights[0] = (uint64_t) 1 << plan->bits;
        return CMIF_OK;
    }
    ranked      *order = calloc(k, sizeof *order);
    long double *q     = calloc(2 * k, sizeof *q);
    if (!order || !q) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu neighbours", k);
        goto done;
    }
    for (size_t j = 0; j < k; j++) {
        size_t from = (size_t) work->at[word] * work->k + j;
        order[j]    = (ranked){.key = work->word[work->ids[from]], .id = (uint32_t) j};
    }
    qsort(order, k, sizeof *order, by_key);
    for (size_t j = 0; j < k; j++) {
        double cosine = work->cosines[(size_t) work->at[word] * work->k + order[j].id];
        outputs[j]    = (uint32_t) order[j].key;
        q[j]          = cosine < 0 ? 0 : cosine > 1 ? 1 : cosine;
    }
    rc = plan_noisy_max(plan->options->noise, q, k, plan->epsilon / 2, q + k, err);
    rc = rc == CMIF_OK ? cmif_round_block(q + k, 1, k, plan->bits, plan->num, plan->den, weights, k, err) : rc;
done:
    free(order);
    free(q);
    return rc;
}

cmif_code plan_paper(table_plan *plan, cmif_err *err)
{
    const size_t width  = plan->vectors->width;
    paper_work   work   = {.k = plan->options->k};
    bool        *passes = calloc(plan->words, sizeof *passes);
    uint32_t    *size = calloc(plan->words, sizeof *size), count = 0;
    float       *rows = NULL;
    cmif_code    rc   = CMIF_OK;

    work.at   = calloc(plan->words, sizeof *work.at);
    work.word = calloc(plan->words, sizeof *work.word);
    if (!passes || !size || !work.at || !work.word) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " words", plan->words);
        goto done;
    }
    find_passing(plan, size, passes);
    for (uint32_t w = 0; w < plan->words;
         w++) { /* a word without a vector has no neighbours: it leaves as the unknown word */
        bool takes_part = w > 0 && !passes[w] && plan->vectors->known[w];
        work.at[w]      = takes_part ? count : UINT32_MAX;
        if (takes_part) {
            work.word[count++] = w;
        }
    }
    if (work.k == 0 || work.k > count) {
        rc = cmif_fail(err, CMIF_E_RANGE, "K is %" PRIu32 "; %" PRIu32 " words have neighbours, so it is 1 to that",
                       work.k, count);
        goto done;
    }
    rc = plan_room(plan, plan->words, plan->words, plan->words + (uint64_t) count * (work.k - 1), work.k, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rows         = calloc(count * width, sizeof *rows);
    work.ids     = calloc((size_t) count * work.k, sizeof *work.ids);
    work.cosines = calloc((size_t) count * work.k, sizeof *work.cosines);
    if (!rows || !work.ids || !work.cosines) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " neighbours of %" PRIu32 " words", work.k, count);
        goto done;
    }
    for (uint32_t i = 0; i < count; i++) {
        memcpy(rows + i * width, plan_row(plan, work.word[i]), width * sizeof *rows);
    }
    rc = cmif_neighbours(rows, count, (uint32_t) width, work.k, plan->options->threads, CMIF_KERNEL_AUTO, work.ids,
                         work.cosines, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t w = 0; w < plan->words; w++) {
        plan->row_of[w]       = w;
        plan->block_of[w]     = w;
        plan->block_at[w + 1] = plan->block_at[w] + (work.at[w] == UINT32_MAX ? 1 : work.k);
        if (work.at[w] == UINT32_MAX) {
            plan->outputs[plan->block_at[w]] = passes[w] ? w : 0;
        }
    }
    plan->work = &work;
    rc         = plan_run(plan, paper_job, plan->words, "rows of words", err);
    plan->work = NULL;
done:
    free(passes);
    free(size);
    free(rows);
    free(work.at);
    free(work.word);
    free(work.ids);
    free(work.cosines);
    return rc;
}
