#include "dp/draw.h"

#include "secret/secret.h"

#include <string.h>

enum { BATCH = 512 };

/* Compiled once for each instruction set below, with -O3: the compiler makes vectors of these loops, and no branch in
 * them depends on what is compared. AVX-512 was no faster than AVX2 on rows of 20 to 100. */
#define INLINE static inline __attribute__((always_inline))

/* Rows lie at any multiple of 4 bytes, and a vector that crosses a cache line takes longer. So a row is read as whole
 * groups of 32 bytes, always the same number of them, and lanes outside of it do not count. A section of a table begins
 * at a multiple of 64 bytes and is padded to one: what is read lies in it. */
typedef struct window {
    size_t   start; /* first element that is read: a multiple of a group */
    uint32_t lanes; /* elements that are read */
    uint32_t skip;  /* the row begins so many lanes after start */
} window;

INLINE window window_of(size_t at, uint32_t count, size_t total, uint32_t group)
{
    const size_t padded = (total + group - 1) & ~(size_t) (group - 1);
    const size_t wanted = (count + 2 * (size_t) group - 2) & ~(size_t) (group - 1);
    const size_t lanes  = wanted < padded ? wanted : padded;
    const size_t before = at & ~(size_t) (group - 1);
    const size_t start  = before < padded - lanes ? before : padded - lanes;
    return (window){start, (uint32_t) lanes, (uint32_t) (at - start)};
}

/* How many thresholds of a row are below u; all are read, whatever u is. */
INLINE uint32_t below32(const cmif_table *t, uint32_t row, uint32_t u)
{
    const window    w      = window_of((size_t) row * t->stride, t->stride, (size_t) t->row_count * t->stride, 8);
    const uint32_t *values = (const uint32_t *) t->thresholds + w.start;
    uint32_t        count  = 0;
    for (uint32_t j = 0; j < w.lanes; j++) {
        count += (uint32_t) (values[j] < u) & (uint32_t) (j - w.skip < t->stride);
    }
    return count;
}

INLINE uint32_t below64(const cmif_table *t, uint32_t row, uint64_t u)
{
    const window    w      = window_of((size_t) row * t->stride, t->stride, (size_t) t->row_count * t->stride, 4);
    const uint64_t *values = (const uint64_t *) t->thresholds + w.start;
    uint64_t        count  = 0;
    for (uint64_t j = 0; j < w.lanes; j++) {
        count += (uint64_t) (values[j] < u) & (uint64_t) (j - w.skip < t->stride);
    }
    return (uint32_t) count;
}

INLINE uint32_t below(const cmif_table *t, uint32_t row, uint64_t u)
{
    return t->weight_bits == 32 ? below32(t, row, (uint32_t) u) : below64(t, row, u);
}

/* outputs[at], by reading as much as the largest block has, from `first` on. */
INLINE uint32_t output_at(const cmif_table *t, uint32_t first, uint32_t at)
{
    const window    w      = window_of(first, t->stride + 1, t->output_total, 8);
    const uint32_t *values = t->outputs + w.start;
    uint32_t        value  = 0;
    for (uint32_t j = 0; j < w.lanes; j++) {
        value |= values[j] & (0 - (uint32_t) (j == w.skip + at));
    }
    return value;
}

INLINE void scan(const cmif_table *t, const uint32_t *words, const void *uniform, size_t count, uint32_t *outputs)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t row = cmif_table_row(t, words[i]);
        uint64_t u   = t->weight_bits == 32 ? ((const uint32_t *) uniform)[i] : ((const uint64_t *) uniform)[i];
        outputs[i]   = output_at(t, t->block_at[t->block_of[row]], below(t, row, u));
    }
}

typedef void scan_function(const cmif_table *, const uint32_t *, const void *, size_t, uint32_t *);

static void scan_plain(const cmif_table *t, const uint32_t *words, const void *uniform, size_t count, uint32_t *outputs)
{
    scan(t, words, uniform, count, outputs);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void scan_avx2(const cmif_table *t, const uint32_t *words, const void *uniform,
                                                      size_t count, uint32_t *outputs)
{
    scan(t, words, uniform, count, outputs);
}
#endif

/* NULL: this machine cannot. */
static scan_function *scan_by(cmif_scan_path path)
{
    switch (path) {
    case CMIF_SCAN_PLAIN:
        return scan_plain;
#ifdef __x86_64__
    case CMIF_SCAN_AVX2:
        return __builtin_cpu_supports("avx2") ? scan_avx2 : NULL;
#endif
    default:
        return NULL;
    }
}

bool cmif_dp_scan(cmif_scan_path path, const cmif_table *table, const uint32_t *words, const void *uniform,
                  size_t count, uint32_t *outputs)
{
    scan_function *function = scan_by(path);
    if (function) {
        function(table, words, uniform, count, outputs);
    }
    return function != NULL;
}

uint32_t cmif_dp_pick(const cmif_table *table, uint32_t row, uint64_t u)
{
    return below(table, row, u);
}

cmif_code cmif_dp_draw(const cmif_table *table, cmif_noise *noise, const uint32_t *words, size_t count,
                       uint32_t *outputs, cmif_err *err)
{
    cmif_code      rc       = CMIF_OK;
    scan_function *function = scan_by(CMIF_SCAN_AVX2);
    const bool     wide     = table->weight_bits != 32;
    uint64_t       uniform[BATCH];
    uint32_t       outside = 0;

    function = function ? function : scan_plain;
    for (size_t i = 0; i < count; i++) {
        outside |= words[i] >= table->word_count;
    }
    if (outside) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a word id to be drawn for is not below the table's %u words",
                       table->word_count);
        goto done;
    }
    for (size_t at = 0; at < count; at += BATCH) {
        size_t n = count - at < BATCH ? count - at : BATCH;
        rc       = cmif_noise_take(noise, uniform, n * (wide ? sizeof(uint64_t) : sizeof(uint32_t)), err);
        if (rc != CMIF_OK) {
            goto done;
        }
        for (size_t i = 0; wide && i < n; i++) {
            uniform[i] >>= 1; /* 63 bits */
        }
        function(table, words + at, uniform, n, outputs + at);
    }
done:
    cmif_wipe(uniform, sizeof uniform);
    if (rc != CMIF_OK && count) {
        memset(outputs, 0, count * sizeof *outputs);
    }
    return rc;
}
