#include "attest/dcap.h"

#include "attest/cases.h"
#include "attest/ratls.h"
#include "attest/x509.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* ---- the captures ---- */

static bool full; /* argument "full": every byte, not a sample */

static const char *const captures[] = {"sgx/v3-config-swhardening",
                                       "sgx/v3-icelake-swhardening",
                                       "sgx/v3-occlum-debug-outofdate",
                                       "sgx/ratls-dice-cert-debug",
                                       "sgx/ratls-gramine-cert-debug",
                                       "sgx/ratls-intel-sgxsdk-cert-debug",
                                       "sgx/v3-cert-type-3-eppid",
                                       "sgx/v3-root-2018-encoding-debug",
                                       "sgx/v3-unordered-chain-debug",
                                       "tdx/v4-uptodate",
                                       "tdx/v4-same-fmspc-tcb-not-supported",
                                       "tdx/v5-td15-tcb-not-supported",
                                       "tdx/v5-td15-uptodate",
                                       "tdx/v5-td15-relaunch-advised",
                                       "tdx/v4-gcp-ccel-uptodate",
                                       "tdx/v4-gcp-outofdate",
                                       "tdx/v4-gcp-uptodate-2026",
                                       "tdx/v4-tdx10-debug",
                                       "tdx/v4-tdx10-tcb-not-supported-trailing",
                                       "tdx/v5-td15-migratable-outofdate"};

static const struct {
    const char    *name;
    cmif_item_kind kind;
} capture_files[] = {{"quote.bin", CMIF_ITEM_QUOTE},
                     {"tcb_info.json", CMIF_ITEM_TCB_INFO},
                     {"qe_identity.json", CMIF_ITEM_QE_IDENTITY},
                     {"tcb_signing_chain.pem", CMIF_ITEM_CERTIFICATES},
                     {"pck_crl.der", CMIF_ITEM_CRL},
                     {"root_ca_crl.der", CMIF_ITEM_CRL},
                     {"pck_crl_issuer_chain.pem", CMIF_ITEM_CERTIFICATES},
                     {"ratls_cert.pem", CMIF_ITEM_RATLS}};
enum { CAPTURE_FILES = sizeof capture_files / sizeof capture_files[0] };

typedef struct capture { /* evidence with the policy that is right for it */
    case_file          files[CAPTURE_FILES];
    cmif_item          items[CAPTURE_FILES];
    size_t             count;
    cmif_measured      measured;
    uint8_t            report_data[64];
    cmif_attest_policy policy;
    case_expected      expected;
    int64_t            time;
} capture;

/* The strict policy of the captures: up to date, not debug, this program, this report data; TD attributes are not its
 * business. */
static bool capture_open(const char *folder, bool ratls, capture *c)
{
    *c = (capture){0};
    if (!case_open(folder, &c->expected)) {
        return false;
    }
    for (size_t i = 0; i < CAPTURE_FILES; i++) {
        c->files[i] = case_read(folder, capture_files[i].name);
        if (c->files[i].data && (capture_files[i].kind != CMIF_ITEM_RATLS || ratls)) {
            c->items[c->count++] = (cmif_item){capture_files[i].kind, c->files[i].data, c->files[i].size};
        }
    }
    const bool tdx = !strncmp(folder, "tdx", 3);
    cmif_attest_policy_init(&c->policy);
    c->measured      = (cmif_measured){.tee = tdx ? CMIF_TEE_TDX : CMIF_TEE_SGX};
    c->measured.size = case_bytes(&c->expected, "quote_fields", tdx ? "mrtd" : "mrenclave", c->measured.value);
    snprintf(c->measured.name, sizeof c->measured.name, "%s", tdx ? "mrtd" : "mrenclave");
    case_bytes(&c->expected, "quote_fields", "report_data", c->report_data);
    c->policy.tees                    = 1u << c->measured.tee;
    c->policy.measured                = &c->measured;
    c->policy.measured_count          = 1;
    c->policy.td_required             = 0;
    c->policy.td_forbidden            = 0;
    c->policy.loosened.servtd         = true;
    c->policy.report_data             = ratls ? NULL : c->report_data;
    c->policy.report_data_size        = ratls ? 0 : 64;
    c->policy.loosened.no_report_data = ratls;
    c->time                           = case_time(&c->expected);
    c->time =
        c->time == INT64_MIN ? 1700000000 : c->time; /* "at any time": one that all PCK certificates are valid at */
    if (!strcmp(folder, "sgx/ratls-intel-sgxsdk-cert-debug")) {
        c->time = 1720000000;
    }
    return true;
}

