#include "mechanism/mechanism.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- Gauss-Legendre: exact for polynomials of degree 2 nodes - 1 ---- */

enum { RULES = 64 };                    /* rules of up to so many nodes are computed once */
enum { PIECE_NODES = 24, DIGITS = 19 }; /* of a smooth piece: at most so many nodes, for so many decimal digits */

typedef struct gauss_node {
    long double x, below_one, weight; /* on [0, 1]; below_one is 1 - x without its cancellation */
} gauss_node;

static gauss_node     rule[RULES * (RULES + 1) / 2]; /* the rule of n nodes begins at n (n - 1) / 2 */
static long double    reach[PIECE_NODES + 1];        /* see piece_nodes */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The i-th root of the Legendre polynomial of degree n by Newton's method, and its weight. */
static gauss_node compute_node(size_t n, size_t i)
{
    size_t      mirrored = n - 1 - i < i ? n - 1 - i : i; /* so that the rule is symmetric to the last bit */
    long double x = cosl(acosl(-1) * ((long double) mirrored + .75L) / ((long double) n + .5L)), slope = 1, step = 1;
    if (2 * mirrored + 1 == n) {
        x = 0;
    }
    for (int round = 0; round < 20; round++) {
        long double last = 1, value = x;
        for (size_t k = 2; k <= n; k++) {
            long double next = ((long double) (2 * k - 1) * x * value - (long double) (k - 1) * last) / (long double) k;
            last             = value;
            value            = next;
        }
        slope = n == 1 ? 1 : (long double) n * (last - x * value) / ((1 - x) * (1 + x));
        if (fabsl(step) < 1e-15L || 2 * mirrored + 1 == n) {
            break; /* Newton's steps square the error: this slope belongs to a root that is exact */
        }
        step = value / slope;
        x -= step;
    }
    gauss_node node = {.x = (1 + x) / 2, .below_one = (1 - x) / 2, .weight = 1 / ((1 - x) * (1 + x) * slope * slope)};
    if (mirrored != i) {
        long double swapped = node.x;
        node.x              = node.below_one;
        node.below_one      = swapped;
    }
    return node;
}

static void compute_rules(void)
{
    for (size_t n = 1; n <= RULES; n++) {
        for (size_t i = 0; i < n; i++) {
            rule[n * (n - 1) / 2 + i] = compute_node(n, i);
        }
    }
    for (int n = 1; n <= PIECE_NODES; n++) {
        reach[n] = 8 * n / expl(1) * powl(10, -(long double) DIGITS / (2 * n));
    }
}

static gauss_node node_of(size_t n, size_t i)
{
    return n <= RULES ? rule[n * (n - 1) / 2 + i] : compute_node(n, i);
}

/* A product of n factors whose logarithms change by at most 1 per unit, over a length h: on the ellipse of parameter r
 * around the piece it grows by at most e^(n h r / 4), so m nodes err by (e n h / 8 m)^2m at the best r. The fewest
 * nodes for DIGITS. */
static size_t piece_nodes(long double n_times_h)
{
    size_t nodes = 2;
    while (nodes < PIECE_NODES && n_times_h > reach[nodes]) {
        nodes++;
    }
    return nodes;
}

/* ---- closed forms ---- */

static long double largest(const long double *q, size_t n)
{
    long double best = q[0];
    for (size_t i = 1; i < n; i++) {
        best = q[i] > best ? q[i] : best;
    }
    return best;
}

void cmif_closed_gumbel(const long double *q, size_t n, long double lambda, long double *p)
{
    long double best = n ? largest(q, n) : 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        p[i] = expl((q[i] - best) * lambda);
        sum += p[i];
    }
    for (size_t i = 0; i < n; i++) {
        p[i] /= sum;
    }
}

/* P(r) = p_r Int_0^1 Prod_{s != r} (1 - z p_s) dz with p_s = e^(-lambda (best - q_s)): a polynomial of degree n - 1. A
 * factor is computed as (1 - z) + z (1 - p_s), so that nothing cancels; products of all but one come from both ends. */
cmif_code cmif_closed_exponential(const long double *q, size_t n, long double lambda, long double *p, cmif_err *err)
{
    pthread_once(&once, compute_rules);
    long double *work = calloc(2 * n + 1, sizeof *work);
    if (!work) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu scores", n);
    }
    long double *gap = work, *before = work + n;
    long double  best  = n ? largest(q, n) : 0;
    const size_t nodes = (n + 1) / 2;
    for (size_t s = 0; s < n; s++) {
        gap[s] = -expm1l((q[s] - best) * lambda);
        p[s]   = 0;
    }
    for (size_t i = 0; i < nodes; i++) {
        gauss_node z = node_of(nodes, i);
        before[0]    = 1;
        for (size_t s = 0; s + 1 < n; s++) {
            before[s + 1] = before[s] * (z.below_one + z.x * gap[s]);
        }
        long double after = z.weight;
        for (size_t s = n; s-- > 0;) {
            p[s] += before[s] * after;
            after *= z.below_one + z.x * gap[s];
        }
    }
    for (size_t s = 0; s < n; s++) {
        p[s] *= expl((q[s] - best) * lambda);
    }
    free(work);
    return CMIF_OK;
}

