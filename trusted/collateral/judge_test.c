/* judge_test - what evidence brings against what this machine has: makers of our own stand where Intel and AMD are
 * pinned, since the memory is of pinned makers only. */
#define _GNU_SOURCE /* mkdtemp */
#include "attest/dcap_rig.h"
#include "attest/snp_rig.h"
#include "base/check.h"
#include "collateral/judge.h"
#include "collateral/store.h"

#include <unistd.h>

/* These come before those of the library. */
static char            pinned[2][8192];
const cmif_pinned_root cmif_pinned_roots[]    = {{CMIF_ROOT_INTEL, "Intel", NULL, pinned[0]},
                                                 {CMIF_ROOT_AMD, "AMD", NULL, pinned[1]}};
const size_t           cmif_pinned_root_count = 2;
static world           w; /* as evidence brings it */
static char            folder[] = "/tmp/cmif-judge-XXXXXX", path[64];
static cmif_sorted     sorted;
static cmif_verdict    v;

static bool has_reason(const char *word)
{
    bool found = false;
    for (size_t i = 0; i < v.reason_count; i++) {
        found = found || !strcmp(v.reasons[i], word);
    }
    return found;
}

/* Was it accepted? If not, why. */
static bool accepted(cmif_outcome outcome)
{
    for (size_t i = 0; outcome != CMIF_ACCEPTED && i < v.reason_count; i++) {
        fprintf(stderr, "  %s\n", v.reasons[i]);
    }
    return outcome == CMIF_ACCEPTED;
}

static void bring(const void *data, size_t size)
{
    cmif_err err;
    CHECK(cmif_sort_bytes(&sorted, "evidence", data, size, &err) == CMIF_OK);
}

static cmif_outcome judged(const cmif_attest_policy *policy, int64_t time)
{
    cmif_err  err = {0};
    cmif_code rc  = cmif_judge(&sorted, policy, time, path, &v, &err);
    CHECK(rc == CMIF_OK);
    cmif_sort_wipe(&sorted);
    memset(&sorted, 0, sizeof sorted);
    return rc == CMIF_OK ? v.outcome : CMIF_ATTEST_INTERNAL;
}

static void keep(cmif_item_kind kind, const void *data, size_t size)
{
    cmif_item       item  = {kind, data, size};
    cmif_store     *store = NULL;
    cmif_kept       kept;
    cmif_store_done done;
    cmif_err        err = {0};
    CHECK(cmif_store_open(path, true, &store, &err) == CMIF_OK &&
          cmif_store_add(store, &item, 1, &kept, &done, &err) == CMIF_OK);
    cmif_store_free(store);
}

static void forget(void)
{
    unlink(path);
}

/* ---- Intel ---- */

/* Our Intel is pinned, and this is what evidence is made of. */
static void intel(unsigned version, unsigned body_type)
{
    forget();
    world_new(&w, version, body_type);
}

static void intel_make(void)
{
    world_make(&w);
    const uint8_t *at   = w.root.data;
    X509          *root = d2i_X509(NULL, &at, (long) w.root.size);
    size_t         size = rig_pem(root, NULL, (uint8_t *) pinned[0], sizeof pinned[0] - 1);
    pinned[0][size]     = 0;
    X509_free(root);
    w.policy.roots      = NULL;
    w.policy.root_count = 0;
}

static cmif_outcome intel_judged(void)
{
    for (size_t i = 0; i < w.count; i++) {
        bring(w.items[i].data, w.items[i].size);
    }
    return judged(&w.policy, w.time);
}

/* What the world has of a kind is kept, all but evidence. */
static void intel_keep(cmif_item_kind kind)
{
    for (size_t i = 0; i < w.count; i++) {
        if (w.items[i].kind == kind) {
            keep(kind, w.items[i].data, w.items[i].size);
        }
    }
}

/* A quote that brings no PCK certificate: the store has it, and so tells which platform it is. */
static const uint8_t *pck_chain(size_t *size)
{
    const uint8_t *chain = memmem(w.quote, w.quote_size, "-----BEGIN", 10);
    *size                = (size_t) (w.quote + w.quote_size - chain);
    while (*size && chain[*size - 1] == 0) {
        --*size;
    }
    return chain;
}

static void intel_make_without_chain(void)
{
    w.certification_type = 3;
    intel_make();
}

