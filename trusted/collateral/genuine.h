/* genuine - is a piece of collateral its maker's? By signatures, with the certificates that are here, up to a pinned root; whatever its dates, since old is as
 * genuine as new. What nobody here has issued is not known, and no more than that.
 *
 * Sees    public data of TEE makers, or of whoever says to be one. */
#ifndef CMIF_COLLATERAL_GENUINE_H
#define CMIF_COLLATERAL_GENUINE_H

#include "side.h"

#include "attest/x509.h"

typedef enum cmif_genuine {
    CMIF_GENUINE_UNKNOWN, /* who should have signed it is not here */
    CMIF_GENUINE_YES,
    CMIF_GENUINE_NO       /* who should have signed it is here, and has not */
} cmif_genuine;

/* A pool with the roots of the policy (NULL: the pinned ones) and AMD's built-in issuers, and of the pieces those that are genuine and issue others: CAs and TCB
 * signing certificates, in any order. With all CRLs: who is on one of its issuer's issues nothing. What cannot be read, or finds no room, is left out. Errors: MEMORY,
 * FORMAT (a root). */
CMIF_MUST_USE cmif_code cmif_genuine_pool(cmif_pool *pool, const cmif_attest_policy *policy, cmif_err *err);
bool                    cmif_genuine_add(cmif_pool *pool, const cmif_item *item); /* is there news? Then what it issued may be added as well: go round again */

/* issuer: of a CRL that is genuine, SHA-256 of the key that signed it, as in cmif_seen_crl. */
cmif_genuine cmif_genuine_check(cmif_pool *pool, const cmif_item *item, uint8_t issuer[static 32]);

#endif
