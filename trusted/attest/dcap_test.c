#include "attest/dcap.h"

#include "attest/cases.h"
#include "attest/dcap_rig.h"
#include "attest/ratls.h"
#include "attest/x509.h"

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
                char name[512];
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

/* ---- every byte of a capture ---- */

/* The DER of certificate i of an item is the same in both spellings. */
static bool same_certificate(const cmif_pool *a, const cmif_pool *b, size_t i)
{
    return i < a->certificate_count && i < b->certificate_count && !X509_cmp(a->certificates[i], b->certificates[i]);
}

static bool same_certificates(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, size_t needed)
{
    cmif_pool pools[2] = {0};
    bool      same     = cmif_pool_add_certificates(&pools[0], a, a_size, NULL) == CMIF_OK &&
                cmif_pool_add_certificates(&pools[1], b, b_size, NULL) == CMIF_OK;
    for (size_t i = 0; i < needed; i++) {
        same = same && same_certificate(&pools[0], &pools[1], i);
    }
    cmif_pool_wipe(&pools[0]);
    cmif_pool_wipe(&pools[1]);
    return same;
}

static const char *const harmless_kinds[] = {
    "zeros after the quote", "PEM in the quote: spelling, or the root, which is not the one that is trusted",
    "PEM beside it: spelling, or a certificate that is on no path",
    "JSON: case of the signature's digits, or white space after the document"};
enum { HARMLESS = sizeof harmless_kinds / sizeof harmless_kinds[0] };

/* Bytes of an item that were accepted although they are not those of the capture: why does that not matter? -1: it
 * does. */
static int harmless(cmif_item_kind kind, const char *name, const uint8_t *a, size_t a_size, const uint8_t *b,
                    size_t b_size)
{
    if (kind == CMIF_ITEM_QUOTE) {
        cmif_quote q[2];
        if (cmif_quote_parse(a, a_size, &q[0], NULL) != CMIF_OK ||
            cmif_quote_parse(b, b_size, &q[1], NULL) != CMIF_OK || q[0].used != q[1].used || !q[1].trailing_zero ||
            q[0].certification_size != q[1].certification_size ||
            memcmp(a, b, q[0].used - q[0].certification_size) != 0) {
            return -1;
        }
        size_t size = q[0].certification_size - 1; /* the zero after the PEM */
        return !memcmp(a, b, q[0].used)                                                                 ? 0
               : same_certificates(q[0].certification, size, q[1].certification, size, /* needed= */ 2) ? 1
                                                                                                        : -1;
    }
    if (kind == CMIF_ITEM_CERTIFICATES) {
        return same_certificates(a, a_size, b, b_size, strstr(name, "signing") ? 1 : 0) ? 2 : -1;
    }
    if (kind == CMIF_ITEM_TCB_INFO || kind == CMIF_ITEM_QE_IDENTITY) {
        cmif_json   json[2] = {0};
        uint8_t     raw[2][64];
        const char *member  = kind == CMIF_ITEM_TCB_INFO ? "tcbInfo" : "enclaveIdentity";
        int         verdict = -1;
        if (cmif_json_parse(a, a_size, &json[0], NULL) == CMIF_OK &&
            cmif_json_parse(b, b_size, &json[1], NULL) == CMIF_OK) {
            uint32_t              m[2] = {cmif_json_get(&json[0], 0, member), cmif_json_get(&json[1], 0, member)};
            const cmif_json_node *n[2] = {&json[0].nodes[m[0]], &json[1].nodes[m[1]]};
            bool                  same = n[0]->start == n[1]->start && n[0]->size == n[1]->size &&
                        !memcmp(a + n[0]->start, b + n[1]->start, n[0]->size);
            for (int i = 0; i < 2; i++) {
                same = same && cmif_json_hex(&json[i], cmif_json_get(&json[i], 0, "signature"), raw[i], 64);
            }
            verdict = same && !memcmp(raw[0], raw[1], 64) ? 3 : -1;
        }
        cmif_json_wipe(&json[0]);
        cmif_json_wipe(&json[1]);
        return verdict;
    }
    return -1;
}

/* Evidence and collateral of accepted captures, one byte or one length at a time: nothing is accepted unless it means
 * the same. */
static void no_byte_can_be_changed_or_left_out(void)
{
    static const char *const accepted[] = {"tdx/v4-uptodate", "tdx/v5-td15-uptodate"};
    static cmif_verdict      v;
    size_t                   tried = 0, cut = 0, kinds_seen[HARMLESS] = {0};
    for (size_t f = 0; f < 2; f++) {
        capture c;
        CHECK(capture_open(accepted[f], false, &c));
        c.count--; /* the second copy of the PCK CA: with it, the one in the quote would be on no path */
        for (size_t i = 0; i < c.count; i++) {
            const cmif_item good = c.items[i];
            const char     *name = "";
            for (size_t k = 0; k < CAPTURE_FILES; k++) {
                name = c.files[k].data == good.data ? capture_files[k].name : name;
            }
            uint8_t *bent   = malloc(good.size);
            c.items[i].data = bent;
            memcpy(bent, good.data, good.size);
            for (size_t at = full ? 0 : f * 7; at < good.size; at += full ? 1 : 23) {
                for (unsigned bit = full ? 0 : (unsigned) (at % 8); bit < (full ? 8 : (unsigned) (at % 8) + 1); bit++) {
                    bent[at] ^= (uint8_t) (1u << bit);
                    judge(&c, &v);
                    tried++;
                    if (v.outcome == CMIF_ACCEPTED) {
                        int why = harmless(good.kind, name, good.data, good.size, bent, good.size);
                        CHECK(why >= 0);
                        if (why < 0) {
                            fprintf(stderr, "%s/%s: byte %zu, bit %u\n", accepted[f], name, at, bit);
                        } else {
                            kinds_seen[why]++;
                        }
                    }
                    CHECK(v.outcome != CMIF_ATTEST_INTERNAL);
                    bent[at] = good.data[at];
                }
            }
            for (size_t size = full ? 0 : f * 7; size < good.size; size += full ? 1 : 61) {
                c.items[i].size = size;
                judge(&c, &v);
                cut++;
                if (v.outcome == CMIF_ACCEPTED) {
                    int why = harmless(good.kind, name, good.data, good.size, bent, size);
                    CHECK(why >= 0);
                    if (why < 0) {
                        fprintf(stderr, "%s/%s: first %zu bytes\n", accepted[f], name, size);
                    } else {
                        kinds_seen[why]++;
                    }
                }
            }
            c.items[i] = good;
            free(bent);
        }
        capture_close(&c);
    }
    printf("%zu flips and %zu truncations; accepted, since they mean the same:\n", tried, cut);
    for (size_t k = 0; k < HARMLESS; k++) {
        printf("  %6zu %s\n", kinds_seen[k], harmless_kinds[k]);
    }
}

/* Every file of a good bundle is asked for by some reason. */
static void no_file_of_the_collateral_is_idle(void)
{
    static const char *const said[CAPTURE_FILES] = {"no-evidence",
                                                    "no-collateral",
                                                    "no-collateral",
                                                    "invalid-collateral",
                                                    "revocation-pck",
                                                    "revocation-pck",
                                                    NULL /* the quote brings the same */,
                                                    NULL};
    static cmif_verdict      v;
    capture                  c;
    CHECK(capture_open("tdx/v4-uptodate", false, &c));
    for (size_t i = 0; i < c.count; i++) {
        const cmif_item gone = c.items[i];
        c.items[i]           = c.items[c.count - 1];
        c.count--;
        judge(&c, &v);
        CHECK(said[i] ? v.outcome != CMIF_ACCEPTED && case_has_reason(&v, said[i]) : v.outcome == CMIF_ACCEPTED);
        c.items[c.count++] = c.items[i];
        c.items[i]         = gone;
    }
    capture_close(&c);
}

/* ---- an Intel of our own ---- */

static int bent_count;

/* Are the words, in any order, exactly those of the list? */
static bool words_are(const char *words, char (*list)[CMIF_REASON_SIZE], size_t count)
{
    size_t wanted = 0;
    char   copy[1024];
    bool   all = true;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *rest = NULL, *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        bool here = false;
        for (size_t i = 0; i < count; i++) {
            here = here || !strcmp(list[i], word);
        }
        all = all && here;
        wanted++;
    }
    return all && wanted == count;
}

static void bent_judge(const char *name, world *w, cmif_outcome outcome, const char *reasons, const char *errors)
{
    static cmif_verdict v;
    world_judge(w, &v);
    bent_count++;
    const bool as_said = v.outcome == outcome && words_are(reasons, v.reasons, v.reason_count) &&
                         words_are(errors, v.errors, v.error_count);
    if (!as_said) {
        fprintf(stderr, "version %u body %u, edit %s: ", w->version, w->body_type, rig_last_edit);
        case_tell(name, &v);
    }
    CHECK(as_said);
}

