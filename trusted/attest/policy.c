#include "attest/policy.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    FILE_SIZE_MAX    = 256 << 10,
    WORDS_MAX        = 24, /* of one line */
    MEASURED_MAX     = 512,
    ADVISORIES_MAX   = 64,
    ADVISORY_SIZE    = 32,
    PINS_MAX         = 64,
    PIN_SIZE         = 32,
    ROOTS_MAX        = 16,
    ROOT_SIZE_MAX    = 8192, /* DER */
    TOLERANCE_MAX    = 86400,
    REPORT_DATA_SIZE = 64,
    PCRS             = 24
};
#define COUNT(list) (sizeof(list) / sizeof *(list))
#define CERTIFICATE_BEGIN "-----BEGIN CERTIFICATE-----"
#define CERTIFICATE_END "-----END CERTIFICATE-----"

/* ---- names ---- */

static const char *const tee_words[CMIF_TEE_COUNT] = {"none", "sgx", "tdx", "snp", "tpm", "sim"};

static const struct {
    cmif_tee    tee;
    const char *name;
    size_t      size;
    bool        program; /* says which program runs: one of these must be asked for */
} measurements[] = {
    {CMIF_TEE_SGX, "mrenclave", 32, true},      {CMIF_TEE_SGX, "mrsigner", 32, true},
    {CMIF_TEE_TDX, "mrtd", 48, true},           {CMIF_TEE_TDX, "rtmr0", 48, true},
    {CMIF_TEE_TDX, "rtmr1", 48, true},          {CMIF_TEE_TDX, "rtmr2", 48, true},
    {CMIF_TEE_TDX, "rtmr3", 48, true},          {CMIF_TEE_TDX, "mrseam", 48, false},
    {CMIF_TEE_TDX, "mrconfigid", 48, false},    {CMIF_TEE_TDX, "mrowner", 48, false},
    {CMIF_TEE_SNP, "measurement", 48, true},    {CMIF_TEE_SNP, "host_data", 32, false},
    {CMIF_TEE_SNP, "id_key_digest", 48, false}, {CMIF_TEE_SIM, "measurement", 32, true},
};

typedef struct bit_name {
    unsigned    bit;
    const char *name;
} bit_name;
static const bit_name td_bits[] = {
    {28, "sept-ve-disable"}, {29, "migratable"}, {30, "pks"}, {31, "kl"}, {63, "perfmon"}};
static const bit_name platform_bits[] = {{0, "smt"},
                                         {1, "tsme"},
                                         {2, "ecc"},
                                         {3, "rapl-dis"},
                                         {4, "ciphertext-hiding"},
                                         {5, "alias-check-complete"},
                                         {6, "iommu-write-safe"},
                                         {7, "tio"}};
static const bit_name snp_bits[]      = {
         {16, "smt"},      {18, "migrate-ma"},        {20, "single-socket"},    {21, "cxl"}, {22, "mem-aes-256-xts"},
         {23, "rapl-dis"}, {24, "ciphertext-hiding"}, {25, "page-swap-disable"}};

typedef enum key { /* in the order of the canonical text */
                   KEY_POLICY,
                   KEY_ACCEPT,
                   KEY_MEASURE,
                   KEY_STATUS,
                   KEY_TCB_DATE,
                   KEY_TCB_EVALUATION,
                   KEY_DENY_ADVISORY,
                   KEY_SGX_PRODUCT,
                   KEY_SGX_SVN,
                   KEY_TD_REQUIRE,
                   KEY_TD_FORBID,
                   KEY_SNP_REQUIRE,
                   KEY_SNP_FORBID,
                   KEY_SNP_PLATFORM,
                   KEY_SNP_MITIGATIONS,
                   KEY_SNP_TCB,
                   KEY_SNP_VMPL,
                   KEY_REPORT_DATA,
                   KEY_PCRS,
                   KEY_AK_PIN,
                   KEY_ROOT,
                   KEY_TOLERANCE,
                   KEY_LOOSEN,
                   KEYS
} key;
static const char *const keys[KEYS] = {"attestation-policy",
                                       "accept",
                                       "measure",
                                       "status",
                                       "minimum-tcb-date",
                                       "minimum-tcb-evaluation",
                                       "deny-advisory",
                                       "sgx-isvprodid",
                                       "sgx-minimum-isvsvn",
                                       "td-require",
                                       "td-forbid",
                                       "snp-require",
                                       "snp-forbid",
                                       "snp-platform",
                                       "snp-mitigations",
                                       "snp-minimum-tcb",
                                       "snp-vmpl-max",
                                       "report-data",
                                       "pcrs",
                                       "ak-pin",
                                       "root",
                                       "tolerance",
                                       "loosen"};

/* In the order of struct cmif_loosened, of which each is one bool. */
static const char *const loosen_words[] = {"debug",     "no-crl", "no-report-data", "any-measurement",
                                           "ak-pinned", "servtd", "simulator"};
enum { LOOSENS = COUNT(loosen_words) };

static bool *loosen_of(struct cmif_loosened *l, size_t i)
{
    bool *const of[LOOSENS] = {&l->debug,     &l->no_crl, &l->no_report_data, &l->any_measurement,
                               &l->ak_pinned, &l->servtd, &l->simulator};
    return of[i];
}

const char *cmif_tee_word(cmif_tee tee)
{
    return (unsigned) tee < CMIF_TEE_COUNT ? tee_words[tee] : "none";
}

