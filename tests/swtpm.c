/* swtpm TCTI COMMAND ... - what swtpm_test.py needs of our own code, on a TPM of the test's own.
 *
 *   make PCRS NONCE FILE            evidence over a nonce of 64 bytes, as a bundle
 *   activate BUNDLE NONCE ROOT CA   a verifier's challenge for the key of that bundle, answered by the TPM; then the
 * verdict, with and without it open CREDENTIAL SECRET          open a credential of somebody else (a file), and compare
 *
 * EXTEND=n in the environment: PCR 16 is extended right before each of the first n quotes. FAIL=n: the TPM refuses the
 * n-th command, flushes not counted. */
#include "attest/tpm.h"
#include "base/bytes.h"
#include "base/check.h"
#include "evidence/evidence.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <time.h>
#ifdef CMIF_TSS2
#include <tss2/tss2_tcti.h>

/* ---- between the maker and the TPM ---- */

enum { QUOTE = 0x158, FLUSH = 0x165 };
static TSS2_TCTI_TRANSMIT_FCN transmit;
static long                   extend_left, fail_at;

static void extend(TSS2_TCTI_CONTEXT *tcti)
{
    static const uint8_t command[65] = {0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 16, 0, 0,   0,
                                        9,    0x40, 0, 0, 9, 0,  0, 0, 0,    0,    0, 0, 0, 1,  0, 0x0b};
    uint8_t              answer[1024];
    size_t               size = sizeof answer;
    if (transmit(tcti, sizeof command, command) || Tss2_Tcti_Receive(tcti, &size, answer, TSS2_TCTI_TIMEOUT_BLOCK) ||
        answer[9]) {
        fprintf(stderr, "PCR 16 could not be extended\n");
        abort();
    }
}

static TSS2_RC transmit_or_not(TSS2_TCTI_CONTEXT *tcti, size_t size, const uint8_t *command)
{
    uint8_t        changed[4096];
    const unsigned code = (unsigned) (command[8] << 8 | command[9]);
    if (code == QUOTE && extend_left > 0) {
        extend_left--;
        extend(tcti);
    }
    if (code != FLUSH && fail_at && --fail_at == 0 && size <= sizeof changed) {
        memcpy(changed, command, size);
        changed[9] = changed[8] = 0xff; /* there is no such command */
        command                 = changed;
    }
    return transmit(tcti, size, command);
}

TSS2_RC __real_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **tcti);
TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **tcti);
TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char *name, TSS2_TCTI_CONTEXT **tcti)
{
    TSS2_RC rc = __real_Tss2_TctiLdr_Initialize(name, tcti);
    if (!rc) {
        transmit                  = TSS2_TCTI_TRANSMIT(*tcti);
        TSS2_TCTI_TRANSMIT(*tcti) = transmit_or_not;
    }
    return rc;
}
#else
static long extend_left, fail_at;
#endif

/* ---- files ---- */

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE    *f     = fopen(path, "rb");
    uint8_t *bytes = malloc(CMIF_EVIDENCE_SIZE_MAX);
    *size          = f && bytes ? fread(bytes, 1, CMIF_EVIDENCE_SIZE_MAX, f) : 0;
    if (!*size) {
        fprintf(stderr, "cannot read '%s'\n", path);
        exit(1);
    }
    fclose(f);
    return bytes;
}

static int say(const cmif_err *err, cmif_code rc)
{
    fprintf(stderr, "%s: %s\n", cmif_code_name(rc), err->text);
    return rc == CMIF_E_UNSUPPORTED ? check_skip(err->text) : 1;
}

static int make(cmif_maker *maker, const uint8_t *nonce, const char *path)
{
    cmif_evidence   e   = {0};
    cmif_err        err = {0};
    const cmif_code rc  = cmif_maker_make(maker, nonce, &e, &err);
    FILE           *f   = rc == CMIF_OK ? fopen(path, "wb") : NULL;
    const bool      put = f && fwrite(e.bytes, 1, e.size, f) == e.size && fclose(f) == 0;
    cmif_evidence_free(&e);
    return rc != CMIF_OK ? say(&err, rc) : !put;
}

/* ---- a verifier that trusts a CA of TPMs, and nobody's word ---- */

static cmif_item items[16];
static size_t    count;

