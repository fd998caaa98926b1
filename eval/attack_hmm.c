/* Forward-backward over each released sentence: a public bigram model times the table. Written apart from
 * trusted/embed/bayes.c, which computes such a posterior for the rows; attack_test sums over all sequences instead. */
#include "attack_index.h"

#include <stdlib.h>
#include <string.h>

typedef struct state_list { /* the words that a position may have been, ascending */
    uint32_t  count;
    uint32_t *word;
    double   *gives; /* P(released | word) */
} state_list;

typedef struct hmm {
    const cmif_attack *a;
    const cmif_lm     *lm;
    double            *share;   /* [words + 1] P(b) */
    double            *inverse; /* [words + 1] 1 / pairs of a; 0: there are none */
    double            *left; /* [words + 1] of a's probability, for words that never followed it or did so by chance */
    double             discount[4];
    state_list        *lists; /* [words + 1] by output, made when first met */
    state_list        *exact; /* [words + 1] of words that everybody reads */
    uint32_t          *where; /* [words + 1] place + 1 of a word in the list that is looked at; 0: not there */
    attack_candidates  scratch;
} hmm;

static void hmm_wipe(hmm *h)
{
    for (uint32_t i = 0; h->lists && h->exact && i <= h->lm->words; i++) {
        free(h->lists[i].word);
        free(h->lists[i].gives);
        free(h->exact[i].word);
        free(h->exact[i].gives);
    }
    free(h->lists);
    free(h->exact);
    free(h->share);
    free(h->inverse);
    free(h->left);
    free(h->where);
    attack_candidates_wipe(&h->scratch);
}

static double discounted(const hmm *h, uint32_t count)
{
    return count - h->discount[count < 3 ? count : 3];
}

static cmif_code hmm_open(hmm *h, const cmif_attack *a, const cmif_lm *lm, cmif_err *err)
{
    const size_t states = (size_t) lm->words + 1;
    *h                  = (hmm){.a = a, .lm = lm};
    if (lm->words != a->table->word_count ||
        memcmp(lm->lexicon_hash, a->table->claim.lexicon_hash, sizeof lm->lexicon_hash) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the language model is over another lexicon (%u words, hash %02x%02x...) than the channel (%u "
                         "words, hash %02x%02x...): build both from one",
                         lm->words, lm->lexicon_hash[0], lm->lexicon_hash[1], a->table->word_count,
                         a->table->claim.lexicon_hash[0], a->table->claim.lexicon_hash[1]);
    }
    h->share   = malloc(states * sizeof *h->share);
    h->inverse = malloc(states * sizeof *h->inverse);
    h->left    = malloc(states * sizeof *h->left);
    h->lists   = calloc(states, sizeof *h->lists);
    h->exact   = calloc(states, sizeof *h->exact);
    h->where   = calloc(states, sizeof *h->where);
    if (!h->share || !h->inverse || !h->left || !h->lists || !h->exact || !h->where) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a chain over %u words", lm->words);
    }
    cmif_attack_prior_lm(a, lm, h->share);
    cmif_lm_discounts(lm, h->discount);
    h->share[lm->words] = 0.8 * lm->unigrams[lm->words] / (double) lm->total;
    for (uint32_t word = 0; word <= lm->words; word++) {
        double count = 0, seen = 0;
        for (uint32_t i = lm->first[word]; i < lm->first[word + 1]; i++) {
            count += lm->counts[i];
            seen += discounted(h, lm->counts[i]);
        }
        h->inverse[word] = count > 0 ? 1 / count : 0;
        h->left[word]    = count > 0 ? (count - seen) / count : 1;
    }
    return CMIF_OK;
}

typedef struct ranked {
    double   score;
    uint32_t word;
    double   gives;
} ranked;

static int by_score(const void *one, const void *two)
{
    const ranked *x = one, *y = two;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                : (x->word > y->word) - (x->word < y->word);
}

static int by_word(const void *one, const void *two)
{
    const ranked *x = one, *y = two;
    return (x->word > y->word) - (x->word < y->word);
}

