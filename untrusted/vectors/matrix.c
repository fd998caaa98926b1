#include "vectors/matrix.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LANES     = 8,    /* columns that are computed side by side */
    CHUNK     = 128,  /* rows that are packed at once: with a thousand columns they fit a second-level cache */
    TURNS_MAX = 60,   /* QL steps for one eigenvalue; two are usual */
    ROTATIONS = 32768 /* that are kept before they are applied */
};

/* Wider instructions change the speed and no bit: each lane is one sum, and nothing is fused (-ffp-contract=off). The
 * choice is made before main, where the thread sanitizer is not ready for it. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PLAIN_ONLY
#endif
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(PLAIN_ONLY) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

/* ---- threads ---- */

typedef struct each {
    cmif_task   task;
    void       *context;
    uint32_t    count;
    atomic_uint next;
} each;

static void *each_work(void *context)
{
    each *e = context;
    for (uint32_t index; (index = atomic_fetch_add(&e->next, 1)) < e->count;) {
        e->task(e->context, index);
    }
    return NULL;
}

uint32_t cmif_threads(uint32_t threads)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return threads ? threads : cores < 1 ? 1 : (uint32_t) cores;
}

void cmif_each(uint32_t count, uint32_t threads, cmif_task task, void *context)
{
    enum { THREADS_MAX = 256 };
    each      e = {.task = task, .context = context, .count = count};
    pthread_t others[THREADS_MAX];
    uint32_t  started = 0;

    threads = cmif_threads(threads);
    while (started + 1 < threads && started + 1 < count && started < THREADS_MAX) {
        if (pthread_create(&others[started], NULL, each_work, &e) != 0) {
            break; /* fewer threads do the same work */
        }
        started++;
    }
    each_work(&e);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(others[i], NULL);
    }
}

/* ---- products ---- */

/* c (LANES, LANES) += sum over k of a[k]' b[k], where a and b are `count` groups of LANES. */
WIDE static void tile_add(const double *a, const double *b, uint32_t count, double *c)
{
    for (uint32_t half = 0; half < LANES; half += 4) {
        lanes sum[4];
        memcpy(sum, c + half * LANES, sizeof sum);
        for (uint32_t k = 0; k < count; k++) {
            const double *x = a + k * LANES + half;
            lanes         y;
            memcpy(&y, b + k * LANES, sizeof y);
            sum[0] += x[0] * y;
            sum[1] += x[1] * y;
            sum[2] += x[2] * y;
            sum[3] += x[3] * y;
        }
        memcpy(c + half * LANES, sum, sizeof sum);
    }
}

typedef struct gram {
    const float   *rows;
    const uint8_t *use;
    const double  *mean;
    uint32_t       count, width, tiles, parts;
    double        *sums;   /* (tiles, tiles) of LANES x LANES; those with column >= row are computed */
    double        *packed; /* (parts, tiles, CHUNK, LANES) */
} gram;

/* Part p owns the rows of tiles p, p + parts, ...; each part packs for itself, which is a thousandth of the work. */
static void gram_part(void *context, uint32_t part)
{
    const gram  *g      = context;
    const size_t panel  = (size_t) CHUNK * LANES;
    double      *packed = g->packed + part * g->tiles * panel;

    for (uint32_t row = 0; row < g->count;) {
        uint32_t filled = 0;
        for (; row < g->count && filled < CHUNK; row++) {
            if (g->use && !g->use[row]) {
                continue;
            }
            const float *x = g->rows + (size_t) row * g->width;
            for (uint32_t i = 0; i < g->width; i++) {
                packed[i / LANES * panel + filled * LANES + i % LANES] = (double) x[i] - (g->mean ? g->mean[i] : 0);
            }
            filled++;
        }
        for (uint32_t i = part; i < g->tiles; i += g->parts) {
            for (uint32_t j = i; j < g->tiles; j++) {
                tile_add(packed + i * panel, packed + j * panel, filled,
                         g->sums + ((size_t) i * g->tiles + j) * LANES * LANES);
            }
        }
    }
}

