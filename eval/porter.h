/* porter - the stem of an English word: Porter's suffix stripping (Program 14, 1980) with the extensions and irregular
 * forms of NLTK's PorterStemmer, which is what rouge-score calls. Checked against it by rouge_agree_test.py. */
#ifndef CMIF_EVAL_PORTER_H
#define CMIF_EVAL_PORTER_H

#include "side.h"

#include <stddef.h>

/* Stem word (size bytes of a-z and 0-9, no NUL needed) in place; gives its new size, never larger. */
size_t cmif_porter_stem(char *word, size_t size);

#endif
