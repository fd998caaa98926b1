#include "blocks/blocks.h"

#include "blocks/items.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cmif_blocks_free(cmif_blocks *blocks)
{
    if (blocks) {
        free(blocks->block_of);
        free(blocks->medoid);
        free(blocks);
    }
}

void *cmif_items_array(size_t count, size_t size, cmif_err *err)
{
    void *array = calloc(count ? count : 1, size);
    if (!array) {
        (void) cmif_fail(err, CMIF_E_MEMORY, "blocks: no memory for %zu times %zu bytes", count, size);
    }
    return array;
}

uint32_t cmif_items_threads(uint32_t asked)
{
    long cores = asked ? (long) asked : sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > 256 ? 256 : (uint32_t) cores;
}

static double prior_of(const cmif_lexicon *lexicon, uint32_t id)
{
    return lexicon->prior[id] ? (double) lexicon->prior[id] : 1;
}

/* prior^(3/4): not pow(), because square roots have the same bits in every C library. */
static double weight_of(double prior)
{
    return sqrt(prior) * sqrt(sqrt(prior));
}

/* ---- items ---- */

typedef struct item_key {
    uint32_t word_class, prior, id;
} item_key;

static int item_before(const void *left, const void *right)
{
    const item_key *a = left, *b = right;
    if (a->word_class != b->word_class) {
        return a->word_class < b->word_class ? -1 : 1;
    }
    if (a->prior != b->prior) {
        return a->prior > b->prior ? -1 : 1;
    }
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Nobody is alone in a class: the word joins UNKNOWN, and a lone UNKNOWN the largest class. False: it is the only word.
 */
static bool join_lone_classes(item_key *keys, uint32_t count)
{
    uint32_t size[CMIF_CLASS_COUNT] = {0}, into[CMIF_CLASS_COUNT], largest = 0;

    for (uint32_t i = 0; i < count; i++) {
        size[keys[i].word_class]++;
    }
    for (uint32_t c = 0; c < CMIF_CLASS_COUNT; c++) {
        into[c] = c;
        if (size[c] == 1 && c != CMIF_CLASS_UNKNOWN) {
            into[c] = CMIF_CLASS_UNKNOWN;
            size[c] = 0;
            size[CMIF_CLASS_UNKNOWN]++;
        }
    }
    for (uint32_t c = 1; c < CMIF_CLASS_COUNT; c++) {
        largest = size[c] > size[largest] ? c : largest;
    }
    if (size[CMIF_CLASS_UNKNOWN] == 1) {
        if (size[largest] < 2) {
            return false;
        }
        for (uint32_t c = 0; c < CMIF_CLASS_COUNT; c++) {
            into[c] = into[c] == CMIF_CLASS_UNKNOWN ? largest : into[c];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        keys[i].word_class = into[keys[i].word_class];
    }
    return true;
}

/* The length of each row, 0 for a word without a vector. */
static cmif_code row_lengths(const cmif_vectors *vectors, const item_key *keys, uint32_t count, double *length,
                             cmif_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        const float *row = vectors->rows + (size_t) keys[i].id * vectors->width;
        double       sum = 0;
        for (uint32_t j = 0; j < vectors->width; j++) {
            sum += (double) row[j] * (double) row[j];
        }
        if (!isfinite(sum)) {
            return cmif_fail(err, CMIF_E_RANGE, "blocks: the vector of word %u has a number that is not finite",
                             (unsigned) keys[i].id);
        }
        length[i] = vectors->known[keys[i].id] ? sqrt(sum) : 0;
    }
    return CMIF_OK;
}

static void fill_rows(cmif_items *items, const cmif_vectors *vectors, const cmif_items_options *options,
                      const double *length)
{
    double scale = 1;

    if (!options->unit) {
        double longest = 0;
        int    exponent;
        for (uint32_t i = 0; i < items->count; i++) {
            longest = fmax(longest, length[i]);
        }
        (void) frexp(longest, &exponent);
        scale = ldexp(1, -exponent);
    }
    for (uint32_t i = 0; i < items->count; i++) {
        const float *from = vectors->rows + (size_t) items->id[i] * vectors->width;
        float       *row  = items->row + (size_t) i * items->stride;

        items->known[i] = length[i] > 0;
        if (!items->known[i]) {
            items->weight[i] = 0;
            continue;
        }
        for (uint32_t j = 0; j < vectors->width; j++) {
            row[j] = (float) (options->unit ? (double) from[j] / length[i] : (double) from[j] * scale);
        }
        if (options->valence && isfinite(options->valence[items->id[i]])) {
            row[vectors->width] = options->valence_weight * options->valence[items->id[i]] / 2;
        }
        for (uint32_t j = 0; j < items->stride; j++) {
            items->norm2[i] += (double) row[j] * (double) row[j];
        }
    }
}

/* Scaled over the whole lexicon, so that blocks of content words do not depend on whether others are protected too. */
static void fill_priors(cmif_items *items, const cmif_lexicon *lexicon)
{
    double pi_sum = 0, weight_sum = 0;

    for (uint32_t id = 1; id < lexicon->count; id++) {
        pi_sum += prior_of(lexicon, id);
        weight_sum += weight_of(prior_of(lexicon, id));
    }
    for (uint32_t i = 0; i < items->count; i++) {
        items->pi[i]     = prior_of(lexicon, items->id[i]) * 1000 / pi_sum;
        items->weight[i] = weight_of(prior_of(lexicon, items->id[i])) * 1000 / weight_sum;
    }
}

cmif_code cmif_items_init(cmif_items *items, const cmif_lexicon *lexicon, const cmif_vectors *vectors,
                          const cmif_items_options *options, cmif_err *err)
{
    cmif_code  rc     = CMIF_OK;
    cmif_items made   = {0};
    item_key  *keys   = NULL;
    double    *length = NULL;

    if (lexicon->count < 2) {
        rc = cmif_fail(err, CMIF_E_RANGE, "blocks: the lexicon has no words");
        goto done;
    }
    if (vectors->count != lexicon->count) {
        rc = cmif_fail(err, CMIF_E_RANGE, "blocks: %u vectors for %u words: they were made from another lexicon",
                       (unsigned) vectors->count, (unsigned) lexicon->count);
        goto done;
    }
    if (vectors->width == 0 || vectors->width > 1 << 20) {
        rc = cmif_fail(err, CMIF_E_RANGE, "blocks: vectors are %u wide, expected 1 to %d", (unsigned) vectors->width,
                       1 << 20);
        goto done;
    }
    rc   = CMIF_E_MEMORY;
    keys = cmif_items_array(lexicon->count, sizeof *keys, err);
    if (!keys) {
        goto done;
    }
    for (uint32_t id = 1; id < lexicon->count; id++) {
        uint32_t c = lexicon->word_class[id];
        if (c >= CMIF_CLASS_COUNT) {
            rc = cmif_fail(err, CMIF_E_RANGE, "blocks: word %u has class %u, the last one is %d", (unsigned) id,
                           (unsigned) c, CMIF_CLASS_COUNT - 1);
            goto done;
        }
        if (!options->pass || (c != CMIF_CLASS_PASS && c != CMIF_CLASS_NEGATION)) {
            keys[made.count++] = (item_key){options->by_class ? c : CMIF_CLASS_UNKNOWN, lexicon->prior[id], id};
        }
    }
    if (made.count == 1 || (options->by_class && !join_lone_classes(keys, made.count))) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "blocks: one word to protect, expected 2 at least: alone in its block it would be shown");
        goto done;
    }
    qsort(keys, made.count, sizeof *keys, item_before);

    made.stride     = (vectors->width + (options->valence != NULL) + CMIF_LANES - 1) / CMIF_LANES * CMIF_LANES;
    made.id         = cmif_items_array(made.count, sizeof *made.id, err);
    made.word_class = cmif_items_array(made.count, sizeof *made.word_class, err);
    made.known      = cmif_items_array(made.count, sizeof *made.known, err);
    made.row        = cmif_items_array(made.count, made.stride * sizeof *made.row, err);
    made.norm2      = cmif_items_array(made.count, sizeof *made.norm2, err);
    made.pi         = cmif_items_array(made.count, sizeof *made.pi, err);
    made.weight     = cmif_items_array(made.count, sizeof *made.weight, err);
    length          = cmif_items_array(made.count, sizeof *length, err);
    if (!made.id || !made.word_class || !made.known || !made.row || !made.norm2 || !made.pi || !made.weight ||
        !length) {
        goto done;
    }
    rc = row_lengths(vectors, keys, made.count, length, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t i = 0; i < made.count; i++) {
        made.id[i]         = keys[i].id;
        made.word_class[i] = (uint8_t) keys[i].word_class;
    }
    fill_priors(&made, lexicon);
    fill_rows(&made, vectors, options, length);
    *items = made;
    made   = (cmif_items){0};
