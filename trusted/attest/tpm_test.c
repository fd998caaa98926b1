#include "attest/tpm.h"

#include "attest/hcl.h"
#include "attest/snp_rig.h"

#include <openssl/core_names.h>
#include <openssl/hmac.h>
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
        e->policy.measured_count +=
            cmif_json_hex(&json, cmif_json_get(&json, cmif_json_get(&json, 0, "000b"), key), m->value, 32);
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

/* What a strict policy is for a TPM capture: its nonce, and every quoted PCR with its value. What proves the AK
 * differs, as the note of each says: swtpm-rsa-ak            credential activation, which its TPM did: ak.name is known
 * to be activated swtpm-ecc-ak, -unrestricted-key, generic-tpm-trustee, parsec-ecdsa-quote   nothing: the AK is pinned,
 * which the policy must loosen azure-snp-milan-vtpm    the HCL report with an SNP report inside, whose measurement the
 * policy names; no CRL was captured azure-tdx-vtpm-ak-chain a certificate chain, and the HCL report with the TD quote
 * beside, whose MRTD the policy names; no CRL of Azure's parsec-ecdsa-quote has no PCR values, so its registers cannot
 * be measured: any measurement, but of PCRs 0, 1 and 2 alone. */
static evidence *open_case(const char *folder)
{
    evidence *e = calloc(1, sizeof *e);
    CHECK(e && case_open(folder, &e->expected));
    cmif_attest_policy_init(&e->policy);
    e->time            = case_time(&e->expected) != INT64_MIN ? case_time(&e->expected) : 1750000000; /* 2025-06-15 */
    e->policy.tees     = 1u << CMIF_TEE_TPM;
    e->policy.measured = e->measured;
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

static void judge(const evidence *e, cmif_verdict *v)
{
    cmif_attest(e->items, e->count, &e->policy, e->time, v);
}

static const char *const captures[] = {
    "tpm/swtpm-rsa-ak",       "tpm/swtpm-ecc-ak",         "tpm/swtpm-unrestricted-key", "tpm/generic-tpm-trustee",
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
        CHECK(case_field_is(name, &e->expected, NULL, "sig_alg", &v, "sig_alg") &&
              case_field_is(name, &e->expected, NULL, "sig_hash", &v, "sig_hash"));
        static const char *const fields[] = {"type",  "qualified_signer", "extra_data",
                                             "clock", "reset_count",      "restart_count",
                                             "safe",  "firmware",         "pcr_digest"};
        for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
            CHECK(case_field_is(name, &e->expected, "attest", fields[k], &v, fields[k]));
        }
        /* pcr_select: [["000b", [0, 1, ...]]] against "sha256" and "0,1,..." */
        uint32_t one = cmif_json_first(
            &e->expected.json,
            cmif_json_get(&e->expected.json, cmif_json_get(&e->expected.json, 0, "attest"), "pcr_select"));
        uint32_t bank = cmif_json_first(&e->expected.json, one), list = cmif_json_after(&e->expected.json, one, bank);
        char     text[128] = "";
        const char *has    = cmif_verdict_field(&v, "pcr_select");
        for (uint32_t n = cmif_json_first(&e->expected.json, list); n != CMIF_JSON_NONE;
             n          = cmif_json_after(&e->expected.json, list, n)) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.8s", text[0] ? "," : "",
                     case_node(&e->expected, n));
        }
        CHECK(has && !strcmp(has, text) && !strcmp(case_node(&e->expected, bank), "000b") &&
              !strcmp(cmif_verdict_field(&v, "pcr_bank"), "sha256"));
        if (strstr(name, "azure-snp")) {
            CHECK(case_field_is(name, &e->expected, NULL, "hcl_user_data", &v, "hcl_user_data"));
            CHECK(case_field_is(name, &e->expected, "snp_report", "chip_id", &v, "chip_id"));
        }
        if (strstr(name, "azure-tdx")) {
            CHECK(case_field_is(name, &e->expected, "td_quote_fields", "mrtd", &v, "mrtd"));
            CHECK(!strcmp(cmif_verdict_field(&v, "ak_trust"), "certificate tee ") &&
                  v.tcb_status == CMIF_TCB_UP_TO_DATE);
        }
        close_case(e);
    }
}

/* ---- a TPM of our own ---- */
static EVP_PKEY *rsa, *p256, *p384, *other, *ca_key, *decrypter;

static void put16(cmif_writer *w, size_t v)
{
    cmif_write_bytes(w, (const uint8_t[]){(uint8_t) (v >> 8), (uint8_t) v}, 2);
}
static void put32(cmif_writer *w, uint32_t v)
{
    put16(w, v >> 16);
    put16(w, v & 0xffff);
}
static void put2b(cmif_writer *w, const void *bytes, size_t size)
{
    put16(w, size);
    cmif_write_bytes(w, bytes, size);
}

enum { AK_ATTRIBUTES = 0x00050072, EK_ATTRIBUTES = 0x000300b2 };

/* TPMT_PUBLIC of a key of OpenSSL's. */
static size_t public_make(EVP_PKEY *key, uint32_t attributes, unsigned scheme, unsigned hash, bool ek, uint8_t *out,
                          size_t room)
{
    cmif_writer w      = cmif_writer_over(out, room);
    bool        is_rsa = EVP_PKEY_is_a(key, "RSA");
    uint8_t     number[512];
    BIGNUM     *n = NULL, *x = NULL, *y = NULL;
    put16(&w, is_rsa ? CMIF_TPM_RSA : CMIF_TPM_ECC);
    put16(&w, CMIF_TPM_SHA256);
    put32(&w, attributes);
    put16(&w, 0);
    if (ek) {
        put16(&w, 6); /* AES, 128, CFB */
        put16(&w, 128);
        put16(&w, 0x43);
    } else {
        put16(&w, CMIF_TPM_NULL);
    }
    put16(&w, scheme);
    if (scheme != CMIF_TPM_NULL) {
        put16(&w, hash);
    }
    if (is_rsa) {
        put16(&w, (size_t) EVP_PKEY_get_bits(key));
        put32(&w, 0);
        CHECK(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) == 1);
        put2b(&w, number, (size_t) BN_bn2bin(n, number));
        w.at -= (size_t) BN_num_bytes(n);
        cmif_write_bytes(&w, number, (size_t) BN_num_bytes(n));
    } else {
        int size = (EVP_PKEY_get_bits(key) + 7) / 8;
        put16(&w, size == 32 ? 3 : 4);
        put16(&w, CMIF_TPM_NULL);
        CHECK(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
              EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y) == 1);
        CHECK(BN_bn2binpad(x, number, size) == size);
        put2b(&w, number, (size_t) size);
        CHECK(BN_bn2binpad(y, number, size) == size);
        put2b(&w, number, (size_t) size);
    }
    BN_free(n);
    BN_free(x);
    BN_free(y);
    CHECK(!w.failed);
    return w.at;
}

/* TPMT_SIGNATURE */
static size_t sign(EVP_PKEY *key, unsigned scheme, unsigned hash, const uint8_t *message, size_t message_size,
                   uint8_t *out, size_t room)
{
    cmif_writer    w = cmif_writer_over(out, room);
    uint8_t        raw[512], number[66];
    size_t         size = sizeof raw;
    const uint8_t *at   = raw;
    EVP_MD_CTX    *ctx  = EVP_MD_CTX_new();
    EVP_PKEY_CTX  *pctx = NULL;
    CHECK(EVP_DigestSignInit(ctx, &pctx, EVP_get_digestbyname(cmif_tpm_hash_name(hash)), NULL, key) == 1);
    if (scheme == CMIF_TPM_RSAPSS) {
        CHECK(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1);
    }
    CHECK(EVP_DigestSign(ctx, raw, &size, message, message_size) == 1);
    put16(&w, scheme);
    put16(&w, hash);
    if (scheme == CMIF_TPM_ECDSA) {
        ECDSA_SIG *sig   = d2i_ECDSA_SIG(NULL, &at, (long) size);
        int        bytes = (EVP_PKEY_get_bits(key) + 7) / 8;
        CHECK(BN_bn2binpad(ECDSA_SIG_get0_r(sig), number, bytes) == bytes);
        put2b(&w, number, (size_t) bytes);
        CHECK(BN_bn2binpad(ECDSA_SIG_get0_s(sig), number, bytes) == bytes);
        put2b(&w, number, (size_t) bytes);
        ECDSA_SIG_free(sig);
    } else {
        put2b(&w, raw, size);
    }
    EVP_MD_CTX_free(ctx);
    CHECK(!w.failed);
    return w.at;
}

