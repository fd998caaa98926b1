/* rouge_test [FILE]: scores and stems in FILE (eval/rouge_golden.tsv: rouge-score 0.1.2 and NLTK, as
 * rouge_agree_test.py writes them) against ours; and what no golden pair shows. */
#include "porter.h"
#include "rouge.h"

#include "base/check.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *golden = CMIF_SOURCE_DIR "/eval/rouge_golden.tsv";

/* a field holds \n, \r, \t and \\ for a newline, a return, a tab and a backslash */
static size_t unescape(char *text)
{
    size_t used = 0;
    for (size_t i = 0; text[i]; i++) {
        char c = text[i];
        if (c == '\\') {
            c = text[++i];
            c = (char) (c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c);
        }
        text[used++] = c;
    }
    text[used] = '\0';
    return used;
}

static double numbers_differ_by(const cmif_rouge *scores, char **fields)
{
    const cmif_rouge_score *all[] = {&scores->one, &scores->two, &scores->l, &scores->lsum};
    double                  most  = 0;
    for (size_t i = 0; i < 12; i++) {
        const cmif_rouge_score *s     = all[i / 3];
        double                  found = i % 3 == 0 ? s->precision : i % 3 == 1 ? s->recall : s->f1;
        most                          = fmax(most, fabs(found - strtod(strsep(fields, "\t"), NULL)));
    }
    return most;
}

/* pair TAB reference TAB text TAB 12 numbers TAB 12 with stemming, and: stem TAB word TAB stem */
static void every_golden_line_holds(void)
{
    FILE  *file = fopen(golden, "r");
    char  *line = NULL;
    size_t room = 0, pairs = 0, stems = 0, differ = 0;
    double most = 0;
    CHECK(file != NULL);
    while (file && getline(&line, &room, file) > 0) {
        char *rest                = line;
        line[strcspn(line, "\n")] = '\0';
        const char *kind          = strsep(&rest, "\t");
        char       *first         = strsep(&rest, "\t");
        char       *second        = strsep(&rest, "\t");
        if (strcmp(kind, "stem") == 0) {
            size_t size = cmif_porter_stem(first, strlen(first));
            bool   same = size == strlen(second) && memcmp(first, second, size) == 0;
            differ += !same;
            stems++;
            continue;
        }
        size_t reference_size = unescape(first), text_size = unescape(second);
        for (int stem = 0; stem < 2; stem++) {
            cmif_rouge scores;
            bool       scored =
                cmif_rouge_score_text(first, reference_size, second, text_size, stem, &scores, NULL) == CMIF_OK;
            CHECK(scored);
            if (!scored) {
                continue;
            }
            double by = numbers_differ_by(&scores, &rest);
            most      = fmax(most, by);
            if (by > 1e-12) {
                fprintf(stderr, "pair %zu%s differs by %g\n", pairs + 1, stem ? ", stemmed," : "", by);
            }
        }
        pairs++;
    }
    CHECK(pairs >= 40 && stems >= 60); /* an empty file agrees with anything */
    CHECK(most <= 1e-12);
    CHECK(differ == 0);
    printf("%zu pairs, largest difference %g; %zu stems, %zu differ\n", pairs, most, stems, differ);
    free(line);
    if (file) {
        fclose(file);
    }
}

static char *words_of(const char *word, size_t count)
{
    size_t size = strlen(word);
    char  *text = malloc(count * size + 1);
    for (size_t i = 0; text && i < count; i++) {
        memcpy(text + i * size, word, size);
    }
    return text;
}

static void a_text_of_too_many_words_is_refused_and_one_less_is_not(void)
{
    char      *text   = words_of("word ", CMIF_ROUGE_WORDS + 1);
    size_t     size   = 5 * (size_t) CMIF_ROUGE_WORDS;
    cmif_err   err    = {0};
    cmif_rouge scores = {.one.f1 = 7};
    CHECK(cmif_rouge_score_text(text, size + 5, "word", 4, false, &scores, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "the reference has more than 8192 words") != NULL);
    CHECK(cmif_rouge_score_text("word", 4, text, size + 5, true, &scores, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "the text has more than") != NULL && scores.one.f1 > 6);
    CHECK(cmif_rouge_score_text(text, size, text, size, false, &scores, &err) == CMIF_OK);
    CHECK(fabs(scores.l.f1 - 1) < 1e-15 && fabs(scores.lsum.f1 - 1) < 1e-15);
    free(text);
}

/* Bytes that are no UTF-8 end words, a NUL does too, and nothing past the given size is read. */
static void any_bytes_are_a_text(void)
{
    static const char odd[] = {'a', 'b', '\xff', 'c', '\0', 'd', '\xc4', '\xe2', '\x84'};
    cmif_rouge        scores;
    CHECK(cmif_rouge_score_text("ab c d", 6, odd, sizeof odd, false, &scores, NULL) == CMIF_OK);
    CHECK(fabs(scores.l.f1 - 1) < 1e-15);
    CHECK(cmif_rouge_score_text("ab", 2, odd, 1, false, &scores, NULL) == CMIF_OK && scores.one.f1 < .1);
}

int main(int argc, char **argv)
{
    golden = argc > 1 ? argv[1] : golden;
    RUN(every_golden_line_holds);
    if (argc == 1) {
        RUN(a_text_of_too_many_words_is_refused_and_one_less_is_not);
        RUN(any_bytes_are_a_text);
    }
    return check_report();
}
