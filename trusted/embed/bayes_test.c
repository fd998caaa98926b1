#include "embed/bayes.h"

#include "base/check.h"
#include "base/check_memory.h"
#include "dp/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MODELS CMIF_ENGINE_SOURCE "/models"

/* ---- a laboratory: a table, a tokenizer, rows, a language model ---- */

static char     folder[] = "/tmp/cmif-bayes-XXXXXX", path[64];
static uint64_t state    = 1;

static uint32_t random_below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t) ((state >> 32) * n >> 32);
}

enum { WORDS_MAX = 1 << 14, NAME = 8 };

typedef struct lab {
    cmif_table     *table;
    cmif_gguf      *file, *rows;
    cmif_tokenizer *tokenizer;
    cmif_embed     *embed;
    cmif_lm        *lm;
    cmif_bayes     *bayes;
    size_t          width;
} lab;

typedef enum channel {
    RANDOM,     /* each word has a row of random weights over its block */
    GENERAL,    /* a block gives its first word, whatever was there */
    OVERLAPPING /* as RANDOM, and the words of the next block, too: a word may have come from two */
} channel;

/* A table of count words (the empty one included). names NULL: "aaaa", "aaab", ... Word w > 0 is in block[w], numbered
 * as they first appear; block 0 is the empty word's own. */
static void make_table(lab *l, uint32_t count, const char *const *names, const uint32_t *block, const uint32_t *prior,
                       channel kind)
{
    static char     made[WORDS_MAX][NAME];
    static cmif_str words[WORDS_MAX];
    static uint32_t block_of[WORDS_MAX], row_of[WORDS_MAX], at[WORDS_MAX + 1], size[WORDS_MAX], outputs[WORDS_MAX];
    const bool      general = kind == GENERAL;
    uint32_t        blocks = 0, most = 0, total = 0;
    memset(size, 0, sizeof size);
    for (uint32_t w = 0; w < count; w++) {
        for (uint32_t i = 0, n = w; i < 4; i++, n /= 26) {
            made[w][3 - i] = (char) ('a' + n % 26);
        }
        words[w] = w == 0 ? (cmif_str){0} : names ? (cmif_str){names[w], strlen(names[w])} : (cmif_str){made[w], 4};
        blocks   = block[w] >= blocks ? block[w] + 1 : blocks;
        size[block[w]]++;
    }
    for (uint32_t b = 0; b < blocks; b++) {
        at[b] = total;
        for (uint32_t w = 0, n = 0; w < count; w++) {
            bool next = kind == OVERLAPPING && b > 0 && block[w] == b % (blocks - 1) + 1;
            if (next || (block[w] == b && (!general || n++ == 0))) {
                outputs[total++] = w;
            }
        }
        most = total - at[b] > most ? total - at[b] : most;
    }
    at[blocks]        = total;
    uint64_t *weights = calloc((size_t) count * most, sizeof *weights);
    for (uint32_t row = 0; row < (general ? blocks : count); row++) {
        const uint32_t b = general ? row : block[row], n = at[b + 1] - at[b];
        uint64_t       left = (uint64_t) 1 << 32;
        block_of[row]       = b;
        for (uint32_t j = 0; j + 1 < n; j++) {
            uint64_t weight                  = 1 + random_below((uint32_t) (((uint64_t) 1 << 32) / n));
            weights[(size_t) row * most + j] = weight;
            left -= weight;
        }
        weights[(size_t) row * most + n - 1] = left;
    }
    memcpy(row_of, block, count * sizeof *row_of);
    cmif_table_draft draft = {.claim         = {.mechanism   = kind == GENERAL  ? CMIF_MECHANISM_GENERAL
                                                               : kind == RANDOM ? CMIF_MECHANISM_RNM
                                                                                : CMIF_MECHANISM_PAPER,
                                                .noise       = general ? CMIF_NOISE_NONE : CMIF_NOISE_LAPLACE,
                                                .adjacency   = kind == OVERLAPPING ? CMIF_ADJACENT_NONE : CMIF_ADJACENT_BLOCK,
                                                .k           = 20,
                                                .epsilon_num = 32,
                                                .epsilon_den = 1},
                              .weight_bits   = 32,
                              .word_count    = count,
                              .row_count     = general ? blocks : count,
                              .block_count   = blocks,
                              .words         = words,
                              .prior         = prior,
                              .row_of        = general ? row_of : NULL,
                              .block_of      = block_of,
                              .block_at      = at,
                              .outputs       = outputs,
                              .weights       = weights,
                              .weight_stride = most};
    cmif_err         err   = {0};
    memset(draft.claim.lexicon_hash, 0x5a, 32);
    CHECK(cmif_table_write(&draft, path, &err) == CMIF_OK);
    CHECK(cmif_table_open(path, &l->table, NULL, &err) == CMIF_OK);
    if (!l->table) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    free(weights);
}

static cmif_code random_rows(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) context, (void) offset, (void) err;
    for (size_t i = 0; i + 4 <= size; i += 4) {
        float value = (float) (int32_t) random_below(UINT32_MAX) / 0x1p31f;
        memcpy(buffer + i, &value, 4);
    }
    return CMIF_OK;
}

static void make_model(lab *l, const char *vocabulary, size_t width)
{
    char           name[512];
    cmif_gguf_out *out = NULL;
    snprintf(name, sizeof name, MODELS "/ggml-vocab-%s.gguf", vocabulary);
    CHECK(cmif_gguf_open(name, &l->file, NULL) == CMIF_OK);
    CHECK(cmif_tokenizer_open(l->file, &l->tokenizer, NULL) == CMIF_OK);
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_f32(out, "cmif.row_scale", 1.5f, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", CMIF_GGML_F32, 2,
                               (uint64_t[4]){width, cmif_tokenizer_vocab(l->tokenizer)}, random_rows, NULL,
                               NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_open(path, &l->rows, NULL) == CMIF_OK);
    CHECK(cmif_embed_open(l->rows, &l->embed, NULL) == CMIF_OK);
    cmif_gguf_out_free(out);
    l->width = width;
}

/* ---- files of language models, right and wrong ---- */

typedef struct draft {
    const char *arch, *hash;
    uint32_t   *unigrams, *first, *second, *counts;
    size_t      unigram_count, first_count, second_count, count_count;
} draft;

#define HASH_62 "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
#define HASH "5a" HASH_62