/* One appraisal: everything in place and good, until a test changes something before world_judge. */
typedef struct world {
    EVP_PKEY *key, *signer;
    unsigned  scheme, hash, public_scheme, public_hash, bank;
    uint32_t  attributes, magic, mask;
    uint16_t  type;
    size_t    selections; /* how many; the second is a SHA-384 bank of the same registers */
    uint8_t   values[CMIF_PCRS][64], nonce[64];
    size_t    nonce_size, values_size; /* values_size: of what is handed in; SIZE_MAX: all */
    bool      pem, no_ak, no_values, change_value, zero_r, zero_s, huge_s, trailing, short_digest;
    uint8_t   attest[1024], signature[1024], public[1024], raw_values[CMIF_PCRS * 64], spki[1024], pin[32], name[34],
        expected_nonce[64];
    size_t             attest_size, signature_size, public_size, spki_size;
    cmif_measured      measured[CMIF_PCRS + 2];
    cmif_item          more[6];
    size_t             more_count;
    cmif_attest_policy policy;
    cmif_verdict       verdict;
} world;

static world *world_new(EVP_PKEY *key, unsigned scheme, unsigned hash)
{
    world *w = calloc(1, sizeof *w);
    *w       = (world){.key           = key,
                       .signer        = key,
                       .scheme        = scheme,
                       .hash          = hash,
                       .public_scheme = scheme,
                       .public_hash   = hash,
                       .bank          = CMIF_TPM_SHA256,
                       .attributes    = AK_ATTRIBUTES,
                       .magic         = 0xff544347,
                       .mask          = 0x8000ff,
                       .type          = CMIF_TPM_QUOTE,
                       .selections    = 1,
                       .nonce_size    = 32,
                       .values_size   = SIZE_MAX};
    memset(w->nonce, 0x77, sizeof w->nonce);
    memset(w->expected_nonce, 0x77, sizeof w->expected_nonce);
    cmif_attest_policy_init(&w->policy);
    w->policy.tees               = 1u << CMIF_TEE_TPM;
    w->policy.measured           = w->measured;
    w->policy.report_data        = w->expected_nonce;
    w->policy.report_data_size   = 32;
    w->policy.ak_pins            = w->pin;
    w->policy.ak_pin_count       = 1;
    w->policy.loosened.ak_pinned = true;
    for (unsigned i = 0; i < CMIF_PCRS; i++) {
        memset(w->values[i], (int) i, 64);
        if (w->mask >> i & 1) {
            cmif_measured *m = &w->measured[w->policy.measured_count++];
            *m               = (cmif_measured){.tee = CMIF_TEE_TPM, .size = 32};
            snprintf(m->name, sizeof m->name, "pcr%u", i);
            memset(m->value, (int) i, 32);
        }
    }
    unsigned char *der = NULL;
    w->spki_size       = (size_t) i2d_PUBKEY(key, &der);
    CHECK(EVP_Digest(der, w->spki_size, w->pin, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
    return w;
}

static void attest_make(world *w)
{
    cmif_writer out        = cmif_writer_over(w->attest, sizeof w->attest);
    cmif_pcrs   pcrs       = {.bank = (uint16_t) w->bank, .mask = w->mask};
    uint8_t     digest[64] = {0};
    cmif_err    err;
    memcpy(pcrs.value, w->values, sizeof pcrs.value);
    CHECK(cmif_pcrs_digest(&pcrs, w->hash, digest, &err) == CMIF_OK);
    put32(&out, w->magic);
    put16(&out, w->type);
    put2b(&out, "\0\013signer", 8);
    put2b(&out, w->nonce, w->nonce_size);
    put32(&out, 0);
    put32(&out, 12345); /* clock */
    put32(&out, 2);
    put32(&out, 3);
    cmif_write_u8(&out, 1);
    put32(&out, 0x20191023);
    put32(&out, 0x00163636);
    put32(&out, (uint32_t) w->selections);
    for (size_t i = 0; i < w->selections; i++) {
        put16(&out, i ? CMIF_TPM_SHA384 : w->bank);
        cmif_write_u8(&out, 3);
        cmif_write_le(&out, w->mask, 3);
    }
    put2b(&out, digest, cmif_tpm_hash_size(w->hash) - (w->short_digest ? 1 : 0));
    if (w->trailing) {
        cmif_write_u8(&out, 0);
    }
    CHECK(!out.failed);
    w->attest_size = out.at;
}

/* Judges, and frees the world: its verdict is the answer. */
static cmif_verdict world_judge(world *w)
{
    cmif_item items[12];
    size_t    count = 0, size = cmif_tpm_hash_size(w->bank), at = 0;
    char     *pem = NULL;
    BIO      *bio = BIO_new(BIO_s_mem());
    attest_make(w);
    w->signature_size =
        sign(w->signer, w->scheme, w->hash, w->attest, w->attest_size, w->signature, sizeof w->signature);
    w->public_size =
        public_make(w->key, w->attributes, w->public_scheme, w->public_hash, false, w->public, sizeof w->public);
    if (w->zero_r || w->zero_s || w->huge_s) { /* r at 6, s after it */
        size_t n = w->signature[5];
        memset(w->signature + (w->zero_r ? 6 : 8 + n), w->huge_s ? 0xff : 0, n);
    }
    for (unsigned i = 0; i < CMIF_PCRS; i++) {
        if (w->mask >> i & 1) {
            memcpy(w->raw_values + at, w->values[i], size);
            at += size;
        }
    }
    w->raw_values[at - 1] ^= w->change_value;
    items[count++] = (cmif_item){CMIF_ITEM_TPM_ATTEST, w->attest, w->attest_size};
    items[count++] = (cmif_item){CMIF_ITEM_TPM_SIGNATURE, w->signature, w->signature_size};
    if (!w->no_values) {
        items[count++] =
            (cmif_item){CMIF_ITEM_TPM_PCRS, w->raw_values, w->values_size == SIZE_MAX ? at : w->values_size};
    }
    if (w->pem) {
        CHECK(PEM_write_bio_PUBKEY(bio, w->key) == 1);
        long length    = BIO_get_mem_data(bio, &pem);
        items[count++] = (cmif_item){CMIF_ITEM_TPM_AK, (uint8_t *) pem, (size_t) length};
    } else if (!w->no_ak) {
        items[count++] = (cmif_item){CMIF_ITEM_TPM_AK, w->public, w->public_size};
    }
    for (size_t i = 0; i < w->more_count; i++) {
        items[count++] = w->more[i];
    }
    cmif_attest(items, count, &w->policy, now, &w->verdict);
    BIO_free(bio);
    cmif_verdict v = w->verdict;
    free(w);
    return v;
}

static world *rsa_world(void)
{
    return world_new(rsa, CMIF_TPM_RSASSA, CMIF_TPM_SHA256);
}
static world *ecc_world(void)
{
    return world_new(p256, CMIF_TPM_ECDSA, CMIF_TPM_SHA256);
}

static void good_quotes_of_every_scheme_are_accepted(void)
{
    const struct {
        EVP_PKEY *key;
        unsigned  scheme;
    } all[] = {{rsa, CMIF_TPM_RSASSA}, {rsa, CMIF_TPM_RSAPSS}, {p256, CMIF_TPM_ECDSA}, {p384, CMIF_TPM_ECDSA}};
    static const unsigned hashes[] = {CMIF_TPM_SHA256, CMIF_TPM_SHA384, CMIF_TPM_SHA512};
    for (size_t i = 0; i < 4; i++) {
        for (size_t h = 0; h < 3; h++) {
            cmif_verdict v = world_judge(world_new(all[i].key, all[i].scheme, hashes[h]));
            CHECK(v.outcome == CMIF_ACCEPTED && v.unchecked_count == 1 && !strcmp(v.unchecked[0], "ak-pinned"));
            if (v.outcome != CMIF_ACCEPTED) {
                case_tell("a good quote", &v);
            }
        }
    }
    world *w = rsa_world(); /* SHA-384 PCRs under a SHA-256 signature */
    w->bank  = CMIF_TPM_SHA384;
    for (size_t i = 0; i < w->policy.measured_count; i++) {
        w->measured[i].size = 48;
        memset(w->measured[i].value, w->measured[i].value[0], 48);
    }
    CHECK(world_judge(w).outcome == CMIF_ACCEPTED);
}

static void magic_and_type_are_a_tpms(void)
{
    world *w       = rsa_world();
    w->magic       = 0xff544346;
    cmif_verdict v = world_judge(w);
    CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "tpm-attest"));
    static const uint16_t types[] = {0x8014, 0x8015, 0x8016, 0x8019, 0x801a, 0x801c, 0};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        w       = rsa_world();
        w->type = types[i];
        CHECK(world_judge(w).outcome == CMIF_UNSUPPORTED);
    }
    w       = rsa_world();
    w->type = CMIF_TPM_CERTIFY; /* whose fields a quote's are not */
    CHECK(world_judge(w).outcome == CMIF_MALFORMED);
    w           = rsa_world();
    w->trailing = true;
    CHECK(world_judge(w).outcome == CMIF_MALFORMED);
}

