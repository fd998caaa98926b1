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

#include <openssl/evp.h>

typedef struct cmif_books {
    const cmif_table *table; /* NULL: closed */
    cmif_certificate  certificate;
    cmif_ledger      *ledger;
    cmif_receipts    *receipts;
    EVP_MD_CTX       *released; /* of what is released and not yet sent */
    bool              any;      /* there is some */
    uint64_t          unknown;  /* words of that; drawn and passed ones are in spend */
    cmif_spend        spend;
    uint64_t          id;       /* of the entry */
    int64_t           when;
} cmif_books;

/* Errors: IO, FORMAT, TRUST (a damaged ledger or chain: what to do), MEMORY. End with cmif_books_close also when this failed. */
CMIF_MUST_USE cmif_code cmif_books_open(cmif_books *books, const cmif_table *table, const cmif_certificate *certificate,
                                        cmif_err *err);
void                    cmif_books_close(cmif_books *books); /* {0} is welcome */
/* Text was released and will be part of the next request. */
void cmif_books_note(cmif_books *books, const cmif_release_counts *counts, const cmif_released *text);
/* What was noted and not entered is not sent after all. {0} is welcome. */
void cmif_books_forget(cmif_books *books);
/* Enter what was noted, if the budgets allow. Call before anything of it is sent. Errors: BUDGET, IO, FORMAT, RANGE. */
CMIF_MUST_USE cmif_code cmif_books_enter(cmif_books *books, cmif_err *err);
/* The receipt of what was entered last. Errors: as cmif_receipts_put. */
CMIF_MUST_USE cmif_code cmif_books_receipt(cmif_books *books, const uint8_t model_id[static 32], const void *answer, size_t size,
                                           cmif_err *err);

#endif
