/* Any bytes are a policy or are refused; a policy's canonical text is the same policy, and none accepts Revoked, or any
 * program unsaid. */
#include "attest/policy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_attest_policy_file *file = NULL, *again = NULL;
    if (cmif_attest_policy_parse((const char *) data, size, &file, NULL) == CMIF_OK) {
        const cmif_attest_policy *p    = &file->policy;
        char                     *text = cmif_attest_policy_text(p);
        if (!text || cmif_attest_policy_parse(text, strlen(text), &again, NULL) != CMIF_OK ||
            memcmp(file->hash, again->hash, 32) != 0) {
            abort();
        }
        if (!p->tees || (p->statuses & (1U << CMIF_TCB_REVOKED | 1U << CMIF_TCB_NOT_SUPPORTED)) ||
            (!p->measured_count && !p->loosened.any_measurement)) {
            abort();
        }
        free(text);
        cmif_attest_policy_free(again);
        cmif_attest_policy_free(file);
    }
    return 0;
}
