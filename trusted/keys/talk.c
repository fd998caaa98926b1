#include "keys/talk.h"

#include <time.h>

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Seconds that are left, at least 1; 0: none. */
static int seconds_left(const cmif_talk *talk)
{
    const int64_t left = talk->deadline - now_ms();
    return left <= 0 ? 0 : (int) (left / 1000) + 1;
}

cmif_code cmif_talk_init(cmif_talk *talk, cmif_channel *channel, bool server, size_t room, int seconds, cmif_err *err)
{
    *talk = (cmif_talk){
        .channel = channel, .wire = {.server = server}, .room = room, .deadline = now_ms() + (int64_t) seconds * 1000};
    cmif_code rc = cmif_secret_reserve(&talk->in, room, err);
    return rc ? rc : cmif_secret_reserve(&talk->out, CMIF_TALK_PIECE + 64, err);
}

void cmif_talk_wipe(cmif_talk *talk)
{
    cmif_secret_wipe(&talk->in);
    cmif_secret_wipe(&talk->out);
}

cmif_code cmif_talk_send(cmif_talk *talk, const cmif_frame *frame, cmif_err *err)
{
    const int seconds = seconds_left(talk);
    size_t    size;
    cmif_code rc =
        seconds ? cmif_wire_sent(&talk->wire, frame, err) : cmif_fail(err, CMIF_E_IO, "the other side is too slow");
    rc = rc ? rc : cmif_frame_encode(frame, talk->out.data, talk->out.capacity, &size, err);
    rc = rc ? rc : cmif_channel_send(talk->channel, talk->out.data, size, seconds, -1, err);
    cmif_wipe(talk->out.data, talk->out.capacity);
    return rc;
}

cmif_code cmif_talk_receive(cmif_talk *talk, cmif_frame *frame, cmif_err *err)
{
    for (;;) {
        size_t    have = talk->in.size - talk->at, whole = 0, more;
        uint8_t  *here = talk->in.data + talk->at;
        cmif_code rc   = have ? cmif_frame_peek(here, have, &whole, err) : CMIF_OK;
        if (rc == CMIF_OK && whole > talk->room) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "a frame of %zu bytes, expected at most %zu", whole, talk->room);
        }
        if (rc == CMIF_OK && whole && whole <= have) {
            size_t used;
            rc = cmif_frame_decode(here, have, frame, &used, err);
            rc = rc ? rc : cmif_wire_received(&talk->wire, frame, err);
            if (rc == CMIF_OK) {
                talk->at += used;
            }
            if (rc == CMIF_OK && frame->kind == CMIF_FRAME_ERROR) {
                rc = cmif_fail(err, CMIF_E_PEER, "it says: %.*s", frame->error.size, frame->error.text);
            }
            return rc;
        }
        const int seconds = seconds_left(talk);
        if (rc == CMIF_OK && !seconds) {
            rc = cmif_fail(err, CMIF_E_IO, "the other side is too slow");
        }
        if (rc != CMIF_OK) {
            return rc;
        }
        memmove(talk->in.data, here, have);
        talk->in.size = have;
        talk->at      = 0;
        rc = cmif_channel_receive(talk->channel, talk->in.data + have, talk->room - have, &more, seconds, -1, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        talk->in.size += more;
    }
}
