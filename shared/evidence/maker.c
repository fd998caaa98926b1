#include "evidence/maker.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- files as they are ---- */

static int files_make(void *context, const char *folder)
{
    (void) context;
    return mkdir(folder, 0700) == 0 ? 0 : errno;
}

static int files_remove(void *context, const char *folder)
{
    (void) context;
    return rmdir(folder) == 0 ? 0 : errno;
}

static int files_write(void *context, const char *file, const void *data, size_t size)
{
    (void) context;
    const int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    const ssize_t done   = write(fd, data, size);
    const int     failed = done < 0 ? errno : (size_t) done != size ? EIO : 0;
    const int     closed = close(fd) == 0 ? 0 : errno;
    return failed ? failed : closed;
}

static int files_read(void *context, const char *file, uint8_t *out, size_t room, size_t *size)
{
    (void) context;
    const int fd     = open(file, O_RDONLY | O_CLOEXEC);
    int       failed = fd < 0 ? errno : 0;
    size_t    at     = 0;
    while (!failed) {
        uint8_t       more;
        const ssize_t done = at < room ? read(fd, out + at, room - at) : read(fd, &more, 1);
        if (done == 0) {
            break;
        }
        failed = done < 0 ? (errno == EINTR ? 0 : errno) : at == room ? EFBIG : 0;
        at += done > 0 && !failed ? (size_t) done : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    *size = failed ? 0 : at;
    return failed;
}

static void files_wait(void *context, unsigned milliseconds)
{
    (void) context;
    struct timespec left = {.tv_sec = milliseconds / 1000, .tv_nsec = (long) (milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static const cmif_maker_files real_files = {files_make, files_remove, files_write, files_read, files_wait, NULL};

/* ---- what makers share ---- */

bool cmif_maker_again(const cmif_maker *maker, unsigned tried)
{
    if (tried >= CMIF_MAKER_TRIES) {
        return false;
    }
    if (tried) {
        maker->files->wait(maker->files->context, tried < 7 ? 10U << tried : 1000);
    }
    return true;
}

int cmif_maker_read_text(const cmif_maker *maker, const char *file, char *out, size_t room)
{
    size_t    size   = 0;
    const int failed = maker->files->read(maker->files->context, file, (uint8_t *) out, room - 1, &size);
    size -= size && out[size - 1] == '\n';
    out[size] = '\0';
    return failed;
}

const uint8_t *cmif_maker_report_data(const uint8_t *quote, size_t size)
{
    enum { HEADER = 48, DESCRIPTOR = 6, SGX = 320, TD = 520, SIZE = CMIF_REPORT_DATA_SIZE };
    cmif_reader    r       = cmif_reader_over(quote, size);
    const uint16_t version = cmif_read_u16(&r);
    (void) cmif_read_u16(&r); /* attestation key type */
    const uint32_t tee  = cmif_read_u32(&r);
    r.at                = HEADER < size ? HEADER : size;
    const uint16_t body = version == 5 ? cmif_read_u16(&r) : tee == 0 ? 1 : 2;
    if (r.failed || version < 3 || version > 5 || (tee != 0 && (tee != 0x81 || version == 3)) || body < 1 || body > 3 ||
        (tee == 0) != (body == 1)) {
        return NULL;
    }
    size_t at = HEADER;
    at += version == 5 ? DESCRIPTOR : 0;
    at += body == 1 ? SGX : TD;
    return at <= size && size - at >= SIZE ? quote + at : NULL;
}

/* ---- the makers ---- */

static const struct {
    const char          *path;
    cmif_maker_function *make;
} makers[] = {
    [CMIF_MAKER_TDX] = {"/sys/kernel/config/tsm/report", cmif_tsm_make},
    [CMIF_MAKER_SNP] = {"/sys/kernel/config/tsm/report", cmif_tsm_make},
    [CMIF_MAKER_SGX] = {"/dev/attestation", cmif_sgx_make},
    [CMIF_MAKER_TPM] = {"device:/dev/tpmrm0", cmif_tpm_make},
    [CMIF_MAKER_SIM] = {"", cmif_sim_make},
};

cmif_code cmif_maker_open_files(const cmif_maker_options *options, const cmif_maker_files *files, cmif_maker **out,
                                cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (options->kind < CMIF_MAKER_TDX || options->kind > CMIF_MAKER_SIM) {
        return cmif_fail(err, CMIF_E_RANGE, "evidence: maker %d, there are 1 to %d", (int) options->kind,
                         CMIF_MAKER_SIM);
    }
    const char *path  = options->path ? options->path : makers[options->kind].path;
    cmif_maker *maker = calloc(1, sizeof *maker);
    if (!maker) {
        return cmif_fail(err, CMIF_E_MEMORY, "evidence: no memory for a maker");
    }
    maker->kind  = options->kind;
    maker->files = files;
    if ((size_t) snprintf(maker->path, sizeof maker->path, "%s", path) >= sizeof maker->path) {
        rc = cmif_fail(err, CMIF_E_RANGE, "evidence: a path of %zu bytes, at most %zu", strlen(path),
                       sizeof maker->path - 1);
        goto done;
    }
    switch (maker->kind) {
    case CMIF_MAKER_TDX:
    case CMIF_MAKER_SNP:
        rc = cmif_tsm_open(maker, err);
        break;
    case CMIF_MAKER_SGX:
        rc = cmif_sgx_open(maker, err);
        break;
    case CMIF_MAKER_TPM:
        rc = cmif_tpm_open(maker, options, err);
        break;
    default:
        rc = cmif_sim_open(maker, options, err);
    }
    if (rc == CMIF_OK) {
        *out  = maker;
        maker = NULL;
    }
done:
    cmif_maker_free(maker);
    return rc;
}

cmif_code cmif_maker_open(const cmif_maker_options *options, cmif_maker **out, cmif_err *err)
{
    return cmif_maker_open_files(options, &real_files, out, err);
}

void cmif_maker_free(cmif_maker *maker)
{
    if (maker) {
        cmif_tpm_free(maker->tpm);
        free(maker);
    }
}

cmif_code cmif_maker_make(cmif_maker *maker, const uint8_t report_data[static CMIF_REPORT_DATA_SIZE],
                          cmif_evidence *out, cmif_err *err)
{
    const cmif_evidence before = *out;
    cmif_code           rc     = makers[maker->kind].make(maker, report_data, out, err);
    if (rc != CMIF_OK && out->count != before.count) { /* back to what was there: the first bytes never moved */
        out->size  = before.size;
        out->count = before.count;
        if (out->bytes && before.size) {
            cmif_writer w = cmif_writer_over(out->bytes, before.size);
            w.at          = 8;
            cmif_write_u32(&w, before.count);
        }
    }
    return rc;
}

/* The layout is in evidence.h; proof.c reads it. */
cmif_code cmif_proof_make(cmif_maker *maker, const cmif_claims *claims, const cmif_binding *binding, uint8_t **bytes,
                          size_t *size, cmif_err *err)
{
    cmif_code     rc      = CMIF_OK;
    cmif_evidence bundle  = {0};
    cmif_binding  bound   = *binding;
    const size_t  program = strnlen(claims->program, sizeof claims->program);
    uint8_t       text[8 + 1 + sizeof claims->program + 32 + 32];
    uint8_t       report_data[CMIF_REPORT_DATA_SIZE];
    bool          printable = program > 0 && program < sizeof claims->program;
    for (size_t i = 0; i < program; i++) {
        printable = printable && claims->program[i] >= ' ' && claims->program[i] <= '~';
    }
    if (!printable) {
        return cmif_fail(err, CMIF_E_RANGE, "proof: a program's name is 1 to %zu bytes of printable ASCII, found %zu",
                         sizeof claims->program - 1, program);
    }
    cmif_writer w = cmif_writer_over(text, sizeof text);
    cmif_write_bytes(&w, "CMIFCL01", 8);
    cmif_write_u8(&w, (uint8_t) program);
    cmif_write_bytes(&w, claims->program, program);
    cmif_write_bytes(&w, claims->model_id, sizeof claims->model_id);
    cmif_write_bytes(&w, claims->policy_hash, sizeof claims->policy_hash);
    bound.claims      = text;
    bound.claims_size = w.at;

    rc = cmif_binding_hash(&bound, report_data, err);
    if (rc == CMIF_OK) {
        rc = cmif_maker_make(maker, report_data, &bundle, err);
    }
    if (rc == CMIF_OK) {
        const size_t total = 4 + w.at + bundle.size;
        uint8_t     *proof = malloc(total);
        if (!proof) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "proof: no memory for %zu bytes", total);
            goto done;
        }
        cmif_writer all = cmif_writer_over(proof, total);
        cmif_write_u32(&all, (uint32_t) w.at);
        cmif_write_bytes(&all, text, w.at);
        cmif_write_bytes(&all, bundle.bytes, bundle.size);
        *bytes = proof;
        *size  = total;
    }
done:
    cmif_evidence_free(&bundle);
    return rc;
}

cmif_code cmif_maker_endorsement(cmif_maker *maker, uint8_t ek[static CMIF_MAKER_KEY_SIZE_MAX], size_t *ek_size,
                                 cmif_err *err)
{
    return maker->tpm ? cmif_tpm_endorsement(maker, ek, ek_size, err)
                      : cmif_fail(err, CMIF_E_UNSUPPORTED, "evidence: only a TPM has an endorsement key");
}

cmif_code cmif_maker_activate(cmif_maker *maker, const uint8_t *credential, size_t size,
                              uint8_t secret[static CMIF_MAKER_SECRET_SIZE], cmif_err *err)
{
    return maker->tpm ? cmif_tpm_activate(maker, credential, size, secret, err)
                      : cmif_fail(err, CMIF_E_UNSUPPORTED, "evidence: only a TPM opens credentials");
}
