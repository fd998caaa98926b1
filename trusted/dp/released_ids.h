/* released_ids - growing a cmif_ids. Included by the modules that may: tokenizer/ (from a cmif_released or the
 * model file's own public text), chat/ (pieces of the model file), session/ (ids the server produced), embed/bayes.c (rows of
 * released words).
 * tests/boundary checks that nobody else does. */
#ifndef CMIF_DP_RELEASED_IDS_H
#define CMIF_DP_RELEASED_IDS_H

#include "dp/release.h"

CMIF_MUST_USE cmif_code cmif_ids_append(cmif_ids *ids, const int32_t *more, size_t count, cmif_err *err);
void                    cmif_ids_truncate(cmif_ids *ids, size_t count); /* count <= ids->count */

#endif
