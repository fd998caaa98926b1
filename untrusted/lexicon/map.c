#include "lexicon/map.h"

#include <stdlib.h>
#include <string.h>

struct cmif_map_slot {
    const char *data; /* NULL: free */
    uint32_t    size, value;
};

int cmif_str_compare(cmif_str a, cmif_str b)
{
    size_t least = a.size < b.size ? a.size : b.size;
    int    order = least ? memcmp(a.data, b.data, least) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

bool cmif_grow(void *items, size_t *capacity, size_t count, size_t item_size)
{
    if (count < *capacity) {
        return true;
    }
    void *old;
    memcpy(&old, items, sizeof old);
    size_t more  = *capacity ? 2 * *capacity : 256;
    void  *grown = more > SIZE_MAX / 2 / item_size ? NULL : realloc(old, more * item_size);
    if (!grown) {
        return false;
    }
    memcpy(items, &grown, sizeof grown);
    *capacity = more;
    return true;
}

/* FNV-1a */
static size_t slot_of(const cmif_map *map, cmif_str key)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < key.size; i++) {
        hash = (hash ^ (uint8_t) key.data[i]) * UINT64_C(1099511628211);
    }
    size_t at = (size_t) (hash ^ hash >> 32) & (map->capacity - 1);
    while (map->slots[at].data &&
           (map->slots[at].size != key.size || memcmp(map->slots[at].data, key.data, key.size) != 0)) {
        at = (at + 1) & (map->capacity - 1);
    }
    return at;
}

uint32_t cmif_map_get(const cmif_map *map, cmif_str key)
{
    if (map->capacity == 0) {
        return CMIF_MAP_NONE;
    }
    const struct cmif_map_slot *slot = &map->slots[slot_of(map, key)];
    return slot->data ? slot->value : CMIF_MAP_NONE;
}

static bool map_grow(cmif_map *map)
{
    cmif_map grown = {.count = map->count, .capacity = map->capacity ? 2 * map->capacity : 1024};
    grown.slots    = calloc(grown.capacity, sizeof *grown.slots);
    if (!grown.slots) {
        return false;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].data) {
            grown.slots[slot_of(&grown, (cmif_str){map->slots[i].data, map->slots[i].size})] = map->slots[i];
        }
    }
    free(map->slots);
    *map = grown;
    return true;
}

uint32_t cmif_map_put(cmif_map *map, cmif_str key, uint32_t value)
{
    if (2 * map->count >= map->capacity && !map_grow(map)) {
        return CMIF_MAP_NONE;
    }
    struct cmif_map_slot *slot = &map->slots[slot_of(map, key)];
    if (!slot->data) {
        *slot = (struct cmif_map_slot){key.data, (uint32_t) key.size, value};
        map->count++;
    }
    return slot->value;
}

void cmif_map_free(cmif_map *map)
{
    free(map->slots);
    *map = (cmif_map){0};
}
