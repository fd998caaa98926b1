#include "cmif_verdict.h"

#include "cmif_terminal.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

const char *cmif_outcome_word(cmif_outcome outcome)
{
    return outcome == CMIF_ACCEPTED      ? "accepted"
           : outcome == CMIF_REJECTED    ? "rejected"
           : outcome == CMIF_UNSUPPORTED ? "unsupported"
           : outcome == CMIF_MALFORMED   ? "malformed"
                                         : "internal";
}

const char *cmif_tee_name(cmif_tee tee)
{
    static const char *const names[CMIF_TEE_COUNT] = {"unknown evidence", "Intel SGX", "Intel TDX",
                                                      "AMD SEV-SNP",      "TPM 2.0",   "INSECURE SIMULATOR"};
    return (unsigned) tee < CMIF_TEE_COUNT ? names[tee] : names[0];
}

/* ---- words in sentences ---- a * stands for anything; the first that fits counts. */
static const struct {
    const char *word, *meaning;
} meanings[] = {
    /* reasons, and what is not checked */
    {"no-policy", "no policy was given: this only shows what the evidence is"},
    {"empty-policy", "the policy accepts no technology"},
    {"policy-tolerance", "the policy allows clocks to differ by more than a day"},
    {"technology-not-accepted", "the policy does not accept this technology"},
    {"no-measurement-policy", "the policy names no measurement, so any program would do"},
    {"measurement-*", "this measurement is none of those in the policy: another program, or another version of it"},
    {"no-evidence", "nothing here is evidence of a kind that is known"},
    {"item-twice", "two pieces of one kind were given, and which one counts cannot be told"},
    {"invalid-evidence", "a signature or a rule of the evidence does not hold"},
    {"invalid-collateral", "a signature or a rule of the collateral does not hold"},
    {"no-collateral", "what Intel or AMD say of this platform is missing: 'cmif collateral' keeps it"},
    {"debug", "it runs in debug mode: who runs the machine can read its memory"},
    {"simulator", "INSECURE: a simulator, which proves nothing"},
    {"report-data",
     "the report data is not what was asked for: made for another request, or not compared (--report-data)"},
    {"freshness", "a certificate was not made for this request: how old its evidence is cannot be told"},
    {"non-zero-trailing-bytes", "something that is not signed follows the quote"},
    {"tcb-UpToDate", "the platform is up to date, which this policy does not accept"},
    {"tcb-SWHardeningNeeded", "the platform is up to date, and the program itself must hold off some attacks"},
    {"tcb-ConfigurationNeeded", "the platform is up to date, and not set up as it should be (BIOS, hyper-threading)"},
    {"tcb-ConfigurationAndSWHardeningNeeded",
     "the platform is not set up as it should be, and the program itself must hold off some attacks"},
    {"tcb-OutOfDate", "the platform lacks security updates"},
    {"tcb-OutOfDateConfigurationNeeded", "the platform lacks security updates, and is not set up as it should be"},
    {"tcb-TDRelaunchAdvised", "the platform was updated, and this machine was started before: start it anew"},
    {"tcb-TDRelaunchAdvisedConfigurationNeeded",
     "as TDRelaunchAdvised, and the platform is not set up as it should be"},
    {"tcb-TcbNotSupported", "Intel's list has no line for this platform: it is older than all that are listed"},
    {"tcb-Revoked", "Intel has revoked this platform; no setting accepts it"},
    {"tcb-none", "how up to date the platform is could not be told"},
    {"tcb", "how up to date the platform is was not checked"},
    {"tcb-below-minimum", "the platform's firmware is older than the policy's minimum"},
    {"tcb-info-tee", "the TCB info is for the other technology"},
    {"tcb-info-fmspc", "the TCB info is for another kind of platform"},
    {"tcb-info-pceid", "the TCB info is for another PCE"},
    {"*-rollback", "collateral that is older than what was believed before: take the newest from its maker"},
    {"collateral-rollback", "whether newer collateral was believed before was not looked up (--collateral none)"},
    {"*-evaluation", "the collateral is older than the policy's minimum-tcb-evaluation"},
    {"tcb-date*", "older than the policy's minimum-tcb-date"},
    {"advisory-*", "an advisory that the policy denies applies to the platform"},
    {"too-many-advisories", "more advisories than can be looked at"},
    {"revocation-*", "whether it was revoked was not checked: no CRL was given"},
    {"*-crl-expired", "the CRL is too old at this time"},
    {"*-crl-not-yet-valid", "the CRL is of a later time"},
    {"*-crl-invalid", "the CRL is not signed by who it must be"},
    {"*-revoked", "a certificate has been revoked"},
    {"*-expired", "it was no longer valid at this time"},
    {"*-not-yet-valid", "it was not yet valid at this time"},
    {"qe-identity", "whether the quoting enclave is Intel's was not checked"},
    {"qe-identity-tee", "the QE identity is for the other technology"},
    {"qe-*", "the quoting enclave is not the one that Intel describes"},
    {"tdx-module-*", "the TDX module is not one that Intel lists"},
    {"td-attributes", "the attributes of the TD are not those that the policy asks for"},
    {"td-service", "a service TD (migration) is bound to this TD; only 'loosen servtd' accepts that"},
    {"sgx-attributes", "the enclave was never initialised"},
    {"isvprodid", "another product of the same signer"},
    {"isvsvn", "an older version than the policy's minimum"},
    {"vmpl", "it runs at a less trusted privilege level (VMPL) than the policy accepts"},
    {"policy-bits", "the guest policy is not as the policy asks"},
    {"platform-bits", "the platform is not set up as the policy asks"},
    {"alias-check", "the platform has not checked its memory for aliases, which the policy asks for"},
    {"mit-vector", "mitigations that the policy asks for are not on"},
    {"event-log", "the event log does not lead to the registers that are signed"},
    {"AK is not a restricted signing key", "such a key signs whatever it is given, also what no TPM has seen"},
    {"no-ak", "the key that signed the TPM quote is missing"},
    {"no-tee", "the policy measures a hardware report, and there is none that vouches for the key"},
    {"no-td-quote", "the TD quote that vouches for the key is missing"},
    {"ak-untrusted",
     "nothing shows that the key which signed lives in a TPM: no certificate, no hardware report, no pin"},
    {"ak-not-pinned", "the key that signed is none of those that the policy pins"},
    {"ak-pinned", "that the key which signed lives in a TPM is your word alone (ak-pin)"},
    {"ak-attributes", "a bare key: whether it signs only what the TPM has measured was not checked"},
    {"pcr-selection", "the quote is about other PCRs than were asked for"},
    {"pcr-values", "the values of the PCRs were not given, only their hash"},
    {"sha1", "SHA-1, which is broken"},
    {"certified-key-attributes", "the attested key could leave its TPM"},
    /* which signature or rule */
    {"*-untrusted", "it does not lead to a root that is known"},
    {"*-constraints", "a certificate was used for what it is not for"},
    {"*-work",
     "no path was found within the signature checks that one verdict may cost: leave out what belongs to others"},
    {"*-algorithm", "an algorithm that is not accepted"},
    {"*-signature", "a signature does not hold"},
    {"*-format", "it cannot be read"},
    {"*-names", "a certificate is not named as its maker names them"},
    {"*-binding", "the evidence does not belong to what carries it"},
    {"*-missing", "it is not there"},
    {"*-unsupported", "a kind that is not supported"},
    {"items", "a piece that is empty or too large"},
    {"certificates", "a certificate or CRL that cannot be read"},
    {"certificate-table", "the host's table of certificates cannot be read"},
    {"certification-data", "the quote brings no PCK certificate, but a kind of data that is not supported"},
    {"pck-two", "more than one PCK certificate"},
    {"pck-extension", "what the PCK certificate says of its platform cannot be read"},
    {"chip-id", "the certificate is that of another chip"},
    {"reported-tcb", "the certificate is for another firmware than the report tells"},
    {"product", "certificate and report are of different products"},
    {"leaf-kind", "the report was signed by the other kind of key (VCEK, VLEK)"},
    {"signing-key-*", "the report was signed by no key that AMD vouches for"},
    {"report-size", "a report has 1184 bytes"},
    {"report-version", "a version of report that is not known"},
    {"reserved-bits", "bits that must be zero are not"},
    {"policy-bit-17", "a bit of the guest policy that must be set is not"},
    {"ratls-*", "the RA-TLS certificate and the evidence in it do not belong together"},
    {"tee-unused", "a hardware report that says nothing of the TPM's key"},
    {"tpm-attest", "the TPM's attestation cannot be read"},
    {"hcl-report", "Azure's report cannot be read"},
    {"tpm-items", "a TPM quote needs one signature for each attestation"},
    {"ak-*", "the certificate or structure of the key that signed does not fit"},
    {"certif*", "the attestation of a key does not hold"},
    {"key-not-certified", "the attested key is another"},
    {"pcr-digest", "the values of the PCRs are not those that were signed"},
    {"signature-*", "a signature scheme that is not accepted"},
    {"quote-*", "the quote does not hold"},
    {"report-*", "the report does not hold"},
};

