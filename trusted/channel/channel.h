/* channel - a byte stream to the server: a unix socket of the same user, or TLS 1.3 with a pinned certificate or a CA.
 *
 * Sees    what may leave the machine, and nothing else.
 * Source  RFC 8446; ALPN cmif/1 (docs/wire.md). */
#ifndef CMIF_CHANNEL_CHANNEL_H
#define CMIF_CHANNEL_CHANNEL_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cmif_peer { /* all strings borrowed */
    const char *path;      /* unix socket; NULL: host and port. The peer's user id must be ours. */
    const char *host;      /* name or address */
    const char *port;
    const char *pin;       /* "sha256:<64 hex>" of the certificate's DER decides alone; NULL: ca decides */
    const char *ca;        /* PEM file; the certificate must also be for host. NULL with pin NULL: refused */
    const char *cert, *key;/* PEM: our own certificate, when the server asks for one */
    int         connect_seconds; /* connecting and greeting, without the name look-up; 0: 10 */
} cmif_peer;

typedef struct cmif_channel cmif_channel;

/* Errors: IO (cannot reach; says what to check), TRUST (certificate, pin, peer user; not TLS 1.3 or not cmif/1),
 * MEMORY. */
CMIF_MUST_USE cmif_code cmif_channel_open(const cmif_peer *peer, cmif_channel **out, cmif_err *err);
void                    cmif_channel_free(cmif_channel *channel); /* closes; NULL is welcome */

/* Send all bytes. wake (or -1) is a descriptor: a call that has to wait gives up with CANCELLED as soon as it is readable.
 * After any error but CANCELLED of a receive the channel is only good for cmif_channel_free.
 * Errors: IO (closed, or no progress for seconds), TRUST (the server wants a client certificate), CANCELLED. */
CMIF_MUST_USE cmif_code cmif_channel_send(cmif_channel *channel, const void *bytes, size_t size, int seconds, int wake,
                                          cmif_err *err);
/* Receive 1..room bytes into buffer; *size on success. Errors: as above; IO also when the peer closed. */
CMIF_MUST_USE cmif_code cmif_channel_receive(cmif_channel *channel, void *buffer, size_t room, size_t *size, int seconds,
                                             int wake, cmif_err *err);
/* What binds evidence to this very connection (evidence/evidence.h): TLS exporter value, SHA-256 of our own SubjectPublicKeyInfo (zeros without a
 * certificate) and of the peer's. Errors: UNSUPPORTED (a unix socket: "evidence needs TLS"), IO. */
CMIF_MUST_USE cmif_code cmif_channel_binding(cmif_channel *channel, uint8_t exporter[static 32], uint8_t own_key[static 32],
                                             uint8_t peer_key[static 32], cmif_err *err);
/* Would a receive return at once, with bytes or an error? (A readable socket may hold half a TLS record only.) */
bool     cmif_channel_ready(cmif_channel *channel);
uint64_t cmif_channel_sent(const cmif_channel *channel); /* bytes so far, before TLS */
uint64_t cmif_channel_received(const cmif_channel *channel);

#endif
