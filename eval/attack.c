#include "attack.h"

#include "attack_index.h"

#include "dp/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *new_array(size_t count, size_t size)
{
    return calloc(count ? count : 1, size);
}

/* ---- the index ---- */

static cmif_code index_table(cmif_attack *a, cmif_err *err)
{
    const cmif_table *t    = a->table;
    cmif_code         rc   = CMIF_OK;
    uint32_t         *next = NULL, *put = NULL;

    a->member_at = new_array((size_t) t->block_count + 1, sizeof *a->member_at);
    a->members   = new_array(t->word_count, sizeof *a->members);
    a->source_at = new_array((size_t) t->word_count + 1, sizeof *a->source_at);
    a->sources   = new_array(t->output_total, sizeof *a->sources);
    next         = new_array(t->block_count, sizeof *next);
    put          = new_array(t->word_count, sizeof *put);
    if (!a->member_at || !a->members || !a->source_at || !a->sources || !next || !put) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the words of %u blocks", t->block_count);
        goto done;
    }
    for (uint32_t block = 0; block < t->block_count; block++) {
        next[block]             = a->member_at[block];
        a->member_at[block + 1] = a->member_at[block] + t->words_in[block];
    }
    for (uint32_t word = 0; word < t->word_count; word++) {
        a->members[next[cmif_table_block(t, word)]++] = word;
    }
    for (uint32_t i = 0; i < t->output_total; i++) {
        a->source_at[t->outputs[i] + 1]++;
    }
    for (uint32_t word = 0; word < t->word_count; word++) {
        put[word] = a->source_at[word];
        a->source_at[word + 1] += a->source_at[word];
    }
    for (uint32_t block = 0; block < t->block_count; block++) {
        for (uint32_t i = t->block_at[block]; i < t->block_at[block + 1]; i++) {
            a->sources[put[t->outputs[i]]++] = (attack_source){block, i - t->block_at[block]};
        }
    }
done:
    free(next);
    free(put);
    return rc;
}

/* The same words, each alone in a block and released as itself: reads texts exactly as the door does. */
static cmif_code make_reader(cmif_attack *a, cmif_err *err)
{
    const cmif_table *t = a->table;
    a->ascending        = new_array((size_t) t->word_count + 1, sizeof *a->ascending);
    a->ones             = new_array(t->word_count, sizeof *a->ones);
    if (!a->ascending || !a->ones) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %u words", t->word_count);
    }
    for (uint32_t i = 0; i <= t->word_count; i++) {
        a->ascending[i] = i;
    }
    for (uint32_t i = 0; i < t->word_count; i++) {
        a->ones[i] = 1;
    }
    a->itself                 = *t;
    a->itself.claim.adjacency = CMIF_ADJACENT_NONE;
    a->itself.row_count = a->itself.block_count = a->itself.output_total = t->word_count;
    a->itself.stride                                                     = 0;
    a->itself.row_of                                                     = NULL;
    a->itself.block_of = a->itself.block_at = a->itself.outputs = a->ascending;
    a->itself.first_word = a->itself.rows_at = a->itself.rows = a->ascending;
    a->itself.words_in                                        = a->ones;
    a->itself.thresholds                                      = a->nothing;
    a->itself.bytes                                           = NULL;
    return cmif_sanitizer_new(&a->itself, true, &a->reader, err);
}

cmif_code cmif_attack_new(const cmif_table *table, cmif_attack **out, cmif_err *err)
{
    cmif_attack *a = calloc(1, sizeof *a);
    if (!a) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for an attack");
    }
    a->table     = table;
    cmif_code rc = index_table(a, err);
    rc           = rc == CMIF_OK ? make_reader(a, err) : rc;
    if (rc == CMIF_OK) {
        *out = a;
        a    = NULL;
    }
    cmif_attack_free(a);
    return rc;
}

void cmif_attack_free(cmif_attack *a)
{
    if (a) {
        cmif_sanitizer_free(a->reader);
        free(a->member_at);
        free(a->members);
        free(a->source_at);
        free(a->sources);
        free(a->ascending);
        free(a->ones);
        free(a);
    }
}

const cmif_table *cmif_attack_itself(const cmif_attack *a)
{
    return &a->itself;
}

