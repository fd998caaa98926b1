#include "base/check.h"
#include "collateral/sort.h"

#include <openssl/ec.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CASES CMIF_SOURCE_DIR "/../shared/attestation/"

static cmif_sorted sorted;

static void take(const char *name)
{
    cmif_err err = {0};
    if (cmif_sort_path(&sorted, name, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(false);
    }
}

static size_t count(cmif_item_kind kind)
{
    size_t found = 0;
    for (size_t i = 0; i < sorted.count; i++) {
        found += sorted.items[i].item.kind == kind;
    }
    return found;
}

/* What each folder of captures holds, with no look at a name. */
static void every_capture_is_sorted_by_its_bytes(void)
{
    static const struct {
        const char *folder;
        size_t      quote, report, table, ratls, attest, signature, pcrs, ak, key, hcl, log, tcb, qe, certificates, crl,
            unknown;
    } all[] = {
        {"tdx/v4-uptodate", .quote = 1, .tcb = 1, .qe = 1, .certificates = 2, .crl = 2, .unknown = 1},
        {"tdx/v4-gcp-ccel-uptodate", .quote = 1, .log = 1, .tcb = 1, .qe = 1, .certificates = 2, .crl = 2,
         .unknown = 2},
        {"sgx/ratls-gramine-cert-debug", .ratls = 1, .tcb = 1, .qe = 1, .certificates = 2, .crl = 2, .unknown = 1},
        {"sgx/ratls-intel-sgxsdk-cert-debug", .ratls = 1, .unknown = 1},
        {"snp/genoa-v3-tsm-outblob-auxblob", .report = 1, .table = 1, .certificates = 1, .unknown = 1},
        {"tpm/swtpm-rsa-ak", .attest = 1, .signature = 1, .pcrs = 1, .ak = 1, .certificates = 3, .unknown = 2},
        {"tpm/azure-tdx-vtpm-ak-chain", .quote = 1, .attest = 1, .signature = 1, .pcrs = 1, .ak = 1, .hcl = 1, .tcb = 1,
         .qe = 1, .certificates = 4, .crl = 2, .unknown = 1},
        {"tpm/parsec-ecdsa-quote", .attest = 2, .signature = 2, .ak = 1, .key = 1, .unknown = 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char   path[512];
        size_t unknown = 0;
        snprintf(path, sizeof path, CASES "%s", all[i].folder);
        take(path);
        cmif_sort_settle(&sorted);
        for (size_t j = 0; j < sorted.count; j++) {
            unknown += sorted.items[j].unknown;
        }
        const bool good =
            count(CMIF_ITEM_QUOTE) == all[i].quote && count(CMIF_ITEM_SNP_REPORT) == all[i].report &&
            count(CMIF_ITEM_SNP_TABLE) == all[i].table && count(CMIF_ITEM_RATLS) == all[i].ratls &&
            count(CMIF_ITEM_TPM_ATTEST) == all[i].attest && count(CMIF_ITEM_TPM_SIGNATURE) == all[i].signature &&
            count(CMIF_ITEM_TPM_PCRS) == all[i].pcrs && count(CMIF_ITEM_TPM_AK) == all[i].ak &&
            count(CMIF_ITEM_TPM_KEY) == all[i].key && count(CMIF_ITEM_HCL) == all[i].hcl &&
            count(CMIF_ITEM_EVENT_LOG) == all[i].log && count(CMIF_ITEM_TCB_INFO) == all[i].tcb &&
            count(CMIF_ITEM_QE_IDENTITY) == all[i].qe && count(CMIF_ITEM_CERTIFICATES) == all[i].certificates &&
            count(CMIF_ITEM_CRL) == all[i].crl && unknown == all[i].unknown;
        CHECK(good);
        for (size_t j = 0; !good && j < sorted.count; j++) {
            fprintf(stderr, "  %s: %s (%d)\n", sorted.items[j].from, sorted.items[j].what,
                    (int) sorted.items[j].item.kind);
        }
        cmif_sort_wipe(&sorted);
    }
}

static void put(const char *text)
{
    CHECK(cmif_sort_bytes(&sorted, "test", (const uint8_t *) text, strlen(text), NULL) == CMIF_OK);
}

/* An answer of Intel PCS, as `curl -i` saves it: the body, and the chain in a header. */
static void an_answer_brings_its_issuer_chain(void)
{
    static char  pem[8192], answer[32768];
    FILE        *from = fopen(CASES "tdx/v4-uptodate/tcb_signing_chain.pem", "r");
    const size_t size = from ? fread(pem, 1, sizeof pem - 1, from) : 0;
    size_t       at   = (size_t) snprintf(answer, sizeof answer,
                                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTCB-Info-Issuer-Chain: ");
    if (from) {
        fclose(from);
    }
    for (size_t i = 0; i < size; i++) {
        at += (size_t) snprintf(answer + at, sizeof answer - at,
                                pem[i] == '\n'  ? "%%0A"
                                : pem[i] == ' ' ? "%%20"
                                : pem[i] == '+' ? "%%2b"
                                                : "%c",
                                pem[i]);
    }
    snprintf(answer + at, sizeof answer - at, "\r\nRequest-ID: 1\r\n\r\n{\"tcbInfo\":{},\"signature\":\"\"}\n");
    put(answer);
    CHECK(sorted.count == 2 && count(CMIF_ITEM_CERTIFICATES) == 1 && count(CMIF_ITEM_TCB_INFO) == 1);
    CHECK(sorted.items[1].item.size == strlen("{\"tcbInfo\":{},\"signature\":\"\"}"));
    cmif_sort_wipe(&sorted);
    put("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    CHECK(sorted.count == 1 && sorted.items[0].unknown);
    cmif_sort_wipe(&sorted);
}

static void what_is_nothing_is_called_unknown(void)
{
    static const char *const strangers[] = {"Dear nurse, thank you.",
                                            "{}",
                                            "{\"000b\"",
                                            "-----BEGIN CERTIFICATE-----",
                                            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
                                            "30",
                                            "3082",
                                            "HTTP/",
                                            "\x30\x82\xff\xff",
                                            "{\"tcbInfo\":1,\"enclaveIdentity\":2}"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        put(strangers[i]);
        CHECK(sorted.count == 1 && sorted.items[0].unknown && sorted.items[0].item.kind == 0);
        CHECK(!strstr(sorted.items[0].what, "nurse"));
        cmif_sort_settle(&sorted);
        cmif_sort_wipe(&sorted);
    }
    for (size_t i = 0; i < 3; i++) {
        put((const char *const[]){"", "\n", " \t\r\n"}[i]);
        CHECK(sorted.count == 1 && !sorted.items[0].unknown && sorted.items[0].item.kind == 0);
        cmif_sort_wipe(&sorted);
    }
}

static void a_bundle_is_the_items_that_it_names(void)
{
    static const uint8_t bundle[] = {
        'C', 'M', 'I', 'F',           'E', 'V', '0', '1', 2, 0, 0, 0,  CMIF_ITEM_TPM_AK, 0, 0, 0, 2, 0, 0,
        0,   'a', 'k', CMIF_ITEM_SIM, 0,   0,   0,   1,   0, 0, 0, 's'};
    CHECK(cmif_sort_bytes(&sorted, "test", bundle, sizeof bundle, NULL) == CMIF_OK);
    CHECK(sorted.count == 2 && count(CMIF_ITEM_TPM_AK) == 1 && count(CMIF_ITEM_SIM) == 1);
    CHECK(sorted.items[0].item.size == 2 && !memcmp(sorted.items[0].item.data, "ak", 2));
    cmif_sort_wipe(&sorted);
    CHECK(cmif_sort_bytes(&sorted, "test", bundle, sizeof bundle - 1, NULL) == CMIF_OK);
    CHECK(sorted.count == 1 && sorted.items[0].unknown && sorted.items[0].item.kind == 0);
    cmif_sort_wipe(&sorted);
}

/* A quote stays one when a byte of it breaks or its end is cut off: the verifier then says what is wrong. */
static void a_broken_quote_is_still_a_quote(void)
{
    static uint8_t quote[8192];
    FILE          *from = fopen(CASES "tdx/v4-uptodate/quote.bin", "rb");
    const size_t   size = from ? fread(quote, 1, sizeof quote, from) : 0;
    if (from) {
        fclose(from);
    }
    for (size_t i = 0; i < 64; i++) {
        quote[i] ^= 0x40;
        CHECK(cmif_sort_bytes(&sorted, "test", quote, size, NULL) == CMIF_OK);
        CHECK(sorted.count == 1 && sorted.items[0].item.kind == CMIF_ITEM_QUOTE);
        cmif_sort_wipe(&sorted);
        quote[i] ^= 0x40;
    }
    for (size_t cut = 8; cut < size; cut += 97) {
        CHECK(cmif_sort_bytes(&sorted, "test", quote, cut, NULL) == CMIF_OK);
        CHECK(sorted.count == 1 && sorted.items[0].item.kind == CMIF_ITEM_QUOTE);
        cmif_sort_wipe(&sorted);
    }
}

static void what_came_twice_is_given_once(void)
{
    take(CASES "tdx/v4-uptodate/quote.bin");
    take(CASES "tdx/v4-uptodate/quote.bin");
    cmif_sort_settle(&sorted);
    CHECK(sorted.count == 2 && count(CMIF_ITEM_QUOTE) == 1);
    cmif_sort_wipe(&sorted);
    take(CASES "tdx/v4-uptodate/quote.bin"); /* but two that differ stay two: which one counts is not ours to say */
    take(CASES "tdx/v4-tdx10-debug/quote.bin");
    cmif_sort_settle(&sorted);
    CHECK(count(CMIF_ITEM_QUOTE) == 2);
    cmif_sort_wipe(&sorted);
}

static void a_file_that_is_none_is_an_error(void)
{
    cmif_err err = {0};
    CHECK(cmif_sort_path(&sorted, "/nonexistent", &err) == CMIF_E_IO && strstr(err.text, "/nonexistent"));
    CHECK(cmif_sort_path(&sorted, "/dev/null", &err) == CMIF_E_IO);
    CHECK(sorted.count == 0);
}

/* Bytes that nearly match at every period must not cost the square of their number. */
static void a_quote_is_sought_in_a_certificate_in_linear_time(void)
{
    enum { QUOTE = 4 << 20, EVIDENCE = 8 << 20 };
    static const uint8_t head[48] = {3,    0,    2,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0x93, 0x9a,
                                     0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 6,    7};
    uint8_t             *bytes = malloc(EVIDENCE), *der = NULL;
    X509                *c     = X509_new();
    EVP_PKEY            *key   = EVP_EC_gen("P-256");
    ASN1_OBJECT         *oid   = OBJ_txt2obj("1.2.840.113741.1337.6", 1);
    ASN1_OCTET_STRING   *value = ASN1_OCTET_STRING_new();
    for (size_t i = 0; i < EVIDENCE; i++) {
        bytes[i] = head[i % sizeof head];
    }
    CHECK(ASN1_OCTET_STRING_set(value, bytes, EVIDENCE) == 1);
    X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
    CHECK(X509_set_version(c, 2) && X509_set_pubkey(c, key) && X509_gmtime_adj(X509_getm_notBefore(c), 0) &&
          X509_gmtime_adj(X509_getm_notAfter(c), 60) && X509_add_ext(c, extension, -1) &&
          X509_sign(c, key, EVP_sha256()));
    const int size   = i2d_X509(c, &der);
    bytes[QUOTE - 1] = 0xff;
    CHECK(cmif_sort_bytes(&sorted, "test", bytes, QUOTE, NULL) == CMIF_OK);
    CHECK(cmif_sort_bytes(&sorted, "test", der, (size_t) size, NULL) == CMIF_OK);
    const clock_t begin = clock();
    cmif_sort_settle(&sorted);
    CHECK(clock() - begin < 3 * CLOCKS_PER_SEC);
    CHECK(count(CMIF_ITEM_QUOTE) == 1 && count(CMIF_ITEM_RATLS) == 1);
    cmif_sort_wipe(&sorted);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
    EVP_PKEY_free(key);
    X509_free(c);
    OPENSSL_free(der);
    free(bytes);
}

int main(void)
{
    RUN(a_quote_is_sought_in_a_certificate_in_linear_time);
    RUN(what_is_nothing_is_called_unknown);
    RUN(a_file_that_is_none_is_an_error);
    RUN(a_bundle_is_the_items_that_it_names);
    if (access(CASES "cases.json", R_OK) == 0) {
        RUN(every_capture_is_sorted_by_its_bytes);
        RUN(an_answer_brings_its_issuer_chain);
        RUN(a_broken_quote_is_still_a_quote);
        RUN(what_came_twice_is_given_once);
    } else {
        printf("skipped: the captures are not beside the repository\n");
    }
    return check_report();
}
