#include "linear.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MAX = 4096, STEPS_MAX = 30 };

struct cmif_linear {
    size_t  width, heads; /* two labels need one */
    double *mean, *scale; /* [width] */
    double *weights;      /* [heads][width + 1], the constant last */
};

void cmif_linear_free(cmif_linear *h)
{
    if (h) {
        free(h->mean);
        free(h->weights);
        free(h);
    }
}

static double score(const cmif_linear *h, size_t head, const double *x)
{
    const double *w   = h->weights + head * (h->width + 1);
    double        sum = 0;
    for (size_t i = 0; i <= h->width; i++) {
        sum += w[i] * x[i];
    }
    return sum;
}

static void scaled(const cmif_linear *h, const float *vector, double *x)
{
    for (size_t i = 0; i < h->width; i++) {
        x[i] = ((double) vector[i] - h->mean[i]) * h->scale[i];
    }
    x[h->width] = 1;
}

uint8_t cmif_linear_label(const cmif_linear *h, const float *vector)
{
    double x[WIDTH_MAX + 1], most = 0;
    size_t best = 0;
    scaled(h, vector, x);
    if (h->heads == 1) {
        return score(h, 0, x) > 0;
    }
    for (size_t i = 0; i < h->heads; i++) {
        double s = score(h, i, x);
        best     = i == 0 || s > most ? i : best;
        most     = i == 0 || s > most ? s : most;
    }
    return (uint8_t) best;
}

/* a (n, n), of which the lower half is read, times out = b; both are overwritten. False: not positive definite. */
static bool solve(double *a, double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) { /* Cholesky */
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++) {
                sum -= a[i * n + k] * a[j * n + k];
            }
            if (i == j && !(sum > 0)) {
                return false;
            }
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            b[i] -= a[i * n + k] * b[k];
        }
        b[i] /= a[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) {
            b[i] -= a[k * n + i] * b[k];
        }
        b[i] /= a[i * n + i];
    }
    return true;
}

/* One step of Newton's method on the mean loss; returns its largest change of a weight. */
static cmif_code step(cmif_linear *h, size_t head, const double *x, const uint8_t *labels, size_t count, double ridge,
                      double *curve, double *slope, double *change, cmif_err *err)
{
    const size_t n = h->width + 1;
    double      *w = h->weights + head * n;
    memset(curve, 0, n * n * sizeof *curve);
    for (size_t i = 0; i < n; i++) {
        slope[i] = i + 1 < n ? -ridge * w[i] : 0; /* the constant is free, but for what keeps the curvature definite */
        curve[i * n + i] = i + 1 < n ? ridge : 1e-9;
    }
    for (size_t r = 0; r < count; r++) {
        const double *row  = x + r * n;
        bool          is   = h->heads == 1 ? labels[r] == 1 : labels[r] == head;
        double        p    = 1 / (1 + exp(-score(h, head, row)));
        double        pull = ((is ? 1 : 0) - p) / (double) count, bend = p * (1 - p) / (double) count;
        for (size_t i = 0; i < n; i++) {
            double *restrict to = curve + i * n;
            double part         = bend * row[i];
            slope[i] += pull * row[i];
            for (size_t j = 0; j <= i; j++) {
                to[j] += part * row[j];
            }
        }
    }
    if (!solve(curve, slope, n)) {
        return cmif_fail(err, CMIF_E_RANGE, "the vectors do not determine a head: is the ridge too small?");
    }
    *change = 0;
    for (size_t i = 0; i < n; i++) {
        double by = slope[i];
        w[i] += by;
        *change = fabs(by) > *change ? fabs(by) : *change;
    }
    return isfinite(*change) ? CMIF_OK : cmif_fail(err, CMIF_E_RANGE, "training a head does not converge");
}

static void measure(cmif_linear *h, const float *vectors, size_t count)
{
    for (size_t i = 0; i < h->width; i++) {
        double mean = 0, square = 0;
        for (size_t r = 0; r < count; r++) {
            mean += (double) vectors[r * h->width + i] / (double) count;
        }
        for (size_t r = 0; r < count; r++) {
            double d = (double) vectors[r * h->width + i] - mean;
            square += d * d / (double) count;
        }
        h->mean[i]  = mean;
        h->scale[i] = square > 1e-12 ? 1 / sqrt(square) : 0; /* what never changes says nothing */
    }
}

cmif_code cmif_linear_train(const float *vectors, const uint8_t *labels, size_t count, size_t width, size_t label_count,
                            double ridge, cmif_linear **out, cmif_err *err)
{
    if (count < 2 || label_count < 2 || !width || width > WIDTH_MAX || !(ridge > 0)) {
        return cmif_fail(
            err, CMIF_E_RANGE,
            "a head is trained on 2 vectors and more, of 1 to %d numbers and 2 labels and more; found %zu, %zu, %zu",
            WIDTH_MAX, count, width, label_count);
    }
    for (size_t i = 0; i < count * width; i++) {
        if (!isfinite(vectors[i])) {
            return cmif_fail(err, CMIF_E_RANGE, "vector %zu has a number that is not finite", i / width + 1);
        }
    }
    const size_t n  = width + 1;
    cmif_code    rc = CMIF_OK;
    double *x = calloc(count * n, sizeof *x), *curve = calloc(n * n, sizeof *curve), *slope = calloc(n, sizeof *slope);
    cmif_linear *h = calloc(1, sizeof *h);
    if (h) {
        h->width   = width;
        h->heads   = label_count == 2 ? 1 : label_count;
        h->mean    = calloc(2 * width, sizeof *h->mean);
        h->scale   = h->mean ? h->mean + width : NULL;
        h->weights = calloc(h->heads * n, sizeof *h->weights);
    }
    if (!x || !curve || !slope || !h || !h->mean || !h->weights) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for training on %zu vectors", count);
        goto done;
    }
    measure(h, vectors, count);
    for (size_t r = 0; r < count; r++) {
        scaled(h, vectors + r * width, x + r * n);
    }
    for (size_t head = 0; rc == CMIF_OK && head < h->heads; head++) {
        double change = 1;
        for (int i = 0; rc == CMIF_OK && change > 1e-6 && i < STEPS_MAX; i++) {
            rc = step(h, head, x, labels, count, ridge, curve, slope, &change, err);
        }
    }
    if (rc == CMIF_OK) {
        *out = h;
        h    = NULL;
    }
done:
    cmif_linear_free(h);
    free(x);
    free(curve);
    free(slope);
    return rc;
}
