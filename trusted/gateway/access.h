/* access - who may use the gateway: anybody on this machine, or whoever has a key.
 *
 * Without keys a gateway listens on loopback only, and takes requests only under a name of loopback and of no other origin: a page in the person's browser
 * must not be able to ask in their name. Keys are kept as hashes, one "NAME sha256:HEX" a line; a name is whose budget it is. A line that begins
 * with "revoked" or # says nothing.
 *
 * Sees    keys. */
#ifndef CMIF_GATEWAY_ACCESS_H
#define CMIF_GATEWAY_ACCESS_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cmif_access cmif_access;
typedef enum cmif_access_answer { CMIF_ACCESS_YES = 0, CMIF_ACCESS_NO, CMIF_ACCESS_STRANGE, CMIF_ACCESS_TOO_OFTEN } cmif_access_answer;

/* keys_file NULL: no keys. Errors: RANGE (an address that is not loopback, and no keys), IO, FORMAT (line N), MEMORY. */
CMIF_MUST_USE cmif_code cmif_access_open(const char *keys_file, const char *address, cmif_access **out, cmif_err *err);
void                    cmif_access_free(cmif_access *access); /* NULL is welcome */
bool                    cmif_access_needed(const cmif_access *access); /* there are keys */
/* Headers as they came, NULL where there was none. *owner: the key's name, or as it was. */
cmif_access_answer cmif_access_check(cmif_access *access, const char *authorization, const char *host, const char *origin, int64_t now_us,
                                     const char **owner);

#endif
