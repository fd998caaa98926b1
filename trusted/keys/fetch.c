#include "keys/keys.h"
#include "keys/talk.h"
#include "seal/seal.h"

#include <stdlib.h>

enum { ANSWER_MAX = 4096, SECONDS = 60 }; /* some TPMs take their time */

static cmif_code show(cmif_talk *talk, const cmif_key_ask *ask, const uint8_t nonce[static 32], cmif_err *err)
{
    uint8_t      exporter[32], own_key[32], peer_key[32], *proof = NULL;
    size_t       size    = 0;
    cmif_binding binding = {
        .role = 'c', .nonce = nonce, .exporter = exporter, .own_key = own_key, .other_key = peer_key};
    cmif_code rc = cmif_channel_binding(talk->channel, exporter, own_key, peer_key, err);
    rc           = rc ? rc : cmif_proof_make(ask->maker, &ask->claims, &binding, &proof, &size, err);
    for (size_t at = 0; rc == CMIF_OK && at < size;) {
        cmif_frame frame      = {.kind = CMIF_FRAME_EVIDENCE};
        frame.evidence.total  = (uint32_t) size;
        frame.evidence.offset = (uint32_t) at;
        frame.evidence.bytes  = proof + at;
        frame.evidence.size   = size - at < CMIF_TALK_PIECE ? size - at : CMIF_TALK_PIECE;
        at += frame.evidence.size;
        rc = cmif_talk_send(talk, &frame, err);
    }
    free(proof);
    return rc;
}

static cmif_code receive(cmif_talk *talk, cmif_frame *frame, cmif_frame_kind kind, cmif_err *err)
{
    cmif_code rc = cmif_talk_receive(talk, frame, err);
    return rc == CMIF_OK && frame->kind != kind ? cmif_fail(err, CMIF_E_FORMAT, "it sent %s, expected %s",
                                                            cmif_frame_name(frame->kind), cmif_frame_name(kind))
                                                : rc;
}

cmif_code cmif_key_fetch(const cmif_key_ask *ask, cmif_secret *key, cmif_err *err)
{
    cmif_talk     talk    = {0};
    cmif_channel *channel = NULL;
    cmif_frame    frame   = {.kind = CMIF_FRAME_UNSEAL};
    uint8_t       id[CMIF_SEAL_ID_SIZE];
    cmif_code     rc = cmif_channel_open(&ask->peer, &channel, err);

    memcpy(frame.unseal.id, ask->key_id, sizeof frame.unseal.id);
    rc = rc ? rc : cmif_talk_init(&talk, channel, /* server= */ false, ANSWER_MAX, SECONDS, err);
    rc = rc ? rc : cmif_talk_send(&talk, &frame, err);
    rc = rc ? rc : receive(&talk, &frame, CMIF_FRAME_CHALLENGE, err);
    if (rc == CMIF_OK) {
        uint8_t nonce[CMIF_WIRE_NONCE_SIZE];
        memcpy(nonce, frame.challenge.nonce, sizeof nonce);
        rc = show(&talk, ask, nonce, err);
    }
    rc = rc ? rc : receive(&talk, &frame, CMIF_FRAME_KEY, err);
    if (rc == CMIF_OK) {
        cmif_seal_key_id(frame.key.key, id);
        if (memcmp(id, ask->key_id, sizeof id) != 0) {
            rc = cmif_fail(err, CMIF_E_TRUST, "it gave a key of another id than was asked for");
        }
    }
    rc = rc ? rc : cmif_secret_append(key, frame.key.key, CMIF_SEAL_KEY_SIZE, err);
    cmif_wipe(&frame, sizeof frame);
    cmif_talk_wipe(&talk);
    if (rc != CMIF_OK && channel) { /* else it says the address itself */
        cmif_err_context(err, "%s:%s", ask->peer.host, ask->peer.port);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "key server");
    }
    cmif_channel_free(channel);
    return rc;
}
