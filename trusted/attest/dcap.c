#include "attest/dcap.h"

#include "attest/ratls.h"
#include "attest/x509.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

const uint8_t cmif_oid_sgx_extension[9] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};

enum { DER_INTEGER = 2, DER_OCTETS = 4, DER_OID = 6, DER_SEQUENCE = 0x30 };

/* ---- the SGX extension of a PCK certificate ---- */

/* A DER INTEGER of at most `most`. */
static bool small_integer(uint8_t tag, cmif_reader value, uint32_t most, uint32_t *out)
{
    uint32_t number = 0;
    if (tag != DER_INTEGER || value.size == 0 || value.size > 3 || value.data[0] & 0x80 ||
        (value.size > 1 && value.data[0] == 0 && !(value.data[1] & 0x80))) {
        return false;
    }
    for (size_t i = 0; i < value.size; i++) {
        number = number << 8 | value.data[i];
    }
    *out = number;
    return number <= most;
}

static bool octets(uint8_t tag, cmif_reader value, uint8_t *out, size_t size)
{
    if (tag != DER_OCTETS || value.size != size) {
        return false;
    }
    memcpy(out, value.data, size);
    return true;
}

/* The next {OID, value} of a sequence; the OID is `prefix` and one arc, which goes to *arc. */
static bool next_pair(cmif_reader *r, const uint8_t *prefix, size_t prefix_size, unsigned *arc, uint8_t *tag,
                      cmif_reader *value)
{
    uint8_t     pair_tag, oid_tag;
    cmif_reader pair, oid;
    if (!cmif_der_next(r, &pair_tag, &pair) || pair_tag != DER_SEQUENCE || !cmif_der_next(&pair, &oid_tag, &oid) ||
        oid_tag != DER_OID || oid.size != prefix_size + 1 || memcmp(oid.data, prefix, prefix_size) != 0 ||
        !cmif_der_next(&pair, tag, value) || pair.at != pair.size) {
        return false;
    }
    *arc = oid.data[prefix_size];
    return true;
}

static bool read_tcb(cmif_reader r, cmif_pck *out)
{
    uint8_t     prefix[10];
    uint32_t    seen = 0, number;
    unsigned    arc;
    uint8_t     tag;
    cmif_reader value;
    memcpy(prefix, cmif_oid_sgx_extension, 9);
    prefix[9] = 2;
    while (r.at < r.size) {
        if (!next_pair(&r, prefix, sizeof prefix, &arc, &tag, &value) || arc < 1 || arc > 18 || seen & 1u << arc) {
            return false;
        }
        seen |= 1u << arc;
        if (arc == 18) {
            if (!octets(tag, value, out->cpusvn, sizeof out->cpusvn)) {
                return false;
            }
        } else if (!small_integer(tag, value, arc == 17 ? 65535 : 255, &number)) {
            return false;
        } else if (arc == 17) {
            out->pcesvn = (uint16_t) number;
        } else {
            out->components[arc - 1] = (uint8_t) number;
        }
    }
    return seen == (1u << 19) - 2;
}

bool cmif_pck_read(cmif_reader extension, cmif_pck *out)
{
    cmif_pck    pck = {0};
    uint8_t     tag;
    cmif_reader all, value;
    uint32_t    seen = 0;
    unsigned    arc;
    if (!cmif_der_next(&extension, &tag, &all) || tag != DER_SEQUENCE || extension.at != extension.size) {
        return false;
    }
    while (all.at < all.size) {
        if (!next_pair(&all, cmif_oid_sgx_extension, sizeof cmif_oid_sgx_extension, &arc, &tag, &value) || arc < 1 ||
            arc > 31 || seen & 1u << arc) {
            return false;
        }
        seen |= 1u << arc;
        if ((arc == 2 && (tag != DER_SEQUENCE || !read_tcb(value, &pck))) ||
            (arc == 3 && !octets(tag, value, pck.pceid, sizeof pck.pceid)) ||
            (arc == 4 && !octets(tag, value, pck.fmspc, sizeof pck.fmspc))) {
            return false;
        }
    }
    if (~seen & (1u << 2 | 1u << 3 | 1u << 4)) {
        return false;
    }
    *out = pck;
    return true;
}

