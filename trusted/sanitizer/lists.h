/* lists - public names that the entity finder knows, and topics of words: one file made from pinned public packages.
 *
 * File    GGUF, general.architecture "cmif-lists": for each list an array of strings "cmif.lists.NAME" in ascending byte order, folded as
 *         scan.h folds, and parallel u32 "cmif.lists.NAME.flags". Names of several words have one space between; hyphens and full stops
 *         count as spaces. What has accents is there without them, too. Made by `cmif lexicon lists build` (untrusted/lexicon/lists.c).
 * Sees    public files only. Looking up searches: it becomes oblivious in a later step, in two functions of this file alone. */
#ifndef CMIF_SANITIZER_LISTS_H
#define CMIF_SANITIZER_LISTS_H

#include "side.h"

#include "base/err.h"
#include "gguf/gguf.h"

#include <stdint.h>

typedef enum cmif_list {
    CMIF_LIST_GIVEN = 0,    /* given names; flags: 1 female, 2 male, 4 common in the US census */
    CMIF_LIST_FAMILY,       /* family names; flags: 1 not only of the US census */
    CMIF_LIST_PLACE,        /* cities, regions, countries and their adjectives, of up to 5 words; flags: 1 country, 2 city, 4 region, 8 also an ordinary word */
    CMIF_LIST_ORGANISATION, /* of up to 6 words */
    CMIF_LIST_PERSON,       /* well-known persons, of up to 5 words */
    CMIF_LIST_WORD,         /* the public vocabulary; flags: bits of cmif_topic (untrusted/lexicon/lexicon.h), 1 << 16 passes, 1 << 17 ordinary even when capitalised, 1 << 18 rare */
    CMIF_LIST_COUNT
} cmif_list;

typedef struct cmif_lists cmif_lists;

/* Errors: IO, FORMAT (not such a file; unordered or repeated strings), MEMORY. */
CMIF_MUST_USE cmif_code cmif_lists_open(const char *path, cmif_lists **out, cmif_err *err);
void                    cmif_lists_free(cmif_lists *lists); /* NULL is welcome */
const uint8_t          *cmif_lists_hash(const cmif_lists *lists); /* [32] SHA-256 of the file */
/* flags of a string of a list (*flags may be 0); false: it is not there. */
bool       cmif_lists_find(const cmif_lists *lists, cmif_list list, cmif_str word, uint32_t *flags);
/* What all lists and keys.h say of each word, in the terms of keys.h: one look answers every question. Zeros: nothing is known of it, or
 * it is empty. words, out: [count] */
typedef struct cmif_known { uint32_t bits, key; } cmif_known;
void       cmif_lists_look(const cmif_lists *lists, const cmif_str *words, size_t count, cmif_known *out);
size_t     cmif_lists_count(const cmif_lists *lists, cmif_list list);
cmif_str   cmif_lists_at(const cmif_lists *lists, cmif_list list, size_t index, uint32_t *flags);

#endif
