#include "attack.h"

#include "audit_rig.h"
#include "base/check.h"
#include "dp/draw.h"
#include "dp/noise.h"
#include "stats.h"

enum { WORDS = 401, K = 20, SENTENCES = 300, LENGTH = 8 };

static cmif_noise *noise;
static cmif_err    err;

/* ---- tables ---- */

static void even(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(1, self, size, total, weights);
}

static void itself(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost((uint64_t) 1 << 30, self, size, total, weights); /* another word once in 2^26 */
}

static void twice(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(2, self, size, total, weights); /* epsilon ln 2, sold as 1 */
}

static void squared(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(4, self, size, total, weights);
}

/* Rows of all sorts. */
static void uneven(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    uint64_t rest = total;
    for (uint32_t j = 0; j + 1 < size; j++) {
        weights[j] = total / 8 / size * (1 + (row * 7 + j * 3 + (uint32_t) (j == self) * 9) % 8);
        rest -= weights[j];
    }
    weights[size - 1] = rest;
}

static cmif_table *table_of(rig_weights *weights, uint64_t epsilon)
{
    return rig_made_up(WORDS, K, 32, epsilon, weights);
}

/* Another prior than the rig's, which is the same for all. */
static void put_prior(cmif_table *table)
{
    static uint32_t prior[WORDS];
    for (uint32_t i = 0; i < table->word_count; i++) {
        prior[i] = 1 + i * 37 % 101;
    }
    table->prior = prior;
}

/* Each word has outputs of its own: itself and the next `near` words. No guarantee. */
static cmif_table *neighbours(uint32_t near)
{
    static cmif_str words[WORDS];
    static char     text[4 * WORDS];
    static uint32_t prior[WORDS], block_of[WORDS], block_at[WORDS + 1], outputs[WORDS * 32];
    static uint64_t weights[WORDS * 32];
    uint32_t        put = 0;
    for (uint32_t w = 0; w < WORDS; w++) {
        uint32_t rest = w;
        for (int i = 3; i >= 0; i--, rest /= 26) {
            text[4 * w + (uint32_t) i] = (char) ('a' + rest % 26);
        }
        words[w]    = (cmif_str){text + (size_t) 4 * w, w ? 4 : 0};
        prior[w]    = 1;
        block_of[w] = w;
        block_at[w] = put;
        uint32_t n  = w ? near : 1;
        for (uint32_t j = 0; j < n; j++) { /* ascending, and the window stays inside */
            uint32_t first      = !w ? 0 : w + near < WORDS ? w : WORDS - near;
            outputs[put++]      = first + j;
            weights[w * 32 + j] = ((uint64_t) 1 << 32) / n;
        }
        weights[w * 32 + n - 1] += ((uint64_t) 1 << 32) - ((uint64_t) 1 << 32) / n * n;
    }
    block_at[WORDS] = put;
    return rig_open(&(cmif_table_draft){.claim         = {.mechanism   = CMIF_MECHANISM_PAPER,
                                                          .noise       = CMIF_NOISE_LAPLACE,
                                                          .adjacency   = CMIF_ADJACENT_NONE,
                                                          .k           = near,
                                                          .epsilon_num = 1,
                                                          .epsilon_den = 1},
                                        .weight_bits   = 32,
                                        .word_count    = WORDS,
                                        .row_count     = WORDS,
                                        .block_count   = WORDS,
                                        .words         = words,
                                        .prior         = prior,
                                        .block_of      = block_of,
                                        .block_at      = block_at,
                                        .outputs       = outputs,
                                        .weights       = weights,
                                        .weight_stride = 32});
}

static uint64_t state = 7;

static uint32_t below(uint32_t n)
{
    state = state * 6364136223846793005 + 1442695040888963407;
    return (uint32_t) ((state >> 33) % n);
}

/* Sentences of made-up words through the shipped draw. */
static cmif_attack_texts texts_of(const cmif_attack *a, const cmif_table *table)
{
    cmif_attack_texts texts = {0};
    for (int s = 0; s < SENTENCES; s++) {
        uint32_t in[LENGTH], out[LENGTH];
        for (int i = 0; i < LENGTH; i++) {
            in[i] = 1 + below(WORDS - 1);
        }
        CHECK(cmif_dp_draw(table, noise, in, LENGTH, out, &err) == CMIF_OK);
        CHECK(cmif_attack_add_ids(a, &texts, in, out, LENGTH, &err) == CMIF_OK);
    }
    return texts;
}

