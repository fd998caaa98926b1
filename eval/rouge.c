#include "rouge.h"

#include "porter.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* One text: its words by number, the same number for the same word in both texts. */
typedef struct words {
    uint32_t *ids;   /* (count) */
    size_t   *lines; /* (line_count + 1) where each line's words begin; lines without a word are not counted */
    size_t    count, line_count;
} words;

/* Numbers of words: open addressing, at most half full. */
#define SLOTS (4 * CMIF_ROUGE_WORDS)
typedef struct numbers {
    struct {
        const char *text;
        size_t      size;
        uint32_t    id;
    } slots[SLOTS];
    uint32_t used;
} numbers;

static uint32_t number_of(numbers *all, const char *text, size_t size)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char) text[i]) * 1099511628211u;
    }
    size_t at = (size_t) (hash ^ hash >> 32) % SLOTS;
    while (all->slots[at].text && (all->slots[at].size != size || memcmp(all->slots[at].text, text, size) != 0)) {
        at = (at + 1) % SLOTS;
    }
    if (!all->slots[at].text) {
        all->slots[at].text = text;
        all->slots[at].size = size;
        all->slots[at].id   = all->used++;
    }
    return all->slots[at].id;
}

/* Lower case into out, which holds size bytes: a-z, 0-9 and newlines stay, all else is a blank. Of the letters beyond
 * ASCII two have lower-case forms with an ASCII letter, as Python lowers them: the Kelvin sign, and the capital I with
 * a dot. */
static size_t lower(const char *text, size_t size, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z') {
            c = (char) (c - 'A' + 'a');
        } else if (size - i >= 3 && memcmp(text + i, "\xe2\x84\xaa", 3) == 0) {
            c = 'k';
            i += 2;
        } else if (size - i >= 2 && memcmp(text + i, "\xc4\xb0", 2) == 0) {
            out[used++] = 'i'; /* and a combining dot, which is no letter */
            c           = ' ';
            i += 1;
        }
        out[used++] = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\n' ? c : ' ';
    }
    return used;
}

/* Cut the lowered text into words and number them; stems are made where the words lie. */
static cmif_code cut(char *text, size_t size, bool stem, numbers *all, words *out, const char *which, cmif_err *err)
{
    bool fresh = true; /* the next word begins a line */
    for (size_t i = 0; i < size;) {
        if (text[i] == ' ' || text[i] == '\n') {
            fresh = fresh || text[i] == '\n';
            i++;
            continue;
        }
        size_t end = i;
        while (end < size && text[end] != ' ' && text[end] != '\n') {
            end++;
        }
        if (out->count == CMIF_ROUGE_WORDS) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "%s has more than %d words, the most that ROUGE is computed of: shorten it", which,
                             CMIF_ROUGE_WORDS);
        }
        if (fresh) {
            out->lines[out->line_count++] = out->count;
            fresh                         = false;
        }
        size_t length          = stem && end - i > 3 ? cmif_porter_stem(text + i, end - i) : end - i;
        out->ids[out->count++] = number_of(all, text + i, length);
        i                      = end;
    }
    out->lines[out->line_count] = out->count;
    return CMIF_OK;
}