static void nonce_is_exact(void)
{
    static const size_t sizes[] = {0, 1, 31, 33, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) { /* a prefix of it, or it with more behind */
        world *w      = rsa_world();
        w->nonce_size = sizes[i];
        ONLY(w, "report-data", NULL);
        w                          = rsa_world(); /* and the other way about */
        w->policy.report_data_size = sizes[i];
        ONLY(w, "report-data", NULL);
    }
    world *w      = rsa_world(); /* padded with zeros: good for a REPORTDATA of 64 bytes, not for a TPM */
    w->nonce_size = 64;
    memset(w->nonce + 32, 0, 32);
    ONLY(w, "report-data", NULL);
    w = rsa_world();
    w->nonce[31] ^= 1;
    ONLY(w, "report-data", NULL);
    w                     = rsa_world();
    w->policy.report_data = NULL;
    ONLY(w, "report-data", NULL);
}

static void pcr_values_must_hash_to_the_digest_and_be_those_of_the_policy(void)
{
    world *w        = rsa_world();
    w->change_value = true; /* what is handed in is not what was quoted: no register is believed */
    cmif_verdict v  = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "pcr-digest") && case_has_reason(&v, "measurement-pcr0") &&
          !cmif_verdict_field(&v, "pcr0"));
    w = rsa_world();
    w->values[7][0] ^= 1; /* quoted, and not what the policy says */
    ONLY(w, "measurement-pcr7", NULL);
    w               = rsa_world();
    w->short_digest = true;
    v               = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "pcr-digest"));
    w            = rsa_world();
    w->no_values = true;
    v            = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "pcr-values") && case_has_reason(&v, "measurement-pcr0"));
    for (size_t size = 1; size < 9 * 32; size++) {
        w              = rsa_world();
        w->values_size = size;
        CHECK(world_judge(w).outcome == CMIF_MALFORMED);
    }
}

static void selection_is_exactly_what_was_asked_for(void)
{
    world *w       = rsa_world();
    w->mask        = 0xff; /* 23 is left out */
    cmif_verdict v = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "pcr-selection") &&
          case_has_reason(&v, "measurement-pcr23"));
    w       = rsa_world();
    w->mask = 0x8001ff; /* one more */
    ONLY(w, "pcr-selection", NULL);
    w                  = rsa_world();
    w->policy.pcr_mask = 0x8001ff; /* one fewer than asked for */
    ONLY(w, "pcr-selection", NULL);
    w             = rsa_world();
    w->selections = 2;
    v             = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "pcr-selection"));
    w             = rsa_world();
    w->selections = 0;
    v             = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "pcr-selection"));
    for (int any = 0; any < 2; any++) { /* no register at all, whatever the policy */
        w                                  = rsa_world();
        w->policy.loosened.any_measurement = any;
        w->policy.measured_count           = any ? 0 : w->policy.measured_count;
        w->selections                      = 0;
        w->no_values                       = true;
        v                                  = world_judge(w);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "pcr-selection"));
    }
    w       = rsa_world();
    w->bank = CMIF_TPM_SHA384; /* another bank than the measured values are of */
    v       = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "pcr-selection") &&
          case_has_reason(&v, "measurement-pcr0"));
    w                        = rsa_world();
    w->policy.measured_count = 0;
    ONLY(w, "no-measurement-policy", NULL);
}

static void sha1_is_refused(void)
{
    world *w                           = rsa_world();
    w->bank                            = CMIF_TPM_SHA1;
    w->policy.measured_count           = 0;
    w->policy.loosened.any_measurement = true;
    ONLY(w, "sha1", NULL);
    w              = world_new(rsa, CMIF_TPM_RSASSA, CMIF_TPM_SHA1);
    cmif_verdict v = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "sha1") && case_has_error(&v, "quote-signature"));
}

static void ak_must_be_a_restricted_signing_key_of_the_tpm(void)
{
    static const uint32_t bits[] = {CMIF_TPMA_FIXED_TPM,  CMIF_TPMA_FIXED_PARENT, CMIF_TPMA_ORIGIN,
                                    CMIF_TPMA_RESTRICTED, CMIF_TPMA_SIGN,         CMIF_TPMA_DECRYPT};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        world *w = rsa_world();
        w->attributes ^= bits[i];
        ONLY(w, "AK is not a restricted signing key", NULL);
    }
}

static void signature_is_of_this_key_and_of_its_scheme(void)
{
    world *w  = rsa_world();
    w->signer = other;
    ONLY(w, "invalid-evidence", "quote-signature");
    w                = rsa_world();
    w->public_scheme = CMIF_TPM_RSAPSS;
    ONLY(w, "invalid-evidence", "signature-scheme");
    w              = rsa_world();
    w->public_hash = CMIF_TPM_SHA384;
    ONLY(w, "invalid-evidence", "signature-scheme");
    w              = rsa_world(); /* ECDSA by another key, where the AK is RSA */
    w->signer      = p256;
    w->scheme      = CMIF_TPM_ECDSA;
    cmif_verdict v = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "signature-scheme") &&
          case_has_error(&v, "quote-signature"));
    w         = ecc_world();
    w->zero_r = true;
    ONLY(w, "invalid-evidence", "quote-signature");
    w         = ecc_world();
    w->zero_s = true;
    ONLY(w, "invalid-evidence", "quote-signature");
    w         = ecc_world();
    w->huge_s = true;
    ONLY(w, "invalid-evidence", "quote-signature");
}

/* ---- who vouches for the AK ---- */
static void unproved_ak_is_refused(void)
{
    world *w               = rsa_world();
    w->policy.ak_pin_count = 0;
    ONLY(w, "ak-untrusted", NULL);
    w = rsa_world();
    w->pin[0] ^= 1;
    cmif_verdict v = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "ak-not-pinned") && case_has_reason(&v, "ak-untrusted"));
    w                            = rsa_world(); /* pinned, and the policy does not say that this is enough */
    w->policy.loosened.ak_pinned = false;
    ONLY(w, "ak-pinned", NULL);
    w                            = rsa_world(); /* nobody knows what kind of key it is */
    w->pem                       = true;
    w->policy.loosened.ak_pinned = false;
    v                            = world_judge(w);
    CHECK(v.outcome == CMIF_REJECTED && v.reason_count == 2 && case_has_reason(&v, "ak-pinned") &&
          case_has_reason(&v, "ak-attributes"));
    w        = rsa_world();
    w->no_ak = true;
    ONLY(w, "no-ak", NULL);
}

static void activated_ak_is_known_by_its_name(void)
{
    for (int changed = 0; changed < 3; changed++) {
        world *w = rsa_world();
        uint8_t public[1024];
        cmif_tpm_public p;
        cmif_err        err;
        size_t size = public_make(rsa, AK_ATTRIBUTES, CMIF_TPM_RSASSA, CMIF_TPM_SHA256, false, public, sizeof public);
        CHECK(cmif_tpm_public_read(public, size, &p, &err) == CMIF_OK && p.name_size == 34);
        memcpy(w->name, p.name, 34);
        w->name[33] ^= changed == 1;
        w->pem                       = changed == 2; /* a bare key has no Name */
        w->policy.ak_pin_count       = 0;
        w->policy.ak_activated       = w->name;
        w->policy.ak_activated_count = 1;
        w->policy.loosened.ak_pinned = false;
        if (changed) {
            ONLY(w, "ak-untrusted", NULL);
        } else {
            cmif_verdict v = world_judge(w);
            CHECK(v.outcome == CMIF_ACCEPTED && v.unchecked_count == 0 &&
                  !strcmp(cmif_verdict_field(&v, "ak_trust"), "activation "));
        }
    }
}

