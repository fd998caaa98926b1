/* dcap - what Intel says inside a PCK certificate.
 *
 * Sees    certificates of others.
 * Source  Intel SGX PCK Certificate and CRL Specification, 1.5: extension 1.2.840.113741.1.13.1. */
#ifndef CMIF_ATTEST_DCAP_H
#define CMIF_ATTEST_DCAP_H

#include "side.h"

#include "attest/tcb.h"
#include "base/bytes.h"

/* The extension's content, walked by OID in any order. false: not DER, a part missing, twice or of another size. */
CMIF_MUST_USE bool cmif_pck_read(cmif_reader extension, cmif_pck *out);

extern const uint8_t cmif_oid_sgx_extension[9]; /* in a certificate made by the Intel SGX SDK for TLS, the same OID holds a quote */

#endif
