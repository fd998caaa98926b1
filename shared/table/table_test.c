#define CHECK_MEMORY_ALIGNED
#include "table/table.h"

#include "base/check.h"
#include "base/check_memory.h"
#include "table/layout.h"
#include "table/table_samples.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- a small table ---- */

static const cmif_str words[] = {{"", 0}, {"bad", 3}, {"caf\xc3\xa9", 5}, {"fine", 4}, {"good", 4}, {"the", 3}};
static const uint32_t prior[] = {9, 100, 3, 20, 50, UINT32_MAX};
static const uint64_t HALF    = 1u << 31;

/* "bad", "fine" and "good" are one block, the others pass. Five rows, because "fine" and "good" share one, or six. */
static const uint32_t row_of[]     = {0, 1, 2, 3, 3, 4};
static const uint32_t blocks_of5[] = {0, 1, 2, 1, 3}, blocks_of6[] = {0, 1, 2, 1, 1, 3};
static const uint32_t block_at[] = {0, 1, 4, 5, 6}, outputs[] = {0, 1, 3, 4, 2, 5};

static uint64_t weights[6][4];

static cmif_table_draft small(bool shared, uint32_t bits)
{
    const uint64_t unit = ((uint64_t) 1 << bits) / 8;
    for (size_t r = 0; r < 6; r++) {
        memcpy(weights[r], (uint64_t[]){8 * unit, 77, 77, 77}, sizeof weights[r]); /* 77: "then anything" */
    }
    memcpy(weights[1], (uint64_t[]){4 * unit, 2 * unit, 2 * unit, 77}, sizeof weights[1]);
    memcpy(weights[3], (uint64_t[]){2 * unit, 3 * unit, 3 * unit, 77}, sizeof weights[3]);
    if (!shared) {
        memcpy(weights[4], (uint64_t[]){3 * unit, 2 * unit, 3 * unit, 77}, sizeof weights[4]);
    }
    return (cmif_table_draft){
        .claim         = {.mechanism    = CMIF_MECHANISM_RNM,
                          .noise        = CMIF_NOISE_LAPLACE,
                          .adjacency    = CMIF_ADJACENT_BLOCK,
                          .calibrated   = true,
                          .k            = 3,
                          .epsilon_num  = 7,
                          .epsilon_den  = 10,
                          .lexicon_hash = {1, 2},
                          .vectors_hash = {3, 4},
                          .recipe_hash  = {5, 6}},
        .weight_bits   = bits,
        .word_count    = 6,
        .row_count     = shared ? 5 : 6,
        .block_count   = 4,
        .words         = words,
        .prior         = prior,
        .row_of        = shared ? row_of : NULL,
        .block_of      = shared ? blocks_of5 : blocks_of6,
        .block_at      = block_at,
        .outputs       = outputs,
        .weights       = &weights[0][0],
        .weight_stride = 4,
    };
}

static char folder[64], path[128];

static size_t files_in_folder(void)
{
    size_t count = 0;
    DIR   *list  = opendir(folder);
    for (const struct dirent *entry; list && (entry = readdir(list));) {
        count += entry->d_name[0] != '.';
    }
    if (list) {
        closedir(list);
    }
    return count;
}

