/* TPM 2.0, through tpm2-tss (ESAPI).
 *
 * The attestation key is made anew for each quote, as a primary key of the endorsement hierarchy: a TPM derives such a
 * key from its seed and the template, so it is the same each time until the TPM is cleared (a policy may pin it), and
 * nothing has to be kept, here or in the TPM. What is made in the TPM is flushed on every way out: without a resource
 * manager there are three places only.
 *
 * Source  TCG TPM 2.0 Library 1.59 Part 3; TCG EK Credential Profile 2.5 (template L-1, NV index 0x01c00002). */
#include "evidence/maker.h"

#ifdef CMIF_TSS2

#include "base/bytes.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

enum { PCRS = 24, PCR_SIZE = 32, EK_CERTIFICATE = 0x01c00002, NV_CHUNK = 512, CERTIFICATE_MAX = 4096 };

struct cmif_maker_tpm {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT      *esys;
    uint32_t           mask; /* of the PCRs to quote */
    uint8_t            certificate[CERTIFICATE_MAX];
    size_t             certificate_size; /* 0: the TPM has none */
};

#define NO_SESSION ESYS_TR_NONE, ESYS_TR_NONE
#define NO_SESSIONS ESYS_TR_NONE, NO_SESSION

static cmif_code code_of(TSS2_RC failed)
{
    return failed == TSS2_ESYS_RC_MEMORY || failed == TSS2_TCTI_RC_MEMORY ? CMIF_E_MEMORY : CMIF_E_IO;
}

static cmif_code bad(const char *what, TSS2_RC failed, cmif_err *err)
{
    const char *hint = failed == TPM2_RC_LOCKOUT ? "; it is locked after wrong passwords: tpm2_dictionarylockout -c"
                       : failed == TPM2_RC_OBJECT_MEMORY
                           ? "; others hold all of its places: use /dev/tpmrm0, or tpm2_flushcontext -t"
                           : "";
    return cmif_fail(err, code_of(failed), "TPM: cannot %s: %s (0x%x)%s", what, Tss2_RC_Decode(failed),
                     (unsigned) failed, hint);
}

static void flush(cmif_maker_tpm *tpm, ESYS_TR *handle)
{
    if (*handle != ESYS_TR_NONE && Esys_FlushContext(tpm->esys, *handle) == TSS2_RC_SUCCESS) {
        *handle = ESYS_TR_NONE;
    }
}

/* ---- keys ---- */

static cmif_code make_primary(cmif_maker_tpm *tpm, const TPM2B_PUBLIC *template, const char *what, ESYS_TR *handle,
                              TPM2B_PUBLIC **public, cmif_err *err)
{
    const TPM2B_SENSITIVE_CREATE no_secret = {0};
    const TPM2B_DATA             no_data   = {0};
    const TPML_PCR_SELECTION     no_pcrs   = {0};
    ESYS_TR                      made      = ESYS_TR_NONE;
    TSS2_RC failed = Esys_CreatePrimary(tpm->esys, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD, NO_SESSION, &no_secret,
                                        template, &no_data, &no_pcrs, &made, public, NULL, NULL, NULL);
    if (failed) {
        return bad(what, failed, err);
    }
    *handle = made;
    return CMIF_OK;
}

/* P-256: quick to make, also in hardware. */
static cmif_code make_ak(cmif_maker_tpm *tpm, ESYS_TR *handle, TPM2B_PUBLIC **public, cmif_err *err)
{
    const TPM2B_PUBLIC template = {
        .publicArea = {
            .type             = TPM2_ALG_ECC,
            .nameAlg          = TPM2_ALG_SHA256,
            .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                                TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED |
                                TPMA_OBJECT_SIGN_ENCRYPT,
            .parameters.eccDetail = {.symmetric.algorithm = TPM2_ALG_NULL,
                                     .scheme     = {.scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256},
                                     .curveID    = TPM2_ECC_NIST_P256,
                                     .kdf.scheme = TPM2_ALG_NULL}}};
    return make_primary(tpm, &template, "make an attestation key (does the endorsement hierarchy have a password?)",
                        handle, public, err);
}

static const uint8_t ek_policy[32] = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                      0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                      0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};

