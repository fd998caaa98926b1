#include "attest/x509.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

/* ---- DER ---- */

bool cmif_der_next(cmif_reader *r, uint8_t *tag, cmif_reader *value)
{
    size_t  at     = r->at;
    uint8_t t      = cmif_read_u8(r);
    size_t  length = cmif_read_u8(r);
    if (length >= 0x80) { /* long form: one to three bytes, no more than needed */
        size_t bytes = length & 0x7f;
        length       = 0;
        for (size_t i = 0; i < bytes && i < 4; i++) {
            length = length << 8 | cmif_read_u8(r);
        }
        if (bytes == 0 || bytes > 3 || length < 0x80 || length < (size_t) 1 << (8 * (bytes - 1))) {
            r->failed = true;
        }
    }
    const uint8_t *content = cmif_read_bytes(r, length);
    if (!content || (t & 0x1f) == 0x1f) {
        r->at = at;
        return false;
    }
    *tag   = t;
    *value = cmif_reader_over(content, length);
    return true;
}

bool cmif_x509_extension(const X509 *certificate, const uint8_t *oid, size_t oid_size, cmif_reader *value)
{
    size_t found = 0;
    for (int i = 0; i < X509_get_ext_count(certificate); i++) {
        X509_EXTENSION    *extension = X509_get_ext(certificate, i);
        const ASN1_OBJECT *object    = X509_EXTENSION_get_object(extension);
        if (OBJ_length(object) == oid_size && !memcmp(OBJ_get0_data(object), oid, oid_size)) {
            const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(extension);
            *value = cmif_reader_over(ASN1_STRING_get0_data(data), (size_t) ASN1_STRING_length(data));
            found++;
        }
    }
    return found == 1;
}

/* ---- the pool ---- */

/* Did something in OpenSSL's queue fail for want of memory? Empties the queue. */
static bool openssl_no_memory(void)
{
    bool          found = false;
    unsigned long why;
    while ((why = ERR_get_error()) != 0) {
        found = found || ERR_GET_REASON(why) == ERR_R_MALLOC_FAILURE;
    }
    return found;
}

typedef enum pool_kind { POOL_CERTIFICATE, POOL_CRL, POOL_ROOT } pool_kind;

static bool has_der(X509 *certificate, const uint8_t *der, size_t size)
{
    uint8_t *own  = NULL;
    bool     same = i2d_X509(certificate, NULL) == (int) size && i2d_X509(certificate, &own) == (int) size &&
                !memcmp(own, der, size);
    OPENSSL_free(own);
    return same;
}

/* The certificate of these very bytes, if there is one: a chain comes with each piece of collateral, and OpenSSL takes
 * longer to decode a key than to verify with it. */
static X509 *pool_find(const cmif_pool *pool, const uint8_t *der, size_t size)
{
    for (size_t i = 0; i < pool->certificate_count + pool->root_count; i++) {
        X509 *one = i < pool->certificate_count ? pool->certificates[i] : pool->roots[i - pool->certificate_count];
        if (has_der(one, der, size)) {
            return one;
        }
    }
    return NULL;
}

/* One certificate or CRL from the front of DER. It must be its own DER: a second form of the same bytes would be a
 * second name for one thing. */
