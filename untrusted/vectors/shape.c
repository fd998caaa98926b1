/* Joining vectors of several sources, and bending them: what is done to rows once they are there. */
#include "vectors/internal.h"
#include "vectors/matrix.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const double antonym_step   = .25; /* study section 3, step 4 */
static const double ridge          = 3;   /* step 5 has 10 for rows whose squared length is 3.3 */
static const double neutral_weight = .3;
enum { NEUTRAL_WORDS = 6000 };

/* Length 1, or nothing when it is zero. */
static void unit(double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    for (size_t i = 0; sum > 0 && i < n; i++) {
        x[i] /= sqrt(sum);
    }
}

/* Mean over the known rows. */
static void mean_of(const cmif_vectors *v, double *mean)
{
    uint64_t known = 0;
    memset(mean, 0, v->width * sizeof *mean);
    for (uint32_t word = 0; word < v->count; word++) {
        const float *row = v->rows + (size_t) word * v->width;
        for (uint32_t i = 0; v->known[word] && i < v->width; i++) {
            mean[i] += (double) row[i];
        }
        known += v->known[word];
    }
    for (uint32_t i = 0; known && i < v->width; i++) {
        mean[i] /= (double) known;
    }
}

/* Mean and eigenvectors (width, width) of the covariance of the known rows. */
static cmif_code components(const cmif_vectors *v, uint32_t threads, double *mean, double *vectors, cmif_err *err)
{
    const size_t n          = v->width;
    double      *covariance = malloc(n * n * sizeof *covariance), *values = malloc(n * sizeof *values);
    cmif_code    rc = CMIF_OK;
    if (!covariance || !values) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the covariance of %u columns", v->width);
    }
    if (rc == CMIF_OK) {
        mean_of(v, mean);
        rc = cmif_matrix_gram(v->rows, v->known, mean, v->count, v->width, threads, covariance, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_matrix_eigen(covariance, v->width, threads, values, vectors, err);
    }
    free(covariance);
    free(values);
    return rc;
}

/* Rows (count, width) of length 1 where known; done in double, rounded once. */
static cmif_code finish_units(cmif_vectors *v, cmif_err *err)
{
    double *x = malloc(v->width * sizeof *x);
    if (!x) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %u columns", v->width);
    }
    for (uint32_t word = 0; word < v->count; word++) {
        float *row = v->rows + (size_t) word * v->width;
        for (uint32_t i = 0; i < v->width; i++) {
            x[i] = (double) row[i];
        }
        unit(x, v->width);
        for (uint32_t i = 0; i < v->width; i++) {
            row[i] = (float) x[i];
        }
    }
    free(x);
    return cmif_vectors_seal(v, err);
}

cmif_code cmif_vectors_project(const cmif_vectors *in, uint32_t width, uint32_t threads, cmif_vectors **out,
                               cmif_err *err)
{
    cmif_code     rc      = CMIF_OK;
    cmif_vectors *result  = NULL;
    const size_t  n       = in->width;
    double       *mean    = malloc(n * sizeof *mean);
    double       *vectors = malloc(n * n * sizeof *vectors);

    if (width == 0 || width > in->width) {
        rc = cmif_fail(err, CMIF_E_RANGE, "cannot keep %u components of vectors of width %u", width, in->width);
        goto done;
    }
    if (!mean || !vectors) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the components of %u columns", in->width);
        goto done;
    }
    rc = components(in, threads, mean, vectors, err);
    if (rc == CMIF_OK) {
        rc = cmif_vectors_new(in->count, width, &result, err);
    }
    if (rc == CMIF_OK) {
        memcpy(result->known, in->known, in->count);
        rc = cmif_matrix_project(in->rows, mean, in->count, in->width, vectors, in->width, width, threads, result->rows,
                                 err);
    }
    if (rc == CMIF_OK) {
        rc = finish_units(result, err);
    }
    if (rc == CMIF_OK) {
        *out   = result;
        result = NULL;
    }
done:
    cmif_vectors_free(result);
    free(vectors);
    free(mean);
    return rc;
}

/* Write a part, centred, without its leading components, of length `weight`, into columns from `at` on. */
static cmif_code place(const cmif_vectors_part *part, cmif_vectors *joined, size_t at, uint32_t threads, cmif_err *err)
{
    const cmif_vectors *v    = part->vectors;
    const size_t        n    = v->width;
    cmif_code           rc   = CMIF_OK;
    double             *mean = malloc(n * sizeof *mean), *row = malloc(n * sizeof *row);
    double             *vectors = part->drop ? malloc(n * n * sizeof *vectors) : NULL;

    if (!mean || !row || (part->drop && !vectors)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to join vectors of width %u", v->width);
        goto done;
    }
    if (part->drop) {
        rc = components(v, threads, mean, vectors, err);
        if (rc != CMIF_OK) {
            goto done;
        }
    } else {
        mean_of(v, mean);
    }
    for (uint32_t word = 0; word < v->count; word++) {
        float *to = joined->rows + (size_t) word * joined->width + at;
        if (!v->known[word]) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            row[i] = (double) v->rows[word * n + i] - mean[i];
        }
        for (uint32_t k = 0; k < part->drop; k++) {
            double along = 0;
            for (size_t i = 0; i < n; i++) {
                along += row[i] * vectors[i * n + k];
            }
            for (size_t i = 0; i < n; i++) {
                row[i] -= along * vectors[i * n + k];
            }
        }
        unit(row, n);
        for (size_t i = 0; i < n; i++) {
            to[i] = (float) ((double) part->weight * row[i]);
        }
        joined->known[word] = 1;
    }
