#define _GNU_SOURCE /* memmem */
/* cmif collateral - what the makers of TEEs say of their platforms, kept on this machine: brought as files, never
 * fetched. */
#include "cmif_commands.h"
#include "cmif_verdict.h"

#include "base/bytes.h"
#include "collateral/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DAY = 86400 };

static const char *kind_name(cmif_item_kind kind)
{
    return kind == CMIF_ITEM_TCB_INFO      ? "tcb-info"
           : kind == CMIF_ITEM_QE_IDENTITY ? "qe-identity"
           : kind == CMIF_ITEM_CRL         ? "crl"
                                           : "certificate";
}

static void write_day(int64_t when, char out[static 32])
{
    time_t    seconds = (time_t) when;
    struct tm parts   = {0};
    if (when == INT64_MAX || !gmtime_r(&seconds, &parts) || !strftime(out, 32, "%Y-%m-%d", &parts)) {
        snprintf(out, 32, "for ever");
    }
}

static cmif_code store_path(char path[static PATH_MAX], cmif_err *err)
{
    char      folder[PATH_MAX];
    cmif_code rc = cmif_data_folder(folder, err);
    if (rc == CMIF_OK) {
        snprintf(path, PATH_MAX, "%.*s/collateral.db", PATH_MAX / 2, folder);
    }
    return rc;
}

static cmif_code flush(cmif_err *err)
{
    return fflush(stdout) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

static json_t *kept_json(const cmif_kept *k)
{
    char hash[65];
    cmif_hex(k->hash, sizeof k->hash, hash);
    return json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:s, s:b}", "kind", kind_name(k->kind), "about", k->about, "from",
                     cmif_time_json(k->starts), "until", k->ends == INT64_MAX ? json_null() : cmif_time_json(k->ends),
                     "number", (json_int_t) k->number, "size", (json_int_t) k->size, "sha256", hash, "checked",
                     k->genuine == CMIF_GENUINE_YES);
}

static void print_kept(const cmif_kept *k)
{
    char from[32], until[32], number[32] = "";
    write_day(k->starts, from);
    write_day(k->ends, until);
    if (k->number && k->kind != CMIF_ITEM_CRL) {
        snprintf(number, sizeof number, ", evaluation %" PRId64, k->number);
    }
    printf("  %-12s %-40s %s to %s%s%s\n", kind_name(k->kind), k->about, from, until, number,
           k->genuine == CMIF_GENUINE_YES  ? ""
           : k->genuine == CMIF_GENUINE_NO ? ", NOT signed by whom it names"
                                           : ", not checked: its issuer is not here");
}

/* ---- add ---- */

static const cmif_option  common_options[] = {CMIF_COMMON_OPTIONS};
static const cmif_command add_command      = {
         .name         = "collateral add",
         .args         = "FILE...",
         .summary      = "keep TCB infos, QE identities, CRLs and certificates; answers may be saved with their headers",
         .options      = common_options,
         .option_count = sizeof common_options / sizeof *common_options,
         .notes        = "What a file is shows in its bytes. What its maker did not sign is refused, and what is older than "
                              "what is here, or was believed\n"
                              "before. Whose issuer is not here is kept unchecked, and stands in nothing's way: bring the issuer's "
                              "certificate. Nothing is believed\n"
                              "for being here: 'cmif verify' checks every signature each time. docs/operations.md tells where the files "
                              "come from.\n",
};

