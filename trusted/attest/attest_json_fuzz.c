/* Any bytes are JSON or are refused. What was read says where every value is: nodes nest, a value cut out of the text
 * reads as itself, and a signed document with these bytes as its value gives a verdict with a reason. */
#include "attest/tcb.h"

#include "attest/x509.h"

#include <stdlib.h>
#include <string.h>

/* TCB info and QE identity as if the signature held: the readers behind it see what Intel signs only, but they are not
 * to rely on it. */
static void as_collateral(const cmif_json *json)
{
    static cmif_verdict v;
    static uint8_t      body[648], qe[384];
    cmif_attest_policy  policy;
    const cmif_pck      pck = {.components = {3, 3, 2, 2, 4, 1, 0, 5}, .fmspc = {0xb0, 0xc0, 0x6f}, .pcesvn = 13};
    cmif_attest_policy_init(&policy);
    for (int tdx = 0; tdx < 2; tdx++) {
        cmif_attest_call call = {.policy = &policy, .time = 1750377600, .verdict = &v};
        cmif_quote       q    = {.tee       = tdx ? CMIF_TEE_TDX : CMIF_TEE_SGX,
                                 .version   = 5,
                                 .body      = body,
                                 .body_size = tdx ? 648 : 384,
                                 .qe_report = qe};
        memcpy(body, (const uint8_t[]){4, 1, 3}, 3);
        memcpy(body + CMIF_TD_TCB_SVN2, (const uint8_t[]){9, 1, 9}, 3);
        qe[CMIF_SGX_ISVSVN] = 6;
        memset(&v, 0, sizeof v);
        v.outcome = CMIF_REJECTED;
        cmif_tcb_qe(&call, json, 0, &q);
        if (!v.reason_count && v.qe_status == CMIF_TCB_NONE) {
            abort();
        }
        cmif_tcb_platform(&call, json, 0, &q, &pck);
        if (!v.reason_count && v.tcb_status == CMIF_TCB_NONE) {
            abort();
        }
        cmif_tcb_age found;
        (void) !cmif_tcb_dates(&call, json, 0, "tcb-info", (cmif_tcb_age){0}, &found);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_json json, inner;
    if (cmif_json_parse(data, size, &json, NULL) != CMIF_OK) {
        return 0;
    }
    for (uint32_t i = 0; i < json.count; i++) {
        const cmif_json_node *n = &json.nodes[i];
        if (n->start > size || n->size > size - n->start || n->next <= i || n->next > json.count) {
            abort();
        }
        if (i < 64 && n->type != CMIF_JSON_STRING) {
            if (cmif_json_parse(data + n->start, n->size, &inner, NULL) != CMIF_OK || inner.count != n->next - i) {
                abort();
            }
            cmif_json_wipe(&inner);
        }
    }
    as_collateral(&json);
    uint32_t value = cmif_json_get(&json, 0, "tcbInfo");
    if (value == CMIF_JSON_NONE) {
        value = cmif_json_get(&json, 0, "enclaveIdentity");
    }
    if (value != CMIF_JSON_NONE &&
        cmif_json_parse(data + json.nodes[value].start, json.nodes[value].size, &inner, NULL) == CMIF_OK) {
        as_collateral(&inner);
        cmif_json_wipe(&inner);
    }
    cmif_json_wipe(&json);
    return 0;
}