done:
    free(vectors);
    free(row);
    free(mean);
    return rc;
}

cmif_code cmif_vectors_join(const cmif_vectors_part *parts, size_t count, uint32_t width, uint32_t threads,
                            cmif_vectors **out, cmif_err *err)
{
    cmif_code     rc     = CMIF_OK;
    cmif_vectors *joined = NULL;
    uint64_t      total  = 0;

    if (count == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "no vectors to join");
    }
    for (size_t i = 0; i < count; i++) {
        const cmif_vectors_part *p = &parts[i];
        if (p->vectors->count != parts[0].vectors->count) {
            return cmif_fail(err, CMIF_E_RANGE, "vectors to join have %u and %u words: expected those of one lexicon",
                             parts[0].vectors->count, p->vectors->count);
        }
        if (!(p->weight > 0 && isfinite(p->weight)) || p->drop >= p->vectors->width) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "part %zu: weight %g must be above 0, and %u components less than its width %u", i,
                             (double) p->weight, p->drop, p->vectors->width);
        }
        total += p->vectors->width;
    }
    if (total > UINT32_MAX || width > total) {
        return cmif_fail(err, CMIF_E_RANGE, "cannot keep %u components of vectors of width %llu", width,
                         (unsigned long long) total);
    }
    rc = cmif_vectors_new(parts[0].vectors->count, (uint32_t) total, &joined, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    size_t at = 0;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = place(&parts[i], joined, at, threads, err);
        at += parts[i].vectors->width;
    }
    if (rc == CMIF_OK) {
        rc = finish_units(joined, err);
    }
    if (rc == CMIF_OK && width) {
        cmif_vectors *all = joined;
        joined            = NULL;
        rc                = cmif_vectors_project(all, width, threads, &joined, err);
        cmif_vectors_free(all);
    }
    if (rc == CMIF_OK) {
        *out   = joined;
        joined = NULL;
    }
    cmif_vectors_free(joined);
    return rc;
}

/* ---- counter-fitting ---- */

static cmif_code check_edges(const cmif_edge *edges, size_t count, uint32_t words, const char *what, cmif_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (edges[i].a >= words || edges[i].b >= words || !(edges[i].weight > 0 && edges[i].weight <= 1) ||
            (i && edges[i].a < edges[i - 1].a)) {
            return cmif_fail(err, CMIF_E_RANGE, "%s %zu: expected words below %u, ascending, and a weight in (0, 1]",
                             what, i, words);
        }
    }
    return CMIF_OK;
}

static double cosine(const float *x, const float *y, size_t n) /* of rows of length 1 */
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double) x[i] * (double) y[i];
    }
    return sum;
}

/* sum += factor * x */
static void add(double *sum, double factor, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sum[i] += factor * (double) x[i];
    }
}

/* One round: all words at once, from `now` to `next`. */
static void counterfit_round(const cmif_vectors *first, const cmif_lexicon *lexicon, const float *now, float *next,
                             double *x)
{
    const size_t n   = first->width;
    size_t       syn = 0, ant = 0;
    for (uint32_t word = 0; word < first->count; word++) {
        const float *here  = now + word * n;
        double       total = 0;
        size_t       end   = syn;
        for (; end < lexicon->synonym_count && lexicon->synonyms[end].a == word; end++) {
            total += first->known[lexicon->synonyms[end].b] ? (double) lexicon->synonyms[end].weight : 0;
        }
        memset(x, 0, n * sizeof *x);
        add(x, 1, first->rows + word * n, n);
        for (; syn < end; syn++) { /* rows of unknown words are zero */
            add(x, (double) lexicon->synonyms[syn].weight / (total > 1 ? total : 1), now + lexicon->synonyms[syn].b * n,
                n);
        }
        for (; ant < lexicon->antonym_count && lexicon->antonyms[ant].a == word; ant++) {
            const float *other = now + lexicon->antonyms[ant].b * n;
            const double near  = cosine(here, other, n);
            add(x, near > 0 ? -2 * antonym_step * near : 0, other, n);
        }
        unit(x, n);
        for (size_t i = 0; i < n; i++) {
            next[word * n + i] = first->known[word] ? (float) x[i] : 0;
        }
    }
}

