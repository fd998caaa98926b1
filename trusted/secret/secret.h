/* secret - memory for plaintext and keys: locked where the system allows it, left out of core dumps, wiped when freed.
 *
 * Sees    everything it is given; keeps nothing. */
#ifndef CMIF_SECRET_SECRET_H
#define CMIF_SECRET_SECRET_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growable byte string. Initialise with {0}; end with cmif_secret_wipe. */
typedef struct cmif_secret {
    uint8_t *data; /* NULL while capacity is 0; always followed by a zero byte otherwise */
    size_t   size;
    size_t   capacity;
} cmif_secret;

/* Make room for at least capacity bytes (old contents move, the old memory is wiped). Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_secret_reserve(cmif_secret *s, size_t capacity, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_secret_append(cmif_secret *s, const void *bytes, size_t size, cmif_err *err);
void                    cmif_secret_wipe(cmif_secret *s); /* wiped; unmapped, or kept locked for the next; {0} again */

/* Whether the system refused to lock some of it (RLIMIT_MEMLOCK): it may be swapped to disk. */
bool cmif_secret_unlocked(void);

/* Zero memory so that no optimiser may drop it. */
void cmif_wipe(void *memory, size_t size);

/* No core dumps, no ptrace by others (prctl PR_SET_DUMPABLE 0, RLIMIT_CORE 0). First line of every trusted program. */
void cmif_secret_harden_process(void);

#endif
