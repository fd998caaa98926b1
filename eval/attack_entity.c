/* Names and numbers: do they stand in what was released, and can surrogates be mapped back? */
#include "attack.h"

#include "secret/secret.h"

#include <stdlib.h>
#include <string.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char) c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c | 0x20) : c;
}

/* ---- what there is to find ---- */

typedef struct list {
    cmif_attack_entity *at;
    size_t              count, capacity;
} list;

static cmif_code put(list *l, size_t from, size_t to, cmif_err *err)
{
    if (l->count == l->capacity) {
        size_t              capacity = l->capacity ? 2 * l->capacity : 16;
        cmif_attack_entity *at       = realloc(l->at, capacity * sizeof *at);
        if (!at) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu entities", capacity);
        }
        l->at       = at;
        l->capacity = capacity;
    }
    l->at[l->count++] = (cmif_attack_entity){(uint32_t) from, (uint32_t) (to - from)};
    return CMIF_OK;
}

/* [[class|words]]: its end, behind the brackets; 0: no mark begins here. words: where they begin. */
static size_t mark_at(const char *text, size_t size, size_t at, size_t *words)
{
    *words = 0;
    if (size - at < 4 || text[at] != '[' || text[at + 1] != '[') {
        return 0;
    }
    for (size_t i = at + 2; i + 1 < size && text[i] != '\n'; i++) {
        if (text[i] == '|' && !*words) {
            *words = i + 1;
        }
        if (text[i] == ']' && text[i + 1] == ']') {
            return *words ? i + 2 : 0;
        }
    }
    return 0;
}

static cmif_code take_marks(char *text, size_t *size, list *l, cmif_err *err)
{
    size_t    put_at = 0, words;
    cmif_code rc     = CMIF_OK;
    for (size_t at = 0; rc == CMIF_OK && at < *size;) {
        size_t end = mark_at(text, *size, at, &words);
        if (!end) {
            text[put_at++] = text[at++];
            continue;
        }
        bool topic = at + 7 < *size && memcmp(text + at, "[[topic", 7) == 0; /* a word, no entity */
        bool brief = end - 2 - words < 3;                                    /* "20", "OR": stands anywhere by chance */
        memmove(text + put_at, text + words, end - 2 - words);
        rc = topic || brief ? CMIF_OK : put(l, put_at, put_at + (end - 2 - words), err);
        put_at += end - 2 - words;
        at = end;
    }
    if (rc == CMIF_OK && put_at < *size) {
        text[put_at] = '\0';
        *size        = put_at;
    }
    return rc;
}

/* Runs of pieces between white space that look like a name or a code; punctuation at their ends does not belong to
 * them. */
static cmif_code by_rule(const char *text, size_t size, list *l, cmif_err *err)
{
    size_t    run_from = 0, run_to = 0;
    bool      begins = true;
    cmif_code rc     = CMIF_OK;
    for (size_t at = 0; rc == CMIF_OK && at < size;) {
        size_t end = at, from, to, letters = 0, digits = 0, ats = 0;
        if (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r') {
            begins = begins || text[at] == '\n';
            at++;
            continue;
        }
        while (end < size && !strchr(" \t\n\r", text[end])) {
            letters += is_letter(text[end]);
            digits += is_digit(text[end]);
            ats += text[end] == '@';
            end++;
        }
        for (from = at; from < end && !is_letter(text[from]) && !is_digit(text[from]); from++) {
        }
        for (to = end; to > from && !is_letter(text[to - 1]) && !is_digit(text[to - 1]); to--) {
        }
        bool capital = from < to && text[from] >= 'A' && text[from] <= 'Z' && to - from > 2 && !begins;
        bool is      = to - from > 2 && (digits > 1 || (digits && letters) || ats || capital);
        if (is && run_to && run_to + 1 == from && text[run_to] == ' ') {
            run_to = to;
        } else if (is || run_to) {
            rc       = run_to ? put(l, run_from, run_to, err) : CMIF_OK;
            run_from = from;
            run_to   = is ? to : 0;
        }
        if (from < end) {
            begins = strchr(".!?:", text[end - 1]) != NULL;
        }
        at = end;
    }
    return rc == CMIF_OK && run_to ? put(l, run_from, run_to, err) : rc;
}

cmif_code cmif_attack_entities(char *text, size_t *size, cmif_attack_entity **out, size_t *count, cmif_err *err)
{
    list      l   = {NULL, 0, 0};
    size_t    had = *size;
    cmif_code rc  = take_marks(text, size, &l, err);
    if (rc == CMIF_OK && *size == had) {
        rc = by_rule(text, *size, &l, err);
    }
    if (rc != CMIF_OK) {
        free(l.at);
        return rc;
    }
    *out   = l.at;
    *count = l.count;
    return CMIF_OK;
}

/* ---- verbatim ---- */

static bool same(const char *a, const char *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (lower(a[i]) != lower(b[i])) {
            return false;
        }
    }
    return true;
}