static cmif_code pool_add_der(cmif_pool *pool, pool_kind kind, int root_kind, const uint8_t **der, size_t size,
                              cmif_err *err)
{
    static const size_t room[] = {CMIF_POOL_CERTIFICATES, CMIF_POOL_CRLS, CMIF_POOL_ROOTS};
    size_t             *count  = kind == POOL_CERTIFICATE ? &pool->certificate_count
                                 : kind == POOL_CRL       ? &pool->crl_count
                                                          : &pool->root_count;
    const uint8_t      *end    = *der;
    uint8_t            *again  = NULL;
    if (*count == room[kind]) {
        return cmif_fail(err, CMIF_E_RANGE, "more than %zu %s", room[kind], kind == POOL_CRL ? "CRLs" : "certificates");
    }
    cmif_reader reader = cmif_reader_over(*der, size), value;
    uint8_t     tag;
    if (kind == POOL_CERTIFICATE && cmif_der_next(&reader, &tag, &value)) {
        X509 *known = pool_find(pool, *der, reader.at);
        if (known && X509_up_ref(known)) {
            pool->certificates[(*count)++] = known;
            *der += reader.at;
            return CMIF_OK;
        }
    }
    ERR_clear_error();
    X509     *certificate = kind == POOL_CRL ? NULL : d2i_X509(NULL, &end, (long) size);
    X509_CRL *crl         = kind == POOL_CRL ? d2i_X509_CRL(NULL, &end, (long) size) : NULL;
    cmif_code rc          = CMIF_OK;
    int       again_size  = certificate ? i2d_X509(certificate, &again) : crl ? i2d_X509_CRL(crl, &again) : 0;
    if ((!certificate && !crl) || again_size <= 0) {
        rc = openssl_no_memory() ? cmif_fail(err, CMIF_E_MEMORY, "no memory for a certificate or CRL")
                                 : cmif_fail(err, CMIF_E_FORMAT, "%zu bytes do not begin with a %s in DER", size,
                                             kind == POOL_CRL ? "CRL" : "certificate");
    } else if (again_size != end - *der || memcmp(again, *der, (size_t) again_size) != 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "a %s that is not in its one DER form",
                       kind == POOL_CRL ? "CRL" : "certificate");
    } else if (kind == POOL_CRL) {
        pool->crls[(*count)++] = crl;
        crl                    = NULL;
    } else {
        if (kind == POOL_ROOT) {
            pool->root_kinds[*count] = root_kind;
        }
        (kind == POOL_ROOT ? pool->roots : pool->certificates)[(*count)++] = certificate;
        certificate                                                        = NULL;
    }
    OPENSSL_free(again);
    X509_free(certificate);
    X509_CRL_free(crl);
    *der = end;
    ERR_clear_error();
    return rc;
}

static cmif_code pool_add_pem(cmif_pool *pool, pool_kind kind, int root_kind, const uint8_t *data, size_t size,
                              cmif_err *err)
{
    static const char *const names[] = {"CERTIFICATE", "X509 CRL", "CERTIFICATE"};
    cmif_code                rc      = CMIF_OK;
    BIO                     *bio     = BIO_new_mem_buf(data, (int) size);
    if (!bio) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to read %zu bytes of PEM", size);
    }
    while (rc == CMIF_OK) {
        char    *name = NULL, *header = NULL;
        uint8_t *der = NULL;
        long     der_size;
        ERR_clear_error();
        if (!PEM_read_bio(bio, &name, &header, &der, &der_size)) {
            unsigned long why = ERR_peek_last_error();
            if (openssl_no_memory()) {
                rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to read PEM");
            } else if (ERR_GET_LIB(why) != ERR_LIB_PEM || ERR_GET_REASON(why) != PEM_R_NO_START_LINE) {
                rc = cmif_fail(err, CMIF_E_FORMAT, "a PEM block that cannot be read");
            }
            break; /* no further block: the end */
        }
        const uint8_t *at = der;
        if (strcmp(name, names[kind]) != 0 || *header) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "a PEM block that is no plain %s", names[kind]);
        } else {
            rc = pool_add_der(pool, kind, root_kind, &at, (size_t) der_size, err);
        }
        if (rc == CMIF_OK && at != der + der_size) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "bytes after the DER of a PEM block");
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    ERR_clear_error();
    BIO_free(bio);
    return rc;
}

static cmif_code pool_add(cmif_pool *pool, pool_kind kind, int root_kind, const uint8_t *data, size_t size,
                          cmif_err *err)
{
    size_t    before = pool->certificate_count + pool->crl_count + pool->root_count;
    cmif_code rc     = CMIF_OK;
    if (size > CMIF_ITEM_SIZE_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "%zu bytes of certificates, at most %d are read", size, CMIF_ITEM_SIZE_MAX);
    }
    if (size && data[0] == 0x30) {
        const uint8_t *at = data, *end = data + size;
        while (rc == CMIF_OK && at < end && *at == 0x30) {
            rc = pool_add_der(pool, kind, root_kind, &at, (size_t) (end - at), err);
        }
        for (; rc == CMIF_OK && at < end; at++) {
            if (*at) {
                rc = cmif_fail(err, CMIF_E_FORMAT, "byte %zu after the DER is %02x, not zero", (size_t) (at - data),
                               *at);
            }
        }
    } else {
        rc = pool_add_pem(pool, kind, root_kind, data, size, err);
    }
    if (rc == CMIF_OK && before == pool->certificate_count + pool->crl_count + pool->root_count) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%zu bytes hold no %s, PEM or DER", size,
                       kind == POOL_CRL ? "CRL" : "certificate");
    }
    return rc;
}

