/* mechanism - closed forms of the mechanisms, and integer weights whose ratios keep the guarantee after rounding.
 *
 * Source  research note on differential privacy, section 2 (closed forms, golden values); McKenna, Sheldon 2020 (permute-and-flip);
 *         Yue et al. 2021 (SANTEXT); Chen et al. 2023 (CUSTEXT); Kairouz et al. 2014 (subset, k-ary randomized response). */
#ifndef CMIF_MECHANISM_MECHANISM_H
#define CMIF_MECHANISM_MECHANISM_H

#include "blocks/blocks.h"
#include "table/table.h"
#include "vectors/vectors.h"

/* ---- closed forms: p (n) from scores q (n) at lambda = 1 / noise scale; accurate to 1e-15 ---- */
void cmif_closed_gumbel(const long double *q, size_t n, long double lambda, long double *p); /* the exponential mechanism */
/* Permute-and-flip, and Laplace noise. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_closed_exponential(const long double *q, size_t n, long double lambda, long double *p, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_closed_laplace(const long double *q, size_t n, long double lambda, long double *p, cmif_err *err);
/* The loss of rows (m, n) of probabilities: ln of the largest ratio in a column. */
long double cmif_closed_loss(const long double *p, size_t m, size_t n);

/* Integer weights of a block: rows (m, n) of probabilities become weights >= 1 that sum to 2^bits in each row, within 1 unit of the closed form
 * where that keeps `high / low <= e^(num/den)` in every column; else rows are first mixed with the column means by the smallest power of two that
 * does (a few units: rows that lose exactly epsilon need it). A single row has no ratio to keep.
 *   weights  (m, stride) the caller's; meaningless on failure
 * Errors: RANGE (a probability below 2^-bits; rows that lose more than num/den before rounding; both figures), MEMORY. */
CMIF_MUST_USE cmif_code cmif_round_block(const long double *p, size_t m, size_t n, uint32_t bits, uint64_t num, uint64_t den,
                                         uint64_t *weights, size_t stride, cmif_err *err);

typedef struct cmif_mechanism_options {
    cmif_mechanism  mechanism;
    cmif_noise_kind noise;          /* of rnm, and of paper (none: laplace) */
    bool            calibrate;      /* rnm: scale to the exact loss of each block instead of 2 Delta / epsilon */
    uint64_t        epsilon_num, epsilon_den; /* general spends none, whatever is asked for */
    uint32_t        k;              /* of paper; for the claim of the others (0: the largest block) */
    uint32_t        boost;          /* m of subset; 0: the best one for each block by expected score */
    uint32_t        classes;        /* of full: 2, 3 (valence) or 8..64 (clusters of vectors); 0: 3 where there is a valence, else 32 */
    float           p, w;           /* of santext+; 0: the published .3 and .9 */
    uint32_t        threads;        /* 0: all cores; no byte depends on it */
    uint8_t         recipe_hash[32];
} cmif_mechanism_options;

/* Build the table of a mechanism and write it: 32 bits, or 63 where a probability is too small for that.
 *
 * Rude words of the lexicon are drawn to other words, but never leave: they have rows, and are no outputs. A block of rude words only leaves
 * as the unknown word; krr draws a rude word around its block's medoid. Only in the baselines (custext(+), santext(+), paper) all words are
 * outputs, as published.
 * In blocks (rnm, subset, krr, general, custext, custext+): a word alone in its block passes. Scores: cosine similarity in the block, scaled to
 * [0, 1] over all pairs of the block and clipped (sensitivity 1). What custext and custext+ pass is up to the blocks. Adjacency: the block.
 * metric   exponent -(epsilon/2) d / d_max over all words that have a vector; the others, the unknown word among them, draw uniformly. So
 *          epsilon is what the two words lose that are farthest apart. Adjacency: any two words.
 * full     classes of all words, the unknown word in the neutral one (of two: the one that is not negative); a class is released as its medoid,
 *          through k-ary randomized response. Adjacency: any two words.
 * santext  as published: exponent -(epsilon/2) d, and epsilon holds for words at distance 1. paper and santext+: sets of outputs that differ. These
 *          three claim no adjacency. In paper, words alone in their block pass (without blocks: function words and negations), and a word without a
 *          vector leaves as the unknown word.
 *
 * vectors may be NULL for krr, general and full by valence; blocks for all but the first group; valence for all but full.
 * Errors: RANGE (a table above 1 GiB, epsilon 0 for a mechanism that needs one, ...), CANCELLED, and those of cmif_table_write. */
CMIF_MUST_USE cmif_code cmif_mechanism_build(const cmif_mechanism_options *options, const cmif_lexicon *lexicon,
                                             const cmif_vectors *vectors, const float *valence, const cmif_blocks *blocks,
                                             const char *path, cmif_progress progress, void *context, cmif_err *err);

#endif
