/* table_samples - tables for tests: random ones of every shape, and the bytes of a draft. */
#ifndef CMIF_TABLE_SAMPLES_H
#define CMIF_TABLE_SAMPLES_H

#include "table/layout.h"
#include "table/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_WORDS = 48, SAMPLE_OUTPUTS = 12 };

typedef struct sample { /* a draft and what it borrows */
    cmif_table_draft draft;
    char             text[SAMPLE_WORDS][16];
    cmif_str         words[SAMPLE_WORDS];
    uint32_t         prior[SAMPLE_WORDS], row_of[SAMPLE_WORDS], block_of[SAMPLE_WORDS], block_at[SAMPLE_WORDS + 1];
    uint32_t         outputs[SAMPLE_WORDS * SAMPLE_OUTPUTS];
    uint64_t         weights[SAMPLE_WORDS * SAMPLE_OUTPUTS];
} sample;

static uint64_t sample_state = 1;

/* splitmix64, so that a seed gives the same tables everywhere */
static inline uint64_t sample_random(void)
{
    uint64_t z = sample_state += 0x9e3779b97f4a7c15u;
    z          = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z          = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint32_t sample_below(uint32_t n)
{
    return (uint32_t) (sample_random() % n);
}

/* n weights that sum to 2^bits: few different ones (so that losses tie), alike but for noise, or anything down to 1. */
static inline void sample_weights(uint64_t *w, uint32_t n, uint32_t bits, uint32_t style)
{
    uint64_t left = (uint64_t) 1 << bits;
    for (uint32_t j = 0; j + 1 < n; j++) {
        const uint64_t fair = left / (n - j);
        uint64_t       take = fair;
        if (style == 0) {
            take = ((uint64_t) 1 << bits) / 64 * (1 + sample_below(3));
        } else if (style == 1) {
            take = fair / 2 + sample_random() % fair;
        } else if (style == 2) {
            take = sample_below(3) ? 1 + sample_random() % (fair * 2 - 1) : 1 + sample_below(4);
        }
        w[j] = take < left - (n - j - 1) ? take : fair;
        left -= w[j];
    }
    w[n - 1] = left;
}

static inline void sample_block(sample *s, uint32_t block, uint32_t most)
{
    cmif_table_draft *d    = &s->draft;
    uint32_t          at   = s->block_at[block], left = most, words = d->word_count;
    for (uint32_t w = 0; w < words && left > 0; w++) {
        if (sample_below(words - w) < left) { /* each subset of `most` words alike */
            s->outputs[at++] = w;
            left--;
        }
    }
    s->block_at[block + 1] = at;
}

/* A table that claims nothing: words in ascending order, shared rows now and then, blocks of any shape (one block, or the
 * outputs of all alike, with `common`). */
static inline void sample_make(sample *s, bool common)
{
    static const char *const marks[] = {"", "\xc3\xa9", "'s", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    cmif_table_draft        *d       = &s->draft;
    memset(s, 0, sizeof *s);
    d->claim         = (cmif_table_claim){.mechanism = CMIF_MECHANISM_CUSTEXT, .k = 1, .epsilon_den = 1};
    d->weight_bits   = sample_below(2) ? 32 : 63;
    d->word_count    = 1 + sample_below(SAMPLE_WORDS);
    d->weight_stride = SAMPLE_OUTPUTS;
    const bool     share  = sample_below(2), single = common && sample_below(2);
    const uint32_t groups = 1 + sample_below(12);
    for (uint32_t w = 0; w < d->word_count; w++) {
        if (w) {
            snprintf(s->text[w], sizeof s->text[w], "w%02u%s", w, marks[sample_below(5)]);
        }
        s->words[w]  = (cmif_str){s->text[w], strlen(s->text[w])};
        s->prior[w]  = 1 + (uint32_t) (sample_random() >> 33);
        s->row_of[w] = share && w && sample_below(3) == 0 ? sample_below(d->row_count) : d->row_count;
        d->row_count += s->row_of[w] == d->row_count;
    }
    for (uint32_t r = 0; r < d->row_count; r++) {
        uint32_t block = single ? 0 : sample_below(groups);
        s->block_of[r] = block < d->block_count ? block : d->block_count;
        d->block_count += s->block_of[r] == d->block_count;
    }
    const uint32_t style = sample_below(4);
    for (uint32_t b = 0; b < d->block_count; b++) {
        uint32_t rows = 0, words = 0, first = 0;
        for (uint32_t w = d->word_count; w-- > 0;) {
            const bool inside = s->block_of[s->row_of[w]] == b;
            words += inside;
            first = inside ? w : first;
            rows += inside;
        }
        uint32_t most = d->word_count < SAMPLE_OUTPUTS ? d->word_count : SAMPLE_OUTPUTS;
        if (common && b) {
            memcpy(&s->outputs[s->block_at[b]], s->outputs, s->block_at[1] * sizeof *s->outputs);
            s->block_at[b + 1] = s->block_at[b] + s->block_at[1];
        } else if (words == 1 && !common) { /* alone: as it is */
            s->outputs[s->block_at[b]] = first;
            s->block_at[b + 1]         = s->block_at[b] + 1;
        } else {
            sample_block(s, b, 1 + sample_below(most));
        }
    }
    for (uint32_t r = 0; r < d->row_count; r++) {
        const uint32_t b = s->block_of[r];
        sample_weights(&s->weights[r * SAMPLE_OUTPUTS], s->block_at[b + 1] - s->block_at[b], d->weight_bits, style);
    }
    d->words    = s->words;
    d->prior    = s->prior;
    d->row_of   = share ? s->row_of : NULL;
    d->block_of = s->block_of;
    d->block_at = s->block_at;
    d->outputs  = s->outputs;
    d->weights  = s->weights;
}

/* Claim millionths of epsilon, in lowest terms. */
static inline void sample_claim(cmif_table_claim *claim, cmif_adjacency adjacency, uint64_t micro)
{
    uint64_t a = micro, b = 1000000;
    while (b) {
        const uint64_t rest = a % b;
        a                   = b;
        b                   = rest;
    }
    claim->adjacency   = adjacency;
    claim->epsilon_num = micro / a;
    claim->epsilon_den = 1000000 / a;
}

/* Bytes of a file, aligned and to be freed; NULL when it cannot be read. */
static inline uint8_t *sample_read(const char *path, size_t *size)
{
    FILE    *file  = fopen(path, "rb");
    uint8_t *bytes = NULL;
    if (file && fseek(file, 0, SEEK_END) == 0) {
        *size = (size_t) ftell(file);
        rewind(file);
        bytes = aligned_alloc(TABLE_ALIGNMENT, (size_t) table_padded(*size + 1));
        if (bytes && fread(bytes, 1, *size, file) != *size) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (file) {
        fclose(file);
    }
    return bytes;
}

/* Make the hash fit again, so that a later check has to refuse. */
static inline void sample_seal(uint8_t *bytes, size_t size)
{
    if (table_hash(bytes, size - TABLE_HASH_SIZE, bytes + size - TABLE_HASH_SIZE, NULL) != CMIF_OK) {
        abort();
    }
}

static inline void sample_put(uint8_t *bytes, size_t at, uint64_t value, size_t width)
{
    memcpy(bytes + at, &value, width);
}

static inline uint64_t sample_get(const uint8_t *bytes, size_t at, size_t width)
{
    uint64_t value = 0;
    memcpy(&value, bytes + at, width);
    return value;
}

/* Where header fields are; docs/channel.md. */
enum {
    AT_VERSION = 6, AT_LEXICON_HASH = 8, AT_MECHANISM = 104, AT_NOISE = 108, AT_ADJACENCY = 112, AT_CALIBRATED = 116,
    AT_K = 120, AT_WEIGHT_BITS = 124, AT_EPSILON_NUM = 128, AT_EPSILON_DEN = 136, AT_WORD_COUNT = 144, AT_ROW_COUNT = 148,
    AT_BLOCK_COUNT = 152, AT_OUTPUT_TOTAL = 156, AT_STRIDE = 160, AT_TEXT_SIZE = 164, AT_ROWS_SHARED = 168,
    AT_RESERVED = 172, AT_FILE_SIZE = 176, AT_ZEROS = 184
};

#endif
