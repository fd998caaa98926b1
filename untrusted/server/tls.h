/* tls - the server's end of TLS 1.3: one certificate, ALPN cmif/1, client certificates when a CA is named.
 *
 * Source  RFC 8446, RFC 7301; docs/wire.md. */
#ifndef CMIF_SERVER_TLS_H
#define CMIF_SERVER_TLS_H

#include "serve/serve.h"
#include "wire/wire.h"

typedef struct cmif_tls_options {
    const char *cert, *key; /* PEM; both NULL: a self-signed P-256 certificate, made once in the state folder */
    const char *client_ca;  /* PEM; NULL: clients need no certificate */
} cmif_tls_options;

/* pin: "sha256:<hex of the certificate's DER>", what a client must be told.
 *   out  the caller's (SSL_CTX_free)
 * Errors: IO, FORMAT (a file is not what it must be), MEMORY. */
CMIF_MUST_USE cmif_code cmif_tls_open(const cmif_tls_options *options, SSL_CTX **out, char pin[static CMIF_SERVE_PIN_SIZE],
                                      cmif_err *err);

/* After the handshake. Errors: TRUST (the client did not ask for cmif/1). owner: SHA-256 of the client's public key, zeros
 * without a certificate. */
CMIF_MUST_USE cmif_code cmif_tls_peer(SSL *ssl, uint8_t owner[static CMIF_WIRE_HASH_SIZE], cmif_err *err);

/* What evidence is bound to: SHA-256 of our own public key (SubjectPublicKeyInfo, as DER); 32 bytes of this connection that
 * nobody else has, after the handshake. Errors: FORMAT; IO. */
CMIF_MUST_USE cmif_code cmif_tls_own_key(SSL_CTX *ctx, uint8_t out[static CMIF_WIRE_HASH_SIZE], cmif_err *err);
CMIF_MUST_USE cmif_code cmif_tls_exporter(SSL *ssl, uint8_t out[static 32], cmif_err *err);

#endif
