#include "attest/tpm.h"

#include "attest/cases.h"
#include "attest/hcl.h"
#include "attest/x509.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

static bool full; /* argument "full": every byte, not a sample */

/* ---- the captures ---- */
enum { FILES = 16 };
typedef struct evidence { /* a capture, with the policy that is right for it */
    case_file          file[FILES];
    cmif_item          items[FILES];
    size_t             count, file_count;
    cmif_measured      measured[CMIF_PCRS + 1];
    uint8_t            nonce[64], pin[32], name[34];
    cmif_attest_policy policy;
    case_expected      expected;
    int64_t            time;
} evidence;

static case_file *load(evidence *e, const char *folder, const char *name)
{
    case_file *file = &e->file[e->file_count++];
    *file           = case_read(folder, name);
    CHECK(file->data != NULL);
    return file;
}

static void item(evidence *e, const char *folder, const char *name, cmif_item_kind kind)
{
    case_file *file      = load(e, folder, name);
    e->items[e->count++] = (cmif_item){kind, file->data, file->size};
}

static void pin_key(evidence *e, const char *folder)
{
    case_file *file = load(e, folder, "ak.pem");
    BIO       *bio  = BIO_new_mem_buf(file->data, (int) file->size);
    EVP_PKEY  *key  = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    uint8_t   *der  = NULL;
    int        size = i2d_PUBKEY(key, &der);
    CHECK(size > 0 && EVP_Digest(der, (size_t) size, e->pin, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    BIO_free(bio);
    e->policy.ak_pins            = e->pin;
    e->policy.ak_pin_count       = 1;
    e->policy.loosened.ak_pinned = true;
}

/* Every PCR of the capture must have the value that it had. */
static void measure_pcrs(evidence *e, const char *folder)
{
    case_file *file = load(e, folder, "pcrs.json");
    cmif_json  json = {0};
    cmif_err   err;
    CHECK(cmif_json_parse(file->data, file->size, &json, &err) == CMIF_OK);
    for (unsigned i = 0; i < CMIF_PCRS; i++) {
        cmif_measured *m = &e->measured[e->policy.measured_count];
        char           key[8];
        snprintf(key, sizeof key, "%u", i);
        *m = (cmif_measured){.tee = CMIF_TEE_TPM, .size = 32};
        snprintf(m->name, sizeof m->name, "pcr%u", i);
        e->policy.measured_count += cmif_json_hex(&json, cmif_json_get(&json, cmif_json_get(&json, 0, "000b"), key), m->value, 32);
    }
    CHECK(e->policy.measured_count > 0);
    cmif_json_wipe(&json);
}

static void measure_tee(evidence *e, cmif_tee tee, const char *group, const char *name)
{
    cmif_measured *m = &e->measured[e->policy.measured_count++];
    *m               = (cmif_measured){.tee = tee};
    snprintf(m->name, sizeof m->name, "%s", name);
    m->size = case_bytes(&e->expected, group, name, m->value);
    CHECK(m->size == 48);
}

/* What a strict policy is for a TPM capture: its nonce, and every quoted PCR with its value. What proves the AK differs, as the note of each says:
 *   swtpm-rsa-ak            credential activation, which its TPM did: ak.name is known to be activated
 *   swtpm-ecc-ak, -unrestricted-key, generic-tpm-trustee, parsec-ecdsa-quote   nothing: the AK is pinned, which the policy must loosen
 *   azure-snp-milan-vtpm    the HCL report with an SNP report inside, whose measurement the policy names; no CRL was captured
 *   azure-tdx-vtpm-ak-chain a certificate chain, and the HCL report with the TD quote beside, whose MRTD the policy names; no CRL of Azure's
 * parsec-ecdsa-quote has no PCR values, so its registers cannot be measured: any measurement, but of PCRs 0, 1 and 2 alone. */
static evidence *open_case(const char *folder)
{
    evidence *e = calloc(1, sizeof *e);
    CHECK(e && case_open(folder, &e->expected));
    cmif_attest_policy_init(&e->policy);
    e->time                    = case_time(&e->expected) != INT64_MIN ? case_time(&e->expected) : 1750000000; /* 2025-06-15 */
    e->policy.tees             = 1u << CMIF_TEE_TPM;
    e->policy.measured         = e->measured;
    e->policy.report_data      = e->nonce;
    e->policy.report_data_size = case_bytes(&e->expected, "attest", "extra_data", e->nonce);
    item(e, folder, "quote.msg", CMIF_ITEM_TPM_ATTEST);
    if (strstr(folder, "azure")) {
        item(e, folder, "quote.sig.raw", CMIF_ITEM_TPM_SIGNATURE);
        item(e, folder, "hcl_report.bin", CMIF_ITEM_HCL);
        item(e, folder, "pcrs.json", CMIF_ITEM_TPM_PCRS);
        measure_pcrs(e, folder);
        e->policy.loosened.no_crl = true;
    } else {
        item(e, folder, "quote.sig", CMIF_ITEM_TPM_SIGNATURE);
    }
    if (strstr(folder, "swtpm")) {
        item(e, folder, "ak.pub", CMIF_ITEM_TPM_AK);
        item(e, folder, "quote.pcrs", CMIF_ITEM_TPM_PCRS);
        measure_pcrs(e, folder);
    } else if (!strstr(folder, "azure")) {
        item(e, folder, "ak.pem", CMIF_ITEM_TPM_AK);
    }
    if (strstr(folder, "swtpm-rsa")) {
        case_file *name = load(e, folder, "ak.name");
        CHECK(name->size == sizeof e->name);
        memcpy(e->name, name->data, sizeof e->name);
        e->policy.ak_activated       = e->name;
        e->policy.ak_activated_count = 1;
    } else if (!strstr(folder, "azure")) {
        pin_key(e, folder);
    }
    if (strstr(folder, "generic")) {
        item(e, folder, "pcrs.json", CMIF_ITEM_TPM_PCRS);
        measure_pcrs(e, folder);
    } else if (strstr(folder, "parsec")) {
        item(e, folder, "certify_info.bin", CMIF_ITEM_TPM_ATTEST);
        item(e, folder, "certify.sig", CMIF_ITEM_TPM_SIGNATURE);
        item(e, folder, "pub_area.bin", CMIF_ITEM_TPM_KEY);
        e->policy.pcr_mask                 = 7;
        e->policy.loosened.any_measurement = true;
    } else if (strstr(folder, "azure-snp")) {
        item(e, folder, "vcek.pem", CMIF_ITEM_CERTIFICATES);
        measure_tee(e, CMIF_TEE_SNP, "snp_report", "measurement");
    } else if (strstr(folder, "azure-tdx")) {
        item(e, folder, "ak_cert_nv.der", CMIF_ITEM_CERTIFICATES);
        item(e, folder, "ak_intermediates.pem", CMIF_ITEM_CERTIFICATES);
        item(e, folder, "td_quote.bin", CMIF_ITEM_QUOTE);
        item(e, folder, "td_collateral/tcb_info.json", CMIF_ITEM_TCB_INFO);
        item(e, folder, "td_collateral/qe_identity.json", CMIF_ITEM_QE_IDENTITY);
        item(e, folder, "td_collateral/tcb_signing_chain.pem", CMIF_ITEM_CERTIFICATES);
        item(e, folder, "td_collateral/pck_crl.der", CMIF_ITEM_CRL);
        item(e, folder, "td_collateral/root_ca_crl.der", CMIF_ITEM_CRL);
        measure_tee(e, CMIF_TEE_TDX, "td_quote_fields", "mrtd");
    }
    return e;
}

static void close_case(evidence *e)
{
    for (size_t i = 0; i < e->file_count; i++) {
        free(e->file[i].data);
    }
    case_close(&e->expected);
    free(e);
}

static void judge(const evidence *e, cmif_verdict *v) { cmif_attest(e->items, e->count, &e->policy, e->time, v); }

static const char *const captures[] = {"tpm/swtpm-rsa-ak",       "tpm/swtpm-ecc-ak",         "tpm/swtpm-unrestricted-key",  "tpm/generic-tpm-trustee",
                                       "tpm/parsec-ecdsa-quote", "tpm/azure-snp-milan-vtpm", "tpm/azure-tdx-vtpm-ak-chain"};

static void captures_are_judged_as_expected(void)
{
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        const char  *name = captures[i];
        evidence    *e    = open_case(name);
        cmif_verdict v;
        judge(e, &v);
        CHECK(v.tee == CMIF_TEE_TPM);
        CHECK(case_verdict_is(name, &e->expected, &v, "tpm"));
        CHECK(case_field_is(name, &e->expected, NULL, "sig_alg", &v, "sig_alg") && case_field_is(name, &e->expected, NULL, "sig_hash", &v, "sig_hash"));
        static const char *const fields[] = {"type", "qualified_signer", "extra_data", "clock", "reset_count", "restart_count", "safe", "firmware", "pcr_digest"};
        for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
            CHECK(case_field_is(name, &e->expected, "attest", fields[k], &v, fields[k]));
        }
        /* pcr_select: [["000b", [0, 1, ...]]] against "sha256" and "0,1,..." */
        uint32_t    one  = cmif_json_first(&e->expected.json, cmif_json_get(&e->expected.json, cmif_json_get(&e->expected.json, 0, "attest"), "pcr_select"));
        uint32_t    bank = cmif_json_first(&e->expected.json, one), list = cmif_json_after(&e->expected.json, one, bank);
        char        text[128] = "";
        const char *has       = cmif_verdict_field(&v, "pcr_select");
        for (uint32_t n = cmif_json_first(&e->expected.json, list); n != CMIF_JSON_NONE; n = cmif_json_after(&e->expected.json, list, n)) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.8s", text[0] ? "," : "", case_node(&e->expected, n));
        }
        CHECK(has && !strcmp(has, text) && !strcmp(case_node(&e->expected, bank), "000b") && !strcmp(cmif_verdict_field(&v, "pcr_bank"), "sha256"));
        if (strstr(name, "azure-snp")) {
            CHECK(case_field_is(name, &e->expected, NULL, "hcl_user_data", &v, "hcl_user_data"));
            CHECK(case_field_is(name, &e->expected, "snp_report", "chip_id", &v, "chip_id"));
        }
        if (strstr(name, "azure-tdx")) {
            CHECK(case_field_is(name, &e->expected, "td_quote_fields", "mrtd", &v, "mrtd"));
            CHECK(!strcmp(cmif_verdict_field(&v, "ak_trust"), "certificate tee ") && v.tcb_status == CMIF_TCB_UP_TO_DATE);
        }
        close_case(e);
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
