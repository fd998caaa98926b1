/* bayes - rows that tell the model what a released word means: the posterior mean of the embedding.
 *
 * For a released word y the row is  E[row(x) | y] = sum_x pi(x) P(y|x) row(x) / sum_x pi(x) P(y|x)  under the public prior and the
 * public table; row(x) is the mean of the rows of x's pieces. Length: z * (t / |z|)^(1/2), t the same mean of |row(x)|.
 * In context the posterior is over the whole released sequence: forward-backward over the blocks with a public bigram
 * model (lm.h), mixed with 0.1 of the posterior without context. Both are functions of what was released, so they cost nothing
 * under any mechanism (docs/privacy.md).
 *
 * A cmif_ids may then hold ids from the vocabulary's size on: rows that this module makes (cmif_embed_set_more).
 *
 * Sees    released text and words, public tables. Never the prompt.
 * Source  design.md section 4; sanitizer study sections 2 and 8. */
#ifndef CMIF_EMBED_BAYES_H
#define CMIF_EMBED_BAYES_H

#include "side.h"

#include "dp/release.h"
#include "embed/embed.h"
#include "embed/lm.h"
#include "table/table.h"
#include "tokenizer/tokenizer.h"

typedef struct cmif_bayes cmif_bayes;

/* All must outlive the result; lm NULL: no context. The pieces of all words of the table are found once (about 0.1 s).
 * A word is tokenized as it stands after a space.
 * Errors: FORMAT (lm is of another vocabulary), MEMORY. */
CMIF_MUST_USE cmif_code cmif_bayes_new(const cmif_table *table, const cmif_lm *lm, cmif_tokenizer *tokenizer,
                                       cmif_embed *embed, cmif_bayes **out, cmif_err *err);
void                    cmif_bayes_free(cmif_bayes *bayes); /* NULL is welcome */

/* Append the ids of released text: ordinary ones for what was passed and for what lies between words (a space in front of a
 * replaced word belongs to it), and for each replaced or unknown word one id whose row is its posterior mean.
 * Without context a word has the same id always; in context ids are good until the next call with this bayes.
 * Errors: MEMORY, RANGE. ids is as it was on any error. */
CMIF_MUST_USE cmif_code cmif_bayes_encode(cmif_bayes *bayes, const cmif_released *text, cmif_ids *ids, cmif_err *err);

/* The row of one released word without context: row (width) floats. Word 0 (unknown): the mean over the rarer half of the words. */
CMIF_MUST_USE cmif_code cmif_bayes_row(cmif_bayes *bayes, uint32_t output, float *row, cmif_err *err);

/* The posterior over the words of each released word's block, in context (lm) or without.
 *   words  of one sentence; an unknown word is a link of the chain like any other. cmif_bayes_encode cuts a text at new lines and
 *          behind single . ! ? before white space
 *   p      for word i, doubles from p[at[i]] on: the members of its block ascending, or of each block that can give it, in order;
 *          at (count + 1), both the caller's to free
 * Used by cmif_bayes_encode; public for tests and for attacks on it: it is what an attacker would compute. */
CMIF_MUST_USE cmif_code cmif_bayes_posterior(const cmif_bayes *bayes, const cmif_released_word *words, size_t count,
                                             double **p, size_t **at, cmif_err *err);

#endif
