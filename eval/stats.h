/* stats - what may be said of counted results: means, intervals, paired tests. Pure functions, no allocation, no state.
 *
 * Sources  Wilson 1927; Clopper and Pearson 1934; McNemar 1947; Holm 1979; Tango, Stat. Med. 17 (1998) 891;
 *          the incomplete beta function by Lentz's continued fraction (DLMF 8.17.22).
 * A count over another or a confidence outside (0, 1) is a programmer's mistake: asserted. */
#ifndef CMIF_EVAL_STATS_H
#define CMIF_EVAL_STATS_H

#include "side.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cmif_interval {
    double low, high;
} cmif_interval;

/* Mean, and standard deviation of a sample (divisor count - 1).
 * NAN where there is nothing to say: the mean of no value, the deviation of fewer than two. */
typedef struct cmif_mean {
    double mean, sd;
    size_t count;
} cmif_mean;
cmif_mean cmif_stats_mean(const double *values, size_t count);

/* Of count items, hits: intervals of the rate. No item: [0, 1].
 * Wilson's score interval is what tables print; Clopper-Pearson's never covers less than it says, which an audit needs. */
cmif_interval cmif_stats_wilson(uint64_t hits, uint64_t count, double confidence);
cmif_interval cmif_stats_clopper_pearson(uint64_t hits, uint64_t count, double confidence);

/* One side of Clopper-Pearson: the rate is above low (below high) except with probability alpha. */
double cmif_stats_rate_low(uint64_t hits, uint64_t count, double alpha);
double cmif_stats_rate_high(uint64_t hits, uint64_t count, double alpha);

/* The same items judged twice: only_a are right under A alone, only_b under B alone.
 * Exact (binomial, two-sided) to CMIF_STATS_EXACT items that differ, beyond that chi-square without continuity correction.
 * One pair an item: results of several seeds on one item are not independent; cmif_stats_paired is for these. */
#define CMIF_STATS_EXACT 10000
typedef struct cmif_mcnemar {
    double p;
    bool   exact; /* else chi-square */
} cmif_mcnemar;
cmif_mcnemar cmif_stats_mcnemar(uint64_t only_a, uint64_t only_b);

/* Rate of A minus rate of B over the same count items, with Tango's score interval, and the p of cmif_stats_mcnemar. The
 * interval at 1 - alpha holds 0 exactly when the chi-square form of that test has p >= alpha. No item: 0 in [-1, 1]. */
typedef struct cmif_difference {
    double        difference;
    cmif_interval interval;
    double        p; /* of "there is no difference" */
} cmif_difference;
cmif_difference cmif_stats_paired_rates(uint64_t only_a, uint64_t only_b, uint64_t count, double confidence);

/* Mean of a[i] - b[i] over items, with Student's t interval and p. For scores (ROUGE), and for rates averaged over seeds:
 * a[i] is the share of seeds for which item i was right. Fewer than two items: NAN, NAN, NAN and p = 1. */
cmif_difference cmif_stats_paired(const double *a, const double *b, size_t count, double confidence);

/* Two rows of a table, over the same items: which of them is right more often? Where both have one run, McNemar's exact test; else the
 * paired t test over items of the shares of runs (of every seed, of noise and of blocks) that were right, so that no run is picked out.
 *   a, b            (count) share of its runs for which each item was right
 *   a_runs, b_runs  how many these are */
typedef struct cmif_compared {
    cmif_difference paired; /* the difference and its t interval are of all runs; p is that of the test that was made */
    bool            exact;  /* McNemar's */
} cmif_compared;
cmif_compared cmif_stats_compare(const double *a, size_t a_runs, const double *b, size_t b_runs, size_t count, double confidence);

/* Holm's step-down: adjusted[i] <= alpha exactly where hypothesis i is rejected with family-wise error alpha.
 *   p, adjusted  (count), in the caller's order; two arrays */
void cmif_stats_holm(const double *restrict p, size_t count, double *restrict adjusted);

/* I_x(a, b), the regularized incomplete beta function; a, b > 0, x in [0, 1]. P(X <= k) of n trials at q is
 * cmif_stats_beta(n - k, k + 1, 1 - q). */
double cmif_stats_beta(double a, double b, double x);

#endif