static bool fits(const char *pattern, const char *word)
{
    const size_t size = strlen(pattern), length = strlen(word);
    if (pattern[0] == '*') {
        return length >= size - 1 && !strcmp(word + length - (size - 1), pattern + 1);
    }
    return pattern[size - 1] == '*' ? !strncmp(word, pattern, size - 1) : !strcmp(word, pattern);
}

const char *cmif_reason_meaning(const char *word)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        if (!strchr(meanings[i].word, '*') && fits(meanings[i].word, word)) {
            return meanings[i].meaning;
        }
    }
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        if (fits(meanings[i].word, word)) {
            return meanings[i].meaning;
        }
    }
    return NULL;
}

/* ---- for a person ---- */

static void date(int64_t when, const char *format, char out[static 32])
{
    time_t    seconds = (time_t) when;
    struct tm parts   = {0};
    if (!gmtime_r(&seconds, &parts) || !strftime(out, 32, format, &parts)) {
        snprintf(out, 32, "(no date)");
    }
}

/* Goes on where the text ends; what does not fit is left out. */
static void more(char *out, size_t room, const char *format, ...) CMIF_PRINTF(3, 4);
static void more(char *out, size_t room, const char *format, ...)
{
    const size_t at = strlen(out);
    va_list      args;
    va_start(args, format);
    vsnprintf(out + at, room - at, format, args);
    va_end(args);
}

