#include "attest/snp.h"

#include "attest/cases.h"
#include "attest/x509.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

/* ---- the captures ---- */

static bool full; /* argument "full": every byte, not a sample */

typedef struct subject { /* evidence with the policy that is right for it */
    cmif_item          items[8];
    size_t             count;
    cmif_measured      measured;
    uint8_t            report_data[64];
    cmif_attest_policy policy;
    int64_t            time;
} subject;

/* What a strict policy is for a capture: its measurement and report data, VMPL 0 (1 for the AWS guest, which runs there), and no CRL since none was
 * captured. Everything else is the default. */
static void subject_policy(subject *s, const uint8_t *report)
{
    cmif_attest_policy_init(&s->policy);
    s->measured = (cmif_measured){.tee = CMIF_TEE_SNP, .name = "measurement", .size = 48};
    memcpy(s->measured.value, report + 0x90, 48);
    memcpy(s->report_data, report + 0x50, 64);
    s->policy.tees             = 1u << CMIF_TEE_SNP;
    s->policy.measured         = &s->measured;
    s->policy.measured_count   = 1;
    s->policy.report_data      = s->report_data;
    s->policy.report_data_size = 64;
    s->policy.loosened.no_crl  = true;
}

static void judge(const subject *s, cmif_verdict *v) { cmif_attest(s->items, s->count, &s->policy, s->time, v); }

static void captures_are_judged_as_expected(void)
{
    static const struct {
        const char *folder, *leaf, *table;
        unsigned    vmpl;
    } all[] = {{"snp/milan-v2-vcek", "vcek.pem", NULL, 0},
               {"snp/milan-v3-vcek", "vcek.pem", NULL, 0},
               {"snp/milan-v3-vlek-aws", "vlek.pem", NULL, 1},
               {"snp/milan-v2-debug", "vcek.pem", NULL, 0},
               {"snp/milan-v2-wrong-vcek-legacy", "vcek.pem", NULL, 0},
               {"snp/milan-v2-wrong-vcek-octet-hwid", "vcek.pem", NULL, 0},
               {"snp/genoa-v3-tsm-outblob-auxblob", NULL, "auxblob.bin", 0},
               {"snp/genoa-v3-tsm-outblob-auxblob", "vcek.pem", NULL, 0},
               {"snp/turin-v5-vcek", "vcek.pem", NULL, 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char   *name   = all[i].folder;
        case_file     report = case_read(name, "report.bin"), leaf = {0}, table = {0};
        case_expected expected;
        cmif_verdict  v;
        subject       s = {.items = {{CMIF_ITEM_SNP_REPORT, report.data, report.size}}, .count = 1};
        if (all[i].leaf) {
            leaf               = case_read(name, all[i].leaf);
            s.items[s.count++] = (cmif_item){CMIF_ITEM_CERTIFICATES, leaf.data, leaf.size};
        }
        if (all[i].table) {
            table              = case_read(name, all[i].table);
            s.items[s.count++] = (cmif_item){CMIF_ITEM_SNP_TABLE, table.data, table.size};
        }
        CHECK(case_open(name, &expected) && report.size == CMIF_SNP_REPORT_SIZE);
        subject_policy(&s, report.data);
        s.policy.snp_vmpl_max = all[i].vmpl;
        s.time                = case_time(&expected);
        judge(&s, &v);
        CHECK(v.tee == CMIF_TEE_SNP);
        CHECK(case_verdict_is(name, &expected, &v, "snp"));
        CHECK(v.debug == !strcmp(case_text(&expected, NULL, "debug"), "true"));

        static const char *const groups[] = {"report_fields", "reported_tcb_decoded"};
        for (size_t g = 0; g < 2; g++) {
            uint32_t object = cmif_json_get(&expected.json, 0, groups[g]);
            CHECK(object != CMIF_JSON_NONE);
            for (uint32_t n = object + 1; n < expected.json.nodes[object].next; n = expected.json.nodes[n + 1].next) { /* key, value, key, value */
                char field[32];
                snprintf(field, sizeof field, "%.31s", case_node(&expected, n));
                /* `debug` is the verdict's own; the other three are notes of the scratch verifier: here they are the error "reserved-bits" */
                if (strcmp(field, "debug") != 0 && strcmp(field, "sig_r_hi") != 0 && strcmp(field, "rest_nonzero") != 0 &&
                    strcmp(field, "tail_nonzero") != 0) {
                    CHECK(case_field_is(name, &expected, groups[g], field, &v, field));
                }
            }
        }
        CHECK(case_field_is(name, &expected, NULL, "product", &v, "product"));
        CHECK(case_field_is(name, &expected, NULL, "leaf_kind", &v, "leaf_kind"));
        CHECK(case_field_is(name, &expected, NULL, "leaf_not_before", &v, "leaf_not_before"));
        CHECK(case_field_is(name, &expected, NULL, "leaf_not_after", &v, "leaf_not_after"));
        CHECK(case_field_is(name, &expected, "cert_extensions", "2", &v, "cert_product"));
        CHECK(case_text(&expected, "cert_extensions", "4")[0] == '\0' || case_field_is(name, &expected, "cert_extensions", "4", &v, "cert_hwid"));
        CHECK(case_has_error(&v, "report-signature") == !strcmp(case_text(&expected, NULL, "signatures_and_chains_ok"), "false"));

        s.policy.loosened.no_crl = false; /* and strictly strict: nobody said that these were not revoked */
        judge(&s, &v);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, all[i].vmpl ? "revocation-vlek" : "revocation-vcek"));
        case_close(&expected);
        free(report.data);
        free(leaf.data);
        free(table.data);
    }
}

int main(int argc, char **argv)
{
    if (cases_absent()) {
        return check_skip("the captures (shared/attestation) are not beside the repository");
    }
    full = argc > 1 && !strcmp(argv[1], "full");
    RUN(captures_are_judged_as_expected);
    return check_report();
}
