/* cmif_books - what a request spends: a ledger entry before anything leaves, a signed receipt when the answer is there.
 *
 * Kept in $XDG_DATA_HOME/cmif (`cmif budget`, `cmif audit`). Without an entry nothing is sent.
 *
 * Sees    counts; released text and answers, of which it keeps hashes only. */
#ifndef CMIF_PROGRAMS_CMIF_BOOKS_H
#define CMIF_PROGRAMS_CMIF_BOOKS_H

#include "dp/release.h"
#include "ledger/ledger.h"
#include "receipt/receipt.h"
#include "sanitizer/policy.h"

#include <openssl/evp.h>

typedef struct cmif_counts {
    uint64_t by_class[CMIF_SPAN_CLASSES][4]; /* what left, by class and cmif_action */
    uint64_t draws;                          /* new ones: each costs the table's epsilon */
} cmif_counts;

typedef struct cmif_books {
    const cmif_table *table;  /* NULL: nothing is drawn */
    const cmif_policy *policy; /* NULL: none */
    cmif_certificate  certificate;
    cmif_ledger      *ledger; /* NULL: closed */
    cmif_receipts    *receipts;
    EVP_MD_CTX       *released; /* of what was released for the next or the present request */
    bool              entered;  /* that request is in the ledger: what is noted next begins a new one */
    cmif_counts       counts;   /* of it */
    cmif_spend        spend;
    uint64_t          id;       /* of the entry */
    int64_t           when;
} cmif_books;

/* table and policy are borrowed, and may be NULL. Errors: IO, FORMAT, TRUST (a damaged ledger or chain: what to do), MEMORY. End with
 * cmif_books_close also when this failed. */
CMIF_MUST_USE cmif_code cmif_books_open(cmif_books *books, const cmif_table *table, const cmif_certificate *certificate,
                                        const cmif_policy *policy, cmif_err *err);
void                    cmif_books_close(cmif_books *books); /* {0} is welcome */
/* What is noted from here on belongs to another conversation. Errors: IO. */
CMIF_MUST_USE cmif_code cmif_books_renew(cmif_books *books, cmif_err *err);
/* Text was released, and leaves with the next request. */
void cmif_books_note(cmif_books *books, const cmif_counts *counts, const cmif_released *text);
/* Enter what was noted, and a text of these counts that is about to be released (cmif_books_seal says which), if the budgets allow.
 * Call before anything of it is sent. What fails is not entered, and what was noted stays noted. Errors: BUDGET, IO, FORMAT, RANGE. */
CMIF_MUST_USE cmif_code cmif_books_enter(cmif_books *books, const cmif_counts *counts, cmif_err *err);
void                    cmif_books_seal(cmif_books *books, const cmif_released *text);
/* What one draw is entered as, in millionths of epsilon: at most 32, which is also what a table that guarantees nothing stands for. */
uint64_t cmif_books_micro(const cmif_certificate *certificate);
enum { CMIF_BOOKS_MICRO_MOST = 32000000 };
/* The receipt of what was entered last. Errors: as cmif_receipts_put. */
CMIF_MUST_USE cmif_code cmif_books_receipt(cmif_books *books, const uint8_t model_id[static 32], const void *answer, size_t size,
                                           cmif_err *err);

#endif
