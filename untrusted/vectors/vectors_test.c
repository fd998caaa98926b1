/* Vectors are what their sources say, bit for bit the same for any number of threads; broken files are refused whole.
 */
#include "vectors/internal.h"
#include "vectors/matrix.h"

#include "base/check.h"
#include "rows/rows.h"

#include <math.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char     folder[] = "/tmp/cmif-vectors-test-XXXXXX";
static char     path[sizeof folder + 32];
static cmif_err err;

/* ---- helpers ---- */

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *write_text(const char *text)
{
    FILE *file = fopen(in_folder("vectors.txt"), "w");
    CHECK(file && fputs(text, file) >= 0);
    if (file) {
        fclose(file);
    }
    return path;
}

static uint64_t state = 1;

static float noise(void) /* -.5 to .5 */
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float) ((double) (state >> 40) * 0x1p-24 - .5);
}

static bool fails(cmif_code got, cmif_code expected, const char *saying)
{
    if (got != expected || !strstr(err.text, saying)) {
        fprintf(stderr, "  code %s, text '%s'; expected %s and '%s'\n", cmif_code_name(got), err.text,
                cmif_code_name(expected), saying);
    }
    return got == expected && strstr(err.text, saying);
}

static cmif_str str(const char *text)
{
    return (cmif_str){text, strlen(text)};
}

static cmif_vectors *random_vectors(uint32_t count, uint32_t width)
{
    cmif_vectors *v = NULL;
    if (cmif_vectors_new(count, width, &v, &err) != CMIF_OK) {
        exit(1);
    }
    for (size_t i = width; i < (size_t) count * width; i++) {
        v->rows[i] = noise() * (float) (1 + i % width % 7);
    }
    memset(v->known + 1, 1, count - 1);
    CHECK(cmif_vectors_seal(v, &err) == CMIF_OK);
    return v;
}

static bool same(const cmif_vectors *a, const cmif_vectors *b)
{
    return a && b && a->count == b->count && a->width == b->width &&
           memcmp(a->rows, b->rows, (size_t) a->count * a->width * sizeof(float)) == 0 &&
           memcmp(a->known, b->known, a->count) == 0 && memcmp(a->hash, b->hash, 32) == 0;
}

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

static double product(const cmif_vectors *v, uint32_t a, uint32_t b)
{
    double sum = 0;
    for (uint32_t i = 0; i < v->width; i++) {
        sum += (double) v->rows[a * v->width + i] * (double) v->rows[b * v->width + i];
    }
    return sum;
}

/* ---- linear algebra ---- */

static void eigenvectors_of_a_hand_case(void)
{
    double a[9] = {2, 1, 0, 1, 2, 0, 0, 0, 5}, values[3], vectors[9];
    CHECK(cmif_matrix_eigen(a, 3, 1, values, vectors, &err) == CMIF_OK);
    CHECK(near(values[0], 5, 1e-15) && near(values[1], 3, 1e-15) && near(values[2], 1, 1e-15));
    CHECK(near(vectors[0], 0, 1e-15) && near(vectors[3], 0, 1e-15) && near(vectors[6], 1, 1e-15));
    CHECK(near(fabs(vectors[1]), sqrt(.5), 1e-15) && near(vectors[1], vectors[4], 1e-15));
    CHECK(near(fabs(vectors[2]), sqrt(.5), 1e-15) && near(vectors[2], -vectors[5], 1e-15));
}

/* Random, all equal, all zero, of rank one, already diagonal, of one column; and all sizes around those that are
 * computed side by side. */
static void eigenvectors_are_eigenvectors(void)
{
    enum { MOST = 70 };
    static double a[MOST * MOST], spare[MOST * MOST], vectors[MOST * MOST], values[MOST];
    for (uint32_t n = 1; n <= MOST; n += n < 18 ? 1 : 13) {
        for (int kind = 0; kind < 5; kind++) {
            for (uint32_t i = 0; i < n; i++) {
                for (uint32_t j = 0; j <= i; j++) {
                    const double x = kind == 0   ? (double) noise()
                                     : kind == 1 ? (i == j)
                                     : kind == 2 ? 0
                                     : kind == 3 ? (i + 1.) * (j + 1.)
                                     : i == j    ? (double) noise()
                                                 : 0;
                    a[i * n + j] = a[j * n + i] = x;
                }
            }
            memcpy(spare, a, sizeof a);
            CHECK(cmif_matrix_eigen(spare, n, 2, values, vectors, &err) == CMIF_OK);
            double worst = 0, scale = fabs(values[0]) + fabs(values[n - 1]) + 1;
            for (uint32_t k = 0; k < n; k++) {
                double largest = 0;
                for (uint32_t i = 0; i < n; i++) {
                    const double x = vectors[i * n + k];
                    largest        = fabs(x) > fabs(largest) ? x : largest;
                }
                CHECK(largest > 0 && (k == 0 || values[k] <= values[k - 1]));
                for (uint32_t i = 0; i < n; i++) {
                    double left = 0, dot = 0;
                    for (uint32_t j = 0; j < n; j++) {
                        left += a[i * n + j] * vectors[j * n + k];
                        dot += vectors[j * n + i] * vectors[j * n + k];
                    }
                    worst = fmax(worst, fabs(left - values[k] * vectors[i * n + k]) / scale);
                    worst = fmax(worst, fabs(dot - (i == k)));
                }
            }
            CHECK(worst < 1e-13);
        }
    }
    a[0] = NAN;
    CHECK(fails(cmif_matrix_eigen(a, 1, 1, values, vectors, &err), CMIF_E_RANGE, "not finite"));
}

