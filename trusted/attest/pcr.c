#include "attest/pcr.h"

#include "attest/json.h"
#include "base/bytes.h"

#include <openssl/evp.h>

#include <stdio.h>

static const struct bank {
    unsigned    alg;
    size_t      size;
    const char *name;
} banks[] = {{CMIF_TPM_SHA1, 20, "sha1"},
             {CMIF_TPM_SHA256, 32, "sha256"},
             {CMIF_TPM_SHA384, 48, "sha384"},
             {CMIF_TPM_SHA512, 64, "sha512"}};

static const struct bank *find_bank(unsigned alg)
{
    for (size_t i = 0; i < sizeof banks / sizeof *banks; i++) {
        if (banks[i].alg == alg) {
            return &banks[i];
        }
    }
    return NULL;
}

size_t cmif_tpm_hash_size(unsigned alg)
{
    const struct bank *bank = find_bank(alg);
    return bank ? bank->size : 0;
}

const char *cmif_tpm_hash_name(unsigned alg)
{
    const struct bank *bank = find_bank(alg);
    return bank ? bank->name : NULL;
}

static size_t count_bits(uint32_t mask)
{
    return (size_t) __builtin_popcount(mask);
}

static unsigned lowest(uint32_t mask)
{
    return (unsigned) __builtin_ctz(mask);
}

static bool zeros(const uint8_t *p, size_t n)
{
    for (size_t i = 0; p && i < n; i++) {
        if (p[i]) {
            return false;
        }
    }
    return p != NULL;
}

/* The file of tpm2-tools: what its writer's C structs hold, little-endian, all of their 16 selections and 8 digests. */
static cmif_code read_serialized(cmif_reader *r, cmif_pcrs *pcrs, size_t value_size, cmif_err *err)
{
    enum { SELECTIONS = 16, DIGESTS = 8, DIGEST_ROOM = 64, BITMAP = 4 };
    uint32_t selections = cmif_read_u32(r);
    for (uint32_t i = 0; i < SELECTIONS && !r->failed; i++) {
        size_t         at     = r->at;
        uint16_t       bank   = cmif_read_u16(r);
        uint8_t        size   = cmif_read_u8(r);
        const uint8_t *bitmap = cmif_read_bytes(r, BITMAP);
        uint8_t        gap    = cmif_read_u8(r);
        uint32_t       mask   = 0;
        for (uint32_t k = 0; bitmap && k < BITMAP; k++) {
            mask |= (uint32_t) bitmap[k] << (8 * k);
        }
        bool used = i == 0;
        if (!r->failed &&
            (gap || (used ? bank != pcrs->bank || mask != pcrs->mask || size < CMIF_PCRS / 8 || size > BITMAP
                          : bank || size || mask))) {
            return cmif_fail(err, CMIF_E_FORMAT, "PCR values: the selection at offset %zu is not the quote's", at);
        }
    }
    uint32_t lists = cmif_read_u32(r), left = pcrs->mask;
    if (!r->failed && (selections != 1 || lists > (CMIF_PCRS + DIGESTS - 1) / DIGESTS)) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "PCR values: %u banks and %u lists, the quote has one bank of at most %d registers",
                         selections, lists, CMIF_PCRS);
    }
    for (uint32_t i = 0; i < lists && !r->failed; i++) {
        uint32_t count = cmif_read_u32(r);
        for (uint32_t k = 0; k < DIGESTS && !r->failed; k++) {
            size_t         at    = r->at;
            uint16_t       size  = cmif_read_u16(r);
            const uint8_t *value = cmif_read_bytes(r, DIGEST_ROOM);
            bool           used  = k < count && left;
            if (!value) {
                break;
            }
            if (count > DIGESTS || (k < count && !left) || size != (used ? value_size : 0) ||
                !zeros(value + size, DIGEST_ROOM - (size_t) size)) {
                return cmif_fail(err, CMIF_E_FORMAT,
                                 "PCR values: the value at offset %zu is not of %zu bytes, or one too many", at,
                                 value_size);
            }
            if (used) {
                memcpy(pcrs->value[lowest(left)], value, value_size);
                left &= left - 1;
            }
        }
    }
    if (r->failed || r->at != r->size || left) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "PCR values: %zu bytes, %zu values of the quote are missing or bytes are left over", r->size,
                         count_bits(left));
    }
    return CMIF_OK;
}

/* The values one after the other, ascending. */
static cmif_code read_values(cmif_reader *r, cmif_pcrs *pcrs, size_t value_size, cmif_err *err)
{
    if (r->size != count_bits(pcrs->mask) * value_size) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "PCR values: expected %zu of %zu bytes each (or a serialized file, or JSON), found %zu bytes",
                         count_bits(pcrs->mask), value_size, r->size);
    }
    for (uint32_t left = pcrs->mask; left; left &= left - 1) {
        memcpy(pcrs->value[lowest(left)], cmif_read_bytes(r, value_size), value_size);
    }
    return CMIF_OK;
}

static cmif_code read_json(const uint8_t *data, size_t size, cmif_pcrs *pcrs, size_t value_size, cmif_err *err)
{
    cmif_json json = {0};
    char      key[8];
    cmif_code rc = cmif_json_parse(data, size, &json, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "PCR values");
        return rc;
    }
    snprintf(key, sizeof key, "%04x", pcrs->bank);
    uint32_t bank = cmif_json_get(&json, 0, key);
    for (uint32_t left = pcrs->mask; left && rc == CMIF_OK; left &= left - 1) {
        snprintf(key, sizeof key, "%u", lowest(left));
        if (!cmif_json_hex(&json, cmif_json_get(&json, bank, key), pcrs->value[lowest(left)], value_size)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "PCR values: register %s of bank %04x is not there as %zu digits", key,
                           pcrs->bank, 2 * value_size);
        }
    }
    cmif_json_wipe(&json);
    return rc;
}

cmif_code cmif_pcrs_read(const uint8_t *data, size_t size, cmif_pcrs *out, cmif_err *err)
{
    enum { SERIALIZED_HEADER = 4 + 16 * 8 + 4 };
    cmif_pcrs   pcrs       = {.bank = out->bank, .mask = out->mask};
    size_t      value_size = cmif_tpm_hash_size(pcrs.bank);
    cmif_reader r          = cmif_reader_over(data, size);
    if (!value_size || !pcrs.mask || pcrs.mask >> CMIF_PCRS) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "PCR values: bank %04x, registers %06x", pcrs.bank, pcrs.mask);
    }
    cmif_code rc = size && data[0] == '{' ? read_json(data, size, &pcrs, value_size, err)
                   : size != count_bits(pcrs.mask) * value_size && size > SERIALIZED_HEADER
                       ? read_serialized(&r, &pcrs, value_size, err)
                       : read_values(&r, &pcrs, value_size, err);
    if (rc == CMIF_OK) {
        *out = pcrs;
    }
    return rc;
}

cmif_code cmif_pcrs_digest(const cmif_pcrs *pcrs, unsigned hash_alg, uint8_t digest[64], cmif_err *err)
{
    size_t      value_size = cmif_tpm_hash_size(pcrs->bank);
    const char *name       = cmif_tpm_hash_name(hash_alg);
    EVP_MD_CTX *ctx        = EVP_MD_CTX_new();
    bool        good       = ctx && name && EVP_DigestInit_ex(ctx, EVP_get_digestbyname(name), NULL) == 1;
    for (uint32_t left = pcrs->mask; left && good; left &= left - 1) {
        good = EVP_DigestUpdate(ctx, pcrs->value[lowest(left)], value_size) == 1;
    }
    good = good && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "PCR values: OpenSSL could not hash");
}
