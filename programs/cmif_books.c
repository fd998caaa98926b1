#include "cmif_books.h"

#include "cmif_cache.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* What an entry knows at most of a draw from a table that guarantees nothing, or less than e^32. */
#define MICRO_MOST (32 * (uint64_t) 1000000)

cmif_code cmif_books_open(cmif_books *b, const cmif_table *table, const cmif_certificate *certificate, cmif_err *err)
{
    char      folder[PATH_MAX], path[PATH_MAX + 32];
    cmif_code rc = cmif_data_folder(folder, err);

    *b = (cmif_books){.table = table, .certificate = *certificate, .spend.key = "local"};
    memcpy(b->spend.table_hash, table->hash, sizeof table->hash);
    if (rc == CMIF_OK && getrandom(b->spend.conversation, sizeof b->spend.conversation, 0) != 16) {
        rc = cmif_fail(err, CMIF_E_IO, "the system gives no random bytes: %s", strerror(errno));
    }
    if (rc == CMIF_OK) {
        snprintf(path, sizeof path, "%s/ledger.db", folder);
        rc = cmif_ledger_open(path, &b->ledger, err);
    }
    if (rc == CMIF_OK) {
        snprintf(path, sizeof path, "%s/receipts", folder);
        rc = cmif_receipts_open(path, &b->receipts, err);
    }
    if (rc == CMIF_OK) {
        b->released = EVP_MD_CTX_new();
        if (!b->released || EVP_DigestInit_ex(b->released, EVP_sha256(), NULL) != 1) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
        }
    }
    return rc;
}

void cmif_books_close(cmif_books *b)
{
    cmif_ledger_free(b->ledger);
    cmif_receipts_free(b->receipts);
    EVP_MD_CTX_free(b->released);
    *b = (cmif_books){0};
}

void cmif_books_note(cmif_books *b, const cmif_release_counts *counts, const cmif_released *text)
{
    size_t         size;
    const uint8_t *bytes = cmif_released_bytes(text, &size);
    if (!b->any) { /* a new request */
        b->spend.draws  = 0;
        b->spend.passed = 0;
        b->unknown      = 0;
        EVP_DigestInit_ex(b->released, EVP_sha256(), NULL);
    }
    b->any = true;
    b->spend.draws += counts->drawn;
    b->spend.passed += counts->passed;
    b->unknown += counts->unknown;
    uint64_t length = size; /* so that two texts are not one */
    EVP_DigestUpdate(b->released, &length, sizeof length);
    EVP_DigestUpdate(b->released, bytes, size);
}

void cmif_books_forget(cmif_books *b)
{
    b->any = false;
}

cmif_code cmif_books_enter(cmif_books *b, cmif_err *err)
{
    const cmif_certificate *c     = &b->certificate;
    uint64_t                micro = c->pure && c->epsilon_micro < MICRO_MOST ? c->epsilon_micro : MICRO_MOST;

    if (!b->table || !b->any) {
        return CMIF_OK;
    }
    if (__builtin_mul_overflow(b->spend.draws, micro, &b->spend.epsilon_micro)) {
        return cmif_fail(err, CMIF_E_RANGE, "%llu words are more than one request can be entered for",
                         (unsigned long long) b->spend.draws);
    }
    b->when      = (int64_t) time(NULL);
    cmif_code rc = cmif_ledger_spend(b->ledger, &b->spend, NULL, b->when, &b->id, err);
    b->any       = rc != CMIF_OK;
    return rc;
}

cmif_code cmif_books_receipt(cmif_books *b, const uint8_t model_id[static 32], const void *answer, size_t size,
                             cmif_err *err)
{
    /* columns in the order of cmif_action: pass, channel, surrogate, refuse */
    cmif_receipt r = {.ledger_id   = b->id,
                      .when        = b->when,
                      .spend       = b->spend,
                      .by_class    = {{b->spend.passed, b->spend.draws}, {0, b->unknown}},
                      .class_names = {"word", "unknown"}};
    uint64_t     number;
    if (!b->table) {
        return CMIF_OK;
    }
    r.mechanism = cmif_mechanism_name(b->table->claim.mechanism);
    r.adjacency = b->table->claim.adjacency == CMIF_ADJACENT_NONE    ? "none"
                  : b->table->claim.adjacency == CMIF_ADJACENT_BLOCK ? "block"
                                                                     : "any";
    memcpy(r.model_id, model_id, sizeof r.model_id);
    if (EVP_DigestFinal_ex(b->released, r.released_hash, NULL) != 1 ||
        EVP_Digest(answer, size, r.answer_hash, NULL, EVP_sha256(), NULL) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    return cmif_receipts_put(b->receipts, &r, &number, err);
}
