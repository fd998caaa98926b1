#include "mechanism/plan.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- room and work ---- */

static void plan_clear(table_plan *plan)
{
    free(plan->row_of);
    free(plan->block_of);
    free(plan->block_at);
    free(plan->outputs);
    free(plan->weights);
    plan->row_of = plan->block_of = plan->block_at = plan->outputs = NULL;
    plan->weights                                                  = NULL;
}

cmif_code plan_room(table_plan *plan, uint32_t rows, uint32_t blocks, uint64_t outputs, uint32_t stride, cmif_err *err)
{
    const uint64_t weights = (uint64_t) rows * stride;
    const uint64_t size    = (plan->bits == 32 ? 4 : 8) * (weights - rows) + 4 * outputs;
    if (stride > CMIF_TABLE_OUTPUTS_MAX || size > CMIF_TABLE_SIZE_MAX) {
        const double fits = sqrt((double) CMIF_TABLE_SIZE_MAX / 8);
        return cmif_fail(err, CMIF_E_RANGE,
                         "%" PRIu32 " rows of %" PRIu32 " weights would take %" PRIu64
                         " bytes, a table has at most %d: "
                         "smaller blocks, or without blocks a lexicon of at most %.0f words",
                         rows, stride, size, CMIF_TABLE_SIZE_MAX, floor(fits));
    }
    plan_clear(plan);
    plan->row_count   = rows;
    plan->block_count = blocks;
    plan->stride      = stride;
    plan->row_of      = calloc(plan->words, sizeof *plan->row_of);
    plan->block_of    = calloc(rows, sizeof *plan->block_of);
    plan->block_at    = calloc((size_t) blocks + 1, sizeof *plan->block_at);
    plan->outputs     = calloc(outputs, sizeof *plan->outputs);
    plan->weights     = calloc(weights, sizeof *plan->weights);
    if (!plan->row_of || !plan->block_of || !plan->block_at || !plan->outputs || !plan->weights) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " rows of %" PRIu32 " weights", rows, stride);
    }
    return CMIF_OK;
}

typedef struct plan_crew {
    table_plan     *plan;
    plan_job        job;
    const char     *what;
    uint32_t        count, next, failed; /* failed: the lowest item that did */
    cmif_code       rc;
    cmif_err        err;
    pthread_mutex_t lock;
} plan_crew;

/* reports: the caller's own thread, which alone may call its progress function. */
static void crew_work(plan_crew *crew, bool reports)
{
    table_plan *plan = crew->plan;
    for (;;) {
        pthread_mutex_lock(&crew->lock);
        uint32_t item = crew->rc == CMIF_OK ? crew->next++ : crew->count;
        pthread_mutex_unlock(&crew->lock);
        if (item >= crew->count) {
            return;
        }
        cmif_err  err = {.code = CMIF_OK};
        cmif_code rc  = CMIF_OK;
        if (reports && plan->progress && !plan->progress(plan->context, crew->what, item, crew->count)) {
            rc = cmif_fail(&err, CMIF_E_CANCELLED, "stopped at %" PRIu32 " of %" PRIu32, item, crew->count);
        }
        rc = rc == CMIF_OK ? crew->job(plan, item, &err) : rc;
        if (rc != CMIF_OK) { /* all lower items have been begun, and will be heard */
            pthread_mutex_lock(&crew->lock);
            if (item <= crew->failed) {
                crew->failed = item;
                crew->rc     = rc;
                crew->err    = err;
            }
            pthread_mutex_unlock(&crew->lock);
        }
    }
}

static void *crew_thread(void *crew)
{
    crew_work(crew, false);
    return NULL;
}

enum { THREADS_MAX = 256 };

cmif_code plan_run(table_plan *plan, plan_job job, uint32_t count, const char *what, cmif_err *err)
{
    plan_crew crew    = {.plan = plan, .job = job, .what = what, .count = count, .failed = UINT32_MAX};
    long      cores   = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t  threads = plan->options->threads ? plan->options->threads : (uint32_t) (cores > 0 ? cores : 1);
    pthread_t helper[THREADS_MAX];
    uint32_t  helpers = 0;

    threads = threads > THREADS_MAX ? THREADS_MAX : threads;
    threads = threads > count ? count : threads;
    pthread_mutex_init(&crew.lock, NULL);
    while (helpers + 1 < threads && pthread_create(&helper[helpers], NULL, crew_thread, &crew) == 0) {
        helpers++;
    }
    crew_work(&crew, true);
    for (uint32_t i = 0; i < helpers; i++) {
        pthread_join(helper[i], NULL);
    }
    pthread_mutex_destroy(&crew.lock);
    if (crew.rc != CMIF_OK && err) {
        *err = crew.err;
    }
    return crew.rc;
}

