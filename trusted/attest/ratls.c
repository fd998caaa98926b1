#include "attest/ratls.h"

#include "attest/dcap.h"
#include "attest/x509.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

/* ---- CBOR ---- */

bool cmif_cbor_next(cmif_reader *r, cmif_cbor_head *head)
{
    uint8_t  first = cmif_read_u8(r), low = first & 31;
    uint64_t value = low;
    if (low >= 24 && low <= 27) {
        size_t         n     = (size_t) 1 << (low - 24);
        const uint8_t *bytes = cmif_read_bytes(r, n);
        value                = 0;
        for (size_t i = 0; bytes && i < n; i++) {
            value = value << 8 | bytes[i];
        }
        if (value < (n == 1 ? 24u : (uint64_t) 1 << (4 * n))) { /* there is a shorter form */
            r->failed = true;
        }
    } else if (low > 27) {
        r->failed = true; /* reserved, or without a length */
    }
    *head = (cmif_cbor_head){.major = first >> 5, .value = value};
    return !r->failed;
}

bool cmif_cbor_bytes(cmif_reader *r, unsigned major, cmif_reader *out)
{
    cmif_cbor_head head;
    if (!cmif_cbor_next(r, &head) || head.major != major || head.value > SIZE_MAX) {
        r->failed = true;
        return false;
    }
    const uint8_t *bytes = cmif_read_bytes(r, (size_t) head.value);
    if (bytes) {
        *out = cmif_reader_over(bytes, (size_t) head.value);
    }
    return bytes != NULL;
}

/* Past one value, whatever it is. Every item takes a byte at least, so `left` cannot outgrow the bytes unnoticed. */
static bool cbor_skip(cmif_reader *r)
{
    for (uint64_t left = 1; left; left--) {
        cmif_cbor_head head;
        if (!cmif_cbor_next(r, &head)) {
            return false;
        }
        uint64_t inside = head.major == 4 ? head.value : head.major == 6 ? 1 : 0;
        if (head.major == 5) {
            inside = head.value > r->size ? UINT64_MAX : 2 * head.value;
        }
        if (inside > r->size - r->at) {
            r->failed = true;
            return false;
        }
        left += inside;
        if (head.major == 2 || head.major == 3) {
            if (head.value > r->size - r->at) {
                r->failed = true;
                return false;
            }
            cmif_read_bytes(r, (size_t) head.value);
        }
    }
    return true;
}

/* ---- claims ---- */

enum { CLAIMS_MAX = 16 };

bool cmif_ratls_claims_read(cmif_reader r, cmif_ratls_claims *out)
{
    cmif_cbor_head map;
    cmif_reader    keys[CLAIMS_MAX], pair;
    *out = (cmif_ratls_claims){0};
    if (!cmif_cbor_next(&r, &map) || map.major != 5 || map.value > CLAIMS_MAX) {
        return false;
    }
    for (size_t i = 0; i < map.value; i++) {
        if (!cmif_cbor_bytes(&r, 3, &keys[i])) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (keys[k].size == keys[i].size && !memcmp(keys[k].data, keys[i].data, keys[i].size)) {
                return false;
            }
        }
        if (keys[i].size == 11 && !memcmp(keys[i].data, "pubkey-hash", 11)) {
            cmif_cbor_head array, algorithm;
            if (!cmif_cbor_bytes(&r, 2, &pair) || !cmif_cbor_next(&pair, &array) || array.major != 4 ||
                array.value != 2 || !cmif_cbor_next(&pair, &algorithm) || algorithm.major != 0 ||
                !cmif_cbor_bytes(&pair, 2, &out->pubkey_hash) || pair.at != pair.size) {
                return false;
            }
            out->algorithm = algorithm.value;
        } else if (keys[i].size == 5 && !memcmp(keys[i].data, "nonce", 5)) {
            if (!cmif_cbor_bytes(&r, 2, &out->nonce)) {
                return false;
            }
        } else if (!cbor_skip(&r)) {
            return false;
        }
    }
    return r.at == r.size && out->pubkey_hash.data;
}

/* ---- the certificate ---- */

typedef struct evidence {
    cmif_reader quote, claims; /* claims.data NULL: REPORTDATA is the hash of the key itself */
    cmif_reader nonce;
} evidence;

/* Tag 60000 [quote, claims]. The other tags are known, and not something that can be checked here. */
static cmif_outcome read_tagged(cmif_reader r, evidence *out)
{
    cmif_cbor_head tag, array;
    if (!cmif_cbor_next(&r, &tag) || tag.major != 6) {
        return CMIF_MALFORMED;
    }
    if (tag.value != 60000) {
        return CMIF_UNSUPPORTED;
    }
    return cmif_cbor_next(&r, &array) && array.major == 4 && array.value == 2 && cmif_cbor_bytes(&r, 2, &out->quote) &&
                   cmif_cbor_bytes(&r, 2, &out->claims) && r.at == r.size
               ? CMIF_ACCEPTED
               : CMIF_MALFORMED;
}

