#include "table/table.h"

#include "base/bytes.h"
#include "table/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "sections are read in place");

static const char *const mechanism_names[] = {
    [CMIF_MECHANISM_RNM]          = "rnm",
    [CMIF_MECHANISM_SUBSET]       = "subset",
    [CMIF_MECHANISM_KRR]          = "krr",
    [CMIF_MECHANISM_GENERAL]      = "general",
    [CMIF_MECHANISM_METRIC]       = "metric",
    [CMIF_MECHANISM_FULL]         = "full",
    [CMIF_MECHANISM_PAPER]        = "paper",
    [CMIF_MECHANISM_CUSTEXT]      = "custext",
    [CMIF_MECHANISM_SANTEXT]      = "santext",
    [CMIF_MECHANISM_CUSTEXT_PLUS] = "custext+",
    [CMIF_MECHANISM_SANTEXT_PLUS] = "santext+",
};

const char *cmif_mechanism_name(cmif_mechanism mechanism)
{
    size_t index = (size_t) mechanism;
    return index < sizeof mechanism_names / sizeof *mechanism_names ? mechanism_names[index] : NULL;
}

const char *cmif_noise_name(cmif_noise_kind noise)
{
    static const char *const names[] = {"none", "laplace", "exponential", "gumbel"};
    size_t                   index   = (size_t) noise;
    return index < sizeof names / sizeof *names ? names[index] : NULL;
}

const char *cmif_adjacency_sentence(cmif_adjacency adjacency)
{
    switch (adjacency) {
    case CMIF_ADJACENT_NONE:
        return "no two words: nothing is guaranteed";
    case CMIF_ADJACENT_BLOCK:
        return "any two words of one block; the block is revealed";
    case CMIF_ADJACENT_ANY:
        return "any two words of the table";
    }
    return NULL;
}

/* ---- looking ---- */

cmif_str cmif_table_word(const cmif_table *table, uint32_t word)
{
    return (cmif_str){table->text + table->word_at[word], table->word_at[word + 1] - table->word_at[word]};
}

