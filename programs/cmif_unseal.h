/* cmif_unseal - a sealed client half opened into memory: its key from a file, or from a key server that is shown evidence.
 *
 * Sees    keys, only while a file is being opened; the model owner's table. */
#ifndef CMIF_PROGRAMS_CMIF_UNSEAL_H
#define CMIF_PROGRAMS_CMIF_UNSEAL_H

#include "evidence/evidence.h"
#include "secret/secret.h"

#include <limits.h>
#include <stdbool.h>

typedef struct cmif_unseal_options { /* all NULL: nothing is sealed */
    const char *from;     /* a key file; with pin: HOST:PORT of a key server */
    const char *pin;      /* its certificate */
    const char *evidence; /* what it is shown: "tdx", "snp", "sgx", "tpm", "sim" */
    const char *device;
    bool        insecure;
} cmif_unseal_options;

/* Their lines in an option table; u is a cmif_unseal_options with static storage. */
#define CMIF_UNSEAL_OPTIONS(u)                                                                                         \
    {0, "unseal", "WHERE", CMIF_OPTION_TEXT, &(u).from, 0, 0, "key file, or HOST:PORT of a key server"},              \
    {0, "unseal-pin", "sha256:HEX", CMIF_OPTION_TEXT, &(u).pin, 0, 0, NULL},                                           \
    {0, "evidence", "KIND", CMIF_OPTION_TEXT, &(u).evidence, 0, 0, "for its owner"},                                 \
    {0, "evidence-device", "PATH", CMIF_OPTION_TEXT, &(u).device, 0, 0, NULL},                                        \
    {0, "insecure-simulator", NULL, CMIF_OPTION_FLAG, &(u).insecure, 0, 0, NULL}

/* What is wrong with the options, before any work. Errors: RANGE. */
CMIF_MUST_USE cmif_code cmif_unseal_check(const cmif_unseal_options *options, cmif_err *err);
/* The plaintext of a sealed client half.
 *   plain  empty; locked and undumped memory on success, the caller's (cmif_secret_wipe)
 * Errors: RANGE (the file is sealed and the options do not say where its key is; it is not sealed and they do), TRUST (another key; the file was changed), and as
 * cmif_seal_open and cmif_key_fetch. */
CMIF_MUST_USE cmif_code cmif_unseal(const char *path, const cmif_unseal_options *options, cmif_secret *plain, cmif_err *err);

/* "HOST:PORT" and "[::1]:PORT", in text, which is changed. Errors: RANGE, naming the option. */
CMIF_MUST_USE cmif_code cmif_split_address(const char *option, char *text, const char **host, const char **port, cmif_err *err);

#endif
