#define _GNU_SOURCE /* memmem */
#include "collateral/sort.h"

#include "attest/tpm.h"
#include "base/bytes.h"
#include "evidence/evidence.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DEPTH_MAX       = 3,
    ENTRIES_MAX     = 256,
    SNP_SIZE        = 1184,
    GUID_SIZE       = 16,
    SERIALIZED_HEAD = 136,
    SERIALIZED_LIST = 532
};

bool cmif_item_is_collateral(cmif_item_kind kind)
{
    return kind == CMIF_ITEM_TCB_INFO || kind == CMIF_ITEM_QE_IDENTITY || kind == CMIF_ITEM_CERTIFICATES ||
           kind == CMIF_ITEM_CRL;
}

/* ---- one item ---- */

static cmif_code add(cmif_sorted *s, const char *from, cmif_item_kind kind, const uint8_t *data, size_t size,
                     const char *what, cmif_err *err)
{
    if (s->count == CMIF_SORTED_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "more than %d files, or parts of files: name fewer", CMIF_SORTED_MAX);
    }
    cmif_sorted_item *one  = &s->items[s->count];
    uint8_t          *copy = malloc(size ? size : 1);
    if (!copy) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a file of %zu bytes", size);
    }
    if (size) {
        memcpy(copy, data, size);
    }
    *one = (cmif_sorted_item){.item = {kind, copy, size}};
    snprintf(one->from, sizeof one->from, "%s", from);
    snprintf(one->what, sizeof one->what, "%s", what);
    s->count++;
    return CMIF_OK;
}

static cmif_code add_unknown(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, const char *what,
                             cmif_err *err)
{
    cmif_code rc = add(s, from, 0, data, size, what, err);
    if (rc == CMIF_OK) {
        s->items[s->count - 1].unknown = true;
    }
    return rc;
}

/* ---- what begins how ---- */

static unsigned le(const uint8_t *data, size_t size, size_t at, size_t n)
{
    cmif_reader r = cmif_reader_over(data, size);
    (void) cmif_read_bytes(&r, at);
    return (unsigned) cmif_read_le(&r, n);
}

static unsigned be16(const uint8_t *data, size_t size, size_t at)
{
    return at + 2 <= size ? (unsigned) data[at] << 8 | data[at + 1] : 0;
}

static bool begins(const uint8_t *data, size_t size, const void *with, size_t with_size)
{
    return size >= with_size && !memcmp(data, with, with_size);
}

static bool has_text(const uint8_t *data, size_t size, const char *text)
{
    const size_t length = strlen(text);
    for (size_t at = 0; at + length <= size; at++) {
        const uint8_t *found = memchr(data + at, text[0], size - length + 1 - at);
        if (!found) {
            return false;
        }
        at = (size_t) (found - data);
        if (!memcmp(found, text, length)) {
            return true;
        }
    }
    return false;
}

static bool is_quote(const uint8_t *data, size_t size, char what[static 64])
{
    static const uint8_t vendor[] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                     0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};
    const unsigned       version = le(data, size, 0, 2), key = le(data, size, 2, 2), tee = le(data, size, 4, 4);
    const bool           ours = size >= 28 && !memcmp(data + 12, vendor, sizeof vendor);
    if (!ours && !(size >= 8 && version >= 3 && version <= 5 && (key == 2 || key == 3))) {
        return false;
    }
    snprintf(what, 64, "Intel quote, version %u, %s", version,
             tee == 0x81 ? "TDX"
             : tee == 0  ? "SGX"
                         : "of a TEE that is not known");
    return true;
}

/* Two of: the length, the version, what stands in every report. One broken byte does not hide what it is. */
static bool is_snp(const uint8_t *data, size_t size, char what[static 64])
{
    const unsigned version = le(data, size, 0, 4);
    const int      votes   = (size == SNP_SIZE) + (version >= 2 && version <= 5) +
                      (le(data, size, 0x34, 4) == 1 && (le(data, size, 8, 4) >> 17 & 1));
    snprintf(what, 64, "AMD SEV-SNP report, version %u", version);
    return size >= 0x40 && votes >= 2;
}

