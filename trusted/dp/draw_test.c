/* Linked with --wrap=getrandom, for a system that has no random bytes. */
#include "dp/draw.h"

#include "audit_rig.h"
#include "base/check.h"

#include <errno.h>
#include <sys/mman.h>

static bool no_random;
ssize_t     __real_getrandom(void *to, size_t size, unsigned flags);
ssize_t     __wrap_getrandom(void *to, size_t size, unsigned flags);
ssize_t     __wrap_getrandom(void *to, size_t size, unsigned flags)
{
    errno = ENOSYS;
    return no_random ? -1 : __real_getrandom(to, size, flags);
}

/* For choosing rows and words; nothing is drawn with it. */
static uint64_t state = 1;
static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

/* Uneven weights, down to 1, at most 2^20 times apart. */
static void uneven(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    uint64_t left = total;
    (void) row;
    for (uint32_t j = 0; j < size; j++) {
        weights[j] = next() % 4 == 0 ? total >> 40 | 1 : total / size / 2 + next() % (total / size / 4);
        left -= weights[j];
    }
    weights[self] += left;
}

static void boosted(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(5, self, size, total, weights);
}

static uint64_t threshold(const cmif_table *t, uint32_t row, uint32_t j)
{
    size_t at = (size_t) row * t->stride + j;
    return t->weight_bits == 32 ? ((const uint32_t *) t->thresholds)[at] : ((const uint64_t *) t->thresholds)[at];
}

static uint32_t size_of_row(const cmif_table *t, uint32_t row)
{
    return t->block_at[t->block_of[row] + 1] - t->block_at[t->block_of[row]];
}

/* Which output u falls on, by adding weights: shares no line with the scan. */
static uint32_t by_adding(const cmif_table *t, uint32_t row, uint64_t u)
{
    uint64_t sum = 0;
    for (uint32_t j = 0;; j++) {
        sum += cmif_table_weight(t, row, j);
        if (u < sum) {
            return j;
        }
    }
}

static void every_edge_falls_on_its_own_side(void)
{
    for (uint32_t bits = 32; bits <= 63; bits += 31) {
        cmif_table *t    = rig_made_up(200, 20, bits, 32, uneven);
        uint64_t    most = ((uint64_t) 1 << bits) - 1;
        CHECK(t != NULL);
        for (uint32_t row = 0; t && row < t->row_count; row++) {
            uint32_t last = size_of_row(t, row) - 1;
            CHECK(cmif_dp_pick(t, row, 0) == 0 && cmif_dp_pick(t, row, most) == last);
            for (uint32_t j = 0; j < last; j++) {
                CHECK(cmif_dp_pick(t, row, threshold(t, row, j)) == j);
                CHECK(cmif_dp_pick(t, row, threshold(t, row, j) + 1) == j + 1);
            }
        }
        cmif_table_free(t);
    }
}

/* All widths of rows, around those of vectors; blocks that are smaller than the largest, first and last in the table.
 */
