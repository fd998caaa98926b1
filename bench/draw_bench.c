/* draw_bench - how fast words are drawn and released, beside CUSTEXT's sampling in Python (custext.py) in the same run;
 * and whether the time of a draw depends on what is drawn.
 *
 *   draw_bench            draws and words per second on one core: rows of 20, 40,000 words; the best of many short runs
 *   draw_bench --dudect   Welch's t between cycles for one word and one uniform, and for random ones (Reparaz and
 * others, "dude, is my code constant time?", 2017), over 10^6 measurements each cropped at four percentiles. Exit 0:
 *                         |t| < 4.5 for the scan, and not so for a control that stops at the first threshold not below.
 *                         The table is small and lies in the cache: addresses do depend on the word. */
#include "audit_rig.h"
#include "dp/draw.h"
#include "dp/release.h"

#include <time.h>
#include <x86intrin.h>

enum { WORDS = 40000, FEW_WORDS = 201, K = 20, COUNT = 1 << 15, RUNS = 200 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static uint64_t state = 1;
static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static void boosted(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(3, self, size, total, weights);
}

static void put(const char *what, double per_second, double python)
{
    printf("%-44s %8.2f million/s", what, per_second * 1e-6);
    printf(python > 0 ? "  %8.0f times Python\n" : "\n", per_second / python);
}

/* ---- speed ---- */

static double python_speed(char name[static 64])
{
    char   command[512], line[128] = "";
    double speed = 0;
    snprintf(command, sizeof command, "python3 '%s/bench/custext.py' %d %d", CMIF_SOURCE_DIR, WORDS, K);
    FILE *pipe = popen(command, "r");
    if (pipe && fgets(line, sizeof line, pipe)) {
        char *tab = strchr(line, '\t');
        if (tab) {
            snprintf(name, 64, "%.*s", (int) (tab - line), line);
            speed = strtod(tab + 1, NULL);
        }
    }
    if (pipe) {
        pclose(pipe);
    }
    return speed;
}

static int measure_speed(const cmif_table *table, cmif_noise *noise, cmif_sanitizer *sanitizer)
{
    static uint32_t words[COUNT], outputs[COUNT];
    static char     text[COUNT * 5];
    char            name[64] = "none";
    double          python   = python_speed(name);
    double          best[2]  = {0};

    for (uint32_t i = 0; i < COUNT; i++) {
        words[i] = 1 + (uint32_t) (next() % (WORDS - 1));
        memcpy(text + (size_t) i * 5, cmif_table_word(table, words[i]).data, 4);
        text[i * 5 + 4] = i % 12 ? ' ' : '\n';
    }
    for (int run = 0; run < RUNS; run++) {
        double start = now();
        if (cmif_dp_draw(table, noise, words, COUNT, outputs, NULL) != CMIF_OK) {
            return 1;
        }
        double         speed = COUNT / (now() - start);
        cmif_released *out   = NULL;
        best[0]              = speed > best[0] ? speed : best[0];
        start                = now();
        if (cmif_dp_release_channel(sanitizer, text, sizeof text, NULL, &out, NULL) != CMIF_OK) {
            return 1;
        }
        speed   = COUNT / (now() - start);
        best[1] = speed > best[1] ? speed : best[1];
        cmif_released_free(out);
    }
    printf("CUSTEXT's sampling, Python, %s: %.3f million words/s\n", name, python * 1e-6);
    put("draws, rows of 20, words at random of 40,000:", best[0], python);
    put("words, from text to released text:", best[1], python);
    return 0;
}

/* ---- time of a draw ---- */

typedef struct mean { /* Welford */
    double count, mean, squares;
} mean;

static void mean_add(mean *m, double x)
{
    double off = x - m->mean;
    m->count++;
    m->mean += off / m->count;
    m->squares += off * (x - m->mean);
}

static double welch(const mean *a, const mean *b)
{
    double va = a->squares / (a->count - 1) / a->count, vb = b->squares / (b->count - 1) / b->count;
    return va + vb > 0 ? (a->mean - b->mean) / sqrt(va + vb) : 0;
}

typedef void scan_of(const cmif_table *, const uint32_t *, const uint32_t *, size_t, uint32_t *);

static void scan_fixed(const cmif_table *t, const uint32_t *words, const uint32_t *u, size_t count, uint32_t *outputs)
{
    if (!cmif_dp_scan(CMIF_SCAN_AVX2, t, words, u, count, outputs)) {
        (void) cmif_dp_scan(CMIF_SCAN_PLAIN, t, words, u, count, outputs);
    }
}

static void scan_leaky(const cmif_table *t, const uint32_t *words, const uint32_t *u, size_t count, uint32_t *outputs)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t *row = (const uint32_t *) t->thresholds + (size_t) words[i] * t->stride;
        uint32_t        j   = 0;
        while (j < t->stride && row[j] < u[i]) {
            j++;
        }
        outputs[i] = t->outputs[t->block_at[t->block_of[words[i]]] + j];
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

/* Largest |t| over the crops. */
static double largest_t(const cmif_table *table, scan_of *scan, uint32_t measurements, const char *what)
{
    static const double crops[] = {0.99, 0.9, 0.75, 0.5};
    uint32_t           *cycles = malloc(measurements * sizeof *cycles), *sorted = malloc(measurements * sizeof *sorted);
    uint8_t *class = malloc(measurements);
    double most    = 0;
    if (!cycles || !sorted || !class) {
        goto done;
    }
    const uint32_t fixed_word = 1 + (uint32_t) (next() % (FEW_WORDS - 1)), fixed_u = (uint32_t) (next() >> 32);
    for (uint32_t m = 0; m < measurements; m++) {
        class[m] = (uint8_t) (next() >> 63);
        const uint32_t mask =
            0 - (uint32_t) class[m]; /* the same work for both classes, and no branch to be remembered */
        uint32_t word = 1 + (uint32_t) (next() % (FEW_WORDS - 1)), u = (uint32_t) (next() >> 32), output;
        word = fixed_word ^ (mask & (fixed_word ^ word));
        u    = fixed_u ^ (mask & (fixed_u ^ u));
        scan_fixed(table, &word, &u, 1, &output); /* everything that will be read is in the cache */
        unsigned core;
        _mm_lfence();
        uint64_t start = __rdtsc();
        _mm_lfence();
        scan(table, &word, &u, 1, &output);
        uint64_t end = __rdtscp(&core);
        _mm_lfence();
        cycles[m] = (uint32_t) (end - start < UINT32_MAX ? end - start : UINT32_MAX);
    }
    memcpy(sorted, cycles, measurements * sizeof *cycles);
    qsort(sorted, measurements, sizeof *sorted, by_size);
    for (size_t c = 0; c < sizeof crops / sizeof *crops; c++) {
        uint32_t limit   = sorted[(size_t) (crops[c] * (measurements - 1))];
        mean     both[2] = {{0}};
        for (uint32_t m = 0; m < measurements; m++) {
            if (cycles[m] <= limit) {
                mean_add(&both[class[m]], cycles[m]);
            }
        }
        double t = welch(&both[0], &both[1]);
        most     = fabs(t) > most ? fabs(t) : most;
        printf("%-8s up to %2.0f %%: %7.2f and %7.2f cycles a draw, t = %+.2f\n", what, 100 * crops[c], both[0].mean,
               both[1].mean, t);
    }
done:
    free(cycles);
    free(sorted);
    free(class);
    return most;
}

static int measure_time(const cmif_table *table)
{
    double scan  = largest_t(table, scan_fixed, 1000000, "scan"),
           leaky = largest_t(table, scan_leaky, 1000000, "control");
    bool good    = scan < 4.5 && leaky >= 4.5;
    printf("%s: |t| %.2f, below 4.5 %s; the leaky control %.2f\n", good ? "ok" : "FAILED", scan,
           scan < 4.5 ? "as it must be" : "is wanted", leaky);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    cmif_table     *table     = rig_made_up(argc == 2 ? FEW_WORDS : WORDS, K, 32, 2, boosted);
    cmif_noise     *noise     = NULL;
    cmif_sanitizer *sanitizer = NULL;
    int             result    = 2;
    state                     = (uint64_t) getpid() << 32 | (uint64_t) time(NULL);
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "--dudect") != 0)) {
        fprintf(stderr, "usage: draw_bench [--dudect]\n");
    } else if (table && cmif_noise_new(&noise, NULL) == CMIF_OK &&
               cmif_sanitizer_new(table, false, &sanitizer, NULL) == CMIF_OK) {
        result = argc == 2 ? measure_time(table) : measure_speed(table, noise, sanitizer);
    }
    cmif_sanitizer_free(sanitizer);
    cmif_noise_free(noise);
    cmif_table_free(table);
    return result;
}
