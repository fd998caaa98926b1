/* cmif_figures - what can be said of a table besides its certificate, for people: doubles, not verdicts.
 *
 * Sees    a public table. */
#ifndef CMIF_PROGRAMS_CMIF_FIGURES_H
#define CMIF_PROGRAMS_CMIF_FIGURES_H

#include "table/table.h"

#include <jansson.h>
#include <stdio.h>

typedef struct cmif_figures {
    uint32_t drawn, passed, alone;      /* words that share a block; that pass as they are; alone under another name */
    uint32_t blocks;                    /* of more than one word */
    uint32_t smallest, median, largest; /* words of those */
    double   attack;  /* who knows prior and table, and sees one released word, names a drawn word rightly: sum_y max_x pi P */
    double   blind;   /* the same for who knows the block only (what epsilon 0 gives) */
    double   itself;  /* a drawn word leaves as itself */
    double   share[5];/* 5, 25, 50, 75, 95 % quantiles over blocks of the largest prior share of a word */
} cmif_figures;

/* Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_figures_get(const cmif_table *table, cmif_figures *out, cmif_err *err);

/* "epsilon 0.928134", or "no epsilon (0.43 of ...)": the certificate's own figure. */
void    cmif_figures_certified(const cmif_certificate *certificate, const cmif_table *table, char *out, size_t room);
/* "1", "0.5" or "1/3". */
void    cmif_figures_nominal(const cmif_table_claim *claim, char *out, size_t room);
/* "rnm with laplace noise, calibrated, K 20". */
void    cmif_figures_mechanism(const cmif_table_claim *claim, char *out, size_t room);
/* Errors of composing are left out of the result. NULL: no memory. */
json_t *cmif_figures_json(const cmif_table *table, const cmif_certificate *certificate, const cmif_figures *figures);
void    cmif_figures_print(const cmif_table *table, const cmif_certificate *certificate, const cmif_figures *figures, FILE *to);

#endif
