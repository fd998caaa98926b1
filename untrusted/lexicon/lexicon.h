/* lexicon - public words and what is publicly known of them. Channels are built from it; no line of it has to be trusted,
 * because a table's guarantee is certified from the table alone.
 *
 * Built from pinned public packages (tools/fetch lexicon), or from a model's own vocabulary; never from a person's or a task's
 * text. The same inputs give the same bytes, with any number of threads.
 *
 * File    GGUF, general.architecture "cmif-lexicon"; keys in lexicon.c.
 * Source  sanitizer study sections 3 and 4; WordNet 3.0; wordfreq; VADER. */
#ifndef CMIF_LEXICON_LEXICON_H
#define CMIF_LEXICON_LEXICON_H

#include "base/err.h"
#include "gguf/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_word_class { /* words of two classes never share a block */
    CMIF_CLASS_PASS = 0,       /* function words and clitics: pass.c */
    CMIF_CLASS_NEGATION,       /* not, never, without, hardly, ...: pass.c */
    CMIF_CLASS_NOUN, CMIF_CLASS_NOUNS, CMIF_CLASS_VERB, CMIF_CLASS_VERB_S, CMIF_CLASS_VERB_D, CMIF_CLASS_VERB_G,
    CMIF_CLASS_ADJECTIVE, CMIF_CLASS_COMPARATIVE, CMIF_CLASS_ADVERB,
    CMIF_CLASS_UNKNOWN,        /* no analysis: mostly names */
    CMIF_CLASS_COUNT
} cmif_word_class;

typedef enum cmif_topic { /* bits */
    CMIF_TOPIC_HEALTH = 1, CMIF_TOPIC_MONEY = 2, CMIF_TOPIC_LAW = 4, CMIF_TOPIC_RELIGION = 8, CMIF_TOPIC_SEX = 16,
    CMIF_TOPIC_POLITICS = 32, CMIF_TOPIC_CRIME = 64, CMIF_TOPIC_ETHNICITY = 128, CMIF_TOPIC_FAMILY = 256
} cmif_topic;

typedef struct cmif_edge { uint32_t a, b; float weight; } cmif_edge; /* word ids; weight in (0, 1] */

typedef struct cmif_lexicon {      /* read freely */
    uint32_t         count;        /* words; id 0 is the empty word, the others ascend in byte order */
    cmif_str        *words;        /* [count] lower case ASCII or NFC */
    uint32_t        *prior;        /* [count] >= 1, sums to about 2^31; of word 0: the mass outside the lexicon */
    uint8_t         *word_class;   /* [count] cmif_word_class */
    float           *valence;      /* [count] -4..4; NaN: not listed */
    uint16_t        *topics;       /* [count] bits of cmif_topic */
    uint32_t        *lemma;        /* [count] id of the lemma, or of the word itself */
    uint8_t         *rude;         /* [count] 1: a slur, an obscenity, a sexual crime: drawn to other words, but never drawn (mechanism.h).
                                    * A word that passes is not rude. NULL in a lexicon made by hand: none is */
    cmif_edge       *synonyms;     /* both directions, ascending (a, b): weights of the counter-fitting matrix before rows are normalised */
    size_t           synonym_count;
    cmif_edge       *antonyms;     /* both directions, ascending; weight 1 direct, .5 indirect */
    size_t           antonym_count;
    cmif_str        *glosses;      /* "lemma, synonym, synonym: definition" */
    uint32_t         gloss_count;
    uint32_t        *gloss_first;  /* [count + 1] senses of a word: at most 3, heaviest first */
    uint32_t        *sense_gloss;  /* [gloss_first[count]] into glosses */
    float           *sense_weight; /* the same length */
    uint8_t          hash[32];     /* SHA-256 of the file */
    uint8_t          meaning_hash[32]; /* SHA-256 of what vectors are made from: words, valence, edges, glosses and senses */
    cmif_gguf       *file;         /* what the strings point into */
} cmif_lexicon;

static inline bool cmif_word_is_rude(const cmif_lexicon *lexicon, uint32_t word) { return lexicon->rude && lexicon->rude[word]; }

/* Errors: IO, FORMAT (not a lexicon, or one of an older version; duplicate or unordered words, ids out of range, no words, NaN weights), MEMORY. */
CMIF_MUST_USE cmif_code cmif_lexicon_open(const char *path, cmif_lexicon **out, cmif_err *err);
void                    cmif_lexicon_free(cmif_lexicon *lexicon); /* NULL is welcome */

typedef struct cmif_lexicon_sources { /* folders and files of packages; see tools/fetch lexicon */
    const char *wordnet;           /* folder with index.noun, data.noun, *.exc, cntlist.rev */
    const char *frequencies;       /* wordfreq's large_en.msgpack.gz */
    const char *valence;           /* vader_lexicon.txt */
    const char *pass, *negations;  /* word lists, one a line; NULL: the built-in ones */
    uint32_t    words;             /* keep so many, most frequent first, and the listed ones; 0: all by the study's rule (59,572) */
} cmif_lexicon_sources;

/* done of total; return false to stop (CANCELLED). */
typedef bool (*cmif_progress)(void *context, const char *what, uint64_t done, uint64_t total);

/* Write a lexicon. Errors: IO, FORMAT (a source is not what it should be: which, line), MEMORY, CANCELLED. */
CMIF_MUST_USE cmif_code cmif_lexicon_build(const cmif_lexicon_sources *sources, const char *path, cmif_progress progress,
                                           void *context, cmif_err *err);
/* From the whole words of a model's own vocabulary alone (every token that stands for a space and letters, or a word-initial piece);
 * prior 1 / (rank + 10) by token id, a twentieth of all text outside; the built-in lists of words that pass and of rude ones; no glosses, no valence. */
CMIF_MUST_USE cmif_code cmif_lexicon_build_from_model(const char *gguf, const char *path, cmif_err *err);
/* A word list, one a line, most frequent first (or `word<TAB>count`): prior 1 / (rank + 10), or the counts; otherwise as
 * from a model. Words are lower case, NFC, at most 64 bytes. */
CMIF_MUST_USE cmif_code cmif_lexicon_build_from_list(const char *list, const char *path, cmif_err *err);

/* A bigram model (trusted/embed/lm.h has the file's keys) over the lexicon's words from text files (one sentence a line; words are
 * split as trusted/dp/release.h says; a sentence also ends at . ! ?), or from WordNet's glosses and examples (wordnet folder) when
 * count is 0. Errors: IO, FORMAT (no words), RANGE (a count beyond 32 bits), MEMORY, CANCELLED. */
CMIF_MUST_USE cmif_code cmif_lm_build(const cmif_lexicon *lexicon, const char *wordnet, const char *const *texts, size_t count,
                                      const char *path, cmif_progress progress, void *context, cmif_err *err);

/* Lists of names and words for the sanitizer (trusted/sanitizer/lists.h).
 *   names       folder of `tools/fetch names`: census.tsv, faker.tsv, geonames.tsv, iso.tsv
 *   dictionary  words one a line, names with a capital: Debian's wamerican
 * Errors: IO, FORMAT (a source is not what it should be: which, line), MEMORY. */
CMIF_MUST_USE cmif_code cmif_lists_build(const cmif_lexicon *lexicon, const char *wordnet, const char *names, const char *dictionary,
                                         const char *path, cmif_err *err);
enum { CMIF_LISTS = 6 };
extern const char *const cmif_list_names[CMIF_LISTS]; /* "given", ...: the file has "cmif.lists.NAME" */

#endif