static int compare(cmif_str a, cmif_str b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int    order  = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* The slot of a word, or the empty one where it would be. The hash of the file is the key: who makes a table cannot
 * choose words for it that fall on one slot. */
static uint32_t slot_of(const cmif_table *table, cmif_str word)
{
    uint64_t h, part;
    memcpy(&h, table->hash, sizeof h);
    h ^= word.size;
    for (size_t i = 0; i < word.size; i += sizeof part) {
        part = 0;
        for (size_t k = i; k < word.size && k < i + sizeof part; k++) {
            part = part << 8 | (uint8_t) word.data[k];
        }
        h = (h ^ part) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    uint32_t slot = (uint32_t) h & table->slot_mask;
    for (; table->slots[slot]; slot = (slot + 1) & table->slot_mask) {
        cmif_str at = cmif_table_word(table, table->slots[slot] - 1);
        if (at.size == word.size && memcmp(at.data, word.data, word.size) == 0) {
            break;
        }
    }
    return slot;
}

uint32_t cmif_table_find(const cmif_table *table, cmif_str word)
{
    return table->slots[slot_of(table, word)] - 1; /* of an empty slot: CMIF_NO_WORD */
}

static uint64_t threshold(const cmif_table *table, uint32_t row, uint32_t j)
{
    size_t at = (size_t) row * table->stride + j;
    return table->weight_bits == 32 ? ((const uint32_t *) table->thresholds)[at]
                                    : ((const uint64_t *) table->thresholds)[at];
}

static uint32_t outputs_in(const cmif_table *table, uint32_t block)
{
    return table->block_at[block + 1] - table->block_at[block];
}

uint64_t cmif_table_weight(const cmif_table *table, uint32_t row, uint32_t j)
{
    uint64_t below = j ? threshold(table, row, j - 1) + 1 : 0;
    if (j + 1 < outputs_in(table, table->block_of[row])) {
        return threshold(table, row, j) + 1 - below;
    }
    return ((uint64_t) 1 << table->weight_bits) - below;
}

bool cmif_table_passes(const cmif_table *table, uint32_t word)
{
    uint32_t block = cmif_table_block(table, word);
    return table->words_in[block] == 1 && outputs_in(table, block) == 1 &&
           table->outputs[table->block_at[block]] == word;
}

/* ---- the header ---- */

cmif_code table_hash(const void *bytes, size_t size, uint8_t hash[TABLE_HASH_SIZE], cmif_err *err)
{
    if (EVP_Digest(bytes, size, hash, NULL, EVP_sha256(), NULL) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "cannot compute SHA-256 of a table");
    }
    return CMIF_OK;
}

static cmif_code check_count(const char *what, uint64_t found, uint64_t least, uint64_t most, cmif_err *err)
{
    if (found < least || found > most) {
        return cmif_fail(err, CMIF_E_FORMAT, "it says it has %llu %s, a table has %llu to %llu",
                         (unsigned long long) found, what, (unsigned long long) least, (unsigned long long) most);
    }
    return CMIF_OK;
}

cmif_code table_check_counts(const cmif_table *table, uint32_t text_size, bool rows_shared, cmif_err *err)
{
    const uint64_t words = table->word_count, blocks = table->block_count;
    const struct {
        const char *what;
        uint64_t    found, least, most;
    } counts[] = {
        {"words", words, 1, CMIF_TABLE_WORDS_MAX},
        {"rows", table->row_count, 1, words},
        {"blocks", blocks, 1, table->row_count},
        {"outputs", table->output_total, blocks, blocks * CMIF_TABLE_OUTPUTS_MAX},
        {"thresholds in a row", table->stride, 0, CMIF_TABLE_OUTPUTS_MAX - 1},
        {"bytes of text", text_size, words - 1, (words - 1) * CMIF_TABLE_WORD_SIZE_MAX},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        cmif_code rc = check_count(counts[i].what, counts[i].found, counts[i].least, counts[i].most, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    if (table->weight_bits != 32 && table->weight_bits != 63) {
        return cmif_fail(err, CMIF_E_FORMAT, "its weights have %u bits; 32 and 63 are known", table->weight_bits);
    }
    uint64_t end = table_lay_out(table, text_size, rows_shared).end;
    if (end > CMIF_TABLE_SIZE_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "it would be %llu bytes long, at most %d are read",
                         (unsigned long long) end, CMIF_TABLE_SIZE_MAX);
    }
    return CMIF_OK;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a             = b;
        b             = rest;
    }
    return a;
}

static bool has_blocks(cmif_mechanism mechanism)
{
    return mechanism != CMIF_MECHANISM_METRIC && mechanism != CMIF_MECHANISM_FULL &&
           mechanism != CMIF_MECHANISM_SANTEXT && mechanism != CMIF_MECHANISM_SANTEXT_PLUS;
}

static cmif_code check_claim(const cmif_table_claim *claim, cmif_err *err)
{
    if (!cmif_mechanism_name(claim->mechanism)) {
        return cmif_fail(err, CMIF_E_FORMAT, "mechanism %u is unknown", (unsigned) claim->mechanism);
    }
    if (!cmif_noise_name(claim->noise)) {
        return cmif_fail(err, CMIF_E_FORMAT, "noise %u is unknown", (unsigned) claim->noise);
    }
    if (!cmif_adjacency_sentence(claim->adjacency)) {
        return cmif_fail(err, CMIF_E_FORMAT, "adjacency %u is unknown", (unsigned) claim->adjacency);
    }
    if (claim->k > CMIF_TABLE_WORDS_MAX || (claim->k == 0 && has_blocks(claim->mechanism))) {
        return cmif_fail(err, CMIF_E_FORMAT, "K is %u; %s has blocks of 1 to %d", claim->k,
                         cmif_mechanism_name(claim->mechanism), CMIF_TABLE_WORDS_MAX);
    }
    const unsigned long long num = claim->epsilon_num, den = claim->epsilon_den;
    if (den == 0 || den > 1000000 || num > 32 * den) {
        return cmif_fail(err, CMIF_E_FORMAT, "epsilon is %llu/%llu; it is at most 32, its denominator 1 to 1000000",
                         num, den);
    }
    if (common_divisor(num, den) != 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "epsilon %llu/%llu is not in lowest terms", num, den);
    }
    return CMIF_OK;
}

