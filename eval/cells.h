/* cells - one cell of a table of results: a task under one mechanism, one epsilon, one kind of rows; several runs each. A run is
 * kept in the cache as soon as it is done, so that an interrupted command goes on where it was.
 *
 * Sees    examples in the clear: of test sets, or of the person who evaluates with their own. What is kept holds none of them. */
#ifndef CMIF_EVAL_CELLS_H
#define CMIF_EVAL_CELLS_H

#include "side.h"

#include "leaks.h"
#include "linear.h"
#include "run.h"
#include "tables.h"
#include "task.h"

typedef struct cmif_trial { /* one run over all examples */
    uint8_t *labels;        /* [examples] what the model said */
    int32_t *cosines;       /* [examples] of bench->similarity: of the two texts of a pair, in millionths */
    uint64_t drawn, passed, unknown; /* words */
} cmif_trial;

typedef struct cmif_block_seed { /* the runs over one table */
    uint64_t    seed;
    char        table[65];     /* its hash; "" without a table */
    char        certified[64]; /* "0.9281 in a block", "none", ... */
    double      attack;        /* closed form, unigram prior: share of drawn words that are named; NAN without a table */
    cmif_leak   leak;          /* where bench->leaks is there */
    cmif_trial *trials;
    size_t      count, from_before; /* from_before: that an earlier command had made */
} cmif_block_seed;

typedef struct cmif_cell {
    const cmif_arm  *arm; /* NULL: the text as it is */
    const char      *epsilon; /* NULL: none to choose */
    cmif_rows_kind   rows;
    cmif_block_seed *blocks;
    size_t           count;
    /* found from these by cmif_cell_sum: */
    double          *shares;   /* [examples] of runs that were right */
    double           accuracy, sd, clear; /* sd over all runs: NAN for one */
} cmif_cell;

typedef struct cmif_bench { /* what all cells share */
    cmif_runner     *runner;
    cmif_tables     *tables;
    const cmif_task *task;
    uint8_t         *truth;    /* [examples] as the model counts its labels */
    const cmif_task *train;    /* NULL: the model labels by itself. Else a linear head over its vectors does, trained on these: */
    uint8_t         *train_truth;
    size_t           label_count;
    bool             adapted;  /* sanitized as the examples are (setting A); else in the clear, once (setting I) */
    cmif_linear     *head;     /* of setting I, once made */
    char             name[65]; /* hash of model, setting, examples and truth */
    bool             again;    /* earlier runs do not count */
    bool             similarity; /* the model gives vectors of pairs: a cell's accuracy is Spearman's correlation of their cosines with */
    const int32_t   *clean;    /* [examples] those of the text as it is; NULL: itself */
    const char      *tuned;    /* a folder with a model for each cell (cmif_cell_file), in place of the runner's; NULL: none */
    uint32_t         threads;  /* of their servers, as of cmif_runner_open */
    cmif_runner_counts before; /* of servers of tuned models that are closed */
    cmif_leaks      *leaks;    /* NULL: tables are not attacked */
    double           attack_seconds;
    double           release_seconds, send_seconds; /* of texts that went through a table: sanitizing alone; all, to the last answer */
    uint64_t         released; /* these texts */
} cmif_bench;

/* Sums over the runner and all tuned models. */
cmif_runner_counts cmif_bench_totals(const cmif_bench *bench);

/* Names what is measured; fills name. */
CMIF_MUST_USE cmif_code cmif_bench_name(cmif_bench *bench, cmif_err *err);

/* Fill cell->blocks, which has room for count: each with `trials` runs (1 where there is no noise), on block seeds 1 to count (one, where
 * the mechanism has none). Errors: those of tables, guard and runner; CANCELLED: finished runs are kept. */
CMIF_MUST_USE cmif_code cmif_cell_run(cmif_bench *bench, cmif_cell *cell, size_t seeds, size_t trials, cmif_err *err);
/* FOLDER/MECHANISM[-EPSILON]-ROWS[-SEED].gguf, the seed where it is not 1: what a cell exports, and a model trained on it. Errors: RANGE. */
CMIF_MUST_USE cmif_code cmif_cell_file(const cmif_cell *cell, uint64_t seed, const char *folder, char path[static PATH_MAX], cmif_err *err);
/* Send texts through a cell's table as cmif_cell_run does, and write the rows that the server would get to that file (export.h).
 *   truth     [texts] as the model counts its labels
 *   releases  of each text, one behind the other; the same again where nothing is drawn, so that all cells train as long */
CMIF_MUST_USE cmif_code cmif_cell_export(cmif_bench *bench, const cmif_cell *cell, uint64_t seed, const cmif_task *texts,
                                         const uint8_t *truth, size_t releases, const char *folder, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_cell_sum(const cmif_bench *bench, cmif_cell *cell, cmif_err *err);
void                    cmif_cell_wipe(cmif_cell *cell);

#endif
