/* draft - a lexicon in the making, shared by what makes lexicons. */
#ifndef CMIF_LEXICON_DRAFT_H
#define CMIF_LEXICON_DRAFT_H

#include "lexicon/lexicon.h"
#include "lexicon/wordnet.h"

/* The built-in lists: words with one space after each. */
extern const char cmif_pass_words[], cmif_negation_words[], cmif_rude_words[];

enum { CMIF_WORD_SIZE_MAX = 64 };

/* Whether a word can stand in a lexicon: UTF-8, lower case, NFC, 1 to CMIF_WORD_SIZE_MAX bytes, no spaces and nothing invisible. */
bool cmif_word_is_text(cmif_str word);

/* An empty lexicon; it owns its arrays (malloc) and the text of glosses. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_draft_new(cmif_lexicon **out, cmif_err *err);
/* text: malloc'd; freed with the lexicon */
void cmif_draft_own(cmif_lexicon *draft, char *text);

/* Fill class (where it is not PASS or NEGATION already), topics, rude words beside the listed ones, lemma, synonyms, antonyms and glosses from WordNet. */
CMIF_MUST_USE cmif_code cmif_draft_relate(cmif_lexicon *draft, const cmif_wordnet *wordnet, cmif_err *err);

/* sources: for the file, "name sha256" lines */
CMIF_MUST_USE cmif_code cmif_draft_write(const cmif_lexicon *draft, const char *sources, const char *path, cmif_err *err);

#endif