/* Claim, counts and layout from the first 256 bytes of a file of file_size bytes. */
static cmif_code read_header(const uint8_t *bytes, uint64_t file_size, cmif_table *table, table_layout *layout,
                             cmif_err *err)
{
    cmif_reader r = cmif_reader_over(bytes, TABLE_HEADER_SIZE);
    if (memcmp(cmif_read_bytes(&r, 6), "CMIFCH", 6) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "it does not begin with CMIFCH: not a channel");
    }
    uint32_t version = cmif_read_u16(&r);
    if (version != TABLE_VERSION) {
        return cmif_fail(err, CMIF_E_FORMAT, "version %u; this program reads version %d", version, TABLE_VERSION);
    }
    cmif_table_claim *claim = &table->claim;
    memcpy(claim->lexicon_hash, cmif_read_bytes(&r, 32), 32);
    memcpy(claim->vectors_hash, cmif_read_bytes(&r, 32), 32);
    memcpy(claim->recipe_hash, cmif_read_bytes(&r, 32), 32);
    claim->mechanism    = (cmif_mechanism) cmif_read_u32(&r);
    claim->noise        = (cmif_noise_kind) cmif_read_u32(&r);
    claim->adjacency    = (cmif_adjacency) cmif_read_u32(&r);
    uint32_t calibrated = cmif_read_u32(&r);
    claim->calibrated   = calibrated == 1;
    claim->k            = cmif_read_u32(&r);
    table->weight_bits  = cmif_read_u32(&r);
    claim->epsilon_num  = cmif_read_u64(&r);
    claim->epsilon_den  = cmif_read_u64(&r);
    table->word_count   = cmif_read_u32(&r);
    table->row_count    = cmif_read_u32(&r);
    table->block_count  = cmif_read_u32(&r);
    table->output_total = cmif_read_u32(&r);
    table->stride       = cmif_read_u32(&r);
    uint32_t text_size  = cmif_read_u32(&r);
    uint32_t shared     = cmif_read_u32(&r);
    uint32_t reserved   = cmif_read_u32(&r);
    uint64_t said_size  = cmif_read_u64(&r);
    for (size_t at = r.at; at < TABLE_HEADER_SIZE; at++) {
        reserved |= bytes[at];
    }
    if (calibrated > 1 || shared > 1 || reserved) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "a flag is neither 0 nor 1, or reserved bytes are not 0: a newer or damaged file");
    }
    cmif_code rc = check_claim(claim, err);
    if (rc == CMIF_OK) {
        rc = table_check_counts(table, text_size, shared, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    *layout = table_lay_out(table, text_size, shared);
    if (said_size != layout->end) {
        return cmif_fail(err, CMIF_E_FORMAT, "it says it is %llu bytes long, its counts make %llu",
                         (unsigned long long) said_size, (unsigned long long) layout->end);
    }
    if (file_size != layout->end) {
        return cmif_fail(err, CMIF_E_FORMAT, "it is %llu bytes long, its header says %llu: cut off or damaged",
                         (unsigned long long) file_size, (unsigned long long) layout->end);
    }
    return CMIF_OK;
}

/* ---- the words ---- */

/* One code point of valid UTF-8 (shortest form, no surrogates) at s, which ends at end; its size, or 0. */
static size_t decode(const uint8_t *s, const uint8_t *end, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (size == 0 || size > (size_t) (end - s)) {
        return 0;
    }
    uint32_t value = size == 1 ? s[0] : s[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        value = value << 6 | (s[i] & 0x3f);
    }
    *code = value;
    return value < least[size] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff) ? 0 : size;
}

