#include "lexicon/draft.h"

#include "base/check.h"
#include "base/check_memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- files in a folder of our own ---- */

static char folder[256];

static const char *in_folder(const char *name)
{
    static char paths[8][300];
    static int  turn;
    char       *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void put_file(const char *name, const void *data, size_t size)
{
    FILE *file = fopen(in_folder(name), "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        abort();
    }
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

static char *read_file(const char *name, size_t *size)
{
    cmif_source source;
    if (cmif_source_read(in_folder(name), &source, NULL) != CMIF_OK) {
        abort();
    }
    char *data  = source.data;
    *size       = source.size;
    source.data = NULL;
    cmif_source_free(&source);
    return data;
}

static bool is_there(const char *name)
{
    struct stat status;
    return stat(in_folder(name), &status) == 0;
}

/* ---- a WordNet of a few words ---- */

typedef struct tiny { /* pointers: symbol, position in this table, from and to in hex */
    char        type;
    const char *words, *pointers, *gloss;
} tiny;

static const tiny synsets[] = {
    /*  0 */ {'n', "animal beast", "", "a living thing that moves; \"an animal ran\""},
    /*  1 */ {'n', "dog hound", "@ 0 0000", "an animal that barks"},
    /*  2 */ {'n', "man", "! 3 0101", "an adult male"},
    /*  3 */ {'n', "Woman", "! 2 0101", "an adult female"},
    /*  4 */ {'n', "motion_picture film movie", "", "a story in pictures; also: a show; \"we saw it\"; \"a film\""},
    /*  5 */ {'n', "film", "", "a thin layer"},
    /*  6 */ {'v', "love adore", "! 7 0101", "to feel much for"},
    /*  7 */ {'v', "hate", "! 6 0101", "to feel much against"},
    /*  8 */ {'v', "see", "", "perceive by eye"},
    /*  9 */ {'v', "be", "", "exist"},
    /* 10 */ {'v', "run", "", "move fast"},
    /* 11 */ {'a', "good", "! 12 0101 & 13 0000", "as it should be"},
    /* 12 */ {'a', "bad", "! 11 0101 & 14 0000", "not as it should be"},
    /* 13 */ {'s', "superb(p)", "& 11 0000", "very good"},
    /* 14 */ {'s', "awful", "& 12 0000", "very bad"},
    /* 15 */ {'r', "well", "", "in a good way"},
    /* 16 */ {'n', "election", "", "a vote to select the winner"},
    /* 17 */ {'a', "electoral", "+ 16 0101", "of elections"},
    /* 18 */ {'n', "gleeb", "", "(slang) a derogatory term for a beast; \"you gleeb\""},
    /* 19 */ {'n', "glob blob", "", "a lump; \"glob is an obscene word\""},
};
enum { SYNSETS = sizeof synsets / sizeof *synsets };

static const char *const lemmas[] = {
    /* lemma, type, synsets in the order of senses */
    "animal n 0",     "beast n 0",  "dog n 1",   "hound n 1",    "man n 2",    "woman n 3", "motion_picture n 4",
    "film n 4 5",     "movie n 4",  "love v 6",  "adore v 6",    "hate v 7",   "see v 8",   "be v 9",
    "run v 10",       "good a 11",  "bad a 12",  "superb a 13",  "awful a 14", "well r 15", "election n 16",
    "electoral a 17", "gleeb n 18", "glob n 19", "blob n 19 18",
};

static int pos_index(char type)
{
    return type == 'n' ? 0 : type == 'v' ? 1 : type == 'r' ? 3 : 2;
}

static void append(char **at, const char *text)
{
    size_t size = strlen(text);
    memcpy(*at, text, size);
    *at += size;
    **at = 0;
}

/* One data line at offset. offsets: of all synsets, as far as they are known. */
static void data_line(char **at, const tiny *t, const unsigned *offsets)
{
    char words[256] = "", pointers[256] = "", one[64];
    int  word_count = 0, pointer_count = 0, used;
    for (const char *p = t->words; sscanf(p, "%63s%n", one, &used) == 1; p += used, word_count++) {
        strcat(strcat(words, one), " 0 ");
    }
    char     symbol[3], words_hex[5];
    unsigned target;
    for (const char *p = t->pointers; sscanf(p, "%2s %u %4s%n", symbol, &target, words_hex, &used) == 3;
         p += used, pointer_count++) {
        char type = synsets[target].type;
        sprintf(one, "%s %08u %c %s ", symbol, offsets[target], type == 's' ? 'a' : type, words_hex);
        strcat(pointers, one);
    }
    *at += sprintf(*at, "%08u 00 %c %02x %s%03d %s%s| %s  \n", offsets[t - synsets], t->type, (unsigned) word_count,
                   words, pointer_count, pointers, t->type == 'v' ? "01 + 02 00 " : "", t->gloss);
}

/* wide: put the synset of "election" where WordNet 3.0 has it, so that its topic is found. */
static void put_wordnet(bool wide)
{
    static const char *const ending[] = {"noun", "verb", "adj", "adv"};
    static char              text[200000];
    unsigned                 offsets[SYNSETS] = {0};
    char                     name[32];

    for (int round = 0; round < 2; round++) { /* offsets have one width, so the first round finds them */
        for (int pos = 0; pos < 4; pos++) {
            char *at = text;
            append(&at, "  1 This is no licence\n");
            for (int i = 0; i < SYNSETS; i++) {
                if (pos_index(synsets[i].type) != pos) {
                    continue;
                }
                if (wide && strcmp(synsets[i].words, "election") == 0) {
                    while (at < text + 181781 - 1) {
                        *at++ = ' ';
                    }
                    *at++ = '\n';
                }
                offsets[i] = (unsigned) (at - text);
                data_line(&at, &synsets[i], offsets);
            }
            sprintf(name, "data.%s", ending[pos]);
            put_file(name, text, (size_t) (at - text));
        }
    }
    for (int pos = 0; pos < 4; pos++) {
        char *at = text;
        append(&at, "  1 This is no licence\n");
        for (size_t i = 0; i < sizeof lemmas / sizeof *lemmas; i++) {
            char     lemma[32], type, senses[64] = "";
            int      used, count = 0;
            unsigned id;
            sscanf(lemmas[i], "%31s %c%n", lemma, &type, &used);
            if (pos_index(type) != pos) {
                continue;
            }
            for (const char *p = lemmas[i] + used; sscanf(p, "%u%n", &id, &used) == 1; p += used, count++) {
                sprintf(senses + strlen(senses), " %08u", offsets[id]);
            }
            at += sprintf(at, "%s %c %d 2 ! @ %d 0%s  \n", lemma, type, count, count, senses);
        }
        sprintf(name, "index.%s", ending[pos]);
        put_file(name, text, (size_t) (at - text));
    }
    put_text("noun.exc", "men man\nwomen woman\n");
    put_text("verb.exc", "am be\nbeen be\nran run\nsaw see\nseen see\n");
    put_text("adj.exc", "best good\nbetter good well\n");
    put_text("adv.exc", "best well\nbetter well\n");
    put_text("cntlist.rev", "film%1:10:00:: 1 7\nfilm%1:06:00:: 2 1\ngood%3:00:00:: 1 "
                            "10\ngone%5:00:00:old:00 4 2\nlove%2:37:00:: 1 4\nblob%1:06:00:: 1 9\n");
}

/* Buckets are lists of words with spaces; one bucket is a hundredth of a bel. */
static void put_frequencies(const char *const *buckets, size_t count)
{
    char  text[4096];
    char *at = text;
    *at++    = (char) 0xdc;
    *at++    = (char) ((count + 1) >> 8);
    *at++    = (char) (count + 1);
    append(&at, "\x82\xa6"
                "format\xa2"
                "cB\xa7"
                "version\x01");
    for (size_t i = 0; i < count; i++) {
        char *size = at++;
        char  word[32];
        int   used, members = 0;
        for (const char *p = buckets[i]; sscanf(p, "%31s%n", word, &used) == 1; p += used, members++) {
            *at++ = (char) (0xa0 | strlen(word));
            append(&at, word);
        }
        *size = (char) (0x90 | members);
    }
    gzFile file = gzopen(in_folder("f.gz"), "wb");
    if (!file || gzwrite(file, text, (unsigned) (at - text)) != at - text || gzclose(file) != Z_OK) {
        abort();
    }
}

static const char *const frequencies[] = {
    "",
    "the i of don't not",
    "good bad film films movie movies dog dogs hound",
    "superb awful love loved loves loving hate hated adored",
    "man men woman women animal animals hounds better best",
    "see saw seen seed bed running ran been zorg x1 1999 .50",
    "election electoral well q a z\xc3\xa9ro",
    "gleeb gleebs glob blob twat",
};

static void put_sources(bool wide)
{
    put_wordnet(wide);
    put_frequencies(frequencies, sizeof frequencies / sizeof *frequencies);
    put_text("valence.txt", "good\t1.9\t0.9\t[2, 2]\r\nbad\t-2.5\t0.6\t[-2, -3]\r\n:)\t2.0\t0\t[2]\r\n");
}

static cmif_code build_with(const char *pass, uint32_t words, const char *name, cmif_err *err)
{
    cmif_lexicon_sources sources = {.wordnet = folder, .pass = pass, .words = words};
    char                 list[300], valence[300];
    strcpy(list, in_folder("f.gz"));
    strcpy(valence, in_folder("valence.txt"));
    sources.frequencies = list;
    sources.valence     = valence;
    return cmif_lexicon_build(&sources, in_folder(name), NULL, NULL, err);
}

static cmif_lexicon *built;

/* ---- looking things up ---- */

static uint32_t id_of(const cmif_lexicon *lex, const char *word)
{
    for (uint32_t i = 1; i < lex->count; i++) {
        if (cmif_str_is(lex->words[i], word)) {
            return i;
        }
    }
    return 0;
}

static bool rude(const cmif_lexicon *lex, const char *word)
{
    CHECK(id_of(lex, word));
    return cmif_word_is_rude(lex, id_of(lex, word));
}

static int class_of(const char *word)
{
    uint32_t id = id_of(built, word);
    return id ? built->word_class[id] : -1;
}

static double edge_of(const cmif_edge *edges, size_t count, const char *a, const char *b)
{
    uint32_t from = id_of(built, a), to = id_of(built, b);
    for (size_t i = 0; i < count; i++) {
        if (edges[i].a == from && edges[i].b == to) {
            return (double) edges[i].weight;
        }
    }
    return 0;
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-6;
}

static double synonym(const char *a, const char *b)
{
    double there = edge_of(built->synonyms, built->synonym_count, a, b);
    CHECK(near(there, edge_of(built->synonyms, built->synonym_count, b, a)));
    return there;
}

static double antonym(const char *a, const char *b)
{
    double there = edge_of(built->antonyms, built->antonym_count, a, b);
    CHECK(near(there, edge_of(built->antonyms, built->antonym_count, b, a)));
    return there;
}

/* ---- promises of a build ---- */

static void words_ascend_from_the_empty_one(void)
{
    CHECK(built->count > 200 && built->words[0].size == 0);
    for (uint32_t i = 1; i < built->count; i++) {
        CHECK(cmif_str_compare(built->words[i - 1], built->words[i]) < 0);
    }
    CHECK(id_of(built, "zorg") && id_of(built, "a") && id_of(built, "i"));
    CHECK(!id_of(built, "x1") && !id_of(built, "1999") && !id_of(built, "q") && !id_of(built, "z\xc3\xa9ro"));
}

static void a_word_has_the_class_of_its_heaviest_reading(void)
{
    CHECK(class_of("the") == CMIF_CLASS_PASS && class_of("don't") == CMIF_CLASS_PASS &&
          class_of("n") == CMIF_CLASS_PASS);
    CHECK(class_of("not") == CMIF_CLASS_NEGATION && class_of("hardly") == CMIF_CLASS_NEGATION);
    CHECK(class_of("dog") == CMIF_CLASS_NOUN && class_of("dogs") == CMIF_CLASS_NOUNS &&
          class_of("men") == CMIF_CLASS_NOUNS);
    CHECK(class_of("love") == CMIF_CLASS_VERB && class_of("loves") == CMIF_CLASS_VERB_S);
    CHECK(class_of("loved") == CMIF_CLASS_VERB_D && class_of("loving") == CMIF_CLASS_VERB_G);
    CHECK(class_of("saw") == CMIF_CLASS_VERB_D && class_of("running") == CMIF_CLASS_VERB_G);
    CHECK(class_of("superb") == CMIF_CLASS_ADJECTIVE && class_of("well") == CMIF_CLASS_ADVERB);
    CHECK(class_of("better") == CMIF_CLASS_COMPARATIVE && class_of("best") == CMIF_CLASS_COMPARATIVE);
    CHECK(class_of("zorg") == CMIF_CLASS_UNKNOWN && built->word_class[0] == CMIF_CLASS_UNKNOWN);
}

static void seed_is_no_form_of_see_and_bed_none_of_be(void)
{
    CHECK(class_of("seed") == CMIF_CLASS_UNKNOWN && class_of("bed") == CMIF_CLASS_UNKNOWN);
}

static void forms_know_their_lemma(void)
{
    CHECK(built->lemma[id_of(built, "dogs")] == id_of(built, "dog"));
    CHECK(built->lemma[id_of(built, "better")] == id_of(built, "good"));
    CHECK(built->lemma[id_of(built, "running")] == id_of(built, "running")); /* "run" is no word here */
    CHECK(built->lemma[id_of(built, "zorg")] == id_of(built, "zorg"));
}

static void centibels_are_hundredths_of_powers_of_ten(void)
{
    for (uint32_t i = 0; i < 900; i++) {
        double expected = pow(10, -(double) i / 100);
        CHECK(fabs(cmif_centibels(i) - expected) <= 1e-12 * expected);
    }
}

static void priors_are_shares_of_all_text(void)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < sizeof frequencies / sizeof *frequencies; i++) {
        char word[32];
        int  used;
        for (const char *p = frequencies[i]; sscanf(p, "%31s%n", word, &used) == 1; p += used) {
            total += pow(10, -(double) i / 100);
        }
    }
    CHECK(fabs(built->prior[id_of(built, "film")] - pow(10, -.02) / total * 2147483648.0) <= 1);
    CHECK(fabs(built->prior[id_of(built, "zorg")] - pow(10, -.05) / total * 2147483648.0) <= 1);
    CHECK(built->prior[id_of(built, "hardly")] == 1); /* a listed word that the frequencies lack */
    for (uint32_t i = 0; i < built->count; i++) {
        CHECK(built->prior[i] >= 1);
        sum += built->prior[i];
    }
    CHECK(fabs(sum / 2147483648.0 - 1) < 1e-6);
}

