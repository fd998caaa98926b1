/* pipe - what the server process and its engine process say to each other: an envelope around a frame of the wire, so
 * that one decoder, the one that is fuzzed, stands on both ends here too.
 *
 *   u32 slot, u32 run, u32 flags, then one whole frame.
 *
 * `run` counts the BEGINs of a slot: what is still under way from an earlier one is told apart by it and thrown away.
 *
 *   to the engine     BEGIN ROWS (of the BEGIN's type) CANCEL CLOSE (drop the cache) PING
 *   from the engine   WELCOME (loaded) PROGRESS TOKEN LOGITS VECTOR DONE ERROR PONG (alive)
 *
 * Sees    rows, ids, logits. */
#ifndef CMIF_SERVER_PIPE_H
#define CMIF_SERVER_PIPE_H

#include "wire/wire.h"

#define CMIF_PIPE_HEADER_SIZE 12
#define CMIF_PIPE_SIZE_MAX    (CMIF_PIPE_HEADER_SIZE + CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX)

enum { /* cmif_pipe_message.flags */
    CMIF_PIPE_LOOPED  = 1, /* TOKEN: the engine feeds the token itself */
    CMIF_PIPE_REFUSED = 2  /* ERROR: a BEGIN that the cache does not allow; a replay from 0 may do */
};
#define CMIF_PIPE_FLAGS 3

typedef enum cmif_pipe_end { CMIF_PIPE_SERVER = 0, CMIF_PIPE_ENGINE } cmif_pipe_end;

typedef struct cmif_pipe_message {
    uint32_t   slot, run, flags;
    cmif_frame frame; /* borrowed pointers, as in cmif_frame */
} cmif_pipe_message;

/* Bytes of the message, envelope included. */
size_t cmif_pipe_size(const cmif_pipe_message *message);
/* *used is set on success only. Errors: RANGE. */
CMIF_MUST_USE cmif_code cmif_pipe_encode(const cmif_pipe_message *message, void *bytes, size_t size, size_t *used,
                                         cmif_err *err);
/* Bytes of the message that starts here, 0: read more. Errors: FORMAT. */
CMIF_MUST_USE cmif_code cmif_pipe_peek(const void *bytes, size_t size, size_t *message_size, cmif_err *err);
/* Decode one whole message of exactly size bytes that `sender` may send, for one of `slots` slots.
 * Errors: FORMAT; *message is untouched then. */
CMIF_MUST_USE cmif_code cmif_pipe_decode(cmif_pipe_end sender, uint32_t slots, const void *bytes, size_t size,
                                         cmif_pipe_message *message, cmif_err *err);

#endif
