#include "mechanism/mechanism.h"

#include "base/check.h"
#include "blocks/blocks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char          folder[256] = "/tmp/mechanism_test.XXXXXX";
static char          path[320];
static unsigned long draws = 10000000;

static uint64_t random_state = 1;
static uint64_t random_word(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z          = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z          = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static double random_unit(void)
{
    return ((double) (random_word() >> 11) + .5) * 0x1p-53;
}

static cmif_code closed(cmif_noise_kind noise, const long double *q, size_t n, long double lambda, long double *p)
{
    if (noise == CMIF_NOISE_GUMBEL) {
        cmif_closed_gumbel(q, n, lambda, p);
        return CMIF_OK;
    }
    return noise == CMIF_NOISE_LAPLACE ? cmif_closed_laplace(q, n, lambda, p, NULL)
                                       : cmif_closed_exponential(q, n, lambda, p, NULL);
}

/* ---- closed forms ---- */

static void golden_values_to_1e_10(void) /* research note on differential privacy, section 2.2 */
{
    static const long double q[4]            = {1, .75L, .5L, 0};
    static const long double golden[3][3][4] = {{{.3148570459L, .2726794353L, .2358630380L, .1766004808L},
                                                 {.3268427424L, .2722285017L, .2308629213L, .1700658346L},
                                                 {.3060136257L, .2700560768L, .2383236513L, .1856066463L}},
                                                {{.3785316052L, .2857081133L, .2143264585L, .1214338230L},
                                                 {.4072849087L, .2774029952L, .2018303730L, .1134817230L},
                                                 {.3632122791L, .2828700074L, .2202993833L, .1336183303L}},
                                                {{.4933140146L, .2880187319L, .1637918920L, .0548753615L},
                                                 {.5559120378L, .2549125853L, .1409699645L, .0482054124L},
                                                 {.4739908463L, .2874899807L, .1743714876L, .0641476854L}}};
    for (int l = 0; l < 3; l++) {
        for (int noise = CMIF_NOISE_LAPLACE; noise <= CMIF_NOISE_GUMBEL; noise++) {
            long double p[4];
            CHECK(closed((cmif_noise_kind) noise, q, 4, ldexpl(.5L, l), p) == CMIF_OK);
            for (int i = 0; i < 4; i++) {
                CHECK(fabsl(p[i] - golden[l][noise - 1][i]) < 1e-10L);
            }
        }
    }
}

/* Against exact polynomials in 120 digits. */
static void closed_forms_are_right_to_1e_17(void)
{
    FILE       *reference = popen("python3 " CMIF_SOURCE_DIR "/untrusted/mechanism/reference.py closed", "r");
    char        name[16];
    int         n, seen       = 0;
    long double lambda, worst = 0;
    while (fscanf(reference, "%15s %d %Lf", name, &n, &lambda) == 3 && n <= 64) {
        long double q[64], want[64], p[64];
        for (int i = 0; i < n; i++) {
            CHECK(fscanf(reference, "%Lf %Lf", &q[i], &want[i]) == 2);
        }
        CHECK(closed(name[0] == 'l' ? CMIF_NOISE_LAPLACE : CMIF_NOISE_EXPONENTIAL, q, (size_t) n, lambda, p) ==
              CMIF_OK);
        for (int i = 0; i < n; i++) {
            long double error = fabsl(p[i] - want[i]) / want[i];
            worst             = error > worst ? error : worst;
        }
        seen++;
    }
    printf("       %d score vectors, largest relative error %.1Le\n", seen, worst);
    CHECK(pclose(reference) == 0);
    CHECK(seen == 12 && worst < 1e-17L);
}

static void probabilities_sum_to_one_and_follow_their_scores(void)
{
    static const size_t sizes[] = {1, 2, 3, 19, 20, 64, 129, 400};
    static long double  q[400], moved[400], p[400], again[400];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        for (long double lambda = .01L; lambda < 2000; lambda *= 7) {
            for (size_t i = 0; i < n; i++) {
                q[i] = (long double) (random_word() % 50) / 49; /* with many ties */
            }
            for (size_t i = 0; i < n; i++) {
                moved[n - 1 - i] = q[i] + 3;
            }
            for (int noise = CMIF_NOISE_LAPLACE; noise <= CMIF_NOISE_GUMBEL; noise++) {
                long double sum = 0, worst = 0;
                CHECK(closed((cmif_noise_kind) noise, q, n, lambda, p) == CMIF_OK);
                CHECK(closed((cmif_noise_kind) noise, moved, n, lambda, again) == CMIF_OK);
                for (size_t i = 0; i < n; i++) {
                    long double error = fabsl(p[i] - again[n - 1 - i]) / p[i]; /* order and origin mean nothing */
                    worst             = error > worst ? error : worst;
                    sum += p[i];
                    for (size_t j = 0; j < i && n <= 64; j++) {
                        CHECK(q[i] == q[j] ? fabsl(p[i] - p[j]) <= 1e-17L * p[i] : (q[i] > q[j]) == (p[i] > p[j]));
                    }
                }
                CHECK(fabsl(sum - 1) < 1e-16L);
                CHECK(worst < 1e-15L * (1 + lambda)); /* moving the origin by 3 rounds the scores */
                CHECK(n > 1 || p[0] == 1);
            }
        }
    }
}

static void laplace_equals_simulated_draws(void)
{
    static const long double q[4]   = {1, .75L, .5L, 0};
    unsigned long            won[4] = {0};
    long double              p[4];
    for (unsigned long d = 0; d < draws; d++) {
        int    best  = 0;
        double score = -1e9;
        for (int i = 0; i < 4; i++) {
            double u = random_unit() - .5, noisy = (double) q[i] - copysign(log(1 - 2 * fabs(u)), u);
            best  = noisy > score ? i : best;
            score = noisy > score ? noisy : score;
        }
        won[best]++;
    }
    CHECK(cmif_closed_laplace(q, 4, 1, p, NULL) == CMIF_OK);
    for (int i = 0; i < 4; i++) {
        double expected = (double) p[i] * (double) draws, sd = sqrt(expected * (1 - (double) p[i]));
        printf("       output %d: %lu draws, %.0f expected, %.1f standard deviations\n", i, won[i], expected,
               ((double) won[i] - expected) / sd);
        CHECK(fabs((double) won[i] - expected) < 4.5 * sd);
    }
}

/* ---- rounding ---- */

enum { MOST = 128 };
static long double probabilities[MOST * MOST];
static uint64_t    rounded[MOST * MOST];

