/* door - where clients come in: a unix socket of the same user, or a TCP port.
 *
 * Errors are sentences for whoever starts the server: what is in the way, and what to do. */
#ifndef CMIF_SERVER_DOOR_H
#define CMIF_SERVER_DOOR_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct cmif_door {
    int   fd;        /* listening, not blocking */
    bool  local;     /* a unix socket */
    char  name[320]; /* "unix:PATH", or "HOST:PORT" with the port that it really has */
    char  host[256]; /* as it was asked for; "" on a unix socket */
    dev_t dev;       /* of the socket file: only our own is removed at the end */
    ino_t ino;
} cmif_door;

/* spec is unix:PATH, HOST:PORT or [V6]:PORT. A socket file that a dead server left is replaced.
 * Errors: RANGE (not a spec), IO (in use, no permission, no such address). */
CMIF_MUST_USE cmif_code cmif_door_open(const char *spec, cmif_door *out, cmif_err *err);
void                    cmif_door_close(cmif_door *door);

/* Is the client behind this unix socket the user that we run as? */
bool cmif_door_peer_is_us(int fd);

#endif
