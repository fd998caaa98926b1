#include "secret/secret.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static atomic_bool unlocked; /* of the process */

bool cmif_secret_unlocked(void)
{
    return unlocked;
}

enum { HUGE_SIZE = 1 << 21 };

void cmif_wipe(void *memory, size_t size)
{
    if (size) {
        memset(memory, 0, size);
        __asm__ __volatile__("" : : "r"(memory) : "memory"); /* the zeros are "read": the store must happen */
    }
}

static void secret_unmap(uint8_t *data, size_t capacity)
{
    if (data) {
        cmif_wipe(data, capacity);
        munmap(data, capacity); /* a page leaves the lock with its mapping */
    }
}

cmif_code cmif_secret_reserve(cmif_secret *s, size_t capacity, cmif_err *err)
{
    if (capacity < s->capacity) {
        return CMIF_OK; /* the last byte is kept for the terminating zero */
    }
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    if (capacity > SIZE_MAX / 4) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of text", capacity);
    }
    size_t grown = s->capacity * 2 > capacity + 1 ? s->capacity * 2 : capacity + 1;
    page  = grown < HUGE_SIZE / 2 ? page : HUGE_SIZE; /* where there are such pages: much faster to get and to give */
    grown = (grown + page - 1) / page * page;

    void *fresh = mmap(NULL, grown, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of text", grown);
    }
    if (page == HUGE_SIZE) {
        (void) madvise(fresh, grown, MADV_HUGEPAGE);
    }
    /* Both may be refused (RLIMIT_MEMLOCK, an old kernel); the process-wide settings below still hold then. */
    if (mlock(fresh, grown) < 0) {
        unlocked = true;
    }
    (void) madvise(fresh, grown, MADV_DONTDUMP);
    (void) madvise(fresh, grown, MADV_WIPEONFORK);
    if (s->size) {
        memcpy(fresh, s->data, s->size);
    }
    secret_unmap(s->data, s->capacity);
    s->data     = fresh;
    s->capacity = grown;
    return CMIF_OK;
}

cmif_code cmif_secret_append(cmif_secret *s, const void *bytes, size_t size, cmif_err *err)
{
    if (size > SIZE_MAX / 4 - s->size) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu more bytes of text", size);
    }
    cmif_code rc = cmif_secret_reserve(s, s->size + size, err);
    if (rc == CMIF_OK && size) {
        memcpy(s->data + s->size, bytes, size);
        s->size += size;
    }
    return rc;
}

void cmif_secret_wipe(cmif_secret *s)
{
    secret_unmap(s->data, s->capacity);
    *s = (cmif_secret){0};
}

void cmif_secret_harden_process(void)
{
    struct rlimit none = {0, 0};
    (void) setrlimit(RLIMIT_CORE, &none);
    (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
