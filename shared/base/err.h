/* err - one error value, owned by the caller; there is no hidden global.
 *
 * The place that fails says what was expected, what was found and what to do; each layer above puts its noun in front.
 * Text is made of names, sizes and positions, never of payload (docs/threat-model.md, "what is never logged"). */
#ifndef CMIF_BASE_ERR_H
#define CMIF_BASE_ERR_H

#define CMIF_MUST_USE __attribute__((warn_unused_result))
#define CMIF_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))

typedef enum cmif_code {
    CMIF_OK = 0,
    CMIF_E_IO,          /* a file, socket or process failed us */
    CMIF_E_FORMAT,      /* bytes are not what the format says */
    CMIF_E_RANGE,       /* a number is outside what is allowed */
    CMIF_E_TRUST,       /* the other side is not who it must be */
    CMIF_E_BUDGET,      /* a privacy budget or a stated limit is spent */
    CMIF_E_MEMORY,      /* allocation failed */
    CMIF_E_UNSUPPORTED, /* well formed, but not something we do */
    CMIF_E_PEER,        /* the other side reported an error of its own */
    CMIF_E_CANCELLED    /* the person, or the caller, asked to stop */
} cmif_code;

typedef struct cmif_err {
    cmif_code   code;      /* for the program */
    char        text[256]; /* for the person */
    const char *where;     /* for us: "shared/gguf/gguf.c:41" */
} cmif_err;

/* Fill err (NULL is welcome) and return code, so that a failing line reads `rc = cmif_fail(...)`. */
#define cmif_fail(err, code, ...) cmif_err_set((err), (code), CMIF_WHERE(__FILE__, __LINE__), __VA_ARGS__)
#ifdef __clang_analyzer__ /* it cannot see into err.c, where the code that is returned is the one that was given */
#undef cmif_fail
#define cmif_fail(err, code, ...) (cmif_err_set((err), (code), "", __VA_ARGS__), (code))
#endif
#define CMIF_WHERE(file, line)    CMIF_WHERE_(file, line)
#define CMIF_WHERE_(file, line)   file ":" #line

cmif_code cmif_err_set(cmif_err *err, cmif_code code, const char *where, const char *format, ...) CMIF_PRINTF(4, 5);

/* Put "<noun>: " in front of the text. If room runs out the end of the noun goes first and the cause stays. */
void cmif_err_context(cmif_err *err, const char *format, ...) CMIF_PRINTF(2, 3);

/* "io", "format", ...: stable words for --json. */
const char *cmif_code_name(cmif_code code);

#endif
