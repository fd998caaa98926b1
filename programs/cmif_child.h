/* cmif_child - the other programs that cmif starts: cmif-model and fetch, which never see a prompt, and a private
 * cmif-server on a unix socket in a folder of our own, which ends when we do, however that is.
 *
 * Sees    names of files and options. */
#ifndef CMIF_PROGRAMS_CMIF_CHILD_H
#define CMIF_PROGRAMS_CMIF_CHILD_H

#include "base/err.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

/* The path of a program of ours: in $CMIF_LIBEXEC, or in bin/ or libexec/cmif/ of where this one lies.
 * Errors: IO (it is missing). */
CMIF_MUST_USE cmif_code cmif_child_find(const char *name, char path[static PATH_MAX], cmif_err *err);

/* Become the program: returns only when that failed. argv[0] is set here. */
cmif_code cmif_child_become(const char *name, char **argv, cmif_err *err);

/* Run the program to its end; its stderr is ours, and what it prints goes to output (up to output_size) or, NULL, nowhere.
 *   argv  argv[0] is set here; ends with NULL
 * Errors: IO (cannot start), CANCELLED (Ctrl-C ended it); with an empty text: it failed and said why itself, RANGE when its
 * options were wrong, else IO. */
CMIF_MUST_USE cmif_code cmif_child_run(const char *name, char **argv, char *output, size_t output_size, cmif_err *err);

typedef struct cmif_private_server cmif_private_server;

/* Start a server over the server file at path; it loads while the caller does other things.
 *   slots, context, threads  0: the server's defaults */
CMIF_MUST_USE cmif_code cmif_private_server_start(const char *path, uint32_t slots, uint32_t context, uint32_t threads,
                                                  cmif_private_server **out, cmif_err *err);
/* Wait until it is ready. Errors: IO (it ended: with the last line it wrote), CANCELLED (interrupted). */
CMIF_MUST_USE cmif_code cmif_private_server_wait(cmif_private_server *server, cmif_err *err);
const char             *cmif_private_server_socket(const cmif_private_server *server);
int                     cmif_private_server_pid(const cmif_private_server *server);
void                    cmif_private_server_stop(cmif_private_server *server); /* ended and tidied up; NULL is welcome */

#endif