static bool is_snp_table(const uint8_t *data, size_t size)
{
    static const uint8_t guids[][GUID_SIZE] = {
        {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd},
        {0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82},
        {0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae},
        {0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1},
        {0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea}};
    for (size_t i = 0; i < sizeof guids / sizeof *guids; i++) {
        if (begins(data, size, guids[i], GUID_SIZE)) {
            return true;
        }
    }
    return false;
}

static bool is_hash(unsigned alg)
{
    return cmif_tpm_hash_size(alg) != 0;
}

static bool is_serialized_pcrs(const uint8_t *data, size_t size)
{
    const unsigned count = le(data, size, 0, 4);
    return size >= SERIALIZED_HEAD && (size - SERIALIZED_HEAD) % SERIALIZED_LIST == 0 && count >= 1 && count <= 16 &&
           is_hash(le(data, size, 4, 2));
}

/* {"000b": {"0": ... */
static bool is_pcr_json(const uint8_t *data, size_t size)
{
    size_t  at = 1;
    uint8_t bank[2];
    while (at < size && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t')) {
        at++;
    }
    return size >= at + 7 && data[at] == '"' && data[at + 5] == '"' &&
           cmif_unhex((const char *) data + at + 1, 2, bank) && is_hash(be16(bank, 2, 0));
}

/* TPM2B_PUBLIC or TPMT_PUBLIC. Which key it is shows by its attributes; a broken one is taken for an AK, and refused as
 * one. */
static bool is_tpm_public(const uint8_t *data, size_t size, cmif_item_kind *kind, char what[static 64])
{
    const size_t   at      = be16(data, size, 0) == size - 2 ? 2 : 0;
    const unsigned type    = be16(data, size, at);
    cmif_tpm_public public = {0};
    if (size < 10 || size > 1024 || (type != CMIF_TPM_RSA && type != CMIF_TPM_ECC) ||
        !is_hash(be16(data, size, at + 2))) {
        return false;
    }
    *kind = CMIF_ITEM_TPM_AK;
    snprintf(what, 64, "TPM public key");
    if (cmif_tpm_public_read(data, size, &public, NULL) == CMIF_OK && (public.attributes & CMIF_TPMA_DECRYPT) &&
        !(public.attributes & CMIF_TPMA_SIGN)) {
        *kind = 0;
        snprintf(what, 64, "TPM key for decryption (EK), not for quotes");
    }
    return true;
}

/* ---- certificates ---- */

/* Evidence in an extension. The SDK's old OID is the one that in PCK certificates means the platform: there a SEQUENCE
 * follows, here a quote. */
static bool has_evidence(X509 *x)
{
    static const char *const oids[] = {"2.23.133.5.4.9", "0.6.9.42.840.113741.1337.6", "1.2.840.113741.1337.6",
                                       "1.3.6.1.5.5.7.1.35", "1.2.840.113741.1.13.1"};
    for (size_t i = 0; i < sizeof oids / sizeof *oids; i++) {
        ASN1_OBJECT             *oid   = OBJ_txt2obj(oids[i], 1);
        int                      place = oid ? X509_get_ext_by_OBJ(x, oid, -1) : -1;
        const ASN1_OCTET_STRING *value = place >= 0 ? X509_EXTENSION_get_data(X509_get_ext(x, place)) : NULL;
        const bool               pck   = i == sizeof oids / sizeof *oids - 1;
        ASN1_OBJECT_free(oid);
        if (value && (!pck || (ASN1_STRING_length(value) > 0 && ASN1_STRING_get0_data(value)[0] != 0x30))) {
            return true;
        }
    }
    return false;
}

static void name_of(const X509_NAME *name, char *out, size_t room)
{
    char common[40] = "";
    if (!name || X509_NAME_get_text_by_NID(name, NID_commonName, common, sizeof common) <= 0) {
        snprintf(common, sizeof common, "without a name");
    }
    for (char *c = common; *c; c++) {
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    }
    snprintf(out, room, "%s", common);
}