static cmif_code make_ek(cmif_maker_tpm *tpm, ESYS_TR *handle, TPM2B_PUBLIC **public, cmif_err *err)
{
    TPM2B_PUBLIC template = {.publicArea = {.type             = TPM2_ALG_RSA,
                                            .nameAlg          = TPM2_ALG_SHA256,
                                            .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                                                TPMA_OBJECT_SENSITIVEDATAORIGIN |
                                                                TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED |
                                                                TPMA_OBJECT_DECRYPT,
                                            .authPolicy           = {.size = sizeof ek_policy},
                                            .parameters.rsaDetail = {.symmetric     = {.algorithm   = TPM2_ALG_AES,
                                                                                       .keyBits.aes = 128,
                                                                                       .mode.aes    = TPM2_ALG_CFB},
                                                                     .scheme.scheme = TPM2_ALG_NULL,
                                                                     .keyBits       = 2048},
                                            .unique.rsa.size      = 256}};
    memcpy(template.publicArea.authPolicy.buffer, ek_policy, sizeof ek_policy);
    return make_primary(tpm, &template, "make the endorsement key", handle, public, err);
}

/* ---- opening ---- */

/* "0,1,2,7": numbers below 24, each once. */
static cmif_code read_pcrs(const char *text, uint32_t *mask, cmif_err *err)
{
    uint32_t found = 0;
    for (const char *at = text;;) {
        char               *end = NULL;
        const unsigned long n   = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : PCRS;
        if (n >= PCRS || found >> n & 1 || (*end && *end != ',')) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "TPM: expected numbers of PCRs from 0 to %d, each once, with commas (0,1,2,7); the one at "
                             "character %zu is not so",
                             PCRS - 1, (size_t) (at - text));
        }
        found |= 1U << n;
        if (!*end) {
            *mask = found;
            return CMIF_OK;
        }
        at = end + 1;
    }
}

/* The certificate that the TPM's maker put in, if there is one; without it the evidence is as good, but the AK must be
 * known in another way. */
static void read_certificate(cmif_maker_tpm *tpm)
{
    TPMS_CAPABILITY_DATA *handles = NULL;
    TPM2B_NV_PUBLIC *public       = NULL;
    ESYS_TR index                 = ESYS_TR_NONE;
    size_t  size = 0, at = 0;
    bool    there = Esys_GetCapability(tpm->esys, NO_SESSIONS, TPM2_CAP_HANDLES, EK_CERTIFICATE, 1, NULL, &handles) ==
                     TSS2_RC_SUCCESS &&
                 handles->data.handles.count == 1 && handles->data.handles.handle[0] == EK_CERTIFICATE &&
                 Esys_TR_FromTPMPublic(tpm->esys, EK_CERTIFICATE, NO_SESSIONS, &index) == TSS2_RC_SUCCESS &&
                 Esys_NV_ReadPublic(tpm->esys, index, NO_SESSIONS, &public, NULL) == TSS2_RC_SUCCESS;
    size = there && public->nvPublic.dataSize <= CERTIFICATE_MAX ? public->nvPublic.dataSize : 0;
    while (at < size) {
        TPM2B_MAX_NV_BUFFER *part = NULL;
        const uint16_t       want = (uint16_t) (size - at < NV_CHUNK ? size - at : NV_CHUNK);
        if (Esys_NV_Read(tpm->esys, index, index, ESYS_TR_PASSWORD, NO_SESSION, want, (uint16_t) at, &part) !=
                TSS2_RC_SUCCESS ||
            part->size != want) {
            size = 0;
        } else {
            memcpy(tpm->certificate + at, part->buffer, want);
        }
        at += want;
        Esys_Free(part);
    }
    /* the index may be larger: DER tells its own length */
    const uint8_t *der = tpm->certificate;
    if (size > 4 && der[0] == 0x30 && der[1] == 0x82 && ((size_t) der[2] << 8 | der[3]) + 4 <= size) {
        tpm->certificate_size = ((size_t) der[2] << 8 | der[3]) + 4;
    }
    if (index != ESYS_TR_NONE) {
        Esys_TR_Close(tpm->esys, &index);
    }
    Esys_Free(handles);
    Esys_Free(public);
}

