/* server - sockets, limits and sessions: rows come in from clients, are checked, and go to the engine process; tokens,
 * logits and vectors go back. The engine itself is in another process (worker.h): what kills it does not kill us.
 *
 * Sees    rows, ids, logits; never text. No log line holds any of them.
 * Source  docs/wire.md, docs/architecture.md. */
#ifndef CMIF_SERVER_SERVER_H
#define CMIF_SERVER_SERVER_H

#include "evidence/evidence.h"
#include "server/tls.h"
#include "server/worker.h"

#define CMIF_SERVER_DOORS_MAX 16

typedef struct cmif_server_options {
    cmif_worker_options worker;                        /* worker.engine.slots: sessions with a cache at once */
    const char         *listen[CMIF_SERVER_DOORS_MAX]; /* unix:PATH or HOST:PORT */
    size_t              listen_count;
    cmif_tls_options    tls;
    cmif_maker_options  evidence;                      /* of what is shown to clients that ask; kind 0: none */
    uint32_t            max_connections;
    uint32_t            idle_seconds;                  /* a session without work for longer is dropped */
    bool                die_with_parent;               /* end when the pipe that standard input, else output, is loses its other end */
    bool                json;                          /* the ready line as JSON */
} cmif_server_options;

const char *cmif_server_evidence_name(cmif_maker_kind kind); /* "tdx", as --evidence has it; NULL: no such kind */

/* Serve until a signal, or the end of the parent: OK. Errors: whatever keeps it from serving, as one sentence. */
CMIF_MUST_USE cmif_code cmif_server_run(const cmif_server_options *options, cmif_err *err);

#endif