/* Largest distance to the closed form, in units of 2^-bits; checks sums, and the ratio of every column. */
static long double round_and_measure(size_t m, size_t n, uint32_t bits, uint64_t num, uint64_t den)
{
    long double worst = 0;
    CHECK(cmif_round_block(probabilities, m, n, bits, num, den, rounded, MOST, NULL) == CMIF_OK);
    for (size_t i = 0; i < m; i++) {
        uint64_t sum = 0;
        for (size_t j = 0; j < n; j++) {
            long double error =
                fabsl((long double) rounded[i * MOST + j] - ldexpl(probabilities[i * n + j], (int) bits));
            worst = error > worst ? error : worst;
            sum += rounded[i * MOST + j];
            CHECK(rounded[i * MOST + j] >= 1);
        }
        CHECK(sum == (uint64_t) 1 << bits);
    }
    for (size_t j = 0; j < n; j++) {
        uint64_t high = rounded[j], low = rounded[j];
        for (size_t i = 0; i < m; i++) {
            high = rounded[i * MOST + j] > high ? rounded[i * MOST + j] : high;
            low  = rounded[i * MOST + j] < low ? rounded[i * MOST + j] : low;
        }
        CHECK(cmif_loss_within(high, low, num, den));
    }
    return worst;
}

static void fill_rnm(cmif_noise_kind noise, size_t n, long double lambda)
{
    for (size_t i = 0; i < n; i++) {
        long double q[MOST];
        for (size_t j = 0; j < n; j++) {
            q[j] = i == j ? 1 : (long double) random_unit();
        }
        CHECK(closed(noise, q, n, lambda, probabilities + i * n) == CMIF_OK);
    }
}

static void weights_are_within_2_units_and_keep_the_ratio(void)
{
    for (size_t n = 2; n <= 100; n = n * 2 + 1) {
        for (int noise = CMIF_NOISE_LAPLACE; noise <= CMIF_NOISE_GUMBEL; noise++) {
            for (uint64_t tenths = 1; tenths < 80; tenths *= 3) {
                fill_rnm((cmif_noise_kind) noise, n, (long double) tenths / 20);
                CHECK(round_and_measure(n, n, 32, tenths, 10) <= 2);
                CHECK(round_and_measure(n, n, 63, tenths, 10) <= 2);
            }
        }
    }
}

/* Rows that lose epsilon exactly leave nothing for rounding: nearly every such block breaks unless it is mended. */
static void rows_that_lose_exactly_epsilon_are_mended(void)
{
    unsigned    broken = 0, blocks = 0;
    long double worst = 0;
    for (size_t n = 2; n <= 50; n += 3) {
        for (size_t m = 1; m < n; m += n / 3 + 1) {
            for (uint64_t tenths = 1; tenths < 90; tenths += 8) {
                long double boost = expl((long double) tenths / 10),
                            sum   = (long double) m * boost + (long double) (n - m);
                for (size_t i = 0; i < n * n; i++) {
                    probabilities[i] = ((i % n + n - i / n) % n < m ? boost : 1) / sum;
                }
                long double error = round_and_measure(n, n, 32, tenths, 10);
                worst             = tenths <= 10 && error > worst ? error : worst;
                broken += error > 1;
                blocks++;
            }
        }
    }
    printf("       %u of %u blocks were mixed; at epsilon <= 1 by at most %.1Lf units of 2^-32\n", broken, blocks,
           worst);
    CHECK(broken > blocks / 4 && worst < 64);
}

static void what_cannot_be_kept_is_refused(void)
{
    cmif_err    err     = {.code = CMIF_OK};
    long double rare[4] = {1 - 1e-10L, 1e-10L, .5L, .5L};
    CHECK(cmif_round_block(rare, 2, 2, 32, 30, 1, rounded, 2, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "1e-10") && strstr(err.text, "2.33e-10"));
    CHECK(cmif_round_block(rare, 2, 2, 63, 30, 1, rounded, 2, NULL) == CMIF_OK);
    /* Rounding is mended, a wrong scale is not. */
    long double wrong[4] = {.8L, .2L, .2L, .8L};
    CHECK(cmif_round_block(wrong, 2, 2, 32, 1, 1, rounded, 2, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "1.386294") && strstr(err.text, "1.000000"));
    wrong[0] = NAN;
    CHECK(cmif_round_block(wrong, 2, 2, 32, 2, 1, rounded, 2, NULL) == CMIF_E_RANGE);
    CHECK(cmif_round_block(wrong, 1, 2, 32, 2, 1, rounded, 2, NULL) == CMIF_E_RANGE);
}

/* ---- tables ---- */

typedef struct world {
    cmif_lexicon lexicon;
    cmif_vectors vectors;
    cmif_blocks  blocks;
    char        *text;
} world;

static void world_free(world *w)
{
    free(w->lexicon.words);
    free(w->lexicon.prior);
    free(w->lexicon.word_class);
    free(w->lexicon.rude);
    free(w->vectors.rows);
    free(w->vectors.known);
    free(w->blocks.block_of);
    free(w->blocks.medoid);
    free(w->text);
}

static world world_empty(uint32_t words, uint32_t width)
{
    world w              = {.lexicon = {.count = words}, .vectors = {.count = words, .width = width}};
    w.lexicon.words      = calloc(words, sizeof *w.lexicon.words);
    w.lexicon.prior      = calloc(words, sizeof *w.lexicon.prior);
    w.lexicon.word_class = calloc(words, 1);
    w.vectors.rows       = calloc((size_t) words * width, sizeof *w.vectors.rows);
    w.vectors.known      = calloc(words, 1);
    w.blocks.block_of    = calloc(words, sizeof *w.blocks.block_of);
    w.blocks.medoid      = calloc(words, sizeof *w.blocks.medoid);
    w.text               = calloc(words, 64);
    memset(w.lexicon.hash, 1, 32);
    memset(w.vectors.hash, 2, 32);
    return w;
}

/* Made-up words in blocks of k that are not in order; word 0 and every 17th word alone; every 23rd without a vector. */
static world world_made_up(uint32_t words, uint32_t k)
{
    world w = world_empty(words, 12);
    for (uint32_t i = 0; i < words; i++) {
        w.lexicon.words[i]      = (cmif_str){w.text + 64 * (size_t) i, 0};
        w.lexicon.words[i].size = i ? (size_t) snprintf(w.text + 64 * (size_t) i, 64, "w%07" PRIu32, i) : 0;
        w.lexicon.prior[i]      = 1 + (uint32_t) (random_word() % 1000);
        w.lexicon.word_class[i] = i % 17 ? CMIF_CLASS_NOUN : CMIF_CLASS_PASS;
        w.vectors.known[i]      = i && i % 23 != 0;
        for (uint32_t j = 0; j < 12 && w.vectors.known[i]; j++) {
            w.vectors.rows[12 * i + j] = (float) (random_unit() + random_unit() - (j ? 1 : .5));
        }
    }
    const uint32_t groups = words / k + 1;
    uint32_t      *number = calloc(groups, sizeof *number);
    for (uint32_t i = 0; i < words; i++) {
        uint32_t *block = &number[i % groups], alone = 0;
        block = i % 17 ? block : &alone;
        if (*block == 0) {
            *block                      = ++w.blocks.count;
            w.blocks.medoid[*block - 1] = i;
        }
        w.blocks.block_of[i] = *block - 1;
    }
    free(number);
    return w;
}

