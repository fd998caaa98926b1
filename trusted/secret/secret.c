#include "secret/secret.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED /* what is kept for the next is nobody's */
#include <sanitizer/asan_interface.h>
#define POISON(data, size) ASAN_POISON_MEMORY_REGION(data, size)
#define UNPOISON(data, size) ASAN_UNPOISON_MEMORY_REGION(data, size)
#else
#define POISON(data, size) (void) (data)
#define UNPOISON(data, size) (void) (data)
#endif

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

/* ---- small ones are kept for the next: mapping and locking takes longer than most of what is done with them ---- */

enum { SPARE_PAGES = 8, SPARE_MOST = 256 }; /* so many pages each; so many of one page, and of more a part */

static _Atomic(uint8_t *) spare[SPARE_PAGES][SPARE_MOST]; /* by their pages; wiped, and locked still */
static atomic_int         spare_owner;                    /* a child's pages are not locked: it keeps none */

static bool is_owner(void)
{
    int       owner = 0;
    const int self  = (int) getpid();
    return atomic_compare_exchange_strong(&spare_owner, &owner, self) || owner == self;
}

static uint8_t *take_spare(size_t pages)
{
    uint8_t *data = NULL;
    if (pages > SPARE_PAGES || !is_owner()) {
        return NULL;
    }
    for (size_t i = 0; i < SPARE_MOST / (pages * pages) && !data; i++) {
        data = spare[pages - 1][i] ? atomic_exchange(&spare[pages - 1][i], NULL) : NULL;
    }
    return data;
}

static bool keep_spare(uint8_t *data, size_t pages)
{
    if (pages > SPARE_PAGES || unlocked || !is_owner()) { /* the limit is for what is in use */
        return false;
    }
    for (size_t i = 0; i < SPARE_MOST / (pages * pages); i++) {
        uint8_t *none = NULL;
        if (!spare[pages - 1][i] && atomic_compare_exchange_strong(&spare[pages - 1][i], &none, data)) {
            return true;
        }
    }
    return false;
}

static void secret_unmap(uint8_t *data, size_t capacity)
{
    if (data) {
        cmif_wipe(data, capacity);
        POISON(data, capacity);
        if (!keep_spare(data, capacity / (size_t) sysconf(_SC_PAGESIZE))) {
            UNPOISON(data, capacity);
            munmap(data, capacity); /* a page leaves the lock with its mapping */
        }
    }
}

static cmif_code secret_map(size_t size, bool huge, uint8_t **out, cmif_err *err)
{
    void *fresh = take_spare(size / (size_t) sysconf(_SC_PAGESIZE));
    if (fresh) {
        UNPOISON(fresh, size);
        *out = fresh;
        return CMIF_OK;
    }
    fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of text", size);
    }
    if (huge) {
        (void) madvise(fresh, size, MADV_HUGEPAGE);
    }
    /* Both may be refused (RLIMIT_MEMLOCK, an old kernel); the process-wide settings below still hold then. */
    if (mlock(fresh, size) < 0) {
        unlocked = true;
    }
    (void) madvise(fresh, size, MADV_DONTDUMP);
    (void) madvise(fresh, size, MADV_WIPEONFORK);
    *out = fresh;
    return CMIF_OK;
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

    uint8_t  *fresh = NULL;
    cmif_code rc    = secret_map(grown, page == HUGE_SIZE, &fresh, err);
    if (rc != CMIF_OK) {
        return rc;
    }
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
