/* Golden values: SciPy 1.17 (beta, Wilson, Clopper-Pearson, binomial, chi-square, paired t); Tango's interval by
 * maximising the likelihood numerically in 40 digits. */
#include "stats.h"

#include "base/check.h"

#include <math.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int near(double found, double expected, double tolerance)
{
    return fabs(found - expected) <= tolerance * fmax(1e-6, fmin(1, fabs(expected))); /* relative, below one */
}

static void means_and_deviations(void)
{
    static const double a[] = {.2, .9, .4, 1, .6, .8, 0, .5, .55, .7};
    cmif_mean           m   = cmif_stats_mean(a, COUNT(a));
    CHECK(near(m.mean, 0.565, 1e-14) && near(m.sd, 0.30916554357388104, 1e-14) && m.count == 10);
    m = cmif_stats_mean(a, 1);
    CHECK(near(m.mean, .2, 0) && isnan(m.sd));
    m = cmif_stats_mean(a, 0);
    CHECK(isnan(m.mean) && isnan(m.sd) && m.count == 0);

    static const double close[] = {1e9 + 1, 1e9 + 2, 1e9 + 3};
    CHECK(near(cmif_stats_mean(close, 3).sd, 1, 1e-12)); /* sums of squares would lose it */
}

static void incomplete_beta_as_scipy(void)
{
    static const double golden[][4] = {{1, 1, .3, .3},
                                       {.5, .5, .2, 0.2951672353008665},
                                       {2, 3, .4, 0.5248},
                                       {10, 1, .99, 0.9043820750088044},
                                       {300, 571, .36, 0.8333405446744175},
                                       {786, 87, .9, 0.47448029493521726},
                                       {1e5, 9e5, .1001, 0.6308567665035397},
                                       {.5, 435.5, .004, 0.9382215059598886},
                                       {5, .5, .7, 0.0652622461689081},
                                       {1, 1000, .0005, 0.3935451771599385}};
    for (size_t i = 0; i < COUNT(golden); i++) {
        double a = golden[i][0], b = golden[i][1], x = golden[i][2];
        CHECK(near(cmif_stats_beta(a, b, x), golden[i][3], a > 1000 ? 1e-8 : 1e-12));
        CHECK(near(cmif_stats_beta(b, a, 1 - x), 1 - golden[i][3], a > 1000 ? 1e-8 : 1e-12));
    }
    CHECK(near(cmif_stats_beta(3, 4, 0), 0, 0) && near(cmif_stats_beta(3, 4, 1), 1, 0));
}

static const struct rate {
    uint64_t hits, count;
    double   confidence, wilson_low, wilson_high, exact_low, exact_high;
} rates[] = {
    {0, 10, 0.95, 0.0, 0.27753279986288926, 0.0, 0.3084971078187607},
    {1, 10, 0.95, 0.017876213095072896, 0.4041500267952385, 0.0025285785444617865, 0.4450161170281954},
    {5, 10, 0.95, 0.236593090512564, 0.7634069094874361, 0.18708602844739855, 0.8129139715526015},
    {10, 10, 0.95, 0.7224672001371109, 1.0, 0.6915028921812392, 1.0},
    {786, 872, 0.95, 0.8797913721964459, 0.9194400331569137, 0.8796357865696184, 0.9203559827104287},
    {721, 872, 0.99, 0.7913927524903063, 0.857340870775776, 0.7914830600716748, 0.8585462442560496},
    {1505, 1821, 0.95, 0.8083926377699717, 0.8431708140864942, 0.8082787262296287, 0.8436007299459494},
    {50000, 1000000, 0.95, 0.04957456172546827, 0.05042889557418928, 0.04957363954732641, 0.05042896936846393},
    {0, 1000000, 0.975, 0.0, 5.023860948009271e-06, 0.0, 4.382017033609191e-06},
    {3, 7, 0.9, 0.18644319036395607, 0.7105229089864071, 0.12875639280424267, 0.7746784159675523},
};

static void intervals_of_rates_as_scipy(void)
{
    for (size_t i = 0; i < COUNT(rates); i++) {
        const struct rate *r      = &rates[i];
        cmif_interval      wilson = cmif_stats_wilson(r->hits, r->count, r->confidence);
        cmif_interval      exact  = cmif_stats_clopper_pearson(r->hits, r->count, r->confidence);
        CHECK(near(wilson.low, r->wilson_low, 1e-10) && near(wilson.high, r->wilson_high, 1e-10));
        CHECK(near(exact.low, r->exact_low, 1e-10) && near(exact.high, r->exact_high, 1e-10));
    }
    cmif_interval none = cmif_stats_wilson(0, 0, .95), nothing = cmif_stats_clopper_pearson(0, 0, .95);
    CHECK(near(none.low, 0, 0) && near(none.high, 1, 0) && near(nothing.low, 0, 0) && near(nothing.high, 1, 0));
}