static void guess_best(const cmif_attack_texts *texts, const uint32_t *best, uint32_t *guess)
{
    for (size_t i = 0; i < texts->count; i++) {
        guess[i] = best[texts->words[i].released];
    }
}

/* ---- Bayes ---- */

static void the_identity_is_named_whole(void)
{
    cmif_table  *table = table_of(itself, 22);
    cmif_attack *a     = NULL;
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    if (a) {
        static double     prior[WORDS];
        static uint32_t   best[WORDS], guess[SENTENCES * LENGTH];
        cmif_attack_texts texts = texts_of(a, table);
        cmif_attack_prior_uniform(a, prior);
        CHECK(cmif_attack_bayes(a, prior, best) > 0.9999999);
        cmif_attack_prior_table(a, prior);
        CHECK(cmif_attack_bayes(a, prior, best) > 0.9999999);
        guess_best(&texts, best, guess);
        cmif_attack_score score = cmif_attack_judge(&texts, guess);
        CHECK(score.drawn == SENTENCES * LENGTH && score.drawn_hits + 1 >= score.drawn);
        CHECK(score.changed <= 1);
        cmif_attack_texts_wipe(&texts);
    }
    cmif_attack_free(a);
    cmif_table_free(table);
}

static void uniform_draws_give_the_share_of_the_prior(void)
{
    cmif_table  *table = table_of(even, 1);
    cmif_attack *a     = NULL;
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    if (a) {
        static double   prior[WORDS];
        static uint32_t best[WORDS];
        double          all = 0, most = 0;
        put_prior(table);
        cmif_attack_prior_uniform(a, prior);
        CHECK(fabs(cmif_attack_bayes(a, prior, best) - 1.0 / K) < 1e-7); /* weights are rounded to 2^-32 */
        for (uint32_t block = 0; block < (WORDS - 1) / K; block++) {
            uint32_t highest = 0;
            for (uint32_t i = 1 + block * K; i <= (block + 1) * K; i++) {
                all += table->prior[i];
                highest = table->prior[i] > highest ? table->prior[i] : highest;
            }
            most += highest;
        }
        cmif_attack_prior_table(a, prior);
        CHECK(fabs(cmif_attack_bayes(a, prior, best) - most / all) < 1e-7);
        for (uint32_t i = 1; i < WORDS; i++) { /* every release of a block is taken for its commonest word */
            CHECK(best[i] != CMIF_NO_WORD && table->prior[best[i]] >= table->prior[i]);
        }
    }
    cmif_attack_free(a);
    cmif_table_free(table);
}

static void drawing_agrees_with_the_closed_form(void)
{
    cmif_table *tables[] = {table_of(uneven, 3), table_of(even, 1), neighbours(12)};
    for (size_t i = 0; i < 3; i++) {
        cmif_attack *a = NULL;
        CHECK(tables[i] && cmif_attack_new(tables[i], &a, &err) == CMIF_OK);
        for (int uniform = 0; a && uniform < 2; uniform++) {
            static double        prior[WORDS];
            static uint32_t      best[WORDS];
            const uint64_t       draws = 400000;
            uint64_t             hits  = 0;
            cmif_noise_and_table of    = {tables[i], noise};
            put_prior(tables[i]);
            (uniform ? cmif_attack_prior_uniform : cmif_attack_prior_table)(a, prior);
            double closed = cmif_attack_bayes(a, prior, best);
            CHECK(cmif_attack_simulate(a, prior, best, cmif_attack_shipped(&of), draws, i, &hits, &err) == CMIF_OK);
            cmif_interval seen = cmif_stats_wilson(hits, draws, 0.99999);
            CHECK(seen.low <= closed && closed <= seen.high);
            CHECK(closed > 0.02 && closed < 0.98); /* neither is trivial */
        }
        cmif_attack_free(a);
        cmif_table_free(tables[i]);
    }
}

/* ---- context ---- */

enum { FEW = 9 }; /* the empty word alone, "aaab" ... in blocks of 4 */

