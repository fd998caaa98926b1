#include "attest/snp.h"

#include "attest/snp_rig.h"

#include <openssl/pem.h>

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

/* What a strict policy is for a capture: its measurement and report data, VMPL 0 (1 for the AWS guest, which runs
 * there), and no CRL since none was captured. Everything else is the default. */
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

static void judge(const subject *s, cmif_verdict *v)
{
    cmif_attest(s->items, s->count, &s->policy, s->time, v);
}

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
            for (uint32_t n = object + 1; n < expected.json.nodes[object].next;
                 n          = expected.json.nodes[n + 1].next) { /* key, value, key, value */
                char field[32];
                snprintf(field, sizeof field, "%.31s", case_node(&expected, n));
                /* `debug` is the verdict's own; the other three are notes of the scratch verifier: here they are the
                 * error "reserved-bits" */
                if (strcmp(field, "debug") != 0 && strcmp(field, "sig_r_hi") != 0 &&
                    strcmp(field, "rest_nonzero") != 0 && strcmp(field, "tail_nonzero") != 0) {
                    CHECK(case_field_is(name, &expected, groups[g], field, &v, field));
                }
            }
        }
        CHECK(case_field_is(name, &expected, NULL, "product", &v, "product"));
        CHECK(case_field_is(name, &expected, NULL, "leaf_kind", &v, "leaf_kind"));
        CHECK(case_field_is(name, &expected, NULL, "leaf_not_before", &v, "leaf_not_before"));
        CHECK(case_field_is(name, &expected, NULL, "leaf_not_after", &v, "leaf_not_after"));
        CHECK(case_field_is(name, &expected, "cert_extensions", "2", &v, "cert_product"));
        CHECK(case_text(&expected, "cert_extensions", "4")[0] == '\0' ||
              case_field_is(name, &expected, "cert_extensions", "4", &v, "cert_hwid"));
        CHECK(case_has_error(&v, "report-signature") ==
              !strcmp(case_text(&expected, NULL, "signatures_and_chains_ok"), "false"));

        s.policy.loosened.no_crl = false; /* and strictly strict: nobody said that these were not revoked */
        judge(&s, &v);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, all[i].vmpl ? "revocation-vlek" : "revocation-vcek"));
        case_close(&expected);
        free(report.data);
        free(leaf.data);
        free(table.data);
    }
}

/* One appraisal with the PKI: everything in place and good, until a test changes something before world_judge. */
typedef struct world {
    leaf_plan          plan;
    unsigned           version;
    uint8_t            report[CMIF_SNP_REPORT_SIZE];
    bool               unsigned_report, no_ask, no_leaf, no_crl, wrong_kind;
    const authority   *root, *ask; /* NULL: of the product */
    X509_CRL          *crl;        /* NULL: a good one */
    cmif_attest_policy policy;
    cmif_measured      measured[2];
    uint8_t            report_data[64];
    EVP_PKEY          *signer;
    cmif_verdict       verdict;
} world;

static world *world_new(int product, unsigned version, bool vlek)
{
    world *w     = calloc(1, sizeof *w);
    w->plan      = plan_for(product);
    w->plan.vlek = vlek;
    w->version   = version;
    w->signer    = pki.leaf_key;
    report_make(&w->plan, version, w->report);
    cmif_attest_policy_init(&w->policy);
    w->measured[0] = (cmif_measured){.tee = CMIF_TEE_SNP, .name = "measurement", .size = 48};
    w->measured[1] = (cmif_measured){.tee = CMIF_TEE_SNP, .name = "host_data", .size = 32};
    memset(w->measured[0].value, 0x22, 48);
    memset(w->measured[1].value, 0x33, 32);
    memset(w->report_data, 0x11, 64);
    w->policy.tees             = 1u << CMIF_TEE_SNP;
    w->policy.measured         = w->measured;
    w->policy.measured_count   = 2;
    w->policy.report_data      = w->report_data;
    w->policy.report_data_size = 64;
    return w;
}

static cmif_item der_item(cmif_item_kind kind, uint8_t *der, int size)
{
    CHECK(size > 0);
    return (cmif_item){kind, der, (size_t) size};
}

