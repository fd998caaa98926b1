/* pairs - two texts as vectors: what a head sees of them, how near they are, and whether nearness keeps its order. Pure functions.
 *
 * Sources  |u - v| and u * v as features: Conneau et al. 2017 (InferSent). Spearman 1904, ties by mean ranks; its interval by Fisher's z
 *          with the variance of Fieller, Hartley, Pearson 1957: 1.06 / (n - 3). */
#ifndef CMIF_EVAL_PAIRS_H
#define CMIF_EVAL_PAIRS_H

#include "side.h"

#include "stats.h"

#include "base/err.h"

#define CMIF_PAIR_FEATURES(width) (2 * (width) + 1)
/* |u - v|, u * v, and their cosine, one after the other: out (CMIF_PAIR_FEATURES(width)). The same for (v, u). */
void cmif_pair_features(const float *u, const float *v, size_t width, float *out);

/* The cosine of the angle between u and v; 0 where one of them is 0. */
double cmif_pair_cosine(const float *u, const float *v, size_t width);

/* Spearman's rank correlation of a and b: 1 where they order alike. NAN for fewer than two, or where a or b is all the same.
 * Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_pair_spearman(const double *a, const double *b, size_t count, double *out, cmif_err *err);

/* Interval of a rank correlation r of count pairs; fewer than four: [-1, 1]. confidence: 0.95. */
cmif_interval cmif_pair_interval(double r, size_t count);

#endif
