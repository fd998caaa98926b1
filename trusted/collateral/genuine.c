#include "collateral/genuine.h"

#include "attest/dcap.h"
#include "attest/snp.h"

#include <openssl/x509v3.h>
#include <string.h>

/* Of any maker. A date counts nowhere: `time` only chooses among certificates of one name. */
static const cmif_path_rules any_rules = {.root_kinds = CMIF_ROOT_PINNED | CMIF_ROOT_OWN_ANY,
                                          .keys       = CMIF_KEY_P256 | CMIF_KEY_P384 | CMIF_KEY_RSA,
                                          .signatures = CMIF_SIG_ECDSA_SHA256 | CMIF_SIG_ECDSA_SHA384 |
                                                        CMIF_SIG_PSS_SHA384 | CMIF_SIG_RSA_SHA2,
                                          .ca = true};
enum {
    FORM = CMIF_PATH_CONSTRAINTS | CMIF_PATH_ALGORITHM | CMIF_PATH_INTERNAL | CMIF_PATH_WORK,
    BAD  = CMIF_PATH_UNTRUSTED | FORM
};

cmif_code cmif_genuine_pool(cmif_pool *pool, const cmif_attest_policy *policy, cmif_err *err)
{
    cmif_code rc = cmif_pool_init(pool, CMIF_ROOT_PINNED, policy, err);
    for (size_t i = 0; rc == CMIF_OK && i < cmif_snp_ca_count; i++) {
        rc = cmif_pool_add_certificates(pool, (const uint8_t *) cmif_snp_cas[i].pem, strlen(cmif_snp_cas[i].pem), err);
    }
    return rc;
}

static cmif_genuine check_certificate(cmif_pool *pool, X509 *c);

/* Something that issues others, is genuine itself, and is not there yet. */
static bool is_new_issuer(cmif_pool *pool, X509 *c)
{
    bool there = false;
    for (size_t i = 0; i < pool->certificate_count; i++) {
        there = there || !X509_cmp(pool->certificates[i], c);
    }
    return !there && pool->certificate_count < CMIF_POOL_CERTIFICATES &&
           ((X509_get_extension_flags(c) & EXFLAG_CA) || cmif_x509_has_name(c, CMIF_TCB_SIGNER_NAME)) &&
           check_certificate(pool, c) == CMIF_GENUINE_YES;
}

bool cmif_genuine_add(cmif_pool *pool, const cmif_item *item)
{
    cmif_pool own = {0};
    bool      any = false;
    if (item->kind == CMIF_ITEM_CERTIFICATES) {
        (void) !cmif_pool_add_certificates(&own, item->data, item->size, NULL);
    } else if (item->kind == CMIF_ITEM_CRL) {
        (void) !cmif_pool_add_crls(&own, item->data, item->size, NULL);
    }
    for (size_t i = 0; i < own.crl_count && pool->crl_count < CMIF_POOL_CRLS; i++) {
        bool there = false;
        for (size_t k = 0; k < pool->crl_count; k++) {
            there = there || !X509_CRL_match(pool->crls[k], own.crls[i]);
        }
        if (!there && X509_CRL_up_ref(own.crls[i])) {
            pool->crls[pool->crl_count++] = own.crls[i];
        }
    }
    for (size_t i = 0; i < own.certificate_count; i++) {
        pool->checks = 0;
        if (is_new_issuer(pool, own.certificates[i]) && X509_up_ref(own.certificates[i])) {
            pool->certificates[pool->certificate_count++] = own.certificates[i];
            any                                           = true;
        }
    }
    cmif_pool_wipe(&own);
    return any;
}

/* Is this the one that is meant, by its name and, where both say it, its key's? Makers have several CAs of one name. */
static bool is_meant(X509 *issuer, const X509_NAME *name, const AUTHORITY_KEYID *key)
{
    return !X509_NAME_cmp(X509_get_subject_name(issuer), name) && (!key || X509_check_akid(issuer, key) == X509_V_OK);
}

/* The n-th that may have issued what has this name and key identifier; NULL: no more. */
static X509 *next_issuer(cmif_pool *pool, const X509_NAME *name, const AUTHORITY_KEYID *key, size_t *n)
{
    while (*n < pool->root_count + pool->certificate_count) {
        X509 *c = *n < pool->root_count ? pool->roots[*n] : pool->certificates[*n - pool->root_count];
        ++*n;
        if (is_meant(c, name, key) && (X509_get_extension_flags(c) & EXFLAG_CA)) {
            return c;
        }
    }
    return NULL;
}