static void all_instruction_sets_give_what_adding_weights_gives(void)
{
    enum { COUNT = 2000 };
    uint32_t words[COUNT], outputs[COUNT];
    uint64_t wide[COUNT];
    uint32_t narrow[COUNT];
    unsigned tried[2] = {0};
    for (uint32_t k = 1; k < 70; k += k < 36 ? 1 : 11) {
        for (uint32_t bits = 32; bits <= 63; bits += 31) {
            cmif_table *t = rig_made_up(2 + 3 * k + k / 2, k, bits, 32, uneven);
            CHECK(t != NULL);
            for (size_t i = 0; t && i < COUNT; i++) {
                words[i] = (uint32_t) (next() % t->word_count);
                wide[i]  = next() >> (64 - bits);
                if (t->stride && i % 2) { /* at an edge, or past it */
                    wide[i] = threshold(t, words[i], (uint32_t) (next() % t->stride)) + (i / 2) % 2;
                    wide[i] &= ((uint64_t) 1 << bits) - 1;
                }
                narrow[i] = (uint32_t) wide[i];
            }
            for (unsigned path = 0; t && path < 2; path++) {
                if (!cmif_dp_scan((cmif_scan_path) path, t, words, bits == 32 ? (void *) narrow : wide, COUNT,
                                  outputs)) {
                    continue;
                }
                tried[path]++;
                size_t wrong = 0;
                for (size_t i = 0; i < COUNT; i++) {
                    uint32_t pick = by_adding(t, words[i], wide[i]);
                    wrong += outputs[i] != t->outputs[t->block_at[t->block_of[words[i]]] + pick];
                    wrong += cmif_dp_pick(t, words[i], wide[i]) != pick;
                }
                CHECK(wrong == 0);
            }
            cmif_table_free(t);
        }
    }
    CHECK(tried[CMIF_SCAN_PLAIN]);
    printf("       tables tried: plain %u, AVX2 %u\n", tried[0], tried[1]);
}

/* A copy that is padded to 64 bytes, as sections are, before a page that cannot be read. */
static void *at_a_cliff(const void *from, size_t size)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE), padded = (size + 63) / 64 * 64,
           pages = (padded + page - 1) / page * page;
    uint8_t *at  = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED && mprotect(at + pages, page, PROT_NONE) == 0);
    return memcpy(at + pages - padded, from, size);
}

static void nothing_is_read_outside_of_the_tables_sections(void)
{
    for (uint32_t k = 1; k < 40; k++) {
        for (uint32_t bits = 32; bits <= 63; bits += 31) {
            cmif_table *t = rig_made_up(2 + 2 * k, k, bits, 32, uneven), edge;
            CHECK(t != NULL);
            if (!t) {
                return;
            }
            edge            = *t;
            edge.thresholds = at_a_cliff(t->thresholds, (size_t) t->row_count * t->stride * (bits == 32 ? 4 : 8));
            edge.outputs    = at_a_cliff(t->outputs, (size_t) t->output_total * 4);
            for (uint32_t word = 0; word < t->word_count; word++) {
                uint64_t u      = next() >> (64 - bits);
                uint32_t narrow = (uint32_t) u, plain = 0, vectors = 1;
                CHECK(cmif_dp_scan(CMIF_SCAN_PLAIN, &edge, &word, bits == 32 ? (void *) &narrow : &u, 1, &plain));
                CHECK(!cmif_dp_scan(CMIF_SCAN_AVX2, &edge, &word, bits == 32 ? (void *) &narrow : &u, 1, &vectors) ||
                      vectors == plain);
                CHECK(plain == t->outputs[t->block_at[t->block_of[word]] + by_adding(t, word, u)]);
            }
            cmif_table_free(t); /* the copies stay: they are small */
        }
    }
}

