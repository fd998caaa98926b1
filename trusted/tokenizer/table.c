#include "internal.h"

#include "base/bytes.h"

#include <stdlib.h>

/* Vocabularies are public, so these hashes need no secret; texts come in only to be looked up. */
static uint64_t hash_bytes(const void *text, size_t size)
{
    const uint8_t *at   = text;
    uint64_t       hash = size * 0x9e3779b97f4a7c15u;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t eight;
        memcpy(&eight, at, 8);
        hash = (hash ^ eight) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    uint64_t rest = 0;
    memcpy(&rest, at, size);
    hash = (hash ^ rest) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 29;
}

static size_t slots_for(size_t count)
{
    size_t slots = 64;
    while (slots < count + count / 2) {
        slots *= 2;
    }
    return slots;
}

/* ---- pieces ---- */

cmif_code tok_pieces_init(tok_pieces *pieces, size_t expected, cmif_err *err)
{
    pieces->slot_count = slots_for(expected);
    pieces->capacity   = expected;
    pieces->slots      = malloc(pieces->slot_count * sizeof *pieces->slots);
    pieces->texts      = malloc(expected * sizeof *pieces->texts);
    if (!pieces->slots || !pieces->texts) {
        tok_pieces_wipe(pieces);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu tokens", expected);
    }
    memset(pieces->slots, 0xff, pieces->slot_count * sizeof *pieces->slots);
    return CMIF_OK;
}

void tok_pieces_wipe(tok_pieces *pieces)
{
    free(pieces->slots);
    free(pieces->texts);
    *pieces = (tok_pieces){0};
}

/* The slot that holds text, or the free one where it belongs. */
static size_t piece_slot(const tok_pieces *pieces, const void *text, size_t size)
{
    size_t mask = pieces->slot_count - 1, at = hash_bytes(text, size) & mask;
    for (; pieces->slots[at] != TOK_NONE; at = (at + 1) & mask) {
        const cmif_str *there = &pieces->texts[pieces->slots[at]];
        if (there->size == size && memcmp(there->data, text, size) == 0) {
            break;
        }
    }
    return at;
}

uint32_t tok_pieces_find(const tok_pieces *pieces, const void *text, size_t size)
{
    return pieces->slots[piece_slot(pieces, text, size)];
}