typedef struct ak_plan {           /* an AK certificate and its issuer */
    const char *usage, *key_usage; /* NULL: without */
    int64_t     from, to;
    long        revoked;
    bool        no_crl, other_root, is_ca, renewed; /* renewed: one of the same key that has ended comes first */
    EVP_PKEY   *key;
} ak_plan;

static X509 *certificate(const char *cn, const char *issuer, EVP_PKEY *key, long serial, int64_t from, int64_t to)
{
    X509 *c = X509_new();
    CHECK(X509_set_version(c, 2) == 1 && X509_set_pubkey(c, key) == 1 &&
          ASN1_INTEGER_set(X509_get_serialNumber(c), serial) == 1);
    CHECK(X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC, (const unsigned char *) cn, -1, -1,
                                     0) == 1);
    CHECK(X509_NAME_add_entry_by_txt(X509_get_issuer_name(c), "CN", MBSTRING_ASC, (const unsigned char *) issuer, -1,
                                     -1, 0) == 1);
    CHECK(ASN1_TIME_set(X509_getm_notBefore(c), from) && ASN1_TIME_set(X509_getm_notAfter(c), to));
    return c;
}

static void extend(X509 *c, int nid, const char *value)
{
    X509_EXTENSION *e = value ? X509V3_EXT_conf_nid(NULL, NULL, nid, value) : NULL;
    CHECK(!value || (e && X509_add_ext(c, e, -1) == 1));
    X509_EXTENSION_free(e);
}

static cmif_verdict judge_with_certificate(const ak_plan *p)
{
    world   *w        = rsa_world();
    uint8_t *root_der = NULL, *leaf_der = NULL, *crl_der = NULL, *before_der = NULL;
    X509    *root = certificate("TPM Root", "TPM Root", ca_key, 1, now - 1000, now + 1000);
    X509    *leaf =
        certificate("AK", "TPM Root", p->key ? p->key : rsa, 7, p->from ? p->from : now - 10, p->to ? p->to : now + 10);
    X509_CRL *crl = X509_CRL_new();
    extend(root, NID_basic_constraints, "critical,CA:TRUE");
    extend(root, NID_key_usage, "critical,keyCertSign,cRLSign");
    CHECK(X509_sign(root, ca_key, EVP_sha256()) > 0);
    extend(leaf, NID_basic_constraints, p->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extend(leaf, NID_key_usage, p->key_usage);
    extend(leaf, NID_ext_key_usage, p->usage);
    CHECK(X509_sign(leaf, p->other_root ? other : ca_key, EVP_sha256()) > 0);
    ASN1_TIME *time = ASN1_TIME_new();
    CHECK(X509_CRL_set_version(crl, 1) == 1 && X509_CRL_set_issuer_name(crl, X509_get_subject_name(root)) == 1);
    CHECK(ASN1_TIME_set(time, now - 5) && X509_CRL_set1_lastUpdate(crl, time) == 1 && ASN1_TIME_set(time, now + 5) &&
          X509_CRL_set1_nextUpdate(crl, time) == 1);
    if (p->revoked) {
        X509_REVOKED *r      = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();
        CHECK(ASN1_INTEGER_set(serial, p->revoked) == 1 && X509_REVOKED_set_serialNumber(r, serial) == 1 &&
              X509_REVOKED_set_revocationDate(r, time) == 1 && X509_CRL_add0_revoked(crl, r) == 1);
        ASN1_INTEGER_free(serial);
    }
    CHECK(X509_CRL_sign(crl, ca_key, EVP_sha256()) > 0);
    int root_size = i2d_X509(root, &root_der), leaf_size = i2d_X509(leaf, &leaf_der),
        crl_size       = i2d_X509_CRL(crl, &crl_der);
    cmif_item roots[1] = {{CMIF_ITEM_CERTIFICATES, root_der, (size_t) root_size}};
    X509     *before   = p->renewed ? X509_dup(leaf) : NULL;
    if (before) {
        CHECK(ASN1_TIME_set(X509_getm_notAfter(before), now - 1) && X509_sign(before, ca_key, EVP_sha256()) > 0);
        int before_size          = i2d_X509(before, &before_der);
        w->more[w->more_count++] = (cmif_item){CMIF_ITEM_CERTIFICATES, before_der, (size_t) before_size};
        X509_free(before);
    }
    w->more[w->more_count++] = (cmif_item){CMIF_ITEM_CERTIFICATES, leaf_der, (size_t) leaf_size};
    if (!p->no_crl) {
        w->more[w->more_count++] = (cmif_item){CMIF_ITEM_CRL, crl_der, (size_t) crl_size};
    }
    w->no_ak                     = true; /* the certificate is all there is */
    w->policy.roots              = roots;
    w->policy.root_count         = 1;
    w->policy.ak_pin_count       = 0;
    w->policy.loosened.ak_pinned = false;
    cmif_verdict v               = world_judge(w);
    ASN1_TIME_free(time);
    X509_free(root);
    X509_free(leaf);
    X509_CRL_free(crl);
    OPENSSL_free(root_der);
    OPENSSL_free(before_der);
    OPENSSL_free(leaf_der);
    OPENSSL_free(crl_der);
    return v;
}

static void certified_ak_needs_a_good_path_and_the_right_usage(void)
{
    ak_plan      good = {.usage = "2.23.133.8.3", .key_usage = "critical,digitalSignature"}, p = good;
    cmif_verdict v = judge_with_certificate(&p);
    CHECK(v.outcome == CMIF_ACCEPTED && v.unchecked_count == 0 &&
          !strcmp(cmif_verdict_field(&v, "ak_trust"), "certificate "));
    p           = good;
    p.key_usage = NULL;
    CHECK(judge_with_certificate(&p).outcome == CMIF_ACCEPTED);
    p         = good;
    p.renewed = true;
    CHECK(judge_with_certificate(&p).outcome == CMIF_ACCEPTED);
    p       = good;
    p.usage = "2.23.133.8.1"; /* Google's AKs: the EK's usage, and a key that signs */
    CHECK(judge_with_certificate(&p).outcome == CMIF_ACCEPTED);
    p       = good;
    p.usage = NULL; /* or none */
    CHECK(judge_with_certificate(&p).outcome == CMIF_ACCEPTED);

    p           = good; /* an EK's certificate */
    p.usage     = "2.23.133.8.1";
    p.key_usage = "critical,keyEncipherment";
    v           = judge_with_certificate(&p);
    CHECK(only(&v, "no-ak", NULL));
    p           = good; /* nothing says that it is a TPM's */
    p.usage     = NULL;
    p.key_usage = NULL;
    v           = judge_with_certificate(&p);
    CHECK(only(&v, "no-ak", NULL));
    p       = good;
    p.usage = "serverAuth";
    v       = judge_with_certificate(&p);
    CHECK(only(&v, "no-ak", NULL));
    p     = good;
    p.key = other;
    v     = judge_with_certificate(&p);
    CHECK(only(&v, "no-ak", NULL));

    static const struct {
        const char *reason, *error;
        ak_plan     plan;
    } bad[] = {{"ak-expired", NULL, {.to = 1770000000 - 1}},
               {"ak-not-yet-valid", NULL, {.from = 1770000000 + 1}},
               {"ak-revoked", NULL, {.revoked = 7}},
               {"invalid-evidence", "ak-untrusted", {.other_root = true}},
               {"invalid-evidence", "ak-constraints", {.is_ca = true}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p           = bad[i].plan;
        p.usage     = good.usage;
        p.key_usage = good.key_usage;
        v           = judge_with_certificate(&p);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, bad[i].reason) &&
              (!bad[i].error || case_has_error(&v, bad[i].error)));
        CHECK(case_has_reason(&v, "ak-untrusted")); /* and nothing else proves it */
    }
    p        = good;
    p.no_crl = true;
    v        = judge_with_certificate(&p);
    CHECK(only(&v, "revocation-ak", NULL));
}

/* ---- the AK that a TEE hashes ---- */
static cmif_item *find_item(evidence *e, cmif_item_kind kind)
{
    for (size_t i = 0; i < e->count; i++) {
        if (e->items[i].kind == kind) {
            return &e->items[i];
        }
    }
    CHECK(!"an item of this kind");
    return NULL;
}

