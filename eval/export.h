/* export - what leaves for a list of labelled texts, as a file that a model can be trained on: the distinct rows, which of them each
 * text sends, and its label. tools/finetune reads it.
 *
 * A GGUF file of architecture "cmif-rows": key cmif.rows.model (SHA-256 of the model whose rows these are), cmif.rows.of (what made
 * them: mechanism, table, language model); tensors rows (F32, width x distinct), tokens (I32, a row for each token of all
 * texts), offsets (I32, where a text's tokens begin, and the end), labels (I32, one for each text).
 *
 * Sees    rows of released text. What is written says no more than what would be sent. */
#ifndef CMIF_EVAL_EXPORT_H
#define CMIF_EVAL_EXPORT_H

#include "side.h"

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cmif_export cmif_export;

/* Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_export_new(size_t width, cmif_export **out, cmif_err *err);
void                    cmif_export_free(cmif_export *out); /* NULL is welcome */

/* One text more: count rows of width floats, as they would be sent. Errors: MEMORY, RANGE (more than 2^31 - 1 tokens). */
CMIF_MUST_USE cmif_code cmif_export_put(cmif_export *out, const float *rows, size_t count, uint8_t label, cmif_err *err);
size_t                  cmif_export_rows(const cmif_export *out); /* distinct ones */

/* Write the file; whole or not there. Errors: RANGE (no text), IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_export_write(cmif_export *out, const uint8_t model_id[static 32], const char *of, const char *path,
                                          cmif_err *err);

#endif
