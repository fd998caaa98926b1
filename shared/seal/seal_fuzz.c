/* Bytes that nobody sealed never open; what was sealed opens to the same bytes, and with any one byte changed, or any
 * part of it cut off or moved, it does not. Input: a mode, then a file as it is; or a place, a change, a chunk size and
 * a plaintext. */
#define _GNU_SOURCE /* memfd_create */
#include "seal/seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 1 << 18 };

static const uint8_t key[32] = {42}, model[32] = {1};
static uint8_t       bytes[ROOM], plain[ROOM];
static size_t        size;

static cmif_code collect(void *to, const uint8_t *more, size_t more_size, cmif_err *err)
{
    (void) to, (void) err;
    if (more_size > sizeof bytes - size) {
        abort();
    }
    memcpy(bytes + size, more, more_size);
    size += more_size;
    return CMIF_OK;
}

static cmif_code open_bytes(size_t *plain_size)
{
    static int fd = -1;
    char       path[32];
    cmif_seal *file = NULL;
    if (fd < 0) {
        fd = memfd_create("sealed", MFD_CLOEXEC);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t) size) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cmif_code rc = cmif_seal_open(path, &file, NULL);
    if (rc == CMIF_OK) {
        *plain_size = (size_t) cmif_seal_about(file)->plain_size;
        if (*plain_size >= size) {
            abort();
        }
        rc = cmif_seal_read(file, key, plain, *plain_size, NULL);
        for (size_t i = 0; rc != CMIF_OK && i < *plain_size; i++) {
            if (plain[i]) {
                abort();
            }
        }
    }
    cmif_seal_free(file);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    size_t       plain_size;
    cmif_sealer *sealer = NULL;
    if (data_size < 6 || data_size > ROOM / 2) {
        return 0;
    }
    if (data[0] & 1) { /* with our key's id in it, so that more than the first look is tried */
        size = data_size - 1;
        memcpy(bytes, data + 1, size);
        if (size >= 56) {
            cmif_seal_key_id(key, bytes + 24);
        }
        if (open_bytes(&plain_size) == CMIF_OK) {
            abort();
        }
        return 0;
    }
    const size_t   place  = (size_t) data[1] << 8 | data[2];
    const uint8_t  change = data[3];
    const uint32_t chunk  = (uint32_t) CMIF_SEAL_CHUNK_MIN << data[4] % 3;
    const size_t   piece  = (size_t) data[5] * 16 + 1;
    data += 6;
    data_size -= 6;
    size = 0;
    if (cmif_sealer_new(key, model, data_size, chunk, &sealer, NULL) != CMIF_OK) {
        abort();
    }
    for (size_t at = 0; at < data_size || at == 0; at += piece) {
        if (cmif_sealer_put(sealer, data + at, data_size - at < piece ? data_size - at : piece, collect, NULL, NULL) !=
            CMIF_OK) {
            abort();
        }
    }
    cmif_sealer_free(sealer);
    if (open_bytes(&plain_size) != CMIF_OK || plain_size != data_size || memcmp(plain, data, data_size) != 0) {
        abort();
    }
    if (change) {
        bytes[place % size] ^= change;
    } else {
        size = place % size;
    }
    if (open_bytes(&plain_size) == CMIF_OK) {
        abort();
    }
    return 0;
}
