/* What more than one release of the same word tells. */
#include "attack_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rule out and weigh: add ln P(output | x) to each candidate's score. Candidates are those of the first output. */
static void weigh(const cmif_attack *a, const attack_candidates *c, uint32_t output, double *score)
{
    for (size_t i = 0; i < c->count; i++) {
        score[i] += isinf(score[i]) ? 0 : log(attack_gives(a, c->word[i], output));
    }
}

static uint32_t likeliest(const cmif_attack *a, const attack_candidates *c, const double *score)
{
    uint32_t best = CMIF_NO_WORD;
    double   most = -INFINITY;
    for (size_t i = 0; i < c->count; i++) {
        if (cmif_attack_counts(a, c->word[i]) && score[i] > most) {
            most = score[i];
            best = c->word[i];
        }
    }
    return best;
}

static cmif_code grow(double **score, size_t *room, size_t count, cmif_err *err)
{
    if (count > *room) {
        free(*score);
        *score = malloc(count * sizeof **score);
        *room  = *score ? count : 0;
    }
    return *score || !count ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu candidates", count);
}

cmif_code cmif_attack_repeat(const cmif_attack *a, const double *prior, const uint32_t *words, size_t count,
                             const uint32_t *releases, size_t steps, cmif_sampler sampler, uint64_t *hits,
                             cmif_err *err)
{
    const uint32_t    most  = steps ? releases[steps - 1] : 0;
    attack_candidates c     = {0};
    double           *score = NULL;
    size_t            room  = 0;
    uint64_t         *found = calloc(steps ? steps : 1, sizeof *found);
    uint32_t         *same = malloc((most ? most : 1) * sizeof *same), *out = malloc((most ? most : 1) * sizeof *out);
    cmif_code rc = found && same && out ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %u draws", most);

    for (size_t w = 0; rc == CMIF_OK && most && w < count; w++) {
        for (uint32_t i = 0; i < most; i++) {
            same[i] = words[w];
        }
        rc = sampler.draw(sampler.context, same, most, out, err);
        rc = rc == CMIF_OK ? attack_candidates_of(a, out[0], prior, &c, err) : rc;
        rc = rc == CMIF_OK ? grow(&score, &room, c.count, err) : rc;
        for (size_t i = 0; rc == CMIF_OK && i < c.count; i++) {
            score[i] = log(c.prior[i]);
        }
        for (uint32_t i = 0, step = 0; rc == CMIF_OK && i < most; i++) {
            weigh(a, &c, out[i], score);
            for (; step < steps && releases[step] == i + 1; step++) {
                found[step] += likeliest(a, &c, score) == words[w];
            }
        }
    }
    if (rc == CMIF_OK) {
        memcpy(hits, found, steps * sizeof *hits);
    }
    free(found);
    free(same);
    free(out);
    free(score);
    attack_candidates_wipe(&c);
    return rc;
}

/* ---- queries ---- */

/* All words that can give an output of the word's row, once each, and how far apart each is: KL(P_word || P_x), where
 * x can give all outputs. Those that it lacks, of probability m together, rule it out: -ln(1 - m), and the rest as if
 * they had not come. */
