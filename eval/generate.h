/* generate - tasks of a model that generates: summaries, answers, labels. Examples go through a policy or a mechanism, several streams at
 * once; names are put back; each answer gets its scores.
 *
 * Sees    examples in the clear; of what is kept in the cache none is a word of theirs, or of an answer. */
#ifndef CMIF_EVAL_GENERATE_H
#define CMIF_EVAL_GENERATE_H

#include "side.h"

#include "tables.h"
#include "task.h"

#define CMIF_SCORES_MAX 4

typedef enum cmif_generation_task {
    CMIF_SUMMARIZE, /* an article in one sentence. Scores: F1 of ROUGE-1, -2, -L, -Lsum against the reference, stemmed */
    CMIF_ANSWER,    /* a question about a sentence. Score: token F1 against the answer to the same in the clear, made by the same model */
    CMIF_LABEL,     /* of a review, behind two others: positive (label 1) or negative. Score: 1 where the likelier of the labels' first tokens is right */
    CMIF_GENERATION_TASKS
} cmif_generation_task;
extern const size_t cmif_score_counts[CMIF_GENERATION_TASKS];

typedef struct cmif_scored { /* under one policy or mechanism */
    const char     *policy;  /* "clean": as it is; else of cmif_guard_options; NULL: */
    const cmif_arm *arm;     /* a mechanism, which has words to send (block seed 1) */
    const char     *epsilon; /* NULL: it has none to choose */
    double        (*scores)[CMIF_SCORES_MAX]; /* [examples] */
    bool           *there;   /* [examples] false: it did not fit the context, or was refused by the policy, or there is no answer to compare with */
    size_t          count, from_before; /* examples; those of an earlier command */
    uint64_t        changed, words;     /* of what is there: words that left otherwise, and all */
} cmif_scored;

/* Put the task's examples to the model under each policy.
 *   model    one that generates, with a chat format
 *   threads  servers of one thread each; 0: all cores
 *   out      (count), the caller's, ended with cmif_scored_wipe also after an error: policies or mechanisms, all else zero
 * Errors: those of tables, guard, server and session; UNSUPPORTED (an encoder, no chat format), CANCELLED: what is finished is kept. */
CMIF_MUST_USE cmif_code cmif_generate_all(cmif_generation_task what, const char *model, uint32_t threads, cmif_tables *tables,
                                          const cmif_task *task, bool again, cmif_scored *out, size_t count, cmif_err *err);
void cmif_scored_wipe(cmif_scored *scored);

#endif