static void more_words(char *out, size_t room, const char *title, const char *words, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        more(out, room, "%s%s", i ? ", " : title, words + i * size);
    }
}

void cmif_verdict_line(const cmif_verdict *v, char *out, size_t room)
{
    char        day[32];
    const char *version = cmif_verdict_field(v, "version");
    const bool  quote   = v->tee == CMIF_TEE_SGX || v->tee == CMIF_TEE_TDX;
    out[0]              = '\0';
    more(out, room, "%s: %s", cmif_outcome_word(v->outcome), cmif_tee_name(v->tee));
    if (version && (quote || v->tee == CMIF_TEE_SNP)) {
        more(out, room, " %s version %s", quote ? "quote" : "report", version);
    }
    if (v->tcb_status != CMIF_TCB_NONE) {
        more(out, room, ", TCB %s", cmif_tcb_status_name(v->tcb_status));
    }
    if (v->tcb_date) {
        date(v->tcb_date, "%Y-%m-%d", day);
        more(out, room, " of %s", day);
    }
    more(out, room, "%s", v->debug ? ", DEBUG" : "");
    more_words(out, room, "; why: ", v->reasons[0], CMIF_REASON_SIZE, v->reason_count);
}

void cmif_verdict_peer_line(const cmif_peer_verdict *peer, const cmif_attest_policy *policy, char *out, size_t room)
{
    const cmif_verdict *v = &peer->verdict;
    cmif_verdict_line(v, out, room);
    for (size_t i = 0; i < policy->measured_count; i++) {
        const cmif_measured *m      = &policy->measured[i];
        const bool           looked = m->tee == v->tee || v->tee == CMIF_TEE_TPM; /* a TEE may vouch for a TPM */
        const char          *value  = looked ? cmif_verdict_field(v, m->name) : NULL;
        for (size_t j = 0; j < i; j++) { /* several values of one name are alternatives */
            value = strcmp(policy->measured[j].name, m->name) != 0 ? value : NULL;
        }
        if (value) {
            more(out, room, ", %s %.16s...", m->name, value);
        }
    }
    more(out, room, "; it calls itself %s", peer->claims.program);
    more_words(out, room, "; not checked: ", v->unchecked[0], CMIF_REASON_SIZE, v->unchecked_count);
    more_words(out, room, "; loosened: ", v->loosened[0], sizeof v->loosened[0], v->loosened_count);
}