static void valence_is_given_where_it_is_listed(void)
{
    CHECK(near((double) built->valence[id_of(built, "good")], 1.9) &&
          near((double) built->valence[id_of(built, "bad")], -2.5));
    CHECK(isnan(built->valence[id_of(built, "dog")]) && isnan(built->valence[0]));
}

static void topics_come_from_the_roots_of_wordnet(void)
{
    CHECK(built->topics[id_of(built, "election")] == CMIF_TOPIC_POLITICS);
    CHECK(built->topics[id_of(built, "electoral")] == CMIF_TOPIC_POLITICS); /* derived from it */
    CHECK(built->topics[id_of(built, "dog")] == 0);
}

static void synonyms_weigh_the_smaller_share(void)
{
    double film = (7 + .5) / (7 + .5 + 1 + .25); /* its first sense */
    CHECK(near(synonym("dog", "hound"), 1));
    CHECK(near(synonym("film", "movie"), film));
    CHECK(near(synonym("films", "movies"), film)); /* only between equal inflections */
    CHECK(synonym("film", "movies") == 0 && synonym("dog", "hounds") == 0 && synonym("dogs", "animal") == 0);
    CHECK(near(synonym("dog", "animal"), .3) && near(synonym("dogs", "animals"), .3)); /* hypernym */
    CHECK(near(synonym("good", "superb"), .5));                                        /* similar */
    CHECK(near(synonym("saw", "seen"), .3));                                           /* forms of one lemma */
    CHECK(near(synonym("loved", "adored"), 1) && synonym("good", "bad") == 0);
}

