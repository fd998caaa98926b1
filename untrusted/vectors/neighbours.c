/* How a result is proved exact
 *
 * Row i as a unit vector is u_i; its true cosine with row j is u_i.u_j. The fast pass works on 16-bit copies q_i of
 * S u_i. The residual e_i = S u_i - q_i has length E_i, computed for each row and rounded up; T is the largest E_j.
 * By S u = q + e, twice, and Cauchy-Schwarz:
 *
 *     |S^2 u_i.u_j - q_i.q_j|  =  |e_i.(S u_j) + q_i.e_j|  <=  E_i S + (S + E_i) T
 *
 * A score adds up CHUNK pairs of products, then those sums, in binary32. On its way an element is rounded at most R
 * times: once for each chunk, once for making its sum a float, or, where the products of a chunk are themselves added
 * in binary32, 2 CHUNK times. So (Higham 2002, section 3.1; |q| <= S + T) a score is off by at most
 *
 *     R 2^-24 (1 + 2^-8) (S + T)^2
 *
 * The cosine that we report is computed too: a sum of `width` products, exact in double, is off by at most
 * width 2^-53 |a| |b|, so are the squares under the root; root, product and quotient add three roundings. In all
 *
 *     (width + 8) 2^-52
 *
 * of a cosine, which also pays for products that are too small for binary32. These three together are B_i ("slack"):
 * a score and S^2 times the reported cosine differ by at most B_i.
 *
 * So when k rows have scores >= t, the k-th best cosine is at least (t - B_i) / S^2, and no row with a score below
 * t - 2 B_i can be among the k best, ties included. When k rows have cosines >= x, none below S^2 x - B_i can. That is
 * the "floor" of a row. What is not below it is kept, and scored again in double, by one fixed tree of additions that
 * every kernel shares. */
#include "vectors/neighbours.h"

#include "base/bytes.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Rows stand in panels of PANEL, as pairs of 16-bit numbers: pair p of row r is word p * PANEL + r of its panel. PANEL
 * is a multiple of every register tile (8 x 48, 6 x 16, 1 x 48). CHUNK pairs of two panels and the scores of both
 * (12 + 12 + 9 KB) stay in a 48 KB level-1 cache, a panel of width 4,096 (400 KB) in level 2, and two blocks of panels
 * for each thread (BLOCK_BYTES each) in level 3. */
enum { LANES = 32, PANEL = 48, CHUNK = 64, PANELS_MOST = 20, BLOCK_BYTES = 4 << 20 };

/* c[i][j] += the product of row i of panel a and row j of panel b over `pairs` <= CHUNK pairs */
typedef void chunk_fn(const uint32_t *a, const uint32_t *b, size_t pairs, float *c);
/* hit[i]: in row i of c is a score not below the floor of row i of a or of its row of b */
typedef void   scan_fn(const float *c, const float *floor_a, const float *floor_b, uint8_t *hit);
typedef double dot_fn(const float *a, const float *b, size_t width);

typedef struct kernel_code {
    bool      bf16; /* panels of bfloat16, else of integers */
    chunk_fn *chunk;
    scan_fn  *scan;
    dot_fn   *dot;
} kernel_code;

/* ---- the same C for every machine, compiled once for each ---- */

/* Products of floats are exact in double and lane l of LANES adds elements l, l + LANES, ...; here the last few
 * elements join their lanes, and the lanes are added in halves. Every kernel's dot_fn is this sum, bit for bit, fused
 * or not. */
static double finish_dot(double lane[static LANES], const float *a, const float *b, size_t at, size_t width)
{
    for (size_t l = 0; at + l < width; l++) {
        lane[l] += (double) a[at + l] * (double) b[at + l];
    }
    for (size_t half = LANES / 2; half; half /= 2) {
        for (size_t l = 0; l < half; l++) {
            lane[l] += lane[l + half];
        }
    }
    return lane[0];
}

static double dot_portable(const float *a, const float *b, size_t width)
{
    double lane[LANES] = {0};
    size_t at          = 0;
    for (; at + LANES <= width; at += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            lane[l] += (double) a[at + l] * (double) b[at + l];
        }
    }
    return finish_dot(lane, a, b, at, width);
}