static void products_are_plain_sums(void)
{
    enum { COUNT = 301, WIDTH = 21 };
    static double got[WIDTH * WIDTH], mean[WIDTH];
    cmif_vectors *v = random_vectors(COUNT, WIDTH);
    for (uint32_t i = 0; i < COUNT; i += 3) {
        v->known[i] = 0;
    }
    for (uint32_t i = 0; i < WIDTH; i++) {
        mean[i] = i * .01;
    }
    CHECK(cmif_matrix_gram(v->rows, v->known, mean, COUNT, WIDTH, 3, got, &err) == CMIF_OK);
    for (uint32_t i = 0; i < WIDTH; i++) {
        for (uint32_t j = 0; j < WIDTH; j++) {
            double sum = 0;
            for (uint32_t r = 0; r < COUNT; r++) {
                const float *x = v->rows + r * WIDTH;
                sum += v->known[r] ? ((double) x[i] - mean[i]) * ((double) x[j] - mean[j]) : 0;
            }
            CHECK(sum == got[i * WIDTH + j]); /* the same order, so the same bits */
        }
    }
    cmif_vectors_free(v);
}

static void a_system_is_solved_or_refused(void)
{
    double a[9] = {4, 2, 0, 2, 5, 1, 0, 1, 3}, b[3] = {8, 15, 11}; /* x = 1, 2, 3 */
    double c[4] = {1, 2, 2, 4}, d[2] = {1, 1};
    CHECK(cmif_matrix_solve(a, b, 3, &err) == CMIF_OK);
    CHECK(near(b[0], 1, 1e-14) && near(b[1], 2, 1e-14) && near(b[2], 3, 1e-14));
    CHECK(fails(cmif_matrix_solve(c, d, 2, &err), CMIF_E_RANGE, "equation 1"));
}

/* ---- text files ---- */

static cmif_str     four_words[]   = {{"", 0}, {"bad", 3}, {"cat", 3}, {"dog", 3}, {"good", 4}};
static float        four_valence[] = {NAN, -3, NAN, NAN, 3};
static cmif_lexicon four           = {.count = 5, .words = four_words, .valence = four_valence, .meaning_hash = {4}};

static void a_text_file_gives_the_rows_it_lists(void)
{
    static const char *const texts[] = {"good 1 2.5\nzebra 9 9\ndog -1e-2 0\n",
                                        "3 2\ngood 1 2.5\nzebra 9 9\r\ndog\t-1e-2 0 \n"};
    for (int i = 0; i < 2; i++) {
        cmif_vectors *v = NULL;
        CHECK(cmif_vectors_of_file(&four, write_text(texts[i]), &v, &err) == CMIF_OK);
        if (v) {
            CHECK(v->count == 5 && v->width == 2);
            CHECK(v->rows[8] == 1.F && v->rows[9] == 2.5F && v->rows[6] == -1e-2F && v->rows[7] == 0.F);
            CHECK(!v->known[0] && !v->known[1] && !v->known[2] && v->known[3] && v->known[4]);
            CHECK(v->rows[2] == 0.F && v->rows[5] == 0.F); /* unknown words are zero */
        }
        cmif_vectors_free(v);
    }
}

