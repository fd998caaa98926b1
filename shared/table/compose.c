/* (epsilon, delta) of many draws, as an upper bound up to the rounding of doubles, for which there is a margin.
 *
 * One draw    the largest hockey-stick divergence sum_y max(0, P(y) - g Q(y)) of any two adjacent rows, at dots g =
 * e^(i h). Its pair    the least distribution of losses on the same dots whose own divergence is nowhere below: the
 * true one is convex in g and this one is straight between the dots, so it dominates every pair (connect the dots).
 * Many draws  convolution by repeated squaring. Where the dots grow too many a loss between two coarser dots is split
 * so that the masses under P and under Q both stay (connect the dots again); tails go to infinity, or up.
 *
 * Source  Zhu, Dong, Wang 2022 (dominating pairs compose); Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022 (connect
 * the dots); Kairouz, Oh, Viswanath 2015 (randomized response dominates every mechanism of one epsilon). */
#include "table/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DOTS      = 64,   /* from loss 0 to the certified loss */
    CELLS_MAX = 4096, /* of a distribution of losses */
    DRAWS_MAX = 1000000,
    MILLION   = 1000000
};

static const double PAIRS_WORK = 2e9;     /* multiplications spent on pairs before bounds take over */
static const double ULPS       = 0x1p-50; /* more than any rounding of one weight, ratio or product */
static const double SLACK      = 1e-9;    /* of delta, for the rounding of sums, and for what tails are cut at */

/* ---- one draw ---- */

typedef struct profile {
    double g[DOTS];     /* e^(i h) */
    double delta[DOTS]; /* the largest divergence so far */
    double most[DOTS];  /* that of randomized response: what it can be at all */
    double work;        /* multiplications so far */
} profile;

/* sum_y max(0, p(y) - g q(y)) at every dot, rounded upward. */
static void divergence(const profile *f, const double *p, const double *q, size_t n, double sum[static DOTS])
{
    memset(sum, 0, DOTS * sizeof *sum);
    for (size_t y = 0; y < n; y++) {
        const double up = p[y] * (1 + ULPS), down = q[y] * (1 - ULPS);
        for (size_t i = 0; i < DOTS; i++) {
            const double excess = up - f->g[i] * down;
            sum[i] += excess > 0 ? excess : 0;
        }
    }
    for (size_t i = 0; i < DOTS; i++) {
        sum[i] *= 1 + ULPS * (double) (n + 1);
    }
}

static bool is_covered(const profile *f, const double sum[static DOTS])
{
    for (size_t i = 0; i < DOTS; i++) {
        if (sum[i] > f->delta[i]) {
            return false;
        }
    }
    return true;
}

static void raise_to(double *to, const double sum[static DOTS])
{
    for (size_t i = 0; i < DOTS; i++) {
        to[i] = sum[i] > to[i] ? sum[i] : to[i];
    }
}

/* Rows (m, n) of probabilities that are adjacent to each other. No row is below the column minima nor above the maxima,
 * so one pass over the rows bounds all pairs, and tells which rows need a closer look. low and high have room for n. */
static void take_rows(profile *f, const double *rows, size_t m, size_t n, double *low, double *high)
{
    double from_high[DOTS] = {0}, to_low[DOTS] = {0}, sum[DOTS];
    memcpy(low, rows, n * sizeof *low);
    memcpy(high, rows, n * sizeof *high);
    for (size_t x = 1; x < m; x++) {
        for (size_t y = 0; y < n; y++) {
            const double p = rows[x * n + y];
            low[y]         = p < low[y] ? p : low[y];
            high[y]        = p > high[y] ? p : high[y];
        }
    }
    for (size_t x = 0; x < m; x++) {
        divergence(f, &rows[x * n], low, n, sum);
        raise_to(to_low, sum);
        divergence(f, high, &rows[x * n], n, sum);
        raise_to(from_high, sum);
    }
    f->work += 2.0 * DOTS * (double) m * (double) n;
    for (size_t i = 0; i < DOTS; i++) {
        to_low[i] = fmin(fmin(to_low[i], from_high[i]), f->most[i]);
    }
    if (is_covered(f, to_low)) {
        return;
    }
    const double all = (double) m * (double) m * (double) n * DOTS;
    if (f->work + all > PAIRS_WORK) {
        raise_to(f->delta, to_low);
        return;
    }
    for (size_t x = 0; x < m; x++) {
        divergence(f, &rows[x * n], low, n, sum);
        for (size_t z = 0; z < m && !is_covered(f, sum); z++) {
            double pair[DOTS];
            divergence(f, &rows[x * n], &rows[z * n], n, pair);
            raise_to(f->delta, pair);
            f->work += (double) n * DOTS;
        }
    }
}