/* A good world of this version and body, bent by some statements before it is made (or its bytes after that), and what
 * must be said of it. */
static world w;
#define BENT(version, body, outcome, reasons, errors, ...)                                                             \
    do {                                                                                                               \
        world_new(&w, version, body);                                                                                  \
        __VA_ARGS__;                                                                                                   \
        world_make(&w);                                                                                                \
        bent_judge(#__VA_ARGS__, &w, outcome, reasons, errors);                                                        \
    } while (0)
#define BENT_AFTER(version, body, outcome, reasons, errors, ...)                                                       \
    do {                                                                                                               \
        world_new(&w, version, body);                                                                                  \
        world_make(&w);                                                                                                \
        __VA_ARGS__;                                                                                                   \
        bent_judge(#__VA_ARGS__, &w, outcome, reasons, errors);                                                        \
    } while (0)

static const unsigned kinds[][2] = {{3, 1}, {4, 1}, {4, 2}, {5, 1}, {5, 2}, {5, 3}}; /* version, body type */
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static size_t length_offset(const world *x)
{
    return (x->version == 5 ? 54u : 48u) + x->body_size;
}
static size_t qe_offset(const world *x)
{
    return length_offset(x) + (x->version >= 4 ? 138u : 132u);
}

static void a_good_world_of_each_kind_is_accepted(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        BENT(version, body, CMIF_ACCEPTED, "", "", w.time += 0);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.pem_reversed = true);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.pem_no_zero = true);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.auth_size = 0);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.auth_size = 64);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.trailing = 3000);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.extension = RIG_REVERSED);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.certificates[RIG_CA].name = "Intel SGX PCK Processor CA");
        BENT(version, body, CMIF_ACCEPTED, "", "", memset(w.components, 255, 16); w.pcesvn = 65535);
    }
}

static void header_and_layout_are_what_they_must_be(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[0] = 2);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[0] = 6);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[1] = 1);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[2] = 3);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[2] = 0);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[4] = 1);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[7] = 1);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[12] ^= 1);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[27] ^= 1);
        BENT(version, body, CMIF_REJECTED, "non-zero-trailing-bytes", "", w.trailing = 1; w.trailing_byte = 1);
        for (unsigned type = 1; type <= 7; type++) {
            if (type != 5) {
                BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "certification-data",
                     w.certification_type = type);
            }
        }
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.certification_type = 0);
        BENT(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.certification_type = 8);
        if (version >= 4) {
            BENT_AFTER(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported",
                       w.quote[length_offset(&w) + 4 + 128] = 5);
        }
        if (version == 5) {
            BENT_AFTER(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.quote[48] = 0);
            BENT_AFTER(version, body, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.quote[48] = 4);
            BENT_AFTER(version, body, CMIF_MALFORMED, "invalid-evidence", "quote-format",
                       w.quote[48] = (uint8_t) (body % 3 + 1));
            BENT_AFTER(version, body, CMIF_MALFORMED, "invalid-evidence", "quote-format", w.quote[50]++);
            BENT_AFTER(version, body, CMIF_MALFORMED, "invalid-evidence", "quote-format", w.quote[53] = 255);
        }
    }
    BENT(3, 1, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[4] = 0x81);
    BENT(5, 1, CMIF_MALFORMED, "invalid-evidence", "quote-format", w.header[4] = 0x81);
    BENT(5, 3, CMIF_MALFORMED, "invalid-evidence", "quote-format", w.header[4] = 0);
    BENT(4, 3, CMIF_MALFORMED, "invalid-evidence", "quote-format",
         w.header[4] = 0x81); /* TD 1.5 in version 4: there is no such quote */
    /* one version under the number of another, the signature being good for what is there */
    BENT(3, 1, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[0] = 4);
    BENT(4, 1, CMIF_MALFORMED, "invalid-evidence", "quote-format", w.header[0] = 3);
    BENT(5, 1, CMIF_MALFORMED, "invalid-evidence", "quote-format", w.header[0] = 4);
    BENT(4, 2, CMIF_UNSUPPORTED, "invalid-evidence", "quote-unsupported", w.header[0] = 5);
}

static void chain_beside(unsigned type)
{
    w.certification_type = type;
    world_make(&w);
    const size_t at = qe_offset(&w) + 450 + w.auth_size + 6;
    rig_item(&w, CMIF_ITEM_CERTIFICATES, w.quote + at, w.quote_size - at - 1);
}

/* A quote that names its platform by its PPID is good with the PCK certificate beside it. */
static void the_pck_certificate_may_lie_beside_the_quote(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        for (unsigned type = 1; type <= 4; type++) {
            world_new(&w, version, body);
            chain_beside(type);
            bent_judge("chain beside", &w, type == 4 ? CMIF_UNSUPPORTED : CMIF_ACCEPTED,
                       type == 4 ? "invalid-evidence" : "", type == 4 ? "certification-data" : "");
        }
        world_new(&w, version, body);
        w.crls[RIG_PCK_CRL].revoked[0] = 3;
        chain_beside(3);
        bent_judge("revoked beside", &w, CMIF_REJECTED, "pck-revoked", "");
    }
    world_new(&w, 3, 1);
    w.qe_signed_by = RIG_STRANGER; /* of another platform */
    chain_beside(3);
    bent_judge("another's beside", &w, CMIF_UNSUPPORTED, "invalid-evidence", "certification-data");
}

static void every_length_is_exact(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        world_new(&w, version, body);
        world_make(&w);
        const size_t at[] = {length_offset(&w), qe_offset(&w) - 4, qe_offset(&w) + 448,
                             qe_offset(&w) + 450 + w.auth_size + 2};
        for (size_t k = 0; k < 4; k++) {
            if (k == 1 && version == 3) {
                continue;
            }
            const size_t   bytes  = k == 2 ? 2 : 4;
            const uint64_t length = w.quote[at[k]] | (uint64_t) w.quote[at[k] + 1] << 8;
            const uint64_t put[]  = {0, length + 1, length - 1, k == 2 ? 65535 : 0xffffffff,
                                    k == 2 ? 0x8000 : 0x80000000};
            for (size_t n = 0; n < 5; n++) {
                static cmif_verdict v;
                rig_put(w.quote + at[k], put[n], bytes);
                world_judge(&w, &v);
                bent_count++;
                CHECK(v.outcome == CMIF_MALFORMED || v.outcome == CMIF_UNSUPPORTED);
                CHECK(words_are("invalid-evidence", v.reasons, v.reason_count));
            }
            rig_put(w.quote + at[k], length, bytes);
        }
        bent_judge("restored", &w, CMIF_ACCEPTED, "", "");
        for (size_t size = 1; size < w.quote_size; size += full ? 1 : 11) { /* and every truncation */
            static cmif_verdict v;
            w.items[0].size = size;
            world_judge(&w, &v);
            CHECK(v.outcome == CMIF_MALFORMED && words_are("invalid-evidence", v.reasons, v.reason_count));
        }
    }
}

static void signatures_bind_body_key_and_enclave(void)
{
    static const uint8_t order[32] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
                                      0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature", w.body_signed_by = RIG_STRANGER);
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature", w.body_signed_by = RIG_PCK);
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-signature", w.qe_signed_by = RIG_STRANGER);
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-signature", w.qe_signed_by = RIG_CA);
        BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature",
                   w.quote[40] ^= 1); /* user data of the header */
        BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature",
                   w.quote[length_offset(&w) - 1] ^= 1;
                   w.policy.report_data = NULL; w.policy.loosened.no_report_data = w.policy.loosened.servtd = true);
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-data",
             w.qe_report[CMIF_SGX_REPORT_DATA + 63] = 1); /* upper half */
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-data",
             w.qe_report[CMIF_SGX_REPORT_DATA + 32] = 1);
        BENT(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-data", w.qe_data_by_hand = true);
        BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-data",
                   w.quote[qe_offset(&w) + 450] ^= 1);
        BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature qe-report-data",
                   w.quote[length_offset(&w) + 4 + 64] ^= 1);
        for (size_t half = 0; half < 64; half += 32) { /* r, then s: 0, n, more than n */
            BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature",
                       memset(w.quote + length_offset(&w) + 4 + half, 0, 32));
            BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature",
                       memcpy(w.quote + length_offset(&w) + 4 + half, order, 32));
            BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature",
                       memset(w.quote + length_offset(&w) + 4 + half, 255, 32));
            BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "qe-report-signature",
                       memset(w.quote + qe_offset(&w) + 384 + half, 0, 32));
        }
        BENT_AFTER(version, body, CMIF_REJECTED, "invalid-evidence", "quote-signature qe-report-data",
                   memset(w.quote + length_offset(&w) + 4 + 64, 0, 64));
    }
}

