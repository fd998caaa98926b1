/* Any bytes as a quote beside good collateral, or as a piece of collateral beside a good quote. Nothing that a
 * capture does not sign is accepted, no verdict is without a reason, and none is an internal error. A quote that can be
 * read is inside its bytes. */
#include "attest/cases.h"
#include "attest/dcap.h"

#include <stdlib.h>

static case_file          files[7];
static cmif_item          items[7];
static cmif_measured      measured = {.tee = CMIF_TEE_TDX, .name = "mrtd", .size = 48};
static cmif_attest_policy policy;

static void in_the_quote(const cmif_quote *q, const uint8_t *data, size_t size, const uint8_t *part, size_t part_size)
{
    if (q->used > size || part < data || part_size > size || part + part_size > data + q->used) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char    *name;
        cmif_item_kind kind;
    } all[] = {{"quote.bin", CMIF_ITEM_QUOTE},
               {"tcb_info.json", CMIF_ITEM_TCB_INFO},
               {"qe_identity.json", CMIF_ITEM_QE_IDENTITY},
               {"tcb_signing_chain.pem", CMIF_ITEM_CERTIFICATES},
               {"pck_crl.der", CMIF_ITEM_CRL},
               {"root_ca_crl.der", CMIF_ITEM_CRL}};
    static cmif_verdict v;
    if (!files[0].data) {
        for (size_t i = 0; i < 6; i++) {
            files[i] = case_read("tdx/v4-uptodate", all[i].name);
            items[i] = (cmif_item){all[i].kind, files[i].data, files[i].size};
            if (!files[i].data) {
                abort();
            }
        }
        cmif_attest_policy_init(&policy);
        memcpy(measured.value, files[0].data + 48 + 136, 48);
        policy.tees                    = 1u << CMIF_TEE_TDX;
        policy.measured                = &measured;
        policy.measured_count          = 1;
        policy.loosened.no_report_data = true;
    }
    if (size == 0) {
        return 0;
    }
    /* The item is the one that the bytes begin like, so that captures are seeds as they are; after ff they go over a
     * good item, from a place that two bytes name. */
    const bool      over  = data[0] == 0xff;
    const size_t    which = over              ? (size > 1 ? data[1] % 6u : 0u)
                            : data[0] == '{'  ? (size > 2 && data[2] == 'e' ? 2u : 1u)
                            : data[0] == '-'  ? 3u
                            : data[0] == 0x30 ? 4u
                                              : 0u;
    const cmif_item good  = items[which];
    uint8_t        *copy  = NULL;
    items[which].data     = data;
    items[which].size     = size;
    if (over) {
        if (size < 5) {
            items[which] = good;
            return 0;
        }
        size_t at    = (data[2] | (size_t) data[3] << 8) % good.size,
               count = size - 4 < good.size - at ? size - 4 : good.size - at;
        copy         = malloc(good.size);
        memcpy(copy, good.data, good.size);
        memcpy(copy + at, data + 4, count);
        items[which].data = copy;
        items[which].size = good.size;
    }
    cmif_attest(items, 6, &policy, 1750377600 /* 2025-06-20 */, &v);
    const bool same_quote =
        which != 0 || (items[0].size >= 4936 && !memcmp(items[0].data, good.data, 1258)); /* all that is not the PEM */
    if (v.outcome == CMIF_ATTEST_INTERNAL || (v.outcome == CMIF_ACCEPTED && !same_quote) ||
        (v.outcome != CMIF_ACCEPTED && !v.reason_count)) {
        abort();
    }
    cmif_quote q;
    if (which == 0 && cmif_quote_parse(items[0].data, items[0].size, &q, NULL) == CMIF_OK) {
        const uint8_t *bytes = items[0].data;
        in_the_quote(&q, bytes, items[0].size, q.body, q.body_size);
        in_the_quote(&q, bytes, items[0].size, q.signature, 64);
        in_the_quote(&q, bytes, items[0].size, q.key, 64);
        in_the_quote(&q, bytes, items[0].size, q.qe_report, 384);
        in_the_quote(&q, bytes, items[0].size, q.qe_signature, 64);
        in_the_quote(&q, bytes, items[0].size, q.auth, q.auth_size);
        in_the_quote(&q, bytes, items[0].size, q.certification, q.certification_size);
    }
    items[which] = good;
    free(copy);
    return 0;
}
