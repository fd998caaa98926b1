/* cmif_eval - what the tasks of `cmif eval` share. */
#ifndef CMIF_PROGRAMS_CMIF_EVAL_H
#define CMIF_PROGRAMS_CMIF_EVAL_H

#include "tables.h"

#include <jansson.h>

typedef struct cmif_eval_options {
    const char *model, *data, *policies, *mechanisms, *json, *report; /* NULL: the default; for json and report: not wanted */
    const char *const *epsilon;
    size_t      epsilon_count;
    uint32_t    limit, threads, seeds, block_seeds;                   /* limit, threads: 0: the default */
    bool        again;
} cmif_eval_options;

/* Whether name is in a list with commas. */
bool cmif_eval_in_list(const char *list, const char *name);

/* Write figures as JSON to the one path and page as a report to the other, where these are not NULL. Takes both, which are NULL where no memory was.
 * Errors: IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_eval_write(const char *json, json_t *figures, const char *report, json_t *page, cmif_err *err);

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
