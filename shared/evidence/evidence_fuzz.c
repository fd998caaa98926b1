/* A bundle that reads is written again as the same bytes, and its items lie inside it, one after the other. */
#include "evidence/evidence.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_evidence_item items[CMIF_EVIDENCE_ITEMS_MAX];
    cmif_evidence      again = {0};
    size_t             count = CMIF_EVIDENCE_ITEMS_MAX;
    if (cmif_evidence_read(data, size, items, &count, NULL) != CMIF_OK) {
        if (count != CMIF_EVIDENCE_ITEMS_MAX) {
            abort();
        }
        return 0;
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
    return 0;
}