/* A fifth of the words that do not pass becomes rude, and all of the block of word 1; medoids are chosen anew. */
static void world_gets_rude(world *w)
{
    const uint32_t none = UINT32_MAX, all = w->blocks.block_of[1];
    w->lexicon.rude = calloc(w->lexicon.count, 1);
    for (uint32_t b = 0; b < w->blocks.count; b++) {
        w->blocks.medoid[b] = none;
    }
    for (uint32_t i = 0; i < w->lexicon.count; i++) {
        uint32_t *medoid   = &w->blocks.medoid[w->blocks.block_of[i]];
        w->lexicon.rude[i] = i % 17 && (i % 5 == 0 || w->blocks.block_of[i] == all);
        *medoid            = *medoid == none && !w->lexicon.rude[i] ? i : *medoid;
    }
    w->blocks.medoid[all] = 1;
}

static cmif_code build(const world *w, cmif_mechanism_options options, cmif_table **table,
                       cmif_certificate *certificate, cmif_err *err)
{
    static float valence[100000];
    for (uint32_t i = 0; i < w->lexicon.count; i++) {
        valence[i] = i % 23 ? (float) (i % 9) - 4 : NAN;
    }
    options.recipe_hash[0] = 3;
    unlink(path);
    cmif_code rc = cmif_mechanism_build(&options, &w->lexicon, &w->vectors, valence, &w->blocks, path, NULL, NULL, err);
    return rc == CMIF_OK ? cmif_table_open(path, table, certificate, err) : rc;
}

static void *file_bytes(size_t *size)
{
    struct stat info;
    FILE       *file = fopen(path, "rb");
    void       *data = NULL;
    *size            = 0;
    if (file && fstat(fileno(file), &info) == 0 && (data = malloc((size_t) info.st_size)) != NULL) {
        *size = fread(data, 1, (size_t) info.st_size, file);
    }
    if (file) {
        fclose(file);
    }
    return data;
}

static const cmif_mechanism_options all_options[] = {
    {.mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_LAPLACE},
    {.mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_EXPONENTIAL},
    {.mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_GUMBEL},
    {.mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_LAPLACE, .calibrate = true},
    {.mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_EXPONENTIAL, .calibrate = true},
    {.mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_GUMBEL, .calibrate = true},
    {.mechanism = CMIF_MECHANISM_SUBSET},
    {.mechanism = CMIF_MECHANISM_SUBSET, .boost = 3},
    {.mechanism = CMIF_MECHANISM_KRR},
    {.mechanism = CMIF_MECHANISM_GENERAL},
    {.mechanism = CMIF_MECHANISM_METRIC},
    {.mechanism = CMIF_MECHANISM_FULL},
    {.mechanism = CMIF_MECHANISM_FULL, .classes = 2},
    {.mechanism = CMIF_MECHANISM_FULL, .classes = 8},
    {.mechanism = CMIF_MECHANISM_FULL, .classes = 61},
    {.mechanism = CMIF_MECHANISM_PAPER, .k = 7},
    {.mechanism = CMIF_MECHANISM_CUSTEXT},
    {.mechanism = CMIF_MECHANISM_CUSTEXT_PLUS},
    {.mechanism = CMIF_MECHANISM_SANTEXT},
    {.mechanism = CMIF_MECHANISM_SANTEXT_PLUS},
};
enum { ALL = sizeof all_options / sizeof *all_options };

/* cmif_table_write has certified each claim by itself; here is what it should have found. */
static void every_mechanism_makes_a_table_that_keeps_its_claim(void)
{
    world w = world_made_up(700, 20);
    for (size_t i = 0; i < ALL; i++) {
        for (uint64_t epsilon = 1; epsilon <= 4; epsilon += 3) {
            cmif_mechanism_options options = all_options[i];
            cmif_table            *table   = NULL;
            cmif_certificate       found;
            cmif_err               err = {.code = CMIF_OK};
            options.epsilon_num        = 3 * epsilon;
            options.epsilon_den        = 3;
            cmif_code rc               = build(&w, options, &table, &found, &err);
            CHECK(rc == CMIF_OK);
            if (rc != CMIF_OK) {
                printf("       %s: %s\n", cmif_mechanism_name(options.mechanism), err.text);
                continue;
            }
            const cmif_mechanism mechanism = options.mechanism;
            const cmif_adjacency adjacency = table->claim.adjacency;
            const uint64_t       micro     = 1000000 * epsilon;
            CHECK(table->claim.epsilon_num == (mechanism == CMIF_MECHANISM_GENERAL ? 0 : epsilon));
            CHECK(table->claim.epsilon_den == 1 && table->claim.mechanism == mechanism);
            CHECK(table->claim.lexicon_hash[31] == 1 && table->claim.vectors_hash[31] == 2 &&
                  table->claim.recipe_hash[0] == 3);
            if (mechanism == CMIF_MECHANISM_FULL || mechanism == CMIF_MECHANISM_METRIC) {
                CHECK(adjacency == CMIF_ADJACENT_ANY && found.alone == 0);
            } else if (mechanism == CMIF_MECHANISM_PAPER || mechanism == CMIF_MECHANISM_SANTEXT ||
                       mechanism == CMIF_MECHANISM_SANTEXT_PLUS) {
                CHECK(adjacency == CMIF_ADJACENT_NONE);
            } else {
                CHECK(adjacency == CMIF_ADJACENT_BLOCK);
                for (uint32_t word = 0; word < 700; word += 17) {
                    CHECK(cmif_table_passes(table, word));
                }
            }
            CHECK(table->weight_bits == (mechanism == CMIF_MECHANISM_METRIC || mechanism == CMIF_MECHANISM_SANTEXT ||
                                                 mechanism == CMIF_MECHANISM_SANTEXT_PLUS
                                             ? 63
                                             : 32));
            if (adjacency != CMIF_ADJACENT_NONE) {
                CHECK(found.pure && found.epsilon_micro <= micro);
            }
            if (mechanism == CMIF_MECHANISM_GENERAL) {
                CHECK(found.epsilon_micro == 0 && table->stride == 0);
            }
            /* No budget is left lying about by the mechanisms that can spend it all. */
            if (mechanism == CMIF_MECHANISM_SUBSET || mechanism == CMIF_MECHANISM_KRR ||
                mechanism == CMIF_MECHANISM_FULL || options.calibrate) {
                CHECK(found.epsilon_micro + 1 >= micro);
            }
            printf("       %-12s %-11s %u words in %u blocks: %" PRIu64 ".%06" PRIu64 " of %" PRIu64 "\n",
                   cmif_mechanism_name(mechanism), cmif_noise_name(table->claim.noise), table->word_count,
                   table->block_count, found.epsilon_micro / 1000000, found.epsilon_micro % 1000000, epsilon);
            cmif_table_free(table);
        }
    }
    world_free(&w);
}

