/* child - the engine process: messages in, batches computed, messages out. One thread, one engine, one socket.
 *
 * Whatever ends the engine ends this process; the server (worker.h) starts another.
 *
 * Sees    rows, ids, logits. */
#ifndef CMIF_SERVER_CHILD_H
#define CMIF_SERVER_CHILD_H

#include "engine/engine.h"

#define CMIF_CHILD_FD 3 /* the socket, as the server leaves it to its child */

/* Load, say WELCOME (or ERROR with the reason), then work until the other end of fd is closed: OK.
 * Errors: those of the engine; IO and FORMAT of the socket. */
CMIF_MUST_USE cmif_code cmif_child_run(int fd, const cmif_engine_options *options, cmif_err *err);

#endif
