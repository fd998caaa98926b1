#include "wire/wire.h"

#define IN(state) (1u << CMIF_WIRE_##state)
#define WORKING (IN(PROMPT) | IN(STREAM) | IN(CANCELLING))
#define AFTER_HELLO (IN(KNOWN) | IN(OPENING) | IN(READY) | WORKING)
#define STAY (-1)

/* Which frame is allowed in which states, and the state after it. Two rows say less than all: the last ROWS of a prompt
 * leads from PROMPT to STREAM, and what is late leaves the server READY. */
static const struct rule {
    unsigned states;
    int      next;
    bool     late; /* the server takes it when READY, too */
} rules[] = {
    [CMIF_FRAME_HELLO]    = {IN(START), CMIF_WIRE_GREETED, false},
    [CMIF_FRAME_WELCOME]  = {IN(GREETED), CMIF_WIRE_KNOWN, false},
    [CMIF_FRAME_OPEN]     = {IN(KNOWN), CMIF_WIRE_OPENING, false},
    [CMIF_FRAME_OPENED]   = {IN(OPENING), CMIF_WIRE_READY, false},
    [CMIF_FRAME_BEGIN]    = {IN(READY), CMIF_WIRE_PROMPT, false},
    [CMIF_FRAME_ROWS]     = {IN(PROMPT) | IN(STREAM), STAY, true},
    [CMIF_FRAME_CANCEL]   = {IN(PROMPT) | IN(STREAM), CMIF_WIRE_CANCELLING, true},
    [CMIF_FRAME_PROGRESS] = {WORKING, STAY, false},
    [CMIF_FRAME_LOGITS]   = {IN(STREAM) | IN(CANCELLING), STAY, false},
    [CMIF_FRAME_TOKEN]    = {IN(STREAM) | IN(CANCELLING), STAY, false},
    [CMIF_FRAME_VECTOR]   = {IN(STREAM) | IN(CANCELLING), STAY, false},
    [CMIF_FRAME_DONE]     = {IN(STREAM) | IN(CANCELLING), CMIF_WIRE_READY, false},
    [CMIF_FRAME_RESET]    = {WORKING, CMIF_WIRE_READY, false},
    [CMIF_FRAME_CLOSE]    = {IN(READY) | WORKING, CMIF_WIRE_ENDED, false},
    [CMIF_FRAME_PING]     = {AFTER_HELLO, STAY, false},
    [CMIF_FRAME_PONG]     = {AFTER_HELLO, STAY, false},
    [CMIF_FRAME_ERROR]    = {IN(START) | IN(GREETED) | AFTER_HELLO, CMIF_WIRE_ENDED, false},
};

const char *cmif_wire_state_name(cmif_wire_state state)
{
    static const char *const names[] = {"START",  "GREETED", "KNOWN",      "OPENING", "READY",
                                        "PROMPT", "STREAM",  "CANCELLING", "ENDED"};
    return (unsigned) state < sizeof names / sizeof *names ? names[state] : "unknown";
}