static cmif_code sort_der(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, bool *done, cmif_err *err)
{
    const uint8_t *at = data;
    char           name[48], what[64] = "";
    cmif_item_kind kind = 0;
    X509          *x    = d2i_X509(NULL, &at, (long) size);
    if (x) {
        kind = has_evidence(x) ? CMIF_ITEM_RATLS : CMIF_ITEM_CERTIFICATES;
        name_of(X509_get_subject_name(x), name, sizeof name);
        snprintf(what, sizeof what, "%s %.40s", kind == CMIF_ITEM_RATLS ? "RA-TLS certificate" : "certificate", name);
    }
    X509_free(x);
    at             = data;
    X509_CRL *list = kind ? NULL : d2i_X509_CRL(NULL, &at, (long) size);
    if (list) {
        kind = CMIF_ITEM_CRL;
        name_of(X509_CRL_get_issuer(list), name, sizeof name);
        snprintf(what, sizeof what, "CRL of %s", name);
    }
    X509_CRL_free(list);
    at            = data;
    EVP_PKEY *key = kind ? NULL : d2i_PUBKEY(NULL, &at, (long) size);
    if (key) {
        kind = CMIF_ITEM_TPM_AK;
        snprintf(what, sizeof what, "public key");
    }
    EVP_PKEY_free(key);
    *done = kind != 0;
    return kind ? add(s, from, kind, data, size, what, err) : CMIF_OK;
}

/* The blocks of a PEM file, by kind. */
static cmif_code sort_pem(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, cmif_err *err)
{
    enum { CERTIFICATES, CRLS, KEYS, KINDS };
    static const char *const    labels[]    = {"CERTIFICATE", "X509 CRL", "PUBLIC KEY"};
    static const cmif_item_kind kinds[]     = {CMIF_ITEM_CERTIFICATES, CMIF_ITEM_CRL, CMIF_ITEM_TPM_AK};
    cmif_code                   rc          = CMIF_OK;
    size_t                      used[KINDS] = {0}, count[KINDS] = {0};
    char                       *text             = malloc(size + 1);
    char                       *of[KINDS]        = {malloc(size + 1), malloc(size + 1), malloc(size + 1)};
    char                        first[KINDS][48] = {"", "", ""};
    bool                        evidence = false, broken = false;
    if (!text || !of[0] || !of[1] || !of[2]) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a file of %zu bytes", size);
        goto done;
    }
    for (size_t i = 0; i < size; i++) { /* so that it ends where a string ends */
        text[i] = (char) (data[i] ? data[i] : ' ');
    }
    text[size] = '\0';
    for (char *at = strstr(text, "-----BEGIN "); at;) {
        char  *label = at + 11, *head = strstr(label, "-----"), *end = head ? strstr(head, "-----END ") : NULL;
        size_t which = 0;
        char  *stop  = end ? strstr(end + 9, "-----") : NULL;
        if (!stop) {
            broken = true;
            break;
        }
        stop += 5;
        while (which < KINDS && (strlen(labels[which]) != (size_t) (head - label) ||
                                 memcmp(label, labels[which], (size_t) (head - label)) != 0)) {
            which++;
        }
        if (which < KINDS) {
            const size_t   block = (size_t) (stop - at);
            BIO           *bio   = BIO_new_mem_buf(at, (int) block);
            char          *name = NULL, *header = NULL;
            unsigned char *der       = NULL;
            long           long_size = 0;
            if (bio && PEM_read_bio(bio, &name, &header, &der, &long_size) == 1) {
                const uint8_t *p = der;
                X509          *x = which == CERTIFICATES ? d2i_X509(NULL, &p, long_size) : NULL;
                X509_CRL      *c = which == CRLS ? d2i_X509_CRL(NULL, &p, long_size) : NULL;
                if ((x || c) && !first[which][0]) {
                    name_of(x ? X509_get_subject_name(x) : X509_CRL_get_issuer(c), first[which], sizeof first[which]);
                }
                evidence = evidence || (x && has_evidence(x));
                X509_free(x);
                X509_CRL_free(c);
            }
            OPENSSL_free(name);
            OPENSSL_free(header);
            OPENSSL_free(der);
            BIO_free(bio);
            memcpy(of[which] + used[which], at, block);
            used[which] += block;
            of[which][used[which]++] = '\n'; /* there is room: a label is longer than this */
            count[which]++;
        }
        at = strstr(stop, "-----BEGIN ");
    }
    for (size_t i = 0; rc == CMIF_OK && i < KINDS; i++) {
        char what[64];
        if (count[i]) {
            const bool more = count[i] > 1;
            if (i == KEYS) {
                snprintf(what, sizeof what, "public key");
            } else if (i == CERTIFICATES && evidence) {
                snprintf(what, sizeof what, "RA-TLS certificate");
            } else {
                snprintf(what, sizeof what, "%s%s%s",
                         i == CRLS ? "CRL of "
                         : more    ? "certificates, first "
                                   : "certificate ",
                         first[i], more && i == CRLS ? ", ..." : "");
            }
            rc = add(s, from, i == CERTIFICATES && evidence ? CMIF_ITEM_RATLS : kinds[i], (const uint8_t *) of[i],
                     used[i], what, err);
        }
    }
    if (rc == CMIF_OK && !count[0] && !count[1] && !count[2]) {
        rc = add_unknown(s, from, data, size, broken ? "PEM without an end" : "PEM of another kind", err);
    }
