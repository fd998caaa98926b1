/* leaks - what an attacker names of the texts of a task, from what leaves through one table: the figure that stands beside each accuracy.
 *
 * Sees    examples in the clear; what is found holds none of them. */
#ifndef CMIF_EVAL_LEAKS_H
#define CMIF_EVAL_LEAKS_H

#include "side.h"

#include "attack.h"
#include "cmif_guard.h"
#include "task.h"

typedef enum cmif_leak_kind { CMIF_LEAK_UNIGRAM, CMIF_LEAK_UNIGRAM_IN, CMIF_LEAK_HMM_OUT, CMIF_LEAK_HMM_IN, CMIF_LEAK_KINDS } cmif_leak_kind;
extern const char *const cmif_leak_names[CMIF_LEAK_KINDS]; /* "unigram", "unigram, in domain", "hmm", "hmm, in domain" */

typedef struct cmif_leak {
    double   named[CMIF_LEAK_KINDS]; /* share of drawn words, mean over releases; NAN: nothing is drawn, or not tried */
    uint64_t drawn;                  /* words of one release */
} cmif_leak;

typedef struct cmif_leaks { /* what all tables of a command share */
    cmif_lm   *lm[2];    /* out of domain, in domain; freed by cmif_leaks_wipe */
    uint32_t   releases; /* of every text; one, where the table has no noise */
    struct { uint8_t table[32]; cmif_leak leak; } *seen; /* a table is attacked once, whatever rows are sent */
    size_t     count;
} cmif_leaks;

/* Release every text of the task and attack each release: word by word with the table's prior and with in-domain unigrams, sentence by
 * sentence with each language model (where it is of the table's lexicon).
 *   guard  that draws from a table
 * Errors: those of guard and attacks; CANCELLED. */
CMIF_MUST_USE cmif_code cmif_leaks_measure(cmif_leaks *leaks, cmif_guard *guard, const cmif_task *task, cmif_leak *out, cmif_err *err);
void                    cmif_leaks_wipe(cmif_leaks *leaks); /* {0} is welcome */

#endif