/* Controls, white space, upper case: what the splitter of text can never look up. */
static bool is_foreign(uint32_t c)
{
    return c <= ' ' || (c >= 'A' && c <= 'Z') || (c >= 0x7f && c <= 0xa0) || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static cmif_code check_word(cmif_str word, uint32_t id, cmif_err *err)
{
    const uint8_t *s = (const uint8_t *) word.data, *end = s + word.size;
    while (s < end) {
        uint32_t code = 0;
        size_t   size = decode(s, end, &code);
        if (size == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u is not UTF-8", id);
        }
        if (is_foreign(code)) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "word %u has the character U+%04X; words have no white space, controls or upper case", id,
                             code);
        }
        s += size;
    }
    return CMIF_OK;
}

/* word_at from the sizes, and every rule about words and their prior. */
static cmif_code check_words(const cmif_table *table, const uint8_t *sizes, uint32_t text_size, uint32_t *word_at,
                             cmif_err *err)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < table->word_count; i++) {
        if (sizes[i] > (i ? CMIF_TABLE_WORD_SIZE_MAX : 0) || (i && sizes[i] == 0)) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u has %u bytes; word 0 has none, the others have 1 to %d", i,
                             sizes[i], CMIF_TABLE_WORD_SIZE_MAX);
        }
        word_at[i] = at;
        at += sizes[i];
    }
    word_at[table->word_count] = at;
    if (at != text_size) {
        return cmif_fail(err, CMIF_E_FORMAT, "the words are %u bytes long, the text has %u", at, text_size);
    }
    for (uint32_t i = 0; i < table->word_count; i++) {
        cmif_code rc = check_word(cmif_table_word(table, i), i, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (i && compare(cmif_table_word(table, i - 1), cmif_table_word(table, i)) >= 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u is not behind word %u in byte order: twice, or out of order",
                             i, i - 1);
        }
        if (table->prior[i] == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u has a prior of 0; it is at least 1", i);
        }
    }
    return CMIF_OK;
}

/* ---- rows and blocks ---- */

/* Each item names a group; a group's number is the count of groups before it. So all groups are used, and there is one
 * numbering. */
static cmif_code check_groups(const uint32_t *group_of, uint32_t items, uint32_t groups, const char *item,
                              const char *group, cmif_err *err)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < items; i++) {
        if (group_of[i] > seen || group_of[i] >= groups) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "%s %u has %s %u; it could be one of the %u before it or the next, of %u", item, i, group,
                             group_of[i], seen, groups);
        }
        seen += group_of[i] == seen;
    }
    if (seen != groups) {
        return cmif_fail(err, CMIF_E_FORMAT, "%u of %u %ss are used by no %s", groups - seen, groups, group, item);
    }
    return CMIF_OK;
}

static cmif_code check_numbers(const cmif_table *table, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (!table->row_of && table->row_count != table->word_count) {
        return cmif_fail(err, CMIF_E_FORMAT, "%u rows for %u words, and no row is shared", table->row_count,
                         table->word_count);
    }
    if (table->row_of && table->row_count == table->word_count) {
        return cmif_fail(err, CMIF_E_FORMAT, "it lists the row of each word, but no row of %u is shared",
                         table->row_count);
    }
    if (table->row_of) {
        rc = check_groups(table->row_of, table->word_count, table->row_count, "word", "row", err);
    }
    return rc == CMIF_OK ? check_groups(table->block_of, table->row_count, table->block_count, "row", "block", err)
                         : rc;
}