done:
    for (size_t i = 0; i < KINDS; i++) {
        free(of[i]);
    }
    free(text);
    return rc;
}

/* ---- what holds something else ---- */

/* A bundle says itself of what kind each item is. */
static cmif_code sort_bundle(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, cmif_err *err)
{
    cmif_evidence_item items[CMIF_EVIDENCE_ITEMS_MAX];
    size_t             count = CMIF_EVIDENCE_ITEMS_MAX;
    if (cmif_evidence_read(data, size, items, &count, NULL) != CMIF_OK) {
        return add_unknown(s, from, data, size, "a bundle of evidence that is damaged or cut short", err);
    }
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        rc = add(s, from, (cmif_item_kind) items[i].kind, items[i].data, items[i].size, "of a bundle", err);
    }
    return rc;
}

static cmif_code sort_bytes(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, unsigned depth,
                            cmif_err *err);

/* "..., -Issuer-Chain: -----BEGIN%20CERTIFICATE-----%0A..." */
static cmif_code sort_header(cmif_sorted *s, const char *from, const char *line, size_t size, cmif_err *err)
{
    static const char end[] = "issuer-chain";
    const char       *colon = memchr(line, ':', size);
    const size_t      name  = colon ? (size_t) (colon - line) : 0;
    if (name < sizeof end - 1 || strncasecmp(colon - (sizeof end - 1), end, sizeof end - 1) != 0) {
        return CMIF_OK;
    }
    uint8_t *text = malloc(size);
    size_t   used = 0;
    if (!text) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a file of %zu bytes", size);
    }
    for (const char *c = colon + 1; c < line + size; c++) {
        uint8_t byte = (uint8_t) *c;
        if (*c == '%' && line + size - c >= 3) {
            char pair[2] = {(char) (c[1] | (c[1] >= 'A' && c[1] <= 'F' ? 32 : 0)),
                            (char) (c[2] | (c[2] >= 'A' && c[2] <= 'F' ? 32 : 0))};
            if (cmif_unhex(pair, 1, &byte)) {
                c += 2;
            }
        }
        text[used++] = byte;
    }
    cmif_code rc = sort_pem(s, from, text, used, err);
    free(text);
    return rc;
}