int cmif_root_kinds(const cmif_attest_policy *policy, cmif_tee tee, int pinned)
{
    for (size_t i = 0; policy->roots && i < policy->root_count; i++) {
        if (!policy->root_tees || policy->root_tees[i] == tee) {
            return CMIF_ROOT_OWN << tee;
        }
    }
    return pinned;
}

cmif_code cmif_pool_init(cmif_pool *pool, int root_kinds, const cmif_attest_policy *policy, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    *pool        = (cmif_pool){0};
    for (size_t i = 0; policy && policy->roots && rc == CMIF_OK && i < policy->root_count; i++) {
        const cmif_item *root = &policy->roots[i];
        const int        kind = policy->root_tees ? CMIF_ROOT_OWN << policy->root_tees[i] : CMIF_ROOT_OWN_ANY;
        root_kinds            = kind == CMIF_ROOT_OWN_ANY ? 0 : root_kinds;
        rc                    = pool_add(pool, POOL_ROOT, kind, root->data, root->size, err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < cmif_pinned_root_count; i++) {
        const cmif_pinned_root *root = &cmif_pinned_roots[i];
        if ((int) root->kind & root_kinds) {
            rc = pool_add(pool, POOL_ROOT, (int) root->kind, (const uint8_t *) root->pem, strlen(root->pem), err);
        }
    }
    return rc;
}

cmif_code cmif_pool_add_certificates(cmif_pool *pool, const uint8_t *data, size_t size, cmif_err *err)
{
    return pool_add(pool, POOL_CERTIFICATE, 0, data, size, err);
}

cmif_code cmif_pool_add_crls(cmif_pool *pool, const uint8_t *data, size_t size, cmif_err *err)
{
    return pool_add(pool, POOL_CRL, 0, data, size, err);
}

void cmif_pool_wipe(cmif_pool *pool)
{
    for (size_t i = 0; i < pool->certificate_count; i++) {
        X509_free(pool->certificates[i]);
    }
    for (size_t i = 0; i < pool->crl_count; i++) {
        X509_CRL_free(pool->crls[i]);
    }
    for (size_t i = 0; i < pool->root_count; i++) {
        X509_free(pool->roots[i]);
    }
    *pool = (cmif_pool){0};
}

bool cmif_pool_spend(cmif_pool *pool)
{
    return pool->checks < CMIF_POOL_CHECKS && ++pool->checks;
}

/* ---- one certificate ---- */

bool cmif_x509_has_name(const X509 *certificate, const char *common_name)
{
    const X509_NAME *name = X509_get_subject_name(certificate);
    int              at   = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0) {
        return false;
    }
    const ASN1_STRING *text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    return (size_t) ASN1_STRING_length(text) == strlen(common_name) &&
           !memcmp(ASN1_STRING_get0_data(text), common_name, strlen(common_name));
}

bool cmif_x509_key_is(X509 *certificate, int keys)
{
    EVP_PKEY *key       = X509_get0_pubkey(certificate);
    char      group[32] = "";
    if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        return (keys & CMIF_KEY_RSA) && EVP_PKEY_get_bits(key) >= 2048;
    }
    if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        EVP_PKEY_get_group_name(key, group, sizeof group, NULL);
    }
    return ((keys & CMIF_KEY_P256) && !strcmp(group, SN_X9_62_prime256v1)) ||
           ((keys & CMIF_KEY_P384) && !strcmp(group, SN_secp384r1));
}

static bool signature_is(int digest, int key, int signatures)
{
    bool sha2 = digest == NID_sha256 || digest == NID_sha384 || digest == NID_sha512;
    return ((signatures & CMIF_SIG_ECDSA_SHA256) && key == NID_X9_62_id_ecPublicKey && digest == NID_sha256) ||
           ((signatures & CMIF_SIG_ECDSA_SHA384) && key == NID_X9_62_id_ecPublicKey && digest == NID_sha384) ||
           ((signatures & CMIF_SIG_PSS_SHA384) && key == NID_rsassaPss && digest == NID_sha384) ||
           ((signatures & CMIF_SIG_RSA_SHA2) && key == NID_rsaEncryption && sha2);
}

