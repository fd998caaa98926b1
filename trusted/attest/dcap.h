/* dcap - what Intel says inside a PCK certificate, and who has signed what it says of platforms.
 *
 * Sees    certificates of others.
 * Source  Intel SGX PCK Certificate and CRL Specification, 1.5: extension 1.2.840.113741.1.13.1. */
#ifndef CMIF_ATTEST_DCAP_H
#define CMIF_ATTEST_DCAP_H

#include "side.h"

#include "attest/tcb.h"
#include "attest/x509.h"
#include "base/bytes.h"

/* The extension's content, walked by OID in any order. false: not DER, a part missing, twice or of another size. */
CMIF_MUST_USE bool cmif_pck_read(cmif_reader extension, cmif_pck *out);

#define CMIF_TCB_SIGNER_NAME "Intel SGX TCB Signing"
/* A signed document of Intel's: {"<name>": {...}, "signature": "<r || s>"}, and no third member. The node of the value, or CMIF_JSON_NONE. */
CMIF_MUST_USE uint32_t cmif_document_read(const cmif_json *json, const char *name, uint8_t signature[static 64]);
/* The certificate whose key has signed the value, and its path with revocation: of several one that is good. NULL: none. *memory is cleared when there was not enough. */
X509 *cmif_document_signer(cmif_pool *pool, const cmif_path_rules *rules, const uint8_t *value, size_t size, const uint8_t signature[static 64],
                           cmif_path *path, bool *memory);

extern const uint8_t cmif_oid_sgx_extension[9]; /* in a certificate made by the Intel SGX SDK for TLS, the same OID holds a quote */

#endif