/* An answer with its headers, or headers alone. */
static cmif_code sort_answer(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, unsigned depth,
                             cmif_err *err)
{
    cmif_code    rc     = CMIF_OK;
    size_t       at     = 0;
    const size_t before = s->count;
    while (rc == CMIF_OK && at < size) {
        const uint8_t *end    = memchr(data + at, '\n', size - at);
        size_t         length = (size_t) ((end ? end : data + size) - (data + at));
        const char    *line   = (const char *) data + at;
        at += length + (end ? 1 : 0);
        length -= length && line[length - 1] == '\r';
        if (length == 0) {
            break;
        }
        rc = sort_header(s, from, line, length, err);
    }
    if (rc == CMIF_OK && at < size) {
        rc = sort_bytes(s, from, data + at, size - at, depth + 1, err);
    }
    if (rc == CMIF_OK && s->count == before) {
        rc = add_unknown(s, from, data, size, "HTTP answer without collateral", err);
    }
    return rc;
}

/* DER as hexadecimal text, as a PCCS gives CRLs. */
static cmif_code sort_hex(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, bool *done, cmif_err *err)
{
    char     *text  = malloc(size + 1);
    uint8_t  *bytes = malloc(size / 2 + 1);
    cmif_code rc    = CMIF_OK;
    if (!text || !bytes) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a file of %zu bytes", size);
        goto done;
    }
    for (size_t i = 0; i < size; i++) {
        text[i] = (char) (data[i] >= 'A' && data[i] <= 'F' ? data[i] + 32 : data[i]);
    }
    if (cmif_unhex(text, size / 2, bytes)) {
        rc = sort_der(s, from, bytes, size / 2, done, err);
    }
done:
    free(text);
    free(bytes);
    return rc;
}

static cmif_code sort_bytes(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, unsigned depth,
                            cmif_err *err)
{
    char           what[64];
    cmif_item_kind kind  = 0;
    size_t         first = 0, last = size;
    bool           done = false;
    cmif_code      rc;

    while (first < size && (data[first] == ' ' || data[first] == '\t' || data[first] == '\r' || data[first] == '\n')) {
        first++;
    }
    while (last > first && (data[last - 1] == ' ' || data[last - 1] == '\r' || data[last - 1] == '\n')) {
        last--;
    }
    if (first == last) {
        return add(s, from, 0, data, size, "empty", err);
    }
    if (is_quote(data, size, what)) {
        return add(s, from, CMIF_ITEM_QUOTE, data, size, what, err);
    }
    if (is_snp(data, size, what)) {
        return add(s, from, CMIF_ITEM_SNP_REPORT, data, size, what, err);
    }
    if (is_snp_table(data, size)) {
        return add(s, from, CMIF_ITEM_SNP_TABLE, data, size, "certificate table of a SEV-SNP guest", err);
    }
    if (begins(data, size, "\xff\x54\x43\x47", 4)) {
        return add(s, from, CMIF_ITEM_TPM_ATTEST, data, size,
                   be16(data, size, 4) == CMIF_TPM_CERTIFY ? "TPM key attestation" : "TPM quote", err);
    }
    if (begins(data, size, "CMIFEV01", 8)) {
        return sort_bundle(s, from, data, size, err);
    }
    if (begins(data, size, "CMIFSIM1", 8)) {
        return add(s, from, CMIF_ITEM_SIM, data, size, "INSECURE simulator's evidence", err);
    }
    if (begins(data, size, "HCLA", 4)) {
        return add(s, from, CMIF_ITEM_HCL, data, size, "Azure HCL report", err);
    }
    if (has_text(data, size < 64 ? size : 64, "Spec ID Event")) {
        return add(s, from, CMIF_ITEM_EVENT_LOG, data, size, "event log", err);
    }
    if ((be16(data, size, 0) == CMIF_TPM_RSASSA || be16(data, size, 0) == CMIF_TPM_RSAPSS ||
         be16(data, size, 0) == CMIF_TPM_ECDSA) &&
        is_hash(be16(data, size, 2)) && size <= 1024) {
        return add(s, from, CMIF_ITEM_TPM_SIGNATURE, data, size, "TPM signature", err);
    }
    if (is_tpm_public(data, size, &kind, what)) {
        return add(s, from, kind, data, size, what, err);
    }
    if (is_serialized_pcrs(data, size)) {
        return add(s, from, CMIF_ITEM_TPM_PCRS, data, size, "PCR values", err);
    }
    if (begins(data, size, "CCEL", 4)) {
        return add(s, from, 0, data, size, "ACPI table that says where the event log is", err);
    }
    if (begins(data, size, "\xba\xdc\xc0\xde", 4)) {
        return add(s, from, 0, data, size, "credential challenge for a TPM", err);
    }
    if (size == 34 && is_hash(be16(data, size, 0))) {
        return add(s, from, 0, data, size, "name of a TPM key", err);
    }
    if (begins(data + first, last - first, "tdx_guest", 9) || begins(data + first, last - first, "sev_guest", 9)) {
        return add(s, from, 0, data, size, "name of the provider", err);
    }
    if (begins(data, size, "HTTP/", 5) && depth < DEPTH_MAX) {
        return sort_answer(s, from, data, size, depth, err);
    }
    if (has_text(data, size, "-----BEGIN ")) {
        return sort_pem(s, from, data, size, err);
    }
    if (data[first] == '{') {
        const bool tcb = has_text(data, size, "\"tcbInfo\""), qe = has_text(data, size, "\"enclaveIdentity\"");
        if (tcb != qe) {
            return add(s, from, tcb ? CMIF_ITEM_TCB_INFO : CMIF_ITEM_QE_IDENTITY, data + first, last - first,
                       tcb ? "Intel TCB info" : "Intel QE identity", err);
        }
        if (!tcb && is_pcr_json(data + first, last - first)) {
            return add(s, from, CMIF_ITEM_TPM_PCRS, data, size, "PCR values", err);
        }
        return add_unknown(s, from, data, size, "JSON of another kind", err);
    }
    if (data[0] == 0x30) {
        rc = sort_der(s, from, data, size, &done, err);
        if (rc != CMIF_OK || done) {
            return rc;
        }
    }
    if (begins(data + first, last - first, "30", 2)) {
        rc = sort_hex(s, from, data + first, last - first, &done, err);
        if (rc != CMIF_OK || done) {
            return rc;
        }
    }
    return add_unknown(s, from, data, size, "neither evidence nor collateral that is known", err);
}

