#include "stats.h"

#include <assert.h>
#include <math.h>

cmif_mean cmif_stats_mean(const double *values, size_t count)
{
    cmif_mean result = {.mean = NAN, .sd = NAN, .count = count};
    if (count == 0) {
        return result;
    }
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += values[i];
    }
    result.mean = sum / (double) count;
    if (count >= 2) {
        double squares = 0; /* a second pass: sums of squares cancel where the spread is small */
        for (size_t i = 0; i < count; i++) {
            squares += (values[i] - result.mean) * (values[i] - result.mean);
        }
        result.sd = sqrt(squares / (double) (count - 1));
    }
    return result;
}

/* The continued fraction of I_x(a, b), by Lentz's method; it converges in some sqrt(max(a, b)) steps for x left of the
 * mean. */
static double fraction(double a, double b, double x)
{
    const double tiny   = 1e-300;
    double       c      = 1;
    double       d      = 1 - (a + b) * x / (a + 1);
    d                   = 1 / (fabs(d) < tiny ? tiny : d);
    double       result = d;
    const double most   = 1000 + 20 * sqrt(a + b);
    for (double m = 1; m < most; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d           = 1 + even * d;
        c           = 1 + even / c;
        d           = 1 / (fabs(d) < tiny ? tiny : d);
        c           = fabs(c) < tiny ? tiny : c;
        result *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d          = 1 + odd * d;
        c          = 1 + odd / c;
        d          = 1 / (fabs(d) < tiny ? tiny : d);
        c          = fabs(c) < tiny ? tiny : c;
        result *= d * c;
        if (fabs(d * c - 1) < 1e-16) {
            break;
        }
    }
    return result;
}

