/* run - many texts in flight through the real split: released text in, the server's vector out.
 *
 * One thread releases and makes rows; as many private servers as cores, each with several sessions, compute. Texts whose rows are
 * the same, bit for bit, are computed once, whichever table they come from. Vectors stay until the end.
 *
 * Sees    released text. */
#ifndef CMIF_EVAL_RUN_H
#define CMIF_EVAL_RUN_H

#include "side.h"

#include "cmif_client.h"

typedef struct cmif_runner cmif_runner;

/* Split the encoder model (or take its halves) and start servers.
 *   threads  private servers of one thread each; 0: as many as there are cores
 * Errors: as of cmif_client_open; UNSUPPORTED (the model generates). */
CMIF_MUST_USE cmif_code cmif_runner_open(const char *model, uint32_t threads, cmif_runner **out, cmif_err *err);
void                    cmif_runner_close(cmif_runner *runner); /* NULL is welcome */

/* The client half: a cmif_bayes over its tokenizer and table may be given to put. */
cmif_client *cmif_runner_client(cmif_runner *runner);
size_t       cmif_runner_outputs(const cmif_runner *runner); /* floats of a vector */

/* Send text in, as plain rows or, with bayes, as rows of what its words may have been. Waits while too many are under way.
 *   ticket  what its vector is found by
 * Errors: CANCELLED (interrupted), RANGE (longer than the context), those of a session. After an error nothing more is computed. */
CMIF_MUST_USE cmif_code cmif_runner_put(cmif_runner *runner, cmif_bayes *bayes, const cmif_released *text, size_t *ticket, cmif_err *err);
/* The rows that put would send, in place of sending them: (count, width) floats, the caller's to free(). Errors: as put. */
CMIF_MUST_USE cmif_code cmif_runner_rows(cmif_runner *runner, cmif_bayes *bayes, const cmif_released *text, float **rows, size_t *count,
                                         cmif_err *err);
/* All that was put is there. Errors: as put. */
CMIF_MUST_USE cmif_code cmif_runner_wait(cmif_runner *runner, cmif_err *err);
/* Borrowed until the next put; of a ticket whose text is there. */
const float *cmif_runner_vector(const cmif_runner *runner, size_t ticket);

typedef struct cmif_runner_counts {
    uint64_t texts, computed; /* that were put; that had not been computed before */
    uint32_t servers;
    double   rows_seconds;    /* making their rows */
    double   encode_seconds;  /* computing, as sessions see it: sums over sessions, so more than the clock shows */
} cmif_runner_counts;
cmif_runner_counts cmif_runner_totals(const cmif_runner *runner);

#endif
