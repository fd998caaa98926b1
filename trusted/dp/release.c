#include "dp/released_ids.h"

#include "secret/secret.h"

#include <stdlib.h>
#include <string.h>

struct cmif_released {
    cmif_secret text; /* released, but there is no need to let it lie around */
};

cmif_code cmif_dp_release_identity(const void *text, size_t size, cmif_released **out, cmif_err *err)
{
    cmif_released *released = calloc(1, sizeof *released);
    if (!released) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for released text");
    }
    cmif_code rc = cmif_secret_append(&released->text, text, size, err);
    if (rc != CMIF_OK) {
        cmif_released_free(released);
        return rc;
    }
    *out = released;
    return CMIF_OK;
}

void cmif_released_free(cmif_released *text)
{
    if (text) {
        cmif_secret_wipe(&text->text);
        free(text);
    }
}

const uint8_t *cmif_released_bytes(const cmif_released *text, size_t *size)
{
    *size = text->text.size;
    return text->text.data;
}

cmif_code cmif_ids_append(cmif_ids *ids, const int32_t *more, size_t count, cmif_err *err)
{
    if (count > ids->capacity - ids->count) {
        size_t capacity = ids->count + count;
        if (capacity < ids->count || capacity > SIZE_MAX / 2 / sizeof *ids->at) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu more token ids", count);
        }
        capacity    = capacity > 2 * ids->capacity ? capacity : 2 * ids->capacity;
        int32_t *at = malloc(capacity * sizeof *at);
        if (!at) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu token ids", capacity);
        }
        if (ids->count) {
            memcpy(at, ids->at, ids->count * sizeof *at);
        }
        if (ids->at) {
            cmif_wipe(ids->at, ids->capacity * sizeof *ids->at);
        }
        free(ids->at);
        ids->at       = at;
        ids->capacity = capacity;
    }
    if (count) {
        memcpy(ids->at + ids->count, more, count * sizeof *more);
        ids->count += count;
    }
    return CMIF_OK;
}

void cmif_ids_truncate(cmif_ids *ids, size_t count)
{
    if (count < ids->count) {
        cmif_wipe(ids->at + count, (ids->count - count) * sizeof *ids->at);
        ids->count = count;
    }
}

void cmif_ids_free(cmif_ids *ids)
{
    cmif_ids_truncate(ids, 0);
    free(ids->at);
    *ids = (cmif_ids){0};
}