/* ---- Laplace: P(r) = Int f(t - a_r) Prod_{s != r} F(t - a_s) dt, a = lambda q, between the sorted a ---- */

typedef struct scored {
    long double a;
    size_t      at;
} scored;

static int by_score(const void *left, const void *right)
{
    const scored *l = left, *r = right;
    if (l->a != r->a) {
        return l->a < r->a ? -1 : 1;
    }
    return l->at < r->at ? -1 : l->at > r->at;
}

/* One node at which the lowest `count` scores are below t. There F = 1 - x and f = x for x_s = e^-(t - a_s) / 2 = scale
 * half_s, so that each of them adds weight x_s Prod_{others} (1 - x). Returns the product of all. */
static long double add_lower(const long double *half, size_t count, long double scale, long double weight,
                             long double *before, long double *sum)
{
    before[0] = 1;
    for (size_t s = 0; s < count; s++) {
        before[s + 1] = before[s] * (1 - scale * half[s]);
    }
    long double after = weight;
    for (size_t s = count; s-- > 0;) {
        long double x = scale * half[s];
        sum[s] += before[s] * after * x;
        after *= 1 - x;
    }
    return before[count];
}

enum { SPREAD = 10000 }; /* e^-SPREAD is nothing, and e^SPREAD is still a number */

cmif_code cmif_closed_laplace(const long double *q, size_t n, long double lambda, long double *p, cmif_err *err)
{
    pthread_once(&once, compute_rules);
    scored      *sorted = calloc(n + 1, sizeof *sorted);
    long double *work   = calloc(4 * n + 1, sizeof *work);
    if (!sorted || !work) {
        free(sorted);
        free(work);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu scores", n);
    }
    long double *half = work, *above = work + n, *sum = work + 2 * n, *before = work + 3 * n;
    long double  floor = n ? largest(q, n) * lambda - SPREAD : 0;
    for (size_t s = 0; s < n; s++) {
        sorted[s] = (scored){.a = q[s] * lambda > floor ? q[s] * lambda : floor, .at = s};
    }
    qsort(sorted, n, sizeof *sorted, by_score);
    for (size_t s = n; s-- > 0;) { /* above: the sum of a_t - a_s over all t above s */
        half[s]  = expl(sorted[s].a - sorted[0].a) / 2;
        above[s] = s + 1 == n ? 0 : above[s + 1] + (long double) (n - 1 - s) * (sorted[s + 1].a - sorted[s].a);
    }

    /* Of a score above t, f = F: it gets the product of all F. `under` is the integral of that product so far. Below
     * the lowest score it is e^(n t) / 2^n, but for a factor. */
    long double under = n ? expl(-above[0]) * ldexpl(1, -(int) n) / (long double) n : 0;
    for (size_t i = 0; i < n; i++) { /* t from score i to the next, or to infinity: scores 0 to i are below it */
        sum[i] += under;
        if (i + 1 == n) {
            break;
        }
        const size_t      upper = n - 1 - i;
        long double       gap   = sorted[i + 1].a - sorted[i].a;
        size_t            cuts  = 1 + (size_t) ((long double) n * gap / reach[PIECE_NODES]);
        const long double width = gap / (long double) cuts;
        const size_t      nodes = gap > 0 ? piece_nodes((long double) n * width) : 0;
        for (size_t k = 0; k < cuts * nodes; k++) {
            gauss_node  node   = node_of(nodes, k % nodes);
            long double t      = width * ((long double) (k / nodes) + node.x); /* from score i on */
            long double scale  = expl(sorted[0].a - sorted[i].a - t);
            long double weight = node.weight * width * ldexpl(expl((long double) upper * t - above[i]), -(int) upper);
            under += weight * add_lower(half, i + 1, scale, weight, before, sum);
        }
    }
    /* Above the highest score, with v = e^-(t - a_n): dt = dv / v, x_s is v times a constant; a polynomial of degree n
     * - 1. */
    const size_t nodes = (n + 1) / 2;
    for (size_t k = 0; k < nodes; k++) {
        gauss_node v = node_of(nodes, k);
        add_lower(half, n, v.x * expl(sorted[0].a - sorted[n - 1].a), v.weight / v.x, before, sum);
    }
    for (size_t s = 0; s < n; s++) {
        p[sorted[s].at] = sum[s];
    }
    free(sorted);
    free(work);
    return CMIF_OK;
}

long double cmif_closed_loss(const long double *p, size_t m, size_t n)
{
    long double worst = 1;
    for (size_t j = 0; j < n; j++) {
        long double high = p[j], low = p[j];
        for (size_t i = 1; i < m; i++) {
            high = p[i * n + j] > high ? p[i * n + j] : high;
            low  = p[i * n + j] < low ? p[i * n + j] : low;
        }
        worst = high > worst * low ? high / low : worst;
    }
    return logl(worst);
}