cmif_code cmif_sort_bytes(cmif_sorted *s, const char *from, const uint8_t *data, size_t size, cmif_err *err)
{
    return sort_bytes(s, from, data, size, 0, err);
}

/* ---- files and folders ---- */

static cmif_code sort_file(cmif_sorted *s, const char *path, int fd, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    size_t    size = 0, room = 1 << 16;
    uint8_t  *data = malloc(room);
    while (data) {
        ssize_t n = read(fd, data + size, room - size);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
            goto done;
        }
        size += n > 0 ? (size_t) n : 0;
        if (size > CMIF_EVENT_LOG_SIZE_MAX) {
            rc = cmif_fail(err, CMIF_E_RANGE, "'%s' is larger than %d bytes, which no evidence is", path,
                           CMIF_EVENT_LOG_SIZE_MAX);
            goto done;
        }
        if (size == room) {
            uint8_t *more = realloc(data, room *= 2);
            if (!more) {
                break;
            }
            data = more;
        }
    }
    rc = data && size < room ? cmif_sort_bytes(s, path, data, size, err)
                             : cmif_fail(err, CMIF_E_MEMORY, "no memory for '%s'", path);
done:
    free(data);
    return rc;
}

static cmif_code sort_path(cmif_sorted *s, const char *path, unsigned depth, cmif_err *err);