done:
    cmif_items_wipe(&made);
    free(length);
    free(keys);
    return rc;
}

void cmif_items_wipe(cmif_items *items)
{
    free(items->id);
    free(items->word_class);
    free(items->known);
    free(items->row);
    free(items->norm2);
    free(items->pi);
    free(items->weight);
    *items = (cmif_items){0};
}

/* ---- the finished partition ---- */

/* The item nearest to the weighted mean of its block, for each block (UINT32_MAX: there is none): where no row is
 * known, the most frequent one. Ties go to the item that comes first; rude words do not count. */
static cmif_code find_medoids(const cmif_items *items, const cmif_lexicon *lexicon, const uint32_t *block_of,
                              uint32_t blocks, uint32_t *medoid, cmif_err *err)
{
    cmif_code rc       = CMIF_E_MEMORY;
    double   *sum      = cmif_items_array(blocks, items->stride * sizeof *sum, err);
    double   *mass     = cmif_items_array(blocks, sizeof *mass, err);
    double   *distance = cmif_items_array(blocks, sizeof *distance, err);

    if (!sum || !mass || !distance) {
        goto done;
    }
    for (uint32_t i = 0; i < items->count; i++) {
        const float *row = items->row + (size_t) i * items->stride;
        double      *to  = sum + (size_t) block_of[items->id[i]] * items->stride;
        mass[block_of[items->id[i]]] += items->weight[i];
        for (uint32_t j = 0; j < items->stride; j++) {
            to[j] += items->weight[i] * (double) row[j];
        }
    }
    for (uint32_t b = 0; b < blocks; b++) {
        medoid[b]   = UINT32_MAX;
        distance[b] = INFINITY;
    }
    for (uint32_t i = 0; i < items->count; i++) {
        const float  *row  = items->row + (size_t) i * items->stride;
        uint32_t      b    = block_of[items->id[i]];
        const double *from = sum + (size_t) b * items->stride;
        double        d    = 0;

        for (uint32_t j = 0; items->known[i] && j < items->stride; j++) {
            double gap = (double) row[j] - from[j] / mass[b];
            d += gap * gap;
        }
        if (!items->known[i]) {
            d = 1e300 / items->pi[i]; /* behind every known one; the most frequent of them first */
        }
        if (d < distance[b] && !cmif_word_is_rude(lexicon, items->id[i])) {
            distance[b] = d;
            medoid[b]   = items->id[i];
        }
    }
    rc = CMIF_OK;
done:
    free(sum);
    free(mass);
    free(distance);
    return rc;
}

