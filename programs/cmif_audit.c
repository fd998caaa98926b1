/* cmif audit - check a chain of receipts, offline: signatures, order, sums. */
#include "cmif_commands.h"

#include "base/bytes.h"
#include "receipt/receipt.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char       *head_option;
static const cmif_option options[] = {
    {0, "head", "HEX", CMIF_OPTION_TEXT, &head_option, 0, 0, "a hash known from elsewhere that must be in the chain"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name         = "audit",
    .args         = "[FILE | FOLDER] [--head HEX]",
    .summary      = "check signed receipts: none changed, missing or moved; their sums",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = "Default: one's own receipts. Nothing is sent or changed. Keep the hash that is\n"
                    "printed somewhere else: whoever has the private key could write a chain anew,\n"
                    "and with --head that is seen. Compare the key with the one you know.\n",
};

static void write_time(int64_t when, char out[static 32])
{
    time_t    seconds = (time_t) when;
    struct tm parts   = {0};
    if (!gmtime_r(&seconds, &parts) || !strftime(out, 32, "%Y-%m-%d %H:%M UTC", &parts)) {
        snprintf(out, 32, "(no date)");
    }
}

static cmif_code print_audit(const char *path, const cmif_audit *a, cmif_err *err)
{
    char key[65], head[65], first[32], last[32];
    cmif_hex(a->key, 32, key);
    cmif_hex(a->head, 32, head);
    if (cmif_json) {
        return cmif_print_json(json_pack("{s:s, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:s, s:s, s:b}", "file", path,
                                         "receipts", (json_int_t) a->receipts, "draws", (json_int_t) a->draws,
                                         "epsilon", (double) a->epsilon_micro / 1e6, "surrogates",
                                         (json_int_t) a->surrogates, "passed", (json_int_t) a->passed, "first",
                                         (json_int_t) a->first, "last", (json_int_t) a->last, "key", key, "head", head,
                                         "complete", a->complete),
                               err);
    }
    write_time(a->first, first);
    write_time(a->last, last);
    printf("%s: %" PRIu64 " receipts, each signed, none missing or moved%s\n", path, a->receipts,
           a->complete ? "" : " (but nothing says whether there were more)");
    printf("  from %s to %s\n", first, last);
    printf("  %" PRIu64 " draws, epsilon %.10g; %" PRIu64 " surrogates; %" PRIu64 " words passed\n", a->draws,
           (double) a->epsilon_micro / 1e6, a->surrogates, a->passed);
    printf("  key   %s\n  head  %s\n", key, head);
    return fflush(stdout) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

int cmif_audit_command(int argc, char **argv)
{
    char       path[PATH_MAX];
    uint8_t    head[32];
    cmif_audit audit = {0};
    cmif_err   err   = {0};
    int        rest  = 0;
    cmif_code  rc    = cmif_options_parse(&command, argc, argv, &rest, &err);

    if (rc == CMIF_OK && rest > 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "audit takes one file or folder");
    }
    if (rc == CMIF_OK && head_option && (strlen(head_option) != 64 || !cmif_unhex(head_option, 32, head))) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "--head takes 64 hexadecimal digits, as 'cmif audit' prints them");
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    if (rest) {
        if (snprintf(path, sizeof path, "%s", argv[0]) >= (int) sizeof path) {
            rc = cmif_fail(&err, CMIF_E_IO, "the name of the file is too long");
        }
    } else {
        char folder[PATH_MAX];
        rc = cmif_data_folder(folder, &err);
        if (rc == CMIF_OK) {
            snprintf(path, sizeof path, "%.*s/receipts", PATH_MAX / 2, folder);
        }
    }
    rc = rc == CMIF_OK ? cmif_receipts_audit(path, head_option ? head : NULL, &audit, &err) : rc;
    rc = rc == CMIF_OK ? print_audit(path, &audit, &err) : rc;
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}
