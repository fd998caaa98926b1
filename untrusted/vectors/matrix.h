/* matrix - the linear algebra that vectors need: sums of outer products, eigenvectors, a linear system, projections.
 *
 * Doubles throughout. Each number is a sum in one fixed order, whichever thread computes it and whichever instructions the
 * machine has (no fused multiply-add): the same inputs give the same bits everywhere.
 * Source  Golub and Van Loan, Matrix Computations: 8.3 (Householder reduction, implicit QL), 4.2 (Cholesky). */
#ifndef CMIF_VECTORS_MATRIX_H
#define CMIF_VECTORS_MATRIX_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Call task for each index in [0, count) on so many threads (0: all cores), the caller's own among them. An index is served
 * by exactly one thread; nobody may depend on which. */
typedef void (*cmif_task)(void *context, uint32_t index);
void     cmif_each(uint32_t count, uint32_t threads, cmif_task task, void *context);
uint32_t cmif_threads(uint32_t threads); /* 0: as many as there are cores */

/* out (width, width) = sum over rows r with use[r] of (x_r - mean)(x_r - mean)'.
 *   rows  (count, width); use, mean  NULL: all rows, zero */
CMIF_MUST_USE cmif_code cmif_matrix_gram(const float *rows, const uint8_t *use, const double *mean, uint32_t count,
                                         uint32_t width, uint32_t threads, double *out, cmif_err *err);
/* Eigenvalues and eigenvectors of a symmetric matrix, largest value first.
 *   a        (n, n); overwritten
 *   values   (n)
 *   vectors  (n, n): column k, vectors[i * n + k], belongs to value k; its largest entry is positive, so its sign is fixed
 * Errors: MEMORY, RANGE (not finite). */
CMIF_MUST_USE cmif_code cmif_matrix_eigen(double *a, uint32_t n, uint32_t threads, double *values, double *vectors, cmif_err *err);
/* x of a x = b for a symmetric positive definite a (n, n), overwritten; b (n) becomes x. Errors: RANGE (not positive definite). */
CMIF_MUST_USE cmif_code cmif_matrix_solve(double *a, double *b, uint32_t n, cmif_err *err);
/* out (count, columns) = (rows - mean) * basis, rounded once to float.
 *   basis  (width, stride), of which the first `columns` are used */
CMIF_MUST_USE cmif_code cmif_matrix_project(const float *rows, const double *mean, uint32_t count, uint32_t width,
                                            const double *basis, uint32_t stride, uint32_t columns, uint32_t threads,
                                            float *out, cmif_err *err);

#endif
