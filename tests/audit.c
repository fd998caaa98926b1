/* audit - what the certifier says of a table, looked for in what the shipped code draws from it.
 *
 *   audit [--fault rescale|neighbours|reseed] [TABLE.cmifch | -] [draws]
 *
 * Two tests; "-" is a made-up table, draws (10^8 unless told) is the number for the first of them.
 *  1. G-tests of 50 rows against their weights; the 50 p-values against uniform (Kolmogorov and Smirnov).
 *  2. An empirical lower bound of epsilon, on the pair that the certificate names and on random pairs of one block:
 * half of the draws choose a set of outputs, the other half bounds the ratio of its probabilities by Clopper and
 * Pearson, with Bonferroni over the pairs (research note on privacy, section 5). It must not be above the certified
 * epsilon. With a planted fault the bound must come out above the nominal epsilon, which shows that the second test can
 * fail: rescale     rows of a table for twice the epsilon: the scale Delta / epsilon where 2 Delta / epsilon is right
 *  neighbours  every word has outputs of its own: the nearer half of its block's
 *  reseed      the generator starts again at every call
 *
 * Exit 0: as it must be; 1: not so; 2: no such table. Linked with --wrap=cmif_noise_take, for the last fault. */
#include "audit_rig.h"
#include "dp/draw.h"

#include <getopt.h>

enum { ROWS = 50, PAIRS = 25, BATCH = 1 << 16 };
static const double alpha = 0.001; /* of a lower bound above the truth, over all pairs of a run */

typedef enum fault { FAULT_NONE, FAULT_RESCALE, FAULT_NEIGHBOURS, FAULT_RESEED } fault;
static fault    planted;
static uint64_t seed = 1; /* of the fault: the second in which the pair was drawn, say */

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

/* ---- bounds ---- */

