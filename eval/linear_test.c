#include "linear.h"

#include "base/check.h"

#include <math.h>
#include <stdlib.h>

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double) (*state >> 11) / 9007199254740992.0;
}

enum { COUNT = 600, WIDTH = 8 };

/* Points of as many clouds as there are labels. */
static void clouds(float *x, uint8_t *y, size_t labels, double apart, uint64_t seed)
{
    for (size_t r = 0; r < COUNT; r++) {
        y[r] = (uint8_t) (r % labels);
        for (size_t i = 0; i < WIDTH; i++) {
            x[r * WIDTH + i] = (float) (uniform(&seed) - 0.5 + (i == y[r] ? apart : 0));
        }
    }
}

static size_t right(const cmif_linear *h, const float *x, const uint8_t *y)
{
    size_t n = 0;
    for (size_t r = 0; r < COUNT; r++) {
        n += cmif_linear_label(h, x + r * WIDTH) == y[r];
    }
    return n;
}

static void clouds_that_are_apart_are_told_apart(void)
{
    static float   x[COUNT * WIDTH];
    static uint8_t y[COUNT];
    for (size_t labels = 2; labels <= 5; labels++) {
        cmif_linear *h = NULL;
        clouds(x, y, labels, 1.5, 1);
        CHECK(cmif_linear_train(x, y, COUNT, WIDTH, labels, 1e-3, &h, NULL) == CMIF_OK);
        clouds(x, y, labels, 1.5, 2); /* others than those it saw */
        CHECK(h && right(h, x, y) > COUNT * 98 / 100);
        cmif_linear_free(h);
    }
}

static void labels_of_chance_are_not_learned(void)
{
    static float   x[COUNT * WIDTH];
    static uint8_t y[COUNT];
    cmif_linear   *h = NULL;
    clouds(x, y, 2, 0, 1);
    CHECK(cmif_linear_train(x, y, COUNT, WIDTH, 2, 1e-3, &h, NULL) == CMIF_OK);
    clouds(x, y, 2, 0, 2);
    CHECK(h && fabs((double) right(h, x, y) - COUNT / 2.0) < 80);
    cmif_linear_free(h);
}

/* Points and labels that are their own mirror image: so is the border. */
static void a_mirrored_task_has_its_border_in_the_middle(void)
{
    const float   x[] = {-3, -2, -1, 1, -1, 1, 2, 3};
    const uint8_t y[] = {0, 0, 0, 0, 1, 1, 1, 1};
    cmif_linear  *h   = NULL;
    CHECK(cmif_linear_train(x, y, 8, 1, 2, 0.1, &h, NULL) == CMIF_OK);
    const float below = -0.01F, above = 0.01F;
    CHECK(h && cmif_linear_label(h, &below) == 0 && cmif_linear_label(h, &above) == 1);
    cmif_linear_free(h);
}

static void bad_input_is_refused(void)
{
    float         x[] = {1, 2, NAN, 4};
    const uint8_t y[] = {0, 1};
    cmif_linear  *h   = NULL;
    CHECK(cmif_linear_train(x, y, 2, 2, 2, 1e-3, &h, NULL) == CMIF_E_RANGE);
    x[2] = 3;
    CHECK(cmif_linear_train(x, y, 1, 2, 2, 1e-3, &h, NULL) == CMIF_E_RANGE);
    CHECK(cmif_linear_train(x, y, 2, 2, 1, 1e-3, &h, NULL) == CMIF_E_RANGE);
    CHECK(cmif_linear_train(x, y, 2, 0, 2, 1e-3, &h, NULL) == CMIF_E_RANGE && !h);
}

int main(void)
{
    RUN(clouds_that_are_apart_are_told_apart);
    RUN(labels_of_chance_are_not_learned);
    RUN(a_mirrored_task_has_its_border_in_the_middle);
    RUN(bad_input_is_refused);
    return check_report();
}
