/* judge - a verdict with what this machine knows: collateral of the store, and the memory against rollback.
 *
 * The first look tells which platform it is, the second judges with what belongs to it, a third only if the second tells of a platform that the memory knows
 * more of. Of the evidence's collateral and the store's the newest counts that its maker has signed, and every CRL: older is still validly signed, and who brings
 * evidence chooses what he brings. What evidence was accepted with, for its measurement, is remembered before the verdict is given out; where the store has collateral
 * of the platform, the store's. A policy that brings its own roots for the technology neither uses nor feeds the memory, since its collateral has other makers;
 * "collateral-rollback" is then unchecked.
 *
 * Sees    evidence of others. */
#ifndef CMIF_COLLATERAL_JUDGE_H
#define CMIF_COLLATERAL_JUDGE_H

#include "collateral/sort.h"

/*   sorted  as cmif_sort_bytes and cmif_sort_path filled it; settled here, and what the store gives is added. Pieces of one kind that are for other
 *           platforms, or older, are left out, with a note in `what`
 *   store   the path of the store; NULL: none, and the verdict says so ("no-store" loosened, "collateral-rollback" unchecked)
 * Errors: IO, FORMAT (the store: damaged, not to be read, or not to be written when there is something to remember), MEMORY, RANGE; then there is no verdict. */
CMIF_MUST_USE cmif_code cmif_judge(cmif_sorted *sorted, const cmif_attest_policy *policy, int64_t time, const char *store, cmif_verdict *verdict,
                                   cmif_err *err);

/* A word into the verdict's reasons, once. */
void cmif_judge_reason(cmif_verdict *verdict, const char *word);

#endif
