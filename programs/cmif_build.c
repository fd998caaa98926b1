/* cmif-build - what `cmif lexicon` and `cmif channel build` run: lexicons, language models and channels out of public
 * data.
 *
 * Nothing that it writes has to be trusted: a table is certified by whoever opens it. It runs outside the trusted
 * process and uses the engine. */
#include "cmif_compare.h"
#include "cmif_options.h"
#include "cmif_tool.h"

#include "blocks/blocks.h"
#include "lexicon/lexicon.h"
#include "mechanism/mechanism.h"
#include "vectors/vectors.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---- */

/* $XDG_CACHE_HOME/cmif/NAME; with folders made when make is true. */
static cmif_code cache_path(const char *name, bool make, char path[static PATH_MAX], cmif_err *err)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int         size = cache && cache[0] == '/' ? snprintf(path, PATH_MAX, "%s/cmif/%s", cache, name)
                       : home && home[0] == '/' ? snprintf(path, PATH_MAX, "%s/.cache/cmif/%s", home, name)
                                                : -1;
    if (size < 0 || size >= PATH_MAX) {
        return cmif_fail(err, CMIF_E_IO, "there is no cache folder: set HOME or XDG_CACHE_HOME to an absolute path");
    }
    for (char *slash = path + 1; make && (slash = strchr(slash, '/')); slash++) {
        *slash   = '\0';
        bool bad = mkdir(path, 0700) != 0 && errno != EEXIST;
        if (bad) {
            return cmif_fail(err, CMIF_E_IO, "cannot make the folder '%s': %s", path, strerror(errno));
        }
        *slash = '/';
    }
    return CMIF_OK;
}

/* A model by its path, or by the name that `cmif pull` knows. */
static cmif_code find_model(const char *model, char path[static PATH_MAX], cmif_err *err)
{
    char name[PATH_MAX];
    if (access(model, R_OK) == 0) {
        snprintf(path, PATH_MAX, "%s", model);
        return CMIF_OK;
    }
    snprintf(name, sizeof name, "models/%s.gguf", model);
    cmif_code rc = cache_path(name, false, path, err);
    if (rc == CMIF_OK && access(path, R_OK) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "there is no file '%s', and no model of that name: 'cmif pull %s' may bring it",
                       model, model);
    }
    return rc;
}

static cmif_code hash_file(const char *path, uint8_t out[static 32], cmif_err *err)
{
    static uint8_t buffer[1 << 16];
    EVP_MD_CTX    *hash = EVP_MD_CTX_new();
    FILE          *file = fopen(path, "rb");
    cmif_code      rc   = CMIF_OK;
    size_t         size;

    if (!hash || !file || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
        goto done;
    }
    while ((size = fread(buffer, 1, sizeof buffer, file)) > 0) {
        EVP_DigestUpdate(hash, buffer, size);
    }
    if (ferror(file) || !EVP_DigestFinal_ex(hash, out, NULL)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
    }
done:
    EVP_MD_CTX_free(hash);
    if (file) {
        fclose(file);
    }
    return rc;
}

static void hash_text(const char *text, uint8_t out[static 32])
{
    (void) EVP_Digest(text, strlen(text), out, NULL, EVP_sha256(), NULL);
}