/* A row shared by several words, a block whose rows differ, one output for all: not what rig_blocks makes. */
static void shared_rows_are_drawn_from(void)
{
    static const cmif_str words[] = {{"", 0}, {"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}};
    static const uint32_t prior[] = {1, 1, 1, 1, 1}, row_of[] = {0, 1, 2, 1, 2}, block_of[] = {0, 1, 1};
    static const uint32_t block_at[] = {0, 1, 3}, outputs[] = {4, 2, 3};
    const uint64_t        weights[] = {1ull << 32, 0, 3ull << 30, 1ull << 30, 1ull << 30, 3ull << 30};
    cmif_table           *t         = rig_open(&(cmif_table_draft){
                          .claim = {CMIF_MECHANISM_RNM, CMIF_NOISE_LAPLACE, CMIF_ADJACENT_BLOCK, false, 2, 2, 1, {0}, {0}, {0}},
                          .weight_bits   = 32,
                          .word_count    = 5,
                          .row_count     = 3,
                          .block_count   = 2,
                          .words         = words,
                          .prior         = prior,
                          .row_of        = row_of,
                          .block_of      = block_of,
                          .block_at      = block_at,
                          .outputs       = outputs,
                          .weights       = weights,
                          .weight_stride = 2});
    uint32_t              from[4000], to[4000] = {0}, twos[5] = {0};
    cmif_noise           *noise = NULL;
    CHECK(t && cmif_noise_new(&noise, NULL) == CMIF_OK);
    for (uint32_t i = 0; i < 4000; i++) {
        from[i] = i % 5;
    }
    CHECK(t && cmif_dp_draw(t, noise, from, 4000, to, NULL) == CMIF_OK);
    for (uint32_t i = 0; i < 4000; i++) {
        CHECK(from[i] == 0 ? to[i] == 4 : to[i] == 2 || to[i] == 3);
        twos[from[i]] += to[i] == 2;
    }
    CHECK(twos[0] == 0 && twos[1] > 500 && twos[3] > 500 && twos[2] < 300 && twos[4] < 300); /* of 800; 600 and 200 */
    cmif_noise_free(noise);
    cmif_table_free(t);
}

/* G-test of 10^6 draws from each of a few rows; a good generator fails once in 10^5 runs. */
static void draws_have_the_weights_of_the_row(void)
{
    enum { DRAWS = 1000000 };
    uint32_t   *words = malloc(DRAWS * sizeof *words), *outputs = malloc(DRAWS * sizeof *outputs);
    cmif_noise *noise = NULL;
    CHECK(words && outputs && cmif_noise_new(&noise, NULL) == CMIF_OK);
    for (uint32_t bits = 32; bits <= 63; bits += 31) {
        cmif_table *t = rig_made_up(59, 20, bits, 32, boosted);
        CHECK(t != NULL);
        for (uint32_t word = 1; t && word < 59; word += 19) {
            uint64_t seen[20] = {0};
            uint32_t first    = t->block_at[t->block_of[word]];
            for (size_t i = 0; i < DRAWS; i++) {
                words[i] = word;
            }
            CHECK(cmif_dp_draw(t, noise, words, DRAWS, outputs, NULL) == CMIF_OK);
            for (size_t i = 0; i < DRAWS; i++) {
                uint32_t j = outputs[i] - t->outputs[first];
                CHECK(j < size_of_row(t, word));
                seen[j < 20 ? j : 0]++;
            }
            CHECK(rig_g_test(t, word, seen) > 1e-6);
            seen[1] += 3000; /* of 41,667: the test would see it */
            seen[3] -= 3000;
            CHECK(rig_g_test(t, word, seen) < 1e-9);
        }
        cmif_table_free(t);
    }
    cmif_noise_free(noise);
    free(words);
    free(outputs);
}

/* Two draws after each other, of one word or of two, in one call or in two, know nothing of each other. */
static void every_draw_has_a_uniform_of_its_own(void)
{
    enum { K = 5, ROUNDS = 4000, COUNT = 100 };
    cmif_table *t = rig_made_up(1 + K, K, 32, 32, boosted);
    uint32_t    words[COUNT], outputs[COUNT], before = 1;
    uint64_t    pairs[K][K] = {{0}};
    double      g = 0, left[K] = {0}, right[K] = {0};
    cmif_noise *noise = NULL;
    CHECK(t && cmif_noise_new(&noise, NULL) == CMIF_OK);
    for (int round = 0; t && round < ROUNDS; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            words[i] = 1;
        }
        CHECK(cmif_dp_draw(t, noise, words, COUNT, outputs, NULL) == CMIF_OK);
        for (uint32_t i = 0; i < COUNT; i++) {
            pairs[before - 1][outputs[i] - 1]++;
            left[before - 1]++;
            right[outputs[i] - 1]++;
            before = outputs[i];
        }
    }
    for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) {
            double expected = left[i] * right[j] / (ROUNDS * COUNT);
            g += 2 * (double) pairs[i][j] * log((double) pairs[i][j] / expected);
        }
    }
    CHECK(rig_chi_square_tail(g, (K - 1) * (K - 1)) > 1e-6);
    cmif_noise_free(noise);
    cmif_table_free(t);
}

