/* audit - what the certifier says of a table, looked for in what the shipped code draws from it.
 *
 *   audit [--fault rescale|neighbours|reseed] [TABLE.cmifch | -] [draws]
 *
 * Two tests; "-" is a made-up table, draws (10^8 unless told) is the number for the first of them.
 *  1. G-tests of 50 rows against their weights; the 50 p-values against uniform (Kolmogorov and Smirnov).
 *  2. An empirical lower bound of epsilon, on the pair that the certificate names and on random pairs of one block, as
 * `cmif leak-test` computes it (eval/attack.h). It must not be above the certified epsilon. With a planted fault the
 * bound must come out above the nominal epsilon, which shows that the second test can fail: rescale     rows of a table
 * for twice the epsilon: the scale Delta / epsilon where 2 Delta / epsilon is right neighbours  every word has outputs
 * of its own: the nearer half of its block's reseed      the generator starts again at every call
 *
 * Exit 0: as it must be; 1: not so; 2: no such table. Linked with --wrap=cmif_noise_take, for the last fault. */
#include "attack.h"
#include "audit_rig.h"
#include "dp/draw.h"

#include <getopt.h>

enum { ROWS = 50, PAIRS = 25, BATCH = 1 << 16 };
static const double confidence = 0.999; /* that no lower bound of a run is above the truth */

typedef enum fault { FAULT_NONE, FAULT_RESCALE, FAULT_NEIGHBOURS, FAULT_RESEED } fault;
static fault          planted;
static const uint64_t seed = 1; /* of the fault: the second in which all of it was drawn, say */

CMIF_MUST_USE cmif_code __real_cmif_noise_take(cmif_noise *noise, void *out, size_t size, cmif_err *err);
CMIF_MUST_USE cmif_code __wrap_cmif_noise_take(cmif_noise *noise, void *out, size_t size, cmif_err *err);
cmif_code               __wrap_cmif_noise_take(cmif_noise *noise, void *out, size_t size, cmif_err *err)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15;
    uint8_t *to    = out;
    if (planted != FAULT_RESEED) {
        return __real_cmif_noise_take(noise, out, size, err);
    }
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        to[i] = (uint8_t) (state * 0x2545f4914f6cdd1d >> 56);
    }
    return CMIF_OK;
}

static uint32_t below(uint64_t *state, uint32_t n)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t) ((*state * 0x2545f4914f6cdd1d >> 32) % n);
}

/* ---- drawing ---- */

static uint32_t size_of_block(const cmif_table *t, uint32_t block)
{
    return t->block_at[block + 1] - t->block_at[block];
}

static uint32_t position(const cmif_table *t, uint32_t block, uint32_t output)
{
    uint32_t from = t->block_at[block], to = t->block_at[block + 1];
    while (to - from > 1) {
        uint32_t middle = from + (to - from) / 2;
        if (t->outputs[middle] <= output) {
            from = middle;
        } else {
            to = middle;
        }
    }
    return from - t->block_at[block];
}

/* Draw `draws` times for each of `count` words in turn, many words in a call, and count outputs by their place in the
 * block: seen[i] is of words[i]. */
static bool draw_all(const cmif_table *t, cmif_noise *noise, const uint32_t *words, uint32_t count, uint64_t draws,
                     uint64_t *const *seen)
{
    static uint32_t in[BATCH], out[BATCH];
    const uint32_t  rounds = BATCH / count;
    for (uint64_t done = 0; done < draws; done += rounds) {
        cmif_err err = {0};
        uint32_t n   = count * (uint32_t) (draws - done < rounds ? draws - done : rounds);
        for (uint32_t i = 0; i < n; i++) {
            in[i] = words[i % count];
        }
        if (cmif_dp_draw(t, noise, in, n, out, &err) != CMIF_OK) {
            fprintf(stderr, "audit: %s\n", err.text);
            return false;
        }
        for (uint32_t i = 0; i < n; i++) {
            seen[i % count][position(t, cmif_table_block(t, in[i]), out[i])]++;
        }
    }
    return true;
}

/* Lists of counts, one for each word. */
static bool make_counts(const cmif_table *t, const uint32_t *words, uint32_t count, uint64_t **seen)
{
    bool good = true;
    for (uint32_t i = 0; i < count; i++) {
        seen[i] = calloc(size_of_block(t, cmif_table_block(t, words[i])), sizeof **seen);
        good    = good && seen[i];
    }
    return good;
}

static void free_counts(uint32_t count, uint64_t **seen)
{
    for (uint32_t i = 0; i < count; i++) {
        free(seen[i]);
        seen[i] = NULL;
    }
}

