/* dcap_rig - for tests: an Intel of our own. Root, PCK and TCB signing certificates, CRLs, TCB info, QE identity and a
 * quote, all made anew from a world that a test has bent. A world as made by world_new() is accepted. */
#ifndef CMIF_ATTEST_DCAP_RIG_H
#define CMIF_ATTEST_DCAP_RIG_H

#include "attest/dcap.h"
#include "attest/x509.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RIG_ROOT, RIG_CA, RIG_PCK, RIG_SIGNING, RIG_CERTIFICATES };
enum { RIG_ROOT_CRL, RIG_PCK_CRL, RIG_CRLS };
enum { RIG_INFO, RIG_IDENTITY, RIG_DOCUMENTS };
#define RIG_TIME 1750000000 /* 2025-06-15T15:06:40Z */

typedef struct rig_certificate {
    const char *name;
    int64_t     from, until;
    int         ca, pathlen; /* ca -1: no basicConstraints; pathlen -1: none */
    const char *usage;
    long        serial;
    int         issuer;    /* RIG_*; the one itself: self-signed */
    int         key;       /* index of rig_keys */
    int         signed_by; /* key that really signs; -1: the issuer's */
    bool        sha384, critical, left_out;
} rig_certificate;

typedef struct rig_crl {
    int     issuer, signed_by; /* as above */
    int64_t from, until;
    long    revoked[2]; /* serials; 0: none */
    bool    delta, left_out;
} rig_crl;

typedef enum rig_extension {
    RIG_GOOD,
    RIG_NO_FMSPC,
    RIG_FMSPC_TWICE,
    RIG_REVERSED,
    RIG_COMPONENT_256,
    RIG_NEGATIVE,
    RIG_NO_COMPONENT,
    RIG_SHORT_FMSPC,
    RIG_TRAILING,
    RIG_EXTENSIONS
} rig_extension;

typedef struct world {
    unsigned version, body_type; /* body_type 1 SGX, 2 TD 1.0, 3 TD 1.5 in any version */
    uint8_t  header[48], body[648], qe_report[384], auth[64];
    size_t   body_size, auth_size;
    unsigned certification_type;
    bool     pem_reversed, pem_no_zero, qe_data_by_hand,
        foreign_root; /* foreign_root: the verifier pins another root with these names */
    size_t             trailing;
    uint8_t            trailing_byte;
    uint8_t            components[16], fmspc[6], pceid[2];
    unsigned           pcesvn;
    rig_extension      extension;
    rig_certificate    certificates[RIG_CERTIFICATES];
    rig_crl            crls[RIG_CRLS];
    char               documents[RIG_DOCUMENTS][32768]; /* the signed values */
    int                signed_by[RIG_DOCUMENTS];        /* keys; RIG_SIGNING */
    bool               no_document[RIG_DOCUMENTS];
    int                qe_signed_by, body_signed_by; /* keys: RIG_PCK, RIG_ATTESTATION */
    int64_t            time;
    cmif_attest_policy policy;
    cmif_measured      measured;

    /* what comes of it */
    uint8_t   quote[16384], blobs[10][40000];
    size_t    quote_size;
    cmif_item items[12], root;
    size_t    count;
} world;

enum { RIG_ATTESTATION = RIG_CERTIFICATES, RIG_STRANGER, RIG_P384, RIG_KEYS };
static EVP_PKEY   *rig_keys[RIG_KEYS];
static const char *rig_last_edit = ""; /* for messages */

static inline void rig_check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "rig: %s\n", what);
        abort();
    }
}

static inline void rig_open(void)
{
    for (int i = 0; i < RIG_KEYS; i++) {
        rig_keys[i] = EVP_EC_gen(i == RIG_P384 ? "P-384" : "P-256");
        rig_check(rig_keys[i], "key");
    }
}

static inline void rig_close(void)
{
    for (int i = 0; i < RIG_KEYS; i++) {
        EVP_PKEY_free(rig_keys[i]);
    }
}

/* ---- DER by hand: the SGX extension ---- */

static inline size_t rig_der(uint8_t *out, uint8_t tag, const uint8_t *value, size_t size)
{
    size_t n = 0;
    out[n++] = tag;
    if (size >= 256) {
        out[n++] = 0x82;
        out[n++] = (uint8_t) (size >> 8);
    } else if (size >= 128) {
        out[n++] = 0x81;
    }
    out[n++] = (uint8_t) size;
    memmove(out + n, value, size);
    return n + size;
}

