/* Any bytes are sorted: into items whose bytes are theirs, or as unknown. What is collateral can be read for the store
 * or is refused. */
#include "collateral/store.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cmif_sorted sorted;
    const size_t       half = size / 2; /* two files, so that they can be about each other */
    if (cmif_sort_bytes(&sorted, "a", data, half, NULL) != CMIF_OK ||
        cmif_sort_bytes(&sorted, "b", data + half, size - half, NULL) != CMIF_OK ||
        cmif_sort_bytes(&sorted, "c", data, size, NULL) != CMIF_OK) {
        abort();
    }
    cmif_sort_settle(&sorted);
    for (size_t i = 0; i < sorted.count; i++) {
        cmif_kept kept;
        if (sorted.items[i].unknown && sorted.items[i].item.kind) {
            abort();
        }
        if (cmif_item_is_collateral(sorted.items[i].item.kind) &&
            cmif_kept_read(&sorted.items[i].item, &kept, NULL) == CMIF_OK &&
            (kept.starts == INT64_MIN || memchr(kept.about, 0, sizeof kept.about) == NULL)) {
            abort();
        }
    }
    cmif_sort_wipe(&sorted);
    return 0;
}
