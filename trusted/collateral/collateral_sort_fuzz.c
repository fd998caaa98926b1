/* Any bytes are sorted: into items whose bytes are theirs, or as unknown. What is collateral can be read for the store
 * or is refused, and who signed it is told; of what is not its maker's, nothing issues anything. */
#include "collateral/store.h"

#include <stdlib.h>
#include <string.h>

static void who_signed_it(const cmif_sorted *sorted)
{
    cmif_pool pool;
    uint8_t   issuer[32];
    if (cmif_genuine_pool(&pool, NULL, NULL) != CMIF_OK) {
        abort();
    }
    const size_t own = pool.certificate_count;
    for (bool news = true; news;) {
        news = false;
        for (size_t i = 0; i < sorted->count; i++) {
            news = cmif_genuine_add(&pool, &sorted->items[i].item) || news;
        }
    }
    for (size_t i = own; i < pool.certificate_count; i++) {
        uint8_t        *der  = NULL;
        const int       size = i2d_X509(pool.certificates[i], &der);
        const cmif_item item = {CMIF_ITEM_CERTIFICATES, der, (size_t) size};
        if (size <= 0 || cmif_genuine_check(&pool, &item, issuer) != CMIF_GENUINE_YES) {
            abort();
        }
        OPENSSL_free(der);
    }
    for (size_t i = 0; i < sorted->count; i++) {
        if (cmif_item_is_collateral(sorted->items[i].item.kind)) {
            (void) cmif_genuine_check(&pool, &sorted->items[i].item, issuer);
        }
    }
    cmif_pool_wipe(&pool);
}

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
    who_signed_it(&sorted);
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
