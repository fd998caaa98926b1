/* Integers only. The verdict is `high / low <= M / 2^s` for a rational M / 2^s that is never above e^epsilon.
 *
 * Source  e^x = (sum (x/64)^k / k!)^64, each step rounded downward: Taylor's series with positive terms, cut off, is a
 * lower bound, and so is any product of lower bounds of positive numbers. docs/channel.md has the error bound. */
#include "table/table.h"

#include "table/layout.h"

#include <stdio.h>

__extension__ typedef unsigned __int128 u128;

enum { CHUNK = 64, EPSILON_MAX = 32, MILLION = 1000000 };

/* ---- a lower bound of e^x ---- */

/* At most a * b / 2^128, and less than 3 below it. */
static u128 times_high(u128 a, u128 b)
{
    const uint64_t a1 = (uint64_t) (a >> 64), a0 = (uint64_t) a;
    const uint64_t b1 = (uint64_t) (b >> 64), b0 = (uint64_t) b;
    return (u128) a1 * b1 + ((u128) a1 * b0 >> 64) + ((u128) a0 * b1 >> 64);
}

/* A lower bound mantissa * 2^(exponent - 63) of e^(num/den), within 2^-62 of it; mantissa has its top bit set; num/den
 * <= 32. */
static uint64_t exp_below(uint64_t num, uint64_t den, unsigned *exponent)
{
    const u128 one  = (u128) 1 << 127;
    const u128 by   = (u128) den * 64;
    u128       rest = num, x = 0; /* x: num / (64 den) <= 1/2, in units of 2^-127 */
    for (int bit = 0; bit < 127; bit++) {
        rest <<= 1;
        x = x << 1 | (rest >= by);
        rest -= rest >= by ? by : 0;
    }
    u128 sum = one, term = one;
    for (unsigned k = 1; term > 0; k++) {
        term = (times_high(term, x) << 1) / k; /* units of 2^-127 again */
        sum += term;                           /* below e^(1/2) < 2 */
    }
    unsigned power = 0; /* sum is in [1, 2): the value is sum * 2^power */
    for (int i = 0; i < 6; i++) {
        const u128 square = times_high(sum, sum); /* in [1, 4), units of 2^-126 */
        power             = 2 * power + (unsigned) (square >> 127);
        sum               = square >> 127 ? square : square << 1;
    }
    *exponent = power;
    return (uint64_t) (sum >> 64);
}

bool cmif_loss_within(uint64_t high, uint64_t low, uint64_t num, uint64_t den)
{
    if (low == 0 || den == 0 || (u128) num > (u128) EPSILON_MAX * den) {
        return false;
    }
    unsigned       exponent;
    const uint64_t mantissa = exp_below(num, den, &exponent);
    return (u128) high << (63 - exponent) <= (u128) low * mantissa; /* exponent <= 46, so both fit */
}