static uint8_t *bytes_of(evidence *e, cmif_item_kind kind) /* of a capture, to change them */
{
    const cmif_item *it = find_item(e, kind);
    for (size_t i = 0; i < e->file_count; i++) {
        if (e->file[i].data == it->data) {
            return e->file[i].data;
        }
    }
    return NULL;
}

static void tee_that_hashes_the_ak_is_judged_in_full(void)
{
    cmif_verdict v;
    for (int tdx = 0; tdx < 2; tdx++) {
        evidence *e = open_case(tdx ? "tpm/azure-tdx-vtpm-ak-chain" : "tpm/azure-snp-milan-vtpm");
        judge(e, &v);
        CHECK(v.outcome == CMIF_ACCEPTED);

        cmif_measured *m = &e->measured[e->policy.measured_count - 1]; /* of the TEE */
        m->value[0] ^= 1;
        judge(e, &v);
        CHECK(only(&v, tdx ? "measurement-mrtd" : "measurement-measurement", NULL));
        m->value[0] ^= 1;
        e->policy.measured_count--; /* a TEE that nobody measures could be anyone's */
        judge(e, &v);
        CHECK(only(&v, "no-measurement-policy", NULL));
        e->policy.measured_count++;

        uint8_t *hcl = bytes_of(e, CMIF_ITEM_HCL);
        char    *at  = strstr((char *) hcl + 1236, "secure-boot\":true");
        CHECK(at != NULL);
        memcpy(at, "secure-boot\":fals", 17); /* as JSON it is broken */
        judge(e, &v);
        CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "hcl-report"));
        memcpy(at, "Secure-boot\":true", 17); /* as JSON it is good, and it is not what the TEE has hashed */
        judge(e, &v);
        CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "hcl-binding"));
        memcpy(at, "secure-boot\":true", 17);

        hcl[1228] = 2; /* claims hashed with SHA-384, it says */
        judge(e, &v);
        CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "hcl-binding"));
        hcl[1228] = 1;
        hcl[1224] = tdx ? CMIF_HCL_SNP : CMIF_HCL_TDX;
        judge(e, &v);
        CHECK(v.outcome != CMIF_ACCEPTED);
        hcl[1224] = tdx ? CMIF_HCL_TDX : CMIF_HCL_SNP;

        find_item(e, CMIF_ITEM_HCL)->kind =
            CMIF_ITEM_CRL + 100; /* left out: the policy measures a TEE that is not there */
        judge(e, &v);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, tdx ? "no-tee" : "no-ak"));
        close_case(e);
    }
    evidence *e                         = open_case("tpm/azure-tdx-vtpm-ak-chain");
    find_item(e, CMIF_ITEM_QUOTE)->kind = CMIF_ITEM_CRL + 100;
    judge(e, &v);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "no-td-quote") && case_has_reason(&v, "no-tee"));
    close_case(e);
}

/* RFC 4648, section 5 */
static size_t base64url_make(const uint8_t *bytes, size_t size, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t            n        = 0;
    uint32_t          bits     = 0;
    unsigned          have     = 0;
    for (size_t i = 0; i < size; i++) {
        bits = bits << 8 | bytes[i];
        for (have += 8; have >= 6;) {
            have -= 6;
            out[n++] = digits[bits >> have & 63];
        }
    }
    if (have) {
        out[n++] = digits[bits << (6 - have) & 63];
    }
    out[n] = '\0';
    return n;
}

/* What a made paravisor says; a test changes one thing. */
typedef struct hcl_plan {
    unsigned  hash;         /* 1, 2, 3 */
    EVP_PKEY *ak;           /* in the claims */
    uint8_t   after;        /* the byte of REPORTDATA after the hash */
    bool      twice;        /* two keys "HCLAkPub" */
    uint64_t  guest_policy; /* of the SNP report */
    unsigned  vmpl;
    bool      no_measure;
} hcl_plan;

static cmif_verdict judge_with_hcl(const hcl_plan *p)
{
    static uint8_t blob[4096];
    world         *w    = rsa_world();
    leaf_plan      plan = plan_for(MILAN);
    X509          *leaf = leaf_make(&plan);
    X509_CRL      *crl  = crl_make(&pki.ark[MILAN], pki.ark[MILAN].key, 0, now - 10, now + 10);
    BIGNUM        *n    = NULL;
    uint8_t        number[512], digest[64] = {0};
    char           text[700], claims[2048];
    CHECK(EVP_PKEY_get_bn_param(p->ak, OSSL_PKEY_PARAM_RSA_N, &n) == 1);
    base64url_make(number, (size_t) BN_bn2bin(n, number), text);
    BN_free(n);
    int size = snprintf(
        claims, sizeof claims,
        "{\"keys\":[%s{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"%s\"}],\"user-data\":\"00\"}",
        p->twice ? "{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AQAB\"}," : "", text);
    static const char *const names[] = {"", "sha256", "sha384", "sha512"};
    static const size_t      sizes[] = {0, 32, 48, 64};
    CHECK(EVP_Digest(claims, (size_t) size, digest, NULL, EVP_get_digestbyname(names[p->hash]), NULL) == 1);
    memset(blob, 0, sizeof blob);
    memcpy(blob, "HCLA", 4);
    put(blob, 4, 2, 4);
    put(blob, 8, 1216 + 20 + (uint64_t) size, 4);
    report_make(&plan, 3, blob + 32);
    memset(blob + 32 + 0x50, 0, 64);
    memcpy(blob + 32 + 0x50, digest, sizes[p->hash]);
    if (sizes[p->hash] < 64) {
        blob[32 + 0x50 + sizes[p->hash]] = p->after;
    }
    put(blob + 32, 8, p->guest_policy, 8);
    put(blob + 32, 0x30, p->vmpl, 4);
    report_sign(blob + 32, pki.leaf_key);
    put(blob, 1216, 20 + (uint64_t) size, 4);
    put(blob, 1220, 1, 4);
    put(blob, 1224, CMIF_HCL_SNP, 4);
    put(blob, 1228, p->hash, 4);
    put(blob, 1232, (uint64_t) size, 4);
    memcpy(blob + 1236, claims, (size_t) size);

    uint8_t *der[4]    = {0};
    int      leaf_size = i2d_X509(leaf, &der[0]), ask_size = i2d_X509(pki.ask[MILAN].certificate, &der[1]),
        ark_size = i2d_X509(pki.ark[MILAN].certificate, &der[2]), crl_size = i2d_X509_CRL(crl, &der[3]);
    cmif_item root           = {CMIF_ITEM_CERTIFICATES, der[2], (size_t) ark_size};
    w->more[w->more_count++] = (cmif_item){CMIF_ITEM_HCL, blob, 1236 + (size_t) size};
    w->more[w->more_count++] = (cmif_item){CMIF_ITEM_CERTIFICATES, der[0], (size_t) leaf_size};
    w->more[w->more_count++] = (cmif_item){CMIF_ITEM_CERTIFICATES, der[1], (size_t) ask_size};
    w->more[w->more_count++] = (cmif_item){CMIF_ITEM_CRL, der[3], (size_t) crl_size};
    if (!p->no_measure) {
        cmif_measured *m = &w->measured[w->policy.measured_count++];
        *m               = (cmif_measured){.tee = CMIF_TEE_SNP, .name = "measurement", .size = 48};
        memset(m->value, 0x22, 48);
    }
    w->policy.roots              = &root;
    w->policy.root_count         = 1;
    w->policy.ak_pin_count       = 0;
    w->policy.loosened.ak_pinned = false;
    cmif_verdict v               = world_judge(w);
    for (size_t i = 0; i < 4; i++) {
        OPENSSL_free(der[i]);
    }
    X509_free(leaf);
    X509_CRL_free(crl);
    return v;
}

