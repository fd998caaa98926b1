/* tables - the mechanisms that are compared, and what each is made from: channels, lexicons and language models, built once by
 * cmif-build, named by what decides their bytes, and kept in the cache (eval/).
 *
 * Sees    public files. */
#ifndef CMIF_EVAL_TABLES_H
#define CMIF_EVAL_TABLES_H

#include "side.h"

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_rows_kind { CMIF_EVAL_PLAIN, CMIF_EVAL_BAYES, CMIF_EVAL_CONTEXT_OUT, CMIF_EVAL_CONTEXT_IN, CMIF_EVAL_ROWS } cmif_rows_kind;
extern const char *const cmif_rows_kinds[CMIF_EVAL_ROWS]; /* "plain", "bayes", "context", "context, in domain" */

typedef struct cmif_arm { /* one mechanism, as it is compared */
    const char *name;
    const char *build[8]; /* arguments of `cmif channel build`, NULL behind the last */
    enum { CMIF_VECTORS_RECIPE, CMIF_VECTORS_COUNTERFIT, CMIF_VECTORS_GLOVE } vectors;
    bool        small;    /* over the small lexicon: a weight for each pair of words */
    bool        noise;    /* two releases of a text differ: one run does not say it all */
    int         epsilon;  /* 0: none to choose; else asked of the builder for 1 of the table's (2: paper with Delta / epsilon) */
    bool        own;      /* polarity is what the model that is evaluated says of a word */
    bool        in_domain; /* polarity is that of SST-2's training phrases with the word, which are public here */
    bool        blocks;   /* its search for blocks has a seed */
    bool        in_doubt; /* only when it is named: not part of the usual table */
    uint32_t    rows;     /* which cmif_rows_kind are worth while, as bits */
    const char *about;    /* what it follows, one line */
} cmif_arm;
extern const cmif_arm cmif_arms[];
extern const size_t   cmif_arm_count;

typedef struct cmif_tables {
    char     data[PATH_MAX];    /* public data sets */
    char     model[PATH_MAX];   /* that is evaluated, for arms with an axis of its own; "": the data's minilm-sst2 */
    char     folder[PATH_MAX];  /* of the cache */
    char     lexicon[2][PATH_MAX]; /* the usual one; the small one, "" until it is needed */
    char     hash[2][65];
    double   seconds;           /* spent on building */
    uint32_t made;
} cmif_tables;

/* Find data sets and lexicon. data: a folder; NULL: $CMIF_DATA, else shared/data beside the source tree.
 * Errors: IO (not there: what to do). */
CMIF_MUST_USE cmif_code cmif_tables_open(const char *data, cmif_tables *out, cmif_err *err);

/* The file of a data set, unpacked: name is "sst2/dev.tsv"; the folder may have it as name.xz. Errors: IO. */
CMIF_MUST_USE cmif_code cmif_tables_data(cmif_tables *t, const char *name, char path[static PATH_MAX], cmif_err *err);
/* The channel of a mechanism. epsilon: as text, not asked for where the mechanism has none. Errors: IO, those of the builder. */
CMIF_MUST_USE cmif_code cmif_tables_channel(cmif_tables *t, const cmif_arm *arm, const char *epsilon, uint64_t block_seed,
                                            char path[static PATH_MAX], cmif_err *err);
/* The bigram model for rows in context: of news and encyclopedia text, and with in_domain of the training phrases too. */
CMIF_MUST_USE cmif_code cmif_tables_lm(cmif_tables *t, bool in_domain, char path[static PATH_MAX], cmif_err *err);

/* SHA-256 of a file, in hexadecimal. Errors: IO. */
CMIF_MUST_USE cmif_code cmif_tables_hash(const char *path, char hex[static 65], cmif_err *err);

#endif
