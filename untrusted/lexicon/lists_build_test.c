/* Lists from small sources, and from the real packages where they are there; the latter stay in the build folder for
 * tests/recall.c. */
#include "lexicon/lexicon.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char          folder[64];
static char          lexicon_path[400], lists_path[400];
static cmif_lexicon *lex;
static cmif_gguf    *file;

static char *in(const char *name)
{
    static char paths[4][128];
    static int  next;
    char       *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *out = fopen(in(name), "wb");
    if (!out || fwrite(text, 1, strlen(text), out) != strlen(text) || fclose(out) != 0) {
        abort();
    }
}

/* The flags of a string of a list; -1: it is not there, -2: it is there twice or out of order. */
static long flags_of(const char *list, const char *text)
{
    char           key[64];
    cmif_str      *strings = NULL;
    size_t         count = 0, flag_count = 0;
    const uint8_t *flags;
    long           found = -1;
    snprintf(key, sizeof key, "cmif.lists.%s", list);
    if (cmif_gguf_get_strs(file, key, &strings, &count, NULL) != CMIF_OK) {
        return -3;
    }
    snprintf(key, sizeof key, "cmif.lists.%s.flags", list);
    if (cmif_gguf_get_array(file, key, CMIF_GGUF_U32, &flags, &flag_count, NULL) != CMIF_OK || flag_count != count) {
        free(strings);
        return -3;
    }
    for (size_t i = 0; i < count; i++) {
        if (cmif_str_is(strings[i], text)) {
            uint32_t f;
            memcpy(&f, flags + 4 * i, 4);
            found = found == -1 ? (long) f : -2;
        }
    }
    free(strings);
    return found;
}

static cmif_code build(cmif_err *err)
{
    return cmif_lists_build(lex, "/usr/share/wordnet", folder, in("dictionary"), in("lists.gguf"), err);
}

static void write_sources(void)
{
    write_file("census.tsv", "F\tMaria\nM\tJohn\nM\tMark\nS\tLopez\nS\tBaker\n");
    write_file("faker.tsv", "G\tJean-Luc\nM\tŁukasz\nS\tde la Cruz\nS\tMüller\n");
    write_file("geonames.tsv", "C\tBolivia, Plurinational State of\nT\tReading\nT\tSan José\nT\tÅre\n");
    write_file("iso.tsv", "R\tCôte-d'Or\n");
    write_file("dictionary", "Maria\nbaker\nsmartphone\njohn\n");
    write_file(
        "words",
        "the\nof\nbaker\nsmartphone\njohn\nmark\nmaria\nlopez\nreading\nmexican\ncatholic\nnetflix\nnot\nmonday\n");
}

static void names_are_folded_split_and_bared(void)
{
    CHECK(flags_of("given", "maria") == (1 | 4) && flags_of("given", "john") == (2 | 4));
    CHECK(flags_of("given", "jean") == 3 && flags_of("given", "luc") == 3 && flags_of("given", "jean luc") == -1);
    CHECK(flags_of("given", "łukasz") == 2 && flags_of("given", "lukasz") == 2);
    CHECK(flags_of("family", "lopez") == 0 && flags_of("family", "cruz") == 1 && flags_of("family", "la") == -1);
    CHECK(flags_of("family", "müller") == 1 && flags_of("family", "muller") == 1);
    CHECK(flags_of("place", "bolivia") >= 1 && flags_of("place", "san josé") == 2 &&
          flags_of("place", "san jose") >= 2);
    CHECK(flags_of("place", "côte d'or") == 4 && flags_of("place", "cote dor") == 4);
}

static void names_of_wordnet_are_there(void)
{
    CHECK(flags_of("person", "albert einstein") >= 0 && flags_of("person", "einstein") >= 0);
    CHECK(flags_of("place", "france") & 1 && flags_of("place", "paris") & 2 && flags_of("place", "mexican") == 4);
    CHECK(flags_of("organisation", "red cross") >= 0);
    CHECK(flags_of("place", "table") == -1);
}

static void words_are_those_that_are_no_names(void)
{
    CHECK(flags_of("word", "the") & 1 << 16 && flags_of("word", "not") & 1 << 16);
    CHECK(flags_of("word", "baker") >= 0 && flags_of("word", "smartphone") >= 0 && flags_of("word", "mark") >= 0);
    CHECK(flags_of("word", "john") == -1 && flags_of("word", "maria") == -1 && flags_of("word", "lopez") == -1);
    CHECK(flags_of("word", "netflix") == -1);
    CHECK(flags_of("word", "monday") & 1 << 17);
    CHECK(flags_of("place", "reading") & 8 && !(flags_of("place", "paris") & 8));
    CHECK(flags_of("word", "i") == (1 << 16 | 1 << 17));
}