cmif_code cmif_tpm_open(cmif_maker *maker, const cmif_maker_options *options, cmif_err *err)
{
    cmif_maker_tpm *tpm = calloc(1, sizeof *tpm);
    if (!tpm) {
        return cmif_fail(err, CMIF_E_MEMORY, "TPM: no memory");
    }
    maker->tpm   = tpm; /* cmif_maker_free frees it, whatever happens */
    cmif_code rc = read_pcrs(options->pcrs ? options->pcrs : "0,1,2,3,4,5,6,7", &tpm->mask, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    TSS2_RC failed = Tss2_TctiLdr_Initialize(maker->path, &tpm->tcti);
    failed         = failed ? failed : Esys_Initialize(&tpm->esys, tpm->tcti, NULL);
    if (failed) {
        rc = bad("open it", failed, err);
        cmif_err_context(err, "'%s' (is there a TPM, and may this user use it: group tss?)", maker->path);
        return rc;
    }
    read_certificate(tpm);
    return CMIF_OK;
}

void cmif_tpm_free(cmif_maker_tpm *tpm)
{
    if (tpm) {
        Esys_Finalize(&tpm->esys);
        Tss2_TctiLdr_Finalize(&tpm->tcti);
        free(tpm);
    }
}

/* ---- a quote ---- */

typedef struct quote {
    TPM2B_PUBLIC   *ak;
    TPM2B_ATTEST   *attest;
    TPMT_SIGNATURE *signature;
    uint8_t         values[PCRS * PCR_SIZE];
    size_t          values_size;
} quote;

static void drop(quote *q)
{
    Esys_Free(q->attest);
    Esys_Free(q->signature);
    q->attest    = NULL;
    q->signature = NULL;
}

static TPML_PCR_SELECTION select_pcrs(uint32_t mask)
{
    return (TPML_PCR_SELECTION){
        .count         = 1,
        .pcrSelections = {{.hash         = TPM2_ALG_SHA256,
                           .sizeofSelect = 3,
                           .pcrSelect    = {(uint8_t) mask, (uint8_t) (mask >> 8), (uint8_t) (mask >> 16)}}}};
}

/* A TPM gives at most 8 values at a time, and says which. */
static cmif_code read_values(cmif_maker_tpm *tpm, quote *q, cmif_err *err)
{
    uint8_t values[PCRS][PCR_SIZE];
    for (uint32_t left = tpm->mask; left;) {
        const TPML_PCR_SELECTION want   = select_pcrs(left);
        TPML_PCR_SELECTION      *given  = NULL;
        TPML_DIGEST             *found  = NULL;
        const TSS2_RC            failed = Esys_PCR_Read(tpm->esys, NO_SESSIONS, &want, NULL, &given, &found);
        uint32_t                 got    = 0;
        if (failed) {
            return bad("read the PCRs", failed, err);
        }
        for (unsigned i = 0; i < 3 && given->count == 1 && i < given->pcrSelections[0].sizeofSelect; i++) {
            got |= (uint32_t) given->pcrSelections[0].pcrSelect[i] << (8 * i);
        }
        bool good = got && !(got & ~left) && given->pcrSelections[0].hash == TPM2_ALG_SHA256 &&
                    found->count == (uint32_t) __builtin_popcount(got);
        left &= ~got;
        for (uint32_t i = 0; good && i < found->count; i++, got &= got - 1) {
            good = found->digests[i].size == PCR_SIZE;
            memcpy(values[__builtin_ctz(got)], found->digests[i].buffer, good ? PCR_SIZE : 0);
        }
        Esys_Free(given);
        Esys_Free(found);
        if (!good) {
            return cmif_fail(err, CMIF_E_IO,
                             "TPM: it has no values of PCRs 0x%06x in a bank of SHA-256; is that bank switched on "
                             "(BIOS, tpm2_pcrallocate)?",
                             (unsigned) tpm->mask);
        }
    }
    q->values_size = 0;
    for (uint32_t left = tpm->mask; left; left &= left - 1) {
        memcpy(q->values + q->values_size, values[__builtin_ctz(left)], PCR_SIZE);
        q->values_size += PCR_SIZE;
    }
    return CMIF_OK;
}

/* *fits: it is a quote over our data, and of the values that were read. */
static cmif_code check_quote(const quote *q, const uint8_t *report_data, bool *fits, cmif_err *err)
{
    TPMS_ATTEST a;
    size_t      at = 0;
    uint8_t     digest[32];
    if (Tss2_MU_TPMS_ATTEST_Unmarshal(q->attest->attestationData, q->attest->size, &at, &a) != TSS2_RC_SUCCESS ||
        at != q->attest->size || a.type != TPM2_ST_ATTEST_QUOTE || a.extraData.size != CMIF_REPORT_DATA_SIZE ||
        CRYPTO_memcmp(a.extraData.buffer, report_data, CMIF_REPORT_DATA_SIZE) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "TPM: expected a quote over the data that was given, found another attestation");
    }
    if (EVP_Digest(q->values, q->values_size, digest, NULL, EVP_sha256(), NULL) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "TPM: OpenSSL could not hash the PCRs");
    }
    const TPM2B_DIGEST *quoted = &a.attested.quote.pcrDigest;
    *fits                      = quoted->size == sizeof digest && !CRYPTO_memcmp(quoted->buffer, digest, sizeof digest);
    return CMIF_OK;
}