bool cmif_attack_counts(const cmif_attack *a, uint32_t word)
{
    return word && word < a->table->word_count && !cmif_table_passes(a->table, word);
}

bool cmif_attack_leaves(const cmif_attack *a, uint32_t word)
{
    return a->source_at[word] < a->source_at[word + 1];
}

static double share_of(const cmif_table *t, uint32_t row, uint32_t index)
{
    return ldexp((double) cmif_table_weight(t, row, index), -(int) t->weight_bits);
}

double attack_gives(const cmif_attack *a, uint32_t word, uint32_t output)
{
    const cmif_table *t   = a->table;
    const uint32_t    row = cmif_table_row(t, word), first = t->block_at[t->block_of[row]];
    uint32_t          from = first, to = t->block_at[t->block_of[row] + 1];
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (t->outputs[middle] < output) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    bool there = from < t->block_at[t->block_of[row] + 1] && t->outputs[from] == output;
    return there ? share_of(t, row, from - first) : 0;
}

cmif_code attack_candidates_of(const cmif_attack *a, uint32_t output, const double *prior, attack_candidates *c,
                               cmif_err *err)
{
    size_t count = 0;
    for (uint32_t s = a->source_at[output]; s < a->source_at[output + 1]; s++) {
        count += a->table->words_in[a->sources[s].block];
    }
    if (count > c->capacity) {
        attack_candidates_wipe(c);
        c->word  = malloc(count * sizeof *c->word);
        c->gives = malloc(count * sizeof *c->gives);
        c->prior = malloc(count * sizeof *c->prior);
        if (!c->word || !c->gives || !c->prior) {
            attack_candidates_wipe(c);
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu candidates", count);
        }
        c->capacity = count;
    }
    c->count = 0;
    for (uint32_t s = a->source_at[output]; s < a->source_at[output + 1]; s++) {
        const attack_source from = a->sources[s];
        for (uint32_t i = a->member_at[from.block]; i < a->member_at[from.block + 1]; i++, c->count++) {
            c->word[c->count]  = a->members[i];
            c->gives[c->count] = share_of(a->table, cmif_table_row(a->table, a->members[i]), from.index);
            c->prior[c->count] = prior[a->members[i]];
        }
    }
    return CMIF_OK;
}

void attack_candidates_wipe(attack_candidates *c)
{
    free(c->word);
    free(c->gives);
    free(c->prior);
    *c = (attack_candidates){0};
}

/* ---- drawing ---- */

static cmif_code draw_shipped(void *context, const uint32_t *words, size_t count, uint32_t *outputs, cmif_err *err)
{
    const cmif_noise_and_table *of = context;
    return cmif_dp_draw(of->table, of->noise, words, count, outputs, err);
}

cmif_sampler cmif_attack_shipped(cmif_noise_and_table *of)
{
    return (cmif_sampler){draw_shipped, of};
}

/* ---- texts ---- */

static cmif_code put_word(cmif_attack_texts *texts, cmif_attack_word word, cmif_err *err)
{
    if (texts->count == texts->capacity) {
        size_t            capacity = texts->capacity ? 2 * texts->capacity : 1024;
        cmif_attack_word *words    = realloc(texts->words, capacity * sizeof *words);
        if (!words) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu words", capacity);
        }
        texts->words    = words;
        texts->capacity = capacity;
    }
    texts->words[texts->count++] = word;
    return CMIF_OK;
}

void cmif_attack_texts_wipe(cmif_attack_texts *texts)
{
    free(texts->words);
    *texts = (cmif_attack_texts){0};
}

static cmif_attack_kind kind_of(const cmif_attack *a, uint32_t original)
{
    return !original ? CMIF_ATTACK_HIDDEN : cmif_attack_counts(a, original) ? CMIF_ATTACK_DRAWN : CMIF_ATTACK_CLEAR;
}

cmif_code cmif_attack_add_ids(const cmif_attack *a, cmif_attack_texts *texts, const uint32_t *original,
                              const uint32_t *released, size_t count, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = put_word(texts,
                      (cmif_attack_word){.original = original[i],
                                         .released = released[i],
                                         .kind     = (uint8_t) kind_of(a, original[i]),
                                         .begins   = i == 0},
                      err);
    }
    return rc;
}

