/* worker - the engine process, as its parent sees it: started, fed, listened to, and started again when it dies or hangs.
 *
 * A death that nobody asked for is not an error here: on_down says that every cache is gone, and a new engine is on its
 * way. Only when several in a row die before they did anything useful does on_broken say so (and it keeps trying, slowly).
 *
 * Source  docs/architecture.md. */
#ifndef CMIF_SERVER_WORKER_H
#define CMIF_SERVER_WORKER_H

#include "engine/engine.h"
#include "server/pipe.h"

#include <event2/event.h>

typedef struct cmif_worker cmif_worker;

typedef struct cmif_worker_options {
    cmif_engine_options engine;        /* slots is what pipe messages are checked against */
    uint32_t            stall_seconds; /* an engine that has work and is silent for longer is killed */
} cmif_worker_options;

typedef struct cmif_worker_hooks {
    void (*on_ready)(void *context, const cmif_frame_welcome *welcome); /* loaded: at start and after each restart */
    void (*on_message)(void *context, const cmif_pipe_message *message);
    void (*on_down)(void *context);                   /* every cache is gone; nothing is sent until on_ready */
    void (*on_broken)(void *context, const char *why);/* could not be loaded, or keeps dying */
    void (*on_drained)(void *context);                /* there is room to send again */
    void *context;
} cmif_worker_hooks;

/* Start the engine process; hooks are called from base's loop only.
 * Errors: IO (no such program), MEMORY. */
CMIF_MUST_USE cmif_code cmif_worker_new(struct event_base *base, const cmif_worker_options *options,
                                        const cmif_worker_hooks *hooks, cmif_worker **out, cmif_err *err);
void                    cmif_worker_free(cmif_worker *worker); /* kills it; NULL is welcome */

bool cmif_worker_is_ready(const cmif_worker *worker);
/* More than a few megabytes wait for the engine: send no rows until on_drained. */
bool cmif_worker_is_full(const cmif_worker *worker);
/* Queue a message. Dropped without a word while the engine is down: on_down has said so, or will. */
void cmif_worker_send(cmif_worker *worker, const cmif_pipe_message *message);
/* Is somebody waiting for the engine? Then its silence counts. */
void cmif_worker_expect(cmif_worker *worker, bool work);
/* Something useful came of it: rows computed, a token, a vector. Deaths are counted from here. */
void cmif_worker_praise(cmif_worker *worker);

#endif
