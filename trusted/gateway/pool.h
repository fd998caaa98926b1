/* pool - several upstreams behind one model's name: shared out by weight, with health, retry and a breaker.
 *
 * A call goes to the member that its conversation went to before, as long as that one is well (its KV cache is there); weights share out conversations. What
 * cannot be reached, is busy, is late, lies or is not who it must be is tried once on each other member, as long as no event of an answer came: half an answer
 * is not begun again, and what is refused is refused. A request is entered in the ledger before it comes here: asking a second member sends the same released
 * bytes, and costs nothing again.
 * A member that failed three times in a row is left alone: for 1 s, doubling up to a minute, with a quarter by chance; then one call goes first. One that is not
 * who it must be is left alone for a minute at once, one that is busy for as long as it says. Where all are left alone, a call ends BUSY.
 *
 * Sees    released text, generated text. */
#ifndef CMIF_GATEWAY_POOL_H
#define CMIF_GATEWAY_POOL_H

#include "gateway/upstream.h"

enum { CMIF_POOL_MEMBERS_MAX = 32, CMIF_POOL_WEIGHT_MAX = 1000 };

typedef struct cmif_pool_member {
    cmif_upstream *upstream; /* the pool's on success */
    uint32_t       weight;   /* 1 .. CMIF_POOL_WEIGHT_MAX */
} cmif_pool_member;

/* name: for clients, at most 255 bytes. Errors: RANGE (no member, too many, a weight), MEMORY. */
CMIF_MUST_USE cmif_code cmif_pool_new(struct event_base *base, const char *name, const cmif_pool_member *members, size_t count, cmif_upstream **out,
                                      cmif_err *err);

#endif
