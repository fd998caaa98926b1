#include "rows/rows.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { WIDTH_MAX = 65536, Q8_WIDTH = 32, Q8_SIZE = 2 + Q8_WIDTH };

static const char *const names[CMIF_ROW_TYPES] = {"ids", "f32", "f16", "bf16", "q8_0"};

const char *cmif_row_type_name(unsigned type)
{
    return type < CMIF_ROW_TYPES ? names[type] : NULL;
}

bool cmif_row_type_find(const char *name, cmif_row_type *out)
{
    for (unsigned i = 0; name && i < CMIF_ROW_TYPES; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (cmif_row_type) i;
            return true;
        }
    }
    return false;
}

size_t cmif_row_size(cmif_row_type type, size_t width)
{
    if (width == 0 || width > WIDTH_MAX) {
        return 0;
    }
    switch (type) {
    case CMIF_ROWS_ID:
        return 4;
    case CMIF_ROWS_F32:
        return width * 4;
    case CMIF_ROWS_F16:
    case CMIF_ROWS_BF16:
        return width * 2;
    case CMIF_ROWS_Q8_0:
        return width % Q8_WIDTH ? 0 : width / Q8_WIDTH * Q8_SIZE;
    }
    return 0;
}

/* ---- one number ---- */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t load16(const uint8_t *bytes)
{
    return (uint16_t) (bytes[0] | bytes[1] << 8);
}

static void store16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t) value;
    bytes[1] = (uint8_t) (value >> 8);
}

/* Exponent and fraction move 13 bits up; the exponent's bias is mended by a multiplication, which makes subnormals
 * right as well. An exponent of all ones (infinity, NaN) is put back by hand. */
static float half_decode(uint16_t half)
{
    uint32_t sign = (uint32_t) (half & 0x8000) << 16;
    uint32_t rest = (uint32_t) (half & 0x7fff) << 13;
    if (rest >= 0x0f800000) {
        uint32_t quiet = rest > 0x0f800000 ? 0x00400000 : 0; /* as the processors' own conversion does */
        return float_of(sign | 0x7f800000 | rest | quiet);
    }
    return float_of(sign | bits_of(float_of(rest) * 0x1p112f));
}

static uint16_t half_encode(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) { /* NaN: quiet, the top of its payload kept */
        return (uint16_t) (sign | 0x7e00 | (size >> 13 & 0x3ff));
    }
    if (size >= 0x477ff000) { /* at or above 65520, halfway to what would come after the largest half */
        return (uint16_t) (sign | 0x7c00);
    }
    if (size < 0x38800000) { /* subnormal: adding 0.5 leaves its last bit at 2^-24, rounded by the addition itself */
        return (uint16_t) (sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f)));
    }
    return (uint16_t) (sign | (size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
}

static uint16_t brain_encode(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return (uint16_t) (bits >> 16 | 0x40);
    }
    return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* ---- many halves: eight at once where the processor can ---- */

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static size_t halves_decode_fast(const uint8_t *bytes, float *floats, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(floats + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (const void *) (bytes + 2 * i))));
    }
    return i;
}

__attribute__((target("avx,f16c"))) static size_t halves_encode_fast(const float *floats, uint8_t *bytes, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(floats + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *) (void *) (bytes + 2 * i), halves);
    }
    return i;
}

/* Asked once: cpuid leaves a virtual machine, which takes longer than a row. */
static bool halves_are_fast(void)
{
    static atomic_int known; /* 0: not asked yet */
    int               answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        unsigned a, b, c = 0, d;
        bool     has = __builtin_cpu_supports("avx") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
        answer       = has ? 1 : -1;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer > 0;
}
#else
static size_t halves_decode_fast(const uint8_t *bytes, float *floats, size_t count)
{
    (void) bytes, (void) floats, (void) count;
    return 0;
}

static size_t halves_encode_fast(const float *floats, uint8_t *bytes, size_t count)
{
    (void) bytes, (void) floats, (void) count;
    return 0;
}

static bool halves_are_fast(void)
{
    return false;
}
#endif

/* ---- rows ---- */

void cmif_row_decode(cmif_row_type type, const void *bytes, float *floats, size_t width)
{
    const uint8_t *from = bytes;
    switch (type) {
    case CMIF_ROWS_ID:
        break;
    case CMIF_ROWS_F32:
        memcpy(floats, from, width * 4);
        break;
    case CMIF_ROWS_F16:
        for (size_t i = halves_are_fast() ? halves_decode_fast(from, floats, width) : 0; i < width; i++) {
            floats[i] = half_decode(load16(from + 2 * i));
        }
        break;
    case CMIF_ROWS_BF16:
        for (size_t i = 0; i < width; i++) {
            floats[i] = float_of((uint32_t) load16(from + 2 * i) << 16);
        }
        break;
    case CMIF_ROWS_Q8_0:
        for (size_t i = 0; i < width; i += Q8_WIDTH, from += Q8_SIZE) {
            float scale = half_decode(load16(from));
            for (size_t j = 0; j < Q8_WIDTH; j++) {
                floats[i + j] = (float) (int8_t) from[2 + j] * scale;
            }
        }
        break;
    }
}

/* The scale is kept as a half, but numbers are divided by the scale before that rounding, as the engine does it. */
static void q8_encode(const float *floats, uint8_t *to)
{
    float largest = 0;
    for (size_t j = 0; j < Q8_WIDTH; j++) {
        largest = fmaxf(largest, fabsf(floats[j]));
    }
    float scale   = largest / 127;
    float inverse = scale > 0 ? 1 / scale : 0;
    store16(to, half_encode(scale));
    for (size_t j = 0; j < Q8_WIDTH; j++) {
        float steps = rintf(floats[j] * inverse);
        steps       = steps <= 127 ? steps : 127; /* also what is not a number, so that the cast below is defined */
        to[2 + j]   = (uint8_t) (int8_t) (steps >= -127 ? steps : -127);
    }
}

void cmif_row_encode(cmif_row_type type, const float *floats, void *bytes, size_t width)
{
    uint8_t *to = bytes;
    switch (type) {
    case CMIF_ROWS_ID:
        break;
    case CMIF_ROWS_F32:
        memcpy(to, floats, width * 4);
        break;
    case CMIF_ROWS_F16:
        for (size_t i = halves_are_fast() ? halves_encode_fast(floats, to, width) : 0; i < width; i++) {
            store16(to + 2 * i, half_encode(floats[i]));
        }
        break;
    case CMIF_ROWS_BF16:
        for (size_t i = 0; i < width; i++) {
            store16(to + 2 * i, brain_encode(floats[i]));
        }
        break;
    case CMIF_ROWS_Q8_0:
        for (size_t i = 0; i < width; i += Q8_WIDTH, to += Q8_SIZE) {
            q8_encode(floats + i, to);
        }
        break;
    }
}

bool cmif_row_is_sane(const float *floats, size_t width, float limit)
{
    bool sane = true;
    for (size_t i = 0; i < width; i++) {
        sane &= fabsf(floats[i]) <= limit; /* false for NaN */
    }
    return sane && isfinite(limit);
}