static void broken_text_files_are_refused(void)
{
    static const struct {
        const char *text, *saying;
    } cases[] = {
        {"", "no vectors"},
        {"2 3\n", "no vectors"},
        {"good 1 2\ndog 1\n", "line 2 has 1 numbers, the lines before have 2"},
        {"good 1 2\ndog 1 2 3\n", "line 2 has 3 numbers"},
        {"2 3\ngood 1 2\n", "line 2 has 2 numbers"},
        {"good 1 nan\n", "line 1: number 2 is not a finite number"},
        {"good 1 2\nzebra inf 2\n", "line 2: number 1"},
        {"good 1 1e99\n", "number 2"},
        {"good 1 2x\n", "number 2"},
        {"good 1 2\ndog 3 4\ngood 1 2\n", "line 3: the word 'good' is there twice"},
        {"good 1 2\n\ndog 1 2\n", "line 2 is empty"},
        {"3 2\ngood 1 2\ndog 1 2\n", "says 3 words, the file has 2"},
        {"1 2\ngood 1 2\ndog 1 2\n", "says 1 words, the file has 2"},
        {"1 0\ngood\n", "width 0"},
        {"1 99999999999\ngood 1\n", "width 99999999999"},
        {"good\n", "width 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cmif_vectors *v = NULL;
        CHECK(fails(cmif_vectors_of_file(&four, write_text(cases[i].text), &v, &err), CMIF_E_FORMAT, cases[i].saying));
        CHECK(v == NULL);
    }
    cmif_vectors *v = NULL;
    CHECK(fails(cmif_vectors_of_file(&four, in_folder("none"), &v, &err), CMIF_E_IO, "cannot open"));
}

/* ---- joining ---- */

static void joined_rows_have_length_one(void)
{
    cmif_vectors     *a = random_vectors(40, 6), *b = random_vectors(40, 9), *joined = NULL;
    cmif_vectors_part parts[] = {{a, 1, 0}, {b, .5F, 2}};
    memset(a->known, 0, 10);
    memset(b->known, 0, 8);
    CHECK(cmif_vectors_seal(a, &err) == CMIF_OK && cmif_vectors_seal(b, &err) == CMIF_OK);
    for (uint32_t width = 0; width <= 15; width += 5) {
        CHECK(cmif_vectors_join(parts, 2, width, 1, &joined, &err) == CMIF_OK);
        CHECK(joined->width == (width ? width : 15));
        for (uint32_t word = 0; word < 40; word++) {
            CHECK(joined->known[word] == (word >= 8));
            CHECK(near(product(joined, word, word), word >= 8, 1e-6));
        }
        cmif_vectors_free(joined);
    }
    CHECK(cmif_vectors_join(parts, 2, 0, 1, &joined, &err) == CMIF_OK);
    double first = 0, second = 0;
    for (uint32_t i = 0; i < 15; i++) {
        *(i < 6 ? &first : &second) += pow((double) joined->rows[20 * 15 + i], 2);
        CHECK(i < 6 ? joined->rows[8 * 15 + i] == 0.F : true); /* word 8 is unknown to the first part */
    }
    CHECK(near(first / second, 4, 1e-5)); /* weights 1 and .5 */
    cmif_vectors_free(joined);
    cmif_vectors_free(a);
    cmif_vectors_free(b);
}

static void dropped_components_are_gone(void)
{
    enum { COUNT = 200, WIDTH = 5 };
    cmif_vectors *v = random_vectors(COUNT, WIDTH), *joined = NULL;
    for (uint32_t i = 1; i < COUNT; i++) {
        v->rows[i * WIDTH + 3] *= 100; /* so that the leading component is this column */
    }
    cmif_vectors_part part = {v, 1, 1};
    CHECK(cmif_vectors_join(&part, 1, 0, 1, &joined, &err) == CMIF_OK);
    for (uint32_t i = 1; i < COUNT; i++) {
        CHECK(fabs((double) joined->rows[i * WIDTH + 3]) < .1);
    }
    cmif_vectors_free(joined);
    cmif_vectors_free(v);
}

/* Points 3 and 5 along (1, 1)/sqrt 2 from their mean, 1 off it: the leading component is that line. */
static void components_of_a_hand_case(void)
{
    static const float points[] = {0, 0, 4, 4, -2, -2, 3, -1, -1, 3}; /* mean 1, 1 over the four known ones */
    cmif_vectors      *v = random_vectors(5, 2), *one = NULL, *two = NULL;
    memcpy(v->rows, points, sizeof points);
    CHECK(cmif_vectors_project(v, 1, 1, &one, &err) == CMIF_OK);
    CHECK(cmif_vectors_project(v, 2, 1, &two, &err) == CMIF_OK);
    if (one && two) {
        CHECK(one->rows[1] == 1.F && one->rows[2] == -1.F && one->rows[0] == 0.F);
        CHECK(near((double) two->rows[2], 1, 1e-7) && near((double) two->rows[3], 0, 1e-7));
        CHECK(near((double) two->rows[4], -1, 1e-7) && near((double) two->rows[5], 0, 1e-7));
        CHECK(near(fabs((double) two->rows[7]), 1, 1e-7) && two->rows[7] == -two->rows[9]);
    }
    cmif_vectors_free(one);
    cmif_vectors_free(two);
    cmif_vectors_free(v);
}

static void what_cannot_be_joined_is_refused(void)
{
    cmif_vectors     *a = random_vectors(5, 2), *b = random_vectors(6, 2), *out = NULL;
    cmif_vectors_part parts[] = {{a, 1, 0}, {b, 1, 0}};
    CHECK(fails(cmif_vectors_join(parts, 2, 0, 1, &out, &err), CMIF_E_RANGE, "5 and 6 words"));
    CHECK(fails(cmif_vectors_join(parts, 0, 0, 1, &out, &err), CMIF_E_RANGE, "no vectors"));
    CHECK(
        fails(cmif_vectors_join(parts, 1, 3, 1, &out, &err), CMIF_E_RANGE, "keep 3 components of vectors of width 2"));
    parts[0].weight = NAN;
    CHECK(fails(cmif_vectors_join(parts, 1, 0, 1, &out, &err), CMIF_E_RANGE, "weight"));
    parts[0] = (cmif_vectors_part){a, 1, 2};
    CHECK(fails(cmif_vectors_join(parts, 1, 0, 1, &out, &err), CMIF_E_RANGE, "2 components less"));
    CHECK(fails(cmif_vectors_project(a, 3, 1, &out, &err), CMIF_E_RANGE, "3"));
    CHECK(fails(cmif_vectors_project(a, 0, 1, &out, &err), CMIF_E_RANGE, "0"));
    a->rows[5] = NAN;
    CHECK(fails(cmif_vectors_seal(a, &err), CMIF_E_RANGE, "vector of word 2: number 1 is not finite"));
    CHECK(fails(cmif_vectors_counterfit(b, &four, 1, &err), CMIF_E_RANGE, "6 words, the lexicon has 5"));
    CHECK(out == NULL);
    cmif_vectors_free(a);
    cmif_vectors_free(b);
}

static void threads_change_no_bit(void)
{
    cmif_vectors     *a = random_vectors(700, 90), *b = random_vectors(700, 33), *first = NULL;
    cmif_vectors_part parts[] = {{a, 1, 0}, {b, .5F, 3}};
    for (uint32_t threads = 1; threads <= 3; threads++) {
        cmif_vectors *joined = NULL;
        CHECK(cmif_vectors_join(parts, 2, 50, threads, &joined, &err) == CMIF_OK);
        CHECK(!first || same(first, joined));
        if (first) {
            cmif_vectors_free(joined);
        } else {
            first = joined;
        }
    }
    cmif_vectors_free(first);
    cmif_vectors_free(a);
    cmif_vectors_free(b);
}

/* ---- counter-fitting, valence ---- */

static void synonyms_come_together_and_antonyms_part(void)
{
    cmif_edge    synonyms[] = {{2, 3, .9F}, {2, 4, .9F}, {3, 2, .9F}}, antonyms[] = {{1, 4, 1}, {4, 1, 1}};
    cmif_lexicon lexicon      = four;
    lexicon.synonyms          = synonyms;
    lexicon.synonym_count     = 3;
    lexicon.antonyms          = antonyms;
    lexicon.antonym_count     = 2;
    static const float rows[] = {0, 0, 0, 1, .2F, 0, 0, 1, 0, 0, .2F, 1, 1, 0, .1F};
    cmif_vectors      *v      = random_vectors(5, 3);
    memcpy(v->rows, rows, sizeof rows);
    CHECK(cmif_vectors_counterfit(v, &lexicon, 0, &err) == CMIF_OK); /* length 1, nothing else */
    const double cats = product(v, 2, 3), poles = product(v, 1, 4);
    CHECK(near(product(v, 1, 1), 1, 1e-6) && poles > .9);
    CHECK(cmif_vectors_counterfit(v, &lexicon, 10, &err) == CMIF_OK);
    CHECK(product(v, 2, 3) > cats + .3 && product(v, 1, 4) < poles - .1);
    for (uint32_t word = 1; word < 5; word++) {
        CHECK(near(product(v, word, word), 1, 1e-6));
    }
    /* one round by hand: v0 + 1 * synonym - 2 * .25 * cos * antonym; weights above 1 in sum are divided by it */
    memcpy(v->rows, rows, sizeof rows);
    CHECK(cmif_vectors_counterfit(v, &lexicon, 0, &err) == CMIF_OK);
    double x[3], length = 0;
    for (int i = 0; i < 3; i++) {
        x[i] = (double) v->rows[6 + i] + .5 * (double) v->rows[9 + i] + .5 * (double) v->rows[12 + i];
        length += x[i] * x[i];
    }
    double y[3], other = 0;
    for (int i = 0; i < 3; i++) {
        y[i] = (double) v->rows[3 + i] - .5 * product(v, 1, 4) * (double) v->rows[12 + i];
        other += y[i] * y[i];
    }
    CHECK(cmif_vectors_counterfit(v, &lexicon, 1, &err) == CMIF_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(near((double) v->rows[6 + i], x[i] / sqrt(length), 1e-6));
        CHECK(near((double) v->rows[3 + i], y[i] / sqrt(other), 1e-6));
    }
    v->known[3] = 0; /* it stays zero, and pulls nobody */
    CHECK(cmif_vectors_counterfit(v, &lexicon, 2, &err) == CMIF_OK);
    CHECK(v->rows[9] == 0.F && v->rows[10] == 0.F && v->rows[11] == 0.F);
    synonyms[1].b = 5;
    CHECK(fails(cmif_vectors_counterfit(v, &lexicon, 1, &err), CMIF_E_RANGE, "synonym 1"));
    synonyms[1]        = (cmif_edge){2, 4, 1};
    antonyms[1].weight = NAN;
    CHECK(fails(cmif_vectors_counterfit(v, &lexicon, 1, &err), CMIF_E_RANGE, "antonym 1"));
    cmif_vectors_free(v);
}

static void valence_is_learnt_from_the_listed_words(void)
{
    enum { COUNT = 3000, WIDTH = 12 };
    static float    truth[COUNT], listed[COUNT], out[COUNT];
    static cmif_str words[COUNT];
    cmif_vectors   *v       = random_vectors(COUNT, WIDTH);
    cmif_lexicon    lexicon = {.count = COUNT, .words = words, .valence = listed};
    double          right = 0, unlisted = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        truth[i]  = 2 * v->rows[i * WIDTH + 1] - v->rows[i * WIDTH + 4];
        listed[i] = i % 3 ? truth[i] : NAN;
    }
    v->known[7] = v->known[9] = 0;
    CHECK(cmif_vectors_seal(v, &err) == CMIF_OK);
    CHECK(cmif_vectors_valence(v, &lexicon, out, &err) == CMIF_OK);
    for (uint32_t i = 1; i < COUNT; i++) {
        if (i % 3) {
            CHECK(out[i] == truth[i]);
        } else if (v->known[i] && fabs((double) truth[i]) > .5) {
            unlisted++;
            right += (out[i] > 0) == (truth[i] > 0);
        }
    }
    CHECK(unlisted > 300 && right == unlisted);
    CHECK(fabs((double) out[9]) < .2); /* unknown: about the mean */
    for (uint32_t i = 0; i < COUNT; i++) {
        listed[i] = NAN;
    }
    CHECK(cmif_vectors_valence(v, &lexicon, out, &err) == CMIF_OK);
    CHECK(out[5] == 0.F && out[6] == 0.F); /* nothing to learn from */
    cmif_vectors_free(v);
}

