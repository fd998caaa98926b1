#include "embed/bayes.h"

#include "base/bytes.h"
#include "dp/released_ids.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Weight of the posterior without context in the mixture, and of the text's share in the unigrams (sanitizer study,
 * section 8); the rest of a unigram is the lexicon's prior. */
#define PLAIN_PART 0.1
#define TEXT_PART 0.8

enum {
    KEPT_ROWS_MAX = 1 << 27
}; /* floats of rows of words that are kept: 512 MiB, of which only what is used exists */

/* Words have a second number here, their place: block by block, within a block ascending. So the words of a block are a
 * range of places, and the successors of a word that lie in a block are a range of its list. The end of a sentence is
 * the last place, in a block and with an output of its own. */
typedef struct source { /* a block that can give an output, and which of the block's outputs that is */
    uint32_t block, index;
} source;

typedef struct pair { /* a successor of a word, and its discounted share of them */
    uint32_t place;
    double   weight;
} pair;

struct cmif_bayes {
    const cmif_table *table;
    cmif_tokenizer   *tokenizer;
    cmif_embed       *embed;
    size_t            width, vocab;
    uint32_t          words; /* of the table: also the place, and the output, that is the end of a sentence */
    bool     spaces, prefix; /* a space counts for the tokenizer; it puts one in front of every text by itself */
    cmif_ids line_feed;

    cmif_ids  pieces;
    uint32_t *piece_at;  /* [words + 1] into pieces */
    uint32_t *member_at; /* [blocks + 2] first place of a block */
    uint32_t *members;   /* [words + 1] place -> word */
    uint32_t *source_at; /* [words + 2] into sources, by output */
    source   *sources;

    double   *prior; /* [words + 1] by place */
    bool      context;
    double   *share;   /* [words + 1] P(b), by place */
    double   *left;    /* [words + 1] what the discounts of a leave for any b, by place */
    uint32_t *pair_at; /* [words + 2] into pairs, by place */
    pair     *pairs;   /* ascending by place within a word */

    float  *rows;    /* [words][width] rows of words, where norms is not negative; NULL: too many to be kept */
    double *norms;   /* [words] */
    float  *row;     /* [width] scratch */
    double *sum;     /* [width] scratch */
    float **plain;   /* [words] rows of outputs without context, once made */
    float  *unknown; /* [width] once made */

    float *context_rows; /* of the last text: for indices from context_first on */
    size_t context_first, context_count;
};

/* ---- rows of words ---- */