/* ---- the steps ---- */

static cmif_path_rules intel_rules(const cmif_attest_call *call)
{
    return (cmif_path_rules){.root_kinds = cmif_root_kinds(call->policy, call->verdict->tee, CMIF_ROOT_INTEL),
                             .keys       = CMIF_KEY_P256,
                             .signatures = CMIF_SIG_ECDSA_SHA256,
                             .time       = call->time,
                             .tolerance  = call->policy->tolerance};
}

static void no_memory(cmif_attest_call *call)
{
    cmif_verdict_worse(call->verdict, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "no memory, or OpenSSL failed");
}

/* result is that of cmif_ecdsa_verify */
static bool signature_holds(cmif_attest_call *call, int result)
{
    if (result < 0) {
        no_memory(call);
    }
    return result == 1;
}

static void tell_pck(cmif_verdict *v, X509 *leaf, const cmif_pck *pck)
{
    char    text[128] = "";
    BIGNUM *serial    = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
    char   *hex       = serial ? BN_bn2hex(serial) : NULL;
    if (hex) {
        for (char *c = hex; *c; c++) {
            *c = *c >= 'A' && *c <= 'F' ? (char) (*c + 32) : *c;
        }
        cmif_verdict_text(v, "pck_serial", "%s", hex);
    }
    OPENSSL_free(hex);
    BN_free(serial);
    X509_NAME_get_text_by_NID(X509_get_issuer_name(leaf), NID_commonName, text, sizeof text);
    cmif_verdict_text(v, "pck_issuer_cn", "%s", text);
    cmif_verdict_hex(v, "pck_fmspc", pck->fmspc, sizeof pck->fmspc);
    cmif_verdict_hex(v, "pck_pceid", pck->pceid, sizeof pck->pceid);
    cmif_verdict_hex(v, "pck_cpusvn", pck->components, sizeof pck->components);
    cmif_verdict_number(v, "pck_pcesvn", pck->pcesvn);
}

static bool sgx_extension(const X509 *certificate, cmif_reader *extension)
{
    return cmif_x509_extension(certificate, cmif_oid_sgx_extension, sizeof cmif_oid_sgx_extension, extension);
}

/* The PCK certificate: the one with the SGX extension among those that the quote brings. A quote that only names its
 * platform (by its PPID, mostly encrypted) has it brought beside: the one whose key has signed the QE report. NULL:
 * there is none, and the verdict says so. */
static X509 *find_pck(cmif_attest_call *call, const cmif_quote *quote)
{
    cmif_verdict *v     = call->verdict;
    cmif_err      err   = {0};
    X509         *leaf  = NULL;
    size_t        first = call->pool->certificate_count, size = quote->certification_size;
    cmif_reader   extension;
    if (quote->certification_type != CMIF_QUOTE_PCK_CHAIN) {
        for (size_t i = 0; i < first && !leaf && quote->certification_type <= 3; i++) {
            X509 *c = call->pool->certificates[i];
            if (sgx_extension(c, &extension) && cmif_x509_key_is(c, CMIF_KEY_P256) && cmif_pool_spend(call->pool) &&
                signature_holds(call, cmif_ecdsa_verify(X509_get0_pubkey(c), quote->qe_signature, 64, quote->qe_report,
                                                        CMIF_SGX_REPORT_SIZE))) {
                leaf = c;
            }
        }
        if (!leaf) {
            cmif_verdict_invalid(v, "certification-data");
            cmif_verdict_worse(v, CMIF_UNSUPPORTED, CMIF_E_UNSUPPORTED,
                               "unsupported certification data: type %u, which does not bring the PCK certificate "
                               "(5 does), and it is not beside it either",
                               quote->certification_type);
        }
        return leaf;
    }
    while (size && quote->certification[size - 1] == 0) {
        size--; /* a C string, as it is usually written */
    }
    cmif_code rc = cmif_pool_add_certificates(call->pool, quote->certification, size, &err);
    if (rc != CMIF_OK) {
        cmif_verdict_invalid(v, "pck-format");
        cmif_verdict_worse(v, rc == CMIF_E_MEMORY ? CMIF_ATTEST_INTERNAL : CMIF_MALFORMED, rc,
                           "PCK chain in the quote: %s", err.text);
        return NULL;
    }
    for (size_t i = first; i < call->pool->certificate_count; i++) {
        if (sgx_extension(call->pool->certificates[i], &extension)) {
            if (leaf) {
                cmif_verdict_invalid(v, "pck-two");
                return NULL;
            }
            leaf = call->pool->certificates[i];
        }
    }
    if (!leaf) {
        cmif_verdict_invalid(v, "pck-missing");
    }
    return leaf;
}

