/* tpm_check - what a TPM 2.0 quote proves: its key first, then everything that the key has signed. */
#include "attest/eventlog.h"
#include "attest/hcl.h"
#include "attest/part.h"
#include "attest/policy.h"
#include "attest/snp.h"
#include "attest/tpm.h"
#include "attest/x509.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

typedef struct check {
    cmif_attest_call  *call;
    cmif_verdict      *v;
    const cmif_item   *quote_item, *quote_signature, *certify_item, *certify_signature; /* certify: NULL, or both */
    cmif_tpm_attest    quote;
    cmif_tpm_signature signature; /* of the quote */
    cmif_hcl           hcl;
    bool               has_hcl, has_public; /* has_public: the AK came with its attributes */
    cmif_tpm_public public;
    EVP_PKEY *ak;
} check;

static void malformed(check *c, cmif_code rc, const cmif_err *err, const char *error)
{
    cmif_verdict_worse(c->v,
                       rc == CMIF_E_MEMORY        ? CMIF_ATTEST_INTERNAL
                       : rc == CMIF_E_UNSUPPORTED ? CMIF_UNSUPPORTED
                                                  : CMIF_MALFORMED,
                       rc, "%s", err->text);
    cmif_verdict_invalid(c->v, error);
}

/* The n-th TPM_ATTEST belongs to the n-th TPM_SIGNATURE: one quote, and at most one certification. */
static bool find_items(check *c)
{
    const cmif_attest_call *call = c->call;
    const cmif_item        *attest[2], *signature[2];
    size_t                  attests = 0, signatures = 0;
    cmif_err                err = {0};
    for (size_t i = 0; i < call->count; i++) {
        const cmif_item *item = &call->items[i];
        if (item->kind == CMIF_ITEM_TPM_ATTEST && attests++ < 2) {
            attest[attests - 1] = item;
        } else if (item->kind == CMIF_ITEM_TPM_SIGNATURE && signatures++ < 2) {
            signature[signatures - 1] = item;
        }
    }
    if (attests == 0 || attests > 2 || signatures != attests) {
        cmif_verdict_worse(c->v, CMIF_MALFORMED, CMIF_E_FORMAT,
                           "%zu TPM attestations with %zu signatures; expected a quote, or a quote and a certification",
                           attests, signatures);
        cmif_verdict_invalid(c->v, "tpm-items");
        return false;
    }
    for (size_t i = 0; i < attests; i++) {
        cmif_tpm_attest read;
        cmif_code       rc = cmif_tpm_attest_read(attest[i]->data, attest[i]->size, &read, &err);
        if (rc != CMIF_OK) {
            malformed(c, rc, &err, "tpm-attest");
            return false;
        }
        if (read.type == CMIF_TPM_QUOTE && !c->quote_item) {
            c->quote_item      = attest[i];
            c->quote_signature = signature[i];
            c->quote           = read;
        } else if (read.type == CMIF_TPM_CERTIFY && !c->certify_item) {
            c->certify_item      = attest[i];
            c->certify_signature = signature[i];
        }
    }
    if (!c->quote_item || (attests == 2 && !c->certify_item)) {
        cmif_verdict_worse(c->v, CMIF_MALFORMED, CMIF_E_FORMAT,
                           "two TPM attestations of one type, or a certification without a quote");
        cmif_verdict_invalid(c->v, "tpm-items");
        return false;
    }
    return true;
}

