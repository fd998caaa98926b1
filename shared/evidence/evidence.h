/* evidence - a bundle of what proves a program: items with a kind each, as they travel and as they are kept in one file.
 *
 * Layout  "CMIFEV01", u32 count, then per item: u8 kind, u8 0, u16 0, u32 size, bytes. Little-endian. Kinds have the numbers of cmif_item_kind
 *         (trusted/attest/attest.h); a reader takes those it knows and refuses others.
 *
 * Sees    public bytes: evidence is shown to whoever asks. */
#ifndef CMIF_EVIDENCE_EVIDENCE_H
#define CMIF_EVIDENCE_EVIDENCE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { CMIF_EVIDENCE_ITEMS_MAX = 64, CMIF_EVIDENCE_SIZE_MAX = 1 << 20, CMIF_REPORT_DATA_SIZE = 64 };

enum { /* the kinds that are made here */
    CMIF_EVIDENCE_QUOTE = 1, CMIF_EVIDENCE_SNP_REPORT = 2, CMIF_EVIDENCE_SNP_TABLE = 3, CMIF_EVIDENCE_TPM_ATTEST = 5, CMIF_EVIDENCE_TPM_SIGNATURE = 6,
    CMIF_EVIDENCE_TPM_PCRS = 7, CMIF_EVIDENCE_TPM_AK = 8, CMIF_EVIDENCE_SIM = 11, CMIF_EVIDENCE_CERTIFICATES = 14, CMIF_EVIDENCE_KIND_MAX = 16
};

typedef struct cmif_evidence_item { uint8_t kind; const uint8_t *data; size_t size; } cmif_evidence_item;

typedef struct cmif_evidence { /* {0} is empty */
    uint8_t *bytes;            /* the whole bundle; the caller's (cmif_evidence_free) */
    size_t   size, capacity;
    uint32_t count;
} cmif_evidence;

/* Append an item, copied. Errors: RANGE (empty, no such kind, too many, too large), MEMORY. */
CMIF_MUST_USE cmif_code cmif_evidence_put(cmif_evidence *evidence, uint8_t kind, const void *data, size_t size, cmif_err *err);
void                    cmif_evidence_free(cmif_evidence *evidence); /* {0} again */
/* The items of a bundle, pointing into bytes. *count: room in, items out. Errors: FORMAT (offset, expected, found); then *count is as it was. */
CMIF_MUST_USE cmif_code cmif_evidence_read(const void *bytes, size_t size, cmif_evidence_item *items, size_t *count, cmif_err *err);

/* What evidence must say so that it is good for this connection only, and for this side of it: SHA-512 over length-prefixed fields
 * (u32 length in little-endian, bytes): "CMIF-attest-v1", role, nonce of the other side, TLS exporter, own and other's SHA-256 of SubjectPublicKeyInfo (32 zeros where there is no
 * certificate), SHA-256 of the claims.
 * Source  docs/attestation.md, docs/wire.md. */
typedef struct cmif_binding {
    uint8_t        role;              /* 'c' or 's': who shows the evidence */
    const uint8_t *nonce;             /* [32] that the other side drew for it */
    const uint8_t *exporter;          /* [32] label "EXPORTER-CMIF-attest-v1", no context */
    const uint8_t *own_key, *other_key; /* [32]; NULL: 32 zeros */
    const void    *claims;
    size_t         claims_size;
} cmif_binding;
/* Errors: RANGE (a role, nonce or exporter that is none), MEMORY. */
CMIF_MUST_USE cmif_code cmif_binding_hash(const cmif_binding *binding, uint8_t out[static CMIF_REPORT_DATA_SIZE], cmif_err *err);

/* ---- a proof: what EVIDENCE frames carry, in pieces. u32 size of the claims, claims, bundle. ---- */
typedef struct cmif_claims { /* what a program says of itself, bound by the hash of these bytes: "CMIFCL01", u8 size, program, [32] model id, [32] policy hash */
    char    program[64];     /* "cmif-server 0.1.0", printable ASCII */
    uint8_t model_id[32];    /* zeros: none */
    uint8_t policy_hash[32]; /* of the policy by which it judges others; zeros: none */
} cmif_claims;

