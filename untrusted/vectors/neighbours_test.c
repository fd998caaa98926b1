/* Every kernel that this machine has gives one and the same answer, and it is the right one. */
#include "vectors/neighbours.h"

#include "base/check.h"
#include "vectors/neighbours_check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- the n-th allocation, or every thread, can be refused (the linker wraps these) ---- */

static long allocations_left = -1; /* negative: never fail */
static bool threads_refused;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_calloc(size_t count, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_calloc(size_t count, size_t size);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

static bool refuse(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return refuse() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __real_calloc(count, size);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    return threads_refused ? 11 : __real_pthread_create(thread, attributes, start, argument);
}

/* ---- tables ---- */

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n) /* splitmix64 (Steele et al. 2014) */
{
    uint64_t x = random_state += 0x9e3779b97f4a7c15u;
    x          = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x          = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t) ((x ^ x >> 31) >> 32) % n;
}

static float random_float(void) /* sum of four uniform numbers about 0: bell enough */
{
    return (float) (random_below(1 << 20) + random_below(1 << 20) + random_below(1 << 20) + random_below(1 << 20)) /
               (1 << 20) -
           2;
}

typedef struct table {
    uint32_t count, width;
    float   *rows;
} table;

static table new_table(uint32_t count, uint32_t width)
{
    return (table){count, width, malloc((size_t) count * width * sizeof(float))};
}

static table random_table(uint32_t count, uint32_t width)
{
    table t = new_table(count, width);
    for (size_t i = 0; i < (size_t) count * width; i++) {
        t.rows[i] = random_float();
    }
    return t;
}

/* Numbers so small and whole that every sum is exact in any order, and so few that many cosines tie, and many rows are
 * equal. */
static table whole_table(uint32_t count, uint32_t width)
{
    table t = new_table(count, width);
    for (size_t i = 0; i < (size_t) count * width; i++) {
        t.rows[i] = (float) random_below(3) - 1;
    }
    return t;
}

typedef struct answer {
    uint32_t *ids;
    double   *cosines;
} answer;

static answer neighbours(const table *t, uint32_t k, uint32_t threads, cmif_kernel kernel)
{
    answer a = {malloc((size_t) t->count * k * sizeof *a.ids), malloc((size_t) t->count * k * sizeof *a.cosines)};
    CHECK(cmif_neighbours(t->rows, t->count, t->width, k, threads, kernel, a.ids, a.cosines, NULL) == CMIF_OK);
    return a;
}

static bool same(const table *t, uint32_t k, answer a, answer b)
{
    return !memcmp(a.ids, b.ids, (size_t) t->count * k * sizeof *a.ids) &&
           !memcmp(a.cosines, b.cosines, (size_t) t->count * k * sizeof *a.cosines);
}

static void answer_free(answer a)
{
    free(a.ids);
    free(a.cosines);
}

/* The answer of every kernel (1 and 3 threads; all cores and 2 for auto) is `expected`; without one (ids NULL), that of
 * the portable kernel and one thread, and `sample` rows of that are right. */
static void check_all(const table *t, uint32_t k, answer expected, uint32_t sample)
{
    bool   given = expected.ids != NULL;
    answer first = given ? expected : neighbours(t, k, 1, CMIF_KERNEL_PORTABLE);

    for (uint32_t i = 0; i < sample; i++) {
        uint32_t row = (uint32_t) ((uint64_t) i * t->count / sample);
        CHECK(neighbours_are_right(t->rows, t->count, t->width, k, row, first.ids + (size_t) row * k,
                                   first.cosines + (size_t) row * k));
    }
    for (cmif_kernel kernel = CMIF_KERNEL_AUTO; kernel <= CMIF_KERNEL_BF16; kernel++) {
        for (uint32_t threads = kernel != CMIF_KERNEL_AUTO; threads <= 3 && cmif_kernel_fits(kernel); threads += 2) {
            answer a = neighbours(t, k, threads, kernel);
            CHECK(same(t, k, a, first));
            answer_free(a);
        }
    }
    if (!given) {
        answer_free(first);
    }
}

/* All cosines, sorted. */
typedef struct scored {
    double   cosine;
    uint32_t id;
} scored;

