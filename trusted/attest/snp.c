#include "attest/snp.h"

#include "attest/x509.h"
#include "base/bytes.h"

#include <ctype.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- products ---- */
enum { TCB_SIZE = 8 };
typedef struct component { /* one byte of TCB_VERSION, and the arc 1.3.6.1.4.1.3704.1.3.n that says it in the leaf */
    uint8_t     arc;
    const char *name; /* NULL: an SPL without a name; zero so far */
} component;

static const component zen4_tcb[TCB_SIZE]  = {{1, "boot_loader"}, {2, "tee"}, {4, NULL},  {5, NULL},
                                              {6, NULL},          {7, NULL},  {3, "snp"}, {8, "microcode"}};
static const component turin_tcb[TCB_SIZE] = {{9, "fmc"}, {1, "boot_loader"}, {2, "tee"}, {3, "snp"},
                                              {5, NULL},  {6, NULL},          {7, NULL},  {8, "microcode"}};

typedef struct amd_product {
    const char      *name, *ark, *ask, *asvk, *word;
    const component *tcb;
    size_t           hwid_size;
} amd_product;
static const amd_product milan = {"Milan", "ARK-Milan", "SEV-Milan", "SEV-VLEK-Milan", "milan", zen4_tcb, 64},
                         genoa = {"Genoa", "ARK-Genoa", "SEV-Genoa", "SEV-VLEK-Genoa", "genoa", zen4_tcb, 64},
                         turin = {"Turin", "ARK-Turin", "SEV-Turin", "SEV-VLEK-Turin", "turin", turin_tcb, 8};
static const amd_product *const products[] = {&milan, &genoa, &turin};

/* Reports from version 3 on say who made them. NULL: a product that is not known here. */
static const amd_product *product_of_cpuid(unsigned family, unsigned model)
{
    if (family == 0x19 && model <= 0x0f) {
        return &milan;
    }
    if (family == 0x19 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf))) {
        return &genoa;
    }
    return family == 0x1a && model <= 0x1f ? &turin : NULL;
}

/* ---- the report ---- */
enum { /* offsets */
       VERSION        = 0,
       POLICY         = 8,
       VMPL           = 0x30,
       SIGNATURE_ALGO = 0x34,
       PLATFORM_INFO  = 0x40,
       FLAGS          = 0x48,
       REPORT_DATA    = 0x50,
       REPORTED_TCB   = 0x180,
       CPUID          = 0x188,
       CHIP_ID        = 0x1a0,
       COMMITTED_TCB  = 0x1e0,
       CURRENT_MIT    = 0x200,
       SIGNATURE      = 0x2a0,
       SIGNATURE_HALF = 72,
       HALF           = 48
};
enum { SIGNING_VCEK = 0, SIGNING_VLEK = 1, SIGNING_NONE = 7 };
#define BIT(n) ((uint64_t) 1 << (n))
#define POLICY_KNOWN (BIT(26) - 1)
#define PLATFORM_KNOWN (BIT(8) - 1)
#define FLAGS_KNOWN (BIT(5) - 1)

static const struct {
    const char *name;
    uint16_t    at, size;
    char        kind; /* n number, x 0x number, h bytes */
} report_fields[] = {
    {"version", VERSION, 4, 'n'},
    {"guest_svn", 4, 4, 'n'},
    {"policy", POLICY, 8, 'x'},
    {"family_id", 0x10, 16, 'h'},
    {"image_id", 0x20, 16, 'h'},
    {"vmpl", VMPL, 4, 'n'},
    {"sig_algo", SIGNATURE_ALGO, 4, 'n'},
    {"current_tcb", 0x38, 8, 'h'},
    {"platform_info", PLATFORM_INFO, 8, 'x'},
    {"flags", FLAGS, 4, 'x'},
    {"report_data", REPORT_DATA, 64, 'h'},
    {"measurement", 0x90, 48, 'h'},
    {"host_data", 0xc0, 32, 'h'},
    {"id_key_digest", 0xe0, 48, 'h'},
    {"author_key_digest", 0x110, 48, 'h'},
    {"report_id", 0x140, 32, 'h'},
    {"report_id_ma", 0x160, 32, 'h'},
    {"reported_tcb", REPORTED_TCB, 8, 'h'},
    {"cpuid", CPUID, 4, 'h'},
    {"chip_id", CHIP_ID, 64, 'h'},
    {"committed_tcb", COMMITTED_TCB, 8, 'h'},
    {"current_ver", 0x1e8, 4, 'h'},
    {"committed_ver", 0x1ec, 4, 'h'},
    {"launch_tcb", 0x1f0, 8, 'h'},
    {"launch_mit", 0x1f8, 8, 'x'},
    {"current_mit", CURRENT_MIT, 8, 'x'},
};