static cmif_outcome find_evidence(const X509 *certificate, evidence *out)
{
    static const uint8_t dice[] = {0x67, 0x81, 0x05, 0x05, 0x04, 0x09};
    /* Gramine put tag and length inside the OID; whoever mends that will write the second form */
    static const uint8_t gramine[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x8a, 0x39, 0x06};
    cmif_reader          value;
    *out = (evidence){0};
    if (cmif_x509_extension(certificate, dice, sizeof dice, &value)) {
        return read_tagged(value, out);
    }
    if (cmif_x509_extension(certificate, gramine, sizeof gramine, &value) ||
        cmif_x509_extension(certificate, gramine + 2, sizeof gramine - 2, &value) ||
        cmif_x509_extension(certificate, cmif_oid_sgx_extension, sizeof cmif_oid_sgx_extension, &value)) {
        out->quote = value;
        return CMIF_ACCEPTED;
    }
    return CMIF_MALFORMED;
}

static bool digest(const EVP_MD *md, const uint8_t *bytes, size_t size, uint8_t out[static 64])
{
    return EVP_Digest(bytes, size, out, NULL, md, NULL) == 1;
}

/* Does REPORTDATA name the certificate's key, directly or by way of the claims? */
static bool names_key(cmif_attest_call *call, const uint8_t *spki, size_t spki_size, evidence *e,
                      const uint8_t report_data[static 64])
{
    uint8_t           want[64] = {0}, key[64];
    cmif_ratls_claims c        = {0};
    if (!e->claims.data) {
        return digest(EVP_sha256(), spki, spki_size, want) && !CRYPTO_memcmp(want, report_data, sizeof want);
    }
    if (!digest(EVP_sha256(), e->claims.data, e->claims.size, want) ||
        CRYPTO_memcmp(want, report_data, sizeof want) != 0) {
        return false;
    }
    if (!cmif_ratls_claims_read(e->claims, &c)) {
        cmif_verdict_invalid(call->verdict, "ratls-claims");
        return false;
    }
    const EVP_MD *md = c.algorithm == 1   ? EVP_sha256()
                       : c.algorithm == 7 ? EVP_sha384()
                       : c.algorithm == 8 ? EVP_sha512()
                                          : NULL;
    e->nonce         = c.nonce;
    return md && c.pubkey_hash.size == (size_t) EVP_MD_get_size(md) && digest(md, spki, spki_size, key) &&
           !CRYPTO_memcmp(key, c.pubkey_hash.data, c.pubkey_hash.size);
}

static void check_freshness(cmif_attest_call *call, const evidence *e)
{
    const cmif_attest_policy *policy = call->policy;
    if (!policy->report_data) {
        cmif_verdict_unchecked(call->verdict, "freshness", policy->loosened.no_report_data);
    } else if (!e->nonce.data || e->nonce.size == 0 || e->nonce.size != policy->report_data_size ||
               CRYPTO_memcmp(e->nonce.data, policy->report_data, e->nonce.size) != 0) {
        cmif_verdict_reason(call->verdict, "report-data");
    }
}

void cmif_ratls_check(cmif_attest_call *call, const cmif_item *item, const cmif_item *quote)
{
    cmif_verdict *v    = call->verdict;
    cmif_pool     pool = {0};
    cmif_err      err  = {0};
    uint8_t      *spki = NULL;
    uint8_t       hash[64], report_data[64];
    evidence      e;
    cmif_code     rc = cmif_pool_add_certificates(&pool, item->data, item->size, &err);
    if (rc == CMIF_OK && pool.certificate_count != 1) {
        rc = cmif_fail(&err, CMIF_E_FORMAT, "%zu certificates, one expected", pool.certificate_count);
    }
    if (rc != CMIF_OK) {
        cmif_verdict_invalid(v, "ratls-format");
        cmif_verdict_worse(v, rc == CMIF_E_MEMORY ? CMIF_ATTEST_INTERNAL : CMIF_MALFORMED, rc, "RA-TLS certificate: %s",
                           err.text);
        goto done;
    }
    X509        *certificate = pool.certificates[0];
    int          spki_size   = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &spki);
    cmif_outcome found       = find_evidence(certificate, &e);
    if (spki_size <= 0 || !digest(EVP_sha256(), spki, (size_t) spki_size, hash)) {
        cmif_verdict_worse(v, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "no memory, or OpenSSL failed");
        goto done;
    }
    cmif_verdict_hex(v, "spki_sha256", hash, 32);
    if (found != CMIF_ACCEPTED) {
        cmif_verdict_invalid(v, "ratls-evidence");
        cmif_verdict_worse(v, found, found == CMIF_MALFORMED ? CMIF_E_FORMAT : CMIF_E_UNSUPPORTED,
                           "RA-TLS certificate: %s",
                           found == CMIF_MALFORMED ? "no evidence in it that can be read"
                                                   : "evidence is not a quote (CBOR tag 60000)");
        goto done;
    }
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    if (!key || X509_verify(certificate, key) != 1) {
        cmif_verdict_invalid(v, "ratls-signature");
    }
    if (quote && (quote->size != e.quote.size || memcmp(quote->data, e.quote.data, quote->size) != 0)) {
        cmif_verdict_invalid(v, "ratls-other-quote");
    }
    if (cmif_dcap_check_quote(call, e.quote.data, e.quote.size, report_data)) {
        if (!names_key(call, spki, (size_t) spki_size, &e, report_data)) {
            cmif_verdict_invalid(v, "ratls-binding");
        }
        cmif_call_measured(call, v->tee);
        check_freshness(call, &e);
        call->proved = true;
    }
done:
    ERR_clear_error();
    OPENSSL_free(spki);
    cmif_pool_wipe(&pool);
}
