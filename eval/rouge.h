/* rouge - ROUGE-1, -2, -L and -Lsum of a text against a reference, as the Python package rouge-score 0.1.2 computes them.
 *
 * Words are runs of a-z and 0-9 after lower-casing (a letter with an accent ends a word, as there); for Lsum each line is
 * a sentence. With stem, words of more than three letters are stemmed by Porter's algorithm as NLTK extends it.
 * F1 of `one` is the token F1 of answers against a reference answer.
 * Sees texts in the clear, of test sets or of the person who evaluates with their own. No text in errors. */
#ifndef CMIF_EVAL_ROUGE_H
#define CMIF_EVAL_ROUGE_H

#include "base/err.h"
#include "side.h"

#include <stdbool.h>
#include <stddef.h>

#define CMIF_ROUGE_WORDS 8192 /* of one text; more is a RANGE error */

typedef struct cmif_rouge_score {
    double precision, recall, f1; /* 0 where there is no word to count */
} cmif_rouge_score;

typedef struct cmif_rouge {
    cmif_rouge_score one, two, l, lsum;
} cmif_rouge;

/* Score text against reference (UTF-8, with lengths in bytes; either may be empty).
 * Errors: RANGE (more words than CMIF_ROUGE_WORDS), MEMORY. scores is written only on success. */
CMIF_MUST_USE cmif_code cmif_rouge_score_text(const char *reference, size_t reference_size, const char *text,
                                              size_t text_size, bool stem, cmif_rouge *scores, cmif_err *err);

#endif