static void files_do_not_depend_on_the_number_of_threads(void)
{
    world w = world_made_up(700, 20);
    for (size_t i = 0; i < ALL; i++) {
        cmif_mechanism_options options = all_options[i];
        void                  *first   = NULL;
        size_t                 first_size, size;
        options.epsilon_num = options.epsilon_den = 1;
        for (uint32_t threads = 1; threads <= 5; threads += 2) {
            cmif_table *table = NULL;
            options.threads   = threads;
            CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
            cmif_table_free(table);
            void *bytes = file_bytes(&size);
            CHECK(size > 256);
            if (!first) {
                first      = bytes;
                first_size = size;
                continue;
            }
            CHECK(size == first_size && memcmp(first, bytes, size) == 0);
            free(bytes);
        }
        free(first);
    }
    world_free(&w);
}

static bool baseline(cmif_mechanism mechanism)
{
    return mechanism >= CMIF_MECHANISM_PAPER; /* paper, custext(+), santext(+) */
}

static uint32_t rude_outputs(const cmif_table *table, const cmif_lexicon *lexicon)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < table->output_total; i++) {
        count += cmif_word_is_rude(lexicon, table->outputs[i]);
    }
    return count;
}

/* What cannot be an output of the table cannot be drawn from it. Rude words still have rows, within the same epsilon.
 */
static void rude_words_are_drawn_but_never_released(void)
{
    world w = world_made_up(700, 20);
    world_gets_rude(&w);
    for (size_t i = 0; i < ALL; i++) {
        cmif_mechanism_options options    = all_options[i];
        const cmif_mechanism   kind       = options.mechanism;
        void                  *first      = NULL;
        size_t                 first_size = 0, size;
        options.epsilon_num = options.epsilon_den = 1;
        for (options.threads = 1; options.threads <= 3; options.threads += 2) {
            cmif_table      *table = NULL;
            cmif_certificate found;
            CHECK(build(&w, options, &table, &found, NULL) == CMIF_OK);
            if (!table) {
                continue;
            }
            const uint32_t rude = rude_outputs(table, &w.lexicon);
            CHECK(baseline(kind) ? rude > 0 : rude == 0);
            CHECK(baseline(kind) || (found.pure && found.epsilon_micro <= 1000000));
            for (uint32_t word = 0; word < 700 && table->claim.adjacency == CMIF_ADJACENT_BLOCK && !baseline(kind);
                 word++) {
                const uint32_t block = cmif_table_block(table, word),
                               n     = table->block_at[block + 1] - table->block_at[block];
                CHECK(block == w.blocks.block_of[word]);
                if (block == w.blocks.block_of[1]) { /* all of them are rude: all of them leave as the unknown word */
                    CHECK(n == 1 && table->outputs[table->block_at[block]] == 0);
                }
            }
            cmif_table_free(table);
            void *bytes = file_bytes(&size);
            CHECK(!first || (size == first_size && memcmp(first, bytes, size) == 0));
            free(first);
            first      = bytes;
            first_size = size;
        }
        free(first);
    }
    world_free(&w);
}

/* Real words in blocks of neighbours in byte order, where forms of one slur lie together. */
static void no_rude_word_of_the_real_lexicon_is_released(void)
{
    static const cmif_mechanism kinds[] = {CMIF_MECHANISM_GENERAL, CMIF_MECHANISM_KRR, CMIF_MECHANISM_SUBSET,
                                           CMIF_MECHANISM_RNM, CMIF_MECHANISM_FULL};
    const char                 *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char                        file[512];
    cmif_lexicon               *lexicon = NULL;
    cmif_err                    err     = {.code = CMIF_OK};
    snprintf(file, sizeof file, "%s%s/cmif/lexicon.gguf", cache ? cache : home ? home : "", cache ? "" : "/.cache");
    if (cmif_lexicon_open(file, &lexicon, &err) != CMIF_OK) {
        printf("       skipped: %s\n", err.text);
        return;
    }
    const uint32_t count = lexicon->count;
    world          w     = world_empty(count, 8);
    uint32_t       open = 0, left = 0; /* the block that takes words, and how many more */
    for (uint32_t i = 0; i < count; i++) {
        bool passes = i == 0 || lexicon->word_class[i] <= CMIF_CLASS_NEGATION;
        if (passes || left == 0) {
            open                            = passes ? open : w.blocks.count;
            left                            = passes ? left : 5;
            w.blocks.medoid[w.blocks.count] = i;
            w.blocks.block_of[i]            = w.blocks.count++;
        } else {
            w.blocks.block_of[i] = open;
        }
        left -= !passes;
        for (uint32_t j = 0; j < 8; j++) {
            w.vectors.rows[8 * (size_t) i + j] = (float) random_unit() - .5F;
        }
        w.vectors.known[i] = i > 0;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        cmif_mechanism_options options = {
            .mechanism = kinds[k], .noise = CMIF_NOISE_GUMBEL, .epsilon_num = 1, .epsilon_den = 1};
        cmif_table *table = NULL;
        CHECK(cmif_mechanism_build(&options, lexicon, &w.vectors, lexicon->valence, &w.blocks, path, NULL, NULL,
                                   &err) == CMIF_OK);
        CHECK(cmif_table_open(path, &table, NULL, &err) == CMIF_OK);
        CHECK(table && rude_outputs(table, lexicon) == 0 && table->word_count == count);
        cmif_table_free(table);
    }
    cmif_lexicon_free(lexicon);
    world_free(&w);
}

