#include "rows/rows.h"

#include "base/check.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float decode_half(uint16_t half)
{
    uint8_t bytes[2] = {(uint8_t) half, (uint8_t) (half >> 8)};
    float   value;
    cmif_row_decode(CMIF_ROWS_F16, bytes, &value, 1);
    return value;
}

static uint16_t encode_half(float value)
{
    uint8_t bytes[2];
    cmif_row_encode(CMIF_ROWS_F16, &value, bytes, 1);
    return (uint16_t) (bytes[0] | bytes[1] << 8);
}

static void names_and_sizes(void)
{
    cmif_row_type type = CMIF_ROWS_ID;
    for (unsigned i = 0; i < CMIF_ROW_TYPES; i++) {
        CHECK(cmif_row_type_find(cmif_row_type_name(i), &type) && type == i);
    }
    type = CMIF_ROWS_BF16;
    CHECK(!cmif_row_type_find("f64", &type) && !cmif_row_type_find(NULL, &type) && type == CMIF_ROWS_BF16);
    CHECK(cmif_row_type_name(5) == NULL);
    CHECK(cmif_row_size(CMIF_ROWS_ID, 100) == 4);
    CHECK(cmif_row_size(CMIF_ROWS_F32, 100) == 400);
    CHECK(cmif_row_size(CMIF_ROWS_F16, 100) == 200);
    CHECK(cmif_row_size(CMIF_ROWS_BF16, 65536) == 131072);
    CHECK(cmif_row_size(CMIF_ROWS_BF16, 65537) == 0);
    CHECK(cmif_row_size(CMIF_ROWS_F32, 0) == 0);
    CHECK(cmif_row_size(CMIF_ROWS_Q8_0, 64) == 68);
    CHECK(cmif_row_size(CMIF_ROWS_Q8_0, 65) == 0);
    CHECK(cmif_row_size((cmif_row_type) 9, 64) == 0);
}

/* Every half is (sign)(1 + fraction / 1024) * 2^(exponent - 15), computed here with ldexp. */
static void every_half_is_exact(void)
{
    for (unsigned half = 0; half < 65536; half++) {
        int   exponent = (int) (half >> 10 & 31);
        float fraction = (float) (half & 1023);
        float expected = exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24);
        if (exponent == 31) {
            expected = half & 1023 ? NAN : INFINITY;
        }
        expected    = half & 0x8000 ? -expected : expected;
        float value = decode_half((uint16_t) half);
        if (isnan(expected)) {
            CHECK(isnan(value));
        } else {
            CHECK(bits_of(value) == bits_of(expected));
            CHECK(encode_half(value) == half);
        }
    }
}

static void halves_round_to_nearest_even(void)
{
    for (unsigned half = 0; half < 0x7bff; half++) { /* between each finite half and the next */
        float    low = decode_half((uint16_t) half), high = decode_half((uint16_t) (half + 1));
        float    middle = (low + high) / 2; /* exact in a float */
        unsigned even   = half & 1 ? half + 1 : half;
        CHECK(encode_half(middle) == even);
        CHECK(encode_half(-middle) == (even | 0x8000));
        CHECK(encode_half(nextafterf(middle, 0)) == half);
        CHECK(encode_half(nextafterf(middle, INFINITY)) == half + 1);
    }
    CHECK(encode_half(nextafterf(65520.0f, 0)) == 0x7bff);
    CHECK(encode_half(65520.0f) == 0x7c00);
    CHECK(encode_half(INFINITY) == 0x7c00 && encode_half(-INFINITY) == 0xfc00);
    CHECK((encode_half(NAN) & 0x7e00) == 0x7e00);
    CHECK(encode_half(0x1p-25f) == 0 && encode_half(0x1.000002p-25f) == 1);
}