/* SEQUENCE { OID prefix.arc[.sub], value } */
static inline size_t rig_pair(uint8_t *out, unsigned arc, unsigned sub, uint8_t tag, const uint8_t *value, size_t size)
{
    uint8_t oid[11], inside[1024];
    size_t  oid_size = 9;
    memcpy(oid, cmif_oid_sgx_extension, 9);
    oid[oid_size++] = (uint8_t) arc;
    if (sub) {
        oid[oid_size++] = (uint8_t) sub;
    }
    size_t n = rig_der(inside, 6, oid, oid_size);
    n += rig_der(inside + n, tag, value, size);
    return rig_der(out, 0x30, inside, n);
}

static inline size_t rig_integer(uint8_t *out, unsigned arc, unsigned sub, unsigned value, bool negative)
{
    uint8_t bytes[3];
    size_t  n = 0;
    if (negative) {
        bytes[n++] = 0xff;
    } else {
        if (value >= 0x8000) {
            bytes[n++] = 0;
        }
        if (value >= 0x80) {
            bytes[n++] = (uint8_t) (value >> 8);
        }
        bytes[n++] = (uint8_t) value;
    }
    return rig_pair(out, arc, sub, 2, bytes, n);
}

static inline size_t rig_sgx_extension(const world *w, uint8_t out[static 2048])
{
    uint8_t tcb[1024], parts[6][1100], all[2000], cpusvn[16] = {7}, zeros[16] = {0};
    size_t  n = 0, sizes[6], count = 0;
    for (unsigned i = 0; i < 16; i++) {
        if (w->extension == RIG_NO_COMPONENT && i == 9) {
            continue;
        }
        n += rig_integer(tcb + n, 2, i + 1, w->extension == RIG_COMPONENT_256 && i == 9 ? 256 : w->components[i],
                         w->extension == RIG_NEGATIVE && i == 9);
    }
    n += rig_integer(tcb + n, 2, 17, w->pcesvn, false);
    n += rig_pair(tcb + n, 2, 18, 4, cpusvn, 16);
    sizes[count] = rig_pair(parts[count], 1, 0, 4, zeros, 16); /* PPID */
    count++;
    sizes[count] = rig_pair(parts[count], 2, 0, 0x30, tcb, n);
    count++;
    sizes[count] = rig_pair(parts[count], 3, 0, 4, w->pceid, 2);
    count++;
    for (int k = 0; k < (w->extension == RIG_NO_FMSPC ? 0 : w->extension == RIG_FMSPC_TWICE ? 2 : 1); k++) {
        sizes[count] = rig_pair(parts[count], 4, 0, 4, w->fmspc, w->extension == RIG_SHORT_FMSPC ? 5 : 6);
        count++;
    }
    sizes[count] = rig_pair(parts[count], 5, 0, 10, zeros, 1); /* standard */
    count++;
    n = 0;
    for (size_t i = 0; i < count; i++) {
        size_t k = w->extension == RIG_REVERSED ? count - 1 - i : i;
        memcpy(all + n, parts[k], sizes[k]);
        n += sizes[k];
    }
    n = rig_der(out, 0x30, all, n);
    if (w->extension == RIG_TRAILING) {
        out[n++] = 0;
    }
    return n;
}

/* ---- certificates and CRLs ---- */

static inline void rig_extend(X509 *c, X509_CRL *crl, int nid, const char *text)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, text);
    rig_check(e && (c ? X509_add_ext(c, e, -1) : X509_CRL_add_ext(crl, e, -1)), text);
    X509_EXTENSION_free(e);
}

static inline void rig_name(X509_NAME *name, const char *common_name)
{
    rig_check(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *) common_name, -1, -1, 0) &&
                  X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *) "Intel Corporation", -1, -1, 0),
              "name");
}