/* Scores as the header tells them, computed here once more. */
static void block_scores(const world *w, const uint32_t *members, size_t n, long double *u)
{
    long double low = 1, high = -1;
    for (size_t i = 0; i < n * n; i++) {
        const float *a  = w->vectors.rows + (size_t) members[i / n] * w->vectors.width;
        const float *b  = w->vectors.rows + (size_t) members[i % n] * w->vectors.width;
        long double  ab = 0, aa = 0, bb = 0;
        for (uint32_t j = 0; j < w->vectors.width; j++) {
            ab += (long double) a[j] * b[j];
            aa += (long double) a[j] * a[j];
            bb += (long double) b[j] * b[j];
        }
        u[i] = aa > 0 && bb > 0 ? ab / sqrtl(aa * bb) : 0;
        low  = u[i] < low ? u[i] : low;
        high = u[i] > high ? u[i] : high;
    }
    for (size_t i = 0; i < n * n; i++) {
        u[i] = high > low ? (u[i] - low) / (high - low) : 0;
    }
}

/* The words of a block, and which of them are its outputs: as many as the table has, in its order. */
static size_t block_members(const world *w, const cmif_table *table, uint32_t block, uint32_t *members,
                            size_t *output_at)
{
    size_t m = 0, n = 0;
    for (uint32_t word = 0; word < w->lexicon.count; word++) {
        if (w->blocks.block_of[word] == block) {
            if (n < table->block_at[block + 1] - table->block_at[block] &&
                table->outputs[table->block_at[block] + n] == word) {
                output_at[n++] = m;
            }
            CHECK(m < 64);
            members[m++] = word;
        }
    }
    CHECK(n == table->block_at[block + 1] - table->block_at[block]);
    return m;
}

static void noisy_max_in_a_block_is_at_2_delta_over_epsilon(void)
{
    static long double u[64 * 64], q[64], p[64];
    for (size_t i = 0; i < 6; i++) {
        world                  w       = world_made_up(400, 20);
        cmif_mechanism_options options = all_options[i / 2];
        cmif_table            *table   = NULL;
        long double            worst   = 0;
        if (i % 2) { /* scaled over all words of the block, drawn from those that are not rude */
            world_gets_rude(&w);
        }
        options.epsilon_num = options.epsilon_den = 1;
        CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
        for (uint32_t b = 0; table && b < table->block_count; b++) {
            uint32_t     members[64];
            size_t       output_at[64];
            const size_t n = table->block_at[b + 1] - table->block_at[b];
            if (n == 1) {
                continue;
            }
            const size_t m = block_members(&w, table, b, members, output_at);
            CHECK(i % 2 ? n < m : n == m);
            block_scores(&w, members, m, u);
            for (size_t row = 0; row < m; row++) {
                for (size_t j = 0; j < n; j++) {
                    q[j] = u[row * m + output_at[j]];
                }
                CHECK(closed(options.noise, q, n, .5L, p) == CMIF_OK);
                for (size_t j = 0; j < n; j++) {
                    long double error =
                        fabsl(ldexpl((long double) cmif_table_weight(table, members[row], (uint32_t) j), -32) - p[j]);
                    worst = error > worst ? error : worst;
                }
            }
        }
        CHECK(worst <= 0x1p-31L && worst > 0);
        cmif_table_free(table);
        world_free(&w);
    }
}

static void subset_boosts_the_best_m_of_each_row(void)
{
    static long double u[64 * 64];
    for (int rude = 0; rude < 2; rude++) {
        world                  w       = world_made_up(300, 12);
        cmif_mechanism_options options = {
            .mechanism = CMIF_MECHANISM_SUBSET, .boost = 3, .epsilon_num = 1, .epsilon_den = 1};
        cmif_table *table = NULL;
        if (rude) {
            world_gets_rude(&w);
        }
        CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
        for (uint32_t b = 0; table && b < table->block_count; b++) {
            uint32_t       members[64];
            size_t         output_at[64];
            const uint32_t n = table->block_at[b + 1] - table->block_at[b];
            if (n <= 3) {
                continue;
            }
            const size_t m = block_members(&w, table, b, members, output_at);
            block_scores(&w, members, m, u);
            for (size_t row = 0; row < m; row++) {
                long double least = 2, most = -1; /* of the boosted ones, of the others */
                uint32_t    boosted = 0;
                for (uint32_t j = 0; j < n; j++) {
                    bool        high  = ldexpl((long double) cmif_table_weight(table, members[row], j), -32) * n > 1;
                    long double score = u[row * m + output_at[j]];
                    boosted += high;
                    least = high && score < least ? score : least;
                    most  = !high && score > most ? score : most;
                }
                CHECK(boosted == 3 && least >= most);
            }
        }
        cmif_table_free(table);
        world_free(&w);
    }
}

static void krr_boosts_the_word_or_else_the_medoid(void)
{
    world                  w       = world_made_up(300, 12);
    cmif_mechanism_options options = {.mechanism = CMIF_MECHANISM_KRR, .epsilon_num = 1, .epsilon_den = 1};
    cmif_table            *table   = NULL;
    world_gets_rude(&w);
    CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
    for (uint32_t word = 0; table && word < 300; word++) {
        const uint32_t block = cmif_table_block(table, word), first = table->block_at[block],
                       n      = table->block_at[block + 1] - first;
        const uint32_t wanted = w.lexicon.rude[word] ? w.blocks.medoid[block] : word;
        for (uint32_t j = 0; n > 1 && j < n; j++) {
            long double p = (table->outputs[first + j] == wanted ? expl(1) : 1) / (expl(1) + n - 1);
            CHECK(fabsl(ldexpl((long double) cmif_table_weight(table, word, j), -32) - p) < 0x1p-25L);
        }
    }
    cmif_table_free(table);
    world_free(&w);
}

static void the_best_m_is_no_worse_than_any_other(void)
{
    world              w = world_made_up(150, 12);
    static long double u[64 * 64];
    static double      score[16][200]; /* [m][block] */
    for (uint32_t m = 0; m < 16; m++) {
        cmif_mechanism_options options = {
            .mechanism = CMIF_MECHANISM_SUBSET, .boost = m, .epsilon_num = 1, .epsilon_den = 1};
        cmif_table *table = NULL;
        CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
        for (uint32_t b = 0; table && b < table->block_count; b++) {
            const uint32_t *members = table->outputs + table->block_at[b];
            const uint32_t  n       = table->block_at[b + 1] - table->block_at[b];
            block_scores(&w, members, n, u);
            for (uint32_t i = 0; i < n * n; i++) {
                score[m][b] += (double) u[i] * (double) cmif_table_weight(table, members[i / n], i % n) * 0x1p-32 *
                               w.lexicon.prior[members[i / n]];
            }
            CHECK(m == 0 || score[0][b] >= score[m][b] - 1e-4);
        }
        cmif_table_free(table);
    }
    world_free(&w);
}

