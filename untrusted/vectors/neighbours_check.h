/* neighbours_check - is this the answer? Some rows of a result beside a plain double-precision reference, for the test and the bench. */
#ifndef CMIF_VECTORS_NEIGHBOURS_CHECK_H
#define CMIF_VECTORS_NEIGHBOURS_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static inline double plain_product(const float *a, const float *b, uint32_t width)
{
    double sum = 0;
    for (uint32_t i = 0; i < width; i++) {
        sum += (double) a[i] * (double) b[i];
    }
    return sum;
}

static inline double plain_cosine(const float *a, const float *b, uint32_t width)
{
    double squares = plain_product(a, a, width) * plain_product(b, b, width);
    return squares > 0 ? plain_product(a, b, width) / sqrt(squares) : 0;
}

/* The k neighbours of `row` are right: cosines as the reference has them, none twice, best first, ties by id, and no row left out
 * that the reference puts above the last. Cosines may differ by what summing in another order can do, and by no more. */
static inline bool neighbours_are_right(const float *rows, uint32_t count, uint32_t width, uint32_t k, uint32_t row,
                                        const uint32_t *ids, const double *cosines)
{
    double   tolerance = (width + 8.) * 0x1p-52;
    uint8_t *listed    = calloc(count, 1);
    bool     right     = listed != NULL;

    for (uint32_t r = 0; r < k && right; r++) {
        right = ids[r] < count && !listed[ids[r]]++ &&
                fabs(cosines[r] - plain_cosine(rows + (size_t) row * width, rows + (size_t) ids[r] * width, width)) <= tolerance &&
                (r == 0 || cosines[r] < cosines[r - 1] || (cosines[r] == cosines[r - 1] && ids[r] > ids[r - 1]));
    }
    for (uint32_t id = 0; id < count && right; id++) {
        right = listed[id] || plain_cosine(rows + (size_t) row * width, rows + (size_t) id * width, width) <= cosines[k - 1] + tolerance;
    }
    free(listed);
    return right;
}

#endif