static const cmif_item *item_of(cmif_item_kind kind)
{
    for (size_t i = 0; i < count; i++) {
        if (items[i].kind == kind) {
            return &items[i];
        }
    }
    fprintf(stderr, "the evidence has no item of kind %d\n", (int) kind);
    exit(1);
}

static bool has_reason(const cmif_verdict *v, const char *reason)
{
    for (size_t i = 0; i < v->reason_count; i++) {
        if (!strcmp(v->reasons[i], reason)) {
            return true;
        }
    }
    return false;
}

static int activate(cmif_maker *maker, const uint8_t *nonce, const char *bundle, const char *root, const char *ca)
{
    static cmif_verdict v;
    cmif_evidence_item  read[14];
    size_t              size, ek_size = 0, blob_size = 0;
    uint8_t  ek[CMIF_MAKER_KEY_SIZE_MAX], blob[CMIF_TPM_CREDENTIAL_MAX], secret[32], opened[32] = {0}, name[34];
    uint8_t *bytes = read_file(bundle, &size);
    cmif_err err   = {0};
    count          = 14;
    CHECK(cmif_evidence_read(bytes, size, read, &count, &err) == CMIF_OK);
    for (size_t i = 0; i < count; i++) {
        items[i] = (cmif_item){.kind = (cmif_item_kind) read[i].kind, .data = read[i].data, .size = read[i].size};
    }
    cmif_item root_item = {.kind = CMIF_ITEM_CERTIFICATES}, ca_item = {.kind = CMIF_ITEM_CERTIFICATES};
    root_item.data        = read_file(root, &root_item.size);
    ca_item.data          = read_file(ca, &ca_item.size);
    const cmif_item   *ak = item_of(CMIF_ITEM_TPM_AK), certificates[] = {*item_of(CMIF_ITEM_CERTIFICATES), ca_item};
    cmif_attest_policy policy;
    cmif_attest_policy_init(&policy);
    policy.tees                     = 1u << CMIF_TEE_TPM;
    policy.roots                    = &root_item;
    policy.root_count               = 1;
    policy.report_data              = nonce;
    policy.report_data_size         = 64;
    policy.pcr_mask                 = 0xff;
    policy.loosened.any_measurement = policy.loosened.no_crl =
        true; /* swtpm's CA has no right to sign CRLs; swtpm_test.py measures */

    /* the endorsement key is of a TPM that the CA vouches for; without its root, or its certificate, it is not */
    cmif_code rc = cmif_maker_endorsement(maker, ek, &ek_size, &err);
    if (rc != CMIF_OK) {
        return say(&err, rc);
    }
    CHECK(cmif_tpm_ek_check(ek, ek_size, certificates, 2, &policy, time(NULL), &err) == CMIF_OK);
    CHECK(cmif_tpm_ek_check(ek, ek_size, &ca_item, 1, &policy, time(NULL), &err) == CMIF_E_TRUST);
    policy.root_count = 0;
    CHECK(cmif_tpm_ek_check(ek, ek_size, certificates, 2, &policy, time(NULL), &err) == CMIF_E_TRUST);
    policy.root_count      = 1;
    policy.loosened.no_crl = false;
    CHECK(cmif_tpm_ek_check(ek, ek_size, certificates, 2, &policy, time(NULL), &err) == CMIF_E_TRUST &&
          strstr(err.text, "revocation"));
    policy.loosened.no_crl = true;

    /* before the challenge nobody knows whose key it is */
    cmif_attest(items, count, &policy, time(NULL), &v);
    CHECK(v.outcome == CMIF_REJECTED && v.reason_count == 1 && has_reason(&v, "ak-untrusted"));

    CHECK(RAND_bytes(secret, sizeof secret) == 1);
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak->data, ak->size, secret, NULL, blob, &blob_size, name, &err) ==
          CMIF_OK);
    rc = cmif_maker_activate(maker, blob, blob_size, opened, &err);
    if (rc != CMIF_OK) {
        return say(&err, rc);
    }
    CHECK(!CRYPTO_memcmp(opened, secret, sizeof secret));
    policy.ak_activated       = name;
    policy.ak_activated_count = 1;
    cmif_attest(items, count, &policy, time(NULL), &v);
    CHECK(v.outcome == CMIF_ACCEPTED && !strcmp(cmif_verdict_field(&v, "ak_trust"), "activation "));

    /* that key, and no other */
    name[33] ^= 1;
    cmif_attest(items, count, &policy, time(NULL), &v);
    CHECK(v.outcome == CMIF_REJECTED && has_reason(&v, "ak-untrusted"));

    /* a credential for another key (a byte of its public point changes its Name), one that was changed, one cut short
     */
    uint8_t *other = OPENSSL_memdup(ak->data, ak->size), before[32];
    memcpy(before, opened, sizeof before);
    other[ak->size - 1] ^= 1;
    CHECK(cmif_tpm_make_credential(ek, ek_size, other, ak->size, secret, NULL, blob, &blob_size, name, &err) ==
          CMIF_OK);
    CHECK(cmif_maker_activate(maker, blob, blob_size, opened, &err) == CMIF_E_TRUST);
    OPENSSL_free(other);
    CHECK(cmif_tpm_make_credential(ek, ek_size, ak->data, ak->size, secret, NULL, blob, &blob_size, name, &err) ==
          CMIF_OK);
    for (size_t at = 0; at < blob_size; at += 37) {
        blob[at] ^= 1;
        rc = cmif_maker_activate(maker, blob, blob_size, opened, &err);
        CHECK(rc == CMIF_E_TRUST || rc == CMIF_E_FORMAT);
        blob[at] ^= 1;
    }
    CHECK(cmif_maker_activate(maker, blob, blob_size - 1, opened, &err) == CMIF_E_FORMAT &&
          cmif_maker_activate(maker, blob, 7, opened, &err) == CMIF_E_FORMAT);
    CHECK(!memcmp(before, opened, sizeof before));
    CHECK(cmif_maker_activate(maker, blob, blob_size, opened, &err) ==
          CMIF_OK); /* it still answers, and is not locked out */
    free(bytes);
    free((void *) (uintptr_t) root_item.data);
    free((void *) (uintptr_t) ca_item.data);
    return check_failed_here != 0;
}