/* Lap(Delta / epsilon), sold as epsilon: what it loses, and that no table of it can be had. */
static void half_the_noise_is_refused_with_its_exact_figure(void)
{
    static const struct {
        size_t      k;
        double      loss;
        const char *figure;
    } worst[] = {{2, .965, "0.964844"}, {3, 1.425, "1.424575"}, {5, 1.759, "1.758954"}, {20, 1.995, "1.995306"}};
    for (size_t i = 0; i < 4; i++) {
        const size_t n = worst[i].k;
        long double  q[20], p[20 * 20];
        uint64_t     weights[21 * 20] = {(uint64_t) 1 << 32};
        uint32_t     prior[21], block_of[21], block_at[3] = {0, 1, (uint32_t) n + 1}, outputs[21];
        cmif_str     words[21];
        char         text[21][4];
        cmif_err     err = {.code = CMIF_OK};
        for (size_t row = 0; row < n; row++) { /* row 0 wants output 0 alone, the others all but output 0 */
            for (size_t j = 0; j < n; j++) {
                q[j] = (row == 0) == (j == 0);
            }
            CHECK(cmif_closed_laplace(q, n, 1, p + row * n, NULL) == CMIF_OK);
        }
        CHECK(fabsl(cmif_closed_loss(p, n, n) - worst[i].loss) < .0006L);
        /* Within epsilon 2 it is; a table that says 1 is not made, nor opened. */
        CHECK(cmif_round_block(p, n, n, 32, 2, 1, weights + n, n, NULL) == CMIF_OK);
        CHECK(n == 2 || cmif_round_block(p, n, n, 32, 1, 1, weights + n, n, NULL) == CMIF_E_RANGE);
        for (uint32_t w = 0; w <= n; w++) {
            words[w]    = (cmif_str){text[w], w ? (size_t) snprintf(text[w], 4, "w%02u", w) : 0};
            prior[w]    = 1;
            outputs[w]  = w;
            block_of[w] = w > 0;
        }
        const cmif_table_draft draft = {.claim         = {.mechanism   = CMIF_MECHANISM_RNM,
                                                          .noise       = CMIF_NOISE_LAPLACE,
                                                          .adjacency   = CMIF_ADJACENT_BLOCK,
                                                          .k           = (uint32_t) n,
                                                          .epsilon_num = n == 2 ? 9 : 1,
                                                          .epsilon_den = n == 2 ? 10 : 1},
                                        .weight_bits   = 32,
                                        .word_count    = (uint32_t) n + 1,
                                        .row_count     = (uint32_t) n + 1,
                                        .block_count   = 2,
                                        .words         = words,
                                        .prior         = prior,
                                        .block_of      = block_of,
                                        .block_at      = block_at,
                                        .outputs       = outputs,
                                        .weights       = weights,
                                        .weight_stride = (uint32_t) n};
        unlink(path);
        CHECK(cmif_table_write(&draft, path, &err) == CMIF_E_TRUST);
        CHECK(strstr(err.text, worst[i].figure) != NULL);
        CHECK(access(path, F_OK) != 0);
        printf("       K %zu: %s\n", n, err.text);
    }
}

static void full_has_equal_classes_and_hides_the_unknown_word(void)
{
    world                  w       = world_made_up(700, 20);
    cmif_table            *table   = NULL;
    cmif_mechanism_options options = {
        .mechanism = CMIF_MECHANISM_FULL, .classes = 13, .epsilon_num = 1, .epsilon_den = 1};
    CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
    if (table) {
        uint32_t size[13] = {0}, heaviest[13] = {0}, medoids = 0;
        CHECK(table->row_count == 13 && table->block_count == 1 && table->output_total == 13);
        for (uint32_t word = 0; word < 700; word++) {
            size[table->row_of[word]]++;
        }
        for (uint32_t row = 0; row < 13; row++) {
            CHECK(size[row] >= 700 / 13 - 4 && size[row] <= 700 / 13 + 5);
            for (uint32_t j = 1; j < 13; j++) {
                heaviest[row] =
                    cmif_table_weight(table, row, j) > cmif_table_weight(table, row, heaviest[row]) ? j : heaviest[row];
            }
            uint32_t medoid = table->outputs[heaviest[row]]; /* of its own class */
            medoids += table->row_of[medoid] == row && medoid > 0;
        }
        CHECK(medoids == 13);
    }
    cmif_table_free(table);
    world_free(&w);
}

static void words_without_a_vector_tell_nothing(void)
{
    world                  w       = world_made_up(200, 20);
    cmif_table            *table   = NULL;
    cmif_mechanism_options options = {.mechanism = CMIF_MECHANISM_METRIC, .epsilon_num = 1, .epsilon_den = 1};
    CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
    for (uint32_t word = 0; table && word < 200; word += 23) {
        CHECK(cmif_table_row(table, word) == 0);
        for (uint32_t j = 0; j < table->output_total; j++) {
            long double p = ldexpl((long double) cmif_table_weight(table, 0, j), -63);
            CHECK(fabsl(p * table->output_total - 1) < 1e-15L);
            CHECK(w.vectors.known[table->outputs[j]]);
        }
    }
    cmif_table_free(table);
    options = (cmif_mechanism_options){.mechanism = CMIF_MECHANISM_PAPER, .k = 5, .epsilon_num = 1, .epsilon_den = 1};
    CHECK(build(&w, options, &table, NULL, NULL) == CMIF_OK);
    for (uint32_t word = 0; table && word < 200; word++) {
        uint32_t block = cmif_table_block(table, word), first = table->outputs[table->block_at[block]];
        uint32_t n = table->block_at[block + 1] - table->block_at[block];
        if (word % 17 == 0 || !w.vectors.known[word]) {
            CHECK(n == 1 && first == (word % 17 == 0 ? word : 0));
        } else {
            CHECK(n == 5);
        }
    }
    cmif_table_free(table);
    world_free(&w);
}

static void what_2_to_the_32_cannot_hold_gets_63_bits(void)
{
    world                  w     = world_made_up(100, 20);
    cmif_table            *table = NULL;
    cmif_certificate       found;
    cmif_mechanism_options options = {.mechanism = CMIF_MECHANISM_KRR, .epsilon_num = 30, .epsilon_den = 1};
    CHECK(build(&w, options, &table, &found, NULL) == CMIF_OK);
    CHECK(table && table->weight_bits == 63 && found.epsilon_micro <= 30000000 && found.epsilon_micro > 29999990);
    cmif_table_free(table);
    world_free(&w);
}

static bool stop_at_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void) context, (void) what;
    return done + 1 < total / 2;
}