cmif_code cmif_matrix_gram(const float *rows, const uint8_t *use, const double *mean, uint32_t count, uint32_t width,
                           uint32_t threads, double *out, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    gram      g  = {.rows = rows, .use = use, .mean = mean, .count = count, .width = width};

    g.tiles  = (width + LANES - 1) / LANES;
    g.parts  = cmif_threads(threads);
    g.parts  = g.parts < g.tiles ? g.parts : g.tiles;
    g.sums   = calloc((size_t) g.tiles * g.tiles, LANES * LANES * sizeof *g.sums);
    g.packed = calloc((size_t) g.parts * g.tiles, CHUNK * LANES * sizeof *g.packed); /* unused lanes stay 0 */
    if (!g.sums || !g.packed) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the products of %u columns", width);
        goto done;
    }
    cmif_each(g.parts, threads, gram_part, &g);
    for (size_t i = 0; i < width; i++) {
        for (size_t j = i; j < width; j++) {
            const double *tile = g.sums + (i / LANES * g.tiles + j / LANES) * LANES * LANES;
            out[i * width + j] = out[j * width + i] = tile[i % LANES * LANES + j % LANES];
        }
    }
done:
    free(g.packed);
    free(g.sums);
    return rc;
}

typedef struct projection {
    const float  *rows;
    const double *mean;
    uint32_t      count, width, columns, tiles, parts;
    double       *basis;  /* (tiles, width, LANES) */
    double       *packed; /* (parts, width, LANES) */
    float        *out;
} projection;

static void project_part(void *context, uint32_t part)
{
    const projection *p      = context;
    double           *packed = p->packed + (size_t) part * p->width * LANES;

    for (uint32_t row = part * LANES; row < p->count; row += p->parts * LANES) {
        const uint32_t here = p->count - row < LANES ? p->count - row : LANES;
        for (uint32_t r = 0; r < here; r++) {
            for (uint32_t i = 0; i < p->width; i++) {
                packed[(size_t) i * LANES + r] = (double) p->rows[(size_t) (row + r) * p->width + i] - p->mean[i];
            }
        }
        for (uint32_t tile = 0; tile < p->tiles; tile++) {
            double sums[LANES * LANES] = {0};
            tile_add(packed, p->basis + (size_t) tile * p->width * LANES, p->width, sums);
            for (uint32_t r = 0; r < here; r++) {
                for (uint32_t c = 0; c < LANES && tile * LANES + c < p->columns; c++) {
                    p->out[(size_t) (row + r) * p->columns + tile * LANES + c] = (float) sums[r * LANES + c];
                }
            }
        }
    }
}

cmif_code cmif_matrix_project(const float *rows, const double *mean, uint32_t count, uint32_t width,
                              const double *basis, uint32_t stride, uint32_t columns, uint32_t threads, float *out,
                              cmif_err *err)
{
    cmif_code  rc = CMIF_OK;
    projection p  = {.rows = rows, .mean = mean, .count = count, .width = width, .columns = columns, .out = out};

    p.tiles  = (columns + LANES - 1) / LANES;
    p.parts  = cmif_threads(threads);
    p.basis  = calloc((size_t) p.tiles * width, LANES * sizeof *p.basis);
    p.packed = calloc((size_t) p.parts * width, LANES * sizeof *p.packed);
    if (!p.basis || !p.packed) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to project %u columns to %u", width, columns);
        goto done;
    }
    for (size_t i = 0; i < width; i++) {
        for (size_t c = 0; c < columns; c++) {
            p.basis[(c / LANES * width + i) * LANES + c % LANES] = basis[i * stride + c];
        }
    }
    cmif_each(p.parts, threads, project_part, &p);
done:
    free(p.packed);
    free(p.basis);
    return rc;
}

/* ---- eigenvectors ---- */

/* y += s * x */
WIDE static void add_scaled(double *restrict y, const double *restrict x, double s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += s * x[i];
    }
}

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

/* a becomes tridiagonal under reflections I - beta v v': d its diagonal, e[k] between k and k + 1. The v of step k
 * stays in row k of a, from column k + 1 on, its factor in beta[k]. p (n) is room. What is shorter than `least` is
 * rounding: zero. */