/* Does it stand there as a word of its own, or words? */
static bool stands(const char *text, size_t size, const char *what, size_t what_size)
{
    for (size_t at = 0; what_size && at + what_size <= size; at++) {
        bool left  = at == 0 || !(is_letter(text[at - 1]) || is_digit(text[at - 1]));
        bool right = at + what_size == size || !(is_letter(text[at + what_size]) || is_digit(text[at + what_size]));
        if (left && right && same(text + at, what, what_size)) {
            return true;
        }
    }
    return false;
}

void cmif_attack_verbatim(cmif_attack_found *out, const char *text, const cmif_attack_entity *entities, size_t count,
                          const char *released, size_t released_size)
{
    for (size_t i = 0; i < count; i++) {
        const char  *what  = text + entities[i].from;
        const size_t size  = entities[i].size;
        const bool   whole = stands(released, released_size, what, size);
        bool         part  = whole;
        for (size_t from = 0, to; !part && from < size; from = to + 1) {
            for (to = from; to < size && (is_letter(what[to]) || is_digit(what[to])); to++) {
            }
            part = to - from >= 4 && stands(released, released_size, what + from, to - from);
        }
        out->entities++;
        out->whole += whole;
        out->part += part;
    }
}

/* ---- surrogates ---- */

enum { SLOTS_MOST = 1 << 14 };

typedef struct text_count { /* an original or a surrogate of a class, by hash: their letters are not kept */
    uint64_t hash;
    uint32_t times, rank;
    uint8_t class, made; /* made: a surrogate */
} text_count;

typedef struct pairing {
    uint32_t original, surrogate; /* in counts */
    uint32_t times;
} pairing;

struct cmif_attack_book {
    text_count *counts;
    pairing    *pairs;
    uint32_t    count, pair_count;
};

cmif_code cmif_attack_book_new(cmif_attack_book **out, cmif_err *err)
{
    cmif_attack_book *b = calloc(1, sizeof *b);
    if (b) {
        b->counts = malloc(SLOTS_MOST * sizeof *b->counts);
        b->pairs  = malloc(SLOTS_MOST * sizeof *b->pairs);
    }
    if (!b || !b->counts || !b->pairs) {
        cmif_attack_book_free(b);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %d surrogates", SLOTS_MOST);
    }
    *out = b;
    return CMIF_OK;
}

static void forget(cmif_attack_book *b)
{
    if (b->counts) {
        cmif_wipe(b->counts, SLOTS_MOST * sizeof *b->counts);
    }
    b->count = b->pair_count = 0;
}

void cmif_attack_book_free(cmif_attack_book *b)
{
    if (b) {
        forget(b);
        free(b->counts);
        free(b->pairs);
        free(b);
    }
}

static uint32_t find(cmif_attack_book *b, uint8_t class, bool made, const char *text, size_t size)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (uint8_t) lower(text[i])) * 1099511628211u;
    }
    uint32_t i = 0;
    while (i < b->count && (b->counts[i].hash != hash || b->counts[i].class != class || b->counts[i].made != made)) {
        i++;
    }
    if (i == b->count && i < SLOTS_MOST) {
        b->counts[b->count++] = (text_count){hash, 0, 0, class, made};
    }
    return i;
}

cmif_code cmif_attack_book_add(cmif_attack_book *b, uint8_t class, const char *original, size_t size,
                               const char *surrogate, size_t surrogate_size, cmif_err *err)
{
    const uint32_t x = find(b, class, false, original, size), y = find(b, class, true, surrogate, surrogate_size);
    uint32_t       i = 0;
    while (i < b->pair_count && (b->pairs[i].original != x || b->pairs[i].surrogate != y)) {
        i++;
    }
    if (x >= SLOTS_MOST || y >= SLOTS_MOST || i >= SLOTS_MOST) {
        return cmif_fail(err, CMIF_E_RANGE, "more than %d different surrogates in one conversation", SLOTS_MOST);
    }
    if (i == b->pair_count) {
        b->pairs[b->pair_count++] = (pairing){x, y, 0};
    }
    b->pairs[i].times++;
    b->counts[x].times++;
    b->counts[y].times++;
    return CMIF_OK;
}

/* How many of its kind are more frequent, or as frequent and before it by hash: chance, and the same on every run for
 * the same words */
static void rank(text_count *counts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        text_count *c = &counts[i];
        c->rank       = 0;
        for (uint32_t k = 0; k < count; k++) {
            const text_count *o = &counts[k];
            c->rank += o->class == c->class && o->made == c->made &&
                       (o->times > c->times || (o->times == c->times && o->hash < c->hash));
        }
    }
}

void cmif_attack_book_map(cmif_attack_book *b, cmif_attack_found *out)
{
    rank(b->counts, b->count);
    for (uint32_t i = 0; i < b->pair_count; i++) {
        const text_count *x = &b->counts[b->pairs[i].original], *y = &b->counts[b->pairs[i].surrogate];
        uint32_t          others = 0;
        for (uint32_t k = 0; k < b->count; k++) {
            others += b->counts[k].class == x->class && !b->counts[k].made;
        }
        out->surrogates += b->pairs[i].times;
        out->mapped += x->rank == y->rank ? b->pairs[i].times : 0;
        out->chance += (double) b->pairs[i].times / others;
    }
    forget(b);
}