/* "pcr0" to "pcr23", in the one way to write it; PCRS: it is no PCR. */
static unsigned pcr_of(const char *name)
{
    for (unsigned i = 0; i < PCRS; i++) {
        char word[16];
        snprintf(word, sizeof word, "pcr%u", i);
        if (!strcmp(word, name)) {
            return i;
        }
    }
    return PCRS;
}

size_t cmif_attest_measured_size(cmif_tee tee, const char *name, size_t *other)
{
    *other = 0;
    if (tee == CMIF_TEE_TPM && pcr_of(name) < PCRS) {
        *other = 48;
        return 32;
    }
    for (size_t i = 0; i < COUNT(measurements); i++) {
        if (measurements[i].tee == tee && !strcmp(measurements[i].name, name)) {
            return measurements[i].size;
        }
    }
    return 0;
}

static bool names_program(const cmif_measured *m)
{
    for (size_t i = 0; i < COUNT(measurements); i++) {
        if (measurements[i].tee == m->tee && !strcmp(measurements[i].name, m->name)) {
            return measurements[i].program;
        }
    }
    return m->tee == CMIF_TEE_TPM;
}

/* ---- reading ---- */

typedef struct own_root {
    cmif_item item;
    cmif_tee  tee; /* NONE: the file did not say; the one that is accepted */
    unsigned  line;
} own_root;

typedef struct held { /* what the policy of a file points to; the file comes first, so that one is the other */
    cmif_attest_policy_file file;
    cmif_measured           measured[MEASURED_MAX];
    char                    advisories[ADVISORIES_MAX][ADVISORY_SIZE];
    const char             *advisory_list[ADVISORIES_MAX + 1];
    uint8_t                 pins[PINS_MAX * PIN_SIZE];
    uint8_t                 report_data[REPORT_DATA_SIZE];
    own_root                own_roots[ROOTS_MAX]; /* as they come; then: */
    cmif_item               roots[ROOTS_MAX];
    cmif_tee                root_tees[ROOTS_MAX];
    size_t                  advisory_count;
} held;

typedef struct reading {
    held       *h;
    const char *at, *end; /* of the text */
    unsigned    line;
    bool        has[KEYS];
    char        text[1024]; /* the line, cut into words */
    char       *words[WORDS_MAX];
    size_t      count;
    cmif_err   *err;
} reading;

static cmif_code bad(const reading *r, const char *what)
{
    return cmif_fail(r->err, CMIF_E_FORMAT, "line %u: %s", r->line, what);
}

/* Take one line off the text and cut it at white space; # begins a comment. */
static cmif_code next_line(reading *r)
{
    const char *stop = memchr(r->at, '\n', (size_t) (r->end - r->at));
    size_t      size = (size_t) ((stop ? stop : r->end) - r->at);
    const char *line = r->at;
    r->at            = stop ? stop + 1 : r->end;
    r->count         = 0;
    r->line++;
    const char *comment = memchr(line, '#', size);
    size                = comment ? (size_t) (comment - line) : size;
    if (size >= sizeof r->text) {
        return bad(r, "longer than a line can be");
    }
    for (size_t i = 0; i < size; i++) {
        if ((line[i] < ' ' && line[i] != '\t' && line[i] != '\r') || line[i] > '~') {
            return bad(r, "a character that is no printable ASCII");
        }
    }
    memcpy(r->text, line, size);
    r->text[size] = '\0';
    char *rest    = NULL;
    for (char *word = strtok_r(r->text, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest)) {
        if (r->count == WORDS_MAX) {
            return bad(r, "more words than a line can have");
        }
        r->words[r->count++] = word;
    }
    return CMIF_OK;
}

static size_t find_word(const char *word, const char *const *words, size_t count)
{
    size_t i = 0;
    while (i < count && strcmp(word, words[i]) != 0) {
        i++;
    }
    return i;
}

/* Bytes of a hexadecimal word, at most room; 0: it is none, or too long. */
static size_t read_hex(char *word, uint8_t *out, size_t room)
{
    size_t size = 0;
    for (char *c = word; *c; c++, size++) {
        *c = *c >= 'A' && *c <= 'F' ? (char) (*c - 'A' + 'a') : *c;
    }
    return size % 2 == 0 && size <= 2 * room && cmif_unhex(word, size / 2, out) ? size / 2 : 0;
}

static bool read_number(const char *word, uint64_t most, uint64_t *out)
{
    uint64_t value = 0;
    if (!*word || strlen(word) > 10 || (word[0] == '0' && word[1])) {
        return false;
    }
    for (; *word; word++) {
        if (*word < '0' || *word > '9') {
            return false;
        }
        value = value * 10 + (uint64_t) (*word - '0');
    }
    *out = value;
    return value <= most;
}

/* "2024-03-13" is its first second, UTC. */
static bool read_date(const char *word, int64_t *out)
{
    int year = 0, month = 0, day = 0, used = 0;
    if (strlen(word) != 10 || strspn(word, "0123456789-") != 10 ||
        sscanf(word, "%4d-%2d-%2d%n", &year, &month, &day, &used) != 3 || used != 10) {
        return false;
    }
    struct tm parts = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day}, again = {0};
    time_t    when = timegm(&parts);
    if (year < 1970 || !gmtime_r(&when, &again) || again.tm_year != year - 1900 || again.tm_mon != month - 1 ||
        again.tm_mday != day) {
        return false;
    }
    *out = when;
    return true;
}

static int compare_measured(const void *a, const void *b)
{
    const cmif_measured *x = a, *y = b;
    int                  order = (x->tee > y->tee) - (x->tee < y->tee);
    if (!order && x->tee == CMIF_TEE_TPM) {
        unsigned i = pcr_of(x->name), j = pcr_of(y->name);
        order = (i > j) - (i < j);
    }
    order = order ? order : strcmp(x->name, y->name);
    order = order ? order : (x->size > y->size) - (x->size < y->size);
    return order ? order : memcmp(x->value, y->value, x->size);
}