/* Four sums side by side: as fixed an order as one, and four times as fast. */
static double norm_of(const double *row, size_t width)
{
    double sum[4] = {0};
    size_t i      = 0;
    for (; i + 4 <= width; i += 4) {
        for (size_t j = 0; j < 4; j++) {
            sum[j] += row[i + j] * row[i + j];
        }
    }
    for (; i < width; i++) {
        sum[0] += row[i] * row[i];
    }
    return sqrt((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void add_row(double *restrict sum, const float *restrict row, double weight, size_t width)
{
    size_t i = 0;
    for (; i + 8 <= width; i += 8) {
        for (size_t j = 0; j < 8; j++) { /* a fixed count, which the compiler turns into vectors */
            sum[i + j] += weight * (double) row[i + j];
        }
    }
    for (; i < width; i++) {
        sum[i] += weight * (double) row[i];
    }
}

/* The row of a word other than the unknown one: the mean of its pieces' rows. Returns its length; uses b->sum. */
static double make_row(cmif_bayes *b, uint32_t word, float *row)
{
    const uint32_t first = b->piece_at[word], end = b->piece_at[word + 1];
    memset(b->sum, 0, b->width * sizeof *b->sum);
    for (uint32_t i = first; i < end; i++) {
        cmif_embed_get(b->embed, (size_t) b->pieces.at[i], row);
        add_row(b->sum, row, 1.0 / (end - first), b->width);
    }
    for (size_t i = 0; i < b->width; i++) {
        row[i] = (float) b->sum[i];
    }
    return norm_of(b->sum, b->width);
}

/* z * (t / |z|)^(1/2): halfway, in the exponent, between the length of the mean and the mean of the lengths. */
static void finish_row(const double *sum, double length, size_t width, float *row)
{
    double norm  = norm_of(sum, width);
    double scale = norm > 0 ? sqrt(length / norm) : 0;
    for (size_t i = 0; i < width; i++) {
        row[i] = (float) (sum[i] * scale);
    }
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

/* The unknown word: a word that is not in the table is most like the rarer half of those that are. */
static cmif_code make_unknown(cmif_bayes *b, cmif_err *err)
{
    cmif_code rc    = CMIF_OK;
    size_t    count = b->words - 1, half = (count + 1) / 2;
    uint64_t *order = malloc((count ? count : 1) * sizeof *order);
    double   *sum = calloc(b->width, sizeof *sum), length = 0;
    float    *unknown = malloc(b->width * sizeof *unknown);
    if (!order || !sum || !unknown) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the row of the unknown word");
        goto done;
    }
    for (uint32_t word = 1; word < b->words; word++) {
        order[word - 1] = (uint64_t) b->table->prior[word] << 32 | word;
    }
    qsort(order, count, sizeof *order, ascending);
    for (size_t i = 0; i < half; i++) {
        length += make_row(b, (uint32_t) order[i], b->row) / (double) half;
        add_row(sum, b->row, 1.0 / (double) half, b->width);
    }
    finish_row(sum, length, b->width, unknown);
    b->unknown = unknown;
    unknown    = NULL;
done:
    free(order);
    free(sum);
    free(unknown);
    return rc;
}

/* The row of any word, and its length; good until the next call. */
static cmif_code word_row(cmif_bayes *b, uint32_t word, const float **row, double *norm, cmif_err *err)
{
    if (b->norms[word] < 0 && word == 0) {
        cmif_code rc = make_unknown(b, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        memset(b->sum, 0, b->width * sizeof *b->sum);
        add_row(b->sum, b->unknown, 1, b->width);
        b->norms[0] = norm_of(b->sum, b->width);
    }
    if (word == 0) {
        *row = b->unknown;
    } else if (!b->rows) {
        b->norms[word] = make_row(b, word, b->row);
        *row           = b->row;
    } else {
        float *kept = b->rows + (size_t) word * b->width;
        if (b->norms[word] < 0) {
            b->norms[word] = make_row(b, word, kept);
        }
        *row = kept;
    }
    *norm = b->norms[word];
    return CMIF_OK;
}

/* The mean row of candidates that have the probabilities p. */
static cmif_code mean_row(cmif_bayes *b, const uint32_t *place, const double *p, size_t count, float *out,
                          cmif_err *err)
{
    cmif_code rc     = CMIF_OK;
    double    length = 0, norm;
    double   *sum    = calloc(b->width, sizeof *sum);
    if (!sum) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %zu numbers", b->width);
    }
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        const float *row;
        rc = word_row(b, b->members[place[i]], &row, &norm, err);
        if (rc == CMIF_OK) {
            add_row(sum, row, p[i], b->width);
            length += p[i] * norm;
        }
    }
    if (rc == CMIF_OK) {
        finish_row(sum, length, b->width, out);
    }
    free(sum);
    return rc;
}

/* ---- the posterior ---- */

typedef struct lattice { /* a sequence of outputs, and what each may have been */
    size_t    count;
    uint32_t *outputs;
    size_t   *at;    /* [count + 1] first candidate of an output */
    uint32_t *place; /* of each candidate, */
    double   *e;     /* P(output | candidate), up to a factor, */
    double   *p;     /* posterior */
} lattice;

static void lattice_wipe(lattice *l)
{
    free(l->outputs);
    free(l->at);
    free(l->place);
    free(l->e);
    free(l->p);
    *l = (lattice){0};
}

static cmif_code check_output(const cmif_bayes *b, uint32_t output, cmif_err *err)
{
    if (output >= b->words || b->source_at[output] == b->source_at[output + 1]) {
        return cmif_fail(err, CMIF_E_RANGE, "word %u is not among those that the channel can give: another channel?",
                         output);
    }
    return CMIF_OK;
}

static size_t candidate_count(const cmif_bayes *b, uint32_t output)
{
    size_t count = 0;
    for (uint32_t s = b->source_at[output]; s < b->source_at[output + 1]; s++) {
        count += b->member_at[b->sources[s].block + 1] - b->member_at[b->sources[s].block];
    }
    return count;
}

static void put_candidates(const cmif_bayes *b, uint32_t output, uint32_t *place, double *e)
{
    for (uint32_t s = b->source_at[output]; s < b->source_at[output + 1]; s++) {
        const source from = b->sources[s];
        for (uint32_t x = b->member_at[from.block]; x < b->member_at[from.block + 1]; x++) {
            const uint32_t row = x < b->words ? cmif_table_row(b->table, b->members[x]) : 0;
            *place++           = x;
            *e++               = x < b->words ? (double) cmif_table_weight(b->table, row, from.index) : 1;
        }
    }
}

static void normalize(double *p, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += p[i];
    }
    for (size_t i = 0; i < count; i++) {
        p[i] /= sum; /* above 0: so is every prior, weight and share */
    }
}

/* The pairs of the word at `place` whose second word lies in a block. */
static const pair *pairs_into(const cmif_bayes *b, uint32_t place, uint32_t block, const pair **end)
{
    const uint32_t from = b->member_at[block], to = b->member_at[block + 1];
    const pair    *low = b->pairs + b->pair_at[place], *last = b->pairs + b->pair_at[place + 1];
    for (size_t size = (size_t) (last - low); size > 0;) {
        size_t half = size / 2;
        if (low[half].place < from) {
            low += half + 1;
            size -= half + 1;
        } else {
            size = half;
        }
    }
    const pair *high = low;
    while (high < last && high->place < to) {
        high++;
    }
    *end = high;
    return low;
}

/* All pairs that were seen between candidates of i and of i + 1: to(y) += from(x) weight(x, y) forward, from(x) +=
 * to(y) weight(x, y) backward. */
static void walk_pairs(const cmif_bayes *b, const lattice *l, size_t i, double *from, double *to, bool forward)
{
    const uint32_t next = l->outputs[i + 1];
    for (size_t x = 0; x < l->at[i + 1] - l->at[i]; x++) {
        double *y = to; /* of the block's first word */
        for (uint32_t s = b->source_at[next]; s < b->source_at[next + 1]; s++) {
            const uint32_t block = b->sources[s].block, first = b->member_at[block];
            const pair    *end, *p                            = pairs_into(b, l->place[l->at[i] + x], block, &end);
            for (; p < end; p++) {
                *(forward ? &y[p->place - first] : &from[x]) += (forward ? from[x] : y[p->place - first]) * p->weight;
            }
            y += b->member_at[block + 1] - first;
        }
    }
}

/* Each of the values of i's candidates times one of the numbers that are kept by place. */
static void weigh(const lattice *l, size_t i, double *values, const double *by_place)
{
    for (size_t x = 0; x < l->at[i + 1] - l->at[i]; x++) {
        values[x] *= by_place[l->place[l->at[i] + x]];
    }
}

/* The sum of what weigh would make. */
static double sum_of(const lattice *l, size_t i, const double *values, const double *by_place)
{
    double sum = 0;
    for (size_t x = 0; x < l->at[i + 1] - l->at[i]; x++) {
        sum += values[x] * by_place[l->place[l->at[i] + x]];
    }
    return sum;
}

static void fill(double *values, size_t count, double value)
{
    for (size_t i = 0; i < count; i++) {
        values[i] = value;
    }
}

static void times(double *values, const double *by, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        values[i] *= by[i];
    }
}