static uint64_t number(const uint8_t *report, size_t at, size_t size)
{
    cmif_reader r = {.data = report, .size = CMIF_SNP_REPORT_SIZE, .at = at};
    return cmif_read_le(&r, size);
}

static bool zeros(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

/* What no version that we know has a meaning for must be zero: a later firmware may mean something by it that we would
 * miss. */
static bool reserved_are_zero(const uint8_t *report, unsigned version)
{
    const struct {
        unsigned from, to;
    } gaps[] = {{0x4c, 0x50},
                {version >= 3 ? 0x18b : 0x188, 0x1a0},
                {0x1eb, 0x1ec},
                {0x1ef, 0x1f0},
                {version >= 5 ? 0x208 : 0x1f8, SIGNATURE},
                {SIGNATURE + HALF, SIGNATURE + SIGNATURE_HALF},
                {SIGNATURE + SIGNATURE_HALF + HALF, CMIF_SNP_REPORT_SIZE}};
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) {
        if (!zeros(report + gaps[i].from, gaps[i].to - gaps[i].from)) {
            return false;
        }
    }
    return !(number(report, POLICY, 8) & ~POLICY_KNOWN) && !(number(report, PLATFORM_INFO, 8) & ~PLATFORM_KNOWN) &&
           !(number(report, FLAGS, 4) & ~FLAGS_KNOWN);
}

/* Size, version and algorithm, then every field into the verdict; false: not a report that can be looked at further. */
static bool read_report(cmif_verdict *v, const uint8_t *report, size_t size)
{
    if (size != CMIF_SNP_REPORT_SIZE) {
        cmif_verdict_worse(v, CMIF_MALFORMED, CMIF_E_FORMAT, "SNP report: expected %d bytes, found %zu",
                           CMIF_SNP_REPORT_SIZE, size);
        cmif_verdict_invalid(v, "report-size");
        return false;
    }
    unsigned version = (unsigned) number(report, VERSION, 4), algorithm = (unsigned) number(report, SIGNATURE_ALGO, 4);
    if (version < 2 || version > 5) {
        cmif_verdict_worse(v, CMIF_UNSUPPORTED, CMIF_E_UNSUPPORTED,
                           "SNP report: version %u at offset 0; 2 to 5 are known", version);
        cmif_verdict_invalid(v, "report-version");
        return false;
    }
    if (algorithm != 1) {
        cmif_verdict_worse(v, CMIF_UNSUPPORTED, CMIF_E_UNSUPPORTED,
                           "SNP report: signature algorithm %u at offset 52; 1 is ECDSA P-384 with SHA-384", algorithm);
        cmif_verdict_invalid(v, "signature-algorithm");
        return false;
    }
    for (size_t i = 0; i < sizeof report_fields / sizeof *report_fields; i++) {
        uint16_t at = report_fields[i].at, n = report_fields[i].size;
        if (report_fields[i].kind == 'h') {
            cmif_verdict_hex(v, report_fields[i].name, report + at, n);
        } else {
            cmif_verdict_text(v, report_fields[i].name, report_fields[i].kind == 'x' ? "0x%llx" : "%llu",
                              (unsigned long long) number(report, at, n));
        }
    }
    unsigned flags = (unsigned) number(report, FLAGS, 4);
    cmif_verdict_number(v, "author_key_en", flags & 1);
    cmif_verdict_number(v, "mask_chip_key", flags >> 1 & 1);
    cmif_verdict_number(v, "signing_key", flags >> 2 & 7);
    if (!reserved_are_zero(report, version)) {
        cmif_verdict_invalid(v, "reserved-bits");
    }
    if (!(number(report, POLICY, 8) & BIT(17))) { /* must be one, in every version */
        cmif_verdict_invalid(v, "policy-bit-17");
    }
    return true;
}

/* ---- the leaf ---- */
static bool leaf_extension(const X509 *leaf, const uint8_t *arc, size_t arc_size, cmif_reader *value)
{
    uint8_t oid[9 + 2] = {0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01}; /* 1.3.6.1.4.1.3704.1 */
    memcpy(oid + 8, arc, arc_size);
    return cmif_x509_extension(leaf, oid, 8 + arc_size, value);
}