static inline __attribute__((always_inline)) void scan_body(const float *c, const float *floor_a, const float *floor_b,
                                                            uint8_t *hit)
{
    for (size_t i = 0; i < PANEL; i++) {
        int any = 0;
        for (size_t j = 0; j < PANEL; j++) {
            any |= (c[i * PANEL + j] >= floor_a[i]) | (c[i * PANEL + j] >= floor_b[j]);
        }
        hit[i] = (uint8_t) any;
    }
}

static void scan_portable(const float *c, const float *floor_a, const float *floor_b, uint8_t *hit)
{
    scan_body(c, floor_a, floor_b, hit);
}

static void chunk_portable(const uint32_t *a, const uint32_t *b, size_t pairs, float *c)
{
    for (size_t i = 0; i < PANEL; i++) {
        int32_t sum[PANEL] = {0};
        for (size_t p = 0; p < pairs; p++) {
            int32_t low = (int16_t) a[p * PANEL + i], high = (int16_t) (a[p * PANEL + i] >> 16);
            for (size_t j = 0; j < PANEL; j++) {
                sum[j] += low * (int16_t) b[p * PANEL + j] + high * (int16_t) (b[p * PANEL + j] >> 16);
            }
        }
        for (size_t j = 0; j < PANEL; j++) {
            c[i * PANEL + j] += (float) sum[j];
        }
    }
}

#ifdef __x86_64__
#define ISA_AVX2 __attribute__((target("avx2,fma")))
#define ISA_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define ISA_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))

ISA_AVX2 static void scan_avx2(const float *c, const float *floor_a, const float *floor_b, uint8_t *hit)
{
    scan_body(c, floor_a, floor_b, hit);
}

ISA_AVX512 static void scan_avx512(const float *c, const float *floor_a, const float *floor_b, uint8_t *hit)
{
    scan_body(c, floor_a, floor_b, hit);
}

ISA_AVX2 static double dot_avx2(const float *a, const float *b, size_t width)
{
    double  lane[LANES];
    __m256d sum[8];
    size_t  at = 0;
    for (size_t v = 0; v < 8; v++) {
        sum[v] = _mm256_setzero_pd();
    }
    for (; at + LANES <= width; at += LANES) {
        for (size_t v = 0; v < 8; v++) {
            sum[v] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm_loadu_ps(a + at + 4 * v)),
                                     _mm256_cvtps_pd(_mm_loadu_ps(b + at + 4 * v)), sum[v]);
        }
    }
    for (size_t v = 0; v < 8; v++) {
        _mm256_storeu_pd(lane + 4 * v, sum[v]);
    }
    return finish_dot(lane, a, b, at, width);
}

ISA_AVX512 static double dot_avx512(const float *a, const float *b, size_t width)
{
    double  lane[LANES];
    __m512d sum[4];
    size_t  at = 0;
    for (size_t v = 0; v < 4; v++) {
        sum[v] = _mm512_setzero_pd();
    }
    for (; at + LANES <= width; at += LANES) {
        for (size_t v = 0; v < 4; v++) {
            sum[v] = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_loadu_ps(a + at + 8 * v)),
                                     _mm512_cvtps_pd(_mm256_loadu_ps(b + at + 8 * v)), sum[v]);
        }
    }
    for (size_t v = 0; v < 4; v++) {
        _mm512_storeu_pd(lane + 8 * v, sum[v]);
    }
    return finish_dot(lane, a, b, at, width);
}

ISA_AVX2 static void chunk_avx2(const uint32_t *a, const uint32_t *b, size_t pairs, float *c)
{
    for (size_t i = 0; i < PANEL; i += 6) {
        for (size_t j = 0; j < PANEL; j += 16) {
            __m256i sum[6][2];
            for (size_t r = 0; r < 6; r++) {
                sum[r][0] = sum[r][1] = _mm256_setzero_si256();
            }
            for (size_t p = 0; p < pairs; p++) {
                __m256i b0 = _mm256_load_si256((const __m256i *) (b + p * PANEL + j));
                __m256i b1 = _mm256_load_si256((const __m256i *) (b + p * PANEL + j + 8));
                for (size_t r = 0; r < 6; r++) {
                    __m256i a0 = _mm256_set1_epi32((int32_t) a[p * PANEL + i + r]);
                    sum[r][0]  = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(a0, b0));
                    sum[r][1]  = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(a0, b1));
                }
            }
            for (size_t r = 0; r < 6; r++) {
                float *at = c + (i + r) * PANEL + j;
                _mm256_store_ps(at, _mm256_add_ps(_mm256_load_ps(at), _mm256_cvtepi32_ps(sum[r][0])));
                _mm256_store_ps(at + 8, _mm256_add_ps(_mm256_load_ps(at + 8), _mm256_cvtepi32_ps(sum[r][1])));
            }
        }
    }
}

