/* Any bytes as a report and a certificate table: never accepted, since no such chain ends at AMD's roots unless it is
 * one of theirs. The first two bytes say how long the report is. */
#include "attest/snp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cmif_verdict v;
    cmif_attest_policy  policy;
    if (size < 2) {
        return 0;
    }
    size_t report = (size_t) data[0] << 8 | data[1], rest = size - 2;
    report            = report < rest ? report : rest;
    cmif_item items[] = {{CMIF_ITEM_SNP_REPORT, data + 2, report},
                         {CMIF_ITEM_SNP_TABLE, data + 2 + report, rest - report}};
    cmif_attest_policy_init(&policy);
    policy.tees                     = 1u << CMIF_TEE_SNP; /* strict: no CRL, so that a capture is refused as well */
    policy.loosened.any_measurement = policy.loosened.no_report_data = true;
    cmif_attest(items, rest > report ? 2 : 1, &policy, 1747699200, &v);
    if (v.outcome == CMIF_ACCEPTED || v.outcome == CMIF_ATTEST_INTERNAL || v.reason_count == 0) {
        abort();
    }
    return 0;
}