/* What makes the audit's bound a bound: at the end of the interval the tail is alpha, and not more. */
static void clopper_pearson_covers_what_it_says(void)
{
    for (uint64_t n = 1; n <= 60; n++) {
        for (uint64_t hits = 0; hits <= n; hits++) {
            double low  = cmif_stats_rate_low(hits, n, .025);
            double high = cmif_stats_rate_high(hits, n, .025);
            double tail = 0, head = 0; /* P(X >= hits) at low, P(X <= hits) at high, term by term */
            for (uint64_t k = 0; k <= n; k++) {
                double x = (double) k, rest = (double) (n - k);
                double choose = lgamma((double) n + 1) - lgamma(x + 1) - lgamma(rest + 1);
                tail += k >= hits && hits > 0 ? exp(choose + x * log(low) + rest * log1p(-low)) : 0;
                head += k <= hits && hits < n ? exp(choose + x * log(high) + rest * log1p(-high)) : 0;
            }
            CHECK(hits == 0 || near(tail, .025, 1e-10));
            CHECK(hits == n || near(head, .025, 1e-10));
            CHECK(low <= (double) hits / (double) n && high >= (double) hits / (double) n);
        }
    }
}

static void mcnemar_as_scipy(void)
{
    static const struct {
        uint64_t only_a, only_b;
        double   p;
        bool     exact;
    } golden[] = {{0, 0, 1.0, 1},
                  {1, 0, 1.0, 1},
                  {0, 5, 0.0625, 1},
                  {3, 10, 0.09228515625, 1},
                  {12, 12, 1.0, 1},
                  {12, 13, 1.0, 1},
                  {40, 71, 0.004195534185394861, 1},
                  {100, 199, 1.0736641227918681e-08, 1},
                  {4900, 5100, 0.04658552770494645, 1},
                  {5100, 4900, 0.04658552770494645, 1},
                  {5200, 4900, 0.002834749080259389, 0},
                  {600000, 602000, 0.0681184706748575, 0}};
    for (size_t i = 0; i < COUNT(golden); i++) {
        cmif_mcnemar found = cmif_stats_mcnemar(golden[i].only_a, golden[i].only_b);
        CHECK(near(found.p, golden[i].p, 1e-10) && found.exact == golden[i].exact);
    }
}

static void paired_rates_as_tango(void)
{
    static const struct {
        uint64_t only_a, only_b, count;
        double   confidence, low, high;
    } golden[] = {{12, 2, 50, 0.95, 0.061112406186344004, 0.3447087482821487},
                  {14, 0, 50, 0.95, 0.17474170665911226, 0.4166512369595656},
                  {0, 0, 872, 0.95, -0.0043860207598148925, 0.0043860207598148925},
                  {1, 0, 10, 0.95, -0.2052860798491781, 0.4041500267952384},
                  {60, 31, 872, 0.95, 0.01206319224671431, 0.055376187663809556},
                  {31, 60, 872, 0.99, -0.06279524353612286, -0.005255371273496063},
                  {10, 0, 10, 0.95, 0.44493440027422165, 1.0},
                  {200, 10, 1821, 0.9, 0.09236213093629454, 0.11731192470536292}};
    for (size_t i = 0; i < COUNT(golden); i++) {
        cmif_difference d =
            cmif_stats_paired_rates(golden[i].only_a, golden[i].only_b, golden[i].count, golden[i].confidence);
        double expected = ((double) golden[i].only_a - (double) golden[i].only_b) / (double) golden[i].count;
        CHECK(near(d.difference, expected, 1e-14));
        CHECK(near(d.interval.low, golden[i].low, 1e-10) && near(d.interval.high, golden[i].high, 1e-10));
        CHECK(near(d.p, cmif_stats_mcnemar(golden[i].only_a, golden[i].only_b).p, 0));
    }
    cmif_difference none = cmif_stats_paired_rates(0, 0, 0, .95);
    CHECK(near(none.interval.low, -1, 0) && near(none.interval.high, 1, 0) && near(none.p, 1, 0));
}

/* The interval and the chi-square test say the same of "no difference", whatever the counts. */
static void tango_holds_zero_where_mcnemar_does_not_reject(void)
{
    for (uint64_t a = 0; a <= 60; a += 3) {
        for (uint64_t b = 0; b <= 60; b++) {
            double chi2 = a + b == 0 ? 0 : ((double) a - (double) b) * ((double) a - (double) b) / (double) (a + b);
            cmif_difference d = cmif_stats_paired_rates(a, b, 200, .95);
            CHECK((d.interval.low <= 0 && d.interval.high >= 0) == (erfc(sqrt(chi2 / 2)) >= .05));
        }
    }
}