ISA_AVX512 static void chunk_avx512(const uint32_t *a, const uint32_t *b, size_t pairs, float *c)
{
    for (size_t i = 0; i < PANEL; i += 8) {
        __m512i sum[8][3];
        for (size_t r = 0; r < 8; r++) {
            sum[r][0] = sum[r][1] = sum[r][2] = _mm512_setzero_si512();
        }
        for (size_t p = 0; p < pairs; p++) {
            __m512i b0 = _mm512_load_si512(b + p * PANEL);
            __m512i b1 = _mm512_load_si512(b + p * PANEL + 16);
            __m512i b2 = _mm512_load_si512(b + p * PANEL + 32);
            for (size_t r = 0; r < 8; r++) {
                __m512i a0 = _mm512_set1_epi32((int32_t) a[p * PANEL + i + r]);
                sum[r][0]  = _mm512_add_epi32(sum[r][0], _mm512_madd_epi16(a0, b0));
                sum[r][1]  = _mm512_add_epi32(sum[r][1], _mm512_madd_epi16(a0, b1));
                sum[r][2]  = _mm512_add_epi32(sum[r][2], _mm512_madd_epi16(a0, b2));
            }
        }
        for (size_t r = 0; r < 8; r++) {
            for (size_t v = 0; v < 3; v++) {
                float *at = c + (i + r) * PANEL + 16 * v;
                _mm512_store_ps(at, _mm512_add_ps(_mm512_load_ps(at), _mm512_cvtepi32_ps(sum[r][v])));
            }
        }
    }
}

ISA_BF16 static void chunk_bf16(const uint32_t *a, const uint32_t *b, size_t pairs, float *c)
{
    for (size_t i = 0; i < PANEL; i += 8) {
        __m512 sum[8][3];
        for (size_t r = 0; r < 8; r++) {
            sum[r][0] = sum[r][1] = sum[r][2] = _mm512_setzero_ps();
        }
        for (size_t p = 0; p < pairs; p++) {
            __m512bh b0 = (__m512bh) _mm512_load_si512(b + p * PANEL);
            __m512bh b1 = (__m512bh) _mm512_load_si512(b + p * PANEL + 16);
            __m512bh b2 = (__m512bh) _mm512_load_si512(b + p * PANEL + 32);
            for (size_t r = 0; r < 8; r++) {
                __m512bh a0 = (__m512bh) _mm512_set1_epi32((int32_t) a[p * PANEL + i + r]);
                sum[r][0]   = _mm512_dpbf16_ps(sum[r][0], a0, b0);
                sum[r][1]   = _mm512_dpbf16_ps(sum[r][1], a0, b1);
                sum[r][2]   = _mm512_dpbf16_ps(sum[r][2], a0, b2);
            }
        }
        for (size_t r = 0; r < 8; r++) {
            for (size_t v = 0; v < 3; v++) {
                float *at = c + (i + r) * PANEL + 16 * v;
                _mm512_store_ps(at, _mm512_add_ps(_mm512_load_ps(at), sum[r][v]));
            }
        }
    }
}
#endif

static const kernel_code kernels[] = {
    [CMIF_KERNEL_PORTABLE] = {false, chunk_portable, scan_portable, dot_portable},
#ifdef __x86_64__
    [CMIF_KERNEL_AVX2]   = {false, chunk_avx2, scan_avx2, dot_avx2},
    [CMIF_KERNEL_AVX512] = {false, chunk_avx512, scan_avx512, dot_avx512},
    [CMIF_KERNEL_BF16]   = {true, chunk_bf16, scan_avx512, dot_avx512},
#endif
};

