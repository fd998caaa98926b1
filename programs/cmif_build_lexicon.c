/* `cmif lexicon build`, `lexicon lists build` and `lexicon lm build`. */
#include "cmif_build.h"

#include "base/bytes.h"
#include "cmif_folders.h"
#include "cmif_options.h"
#include "cmif_tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDNET "/usr/share/wordnet"
#define DICTIONARY "/usr/share/dict/american-english"

static cmif_code find(const char *what, const char *path, const char *package, const char *otherwise, cmif_err *err)
{
    return access(path, R_OK) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "there is no %s in '%s': install the Debian package %s, or %s", what, path,
                           package, otherwise);
}

static cmif_code find_wordnet(const char *folder, cmif_err *err)
{
    return find("WordNet", folder, "wordnet-base", "name it with --wordnet", err);
}

cmif_code build_sources_check(cmif_err *err)
{
    cmif_code rc = find("WordNet", WORDNET, "wordnet-base", "use 'cmif lexicon build --wordnet DIR' first", err);
    return rc == CMIF_OK ? find("word list", DICTIONARY, "wamerican",
                                "use 'cmif lexicon lists build --dictionary FILE' first", err)
                         : rc;
}

/* The lexicon that was named, or the cache's. */
static cmif_code open_lexicon(const char *named, cmif_lexicon **out, cmif_err *err)
{
    char      path[PATH_MAX];
    cmif_code rc = named ? CMIF_OK : cmif_cache_file("lexicon.gguf", false, path, err);
    if (rc == CMIF_OK && !named && access(path, R_OK) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "there is no lexicon yet: run 'cmif lexicon build', or name one with -l");
    }
    return rc == CMIF_OK ? cmif_lexicon_open(named ? named : path, out, err) : rc;
}

/* Where a result goes: where it was told to, or to this name in the cache. */
static cmif_code place(const char *output, const char *name, char path[static PATH_MAX], cmif_err *err)
{
    if (!output) {
        return cmif_cache_file(name, true, path, err);
    }
    return snprintf(path, PATH_MAX, "%s", output) < PATH_MAX
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_RANGE, "the name behind -o is too long");
}

/* ---- lexicon ---- */

