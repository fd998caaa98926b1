/* The words whose rows are nearest to the row that was sent. */
#include "attack_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const uint32_t cmif_attack_near[CMIF_ATTACK_NEAR] = {1, 5, 10};

enum { NEAR_MOST = 10, SIDE = 16 /* rows that are looked at side by side */ };

typedef struct nearest { /* of one sent row: words by cosine, highest first; of equals the lowest id */
    uint32_t count, word[NEAR_MOST];
    float    cosine[NEAR_MOST];
} nearest;

static void put_near(nearest *n, uint32_t word, float cosine)
{
    uint32_t at = n->count;
    if (at == NEAR_MOST && cosine <= n->cosine[at - 1]) {
        return;
    }
    n->count += at < NEAR_MOST;
    for (at = n->count - 1; at > 0 && n->cosine[at - 1] < cosine; at--) {
        n->word[at]   = n->word[at - 1];
        n->cosine[at] = n->cosine[at - 1];
    }
    n->word[at]   = word;
    n->cosine[at] = cosine;
}

static float inverse_length(const float *row, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++) {
        sum += (double) row[i] * (double) row[i];
    }
    return sum > 0 ? (float) (1 / sqrt(sum)) : 0;
}

/* Four numbers at once, said outright: what a compiler makes of plain loops here is eight times slower at -O3 than at
 * -O2. */
typedef float four __attribute__((vector_size(16)));

/* sums[j] = row * column j, in the order of the width */
static void dot_side(const float *restrict row, const four *restrict columns, size_t width, float sums[restrict SIDE])
{
    four a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < width; i++) {
        const four x = {row[i], row[i], row[i], row[i]};
        a += x * columns[4 * i];
        b += x * columns[4 * i + 1];
        c += x * columns[4 * i + 2];
        d += x * columns[4 * i + 3];
    }
    memcpy(sums, &a, sizeof a);
    memcpy(sums + 4, &b, sizeof b);
    memcpy(sums + 8, &c, sizeof c);
    memcpy(sums + 12, &d, sizeof d);
}

cmif_code cmif_attack_nearest(const cmif_attack *a, const float *rows, const float *sent, size_t width,
                              const cmif_attack_texts *texts, cmif_attack_score out[CMIF_ATTACK_NEAR], cmif_err *err)
{
    const uint32_t words   = a->table->word_count;
    cmif_code      rc      = CMIF_OK;
    uint32_t      *outputs = malloc(words * sizeof *outputs), *at = calloc(words, sizeof *at), count = 0;
    float   *inverse = malloc(words * sizeof *inverse), *columns = aligned_alloc(64, width * SIDE * sizeof *columns);
    nearest *near   = NULL;
    size_t   looked = 0;
    if (!outputs || !at || !inverse || !columns) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the rows of %u words", words);
        goto done;
    }
    for (looked = 0; looked < texts->count && count < CMIF_ATTACK_ROWS; looked++) { /* what is there to look for */
        const uint32_t output = texts->words[looked].released;
        if (texts->words[looked].kind == CMIF_ATTACK_DRAWN && output && !at[output]) {
            outputs[count] = output;
            at[output]     = ++count;
        }
    }
    near = calloc(count ? count : 1, sizeof *near);
    if (!near) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the neighbours of %u rows", count);
        goto done;
    }
    for (uint32_t word = 1; word < words; word++) {
        inverse[word] = inverse_length(rows + (size_t) word * width, width);
    }
    for (uint32_t first = 0; first < count; first += SIDE) {
        const uint32_t here = count - first < SIDE ? count - first : SIDE;
        float          sums[SIDE];
        memset(columns, 0, width * SIDE * sizeof *columns);
        for (uint32_t j = 0; j < here; j++) {
            for (size_t i = 0; i < width; i++) {
                columns[i * SIDE + j] = sent[(size_t) outputs[first + j] * width + i];
            }
        }
        for (uint32_t word = 1; word < words; word++) {
            dot_side(rows + (size_t) word * width, (const four *) (const void *) columns, width, sums);
            for (uint32_t j = 0; j < here; j++) { /* the length of what was sent is the same for all: left out */
                put_near(&near[first + j], word, sums[j] * inverse[word]);
            }
        }
    }
    memset(out, 0, CMIF_ATTACK_NEAR * sizeof *out);
    for (size_t i = 0; i < looked; i++) {
        const cmif_attack_word *w = &texts->words[i];
        if (w->kind != CMIF_ATTACK_DRAWN) {
            continue;
        }
        for (size_t k = 0; k < CMIF_ATTACK_NEAR; k++) {
            bool hit = false;
            for (uint32_t j = 0; w->released && j < cmif_attack_near[k] && j < near[at[w->released] - 1].count; j++) {
                hit = hit || near[at[w->released] - 1].word[j] == w->original;
            }
            out[k].drawn++;
            out[k].drawn_hits += hit;
            out[k].changed += w->released != w->original;
            out[k].changed_hits += hit && w->released != w->original;
        }
    }
done:
    free(outputs);
    free(at);
    free(inverse);
    free(columns);
    free(near);
    return rc;
}