static cmif_rouge_score ratio(size_t hits, size_t found, size_t expected)
{
    cmif_rouge_score s = {0};
    if (hits > 0) {
        s.precision = (double) hits / (double) found;
        s.recall    = (double) hits / (double) expected;
        s.f1        = 2 * s.precision * s.recall / (s.precision + s.recall);
    }
    return s;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

/* n-grams (n of 1 or 2) of both texts, sorted, and counted where they meet. */
static cmif_rouge_score grams(const words *reference, const words *text, size_t n, uint64_t *room)
{
    const words *of[2] = {reference, text};
    uint64_t    *all[2];
    size_t       count[2];
    for (size_t side = 0; side < 2; side++) {
        all[side]   = room + side * CMIF_ROUGE_WORDS;
        count[side] = of[side]->count < n ? 0 : of[side]->count - n + 1;
        for (size_t i = 0; i < count[side]; i++) {
            all[side][i] = of[side]->ids[i] | (n == 2 ? (uint64_t) of[side]->ids[i + 1] << 32 : 0);
        }
        qsort(all[side], count[side], sizeof *room, by_value);
    }
    size_t hits = 0;
    for (size_t i = 0, j = 0; i < count[0] && j < count[1];) {
        bool same = all[0][i] == all[1][j];
        bool left = same || all[0][i] < all[1][j];
        hits += same;
        j += same || !left;
        i += left;
    }
    return ratio(hits, count[1], count[0]);
}

/* Length of the longest common subsequence of two runs of words. row has room for both[1] + 1 lengths. With back, which
 * has room for a byte a pair, *in_reference is set to true at the words of one such subsequence: the one that
 * rouge-score finds, going back from the ends and leaving a word of the reference where both ways are as long. */
static size_t common(const uint32_t *reference, size_t rows, const uint32_t *text, size_t columns, uint16_t *row,
                     uint8_t *back, bool *in_reference)
{
    memset(row, 0, (columns + 1) * sizeof *row);
    for (size_t i = 0; i < rows; i++) {
        uint16_t corner = 0; /* the length up-left of here */
        for (size_t j = 0; j < columns; j++) {
            uint16_t up = row[j + 1], left = row[j];
            if (reference[i] == text[j]) {
                row[j + 1] = (uint16_t) (corner + 1);
            } else {
                row[j + 1] = left > up ? left : up;
            }
            if (back) {
                back[i * columns + j] = left > up;
            }
            corner = up;
        }
    }
    for (size_t i = back ? rows : 0, j = columns; i > 0 && j > 0;) {
        if (reference[i - 1] == text[j - 1]) {
            in_reference[--i] = true;
            j--;
        } else if (back[(i - 1) * columns + j - 1]) {
            j--;
        } else {
            i--;
        }
    }
    return row[columns];
}

/* Lsum: of each line of the reference, the words in a longest common subsequence with any line of the text; a word
 * counts no more often than it stands in either text. */
static cmif_code line_by_line(const words *reference, const words *text, size_t distinct, uint16_t *row,
                              cmif_rouge_score *out, cmif_err *err)
{
    cmif_code rc      = CMIF_OK;
    size_t    longest = 0, widest = 0;
    for (size_t i = 0; i < reference->line_count; i++) {
        size_t size = reference->lines[i + 1] - reference->lines[i];
        longest     = size > longest ? size : longest;
    }
    for (size_t i = 0; i < text->line_count; i++) {
        size_t size = text->lines[i + 1] - text->lines[i];
        widest      = size > widest ? size : widest;
    }
    uint8_t  *back  = malloc(longest * widest + 1);
    uint32_t *left  = calloc(2 * distinct + 1, sizeof *left); /* how often each word may still count: reference, text */
    bool     *found = calloc(reference->count + 1, sizeof *found);
    if (!back || !left || !found) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to compare %zu by %zu words", longest, widest);
        goto done;
    }
    for (size_t i = 0; i < reference->count; i++) {
        left[2 * reference->ids[i]]++;
    }
    for (size_t i = 0; i < text->count; i++) {
        left[2 * text->ids[i] + 1]++;
    }
    size_t hits = 0;
    for (size_t r = 0; r < reference->line_count; r++) {
        size_t begin = reference->lines[r], end = reference->lines[r + 1];
        for (size_t t = 0; t < text->line_count; t++) {
            size_t from = text->lines[t];
            (void) common(reference->ids + begin, end - begin, text->ids + from, text->lines[t + 1] - from, row, back,
                          found + begin);
        }
        for (size_t i = begin; i < end; i++) {
            uint32_t *both = left + 2 * (size_t) reference->ids[i];
            if (found[i] && both[0] > 0 && both[1] > 0) {
                both[0]--;
                both[1]--;
                hits++;
            }
        }
    }
    *out = ratio(hits, text->count, reference->count);
done:
    free(found);
    free(left);
    free(back);
    return rc;
}

cmif_code cmif_rouge_score_text(const char *reference, size_t reference_size, const char *text, size_t text_size,
                                bool stem, cmif_rouge *scores, cmif_err *err)
{
    cmif_code  rc       = CMIF_OK;
    char      *lowered  = NULL;
    numbers   *all      = calloc(1, sizeof *all);
    uint64_t  *room     = calloc(2 * CMIF_ROUGE_WORDS, sizeof *room);
    uint16_t  *row      = calloc(CMIF_ROUGE_WORDS + 1, sizeof *row);
    words      both[2]  = {{0}};
    cmif_rouge result   = {0};
    size_t     sizes[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        both[i].ids   = calloc(CMIF_ROUGE_WORDS, sizeof *both[i].ids);
        both[i].lines = calloc(CMIF_ROUGE_WORDS + 1, sizeof *both[i].lines);
    }
    if (text_size < SIZE_MAX - 1 - reference_size) {
        lowered = malloc(reference_size + text_size + 1);
    }
    if (!lowered || !all || !room || !row || !both[0].ids || !both[0].lines || !both[1].ids || !both[1].lines) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to score a text of %zu bytes", text_size);
        goto done;
    }
    sizes[0] = lower(reference, reference_size, lowered);
    sizes[1] = lower(text, text_size, lowered + sizes[0]);
    rc       = cut(lowered, sizes[0], stem, all, &both[0], "the reference", err);
    if (rc == CMIF_OK) {
        rc = cut(lowered + sizes[0], sizes[1], stem, all, &both[1], "the text", err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    result.one = grams(&both[0], &both[1], 1, room);
    result.two = grams(&both[0], &both[1], 2, room);
    size_t length =
        common(both[0].ids, both[0].count, both[1].ids, both[1].count, row, /* back= */ NULL, /* in_reference= */ NULL);
    result.l = ratio(length, both[1].count, both[0].count);
    rc       = line_by_line(&both[0], &both[1], all->used, row, &result.lsum, err);
    if (rc == CMIF_OK) {
        *scores = result;
    }
done:
    for (size_t i = 0; i < 2; i++) {
        free(both[i].lines);
        free(both[i].ids);
    }
    free(row);
    free(room);
    free(all);
    free(lowered);
    return rc;
}
