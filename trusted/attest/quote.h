/* quote - SGX and TDX quotes, versions 3, 4 and 5: where everything is, with exact bounds.
 *
 * Sees    evidence of others.
 * Source  Intel SGX and TDX DCAP quote formats; layouts in docs/attestation.md. */
#ifndef CMIF_ATTEST_QUOTE_H
#define CMIF_ATTEST_QUOTE_H

#include "side.h"

#include "attest/attest.h"

typedef struct cmif_quote { /* pointers into the bytes that were read */
    cmif_tee       tee;
    unsigned       version, body_type; /* body_type 0: the version has none */
    const uint8_t *body;               /* SGX report 384, TD report 584 (1.0) or 648 (1.5) */
    size_t         body_size;
    const uint8_t *signed_bytes;
    size_t         signed_size;
    const uint8_t *signature, *key;              /* 64 each: r || s, x || y */
    const uint8_t *qe_report, *qe_signature;     /* 384, 64 */
    const uint8_t *auth;
    size_t         auth_size;
    unsigned       certification_type;
    const uint8_t *certification;
    size_t         certification_size;
    size_t         total, used; /* bytes: given, and up to the end of the signature data */
    bool           trailing_zero;
} cmif_quote;

enum { CMIF_QUOTE_PCK_CHAIN = 5 };

/* Errors: FORMAT; UNSUPPORTED for a version, TEE, key type, vendor or body type that is well formed and not ours. Other certification types than 5
 * are read and left to the caller. Untouched on failure. */
CMIF_MUST_USE cmif_code cmif_quote_parse(const uint8_t *data, size_t size, cmif_quote *out, cmif_err *err);

/* Everything it decodes to, as fields of the verdict: "version", "mrtd", "report_data", ... */
void cmif_quote_fields(const cmif_quote *quote, cmif_verdict *verdict);

const uint8_t *cmif_quote_report_data(const cmif_quote *quote); /* 64 */

/* Offsets in reports. */
enum {
    CMIF_SGX_MISCSELECT = 16, CMIF_SGX_ATTRIBUTES = 48, CMIF_SGX_MRSIGNER = 128, CMIF_SGX_ISVPRODID = 256, CMIF_SGX_ISVSVN = 258, CMIF_SGX_REPORT_DATA = 320,
    CMIF_SGX_REPORT_SIZE = 384,
    CMIF_TD_TCB_SVN = 0, CMIF_TD_MRSIGNERSEAM = 64, CMIF_TD_SEAMATTRIBUTES = 112, CMIF_TD_ATTRIBUTES = 120, CMIF_TD_REPORT_DATA = 520,
    CMIF_TD_REPORT_SIZE = 584, CMIF_TD_TCB_SVN2 = 584, CMIF_TD_MRSERVICETD = 600, CMIF_TD_REPORT15_SIZE = 648
};

#endif
