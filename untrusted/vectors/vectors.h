/* vectors - one vector for each word of a lexicon: from a model's embedding table, from sentences about the word, from a file; and
 * counter-fitting, projection, valence.
 *
 * All sums run in a fixed order: the same inputs give the same bits whatever the thread count.
 * Source  sanitizer study section 3; Mrksic et al. 2016 (counter-fitting); arXiv 2509.09091 (cosine candidates). */
#ifndef CMIF_VECTORS_VECTORS_H
#define CMIF_VECTORS_VECTORS_H

#include "lexicon/lexicon.h"

typedef struct cmif_vectors {
    uint32_t count, width;
    float   *rows;     /* (count, width) row-major */
    uint8_t *known;    /* [count] 0: nothing is known of this word, its row is zero */
    uint8_t  hash[32]; /* SHA-256 over count, width, rows, known */
} cmif_vectors;

void cmif_vectors_free(cmif_vectors *vectors); /* contents and struct; NULL is welcome */

/* Rows of the embedding table, mean over the pieces of " word" as the model tokenizes it (the paper's way). gguf: a whole model.
 * Errors: IO, FORMAT, UNSUPPORTED (no table of a type we read), MEMORY. */
CMIF_MUST_USE cmif_code cmif_vectors_of_rows(const cmif_lexicon *lexicon, const char *gguf, cmif_vectors **out, cmif_err *err);
/* Sentence vectors of an encoder model on our engine: of the word alone, or of its glosses (weighted by sqrt of the sense weight). */
CMIF_MUST_USE cmif_code cmif_vectors_of_words(const cmif_lexicon *lexicon, const char *gguf, uint32_t threads,
                                              cmif_progress progress, void *context, cmif_vectors **out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_vectors_of_glosses(const cmif_lexicon *lexicon, const char *gguf, uint32_t threads,
                                                cmif_progress progress, void *context, cmif_vectors **out, cmif_err *err);
/* What a classifier of two labels says of each word alone: the logit of its second label less that of the first, at most 4 either way;
 * width 1. A polarity for blocks that are made for this model (blocks.h). Errors: as above; UNSUPPORTED (more labels than two, or none). */
CMIF_MUST_USE cmif_code cmif_vectors_of_labels(const cmif_lexicon *lexicon, const char *gguf, uint32_t threads,
                                               cmif_progress progress, void *context, cmif_vectors **out, cmif_err *err);
/* A text file in word2vec or GloVe form ("word n n n ...", an optional first line "count width").
 * Errors: IO, FORMAT (line, unequal width, a number that is not finite, a word of the lexicon twice), MEMORY. */
CMIF_MUST_USE cmif_code cmif_vectors_of_file(const cmif_lexicon *lexicon, const char *path, cmif_vectors **out, cmif_err *err);

/* Each part centred over its known rows, rows scaled to length 1 and weighted, side by side; then the leading `width` principal
 * components (0: no projection), rows scaled to length 1. */
typedef struct cmif_vectors_part { const cmif_vectors *vectors; float weight; uint32_t drop; /* leading components removed */ } cmif_vectors_part;
CMIF_MUST_USE cmif_code cmif_vectors_join(const cmif_vectors_part *parts, size_t count, uint32_t width, uint32_t threads,
                                          cmif_vectors **out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_vectors_project(const cmif_vectors *in, uint32_t width, uint32_t threads, cmif_vectors **out, cmif_err *err);
/* Pull synonyms together and push antonyms apart: `rounds` times v <- unit(v0 + S v - sum 2 * .25 * cos * v_antonym over cos > 0). In place. */
CMIF_MUST_USE cmif_code cmif_vectors_counterfit(cmif_vectors *vectors, const cmif_lexicon *lexicon, uint32_t rounds, cmif_err *err);
/* Valence of every word: the listed ones as they are, the others by ridge regression on the joined vectors (lambda 3 for rows of length
 * 1, which is the study's 10 for its longer ones; 6,000 unlisted words count as neutral, weight .3). out (lexicon->count) floats. */
CMIF_MUST_USE cmif_code cmif_vectors_valence(const cmif_vectors *vectors, const cmif_lexicon *lexicon, float *out, cmif_err *err);

/* The study's recipe (section 3): gloss 1, word .6, rows of `decoder` .7 (without their 10 leading components), rows of `encoder` .7;
 * 256 components; counter-fitted; 96 components. Either model may be NULL: its parts are left out. valence: (lexicon->count) floats, may be NULL. */
CMIF_MUST_USE cmif_code cmif_vectors_recipe(const cmif_lexicon *lexicon, const char *encoder, const char *decoder, uint32_t threads,
                                            cmif_progress progress, void *context, cmif_vectors **out, float *valence, cmif_err *err);

/* Keep and take back, so that the minutes of a recipe are spent once (GGUF, architecture "cmif-vectors"; checked against the
 * lexicon's hash and `recipe`, any string). Errors of open: as of a file; FORMAT when it is of something else. */
CMIF_MUST_USE cmif_code cmif_vectors_save(const cmif_vectors *vectors, const float *valence, const cmif_lexicon *lexicon,
                                          const char *recipe, const char *path, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_vectors_open(const char *path, const cmif_lexicon *lexicon, const char *recipe, cmif_vectors **out,
                                          float *valence, cmif_err *err);

#endif
