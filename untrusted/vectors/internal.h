/* What the files of this module share: vectors.c (keep, text files), model.c (from models), shape.c (join and bend), recipe.c. */
#ifndef CMIF_VECTORS_INTERNAL_H
#define CMIF_VECTORS_INTERNAL_H

#include "vectors/vectors.h"

/* Zero rows, nothing known. Errors: RANGE (no words, no width, width above 65536), MEMORY. */
CMIF_MUST_USE cmif_code cmif_vectors_new(uint32_t count, uint32_t width, cmif_vectors **out, cmif_err *err);
/* Rows of unknown words become zero, and hash becomes that of the contents. Errors: RANGE (a number is not finite: of which word). */
CMIF_MUST_USE cmif_code cmif_vectors_seal(cmif_vectors *vectors, cmif_err *err);
/* The recipe from its parts on. Errors: as of join, counterfit and valence. */
CMIF_MUST_USE cmif_code cmif_vectors_blend(const cmif_lexicon *lexicon, const cmif_vectors_part *parts, size_t count, uint32_t threads,
                                           cmif_vectors **out, float *valence, cmif_err *err);

#endif