const char *cmif_kernel_name(cmif_kernel kernel)
{
    static const char *const names[] = {"auto", "portable", "avx2", "avx512", "bf16"};
    return (unsigned) kernel < sizeof names / sizeof *names ? names[kernel] : "unknown";
}

bool cmif_kernel_fits(cmif_kernel kernel)
{
    if (kernel == CMIF_KERNEL_AUTO || kernel == CMIF_KERNEL_PORTABLE) {
        return true;
    }
#ifdef __x86_64__
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    switch (kernel) {
    case CMIF_KERNEL_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CMIF_KERNEL_AVX512:
        return avx512;
    case CMIF_KERNEL_BF16:
        return avx512 && __builtin_cpu_supports("avx512bf16");
    default:
        break;
    }
#endif
    return false;
}

/* ---- state ---- */

typedef struct candidate {
    float    score; /* S^2 times the cosine, give or take the row's slack */
    uint32_t id;
} candidate;

typedef struct found { /* a candidate on its way to the list of a row */
    uint32_t  row;
    candidate candidate;
} found;

typedef struct exact {
    double    cosine;
    candidate candidate;
} exact;

/* As many as wait before a lock is taken; one pair of panels can find PANEL * PANEL for each side. */
enum { FOUND_MOST = 4 * PANEL * PANEL };

typedef struct search {
    const kernel_code *kernel;
    const float       *rows;
    uint32_t           count, width, k;
    uint32_t          *ids;
    double            *cosines;

    size_t           pairs, panels, block_panels, blocks;
    uint32_t        *words;   /* (panels, pairs, PANEL): see PANEL */
    double           scale;   /* S */
    double          *squares; /* [count] the row's product with itself */
    double          *slack;   /* [count] E_i at first, then B_i */
    float           *floors;  /* [panels * PANEL] a score below cannot matter; rows that take none have infinity */
    candidate       *lists;   /* (count, room) */
    uint32_t        *lengths; /* [count] candidates in each list */
    size_t           room;
    pthread_mutex_t *locks; /* [blocks] guard floors, lists, lengths of the block's rows */
    size_t           locks_made;
    atomic_size_t    next; /* the next piece of work of this phase */
} search;

typedef struct worker {
    search *search;
    void (*work)(struct worker *);
    double most;     /* largest E, or largest |element| of a unit row, that this worker met */
    exact *exact;    /* [room] */
    float *order;    /* [room] */
    found *found[2]; /* [FOUND_MOST] for the rows of the first and of the second block of a task */
    size_t found_count[2];
    float *floors[2]; /* [block_panels * PANEL] copies, perhaps a little old: floors only rise */
    float *scores;    /* (PANEL, PANEL) */
} worker;

static size_t size_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The largest float that is not above x. */
static float float_below(double x)
{
    float f = (float) x;
    return (double) f > x ? nextafterf(f, -INFINITY) : f;
}

static double cosine(const search *s, uint32_t i, uint32_t j)
{
    double both = s->squares[i] * s->squares[j];
    if (both == 0) {
        return 0; /* a zero row; the squares of others are >= 2^-298 */
    }
    /* x / sqrt(x * x) is exactly 1: equal rows and a row with itself tie, as they must */
    double value =
        s->kernel->dot(s->rows + (size_t) i * s->width, s->rows + (size_t) j * s->width, s->width) / sqrt(both);
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

/* ---- the list of one row ---- */

static int better_first(const void *a, const void *b)
{
    const exact *x = a, *y = b;
    if (x->cosine != y->cosine) {
        return x->cosine > y->cosine ? -1 : 1;
    }
    return (x->candidate.id > y->candidate.id) - (x->candidate.id < y->candidate.id);
}

static int higher_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* The k-th largest of n scores (k from 1 to n), which are reordered. */
static float kth_largest(float *scores, size_t n, size_t k)
{
    size_t from = 0, to = n; /* the answer is in [from, to) */
    for (;;) {
        float  pivot = scores[from + (to - from) / 2];
        size_t above = from, at = from, below = to; /* [from, above) > pivot, [above, at) equal, [below, to) < pivot */
        while (at < below) {
            float x = scores[at];
            if (x > pivot) {
                scores[at++]    = scores[above];
                scores[above++] = x;
            } else if (x < pivot) {
                scores[at]    = scores[--below];
                scores[below] = x;
            } else {
                at++;
            }
        }
        if (k <= above) {
            to = above;
        } else if (k > below) {
            from = below;
        } else {
            return pivot;
        }
    }
}

static void raise_floor(search *s, uint32_t row, double floor)
{
    float f = float_below(floor);
    if (f > s->floors[row]) {
        s->floors[row] = f;
    }
}

/* Drop what the k-th best score rules out. */
static void thin(worker *w, uint32_t row)
{
    search    *s    = w->search;
    candidate *list = s->lists + row * s->room;
    uint32_t   n = s->lengths[row], left = 0;

    if (n < s->k) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        w->order[i] = list[i].score;
    }
    raise_floor(s, row, (double) kth_largest(w->order, n, s->k) - 2 * s->slack[row]);
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].score >= s->floors[row]) {
            list[left++] = list[i];
        }
    }
    s->lengths[row] = left;
}

