/* attest - what a piece of evidence proves: one verifier for Intel SGX and TDX, AMD SEV-SNP and TPM 2.0, offline.
 *
 * Evidence, collateral, time and policy in, verdict out: no clock, no file, no network, no state. Every byte that comes in is hostile. Every
 * reason that applies is listed, not the first one only. What was not checked is listed too, and refused unless the policy names it.
 *
 * Sees    evidence of others.
 * Source  Intel DCAP quote 3, 4, 5 and PCS v4 collateral; AMD 56860 (SEV-SNP ABI) and 57230 (VCEK); TCG TPM 2.0 Parts 1 to 3, PC Client; docs/attestation.md. */
#ifndef CMIF_ATTEST_ATTEST_H
#define CMIF_ATTEST_ATTEST_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_tee { CMIF_TEE_NONE = 0, CMIF_TEE_SGX, CMIF_TEE_TDX, CMIF_TEE_SNP, CMIF_TEE_TPM, CMIF_TEE_SIM, CMIF_TEE_COUNT } cmif_tee;

typedef enum cmif_outcome { /* also exit codes */
    CMIF_ACCEPTED = 0, CMIF_ATTEST_INTERNAL = 1, CMIF_REJECTED = 10, CMIF_UNSUPPORTED = 20, CMIF_MALFORMED = 30
} cmif_outcome;

/* ---- what goes in ---- */
typedef enum cmif_item_kind {
    CMIF_ITEM_QUOTE = 1,     /* SGX or TDX quote v3, v4, v5 (also configfs-tsm outblob) */
    CMIF_ITEM_SNP_REPORT,    /* 1184 bytes (also configfs-tsm outblob) */
    CMIF_ITEM_SNP_TABLE,     /* GHCB certificate table (auxblob): hints only */
    CMIF_ITEM_RATLS,         /* certificate with evidence inside, DER or PEM */
    CMIF_ITEM_TPM_ATTEST,    /* TPMS_ATTEST */
    CMIF_ITEM_TPM_SIGNATURE, /* TPMT_SIGNATURE, or raw RSA bytes */
    CMIF_ITEM_TPM_PCRS,      /* pcr.h has the forms */
    CMIF_ITEM_TPM_AK,        /* TPM2B_PUBLIC or TPMT_PUBLIC, or a PEM key whose attributes are not known */
    CMIF_ITEM_HCL,           /* Azure: hardware report that hashes the AK */
    CMIF_ITEM_EVENT_LOG,     /* TCG2 crypto-agile log, or CCEL of a TD */
    CMIF_ITEM_SIM,           /* simulator: only where compiled in, and only if the policy names it */
    CMIF_ITEM_TCB_INFO, CMIF_ITEM_QE_IDENTITY, /* Intel PCS, the JSON as it came */
    CMIF_ITEM_CERTIFICATES,  /* any number, PEM, or DER one after the other; zero padding after DER is welcome. Paths are built from all of them */
    CMIF_ITEM_CRL,           /* PEM or DER */
    CMIF_ITEM_TPM_KEY        /* TPMT_PUBLIC or TPM2B_PUBLIC of a key that a TPM2_Certify among the TPM_ATTEST speaks of */
} cmif_item_kind;

typedef struct cmif_item { /* borrowed */
    cmif_item_kind kind;
    const uint8_t *data;
    size_t         size;
} cmif_item;

enum { CMIF_ITEMS_MAX = 256, CMIF_ITEM_SIZE_MAX = 1 << 20, CMIF_EVENT_LOG_SIZE_MAX = 16 << 20 };

/* ---- what is asked for (policy.c reads it from a file) ---- */
typedef struct cmif_measured { /* one register that must have one of the values listed for its name */
    cmif_tee tee;
    char     name[16];        /* mrenclave mrsigner mrtd rtmr0..3 mrseam mrconfigid mrowner measurement host_data id_key_digest pcr0..pcr23 */
    uint8_t  value[64];
    size_t   size;
} cmif_measured;

typedef struct cmif_seen_crl { /* the newest CRL of an issuer */
    uint8_t issuer[32];        /* SHA-256 of its public key */
    int64_t update;            /* thisUpdate; Intel's CRL number is 1 for ever */
} cmif_seen_crl;

