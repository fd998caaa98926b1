/* The simulator's evidence is made, accepted only by who asked for it aloud, and every verdict on it says INSECURE. */
#include "attest/attest.h"
#include "base/check.h"
#include "evidence/evidence.h"

#include <stdlib.h>
#include <string.h>

/* a bundle carries what the verifier knows, by the same numbers */
_Static_assert((int) CMIF_EVIDENCE_QUOTE == CMIF_ITEM_QUOTE && (int) CMIF_EVIDENCE_SNP_REPORT == CMIF_ITEM_SNP_REPORT,
               "kinds");
_Static_assert((int) CMIF_EVIDENCE_SNP_TABLE == CMIF_ITEM_SNP_TABLE &&
                   (int) CMIF_EVIDENCE_TPM_ATTEST == CMIF_ITEM_TPM_ATTEST,
               "kinds");
_Static_assert((int) CMIF_EVIDENCE_TPM_SIGNATURE == CMIF_ITEM_TPM_SIGNATURE &&
                   (int) CMIF_EVIDENCE_TPM_PCRS == CMIF_ITEM_TPM_PCRS,
               "kinds");
_Static_assert((int) CMIF_EVIDENCE_TPM_AK == CMIF_ITEM_TPM_AK && (int) CMIF_EVIDENCE_SIM == CMIF_ITEM_SIM, "kinds");
_Static_assert((int) CMIF_EVIDENCE_CERTIFICATES == CMIF_ITEM_CERTIFICATES &&
                   (int) CMIF_EVIDENCE_KIND_MAX == CMIF_ITEM_TPM_KEY,
               "kinds");

static uint8_t            nonce[64] = {1, 2, 3};
static uint8_t            good[256];
static size_t             good_size;
static cmif_measured      measured = {.tee = CMIF_TEE_SIM, .name = "measurement", .size = 32, .value = {0xab}};
static cmif_attest_policy policy;
static cmif_verdict       v;
enum { SIGNED = 8 + 4 + 32 + 64 };

static cmif_outcome verdict_on(const uint8_t *data, size_t size, const cmif_attest_policy *p)
{
    const cmif_item item = {.kind = CMIF_ITEM_SIM, .data = data, .size = size};
    cmif_attest(&item, 1, p, 1750000000, &v);
    return v.outcome;
}

static int has(const char *list, size_t word, size_t count, const char *text)
{
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        found = found || !strcmp(list + i * word, text);
    }
    return found;
}

static int shouts(void)
{
    return v.tee == CMIF_TEE_SIM && !strncmp(v.sentence.text, "INSECURE", 8) &&
           has(v.loosened[0], CMIF_LOOSENED_SIZE, v.loosened_count, "INSECURE");
}

static int refused_for(const char *reason)
{
    return v.outcome == CMIF_REJECTED && shouts() &&
           (has(v.reasons[0], CMIF_REASON_SIZE, v.reason_count, reason) ||
            has(v.errors[0], CMIF_REASON_SIZE, v.error_count, reason));
}

static void what_is_made_is_accepted_and_shouts(void)
{
    cmif_attest_policy_init(&policy);
    policy.tees               = 1u << CMIF_TEE_SIM;
    policy.measured           = &measured;
    policy.measured_count     = 1;
    policy.report_data        = nonce;
    policy.report_data_size   = sizeof nonce;
    policy.loosened.simulator = true;
    CHECK(verdict_on(good, good_size, &policy) == CMIF_ACCEPTED);
    CHECK(shouts());
}

static void without_the_policys_two_words_it_is_refused(void)
{
    cmif_attest_policy p = policy;
    p.loosened.simulator = false;
    verdict_on(good, good_size, &p);
    CHECK(refused_for("simulator"));
    p      = policy;
    p.tees = 1u << CMIF_TEE_TDX;
    verdict_on(good, good_size, &p);
    CHECK(refused_for("technology-not-accepted"));
}

static void other_report_data_and_another_measurement_are_refused(void)
{
    static const uint8_t other[64] = {9};
    static cmif_measured m;
    cmif_attest_policy   p = policy;
    p.report_data          = other;
    verdict_on(good, good_size, &p);
    CHECK(refused_for("report-data"));
    p          = policy;
    m          = measured;
    m.value[0] = 0;
    p.measured = &m;
    verdict_on(good, good_size, &p);
    CHECK(refused_for("measurement-measurement"));
}