/* to(y) = sum_x from(x) P(y|x), x of i, y of i + 1. P(y|x) = weight(x, y) + left(x) P(y) is of rank one, but for the
 * few pairs that were seen. */
static void step_forward(const cmif_bayes *b, const lattice *l, size_t i, double *from, double *to)
{
    fill(to, l->at[i + 2] - l->at[i + 1], sum_of(l, i, from, b->left));
    weigh(l, i + 1, to, b->share);
    walk_pairs(b, l, i, from, to, true);
}

/* from(x) = sum_y P(y|x) to(y). */
static void step_backward(const cmif_bayes *b, const lattice *l, size_t i, double *from, double *to)
{
    fill(from, l->at[i + 1] - l->at[i], sum_of(l, i + 1, to, b->share));
    weigh(l, i, from, b->left);
    walk_pairs(b, l, i, from, to, false);
}

/* Forward-backward: mixes the posterior in context into l->p, where the one without is. */
static cmif_code smooth(const cmif_bayes *b, const lattice *l, cmif_err *err)
{
    const size_t *at = l->at, all = at[l->count];
    size_t        most = 0;
    for (size_t i = 0; i < l->count; i++) {
        most = at[i + 1] - at[i] > most ? at[i + 1] - at[i] : most;
    }
    double *memory = calloc(all + 2 * most, sizeof *memory);
    if (!memory) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the posterior over %zu words", all);
    }
    double *alpha = memory, *beta = alpha + all, *other = beta + most;

    alpha[0] = 1;
    for (size_t i = 1; i < l->count; i++) {
        const size_t count = at[i + 1] - at[i];
        step_forward(b, l, i - 1, alpha + at[i - 1], alpha + at[i]);
        times(alpha + at[i], l->e + at[i], count);
        normalize(alpha + at[i], count);
    }
    beta[0] = 1;
    for (size_t i = l->count - 1; i-- > 0;) {
        const size_t count = at[i + 1] - at[i];
        times(beta, l->e + at[i + 1], at[i + 2] - at[i + 1]);
        step_backward(b, l, i, other, beta);
        normalize(other, count);
        double *swap = beta;
        beta         = other;
        other        = swap;
        times(alpha + at[i], beta, count);
        normalize(alpha + at[i], count);
        for (size_t x = at[i]; x < at[i + 1]; x++) {
            l->p[x] = (1 - PLAIN_PART) * alpha[x] + PLAIN_PART * l->p[x];
        }
    }
    free(memory);
    return CMIF_OK;
}

