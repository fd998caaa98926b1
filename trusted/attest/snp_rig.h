/* snp_rig - for tests: a PKI like AMD's, of three products, and reports that it signs. */
#ifndef CMIF_ATTEST_SNP_RIG_H
#define CMIF_ATTEST_SNP_RIG_H

#include "attest/cases.h"
#include "attest/snp.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

static inline EVP_PKEY *rsa_key(void)
{
    return EVP_RSA_gen(2048);
}
static inline EVP_PKEY *p384_key(void)
{
    return EVP_EC_gen("P-384");
}

typedef struct authority {
    X509     *certificate;
    EVP_PKEY *key;
} authority;

enum { MILAN, GENOA, TURIN, PRODUCTS };
static const char *const product_names[PRODUCTS] = {"Milan", "Genoa", "Turin"};
static struct pki {
    authority ark[PRODUCTS], ask[PRODUCTS], asvk[PRODUCTS];
    EVP_PKEY *leaf_key, *other_key;
} pki;

static const int64_t now = 1770000000; /* 2026-02-02 */

static inline void extension(X509 *c, const char *oid, const void *value, size_t size)
{
    ASN1_OBJECT       *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    CHECK(ASN1_OCTET_STRING_set(octets, value, (int) size) == 1);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 0, octets);
    CHECK(e && X509_add_ext(c, e, -1) == 1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(octets);
    ASN1_OBJECT_free(object);
}

static inline void extension_text(X509 *c, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    CHECK(e && X509_add_ext(c, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static inline void pss(EVP_MD_CTX *ctx, EVP_PKEY *key)
{
    EVP_PKEY_CTX *pctx = NULL;
    CHECK(EVP_DigestSignInit(ctx, &pctx, EVP_sha384(), NULL, key) == 1 &&
          EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
          EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, 48) == 1);
}

static inline void name_add(X509_NAME *name, const char *cn)
{
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) cn, -1, -1, 0) == 1);
}

static inline X509 *certificate_new(const char *cn, EVP_PKEY *key, const char *issuer, long serial, int64_t from, int64_t to)
{
    X509 *c = X509_new();
    CHECK(c && X509_set_version(c, 2) == 1 && X509_set_pubkey(c, key) == 1 &&
          ASN1_INTEGER_set(X509_get_serialNumber(c), serial) == 1);
    name_add(X509_get_subject_name(c), cn);
    name_add(X509_get_issuer_name(c), issuer);
    CHECK(ASN1_TIME_set(X509_getm_notBefore(c), from) && ASN1_TIME_set(X509_getm_notAfter(c), to));
    return c;
}

static inline void certificate_sign(X509 *c, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    pss(ctx, key);
    CHECK(X509_sign_ctx(c, ctx) > 0);
    EVP_MD_CTX_free(ctx);
}

