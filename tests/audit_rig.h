/* audit_rig - tables and statistics for the tests, the audit and the benchmarks of drawing. No part of any program people run.
 *
 * Tables go through the writer and are opened again, so that they are certified like any other. */
#ifndef CMIF_TESTS_AUDIT_RIG_H
#define CMIF_TESTS_AUDIT_RIG_H

#include "side.h"

#include "table/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NULL, with the reason on stderr, when the draft is refused. */
static inline cmif_table *rig_open(const cmif_table_draft *draft)
{
    char        path[] = "/tmp/cmif-rig-XXXXXX";
    cmif_err    err    = {0};
    cmif_table *table  = NULL;
    int         fd     = mkstemp(path);
    if (fd < 0 || cmif_table_write(draft, path, &err) != CMIF_OK || cmif_table_open(path, &table, NULL, &err) != CMIF_OK) {
        fprintf(stderr, "rig: no table: %s\n", err.text);
    }
    if (fd >= 0) {
        close(fd);
        (void) unlink(path);
    }
    return table;
}

/* Weights of a row of `size` outputs, of which `self` is the word's own; they sum to total. */
typedef void rig_weights(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights);

/* One output boosted `boost` times over the others, which are alike: k-ary randomized response. */
static inline void rig_boost(uint64_t boost, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    uint64_t part = total / (size - 1 + boost);
    for (uint32_t j = 0; j < size; j++) {
        weights[j] = part;
    }
    weights[self] = total - part * (size - 1);
}

/* Every word releases a word of its block. Block numbers are in the order of their first words; block 0 is word 0's. */
static inline cmif_table *rig_blocks(const cmif_str *words, const uint32_t *block_of, uint32_t count, uint32_t blocks,
                                     uint32_t bits, uint64_t epsilon, rig_weights *weights)
{
    uint32_t   *prior = malloc(count * sizeof *prior), *outputs = malloc(count * sizeof *outputs);
    uint32_t   *at = calloc(blocks + 1, sizeof *at), *self = malloc(count * sizeof *self);
    uint64_t   *rows   = NULL;
    cmif_table *table  = NULL;
    uint32_t    widest = 1;
    if (!prior || !outputs || !at || !self) {
        goto done;
    }
    for (uint32_t w = 0; w < count; w++) {
        prior[w] = 1;
        self[w]  = at[block_of[w] + 1]++;
    }
    for (uint32_t b = 0; b < blocks; b++) {
        widest = widest > at[b + 1] ? widest : at[b + 1];
        at[b + 1] += at[b];
    }
    rows = malloc((size_t) count * widest * sizeof *rows);
    for (uint32_t w = 0; rows && w < count; w++) {
        outputs[at[block_of[w]] + self[w]] = w;
        weights(w, self[w], at[block_of[w] + 1] - at[block_of[w]], (uint64_t) 1 << bits, rows + (size_t) w * widest);
    }
    if (rows) {
        table = rig_open(&(cmif_table_draft){.claim         = {.mechanism   = CMIF_MECHANISM_RNM,
                                                               .noise       = CMIF_NOISE_LAPLACE,
                                                               .adjacency   = CMIF_ADJACENT_BLOCK,
                                                               .k           = widest,
                                                               .epsilon_num = epsilon,
                                                               .epsilon_den = 1},
                                             .weight_bits   = bits,
                                             .word_count    = count,
                                             .row_count     = count,
                                             .block_count   = blocks,
                                             .words         = words,
                                             .prior         = prior,
                                             .block_of      = block_of,
                                             .block_at      = at,
                                             .outputs       = outputs,
                                             .weights       = rows,
                                             .weight_stride = widest});
    }
done:
    free(rows);
    free(self);
    free(at);
    free(outputs);
    free(prior);
    return table;
}

/* `count` made-up words in blocks of k (the empty word alone, the last block smaller): "aaaa", "aaab", ... */
static inline cmif_table *rig_made_up(uint32_t count, uint32_t k, uint32_t bits, uint64_t epsilon, rig_weights *weights)
{
    cmif_str   *words = malloc(count * sizeof *words);
    uint32_t   *block = malloc(count * sizeof *block);
    char       *text  = malloc((size_t) count * 4);
    cmif_table *table = NULL;
    for (uint32_t w = 0; words && block && text && w < count; w++) {
        uint32_t rest = w;
        for (int i = 3; i >= 0; i--, rest /= 26) {
            text[4 * w + (uint32_t) i] = (char) ('a' + rest % 26);
        }
        words[w] = (cmif_str){text + (size_t) 4 * w, w ? 4 : 0};
        block[w] = w ? 1 + (w - 1) / k : 0;
    }
    if (words && block && text) {
        table = rig_blocks(words, block, count, 1 + (count - 1 + k - 1) / k, bits, epsilon, weights);
    }
    free(text);
    free(block);
    free(words);
    return table;
}

/* Upper tail of the chi-square distribution: regularized incomplete gamma, by series or continued fraction (Lentz). */
static inline double rig_chi_square_tail(double x, double degrees)
{
    const double a = degrees / 2, tiny = 1e-300;
    x /= 2;
    if (x <= 0) {
        return 1;
    }
    const double front = exp(a * log(x) - x - lgamma(a));
    if (x < a + 1) {
        double term = 1 / a, sum = term;
        for (double n = a + 1; term > sum * 1e-16; n++) {
            term *= x / n;
            sum += term;
        }
        return 1 - front * sum;
    }
    double b = x + 1 - a, c = 1 / tiny, d = 1 / b, h = d;
    for (int i = 1; i < 10000; i++) {
        double an = -i * (i - a), step;
        b += 2;
        d    = an * d + b;
        d    = 1 / (fabs(d) < tiny ? tiny : d);
        c    = b + an / c;
        c    = fabs(c) < tiny ? tiny : c;
        step = c * d;
        h *= step;
        if (fabs(step - 1) < 1e-15) {
            break;
        }
    }
    return front * h;
}

/* p-value of the G-test: counts of the outputs of a row against its weights. Cells are put together until 10 are expected. */
static inline double rig_g_test(const cmif_table *table, uint32_t row, const uint64_t *seen)
{
    uint32_t block = table->block_of[row], size = table->block_at[block + 1] - table->block_at[block];
    double   total = 0, left, g = 0, cell_seen = 0, cell_expected = 0, cells = 0;
    for (uint32_t j = 0; j < size; j++) {
        total += (double) seen[j];
    }
    left = total;
    for (uint32_t j = 0; j < size; j++) {
        cell_seen += (double) seen[j];
        cell_expected += total * ldexp((double) cmif_table_weight(table, row, j), -(int) table->weight_bits);
        if ((cell_expected >= 10 && left - cell_expected >= 10) || j + 1 == size) {
            g += cell_seen > 0 ? 2 * cell_seen * log(cell_seen / cell_expected) : 0;
            left -= cell_expected;
            cell_seen = cell_expected = 0;
            cells++;
        }
    }
    return cells > 1 ? rig_chi_square_tail(g, cells - 1) : 1;
}

#endif