static cmif_code sort_folder(cmif_sorted *s, const char *path, unsigned depth, cmif_err *err)
{
    struct dirent **entries = NULL;
    cmif_code       rc      = CMIF_OK;
    int             count   = scandir(path, &entries, NULL, alphasort); /* the same order every time */
    if (count < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot read the folder '%s': %s", path, strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        char name[4096];
        if (rc == CMIF_OK && entries[i]->d_name[0] != '.') {
            if (snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name) >= (int) sizeof name) {
                rc = cmif_fail(err, CMIF_E_IO, "a name in '%s' is too long", path);
            } else {
                rc = i < ENTRIES_MAX
                         ? sort_path(s, name, depth + 1, err)
                         : cmif_fail(err, CMIF_E_RANGE, "more than %d files in '%s': name fewer", ENTRIES_MAX, path);
            }
        }
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static cmif_code sort_path(cmif_sorted *s, const char *path, unsigned depth, cmif_err *err)
{
    struct stat info;
    cmif_code   rc;
    int         fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe that nobody writes to is no file */
    if (fd < 0 || fstat(fd, &info) < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        rc = depth < DEPTH_MAX ? sort_folder(s, path, depth, err) : CMIF_OK;
    } else if (S_ISREG(info.st_mode)) {
        rc = sort_file(s, path, fd, err);
    } else {
        rc = cmif_fail(err, CMIF_E_IO, "'%s' is neither a file nor a folder", path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

cmif_code cmif_sort_path(cmif_sorted *s, const char *path, cmif_err *err)
{
    return sort_path(s, path, 0, err);
}

/* ---- what only the others tell ---- */

static bool holds(const cmif_sorted_item *whole, const uint8_t *part, size_t size)
{
    return size && memmem(whole->item.data, whole->item.size, part, size); /* in linear time, whatever the bytes */
}

static void drop(cmif_sorted_item *one, const char *why)
{
    one->item.kind = 0;
    snprintf(one->what, sizeof one->what, "%s", why);
}

static size_t count_kind(const cmif_sorted *s, cmif_item_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        count += s->items[i].item.kind == kind;
    }
    return count;
}

/* Raw PCR values hash to what a quote holds; a bare RSA signature is all that is left. */
static void settle_bare(cmif_sorted *s)
{
    static const char *const hashes[] = {"SHA256", "SHA384"};
    for (size_t i = 0; i < s->count; i++) {
        cmif_sorted_item *one = &s->items[i];
        for (size_t h = 0; h < 2 && one->unknown && one->item.size; h++) {
            uint8_t  hash[EVP_MAX_MD_SIZE];
            unsigned size = 0;
            if (!EVP_Digest(one->item.data, one->item.size, hash, &size, EVP_get_digestbyname(hashes[h]), NULL)) {
                continue;
            }
            for (size_t j = 0; j < s->count; j++) {
                if (s->items[j].item.kind == CMIF_ITEM_TPM_ATTEST && holds(&s->items[j], hash, size)) {
                    one->item.kind = CMIF_ITEM_TPM_PCRS;
                    one->unknown   = false;
                    snprintf(one->what, sizeof one->what, "PCR values");
                }
            }
        }
    }
    for (size_t i = 0; i < s->count && count_kind(s, CMIF_ITEM_TPM_ATTEST) > count_kind(s, CMIF_ITEM_TPM_SIGNATURE);
         i++) {
        cmif_sorted_item *one = &s->items[i];
        if (one->unknown && (one->item.size == 256 || one->item.size == 384 || one->item.size == 512)) {
            one->item.kind = CMIF_ITEM_TPM_SIGNATURE;
            one->unknown   = false;
            snprintf(one->what, sizeof one->what, "RSA signature without a head");
        }
    }
}

/* The last bytes of a TPM public key are the key itself (modulus, or y): another file of the same key says less of it.
 */
static void settle_keys(cmif_sorted *s)
{
    uint8_t *keys[CMIF_SORTED_MAX] = {NULL}; /* of PEM, as DER: each is decoded once */
    size_t   sizes[CMIF_SORTED_MAX];
    for (size_t i = 0; i < s->count; i++) {
        const cmif_item *item = &s->items[i].item;
        if (item->kind == CMIF_ITEM_TPM_AK && item->size && item->data[0] == '-') {
            BIO      *bio  = BIO_new_mem_buf(item->data, (int) item->size);
            EVP_PKEY *key  = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
            const int size = key ? i2d_PUBKEY(key, &keys[i]) : 0;
            sizes[i]       = size > 0 ? (size_t) size : 0;
            EVP_PKEY_free(key);
            BIO_free(bio);
        }
    }
    for (size_t i = 0; i < s->count; i++) {
        cmif_sorted_item *tpm  = &s->items[i];
        cmif_tpm_public public = {0};
        if (tpm->item.kind != CMIF_ITEM_TPM_AK || keys[i] ||
            cmif_tpm_public_read(tpm->item.data, tpm->item.size, &public, NULL) != CMIF_OK) {
            continue;
        }
        for (size_t j = 0; j < s->count; j++) {
            cmif_sorted_item *other = &s->items[j];
            if (other->item.kind == CMIF_ITEM_TPM_ATTEST &&
                be16(other->item.data, other->item.size, 4) == CMIF_TPM_CERTIFY &&
                holds(other, public.name, public.name_size)) {
                tpm->item.kind = CMIF_ITEM_TPM_KEY;
                snprintf(tpm->what, sizeof tpm->what, "TPM public key that is attested");
            }
        }
        for (size_t j = 0; tpm->item.kind == CMIF_ITEM_TPM_AK && j < s->count; j++) {
            const cmif_sorted_item bare = {.item = {0, keys[j], keys[j] ? sizes[j] : 0}};
            if (keys[j] && s->items[j].item.kind && holds(&bare, public.x.data, public.x.size) &&
                (!public.y.size || holds(&bare, public.y.data, public.y.size))) {
                drop(&s->items[j], "the same key as in a file that also has its attributes");
            }
        }
    }
    for (size_t i = 0; i < s->count; i++) {
        OPENSSL_free(keys[i]);
    }
}

/* The DER of a PEM file's first block, or the bytes themselves; free with OPENSSL_free. */
static uint8_t *der_of(const cmif_sorted_item *one, size_t *size)
{
    uint8_t *der  = NULL;
    char    *name = NULL, *header = NULL;
    long     length = 0;
    BIO     *bio    = BIO_new_mem_buf(one->item.data, (int) one->item.size);
    if (!bio || PEM_read_bio(bio, &name, &header, &der, &length) != 1) {
        der    = OPENSSL_memdup(one->item.data, one->item.size);
        length = der ? (long) one->item.size : 0;
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    *size = (size_t) length;
    return der;
}

void cmif_sort_settle(cmif_sorted *s)
{
    settle_bare(s);
    settle_keys(s);
    for (size_t i = 0; i < s->count; i++) {
        cmif_sorted_item *one = &s->items[i];
        for (size_t j = 0; one->item.kind && j < i; j++) {
            cmif_sorted_item *other = &s->items[j];
            if (other->item.kind == one->item.kind && other->item.size == one->item.size &&
                !memcmp(other->item.data, one->item.data, one->item.size)) {
                drop(one, "the same bytes as in another file");
            } else if (other->item.kind == CMIF_ITEM_TPM_PCRS && one->item.kind == CMIF_ITEM_TPM_PCRS) {
                drop(one, "PCR values, which another file has too"); /* either must hash to what is signed */
            }
        }
    }
    const bool single = count_kind(s, CMIF_ITEM_RATLS) == 1; /* two are refused, whatever is in them */
    for (size_t i = 0; single && i < s->count; i++) {
        if (s->items[i].item.kind == CMIF_ITEM_RATLS) {
            size_t                 size = 0;
            uint8_t               *der  = der_of(&s->items[i], &size);
            const cmif_sorted_item bare = {.item = {0, der, size}};
            for (size_t j = 0; j < s->count; j++) {
                cmif_sorted_item *quote = &s->items[j];
                if (quote->item.kind == CMIF_ITEM_QUOTE && holds(&bare, quote->item.data, quote->item.size)) {
                    drop(quote, "the quote that the RA-TLS certificate holds");
                }
            }
            OPENSSL_free(der);
        }
    }
}

void cmif_sort_wipe(cmif_sorted *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free((void *) (uintptr_t) s->items[i].item.data);
    }
    s->count = 0;
}