static inline X509 *rig_make_certificate(const world *w, int which)
{
    const rig_certificate *k = &w->certificates[which];
    X509                  *c = X509_new();
    rig_check(c && X509_set_version(c, 2) && ASN1_INTEGER_set(X509_get_serialNumber(c), k->serial) &&
                  X509_set_pubkey(c, rig_keys[k->key]),
              "certificate");
    ASN1_TIME_set(X509_getm_notBefore(c), k->from);
    ASN1_TIME_set(X509_getm_notAfter(c), k->until);
    rig_name(X509_get_subject_name(c), k->name);
    rig_name(X509_get_issuer_name(c), w->certificates[k->issuer].name);
    if (k->ca >= 0) {
        char text[64];
        snprintf(text, sizeof text, k->pathlen >= 0 ? "critical,CA:%s,pathlen:%d" : "critical,CA:%s",
                 k->ca ? "TRUE" : "FALSE", k->pathlen);
        rig_extend(c, NULL, NID_basic_constraints, text);
    }
    if (k->usage) {
        rig_extend(c, NULL, NID_key_usage, k->usage);
    }
    if (k->critical || which == RIG_PCK) {
        uint8_t            bytes[2048] = {5, 0};
        ASN1_OCTET_STRING *octets      = ASN1_OCTET_STRING_new();
        ASN1_OBJECT       *object      = OBJ_txt2obj(k->critical ? "1.2.3.4.5" : "1.2.840.113741.1.13.1", 1);
        rig_check(octets && object &&
                      ASN1_OCTET_STRING_set(octets, bytes, k->critical ? 2 : (int) rig_sgx_extension(w, bytes)),
                  "extension");
        for (int twice = 0; twice < 1 + (k->critical && which == RIG_PCK); twice++) {
            X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, k->critical && !twice, octets);
            rig_check(e && X509_add_ext(c, e, -1), "extension");
            X509_EXTENSION_free(e);
            ASN1_OBJECT_free(object);
            object = OBJ_txt2obj("1.2.840.113741.1.13.1", 1);
            ASN1_OCTET_STRING_set(octets, bytes, (int) rig_sgx_extension(w, bytes));
        }
        ASN1_OBJECT_free(object);
        ASN1_OCTET_STRING_free(octets);
    }
    int key = k->signed_by >= 0 ? k->signed_by : w->certificates[k->issuer].key;
    rig_check(X509_sign(c, rig_keys[key], k->sha384 ? EVP_sha384() : EVP_sha256()), "sign");
    return c;
}

static inline X509_CRL *rig_make_crl(const world *w, int which)
{
    const rig_crl *k    = &w->crls[which];
    X509_CRL      *crl  = X509_CRL_new();
    X509_NAME     *name = X509_NAME_new();
    ASN1_TIME     *from = ASN1_TIME_set(NULL, k->from), *until = ASN1_TIME_set(NULL, k->until);
    rig_check(crl && name && from && until, "CRL");
    rig_name(name, w->certificates[k->issuer].name);
    rig_check(X509_CRL_set_version(crl, 1) && X509_CRL_set_issuer_name(crl, name) &&
                  X509_CRL_set1_lastUpdate(crl, from) && X509_CRL_set1_nextUpdate(crl, until),
              "CRL");
    for (int i = 0; i < 2 && k->revoked[i]; i++) {
        X509_REVOKED *r      = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();
        rig_check(r && serial && ASN1_INTEGER_set(serial, k->revoked[i]) && X509_REVOKED_set_serialNumber(r, serial) &&
                      X509_REVOKED_set_revocationDate(r, from) && X509_CRL_add0_revoked(crl, r),
                  "revoked");
        ASN1_INTEGER_free(serial);
    }
    if (k->delta) {
        ASN1_INTEGER *base = ASN1_INTEGER_new();
        rig_check(base && ASN1_INTEGER_set(base, 1) && X509_CRL_add1_ext_i2d(crl, NID_delta_crl, base, 1, 0), "delta");
        ASN1_INTEGER_free(base);
    }
    X509_CRL_sort(crl);
    int key = k->signed_by >= 0 ? k->signed_by : w->certificates[k->issuer].key;
    rig_check(X509_CRL_sign(crl, rig_keys[key], EVP_sha256()), "sign");
    X509_NAME_free(name);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    return crl;
}

/* ---- the world ---- */

static inline void rig_put(uint8_t *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        at[i] = (uint8_t) (value >> (8 * i));
    }
}