static cmif_code write_lm(const draft *d, const char *shift, cmif_lm **out, cmif_err *err)
{
    cmif_gguf_out *file = NULL;
    CHECK(cmif_gguf_out_new(&file, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(file, "general.architecture", (cmif_str){d->arch, strlen(d->arch)}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(file, "shift", (cmif_str){shift, strlen(shift)}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(file, "cmif.lm.lexicon_hash", (cmif_str){d->hash, strlen(d->hash)}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(file, "cmif.lm.text_hash", (cmif_str){HASH, 64}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_array(file, "cmif.lm.unigrams", CMIF_GGUF_U32, d->unigrams, d->unigram_count, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_array(file, "cmif.lm.first", CMIF_GGUF_U32, d->first, d->first_count, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_array(file, "cmif.lm.second", CMIF_GGUF_U32, d->second, d->second_count, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_array(file, "cmif.lm.counts", CMIF_GGUF_U32, d->counts, d->count_count, NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(file, path, NULL, NULL, NULL) == CMIF_OK);
    cmif_gguf_out_free(file);
    return cmif_lm_open(path, out, err);
}

/* A model over the words of the lab's table: each word is followed by some, the end of a sentence among them. */
static void make_lm(lab *l, uint32_t successors)
{
    const uint32_t words    = l->table->word_count;
    uint32_t      *unigrams = calloc(words + 1, sizeof *unigrams), *first = calloc(words + 2, sizeof *first);
    uint32_t      *second = calloc((size_t) (words + 1) * successors, sizeof *second);
    uint32_t      *counts = calloc((size_t) (words + 1) * successors, sizeof *counts);
    uint32_t       pairs  = 0;
    for (uint32_t a = 0; a <= words; a++) {
        uint32_t b = 0;
        for (uint32_t i = 0; i < successors; i++) { /* ascending, up to the end */
            b += random_below((words + 1) / successors + 1) + (i > 0);
            if (b > words) {
                break;
            }
            second[pairs] = b;
            counts[pairs] = 1 + random_below(40);
            unigrams[a] += counts[pairs++];
        }
        unigrams[a] += random_below(10);
        first[a + 1] = pairs;
    }
    draft d = {"cmif-lm", HASH, unigrams, first, second, counts, words + 1, words + 2, pairs, pairs};
    CHECK(write_lm(&d, "", &l->lm, NULL) == CMIF_OK);
    free(unigrams);
    free(first);
    free(second);
    free(counts);
}

static void start(lab *l)
{
    cmif_err err = {0};
    if (cmif_bayes_new(l->table, l->lm, l->tokenizer, l->embed, &l->bayes, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

static void end(lab *l)
{
    cmif_bayes_free(l->bayes);
    cmif_lm_free(l->lm);
    cmif_embed_free(l->embed);
    cmif_tokenizer_free(l->tokenizer);
    cmif_gguf_free(l->rows);
    cmif_gguf_free(l->file);
    cmif_table_free(l->table);
    unlink(path);
    *l = (lab){0};
}

/* `blocks` blocks that take turns, word 0 alone. */
static uint32_t *turns(uint32_t count, uint32_t blocks)
{
    static uint32_t block[WORDS_MAX];
    for (uint32_t w = 0; w < count; w++) {
        block[w] = w == 0 ? 0 : 1 + (w - 1) % blocks;
    }
    return block;
}

static uint32_t *priors(uint32_t count)
{
    static uint32_t prior[WORDS_MAX];
    for (uint32_t w = 0; w < count; w++) {
        prior[w] = 1 + random_below(1000);
    }
    return prior;
}

/* ---- plain references ---- */

/* Which of its block's outputs a word is; -1: none. */
static int index_of(const cmif_table *t, uint32_t block, uint32_t word)
{
    for (uint32_t i = t->block_at[block]; i < t->block_at[block + 1]; i++) {
        if (t->outputs[i] == word) {
            return (int) (i - t->block_at[block]);
        }
    }
    return -1;
}

static double chance(const cmif_table *t, uint32_t x, uint32_t y)
{
    int j = index_of(t, cmif_table_block(t, x), y);
    return j < 0 ? 0 : (double) cmif_table_weight(t, cmif_table_row(t, x), (uint32_t) j) / 0x1p32;
}

/* The mean row of a word's pieces, from the tokenizer and the table. before: what the word stands behind. */
static double reference_row(const lab *l, uint32_t word, const char *before, double *row)
{
    cmif_ids  ids = {0};
    char      text[80];
    cmif_str  s    = cmif_table_word(l->table, word);
    int       size = snprintf(text, sizeof text, "%s%.*s", before, (int) s.size, s.data);
    cmif_part part = {.literal = {text, (size_t) size}};
    double    norm = 0;
    CHECK(cmif_tokenizer_encode(l->tokenizer, &part, 1, &ids, NULL) == CMIF_OK && ids.count > 0);
    float *floats = malloc(ids.count * l->width * sizeof *floats);
    CHECK(cmif_embed_rows(l->embed, &ids, 0, ids.count, CMIF_ROWS_F32, floats, NULL) == CMIF_OK);
    for (size_t i = 0; i < l->width; i++) {
        row[i] = 0;
        for (size_t j = 0; j < ids.count; j++) {
            row[i] += (double) floats[j * l->width + i] / (double) ids.count;
        }
        norm += row[i] * row[i];
    }
    free(floats);
    cmif_ids_free(&ids);
    return sqrt(norm);
}

/* From the definition: over all words x that are candidates with probability p[x]. Scaled as rows travel. */
static void reference_mean(const lab *l, const double *p, const char *before, double *out)
{
    double *row = calloc(l->width, sizeof *row), length = 0, norm = 0;
    memset(out, 0, l->width * sizeof *out);
    for (uint32_t x = 1; x < l->table->word_count; x++) {
        if (p[x] > 0) {
            length += p[x] * reference_row(l, x, before, row);
            for (size_t i = 0; i < l->width; i++) {
                out[i] += p[x] * row[i];
            }
        }
    }
    for (size_t i = 0; i < l->width; i++) {
        norm += out[i] * out[i];
    }
    for (size_t i = 0; i < l->width; i++) {
        out[i] *= sqrt(length / sqrt(norm));
    }
    free(row);
}

static bool is_near(const float *row, const double *reference, size_t width, double scale, double tolerance)
{
    double worst = 0;
    for (size_t i = 0; i < width; i++) {
        worst = fmax(worst, fabs((double) row[i] * scale - reference[i]));
        worst = isfinite(row[i]) ? worst : INFINITY;
    }
    return worst <= tolerance;
}

/* ---- rows without context ---- */

static void rows_are_the_posterior_mean_of_their_definition(void)
{
    static const struct {
        const char *vocabulary, *before;
    } models[] = {{"bert-bge", ""}, {"llama-spm", ""}, {"gpt-2", " "}};
    for (size_t m = 0; m < 3; m++) {
        for (channel kind = RANDOM; kind <= OVERLAPPING; kind++) {
            lab    l     = {0};
            double p[61] = {0}, mean[32];
            float  row[32];
            size_t rows_seen = 0;
            make_table(&l, 61, NULL, turns(61, 3), priors(61), kind);
            make_model(&l, models[m].vocabulary, 32);
            start(&l);
            for (uint32_t y = 1; y < 61; y++) {
                double sum = 0;
                for (uint32_t x = 1; x < 61; x++) {
                    p[x] = l.table->prior[x] * chance(l.table, x, y);
                    sum += p[x];
                }
                if (sum == 0) { /* no block gives it */
                    CHECK(cmif_bayes_row(l.bayes, y, row, NULL) == CMIF_E_RANGE);
                    continue;
                }
                for (uint32_t x = 1; x < 61; x++) {
                    p[x] /= sum;
                }
                reference_mean(&l, p, models[m].before, mean);
                CHECK(cmif_bayes_row(l.bayes, y, row, NULL) == CMIF_OK);
                CHECK(is_near(row, mean, 32, 1.5, 1e-6));
                rows_seen++;
            }
            CHECK(rows_seen == (kind == GENERAL ? 3 : 60));
            CHECK(cmif_bayes_row(l.bayes, 61, row, NULL) == CMIF_E_RANGE);
            end(&l);
        }
    }
}

/* x by the prior, y by the program's own drawing: how often was it x when it is y? */
static void the_closed_form_is_what_drawing_gives_on_20_words(void)
{
    enum { DRAWS = 4000000, COUNT = 21 };
    lab                l     = {0};
    cmif_noise        *noise = NULL;
    static uint32_t    xs[DRAWS], ys[DRAWS], seen[COUNT][COUNT], total[COUNT];
    uint32_t           sum  = 0, bounds[COUNT];
    cmif_released_word word = {0};
    make_table(&l, COUNT, NULL, turns(COUNT, 1), priors(COUNT), RANDOM);
    make_model(&l, "bert-bge", 32);
    start(&l);
    CHECK(cmif_noise_new(&noise, NULL) == CMIF_OK);
    for (uint32_t x = 1; x < COUNT; x++) {
        bounds[x] = sum += l.table->prior[x];
    }
    for (size_t i = 0; i < DRAWS; i++) {
        uint32_t u = random_below(sum);
        xs[i]      = 1;
        while (u >= bounds[xs[i]]) {
            xs[i]++;
        }
    }
    CHECK(cmif_dp_draw(l.table, noise, xs, DRAWS, ys, NULL) == CMIF_OK);
    for (size_t i = 0; i < DRAWS; i++) {
        seen[xs[i]][ys[i]]++;
        total[ys[i]]++;
    }
    double worst = 0;
    for (uint32_t y = 1; y < COUNT; y++) {
        double *p, q[COUNT] = {0}, mean[32];
        size_t *at;
        float   row[32];
        word.output = y;
        CHECK(cmif_bayes_posterior(l.bayes, &word, 1, &p, &at, NULL) == CMIF_OK && at[0] == 0 && at[1] == COUNT - 1);
        for (uint32_t x = 1; x < COUNT; x++) {
            double found = (double) seen[x][y] / total[y];
            double sigma = (sqrt(p[x - 1] * (1 - p[x - 1]) * total[y]) + 1) / total[y]; /* + 1: rare ones are skewed */
            q[x]         = found;
            worst        = fmax(worst, fabs(found - p[x - 1]) / sigma);
        }
        reference_mean(&l, q, "", mean);
        CHECK(cmif_bayes_row(l.bayes, y, row, NULL) == CMIF_OK);
        CHECK(is_near(row, mean, 32, 1.5, 10 / sqrt(total[y])));
        free(p);
        free(at);
    }
    printf("       %d draws: 400 probabilities within %.1f standard errors\n", DRAWS, worst);
    CHECK(worst > 0.5 && worst < 6);
    cmif_noise_free(noise);
    end(&l);
}

static void a_general_row_is_the_mean_weighted_by_the_prior(void)
{
    lab                   l       = {0};
    static const char    *names[] = {"", "bad", "film", "good", "movie"};
    static const uint32_t block[] = {0, 1, 2, 1, 2}, prior[] = {7, 10, 60, 30, 20};
    make_table(&l, 5, names, block, prior, GENERAL);
    make_model(&l, "bert-bge", 32);
    start(&l);
    double a[32], b[32], mean[32], norm = 0;
    float  row[32];
    double length = 0.75 * reference_row(&l, 2, "", a) + 0.25 * reference_row(&l, 4, "", b);
    for (size_t i = 0; i < 32; i++) {
        mean[i] = 0.75 * a[i] + 0.25 * b[i];
        norm += mean[i] * mean[i];
    }
    norm = sqrt(norm);
    for (size_t i = 0; i < 32; i++) {
        mean[i] *= sqrt(length / norm);
    }
    CHECK(cmif_bayes_row(l.bayes, 2, row, NULL) == CMIF_OK && is_near(row, mean, 32, 1.5, 1e-6));
    double got = 0;
    for (size_t i = 0; i < 32; i++) {
        got += 2.25 * (double) row[i] * (double) row[i];
    }
    CHECK(fabs(sqrt(got) - sqrt(length * norm)) < 1e-6); /* halfway, in the exponent */
    end(&l);
}

static void the_unknown_word_is_the_mean_of_the_rarer_half(void)
{
    lab                   l       = {0};
    static const char    *names[] = {"", "bad", "film", "good", "movie", "zebra"};
    static const uint32_t block[] = {0, 1, 2, 1, 2, 3}, prior[] = {90, 10, 60, 30, 20, 60};
    make_table(&l, 6, names, block, prior, GENERAL);
    make_model(&l, "bert-bge", 32);
    start(&l);
    double p[6] = {0, 1 / 3.0, 0, 1 / 3.0, 1 / 3.0, 0}, mean[32]; /* three of five */
    float  row[32];
    reference_mean(&l, p, "", mean);
    CHECK(cmif_bayes_row(l.bayes, 0, row, NULL) == CMIF_OK && is_near(row, mean, 32, 1.5, 1e-6));
    end(&l);
}

/* ---- posteriors in context ---- */

static double bigram(const lab *l, uint32_t a, uint32_t b)
{
    const cmif_lm *lm    = l->lm;
    double         prior = 0, count = 0, both = 0, off = 0, discount[4];
    cmif_lm_discounts(lm, discount);
    for (uint32_t w = 0; w < lm->words; w++) {
        prior += l->table->prior[w];
    }
    for (uint32_t i = lm->first[a]; i < lm->first[a + 1]; i++) {
        count += lm->counts[i];
        off += discount[lm->counts[i] > 3 ? 3 : lm->counts[i]];
        both += lm->second[i] == b ? lm->counts[i] - discount[lm->counts[i] > 3 ? 3 : lm->counts[i]] : 0;
    }
    double share = 0.8 * lm->unigrams[b] / (double) lm->total + (b < lm->words ? 0.2 * l->table->prior[b] / prior : 0);
    return count > 0 ? both / count + off / count * share : share;
}

/* Over all sequences of candidates; sum[i][x] gathers the posterior of word x at i. */
static void sum_sequences(const lab *l, const uint32_t *ys, size_t count, uint32_t *xs, size_t i, double p, double *sum)
{
    const uint32_t words = l->table->word_count, finish = words;
    if (i == count) {
        p *= bigram(l, xs[count - 1], finish);
        for (size_t k = 0; k < count; k++) {
            sum[k * words + xs[k]] += p;
        }
        return;
    }
    for (uint32_t x = 0; x < words; x++) {
        double e = chance(l->table, x, ys[i]);
        if (e > 0) {
            uint32_t before = i ? xs[i - 1] : finish;
            xs[i]           = x;
            sum_sequences(l, ys, count, xs, i + 1, p * e * bigram(l, before, x), sum);
        }
    }
}

/* The posterior of bayes against all sequences, and the mixture with the one without context. */
static double worst_difference(const lab *l, const uint32_t *ys, size_t count)
{
    const uint32_t     words = l->table->word_count;
    cmif_released_word released[8];
    uint32_t           xs[8];
    double            *sum = calloc(count * words, sizeof *sum), *p = NULL, worst = 0;
    size_t            *at = NULL;
    sum_sequences(l, ys, count, xs, 0, 1, sum);
    for (size_t i = 0; i < count; i++) {
        released[i] = (cmif_released_word){.output = ys[i]};
    }
    CHECK(cmif_bayes_posterior(l->bayes, released, count, &p, &at, NULL) == CMIF_OK);
    for (size_t i = 0; i < count; i++) {
        double all = 0, plain = 0;
        size_t n = at[i];
        for (uint32_t x = 0; x < words; x++) {
            all += sum[i * words + x];
            plain += chance(l->table, x, ys[i]) * l->table->prior[x];
        }
        for (uint32_t k = 0; k < l->table->block_count * words; k++) { /* block by block */
            const uint32_t x = k % words;
            double         e = cmif_table_block(l->table, x) == k / words ? chance(l->table, x, ys[i]) : 0;
            if (e > 0) {
                double expected = 0.9 * sum[i * words + x] / all + 0.1 * e * l->table->prior[x] / plain;
                worst           = fmax(worst, fabs(p[n++] - expected));
            }
        }
        CHECK(n == at[i + 1]);
    }
    free(sum);
    free(p);
    free(at);
    return worst;
}

static void discounts_are_those_of_how_many_pairs_come_how_often(void)
{
    uint32_t first[7] = {0}, counts[20];
    cmif_lm  lm       = {.words = 5, .first = first, .counts = counts};
    double   d[4];
    for (uint32_t i = 0; i < 20; i++) { /* 9 pairs come once, 4 twice, 3 and 2 three and four times, 2 more often */
        counts[i] = i < 9 ? 1 : i < 13 ? 2 : i < 16 ? 3 : i < 18 ? 4 : 100;
    }
    first[6] = 20;
    cmif_lm_discounts(&lm, d); /* y = 9 / 17 */
    CHECK(d[0] == 0 && fabs(d[1] - (1 - 2 * 9.0 / 17 * 4 / 9)) < 1e-15);
    CHECK(fabs(d[2] - (2 - 3 * 9.0 / 17 * 3 / 4)) < 1e-15 && fabs(d[3] - (3 - 4 * 9.0 / 17 * 2 / 3)) < 1e-15);
    counts[9] = counts[10] = counts[11] = counts[12] = 3; /* none comes twice */
    cmif_lm_discounts(&lm, d);
    CHECK(d[1] == 0.75 && d[2] == 0.75 && d[3] == 0.75);
    for (uint32_t i = 0; i < 20;
         i++) { /* 1 comes once, 16 twice, 2 three times, 1 four times: 1 - 2 * 16 / 33 is too little */
        counts[i] = i < 1 ? 1 : i < 17 ? 2 : i < 19 ? 3 : 4;
    }
    cmif_lm_discounts(&lm, d);
    CHECK(d[1] == 0.1 && d[2] == 1.9 && d[3] == 2.9);
}

/* Shares: a .28, b .12, c .2, d .2, the end .16. Sums over three words by hand: see the comments. */
static void three_words_by_hand(void)
{
    lab                   l       = {0};
    static const char    *names[] = {"", "a", "b", "c", "d"};
    static const uint32_t block[] = {0, 1, 1, 2, 2}, prior[] = {1, 1, 1, 1, 1};
    uint32_t              unigrams[] = {0, 30, 10, 20, 20, 20}; /* the last is the end */
    uint32_t              first[]    = {0, 0, 1, 2, 4, 4, 5};
    uint32_t              second[]   = {3, 4, 1, 5, 1};
    uint32_t              counts[]   = {10, 10, 10, 10, 5}; /* a c, b d, c a, c end, end a */
    draft                 d          = {"cmif-lm", HASH, unigrams, first, second, counts, 6, 7, 5, 5};
    cmif_released_word    words[3]   = {{.output = 1}, {.output = 3}, {.output = 1}};
    double               *p;
    size_t               *at;
    make_table(&l, 5, names, block, prior, GENERAL);
    make_model(&l, "bert-bge", 32);
    CHECK(write_lm(&d, "", &l.lm, NULL) == CMIF_OK);
    start(&l);
    CHECK(cmif_bayes_posterior(l.bayes, words, 3, &p, &at, NULL) == CMIF_OK);
    CHECK(at[0] == 0 && at[1] == 2 && at[2] == 4 && at[3] == 6);
    /* Discounts of .75, for no pair comes 1 to 4 times. P(a|end) .892, P(b|end) .018; P(c|a) P(d|a) P(c|b) P(d|b) = .94
     * .015 .015 .94; P(a|c) P(b|c) = .4835 .009, after d .28 .12; the end follows a and b alike. So much weigh a c, a
     * d, b c, b d: */
    const double weights[] = {0.892 * 0.94 * 0.4925, 0.892 * 0.015 * 0.4, 0.018 * 0.015 * 0.4925, 0.018 * 0.94 * 0.4};
    const double all       = weights[0] + weights[1] + weights[2] + weights[3];
    const double third = ((weights[0] + weights[2]) * 0.4835 / 0.4925 + (weights[1] + weights[3]) * 0.28 / 0.4) / all;
    CHECK(fabs(p[0] - (0.9 * (weights[0] + weights[1]) / all + 0.05)) < 1e-14);
    CHECK(fabs(p[2] - (0.9 * (weights[0] + weights[2]) / all + 0.05)) < 1e-14);
    CHECK(fabs(p[4] - (0.9 * third + 0.05)) < 1e-14);
    for (size_t i = 0; i < 6; i += 2) {
        CHECK(fabs(p[i] + p[i + 1] - 1) < 1e-14);
    }
    free(p);
    free(at);
    end(&l);
}

static void forward_backward_is_the_sum_over_all_sequences(void)
{
    double worst = 0;
    for (int round = 0; round < 21; round++) {
        lab l = {0};
        make_table(&l, 19, NULL, turns(19, 6), priors(19), (channel) (round % 3));
        make_model(&l, "bert-bge", 32);
        make_lm(&l, 8);
        start(&l);
        for (int k = 0; k < 20; k++) {
            uint32_t ys[4];
            for (size_t i = 0; i < 4; i++) { /* general: words 1 to 6 are the first of their blocks */
                ys[i] = round % 3 == GENERAL ? 1 + random_below(6) : 1 + random_below(18);
            }
            worst = fmax(worst, worst_difference(&l, ys, 4));
        }
        end(&l);
    }
    printf("       4 words, blocks of 3: largest difference %.1e\n", worst);
    CHECK(worst < 1e-12);
}

static void passed_and_unknown_words_are_links_of_the_chain(void)
{
    lab                   l       = {0};
    static const uint32_t block[] = {0, 1, 2, 2, 3, 2, 4, 3, 3}; /* words 1 and 6 are alone */
    double                worst   = 0;
    make_table(&l, 9, NULL, block, priors(9), RANDOM);
    make_model(&l, "bert-bge", 32);
    make_lm(&l, 8);
    start(&l);
    static const uint32_t texts[][5] = {{2, 1, 4, 6, 2}, {1, 1, 3, 5, 6}, {0, 2, 4, 0, 3},
                                        {2, 0, 0, 4, 7}, {5, 1, 0, 6, 0}, {0, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (size_t n = 1; n <= 5; n++) {
            worst = fmax(worst, worst_difference(&l, texts[i], n));
        }
    }
    CHECK(worst < 1e-12);

    double            *p;
    size_t            *at;
    cmif_released_word other = {.output = 9};
    CHECK(cmif_bayes_posterior(l.bayes, NULL, 0, &p, &at, NULL) == CMIF_OK && at[0] == 0);
    free(p);
    free(at);
    CHECK(cmif_bayes_posterior(l.bayes, &other, 1, &p, &at, NULL) == CMIF_E_RANGE);
    end(&l);
}

/* ---- ids ---- */

static const char *const vocabularies[] = {"bert-bge", "llama-spm", "gpt-2"};

/* Words of their own: the, and, of. The rest leaves as the first of its block. */
static void make_texts(lab *l, const char *vocabulary, bool context)
{
    static const char    *names[] = {"", "and", "bad", "cat", "dog", "film", "good", "movie", "of", "the", "zebra"};
    static const uint32_t block[] = {0, 1, 2, 3, 3, 4, 2, 4, 5, 6, 3};
    state = 1; /* the same language model, whatever ran before: one in which neighbours matter */
    make_table(l, 11, names, block, priors(11), GENERAL);
    make_model(l, vocabulary, 32);
    if (context) {
        make_lm(l, 6);
    }
    start(l);
}

static cmif_released *release(const lab *l, const char *text)
{
    cmif_sanitizer *sanitizer = NULL;
    cmif_released  *released  = NULL;
    CHECK(cmif_sanitizer_new(l->table, false, &sanitizer, NULL) == CMIF_OK);
    CHECK(cmif_dp_release_channel(sanitizer, text, strlen(text), NULL, &released, NULL) == CMIF_OK);
    cmif_sanitizer_free(sanitizer);
    return released;
}

static bool starts_with(const cmif_ids *ids, size_t at, const cmif_ids *what)
{
    return ids->count - at >= what->count && memcmp(ids->at + at, what->at, what->count * sizeof *ids->at) == 0;
}

static void encode_bytes(cmif_tokenizer *t, const char *text, size_t size, cmif_ids *ids)
{
    cmif_part part = {.literal = {text, size}};
    CHECK(cmif_tokenizer_encode(t, &part, 1, ids, NULL) == CMIF_OK);
}

/* A row of its own stands exactly where the word's pieces would stand: put back, they are the whole text's tokens. */
static void a_replaced_word_is_one_id_in_the_place_of_its_pieces(void)
{
    static const char *const texts[] = {"the cat, and the zebra: movie.",
                                        "movie",
                                        "the movie of the good",
                                        "  good   movie \n film!  the cat. ",
                                        "of the cat dog zebra",
                                        "zebra, zebra; the of and.  \n\n good",
                                        "the the the",
                                        "",
                                        " ",
                                        "?!",
                                        "? dog .",
                                        "good ",
                                        "dog  ",
                                        "\xc3\xa9\xe4\xbd\xa0 dog? \xf0\x9f\x98\x80 dog"};
    for (size_t v = 0; v < 3; v++) {
        lab l = {0};
        make_texts(&l, vocabularies[v], false);
        const size_t vocab = cmif_tokenizer_vocab(l.tokenizer);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            cmif_released            *released = release(&l, texts[i]);
            cmif_ids                  ids = {0}, whole = {0};
            size_t                    size, count, at = 0, own = 0, drawn = 0;
            const char               *text  = (const char *) cmif_released_bytes(released, &size);
            const cmif_released_word *words = cmif_released_words(released, &count);
            encode_bytes(l.tokenizer, text, size, &whole);
            CHECK(cmif_bayes_encode(l.bayes, released, &ids, NULL) == CMIF_OK);
            bool same = true;
            for (size_t k = 0; k < ids.count; k++) {
                if ((size_t) ids.at[k] < vocab) {
                    same = same && at < whole.count && whole.at[at++] == ids.at[k];
                    continue;
                }
                cmif_ids pieces = {0};
                char     word[80];
                cmif_str s = cmif_table_word(l.table, (uint32_t) ((size_t) ids.at[k] - vocab));
                int      n = s.size
                                 ? snprintf(word, sizeof word, "%s%.*s", v == 2 && at > 0 ? " " : "", (int) s.size, s.data)
                                 : snprintf(word, sizeof word, "%ssomething", v == 2 && at > 0 ? " " : "");
                encode_bytes(l.tokenizer, word, (size_t) n, &pieces);
                same = same && starts_with(&whole, at, &pieces);
                at += pieces.count;
                cmif_ids_free(&pieces);
                own++;
            }
            for (size_t k = 0; k < count; k++) {
                drawn += !words[k].passed;
            }
            if (!same || at != whole.count || own != drawn) {
                fprintf(stderr, "%s, text %zu: %zu ids for %zu, %zu rows for %zu words\n", vocabularies[v], i, at,
                        whole.count, own, drawn);
            }
            CHECK(same && at == whole.count && own == drawn);
            cmif_ids_free(&ids);
            cmif_ids_free(&whole);
            cmif_released_free(released);
        }
        end(&l);
    }
}

static void rows_of_a_text_are_those_of_its_words(void)
{
    lab l = {0};
    make_texts(&l, "bert-bge", false);
    cmif_released *released = release(&l, "the good xyzzy movie");
    cmif_ids       ids = {0}, again = {0};
    static float   rows[8][32];
    float          row[32];
    const int32_t  vocab = (int32_t) cmif_tokenizer_vocab(l.tokenizer);
    CHECK(cmif_bayes_encode(l.bayes, released, &ids, NULL) == CMIF_OK && ids.count == 4);
    CHECK(ids.at[0] < vocab && ids.at[1] == vocab + 2 && ids.at[2] == vocab && ids.at[3] == vocab + 5);
    CHECK(cmif_embed_rows(l.embed, &ids, 0, 4, CMIF_ROWS_F32, rows, NULL) == CMIF_OK);
    for (size_t i = 1; i < 4; i++) {
        CHECK(cmif_bayes_row(l.bayes, (uint32_t) (ids.at[i] - vocab), row, NULL) == CMIF_OK);
        for (size_t j = 0; j < 32; j++) {
            CHECK(rows[i][j] == row[j] * 1.5f);
        }
    }
    CHECK(cmif_bayes_encode(l.bayes, released, &again, NULL) == CMIF_OK);
    CHECK(again.count == 4 && starts_with(&again, 0, &ids)); /* the same word has the same id always */
    ids.at[3] = vocab + 11;
    CHECK(cmif_embed_rows(l.embed, &ids, 0, 4, CMIF_ROWS_F32, rows, NULL) == CMIF_E_RANGE);
    ids.at[3] = vocab + 6; /* a word that never leaves */
    CHECK(cmif_embed_rows(l.embed, &ids, 0, 4, CMIF_ROWS_F32, rows, NULL) == CMIF_E_RANGE);
    cmif_bayes_free(l.bayes);
    l.bayes = NULL; /* who is gone is not asked */
    CHECK(cmif_embed_rows(l.embed, &again, 0, 4, CMIF_ROWS_F32, rows, NULL) == CMIF_E_RANGE);
    cmif_ids_free(&ids);
    cmif_ids_free(&again);
    cmif_released_free(released);
    end(&l);
}

static void ids_in_context_are_never_those_of_another_text(void)
{
    lab l = {0};
    make_texts(&l, "bert-bge", true);
    cmif_released *one = release(&l, "the good movie of the cat"), *two = release(&l, "the good movie and film");
    cmif_ids       first = {0}, second = {0};
    static float   rows[2][8][32];
    CHECK(cmif_bayes_encode(l.bayes, one, &first, NULL) == CMIF_OK && first.count == 6);
    CHECK(cmif_embed_rows(l.embed, &first, 0, 6, CMIF_ROWS_F32, rows[0], NULL) == CMIF_OK);
    CHECK(cmif_bayes_encode(l.bayes, two, &second, NULL) == CMIF_OK && second.count == 5);
    CHECK(cmif_embed_rows(l.embed, &second, 0, 5, CMIF_ROWS_F32, rows[1], NULL) == CMIF_OK);
    CHECK(first.at[0] == second.at[0] && first.at[1] != second.at[1] && first.at[2] != second.at[2]);
    CHECK(memcmp(rows[0][2], rows[1][2], sizeof rows[0][2]) != 0); /* "movie" means more, or less, beside others */
    CHECK(cmif_embed_rows(l.embed, &first, 0, 6, CMIF_ROWS_F32, rows[0], NULL) == CMIF_E_RANGE);

    /* the rows are means under the posterior over the whole text */
    size_t                    count, *at;
    const cmif_released_word *words = cmif_released_words(two, &count);
    double                   *p, q[11] = {0}, mean[32];
    CHECK(count == 5 && cmif_bayes_posterior(l.bayes, words, count, &p, &at, NULL) == CMIF_OK);
    q[5] = p[at[2]]; /* film, movie */
    q[7] = p[at[2] + 1];
    reference_mean(&l, q, "", mean);
    CHECK(is_near(rows[1][2], mean, 32, 1, 1e-6));
    free(p);
    free(at);
    cmif_ids_free(&first);
    cmif_ids_free(&second);
    cmif_released_free(one);
    cmif_released_free(two);
    end(&l);
}

/* A sentence says nothing of the next: its rows are those it has alone. */
static void sentences_are_apart(void)
{
    static const char *const both[] = {"the good movie. the cat of film", "the good movie \n the cat of film",
                                       "the good movie?! the cat of film", "the good movie... the cat of film",
                                       "the good movie, the cat of film"};
    lab                      l      = {0};
    make_texts(&l, "bert-bge", true);
    static float   alone[2][32], row[2][32];
    cmif_released *one = release(&l, "the good movie");
    cmif_ids       ids = {0};
    CHECK(cmif_bayes_encode(l.bayes, one, &ids, NULL) == CMIF_OK);
    CHECK(cmif_embed_rows(l.embed, &ids, 1, 2, CMIF_ROWS_F32, alone, NULL) == CMIF_OK);
    cmif_ids_free(&ids);
    for (size_t i = 0; i < 5; i++) {
        cmif_released *text = release(&l, both[i]);
        CHECK(cmif_bayes_encode(l.bayes, text, &ids, NULL) == CMIF_OK);
        CHECK(cmif_embed_rows(l.embed, &ids, 1, 2, CMIF_ROWS_F32, row, NULL) == CMIF_OK);
        CHECK((memcmp(row, alone, sizeof row) == 0) == (i < 3));
        cmif_ids_free(&ids);
        cmif_released_free(text);
    }
    cmif_released_free(one);
    end(&l);
}

/* ---- the file of a language model ---- */

static void a_language_model_that_breaks_a_rule_is_refused(void)
{
    enum { WORDS = 4, PAIRS = 4 };
    static const uint32_t unigrams[] = {3, 5, 6, 7, 4}, first[] = {0, 0, 2, 3, 3, 4}, second[] = {1, 4, 0, 2},
                          counts[] = {2, 3, 6, 4};
    static const struct {
        const char *what;
        char array; /* which number is changed, in which array; '-': the array's last is missing; 'a', 'h': strings */
        uint32_t    at, to;
        const char *text;
    } faults[] = {{"", 0, 0, 0, ""},
                  {"ids", 's', 1, 5, "second word 5"},
                  {"not ascending", 's', 1, 1, "do not ascend"},
                  {"count 0", 'c', 2, 0, "counts 0"},
                  {"more than the word itself", 'c', 1, 4, "the word itself 5"},
                  {"first beyond the pairs", 'f', 2, 9, "end at"},
                  {"first goes down", 'f', 1, 3, "before they begin"},
                  {"first does not begin at 0", 'f', 0, 1, "must be the same"},
                  {"first does not end with the pairs", 'f', 5, 3, "must be the same"},
                  {"no counts", 'u', 99, 0, "without a word"},
                  {"unigrams short", '-', 'u', 0, "ends of pairs"},
                  {"first short", '-', 'f', 0, "ends of pairs"},
                  {"second short", '-', 's', 0, "must be the same"},
                  {"counts short", '-', 'c', 0, "must be the same"},
                  {"architecture", 'a', 0, 0, "no language model"},
                  {"hash", 'h', 0, 0, "hexadecimal"},
                  {"hash", 'h', 1, 0, "hexadecimal"}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (size_t shift = 0; shift < 4; shift++) { /* arrays that are aligned in the file, and not */
            uint32_t u[5], f[6], s[4], c[4];
            memcpy(u, unigrams, sizeof u);
            memcpy(f, first, sizeof f);
            memcpy(s, second, sizeof s);
            memcpy(c, counts, sizeof c);
            draft    d     = {"cmif-lm", HASH, u, f, s, c, 5, 6, 4, 4};
            char     array = faults[i].array, which = array == '-' ? (char) faults[i].at : 0;
            cmif_lm *lm  = NULL;
            cmif_err err = {0};
            if (array == 'u') { /* nothing at all */
                memset(u, 0, sizeof u);
                memset(f, 0, sizeof f);
                d.second_count = d.count_count = 0;
            }
            if (array == 's' || array == 'c' || array == 'f') {
                (array == 's' ? s : array == 'c' ? c : f)[faults[i].at] = faults[i].to;
            }
            d.unigram_count -= which == 'u';
            d.first_count -= which == 'f';
            d.second_count -= which == 's';
            d.count_count -= which == 'c';
            d.arch = array == 'a' ? "cmif-lexicon" : d.arch;
            d.hash = array != 'h' ? d.hash : faults[i].at ? "5a5a" : "5A" HASH_62;
            char name[4];
            snprintf(name, sizeof name, "%.*s", (int) shift, "xxx");
            cmif_code rc = write_lm(&d, name, &lm, &err);
            CHECK(rc == (array ? CMIF_E_FORMAT : CMIF_OK));
            CHECK((lm == NULL) == (array != 0));
            CHECK(strstr(err.text, faults[i].text) != NULL);
            if (array && !strstr(err.text, faults[i].text)) {
                fprintf(stderr, "%s: %s\n", faults[i].what, err.text);
            }
            if (lm) {
                CHECK(lm->words == WORDS && lm->total == 25 && lm->lexicon_hash[31] == 0x5a);
                CHECK(memcmp(lm->unigrams, u, sizeof u) == 0 && memcmp(lm->first, f, sizeof f) == 0);
                CHECK(memcmp(lm->second, s, sizeof s) == 0 && memcmp(lm->counts, c, sizeof c) == 0);
            }
            cmif_lm_free(lm);
        }
    }
    cmif_lm *lm = NULL;
    CHECK(cmif_lm_open("/nonexistent", &lm, NULL) == CMIF_E_IO && !lm);
    cmif_lm_free(NULL);
    unlink(path);
}

static void a_language_model_of_other_words_is_refused(void)
{
    lab      l = {0}, other = {0};
    cmif_err err = {0};
    make_texts(&l, "bert-bge", false);
    make_table(&other, 12, NULL, turns(12, 3), priors(12), GENERAL);
    make_lm(&other, 3);
    cmif_bayes *bayes = NULL;
    CHECK(cmif_bayes_new(l.table, other.lm, l.tokenizer, l.embed, &bayes, &err) == CMIF_E_FORMAT && !bayes);
    CHECK(strstr(err.text, "another lexicon"));
    end(&other);
    make_table(&other, 11, NULL, turns(11, 3), priors(11), GENERAL);
    make_lm(&other, 3);
    other.lm->lexicon_hash[31] ^= 1;
    CHECK(cmif_bayes_new(l.table, other.lm, l.tokenizer, l.embed, &bayes, &err) == CMIF_E_FORMAT && !bayes);
    end(&other);
    end(&l);
}

/* ---- memory, time ---- */

static void every_failed_allocation_is_an_error_and_leaves_the_ids(void)
{
    for (int context = 0; context < 2; context++) {
        lab l = {0};
        make_texts(&l, "llama-spm", context);
        cmif_released *text = release(&l, "the good movie, of xyzzy. the cat");
        cmif_code      rc   = CMIF_E_MEMORY;
        float          row[32], kept[32];
        CHECK(cmif_bayes_row(l.bayes, 5, kept, NULL) == CMIF_OK);
        cmif_bayes_free(l.bayes);
        long n, left = -1;
        for (n = 0; left < 0 && n < 2000; n++) {
            l.bayes          = NULL;
            allocations_left = n;
            rc               = cmif_bayes_new(l.table, l.lm, l.tokenizer, l.embed, &l.bayes, NULL);
            left             = allocations_left;
            allocations_left = -1;
            CHECK(rc == CMIF_OK ? l.bayes != NULL : rc == CMIF_E_MEMORY && !l.bayes);
            if (rc == CMIF_OK) { /* the one allocation that it can do without */
                CHECK(cmif_bayes_row(l.bayes, 5, row, NULL) == CMIF_OK && memcmp(row, kept, sizeof row) == 0);
                cmif_bayes_free(l.bayes);
            }
        }
        CHECK(rc == CMIF_OK && n > 20);
        l.bayes = NULL;
        start(&l);
        cmif_ids ids = {0};
        rc           = CMIF_E_MEMORY;
        for (n = 0; rc != CMIF_OK && n < 2000; n++) {
            allocations_left = n;
            rc               = cmif_bayes_encode(l.bayes, text, &ids, NULL);
            allocations_left = -1;
            CHECK(rc == CMIF_OK ? ids.count > 6 : rc == CMIF_E_MEMORY && ids.count == 0);
        }
        CHECK(rc == CMIF_OK && n > 5);
        float *rows = malloc(ids.count * 32 * sizeof *rows);
        rc          = CMIF_E_RANGE;
        for (n = 0; rc != CMIF_OK && n < 2000; n++) { /* a row that cannot be made is one that is not there */
            allocations_left = n;
            rc               = cmif_embed_rows(l.embed, &ids, 0, ids.count, CMIF_ROWS_F32, rows, NULL);
            allocations_left = -1;
            CHECK(rc == CMIF_OK || rc == CMIF_E_MEMORY || rc == CMIF_E_RANGE);
        }
        CHECK(rc == CMIF_OK && (context ? n == 2 : n > 5));
        free(rows);
        cmif_ids_free(&ids);
        cmif_released_free(text);
        end(&l);
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* A table of 80 blocks of 200, 200 successors of every word: posterior, and posterior with its rows of 384 numbers. */
static void context_of_200_words_in_blocks_of_200_is_fast(void)
{
    enum { COUNT = 16001, TEXT = 200, ROUNDS = 5 };
    lab l = {0};
    make_table(&l, COUNT, NULL, turns(COUNT, 80), priors(COUNT), GENERAL);
    make_model(&l, "bert-bge", 384);
    make_lm(&l, 200);
    double from = seconds();
    start(&l);
    double             made = seconds() - from, posterior = 1e9, whole = 1e9;
    cmif_released_word words[TEXT];
    char               text[TEXT * 5 + 1];
    for (size_t i = 0; i < TEXT; i++) {
        words[i]   = (cmif_released_word){.output = 1 + random_below(80)};
        cmif_str s = cmif_table_word(l.table, words[i].output);
        snprintf(text + 5 * i, 6, "%.*s ", (int) s.size, s.data);
    }
    cmif_released *released = release(&l, text);
    for (int i = 0; i < ROUNDS; i++) {
        double  *p;
        size_t  *at;
        cmif_ids ids = {0};
        from         = seconds();
        CHECK(cmif_bayes_posterior(l.bayes, words, TEXT, &p, &at, NULL) == CMIF_OK);
        posterior = fmin(posterior, seconds() - from);
        CHECK(at[TEXT] == TEXT * 200);
        free(p);
        free(at);
        from = seconds();
        CHECK(cmif_bayes_encode(l.bayes, released, &ids, NULL) == CMIF_OK && ids.count == TEXT);
        whole = fmin(whole, seconds() - from);
        cmif_ids_free(&ids);
    }
    printf("       %d words, 200 pairs each: made in %.0f ms; 200 words: posterior %.1f ms, with rows %.1f ms\n", COUNT,
           made * 1e3, posterior * 1e3, whole * 1e3);
#if !defined(__SANITIZE_ADDRESS__)
    CHECK(posterior < 0.060 && whole < 0.150); /* loose: the machine may be busy */
#endif
    cmif_released_free(released);
    end(&l);
}

int main(void)
{
    if (access(MODELS "/ggml-vocab-bert-bge.gguf", R_OK) != 0) {
        return check_skip("the engine's source, which has the vocabularies, is not there");
    }
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof path, "%s/file", folder);
    RUN(rows_are_the_posterior_mean_of_their_definition);
    RUN(the_closed_form_is_what_drawing_gives_on_20_words);
    RUN(a_general_row_is_the_mean_weighted_by_the_prior);
    RUN(the_unknown_word_is_the_mean_of_the_rarer_half);
    RUN(discounts_are_those_of_how_many_pairs_come_how_often);
    RUN(three_words_by_hand);
    RUN(forward_backward_is_the_sum_over_all_sequences);
    RUN(passed_and_unknown_words_are_links_of_the_chain);
    RUN(a_replaced_word_is_one_id_in_the_place_of_its_pieces);
    RUN(rows_of_a_text_are_those_of_its_words);
    RUN(ids_in_context_are_never_those_of_another_text);
    RUN(sentences_are_apart);
    RUN(a_language_model_that_breaks_a_rule_is_refused);
    RUN(a_language_model_of_other_words_is_refused);
    RUN(every_failed_allocation_is_an_error_and_leaves_the_ids);
    RUN(context_of_200_words_in_blocks_of_200_is_fast);
    rmdir(folder);
    return check_report();
}