static void reduce(double *a, size_t n, double least, double *d, double *e, double *beta, double *p)
{
    for (size_t k = 0; k + 1 < n; k++) {
        double      *v    = a + k * n + k + 1;
        const size_t m    = n - k - 1;
        const double tail = dot(v + 1, v + 1, m - 1), length = sqrt(v[0] * v[0] + tail);
        d[k]    = a[k * n + k];
        e[k]    = length > least ? v[0] : 0;
        beta[k] = 0;
        if (length <= least || tail == 0) {
            continue;
        }
        e[k] = -copysign(length, v[0]);
        v[0] -= e[k];
        beta[k] = 2 / (v[0] * v[0] + tail);
        memset(p, 0, m * sizeof *p);
        for (size_t i = 0; i < m; i++) {
            add_scaled(p, a + (k + 1 + i) * n + k + 1, beta[k] * v[i], m);
        }
        add_scaled(p, v, -beta[k] / 2 * dot(p, v, m), m);
        for (size_t i = 0; i < m; i++) {
            double *row = a + (k + 1 + i) * n + k + 1;
            add_scaled(row, v, -p[i], m);
            add_scaled(row, p, -v[i], m);
        }
    }
    d[n - 1] = a[n * n - 1];
    e[n - 1] = 0;
}

/* q = the product of the reflections; t (n) is room. */
static void gather(const double *a, size_t n, const double *beta, double *q, double *t)
{
    memset(q, 0, n * n * sizeof *q);
    for (size_t i = 0; i < n; i++) {
        q[i * n + i] = 1;
    }
    for (size_t k = n - 1; k-- > 0;) {
        const double *v = a + k * n + k + 1;
        const size_t  m = n - k - 1;
        memset(t, 0, m * sizeof *t);
        for (size_t i = 0; i < m; i++) {
            add_scaled(t, q + (k + 1 + i) * n + k + 1, beta[k] * v[i], m);
        }
        for (size_t i = 0; i < m; i++) {
            add_scaled(q + (k + 1 + i) * n + k + 1, t, -v[i], m);
        }
    }
}

typedef struct rotation {
    double   c, s;
    uint32_t at; /* columns at and at + 1 */
} rotation;

typedef struct turning { /* rotations wait here until there are enough of them */
    rotation *rotations;
    uint32_t  count, n, threads;
    double   *z; /* (tiles, n, LANES): LANES rows of the matrix side by side, column by column */
} turning;

WIDE static void turn_tile(void *context, uint32_t tile)
{
    const turning *t = context;
    double        *z = t->z + (size_t) tile * t->n * LANES;
    for (uint32_t k = 0; k < t->count; k++) {
        const rotation *r    = &t->rotations[k];
        double         *here = z + (size_t) r->at * LANES;
        lanes           x, y, turned;
        memcpy(&x, here, sizeof x);
        memcpy(&y, here + LANES, sizeof y);
        turned = r->s * x + r->c * y;
        x      = r->c * x - r->s * y;
        memcpy(here, &x, sizeof x);
        memcpy(here + LANES, &turned, sizeof turned);
    }
}

static void turn(turning *t)
{
    cmif_each((t->n + LANES - 1) / LANES, t->threads, turn_tile, t);
    t->count = 0;
}

/* Implicit QL steps with Wilkinson's shift make d, e diagonal. */
static cmif_code diagonalize(double *d, double *e, double least, turning *t, cmif_err *err)
{
    const uint32_t n = t->n;
    for (uint32_t low = 0; low < n; low++) {
        for (uint32_t turns = 0;; turns++) {
            uint32_t high = low;
            while (high + 1 < n && fabs(e[high]) > fmax(least, 0x1p-53 * (fabs(d[high]) + fabs(d[high + 1])))) {
                high++;
            }
            if (high == low) {
                break;
            }
            if (turns == TURNS_MAX) {
                return cmif_fail(err, CMIF_E_RANGE, "eigenvalue %u of %u was not found in %d steps", low, n, TURNS_MAX);
            }
            const double half = (d[low + 1] - d[low]) / (2 * e[low]);
            double       g    = d[high] - d[low] + e[low] / (half + copysign(hypot(half, 1), half));
            double       s = 1, c = 1, p = 0;
            uint32_t     i = high;
            while (i-- > low) {
                const double f = s * e[i], b = c * e[i], r = hypot(f, g);
                e[i + 1] = r;
                if (r == 0) { /* the matrix falls apart here */
                    d[i + 1] -= p;
                    e[high] = 0;
                    break;
                }
                s                = f / r;
                c                = g / r;
                g                = d[i + 1] - p;
                const double sum = (d[i] - g) * s + 2 * c * b;
                p                = s * sum;
                d[i + 1]         = g + p;
                g                = c * sum - b;
                if (t->count == ROTATIONS) {
                    turn(t);
                }
                t->rotations[t->count++] = (rotation){.c = c, .s = s, .at = i};
            }
            if (i + 1 == low) { /* went through: unsigned, so one below low */
                d[low] -= p;
                e[low]  = g;
                e[high] = 0;
            }
        }
    }
    turn(t);
    return CMIF_OK;
}

