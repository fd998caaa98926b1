#include "attest/ratls.h"

#include "attest/cases.h"
#include "attest/dcap_rig.h"

/* A certificate with evidence, bent by a test. As made by bent_new() it is accepted; its quote is of the rig's Intel.
 */
typedef struct bent {
    uint8_t     claims[512], evidence[20000];
    size_t      claims_size;
    const char *oid;
    bool        tagged; /* CBOR [quote, claims]; else the raw quote, bound to the key itself */
    uint64_t    tag, array;
    size_t      trailing;
    int         hashed_key, key; /* rig_keys: what the claims name; what the certificate is of */
    bool        again, broken, upper, zero, second;
} bent;

static world   w;
static bent    b;
static uint8_t certificate[40000];

static void put_head(uint8_t *out, size_t *at, unsigned major, uint64_t value)
{
    int bytes    = value < 24 ? 0 : value < 256 ? 1 : value < 65536 ? 2 : value >> 32 ? 8 : 4;
    out[(*at)++] = (uint8_t) (major << 5 | (bytes == 0   ? value
                                            : bytes == 1 ? 24
                                            : bytes == 2 ? 25
                                            : bytes == 4 ? 26
                                                         : 27));
    for (int i = bytes; i-- > 0;) {
        out[(*at)++] = (uint8_t) (value >> (8 * i));
    }
}

static void put_string(uint8_t *out, size_t *at, unsigned major, const void *bytes, size_t size)
{
    put_head(out, at, major, size);
    memcpy(out + *at, bytes, size);
    *at += size;
}

static void key_hash(int key, int algorithm, uint8_t hash[static 64])
{
    uint8_t *spki = NULL;
    int      size = i2d_PUBKEY(rig_keys[key], &spki);
    rig_check(size > 0 && EVP_Digest(spki, (size_t) size, hash, NULL,
                                     algorithm == 7   ? EVP_sha384()
                                     : algorithm == 8 ? EVP_sha512()
                                                      : EVP_sha256(),
                                     NULL),
              "hash");
    OPENSSL_free(spki);
}

/* "pubkey-hash": bytes of [algorithm, hash] */
static void put_key_claim(int key, int algorithm, size_t hash_size)
{
    uint8_t hash[64], pair[128];
    size_t  size = 0;
    key_hash(key, algorithm, hash);
    put_head(pair, &size, 4, 2);
    put_head(pair, &size, 0, (uint64_t) algorithm);
    put_string(pair, &size, 2, hash, hash_size);
    put_string(b.claims, &b.claims_size, 3, "pubkey-hash", 11);
    put_string(b.claims, &b.claims_size, 2, pair, size);
}

static void bent_new(void)
{
    world_new(&w, 3, 1);
    b = (bent){.oid = "2.23.133.5.4.9", .tagged = true, .tag = 60000, .array = 2, .key = RIG_STRANGER};
    w.policy.report_data_size        = 0;
    w.policy.loosened.no_report_data = true;
}

static void claims_new(uint64_t count)
{
    b.claims_size = 0;
    put_head(b.claims, &b.claims_size, 5, count);
}

static void add_extension(X509 *c, const char *oid, const uint8_t *bytes, size_t size)
{
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    ASN1_OBJECT       *object = OBJ_txt2obj(oid, 1);
    rig_check(octets && object && ASN1_OCTET_STRING_set(octets, bytes, (int) size), oid);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 0, octets);
    rig_check(e && X509_add_ext(c, e, -1), oid);
    X509_EXTENSION_free(e);
    ASN1_OBJECT_free(object);
    ASN1_OCTET_STRING_free(octets);
}

static void bent_make(void)
{
    uint8_t *report_data = w.body + CMIF_SGX_REPORT_DATA, hash[64];
    size_t   size        = 0;
    if (b.tagged && !b.claims_size) {
        claims_new(1);
        put_key_claim(b.hashed_key ? b.hashed_key : b.key, 1, 32);
    }
    memset(report_data, 0, 64);
    if (b.tagged) {
        SHA256(b.claims, b.claims_size, report_data);
    } else {
        key_hash(b.hashed_key ? b.hashed_key : b.key, 1, hash);
        memcpy(report_data, hash, 32);
    }
    if (b.zero) {
        memset(report_data, 0, 32);
    }
    report_data[63] = b.upper;
    world_make(&w);
    if (b.tagged) {
        put_head(b.evidence, &size, 6, b.tag);
        put_head(b.evidence, &size, 4, b.array);
        put_string(b.evidence, &size, 2, w.quote, w.quote_size);
        put_string(b.evidence, &size, 2, b.claims, b.claims_size);
        memset(b.evidence + size, 0, b.trailing);
        size += b.trailing;
    } else {
        memcpy(b.evidence, w.quote, w.quote_size);
        size = w.quote_size;
    }
    X509 *c = X509_new();
    rig_check(c && X509_set_version(c, 2) && ASN1_INTEGER_set(X509_get_serialNumber(c), 1) &&
                  X509_set_pubkey(c, rig_keys[b.key]),
              "certificate");
    ASN1_TIME_set(X509_getm_notBefore(c), 0); /* long ago: an enclave's own word, which is not looked at */
    ASN1_TIME_set(X509_getm_notAfter(c), 60);
    rig_name(X509_get_subject_name(c), "RA-TLS");
    rig_name(X509_get_issuer_name(c), "RA-TLS");
    if (b.oid) {
        add_extension(c, b.oid, b.evidence, size);
    }
    if (b.again) {
        add_extension(c, b.oid, b.evidence, size);
    }
    rig_check(X509_sign(c, rig_keys[b.broken ? RIG_PCK : b.key], EVP_sha256()), "sign");
    uint8_t *at               = certificate;
    size_t   certificate_size = (size_t) i2d_X509(c, &at);
    if (b.second) {
        memcpy(at, certificate, certificate_size);
        certificate_size *= 2;
    }
    X509_free(c);
    w.items[0]           = (cmif_item){CMIF_ITEM_RATLS, certificate, certificate_size};
    w.policy.report_data = NULL;
}