static int best_first(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->cosine != y->cosine ? (x->cosine > y->cosine ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

static answer plain_answer(const table *t, uint32_t k)
{
    answer  a   = {malloc((size_t) t->count * k * sizeof *a.ids), malloc((size_t) t->count * k * sizeof *a.cosines)};
    scored *all = malloc(t->count * sizeof *all);
    for (uint32_t i = 0; i < t->count; i++) {
        for (uint32_t j = 0; j < t->count; j++) {
            all[j] =
                (scored){plain_cosine(t->rows + (size_t) i * t->width, t->rows + (size_t) j * t->width, t->width), j};
        }
        qsort(all, t->count, sizeof *all, best_first);
        for (uint32_t r = 0; r < k; r++) {
            a.ids[(size_t) i * k + r]     = all[r].id;
            a.cosines[(size_t) i * k + r] = all[r].cosine;
        }
    }
    free(all);
    return a;
}

/* ---- promises ---- */

static void answers_equal_a_plain_reference_bit_for_bit_where_sums_are_exact(void)
{
    static const uint32_t counts[] = {1, 2, 5, 47, 48, 49, 96, 97, 200},
                          widths[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 127, 128, 129, 300};

    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            uint32_t ks[] = {1, (counts[c] + 1) / 2, counts[c]};
            for (size_t i = 0; i < 3; i++) {
                table  t        = whole_table(counts[c], widths[w]);
                answer expected = plain_answer(&t, ks[i]);
                check_all(&t, ks[i], expected, 0);
                answer_free(expected);
                free(t.rows);
            }
        }
    }
}

static void random_rows_get_their_neighbours(void)
{
    static const uint32_t shapes[][3] = {{1100, 100, 20}, {600, 1030, 5}, {2000, 24, 1}, {1000, 7, 100}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        table t = random_table(shapes[i][0], shapes[i][1]);
        check_all(&t, shapes[i][2], (answer){NULL, NULL}, 60);
        free(t.rows);
    }
}

/* Rows that differ by less than 16 bits can show: the fast scores say nothing, and the answer is right all the same. */
static void rows_too_close_for_the_fast_pass_are_told_apart(void)
{
    table t = new_table(700, 65);
    for (uint32_t j = 0; j < t.width; j++) {
        t.rows[j] = random_float();
    }
    for (size_t i = t.width; i < (size_t) t.count * t.width; i++) {
        t.rows[i] = t.rows[i % t.width] + random_float() * 1e-4f;
    }
    check_all(&t, 10, (answer){NULL, NULL}, 100);
    free(t.rows);
}

static void equal_rows_zero_rows_and_multiples_tie_by_id(void)
{
    table t = random_table(900, 50);
    for (uint32_t i = 0; i < 900; i++) {
        for (uint32_t j = 0; j < 50; j++) {
            if (i % 10 == 3) {
                t.rows[i * 50 + j] = 0;
            } else if (i >= 300 && i % 10 == 4) {
                t.rows[i * 50 + j] = t.rows[4 * 50 + j]; /* the same row, 61 times in all */
            } else if (i == 600) {
                t.rows[i * 50 + j] = t.rows[599 * 50 + j] * 4; /* exactly parallel */
            }
        }
    }
    check_all(&t, 70, (answer){NULL, NULL}, 30);
    answer a = neighbours(&t, 70, 2, CMIF_KERNEL_AUTO);
    for (uint32_t r = 0; r < 70; r++) {
        CHECK(a.ids[3 * 70 + r] == r && a.cosines[3 * 70 + r] == 0); /* a zero row ties with all */
        CHECK(r >= 61 || (a.ids[4 * 70 + r] == (r ? 294 + 10 * r : 4) && a.cosines[4 * 70 + r] == 1));
    }
    CHECK(memcmp(a.ids + 4 * 70, a.ids + 894 * 70, 70 * sizeof *a.ids) == 0); /* equal rows, equal answers */
    CHECK(a.ids[600 * 70] == 599 && a.ids[600 * 70 + 1] == 600 && a.cosines[600 * 70 + 1] == 1);
    CHECK(a.ids[599 * 70] == 599 && a.ids[598 * 70] == 598);
    answer_free(a);
    memset(t.rows, 0, 900 * 50 * sizeof *t.rows);
    check_all(&t, 2, (answer){NULL, NULL}, 2);
    free(t.rows);
}

static void the_largest_and_smallest_floats_are_rows_like_any_other(void)
{
    static const float scales[] = {0x1p+126f, 1, 0x1p-126f, 0x1p-140f};
    table              t        = random_table(400, 40);
    for (size_t i = 0; i < 400 * 40; i++) {
        t.rows[i] *=
            scales[i / 40 % 4] * (i % 7 == 0 ? 0x1p-8f : 1); /* numbers of very different size in one row as well */
    }
    check_all(&t, 9, (answer){NULL, NULL}, 60);
    for (size_t i = 0; i < 400 * 40; i++) {
        t.rows[i] = i % 40 == i / 40 % 40
                        ? 1
                        : 0; /* one element is all of the row: ten equal rows each, cosine 0 with the rest */
    }
    answer expected = plain_answer(&t, 30);
    check_all(&t, 30, expected, 0);
    answer_free(expected);
    free(t.rows);
}

