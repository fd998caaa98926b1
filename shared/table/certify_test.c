#include "table/table.h"

#include "base/check.h"
#include "table/table_samples.h"

#include <math.h>
#include <unistd.h>

__extension__ typedef unsigned __int128 u128;

static char folder[64], path[128];

static uint8_t *bytes_of(const cmif_table_draft *draft, size_t *size)
{
    cmif_err err = {0};
    if (cmif_table_write(draft, path, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return sample_read(path, size);
}

static cmif_table *table_of(const cmif_table_draft *draft)
{
    cmif_table *table = NULL;
    cmif_err    err   = {0};
    if (cmif_table_write(draft, path, &err) != CMIF_OK || cmif_table_open(path, &table, NULL, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return table;
}

/* ---- e^x ---- */

/* For each x: convergents of e^x just above and below, and the integers around e^x * 2^s, by 120 decimal digits. */
static void ratios_are_compared_with_e_to_the_x_exactly(void)
{
    static const struct {
        uint64_t num, den, high, low;
        bool     within;
    } cases[] = {
        {1, 1, 2922842896378005707u, 1075253811351460636u, false},
        {1, 1, 438351041u, 161260336u, false},
        {1, 1, 410105312u, 150869313u, true},
        {1, 1, 2721u, 1001u, true},
        {1, 1, 1566982787806226772u, 576460752303423488u, false},
        {1, 1, 2988782477962u, 1099511627776u, true},
        {1, 1, 2988782477963u, 1099511627776u, false},
        {1, 2, 3438561213703016833u, 2085592801409564280u, false},
        {1, 2, 54516085u, 33065677u, true},
        {1, 2, 1900846208092904394u, 1152921504606846976u, false},
        {1, 2, 1812788208096u, 1099511627776u, true},
        {1, 2, 1812788208097u, 1099511627776u, false},
        {7, 10, 308752197162442823u, 153321803624176836u, false},
        {7, 10, 108341263u, 53800679u, true},
        {7, 10, 2214144517329u, 1099511627776u, true},
        {7, 10, 2214144517330u, 1099511627776u, false},
        {2, 1, 16539483668991901u, 2238375706930349u, false},
        {2, 1, 48145294u, 6515757u, true},
        {2, 1, 2129750418800881101u, 288230376151711744u, false},
        {2, 1, 8124353099063u, 1099511627776u, true},
        {2, 1, 8124353099064u, 1099511627776u, false},
        {3, 1, 1404061857958861541u, 69904123714907912u, false},
        {3, 1, 285725279u, 14225424u, true},
        {3, 1, 1447315465644869107u, 72057594037927936u, false},
        {8, 1, 1450473937056013992u, 486579798628913u, false},
        {8, 1, 31653898577u, 10618700u, true},
        {8, 1, 3277597968664118u, 1099511627776u, true},
        {8, 1, 3277597968664119u, 1099511627776u, false},
        {31, 1, 4349426162678166485u, 149728u, false},
        {31, 1, 3689203907486423u, 127u, true},
        {31, 1, 951872705830827629u, 32768u, true},
        {31, 1, 951872705830827630u, 32768u, false},
        {32, 1, 6933500644760643800u, 87807u, false},
        {32, 1, 1026518482374849u, 13u, true},
        {32, 1, 2587458279266081019u, 32768u, true},
        {32, 1, 2587458279266081020u, 32768u, false},
        {1, 3, 5888977135885160857u, 4219636505114874095u, false},
        {1, 3, 281778228u, 201902923u, true},
        {1, 3, 1534492089250u, 1099511627776u, true},
        {1, 3, 1534492089251u, 1099511627776u, false},
        {1, 1000000, 6000004000001u, 5999998000000u, false},
        {1, 1000000, 1000001u, 1000000u, true},
        {1, 1000000, 1152922657528928044u, 1152921504606846976u, false},
        {1, 1000000, 1099512727288u, 1099511627776u, true},
        {1, 1000000, 1099512727289u, 1099511627776u, false},
        {999999, 1000000, 2309322796900016522u, 849553229560855057u, false},
        {999999, 1000000, 335157883u, 123297818u, true},
        {12345677, 1000000, 8165926622779533217u, 35509624241098u, false},
        {12345677, 1000000, 17712038577u, 77021u, true},
        {12345677, 1000000, 252847825489523455u, 1099511627776u, true},
        {12345677, 1000000, 252847825489523456u, 1099511627776u, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint64_t num = cases[i].num, den = cases[i].den;
        if (cmif_loss_within(cases[i].high, cases[i].low, num, den) != cases[i].within) {
            fprintf(stderr, "%llu / %llu <= e^(%llu/%llu)\n", (unsigned long long) cases[i].high,
                    (unsigned long long) cases[i].low, (unsigned long long) num, (unsigned long long) den);
            CHECK(false);
        }
        CHECK(cmif_loss_within(cases[i].high, cases[i].low, 3 * num, 3 * den) == cases[i].within);
        CHECK(cmif_loss_within(cases[i].high, cases[i].low, num << 40, den << 40) == cases[i].within);
    }
    const uint64_t most = (uint64_t) 1 << 63;
    CHECK(cmif_loss_within(most, most, 0, 1) && !cmif_loss_within(most, most - 1, 0, 1));
    CHECK(cmif_loss_within(1, most, 0, 1) && cmif_loss_within(1, most, 32, 1) && !cmif_loss_within(most, 1, 32, 1));
    CHECK(!cmif_loss_within(1, 0, 1, 1) && !cmif_loss_within(1, 1, 1, 0) && !cmif_loss_within(1, 1, 33, 1));
    CHECK(!cmif_loss_within(1, 1, UINT64_MAX, 1) && cmif_loss_within(1, 1, UINT64_MAX, UINT64_MAX));
}

static void millionths_are_the_fewest(void)
{
    CHECK(cmif_loss_micro(5, 5) == 0 && cmif_loss_micro(5, 6) == 0);
    CHECK(cmif_loss_micro(2, 1) == 693148 && cmif_loss_micro(3, 1) == 1098613 && cmif_loss_micro(10, 1) == 2302586);
    CHECK(cmif_loss_micro(1000001, 1000000) == 1 && cmif_loss_micro(1000002, 1000000) == 2);
    CHECK(cmif_loss_micro((uint64_t) 1 << 63, ((uint64_t) 1 << 63) - 1) == 1);
    CHECK(cmif_loss_micro(78962960182680u, 1) == 32000000 && cmif_loss_micro(78962960182681u, 1) == UINT64_MAX);
    CHECK(cmif_loss_micro(1, 0) == UINT64_MAX);
    for (int i = 0; i < 20000; i++) {
        const uint64_t low   = 1 + (sample_random() >> (1 + sample_below(40))),
                       high  = low + sample_random() % (low << 1 | 1) / 2;
        const uint64_t micro = cmif_loss_micro(high, low);
        CHECK(cmif_loss_within(high, low, micro, 1000000) &&
              (micro == 0 || !cmif_loss_within(high, low, micro - 1, 1000000)));
        CHECK(fabsl((long double) micro * 1e-6L - logl((long double) high) + logl((long double) low)) < 1.000001e-6L);
    }
}

/* ---- the worst pair ---- */

static int book_ties; /* pairs that are as bad as the worst one before them */

/* By the book: every pair of words of a block (or of the table, whose blocks then all have the same outputs), every
 * output. */
static cmif_certificate by_the_book(const cmif_table *t, bool any)
{
    cmif_certificate c = {
        .pure = true, .high = 1, .low = 1, .word_high = CMIF_NO_WORD, .word_low = CMIF_NO_WORD, .output = CMIF_NO_WORD};
    for (uint32_t a = 0; a < t->word_count; a++) {
        const uint32_t block = cmif_table_block(t, a);
        bool           alone = true;
        for (uint32_t b = 0; b < t->word_count; b++) {
            if (b == a || (!any && cmif_table_block(t, b) != block)) {
                continue;
            }
            alone = false;
            for (uint32_t j = 0; j < t->block_at[block + 1] - t->block_at[block]; j++) {
                const uint64_t high = cmif_table_weight(t, cmif_table_row(t, a), j),
                               low  = cmif_table_weight(t, cmif_table_row(t, b), j);
                book_ties += high > low && (u128) high * c.low == (u128) c.high * low;
                if ((u128) high * c.low > (u128) c.high * low) {
                    c.high      = high;
                    c.low       = low;
                    c.word_high = a;
                    c.word_low  = b;
                    c.output    = t->outputs[t->block_at[block] + j];
                }
            }
        }
        c.alone += alone;
    }
    return c;
}

/* Ties go to the first pair, so the weights may differ by a common factor from those of the book's first hit: ids
 * decide. */
static void the_worst_pair_is_found(void)
{
    static sample s;
    int           alike = 0;
    for (int i = 0; i < 600; i++) {
        const bool any = i % 2;
        sample_make(&s, any);
        cmif_table      *table = table_of(&s.draft);
        cmif_certificate c, book = by_the_book(table, any);
        cmif_table_certify(table, any ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_BLOCK, &c);
        CHECK(c.pure && c.high == book.high && c.low == book.low && c.alone == book.alone && c.delta_num == 0);
        CHECK(c.word_high == book.word_high && c.word_low == book.word_low && c.output == book.output);
        CHECK(c.epsilon_micro == cmif_loss_micro(book.high, book.low));
        alike += c.word_high == CMIF_NO_WORD;
        cmif_table_free(table);
    }
    CHECK(book_ties > 1000 && alike > 10 && alike < 300);
}

/* Rows of 60 to 200 outputs, all alike but for one weight (and the last, or the one before, that gives way): wherever
 * it is. */
static void the_worst_output_is_found_wherever_it_is(void)
{
    enum { MOST = 200 };
    static char     text[MOST][8];
    static cmif_str words[MOST];
    static uint32_t prior[MOST], row_of[MOST], outputs[MOST];
    static uint64_t weights[2][MOST];
    for (uint32_t n = 60; n <= MOST; n += n < 132 ? 1 : 17) {
        for (uint32_t i = 0; i < n; i++) {
            snprintf(text[i], sizeof text[i], "w%03u", i);
            words[i]   = (cmif_str){text[i], i ? 4 : 0};
            prior[i]   = 1;
            row_of[i]  = i % 2;
            outputs[i] = i;
        }
        const uint32_t at = n % 2 ? n - 1 : sample_below(n), other = (at + 1) % n;
        const uint64_t total = (uint64_t) 1 << 32, each = total / n;
        for (uint32_t j = 0; j < n; j++) {
            weights[0][j] = weights[1][j] = each + (j == other) * (total - n * each);
        }
        weights[0][at] -= each / 2; /* a ratio of about 2 there, of about 3/2 where it goes */
        weights[0][other] += each / 2;
        cmif_table      *table = table_of(&(cmif_table_draft){
                 .claim         = {.mechanism   = CMIF_MECHANISM_RNM,
                                   .adjacency   = CMIF_ADJACENT_ANY,
                                   .k           = n,
                                   .epsilon_num = 1,
                                   .epsilon_den = 1},
                 .weight_bits   = 32,
                 .word_count    = n,
                 .row_count     = 2,
                 .block_count   = 1,
                 .words         = words,
                 .prior         = prior,
                 .row_of        = row_of,
                 .block_of      = (uint32_t[]){0, 0},
                 .block_at      = (uint32_t[]){0, n},
                 .outputs       = outputs,
                 .weights       = &weights[0][0],
                 .weight_stride = MOST,
        });
        cmif_certificate c;
        cmif_table_certify(table, CMIF_ADJACENT_ANY, &c);
        CHECK(c.output == at && c.word_high == 1 && c.word_low == 0 && c.high == each && c.low == each - each / 2);
        cmif_table_free(table);
    }
}

static void outputs_that_differ_have_a_delta(void)
{
    /* word 0: {0, 1}; word 1: {1, 2}; word 2 as word 0 */
    static const cmif_str words[] = {{"", 0}, {"a", 1}, {"b", 1}};
    const uint64_t        total   = (uint64_t) 1 << 32;
    cmif_table_draft      d       = {
                   .claim         = {.mechanism = CMIF_MECHANISM_PAPER, .k = 2, .epsilon_num = 1, .epsilon_den = 1},
                   .weight_bits   = 32,
                   .word_count    = 3,
                   .row_count     = 3,
                   .block_count   = 2,
                   .words         = words,
                   .prior         = (uint32_t[]){1, 1, 1},
                   .block_of      = (uint32_t[]){0, 1, 0},
                   .block_at      = (uint32_t[]){0, 2, 5},
                   .outputs       = (uint32_t[]){0, 1, 0, 1, 2},
                   .weights       = (uint64_t[]){total - 7, 7, 0, total - 10, 4, 6, total - 8, 8, 0},
                   .weight_stride = 3,
    };
    cmif_table      *table = table_of(&d);
    cmif_certificate c;
    for (int i = 0; i < 2; i++) { /* where nothing is claimed the loss is told over any two words */
        cmif_table_certify(table, i ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_NONE, &c);
        CHECK(!c.pure && c.word_high == 1 && c.word_low == 0 && c.output == 2 && c.high == 6 && c.low == 0);
        CHECK(c.delta_num == 6 && c.epsilon_micro == UINT64_MAX && c.alone == 0);
    }
    cmif_table_certify(table, CMIF_ADJACENT_BLOCK, &c);
    CHECK(c.pure && c.high == 8 && c.low == 7 && c.word_high == 2 && c.word_low == 0 && c.output == 1 && c.alone == 1);
    cmif_table_free(table);

    cmif_err err      = {0};
    d.claim.adjacency = CMIF_ADJACENT_BLOCK; /* per-word neighbours sold with a claim that is about nobody */
    CHECK(cmif_table_write(&d, path, &err) == CMIF_E_TRUST);
    CHECK(strstr(err.text, "word 1 is alone in its block and has 3 outputs"));
    d.claim.adjacency = CMIF_ADJACENT_ANY;
    CHECK(cmif_table_write(&d, path, &err) == CMIF_E_TRUST);
    CHECK(strstr(err.text, "word 1 gives output 2 with weight 6, word 0 never does; delta is 6 of 2^32"));
}

/* ---- tables that lose more than they claim ---- */

static void a_corruption_that_loses_more_is_refused(void)
{
    static sample s;
    int           raised = 0, kept = 0;
    for (int i = 0; raised < 10000 && i < 2000; i++) {
        const bool any = i % 2;
        sample_make(&s, any);
        cmif_table            *table = table_of(&s.draft);
        const cmif_certificate book  = by_the_book(table, any);
        const uint64_t         micro = cmif_loss_micro(book.high, book.low);
        cmif_table_free(table);
        if (micro == UINT64_MAX) {
            continue;
        }
        sample_claim(&s.draft.claim, any ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_BLOCK, micro);
        size_t             size  = 0;
        uint8_t           *bytes = bytes_of(&s.draft, &size);
        const size_t       width = s.draft.weight_bits == 32 ? 4 : 8, stride = sample_get(bytes, AT_STRIDE, 4);
        const table_layout l =
            table_lay_out(&(cmif_table){.weight_bits  = s.draft.weight_bits,
                                        .word_count   = s.draft.word_count,
                                        .row_count    = s.draft.row_count,
                                        .block_count  = s.draft.block_count,
                                        .output_total = s.block_at[s.draft.block_count],
                                        .stride       = (uint32_t) stride},
                          (uint32_t) sample_get(bytes, AT_TEXT_SIZE, 4), sample_get(bytes, AT_ROWS_SHARED, 4) != 0);
        CHECK(l.end == size);
        for (int change = 0; change < 30; change++) {
            const uint32_t row = sample_below(s.draft.row_count), block = s.block_of[row];
            const uint32_t n = s.block_at[block + 1] - s.block_at[block];
            if (n < 2) {
                continue;
            }
            /* move one threshold between its neighbours: one weight grows, the next one shrinks, the sum stays */
            const uint32_t j   = sample_below(n - 1);
            const size_t   at  = l.thresholds + (row * stride + j) * width;
            const uint64_t was = sample_get(bytes, at, width), last = ((uint64_t) 1 << s.draft.weight_bits) - 1;
            const uint64_t least = j ? sample_get(bytes, at - width, width) + 1 : 0;
            const uint64_t most  = (j + 2 < n ? sample_get(bytes, at + width, width) : last) - 1;
            const uint64_t now   = sample_below(4) ? least + sample_random() % (most - least + 1) : was + (was < most);
            sample_put(bytes, at, now, width);
            sample_seal(bytes, size);

            cmif_table      *open = NULL;
            cmif_certificate c    = {0};
            cmif_err         err  = {0};
            const cmif_code  rc   = cmif_table_open_memory(bytes, size, &open, &c, &err);
            /* the book needs a table: make the same one without a claim */
            uint8_t *unclaimed = aligned_alloc(64, (size_t) table_padded(size));
            memcpy(unclaimed, bytes, size);
            sample_put(unclaimed, AT_ADJACENCY, CMIF_ADJACENT_NONE, 4);
            sample_seal(unclaimed, size);
            cmif_table *same = NULL;
            CHECK(cmif_table_open_memory(unclaimed, size, &same, NULL, NULL) == CMIF_OK);
            const cmif_certificate true_loss = by_the_book(same, any);
            const long double      loss      = logl((long double) true_loss.high) - logl((long double) true_loss.low);
            if (fabsl(loss - (long double) micro * 1e-6L) > 1e-15L) {
                const bool more = loss > (long double) micro * 1e-6L;
                CHECK(rc == (more ? CMIF_E_TRUST : CMIF_OK) && (open == NULL) == more);
                CHECK(c.high == true_loss.high && c.low == true_loss.low && c.word_high == true_loss.word_high);
                if (more) {
                    char figure[64];
                    snprintf(figure, sizeof figure, "exact loss is %llu.%06llu",
                             (unsigned long long) c.epsilon_micro / 1000000,
                             (unsigned long long) c.epsilon_micro % 1000000);
                    CHECK(strstr(err.text, c.epsilon_micro == UINT64_MAX ? "exact loss is more than 32" : figure));
                }
                raised += more;
                kept += !more;
            }
            cmif_table_free(same);
            cmif_table_free(open);
            free(unclaimed);
            sample_put(bytes, at, was, width);
        }
        free(bytes);
    }
    printf("       %d corruptions that lose more: all refused; %d that do not: all opened\n", raised, kept);
    CHECK(raised >= 10000 && kept >= 1000);
}

/* P(argmax = 0) of Laplace noise of scale 1 on scores (q0, q, ..., q) of k candidates. */
static double laplace_first(double shift, int k)
{
    const int n     = 400000;
    double    total = 0;
    for (int i = 0; i <= n; i++) { /* trapezoids over [-40, 40] */
        const double t = -40 + 80.0 * i / n, x = t + shift;
        const double below = x < 0 ? .5 * exp(x) : 1 - .5 * exp(-x);
        total += (i == 0 || i == n ? .5 : 1) * .5 * exp(-fabs(t)) * pow(below, k - 1);
    }
    return total * 80 / n;
}

/* Laplace noise of scale Delta/epsilon is not epsilon: losses of the research note, section 2.1. */
static void laplace_at_half_the_scale_is_refused(void)
{
    static const struct {
        int         k;
        const char *loss;
    } cases[] = {{2, "0.9648"}, {3, "1.4245"}, {5, "1.75895"}, {20, "1.9953"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint32_t k = (uint32_t) cases[i].k;
        static char    text[24][4];
        cmif_str       words[24];
        uint32_t       prior[24], row_of[24], outputs[24];
        uint64_t       weights[3][24] = {{(uint64_t) 1 << 32}};
        for (uint32_t w = 0; w <= k; w++) {
            snprintf(text[w], sizeof text[w], "w%02u", w);
            words[w]   = (cmif_str){text[w], w ? 3 : 0};
            prior[w]   = 1;
            outputs[w] = w;
            row_of[w]  = w < 2 ? w : 2;
        }
        for (uint32_t r = 1; r < 3;
             r++) { /* word 1 scores 1 for itself and 0 for the rest; the others the other way round */
            weights[r][0] = (uint64_t) (laplace_first(r == 1 ? 1 : -1, cases[i].k) * 4294967296.0);
            uint64_t left = ((uint64_t) 1 << 32) - weights[r][0];
            for (uint32_t j = 1; j < k; j++) {
                weights[r][j] = left / (k - j);
                left -= weights[r][j];
            }
        }
        cmif_table_draft d = {
            .claim         = {.mechanism   = CMIF_MECHANISM_RNM,
                              .noise       = CMIF_NOISE_LAPLACE,
                              .adjacency   = CMIF_ADJACENT_BLOCK,
                              .k           = k,
                              .epsilon_num = 24,
                              .epsilon_den = 25},
            .weight_bits   = 32,
            .word_count    = k + 1,
            .row_count     = 3,
            .block_count   = 2,
            .words         = words,
            .prior         = prior,
            .row_of        = k == 2 ? NULL : row_of,
            .block_of      = (uint32_t[]){0, 1, 1},
            .block_at      = (uint32_t[]){0, 1, k + 1},
            .outputs       = outputs,
            .weights       = &weights[0][0],
            .weight_stride = 24,
        };
        cmif_err err = {0};
        CHECK(cmif_table_write(&d, path, &err) == CMIF_E_TRUST && strstr(err.text, cases[i].loss));
        d.claim.epsilon_num = d.claim.epsilon_den = 1;
        CHECK(cmif_table_write(&d, path, &err) == (k == 2 ? CMIF_OK : CMIF_E_TRUST));
        CHECK(k == 2 || strstr(err.text, cases[i].loss));
        if (!strstr(err.text, cases[i].loss)) {
            fprintf(stderr, "%s\n", err.text);
        }
        d.claim.epsilon_num = 2;
        CHECK(cmif_table_write(&d, path, &err) == CMIF_OK);
    }
}

/* ---- many draws ---- */

/* Two words, randomized response: the worst that epsilon allows. */
static cmif_table *response(uint64_t high, cmif_adjacency adjacency)
{
    static const cmif_str words[] = {{"", 0}, {"a", 1}};
    const uint64_t        total   = (uint64_t) 1 << 63;
    return table_of(&(cmif_table_draft){
        .claim = {.mechanism = CMIF_MECHANISM_KRR, .adjacency = adjacency, .k = 2, .epsilon_num = 32, .epsilon_den = 1},
        .weight_bits   = 63,
        .word_count    = 2,
        .row_count     = 2,
        .block_count   = 1,
        .words         = words,
        .prior         = (uint32_t[]){1, 1},
        .block_of      = (uint32_t[]){0, 0},
        .block_at      = (uint32_t[]){0, 2},
        .outputs       = (uint32_t[]){0, 1},
        .weights       = (uint64_t[]){high, total - high, total - high, high},
        .weight_stride = 2,
    });
}

/* delta at epsilon after n randomized responses that are true with probability p: a sum over the number of true ones.
 */
static double response_delta(int n, double p, double epsilon)
{
    double    total = 0, loss = log(p / (1 - p));
    const int middle = (int) (n * p), wide = 50 + (int) (12 * sqrt(n)); /* what lies farther out is below 1e-60 */
    for (int k = middle > wide ? middle - wide : 0; k <= n && k <= middle + wide; k++) {
        const double l = (2. * k - n) * loss;
        if (l > epsilon) {
            total += exp(lgamma(n + 1.) - lgamma(k + 1.) - lgamma(n - k + 1.) + k * log(p) + (n - k) * log1p(-p)) *
                     -expm1(epsilon - l);
        }
    }
    return total;
}

static void randomized_response_composes_as_known(void)
{
    static const double ps[] = {.52, .7310585786, .95}, deltas[] = {1e-12, 1e-6, 1e-2, .3};
    static const int    ns[] = {1, 2, 3, 10, 100, 1000, 300000};
    for (size_t i = 0; i < 3; i++) {
        cmif_table *table = response((uint64_t) (ps[i] * 0x1p63), i == 1 ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_BLOCK);
        cmif_certificate c;
        cmif_table_certify(table, CMIF_ADJACENT_BLOCK, &c);
        for (size_t d = 0; d < 4; d++) {
            double before = 0;
            for (size_t n = 0; n < sizeof ns / sizeof *ns; n++) {
                double epsilon = -1;
                CHECK(cmif_table_compose(table, (uint32_t) ns[n], deltas[d], &epsilon, NULL) == CMIF_OK);
                double low = 0, high = ns[n] * (double) c.epsilon_micro * 1e-6;
                CHECK(epsilon >= before && epsilon <= high);
                before = epsilon;
                for (int step = 0; step < 100; step++) {
                    const double middle                                                 = (low + high) / 2;
                    *(response_delta(ns[n], ps[i], middle) <= deltas[d] ? &high : &low) = middle;
                }
                /* no less than the truth, and close to it: 1e-4 of it for the dots, 1e-6 a draw for the rounding to
                 * millionths */
                const bool close = epsilon >= high * (1 - 1e-7) - 1e-7 && epsilon <= high * (1 + 1e-4) + 2e-6 * ns[n];
                CHECK(close);
                if (!close) {
                    fprintf(stderr, "p %g, %d draws, delta %g: %.9f, exact %.9f\n", ps[i], ns[n], deltas[d], epsilon,
                            high);
                }
            }
        }
        cmif_table_free(table);
    }
}

/* Hockey-stick divergence of `draws` (1 to 3) draws from row a against row b, by all outcomes. */
static long double divergence(const cmif_table *t, uint32_t a, uint32_t b, uint32_t n, int draws, double epsilon)
{
    long double total = 0, p[SAMPLE_OUTPUTS + 1], q[SAMPLE_OUTPUTS + 1];
    for (uint32_t j = 0; j < n; j++) {
        p[j] = ldexpl((long double) cmif_table_weight(t, a, j), -(int) t->weight_bits);
        q[j] = ldexpl((long double) cmif_table_weight(t, b, j), -(int) t->weight_bits);
    }
    for (uint32_t x = 0; x < n; x++) {
        for (uint32_t y = 0; y < (draws > 1 ? n : 1); y++) {
            for (uint32_t z = 0; z < (draws > 2 ? n : 1); z++) {
                const long double up   = p[x] * (draws > 1 ? p[y] : 1) * (draws > 2 ? p[z] : 1);
                const long double down = q[x] * (draws > 1 ? q[y] : 1) * (draws > 2 ? q[z] : 1);
                total += fmaxl(0, up - expl(epsilon) * down);
            }
        }
    }
    return total;
}

static void composition_bounds_every_pair(void)
{
    static sample       s;
    static const double deltas[] = {1e-9, 1e-3, .05, .3};
    int                 gained   = 0;
    for (int i = 0; i < 60; i++) {
        const bool any = i % 2;
        sample_make(&s, any);
        cmif_table      *table = table_of(&s.draft);
        cmif_certificate c;
        cmif_table_certify(table, any ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_BLOCK, &c);
        table->claim.adjacency = any ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_BLOCK;
        if (c.epsilon_micro == UINT64_MAX) {
            cmif_table_free(table);
            continue;
        }
        for (int draws = 1; draws <= 3; draws++) {
            double before = INFINITY;
            for (size_t d = 0; d < 4; d++) {
                double      epsilon = -1;
                long double worst   = 0;
                CHECK(cmif_table_compose(table, (uint32_t) draws, deltas[d], &epsilon, NULL) == CMIF_OK);
                CHECK(epsilon >= 0 && epsilon <= before && epsilon <= draws * (double) c.epsilon_micro * 1e-6);
                gained += epsilon < draws * (double) c.epsilon_micro * .99e-6;
                before = epsilon;
                for (uint32_t a = 0; a < table->row_count; a++) {
                    for (uint32_t b = 0; b < table->row_count; b++) {
                        const uint32_t block = table->block_of[a];
                        if (any || table->block_of[b] == block) {
                            worst = fmaxl(worst,
                                          divergence(table, a, b, table->block_at[block + 1] - table->block_at[block],
                                                     draws, epsilon));
                        }
                    }
                }
                CHECK(worst <= deltas[d] * (1 + 1e-9L));
            }
        }
        cmif_table_free(table);
    }
    CHECK(gained > 50);
}

/* So many rows that pairs are bounded by column extremes: still no pair is above, and the bound is of use. */
static void a_large_block_is_bounded(void)
{
    enum { ROWS = 700, OUTPUTS = 96 };
    static char     text[ROWS][8];
    static cmif_str words[ROWS];
    static uint32_t prior[ROWS], block_of[ROWS], outputs[OUTPUTS];
    static uint64_t weights[ROWS][OUTPUTS];
    static double   p[ROWS][OUTPUTS];
    for (uint32_t i = 0; i < ROWS; i++) {
        snprintf(text[i], sizeof text[i], "w%03u", i);
        words[i]      = (cmif_str){text[i], i ? 4 : 0};
        prior[i]      = 1;
        uint64_t left = (uint64_t) 1 << 32;
        for (uint32_t j = 0; j < OUTPUTS; j++) {
            outputs[j]          = j;
            const uint64_t fair = left / (OUTPUTS - j);
            weights[i][j]       = j + 1 < OUTPUTS ? fair - fair / 100 * sample_below(60) : left;
            p[i][j]             = ldexp((double) weights[i][j], -32);
            left -= weights[i][j];
        }
    }
    cmif_table         *table    = table_of(&(cmif_table_draft){
                   .claim         = {.mechanism   = CMIF_MECHANISM_RNM,
                                     .adjacency   = CMIF_ADJACENT_ANY,
                                     .k           = ROWS,
                                     .epsilon_num = 32,
                                     .epsilon_den = 1},
                   .weight_bits   = 32,
                   .word_count    = ROWS,
                   .row_count     = ROWS,
                   .block_count   = 1,
                   .words         = words,
                   .prior         = prior,
                   .block_of      = block_of,
                   .block_at      = (uint32_t[]){0, OUTPUTS},
                   .outputs       = outputs,
                   .weights       = &weights[0][0],
                   .weight_stride = OUTPUTS,
    });
    static const double deltas[] = {1e-6, .01, .1};
    for (size_t d = 0; d < 3; d++) {
        double           epsilon = -1, worst = 0;
        cmif_certificate c;
        cmif_table_certify(table, CMIF_ADJACENT_ANY, &c);
        CHECK(cmif_table_compose(table, 1, deltas[d], &epsilon, NULL) == CMIF_OK);
        const double g = exp(epsilon);
        for (size_t a = 0; a < ROWS; a++) {
            for (size_t b = 0; b < ROWS; b++) {
                double sum = 0;
                for (size_t j = 0; j < OUTPUTS; j++) {
                    sum += fmax(0, p[a][j] - g * p[b][j]);
                }
                worst = fmax(worst, sum);
            }
        }
        CHECK(worst <= deltas[d] && epsilon <= (double) c.epsilon_micro * 1e-6);
        CHECK(d < 1 || epsilon < (double) c.epsilon_micro * .95e-6);
    }
    cmif_table_free(table);
}

static void composition_refuses_what_it_cannot_say(void)
{
    cmif_table *table   = response((uint64_t) 3 << 61, CMIF_ADJACENT_BLOCK);
    double      epsilon = 7;
    CHECK(cmif_table_compose(table, 0, .1, &epsilon, NULL) == CMIF_E_RANGE);
    CHECK(cmif_table_compose(table, 1000001, .1, &epsilon, NULL) == CMIF_E_RANGE);
    CHECK(cmif_table_compose(table, 1, 0, &epsilon, NULL) == CMIF_E_RANGE);
    CHECK(cmif_table_compose(table, 1, 1, &epsilon, NULL) == CMIF_E_RANGE);
    CHECK(cmif_table_compose(table, 1, NAN, &epsilon, NULL) == CMIF_E_RANGE);
    table->claim.adjacency = CMIF_ADJACENT_NONE;
    CHECK(cmif_table_compose(table, 1, .1, &epsilon, NULL) == CMIF_E_RANGE && epsilon == 7);
    cmif_table_free(table);
    table = response((uint64_t) 1 << 62, CMIF_ADJACENT_BLOCK); /* both rows alike */
    CHECK(cmif_table_compose(table, 1000000, 1e-300, &epsilon, NULL) == CMIF_OK && epsilon == 0);
    cmif_table_free(table);
}

int main(void)
{
    snprintf(folder, sizeof folder, "%s/cmif-certify-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) {
        return check_skip("no folder for temporary files");
    }
    snprintf(path, sizeof path, "%s/t.cmifch", folder);
    RUN(ratios_are_compared_with_e_to_the_x_exactly);
    RUN(millionths_are_the_fewest);
    RUN(the_worst_pair_is_found);
    RUN(the_worst_output_is_found_wherever_it_is);
    RUN(outputs_that_differ_have_a_delta);
    RUN(a_corruption_that_loses_more_is_refused);
    RUN(laplace_at_half_the_scale_is_refused);
    RUN(randomized_response_composes_as_known);
    RUN(composition_bounds_every_pair);
    RUN(a_large_block_is_bounded);
    RUN(composition_refuses_what_it_cannot_say);
    unlink(path);
    rmdir(folder);
    return check_report();
}