double plan_dot(const float *a, const float *b, size_t width)
{
    double lane[4] = {0}; /* four sums side by side: the compiler may use vectors, and the order is still fixed */
    size_t i       = 0;
    for (; i + 4 <= width; i += 4) {
        for (size_t l = 0; l < 4; l++) {
            lane[l] += (double) a[i + l] * (double) b[i + l];
        }
    }
    for (; i < width; i++) {
        lane[i % 4] += (double) a[i] * (double) b[i];
    }
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

cmif_code plan_noisy_max(cmif_noise_kind noise, const long double *q, size_t n, long double lambda, long double *p,
                         cmif_err *err)
{
    switch (noise) {
    case CMIF_NOISE_LAPLACE:
        return cmif_closed_laplace(q, n, lambda, p, err);
    case CMIF_NOISE_EXPONENTIAL:
        return cmif_closed_exponential(q, n, lambda, p, err);
    default:
        cmif_closed_gumbel(q, n, lambda, p);
        return CMIF_OK;
    }
}

/* ---- mechanisms in blocks ---- */

/* Cosines of all pairs of the block, moved and scaled to [0, 1]: any two rows differ by at most 1 in each column, so
 * the sensitivity is 1 whatever rounding did. u (n, n); all 0 when all pairs are alike. */
static void score_block(const table_plan *plan, const uint32_t *members, size_t n, long double *u)
{
    const size_t width = plan->vectors->width;
    long double  low = 1, high = -1;
    for (size_t i = 0; i < n; i++) { /* the diagonal holds lengths at first */
        const float *row = plan_row(plan, members[i]);
        u[i * n + i]     = sqrt(plan_dot(row, row, width));
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            long double lengths = u[i * n + i] * u[j * n + j];
            long double dot = lengths > 0 ? plan_dot(plan_row(plan, members[i]), plan_row(plan, members[j]), width) : 0;
            u[i * n + j]    = lengths > 0 ? dot / lengths : 0;
        }
    }
    for (size_t i = 0; i < n; i++) {
        u[i * n + i] = u[i * n + i] > 0 ? 1 : 0;
        for (size_t j = 0; j <= i; j++) {
            low          = u[i * n + j] < low ? u[i * n + j] : low;
            high         = u[i * n + j] > high ? u[i * n + j] : high;
            u[j * n + i] = u[i * n + j];
        }
    }
    for (size_t i = 0; i < n * n; i++) {
        u[i] = high > low ? (u[i] - low) / (high - low) : 0;
        u[i] = u[i] < 0 ? 0 : u[i] > 1 ? 1 : u[i];
    }
}

static cmif_code noisy_rows(cmif_noise_kind noise, const long double *u, size_t m, size_t n, long double lambda,
                            long double *p, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; i < m && rc == CMIF_OK; i++) {
        rc = plan_noisy_max(noise, u + i * n, n, lambda, p + i * n, err);
    }
    return rc;
}

/* The largest lambda at which the block loses no more than epsilon, by false position (Illinois) between epsilon / 2,
 * which always holds, and a lambda that does not. What rounding may add to the loss is left free: a weight is off by
 * less than 1, and none is below 2^bits e^-epsilon / n, as each output is the best one of its own word. */
static cmif_code calibrated_rows(const table_plan *plan, const long double *u, size_t m, size_t n, long double *p,
                                 cmif_err *err)
{
    const cmif_noise_kind noise  = plan->options->noise;
    const long double     target = plan->epsilon - ldexpl(2 * (long double) n * expl(plan->epsilon), -(int) plan->bits);
    long double           low = plan->epsilon / 2, high = low, under = 0, over = -1;

    cmif_code rc = noisy_rows(noise, u, m, n, low, p, err);
    under        = cmif_closed_loss(p, m, n) - target;
    while (rc == CMIF_OK && over <= 0 &&
           high < 16 * plan->epsilon) { /* where all scores are alike, nothing ever loses */
        high *= 2;
        rc   = noisy_rows(noise, u, m, n, high, p, err);
        over = cmif_closed_loss(p, m, n) - target;
        if (over <= 0) {
            low   = high;
            under = over;
        }
    }
    int side = 0;
    for (int round = 0; round < 200 && rc == CMIF_OK && over > 0 && under < -1e-8L; round++) {
        long double lambda = low - under * (high - low) / (over - under);
        lambda             = lambda > low && lambda < high ? lambda : (low + high) / 2;
        rc                 = noisy_rows(noise, u, m, n, lambda, p, err);
        long double excess = cmif_closed_loss(p, m, n) - target;
        if (excess <= 0) {
            low   = lambda;
            under = excess;
            over  = side < 0 ? over / 2 : over;
            side  = -1;
        } else {
            high  = lambda;
            over  = excess;
            under = side > 0 ? under / 2 : under;
            side  = 1;
        }
    }
    return rc == CMIF_OK ? noisy_rows(noise, u, m, n, low, p, err) : rc;
}

