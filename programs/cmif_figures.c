#include "cmif_figures.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 10 };
#define DELTA 1e-6

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* One block: its words are list[0 .. count). */
static void measure_block(const cmif_table *t, uint32_t block, const uint32_t *list, uint32_t count, cmif_figures *f,
                          double *share)
{
    double   unit = ldexp(1, -(int) t->weight_bits), sum = 0, most = 0;
    uint32_t from = t->block_at[block], outputs = t->block_at[block + 1] - from;

    for (uint32_t i = 0; i < count; i++) {
        sum += t->prior[list[i]];
        most = fmax(most, t->prior[list[i]]);
    }
    *share = most / sum;
    f->blind += most;
    for (uint32_t j = 0; j < outputs; j++) {
        double best = 0;
        for (uint32_t i = 0; i < count; i++) {
            double p = t->prior[list[i]] * ((double) cmif_table_weight(t, cmif_table_row(t, list[i]), j) * unit);
            best     = fmax(best, p);
            f->itself += t->outputs[from + j] == list[i] ? p : 0;
        }
        f->attack += best;
    }
}

cmif_code cmif_figures_get(const cmif_table *t, cmif_figures *out, cmif_err *err)
{
    uint32_t    *at = calloc((size_t) t->block_count + 2, sizeof *at); /* words of a block: list[at[b] .. at[b + 1]) */
    uint32_t    *list  = calloc(t->word_count, sizeof *list);
    uint32_t    *sizes = calloc(t->block_count, sizeof *sizes);
    double      *share = calloc(t->block_count, sizeof *share);
    double       mass  = 0;
    cmif_figures f     = {0};
    cmif_code    rc    = CMIF_OK;

    if (!at || !list || !sizes || !share) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the figures of %u words", t->word_count);
        goto done;
    }
    for (uint32_t w = 0; w < t->word_count; w++) {
        at[cmif_table_block(t, w) + 2]++;
    }
    for (uint32_t b = 0; b < t->block_count; b++) {
        at[b + 2] += at[b + 1];
    }
    for (uint32_t w = 0; w < t->word_count; w++) {
        list[at[cmif_table_block(t, w) + 1]++] = w;
    }
    for (uint32_t b = 0; b < t->block_count; b++) {
        uint32_t count = at[b + 1] - at[b];
        if (count == 1) {
            f.passed += cmif_table_passes(t, list[at[b]]) && list[at[b]] != 0;
            f.alone += !cmif_table_passes(t, list[at[b]]);
            continue;
        }
        for (uint32_t i = at[b]; i < at[b + 1]; i++) {
            mass += t->prior[list[i]];
        }
        sizes[f.blocks] = count;
        measure_block(t, b, list + at[b], count, &f, &share[f.blocks]);
        f.blocks++;
        f.drawn += count - (list[at[b]] == 0); /* the unknown word is no word */
    }
    if (f.blocks) {
        qsort(sizes, f.blocks, sizeof *sizes, by_size);
        qsort(share, f.blocks, sizeof *share, by_value);
        f.smallest                   = sizes[0];
        f.median                     = sizes[f.blocks / 2];
        f.largest                    = sizes[f.blocks - 1];
        static const double points[] = {.05, .25, .5, .75, .95};
        for (size_t i = 0; i < 5; i++) {
            f.share[i] = share[(size_t) (points[i] * (f.blocks - 1) + 0.5)];
        }
        f.attack /= mass;
        f.blind /= mass;
        f.itself /= mass;
    }
    *out = f;
done:
    free(at);
    free(list);
    free(sizes);
    free(share);
    return rc;
}

void cmif_figures_certified(const cmif_certificate *c, const cmif_table *t, char *out, size_t room)
{
    if (c->pure && c->epsilon_micro == UINT64_MAX) {
        snprintf(out, room, "epsilon above 32");
    } else if (c->pure) {
        snprintf(out, room, "epsilon %" PRIu64 ".%06" PRIu64, c->epsilon_micro / 1000000, c->epsilon_micro % 1000000);
    } else {
        snprintf(out, room, "no epsilon: delta %.6f between two words",
                 ldexp((double) c->delta_num, -(int) t->weight_bits));
    }
}

void cmif_figures_nominal(const cmif_table_claim *c, char *out, size_t room)
{
    if (c->epsilon_den == 1) {
        snprintf(out, room, "%" PRIu64, c->epsilon_num);
    } else if (1000000 % c->epsilon_den == 0) {
        snprintf(out, room, "%.9g", (double) c->epsilon_num / (double) c->epsilon_den);
    } else {
        snprintf(out, room, "%" PRIu64 "/%" PRIu64, c->epsilon_num, c->epsilon_den);
    }
}

void cmif_figures_mechanism(const cmif_table_claim *c, char *out, size_t room)
{
    char k[32] = "";
    if (c->k) {
        snprintf(k, sizeof k, ", K %u", c->k);
    }
    snprintf(out, room, "%s%s%s%s%s", cmif_mechanism_name(c->mechanism), c->noise ? " with " : "",
             c->noise ? cmif_noise_name(c->noise) : "", c->noise ? " noise" : "", c->calibrated ? ", calibrated" : "");
    size_t used = strlen(out);
    snprintf(out + used, room - used, "%s", k);
}

static const char *adjacent(const cmif_table *t)
{
    return t->claim.adjacency == CMIF_ADJACENT_NONE ? "no guarantee is claimed: a baseline"
                                                    : cmif_adjacency_sentence(t->claim.adjacency);
}