/* Probabilities of the rows of a block that differ from the one before them. */
static size_t read_rows(const cmif_table *table, const uint32_t *rows, uint32_t count, uint32_t n, double *out)
{
    size_t m = 0;
    for (uint32_t i = 0; i < count; i++) {
        double *row = &out[m * n];
        for (uint32_t j = 0; j < n; j++) {
            row[j] = ldexp((double) cmif_table_weight(table, rows[i], j), -(int) table->weight_bits);
        }
        m += m == 0 || memcmp(row, row - n, n * sizeof *row) != 0;
    }
    return m;
}

/* Blocks that may be compared: each by itself, or all as one when any two words are adjacent (their outputs are the
 * same then). */
static cmif_code take_table(const cmif_table *table, profile *f, cmif_err *err)
{
    const bool any   = table->claim.adjacency == CMIF_ADJACENT_ANY;
    size_t     room  = 1;
    double    *cells = NULL;
    for (uint32_t b = 0; b < table->block_count; b++) {
        const size_t n = table->block_at[b + 1] - table->block_at[b];
        const size_t m = any ? table->row_count : table->rows_at[b + 1] - table->rows_at[b];
        room           = n * (m + 2) > room ? n * (m + 2) : room;
    }
    cells = malloc(room * sizeof *cells);
    if (!cells) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to compare %zu weights", room);
    }
    for (uint32_t b = 0; b < (any ? 1 : table->block_count); b++) {
        const uint32_t n     = table->block_at[b + 1] - table->block_at[b];
        const uint32_t count = any ? table->row_count : table->rows_at[b + 1] - table->rows_at[b];
        if (n > 1 && count > 1) {
            const size_t m =
                read_rows(table, &table->rows[any ? 0 : table->rows_at[b]], count, n, &cells[2 * (size_t) n]);
            take_rows(f, &cells[2 * (size_t) n], m, n, cells, &cells[n]);
        }
    }
    free(cells);
    return CMIF_OK;
}

/* ---- distributions of losses ---- */

typedef struct losses {
    double *p; /* [count] mass at loss (first + i) * h */
    size_t  count;
    int64_t first;
    int     doublings; /* h = 2^doublings * that of one draw */
    double  infinite;  /* mass at an infinite loss */
    double  draws;
} losses;

/* The least masses at losses 0, h, ..., DOTS h that reach the profile at every dot, and their mirror images: adjacency
 * has no direction, so mass p at loss l comes with mass p e^-l at -l. */
static void fit(const profile *f, double h, double mass[static 2 * DOTS + 1])
{
    double *p     = &mass[DOTS];
    double  total = 0;
    for (size_t i = DOTS; i-- > 0;) {
        double reached = 0;
        for (size_t k = i + 2; k <= DOTS; k++) {
            reached += p[k] * -expm1(-(double) (k - i) * h);
        }
        const double missing = f->delta[i] - reached;
        p[i + 1]             = missing > 0 ? missing / -expm1(-h) : 0;
    }
    for (size_t k = 1; k <= DOTS; k++) {
        mass[DOTS - k] = p[k] * exp(-(double) k * h);
        total += p[k] + mass[DOTS - k];
    }
    p[0] = total < 1 ? 1 - total : 0;
}

/* Twice the step. A loss between two dots a and a + 2h, at a + h, goes to both, so that p and p e^-loss stay. */
static void coarsen(losses *d, double step)
{
    const double  h  = ldexp(step, d->doublings);
    const double  up = 1 / (1 + exp(-h)), down = 1 / (1 + exp(h));
    const int64_t from  = d->first >= 0 ? d->first / 2 : -((1 - d->first) / 2); /* floor */
    const bool    odd   = d->first != 2 * from;
    const size_t  count = (d->count + odd) / 2 + 1;
    double        carry = 0;             /* what the cell before sends up */
    for (size_t c = 0; c < count; c++) { /* new cell c: old cells 2c - odd and its two neighbours */
        const size_t even = 2 * c, at = even - odd;
        double       mass = carry;
        mass += even >= odd && at < d->count ? d->p[at] : 0;
        const double next = even + 1 >= odd && at + 1 < d->count ? d->p[at + 1] : 0;
        mass += next * down;
        carry   = next * up;
        d->p[c] = mass; /* old cells up to 2c + 1 - odd >= c are used up */
    }
    d->count = count;
    d->first = from;
    d->doublings++;
}

/* Cut what is too small to matter: the upper tail is taken for an infinite loss, the lower one for the lowest loss
 * kept. */
static void trim(losses *d, double allowed)
{
    double cut = 0;
    while (d->count > 1 && cut + d->p[d->count - 1] <= allowed) {
        cut += d->p[--d->count];
    }
    d->infinite += cut;
    size_t skip = 0;
    for (cut = 0; skip + 1 < d->count && cut + d->p[skip] <= allowed; skip++) {
        cut += d->p[skip];
    }
    memmove(d->p, &d->p[skip], (d->count - skip) * sizeof *d->p);
    d->count -= skip;
    d->first += (int64_t) skip;
    d->p[0] += cut;
}