static void antonyms_are_direct_or_between_clusters(void)
{
    CHECK(antonym("good", "bad") == 1 && antonym("man", "woman") == 1);
    CHECK(antonym("men", "women") == 1 && antonym("loved", "hated") == 1); /* inflected */
    CHECK(antonym("adored", "hated") == 0);                                /* the pair is of words, not of synsets */
    CHECK(antonym("superb", "awful") == .5 && antonym("good", "awful") == .5);
    CHECK(antonym("man", "women") == 0 && antonym("better", "bad") == 0);
}

static const char *gloss_of(const char *word, uint32_t sense)
{
    static char text[256];
    uint32_t    id = id_of(built, word), at = built->gloss_first[id] + sense;
    if (at >= built->gloss_first[id + 1]) {
        return "";
    }
    cmif_str gloss = built->glosses[built->sense_gloss[at]];
    snprintf(text, sizeof text, "%.*s", (int) gloss.size, gloss.data);
    return text;
}

static void words_are_rude_by_definition_or_by_our_list(void)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < built->count; i++) {
        count += built->rude[i];
    }
    CHECK(rude(built, "gleeb") && rude(built, "gleebs") && rude(built, "twat") && count == 3);
    CHECK(!rude(built, "blob")); /* a twentieth of its uses */
    CHECK(!rude(built, "glob")); /* an example defines nothing */
}