static void two_builds_are_one(void)
{
    char command[400];
    snprintf(command, sizeof command, "mv '%s' '%s'", in("lists.gguf"), in("before.gguf"));
    CHECK(system(command) == 0 && build(NULL) == CMIF_OK);
    snprintf(command, sizeof command, "cmp '%s' '%s'", in("lists.gguf"), in("before.gguf"));
    CHECK(system(command) == 0);
}

static void sources_that_are_none_are_refused(void)
{
    static const char *const bad[] = {"Maria\n", "X\tMaria\n", "F\t\n", "\n"};
    cmif_err                 err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file("faker.tsv", bad[i]);
        CHECK(build(&err) == CMIF_E_FORMAT && strstr(err.text, "line 1"));
    }
    CHECK(unlink(in("iso.tsv")) == 0);
    write_sources();
    CHECK(unlink(in("iso.tsv")) == 0 && build(&err) == CMIF_E_IO && strstr(err.text, "iso.tsv"));
    write_sources();
}

/* What recall needs, from the real packages. */
static void the_real_lists_are_large(void)
{
    cmif_err err = {0};
    CHECK(cmif_gguf_open(lists_path, &file, &err) == CMIF_OK);
    static const struct {
        const char *list;
        size_t      least;
    } sizes[] = {{"given", 30000},      {"family", 100000}, {"place", 80000},
                 {"organisation", 400}, {"person", 4000},   {"word", 40000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char      key[64];
        cmif_str *strings = NULL;
        size_t    count   = 0;
        snprintf(key, sizeof key, "cmif.lists.%s", sizes[i].list);
        CHECK(cmif_gguf_get_strs(file, key, &strings, &count, &err) == CMIF_OK && count >= sizes[i].least);
        printf("       %s: %zu\n", sizes[i].list, count);
        free(strings);
    }
    CHECK(flags_of("given", "maria") >= 0 && flags_of("word", "maria") == -1 && flags_of("word", "doctor") & 1);
    cmif_gguf_free(file);
}

static bool build_real_lists(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char        base[256], frequencies[400], valence[400], names[400];
    cmif_err    err = {0};
    snprintf(base, sizeof base, "%s%s/cmif",
             cache && *cache ? cache
             : home          ? home
                             : "",
             cache && *cache ? "" : "/.cache");
    snprintf(frequencies, sizeof frequencies, "%s/lexicon-sources/large_en.msgpack.gz", base);
    snprintf(valence, sizeof valence, "%s/lexicon-sources/vader_lexicon.txt", base);
    snprintf(names, sizeof names, "%s/name-sources/iso.tsv", base);
    if (access(frequencies, R_OK) != 0 || access(valence, R_OK) != 0 || access(names, R_OK) != 0 ||
        access("/usr/share/dict/american-english", R_OK) != 0) {
        printf("       the real sources are not here: `tools/fetch lexicon`, `tools/fetch names` and `tools/setup` "
               "bring them\n");
        return false;
    }
    snprintf(names, sizeof names, "%s/name-sources", base);
    snprintf(lexicon_path, sizeof lexicon_path, "%s/lexicon.gguf", folder);
    snprintf(lists_path, sizeof lists_path, "%s/tests/lists.gguf", CMIF_BUILD_DIR);
    cmif_lexicon_sources sources = {.wordnet = "/usr/share/wordnet", .frequencies = frequencies, .valence = valence};
    cmif_lexicon        *real    = NULL;
    if (cmif_lexicon_build(&sources, lexicon_path, NULL, NULL, &err) != CMIF_OK ||
        cmif_lexicon_open(lexicon_path, &real, &err) != CMIF_OK ||
        cmif_lists_build(real, "/usr/share/wordnet", names, "/usr/share/dict/american-english", lists_path, &err) !=
            CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    cmif_lexicon_free(real);
    return true;
}

int main(void)
{
    cmif_err err = {0};
    if (access("/usr/share/wordnet/data.noun", R_OK) != 0) {
        return check_skip("no WordNet here; `tools/setup` installs wordnet-base");
    }
    strcpy(folder, "/tmp/cmif-lists-XXXXXX");
    if (!mkdtemp(folder)) {
        return 1;
    }
    write_sources();
    if (cmif_lexicon_build_from_list(in("words"), in("small.gguf"), &err) != CMIF_OK ||
        cmif_lexicon_open(in("small.gguf"), &lex, &err) != CMIF_OK || build(&err) != CMIF_OK ||
        cmif_gguf_open(in("lists.gguf"), &file, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    RUN(names_are_folded_split_and_bared);
    RUN(names_of_wordnet_are_there);
    RUN(words_are_those_that_are_no_names);
    cmif_gguf_free(file);
    RUN(two_builds_are_one);
    RUN(sources_that_are_none_are_refused);
    if (build_real_lists()) {
        RUN(the_real_lists_are_large);
    }
    cmif_lexicon_free(lex);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0 || check_report();
}