static void bad_input_is_refused_with_a_sentence_and_leaves_no_file(void)
{
    world                  w    = world_made_up(300, 20);
    cmif_mechanism_options good = {
        .mechanism = CMIF_MECHANISM_RNM, .noise = CMIF_NOISE_LAPLACE, .epsilon_num = 1, .epsilon_den = 1};
    for (int wrong = 0; wrong < 18; wrong++) {
        cmif_mechanism_options options = good;
        cmif_lexicon           lexicon = w.lexicon;
        cmif_vectors           vectors = w.vectors;
        cmif_blocks            blocks  = w.blocks;
        cmif_err               err     = {.code = CMIF_OK};
        const cmif_blocks     *given   = &blocks;
        uint32_t               medoids[300];
        memcpy(medoids, w.blocks.medoid, w.blocks.count * sizeof *medoids);
        const cmif_vectors *rows     = &vectors;
        cmif_progress       progress = NULL;
        const char         *sentence = "";
        switch (wrong) {
        case 0:
            options.epsilon_num = 0, sentence = "epsilon is 0";
            break;
        case 1:
            options.epsilon_num = 33, sentence = "at most 32";
            break;
        case 2:
            options.epsilon_den = 0, sentence = "at most 32";
            break;
        case 3:
            options.epsilon_den = 1000001, sentence = "denominator";
            break;
        case 4:
            options.noise = CMIF_NOISE_NONE, sentence = "needs a noise";
            break;
        case 5:
            given = NULL, sentence = "needs blocks";
            break;
        case 6:
            vectors.count--, sentence = "300 words, there are 299";
            break;
        case 7:
            rows = NULL, sentence = "300 words, there are 0";
            break;
        case 8:
            blocks.count++, sentence = "blocks, but words are in";
            break;
        case 9:
            blocks.count--, sentence = "is in block";
            break;
        case 10:
            options.mechanism = CMIF_MECHANISM_KRR, options.calibrate = true, sentence = "cannot be calibrated";
            break;
        case 11:
            options.mechanism = 99, sentence = "no mechanism 99";
            break;
        case 12:
            options.mechanism = CMIF_MECHANISM_FULL, options.classes = 5, sentence = "5 classes";
            break;
        case 13:
            options.mechanism = CMIF_MECHANISM_FULL, options.classes = 3, sentence = "not known here";
            break;
        case 14:
            options.mechanism = CMIF_MECHANISM_PAPER, options.k = 0, sentence = "K is 0";
            break;
        case 16:
            blocks.medoid = medoids, medoids[2] = UINT32_MAX, sentence = "medoid of block 2";
            break;
        case 15:
            options.mechanism = CMIF_MECHANISM_SANTEXT_PLUS, options.w = 2, sentence = "w is 2.0";
            break;
        default:
            progress = stop_at_once, options.threads = 1, sentence = "stopped at";
            break;
        }
        unlink(path);
        cmif_code rc = cmif_mechanism_build(&options, &lexicon, rows, NULL, given, path, progress, NULL, &err);
        CHECK(rc == (progress ? CMIF_E_CANCELLED : CMIF_E_RANGE));
        CHECK(err.code == rc && strstr(err.text, sentence) != NULL);
        CHECK(access(path, F_OK) != 0);
        if (rc != (progress ? CMIF_E_CANCELLED : CMIF_E_RANGE) || !strstr(err.text, sentence)) {
            printf("       case %d: %s\n", wrong, err.text);
        }
    }
    world_free(&w);
    /* The whole vocabulary squared has an end, and the message tells it. */
    world    big   = world_made_up(12500, 20);
    cmif_err err   = {.code = CMIF_OK};
    good.mechanism = CMIF_MECHANISM_SANTEXT;
    CHECK(cmif_mechanism_build(&good, &big.lexicon, &big.vectors, NULL, NULL, path, NULL, NULL, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "11585 words") != NULL);
    world_free(&big);
}

/* ---- memory ---- */

static long allocations_left = -1;
void       *__real_calloc(size_t count, size_t size);
void       *__wrap_calloc(size_t count, size_t size);
void       *__wrap_calloc(size_t count, size_t size) /* the linker sends every calloc here */
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left -= allocations_left > 0;
    return __real_calloc(count, size);
}

static void every_allocation_may_fail(void)
{
    world w = world_made_up(60, 7);
    world_gets_rude(&w);
    for (size_t i = 0; i < ALL; i++) {
        cmif_mechanism_options options = all_options[i];
        cmif_code              rc      = CMIF_E_MEMORY;
        long                   n       = 0;
        options.epsilon_num = options.epsilon_den = options.threads = 1;
        options.classes                                             = options.classes > 8 ? 8 : options.classes;
        for (; rc == CMIF_E_MEMORY && n < 10000; n++) {
            cmif_err err = {.code = CMIF_OK};
            float    valence[60];
            for (int word = 0; word < 60; word++) {
                valence[word] = (float) (word % 9 - 4);
            }
            unlink(path);
            allocations_left = n;
            rc = cmif_mechanism_build(&options, &w.lexicon, &w.vectors, valence, &w.blocks, path, NULL, NULL, &err);
            allocations_left = -1;
            CHECK(rc == CMIF_OK || (err.code == CMIF_E_MEMORY && access(path, F_OK) != 0));
        }
        CHECK(rc == CMIF_OK && n > 5);
    }
    world_free(&w);
}

/* ---- the published baselines, against reference.py ---- */

typedef struct entry {
    char     name[64];
    uint32_t rank;
} entry;

static int by_name(const void *left, const void *right)
{
    return strcmp(((const entry *) left)->name, ((const entry *) right)->name);
}

/* The first words of a file of vectors, in byte order; the prior falls along the file. */
static world world_of_file(const char *file, uint32_t count, uint32_t width)
{
    char     command[512];
    world    w      = world_empty(count + 1, width);
    entry   *sorted = calloc(count, sizeof *sorted);
    float   *rows   = calloc((size_t) count * width, sizeof *rows);
    uint32_t read   = 0;
    snprintf(command, sizeof command, "xz -dc '%s'", file);
    FILE *text = popen(command, "r");
    for (bool good = true; good && read < count; read += good) {
        good = fscanf(text, "%63s", sorted[read].name) == 1;
        for (uint32_t j = 0; j < width; j++) {
            good = good && fscanf(text, "%f", &rows[(size_t) read * width + j]) == 1;
        }
        sorted[read].rank = read;
    }
    pclose(text);
    CHECK(read == count);
    qsort(sorted, count, sizeof *sorted, by_name);
    w.lexicon.words[0] = (cmif_str){w.text, 0};
    w.lexicon.prior[0] = 1;
    for (uint32_t i = 0; i < count; i++) {
        char *word = w.text + 64 * ((size_t) i + 1);
        memcpy(word, sorted[i].name, 64);
        w.lexicon.words[i + 1]      = (cmif_str){word, strlen(word)};
        w.lexicon.prior[i + 1]      = count + 1 - sorted[i].rank;
        w.lexicon.word_class[i + 1] = CMIF_CLASS_NOUN;
        w.vectors.known[i + 1]      = 1;
        memcpy(w.vectors.rows + ((size_t) i + 1) * width, rows + (size_t) sorted[i].rank * width, width * sizeof *rows);
    }
    free(rows);
    free(sorted);
    return w;
}