cmif_code build_lexicon(const build_lexicon_options *o, const char *path, cmif_err *err)
{
    char      folder[PATH_MAX], frequencies[PATH_MAX + 32], valence[PATH_MAX + 32], model[PATH_MAX];
    tool_bar  bar = tool_bar_new();
    cmif_code rc  = CMIF_OK;

    if (o->from) {
        size_t size = strlen(o->from);
        if (size > 4 && !strcmp(o->from + size - 4, ".txt")) {
            return cmif_lexicon_build_from_list(o->from, path, err);
        }
        rc = cmif_cache_model(o->from, model, err);
        return rc == CMIF_OK ? cmif_lexicon_build_from_model(model, path, err) : rc;
    }
    if (o->sources) {
        snprintf(folder, sizeof folder, "%s", o->sources);
    } else {
        rc = cmif_cache_file("lexicon-sources", false, folder, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    snprintf(frequencies, sizeof frequencies, "%s/large_en.msgpack.gz", folder);
    snprintf(valence, sizeof valence, "%s/vader_lexicon.txt", folder);
    if (access(frequencies, R_OK) != 0 || access(valence, R_OK) != 0) {
        return cmif_fail(err, CMIF_E_IO,
                         "the public word lists are not there: 'cmif pull lexicon' brings them, or take "
                         "the words of a model with --from MODEL");
    }
    cmif_lexicon_sources sources = {.wordnet     = o->wordnet ? o->wordnet : WORDNET,
                                    .frequencies = frequencies,
                                    .valence     = valence,
                                    .pass        = o->pass,
                                    .negations   = o->negations,
                                    .words       = o->words};
    rc                           = find_wordnet(sources.wordnet, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    rc = cmif_lexicon_build(&sources, path, tool_bar_draw, &bar, err);
    tool_bar_end(&bar);
    return rc;
}

int build_lexicon_main(int argc, char **argv)
{
    build_lexicon_options o      = {0};
    const char           *output = NULL;
    const cmif_option     list[] = {
            {'o', "output", "FILE", CMIF_OPTION_TEXT, &output, 0, 0, "where to (default: the cache, where others look)"},
            {0, "from", "SOURCE", CMIF_OPTION_TEXT, &o.from, 0, 0, "words of a model (GGUF), or of a list (.txt)"},
            {0, "words", "N", CMIF_OPTION_COUNT, &o.words, 1, 1 << 20, "keep the N most frequent (default: the recipe's)"},
            {0, "pass", "FILE", CMIF_OPTION_TEXT, &o.pass, 0, 0, "words that pass as they are, one a line"},
            {0, "negations", "FILE", CMIF_OPTION_TEXT, &o.negations, 0, 0, "negations, which pass too, one a line"},
            {0, "wordnet", "DIR", CMIF_OPTION_TEXT, &o.wordnet, 0, 0, "WordNet's files (default /usr/share/wordnet)"},
            {0, "sources", "DIR", CMIF_OPTION_TEXT, &o.sources, 0, 0, "frequencies and valence (default: pulled ones)"},
            {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print the result as JSON"},
    };
    const cmif_command command = {
        "lexicon build",
        "[options]",
        "make the public word list that channels are built from",
        list,
        sizeof list / sizeof *list,
        "Words, counts and classes come from public packages only, never from anybody's text.\n"};
    char          path[PATH_MAX], digest[65];
    cmif_lexicon *lexicon = NULL;
    cmif_err      err     = {0};
    int           rest    = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "lexicon build takes options only; --from names a source");
    }
    if (rc == CMIF_OK && o.from && (o.words || o.pass || o.negations || o.wordnet || o.sources)) {
        rc = cmif_fail(&err, CMIF_E_RANGE,
                       "--from takes the words of one source, so --words, --pass, --negations, --wordnet and --sources "
                       "do not go with it");
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    rc = place(output, "lexicon.gguf", path, &err);
    if (rc == CMIF_OK) {
        rc = build_lexicon(&o, path, &err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_lexicon_open(path, &lexicon, &err);
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 1);
    }
    uint32_t classes[CMIF_CLASS_COUNT] = {0};
    for (uint32_t w = 1; w < lexicon->count; w++) {
        classes[lexicon->word_class[w]]++;
    }
    cmif_hex(lexicon->hash, 32, digest);
    int code = 0;
    if (tool_json) {
        code = tool_print_json(
            json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:i, s:s}", "file", path, "words", (int) lexicon->count - 1,
                      "passed", (int) classes[CMIF_CLASS_PASS], "negations", (int) classes[CMIF_CLASS_NEGATION],
                      "synonyms", (json_int_t) lexicon->synonym_count, "antonyms", (json_int_t) lexicon->antonym_count,
                      "glosses", (int) lexicon->gloss_count, "sha256", digest),
            &err);
    } else {
        printf("%s\n  %u words: %u pass, %u negations, %u without an analysis\n  %zu synonym and %zu antonym pairs, %u "
               "glosses\n  sha256 %s\n",
               path, lexicon->count - 1, classes[CMIF_CLASS_PASS], classes[CMIF_CLASS_NEGATION],
               classes[CMIF_CLASS_UNKNOWN], lexicon->synonym_count / 2, lexicon->antonym_count / 2,
               lexicon->gloss_count, digest);
        code = tool_end(&err);
    }
    cmif_lexicon_free(lexicon);
    return code;
}

/* ---- lists of names and words ---- */

cmif_code build_lists(const build_lists_options *o, const cmif_lexicon *lexicon, const char *path, cmif_err *err)
{
    const char *dictionary = o->dictionary ? o->dictionary : DICTIONARY;
    const char *wordnet    = o->wordnet ? o->wordnet : WORDNET;
    char        names[PATH_MAX];
    cmif_code   rc = find_wordnet(wordnet, err);

    rc = rc == CMIF_OK ? find("word list", dictionary, "wamerican", "name it with --dictionary", err) : rc;
    if (rc == CMIF_OK && !o->names) {
        rc = cmif_cache_file("name-sources", false, names, err);
        if (rc == CMIF_OK && access(names, R_OK) != 0) {
            rc = cmif_fail(err, CMIF_E_IO,
                           "the public names are not there: 'cmif pull names' brings them, or name their folder with "
                           "--names");
        }
    }
    return rc == CMIF_OK ? cmif_lists_build(lexicon, wordnet, o->names ? o->names : names, dictionary, path, err) : rc;
}

cmif_code build_lists_check(const char *path, const cmif_lexicon *lexicon, cmif_err *err)
{
    cmif_gguf *file    = NULL;
    cmif_str   sources = {0};
    char       first[80];
    cmif_code  rc = cmif_gguf_open(path, &file, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_str(file, "cmif.lists.sources", &sources, err);
    }
    if (rc == CMIF_OK) {
        memcpy(first, "lexicon ", 8);
        cmif_hex(lexicon->hash, sizeof lexicon->hash, first + 8);
        if (sources.size < 72 || memcmp(sources.data, first, 72) != 0) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "was made with another lexicon");
        }
    }
    cmif_gguf_free(file);
    return rc;
}