static void made_paravisor_is_believed_only_as_the_report_hashes_it(void)
{
    const hcl_plan good = {.hash = 1, .ak = rsa, .guest_policy = 0x3001f};
    for (unsigned hash = 1; hash <= 3; hash++) {
        hcl_plan p     = good;
        p.hash         = hash;
        cmif_verdict v = judge_with_hcl(&p);
        CHECK(v.outcome == CMIF_ACCEPTED && v.unchecked_count == 0 &&
              !strcmp(cmif_verdict_field(&v, "ak_trust"), "tee "));
    }
    static const struct {
        const char *reason, *error;
        hcl_plan    plan;
    } bad[] = {{"invalid-evidence", "hcl-binding", {.hash = 1, .guest_policy = 0x3001f, .after = 1}},
               {"invalid-evidence", "hcl-binding", {.hash = 2, .guest_policy = 0x3001f, .after = 1}},
               {"debug", NULL, {.hash = 1, .guest_policy = 0xb001f}},
               {"vmpl", NULL, {.hash = 1, .guest_policy = 0x3001f, .vmpl = 1}},
               {"no-measurement-policy", NULL, {.hash = 1, .guest_policy = 0x3001f, .no_measure = true}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hcl_plan p     = bad[i].plan;
        p.ak           = rsa;
        cmif_verdict v = judge_with_hcl(&p);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, bad[i].reason) &&
              (!bad[i].error || case_has_error(&v, bad[i].error)));
    }
    hcl_plan p     = good; /* a genuine report, of the key of another */
    p.ak           = other;
    cmif_verdict v = judge_with_hcl(&p);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "ak-not-of-hcl"));
    p       = good;
    p.twice = true;
    v       = judge_with_hcl(&p);
    CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "hcl-report"));
}

/* The TPM's own key beside another's TEE: the quote is good, the report is good, and they have nothing to do with each
 * other. */
static void ak_that_the_tee_does_not_hash_is_refused(void)
{
    evidence    *e = open_case("tpm/azure-snp-milan-vtpm"), *of_other = open_case("tpm/generic-tpm-trustee");
    cmif_verdict v;
    *find_item(e, CMIF_ITEM_TPM_ATTEST)    = *find_item(of_other, CMIF_ITEM_TPM_ATTEST);
    *find_item(e, CMIF_ITEM_TPM_SIGNATURE) = *find_item(of_other, CMIF_ITEM_TPM_SIGNATURE);
    *find_item(e, CMIF_ITEM_TPM_PCRS)      = *find_item(of_other, CMIF_ITEM_TPM_PCRS);
    judge(e, &v);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "quote-signature"));
    e->items[e->count++] = *find_item(of_other, CMIF_ITEM_TPM_AK);
    judge(e, &v);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "ak-not-of-hcl") && !case_has_error(&v, "quote-signature"));
    close_case(e);
    close_case(of_other);
    world    *w              = rsa_world(); /* an SNP report on its own, beside a quote */
    case_file report         = case_read("snp/milan-v3-vcek", "report.bin");
    w->more[w->more_count++] = (cmif_item){CMIF_ITEM_SNP_REPORT, report.data, report.size};
    ONLY(w, "invalid-evidence", "tee-unused");
    w                                       = rsa_world(); /* a policy that wants the TPM inside a TEE */
    w->measured[w->policy.measured_count++] = (cmif_measured){.tee = CMIF_TEE_SNP, .name = "measurement", .size = 48};
    ONLY(w, "no-tee", NULL);
    free(report.data);
}

/* ---- the key that the AK certifies ---- */
static void certified_key_is_the_one_named(void)
{
    evidence    *e = open_case("tpm/parsec-ecdsa-quote");
    cmif_verdict v;
    judge(e, &v);
    CHECK(v.outcome == CMIF_ACCEPTED && cmif_verdict_field(&v, "certified_spki"));
    uint8_t *key = bytes_of(e, CMIF_ITEM_TPM_KEY);
    key[87] ^= 1; /* another point, not on the curve; its Name is another already */
    judge(e, &v);
    CHECK(only(&v, "invalid-evidence", "certified-name"));
    key[87] ^= 1;
    uint8_t *signature = NULL;
    for (size_t i = 0, seen = 0; i < e->count; i++) {
        if (e->items[i].kind == CMIF_ITEM_TPM_SIGNATURE && seen++ == 1) {
            signature = (uint8_t *) (uintptr_t) e->items[i].data;
        }
    }
    signature[71] ^= 1;
    judge(e, &v);
    CHECK(only(&v, "invalid-evidence", "certify-signature"));
    signature[71] ^= 1;
    find_item(e, CMIF_ITEM_TPM_KEY)->kind = CMIF_ITEM_CRL + 100;
    judge(e, &v);
    CHECK(only(&v, "invalid-evidence", "certified-key-missing"));
    close_case(e);
    e                = open_case("tpm/parsec-ecdsa-quote");
    e->items[0].kind = e->items[1].kind = CMIF_ITEM_CRL + 100; /* the certification without the quote */
    judge(e, &v);
    CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "tpm-items"));
    close_case(e);
    e                    = open_case("tpm/parsec-ecdsa-quote");
    e->items[e->count++] = e->items[0]; /* the quote twice */
    e->items[e->count++] = e->items[1];
    judge(e, &v);
    CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "tpm-items"));
    close_case(e);
}

/* ---- PCR values ---- */
static void three_forms_of_pcr_values_read_the_same(void)
{
    evidence    *e           = open_case("tpm/swtpm-rsa-ak");
    case_file   *json        = load(e, "tpm/swtpm-rsa-ak", "pcrs.json");
    uint8_t      raw[9 * 32] = {0};
    cmif_verdict v;
    for (unsigned i = 0; i < 9; i++) {
        memcpy(raw + 32 * i, e->measured[i].value, 32);
    }
    cmif_item *values = find_item(e, CMIF_ITEM_TPM_PCRS);
    *values           = (cmif_item){CMIF_ITEM_TPM_PCRS, json->data, json->size};
    judge(e, &v);
    CHECK(v.outcome == CMIF_ACCEPTED);
    *values = (cmif_item){CMIF_ITEM_TPM_PCRS, raw, sizeof raw};
    judge(e, &v);
    CHECK(v.outcome == CMIF_ACCEPTED);
    raw[0] ^= 1;
    judge(e, &v);
    CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "pcr-digest"));
    close_case(e);
}

/* A quote whose values are given by the log of the boot alone. */
static void event_log_can_give_the_values(void)
{
    case_file log = case_read("eventlog", "arch-linux-workstation.bin");
    static const char
        *const pcr0 = "758b773d94feabf52ef5a4c00a7ad2c80d8d6e6d9d58756150be9bc973da9087", /* eventlog_test has them from
                                                                                             another program */
        *const pcr7 = "3b4a4db44b7a872524055364e62"
                      "e897ae678e0d47ab0809f65c3a4"
                      "ed77f66ab9";
    for (int changed = 0; changed < 2; changed++) {
        world *w = rsa_world();
        w->mask  = 0x81;
        CHECK(cmif_unhex(pcr0, 32, w->values[0]) && cmif_unhex(pcr7, 32, w->values[7]));
        w->policy.measured_count = 2;
        w->measured[1]           = w->measured[7];
        memcpy(w->measured[0].value, w->values[0], 32);
        memcpy(w->measured[1].value, w->values[7], 32);
        w->values[7][0] ^= (uint8_t) changed;
        w->no_values             = true;
        w->more[w->more_count++] = (cmif_item){CMIF_ITEM_EVENT_LOG, log.data, log.size};
        cmif_verdict v           = world_judge(w);
        if (changed) {
            CHECK(v.outcome == CMIF_REJECTED && case_has_error(&v, "pcr-digest") && case_has_reason(&v, "event-log"));
        } else {
            CHECK(v.outcome == CMIF_ACCEPTED && cmif_verdict_field(&v, "log_events"));
        }
    }
    free(log.data);
}

/* ---- credential activation ---- */

/* What the TPM does with a credential, from Part 1 section 24 and with the EK's private key: true, and the secret, when
 * it opens for this Name. */
