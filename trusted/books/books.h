/* books - what a request spends: a ledger entry before anything leaves, a signed receipt when the answer is there.
 *
 * One ledger and one chain of receipts (`cmif budget`, `cmif audit`), and a tab for each conversation. Without an entry nothing is sent.
 *
 * Sees    counts; released text and answers, of which it keeps hashes only. */
#ifndef CMIF_BOOKS_BOOKS_H
#define CMIF_BOOKS_BOOKS_H

#include "side.h"

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
    const cmif_table  *table;  /* NULL: nothing is drawn */
    const cmif_policy *policy; /* NULL: none */
    cmif_certificate   certificate;
    cmif_ledger       *ledger; /* NULL: closed, and every tab is */
    cmif_receipts     *receipts;
} cmif_books;

/* Open ledger.db and receipts in folder. table and policy are borrowed, and may be NULL. Errors: IO, FORMAT, TRUST (a damaged ledger or chain: what to
 * do), MEMORY. End with cmif_books_close also when this failed. */
CMIF_MUST_USE cmif_code cmif_books_open(cmif_books *books, const char *folder, const cmif_table *table, const cmif_certificate *certificate,
                                        const cmif_policy *policy, cmif_err *err);
void                    cmif_books_close(cmif_books *books); /* {0} is welcome */

/* From here on entries wait (cmif_tab.waits) for cmif_books_settle, which puts all of them on disk with one write (ledger.h): nothing of theirs may be sent
 * before that has returned OK. When it fails none is there: cmif_tab_return for each. Errors: IO, FORMAT, MEMORY. */
void                    cmif_books_gather(cmif_books *books);
CMIF_MUST_USE cmif_code cmif_books_settle(cmif_books *books, cmif_err *err);
/* A few times a second: under load entries are made ahead, for which nobody waits (cmif_ledger_look_ahead). Errors: IO, FORMAT, MEMORY. */
CMIF_MUST_USE cmif_code cmif_books_look_ahead(const cmif_books *books, cmif_err *err);
/* Receipts are gathered then, too: this brings them to disk, and cmif_books_close does (receipt.h). Call it now and then. Errors: IO, FORMAT, TRUST. */
CMIF_MUST_USE cmif_code cmif_books_file(const cmif_books *books, cmif_err *err);

typedef struct cmif_tab { /* of a conversation */
    cmif_books *books;    /* NULL: nothing is entered */
    EVP_MD_CTX *released; /* of what was released for the next or the present request */
    bool        entered;  /* that request is in the ledger: what is noted next begins a new one */
    bool        waits;    /* and not on disk before cmif_books_settle */
    cmif_counts counts;   /* of it */
    cmif_spend  spend;
    uint64_t    id;       /* of the entry */
    double      left_day; /* what the key may still spend on its day, after it; INFINITY: no daily budget */
    int64_t     when;
} cmif_tab;

/* books must outlive the tab, and key (whose budget it is: ledger.h). Errors: IO, MEMORY. End with cmif_tab_close also when this failed. */
CMIF_MUST_USE cmif_code cmif_tab_open(cmif_tab *tab, cmif_books *books, const char *key, cmif_err *err);
void                    cmif_tab_close(cmif_tab *tab); /* {0} is welcome */
/* What is noted from here on belongs to another conversation. Errors: IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_tab_renew(cmif_tab *tab, cmif_err *err);
/* Text was released, and leaves with the next request. */
void cmif_tab_note(cmif_tab *tab, const cmif_counts *counts, const cmif_released *text);
/* Enter what was noted, and a text of these counts that is about to be released (cmif_tab_seal says which), if the budgets allow.
 * Call before anything of it is sent. What fails is not entered, and what was noted stays noted. Errors: BUDGET, IO, FORMAT, RANGE. */
CMIF_MUST_USE cmif_code cmif_tab_enter(cmif_tab *tab, const cmif_counts *counts, cmif_err *err);
void                    cmif_tab_seal(cmif_tab *tab, const cmif_released *text);
/* What was entered with `entry` did not get there: it counts with the next request of tab, which is of the same conversation. */
void                    cmif_tab_return(cmif_tab *tab, const cmif_tab *entry);
/* The receipt of what was entered last; *number is its place in the chain, 0 where there is none. Errors: as cmif_receipts_put. */
CMIF_MUST_USE cmif_code cmif_tab_receipt(cmif_tab *tab, const uint8_t model_id[static 32], const void *answer, size_t size, uint64_t *number,
                                         cmif_err *err);

/* What a key spent today (UTC, as the ledger counts), and may: the smaller of the policy's budget and the ledger's own. INFINITY: there is none.
 * Closed books: 0 and INFINITY. Errors: as cmif_ledger_sum. */
CMIF_MUST_USE cmif_code cmif_books_today(const cmif_books *books, const char *key, double *spent, double *budget, cmif_err *err);

/* What one draw is entered as, in millionths of epsilon: at most 32, which is also what a table that guarantees nothing stands for. */
uint64_t cmif_books_micro(const cmif_certificate *certificate);
enum { CMIF_BOOKS_MICRO_MOST = 32000000 };

#endif
