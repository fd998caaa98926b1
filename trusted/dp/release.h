/* release - the one door from what a person wrote to what may leave the machine.
 *
 * A cmif_released is text that may leave; only this module makes one. The tokenizer takes nothing else, and a
 * cmif_ids (below) grows only from released text, from the model file's own public pieces, and from ids that the
 * server itself produced. Look-up and wire take cmif_ids and nothing else.
 *
 * Sees    plaintext. */
#ifndef CMIF_DP_RELEASE_H
#define CMIF_DP_RELEASE_H

#include "side.h"

#include "base/err.h"
#include "table/table.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cmif_released cmif_released;

/* Release text as it is: no protection. Programs that use it say "sanitizer: none" in their account.
 *   text  (size) bytes, borrowed; any bytes, not only valid UTF-8
 *   out   owned by the caller (cmif_released_free)
 * Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_dp_release_identity(const void *text, size_t size, cmif_released **out, cmif_err *err);
void                    cmif_released_free(cmif_released *text); /* NULL is welcome; wiped */
const uint8_t          *cmif_released_bytes(const cmif_released *text, size_t *size);

/* ---- release through a channel ----
 * Text is split into words: maximal runs of letters, marks and digits, with single apostrophes inside. A word is looked up in
 * lower case (NFC); one that is not there is tried in its parts around apostrophes, and a part that is not there is the empty word,
 * "unknown". Each is drawn from its row. The result is written with the first letter, or all letters, in upper case where the
 * original was; an unknown word leaves as "something". Everything between words leaves as it is. So number of words, casing,
 * punctuation and spacing are revealed, and the block of each word. */
typedef struct cmif_sanitizer cmif_sanitizer;

typedef struct cmif_released_word { /* a word of released text, and what was said about it; all public */
    uint32_t from, size;            /* bytes of the released text */
    uint32_t output;                /* its id in the table; 0: unknown */
    bool     passed;                /* its row is that of its text: left as it was, or the constant of its block (sanitizer/) */
} cmif_released_word;

typedef struct cmif_release_counts {
    uint64_t drawn;   /* words that others could have been released like: each costs the table's epsilon */
    uint64_t passed;  /* words alone in their block: as they were, or under a name of their own */
    uint64_t unknown; /* words not in the table that left as "something" */
} cmif_release_counts;

/* table must outlive the sanitizer. A table that claims no guarantee is refused unless no_guarantee is true.
 * Errors: TRUST (no guarantee), IO (no random bytes), MEMORY. */
CMIF_MUST_USE cmif_code cmif_sanitizer_new(const cmif_table *table, bool no_guarantee, cmif_sanitizer **out, cmif_err *err);
void                    cmif_sanitizer_free(cmif_sanitizer *sanitizer); /* NULL is welcome; wiped */

/* Release text through the table.
 *   text    (size) bytes, borrowed; invalid UTF-8 leaves as U+FFFD, never as it is
 *   counts  added to; may be NULL
 * Errors: RANGE (more than 2^30 bytes), IO, MEMORY; nothing is released then. */
CMIF_MUST_USE cmif_code cmif_dp_release_channel(cmif_sanitizer *sanitizer, const void *text, size_t size,
                                                cmif_release_counts *counts, cmif_released **out, cmif_err *err);

/* The words of text released through a channel, in order; none of text released as it is. *count may be 0. */
const cmif_released_word *cmif_released_words(const cmif_released *text, size_t *count);

/* Token ids that may leave the machine, in order. Growing is for tokenizer/, chat/ and session/ only (released_ids.h). */
typedef struct cmif_ids {
    int32_t *at; /* read freely; never write */
    size_t   count;
    size_t   capacity;
} cmif_ids;

void cmif_ids_free(cmif_ids *ids); /* {0} again; {0} is welcome */

#endif
