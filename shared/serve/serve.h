/* serve - the listening end of TLS for our wire: TLS 1.3 only, ALPN cmif/1, every connection a handshake of its own, a certificate that clients pin.
 *
 * Sees    certificates and keys of a server.
 * Source  RFC 8446, RFC 7301, RFC 5280 4.1.2.5 (a certificate that does not end); docs/wire.md. */
#ifndef CMIF_SERVE_SERVE_H
#define CMIF_SERVE_SERVE_H

#include "base/err.h"

#include <openssl/ssl.h>

enum { CMIF_SERVE_PIN_SIZE = 7 + 64 + 1 }; /* "sha256:", 64 hex digits, NUL */

/* Make path, a PEM file of mode 0600 with a new key and its self-signed certificate of this name, unless it is there. Of two programs that start together one
 * makes it, and both use it. Errors: IO, RANGE (too long a path), MEMORY. */
CMIF_MUST_USE cmif_code cmif_serve_own(const char *path, const char *name, cmif_err *err);

/* A context with the certificate chain and key in these PEM files (they may be one).
 *   out  the caller's (SSL_CTX_free)
 *   pin  of the certificate, for clients
 * Errors: FORMAT (which file is none), MEMORY. */
CMIF_MUST_USE cmif_code cmif_serve_tls(const char *cert, const char *key, SSL_CTX **out, char pin[static CMIF_SERVE_PIN_SIZE], cmif_err *err);

#endif