static void the_chain_ends_at_our_root(void)
{
    rig_certificate *c = w.certificates;
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence revocation-pck invalid-collateral revocation-tcb-signing",
         "pck-untrusted tcb-signing-untrusted", w.foreign_root = true);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence revocation-pck", "pck-untrusted", c[RIG_PCK].issuer = RIG_PCK);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence revocation-pck", "pck-untrusted", c[RIG_PCK].signed_by = RIG_STRANGER);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence revocation-pck", "pck-untrusted", c[RIG_CA].signed_by = RIG_STRANGER);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence revocation-pck", "pck-untrusted", c[RIG_CA].left_out = true);
    BENT(4, 2, CMIF_ACCEPTED, "", "", c[RIG_ROOT].left_out = true); /* the one in the quote is not looked at */
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-missing", c[RIG_PCK].left_out = true);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-names", c[RIG_PCK].issuer = RIG_ROOT);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-names", c[RIG_PCK].name = "Intel SGX PCK Certificates");
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-names", c[RIG_CA].name = "Intel SGX PCK Other CA");
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_PCK].ca = 1);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_PCK].critical = true);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_CA].critical = true);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_CA].ca = 0; c[RIG_CA].pathlen = -1);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_CA].ca = -1);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_CA].usage = "critical,cRLSign");
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-constraints", c[RIG_ROOT].pathlen = 0);
    BENT(4, 2, CMIF_ACCEPTED, "", "", c[RIG_ROOT].pathlen = -1);
    BENT(4, 2, CMIF_REJECTED, "pck-expired", "", c[RIG_PCK].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_ACCEPTED, "", "", c[RIG_PCK].until = RIG_TIME);
    BENT(4, 2, CMIF_REJECTED, "pck-not-yet-valid", "", c[RIG_PCK].from = RIG_TIME + 1);
    BENT(4, 2, CMIF_ACCEPTED, "", "", c[RIG_PCK].from = RIG_TIME);
    BENT(4, 2, CMIF_ACCEPTED, "", "", c[RIG_PCK].from = RIG_TIME + 60; w.policy.tolerance = 60);
    BENT(4, 2, CMIF_REJECTED, "pck-expired", "", c[RIG_CA].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_REJECTED, "pck-not-yet-valid", "", c[RIG_CA].from = RIG_TIME + 1);
    BENT(4, 2, CMIF_REJECTED, "pck-expired tcb-signing-expired", "", c[RIG_ROOT].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_REJECTED, "pck-not-yet-valid tcb-signing-not-yet-valid", "", c[RIG_ROOT].from = RIG_TIME + 1);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-algorithm qe-report-signature", c[RIG_PCK].key = RIG_P384);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-algorithm", c[RIG_CA].key = RIG_P384);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-algorithm", c[RIG_PCK].sha384 = true);
    BENT(4, 2, CMIF_REJECTED, "invalid-evidence", "pck-algorithm", c[RIG_CA].sha384 = true);
    /* the certificate that signs TCB info and QE identity */
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral", "qe-identity-signature tcb-info-signature",
         c[RIG_SIGNING].left_out = true);
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral", "qe-identity-signature tcb-info-signature",
         c[RIG_SIGNING].name = "Intel SGX TCB");
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral revocation-tcb-signing", "tcb-signing-untrusted",
         c[RIG_SIGNING].signed_by = RIG_STRANGER);
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral revocation-tcb-signing", "tcb-signing-untrusted",
         c[RIG_SIGNING].issuer = RIG_SIGNING);
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral", "tcb-signing-constraints", c[RIG_SIGNING].ca = 1);
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral", "tcb-signing-names", c[RIG_SIGNING].issuer = RIG_CA);
    BENT(4, 2, CMIF_REJECTED, "invalid-collateral", "tcb-signing-algorithm", c[RIG_SIGNING].sha384 = true);
    BENT(4, 2, CMIF_REJECTED, "tcb-signing-expired", "", c[RIG_SIGNING].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_REJECTED, "tcb-signing-not-yet-valid", "", c[RIG_SIGNING].from = RIG_TIME + 1);
    /* the SGX extension */
    const rig_extension bad[] = {RIG_NO_FMSPC,     RIG_FMSPC_TWICE, RIG_COMPONENT_256, RIG_NEGATIVE,
                                 RIG_NO_COMPONENT, RIG_SHORT_FMSPC, RIG_TRAILING};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        BENT(3, 1, CMIF_REJECTED, "invalid-evidence", "pck-extension", w.extension = bad[i]);
    }
}

static void revocation_is_checked_or_listed(void)
{
    rig_crl *crl = w.crls;
    BENT(4, 2, CMIF_REJECTED, "pck-revoked", "", crl[RIG_PCK_CRL].revoked[1] = 3);
    BENT(4, 2, CMIF_REJECTED, "pck-revoked", "", crl[RIG_ROOT_CRL].revoked[0] = 2);
    BENT(4, 2, CMIF_REJECTED, "tcb-signing-revoked", "", crl[RIG_ROOT_CRL].revoked[0] = 4);
    BENT(4, 2, CMIF_ACCEPTED, "", "", crl[RIG_ROOT_CRL].revoked[0] = 3); /* another issuer's number 3 */
    BENT(4, 2, CMIF_REJECTED, "pck-revoked", "", crl[RIG_PCK_CRL].revoked[1] = 3; w.policy.loosened.no_crl = true);
    BENT(4, 2, CMIF_REJECTED, "pck-revoked", "", crl[RIG_PCK_CRL].revoked[1] = 3;
         crl[RIG_PCK_CRL].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-expired", "", crl[RIG_PCK_CRL].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_ACCEPTED, "", "", crl[RIG_PCK_CRL].until = RIG_TIME - 60; w.policy.tolerance = 60);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-not-yet-valid", "", crl[RIG_PCK_CRL].from = RIG_TIME + 1);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-expired tcb-signing-crl-expired", "", crl[RIG_ROOT_CRL].until = RIG_TIME - 1);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-not-yet-valid tcb-signing-crl-not-yet-valid", "",
         crl[RIG_ROOT_CRL].from = RIG_TIME + 1);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-expired", "", crl[RIG_PCK_CRL].until = RIG_TIME - 1;
         w.policy.loosened.no_crl = true);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-invalid", "", crl[RIG_PCK_CRL].signed_by = RIG_STRANGER);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-invalid", "", crl[RIG_PCK_CRL].signed_by = RIG_STRANGER;
         w.policy.loosened.no_crl = true);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-invalid", "", crl[RIG_PCK_CRL].signed_by = RIG_ROOT);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-invalid", "", crl[RIG_PCK_CRL].delta = true);
    BENT(4, 2, CMIF_REJECTED, "pck-crl-invalid", "", w.certificates[RIG_CA].usage = "critical,keyCertSign");
    BENT(4, 2, CMIF_REJECTED, "pck-crl-invalid tcb-signing-crl-invalid", "", crl[RIG_ROOT_CRL].signed_by = RIG_CA);
    BENT(4, 2, CMIF_REJECTED, "revocation-pck", "", crl[RIG_PCK_CRL].left_out = true);
    BENT(4, 2, CMIF_REJECTED, "revocation-pck revocation-tcb-signing", "", crl[RIG_ROOT_CRL].left_out = true);
    BENT(4, 2, CMIF_REJECTED, "revocation-pck", "",
         crl[RIG_PCK_CRL].issuer = RIG_ROOT); /* two of the root, none of the CA */
    BENT(4, 2, CMIF_REJECTED, "revocation-pck", "", crl[RIG_PCK_CRL].issuer = RIG_SIGNING);
    BENT(4, 2, CMIF_ACCEPTED, "", "",
         crl[RIG_ROOT_CRL].left_out = crl[RIG_PCK_CRL].left_out = w.policy.loosened.no_crl = true);
    static cmif_verdict v;
    world_judge(&w, &v);
    CHECK(words_are("revocation-pck revocation-tcb-signing", v.unchecked, v.unchecked_count)); /* accepted, and said */
    CHECK(v.loosened_count >= 1 && !strcmp(v.loosened[0], "no-crl"));
}