/* The lattice of a sentence. In context the first and the last of its outputs are ends of sentences. */
static cmif_code make_lattice(const cmif_bayes *b, const cmif_released_word *words, size_t count, bool context,
                              lattice *l, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    size_t    size, all;
    if (!cmif_size_add(count, 3, &size)) {
        return cmif_fail(err, CMIF_E_RANGE, "%zu words are too many", count);
    }
    l->outputs = calloc(size, sizeof *l->outputs);
    l->at      = calloc(size, sizeof *l->at);
    if (!l->outputs || !l->at) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu words", count);
        goto done;
    }
    l->count      = count + 2 * context;
    l->outputs[0] = l->outputs[count + 1] = b->words;
    for (size_t i = 0; i < count; i++) {
        rc = check_output(b, words[i].output, err);
        if (rc != CMIF_OK) {
            goto done;
        }
        l->outputs[i + context] = words[i].output;
    }
    for (size_t i = 0; i < l->count; i++) {
        l->at[i + 1] = l->at[i] + candidate_count(b, l->outputs[i]);
    }
    all      = l->at[l->count] + 1;
    l->place = malloc(all * sizeof *l->place);
    l->e     = malloc(all * sizeof *l->e);
    l->p     = malloc(all * sizeof *l->p);
    if (!l->place || !l->e || !l->p) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the posterior over %zu words", all);
        goto done;
    }
    for (size_t i = 0; i < l->count; i++) {
        const size_t from = l->at[i], n = l->at[i + 1] - from;
        put_candidates(b, l->outputs[i], l->place + from, l->e + from);
        memcpy(l->p + from, l->e + from, n * sizeof *l->p);
        weigh(l, i, l->p + from, b->prior);
        normalize(l->p + from, n);
    }
    rc = context ? smooth(b, l, err) : CMIF_OK;
done:
    if (rc != CMIF_OK) {
        lattice_wipe(l);
    }
    return rc;
}

