/* cmif_eval - what the tasks of `cmif eval` share. */
#ifndef CMIF_PROGRAMS_CMIF_EVAL_H
#define CMIF_PROGRAMS_CMIF_EVAL_H

#include "tables.h"

typedef struct cmif_eval_options {
    const char *model, *data, *policies, *mechanisms, *json, *report; /* NULL: the default; for json and report: not wanted */
    const char *const *epsilon;
    size_t      epsilon_count;
    uint32_t    limit, threads, seeds, block_seeds;                   /* limit, threads: 0: the default */
    bool        again;
} cmif_eval_options;

/* Whether name is in a list with commas. */
bool cmif_eval_in_list(const char *list, const char *name);

/* A task of a model that generates: xsum, chat, sst2-zero-shot. */
bool cmif_eval_is_text(const char *task);
/* Its rows: each policy, and each mechanism that is named. Returns the exit code. */
int  cmif_eval_text(const char *task, const cmif_eval_options *options);

/* Do vectors of what leaves order pairs as those of the texts? file: NULL: MRPC. Returns the exit code. */
int  cmif_eval_similarity(const char *file, const cmif_eval_options *options);

enum { CMIF_EVAL_NOT_MET = 3 }; /* exit code: a goal was not met */

/* Are the baselines those of the research note? Its linear stand-in, four rows beside their figures. Returns the exit code. */
int  cmif_eval_stand_in(const cmif_eval_options *options);

#endif