static void glosses_are_definitions_without_examples(void)
{
    CHECK(strcmp(gloss_of("movie", 0), "movie, motion picture, film: a story in pictures; also: a show") == 0);
    CHECK(strcmp(gloss_of("film", 0), "film, motion picture, movie: a story in pictures; also: a show") == 0);
    CHECK(strcmp(gloss_of("film", 1), "film: a thin layer") == 0);
    CHECK(strcmp(gloss_of("film", 2), "") == 0);
    CHECK(strcmp(gloss_of("superb", 0), "superb: very good") == 0);
    CHECK(strcmp(gloss_of("zorg", 0), "") == 0);
    uint32_t loved = built->gloss_first[id_of(built, "loved")]; /* a form of a verb counts .3 */
    CHECK(near((double) built->sense_weight[loved], .3 * 4.5));
    uint32_t at = built->gloss_first[id_of(built, "film")];
    CHECK(near((double) built->sense_weight[at], 7.5) && near((double) built->sense_weight[at + 1], 1.25));
}

static void the_same_sources_give_the_same_bytes(void)
{
    size_t first_size, second_size;
    CHECK(build_with(NULL, 0, "again.gguf", NULL) == CMIF_OK);
    char *first  = read_file("lexicon.gguf", &first_size);
    char *second = read_file("again.gguf", &second_size);
    CHECK(first_size == second_size && memcmp(first, second, first_size) == 0);
    free(first);
    free(second);
}

static void fewer_words_are_the_most_frequent(void)
{
    cmif_lexicon *lex = NULL;
    CHECK(build_with(NULL, 5, "few.gguf", NULL) == CMIF_OK);
    CHECK(cmif_lexicon_open(in_folder("few.gguf"), &lex, NULL) == CMIF_OK);
    if (lex) { /* the i of (not: a negation; don't: not plain) not, good */
        CHECK(id_of(lex, "good") && !id_of(lex, "bad") && id_of(lex, "don't"));
    }
    cmif_lexicon_free(lex);
}

static void an_own_pass_list_replaces_ours(void)
{
    cmif_lexicon *lex = NULL;
    char          path[300];
    put_text("pass.txt", "dog\nzzz\ntwat\n");
    strcpy(path, in_folder("pass.txt"));
    CHECK(build_with(path, 0, "own.gguf", NULL) == CMIF_OK);
    CHECK(cmif_lexicon_open(in_folder("own.gguf"), &lex, NULL) == CMIF_OK);
    if (lex) {
        CHECK(lex->word_class[id_of(lex, "dog")] == CMIF_CLASS_PASS && id_of(lex, "zzz"));
        CHECK(!rude(lex, "twat") && rude(lex, "gleeb")); /* what passes is the person's own word */
        CHECK(lex->word_class[id_of(lex, "the")] == CMIF_CLASS_UNKNOWN && !id_of(lex, "don't"));
    }
    cmif_lexicon_free(lex);
    cmif_err err;
    put_text("pass.txt", "dog\nTwo Words\n");
    CHECK(build_with(path, 0, "own2.gguf", &err) == CMIF_E_FORMAT && strstr(err.text, "pass.txt' line 2") &&
          !is_there("own2.gguf"));
}

static void all_of_nltks_stop_words_pass(void)
{
    cmif_source list;
    if (cmif_source_read(CMIF_SOURCE_DIR "/../shared/data/stopwords/nltk_english_179.txt", &list, NULL) != CMIF_OK) {
        printf("       (the list is not here)\n");
        cmif_source_free(&list);
        return;
    }
    cmif_lines lines  = {.source = &list};
    size_t     passed = 0;
    while (cmif_lines_next(&lines)) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int) lines.line.size, lines.line.data);
        int found = class_of(word);
        passed += found == CMIF_CLASS_PASS || found == CMIF_CLASS_NEGATION;
    }
    printf("       (%zu of %zu)\n", passed, lines.number);
    CHECK(lines.number == 179 && passed == 179);
    cmif_source_free(&list);
}

static bool stop_at(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void) what;
    (void) total;
    return done < *(uint64_t *) context;
}

static void a_stopped_build_leaves_nothing(void)
{
    char list[300], valence[300];
    strcpy(list, in_folder("f.gz"));
    strcpy(valence, in_folder("valence.txt"));
    cmif_lexicon_sources sources = {.wordnet = folder, .frequencies = list, .valence = valence};
    for (uint64_t step = 0; step < 5; step++) {
        CHECK(cmif_lexicon_build(&sources, in_folder("stopped.gguf"), stop_at, &step, NULL) == CMIF_E_CANCELLED);
        CHECK(!is_there("stopped.gguf"));
    }
}

static void every_allocation_may_fail(void)
{
    put_sources(false);
    long n = 0;
    for (bool done = false; !done && n < 100000; n++) {
        cmif_err err     = {0};
        allocations_left = n;
        cmif_code rc     = build_with(NULL, 0, "memory.gguf", &err);
        done             = allocations_left >= 0; /* so many were not needed */
        allocations_left = -1;
        CHECK(done ? rc == CMIF_OK : rc == CMIF_E_MEMORY && !is_there("memory.gguf"));
    }
    printf("       (%ld allocations)\n", n - 1);
    for (n = 0;; n++) {
        cmif_lexicon *lex = NULL;
        allocations_left  = n;
        cmif_code rc      = cmif_lexicon_open(in_folder("memory.gguf"), &lex, NULL);
        bool      done    = allocations_left >= 0;
        allocations_left  = -1;
        CHECK(done ? rc == CMIF_OK : rc == CMIF_E_MEMORY && !lex);
        cmif_lexicon_free(lex);
        if (done) {
            break;
        }
    }
    put_sources(true);
}

/* ---- refusals ---- */

/* What a build says when text in a source is replaced by as much other text, or cut off there (NULL). */
static void refuses(const char *name, const char *old, const char *new, const char *said)
{
    size_t   size;
    cmif_err err  = {0};
    char    *data = read_file(name, &size), *copy = malloc(size + 100);
    char    *at = memmem(data, size, old, strlen(old));
    if (!at || !copy) {
        fprintf(stderr, "no '%s' in %s\n", old, name);
        abort();
    }
    size_t before = (size_t) (at - data), behind = size - before - strlen(old);
    memcpy(copy, data, before);
    memcpy(copy + before, new ? new : "", new ? strlen(new) : 0);
    memcpy(copy + before + (new ? strlen(new) : 0), at + strlen(old), behind);
    put_file(name, copy, new ? before + strlen(new) + behind : before);
    cmif_code rc = build_with(NULL, 0, "refused.gguf", &err);
    if (rc != CMIF_E_FORMAT || !strstr(err.text, said) || is_there("refused.gguf")) {
        fprintf(stderr, "%s, '%s' for '%s': %s\n", name, new ? new : "nothing", old, err.text);
        CHECK(!"refused as it should be");
    }
    unlink(in_folder("refused.gguf"));
    put_file(name, data, size);
    free(data);
    free(copy);
}

