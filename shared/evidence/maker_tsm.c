/* TDX and SEV-SNP guests of Linux 6.7 and later: configfs-tsm.
 *
 * One folder per request. The kernel takes a blob when its file is closed and drops the error of that, so that only the
 * generation, which counts writes, tells whether ours was taken, and whether somebody else's came between it and the
 * report.
 *
 * Source  Linux Documentation/ABI/testing/configfs-tsm-report. */
#include "evidence/maker.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SNP_REPORT_SIZE = 1184, SNP_REPORT_DATA = 0x50, TEXT_SIZE = 64, ENTRY_TRIES = 16 };

typedef struct request {
    cmif_maker *maker;
    char        entry[CMIF_MAKER_PATH_MAX - 32], file[CMIF_MAKER_PATH_MAX];
    uint8_t    *outblob, *auxblob; /* CMIF_MAKER_FILE_MAX each */
    size_t      outblob_size, auxblob_size;
    const char *why; /* the last try was in vain */
    cmif_err   *err;
} request;

static const char *provider_of(const cmif_maker *maker)
{
    return maker->kind == CMIF_MAKER_TDX ? "tdx_guest" : "sev_guest";
}

static const char *file_of(request *q, const char *name)
{
    snprintf(q->file, sizeof q->file, "%s/%s", q->entry, name);
    return q->file;
}

static const char *explain(const cmif_maker *maker, int failed)
{
    switch (failed) {
    case ENOENT:
    case ENOTDIR:
        return "; this needs a TDX or SEV-SNP guest with Linux 6.7 or later, and configfs mounted";
    case ENXIO:
    case ENODEV:
        return maker->kind == CMIF_MAKER_TDX
                   ? "; no driver makes reports: load tdx_guest (this must be a TDX guest)"
                   : "; no driver makes reports: load sev-guest (this must be an SEV-SNP guest)";
    case EACCES:
    case EPERM:
        return "; only root may ask for reports here, or whom root lets write to this folder";
    case EINVAL:
        return "; the driver refused the request";
    case EFBIG:
        return "; it is larger than any evidence that we know";
    default:
        return "";
    }
}

static cmif_code bad(request *q, const char *what, int failed)
{
    return cmif_fail(q->err, failed == ENOMEM ? CMIF_E_MEMORY : CMIF_E_IO, "configfs-tsm: cannot %s '%s': %s%s", what,
                     q->file, strerror(failed), explain(q->maker, failed));
}

/* Whether what stands in the way will pass. */
static bool passes(int failed)
{
    return failed == EBUSY || failed == EAGAIN || failed == EINTR || failed == ETIMEDOUT;
}

static int read_generation(request *q, uint64_t *out)
{
    char      text[TEXT_SIZE];
    const int failed = cmif_maker_read_text(q->maker, file_of(q, "generation"), text, sizeof text);
    char     *end    = text;
    if (failed) {
        return failed;
    }
    *out = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    return end != text && *end == '\0' ? 0 : EPROTO;
}

static bool in_vain(request *q, const char *why)
{
    q->why = why;
    return false;
}

/* One try: true, a report came (or rc says why never one will); false: another try is due. */
static bool try_once(request *q, const uint8_t *report_data, cmif_code *rc)
{
    const cmif_maker_files *files  = q->maker->files;
    uint64_t                before = 0, after = 0;
    const char             *what   = "read";
    int                     failed = read_generation(q, &before);
    if (!failed) {
        what   = "write";
        failed = files->write(files->context, file_of(q, "inblob"), report_data, CMIF_REPORT_DATA_SIZE);
    }
    if (!failed) {
        what   = "read";
        failed = read_generation(q, &after);
    }
    if (!failed && after != before + 1) {
        return in_vain(q, "the request was not taken, or others write to this entry");
    }
    if (!failed) {
        failed = files->read(files->context, file_of(q, "outblob"), q->outblob, CMIF_MAKER_FILE_MAX, &q->outblob_size);
    }
    if (!failed && q->maker->kind == CMIF_MAKER_SNP) {
        failed = files->read(files->context, file_of(q, "auxblob"), q->auxblob, CMIF_MAKER_FILE_MAX, &q->auxblob_size);
        failed = failed == ENOENT ? 0 : failed; /* there need not be one */
    }
    if (!failed) {
        failed = read_generation(q, &after);
    }
    if (passes(failed)) {
        return in_vain(q, "it is busy with requests of others");
    }
    if (failed) {
        *rc = bad(q, what, failed);
        return true;
    }
    return after != before + 1 ? in_vain(q, "others write to this entry")
           : q->outblob_size
               ? true
               : in_vain(q,
                         "the host's quoting service does not answer"); /* an empty report is no error to the kernel */
}

