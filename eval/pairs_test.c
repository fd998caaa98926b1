#include "pairs.h"

#include "base/check.h"

#include <math.h>

static double spearman(const double *a, const double *b, size_t count)
{
    double r = 77;
    CHECK(cmif_pair_spearman(a, b, count, &r, NULL) == CMIF_OK);
    return r;
}

/* The value: Python's statistics.correlation of mean ranks; so are the bounds below, of its NormalDist. */
static void ranks_agree_with_another_computation(void)
{
    static const double a[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3}, b[] = {2, 7, 1, 8, 2, 8, 1, 8, 2, 8};
    CHECK(fabs(spearman(a, b, 10) - 0.13471506281091267) < 1e-12);
    static const double c[] = {0.1, 0.5, 0.2, 0.9, -1}, d[] = {1, 2, 4, 3, 0};
    CHECK(fabs(spearman(c, d, 5) - 0.7) < 1e-12); /* 1 - 6 * 6 / (5 * 24): no ties */
}

static void only_the_order_counts(void)
{
    static const double a[] = {1, 2, 3, 4}, grown[] = {-5, 10, 1e3, 1e9}, back[] = {4, 3, 2, 1}, same[] = {1, 1, 1, 1};
    CHECK(fabs(spearman(a, grown, 4) - 1) < 1e-12);
    CHECK(fabs(spearman(a, back, 4) + 1) < 1e-12);
    CHECK(isnan(spearman(a, same, 4)) && isnan(spearman(a, a, 1)) && isnan(spearman(a, a, 0)));
}

static void features_and_nearness_are_the_same_both_ways_round(void)
{
    static const float u[] = {1, -2, 0.5f}, v[] = {3, 1, -1}, zero[] = {0, 0, 0};
    float              uv[7], vu[7];
    static const float expected[] = {2, 3, 1.5f, 3, -2, -0.5f, 0.06579517f};
    cmif_pair_features(u, v, 3, uv);
    cmif_pair_features(v, u, 3, vu);
    for (size_t i = 0; i < 7; i++) {
        CHECK(fabsf(uv[i] - expected[i]) < 1e-6f && fabsf(vu[i] - expected[i]) < 1e-6f);
    }
    CHECK(fabs(cmif_pair_cosine(u, v, 3) - 0.5 / (sqrt(5.25) * sqrt(11))) < 1e-12);
    CHECK(fabs(cmif_pair_cosine(u, u, 3) - 1) < 1e-12 && fabs(cmif_pair_cosine(u, zero, 3)) < 1e-12);
}

static void an_interval_holds_its_figure_and_narrows(void)
{
    cmif_interval few = cmif_pair_interval(0.6, 30), many = cmif_pair_interval(0.6, 3000);
    CHECK(few.low < 0.6 && few.high > 0.6 && many.low > few.low && many.high < few.high && many.low < 0.6 &&
          many.high > 0.6);
    CHECK(fabs(few.low - 0.2956999307269012) < 1e-9 && fabs(few.high - 0.7937522665332876) < 1e-9);
    CHECK(cmif_pair_interval(1, 100).high >= 1 && cmif_pair_interval(1, 100).high <= 1 &&
          cmif_pair_interval(1, 100).low > 0.99);
    CHECK(cmif_pair_interval(0.5, 3).low <= -1 && cmif_pair_interval(NAN, 100).high >= 1);
}

int main(void)
{
    RUN(ranks_agree_with_another_computation);
    RUN(only_the_order_counts);
    RUN(features_and_nearness_are_the_same_both_ways_round);
    RUN(an_interval_holds_its_figure_and_narrows);
    return check_report();
}
