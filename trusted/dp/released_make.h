/* released_make - making a cmif_released from text that was decided on elsewhere. Included by sanitizer/sanitizer.c alone, which
 * decides; tests/boundary checks that nobody else does. */
#ifndef CMIF_DP_RELEASED_MAKE_H
#define CMIF_DP_RELEASED_MAKE_H

#include "dp/release.h"

/* text (size) and words (count) are copied; words are in order and do not overlap. Errors: RANGE (they are or do), MEMORY. */
CMIF_MUST_USE cmif_code cmif_released_make(const void *text, size_t size, const cmif_released_word *words, size_t count,
                                           cmif_released **out, cmif_err *err);

#endif
