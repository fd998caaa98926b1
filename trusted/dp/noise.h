/* noise - uniform words that nobody can guess: AES-256-CTR of OpenSSL, keyed by getrandom.
 *
 * Each 4 KiB have a key of their own, made by the 4 KiB before, and the system gives a fresh one every 2^20 words and after a
 * fork: two processes never draw the same words, and what was taken cannot be made again from what lies in memory. The state
 * lives in locked memory and is wiped. One thread at a time.
 *
 * Source  NIST SP 800-90A for the habit of re-keying; Bernstein 2017, "Fast-key-erasure random-number generators"; design.md
 *         section 4. */
#ifndef CMIF_DP_NOISE_H
#define CMIF_DP_NOISE_H

#include "side.h"

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cmif_noise cmif_noise;

/* Errors: IO (the system gives no random bytes), MEMORY. */
CMIF_MUST_USE cmif_code cmif_noise_new(cmif_noise **out, cmif_err *err);
void                    cmif_noise_free(cmif_noise *noise); /* NULL is welcome; wiped */
/* Fill out with uniform bytes. Errors: IO, MEMORY; out is wiped then. */
CMIF_MUST_USE cmif_code cmif_noise_take(cmif_noise *noise, void *out, size_t size, cmif_err *err);

#endif