static void the_newer_tcb_info_that_is_kept_counts_also_when_the_pck_certificate_is_kept_there(void)
{
    size_t         size;
    const uint8_t *chain;
    intel(3, 1);
    world_edit(&w, RIG_INFO, "2025-06-01T00:00:00Z", "2025-06-10T00:00:00Z");
    world_edit(&w, RIG_INFO, "\"tcbEvaluationDataNumber\":17", "\"tcbEvaluationDataNumber\":18");
    world_edit(&w, RIG_INFO, "UpToDate", "OutOfDate");
    intel_make_without_chain();
    intel_keep(CMIF_ITEM_TCB_INFO);
    chain = pck_chain(&size);
    keep(CMIF_ITEM_CERTIFICATES, chain, size);
    world_new(&w, 3, 1);
    intel_make_without_chain();
    CHECK(intel_judged() == CMIF_REJECTED && has_reason("tcb-OutOfDate") && v.tcb_evaluation == 18);

    intel(3, 1); /* and with everything kept, the quote alone is enough */
    intel_make_without_chain();
    intel_keep(CMIF_ITEM_TCB_INFO);
    intel_keep(CMIF_ITEM_QE_IDENTITY);
    intel_keep(CMIF_ITEM_CERTIFICATES);
    intel_keep(CMIF_ITEM_CRL);
    chain = pck_chain(&size);
    keep(CMIF_ITEM_CERTIFICATES, chain, size);
    for (size_t i = 0; i < w.count; i++) {
        if (w.items[i].kind == CMIF_ITEM_QUOTE) {
            bring(w.items[i].data, w.items[i].size);
        }
    }
    CHECK(accepted(judged(&w.policy, w.time)));
}

static void older_tcb_info_that_evidence_brings_does_not_stand_for_the_newer_that_is_kept(void)
{
    intel(3, 1);
    world_edit(&w, RIG_INFO, "2025-06-01T00:00:00Z", "2025-06-10T00:00:00Z");
    world_edit(&w, RIG_INFO, "\"tcbEvaluationDataNumber\":17", "\"tcbEvaluationDataNumber\":18");
    world_edit(&w, RIG_INFO, "UpToDate", "OutOfDate");
    intel_make();
    intel_keep(CMIF_ITEM_TCB_INFO); /* Intel's latest word: out of date */
    world_new(&w, 3, 1);
    intel_make();
    CHECK(intel_judged() == CMIF_REJECTED && has_reason("tcb-OutOfDate"));
}

static void older_qe_identity_that_evidence_brings_does_not_stand_for_the_newer_that_is_kept(void)
{
    intel(4, 2);
    world_edit(&w, RIG_IDENTITY, "2025-06-01T00:00:00Z", "2025-06-10T00:00:00Z");
    world_edit(&w, RIG_IDENTITY, "UpToDate", "Revoked");
    intel_make();
    intel_keep(CMIF_ITEM_QE_IDENTITY);
    world_new(&w, 4, 2);
    intel_make();
    CHECK(intel_judged() == CMIF_REJECTED && has_reason("tcb-Revoked"));
}

static void newer_collateral_that_evidence_brings_is_used(void)
{
    intel(3, 1);
    world_edit(&w, RIG_INFO, "UpToDate", "OutOfDate");
    intel_make();
    intel_keep(CMIF_ITEM_TCB_INFO);
    world_new(&w, 3, 1);
    world_edit(&w, RIG_INFO, "2025-06-01T00:00:00Z", "2025-06-10T00:00:00Z");
    intel_make();
    CHECK(accepted(intel_judged()));
}

static void collateral_of_a_later_time_is_not_taken_for_the_newest(void)
{
    intel(3, 1);
    world_edit(&w, RIG_INFO, "2025-06-01T00:00:00Z", "2025-06-20T00:00:00Z");
    intel_make();
    intel_keep(CMIF_ITEM_TCB_INFO);
    world_new(&w, 3, 1);
    intel_make();
    CHECK(accepted(intel_judged()));
}

static void a_crl_that_evidence_brings_does_not_hide_the_one_that_is_kept(void)
{
    static const int revoked[][2] = {{RIG_PCK_CRL, RIG_PCK}, {RIG_ROOT_CRL, RIG_CA}, {RIG_ROOT_CRL, RIG_SIGNING}};
    for (size_t i = 0; i < sizeof revoked / sizeof *revoked; i++) {
        intel(3, 1);
        rig_crl *crl    = &w.crls[revoked[i][0]];
        crl->from       = RIG_TIME - 3600;
        crl->revoked[0] = w.certificates[revoked[i][1]].serial;
        intel_make();
        intel_keep(CMIF_ITEM_CRL);
        world_new(&w, 3, 1); /* with the lists of yesterday */
        intel_make();
        CHECK(intel_judged() == CMIF_REJECTED && has_reason(i < 2 ? "pck-revoked" : "tcb-signing-revoked"));
    }
}