double cmif_stats_beta(double a, double b, double x)
{
    assert(a > 0 && b > 0 && x >= 0 && x <= 1);
    if (x <= 0 || x >= 1) {
        return x <= 0 ? 0 : 1;
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    double left  = x < (a + 1) / (a + b + 2) ? front * fraction(a, b, x) / a : 1 - front * fraction(b, a, 1 - x) / b;
    return fmin(1, fmax(0, left));
}

/* Where I_x(a, b) reaches p, rounded towards 0: doubles are as many as their bits, so a bisection of x ends by itself.
 */
static double beta_quantile(double a, double b, double p)
{
    double low = 0, high = 1;
    for (;;) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) {
            return low;
        }
        if (cmif_stats_beta(a, b, middle) <= p) {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/* z with P(|Z| > z) = 1 - confidence for a standard normal Z */
static double normal_quantile(double confidence)
{
    assert(confidence > 0 && confidence < 1);
    double low = 0, high = 40;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (erfc(middle / sqrt(2)) >= 1 - confidence) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

cmif_interval cmif_stats_wilson(uint64_t hits, uint64_t count, double confidence)
{
    assert(hits <= count);
    if (count == 0) {
        return (cmif_interval){0, 1};
    }
    double z      = normal_quantile(confidence);
    double n      = (double) count;
    double rate   = (double) hits / n;
    double middle = (rate + z * z / (2 * n)) / (1 + z * z / n);
    double half   = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    return (cmif_interval){hits == 0 ? 0 : fmax(0, middle - half), hits == count ? 1 : fmin(1, middle + half)};
}

double cmif_stats_rate_low(uint64_t hits, uint64_t count, double alpha)
{
    assert(hits <= count && alpha > 0 && alpha < 1);
    return hits == 0 ? 0 : beta_quantile((double) hits, (double) (count - hits) + 1, alpha);
}

double cmif_stats_rate_high(uint64_t hits, uint64_t count, double alpha)
{
    return 1 - cmif_stats_rate_low(count - hits, count, alpha); /* what is low for the misses */
}

cmif_interval cmif_stats_clopper_pearson(uint64_t hits, uint64_t count, double confidence)
{
    double alpha = (1 - confidence) / 2;
    return (cmif_interval){cmif_stats_rate_low(hits, count, alpha), cmif_stats_rate_high(hits, count, alpha)};
}

cmif_mcnemar cmif_stats_mcnemar(uint64_t only_a, uint64_t only_b)
{
    uint64_t differ  = only_a + only_b;
    double   few     = (double) (only_a < only_b ? only_a : only_b);
    double   n       = (double) differ;
    double   between = (double) (only_a > only_b ? only_a - only_b : only_b - only_a);
    if (only_a == only_b) {
        return (cmif_mcnemar){.p = 1, .exact = differ <= CMIF_STATS_EXACT};
    }
    if (differ <= CMIF_STATS_EXACT) { /* twice the binomial tail at one half */
        return (cmif_mcnemar){.p = fmin(1, 2 * cmif_stats_beta(n - few, few + 1, 0.5)), .exact = true};
    }
    return (cmif_mcnemar){.p = erfc(between / sqrt(2 * n)), .exact = false};
}

/* Tango's score statistic of the difference delta: its variance is that of the likeliest rates with this difference. */
static double score(double only_a, double only_b, double n, double delta)
{
    double a        = 2 * n;
    double b        = -only_a - only_b + (2 * n - only_a + only_b) * delta;
    double c        = -only_b * delta * (1 - delta);
    double q        = (sqrt(fmax(0, b * b - 4 * a * c)) - b) / (2 * a);
    double variance = n * (2 * q + delta * (1 - delta));
    return (only_a - only_b - n * delta) / sqrt(fmax(variance, 1e-300));
}

cmif_difference cmif_stats_paired_rates(uint64_t only_a, uint64_t only_b, uint64_t count, double confidence)
{
    assert(only_a <= count && only_b <= count - only_a);
    if (count == 0) {
        return (cmif_difference){.difference = 0, .interval = {-1, 1}, .p = 1};
    }
    double z = normal_quantile(confidence);
    double a = (double) only_a, b = (double) only_b, n = (double) count;
    double difference = (a - b) / n;
    double ends[2]; /* the statistic falls from +inf at -1 through 0 at the difference to -inf at 1 */
    for (int side = 0; side < 2; side++) {
        double inside = difference, outside = side == 0 ? -1 : 1;
        for (int i = 0; i < 100; i++) {
            double middle = (inside + outside) / 2;
            if (fabs(score(a, b, n, middle)) <= z) {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        ends[side] = outside;
    }
    return (cmif_difference){
        .difference = difference, .interval = {ends[0], ends[1]}, .p = cmif_stats_mcnemar(only_a, only_b).p};
}

cmif_difference cmif_stats_paired(const double *a, const double *b, size_t count, double confidence)
{
    assert(confidence > 0 && confidence < 1);
    if (count < 2) {
        return (cmif_difference){.difference = NAN, .interval = {NAN, NAN}, .p = 1};
    }
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        sum += a[i] - b[i];
    }
    double n = (double) count, mean = sum / n;
    for (size_t i = 0; i < count; i++) {
        squares += (a[i] - b[i] - mean) * (a[i] - b[i] - mean);
    }
    double error = sqrt(squares / (n - 1) / n);
    /* P(|T| > t) = I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2) */
    double freedom = n - 1;
    double x       = beta_quantile(freedom / 2, 0.5, 1 - confidence);
    double half    = error * sqrt(freedom * (1 - x) / x);
    double p       = 1;
    if (mean != 0) {
        p = error > 0 ? cmif_stats_beta(freedom / 2, 0.5, freedom / (freedom + (mean / error) * (mean / error))) : 0;
    }
    return (cmif_difference){.difference = mean, .interval = {mean - half, mean + half}, .p = p};
}

cmif_compared cmif_stats_compare(const double *a, size_t a_runs, const double *b, size_t b_runs, size_t count,
                                 double confidence)
{
    cmif_compared c = {.paired = cmif_stats_paired(a, b, count, confidence), .exact = a_runs == 1 && b_runs == 1};
    if (c.exact) {
        uint64_t only_a = 0, only_b = 0;
        for (size_t i = 0; i < count; i++) { /* each share is 0 or 1 */
            only_a += a[i] > b[i];
            only_b += b[i] > a[i];
        }
        c.paired.p = cmif_stats_mcnemar(only_a, only_b).p;
    }
    return c;
}

void cmif_stats_holm(const double *restrict p, size_t count, double *restrict adjusted)
{
    for (size_t i = 0; i < count; i++) {
        size_t smaller = 0;
        for (size_t j = 0; j < count; j++) {
            smaller += p[j] < p[i];
        }
        adjusted[i] = fmin(1, (double) (count - smaller) * p[i]);
    }
    /* none is below that of a smaller p; what was raised already is the largest of the same ones */
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            if (p[j] <= p[i]) {
                adjusted[i] = fmax(adjusted[i], adjusted[j]);
            }
        }
    }
}