/* An SPL: a DER INTEGER from 0 to 255, in its shortest form. */
static bool leaf_spl(const X509 *leaf, uint8_t arc, uint8_t *spl)
{
    cmif_reader value;
    if (!leaf_extension(leaf, (const uint8_t[]){3, arc}, 2, &value)) {
        return false;
    }
    const uint8_t *p = value.data;
    if (value.size == 3 && p[0] == 2 && p[1] == 1 && p[2] < 0x80) {
        *spl = p[2];
        return true;
    }
    if (value.size == 4 && p[0] == 2 && p[1] == 2 && p[2] == 0 && p[3] >= 0x80) {
        *spl = p[3];
        return true;
    }
    return false;
}

static bool leaf_is(const X509 *c, bool vlek)
{
    return cmif_x509_has_name(c, vlek ? "SEV-VLEK" : "SEV-VCEK");
}

/* The name of the ASK or ASVK that the leaf says has signed it; NULL: not a leaf, or an issuer that is none of AMD's.
 */
static const char *leaf_issuer(const X509 *leaf)
{
    char text[64];
    if ((!leaf_is(leaf, false) && !leaf_is(leaf, true)) ||
        X509_NAME_get_text_by_NID(X509_get_issuer_name(leaf), NID_commonName, text, sizeof text) <= 0) {
        return NULL;
    }
    for (size_t i = 0; i < cmif_snp_ca_count; i++) {
        if (!strcmp(text, cmif_snp_cas[i].name)) {
            return cmif_snp_cas[i].name;
        }
    }
    return NULL;
}

/* Each component on its own: an equal integer and equal components are one, but a smaller integer is not a smaller TCB.
 */
static bool leaf_tcb_is(const X509 *leaf, const amd_product *product, const uint8_t *tcb)
{
    bool same = true;
    for (size_t i = 0; i < TCB_SIZE; i++) {
        uint8_t spl;
        same = leaf_spl(leaf, product->tcb[i].arc, &spl) && spl == tcb[i] && same;
    }
    return same;
}

/* HWID is raw bytes inside the extension; some tools wrap it in an OCTET STRING of its own. */
static bool leaf_hwid(const X509 *leaf, size_t size, cmif_reader *hwid)
{
    if (!leaf_extension(leaf, (const uint8_t[]){4}, 1, hwid)) {
        return false;
    }
    if (hwid->size == size + 2 && hwid->data[0] == 4 && hwid->data[1] == size) {
        hwid->data += 2;
        hwid->size -= 2;
    }
    return hwid->size == size;
}

static bool leaf_chip_is(const X509 *leaf, const amd_product *product, const uint8_t *chip_id, cmif_verdict *v)
{
    cmif_reader hwid;
    if (!leaf_hwid(leaf, product->hwid_size, &hwid)) {
        return false;
    }
    if (zeros(chip_id, 64)) { /* MASK_CHIP_ID: the key itself, which is that of one chip, is what is left to go by */
        cmif_verdict_number(v, "chip_id_masked", 1);
        return true;
    }
    return !memcmp(chip_id, hwid.data, hwid.size) && zeros(chip_id + hwid.size, 64 - hwid.size);
}

/* The product name in the leaf is the product's, with a stepping after it ("Milan-B0") or not. Genoa's line has Bergamo
 * and Siena in it. */
static bool leaf_product_is(const X509 *leaf, const amd_product *product, cmif_verdict *v)
{
    enum { IA5STRING = 0x16 };
    cmif_reader value, text;
    uint8_t     tag;
    if (!leaf_extension(leaf, (const uint8_t[]){2}, 1, &value) || !cmif_der_next(&value, &tag, &text) ||
        tag != IA5STRING || value.at != value.size) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (!isalnum(text.data[i]) && text.data[i] != '-') {
            return false;
        }
    }
    cmif_verdict_text(v, "cert_product", "%.*s", (int) (text.size < 32 ? text.size : 32), (const char *) text.data);
    const char *names[] = {product->name, product == &genoa ? "Bergamo" : NULL, product == &genoa ? "Siena" : NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size = names[i] ? strlen(names[i]) : SIZE_MAX;
        if (text.size >= size && !memcmp(text.data, names[i], size) && (text.size == size || text.data[size] == '-')) {
            return true;
        }
    }
    return false;
}