static void print_words(FILE *to, const char *title, const char *words, size_t size, size_t count, bool explained)
{
    if (count) {
        fprintf(to, "  %s\n", title);
    }
    for (size_t i = 0; i < count; i++) {
        const char *word = words + i * size, *meaning = explained ? cmif_reason_meaning(word) : NULL;
        fprintf(to, meaning ? "    %-22s %s\n" : "    %s\n", word, meaning);
    }
}

static bool says_what_it_is(const cmif_verdict *v, const char *name)
{
    static const char *const names[] = {"mrenclave",    "mrsigner",      "isvprodid",    "isvsvn",     "mrtd",
                                        "rtmr0",        "rtmr1",         "rtmr2",        "rtmr3",      "mrseam",
                                        "xfam",         "measurement",   "host_data",    "policy",     "vmpl",
                                        "product",      "report_data",   "tdattributes", "attributes", "pck_fmspc",
                                        "reported_tcb", "committed_tcb", "extra_data",   "pcr_digest", "csp_id"};
    (void) v;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(name, names[i])) {
            return true;
        }
    }
    return !strncmp(name, "pcr", 3) && name[3] >= '0' && name[3] <= '9';
}

/* What is accepted needs none, but the simulator's: it is INSECURE, always. */
static bool has_sentence(const cmif_verdict *v)
{
    return (v->outcome != CMIF_ACCEPTED || v->tee == CMIF_TEE_SIM) && v->sentence.text[0];
}

void cmif_verdict_print(const cmif_verdict *v, FILE *to)
{
    char             line[1024], day[32];
    const cmif_style style = v->outcome == CMIF_ACCEPTED ? CMIF_GREEN : CMIF_RED;
    cmif_verdict_line(v, line, sizeof line);
    fprintf(to, "%s%s%s\n", cmif_style_of(to, style), line, cmif_style_of(to, CMIF_PLAIN));
    print_words(to, "why", v->reasons[0], CMIF_REASON_SIZE, v->reason_count, true);
    print_words(to, "of which", v->errors[0], CMIF_REASON_SIZE, v->error_count, true);
    if (has_sentence(v)) {
        fputs("  ", to);
        cmif_put_clean(to, v->sentence.text, strlen(v->sentence.text));
        fputc('\n', to);
    }
    print_words(to, "not checked", v->unchecked[0], CMIF_REASON_SIZE, v->unchecked_count, true);
    print_words(to, "loosened by the policy", v->loosened[0], sizeof v->loosened[0], v->loosened_count, false);
    print_words(to, "advisories", v->advisories[0], sizeof v->advisories[0], v->advisory_count, false);
    for (size_t i = 0, shown = 0; i < v->field_count; i++) {
        if (says_what_it_is(v, v->fields[i].name)) {
            fprintf(to, "%s    %-14s ", shown++ ? "" : "  it says of itself\n", v->fields[i].name);
            cmif_put_clean(to, v->fields[i].value, strlen(v->fields[i].value));
            fputc('\n', to);
        }
    }
    date(v->time, "%Y-%m-%d %H:%M:%S UTC", day);
    fprintf(to, "  judged as of %s\n", day);
}

/* ---- JSON ---- */

json_t *cmif_time_json(int64_t when)
{
    char text[32];
    if (when == 0) {
        return json_null();
    }
    date(when, "%Y-%m-%dT%H:%M:%SZ", text);
    return json_string(text);
}