static inline authority authority_new(const char *kind, const char *product, long serial, const char *issuer,
                               EVP_PKEY *issuer_key)
{
    char cn[64];
    snprintf(cn, sizeof cn, "%s-%s", kind, product);
    authority a   = {.key = rsa_key()};
    a.certificate = certificate_new(cn, a.key, issuer ? issuer : cn, serial, now - 86400 * 365, now + 86400 * 3650);
    extension_text(a.certificate, NID_basic_constraints, "critical,CA:TRUE");
    extension_text(a.certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    certificate_sign(a.certificate, issuer_key ? issuer_key : a.key);
    return a;
}

static inline void pki_make(void)
{
    for (int i = 0; i < PRODUCTS; i++) {
        char ark[64];
        snprintf(ark, sizeof ark, "ARK-%s", product_names[i]);
        pki.ark[i]  = authority_new("ARK", product_names[i], 1, NULL, NULL);
        pki.ask[i]  = authority_new("SEV", product_names[i], 2, ark, pki.ark[i].key);
        pki.asvk[i] = authority_new("SEV-VLEK", product_names[i], 3, ark, pki.ark[i].key);
    }
    pki.leaf_key  = p384_key();
    pki.other_key = p384_key();
}

static inline void pki_free(void)
{
    for (int i = 0; i < PRODUCTS; i++) {
        authority *all[] = {&pki.ark[i], &pki.ask[i], &pki.asvk[i]};
        for (size_t k = 0; k < 3; k++) {
            X509_free(all[k]->certificate);
            EVP_PKEY_free(all[k]->key);
        }
    }
    EVP_PKEY_free(pki.leaf_key);
    EVP_PKEY_free(pki.other_key);
}

/* What a leaf is made of; a test changes one thing. */
typedef struct leaf_plan {
    int              product;
    bool             vlek, nested_hwid, bad_signature, no_hwid;
    uint8_t          tcb[8], hwid[64];
    size_t           hwid_size;
    int              skip_arc; /* 1 to 9: this SPL is left out */
    int64_t          from, to;
    const char      *name; /* in extension .2; NULL: the product's */
    const authority *issuer;
    EVP_PKEY        *key;
} leaf_plan;

static inline leaf_plan plan_for(int product)
{
    leaf_plan            p         = {.product   = product,
                                      .from      = now - 86400 * 30,
                                      .to        = now + 86400 * 300,
                                      .hwid_size = product == TURIN ? 8 : 64,
                                      .key       = pki.leaf_key};
    static const uint8_t tcb[2][8] = {{4, 0, 0, 0, 0, 0, 24, 219}, {1, 2, 3, 4, 0, 0, 0, 81}};
    memcpy(p.tcb, tcb[product == TURIN], 8);
    for (size_t i = 0; i < p.hwid_size; i++) {
        p.hwid[i] = (uint8_t) (0xa0 + i);
    }
    return p;
}

static inline X509 *leaf_make(const leaf_plan *p)
{
    static const uint8_t arcs[2][8] = {{1, 2, 4, 5, 6, 7, 3, 8}, {9, 1, 2, 3, 5, 6, 7, 8}};
    const authority     *issuer     = p->issuer ? p->issuer : p->vlek ? &pki.asvk[p->product] : &pki.ask[p->product];
    char                 cn[64];
    X509_NAME_get_text_by_NID(X509_get_subject_name(issuer->certificate), NID_commonName, cn, sizeof cn);
    X509   *c        = certificate_new(p->vlek ? "SEV-VLEK" : "SEV-VCEK", p->key, cn, 0, p->from, p->to);
    uint8_t text[40] = {0x16};
    text[1]          = (uint8_t) strlen(p->name ? p->name : product_names[p->product]);
    memcpy(text + 2, p->name ? p->name : product_names[p->product], text[1]);
    extension(c, "1.3.6.1.4.1.3704.1.1", (const uint8_t[]){2, 1, 0}, 3);
    extension(c, "1.3.6.1.4.1.3704.1.2", text, 2 + (size_t) text[1]);
    for (size_t i = 0; i < 8; i++) {
        uint8_t arc = arcs[p->product == TURIN][i];
        char    oid[64];
        snprintf(oid, sizeof oid, "1.3.6.1.4.1.3704.1.3.%u", arc);
        if (arc != p->skip_arc) {
            extension(c, oid,
                      p->tcb[i] < 0x80 ? (const uint8_t[]){2, 1, p->tcb[i], 0} : (const uint8_t[]){2, 2, 0, p->tcb[i]},
                      p->tcb[i] < 0x80 ? 3 : 4);
        }
    }
    if (!p->vlek && !p->no_hwid) {
        uint8_t nested[66] = {4, (uint8_t) p->hwid_size};
        memcpy(nested + 2, p->hwid, p->hwid_size);
        extension(c, "1.3.6.1.4.1.3704.1.4", p->nested_hwid ? nested : p->hwid,
                  p->hwid_size + (p->nested_hwid ? 2 : 0));
    }
    if (p->vlek) {
        extension(c, "1.3.6.1.4.1.3704.1.5",
                  "\x16\x08"
                  "CN=cloud",
                  10);
    }
    certificate_sign(c, p->bad_signature ? pki.ask[(p->product + 1) % PRODUCTS].key : issuer->key);
    return c;
}

static inline void put(uint8_t *report, size_t at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        report[at + i] = (uint8_t) (value >> (8 * i));
    }
}

