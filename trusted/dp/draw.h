/* draw - from a row of a certified table, by one uniform word and a fixed-time scan.
 *
 * No floats, no rejection, no branch and no address that depends on the uniform word or on the result. The address of the row
 * depends on the word; reading all rows instead is a later step, in this file alone. Rows are read as whole groups of 32 bytes:
 * the table is one that cmif_table_open opened, whose sections begin at multiples of 64 bytes and are padded to them.
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

/* The scan alone, for uniform words that the caller gives, on one instruction set; the result is the same on all. False (and
 * outputs untouched) when this machine does not have it. For tests and bench/.
 *   uniform  (count) uint32_t; uint64_t below 2^63 where weight_bits is 63 */
typedef enum cmif_scan_path { CMIF_SCAN_PLAIN, CMIF_SCAN_AVX2 } cmif_scan_path;
bool cmif_dp_scan(cmif_scan_path path, const cmif_table *table, const uint32_t *words, const void *uniform, size_t count,
                  uint32_t *outputs);

/* Which output of its block a row gives for the uniform word u (of table->weight_bits bits): the scan itself. */
uint32_t cmif_dp_pick(const cmif_table *table, uint32_t row, uint64_t u);

#endif