static cmif_code read_measure(reading *r)
{
    cmif_attest_policy *p     = &r->h->file.policy;
    cmif_measured       one   = {0};
    size_t              other = 0;
    if (r->count != 4) {
        return bad(r, "expected 'measure', a technology, a name and a value: 'measure tdx mrtd 91eb2b...'");
    }
    one.tee = (cmif_tee) find_word(r->words[1], tee_words, CMIF_TEE_COUNT);
    if (one.tee == CMIF_TEE_NONE || one.tee == CMIF_TEE_COUNT) {
        return bad(r, "expected sgx, tdx, snp, tpm or sim");
    }
    size_t size = strlen(r->words[2]) < sizeof one.name ? cmif_attest_measured_size(one.tee, r->words[2], &other) : 0;
    if (size == 0) {
        return bad(r, one.tee == CMIF_TEE_SGX   ? "expected mrenclave or mrsigner"
                      : one.tee == CMIF_TEE_TDX ? "expected mrtd, rtmr0 to rtmr3, mrseam, mrconfigid or mrowner"
                      : one.tee == CMIF_TEE_SNP ? "expected measurement, host_data or id_key_digest"
                      : one.tee == CMIF_TEE_TPM ? "expected pcr0 to pcr23"
                                                : "expected measurement");
    }
    snprintf(one.name, sizeof one.name, "%s", r->words[2]);
    one.size = read_hex(r->words[3], one.value, sizeof one.value);
    if (one.size == 0 || (one.size != size && one.size != other)) {
        return cmif_fail(r->err, CMIF_E_FORMAT,
                         "line %u: expected %zu%s hexadecimal digits for %s, found %zu characters", r->line, 2 * size,
                         other ? " or 96" : "", one.name, strlen(r->words[3]));
    }
    for (size_t i = 0; i < p->measured_count; i++) {
        if (!compare_measured(&r->h->measured[i], &one)) {
            return bad(r, "this value was given before");
        }
    }
    if (p->measured_count == MEASURED_MAX) {
        return bad(r, "more measurements than a policy can hold");
    }
    r->h->measured[p->measured_count++] = one;
    return CMIF_OK;
}

static cmif_code read_status(reading *r)
{
    cmif_attest_policy *p = &r->h->file.policy;
    p->statuses           = 0;
    for (size_t i = 1; i < r->count; i++) {
        cmif_tcb_status status = CMIF_TCB_UP_TO_DATE;
        while (status < CMIF_TCB_STATUSES && strcmp(r->words[i], cmif_tcb_status_name(status)) != 0) {
            status++;
        }
        if (status == CMIF_TCB_STATUSES) {
            return bad(r, "expected names of TCB statuses as Intel writes them: UpToDate, SWHardeningNeeded, "
                          "ConfigurationNeeded, ...");
        }
        if (status == CMIF_TCB_REVOKED || status == CMIF_TCB_NOT_SUPPORTED) {
            return bad(r, status == CMIF_TCB_REVOKED ? "Revoked can never be accepted"
                                                     : "a platform that no TCB level describes can never be accepted");
        }
        if (p->statuses >> status & 1) {
            return bad(r, "this status was given before");
        }
        p->statuses |= 1U << status;
    }
    return p->statuses ? CMIF_OK : bad(r, "expected one or more TCB statuses");
}

static cmif_code read_bits(reading *r, const bit_name *names, size_t count, const char *what, uint64_t *out)
{
    uint64_t bits = 0;
    if (r->count == 2 && !strcmp(r->words[1], "none")) {
        *out = 0;
        return CMIF_OK;
    }
    for (size_t i = 1; i < r->count; i++) {
        size_t which = 0;
        while (which < count && strcmp(r->words[i], names[which].name) != 0) {
            which++;
        }
        if (which == count) {
            return bad(r, what);
        }
        if (bits >> names[which].bit & 1) {
            return bad(r, "this attribute was given before");
        }
        bits |= 1ULL << names[which].bit;
    }
    *out = bits;
    return r->count > 1 ? CMIF_OK : bad(r, "expected names of attributes, or none");
}

