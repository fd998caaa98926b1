/* embed - rows of the embedding table, for token ids that may leave the machine.
 *
 * Sees    released ids and model weights, both public. Never the prompt.
 * Source  GGUF tensor "token_embd.weight", shape (vocab, width); key "cmif.row_scale"; design.md section 5. */
#ifndef CMIF_EMBED_EMBED_H
#define CMIF_EMBED_EMBED_H

#include "side.h"

#include "base/err.h"
#include "dp/release.h"
#include "gguf/gguf.h"
#include "rows/rows.h"

typedef struct cmif_embed cmif_embed;

/* Open the table in file, which must outlive it. Rows are multiplied by cmif.row_scale (1 if the key is absent).
 * Errors: FORMAT (no table, wrong shape), UNSUPPORTED (a type other than F32, F16, BF16, Q8_0), MEMORY. */
CMIF_MUST_USE cmif_code cmif_embed_open(const cmif_gguf *file, cmif_embed **out, cmif_err *err);
void                    cmif_embed_free(cmif_embed *table);
size_t                  cmif_embed_width(const cmif_embed *table);
size_t                  cmif_embed_vocab(const cmif_embed *table);

/* The smallest row type that loses nothing: the table's own where rows are not scaled, else f32. */
cmif_row_type           cmif_embed_exact_type(const cmif_embed *table);

/* Write the rows of ids->at[first .. first + count) as they travel.
 *   type  not CMIF_ROWS_ID
 *   out   (count, cmif_row_size(type, width)) bytes, the caller's; written only on success
 * Errors: RANGE (an id outside the table, first + count beyond ids), MEMORY (only with ids beyond the vocabulary). */
CMIF_MUST_USE cmif_code cmif_embed_rows(const cmif_embed *table, const cmif_ids *ids, size_t first, size_t count,
                                        cmif_row_type type, void *out, cmif_err *err);

/* Rows beside the table: ids from the vocabulary's size on are asked of more(context, id - vocab, row), which fills (width)
 * floats, unscaled, and returns false when it has no such row (a RANGE error of cmif_embed_rows). NULL: none. */
typedef bool (*cmif_embed_more)(void *context, size_t index, float *row);
void cmif_embed_set_more(cmif_embed *table, cmif_embed_more more, void *context);

/* The row of one token of the table (id below the vocabulary's size), unscaled: width floats. */
void cmif_embed_get(const cmif_embed *table, size_t id, float *row);

#endif