/* Judges, and frees the world: its verdict is the answer. */
static cmif_verdict world_judge(world *w)
{
    cmif_item items[8] = {{CMIF_ITEM_SNP_REPORT, w->report, sizeof w->report}}, root;
    size_t    count    = 1;
    uint8_t  *der[4]   = {0};
    if (!w->unsigned_report) {
        report_sign(w->report, w->signer);
    }
    X509            *leaf = leaf_make(&w->plan);
    const authority *ask  = w->ask ? w->ask : w->plan.vlek ? &pki.asvk[w->plan.product] : &pki.ask[w->plan.product];
    const authority *ark  = w->root ? w->root : &pki.ark[w->plan.product];
    X509_CRL        *crl  = w->crl ? w->crl : crl_make(ark, ark->key, 0, now - 1000, now + 1000);
    if (!w->no_leaf) {
        items[count]        = der_item(CMIF_ITEM_CERTIFICATES, NULL, i2d_X509(leaf, &der[0]));
        items[count++].data = der[0];
    }
    if (!w->no_ask) {
        items[count]        = der_item(CMIF_ITEM_CERTIFICATES, NULL, i2d_X509(ask->certificate, &der[1]));
        items[count++].data = der[1];
    }
    if (!w->no_crl) {
        items[count]        = der_item(CMIF_ITEM_CRL, NULL, i2d_X509_CRL(crl, &der[2]));
        items[count++].data = der[2];
    }
    root                 = der_item(CMIF_ITEM_CERTIFICATES, NULL, i2d_X509(ark->certificate, &der[3]));
    root.data            = der[3];
    w->policy.roots      = &root;
    w->policy.root_count = 1;
    cmif_attest(items, count, &w->policy, now, &w->verdict);
    for (size_t i = 0; i < 4; i++) {
        OPENSSL_free(der[i]);
    }
    X509_free(leaf);
    X509_CRL_free(crl);
    cmif_verdict v = w->verdict;
    free(w);
    return v;
}

static void good_reports_of_every_version_and_product_are_accepted(void)
{
    for (int product = 0; product < PRODUCTS; product++) {
        for (unsigned version = 2; version <= 5; version++) {
            for (int vlek = 0; vlek < 2; vlek++) {
                cmif_verdict v = world_judge(world_new(product, version, vlek));
                CHECK(v.outcome == CMIF_ACCEPTED && v.unchecked_count == 0 && v.loosened_count <= 1 &&
                      v.crl_this_update == now - 1000);
                if (v.outcome != CMIF_ACCEPTED) {
                    case_tell(product_names[product], &v);
                }
            }
        }
    }
    world *w            = world_new(TURIN, 5, false);
    w->plan.nested_hwid = true;
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
    w            = world_new(MILAN, 3, false);
    w->plan.name = "Milan-B0";
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
    w            = world_new(GENOA, 3, false);
    w->plan.name = "Siena";
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
}

static void report_of_another_key_is_refused(void)
{
    world *w  = world_new(MILAN, 3, false);
    w->signer = pki.other_key;
    ONLY(w, "invalid-evidence", "report-signature");
    w                  = world_new(MILAN, 3, false); /* r and s zero */
    w->unsigned_report = true;
    ONLY(w, "invalid-evidence", "report-signature");
}

static void vcek_of_another_chip_is_refused(void)
{
    world *w = world_new(MILAN, 3, false);
    w->plan.hwid[63] ^= 1;
    ONLY(w, "invalid-evidence", "chip-id");
    w = world_new(TURIN, 5, false);
    w->plan.hwid[7] ^= 1;
    ONLY(w, "invalid-evidence", "chip-id");
    w                = world_new(TURIN, 5, false);
    w->report[0x1a8] = 1; /* beyond Turin's 8 bytes */
    ONLY(w, "invalid-evidence", "chip-id");
    w                 = world_new(MILAN, 3, false); /* Turin's size on Milan */
    w->plan.hwid_size = 8;
    ONLY(w, "invalid-evidence", "chip-id");
    w               = world_new(MILAN, 3, false);
    w->plan.no_hwid = true;
    ONLY(w, "invalid-evidence", "chip-id");
}

static void masked_chip_id_is_said_and_the_key_still_counts(void)
{
    world *w = world_new(MILAN, 3, false);
    memset(w->report + 0x1a0, 0, 64);
    cmif_verdict v = world_judge(w);
    CHECK(v.outcome == CMIF_ACCEPTED && cmif_verdict_field(&v, "chip_id_masked"));
    w = world_new(MILAN, 3, false);
    memset(w->report + 0x1a0, 0, 64);
    w->plan.no_hwid = true; /* a VCEK is always of a chip */
    ONLY(w, "invalid-evidence", "chip-id");
}

