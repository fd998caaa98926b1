/* noise - uniform words that nobody can guess: AES-256-CTR of OpenSSL, keyed by getrandom.
 *
 * A fresh key every 2^20 words and after a fork, so that two processes never draw the same words. The state lives in locked
 * memory and is wiped. One thread at a time.
 *
 * Source  NIST SP 800-90A for the habit of re-keying; design.md section 4. */
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
