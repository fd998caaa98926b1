/* rig - what several end-to-end tests need: a client file opened, a server of its other half on a private unix socket. */
#ifndef CMIF_TESTS_RIG_H
#define CMIF_TESTS_RIG_H

#include "session/session.h"

#include <sys/types.h>

typedef struct rig {
    cmif_gguf           *file; /* the client half */
    cmif_embed          *table;
    uint8_t              id[32];
    char                 folder[64], socket[96]; /* removed by rig_stop */
    pid_t                server;                 /* 0: none */
    cmif_session_options options;                /* f32 rows to the server */
} rig;

/* Open the client half at path. */
CMIF_MUST_USE cmif_code rig_open(rig *r, const char *client, cmif_err *err);
/* Start cmif-server on the server half with further arguments (NULL-terminated, may be NULL) and wait until it is ready. */
CMIF_MUST_USE cmif_code rig_start(rig *r, const char *server, const char *const *arguments, cmif_err *err);
/* SIGTERM, wait: true when it ended with 0. */
bool rig_stop_server(rig *r);
void rig_stop(rig *r);

pid_t  rig_child_of(pid_t parent); /* 0: none */
double rig_now(void);              /* seconds, monotonic */
/* Run a program of the build (path below the build folder) with arguments, output to /dev/null unless CMIF_VERBOSE is set;
 * its exit status, or -1. */
int rig_run(const char *program, const char *const *arguments);

#endif