static cmif_code add_items(cmif_store *store, const cmif_sorted *sorted, json_t *list, cmif_err *err)
{
    static const char *const words[] = {"added", "replaced", "there already"};
    cmif_code                rc      = CMIF_OK;
    for (size_t i = 0; i < sorted->count; i++) { /* all, before the first is kept */
        const cmif_sorted_item *one = &sorted->items[i];
        if (!cmif_item_is_collateral(one->item.kind)) {
            return cmif_fail(
                err, CMIF_E_FORMAT,
                "'%s' is no collateral (%s): TCB info, QE identity, CRLs and certificates are kept, and nothing else",
                one->from, one->what);
        }
    }
    /* the issuers first, by whom the rest is checked */
    for (size_t i = 0; rc == CMIF_OK && i < 2 * sorted->count; i++) {
        const cmif_sorted_item *one  = &sorted->items[i % sorted->count];
        cmif_kept               kept = {0};
        cmif_store_done         done = CMIF_STORE_ADDED;
        if ((one->item.kind == CMIF_ITEM_CERTIFICATES) != (i < sorted->count)) {
            continue;
        }
        rc = cmif_store_add(store, &one->item, (int64_t) time(NULL), &kept, &done, err);
        if (rc != CMIF_OK) {
            if (rc == CMIF_E_FORMAT || rc == CMIF_E_TRUST) {
                cmif_err_context(err, "'%s'", one->from);
            }
        } else if (cmif_json) {
            json_t *object = kept_json(&kept);
            json_object_set_new(object, "done", json_string(words[done]));
            json_array_append_new(list, object);
        } else if (!cmif_quiet) {
            printf("%s\n", words[done]);
            print_kept(&kept);
        }
    }
    return rc;
}

/* A certificate chain is kept one by one: each has its own name and date. */
static cmif_code split_certificates(const cmif_sorted *from, cmif_sorted *to, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < from->count; i++) {
        const cmif_sorted_item *one  = &from->items[i];
        const char             *text = (const char *) one->item.data, *end = text + one->item.size;
        const bool              pem =
            cmif_item_is_collateral(one->item.kind) && one->item.size > 11 && !memcmp(text, "-----BEGIN ", 11);
        while (rc == CMIF_OK && pem &&
               text < end) { /* sort made it: blocks one after the other, each ended by a newline */
            const char *stop = memmem(text, (size_t) (end - text), "-----END ", 9);
            stop             = stop ? memchr(stop, '\n', (size_t) (end - stop)) : NULL;
            stop             = stop ? stop + 1 : end;
            rc               = cmif_sort_bytes(to, one->from, (const uint8_t *) text, (size_t) (stop - text), err);
            text             = stop;
        }
        if (!pem) {
            rc = cmif_sort_bytes(to, one->from, one->item.data, one->item.size, err);
        }
    }
    return rc;
}

static int add_main(int argc, char **argv)
{
    char         path[PATH_MAX];
    cmif_sorted *sorted = calloc(1, sizeof *sorted), *single = calloc(1, sizeof *single);
    cmif_store  *store = NULL;
    json_t      *list  = json_array();
    cmif_err     err   = {0};
    int          rest  = 0, code;
    cmif_code    rc    = cmif_options_parse(&add_command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest < 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "collateral add takes one or more files, or folders of them");
    }
    if (rc != CMIF_OK) {
        code = cmif_report_usage(&err);
        goto done;
    }
    rc = sorted && single && list ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for collateral");
    for (int i = 0; rc == CMIF_OK && i < rest; i++) {
        rc = cmif_sort_path(sorted, argv[i], &err);
    }
    rc = rc == CMIF_OK ? split_certificates(sorted, single, &err) : rc;
    rc = rc == CMIF_OK ? store_path(path, &err) : rc;
    rc = rc == CMIF_OK ? cmif_store_open(path, true, &store, &err) : rc;
    rc = rc == CMIF_OK ? add_items(store, single, list, &err) : rc;
    if (rc == CMIF_OK) {
        rc = cmif_json ? cmif_print_json(json_pack("{s:s, s:O}", "store", path, "items", list), &err) : flush(&err);
    }
    code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    cmif_store_free(store);
    json_decref(list);
    if (sorted) {
        cmif_sort_wipe(sorted);
    }
    if (single) {
        cmif_sort_wipe(single);
    }
    free(sorted);
    free(single);
    return code;
}

/* ---- list, check ---- */

