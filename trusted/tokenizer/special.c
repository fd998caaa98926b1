#include "internal.h"

#include "base/bytes.h"

#include <stdlib.h>

enum { START_LITERAL = 1, START_TEXT = 2 };

static int by_size(const void *a, const void *b)
{
    const tok_special *x = a, *y = b;
    return x->size != y->size ? (x->size < y->size ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

cmif_code tok_specials_finish(tok_specials *specials, const cmif_str *texts, cmif_err *err)
{
    cmif_code rc = tok_trie_init(&specials->trie, err);
    if (specials->count > 0) {
        qsort(specials->items, specials->count, sizeof *specials->items, by_size);
    }
    for (size_t i = 0; rc == CMIF_OK && i < specials->count; i++) {
        tok_special   *s    = &specials->items[i];
        const uint8_t *text = (const uint8_t *) texts[s->id].data;
        uint8_t        mark = s->in_text ? START_LITERAL | START_TEXT : START_LITERAL;
        s->priority         = (uint32_t) i;
        specials->any_in_text |= s->in_text;
        specials->any_strip |= s->strip_left || s->strip_right;
        for (unsigned second = 0; s->size == 1 && second < 256; second++) {
            specials->starts[(unsigned) text[0] << 8 | second] |= mark;
        }
        if (s->size > 1) {
            specials->starts[text[0] << 8 | text[1]] |= mark;
        }
        rc = tok_trie_add(&specials->trie, text, s->size, (int32_t) i, err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < specials->count; i++) {
        tok_special   *s    = &specials->items[i];
        const uint8_t *text = (const uint8_t *) texts[s->id].data;
        uint32_t       node = 0;
        s->shorter          = TOK_NONE;
        for (uint32_t at = 0; at + 1 < s->size; at++) {
            node = tok_trie_step(&specials->trie, node, text[at]);
            if (specials->trie.values[node] >= 0) {
                s->shorter = (uint32_t) specials->trie.values[node];
            }
        }
    }
    return rc;
}

void tok_specials_wipe(tok_specials *specials)
{
    tok_trie_wipe(&specials->trie);
    free(specials->items);
    specials->items = NULL;
    specials->count = 0;
}

/* A place where a special token could be. The library takes the longest token first, everywhere, then the next one in
 * what is left: so where candidates overlap, the order is (length, position). Candidates that touch no other need no
 * order at all: they are settled a cluster at a time. */
typedef struct candidate {
    uint32_t at, special;
    uint32_t literal_to; /* end of the literal it lies in; 0: ordinary text */
} candidate;

/* User-defined tokens may be anywhere, others wholly inside a literal. */
static bool is_allowed(const tok_special *special, size_t at, size_t literal_to)
{
    return special->in_text || at + special->size <= literal_to;
}

typedef struct search {
    const tok_specials *specials;
    const uint8_t      *text;
    size_t              size;
    candidate          *cluster;
    size_t              cluster_count, cluster_capacity;
    size_t              cluster_from, cluster_to; /* bytes that it may claim */
    tok_claim          *claims;
    size_t              claim_count, claim_capacity;
} search;

static cmif_code grow(void **items, size_t *capacity, size_t item_size, cmif_err *err)
{
    size_t more = *capacity ? *capacity * 2 : 64, bytes = 0;
    void  *moved = cmif_size_mul(more, item_size, &bytes) ? realloc(*items, bytes) : NULL;
    if (!moved) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu special tokens", more);
    }
    *items    = moved;
    *capacity = more;
    return CMIF_OK;
}

static bool is_ascii_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int by_place(const void *a, const void *b)
{
    const tok_claim *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static bool is_free(const uint8_t *taken, size_t from, size_t to)
{
    return memchr(taken + from, 1, to - from) == NULL;
}

static cmif_code put_claim(search *s, size_t from, size_t to, int32_t id, cmif_err *err)
{
    if (s->claim_count == s->claim_capacity) {
        cmif_code rc = grow((void **) &s->claims, &s->claim_capacity, sizeof *s->claims, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    s->claims[s->claim_count++] = (tok_claim){(uint32_t) from, (uint32_t) to, id};
    return CMIF_OK;
}

static cmif_code settle(search *s, cmif_err *err)
{
    cmif_code          rc    = CMIF_OK;
    const tok_special *items = s->specials->items;
    size_t             base = s->cluster_from, room = s->cluster_to - base, first = s->claim_count, count = 0;
    uint64_t          *heap  = NULL;
    uint8_t           *taken = NULL;
    if (s->cluster_count == 1 && !s->specials->any_strip) {
        const tok_special *only = &items[s->cluster[0].special];
        rc                      = put_claim(s, s->cluster[0].at, s->cluster[0].at + only->size, only->id, err);
        goto done;
    }
    heap  = malloc(s->cluster_count * sizeof *heap);
    taken = calloc(room, 1);
    if (!heap || !taken) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to order %zu special tokens", s->cluster_count);
        goto done;
    }
    for (; count < s->cluster_count; count++) {
        heap[count] = (uint64_t) items[s->cluster[count].special].priority << 32 | count;
    }
    tok_heap_make(heap, count);
    while (count > 0) {
        uint64_t           key     = tok_heap_pop(heap, &count);
        const candidate   *c       = &s->cluster[(uint32_t) key]; /* in order of position */
        const tok_special *special = &items[key >> 32];           /* in order of priority */
        size_t             from = c->at - base, to = from + special->size;
        if (!is_free(taken, from, to)) {
            uint32_t shorter = taken[from] ? TOK_NONE : special->shorter;
            while (shorter != TOK_NONE && !is_allowed(&items[shorter], c->at, c->literal_to)) {
                shorter = items[shorter].shorter;
            }
            if (shorter != TOK_NONE) {
                tok_heap_push(heap, &count, (uint64_t) shorter << 32 | (uint32_t) key);
            }
            continue;
        }
        while (special->strip_left && from > 0 && !taken[from - 1] && is_ascii_space(s->text[base + from - 1])) {
            from--;
        }
        while (special->strip_right && to < room && !taken[to] && is_ascii_space(s->text[base + to])) {
            to++;
        }
        memset(taken + from, 1, to - from);
        rc = put_claim(s, base + from, base + to, special->id, err);
        if (rc != CMIF_OK) {
            goto done;
        }
    }
    if (s->claim_count > first) {
        qsort(s->claims + first, s->claim_count - first, sizeof *s->claims, by_place);
    }
done:
    free(heap);
    free(taken);
    s->cluster_count = 0;
    return rc;
}

/* The longest special token at `at` that may be there. */
static cmif_code add_candidate(search *s, size_t at, const tok_span *span, cmif_err *err)
{
    const tok_specials *specials   = s->specials;
    size_t              literal_to = span->literal ? span->to : 0;
    uint32_t            node = 0, best = TOK_NONE;
    for (size_t i = at; i < s->size && (node = tok_trie_step(&specials->trie, node, s->text[i])) != TOK_NONE; i++) {
        int32_t value = specials->trie.values[node];
        if (value >= 0 && is_allowed(&specials->items[value], at, literal_to)) {
            best = (uint32_t) value;
        }
    }
    if (best == TOK_NONE) {
        return CMIF_OK;
    }
    size_t from = at, to = at + specials->items[best].size;
    while (specials->any_strip && from > 0 && is_ascii_space(s->text[from - 1])) {
        from--;
    }
    while (specials->any_strip && to < s->size && is_ascii_space(s->text[to])) {
        to++;
    }
    if (s->cluster_count > 0 && from >= s->cluster_to) {
        cmif_code rc = settle(s, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    if (s->cluster_count == 0) {
        s->cluster_from = from;
        s->cluster_to   = to;
    }
    s->cluster_to = to > s->cluster_to ? to : s->cluster_to;
    if (s->cluster_count == s->cluster_capacity) {
        cmif_code rc = grow((void **) &s->cluster, &s->cluster_capacity, sizeof *s->cluster, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    s->cluster[s->cluster_count++] = (candidate){(uint32_t) at, best, (uint32_t) literal_to};
    return CMIF_OK;
}

cmif_code tok_specials_find(const tok_specials *specials, const uint8_t *text, const tok_span *spans, size_t span_count,
                            tok_claim **claims, size_t *claim_count, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    search    s  = {.specials = specials, .text = text, .size = span_count ? spans[span_count - 1].to : 0};
    for (size_t i = 0; i < span_count; i++) {
        const tok_span *span = &spans[i];
        uint8_t         want = span->literal ? START_LITERAL : START_TEXT;
        if (specials->count == 0 || (!span->literal && !specials->any_in_text)) {
            continue;
        }
        for (size_t at = span->from; at < span->to; at++) {
            unsigned second = at + 1 < s.size ? text[at + 1] : 0;
            if (specials->starts[(unsigned) text[at] << 8 | second] & want) {
                rc = add_candidate(&s, at, span, err);
                if (rc != CMIF_OK) {
                    goto done;
                }
            }
        }
    }
    if (s.cluster_count > 0) {
        rc = settle(&s, err);
    }
    if (rc == CMIF_OK) {
        *claims      = s.claims;
        *claim_count = s.claim_count;
        s.claims     = NULL;
    }
done:
    free(s.cluster);
    free(s.claims);
    return rc;
}
