/* cmif_guard - what stands between a person's words and the wire: policy, public lists, channel, a conversation, and its books.
 *
 * Every text of a person goes through cmif_guard_hold or cmif_guard_release, and through nothing else.
 *
 * Sees    plaintext. */
#ifndef CMIF_PROGRAMS_CMIF_GUARD_H
#define CMIF_PROGRAMS_CMIF_GUARD_H

#include "cmif_options.h"

#include "books/books.h"
#include "sanitizer/sanitizer.h"

#include <jansson.h>

typedef struct cmif_guard_options {
    const char *policy;       /* names, topics, words, channel, none, or a file; NULL: topics */
    const char *stop_words;   /* pass or protect; NULL: as the policy says */
    const char *channel;      /* NULL: the default table, where the policy needs one */
    bool        no_guarantee;
    bool        several;      /* one of several policies: channel and no_guarantee are for those that draw */
} cmif_guard_options;

/* Lines of an option table; o is a cmif_guard_options with static storage. */
#define CMIF_GUARD_OPTIONS(o)                                                                                          \
    {0, "policy", "NAME|FILE", CMIF_OPTION_TEXT, &(o).policy, 0, 0, "names, topics (default), words, none, or a file"}, \
    {0, "channel", "FILE", CMIF_OPTION_TEXT, &(o).channel, 0, 0, "draw words from this table, not from setup's"}, \
    {0, "no-guarantee", NULL, CMIF_OPTION_FLAG, &(o).no_guarantee, 0, 0, NULL}

typedef enum cmif_guard_kind {
    CMIF_GUARD_NONE = 0, /* text leaves as it is: asked for with --policy none */
    CMIF_GUARD_CHANNEL,  /* every word is drawn, nothing else is done: --policy channel, for measuring mechanisms */
    CMIF_GUARD_POLICY
} cmif_guard_kind;

typedef struct cmif_guard_totals { /* of everything released */
    uint64_t by_class[CMIF_SPAN_CLASSES][4]; /* spans by class and cmif_action */
    uint64_t draws, repeated;      /* words drawn; words that had been drawn before in this conversation */
    uint64_t constants;            /* words beyond the request's budget: they left as their block's own word */
    uint64_t passed, unknown;      /* words that left as they were; kind CHANNEL: words that left as "something" */
    uint64_t surrogates;
    uint64_t epsilon_micro;        /* spent */
    uint64_t restored, left;       /* in answers: surrogates put back, and what looks like one and was not */
} cmif_guard_totals;

typedef struct cmif_guard {
    cmif_guard_kind    kind;
    cmif_policy       *policy;       /* kind POLICY */
    cmif_lists        *lists;
    cmif_table        *table;        /* NULL: nothing is drawn */
    cmif_certificate   certificate;
    cmif_conversation *conversation; /* kind POLICY */
    cmif_sanitizer    *sanitizer;    /* kind CHANNEL */
    cmif_books         books;        /* closed: kind NONE, or opened without books */
    cmif_tab           tab;
    cmif_guard_totals  totals;
    bool               no_guarantee;
    bool               holds; /* a text was released that waits for the next one */
} cmif_guard;

typedef struct cmif_left { /* what was done to one text, for the person's own eyes; borrowed until the next one */
    const cmif_released_span *spans; /* NULL where kind is not POLICY */
    size_t                    count;
} cmif_left;

/* What is wrong with the options, before any work. Errors: RANGE. */
CMIF_MUST_USE cmif_code cmif_guard_check(const cmif_guard_options *options, cmif_err *err);
/* Open policy, lists and table; with books, ledger and receipts too. guard is the caller's; end with cmif_guard_close also when this failed.
 * Errors: IO (the lists or the table are not there: what to run), FORMAT, TRUST, RANGE, MEMORY. */
CMIF_MUST_USE cmif_code cmif_guard_open(const cmif_guard_options *options, bool books, cmif_guard *guard, cmif_err *err);
void                    cmif_guard_close(cmif_guard *guard); /* {0} is welcome */

/* Release a text that leaves together with the next one that is released, such as a system message. text is wiped.
 * Errors: FORMAT (no UTF-8: where), RANGE (the policy refuses something: what, and where), IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_guard_hold(cmif_guard *guard, cmif_secret *text, cmif_released **out, cmif_err *err);
/* Release a text: the ledger's entry is on disk when this returns OK. What fails was not released, drawn or entered. text is wiped.
 * left may be NULL. Errors: as hold; BUDGET (which, what is left, when it renews). */
CMIF_MUST_USE cmif_code cmif_guard_release(cmif_guard *guard, cmif_secret *text, cmif_released **out, cmif_left *left, cmif_err *err);
/* A new conversation: other surrogates, other draws, nothing remembered. Errors: IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_guard_renew(cmif_guard *guard, cmif_err *err);

/* What puts originals back into an answer; *out is NULL where nothing was replaced by surrogates. json: the answer is JSON text. */
CMIF_MUST_USE cmif_code cmif_guard_restorer(const cmif_guard *guard, bool json, cmif_restore **out, cmif_err *err);
void                    cmif_guard_restored(cmif_guard *guard, const cmif_restore_counts *counts);

/* The receipt of what was released last, with the answer as it came. Errors: as cmif_receipts_put. */
CMIF_MUST_USE cmif_code cmif_guard_receipt(cmif_guard *guard, const uint8_t model_id[static 32], const void *answer, size_t size,
                                           cmif_err *err);

/* The one sentence that may be claimed (docs/privacy.md). out: at least 768 bytes. */
void    cmif_guard_sentence(const cmif_guard *guard, char *out, size_t room);
/* "2 person, 1 date, 1 topic word" of one action; "" when none. */
void    cmif_guard_counts(const cmif_guard *guard, cmif_action action, char *out, size_t room);
json_t *cmif_guard_json(const cmif_guard *guard); /* all of the above; the caller's. null for kind NONE */

#endif
