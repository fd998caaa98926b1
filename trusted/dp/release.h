/* release - the one door from what a person wrote to what may leave the machine.
 *
 * A cmif_released is text that may leave; only this module makes one. The tokenizer takes nothing else, and a
 * cmif_ids (below) grows only from released text, from the model file's own public pieces, and from ids that the
 * server itself produced. Look-up and wire take cmif_ids and nothing else.
 *
 * Sees    plaintext. */
#ifndef CMIF_DP_RELEASE_H
#define CMIF_DP_RELEASE_H

#include "side.h"

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cmif_released cmif_released;

/* Release text as it is: no protection. Programs that use it say "sanitizer: none" in their account.
 *   text  (size) bytes, borrowed; any bytes, not only valid UTF-8
 *   out   owned by the caller (cmif_released_free)
 * Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_dp_release_identity(const void *text, size_t size, cmif_released **out, cmif_err *err);
void                    cmif_released_free(cmif_released *text); /* NULL is welcome; wiped */
const uint8_t          *cmif_released_bytes(const cmif_released *text, size_t *size);

/* Token ids that may leave the machine, in order. Growing is for tokenizer/, chat/ and session/ only (released_ids.h). */
typedef struct cmif_ids {
    int32_t *at; /* read freely; never write */
    size_t   count;
    size_t   capacity;
} cmif_ids;

void cmif_ids_free(cmif_ids *ids); /* {0} again; {0} is welcome */

#endif