cmif_code cmif_bayes_posterior(const cmif_bayes *b, const cmif_released_word *words, size_t count, double **p,
                               size_t **at, cmif_err *err)
{
    lattice   l  = {0};
    cmif_code rc = make_lattice(b, words, count, b->context, &l, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (b->context) { /* without the ends, which have one candidate each */
        memmove(l.p, l.p + 1, l.at[count + 1] * sizeof *l.p);
        for (size_t i = 0; i <= count; i++) {
            l.at[i] = l.at[i + 1] - 1;
        }
    }
    *p   = l.p;
    *at  = l.at;
    l.p  = NULL;
    l.at = NULL;
    lattice_wipe(&l);
    return CMIF_OK;
}

static cmif_code plain_row(cmif_bayes *b, uint32_t output, const float **out, cmif_err *err)
{
    cmif_released_word word = {.output = output};
    lattice            l    = {0};
    if (output < b->words && b->plain[output]) {
        *out = b->plain[output];
        return CMIF_OK;
    }
    float    *row = malloc(b->width * sizeof *row);
    cmif_code rc  = row ? make_lattice(b, &word, 1, false, &l, err)
                        : cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %zu numbers", b->width);
    rc            = rc == CMIF_OK ? mean_row(b, l.place, l.p, l.at[1], row, err) : rc;
    if (rc == CMIF_OK) {
        *out             = row;
        b->plain[output] = row;
        row              = NULL;
    }
    lattice_wipe(&l);
    free(row);
    return rc;
}

cmif_code cmif_bayes_row(cmif_bayes *b, uint32_t output, float *row, cmif_err *err)
{
    const float *made = NULL;
    cmif_code    rc   = plain_row(b, output, &made, err);
    if (rc == CMIF_OK) {
        memcpy(row, made, b->width * sizeof *row);
    }
    return rc;
}

/* What cmif_embed asks for ids beyond the vocabulary: outputs without context come first, then the last text's own
 * rows. */
static bool give_row(void *context, size_t index, float *row)
{
    cmif_bayes *b = context;
    if (index < b->words) {
        return cmif_bayes_row(b, (uint32_t) index, row, NULL) == CMIF_OK;
    }
    if (index < b->context_first || index - b->context_first >= b->context_count) {
        return false;
    }
    memcpy(row, b->context_rows + (index - b->context_first) * b->width, b->width * sizeof *row);
    return true;
}

/* ---- making one ---- */

static void *new_array(size_t count, size_t size)
{
    return calloc(count ? count : 1, size);
}

static cmif_code index_table(cmif_bayes *b, uint32_t *place_of, cmif_err *err)
{
    const cmif_table *t = b->table;
    b->member_at        = new_array((size_t) t->block_count + 2, sizeof *b->member_at);
    b->members          = new_array((size_t) b->words + 1, sizeof *b->members);
    b->source_at        = new_array((size_t) b->words + 2, sizeof *b->source_at);
    b->sources          = new_array((size_t) t->output_total + 1, sizeof *b->sources);
    b->prior            = new_array((size_t) b->words + 1, sizeof *b->prior);
    uint32_t *next      = new_array((size_t) t->block_count + 1, sizeof *next);
    uint32_t *put       = new_array((size_t) b->words + 1, sizeof *put);
    if (!b->member_at || !b->members || !b->source_at || !b->sources || !b->prior || !next || !put) {
        free(next);
        free(put);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the words of %u blocks", t->block_count);
    }
    for (uint32_t word = 0; word < b->words; word++) {
        b->member_at[cmif_table_block(t, word) + 1]++;
    }
    for (uint32_t block = 0; block < t->block_count; block++) {
        b->member_at[block + 1] += b->member_at[block];
        next[block] = b->member_at[block];
    }
    for (uint32_t word = 0; word < b->words; word++) {
        place_of[word]             = next[cmif_table_block(t, word)]++;
        b->members[place_of[word]] = word;
        b->prior[place_of[word]]   = t->prior[word];
    }
    b->member_at[t->block_count + 1] = b->words + 1; /* the end of a sentence */
    b->members[b->words] = place_of[b->words] = b->words;
    b->prior[b->words]                        = 1;

    for (uint32_t i = 0; i < t->output_total; i++) {
        b->source_at[t->outputs[i] + 1]++;
    }
    for (uint32_t word = 0; word < b->words; word++) {
        b->source_at[word + 1] += b->source_at[word];
        put[word] = b->source_at[word];
    }
    for (uint32_t block = 0; block < t->block_count; block++) {
        for (uint32_t i = t->block_at[block]; i < t->block_at[block + 1]; i++) {
            b->sources[put[t->outputs[i]]++] = (source){block, i - t->block_at[block]};
        }
    }
    b->source_at[b->words + 1]  = t->output_total + 1;
    b->sources[t->output_total] = (source){t->block_count, 0};
    free(next);
    free(put);
    return CMIF_OK;
}

/* Shares, counts and pairs by place. The pairs of each word get into order by going over their second words in order.
 */
static cmif_code index_lm(cmif_bayes *b, const cmif_lm *lm, const uint32_t *place_of, cmif_err *err)
{
    const size_t states = (size_t) b->words + 1, pairs = lm->first[states];
    cmif_code    rc     = CMIF_OK;
    double       priors = 0, discount[4];
    b->share            = new_array(states, sizeof *b->share);
    b->left             = new_array(states, sizeof *b->left);
    b->pair_at          = new_array(states + 1, sizeof *b->pair_at);
    b->pairs            = new_array(pairs, sizeof *b->pairs);
    uint32_t *column_at = new_array(states + 1, sizeof *column_at);
    uint32_t *next      = new_array(states, sizeof *next);
    pair     *columns   = new_array(pairs, sizeof *columns); /* by second word: the first word's place, and the count */
    if (!b->share || !b->left || !b->pair_at || !b->pairs || !column_at || !next || !columns) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu pairs of words", pairs);
        goto done;
    }
    cmif_lm_discounts(lm, discount);
    for (uint32_t word = 0; word < b->words; word++) {
        priors += b->table->prior[word];
    }
    for (uint32_t a = 0; a < states; a++) {
        const uint32_t place = place_of[a];
        double         count = 0, off = 0;
        for (uint32_t i = lm->first[a]; i < lm->first[a + 1]; i++) {
            count += lm->counts[i];
            off += discount[lm->counts[i] < 3 ? lm->counts[i] : 3];
            column_at[place_of[lm->second[i]] + 1]++;
        }
        b->share[place] = TEXT_PART * lm->unigrams[a] / (double) lm->total;
        b->share[place] += a < b->words ? (1 - TEXT_PART) * b->table->prior[a] / priors : 0;
        b->left[place] = count > 0 ? off / count : 1;

        b->pair_at[place + 1] = lm->first[a + 1] - lm->first[a];
    }
    for (size_t i = 0; i < states; i++) {
        column_at[i + 1] += column_at[i];
        b->pair_at[i + 1] += b->pair_at[i];
        next[i] = column_at[i];
    }
    for (uint32_t a = 0; a < states; a++) {
        double count = 0;
        for (uint32_t i = lm->first[a]; i < lm->first[a + 1]; i++) {
            count += lm->counts[i];
        }
        for (uint32_t i = lm->first[a]; i < lm->first[a + 1]; i++) {
            const double seen                        = lm->counts[i] - discount[lm->counts[i] < 3 ? lm->counts[i] : 3];
            columns[next[place_of[lm->second[i]]]++] = (pair){place_of[a], seen / count};
        }
    }
    memcpy(next, b->pair_at, states * sizeof *next);
    for (uint32_t place = 0; place < states; place++) {
        for (uint32_t i = column_at[place]; i < column_at[place + 1]; i++) {
            b->pairs[next[columns[i].place]++] = (pair){place, columns[i].weight};
        }
    }
    b->context = true;
done:
    free(column_at);
    free(next);
    free(columns);
    return rc;
}

