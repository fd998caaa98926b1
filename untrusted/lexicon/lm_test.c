#include "lexicon/lexicon.h"

#include "base/check.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char          folder[256];
static cmif_lexicon *lex;

static const char *in_folder(const char *name)
{
    static char paths[8][300];
    static int  turn;
    char       *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void put_text(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "wb");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static uint32_t id_of(const char *word)
{
    for (uint32_t i = 1; i < lex->count; i++) {
        if (cmif_str_is(lex->words[i], word)) {
            return i;
        }
    }
    fprintf(stderr, "no '%s'\n", word);
    abort();
}

/* ---- a model of text, looked into ---- */

typedef struct model {
    cmif_gguf     *file;
    const uint8_t *unigrams, *first, *second, *counts;
    size_t         unigram_count, first_count, pairs, count_count;
} model;

static uint32_t at(const uint8_t *items, size_t index)
{
    uint32_t item;
    memcpy(&item, items + 4 * index, 4);
    return item;
}

static cmif_code build(const char *text, const char *name, cmif_err *err)
{
    char path[300];
    strcpy(path, in_folder("text.txt"));
    put_text("text.txt", text);
    unlink(in_folder(name));
    return cmif_lm_build(lex, NULL, (const char *const[]){path}, 1, in_folder(name), NULL, NULL, err);
}

static model of_text(const char *text)
{
    model    m   = {0};
    cmif_err err = {0};
    if (build(text, "lm.gguf", &err) != CMIF_OK || cmif_gguf_open(in_folder("lm.gguf"), &m.file, &err) != CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.unigrams", CMIF_GGUF_U32, &m.unigrams, &m.unigram_count, &err) !=
            CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.first", CMIF_GGUF_U32, &m.first, &m.first_count, &err) != CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.second", CMIF_GGUF_U32, &m.second, &m.pairs, &err) != CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.counts", CMIF_GGUF_U32, &m.counts, &m.count_count, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return m;
}

/* a and b: words, "" the unknown one, NULL the end of a sentence */
static uint32_t id_or_end(const char *word)
{
    return !word ? lex->count : *word ? id_of(word) : 0;
}

static uint32_t count_of(const model *m, const char *a, const char *b)
{
    for (uint32_t i = at(m->first, id_or_end(a)); i < at(m->first, id_or_end(a) + 1); i++) {
        if (at(m->second, i) == id_or_end(b)) {
            return at(m->counts, i);
        }
    }
    return 0;
}

/* Whether text gives just these pairs, each once: words in a row, NULL between sentences, a second NULL at the end. */
static bool is_sequence(const char *text, const char *const *words)
{
    model       m      = of_text(text);
    const char *before = NULL;
    bool        same   = true;
    size_t      pairs  = 0;
    for (; *words || before; words++, pairs++) {
        same   = same && count_of(&m, before, *words) == 1;
        before = *words;
    }
    same = same && m.pairs == pairs;
    cmif_gguf_free(m.file);
    return same;
}

#define SEQUENCE(text, ...) CHECK(is_sequence(text, (const char *const[]){__VA_ARGS__, NULL, NULL}))

/* ---- promises ---- */

static void pairs_and_words_are_counted(void)
{
    model m = of_text("the dog ran\nThe DOG barked\n\n");
    CHECK(m.unigram_count == (size_t) lex->count + 1 && m.first_count == (size_t) lex->count + 2 &&
          m.pairs == m.count_count);
    CHECK(at(m.unigrams, id_of("the")) == 2 && at(m.unigrams, id_of("ran")) == 1 && at(m.unigrams, lex->count) == 2);
    CHECK(count_of(&m, NULL, "the") == 2 && count_of(&m, "the", "dog") == 2 && count_of(&m, "dog", "ran") == 1);
    CHECK(count_of(&m, "dog", "barked") == 1 && count_of(&m, "ran", NULL) == 1 && count_of(&m, "barked", NULL) == 1);
    CHECK(m.pairs == 6 && count_of(&m, "ran", "the") == 0);
    cmif_gguf_free(m.file);
}

static void pairs_of_a_word_ascend_and_sum_to_its_count(void)
{
    model m = of_text("a dog a the dog. zzz dog ran the ran a dog! the dog the yyy the a");
    CHECK(at(m.first, 0) == 0 && at(m.first, lex->count + 1) == m.pairs);
    for (uint32_t a = 0; a <= lex->count; a++) {
        uint32_t sum = 0;
        for (uint32_t i = at(m.first, a); i < at(m.first, a + 1); i++) {
            CHECK(i == at(m.first, a) || at(m.second, i) > at(m.second, i - 1));
            CHECK(at(m.counts, i) > 0);
            sum += at(m.counts, i);
        }
        CHECK(sum == at(m.unigrams, a));
    }
    cmif_gguf_free(m.file);
}

static void sentences_end_at_lines_and_marks(void)
{
    SEQUENCE("dog. ran", "dog", NULL, "ran");
    SEQUENCE("dog! ran", "dog", NULL, "ran");
    SEQUENCE("dog? ran", "dog", NULL, "ran");
    SEQUENCE("dog ... \n\n. ran", "dog", NULL, "ran");
    SEQUENCE("dog\r\nran", "dog", NULL, "ran");
    SEQUENCE("dog, ran; the: barked - a", "dog", "ran", "the", "barked", "a");
}

static void words_are_split_as_the_sanitizer_splits_them(void)
{
    SEQUENCE("don't", "don't");
    SEQUENCE("DON\xe2\x80\x99T", "don't");    /* U+2019 */
    SEQUENCE("dog's ran", "dog", "s", "ran"); /* not there as a whole: its parts */
    SEQUENCE("zzz's", "", "s");
    SEQUENCE("o'zzz'dog", "o", "", "dog");
    SEQUENCE("'dog' ran'", "dog", "ran"); /* apostrophes outside */
    SEQUENCE("dog''ran", "dog", "ran");   /* two are no part of a word */
    SEQUENCE("dog-ran", "dog", "ran");
    SEQUENCE("12 dog 3rd", "", "dog", "3rd");
    SEQUENCE("caf\xc3\xa9 dog", "caf\xc3\xa9", "dog");
    SEQUENCE("CAF\xc3\x89 dog", "caf\xc3\xa9", "dog");
    SEQUENCE("CAFE\xcc\x81 dog", "caf\xc3\xa9", "dog"); /* lower case, NFC */
    SEQUENCE("do\xc2\xadg ran", "dog", "ran");          /* a soft hyphen is nothing to see */
    SEQUENCE("dog\xff"
             "ran",
             "dog", "ran");                       /* no UTF-8 */
    SEQUENCE("dog\xe2\x80\x94ran", "dog", "ran"); /* a dash */
}

static void a_long_word_is_unknown(void)
{
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    SEQUENCE(text, "");
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\xc3\x84", 2);
    }
    SEQUENCE(text, "");
}

