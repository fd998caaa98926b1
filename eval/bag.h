/* bag - the linear stand-in of the research note on privacy (section 1.4): texts as words and pairs of words that follow one another,
 * between white space, weighed as TF-IDF (1 + ln tf, smoothed idf, length 1), and logistic regression with a ridge (C = 1, the constant
 * with the others), by a truncated Newton method. The same texts give the same figure, bit for bit.
 *
 * Sees    examples, in the clear or as they were released. */
#ifndef CMIF_EVAL_BAG_H
#define CMIF_EVAL_BAG_H

#include "side.h"

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cmif_bag_texts {
    char    *const *texts;
    const uint8_t  *labels; /* 0 or 1 */
    size_t          count;
} cmif_bag_texts;

/* Share of the test texts that get their label from what was trained on the others. Errors: RANGE (no text, or one label only), MEMORY. */
CMIF_MUST_USE cmif_code cmif_bag_accuracy(const cmif_bag_texts *train, const cmif_bag_texts *test, double *accuracy, cmif_err *err);

#endif
