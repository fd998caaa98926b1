/* An empirical lower bound of epsilon: what draws show, whatever a table says. */
#include "attack_index.h"
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SETS = 64 }; /* of outputs, that are tried for a pair */

typedef struct tally { /* how often each of the two words of a pair gave an output */
    uint32_t *seen[2]; /* [words] */
    uint32_t *outputs; /* that were seen at all */
    uint32_t  count;
} tally;

typedef struct ranked {
    double   ratio;
    uint32_t output;
} ranked;

static int by_ratio(const void *one, const void *two)
{
    const ranked *x = one, *y = two;
    return x->ratio != y->ratio ? (x->ratio < y->ratio) - (x->ratio > y->ratio)
                                : (x->output > y->output) - (x->output < y->output);
}

static void forget(tally *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        t->seen[0][t->outputs[i]] = t->seen[1][t->outputs[i]] = 0;
    }
    t->count = 0;
}

static cmif_code fill(tally *t, cmif_sampler sampler, const uint32_t pair[static 2], uint64_t draws, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    forget(t);
    for (uint64_t i = 0; rc == CMIF_OK && i < draws; i++) {
        uint32_t out[2];
        rc = sampler.draw(sampler.context, pair, 2, out, err);
        for (int k = 0; rc == CMIF_OK && k < 2; k++) {
            if (!t->seen[0][out[k]] && !t->seen[1][out[k]]) {
                t->outputs[t->count++] = out[k];
            }
            t->seen[k][out[k]]++;
        }
    }
    return rc;
}

/* ln of the ratio of two rates seen k and l of n times: a bound from below, wrong at most with probability error. */
static double log_ratio(uint64_t k, uint64_t l, uint64_t n, double error)
{
    const double least = cmif_stats_rate_low(k, n, error / 2), most = cmif_stats_rate_high(l, n, error / 2);
    return least > 0 ? log(least / most) : -INFINITY;
}

/* The bound of a pair, both ways round. chosen: room for every output. */
static double bound_of(const tally *half, const tally *other, ranked *chosen, uint64_t draws, double error)
{
    double best = -INFINITY;
    for (int turn = 0; turn < 2; turn++) {
        const uint32_t *x = half->seen[turn], *y = half->seen[!turn];
        double          highest = -INFINITY;
        uint64_t        k = 0, l = 0;
        uint32_t        size = 0;
        for (uint32_t i = 0; i < half->count; i++) {
            const uint32_t output = half->outputs[i];
            chosen[i]             = (ranked){(x[output] + 0.5) / (y[output] + 0.5), output};
        }
        qsort(chosen, half->count, sizeof *chosen, by_ratio);
        for (uint32_t i = 0; i < half->count && i < SETS; i++) { /* the first i by ratio: which i has the best bound? */
            k += x[chosen[i].output];
            l += y[chosen[i].output];
            const double bound = log_ratio(k, l, draws, error);
            if (bound > highest) {
                highest = bound;
                size    = i + 1;
            }
        }
        k = l = 0;
        for (uint32_t i = 0; i < size; i++) { /* draws that had no part in choosing */
            k += other->seen[turn][chosen[i].output];
            l += other->seen[!turn][chosen[i].output];
        }
        best = size ? fmax(best, log_ratio(k, l, draws, error)) : best;
    }
    return best;
}

/* Another pair of words that count; false: none was found. */
static bool choose(const cmif_attack *a, bool any, uint64_t *random, uint32_t pair[static 2])
{
    const uint32_t words = a->table->word_count;
    for (uint32_t tries = 0; tries < 10000; tries++) {
        pair[0] = attack_below(random, words);
        pair[1] = attack_below(random, words);
        if (!any) {
            const uint32_t block = cmif_table_block(a->table, pair[0]);
            pair[1]              = a->members[a->member_at[block] + attack_below(random, a->table->words_in[block])];
        }
        if (pair[0] != pair[1] && cmif_attack_counts(a, pair[0]) && cmif_attack_counts(a, pair[1])) {
            return true;
        }
    }
    return false;
}

cmif_code cmif_attack_epsilon(const cmif_attack *a, cmif_sampler sampler, const uint32_t first[static 2], bool any,
                              uint32_t pairs, uint64_t draws, double confidence, uint64_t seed, cmif_attack_bound *out,
                              cmif_err *err)
{
    const uint32_t    words     = a->table->word_count;
    cmif_attack_bound found     = {.epsilon = -INFINITY, .word = CMIF_NO_WORD, .other = CMIF_NO_WORD};
    tally             halves[2] = {{{NULL}, NULL, 0}};
    ranked           *chosen    = malloc(words * sizeof *chosen);
    cmif_code         rc        = chosen ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %u outputs", words);

    for (int i = 0; rc == CMIF_OK && i < 2; i++) {
        halves[i].seen[0] = calloc(words, sizeof **halves[i].seen);
        halves[i].seen[1] = calloc(words, sizeof **halves[i].seen);
        halves[i].outputs = malloc(words * sizeof *halves[i].outputs);
        if (!halves[i].seen[0] || !halves[i].seen[1] || !halves[i].outputs) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the counts of %u outputs", words);
        }
    }
    for (uint32_t i = 0; rc == CMIF_OK && i < pairs; i++) {
        uint32_t pair[2] = {first[0], first[1]};
        if ((i || first[0] == CMIF_NO_WORD || first[1] == CMIF_NO_WORD) && !choose(a, any, &seed, pair)) {
            break;
        }
        rc = fill(&halves[0], sampler, pair, draws, err);
        rc = rc == CMIF_OK ? fill(&halves[1], sampler, pair, draws, err) : rc;
        if (rc == CMIF_OK) {
            double bound = bound_of(&halves[0], &halves[1], chosen, draws, (1 - confidence) / (2.0 * pairs));
            found.pairs++;
            if (bound > found.epsilon) {
                found.epsilon = bound;
                found.word    = pair[0];
                found.other   = pair[1];
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        free(halves[i].seen[0]);
        free(halves[i].seen[1]);
        free(halves[i].outputs);
    }
    free(chosen);
    if (rc == CMIF_OK) {
        *out = found;
    }
    return rc;
}