static void hex(const uint8_t *bytes, size_t count, char *out)
{
    for (size_t i = 0; i < count; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void say(const char *text)
{
    if (!tool_json) {
        fprintf(stderr, "cmif: %s\n", text);
    }
}

/* ---- lexicon ---- */

typedef struct lexicon_options {
    const char *from, *pass, *negations, *wordnet, *sources;
    uint32_t    words;
} lexicon_options;

static cmif_code build_lexicon(const lexicon_options *o, const char *path, cmif_err *err)
{
    char      folder[PATH_MAX], frequencies[PATH_MAX + 32], valence[PATH_MAX + 32], model[PATH_MAX];
    tool_bar  bar = tool_bar_new();
    cmif_code rc  = CMIF_OK;

    if (o->from) {
        size_t size = strlen(o->from);
        if (size > 4 && !strcmp(o->from + size - 4, ".txt")) {
            return cmif_lexicon_build_from_list(o->from, path, err);
        }
        rc = find_model(o->from, model, err);
        return rc == CMIF_OK ? cmif_lexicon_build_from_model(model, path, err) : rc;
    }
    if (o->sources) {
        snprintf(folder, sizeof folder, "%s", o->sources);
    } else {
        rc = cache_path("lexicon-sources", false, folder, err);
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
    cmif_lexicon_sources sources = {.wordnet     = o->wordnet ? o->wordnet : "/usr/share/wordnet",
                                    .frequencies = frequencies,
                                    .valence     = valence,
                                    .pass        = o->pass,
                                    .negations   = o->negations,
                                    .words       = o->words};
    if (access(sources.wordnet, R_OK) != 0) {
        return cmif_fail(err, CMIF_E_IO,
                         "WordNet is not in '%s': install the Debian package wordnet-base, or name its folder with "
                         "--wordnet, or take the words of a model with --from MODEL",
                         sources.wordnet);
    }
    rc = cmif_lexicon_build(&sources, path, tool_bar_draw, &bar, err);
    tool_bar_end(&bar);
    return rc;
}

static int lexicon_main(int argc, char **argv)
{
    lexicon_options   o      = {0};
    const char       *output = NULL;
    const cmif_option list[] = {
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
    if (output) {
        snprintf(path, sizeof path, "%s", output);
    } else {
        rc = cache_path("lexicon.gguf", true, path, &err);
    }
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
    hex(lexicon->hash, 32, digest);
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
        code = fflush(stdout) == 0 ? 0 : 1;
    }
    cmif_lexicon_free(lexicon);
    return code;
}

static int lm_main(int argc, char **argv)
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
    char          path[PATH_MAX], where[PATH_MAX];
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
    rc = from ? CMIF_OK : cache_path("lexicon.gguf", false, where, &err);
    if (rc == CMIF_OK && !from && access(where, R_OK) != 0) {
        rc = cmif_fail(&err, CMIF_E_IO, "there is no lexicon yet: run 'cmif lexicon build', or name one with -l");
    }
    if (rc == CMIF_OK) {
        rc = cmif_lexicon_open(from ? from : where, &lexicon, &err);
    }
    if (rc == CMIF_OK && output) {
        snprintf(path, sizeof path, "%s", output);
    } else if (rc == CMIF_OK) {
        rc = cache_path("lm.gguf", true, path, &err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_lm_build(lexicon, wordnet ? wordnet : "/usr/share/wordnet", (const char *const *) argv, (size_t) rest,
                           path, tool_bar_draw, &bar, &err);
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
    return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- channel ---- */

typedef struct channel_options {
    const char *output, *profile, *lexicon, *model, *vectors, *encoder, *decoder, *mechanism, *noise, *epsilon,
        *valence;
    const char *penalty;
    uint32_t    k, seeds, boost, classes, threads;
    uint64_t    seed;
    bool        calibrate, counterfit, protect_all, euclidean, control;
} channel_options;

typedef struct profile {
    const char     *name;
    cmif_mechanism  mechanism;
    cmif_noise_kind noise;
    uint32_t        k;
    float           valence_weight, penalty;
} profile;

/* sanitizer study, sections 4, 5 and 8 */
static const profile profiles[] = {
    {"default", CMIF_MECHANISM_GENERAL, CMIF_NOISE_NONE, 100, 1, 0},
    {"paper", CMIF_MECHANISM_RNM, CMIF_NOISE_LAPLACE, 20, 2, 1.5F},
    {"strict", CMIF_MECHANISM_GENERAL, CMIF_NOISE_NONE, 200, 1, 0},
};

/* "1", "0.5" or "3/2" in lowest terms. */
static cmif_code read_epsilon(const char *text, uint64_t *num, uint64_t *den, cmif_err *err)
{
    unsigned long long a = 0, b = 1;
    const char        *at     = text;
    int                digits = 0;

    for (; *at >= '0' && *at <= '9' && digits < 9; at++, digits++) {
        a = 10 * a + (unsigned) (*at - '0');
    }
    if (digits && *at == '.') {
        for (at++; *at >= '0' && *at <= '9' && b < 1000000; at++) {
            a = 10 * a + (unsigned) (*at - '0');
            b *= 10;
        }
    } else if (digits && *at == '/') {
        for (b = 0, at++; *at >= '0' && *at <= '9' && b < 1000000; at++) {
            b = 10 * b + (unsigned) (*at - '0');
        }
    }
    if (!digits || *at || b == 0 || b > 1000000 || a > 32 * b) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--epsilon takes a number from 0 to 32 such as 1, 0.5 or 3/2 (at most six "
                         "digits after the point)");
    }
    unsigned long long x = a, y = b;
    while (y) {
        unsigned long long rest = x % y;
        x                       = y;
        y                       = rest;
    }
    *num = a / x;
    *den = b / x;
    return CMIF_OK;
}

static cmif_code read_weight(const char *name, const char *text, float most, float *out, cmif_err *err)
{
    char *end;
    if (!text) {
        return CMIF_OK;
    }
    float value = strtof(text, &end);
    if (!*text || *end || !(value >= 0 && value <= most)) {
        return cmif_fail(err, CMIF_E_RANGE, "--%s takes a number from 0 to %g", name, (double) most);
    }
    *out = value;
    return CMIF_OK;
}

static cmif_code find_mechanism(const char *name, cmif_mechanism *out, cmif_err *err)
{
    const char *names[16];
    size_t      count = 0;
    for (int m = 1; cmif_mechanism_name((cmif_mechanism) m); m++) {
        names[count++] = cmif_mechanism_name((cmif_mechanism) m);
        if (!strcmp(name, names[count - 1])) {
            *out = (cmif_mechanism) m;
            return CMIF_OK;
        }
    }
    const char *near = cmif_nearest(name, names, count);
    return cmif_fail(err, CMIF_E_RANGE,
                     "--mechanism takes rnm, subset, krr, general, metric, full, paper, custext, custext+, santext or "
                     "santext+%s%s",
                     near ? ": did you mean " : "", near ? near : "");
}

static cmif_code find_noise(const char *name, cmif_noise_kind *out, cmif_err *err)
{
    for (int n = 1; cmif_noise_name((cmif_noise_kind) n); n++) {
        if (!strcmp(name, cmif_noise_name((cmif_noise_kind) n))) {
            *out = (cmif_noise_kind) n;
            return CMIF_OK;
        }
    }
    return cmif_fail(err, CMIF_E_RANGE, "--noise takes laplace, exponential or gumbel");
}

/* The lexicon that was named; else the cache's; else a new one from the public lists; else the model's own words. */
static cmif_code take_lexicon(const channel_options *o, cmif_lexicon **out, cmif_err *err)
{
    char            path[PATH_MAX];
    lexicon_options from = {0};
    cmif_code       rc;

    if (o->lexicon) {
        return cmif_lexicon_open(o->lexicon, out, err);
    }
    rc = cache_path("lexicon.gguf", true, path, err);
    if (rc == CMIF_OK && access(path, R_OK) != 0) {
        say("building the lexicon first");
        rc = build_lexicon(&from, path, err);
        if (rc == CMIF_E_IO && o->model) {
            char text[PATH_MAX + 128];
            snprintf(text, sizeof text, "%s; taking the words of %s instead", err->text, o->model);
            say(text);
            from.from = o->model;
            rc        = cache_path("lexicon-of-model.gguf", true, path, err);
            if (rc == CMIF_OK) {
                rc = build_lexicon(&from, path, err);
            }
        }
    }
    return rc == CMIF_OK ? cmif_lexicon_open(path, out, err) : rc;
}

typedef struct sources { /* of the vectors: what was read, for the recipe's hash */
    char encoder[PATH_MAX], decoder[PATH_MAX], recipe[512];
} sources;

static cmif_code name_source(const char *role, const char *model, char path[static PATH_MAX], char *recipe, size_t room,
                             cmif_err *err)
{
    uint8_t   digest[32];
    char      text[65];
    cmif_code rc = find_model(model, path, err);
    if (rc == CMIF_OK) {
        rc = hash_file(path, digest, err);
    }
    if (rc == CMIF_OK) {
        hex(digest, 32, text);
        size_t used = strlen(recipe);
        snprintf(recipe + used, room - used, " %s %s", role, text);
    }
    return rc;
}

/* Vectors and valence. The recipe's minutes are spent once and kept in the cache. */
static cmif_code take_vectors(const channel_options *o, const cmif_lexicon *lexicon, bool raw, uint32_t threads,
                              cmif_vectors **out, float *valence, cmif_err *err)
{
    const char   *kind = o->vectors ? o->vectors : lexicon->gloss_count ? "recipe" : "rows";
    sources       s    = {0};
    cmif_vectors *read = NULL, *made = NULL;
    tool_bar      bar = tool_bar_new();
    char          path[PATH_MAX], name[96], digest[65];
    uint8_t       hash[32];
    cmif_code     rc = CMIF_OK;

    for (uint32_t w = 0; w < lexicon->count; w++) {
        valence[w] = lexicon->valence[w] == lexicon->valence[w] ? lexicon->valence[w] : 0;
    }
    if (!strcmp(kind, "recipe")) {
        snprintf(s.recipe, sizeof s.recipe, "recipe 1");
        rc = name_source("encoder", o->encoder ? o->encoder : "minilm", s.encoder, s.recipe, sizeof s.recipe, err);
        if (rc == CMIF_OK) {
            rc = name_source("decoder", o->decoder ? o->decoder : "smollm2", s.decoder, s.recipe, sizeof s.recipe, err);
        }
        if (rc != CMIF_OK) {
            return rc;
        }
        char key[640];
        hex(lexicon->meaning_hash, 32, digest);
        snprintf(key, sizeof key, "%s %s", digest, s.recipe);
        hash_text(key, hash);
        hex(hash, 8, digest);
        snprintf(name, sizeof name, "vectors/%s.gguf", digest);
        rc = cache_path(name, true, path, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (access(path, R_OK) == 0 && cmif_vectors_open(path, lexicon, s.recipe, out, valence, NULL) == CMIF_OK) {
            return CMIF_OK;
        }
        say("making word vectors from glosses and models, once; this takes some minutes");
        rc = cmif_vectors_recipe(lexicon, s.encoder, s.decoder, threads, tool_bar_draw, &bar, out, valence, err);
        tool_bar_end(&bar);
        return rc == CMIF_OK ? cmif_vectors_save(*out, valence, lexicon, s.recipe, path, err) : rc;
    }
    if (!strcmp(kind, "rows")) {
        if (!o->model) {
            return cmif_fail(err, CMIF_E_RANGE, "--vectors rows: whose rows? Name a model with -m");
        }
        rc = find_model(o->model, path, err);
        rc = rc == CMIF_OK ? cmif_vectors_of_rows(lexicon, path, &read, err) : rc;
    } else if (!strcmp(kind, "words") || !strcmp(kind, "glosses")) {
        rc = find_model(o->encoder ? o->encoder : "minilm", path, err);
        if (rc == CMIF_OK) {
            rc = (kind[0] == 'w' ? cmif_vectors_of_words : cmif_vectors_of_glosses)(lexicon, path, threads,
                                                                                    tool_bar_draw, &bar, &read, err);
            tool_bar_end(&bar);
        }
    } else {
        rc = cmif_vectors_of_file(lexicon, kind, &read, err);
    }
    if (rc == CMIF_OK && !raw) { /* blocks want centred vectors without what all words share */
        cmif_vectors_part part = {read, 1, read->width > 200 ? 10 : 0};
        rc                     = cmif_vectors_join(&part, 1, read->width > 96 ? 96 : 0, threads, &made, err);
        if (rc == CMIF_OK) {
            cmif_vectors_free(read);
            read = made;
        }
    }
    if (rc == CMIF_OK && o->counterfit) {
        rc = cmif_vectors_counterfit(read, lexicon, 10, err);
    }
    if (rc == CMIF_OK) {
        *out = read;
        read = NULL;
    }
    cmif_vectors_free(read);
    return rc;
}

/* All protected words in one block, under the commonest of them: what is released tells nothing, so what a model still
 * gets right is the true zero of every scale. */
static cmif_code one_block(const cmif_lexicon *lexicon, cmif_blocks **out, cmif_err *err)
{
    cmif_blocks *blocks = calloc(1, sizeof *blocks);
    uint32_t     rest = UINT32_MAX, best = 0;
    if (!blocks || !(blocks->block_of = calloc(lexicon->count, sizeof *blocks->block_of)) ||
        !(blocks->medoid = calloc(lexicon->count, sizeof *blocks->medoid))) {
        cmif_blocks_free(blocks);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the blocks of %u words", lexicon->count);
    }
    for (uint32_t w = 0; w < lexicon->count; w++) {
        bool alone = w == 0 || lexicon->word_class[w] <= CMIF_CLASS_NEGATION;
        if (alone || rest == UINT32_MAX) {
            blocks->medoid[blocks->count] = w;
            rest                          = alone ? rest : blocks->count;
            blocks->block_of[w]           = blocks->count++;
        } else {
            blocks->block_of[w] = rest;
        }
        best = !alone && lexicon->prior[w] > lexicon->prior[best] * (best != 0) ? w : best;
    }
    if (rest == UINT32_MAX) {
        cmif_blocks_free(blocks);
        return cmif_fail(err, CMIF_E_RANGE, "the lexicon has no word that would be drawn: all %u pass", lexicon->count);
    }
    blocks->medoid[rest] = best;
    *out                 = blocks;
    return CMIF_OK;
}

static const char *const channel_notes =
    "Profiles: paper (rnm, laplace, K 20, epsilon 1), default (general, K 100), strict (general, K 200).\n"
    "Mechanisms: rnm subset krr general metric full, and the baselines paper custext custext+ santext santext+.\n"
    "What is built is certified before it gets its name, and again whenever it is opened ('cmif channel check').\n";

static int channel_main(int argc, char **argv)
{
    channel_options   o      = {0};
    const cmif_option list[] = {
        {'o', "output", "FILE", CMIF_OPTION_TEXT, &o.output, 0, 0, "the table, FILE.cmifch"},
        {'p', "profile", "NAME", CMIF_OPTION_TEXT, &o.profile, 0, 0, "paper, default or strict"},
        {'m', "model", "MODEL", CMIF_OPTION_TEXT, &o.model, 0, 0, "for rows, and words where there is no lexicon"},
        {'l', "lexicon", "FILE", CMIF_OPTION_TEXT, &o.lexicon, 0, 0, "of 'cmif lexicon build' (default: the cache's)"},
        {0, "mechanism", "NAME", CMIF_OPTION_TEXT, &o.mechanism, 0, 0, "see below (default: the profile's)"},
        {0, "noise", "NAME", CMIF_OPTION_TEXT, &o.noise, 0, 0, "of rnm and paper: laplace, exponential or gumbel"},
        {'e', "epsilon", "E", CMIF_OPTION_TEXT, &o.epsilon, 0, 0, "asked for each word: 1, 0.5, 3/2 (default 1)"},
        {0, "calibrate", NULL, CMIF_OPTION_FLAG, &o.calibrate, 0, 0, "rnm: scale to the exact loss of each block"},
        {'k', "block", "K", CMIF_OPTION_COUNT, &o.k, 2, 400, "words of a block, or neighbours of a word"},
        {0, "boost", "N", CMIF_OPTION_COUNT, &o.boost, 1, 400, "subset: outputs to boost (default: the best number)"},
        {0, "classes", "N", CMIF_OPTION_COUNT, &o.classes, 2, 64, "full: public classes (default 3)"},
        {0, "vectors", "SOURCE", CMIF_OPTION_TEXT, &o.vectors, 0, 0, "recipe, rows, words, glosses, or a text FILE"},
        {0, "encoder", "MODEL", CMIF_OPTION_TEXT, &o.encoder, 0, 0, "for recipe, words, glosses (default minilm)"},
        {0, "decoder", "MODEL", CMIF_OPTION_TEXT, &o.decoder, 0, 0, "for recipe (default smollm2)"},
        {0, "counterfit", NULL, CMIF_OPTION_FLAG, &o.counterfit, 0, 0, "fit vectors to synonyms and antonyms"},
        {0, "euclidean", NULL, CMIF_OPTION_FLAG, &o.euclidean, 0, 0, "custext: distance instead of cosine (GloVe)"},
        {0, "valence-weight", "W", CMIF_OPTION_TEXT, &o.valence, 0, 0, "of the polarity axis, 0 to 4 (profile's)"},
        {0, "penalty", "L", CMIF_OPTION_TEXT, &o.penalty, 0, 0, "on attack success: the privacy dial (profile's)"},
        {0, "protect-all", NULL, CMIF_OPTION_FLAG, &o.protect_all, 0, 0, "draw stop words and negations, too"},
        {0, "control", NULL, CMIF_OPTION_FLAG, &o.control, 0, 0, "one block of all words: the zero of every scale"},
        {0, "seed", "N", CMIF_OPTION_SEED, &o.seed, 0, 0, "of the block search (default 0)"},
        {0, "seeds", "N", CMIF_OPTION_COUNT, &o.seeds, 1, 64, "try N seeds, keep the best by its score (default 1)"},
        {0, "threads", "N", CMIF_OPTION_COUNT, &o.threads, 1, 1024, "default: all cores; the result is the same"},
        {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "results and errors as JSON"},
    };
    const cmif_command command = {"channel build",
                                  "-o FILE [options]",
                                  "turn a mechanism into a certified table",
                                  list,
                                  sizeof list / sizeof *list,
                                  channel_notes};
    cmif_lexicon      *lexicon = NULL;
    cmif_vectors      *vectors = NULL;
    cmif_blocks       *blocks  = NULL;
    float             *valence = NULL;
    const profile     *p       = &profiles[0];
    tool_bar           bar     = tool_bar_new();
    cmif_err           err     = {0};
    int                rest    = 0;
    char               recipe[1024];

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && (rest || !o.output)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "channel build takes options, and -o FILE.cmifch says where the table goes");
    }
    for (size_t i = 0; rc == CMIF_OK && o.profile && i <= sizeof profiles / sizeof *profiles; i++) {
        if (i == sizeof profiles / sizeof *profiles) {
            rc = cmif_fail(&err, CMIF_E_RANGE, "--profile takes paper, default or strict");
        } else if (!strcmp(o.profile, profiles[i].name)) {
            p = &profiles[i];
            break;
        }
    }
    cmif_mechanism_options m = {.mechanism   = p->mechanism,
                                .noise       = p->noise,
                                .calibrate   = o.calibrate,
                                .epsilon_num = 1,
                                .epsilon_den = 1,
                                .k           = o.k ? o.k : p->k,
                                .boost       = o.boost,
                                .classes     = o.classes ? o.classes : 3,
                                .p           = 0.3F,
                                .w           = 0.9F,
                                .threads     = o.threads};
    cmif_blocks_options    b = {.k              = m.k,
                                .valence_weight = p->valence_weight,
                                .penalty        = p->penalty,
                                .seed           = o.seed,
                                .seeds          = o.seeds ? o.seeds : 1,
                                .protect_all    = o.protect_all,
                                .threads        = o.threads};
    if (rc == CMIF_OK && o.mechanism) {
        rc      = find_mechanism(o.mechanism, &m.mechanism, &err);
        m.noise = CMIF_NOISE_NONE;
    }
    bool noisy = m.mechanism == CMIF_MECHANISM_RNM || m.mechanism == CMIF_MECHANISM_PAPER;
    if (rc == CMIF_OK && o.noise && !noisy) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "--noise is for rnm and paper; %s has its own",
                       cmif_mechanism_name(m.mechanism));
    }
    if (rc == CMIF_OK && noisy) {
        m.noise = CMIF_NOISE_LAPLACE;
        rc      = o.noise ? find_noise(o.noise, &m.noise, &err) : CMIF_OK;
    }
    if (m.mechanism == CMIF_MECHANISM_CUSTEXT || m.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS ||
        m.mechanism == CMIF_MECHANISM_PAPER) {
        m.k = o.k ? o.k : 20; /* published */
    }
    static const struct {
        cmif_mechanism for_whom;
        const char    *name;
    } only[] = {
        {CMIF_MECHANISM_SUBSET, "boost"}, {CMIF_MECHANISM_FULL, "classes"}, {CMIF_MECHANISM_CUSTEXT, "euclidean"}};
    const bool given[] = {o.boost != 0, o.classes != 0, o.euclidean};
    for (size_t i = 0; rc == CMIF_OK && i < sizeof only / sizeof *only; i++) {
        bool fits = m.mechanism == only[i].for_whom ||
                    (only[i].for_whom == CMIF_MECHANISM_CUSTEXT && m.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS);
        if (given[i] && !fits) {
            rc = cmif_fail(&err, CMIF_E_RANGE, "--%s is for %s, not for %s", only[i].name,
                           cmif_mechanism_name(only[i].for_whom), cmif_mechanism_name(m.mechanism));
        }
    }
    if (rc == CMIF_OK && o.counterfit && (!o.vectors || !strcmp(o.vectors, "recipe"))) {
        rc = cmif_fail(&err, CMIF_E_RANGE,
                       "--counterfit is for vectors that you name: those of the recipe are fitted already");
    }
    if (rc == CMIF_OK && o.control && m.mechanism != CMIF_MECHANISM_GENERAL) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "--control is one block under one word: it goes with general only");
    }
    if (m.mechanism == CMIF_MECHANISM_GENERAL) {
        m.epsilon_num = 0;
        if (rc == CMIF_OK && o.epsilon) {
            rc = cmif_fail(&err, CMIF_E_RANGE, "general has no epsilon to choose: it is 0 in a block");
        }
    } else if (rc == CMIF_OK && o.epsilon) {
        rc = read_epsilon(o.epsilon, &m.epsilon_num, &m.epsilon_den, &err);
    }
    if (rc == CMIF_OK) {
        rc = read_weight("valence-weight", o.valence, 4, &b.valence_weight, &err);
    }
    if (rc == CMIF_OK) {
        rc = read_weight("penalty", o.penalty, 100, &b.penalty, &err);
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }

    bool greedy   = m.mechanism == CMIF_MECHANISM_CUSTEXT || m.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS;
    bool balanced = m.mechanism == CMIF_MECHANISM_RNM || m.mechanism == CMIF_MECHANISM_SUBSET ||
                    m.mechanism == CMIF_MECHANISM_KRR || m.mechanism == CMIF_MECHANISM_GENERAL;
    rc = take_lexicon(&o, &lexicon, &err);
    if (rc == CMIF_OK) {
        valence = calloc(lexicon->count, sizeof *valence);
        rc      = valence ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for %u words", lexicon->count);
    }
    if (rc == CMIF_OK) {
        rc = take_vectors(&o, lexicon, !balanced, o.threads, &vectors, valence, &err);
    }
    if (rc == CMIF_OK && o.control) {
        rc = one_block(lexicon, &blocks, &err);
    } else if (rc == CMIF_OK && balanced) {
        rc = cmif_blocks_balanced(lexicon, vectors, valence, &b, tool_bar_draw, &bar, &blocks, &err);
    } else if (rc == CMIF_OK && greedy) {
        rc = cmif_blocks_greedy(lexicon, vectors, m.k, m.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS, o.euclidean,
                                o.threads, &blocks, &err);
    }
    if (rc == CMIF_OK) { /* everything that decides the result, beside lexicon and vectors */
        snprintf(recipe, sizeof recipe,
                 "mechanism %s noise %s calibrate %d epsilon %llu/%llu k %u boost %u classes %u valence %.9g penalty "
                 "%.9g seed "
                 "%llu seeds %u protect-all %d euclidean %d control %d",
                 cmif_mechanism_name(m.mechanism), cmif_noise_name(m.noise), m.calibrate,
                 (unsigned long long) m.epsilon_num, (unsigned long long) m.epsilon_den, m.k, m.boost, m.classes,
                 (double) b.valence_weight, (double) b.penalty, (unsigned long long) b.seed, b.seeds, b.protect_all,
                 o.euclidean, o.control);
        hash_text(recipe, m.recipe_hash);
        rc = cmif_mechanism_build(&m, lexicon, vectors, valence, blocks, o.output, tool_bar_draw, &bar, &err);
    }
    tool_bar_end(&bar);
    cmif_blocks_free(blocks);
    cmif_vectors_free(vectors);
    cmif_lexicon_free(lexicon);
    free(valence);
    if (rc != CMIF_OK) {
        return tool_report(&err, 1);
    }
    printf("%s\n", o.output); /* for `cmif channel build`, which certifies it */
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    tool_signals_install();
    for (int i = 1; i < argc; i++) { /* a usage error must already know */
        tool_json = tool_json || !strcmp(argv[i], "--json");
    }
    if (argc > 2 && !strcmp(argv[1], "lexicon") && !strcmp(argv[2], "build")) {
        return lexicon_main(argc - 3, argv + 3);
    }
    if (argc > 3 && !strcmp(argv[1], "lexicon") && !strcmp(argv[2], "lm") && !strcmp(argv[3], "build")) {
        return lm_main(argc - 4, argv + 4);
    }
    if (argc > 2 && !strcmp(argv[1], "channel") && !strcmp(argv[2], "build")) {
        return channel_main(argc - 3, argv + 3);
    }
    if (argc > 2 && !strcmp(argv[1], "channel") && !strcmp(argv[2], "show")) {
        return cmif_show_main(argc - 3, argv + 3);
    }
    if (argc > 2 && !strcmp(argv[1], "channel") && !strcmp(argv[2], "compare")) {
        return cmif_compare_main(argc - 3, argv + 3);
    }
    fputs("usage: cmif lexicon build | lm build, or cmif channel build | show | compare; each has --help\n", stderr);
    return 2;
}
