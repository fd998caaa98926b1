/* tensor - rows in the container that torch.save writes, byte by byte: what vLLM takes as "prompt_embeds".
 *
 * A ZIP with four stored entries: a pickle that says type and shape, "little", the values, and the format's version. No pickle library is near it.
 *
 * Sees    rows that leave the machine.
 * Source  PyTorch's serialization (torch.save, zip format 3); PKWARE APPNOTE 4.3; Python's pickle protocol 2. */
#ifndef CMIF_GATEWAY_TENSOR_H
#define CMIF_GATEWAY_TENSOR_H

#include "side.h"

#include "base/err.h"
#include "rows/rows.h"

#define CMIF_TENSOR_MAX ((size_t) 256 << 20) /* bytes of all rows */

typedef struct cmif_tensor { /* {0} is none */
    uint8_t *bytes;
    size_t   size;
    uint8_t *rows; /* in bytes: to be filled by the caller */
    size_t   rows_size;
    size_t   summed; /* bytes of rows in sum */
    uint32_t sum;
    uint8_t *sum_at[2];
} cmif_tensor;

/* Room for (count, width) rows of type F32, F16 or BF16. *out: end with cmif_tensor_free. Errors: RANGE (no row, too many, another type), MEMORY. */
CMIF_MUST_USE cmif_code cmif_tensor_new(cmif_row_type type, size_t count, size_t width, cmif_tensor *out, cmif_err *err);
void                    cmif_tensor_free(cmif_tensor *tensor); /* {0} again */
/* The first (size) bytes of the rows are there. With the last of them the container is whole. */
void                    cmif_tensor_filled(cmif_tensor *tensor, size_t size);

#endif