/* The PCK certificate, its path to our root, its revocation, and what it says. NULL: find_pck's. */
static X509 *check_pck(cmif_attest_call *call, const cmif_quote *quote, bool no_collateral, cmif_pck *pck,
                       bool *pck_read)
{
    cmif_verdict *v    = call->verdict;
    X509         *leaf = find_pck(call, quote);
    cmif_reader   extension;
    *pck_read = leaf && sgx_extension(leaf, &extension) && cmif_pck_read(extension, pck);
    if (!leaf) {
        return NULL;
    }
    if (*pck_read) {
        tell_pck(v, leaf, pck);
    } else {
        cmif_verdict_invalid(v, "pck-extension");
    }

    cmif_path       path;
    cmif_path_rules rules = intel_rules(call);
    cmif_path_build(call->pool, leaf, &rules, &path);
    cmif_path_check_crls(call->pool, &rules, true, &path);
    v->crl_this_update = path.crl_this_update;
    if (path.problems & CMIF_PATH_NO_CRL && no_collateral) { /* nothing at all was given: said once */
        path.problems &= ~(unsigned) CMIF_PATH_NO_CRL;
        cmif_verdict_unchecked(v, "revocation-pck", true);
    }
    cmif_path_tell(&path, "pck", false, call);
    if (!(path.problems & CMIF_PATH_UNTRUSTED) &&
        (path.count != 3 || !cmif_x509_has_name(leaf, "Intel SGX PCK Certificate") ||
         !(cmif_x509_has_name(path.certificates[1], "Intel SGX PCK Platform CA") ||
           cmif_x509_has_name(path.certificates[1], "Intel SGX PCK Processor CA")))) {
        cmif_verdict_invalid(v, "pck-names");
    }
    return leaf;
}

/* Signatures of the quote itself: PCK key -> QE report -> attestation key -> body. leaf NULL: the first link is known
 * to be missing. The QE's report data is the hash and 32 zeros, and all of it is compared. */
static void check_signatures(cmif_attest_call *call, const cmif_quote *q, X509 *leaf)
{
    cmif_verdict *v        = call->verdict;
    uint8_t       want[64] = {0};
    EVP_PKEY     *key = cmif_p256_key(q->key), *pck_key = leaf ? X509_get0_pubkey(leaf) : NULL;
    EVP_MD_CTX   *hash = EVP_MD_CTX_new();
    if (leaf &&
        (!cmif_x509_key_is(leaf, CMIF_KEY_P256) ||
         !signature_holds(call, cmif_ecdsa_verify(pck_key, q->qe_signature, 64, q->qe_report, CMIF_SGX_REPORT_SIZE)))) {
        cmif_verdict_invalid(v, "qe-report-signature");
    }
    if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(hash, q->key, 64) != 1 ||
        EVP_DigestUpdate(hash, q->auth, q->auth_size) != 1 || EVP_DigestFinal_ex(hash, want, NULL) != 1) {
        no_memory(call);
    } else if (CRYPTO_memcmp(want, q->qe_report + CMIF_SGX_REPORT_DATA, sizeof want) != 0) {
        cmif_verdict_invalid(v, "qe-report-data");
    }
    if (!key || !signature_holds(call, cmif_ecdsa_verify(key, q->signature, 64, q->signed_bytes, q->signed_size))) {
        cmif_verdict_invalid(v, "quote-signature");
    }
    EVP_MD_CTX_free(hash);
    EVP_PKEY_free(key);
}

