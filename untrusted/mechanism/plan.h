/* plan - a table in the making; of mechanism.c (mechanisms in blocks) and whole.c (those over the whole vocabulary). */
#ifndef CMIF_MECHANISM_PLAN_H
#define CMIF_MECHANISM_PLAN_H

#include "mechanism/mechanism.h"

typedef struct table_plan {
    const cmif_mechanism_options *options;
    const cmif_lexicon           *lexicon;
    const cmif_vectors           *vectors; /* NULL: the mechanism needs none */
    const float                  *valence; /* may be NULL */
    const cmif_blocks            *blocks;  /* may be NULL for the mechanisms of whole.c */
    cmif_progress                 progress;
    void                         *context;
    uint64_t                      num, den; /* epsilon in lowest terms */
    long double                   epsilon;
    uint32_t                      bits;

    /* what becomes the draft; rows and blocks are numbered as the table wants them: by their first word, by their first row */
    uint32_t  words, row_count, block_count, stride;
    uint32_t *row_of;   /* [words] */
    uint32_t *block_of; /* [row_count] */
    uint32_t *block_at; /* [block_count + 1] */
    uint32_t *outputs;
    uint64_t *weights;  /* (row_count, stride), zero at first */

    void *work; /* of the job at hand */
} table_plan;

/* Make room for a table, in place of what was there. Errors: RANGE (above what a table may have: both sizes, and how many words fit), MEMORY. */
CMIF_MUST_USE cmif_code plan_room(table_plan *plan, uint32_t rows, uint32_t blocks, uint64_t outputs, uint32_t stride, cmif_err *err);

/* Do the items 0 to count - 1 on the threads that were asked for. An item writes to places of its own only, so their order does not
 * show. Errors: of the lowest item that failed; CANCELLED. */
typedef cmif_code (*plan_job)(table_plan *plan, uint32_t item, cmif_err *err);
CMIF_MUST_USE cmif_code plan_run(table_plan *plan, plan_job job, uint32_t count, const char *what, cmif_err *err);

/* Probabilities of Report-Noisy-Max. Errors: MEMORY. */
CMIF_MUST_USE cmif_code plan_noisy_max(cmif_noise_kind noise, const long double *q, size_t n, long double lambda, long double *p,
                                       cmif_err *err);
/* Sum of a[i] b[i], always in the same order. */
double plan_dot(const float *a, const float *b, size_t width);

/* Whether a word may leave: one that is not rude, and in the baselines every one, as published. */
static inline bool plan_releases(const table_plan *plan, uint32_t word)
{
    switch (plan->options->mechanism) {
    case CMIF_MECHANISM_PAPER:
    case CMIF_MECHANISM_CUSTEXT:
    case CMIF_MECHANISM_CUSTEXT_PLUS:
    case CMIF_MECHANISM_SANTEXT:
    case CMIF_MECHANISM_SANTEXT_PLUS:
        return true;
    default:
        return !cmif_word_is_rude(plan->lexicon, word);
    }
}

static inline const float *plan_row(const table_plan *plan, uint32_t word)
{
    return plan->vectors->rows + (size_t) word * plan->vectors->width;
}

/* whole.c */
CMIF_MUST_USE cmif_code plan_metric(table_plan *plan, cmif_err *err); /* metric, santext, santext+ */
CMIF_MUST_USE cmif_code plan_full(table_plan *plan, cmif_err *err);
CMIF_MUST_USE cmif_code plan_paper(table_plan *plan, cmif_err *err);

#endif