/* Regularized incomplete beta function, by its continued fraction (Lentz). */
static double beta_at(double x, double a, double b)
{
    const double tiny = 1e-300;
    if (x <= 0 || x >= 1) {
        return x >= 1;
    }
    if (x > (a + 1) / (a + b + 2)) {
        return 1 - beta_at(1 - x, b, a);
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    double c = 1, d = 1 - (a + b) * x / (a + 1), h;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    h = d;
    for (int m = 1; m < 100000; m++) {
        double step = 1;
        for (int odd = 0; odd < 2; odd++) {
            double term = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                              : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d           = 1 + term * d;
            d           = 1 / (fabs(d) < tiny ? tiny : d);
            c           = 1 + term / c;
            c           = fabs(c) < tiny ? tiny : c;
            step        = c * d;
            h *= step;
        }
        if (fabs(step - 1) < 1e-14) {
            break;
        }
    }
    return front * h;
}

static double beta_inverse(double p, double a, double b)
{
    double low = 0, high = 1;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (beta_at(middle, a, b) < p) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (low + high) / 2;
}

/* ln of the ratio of two probabilities that were seen k of n and l of n times: a bound from below, wrong at most once
 * in 1/error. */
static double log_ratio_bound(double k, double l, double n, double error)
{
    double least = k > 0 ? beta_inverse(error / 2, k, n - k + 1) : 0;
    double most  = l < n ? beta_inverse(1 - error / 2, l + 1, n - l) : 1;
    return least > 0 ? log(least / most) : -INFINITY;
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

/* Draw `draws` times for each of `count` words in turn, many words in a call (one, if the generator is re-seeded at
 * every call), and count outputs by their place in the block: seen[i] is of words[i]. */
static bool draw_all(const cmif_table *t, cmif_noise *noise, const uint32_t *words, uint32_t count, uint64_t draws,
                     uint64_t *const *seen)
{
    static uint32_t in[BATCH], out[BATCH];
    const uint32_t  rounds = planted == FAULT_RESEED ? 1 : BATCH / count;
    for (uint64_t done = 0; done < draws; done += rounds) {
        uint32_t n = count * (uint32_t) (draws - done < rounds ? draws - done : rounds);
        for (uint32_t i = 0; i < n; i++) {
            in[i] = words[i % count];
        }
        for (uint32_t at = 0, step = planted == FAULT_RESEED ? 1 : n; at < n; at += step) {
            cmif_err err = {0};
            if (cmif_dp_draw(t, noise, in + at, step, out + at, &err) != CMIF_OK) {
                fprintf(stderr, "audit: %s\n", err.text);
                return false;
            }
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

typedef struct ranked {
    double   score;
    uint32_t place;
} ranked;

static int by_score(const void *a, const void *b)
{
    double x = ((const ranked *) a)->score, y = ((const ranked *) b)->score;
    return (x < y) - (x > y);
}

/* Bound for words[0] over words[1], and the other way round; half of the error each. -INFINITY: nothing can be said. */
static double bound_of_pair(const cmif_table *t, cmif_noise *noise, const uint32_t words[static 2], uint64_t draws)
{
    uint32_t  size = size_of_block(t, cmif_table_block(t, words[0]));
    double    n = (double) draws, error = alpha / PAIRS / 2, best = -INFINITY;
    uint64_t *half[2] = {NULL}, *other[2] = {NULL};
    ranked   *order = malloc(size * sizeof *order);
    if (!order || !make_counts(t, words, 2, half) || !make_counts(t, words, 2, other) ||
        !draw_all(t, noise, words, 2, draws, half) || !draw_all(t, noise, words, 2, draws, other)) {
        best = NAN;
        goto done;
    }
    for (int turn = 0; turn < 2; turn++) {
        const uint64_t *x = half[turn], *y = half[!turn];
        double          k = 0, l = 0, highest = -INFINITY;
        uint32_t        chosen = 0;
        for (uint32_t j = 0; j < size; j++) {
            order[j] = (ranked){((double) x[j] + 0.5) / ((double) y[j] + 0.5), j};
        }
        qsort(order, size, sizeof *order, by_score);
        for (uint32_t j = 0; j < size && j < 64; j++) { /* the first j outputs by ratio: which j has the best bound? */
            k += (double) x[order[j].place];
            l += (double) y[order[j].place];
            double bound = log_ratio_bound(k, l, n, error);
            if (bound > highest) {
                highest = bound;
                chosen  = j + 1;
            }
        }
        k = l = 0;
        for (uint32_t j = 0; j < chosen; j++) {
            k += (double) other[turn][order[j].place];
            l += (double) other[!turn][order[j].place];
        }
        best = chosen ? fmax(best, log_ratio_bound(k, l, n, error)) : best;
    }
done:
    free(order);
    free_counts(2, half);
    free_counts(2, other);
    return best;
}

static bool audit_pairs(const cmif_table *t, const cmif_certificate *c, cmif_noise *noise, uint64_t draws,
                        uint64_t *random)
{
    const double nominal   = (double) t->claim.epsilon_num / (double) t->claim.epsilon_den;
    const double certified = c->pure ? (double) c->epsilon_micro * 1e-6 : INFINITY;
    double       highest   = -INFINITY;
    uint32_t     worst[2] = {0}, tried = 0;
    for (uint32_t tries = 0; tries < 1000 * PAIRS && tried < PAIRS; tries++) {
        uint32_t pair[2] = {c->word_high, c->word_low};
        if (tries || pair[0] == CMIF_NO_WORD || pair[1] == CMIF_NO_WORD) {
            pair[0] = below(random, t->word_count);
            pair[1] = below(random, t->word_count);
            for (uint32_t i = 0; i < 1000 && cmif_table_block(t, pair[0]) != cmif_table_block(t, pair[1]); i++) {
                pair[1] = below(random, t->word_count);
            }
        }
        if (cmif_table_block(t, pair[0]) != cmif_table_block(t, pair[1]) || pair[0] == pair[1]) {
            continue;
        }
        double bound = bound_of_pair(t, noise, pair, draws);
        if (isnan(bound)) {
            return false;
        }
        seed++;
        tried++;
        if (bound > highest) {
            highest  = bound;
            worst[0] = pair[0];
            worst[1] = pair[1];
        }
    }
    printf("%u pairs, %llu draws for each word: epsilon >= %.6f (confidence %.1f %%", tried,
           (unsigned long long) (2 * draws), highest, 100 * (1 - alpha));
    printf(tried ? ", words %u and %u)\n" : ")\n", worst[0], worst[1]);
    bool good = planted == FAULT_NONE ? highest <= certified : highest > nominal;
    printf("nominal %.6f, certified %.6f: %s\n", nominal, certified,
           !good                   ? "FAILED"
           : planted == FAULT_NONE ? "ok, the bound is not above it"
                                   : "ok, the planted fault is seen");
    return good;
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
    good      = audit_pairs(&faulty, &certificate, noise, draws / 40, &random) && good;
    result    = good ? 0 : 1;
done:
    cmif_noise_free(noise);
    cmif_table_free(table);
    free(faulty_rows);
    return result;
}