static inline void rig_level(char *out, size_t size, unsigned sgx, unsigned pcesvn, int tdx0, const char *status,
                             const char *date, const char *advisory)
{
    size_t n = (size_t) snprintf(out, size, "{\"tcb\":{\"sgxtcbcomponents\":[");
    for (int i = 0; i < 16; i++) {
        n += (size_t) snprintf(out + n, size - n, "%s{\"svn\":%u}", i ? "," : "", sgx);
    }
    n += (size_t) snprintf(out + n, size - n, "],\"pcesvn\":%u", pcesvn);
    if (tdx0 >= 0) {
        n += (size_t) snprintf(out + n, size - n, ",\"tdxtcbcomponents\":[");
        for (int i = 0; i < 16; i++) {
            n += (size_t) snprintf(out + n, size - n, "%s{\"svn\":%d}", i ? "," : "", i == 1 ? tdx0 > 4 : tdx0);
        }
        n += (size_t) snprintf(out + n, size - n, "]");
    }
    snprintf(out + n, size - n, "},\"tcbDate\":\"%s\",\"tcbStatus\":\"%s\"%s%s%s}", date, status,
             advisory ? ",\"advisoryIDs\":[\"" : "", advisory ? advisory : "", advisory ? "\"]" : "");
}

static inline void world_documents(world *w)
{
    const bool        tdx = w->body_type > 1;
    static const char zeros96[] =
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    char level[2][4096], modules[2048] = "";
    rig_level(level[0], sizeof level[0], 5, 13, tdx ? 5 : -1, "UpToDate", "2025-01-01T00:00:00Z", NULL);
    rig_level(level[1], sizeof level[1], 2, 5, tdx ? 2 : -1, "OutOfDate", "2023-01-01T00:00:00Z", "INTEL-SA-00001");
    if (tdx) {
        snprintf(modules, sizeof modules,
                 "\"tdxModule\":{\"mrsigner\":\"%s\",\"attributes\":\"0000000000000000\",\"attributesMask\":"
                 "\"FFFFFFFFFFFFFFFF\"},"
                 "\"tdxModuleIdentities\":[{\"id\":\"TDX_03\",\"mrsigner\":\"%s\",\"attributes\":\"0000000000000000\","
                 "\"attributesMask\":\"FFFFFFFFFFFFFFFF\",\"tcbLevels\":["
                 "{\"tcb\":{\"isvsvn\":9},\"tcbDate\":\"2025-01-01T00:00:00Z\",\"tcbStatus\":\"UpToDate\"}]},"
                 "{\"id\":\"TDX_01\",\"mrsigner\":\"%s\",\"attributes\":\"0000000000000000\",\"attributesMask\":"
                 "\"FFFFFFFFFFFFFFFF\",\"tcbLevels\":["
                 "{\"tcb\":{\"isvsvn\":5},\"tcbDate\":\"2025-01-01T00:00:00Z\",\"tcbStatus\":\"UpToDate\"},"
                 "{\"tcb\":{\"isvsvn\":3},\"tcbDate\":\"2023-01-01T00:00:00Z\",\"tcbStatus\":\"OutOfDate\","
                 "\"advisoryIDs\":[\"INTEL-SA-00002\"]}]}],",
                 zeros96, zeros96, zeros96);
    }
    snprintf(w->documents[RIG_INFO], sizeof w->documents[0],
             "{\"id\":\"%s\",\"version\":3,\"issueDate\":\"2025-06-01T00:00:00Z\",\"nextUpdate\":\"2025-07-01T00:00:"
             "00Z\",\"fmspc\":\"00A0b0c0d0e0\","
             "\"pceId\":\"0000\",\"tcbType\":0,\"tcbEvaluationDataNumber\":17,%s\"tcbLevels\":[%s,%s]}",
             tdx ? "TDX" : "SGX", modules, level[0], level[1]);
    snprintf(w->documents[RIG_IDENTITY], sizeof w->documents[0],
             "{\"id\":\"%s\",\"version\":2,\"issueDate\":\"2025-06-01T00:00:00Z\",\"nextUpdate\":\"2025-07-01T00:00:"
             "00Z\",\"tcbEvaluationDataNumber\":17,"
             "\"miscselect\":\"00000000\",\"miscselectMask\":\"FFFFFFFF\",\"attributes\":"
             "\"11000000000000000000000000000000\","
             "\"attributesMask\":\"FBFFFFFFFFFFFFFF0000000000000000\",\"mrsigner\":\"%064d\",\"isvprodid\":%d,"
             "\"tcbLevels\":["
             "{\"tcb\":{\"isvsvn\":8},\"tcbDate\":\"2025-01-01T00:00:00Z\",\"tcbStatus\":\"UpToDate\"},"
             "{\"tcb\":{\"isvsvn\":6},\"tcbDate\":\"2023-01-01T00:00:00Z\",\"tcbStatus\":\"OutOfDate\",\"advisoryIDs\":"
             "[\"INTEL-SA-00003\"]}]}",
             tdx ? "TD_QE" : "QE", 42, tdx ? 2 : 1);
}