/* SVN by SVN, each of the eight, up and down: the leaf's SPLs must be REPORTED_TCB's. And it is REPORTED_TCB that they
 * are held against. */
static void vcek_of_another_tcb_is_refused(void)
{
    for (int product = 0; product < PRODUCTS; product++) {
        for (size_t i = 0; i < 8; i++) {
            for (int step = -1; step <= 1; step += 2) {
                world *w = world_new(product, 3, false);
                if (w->report[0x180 + i] || step > 0) {
                    w->report[0x180 + i] = (uint8_t) (w->report[0x180 + i] + step);
                    ONLY(w, "invalid-evidence", "reported-tcb");
                } else {
                    free(w);
                }
            }
            world *w            = world_new(product, 3, false);
            w->report[0x38 + i] = 0xff; /* CURRENT_TCB may be ahead */
            CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
        }
        world *w         = world_new(product, 3, false);
        w->plan.skip_arc = 3;
        ONLY(w, "invalid-evidence", "reported-tcb");
    }
}

static void certificates_of_another_product_are_refused(void)
{
    world *w        = world_new(MILAN, 3, false); /* Genoa's whole chain for a Milan report */
    w->plan.product = GENOA;
    ONLY(w, "invalid-evidence", "product");
    w            = world_new(MILAN, 3, false); /* and the name in the leaf */
    w->plan.name = "Genoa";
    ONLY(w, "invalid-evidence", "product");
    w            = world_new(MILAN, 3, false);
    w->plan.name = "Milano";
    ONLY(w, "invalid-evidence", "product");
    w            = world_new(MILAN, 3, false);
    w->plan.name = "Siena";
    ONLY(w, "invalid-evidence", "product");
    w              = world_new(MILAN, 3, false); /* VCEK issued by the ASVK of its product */
    w->plan.issuer = &pki.asvk[MILAN];
    w->ask         = &pki.asvk[MILAN];
    ONLY(w, "invalid-evidence", "product");
    w              = world_new(MILAN, 3, true);
    w->plan.issuer = w->ask = &pki.ask[MILAN];
    ONLY(w, "invalid-evidence", "product");
    static const uint8_t unknown[][2] = {{0x19, 0x20}, {0x19, 0x9f}, {0x19, 0xb0}, {0x1a, 0x20},
                                         {0x1a, 0x50}, {0x17, 0x01}, {0, 0}};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        w                = world_new(MILAN, 3, false);
        w->report[0x188] = unknown[i][0];
        w->report[0x189] = unknown[i][1];
        cmif_verdict v   = world_judge(w);
        CHECK(v.outcome == CMIF_UNSUPPORTED && case_has_error(&v, "product"));
    }
}

static void vlek_where_vcek_is_said_and_back_are_refused(void)
{
    world *w     = world_new(MILAN, 3, false);
    w->plan.vlek = true;
    ONLY(w, "invalid-evidence", "leaf-kind");
    w            = world_new(MILAN, 3, true);
    w->plan.vlek = false;
    memcpy(w->report + 0x1a0, w->plan.hwid, 64);
    ONLY(w, "invalid-evidence", "leaf-kind");
}

static void signing_key_none_or_unknown_is_refused(void)
{
    for (unsigned key = 2; key < 8; key++) {
        world *w = world_new(MILAN, 3, false);
        put(w->report, 0x48, key << 2, 4);
        ONLY(w, "invalid-evidence", key == 7 ? "signing-key-none" : "signing-key-unknown");
    }
}

static void debug_guest_is_refused_unless_said_aloud(void)
{
    world *w = world_new(MILAN, 3, false);
    put(w->report, 8, 0xb001f, 8);
    ONLY(w, "debug", NULL);
    w = world_new(MILAN, 3, false);
    put(w->report, 8, 0xb001f, 8);
    w->policy.loosened.debug = true;
    cmif_verdict v           = world_judge(w);
    CHECK(v.outcome == CMIF_ACCEPTED && v.debug && !strcmp(v.loosened[0], "debug"));
}