typedef struct ranked {
    double   value;
    uint32_t id;
} ranked;

static int larger_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->value > y->value ? -1 : x->value < y->value ? 1 : x->id < y->id ? -1 : 1;
}

cmif_code cmif_matrix_eigen(double *a, uint32_t n, uint32_t threads, double *values, double *vectors, cmif_err *err)
{
    cmif_code    rc    = CMIF_OK;
    const size_t tiles = ((size_t) n + LANES - 1) / LANES;
    double      *room  = malloc((size_t) n * 4 * sizeof *room);
    ranked      *order = malloc((size_t) n * sizeof *order);
    turning      t     = {.n = n, .threads = threads};

    t.rotations = malloc(ROTATIONS * sizeof *t.rotations);
    t.z         = calloc(tiles * n, LANES * sizeof *t.z);
    if (!room || !order || !t.rotations || !t.z) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the eigenvectors of %u columns", n);
        goto done;
    }
    double largest_entry = 0;
    for (size_t i = 0; i < (size_t) n * n; i++) {
        largest_entry = fmax(largest_entry, fabs(a[i]));
        if (!isfinite(a[i])) {
            rc = cmif_fail(err, CMIF_E_RANGE, "a covariance of %u columns holds a number that is not finite", n);
            goto done;
        }
    }
    double      *d = room, *e = room + n, *beta = room + 2 * (size_t) n, *spare = room + 3 * (size_t) n;
    const double least = largest_entry * 0x1p-54;
    reduce(a, n, least, d, e, beta, spare);
    gather(a, n, beta, vectors, spare);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            t.z[(i / LANES * n + k) * LANES + i % LANES] = vectors[i * n + k];
        }
    }
    rc = diagonalize(d, e, least, &t, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t k = 0; k < n; k++) {
        order[k] = (ranked){d[k], k};
    }
    qsort(order, n, sizeof *order, larger_first);
    for (size_t k = 0; k < n; k++) {
        double largest = 0;
        for (size_t i = 0; i < n; i++) {
            const double x     = t.z[(i / LANES * n + order[k].id) * LANES + i % LANES];
            vectors[i * n + k] = x;
            largest            = fabs(x) > fabs(largest) ? x : largest;
        }
        for (size_t i = 0; largest < 0 && i < n; i++) {
            vectors[i * n + k] = -vectors[i * n + k];
        }
        values[k] = order[k].value;
    }
done:
    free(t.z);
    free(t.rotations);
    free(order);
    free(room);
    return rc;
}

/* ---- a linear system ---- */

cmif_code cmif_matrix_solve(double *a, double *b, uint32_t n, cmif_err *err)
{
    /* a = u' u, u upper triangular, row by row: what is left of a becomes smaller by u_k' u_k */
    for (size_t k = 0; k < n; k++) {
        double *u = a + k * n;
        if (!(u[k] > 0) || !isfinite(u[k])) {
            return cmif_fail(err, CMIF_E_RANGE, "a system of %u equations has no single solution (equation %zu)", n, k);
        }
        const double root = sqrt(u[k]);
        for (size_t j = k; j < n; j++) {
            u[j] /= root;
        }
        b[k] /= u[k];
        for (size_t i = k + 1; i < n; i++) {
            add_scaled(a + i * n + i, u + i, -u[i], n - i);
            b[i] -= u[i] * b[k];
        }
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t j = k + 1; j < n; j++) {
            b[k] -= a[k * n + j] * b[j];
        }
        b[k] /= a[k * n + k];
    }
    return CMIF_OK;
}
