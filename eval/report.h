/* report - one HTML file of tables and plots: no script, nothing fetched, readable on a phone, in the dark, in print, in grey.
 *
 * The document is JSON that eval and leak-test build, and save beside it as it is:
 *
 *   { "title": "...", "made": "2026-11-21", "command": "cmif eval ...",     all three text; command may be absent
 *     "facts": [["name", value], ...],                                      value: text or number; may be absent
 *     "sections": [ { "heading": "...",
 *                     "text": ["a paragraph", ...],                         may be absent, as may
 *                     "table": { "columns": ["...", ...], "align": "lrr",   l, c or r, one a column
 *                                "rows": [[cell, ...], ...],                one cell a column
 *                                "caption": "..." },                        may be absent
 *                     "plot": { "kind": "scatter" | "line" | "bars",
 *                               "x": {"label": "...", "log": false}, "y": {"label": "..."},
 *                               "series": [ { "name": "...", "points": [[x, y], [x, y, low, high], ...],
 *                                             "labels": ["K 20", ...],      one a point, beside it; may be absent
 *                                             "marked": [1, ...] }, ... ],  points to ring, by index; may be absent
 *                               "mark": "our default",                    what a ring means; may be absent: this
 *                               "caption": "..." } }, ... ] }               may be absent
 *
 *   cell   text, a number, null (a dash), or {"text": any of these, "strong": true, "note": "small print under it"}
 *   number as many decimals as the numbers of its column need, at most 4; below .0001 as a power of ten
 *   bars   x is a text: [["clean", y], ["paper", y, low, high], ...]; bars of the same x lie together, no labels
 *   y      low and high are the ends of an error bar, not its lengths
 *
 * A key that is not in this list is refused, so that a misspelt one is not silently left out of a report. At most 8 series a
 * plot (so many shapes and hatchings can be told apart without colour), 64 columns. */
#ifndef CMIF_EVAL_REPORT_H
#define CMIF_EVAL_REPORT_H

#include "base/err.h"
#include "side.h"

#include <jansson.h>

/* Write the document to path, as a new file that takes its name at the end: an old report stays until then.
 * Errors: FORMAT (names the member that is not as above), IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_report_write(const json_t *document, const char *path, cmif_err *err);

#endif