/* Where a path ends below a root: at somebody who is not here, or at a name that somebody here has and did not give. */
static cmif_genuine end_of(cmif_pool *pool, const cmif_path *path)
{
    X509            *last = path->certificates[path->count - 1];
    AUTHORITY_KEYID *key  = X509_get_ext_d2i(last, NID_authority_key_identifier, NULL, NULL);
    size_t           n    = 0;
    const bool       here = next_issuer(pool, X509_get_issuer_name(last), key, &n) != NULL;
    AUTHORITY_KEYID_free(key);
    return here ? CMIF_GENUINE_NO : CMIF_GENUINE_UNKNOWN;
}

static cmif_genuine check_certificate(cmif_pool *pool, X509 *c)
{
    cmif_path path;
    cmif_path_build(pool, c, &any_rules, &path);
    return !(path.problems & BAD)                ? CMIF_GENUINE_YES
           : path.problems & CMIF_PATH_UNTRUSTED ? end_of(pool, &path)
                                                 : CMIF_GENUINE_NO;
}

static cmif_genuine check_crl(cmif_pool *pool, X509_CRL *crl, uint8_t issuer[static 32])
{
    AUTHORITY_KEYID *key    = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
    cmif_genuine     answer = CMIF_GENUINE_UNKNOWN;
    size_t           n      = 0;
    for (X509 *c; answer != CMIF_GENUINE_YES && (c = next_issuer(pool, X509_CRL_get_issuer(crl), key, &n));) {
        unsigned   size = 0;
        const bool good = cmif_pool_spend(pool) && (X509_get_key_usage(c) & KU_CRL_SIGN) &&
                          X509_CRL_verify(crl, X509_get0_pubkey(c)) == 1 &&
                          X509_pubkey_digest(c, EVP_sha256(), issuer, &size) == 1;
        answer = good ? CMIF_GENUINE_YES : CMIF_GENUINE_NO;
    }
    AUTHORITY_KEYID_free(key);
    return answer;
}

/* TCB info or QE identity. */
static cmif_genuine check_document(cmif_pool *pool, const cmif_item *item)
{
    cmif_path_rules rules  = any_rules;
    cmif_json       json   = {0};
    cmif_genuine    answer = CMIF_GENUINE_NO;
    cmif_path       path;
    uint8_t         signature[64];
    bool            memory = true;
    rules.keys             = CMIF_KEY_P256;
    rules.signatures       = CMIF_SIG_ECDSA_SHA256;
    rules.root_kinds       = CMIF_ROOT_INTEL | CMIF_ROOT_OWN << CMIF_TEE_SGX | CMIF_ROOT_OWN << CMIF_TEE_TDX;
    if (cmif_json_parse(item->data, item->size, &json, NULL) != CMIF_OK) {
        return CMIF_GENUINE_NO;
    }
    const uint32_t value =
        cmif_document_read(&json, item->kind == CMIF_ITEM_TCB_INFO ? "tcbInfo" : "enclaveIdentity", signature);
    if (value == CMIF_JSON_NONE) {
        goto done;
    }
    if (cmif_document_signer(pool, &rules, item->data + json.nodes[value].start, json.nodes[value].size, signature,
                             &path, &memory)) { /* issued by the root itself */
        const bool good = !(path.problems & (BAD | CMIF_PATH_REVOKED)) && path.count == 2 && memory;
        answer          = good ? CMIF_GENUINE_YES : CMIF_GENUINE_NO;
        goto done;
    }
    answer = CMIF_GENUINE_UNKNOWN;
    for (size_t i = 0; i < pool->certificate_count; i++) {
        answer = cmif_x509_has_name(pool->certificates[i], CMIF_TCB_SIGNER_NAME) ? CMIF_GENUINE_NO : answer;
    }
done:
    cmif_json_wipe(&json);
    return answer;
}

cmif_genuine cmif_genuine_check(cmif_pool *pool, const cmif_item *item, uint8_t issuer[static 32])
{
    cmif_pool    own    = {0};
    cmif_genuine answer = CMIF_GENUINE_NO;
    pool->checks        = 0;
    memset(issuer, 0, 32);
    if (item->kind == CMIF_ITEM_TCB_INFO || item->kind == CMIF_ITEM_QE_IDENTITY) {
        return check_document(pool, item);
    }
    if (item->kind == CMIF_ITEM_CRL && cmif_pool_add_crls(&own, item->data, item->size, NULL) == CMIF_OK &&
        own.crl_count == 1) {
        answer = check_crl(pool, own.crls[0], issuer);
    } else if (item->kind == CMIF_ITEM_CERTIFICATES &&
               cmif_pool_add_certificates(&own, item->data, item->size, NULL) == CMIF_OK) {
        answer = CMIF_GENUINE_YES; /* if all are */
        for (size_t i = 0; i < own.certificate_count && answer != CMIF_GENUINE_NO; i++) {
            const cmif_genuine one = check_certificate(pool, own.certificates[i]);
            answer                 = one == CMIF_GENUINE_YES ? answer : one;
        }
    }
    cmif_pool_wipe(&own);
    return answer;
}
