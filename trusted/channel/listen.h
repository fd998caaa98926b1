/* listen - the other end of a channel: TLS 1.3 over TCP, ALPN cmif/1, with one certificate that clients pin.
 *
 * Who waits for connections does nothing that a client could make slow: the greeting belongs in the thread that serves it.
 *
 * Sees    what clients of a trusted program send.
 * Source  RFC 8446, RFC 7301; docs/wire.md. */
#ifndef CMIF_CHANNEL_LISTEN_H
#define CMIF_CHANNEL_LISTEN_H

#include "channel/channel.h"

#include "serve/serve.h"

enum { CMIF_LISTEN_ADDRESS_SIZE = 64 };

typedef struct cmif_listen_options { /* borrowed for the call */
    const char *host, *port; /* numbers, or names of this machine; port "0": any that is free */
    const char *cert, *key;  /* PEM; both NULL: `own` */
    const char *own;         /* PEM file with a key and its self-signed certificate, made when it is not there (mode 0600) */
} cmif_listen_options;

typedef struct cmif_listener cmif_listener;

/*   out  the caller's (cmif_listener_free). Errors: IO (address, files), FORMAT (a certificate or key that is none), MEMORY. */
CMIF_MUST_USE cmif_code cmif_listener_open(const cmif_listen_options *options, cmif_listener **out, cmif_err *err);
void                    cmif_listener_free(cmif_listener *listener); /* NULL is welcome; after the last channel of it */
const char             *cmif_listener_pin(const cmif_listener *listener);     /* "sha256:<hex>", for clients */
const char             *cmif_listener_address(const cmif_listener *listener); /* "127.0.0.1:7491" */

/* Wait for a connection. *fd is the caller's; address says whose it is. Errors: CANCELLED (wake is readable; with wake -1: a signal came), IO. */
CMIF_MUST_USE cmif_code cmif_listener_wait(cmif_listener *listener, int wake, int *fd, char address[static CMIF_LISTEN_ADDRESS_SIZE], cmif_err *err);
/* Greet it. fd is taken, also on failure. Errors: as cmif_channel_open. */
CMIF_MUST_USE cmif_code cmif_listener_greet(cmif_listener *listener, int fd, int seconds, cmif_channel **out, cmif_err *err);

/* channel.c: a server's channel over a connected socket that does not block; fd is taken, ctx is counted. */
CMIF_MUST_USE cmif_code cmif_channel_accept(int fd, SSL_CTX *ctx, int seconds, cmif_channel **out, cmif_err *err);

#endif
