/* items - the words that are put into blocks, as both builders want them. Private to this folder. */
#ifndef CMIF_BLOCKS_ITEMS_H
#define CMIF_BLOCKS_ITEMS_H

#include "blocks/blocks.h"

enum { CMIF_LANES = 16 }; /* a row is padded with zeros to a multiple of this */

typedef struct cmif_items {
    uint32_t  count;
    uint32_t  stride;     /* floats of a row */
    uint32_t *id;         /* [count] word ids */
    uint8_t  *word_class; /* [count] cmif_word_class; a word that is the only one of its class counts as UNKNOWN */
    uint8_t  *known;      /* [count] 0: its row is zero */
    float    *row;        /* (count, stride) */
    double   *norm2;      /* [count] squared length of the row */
    double   *pi;         /* [count] prior; sums to 1000 over the whole lexicon but word 0 */
    double   *weight;     /* [count] prior^(3/4), scaled likewise; 0 where the row is not known */
} cmif_items;

typedef struct cmif_items_options {
    bool         pass;     /* leave out pass words and negations */
    bool         by_class; /* order by class first; then, and otherwise, by falling prior, ties by lower id */
    bool         unit;     /* rows at length 1; else as they are, divided by a power of two so that all lengths are at most 1 */
    const float *valence;  /* or NULL */
    float        valence_weight;
} cmif_items_options;

/* Errors: RANGE, MEMORY. */
CMIF_MUST_USE cmif_code cmif_items_init(cmif_items *items, const cmif_lexicon *lexicon, const cmif_vectors *vectors,
                                        const cmif_items_options *options, cmif_err *err);
void                    cmif_items_wipe(cmif_items *items);

/* Blocks from a label < labels of each item: numbered, with medoids; words that are no item alone. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_items_blocks(const cmif_items *items, const uint32_t *label, uint32_t labels,
                                          const cmif_lexicon *lexicon, double score, cmif_blocks **out, cmif_err *err);

/* calloc that says what failed, and never returns NULL for zero things. */
void    *cmif_items_array(size_t count, size_t size, cmif_err *err);
uint32_t cmif_items_threads(uint32_t asked); /* 0: all cores; at most 256 */

/* Sums in 16 lanes and a fixed order: plain loops become vectors without -ffast-math, and with the same bits everywhere. */
static inline float cmif_items_dot(const float *restrict a, const float *restrict b, size_t stride)
{
    float lane[CMIF_LANES] = {0};
    for (size_t i = 0; i < stride; i += CMIF_LANES) {
        for (size_t j = 0; j < CMIF_LANES; j++) {
            lane[j] += a[i + j] * b[i + j];
        }
    }
    for (size_t j = 0; j < 8; j++) {
        lane[j] += lane[j + 8];
    }
    for (size_t j = 0; j < 4; j++) {
        lane[j] += lane[j + 4];
    }
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

#endif