/* The file of a draft, as bytes. */
static uint8_t *bytes_of(const cmif_table_draft *draft, size_t *size)
{
    cmif_err err = {0};
    if (cmif_table_write(draft, path, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return sample_read(path, size);
}

static cmif_table *const untouched = (cmif_table *) &files_in_folder;

/* The code of opening bytes; a refusal must say why, and leave out as it was. */
static cmif_code opened(const uint8_t *bytes, size_t size, cmif_err *err)
{
    cmif_table *table = untouched;
    cmif_code   rc    = cmif_table_open_memory(bytes, size, &table, NULL, err);
    if (rc == CMIF_OK) {
        cmif_table_free(table);
    } else {
        CHECK(table == untouched && err->text[0] && err->code == rc);
    }
    return rc;
}

static bool refused(const uint8_t *bytes, size_t size, cmif_code code, const char *why)
{
    cmif_err  err = {0};
    cmif_code rc  = opened(bytes, size, &err);
    if (rc != code || !strstr(err.text, why)) {
        fprintf(stderr, "code %d, expected %d with '%s': %s\n", rc, code, why, err.text);
        return false;
    }
    return true;
}

/* ---- what is written reads back ---- */

static void check_small(bool shared, uint32_t bits)
{
    const cmif_table_draft d     = small(shared, bits);
    cmif_table            *table = NULL;
    cmif_certificate       c;
    cmif_err               err   = {0};
    size_t                 size  = 0;
    uint8_t               *bytes = bytes_of(&d, &size);
    CHECK(cmif_table_open(path, &table, &c, &err) == CMIF_OK);
    if (!table || !bytes) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(false);
        return;
    }
    CHECK(memcmp(&table->claim.lexicon_hash, d.claim.lexicon_hash, 96) == 0);
    CHECK(table->claim.mechanism == d.claim.mechanism && table->claim.noise == d.claim.noise &&
          table->claim.adjacency == d.claim.adjacency && table->claim.calibrated && table->claim.k == 3 &&
          table->claim.epsilon_num == 7 && table->claim.epsilon_den == 10);
    CHECK(table->weight_bits == bits && table->word_count == 6 && table->row_count == d.row_count);
    CHECK(table->block_count == 4 && table->output_total == 6 && table->stride == 2);
    CHECK(memcmp(table->hash, bytes + size - 32, 32) == 0);
    for (uint32_t w = 0; w < 6; w++) {
        const cmif_str word = cmif_table_word(table, w);
        const uint32_t row  = shared ? row_of[w] : w;
        CHECK(word.size == words[w].size && memcmp(word.data, words[w].data, word.size) == 0);
        CHECK(cmif_table_find(table, words[w]) == w && table->prior[w] == prior[w]);
        CHECK(cmif_table_row(table, w) == row && cmif_table_block(table, w) == d.block_of[row]);
        CHECK(cmif_table_passes(table, w) == (w == 0 || w == 2 || w == 5));
        const uint32_t block = d.block_of[row];
        uint64_t       sum   = 0;
        for (uint32_t j = 0; j < block_at[block + 1] - block_at[block]; j++) {
            CHECK(table->outputs[block_at[block] + j] == outputs[block_at[block] + j]);
            CHECK(cmif_table_weight(table, row, j) == weights[row][j]);
            sum += weights[row][j] - 1;
            const size_t at = row * 2u + j;
            CHECK(j == 2 || (bits == 32 ? ((const uint32_t *) table->thresholds)[at]
                                        : ((const uint64_t *) table->thresholds)[at]) == sum);
            sum += 1;
        }
    }
    CHECK(cmif_table_find(table, (cmif_str){"caf", 3}) == CMIF_NO_WORD);
    CHECK(cmif_table_find(table, (cmif_str){"zebra", 5}) == CMIF_NO_WORD);
    CHECK(table->first_word[3] == 3 && table->rows_at[1] == 1 && table->rows_at[2] == (shared ? 3 : 4));
    CHECK(table->rows[1] == 1 && table->rows[2] == 3 && table->words_in[1] == 3 && table->words_in[3] == 1);
    CHECK(c.pure && c.high == 2 * c.low && c.word_high == 1 && c.word_low == 3 && c.output == 1 && c.alone == 3);
    CHECK(c.epsilon_micro == 693148); /* ln 2 = .693147 18... */
    cmif_table_free(table);

    size_t   again_size = 0;
    uint8_t *again      = bytes_of(&d, &again_size);
    CHECK(again && again_size == size && memcmp(again, bytes, size) == 0);
    free(again);
    free(bytes);
}

static void what_is_written_reads_back(void)
{
    for (int i = 0; i < 4; i++) {
        check_small(i & 1, i & 2 ? 63 : 32);
    }
}

static void a_table_is_a_private_copy(void)
{
    const cmif_table_draft d     = small(false, 32);
    cmif_table            *table = NULL;
    size_t                 size  = 0;
    uint8_t               *bytes = bytes_of(&d, &size);
    CHECK(cmif_table_open(path, &table, NULL, NULL) == CMIF_OK);
    FILE *file = fopen(path, "r+b");
    for (size_t i = 0; file && i < size; i++) {
        fputc(0, file);
    }
    if (file) {
        fclose(file);
    }
    CHECK(table && cmif_table_weight(table, 1, 0) == HALF && cmif_table_find(table, words[5]) == 5);
    cmif_table_free(table);
    free(bytes);
}

/* ---- bad bytes ---- */

static void a_flipped_bit_is_refused(void)
{
    for (int i = 0; i < 4; i++) {
        const cmif_table_draft d     = small(i & 1, i & 2 ? 63 : 32);
        size_t                 size  = 0;
        uint8_t               *bytes = bytes_of(&d, &size);
        CHECK(opened(bytes, size, &(cmif_err){0}) == CMIF_OK);
        for (size_t at = 0; at < size; at++) {
            for (uint8_t bit = 1; bit; bit = (uint8_t) (bit << 1)) {
                bytes[at] ^= bit;
                CHECK(opened(bytes, size, &(cmif_err){0}) != CMIF_OK);
                bytes[at] ^= bit;
            }
        }
        free(bytes);
    }
}

static void cut_off_or_longer_is_refused(void)
{
    for (int i = 0; i < 4; i++) {
        const cmif_table_draft d     = small(i & 1, i & 2 ? 63 : 32);
        size_t                 size  = 0;
        uint8_t               *bytes = bytes_of(&d, &size);
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *exact =
                aligned_alloc(64, (size_t) table_padded(cut + 1)); /* so that a sanitizer sees reads beyond */
            cmif_err err = {0};
            memcpy(exact, bytes, cut);
            CHECK(opened(exact, cut, &err) == CMIF_E_FORMAT);
            free(exact);
            cmif_table *table = untouched;
            CHECK(truncate(path, (off_t) (size - 1 - cut)) == 0);
            CHECK(cmif_table_open(path, &table, NULL, &err) == CMIF_E_FORMAT && table == untouched);
        }
        uint8_t *longer = aligned_alloc(64, (size_t) table_padded(size + 64));
        memset(longer, 0, size + 64);
        memcpy(longer, bytes, size);
        CHECK(refused(longer, size + 1, CMIF_E_FORMAT, "bytes long"));
        CHECK(refused(longer, size + 64, CMIF_E_FORMAT, "bytes long"));
        free(longer);
        free(bytes);
    }
}