static void paired_scores_as_scipy(void)
{
    static const double a[] = {.2, .9, .4, 1, .6, .8, 0, .5, .55, .7};
    static const double b[] = {.1, .9, .5, .6, .4, .8, .2, .4, .35, .65};
    cmif_difference     d   = cmif_stats_paired(a, b, COUNT(a), .95);
    CHECK(near(d.difference, .075, 1e-12) && near(d.p, 0.1934220596033322, 1e-10));
    CHECK(near(d.interval.low, -0.04570727798329596, 1e-10) && near(d.interval.high, 0.19570727798329593, 1e-10));
    d = cmif_stats_paired(a, b, COUNT(a), .99);
    CHECK(near(d.interval.low, -0.09840917270032709, 1e-10) && near(d.interval.high, 0.24840917270032706, 1e-10));
    d = cmif_stats_paired(a, b, 2, .95);
    CHECK(near(d.interval.low, -0.5853102368087347, 1e-10) && near(d.p, 0.5, 1e-10));
    d = cmif_stats_paired(a, a, COUNT(a), .95);
    CHECK(near(d.difference, 0, 0) && near(d.interval.low, 0, 0) && near(d.p, 1, 0));
    d = cmif_stats_paired(a, b, 1, .95);
    CHECK(isnan(d.difference) && isnan(d.interval.low) && near(d.p, 1, 0));
}

/* ---- rows of a table ---- */

enum { SENTENCES = 872, TABLES = 300 };

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ldexp((double) (*state >> 33), -31);
}

/* Shares of right runs where sentence i is right with the probability right[i] - less, drawn anew in each run. */
static void draw_shares(const double *right, double less, size_t runs, uint64_t *state, double *shares)
{
    for (size_t i = 0; i < SENTENCES; i++) {
        shares[i] = 0;
        for (size_t r = 0; r < runs; r++) {
            shares[i] += uniform(state) < right[i] - less ? 1 / (double) runs : 0;
        }
    }
}

/* In how many of TABLES tables a row of a_runs differs from one of b_runs with p < .05, where it is worse by `less`. */
static double found_share(size_t a_runs, size_t b_runs, double less, uint64_t *state)
{
    double   right[SENTENCES], a[SENTENCES], b[SENTENCES];
    unsigned found = 0;
    for (unsigned t = 0; t < TABLES; t++) {
        for (size_t i = 0; i < SENTENCES; i++) { /* some are easy, some hard, as sentences are */
            double u = uniform(state);
            right[i] = u < .6 ? .97 : u < .8 ? .75 : .3;
        }
        draw_shares(right, 0, a_runs, state, a);
        draw_shares(right, less, b_runs, state, b);
        found += cmif_stats_compare(a, a_runs, b, b_runs, SENTENCES, .95).paired.p < .05;
    }
    return (double) found / TABLES;
}

static void no_difference_is_found_one_time_in_twenty(void)
{
    static const size_t runs[][2] = {{15, 15}, {3, 15}, {1, 5}, {1, 1}};
    uint64_t            state     = 1;
    for (size_t i = 0; i < COUNT(runs); i++) { /* binomial, 300 at .05: outside of this once in 10,000 */
        double share = found_share(runs[i][0], runs[i][1], 0, &state);
        CHECK(share < .10 && (share > .005 || runs[i][1] == 1));
    }
}

static void a_planted_difference_is_found(void)
{
    uint64_t state = 2;
    CHECK(found_share(15, 15, .02, &state) > .95);
    CHECK(found_share(1, 15, .05, &state) > .9);
    CHECK(found_share(1, 1, .05, &state) > .6);
}

static void rows_of_one_run_are_compared_exactly(void)
{
    static const double a[] = {1, 1, 1, 1, 1, 1, 0, 1}, b[] = {0, 0, 0, 0, 0, 0, 0, 1},
                        half[] = {.5, 1, .5, 1, 0, 0, 0, 1};
    cmif_compared c            = cmif_stats_compare(a, 1, b, 1, COUNT(a), .95);
    CHECK(c.exact && near(c.paired.p, 0.03125, 1e-12) && near(c.paired.difference, .75, 1e-12)); /* 2 / 2^6 */
    c = cmif_stats_compare(half, 2, b, 1, COUNT(a), .95);
    CHECK(!c.exact && near(c.paired.p, cmif_stats_paired(half, b, COUNT(a), .95).p, 0));
}

static void holm_steps_down(void)
{
    static const double p[]      = {.01, .04, .03, .005, .5, .04, 1e-9};
    static const double golden[] = {.05, .12, .12, .03, .5, .12, 7e-9};
    double              adjusted[COUNT(p)];
    cmif_stats_holm(p, COUNT(p), adjusted);
    for (size_t i = 0; i < COUNT(p); i++) {
        CHECK(near(adjusted[i], golden[i], 1e-12));
    }
    static const double large[] = {.9, .8};
    cmif_stats_holm(large, 2, adjusted);
    CHECK(near(adjusted[0], 1, 0) && near(adjusted[1], 1, 0));
    cmif_stats_holm(large, 0, NULL);
}

int main(void)
{
    RUN(means_and_deviations);
    RUN(incomplete_beta_as_scipy);
    RUN(intervals_of_rates_as_scipy);
    RUN(clopper_pearson_covers_what_it_says);
    RUN(mcnemar_as_scipy);
    RUN(paired_rates_as_tango);
    RUN(tango_holds_zero_where_mcnemar_does_not_reject);
    RUN(paired_scores_as_scipy);
    RUN(rows_of_one_run_are_compared_exactly);
    RUN(no_difference_is_found_one_time_in_twenty);
    RUN(a_planted_difference_is_found);
    RUN(holm_steps_down);
    return check_report();
}
