#include "attest/hcl.h"

#include "attest/json.h"
#include "attest/tpm.h"
#include "base/bytes.h"

#include <openssl/evp.h>

enum { HEADER = 32, REPORT = 1184, CLAIMS_HEADER = 20 };

static int base64url_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '-'             ? 62
           : c == '_'             ? 63
                                  : -1;
}

/* RFC 4648, section 5, without padding; the bits that are left over must be zero. false: not that, or more than `room`
 * bytes. */
static bool base64url(const char *text, size_t size, uint8_t *out, size_t room, size_t *got)
{
    uint32_t bits = 0;
    unsigned have = 0;
    *got          = 0;
    for (size_t i = 0; i < size; i++) {
        int digit = base64url_digit(text[i]);
        if (digit < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t) digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (*got == room) {
                return false;
            }
            out[(*got)++] = (uint8_t) (bits >> have);
            bits &= (1u << have) - 1;
        }
    }
    return have < 6 && bits == 0;
}

static bool jwk_number(const cmif_json *json, uint32_t key, const char *name, uint8_t *out, size_t room, size_t *size)
{
    const char *text;
    size_t      length;
    return cmif_json_text(json, cmif_json_get(json, key, name), &text, &length) &&
           base64url(text, length, out, room, size) && *size > 0;
}

/* The claims' RSA key with this kid; NULL: none, or two, or not a key. */
static EVP_PKEY *claims_key(const cmif_json *json, const char *kid)
{
    uint32_t keys = cmif_json_get(json, 0, "keys"), found = CMIF_JSON_NONE;
    for (uint32_t i = cmif_json_first(json, keys); i != CMIF_JSON_NONE; i = cmif_json_after(json, keys, i)) {
        if (cmif_json_is(json, cmif_json_get(json, i, "kid"), kid)) {
            if (found != CMIF_JSON_NONE) {
                return NULL;
            }
            found = i;
        }
    }
    uint8_t n[CMIF_TPM_KEY_BYTES_MAX], e[4];
    size_t  n_size, e_size;
    if (!cmif_json_is(json, cmif_json_get(json, found, "kty"), "RSA") ||
        !jwk_number(json, found, "n", n, sizeof n, &n_size) || !jwk_number(json, found, "e", e, sizeof e, &e_size)) {
        return NULL;
    }
    cmif_tpm_public public = {.type = CMIF_TPM_RSA, .bits = (uint16_t) (8 * n_size), .x = {n, n_size}};
    for (size_t i = 0; i < e_size; i++) {
        public.exponent = public.exponent << 8 | e[i];
    }
    return public.exponent ? cmif_tpm_public_key(&public) : NULL;
}

static cmif_code read_claims(const uint8_t *claims, size_t size, cmif_hcl *hcl, cmif_err *err)
{
    cmif_json   json = {0};
    const char *text;
    size_t      length;
    cmif_code   rc = cmif_json_parse(claims, size, &json, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "HCL report: claims");
        return rc;
    }
    hcl->ak = claims_key(&json, "HCLAkPub");
    if (!hcl->ak) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "HCL report: the claims have no RSA key \"HCLAkPub\" of 2048 bits or more, or two of them");
    }
    if (cmif_json_text(&json, cmif_json_get(&json, 0, "user-data"), &text, &length) && length < sizeof hcl->user_data) {
        memcpy(hcl->user_data, text, length);
    }
    cmif_json_wipe(&json);
    return rc;
}

cmif_code cmif_hcl_read(const uint8_t *data, size_t size, cmif_hcl *out, cmif_err *err)
{
    static const struct {
        const char *name;
        size_t      size;
    } hashes[]             = {{NULL, 0}, {"sha256", 32}, {"sha384", 48}, {"sha512", 64}};
    cmif_reader    r       = cmif_reader_over(data, size);
    cmif_hcl       hcl     = {0};
    const uint8_t *magic   = cmif_read_bytes(&r, 4);
    uint32_t       version = cmif_read_u32(&r), total = cmif_read_u32(&r);
    cmif_read_bytes(&r, HEADER - 12); /* request, status, reserved: nothing rests on them */
    hcl.report    = cmif_read_bytes(&r, REPORT);
    uint32_t rest = cmif_read_u32(&r);
    cmif_read_u32(&r); /* version of the claims' header */
    hcl.type            = cmif_read_u32(&r);
    uint32_t       hash = cmif_read_u32(&r), claims_size = cmif_read_u32(&r);
    const uint8_t *claims = cmif_read_bytes(&r, claims_size);
    if (magic && memcmp(magic, "HCLA", 4) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "HCL report: expected \"HCLA\" at offset 0");
    }
    if (!claims || rest != CLAIMS_HEADER + (uint64_t) claims_size || total != HEADER + REPORT + (uint64_t) rest) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "HCL report: %zu bytes, the header says %u, %u of claims with their header, %u of claims",
                         size, total, rest, claims_size);
    }
    for (size_t i = r.at; i < size; i++) {
        if (data[i]) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "HCL report: expected zeros after the claims, found %02x at offset %zu", data[i], i);
        }
    }
    if (version < 1 || version > 2 || (hcl.type != CMIF_HCL_SNP && hcl.type != CMIF_HCL_TDX) || hash < 1 || hash > 3) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "HCL report: version %u, report type %u, hash %u", version, hcl.type,
                         hash);
    }
    hcl.digest_size = hashes[hash].size;
    if (EVP_Digest(claims, claims_size, hcl.digest, NULL, EVP_get_digestbyname(hashes[hash].name), NULL) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "HCL report: OpenSSL could not hash");
    }
    cmif_code rc = read_claims(claims, claims_size, &hcl, err);
    if (rc != CMIF_OK) {
        cmif_hcl_wipe(&hcl);
        return rc;
    }
    *out = hcl;
    return CMIF_OK;
}

void cmif_hcl_wipe(cmif_hcl *hcl)
{
    EVP_PKEY_free(hcl->ak);
    *hcl = (cmif_hcl){0};
}
