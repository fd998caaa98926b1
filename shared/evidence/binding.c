#include "evidence/evidence.h"

#include <openssl/evp.h>

static int hash_field(EVP_MD_CTX *ctx, const void *bytes, uint32_t size)
{
    const uint8_t length[4] = {(uint8_t) size, (uint8_t) (size >> 8), (uint8_t) (size >> 16), (uint8_t) (size >> 24)};
    return EVP_DigestUpdate(ctx, length, sizeof length) == 1 && EVP_DigestUpdate(ctx, bytes, size) == 1;
}

cmif_code cmif_binding_hash(const cmif_binding *b, uint8_t out[static CMIF_REPORT_DATA_SIZE], cmif_err *err)
{
    static const char    label[]    = "CMIF-attest-v1";
    static const uint8_t no_key[32] = {0};
    uint8_t              claims[32], hash[CMIF_REPORT_DATA_SIZE];
    if ((b->role != 'c' && b->role != 's') || !b->nonce || !b->exporter || (b->claims_size && !b->claims)) {
        return cmif_fail(
            err, CMIF_E_RANGE,
            "binding of evidence: expected role 'c' or 's', a nonce and an exporter value, found role %u%s", b->role,
            !b->nonce      ? ", no nonce"
            : !b->exporter ? ", no exporter value"
                           : "");
    }
    EVP_MD_CTX *ctx  = EVP_MD_CTX_new();
    int         good = ctx &&
               EVP_Digest(b->claims_size ? b->claims : "", b->claims_size, claims, NULL, EVP_sha256(), NULL) == 1 &&
               EVP_DigestInit_ex(ctx, EVP_sha512(), NULL) == 1 && hash_field(ctx, label, sizeof label - 1) &&
               hash_field(ctx, &b->role, 1) && hash_field(ctx, b->nonce, 32) && hash_field(ctx, b->exporter, 32) &&
               hash_field(ctx, b->own_key ? b->own_key : no_key, 32) &&
               hash_field(ctx, b->other_key ? b->other_key : no_key, 32) && hash_field(ctx, claims, sizeof claims) &&
               EVP_DigestFinal_ex(ctx, hash, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    for (size_t i = 0; good && i < sizeof hash; i++) {
        out[i] = hash[i];
    }
    return good ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "binding of evidence: OpenSSL could not hash");
}