static uint32_t          days_option     = 7;
static const cmif_option check_options[] = {
    {0, "days", "N", CMIF_OPTION_COUNT, &days_option, 0, 36500, "what ends within N days (default 7)"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command list_command = {
    .name         = "collateral list",
    .args         = "",
    .summary      = "what is kept: for which platform, valid from when to when, which evaluation number",
    .options      = common_options,
    .option_count = sizeof common_options / sizeof *common_options,
};
static const cmif_command check_command = {
    .name         = "collateral check",
    .args         = "[--days N]",
    .summary      = "what ends soon or has ended, and what is missing; exit code 1 if there is any",
    .options      = check_options,
    .option_count = sizeof check_options / sizeof *check_options,
};

enum { KEPT_MAX = 1024, NOTES_MAX = 256 };
typedef struct kept_list {
    cmif_kept   kept[KEPT_MAX];
    size_t      count;
    cmif_store *store;
    cmif_code   rc;
    cmif_err   *err;
} kept_list;

static bool take_kept(void *context, const cmif_kept *kept, const cmif_item *item)
{
    kept_list *list           = context;
    list->kept[list->count++] = *kept;
    list->rc                  = cmif_store_genuine(list->store, item, &list->kept[list->count - 1], list->err);
    return list->rc == CMIF_OK && list->count < KEPT_MAX;
}

static bool have(const kept_list *list, cmif_item_kind kind, const char *begin)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->kept[i].kind == kind && !strncmp(list->kept[i].about, begin, strlen(begin))) {
            return true;
        }
    }
    return false;
}

static void note(json_t *notes, const char *what, const char *about, const char *sentence)
{
    json_array_append_new(notes, json_pack("{s:s, s:s, s:s}", "what", what, "about", about, "sentence", sentence));
}

/* What a technology that is begun lacks. One that is not begun lacks nothing. */
static void find_missing(const kept_list *list, json_t *notes)
{
    static const char *const amd[] = {"Milan", "Genoa", "Turin"};
    const bool               sgx = have(list, CMIF_ITEM_TCB_INFO, "SGX "), td = have(list, CMIF_ITEM_TCB_INFO, "TDX ");
    const bool sgx_qe = have(list, CMIF_ITEM_QE_IDENTITY, "QE"), td_qe = have(list, CMIF_ITEM_QE_IDENTITY, "TD_QE");
    if (sgx != sgx_qe) {
        note(notes, "missing", "sgx", sgx ? "the QE identity" : "TCB infos: one for each kind of platform (FMSPC)");
    }
    if (td != td_qe) {
        note(notes, "missing", "tdx",
             td ? "the QE identity of TDX (TD_QE)" : "TCB infos: one for each kind of platform (FMSPC)");
    }
    if (sgx || td || sgx_qe || td_qe) {
        const char *who = td || td_qe ? "tdx" : "sgx";
        if (!have(list, CMIF_ITEM_CERTIFICATES, "Intel SGX TCB Signing")) {
            note(notes, "missing", who,
                 "the certificate Intel SGX TCB Signing (it comes in the header TCB-Info-Issuer-Chain)");
        }
        if (!have(list, CMIF_ITEM_CRL, "Intel SGX Root CA")) {
            note(notes, "missing", who, "the CRL of Intel SGX Root CA");
        }
        if (!have(list, CMIF_ITEM_CRL, "Intel SGX PCK Platform CA") &&
            !have(list, CMIF_ITEM_CRL, "Intel SGX PCK Processor CA")) {
            note(notes, "missing", who, "the CRL of Intel SGX PCK Platform CA, or of Processor CA");
        }
    }
    for (size_t i = 0; i < sizeof amd / sizeof *amd; i++) {
        char ark[32], ask[32];
        snprintf(ark, sizeof ark, "ARK-%s", amd[i]);
        snprintf(ask, sizeof ask, "SEV-%s", amd[i]);
        const bool begun = have(list, CMIF_ITEM_CERTIFICATES, ark) || have(list, CMIF_ITEM_CERTIFICATES, ask);
        if (begun && !have(list, CMIF_ITEM_CRL, ark)) {
            note(notes, "missing", amd[i], "AMD's CRL for this product");
        }
    }
}

