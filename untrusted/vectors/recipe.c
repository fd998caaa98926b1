/* The recipe of the sanitizer study, section 3, steps 3 to 5. */
#include "vectors/internal.h"

#include <stdlib.h>

enum { PART_WIDTH_MAX = 768, JOINED = 256, ROUNDS = 10, WIDTH = 96, PARTS_MAX = 4, DECODER_DROP = 10 };

typedef struct mix { /* parts and those who own them */
    cmif_vectors     *owned[PARTS_MAX];
    cmif_vectors_part parts[PARTS_MAX];
    size_t            count;
} mix;

/* The work on eigenvectors grows with the cube of the width, so a wide part keeps its leading components. Takes `made`.
 */
static cmif_code add(mix *m, cmif_vectors *made, float weight, uint32_t drop, uint32_t threads, cmif_err *err)
{
    cmif_vectors_part part = {.vectors = made, .weight = weight, .drop = made->width > drop ? drop : 0};
    cmif_code         rc   = CMIF_OK;
    m->owned[m->count]     = made;
    if (made->width > PART_WIDTH_MAX) {
        rc = cmif_vectors_join(&part, 1, PART_WIDTH_MAX, threads, &m->owned[m->count], err);
        if (rc == CMIF_OK) {
            cmif_vectors_free(made);
            part.vectors = m->owned[m->count];
            part.drop    = 0;
        }
    }
    m->parts[m->count++] = part; /* after a failure nobody reads it, and its owner is freed */
    return rc;
}

cmif_code cmif_vectors_blend(const cmif_lexicon *lexicon, const cmif_vectors_part *parts, size_t count,
                             uint32_t threads, cmif_vectors **out, float *valence, cmif_err *err)
{
    cmif_code     rc;
    cmif_vectors *whole = NULL, *fitted = NULL, *result = NULL, *both = NULL;

    rc = cmif_vectors_join(parts, count, 0, threads, &whole, err);
    if (rc == CMIF_OK) {
        rc = cmif_vectors_project(whole, whole->width < JOINED ? whole->width : JOINED, threads, &fitted, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_counterfit(fitted, lexicon, ROUNDS, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_project(fitted, fitted->width < WIDTH ? fitted->width : WIDTH, threads, &result, err);
    }
    if (rc == CMIF_OK && valence) { /* learnt from everything that is known of a word */
        const cmif_vectors_part all[] = {{.vectors = whole, .weight = 1.5F}, {.vectors = fitted, .weight = 1}};
        rc                            = cmif_vectors_join(all, 2, 0, threads, &both, err);
        if (rc == CMIF_OK) {
            rc = cmif_vectors_valence(both, lexicon, valence, err);
        }
    }
    if (rc == CMIF_OK) {
        *out   = result;
        result = NULL;
    }
    cmif_vectors_free(whole);
    cmif_vectors_free(fitted);
    cmif_vectors_free(result);
    cmif_vectors_free(both);
    return rc;
}

cmif_code cmif_vectors_recipe(const cmif_lexicon *lexicon, const char *encoder, const char *decoder, uint32_t threads,
                              cmif_progress progress, void *context, cmif_vectors **out, float *valence, cmif_err *err)
{
    cmif_code     rc   = CMIF_OK;
    cmif_vectors *made = NULL;
    mix           m    = {.count = 0};

    if (!encoder && !decoder) {
        return cmif_fail(err, CMIF_E_RANGE, "the recipe needs an encoder, a decoder, or both");
    }
    if (encoder && lexicon->gloss_count) {
        rc = cmif_vectors_of_glosses(lexicon, encoder, threads, progress, context, &made, err);
        rc = rc ? rc : add(&m, made, 1.F, 0, threads, err);
    }
    if (rc == CMIF_OK && encoder) {
        rc = cmif_vectors_of_words(lexicon, encoder, threads, progress, context, &made, err);
        rc = rc ? rc : add(&m, made, .6F, 0, threads, err);
    }
    if (rc == CMIF_OK && decoder) {
        rc = cmif_vectors_of_rows(lexicon, decoder, &made, err);
        rc = rc ? rc : add(&m, made, .7F, DECODER_DROP, threads, err);
    }
    if (rc == CMIF_OK && encoder) {
        rc = cmif_vectors_of_rows(lexicon, encoder, &made, err);
        rc = rc ? rc : add(&m, made, .7F, 0, threads, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_blend(lexicon, m.parts, m.count, threads, out, valence, err);
    }
    for (size_t i = 0; i < m.count; i++) {
        cmif_vectors_free(m.owned[i]);
    }
    return rc;
}
