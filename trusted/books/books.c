#include "books/books.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define DELTA 1e-6

_Static_assert(CMIF_SPAN_CLASSES <= CMIF_RECEIPT_CLASSES, "a receipt has room for every class");

cmif_code cmif_tab_renew(cmif_tab *b, cmif_err *err)
{
    memset(&b->counts, 0, sizeof b->counts);
    b->entered = b->waits = false;
    if (!b->books) {
        return CMIF_OK;
    }
    if (EVP_DigestInit_ex(b->released, EVP_sha256(), NULL) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    return getrandom(b->spend.conversation, sizeof b->spend.conversation, 0) == sizeof b->spend.conversation
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "the system gives no random bytes: %s", strerror(errno));
}

cmif_code cmif_books_open(cmif_books *b, const char *folder, const cmif_table *table,
                          const cmif_certificate *certificate, const cmif_policy *policy, cmif_err *err)
{
    char path[PATH_MAX];

    *b = (cmif_books){.table = table, .policy = policy, .certificate = *certificate};
    if (snprintf(path, sizeof path, "%s/ledger.db", folder) >= (int) sizeof path) {
        return cmif_fail(err, CMIF_E_RANGE, "the folder of the ledger has a path that is too long");
    }
    cmif_code rc = cmif_ledger_open(path, &b->ledger, err);
    if (rc == CMIF_OK) {
        snprintf(path, sizeof path, "%s/receipts", folder);
        rc = cmif_receipts_open(path, &b->receipts, err);
    }
    return rc;
}

void cmif_books_close(cmif_books *b)
{
    cmif_ledger_free(b->ledger);
    cmif_receipts_free(b->receipts);
    *b = (cmif_books){0};
}

