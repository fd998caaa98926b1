#include "internal.h"

#include "base/bytes.h"
#include "secret/secret.h"

#include <stdlib.h>

/* Words up to this many symbols are merged by scanning alone; longer ones go to the heap when scans stop paying. */
enum { SHORT_WORD = 64, POOR_SCANS = 6 };

/* ---- the table of pairs ---- */

static size_t pair_slot(const tok_merges *merges, uint64_t key)
{
    size_t at = (size_t) (key * 0x9e3779b97f4a7c15u >> merges->shift);
    while (merges->slots[at].rank != TOK_NONE && merges->slots[at].key != key) {
        at = (at + 1) & (merges->slot_count - 1);
    }
    return at;
}

static cmif_code slots_new(tok_merges *merges, size_t slot_count, cmif_err *err)
{
    tok_pair *slots = malloc(slot_count * sizeof *slots);
    if (!slots) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu merges", slot_count);
    }
    memset(slots, 0xff, slot_count * sizeof *slots);
    merges->slots      = slots;
    merges->slot_count = slot_count;
    merges->shift      = 64 - (unsigned) __builtin_ctzll(slot_count);
    return CMIF_OK;
}

cmif_code tok_merges_init(tok_merges *merges, size_t expected, cmif_err *err)
{
    size_t slot_count = 64;
    while (slot_count < expected + expected / 2) {
        slot_count *= 2;
    }
    *merges = (tok_merges){0};
    return slots_new(merges, slot_count, err);
}

void tok_merges_wipe(tok_merges *merges)
{
    free(merges->slots);
    *merges = (tok_merges){0};
}

cmif_code tok_merges_add(tok_merges *merges, uint32_t left, uint32_t right, uint32_t rank, uint32_t result,
                         cmif_err *err)
{
    if (merges->count >= merges->slot_count - merges->slot_count / 4) {
        tok_merges larger = *merges;
        cmif_code  rc     = slots_new(&larger, merges->slot_count * 2, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        for (size_t i = 0; i < merges->slot_count; i++) {
            if (merges->slots[i].rank != TOK_NONE) {
                larger.slots[pair_slot(&larger, merges->slots[i].key)] = merges->slots[i];
            }
        }
        free(merges->slots);
        *merges = larger;
    }
    uint64_t  key  = (uint64_t) left << 32 | right;
    tok_pair *pair = &merges->slots[pair_slot(merges, key)];
    if (pair->rank == TOK_NONE) {
        *pair = (tok_pair){key, rank, result};
        merges->count++;
    }
    return CMIF_OK;
}

static const tok_pair *find_pair(const tok_merges *merges, uint32_t left, uint32_t right)
{
    return &merges->slots[pair_slot(merges, (uint64_t) left << 32 | right)]; /* a free slot has rank TOK_NONE */
}

/* ---- words ---- */

cmif_code tok_word_reserve(tok_word *word, size_t capacity, cmif_err *err)
{
    if (capacity <= word->capacity) {
        return CMIF_OK;
    }
    size_t bytes = 0;
    if (!cmif_size_mul(capacity, 3 * sizeof(uint32_t), &bytes)) {
        return cmif_fail(err, CMIF_E_RANGE, "a word of %zu symbols is too long", capacity);
    }
    uint32_t *memory = malloc(bytes);
    if (!memory) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a word of %zu symbols", capacity);
    }
    tok_word_wipe(word);
    *word = (tok_word){memory, memory + capacity, memory + 2 * capacity, 0, capacity, memory};
    return CMIF_OK;
}

void tok_word_wipe(tok_word *word)
{
    if (word->memory) {
        cmif_wipe(word->memory, word->capacity * 3 * sizeof(uint32_t));
        free(word->memory);
    }
    *word = (tok_word){0};
}

/* Merge the pairs of the lowest rank from left to right, closing the gaps; stop early where what was made merges on no
 * later than they do (well-made vocabularies have none of that). Returns how many were merged. */