cmif_code cmif_items_blocks(const cmif_items *items, const uint32_t *label, uint32_t labels,
                            const cmif_lexicon *lexicon, double score, cmif_blocks **out, cmif_err *err)
{
    cmif_code    rc     = CMIF_E_MEMORY;
    cmif_blocks *blocks = cmif_items_array(1, sizeof *blocks, err);
    uint32_t    *number = cmif_items_array(labels, sizeof *number, err);

    if (!blocks || !number) {
        goto done;
    }
    blocks->score    = score;
    blocks->block_of = cmif_items_array(lexicon->count, sizeof *blocks->block_of, err);
    if (!blocks->block_of) {
        goto done;
    }
    memset(blocks->block_of, 0xff, lexicon->count * sizeof *blocks->block_of);
    memset(number, 0xff, labels * sizeof *number);
    for (uint32_t i = 0; i < items->count; i++) {
        blocks->block_of[items->id[i]] = label[i];
    }
    for (uint32_t id = 0; id < lexicon->count; id++) { /* a block gets its number when its lowest word is met */
        uint32_t from = blocks->block_of[id];
        if (from == UINT32_MAX) {
            blocks->block_of[id] = blocks->count++;
            continue;
        }
        if (number[from] == UINT32_MAX) {
            number[from] = blocks->count++;
        }
        blocks->block_of[id] = number[from];
    }
    blocks->medoid = cmif_items_array(blocks->count, sizeof *blocks->medoid, err);
    if (!blocks->medoid) {
        goto done;
    }
    rc = find_medoids(items, lexicon, blocks->block_of, blocks->count, blocks->medoid, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t id = 0; id < lexicon->count; id++) {
        uint32_t *medoid = &blocks->medoid[blocks->block_of[id]];
        *medoid          = *medoid == UINT32_MAX ? id : *medoid;
    }
    *out   = blocks;
    blocks = NULL;
done:
    cmif_blocks_free(blocks);
    free(number);
    return rc;
}

