/* surrogates - the inside of the vault: for vault.c, surrogate.c and restore.c only. */
#ifndef CMIF_SANITIZER_SURROGATES_H
#define CMIF_SANITIZER_SURROGATES_H

#include "side.h"

#include "sanitizer/vault.h"

enum { VAULT_TEXT_MAX = 255 }; /* bytes of the longest surrogate: what bounds the hold-back of a restore */

typedef struct vault_text { /* a surrogate in the making; what does not fit makes it `full` for good */
    uint8_t data[VAULT_TEXT_MAX + 1];
    size_t  size;
    bool    full;
} vault_text;

typedef enum vault_match { /* how an answer may write a surrogate */
    VAULT_WORDS,  /* any casing, which the original then takes; any white space between words */
    VAULT_EXACT,  /* any casing, and the original as it was written */
    VAULT_CODE,   /* letters and digits with any separators: the original's letters and digits take their places */
    VAULT_NUMBER, /* digits with or without marks of thousands, likewise */
    VAULT_MATCHES
} vault_match;

typedef struct vault_entry {
    uint32_t key, key_size; /* bytes of the vault: what finds the entry again, a letter for the kind in front */
    uint32_t original, original_size, surrogate, surrogate_size;
    uint32_t from, to; /* dates: original and surrogate as yyyymmdd, absent parts 0 */
    uint8_t  class, match;
} vault_entry;

typedef struct vault_slot { uint64_t hash, value; } vault_slot; /* value 0: free */
typedef struct vault_set {
    cmif_secret room;
    size_t      count, capacity; /* a power of two, or 0 */
} vault_set;

struct cmif_vault { /* lies in locked memory itself */
    cmif_secret       self, bytes, entries, key, written;
    vault_set         keys, taken, seen; /* entries by key; compact forms of surrogates, and of all that was written */
    const cmif_lists *lists;             /* may be NULL */
    cmif_noise       *noise;
    uint64_t          seed;
    int32_t           shift; /* days that dates move by, a multiple of 7; 0: not drawn yet */
    uint32_t          random[64];
    size_t            random_left;
};

static inline size_t vault_entry_count(const cmif_vault *vault)
{
    return vault->entries.size / sizeof(vault_entry);
}
static inline const vault_entry *vault_entries(const cmif_vault *vault)
{
    return (const vault_entry *) (const void *) vault->entries.data;
}
static inline bool vault_is_alnum(uint32_t c) /* of ASCII */
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool vault_is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

/* Compact form: letters and digits only, small letters. */
uint64_t vault_hash(const cmif_vault *vault, const void *bytes, size_t size);
uint64_t vault_compact_hash(const cmif_vault *vault, const void *bytes, size_t size);
bool     vault_has(const vault_set *set, uint64_t hash);

/* No surrogate will read like these bytes. Errors: MEMORY. */
CMIF_MUST_USE cmif_code vault_saw(cmif_vault *vault, const void *bytes, size_t size, cmif_err *err);

/* The entry of the key in vault->key, or NULL. */
const vault_entry *vault_find(const cmif_vault *vault);
/* Keep a pair under the key in vault->key. Errors: MEMORY. */
CMIF_MUST_USE cmif_code vault_add(cmif_vault *vault, vault_entry entry, const void *original, size_t original_size,
                                  const void *surrogate, size_t surrogate_size, cmif_err *err);

/* surrogate.c: append what stands for the span, and keep the pairs that bring it back. Errors: MEMORY, IO, RANGE. */
CMIF_MUST_USE cmif_code vault_surrogate(cmif_vault *vault, const cmif_scan *scan, const cmif_span *span, cmif_secret *out,
                                        cmif_err *err);

#endif