/* Text of others: what is no UTF-8 becomes question marks, so that the rest is still told. */
json_t *cmif_text_json(const char *text)
{
    json_t *whole = json_string(text);
    char    ascii[512];
    size_t  size = 0;
    if (whole) {
        return whole;
    }
    for (; text[size] && size < sizeof ascii - 1; size++) {
        ascii[size] = text[size] < ' ' || text[size] > '~' ? '?' : text[size];
    }
    ascii[size] = '\0';
    return json_string(ascii);
}

static json_t *words_json(const char *words, size_t size, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, cmif_text_json(words + i * size));
    }
    return list;
}

static json_t *status_json(cmif_tcb_status status)
{
    return status == CMIF_TCB_NONE ? json_null() : json_string(cmif_tcb_status_name(status));
}

json_t *cmif_verdict_json(const cmif_verdict *v)
{
    static const char *const tees[CMIF_TEE_COUNT] = {NULL, "sgx", "tdx", "snp", "tpm", "sim"};
    json_t                  *fields               = json_object();
    for (size_t i = 0; i < v->field_count; i++) {
        json_object_set_new(fields, v->fields[i].name, cmif_text_json(v->fields[i].value));
    }
    return json_pack("{s:s, s:s, s:i, s:s?, s:b, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:I}, s:{s:o, "
                     "s:o, s:o}, s:o, s:o, s:o}",
                     "schema", "cmif-verdict-1", "outcome", cmif_outcome_word(v->outcome), "exit_code",
                     (int) v->outcome, "technology", (unsigned) v->tee < CMIF_TEE_COUNT ? tees[v->tee] : NULL, "debug",
                     v->debug, "reasons", words_json(v->reasons[0], CMIF_REASON_SIZE, v->reason_count), "errors",
                     words_json(v->errors[0], CMIF_REASON_SIZE, v->error_count), "unchecked",
                     words_json(v->unchecked[0], CMIF_REASON_SIZE, v->unchecked_count), "loosened",
                     words_json(v->loosened[0], sizeof v->loosened[0], v->loosened_count), "advisories",
                     words_json(v->advisories[0], sizeof v->advisories[0], v->advisory_count), "tcb", "status",
                     status_json(v->tcb_status), "platform", status_json(v->platform_status), "module",
                     status_json(v->module_status), "qe", status_json(v->qe_status), "date",
                     cmif_time_json(v->tcb_date), "evaluation", (json_int_t) v->tcb_evaluation, "collateral",
                     "tcb_info", cmif_time_json(v->tcb_issue), "qe_identity", cmif_time_json(v->qe_issue), "crl",
                     cmif_time_json(v->crl_this_update), "time", cmif_time_json(v->time), "sentence",
                     has_sentence(v) ? cmif_text_json(v->sentence.text) : json_null(), "fields", fields);
}

/* ---- times ---- */

bool cmif_time_read(const char *text, int64_t *out)
{
    int       part[6] = {0}, used = 0;
    const int length = (int) strlen(text);
    bool good = (length == 10 && sscanf(text, "%4d-%2d-%2d%n", part, part + 1, part + 2, &used) == 3 && used == 10) ||
                (length == 20 &&
                 sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", part, part + 1, part + 2, part + 3, part + 4, part + 5,
                        &used) == 6 &&
                 used == 20);
    struct tm parts = {.tm_year = part[0] - 1900,
                       .tm_mon  = part[1] - 1,
                       .tm_mday = part[2],
                       .tm_hour = part[3],
                       .tm_min  = part[4],
                       .tm_sec  = part[5]};
    struct tm again = {0};
    time_t    when  = timegm(&parts);
    char      text_again[32];
    good = good && part[0] >= 1970 && gmtime_r(&when, &again) &&
           strftime(text_again, sizeof text_again, length == 10 ? "%Y-%m-%d" : "%Y-%m-%dT%H:%M:%SZ", &again) &&
           !strcmp(text, text_again);
    if (good) {
        *out = when;
    }
    return good;
}