static void policy_bits_are_required_and_forbidden(void)
{
    world *w               = world_new(MILAN, 3, false);
    w->policy.snp_required = 1 << 20; /* single socket */
    ONLY(w, "policy-bits", NULL);
    w = world_new(MILAN, 3, false);
    put(w->report, 8, 0x3001f | 1 << 18, 8); /* MIGRATE_MA: by default */
    ONLY(w, "policy-bits", NULL);
    w                       = world_new(MILAN, 3, false);
    w->policy.snp_forbidden = 1 << 16; /* SMT */
    ONLY(w, "policy-bits", NULL);
    w                      = world_new(MILAN, 3, false);
    w->policy.snp_required = 1 << 16;
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
}

static void reserved_bits_are_refused(void)
{
    static const struct {
        size_t  at;
        uint8_t value;
    } bits[] = {{8 + 3, 0x04} /* POLICY 26 */,
                {0x41, 1} /* PLATFORM_INFO 8 */,
                {0x48, 0x20} /* FLAGS 5 */,
                {0x4c, 1},
                {0x4f, 1},
                {0x18b, 1},
                {0x19f, 1},
                {0x1eb, 1},
                {0x1ef, 1},
                {0x1f8, 1} /* MIT vectors are of version 5 */,
                {0x207, 1},
                {0x208, 1},
                {0x29f, 1}};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        world *w = world_new(MILAN, 3, false);
        w->report[bits[i].at] |= bits[i].value;
        ONLY(w, "invalid-evidence", "reserved-bits");
    }
    world *w         = world_new(MILAN, 2, false); /* version 2 has no CPUID */
    w->report[0x188] = 0x19;
    ONLY(w, "invalid-evidence", "reserved-bits");
    w = world_new(MILAN, 3, false);
    put(w->report, 8, 0x1001f, 8);
    ONLY(w, "invalid-evidence", "policy-bit-17");
    static const size_t unsigned_bytes[] = {0x2a0 + 48, 0x2a0 + 71, 0x2a0 + 72 + 48, 0x2a0 + 143, 0x2a0 + 144, 1183};
    for (size_t i = 0; i < sizeof unsigned_bytes / sizeof *unsigned_bytes; i++) {
        w = world_new(MILAN, 3, false);
        report_sign(w->report, pki.leaf_key);
        w->report[unsigned_bytes[i]] = 1;
        w->unsigned_report           = true; /* as it is now */
        ONLY(w, "invalid-evidence", "reserved-bits");
    }
}

static void vmpl_above_the_policy_is_refused(void)
{
    for (unsigned vmpl = 1; vmpl < 4; vmpl++) {
        world *w = world_new(MILAN, 3, false);
        put(w->report, 0x30, vmpl, 4);
        w->policy.snp_vmpl_max = vmpl - 1;
        ONLY(w, "vmpl", NULL);
    }
}

/* Lower in one component and higher in the next is lower: it would be higher as an integer. And it is COMMITTED_TCB
 * that counts. */
static void minimum_tcb_is_by_component(void)
{
    for (int product = 0; product < PRODUCTS; product++) {
        for (size_t i = 0; i < 8; i++) {
            world *w = world_new(product, 3, false);
            for (size_t k = 0; k < 8; k++) {
                w->report[0x1e0 + k] = k == i ? 4 : 200;
            }
            memset(w->policy.snp_minimum_tcb, 5, 8);
            ONLY(w, "tcb-below-minimum", NULL);
        }
        world *w = world_new(product, 3, false);
        memset(w->report + 0x1e0, 5, 8);
        memset(w->policy.snp_minimum_tcb, 5, 8);
        CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
    }
}

static void mitigations_and_alias_check_can_be_required(void)
{
    world *w                   = world_new(TURIN, 5, false);
    w->policy.snp_mit_required = 0x40;
    ONLY(w, "mit-vector", NULL);
    w                          = world_new(TURIN, 5, false);
    w->policy.snp_mit_required = 0x3f;
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
    w                          = world_new(MILAN, 3, false); /* an old report has no vector: nothing is mitigated */
    w->policy.snp_mit_required = 1;
    ONLY(w, "mit-vector", NULL);
    w                               = world_new(MILAN, 3, false);
    w->policy.snp_platform_required = 1 << 5;
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
    w                               = world_new(MILAN, 3, false);
    w->policy.snp_platform_required = 1 << 5;
    put(w->report, 0x40, 0x05, 8);
    ONLY(w, "alias-check", NULL);
    w                               = world_new(MILAN, 3, false);
    w->policy.snp_platform_required = 1 << 3;
    ONLY(w, "platform-bits", NULL);
}