static bool certificate_signature_is(X509 *certificate, int signatures)
{
    int digest = 0, key = 0;
    return X509_get_signature_info(certificate, &digest, &key, NULL, NULL) && signature_is(digest, key, signatures);
}

int64_t cmif_asn1_time(const ASN1_TIME *time)
{
    int       days, seconds;
    ASN1_TIME epoch = {.length = 15, .type = V_ASN1_GENERALIZEDTIME, .data = (unsigned char *) "19700101000000Z"};
    return time && ASN1_TIME_diff(&days, &seconds, &epoch, time) ? (int64_t) days * 86400 + seconds : INT64_MIN;
}

/* Problem bits of a time window; a time that cannot be read is outside of it. */
static unsigned window(const ASN1_TIME *from, const ASN1_TIME *to, const cmif_path_rules *rules, unsigned early,
                       unsigned late)
{
    int64_t begin = cmif_asn1_time(from), end = cmif_asn1_time(to);
    bool    is_early = begin == INT64_MIN || rules->time < begin - rules->tolerance;
    bool    is_late  = end == INT64_MIN || rules->time > end + rules->tolerance;
    return (is_early ? early : 0u) | (is_late ? late : 0u);
}

static unsigned certificate_window(const X509 *c, const cmif_path_rules *rules)
{
    return window(X509_get0_notBefore(c), X509_get0_notAfter(c), rules, CMIF_PATH_NOT_YET_VALID, CMIF_PATH_EXPIRED);
}

/* ---- paths ---- */

/* A signature by this key takes no longer than an honest one: RSA with an exponent of some bits, and curves that are
 * fast. Others issue nothing: they would be of a wrong algorithm anyway. */
static bool quick(EVP_PKEY *key)
{
    enum { RSA_BITS_MAX = 8192, EXPONENT_BITS_MAX = 33 };
    char group[32] = "";
    if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        BIGNUM    *exponent = NULL;
        const bool good     = EVP_PKEY_get_bits(key) <= RSA_BITS_MAX &&
                          EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                          BN_num_bits(exponent) <= EXPONENT_BITS_MAX;
        BN_free(exponent);
        return good;
    }
    return key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           (!strcmp(group, SN_X9_62_prime256v1) || !strcmp(group, SN_secp384r1) || !strcmp(group, SN_secp521r1));
}

static bool issued(cmif_pool *pool, X509 *issuer, X509 *certificate, unsigned *problems)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    if (X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(certificate)) != 0 || !quick(key)) {
        return false;
    }
    if (!cmif_pool_spend(pool)) {
        *problems |= CMIF_PATH_WORK;
        return false;
    }
    const bool yes = X509_verify(certificate, key) == 1;
    *problems |= openssl_no_memory() ? CMIF_PATH_INTERNAL : 0;
    return yes;
}

void cmif_path_build(cmif_pool *pool, X509 *leaf, const cmif_path_rules *rules, cmif_path *path)
{
    *path        = (cmif_path){.certificates = {leaf}, .count = 1};
    bool at_root = false;
    while (!at_root && path->count < CMIF_PATH_MAX) {
        X509 *last = path->certificates[path->count - 1], *next = NULL;
        for (size_t i = 0; i < pool->root_count && !at_root; i++) {
            if ((pool->root_kinds[i] & rules->root_kinds) && issued(pool, pool->roots[i], last, &path->problems)) {
                next    = pool->roots[i];
                at_root = true;
            }
        }
        for (size_t i = 0; i < pool->certificate_count && !at_root; i++) {
            X509 *candidate = pool->certificates[i];
            bool  used      = false;
            for (size_t k = 0; k < path->count; k++) {
                used = used || !X509_cmp(candidate, path->certificates[k]);
            }
            if (!used && (!next || certificate_window(next, rules)) && issued(pool, candidate, last, &path->problems)) {
                next = candidate;
            }
        }
        if (!next) {
            break;
        }
        path->certificates[path->count++] = next;
    }
    path->problems |= at_root ? 0 : CMIF_PATH_UNTRUSTED;

    for (size_t i = 0; i < path->count; i++) {
        X509    *c     = path->certificates[i];
        uint32_t flags = X509_get_extension_flags(c);
        bool     root  = at_root && i == path->count - 1;
        path->problems |= certificate_window(c, rules);
        if (!cmif_x509_key_is(c, rules->keys) || (!root && !certificate_signature_is(c, rules->signatures))) {
            path->problems |= CMIF_PATH_ALGORITHM;
        }
        bool bad = flags & (EXFLAG_INVALID | EXFLAG_CRITICAL);
        if (i == 0) {
            bad = bad || (!rules->ca && (flags & EXFLAG_CA));
        } else { /* pathlen counts the CAs between it and the leaf */
            long pathlen = X509_get_pathlen(c);
            bad          = bad || !(flags & EXFLAG_CA) || !(X509_get_key_usage(c) & KU_KEY_CERT_SIGN) ||
                  (pathlen >= 0 && (size_t) pathlen < i - 1);
        }
        path->problems |= bad ? CMIF_PATH_CONSTRAINTS : 0;
    }
}