static void capture_close(capture *c)
{
    for (size_t i = 0; i < CAPTURE_FILES; i++) {
        free(c->files[i].data);
    }
    case_close(&c->expected);
}

static void judge(const capture *c, cmif_verdict *v)
{
    cmif_attest(c->items, c->count, &c->policy, c->time, v);
}

/* "" and "null" are both: none */
static const char *status_expected(case_expected *expected, const char *name)
{
    const char *text = case_text(expected, NULL, name);
    return !strcmp(text, "NoMatch") ? "TcbNotSupported" : !*text || !strcmp(text, "null") ? "none" : text;
}

static bool advisories_are(case_expected *expected, const cmif_verdict *v)
{
    static const char *const lists[]  = {"advisory_ids", "tdx_module_advisory_ids"};
    size_t                   distinct = 0;
    for (size_t l = 0; l < 2; l++) {
        uint32_t list  = cmif_json_get(&expected->json, 0, lists[l]),
                 first = cmif_json_get(&expected->json, 0, lists[0]);
        for (uint32_t i = cmif_json_first(&expected->json, list); i != CMIF_JSON_NONE;
             i          = cmif_json_after(&expected->json, list, i)) {
            const char *id   = case_node(expected, i);
            bool        here = false, again = false;
            for (size_t k = 0; k < v->advisory_count; k++) {
                here = here || !strcmp(v->advisories[k], id);
            }
            for (uint32_t k = cmif_json_first(&expected->json, first); l == 1 && k != CMIF_JSON_NONE;
                 k          = cmif_json_after(&expected->json, first, k)) {
                again = again || cmif_json_is(&expected->json, k, id);
            }
            distinct += !again;
            if (!here) {
                fprintf(stderr, "advisory %s is missing\n", id);
                return false;
            }
        }
    }
    return distinct == v->advisory_count;
}

