#include "pairs.h"

#include <math.h>
#include <stdlib.h>

double cmif_pair_cosine(const float *u, const float *v, size_t width)
{
    double uv = 0, uu = 0, vv = 0;
    for (size_t i = 0; i < width; i++) {
        uv += (double) u[i] * (double) v[i];
        uu += (double) u[i] * (double) u[i];
        vv += (double) v[i] * (double) v[i];
    }
    return uu > 0 && vv > 0 ? uv / (sqrt(uu) * sqrt(vv)) : 0;
}

void cmif_pair_features(const float *u, const float *v, size_t width, float *out)
{
    for (size_t i = 0; i < width; i++) {
        out[i]         = fabsf(u[i] - v[i]);
        out[width + i] = u[i] * v[i];
    }
    out[2 * width] = (float) cmif_pair_cosine(u, v, width);
}

typedef struct place {
    double value;
    size_t at;
} place;

static int by_value(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* The rank of each value, those that are equal share the mean of theirs; less the mean rank. */
static void ranks(const double *values, size_t count, place *room, double *out)
{
    for (size_t i = 0; i < count; i++) {
        room[i] = (place){values[i], i};
    }
    qsort(room, count, sizeof *room, by_value);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && room[end].value <= room[i].value; end++) {
        }
        for (size_t k = i; k < end; k++) {
            out[room[k].at] = (double) (i + end) / 2 - (double) count / 2;
        }
    }
}

cmif_code cmif_pair_spearman(const double *a, const double *b, size_t count, double *out, cmif_err *err)
{
    place  *room = calloc(count + 1, sizeof *room);
    double *x = calloc(count + 1, sizeof *x), *y = calloc(count + 1, sizeof *y);
    double  xy = 0, xx = 0, yy = 0;
    bool    ok = room && x && y;
    if (ok) {
        ranks(a, count, room, x);
        ranks(b, count, room, y);
        for (size_t i = 0; i < count; i++) {
            xy += x[i] * y[i];
            xx += x[i] * x[i];
            yy += y[i] * y[i];
        }
        *out = xx > 0 && yy > 0 ? xy / (sqrt(xx) * sqrt(yy)) : NAN;
    }
    free(room);
    free(x);
    free(y);
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu ranks", count);
}

cmif_interval cmif_pair_interval(double r, size_t count)
{
    if (count < 4 || isnan(r)) {
        return (cmif_interval){-1, 1};
    }
    const double z  = atanh(fmax(-1 + 1e-12, fmin(r, 1 - 1e-12))),
                 by = 1.959963984540054 * sqrt(1.06 / (double) (count - 3));
    return (cmif_interval){fmin(tanh(z - by), r), fmax(tanh(z + by), r)}; /* of r 1 too */
}