static size_t merge_lowest(const tok_merges *merges, tok_word *word)
{
    uint32_t *symbol = word->symbol, *from = word->from, *rank = word->rank;
    size_t    count  = word->count;
    uint32_t  lowest = TOK_NONE;
    for (size_t i = 0; i + 1 < count; i++) {
        lowest = rank[i] < lowest ? rank[i] : lowest;
    }
    if (lowest == TOK_NONE) {
        return 0;
    }
    size_t put = 0, merged = 0;
    while (rank[put] != lowest) {
        put++;
    }
    bool more = true;
    for (size_t i = put; i < count; put++) {
        uint32_t s = symbol[i], right = rank[i];
        from[put] = from[i++];
        if (more && right == lowest) { /* the last symbol has no rank, so i < count */
            s             = find_pair(merges, s, symbol[i++])->result;
            right         = i < count ? find_pair(merges, s, symbol[i])->rank : TOK_NONE;
            uint32_t left = put > 0 ? find_pair(merges, symbol[put - 1], s)->rank : TOK_NONE;
            if (put > 0) {
                rank[put - 1] = left;
            }
            more = left > lowest && right > lowest;
            merged++;
        }
        symbol[put] = s;
        rank[put]   = right; /* with the neighbour as it was; one that merges puts its own */
    }
    word->count = put;
    return merged;
}

/* The same for long words of many different pairs: a linked list, and a heap of (rank, left). An entry is stale when
 * the pair that now begins at left has another rank. */
static cmif_code merge_by_heap(const tok_merges *merges, tok_word *word, cmif_err *err)
{
    size_t    count = word->count, heap_count = 0, bytes = 0;
    uint32_t *next = NULL, *before;
    uint64_t *heap;
    if (!cmif_size_mul(count, 3 * sizeof *heap + 2 * sizeof *next, &bytes) || !(heap = malloc(bytes))) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to merge a word of %zu symbols", count);
    }
    next   = (uint32_t *) (heap + 3 * count); /* each merge pushes two at most */
    before = next + count;
    for (size_t i = 0; i < count; i++) {
        next[i]   = i + 1 < count ? (uint32_t) i + 1 : TOK_NONE;
        before[i] = i > 0 ? (uint32_t) i - 1 : TOK_NONE;
        if (word->rank[i] != TOK_NONE) {
            heap[heap_count++] = (uint64_t) word->rank[i] << 32 | i;
        }
    }
    tok_heap_make(heap, heap_count);
    while (heap_count > 0) {
        uint64_t key  = tok_heap_pop(heap, &heap_count);
        uint32_t left = (uint32_t) key;
        if (word->rank[left] != (uint32_t) (key >> 32)) {
            continue;
        }
        uint32_t right     = next[left];
        word->symbol[left] = find_pair(merges, word->symbol[left], word->symbol[right])->result;
        word->rank[right]  = TOK_NONE;
        next[left]         = next[right];
        word->rank[left]   = TOK_NONE;
        if (next[left] != TOK_NONE) {
            before[next[left]] = left;
            word->rank[left]   = find_pair(merges, word->symbol[left], word->symbol[next[left]])->rank;
            if (word->rank[left] != TOK_NONE) {
                tok_heap_push(heap, &heap_count, (uint64_t) word->rank[left] << 32 | left);
            }
        }
        uint32_t far_left = before[left];
        if (far_left != TOK_NONE) {
            word->rank[far_left] = find_pair(merges, word->symbol[far_left], word->symbol[left])->rank;
            if (word->rank[far_left] != TOK_NONE) {
                tok_heap_push(heap, &heap_count, (uint64_t) word->rank[far_left] << 32 | far_left);
            }
        }
    }
    size_t put = 0;
    for (uint32_t i = 0; i != TOK_NONE; i = next[i]) {
        word->symbol[put] = word->symbol[i];
        word->from[put++] = word->from[i];
    }
    word->count = put;
    cmif_wipe(heap, bytes);
    free(heap);
    return CMIF_OK;
}

cmif_code tok_merge(const tok_merges *merges, tok_word *word, cmif_err *err)
{
    for (size_t i = 0; i + 1 < word->count; i++) {
        word->rank[i] = find_pair(merges, word->symbol[i], word->symbol[i + 1])->rank;
    }
    if (word->count > 0) {
        word->rank[word->count - 1] = TOK_NONE;
    }
    for (size_t poor = 0; poor < POOR_SCANS;) {
        size_t count  = word->count;
        size_t merged = merge_lowest(merges, word);
        if (merged == 0) {
            return CMIF_OK;
        }
        poor += count > SHORT_WORD && merged < count / 16;
    }
    return merge_by_heap(merges, word, err);
}