typedef struct choice {
    long double u;
    size_t      at;
} choice;

static int by_falling_score(const void *left, const void *right)
{
    const choice *l = left, *r = right;
    if (l->u != r->u) {
        return l->u > r->u ? -1 : 1;
    }
    return l->at < r->at ? -1 : l->at > r->at;
}

/* Each row boosts its best m outputs by e^epsilon: all rows have the same sum, so the loss is epsilon exactly. m: the
 * one with the best score that a word of the block can expect under the prior. */
static cmif_code subset_rows(const table_plan *plan, const uint32_t *members, const long double *u, size_t rows,
                             size_t n, long double *p, cmif_err *err)
{
    const long double boost = expl(plan->epsilon);
    choice           *order = calloc(rows * n, sizeof *order);
    long double      *gain  = calloc(n, sizeof *gain); /* of the m-th best output, over all rows */
    if (!order || !gain) {
        free(order);
        free(gain);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a block of %zu words", n);
    }
    long double all = 0;
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < n; j++) {
            order[i * n + j] = (choice){.u = u[i * n + j], .at = j};
        }
        qsort(order + i * n, n, sizeof *order, by_falling_score);
        for (size_t j = 0; j < n; j++) {
            gain[j] += order[i * n + j].u * (long double) plan->lexicon->prior[members[i]];
        }
    }
    for (size_t j = 0; j < n; j++) {
        all += gain[j];
    }
    size_t      best   = 1;
    long double record = -1, top = 0;
    for (size_t m = 1; m < n; m++) {
        top += gain[m - 1];
        long double score = (all + (boost - 1) * top) / ((long double) m * boost + (long double) (n - m));
        if (score > record) {
            record = score;
            best   = m;
        }
    }
    if (plan->options->boost) {
        best = plan->options->boost < n ? plan->options->boost : n;
    }
    const long double sum = (long double) best * boost + (long double) (n - best);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < n; j++) {
            p[i * n + order[i * n + j].at] = (j < best ? boost : 1) / sum;
        }
    }
    free(order);
    free(gain);
    return CMIF_OK;
}

/* Each row boosts its own word; that of a word that is no output boosts the block's medoid. */
static void krr_rows(const table_plan *plan, uint32_t block, const uint32_t *members, size_t m, const uint32_t *outputs,
                     size_t n, long double *p)
{
    const long double boost = expl(plan->epsilon);
    for (size_t i = 0; i < m; i++) {
        const uint32_t wanted = plan_releases(plan, members[i]) ? members[i] : plan->blocks->medoid[block];
        size_t         best   = 0;
        while (best < n && outputs[best] != wanted) {
            best++;
        }
        const long double sum = best < n ? boost + (long double) (n - 1) : (long double) n;
        for (size_t j = 0; j < n; j++) {
            p[i * n + j] = (j == best ? boost : 1) / sum;
        }
    }
}

typedef struct block_work {
    uint32_t *members, *at; /* words block by block, ascending in one; [blocks + 1] into them */
} block_work;

/* Weights of the rows of one block: a row for each member, a weight for each member that may leave. Where one output is
 * all there is, it leaves with certainty. */
