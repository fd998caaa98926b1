#include "server/pipe.h"

size_t cmif_pipe_size(const cmif_pipe_message *message)
{
    return CMIF_PIPE_HEADER_SIZE + cmif_frame_size(&message->frame);
}

cmif_code cmif_pipe_encode(const cmif_pipe_message *message, void *bytes, size_t size, size_t *used, cmif_err *err)
{
    cmif_writer w          = cmif_writer_over(bytes, size);
    size_t      frame_used = 0;

    cmif_write_u32(&w, message->slot);
    cmif_write_u32(&w, message->run);
    cmif_write_u32(&w, message->flags);
    if (w.failed) {
        return cmif_fail(err, CMIF_E_RANGE, "engine pipe: no room for an envelope in %zu bytes", size);
    }
    cmif_code rc = cmif_frame_encode(&message->frame, w.data + w.at, size - w.at, &frame_used, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "engine pipe");
        return rc;
    }
    *used = w.at + frame_used;
    return CMIF_OK;
}

cmif_code cmif_pipe_peek(const void *bytes, size_t size, size_t *message_size, cmif_err *err)
{
    size_t frame_size = 0;

    if (size > CMIF_PIPE_HEADER_SIZE) {
        const uint8_t *frame = (const uint8_t *) bytes + CMIF_PIPE_HEADER_SIZE;
        cmif_code      rc    = cmif_frame_peek(frame, size - CMIF_PIPE_HEADER_SIZE, &frame_size, err);
        if (rc != CMIF_OK) {
            cmif_err_context(err, "engine pipe");
            return rc;
        }
    }
    *message_size = frame_size ? CMIF_PIPE_HEADER_SIZE + frame_size : 0;
    return CMIF_OK;
}

static bool pipe_may_send(cmif_pipe_end sender, unsigned kind)
{
    switch (kind) {
    case CMIF_FRAME_BEGIN:
    case CMIF_FRAME_ROWS:
    case CMIF_FRAME_CANCEL:
    case CMIF_FRAME_CLOSE:
    case CMIF_FRAME_PING:
        return sender == CMIF_PIPE_SERVER;
    case CMIF_FRAME_WELCOME:
    case CMIF_FRAME_PROGRESS:
    case CMIF_FRAME_TOKEN:
    case CMIF_FRAME_LOGITS:
    case CMIF_FRAME_VECTOR:
    case CMIF_FRAME_DONE:
    case CMIF_FRAME_ERROR:
    case CMIF_FRAME_PONG:
        return sender == CMIF_PIPE_ENGINE;
    default:
        return false;
    }
}

cmif_code cmif_pipe_decode(cmif_pipe_end sender, uint32_t slots, const void *bytes, size_t size,
                           cmif_pipe_message *message, cmif_err *err)
{
    cmif_reader       r = cmif_reader_over(bytes, size);
    cmif_pipe_message m = {.slot = cmif_read_u32(&r), .run = cmif_read_u32(&r), .flags = cmif_read_u32(&r)};
    size_t            used;

    if (r.failed || m.slot >= slots || m.flags > CMIF_PIPE_FLAGS) {
        return cmif_fail(err, CMIF_E_FORMAT, "engine pipe: slot %u of %u, flags %u", m.slot, slots, m.flags);
    }
    cmif_code rc = cmif_frame_decode(r.data + r.at, size - r.at, &m.frame, &used, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "engine pipe");
        return rc;
    }
    if (used != size - r.at || !pipe_may_send(sender, m.frame.kind)) {
        return cmif_fail(err, CMIF_E_FORMAT, "engine pipe: a frame %s that the %s does not send",
                         cmif_frame_name(m.frame.kind), sender == CMIF_PIPE_SERVER ? "server" : "engine");
    }
    *message = m;
    return CMIF_OK;
}
