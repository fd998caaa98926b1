/* lm - a public bigram model over the words of a lexicon, as `cmif lexicon lm build` writes it.
 *
 * P(b | a) = (count(a, b) - D(count)) / count(a) + (sum of D over a's pairs) / count(a) * P(b), where count(a) sums a's pairs; P(b) alone
 * after a word that has none. P(b) = 0.8 unigram share + 0.2 prior of the lexicon. D: absolute discounts, one each for counts of 1, of 2 and of
 * more, from how many pairs come 1, 2, 3 and 4 times (Chen, Goodman 1999, equation 26).
 * Sentence ends count as a word of their own, CMIF_LM_END.
 *
 * File    GGUF, general.architecture "cmif-lm", arrays of u32: cmif.lm.unigrams (words + 1), cmif.lm.first (words + 2),
 *         cmif.lm.second, cmif.lm.counts (pairs, ascending); cmif.lm.lexicon_hash, cmif.lm.text_hash: strings of 64 hex digits.
 * Sees    public files only. */
#ifndef CMIF_EMBED_LM_H
#define CMIF_EMBED_LM_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cmif_lm {
    uint8_t         lexicon_hash[32];
    uint32_t        words;     /* of the lexicon, the empty word included; END is id `words` */
    uint64_t        total;     /* of unigrams */
    const uint32_t *unigrams;  /* [words + 1] */
    const uint32_t *first;     /* [words + 2] pairs of a: first[a] .. first[a + 1] */
    const uint32_t *second;    /* [pairs] b, ascending within an a */
    const uint32_t *counts;    /* [pairs] */
    struct cmif_gguf *file;
} cmif_lm;

/* Errors: IO, FORMAT (another file; ids out of range, not ascending, sums that do not fit), MEMORY. */
CMIF_MUST_USE cmif_code cmif_lm_open(const char *path, cmif_lm **out, cmif_err *err);
void                    cmif_lm_free(cmif_lm *lm); /* NULL is welcome */
/* D by count: of 0 (nothing), 1, 2, 3 and more; between .1 and the count less .1. Of a text where no pair comes 1, 2, 3 or 4 times: .75 each. */
void cmif_lm_discounts(const cmif_lm *lm, double discount[static 4]);
/* Does a sentence end, as the model cuts them, in what stands between two words? A new line, or one of . ! ? alone with white space behind it. */
bool cmif_lm_ends_sentence(const uint8_t *gap, size_t size);

#endif
