/* cmif_options - the one option parser of cmif: a table per command gives parsing, help and error sentences.
 *
 * A program may also take its options from the environment (--peer-policy: CMIF_PEER_POLICY) and from a file; it says so by keeping sources. Then a flag
 * goes before the environment, and that before the file, in whatever order they are read.
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

typedef enum cmif_option_source { CMIF_FROM_DEFAULT = 0, CMIF_FROM_FILE, CMIF_FROM_ENVIRONMENT, CMIF_FROM_FLAG } cmif_option_source;

/* The same, and says of each option of the table whether it was given: sources, option_count of them, the caller's. */
CMIF_MUST_USE cmif_code cmif_options_take(const cmif_command *command, int argc, char **argv, int *rest, cmif_option_source *sources, cmif_err *err);
/* The options that the environment has, each as its name in capitals behind CMIF_; an empty one is none. Values are borrowed from the environment.
 * Errors: RANGE (names the variable). */
CMIF_MUST_USE cmif_code cmif_options_environment(const cmif_command *command, cmif_option_source *sources, cmif_err *err);
/* A line "name value" of a file; value is borrowed. What a higher source gave stays. A flag takes yes or no.
 * Errors: RANGE (no such option: the nearest; the value). */
CMIF_MUST_USE cmif_code cmif_options_line(const cmif_command *command, const char *name, const char *value, cmif_option_source *sources, cmif_err *err);
/* The place of an option in the table, or option_count. */
size_t cmif_options_find(const cmif_command *command, const char *name);

void cmif_options_help(const cmif_command *command);

/* The candidate that word is most likely meant to be, or NULL when none is near. */
const char *cmif_nearest(const char *word, const char *const *candidates, size_t count);

/* word if it looks like the name of an option or a command, else NULL: fit to be repeated in a message. */
const char *cmif_printable_word(const char *word);

#endif
