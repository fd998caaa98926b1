/* part - what the parts of the verifier share: one call of cmif_attest, and the words that go into its verdict.
 *
 * A part looks at all it can and lists every reason; it never stops at the first. A verdict starts as REJECTED and becomes ACCEPTED only in
 * attest.c, when the part said that it is done (`proved`) and there is no reason. */
#ifndef CMIF_ATTEST_PART_H
#define CMIF_ATTEST_PART_H

#include "side.h"

#include "attest/attest.h"

struct cmif_pool;

typedef struct cmif_attest_call {
    const cmif_item          *items;
    size_t                    count;
    const cmif_attest_policy *policy;
    int64_t                   time;
    cmif_verdict             *verdict;
    struct cmif_pool         *pool;   /* every certificate and CRL of the items, and the roots; parts add what the evidence carries */
    bool                      proved; /* the part went through to its end: no reason left means accepted */
} cmif_attest_call;

/* The parts. Each finds its own items, fills in verdict->tee and the fields, lists reasons and sets `proved` at its end. */
void cmif_dcap_check(cmif_attest_call *call); /* QUOTE or RATLS */
void cmif_snp_check(cmif_attest_call *call);  /* SNP_REPORT, SNP_TABLE */
void cmif_tpm_check(cmif_attest_call *call);  /* TPM_*, HCL; a QUOTE or SNP_REPORT beside it is proof of the AK */
void cmif_sim_check(cmif_attest_call *call);  /* SIM */
void cmif_event_log_check(cmif_attest_call *call); /* EVENT_LOG, after the part above it: the log must replay to its decoded registers */

/* A SGX or TDX quote, by whatever carried it: everything but what the policy says of technology, measurements and REPORTDATA. Sets verdict->tee,
 * fields, statuses, reasons. REPORTDATA is written to report_data for the caller to compare; false: it could not be read that far. */
bool cmif_dcap_check_quote(cmif_attest_call *call, const uint8_t *quote, size_t size, uint8_t report_data[static 64]);

/* The item of a kind; NULL: there is none, or more than one, and then the verdict is MALFORMED. */
const cmif_item *cmif_call_one(cmif_attest_call *call, cmif_item_kind kind);

/* What the policy says of any technology, by the decoded fields: is it accepted, do the measured registers hold one of the values. */
void cmif_call_measured(cmif_attest_call *call, cmif_tee tee);
/* REPORTDATA against the policy: equal, zeros after a shorter one. */
void cmif_call_report_data(cmif_attest_call *call, const uint8_t report_data[static 64]);

void cmif_verdict_reason(cmif_verdict *verdict, const char *reason);                 /* once each */
void cmif_verdict_reasonf(cmif_verdict *verdict, const char *format, ...) CMIF_PRINTF(2, 3);
void cmif_verdict_invalid(cmif_verdict *verdict, const char *error);                 /* reason "invalid-evidence", and what of it */
void cmif_verdict_invalid_collateral(cmif_verdict *verdict, const char *error);      /* reason "invalid-collateral", and what of it */
void cmif_verdict_unchecked(cmif_verdict *verdict, const char *what, bool loosened); /* listed; a reason unless loosened */
void cmif_verdict_advisory(cmif_verdict *verdict, const char *text, size_t size);    /* once each */
void cmif_verdict_hex(cmif_verdict *verdict, const char *name, const uint8_t *bytes, size_t size);
void cmif_verdict_crl(cmif_verdict *verdict, const cmif_seen_crl *used);              /* of two of one issuer the newer */
void cmif_verdict_number(cmif_verdict *verdict, const char *name, uint64_t number);
void cmif_verdict_text(cmif_verdict *verdict, const char *name, const char *format, ...) CMIF_PRINTF(3, 4);

/* The outcome is at least this bad (INTERNAL before MALFORMED before UNSUPPORTED before REJECTED), and the first sentence of the worst stays.
 * Evidence that cannot be read is MALFORMED with reason "invalid-evidence", collateral with "invalid-collateral": list these too. */
#define cmif_verdict_worse(verdict, outcome, code, ...) \
    cmif_verdict_outcome((verdict), (outcome), (code), CMIF_WHERE(__FILE__, __LINE__), __VA_ARGS__)
void cmif_verdict_outcome(cmif_verdict *verdict, cmif_outcome outcome, cmif_code code, const char *where, const char *format, ...)
    CMIF_PRINTF(5, 6);

#endif
