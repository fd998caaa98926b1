/* A bundle that reads is written again as the same bytes, and its items lie inside it, one after the other; a proof
 * that reads is its claims, written again as the same bytes, and the rest. */
#include "evidence/evidence.h"

#include "base/bytes.h"

#include <stdlib.h>

static void bundle(const uint8_t *data, size_t size)
{
    cmif_evidence_item items[CMIF_EVIDENCE_ITEMS_MAX];
    cmif_evidence      again = {0};
    size_t             count = CMIF_EVIDENCE_ITEMS_MAX;
    if (cmif_evidence_read(data, size, items, &count, NULL) != CMIF_OK) {
        if (count != CMIF_EVIDENCE_ITEMS_MAX) {
            abort();
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (cmif_evidence_put(&again, items[i].kind, items[i].data, items[i].size, NULL) != CMIF_OK) {
            abort();
        }
    }
    if (!again.bytes || again.size != size || memcmp(again.bytes, data, size) != 0) {
        abort();
    }
    cmif_evidence_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_proof p;
    uint8_t    again[4 + 8 + 1 + sizeof p.claims.program + 64];
    bundle(data, size);
    if (cmif_proof_read(data, size, &p, NULL) != CMIF_OK) {
        return 0;
    }
    const size_t program = strlen(p.claims.program);
    cmif_writer  w       = cmif_writer_over(again, sizeof again);
    cmif_write_u32(&w, (uint32_t) p.claims_size);
    cmif_write_bytes(&w, "CMIFCL01", 8);
    cmif_write_u8(&w, (uint8_t) program);
    cmif_write_bytes(&w, p.claims.program, program);
    cmif_write_bytes(&w, p.claims.model_id, 32);
    cmif_write_bytes(&w, p.claims.policy_hash, 32);
    if (w.failed || p.claims_bytes != data + 4 || p.bundle != data + w.at || p.bundle + p.bundle_size != data + size ||
        w.at != 4 + p.claims_size || memcmp(again, data, w.at) != 0) {
        abort();
    }
    bundle(p.bundle, p.bundle_size);
    return 0;
}