static void a_broken_source_is_named_with_the_line(void)
{
    refuses("data.verb", "love", "loove", "data.verb' line 3"); /* the next offset is wrong */
    refuses("data.noun", "| an animal that", "  an animal that", "data.noun' line 3");
    refuses("data.noun", " n 01 man", " n 02 man", "data.noun' line 4");
    refuses("data.noun", " n 01 man", " v 01 man", "data.noun' line 4");
    refuses("data.noun", " n 0101 | an adult male", " n 0201 | an adult male",
            "data.noun' line 4"); /* no second word */
    refuses("data.noun", " n 0101 | an adult male", " n 0102 | an adult male", "data.noun': the synset at");
    refuses("data.noun", " n 0101 | an adult male", " q 0101 | an adult male", "data.noun' line 4");
    refuses("data.noun", " 001 ! ", " 002 ! ", "data.noun' line 4");
    refuses("data.adj", "& 0", "& 9", "data.adj': the synset at");
    refuses("data.noun", "\n00000", NULL, "': the synset at"); /* cut off: adjectives still point there */
    refuses("index.noun", "animal n 1", "animal n 2", "index.noun' line 2");
    refuses("index.noun", "animal n 1", "animal v 1", "index.noun' line 2");
    refuses("index.noun", "beast n 1 2 ! @ 1 0 0", "beast n 1 2 ! @ 1 0 9", "index.noun' line 3");
    refuses("index.noun", "beast", "animal", "index.noun' line 3");
    refuses("index.noun", "animal n 1 2", NULL, "index.noun' lacks word 1 of the synset at 00000023");
    refuses("verb.exc", "ran run", "ran", "verb.exc' line 3");
    refuses("verb.exc", "ran run", "ran  run", "verb.exc' line 3");
    refuses("cntlist.rev", "good%3:00:00:: 1 10", "good%3:00:00:: 1 1x", "cntlist.rev' line 3");
    refuses("cntlist.rev", "good%3:00:00:: 1 10", "good 1 10", "cntlist.rev' line 3");
    refuses("cntlist.rev", "good%3:00:00:: 1 10", "good%7:00:00:: 1 10", "cntlist.rev' line 3");
    refuses("valence.txt", "bad\t-2.5", "bad -2.5", "valence.txt' line 2");
    refuses("valence.txt", "bad\t-2.5", "bad\t-5.5", "valence.txt' line 2");
    refuses("valence.txt", "bad\t-2.5", "bad\tnan", "valence.txt' line 2");
    refuses("valence.txt", "good", NULL, "valence.txt' is empty");
    refuses("f.gz", "\x1f\x8b", "\x1f\x8c", "f.gz' is not a whole gzip file");
}

static void a_broken_frequency_list_is_named_with_the_byte(void)
{
    static const struct {
        const char *bytes;
        size_t      size;
        const char *said;
    } lists[] = {
#define LIST(bytes, said) {bytes, sizeof bytes - 1, said}
#define HEAD                                                                                                           \
    "\x82\xa6"                                                                                                         \
    "format\xa2"                                                                                                       \
    "cB\xa7"                                                                                                           \
    "version\x01"
        LIST("", "not a frequency list"),
        LIST("\x92\x82\xa6"
             "format\xa2"
             "cC\xa7"
             "version\x01\x91\xa1"
             "x",
             "not a frequency list"),
        LIST("\x92\x82\xa6"
             "format\xa2"
             "cB\xa7"
             "version\x02\x91\xa1"
             "x",
             "not a frequency list"),
        LIST("\x92" HEAD "\x92\xa2"
             "ab",
             "byte 25 of 25"), /* a word less */
        LIST("\x92" HEAD "\x91\xa2"
             "ab\xa2"
             "cd",
             "byte 25 of 28"), /* a word more */
        LIST("\x92" HEAD "\x91\xa9"
             "ab",
             "is not part of"),                         /* a word that is longer than the file */
        LIST("\x92" HEAD "\x91\x01", "is not part of"), /* a number */
        LIST("\x92" HEAD "\xdd\xff\xff\xff\xff\xa1"
             "x",
             "is not part of"),
        LIST("\x92" HEAD "\x92\xa2"
             "ab\xa2"
             "ab",
             "word 1 twice"),
        LIST("\x92" HEAD "\x91\xa1"
             "7",
             "no word is left"),
        LIST("\x91" HEAD, "no word is left"),
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        cmif_err err  = {0};
        gzFile   file = gzopen(in_folder("f.gz"), "wb");
        gzwrite(file, lists[i].bytes, (unsigned) lists[i].size);
        gzclose(file);
        cmif_code rc = build_with(NULL, 0, "refused.gguf", &err);
        if (rc != CMIF_E_FORMAT || !strstr(err.text, lists[i].said) || is_there("refused.gguf")) {
            fprintf(stderr, "list %zu: %s\n", i, err.text);
            CHECK(!"refused as it should be");
        }
    }
    put_sources(true);
    size_t size;
    char  *data = read_file("f.gz", &size);
    for (size_t cut = 1; cut < size; cut += 7) {
        put_file("f.gz", data, size - cut);
        CHECK(build_with(NULL, 0, "refused.gguf", NULL) == CMIF_E_FORMAT);
    }
    put_file("f.gz", data, size);
    free(data);
}

static void a_missing_source_is_an_io_error_that_names_it(void)
{
    static const char *const names[] = {"data.noun", "index.adv", "verb.exc", "cntlist.rev", "f.gz", "valence.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cmif_err err = {0};
        size_t   size;
        char    *data = read_file(names[i], &size);
        unlink(in_folder(names[i]));
        CHECK(build_with(NULL, 0, "refused.gguf", &err) == CMIF_E_IO && strstr(err.text, names[i]));
        put_file(names[i], data, size);
        free(data);
    }
}