static void the_file_names_lexicon_and_text(void)
{
    static const char text[] = "the dog ran\n";
    unsigned char     digest[32];
    char              hex[65], expected[65];
    cmif_str          found;
    model             m = of_text(text);
    for (size_t i = 0; i < 32; i++) {
        snprintf(expected + 2 * i, 3, "%02x", lex->hash[i]);
    }
    CHECK(cmif_gguf_get_str(m.file, "cmif.lm.lexicon_hash", &found, NULL) == CMIF_OK && cmif_str_is(found, expected));
    CHECK(EVP_Digest(text, sizeof text - 1, digest, NULL, EVP_sha256(), NULL));
    for (size_t i = 0; i < 32; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    CHECK(cmif_gguf_get_str(m.file, "cmif.lm.text_hash", &found, NULL) == CMIF_OK && cmif_str_is(found, hex));
    CHECK(cmif_gguf_get_str(m.file, "general.architecture", &found, NULL) == CMIF_OK && cmif_str_is(found, "cmif-lm"));
    cmif_gguf_free(m.file);
}

static void texts_count_one_after_another(void)
{
    char paths[2][300];
    strcpy(paths[0], in_folder("one.txt"));
    strcpy(paths[1], in_folder("two.txt"));
    put_text("one.txt", "the dog"); /* no line feed: the sentence ends with the file */
    put_text("two.txt", "ran the");
    CHECK(cmif_lm_build(lex, NULL, (const char *const[]){paths[0], paths[1]}, 2, in_folder("both.gguf"), NULL, NULL,
                        NULL) == CMIF_OK);
    cmif_gguf     *file = NULL;
    const uint8_t *unigrams;
    size_t         count;
    if (cmif_gguf_open(in_folder("both.gguf"), &file, NULL) != CMIF_OK ||
        cmif_gguf_get_array(file, "cmif.lm.unigrams", CMIF_GGUF_U32, &unigrams, &count, NULL) != CMIF_OK) {
        abort();
    }
    CHECK(at(unigrams, lex->count) == 2 && at(unigrams, id_of("the")) == 2);
    cmif_gguf_free(file);
}

static bool is_there(const char *name)
{
    struct stat status;
    return stat(in_folder(name), &status) == 0;
}

static bool stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void) what;
    CHECK(done <= total);
    ++*(int *) context;
    return false;
}

