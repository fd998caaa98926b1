/* cmif_leak - the part of `cmif leak-test` that asks a model that generates what was written.
 *
 * Sees    originals and releases; the model is told releases only. */
#ifndef CMIF_PROGRAMS_CMIF_LEAK_H
#define CMIF_PROGRAMS_CMIF_LEAK_H

#include "cmif_client.h"

#include "attack.h"

enum { CMIF_REBUILD_TEXTS = 20, CMIF_REBUILD_SIZE = 2000 }; /* texts that are guessed, bytes of each */

typedef struct cmif_rebuild_text { /* borrowed */
    const char               *text, *released;
    size_t                    size, released_size;
    const cmif_attack_entity *entities;
    size_t                    entity_count;
} cmif_rebuild_text;

typedef struct cmif_rebuilt {
    uint64_t          texts;
    uint64_t          words, named; /* different words of originals that their releases lack; that the model's answer holds */
    uint64_t          by_chance;    /* of these words, in the answer about another text */
    cmif_attack_found found;        /* entities in answers */
} cmif_rebuilt;

/* Errors: those of a client that asks a model. */
CMIF_MUST_USE cmif_code cmif_rebuild(const char *model, const cmif_rebuild_text *texts, size_t count, cmif_rebuilt *out, cmif_err *err);

#endif