typedef struct lie { /* one wrong field; the hash is made to fit */
    size_t      at;
    uint64_t    value;
    size_t      width;
    cmif_code   code;
    const char *why;
} lie;

static void check_lies(const cmif_table_draft *d, const lie *lies, size_t count)
{
    size_t   size  = 0;
    uint8_t *bytes = bytes_of(d, &size), *changed = aligned_alloc(64, (size_t) table_padded(size));
    for (size_t i = 0; i < count; i++) {
        memcpy(changed, bytes, size);
        CHECK(sample_get(changed, lies[i].at, lies[i].width) != lies[i].value);
        sample_put(changed, lies[i].at, lies[i].value, lies[i].width);
        sample_seal(changed, size);
        if (!refused(changed, size, lies[i].code, lies[i].why)) {
            fprintf(stderr, "  lie %zu\n", i);
            CHECK(false);
        }
    }
    free(changed);
    free(bytes);
}

static table_layout layout_of(const cmif_table_draft *d)
{
    const cmif_table head = {.weight_bits  = d->weight_bits,
                             .word_count   = d->word_count,
                             .row_count    = d->row_count,
                             .block_count  = d->block_count,
                             .output_total = 6,
                             .stride       = 2};
    return table_lay_out(&head, 19, d->row_of != NULL);
}

static void bad_headers_are_refused(void)
{
    const cmif_table_draft d      = small(false, 32);
    const lie              lies[] = {
                     {0, 'X', 1, CMIF_E_FORMAT, "not a channel"},
                     {AT_VERSION, 2, 2, CMIF_E_FORMAT, "version 2"},
                     {AT_MECHANISM, 0, 4, CMIF_E_FORMAT, "mechanism 0"},
                     {AT_MECHANISM, 12, 4, CMIF_E_FORMAT, "mechanism 12"},
                     {AT_MECHANISM, UINT32_MAX, 4, CMIF_E_FORMAT, "mechanism 4294967295"},
                     {AT_NOISE, 4, 4, CMIF_E_FORMAT, "noise 4"},
                     {AT_ADJACENCY, 3, 4, CMIF_E_FORMAT, "adjacency 3"},
                     {AT_CALIBRATED, 2, 4, CMIF_E_FORMAT, "flag"},
                     {AT_K, 0, 4, CMIF_E_FORMAT, "K is 0"},
                     {AT_K, CMIF_TABLE_WORDS_MAX + 1, 4, CMIF_E_FORMAT, "K is 1048577"},
                     {AT_WEIGHT_BITS, 0, 4, CMIF_E_FORMAT, "0 bits"},
                     {AT_WEIGHT_BITS, 64, 4, CMIF_E_FORMAT, "64 bits"},
                     {AT_WEIGHT_BITS, 63, 4, CMIF_E_FORMAT, "counts make"},
                     {AT_EPSILON_DEN, 0, 8, CMIF_E_FORMAT, "7/0"},
                     {AT_EPSILON_DEN, 1000001, 8, CMIF_E_FORMAT, "7/1000001"},
                     {AT_EPSILON_DEN, 14, 8, CMIF_E_FORMAT, "lowest terms"},
                     {AT_EPSILON_NUM, 0, 8, CMIF_E_FORMAT, "lowest terms"},
                     {AT_EPSILON_NUM, 321, 8, CMIF_E_FORMAT, "at most 32"},
                     {AT_EPSILON_NUM, UINT64_MAX, 8, CMIF_E_FORMAT, "at most 32"},
                     {AT_WORD_COUNT, 0, 4, CMIF_E_FORMAT, "0 words"},
                     {AT_WORD_COUNT, 1000000000, 4, CMIF_E_FORMAT, "1000000000 words"},
                     {AT_WORD_COUNT, UINT32_MAX, 4, CMIF_E_FORMAT, "4294967295 words"},
                     {AT_ROW_COUNT, 0, 4, CMIF_E_FORMAT, "0 rows"},
                     {AT_ROW_COUNT, 7, 4, CMIF_E_FORMAT, "7 rows, a table has 1 to 6"},
                     {AT_BLOCK_COUNT, 0, 4, CMIF_E_FORMAT, "0 blocks"},
                     {AT_BLOCK_COUNT, 7, 4, CMIF_E_FORMAT, "7 blocks"},
                     {AT_OUTPUT_TOTAL, 3, 4, CMIF_E_FORMAT, "3 outputs"},
                     {AT_OUTPUT_TOTAL, UINT32_MAX, 4, CMIF_E_FORMAT, "4294967295 outputs"},
                     {AT_STRIDE, 65536, 4, CMIF_E_FORMAT, "65536 thresholds"},
                     {AT_TEXT_SIZE, 4, 4, CMIF_E_FORMAT, "4 bytes of text"},
                     {AT_TEXT_SIZE, 321, 4, CMIF_E_FORMAT, "321 bytes of text"},
                     {AT_ROWS_SHARED, 2, 4, CMIF_E_FORMAT, "flag"},
                     {AT_RESERVED, 1, 4, CMIF_E_FORMAT, "reserved"},
                     {AT_ZEROS, 1, 1, CMIF_E_FORMAT, "reserved"},
                     {TABLE_HEADER_SIZE - 1, 1, 1, CMIF_E_FORMAT, "reserved"},
                     {AT_FILE_SIZE, 1, 8, CMIF_E_FORMAT, "1 bytes long, its counts make"},
                     {AT_EPSILON_NUM, 6, 8, CMIF_E_FORMAT, "lowest terms"},
                     {AT_EPSILON_NUM, 3, 8, CMIF_E_TRUST, "3/10 (0.300000), its exact loss is 0.693148"},
                     {AT_ADJACENCY, CMIF_ADJACENT_ANY, 4, CMIF_E_TRUST,
                      "no epsilon holds: word 0 gives output 0 with weight 4294967296, word 1 never does; delta is 4294967296 of "
                                   "2^32"},
    };
    check_lies(&d, lies, sizeof lies / sizeof *lies);
    cmif_table large = {.weight_bits  = 63,
                        .word_count   = 4096,
                        .row_count    = 4096,
                        .block_count  = 1,
                        .output_total = 4096,
                        .stride       = 65535};
    cmif_err   err   = {0};
    CHECK(table_check_counts(&large, 4095, false, &err) == CMIF_E_FORMAT && strstr(err.text, "at most 1073741824"));
}