/* Score exactly what may be among the k best: into w->exact and the list, best first, no more than k. The k best scores
 * go first; the floor that they set spares most of the others, and reading a row from memory is what this costs. */
static void settle(worker *w, uint32_t row)
{
    search    *s    = w->search;
    candidate *list = s->lists + row * s->room;
    uint32_t   n = s->lengths[row], scored = 0;
    double     lowest = 1;

    qsort(list, n, sizeof *list, higher_first);
    for (; scored < n && list[scored].score >= s->floors[row]; scored++) {
        double value     = cosine(s, row, list[scored].id);
        w->exact[scored] = (exact){value, list[scored]};
        lowest           = fmin(lowest, value);
        if (scored + 1 == s->k) { /* k rows have at least this */
            raise_floor(s, row, lowest * s->scale * s->scale - s->slack[row]);
        }
    }
    qsort(w->exact, scored, sizeof *w->exact, better_first);
    n = scored < s->k ? scored : s->k;
    for (uint32_t i = 0; i < n; i++) {
        list[i] = w->exact[i].candidate;
    }
    s->lengths[row] = n;
    if (n == s->k) {
        raise_floor(s, row, w->exact[n - 1].cosine * s->scale * s->scale - s->slack[row]);
    }
}

static void keep(worker *w, uint32_t row, candidate new)
{
    search *s = w->search;
    if (new.score < s->floors[row]) {
        return;
    }
    if (s->lengths[row] == s->room) {
        thin(w, row);
        if (s->lengths[row] > s->k + (s->room - s->k) / 2) {
            settle(w, row); /* scores too close to tell apart: decide now, so that no list outgrows its room */
        }
        if (new.score < s->floors[row]) {
            return;
        }
    }
    s->lists[row * s->room + s->lengths[row]++] = new;
}

/* ---- phases: each worker takes pieces of work until there are none ---- */

static size_t take(worker *w)
{
    return atomic_fetch_add(&w->search->next, 1);
}

/* Squares, and the largest element of a unit row. A row that is not finite gets a square that is not. */
static void measure(worker *w)
{
    search *s = w->search;
    for (size_t panel; (panel = take(w)) < s->panels;) {
        for (size_t i = panel * PANEL; i < size_least((panel + 1) * PANEL, s->count); i++) {
            const float *row   = s->rows + i * s->width;
            float        large = 0;
            s->squares[i]      = s->kernel->dot(row, row, s->width);
            for (size_t j = 0; j < s->width; j++) {
                large = fabsf(row[j]) > large ? fabsf(row[j]) : large;
            }
            if (s->squares[i] > 0) {
                w->most = fmax(w->most, (double) large / sqrt(s->squares[i]));
            }
        }
    }
}

/* x as 16 bits, and what they stand for. */
static inline uint16_t narrow(double x, bool bf16, double *value)
{
    if (!bf16) {
        int q  = (int) (x + copysign(.5, x));
        *value = q;
        return (uint16_t) (int16_t) q;
    }
    float    f = (float) x;
    uint32_t bits;
    if (fabsf(f) < FLT_MIN) { /* the instruction takes it for zero */
        f = 0;
    }
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u; /* to nearest, ties to even */
    memcpy(&f, &bits, sizeof f);
    *value = (double) f;
    return (uint16_t) (bits >> 16);
}