static void collateral_is_what_intel_signed(void)
{
    for (int d = 0; d < RIG_DOCUMENTS; d++) {
        const char              *what = d == RIG_INFO ? "tcb-info" : "qe-identity";
        char                     text[6][64];
        static const char *const suffix[] = {"expired",  "not-yet-valid", "evaluation",
                                             "rollback", "signature",     "format"};
        for (int k = 0; k < 6; k++) {
            snprintf(text[k], sizeof text[k], "%s-%s", what, suffix[k]);
        }
        BENT(4, 2, CMIF_REJECTED, "invalid-collateral", text[4], w.signed_by[d] = RIG_STRANGER);
        BENT(4, 2, CMIF_REJECTED, "invalid-collateral", text[4], w.signed_by[d] = RIG_PCK);
        BENT_AFTER(4, 2, CMIF_REJECTED, "invalid-collateral", text[4], *strstr((char *) w.blobs[d], "2025-07") = '3');
        BENT_AFTER(4, 2, CMIF_REJECTED, "invalid-collateral", text[4],
                   memset(strstr((char *) w.blobs[d], "signature") + 12, '0', 64));
        BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-collateral", text[5],
                   *strstr((char *) w.blobs[d], "signature") = 'S');
        BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-collateral", text[5], w.blobs[d][w.items[1 + d].size++] = 'x');
        BENT_AFTER(4, 2, CMIF_ACCEPTED, "", "", w.blobs[d][w.items[1 + d].size++] = '\n');
        BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-collateral", text[5],
                   memcpy(w.blobs[d] + w.items[1 + d].size - 1, ",\"a\":1}", 7);
                   w.items[1 + d].size += 6);
        BENT(4, 2, CMIF_REJECTED, text[0], "", world_edit(&w, d, "2025-07-01T00:00:00Z", "2025-06-15T15:06:39Z"));
        BENT(4, 2, CMIF_ACCEPTED, "", "", world_edit(&w, d, "2025-07-01T00:00:00Z", "2025-06-15T15:06:40Z"));
        BENT(4, 2, CMIF_REJECTED, text[1], "", world_edit(&w, d, "2025-06-01T00:00:00Z", "2025-06-15T15:06:41Z"));
        BENT(4, 2, CMIF_ACCEPTED, "", "", world_edit(&w, d, "2025-06-01T00:00:00Z", "2025-06-15T15:06:40Z"));
        BENT(4, 2, CMIF_REJECTED, "tcb-info-evaluation qe-identity-evaluation", "",
             w.policy.minimum_tcb_evaluation = 18);
        BENT(4, 2, CMIF_ACCEPTED, "", "", w.policy.minimum_tcb_evaluation = 17);
        BENT(4, 2, CMIF_REJECTED, text[2], "", w.policy.minimum_tcb_evaluation = 17;
             world_edit(&w, d, "Number\":17", "Number\":16"));
        BENT(4, 2, d ? CMIF_ACCEPTED : CMIF_REJECTED, d ? "" : text[3], "", w.policy.seen_tcb_evaluation = 17;
             world_edit(&w, d, "Number\":17", "Number\":16")); /* a number of TCB infos */
        BENT(4, 2, CMIF_REJECTED, text[3], "",
             *(d ? &w.policy.seen_qe_issue : &w.policy.seen_tcb_issue) = 1748736001); /* issued 1748736000 */
        BENT(4, 2, CMIF_ACCEPTED, "", "", *(d ? &w.policy.seen_qe_issue : &w.policy.seen_tcb_issue) = 1748736000);
        BENT(4, 2, CMIF_REJECTED, "no-collateral", "", w.no_document[d] = true);
        /* signed nonsense is malformed, never a milder status */
        static const char *const both[][2] = {
            {"\"version\":", "\"Version\":"},
            {"\"version\":", "\"version\":7,\"other\":"},
            {"\"version\":", "\"version\":-"},
            {"\"version\":", "\"version\":\"3\",\"o\":"},
            {"\"issueDate\":", "\"x\":"},
            {"\"nextUpdate\":", "\"x\":"},
            {"2025-07-01T00:00:00Z", "2025-07-01 00:00:00Z"},
            {"2025-07-01T", "2025-02-29T"},
            {"2025-07-01T", "2025-13-01T"},
            {"2025-07-01T00:00:00Z", "2025-07-01T00:00:00+00:00"},
            {"\"tcbEvaluationDataNumber\":17", "\"tcbEvaluationDataNumber\":17.0"},
            {"\"tcbEvaluationDataNumber\":17", "\"tcbEvaluationDataNumber\":1e3"},
            {"\"tcbEvaluationDataNumber\":17", "\"x\":17"},
            {"\"tcbEvaluationDataNumber\":17", "\"tcbEvaluationDataNumber\":4294967296"},
            {"\"tcbLevels\":[{\"tcb\":{\"isvsvn\":", "\"tcbLevels\":[{\"tcb\":{\"isvsvm\":"},
            {"{\"isvsvn\":", "{\"isvsvn\":-"},
            {"{\"isvsvn\":", "{\"isvsvn\":65536,\"x\":"},
            {"\"UpToDate\"", "\"uptodate\""},
            {"\"UpToDate\"", "\"\\u0055pToDate\""},
            {"\"UpToDate\"", "\"SWHardeningNeeded\""},
            {"\"UpToDate\"", "null"},
            {"\"tcbDate\"", "\"tcbdate\""},
            {"\"advisoryIDs\":[", "\"advisoryIDs\":[7,"},
            {"\"advisoryIDs\":[\"", "\"advisoryIDs\":[\"\\/"},
            {"\"advisoryIDs\":[", "\"advisoryIDs\":\"none\",\"x\":["},
            {"\"attributesMask\":\"F", "\"attributesMask\":\"G"},
            {"\"attributesMask\":\"F", "\"attributesMask\":\""},
            {"\"attributes\":\"", "\"attribute\":\""},
            {"\"mrsigner\":\"0", "\"mrsigner\":\""}};
        for (size_t k = 0; k < sizeof both / sizeof both[0]; k++) {
            BENT(4, 2, CMIF_MALFORMED, "invalid-collateral", text[5], world_edit(&w, d, both[k][0], both[k][1]));
            if (k < 14 && d == RIG_INFO) {
                BENT(3, 1, CMIF_MALFORMED, "invalid-collateral", text[5], world_edit(&w, d, both[k][0], both[k][1]));
            }
        }
    }
    static const char *const info[][2] = {
        {"\"fmspc\":", "\"x\":"},
        {"\"fmspc\":\"00", "\"fmspc\":\""},
        {"\"pceId\":", "\"pceid\":"},
        {"\"tcbType\":0", "\"tcbType\":1"},
        {"\"tcbType\":0,", ""},
        {"\"version\":3", "\"version\":4"},
        {"\"sgxtcbcomponents\":[{\"svn\":5},", "\"sgxtcbcomponents\":["},
        {"\"sgxtcbcomponents\":[", "\"sgxtcbcomponents\":[{\"svn\":5},"},
        {"\"sgxtcbcomponents\"", "\"sgxtcbcomponentz\""},
        {"{\"svn\":5}", "{\"svn\":-5}"},
        {"{\"svn\":5}", "{\"svn\":5.0}"},
        {"{\"svn\":5}", "{\"svn\":256}"},
        {"{\"svn\":5}", "{\"svn\":\"5\"}"},
        {"{\"svn\":5}", "{}"},
        {"{\"svn\":5}", "5"},
        {"\"pcesvn\":13", "\"pcesvn\":65536"},
        {"\"pcesvn\":13,", ""},
        {"\"tcbStatus\":\"OutOfDate\",\"advisoryIDs\":[\"INTEL-SA-00001\"]", "\"tcbStatus\":\"Bad\""},
        {"\"tcbStatus\":\"OutOfDate\",\"advisoryIDs\":[\"INTEL-SA-00001\"]", "\"tcbStatus\":\"TDRelaunchAdvised\""}};
    for (size_t k = 0; k < sizeof info / sizeof info[0]; k++) {
        BENT(4, 2, CMIF_MALFORMED, "invalid-collateral", "tcb-info-format",
             world_edit(&w, RIG_INFO, info[k][0], info[k][1]));
    }
    static const char *const tdx[][2] = {
        {"\"tdxtcbcomponents\":[{\"svn\":5},", "\"tdxtcbcomponents\":["},
        {"\"tdxtcbcomponents\":[", "\"tdxtcbcomponents\":[{\"svn\":5},"},
        {"\"tdxtcbcomponents\"", "\"x\""},
        {"\"id\":\"TDX_03\"", "\"id\":\"TDX_01\""},
        {"\"id\":\"TDX_03\"", "\"id\":3"},
        {"\"tcbLevels\":[{\"tcb\":{\"isvsvn\":5}", "\"tcbLevels\":[],\"x\":[{\"tcb\":{\"isvsvn\":5}"}};
    for (size_t k = 0; k < sizeof tdx / sizeof tdx[0]; k++) {
        BENT(5, 3, CMIF_MALFORMED, "invalid-collateral", "tcb-info-format",
             world_edit(&w, RIG_INFO, tdx[k][0], tdx[k][1]));
    }
    /* what cannot even be read: before any signature is looked at */
    static const char *const broken[][2] = {{"\"pceId\":\"0000\"", "\"pceId\":\"0000\",\"pceId\":\"0000\""},
                                            {"{\"svn\":5}", "{\"svn\":5,\"svn\":5}"},
                                            {"\"pceId\"", "\"pce\\u0049d\""},
                                            {"{\"svn\":5}", "{\"svn\":05}"},
                                            {"{\"svn\":5}", "{\"svn\":+5}"},
                                            {"{\"svn\":5}", "{\"svn\":5,}"},
                                            {"{\"svn\":5},", "{\"svn\":5},,"},
                                            {"{\"svn\":5}", "{svn:5}"},
                                            {"\"tcbType\":0", "\"tcbType\":nan"},
                                            {"\"tcbType\":0", "\"tcbType\":\"\xc3\xa4\""},
                                            {"\"tcbType\":0", "\"tcbType\":\"\n\""},
                                            {"\"tcbType\":0", "\"tcbType\":[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]"},
                                            {"\"tcbType\":0", "\"tcbType\":\"\\x\""}};
    for (size_t k = 0; k < sizeof broken / sizeof broken[0]; k++) {
        BENT(4, 2, CMIF_MALFORMED, "invalid-collateral", "tcb-info-format",
             world_edit(&w, RIG_INFO, broken[k][0], broken[k][1]));
    }
    BENT(4, 2, CMIF_REJECTED, "tcb-info-fmspc", "", w.fmspc[5]++);
    BENT(4, 2, CMIF_REJECTED, "tcb-info-pceid", "", w.pceid[1]++);
    BENT(4, 2, CMIF_REJECTED, "tcb-info-fmspc tcb-info-pceid", "", w.fmspc[0]++; w.pceid[0]++);
    BENT(4, 2, CMIF_REJECTED, "tcb-info-tee", "", world_edit(&w, RIG_INFO, "\"TDX\"", "\"SGX\""));
    BENT(3, 1, CMIF_REJECTED, "tcb-info-tee", "", world_edit(&w, RIG_INFO, "\"SGX\"", "\"TDX\""));
    BENT(4, 2, CMIF_REJECTED, "tcb-info-tee", "", world_edit(&w, RIG_INFO, "\"id\":\"TDX\",", ""));
    BENT(3, 1, CMIF_REJECTED, "tcb-info-tee", "", world_edit(&w, RIG_INFO, "\"id\":\"SGX\",", ""));
    BENT(4, 2, CMIF_ACCEPTED, "", "", world_edit(&w, RIG_INFO, "00A0b0c0d0e0", "00a0B0C0D0E0"));
    BENT(4, 2, CMIF_ACCEPTED, "", "",
         world_edit(&w, RIG_INFO, "\"tcbType\":0",
                    "\"tcbType\": 0, \"new in PCS 5\":[true,false,null,-1.5e+3,\"\\u00e4\"]"));
    static const int issuers[] = {RIG_CA, RIG_ROOT}; /* every list that counts, by who made it */
    for (size_t i = 0; i < 2; i++) {
        BENT(4, 2, CMIF_REJECTED, "crl-rollback", "", rig_seen(&w, issuers[i], RIG_TIME - 86399));
        BENT(4, 2, CMIF_ACCEPTED, "", "", rig_seen(&w, issuers[i], RIG_TIME - 86400));
    }
    BENT(4, 2, CMIF_ACCEPTED, "", "", rig_seen(&w, RIG_PCK, RIG_TIME));
    BENT_AFTER(4, 2, CMIF_MALFORMED, "item-twice no-collateral", "", w.items[w.count] = w.items[1]; w.count++);
    BENT_AFTER(4, 2, CMIF_MALFORMED, "item-twice", "", w.items[w.count] = w.items[0]; w.count++);
}