static void expect(const char *name, cmif_outcome outcome, const char *reason, const char *error)
{
    static cmif_verdict v;
    world_judge(&w, &v);
    bool good = v.outcome == outcome && v.reason_count == (size_t) !!*reason &&
                (!*reason || case_has_reason(&v, reason)) && (!*error ? v.error_count == 0 : case_has_error(&v, error));
    if (!good) {
        case_tell(name, &v);
    }
    CHECK(good);
    uint8_t hash[64];
    char    text[65];
    key_hash(b.key, 1, hash);
    cmif_hex(hash, 32, text);
    const char *field = cmif_verdict_field(&v, "spki_sha256");
    CHECK(b.second || (field && !strcmp(field, text))); /* TLS compares this with the peer's key */
}

#define CERTIFICATE(outcome, reason, error, ...)                                                                       \
    do {                                                                                                               \
        bent_new();                                                                                                    \
        __VA_ARGS__;                                                                                                   \
        bent_make();                                                                                                   \
        expect(#__VA_ARGS__, outcome, reason, error);                                                                  \
    } while (0)
#define BAD(error, ...) CERTIFICATE(CMIF_REJECTED, "invalid-evidence", error, __VA_ARGS__)

static void each_form_of_certificate_is_read(void)
{
    CERTIFICATE(CMIF_ACCEPTED, "", "", b.tagged = true);
    CERTIFICATE(CMIF_ACCEPTED, "", "", claims_new(1); put_key_claim(b.key, 7, 48));
    CERTIFICATE(CMIF_ACCEPTED, "", "", claims_new(1); put_key_claim(b.key, 8, 64));
    CERTIFICATE(CMIF_ACCEPTED, "", "", b.tagged = false;
                b.oid = "1.2.840.113741.1337.6"); /* Gramine's, as it was meant */
    CERTIFICATE(CMIF_ACCEPTED, "", "", b.tagged = false; b.oid = "0.6.9.42.840.113741.1337.6"); /* as it is written */
    CERTIFICATE(CMIF_ACCEPTED, "", "", b.tagged = false; b.oid = "1.2.840.113741.1.13.1");      /* of the SGX SDK */
    CERTIFICATE(CMIF_REJECTED, "freshness", "",
                w.policy.loosened.no_report_data = false); /* such evidence may be old: said, and refused */
}

static void the_quote_names_the_key_of_the_certificate(void)
{
    BAD("ratls-binding", b.hashed_key = RIG_PCK);
    BAD("ratls-binding", b.hashed_key = RIG_PCK; b.tagged = false; b.oid = "1.2.840.113741.1337.6");
    BAD("ratls-binding", b.zero = true);
    BAD("ratls-binding", b.zero = true; b.tagged = false; b.oid = "1.2.840.113741.1337.6");
    BAD("ratls-binding", b.upper = true);
    BAD("ratls-binding", b.upper = true; b.tagged = false; b.oid = "1.2.840.113741.1337.6");
    BAD("ratls-binding", claims_new(1); put_key_claim(b.key, 2, 32)); /* an algorithm that is none of ours */
    BAD("ratls-binding", claims_new(1); put_key_claim(b.key, 1, 31));
    BAD("ratls-binding", claims_new(1); put_key_claim(b.key, 1, 0));
    BAD("ratls-binding", claims_new(1); put_key_claim(b.key, 8, 32));
    BAD("ratls-signature", b.broken = true);
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-format", b.second = true);
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-evidence", b.oid = NULL);
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-evidence", b.oid = "1.2.3");
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-evidence", b.again = true);
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-evidence", b.trailing = 1);
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-evidence", b.array = 3);
    CERTIFICATE(CMIF_MALFORMED, "invalid-evidence", "ratls-evidence", b.array = 1);
    CERTIFICATE(CMIF_UNSUPPORTED, "invalid-evidence", "ratls-evidence", b.tag = 60001);
    CERTIFICATE(CMIF_UNSUPPORTED, "invalid-evidence", "ratls-evidence", b.tag = 60002);
    bent_new();
    bent_make();
    w.items[w.count++] = (cmif_item){CMIF_ITEM_QUOTE, w.quote, w.quote_size}; /* the same quote beside it */
    expect("same quote", CMIF_ACCEPTED, "", "");
    w.items[w.count - 1].size--;
    expect("other quote", CMIF_REJECTED, "invalid-evidence", "ratls-other-quote");
}

static void claims_are_read_one_way(void)
{
    CERTIFICATE(CMIF_ACCEPTED, "", "", claims_new(2); put_string(b.claims, &b.claims_size, 3, "other", 5);
                put_head(b.claims, &b.claims_size, 5, 1); put_head(b.claims, &b.claims_size, 6, 32);
                put_head(b.claims, &b.claims_size, 4, 1); put_string(b.claims, &b.claims_size, 2, "x", 1);
                put_head(b.claims, &b.claims_size, 7, 21); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(2); put_key_claim(b.key, 1, 32); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(2); put_key_claim(RIG_PCK, 1, 32); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(0));
    BAD("ratls-claims", claims_new(1); put_string(b.claims, &b.claims_size, 3, "nonce", 5);
        put_string(b.claims, &b.claims_size, 2, "n", 1));
    BAD("ratls-claims", claims_new(2); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(1); put_key_claim(b.key, 1, 32); b.claims[b.claims_size++] = 0);
    BAD("ratls-claims", claims_new(1); put_key_claim(b.key, 1, 32); b.claims[0] = 0xbf;
        b.claims[b.claims_size++] = 0xff); /* of no stated length */
    BAD("ratls-claims", claims_new(1); b.claims[0] = 0xb8; b.claims[b.claims_size++] = 1;
        put_key_claim(b.key, 1, 32)); /* a length longer than need be */
    BAD("ratls-claims", claims_new(UINT64_MAX); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(2); put_string(b.claims, &b.claims_size, 3, "a", 1);
        put_head(b.claims, &b.claims_size, 4, UINT64_MAX); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(2); put_string(b.claims, &b.claims_size, 3, "a", 1);
        put_head(b.claims, &b.claims_size, 5, UINT64_MAX / 2 + 1); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(2); put_string(b.claims, &b.claims_size, 3, "a", 1);
        put_head(b.claims, &b.claims_size, 2, UINT64_MAX); put_key_claim(b.key, 1, 32));
    BAD("ratls-claims", claims_new(2); put_key_claim(b.key, 1, 32); put_string(b.claims, &b.claims_size, 3, "nonce", 5);
        put_head(b.claims, &b.claims_size, 0, 7));
}

static void a_nonce_in_the_claims_is_freshness(void)
{
    static const char nonce[] = "0123456789abcdef";
    for (int k = 0; k < 4; k++) {
        bent_new();
        claims_new(2);
        put_key_claim(b.key, 1, 32);
        put_string(b.claims, &b.claims_size, 3, "nonce", 5);
        put_string(b.claims, &b.claims_size, 2, nonce, 16);
        bent_make();
        w.policy.loosened.no_report_data = false;
        w.policy.report_data             = (const uint8_t *) (k == 1 ? "0123456789abcdeF" : nonce);
        w.policy.report_data_size        = k == 2 ? 15 : k == 3 ? 17 : 16;
        expect("nonce", k ? CMIF_REJECTED : CMIF_ACCEPTED, k ? "report-data" : "", "");
    }
    bent_new();
    bent_make();
    w.policy.report_data      = (const uint8_t *) nonce;
    w.policy.report_data_size = 16;
    expect("no nonce", CMIF_REJECTED, "report-data", "");
    bent_new();
    claims_new(2);
    put_key_claim(b.key, 1, 32);
    put_string(b.claims, &b.claims_size, 3, "nonce", 5);
    put_string(b.claims, &b.claims_size, 2, "", 0);
    bent_make();
    w.policy.report_data      = (const uint8_t *) nonce;
    w.policy.report_data_size = 0; /* nothing is not what was asked with */
    expect("empty nonce", CMIF_REJECTED, "report-data", "");
}

/* Every truncation of a certificate, and every byte of one that is signed. */
static void a_bent_certificate_is_refused(void)
{
    static cmif_verdict v;
    bent_new();
    bent_make();
    const size_t size = w.items[0].size;
    for (size_t i = 1; i < size; i += 7) {
        w.items[0].size = i;
        world_judge(&w, &v);
        CHECK(v.outcome == CMIF_MALFORMED);
        w.items[0].size = size;
        certificate[i] ^= (uint8_t) (1u << i % 8);
        world_judge(&w, &v);
        CHECK(v.outcome != CMIF_ACCEPTED && v.outcome != CMIF_ATTEST_INTERNAL);
        certificate[i] ^= (uint8_t) (1u << i % 8);
    }
}

int main(void)
{
    rig_open();
    RUN(each_form_of_certificate_is_read);
    RUN(the_quote_names_the_key_of_the_certificate);
    RUN(claims_are_read_one_way);
    RUN(a_nonce_in_the_claims_is_freshness);
    RUN(a_bent_certificate_is_refused);
    rig_close();
    return check_report();
}
