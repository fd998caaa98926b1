/* tpm - TPM 2.0 structures, read with bounds; and the verifier's half of credential activation, without a TPM.
 *
 * Sees    public keys, quotes, and the challenge secret of one activation, which the caller owns.
 * Source  TCG TPM 2.0 Library 1.59, Part 1 (11.4.10 KDFa, 24 credential protection, B.10.4), Part 2 (10.12 attest, 11.3 signatures, 12.2 public). */
#ifndef CMIF_ATTEST_TPM_H
#define CMIF_ATTEST_TPM_H

#include "side.h"

#include "attest/attest.h"
#include "attest/pcr.h"

#include <openssl/types.h>

enum { CMIF_TPM_QUOTE = 0x8018, CMIF_TPM_CERTIFY = 0x8017 };
enum { CMIF_TPM_RSA = 0x0001, CMIF_TPM_ECC = 0x0023, CMIF_TPM_NULL = 0x0010, CMIF_TPM_RSASSA = 0x0014, CMIF_TPM_RSAPSS = 0x0016, CMIF_TPM_ECDSA = 0x0018 };
enum { /* TPMA_OBJECT */
    CMIF_TPMA_FIXED_TPM = 1 << 1, CMIF_TPMA_FIXED_PARENT = 1 << 4, CMIF_TPMA_ORIGIN = 1 << 5, CMIF_TPMA_RESTRICTED = 1 << 16,
    CMIF_TPMA_DECRYPT = 1 << 17, CMIF_TPMA_SIGN = 1 << 18
};
enum { CMIF_TPM_NAME_MAX = 66, CMIF_TPM_SELECTIONS_MAX = 16, CMIF_TPM_KEY_BYTES_MAX = 512 };

typedef struct cmif_tpm_bytes { /* borrowed from what was read */
    const uint8_t *data;
    size_t         size;
} cmif_tpm_bytes;

typedef struct cmif_tpm_attest { /* TPMS_ATTEST */
    uint16_t       type;         /* CMIF_TPM_QUOTE or CMIF_TPM_CERTIFY; others are UNSUPPORTED */
    cmif_tpm_bytes signer, extra;
    uint64_t       clock, firmware;
    uint32_t       reset_count, restart_count;
    bool           safe;
    size_t         selection_count; /* quote: */
    struct cmif_tpm_selection {
        uint16_t bank;
        uint32_t mask;
    } selection[CMIF_TPM_SELECTIONS_MAX];
    cmif_tpm_bytes digest;
    cmif_tpm_bytes name, qualified_name; /* certify: of the key that is certified */
} cmif_tpm_attest;

typedef struct cmif_tpm_public { /* TPMT_PUBLIC of an asymmetric key */
    uint16_t       type, name_alg;
    uint32_t       attributes;
    uint16_t       scheme, scheme_hash; /* CMIF_TPM_NULL: none */
    uint16_t       symmetric, symmetric_bits, symmetric_mode;
    uint16_t       bits, curve; /* RSA; ECC: 3 is P-256, 4 is P-384 */
    uint32_t       exponent;
    cmif_tpm_bytes x, y;        /* RSA: x is the modulus */
    uint8_t        name[CMIF_TPM_NAME_MAX]; /* name_alg || H(TPMT_PUBLIC) */
    size_t         name_size;
} cmif_tpm_public;

typedef struct cmif_tpm_signature {
    uint16_t       scheme, hash;
    cmif_tpm_bytes r, s; /* RSA: r is the signature */
} cmif_tpm_signature;

/* The whole of data must be the structure. Errors: FORMAT, UNSUPPORTED (a type, algorithm or register that we do not know), MEMORY. */
CMIF_MUST_USE cmif_code cmif_tpm_attest_read(const uint8_t *data, size_t size, cmif_tpm_attest *out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_tpm_public_read(const uint8_t *data, size_t size, cmif_tpm_public *out, cmif_err *err); /* TPM2B_PUBLIC or TPMT_PUBLIC */
/* TPMT_SIGNATURE; or, where rsa_size is not 0, exactly so many bare bytes: RSASSA with SHA-256. */
CMIF_MUST_USE cmif_code cmif_tpm_signature_read(const uint8_t *data, size_t size, size_t rsa_size, cmif_tpm_signature *out, cmif_err *err);

/* The key, or NULL: a point off its curve, a weak RSA key, no memory. Free with EVP_PKEY_free. */
EVP_PKEY *cmif_tpm_public_key(const cmif_tpm_public *public);
/* 1 good, 0 bad (a key of the other kind, r or s zero or too large, SHA-1), -1 no memory. */
int cmif_tpm_verify(EVP_PKEY *key, const cmif_tpm_signature *signature, const uint8_t *message, size_t size);
/* Only the TPM can have made what this key signs: fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign and not decrypt. */
bool cmif_tpm_is_restricted_signer(uint32_t attributes);

/* ---- credential activation: the verifier's challenge that only the TPM of `ek` can open, and only when it holds the very key `ak` ---- */
enum { CMIF_TPM_CREDENTIAL_MAX = 1024, CMIF_TPM_SECRET_SIZE = 32 };

/* ek, ak: TPM2B_PUBLIC or TPMT_PUBLIC. The AK's attributes are checked and its Name computed here, never taken from the other side. The EK must be
 * RSA with AES-128-CFB and SHA-256 (template L-1), restricted and for decryption; that its certificate is good is cmif_tpm_ek_check.
 *   seed    32 random bytes; NULL: drawn here (tests pass their own)
 *   blob    tpm2-tools form: BADCC0DE 00000001, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET; ESAPI takes what follows the first 8 bytes
 *   name    (34) what goes into policy.ak_activated once the other side has sent `secret` back
 * Errors: FORMAT, UNSUPPORTED, TRUST (not a restricted signing key; not an EK), MEMORY. */
CMIF_MUST_USE cmif_code cmif_tpm_make_credential(const uint8_t *ek, size_t ek_size, const uint8_t *ak, size_t ak_size,
                                                 const uint8_t secret[static CMIF_TPM_SECRET_SIZE], const uint8_t *seed,
                                                 uint8_t blob[static CMIF_TPM_CREDENTIAL_MAX], size_t *blob_size, uint8_t name[static 34], cmif_err *err);

/* The EK is one that a TPM maker's root of ours vouches for: `certificates` (CMIF_ITEM_CERTIFICATES and CMIF_ITEM_CRL) hold a certificate of exactly this
 * key, for endorsement (2.23.133.8.1) or for encryption alone (Google's), with a good path at `time`. Roots, CRL rule and tolerance are the policy's. Errors: FORMAT, TRUST, MEMORY. */
CMIF_MUST_USE cmif_code cmif_tpm_ek_check(const uint8_t *ek, size_t ek_size, const cmif_item *certificates, size_t count,
                                          const cmif_attest_policy *policy, int64_t time, cmif_err *err);

#endif
