/* sanitizer - a conversation's texts, from what a person wrote to what may leave: scan, entities, policy, surrogates, channel.
 *
 * The only maker of a cmif_released besides dp/release.c (released_make.h). Released words are those that were drawn, and those that
 * passed and that the channel can give; a surrogate is text between words. A text that was released once is released again byte for byte; a word that was
 * drawn once keeps its output in this conversation, and is counted once. Where the policy gives a request a budget, as many new words of a
 * text are drawn as it lasts for, by the policy's weights; the others leave as the constant of their block. The ledger has the last word.
 *
 * Sees    plaintext. */
#ifndef CMIF_SANITIZER_SANITIZER_H
#define CMIF_SANITIZER_SANITIZER_H

#include "side.h"

#include "dp/release.h"
#include "sanitizer/policy.h"
#include "sanitizer/vault.h"
#include "table/table.h"

typedef struct cmif_conversation cmif_conversation;
typedef struct cmif_division     cmif_division; /* of a request's budget between blocks of words */

typedef struct cmif_conversation_options { /* all must outlive the conversation */
    const cmif_policy *policy;
    const cmif_lists  *lists;
    const cmif_table  *table;        /* NULL: only where the policy sends nothing through a channel */
    bool               no_guarantee;
    const cmif_division *division;   /* of these policy, lists and table; NULL: each conversation makes its own */
} cmif_conversation_options;

typedef struct cmif_released_span { /* what was done, for the person's own eyes: bytes of the original and of the release */
    uint32_t from, size, out_from, out_size;
    uint8_t  class, action;
} cmif_released_span;

typedef struct cmif_sanitized {      /* of one text */
    uint64_t by_class[CMIF_SPAN_CLASSES][4]; /* spans by class and action */
    uint64_t draws;                  /* new draws: words not drawn before in this conversation */
    uint64_t repeated;               /* words that had their output already */
    uint64_t constants;              /* words that left as the constant of their block: the request's budget did not last. They cost nothing */
    bool     again;                  /* the whole text had been released before */
} cmif_sanitized;

/* What is the same for all conversations of a policy, and takes longest to make. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_division_new(const cmif_conversation_options *options, cmif_division **out, cmif_err *err);
void                    cmif_division_free(cmif_division *division); /* NULL is welcome */

/* Errors: TRUST (a table without a guarantee), RANGE (the policy needs a table), IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_conversation_new(const cmif_conversation_options *options, cmif_conversation **out, cmif_err *err);
void                    cmif_conversation_free(cmif_conversation *conversation); /* NULL is welcome; wiped */

/* The text that is prepared next leaves with the one before it: what that left of the request's budget is there for both. */
void cmif_conversation_more(cmif_conversation *conversation);
/* Two steps, so that the ledger can be written between: prepare decides everything and counts, take gives it out.
 * Errors: RANGE (a class that the policy refuses: which, and where), IO, MEMORY. Nothing is released on any error. */
CMIF_MUST_USE cmif_code cmif_conversation_prepare(cmif_conversation *conversation, const void *text, size_t size,
                                                  cmif_sanitized *what, cmif_err *err);
/* What was prepared last; once. spans (may be NULL): borrowed until the next prepare. */
cmif_released *cmif_conversation_take(cmif_conversation *conversation, const cmif_released_span **spans, size_t *count);
void           cmif_conversation_drop(cmif_conversation *conversation); /* what was prepared is not sent: it never happened */

const cmif_vault *cmif_conversation_vault(const cmif_conversation *conversation);
size_t            cmif_conversation_size(const cmif_conversation *conversation); /* bytes of memory */
/* Whether the text was given out before: it costs nothing, and takes no more memory. */
bool              cmif_conversation_knows(const cmif_conversation *conversation, const void *text, size_t size);

#endif
