/* task - labelled examples from a file: what classification, pair and summarization tasks are made of.
 *
 * TSV, one example a line, UTF-8, LF or CRLF, no quoting:
 *   sentence TAB label                      two columns, no header (SST-2, subjectivity)
 *   sentence TAB sentence TAB label         three columns, no header
 *   a header line with a column "label"     the others are texts: one or two; a column "index" or "id" is passed over
 *                                           (GLUE: sentence1 sentence2 label; index question sentence label)
 * JSON lines, for a path that ends in .jsonl: {"article" or "document" or "text": ..., "summary_gt" or "summary": ...};
 * further members are passed over, and so are "###", "Article:" and the request to summarize around an article (XSum as
 * H2O prompts with it).
 * RTE's XML is not read, nor what is packed (.xz).
 *
 * Strict: a line that is not like the others is refused, with its number and never with its text. */
#ifndef CMIF_EVAL_TASK_H
#define CMIF_EVAL_TASK_H

#include "base/err.h"
#include "side.h"

#include <stddef.h>
#include <stdint.h>

#define CMIF_TASK_FILE_SIZE (256u << 20) /* bytes of one file */
#define CMIF_TASK_TEXT_SIZE (1u << 20)   /* bytes of one text */
#define CMIF_TASK_LABELS    256          /* different labels */
#define CMIF_TASK_LABEL     64           /* bytes of a label */

typedef struct cmif_example {
    const char *text;      /* NUL-terminated, never empty, as are the others where there */
    const char *second;    /* the other sentence of a pair, or NULL */
    const char *reference; /* what a summary should say, or NULL */
    uint32_t    label;     /* index into labels; 0 where there are none */
    uint32_t    line;      /* in the file, from 1 */
} cmif_example;

typedef struct cmif_task {
    cmif_example *examples;
    size_t        count;
    const char  **labels; /* numbers: "0" to the largest in the file; names: by their bytes. None for summaries. */
    size_t        label_count;
    void         *memory; /* what the texts lie in; wiped */
    size_t        memory_size;
} cmif_task;

/* Read a file whole.
 *   limit  0 for all examples; else so many of them (all, if fewer), chosen by seed, in the order of the file
 *   task   owned by the caller on success (cmif_task_wipe); untouched on failure
 * Errors: IO, FORMAT (names the line), RANGE (larger than the above, or no example at all), MEMORY. */
CMIF_MUST_USE cmif_code cmif_task_open(const char *path, size_t limit, uint64_t seed, cmif_task *task, cmif_err *err);

/* Take out of task what is in other, too: the same letters and digits in the same order. Returns how many; both stay the caller's. */
size_t cmif_task_drop(cmif_task *task, const cmif_task *other);

void cmif_task_wipe(cmif_task *task); /* NULL is welcome */

#endif