static void measurement_host_data_and_report_data_must_match(void)
{
    world *w = world_new(MILAN, 3, false);
    w->report[0x90] ^= 1;
    ONLY(w, "measurement-measurement", NULL);
    w = world_new(MILAN, 3, false);
    w->report[0xc0] ^= 1;
    ONLY(w, "measurement-host_data", NULL);
    w = world_new(MILAN, 3, false);
    w->report[0x8f] ^= 1;
    ONLY(w, "report-data", NULL);
    w                          = world_new(MILAN, 3, false);
    w->policy.report_data_size = 32; /* zeros must follow, and do not */
    ONLY(w, "report-data", NULL);
    w                     = world_new(MILAN, 3, false);
    w->policy.report_data = NULL;
    ONLY(w, "report-data", NULL);
    w                        = world_new(MILAN, 3, false);
    w->policy.measured_count = 0;
    ONLY(w, "no-measurement-policy", NULL);
    w              = world_new(MILAN, 3, false);
    w->policy.tees = 1u << CMIF_TEE_TDX;
    ONLY(w, "technology-not-accepted", NULL);
}

static void unknown_versions_and_algorithms_are_unsupported(void)
{
    static const unsigned versions[] = {0, 1, 6, 7, 0x100, 0x10000003};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        world *w = world_new(MILAN, 3, false);
        put(w->report, 0, versions[i], 4);
        CHECK(world_judge(w).outcome == CMIF_UNSUPPORTED);
    }
    world *w = world_new(MILAN, 3, false);
    put(w->report, 0x34, 2, 4);
    CHECK(world_judge(w).outcome == CMIF_UNSUPPORTED);
}

static void chains_that_do_not_hold_are_refused(void)
{
    world *w              = world_new(MILAN, 3, false);
    w->plan.bad_signature = true;
    cmif_verdict v        = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "vcek-untrusted"));
    w                    = world_new(MILAN, 3, false); /* a root with the same name and another key */
    authority look_alike = authority_new("ARK", "Milan", 1, NULL, NULL);
    w->root              = &look_alike;
    v                    = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "vcek-untrusted"));
    X509_free(look_alike.certificate);
    EVP_PKEY_free(look_alike.key);
    w         = world_new(MILAN, 3, false);
    w->no_ask = true; /* AMD's own ASK is built in, and is not of this PKI */
    v         = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "vcek-untrusted"));
    w          = world_new(MILAN, 3, false);
    w->no_leaf = true;
    ONLY(w, "no-collateral", NULL);
    w          = world_new(MILAN, 3, false);
    w->plan.to = now - 1;
    ONLY(w, "vcek-expired", NULL);
    w            = world_new(MILAN, 3, false);
    w->plan.from = now + 1;
    ONLY(w, "vcek-not-yet-valid", NULL);
    w                  = world_new(MILAN, 3, false); /* one of ours and signed by it, but no P-384 */
    w->plan.key        = pki.ark[GENOA].key;
    w->unsigned_report = true;
    v                  = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "report-signature"));
}