/* ---- TCB ---- */

/* Level 0 of the TCB info, the module's level 0 or the QE's get another status. */
static void set_status(world *x, int part, const char *status)
{
    char put[128];
    if (part == 2) {
        snprintf(put, sizeof put, "\"tcbStatus\":\"%s\"", status);
        world_edit(x, RIG_IDENTITY, "\"tcbStatus\":\"UpToDate\"", put);
        return;
    }
    char *levels = strstr(x->documents[RIG_INFO], "\"tcbLevels\":[{\"tcb\":{\"sgx"),
         *at     = part == 0 ? strstr(levels, "\"UpToDate\"") : NULL;
    for (char *next = x->documents[RIG_INFO];
         part == 1 && (next = strstr(next, "\"UpToDate\"")) != NULL && next < levels; next++) {
        at = next; /* the last before the platform's: of TDX_01 */
    }
    static char rest[32768];
    snprintf(rest, sizeof rest, "%s", at + strlen("\"UpToDate\""));
    snprintf(at, sizeof x->documents[0] - (size_t) (at - x->documents[RIG_INFO]), "\"%s\"%s", status, rest);
}

static void every_status_is_reached_and_revoked_is_never_accepted(void)
{
    static const cmif_tcb_status platform[] = {CMIF_TCB_UP_TO_DATE,    CMIF_TCB_SW_HARDENING,
                                               CMIF_TCB_CONFIGURATION, CMIF_TCB_CONFIGURATION_AND_SW,
                                               CMIF_TCB_OUT_OF_DATE,   CMIF_TCB_OUT_OF_DATE_CONFIGURATION,
                                               CMIF_TCB_REVOKED};
    static const cmif_tcb_status part[]     = {CMIF_TCB_UP_TO_DATE, CMIF_TCB_OUT_OF_DATE, CMIF_TCB_REVOKED,
                                               CMIF_TCB_NOT_SUPPORTED};
    for (size_t i = 0; i < KINDS; i++) {
        const bool tdx = kinds[i][1] > 1;
        for (size_t p = 0; p < 7; p++) {
            for (size_t m = 0; m < (tdx ? 4 : 1); m++) {
                for (size_t q = 0; q < 4; q++) {
                    static cmif_verdict v;
                    world_new(&w, kinds[i][0], kinds[i][1]);
                    set_status(&w, 0, cmif_tcb_status_name(platform[p]));
                    if (tdx && part[m] == CMIF_TCB_NOT_SUPPORTED) {
                        w.body[0] = 2; /* below both levels of TDX_01 */
                    } else if (tdx) {
                        set_status(&w, 1, cmif_tcb_status_name(part[m]));
                    }
                    if (part[q] == CMIF_TCB_NOT_SUPPORTED) {
                        rig_put(w.qe_report + CMIF_SGX_ISVSVN, 5, 2);
                    } else {
                        set_status(&w, 2, cmif_tcb_status_name(part[q]));
                    }
                    if (kinds[i][1] == 3) {
                        memset(w.body + CMIF_TD_TCB_SVN2, 0, 16); /* no relaunch here */
                    }
                    world_make(&w);
                    const bool revoked = platform[p] == CMIF_TCB_REVOKED || (tdx && part[m] == CMIF_TCB_REVOKED) ||
                                         part[q] == CMIF_TCB_REVOKED;
                    const bool none = (tdx && part[m] == CMIF_TCB_NOT_SUPPORTED) || part[q] == CMIF_TCB_NOT_SUPPORTED;
                    const bool late = (tdx && part[m] == CMIF_TCB_OUT_OF_DATE) || part[q] == CMIF_TCB_OUT_OF_DATE;
                    static const cmif_tcb_status when_late[CMIF_TCB_STATUSES] = {
                        [CMIF_TCB_UP_TO_DATE]                = CMIF_TCB_OUT_OF_DATE,
                        [CMIF_TCB_SW_HARDENING]              = CMIF_TCB_OUT_OF_DATE,
                        [CMIF_TCB_CONFIGURATION]             = CMIF_TCB_OUT_OF_DATE_CONFIGURATION,
                        [CMIF_TCB_CONFIGURATION_AND_SW]      = CMIF_TCB_OUT_OF_DATE_CONFIGURATION,
                        [CMIF_TCB_OUT_OF_DATE]               = CMIF_TCB_OUT_OF_DATE,
                        [CMIF_TCB_OUT_OF_DATE_CONFIGURATION] = CMIF_TCB_OUT_OF_DATE_CONFIGURATION};
                    const cmif_tcb_status want = revoked ? CMIF_TCB_REVOKED
                                                 : none  ? CMIF_TCB_NOT_SUPPORTED
                                                 : late  ? when_late[platform[p]]
                                                         : platform[p];
                    world_judge(&w, &v);
                    bent_count++;
                    char reason[64];
                    snprintf(reason, sizeof reason, "tcb-%s", cmif_tcb_status_name(want));
                    CHECK(v.tcb_status == want && v.platform_status == platform[p] && v.qe_status == part[q] &&
                          (!tdx || v.module_status == part[m]));
                    CHECK(want == CMIF_TCB_UP_TO_DATE
                              ? v.outcome == CMIF_ACCEPTED
                              : v.outcome == CMIF_REJECTED && words_are(reason, v.reasons, v.reason_count));
                    w.policy.statuses = UINT32_MAX; /* every setting there is */
                    world_judge(&w, &v);
                    CHECK((v.outcome == CMIF_ACCEPTED) == (want != CMIF_TCB_REVOKED && want != CMIF_TCB_NOT_SUPPORTED));
                    CHECK(v.loosened_count > 0);
                }
            }
        }
    }
}

