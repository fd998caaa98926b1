/* blocks - a public partition of the words of a lexicon.
 *
 * Deterministic: the same lexicon, vectors, options and seed give the same partition, whatever the thread count.
 * Source  Chen et al. 2023, Algorithm 1 (greedy); sanitizer study section 4 (balanced). */
#ifndef CMIF_BLOCKS_BLOCKS_H
#define CMIF_BLOCKS_BLOCKS_H

#include "lexicon/lexicon.h"
#include "vectors/vectors.h"

typedef struct cmif_blocks {
    uint32_t  count;
    uint32_t *block_of; /* [words] numbered by their lowest word; only words that pass are alone in theirs */
    uint32_t *medoid;   /* [count] the member nearest to the block's weighted mean; ties: the most frequent. Rude only where
                        * all are: then the lowest */
    double    score;    /* J of the balanced recipe, kept up to date swap by swap; 0 for greedy */
} cmif_blocks;

void cmif_blocks_free(cmif_blocks *blocks); /* contents and struct; NULL is welcome */

typedef struct cmif_blocks_options {
    uint32_t k;              /* 5..400 */
    float    valence_weight; /* w_v: of the valence axis, 0..4 */
    float    penalty;        /* lam: of the closed-form attack success, the dial between utility and privacy */
    uint64_t seed;
    uint32_t seeds;          /* try so many from `seed` on and keep, of each class, the best by J; at least 1 */
    bool     protect_all;    /* pass words and negations get blocks too, of their own classes */
    uint32_t threads;        /* 0: all cores */
    uint32_t passes;         /* of swaps, at most; 0: 6 */
} cmif_blocks_options;

/* The balanced partition: in each class a tree of balanced 2-means, then swaps under
 * J = sum_b [ sum_x w_x |x - m_b|^2 + lam * max_x pi_x ] + 5 * antonym pairs inside + 5 * min(#valence > 1, #valence < -1 inside).
 * x is the word's vector at length 1 with w_v * valence / 2 behind it; pi is the prior and w its 3/4 power, each scaled to a sum of
 * 1000 over the whole lexicon but word 0.
 * Word 0, pass words and negations are alone in their blocks (unless protect_all: then word 0 only). A class of n words has floor(n / k)
 * blocks of n / floor(n / k) words, rounded down or up, or one block when n < k; a class of one word joins UNKNOWN, so that no
 * protected word is alone. Words without a vector are placed by class and prior alone.
 *   valence   (lexicon->count) floats, or NULL
 *   progress  called in the caller's thread
 * Errors: RANGE (an option out of range, counts that differ, a number that is not finite, no words, one protected word only),
 * MEMORY, CANCELLED. */
CMIF_MUST_USE cmif_code cmif_blocks_balanced(const cmif_lexicon *lexicon, const cmif_vectors *vectors, const float *valence,
                                             const cmif_blocks_options *options, cmif_progress progress, void *context,
                                             cmif_blocks **out, cmif_err *err);
/* CusText's greedy partition: in the order of falling prior (ties: lower id), each unused word with its k - 1 nearest unused words (cosine,
 * or Euclidean; ties: lower id; exact, in double precision), the rest one last block. Classes mean nothing here.
 * Words without a vector come last, k by k in the same order; a last word that would be alone joins the block before it.
 *   pass  whether pass words and negations stay alone (CusText+) or take part (CusText). Word 0 is alone.
 * Errors: as above. */
CMIF_MUST_USE cmif_code cmif_blocks_greedy(const cmif_lexicon *lexicon, const cmif_vectors *vectors, uint32_t k, bool pass,
                                           bool euclidean, uint32_t threads, cmif_blocks **out, cmif_err *err);

typedef struct cmif_blocks_quality {
    uint32_t blocks, alone;         /* alone: blocks of one word */
    uint32_t smallest, median, largest; /* of the others */
    double   attack_success;        /* closed form, words not alone: sum over blocks of max pi / sum pi, when blocks are all that is released */
    double   share[5];              /* 5, 25, 50, 75, 95 % quantiles of the largest prior share in a block */
    double   entropy_words;         /* exp of the mean prior entropy inside a block, weighted by mass */
    uint32_t antonyms_inside, mixed_valence;
} cmif_blocks_quality;

/* valence may be NULL. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_blocks_measure(const cmif_blocks *blocks, const cmif_lexicon *lexicon, const float *valence,
                                            cmif_blocks_quality *out, cmif_err *err);

#endif
