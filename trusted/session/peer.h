/* peer - is the other end of this connection a program that the policy accepts? Evidence, judged before anything else is said.
 *
 * A proof is good for one connection, one nonce and one role: its report data is the binding hash, which the policy is told to expect. It must be made after
 * the nonce was drawn, by the holder of the key that this very TLS connection was made with.
 *
 * Sees    evidence of others.
 * Source  docs/attestation.md, docs/wire.md. */
#ifndef CMIF_SESSION_PEER_H
#define CMIF_SESSION_PEER_H

#include "side.h"

#include "attest/policy.h"
#include "evidence/evidence.h"

typedef struct cmif_peer_rule { /* borrowed */
    const cmif_attest_policy_file *policy; /* one that brings report data of its own is refused: RANGE */
    const char                    *store;  /* collateral store; NULL: none, and the verdict says so */
    uint32_t                       minutes;/* a verdict is good for so long between two requests; 0: for one request */
    int64_t                        time;   /* as of when to judge, for tests with captures; INT64_MIN: now */
} cmif_peer_rule;

typedef struct cmif_peer_verdict {
    bool         judged;
    cmif_verdict verdict;
    cmif_claims  claims;
} cmif_peer_verdict;

typedef struct cmif_peer_binding { /* what the verifier knows of the connection by itself */
    uint8_t role; /* of who shows the evidence: 's' or 'c' */
    uint8_t nonce[32], exporter[32], shown_key[32], own_key[32]; /* keys: of who shows it; of the verifier */
} cmif_peer_binding;

/* Is the proof [size] good for this connection? *out is filled whatever the answer is, as far as it could be read.
 * Errors: TRUST (refused: the first reason as a sentence), FORMAT (cannot be read), IO and FORMAT of the store, RANGE (the policy), MEMORY. Anything but OK: send nothing. */
CMIF_MUST_USE cmif_code cmif_peer_judge(const cmif_peer_rule *rule, const cmif_peer_binding *binding, const void *proof, size_t size, cmif_peer_verdict *out,
                                        cmif_err *err);

#endif