static void bad_input_is_refused_and_names_the_row(void)
{
    table    t = random_table(100, 33);
    uint32_t ids[100];
    double   cosines[100];
    cmif_err err = {0};

    memset(ids, 7, sizeof ids);
    CHECK(cmif_neighbours(t.rows, 100, 33, 0, 1, CMIF_KERNEL_AUTO, ids, cosines, &err) == CMIF_E_RANGE);
    CHECK(cmif_neighbours(t.rows, 100, 33, 101, 1, CMIF_KERNEL_AUTO, ids, cosines, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "101 neighbours among 100 rows"));
    CHECK(cmif_neighbours(t.rows, 0, 33, 1, 1, CMIF_KERNEL_AUTO, ids, cosines, &err) == CMIF_E_RANGE);
    CHECK(cmif_neighbours(t.rows, 100, 0, 1, 1, CMIF_KERNEL_AUTO, ids, cosines, &err) == CMIF_E_RANGE);
    CHECK(cmif_neighbours(t.rows, 100, 33, 1, 1, (cmif_kernel) 9, ids, cosines, &err) == CMIF_E_UNSUPPORTED);
    for (cmif_kernel kernel = CMIF_KERNEL_PORTABLE; kernel <= CMIF_KERNEL_BF16; kernel++) {
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        for (size_t b = 0; b < 3 && cmif_kernel_fits(kernel); b++) {
            float kept           = t.rows[71 * 33 + 32];
            t.rows[71 * 33 + 32] = bad[b];
            t.rows[90 * 33]      = NAN; /* the first is named */
            CHECK(cmif_neighbours(t.rows, 100, 33, 1, 2, kernel, ids, cosines, &err) == CMIF_E_RANGE);
            CHECK(strstr(err.text, "row 71 of 100: number 32 is not finite"));
            t.rows[71 * 33 + 32] = kept;
            t.rows[90 * 33]      = 0;
        }
        if (!cmif_kernel_fits(kernel)) {
            CHECK(cmif_neighbours(t.rows, 100, 33, 1, 1, kernel, ids, cosines, &err) == CMIF_E_UNSUPPORTED);
        }
    }
    for (size_t i = 0; i < 100; i++) {
        CHECK(ids[i] == 0x07070707); /* untouched */
    }
    free(t.rows);
}

static void every_allocation_may_fail_and_threads_may_be_refused(void)
{
    table    t     = random_table(300, 20);
    answer   plain = neighbours(&t, 4, 3, CMIF_KERNEL_AUTO), a = neighbours(&t, 4, 3, CMIF_KERNEL_AUTO);
    cmif_err err    = {0};
    long     failed = 0;

    memset(a.ids, 0, 300 * 4 * sizeof *a.ids);
    for (;; failed++) {
        allocations_left = failed;
        cmif_code rc     = cmif_neighbours(t.rows, 300, 20, 4, 3, CMIF_KERNEL_AUTO, a.ids, a.cosines, &err);
        allocations_left = -1;
        if (rc == CMIF_OK) {
            break;
        }
        CHECK(rc == CMIF_E_MEMORY && a.ids[4 * 299] == 0);
    }
    CHECK(failed >= 20 && same(&t, 4, a, plain));
    threads_refused = true;
    answer alone    = neighbours(&t, 4, 3, CMIF_KERNEL_AUTO);
    threads_refused = false;
    CHECK(same(&t, 4, alone, plain));
    answer_free(alone);
    answer_free(a);
    answer_free(plain);
    free(t.rows);
}

int main(void)
{
    RUN(answers_equal_a_plain_reference_bit_for_bit_where_sums_are_exact);
    RUN(random_rows_get_their_neighbours);
    RUN(rows_too_close_for_the_fast_pass_are_told_apart);
    RUN(equal_rows_zero_rows_and_multiples_tie_by_id);
    RUN(the_largest_and_smallest_floats_are_rows_like_any_other);
    RUN(bad_input_is_refused_and_names_the_row);
    RUN(every_allocation_may_fail_and_threads_may_be_refused);
    return check_report();
}
