/* report_page - inside report: the page being written, and how its JSON is read. report.c has the text and tables,
 * report_plot.c the plots. */
#ifndef CMIF_EVAL_REPORT_PAGE_H
#define CMIF_EVAL_REPORT_PAGE_H

#include "report.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct page {
    FILE     *out;
    cmif_err *err;
    unsigned  tables, plots; /* so far */
    char      at[96];        /* where in the document we are: "sections[2].table" */
} page;

/* All of these return false once err says what is wrong. */

/* Set err to "<at>: ...". */
bool cmif_page_refuse(page *p, const char *format, ...) CMIF_PRINTF(2, 3);

/* Is value an object with no other keys than these (separated by blanks)? */
bool cmif_page_object(page *p, const json_t *value, const char *keys);

/* A member of the type JSON_STRING, JSON_ARRAY, JSON_OBJECT or JSON_TRUE (a truth value). NULL if it may be absent and is. */
bool cmif_page_member(page *p, const json_t *object, const char *key, json_type type, bool needed, const json_t **out);

/* Text as text of the page. */
void cmif_page_text(page *p, const char *text);

/* The rest of "<figcaption><b>Table 1": a full stop and the caption, if there is one (a text, or NULL). */
void cmif_page_caption(page *p, const json_t *caption);

/* A number with so many decimals, in figures as they are typeset. */
void cmif_page_number(page *p, double value, int decimals);

/* Decimals that the number needs, at most 4. */
int cmif_page_decimals(const json_t *number);

/* <figure>'s content for section.plot, and its caption. */
bool cmif_page_plot(page *p, const json_t *plot);

#endif
