/* maker - what the makers share. Files are reached through operations that a test replaces: no such device is needed to see in which order, and
 * after which errors, a maker does what. */
#ifndef CMIF_EVIDENCE_MAKER_H
#define CMIF_EVIDENCE_MAKER_H

#include "evidence/evidence.h"

#include <stdbool.h>

enum { CMIF_MAKER_FILE_MAX = 256 << 10, CMIF_MAKER_TRIES = 10, CMIF_MAKER_PATH_MAX = 512 };

typedef struct cmif_maker_files { /* each gives 0 or an errno */
    int (*make)(void *context, const char *folder);
    int (*remove)(void *context, const char *folder);
    int (*write)(void *context, const char *file, const void *data, size_t size);          /* open, one write, close */
    int (*read)(void *context, const char *file, uint8_t *out, size_t room, size_t *size); /* to the end; EFBIG: more than room */
    void (*wait)(void *context, unsigned milliseconds);
    void *context;
} cmif_maker_files;

typedef struct cmif_maker_tpm cmif_maker_tpm;

struct cmif_maker {
    cmif_maker_kind         kind;
    const cmif_maker_files *files;
    char                    path[CMIF_MAKER_PATH_MAX - 64];
    unsigned                entries;  /* TDX, SNP: made so far */
    cmif_maker_tpm         *tpm;
    uint8_t                 identity[32]; /* SIM */
};

/* cmif_maker_open with other files; they are borrowed for the maker's life. */
CMIF_MUST_USE cmif_code cmif_maker_open_files(const cmif_maker_options *options, const cmif_maker_files *files, cmif_maker **out, cmif_err *err);

typedef cmif_code cmif_maker_function(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err);
cmif_maker_function cmif_tsm_make, cmif_sgx_make, cmif_tpm_make, cmif_sim_make;
cmif_code           cmif_tsm_open(cmif_maker *maker, cmif_err *err);
cmif_code           cmif_sgx_open(cmif_maker *maker, cmif_err *err);
cmif_code           cmif_sim_open(cmif_maker *maker, const cmif_maker_options *options, cmif_err *err);
cmif_code           cmif_tpm_open(cmif_maker *maker, const cmif_maker_options *options, cmif_err *err);
cmif_code           cmif_tpm_endorsement(cmif_maker *maker, uint8_t *ek, size_t *ek_size, cmif_err *err);
cmif_code           cmif_tpm_activate(cmif_maker *maker, const uint8_t *credential, size_t size, uint8_t *secret, cmif_err *err);
void                cmif_tpm_free(cmif_maker_tpm *tpm); /* NULL is welcome */

/* REPORTDATA of an SGX or TDX quote, 64 bytes inside it; NULL: too short, or of a version that is not known. */
const uint8_t *cmif_maker_report_data(const uint8_t *quote, size_t size);
/* Another try is due: waits, longer each time; false: there were enough. */
bool cmif_maker_again(const cmif_maker *maker, unsigned tried);
/* A short text file without its newline, and a zero byte. An errno. */
int cmif_maker_read_text(const cmif_maker *maker, const char *file, char *out, size_t room);

#endif