static void what_was_believed_is_remembered_and_older_is_refused(void)
{
    intel(3, 1);
    world_edit(&w, RIG_INFO, "2025-06-01T00:00:00Z", "2025-06-10T00:00:00Z");
    w.crls[RIG_PCK_CRL].from = RIG_TIME - 3600;
    intel_make();
    CHECK(accepted(intel_judged()));
    world_new(&w, 3, 1);
    intel_make();
    CHECK(intel_judged() == CMIF_REJECTED && has_reason("tcb-info-rollback") && has_reason("crl-rollback"));
}

/* Intel gives out sets of before with dates of today: a later date does not make them newer. */
static void older_sets_with_later_dates_are_refused(void)
{
    static const char *const reasons[] = {"tcb-info-rollback", "qe-identity-rollback"};
    for (int document = 0; document < RIG_DOCUMENTS; document++) {
        intel(4, 2);
        intel_make();
        CHECK(accepted(intel_judged()));
        world_edit(&w, document, "2025-06-01T00:00:00Z", "2025-06-10T00:00:00Z");
        world_edit(&w, document, "DataNumber\":17", "DataNumber\":16");
        intel_make();
        CHECK(intel_judged() == CMIF_REJECTED && has_reason(reasons[document]));
    }
}

/* Each kind has a memory of its own: an early TCB info says nothing of the QE identity that is out. */
static void what_was_accepted_once_is_accepted_again(void)
{
    intel(4, 2);
    world_edit(&w, RIG_INFO, "DataNumber\":17", "DataNumber\":18");
    intel_make();
    CHECK(accepted(intel_judged()));
    CHECK(accepted(intel_judged()));
}

static void roots_of_a_policy_are_without_memory_and_the_verdict_says_so(void)
{
    bool said = false;
    intel(3, 1);
    intel_make();
    w.policy.roots      = &w.root;
    w.policy.root_count = 1;
    CHECK(accepted(intel_judged()));
    for (size_t i = 0; i < v.unchecked_count; i++) {
        said = said || !strcmp(v.unchecked[i], "collateral-rollback");
    }
    CHECK(said && access(path, F_OK) != 0);
}

/* Lists of whoever is on the way to the root, not of the PCK certificate's issuer alone. */
static void every_crl_that_was_used_is_remembered(void)
{
    intel(4, 2);
    w.crls[RIG_ROOT_CRL].from = RIG_TIME - 3600;
    intel_make();
    CHECK(accepted(intel_judged()));
    world_new(&w, 4, 2);
    intel_make();
    CHECK(intel_judged() == CMIF_REJECTED && has_reason("crl-rollback") && v.reason_count == 1);
}

/* An early set, which says a higher number; brought by w as bent by the caller. */
static cmif_outcome early_judged(void)
{
    world_edit(&w, RIG_INFO, "DataNumber\":17", "DataNumber\":18");
    intel_make();
    return intel_judged();
}

static void evidence_that_was_not_accepted_is_not_remembered(void)
{
    for (int i = 0; i < 3; i++) {
        intel(4, 2);
        w.body[136] ^= i == 0; /* another program */
        w.policy.tees                     = i == 1 ? 1u << CMIF_TEE_SGX : w.policy.tees;
        w.policy.loosened.any_measurement = i == 2; /* any program: whoever has a machine */
        w.policy.measured_count           = i == 2 ? 0 : 1;
        CHECK(early_judged() == (i < 2 ? CMIF_REJECTED : CMIF_ACCEPTED));
        world_new(&w, 4, 2);
        intel_make();
        CHECK(accepted(intel_judged()));
    }
}

/* Who has filled a store has chosen one of Intel's two sets: evidence with the other is judged by it, and no more. */
static void an_early_set_does_not_bar_what_the_store_has(void)
{
    for (int kept_there = 1; kept_there >= 0; kept_there--) {
        intel(4, 2);
        intel_make();
        if (kept_there) {
            intel_keep(CMIF_ITEM_CERTIFICATES);
            intel_keep(CMIF_ITEM_TCB_INFO);
        }
        world_new(&w, 4, 2);
        CHECK(accepted(early_judged()) && v.tcb_evaluation == 18);
        world_new(&w, 4, 2);
        intel_make();
        const cmif_outcome outcome = intel_judged();
        CHECK(kept_there ? accepted(outcome) : outcome == CMIF_REJECTED && has_reason("tcb-info-rollback"));
    }
    intel(4, 2); /* what it has is over: then what was believed counts */
    world_edit(&w, RIG_INFO, "2025-07-01", "2025-06-10");
    world_edit(&w, RIG_INFO, "2025-06-01", "2025-05-01");
    intel_make();
    intel_keep(CMIF_ITEM_CERTIFICATES);
    intel_keep(CMIF_ITEM_TCB_INFO);
    world_new(&w, 4, 2);
    CHECK(accepted(early_judged()));
    world_new(&w, 4, 2);
    intel_make();
    CHECK(intel_judged() == CMIF_REJECTED && has_reason("tcb-info-rollback"));
}