static void pack(worker *w)
{
    search *s = w->search;
    for (size_t panel; (panel = take(w)) < s->panels;) {
        uint32_t *words = s->words + panel * s->pairs * PANEL;
        for (size_t r = 0; r < PANEL; r++) {
            size_t i        = panel * PANEL + r;
            bool   zero     = i >= s->count || s->squares[i] == 0;
            double factor   = zero ? 0 : s->scale / sqrt(s->squares[i]);
            double residual = 0; /* squared */
            s->floors[i]    = zero ? INFINITY : -INFINITY;
            for (size_t p = 0; p < s->pairs; p++) {
                uint32_t word = 0;
                for (size_t j = 2 * p; j < size_least(2 * p + 2, s->width) && !zero; j++) {
                    double x = (double) s->rows[i * s->width + j] * factor, value;
                    word |= (uint32_t) narrow(x, s->kernel->bf16, &value) << 16 * (j & 1);
                    residual += (x - value) * (x - value);
                }
                words[p * PANEL + r] = word;
            }
            if (i < s->count) {
                /* what rounding may have hidden: the sum's own error, and that of the square and of the factor */
                double rounding = (s->width + 8.) * 0x1p-52;
                s->slack[i]     = sqrt(residual) * (1 + rounding) + s->scale * rounding;
                w->most         = fmax(w->most, s->slack[i]);
            }
        }
    }
}

static void hand_over(worker *w, size_t side, size_t block)
{
    search *s     = w->search;
    size_t  first = block * s->block_panels * PANEL;
    size_t  rows  = size_least(s->block_panels * PANEL, s->panels * PANEL - first);

    pthread_mutex_lock(&s->locks[block]);
    for (size_t f = 0; f < w->found_count[side]; f++) {
        keep(w, w->found[side][f].row, w->found[side][f].candidate);
    }
    memcpy(w->floors[side], s->floors + first, rows * sizeof *s->floors);
    pthread_mutex_unlock(&s->locks[block]);
    w->found_count[side] = 0;
}

static void note(worker *w, size_t side, size_t row, size_t id, float score, float floor)
{
    if (score >= floor && id < w->search->count) { /* padding rows have an infinite floor, but are scored */
        w->found[side][w->found_count[side]++] = (found){(uint32_t) row, {score, (uint32_t) id}};
    }
}

/* All scores between two panels; every pair of rows comes up once, for both, and a row with itself once. */
static void multiply_panels(worker *w, size_t a, size_t b, const float *floor_a, const float *floor_b)
{
    search         *s       = w->search;
    const uint32_t *words_a = s->words + a * s->pairs * PANEL, *words_b = s->words + b * s->pairs * PANEL;
    uint8_t         hit[PANEL];

    memset(w->scores, 0, PANEL * PANEL * sizeof *w->scores);
    for (size_t p = 0; p < s->pairs; p += CHUNK) {
        s->kernel->chunk(words_a + p * PANEL, words_b + p * PANEL, size_least(CHUNK, s->pairs - p), w->scores);
    }
    s->kernel->scan(w->scores, floor_a, floor_b, hit);
    for (size_t i = 0; i < PANEL; i++) {
        for (size_t j = 0; hit[i] && j < PANEL; j++) {
            float score = w->scores[i * PANEL + j];
            note(w, 0, a * PANEL + i, b * PANEL + j, score, floor_a[i]);
            if (a != b) {
                note(w, 1, b * PANEL + j, a * PANEL + i, score, floor_b[j]);
            }
        }
    }
}

static void multiply(worker *w)
{
    search *s = w->search;
    for (size_t task; (task = take(w)) < s->blocks * (s->blocks + 1) / 2;) {
        size_t i = 0, j = task; /* the task-th pair of blocks i <= j */
        for (; j >= s->blocks - i; i++) {
            j -= s->blocks - i;
        }
        j += i;
        hand_over(w, 0, i); /* nothing yet: fetches the floors */
        hand_over(w, 1, j);
        for (size_t a = i * s->block_panels; a < size_least((i + 1) * s->block_panels, s->panels); a++) {
            for (size_t b = i == j ? a : j * s->block_panels; b < size_least((j + 1) * s->block_panels, s->panels);
                 b++) {
                multiply_panels(w, a, b, w->floors[0] + (a - i * s->block_panels) * PANEL,
                                w->floors[1] + (b - j * s->block_panels) * PANEL);
                for (size_t side = 0; side < 2; side++) {
                    if (w->found_count[side] > FOUND_MOST - PANEL * PANEL) {
                        hand_over(w, side, side ? j : i);
                    }
                }
            }
        }
        hand_over(w, 0, i);
        hand_over(w, 1, j);
    }
}