/* What the table cannot say: counts and positions. Moves them on in w, a copy; NULL, or what is wrong. */
static const char *advance(cmif_wire *w, const cmif_frame *f)
{
    switch (f->kind) {
    case CMIF_FRAME_WELCOME:
        w->vocab = f->welcome.vocab;
        break;
    case CMIF_FRAME_BEGIN:
        w->first       = f->begin.position;
        w->next        = f->begin.position;
        w->rows_left   = f->begin.row_count;
        w->tokens_left = f->begin.max_tokens;
        w->logits_next = 0;
        w->flags       = f->begin.flags;
        w->mode        = f->begin.mode;
        w->may_cancel  = true;
        break;
    case CMIF_FRAME_ROWS:
        if (f->rows.count > w->rows_left) {
            return "more rows than were promised";
        }
        if (f->rows.first != w->next) {
            return "rows that do not follow the rows before";
        }
        w->next += f->rows.count;
        w->rows_left -= f->rows.count;
        if (w->state == CMIF_WIRE_PROMPT && w->rows_left == 0) {
            w->state = CMIF_WIRE_STREAM;
        }
        break;
    case CMIF_FRAME_CANCEL:
        if (!w->may_cancel) {
            return "nothing to cancel";
        }
        w->may_cancel = false;
        break;
    case CMIF_FRAME_PROGRESS:
        if (f->progress.rows > w->next) {
            return "more rows than were sent";
        }
        break;
    case CMIF_FRAME_LOGITS:
        if (w->mode != CMIF_MODE_GENERATE || !(w->flags & CMIF_BEGIN_LOGITS)) {
            return "the BEGIN did not ask for logits";
        }
        if (w->rows_left || f->logits.position != w->next) {
            return "a row is missing, or another position was expected";
        }
        if (f->logits.offset != w->logits_next || f->logits.count > w->vocab - w->logits_next) {
            return "logits out of order, or beyond the vocabulary";
        }
        w->logits_next += f->logits.count;
        break;
    case CMIF_FRAME_TOKEN:
        if (w->mode != CMIF_MODE_GENERATE || w->tokens_left == 0) {
            return "no token, or no further token, was asked for";
        }
        if (w->rows_left || f->token.position != w->next) {
            return "a row is missing, or another position was expected";
        }
        if (f->token.id >= w->vocab) {
            return "an id beyond the vocabulary";
        }
        if (w->logits_next != (w->flags & CMIF_BEGIN_LOGITS ? w->vocab : 0)) {
            return "logits are missing";
        }
        w->logits_next = 0;
        w->tokens_left--;
        if (w->flags & CMIF_BEGIN_LOOP) {
            w->next++;
        } else {
            w->rows_left = 1;
        }
        break;
    case CMIF_FRAME_VECTOR:
        if (w->mode != CMIF_MODE_ENCODE || w->rows_left || w->tokens_left == 0) {
            return "no vector, or no further one, was asked for, or rows are missing";
        }
        w->tokens_left = 0;
        break;
    case CMIF_FRAME_DONE:
        if (f->done.reason == CMIF_DONE_CANCELLED && w->state != CMIF_WIRE_CANCELLING) {
            return "CANCELLED, and there was no CANCEL";
        }
        if (f->done.reason != CMIF_DONE_CANCELLED && w->mode == CMIF_MODE_ENCODE && w->tokens_left) {
            return "the VECTOR is missing";
        }
        if (f->done.position < w->first || f->done.position > w->next) {
            return "a position that cannot be";
        }
        break;
    case CMIF_FRAME_PING:
        if (w->pings == CMIF_WIRE_PINGS_MAX) {
            return "too many without an answer";
        }
        w->pings++;
        break;
    case CMIF_FRAME_PONG:
        if (w->pings == 0) {
            return "no PING was sent";
        }
        w->pings--;
        break;
    default:
        break;
    }
    return NULL;
}

static cmif_code step(cmif_wire *wire, const cmif_frame *frame, bool sent, cmif_err *err)
{
    const char *name = cmif_frame_name(frame->kind);
    if (!name) {
        return cmif_fail(err, CMIF_E_FORMAT, "there is no frame of kind %u", frame->kind);
    }
    const bool by_server = frame->kind >= CMIF_FRAME_WELCOME;
    if (by_server != (sent == wire->server)) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s is not for the %s to send", name, by_server ? "client" : "server");
    }
    const struct rule *rule = &rules[frame->kind];
    const bool         late = rule->late && wire->server && wire->state == CMIF_WIRE_READY;
    if (!late && !(rule->states & 1u << wire->state)) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s is not allowed in state %s", name, cmif_wire_state_name(wire->state));
    }
    cmif_wire   next  = *wire;
    const char *wrong = advance(&next, frame);
    if (wrong) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s in state %s: %s", name, cmif_wire_state_name(wire->state), wrong);
    }
    if (rule->next != STAY && !late) {
        next.state = (cmif_wire_state) rule->next;
    }
    *wire = next;
    return CMIF_OK;
}

cmif_code cmif_wire_sent(cmif_wire *wire, const cmif_frame *frame, cmif_err *err)
{
    return step(wire, frame, true, err);
}

cmif_code cmif_wire_received(cmif_wire *wire, const cmif_frame *frame, cmif_err *err)
{
    return step(wire, frame, false, err);
}