static cmif_code make_quote(cmif_maker *maker, const uint8_t *report_data, quote *q, cmif_err *err)
{
    cmif_maker_tpm          *tpm    = maker->tpm;
    const TPML_PCR_SELECTION pcrs   = select_pcrs(tpm->mask);
    const TPMT_SIG_SCHEME    scheme = {.scheme = TPM2_ALG_NULL}; /* the key has its own */
    TPM2B_DATA               data   = {.size = CMIF_REPORT_DATA_SIZE};
    ESYS_TR                  ak     = ESYS_TR_NONE;
    bool                     fits   = false;
    memcpy(data.buffer, report_data, CMIF_REPORT_DATA_SIZE);
    cmif_code rc = make_ak(tpm, &ak, &q->ak, err);
    /* a PCR that is extended between reading and quoting: once more */
    for (unsigned tried = 0; rc == CMIF_OK && !fits && cmif_maker_again(maker, tried); tried++) {
        drop(q);
        rc = read_values(tpm, q, err);
        if (rc == CMIF_OK) {
            const TSS2_RC failed = Esys_Quote(tpm->esys, ak, ESYS_TR_PASSWORD, NO_SESSION, &data, &scheme, &pcrs,
                                              &q->attest, &q->signature);
            rc                   = failed ? bad("quote", failed, err) : check_quote(q, report_data, &fits, err);
        }
    }
    if (rc == CMIF_OK && !fits) {
        rc = cmif_fail(err, CMIF_E_IO, "TPM: the PCRs changed between reading and quoting, %d times", CMIF_MAKER_TRIES);
    }
    flush(tpm, &ak);
    return rc;
}

cmif_code cmif_tpm_make(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err)
{
    cmif_maker_tpm *tpm = maker->tpm;
    quote           q   = {0};
    uint8_t         signature[sizeof(TPMT_SIGNATURE)], ak[sizeof(TPM2B_PUBLIC)];
    size_t          signature_size = 0, ak_size = 0;
    cmif_code       rc = make_quote(maker, report_data, &q, err);
    if (rc == CMIF_OK &&
        (Tss2_MU_TPMT_SIGNATURE_Marshal(q.signature, signature, sizeof signature, &signature_size) != TSS2_RC_SUCCESS ||
         Tss2_MU_TPM2B_PUBLIC_Marshal(q.ak, ak, sizeof ak, &ak_size) != TSS2_RC_SUCCESS)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "TPM: its signature or key cannot be written down");
    }
    rc = rc == CMIF_OK
             ? cmif_evidence_put(out, CMIF_EVIDENCE_TPM_ATTEST, q.attest->attestationData, q.attest->size, err)
             : rc;
    rc = rc == CMIF_OK ? cmif_evidence_put(out, CMIF_EVIDENCE_TPM_SIGNATURE, signature, signature_size, err) : rc;
    rc = rc == CMIF_OK ? cmif_evidence_put(out, CMIF_EVIDENCE_TPM_AK, ak, ak_size, err) : rc;
    rc = rc == CMIF_OK ? cmif_evidence_put(out, CMIF_EVIDENCE_TPM_PCRS, q.values, q.values_size, err) : rc;
    if (rc == CMIF_OK && tpm->certificate_size) {
        rc = cmif_evidence_put(out, CMIF_EVIDENCE_CERTIFICATES, tpm->certificate, tpm->certificate_size, err);
    }
    drop(&q);
    Esys_Free(q.ak);
    return rc;
}

/* ---- credential activation ---- */

cmif_code cmif_tpm_endorsement(cmif_maker *maker, uint8_t *ek, size_t *ek_size, cmif_err *err)
{
    ESYS_TR handle       = ESYS_TR_NONE;
    TPM2B_PUBLIC *public = NULL;
    uint8_t   out[sizeof(TPM2B_PUBLIC)];
    size_t    at = 0;
    cmif_code rc = make_ek(maker->tpm, &handle, &public, err);
    if (rc == CMIF_OK && (Tss2_MU_TPM2B_PUBLIC_Marshal(public, out, sizeof out, &at) != TSS2_RC_SUCCESS ||
                          at > CMIF_MAKER_KEY_SIZE_MAX)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "TPM: its endorsement key cannot be written down");
    }
    if (rc == CMIF_OK) {
        memcpy(ek, out, at);
        *ek_size = at;
    }
    flush(maker->tpm, &handle);
    Esys_Free(public);
    return rc;
}