/* ---- keeping ---- */

static void what_is_kept_comes_back(void)
{
    cmif_vectors *v = random_vectors(5, 7), *back = NULL;
    float         valence[5] = {0, -1, .5F, 0, 2}, found[5] = {0};
    cmif_lexicon  other    = four;
    other.meaning_hash[31] = 1;
    CHECK(cmif_vectors_save(v, valence, &four, "study", in_folder("v.gguf"), &err) == CMIF_OK);
    CHECK(cmif_vectors_open(path, &four, "study", &back, found, &err) == CMIF_OK);
    CHECK(same(v, back) && memcmp(valence, found, sizeof valence) == 0);
    cmif_vectors_free(back);
    back = NULL;
    CHECK(cmif_vectors_open(path, &four, "study", &back, NULL, &err) == CMIF_OK);
    cmif_vectors_free(back);
    back = NULL;
    CHECK(fails(cmif_vectors_open(path, &four, "other", &back, found, &err), CMIF_E_FORMAT,
                "recipe 'study', expected 'other'"));
    CHECK(fails(cmif_vectors_open(path, &other, "study", &back, found, &err), CMIF_E_FORMAT, "another lexicon"));
    CHECK(cmif_vectors_save(v, NULL, &four, "study", path, &err) == CMIF_OK);
    CHECK(fails(cmif_vectors_open(path, &four, "study", &back, found, &err), CMIF_E_FORMAT, "'valence'"));
    CHECK(cmif_vectors_save(v, NULL, &four, "study", "/none/v.gguf", &err) == CMIF_E_IO);
    CHECK(back == NULL);
    cmif_vectors_free(v);
}