/* ---- 1. rows against their weights ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* p-value of Kolmogorov and Smirnov's test, Stephens' form for few values; sorts them. */
static double uniform_p(double *values, uint32_t count)
{
    double off = 0, n = count, p = 0;
    qsort(values, count, sizeof *values, by_size);
    for (uint32_t i = 0; i < count; i++) {
        off = fmax(off, fmax((i + 1) / n - values[i], values[i] - i / n));
    }
    double x = (sqrt(n) + 0.12 + 0.11 / sqrt(n)) * off;
    for (int j = 1; j <= 100; j++) {
        p += (j % 2 ? 2 : -2) * exp(-2 * j * j * x * x);
    }
    return x < 0.2 ? 1 : fmin(fmax(p, 0), 1);
}

static bool audit_rows(const cmif_table *t, cmif_noise *noise, uint64_t draws, uint64_t *random)
{
    uint32_t  words[ROWS], count = 0;
    uint64_t *seen[ROWS] = {NULL};
    double    p[ROWS], least = 1;
    bool      good = false;
    for (uint32_t tries = 0; tries < 100 * ROWS && count < ROWS; tries++) {
        uint32_t word = below(random, t->word_count);
        bool     here = false;
        for (uint32_t i = 0; i < count; i++) {
            here = here || cmif_table_row(t, words[i]) == cmif_table_row(t, word);
        }
        if (!here && size_of_block(t, cmif_table_block(t, word)) > 1) {
            words[count++] = word;
        }
    }
    if (count == 0) {
        printf("no row has more than one output: nothing is random here\n");
        return true;
    }
    if (!make_counts(t, words, count, seen) || !draw_all(t, noise, words, count, draws / count, seen)) {
        goto done;
    }
    printf("%llu draws from %u rows; p-values of their G-tests:\n", (unsigned long long) (draws / count * count),
           count);
    for (uint32_t i = 0; i < count; i++) {
        p[i]  = rig_g_test(t, cmif_table_row(t, words[i]), seen[i]);
        least = fmin(least, p[i]);
        printf("%s%.4f", i == 0 ? " " : i % 10 ? " " : "\n ", p[i]);
    }
    double uniform = uniform_p(p, count);
    good           = uniform > 1e-4 && least > 1e-7;
    printf("\nsmallest %.2g; uniform (Kolmogorov-Smirnov): p = %.4f: %s\n", least, uniform, good ? "ok" : "FAILED");
done:
    free_counts(count, seen);
    return good;
}

/* ---- 2. a lower bound of epsilon ---- */

static bool audit_pairs(const cmif_table *t, const cmif_certificate *c, cmif_noise *noise, uint64_t draws,
                        uint64_t random)
{
    const double         nominal   = (double) t->claim.epsilon_num / (double) t->claim.epsilon_den;
    const double         certified = c->pure ? (double) c->epsilon_micro * 1e-6 : INFINITY;
    cmif_noise_and_table of        = {t, noise};
    cmif_attack         *attack    = NULL;
    cmif_attack_bound    bound     = {.epsilon = NAN};
    cmif_err             err       = {0};
    if (cmif_attack_new(t, &attack, &err) != CMIF_OK ||
        cmif_attack_epsilon(attack, cmif_attack_shipped(&of), (uint32_t[]){c->word_high, c->word_low}, false, PAIRS,
                            draws, confidence, random, &bound, &err) != CMIF_OK) {
        fprintf(stderr, "audit: %s\n", err.text);
        cmif_attack_free(attack);
        return false;
    }
    cmif_attack_free(attack);
    printf("%u pairs, %llu draws for each word: epsilon >= %.6f (confidence %.1f %%", bound.pairs,
           (unsigned long long) (2 * draws), bound.epsilon, 100 * confidence);
    printf(bound.pairs ? ", words %u and %u)\n" : ")\n", bound.word, bound.other);
    bool good = planted == FAULT_NONE ? bound.epsilon <= certified : bound.epsilon > nominal;
    printf("nominal %.6f, certified %.6f: %s\n", nominal, certified,
           !good                   ? "FAILED"
           : planted == FAULT_NONE ? "ok, the bound is not above it"
                                   : "ok, the planted fault is seen");
    return good;
}

typedef struct ranked {
    double   score;
    uint32_t place;
} ranked;

static int by_score(const void *a, const void *b)
{
    double x = ((const ranked *) a)->score, y = ((const ranked *) b)->score;
    return (x < y) - (x > y);
}

/* ---- faults ---- */