static void crl_is_demanded_and_believed(void)
{
    const authority *ark = &pki.ark[MILAN];
    world           *w   = world_new(MILAN, 3, false);
    w->no_crl            = true;
    ONLY(w, "revocation-vcek", NULL);
    w                         = world_new(MILAN, 3, false);
    w->no_crl                 = true;
    w->policy.loosened.no_crl = true;
    cmif_verdict v            = world_judge(w);
    CHECK(v.outcome == CMIF_ACCEPTED && v.unchecked_count == 1 && !strcmp(v.unchecked[0], "revocation-vcek"));
    w      = world_new(MILAN, 3, false);
    w->crl = crl_make(ark, ark->key, 2, now - 1000, now + 1000); /* the ASK */
    ONLY(w, "vcek-revoked", NULL);
    w                         = world_new(MILAN, 3, false);
    w->crl                    = crl_make(ark, ark->key, 2, now - 1000, now + 1000);
    w->policy.loosened.no_crl = true; /* nothing makes revoked good */
    ONLY(w, "vcek-revoked", NULL);
    w      = world_new(MILAN, 3, true);
    w->crl = crl_make(ark, ark->key, 3, now - 1000, now + 1000); /* the ASVK */
    ONLY(w, "vlek-revoked", NULL);
    w      = world_new(MILAN, 3, false);
    w->crl = crl_make(ark, ark->key, 3, now - 1000, now + 1000);
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
    w      = world_new(MILAN, 3, false);
    w->crl = crl_make(ark, ark->key, 0, now - 1000, now - 1);
    ONLY(w, "vcek-crl-expired", NULL);
    w      = world_new(MILAN, 3, false);
    w->crl = crl_make(ark, ark->key, 0, now + 1, now + 1000);
    ONLY(w, "vcek-crl-not-yet-valid", NULL);
    w      = world_new(MILAN, 3, false);
    w->crl = crl_make(ark, pki.ark[GENOA].key, 0, now - 1000, now + 1000);
    ONLY(w, "vcek-crl-invalid", NULL);
    w      = world_new(MILAN, 3, false); /* a good list, of another product */
    w->crl = crl_make(&pki.ark[GENOA], pki.ark[GENOA].key, 0, now - 1000, now + 1000);
    ONLY(w, "revocation-vcek", NULL);
}

static void crl_older_than_one_seen_is_refused(void)
{
    world        *w    = world_new(MILAN, 3, false);
    cmif_seen_crl seen = {.update = now - 999}; /* the good one is of now - 1000 */
    unsigned      size = 0;
    CHECK(X509_pubkey_digest(pki.ark[MILAN].certificate, EVP_sha256(), seen.issuer, &size) == 1);
    w->policy.seen_crls      = &seen;
    w->policy.seen_crl_count = 1;
    ONLY(w, "crl-rollback", NULL);
    w                        = world_new(MILAN, 3, false);
    w->policy.seen_crls      = &seen;
    w->policy.seen_crl_count = 1;
    seen.update              = now - 1000;
    cmif_verdict v           = world_judge(w);
    CHECK(v.outcome == CMIF_ACCEPTED && !strcmp(cmif_verdict_field(&v, "crl_issuer"), "ARK-Milan"));
}

static void every_reason_is_listed_not_the_first_alone(void)
{
    world *w = world_new(MILAN, 3, false);
    put(w->report, 8, 0xb001f, 8);
    put(w->report, 0x30, 2, 4);
    w->report[0x90] ^= 1;
    w->report[0x50] ^= 1;
    w->plan.to                         = now - 1;
    w->plan.tcb[0]                     = 9;
    w->signer                          = pki.other_key;
    cmif_verdict             v         = world_judge(w);
    static const char *const reasons[] = {"debug",       "vmpl",         "measurement-measurement",
                                          "report-data", "vcek-expired", "invalid-evidence"};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        CHECK(case_has_reason(&v, reasons[i]));
    }
    CHECK(v.outcome == CMIF_REJECTED && v.reason_count == 6 && case_has_error(&v, "reported-tcb") &&
          case_has_error(&v, "report-signature"));
}

/* ---- the host's table ---- */
static void table_is_bounds_checked_and_a_hint_only(void)
{
    case_file report = case_read("snp/genoa-v3-tsm-outblob-auxblob", "report.bin"),
              aux    = case_read("snp/genoa-v3-tsm-outblob-auxblob", "auxblob.bin");
    subject s = {.items = {{CMIF_ITEM_SNP_REPORT, report.data, report.size}, {CMIF_ITEM_SNP_TABLE, aux.data, aux.size}},
                 .count = 2,
                 .time  = 1747699200};
    cmif_verdict         v;
    static const uint8_t zeros_only[24] = {0};
    subject_policy(&s, report.data);
    judge(&s, &v);
    CHECK(v.outcome == CMIF_ACCEPTED);
    for (size_t entry = 0; entry < 3; entry++) {
        for (size_t k = 0; k < 8; k++) { /* offset and length, each of their bytes at its most */
            uint8_t was                   = aux.data[24 * entry + 16 + k];
            aux.data[24 * entry + 16 + k] = 0xff;
            judge(&s, &v);
            CHECK(v.outcome == CMIF_MALFORMED || (k == 0 || k == 4)); /* the lowest byte may stay inside */
            CHECK(v.outcome != CMIF_ACCEPTED || k == 0 || k == 4);
            aux.data[24 * entry + 16 + k] = was;
        }
    }
    for (size_t size = 1; size < 4 * 24; size++) { /* the entry that ends it is cut off */
        s.items[1].size = size;
        judge(&s, &v);
        CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "certificate-table"));
    }
    s.items[1] = (cmif_item){CMIF_ITEM_SNP_TABLE, zeros_only, sizeof zeros_only}; /* the host had none */
    judge(&s, &v);
    CHECK(only(&v, "no-collateral", NULL));
    free(report.data);
    free(aux.data);
}