/* The words of a piece of the original, as released words of the reader's. */
static cmif_code read_words(const cmif_attack *a, const uint8_t *text, size_t size, cmif_released **out, cmif_err *err)
{
    return cmif_dp_release_channel(a->reader, text, size, NULL, out, err);
}

/* A text that went through the channel as a whole, or a piece of one. */
static cmif_code add_drawn(const cmif_attack *a, cmif_attack_texts *texts, const uint8_t *text, size_t size,
                           const uint8_t *out, const cmif_released_word *released, size_t count, bool begins,
                           cmif_err *err)
{
    cmif_released            *read = NULL;
    size_t                    read_count;
    cmif_code                 rc    = read_words(a, text, size, &read, err);
    const cmif_released_word *words = rc == CMIF_OK ? cmif_released_words(read, &read_count) : NULL;
    if (rc == CMIF_OK && read_count != count) {
        rc = cmif_fail(err, CMIF_E_RANGE, "%zu words were written and %zu released: not one text, or another table",
                       read_count, count);
    }
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        size_t end = i ? released[i - 1].from + released[i - 1].size : 0;
        bool   cut = i ? cmif_lm_ends_sentence(out + end, released[i].from - end) : begins;
        rc         = put_word(texts,
                              (cmif_attack_word){.original = words[i].output,
                                                 .released = released[i].output,
                                                 .kind     = (uint8_t) kind_of(a, words[i].output),
                                                 .begins   = cut},
                              err);
    }
    cmif_released_free(read);
    return rc;
}

/* The words of a span that passes, or that was made up. */
static cmif_code add_other(const cmif_attack *a, cmif_attack_texts *texts, const uint8_t *text, size_t size,
                           bool passes, bool begins, cmif_err *err)
{
    cmif_released            *read  = NULL;
    size_t                    count = 0;
    cmif_code                 rc    = read_words(a, text, size, &read, err);
    const cmif_released_word *words = rc == CMIF_OK ? cmif_released_words(read, &count) : NULL;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = put_word(texts,
                      (cmif_attack_word){.original = words[i].output,
                                         .released = passes ? words[i].output : 0,
                                         .kind     = passes ? CMIF_ATTACK_CLEAR : CMIF_ATTACK_HIDDEN,
                                         .begins   = begins && i == 0},
                      err);
    }
    cmif_released_free(read);
    return rc;
}

cmif_code cmif_attack_add(const cmif_attack *a, cmif_attack_texts *texts, const void *text, size_t size,
                          const cmif_released *released, const cmif_released_span *spans, size_t span_count,
                          cmif_err *err)
{
    const uint8_t            *from   = text;
    const size_t              before = texts->count;
    size_t                    out_size, count, next = 0;
    const uint8_t            *out    = cmif_released_bytes(released, &out_size);
    const cmif_released_word *words  = cmif_released_words(released, &count);
    bool                      begins = true;
    cmif_code                 rc     = CMIF_OK;

    if (!spans) {
        rc = add_drawn(a, texts, from, size, out, words, count, true, err);
    }
    for (size_t i = 0; rc == CMIF_OK && spans && i < span_count; i++) {
        const cmif_released_span *s    = &spans[i];
        const size_t              had  = texts->count;
        size_t                    here = 0;
        if (s->from > size || s->size > size - s->from || s->out_from > out_size ||
            s->out_size > out_size - s->out_from) {
            rc = cmif_fail(err, CMIF_E_RANGE, "span %zu of a released text is not where it should be", i);
            break;
        }
        while (next < count && words[next].from < s->out_from) {
            next++;
        }
        while (next + here < count && words[next + here].from < s->out_from + s->out_size) {
            here++;
        }
        if (s->action == CMIF_ACTION_CHANNEL && here) {
            rc = add_drawn(a, texts, from + s->from, s->size, out, words + next, here, begins, err);
        } else {
            bool same = s->size == s->out_size && memcmp(from + s->from, out + s->out_from, s->size) == 0;
            rc        = add_other(a, texts, from + s->from, s->size, same, begins, err);
        }
        begins = texts->count > had ? false : begins;
        begins = begins || cmif_lm_ends_sentence(from + s->from, s->size) ||
                 (texts->count == had && s->size == 1 && strchr(".!?", from[s->from]));
    }
    if (rc != CMIF_OK) {
        texts->count = before;
    }
    return rc;
}