/* to = a * b; to has room for 2 CELLS_MAX and is neither. */
static void convolve(losses *to, losses *a, losses *b, double step, double allowed_a_draw)
{
    while (a->doublings < b->doublings) {
        coarsen(a, step);
    }
    while (b->doublings < a->doublings) {
        coarsen(b, step);
    }
    to->count     = a->count + b->count - 1;
    to->first     = a->first + b->first;
    to->doublings = a->doublings;
    to->draws     = a->draws + b->draws;
    to->infinite  = a->infinite + b->infinite;
    memset(to->p, 0, to->count * sizeof *to->p);
    for (size_t i = 0; i < a->count; i++) {
        const double mass = a->p[i];
        double      *out  = &to->p[i];
        for (size_t j = 0; j < b->count; j++) {
            out[j] += mass * b->p[j];
        }
    }
    trim(to, allowed_a_draw * to->draws);
    while (to->count > CELLS_MAX) {
        coarsen(to, step);
    }
}

/* The smallest epsilon >= 0 at which d loses at most delta: sum over losses l > epsilon of p (1 - e^(epsilon - l)), and
 * what is infinite. */
static double search(const losses *d, double step, double delta)
{
    const double h     = ldexp(step, d->doublings);
    double       above = 0, below = 0; /* sums of p, and of p e^(at - l), over the losses l above `at` */
    int64_t      at = d->first + (int64_t) d->count - 1;
    for (size_t i = d->count; i-- > 0 && d->infinite + above - below <= delta; at--) {
        above += d->p[i];
        below = (below + d->p[i]) * exp(-h);
    }
    if (above + d->infinite <= delta) {
        return 0;
    }
    /* delta is reached at most one step above `at`, or below all losses */
    return fmax(0, (double) at * h + fmin(log((d->infinite + above - delta) / below), h));
}

/* ---- many draws ---- */

static cmif_code compose(const profile *f, double step, uint32_t draws, double delta, double *epsilon, cmif_err *err)
{
    losses  d[3] = {{0}};
    double *room = malloc(3 * (2 * CELLS_MAX + 2) * sizeof *room);
    if (!room) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %d losses", CELLS_MAX);
    }
    for (size_t i = 0; i < 3; i++) {
        d[i].p = &room[i * (2 * CELLS_MAX + 2)];
    }
    losses *power = &d[0], *result = &d[1], *spare = &d[2];
    fit(f, step, power->p);
    power->count  = 2 * DOTS + 1;
    power->first  = -DOTS;
    power->draws  = 1;
    result->count = 1; /* no draw: no loss */
    result->p[0]  = 1;
    for (uint32_t left = draws; left > 0; left >>= 1) {
        losses *swap = spare;
        if (left & 1) {
            convolve(spare, result, power, step, SLACK * delta / draws);
            spare  = result;
            result = swap;
            swap   = spare;
        }
        if (left > 1) {
            losses copy = *power;
            convolve(spare, power, &copy, step, SLACK * delta / draws);
            spare = power;
            power = swap;
        }
    }
    *epsilon = search(result, step, delta * (1 - 100 * SLACK));
    free(room);
    return CMIF_OK;
}

cmif_code cmif_table_compose(const cmif_table *table, uint32_t draws, double delta, double *epsilon, cmif_err *err)
{
    if (!(delta > 0 && delta < 1)) {
        return cmif_fail(err, CMIF_E_RANGE, "delta is %g; it lies between 0 and 1", delta);
    }
    if (draws == 0 || draws > DRAWS_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "%u draws; 1 to %d can be composed", draws, DRAWS_MAX);
    }
    cmif_certificate certificate;
    cmif_table_certify(table, table->claim.adjacency, &certificate);
    if (table->claim.adjacency == CMIF_ADJACENT_NONE || !certificate.pure || certificate.epsilon_micro == UINT64_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "the table claims no epsilon, so there is none for %u draws", draws);
    }
    const double one = (double) certificate.epsilon_micro / MILLION, all = one * draws;
    if (certificate.epsilon_micro == 0) {
        *epsilon = 0;
        return CMIF_OK;
    }
    const double step = one / DOTS * (1 + ULPS); /* so that DOTS steps are no less than the loss */
    profile      f    = {.work = 0};
    for (size_t i = 0; i < DOTS; i++) {
        f.g[i]    = exp((double) i * step) * (1 - ULPS);
        f.most[i] = -expm1(((double) i - DOTS) * step) / (1 + exp(-DOTS * step)) * (1 + 8 * ULPS);
    }
    double    found = all;
    cmif_code rc    = take_table(table, &f, err);
    if (rc == CMIF_OK) {
        rc = compose(&f, step, draws, delta, &found, err);
    }
    if (rc == CMIF_OK) {
        *epsilon = fmin(found, all);
    }
    return rc;
}