/* A chain that is good in itself, from an ARK in the table: it proves nothing. */
static void ark_of_the_table_is_no_root(void)
{
    leaf_plan            plan = plan_for(MILAN);
    X509                *leaf = leaf_make(&plan);
    uint8_t              report[CMIF_SNP_REPORT_SIZE], table[8192] = {0};
    X509                *chain[3]     = {leaf, pki.ask[MILAN].certificate, pki.ark[MILAN].certificate};
    static const uint8_t guids[3][16] = {
        {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd},
        {0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82},
        {0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}};
    size_t at = 4 * 24;
    for (size_t i = 0; i < 3; i++) {
        uint8_t *der  = NULL;
        int      size = i2d_X509(chain[i], &der);
        memcpy(table + 24 * i, guids[i], 16);
        put(table, 24 * i + 16, at, 4);
        put(table, 24 * i + 20, (uint64_t) size, 4);
        memcpy(table + at, der, (size_t) size);
        at += (size_t) size;
        OPENSSL_free(der);
    }
    report_make(&plan, 3, report);
    report_sign(report, pki.leaf_key);
    subject      s = {.items = {{CMIF_ITEM_SNP_REPORT, report, sizeof report}, {CMIF_ITEM_SNP_TABLE, table, at}},
                      .count = 2,
                      .time  = now};
    cmif_verdict v;
    subject_policy(&s, report);
    judge(&s, &v);
    CHECK(only(&v, "invalid-evidence", "vcek-untrusted"));
    uint8_t  *der       = NULL;
    int       size      = i2d_X509(pki.ark[MILAN].certificate, &der);
    cmif_item root      = {CMIF_ITEM_CERTIFICATES, der, (size_t) size};
    s.policy.roots      = &root; /* the same, where the caller says so */
    s.policy.root_count = 1;
    judge(&s, &v);
    CHECK(v.outcome == CMIF_ACCEPTED);
    s.policy.root_tees = &(const cmif_tee){CMIF_TEE_SNP};
    judge(&s, &v);
    CHECK(v.outcome == CMIF_ACCEPTED);
    s.policy.root_tees = &(const cmif_tee){CMIF_TEE_TDX}; /* of another technology: AMD's own count here */
    judge(&s, &v);
    CHECK(only(&v, "invalid-evidence", "vcek-untrusted"));
    OPENSSL_free(der);
    X509_free(leaf);
}

/* ---- every byte ---- */
static void certificate_der(const uint8_t *pem, size_t size, uint8_t **der, int *der_size)
{
    BIO  *bio = BIO_new_mem_buf(pem, (int) size);
    X509 *c   = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    *der      = NULL;
    *der_size = c ? i2d_X509(c, der) : 0;
    X509_free(c);
    BIO_free(bio);
}

/* Every truncation of report and certificate, and every byte of them with its lowest bit, its highest, and all turned.
 * What is accepted all the same: spellings of the same PEM (line ends, unused bits), which decode to the very same
 * certificate. */