/* A CRL is about all certificates of its issuer and complete: no extension that would say otherwise (RFC 5280, 5.2). */
static bool crl_plain(X509_CRL *crl)
{
    for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
        X509_EXTENSION *extension = X509_CRL_get_ext(crl, i);
        int             nid       = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (nid == NID_delta_crl || nid == NID_issuing_distribution_point ||
            (X509_EXTENSION_get_critical(extension) && nid != NID_crl_number && nid != NID_authority_key_identifier)) {
            return false;
        }
    }
    return true;
}

static unsigned crl_check(cmif_pool *pool, const cmif_path_rules *rules, X509 *c, X509 *issuer, int64_t *this_update)
{
    unsigned problems = 0;
    bool     good     = false;
    for (size_t i = 0; i < pool->crl_count; i++) {
        X509_CRL     *crl     = pool->crls[i];
        X509_REVOKED *revoked = NULL;
        int           digest = 0, key = 0;
        if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0) {
            continue;
        }
        if (!cmif_pool_spend(pool)) { /* the next might say that it was revoked */
            return CMIF_PATH_WORK;
        }
        bool genuine = X509_CRL_verify(crl, X509_get0_pubkey(issuer)) == 1 &&
                       (X509_get_key_usage(issuer) & KU_CRL_SIGN) &&
                       OBJ_find_sigid_algs(X509_CRL_get_signature_nid(crl), &digest, &key) &&
                       (key == NID_rsassaPss ? rules->signatures & CMIF_SIG_PSS_SHA384
                                             : signature_is(digest, key, rules->signatures)) &&
                       crl_plain(crl);
        if (openssl_no_memory()) {
            return CMIF_PATH_INTERNAL;
        }
        if (!genuine) {
            problems |= CMIF_PATH_CRL_INVALID;
            continue;
        }
        unsigned outside = window(X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl), rules,
                                  CMIF_PATH_CRL_NOT_YET_VALID, CMIF_PATH_CRL_EXPIRED);
        problems |= outside;
        if (X509_CRL_get0_by_serial(crl, &revoked,
                                    X509_get0_serialNumber(c))) { /* also by an old list: once revoked, always */
            return CMIF_PATH_REVOKED;
        }
        if (!outside) {
            int64_t update = cmif_asn1_time(X509_CRL_get0_lastUpdate(crl));
            *this_update   = update > *this_update ? update : *this_update;
            good           = true;
        }
    }
    return good ? 0 : problems ? problems : CMIF_PATH_NO_CRL;
}

void cmif_path_check_crls(cmif_pool *pool, const cmif_path_rules *rules, bool leaf_too, cmif_path *path)
{
    for (size_t i = leaf_too ? 0 : 1; i + 1 < path->count; i++) {
        int64_t update = 0;
        path->problems |= crl_check(pool, rules, path->certificates[i], path->certificates[i + 1], &update);
        path->crl_updates[i] = update;
        if (i == 0 || (i == 1 && !leaf_too)) {
            path->crl_this_update = update;
        }
    }
    if (path->problems &
        CMIF_PATH_UNTRUSTED) { /* who issued its last link is not known, so neither is who may revoke it */
        path->problems |= CMIF_PATH_NO_CRL;
    }
}

/* Who issued the CRL that certificate i is not on, by its key: names come twice. */
static void crl_issuer(const cmif_path *path, size_t i, uint8_t key[static 32])
{
    unsigned size = 0;
    memset(key, 0, 32);
    (void) !X509_pubkey_digest(path->certificates[i + 1], EVP_sha256(), key, &size);
}

