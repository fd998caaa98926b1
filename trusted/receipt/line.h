/* line - a receipt as a signed line of JSON, and back. Only what was written here is read: the same keys in the same order, nothing optional,
 * so that a line has one form, and a duplicated key or a space is an error.
 *
 * Sees    counts, hashes, the private key. */
#ifndef CMIF_RECEIPT_LINE_H
#define CMIF_RECEIPT_LINE_H

#include "receipt/receipt.h"

#include <openssl/evp.h>
#include <stdio.h>

enum { LINE_TEXT_MAX = 64, LINE_SIZE_MAX = 16384 };

typedef struct line_class { char name[LINE_TEXT_MAX + 1]; uint64_t counts[4]; } line_class;

typedef struct line { /* a receipt as it stands in the chain */
    char       adjacency[LINE_TEXT_MAX + 1], key[LINE_TEXT_MAX + 1], mechanism[LINE_TEXT_MAX + 1], peer[LINE_TEXT_MAX + 1]; /* "": null */
    uint8_t    answer_hash[32], conversation[16], model_id[32], policy_hash[32], released_hash[32], table_hash[32];
    uint8_t    previous[32], signer[32];
    uint64_t   delta_femto, epsilon_at_delta_micro; /* rounded up */
    uint64_t   draws, epsilon_micro, ledger_id, passed, surrogates, time, version;
    uint64_t   number, sum_draws, sum_epsilon_micro; /* of the chain up to here */
    line_class classes[CMIF_RECEIPT_CLASSES];        /* by name, ascending */
    size_t     class_count;
} line;

typedef struct line_head { uint64_t count; uint8_t hash[32], signer[32]; } line_head; /* of the chain: what is in the head file */

/* The whole line without its newline into text, *size of LINE_SIZE_MAX bytes at most. Errors: RANGE, MEMORY. */
CMIF_MUST_USE cmif_code line_write(const line *receipt, EVP_PKEY *key, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err);
CMIF_MUST_USE cmif_code line_write_head(const line_head *head, EVP_PKEY *key, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err);

/* The receipt of a line without its newline, if the key that it names signed it. Errors: FORMAT, TRUST (the signature), MEMORY. */
CMIF_MUST_USE cmif_code line_read(const char *text, size_t size, line *out, cmif_err *err);
CMIF_MUST_USE cmif_code line_read_head(const char *text, size_t size, line_head *out, cmif_err *err);
/* The receipt in the inner object alone, unsigned: what fuzzing starts from. */
CMIF_MUST_USE cmif_code line_parse(const char *text, size_t size, line *out, cmif_err *err);
CMIF_MUST_USE cmif_code line_format(const line *receipt, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err);

CMIF_MUST_USE cmif_code line_hash(const char *text, size_t size, uint8_t out[static 32], cmif_err *err);

/* Whether `next` may follow `last` (zeros: the first), whose line has this hash. Errors: TRUST. */
CMIF_MUST_USE cmif_code line_follows(const line *last, const uint8_t last_hash[static 32], const line *next, cmif_err *err);

/* The next line of a file without its newline. *size 0 and OK: the end. Errors: FORMAT (too long, or without a newline), IO. */
CMIF_MUST_USE cmif_code line_get(FILE *file, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err);

/* cmif_receipts_audit of an open file; head_file, key and head may be NULL. */
CMIF_MUST_USE cmif_code line_audit(FILE *file, const line_head *head_file, const uint8_t *key, const uint8_t *head, cmif_audit *out,
                                   cmif_err *err);

#endif