static cmif_code block_job(table_plan *plan, uint32_t block, cmif_err *err)
{
    const cmif_mechanism_options *options = plan->options;
    const block_work             *work    = plan->work;
    const uint32_t               *members = work->members + work->at[block];
    const uint32_t               *outputs = plan->outputs + plan->block_at[block];
    const size_t                  m       = work->at[block + 1] - work->at[block];
    const size_t                  n       = plan->block_at[block + 1] - plan->block_at[block];
    for (size_t i = 0; n == 1 && i < m; i++) {
        plan->weights[(size_t) members[i] * plan->stride] = (uint64_t) 1 << plan->bits;
    }
    if (n == 1) {
        return CMIF_OK;
    }
    long double *u       = calloc(m * m, sizeof *u);
    long double *p       = calloc(m * n, sizeof *p);
    uint64_t    *weights = calloc(m * n, sizeof *weights);
    cmif_code    rc      = CMIF_OK;
    if (!u || !p || !weights) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a block of %zu words", m);
        goto done;
    }
    if (options->mechanism != CMIF_MECHANISM_KRR) {
        score_block(plan, members, m, u);
        for (size_t i = 0, next = 0; i < m; i++) { /* from here on (m, n): columns of outputs only */
            for (size_t j = 0; j < m; j++) {
                if (plan_releases(plan, members[j])) {
                    u[next++] = u[i * m + j];
                }
            }
        }
    }
    if (options->mechanism == CMIF_MECHANISM_KRR) {
        krr_rows(plan, block, members, m, outputs, n, p);
    } else if (options->mechanism == CMIF_MECHANISM_SUBSET) {
        rc = subset_rows(plan, members, u, m, n, p, err);
    } else if (options->calibrate) {
        rc = calibrated_rows(plan, u, m, n, p, err);
    } else { /* rnm; custext is its gumbel */
        rc = noisy_rows(options->noise, u, m, n, plan->epsilon / 2, p, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_round_block(p, m, n, plan->bits, plan->num, plan->den, weights, n, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "block %" PRIu32, block);
        goto done;
    }
    for (size_t i = 0; i < m; i++) {
        memcpy(plan->weights + (size_t) members[i] * plan->stride, weights + i * n, n * sizeof *weights);
    }
done:
    free(u);
    free(p);
    free(weights);
    return rc;
}

/* Every word has a row, and the members of a block that are not rude are its outputs; without any, the empty word is.
 */
static cmif_code plan_in_blocks(table_plan *plan, cmif_err *err)
{
    const cmif_blocks *blocks = plan->blocks;
    block_work         work   = {.members = calloc(plan->words, sizeof *work.members),
                                 .at      = calloc((size_t) blocks->count + 1, sizeof *work.at)};
    uint32_t          *next   = calloc(blocks->count, sizeof *next); /* where the next member, the next output goes */
    uint32_t          *room   = calloc(blocks->count, sizeof *room); /* outputs of a block */
    uint32_t           most = 0, all = 0;
    cmif_code          rc = CMIF_OK;
    if (!work.members || !work.at || !next || !room) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " blocks", blocks->count);
        goto done;
    }
    for (uint32_t w = 0; w < plan->words; w++) {
        work.at[blocks->block_of[w] + 1]++;
        room[blocks->block_of[w]] += plan_releases(plan, w);
    }
    for (uint32_t b = 0; b < blocks->count; b++) {
        next[b] = work.at[b];
        work.at[b + 1] += work.at[b];
        room[b] = room[b] ? room[b] : 1;
        most    = room[b] > most ? room[b] : most;
        all += room[b];
    }
    for (uint32_t w = 0; w < plan->words; w++) {
        work.members[next[blocks->block_of[w]]++] = w;
    }
    rc = plan_room(plan, plan->words, blocks->count, all, most, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t b = 0; b < blocks->count; b++) {
        plan->block_at[b + 1] = plan->block_at[b] + room[b];
        next[b]               = plan->block_at[b];
    }
    for (uint32_t w = 0; w < plan->words; w++) {
        plan->row_of[w]   = w;
        plan->block_of[w] = blocks->block_of[w];
        if (plan_releases(plan, w)) { /* the output of a block without any stays 0, the empty word */
            plan->outputs[next[blocks->block_of[w]]++] = w;
        }
    }
    plan->work = &work;
    rc         = plan_run(plan, block_job, blocks->count, "rows of blocks", err);
    plan->work = NULL;
done:
    free(work.members);
    free(work.at);
    free(next);
    free(room);
    return rc;
}

/* One row and one output for each block: nothing of the word but its block leaves. */
static cmif_code plan_general(table_plan *plan, cmif_err *err)
{
    const cmif_blocks *blocks = plan->blocks;
    cmif_code          rc     = plan_room(plan, blocks->count, blocks->count, blocks->count, 1, err);
    for (uint32_t b = 0; b < blocks->count && rc == CMIF_OK; b++) {
        plan->block_of[b]     = b;
        plan->block_at[b + 1] = b + 1;
        plan->outputs[b]      = plan_releases(plan, blocks->medoid[b]) ? blocks->medoid[b] : 0;
        plan->weights[b]      = (uint64_t) 1 << plan->bits;
    }
    if (rc == CMIF_OK) {
        memcpy(plan->row_of, blocks->block_of, plan->words * sizeof *plan->row_of);
    }
    return rc;
}