static void bad_sections_are_refused(void)
{
    const cmif_table_draft d      = small(false, 32);
    const table_layout     l      = layout_of(&d);
    const lie              lies[] = {
                     {l.sizes, 1, 1, CMIF_E_FORMAT, "word 0 has 1 bytes"},
                     {l.sizes + 1, 0, 1, CMIF_E_FORMAT, "word 1 has 0 bytes"},
                     {l.sizes + 1, 65, 1, CMIF_E_FORMAT, "word 1 has 65 bytes"},
                     {l.sizes + 1, 4, 1, CMIF_E_FORMAT, "20 bytes long, the text has 19"},
                     {l.sizes + 6, 1, 1, CMIF_E_FORMAT, "padding"},
                     {l.text, 0, 1, CMIF_E_FORMAT, "U+0000"},
                     {l.text, ' ', 1, CMIF_E_FORMAT, "word 1 has the character U+0020"},
                     {l.text, '\n', 1, CMIF_E_FORMAT, "U+000A"},
                     {l.text, 'B', 1, CMIF_E_FORMAT, "U+0042"},
                     {l.text, 0x7f, 1, CMIF_E_FORMAT, "U+007F"},
                     {l.text, 0xff, 1, CMIF_E_FORMAT, "word 1 is not UTF-8"},
                     {l.text, 0xc3, 1, CMIF_E_FORMAT, "word 1 is not UTF-8"},
                     {l.text, 0x80c0, 2, CMIF_E_FORMAT, "not UTF-8"},   /* NUL in two bytes */
                     {l.text, 0x80a0ed, 3, CMIF_E_FORMAT, "not UTF-8"}, /* a surrogate */
                     {l.text, 0x8080e0, 3, CMIF_E_FORMAT, "not UTF-8"}, /* too long a form */
                     {l.text, 0x8080e3, 3, CMIF_E_FORMAT, "U+3000"},
                     {l.text, 0xa0c2, 2, CMIF_E_FORMAT, "U+00A0"},
                     {l.text + 6, 0xe2, 1, CMIF_E_FORMAT, "word 2 is not UTF-8"}, /* would end in the next word */
                     {l.text + 8, 'a', 1, CMIF_E_FORMAT, "word 3 is not behind word 2"},
                     {l.text + 8, 0x646f6f67, 4, CMIF_E_FORMAT, "word 4 is not behind word 3"}, /* "good" twice */
                     {l.text + 19, 1, 1, CMIF_E_FORMAT, "padding"},
                     {l.prior + 8, 0, 4, CMIF_E_FORMAT, "word 2 has a prior of 0"},
                     {l.prior + 24, 1, 4, CMIF_E_FORMAT, "padding"},
                     {l.block_of, 1, 4, CMIF_E_FORMAT, "row 0 has block 1"},
                     {l.block_of + 8, 3, 4, CMIF_E_FORMAT, "row 2 has block 3"},
                     {l.block_of + 20, 4, 4, CMIF_E_FORMAT, "row 5 has block 4"},
                     {l.block_of + 20, 2, 4, CMIF_E_FORMAT, "1 of 4 blocks are used by no row"},
                     {l.block_of + 24, 1, 4, CMIF_E_FORMAT, "padding"},
                     {l.block_at, 1, 4, CMIF_E_FORMAT, "outputs go from 1 to 6"},
                     {l.block_at + 4, 0, 4, CMIF_E_FORMAT, "block 0 has outputs 0 to 0"},
                     {l.block_at + 4, 7, 4, CMIF_E_FORMAT, "block 0 has outputs 0 to 7"},
                     {l.block_at + 4, 2, 4, CMIF_E_FORMAT, "rows have 2 thresholds, the largest block needs 1"},
                     {l.block_at + 16, 5, 4, CMIF_E_FORMAT, "outputs go from 0 to 5"},
                     {l.block_at + 20, 1, 4, CMIF_E_FORMAT, "padding"},
                     {l.outputs, 6, 4, CMIF_E_FORMAT, "block 0 has the output 6; words go from 0 to 5"},
                     {l.outputs + 8, 1, 4, CMIF_E_FORMAT, "block 1 has output 1 after 1"},
                     {l.outputs + 8, 0, 4, CMIF_E_FORMAT, "block 1 has output 0 after 1"},
                     {l.outputs + 24, 1, 4, CMIF_E_FORMAT, "padding"},
                     {l.thresholds, UINT32_MAX - 1, 4, CMIF_E_FORMAT,
                      "row 0: its 1 weights sum to 4294967295, they must sum to 4294967296"},
                     {l.thresholds + 12, HALF - 1, 4, CMIF_E_FORMAT, "row 1: threshold 1 is 2147483647"},
                     {l.thresholds + 12, UINT32_MAX, 4, CMIF_E_FORMAT, "row 1: threshold 1 is 4294967295"},
                     {l.thresholds + 48, 1, 1, CMIF_E_FORMAT, "padding"},
                     {l.thresholds + 8, 0, 4, CMIF_E_TRUST, "weight 1610612736 from word 4 and 1 from word 1"},
    };
    check_lies(&d, lies, sizeof lies / sizeof *lies);

    const cmif_table_draft s         = small(true, 63);
    const table_layout     m         = layout_of(&s);
    const lie              of_rows[] = {
                     {m.row_of, 1, 4, CMIF_E_FORMAT, "word 0 has row 1"},
                     {m.row_of + 16, 5, 4, CMIF_E_FORMAT, "word 4 has row 5"},
                     {m.row_of + 20, 3, 4, CMIF_E_FORMAT, "1 of 5 rows are used by no word"},
                     {m.row_of + 24, 1, 4, CMIF_E_FORMAT, "padding"},
                     {m.thresholds, INT64_MAX - 1, 8, CMIF_E_FORMAT,
                      "row 0: its 1 weights sum to 9223372036854775807, they must sum to 9223372036854775808"},
                     {m.thresholds + 8, UINT64_MAX, 8, CMIF_E_FORMAT, "row 0: its 2 weights"},
                     {m.thresholds + 24, (uint64_t) 1 << 63, 8, CMIF_E_FORMAT, "row 1: threshold 1 is 9223372036854775808"},
    };
    check_lies(&s, of_rows, sizeof of_rows / sizeof *of_rows);
}