/* The states behind an output; of the end of a sentence, and of what nobody drew, that alone. */
static cmif_code list_of(hmm *h, uint32_t output, bool exact, const state_list **out, cmif_err *err)
{
    state_list *list = exact ? &h->exact[output] : &h->lists[output];
    ranked     *all  = NULL;
    size_t      n    = 1;
    cmif_code   rc   = CMIF_OK;
    *out             = list;
    if (list->count) {
        return CMIF_OK;
    }
    if (!exact) {
        rc = attack_candidates_of(h->a, output, h->share, &h->scratch, err);
        n  = h->scratch.count;
    }
    if (rc == CMIF_OK && n == 0) {
        rc = cmif_fail(err, CMIF_E_RANGE, "word %u is not among those that the channel can give: another channel?",
                       output);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    all = malloc(n * sizeof *all);
    if (!all) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu states", n);
    }
    all[0] = (ranked){1, output, 1};
    for (size_t i = 0; !exact && i < n; i++) {
        all[i] = (ranked){h->scratch.prior[i] * h->scratch.gives[i], h->scratch.word[i], h->scratch.gives[i]};
    }
    if (n > CMIF_ATTACK_CANDIDATES) {
        qsort(all, n, sizeof *all, by_score);
        n = CMIF_ATTACK_CANDIDATES;
    }
    qsort(all, n, sizeof *all, by_word);
    list->word  = malloc(n * sizeof *list->word);
    list->gives = malloc(n * sizeof *list->gives);
    if (!list->word || !list->gives) {
        free(all);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu states", n);
    }
    for (size_t i = 0; i < n; i++) {
        list->word[i]  = all[i].word;
        list->gives[i] = all[i].gives;
    }
    list->count = (uint32_t) n;
    free(all);
    return CMIF_OK;
}

static void normalize(double *p, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += p[i];
    }
    for (size_t i = 0; i < count; i++) {
        p[i] = sum > 0 ? p[i] / sum : 1.0 / (double) count;
    }
}

/* How often y followed x, by bisection; 0: never. */
static uint32_t times_seen(const cmif_lm *lm, uint32_t x, uint32_t y)
{
    uint32_t from = lm->first[x], to = lm->first[x + 1];
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (lm->second[middle] < y) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from < lm->first[x + 1] && lm->second[from] == y ? lm->counts[from] : 0;
}

/* Forward: to(y) += sum_x from(x) seen(x, y). Backward: from(x) += sum_y to(y) seen(x, y). Whichever is shorter is
 * walked: the words that followed x, or the states of y. */
static void walk_pairs(hmm *h, const state_list *x, const state_list *y, double *from, double *to, bool forward)
{
    const cmif_lm *lm = h->lm;
    for (uint32_t j = 0; j < y->count; j++) {
        h->where[y->word[j]] = j + 1;
    }
    for (uint32_t i = 0; i < x->count; i++) {
        const uint32_t first = lm->first[x->word[i]], end = lm->first[x->word[i] + 1];
        if (end - first > 16 * (uint64_t) y->count) {
            for (uint32_t j = 0; j < y->count; j++) {
                const double n = discounted(h, times_seen(lm, x->word[i], y->word[j])) * h->inverse[x->word[i]];
                *(forward ? &to[j] : &from[i]) += (forward ? from[i] : to[j]) * n;
            }
            continue;
        }
        for (uint32_t k = first; k < end; k++) {
            const uint32_t j = h->where[lm->second[k]];
            if (j) {
                *(forward ? &to[j - 1] : &from[i]) +=
                    (forward ? from[i] : to[j - 1]) * discounted(h, lm->counts[k]) * h->inverse[x->word[i]];
            }
        }
    }
    for (uint32_t j = 0; j < y->count; j++) {
        h->where[y->word[j]] = 0;
    }
}

/* P(y|x) = seen(x, y) + left(x) P(y): the second part is the same for every x, up to a factor. */
static void step_forward(hmm *h, const state_list *x, const state_list *y, double *from, double *to)
{
    double all = 0;
    for (uint32_t i = 0; i < x->count; i++) {
        all += from[i] * h->left[x->word[i]];
    }
    for (uint32_t j = 0; j < y->count; j++) {
        to[j] = all * h->share[y->word[j]];
    }
    walk_pairs(h, x, y, from, to, true);
    for (uint32_t j = 0; j < y->count; j++) {
        to[j] *= y->gives[j];
    }
    normalize(to, y->count);
}

