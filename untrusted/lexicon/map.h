/* map - words to numbers: a hash table with open addressing. Keys are borrowed. Nothing is ever taken out, and nobody walks through
 * one, so what is built from it does not depend on where things lie. {0} is an empty map. */
#ifndef CMIF_LEXICON_MAP_H
#define CMIF_LEXICON_MAP_H

#include "gguf/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMIF_MAP_NONE UINT32_MAX

typedef struct cmif_map {
    struct cmif_map_slot *slots;
    size_t                count, capacity; /* capacity: 0 or a power of two */
} cmif_map;

/* The value of key, or CMIF_MAP_NONE. */
uint32_t cmif_map_get(const cmif_map *map, cmif_str key);
/* The value of key after the call: the one that was there, or value. CMIF_MAP_NONE: no memory. */
uint32_t cmif_map_put(cmif_map *map, cmif_str key, uint32_t value);
void     cmif_map_free(cmif_map *map); /* {0} again */

/* Byte order, as strcmp. */
int cmif_str_compare(cmif_str a, cmif_str b);

/* Room for one more item in an array of count items that grows by doubling; false: no memory. */
bool cmif_grow(void *items /* pointer to the array's pointer */, size_t *capacity, size_t count, size_t item_size);

#endif