static void what_cannot_be_counted_is_refused(void)
{
    cmif_err err = {0};
    CHECK(build("", "none.gguf", &err) == CMIF_E_FORMAT && strstr(err.text, "no words") && !is_there("none.gguf"));
    CHECK(build(" .\n!\n", "none.gguf", &err) == CMIF_E_FORMAT && !is_there("none.gguf"));
    char path[300];
    strcpy(path, in_folder("nosuch.txt"));
    CHECK(cmif_lm_build(lex, NULL, (const char *const[]){path}, 1, in_folder("none.gguf"), NULL, NULL, &err) ==
          CMIF_E_IO);
    CHECK(strstr(err.text, "nosuch.txt") && !is_there("none.gguf"));

    FILE *file = fopen(in_folder("large.txt"), "wb"); /* progress is asked once for each MiB */
    for (int i = 0; file && i < 200000; i++) {
        fputs("the dog ran\n", file);
    }
    if (!file || fclose(file) != 0) {
        abort();
    }
    int asked = 0;
    strcpy(path, in_folder("large.txt"));
    CHECK(cmif_lm_build(lex, NULL, (const char *const[]){path}, 1, in_folder("none.gguf"), stop, &asked, &err) ==
          CMIF_E_CANCELLED);
    CHECK(asked == 1 && !is_there("none.gguf"));
}

/* More pairs than the table has room for at first, against counting them plainly. */
static void many_pairs_are_all_there(void)
{
    enum { WORDS = 400, STEPS = 150000 };
    static uint32_t counts[WORDS][WORDS];
    cmif_lexicon   *small = lex;
    FILE           *list  = fopen(in_folder("many.txt"), "wb"), *text;
    uint32_t        state = 1, before = 0;
    char            path[300];

    for (int i = 0; list && i < WORDS; i++) {
        fprintf(list, "word%d\n", i);
    }
    if (!list || fclose(list) != 0 ||
        cmif_lexicon_build_from_list(in_folder("many.txt"), in_folder("many.gguf"), NULL) != CMIF_OK ||
        cmif_lexicon_open(in_folder("many.gguf"), &lex, NULL) != CMIF_OK ||
        !(text = fopen(in_folder("walk.txt"), "wb"))) {
        abort();
    }
    for (int i = 0; i < STEPS; i++) {
        state         = state * 1664525u + 1013904223u;
        uint32_t next = (state >> 16) % WORDS;
        fprintf(text, "word%u ", next);
        counts[before][next] += i > 0;
        before = next;
    }
    fclose(text);
    strcpy(path, in_folder("walk.txt"));
    CHECK(cmif_lm_build(lex, NULL, (const char *const[]){path}, 1, in_folder("walk.gguf"), NULL, NULL, NULL) ==
          CMIF_OK);
    model m = {0};
    if (cmif_gguf_open(in_folder("walk.gguf"), &m.file, NULL) != CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.first", CMIF_GGUF_U32, &m.first, &m.first_count, NULL) != CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.second", CMIF_GGUF_U32, &m.second, &m.pairs, NULL) != CMIF_OK ||
        cmif_gguf_get_array(m.file, "cmif.lm.counts", CMIF_GGUF_U32, &m.counts, &m.count_count, NULL) != CMIF_OK) {
        abort();
    }
    size_t different = 0, wrong = 0;
    for (int a = 0; a < WORDS; a++) {
        for (int b = 0; b < WORDS; b++) {
            char from[16], to[16];
            snprintf(from, sizeof from, "word%d", a);
            snprintf(to, sizeof to, "word%d", b);
            different += counts[a][b] != 0;
            wrong += a % 8 == 0 && b % 8 == 0 && count_of(&m, from, to) != counts[a][b];
        }
    }
    CHECK(different > 65536 && m.pairs == different + 2 && wrong == 0);
    cmif_gguf_free(m.file);
    cmif_lexicon_free(lex);
    lex = small;
}

int main(void)
{
    cmif_err err = {0};
    strcpy(folder, "/tmp/cmif-lm-test-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    put_text("list.txt", "the\na\ndog\nran\nbarked\n3rd\ncaf\xc3\xa9\n");
    if (cmif_lexicon_build_from_list(in_folder("list.txt"), in_folder("lexicon.gguf"), &err) != CMIF_OK ||
        cmif_lexicon_open(in_folder("lexicon.gguf"), &lex, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    RUN(pairs_and_words_are_counted);
    RUN(pairs_of_a_word_ascend_and_sum_to_its_count);
    RUN(sentences_end_at_lines_and_marks);
    RUN(words_are_split_as_the_sanitizer_splits_them);
    RUN(a_long_word_is_unknown);
    RUN(the_file_names_lexicon_and_text);
    RUN(texts_count_one_after_another);
    RUN(what_cannot_be_counted_is_refused);
    RUN(many_pairs_are_all_there);
    cmif_lexicon_free(lex);
    char remove[300];
    snprintf(remove, sizeof remove, "rm -rf '%s'", folder);
    return system(remove) != 0 || check_report();
}
