/* cmif_gateway_policies - the policies of a gateway, open: each with its lists, channel, books and conversations.
 *
 * Sees    plaintext, in conversations. */
#ifndef CMIF_PROGRAMS_CMIF_GATEWAY_POLICIES_H
#define CMIF_PROGRAMS_CMIF_GATEWAY_POLICIES_H

#include "cmif_gateway_config.h"

#include "gateway/http.h"

typedef struct cmif_policies cmif_policies;

/* Open what config names, the default one first. What is as it was in `before` (NULL: there is none) is that very one, conversations and all. config is
 * borrowed for the call. Errors: as cmif_guard_open, in front of them the policy. */
CMIF_MUST_USE cmif_code cmif_policies_open(const cmif_gateway_config *config, const cmif_policies *before, cmif_policies **out, cmif_err *err);
/* `now` came in place of `before`: policies of before whose names now has not are gone, and their conversations still known (cmif_gateway_rules.gone). */
void                    cmif_policies_succeed(const cmif_policies *now, const cmif_policies *before);
/* What requests still use is kept until cmif_policies_sweep finds it unused. NULL is welcome. */
void                    cmif_policies_free(cmif_policies *policies);
/* Of what was before, or is gone, keeps no more than by what its conversations are known, once nobody uses it; and frees it when there are none. NULL: nothing
 * is there any more, and all of it is freed. */
void                    cmif_policies_sweep(const cmif_policies *policies);
void                    cmif_policies_rules(cmif_policies *policies, cmif_gateway_rules *rules); /* the list, borrowed */
void                    cmif_policies_print(const cmif_policies *policies);

#endif