static void a_version_lower_by_one_anywhere_is_seen(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        for (unsigned c = 0; c < 16; c++) {
            BENT(version, body, CMIF_REJECTED, "tcb-OutOfDate", "", w.components[c]--);
            BENT(version, body, CMIF_ACCEPTED, "", "", w.components[c]++);
            if (body == 2) {
                BENT(version, body, CMIF_REJECTED, "tcb-OutOfDate", "",
                     w.body[c]--); /* 0: by the module's levels; 1: it is then TDX 1.0 */
                BENT(version, body, CMIF_REJECTED, "tcb-TcbNotSupported", "", w.body[c] = 1,
                     w.body[0] = c == 1 ? 1 : w.body[0];
                     w.body[1] = c == 1 ? 0 : w.body[1]);
            } else if (body == 3) {
                BENT(version, body, CMIF_REJECTED, c == 0 ? "tcb-TDRelaunchAdvised" : "tcb-OutOfDate", "", w.body[c]--);
            }
        }
        BENT(version, body, CMIF_REJECTED, "tcb-OutOfDate", "", w.pcesvn--);
        BENT(version, body, CMIF_REJECTED, "tcb-OutOfDate", "", w.pcesvn = 5);
        BENT(version, body, CMIF_REJECTED, "tcb-TcbNotSupported", "", w.pcesvn = 4);
        BENT(version, body, CMIF_REJECTED, "tcb-TcbNotSupported", "", w.components[7] = 1);
        BENT(version, body, CMIF_REJECTED, "tcb-OutOfDate", "", rig_put(w.qe_report + CMIF_SGX_ISVSVN, 7, 2));
        BENT(version, body, CMIF_REJECTED, "tcb-TcbNotSupported", "", rig_put(w.qe_report + CMIF_SGX_ISVSVN, 5, 2));
        BENT(version, body, CMIF_ACCEPTED, "", "",
             rig_put(w.qe_report + CMIF_SGX_ISVSVN, 256, 2)); /* 256 is more than 8 */
    }
    /* TDX 1.0: no identity of the module, all sixteen components count */
    for (unsigned c = 0; c < 16; c++) {
        static const char one[] = "{\"svn\":5},{\"svn\":1}", zero[] = "{\"svn\":5},{\"svn\":0}";
        BENT(4, 2, CMIF_ACCEPTED, "", "", w.body[1] = 0; world_edit(&w, RIG_INFO, one, zero));
        if (c != 1) {
            BENT(4, 2, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[1] = 0; world_edit(&w, RIG_INFO, one, zero);
                 w.body[c]--);
        }
    }
    /* components 0 and 1 are not the platform's when the module has an identity: its level alone says */
    BENT(4, 2, CMIF_ACCEPTED, "", "",
         world_edit(&w, RIG_INFO, "{\"svn\":5},{\"svn\":1}", "{\"svn\":200},{\"svn\":200}"));
    /* SVN_2 is never matched against levels */
    BENT(5, 3, CMIF_ACCEPTED, "", "", memset(w.body + CMIF_TD_TCB_SVN2, 0, 16));
}

static void levels_are_taken_from_the_highest_down(void)
{
    static cmif_verdict v;
    for (size_t i = 0; i < KINDS; i++) {
        world_new(&w, kinds[i][0], kinds[i][1]);
        char *all = strstr(w.documents[RIG_INFO], "\"tcbLevels\":[{\"tcb\":{\"sgx"), *levels = all + 13,
             *second = strstr(levels, "},{\"tcb\":{\"sgx") + 2, *end = strrchr(levels, ']');
        static char swapped[32768];
        snprintf(swapped, sizeof swapped, "%.*s,%.*s]}", (int) (end - second), second, (int) (second - 1 - levels),
                 levels);
        snprintf(levels, sizeof w.documents[0] - (size_t) (levels - w.documents[RIG_INFO]), "%s", swapped);
        world_edit(&w, RIG_IDENTITY, "\"isvsvn\":8", "\"isvsvn\":X");
        world_edit(&w, RIG_IDENTITY, "\"isvsvn\":6", "\"isvsvn\":8");
        world_edit(&w, RIG_IDENTITY, "\"isvsvn\":X", "\"isvsvn\":6"); /* now OutOfDate is the higher, and second */
        world_make(&w);
        world_judge(&w, &v);
        CHECK(v.platform_status == CMIF_TCB_UP_TO_DATE && v.qe_status == CMIF_TCB_OUT_OF_DATE &&
              v.tcb_status == CMIF_TCB_OUT_OF_DATE);
    }
    /* the older form of TCB info */
    world_new(&w, 3, 1);
    world_edit(&w, RIG_INFO, "\"id\":\"SGX\",\"version\":3", "\"version\":2");
    for (int level = 0; level < 2; level++) {
        char put[1024] = "";
        for (int k = 1; k <= 16; k++) {
            snprintf(put + strlen(put), sizeof put - strlen(put), "\"sgxtcbcomp%02dsvn\":%d,", k, level ? 2 : 5);
        }
        char *from = strstr(w.documents[RIG_INFO], "\"sgxtcbcomponents\""), *to = strstr(from, "],") + 2, old[1024];
        snprintf(old, sizeof old, "%.*s", (int) (to - from), from);
        world_edit(&w, RIG_INFO, old, put);
    }
    world_make(&w);
    bent_judge("TCB info version 2", &w, CMIF_ACCEPTED, "", "");
    w.components[15]--;
    world_make(&w);
    bent_judge("TCB info version 2, one lower", &w, CMIF_REJECTED, "tcb-OutOfDate", "");
    world_edit(&w, RIG_INFO, "sgxtcbcomp16svn", "sgxtcbcomp17svn");
    world_make(&w);
    bent_judge("TCB info version 2, one missing", &w, CMIF_MALFORMED, "invalid-collateral", "tcb-info-format");
    BENT(4, 2, CMIF_REJECTED, "tcb-info-tee", "", world_edit(&w, RIG_INFO, "\"version\":3", "\"version\":2"));
}

static void a_td_on_an_old_module_is_told_to_relaunch(void)
{
    BENT(5, 3, CMIF_REJECTED, "tcb-TDRelaunchAdvised", "", w.body[0] = 3);
    BENT(5, 3, CMIF_ACCEPTED, "", "", w.body[0] = 3; w.policy.statuses |= 1u << CMIF_TCB_RELAUNCH);
    BENT(5, 3, CMIF_REJECTED, "tcb-TDRelaunchAdvised", "", w.body[0] = 3; set_status(&w, 0, "SWHardeningNeeded"));
    BENT(5, 3, CMIF_REJECTED, "tcb-TDRelaunchAdvisedConfigurationNeeded", "", w.body[0] = 3;
         set_status(&w, 0, "ConfigurationNeeded"));
    BENT(5, 3, CMIF_REJECTED, "tcb-TDRelaunchAdvisedConfigurationNeeded", "", w.body[0] = 3;
         set_status(&w, 0, "ConfigurationAndSWHardeningNeeded"));
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3;
         w.body[CMIF_TD_TCB_SVN2] = 4); /* still not the newest module */
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3;
         w.body[CMIF_TD_TCB_SVN2 + 2] = 4); /* late microcode below the newest level */
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3;
         set_status(&w, 0, "OutOfDate")); /* the platform itself is */
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3;
         rig_put(w.qe_report + CMIF_SGX_ISVSVN, 6, 2)); /* the QE is */
    BENT(5, 3, CMIF_REJECTED, "tcb-Revoked", "", w.body[0] = 3; set_status(&w, 2, "Revoked"));
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3;
         w.body[CMIF_TD_TCB_SVN2 + 1] = 3); /* of TDX_03: needs 9 */
    BENT(5, 3, CMIF_REJECTED, "tcb-TDRelaunchAdvised", "", w.body[0] = 3; w.body[CMIF_TD_TCB_SVN2 + 1] = 3;
         w.body[CMIF_TD_TCB_SVN2] = 9);
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate tdx-module-unknown", "", w.body[0] = 3; w.body[CMIF_TD_TCB_SVN2 + 1] = 7);
    BENT(5, 3, CMIF_REJECTED, "tcb-TDRelaunchAdvised", "", w.body[0] = 3;
         w.body[CMIF_TD_TCB_SVN2 + 1] = 0); /* by the newest level's component 0 */
    BENT(5, 3, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3; w.body[CMIF_TD_TCB_SVN2 + 1] = 0;
         w.body[CMIF_TD_TCB_SVN2] = 4);
    BENT(5, 2, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3); /* TD 1.0 has no SVN_2 */
    BENT(4, 2, CMIF_REJECTED, "tcb-OutOfDate", "", w.body[0] = 3);
}