static cmif_lm *small_lm(const cmif_table *table)
{
    static uint32_t unigrams[FEW + 1], first[FEW + 2], second[FEW * FEW + FEW], counts[FEW * FEW + FEW];
    static cmif_lm  lm;
    uint32_t        n = 0;
    memset(unigrams, 0, sizeof unigrams);
    for (uint32_t a = 0; a <= FEW; a++) {
        first[a] = n;
        for (uint32_t b = 1; b <= FEW; b++) {
            if ((a * 5 + b * 3) % 4 == 0) {
                second[n] = b;
                counts[n] = n % 2 ? 1 + n / 2 % 4 : 1 + (a * b * 11) % 60; /* of 1 to 4 some: each has its discount */
                unigrams[a] += counts[n++];
            }
        }
        unigrams[a] += 2 + a;
    }
    first[FEW + 1] = n;
    lm             = (cmif_lm){.words = FEW, .unigrams = unigrams, .first = first, .second = second, .counts = counts};
    for (uint32_t a = 0; a <= FEW; a++) {
        lm.total += unigrams[a];
    }
    memcpy(lm.lexicon_hash, table->claim.lexicon_hash, 32);
    return &lm;
}

static double share(const cmif_table *t, const cmif_lm *lm, uint32_t b)
{
    double all = 0;
    for (uint32_t i = 0; i < t->word_count; i++) {
        all += t->prior[i];
    }
    return 0.8 * lm->unigrams[b] / (double) lm->total + (b < FEW ? 0.2 * t->prior[b] / all : 0);
}

/* P(b | a), as trusted/embed/lm.h has it. */
static double follows(const cmif_table *t, const cmif_lm *lm, uint32_t a, uint32_t b)
{
    double pair = 0, all = 0, off = 0, discount[4];
    cmif_lm_discounts(lm, discount);
    for (uint32_t i = lm->first[a]; i < lm->first[a + 1]; i++) {
        const double d = discount[lm->counts[i] < 3 ? lm->counts[i] : 3];
        pair += lm->second[i] == b ? lm->counts[i] - d : 0;
        off += d;
        all += lm->counts[i];
    }
    return all > 0 ? (pair + off * share(t, lm, b)) / all : share(t, lm, b);
}

static double gives(const cmif_table *t, uint32_t word, uint32_t output)
{
    uint32_t block = cmif_table_block(t, word);
    for (uint32_t j = t->block_at[block]; j < t->block_at[block + 1]; j++) {
        if (t->outputs[j] == output) {
            return (double) cmif_table_weight(t, cmif_table_row(t, word), j - t->block_at[block]) / 4294967296.0;
        }
    }
    return 0;
}

/* Against the sum over all sequences of words that there are: 9^4 of them. */
static void the_chain_is_that_of_all_sequences(void)
{
    cmif_table  *table = rig_made_up(FEW, 4, 32, 3, uneven);
    cmif_attack *a     = NULL;
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    for (uint32_t run = 0, differ = 0; a && run < 40; run++) {
        enum { LONG = 4 };
        const cmif_lm    *lm    = small_lm(table);
        cmif_attack_texts texts = {0};
        uint32_t          in[LONG], out[LONG], guess[LONG];
        double            posterior[LONG], sums[LONG][FEW] = {{0}}, all = 0;
        put_prior(table);
        for (int i = 0; i < LONG; i++) {
            in[i]  = run % 5 == 0 && i == 1 ? 0 : 1 + below(FEW - 1); /* now and then a word that is not in the table */
            out[i] = in[i] ? 1 + (in[i] - 1) / 4 * 4 + below(4) : 0;
        }
        CHECK(cmif_attack_add_ids(a, &texts, in, out, LONG, &err) == CMIF_OK);
        CHECK(cmif_attack_hmm(a, lm, &texts, guess, posterior, &err) == CMIF_OK);
        for (uint32_t code = 0; code < FEW * FEW * FEW * FEW; code++) {
            uint32_t x[LONG], rest = code;
            double   p = 1;
            for (int i = 0; i < LONG; i++, rest /= FEW) {
                x[i] = rest % FEW;
                p *= follows(table, lm, i ? x[i - 1] : FEW, x[i]) * gives(table, x[i], out[i]);
            }
            p *= follows(table, lm, x[LONG - 1], FEW);
            all += p;
            for (int i = 0; i < LONG; i++) {
                sums[i][x[i]] += p;
            }
        }
        for (int i = 0; i < LONG; i++) {
            uint32_t best = 0, alone = 0;
            for (uint32_t x = 1; x < FEW; x++) {
                best  = sums[i][x] > sums[i][best] ? x : best;
                alone = share(table, lm, x) * gives(table, x, out[i]) >
                                share(table, lm, alone) * gives(table, alone, out[i])
                            ? x
                            : alone;
            }
            CHECK(guess[i] == best);
            CHECK(fabs(posterior[i] - sums[i][best] / all) < 1e-9);
            differ += best != alone;
        }
        CHECK(run < 39 || differ > 10); /* context changes what is named */
        cmif_attack_texts_wipe(&texts);
    }
    cmif_attack_free(a);
    cmif_table_free(table);
}

