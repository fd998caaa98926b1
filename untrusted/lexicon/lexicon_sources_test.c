/* The lexicon of the real packages. Skipped where they are not there. */
#include "lexicon/lexicon.h"

#include "base/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char          folder[256], lexicon_path[300], again_path[300], lm_path[300];
static cmif_lexicon *lex;
static double        seconds;

static uint32_t id_of(const char *word)
{
    for (uint32_t i = 1; i < lex->count; i++) {
        if (cmif_str_is(lex->words[i], word)) {
            return i;
        }
    }
    return 0;
}

static float edge_of(const cmif_edge *edges, size_t count, const char *a, const char *b)
{
    uint32_t from = id_of(a), to = id_of(b);
    for (size_t i = 0; i < count; i++) {
        if (edges[i].a == from && edges[i].b == to) {
            return edges[i].weight;
        }
    }
    return 0;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void the_lexicon_has_the_words_that_it_should(void)
{
    /* the study counted 59,464 without our additions; the difference of 108 is in what counts as a form of a lemma */
    printf("       %u words (%.2f s), %zu synonym edges, %zu antonym edges, %u glosses\n", lex->count - 1, seconds,
           lex->synonym_count, lex->antonym_count, lex->gloss_count);
    CHECK(lex->count == 59642);
    CHECK(seconds < 30);
}

static void well_known_words_are_what_they_are(void)
{
    static const struct {
        const char     *word;
        cmif_word_class word_class;
        unsigned        topics;
    } words[] = {
        {"movie", CMIF_CLASS_NOUN, 0},
        {"movies", CMIF_CLASS_NOUNS, 0},
        {"bed", CMIF_CLASS_NOUN, 0},
        {"seed", CMIF_CLASS_NOUN, 0},
        {"loved", CMIF_CLASS_VERB_D, 0},
        {"superb", CMIF_CLASS_ADJECTIVE, 0},
        {"better", CMIF_CLASS_COMPARATIVE, 0},
        {"really", CMIF_CLASS_ADVERB, 0},
        {"never", CMIF_CLASS_NEGATION, 0},
        {"doctor", CMIF_CLASS_NOUN, CMIF_TOPIC_HEALTH},
        {"cancer", CMIF_CLASS_NOUN, CMIF_TOPIC_HEALTH},
        {"salary", CMIF_CLASS_NOUN, CMIF_TOPIC_MONEY},
        {"lawyer", CMIF_CLASS_NOUN, CMIF_TOPIC_LAW},
        {"pray", CMIF_CLASS_VERB, CMIF_TOPIC_RELIGION},
        {"homosexual", CMIF_CLASS_ADJECTIVE, CMIF_TOPIC_SEX},
        {"elections", CMIF_CLASS_NOUNS, CMIF_TOPIC_POLITICS},
        {"murderer", CMIF_CLASS_NOUN, CMIF_TOPIC_CRIME},
        {"mexican", CMIF_CLASS_NOUN, CMIF_TOPIC_ETHNICITY},
        {"daughter", CMIF_CLASS_NOUN, CMIF_TOPIC_FAMILY},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        uint32_t id = id_of(words[i].word);
        if (id == 0 || lex->word_class[id] != words[i].word_class ||
            (lex->topics[id] & words[i].topics) != words[i].topics || (words[i].topics == 0 && lex->topics[id])) {
            fprintf(stderr, "%s: class %d, topics %x\n", words[i].word, lex->word_class[id], lex->topics[id]);
            CHECK(!"as expected");
        }
    }
}

static void every_topic_has_many_words(void)
{
    for (unsigned topic = 1; topic <= CMIF_TOPIC_FAMILY; topic <<= 1) {
        unsigned count = 0;
        for (uint32_t i = 0; i < lex->count; i++) {
            count += (lex->topics[i] & topic) != 0;
        }
        CHECK(count >= 200 && count <= 3000);
    }
}

static void edges_say_what_wordnet_says(void)
{
    CHECK(edge_of(lex->synonyms, lex->synonym_count, "film", "movie") > .5f);
    CHECK(edge_of(lex->synonyms, lex->synonym_count, "films", "movies") > .5f);
    CHECK(edge_of(lex->synonyms, lex->synonym_count, "film", "movies") == 0);
    CHECK(edge_of(lex->antonyms, lex->antonym_count, "good", "bad") == 1);
    CHECK(edge_of(lex->antonyms, lex->antonym_count, "loved", "hated") == 1);
    CHECK(edge_of(lex->antonyms, lex->antonym_count, "good", "awful") == .5f);
}

static void rude_words_are_rude_and_common_ones_are_not(void)
{
    static const char rude[] = "nigger niggers motherfucker twat fucking shitty chinaman pee hillbilly rapists queers ";
    static const char good[] = "dog pig cow cancer gay lesbian jew black boy girl woman slave sex gypsy tool suit "
                               "queen bull mexican muslim homosexual mad stupid idiot dirt ";
    unsigned          count  = 0;
    for (int turn = 0; turn < 2; turn++) {
        char word[32];
        int  used;
        for (const char *at = turn ? good : rude; sscanf(at, "%31s%n", word, &used) == 1; at += used) {
            if (cmif_word_is_rude(lex, id_of(word)) == (turn == 1)) {
                fprintf(stderr, "%s\n", word);
                CHECK(!"as expected");
            }
        }
    }
    for (uint32_t i = 0; i < lex->count; i++) {
        CHECK(!lex->rude[i] || lex->word_class[i] > CMIF_CLASS_NEGATION);
        count += lex->rude[i];
    }
    printf("       %u rude words\n", count);
    CHECK(count > 250 && count < 400);
}

static void valence_is_vaders(void)
{
    unsigned listed = 0;
    for (uint32_t i = 0; i < lex->count; i++) {
        listed += isnan(lex->valence[i]) ? 0 : 1;
    }
    printf("       %u words with a valence\n", listed); /* the study: 4,405 */
    CHECK(listed == 4408 && fabsf(lex->valence[id_of("good")] - 1.9f) < 1e-6f);
}

static void two_builds_are_one(void)
{
    char command[700];
    snprintf(command, sizeof command, "cmp '%s' '%s'", lexicon_path, again_path);
    CHECK(system(command) == 0);
}

static void glosses_make_a_bigram_model(void)
{
    cmif_err       err  = {0};
    cmif_gguf     *file = NULL;
    const uint8_t *items;
    size_t         count = 0;
    uint64_t       total = 0;
    CHECK(cmif_lm_build(lex, "/usr/share/wordnet", NULL, 0, lm_path, NULL, NULL, &err) == CMIF_OK);
    CHECK(cmif_gguf_open(lm_path, &file, &err) == CMIF_OK &&
          cmif_gguf_get_array(file, "cmif.lm.unigrams", CMIF_GGUF_U32, &items, &count, &err) == CMIF_OK);
    for (size_t i = 0; i < count; i++) {
        uint32_t n;
        memcpy(&n, items + 4 * i, 4);
        total += n;
    }
    printf("       %llu words and sentence ends\n", (unsigned long long) total);
    CHECK(total > 1000000);
    cmif_gguf_free(file);
}

int main(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char        frequencies[400], valence[400];
    cmif_err    err = {0};

    snprintf(folder, sizeof folder, "%s%s/cmif/lexicon-sources",
             cache && *cache ? cache
             : home          ? home
                             : "",
             cache && *cache ? "" : "/.cache");
    snprintf(frequencies, sizeof frequencies, "%s/large_en.msgpack.gz", folder);
    snprintf(valence, sizeof valence, "%s/vader_lexicon.txt", folder);
    if (access(frequencies, R_OK) != 0 || access(valence, R_OK) != 0) {
        return check_skip("no sources of a lexicon here; `tools/fetch lexicon` brings them");
    }
    if (access("/usr/share/wordnet/data.noun", R_OK) != 0) {
        return check_skip("no WordNet here; `tools/setup` installs wordnet-base");
    }
    strcpy(folder, "/tmp/cmif-lexicon-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(lexicon_path, sizeof lexicon_path, "%s/lexicon.gguf", folder);
    snprintf(again_path, sizeof again_path, "%s/again.gguf", folder);
    snprintf(lm_path, sizeof lm_path, "%s/lm.gguf", folder);
    cmif_lexicon_sources sources = {.wordnet = "/usr/share/wordnet", .frequencies = frequencies, .valence = valence};
    double               begin   = now();
    cmif_code            rc      = cmif_lexicon_build(&sources, lexicon_path, NULL, NULL, &err);
    seconds                      = now() - begin;
    if (rc != CMIF_OK || cmif_lexicon_build(&sources, again_path, NULL, NULL, &err) != CMIF_OK ||
        cmif_lexicon_open(lexicon_path, &lex, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    RUN(the_lexicon_has_the_words_that_it_should);
    RUN(well_known_words_are_what_they_are);
    RUN(every_topic_has_many_words);
    RUN(edges_say_what_wordnet_says);
    RUN(rude_words_are_rude_and_common_ones_are_not);
    RUN(valence_is_vaders);
    RUN(two_builds_are_one);
    RUN(glosses_make_a_bigram_model);
    cmif_lexicon_free(lex);
    char remove[300];
    snprintf(remove, sizeof remove, "rm -rf '%s'", folder);
    return system(remove) != 0 || check_report();
}