cmif_attack_score cmif_attack_judge(const cmif_attack_texts *texts, const uint32_t *guess)
{
    cmif_attack_score score = {0};
    for (size_t i = 0; i < texts->count; i++) {
        const cmif_attack_word *w   = &texts->words[i];
        const bool              hit = guess[i] == w->original;
        if (w->kind == CMIF_ATTACK_DRAWN) {
            score.drawn++;
            score.drawn_hits += hit;
            score.changed += w->released != w->original;
            score.changed_hits += hit && w->released != w->original;
        }
    }
    return score;
}

/* ---- Bayes, without context ---- */

void cmif_attack_prior_uniform(const cmif_attack *a, double *prior)
{
    for (uint32_t word = 0; word < a->table->word_count; word++) {
        prior[word] = 1.0 / a->table->word_count;
    }
}

void cmif_attack_prior_table(const cmif_attack *a, double *prior)
{
    double sum = 0;
    for (uint32_t word = 0; word < a->table->word_count; word++) {
        sum += a->table->prior[word];
    }
    for (uint32_t word = 0; word < a->table->word_count; word++) {
        prior[word] = a->table->prior[word] / sum;
    }
}

void cmif_attack_prior_lm(const cmif_attack *a, const cmif_lm *lm, double *prior)
{
    cmif_attack_prior_table(a, prior);
    for (uint32_t word = 0; word < a->table->word_count && word < lm->words; word++) {
        prior[word] = 0.8 * lm->unigrams[word] / (double) lm->total + 0.2 * prior[word];
    }
}

double cmif_attack_bayes(const cmif_attack *a, const double *prior, uint32_t *best)
{
    const cmif_table *t   = a->table;
    double            all = 0, sum = 0;
    for (uint32_t word = 0; word < t->word_count; word++) {
        best[word] = CMIF_NO_WORD;
        all += cmif_attack_counts(a, word) ? prior[word] : 0;
    }
    for (uint32_t output = 0; all > 0 && output < t->word_count; output++) {
        double highest = 0;
        for (uint32_t s = a->source_at[output]; s < a->source_at[output + 1]; s++) {
            const attack_source from = a->sources[s];
            for (uint32_t i = a->member_at[from.block]; i < a->member_at[from.block + 1]; i++) {
                const uint32_t word = a->members[i];
                if (!cmif_attack_counts(a, word)) {
                    continue;
                }
                double both = prior[word] * share_of(t, cmif_table_row(t, word), from.index);
                if (both > highest || (both >= highest && best[output] != CMIF_NO_WORD && word < best[output])) {
                    highest      = both;
                    best[output] = word;
                }
            }
        }
        sum += highest;
    }
    return all > 0 ? sum / all : 0;
}

cmif_code cmif_attack_simulate(const cmif_attack *a, const double *prior, const uint32_t *best, cmif_sampler sampler,
                               uint64_t count, uint64_t seed, uint64_t *hits, cmif_err *err)
{
    enum { BATCH = 4096 };
    const uint32_t words = a->table->word_count;
    uint32_t       in[BATCH], out[BATCH];
    uint64_t       found = 0;
    cmif_code      rc    = CMIF_OK;
    double        *upto = malloc(words * sizeof *upto), sum = 0;
    if (!upto) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the prior of %u words", words);
    }
    for (uint32_t word = 0; word < words; word++) {
        sum += cmif_attack_counts(a, word) ? prior[word] : 0;
        upto[word] = sum;
    }
    for (uint64_t done = 0; rc == CMIF_OK && sum > 0 && done < count; done += BATCH) {
        const size_t n = count - done < BATCH ? (size_t) (count - done) : BATCH;
        for (size_t i = 0; i < n; i++) {
            double   u   = ldexp((double) (attack_random(&seed) >> 11), -53) * sum;
            uint32_t low = 0, high = words - 1; /* the first word that it does not reach beyond */
            while (low < high) {
                uint32_t middle = low + (high - low) / 2;
                if (upto[middle] > u) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            in[i] = low;
        }
        rc = sampler.draw(sampler.context, in, n, out, err);
        for (size_t i = 0; rc == CMIF_OK && i < n; i++) {
            found += best[out[i]] == in[i];
        }
    }
    free(upto);
    *hits = rc == CMIF_OK ? found : *hits;
    return rc;
}
