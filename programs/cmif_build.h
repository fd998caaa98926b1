/* cmif_build - what cmif-build does, and what its parts share. Everything here is made from public data.
 *
 * Sees    public files. */
#ifndef CMIF_PROGRAMS_CMIF_BUILD_H
#define CMIF_PROGRAMS_CMIF_BUILD_H

#include "lexicon/lexicon.h"

/* ---- commands: the arguments after the name; the exit code ---- */
int build_lexicon_main(int argc, char **argv);
int build_lm_main(int argc, char **argv);
int build_lists_main(int argc, char **argv);
int build_channel_main(int argc, char **argv);
int build_setup_main(int argc, char **argv);

/* ---- lexicon and lists ---- */
typedef struct build_lexicon_options { /* NULL, 0: the defaults, which are `cmif lexicon build` without options */
    const char *from, *pass, *negations, *wordnet, *sources;
    uint32_t    words;
} build_lexicon_options;

/* Errors: IO (a source is not there: the command or package that brings it), and as cmif_lexicon_build. */
CMIF_MUST_USE cmif_code build_lexicon(const build_lexicon_options *options, const char *path, cmif_err *err);

typedef struct build_lists_options { /* NULL: the defaults */
    const char *names, *wordnet, *dictionary;
} build_lists_options;

/* Errors: as build_lexicon. */
CMIF_MUST_USE cmif_code build_lists(const build_lists_options *options, const cmif_lexicon *lexicon, const char *path, cmif_err *err);
/* Whether these lists were made with this lexicon. Errors: IO, FORMAT (not lists, or not those). */
CMIF_MUST_USE cmif_code build_lists_check(const char *path, const cmif_lexicon *lexicon, cmif_err *err);

/* What Debian packages bring. Errors: IO (which package). */
CMIF_MUST_USE cmif_code build_sources_check(cmif_err *err);

/* ---- channel ---- */
typedef struct build_channel_options { /* NULL, 0: the defaults */
    const char *output, *profile, *lexicon, *model, *vectors, *encoder, *decoder, *mechanism, *noise, *epsilon, *valence;
    const char *penalty, *polarity;
    uint32_t    k, seeds, boost, classes, threads;
    uint64_t    seed;
    bool        calibrate, counterfit, protect_all, euclidean, control;
} build_channel_options;

/* Write the table. Errors: RANGE (options that do not go together), IO, FORMAT, MEMORY, CANCELLED. */
CMIF_MUST_USE cmif_code build_channel(const build_channel_options *options, cmif_err *err);
/* What a table made with these options says of its recipe (claim.recipe_hash). Errors: RANGE. */
CMIF_MUST_USE cmif_code build_channel_recipe(const build_channel_options *options, uint8_t hash[static 32], cmif_err *err);

/* ---- shared ---- */
/* One line on stderr, unless --json. */
void                    build_say(const char *format, ...) CMIF_PRINTF(1, 2);
CMIF_MUST_USE cmif_code build_hash_file(const char *path, uint8_t out[static 32], cmif_err *err);
void                    build_hash_text(const char *text, uint8_t out[static 32]);

#endif