static void find_ending(const kept_list *list, int64_t now, json_t *notes)
{
    for (size_t i = 0; i < list->count; i++) {
        const cmif_kept *k = &list->kept[i];
        char             sentence[128], day[32];
        write_day(k->ends, day);
        if (k->ends < now) {
            snprintf(sentence, sizeof sentence, "%s: ended on %s; bring the newest", kind_name(k->kind), day);
            note(notes, "ended", k->about, sentence);
        } else if (k->ends != INT64_MAX && k->ends - now <= (int64_t) days_option * DAY) {
            snprintf(sentence, sizeof sentence, "%s: ends on %s; bring a newer one", kind_name(k->kind), day);
            note(notes, "ends", k->about, sentence);
        }
        if (k->genuine != CMIF_GENUINE_YES) {
            snprintf(sentence, sizeof sentence, "%s: %s", kind_name(k->kind),
                     k->genuine == CMIF_GENUINE_NO ? "not signed by whom it names; 'cmif collateral remove' it"
                                                   : "its issuer's certificate is not here; bring it");
            note(notes, "unchecked", k->about, sentence);
        }
    }
}

static int look_main(const cmif_command *command, int argc, char **argv, bool check)
{
    char        path[PATH_MAX];
    kept_list  *list  = calloc(1, sizeof *list);
    cmif_store *store = NULL;
    json_t     *all = json_array(), *notes = json_array();
    cmif_err    err   = {0};
    int         rest  = 0, code;
    size_t      found = 0;
    cmif_code   rc    = cmif_options_parse(command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "%s takes options only", command->name);
    }
    if (rc != CMIF_OK) {
        code = cmif_report_usage(&err);
        goto done;
    }
    rc = list && all && notes ? store_path(path, &err) : cmif_fail(&err, CMIF_E_MEMORY, "no memory for collateral");
    rc = rc == CMIF_OK ? cmif_store_open(path, false, &store, &err) : rc;
    if (rc == CMIF_OK) {
        list->store = store;
        list->err   = &err;
        rc          = cmif_store_all(store, take_kept, list, &err);
        rc          = rc == CMIF_OK ? list->rc : rc;
    }
    if (rc == CMIF_OK && check) {
        find_ending(list, (int64_t) time(NULL), notes);
        find_missing(list, notes);
        found = json_array_size(notes);
    }
    if (rc == CMIF_OK && cmif_json) {
        for (size_t i = 0; i < list->count; i++) {
            json_array_append_new(all, kept_json(&list->kept[i]));
        }
        rc = cmif_print_json(json_pack("{s:s, s:O}", "store", path, check ? "notes" : "items", check ? notes : all),
                             &err);
    } else if (rc == CMIF_OK) {
        json_t *one;
        size_t  i;
        if (!list->count) {
            printf("no collateral is kept: %s\n", path);
        }
        for (i = 0; !check && i < list->count; i++) {
            print_kept(&list->kept[i]);
        }
        json_array_foreach(notes, i, one)
        {
            printf("  %-8s %-40s %s\n", json_string_value(json_object_get(one, "what")),
                   json_string_value(json_object_get(one, "about")),
                   json_string_value(json_object_get(one, "sentence")));
        }
        if (check && list->count && !found) {
            printf("nothing is missing, and nothing ends within %" PRIu32 " days\n", days_option);
        }
        rc = flush(&err);
    }
    code = rc != CMIF_OK ? cmif_report(&err) : found || (check && !list->count) ? CMIF_EXIT_FAILED : CMIF_EXIT_OK;
done:
    cmif_store_free(store);
    json_decref(all);
    json_decref(notes);
    free(list);
    return code;
}

/* ---- export ---- */