static cmif_code encode_literal(cmif_tokenizer *tokenizer, const char *text, size_t size, cmif_ids *ids, cmif_err *err)
{
    cmif_part part = {.literal = {text, size}};
    return cmif_tokenizer_encode(tokenizer, &part, 1, ids, err);
}

/* How the tokenizer treats spaces, found by trying: none has to be told apart by name. */
static cmif_code try_spaces(cmif_bayes *b, cmif_err *err)
{
    cmif_ids  plain = {0}, spaced = {0};
    char      text[512];
    cmif_code rc = encode_literal(b->tokenizer, "a", 1, &plain, err);
    rc           = rc == CMIF_OK ? encode_literal(b->tokenizer, " a", 2, &spaced, err) : rc;
    rc           = rc == CMIF_OK ? encode_literal(b->tokenizer, "\n", 1, &b->line_feed, err) : rc;
    if (rc == CMIF_OK) {
        b->spaces = plain.count != spaced.count ||
                    (plain.count && memcmp(plain.at, spaced.at, plain.count * sizeof *plain.at) != 0);
        b->prefix = b->spaces && plain.count &&
                    cmif_tokenizer_decode(b->tokenizer, plain.at[0], false, text, sizeof text) > 0 && text[0] == ' ';
    }
    cmif_ids_free(&plain);
    cmif_ids_free(&spaced);
    return rc;
}

/* The pieces of every word but the empty one, as it stands after a space. */
static cmif_code index_pieces(cmif_bayes *b, cmif_err *err)
{
    char      text[1 + CMIF_TABLE_WORD_SIZE_MAX] = " ";
    cmif_code rc                                 = try_spaces(b, err);
    b->piece_at = rc == CMIF_OK ? new_array((size_t) b->words + 1, sizeof *b->piece_at) : NULL;
    if (rc == CMIF_OK && !b->piece_at) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the pieces of %u words", b->words);
    }
    for (uint32_t word = 1; rc == CMIF_OK && word < b->words; word++) {
        const cmif_str s     = cmif_table_word(b->table, word);
        const bool     space = b->spaces && !b->prefix;
        for (size_t i = 0; i < s.size; i++) { /* as a literal it could be a special token; a word has no such letters */
            if (strchr("<>[]|", s.data[i])) {
                return cmif_fail(err, CMIF_E_FORMAT,
                                 "word %u of the channel has '%c' in it, as markup has: no rows for it", word,
                                 s.data[i]);
            }
        }
        memcpy(text + 1, s.data, s.size < CMIF_TABLE_WORD_SIZE_MAX ? s.size : CMIF_TABLE_WORD_SIZE_MAX);
        rc                    = encode_literal(b->tokenizer, space ? text : text + 1, s.size + space, &b->pieces, err);
        b->piece_at[word + 1] = (uint32_t) b->pieces.count; /* at most 2^20 words of 65 pieces */
    }
    for (size_t i = 0; rc == CMIF_OK && i < b->pieces.count; i++) {
        if ((size_t) b->pieces.at[i] >= b->vocab) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "the tokenizer has a token %d, the table of rows only %zu rows",
                           b->pieces.at[i], b->vocab);
        }
    }
    return rc;
}