/* A row of 8 or more takes the vector path where there is one; both paths must say the same. */
static void long_rows_equal_short_ones(void)
{
    float    floats[67], back[67];
    uint8_t  bytes[2 * 67], one[2];
    uint32_t state = 1;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < 67; i++) {
            state         = state * 1664525u + 1013904223u;
            uint32_t bits = state;
            if (round & 1) { /* exponents where halves live */
                bits = (bits & 0x807fffff) | (90 + (bits >> 23) % 60) << 23;
            }
            memcpy(&floats[i], &bits, sizeof bits);
        }
        cmif_row_encode(CMIF_ROWS_F16, floats, bytes, 67);
        cmif_row_decode(CMIF_ROWS_F16, bytes, back, 67);
        for (size_t i = 0; i < 67; i++) {
            float single;
            cmif_row_encode(CMIF_ROWS_F16, &floats[i], one, 1);
            cmif_row_decode(CMIF_ROWS_F16, one, &single, 1);
            CHECK(memcmp(one, bytes + 2 * i, 2) == 0 && bits_of(single) == bits_of(back[i]));
        }
    }
}

static void bf16_is_the_upper_half_of_a_float(void)
{
    static const struct {
        uint32_t bits;
        uint16_t brain;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0x7f7fffff, 0x7f80},
        {0xff800000, 0xff80}, {0x7f800001, 0x7fc0}, {0x80000000, 0x8000}, {0x00008000, 0x0000}, {0x00018000, 0x0002},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float   value, back;
        uint8_t bytes[2];
        memcpy(&value, &cases[i].bits, 4);
        cmif_row_encode(CMIF_ROWS_BF16, &value, bytes, 1);
        CHECK((bytes[0] | bytes[1] << 8) == cases[i].brain);
        cmif_row_decode(CMIF_ROWS_BF16, bytes, &back, 1);
        CHECK(bits_of(back) == (uint32_t) cases[i].brain << 16);
    }
}

static void q8_0_keeps_the_largest_and_rounds_the_rest(void)
{
    float   floats[32] = {127, -127, 1.5f, 2.5f, -2.5f, 0.4f}, back[32];
    uint8_t bytes[34];
    cmif_row_encode(CMIF_ROWS_Q8_0, floats, bytes, 32);
    CHECK(bytes[0] == 0x00 && bytes[1] == 0x3c); /* scale 1 */
    static const float expected[6] = {127, -127, 2, 2, -2, 0};
    cmif_row_decode(CMIF_ROWS_Q8_0, bytes, back, 32);
    for (size_t i = 0; i < 6; i++) {
        CHECK(back[i] == expected[i]);
    }
    memset(floats, 0, sizeof floats);
    cmif_row_encode(CMIF_ROWS_Q8_0, floats, bytes, 32);
    for (size_t i = 0; i < 34; i++) {
        CHECK(bytes[i] == 0);
    }
    floats[0] = NAN, floats[1] = INFINITY, floats[2] = -INFINITY, floats[3] = 1; /* nothing sensible, but no fault */
    cmif_row_encode(CMIF_ROWS_Q8_0, floats, bytes, 32);
    floats[0] = floats[1] = floats[2] = floats[3] = 1e-45f;
    cmif_row_encode(CMIF_ROWS_Q8_0, floats, bytes, 32);
}

static void a_row_with_one_bad_number_is_not_sane(void)
{
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 101, -101, 1e30f};
    float              row[33];
    for (size_t at = 0; at < 33; at++) {
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            memset(row, 0, sizeof row);
            row[at] = bad[i];
            CHECK(!cmif_row_is_sane(row, 33, 100));
        }
        row[at] = at & 1 ? 100 : -100;
        CHECK(cmif_row_is_sane(row, 33, 100));
        CHECK(!cmif_row_is_sane(row, 33, INFINITY) && !cmif_row_is_sane(row, 33, NAN));
    }
}

int main(void)
{
    RUN(names_and_sizes);
    RUN(every_half_is_exact);
    RUN(halves_round_to_nearest_even);
    RUN(long_rows_equal_short_ones);
    RUN(bf16_is_the_upper_half_of_a_float);
    RUN(q8_0_keeps_the_largest_and_rounds_the_rest);
    RUN(a_row_with_one_bad_number_is_not_sane);
    return check_report();
}
