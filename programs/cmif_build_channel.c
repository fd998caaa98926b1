/* `cmif channel build`: lexicon, vectors, blocks and weights in turn. */
#include "cmif_build.h"

#include "base/bytes.h"
#include "blocks/blocks.h"
#include "cmif_folders.h"
#include "cmif_options.h"
#include "cmif_tool.h"
#include "mechanism/mechanism.h"
#include "vectors/vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
static cmif_code take_lexicon(const build_channel_options *o, cmif_lexicon **out, cmif_err *err)
{
    char                  path[PATH_MAX];
    build_lexicon_options from = {0};
    cmif_code             rc;

    if (o->lexicon) {
        return cmif_lexicon_open(o->lexicon, out, err);
    }
    rc = cmif_cache_file("lexicon.gguf", true, path, err);
    if (rc == CMIF_OK && access(path, R_OK) != 0) {
        build_say("building the lexicon first");
        rc = build_lexicon(&from, path, err);
        if (rc == CMIF_E_IO && o->model) {
            build_say("%s; taking the words of %s instead", err->text, o->model);
            from.from = o->model;
            rc        = cmif_cache_file("lexicon-of-model.gguf", true, path, err);
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
    cmif_code rc = cmif_cache_model(model, path, err);
    if (rc == CMIF_OK) {
        rc = build_hash_file(path, digest, err);
    }
    if (rc == CMIF_OK) {
        cmif_hex(digest, 32, text);
        size_t used = strlen(recipe);
        snprintf(recipe + used, room - used, " %s %s", role, text);
    }
    return rc;
}

/* Vectors and valence. The recipe's minutes are spent once and kept in the cache. */
static cmif_code take_vectors(const build_channel_options *o, const cmif_lexicon *lexicon, bool raw, uint32_t threads,
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
        cmif_hex(lexicon->meaning_hash, 32, digest);
        snprintf(key, sizeof key, "%s %s", digest, s.recipe);
        build_hash_text(key, hash);
        cmif_hex(hash, 8, digest);
        snprintf(name, sizeof name, "vectors/%s.gguf", digest);
        rc = cmif_cache_file(name, true, path, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (access(path, R_OK) == 0 && cmif_vectors_open(path, lexicon, s.recipe, out, valence, NULL) == CMIF_OK) {
            return CMIF_OK;
        }
        build_say("making word vectors from glosses and models, once; this takes some minutes");
        rc = cmif_vectors_recipe(lexicon, s.encoder, s.decoder, threads, tool_bar_draw, &bar, out, valence, err);
        tool_bar_end(&bar);
        return rc == CMIF_OK ? cmif_vectors_save(*out, valence, lexicon, s.recipe, path, err) : rc;
    }
    if (!strcmp(kind, "rows")) {
        if (!o->model) {
            return cmif_fail(err, CMIF_E_RANGE, "--vectors rows: whose rows? Name a model with -m");
        }
        rc = cmif_cache_model(o->model, path, err);
        rc = rc == CMIF_OK ? cmif_vectors_of_rows(lexicon, path, &read, err) : rc;
    } else if (!strcmp(kind, "words") || !strcmp(kind, "glosses")) {
        rc = cmif_cache_model(o->encoder ? o->encoder : "minilm", path, err);
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

/* The axis of polarity as a list of words has it; 0 for those that it has not. */
static cmif_code read_polarity(const char *path, const cmif_lexicon *lexicon, float *valence, cmif_err *err)
{
    cmif_vectors *read = NULL;
    cmif_code     rc   = cmif_vectors_of_file(lexicon, path, &read, err);
    if (rc == CMIF_OK && read->width != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%.120s' has %u numbers a word: a polarity is one", path,
                       (unsigned) read->width);
    }
    for (uint32_t w = 0; rc == CMIF_OK && w < lexicon->count; w++) {
        valence[w] = read->rows[w];
    }
    cmif_vectors_free(read);
    return rc;
}

static bool is_model(const char *path)
{
    char  magic[4] = "";
    FILE *file     = fopen(path, "rbe");
    bool  is       = file && fread(magic, 1, 4, file) == 4 && !memcmp(magic, "GGUF", 4);
    if (file) {
        fclose(file);
    }
    return is;
}

/* The axis of polarity as a classifier sees it, kept in the cache like the recipe's vectors. */
static cmif_code take_polarity(const char *model, const cmif_lexicon *lexicon, uint32_t threads, float *valence,
                               cmif_err *err)
{
    cmif_vectors *made = NULL;
    tool_bar      bar  = tool_bar_new();
    char          gguf[PATH_MAX], path[PATH_MAX], key[640], name[96], digest[65], recipe[128] = "polarity 1";
    uint8_t       hash[32];

    cmif_code rc = name_source("model", model, gguf, recipe, sizeof recipe, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (!is_model(gguf)) {
        return read_polarity(gguf, lexicon, valence, err);
    }
    cmif_hex(lexicon->meaning_hash, 32, digest);
    snprintf(key, sizeof key, "%s %s", digest, recipe);
    build_hash_text(key, hash);
    cmif_hex(hash, 8, digest);
    snprintf(name, sizeof name, "vectors/%s.gguf", digest);
    rc = cmif_cache_file(name, true, path, err);
    if (rc == CMIF_OK &&
        (access(path, R_OK) != 0 || cmif_vectors_open(path, lexicon, recipe, &made, NULL, NULL) != CMIF_OK)) {
        rc = cmif_vectors_of_labels(lexicon, gguf, threads, tool_bar_draw, &bar, &made, err);
        tool_bar_end(&bar);
        rc = rc == CMIF_OK ? cmif_vectors_save(made, NULL, lexicon, recipe, path, err) : rc;
    }
    for (uint32_t w = 0; rc == CMIF_OK && w < lexicon->count; w++) {
        valence[w] = made->rows[w];
    }
    cmif_vectors_free(made);
    return rc;
}

/* All protected words in one block, under the commonest of them: what is released tells nothing, so what a model still
 * gets right is the true zero of every scale. */
static cmif_code one_block(const cmif_lexicon *lexicon, bool protect_all, cmif_blocks **out, cmif_err *err)
{
    cmif_blocks *blocks = calloc(1, sizeof *blocks);
    uint32_t     rest = UINT32_MAX, best = 0;
    if (!blocks || !(blocks->block_of = calloc(lexicon->count, sizeof *blocks->block_of)) ||
        !(blocks->medoid = calloc(lexicon->count, sizeof *blocks->medoid))) {
        cmif_blocks_free(blocks);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the blocks of %u words", lexicon->count);
    }
    for (uint32_t w = 0; w < lexicon->count; w++) {
        bool alone = w == 0 || (!protect_all && lexicon->word_class[w] <= CMIF_CLASS_NEGATION);
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

/* "words", "glosses" or "rows" */
static bool is_named_source(const char *vectors)
{
    return !strcmp(vectors, "words") || !strcmp(vectors, "glosses") || !strcmp(vectors, "rows");
}

typedef struct settings { /* what the options come to */
    cmif_mechanism_options m;
    cmif_blocks_options    b;
} settings;

static cmif_code settle(const build_channel_options *o, settings *out, cmif_err *err)
{
    const profile *p  = &profiles[0];
    cmif_code      rc = CMIF_OK;
    char           recipe[1024];

    for (size_t i = 0; rc == CMIF_OK && o->profile && i <= sizeof profiles / sizeof *profiles; i++) {
        if (i == sizeof profiles / sizeof *profiles) {
            rc = cmif_fail(err, CMIF_E_RANGE, "--profile takes paper, default or strict");
        } else if (!strcmp(o->profile, profiles[i].name)) {
            p = &profiles[i];
            break;
        }
    }
    cmif_mechanism_options m = {.mechanism   = p->mechanism,
                                .noise       = p->noise,
                                .calibrate   = o->calibrate,
                                .epsilon_num = 1,
                                .epsilon_den = 1,
                                .k           = o->k ? o->k : p->k,
                                .boost       = o->boost,
                                .classes     = o->classes ? o->classes : 3,
                                .p           = 0.3F,
                                .w           = 0.9F,
                                .threads     = o->threads};
    cmif_blocks_options    b = {.k              = m.k,
                                .valence_weight = p->valence_weight,
                                .penalty        = p->penalty,
                                .seed           = o->seed,
                                .seeds          = o->seeds ? o->seeds : 1,
                                .protect_all    = o->protect_all,
                                .threads        = o->threads};
    if (rc == CMIF_OK && o->mechanism) {
        rc      = find_mechanism(o->mechanism, &m.mechanism, err);
        m.noise = CMIF_NOISE_NONE;
    }
    bool noisy = m.mechanism == CMIF_MECHANISM_RNM || m.mechanism == CMIF_MECHANISM_PAPER;
    if (rc == CMIF_OK && o->noise && !noisy) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--noise is for rnm and paper; %s has its own",
                       cmif_mechanism_name(m.mechanism));
    }
    if (rc == CMIF_OK && noisy) {
        m.noise = CMIF_NOISE_LAPLACE;
        rc      = o->noise ? find_noise(o->noise, &m.noise, err) : CMIF_OK;
    }
    if (m.mechanism == CMIF_MECHANISM_CUSTEXT || m.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS ||
        m.mechanism == CMIF_MECHANISM_PAPER) {
        m.k = o->k ? o->k : 20; /* published */
    }
    static const struct {
        cmif_mechanism for_whom;
        const char    *name;
    } only[] = {
        {CMIF_MECHANISM_SUBSET, "boost"}, {CMIF_MECHANISM_FULL, "classes"}, {CMIF_MECHANISM_CUSTEXT, "euclidean"}};
    const bool given[] = {o->boost != 0, o->classes != 0, o->euclidean};
    for (size_t i = 0; rc == CMIF_OK && i < sizeof only / sizeof *only; i++) {
        bool fits = m.mechanism == only[i].for_whom ||
                    (only[i].for_whom == CMIF_MECHANISM_CUSTEXT && m.mechanism == CMIF_MECHANISM_CUSTEXT_PLUS);
        if (given[i] && !fits) {
            rc = cmif_fail(err, CMIF_E_RANGE, "--%s is for %s, not for %s", only[i].name,
                           cmif_mechanism_name(only[i].for_whom), cmif_mechanism_name(m.mechanism));
        }
    }
    if (rc == CMIF_OK && o->counterfit && (!o->vectors || !strcmp(o->vectors, "recipe"))) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "--counterfit is for vectors that you name: those of the recipe are fitted already");
    }
    if (rc == CMIF_OK && o->control && m.mechanism != CMIF_MECHANISM_GENERAL) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--control is one block under one word: it goes with general only");
    }
    if (m.mechanism == CMIF_MECHANISM_GENERAL) {
        m.epsilon_num = 0;
        if (rc == CMIF_OK && o->epsilon) {
            rc = cmif_fail(err, CMIF_E_RANGE, "general has no epsilon to choose: it is 0 in a block");
        }
    } else if (rc == CMIF_OK && o->epsilon) {
        rc = read_epsilon(o->epsilon, &m.epsilon_num, &m.epsilon_den, err);
    }
    if (rc == CMIF_OK) {
        rc = read_weight("valence-weight", o->valence, 4, &b.valence_weight, err);
    }
    if (rc == CMIF_OK) {
        rc = read_weight("penalty", o->penalty, 100, &b.penalty, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    char polarity[PATH_MAX], axis[96] = "";
    bool blocks = m.mechanism == CMIF_MECHANISM_RNM || m.mechanism == CMIF_MECHANISM_SUBSET ||
                  m.mechanism == CMIF_MECHANISM_KRR || m.mechanism == CMIF_MECHANISM_GENERAL;
    if (o->polarity && !blocks && m.mechanism != CMIF_MECHANISM_FULL) {
        return cmif_fail(err, CMIF_E_RANGE, "--polarity is for rnm, subset, krr, general and full, not for %s",
                         cmif_mechanism_name(m.mechanism));
    }
    if (o->polarity) {
        rc = name_source("polarity", o->polarity, polarity, axis, sizeof axis, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    /* everything that decides the result, beside lexicon and vectors; of these only that they are not the usual ones */
    const char *v = !o->vectors || !strcmp(o->vectors, "recipe") ? ""
                    : is_named_source(o->vectors)                ? o->vectors
                                                                 : "file";
    snprintf(recipe, sizeof recipe,
             "mechanism %s noise %s calibrate %d epsilon %llu/%llu k %u boost %u classes %u valence %.9g penalty %.9g "
             "seed %llu seeds %u protect-all %d euclidean %d control %d%s%s%s",
             cmif_mechanism_name(m.mechanism), cmif_noise_name(m.noise), m.calibrate,
             (unsigned long long) m.epsilon_num, (unsigned long long) m.epsilon_den, m.k, m.boost, m.classes,
             (double) b.valence_weight, (double) b.penalty, (unsigned long long) b.seed, b.seeds, b.protect_all,
             o->euclidean, o->control, *v ? " vectors " : "", v, axis);
    build_hash_text(recipe, m.recipe_hash);
    *out = (settings){m, b};
    return CMIF_OK;
}

static cmif_code make(const build_channel_options *o, const settings *s, cmif_err *err)
{
    const cmif_mechanism_options *m       = &s->m;
    cmif_lexicon                 *lexicon = NULL;
    cmif_vectors                 *vectors = NULL;
    cmif_blocks                  *blocks  = NULL;
    float                        *valence = NULL;
    tool_bar                      bar     = tool_bar_new();

    bool greedy   = m->mechanism == CMIF_MECHANISM_CUSTEXT || m->mechanism == CMIF_MECHANISM_CUSTEXT_PLUS;
    bool balanced = m->mechanism == CMIF_MECHANISM_RNM || m->mechanism == CMIF_MECHANISM_SUBSET ||
                    m->mechanism == CMIF_MECHANISM_KRR || m->mechanism == CMIF_MECHANISM_GENERAL;
    cmif_code rc = take_lexicon(o, &lexicon, err);
    if (rc == CMIF_OK) {
        valence = calloc(lexicon->count, sizeof *valence);
        rc      = valence ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %u words", lexicon->count);
    }
    if (rc == CMIF_OK) {
        rc = take_vectors(o, lexicon, !balanced, o->threads, &vectors, valence, err);
    }
    if (rc == CMIF_OK && o->polarity) {
        rc = take_polarity(o->polarity, lexicon, o->threads, valence, err);
    }
    if (rc == CMIF_OK && o->control) {
        rc = one_block(lexicon, o->protect_all, &blocks, err);
    } else if (rc == CMIF_OK && balanced) {
        rc = cmif_blocks_balanced(lexicon, vectors, valence, &s->b, tool_bar_draw, &bar, &blocks, err);
    } else if (rc == CMIF_OK && greedy) {
        rc = cmif_blocks_greedy(lexicon, vectors, m->k, m->mechanism == CMIF_MECHANISM_CUSTEXT_PLUS, o->euclidean,
                                o->threads, &blocks, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_mechanism_build(m, lexicon, vectors, valence, blocks, o->output, tool_bar_draw, &bar, err);
    }
    tool_bar_end(&bar);
    cmif_blocks_free(blocks);
    cmif_vectors_free(vectors);
    cmif_lexicon_free(lexicon);
    free(valence);
    return rc;
}

cmif_code build_channel(const build_channel_options *options, cmif_err *err)
{
    settings  s;
    cmif_code rc = settle(options, &s, err);
    return rc == CMIF_OK ? make(options, &s, err) : rc;
}

cmif_code build_channel_recipe(const build_channel_options *options, uint8_t hash[static 32], cmif_err *err)
{
    settings  s;
    cmif_code rc = settle(options, &s, err);
    if (rc == CMIF_OK) {
        memcpy(hash, s.m.recipe_hash, 32);
    }
    return rc;
}

static const char *const channel_notes =
    "Profiles: paper (rnm, laplace, K 20, epsilon 1), default (general, K 100), strict (general, K 200).\n"
    "Mechanisms: rnm subset krr general metric full, and the baselines paper custext custext+ santext santext+.\n"
    "What is built is certified before it gets its name, and again whenever it is opened ('cmif channel check').\n";

int build_channel_main(int argc, char **argv)
{
    build_channel_options o      = {0};
    const cmif_option     list[] = {
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
            {0, "polarity", "MODEL|FILE", CMIF_OPTION_TEXT, &o.polarity, 0, 0,
             "of a word: a classifier's; or a number a line"},
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
    settings           s;
    cmif_err           err  = {0};
    int                rest = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && (rest || !o.output)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "channel build takes options, and -o FILE.cmifch says where the table goes");
    }
    if (rc == CMIF_OK) {
        rc = settle(&o, &s, &err);
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    rc = make(&o, &s, &err);
    if (rc != CMIF_OK) {
        return tool_report(&err, 1);
    }
    printf("%s\n", o.output); /* for `cmif channel build`, which certifies it */
    return tool_end(&err);
}
