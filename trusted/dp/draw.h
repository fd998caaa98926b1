/* draw - from a row of a certified table, by one uniform word and a fixed-time scan.
 *
 * No floats, no rejection, no branch and no address that depends on the uniform word or on the result. The address of the row
 * depends on the word; reading all rows instead is a later step, in this file alone.
 *
 * Sees    secret word ids.
 * Source  design.md sections 4 and 8; research note on oblivious selection. */
#ifndef CMIF_DP_DRAW_H
#define CMIF_DP_DRAW_H

#include "side.h"

#include "dp/noise.h"
#include "table/table.h"

/* Draw one output for each word: outputs[i] is the id of the word that may leave in the place of words[i].
 *   words    (count) ids below table->word_count
 *   outputs  (count) the caller's; may not overlap words; zeros on any error
 * Errors: RANGE (a word outside the table), IO, MEMORY (no random bytes). */
CMIF_MUST_USE cmif_code cmif_dp_draw(const cmif_table *table, cmif_noise *noise, const uint32_t *words, size_t count,
                                     uint32_t *outputs, cmif_err *err);

/* Which output of its block a row gives for the uniform word u (of table->weight_bits bits): the scan itself. */
uint32_t cmif_dp_pick(const cmif_table *table, uint32_t row, uint64_t u);

#endif
