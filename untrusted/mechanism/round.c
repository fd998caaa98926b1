#include "mechanism/mechanism.h"

#include <math.h>
#include <stdlib.h>

/* A row p / sum(p), mixed with the row of means, as weights. Each is within 1 of the real number it stands for, because
 * what rounding leaves over is carried to the next. */
static cmif_code round_row(const long double *p, const long double *means, long double share, size_t n, uint32_t bits,
                           uint64_t *weights, cmif_err *err)
{
    const long double total = ldexpl(1, (int) bits);
    long double       sum = 0, lost = 0, carry = .5L;
    for (size_t j = 0; j < n; j++) { /* Kahan's sum: 2^63 weighs every bit */
        long double term = p[j] - lost, next = sum + term;
        lost = (next - sum) - term;
        sum  = next;
    }
    uint64_t left  = (uint64_t) 1 << bits;
    size_t   heavy = 0;
    for (size_t j = 0; j < n; j++) {
        long double exact = (p[j] / sum * (1 - share) + means[j] * share) * total;
        if (!(exact >= 1) || exact > total) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "an output has a probability of %.3Lg; weights that sum to 2^%u need at least %.3Lg", p[j],
                             bits, 1 / total);
        }
        long double whole = floorl(exact);
        carry += exact - whole;
        weights[j] = (uint64_t) whole + (carry >= 1);
        carry -= carry >= 1;
        left -= weights[j]; /* wraps when rounding took one too many; the heaviest weight puts it right */
        heavy = weights[j] > weights[heavy] ? j : heavy;
    }
    weights[heavy] += left;
    return CMIF_OK;
}

static bool columns_hold(const uint64_t *weights, size_t m, size_t n, size_t stride, uint64_t num, uint64_t den)
{
    for (size_t j = 0; j < n; j++) {
        uint64_t high = weights[j], low = weights[j];
        for (size_t i = 1; i < m; i++) {
            uint64_t w = weights[i * stride + j];
            high       = w > high ? w : high;
            low        = w < low ? w : low;
        }
        if (!cmif_loss_within(high, low, num, den)) {
            return false;
        }
    }
    return true;
}

/* Mixing mends what rounding broke; it must not hide that the rows themselves lose more. */
static cmif_code check_loss(const long double *p, size_t m, size_t n, uint64_t num, uint64_t den, cmif_err *err)
{
    long double loss = cmif_closed_loss(p, m, n), epsilon = (long double) num / (long double) den;
    if (!(loss <= epsilon + 1e-12L)) {
        return cmif_fail(err, CMIF_E_RANGE, "its probabilities lose %.6Lf before rounding, more than epsilon %.6Lf",
                         loss, epsilon);
    }
    return CMIF_OK;
}

cmif_code cmif_round_block(const long double *p, size_t m, size_t n, uint32_t bits, uint64_t num, uint64_t den,
                           uint64_t *weights, size_t stride, cmif_err *err)
{
    long double *means = calloc(n + 1, sizeof *means);
    if (!means) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the means of %zu columns", n);
    }
    cmif_code rc = m > 1 ? check_loss(p, m, n, num, den, err) : CMIF_OK;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            means[j] += p[i * n + j] / (long double) m;
        }
    }
    long double share = 0;
    for (int shift = (int) bits; rc == CMIF_OK; shift--) {
        for (size_t i = 0; i < m && rc == CMIF_OK; i++) {
            rc = round_row(p + i * n, means, share, n, bits, weights + i * stride, err);
        }
        if (rc != CMIF_OK || m == 1 || columns_hold(weights, m, n, stride, num, den)) {
            break;
        }
        share = ldexpl(1, -shift); /* at 2^0 all rows are alike, so this ends */
    }
    free(means);
    return rc;
}