static void a_model_of_other_words_is_refused(void)
{
    cmif_table  *table = rig_made_up(FEW, 4, 32, 3, uneven);
    cmif_attack *a     = NULL;
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    if (a) {
        cmif_lm           lm    = *small_lm(table);
        cmif_attack_texts texts = {0};
        lm.lexicon_hash[3] ^= 1;
        CHECK(cmif_attack_hmm(a, &lm, &texts, NULL, NULL, &err) == CMIF_E_FORMAT);
    }
    cmif_attack_free(a);
    cmif_table_free(table);
}

/* ---- repetition and queries ---- */

static const uint32_t releases[] = {1, 4, 16, 128};

static void repeat(const cmif_table *table, uint64_t hits[4])
{
    static double prior[WORDS];
    uint32_t      words[300];
    cmif_attack  *a = NULL;
    CHECK(cmif_attack_new(table, &a, &err) == CMIF_OK);
    if (a) {
        cmif_noise_and_table of = {table, noise};
        cmif_attack_prior_uniform(a, prior);
        for (uint32_t i = 0; i < 300; i++) {
            words[i] = 1 + below(WORDS - 1);
        }
        CHECK(cmif_attack_repeat(a, prior, words, 300, releases, 4, cmif_attack_shipped(&of), hits, &err) == CMIF_OK);
    }
    cmif_attack_free(a);
}

static void repetition_undoes_neighbours_and_not_partitions(void)
{
    uint64_t    hits[4] = {0};
    cmif_table *table   = neighbours(20); /* windows of 20: many releases show where the window begins */
    CHECK(table != NULL);
    if (table) {
        repeat(table, hits);
        CHECK(hits[0] < 60 && hits[1] > hits[0] && hits[3] > 260);
    }
    cmif_table_free(table);
    table = table_of(even, 1); /* the same chance every time: nothing is learnt */
    CHECK(table != NULL);
    if (table) {
        repeat(table, hits);
        CHECK(hits[0] < 60 && hits[3] < 60);
    }
    cmif_table_free(table);
    table = table_of(twice, 1);
    CHECK(table != NULL);
    if (table) {
        repeat(table, hits);
        CHECK(hits[0] < 60 && hits[3] > 150); /* fresh noise averages out, slowly */
    }
    cmif_table_free(table);
}

