/* SGX enclaves under Gramine: /dev/attestation, with sgx.remote_attestation = "dcap" in the manifest.
 *
 * Source  Gramine, Documentation/attestation.rst. */
#include "evidence/maker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is written to one file decides what the other gives, for the whole process: one at a time. */
static pthread_mutex_t device = PTHREAD_MUTEX_INITIALIZER;

static cmif_code bad(const char *what, const char *file, int failed, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_IO, "Gramine: cannot %s '%s': %s%s", what, file, strerror(failed),
                     failed == ENOENT   ? "; this needs to run under gramine-sgx"
                     : failed == EACCES ? "; Gramine could not reach the quoting service (AESM) of this machine"
                     : failed == EFBIG  ? "; it is larger than any quote that we know"
                                        : "");
}

cmif_code cmif_sgx_open(cmif_maker *maker, cmif_err *err)
{
    char file[CMIF_MAKER_PATH_MAX], type[32];
    snprintf(file, sizeof file, "%s/attestation_type", maker->path);
    const int failed = cmif_maker_read_text(maker, file, type, sizeof type);
    if (failed) {
        return bad("read", file, failed, err);
    }
    return !strcmp(type, "dcap")
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO,
                           "Gramine: expected attestation type 'dcap', found '%.*s': the manifest needs "
                           "sgx.remote_attestation = \"dcap\"",
                           (int) strspn(type, "abcdefghijklmnopqrstuvwxyz"), type);
}

cmif_code cmif_sgx_make(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err)
{
    const cmif_maker_files *files = maker->files;
    char                    data_file[CMIF_MAKER_PATH_MAX], quote_file[CMIF_MAKER_PATH_MAX];
    size_t                  size  = 0;
    cmif_code               rc    = CMIF_OK;
    bool                    ours  = false;
    uint8_t                *quote = malloc(CMIF_MAKER_FILE_MAX);
    if (!quote) {
        return cmif_fail(err, CMIF_E_MEMORY, "Gramine: no memory for a quote");
    }
    snprintf(data_file, sizeof data_file, "%s/user_report_data", maker->path);
    snprintf(quote_file, sizeof quote_file, "%s/quote", maker->path);
    pthread_mutex_lock(&device);
    for (unsigned tried = 0; rc == CMIF_OK && !ours && cmif_maker_again(maker, tried); tried++) {
        int failed = files->write(files->context, data_file, report_data, CMIF_REPORT_DATA_SIZE);
        if (failed) {
            rc = bad("write", data_file, failed, err);
            break;
        }
        failed = files->read(files->context, quote_file, quote, CMIF_MAKER_FILE_MAX, &size);
        if (failed == EBUSY || failed == EAGAIN) {
            continue;
        }
        const uint8_t *found = failed ? NULL : cmif_maker_report_data(quote, size);
        if (failed) {
            rc = bad("read", quote_file, failed, err);
        } else if (!found) {
            rc = cmif_fail(err, CMIF_E_UNSUPPORTED,
                           "Gramine: expected an SGX quote of version 3 to 5, found %zu bytes of another kind", size);
        } else {
            ours = !memcmp(found, report_data,
                           CMIF_REPORT_DATA_SIZE); /* else code that does not know our lock was faster */
        }
    }
    pthread_mutex_unlock(&device);
    if (rc == CMIF_OK) {
        rc = ours ? cmif_evidence_put(out, CMIF_EVIDENCE_QUOTE, quote, size, err)
                  : cmif_fail(err, CMIF_E_IO,
                              "Gramine: no quote over our data after %d tries: it is busy, or others use '%s' too",
                              CMIF_MAKER_TRIES, maker->path);
    }
    free(quote);
    return rc;
}