/* to: what comes after, times what y gives; spent as it is. */
static void step_backward(hmm *h, const state_list *x, const state_list *y, double *from, double *to)
{
    double all = 0;
    for (uint32_t j = 0; j < y->count; j++) {
        to[j] *= y->gives[j];
        all += to[j] * h->share[y->word[j]];
    }
    for (uint32_t i = 0; i < x->count; i++) {
        from[i] = all * h->left[x->word[i]];
    }
    walk_pairs(h, x, y, from, to, false);
    normalize(from, x->count);
}

/* One sentence between two ends. */
static cmif_code smooth(hmm *h, const cmif_attack_word *words, size_t count, uint32_t *guess, double *posterior,
                        cmif_err *err)
{
    cmif_code          rc    = CMIF_OK;
    const state_list **lists = malloc((count + 2) * sizeof(*lists));
    double           **alpha = calloc(count + 2, sizeof *alpha), *memory = NULL;
    size_t             all = 0, most = 0;
    if (!lists || !alpha) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu words", count);
        goto done;
    }
    for (size_t i = 0; rc == CMIF_OK && i < count + 2; i++) {
        const cmif_attack_word *w     = i && i <= count ? &words[i - 1] : NULL;
        const bool              exact = !w || w->kind == CMIF_ATTACK_CLEAR ||
                           (w->kind == CMIF_ATTACK_HIDDEN && !cmif_attack_leaves(h->a, w->released));
        rc = list_of(h, w ? w->released : h->lm->words, exact, &lists[i], err);
        if (rc == CMIF_OK) {
            all += lists[i]->count;
            most = lists[i]->count > most ? lists[i]->count : most;
        }
    }
    memory = rc == CMIF_OK ? malloc((all + 2 * most) * sizeof *memory) : NULL;
    if (!memory) {
        rc = rc == CMIF_OK ? cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu states", all) : rc;
        goto done;
    }
    double *beta = memory + all, *other = beta + most;
    alpha[0]    = memory;
    alpha[0][0] = 1;
    for (size_t i = 1; i < count + 2; i++) {
        alpha[i] = alpha[i - 1] + lists[i - 1]->count;
        memcpy(other, alpha[i - 1], lists[i - 1]->count * sizeof *other);
        step_forward(h, lists[i - 1], lists[i], other, alpha[i]);
    }
    beta[0] = 1;
    for (size_t i = count + 1; i-- > 1;) {
        step_backward(h, lists[i], lists[i + 1], other, beta);
        double *swap = beta;
        beta         = other;
        other        = swap;
        for (uint32_t j = 0; j < lists[i]->count; j++) {
            alpha[i][j] *= beta[j];
        }
        normalize(alpha[i], lists[i]->count);
        uint32_t best = 0;
        for (uint32_t j = 1; j < lists[i]->count; j++) {
            best = alpha[i][j] > alpha[i][best] ? j : best;
        }
        guess[i - 1] = lists[i]->word[best];
        if (posterior) {
            posterior[i - 1] = alpha[i][best];
        }
    }
done:
    free(memory);
    free(alpha);
    free(lists);
    return rc;
}

cmif_code cmif_attack_hmm(const cmif_attack *a, const cmif_lm *lm, const cmif_attack_texts *texts, uint32_t *guess,
                          double *posterior, cmif_err *err)
{
    hmm       h;
    cmif_code rc = hmm_open(&h, a, lm, err);
    for (size_t from = 0, to; rc == CMIF_OK && from < texts->count; from = to) {
        for (to = from + 1; to < texts->count && !texts->words[to].begins; to++) {
        }
        rc = smooth(&h, texts->words + from, to - from, guess + from, posterior ? posterior + from : NULL, err);
    }
    hmm_wipe(&h);
    return rc;
}