static void any_number_of_words_is_drawn_for(void)
{
    uint32_t    words[2000], outputs[2001];
    cmif_table *t     = rig_made_up(400, 20, 63, 32, boosted);
    cmif_noise *noise = NULL;
    CHECK(t && cmif_noise_new(&noise, NULL) == CMIF_OK);
    for (size_t count = 0; t && count <= 2000; count += count < 3 || (count > 508 && count < 516) ? 1 : 101) {
        for (size_t i = 0; i < count; i++) {
            words[i] = (uint32_t) (next() % 400);
        }
        memset(outputs, 0xff, sizeof outputs);
        CHECK(cmif_dp_draw(t, noise, words, count, outputs, NULL) == CMIF_OK);
        for (size_t i = 0; i < count; i++) {
            CHECK(outputs[i] < 400 && cmif_table_block(t, outputs[i]) == cmif_table_block(t, words[i]));
        }
        CHECK(outputs[count] == UINT32_MAX);
    }
    CHECK(t && cmif_dp_draw(t, noise, NULL, 0, NULL, NULL) == CMIF_OK);
    cmif_noise_free(noise);
    cmif_table_free(t);
}

static void errors_leave_zeros(void)
{
    enum { COUNT = 2 << 20 }; /* more than one key of the system gives */
    uint32_t   *words = calloc(COUNT, sizeof *words), *outputs = malloc(COUNT * sizeof *outputs);
    cmif_table *t     = rig_made_up(30, 20, 32, 32, boosted);
    cmif_noise *noise = NULL;
    cmif_err    err   = {0};
    CHECK(words && outputs && t && cmif_noise_new(&noise, NULL) == CMIF_OK);
    for (int at = 0; words && outputs && t && at < 3; at++) { /* the first, one in the middle, the last */
        size_t where = at == 0 ? 0 : at == 1 ? 700 : 999;
        for (size_t i = 0; i < 1000; i++) {
            words[i]   = 1 + (uint32_t) i % 29;
            outputs[i] = 77;
        }
        words[where] = 30;
        CHECK(cmif_dp_draw(t, noise, words, 1000, outputs, &err) == CMIF_E_RANGE && strstr(err.text, "30 words"));
        for (size_t i = 0; i < 1000; i++) {
            CHECK(outputs[i] == 0);
        }
        words[where] = UINT32_MAX;
        CHECK(cmif_dp_draw(t, noise, words, 1000, outputs, NULL) == CMIF_E_RANGE);
        words[where] = 1;
    }
    size_t other = 0;
    for (size_t i = 0; words && outputs && i < COUNT; i++) {
        words[i]   = 1;
        outputs[i] = 77;
    }
    no_random = true;
    CHECK(t && cmif_dp_draw(t, noise, words, COUNT, outputs, &err) == CMIF_E_IO);
    no_random = false;
    for (size_t i = 0; outputs && i < COUNT; i++) {
        other += outputs[i] != 0;
    }
    CHECK(other == 0);
    cmif_noise_free(noise);
    cmif_table_free(t);
    free(words);
    free(outputs);
}

int main(void)
{
    RUN(every_edge_falls_on_its_own_side);
    RUN(all_instruction_sets_give_what_adding_weights_gives);
    RUN(nothing_is_read_outside_of_the_tables_sections);
    RUN(shared_rows_are_drawn_from);
    RUN(draws_have_the_weights_of_the_row);
    RUN(every_draw_has_a_uniform_of_its_own);
    RUN(any_number_of_words_is_drawn_for);
    RUN(errors_leave_zeros);
    return check_report();
}
