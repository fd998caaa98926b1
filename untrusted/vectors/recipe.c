/* The recipe of the sanitizer study, section 3, steps 3 to 5. */
#include "vectors/vectors.h"

#include <stdlib.h>

enum { PART_WIDTH_MAX = 768, JOINED = 256, ROUNDS = 10, WIDTH = 96, PARTS_MAX = 5 };

/* Add a part; the work on eigenvectors grows with the cube of the width, so a wide table keeps its leading components.
 */
static cmif_code add_part(cmif_vectors_part *parts, size_t *count, cmif_vectors *made, float weight, uint32_t threads,
                          cmif_vectors **owned, cmif_err *err)
{
    cmif_code rc  = CMIF_OK;
    owned[*count] = made;
    if (made->width > PART_WIDTH_MAX) {
        rc = cmif_vectors_project(made, PART_WIDTH_MAX, threads, &owned[*count], err);
        cmif_vectors_free(made);
        if (rc != CMIF_OK) {
            owned[*count] = NULL;
            return rc;
        }
    }
    parts[*count] = (cmif_vectors_part){.vectors = owned[*count], .weight = weight};
    (*count)++;
    return rc;
}

cmif_code cmif_vectors_recipe(const cmif_lexicon *lexicon, const char *encoder, const char *decoder, uint32_t threads,
                              cmif_progress progress, void *context, cmif_vectors **out, float *valence, cmif_err *err)
{
    cmif_code         rc               = CMIF_OK;
    cmif_vectors     *owned[PARTS_MAX] = {0}, *made = NULL, *joined = NULL, *all = NULL, *result = NULL;
    cmif_vectors_part parts[PARTS_MAX];
    size_t            count = 0;

    if (!encoder && !decoder) {
        return cmif_fail(err, CMIF_E_RANGE, "the recipe needs an encoder, a decoder, or both");
    }
    if (encoder && lexicon->gloss_count) {
        rc = cmif_vectors_of_glosses(lexicon, encoder, threads, progress, context, &made, err);
        if (rc == CMIF_OK) {
            rc = add_part(parts, &count, made, 1.F, threads, owned, err);
        }
    }
    if (rc == CMIF_OK && encoder) {
        rc = cmif_vectors_of_words(lexicon, encoder, threads, progress, context, &made, err);
        if (rc == CMIF_OK) {
            rc = add_part(parts, &count, made, .6F, threads, owned, err);
        }
    }
    for (int i = 0; i < 2; i++) {
        const char *model = i ? encoder : decoder;
        if (rc == CMIF_OK && model) {
            rc = cmif_vectors_of_rows(lexicon, model, &made, err);
            if (rc == CMIF_OK) {
                rc = add_part(parts, &count, made, .7F, threads, owned, err);
            }
        }
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_join(parts, count, 0, threads, &all, err);
    }
    if (rc == CMIF_OK) {
        const uint32_t width = all->width < JOINED ? all->width : JOINED;
        rc                   = cmif_vectors_project(all, width, threads, &joined, err);
    }
    cmif_vectors_free(all);
    all = NULL;
    if (rc == CMIF_OK) {
        rc = cmif_vectors_counterfit(joined, lexicon, ROUNDS, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_project(joined, joined->width < WIDTH ? joined->width : WIDTH, threads, &result, err);
    }
    if (rc == CMIF_OK && valence) { /* learnt from everything that is known of a word */
        parts[count++] = (cmif_vectors_part){.vectors = joined, .weight = 1};
        rc             = cmif_vectors_join(parts, count, 0, threads, &all, err);
        if (rc == CMIF_OK) {
            rc = cmif_vectors_valence(all, lexicon, valence, err);
        }
    }
    if (rc == CMIF_OK) {
        *out   = result;
        result = NULL;
    }
    for (size_t i = 0; i < PARTS_MAX; i++) {
        cmif_vectors_free(owned[i]);
    }
    cmif_vectors_free(joined);
    cmif_vectors_free(all);
    cmif_vectors_free(result);
    return rc;
}
