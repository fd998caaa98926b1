/* rows - rows of an embedding table in the formats they are stored and sent in.
 *
 * One row is `width` floats. ids are not rows: a row type of CMIF_ROWS_ID says that token ids travel instead.
 * Source  GGUF block layouts F32, F16, BF16, Q8_0 (blocks of 32: f16 scale, 32 x i8). */
#ifndef CMIF_ROWS_ROWS_H
#define CMIF_ROWS_ROWS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_row_type { CMIF_ROWS_ID = 0, CMIF_ROWS_F32, CMIF_ROWS_F16, CMIF_ROWS_BF16, CMIF_ROWS_Q8_0 } cmif_row_type;
#define CMIF_ROW_TYPES 5

/* "ids", "f32", "f16", "bf16", "q8_0"; NULL for anything else. */
const char *cmif_row_type_name(unsigned type);
/* false when the name is none of the five. */
bool cmif_row_type_find(const char *name, cmif_row_type *out);

/* Bytes of one row (4 for ids); 0 when the type cannot hold this width (q8_0 wants a multiple of 32; width <= 65536). */
size_t cmif_row_size(cmif_row_type type, size_t width);

/* bytes (cmif_row_size) -> floats (width). type is not CMIF_ROWS_ID. Exact: every stored value is a float. */
void cmif_row_decode(cmif_row_type type, const void *bytes, float *floats, size_t width);

/* floats (width) -> bytes (cmif_row_size), rounded to nearest even. type is not CMIF_ROWS_ID. */
void cmif_row_encode(cmif_row_type type, const float *floats, void *bytes, size_t width);

/* Is every float finite and no larger in size than limit? The engine takes NaN, and 1e30, without a word. */
bool cmif_row_is_sane(const float *floats, size_t width, float limit);

#endif
