/* store - collateral that was brought from Intel and AMD, kept on this machine, and the newest that was ever believed: SQLite.
 *
 * Nothing is fetched. What is added is checked as far as the certificates here tell (genuine.h), and what its maker did not sign is refused. What cannot be checked yet
 * is kept, but displaces and bars nothing that was. Nothing is believed for lying here: the verifier checks it each time. What was believed once is remembered by
 * its tcbEvaluationDataNumber and issue date, so that older collateral, which is still validly signed, is refused. Every row has a checksum: a damaged
 * page is an error, never a shorter memory.
 *
 * Sees    public data of TEE makers. */
#ifndef CMIF_COLLATERAL_STORE_H
#define CMIF_COLLATERAL_STORE_H

#include "collateral/genuine.h"
#include "collateral/sort.h"

typedef struct cmif_store cmif_store;

typedef struct cmif_kept { /* what one item says of itself */
    cmif_item_kind kind;
    char           about[64];    /* "TDX 90c06f000000", "TD_QE", the CRL's issuer, the certificate's name; VCEK: with its chip */
    int64_t        starts, ends; /* issueDate and nextUpdate, thisUpdate and nextUpdate, notBefore and notAfter; seconds since 1970, ends INT64_MAX: never */
    int64_t        number;       /* tcbEvaluationDataNumber, CRL number; 0: none */
    size_t         size;
    uint8_t        hash[32];
    cmif_genuine   genuine;      /* of cmif_store_add and cmif_store_genuine: as far as the certificates of the store tell */
} cmif_kept;

/* Errors: FORMAT (not what it was sorted for), MEMORY. */
CMIF_MUST_USE cmif_code cmif_kept_read(const cmif_item *item, cmif_kept *out, cmif_err *err);

/* Open it; made with its folders if `write` (mode 0600). Not `write` and no file: OK, and *out is NULL. Everything is checked.
 * Errors: IO, FORMAT (damaged, or another program's: what to do), MEMORY. */
CMIF_MUST_USE cmif_code cmif_store_open(const char *path, bool write, cmif_store **out, cmif_err *err);
void                    cmif_store_free(cmif_store *store); /* NULL is welcome */

typedef enum cmif_store_done { CMIF_STORE_ADDED, CMIF_STORE_REPLACED, CMIF_STORE_THERE } cmif_store_done;
/* Keep a TCB info, QE identity, CRL (one per `about` and issuer, the newest; beside it one that cannot be checked) or certificate. Errors: TRUST (not signed by its maker;
 * older than what is here, or was believed: a rollback), RANGE (too much), FORMAT, IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_store_add(cmif_store *store, const cmif_item *item, int64_t now, cmif_kept *kept, cmif_store_done *done, cmif_err *err);
/* Is it genuine, by what the store has? Into kept->genuine. */
CMIF_MUST_USE cmif_code cmif_store_genuine(cmif_store *store, const cmif_item *item, cmif_kept *kept, cmif_err *err);

/* Everything, in order of kind and `about`; each (context, kept, item) returns false to stop. NULL store: nothing. */
typedef bool (*cmif_store_each)(void *context, const cmif_kept *kept, const cmif_item *item);
CMIF_MUST_USE cmif_code cmif_store_all(cmif_store *store, cmif_store_each each, void *context, cmif_err *err);

/* Take everything of this `about` out, or everything at all (NULL); each, if there is one, is told of it first. What was believed stays remembered. */
CMIF_MUST_USE cmif_code cmif_store_remove(cmif_store *store, const char *about, cmif_store_each each, void *context, size_t *count, cmif_err *err);

/* The newest of this name that was believed and issued at `time` or before; zeros: none. */
CMIF_MUST_USE cmif_code cmif_store_seen(cmif_store *store, const char *name, int64_t time, int64_t *number, int64_t *issue, cmif_err *err);
/* The same of all CRLs, by their issuers; the caller's (free). NULL store: none. */
CMIF_MUST_USE cmif_code cmif_store_seen_crls(cmif_store *store, int64_t time, cmif_seen_crl **out, size_t *count, cmif_err *err);
void                    cmif_store_crl_name(const uint8_t issuer[static 32], char name[static 96]);
/* Remember: nothing is written when it is known. */
CMIF_MUST_USE cmif_code cmif_store_saw(cmif_store *store, const char *name, int64_t number, int64_t issue, cmif_err *err);

#endif
