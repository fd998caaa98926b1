/* vault - surrogates of one conversation: a value that looks like the original's type, drawn without looking at the original beyond type
 * and shape, the same each time, and put back in answers.
 *
 * Shape is what policy and type reveal: a card passes Luhn and keeps its grouping, an IBAN its country and length and mod 97, an e-mail is
 * at an example domain, a date moves by one shift per conversation and keeps its format, a name keeps number of parts, gender by list and casing. A surrogate
 * never equals anything the person wrote, another surrogate, or an ordinary word.
 * Variants of one person share one surrogate person: "Maria Lopez", "Ms Lopez", "maria.lopez@...".
 * Locked memory; wiped when freed.
 *
 * Sees    plaintext. */
#ifndef CMIF_SANITIZER_VAULT_H
#define CMIF_SANITIZER_VAULT_H

#include "side.h"

#include "dp/noise.h"
#include "sanitizer/entities.h"

typedef struct cmif_vault cmif_vault;

/* lists must outlive the vault; NULL where nothing will be put, only restored. Errors: IO (no random bytes), MEMORY. */
CMIF_MUST_USE cmif_code cmif_vault_new(const cmif_lists *lists, cmif_vault **out, cmif_err *err);
void                    cmif_vault_free(cmif_vault *vault); /* NULL is welcome */

/* Tell the vault a whole text before its first surrogate: nothing of it is ever used as one, and what looks like a surrogate of this
 * conversation is escaped by a new one. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_vault_see(cmif_vault *vault, const cmif_scan *scan, cmif_err *err);
/* Append the surrogate of a span to out: the one it had, or a new one. Errors: MEMORY, IO, RANGE (no value of this shape is left). */
CMIF_MUST_USE cmif_code cmif_vault_put(cmif_vault *vault, const cmif_scan *scan, const cmif_spans *spans, size_t span,
                                       cmif_secret *out, cmif_err *err);
size_t cmif_vault_count(const cmif_vault *vault); /* pairs */
size_t cmif_vault_size(const cmif_vault *vault);  /* bytes of memory */
/* Whether a folded token is a surrogate of this conversation, of one word or number. The answer's would be restored: so what the person
 * wrote must never pass as it is, and is put instead, whatever its class. */
bool cmif_vault_holds(const cmif_vault *vault, cmif_str fold);
/* Save and take back ("--restore MAP"): JSON text with originals, for the person's own disk. Reading
 * replaces what the vault held; what was seen is not saved, only what became a pair. Errors: FORMAT, MEMORY. */
CMIF_MUST_USE cmif_code cmif_vault_write(const cmif_vault *vault, cmif_secret *out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_vault_read(cmif_vault *vault, const void *json, size_t size, cmif_err *err);

/* ---- restoring ---- incremental, over an answer as it streams; holds back no more than the longest surrogate that may still match. */
typedef struct cmif_restore cmif_restore;

typedef struct cmif_restore_counts { uint64_t restored, left; /* left: parts that look like a surrogate and were not put back */ } cmif_restore_counts;

/* json: the stream is JSON text; what is put into its strings is escaped. vault must outlive it. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_restore_new(const cmif_vault *vault, bool json, cmif_restore **out, cmif_err *err);
void                    cmif_restore_free(cmif_restore *restore);
/* Feed bytes; what is certain is appended to out. Exact, case variants, possessive and plural, parts of a name, markdown inside, JSON
 * escapes, reformatted dates and numbers. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_restore_feed(cmif_restore *restore, const void *bytes, size_t size, cmif_secret *out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_restore_end(cmif_restore *restore, cmif_secret *out, cmif_restore_counts *counts, cmif_err *err);
void                    cmif_restore_again(cmif_restore *restore, bool json); /* as new, for another text; what the vault got since is not known to it */

#endif
