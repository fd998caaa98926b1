/* Whatever the other side shows as a proof: it is judged without a crash, never accepted (nobody here can make evidence
 * for this binding, short of finding a collision), and refused in printable words. */
#include "session/peer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char               text[]  = "attestation-policy 1\naccept sgx\naccept tdx\naccept snp\naccept tpm\n"
                                              "loosen no-crl\nloosen no-report-data\nloosen any-measurement\n";
    static const cmif_peer_binding  binding = {.role = 's', .nonce = {1}, .exporter = {2}, .shown_key = {3}};
    static cmif_attest_policy_file *policy;
    static cmif_peer_verdict        out;
    cmif_err                        err = {0};
    if (!policy && cmif_attest_policy_parse(text, sizeof text - 1, &policy, &err) != CMIF_OK) {
        abort();
    }
    const cmif_peer_rule rule = {.policy = policy, .time = 1750000000};
    const cmif_code      rc   = cmif_peer_judge(&rule, &binding, data, size, &out, &err);
    if (rc == CMIF_OK || !err.text[0] || (out.judged && out.verdict.outcome == CMIF_ACCEPTED)) {
        abort();
    }
    for (const char *c = err.text; *c; c++) {
        if (*c < ' ' || *c > '~') {
            abort();
        }
    }
    return 0;
}