/* ---- files that are no lexicon ---- */

/* What opening says of the lexicon with one array of it changed: items of it from `at` on are replaced. */
static void open_refuses(const char *key, size_t at, const void *item, size_t item_size, long more, const char *said)
{
    cmif_gguf     *file = NULL;
    cmif_gguf_out *out  = NULL;
    cmif_lexicon  *lex  = NULL;
    cmif_err       err  = {0};

    if (cmif_gguf_open(in_folder("lexicon.gguf"), &file, NULL) != CMIF_OK || cmif_gguf_out_new(&out, NULL) != CMIF_OK) {
        abort();
    }
    for (size_t i = 0; i < cmif_gguf_value_count(file); i++) {
        cmif_gguf_value value = *cmif_gguf_value_at(file, i);
        uint8_t        *copy  = NULL;
        if (cmif_str_is(value.key, key)) {
            copy = malloc(value.size);
            memcpy(copy, value.data, value.size);
            memcpy(copy + at * item_size, item, item_size);
            value.data  = copy;
            value.count = (uint64_t) ((long) value.count + more);
            value.size  = (size_t) ((long) value.size + more * (long) item_size);
        }
        if (cmif_gguf_put_value(out, &value, NULL) != CMIF_OK) {
            abort();
        }
        free(copy);
    }
    if (cmif_gguf_write(out, in_folder("changed.gguf"), NULL, NULL, NULL) != CMIF_OK) {
        abort();
    }
    cmif_code rc = cmif_lexicon_open(in_folder("changed.gguf"), &lex, &err);
    if (rc != CMIF_E_FORMAT || lex || !strstr(err.text, said)) {
        fprintf(stderr, "%s %zu: %s\n", key, at, err.text);
        CHECK(!"refused as it should be");
    }
    cmif_lexicon_free(lex);
    cmif_gguf_out_free(out);
    cmif_gguf_free(file);
}

static void refuse_u32(const char *key, size_t at, uint32_t item, const char *said)
{
    open_refuses(key, at, &item, sizeof item, 0, said);
}

static void refuse_f32(const char *key, size_t at, float item, const char *said)
{
    open_refuses(key, at, &item, sizeof item, 0, said);
}

static void a_changed_lexicon_is_refused(void)
{
    uint8_t class = CMIF_CLASS_COUNT, one = 1, two = 2;
    uint16_t topics = 2 * CMIF_TOPIC_FAMILY;
    uint32_t zero = 0, last = (uint32_t) built->synonym_count - 1;

    refuse_u32("cmif.lexicon.prior", 3, 0, "word 3 has prior 0");
    open_refuses("cmif.lexicon.class", 4, &class, 1, 0, "class 12");
    open_refuses("cmif.lexicon.topics", 5, &topics, 2, 0, "topics 512");
    refuse_u32("cmif.lexicon.lemma", 6, built->count, "word 6 has");
    refuse_f32("cmif.lexicon.valence", 7, 4.5f, "valence 4.5");
    refuse_f32("cmif.lexicon.valence", 7, INFINITY, "valence inf");
    refuse_u32("cmif.lexicon.gloss_first", 0, 1, "word 0 has senses 1");
    refuse_u32("cmif.lexicon.gloss_first", built->count, 9999, "senses");
    refuse_u32("cmif.lexicon.gloss_first", built->count, built->gloss_first[built->count] + 1, "sense_gloss has");
    uint32_t *four = calloc(built->count + 1, sizeof *four), senses = built->gloss_first[built->count];
    for (uint32_t i = 0; i <= built->count; i++) { /* the last word has four senses, others at most three */
        four[i] = i == built->count ? senses : 3 * i < senses - 4 ? 3 * i : senses - 4;
    }
    open_refuses("cmif.lexicon.gloss_first", 0, four, (built->count + 1) * sizeof *four, 0, "expected at most 3");
    free(four);
    refuse_u32("cmif.lexicon.sense_gloss", 2, built->gloss_count, "sense 2 is gloss");
    refuse_f32("cmif.lexicon.sense_weight", 2, NAN, "sense 2 is gloss");
    refuse_f32("cmif.lexicon.sense_weight", 2, 0, "sense 2 is gloss");
    refuse_f32("cmif.lexicon.sense_weight", 2, INFINITY, "sense 2 is gloss");
    refuse_u32("cmif.lexicon.synonyms.a", last, built->count, "synonyms");
    refuse_u32("cmif.lexicon.synonyms.b", 0, built->count, "synonyms");
    refuse_u32("cmif.lexicon.synonyms.b", 0, built->synonyms[0].a, "synonyms 0");
    refuse_u32("cmif.lexicon.synonyms.a", last, 0, "ascending");
    refuse_f32("cmif.lexicon.synonyms.weight", 0, NAN, "synonyms 0");
    refuse_f32("cmif.lexicon.synonyms.weight", 0, 0, "synonyms 0");
    refuse_f32("cmif.lexicon.synonyms.weight", 0, 1.5f, "synonyms 0");
    refuse_f32("cmif.lexicon.synonyms.weight", 0, .001f, "no equal one in the other direction");
    refuse_f32("cmif.lexicon.antonyms.weight", 0, .001f, "no equal one in the other direction");
    refuse_u32("cmif.lexicon.antonyms.b", built->antonym_count - 1, 0, "antonyms");
    open_refuses("cmif.lexicon.prior", 0, &zero, 4, -1, "prior has");
    open_refuses("cmif.lexicon.antonyms.b", 0, &zero, 4, -1, "equal counts");
    refuse_u32("cmif.lexicon.version", 0, 1, "version 1, expected 2");
    open_refuses("cmif.lexicon.rude", id_of(built, "dog"), &two, 1, 0, "has rude 2");
    open_refuses("cmif.lexicon.rude", id_of(built, "the"), &one, 1, 0, "as it passes");
    open_refuses("cmif.lexicon.rude", 0, &one, 1, 0, "word 0 has rude 1");
    open_refuses("cmif.lexicon.rude", 0, &zero, 1, -1, "rude has");
    open_refuses("general.architecture", 0, "x", 1, 0, "no lexicon");
    open_refuses("cmif.lexicon.prior", 0, &zero, 4, -1, "prior");
    open_refuses("cmif.lexicon.words", 16, "Z", 1, 0, "word 1 is not"); /* a size, the next size, then letters */
    open_refuses("cmif.lexicon.words", 16, " ", 1, 0, "word 1 is not");
    open_refuses("cmif.lexicon.words", 16, "\xff", 1, 0, "word");
    open_refuses("cmif.lexicon.words", 16, "z", 1, 0, "word 2 is not behind word 1");
}