/* The endorsement key may be used by whom the endorsement hierarchy lets (PolicySecret). */
static cmif_code start_session(cmif_maker_tpm *tpm, ESYS_TR *session, cmif_err *err)
{
    const TPMT_SYM_DEF none = {.algorithm = TPM2_ALG_NULL};
    TSS2_RC failed = Esys_StartAuthSession(tpm->esys, ESYS_TR_NONE, ESYS_TR_NONE, NO_SESSIONS, NULL, TPM2_SE_POLICY,
                                           &none, TPM2_ALG_SHA256, session);
    if (!failed) {
        failed = Esys_PolicySecret(tpm->esys, ESYS_TR_RH_ENDORSEMENT, *session, ESYS_TR_PASSWORD, NO_SESSION, NULL,
                                   NULL, NULL, 0, NULL, NULL);
    }
    return failed ? bad("use the endorsement key", failed, err) : CMIF_OK;
}

cmif_code cmif_tpm_activate(cmif_maker *maker, const uint8_t *credential, size_t size, uint8_t *secret, cmif_err *err)
{
    static const uint8_t   head[8] = {0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1};
    cmif_maker_tpm        *tpm     = maker->tpm;
    ESYS_TR                ak = ESYS_TR_NONE, ek = ESYS_TR_NONE, session = ESYS_TR_NONE;
    TPM2B_ID_OBJECT        id;
    TPM2B_ENCRYPTED_SECRET sealed;
    TPM2B_DIGEST          *opened = NULL;
    size_t                 at     = sizeof head;
    if (size < sizeof head || memcmp(credential, head, sizeof head) != 0 ||
        Tss2_MU_TPM2B_ID_OBJECT_Unmarshal(credential, size, &at, &id) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(credential, size, &at, &sealed) != TSS2_RC_SUCCESS || at != size) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "TPM credential: expected BADCC0DE 00000001, an identity and a secret, found %zu other bytes",
                         size);
    }
    cmif_code rc = make_ak(tpm, &ak, NULL, err);
    rc           = rc == CMIF_OK ? make_ek(tpm, &ek, NULL, err) : rc;
    rc           = rc == CMIF_OK ? start_session(tpm, &session, err) : rc;
    if (rc == CMIF_OK) {
        const TSS2_RC failed =
            Esys_ActivateCredential(tpm->esys, ak, ek, ESYS_TR_PASSWORD, session, ESYS_TR_NONE, &id, &sealed, &opened);
        if (failed) {
            rc = cmif_fail(err, code_of(failed) == CMIF_E_MEMORY ? CMIF_E_MEMORY : CMIF_E_TRUST,
                           "TPM credential: not for this TPM and its attestation key: %s (0x%x)",
                           Tss2_RC_Decode(failed), (unsigned) failed);
        } else if (opened->size != CMIF_MAKER_SECRET_SIZE) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "TPM credential: expected a secret of %d bytes, found %u",
                           CMIF_MAKER_SECRET_SIZE, opened->size);
        } else {
            memcpy(secret, opened->buffer, CMIF_MAKER_SECRET_SIZE);
        }
    }
    if (opened) {
        OPENSSL_cleanse(opened, sizeof *opened);
        Esys_Free(opened);
    }
    flush(tpm, &session);
    flush(tpm, &ek);
    flush(tpm, &ak);
    return rc;
}

#else

static cmif_code absent(cmif_err *err)
{
    return cmif_fail(
        err, CMIF_E_UNSUPPORTED,
        "this build makes no TPM evidence: it was configured without tpm2-tss (Debian package libtss2-dev)");
}

cmif_code cmif_tpm_open(cmif_maker *maker, const cmif_maker_options *options, cmif_err *err)
{
    (void) maker, (void) options;
    return absent(err);
}

cmif_code cmif_tpm_make(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err)
{
    (void) maker, (void) report_data, (void) out;
    return absent(err);
}

cmif_code cmif_tpm_endorsement(cmif_maker *maker, uint8_t *ek, size_t *ek_size, cmif_err *err)
{
    (void) maker, (void) ek, (void) ek_size;
    return absent(err);
}

cmif_code cmif_tpm_activate(cmif_maker *maker, const uint8_t *credential, size_t size, uint8_t *secret, cmif_err *err)
{
    (void) maker, (void) credential, (void) size, (void) secret;
    return absent(err);
}

void cmif_tpm_free(cmif_maker_tpm *tpm)
{
    (void) tpm;
}

#endif