static void tell_time(cmif_verdict *v, const char *name, const ASN1_TIME *time)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(time, &tm)) {
        char text[32];
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
        cmif_verdict_text(v, name, "%s", text);
    }
}

static void tell_leaf(cmif_verdict *v, const X509 *leaf, bool vlek)
{
    cmif_reader value, text;
    uint8_t     tag;
    cmif_verdict_text(v, "leaf_kind", "%s", vlek ? "VLEK" : "VCEK");
    tell_time(v, "leaf_not_before", X509_get0_notBefore(leaf));
    tell_time(v, "leaf_not_after", X509_get0_notAfter(leaf));
    if (leaf_extension(leaf, (const uint8_t[]){4}, 1, &value)) {
        cmif_verdict_hex(v, "cert_hwid", value.data, value.size);
    }
    if (leaf_extension(leaf, (const uint8_t[]){5}, 1, &value) &&
        cmif_der_next(&value, &tag, &text)) { /* a cloud's name, "CN=cc-us-east-2.amazonaws.com" */
        bool printable = true;
        for (size_t i = 0; i < text.size; i++) {
            printable = printable && text.data[i] >= 0x20 && text.data[i] < 0x7f;
        }
        if (printable) {
            cmif_verdict_text(v, "csp_id", "%.*s", (int) (text.size < 128 ? text.size : 128), (const char *) text.data);
        }
    }
}

/* 1 good, 0 bad, -1 no memory. */
static int signature_holds(X509 *leaf, const uint8_t *report)
{
    uint8_t raw[2 * HALF];
    for (size_t i = 0; i < HALF; i++) { /* little-endian in the report */
        raw[HALF - 1 - i]     = report[SIGNATURE + i];
        raw[2 * HALF - 1 - i] = report[SIGNATURE + SIGNATURE_HALF + i];
    }
    return cmif_x509_key_is(leaf, CMIF_KEY_P384)
               ? cmif_ecdsa_verify(X509_get0_pubkey(leaf), raw, sizeof raw, report, CMIF_SNP_SIGNED_SIZE)
               : 0;
}

/* Which certificate to judge the report by: the one whose key signed it, else one of the kind that the report names,
 * else any leaf of AMD's, so that the verdict can say what is wrong with it. */
static X509 *find_leaf(cmif_pool *pool, const uint8_t *report, bool vlek, const cmif_path_rules *rules)
{
    X509 *best       = NULL;
    int   best_score = -1;
    for (size_t i = 0; i < pool->certificate_count; i++) {
        X509     *c = pool->certificates[i];
        cmif_path path;
        if ((!leaf_is(c, false) && !leaf_is(c, true)) || !cmif_pool_spend(pool)) {
            continue;
        }
        int score = 4 * (signature_holds(c, report) == 1) + 2 * leaf_is(c, vlek);
        if (score == 6) {
            cmif_path_build(pool, c, rules, &path);
            score += path.problems == 0;
        }
        if (score > best_score) {
            best       = c;
            best_score = score;
        }
    }
    return best;
}

static const amd_product *product_of_issuer(const X509 *leaf)
{
    const char *issuer = leaf_issuer(leaf);
    for (size_t i = 0; issuer && i < sizeof products / sizeof *products; i++) {
        if (!strcmp(issuer, products[i]->ask) || !strcmp(issuer, products[i]->asvk)) {
            return products[i];
        }
    }
    return NULL;
}

/* The issuers that are built in, of the leaves that are there; unless the pool is full: then the caller's will do, or
 * the path does not end. */
static void add_hints(cmif_pool *pool)
{
    size_t count = pool->certificate_count;
    for (size_t i = 0; i < cmif_snp_ca_count; i++) {
        bool needed = false;
        for (size_t k = 0; k < count && !needed; k++) {
            const char *issuer = leaf_issuer(pool->certificates[k]);
            needed             = issuer && !strcmp(issuer, cmif_snp_cas[i].name);
        }
        cmif_err err;
        if (needed && cmif_pool_add_certificates(pool, (const uint8_t *) cmif_snp_cas[i].pem,
                                                 strlen(cmif_snp_cas[i].pem), &err) != CMIF_OK) {
            return;
        }
    }
}