/* ---- the AK ---- */
static EVP_PKEY *read_pem_key(const uint8_t *data, size_t size)
{
    BIO           *bio  = BIO_new_mem_buf(data, (int) size);
    char          *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long           der_size;
    EVP_PKEY      *key = NULL;
    if (bio && PEM_read_bio(bio, &name, &header, &der, &der_size) && !strcmp(name, PEM_STRING_PUBLIC)) {
        const unsigned char *at = der;
        key                     = d2i_PUBKEY(NULL, &at, der_size);
        bool rsa                = key && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= 2048;
        bool ec                 = key && EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) >= 256;
        if (!(rsa || ec) || at != der + der_size) {
            EVP_PKEY_free(key);
            key = NULL;
        }
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

static const uint8_t oid_ak[] = {0x67, 0x81, 0x05, 0x08, 0x03},
                     oid_ek[] = {0x67, 0x81, 0x05, 0x08, 0x01}; /* 2.23.133.8.3, .1 */

/* -1: it has no extended key usage; else whether it names this one. */
static int has_usage(const X509 *c, const uint8_t *oid, size_t size)
{
    static const uint8_t ext_key_usage[] = {0x55, 0x1d, 0x25};
    cmif_reader          value, list, usage;
    uint8_t              tag;
    if (!cmif_x509_extension(c, ext_key_usage, sizeof ext_key_usage, &value) || !cmif_der_next(&value, &tag, &list)) {
        return X509_get_ext_by_NID(c, NID_ext_key_usage, -1) < 0 ? -1 : 0;
    }
    while (cmif_der_next(&list, &tag, &usage)) {
        if (tag == 0x06 && usage.size == size && !memcmp(usage.data, oid, size)) {
            return 1;
        }
    }
    return 0;
}

/* A certificate of a signing key of a TPM: for AKs, or by its key usage (Google's AK certificates have no extended one,
 * or the EK's). An EK's encrypts. */
static bool is_ak_certificate(X509 *c)
{
    bool may_sign = X509_get_key_usage(c) & KU_DIGITAL_SIGNATURE; /* without the extension all bits are set */
    bool says_so  = X509_get_extension_flags(c) & EXFLAG_KUSAGE;
    return may_sign &&
           (has_usage(c, oid_ak, sizeof oid_ak) == 1 || (says_so && has_usage(c, oid_ek, sizeof oid_ek) != 0));
}

/* A certificate of a key that decrypts, for endorsement or without a word on it (Google's). */
static bool is_ek_certificate(X509 *c)
{
    uint32_t use     = X509_get_key_usage(c);
    bool     says_so = X509_get_extension_flags(c) & EXFLAG_KUSAGE;
    int      usage   = has_usage(c, oid_ek, sizeof oid_ek);
    return (use & (KU_KEY_ENCIPHERMENT | KU_KEY_AGREEMENT)) &&
           (usage == 1 || (usage < 0 && says_so && !(use & KU_DIGITAL_SIGNATURE)));
}

/* By the item, by the claims of the HCL report, or by the certificate whose key has signed: in this order, and they
 * must agree. */
static bool find_ak(check *c)
{
    const cmif_item *item = cmif_call_one(c->call, CMIF_ITEM_TPM_AK), *hcl = cmif_call_one(c->call, CMIF_ITEM_HCL);
    cmif_err         err = {0};
    if (hcl) {
        cmif_code rc = cmif_hcl_read(hcl->data, hcl->size, &c->hcl, &err);
        if (rc != CMIF_OK) {
            malformed(c, rc, &err, "hcl-report");
            return false;
        }
        c->has_hcl = true;
    }
    if (item && item->data[0] == '-') {
        c->ak = read_pem_key(item->data, item->size);
    } else if (item) {
        cmif_code rc = cmif_tpm_public_read(item->data, item->size, &c->public, &err);
        if (rc != CMIF_OK) {
            malformed(c, rc, &err, "ak-public");
            return false;
        }
        c->has_public = true;
        c->ak         = cmif_tpm_public_key(&c->public);
    } else if (c->has_hcl && EVP_PKEY_up_ref(c->hcl.ak) == 1) {
        c->ak = c->hcl.ak;
    } else {
        for (size_t i = 0; i < c->call->pool->certificate_count && !c->ak; i++) {
            X509              *certificate = c->call->pool->certificates[i];
            EVP_PKEY          *key         = X509_get0_pubkey(certificate);
            cmif_tpm_signature s;
            if (key && is_ak_certificate(certificate) && cmif_pool_spend(c->call->pool) &&
                cmif_tpm_signature_read(c->quote_signature->data, c->quote_signature->size,
                                        EVP_PKEY_is_a(key, "RSA") ? (size_t) EVP_PKEY_get_size(key) : 0, &s,
                                        &err) == CMIF_OK &&
                cmif_tpm_verify(key, &s, c->quote_item->data, c->quote_item->size) == 1 && EVP_PKEY_up_ref(key) == 1) {
                c->ak = key;
            }
        }
        if (!c->ak) {
            cmif_verdict_reason(c->v, "no-ak");
            cmif_verdict_worse(c->v, CMIF_REJECTED, CMIF_E_TRUST,
                               "TPM quote: there is no attestation key to verify it with");
            return false;
        }
    }
    if (!c->ak) {
        cmif_verdict_worse(
            c->v, CMIF_MALFORMED, CMIF_E_FORMAT,
            "TPM attestation key: expected RSA of 2048 bits or more, P-256 or P-384, found something else");
        cmif_verdict_invalid(c->v, "ak-public");
        return false;
    }
    if (c->has_hcl && EVP_PKEY_eq(c->ak, c->hcl.ak) != 1) {
        cmif_verdict_invalid(c->v, "ak-not-of-hcl");
    }
    return true;
}

static bool key_digest(EVP_PKEY *key, uint8_t digest[static 32])
{
    unsigned char *der  = NULL;
    int            size = i2d_PUBKEY(key, &der);
    bool           good = size > 0 && EVP_Digest(der, (size_t) size, digest, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return good;
}

/* ---- proofs of the AK: any one will do, but each that is there must hold ---- */
static bool proved_by_certificate(check *c)
{
    const cmif_path_rules rules = {.root_kinds = cmif_root_kinds(c->call->policy, CMIF_TEE_TPM, CMIF_ROOT_ANY_TPM),
                                   .keys       = CMIF_KEY_RSA | CMIF_KEY_P256 | CMIF_KEY_P384,
                                   .signatures = CMIF_SIG_RSA_SHA2 | CMIF_SIG_ECDSA_SHA256 | CMIF_SIG_ECDSA_SHA384,
                                   .time       = c->call->time,
                                   .tolerance  = c->call->policy->tolerance};
    cmif_pool            *pool  = c->call->pool;
    X509                 *best  = NULL; /* a renewed certificate is of the same key as the one before */
    cmif_path             best_path;
    for (size_t i = 0; i < pool->certificate_count; i++) {
        EVP_PKEY *key = X509_get0_pubkey(pool->certificates[i]);
        cmif_path path;
        if (!key || EVP_PKEY_eq(key, c->ak) != 1) {
            continue;
        }
        cmif_path_build(pool, pool->certificates[i], &rules, &path);
        cmif_path_check_crls(pool, &rules, true, &path);
        const unsigned known = ~(unsigned) CMIF_PATH_NO_CRL;
        if (!best || (best_path.problems && !path.problems) ||
            (best_path.problems & known && !(path.problems & known))) {
            best      = pool->certificates[i];
            best_path = path;
        }
    }
    if (!best) {
        return false;
    }
    cmif_path_tell(&best_path, "ak", false, c->call);
    if (!is_ak_certificate(best)) {
        cmif_verdict_invalid(c->v, "ak-usage");
    }
    return is_ak_certificate(best) && !(best_path.problems & ~(unsigned) CMIF_PATH_NO_CRL);
}

/* The TEE that hashes the AK is judged in full, measurement too: anyone with a machine of his own can have a genuine
 * report hash a key of his own. What it is comes in *tee. */
static bool proved_by_tee(check *c, cmif_tee *tee)
{
    cmif_attest_call *call  = c->call;
    const cmif_item  *quote = cmif_call_one(call, CMIF_ITEM_QUOTE), *table = cmif_call_one(call, CMIF_ITEM_SNP_TABLE);
    uint8_t           report_data[64], want[64]                            = {0};
    bool snp = c->has_hcl && c->hcl.type == CMIF_HCL_SNP, td = c->has_hcl && c->hcl.type == CMIF_HCL_TDX, read = false;
    cmif_err err = {0};
    if ((quote && !td) || cmif_call_one(call, CMIF_ITEM_SNP_REPORT)) { /* nothing says what it has to do with the AK */
        cmif_verdict_invalid(c->v, "tee-unused");
    }
    if (snp) {
        cmif_code rc = table ? cmif_snp_table_read(table->data, table->size, call->pool, &err) : CMIF_OK;
        if (rc != CMIF_OK) {
            malformed(c, rc, &err, "certificate-table");
        }
        read      = cmif_snp_check_report(call, c->hcl.report, CMIF_SNP_REPORT_SIZE, report_data);
        c->v->tee = CMIF_TEE_SNP;
    } else if (td && quote) {
        read = cmif_dcap_check_quote(call, quote->data, quote->size, report_data);
    } else if (td) {
        cmif_verdict_reason(c->v, "no-td-quote");
    }
    *tee      = read ? c->v->tee : CMIF_TEE_NONE;
    c->v->tee = CMIF_TEE_TPM;
    if (!c->has_hcl || !read) {
        return false;
    }
    cmif_verdict_text(c->v, "ak_tee", "%s", cmif_tee_word(*tee));
    if (c->hcl.user_data[0]) {
        cmif_verdict_text(c->v, "hcl_user_data", "%s", c->hcl.user_data);
    }
    memcpy(want, c->hcl.digest, c->hcl.digest_size);
    if (*tee != (snp ? CMIF_TEE_SNP : CMIF_TEE_TDX) || CRYPTO_memcmp(want, report_data, sizeof want) != 0) {
        cmif_verdict_invalid(c->v, "hcl-binding");
        return false;
    }
    const cmif_attest_policy *own    = call->policy;
    cmif_attest_policy        policy = *own;
    policy.tees |= 1u << *tee; /* `tees` is about what the evidence proves; this one is here as proof of the AK */
    call->policy = &policy;
    cmif_call_measured(call, *tee);
    call->policy = own;
    return true;
}

static bool is_activated(const check *c)
{
    const cmif_attest_policy *policy = c->call->policy;
    for (size_t i = 0; i < policy->ak_activated_count && c->has_public && c->public.name_size == 34; i++) {
        if (!memcmp(policy->ak_activated + 34 * i, c->public.name, 34)) {
            return true;
        }
    }
    return false;
}

static bool is_pinned(const check *c, const uint8_t digest[static 32])
{
    const cmif_attest_policy *policy = c->call->policy;
    for (size_t i = 0; i < policy->ak_pin_count; i++) {
        if (!memcmp(policy->ak_pins + 32 * i, digest, 32)) {
            return true;
        }
    }
    return false;
}

/* A policy that measures a TEE which is no technology of its own wants the TPM inside that TEE. */
static bool wants_tee(const cmif_attest_policy *policy, cmif_tee tee, bool *any)
{
    bool this_one = false;
    *any          = false;
    for (size_t i = 0; i < policy->measured_count; i++) {
        cmif_tee named = policy->measured[i].tee;
        if (named != CMIF_TEE_TPM && !(policy->tees & 1u << named)) {
            *any     = true;
            this_one = this_one || named == tee;
        }
    }
    return this_one;
}

static void check_ak(check *c)
{
    const cmif_attest_policy *policy = c->call->policy;
    uint8_t                   digest[32];
    cmif_tee                  tee;
    bool                      any;
    if (!key_digest(c->ak, digest)) {
        cmif_verdict_worse(c->v, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "TPM attestation key: OpenSSL could not hash it");
        return;
    }
    cmif_verdict_hex(c->v, "ak_spki", digest, sizeof digest);
    if (c->has_public) {
        cmif_verdict_hex(c->v, "ak_name", c->public.name, c->public.name_size);
        cmif_verdict_text(c->v, "ak_attributes", "0x%08x", c->public.attributes);
        if (!cmif_tpm_is_restricted_signer(
                c->public.attributes)) { /* it would sign a TPMS_ATTEST that somebody made up */
            cmif_verdict_reason(c->v, "AK is not a restricted signing key");
        }
    }
    const bool certificate = proved_by_certificate(c), in_tee = proved_by_tee(c, &tee), activated = is_activated(c),
               pinned = is_pinned(c, digest);
    if (!wants_tee(policy, in_tee ? tee : CMIF_TEE_NONE, &any) && any) {
        cmif_verdict_reason(c->v, "no-tee");
    }
    if (policy->ak_pin_count && !pinned) {
        cmif_verdict_reason(c->v, "ak-not-pinned");
    }
    cmif_verdict_text(c->v, "ak_trust", "%s%s%s%s", certificate ? "certificate " : "", in_tee ? "tee " : "",
                      activated ? "activation " : "", pinned ? "pin " : "");
    if (!certificate && !in_tee && !activated) {
        if (!pinned) {
            cmif_verdict_reason(c->v, "ak-untrusted");
            return;
        }
        /* somebody says that it is a TPM's key; nothing here shows it */
        cmif_verdict_unchecked(c->v, "ak-pinned", policy->loosened.ak_pinned);
        if (!c->has_public) {
            cmif_verdict_unchecked(c->v, "ak-attributes", policy->loosened.ak_pinned);
        }
    }
}

/* ---- what it has signed ---- */
static const char *scheme_name(unsigned scheme)
{
    return scheme == CMIF_TPM_RSASSA ? "rsassa" : scheme == CMIF_TPM_RSAPSS ? "rsapss" : "ecdsa";
}

static bool check_signature(check *c, const cmif_item *message, const cmif_item *item, cmif_tpm_signature *signature,
                            const char *error)
{
    cmif_err  err  = {0};
    size_t    size = EVP_PKEY_is_a(c->ak, "RSA") ? (size_t) EVP_PKEY_get_size(c->ak) : 0;
    cmif_code rc   = cmif_tpm_signature_read(item->data, item->size, size, signature, &err);
    if (rc != CMIF_OK) {
        malformed(c, rc, &err, error);
        return false;
    }
    if (signature->hash == CMIF_TPM_SHA1) {
        cmif_verdict_reason(c->v, "sha1");
    }
    if (c->has_public && c->public.scheme != CMIF_TPM_NULL &&
        (signature->scheme != c->public.scheme || signature->hash != c->public.scheme_hash)) {
        cmif_verdict_invalid(c->v, "signature-scheme");
    }
    int good = cmif_tpm_verify(c->ak, signature, message->data, message->size);
    if (good < 0) {
        cmif_verdict_worse(c->v, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "TPM signature: OpenSSL has no memory");
    }
    if (good != 1) {
        cmif_verdict_invalid(c->v, error);
    }
    return true;
}

static void check_nonce(check *c, const cmif_tpm_bytes *extra)
{
    const cmif_attest_policy *policy = c->call->policy;
    if (!policy->report_data) {
        cmif_verdict_unchecked(c->v, "report-data", policy->loosened.no_report_data);
    } else if (policy->report_data_size == 0 || extra->size != policy->report_data_size ||
               CRYPTO_memcmp(extra->data, policy->report_data, extra->size) != 0) {
        cmif_verdict_reason(c->v, "report-data");
    }
}

static void tell_quote(check *c)
{
    const cmif_tpm_attest *q = &c->quote;
    cmif_verdict_text(c->v, "type", "%04x", q->type);
    cmif_verdict_hex(c->v, "qualified_signer", q->signer.data, q->signer.size);
    cmif_verdict_hex(c->v, "extra_data", q->extra.data, q->extra.size);
    cmif_verdict_number(c->v, "clock", q->clock);
    cmif_verdict_number(c->v, "reset_count", q->reset_count);
    cmif_verdict_number(c->v, "restart_count", q->restart_count);
    cmif_verdict_number(c->v, "safe", q->safe);
    cmif_verdict_text(c->v, "firmware", "%016llx", (unsigned long long) q->firmware);
    cmif_verdict_hex(c->v, "pcr_digest", q->digest.data, q->digest.size);
    cmif_verdict_text(c->v, "sig_alg", "%s", scheme_name(c->signature.scheme));
    cmif_verdict_text(c->v, "sig_hash", "%s", cmif_tpm_hash_name(c->signature.hash));
}

/* PCRs that the policy wants, and how long their values are: 0 when it measures none. */
static uint32_t wanted_pcrs(const cmif_attest_policy *policy, size_t *value_size)
{
    uint32_t mask = 0;
    *value_size   = 0;
    for (size_t i = 0; i < policy->measured_count; i++) {
        const cmif_measured *m = &policy->measured[i];
        for (unsigned n = 0; m->tee == CMIF_TEE_TPM && n < CMIF_PCRS; n++) {
            char name[16];
            snprintf(name, sizeof name, "pcr%u", n);
            if (!strcmp(m->name, name)) {
                mask |= 1u << n;
                *value_size = m->size;
            }
        }
    }
    return policy->pcr_mask ? policy->pcr_mask : mask;
}

/* One bank, no SHA-1, and exactly the registers that were asked for: a quote of fewer, or of none, has a good signature
 * as well. */
static bool check_selection(check *c, cmif_pcrs *pcrs)
{
    size_t   value_size;
    uint32_t want = wanted_pcrs(c->call->policy, &value_size);
    bool     one  = c->quote.selection_count == 1;
    *pcrs = (cmif_pcrs){.bank = one ? c->quote.selection[0].bank : 0, .mask = one ? c->quote.selection[0].mask : 0};
    if (pcrs->bank == CMIF_TPM_SHA1) {
        cmif_verdict_reason(c->v, "sha1");
    }
    size_t size = cmif_tpm_hash_size(pcrs->bank);
    if (!pcrs->mask || !size || (want && want != pcrs->mask) || (value_size && value_size != size)) {
        cmif_verdict_reason(c->v, "pcr-selection");
    }
    if (!pcrs->mask || !size) {
        return false;
    }
    char        list[CMIF_PCRS * 3 + 1] = "";
    cmif_writer w                       = cmif_writer_over(list, sizeof list - 1);
    for (unsigned i = 0; i < CMIF_PCRS; i++) {
        char text[8];
        if (pcrs->mask >> i & 1) {
            int n = snprintf(text, sizeof text, "%s%u", w.at ? "," : "", i);
            cmif_write_bytes(&w, text, (size_t) n);
        }
    }
    cmif_verdict_text(c->v, "pcr_bank", "%s", cmif_tpm_hash_name(pcrs->bank));
    cmif_verdict_text(c->v, "pcr_select", "%s", list);
    return true;
}

/* Values for the quoted registers: as they came, or as the event log makes them. false: neither is there, or it cannot
 * be read. */
static bool find_values(check *c, cmif_pcrs *pcrs)
{
    const cmif_item *item = cmif_call_one(c->call, CMIF_ITEM_TPM_PCRS),
                    *log  = item ? NULL : cmif_call_one(c->call, CMIF_ITEM_EVENT_LOG);
    cmif_replay replay;
    cmif_err    err = {0};
    if (item) {
        cmif_code rc = cmif_pcrs_read(item->data, item->size, pcrs, &err);
        if (rc != CMIF_OK) {
            malformed(c, rc, &err, "pcr-values");
        }
        return rc == CMIF_OK;
    }
    if (log && cmif_event_log_replay(log->data, log->size, &replay, &err) ==
                   CMIF_OK) { /* a bad log is told of by cmif_event_log_check */
        for (size_t b = 0; b < replay.bank_count; b++) {
            if (replay.bank[b].alg == pcrs->bank && replay.bank[b].size) {
                memcpy(pcrs->value, replay.bank[b].value, sizeof pcrs->value);
                return true;
            }
        }
    }
    cmif_verdict_unchecked(c->v, "pcr-values", c->call->policy->loosened.any_measurement);
    return false;
}

static void check_pcrs(check *c)
{
    cmif_pcrs pcrs;
    uint8_t   digest[64];
    cmif_err  err = {0};
    if (!check_selection(c, &pcrs) || !find_values(c, &pcrs)) {
        return;
    }
    size_t size = cmif_tpm_hash_size(c->signature.hash);
    if (cmif_pcrs_digest(&pcrs, c->signature.hash, digest, &err) != CMIF_OK) {
        cmif_verdict_worse(c->v, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "%s", err.text);
    } else if (c->quote.digest.size != size || CRYPTO_memcmp(digest, c->quote.digest.data, size) != 0) {
        cmif_verdict_invalid(c->v, "pcr-digest");
    } else {
        for (unsigned i = 0; i < CMIF_PCRS; i++) {
            char name[16];
            snprintf(name, sizeof name, "pcr%u", i);
            if (pcrs.mask >> i & 1) {
                cmif_verdict_hex(c->v, name, pcrs.value[i], cmif_tpm_hash_size(pcrs.bank));
            }
        }
    }
}

/* TPM2_Certify: the AK says that a key of this Name is in its TPM. */
static void check_certified(check *c)
{
    const uint32_t     must = CMIF_TPMA_FIXED_TPM | CMIF_TPMA_FIXED_PARENT | CMIF_TPMA_ORIGIN;
    const cmif_item   *item = cmif_call_one(c->call, CMIF_ITEM_TPM_KEY);
    cmif_tpm_signature signature;
    cmif_tpm_attest    certify;
    cmif_tpm_public public;
    uint8_t  digest[32];
    cmif_err err = {0};
    if (!c->certify_item || !item) {
        if (c->certify_item || item) {
            cmif_verdict_invalid(c->v, item ? "key-not-certified" : "certified-key-missing");
        }
        return;
    }
    cmif_code rc = cmif_tpm_attest_read(c->certify_item->data, c->certify_item->size, &certify, &err);
    if (rc == CMIF_OK) {
        rc = cmif_tpm_public_read(item->data, item->size, &public, &err);
    }
    if (rc != CMIF_OK) {
        malformed(c, rc, &err, "certified-key");
        return;
    }
    check_signature(c, c->certify_item, c->certify_signature, &signature, "certify-signature");
    check_nonce(c, &certify.extra);
    if (certify.signer.size != c->quote.signer.size ||
        memcmp(certify.signer.data, c->quote.signer.data, certify.signer.size) != 0) {
        cmif_verdict_invalid(c->v, "certify-signer");
    }
    EVP_PKEY *key = cmif_tpm_public_key(&public);
    if (certify.name.size != public.name_size || memcmp(certify.name.data, public.name, public.name_size) != 0) {
        cmif_verdict_invalid(c->v, "certified-name");
    } else if (!key || (public.attributes & must) != must) { /* a key that left or entered the TPM is not the TPM's */
        cmif_verdict_reason(c->v, "certified-key-attributes");
    } else if (key_digest(key, digest)) {
        cmif_verdict_hex(c->v, "certified_spki", digest, sizeof digest);
        cmif_verdict_hex(c->v, "certified_name", public.name, public.name_size);
    }
    EVP_PKEY_free(key);
}

void cmif_tpm_check(cmif_attest_call *call)
{
    check c  = {.call = call, .v = call->verdict};
    c.v->tee = CMIF_TEE_TPM;
    if (find_items(&c) && find_ak(&c) &&
        check_signature(&c, c.quote_item, c.quote_signature, &c.signature, "quote-signature")) {
        tell_quote(&c);
        check_nonce(&c, &c.quote.extra);
        check_pcrs(&c);
        check_certified(&c);
        check_ak(&c);
        cmif_call_measured(call, CMIF_TEE_TPM);
        call->proved = true;
    }
    EVP_PKEY_free(c.ak);
    if (c.has_hcl) {
        cmif_hcl_wipe(&c.hcl);
    }
}

/* ---- the endorsement key of an activation ---- */
cmif_code cmif_tpm_ek_check(const uint8_t *ek, size_t ek_size, const cmif_item *certificates, size_t count,
                            const cmif_attest_policy *policy, int64_t time, cmif_err *err)
{
    const cmif_path_rules rules = {.root_kinds = cmif_root_kinds(policy, CMIF_TEE_TPM, CMIF_ROOT_ANY_TPM),
                                   .keys       = CMIF_KEY_RSA | CMIF_KEY_P256 | CMIF_KEY_P384,
                                   .signatures = CMIF_SIG_RSA_SHA2 | CMIF_SIG_ECDSA_SHA256 | CMIF_SIG_ECDSA_SHA384,
                                   .time       = time,
                                   .tolerance  = policy->tolerance};
    cmif_pool             pool;
    cmif_tpm_public public;
    EVP_PKEY *key   = NULL;
    X509     *found = NULL;
    cmif_path path;
    cmif_code rc = cmif_pool_init(&pool, CMIF_ROOT_ANY_TPM, policy, err);
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        rc = certificates[i].kind == CMIF_ITEM_CRL
                 ? cmif_pool_add_crls(&pool, certificates[i].data, certificates[i].size, err)
                 : cmif_pool_add_certificates(&pool, certificates[i].data, certificates[i].size, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_tpm_public_read(ek, ek_size, &public, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    key = cmif_tpm_public_key(&public);
    for (size_t i = 0; i < pool.certificate_count && key && !found; i++) {
        EVP_PKEY *its = X509_get0_pubkey(pool.certificates[i]);
        if (its && EVP_PKEY_eq(its, key) == 1 && is_ek_certificate(pool.certificates[i])) {
            found = pool.certificates[i];
        }
    }
    if (!found) {
        rc = cmif_fail(err, CMIF_E_TRUST,
                       "endorsement key: no certificate of an endorsement key (2.23.133.8.1, or for encryption alone) "
                       "is of this key");
        goto done;
    }
    cmif_path_build(&pool, found, &rules, &path);
    cmif_path_check_crls(&pool, &rules, true, &path);
    if (policy->loosened.no_crl) {
        path.problems &= ~(unsigned) CMIF_PATH_NO_CRL;
    }
    if (path.problems || cmif_path_rolled_back(&path, policy)) {
        rc = cmif_fail(
            err, CMIF_E_TRUST, "endorsement key: its certificate is not good at this time:%s%s%s%s%s%s",
            path.problems & CMIF_PATH_UNTRUSTED ? " no path to a root;" : "",
            path.problems & (CMIF_PATH_EXPIRED | CMIF_PATH_NOT_YET_VALID) ? " expired, or not yet valid;" : "",
            path.problems & (CMIF_PATH_CONSTRAINTS | CMIF_PATH_ALGORITHM)
                ? " not allowed as issuer, or a weak algorithm;"
                : "",
            path.problems & CMIF_PATH_REVOKED ? " revoked;" : "",
            path.problems &
                    (CMIF_PATH_NO_CRL | CMIF_PATH_CRL_INVALID | CMIF_PATH_CRL_EXPIRED | CMIF_PATH_CRL_NOT_YET_VALID)
                ? " its revocation is not known;"
                : "",
            cmif_path_rolled_back(&path, policy) ? " its CRL is older than one that was believed;" : "");
    }
done:
    EVP_PKEY_free(key);
    cmif_pool_wipe(&pool);
    return rc;
}
