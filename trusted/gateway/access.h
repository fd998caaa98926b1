/* access - who may use the gateway: anybody on this machine, or whoever has a key.
 *
 * Without keys a gateway listens on loopback only, and takes requests only under a name of loopback and of no other origin: a page in the person's browser
 * must not be able to ask in their name. Keys are kept as hashes, one "NAME sha256:HEX" a line; a name is whose budget it is. Behind it may stand
 * "policy=NAME", which of the gateway's policies is theirs, and "rate=N", how many requests a minute. A line that begins with "revoked" or # says nothing.
 *
 * Sees    keys. */
#ifndef CMIF_GATEWAY_ACCESS_H
#define CMIF_GATEWAY_ACCESS_H

#include "side.h"

#include "base/err.h"
#include "ledger/ledger.h"

#include <stdbool.h>
#include <stdint.h>

enum { CMIF_ACCESS_POLICY_MAX = 32, CMIF_ACCESS_RATE_MAX = 60000 };

typedef struct cmif_access cmif_access;
typedef enum cmif_access_answer { CMIF_ACCESS_YES = 0, CMIF_ACCESS_NO, CMIF_ACCESS_STRANGE, CMIF_ACCESS_TOO_OFTEN } cmif_access_answer;

/* keys_file NULL: no keys. Errors: RANGE (an address that is not loopback, and no keys), IO, FORMAT (line N), MEMORY. */
CMIF_MUST_USE cmif_code cmif_access_open(const char *keys_file, const char *address, cmif_access **out, cmif_err *err);
void                    cmif_access_free(cmif_access *access); /* NULL is welcome */
bool                    cmif_access_loopback(const char *address);
bool                    cmif_access_needed(const cmif_access *access); /* there are keys */
typedef struct cmif_access_key { /* until the access is freed */
    char     name[CMIF_LEDGER_KEY_MAX + 1], policy[CMIF_ACCESS_POLICY_MAX + 1]; /* policy "": the gateway's */
    uint8_t  hash[32];
    uint32_t rate; /* requests a minute; 0: as many as it likes */
    int64_t  next; /* microseconds: what it had until now is used up by then */
} cmif_access_key;

/* Headers as they came, NULL where there was none. *key: whose; NULL where none is needed. */
cmif_access_answer cmif_access_check(cmif_access *access, const char *authorization, const char *host, const char *origin, int64_t now_us,
                                     cmif_access_key **key);
/* Keys that were read again: what those of their names had used up stays used up (of the very same key what that one had), and so do wrong keys. */
void cmif_access_succeed(cmif_access *access, const cmif_access *before);
/* One more request of this key: 0, or the seconds until it may. A minute's worth may come at once. NULL is welcome. */
uint32_t cmif_access_rate(cmif_access_key *key, int64_t now_us);
/* The first key whose policy is not one of these names; NULL: there is none. */
const cmif_access_key *cmif_access_strange_policy(const cmif_access *access, const char *const *names, size_t count);
size_t                 cmif_access_count(const cmif_access *access);

#endif