static cmif_code divergences(const cmif_attack *a, uint32_t word, uint32_t **others, double **apart, size_t *count,
                             cmif_err *err)
{
    const cmif_table *t   = a->table;
    const uint32_t    row = cmif_table_row(t, word), block = t->block_of[row];
    const uint32_t    first = t->block_at[block], end = t->block_at[block + 1];
    uint8_t          *seen = calloc(t->block_count, 1);
    size_t            n    = 0;
    *others                = NULL;
    *apart                 = NULL;
    *count                 = 0;
    if (!seen) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %u blocks", t->block_count);
    }
    for (int fill = 0; fill < 2; fill++) {
        for (uint32_t j = first; j < end; j++) {
            const uint32_t output = t->outputs[j];
            for (uint32_t s = a->source_at[output]; s < a->source_at[output + 1]; s++) {
                const uint32_t from = a->sources[s].block;
                if (seen[from] == fill + 1) {
                    continue;
                }
                seen[from] = (uint8_t) (fill + 1);
                for (uint32_t i = a->member_at[from]; i < a->member_at[from + 1]; i++) {
                    if (a->members[i] != word && fill) {
                        (*others)[*count] = a->members[i];
                        (*count)++;
                    }
                    n += a->members[i] != word && !fill;
                }
            }
        }
        if (!fill) {
            *others = malloc((n ? n : 1) * sizeof **others);
            *apart  = malloc((n ? n : 1) * sizeof **apart);
            if (!*others || !*apart) {
                free(*others);
                free(*apart);
                free(seen);
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu words", n);
            }
        }
    }
    free(seen);
    for (size_t i = 0; i < *count; i++) {
        const uint32_t other     = cmif_table_row(t, (*others)[i]);
        const bool     one_block = t->block_of[other] == block;
        double         sum = 0, lacks = 0;
        for (uint32_t j = 0; j < end - first; j++) {
            const double p = ldexp((double) cmif_table_weight(t, row, j), -(int) t->weight_bits);
            const double q = one_block ? ldexp((double) cmif_table_weight(t, other, j), -(int) t->weight_bits)
                                       : attack_gives(a, (*others)[i], t->outputs[first + j]);
            sum += q > 0 ? p * log(p / q) : 0;
            lacks += q > 0 ? 0 : p;
        }
        const bool same = row == other;
        (*apart)[i]     = same ? 0 : lacks >= 1 ? INFINITY : fmax(sum / (1 - lacks) - log1p(-lacks), 0);
    }
    return CMIF_OK;
}

static double odds(const double *apart, size_t count, double queries)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += exp(-queries * apart[i]);
    }
    return sum;
}

cmif_code cmif_attack_query(const cmif_attack *a, uint32_t word, double confidence, double *queries, cmif_err *err)
{
    const double goal = (1 - confidence) / confidence;
    uint32_t    *others;
    double      *apart, low = 0, high = 1;
    size_t       count;
    cmif_code    rc = divergences(a, word, &others, &apart, &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        high = apart[i] <= 0 ? INFINITY : high;
    }
    for (bool found = false;
         !found && high < 1e18;) { /* the first power of 2 that is enough, then between it and the one before */
        found = odds(apart, count, high) <= goal;
        low   = found ? low : high;
        high  = found ? high : 2 * high;
    }
    for (int i = 0; i < 100 && high < 1e18 && high - low > 0.5; i++) {
        double middle                                        = (low + high) / 2;
        *(odds(apart, count, middle) <= goal ? &high : &low) = middle;
    }
    *queries = count == 0 ? 0 : high >= 1e18 ? INFINITY : ceil(high);
    free(others);
    free(apart);
    return CMIF_OK;
}

cmif_code cmif_attack_query_simulate(const cmif_attack *a, uint32_t word, double confidence, uint64_t most,
                                     cmif_sampler sampler, uint64_t *queries, cmif_err *err)
{
    enum { BATCH = 64 };
    uint32_t  in[BATCH], out[BATCH], *others;
    double   *apart; /* from here on: ln of the odds of each other word against the word */
    size_t    count;
    uint64_t  used  = 0;
    bool      known = false;
    cmif_code rc    = divergences(a, word, &others, &apart, &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    known = count == 0;
    for (size_t i = 0; i < count; i++) {
        apart[i] = 0;
    }
    for (int i = 0; i < BATCH; i++) {
        in[i] = word;
    }
    while (rc == CMIF_OK && !known && used < most) {
        rc = sampler.draw(sampler.context, in, BATCH, out, err);
        for (int k = 0; rc == CMIF_OK && k < BATCH && !known && used < most; k++, used++) {
            const double p   = log(attack_gives(a, word, out[k]));
            double       sum = 0;
            for (size_t i = 0; i < count; i++) {
                apart[i] += isinf(apart[i]) ? 0 : log(attack_gives(a, others[i], out[k])) - p;
                sum += exp(apart[i]);
            }
            known = sum <= (1 - confidence) / confidence;
        }
    }
    if (rc == CMIF_OK) {
        *queries = known ? used : most + 1;
    }
    free(others);
    free(apart);
    return rc;
}