/* The table with other rows under the same claim, as no table that is opened could be. Thresholds are the caller's. */
static bool plant(const cmif_table *t, cmif_table *out, void **thresholds)
{
    const double total = ldexp(1, (int) t->weight_bits);
    const size_t bytes = (size_t) t->row_count * t->stride * (t->weight_bits == 32 ? 4 : 8);
    double      *share = malloc(((size_t) t->stride + 1) * sizeof *share);
    ranked      *order = malloc(((size_t) t->stride + 1) * sizeof *order);
    *out               = *t;
    *thresholds        = aligned_alloc(64, (bytes + 64) / 64 * 64 + 64);
    if (!share || !order || !*thresholds) {
        free(share);
        free(order);
        return false;
    }
    memset(*thresholds, 0, (bytes + 64) / 64 * 64 + 64);
    for (uint32_t row = 0; row < t->row_count; row++) {
        uint32_t size = size_of_block(t, t->block_of[row]);
        double   sum = 0, so_far = 0;
        for (uint32_t j = 0; j < size; j++) {
            share[j] = (double) cmif_table_weight(t, row, j) / total;
            order[j] =
                (ranked){share[j] - 1e-9 * ((j + size - row % size) % size), j}; /* of equals, others in each row */
        }
        qsort(order, size, sizeof *order, by_score);
        for (uint32_t j = 0; j < size; j++) {
            if (planted == FAULT_RESCALE) {
                share[j] *= share[j];
            } else if (j >= (size + 1) / 2) {
                share[order[j].place] = 0;
            }
        }
        for (uint32_t j = 0; j < size; j++) {
            sum += share[j];
        }
        for (uint32_t j = 0; j < t->stride; j++) {
            so_far += j < size ? share[j] / sum : 0;
            double edge =
                fmin(fmax(floor(so_far * total), j + 1.0), total - (size - 1.0)); /* a weight of 1 at the least */
            uint64_t at = j + 1 < size ? (uint64_t) edge - 1 : ((uint64_t) 1 << t->weight_bits) - 1;
            size_t   to = (size_t) row * t->stride + j;
            if (t->weight_bits == 32) {
                ((uint32_t *) *thresholds)[to] = (uint32_t) at;
            } else {
                ((uint64_t *) *thresholds)[to] = at;
            }
        }
    }
    out->thresholds = *thresholds;
    free(share);
    free(order);
    return true;
}

/* ---- */

static void twice(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(2, self, size, total, weights); /* epsilon ln 2, sold as 1 */
}

static int usage(void)
{
    fprintf(stderr, "usage: audit [--fault rescale|neighbours|reseed] [TABLE.cmifch | -] [draws]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[]   = {{"fault", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    static const char *const   names[]     = {NULL, "rescale", "neighbours", "reseed"};
    cmif_table                *table       = NULL, faulty;
    void                      *faulty_rows = NULL;
    cmif_certificate           certificate;
    cmif_noise                *noise = NULL;
    cmif_err                   err   = {0};
    uint64_t                   draws = 100000000, random = 1;
    int                        result = 2;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        for (int i = 1; option == 'f' && i < 4; i++) {
            planted = strcmp(optarg, names[i]) == 0 ? (fault) i : planted;
        }
        if (option != 'f' || planted == FAULT_NONE) {
            return usage();
        }
    }
    const char *path = optind < argc ? argv[optind] : "-";
    draws            = optind + 1 < argc ? strtoull(argv[optind + 1], NULL, 10) : draws;
    if (draws < 10000 || argc - optind > 2) {
        return usage();
    }
    if (strcmp(path, "-") == 0) {
        table = rig_made_up(2000, 20, 32, 1, twice);
    } else if (cmif_table_open(path, &table, NULL, &err) != CMIF_OK) {
        fprintf(stderr, "audit: %s\n", err.text);
    }
    if (!table || cmif_noise_new(&noise, &err) != CMIF_OK ||
        __real_cmif_noise_take(noise, &random, sizeof random, &err) != CMIF_OK) {
        goto done;
    }
    random |= 1;
    cmif_table_certify(table, table->claim.adjacency, &certificate);
    faulty = *table;
    if ((planted == FAULT_RESCALE || planted == FAULT_NEIGHBOURS) && !plant(table, &faulty, &faulty_rows)) {
        goto done;
    }
    bool good = planted != FAULT_NONE || audit_rows(&faulty, noise, draws, &random);
    good      = audit_pairs(&faulty, &certificate, noise, draws / 40, random) && good;
    result    = good ? 0 : 1;
done:
    cmif_noise_free(noise);
    cmif_table_free(table);
    free(faulty_rows);
    return result;
}