/* Every line of the reference is a word with its outputs; each must be the row of the table, neither more nor less. */
static void compare(const cmif_table *table, const char *command, long double within)
{
    static char line[1 << 17];
    FILE       *reference = popen(command, "r");
    uint32_t    words     = 0;
    long double worst     = 0;
    while (fgets(line, sizeof line, reference)) {
        char    *rest = line, *word = strsep(&rest, " ");
        uint32_t id = cmif_table_find(table, (cmif_str){word, strlen(word)}), outputs = 0;
        CHECK(id != CMIF_NO_WORD);
        if (id == CMIF_NO_WORD) {
            break;
        }
        const uint32_t  row = cmif_table_row(table, id), block = table->block_of[row];
        const uint32_t *at = table->outputs + table->block_at[block];
        const uint32_t  n  = table->block_at[block + 1] - table->block_at[block];
        while (rest && *rest) {
            char       *name = strsep(&rest, " "), *number = strsep(&rest, " ");
            uint32_t    output = cmif_table_find(table, (cmif_str){name, strlen(name)}), j = 0;
            long double p = strtold(number, NULL);
            while (j < n && at[j] != output) {
                j++;
            }
            CHECK(j < n);
            if (j == n) {
                break;
            }
            long double error =
                fabsl(ldexpl((long double) cmif_table_weight(table, row, j), -(int) table->weight_bits) - p);
            worst = error > worst ? error : worst;
            outputs++;
        }
        CHECK(outputs == n);
        words++;
    }
    CHECK(pclose(reference) == 0);
    CHECK(words == table->word_count - 1 && worst <= within);
    printf("       %u words, largest difference %.2Le\n", words, worst);
}

#define DATA CMIF_SOURCE_DIR "/../shared/data"
#define COUNTERFIT DATA "/vectors/counterfit_41k_100d_i8.txt.xz"
#define GLOVE DATA "/glove/glove.6B.50d.5k.txt.xz"
#define REFERENCE "python3 " CMIF_SOURCE_DIR "/untrusted/mechanism/reference.py "

static void custext_is_the_published_one(void)
{
    world                  w       = world_of_file(COUNTERFIT, 1510, 100);
    cmif_blocks           *blocks  = NULL;
    cmif_table            *table   = NULL;
    cmif_mechanism_options options = {.mechanism = CMIF_MECHANISM_CUSTEXT, .epsilon_num = 1, .epsilon_den = 1, .k = 20};
    CHECK(cmif_blocks_greedy(&w.lexicon, &w.vectors, 20, false, false, 1, &blocks, NULL) == CMIF_OK);
    CHECK(cmif_mechanism_build(&options, &w.lexicon, &w.vectors, NULL, blocks, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_table_open(path, &table, NULL, NULL) == CMIF_OK);
    if (table) {
        compare(table, REFERENCE "custext " COUNTERFIT " 1510 20 1", 0x1p-31L);
    }
    cmif_table_free(table);
    cmif_blocks_free(blocks);
    world_free(&w);
}

static void santext_is_the_published_one(void)
{
    world                  w       = world_of_file(GLOVE, 400, 50);
    cmif_table            *table   = NULL;
    cmif_mechanism_options options = {.mechanism = CMIF_MECHANISM_SANTEXT, .epsilon_num = 3, .epsilon_den = 1};
    CHECK(cmif_mechanism_build(&options, &w.lexicon, &w.vectors, NULL, NULL, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_table_open(path, &table, NULL, NULL) == CMIF_OK);
    if (table) {
        compare(table, REFERENCE "santext " GLOVE " 400 3", 1e-12L);
    }
    cmif_table_free(table);
    table             = NULL;
    options.mechanism = CMIF_MECHANISM_SANTEXT_PLUS;
    CHECK(cmif_mechanism_build(&options, &w.lexicon, &w.vectors, NULL, NULL, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_table_open(path, &table, NULL, NULL) == CMIF_OK);
    if (table) {
        compare(table, REFERENCE "santext+ " GLOVE " 400 3", 1e-12L);
    }
    cmif_table_free(table);
    world_free(&w);
}

/* mechanism_test [draws]: so many draws of Laplace noise instead of 10^7. */
int main(int argc, char **argv)
{
    draws = argc > 1 ? strtoul(argv[1], NULL, 10) : draws;
    if (!mkdtemp(folder)) {
        return check_skip("cannot make a folder in /tmp");
    }
    snprintf(path, sizeof path, "%s/table", folder);
    const bool python = system("python3 -c '' 2>/dev/null") == 0;
    RUN(golden_values_to_1e_10);
    RUN(probabilities_sum_to_one_and_follow_their_scores);
    RUN(laplace_equals_simulated_draws);
    RUN(weights_are_within_2_units_and_keep_the_ratio);
    RUN(rows_that_lose_exactly_epsilon_are_mended);
    RUN(what_cannot_be_kept_is_refused);
    RUN(every_mechanism_makes_a_table_that_keeps_its_claim);
    RUN(files_do_not_depend_on_the_number_of_threads);
    RUN(rude_words_are_drawn_but_never_released);
    RUN(no_rude_word_of_the_real_lexicon_is_released);
    RUN(krr_boosts_the_word_or_else_the_medoid);
    RUN(noisy_max_in_a_block_is_at_2_delta_over_epsilon);
    RUN(subset_boosts_the_best_m_of_each_row);
    RUN(the_best_m_is_no_worse_than_any_other);
    RUN(half_the_noise_is_refused_with_its_exact_figure);
    RUN(full_has_equal_classes_and_hides_the_unknown_word);
    RUN(words_without_a_vector_tell_nothing);
    RUN(what_2_to_the_32_cannot_hold_gets_63_bits);
    RUN(bad_input_is_refused_with_a_sentence_and_leaves_no_file);
    RUN(every_allocation_may_fail);
    if (python) {
        RUN(closed_forms_are_right_to_1e_17);
    } else {
        printf("skipped: no python3 for reference.py\n");
    }
    if (python && access(COUNTERFIT, R_OK) == 0 && access(GLOVE, R_OK) == 0) {
        RUN(custext_is_the_published_one);
        RUN(santext_is_the_published_one);
    } else {
        printf("skipped: no python3, or no vectors in shared/data\n");
    }
    unlink(path);
    rmdir(folder);
    return check_report();
}
