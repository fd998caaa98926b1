/* cmif verify - what a piece of evidence proves, offline: a verdict, its reasons, and what was not checked. */
#include "cmif_commands.h"
#include "cmif_verdict.h"

#include "attest/policy.h"
#include "base/bytes.h"
#include "collateral/judge.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *policy_option, *time_option, *collateral_option, *report_data_option, *write_option, *ak_option;
static const cmif_option options[] = {
    {0, "policy", "FILE", CMIF_OPTION_TEXT, &policy_option, 0, 0, "what must hold; without one nothing is accepted"},
    {0, "report-data", "HEX", CMIF_OPTION_TEXT, &report_data_option, 0, 0, "what was asked with: a nonce, or a hash"},
    {0, "time", "T", CMIF_OPTION_TEXT, &time_option, 0, 0, "judge as of 2025-06-20T00:00:00Z (default: now)"},
    {0, "collateral", "WHERE", CMIF_OPTION_TEXT, &collateral_option, 0, 0,
     "file or folder; auto: the store (default); none"},
    {0, "ak-name", "HEX", CMIF_OPTION_TEXT, &ak_option, 0, 0, "Name of an AK that the TPM proved to you to be its own"},
    {0, "write-policy", "FILE", CMIF_OPTION_TEXT, &write_option, 0, 0, "write a policy from evidence that is good"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name    = "verify",
    .args    = "[options] EVIDENCE...",
    .summary = "say what evidence of Intel SGX, Intel TDX, AMD SEV-SNP or a TPM proves; nothing is sent or fetched",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .notes =
        "EVIDENCE: files, or folders of them: quotes, reports, RA-TLS certificates, TPM quotes with what belongs to "
        "them, event\n"
        "logs, certificates, CRLs, answers of Intel PCS and AMD KDS. What a file is shows in its bytes, not in its "
        "name.\n"
        "What is missing is taken from the collateral store ('cmif collateral'), which also remembers the newest that "
        "was\n"
        "believed: older is refused.\n"
        "Exit code: 0 accepted, 10 rejected, 20 unsupported, 30 malformed, 1 it could not be judged, 2 wrong use.\n"
        "\n  cmif verify evidence/\n"
        "  cmif verify --write-policy gateway.policy evidence/\n"
        "  cmif verify --policy gateway.policy --report-data $NONCE evidence/\n",
};

typedef struct verification {
    cmif_sorted              sorted;
    cmif_attest_policy       policy;
    cmif_attest_policy_file *file; /* NULL: no policy was given */
    uint8_t                  report_data[64], ak_name[34];
    int64_t                  time;
    cmif_verdict             verdict;
} verification;

/* ---- what was asked ---- */

static cmif_code read_options(verification *v, int rest, cmif_err *err)
{
    v->time = (int64_t) time(NULL);
    if (rest < 1) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "verify takes evidence: one or more files or folders; 'cmif verify --help' tells more");
    }
    if (time_option && !cmif_time_read(time_option, &v->time)) {
        return cmif_fail(err, CMIF_E_RANGE, "--time takes a time like 2025-06-20T00:00:00Z, or a day like 2025-06-20");
    }
    if (policy_option && write_option) {
        return cmif_fail(err, CMIF_E_RANGE, "--policy and --write-policy: judge by a policy or write one");
    }
    cmif_attest_policy_init(&v->policy);
    if (report_data_option) {
        const size_t size = strlen(report_data_option);
        if (size < 2 || size > 128 || size % 2 || !cmif_unhex(report_data_option, size / 2, v->report_data)) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "--report-data takes 1 to 64 bytes as hexadecimal digits in lower case, two for each");
        }
        v->policy.report_data_size = size / 2;
    }
    if (ak_option && (strlen(ak_option) != 2 * sizeof v->ak_name || strncmp(ak_option, "000b", 4) != 0 ||
                      !cmif_unhex(ak_option, sizeof v->ak_name, v->ak_name))) {
        return cmif_fail(
            err, CMIF_E_RANGE,
            "--ak-name takes the Name of an attestation key: 000b and its SHA-256, 68 hexadecimal digits in "
            "lower case");
    }
    return CMIF_OK;
}

