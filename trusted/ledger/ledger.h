/* ledger - what was spent, written before anything leaves: SQLite, write-ahead log, synchronous full.
 *
 * Never under-counts: an entry is on disk before its release is, and a release without an entry cannot happen. A request that failed after its
 * entry stays counted. Every row carries a checksum, and sums that are kept beside the entries must be theirs, so that a damaged page is an
 * error and never a smaller sum. One limit: when a program was killed and then a page of the very newest request in the -wal file is damaged,
 * that request is taken for one that was not finished. Holds counts, hashes and epsilons; never a word.
 *
 * Sees    counts.
 * Source  design.md section 4. */
#ifndef CMIF_LEDGER_LEDGER_H
#define CMIF_LEDGER_LEDGER_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMIF_LEDGER_KEY_MAX 64

typedef struct cmif_ledger cmif_ledger; /* of one thread and one process; any number may be open on one file */

typedef struct cmif_spend {          /* of one request */
    const char *key;                 /* whose budget: "local" for programs of the person; 1 to 64 printable ASCII bytes but " and \ */
    uint8_t     conversation[16];    /* random */
    uint8_t     table_hash[32], policy_hash[32];
    uint64_t    draws;               /* distinct draws, after the memo */
    uint64_t    epsilon_micro;       /* their sum, certified, in millionths, rounded up */
    double      delta, epsilon_at_delta; /* by composition of the table's loss; 0 and 0: not computed */
    uint64_t    surrogates, passed;
} cmif_spend;

typedef struct cmif_budgets { double request, day, key; } cmif_budgets; /* epsilon; INFINITY: none */

typedef struct cmif_spent {          /* sums */
    uint64_t requests, draws, epsilon_micro, surrogates, passed;
    int64_t  first, last;            /* seconds since 1970; 0 and 0: no request */
    uint64_t day_epsilon_micro;      /* of the day of last; of one key since ever only, else 0 */
} cmif_spent;

/* Open or make the ledger at path (mode 0600; folders that are made for it 0700). A file of up to 1 MiB is checked whole.
 * Errors: IO (the folder, the disk, a read-only file: what to do), FORMAT (not ours, a newer one, a damaged page: which, and what to do),
 * MEMORY. */
CMIF_MUST_USE cmif_code cmif_ledger_open(const char *path, cmif_ledger **out, cmif_err *err);
void                    cmif_ledger_free(cmif_ledger *ledger); /* NULL is welcome */
/* Enter a request, if its budgets allow; on disk when this returns OK. *id names the entry.
 *   budgets  beside those that the ledger keeps for the key: the smaller of the two counts; may be NULL
 *   left     what the key may still spend on that day, after this; INFINITY: it has no daily budget. NULL: not asked
 * A day is one of UTC. A clock that went back counts on the latest day seen for the key.
 * Errors: BUDGET (which budget, what is left, what was asked, when it renews), IO (disk full, read-only), FORMAT (damaged), RANGE. */
CMIF_MUST_USE cmif_code cmif_ledger_spend(cmif_ledger *ledger, const cmif_spend *what, const cmif_budgets *budgets, int64_t now,
                                          uint64_t *id, double *left, cmif_err *err);
/* From here on spend only notes: entries are on disk, all together, when cmif_ledger_settle returns OK, and none of them is when it fails. Many
 * requests then share one wait for the disk. Settle soon: other programs wait for it, and spend waits 3 seconds for them, and no longer 30. What is not
 * settled is not entered. */
void                    cmif_ledger_gather(cmif_ledger *ledger);
/* Errors: IO, FORMAT, MEMORY; whatever waited must not leave. */
CMIF_MUST_USE cmif_code cmif_ledger_settle(cmif_ledger *ledger, cmif_err *err);
/* Whether what was entered last does. */
bool                    cmif_ledger_waits(const cmif_ledger *ledger);
/* Where many requests come for a key, entries are made ahead: each is on disk with the most that one of the last requests cost, and spend gives it to a
 * request that costs no more, which then waits for nothing. Called a few times a second by who gathers: what was taken is written as it was spent, the rest
 * goes, and as many come as were asked for since the last call, twice; free makes none. Until then, and for ever after a kill, those entries say
 * too much (an eighth of what the budgets leave, at most) and never too little; history, sums since a time and other programs see them. A budget that another
 * program sets holds from the next look on. Entries that wait may be settled, too. For others it waits 50 milliseconds. Errors: as settle; nothing is lost,
 * and requests wait as ever. */
CMIF_MUST_USE cmif_code cmif_ledger_look_ahead(cmif_ledger *ledger, cmif_err *err);
/* Sums of a key (NULL: all) since a time (0: ever, which takes the same time however many entries there are). */
CMIF_MUST_USE cmif_code cmif_ledger_sum(cmif_ledger *ledger, const char *key, int64_t since, cmif_spent *out, cmif_err *err);
/* Budgets that are kept in the ledger, by key; INFINITY where none was set. */
CMIF_MUST_USE cmif_code cmif_ledger_set(cmif_ledger *ledger, const char *key, const cmif_budgets *budgets, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_ledger_get(cmif_ledger *ledger, const char *key, cmif_budgets *out, cmif_err *err);
/* The keys, in order; each (context, key) returns false to stop. */
typedef bool (*cmif_ledger_key)(void *context, const char *key);
CMIF_MUST_USE cmif_code cmif_ledger_keys(cmif_ledger *ledger, cmif_ledger_key each, void *context, cmif_err *err);
/* The newest entries first, count at most; entry (context, id, when, what) returns false to stop. */
typedef bool (*cmif_ledger_entry)(void *context, uint64_t id, int64_t when, const cmif_spend *what);
CMIF_MUST_USE cmif_code cmif_ledger_history(cmif_ledger *ledger, size_t count, cmif_ledger_entry entry, void *context, cmif_err *err);
/* Read everything: pages, checksums, and that the sums are those of the entries. Errors: FORMAT (damaged), IO. */
CMIF_MUST_USE cmif_code cmif_ledger_check(cmif_ledger *ledger, cmif_err *err);

#endif