cmif_code cmif_vectors_counterfit(cmif_vectors *vectors, const cmif_lexicon *lexicon, uint32_t rounds, cmif_err *err)
{
    const size_t size = (size_t) vectors->count * vectors->width * sizeof(float);
    float       *now = NULL, *next = NULL;
    double      *x  = NULL;
    cmif_code    rc = CMIF_OK;

    if (vectors->count != lexicon->count || size == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "vectors of %u words, the lexicon has %u", vectors->count, lexicon->count);
    }
    rc = check_edges(lexicon->synonyms, lexicon->synonym_count, lexicon->count, "synonym", err);
    if (rc == CMIF_OK) {
        rc = check_edges(lexicon->antonyms, lexicon->antonym_count, lexicon->count, "antonym", err);
    }
    if (rc == CMIF_OK) {
        rc = finish_units(vectors, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    now  = malloc(size);
    next = malloc(size);
    x    = malloc(vectors->width * sizeof *x);
    if (!now || !next || !x) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to counter-fit %u words", vectors->count);
        goto done;
    }
    memcpy(now, vectors->rows, size);
    for (uint32_t round = 0; round < rounds; round++) {
        float *swap = now;
        counterfit_round(vectors, lexicon, now, next, x);
        now  = next;
        next = swap;
    }
    memcpy(vectors->rows, now, size);
    rc = cmif_vectors_seal(vectors, err);
done:
    free(x);
    free(next);
    free(now);
    return rc;
}

/* ---- valence ---- */

/* Every how many-th of the unlisted words counts as neutral, so that NEUTRAL_WORDS of them do, spread over the
 * alphabet. */
static bool is_neutral(uint32_t index, uint32_t unlisted)
{
    const uint64_t wanted = unlisted < NEUTRAL_WORDS ? unlisted : NEUTRAL_WORDS;
    return unlisted && (index + 1) * wanted / unlisted > index * wanted / unlisted;
}

cmif_code cmif_vectors_valence(const cmif_vectors *vectors, const cmif_lexicon *lexicon, float *out, cmif_err *err)
{
    const uint32_t width = vectors->width, all = width + 2; /* a constant and the target beside each row */
    cmif_code      rc     = CMIF_OK;
    uint32_t       listed = 0, unlisted = 0, seen = 0, used = 0;
    float         *known = NULL;
    double        *gram = NULL, *a = NULL, *b = NULL;

    if (vectors->count != lexicon->count) {
        return cmif_fail(err, CMIF_E_RANGE, "vectors of %u words, the lexicon has %u", vectors->count, lexicon->count);
    }
    for (uint32_t word = 0; word < lexicon->count; word++) {
        const bool is_listed = !isnan(lexicon->valence[word]);
        listed += vectors->known[word] && is_listed;
        unlisted += vectors->known[word] && !is_listed;
    }
    if (listed == 0) { /* nothing to learn from: neutral, except for words that are listed and have no vector */
        for (uint32_t word = 0; word < lexicon->count; word++) {
            out[word] = isnan(lexicon->valence[word]) ? 0 : lexicon->valence[word];
        }
        return CMIF_OK;
    }
    const uint32_t rows = listed + (unlisted < NEUTRAL_WORDS ? unlisted : NEUTRAL_WORDS);
    known               = malloc((size_t) rows * all * sizeof *known);
    gram                = malloc((size_t) all * all * sizeof *gram);
    a                   = malloc((size_t) (width + 1) * (width + 1) * sizeof *a);
    b                   = malloc((size_t) (width + 1) * sizeof *b);
    if (!known || !gram || !a || !b) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a regression over %u words and %u columns", rows, width);
        goto done;
    }
    for (uint32_t word = 0; word < lexicon->count; word++) {
        const bool is_listed = !isnan(lexicon->valence[word]);
        if (!vectors->known[word] || (!is_listed && !is_neutral(seen++, unlisted))) {
            continue;
        }
        const double root = is_listed ? 1 : sqrt(neutral_weight);
        float       *row  = known + (size_t) used++ * all;
        for (uint32_t i = 0; i < width; i++) {
            row[i] = (float) (root * (double) vectors->rows[(size_t) word * width + i]);
        }
        row[width]     = (float) root;
        row[width + 1] = is_listed ? lexicon->valence[word] : 0;
    }
    rc = cmif_matrix_gram(known, NULL, NULL, used, all, /* threads= */ 0, gram, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (size_t i = 0; i <= width; i++) {
        memcpy(a + i * (width + 1), gram + i * all, (width + 1) * sizeof *a);
        a[i * (width + 1) + i] += i < width ? ridge : 0; /* the constant is free */
        b[i] = gram[i * all + width + 1];
    }
    rc = cmif_matrix_solve(a, b, width + 1, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (uint32_t word = 0; word < lexicon->count; word++) {
        double value = vectors->known[word] ? b[width] : 0;
        for (size_t i = 0; i < width; i++) {
            value += b[i] * (double) vectors->rows[(size_t) word * width + i];
        }
        value     = value > 4 ? 4 : value < -4 ? -4 : value;
        out[word] = isnan(lexicon->valence[word]) ? (float) value : lexicon->valence[word];
    }
done:
    free(b);
    free(a);
    free(gram);
    free(known);
    return rc;
}
