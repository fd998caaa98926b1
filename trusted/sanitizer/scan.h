/* scan - text into tokens, so that nothing hides a word: one pass, linear, memory of a fixed multiple of the text.
 *
 * Each token keeps the bytes that it came from, and a folded form for looking up: NFKC, lower case, without combining marks where the
 * letter exists without (é -> e only in cmif_scan_bare), without zero-width characters and soft hyphens, full-width forms and look-alike letters
 * of other scripts inside a Latin word made Latin. Invalid UTF-8 is one U+FFFD a byte, a token of its own that is never passed as it is.
 *
 * Sees    plaintext.
 * Source  UAX 15 (NFKC), UAX 29 for word boundaries (simplified: see scan.c), UTS 39 for the idea of look-alikes. */
#ifndef CMIF_SANITIZER_SCAN_H
#define CMIF_SANITIZER_SCAN_H

#include "side.h"

#include "base/err.h"
#include "gguf/gguf.h" /* cmif_str */
#include "secret/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_token_kind {
    CMIF_TOKEN_WORD = 0, /* letters and marks, with single apostrophes inside; may hold digits ("b2b", "x86"); a final 's is one of its own */
    CMIF_TOKEN_NUMBER,   /* digits only */
    CMIF_TOKEN_MARK,     /* one character of punctuation or a symbol */
    CMIF_TOKEN_SPACE,    /* a run of white space without a line end */
    CMIF_TOKEN_LINE,     /* a run of white space with one */
    CMIF_TOKEN_BROKEN    /* a byte that is no UTF-8, or a control or private character */
} cmif_token_kind;

typedef enum cmif_casing { CMIF_CASE_NONE = 0, CMIF_CASE_LOWER, CMIF_CASE_FIRST, CMIF_CASE_UPPER, CMIF_CASE_MIXED } cmif_casing;

typedef struct cmif_token {
    uint32_t from, size;           /* bytes of the text, as written */
    uint32_t fold_from, fold_size; /* bytes of scan->fold */
    uint8_t  kind, casing;
    bool     odd;                  /* what is written is not what is folded, beyond letter case: it never leaves as written */
    bool     begins;               /* first word of a sentence, line or cell: its capital says nothing */
    bool     digit;                /* the folded form holds one of 0 to 9 */
    bool     code;                 /* inside ``` or ` or an indented block that looks like a program */
} cmif_token;

typedef struct cmif_scan {
    const uint8_t *text; /* borrowed from the caller until the scan is wiped */
    size_t         size;
    cmif_secret    fold;
    cmif_secret    room; /* holds the tokens */
    cmif_token    *tokens;
    size_t         count;
} cmif_scan;

/* Errors: RANGE (more than 2^30 bytes), MEMORY. */
CMIF_MUST_USE cmif_code cmif_scan_text(const void *text, size_t size, cmif_scan *out, cmif_err *err);
void                    cmif_scan_wipe(cmif_scan *scan);

/* The folded form of a token, and what was written. */
static inline cmif_str cmif_token_fold(const cmif_scan *scan, const cmif_token *token)
{
    return (cmif_str){(const char *) scan->fold.data + token->fold_from, token->fold_size};
}
static inline cmif_str cmif_token_text(const cmif_scan *scan, const cmif_token *token)
{
    return (cmif_str){(const char *) scan->text + token->from, token->size};
}

/* A folded word without accents and apostrophes, and with letters that look like a to z made so ("lópez" -> "lopez", "ł" -> "l").
 * Bytes written to out, at most room; 0: there is no room. */
size_t cmif_scan_bare(cmif_str fold, uint8_t *out, size_t room);

#endif