static inline void report_make(const leaf_plan *p, unsigned version, uint8_t report[CMIF_SNP_REPORT_SIZE])
{
    memset(report, 0, CMIF_SNP_REPORT_SIZE);
    put(report, 0, version, 4);
    put(report, 8, 0x3001f, 8);
    put(report, 0x34, 1, 4);
    put(report, 0x40, 0x25, 8);
    put(report, 0x48, p->vlek ? 4 : 0, 4);
    memset(report + 0x50, 0x11, 64);
    memset(report + 0x90, 0x22, 48);
    memset(report + 0xc0, 0x33, 32);
    static const size_t tcbs[] = {0x38, 0x180, 0x1e0, 0x1f0};
    for (size_t i = 0; i < 4; i++) {
        memcpy(report + tcbs[i], p->tcb, 8);
    }
    if (version >= 3) {
        report[0x188] = p->product == TURIN ? 0x1a : 0x19;
        report[0x189] = p->product == MILAN ? 0x01 : p->product == GENOA ? 0x11 : 0x02;
        report[0x18a] = 1;
    }
    if (version >= 5) {
        put(report, 0x1f8, 0x3f, 8);
        put(report, 0x200, 0x3f, 8);
    }
    if (!p->vlek) {
        memcpy(report + 0x1a0, p->hwid, p->hwid_size);
    }
}

static inline void report_sign(uint8_t report[CMIF_SNP_REPORT_SIZE], EVP_PKEY *key)
{
    uint8_t        der[128], number[48];
    size_t         size = sizeof der;
    const uint8_t *at   = der;
    EVP_MD_CTX    *ctx  = EVP_MD_CTX_new();
    CHECK(EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key) == 1 &&
          EVP_DigestSign(ctx, der, &size, report, CMIF_SNP_SIGNED_SIZE) == 1);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long) size);
    memset(report + 0x2a0, 0, 512);
    for (size_t half = 0; half < 2; half++) {
        CHECK(BN_bn2binpad(half ? ECDSA_SIG_get0_s(sig) : ECDSA_SIG_get0_r(sig), number, 48) == 48);
        for (size_t i = 0; i < 48; i++) {
            report[0x2a0 + 72 * half + i] = number[47 - i];
        }
    }
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

static inline X509_CRL *crl_make(const authority *issuer, EVP_PKEY *key, long revoked, int64_t from, int64_t to)
{
    X509_CRL  *crl  = X509_CRL_new();
    ASN1_TIME *time = ASN1_TIME_new();
    CHECK(crl && X509_CRL_set_version(crl, 1) == 1 &&
          X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->certificate)) == 1);
    CHECK(ASN1_TIME_set(time, from) && X509_CRL_set1_lastUpdate(crl, time) == 1 && ASN1_TIME_set(time, to) &&
          X509_CRL_set1_nextUpdate(crl, time) == 1);
    if (revoked) {
        X509_REVOKED *r      = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();
        CHECK(ASN1_INTEGER_set(serial, revoked) == 1 && X509_REVOKED_set_serialNumber(r, serial) == 1 &&
              ASN1_TIME_set(time, now - 10) && X509_REVOKED_set_revocationDate(r, time) == 1 &&
              X509_CRL_add0_revoked(crl, r) == 1);
        ASN1_INTEGER_free(serial);
    }
    ASN1_TIME_free(time);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    pss(ctx, key);
    CHECK(X509_CRL_sign_ctx(crl, ctx) > 0);
    EVP_MD_CTX_free(ctx);
    return crl;
}

#endif