static void queries_take_what_the_ratio_of_likelihoods_says(void)
{
    cmif_table  *tables[2] = {table_of(twice, 1), table_of(even, 1)};
    cmif_attack *a         = NULL;
    double       closed    = 0;
    CHECK(tables[0] && cmif_attack_new(tables[0], &a, &err) == CMIF_OK);
    if (a) {
        /* KL of (2, 1) against (1, 2) of 21: ln 2 / 21; exp(-N KL) * 19 others <= 1/19 */
        CHECK(cmif_attack_query(a, 5, 0.95, &closed, &err) == CMIF_OK);
        CHECK(fabs(closed - ceil(2 * log(19) * 21 / log(2))) <= 1);
        cmif_noise_and_table of  = {tables[0], noise};
        double               sum = 0;
        for (int i = 0; i < 200; i++) {
            uint64_t queries = 0;
            CHECK(cmif_attack_query_simulate(a, 5, 0.95, 100000, cmif_attack_shipped(&of), &queries, &err) == CMIF_OK);
            sum += (double) queries / 200;
        }
        CHECK(sum > closed / 2 && sum < closed * 2);
        uint64_t queries = 0;
        CHECK(cmif_attack_query_simulate(a, 5, 0.95, 2, cmif_attack_shipped(&of), &queries, &err) == CMIF_OK &&
              queries == 3);
    }
    cmif_attack_free(a);
    a = NULL;
    CHECK(tables[1] && cmif_attack_new(tables[1], &a, &err) == CMIF_OK);
    if (a) { /* rows differ in the last weight only, where what is left of 2^32 goes: 10^-9 */
        CHECK(cmif_attack_query(a, 5, 0.95, &closed, &err) == CMIF_OK && closed > 1e12);
    }
    cmif_attack_free(a);
    cmif_table_free(tables[0]);
    cmif_table_free(tables[1]);
}

/* ---- rows ---- */

static void nearest_rows_are_the_nearest(void)
{
    enum { WIDTH = 12 };
    static float rows[WORDS * WIDTH], sent[WORDS * WIDTH];
    cmif_table  *table = table_of(even, 1);
    cmif_attack *a     = NULL;
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    if (a) {
        cmif_attack_score plain[CMIF_ATTACK_NEAR], moved[CMIF_ATTACK_NEAR], want[CMIF_ATTACK_NEAR] = {{0, 0, 0, 0}};
        cmif_attack_texts texts = texts_of(a, table);
        for (int i = 0; i < WORDS * WIDTH; i++) {
            rows[i] = (float) below(2001) / 1000 - 1;
            sent[i] = rows[i] + (float) below(1001) / 1000 - 0.5f;
        }
        CHECK(cmif_attack_nearest(a, rows, rows, WIDTH, &texts, plain, &err) == CMIF_OK);
        CHECK(plain[0].drawn_hits == plain[0].drawn - plain[0].changed && plain[0].changed_hits == 0); /* itself */
        CHECK(plain[2].changed_hits > 0 && plain[2].changed_hits >= plain[1].changed_hits);
        CHECK(cmif_attack_nearest(a, rows, sent, WIDTH, &texts, moved, &err) == CMIF_OK);
        for (size_t i = 0; i < texts.count; i++) {
            double   cosine[WORDS];
            uint32_t nearer = 0, y = texts.words[i].released, x = texts.words[i].original;
            for (uint32_t w = 1; w < WORDS; w++) {
                double dot = 0, norm = 0;
                for (int k = 0; k < WIDTH; k++) {
                    dot += (double) rows[w * WIDTH + (uint32_t) k] * (double) sent[y * WIDTH + (uint32_t) k];
                    norm += (double) rows[w * WIDTH + (uint32_t) k] * (double) rows[w * WIDTH + (uint32_t) k];
                }
                cosine[w] = dot / sqrt(norm);
            }
            for (uint32_t w = 1; w < WORDS; w++) {
                nearer += cosine[w] > cosine[x];
            }
            for (size_t k = 0; k < CMIF_ATTACK_NEAR; k++) {
                want[k].drawn++;
                want[k].drawn_hits += nearer < cmif_attack_near[k];
            }
        }
        for (size_t k = 0; k < CMIF_ATTACK_NEAR; k++) {
            CHECK(moved[k].drawn == want[k].drawn && moved[k].drawn_hits == want[k].drawn_hits);
        }
        CHECK(want[0].drawn_hits > 20 && want[0].drawn_hits < want[0].drawn / 2);
        cmif_attack_texts_wipe(&texts);
    }
    cmif_attack_free(a);
    cmif_table_free(table);
}

/* ---- epsilon ---- */

static cmif_code draw_again(void *context, const uint32_t *words, size_t count, uint32_t *outputs, cmif_err *e)
{
    static const uint32_t same[] = {0x12345678, 0x9abcdef0, 0x31415926, 0x27182818}; /* what a clock said once */
    (void) e;
    return cmif_dp_scan(CMIF_SCAN_PLAIN, context, words, same, count, outputs) ? CMIF_OK : CMIF_E_RANGE;
}