uint32_t cmif_document_read(const cmif_json *json, const char *name, uint8_t signature[static 64])
{
    const uint32_t value = cmif_json_get(json, 0, name);
    const bool     good  = value != CMIF_JSON_NONE && json->nodes[value].type == CMIF_JSON_OBJECT &&
                      cmif_json_hex(json, cmif_json_get(json, 0, "signature"), signature, 64) &&
                      json->count == json->nodes[value].next - value + 4; /* these two members and no third */
    return good ? value : CMIF_JSON_NONE;
}

X509 *cmif_document_signer(cmif_pool *pool, const cmif_path_rules *rules, const uint8_t *value, size_t size,
                           const uint8_t signature[static 64], cmif_path *path, bool *memory)
{
    X509 *signer = NULL;
    for (size_t i = 0; i < pool->certificate_count; i++) { /* it was renewed with its key: take one that is valid */
        X509 *candidate = pool->certificates[i];
        if ((signer && !path->problems) || !cmif_x509_has_name(candidate, CMIF_TCB_SIGNER_NAME) ||
            !cmif_x509_key_is(candidate, CMIF_KEY_P256) || !cmif_pool_spend(pool)) {
            continue;
        }
        const int holds = cmif_ecdsa_verify(X509_get0_pubkey(candidate), signature, 64, value, size);
        *memory         = *memory && holds >= 0;
        if (holds == 1) {
            cmif_path other;
            cmif_path_build(pool, candidate, rules, &other);
            cmif_path_check_crls(pool, rules, true, &other);
            if (!signer || !other.problems) {
                signer = candidate;
                *path  = other;
            }
        }
    }
    return signer;
}

/* The signature is over the bytes of the value as they are. The node is CMIF_JSON_NONE unless it holds under a TCB
 * signing certificate. */
static uint32_t check_document(cmif_attest_call *call, const cmif_item *item, const char *name, const char *what,
                               cmif_json *json)
{
    cmif_verdict   *v   = call->verdict;
    cmif_err        err = {0};
    uint8_t         signature[64];
    char            error[CMIF_REASON_SIZE];
    cmif_path       path   = {0};
    bool            memory = true;
    cmif_path_rules rules  = intel_rules(call);
    cmif_code       rc     = cmif_json_parse(item->data, item->size, json, &err);
    snprintf(error, sizeof error, "%s-format", what);
    if (rc != CMIF_OK) {
        cmif_verdict_invalid_collateral(v, error);
        cmif_verdict_worse(v, rc == CMIF_E_MEMORY ? CMIF_ATTEST_INTERNAL : CMIF_MALFORMED, rc, "%s: %s", what,
                           err.text);
        return CMIF_JSON_NONE;
    }
    const uint32_t value = cmif_document_read(json, name, signature);
    if (value == CMIF_JSON_NONE) {
        cmif_verdict_invalid_collateral(v, error);
        cmif_verdict_worse(v, CMIF_MALFORMED, CMIF_E_FORMAT,
                           "%s: an object of '%s' and a 'signature' of 128 digits expected", what, name);
        return CMIF_JSON_NONE;
    }
    const X509 *signer = cmif_document_signer(call->pool, &rules, item->data + json->nodes[value].start,
                                              json->nodes[value].size, signature, &path, &memory);
    if (!memory) {
        no_memory(call);
    }
    if (!signer) {
        snprintf(error, sizeof error, "%s-signature", what);
        cmif_verdict_invalid_collateral(v, error);
        return CMIF_JSON_NONE;
    }
    cmif_path_tell(&path, "tcb-signing", true, call);
    if (path.problems & (CMIF_PATH_UNTRUSTED | CMIF_PATH_CONSTRAINTS | CMIF_PATH_ALGORITHM)) {
        return CMIF_JSON_NONE;
    }
    if (path.count != 2) { /* issued by the root itself: the PCK CAs sign no TCB certificates */
        cmif_verdict_invalid_collateral(v, "tcb-signing-names");
        return CMIF_JSON_NONE;
    }
    return value;
}

