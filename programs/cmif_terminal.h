/* cmif_terminal - what a person sees and types: streamed answers, status lines, errors; signals; text from stdin.
 *
 * Answers come from an untrusted server: on a terminal their control characters are not obeyed.
 *
 * Sees    plaintext, in and out. Messages hold none of it. */
#ifndef CMIF_PROGRAMS_CMIF_TERMINAL_H
#define CMIF_PROGRAMS_CMIF_TERMINAL_H

#include "secret/secret.h"
#include "session/session.h"

#include <signal.h>
#include <stdio.h>

enum { CMIF_EXIT_OK = 0, CMIF_EXIT_FAILED = 1, CMIF_EXIT_USAGE = 2, CMIF_EXIT_INTERRUPTED = 130 };

extern bool                  cmif_json;        /* --json: results and errors are JSON */
extern bool                  cmif_quiet;       /* --quiet: no status lines, no account */
extern bool                  cmif_stays;       /* Ctrl-C ends what is done, never the program: chat */
extern volatile sig_atomic_t cmif_interrupted; /* the signal that asked us to end; 0: none */

/* SIGINT, SIGTERM and SIGHUP set cmif_interrupted and cancel what the watched session does. A second one ends the program
 * at once. SIGPIPE is ignored: writing says so. */
void cmif_signals_install(void);
void cmif_signals_watch(cmif_session *session); /* NULL: none */

/* stdout gets a buffer that can be wiped; forget flushes it and does. */
void cmif_output_install(void);
void cmif_output_forget(void);

typedef enum cmif_style { CMIF_DIM, CMIF_BOLD, CMIF_GREEN, CMIF_YELLOW, CMIF_RED, CMIF_PLAIN } cmif_style;
/* The escape sequence, or "" where stream is no terminal, NO_COLOR is set or TERM is dumb. */
const char *cmif_style_of(FILE *stream, cmif_style style);

/* One line on a terminal's stderr that the next one, or the first output, replaces; nothing elsewhere. NULL: clear it. */
void cmif_status(const char *text);

/* Say what went wrong, one sentence, or {"error": {...}} with --json; returns the exit code that fits. */
/* Text that is not ours (a server's, a model file's): nothing of it is obeyed by the terminal. */
void cmif_put_clean(FILE *to, const char *text, size_t size);

int cmif_report(const cmif_err *err);
int cmif_report_usage(const cmif_err *err); /* exit code 2; help that was asked for (CANCELLED) is 0 */

/* ---- streamed text ---- whole code points only; bytes that are no UTF-8 become U+FFFD. */
typedef struct cmif_stream {
    FILE       *to;    /* NULL: only kept */
    cmif_secret kept;  /* everything so far */
    uint8_t     part[4];
    size_t      part_size;
    bool        trim;  /* drop white space until the first other character */
    bool        failed;/* writing failed (a closed pipe, a full disk) */
} cmif_stream;

CMIF_MUST_USE cmif_code cmif_stream_put(cmif_stream *stream, const void *bytes, size_t size, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_stream_end(cmif_stream *stream, cmif_err *err); /* what is left of a cut code point */
void                    cmif_stream_wipe(cmif_stream *stream);

/* ---- text in ---- */
/* All of stdin. Errors: IO, MEMORY, CANCELLED (interrupted). */
CMIF_MUST_USE cmif_code cmif_read_stdin(cmif_secret *text, cmif_err *err);
/* One line of stdin without its newline; *more is false at the end, when no line is left. */
CMIF_MUST_USE cmif_code cmif_read_line(cmif_secret *line, bool *more, cmif_err *err);
/* Take an argument into text and blank it where `ps` reads it. */
CMIF_MUST_USE cmif_code cmif_take_argument(char *argument, cmif_secret *text, cmif_err *err);
/* Refuse what is not UTF-8, by position: it is rarely what the person meant. */
CMIF_MUST_USE cmif_code cmif_check_utf8(const void *bytes, size_t size, cmif_err *err);
/* Errors: as above. What was in text is wiped once it is released. */
CMIF_MUST_USE cmif_code cmif_release(cmif_secret *text, cmif_released **out, cmif_err *err);

#endif
