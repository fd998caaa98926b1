/* ratls - a TLS certificate that carries its own evidence: the quote inside it, and that the quote names the certificate's key.
 *
 * Such evidence is as old as the certificate: no nonce of ours is in it unless its claims have one. That is listed as unchecked ("freshness").
 * The certificate's dates are its maker's word and are not looked at; its key is shown as "spki_sha256", for TLS to compare with the peer's.
 *
 * Sees    certificates of others.
 * Source  CCC-Attestation interoperable RA-TLS; TCG DICE Attestation Architecture (2.23.133.5.4.9); RFC 8949; Gramine ra-tls. */
#ifndef CMIF_ATTEST_RATLS_H
#define CMIF_ATTEST_RATLS_H

#include "side.h"

#include "attest/part.h"
#include "base/bytes.h"

typedef struct cmif_cbor_head { /* RFC 8949, shortest form and definite lengths only */
    unsigned major;
    uint64_t value;
} cmif_cbor_head;

CMIF_MUST_USE bool cmif_cbor_next(cmif_reader *r, cmif_cbor_head *head);
CMIF_MUST_USE bool cmif_cbor_bytes(cmif_reader *r, unsigned major, cmif_reader *out); /* 2: bytes, 3: text */

/* {"pubkey-hash": bytes of [algorithm, hash], "nonce": bytes, ...}: each claim once, at most 16, others are not looked at. */
typedef struct cmif_ratls_claims {
    cmif_reader pubkey_hash, nonce; /* nonce.data NULL: there is none */
    uint64_t    algorithm;          /* 1, 7, 8: SHA-256, 384, 512 */
} cmif_ratls_claims;

CMIF_MUST_USE bool cmif_ratls_claims_read(cmif_reader r, cmif_ratls_claims *out);

/* certificate: PEM or DER, one. quote: an item beside it must hold the same bytes as the certificate does; NULL: there is none. */
void cmif_ratls_check(cmif_attest_call *call, const cmif_item *certificate, const cmif_item *quote);

#endif
