/* sampler - from logits to a token.
 *
 * Greedy takes the largest logit, the lowest id of equals. Otherwise llama.cpp's filters top-k, top-p and min-p choose
 * who may be drawn, and the draw depends on the seed and the token's number alone, so that a replayed stream agrees. */
#ifndef CMIF_ENGINE_SAMPLER_H
#define CMIF_ENGINE_SAMPLER_H

#include "wire/wire.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cmif_sampler cmif_sampler;

/* Errors: RANGE (a field outside what wire.h allows), MEMORY. */
CMIF_MUST_USE cmif_code cmif_sampler_new(const cmif_sampling *sampling, uint32_t vocab, cmif_sampler **out,
                                         cmif_err *err);
void                    cmif_sampler_free(cmif_sampler *sampler); /* NULL is welcome */

/* The token with this number of the stream.
 *   logits  (vocab)
 *   margin  greedy: the gap between the two best logits; drawn: how far logits could move before another token came, to
 *           first order; NULL: not wanted
 * false: the logits hold a NaN, an infinity, or nothing to choose from; *id and *margin are untouched then. */
CMIF_MUST_USE bool cmif_sampler_pick(cmif_sampler *sampler, const float *logits, uint32_t number, uint32_t *id,
                                     float *margin);

#endif