/* Every byte of the file changed, and every length short of it: refused, or of no meaning (bytes that pad, the row of
 * word 0). */
static void damaged_files_are_refused(void)
{
    cmif_vectors *v = random_vectors(5, 7), *back = NULL;
    float         valence[5] = {0, -1, .5F, 0, 2}, found[5];
    uint8_t       bytes[8192];
    CHECK(cmif_vectors_save(v, valence, &four, "study", in_folder("v.gguf"), &err) == CMIF_OK);
    FILE        *file = fopen(path, "rb");
    const size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    CHECK(size > 400 && size < sizeof bytes);
    if (file) {
        fclose(file);
    }
    for (size_t i = 0; size > 0 && i < 2 * size; i++) {
        const size_t at = i % size;
        bytes[at] ^= i < size ? 1 : 0;
        file = fopen(path, "wb");
        CHECK(file && fwrite(bytes, 1, i < size ? size : at, file) == (i < size ? size : at));
        if (file) {
            fclose(file);
        }
        bytes[at] ^= i < size ? 1 : 0;
        const cmif_code rc = cmif_vectors_open(path, &four, "study", &back, found, &err);
        if (rc == CMIF_OK) {
            CHECK(same(v, back) && memcmp(valence, found, sizeof valence) == 0);
            cmif_vectors_free(back);
            back = NULL;
        }
        CHECK(back == NULL);
    }
    cmif_vectors_free(v);
}