/* The policy to judge by; without one, what shows the most and accepts nothing. */
static cmif_code take_policy(verification *v, cmif_err *err)
{
    const size_t size = v->policy.report_data_size;
    if (policy_option) {
        cmif_code rc = cmif_attest_policy_open(policy_option, &v->file, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        v->policy = v->file->policy;
    } else {
        v->policy.tees                     = (1U << CMIF_TEE_COUNT) - 2;
        v->policy.loosened.any_measurement = true;
        v->policy.loosened.no_report_data  = true;
        v->policy.loosened.simulator       = true;
        v->policy.snp_vmpl_max             = 3;
    }
    if (size) {
        if (v->file && v->file->policy.report_data) {
            return cmif_fail(
                err, CMIF_E_RANGE,
                "both --report-data and the policy say what the report data must be: take one of the two away");
        }
        v->policy.report_data             = v->report_data;
        v->policy.report_data_size        = size;
        v->policy.loosened.no_report_data = false;
    }
    if (ak_option) {
        v->policy.ak_activated       = v->ak_name;
        v->policy.ak_activated_count = 1;
    }
    return CMIF_OK;
}

/* ---- what was brought ---- */

static bool has_kind(const verification *v, cmif_item_kind kind)
{
    for (size_t i = 0; i < v->sorted.count; i++) {
        if (v->sorted.items[i].item.kind == kind) {
            return true;
        }
    }
    return false;
}

/* Files that were named must be known; in a folder others may lie. *stranger: the first that is not. */
static cmif_code read_evidence(verification *v, int count, char **paths, const cmif_sorted_item **stranger,
                               cmif_err *err)
{
    bool named[CMIF_SORTED_MAX] = {false};
    for (int i = 0; i < count; i++) {
        struct stat  info;
        const size_t before = v->sorted.count;
        const bool   file   = stat(paths[i], &info) == 0 && S_ISREG(info.st_mode);
        cmif_code    rc     = cmif_sort_path(&v->sorted, paths[i], err);
        if (rc != CMIF_OK) {
            return rc;
        }
        for (size_t j = before; j < v->sorted.count; j++) {
            named[j] = file;
        }
    }
    cmif_sort_settle(&v->sorted);
    for (size_t i = 0; i < v->sorted.count; i++) {
        if (named[i] && v->sorted.items[i].unknown) {
            *stranger = &v->sorted.items[i];
            break;
        }
    }
    if (collateral_option && strcmp(collateral_option, "auto") != 0 && strcmp(collateral_option, "none") != 0) {
        return cmif_sort_path(&v->sorted, collateral_option, err);
    }
    return CMIF_OK;
}

/* ---- the verdict ---- */

static void say_no_evidence(verification *v, const cmif_sorted_item *stranger)
{
    cmif_verdict *d = &v->verdict;
    *d              = (cmif_verdict){.outcome = CMIF_MALFORMED, .time = v->time};
    cmif_judge_reason(d, "no-evidence");
    if (stranger) {
        (void) cmif_fail(&d->sentence, CMIF_E_FORMAT,
                         "expected a quote, a report, an RA-TLS certificate, a TPM quote, an event log or collateral; "
                         "found none of them in the %zu "
                         "bytes of '%s'",
                         stranger->item.size, stranger->from);
    } else {
        (void) cmif_fail(&d->sentence, CMIF_E_FORMAT,
                         "expected a quote, a report, an RA-TLS certificate or a TPM quote; found none among %zu %s",
                         v->sorted.count, v->sorted.count == 1 ? "file" : "files");
    }
}

static bool has_evidence(const verification *v)
{
    return has_kind(v, CMIF_ITEM_QUOTE) || has_kind(v, CMIF_ITEM_SNP_REPORT) || has_kind(v, CMIF_ITEM_RATLS) ||
           has_kind(v, CMIF_ITEM_TPM_ATTEST) || has_kind(v, CMIF_ITEM_HCL) || has_kind(v, CMIF_ITEM_SIM);
}

/* Without a policy nothing is accepted, and nothing was loosened: it was only looked at. */
static void say_no_policy(verification *v)
{
    cmif_verdict *d = &v->verdict;
    cmif_judge_reason(d, "no-policy");
    if (d->outcome == CMIF_ACCEPTED) {
        d->outcome = CMIF_REJECTED;
    }
    if (d->tee == CMIF_TEE_SIM) { /* which says INSECURE in both places, and goes on saying it */
        return;
    }
    d->loosened_count = 0;
    if (d->outcome == CMIF_REJECTED) {
        (void) cmif_fail(&d->sentence, CMIF_E_TRUST, "shown only, not accepted: no policy says what must hold");
    }
}

static cmif_code judge(verification *v, const cmif_sorted_item *stranger, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (stranger || !has_evidence(v)) {
        say_no_evidence(v, stranger);
        return CMIF_OK;
    }
    char       folder[PATH_MAX], store[PATH_MAX];
    const bool none = collateral_option && !strcmp(collateral_option, "none");
    if (!none) {
        rc = cmif_data_folder(folder, err);
        snprintf(store, sizeof store, "%.*s/collateral.db", PATH_MAX / 2, rc == CMIF_OK ? folder : "");
    }
    rc = rc == CMIF_OK ? cmif_judge(&v->sorted, &v->policy, v->time, none ? NULL : store, &v->verdict, err) : rc;
    if (rc == CMIF_OK && !v->file) {
        say_no_policy(v);
    }
    if (rc == CMIF_OK && ak_option && v->verdict.loosened_count < CMIF_LOOSENED_MAX) { /* the caller's word, not ours */
        snprintf(v->verdict.loosened[v->verdict.loosened_count++], CMIF_LOOSENED_SIZE, "ak-name");
    }
    return rc;
}

/* ---- a policy from evidence ---- */

/* The measurements of one technology. Zeros say nothing, and what is set by others or grows is left to a person. */
static void put_measured(FILE *to, const cmif_verdict *d, cmif_tee tee, bool notes)
{
    static const struct {
        const char *name, *note;
    } measured[] = {{"mrenclave", NULL},
                    {"mrsigner", "any program of this signer, instead of this one program"},
                    {"mrtd", NULL},
                    {"rtmr0", NULL},
                    {"rtmr1", NULL},
                    {"rtmr2", NULL},
                    {"rtmr3", "grows while the machine runs"},
                    {"measurement", NULL},
                    {"host_data", "set by who started the machine"},
                    {"id_key_digest", "who signed the machine's launch"},
                    {"pcr10", "grows while the machine runs, where IMA is on"}};
    for (size_t i = 0; i < d->field_count; i++) {
        const cmif_attest_field *f   = &d->fields[i];
        const bool               pcr = tee == CMIF_TEE_TPM && !strncmp(f->name, "pcr", 3),
                   zero              = strspn(f->value, "0") == strlen(f->value);
        const char *note             = zero && !pcr ? "zero, so it says nothing of this machine" : NULL;
        bool        asked            = pcr;
        size_t      other;
        for (size_t j = 0; j < sizeof measured / sizeof *measured; j++) {
            if (!strcmp(f->name, measured[j].name)) {
                asked = true;
                note  = measured[j].note ? measured[j].note : note;
            }
        }
        if (!asked || !cmif_attest_measured_size(tee, f->name, &other) || (!notes && (zero || note))) {
            continue;
        }
        if (note) {
            fprintf(to, "# %s:\n", note);
        }
        fprintf(to, "%smeasure %s %s %s\n", !notes ? "    " : note ? "# " : "", cmif_tee_word(tee), f->name, f->value);
    }
}

/* Lines that a policy for this evidence needs; with notes, the whole file for a person to read. */
static void put_policy(FILE *to, const cmif_verdict *d, bool notes)
{
    const char *value = cmif_verdict_field(d, "ak_tee"); /* a hardware report that vouches for the TPM's key */
    fprintf(to, "%sattestation-policy 1\n%saccept %s\n", notes ? "" : "    ", notes ? "\n" : "    ",
            cmif_tee_word(d->tee));
    if (d->tee == CMIF_TEE_TPM && cmif_verdict_field(d, "pcr_select")) {
        fprintf(to, "%spcrs %s\n", notes ? "" : "    ", cmif_verdict_field(d, "pcr_select"));
    }
    put_measured(to, d, d->tee, notes);
    if (value && d->tee == CMIF_TEE_TPM) {
        put_measured(to, d, !strcmp(value, "snp") ? CMIF_TEE_SNP : CMIF_TEE_TDX, notes);
    }
    if (!notes) {
        return;
    }
    if (d->tcb_status != CMIF_TCB_NONE) {
        fputs("\n# How up to date the platform must be. Milder: SWHardeningNeeded, ConfigurationNeeded, ... on the "
              "same line.\nstatus UpToDate\n",
              to);
        fprintf(to, "minimum-tcb-evaluation %" PRIu32 "\n", d->tcb_evaluation);
    }
    value = cmif_verdict_field(d, "committed_tcb");
    if (value && d->tee == CMIF_TEE_SNP) {
        fprintf(to,
                "\n# Firmware that cannot be taken back any more, byte by byte as in COMMITTED_TCB: none may be "
                "lower.\nsnp-minimum-tcb %s\n",
                value);
        value = cmif_verdict_field(d, "vmpl");
        if (value && strcmp(value, "0") != 0) {
            fprintf(to,
                    "# It ran at privilege level %s; another program of this machine is above it.\n# snp-vmpl-max %s\n",
                    value, value);
        }
    }
    fputs("\n# The report data must be what you asked with: give it with --report-data each time.\n", to);
    for (size_t i = 0; i < d->unchecked_count; i++) {
        const char *meaning = cmif_reason_meaning(d->unchecked[i]);
        if (strcmp(d->unchecked[i], "report-data") != 0 && strcmp(d->unchecked[i], "no-measurement-policy") != 0) {
            fprintf(to, "# Not checked, and so refused: %s%s%s%s\n", d->unchecked[i], meaning ? " (" : "",
                    meaning ? meaning : "", meaning ? ")" : "");
            if (!strncmp(d->unchecked[i], "revocation-", 11)) {
                fputs("# Bring the CRL with 'cmif collateral add', or take the risk with:\n# loosen no-crl\n", to);
            }
        }
    }
    value = cmif_verdict_field(d, "ak_spki");
    if (value) {
        fprintf(to,
                "# The key that signed. If you know from elsewhere that it lives in the TPM you mean:\n# ak-pin %s\n# "
                "loosen ak-pinned\n",
                value);
    }
}

static cmif_code write_policy(const verification *v, cmif_err *err)
{
    const cmif_verdict *d = &v->verdict;
    char                day[32];
    time_t              now   = (time_t) v->time;
    struct tm           parts = {0};
    for (size_t i = 0; i < d->reason_count; i++) {
        bool open = !strcmp(d->reasons[i], "no-policy");
        for (size_t j = 0; j < d->unchecked_count; j++) {
            open = open || !strcmp(d->reasons[i], d->unchecked[j]);
        }
        if (!open || d->outcome != CMIF_REJECTED) {
            return cmif_fail(err, CMIF_E_TRUST,
                             "no policy was written: the evidence is not good, because of %s; 'cmif verify' without "
                             "--write-policy tells more",
                             d->reasons[i]);
        }
    }
    int   fd = open(write_option, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!to) {
        cmif_code rc = cmif_fail(err, CMIF_E_IO,
                                 errno == EEXIST ? "'%s' is there already and stays as it is: name another file"
                                                 : "cannot make '%s': %s",
                                 write_option, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    gmtime_r(&now, &parts);
    strftime(day, sizeof day, "%Y-%m-%d", &parts);
    fprintf(to,
            "# What evidence of %s must show to be accepted; written by cmif %s from evidence that was good on %s.\n"
            "# Read it: whoever ran that machine chose what it measured. A line that begins with # does nothing.\n",
            cmif_tee_name(d->tee), CMIF_VERSION, day);
    put_policy(to, d, true);
    const bool bad = fflush(to) != 0 || fsync(fd) != 0;
    if (fclose(to) != 0 || bad) {
        (void) unlink(write_option);
        return cmif_fail(err, CMIF_E_IO, "cannot write '%s': is the disk full?", write_option);
    }
    return CMIF_OK;
}

/* ---- what is said ---- */

static json_t *items_json(const verification *v)
{
    json_t *list = json_array();
    for (size_t i = 0; i < v->sorted.count; i++) {
        const cmif_sorted_item *one = &v->sorted.items[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:b}", "file", cmif_text_json(one->from), "what",
                                              cmif_text_json(one->what), "used", one->item.kind != 0));
    }
    return list;
}

static cmif_code say(const verification *v, cmif_err *err)
{
    const cmif_verdict *d = &v->verdict;
    if (cmif_json) {
        char    hash[65] = "";
        json_t *object   = cmif_verdict_json(d);
        if (v->file) {
            cmif_hex(v->file->hash, sizeof v->file->hash, hash);
        }
        json_object_set_new(object, "policy",
                            v->file ? json_pack("{s:o, s:s}", "file", cmif_text_json(policy_option), "sha256", hash)
                                    : json_null());
        json_object_set_new(object, "items", items_json(v));
        return cmif_print_json(object, err);
    }
    if (cmif_quiet) {
        char line[1024];
        cmif_verdict_line(d, line, sizeof line);
        puts(line);
    } else {
        cmif_verdict_print(d, stdout);
        for (size_t i = 0, shown = 0; i < v->sorted.count; i++) {
            const cmif_sorted_item *one = &v->sorted.items[i];
            if (!one->item.kind) {
                fputs(shown++ ? "    " : "  not used\n    ", stdout);
                cmif_put_clean(stdout, one->from, strlen(one->from));
                printf(": %s\n", one->what);
            }
        }
        if (!v->file && d->outcome == CMIF_REJECTED && d->tee != CMIF_TEE_NONE) {
            printf("  a policy for it would have to name\n");
            put_policy(stdout, d, false);
            printf("  'cmif verify --write-policy FILE' writes one\n");
        }
    }
    return fflush(stdout) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

int cmif_verify_command(int argc, char **argv)
{
    verification           *v        = calloc(1, sizeof *v);
    const cmif_sorted_item *stranger = NULL;
    cmif_err                err      = {0};
    int                     rest     = 0, code;
    cmif_code               rc       = v ? cmif_options_parse(&command, argc, argv, &rest, &err)
                                         : cmif_fail(&err, CMIF_E_MEMORY, "no memory for a verdict");

    rc = rc == CMIF_OK ? read_options(v, rest, &err) : rc;
    if (rc != CMIF_OK) {
        code = rc == CMIF_E_MEMORY ? cmif_report(&err) : cmif_report_usage(&err);
        goto done;
    }
    rc = take_policy(v, &err);
    if (rc == CMIF_E_FORMAT || rc == CMIF_E_RANGE) { /* a wrong policy is wrong use, and judges nothing */
        code = cmif_report_usage(&err);
        goto done;
    }
    rc   = rc == CMIF_OK ? read_evidence(v, rest, argv, &stranger, &err) : rc;
    rc   = rc == CMIF_OK ? judge(v, stranger, &err) : rc;
    rc   = rc == CMIF_OK && write_option ? write_policy(v, &err) : rc;
    rc   = rc == CMIF_OK && !(write_option && cmif_quiet) ? say(v, &err) : rc;
    code = rc != CMIF_OK ? cmif_report(&err) : write_option ? CMIF_EXIT_OK : (int) v->verdict.outcome;
done:
    if (v) {
        cmif_sort_wipe(&v->sorted);
        cmif_attest_policy_free(v->file);
    }
    free(v);
    return code;
}
