#include "bag.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 1 << 16, NEWTON_MAX = 50, CG_MAX = 200, UNKNOWN = -1 };
#define PENALTY 1.0 /* C */

typedef struct dictionary { /* 64 bits of a word, or of a pair -> number. Two of a million that share all 64: one time
                               in 10^7 */
    uint64_t *keys;
    int32_t  *numbers;
    size_t    slots, count;
} dictionary;

typedef struct matrix { /* sparse rows; the constant is a column of ones behind the others */
    size_t  *at;        /* [rows + 1] */
    int32_t *column;
    double  *value;
    size_t   rows, used, capacity;
} matrix;

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static size_t slot_of(const dictionary *d, uint64_t key)
{
    size_t at = (size_t) key & (d->slots - 1);
    while (d->numbers[at] != UNKNOWN && d->keys[at] != key) {
        at = (at + 1) & (d->slots - 1);
    }
    return at;
}

static bool dictionary_resize(dictionary *d, size_t slots)
{
    dictionary bigger = {calloc(slots, sizeof *bigger.keys), calloc(slots, sizeof *bigger.numbers), slots, d->count};
    if (!bigger.keys || !bigger.numbers) {
        free(bigger.keys);
        free(bigger.numbers);
        return false;
    }
    for (size_t i = 0; i < slots; i++) {
        bigger.numbers[i] = UNKNOWN;
    }
    for (size_t i = 0; i < d->slots; i++) {
        if (d->numbers[i] != UNKNOWN) {
            size_t at          = slot_of(&bigger, d->keys[i]);
            bigger.keys[at]    = d->keys[i];
            bigger.numbers[at] = d->numbers[i];
        }
    }
    free(d->keys);
    free(d->numbers);
    *d = bigger;
    return true;
}

/* The number of a feature; of a new one the next, if it may be added. *ok is false where there is no memory. */
static int32_t number_of(dictionary *d, uint64_t key, bool add, bool *ok)
{
    size_t at = slot_of(d, key);
    if (d->numbers[at] == UNKNOWN && add) {
        if (2 * d->count >= d->slots) {
            *ok = dictionary_resize(d, 2 * d->slots);
            at  = slot_of(d, key);
        }
        if (*ok) {
            d->keys[at]    = key;
            d->numbers[at] = (int32_t) d->count++;
        }
    }
    return d->numbers[at];
}

static int by_column(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;
    return (x > y) - (x < y);
}

static bool put(matrix *m, int32_t column)
{
    if (column == UNKNOWN) {
        return true;
    }
    if (m->used == m->capacity) {
        size_t   capacity = m->capacity ? 2 * m->capacity : 1 << 16;
        int32_t *columns  = realloc(m->column, capacity * sizeof *columns);
        m->column         = columns ? columns : m->column;
        double *values    = realloc(m->value, capacity * sizeof *values);
        m->value          = values ? values : m->value;
        if (!columns || !values) {
            return false;
        }
        m->capacity = capacity;
    }
    m->column[m->used++] = column;
    return true;
}

/* Words and pairs of one text as a row of counts. */
static bool put_text(matrix *m, dictionary *d, const char *text, bool add)
{
    const size_t from   = m->used;
    uint64_t     before = 0;
    bool         ok = true, any = false;
    for (const char *at = text; ok && *at;) {
        size_t   size = strcspn(at, " \t\r\n");
        uint64_t word = 0xcbf29ce484222325u;
        for (size_t i = 0; i < size; i++) {
            word = (word ^ (uint8_t) at[i]) * 0x100000001b3u;
        }
        if (size) {
            word = mix(word);
            ok   = put(m, number_of(d, word, add, &ok));
            ok   = ok && (!any || put(m, number_of(d, mix(before + 0x9e3779b97f4a7c15u) ^ word, add, &ok)));
            any  = true;
        }
        before = word;
        at += size + (at[size] != '\0');
    }
    if (ok) { /* counts of equal columns */
        qsort(m->column + from, m->used - from, sizeof *m->column, by_column);
        size_t to = from;
        for (size_t i = from; i < m->used; i++) {
            if (to > from && m->column[to - 1] == m->column[i]) {
                m->value[to - 1]++;
            } else {
                m->column[to]  = m->column[i];
                m->value[to++] = 1;
            }
        }
        m->used          = to;
        m->at[++m->rows] = to;
    }
    return ok;
}

static bool put_texts(matrix *m, dictionary *d, const cmif_bag_texts *texts, bool add)
{
    m->at   = calloc(texts->count + 1, sizeof *m->at);
    bool ok = m->at;
    for (size_t i = 0; ok && i < texts->count; i++) {
        ok = put_text(m, d, texts->texts[i], add);
    }
    return ok;
}

/* Counts to TF-IDF; idf: of the texts that were trained on. */
static void weigh(matrix *m, const double *idf)
{
    for (size_t r = 0; r < m->rows; r++) {
        double square = 0;
        for (size_t i = m->at[r]; i < m->at[r + 1]; i++) {
            m->value[i] = (1 + log(m->value[i])) * idf[m->column[i]];
            square += m->value[i] * m->value[i];
        }
        for (size_t i = m->at[r]; i < m->at[r + 1]; i++) {
            m->value[i] /= sqrt(square);
        }
    }
}

static void times(const matrix *m, const double *w, size_t constant, double *out)
{
    for (size_t r = 0; r < m->rows; r++) {
        double sum = w[constant];
        for (size_t i = m->at[r]; i < m->at[r + 1]; i++) {
            sum += m->value[i] * w[m->column[i]];
        }
        out[r] = sum;
    }
}