static const cmif_command export_command = {
    .name         = "collateral export",
    .args         = "DIR",
    .summary      = "write everything that is kept as files, to be brought elsewhere",
    .options      = common_options,
    .option_count = sizeof common_options / sizeof *common_options,
    .notes        = "Files that are there already stay as they are, and are an error.\n",
};

typedef struct exporting {
    const char *folder;
    size_t      count;
    cmif_code   rc;
    cmif_err   *err;
} exporting;

static bool export_one(void *context, const cmif_kept *kept, const cmif_item *item)
{
    exporting *e = context;
    char       path[PATH_MAX], name[128], hash[65];
    const bool json = kept->kind == CMIF_ITEM_TCB_INFO || kept->kind == CMIF_ITEM_QE_IDENTITY;
    cmif_hex(kept->hash, sizeof kept->hash, hash);
    snprintf(name, sizeof name, "%s-%s-%.8s.%s", kind_name(kept->kind), kept->about, hash,
             json                   ? "json"
             : item->data[0] == '-' ? "pem"
                                    : "der");
    for (char *c = name; *c; c++) {
        *c = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || strchr(".-_", *c) ? *c
             : *c >= 'A' && *c <= 'Z'                                                  ? (char) (*c + 32)
                                                                                       : '-';
    }
    if (snprintf(path, sizeof path, "%s/%s", e->folder, name) >= (int) sizeof path) {
        e->rc = cmif_fail(e->err, CMIF_E_IO, "the name of the folder is too long");
        return false;
    }
    int     fd   = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    size_t  done = 0;
    ssize_t n    = 0;
    while (fd >= 0 && done < item->size &&
           ((n = write(fd, item->data + done, item->size - done)) > 0 || errno == EINTR)) {
        done += n > 0 ? (size_t) n : 0;
    }
    if (fd < 0 || done < item->size || fsync(fd) != 0) {
        e->rc = cmif_fail(e->err, CMIF_E_IO, "cannot write '%s': %s", path, strerror(errno));
    }
    if (fd >= 0 && close(fd) != 0 && e->rc == CMIF_OK) {
        e->rc = cmif_fail(e->err, CMIF_E_IO, "cannot write '%s': %s", path, strerror(errno));
    }
    if (fd >= 0 && e->rc != CMIF_OK) {
        (void) unlink(path);
    }
    e->count++;
    return e->rc == CMIF_OK;
}

static int export_main(int argc, char **argv)
{
    char        path[PATH_MAX];
    cmif_store *store = NULL;
    cmif_err    err   = {0};
    int         rest  = 0;
    cmif_code   rc    = cmif_options_parse(&export_command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest != 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "collateral export takes one folder");
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    exporting e = {.folder = argv[0], .err = &err};
    rc          = store_path(path, &err);
    rc          = rc == CMIF_OK ? cmif_store_open(path, false, &store, &err) : rc;
    if (rc == CMIF_OK && mkdir(argv[0], 0755) < 0 && errno != EEXIST) {
        rc = cmif_fail(&err, CMIF_E_IO, "cannot make the folder '%s': %s", argv[0], strerror(errno));
    }
    rc = rc == CMIF_OK ? cmif_store_all(store, export_one, &e, &err) : rc;
    rc = rc == CMIF_OK ? e.rc : rc;
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(json_pack("{s:s, s:I}", "folder", argv[0], "files", (json_int_t) e.count), &err);
    } else if (rc == CMIF_OK) {
        printf("%zu files in %s\n", e.count, argv[0]);
        rc = flush(&err);
    }
    cmif_store_free(store);
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}

/* ---- remove ---- */

static const cmif_command remove_command = {
    .name         = "collateral remove",
    .args         = "ABOUT|all",
    .summary      = "take out what 'cmif collateral list' calls ABOUT, or everything",
    .options      = common_options,
    .option_count = sizeof common_options / sizeof *common_options,
    .notes = "It asks nothing. What was believed before stays remembered, so that older collateral is refused after it "
             "as well.\n",
};

