/* Our rows against the engine's own: the same bits for every stored value, the same bytes where both encode. */
#include "rows/rows.h"

#include "base/check.h"

#include <ggml.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 256, ROUNDS = 4000 };

static uint64_t state = 7;

static uint32_t next(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t) (state >> 32);
}

static enum ggml_type engine_type(cmif_row_type type)
{
    static const enum ggml_type types[] = {GGML_TYPE_COUNT, GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16,
                                           GGML_TYPE_Q8_0};
    return types[type];
}

static bool is_nan(float value)
{
    return value != value;
}

static void decoding_equals_to_float(void)
{
    for (cmif_row_type type = CMIF_ROWS_F16; type <= CMIF_ROWS_Q8_0; type++) {
        const struct ggml_type_traits *traits = ggml_get_type_traits(engine_type(type));
        size_t                         size   = cmif_row_size(type, WIDTH);
        CHECK(size == ggml_row_size(engine_type(type), WIDTH));
        for (int round = 0; round < ROUNDS; round++) {
            uint8_t bytes[WIDTH * 4];
            float   ours[WIDTH], theirs[WIDTH];
            for (size_t i = 0; i < size; i++) {
                bytes[i] = (uint8_t) next();
            }
            cmif_row_decode(type, bytes, ours, WIDTH);
            traits->to_float(bytes, theirs, WIDTH);
            for (size_t i = 0; i < WIDTH; i++) {
                CHECK(memcmp(&ours[i], &theirs[i], 4) == 0 || (is_nan(ours[i]) && is_nan(theirs[i])));
            }
        }
    }
}

static void every_half_and_brain_float_is_the_same(void)
{
    for (unsigned bits = 0; bits < 65536; bits++) {
        uint16_t    stored = (uint16_t) bits;
        float       ours, theirs;
        ggml_bf16_t brain = {stored};
        cmif_row_decode(CMIF_ROWS_F16, &stored, &ours, 1);
        theirs = ggml_fp16_to_fp32(stored);
        CHECK(memcmp(&ours, &theirs, 4) == 0);
        cmif_row_decode(CMIF_ROWS_BF16, &stored, &ours, 1);
        theirs = ggml_bf16_to_fp32(brain);
        CHECK(memcmp(&ours, &theirs, 4) == 0);
    }
}

/* q8_0 may differ by one step where a number lies exactly between two: the engine's reference rounds those away from
 * zero, we round to even. None of the random rows holds such a number. */
static void encoding_equals_from_float(void)
{
    for (cmif_row_type type = CMIF_ROWS_F16; type <= CMIF_ROWS_Q8_0; type++) {
        const struct ggml_type_traits *traits = ggml_get_type_traits(engine_type(type));
        size_t                         size   = cmif_row_size(type, WIDTH);
        for (int round = 0; round < ROUNDS; round++) {
            float   floats[WIDTH];
            uint8_t ours[WIDTH * 4], theirs[WIDTH * 4];
            for (size_t i = 0; i < WIDTH; i++) { /* sizes from 2^-30 to 2^17: subnormal halves and too large ones too */
                uint32_t bits = (next() & 0x807fffff) | (97 + next() % 48) << 23;
                memcpy(&floats[i], &bits, sizeof bits);
            }
            cmif_row_encode(type, floats, ours, WIDTH);
            traits->from_float_ref(floats, theirs, WIDTH);
            CHECK(memcmp(ours, theirs, size) == 0);
        }
    }
}

int main(void)
{
    RUN(decoding_equals_to_float);
    RUN(every_half_and_brain_float_is_the_same);
    RUN(encoding_equals_from_float);
    return check_report();
}