/* ---- models: random weights from make-model ---- */

static bool make(const char *arch, const char *name, const char *type)
{
    char        program[1024];
    const char *arguments[] = {program, arch, "-o", in_folder(name), "--type", type, NULL};
    pid_t       pid;
    int         status;
    snprintf(program, sizeof program, "%s/tests/make-model", CMIF_BUILD_DIR);
    return posix_spawn(&pid, program, NULL, NULL, (char **) (uintptr_t) arguments, environ) == 0 &&
           waitpid(pid, &status, 0) == pid && status == 0;
}

/* Words of the vocabulary of make-model: its letters are etaoinshrdlucmfwypvbgkjqxz in this order, then pairs of them.
 */
enum { T = 1, Z = 25, WIDTH = 256 };

static const cmif_gguf_tensor *table_of(const char *name, cmif_gguf **file)
{
    CHECK(cmif_gguf_open(in_folder(name), file, &err) == CMIF_OK);
    return *file ? cmif_gguf_find_tensor(*file, "token_embd.weight") : NULL;
}

static void stored(const cmif_gguf_tensor *t, cmif_row_type type, uint64_t id, float *row)
{
    cmif_row_decode(type, t->data + id * cmif_row_size(type, t->shape[0]), row, t->shape[0]);
}

static void rows_are_those_of_the_words_pieces(void)
{
    static cmif_str words[] = {{"", 0}, {"e", 1}, {"t", 1}, {"zzz", 3}, {"\xe6\xbc\xa2", 3}};
    cmif_lexicon    lexicon = {.count = 5, .words = words};
    for (cmif_row_type type = CMIF_ROWS_F32; type <= CMIF_ROWS_Q8_0; type++) {
        for (int encoder = 0; encoder < 2; encoder++) {
            const char   *name = encoder ? "bert" : "llama";
            cmif_vectors *v    = NULL;
            cmif_gguf    *file = NULL;
            CHECK(make(name, name, cmif_row_type_name(type)));
            const cmif_gguf_tensor *t = table_of(name, &file);
            CHECK(cmif_vectors_of_rows(&lexicon, in_folder(name), &v, &err) == CMIF_OK);
            CHECK(v && t && v->width == WIDTH && t->shape[0] == WIDTH);
            if (v && t && v->width == WIDTH) {
                const uint64_t start = encoder ? 5 : 260; /* id of the word e; that of e inside a word is one more */
                float          e[WIDTH], t_row[WIDTH], z[WIDTH], zz[WIDTH];
                stored(t, type, start, e);
                stored(t, type, start + 2 * T, t_row);
                stored(t, type, start + 2 * Z, z);
                stored(t, type, start + 2 * Z + 1, zz);
                for (uint32_t i = 0; i < WIDTH; i++) {
                    zz[i] = (float) (((double) z[i] + (double) zz[i] + (double) zz[i]) / 3);
                }
                CHECK(memcmp(v->rows + WIDTH, e, sizeof e) == 0);
                CHECK(memcmp(v->rows + 2 * WIDTH, t_row, sizeof e) == 0);
                CHECK(memcmp(v->rows + 3 * WIDTH, zz, sizeof e) == 0);
                CHECK(!v->known[0] && v->known[1] && v->known[2] && v->known[3]);
                CHECK(v->known[4] == !encoder); /* WordPiece has no bytes to fall back on */
            }
            cmif_vectors_free(v);
            cmif_gguf_free(file);
        }
    }
}

enum { MANY = 400 };
static char         many_text[MANY][8];
static cmif_str     many_words[MANY], many_glosses[3];
static uint32_t     many_first[MANY + 1], many_sense[4];
static float        many_weight[4], many_valence[MANY];
static cmif_lexicon many = {.count        = MANY,
                            .words        = many_words,
                            .glosses      = many_glosses,
                            .gloss_count  = 3,
                            .gloss_first  = many_first,
                            .sense_gloss  = many_sense,
                            .sense_weight = many_weight,
                            .valence      = many_valence};