static cmif_code pieces_grow(tok_pieces *pieces, cmif_err *err)
{
    tok_pieces larger = {0};
    cmif_code  rc     = tok_pieces_init(&larger, pieces->capacity * 2, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    for (size_t i = 0; i < pieces->count; i++) {
        larger.slots[piece_slot(&larger, pieces->texts[i].data, pieces->texts[i].size)] = (uint32_t) i;
        larger.texts[larger.count++]                                                    = pieces->texts[i];
    }
    tok_pieces_wipe(pieces);
    *pieces = larger;
    return CMIF_OK;
}

cmif_code tok_pieces_add(tok_pieces *pieces, cmif_str text, uint32_t *symbol, bool *is_new, cmif_err *err)
{
    uint32_t found = tok_pieces_find(pieces, text.data, text.size);
    *is_new        = found == TOK_NONE;
    if (*is_new) {
        if (pieces->count == pieces->capacity) {
            cmif_code rc = pieces_grow(pieces, err);
            if (rc != CMIF_OK) {
                return rc;
            }
        }
        found                                                   = (uint32_t) pieces->count;
        pieces->slots[piece_slot(pieces, text.data, text.size)] = found;
        pieces->texts[pieces->count++]                          = text;
    }
    *symbol = found;
    return CMIF_OK;
}

/* ---- trie: edges in one hash table ---- */

struct tok_edge {
    uint32_t key; /* parent << 8 | byte; TOK_NONE: free */
    uint32_t child;
};

enum { TRIE_NODES = 1 << 23 }; /* so that a key fits */

static size_t edge_slot(const tok_trie *trie, uint32_t key)
{
    size_t mask = trie->slot_count - 1, at = (key * (uint64_t) 0x9e3779b97f4a7c15u >> 32) & mask;
    while (trie->slots[at].key != TOK_NONE && trie->slots[at].key != key) {
        at = (at + 1) & mask;
    }
    return at;
}

static struct tok_edge *edges_new(size_t count)
{
    struct tok_edge *slots = malloc(count * sizeof *slots);
    if (slots) {
        memset(slots, 0xff, count * sizeof *slots);
    }
    return slots;
}

cmif_code tok_trie_init(tok_trie *trie, cmif_err *err)
{
    *trie        = (tok_trie){.slot_count = 1024, .node_capacity = 512, .node_count = 1};
    trie->slots  = edges_new(trie->slot_count);
    trie->values = malloc(trie->node_capacity * sizeof *trie->values);
    if (!trie->slots || !trie->values) {
        tok_trie_wipe(trie);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a trie of tokens");
    }
    trie->values[0] = -1;
    memset(trie->root, 0xff, sizeof trie->root);
    return CMIF_OK;
}

void tok_trie_wipe(tok_trie *trie)
{
    free(trie->slots);
    free(trie->values);
    *trie = (tok_trie){0};
}

uint32_t tok_trie_step(const tok_trie *trie, uint32_t node, uint8_t byte)
{
    if (node == 0) {
        return trie->root[byte];
    }
    const struct tok_edge *edge = &trie->slots[edge_slot(trie, node << 8 | byte)];
    return edge->key == TOK_NONE ? TOK_NONE : edge->child;
}

static cmif_code trie_grow(tok_trie *trie, cmif_err *err)
{
    tok_trie larger = *trie;
    larger.slot_count *= 2;
    larger.node_capacity *= 2;
    larger.slots    = edges_new(larger.slot_count);
    int32_t *values = larger.slots ? realloc(trie->values, larger.node_capacity * sizeof *values) : NULL;
    if (!values) {
        free(larger.slots);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a trie of %zu nodes", trie->node_count);
    }
    larger.values = values;
    for (size_t i = 0; i < trie->slot_count; i++) {
        if (trie->slots[i].key != TOK_NONE) {
            larger.slots[edge_slot(&larger, trie->slots[i].key)] = trie->slots[i];
        }
    }
    free(trie->slots);
    *trie = larger;
    return CMIF_OK;
}

cmif_code tok_trie_add(tok_trie *trie, const void *text, size_t size, int32_t value, cmif_err *err)
{
    uint32_t node = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t  byte  = ((const uint8_t *) text)[i];
        uint32_t child = tok_trie_step(trie, node, byte);
        if (child == TOK_NONE) {
            if (trie->node_count == TRIE_NODES) {
                return cmif_fail(err, CMIF_E_UNSUPPORTED, "more than %d distinct token prefixes", TRIE_NODES);
            }
            if (trie->node_count == trie->node_capacity) {
                cmif_code rc = trie_grow(trie, err);
                if (rc != CMIF_OK) {
                    return rc;
                }
            }
            child                                          = (uint32_t) trie->node_count++;
            trie->values[child]                            = -1;
            trie->slots[edge_slot(trie, node << 8 | byte)] = (struct tok_edge){node << 8 | byte, child};
            if (node == 0) {
                trie->root[byte] = child;
            }
        }
        node = child;
    }
    trie->values[node] = value;
    return CMIF_OK;
}

/* ---- heap ---- */

static void sift_down(uint64_t *heap, size_t count, size_t at)
{
    uint64_t key = heap[at];
    for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (heap[child] >= key) {
            break;
        }
        heap[at] = heap[child];
        at       = child;
    }
    heap[at] = key;
}

void tok_heap_make(uint64_t *heap, size_t count)
{
    for (size_t i = count / 2; i-- > 0;) {
        sift_down(heap, count, i);
    }
}

void tok_heap_push(uint64_t *heap, size_t *count, uint64_t key)
{
    size_t at = (*count)++;
    for (; at > 0 && heap[(at - 1) / 2] > key; at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
    }
    heap[at] = key;
}

uint64_t tok_heap_pop(uint64_t *heap, size_t *count)
{
    uint64_t top = heap[0];
    heap[0]      = heap[--*count];
    if (*count > 0) {
        sift_down(heap, *count, 0);
    }
    return top;
}