uint64_t cmif_loss_micro(uint64_t high, uint64_t low)
{
    uint64_t from = 0, to = EPSILON_MAX * (uint64_t) MILLION;
    if (!cmif_loss_within(high, low, to, MILLION)) {
        return UINT64_MAX;
    }
    while (from < to) {
        uint64_t middle = from + (to - from) / 2;
        if (cmif_loss_within(high, low, middle, MILLION)) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    return to;
}

/* ---- the worst pair ---- */

static uint32_t outputs_in(const cmif_table *table, uint32_t block)
{
    return table->block_at[block + 1] - table->block_at[block];
}

/* Weights of outputs [from, from + count) of a row that has n > 1 of them. */
static void weights_of(const cmif_table *table, uint32_t row, uint32_t n, uint32_t from, uint32_t count, uint64_t *out)
{
    const size_t    at    = (size_t) row * table->stride;
    const uint64_t  last  = ((uint64_t) 1 << table->weight_bits) - 1;
    const uint32_t *t32   = (const uint32_t *) table->thresholds + (table->weight_bits == 32 ? at : 0);
    const uint64_t *t63   = (const uint64_t *) table->thresholds + (table->weight_bits == 32 ? 0 : at);
    uint64_t        below = UINT64_MAX; /* the threshold before, minus 1 to begin with */
    if (from) {
        below = table->weight_bits == 32 ? t32[from - 1] : t63[from - 1];
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t t = from + i + 1 == n ? last : table->weight_bits == 32 ? t32[from + i] : t63[from + i];
        out[i]     = t - below;
        below      = t;
    }
}

typedef struct group {    /* rows that have the outputs of one block */
    const uint32_t *rows; /* NULL: 0, 1, ... */
    uint32_t        row_count;
    uint32_t        block;
} group;

static uint32_t row_at(const group *g, uint32_t i)
{
    return g->rows ? g->rows[i] : i;
}

/* Is a/b above (1), equal to (0) or below (-1) c/d? All below 2^64, so the products fit. */
static int compare_ratios(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const u128 left = (u128) a * d, right = (u128) c * b;
    return (left > right) - (left < right);
}

static bool comes_first(const cmif_certificate *a, const cmif_certificate *b)
{
    if (a->word_high != b->word_high) {
        return a->word_high < b->word_high;
    }
    return a->word_low != b->word_low ? a->word_low < b->word_low : a->output < b->output;
}

/* Take columns [from, from + count) of a group into the certificate. */
static void certify_columns(const cmif_table *table, const group *g, uint32_t from, uint32_t count,
                            cmif_certificate *worst)
{
    const uint32_t n = outputs_in(table, g->block);
    uint64_t       w[CHUNK], high[CHUNK], low[CHUNK];
    bool           close = false;
    for (uint32_t c = 0; c < count; c++) {
        high[c] = 0;
        low[c]  = UINT64_MAX;
    }
    for (uint32_t i = 0; i < g->row_count; i++) {
        weights_of(table, row_at(g, i), n, from, count, w);
        for (uint32_t c = 0; c < count; c++) {
            high[c] = w[c] > high[c] ? w[c] : high[c];
            low[c]  = w[c] < low[c] ? w[c] : low[c];
        }
    }
    for (uint32_t c = 0; c < count; c++) {
        close |= high[c] > low[c] && compare_ratios(high[c], low[c], worst->high, worst->low) >= 0;
    }
    if (!close) {
        return;
    }
    uint32_t row_high[CHUNK], row_low[CHUNK]; /* rows ascend with their words: the first row has the lowest word */
    for (uint32_t c = 0; c < count; c++) {
        row_high[c] = row_low[c] = UINT32_MAX;
    }
    for (uint32_t i = 0; i < g->row_count; i++) {
        const uint32_t row = row_at(g, i);
        weights_of(table, row, n, from, count, w);
        for (uint32_t c = 0; c < count; c++) {
            row_high[c] = w[c] == high[c] && row_high[c] == UINT32_MAX ? row : row_high[c];
            row_low[c]  = w[c] == low[c] && row_low[c] == UINT32_MAX ? row : row_low[c];
        }
    }
    for (uint32_t c = 0; c < count; c++) {
        cmif_certificate here = *worst;
        here.high             = high[c];
        here.low              = low[c];
        here.word_high        = table->first_word[row_high[c]];
        here.word_low         = table->first_word[row_low[c]];
        here.output           = table->outputs[table->block_at[g->block] + from + c];
        const int order       = compare_ratios(here.high, here.low, worst->high, worst->low);
        if (high[c] > low[c] && (order > 0 || (order == 0 && comes_first(&here, worst)))) {
            *worst = here;
        }
    }
}

static void certify_group(const cmif_table *table, const group *g, cmif_certificate *worst)
{
    const uint32_t n = outputs_in(table, g->block);
    for (uint32_t from = 0; n > 1 && g->row_count > 1 && from < n; from += CHUNK) {
        certify_columns(table, g, from, n - from < CHUNK ? n - from : CHUNK, worst);
    }
}

/* ---- supports that differ ---- */

static bool has_output(const cmif_table *table, uint32_t block, uint32_t output)
{
    uint32_t from = table->block_at[block], to = table->block_at[block + 1];
    while (from < to) {
        const uint32_t middle = from + (to - from) / 2;
        if (table->outputs[middle] == output) {
            return true;
        }
        if (table->outputs[middle] < output) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return false;
}

/* The first output of block a that block b lacks, or CMIF_NO_WORD. */
static uint32_t lacking(const cmif_table *table, uint32_t a, uint32_t b)
{
    for (uint32_t i = table->block_at[a]; i < table->block_at[a + 1]; i++) {
        if (!has_output(table, b, table->outputs[i])) {
            return table->outputs[i];
        }
    }
    return CMIF_NO_WORD;
}

/* The first word whose outputs are not those of word 0, against word 0; false when all words have the same outputs.
 * Blocks are numbered by their first rows and rows by their first words, so the first such word is the first of the
 * first such block. */
static bool find_difference(const cmif_table *table, cmif_certificate *out)
{
    for (uint32_t b = 1; b < table->block_count; b++) {
        const uint32_t other   = table->first_word[table->rows[table->rows_at[b]]];
        const uint32_t forward = lacking(table, 0, b), back = lacking(table, b, 0);
        if (forward == CMIF_NO_WORD && back == CMIF_NO_WORD) {
            continue;
        }
        const bool     zero_high = forward != CMIF_NO_WORD;
        const uint32_t from = zero_high ? 0 : b, to = zero_high ? b : 0;
        out->pure          = false;
        out->epsilon_micro = UINT64_MAX;
        out->word_high     = zero_high ? 0 : other;
        out->word_low      = zero_high ? other : 0;
        out->output        = zero_high ? forward : back;
        out->high = out->low = 0;
        const uint32_t row   = cmif_table_row(table, out->word_high);
        for (uint32_t j = 0; j < outputs_in(table, from); j++) {
            const uint32_t output = table->outputs[table->block_at[from] + j];
            if (!has_output(table, to, output)) {
                out->delta_num += cmif_table_weight(table, row, j);
                out->high = output == out->output ? cmif_table_weight(table, row, j) : out->high;
            }
        }
        return true;
    }
    return false;
}

/* ---- the certificate ---- */

void cmif_table_certify(const cmif_table *table, cmif_adjacency adjacency, cmif_certificate *out)
{
    cmif_certificate made = {
        .pure = true, .high = 1, .low = 1, .word_high = CMIF_NO_WORD, .word_low = CMIF_NO_WORD, .output = CMIF_NO_WORD};
    if (adjacency == CMIF_ADJACENT_BLOCK) {
        for (uint32_t b = 0; b < table->block_count; b++) {
            const group g = {&table->rows[table->rows_at[b]], table->rows_at[b + 1] - table->rows_at[b], b};
            made.alone += table->words_in[b] == 1;
            certify_group(table, &g, &made);
        }
    } else { /* where nothing is claimed the loss is told over any two words */
        made.alone = table->word_count == 1;
        if (!find_difference(table, &made)) {
            certify_group(table, &(group){NULL, table->row_count, 0}, &made);
        }
    }
    if (made.pure) {
        made.epsilon_micro = cmif_loss_micro(made.high, made.low);
    }
    *out = made;
}

static cmif_code refuse_alone(const cmif_table *table, cmif_err *err)
{
    for (uint32_t b = 0; b < table->block_count; b++) {
        if (table->words_in[b] == 1 && outputs_in(table, b) > 1) {
            return cmif_fail(
                err, CMIF_E_TRUST,
                "word %u is alone in its block and has %u outputs: noise of its own, as of per-word neighbours, "
                "protects nothing; such a word has 1 output",
                table->first_word[table->rows[table->rows_at[b]]], outputs_in(table, b));
        }
    }
    return CMIF_OK;
}

cmif_code table_judge(const cmif_table *table, const cmif_certificate *c, cmif_err *err)
{
    const cmif_table_claim  *claim = &table->claim;
    const unsigned long long num = claim->epsilon_num, den = claim->epsilon_den;
    if (claim->adjacency == CMIF_ADJACENT_NONE) {
        return CMIF_OK;
    }
    if (!c->pure) {
        return cmif_fail(
            err, CMIF_E_TRUST,
            "it claims epsilon %llu/%llu, no epsilon holds: word %u gives output %u with weight %llu, word %u "
            "never does; delta is %llu of 2^%u",
            num, den, c->word_high, c->output, (unsigned long long) c->high, c->word_low,
            (unsigned long long) c->delta_num, table->weight_bits);
    }
    if (!cmif_loss_within(c->high, c->low, claim->epsilon_num, claim->epsilon_den)) {
        char exact[32] = "more than 32";
        if (c->epsilon_micro != UINT64_MAX) {
            snprintf(exact, sizeof exact, "%llu.%06llu", (unsigned long long) c->epsilon_micro / MILLION,
                     (unsigned long long) c->epsilon_micro % MILLION);
        }
        return cmif_fail(
            err, CMIF_E_TRUST,
            "it claims epsilon %llu/%llu (%.6f), its exact loss is %s: output %u has weight %llu from word %u "
            "and %llu from word %u",
            num, den, (double) num / (double) den, exact, c->output, (unsigned long long) c->high, c->word_high,
            (unsigned long long) c->low, c->word_low);
    }
    return claim->adjacency == CMIF_ADJACENT_BLOCK ? refuse_alone(table, err) : CMIF_OK;
}