/* Lexicons of words alone, given as they would be written. */
static void words_out_of_order_twice_or_none_are_refused(void)
{
    static const char *const lists[][4] = {
        {"", "b", "a", NULL}, {"", "a", "a", NULL}, {"a", "b", NULL, NULL}, {"", NULL, NULL, NULL}, {NULL}};
    for (size_t i = 0; i < 5; i++) {
        cmif_lexicon *draft = NULL, *lex = NULL;
        cmif_str      words[4];
        uint32_t      ones[4] = {1, 1, 1, 1}, zeros[5] = {0};
        uint8_t       classes[4] = {0};
        float         valence[4] = {0};
        uint16_t      topics[4]  = {0};
        if (cmif_draft_new(&draft, NULL) != CMIF_OK) {
            abort();
        }
        cmif_lexicon given = *draft;
        for (; given.count < 4 && lists[i][given.count]; given.count++) {
            words[given.count] = (cmif_str){lists[i][given.count], strlen(lists[i][given.count])};
        }
        given.words       = words;
        given.prior       = ones;
        given.word_class  = classes;
        given.valence     = valence;
        given.topics      = topics;
        given.lemma       = zeros;
        given.rude        = classes;
        given.gloss_first = zeros;
        CHECK(cmif_draft_write(&given, "", in_folder("words.gguf"), NULL) == CMIF_OK);
        CHECK(cmif_lexicon_open(in_folder("words.gguf"), &lex, NULL) == CMIF_E_FORMAT && !lex);
        cmif_lexicon_free(lex);
        cmif_lexicon_free(draft);
    }
}

static void every_cut_lexicon_is_refused(void)
{
    size_t size;
    char  *data = read_file("lexicon.gguf", &size);
    for (size_t cut = 1; cut <= size; cut += cut < 64 ? 1 : 997) {
        cmif_lexicon *lex = NULL;
        put_file("cut.gguf", data, size - cut);
        cmif_code rc = cmif_lexicon_open(in_folder("cut.gguf"), &lex, NULL);
        if (rc == CMIF_OK) { /* only the padding is gone, all of it: without tensors there need be none */
            CHECK(cut < 32 && lex->count == built->count);
        } else {
            CHECK(rc == CMIF_E_FORMAT && !lex);
        }
        cmif_lexicon_free(lex);
    }
    free(data);
}

/* ---- lists and models ---- */

static void a_list_gives_ranks_or_counts(void)
{
    cmif_lexicon *lex = NULL;
    put_text("list.txt", "zebra\nthe\n,\nstra\xc3\x9f"
                         "e\n");
    CHECK(cmif_lexicon_build_from_list(in_folder("list.txt"), in_folder("list.gguf"), NULL) == CMIF_OK);
    CHECK(cmif_lexicon_open(in_folder("list.gguf"), &lex, NULL) == CMIF_OK);
    if (lex) {
        double sum = 1 / 10. + 1 / 11. + 1 / 12. + 1 / 13.;
        CHECK(fabs(lex->prior[id_of(lex, "zebra")] - .95 * (1 / 10.) / sum * 2147483648.0) <= 1);
        CHECK(fabs(lex->prior[id_of(lex, "stra\xc3\x9f"
                                         "e")] -
                   .95 * (1 / 13.) / sum * 2147483648.0) <= 1);
        CHECK(fabs(lex->prior[0] - .05 * 2147483648.0) <= 1);
        CHECK(lex->word_class[id_of(lex, "the")] == CMIF_CLASS_PASS &&
              lex->word_class[id_of(lex, "zebra")] == CMIF_CLASS_UNKNOWN);
        CHECK(id_of(lex, "don't") && id_of(lex, "not") && id_of(lex, ",") && lex->gloss_count == 0 &&
              lex->synonym_count == 0);
    }
    cmif_lexicon_free(lex);
    lex = NULL;
    put_text("list.txt", "zebra\t10\nthe\t30\n");
    CHECK(cmif_lexicon_build_from_list(in_folder("list.txt"), in_folder("list.gguf"), NULL) == CMIF_OK);
    CHECK(cmif_lexicon_open(in_folder("list.gguf"), &lex, NULL) == CMIF_OK);
    CHECK(lex && fabs(lex->prior[id_of(lex, "the")] - .95 * .75 * 2147483648.0) <= 1);
    cmif_lexicon_free(lex);
    lex = NULL;
    put_text("list.txt", "zebra\ntwat\n");
    CHECK(cmif_lexicon_build_from_list(in_folder("list.txt"), in_folder("list.gguf"), NULL) == CMIF_OK);
    CHECK(cmif_lexicon_open(in_folder("list.gguf"), &lex, NULL) == CMIF_OK);
    CHECK(lex && rude(lex, "twat") && !rude(lex, "zebra"));
    cmif_lexicon_free(lex);
}