static void no_changed_byte_and_no_other_length_is_accepted(void)
{
    uint8_t bad[sizeof good];
    for (size_t i = 0; i < good_size; i++) {
        memcpy(bad, good, good_size);
        bad[i] ^= 1;
        cmif_outcome o = verdict_on(bad, good_size, &policy);
        CHECK(o != CMIF_ACCEPTED && shouts());
        CHECK((o == CMIF_MALFORMED) == (i < 8) && (o == CMIF_UNSUPPORTED) == (i >= 8 && i < 12));
        CHECK(i < 12 || has(v.errors[0], CMIF_REASON_SIZE, v.error_count, "sim-signature"));
    }
    memcpy(bad, good, good_size);
    bad[good_size] = 0;
    for (size_t size = 1; size <= good_size + 1; size++) {
        CHECK(size == good_size || (verdict_on(bad, size, &policy) == CMIF_MALFORMED && shouts()));
    }
    memcpy(bad, good, good_size);
    memset(bad + SIGNED, 0, 64);
    CHECK(verdict_on(bad, good_size, &policy) == CMIF_REJECTED);
}

static void it_never_comes_with_other_evidence(void)
{
    static const cmif_item_kind kinds[] = {CMIF_ITEM_QUOTE, CMIF_ITEM_SNP_REPORT, CMIF_ITEM_RATLS, CMIF_ITEM_TPM_ATTEST,
                                           CMIF_ITEM_SIM};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const cmif_item items[2] = {{.kind = CMIF_ITEM_SIM, .data = good, .size = good_size},
                                    {.kind = kinds[i], .data = good, .size = good_size}};
        cmif_attest(items, 2, &policy, 1750000000, &v);
        CHECK(v.outcome == CMIF_MALFORMED);
        cmif_attest(items + 1, i < 4, &policy, 1750000000, &v); /* its bytes under another kind */
        CHECK(v.outcome != CMIF_ACCEPTED && v.tee != CMIF_TEE_SIM);
    }
}

static void the_maker_wants_its_own_flag(void)
{
    cmif_maker_options o = {.kind = CMIF_MAKER_SIM};
    cmif_maker        *m = NULL;
    CHECK(cmif_maker_open(&o, &m, NULL) != CMIF_OK && !m);
    o.insecure = 1;
    o.identity = "ab";
    CHECK(cmif_maker_open(&o, &m, NULL) != CMIF_OK && !m);
}

#ifdef CMIF_SIMULATOR
static void make_good(void)
{
    cmif_maker_options o     = {.kind     = CMIF_MAKER_SIM,
                                .identity = "ab00000000000000000000000000000000000000000000000000000000000000",
                                .insecure = 1};
    cmif_maker        *m     = NULL;
    cmif_evidence      e     = {0};
    cmif_evidence_item item  = {0};
    size_t             count = 1;
    CHECK(cmif_maker_open(&o, &m, NULL) == CMIF_OK);
    if (m && cmif_maker_make(m, nonce, &e, NULL) == CMIF_OK &&
        cmif_evidence_read(e.bytes, e.size, &item, &count, NULL) == CMIF_OK && item.size < sizeof good) {
        memcpy(good, item.data, item.size);
        good_size = item.size;
    }
    CHECK(good_size == SIGNED + 64 && item.kind == CMIF_ITEM_SIM);
    cmif_evidence_free(&e);
    cmif_maker_free(m);
}
#else
static void a_build_without_it_neither_makes_nor_reads_it(void)
{
    cmif_maker_options o        = {.kind = CMIF_MAKER_SIM, .insecure = 1};
    cmif_maker        *m        = NULL;
    static uint8_t     any[172] = "CMIFSIM1\1";
    CHECK(cmif_maker_open(&o, &m, NULL) == CMIF_E_UNSUPPORTED && !m);
    cmif_attest_policy_init(&policy);
    policy.tees               = 1u << CMIF_TEE_SIM;
    policy.loosened.simulator = policy.loosened.any_measurement = policy.loosened.no_report_data = true;
    CHECK(verdict_on(any, sizeof any, &policy) == CMIF_UNSUPPORTED);
}
#endif

int main(void)
{
#ifdef CMIF_SIMULATOR
    RUN(make_good);
    RUN(what_is_made_is_accepted_and_shouts);
    RUN(without_the_policys_two_words_it_is_refused);
    RUN(other_report_data_and_another_measurement_are_refused);
    RUN(no_changed_byte_and_no_other_length_is_accepted);
    RUN(it_never_comes_with_other_evidence);
#else
    (void) what_is_made_is_accepted_and_shouts, (void) without_the_policys_two_words_it_is_refused;
    (void) other_report_data_and_another_measurement_are_refused,
        (void) no_changed_byte_and_no_other_length_is_accepted;
    (void) it_never_comes_with_other_evidence, (void) measured, (void) good_size;
    RUN(a_build_without_it_neither_makes_nor_reads_it);
#endif
    RUN(the_maker_wants_its_own_flag);
    return check_report();
}