static cmif_attack_bound bound_of(const cmif_table *claims, cmif_sampler sampler, bool any)
{
    cmif_attack      *a     = NULL;
    cmif_attack_bound bound = {.epsilon = NAN};
    cmif_certificate  certificate;
    cmif_table_certify(claims, claims->claim.adjacency, &certificate);
    CHECK(cmif_attack_new(claims, &a, &err) == CMIF_OK);
    if (a) {
        CHECK(cmif_attack_epsilon(a, sampler, (uint32_t[]){certificate.word_high, certificate.word_low}, any, 8, 40000,
                                  0.999, 3, &bound, &err) == CMIF_OK);
        CHECK(bound.pairs == 8);
    }
    cmif_attack_free(a);
    return bound;
}

static void what_is_shipped_is_not_flagged(void)
{
    cmif_table *table = table_of(twice, 1);
    CHECK(table != NULL);
    if (table) {
        cmif_noise_and_table of    = {table, noise};
        cmif_attack_bound    bound = bound_of(table, cmif_attack_shipped(&of), false);
        CHECK(bound.epsilon <= log(2) + 1e-6);
        CHECK(bound.epsilon > 0.4); /* and the bound says something: the truth is .693 */
    }
    cmif_table_free(table);
}

static void the_three_faults_are_flagged(void)
{
    cmif_table *table = table_of(twice, 1), *half = table_of(squared, 2), *near = neighbours(10);
    CHECK(table && half && near);
    if (table && half && near) {
        cmif_noise_and_table rescaled = {half, noise}, no_partition = {near, noise};
        CHECK(bound_of(table, cmif_attack_shipped(&rescaled), false).epsilon > 1); /* sold as 1 */
        CHECK(bound_of(near, cmif_attack_shipped(&no_partition), true).epsilon > 5);
        CHECK(bound_of(table, (cmif_sampler){draw_again, table}, false).epsilon > 5);
    }
    cmif_table_free(table);
    cmif_table_free(half);
    cmif_table_free(near);
}

/* ---- texts ---- */

static void texts_are_read_as_the_door_reads_them(void)
{
    static const char text[]  = "Aaab aaac, nobody!\nAAAD";
    cmif_table       *table   = table_of(even, 1);
    cmif_attack      *a       = NULL;
    cmif_attack_texts texts   = {0};
    cmif_sanitizer   *door    = NULL;
    cmif_released    *through = NULL;
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    CHECK(table && cmif_sanitizer_new(table, false, &door, &err) == CMIF_OK);
    if (a && door) {
        CHECK(cmif_dp_release_channel(door, text, sizeof text - 1, NULL, &through, &err) == CMIF_OK);
        CHECK(cmif_attack_add(a, &texts, text, sizeof text - 1, through, NULL, 0, &err) == CMIF_OK);
        CHECK(texts.count == 4);
        for (uint32_t i = 0; texts.count == 4 && i < 4; i++) {
            const uint32_t         want[] = {1, 2, 0, 3};
            const cmif_attack_word w      = texts.words[i];
            CHECK(w.original == want[i] && (w.kind == CMIF_ATTACK_HIDDEN) == (want[i] == 0));
            CHECK(w.begins == (i == 0 || i == 3));
            CHECK(want[i] ? w.released >= 1 && w.released <= K : w.released == 0);
        }
        CHECK(cmif_attack_add(a, &texts, text, 5, through, NULL, 0, &err) == CMIF_E_RANGE && texts.count == 4);
    }
    cmif_attack_texts_wipe(&texts);
    cmif_released_free(through);
    cmif_sanitizer_free(door);
    cmif_attack_free(a);
    cmif_table_free(table);
}

static void words_that_pass_are_not_counted(void)
{
    cmif_table       *table = rig_made_up(22, 1, 32, 1, even); /* blocks of one word: all of them pass */
    cmif_attack      *a     = NULL;
    cmif_attack_texts texts = {0};
    CHECK(table && cmif_attack_new(table, &a, &err) == CMIF_OK);
    if (a) {
        double         prior[22];
        uint32_t       best[22];
        const uint32_t ids[] = {3, 4, 5};
        cmif_attack_prior_table(a, prior);
        CHECK(cmif_attack_bayes(a, prior, best) == 0);
        CHECK(cmif_attack_add_ids(a, &texts, ids, ids, 3, &err) == CMIF_OK);
        CHECK(cmif_attack_judge(&texts, ids).drawn == 0 && texts.words[0].kind == CMIF_ATTACK_CLEAR);
    }
    cmif_attack_texts_wipe(&texts);
    cmif_attack_free(a);
    cmif_table_free(table);
}