static void fill_many(void)
{
    for (uint32_t i = 1; i < MANY; i++) {
        snprintf(many_text[i], sizeof *many_text, "%c%c%c", (char) ('a' + i / 52), (char) ('a' + i / 2 % 26),
                 i % 2 ? 'e' : 't');
        many_words[i]   = str(many_text[i]);
        many_valence[i] = i % 2 ? (float) (i % 5) - 2 : NAN;
    }
    many_words[0]   = str("");
    many_glosses[0] = str("a first gloss, which has some words in it");
    many_glosses[1] = str("a second one");
    many_glosses[2] = str("the third");
    many_first[2]   = 0;
    many_first[3]   = 2; /* word 2: glosses 0 and 1 */
    for (uint32_t i = 4; i <= MANY; i++) {
        many_first[i] = i < 6 ? 2 : i == 6 ? 3 : 4; /* words 5 and 6: gloss 2 */
    }
    many_sense[0] = 0, many_sense[1] = 1, many_sense[2] = many_sense[3] = 2;
    many_weight[0] = 4, many_weight[1] = 1, many_weight[2] = .25F, many_weight[3] = 9;
}

static void sentences_are_the_same_for_any_number_of_threads(void)
{
    cmif_vectors *words[3] = {0}, *glosses[3] = {0};
    CHECK(make("bert", "bert", "f32"));
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(cmif_vectors_of_words(&many, in_folder("bert"), i + 1, NULL, NULL, &words[i], &err) == CMIF_OK);
        CHECK(cmif_vectors_of_glosses(&many, in_folder("bert"), i + 1, NULL, NULL, &glosses[i], &err) == CMIF_OK);
        CHECK(same(words[0], words[i]) && same(glosses[0], glosses[i]));
    }
    if (words[0] && glosses[0]) {
        for (uint32_t i = 0; i < MANY; i++) {
            const bool has_gloss = i == 2 || i == 5 || i == 6;
            CHECK(words[0]->known[i] == (i > 0) && near(product(words[0], i, i), i > 0, 1e-6));
            CHECK(glosses[0]->known[i] == has_gloss && near(product(glosses[0], i, i), has_gloss, 1e-6));
        }
        CHECK(near(product(glosses[0], 5, 6), 1, 1e-6) && product(glosses[0], 2, 5) < .9999);
        cmif_str      texts[] = {str(""), many_glosses[0], many_glosses[1]};
        cmif_lexicon  alone   = {.count = 3, .words = texts};
        cmif_vectors *each    = NULL;
        CHECK(cmif_vectors_of_words(&alone, in_folder("bert"), 1, NULL, NULL, &each, &err) == CMIF_OK);
        if (each) { /* weights 4 and 1: the vector is along 2 x + y */
            const double between = product(each, 1, 2), length = sqrt(4 + 1 + 4 * between);
            double       along = 0;
            for (uint32_t i = 0; i < each->width; i++) {
                along += (double) each->rows[each->width + i] * (double) glosses[0]->rows[2 * each->width + i];
            }
            CHECK(between < .995 && near(along, (2 + between) / length, 1e-5));
        }
        cmif_vectors_free(each);
        /* a vector does not depend on what shares its batch */
        cmif_lexicon  two = {.count = 3, .words = many_words};
        cmif_vectors *few = NULL;
        CHECK(cmif_vectors_of_words(&two, in_folder("bert"), 1, NULL, NULL, &few, &err) == CMIF_OK);
        for (uint32_t i = 0; few && i < 3 * few->width; i++) {
            CHECK(near((double) few->rows[i], (double) words[0]->rows[i], 1e-5));
        }
        cmif_vectors_free(few);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cmif_vectors_free(words[i]);
        cmif_vectors_free(glosses[i]);
    }
}

static bool stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    *(int *) context += done <= total && what != NULL;
    return false;
}