static cmif_code check_outputs(const cmif_table *table, cmif_err *err)
{
    uint32_t most = 0;
    if (table->block_at[0] != 0 || table->block_at[table->block_count] != table->output_total) {
        return cmif_fail(err, CMIF_E_FORMAT, "the blocks' outputs go from %u to %u, there are 0 to %u",
                         table->block_at[0], table->block_at[table->block_count], table->output_total);
    }
    for (uint32_t b = 0; b < table->block_count; b++) {
        uint32_t from = table->block_at[b], to = table->block_at[b + 1];
        if (to <= from || to > table->output_total || to - from > CMIF_TABLE_OUTPUTS_MAX) {
            return cmif_fail(err, CMIF_E_FORMAT, "block %u has outputs %u to %u of %u; a block has 1 to %d", b, from,
                             to, table->output_total, CMIF_TABLE_OUTPUTS_MAX);
        }
        most = most > to - from ? most : to - from;
        for (uint32_t i = from; i < to; i++) {
            if (table->outputs[i] >= table->word_count) {
                return cmif_fail(err, CMIF_E_FORMAT, "block %u has the output %u; words go from 0 to %u", b,
                                 table->outputs[i], table->word_count - 1);
            }
            if (i > from && table->outputs[i] <= table->outputs[i - 1]) {
                return cmif_fail(err, CMIF_E_FORMAT, "block %u has output %u after %u; they ascend", b,
                                 table->outputs[i], table->outputs[i - 1]);
            }
        }
    }
    if (table->stride != most - 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "rows have %u thresholds, the largest block needs %u", table->stride,
                         most - 1);
    }
    return CMIF_OK;
}

static cmif_code check_rows(const cmif_table *table, cmif_err *err)
{
    const uint64_t last = ((uint64_t) 1 << table->weight_bits) - 1;
    for (uint32_t r = 0; r < table->row_count; r++) {
        const uint32_t  n      = outputs_in(table, table->block_of[r]);
        const size_t    at     = (size_t) r * table->stride;
        const uint32_t *t32    = (const uint32_t *) table->thresholds + (table->weight_bits == 32 ? at : 0);
        const uint64_t *t63    = (const uint64_t *) table->thresholds + (table->weight_bits == 32 ? 0 : at);
        uint64_t        before = 0;
        for (uint32_t j = 0; j < table->stride; j++) {
            uint64_t t = table->weight_bits == 32 ? t32[j] : t63[j];
            if (j + 1 < n && ((j && t <= before) || t >= last)) {
                return cmif_fail(err, CMIF_E_FORMAT,
                                 "row %u: threshold %u is %llu, it must be above %llu and below %llu: a weight of 0, "
                                 "or sums that are off",
                                 r, j, (unsigned long long) t, (unsigned long long) before, (unsigned long long) last);
            }
            if (j + 1 >= n && t != last) {
                return cmif_fail(err, CMIF_E_FORMAT, "row %u: its %u weights sum to %llu, they must sum to %llu", r,
                                 j + 1, (unsigned long long) t + 1, (unsigned long long) last + 1);
            }
            before = t;
        }
    }
    return CMIF_OK;
}

static cmif_code check_padding(const uint8_t *bytes, uint64_t from, uint64_t to, cmif_err *err)
{
    for (uint64_t at = from; at < to; at++) {
        if (bytes[at]) {
            return cmif_fail(err, CMIF_E_FORMAT, "byte %llu is padding and is %u, it must be 0",
                             (unsigned long long) at, bytes[at]);
        }
    }
    return CMIF_OK;
}