/* One encoding for one table: a list that gives each word its own row is left out, so it is refused. */
static void a_row_list_that_says_nothing_is_refused(void)
{
    const cmif_table_draft d     = small(false, 32);
    const table_layout     l     = layout_of(&d);
    size_t                 size  = 0;
    uint8_t               *bytes = bytes_of(&d, &size), *more = aligned_alloc(64, (size_t) table_padded(size + 64));
    memcpy(more, bytes, l.row_of);
    memset(more + l.row_of, 0, 64);
    memcpy(more + l.row_of, (uint32_t[]){0, 1, 2, 3, 4, 5}, 24);
    memcpy(more + l.row_of + 64, bytes + l.row_of, size - l.row_of);
    sample_put(more, AT_ROWS_SHARED, 1, 4);
    sample_put(more, AT_FILE_SIZE, size + 64, 8);
    sample_seal(more, size + 64);
    CHECK(refused(more, size + 64, CMIF_E_FORMAT, "no row of 6 is shared"));
    free(more);

    cmif_table_draft said  = d;
    size_t           again = 0;
    said.row_of            = (uint32_t[]){0, 1, 2, 3, 4, 5};
    uint8_t *same          = bytes_of(&said, &again);
    CHECK(again == size && memcmp(same, bytes, size) == 0);
    free(same);
    free(bytes);
}

static void bytes_out_of_line_are_refused(void)
{
    const cmif_table_draft d     = small(false, 32);
    size_t                 size  = 0;
    uint8_t               *bytes = bytes_of(&d, &size), *moved = aligned_alloc(64, (size_t) table_padded(size + 64));
    memcpy(moved + 8, bytes, size);
    CHECK(refused(moved + 8, size, CMIF_E_RANGE, "multiple of 64"));
    free(moved);
    free(bytes);
}

/* ---- bad drafts ---- */

static void check_draft(const cmif_table_draft *draft, cmif_code code, const char *why)
{
    cmif_err err = {0};
    unlink(path);
    const size_t before = files_in_folder();
    cmif_code    rc     = cmif_table_write(draft, path, &err);
    if (rc != code || !strstr(err.text, why)) {
        fprintf(stderr, "code %d, expected %d with '%s': %s\n", rc, code, why, err.text);
        CHECK(false);
    }
    CHECK(files_in_folder() == before && strstr(err.text, path));
}