static void no_encoder_no_sentences(void)
{
    cmif_vectors *v      = NULL;
    int           called = 0;
    CHECK(make("llama", "llama", "f32") && make("bert", "bert", "f32"));
    CHECK(fails(cmif_vectors_of_words(&many, in_folder("llama"), 1, NULL, NULL, &v, &err), CMIF_E_UNSUPPORTED,
                "no encoder"));
    CHECK(
        fails(cmif_vectors_of_words(&many, in_folder("none"), 1, NULL, NULL, &v, &err), CMIF_E_FORMAT, "cannot load"));
    CHECK(fails(cmif_vectors_of_rows(&many, in_folder("none"), &v, &err), CMIF_E_IO, "none"));
    CHECK(fails(cmif_vectors_of_words(&many, in_folder("bert"), 1, stop, &called, &v, &err), CMIF_E_CANCELLED,
                "stopped"));
    CHECK(called == 1 && v == NULL);
    many.gloss_count = 0;
    CHECK(
        fails(cmif_vectors_of_glosses(&many, in_folder("bert"), 1, NULL, NULL, &v, &err), CMIF_E_RANGE, "no glosses"));
    many.gloss_count = 3;
    CHECK(fails(cmif_vectors_recipe(&many, NULL, NULL, 1, NULL, NULL, &v, NULL, &err), CMIF_E_RANGE, "encoder"));
}

/* Logits by another implementation of BERT, from the same file. */
static void labels_are_what_the_classifier_says_of_a_word_alone(void)
{
    static const struct {
        const char *word;
        float       leans;
    } known[]          = {{"great", 3.0338F}, {"table", 1.7113F}, {"terrible", -3.0695F}, {"unpredictable", 0.1287F}};
    const char   *sst2 = CMIF_SOURCE_DIR "/../shared/models/minilm-sst2/minilm-sst2-f16.gguf";
    cmif_str      names[5] = {{"", 0}};
    cmif_lexicon  few      = {.count = 5, .words = names};
    cmif_vectors *v[2]     = {0};
    CHECK(make("bert", "bert", "f32"));
    CHECK(fails(cmif_vectors_of_labels(&many, in_folder("bert"), 1, NULL, NULL, &v[0], &err), CMIF_E_UNSUPPORTED,
                "labels") &&
          v[0] == NULL);
    if (access(sst2, R_OK) != 0) {
        printf("       no classifier in shared/: its labels were not looked at\n");
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        names[i + 1] = str(known[i].word);
    }
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(cmif_vectors_of_labels(&few, sst2, i + 1, NULL, NULL, &v[i], &err) == CMIF_OK);
    }
    CHECK(same(v[0], v[1]) && v[0]->width == 1 && !v[0]->known[0]);
    for (uint32_t i = 0; v[0] && i < 4; i++) {
        CHECK(near((double) v[0]->rows[i + 1], (double) known[i].leans, 0.01));
    }
    cmif_vectors_free(v[0]);
    cmif_vectors_free(v[1]);
}

static void the_recipe_is_the_same_for_any_number_of_threads(void)
{
    static float  valence[3][MANY];
    cmif_vectors *v[3] = {0};
    char          decoder[sizeof path];
    CHECK(make("llama", "llama", "f32") && make("bert", "bert", "f32"));
    snprintf(decoder, sizeof decoder, "%s", in_folder("llama"));
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(cmif_vectors_recipe(&many, in_folder("bert"), decoder, i + 1, NULL, NULL, &v[i], valence[i], &err) ==
              CMIF_OK);
        CHECK(same(v[0], v[i]) && memcmp(valence[0], valence[i], sizeof *valence) == 0);
    }
    CHECK(v[0] && v[0]->width == 96 && !v[0]->known[0]);
    for (uint32_t word = 1; v[0] && word < MANY; word++) {
        CHECK(v[0]->known[word] && near(product(v[0], word, word), 1, 1e-6));
        CHECK(word % 2 == 0 || valence[0][word] == many_valence[word]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cmif_vectors_free(v[i]);
    }
}

int main(void)
{
    if (!mkdtemp(folder)) {
        return 1;
    }
    fill_many();
    RUN(eigenvectors_of_a_hand_case);
    RUN(eigenvectors_are_eigenvectors);
    RUN(products_are_plain_sums);
    RUN(a_system_is_solved_or_refused);
    RUN(a_text_file_gives_the_rows_it_lists);
    RUN(broken_text_files_are_refused);
    RUN(joined_rows_have_length_one);
    RUN(dropped_components_are_gone);
    RUN(components_of_a_hand_case);
    RUN(what_cannot_be_joined_is_refused);
    RUN(threads_change_no_bit);
    RUN(synonyms_come_together_and_antonyms_part);
    RUN(valence_is_learnt_from_the_listed_words);
    RUN(what_is_kept_comes_back);
    RUN(damaged_files_are_refused);
    RUN(rows_are_those_of_the_words_pieces);
    RUN(sentences_are_the_same_for_any_number_of_threads);
    RUN(no_encoder_no_sentences);
    RUN(labels_are_what_the_classifier_says_of_a_word_alone);
    RUN(the_recipe_is_the_same_for_any_number_of_threads);
    static const char *const files[] = {"vectors.txt", "v.gguf", "bert", "llama"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        unlink(in_folder(files[i]));
    }
    rmdir(folder);
    return check_report();
}
