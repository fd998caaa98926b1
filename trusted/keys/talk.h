/* talk - whole frames over a channel, until one deadline: what both ends of a key release need of the wire.
 *
 * Sees    keys: its buffers are secret memory. */
#ifndef CMIF_KEY_TALK_H
#define CMIF_KEY_TALK_H

#include "side.h"

#include "channel/channel.h"
#include "secret/secret.h"
#include "wire/wire.h"

enum { CMIF_TALK_PIECE = 1 << 15 }; /* of a proof, as we send it */

typedef struct cmif_talk {
    cmif_channel *channel; /* borrowed */
    cmif_wire     wire;
    int64_t       deadline; /* monotonic milliseconds */
    cmif_secret   in, out;
    size_t        at; /* in: where the frame after the last one begins */
    size_t        room; /* in: no frame may be longer */
} cmif_talk;

/* End with cmif_talk_wipe, also after an error. room: of the longest frame that may come. */
CMIF_MUST_USE cmif_code cmif_talk_init(cmif_talk *talk, cmif_channel *channel, bool server, size_t room, int seconds, cmif_err *err);
void                    cmif_talk_wipe(cmif_talk *talk);
/* Errors: FORMAT (not allowed now), and as cmif_channel_send. */
CMIF_MUST_USE cmif_code cmif_talk_send(cmif_talk *talk, const cmif_frame *frame, cmif_err *err);
/* What the frame borrows stays until the next call. Errors: FORMAT, IO (too slow, closed); PEER (an ERROR frame: its sentence). */
CMIF_MUST_USE cmif_code cmif_talk_receive(cmif_talk *talk, cmif_frame *frame, cmif_err *err);

#endif
