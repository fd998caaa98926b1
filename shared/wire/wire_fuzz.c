/* Bytes as they come from a hostile peer, of either side. Property: what decodes lies wholly within the input and
 * encodes back to the same bytes; what is refused leaves the outputs alone; the machines take or refuse it and stay in
 * bounds. */
#include "wire/wire.h"

#include <stdlib.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static void must_be_inside(const uint8_t *bytes, size_t size, const uint8_t *whole, size_t whole_size)
{
    MUST(bytes >= whole && size <= whole_size && (size_t) (bytes - whole) <= whole_size - size);
}

static void feed(cmif_wire *wire, const cmif_frame *frame)
{
    const cmif_wire before = *wire;
    if (cmif_wire_received(wire, frame, NULL) != CMIF_OK) {
        MUST(memcmp(&before, wire, sizeof before) == 0);
        return;
    }
    MUST(wire->state <= CMIF_WIRE_ENDED && wire->first <= wire->next && wire->logits_next <= wire->vocab);
    MUST(wire->next <= CMIF_WIRE_POSITIONS + 1 && wire->pings <= CMIF_WIRE_PINGS_MAX);
    for (int p = 0; p < 2; p++) {
        MUST(wire->proofs[p].next <= wire->proofs[p].total && wire->proofs[p].total <= CMIF_WIRE_PROOF_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t again[CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX];
    cmif_wire      server = {.server = true}, client = {.state = CMIF_WIRE_GREETED};
    cmif_wire      keys = {.server = true}, asking = {.state = CMIF_WIRE_START}; /* a key server; who asks for proofs */

    for (size_t at = 0; at < size;) {
        cmif_frame frame = {.kind = 4711};
        cmif_err   err   = {0};
        size_t     whole = 99, used = 99, written;
        cmif_code  rc = cmif_frame_peek(data + at, size - at, &whole, &err);
        MUST(rc == CMIF_OK ? whole == 0 || whole >= CMIF_WIRE_HEADER_SIZE : whole == 99 && err.text[0]);
        const bool here = rc == CMIF_OK && whole && whole <= size - at;

        rc = cmif_frame_decode(data + at, size - at, &frame, &used, &err);
        if (rc != CMIF_OK) {
            MUST(rc == CMIF_E_FORMAT && frame.kind == 4711 && used == 99);
            break;
        }
        MUST(here && used == whole && used == cmif_frame_size(&frame));
        MUST(cmif_frame_encode(&frame, again, sizeof again, &written, &err) == CMIF_OK);
        MUST(written == used && memcmp(again, data + at, used) == 0);
        if (frame.kind == CMIF_FRAME_ROWS) {
            must_be_inside(frame.rows.bytes, frame.rows.size, data + at, used);
            MUST(frame.rows.count >= 1 && frame.rows.size % frame.rows.count == 0);
        } else if (frame.kind == CMIF_FRAME_LOGITS) {
            must_be_inside(frame.logits.bytes, (size_t) frame.logits.count * 4, data + at, used);
        } else if (frame.kind == CMIF_FRAME_VECTOR) {
            must_be_inside(frame.vector.bytes, (size_t) frame.vector.count * 4, data + at, used);
        }
        if (frame.kind == CMIF_FRAME_EVIDENCE) {
            must_be_inside(frame.evidence.bytes, frame.evidence.size, data + at, used);
            MUST(frame.evidence.size >= 1 && frame.evidence.total <= CMIF_WIRE_PROOF_MAX);
        }
        if (frame.kind < CMIF_FRAME_WELCOME || frame.kind >= CMIF_FRAME_CHALLENGE) {
            feed(&server, &frame);
            feed(&keys, &frame);
        }
        if (frame.kind >= CMIF_FRAME_WELCOME) {
            feed(&client, &frame);
            feed(&asking, &frame);
        }
        if (keys.state == CMIF_WIRE_UNSEALING && !keys.proofs[1].open && keys.proofs[1].total == 0) {
            MUST(cmif_wire_sent(&keys, &(cmif_frame){.kind = CMIF_FRAME_KEY}, NULL) != CMIF_OK);
            MUST(cmif_wire_sent(&keys, &(cmif_frame){.kind = CMIF_FRAME_CHALLENGE}, NULL) == CMIF_OK);
        }
        if (asking.state == CMIF_WIRE_START && !asking.proofs[0].open) { /* it asks again and again */
            MUST(cmif_wire_sent(&asking, &(cmif_frame){.kind = CMIF_FRAME_CHALLENGE}, NULL) == CMIF_OK);
        }
        if (client.state == CMIF_WIRE_KNOWN || client.state == CMIF_WIRE_OPENING || client.state == CMIF_WIRE_READY) {
            /* let the client go on by itself, so that later frames of the server are looked at, too */
            cmif_frame next = {.kind = client.state == CMIF_WIRE_READY ? CMIF_FRAME_BEGIN : CMIF_FRAME_OPEN};
            next.begin      = (cmif_frame_begin){.flags = CMIF_BEGIN_LOOP, .row_count = 1, .max_tokens = 1000};
            if (cmif_wire_sent(&client, &next, NULL) == CMIF_OK && client.state == CMIF_WIRE_PROMPT) {
                next = (cmif_frame){.kind = CMIF_FRAME_ROWS, .rows = {.count = 1}};
                MUST(cmif_wire_sent(&client, &next, NULL) == CMIF_OK);
            }
        }
        at += used;
    }
    return 0;
}
