/* summarize - summaries of articles that went through a policy: several streams at once, names put back, ROUGE against a reference.
 *
 * Sees    articles in the clear; of what is kept in the cache none is a word of theirs. */
#ifndef CMIF_EVAL_SUMMARIZE_H
#define CMIF_EVAL_SUMMARIZE_H

#include "side.h"

#include "rouge.h"
#include "tables.h"
#include "task.h"

typedef struct cmif_summaries { /* under one policy */
    const char *policy;  /* "clean": the article as it is; else of cmif_guard_options */
    cmif_rouge *scores;  /* [articles] */
    bool       *there;   /* [articles] false: it did not fit the context, or was refused by the policy */
    size_t      count, from_before;
    double      changed; /* share of words that left otherwise, of the articles of this command; NAN: none of this command */
} cmif_summaries;

/* Summarize the task's articles under each policy.
 *   model    one that generates, with a chat format
 *   threads  servers of one thread each; 0: all cores
 *   out      (policy_count), the caller's, ended with cmif_summaries_wipe also after an error: policies, all else zero
 * Errors: those of guard, server and session; UNSUPPORTED (an encoder, no chat format), CANCELLED: finished articles are kept. */
CMIF_MUST_USE cmif_code cmif_summarize(const char *model, uint32_t threads, cmif_tables *tables, const cmif_task *task, bool again,
                                       cmif_summaries *out, size_t policy_count, cmif_err *err);
void cmif_summaries_wipe(cmif_summaries *summaries);

#endif