typedef struct cmif_attest_policy {
    uint32_t             tees;             /* bits 1 << cmif_tee that are accepted; 0: an error */
    const cmif_measured *measured;         /* values of one tee and name are alternatives; different names must all hold. None at all for an */
    size_t               measured_count;   /* accepted tee is an error ("no-measurement-policy"), unless any_measurement says it aloud */
    uint32_t             statuses;         /* bits 1 << cmif_tcb_status; REVOKED is never accepted. Default UP_TO_DATE only */
    int64_t              minimum_tcb_date; /* seconds; INT64_MIN: none */
    uint32_t             minimum_tcb_evaluation;
    const char *const   *denied_advisories; /* "INTEL-SA-00615", NULL ends; NULL: none */
    uint64_t             td_required, td_forbidden;   /* TDATTRIBUTES bits; the default requires 28 and forbids 29. Bits 7:0 are always forbidden */
    uint64_t             snp_required, snp_forbidden; /* POLICY bits; the default forbids 18, MIGRATE_MA. DEBUG is always forbidden unless `debug` */
    uint8_t              snp_minimum_tcb[8];          /* per component as in COMMITTED_TCB; zeros: none */
    uint32_t             snp_vmpl_max;
    uint64_t             snp_platform_required;       /* PLATFORM_INFO bits, 1 << 5: ALIAS_CHECK_COMPLETE; zero: none */
    uint64_t             snp_mit_required;            /* CURRENT_MIT_VECTOR bits (report v5; older ones have none); zero: none */
    int64_t              sgx_isvprodid;               /* a signer signs more than one product: name which; -1: any */
    uint32_t             sgx_minimum_isvsvn;
    const uint8_t       *report_data;      /* [report_data_size] expected REPORTDATA, or extraData of a TPM; NULL: not compared, and listed as not checked */
    size_t               report_data_size; /* <= 64; a shorter one must be followed by zeros (TPM: exact) */
    uint32_t             pcr_mask;         /* PCRs that the quote must select, exactly; 0: those that `measured` names */
    /* roots: NULL is the pinned ones; tests and closed fleets bring their own. PEM or DER, each of one certificate */
    const cmif_item     *roots;
    const cmif_tee      *root_tees;        /* [root_count] the technology that each is for: others keep the pinned ones; NULL: each is for all, and nothing is pinned */
    size_t               root_count;
    int64_t              tolerance;        /* seconds of clock difference allowed, <= 86400 */
    struct cmif_loosened {                 /* each shows in every verdict */
        bool debug, no_crl, no_report_data, any_measurement, ak_pinned, servtd, simulator;
    } loosened;
    const uint8_t       *ak_pins;          /* [ak_pin_count][32] SHA-256 of the AK's SubjectPublicKeyInfo; needs loosened.ak_pinned or another proof of the AK */
    size_t               ak_pin_count;
    const uint8_t       *ak_activated;     /* [ak_activated_count][34] Names (SHA-256) of AKs that the caller has proved by credential activation (tpm.h) */
    size_t               ak_activated_count;
    /* collateral rollback: highest seen so far; 0: none */
    uint32_t             seen_tcb_evaluation, seen_qe_evaluation;
    int64_t              seen_tcb_issue, seen_qe_issue;
    const cmif_seen_crl *seen_crls;        /* [seen_crl_count] */
    size_t               seen_crl_count;
} cmif_attest_policy;

/* The strict default: nothing is accepted until tees and measured are filled in. */
void cmif_attest_policy_init(cmif_attest_policy *policy);

typedef enum cmif_tcb_status {
    CMIF_TCB_NONE = 0, CMIF_TCB_UP_TO_DATE, CMIF_TCB_SW_HARDENING, CMIF_TCB_CONFIGURATION, CMIF_TCB_CONFIGURATION_AND_SW, CMIF_TCB_OUT_OF_DATE,
    CMIF_TCB_OUT_OF_DATE_CONFIGURATION, CMIF_TCB_RELAUNCH, CMIF_TCB_RELAUNCH_CONFIGURATION, CMIF_TCB_NOT_SUPPORTED, CMIF_TCB_REVOKED, CMIF_TCB_STATUSES
} cmif_tcb_status;
const char *cmif_tcb_status_name(cmif_tcb_status status); /* as Intel writes it: "SWHardeningNeeded" */

/* ---- what comes out ---- */
enum { CMIF_LOOSENED_MAX = 24, CMIF_LOOSENED_SIZE = 48, CMIF_CRLS_USED_MAX = 16 };
enum { CMIF_REASONS_MAX = 48, CMIF_REASON_SIZE = 64, CMIF_FIELDS_MAX = 96, CMIF_FIELD_SIZE = 160, CMIF_ADVISORIES_MAX = 64 };

typedef struct cmif_attest_field { char name[32], value[CMIF_FIELD_SIZE]; } cmif_attest_field; /* hex in lower case, or decimal */

typedef struct cmif_verdict {
    cmif_outcome      outcome;
    cmif_tee          tee;             /* what the evidence is, also when rejected */
    size_t            reason_count, error_count, unchecked_count, loosened_count, advisory_count, field_count;
    /* stable words: "debug", "tcb-OutOfDate", "no-collateral", "invalid-evidence", "measurement-mrtd", "pck-revoked", ...; docs/attestation.md lists all */
    char              reasons[CMIF_REASONS_MAX][CMIF_REASON_SIZE];
    char              errors[CMIF_REASONS_MAX][CMIF_REASON_SIZE]; /* what of it, for the reasons "invalid-evidence" and "invalid-collateral": "quote-signature" */
    char              unchecked[CMIF_REASONS_MAX][CMIF_REASON_SIZE]; /* "revocation-pck", "report-data", "ak-attributes": each is also a reason unless loosened */
    char              loosened[CMIF_LOOSENED_MAX][CMIF_LOOSENED_SIZE]; /* words of the policy file */
    char              advisories[CMIF_ADVISORIES_MAX][32];
    cmif_tcb_status   tcb_status, platform_status, module_status, qe_status;
    int64_t           tcb_date, time;  /* seconds since 1970; tcb_date 0: none */
    uint32_t          tcb_evaluation, qe_evaluation;
    int64_t           tcb_issue, qe_issue, crl_this_update; /* of the collateral that was used, for rollback protection; 0: none */
    cmif_seen_crl     crls[CMIF_CRLS_USED_MAX];
    size_t            crl_count;
    bool              debug;
    cmif_attest_field fields[CMIF_FIELDS_MAX]; /* all that the evidence decodes to, by the names of docs/attestation.md */
    cmif_err          sentence;        /* REJECTED, UNSUPPORTED, MALFORMED: the first thing to know: expected, found, where */
} cmif_verdict;

/* Verify. time: seconds since 1970. Never fails: what cannot be read is MALFORMED, what is not known UNSUPPORTED, no memory INTERNAL. */
void cmif_attest(const cmif_item *items, size_t count, const cmif_attest_policy *policy, int64_t time, cmif_verdict *verdict);

/* The value of a decoded field, or NULL. */
const char *cmif_verdict_field(const cmif_verdict *verdict, const char *name);

#endif