/* ---- the whole ---- */

static bool in_blocks(cmif_mechanism mechanism)
{
    return mechanism == CMIF_MECHANISM_RNM || mechanism == CMIF_MECHANISM_SUBSET || mechanism == CMIF_MECHANISM_KRR ||
           mechanism == CMIF_MECHANISM_GENERAL || mechanism == CMIF_MECHANISM_CUSTEXT ||
           mechanism == CMIF_MECHANISM_CUSTEXT_PLUS;
}

static cmif_code check_epsilon(table_plan *plan, cmif_err *err)
{
    uint64_t num = plan->options->epsilon_num, den = plan->options->epsilon_den;
    if (plan->options->mechanism == CMIF_MECHANISM_GENERAL) {
        num = 0, den = 1; /* whatever was asked for: it spends none */
    }
    uint64_t a = num, b = den;
    while (b) {
        uint64_t rest = a % b;
        a             = b;
        b             = rest;
    }
    if (den == 0 || den / a > 1000000 || num > 32 * den) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "epsilon is %" PRIu64 "/%" PRIu64 "; it is at most 32, its denominator 1 to 1000000", num,
                         den);
    }
    if (num == 0 && plan->options->mechanism != CMIF_MECHANISM_GENERAL) {
        return cmif_fail(err, CMIF_E_RANGE, "epsilon is 0: only 'general' needs none; '%s' would draw without looking",
                         cmif_mechanism_name(plan->options->mechanism));
    }
    plan->num     = num / a;
    plan->den     = den / a;
    plan->epsilon = (long double) num / (long double) den;
    return CMIF_OK;
}

static cmif_code check_inputs(const table_plan *plan, cmif_err *err)
{
    const cmif_mechanism_options *options = plan->options;
    const char                   *name    = cmif_mechanism_name(options->mechanism);
    const cmif_blocks            *blocks  = plan->blocks;
    const bool no_vectors = options->mechanism == CMIF_MECHANISM_KRR || options->mechanism == CMIF_MECHANISM_GENERAL ||
                            (options->mechanism == CMIF_MECHANISM_FULL && options->classes && options->classes < 8);
    if (!name) {
        return cmif_fail(err, CMIF_E_RANGE, "there is no mechanism %d", (int) options->mechanism);
    }
    if (plan->words == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "the lexicon has no words, not even the empty one");
    }
    if (options->mechanism == CMIF_MECHANISM_RNM && !options->noise) {
        return cmif_fail(err, CMIF_E_RANGE, "rnm needs a noise: laplace, exponential or gumbel");
    }
    if (options->calibrate && options->mechanism != CMIF_MECHANISM_RNM) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' cannot be calibrated, only rnm can", name);
    }
    if (plan->vectors ? plan->vectors->count != plan->words : !no_vectors) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' needs a vector for each of %" PRIu32 " words, there are %" PRIu32,
                         name, plan->words, plan->vectors ? plan->vectors->count : 0);
    }
    if (in_blocks(options->mechanism) && !blocks) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' needs blocks", name);
    }
    for (uint32_t w = 0, seen = 0; blocks && w < plan->words; w++) {
        if (blocks->block_of[w] > seen || blocks->block_of[w] >= blocks->count) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "word %" PRIu32 " is in block %" PRIu32 "; %" PRIu32 " of %" PRIu32 " come before it", w,
                             blocks->block_of[w], seen, blocks->count);
        }
        seen += blocks->block_of[w] == seen;
        if (w + 1 == plan->words && seen != blocks->count) {
            return cmif_fail(err, CMIF_E_RANGE, "%" PRIu32 " blocks, but words are in %" PRIu32, blocks->count, seen);
        }
    }
    for (uint32_t b = 0; blocks && b < blocks->count; b++) {
        if (blocks->medoid[b] >= plan->words || blocks->block_of[blocks->medoid[b]] != b) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "the medoid of block %" PRIu32 " is word %" PRIu32 ", which is not in it", b,
                             blocks->medoid[b]);
        }
    }
    return CMIF_OK;
}

