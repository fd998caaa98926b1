/* Any bytes are a policy or are refused; a policy's canonical text is the same policy, and no policy is looser than
 * itself. */
#include "sanitizer/policy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_policy *policy = NULL, *again = NULL;
    if (cmif_policy_parse((const char *) data, size, &policy, NULL) == CMIF_OK) {
        char *text = cmif_policy_text(policy);
        if (!text || cmif_policy_parse(text, strlen(text), &again, NULL) != CMIF_OK) {
            abort();
        }
        char *twice = cmif_policy_text(again);
        if (!twice || strcmp(text, twice) != 0 || memcmp(policy->hash, again->hash, sizeof policy->hash) != 0 ||
            !cmif_policy_tightens(policy, again) || !cmif_policy_tightens(again, policy) ||
            policy->actions[CMIF_SPAN_UNKNOWN] < CMIF_ACTION_SURROGATE) {
            abort();
        }
        free(twice);
        free(text);
        cmif_policy_free(again);
        cmif_policy_free(policy);
    }
    return 0;
}