/* "0,1,2,7" */
static cmif_code read_list(reading *r, uint64_t most, uint64_t *out)
{
    uint64_t bits = 0, number = 0;
    char    *rest = NULL;
    for (char *one = strtok_r(r->words[1], ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        if (!read_number(one, most, &number) || bits >> number & 1) {
            return cmif_fail(r->err, CMIF_E_FORMAT,
                             "line %u: expected numbers from 0 to %" PRIu64 ", each once, with commas: 0,1,2,7",
                             r->line, most);
        }
        bits |= 1ULL << number;
    }
    *out = bits;
    return bits ? CMIF_OK : bad(r, "expected numbers with commas: 0,1,2,7");
}

static cmif_code read_root(reading *r)
{
    cmif_attest_policy *p      = &r->h->file.policy;
    char               *base64 = calloc(1, ROOT_SIZE_MAX * 2);
    uint8_t            *der    = calloc(1, ROOT_SIZE_MAX * 2);
    size_t              size   = 0;
    X509               *x      = NULL;
    cmif_code           rc     = CMIF_OK;
    own_root            one    = {.line = r->line};
    if (r->count == 2) { /* the technology that it is for */
        one.tee = (cmif_tee) find_word(r->words[1], tee_words, CMIF_TEE_SIM);
    }
    if (r->count == 2 && (one.tee == CMIF_TEE_NONE || one.tee == CMIF_TEE_SIM)) {
        rc = bad(r, "expected sgx, tdx, snp or tpm after 'root'");
        goto done;
    }
    if (!base64 || !der) {
        rc = cmif_fail(r->err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    if (p->root_count == ROOTS_MAX) {
        rc = bad(r, "more roots than a policy can hold");
        goto done;
    }
    for (bool first = true;; first = false) {
        bool more = r->at < r->end;
        rc        = more ? next_line(r) : bad(r, "a certificate without its last line, " CERTIFICATE_END);
        if (rc != CMIF_OK) {
            goto done;
        }
        bool begins = r->count == 2 && !strcmp(r->words[0], "-----BEGIN") && !strcmp(r->words[1], "CERTIFICATE-----");
        bool ends   = r->count == 2 && !strcmp(r->words[0], "-----END") && !strcmp(r->words[1], "CERTIFICATE-----");
        if (first != begins || (!begins && !ends && r->count != 1)) {
            rc = bad(r, first ? "expected " CERTIFICATE_BEGIN " after 'root'" : "expected a line of the certificate");
            goto done;
        }
        if (ends) {
            break;
        }
        size_t more_size = begins ? 0 : strlen(r->words[0]);
        if (size + more_size >= ROOT_SIZE_MAX) {
            rc = bad(r, "a certificate that is too long");
            goto done;
        }
        memcpy(base64 + size, r->words[0], more_size);
        size += more_size;
    }
    int            read = size && size % 4 == 0 ? EVP_DecodeBlock(der, (const uint8_t *) base64, (int) size) : -1;
    const uint8_t *at   = der;
    if (read > 0) {
        read -= (base64[size - 1] == '=') + (base64[size - 2] == '=');
        x = d2i_X509(NULL, &at, read);
    }
    if (!x || at != der + read) {
        rc = bad(r, "what ends here is no certificate");
        goto done;
    }
    one.item                         = (cmif_item){CMIF_ITEM_CERTIFICATES, der, (size_t) read};
    r->h->own_roots[p->root_count++] = one;
    der                              = NULL;
done:
    X509_free(x);
    free(der);
    free(base64);
    return rc;
}

static cmif_code read_line(reading *r)
{
    cmif_attest_policy *p      = &r->h->file.policy;
    uint64_t            number = 0;
    const key           which  = (key) find_word(r->words[0], keys, KEYS);
    /* keys that may come more than once, each time with another value */
    const bool list = which == KEY_ACCEPT || which == KEY_MEASURE || which == KEY_DENY_ADVISORY ||
                      which == KEY_AK_PIN || which == KEY_ROOT || which == KEY_LOOSEN;
    const bool many =
        which == KEY_MEASURE || which == KEY_STATUS || (which >= KEY_TD_REQUIRE && which <= KEY_SNP_PLATFORM);

    if (which == KEYS) {
        return bad(r, "a key that is not known: accept, measure, status, minimum-tcb-..., deny-advisory, sgx-..., "
                      "td-..., snp-..., "
                      "report-data, pcrs, ak-pin, root, tolerance and loosen are");
    }
    if ((which == KEY_POLICY) == r->has[KEY_POLICY]) {
        return bad(r, r->has[KEY_POLICY] ? "attestation-policy was given before"
                                         : "expected 'attestation-policy 1' first");
    }
    if (r->has[which] && !list) {
        return bad(r, "this key was given before");
    }
    r->has[which] = true;
    if (!many && r->count != 2 && !(which == KEY_ROOT && r->count == 1)) {
        return bad(r, r->count == 1 ? "expected a value" : "expected the end of the line, found text");
    }
    const char *word = r->count > 1 ? r->words[1] : "";
    size_t      found;
    switch (which) {
    case KEY_POLICY:
        return strcmp(word, "1") ? bad(r, "expected 'attestation-policy 1': this program reads no other version")
                                 : CMIF_OK;
    case KEY_ACCEPT:
        found = find_word(word, tee_words, CMIF_TEE_COUNT);
        if (found == CMIF_TEE_NONE || found == CMIF_TEE_COUNT) {
            return bad(r, "expected sgx, tdx, snp, tpm or sim");
        }
        if (p->tees >> found & 1) {
            return bad(r, "this technology was accepted before");
        }
        p->tees |= 1U << found;
        return CMIF_OK;
    case KEY_MEASURE:
        return read_measure(r);
    case KEY_STATUS:
        return read_status(r);
    case KEY_TCB_DATE:
        return read_date(word, &p->minimum_tcb_date) ? CMIF_OK : bad(r, "expected a date like 2024-03-13");
    case KEY_TCB_EVALUATION:
        if (!read_number(word, UINT32_MAX, &number)) {
            return bad(r, "expected a number: the lowest tcbEvaluationDataNumber that will do");
        }
        p->minimum_tcb_evaluation = (uint32_t) number;
        return CMIF_OK;
    case KEY_DENY_ADVISORY:
        if (strlen(word) >= ADVISORY_SIZE || strncmp(word, "INTEL-SA-", 9) != 0 || !word[9] ||
            strspn(word + 9, "0123456789") != strlen(word + 9)) {
            return bad(r, "expected the name of an advisory: INTEL-SA-00615");
        }
        for (size_t i = 0; i < r->h->advisory_count; i++) {
            if (!strcmp(word, r->h->advisories[i])) {
                return bad(r, "this advisory was denied before");
            }
        }
        if (r->h->advisory_count == ADVISORIES_MAX) {
            return bad(r, "more advisories than a policy can hold");
        }
        snprintf(r->h->advisories[r->h->advisory_count++], ADVISORY_SIZE, "%s", word);
        return CMIF_OK;
    case KEY_SGX_PRODUCT:
        if (!read_number(word, UINT16_MAX, &number)) {
            return bad(r, "expected a number from 0 to 65535: ISVPRODID");
        }
        p->sgx_isvprodid = (int64_t) number;
        return CMIF_OK;
    case KEY_SGX_SVN:
        if (!read_number(word, UINT16_MAX, &number)) {
            return bad(r, "expected a number from 0 to 65535: the lowest ISVSVN that will do");
        }
        p->sgx_minimum_isvsvn = (uint32_t) number;
        return CMIF_OK;
    case KEY_TD_REQUIRE:
    case KEY_TD_FORBID:
        return read_bits(r, td_bits, COUNT(td_bits),
                         "expected none, or sept-ve-disable, migratable, pks, kl, perfmon (debug is forbidden anyway)",
                         which == KEY_TD_REQUIRE ? &p->td_required : &p->td_forbidden);
    case KEY_SNP_REQUIRE:
    case KEY_SNP_FORBID:
        return read_bits(
            r, snp_bits, COUNT(snp_bits),
            "expected none, or smt, migrate-ma, single-socket, cxl, mem-aes-256-xts, rapl-dis, ciphertext-hiding, "
            "page-swap-disable (debug is forbidden anyway)",
            which == KEY_SNP_REQUIRE ? &p->snp_required : &p->snp_forbidden);
    case KEY_SNP_PLATFORM:
        return read_bits(r, platform_bits, COUNT(platform_bits),
                         "expected none, or smt, tsme, ecc, rapl-dis, ciphertext-hiding, alias-check-complete, "
                         "iommu-write-safe, tio",
                         &p->snp_platform_required);
    case KEY_SNP_MITIGATIONS:
        return read_list(r, 63, &p->snp_mit_required);
    case KEY_SNP_TCB:
        return read_hex(r->words[1], p->snp_minimum_tcb, 8) == 8
                   ? CMIF_OK
                   : bad(r,
                         "expected 16 hexadecimal digits: the 8 bytes of a COMMITTED_TCB, each the least that will do");
    case KEY_SNP_VMPL:
        if (!read_number(word, 3, &number)) {
            return bad(r, "expected 0, 1, 2 or 3");
        }
        p->snp_vmpl_max = (uint32_t) number;
        return CMIF_OK;
    case KEY_REPORT_DATA:
        p->report_data_size = read_hex(r->words[1], r->h->report_data, REPORT_DATA_SIZE);
        p->report_data      = r->h->report_data;
        return p->report_data_size ? CMIF_OK : bad(r, "expected 1 to 64 bytes, as hexadecimal digits");
    case KEY_PCRS: {
        uint64_t  mask = 0;
        cmif_code rc   = read_list(r, PCRS - 1, &mask);
        p->pcr_mask    = (uint32_t) mask;
        return rc;
    }
    case KEY_AK_PIN: {
        uint8_t pin[PIN_SIZE];
        if (read_hex(r->words[1], pin, PIN_SIZE) != PIN_SIZE) {
            return bad(r, "expected 64 hexadecimal digits: SHA-256 of the key's SubjectPublicKeyInfo");
        }
        for (size_t i = 0; i < p->ak_pin_count; i++) {
            if (!memcmp(r->h->pins + i * PIN_SIZE, pin, PIN_SIZE)) {
                return bad(r, "this key was pinned before");
            }
        }
        if (p->ak_pin_count == PINS_MAX) {
            return bad(r, "more pinned keys than a policy can hold");
        }
        memcpy(r->h->pins + p->ak_pin_count++ * PIN_SIZE, pin, PIN_SIZE);
        return CMIF_OK;
    }
    case KEY_ROOT:
        return read_root(r);
    case KEY_TOLERANCE:
        if (!read_number(word, TOLERANCE_MAX, &number)) {
            return bad(r, "expected seconds, from 0 to 86400");
        }
        p->tolerance = (int64_t) number;
        return CMIF_OK;
    default:
        found = find_word(word, loosen_words, LOOSENS);
        if (found == LOOSENS) {
            return bad(r, "expected debug, no-crl, no-report-data, any-measurement, ak-pinned, "
                          "servtd or simulator");
        }
        if (*loosen_of(&p->loosened, found)) {
            return bad(r, "this was loosened before");
        }
        *loosen_of(&p->loosened, found) = true;
        return CMIF_OK;
    }
}

/* Which technology each root is for, and that it is one that is accepted. */
static cmif_code check_roots(reading *r)
{
    const cmif_attest_policy *p = &r->h->file.policy;
    for (size_t i = 0; i < p->root_count; i++) {
        own_root *one = &r->h->own_roots[i];
        r->line       = one->line;
        if (one->tee == CMIF_TEE_NONE && p->tees & (p->tees - 1)) {
            return bad(r,
                       "more than one technology is accepted, so say which this root is for: 'root sgx', 'root tdx', "
                       "'root snp' or 'root tpm'");
        }
        for (cmif_tee tee = CMIF_TEE_SGX; one->tee == CMIF_TEE_NONE && tee < CMIF_TEE_COUNT; tee++) {
            one->tee = p->tees >> tee & 1 ? tee : CMIF_TEE_NONE;
        }
        const bool vouches = (one->tee == CMIF_TEE_SNP || one->tee == CMIF_TEE_TDX) && (p->tees >> CMIF_TEE_TPM & 1);
        if (one->tee == CMIF_TEE_SIM || !(p->tees >> one->tee & 1 || vouches)) {
            return cmif_fail(r->err, CMIF_E_FORMAT, "line %u: a root for %s, which %s", r->line, tee_words[one->tee],
                             one->tee == CMIF_TEE_SIM ? "has a key of its own" : "is not accepted");
        }
        for (size_t k = 0; k < i; k++) {
            const own_root *other = &r->h->own_roots[k];
            if (other->tee == one->tee && other->item.size == one->item.size &&
                !memcmp(other->item.data, one->item.data, one->item.size)) {
                return bad(r, "this root was given before");
            }
        }
    }
    return CMIF_OK;
}

/* What only the whole tells. */
static cmif_code check_whole(reading *r)
{
    const cmif_attest_policy *p = &r->h->file.policy;
    if (!r->has[KEY_POLICY]) {
        return bad(r, "expected 'attestation-policy 1' first");
    }
    if (!p->tees) {
        return bad(r, "the policy ends without accepting anything: name one or more technologies with 'accept'");
    }
    for (cmif_tee tee = CMIF_TEE_SGX; tee < CMIF_TEE_COUNT; tee++) {
        bool named = false, program = p->loosened.any_measurement;
        for (size_t i = 0; i < p->measured_count; i++) {
            named   = named || p->measured[i].tee == tee;
            program = program || (p->measured[i].tee == tee && names_program(&p->measured[i]));
        }
        const bool accepted = p->tees >> tee & 1;
        /* a TPM's key may be vouched for by a hardware report, which then is measured too */
        const bool vouches = (tee == CMIF_TEE_SNP || tee == CMIF_TEE_TDX) && (p->tees >> CMIF_TEE_TPM & 1);
        if (accepted && !program) {
            return cmif_fail(r->err, CMIF_E_FORMAT,
                             "line %u: the policy ends without a measurement for %s, so any program would do: name one "
                             "with 'measure %s ...', or say "
                             "'loosen any-measurement'",
                             r->line, tee_words[tee], tee_words[tee]);
        }
        if (named && !accepted && !vouches) {
            return cmif_fail(r->err, CMIF_E_FORMAT, "line %u: %s is measured but not accepted: 'accept %s' is missing",
                             r->line, tee_words[tee], tee_words[tee]);
        }
    }
    if ((p->tees >> CMIF_TEE_SIM & 1) != p->loosened.simulator) {
        return bad(r, "the simulator proves nothing: it takes both 'accept sim' and 'loosen simulator'");
    }
    if (p->loosened.no_report_data && p->report_data) {
        return bad(r, "report-data is asked for and loosened: take one of the two away");
    }
    if (p->loosened.ak_pinned && !p->ak_pin_count) {
        return bad(r, "'loosen ak-pinned' without any ak-pin");
    }
    for (size_t i = 0; p->pcr_mask && i < p->measured_count; i++) {
        if (p->measured[i].tee == CMIF_TEE_TPM && !(p->pcr_mask >> pcr_of(p->measured[i].name) & 1)) {
            return cmif_fail(r->err, CMIF_E_FORMAT, "line %u: %s is measured but not among 'pcrs'", r->line,
                             p->measured[i].name);
        }
    }
    if ((p->td_required & p->td_forbidden) || (p->snp_required & p->snp_forbidden)) {
        return bad(r, "an attribute is both required and forbidden");
    }
    return check_roots(r);
}

static int compare_advisories(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int compare_pins(const void *a, const void *b)
{
    return memcmp(a, b, PIN_SIZE);
}

static int compare_roots(const void *a, const void *b)
{
    const own_root *x = a, *y = b;
    return x->tee != y->tee               ? (x->tee > y->tee ? 1 : -1)
           : x->item.size != y->item.size ? (x->item.size > y->item.size ? 1 : -1)
                                          : memcmp(x->item.data, y->item.data, x->item.size);
}

cmif_code cmif_attest_policy_parse(const char *text, size_t size, cmif_attest_policy_file **out, cmif_err *err)
{
    cmif_code rc        = CMIF_OK;
    char     *canonical = NULL;
    unsigned  hash_size = 0;
    held     *h         = calloc(1, sizeof *h);
    reading   r         = {.h = h, .at = text, .end = text + size, .err = err};
    if (!h) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    cmif_attest_policy *p = &h->file.policy;
    cmif_attest_policy_init(p);
    p->measured = h->measured;
    p->ak_pins  = h->pins;
    if (size > FILE_SIZE_MAX) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "a policy of %zu bytes: at most %d can be", size, FILE_SIZE_MAX);
        goto done;
    }
    while (rc == CMIF_OK && r.at < r.end) {
        rc = next_line(&r);
        rc = rc == CMIF_OK && r.count ? read_line(&r) : rc;
    }
    r.line += r.line == 0;
    rc = rc == CMIF_OK ? check_whole(&r) : rc;
    if (rc != CMIF_OK) {
        goto done;
    }
    qsort(h->measured, p->measured_count, sizeof *h->measured, compare_measured);
    qsort(h->advisories, h->advisory_count, ADVISORY_SIZE, compare_advisories);
    qsort(h->pins, p->ak_pin_count, PIN_SIZE, compare_pins);
    qsort(h->own_roots, p->root_count, sizeof *h->own_roots, compare_roots);
    for (size_t i = 0; i < p->root_count; i++) {
        h->roots[i]     = h->own_roots[i].item;
        h->root_tees[i] = h->own_roots[i].tee;
    }
    for (size_t i = 0; i < h->advisory_count; i++) {
        h->advisory_list[i] = h->advisories[i];
    }
    p->denied_advisories = h->advisory_count ? h->advisory_list : NULL;
    p->ak_pins           = p->ak_pin_count ? h->pins : NULL;
    p->roots             = p->root_count ? h->roots : NULL;
    p->root_tees         = p->root_count ? h->root_tees : NULL;
    canonical            = cmif_attest_policy_text(p);
    if (!canonical || !EVP_Digest(canonical, strlen(canonical), h->file.hash, &hash_size, EVP_sha256(), NULL)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    *out = &h->file;
    h    = NULL;
done:
    free(canonical);
    cmif_attest_policy_free(h ? &h->file : NULL);
    return rc;
}

cmif_code cmif_attest_policy_open(const char *path, cmif_attest_policy_file **out, cmif_err *err)
{
    cmif_code   rc   = CMIF_OK;
    size_t      size = 0;
    char       *text = malloc(FILE_SIZE_MAX + 1);
    int         fd   = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe has nobody at its other end */
    struct stat info;
    if (fd < 0 || fstat(fd, &info) < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open policy '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        rc = cmif_fail(err, CMIF_E_IO, "policy '%s' is no file: name the file that holds it", path);
        goto done;
    }
    if (!text) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    while (size <= FILE_SIZE_MAX) {
        ssize_t n = read(fd, text + size, FILE_SIZE_MAX + 1 - size);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read policy '%s': %s", path, strerror(errno));
            goto done;
        }
        size += n > 0 ? (size_t) n : 0;
    }
    rc = cmif_attest_policy_parse(text, size, out, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "policy '%s'", path);
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    free(text);
    return rc;
}

void cmif_attest_policy_free(cmif_attest_policy_file *file)
{
    if (file) {
        const held *h = (const held *) (const void *) file;
        for (size_t i = 0; i < file->policy.root_count; i++) {
            free((void *) (uintptr_t) h->own_roots[i].item.data); /* ours: read_root made it */
        }
        free(file);
    }
}

/* ---- writing ---- */

static void put(cmif_writer *w, const char *text)
{
    cmif_write_bytes(w, text, strlen(text));
}

static void put_hex(cmif_writer *w, const uint8_t *bytes, size_t size)
{
    char text[2 * REPORT_DATA_SIZE + 1];
    cmif_hex(bytes, size < REPORT_DATA_SIZE ? size : REPORT_DATA_SIZE, text);
    put(w, text);
}

static void put_line(cmif_writer *w, key which, const char *value)
{
    put(w, keys[which]);
    put(w, " ");
    put(w, value);
    put(w, "\n");
}

static void put_number(cmif_writer *w, key which, int64_t value)
{
    char number[24];
    snprintf(number, sizeof number, "%" PRId64, value);
    put_line(w, which, number);
}

static void put_bits(cmif_writer *w, key which, const bit_name *names, size_t count, uint64_t bits)
{
    put(w, keys[which]);
    for (size_t i = 0; i < count; i++) {
        if (bits >> names[i].bit & 1) {
            put(w, " ");
            put(w, names[i].name);
        }
    }
    put(w, bits ? "\n" : " none\n");
}

/* Nothing for none. */
static void put_list(cmif_writer *w, key which, uint64_t bits)
{
    const char *separator = " ";
    if (bits) {
        put(w, keys[which]);
    }
    for (unsigned i = 0; i < 64; i++) {
        char number[8];
        snprintf(number, sizeof number, "%s%u", separator, i);
        if (bits >> i & 1) {
            put(w, number);
            separator = ",";
        }
    }
    put(w, bits ? "\n" : "");
}

static void put_root(cmif_writer *w, const cmif_item *root, const cmif_tee *tee)
{
    put(w, tee ? "root " : "root");
    put(w, tee ? cmif_tee_word(*tee) : "");
    put(w, "\n" CERTIFICATE_BEGIN "\n");
    for (size_t at = 0; at < root->size; at += 48) {
        uint8_t line[72];
        size_t  size = root->size - at < 48 ? root->size - at : 48;
        int     made = EVP_EncodeBlock(line, root->data + at, (int) size);
        cmif_write_bytes(w, line, (size_t) made);
        put(w, "\n");
    }
    put(w, CERTIFICATE_END "\n");
}

static void put_policy(cmif_writer *w, const cmif_attest_policy *p)
{
    cmif_attest_policy   base;
    struct cmif_loosened loosened = p->loosened;
    cmif_attest_policy_init(&base);
    put_line(w, KEY_POLICY, "1");
    for (cmif_tee tee = CMIF_TEE_SGX; tee < CMIF_TEE_COUNT; tee++) {
        if (p->tees >> tee & 1) {
            put_line(w, KEY_ACCEPT, tee_words[tee]);
        }
    }
    for (size_t i = 0; i < p->measured_count; i++) {
        const cmif_measured *m       = &p->measured[i];
        const char *const    parts[] = {keys[KEY_MEASURE], " ", cmif_tee_word(m->tee), " ", m->name, " "};
        for (size_t j = 0; j < sizeof parts / sizeof *parts; j++) {
            put(w, parts[j]);
        }
        put_hex(w, m->value, m->size);
        put(w, "\n");
    }
    put(w, keys[KEY_STATUS]);
    for (cmif_tcb_status status = CMIF_TCB_UP_TO_DATE; status < CMIF_TCB_STATUSES; status++) {
        if (p->statuses >> status & 1) {
            put(w, " ");
            put(w, cmif_tcb_status_name(status));
        }
    }
    put(w, "\n");
    if (p->minimum_tcb_date != INT64_MIN) {
        char      date[32];
        time_t    when  = (time_t) p->minimum_tcb_date;
        struct tm parts = {0};
        gmtime_r(&when, &parts);
        strftime(date, sizeof date, "%Y-%m-%d", &parts);
        put_line(w, KEY_TCB_DATE, date);
    }
    if (p->minimum_tcb_evaluation) {
        put_number(w, KEY_TCB_EVALUATION, p->minimum_tcb_evaluation);
    }
    for (size_t i = 0; p->denied_advisories && p->denied_advisories[i]; i++) {
        put_line(w, KEY_DENY_ADVISORY, p->denied_advisories[i]);
    }
    if (p->sgx_isvprodid >= 0) {
        put_number(w, KEY_SGX_PRODUCT, p->sgx_isvprodid);
    }
    if (p->sgx_minimum_isvsvn) {
        put_number(w, KEY_SGX_SVN, p->sgx_minimum_isvsvn);
    }
    put_bits(w, KEY_TD_REQUIRE, td_bits, COUNT(td_bits), p->td_required);
    put_bits(w, KEY_TD_FORBID, td_bits, COUNT(td_bits), p->td_forbidden);
    put_bits(w, KEY_SNP_REQUIRE, snp_bits, COUNT(snp_bits), p->snp_required);
    put_bits(w, KEY_SNP_FORBID, snp_bits, COUNT(snp_bits), p->snp_forbidden);
    if (p->snp_platform_required) {
        put_bits(w, KEY_SNP_PLATFORM, platform_bits, COUNT(platform_bits), p->snp_platform_required);
    }
    put_list(w, KEY_SNP_MITIGATIONS, p->snp_mit_required);
    if (memcmp(p->snp_minimum_tcb, base.snp_minimum_tcb, sizeof base.snp_minimum_tcb) != 0) {
        put(w, "snp-minimum-tcb ");
        put_hex(w, p->snp_minimum_tcb, sizeof p->snp_minimum_tcb);
        put(w, "\n");
    }
    put_number(w, KEY_SNP_VMPL, p->snp_vmpl_max);
    if (p->report_data) {
        put(w, "report-data ");
        put_hex(w, p->report_data, p->report_data_size);
        put(w, "\n");
    }
    put_list(w, KEY_PCRS, p->pcr_mask);
    for (size_t i = 0; i < p->ak_pin_count; i++) {
        put(w, "ak-pin ");
        put_hex(w, p->ak_pins + i * PIN_SIZE, PIN_SIZE);
        put(w, "\n");
    }
    for (size_t i = 0; i < p->root_count; i++) {
        put_root(w, &p->roots[i], p->root_tees ? &p->root_tees[i] : NULL);
    }
    if (p->tolerance) {
        put_number(w, KEY_TOLERANCE, p->tolerance);
    }
    for (size_t i = 0; i < LOOSENS; i++) {
        if (*loosen_of(&loosened, i)) {
            put_line(w, KEY_LOOSEN, loosen_words[i]);
        }
    }
}

char *cmif_attest_policy_text(const cmif_attest_policy *p)
{
    size_t room = 4096 + 192 * p->measured_count + 80 * p->ak_pin_count;
    for (size_t i = 0; p->denied_advisories && p->denied_advisories[i]; i++) {
        room += 64;
    }
    for (size_t i = 0; i < p->root_count; i++) {
        room += 128 + 2 * p->roots[i].size;
    }
    char *text = calloc(1, room);
    if (text) {
        cmif_writer w = cmif_writer_over(text, room - 1);
        put_policy(&w, p);
        if (w.failed) { /* never: the room was counted; half a text must not pass for a policy */
            free(text);
            text = NULL;
        }
    }
    return text;
}

size_t cmif_attest_policy_loosened(const cmif_attest_policy *p, char words[][CMIF_LOOSENED_SIZE], size_t room)
{
    cmif_attest_policy   base;
    struct cmif_loosened loosened = p->loosened;
    size_t               count    = 0;
    cmif_attest_policy_init(&base);
    for (size_t i = 0; i < LOOSENS && count < room; i++) {
        if (*loosen_of(&loosened, i)) {
            snprintf(words[count++], CMIF_LOOSENED_SIZE, "%s", loosen_words[i]);
        }
    }
    for (cmif_tcb_status status = CMIF_TCB_UP_TO_DATE; status < CMIF_TCB_STATUSES && count < room; status++) {
        if (((p->statuses & ~base.statuses) >> status & 1)) {
            snprintf(words[count++], CMIF_LOOSENED_SIZE, "status-%s", cmif_tcb_status_name(status));
        }
    }
    for (size_t i = 0; i < COUNT(td_bits) && count < room; i++) {
        if (((base.td_required & ~p->td_required) | (base.td_forbidden & ~p->td_forbidden)) >> td_bits[i].bit & 1) {
            snprintf(words[count++], CMIF_LOOSENED_SIZE, "td-%s", td_bits[i].name);
        }
    }
    for (size_t i = 0; i < COUNT(snp_bits) && count < room; i++) {
        if ((base.snp_forbidden & ~p->snp_forbidden) >> snp_bits[i].bit & 1) {
            snprintf(words[count++], CMIF_LOOSENED_SIZE, "snp-%s", snp_bits[i].name);
        }
    }
    if (p->snp_vmpl_max > base.snp_vmpl_max && count < room) {
        snprintf(words[count++], CMIF_LOOSENED_SIZE, "snp-vmpl-%u", p->snp_vmpl_max);
    }
    if (p->root_count && count < room) {
        snprintf(words[count++], CMIF_LOOSENED_SIZE, "roots");
    }
    return count;
}
