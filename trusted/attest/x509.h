/* x509 - certificate paths to pinned roots at a given time, with revocation; from a heap of certificates and CRLs that nobody vouches for.
 *
 * OpenSSL decodes and checks signatures; which path is good is decided here: issuer name and signature from leaf to a root of ours, notBefore and
 * notAfter at T, basicConstraints, pathlen, keyUsage, key and signature algorithms of a short list, and a CRL of each issuer. No X509_STORE: its
 * answer depends on flags, on a callback and on the clock. A certificate or CRL that is not exactly its own DER is refused.
 *
 * Sees    public certificates.
 * Source  RFC 5280, sections 4.2, 5 and 6. */
#ifndef CMIF_ATTEST_X509_H
#define CMIF_ATTEST_X509_H

#include "side.h"

#include "attest/part.h"
#include "base/bytes.h"
#include "base/err.h"

#include <openssl/x509.h>

enum {
    CMIF_POOL_CERTIFICATES = 128, CMIF_POOL_CRLS = 128, CMIF_POOL_ROOTS = 24, CMIF_PATH_MAX = 6,
    CMIF_POOL_CHECKS = 128 /* signatures that are checked for one verdict. An honest one takes some fifteen; a mesh of certificates that all might have issued
                              each other would take thousands, by whoever made them */
};

typedef enum cmif_root_kind {
    CMIF_ROOT_INTEL = 1, CMIF_ROOT_AMD = 2, CMIF_ROOT_AZURE_VTPM = 4, CMIF_ROOT_GCP_TPM = 8, CMIF_ROOT_ANY_TPM = 12, CMIF_ROOT_PINNED = 15,
    CMIF_ROOT_OWN = 1 << 8, CMIF_ROOT_OWN_ANY = 63 << 8 /* of policy->roots: CMIF_ROOT_OWN << cmif_tee, for this technology */
} cmif_root_kind;

typedef struct cmif_pinned_root { /* roots.c */
    cmif_root_kind kind;
    const char    *name, *sha256, *pem;
} cmif_pinned_root;
extern const cmif_pinned_root cmif_pinned_roots[];
extern const size_t           cmif_pinned_root_count;

typedef struct cmif_pool {
    X509           *certificates[CMIF_POOL_CERTIFICATES];
    X509_CRL       *crls[CMIF_POOL_CRLS];
    X509           *roots[CMIF_POOL_ROOTS];
    int             root_kinds[CMIF_POOL_ROOTS];
    size_t          certificate_count, crl_count, root_count;
    unsigned        checks; /* done so far */
} cmif_pool;

/* The roots of the policy (NULL: it has none), and of the pinned ones of roots.c those that root_kinds (bits) names, unless the policy replaces all. Errors: FORMAT,
 * RANGE (too many), MEMORY. A pool that failed is still freed by wipe. */