cmif_code cmif_tab_open(cmif_tab *t, cmif_books *books, const char *key, cmif_err *err)
{
    *t = (cmif_tab){.books = books->ledger ? books : NULL, .spend.key = key};
    if (books->table) {
        memcpy(t->spend.table_hash, books->table->hash, sizeof books->table->hash);
    }
    if (books->policy) {
        memcpy(t->spend.policy_hash, books->policy->hash, sizeof books->policy->hash);
    }
    t->released = EVP_MD_CTX_new();
    return t->released ? cmif_tab_renew(t, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
}

void cmif_tab_close(cmif_tab *t)
{
    EVP_MD_CTX_free(t->released);
    *t = (cmif_tab){0};
}

static void add(cmif_counts *sum, const cmif_counts *more)
{
    for (size_t c = 0; c < CMIF_SPAN_CLASSES; c++) {
        for (size_t a = 0; a < 4; a++) {
            sum->by_class[c][a] += more->by_class[c][a];
        }
    }
    sum->draws += more->draws;
}

static void begin(cmif_tab *b)
{
    if (b->entered) {
        b->entered = b->waits = false;
        memset(&b->counts, 0, sizeof b->counts);
        EVP_DigestInit_ex(b->released, EVP_sha256(), NULL);
    }
}

void cmif_tab_seal(cmif_tab *b, const cmif_released *text)
{
    size_t         size;
    const uint8_t *bytes  = cmif_released_bytes(text, &size);
    uint64_t       length = size; /* so that two texts are not one */
    if (b->books) {
        EVP_DigestUpdate(b->released, &length, sizeof length);
        EVP_DigestUpdate(b->released, bytes, size);
    }
}

void cmif_tab_note(cmif_tab *b, const cmif_counts *counts, const cmif_released *text)
{
    if (b->books) {
        begin(b);
        add(&b->counts, counts);
        cmif_tab_seal(b, text);
    }
}

uint64_t cmif_books_micro(const cmif_certificate *c)
{
    return c->pure && c->epsilon_micro < CMIF_BOOKS_MICRO_MOST ? c->epsilon_micro : CMIF_BOOKS_MICRO_MOST;
}

/* Draws and their certified epsilon; and what they come to at DELTA, for reports. */
static cmif_code price(const cmif_books *b, cmif_spend *s, cmif_err *err)
{
    const cmif_certificate *c = &b->certificate;

    s->delta = s->epsilon_at_delta = 0;
    if (__builtin_mul_overflow(s->draws, b->table ? cmif_books_micro(c) : 0, &s->epsilon_micro)) {
        return cmif_fail(err, CMIF_E_RANGE, "%llu words are more than one request can be entered for",
                         (unsigned long long) s->draws);
    }
    if (s->epsilon_micro > 0 && s->draws <= 1000000 && c->pure && b->table->claim.adjacency != CMIF_ADJACENT_NONE) {
        s->delta = DELTA;
        return cmif_table_compose(b->table, (uint32_t) s->draws, DELTA, &s->epsilon_at_delta, err);
    }
    return CMIF_OK;
}

cmif_code cmif_tab_enter(cmif_tab *b, const cmif_counts *counts, cmif_err *err)
{
    if (!b->books) {
        return CMIF_OK;
    }
    begin(b);
    cmif_counts all = b->counts;
    cmif_spend  s   = b->spend;
    add(&all, counts);
    s.draws  = all.draws;
    s.passed = s.surrogates = 0;
    for (size_t c = CMIF_SPAN_OTHER + 1; c < CMIF_SPAN_CLASSES; c++) {
        s.passed += all.by_class[c][CMIF_ACTION_PASS];
        s.surrogates += all.by_class[c][CMIF_ACTION_SURROGATE];
    }
    const cmif_policy *p = b->books->policy;
    cmif_budgets budgets = p ? (cmif_budgets){p->budget_request, p->budget_day, p->budget_key} : (cmif_budgets){0};
    int64_t      when    = (int64_t) time(NULL);
    cmif_code    rc      = price(b->books, &s, err);
    if (rc == CMIF_OK) {
        rc = cmif_ledger_spend(b->books->ledger, &s, p ? &budgets : NULL, when, &b->id, &b->left_day, err);
    }
    if (rc == CMIF_OK) {
        b->counts  = all;
        b->spend   = s;
        b->when    = when;
        b->entered = true;
        b->waits   = cmif_ledger_waits(b->books->ledger);
    }
    return rc;
}

void cmif_tab_return(cmif_tab *b, const cmif_tab *entry)
{
    if (b->books) {
        begin(b);
        add(&b->counts, &entry->counts);
    }
}

void cmif_books_gather(cmif_books *b)
{
    if (b->ledger) {
        cmif_ledger_gather(b->ledger);
        cmif_receipts_gather(b->receipts);
    }
}

cmif_code cmif_books_settle(cmif_books *b, cmif_err *err)
{
    return b->ledger ? cmif_ledger_settle(b->ledger, err) : CMIF_OK;
}

cmif_code cmif_books_look_ahead(const cmif_books *b, cmif_err *err)
{
    return b->ledger ? cmif_ledger_look_ahead(b->ledger, err) : CMIF_OK;
}

cmif_code cmif_books_file(const cmif_books *b, cmif_err *err)
{
    return b->ledger ? cmif_receipts_settle(b->receipts, err) : CMIF_OK;
}

cmif_code cmif_tab_receipt(cmif_tab *b, const uint8_t model_id[static 32], const void *answer, size_t size,
                           uint64_t *number, cmif_err *err)
{
    cmif_receipt r = {.ledger_id = b->id, .when = b->when, .spend = b->spend};
    *number        = 0;
    if (!b->books || !b->entered) {
        return CMIF_OK;
    }
    for (size_t c = CMIF_SPAN_OTHER + 1, n = 0; c < CMIF_SPAN_CLASSES; c++) {
        const uint64_t *counts = b->counts.by_class[c];
        if (counts[0] | counts[1] | counts[2] | counts[3]) {
            r.class_names[n] = cmif_span_class_name((cmif_span_class) c);
            memcpy(r.by_class[n++], counts, sizeof r.by_class[0]);
        }
    }
    if (b->books->table) {
        r.mechanism = cmif_mechanism_name(b->books->table->claim.mechanism);
        r.adjacency = b->books->table->claim.adjacency == CMIF_ADJACENT_NONE    ? "none"
                      : b->books->table->claim.adjacency == CMIF_ADJACENT_BLOCK ? "block"
                                                                                : "any";
    }
    memcpy(r.model_id, model_id, sizeof r.model_id);
    EVP_MD_CTX *copy = EVP_MD_CTX_new(); /* more than one answer may come to what was released */
    bool        good = copy && EVP_MD_CTX_copy_ex(copy, b->released) == 1 &&
                EVP_DigestFinal_ex(copy, r.released_hash, NULL) == 1 &&
                EVP_Digest(answer, size, r.answer_hash, NULL, EVP_sha256(), NULL) == 1;
    EVP_MD_CTX_free(copy);
    return good ? cmif_receipts_put(b->books->receipts, &r, number, err)
                : cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
}

cmif_code cmif_books_today(const cmif_books *b, const char *key, double *spent, double *budget, cmif_err *err)
{
    enum { DAY = 86400 };
    cmif_spent   sum  = {0};
    cmif_budgets kept = {.day = INFINITY};
    cmif_code    rc   = b->ledger ? cmif_ledger_sum(b->ledger, key, 0, &sum, err) : CMIF_OK;
    if (rc == CMIF_OK && b->ledger) {
        rc = cmif_ledger_get(b->ledger, key, &kept, err);
    }
    if (rc == CMIF_OK) { /* a clock that went back counts on the latest day */
        *spent  = sum.last / DAY >= (int64_t) time(NULL) / DAY ? (double) sum.day_epsilon_micro / 1e6 : 0;
        *budget = b->policy ? fmin(kept.day, b->policy->budget_day) : kept.day;
    }
    return rc;
}