int build_lists_main(int argc, char **argv)
{
    build_lists_options o      = {0};
    const char         *output = NULL, *from = NULL;
    const cmif_option   list[] = {
          {'o', "output", "FILE", CMIF_OPTION_TEXT, &output, 0, 0, "where to (default: the cache, where others look)"},
          {'l', "lexicon", "FILE", CMIF_OPTION_TEXT, &from, 0, 0, "of 'cmif lexicon build' (default: the cache's)"},
          {0, "names", "DIR", CMIF_OPTION_TEXT, &o.names, 0, 0, "names of persons and places (default: pulled ones)"},
          {0, "wordnet", "DIR", CMIF_OPTION_TEXT, &o.wordnet, 0, 0, "WordNet's files (default /usr/share/wordnet)"},
          {0, "dictionary", "FILE", CMIF_OPTION_TEXT, &o.dictionary, 0, 0, "words, one a line (default: wamerican's)"},
          {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print the result as JSON"},
    };
    const cmif_command command = {
        "lexicon lists build",
        "[options]",
        "make the lists of names and words that the sanitizer knows",
        list,
        sizeof list / sizeof *list,
        "Names come from public packages ('cmif pull names') and WordNet, never from anybody's text.\n"};
    char          path[PATH_MAX], digest[65], key[64];
    uint8_t       hash[32];
    cmif_lexicon *lexicon = NULL;
    cmif_gguf    *file    = NULL;
    cmif_err      err     = {0};
    int           rest = 0, code = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "lexicon lists build takes options only");
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    rc = open_lexicon(from, &lexicon, &err);
    if (rc == CMIF_OK) {
        rc = place(output, "lists.gguf", path, &err);
    }
    if (rc == CMIF_OK) {
        rc = build_lists(&o, lexicon, path, &err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_open(path, &file, &err);
    }
    if (rc == CMIF_OK) {
        rc = build_hash_file(path, hash, &err);
    }
    cmif_lexicon_free(lexicon);
    if (rc != CMIF_OK) {
        cmif_gguf_free(file);
        return tool_report(&err, 1);
    }
    cmif_hex(hash, sizeof hash, digest);
    json_t *object = tool_json ? json_pack("{s:s, s:{}, s:s}", "file", path, "entries", "sha256", digest) : NULL;
    if (!tool_json) {
        printf("%s\n", path);
    }
    for (size_t i = 0; i < CMIF_LISTS; i++) {
        snprintf(key, sizeof key, "cmif.lists.%s", cmif_list_names[i]);
        const cmif_gguf_value *value = cmif_gguf_find(file, key);
        uint64_t               count = value ? value->count : 0;
        if (tool_json) {
            json_object_set_new(json_object_get(object, "entries"), cmif_list_names[i],
                                json_integer((json_int_t) count));
        } else {
            printf("  %-13s %8llu\n", cmif_list_names[i], (unsigned long long) count);
        }
    }
    if (tool_json) {
        code = tool_print_json(object, &err);
    } else {
        printf("  sha256 %s\n", digest);
        code = tool_end(&err);
    }
    cmif_gguf_free(file);
    return code;
}

/* ---- pairs of words ---- */

int build_lm_main(int argc, char **argv)
{
    const char       *output = NULL, *from = NULL, *wordnet = NULL;
    const cmif_option list[] = {
        {'o', "output", "FILE", CMIF_OPTION_TEXT, &output, 0, 0, "where to (default: the cache, where others look)"},
        {'l', "lexicon", "FILE", CMIF_OPTION_TEXT, &from, 0, 0, "whose words are counted (default: the cache's)"},
        {0, "wordnet", "DIR", CMIF_OPTION_TEXT, &wordnet, 0, 0, "WordNet's files (default /usr/share/wordnet)"},
        {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print the result as JSON"},
    };
    const cmif_command command = {
        "lexicon lm build",
        "[options] [TEXTFILE ...]",
        "count pairs of words for rows in context, in public text that you name",
        list,
        sizeof list / sizeof *list,
        "One sentence a line. Without a file: WordNet's glosses and examples. Name public text "
        "only: whoever reads the result learns what it was made of.\n"};
    char          path[PATH_MAX];
    cmif_lexicon *lexicon = NULL;
    tool_bar      bar     = tool_bar_new();
    cmif_err      err     = {0};
    struct stat   info;
    int           rest = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    rc = open_lexicon(from, &lexicon, &err);
    if (rc == CMIF_OK) {
        rc = place(output, "lm.gguf", path, &err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_lm_build(lexicon, wordnet ? wordnet : WORDNET, (const char *const *) argv, (size_t) rest, path,
                           tool_bar_draw, &bar, &err);
        tool_bar_end(&bar);
    }
    cmif_lexicon_free(lexicon);
    if (rc != CMIF_OK) {
        return tool_report(&err, 1);
    }
    uint64_t size = stat(path, &info) == 0 ? (uint64_t) info.st_size : 0;
    if (tool_json) {
        return tool_print_json(json_pack("{s:s, s:I}", "file", path, "bytes", (json_int_t) size), &err);
    }
    printf("%s  %s\n", path, tool_size(size));
    return tool_end(&err);
}