static void the_quoting_enclave_is_intels(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        BENT(version, body, CMIF_REJECTED, "qe-identity-tee", "",
             world_edit(&w, RIG_IDENTITY, body == 1 ? "\"QE\"" : "\"TD_QE\"", body == 1 ? "\"TD_QE\"" : "\"QE\""));
        BENT(version, body, CMIF_REJECTED, "qe-identity-tee", "",
             world_edit(&w, RIG_IDENTITY, body == 1 ? "\"QE\"" : "\"TD_QE\"", "\"QVE\""));
        BENT(version, body, CMIF_REJECTED, "qe-mrsigner", "", w.qe_report[CMIF_SGX_MRSIGNER]++);
        BENT(version, body, CMIF_REJECTED, "qe-mrsigner", "", w.qe_report[CMIF_SGX_MRSIGNER + 31]++);
        BENT(version, body, CMIF_REJECTED, "qe-isvprodid", "", w.qe_report[CMIF_SGX_ISVPRODID]++);
        BENT(version, body, CMIF_REJECTED, "qe-isvprodid", "", w.qe_report[CMIF_SGX_ISVPRODID + 1]++);
        BENT(version, body, CMIF_REJECTED, "qe-attributes", "", w.qe_report[CMIF_SGX_ATTRIBUTES] |= 2); /* a debug QE */
        BENT(version, body, CMIF_REJECTED, "qe-attributes", "", w.qe_report[CMIF_SGX_ATTRIBUTES + 7] |= 128);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.qe_report[CMIF_SGX_ATTRIBUTES] ^= 4;
             w.qe_report[CMIF_SGX_ATTRIBUTES + 8] = 3); /* masked out */
        BENT(version, body, CMIF_REJECTED, "qe-miscselect", "", w.qe_report[CMIF_SGX_MISCSELECT + 3] = 1);
        BENT(version, body, CMIF_REJECTED, "qe-miscselect qe-attributes qe-mrsigner qe-isvprodid", "",
             memset(w.qe_report, 255, 320));
    }
}

static void td_and_enclave_attributes_are_policy(void)
{
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        if (body == 1) {
            BENT(version, body, CMIF_REJECTED, "debug", "", w.body[CMIF_SGX_ATTRIBUTES] |= 2);
            BENT(version, body, CMIF_ACCEPTED, "", "", w.body[CMIF_SGX_ATTRIBUTES] |= 2;
                 w.policy.loosened.debug = true);
            BENT(version, body, CMIF_REJECTED, "sgx-attributes", "", w.body[CMIF_SGX_ATTRIBUTES] &= 0xfe);
            BENT(version, body, CMIF_REJECTED, "isvprodid", "", w.policy.sgx_isvprodid = 0);
            BENT(version, body, CMIF_REJECTED, "isvprodid", "", w.policy.sgx_isvprodid = 3 + 256);
            BENT(version, body, CMIF_ACCEPTED, "", "", w.policy.sgx_isvprodid = 3; w.policy.sgx_minimum_isvsvn = 7);
            BENT(version, body, CMIF_REJECTED, "isvsvn", "", w.policy.sgx_minimum_isvsvn = 8);
            continue;
        }
        for (unsigned bit = 0; bit < 8; bit++) {
            BENT(version, body, CMIF_REJECTED, "debug", "", w.body[CMIF_TD_ATTRIBUTES] |= (uint8_t) (1u << bit));
        }
        BENT(version, body, CMIF_ACCEPTED, "", "", w.body[CMIF_TD_ATTRIBUTES] |= 1; w.policy.loosened.debug = true);
        BENT(version, body, CMIF_REJECTED, "td-attributes", "",
             w.body[CMIF_TD_ATTRIBUTES + 3] = 0); /* SEPT_VE_DISABLE off */
        BENT(version, body, CMIF_REJECTED, "td-attributes", "",
             w.body[CMIF_TD_ATTRIBUTES + 3] |= 1 << 5); /* MIGRATABLE */
        BENT(version, body, CMIF_ACCEPTED, "", "",
             w.body[CMIF_TD_ATTRIBUTES + 3] |= 1 << 6 | 1 << 7); /* PKS, KL: not by default */
        BENT(version, body, CMIF_REJECTED, "td-attributes", "", w.body[CMIF_TD_ATTRIBUTES + 3] |= 1 << 7;
             w.policy.td_forbidden |= 1ull << 31);
        BENT(version, body, CMIF_REJECTED, "td-attributes", "", w.body[CMIF_TD_ATTRIBUTES + 7] |= 1 << 7;
             w.policy.td_forbidden |= 1ull << 63);
        BENT(version, body, CMIF_REJECTED, "tdx-module-mrsigner", "", w.body[CMIF_TD_MRSIGNERSEAM] = 1);
        BENT(version, body, CMIF_REJECTED, "tdx-module-mrsigner", "", w.body[CMIF_TD_MRSIGNERSEAM + 47] = 1);
        BENT(version, body, CMIF_REJECTED, "tdx-module-attributes", "", w.body[CMIF_TD_SEAMATTRIBUTES] = 1);
        BENT(
            version, body, CMIF_REJECTED, "tdx-module-attributes", "", w.body[CMIF_TD_SEAMATTRIBUTES + 7] = 128;
            for (char *at = w.documents[RIG_INFO];
                 (at = strstr(at, "FFFFFFFFFFFFFFFF")) != NULL;) { memset(at, '0', 16); }); /* outside of the mask */
        BENT(version, body, CMIF_REJECTED, "tdx-module-unknown", "", w.body[1] = 2);
        BENT(version, body, CMIF_ACCEPTED, "", "", world_edit(&w, RIG_INFO, "TDX_01", "tdx_01"));
        BENT(version, body, CMIF_REJECTED, "tdx-module-unknown", "", world_edit(&w, RIG_INFO, "TDX_01", "TDX_1"));
        BENT(version, body, CMIF_REJECTED, "tdx-module-mrsigner", "", w.body[1] = 0; w.body[CMIF_TD_MRSIGNERSEAM] = 1;
             world_edit(&w, RIG_INFO, "{\"svn\":5},{\"svn\":1}", "{\"svn\":5},{\"svn\":0}"));
    }
    BENT(5, 3, CMIF_REJECTED, "td-service", "", w.body[CMIF_TD_MRSERVICETD + 47] = 1);
    BENT(5, 3, CMIF_ACCEPTED, "", "", w.body[CMIF_TD_MRSERVICETD] = 1; w.policy.loosened.servtd = true);
}

