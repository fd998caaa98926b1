/* tcb - is a platform up to date: a quote's and a PCK certificate's security versions against Intel's signed TCB info and QE identity.
 *
 * Called only with JSON whose signature holds. What is not as Intel writes it makes the verdict MALFORMED, never a milder status.
 *
 * Sees    evidence and collateral of others.
 * Source  Intel PCS API v3, v4 (TCB info 2 and 3, enclave identity 2); the order of checks is that of docs/attestation.md. */
#ifndef CMIF_ATTEST_TCB_H
#define CMIF_ATTEST_TCB_H

#include "side.h"

#include "attest/json.h"
#include "attest/part.h"
#include "attest/quote.h"

typedef struct cmif_pck { /* of the PCK certificate's SGX extension */
    uint8_t  components[16], cpusvn[16], fmspc[6], pceid[2];
    uint16_t pcesvn;
} cmif_pck;

/* What was believed before, and what is found here. */
typedef struct cmif_tcb_age {
    int64_t  issue;
    uint32_t evaluation;
} cmif_tcb_age;

/* Issue date, next update and evaluation number against the call; what they are goes to *found. `what` is "tcb-info" or "qe-identity". false: a
 * field is missing or malformed, and the verdict says so. */
CMIF_MUST_USE bool cmif_tcb_dates(cmif_attest_call *call, const cmif_json *json, uint32_t node, const char *what, cmif_tcb_age seen,
                                  cmif_tcb_age *found);

/* verdict->qe_status, advisories and the reasons "qe-..." from an enclaveIdentity. */
void cmif_tcb_qe(cmif_attest_call *call, const cmif_json *json, uint32_t identity, const cmif_quote *quote);

/* verdict->platform_status, module_status, tcb_date, advisories from a tcbInfo; then tcb_status, converged with the module and the QE. */
void cmif_tcb_platform(cmif_attest_call *call, const cmif_json *json, uint32_t info, const cmif_quote *quote, const cmif_pck *pck);

#endif