static bool activate(EVP_PKEY *ek, const uint8_t *blob, size_t size, const uint8_t name[34], uint8_t secret[32])
{
    uint8_t       seed[512], block[128], storage[32], integrity[32], mac[32], plain[34] = {0};
    size_t        seed_size = sizeof seed;
    const uint8_t iv[16]    = {0};
    int           n         = 0;
    EVP_PKEY_CTX *pctx      = EVP_PKEY_CTX_new(ek, NULL);
    bool good = size == 8 + 2 + 68 + 2 + 256 && blob[9] == 68 && blob[11] == 32 && blob[78] == 1 && blob[79] == 0 &&
                EVP_PKEY_decrypt_init(pctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
                EVP_PKEY_CTX_set_rsa_oaep_md(pctx, EVP_sha256()) == 1 &&
                EVP_PKEY_CTX_set_rsa_mgf1_md(pctx, EVP_sha256()) == 1 &&
                EVP_PKEY_CTX_set0_rsa_oaep_label(pctx, OPENSSL_strdup("IDENTITY"), 9) == 1 &&
                EVP_PKEY_decrypt(pctx, seed, &seed_size, blob + 80, 256) == 1 && seed_size == 32;
    EVP_PKEY_CTX_free(pctx);
    if (!good) {
        return false;
    }
    memcpy(block, "\0\0\0\1STORAGE", 12); /* its zero included */
    memcpy(block + 12, name, 34);
    memcpy(block + 46, "\0\0\0\200", 4);
    HMAC(EVP_sha256(), seed, 32, block, 50, storage, NULL);
    memcpy(block, "\0\0\0\1INTEGRITY", 14);
    memcpy(block + 14, "\0\0\1\0", 4);
    HMAC(EVP_sha256(), seed, 32, block, 18, integrity, NULL);
    memcpy(block, blob + 44, 34);
    memcpy(block + 34, name, 34);
    HMAC(EVP_sha256(), integrity, 32, block, 68, mac, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    good = !memcmp(mac, blob + 12, 32) && EVP_DecryptInit_ex(ctx, EVP_aes_128_cfb128(), NULL, storage, iv) == 1 &&
           EVP_DecryptUpdate(ctx, plain, &n, blob + 44, 34) == 1 && n == 34 && plain[0] == 0 && plain[1] == 32;
    EVP_CIPHER_CTX_free(ctx);
    memcpy(secret, plain + 2, 32);
    return good;
}

static void credential_opens_for_the_ak_of_that_tpm_alone(void)
{
    uint8_t ek[1024], ak[1024], blob[CMIF_TPM_CREDENTIAL_MAX], again[CMIF_TPM_CREDENTIAL_MAX], secret[32], got[32],
        name[34], seed[32] = {9};
    size_t ek_size = public_make(decrypter, EK_ATTRIBUTES, CMIF_TPM_NULL, 0, true, ek, sizeof ek), size = 0,
           again_size = 0;
    size_t   ak_size  = public_make(rsa, AK_ATTRIBUTES, CMIF_TPM_RSASSA, CMIF_TPM_SHA256, false, ak, sizeof ak);
    cmif_err err      = {0};
    memset(secret, 0x5a, sizeof secret);
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, NULL, blob, &size, name, &err) == CMIF_OK);
    CHECK(activate(decrypter, blob, size, name, got) && !memcmp(got, secret, 32));
    CHECK(!activate(other, blob, size, name, got)); /* another TPM */
    name[33] ^= 1;
    CHECK(!activate(decrypter, blob, size, name, got)); /* another AK */
    name[33] ^= 1;
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, NULL, again, &again_size, name, &err) == CMIF_OK &&
          memcmp(blob, again, size) != 0);
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, seed, blob, &size, name, &err) == CMIF_OK &&
          cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, seed, again, &again_size, name, &err) == CMIF_OK &&
          !memcmp(blob, again, 78));

    ak_size = public_make(rsa, AK_ATTRIBUTES & ~(uint32_t) CMIF_TPMA_RESTRICTED, CMIF_TPM_RSASSA, CMIF_TPM_SHA256,
                          false, ak, sizeof ak);
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, NULL, blob, &size, name, &err) == CMIF_E_TRUST);
    ak_size = public_make(rsa, AK_ATTRIBUTES, CMIF_TPM_RSASSA, CMIF_TPM_SHA256, false, ak, sizeof ak);
    ek_size =
        public_make(decrypter, EK_ATTRIBUTES & ~(uint32_t) CMIF_TPMA_RESTRICTED, CMIF_TPM_NULL, 0, true, ek, sizeof ek);
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, NULL, blob, &size, name, &err) == CMIF_E_TRUST);
    ek_size =
        public_make(decrypter, EK_ATTRIBUTES, CMIF_TPM_NULL, 0, false, ek, sizeof ek); /* no symmetric algorithm */
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak, ak_size, secret, NULL, blob, &size, name, &err) ==
          CMIF_E_UNSUPPORTED);
}

/* The challenge of the capture, which a TPM did open: ours is of the same shape and for the same Name. */
static void credential_has_the_shape_of_the_captured_one(void)
{
    const char *folder = "tpm/swtpm-rsa-ak";
    case_file   ek = case_read(folder, "ek.pub"), ak = case_read(folder, "ak.pub"),
              golden = case_read(folder, "credential.blob"), secret = case_read(folder, "credential.secret"),
              ak_name = case_read(folder, "ak.name");
    uint8_t  blob[CMIF_TPM_CREDENTIAL_MAX], name[34];
    size_t   size = 0;
    cmif_err err  = {0};
    CHECK(secret.size == 32 && cmif_tpm_make_credential(ek.data, ek.size, ak.data, ak.size, secret.data, NULL, blob,
                                                        &size, name, &err) == CMIF_OK);
    CHECK(size == golden.size && !memcmp(blob, golden.data, 12) && !memcmp(blob + 78, golden.data + 78, 2));
    CHECK(ak_name.size == 34 && !memcmp(name, ak_name.data, 34));
    case_file files[] = {ek, ak, golden, secret, ak_name};
    for (size_t i = 0; i < 5; i++) {
        free(files[i].data);
    }
}

static void endorsement_key_needs_its_certificate(void)
{
    const char *folder = "tpm/swtpm-rsa-ak";
    case_file   ek = case_read(folder, "ek.pub"), ak = case_read(folder, "ak.pub"),
              cert = case_read(folder, "ek_cert.der"), issuer = case_read(folder, "ca_issuer.pem"),
              root             = case_read(folder, "ca_root.pem");
    cmif_item          items[] = {{CMIF_ITEM_CERTIFICATES, cert.data, cert.size},
                                  {CMIF_ITEM_CERTIFICATES, issuer.data, issuer.size}};
    cmif_item          roots[] = {{CMIF_ITEM_CERTIFICATES, root.data, root.size}};
    cmif_attest_policy policy;
    cmif_err           err = {0};
    const int64_t      at  = 1800000000; /* 2027-01-15: the capture's own CA began in November 2026 */
    cmif_attest_policy_init(&policy);
    policy.roots      = roots;
    policy.root_count = 1;
    CHECK(cmif_tpm_ek_check(ek.data, ek.size, items, 2, &policy, at, &err) ==
          CMIF_E_TRUST); /* revocation is not known */
    policy.loosened.no_crl = true;
    CHECK(cmif_tpm_ek_check(ek.data, ek.size, items, 2, &policy, at, &err) == CMIF_OK);
    CHECK(cmif_tpm_ek_check(ak.data, ak.size, items, 2, &policy, at, &err) == CMIF_E_TRUST); /* of another key */
    CHECK(cmif_tpm_ek_check(ek.data, ek.size, items, 1, &policy, at, &err) == CMIF_E_TRUST); /* no path */
    CHECK(cmif_tpm_ek_check(ek.data, ek.size, items, 2, &policy, 1700000000, &err) == CMIF_E_TRUST);
    policy.roots      = NULL; /* swtpm's own CA is no TPM maker */
    policy.root_count = 0;
    CHECK(cmif_tpm_ek_check(ek.data, ek.size, items, 2, &policy, at, &err) == CMIF_E_TRUST);
    case_file files[] = {ek, ak, cert, issuer, root};
    for (size_t i = 0; i < 5; i++) {
        free(files[i].data);
    }
}

/* Google's certificates of EKs have no extended usage: for encryption alone, they are EKs'; a signing key's is not,
 * whatever it says of itself. */