/* ---- quality ---- */

typedef struct block_sums {
    uint32_t words, positive, negative;
    double   mass, most, entropy; /* entropy: sum of pi ln pi */
} block_sums;

static int double_before(const void *left, const void *right)
{
    double a = *(const double *) left, b = *(const double *) right;
    return a < b ? -1 : a > b;
}

cmif_code cmif_blocks_measure(const cmif_blocks *blocks, const cmif_lexicon *lexicon, const float *valence,
                              cmif_blocks_quality *out, cmif_err *err)
{
    static const double quantiles[] = {.05, .25, .5, .75, .95};
    cmif_code           rc          = CMIF_E_MEMORY;
    cmif_blocks_quality made        = {.blocks = blocks->count};
    block_sums         *sums        = cmif_items_array(blocks->count, sizeof *sums, err);
    double             *share       = cmif_items_array(blocks->count, sizeof *share, err);
    double             *size        = cmif_items_array(blocks->count, sizeof *size, err);
    size_t              count       = 0;
    double              mass = 0, most = 0, entropy = 0;

    if (!sums || !share || !size) {
        goto done;
    }
    for (uint32_t id = 0; id < lexicon->count; id++) {
        block_sums *b  = &sums[blocks->block_of[id]];
        double      pi = prior_of(lexicon, id);
        b->words++;
        b->mass += pi;
        b->entropy += pi * log(pi);
        b->most = fmax(b->most, pi);
        b->positive += valence && valence[id] > 1;
        b->negative += valence && valence[id] < -1;
    }
    for (uint32_t b = 0; b < blocks->count; b++) {
        if (sums[b].words < 2) {
            made.alone++;
            continue;
        }
        share[count]  = sums[b].most / sums[b].mass;
        size[count++] = sums[b].words;
        mass += sums[b].mass;
        most += sums[b].most;
        entropy += sums[b].mass * log(sums[b].mass) - sums[b].entropy;
        made.mixed_valence += sums[b].positive && sums[b].negative;
    }
    for (size_t e = 0; e < lexicon->antonym_count; e++) {
        const cmif_edge *edge = &lexicon->antonyms[e];
        made.antonyms_inside += edge->a < edge->b && blocks->block_of[edge->a] == blocks->block_of[edge->b];
    }
    if (count > 0) {
        qsort(share, count, sizeof *share, double_before);
        qsort(size, count, sizeof *size, double_before);
        made.smallest       = (uint32_t) size[0];
        made.median         = (uint32_t) size[(count - 1) / 2];
        made.largest        = (uint32_t) size[count - 1];
        made.attack_success = most / mass;
        made.entropy_words  = exp(entropy / mass);
        for (size_t q = 0; q < 5; q++) {
            made.share[q] = share[(size_t) (quantiles[q] * (double) (count - 1) + .5)];
        }
    }
    *out = made;
    rc   = CMIF_OK;
done:
    free(sums);
    free(share);
    free(size);
    return rc;
}