/* A CRL of this certificate's key was believed before. */
static inline void rig_seen(world *w, int certificate, int64_t update)
{
    static cmif_seen_crl seen;
    unsigned             size = 0;
    X509                *c    = rig_make_certificate(w, certificate);
    rig_check(X509_pubkey_digest(c, EVP_sha256(), seen.issuer, &size) == 1, "digest");
    X509_free(c);
    seen.update              = update;
    w->policy.seen_crls      = &seen;
    w->policy.seen_crl_count = 1;
}

static inline void world_new(world *w, unsigned version, unsigned body_type)
{
    static const uint8_t vendor[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                       0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};
    static const size_t  sizes[]    = {0, 384, 584, 648};
    const bool           tdx        = body_type > 1;
    memset(w, 0, sizeof *w);
    rig_last_edit         = "";
    w->version            = version;
    w->body_type          = body_type;
    w->body_size          = sizes[body_type];
    w->auth_size          = 32;
    w->certification_type = 5;
    w->time               = RIG_TIME;
    w->pcesvn             = 13;
    memset(w->components, 5, 16);
    memcpy(w->fmspc, (const uint8_t[]){0x00, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0}, 6);
    rig_put(w->header, version, 2);
    rig_put(w->header + 2, 2, 2);
    rig_put(w->header + 4, tdx ? 0x81 : 0, 4);
    memcpy(w->header + 12, vendor, 16);
    memset(w->auth, 0x61, sizeof w->auth);

    rig_put(w->qe_report + CMIF_SGX_ATTRIBUTES, 0x15, 8); /* bit 2 is outside of the mask */
    rig_put(w->qe_report + CMIF_SGX_ATTRIBUTES + 8, 0xe7, 8);
    w->qe_report[CMIF_SGX_MRSIGNER + 31] = 0x42;
    rig_put(w->qe_report + CMIF_SGX_ISVPRODID, tdx ? 2 : 1, 2);
    rig_put(w->qe_report + CMIF_SGX_ISVSVN, 8, 2);
    for (size_t i = 0; i < w->body_size; i++) {
        w->body[i] = tdx ? 0 : (uint8_t) i;
    }
    if (tdx) {
        memset(w->body + 136, 0xaa, 48); /* MRTD */
        memset(w->body, 5, 16);
        w->body[1] = 1;
        rig_put(w->body + CMIF_TD_ATTRIBUTES, (uint64_t) 1 << 28, 8);
        if (body_type == 3) {
            memcpy(w->body + CMIF_TD_TCB_SVN2, w->body, 16);
        }
    } else {
        rig_put(w->body + CMIF_SGX_ATTRIBUTES, 5, 8);
        memset(w->body + 64, 0xaa, 32); /* MRENCLAVE */
        rig_put(w->body + CMIF_SGX_ISVPRODID, 3, 2);
        rig_put(w->body + CMIF_SGX_ISVSVN, 7, 2);
    }

    const int64_t from = RIG_TIME - 86400 * 300, until = RIG_TIME + 86400 * 300;
    w->certificates[RIG_ROOT]    = (rig_certificate){"Intel SGX Root CA",
                                                     from,
                                                     until,
                                                     1,
                                                     1,
                                                     "critical,keyCertSign,cRLSign",
                                                     1,
                                                     RIG_ROOT,
                                                     RIG_ROOT,
                                                     -1,
                                                     false,
                                                     false,
                                                     false};
    w->certificates[RIG_CA]      = (rig_certificate){"Intel SGX PCK Platform CA",
                                                     from,
                                                     until,
                                                     1,
                                                     0,
                                                     "critical,keyCertSign,cRLSign",
                                                     2,
                                                     RIG_ROOT,
                                                     RIG_CA,
                                                     -1,
                                                     false,
                                                     false,
                                                     false};
    w->certificates[RIG_PCK]     = (rig_certificate){"Intel SGX PCK Certificate",
                                                     from,
                                                     until,
                                                     0,
                                                     -1,
                                                     "critical,digitalSignature,nonRepudiation",
                                                     3,
                                                     RIG_CA,
                                                     RIG_PCK,
                                                     -1,
                                                     false,
                                                     false,
                                                     false};
    w->certificates[RIG_SIGNING] = (rig_certificate){"Intel SGX TCB Signing",
                                                     from,
                                                     until,
                                                     0,
                                                     -1,
                                                     "critical,digitalSignature,nonRepudiation",
                                                     4,
                                                     RIG_ROOT,
                                                     RIG_SIGNING,
                                                     -1,
                                                     false,
                                                     false,
                                                     false};
    w->crls[RIG_ROOT_CRL]        = (rig_crl){RIG_ROOT, -1, RIG_TIME - 86400, RIG_TIME + 86400, {0}, false, false};
    w->crls[RIG_PCK_CRL]         = (rig_crl){RIG_CA, -1, RIG_TIME - 86400, RIG_TIME + 86400, {77}, false, false};
    w->signed_by[0] = w->signed_by[1] = RIG_SIGNING;
    w->qe_signed_by                   = RIG_PCK;
    w->body_signed_by                 = RIG_ATTESTATION;

    w->measured = (cmif_measured){.tee = tdx ? CMIF_TEE_TDX : CMIF_TEE_SGX, .size = tdx ? 48 : 32};
    snprintf(w->measured.name, sizeof w->measured.name, "%s", tdx ? "mrtd" : "mrenclave");
    memset(w->measured.value, 0xaa, w->measured.size);
    cmif_attest_policy_init(&w->policy);
    w->policy.tees             = 1u << w->measured.tee;
    w->policy.measured_count   = 1;
    w->policy.report_data_size = 64;
    w->policy.root_count       = 1;
    world_documents(w);
}

