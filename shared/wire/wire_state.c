#include "wire/wire.h"

#define IN(state) (1u << CMIF_WIRE_##state)
#define WORKING (IN(PROMPT) | IN(STREAM) | IN(CANCELLING))
#define AFTER_HELLO (IN(KNOWN) | IN(OPENING) | IN(READY) | WORKING)
#define PROVING (IN(START) | IN(READY)) /* where a client may ask for the server's proof */
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
    [CMIF_FRAME_ERROR]    = {IN(START) | IN(GREETED) | AFTER_HELLO | IN(UNSEALING), CMIF_WIRE_ENDED, false},
    [CMIF_FRAME_UNSEAL]   = {IN(START), CMIF_WIRE_UNSEALING, false},
    [CMIF_FRAME_KEY]      = {IN(UNSEALING), CMIF_WIRE_ENDED, false},
};

/* The two kinds that both sides send: CHALLENGE and EVIDENCE, and where each side may. */
enum { SERVER = 0, CLIENT = 1 }; /* as in cmif_wire.proofs */
static const struct rule mutual_rules[2][2] = {
    {[SERVER] = {IN(UNSEALING), STAY, false}, [CLIENT] = {PROVING, STAY, false}},
    {[SERVER] = {PROVING, STAY, false}, [CLIENT] = {IN(UNSEALING), STAY, false}},
};

const char *cmif_wire_state_name(cmif_wire_state state)
{
    static const char *const names[] = {"START",  "GREETED", "KNOWN",      "OPENING",   "READY",
                                        "PROMPT", "STREAM",  "CANCELLING", "UNSEALING", "ENDED"};
    return (unsigned) state < sizeof names / sizeof *names ? names[state] : "unknown";
}

/* The next piece of the proof that this side owes. */
static const char *advance_proof(cmif_wire *w, int side, const cmif_frame *f)
{
    if (!w->proofs[side].open) {
        return "no CHALLENGE is open";
    }
    if (w->proofs[side].next == 0) {
        w->proofs[side].total = f->evidence.total;
    }
    if (f->evidence.total != w->proofs[side].total) {
        return "another total than in the piece before";
    }
    if (f->evidence.offset != w->proofs[side].next || f->evidence.size == 0 ||
        f->evidence.size > w->proofs[side].total - w->proofs[side].next) {
        return "a piece that does not follow the piece before";
    }
    w->proofs[side].next += (uint32_t) f->evidence.size;
    w->proofs[side].open = w->proofs[side].next < w->proofs[side].total;
    return NULL;
}

/* What the table cannot say: counts and positions. Moves them on in w, a copy; NULL, or what is wrong. */
static const char *advance(cmif_wire *w, const cmif_frame *f, bool by_server)
{
    const int owes = by_server ? CLIENT : SERVER; /* who answers a CHALLENGE of this sender */

    if (w->proofs[SERVER].open &&
        (by_server ? f->kind != CMIF_FRAME_EVIDENCE && f->kind != CMIF_FRAME_PONG && f->kind != CMIF_FRAME_ERROR
                   : f->kind != CMIF_FRAME_PING && f->kind != CMIF_FRAME_CLOSE)) {
        return "the server owes a proof first";
    }
    switch (f->kind) {
    case CMIF_FRAME_CHALLENGE:
        if (by_server && (w->proofs[CLIENT].open || w->proofs[CLIENT].total)) {
            return "the client was asked before";
        }
        w->proofs[owes].open  = true;
        w->proofs[owes].total = 0;
        w->proofs[owes].next  = 0;
        w->rows_left          = 0; /* as at a BEGIN: what crossed the end before came before this, too */
        w->may_cancel         = false;
        break;
    case CMIF_FRAME_EVIDENCE:
        return advance_proof(w, by_server ? SERVER : CLIENT, f);
    case CMIF_FRAME_KEY:
        if (w->proofs[CLIENT].open || w->proofs[CLIENT].total == 0) {
            return "the client has not proved itself";
        }
        break;
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
    const bool mutual    = frame->kind >= CMIF_FRAME_CHALLENGE;
    const bool by_server = mutual ? sent == wire->server : frame->kind >= CMIF_FRAME_WELCOME;
    if (by_server != (sent == wire->server)) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s is not for the %s to send", name, by_server ? "client" : "server");
    }
    const struct rule *rule =
        mutual ? &mutual_rules[frame->kind - CMIF_FRAME_CHALLENGE][by_server ? SERVER : CLIENT] : &rules[frame->kind];
    const bool late = rule->late && wire->server && wire->state == CMIF_WIRE_READY;
    if (!late && !(rule->states & 1u << wire->state)) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s is not allowed in state %s", name, cmif_wire_state_name(wire->state));
    }
    cmif_wire   next  = *wire;
    const char *wrong = advance(&next, frame, by_server);
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