CMIF_MUST_USE cmif_code cmif_pool_init(cmif_pool *pool, int root_kinds, const cmif_attest_policy *policy, cmif_err *err);
/* The roots that count for a technology: the pinned ones that are named, or the policy's own. */
int cmif_root_kinds(const cmif_attest_policy *policy, cmif_tee tee, int pinned);
/* PEM (text around the blocks is not looked at), or DER one after the other; zero bytes may follow. */
CMIF_MUST_USE cmif_code cmif_pool_add_certificates(cmif_pool *pool, const uint8_t *data, size_t size, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_pool_add_crls(cmif_pool *pool, const uint8_t *data, size_t size, cmif_err *err);
void                    cmif_pool_wipe(cmif_pool *pool);
/* May one more signature be checked? Asked before each that somebody else chose the number of. */
bool cmif_pool_spend(cmif_pool *pool);

/* What a path may be made of. */
enum { /* keys */
    CMIF_KEY_P256 = 1, CMIF_KEY_P384 = 2, CMIF_KEY_RSA = 4 /* 2048 bits at least */
};
enum { /* signatures */
    CMIF_SIG_ECDSA_SHA256 = 1, CMIF_SIG_ECDSA_SHA384 = 2, CMIF_SIG_PSS_SHA384 = 4, CMIF_SIG_RSA_SHA2 = 8 /* PKCS #1, SHA-256, 384, 512 */
};

/* What is wrong with a path: bits, because everything is looked at. */
enum {
    CMIF_PATH_UNTRUSTED = 1,      /* does not end at a root of ours */
    CMIF_PATH_EXPIRED = 2, CMIF_PATH_NOT_YET_VALID = 4,
    CMIF_PATH_CONSTRAINTS = 8,    /* an issuer that is no CA or may not sign certificates, a leaf that is a CA, pathlen, an unknown critical extension */
    CMIF_PATH_ALGORITHM = 16,
    CMIF_PATH_REVOKED = 32,
    CMIF_PATH_CRL_INVALID = 64,   /* one with the issuer's name, and none that holds: signature, extensions */
    CMIF_PATH_CRL_EXPIRED = 128, CMIF_PATH_CRL_NOT_YET_VALID = 256,
    CMIF_PATH_NO_CRL = 512,       /* revocation was not checked for a link */
    CMIF_PATH_INTERNAL = 1024,
    CMIF_PATH_WORK = 2048         /* CMIF_POOL_CHECKS were not enough to know */
};

typedef struct cmif_path_rules {
    int     root_kinds;       /* of cmif_root_kinds */
    int     keys, signatures; /* of every certificate on the path, the root's own signature aside */
    int64_t time, tolerance;
    bool    ca;               /* the leaf may be a CA */
} cmif_path_rules;

typedef struct cmif_path {
    X509    *certificates[CMIF_PATH_MAX]; /* leaf first, our root last; borrowed from the pool */
    size_t   count;
    unsigned problems;
    int64_t  crl_this_update; /* of the leaf issuer's CRL that was used; 0: none */
    int64_t  crl_updates[CMIF_PATH_MAX]; /* of the CRL that each is not on; 0: none was used */
} cmif_path;

/* Path from leaf by issuer name and signature. Among issuers with one name and key, one that is valid at the time is taken. */
void cmif_path_build(cmif_pool *pool, X509 *leaf, const cmif_path_rules *rules, cmif_path *path);
/* Then revocation of every link below the root. Leaves without a CRL are NO_CRL. `leaf_too` false: AMD keeps no list of VCEKs. */
void cmif_path_check_crls(cmif_pool *pool, const cmif_path_rules *rules, bool leaf_too, cmif_path *path);
/* Is a CRL that was used older than the policy has seen of its issuer? */
bool cmif_path_rolled_back(const cmif_path *path, const cmif_attest_policy *policy);
/* Into the verdict, with the CRLs that were used. Times and revocation are reasons of their own: "<what>-expired", "-not-yet-valid", "-revoked",
 * "-crl-expired", "-crl-not-yet-valid", "-crl-invalid", "crl-rollback"; NO_CRL is unchecked "revocation-<what>"; the rest is invalid (evidence, or collateral)
 * with error "<what>-untrusted", "-constraints", "-algorithm", "-work". */
void cmif_path_tell(const cmif_path *path, const char *what, bool collateral, cmif_attest_call *call);

bool cmif_x509_has_name(const X509 *certificate, const char *common_name); /* exactly one CN, and it is this */
bool cmif_x509_key_is(X509 *certificate, int keys);                        /* CMIF_KEY_* */
int64_t cmif_asn1_time(const ASN1_TIME *time);                             /* seconds since 1970; INT64_MIN: not a time */

/* ECDSA over SHA-256 (P-256, size 64) or SHA-384 (P-384, size 96) with a raw big-endian r || s: 1 good, 0 bad, -1 no memory. */
int cmif_ecdsa_verify(EVP_PKEY *key, const uint8_t *raw, size_t size, const uint8_t *message, size_t message_size);
/* A P-256 key from x || y; NULL when the point is not on the curve. */
EVP_PKEY *cmif_p256_key(const uint8_t point[static 64]);

/* The next DER value under the reader: definite and shortest lengths, one-byte tags. false: not DER, or the end (r->at == r->size). */
bool cmif_der_next(cmif_reader *r, uint8_t *tag, cmif_reader *value);
/* Bytes of the extension with this OID (the content octets of the OID): the content of its OCTET STRING. false: none, or twice. */
bool cmif_x509_extension(const X509 *certificate, const uint8_t *oid, size_t oid_size, cmif_reader *value);

#endif