/* It was added when nobody could tell. */
static void forged_collateral_of_the_store_does_not_stand_for_what_is_good(void)
{
    intel(4, 2);
    world_edit(&w, RIG_INFO, "DataNumber\":17", "DataNumber\":99");
    world_edit(&w, RIG_IDENTITY, "DataNumber\":17", "DataNumber\":99");
    w.signed_by[RIG_INFO] = w.signed_by[RIG_IDENTITY] = RIG_STRANGER;
    intel_make();
    intel_keep(CMIF_ITEM_TCB_INFO);
    intel_keep(CMIF_ITEM_QE_IDENTITY);
    world_new(&w, 4, 2);
    w.certificates[RIG_CA].issuer    = RIG_CA; /* the CA's name and key, given by nobody */
    w.certificates[RIG_CA].signed_by = RIG_STRANGER;
    X509   *stranger                 = rig_make_certificate(&w, RIG_CA);
    uint8_t pem[4096];
    keep(CMIF_ITEM_CERTIFICATES, pem, rig_pem(stranger, NULL, pem, sizeof pem));
    X509_free(stranger);
    world_new(&w, 4, 2);
    intel_make();
    CHECK(accepted(intel_judged()) && v.tcb_evaluation == 17);
}

static void what_is_of_a_later_time_is_not_remembered(void)
{
    static const char *const later[] = {"2025-06-15T15:07:40Z", "2025-06-15T15:07:41Z"};
    for (int i = 0; i < 2; i++) { /* clocks may differ by a minute */
        intel(4, 2);
        w.policy.tolerance = 60;
        world_edit(&w, RIG_INFO, "2025-06-01T00:00:00Z", later[i]);
        intel_make();
        CHECK(intel_judged() == (i ? CMIF_REJECTED : CMIF_ACCEPTED));
        world_new(&w, 4, 2);
        w.time += 3600;
        intel_make();
        CHECK(intel_judged() == (i ? CMIF_ACCEPTED : CMIF_REJECTED));
    }
}

/* An honest fleet has many makers: its lists are no reason to read none. */
static void many_lists_are_no_malformed_evidence(void)
{
    intel(4, 2);
    intel_make();
    cmif_store *store = NULL;
    CHECK(cmif_store_open(path, true, &store, NULL) == CMIF_OK);
    for (long i = 0; i < 30; i++) {
        char            name[48];
        cmif_kept       kept;
        cmif_store_done done;
        uint8_t         der[4096], *at = der;
        snprintf(name, sizeof name, "Maker of TPMs %ld", i);
        w.certificates[RIG_PCK].name = name;
        w.crls[RIG_PCK_CRL].issuer   = RIG_PCK;
        X509_CRL       *crl          = rig_make_crl(&w, RIG_PCK_CRL);
        const cmif_item item         = {CMIF_ITEM_CRL, der, (size_t) i2d_X509_CRL(crl, &at)};
        CHECK(cmif_store_add(store, &item, 1, &kept, &done, NULL) == CMIF_OK);
        X509_CRL_free(crl);
    }
    cmif_store_free(store);
    world_new(&w, 4, 2);
    intel_make();
    CHECK(accepted(intel_judged()));
}

/* ---- AMD ---- */

static uint8_t            report[CMIF_SNP_REPORT_SIZE];
static cmif_attest_policy amd_policy;
static cmif_measured      amd_measured = {.tee = CMIF_TEE_SNP, .name = "measurement", .size = 48};

static void bring_der(X509 *c)
{
    uint8_t *der  = NULL;
    int      size = i2d_X509(c, &der);
    bring(der, (size_t) size);
    OPENSSL_free(der);
}

static size_t amd_crl(long revoked, int64_t from, uint8_t *out)
{
    X509_CRL *crl  = crl_make(&pki.ark[MILAN], pki.ark[MILAN].key, revoked, from, now + 1000);
    int       size = i2d_X509_CRL(crl, &out);
    X509_CRL_free(crl);
    return (size_t) size;
}

