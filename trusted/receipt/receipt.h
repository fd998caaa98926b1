/* receipt - what a request revealed, signed: one JSON line each, chained by hashes. Never a word.
 *
 * A chain is a folder: `receipts.jsonl`, `receipts.jsonl.head` (signed: how many there are, and the hash of the newest, so that a chain cut at
 * its end is seen) and `key` (private; mode 0600). A line is {"receipt":{...},"signature":"HEX"}; the signature is over the inner object, which
 * names the key of the signer, its own number and the hash of the line before it. line.h has the fields.
 *
 * Sees    counts, hashes.
 * Source  RFC 8032 (Ed25519, OpenSSL); RFC 8785 in spirit: keys sorted, no white space, integers only, so that bytes are canonical. */
#ifndef CMIF_RECEIPT_RECEIPT_H
#define CMIF_RECEIPT_RECEIPT_H

#include "side.h"

#include "base/err.h"
#include "ledger/ledger.h"

#include <stdbool.h>

#define CMIF_RECEIPT_CLASSES 32

typedef struct cmif_receipt { /* texts: at most 64 printable ASCII bytes but " and \ */
    uint64_t    ledger_id;
    int64_t     when;
    cmif_spend  spend;
    uint8_t     model_id[32], released_hash[32], answer_hash[32]; /* answers: HMAC with a key that stays here would hide more; see docs */
    uint64_t    by_class[CMIF_RECEIPT_CLASSES][4];       /* class and cmif_action; zeros are left out */
    const char *class_names[CMIF_RECEIPT_CLASSES];       /* NULL ends; each name once */
    const char *mechanism, *adjacency; /* of the table; NULL: none */
    const char *peer;                  /* verdict on the peer's evidence; NULL: not checked */
} cmif_receipt;

typedef struct cmif_receipts cmif_receipts; /* of one thread; any number may be open on one folder */

/* Open the chain in folder (made if need be): its key (made once, mode 0600) and its newest receipt. A last line that was not written to its
 * end, when a program was killed, is cut off.
 * Errors: IO, FORMAT, TRUST (a broken chain: run `cmif audit`), MEMORY. */
CMIF_MUST_USE cmif_code cmif_receipts_open(const char *folder, cmif_receipts **out, cmif_err *err);
void                    cmif_receipts_free(cmif_receipts *receipts);
/* Append a receipt, on disk when this returns (but see gather). *number is its place in the chain, from 1. Two programs at once are fine.
 * Errors: as open; RANGE (a text or a number that a receipt cannot hold). */
CMIF_MUST_USE cmif_code cmif_receipts_put(cmif_receipts *receipts, const cmif_receipt *receipt, uint64_t *number, cmif_err *err);

/* From here on a put writes its receipt only, which a kill does not take away, and a settle brings all to disk with one wait: losing power takes those
 * since the last one. cmif_receipts_free settles. Errors: as put; then the next settle tries again. */
void                    cmif_receipts_gather(cmif_receipts *receipts);
CMIF_MUST_USE cmif_code cmif_receipts_settle(cmif_receipts *receipts, cmif_err *err);

typedef struct cmif_audit {
    uint64_t receipts, draws, epsilon_micro, surrogates, passed; /* recomputed from the receipts */
    int64_t  first, last;       /* seconds since 1970 */
    uint8_t  key[32], head[32]; /* who signed; hash of the newest */
    bool     complete;          /* a head file, or the head that was given, vouches for the end */
} cmif_audit;

/* Check signatures, chain, order and sums of a file or folder, offline; nothing is changed. In a folder with a private key, receipts must be of
 * that key. head, when not NULL, is the newest hash that the auditor knows from elsewhere: it must be in the chain. Without it a chain whose
 * end was cut together with an older head file put back cannot be told from a shorter one.
 * Errors: TRUST (which receipt, what is wrong), FORMAT (a line that is no receipt), IO, RANGE (no receipt at all), MEMORY. */
CMIF_MUST_USE cmif_code cmif_receipts_audit(const char *path, const uint8_t *head, cmif_audit *out, cmif_err *err);

#endif