static void bad_drafts_are_refused_and_nothing_is_written(void)
{
    cmif_table_draft d = small(false, 32);
    d.word_count       = 0;
    check_draft(&d, CMIF_E_FORMAT, "0 words");
    d.word_count = 1000000000;
    check_draft(&d, CMIF_E_FORMAT, "1000000000 words");
    d           = small(false, 32);
    d.row_count = 5;
    check_draft(&d, CMIF_E_FORMAT, "5 rows for 6 words");
    d.row_count = 7;
    check_draft(&d, CMIF_E_FORMAT, "7 rows");
    d             = small(false, 32);
    d.block_count = 0;
    check_draft(&d, CMIF_E_FORMAT, "0 blocks");
    d             = small(false, 32);
    d.weight_bits = 31;
    check_draft(&d, CMIF_E_FORMAT, "31 bits");

    d = small(false, 32);
    weights[4][1]++;
    check_draft(&d, CMIF_E_FORMAT, "row 4: its 3 weights sum to 4294967297, they must sum to 4294967296");
    weights[4][1] -= 2;
    check_draft(&d, CMIF_E_FORMAT, "row 4: its 3 weights sum to 4294967295, they must sum to 4294967296");
    d = small(false, 63);
    weights[3][0] -= 1;
    check_draft(&d, CMIF_E_FORMAT, "row 3: its 3 weights sum to 9223372036854775807");
    d = small(false, 32);
    weights[1][2] += weights[1][1];
    weights[1][1] = 0;
    check_draft(&d, CMIF_E_FORMAT, "row 1: weight 1 is 0");
    d             = small(false, 63);
    weights[1][1] = UINT64_MAX; /* the sum would wrap */
    check_draft(&d, CMIF_E_FORMAT, "row 1: its 3 weights sum to 18446744073709551615");

    d               = small(false, 32);
    d.weight_stride = 2;
    check_draft(&d, CMIF_E_FORMAT, "the largest block has 3 outputs, rows of weights have 2");
    d          = small(false, 32);
    d.block_of = (uint32_t[]){0, 1, 2, 1, 4, 3};
    check_draft(&d, CMIF_E_FORMAT, "row 4 is of block 4; there are 4");
    d.block_of = (uint32_t[]){0, 2, 1, 2, 2, 3};
    check_draft(&d, CMIF_E_FORMAT, "row "); /* blocks are numbered by their first rows */
    d          = small(false, 32);
    d.block_at = (uint32_t[]){0, 1, 1, 5, 6};
    check_draft(&d, CMIF_E_FORMAT, "block 1 has outputs 1 to 1");
    d.block_at = (uint32_t[]){0, 4, 1, 5, 6};
    check_draft(&d, CMIF_E_FORMAT, "block 1 has outputs 4 to 1");
    d         = small(false, 32);
    d.outputs = (uint32_t[]){0, 1, 3, 6, 2, 5};
    check_draft(&d, CMIF_E_FORMAT, "block 1 has the output 6; words go from 0 to 5");
    d       = small(false, 32);
    d.prior = (uint32_t[]){9, 0, 3, 20, 50, 7};
    check_draft(&d, CMIF_E_FORMAT, "word 1 has a prior of 0");

    cmif_str other[6];
    memcpy(other, words, sizeof other);
    d        = small(false, 32);
    d.words  = other;
    other[4] = other[3];
    check_draft(&d, CMIF_E_FORMAT, "word 4 is not behind word 3");
    other[4] = (cmif_str){"a b", 3};
    check_draft(&d, CMIF_E_FORMAT, "U+0020");
    other[4] = (cmif_str){"0123456789012345678901234567890123456789012345678901234567890123456", 65};
    check_draft(&d, CMIF_E_FORMAT, "word 4 has 65 bytes");

    d                   = small(false, 32);
    d.claim.epsilon_num = 69;
    d.claim.epsilon_den = 100;
    check_draft(&d, CMIF_E_TRUST,
                "claims epsilon 69/100 (0.690000), its exact loss is 0.693148: output 1 has weight "
                "2147483648 from word 1 and 1073741824 from word 3");
    d.claim.epsilon_den = 0;
    check_draft(&d, CMIF_E_FORMAT, "69/0");
    d         = small(false, 32);
    d.claim.k = 0;
    check_draft(&d, CMIF_E_FORMAT, "K is 0");
    d.claim.mechanism = CMIF_MECHANISM_METRIC;
    d.claim.k         = 0;
    CHECK(cmif_table_write(&d, path, NULL) == CMIF_OK);
}

