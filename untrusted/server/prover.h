/* prover - makes proofs, one at a time, on a thread of its own: a device may take seconds, and the event loop waits for
 * nobody. Inside of server.
 *
 * Sees    nonces, hashes of keys, evidence: public, all of them.
 * Source  docs/wire.md 12, docs/attestation.md. */
#ifndef CMIF_SERVER_PROVER_H
#define CMIF_SERVER_PROVER_H

#include "evidence/evidence.h"

#include <event2/event.h>
#include <stdbool.h>

#define CMIF_PROVER_QUEUE  64   /* that wait for the one at work */
#define CMIF_PROVER_END_MS 5000 /* for the one at work when the server ends: a device is better not left in the middle */

typedef struct cmif_prover cmif_prover;

typedef struct cmif_prover_task { /* who asked, and what the evidence must say: cmif_binding of role 's' */
    uint64_t    number;           /* of the connection, which may be gone when the answer comes */
    uint8_t     nonce[32], exporter[32], own_key[32], other_key[32];
    cmif_claims claims;
} cmif_prover_task;

/* On the event loop: the proof, borrowed for the call, or NULL and why there is none. */
typedef void cmif_prover_answer(void *context, uint64_t number, const uint8_t *proof, size_t size, const cmif_err *why);

/* Opens the maker, so that a wrong device is told at once, and starts the thread.
 *   maker  its strings are borrowed for life
 * Errors: as cmif_maker_open. */
CMIF_MUST_USE cmif_code cmif_prover_new(struct event_base *base, const cmif_maker_options *maker, cmif_prover_answer *answer,
                                        void *context, cmif_prover **out, cmif_err *err);
void                    cmif_prover_free(cmif_prover *prover); /* NULL is welcome; no answer comes any more */

/* false: too many wait. */
bool cmif_prover_ask(cmif_prover *prover, const cmif_prover_task *task);
/* Nobody waits for this one any more; what is at work goes on, and its answer comes. */
void cmif_prover_drop(cmif_prover *prover, uint64_t number);

#endif