static cmif_adjacency adjacency_of(cmif_mechanism mechanism)
{
    switch (mechanism) {
    case CMIF_MECHANISM_METRIC:
    case CMIF_MECHANISM_FULL:
        return CMIF_ADJACENT_ANY;
    case CMIF_MECHANISM_PAPER:
    case CMIF_MECHANISM_SANTEXT:
    case CMIF_MECHANISM_SANTEXT_PLUS:
        return CMIF_ADJACENT_NONE;
    default:
        return CMIF_ADJACENT_BLOCK;
    }
}

static cmif_code plan_fill(table_plan *plan, cmif_err *err)
{
    switch (plan->options->mechanism) {
    case CMIF_MECHANISM_GENERAL:
        return plan_general(plan, err);
    case CMIF_MECHANISM_METRIC:
    case CMIF_MECHANISM_SANTEXT:
    case CMIF_MECHANISM_SANTEXT_PLUS:
        return plan_metric(plan, err);
    case CMIF_MECHANISM_FULL:
        return plan_full(plan, err);
    case CMIF_MECHANISM_PAPER:
        return plan_paper(plan, err);
    default:
        return plan_in_blocks(plan, err);
    }
}

static cmif_code plan_write(const table_plan *plan, const char *path, cmif_err *err)
{
    const cmif_mechanism_options *options = plan->options;
    cmif_table_draft              draft   = {
                       .claim         = {.mechanism = options->mechanism,
                                         .noise = options->mechanism == CMIF_MECHANISM_RNM || options->mechanism == CMIF_MECHANISM_PAPER
                                                      ? options->noise
                                                      : CMIF_NOISE_NONE,
                                         .adjacency   = adjacency_of(options->mechanism),
                                         .calibrated  = options->calibrate,
                                         .k           = options->k ? options->k : plan->stride,
                                         .epsilon_num = plan->num,
                                         .epsilon_den = plan->den},
                       .weight_bits   = plan->bits,
                       .word_count    = plan->words,
                       .row_count     = plan->row_count,
                       .block_count   = plan->block_count,
                       .words         = plan->lexicon->words,
                       .prior         = plan->lexicon->prior,
                       .row_of        = plan->row_count < plan->words ? plan->row_of : NULL,
                       .block_of      = plan->block_of,
                       .block_at      = plan->block_at,
                       .outputs       = plan->outputs,
                       .weights       = plan->weights,
                       .weight_stride = plan->stride,
    };
    if (!in_blocks(options->mechanism) && options->mechanism != CMIF_MECHANISM_PAPER) {
        draft.claim.k = 0;
    }
    memcpy(draft.claim.lexicon_hash, plan->lexicon->hash, sizeof draft.claim.lexicon_hash);
    memcpy(draft.claim.recipe_hash, options->recipe_hash, sizeof draft.claim.recipe_hash);
    if (plan->vectors) {
        memcpy(draft.claim.vectors_hash, plan->vectors->hash, sizeof draft.claim.vectors_hash);
    }
    return cmif_table_write(&draft, path, err);
}

cmif_code cmif_mechanism_build(const cmif_mechanism_options *options, const cmif_lexicon *lexicon,
                               const cmif_vectors *vectors, const float *valence, const cmif_blocks *blocks,
                               const char *path, cmif_progress progress, void *context, cmif_err *err)
{
    cmif_mechanism_options own  = *options;
    table_plan             plan = {.options  = &own,
                                   .lexicon  = lexicon,
                                   .vectors  = vectors,
                                   .valence  = valence,
                                   .blocks   = blocks,
                                   .progress = progress,
                                   .context  = context,
                                   .words    = lexicon->count,
                                   .bits     = 32};
    if (own.mechanism == CMIF_MECHANISM_PAPER && !own.noise) {
        own.noise = CMIF_NOISE_LAPLACE;
    }
    if (own.mechanism == CMIF_MECHANISM_CUSTEXT || own.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS) {
        own.noise = CMIF_NOISE_GUMBEL;
    }
    cmif_err  why = {.code = CMIF_OK};
    cmif_code rc  = check_inputs(&plan, err);
    rc            = rc == CMIF_OK ? check_epsilon(&plan, err) : rc;
    if (rc == CMIF_OK) {
        rc = plan_fill(&plan, &why);
        if (rc == CMIF_E_RANGE && plan.bits == 32) { /* 2^32 may be too coarse for the smallest probability */
            plan.bits = 63;
            rc        = plan_fill(&plan, &why);
        }
        if (rc != CMIF_OK && err) {
            *err = why;
        }
    }
    rc = rc == CMIF_OK ? plan_write(&plan, path, err) : rc;
    plan_clear(&plan);
    return rc;
}
