/* sort - what a file is: evidence, collateral, or neither; by its bytes, never by its name.
 *
 * Only sorts: nothing that passes here is believed, and a wrong guess can at most make the verifier refuse. Reads quotes, reports, tables and logs as
 * a TEE's driver gives them; TPM structures as tpm2-tools writes them; PEM, DER, and DER as hexadecimal text; answers of Intel PCS and AMD KDS, also
 * with their HTTP headers (the issuer chain is in one).
 *
 * Sees    evidence of others, and whatever else lies in a folder: no message repeats a byte of it. */
#ifndef CMIF_COLLATERAL_SORT_H
#define CMIF_COLLATERAL_SORT_H

#include "side.h"

#include "attest/attest.h"

typedef struct cmif_sorted_item {
    cmif_item item;      /* its bytes are a copy, owned; kind 0: not used */
    char      from[160]; /* the file */
    char      what[64];  /* "Intel quote, version 4, TDX"; of what is not used: why */
    bool      unknown;   /* neither evidence nor collateral, and nothing that is known to lie beside it */
} cmif_sorted_item;

enum { CMIF_SORTED_MAX = 256 };

typedef struct cmif_sorted {
    cmif_sorted_item items[CMIF_SORTED_MAX];
    size_t           count;
} cmif_sorted;

/* Add the bytes of a file: one or more items, those of a PEM file by their kind. Errors: RANGE (too many, too large), MEMORY. */
CMIF_MUST_USE cmif_code cmif_sort_bytes(cmif_sorted *sorted, const char *from, const uint8_t *data, size_t size, cmif_err *err);
/* Add a file, or all files of a folder and of folders in it. Errors: IO, and as above. */
CMIF_MUST_USE cmif_code cmif_sort_path(cmif_sorted *sorted, const char *path, cmif_err *err);
/* Once everything was added: what only the others tell (bare signatures, PCR values, which key is the AK), and of what came twice, one. */
void cmif_sort_settle(cmif_sorted *sorted);
void cmif_sort_wipe(cmif_sorted *sorted);

bool cmif_item_is_collateral(cmif_item_kind kind);
#endif
