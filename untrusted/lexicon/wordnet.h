/* wordnet - the files of WordNet 3.0 as arrays: synsets, their words and pointers, lemmas, their senses with counts, exceptions.
 *
 * Source  wndb(5WN), morphy(7WN), cntlist(5WN). */
#ifndef CMIF_LEXICON_WORDNET_H
#define CMIF_LEXICON_WORDNET_H

#include "lexicon/lexicon.h"
#include "lexicon/map.h"
#include "lexicon/sources.h"

typedef enum cmif_pos { CMIF_POS_NOUN, CMIF_POS_VERB, CMIF_POS_ADJECTIVE, CMIF_POS_ADVERB, CMIF_POS_COUNT } cmif_pos;

typedef struct cmif_synset {
    uint32_t offset; /* in its file */
    uint8_t  pos;
    bool     satellite;                     /* an adjective in the cluster of another, its head */
    uint32_t first_word, word_count;        /* in words */
    uint32_t first_pointer, pointer_count;  /* in pointers */
    cmif_str gloss;                         /* definition; "example"; "example" */
} cmif_synset;

typedef struct cmif_pointer {
    char     symbol[2]; /* "!" antonym, "&" similar, "@" hypernym, ... */
    uint32_t synset;
    uint16_t from, to;  /* word numbers, from 1; 0: the whole synset */
} cmif_pointer;

typedef struct cmif_lemma {
    cmif_str text; /* lower case; underscores for spaces */
    uint32_t first_sense, sense_count;
} cmif_lemma;

typedef struct cmif_sense { uint32_t synset, count; /* in SemCor */ } cmif_sense;

typedef struct cmif_exception { cmif_str form, lemma; uint32_t next; /* of the same form; CMIF_MAP_NONE: the last */ } cmif_exception;

typedef struct cmif_wordnet {
    cmif_source     files[2 * CMIF_POS_COUNT + CMIF_POS_COUNT + 1]; /* data, index, exceptions, counts */
    cmif_synset    *synsets; /* by file, then offset, ascending */
    size_t          synset_count, synset_capacity;
    size_t          first_synset[CMIF_POS_COUNT + 1];
    cmif_str       *words;   /* as written, with underscores, without adjective markers */
    size_t          word_count, word_capacity;
    cmif_pointer   *pointers;
    size_t          pointer_count, pointer_capacity;
    cmif_lemma     *lemmas;
    size_t          lemma_count, lemma_capacity;
    cmif_sense     *senses; /* of a lemma: most frequent first */
    size_t          sense_count, sense_capacity;
    cmif_exception *exceptions;
    size_t          exception_count, exception_capacity;
    cmif_map        lemma_of[CMIF_POS_COUNT];     /* text -> lemmas */
    cmif_map        exception_of[CMIF_POS_COUNT]; /* form -> exceptions */
    cmif_map        irregular;                    /* verbs that have exceptions */
} cmif_wordnet;

/* out: cmif_wordnet_free, also after an error. Errors: IO, FORMAT (file, line, what was expected), MEMORY. */
CMIF_MUST_USE cmif_code cmif_wordnet_read(const char *folder, cmif_wordnet *out, cmif_err *err);
void                    cmif_wordnet_free(cmif_wordnet *wordnet);
/* The synset at an offset of a file, or CMIF_MAP_NONE. */
uint32_t                cmif_wordnet_find(const cmif_wordnet *wordnet, int pos, uint32_t offset);

/* The lemma of word number `number` (from 0) of a synset, or CMIF_MAP_NONE. */
uint32_t                cmif_wordnet_lemma(const cmif_wordnet *wordnet, uint32_t synset, uint32_t number);

/* ---- forms ---- an inflection is the class that a word of it has; superlatives, which are comparatives as a class, are one more. */
enum { CMIF_INFLECTION_SUPERLATIVE = CMIF_CLASS_COUNT, CMIF_ANALYSES_MAX = 24 };

typedef struct cmif_analysis { uint32_t lemma; uint8_t pos, inflection; } cmif_analysis;

/* What a lower-case word can be a form of; returns how many. */
size_t cmif_wordnet_analyse(const cmif_wordnet *wordnet, cmif_str word, cmif_analysis analyses[CMIF_ANALYSES_MAX]);

#endif
