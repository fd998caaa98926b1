/* pin - a server known by the hash of its certificate, as "sha256:" and 64 hex digits (capitals are welcome).
 *
 * Sees    certificates. */
#ifndef CMIF_CHANNEL_PIN_H
#define CMIF_CHANNEL_PIN_H

#include "side.h"

#include <openssl/x509_vfy.h>
#include <stdbool.h>
#include <stdint.h>

enum { CMIF_PIN_SIZE = 32, CMIF_PIN_TEXT = 2 * CMIF_PIN_SIZE + 1 /* hex digits and a NUL */ };

typedef struct cmif_pin {
    uint8_t wanted[CMIF_PIN_SIZE], found[CMIF_PIN_SIZE]; /* found: of the last certificate that was compared */
    bool    asked;                                       /* was one? */
} cmif_pin;

/* false, and out untouched, when text is no pin. */
bool cmif_pin_parse(const char *text, cmif_pin *out);
/* For SSL_CTX_set_cert_verify_callback, in place of the chain check: while the handshake goes on, so that nothing of ours goes to a stranger. */
int cmif_pin_check(X509_STORE_CTX *store, void *pin);

#endif