static void check_leaf(cmif_attest_call *call, const uint8_t *report, const amd_product *product)
{
    cmif_verdict         *v       = call->verdict;
    const cmif_path_rules rules   = {.root_kinds = cmif_root_kinds(call->policy, CMIF_TEE_SNP, CMIF_ROOT_AMD),
                                     .keys       = CMIF_KEY_RSA | CMIF_KEY_P384,
                                     .signatures = CMIF_SIG_PSS_SHA384,
                                     .time       = call->time,
                                     .tolerance  = call->policy->tolerance};
    unsigned              signing = (unsigned) (number(report, FLAGS, 4) >> 2 & 7);
    bool                  vlek    = signing == SIGNING_VLEK;
    cmif_path             path;

    if (signing != SIGNING_VCEK && signing != SIGNING_VLEK) {
        cmif_verdict_invalid(v, signing == SIGNING_NONE ? "signing-key-none" : "signing-key-unknown");
    }
    add_hints(call->pool);
    X509 *leaf = find_leaf(call->pool, report, vlek, &rules);
    if (!leaf) {
        cmif_verdict_reason(v, "no-collateral");
        cmif_verdict_worse(v, CMIF_REJECTED, CMIF_E_TRUST, "SNP report: there is no %s certificate to verify it with",
                           vlek ? "VLEK" : "VCEK");
        return;
    }
    bool leaf_vlek = leaf_is(leaf, true);
    tell_leaf(v, leaf, leaf_vlek);
    if (signing <= SIGNING_VLEK && leaf_vlek != vlek) {
        cmif_verdict_invalid(v, "leaf-kind");
    }
    int good = signature_holds(leaf, report);
    if (good < 0) {
        cmif_verdict_worse(v, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY,
                           "SNP report: OpenSSL has no memory to verify its signature");
    }
    if (good != 1) {
        cmif_verdict_invalid(v, "report-signature");
    }
    product = product ? product : product_of_issuer(leaf);
    if (!product) {
        cmif_verdict_invalid(v, "product");
    }

    cmif_path_build(call->pool, leaf, &rules, &path);
    cmif_path_check_crls(call->pool, &rules, false, &path);
    if (product && path.count > 1 &&
        !(path.problems & CMIF_PATH_UNTRUSTED)) { /* three self-signed ARKs: that of this product, never any */
        bool ours = path.count == 3 &&
                    cmif_x509_has_name(path.certificates[1], leaf_vlek ? product->asvk : product->ask) &&
                    cmif_x509_has_name(path.certificates[2], product->ark);
        if (!ours) {
            cmif_verdict_invalid(v, "product");
        }
    }
    cmif_path_tell(&path, leaf_vlek ? "vlek" : "vcek", false, call);
    v->crl_this_update = path.crl_this_update;
    if (path.crl_this_update && product) {
        cmif_verdict_text(v, "crl_issuer", "%s", product->ark);
    }

    if (product) {
        cmif_verdict_text(v, "product", "%s", product->word);
        for (size_t i = 0; i < TCB_SIZE; i++) {
            if (product->tcb[i].name) {
                cmif_verdict_number(v, product->tcb[i].name, report[REPORTED_TCB + i]);
            }
        }
        if (!leaf_product_is(leaf, product, v)) {
            cmif_verdict_invalid(v, "product");
        }
        if (!leaf_tcb_is(leaf, product, report + REPORTED_TCB)) {
            cmif_verdict_invalid(v, "reported-tcb");
        }
        if (!leaf_vlek && !leaf_chip_is(leaf, product, report + CHIP_ID, v)) {
            cmif_verdict_invalid(v, "chip-id");
        }
    }
}

static void check_policy(cmif_attest_call *call, const uint8_t *report)
{
    const cmif_attest_policy *policy = call->policy;
    cmif_verdict             *v      = call->verdict;
    uint64_t                  bits   = number(report, POLICY, 8);
    uint64_t platform = number(report, PLATFORM_INFO, 8), missing = policy->snp_platform_required & ~platform;
    v->debug = bits & BIT(19);
    if (v->debug && !policy->loosened.debug) {
        cmif_verdict_reason(v, "debug");
    }
    if ((bits & policy->snp_required) != policy->snp_required || (bits & policy->snp_forbidden & ~BIT(19))) {
        cmif_verdict_reason(v, "policy-bits");
    }
    if (number(report, VMPL, 4) > policy->snp_vmpl_max) {
        cmif_verdict_reason(v, "vmpl");
    }
    for (size_t i = 0; i < TCB_SIZE; i++) { /* COMMITTED_TCB: what the firmware can no longer be rolled back below */
        if (report[COMMITTED_TCB + i] < policy->snp_minimum_tcb[i]) {
            cmif_verdict_reason(v, "tcb-below-minimum");
        }
    }
    if (missing & BIT(5)) { /* ALIAS_CHECK_COMPLETE: no memory aliases since the last reset (CVE-2024-21944) */
        cmif_verdict_reason(v, "alias-check");
    }
    if (missing & ~BIT(5)) {
        cmif_verdict_reason(v, "platform-bits");
    }
    if (policy->snp_mit_required & ~(number(report, VERSION, 4) >= 5 ? number(report, CURRENT_MIT, 8) : 0)) {
        cmif_verdict_reason(v, "mit-vector");
    }
}