/* An error must leave the file that had the name before. */
static void a_full_disk_leaves_what_was_there(void)
{
    cmif_table_draft d    = small(false, 32);
    size_t           size = 0, after = 0;
    uint8_t         *before = bytes_of(&d, &size);
    struct rlimit    limit, small_limit;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small_limit          = limit;
    small_limit.rlim_cur = size - 1;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &small_limit) == 0);
    cmif_err err        = {0};
    d.claim.epsilon_num = 4;
    d.claim.epsilon_den = 5;
    CHECK(cmif_table_write(&d, path, &err) == CMIF_E_IO && strstr(err.text, path));
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    uint8_t *kept = sample_read(path, &after);
    CHECK(after == size && memcmp(before, kept, size) == 0 && files_in_folder() == 1);
    free(kept);
    free(before);

    CHECK(cmif_table_write(&d, "/proc/no-such-folder/x.cmifch", &err) == CMIF_E_IO);
    cmif_table *table = untouched;
    CHECK(cmif_table_open("/proc/no-such-folder/x.cmifch", &table, NULL, &err) == CMIF_E_IO && table == untouched);
    CHECK(cmif_table_open(folder, &table, NULL, &err) == CMIF_E_IO && table == untouched);
}

static void an_allocation_that_fails_is_an_error(void)
{
    const cmif_table_draft d = small(true, 32);
    for (int pass = 0; pass < 3; pass++) { /* writing, opening, composing */
        bool ended = false;
        for (long n = 0; n < 20 && !ended; n++) {
            cmif_table *table   = untouched;
            double      epsilon = -1;
            cmif_code   rc;
            cmif_err    err = {0};
            if (pass != 1) {
                unlink(path);
            }
            if (pass == 2) {
                CHECK(cmif_table_write(&d, path, NULL) == CMIF_OK &&
                      cmif_table_open(path, &table, NULL, NULL) == CMIF_OK);
            }
            allocations_left = n;
            if (pass == 0) {
                rc = cmif_table_write(&d, path, &err);
            } else if (pass == 1) {
                rc = cmif_table_open(path, &table, NULL, &err);
            } else {
                rc = cmif_table_compose(table, 10, 1e-6, &epsilon, &err);
            }
            ended            = allocations_left >= 0; /* there were fewer allocations than n */
            allocations_left = -1;
            CHECK(ended ? rc == CMIF_OK : rc == CMIF_E_MEMORY && err.code == rc);
            CHECK(pass != 0 || files_in_folder() == (ended ? 1 : 0));
            CHECK(pass != 1 || ended || table == untouched);
            CHECK(pass != 2 || (epsilon < 0) != ended);
            if (table != untouched) {
                cmif_table_free(table);
            }
            CHECK(n > 0 || !ended);
        }
        CHECK(ended);
    }
    cmif_table_free(NULL);
}

/* ---- large ones ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double) now.tv_sec + (double) now.tv_nsec * 1e-9;
}

/* count words of 8 letters in blocks of k that follow each other, word 0 with them; random weights within [1, 2) of
 * each other. */
static void write_large(uint32_t count, uint32_t k, uint32_t bits)
{
    const uint32_t blocks = count / k;
    char          *text   = calloc(count, 9);
    cmif_str      *names  = calloc(count, sizeof *names);
    uint32_t      *ones = calloc(count, 4), *block_of = calloc(count, 4), *at = calloc(blocks + 1, 4);
    uint32_t      *out = calloc(count, 4);
    uint64_t      *w   = calloc((size_t) count * k, sizeof *w);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(&text[9 * (size_t) i], 9, "w%07u", i % 10000000);
        names[i]      = (cmif_str){&text[9 * (size_t) i], i ? 8 : 0};
        ones[i]       = 1;
        block_of[i]   = i / k;
        out[i]        = i;
        at[i / k + 1] = i + 1;
        uint64_t left = (uint64_t) 1 << bits;
        for (uint32_t j = 0; j + 1 < k; j++) {
            const uint64_t fair   = left / (k - j);
            w[(size_t) i * k + j] = fair - fair / 1000 * sample_below(100);
            left -= w[(size_t) i * k + j];
        }
        w[(size_t) i * k + k - 1] = left;
    }
    const cmif_table_draft d = {
        .claim         = {.mechanism   = CMIF_MECHANISM_RNM,
                          .adjacency   = CMIF_ADJACENT_BLOCK,
                          .k           = k,
                          .epsilon_num = 30,
                          .epsilon_den = 1},
        .weight_bits   = bits,
        .word_count    = count,
        .row_count     = count,
        .block_count   = blocks,
        .words         = names,
        .prior         = ones,
        .block_of      = block_of,
        .block_at      = at,
        .outputs       = out,
        .weights       = w,
        .weight_stride = k,
    };
    cmif_err err = {0};
    if (cmif_table_write(&d, path, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(false);
    }
    free(text);
    free(names);
    free(ones);
    free(block_of);
    free(at);
    free(out);
    free(w);
}

static void large_tables_are_small_and_quick(void)
{
    struct stat about = {0};
    write_large(40000, 20, 32);
    CHECK(stat(path, &about) == 0 && about.st_size <= 4000000);
    printf("       40,000 words x 20: %lld bytes\n", (long long) about.st_size);

    write_large(60000, 100, 32);
    cmif_table      *table = NULL;
    cmif_certificate c;
    double           epsilon, begin = seconds();
    CHECK(cmif_table_open(path, &table, NULL, NULL) == CMIF_OK);
    printf("       60,000 words x 100: opened in %.3f s", seconds() - begin);
    begin = seconds();
    cmif_table_certify(table, CMIF_ADJACENT_BLOCK, &c);
    printf(", of that certified in %.3f s", seconds() - begin);
    begin = seconds();
    CHECK(cmif_table_compose(table, 100, 1e-6, &epsilon, NULL) == CMIF_OK);
    printf(", 100 draws composed in %.3f s: certified %.6f each, %.3f together\n", seconds() - begin,
           (double) c.epsilon_micro * 1e-6, epsilon);
    cmif_table_free(table);
}

