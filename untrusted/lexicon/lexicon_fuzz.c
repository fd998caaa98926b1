#include "lexicon/lexicon.h"

#include <assert.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What opens holds what lexicon.h says: every id and every range can be followed. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_lexicon *lex = NULL;
    char          path[64];
    int           fd = memfd_create("lexicon", 0);

    if (fd < 0 || write(fd, data, size) != (ssize_t) size) {
        return 0;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (cmif_lexicon_open(path, &lex, NULL) == CMIF_OK) {
        size_t bytes = 0;
        assert(lex->count >= 2 && lex->words[0].size == 0);
        for (uint32_t i = 0; i < lex->count; i++) {
            assert(lex->prior[i] && lex->word_class[i] < CMIF_CLASS_COUNT);
            assert(lex->rude[i] <= (i > 0 && lex->word_class[i] > CMIF_CLASS_NEGATION));
            bytes += lex->words[lex->lemma[i]].size;
            for (uint32_t j = lex->gloss_first[i]; j < lex->gloss_first[i + 1]; j++) {
                bytes += lex->glosses[lex->sense_gloss[j]].size;
                assert(lex->sense_weight[j] > 0);
            }
        }
        for (size_t i = 0; i < lex->synonym_count; i++) {
            bytes += lex->words[lex->synonyms[i].a].size + lex->words[lex->synonyms[i].b].size;
        }
        for (size_t i = 0; i < lex->antonym_count; i++) {
            bytes += lex->words[lex->antonyms[i].a].size + lex->words[lex->antonyms[i].b].size;
        }
        assert(bytes < (size_t) -1);
    }
    cmif_lexicon_free(lex);
    close(fd);
    return 0;
}
