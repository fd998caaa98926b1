/* neighbours - exact all-pairs cosine top-K: blocked, vectorized (AVX-512 with bf16, AVX-512, AVX2, portable; chosen at run time).
 *
 * Exact: a fast pass over 16-bit copies (bfloat16 where the machine multiplies it, integers elsewhere) keeps every candidate that
 * rounding could have hidden (a proved bound for each row), and those are scored again in double precision in one fixed order. So
 * the result does not depend on the machine or on the number of threads. Each pair of rows is multiplied once.
 * Memory: the 16-bit copy (half of the rows) and 2 k + 128 candidates of 8 bytes for each row; never count x count.
 * Time: tables of which most rows are nearly parallel are right but slow: the fast pass cannot tell them apart.
 * Source  research note on oblivious look-ups, section 6. */
#ifndef CMIF_VECTORS_NEIGHBOURS_H
#define CMIF_VECTORS_NEIGHBOURS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_kernel { CMIF_KERNEL_AUTO = 0, CMIF_KERNEL_PORTABLE, CMIF_KERNEL_AVX2, CMIF_KERNEL_AVX512, CMIF_KERNEL_BF16 } cmif_kernel;

/* The k nearest rows of each row by cosine, itself first where it is one of them (it is, unless an equal row has a lower id), best first, ties by
 * lower id.
 *   rows       (count, width) floats, finite; a zero row has cosine 0 with everything, itself included
 *   ids        (count, k) the caller's
 *   cosines    (count, k) doubles, may be NULL
 *   threads    0: all cores
 * Errors: RANGE (k 0 or above count, width 0, a number that is not finite: which row), UNSUPPORTED (a kernel this machine lacks), MEMORY. */
CMIF_MUST_USE cmif_code cmif_neighbours(const float *rows, uint32_t count, uint32_t width, uint32_t k, uint32_t threads,
                                        cmif_kernel kernel, uint32_t *ids, double *cosines, cmif_err *err);
const char *cmif_kernel_name(cmif_kernel kernel);
bool        cmif_kernel_fits(cmif_kernel kernel); /* this machine has it */

#endif