static void a_bad_list_is_refused_with_the_line(void)
{
    static const struct {
        const char *text, *said;
    } lists[] = {
        {"", "is empty"},
        {"a\nb\na\n", "line 3"},
        {"the\nthe\n", "line 2"},
        {"two words\n", "line 1"},
        {"ok\n\n", "line 2"},
        {"Upper\n", "line 1"},
        {"e\xcc\x81\n", "line 1"},
        {"\xff\n", "line 1"},
        {"a\tx\n", "line 1"},
        {"a\t0\n", "line 1"},
        {"a\t-1\n", "line 1"},
        {"a\tinf\n", "line 1"},
        {"a\t1\nb\n", "line 2"},
        {"a\nb\t1\n", "line 2"},
        {"a\t1 \n", "line 1"},
        {"a\t1e999\n", "line 1"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "line 1"},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        cmif_err err = {0};
        put_text("list.txt", lists[i].text);
        cmif_code rc = cmif_lexicon_build_from_list(in_folder("list.txt"), in_folder("refused.gguf"), &err);
        if (rc != CMIF_E_FORMAT || !strstr(err.text, lists[i].said) || is_there("refused.gguf")) {
            fprintf(stderr, "list %zu: %s\n", i, err.text);
            CHECK(!"refused as it should be");
        }
    }
}

static cmif_code build_from_tokens(const char *model, const char *const *tokens, size_t count, cmif_err *err)
{
    cmif_gguf_out *out = NULL;
    cmif_str       items[16];
    for (size_t i = 0; i < count; i++) {
        items[i] = (cmif_str){tokens[i], strlen(tokens[i])};
    }
    if (cmif_gguf_out_new(&out, NULL) != CMIF_OK ||
        cmif_gguf_put_str(out, "tokenizer.ggml.model", (cmif_str){model, strlen(model)}, NULL) != CMIF_OK ||
        cmif_gguf_put_strs(out, "tokenizer.ggml.tokens", items, count, NULL) != CMIF_OK ||
        cmif_gguf_write(out, in_folder("model.gguf"), NULL, NULL, NULL) != CMIF_OK) {
        abort();
    }
    cmif_gguf_out_free(out);
    unlink(in_folder("words.gguf"));
    return cmif_lexicon_build_from_model(in_folder("model.gguf"), in_folder("words.gguf"), err);
}

static void a_models_whole_words_are_a_lexicon(void)
{
    static const char *const pieces[] = {"[PAD]",
                                         "\xe2\x96\x81zebra",
                                         "ing",
                                         "\xe2\x96\x81x",
                                         "\xe2\x96\x81Zebra",
                                         "\xe2\x96\x81the",
                                         "\xe2\x96\x81"
                                         "caf\xc3\xa9",
                                         "\xe2\x96\x81"
                                         "4u",
                                         "\xe2\x96\x81"};
    static const char *const bytes[]  = {"<s>",
                                         "\xc4\xa0zebra",
                                         "ing",
                                         "\xc4\xa0x",
                                         "\xc4\xa0Zebra",
                                         "\xc4\xa0the",
                                         "\xc4\xa0"
                                          "caf\xc3\x83\xc2\xa9" /* the bytes of an accented e, in letters */,
                                         "\xc4\xa0"
                                          "4u",
                                         "\xc4\xa0"};
    for (int turn = 0; turn < 2; turn++) {
        cmif_lexicon *lex = NULL;
        CHECK(build_from_tokens(turn ? "gpt2" : "bert", turn ? bytes : pieces, 9, NULL) == CMIF_OK);
        CHECK(cmif_lexicon_open(in_folder("words.gguf"), &lex, NULL) == CMIF_OK);
        if (lex) {
            double sum = 1 / 10. + 1 / 11. + 1 / 12.;
            CHECK(fabs(lex->prior[id_of(lex, "zebra")] - .95 * (1 / 10.) / sum * 2147483648.0) <= 1);
            CHECK(fabs(lex->prior[id_of(lex, "the")] - .95 * (1 / 11.) / sum * 2147483648.0) <= 1);
            CHECK(id_of(lex, "caf\xc3\xa9") && !id_of(lex, "ing") && !id_of(lex, "x") && !id_of(lex, "4u"));
            CHECK(lex->word_class[id_of(lex, "the")] == CMIF_CLASS_PASS);
        }
        cmif_lexicon_free(lex);
    }
    cmif_err err = {0};
    CHECK(build_from_tokens("bert", pieces, 1, &err) == CMIF_E_FORMAT && strstr(err.text, "none of the 1 tokens"));
    CHECK(!is_there("words.gguf"));
}

int main(void)
{
    strcpy(folder, "/tmp/cmif-lexicon-test-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    put_sources(true);
    cmif_err err = {0};
    if (build_with(NULL, 0, "lexicon.gguf", &err) != CMIF_OK ||
        cmif_lexicon_open(in_folder("lexicon.gguf"), &built, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    RUN(words_ascend_from_the_empty_one);
    RUN(a_word_has_the_class_of_its_heaviest_reading);
    RUN(seed_is_no_form_of_see_and_bed_none_of_be);
    RUN(forms_know_their_lemma);
    RUN(centibels_are_hundredths_of_powers_of_ten);
    RUN(priors_are_shares_of_all_text);
    RUN(valence_is_given_where_it_is_listed);
    RUN(topics_come_from_the_roots_of_wordnet);
    RUN(synonyms_weigh_the_smaller_share);
    RUN(antonyms_are_direct_or_between_clusters);
    RUN(words_are_rude_by_definition_or_by_our_list);
    RUN(glosses_are_definitions_without_examples);
    RUN(the_same_sources_give_the_same_bytes);
    RUN(fewer_words_are_the_most_frequent);
    RUN(an_own_pass_list_replaces_ours);
    RUN(all_of_nltks_stop_words_pass);
    RUN(a_stopped_build_leaves_nothing);
    RUN(a_broken_source_is_named_with_the_line);
    RUN(a_broken_frequency_list_is_named_with_the_byte);
    RUN(a_missing_source_is_an_io_error_that_names_it);
    RUN(a_changed_lexicon_is_refused);
    RUN(words_out_of_order_twice_or_none_are_refused);
    RUN(every_cut_lexicon_is_refused);
    RUN(a_list_gives_ranks_or_counts);
    RUN(a_bad_list_is_refused_with_the_line);
    RUN(a_models_whole_words_are_a_lexicon);
    RUN(every_allocation_may_fail);
    cmif_lexicon_free(built);
    char remove[300];
    snprintf(remove, sizeof remove, "rm -rf '%s'", folder);
    return system(remove) != 0 || check_report();
}
