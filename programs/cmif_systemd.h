/* cmif_systemd - what a service tells systemd, and gets from it, without its library: sd_notify(3), sd_listen_fds(3). Nothing of it is there: nothing is done.
 *
 * Sees    nothing of anybody. */
#ifndef CMIF_PROGRAMS_CMIF_SYSTEMD_H
#define CMIF_PROGRAMS_CMIF_SYSTEMD_H

#include "base/err.h"

#include <stdint.h>

/* The one socket of socket activation, or 0. Errors: RANGE (several). */
CMIF_MUST_USE cmif_code cmif_systemd_socket(int *out, cmif_err *err);
void                    cmif_systemd_say(const char *state); /* "READY=1" */
uint64_t                cmif_systemd_watchdog(void);         /* microseconds within which it wants WATCHDOG=1; 0: it does not */
/* Where a secret lies: path, or if that is no absolute one and a credential of the service is called so, that. buffer: PATH_MAX. */
const char             *cmif_systemd_credential(const char *path, char *buffer);

#endif