static cmif_code check_report(request *q, const uint8_t *report_data, bool *ours)
{
    const uint8_t *found = NULL;
    if (q->maker->kind == CMIF_MAKER_TDX) {
        found = cmif_maker_report_data(q->outblob, q->outblob_size);
        if (!found) {
            return cmif_fail(q->err, CMIF_E_UNSUPPORTED,
                             "configfs-tsm: expected a TDX quote of version 4 or 5, found %zu bytes of another kind",
                             q->outblob_size);
        }
    } else if (q->outblob_size != SNP_REPORT_SIZE) {
        return cmif_fail(q->err, CMIF_E_UNSUPPORTED, "configfs-tsm: expected an SNP report of %d bytes, found %zu",
                         SNP_REPORT_SIZE, q->outblob_size);
    } else {
        found = q->outblob + SNP_REPORT_DATA;
    }
    *ours = !memcmp(found, report_data, CMIF_REPORT_DATA_SIZE) ||
            in_vain(q, "each report held the data of another request");
    return CMIF_OK;
}

static cmif_code check_provider(request *q)
{
    char      text[TEXT_SIZE];
    const int failed = cmif_maker_read_text(q->maker, file_of(q, "provider"), text, sizeof text);
    if (failed) {
        return bad(q, "read", failed);
    }
    return !strcmp(text, provider_of(q->maker))
               ? CMIF_OK
               : cmif_fail(q->err, CMIF_E_IO,
                           "configfs-tsm: expected provider '%s', found '%.*s': this machine is of another kind than "
                           "was asked for",
                           provider_of(q->maker), (int) strspn(text, "abcdefghijklmnopqrstuvwxyz_0123456789"), text);
}

/* A name of its own: this process's, and a number that no folder has, left behind by whom it may be. */
static cmif_code make_entry(request *q)
{
    const cmif_maker_files *files  = q->maker->files;
    int                     failed = EEXIST;
    for (unsigned i = 0; i < ENTRY_TRIES && failed == EEXIST; i++) {
        snprintf(q->entry, sizeof q->entry, "%s/cmif-%ld-%u", q->maker->path, (long) getpid(), q->maker->entries++);
        failed = files->make(files->context, q->entry);
    }
    snprintf(q->file, sizeof q->file, "%s", q->entry);
    return failed ? bad(q, "make", failed) : CMIF_OK;
}

cmif_code cmif_tsm_make(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err)
{
    const cmif_maker_files *files = maker->files;
    request                 q     = {.maker = maker, .err = err};
    bool                    ours  = false;
    q.outblob                     = malloc(CMIF_MAKER_FILE_MAX);
    q.auxblob                     = malloc(CMIF_MAKER_FILE_MAX);
    cmif_code rc =
        q.outblob && q.auxblob ? make_entry(&q) : cmif_fail(err, CMIF_E_MEMORY, "configfs-tsm: no memory for a report");
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = check_provider(&q);
    for (unsigned tried = 0; rc == CMIF_OK && !ours && cmif_maker_again(maker, tried); tried++) {
        if (try_once(&q, report_data, &rc) && rc == CMIF_OK) {
            rc = check_report(&q, report_data, &ours);
        }
    }
    if (rc == CMIF_OK && !ours) {
        rc = cmif_fail(err, CMIF_E_IO, "configfs-tsm: no report after %d tries: %s", CMIF_MAKER_TRIES, q.why);
    }
    const int failed = files->remove(files->context, q.entry); /* one that stays holds kernel memory for ever */
    if (rc == CMIF_OK && failed) {
        snprintf(q.file, sizeof q.file, "%s", q.entry);
        rc = bad(&q, "remove", failed);
    }
    if (rc == CMIF_OK) {
        rc = cmif_evidence_put(out, maker->kind == CMIF_MAKER_TDX ? CMIF_EVIDENCE_QUOTE : CMIF_EVIDENCE_SNP_REPORT,
                               q.outblob, q.outblob_size, err);
    }
    if (rc == CMIF_OK && q.auxblob_size) {
        rc = cmif_evidence_put(out, CMIF_EVIDENCE_SNP_TABLE, q.auxblob, q.auxblob_size, err);
    }
done:
    free(q.outblob);
    free(q.auxblob);
    return rc;
}

/* An entry is made and removed again: whoever asks for evidence at start-up learns at once that there will be none. */
cmif_code cmif_tsm_open(cmif_maker *maker, cmif_err *err)
{
    request   q  = {.maker = maker, .err = err};
    cmif_code rc = make_entry(&q);
    if (rc == CMIF_OK) {
        rc = check_provider(&q);
        maker->files->remove(maker->files->context, q.entry);
    }
    return rc;
}
