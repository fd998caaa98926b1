/* check_memory - a test makes the n-th allocation fail: allocations_left = n, then whatever allocates.
 *
 * Link the test with ${CMIF_WRAP_MEMORY} (cmake/sides.cmake). Define CHECK_MEMORY_MMAP or CHECK_MEMORY_ALIGNED in front of the
 * include to count mmap or aligned_alloc, too, and link with --wrap of that as well. */
#ifndef CMIF_BASE_CHECK_MEMORY_H
#define CMIF_BASE_CHECK_MEMORY_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static long allocations_left = -1; /* that succeed before one fails; negative: all succeed */

static bool allocation_fails(void)
{
    bool fails = allocations_left >= 0 && allocations_left-- == 0;
    errno      = fails ? ENOMEM : errno;
    return fails;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(memory, size);
}

#ifdef CHECK_MEMORY_ALIGNED
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return allocation_fails() ? NULL : __real_aligned_alloc(alignment, size);
}
#endif

#ifdef CHECK_MEMORY_MMAP
#include <sys/mman.h>

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return allocation_fails() ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}
#endif

#endif