static bool take_removed(void *context, const cmif_kept *kept, const cmif_item *item)
{
    kept_list *list = context;
    (void) item;
    if (list->count < KEPT_MAX) {
        list->kept[list->count++] = *kept;
    }
    return true;
}

static int remove_main(int argc, char **argv)
{
    char        path[PATH_MAX];
    cmif_store *store   = NULL;
    kept_list  *list    = calloc(1, sizeof *list);
    json_t     *removed = json_array();
    cmif_err    err     = {0};
    int         rest    = 0, code;
    size_t      count   = 0;
    cmif_code   rc      = cmif_options_parse(&remove_command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest != 1) {
        rc =
            cmif_fail(&err, CMIF_E_RANGE, "collateral remove takes one name, as 'cmif collateral list' has it, or all");
    }
    if (rc != CMIF_OK) {
        code = cmif_report_usage(&err);
        goto done;
    }
    const bool all = !strcmp(argv[0], "all");
    rc = list && removed ? store_path(path, &err) : cmif_fail(&err, CMIF_E_MEMORY, "no memory for collateral");
    rc = rc == CMIF_OK ? cmif_store_open(path, true, &store, &err) : rc;
    rc = rc == CMIF_OK ? cmif_store_remove(store, all ? NULL : argv[0], take_removed, list, &count, &err) : rc;
    if (rc == CMIF_OK && !count && !all) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "nothing of that name is kept: 'cmif collateral list' shows what is");
    }
    for (size_t i = 0; rc == CMIF_OK && i < list->count; i++) {
        json_t *one = kept_json(&list->kept[i]);
        json_object_del(one, "checked"); /* it was not looked at */
        json_array_append_new(removed, one);
        if (!cmif_json && !cmif_quiet) {
            char from[32], until[32];
            write_day(list->kept[i].starts, from);
            write_day(list->kept[i].ends, until);
            printf("removed\n  %-12s %-40s %s to %s\n", kind_name(list->kept[i].kind), list->kept[i].about, from,
                   until);
        }
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(json_pack("{s:s, s:O}", "store", path, "removed", removed), &err);
    } else if (rc == CMIF_OK) {
        if (!cmif_quiet) {
            printf("%zu removed; what was believed before is still remembered, so older is refused\n", count);
        }
        rc = flush(&err);
    }
    code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    cmif_store_free(store);
    json_decref(removed);
    free(list);
    return code;
}

int cmif_collateral_command(int argc, char **argv)
{
    static const char help[] =
        "usage: cmif collateral add FILE...        keep what Intel PCS or AMD KDS answered\n"
        "       cmif collateral list               what is kept, and until when it is valid\n"
        "       cmif collateral check [--days N]   what ends soon, and what is missing\n"
        "       cmif collateral export DIR         everything as files\n"
        "       cmif collateral remove ABOUT|all   take out what is kept under a name, or everything\n";
    cmif_err err = {0};
    if (argc > 0 && !strcmp(argv[0], "add")) {
        return add_main(argc - 1, argv + 1);
    }
    if (argc > 0 && !strcmp(argv[0], "list")) {
        return look_main(&list_command, argc - 1, argv + 1, false);
    }
    if (argc > 0 && !strcmp(argv[0], "check")) {
        return look_main(&check_command, argc - 1, argv + 1, true);
    }
    if (argc > 0 && !strcmp(argv[0], "export")) {
        return export_main(argc - 1, argv + 1);
    }
    if (argc > 0 && !strcmp(argv[0], "remove")) {
        return remove_main(argc - 1, argv + 1);
    }
    if (argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        fputs(help, stdout);
        return CMIF_EXIT_OK;
    }
    (void) cmif_fail(&err, CMIF_E_RANGE,
                     "collateral takes add, list, check, export or remove: 'cmif collateral --help' tells more");
    return cmif_report_usage(&err);
}