/* TCB info and QE identity. */
static void check_collateral(cmif_attest_call *call, const cmif_quote *q, const cmif_pck *pck)
{
    const cmif_attest_policy *policy   = call->policy;
    cmif_verdict             *v        = call->verdict;
    const cmif_item          *info     = cmif_call_one(call, CMIF_ITEM_TCB_INFO);
    const cmif_item          *identity = cmif_call_one(call, CMIF_ITEM_QE_IDENTITY);
    cmif_json                 json     = {0};
    cmif_tcb_age              found;
    uint32_t                  node;
    if (!info || !identity) {
        cmif_verdict_reason(v, "no-collateral");
    }
    if (!identity) {
        cmif_verdict_unchecked(v, "qe-identity", true);
    } else {
        node                    = check_document(call, identity, "enclaveIdentity", "qe-identity", &json);
        const cmif_tcb_age seen = {.issue = policy->seen_qe_issue, .evaluation = policy->seen_qe_evaluation};
        if (node != CMIF_JSON_NONE && cmif_tcb_dates(call, &json, node, "qe-identity", seen, &found)) {
            v->qe_issue      = found.issue;
            v->qe_evaluation = found.evaluation;
            cmif_tcb_qe(call, &json, node, q);
        }
        cmif_json_wipe(&json);
    }
    if (!info) {
        cmif_verdict_unchecked(v, "tcb", true);
    } else {
        node                    = check_document(call, info, "tcbInfo", "tcb-info", &json);
        const cmif_tcb_age seen = {.issue = policy->seen_tcb_issue, .evaluation = policy->seen_tcb_evaluation};
        if (node != CMIF_JSON_NONE && cmif_tcb_dates(call, &json, node, "tcb-info", seen, &found)) {
            v->tcb_issue      = found.issue;
            v->tcb_evaluation = found.evaluation;
            if (pck) {
                cmif_tcb_platform(call, &json, node, q, pck);
            }
        }
        cmif_json_wipe(&json);
    }
    /* by no policy: */
    const unsigned never = 1u << CMIF_TCB_NONE | 1u << CMIF_TCB_REVOKED | 1u << CMIF_TCB_NOT_SUPPORTED;
    if (v->tcb_status != CMIF_TCB_NONE && !((policy->statuses & ~never) >> v->tcb_status & 1)) {
        cmif_verdict_reasonf(v, "tcb-%s", cmif_tcb_status_name(v->tcb_status));
    } else if (v->tcb_status == CMIF_TCB_NONE && v->reason_count == 0) {
        cmif_verdict_reason(v, "tcb-none"); /* cannot be: whatever left it open gave a reason */
    }
}