static int open_credential(cmif_maker *maker, const char *credential, const char *secret)
{
    uint8_t         opened[32] = {0};
    size_t          size, secret_size;
    uint8_t        *blob = read_file(credential, &size), *want = read_file(secret, &secret_size);
    cmif_err        err  = {0};
    const cmif_code rc   = cmif_maker_activate(maker, blob, size, opened, &err);
    const bool      same = secret_size == sizeof opened && !memcmp(opened, want, sizeof opened);
    free(blob);
    free(want);
    return rc != CMIF_OK ? say(&err, rc) : !same;
}

int main(int argc, char **argv)
{
    static uint8_t     nonce[64];
    cmif_maker_options options     = {.kind = CMIF_MAKER_TPM};
    cmif_maker        *maker       = NULL;
    cmif_err           err         = {0};
    int                failed      = 2;
    const char        *extend_text = getenv("EXTEND"), *fail_text = getenv("FAIL"), *what = argc > 2 ? argv[2] : "";
    extend_left  = extend_text ? strtol(extend_text, NULL, 10) : 0;
    options.path = argc > 1 ? argv[1] : "";
    options.pcrs = !strcmp(what, "make") && argc > 3 ? argv[3] : NULL;
    if ((!strcmp(what, "make") || !strcmp(what, "activate")) &&
        (argc < 6 || !cmif_unhex(argv[4], sizeof nonce, nonce))) {
        fprintf(stderr, "usage: see the top of swtpm.c\n");
        return 2;
    }
    cmif_code rc = cmif_maker_open(&options, &maker, &err);
    if (rc != CMIF_OK) {
        return say(&err, rc);
    }
    fail_at = fail_text ? strtol(fail_text, NULL, 10) : 0;
    if (!strcmp(what, "make")) {
        failed = make(maker, nonce, argv[5]);
    } else if (!strcmp(what, "activate") && argc == 7) {
        failed = activate(maker, nonce, argv[3], argv[5], argv[6]);
    } else if (!strcmp(what, "open") && argc == 5) {
        failed = open_credential(maker, argv[3], argv[4]);
    }
    cmif_maker_free(maker);
    return failed;
}