/* The first `find` in a document becomes `put`. */
static inline void world_edit(world *w, int document, const char *find, const char *put)
{
    static char rest[32768];
    char       *at = strstr(w->documents[document], find);
    rig_check(at, find);
    rig_last_edit = put;
    snprintf(rest, sizeof rest, "%s", at + strlen(find));
    snprintf(at, sizeof w->documents[0] - (size_t) (at - w->documents[document]), "%s%s", put, rest);
}

static inline void rig_sign(EVP_PKEY *key, const void *bytes, size_t size, uint8_t raw[static 64])
{
    uint8_t        der[128];
    size_t         der_size = sizeof der;
    const uint8_t *at       = der;
    EVP_MD_CTX    *md       = EVP_MD_CTX_new();
    rig_check(md && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
                  EVP_DigestSign(md, der, &der_size, bytes, size) == 1,
              "signature");
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long) der_size);
    rig_check(sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) == 32 &&
                  BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) == 32,
              "signature");
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(md);
}

static inline size_t rig_pem(X509 *c, X509_CRL *crl, uint8_t *out, size_t room)
{
    BIO  *bio = BIO_new(BIO_s_mem());
    char *text;
    rig_check(bio && (c ? PEM_write_bio_X509(bio, c) : PEM_write_bio_X509_CRL(bio, crl)), "PEM");
    size_t size = (size_t) BIO_get_mem_data(bio, &text);
    rig_check(size < room, "room");
    memcpy(out, text, size);
    BIO_free(bio);
    return size;
}

static inline void rig_item(world *w, cmif_item_kind kind, const uint8_t *data, size_t size)
{
    w->items[w->count++] = (cmif_item){kind, data, size};
}

