/* neighbours_bench - seconds of cmif_neighbours on a table of random numbers; tools/neighbours-bench puts NumPy beside
 * it.
 *
 *   make TABLE COUNT WIDTH                               COUNT x WIDTH normal floats, raw, the same every time
 *   run  TABLE COUNT WIDTH K THREADS KERNEL SAMPLE [OUT] one line: kernel seconds GFLOP/s (of the full square) peak-MB
 * checked-rows OUT: ids (COUNT, K) uint32, then cosines (COUNT, K) double, raw */
#include "vectors/neighbours.h"
#include "vectors/neighbours_check.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/* A normal number, by Box and Muller, from the splitmix64 generator (Steele et al. 2014). */
static double uniform(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x          = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x          = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return ((double) ((x ^ x >> 31) >> 12) + .5) * 0x1p-52;
}

static float normal(uint64_t *state)
{
    double radius = sqrt(-2 * log(uniform(state)));
    return (float) (radius * cos(6.283185307179586 * uniform(state)));
}

static uint32_t number(const char *text)
{
    return (uint32_t) strtoul(text, NULL, 10);
}

static int make(const char *path, uint32_t count, uint32_t width)
{
    uint64_t state = 1;
    float   *row   = malloc(width * sizeof *row);
    FILE    *file  = fopen(path, "wb");
    bool     good  = row && file;

    for (uint32_t i = 0; i < count && good; i++) {
        for (uint32_t j = 0; j < width; j++) {
            row[j] = normal(&state);
        }
        good = fwrite(row, sizeof *row, width, file) == width;
    }
    good = file && fclose(file) == 0 && good;
    free(row);
    return good ? 0 : (fprintf(stderr, "cannot write %s\n", path), 1);
}

static int run(char **argv, int extra)
{
    uint32_t    count = number(argv[1]), width = number(argv[2]), k = number(argv[3]), sample = number(argv[6]);
    float      *rows    = malloc((size_t) count * width * sizeof *rows);
    uint32_t   *ids     = malloc((size_t) count * k * sizeof *ids);
    double     *cosines = malloc((size_t) count * k * sizeof *cosines);
    FILE       *file    = fopen(argv[0], "rb");
    cmif_kernel kernel  = CMIF_KERNEL_AUTO;
    cmif_err    err     = {0};
    int         rc      = 1;

    while (kernel <= CMIF_KERNEL_BF16 && strcmp(cmif_kernel_name(kernel), argv[5])) {
        kernel++;
    }
    if (!rows || !ids || !cosines || !file ||
        fread(rows, sizeof *rows, (size_t) count * width, file) != (size_t) count * width) {
        fprintf(stderr, "cannot read %u x %u floats from %s, or no memory\n", count, width, argv[0]);
        goto done;
    }
    double from = seconds();
    if (cmif_neighbours(rows, count, width, k, number(argv[4]), kernel, ids, cosines, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        goto done;
    }
    double        took = seconds() - from;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    for (uint32_t i = 0; i < sample; i++) {
        uint32_t row = (uint32_t) ((uint64_t) i * count / sample);
        if (!neighbours_are_right(rows, count, width, k, row, ids + (size_t) row * k, cosines + (size_t) row * k)) {
            fprintf(stderr, "the neighbours of row %u are not those of the reference\n", row);
            goto done;
        }
    }
    printf("%s %.3f %.1f %ld %u\n", argv[5], took, 2e-9 * count * count * width / took, usage.ru_maxrss / 1024, sample);
    rc = 0;
    if (extra) {
        FILE *out = fopen(argv[7], "wb");
        if (!out || fwrite(ids, sizeof *ids, (size_t) count * k, out) != (size_t) count * k ||
            fwrite(cosines, sizeof *cosines, (size_t) count * k, out) != (size_t) count * k || fclose(out)) {
            fprintf(stderr, "cannot write %s\n", argv[7]);
            rc = 1;
        }
    }
done:
    if (file) {
        fclose(file);
    }
    free(rows);
    free(ids);
    free(cosines);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "make")) {
        return make(argv[2], number(argv[3]), number(argv[4]));
    }
    if ((argc == 9 || argc == 10) && !strcmp(argv[1], "run")) {
        return run(argv + 2, argc == 10);
    }
    fprintf(stderr, "usage: neighbours_bench make TABLE COUNT WIDTH\n"
                    "       neighbours_bench run TABLE COUNT WIDTH K THREADS KERNEL SAMPLE [OUT]\n");
    return 2;
}