typedef struct cmif_proof { /* pointers into the bytes it was read from */
    cmif_claims    claims;
    const uint8_t *claims_bytes, *bundle;
    size_t         claims_size, bundle_size;
} cmif_proof;

typedef struct cmif_maker cmif_maker;

/* Claims, and evidence over them for this binding (its claims are set here). *bytes is the caller's (free). Errors: as cmif_maker_make. */
CMIF_MUST_USE cmif_code cmif_proof_make(cmif_maker *maker, const cmif_claims *claims, const cmif_binding *binding, uint8_t **bytes, size_t *size,
                                        cmif_err *err);
/* Take it apart; nothing is believed yet. Errors: FORMAT (offset, expected, found). */
CMIF_MUST_USE cmif_code cmif_proof_read(const void *bytes, size_t size, cmif_proof *out, cmif_err *err);

/* ---- making ---- (maker.c, maker_tsm.c, maker_sgx.c, maker_tpm.c, maker_sim.c: library cmif_maker; the above is cmif_evidence) */
typedef enum cmif_maker_kind { CMIF_MAKER_TDX = 1, CMIF_MAKER_SNP, CMIF_MAKER_SGX, CMIF_MAKER_TPM, CMIF_MAKER_SIM } cmif_maker_kind;

typedef struct cmif_maker_options {
    cmif_maker_kind kind;
    const char     *path;     /* NULL: /sys/kernel/config/tsm/report, /dev/attestation, or the TCTI "device:/dev/tpmrm0" */
    const char     *pcrs;     /* TPM: "0,1,2,3,4,5,6,7"; NULL: those */
    const char     *identity; /* SIM: what it says it measured, hex of 32 bytes */
    int             insecure; /* SIM: asked for with a flag of its own; refused without, and where it was not compiled in (CMIF_SIMULATOR) */
} cmif_maker_options;

/* A maker is of one thread. Nothing is made yet, but the device is looked at. Errors: IO (no such device: which, what to do), UNSUPPORTED (not compiled in), RANGE, MEMORY. */
CMIF_MUST_USE cmif_code cmif_maker_open(const cmif_maker_options *options, cmif_maker **out, cmif_err *err);
void                    cmif_maker_free(cmif_maker *maker); /* NULL is welcome */
/* Items over this report data are appended to out, all or none. Races with others are retried (configfs-tsm's generation; PCRs that change) for some seconds. What
 * comes back is looked at: evidence that does not hold the report data is an error, never shown. After IO another maker may be opened and tried. Errors: IO, FORMAT, UNSUPPORTED, RANGE, MEMORY. */
CMIF_MUST_USE cmif_code cmif_maker_make(cmif_maker *maker, const uint8_t report_data[static CMIF_REPORT_DATA_SIZE], cmif_evidence *out,
                                        cmif_err *err);

/* ---- TPM: the answer to a challenge that only the TPM of an endorsement key can open (trusted/attest/tpm.h makes it) ---- */
enum { CMIF_MAKER_KEY_SIZE_MAX = 1024, CMIF_MAKER_SECRET_SIZE = 32 };
/* The endorsement key, as TPM2B_PUBLIC; its certificate, where the TPM has one, is among the evidence. Errors: IO, UNSUPPORTED (no TPM maker), MEMORY. */
CMIF_MUST_USE cmif_code cmif_maker_endorsement(cmif_maker *maker, uint8_t ek[static CMIF_MAKER_KEY_SIZE_MAX], size_t *ek_size, cmif_err *err);
/* Open a credential for this TPM and the key that signs its evidence. Errors: FORMAT (not a credential), TRUST (not for this TPM and key), IO, UNSUPPORTED. */
CMIF_MUST_USE cmif_code cmif_maker_activate(cmif_maker *maker, const uint8_t *credential, size_t size, uint8_t secret[static CMIF_MAKER_SECRET_SIZE], cmif_err *err);

#endif