static void finish(worker *w)
{
    search *s = w->search;
    for (size_t panel; (panel = take(w)) < s->panels;) {
        for (size_t i = panel * PANEL; i < size_least((panel + 1) * PANEL, s->count); i++) {
            bool zero = s->squares[i] == 0;
            if (!zero) {
                thin(w, (uint32_t) i);
                settle(w, (uint32_t) i);
            }
            for (uint32_t r = 0; r < s->k; r++) { /* a zero row ties with all: the lowest ids */
                s->ids[i * s->k + r] = zero ? r : w->exact[r].candidate.id;
                if (s->cosines) {
                    s->cosines[i * s->k + r] = zero ? 0 : w->exact[r].cosine;
                }
            }
        }
    }
}

static void *enter(void *argument)
{
    worker *w = argument;
    w->work(w);
    return NULL;
}

/* Run a phase on all workers; those whose thread cannot be had leave their share to the others. Returns the largest
 * `most`. */
static double run_phase(search *s, worker *workers, pthread_t *threads, uint32_t count, void (*work)(worker *))
{
    uint32_t started = 1;
    double   most    = 0;

    atomic_store(&s->next, 0);
    for (uint32_t i = 0; i < count; i++) {
        workers[i].work = work;
        workers[i].most = 0;
    }
    while (started < count && pthread_create(&threads[started], NULL, enter, &workers[started]) == 0) {
        started++;
    }
    work(&workers[0]);
    for (uint32_t i = 1; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    for (uint32_t i = 0; i < started; i++) {
        most = fmax(most, workers[i].most);
    }
    return most;
}

/* ---- */

/* Room for a times b things of a size, on a cache line; NULL when there is none. */
static void *room_for(size_t a, size_t b, size_t size)
{
    size_t things, bytes, whole;
    if (!cmif_size_mul(a, b, &things) || !cmif_size_mul(things, size, &bytes) || !cmif_size_add(bytes, 63, &whole)) {
        return NULL;
    }
    return aligned_alloc(64, whole / 64 * 64);
}

static cmif_code check_finite(const search *s, cmif_err *err)
{
    for (size_t i = 0; i < s->count; i++) {
        for (size_t j = 0; !isfinite(s->squares[i]) && j < s->width; j++) {
            if (!isfinite(s->rows[i * s->width + j])) {
                return cmif_fail(err, CMIF_E_RANGE, "row %zu of %u: number %zu is not finite", i, s->count, j);
            }
        }
    }
    return CMIF_OK;
}

cmif_code cmif_neighbours(const float *rows, uint32_t count, uint32_t width, uint32_t k, uint32_t threads,
                          cmif_kernel kernel, uint32_t *ids, double *cosines, cmif_err *err)
{
    cmif_code  rc      = CMIF_OK;
    search     s       = {.rows = rows, .count = count, .width = width, .k = k, .ids = ids, .cosines = cosines};
    worker    *workers = NULL;
    pthread_t *handles = NULL;

    if (k == 0 || k > count || width == 0) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "%u neighbours among %u rows of %u numbers: wants 1 to the number of rows, of 1 number or more",
                       k, count, width);
        goto done;
    }
    for (cmif_kernel best = CMIF_KERNEL_BF16; kernel == CMIF_KERNEL_AUTO; best--) {
        kernel = cmif_kernel_fits(best) ? best : CMIF_KERNEL_AUTO;
    }
    if (!cmif_kernel_fits(kernel)) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "this machine cannot run the kernel '%s'; 'auto' picks one that it can",
                       cmif_kernel_name(kernel));
        goto done;
    }
    if (threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads    = cores > 0 ? (uint32_t) cores : 1;
    }
    s.kernel       = &kernels[kernel];
    s.pairs        = ((size_t) width + 1) / 2;
    s.panels       = ((size_t) count + PANEL - 1) / PANEL;
    s.block_panels = BLOCK_BYTES / (s.pairs * PANEL * sizeof *s.words);
    s.block_panels = s.block_panels < 1 ? 1 : size_least(s.block_panels, PANELS_MOST);
    s.blocks       = (s.panels + s.block_panels - 1) / s.block_panels;
    s.room         = size_least(count, 2 * (size_t) k + 128);
    threads        = (uint32_t) size_least(threads, s.panels);

    s.words   = room_for(s.panels * PANEL, s.pairs, sizeof *s.words);
    s.squares = room_for(count, 1, sizeof *s.squares);
    s.slack   = room_for(count, 1, sizeof *s.slack);
    s.floors  = room_for(s.panels, PANEL, sizeof *s.floors);
    s.lists   = room_for(count, s.room, sizeof *s.lists);
    s.lengths = room_for(count, 1, sizeof *s.lengths);
    s.locks   = room_for(s.blocks, 1, sizeof *s.locks);
    workers   = calloc(threads, sizeof *workers);
    handles   = calloc(threads, sizeof *handles);
    bool all  = s.words && s.squares && s.slack && s.floors && s.lists && s.lengths && s.locks && workers && handles;
    for (uint32_t t = 0; t < threads && all; t++) {
        worker *w = &workers[t];
        w->search = &s;
        w->exact  = room_for(s.room, 1, sizeof *w->exact);
        w->order  = room_for(s.room, 1, sizeof *w->order);
        w->scores = room_for(PANEL, PANEL, sizeof *w->scores);
        all       = w->exact && w->order && w->scores;
        for (size_t side = 0; side < 2; side++) {
            w->found[side]  = room_for(FOUND_MOST, 1, sizeof *w->found[side]);
            w->floors[side] = room_for(s.block_panels, PANEL, sizeof *w->floors[side]);
            all             = all && w->found[side] && w->floors[side];
        }
    }
    if (!all) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the %u nearest of %u rows of %u numbers", k, count, width);
        goto done;
    }
    while (s.locks_made < s.blocks) {
        if (pthread_mutex_init(&s.locks[s.locks_made], NULL)) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for lock %zu of %zu", s.locks_made, s.blocks);
            goto done;
        }
        s.locks_made++;
    }
    memset(s.lengths, 0, count * sizeof *s.lengths);

    double most = run_phase(&s, workers, handles, threads, measure);
    rc          = check_finite(&s, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    /* Integers: an element stays below 2^15, and a sum over any part of two rows, at most (S + sqrt(width) / 2)^2,
     * below 2^31. */
    s.scale       = s.kernel->bf16 ? 1 : fmin(46339 - sqrt(width) / 2, most > 0 ? 32766 / most : 32766);
    most          = run_phase(&s, workers, handles, threads, pack);
    double rounds = (double) ((s.pairs + CHUNK - 1) / CHUNK) + 1 + (s.kernel->bf16 ? 2 * CHUNK : 0);
    double both   = s.scale + most;
    for (size_t i = 0; i < count; i++) {
        s.slack[i] = s.slack[i] * s.scale + (s.scale + s.slack[i]) * most; /* narrowing */
        s.slack[i] += rounds * 0x1p-24 * (1 + 0x1p-8) * both * both;       /* adding in binary32 */
        s.slack[i] += (width + 8.) * 0x1p-52 * s.scale * s.scale;          /* the reported cosine's own */
    }
    run_phase(&s, workers, handles, threads, multiply);
    run_phase(&s, workers, handles, threads, finish);

done:
    for (uint32_t t = 0; workers && t < threads; t++) {
        free(workers[t].exact);
        free(workers[t].order);
        free(workers[t].scores);
        for (size_t side = 0; side < 2; side++) {
            free(workers[t].found[side]);
            free(workers[t].floors[side]);
        }
    }
    for (size_t i = 0; i < s.locks_made; i++) {
        pthread_mutex_destroy(&s.locks[i]);
    }
    free(workers);
    free(handles);
    free(s.words);
    free(s.squares);
    free(s.slack);
    free(s.floors);
    free(s.lists);
    free(s.lengths);
    free(s.locks);
    return rc;
}
