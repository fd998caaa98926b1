/* cmif_heap - free() wipes first, whoever calls it: libraries that see text (libedit, jansson, OpenSSL) leave theirs
 * behind, and mallopt(M_PERTURB) does not reach glibc's per-thread caches, nor what realloc() moves.
 *
 * Sees    everything, only to overwrite it. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "secret/secret.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CMIF_OTHER_HEAP
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CMIF_OTHER_HEAP
#endif
#endif

#ifndef CMIF_OTHER_HEAP /* sanitizers have heaps of their own */
void free(void *memory)
{
    static void (*next)(void *); /* found before there is a second thread: main() frees */
    if (!memory) {
        return;
    }
    cmif_wipe(memory, malloc_usable_size(memory));
    if (!next) {
        *(void **) &next = dlsym(RTLD_NEXT, "free");
    }
    next(memory);
}

/* Never in place when it grows, so that what is left behind is ours to wipe. */
void *realloc(void *memory, size_t size)
{
    size_t room = memory ? malloc_usable_size(memory) : 0;
    if (!memory || size > room) {
        void *fresh = malloc(size);
        if (fresh && memory) {
            memcpy(fresh, memory, room);
            free(memory);
        }
        return fresh;
    }
    if (size == 0) {
        free(memory);
        return NULL;
    }
    return memory;
}
#endif
