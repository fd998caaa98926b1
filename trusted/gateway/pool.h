/* pool - several upstreams behind one model's name: shared out by weight, with health, retry and a breaker.
 *
 * A call goes to the member that its conversation went to before, as long as that one is well (its KV cache is there); weights share out conversations. What
 * cannot be reached, is busy or broke off before the first event of an answer is tried once on each other member; after the first event never: half an
 * answer is not begun again. A member that failed several times in a row is left alone for a while (doubling up to a minute), then tried with one call.
 *
 * Sees    released text, generated text. */
#ifndef CMIF_GATEWAY_POOL_H
#define CMIF_GATEWAY_POOL_H

#include "gateway/upstream.h"

enum { CMIF_POOL_MEMBERS_MAX = 32 };

typedef struct cmif_pool_member {
    cmif_upstream *upstream; /* the pool's on success */
    uint32_t       weight;   /* 1 .. 1000 */
} cmif_pool_member;

/* name: for clients, at most 255 bytes. Errors: RANGE (no member, too many, a weight), MEMORY. */
CMIF_MUST_USE cmif_code cmif_pool_new(struct event_base *base, const char *name, const cmif_pool_member *members, size_t count, cmif_upstream **out,
                                      cmif_err *err);

#endif