static void amd_evidence(void)
{
    leaf_plan plan = plan_for(MILAN);
    X509     *leaf = leaf_make(&plan);
    report_make(&plan, 3, report);
    report_sign(report, plan.key);
    bring(report, sizeof report);
    bring_der(leaf);
    bring_der(pki.ask[MILAN].certificate);
    X509_free(leaf);
}

static void amd_open(void)
{
    pki_make();
    pinned[1][rig_pem(pki.ark[MILAN].certificate, NULL, (uint8_t *) pinned[1], sizeof pinned[1] - 1)] = 0;
    cmif_attest_policy_init(&amd_policy);
    memset(amd_measured.value, 0x22, 48);
    amd_policy.tees             = 1u << CMIF_TEE_SNP;
    amd_policy.measured         = &amd_measured;
    amd_policy.measured_count   = 1;
    amd_policy.report_data      = report + 0x50;
    amd_policy.report_data_size = 64;
}

static void amd_crl_is_remembered_and_an_older_one_refused(void)
{
    uint8_t crl[4096];
    size_t  size;
    forget();
    size = amd_crl(0, now - 500, crl);
    amd_evidence();
    bring(crl, size);
    CHECK(accepted(judged(&amd_policy, now)));
    size = amd_crl(0, now - 900, crl); /* still validly signed, and within its dates */
    amd_evidence();
    bring(crl, size);
    CHECK(judged(&amd_policy, now) == CMIF_REJECTED && has_reason("crl-rollback"));
    size = amd_crl(0, now - 500, crl);
    amd_evidence();
    bring(crl, size);
    CHECK(accepted(judged(&amd_policy, now)));
}

/* The store has one that is older than what was believed: it is kept from before. */
static void amd_crl_of_the_store_is_held_against_the_memory_too(void)
{
    uint8_t crl[4096];
    size_t  size;
    forget();
    size = amd_crl(0, now - 900, crl);
    keep(CMIF_ITEM_CRL, crl, size);
    size = amd_crl(0, now - 500, crl);
    amd_evidence();
    bring(crl, size);
    CHECK(accepted(judged(&amd_policy, now)));
    amd_evidence();
    CHECK(judged(&amd_policy, now) == CMIF_REJECTED && has_reason("crl-rollback"));
}

static void amd_crl_that_evidence_brings_does_not_hide_the_one_that_is_kept(void)
{
    uint8_t crl[4096];
    size_t  size;
    forget();
    size = amd_crl(2, now - 500, crl); /* the ASK */
    keep(CMIF_ITEM_CRL, crl, size);
    size = amd_crl(0, now - 900, crl);
    amd_evidence();
    bring(crl, size);
    CHECK(judged(&amd_policy, now) == CMIF_REJECTED && has_reason("vcek-revoked"));
}

int main(void)
{
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/collateral.db", folder);
    rig_open();
    amd_open();
    RUN(the_newer_tcb_info_that_is_kept_counts_also_when_the_pck_certificate_is_kept_there);
    RUN(older_tcb_info_that_evidence_brings_does_not_stand_for_the_newer_that_is_kept);
    RUN(older_qe_identity_that_evidence_brings_does_not_stand_for_the_newer_that_is_kept);
    RUN(newer_collateral_that_evidence_brings_is_used);
    RUN(collateral_of_a_later_time_is_not_taken_for_the_newest);
    RUN(a_crl_that_evidence_brings_does_not_hide_the_one_that_is_kept);
    RUN(what_was_believed_is_remembered_and_older_is_refused);
    RUN(older_sets_with_later_dates_are_refused);
    RUN(what_was_accepted_once_is_accepted_again);
    RUN(every_crl_that_was_used_is_remembered);
    RUN(evidence_that_was_not_accepted_is_not_remembered);
    RUN(an_early_set_does_not_bar_what_the_store_has);
    RUN(forged_collateral_of_the_store_does_not_stand_for_what_is_good);
    RUN(what_is_of_a_later_time_is_not_remembered);
    RUN(many_lists_are_no_malformed_evidence);
    RUN(roots_of_a_policy_are_without_memory_and_the_verdict_says_so);
    RUN(amd_crl_is_remembered_and_an_older_one_refused);
    RUN(amd_crl_of_the_store_is_held_against_the_memory_too);
    RUN(amd_crl_that_evidence_brings_does_not_hide_the_one_that_is_kept);
    forget();
    rmdir(folder);
    pki_free();
    rig_close();
    return check_report();
}