static void certificate_of_a_signing_key_is_no_eks(void)
{
    static const struct {
        const char *key_usage, *usage;
        cmif_code   rc;
    } all[] = {{"critical,keyEncipherment", NULL, CMIF_OK},
               {"critical,keyEncipherment", "2.23.133.8.1", CMIF_OK},
               {NULL, "2.23.133.8.1", CMIF_OK},
               {NULL, NULL, CMIF_E_TRUST},
               {"critical,digitalSignature", NULL, CMIF_E_TRUST},
               {"critical,digitalSignature", "2.23.133.8.1", CMIF_E_TRUST},
               {"critical,digitalSignature,keyEncipherment", NULL, CMIF_E_TRUST},
               {"critical,keyEncipherment", "serverAuth", CMIF_E_TRUST}};
    uint8_t ek[1024];
    size_t  ek_size = public_make(decrypter, EK_ATTRIBUTES, CMIF_TPM_NULL, 0, true, ek, sizeof ek);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t *root_der = NULL, *leaf_der = NULL;
        X509    *root = certificate("TPM Root", "TPM Root", ca_key, 1, now - 1000, now + 1000);
        X509    *leaf = certificate("EK", "TPM Root", decrypter, 7, now - 10, now + 10);
        extend(root, NID_basic_constraints, "critical,CA:TRUE");
        CHECK(X509_sign(root, ca_key, EVP_sha256()) > 0);
        extend(leaf, NID_basic_constraints, "critical,CA:FALSE");
        extend(leaf, NID_key_usage, all[i].key_usage);
        extend(leaf, NID_ext_key_usage, all[i].usage);
        CHECK(X509_sign(leaf, ca_key, EVP_sha256()) > 0);
        int       root_size = i2d_X509(root, &root_der), leaf_size = i2d_X509(leaf, &leaf_der);
        cmif_item its   = {CMIF_ITEM_CERTIFICATES, leaf_der, (size_t) leaf_size},
                  roots = {CMIF_ITEM_CERTIFICATES, root_der, (size_t) root_size};
        cmif_attest_policy policy;
        cmif_err           err = {0};
        cmif_attest_policy_init(&policy);
        policy.roots           = &roots;
        policy.root_count      = 1;
        policy.loosened.no_crl = true;
        CHECK(cmif_tpm_ek_check(ek, ek_size, &its, 1, &policy, now, &err) == all[i].rc);
        X509_free(root);
        X509_free(leaf);
        OPENSSL_free(root_der);
        OPENSSL_free(leaf_der);
    }
}

/* ---- every byte ---- */

/* Bytes that carry no meaning: the header of the HCL blob but magic, version and size (nothing signs it and nothing is
 * read from it), the version of the claims' header, how many zeros follow the claims, and the line end after JSON. (A
 * PEM may be spelled in another way; then it is the same certificate.) */
static bool meaningless(const cmif_item *it, size_t at, bool cut, const uint8_t *was, size_t was_size)
{
    bool filler = cut;
    for (size_t i = at; i < was_size; i++) {
        filler = filler && was[i] == (it->kind == CMIF_ITEM_HCL ? 0 : '\n');
    }
    return (it->kind == CMIF_ITEM_HCL && (filler || (!cut && ((at >= 12 && at < 32) || (at >= 1220 && at < 1224))))) ||
           (it->kind == CMIF_ITEM_TPM_PCRS && filler);
}

static bool same_certificate(const cmif_item *it, const uint8_t *was, size_t was_size)
{
    X509 *c[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        BIO *bio = BIO_new_mem_buf(i ? was : it->data, (int) (i ? was_size : it->size));
        c[i]     = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        BIO_free(bio);
    }
    bool same = it->kind == CMIF_ITEM_CERTIFICATES && c[0] && c[1] && !X509_cmp(c[0], c[1]);
    X509_free(c[0]);
    X509_free(c[1]);
    return same;
}

static void no_flip_and_no_truncation_is_accepted(void)
{
    static const char *const names[] = {"tpm/swtpm-rsa-ak", "tpm/azure-snp-milan-vtpm"};
    for (size_t n = 0; n < 2; n++) {
        evidence    *e = open_case(names[n]);
        cmif_verdict v;
        unsigned     tried = 0, refused = 0, header = 0, spelling = 0;
        for (size_t i = 0; i < e->count; i++) {
            cmif_item *it   = &e->items[i];
            uint8_t   *data = bytes_of(e, it->kind), *was = malloc(it->size);
            size_t     size = it->size;
            memcpy(was, data, size);
            for (size_t at = 0; at < size; at += full ? 1 : 29) {
                static const uint8_t flips[] = {1, 0x80, 0xff, 0}; /* 0: cut off here */
                for (size_t k = 0; k < sizeof flips; k++) {
                    data[at] ^= flips[k];
                    it->size = flips[k] ? size : at;
                    judge(e, &v);
                    tried++;
                    if (v.outcome != CMIF_ACCEPTED) {
                        refused++;
                    } else if (meaningless(it, at, flips[k] == 0, was, size)) {
                        header++;
                    } else if (same_certificate(it, was, size)) {
                        spelling++;
                    } else {
                        fprintf(stderr, "%s: item %zu, offset %zu, flip %02x is accepted\n", names[n], i, at, flips[k]);
                    }
                    data[at] = was[at];
                }
            }
            it->size = size;
            free(was);
        }
        printf("    %s: %u flips and truncations: %u refused, %u in unread bytes of the HCL header or filler at the "
               "end, %u another spelling of the same PEM\n",
               names[n], tried, refused, header, spelling);
        CHECK(tried == refused + header + spelling && refused > 200);
        close_case(e);
    }
}

/* attest_tpm_fuzz.c has the form. */
static void write_seeds(const char *folder)
{
    static const cmif_item_kind kinds[] = {
        CMIF_ITEM_TPM_ATTEST, CMIF_ITEM_TPM_SIGNATURE, CMIF_ITEM_TPM_PCRS,     CMIF_ITEM_TPM_AK,    CMIF_ITEM_HCL,
        CMIF_ITEM_TPM_KEY,    CMIF_ITEM_EVENT_LOG,     CMIF_ITEM_CERTIFICATES, CMIF_ITEM_SNP_TABLE, CMIF_ITEM_QUOTE};
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        static uint8_t seed[1 << 16];
        cmif_writer    w = cmif_writer_over(seed, sizeof seed);
        evidence      *e = open_case(captures[i]);
        cmif_write_u8(&w, 0);
        for (size_t k = 0; k < e->count; k++) {
            for (uint8_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
                if (kinds[kind] == e->items[k].kind) {
                    seed[0]++;
                    cmif_write_u8(&w, kind);
                    cmif_write_u16(&w, (uint16_t) e->items[k].size);
                    cmif_write_bytes(&w, e->items[k].data, e->items[k].size);
                }
            }
        }
        CHECK(!w.failed);
        case_seed(folder, captures[i], seed, w.at);
        close_case(e);
    }
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "seeds")) {
        write_seeds(argv[2]);
        return check_failed_here;
    }
    full      = argc > 1 && !strcmp(argv[1], "full");
    rsa       = EVP_RSA_gen(2048);
    other     = EVP_RSA_gen(2048);
    ca_key    = EVP_RSA_gen(2048);
    decrypter = EVP_RSA_gen(2048);
    p256      = EVP_EC_gen("P-256");
    p384      = EVP_EC_gen("P-384");
    pki_make();
    RUN(good_quotes_of_every_scheme_are_accepted);
    RUN(magic_and_type_are_a_tpms);
    RUN(nonce_is_exact);
    RUN(pcr_values_must_hash_to_the_digest_and_be_those_of_the_policy);
    RUN(selection_is_exactly_what_was_asked_for);
    RUN(sha1_is_refused);
    RUN(ak_must_be_a_restricted_signing_key_of_the_tpm);
    RUN(signature_is_of_this_key_and_of_its_scheme);
    RUN(unproved_ak_is_refused);
    RUN(activated_ak_is_known_by_its_name);
    RUN(certified_ak_needs_a_good_path_and_the_right_usage);
    RUN(credential_opens_for_the_ak_of_that_tpm_alone);
    RUN(certificate_of_a_signing_key_is_no_eks);
    RUN(made_paravisor_is_believed_only_as_the_report_hashes_it);
    if (cases_absent()) {
        printf("the captures (shared/attestation) are not beside the repository: their tests were left out\n");
    } else {
        RUN(captures_are_judged_as_expected);
        RUN(tee_that_hashes_the_ak_is_judged_in_full);
        RUN(ak_that_the_tee_does_not_hash_is_refused);
        RUN(certified_key_is_the_one_named);
        RUN(three_forms_of_pcr_values_read_the_same);
        RUN(event_log_can_give_the_values);
        RUN(credential_has_the_shape_of_the_captured_one);
        RUN(endorsement_key_needs_its_certificate);
        RUN(no_flip_and_no_truncation_is_accepted);
    }
    pki_free();
    EVP_PKEY *keys[] = {rsa, other, ca_key, decrypter, p256, p384};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        EVP_PKEY_free(keys[i]);
    }
    return check_report();
}
