/* Any bytes as certificates, CRLs, a TLS certificate with evidence, DER of an SGX extension and CBOR: read or refused.
 * What was read as DER is exactly its bytes. */
#include "attest/dcap.h"
#include "attest/ratls.h"
#include "attest/x509.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cmif_verdict v;
    cmif_pool           pool = {0};
    cmif_attest_policy  policy;
    cmif_pck            pck;
    if (size == 0) {
        return 0;
    }
    if (cmif_pool_add_certificates(&pool, data, size, NULL) == CMIF_OK && data[0] == 0x30) {
        uint8_t *der  = NULL;
        int      used = i2d_X509(pool.certificates[0], &der);
        if (used <= 0 || (size_t) used > size || memcmp(der, data, (size_t) used) != 0) {
            abort();
        }
        OPENSSL_free(der);
    }
    for (size_t i = 0; i < pool.certificate_count; i++) {
        cmif_path       path;
        cmif_reader     value;
        cmif_path_rules rules = {.root_kinds = CMIF_ROOT_INTEL, .keys = 7, .signatures = 15, .time = 1750377600};
        cmif_path_build(&pool, pool.certificates[i], &rules, &path);
        cmif_path_check_crls(&pool, &rules, true, &path);
        if (!(path.problems & CMIF_PATH_UNTRUSTED)) {
            abort(); /* there is no root here */
        }
        if (cmif_x509_extension(pool.certificates[i], cmif_oid_sgx_extension, sizeof cmif_oid_sgx_extension, &value)) {
            (void) !cmif_pck_read(value, &pck);
        }
    }
    cmif_pool_wipe(&pool);
    (void) !cmif_pool_add_crls(&pool, data, size, NULL);
    cmif_pool_wipe(&pool);
    (void) !cmif_pck_read(cmif_reader_over(data, size), &pck);

    cmif_ratls_claims claims;
    if (cmif_ratls_claims_read(cmif_reader_over(data, size), &claims) &&
        (claims.pubkey_hash.data < data || claims.pubkey_hash.data + claims.pubkey_hash.size > data + size)) {
        abort();
    }

    cmif_attest_policy_init(&policy);
    policy.tees                     = UINT32_MAX;
    policy.statuses                 = UINT32_MAX;
    policy.loosened.any_measurement = policy.loosened.no_report_data = policy.loosened.no_crl = true;
    const cmif_item item = {CMIF_ITEM_RATLS, data, size};
    cmif_attest(&item, 1, &policy, 1750377600, &v);
    if (v.outcome == CMIF_ACCEPTED || v.outcome == CMIF_ATTEST_INTERNAL || !v.reason_count) {
        abort();
    }
    return 0;
}
