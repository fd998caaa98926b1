/* cmif_tool - what the helper programs that work on public files share: reporting, a progress bar, signals, sizes.
 *
 * Sees    public files. */
#ifndef CMIF_PROGRAMS_CMIF_TOOL_H
#define CMIF_PROGRAMS_CMIF_TOOL_H

#include "base/err.h"

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

extern bool                  tool_json;        /* --json */
extern volatile sig_atomic_t tool_interrupted; /* the signal that asked us to end; 0: none */

void tool_signals_install(void);
/* The one sentence of a failure; returns the exit code: exit_code, or 128 + signal when that is why. */
int         tool_report(const cmif_err *err, int exit_code);
/* When all is printed; returns the exit code: 1, with its sentence, when it did not arrive. */
int         tool_end(cmif_err *err);
/* Print object, indented, and drop it; returns the exit code. */
int         tool_print_json(json_t *object, cmif_err *err);
const char *tool_size(uint64_t bytes); /* "98.4 MB"; room for four such texts in one call */

typedef struct tool_bar {
    bool   shown; /* stderr is a terminal that can go back to the start of a line */
    double next;  /* when to draw again */
} tool_bar;

tool_bar tool_bar_new(void);
/* A cmif_progress with a tool_bar as context. */
bool     tool_bar_draw(void *bar, const char *what, uint64_t done, uint64_t total);
void     tool_bar_end(const tool_bar *bar);

#endif