static void captures_are_judged_as_expected(void)
{
    printf("%-42s %-8s %-34s %s\n", "capture", "verdict", "TCB status", "reasons");
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        for (int ratls = 0; ratls < 2;
             ratls++) { /* the quote by itself; then inside its certificate, where there is one */
            capture             c;
            static cmif_verdict v;
            CHECK(capture_open(captures[i], ratls, &c));
            if (ratls && !c.files[CAPTURE_FILES - 1].data) {
                capture_close(&c);
                continue;
            }
            judge(&c, &v);
            CHECK(case_verdict_is(captures[i], &c.expected, &v, v.tee == CMIF_TEE_TDX ? "tdx" : "sgx"));
            CHECK(!strcmp(cmif_tcb_status_name(v.tcb_status), status_expected(&c.expected, "tcb_status")));
            CHECK(!strcmp(cmif_tcb_status_name(v.platform_status), status_expected(&c.expected, "platform_status")));
            const bool no_levels = v.tcb_status == CMIF_TCB_NONE || !*case_text(&c.expected, NULL, "tdx_module_status");
            CHECK(no_levels ||
                  !strcmp(cmif_tcb_status_name(v.module_status), status_expected(&c.expected, "tdx_module_status")));
            CHECK(!strcmp(cmif_tcb_status_name(v.qe_status), status_expected(&c.expected, "qe_status")));
            int64_t date = 0;
            cmif_json_time(&c.expected.json, cmif_json_get(&c.expected.json, 0, "tcb_date"), &date);
            CHECK(date == v.tcb_date);
            uint64_t number = 0;
            cmif_json_uint(&c.expected.json, cmif_json_get(&c.expected.json, 0, "tcb_evaluation_data_number"), 1000,
                           &number);
            CHECK(number == v.tcb_evaluation);
            CHECK(advisories_are(&c.expected, &v));
            CHECK(v.debug == !strcmp(case_text(&c.expected, NULL, "debug"), "true"));
            uint32_t group = cmif_json_get(&c.expected.json, 0, "quote_fields"), fields = 0;
            for (uint32_t k = group + 1; k < c.expected.json.nodes[group].next; k = c.expected.json.nodes[k + 1].next) {
                char name[64];
                snprintf(name, sizeof name, "%s", case_node(&c.expected, k));
                const char *want = case_node(&c.expected, k + 1);
                if (!strcmp(want, "null")) {
                    CHECK(cmif_verdict_field(&v, name) == NULL);
                } else {
                    CHECK(case_field_is(captures[i], &c.expected, "quote_fields", name, &v, name));
                }
                fields++;
            }
            CHECK(fields >= 16);
            static const char *const pck[][2] = {{"fmspc", "pck_fmspc"},
                                                 {"pceid", "pck_pceid"},
                                                 {"cpusvn", "pck_cpusvn"},
                                                 {"pcesvn", "pck_pcesvn"},
                                                 {"issuer_cn", "pck_issuer_cn"}};
            for (size_t k = 0; k < 5 && cmif_json_get(&c.expected.json, 0, "pck") != CMIF_JSON_NONE; k++) {
                CHECK(case_field_is(captures[i], &c.expected, "pck", pck[k][0], &v, pck[k][1]));
            }
            printf("%-42s %-8s %-34s", captures[i],
                   v.outcome == CMIF_ACCEPTED   ? "accept"
                   : v.outcome == CMIF_REJECTED ? "reject"
                                                : "unsup.",
                   cmif_tcb_status_name(v.tcb_status));
            for (size_t k = 0; k < v.reason_count; k++) {
                printf(" %s", v.reasons[k]);
            }
            printf("%s\n", ratls ? " (by its certificate)" : "");
            capture_close(&c);
        }
    }
}

/* Inside the window in which all collateral holds the verdict stays; a second before and after it is refused. */
static void time_is_an_argument(void)
{
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        capture             c;
        static cmif_verdict v;
        int64_t             from, until;
        CHECK(capture_open(captures[i], false, &c));
        if (cmif_json_time(&c.expected.json, cmif_json_get(&c.expected.json, 0, "all_valid_from"), &from) &&
            cmif_json_time(&c.expected.json, cmif_json_get(&c.expected.json, 0, "all_valid_until"), &until)) {
            const int64_t times[] = {from - 1, from, until, until + 1};
            for (size_t k = 0; k < 4; k++) {
                bool said = false;
                c.time    = times[k];
                judge(&c, &v);
                for (size_t r = 0; r < v.reason_count; r++) {
                    said = said || strstr(v.reasons[r], k == 0 ? "-not-yet-valid" : "-expired");
                }
                CHECK(said == (k == 0 || k == 3));
                CHECK(!said || v.outcome == CMIF_REJECTED);
                CHECK(said || case_verdict_is(captures[i], &c.expected, &v, v.tee == CMIF_TEE_TDX ? "tdx" : "sgx"));
            }
            c.policy.tolerance = 1;
            c.time             = until + 1;
            judge(&c, &v);
            CHECK(case_verdict_is(captures[i], &c.expected, &v, v.tee == CMIF_TEE_TDX ? "tdx" : "sgx"));
        }
        capture_close(&c);
    }
}

int main(int argc, char **argv)
{
    full = argc > 1 && !strcmp(argv[1], "full");
    if (cases_absent()) {
        return check_skip("shared/attestation is not beside the repository");
    }
    RUN(captures_are_judged_as_expected);
    RUN(time_is_an_argument);
    return check_report();
}