static void no_flip_and_no_truncation_is_accepted(void)
{
    const char   *name   = "snp/milan-v3-vcek";
    case_file     file[] = {case_read(name, "report.bin"), case_read(name, "vcek.pem")};
    case_expected expected;
    subject       s = {.items = {{CMIF_ITEM_SNP_REPORT, file[0].data, file[0].size},
                                 {CMIF_ITEM_CERTIFICATES, file[1].data, file[1].size}},
                       .count = 2};
    cmif_verdict  v;
    uint8_t      *der, *other;
    int           der_size, other_size;
    unsigned      tried = 0, refused = 0, spelling = 0;
    CHECK(case_open(name, &expected));
    subject_policy(&s, file[0].data);
    s.time = case_time(&expected);
    certificate_der(file[1].data, file[1].size, &der, &der_size);
    judge(&s, &v);
    CHECK(v.outcome == CMIF_ACCEPTED && der_size > 0);
    for (size_t f = 0; f < 2; f++) {
        static const uint8_t flips[] = {1, 0x80, 0xff};
        for (size_t i = 0; i < file[f].size; i += full ? 1 : 13) {
            for (size_t k = 0; k < sizeof flips; k++) {
                file[f].data[i] ^= flips[k];
                judge(&s, &v);
                tried++;
                if (v.outcome == CMIF_ACCEPTED) {
                    certificate_der(file[1].data, file[1].size, &other, &other_size);
                    CHECK(f == 1 && other_size == der_size && !memcmp(der, other, (size_t) der_size));
                    OPENSSL_free(other);
                    spelling++;
                } else {
                    refused++;
                }
                file[f].data[i] ^= flips[k];
            }
        }
        for (size_t size = 0; size < file[f].size; size += full ? 1 : 13) {
            s.items[f].size = size;
            judge(&s, &v);
            tried++;
            if (v.outcome == CMIF_ACCEPTED) {
                certificate_der(file[1].data, size, &other, &other_size);
                CHECK(f == 1 && other_size == der_size && !memcmp(der, other, (size_t) der_size));
                OPENSSL_free(other);
                spelling++;
            } else {
                refused++;
            }
        }
        s.items[f].size = file[f].size;
    }
    printf("    %u flips and truncations: %u refused, %u another spelling of the same PEM\n", tried, refused, spelling);
    CHECK(tried == refused + spelling && refused > 500);
    OPENSSL_free(der);
    case_close(&expected);
    free(file[0].data);
    free(file[1].data);
}

/* attest_snp_fuzz.c has the form. */
static void write_seeds(const char *folder)
{
    static const char *const names[] = {"snp/milan-v2-vcek", "snp/milan-v3-vlek-aws", "snp/turin-v5-vcek",
                                        "snp/genoa-v3-tsm-outblob-auxblob"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        static uint8_t seed[1 << 15];
        cmif_writer    w      = cmif_writer_over(seed, sizeof seed);
        case_file      report = case_read(names[i], "report.bin"), table = case_read(names[i], "auxblob.bin");
        cmif_write_u8(&w, CMIF_SNP_REPORT_SIZE >> 8);
        cmif_write_u8(&w, CMIF_SNP_REPORT_SIZE & 0xff);
        cmif_write_bytes(&w, report.data, report.size);
        cmif_write_bytes(&w, table.data, table.size);
        CHECK(!w.failed);
        case_seed(folder, names[i], seed, w.at);
        free(report.data);
        free(table.data);
    }
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "seeds")) {
        write_seeds(argv[2]);
        return check_failed_here;
    }
    full = argc > 1 && !strcmp(argv[1], "full");
    pki_make();
    RUN(good_reports_of_every_version_and_product_are_accepted);
    RUN(report_of_another_key_is_refused);
    RUN(vcek_of_another_chip_is_refused);
    RUN(masked_chip_id_is_said_and_the_key_still_counts);
    RUN(vcek_of_another_tcb_is_refused);
    RUN(certificates_of_another_product_are_refused);
    RUN(vlek_where_vcek_is_said_and_back_are_refused);
    RUN(signing_key_none_or_unknown_is_refused);
    RUN(debug_guest_is_refused_unless_said_aloud);
    RUN(policy_bits_are_required_and_forbidden);
    RUN(reserved_bits_are_refused);
    RUN(vmpl_above_the_policy_is_refused);
    RUN(minimum_tcb_is_by_component);
    RUN(mitigations_and_alias_check_can_be_required);
    RUN(measurement_host_data_and_report_data_must_match);
    RUN(unknown_versions_and_algorithms_are_unsupported);
    RUN(chains_that_do_not_hold_are_refused);
    RUN(crl_is_demanded_and_believed);
    RUN(crl_older_than_one_seen_is_refused);
    RUN(every_reason_is_listed_not_the_first_alone);
    RUN(ark_of_the_table_is_no_root);
    if (cases_absent()) {
        pki_free();
        printf("the captures (shared/attestation) are not beside the repository: their tests were left out\n");
        return check_report();
    }
    RUN(captures_are_judged_as_expected);
    RUN(table_is_bounds_checked_and_a_hint_only);
    RUN(no_flip_and_no_truncation_is_accepted);
    pki_free();
    return check_report();
}