static void the_policy_decides_what_is_accepted(void)
{
    static const char *const denied[] = {"INTEL-SA-00009", "INTEL-SA-00001", NULL};
    for (size_t i = 0; i < KINDS; i++) {
        const unsigned version = kinds[i][0], body = kinds[i][1];
        const char    *program = body == 1 ? "measurement-mrenclave" : "measurement-mrtd";
        BENT(version, body, CMIF_REJECTED, program, "", w.measured.value[0]++);
        BENT(version, body, CMIF_REJECTED, program, "", w.measured.size--);
        BENT(version, body, CMIF_REJECTED, program, "", w.measured.size = 0);
        BENT(version, body, CMIF_REJECTED, "measurement-mrnone", "",
             snprintf(w.measured.name, sizeof w.measured.name, "mrnone"));
        BENT(version, body, CMIF_REJECTED, "no-measurement-policy", "", w.policy.measured_count = 0);
        BENT(version, body, CMIF_REJECTED, "no-measurement-policy", "", w.measured.tee = CMIF_TEE_SNP);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.policy.measured_count = 0;
             w.policy.loosened.any_measurement = true);
        BENT(version, body, CMIF_REJECTED, "technology-not-accepted empty-policy", "", w.policy.tees = 0);
        BENT(version, body, CMIF_REJECTED, "technology-not-accepted", "",
             w.policy.tees = 1u << (body == 1 ? CMIF_TEE_TDX : CMIF_TEE_SGX));
        BENT(version, body, CMIF_REJECTED, "report-data", "", w.policy.report_data_size = 0);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.policy.report_data_size = 0;
             w.policy.loosened.no_report_data = true);
        BENT(version, body, CMIF_REJECTED, "report-data", "", w.policy.report_data_size = 65);
        BENT(version, body, CMIF_REJECTED, "report-data", "", w.policy.report_data_size = 32;
             w.body[w.body_size - (body == 3 ? 65 : 1)] = 1); /* no zeros after it */
        BENT_AFTER(version, body, CMIF_REJECTED, "report-data", "", w.policy.report_data = w.body);
        BENT(version, body, CMIF_REJECTED, "tcb-date", "",
             w.policy.minimum_tcb_date = 1735689601); /* 2025-01-01T00:00:01Z */
        BENT(version, body, CMIF_ACCEPTED, "", "", w.policy.minimum_tcb_date = 1735689600);
        BENT(version, body, CMIF_REJECTED, "tcb-date-qe", "", w.policy.minimum_tcb_date = 1735689600;
             w.policy.statuses = UINT32_MAX; rig_put(w.qe_report + CMIF_SGX_ISVSVN, 6, 2));
        BENT(version, body, CMIF_REJECTED, "advisory-INTEL-SA-00001", "", w.policy.denied_advisories = denied;
             w.policy.statuses = UINT32_MAX; w.pcesvn = 12);
        BENT(version, body, CMIF_ACCEPTED, "", "", w.policy.denied_advisories = denied);
        BENT(version, body, CMIF_REJECTED, "policy-tolerance", "", w.policy.tolerance = 86401);
        BENT(version, body, CMIF_REJECTED, "policy-tolerance", "", w.policy.tolerance = -1);
    }
    BENT(4, 2, CMIF_REJECTED, "tcb-date-module", "", w.policy.minimum_tcb_date = 1735689600;
         w.policy.statuses = UINT32_MAX; w.body[0] = 3);
    BENT(4, 2, CMIF_ACCEPTED, "", "", w.body[CMIF_TD_REPORT_DATA] = 7;
         w.policy.report_data_size = 32); /* zeros after it */
    cmif_attest_policy policy;
    cmif_attest_policy_init(&policy);
    BENT_AFTER(4, 2, CMIF_REJECTED, "empty-policy technology-not-accepted no-measurement-policy report-data", "",
               policy.roots      = w.policy.roots;
               policy.root_count = 1; w.policy = policy);
}

static void items_are_bounded_and_of_one_technology(void)
{
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-evidence", "items", w.items[0].size = 0);
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-evidence", "items", w.items[3].data = NULL);
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-evidence", "items", w.items[1].size = CMIF_ITEM_SIZE_MAX + 1);
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-evidence", "items", w.count = CMIF_ITEMS_MAX + 1); /* none is touched */
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-evidence", "items",
               w.items[w.count++] = (cmif_item){CMIF_ITEM_SNP_REPORT, w.quote, w.quote_size});
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-evidence", "items",
               w.items[w.count++] = (cmif_item){CMIF_ITEM_SIM, w.quote, w.quote_size});
    BENT_AFTER(4, 2, CMIF_UNSUPPORTED, "no-evidence", "", w.items[0] = w.items[--w.count]);
    BENT_AFTER(4, 2, CMIF_UNSUPPORTED, "no-evidence", "", w.count = 0);
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-collateral", "certificates",
               w.items[w.count++] = (cmif_item){CMIF_ITEM_CERTIFICATES, w.quote, 600});
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-collateral", "certificates",
               w.items[w.count++] = (cmif_item){CMIF_ITEM_CRL, w.root.data, w.root.size}); /* a certificate is no CRL */
    BENT_AFTER(4, 2, CMIF_MALFORMED, "invalid-collateral", "certificates", w.root.size--);
    BENT_AFTER(4, 2, CMIF_REJECTED, "invalid-evidence revocation-pck invalid-collateral revocation-tcb-signing",
               "pck-untrusted tcb-signing-untrusted", w.policy.roots = NULL); /* the roots that are built in */
    static const cmif_tee of[] = {CMIF_TEE_SGX, CMIF_TEE_TDX};
    for (unsigned i = 0; i < 2; i++) { /* a root is for the technology that it was given for */
        BENT(4, 1 + i, CMIF_ACCEPTED, "", "", w.policy.root_tees = &of[i]);
        BENT(4, 2 - i, CMIF_REJECTED, "invalid-evidence revocation-pck invalid-collateral revocation-tcb-signing",
             "pck-untrusted tcb-signing-untrusted", w.policy.root_tees = &of[i]);
    }
}

static void no_collateral_is_said_once_and_every_reason_is_given(void)
{
    static cmif_verdict v;
    world_new(&w, 4, 2);
    w.no_document[0] = w.no_document[1] = w.crls[0].left_out = w.crls[1].left_out =
        w.certificates[RIG_SIGNING].left_out                 = true;
    w.body[CMIF_TD_ATTRIBUTES] |= 1;
    world_make(&w);
    bent_judge("nothing but the quote", &w, CMIF_REJECTED, "no-collateral debug", "");
    world_judge(&w, &v);
    CHECK(words_are("qe-identity tcb revocation-pck", v.unchecked, v.unchecked_count) && v.tcb_status == CMIF_TCB_NONE);
    w.policy.loosened.no_crl = w.policy.loosened.debug = w.policy.loosened.any_measurement =
        w.policy.loosened.no_report_data = w.policy.loosened.servtd = true;
    w.policy.statuses                                               = UINT32_MAX;
    bent_judge("no setting makes up for it", &w, CMIF_REJECTED, "no-collateral", "");
    BENT(4, 2, CMIF_REJECTED,
         "non-zero-trailing-bytes invalid-evidence pck-expired pck-revoked tcb-OutOfDate td-attributes debug "
         "report-data measurement-mrtd qe-identity-expired",
         "quote-signature qe-report-data", w.trailing = w.trailing_byte = 1;
         w.body_signed_by = RIG_STRANGER; w.qe_data_by_hand = true; w.certificates[RIG_PCK].until = RIG_TIME - 1;
         w.crls[RIG_PCK_CRL].revoked[0] = 3; w.pcesvn--; w.body[CMIF_TD_ATTRIBUTES] = 3;
         w.body[CMIF_TD_ATTRIBUTES + 3] = 0; w.policy.report_data_size = 0; w.measured.size--;
         world_edit(&w, RIG_IDENTITY, "2025-07-01", "2025-06-02"));
}

int main(int argc, char **argv)
{
    full = argc > 1 && !strcmp(argv[1], "full");
    if (cases_absent()) {
        return check_skip("shared/attestation is not beside the repository");
    }
    rig_open();
    RUN(a_good_world_of_each_kind_is_accepted);
    RUN(header_and_layout_are_what_they_must_be);
    RUN(the_pck_certificate_may_lie_beside_the_quote);
    RUN(every_length_is_exact);
    RUN(signatures_bind_body_key_and_enclave);
    RUN(the_chain_ends_at_our_root);
    RUN(revocation_is_checked_or_listed);
    RUN(collateral_is_what_intel_signed);
    RUN(every_status_is_reached_and_revoked_is_never_accepted);
    RUN(a_version_lower_by_one_anywhere_is_seen);
    RUN(levels_are_taken_from_the_highest_down);
    RUN(a_td_on_an_old_module_is_told_to_relaunch);
    RUN(the_quoting_enclave_is_intels);
    RUN(td_and_enclave_attributes_are_policy);
    RUN(the_policy_decides_what_is_accepted);
    RUN(items_are_bounded_and_of_one_technology);
    RUN(no_collateral_is_said_once_and_every_reason_is_given);
    rig_close();
    printf("%d bent worlds\n", bent_count);
    if (cases_absent()) {
        return check_failed ? check_report() : check_skip("shared/attestation is not beside the repository");
    }
    RUN(captures_are_judged_as_expected);
    RUN(time_is_an_argument);
    RUN(no_file_of_the_collateral_is_idle);
    RUN(no_byte_can_be_changed_or_left_out);
    return check_report();
}
