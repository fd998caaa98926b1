/* linear - a linear head over frozen vectors: logistic regression with a ridge, one label against the rest, by Newton's method.
 *
 * Small and deterministic: the same vectors give the same head, bit for bit.
 *
 * Sees    vectors that a model gave, and labels. */
#ifndef CMIF_EVAL_LINEAR_H
#define CMIF_EVAL_LINEAR_H

#include "side.h"

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cmif_linear cmif_linear;

/* Train on count vectors of width floats each, row-major. Each dimension is first centred and scaled to deviation 1.
 *   labels  (count) below label_count
 *   ridge   added to the curvature of the mean loss, above 0
 * Errors: RANGE (fewer than two vectors or labels, a width of 0 or above 4096, a number that is not finite), MEMORY. */
CMIF_MUST_USE cmif_code cmif_linear_train(const float *vectors, const uint8_t *labels, size_t count, size_t width, size_t label_count,
                                          double ridge, cmif_linear **out, cmif_err *err);
void                    cmif_linear_free(cmif_linear *head); /* NULL is welcome */
/* The label of one vector of the same width. */
uint8_t                 cmif_linear_label(const cmif_linear *head, const float *vector);

#endif
