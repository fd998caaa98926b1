/* judge - a verdict with what this machine knows: collateral of the store where evidence brings none, and the memory against rollback.
 *
 * Two looks: the first tells which platform it is, the second judges with what belongs to it. What the second believed is remembered before the verdict
 * is given out. A policy that brings its own roots neither uses nor feeds the memory: its collateral has other makers.
 *
 * Sees    evidence of others. */
#ifndef CMIF_COLLATERAL_JUDGE_H
#define CMIF_COLLATERAL_JUDGE_H

#include "collateral/sort.h"

/*   sorted  as cmif_sort_bytes and cmif_sort_path filled it; settled here, and what the store gives is added. Pieces of one kind that are for other
 *           platforms are left out, with a note in `what`
 *   store   the path of the store; NULL: none, and the verdict says so ("no-store" loosened, "collateral-rollback" unchecked)
 * Errors: IO, FORMAT (the store: damaged, not to be read, or not to be written when there is something to remember), MEMORY, RANGE; then there is no verdict. */
CMIF_MUST_USE cmif_code cmif_judge(cmif_sorted *sorted, const cmif_attest_policy *policy, int64_t time, const char *store, cmif_verdict *verdict,
                                   cmif_err *err);

/* A word into the verdict's reasons, once. */
void cmif_judge_reason(cmif_verdict *verdict, const char *word);

#endif