/* What begins where, and zeros between. */
static cmif_code place_sections(const uint8_t *bytes, const table_layout *l, cmif_table *table, cmif_err *err)
{
    const uint64_t words = table->word_count;
    const struct {
        uint64_t from, size, next;
    } sections[] = {
        {l->sizes, words, l->text},
        {l->text, l->text_size, l->prior},
        {l->prior, 4 * words, l->row_of},
        {l->row_of, l->rows_shared ? 4 * words : 0, l->block_of},
        {l->block_of, 4 * (uint64_t) table->row_count, l->block_at},
        {l->block_at, 4 * ((uint64_t) table->block_count + 1), l->outputs},
        {l->outputs, 4 * (uint64_t) table->output_total, l->thresholds},
        {l->thresholds, (table->weight_bits == 32 ? 4ull : 8ull) * table->row_count * (uint64_t) table->stride,
         l->hash},
    };
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        cmif_code rc = check_padding(bytes, sections[i].from + sections[i].size, sections[i].next, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    table->text       = (const char *) bytes + l->text;
    table->prior      = (const uint32_t *) (const void *) (bytes + l->prior);
    table->row_of     = l->rows_shared ? (const uint32_t *) (const void *) (bytes + l->row_of) : NULL;
    table->block_of   = (const uint32_t *) (const void *) (bytes + l->block_of);
    table->block_at   = (const uint32_t *) (const void *) (bytes + l->block_at);
    table->outputs    = (const uint32_t *) (const void *) (bytes + l->outputs);
    table->thresholds = bytes + l->thresholds;
    memcpy(table->hash, bytes + l->hash, TABLE_HASH_SIZE);
    return CMIF_OK;
}

/* first_word, words_in, rows_at and rows. */
static void index_rows(const cmif_table *table, uint32_t *first_word, uint32_t *words_in, uint32_t *rows_at,
                       uint32_t *rows)
{
    for (uint32_t w = table->word_count; w-- > 0;) {
        uint32_t row    = cmif_table_row(table, w);
        first_word[row] = w;
        words_in[table->block_of[row]]++;
    }
    for (uint32_t r = 0; r < table->row_count; r++) {
        rows_at[table->block_of[r] + 1]++;
    }
    for (uint32_t b = 0; b < table->block_count; b++) {
        rows_at[b + 1] += rows_at[b];
    }
    for (uint32_t r = 0; r < table->row_count; r++) { /* rows_at[b] moves to where block b + 1 begins ... */
        rows[rows_at[table->block_of[r]]++] = r;
    }
    for (uint32_t b = table->block_count; b > 0; b--) { /* ... and goes back */
        rows_at[b] = rows_at[b - 1];
    }
    rows_at[0] = 0;
}

/* ---- opening ---- */

static cmif_code check_hash(const uint8_t *bytes, const table_layout *layout, cmif_err *err)
{
    uint8_t   hash[TABLE_HASH_SIZE];
    cmif_code rc = table_hash(bytes, (size_t) layout->hash, hash, err);
    if (rc == CMIF_OK && memcmp(hash, bytes + layout->hash, sizeof hash) != 0) {
        const uint8_t *said = bytes + layout->hash;
        rc                  = cmif_fail(err, CMIF_E_FORMAT,
                                        "its SHA-256 begins with %02x%02x%02x%02x, the file says %02x%02x%02x%02x: damaged", hash[0],
                                        hash[1], hash[2], hash[3], said[0], said[1], said[2], said[3]);
    }
    return rc;
}

/* bytes: a whole file, whose header was read into *head. Everything is checked and indexed; the claim is judged. */
static cmif_code open_bytes(const uint8_t *bytes, const cmif_table *head, const table_layout *layout, cmif_table **out,
                            cmif_certificate *certificate, cmif_err *err)
{
    const size_t words = head->word_count, rows = head->row_count, blocks = head->block_count;
    size_t       slots = 1;
    cmif_table  *table = NULL;
    cmif_code    rc    = check_hash(bytes, layout, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    while (slots < 2 * words) {
        slots *= 2;
    }
    table = calloc(1, sizeof *table + (words + 1 + 2 * rows + 2 * blocks + 1 + slots) * sizeof(uint32_t));
    if (!table) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a table of %zu words", words);
        goto done;
    }
    *table               = *head;
    uint32_t *word_at    = (uint32_t *) (table + 1);
    uint32_t *first_word = word_at + words + 1, *row_list = first_word + rows;
    uint32_t *words_in = row_list + rows, *rows_at = words_in + blocks, *slot = rows_at + blocks + 1;
    table->word_at    = word_at;
    table->first_word = first_word;
    table->rows       = row_list;
    table->words_in   = words_in;
    table->rows_at    = rows_at;
    table->slots      = slot;
    table->slot_mask  = (uint32_t) (slots - 1);

    rc = place_sections(bytes, layout, table, err);
    if (rc == CMIF_OK) {
        rc = check_words(table, bytes + layout->sizes, layout->text_size, word_at, err);
    }
    if (rc == CMIF_OK) {
        rc = check_numbers(table, err);
    }
    if (rc == CMIF_OK) {
        rc = check_outputs(table, err);
    }
    if (rc == CMIF_OK) {
        rc = check_rows(table, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    index_rows(table, first_word, words_in, rows_at, row_list);
    for (uint32_t word = 0; word < words; word++) {
        slot[slot_of(table, cmif_table_word(table, word))] = word + 1;
    }

    cmif_certificate found;
    cmif_table_certify(table, table->claim.adjacency, &found);
    if (certificate) {
        *certificate = found;
    }
    rc = table_judge(table, &found, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    *out  = table;
    table = NULL;
done:
    free(table);
    return rc;
}

cmif_code cmif_table_open_memory(const void *bytes, size_t size, cmif_table **out, cmif_certificate *certificate,
                                 cmif_err *err)
{
    cmif_table   head   = {0};
    table_layout layout = {0};
    if (size < TABLE_HEADER_SIZE) {
        return cmif_fail(err, CMIF_E_FORMAT, "it is %zu bytes long, a header alone has %d: cut off", size,
                         TABLE_HEADER_SIZE);
    }
    if ((uintptr_t) bytes % TABLE_ALIGNMENT) {
        return cmif_fail(err, CMIF_E_RANGE, "the bytes of a table must lie at a multiple of %d", TABLE_ALIGNMENT);
    }
    cmif_code rc = read_header(bytes, size, &head, &layout, err);
    return rc == CMIF_OK ? open_bytes(bytes, &head, &layout, out, certificate, err) : rc;
}

/* size bytes from where fd stands; a file that changes while we read is an error. */
static cmif_code read_all(int fd, uint8_t *bytes, size_t size, cmif_err *err)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, bytes + at, size - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? cmif_fail(err, CMIF_E_IO, "cannot read: %s", strerror(errno))
                         : cmif_fail(err, CMIF_E_FORMAT, "it ends at byte %zu of %zu: cut off", at, size);
        }
        at += (size_t) n;
    }
    return CMIF_OK;
}

/* The file is copied, not mapped: what was certified cannot be changed afterwards by whoever can write the file. */
cmif_code cmif_table_open(const char *path, cmif_table **out, cmif_certificate *certificate, cmif_err *err)
{
    cmif_code                         rc    = CMIF_OK;
    cmif_table                       *table = NULL, head = {0};
    uint8_t                          *bytes = NULL;
    table_layout                      layout;
    struct stat                       about;
    _Alignas(TABLE_ALIGNMENT) uint8_t header[TABLE_HEADER_SIZE];

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &about) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(about.st_mode)) {
        rc = cmif_fail(err, CMIF_E_IO, "'%s' is not a file", path);
        goto done;
    }
    rc = read_all(fd, header, sizeof header, err);
    if (rc == CMIF_OK) {
        rc = read_header(header, (uint64_t) about.st_size, &head, &layout, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    bytes = aligned_alloc(TABLE_ALIGNMENT, (size_t) table_padded(layout.end));
    if (!bytes) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for its %llu bytes", (unsigned long long) layout.end);
        goto done;
    }
    memcpy(bytes, header, sizeof header);
    rc = read_all(fd, bytes + sizeof header, (size_t) layout.end - sizeof header, err);
    if (rc == CMIF_OK) {
        rc = open_bytes(bytes, &head, &layout, &table, certificate, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    table->bytes = bytes;
    bytes        = NULL;
    *out         = table;
done:
    if (rc != CMIF_OK) {
        cmif_err_context(err, "channel '%s'", path);
    }
    free(bytes);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

void cmif_table_free(cmif_table *table)
{
    if (table) {
        free(table->bytes);
        free(table);
    }
}