static void names_are_known(void)
{
    CHECK(strcmp(cmif_mechanism_name(CMIF_MECHANISM_RNM), "rnm") == 0);
    CHECK(strcmp(cmif_mechanism_name(CMIF_MECHANISM_CUSTEXT_PLUS), "custext+") == 0);
    CHECK(strcmp(cmif_mechanism_name(CMIF_MECHANISM_SANTEXT_PLUS), "santext+") == 0);
    CHECK(!cmif_mechanism_name((cmif_mechanism) 0) && !cmif_mechanism_name((cmif_mechanism) 12));
    CHECK(strcmp(cmif_noise_name(CMIF_NOISE_GUMBEL), "gumbel") == 0 && !cmif_noise_name((cmif_noise_kind) 4));
    CHECK(strstr(cmif_adjacency_sentence(CMIF_ADJACENT_BLOCK), "one block"));
    CHECK(strstr(cmif_adjacency_sentence(CMIF_ADJACENT_ANY), "of the table"));
    CHECK(strstr(cmif_adjacency_sentence(CMIF_ADJACENT_NONE), "nothing is guaranteed"));
    CHECK(!cmif_adjacency_sentence((cmif_adjacency) 3));
}

/* What opens, written from what it holds, gives the same bytes: for random tables and for random changes of them. */
static cmif_code write_again(const cmif_table *t, const char *to)
{
    cmif_str  names[SAMPLE_WORDS];
    uint64_t *w = calloc((size_t) t->row_count * (t->stride + 1), sizeof *w);
    for (uint32_t i = 0; i < t->word_count; i++) {
        names[i] = cmif_table_word(t, i);
    }
    for (uint32_t r = 0; w && r < t->row_count; r++) {
        for (uint32_t j = 0; j < t->block_at[t->block_of[r] + 1] - t->block_at[t->block_of[r]]; j++) {
            w[(size_t) r * (t->stride + 1) + j] = cmif_table_weight(t, r, j);
        }
    }
    const cmif_table_draft d  = {t->claim,     t->weight_bits, t->word_count, t->row_count, t->block_count, names,
                                 t->prior,     t->row_of,      t->block_of,   t->block_at,  t->outputs,     w,
                                 t->stride + 1};
    cmif_code              rc = cmif_table_write(&d, to, NULL);
    free(w);
    return rc;
}

static void there_is_one_encoding(void)
{
    static sample s;
    char          other[144];
    int           changed = 0;
    snprintf(other, sizeof other, "%s.again", path);
    for (int i = 0; i < 300; i++) {
        sample_make(&s, i % 3 == 0);
        size_t   size = 0, again_size = 0;
        uint8_t *bytes = bytes_of(&s.draft, &size);
        for (int change = 0; change < 30; change++) {
            uint8_t *now = aligned_alloc(64, (size_t) table_padded(size));
            memcpy(now, bytes, size);
            if (change) {
                now[sample_below((uint32_t) size)] = (uint8_t) sample_random();
                sample_seal(now, size);
            }
            cmif_table *table = NULL;
            if (cmif_table_open_memory(now, size, &table, NULL, NULL) == CMIF_OK) {
                changed += memcmp(now, bytes, size) != 0;
                CHECK(write_again(table, other) == CMIF_OK);
                uint8_t *again = sample_read(other, &again_size);
                CHECK(again_size == size && memcmp(again, now, size) == 0);
                free(again);
                cmif_table_free(table);
            } else {
                CHECK(change);
            }
            free(now);
        }
        free(bytes);
    }
    CHECK(changed > 1000);
    unlink(other);
}

int main(void)
{
    snprintf(folder, sizeof folder, "%s/cmif-table-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) {
        return check_skip("no folder for temporary files");
    }
    snprintf(path, sizeof path, "%s/t.cmifch", folder);
    RUN(what_is_written_reads_back);
    RUN(a_table_is_a_private_copy);
    RUN(a_flipped_bit_is_refused);
    RUN(cut_off_or_longer_is_refused);
    RUN(bad_headers_are_refused);
    RUN(bad_sections_are_refused);
    RUN(a_row_list_that_says_nothing_is_refused);
    RUN(bytes_out_of_line_are_refused);
    RUN(bad_drafts_are_refused_and_nothing_is_written);
    RUN(a_full_disk_leaves_what_was_there);
    RUN(an_allocation_that_fails_is_an_error);
    RUN(names_are_known);
    RUN(there_is_one_encoding);
    RUN(large_tables_are_small_and_quick);
    unlink(path);
    rmdir(folder);
    return check_report();
}