/* out = add + its transpose times y */
static void times_back(const matrix *m, const double *y, size_t constant, const double *add, double *out)
{
    memcpy(out, add, (constant + 1) * sizeof *out);
    for (size_t r = 0; r < m->rows; r++) {
        out[constant] += y[r];
        for (size_t i = m->at[r]; i < m->at[r + 1]; i++) {
            out[m->column[i]] += m->value[i] * y[r];
        }
    }
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* |w|^2 / 2 + C * sum of ln(1 + exp(-+ score)); pull: its derivative by score, bend: the second. */
static double loss(const double *w, size_t n, const double *scores, const uint8_t *labels, size_t rows, double *pull,
                   double *bend)
{
    double sum = dot(w, w, n) / 2;
    for (size_t r = 0; r < rows; r++) {
        double margin = labels[r] ? scores[r] : -scores[r], p = 1 / (1 + exp(margin));
        sum += PENALTY * (margin > 0 ? log1p(exp(-margin)) : log1p(exp(margin)) - margin);
        pull[r] = PENALTY * (labels[r] ? -p : p);
        bend[r] = PENALTY * p * (1 - p);
    }
    return sum;
}

/* (1 + X' bend X) step = -slope, by conjugate gradients until a tenth of it is left, or a thousandth near the end */
static void solve(const matrix *m, const double *bend, const double *slope, size_t n, double *step, double *space)
{
    double *rest = space, *way = space + n, *bent = space + 2 * n, *rows = space + 3 * n;
    double  left = dot(slope, slope, n), goal = fmin(0.01, sqrt(left) * 1e-3) * left;
    for (size_t i = 0; i < n; i++) {
        step[i] = 0;
        rest[i] = way[i] = -slope[i];
    }
    for (int k = 0; k < CG_MAX && left > goal; k++) {
        times(m, way, n - 1, rows);
        for (size_t r = 0; r < m->rows; r++) {
            rows[r] *= bend[r];
        }
        times_back(m, rows, n - 1, way, bent);
        const double by = left / dot(way, bent, n), was = left;
        for (size_t i = 0; i < n; i++) {
            step[i] += by * way[i];
            rest[i] -= by * bent[i];
        }
        left = dot(rest, rest, n);
        for (size_t i = 0; i < n; i++) {
            way[i] = rest[i] + left / was * way[i];
        }
    }
}

static bool train(const matrix *m, const uint8_t *labels, size_t n, double *w)
{
    const size_t rows   = m->rows;
    double      *scores = calloc(3 * rows, sizeof *scores), *slope = calloc(3 * n, sizeof *slope),
           *space = calloc(3 * n + rows, sizeof *space);
    const bool ok = scores && slope && space;
    for (int k = 0; ok && k < NEWTON_MAX; k++) {
        double *pull = scores + rows, *bend = scores + 2 * rows, *step = slope + n, *next = slope + 2 * n;
        times(m, w, n - 1, scores);
        const double here = loss(w, n, scores, labels, rows, pull, bend);
        times_back(m, pull, n - 1, w, slope);
        if (sqrt(dot(slope, slope, n)) < 1e-4) {
            break;
        }
        solve(m, bend, slope, n, step, space);
        const double falls = dot(slope, step, n);
        double       scale = 1, there = INFINITY;
        for (; scale > 1e-6 && !(there <= here + 1e-4 * scale * falls); scale /= 2) {
            for (size_t i = 0; i < n; i++) {
                next[i] = w[i] + scale * step[i];
            }
            times(m, next, n - 1, scores);
            there = loss(next, n, scores, labels, rows, pull, bend);
        }
        memcpy(w, next, n * sizeof *w);
    }
    free(scores);
    free(slope);
    free(space);
    return ok;
}

static bool both_labels(const cmif_bag_texts *texts)
{
    size_t ones = 0;
    for (size_t i = 0; i < texts->count; i++) {
        ones += texts->labels[i] == 1;
    }
    return ones && ones < texts->count;
}

cmif_code cmif_bag_accuracy(const cmif_bag_texts *train_on, const cmif_bag_texts *test, double *accuracy, cmif_err *err)
{
    if (!test->count || !both_labels(train_on)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "a stand-in is trained on texts of both labels, and tried on one and more: "
                         "found %zu and %zu texts",
                         train_on->count, test->count);
    }
    dictionary d = {0};
    matrix     m = {0}, t = {0};
    double    *idf = NULL, *w = NULL, *scores = calloc(test->count, sizeof *scores);
    bool       ok = scores && dictionary_resize(&d, SLOTS_FIRST) && put_texts(&m, &d, train_on, true) &&
              put_texts(&t, &d, test, false);
    const size_t n = d.count + 1;
    idf            = ok ? calloc(n, sizeof *idf) : NULL;
    w              = ok ? calloc(n, sizeof *w) : NULL;
    ok             = idf && w;
    for (size_t i = 0; ok && i < m.used; i++) {
        idf[m.column[i]]++;
    }
    for (size_t i = 0; ok && i < d.count; i++) {
        idf[i] = log((1 + (double) m.rows) / (1 + idf[i])) + 1;
    }
    if (ok) {
        weigh(&m, idf);
        weigh(&t, idf);
        ok = train(&m, train_on->labels, n, w);
    }
    if (ok) {
        size_t right = 0;
        times(&t, w, n - 1, scores);
        for (size_t i = 0; i < test->count; i++) {
            right += (scores[i] > 0) == (test->labels[i] == 1);
        }
        *accuracy = (double) right / (double) test->count;
    }
    free(d.keys);
    free(d.numbers);
    free(m.at);
    free(m.column);
    free(m.value);
    free(t.at);
    free(t.column);
    free(t.value);
    free(idf);
    free(w);
    free(scores);
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for the words of %zu texts", train_on->count);
}