cmif_code cmif_bayes_new(const cmif_table *table, const cmif_lm *lm, cmif_tokenizer *tokenizer, cmif_embed *embed,
                         cmif_bayes **out, cmif_err *err)
{
    cmif_code   rc       = CMIF_OK;
    uint32_t   *place_of = NULL;
    cmif_bayes *b        = NULL;
    if (lm && (lm->words != table->word_count ||
               memcmp(lm->lexicon_hash, table->claim.lexicon_hash, sizeof lm->lexicon_hash) != 0)) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the language model is over another lexicon (%u words, hash %02x%02x...) than the channel (%u "
                         "words, hash %02x%02x...): build both from one",
                         lm->words, lm->lexicon_hash[0], lm->lexicon_hash[1], table->word_count,
                         table->claim.lexicon_hash[0], table->claim.lexicon_hash[1]);
    }
    b        = calloc(1, sizeof *b);
    place_of = new_array((size_t) table->word_count + 1, sizeof *place_of);
    if (!b || !place_of) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for rows of %u words", table->word_count);
        goto done;
    }
    b->table         = table;
    b->tokenizer     = tokenizer;
    b->embed         = embed;
    b->width         = cmif_embed_width(embed);
    b->vocab         = cmif_embed_vocab(embed);
    b->words         = table->word_count;
    b->context_first = b->words;
    if (b->vocab > INT32_MAX - CMIF_TABLE_WORDS_MAX - (1 << 20)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a vocabulary of %zu leaves no ids for rows of words", b->vocab);
        goto done;
    }
    size_t floats = (size_t) b->words * b->width;
    b->rows       = floats <= KEPT_ROWS_MAX ? calloc(floats, sizeof *b->rows) : NULL; /* works without, only slower */
    b->norms      = malloc(b->words * sizeof *b->norms);
    b->row        = malloc(b->width * sizeof *b->row);
    b->sum        = malloc(b->width * sizeof *b->sum);
    b->plain      = calloc(b->words, sizeof *b->plain);
    if (!b->norms || !b->row || !b->sum || !b->plain) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for rows of %u words", b->words);
        goto done;
    }
    fill(b->norms, b->words, -1);
    rc = index_table(b, place_of, err);
    rc = rc == CMIF_OK && lm ? index_lm(b, lm, place_of, err) : rc;
    rc = rc == CMIF_OK ? index_pieces(b, err) : rc;
    if (rc == CMIF_OK) {
        cmif_embed_set_more(embed, give_row, b);
        *out = b;
        b    = NULL;
    }
done:
    free(place_of);
    if (b) {
        b->embed = NULL; /* it does not know of us */
        cmif_bayes_free(b);
    }
    return rc;
}

void cmif_bayes_free(cmif_bayes *b)
{
    if (!b) {
        return;
    }
    if (b->embed) {
        cmif_embed_set_more(b->embed, NULL, NULL);
    }
    for (uint32_t i = 0; b->plain && i < b->words; i++) {
        free(b->plain[i]);
    }
    cmif_ids_free(&b->line_feed);
    cmif_ids_free(&b->pieces);
    free(b->piece_at);
    free(b->member_at);
    free(b->members);
    free(b->source_at);
    free(b->sources);
    free(b->prior);
    free(b->share);
    free(b->left);
    free(b->pair_at);
    free(b->pairs);
    free(b->rows);
    free(b->norms);
    free(b->row);
    free(b->sum);
    free(b->plain);
    free(b->unknown);
    free(b->context_rows);
    free(b);
}

/* ---- released text -> ids ---- */

/* Rows in context of all replaced words of a sentence. */
static cmif_code sentence_rows(cmif_bayes *b, const cmif_released_word *words, size_t count, float *rows, size_t *made,
                               cmif_err *err)
{
    lattice   l  = {0};
    cmif_code rc = make_lattice(b, words, count, true, &l, err);
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        if (!words[i].passed) {
            const size_t at = l.at[i + 1];
            rc              = mean_row(b, l.place + at, l.p + at, l.at[i + 2] - at, rows + (*made)++ * b->width, err);
        }
    }
    lattice_wipe(&l);
    return rc;
}

