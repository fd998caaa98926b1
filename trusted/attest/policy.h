/* policy - what evidence must show to be accepted: the text file that a person writes, and its one canonical form.
 *
 * Strict: an unknown key, a key or value given twice, trailing text, or a policy that would accept any program is an error with its line;
 * nothing is guessed. Whatever makes the verdict milder is a `loosen` line or a named key, and shows in every verdict.
 *
 * Sees    measurements and hashes; none of a person's words.
 * Source  docs/attestation.md, "The policy file". */
#ifndef CMIF_ATTEST_POLICY_H
#define CMIF_ATTEST_POLICY_H

#include "attest/attest.h"

typedef struct cmif_attest_policy_file {
    cmif_attest_policy policy;   /* what it points to is owned by this */
    uint8_t            hash[32]; /* SHA-256 of the canonical text */
} cmif_attest_policy_file;

/* Errors: FORMAT ("line 3: ..."), MEMORY; open: IO. *out is the caller's (cmif_attest_policy_free), untouched on failure. */
CMIF_MUST_USE cmif_code cmif_attest_policy_parse(const char *text, size_t size, cmif_attest_policy_file **out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_attest_policy_open(const char *path, cmif_attest_policy_file **out, cmif_err *err);
void                    cmif_attest_policy_free(cmif_attest_policy_file *file); /* NULL is welcome */

/* The canonical text: every key in one order, lists sorted; the same policy always has the same text. Free with free(); NULL: no memory. */
char *cmif_attest_policy_text(const cmif_attest_policy *policy);

/* How long a measurement of this name is, in bytes; two sizes for a PCR (SHA-256, SHA-384). 0: there is no such name. */
size_t cmif_attest_measured_size(cmif_tee tee, const char *name, size_t *other);
const char *cmif_tee_word(cmif_tee tee); /* "sgx", "tdx", "snp", "tpm", "sim" */

/* What is milder than the strict default, one word each ("debug", "status-SWHardeningNeeded", "td-sept-ve-disable", "roots"): how many. */
size_t cmif_attest_policy_loosened(const cmif_attest_policy *policy, char words[][CMIF_LOOSENED_SIZE], size_t room);

#endif