/* What no TCB status covers: debug, and attributes by policy. */
static void check_attributes(cmif_attest_call *call, const cmif_quote *q)
{
    static const uint8_t      zero[48];
    cmif_verdict             *v      = call->verdict;
    const cmif_attest_policy *policy = call->policy;
    cmif_reader               r      = cmif_reader_over(q->body, q->body_size);
    if (q->tee == CMIF_TEE_SGX) {
        cmif_read_bytes(&r, CMIF_SGX_ATTRIBUTES);
        uint64_t attributes = cmif_read_u64(&r);
        cmif_read_bytes(&r, CMIF_SGX_ISVPRODID - CMIF_SGX_ATTRIBUTES - 8);
        unsigned product = cmif_read_u16(&r), svn = cmif_read_u16(&r);
        v->debug = attributes & 2;
        if (!(attributes & 1)) {
            cmif_verdict_reason(v, "sgx-attributes"); /* an enclave that was never initialised reports nothing */
        }
        if (policy->sgx_isvprodid >= 0 && policy->sgx_isvprodid != product) {
            cmif_verdict_reason(v, "isvprodid");
        }
        if (svn < policy->sgx_minimum_isvsvn) {
            cmif_verdict_reason(v, "isvsvn");
        }
    } else {
        cmif_read_bytes(&r, CMIF_TD_ATTRIBUTES);
        uint64_t attributes = cmif_read_u64(&r);
        v->debug            = attributes & 0xff; /* bit 0 is DEBUG, 1 to 7 are of the same untrusted group */
        if ((attributes & policy->td_required) != policy->td_required || attributes & policy->td_forbidden) {
            cmif_verdict_reason(v, "td-attributes");
        }
        if (q->body_size == CMIF_TD_REPORT15_SIZE && memcmp(q->body + CMIF_TD_MRSERVICETD, zero, sizeof zero) != 0 &&
            !policy->loosened.servtd) {
            cmif_verdict_reason(v, "td-service");
        }
    }
    if (v->debug && !policy->loosened.debug) {
        cmif_verdict_reason(v, "debug");
    }
}

bool cmif_dcap_check_quote(cmif_attest_call *call, const uint8_t *data, size_t size, uint8_t report_data[static 64])
{
    cmif_verdict *v   = call->verdict;
    cmif_err      err = {0};
    cmif_quote    q;
    cmif_pck      pck;
    bool          pck_read, no_collateral = call->pool->crl_count == 0;
    cmif_code     rc = cmif_quote_parse(data, size, &q, &err);
    if (rc != CMIF_OK) {
        cmif_verdict_invalid(v, rc == CMIF_E_UNSUPPORTED ? "quote-unsupported" : "quote-format");
        cmif_verdict_worse(v, rc == CMIF_E_UNSUPPORTED ? CMIF_UNSUPPORTED : CMIF_MALFORMED, rc, "%s", err.text);
        return false;
    }
    for (size_t i = 0; i < call->count; i++) {
        no_collateral =
            no_collateral && call->items[i].kind != CMIF_ITEM_TCB_INFO && call->items[i].kind != CMIF_ITEM_QE_IDENTITY;
    }
    v->tee = q.tee;
    cmif_quote_fields(&q, v);
    if (!q.trailing_zero) {
        cmif_verdict_reason(v, "non-zero-trailing-bytes");
    }
    X509 *leaf = check_pck(call, &q, no_collateral, &pck, &pck_read);
    check_signatures(call, &q, leaf);
    if (leaf) {
        check_collateral(call, &q, pck_read ? &pck : NULL);
    }
    check_attributes(call, &q);
    memcpy(report_data, cmif_quote_report_data(&q), 64);
    return true;
}

void cmif_dcap_check(cmif_attest_call *call)
{
    cmif_verdict    *v     = call->verdict;
    const cmif_item *quote = cmif_call_one(call, CMIF_ITEM_QUOTE), *ratls = cmif_call_one(call, CMIF_ITEM_RATLS);
    uint8_t          report_data[64];
    if (v->outcome != CMIF_REJECTED) {
        return;
    }
    if (ratls) {
        cmif_ratls_check(call, ratls, quote);
    } else if (cmif_dcap_check_quote(call, quote->data, quote->size, report_data)) {
        cmif_call_measured(call, v->tee);
        cmif_call_report_data(call, report_data);
        call->proved = true;
    }
}