/* The rows of a whole text; *out owned by the caller. */
static cmif_code text_rows(cmif_bayes *b, const uint8_t *text, const cmif_released_word *words, size_t count,
                           size_t replaced, float **out, cmif_err *err)
{
    size_t    size = 0, made = 0;
    cmif_code rc   = CMIF_OK;
    float    *rows = NULL;
    if (!cmif_size_mul(replaced, b->width * sizeof *rows, &size) || !(rows = malloc(size ? size : 1))) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the rows of %zu words", replaced);
    }
    for (size_t from = 0, i = 0; rc == CMIF_OK && i < count; i++) {
        const uint32_t end = words[i].from + words[i].size;
        if (i + 1 == count || cmif_lm_ends_sentence(text + end, words[i + 1].from - end)) {
            rc   = sentence_rows(b, words + from, i + 1 - from, rows, &made, err);
            from = i + 1;
        }
    }
    if (rc == CMIF_OK) {
        *out = rows;
        rows = NULL;
    }
    free(rows);
    return rc;
}

/* The ids of text[from .. to), which has a replaced word before it unless it is at the start, and one behind it or not.
 */
static cmif_code put_gap(cmif_bayes *b, const cmif_released *text, size_t from, size_t to, bool word_behind,
                         cmif_ids *ids, cmif_err *err)
{
    size_t         size;
    const uint8_t *bytes = cmif_released_bytes(text, &size);
    if (b->spaces && word_behind && to > from && bytes[to - 1] == ' ') {
        to--; /* it belongs to the word, whose pieces begin with it */
    }
    if (from == to) {
        return CMIF_OK;
    }
    cmif_part parts[2] = {{.literal = {"\n", 1}}, {.text = text, .from = from, .size = to - from}};
    if (!b->prefix || from == 0) {
        return cmif_tokenizer_encode(b->tokenizer, parts + 1, 1, ids, err);
    }
    /* It would put a space in front: so let the text begin with a line feed, and take that away again. */
    cmif_ids     behind = {0};
    const size_t skip   = b->line_feed.count;
    cmif_code    rc     = cmif_tokenizer_encode(b->tokenizer, parts, 2, &behind, err);
    if (rc == CMIF_OK) {
        bool same = skip && behind.count >= skip && memcmp(behind.at, b->line_feed.at, skip * sizeof *behind.at) == 0;
        rc        = same ? cmif_ids_append(ids, behind.at + skip, behind.count - skip, err)
                         : cmif_tokenizer_encode(b->tokenizer, parts + 1, 1, ids, err);
    }
    cmif_ids_free(&behind);
    return rc;
}

static cmif_code check_words(const cmif_bayes *b, const cmif_released_word *words, size_t count, size_t text_size,
                             size_t *replaced, cmif_err *err)
{
    size_t at = 0;
    *replaced = 0;
    for (size_t i = 0; i < count; i++) {
        if (words[i].from < at || words[i].from > text_size || words[i].size > text_size - words[i].from) {
            return cmif_fail(err, CMIF_E_RANGE, "word %zu of a released text is not where it should be", i);
        }
        at = words[i].from + words[i].size;
        *replaced += !words[i].passed;
        cmif_code rc = check_output(b, words[i].output, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    return CMIF_OK;
}

cmif_code cmif_bayes_encode(cmif_bayes *b, const cmif_released *text, cmif_ids *ids, cmif_err *err)
{
    const size_t before = ids->count;
    size_t       size, count, replaced, at = 0;
    float       *rows = NULL;

    const uint8_t            *bytes = cmif_released_bytes(text, &size);
    const cmif_released_word *words = cmif_released_words(text, &count);
    cmif_code                 rc    = check_words(b, words, count, size, &replaced, err);
    if (rc == CMIF_OK && b->context) {
        rc = text_rows(b, bytes, words, count, replaced, &rows, err);
    }
    /* Ids of rows in context count up: a prefix of ids that a session remembers never means other rows. */
    const size_t most = (size_t) INT32_MAX - b->vocab;
    size_t       next = b->context_first + b->context_count;
    if (rc == CMIF_OK && replaced > most - b->words) {
        rc = cmif_fail(err, CMIF_E_RANGE, "%zu words in one text are too many", replaced);
    } else if (next > most - replaced) {
        next = b->words;
    }
    const size_t first = next;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        if (words[i].passed) {
            continue;
        }
        rc = put_gap(b, text, at, words[i].from, true, ids, err);
        if (rc == CMIF_OK) {
            int32_t id = (int32_t) (b->vocab + (b->context ? next++ : words[i].output));
            rc         = cmif_ids_append(ids, &id, 1, err);
        }
        at = words[i].from + words[i].size;
    }
    rc = rc == CMIF_OK ? put_gap(b, text, at, size, false, ids, err) : rc;
    if (rc != CMIF_OK) {
        cmif_ids_truncate(ids, before);
    } else if (b->context) {
        free(b->context_rows);
        b->context_rows  = rows;
        b->context_first = first;
        b->context_count = replaced;
        rows             = NULL;
    }
    free(rows);
    return rc;
}
