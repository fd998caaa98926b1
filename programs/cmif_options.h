/* cmif_options - the one option parser of cmif: a table per command gives parsing, help and error sentences.
 *
 * Sees    the command line, which may hold a prompt: no message repeats an argument that does not look like an option. */
#ifndef CMIF_PROGRAMS_CMIF_OPTIONS_H
#define CMIF_PROGRAMS_CMIF_OPTIONS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef enum cmif_option_kind {
    CMIF_OPTION_FLAG = 0, /* bool, no argument */
    CMIF_OPTION_TEXT,     /* const char *, borrowed from argv */
    CMIF_OPTION_COUNT,    /* uint32_t within [min, max] */
    CMIF_OPTION_SEED,     /* uint64_t */
    CMIF_OPTION_REAL      /* float within [min, max] */
} cmif_option_kind;

typedef struct cmif_option {
    char             letter; /* 0: none */
    const char      *name;   /* without the dashes */
    const char      *arg;    /* "N", in help; NULL for a flag */
    cmif_option_kind kind;
    void            *value;  /* what kind says; the default stays when the option is absent */
    double           min, max;
    const char      *help;   /* one line of at most 52 columns, with the default; NULL: shown with the option before it */
} cmif_option;

typedef struct cmif_command {
    const char        *name;    /* "run"; of a program that is not cmif its whole name, "cmif-gateway" */
    const char        *args;    /* "[options] -m MODEL TEXT" */
    const char        *summary; /* what it does, one line */
    const cmif_option *options;
    size_t             option_count;
    const char        *notes;   /* after the options: examples, environment; may be NULL */
} cmif_command;

/* Take the options out of argv and leave the other arguments in front, *rest of them. "--" ends the options; "-" is an
 * argument; `--name value`, `--name=value`, `-nvalue` and `-n value` are understood.
 * Errors: RANGE (usage: the sentence names the option and what it takes); CANCELLED: help was asked for and printed. */
CMIF_MUST_USE cmif_code cmif_options_parse(const cmif_command *command, int argc, char **argv, int *rest, cmif_err *err);

void cmif_options_help(const cmif_command *command);

/* The candidate that word is most likely meant to be, or NULL when none is near. */
const char *cmif_nearest(const char *word, const char *const *candidates, size_t count);

/* word if it looks like the name of an option or a command, else NULL: fit to be repeated in a message. */
const char *cmif_printable_word(const char *word);

#endif