json_t *cmif_figures_json(const cmif_table *t, const cmif_certificate *c, const cmif_figures *f)
{
    char   nominal[32], hash[65], lexicon[65], vectors[65], recipe[65];
    double composed;

    cmif_figures_nominal(&t->claim, nominal, sizeof nominal);
    cmif_hex(t->hash, 32, hash);
    cmif_hex(t->claim.lexicon_hash, 32, lexicon);
    cmif_hex(t->claim.vectors_hash, 32, vectors);
    cmif_hex(t->claim.recipe_hash, 32, recipe);
    json_t *o = json_pack("{s:s, s:s, s:b, s:i, s:s, s:s, s:b, s:I, s:I, s:i, s:i, s:i, s:i, s:[iii], s:f, s:f, s:f, "
                          "s:[fffff], s:s, s:s, "
                          "s:s, s:s}",
                          "mechanism", cmif_mechanism_name(t->claim.mechanism), "noise",
                          t->claim.noise ? cmif_noise_name(t->claim.noise) : "none", "calibrated", t->claim.calibrated,
                          "k", (int) t->claim.k, "nominal_epsilon", nominal, "adjacency", adjacent(t), "pure", c->pure,
                          "worst_high", (json_int_t) c->high, "worst_low", (json_int_t) c->low, "drawn_words",
                          (int) f->drawn, "passed_words", (int) f->passed, "alone_words", (int) f->alone, "blocks",
                          (int) f->blocks, "block_sizes", (int) f->smallest, (int) f->median, (int) f->largest,
                          "attack_success", f->attack, "attack_success_blind", f->blind, "unchanged", f->itself,
                          "largest_share", f->share[0], f->share[1], f->share[2], f->share[3], f->share[4], "sha256",
                          hash, "lexicon_sha256", lexicon, "vectors_sha256", vectors, "recipe_sha256", recipe);
    if (o && c->pure && c->epsilon_micro != UINT64_MAX) {
        json_object_set_new(o, "certified_epsilon", json_real((double) c->epsilon_micro / 1e6));
    }
    if (o && !f->blocks) { /* zeros would look like privacy */
        json_object_set_new(o, "attack_success", json_null());
        json_object_set_new(o, "attack_success_blind", json_null());
    }
    if (o && !c->pure) {
        json_object_set_new(o, "delta", json_real(ldexp((double) c->delta_num, -(int) t->weight_bits)));
    }
    if (o && t->claim.adjacency != CMIF_ADJACENT_NONE &&
        cmif_table_compose(t, DRAWS, DELTA, &composed, NULL) == CMIF_OK) {
        json_object_set_new(o, "composed",
                            json_pack("{s:i, s:f, s:f}", "draws", DRAWS, "delta", DELTA, "epsilon", composed));
    }
    return o;
}

void cmif_figures_print(const cmif_table *t, const cmif_certificate *c, const cmif_figures *f, FILE *to)
{
    char     mechanism[96], nominal[32], certified[96], hash[65], lexicon[65], vectors[65];
    cmif_str a, b, y;
    double   composed;

    cmif_figures_mechanism(&t->claim, mechanism, sizeof mechanism);
    cmif_figures_nominal(&t->claim, nominal, sizeof nominal);
    cmif_figures_certified(c, t, certified, sizeof certified);
    fprintf(to, "mechanism   %s\n", mechanism);
    if (t->claim.adjacency == CMIF_ADJACENT_NONE) {
        fprintf(to, "asked for   nothing: %s\n", adjacent(t));
    } else {
        fprintf(to, "asked for   epsilon %s between %s\n", nominal, adjacent(t));
    }
    fprintf(to, "certified   %s", certified);
    if (c->output != CMIF_NO_WORD) {
        a = cmif_table_word(t, c->word_high);
        b = cmif_table_word(t, c->word_low);
        y = cmif_table_word(t, c->output);
        fprintf(to, ": '%.*s' against '%.*s' by '%.*s', %" PRIu64 " to %" PRIu64, (int) a.size, a.data, (int) b.size,
                b.data, (int) y.size, y.data, c->high, c->low);
    }
    fputc('\n', to);
    if (t->claim.adjacency != CMIF_ADJACENT_NONE && cmif_table_compose(t, DRAWS, DELTA, &composed, NULL) == CMIF_OK) {
        fprintf(to, "%d words    epsilon %.6g (sum), %.6g at delta %g\n", DRAWS,
                DRAWS * (double) c->epsilon_micro / 1e6, composed, DELTA);
    }
    fprintf(to, "words       %u: %u drawn in %u blocks of %u to %u (median %u), %u pass, %u alone\n", t->word_count - 1,
            f->drawn, f->blocks, f->smallest, f->largest, f->median, f->passed, f->alone);
    if (f->blocks) {
        fprintf(
            to,
            "attack      %.1f %% of drawn words are named by who knows prior and table (%.1f %% from the block alone)\n"
            "utility     %.1f %% of drawn words leave as themselves\n"
            "share       of a block's commonest word: %.2f %.2f %.2f %.2f %.2f (5, 25, 50, 75, 95 %% of blocks)\n",
            100 * f->attack, 100 * f->blind, 100 * f->itself, f->share[0], f->share[1], f->share[2], f->share[3],
            f->share[4]);
    } else {
        fprintf(to, "attack      not told: no two words share a block, so each release points at its word\n");
    }
    cmif_hex(t->hash, 32, hash);
    cmif_hex(t->claim.lexicon_hash, 32, lexicon);
    cmif_hex(t->claim.vectors_hash, 32, vectors);
    fprintf(to, "table       sha256 %s\nmade from   lexicon %.16s, vectors %.16s\n", hash, lexicon, vectors);
}