bool cmif_path_rolled_back(const cmif_path *path, const cmif_attest_policy *policy)
{
    bool older = false;
    for (size_t i = 0; i + 1 < path->count; i++) {
        uint8_t key[32];
        crl_issuer(path, i, key);
        for (size_t k = 0; path->crl_updates[i] && k < policy->seen_crl_count; k++) {
            older = older || (!memcmp(policy->seen_crls[k].issuer, key, 32) &&
                              path->crl_updates[i] < policy->seen_crls[k].update);
        }
    }
    return older;
}

void cmif_path_tell(const cmif_path *path, const char *what, bool collateral, cmif_attest_call *call)
{
    static const struct {
        unsigned    problem;
        bool        own; /* a reason of its own */
        const char *name;
    } words[] = {
        {CMIF_PATH_UNTRUSTED, false, "untrusted"},    {CMIF_PATH_CONSTRAINTS, false, "constraints"},
        {CMIF_PATH_ALGORITHM, false, "algorithm"},    {CMIF_PATH_WORK, false, "work"},
        {CMIF_PATH_EXPIRED, true, "expired"},         {CMIF_PATH_NOT_YET_VALID, true, "not-yet-valid"},
        {CMIF_PATH_REVOKED, true, "revoked"},         {CMIF_PATH_CRL_INVALID, true, "crl-invalid"},
        {CMIF_PATH_CRL_EXPIRED, true, "crl-expired"}, {CMIF_PATH_CRL_NOT_YET_VALID, true, "crl-not-yet-valid"}};
    char text[CMIF_REASON_SIZE];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (path->problems & words[i].problem) {
            snprintf(text, sizeof text, "%s-%s", what, words[i].name);
            words[i].own ? cmif_verdict_reason(call->verdict, text)
            : collateral ? cmif_verdict_invalid_collateral(call->verdict, text)
                         : cmif_verdict_invalid(call->verdict, text);
        }
    }
    if (path->problems & CMIF_PATH_INTERNAL) {
        cmif_verdict_worse(call->verdict, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "no memory to check the path of %s",
                           what);
    }
    if (path->problems & CMIF_PATH_NO_CRL) {
        snprintf(text, sizeof text, "revocation-%s", what);
        cmif_verdict_unchecked(call->verdict, text, call->policy->loosened.no_crl);
    }
    for (size_t i = 0; i + 1 < path->count; i++) {
        if (path->crl_updates[i]) {
            cmif_seen_crl used = {.update = path->crl_updates[i]};
            crl_issuer(path, i, used.issuer);
            cmif_verdict_crl(call->verdict, &used);
        }
    }
    if (cmif_path_rolled_back(path, call->policy)) {
        cmif_verdict_reason(call->verdict, "crl-rollback");
    }
}

/* ---- signatures without a certificate around them ---- */

int cmif_ecdsa_verify(EVP_PKEY *key, const uint8_t *raw, size_t size, const uint8_t *message, size_t message_size)
{
    int         rc  = -1, der_size;
    uint8_t    *der = NULL;
    EVP_MD_CTX *md  = EVP_MD_CTX_new();
    ECDSA_SIG  *sig = ECDSA_SIG_new();
    BIGNUM     *r = BN_bin2bn(raw, (int) (size / 2), NULL), *s = BN_bin2bn(raw + size / 2, (int) (size / 2), NULL);
    if (!md || !sig || !r || !s || !ECDSA_SIG_set0(sig, r, s)) {
        goto done;
    }
    r = s    = NULL; /* the signature's now */
    der_size = i2d_ECDSA_SIG(sig, &der);
    if (der_size <= 0 || EVP_DigestVerifyInit(md, NULL, size == 64 ? EVP_sha256() : EVP_sha384(), NULL, key) != 1) {
        goto done;
    }
    rc = EVP_DigestVerify(md, der, (size_t) der_size, message, message_size) == 1;
done:
    rc = openssl_no_memory() ? -1 : rc;
    OPENSSL_free(der);
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(md);
    return rc;
}

EVP_PKEY *cmif_p256_key(const uint8_t point[static 64])
{
    uint8_t        spki[91] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                               0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
    const uint8_t *at       = spki;
    memcpy(spki + 27, point, 64);
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, sizeof spki); /* refuses a point that is not on the curve */
    ERR_clear_error();
    return key;
}