/* Certificates, CRLs, documents and quote, from what the world says. */
static inline void world_make(world *w)
{
    X509   *certificates[RIG_CERTIFICATES];
    uint8_t chain[8192], point[65], hashed[128];
    size_t  chain_size = 0, size, b = 0;
    w->count = 0;
    for (int i = 0; i < RIG_CERTIFICATES; i++) {
        certificates[i] = rig_make_certificate(w, i);
    }
    for (int i = 0; i < 3; i++) {
        int which = w->pem_reversed ? i : 2 - i;
        if (!w->certificates[which].left_out) {
            chain_size += rig_pem(certificates[which], NULL, chain + chain_size, sizeof chain - chain_size);
        }
    }
    if (!w->pem_no_zero) {
        chain[chain_size++] = 0;
    }

    size_t   point_size;
    uint8_t *q = w->quote;
    rig_check(EVP_PKEY_get_octet_string_param(rig_keys[RIG_ATTESTATION], OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point,
                                              &point_size) &&
                  point_size == 65,
              "point");
    memcpy(hashed, point + 1, 64);
    memcpy(hashed + 64, w->auth, w->auth_size);
    if (!w->qe_data_by_hand) {
        SHA256(hashed, 64 + w->auth_size, w->qe_report + CMIF_SGX_REPORT_DATA);
    }
    memcpy(q, w->header, 48);
    size = 48;
    if (w->version == 5) {
        rig_put(q + 48, w->body_type, 2);
        rig_put(q + 50, w->body_size, 4);
        size = 54;
    }
    memcpy(q + size, w->body, w->body_size);
    size += w->body_size;
    size_t signed_size = size, length_at = size;
    size += 4;
    rig_sign(rig_keys[w->body_signed_by], q, signed_size, q + size);
    memcpy(q + size + 64, point + 1, 64);
    size += 128;
    size_t outer_at = size;
    size += w->version >= 4 ? 6 : 0;
    memcpy(q + size, w->qe_report, 384);
    rig_sign(rig_keys[w->qe_signed_by], w->qe_report, 384, q + size + 384);
    size += 448;
    rig_put(q + size, w->auth_size, 2);
    memcpy(q + size + 2, w->auth, w->auth_size);
    size += 2 + w->auth_size;
    rig_put(q + size, w->certification_type, 2);
    rig_put(q + size + 2, chain_size, 4);
    memcpy(q + size + 6, chain, chain_size);
    size += 6 + chain_size;
    rig_put(q + length_at, size - length_at - 4, 4);
    if (w->version >= 4) {
        rig_put(q + outer_at, 6, 2);
        rig_put(q + outer_at + 2, size - outer_at - 6, 4);
    }
    memset(q + size, w->trailing_byte, w->trailing);
    w->quote_size = size + w->trailing;
    rig_item(w, CMIF_ITEM_QUOTE, q, w->quote_size);

    static const char *const names[] = {"tcbInfo", "enclaveIdentity"};
    for (int i = 0; i < RIG_DOCUMENTS; i++) {
        uint8_t raw[64];
        char    hex[129];
        rig_sign(rig_keys[w->signed_by[i]], w->documents[i], strlen(w->documents[i]), raw);
        cmif_hex(raw, 64, hex);
        size = (size_t) snprintf((char *) w->blobs[b], sizeof w->blobs[b], "{\"%s\":%s,\"signature\":\"%s\"}", names[i],
                                 w->documents[i], hex);
        if (!w->no_document[i]) {
            rig_item(w, i ? CMIF_ITEM_QE_IDENTITY : CMIF_ITEM_TCB_INFO, w->blobs[b], size);
        }
        b++;
    }
    if (!w->certificates[RIG_SIGNING].left_out) {
        size = rig_pem(certificates[RIG_SIGNING], NULL, w->blobs[b], sizeof w->blobs[b]);
        rig_item(w, CMIF_ITEM_CERTIFICATES, w->blobs[b++], size);
    }
    for (int i = 0; i < RIG_CRLS; i++) {
        X509_CRL *crl = rig_make_crl(w, i);
        uint8_t  *at  = w->blobs[b];
        size          = i ? rig_pem(NULL, crl, at, sizeof w->blobs[b]) : (size_t) i2d_X509_CRL(crl, &at);
        if (!w->crls[i].left_out) {
            rig_item(w, CMIF_ITEM_CRL, w->blobs[b], size);
        }
        b++;
        X509_CRL_free(crl);
    }
    if (w->foreign_root) {
        X509_free(certificates[RIG_ROOT]);
        w->certificates[RIG_ROOT].key = RIG_STRANGER;
        certificates[RIG_ROOT]        = rig_make_certificate(w, RIG_ROOT);
    }
    uint8_t *at = w->blobs[b];
    w->root     = (cmif_item){CMIF_ITEM_CERTIFICATES, w->blobs[b], (size_t) i2d_X509(certificates[RIG_ROOT], &at)};
    for (int i = 0; i < RIG_CERTIFICATES; i++) {
        X509_free(certificates[i]);
    }
    w->policy.roots    = &w->root;
    w->policy.measured = w->policy.measured_count ? &w->measured : NULL;
    w->policy.report_data =
        w->policy.report_data_size ? w->body + (w->body_type > 1 ? CMIF_TD_REPORT_DATA : CMIF_SGX_REPORT_DATA) : NULL;
}

static inline void world_judge(world *w, cmif_verdict *v)
{
    cmif_attest(w->items, w->count, &w->policy, w->time, v);
}

#endif
