/* cmif_eval - what the tasks of `cmif eval` share. */
#ifndef CMIF_PROGRAMS_CMIF_EVAL_H
#define CMIF_PROGRAMS_CMIF_EVAL_H

#include "tables.h"

typedef struct cmif_eval_options {
    const char *model, *data, *policies, *json, *report; /* NULL: the default; for json and report: not wanted */
    uint32_t    limit, threads;                          /* 0: the default */
    bool        again;
} cmif_eval_options;

/* `cmif eval xsum`: summaries under each policy; returns the exit code. */
int cmif_eval_xsum(const cmif_eval_options *options);

#endif