bool cmif_snp_check_report(cmif_attest_call *call, const uint8_t *report, size_t size, uint8_t report_data[static 64])
{
    cmif_verdict *v = call->verdict;
    if (!read_report(v, report, size)) {
        return false;
    }
    const amd_product *product = NULL;
    if (number(report, VERSION, 4) >= 3) {
        product = product_of_cpuid(report[CPUID], report[CPUID + 1]);
        if (!product) {
            cmif_verdict_worse(v, CMIF_UNSUPPORTED, CMIF_E_UNSUPPORTED,
                               "SNP report: CPU family 0x%02x model 0x%02x at offset 392 is no product that is known",
                               report[CPUID], report[CPUID + 1]);
            cmif_verdict_invalid(v, "product");
            return false;
        }
    }
    check_leaf(call, report, product);
    check_policy(call, report);
    memcpy(report_data, report + REPORT_DATA, 64);
    return true;
}

/* ---- the host's certificate table ---- */
cmif_code cmif_snp_table_read(const uint8_t *data, size_t size, cmif_pool *pool, cmif_err *err)
{
    enum { ENTRY = 24, GUID = 16 };
    static const struct {
        uint8_t guid[GUID]; /* RFC 4122 byte order */
        bool    crl;
    } known[] = {
        {{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd},
         false}, /* VCEK */
        {{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1},
         false}, /* VLEK */
        {{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82},
         false}, /* ASK */
        {{0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea}, true},
    };
    cmif_reader r = cmif_reader_over(data, size);
    for (size_t entry = 0;; entry++) {
        const uint8_t *guid   = cmif_read_bytes(&r, GUID);
        uint32_t       offset = cmif_read_u32(&r), length = cmif_read_u32(&r);
        if (r.failed) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "certificate table: %zu bytes end before the entry of zeros that ends it", size);
        }
        if (zeros(guid, GUID)) {
            return CMIF_OK;
        }
        if (offset > size || length > size - offset) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "certificate table: entry %zu is at %u with %u bytes, the table has %zu", entry, offset,
                             length, size);
        }
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            if (memcmp(guid, known[i].guid, GUID) != 0) {
                continue;
            }
            cmif_code rc = known[i].crl ? cmif_pool_add_crls(pool, data + offset, length, err)
                                        : cmif_pool_add_certificates(pool, data + offset, length, err);
            if (rc != CMIF_OK) {
                cmif_err_context(err, "certificate table: entry %zu", entry);
                return rc;
            }
        }
    }
}

/* ---- the part ---- */
void cmif_snp_check(cmif_attest_call *call)
{
    cmif_verdict *v      = call->verdict;
    v->tee               = CMIF_TEE_SNP;
    const cmif_item *got = cmif_call_one(call, CMIF_ITEM_SNP_REPORT), *table = cmif_call_one(call, CMIF_ITEM_SNP_TABLE);
    cmif_err         err = {0};
    if (table) {
        cmif_code rc = cmif_snp_table_read(table->data, table->size, call->pool, &err);
        if (rc != CMIF_OK) {
            cmif_verdict_worse(v, rc == CMIF_E_MEMORY ? CMIF_ATTEST_INTERNAL : CMIF_MALFORMED, rc, "%s", err.text);
            cmif_verdict_invalid_collateral(v, "certificate-table");
        }
    }
    uint8_t report_data[64];
    if (got && cmif_snp_check_report(call, got->data, got->size, report_data)) {
        cmif_call_measured(call, CMIF_TEE_SNP);
        cmif_call_report_data(call, report_data);
        call->proved = true;
    }
}
