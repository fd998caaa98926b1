/* Any bytes as TPM evidence: u8 how many items, then each as u8 kind, u16 size (little-endian), bytes. With no pin and
 * roots of the makers, nothing is accepted; and what a structure's reader accepts lies inside the bytes it was given
 * (ASan sees to that). */
#include "attest/attest.h"
#include "attest/hcl.h"
#include "attest/tpm.h"
#include "base/bytes.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const cmif_item_kind kinds[] = {
        CMIF_ITEM_TPM_ATTEST, CMIF_ITEM_TPM_SIGNATURE, CMIF_ITEM_TPM_PCRS,     CMIF_ITEM_TPM_AK,    CMIF_ITEM_HCL,
        CMIF_ITEM_TPM_KEY,    CMIF_ITEM_EVENT_LOG,     CMIF_ITEM_CERTIFICATES, CMIF_ITEM_SNP_TABLE, CMIF_ITEM_QUOTE};
    static cmif_verdict v;
    cmif_attest_policy  policy;
    cmif_item           items[12];
    cmif_reader         r     = cmif_reader_over(data, size);
    size_t              count = cmif_read_u8(&r) % 12, got = 0;
    while (got < count && !r.failed) {
        cmif_item_kind kind   = kinds[cmif_read_u8(&r) % (sizeof kinds / sizeof *kinds)];
        size_t         length = cmif_read_u16(&r);
        length                = length < r.size - r.at ? length : r.size - r.at;
        items[got++]          = (cmif_item){kind, cmif_read_bytes(&r, length), length};
    }
    cmif_attest_policy_init(&policy);
    policy.tees                     = 1u << CMIF_TEE_TPM;
    policy.loosened.any_measurement = policy.loosened.no_report_data = policy.loosened.ak_pinned = true;
    cmif_attest(items, got, &policy, 1780963200, &v);
    if (v.outcome == CMIF_ACCEPTED || v.outcome == CMIF_ATTEST_INTERNAL || v.reason_count == 0) {
        abort();
    }
    for (size_t i = 0; i < got && items[i].data; i++) {
        cmif_tpm_public public;
        cmif_err      err;
        uint8_t       blob[CMIF_TPM_CREDENTIAL_MAX], name[34];
        const uint8_t secret[32] = {0}, seed[32] = {0};
        size_t        blob_size;
        if (cmif_tpm_public_read(items[i].data, items[i].size, &public, &err) == CMIF_OK &&
            cmif_tpm_make_credential(items[i].data, items[i].size, items[(i + 1) % got].data, items[(i + 1) % got].size,
                                     secret, seed, blob, &blob_size, name, &err) == CMIF_OK &&
            blob_size > sizeof blob) {
            abort();
        }
    }
    return 0;
}
