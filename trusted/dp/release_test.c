#include "dp/released_ids.h"

#include "base/check.h"

#include <string.h>

static void the_identity_releases_the_very_bytes(void)
{
    static const char text[] = "any \xff bytes\0 at all";
    cmif_released    *released;
    size_t            size;
    CHECK(cmif_dp_release_identity(text, sizeof text, &released, NULL) == CMIF_OK);
    const uint8_t *bytes = cmif_released_bytes(released, &size);
    CHECK(size == sizeof text && memcmp(bytes, text, size) == 0);
    cmif_released_free(released);
}

static void nothing_can_be_released_too(void)
{
    cmif_released *released;
    size_t         size = 9;
    CHECK(cmif_dp_release_identity("", 0, &released, NULL) == CMIF_OK);
    (void) cmif_released_bytes(released, &size);
    CHECK(size == 0);
    cmif_released_free(released);
    cmif_released_free(NULL);
}

static void ids_grow_and_shrink_in_order(void)
{
    cmif_ids ids = {0};
    for (int32_t i = 0; i < 1000; i++) {
        CHECK(cmif_ids_append(&ids, &i, 1, NULL) == CMIF_OK);
    }
    CHECK(cmif_ids_append(&ids, (const int32_t[]){7, 8}, 2, NULL) == CMIF_OK);
    CHECK(ids.count == 1002 && ids.at[999] == 999 && ids.at[1001] == 8);
    cmif_ids_truncate(&ids, 3);
    CHECK(ids.count == 3 && ids.at[2] == 2);
    CHECK(ids.at[3] == 0 && ids.at[999] == 0 && ids.at[1001] == 0); /* what is cut off is wiped */
    CHECK(cmif_ids_append(&ids, NULL, SIZE_MAX, NULL) == CMIF_E_MEMORY && ids.count == 3);
    cmif_ids_free(&ids);
    CHECK(!ids.at && !ids.count);
}

int main(void)
{
    RUN(the_identity_releases_the_very_bytes);
    RUN(nothing_can_be_released_too);
    RUN(ids_grow_and_shrink_in_order);
    return check_report();
}