/* ---- entities ---- */

static cmif_attack_found look(const char *written, const char *released, size_t *count)
{
    char                text[256];
    cmif_attack_found   found = {0};
    cmif_attack_entity *list  = NULL;
    size_t              size  = strlen(written);
    memcpy(text, written, size + 1);
    CHECK(cmif_attack_entities(text, &size, &list, count, &err) == CMIF_OK);
    cmif_attack_verbatim(&found, text, list, *count, released, strlen(released));
    free(list);
    return found;
}

static void entities_are_found_where_they_stand(void)
{
    size_t            count;
    cmif_attack_found f = look("Then Maria Lopez paid 450 to a@b.org.", "then anna kahn paid 450 to x", &count);
    CHECK(count == 3 && f.entities == 3 && f.whole == 1 && f.part == 1);
    f = look("We met Maria Lopez. Tomorrow we go.", "we met x LOPEZ", &count);
    CHECK(count == 1 && f.whole == 0 && f.part == 1);
    f = look("We met Maria Lopez.", "maria  lopezia", &count); /* not as words of their own, but for the first */
    CHECK(f.whole == 0 && f.part == 1);
    f = look("nothing here is one, I say", "nothing here is one, I say", &count);
    CHECK(count == 0 && f.entities == 0);
    f = look("to [[person|dana]] on [[topic|rent]] in [[place|OR]], [[card|4539 1488]]", "to dana on rent or 4539 1488",
             &count);
    CHECK(count == 2 && f.whole == 2);
}

static void frequencies_map_what_is_frequent(void)
{
    cmif_attack_book *book  = NULL;
    cmif_attack_found found = {0};
    CHECK(cmif_attack_book_new(&book, &err) == CMIF_OK);
    for (int i = 0; book && i < 10; i++) { /* often, seldom */
        CHECK(cmif_attack_book_add(book, CMIF_SPAN_PERSON, "maria", 5, "anna", 4, &err) == CMIF_OK);
        if (i < 3) {
            CHECK(cmif_attack_book_add(book, CMIF_SPAN_PERSON, "jose", 4, "karl", 4, &err) == CMIF_OK);
        }
    }
    if (book) {
        cmif_attack_book_map(book, &found);
        CHECK(found.surrogates == 13 && found.mapped == 13 && fabs(found.chance - 6.5) < 1e-9);
        for (int i = 0; i < 4; i++) { /* each time another one: nothing to count */
            CHECK(cmif_attack_book_add(book, CMIF_SPAN_PERSON, "maria", 5, (const char *[]){"a", "b", "c", "d"}[i], 1,
                                       &err) == CMIF_OK);
        }
        found = (cmif_attack_found){0};
        cmif_attack_book_map(book, &found);
        CHECK(found.surrogates == 4 && found.mapped == 1);
    }
    cmif_attack_book_free(book);
}

int main(void)
{
    if (cmif_noise_new(&noise, &err) != CMIF_OK) {
        return 1;
    }
    RUN(the_identity_is_named_whole);
    RUN(uniform_draws_give_the_share_of_the_prior);
    RUN(drawing_agrees_with_the_closed_form);
    RUN(the_chain_is_that_of_all_sequences);
    RUN(a_model_of_other_words_is_refused);
    RUN(repetition_undoes_neighbours_and_not_partitions);
    RUN(queries_take_what_the_ratio_of_likelihoods_says);
    RUN(nearest_rows_are_the_nearest);
    RUN(what_is_shipped_is_not_flagged);
    RUN(the_three_faults_are_flagged);
    RUN(texts_are_read_as_the_door_reads_them);
    RUN(words_that_pass_are_not_counted);
    RUN(entities_are_found_where_they_stand);
    RUN(frequencies_map_what_is_frequent);
    cmif_noise_free(noise);
    return check_report();
}
