#include "embed/lm.h"

#include "gguf/gguf.h"
#include "table/table.h"

#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 4 };

typedef struct owned { /* what cmif_lm_open gives out is the first member of one of these */
    cmif_lm   lm;
    uint32_t *copies[ARRAYS]; /* of arrays that are not aligned in the file */
} owned;

/* The array under key, borrowed from the mapping where it is aligned for u32, else copied. */
static cmif_code read_array(owned *o, int which, const char *key, const uint32_t **out, size_t *count, cmif_err *err)
{
    const uint8_t *items;
    cmif_code      rc = cmif_gguf_get_array(o->lm.file, key, CMIF_GGUF_U32, &items, count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if ((uintptr_t) items % _Alignof(uint32_t) == 0) {
        *out = (const uint32_t *) (const void *) items;
        return CMIF_OK;
    }
    uint32_t *copy = malloc((*count ? *count : 1) * sizeof *copy);
    if (!copy) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu numbers of key '%s'", *count, key);
    }
    memcpy(copy, items, *count * sizeof *copy);
    o->copies[which] = copy;
    *out             = copy;
    return CMIF_OK;
}

/* The pairs of one word: ids in range and ascending, counts from 1 on and together no more than the word's own. */
static cmif_code check_pairs(const cmif_lm *lm, uint32_t a, cmif_err *err)
{
    uint64_t sum = 0;
    for (uint32_t i = lm->first[a]; i < lm->first[a + 1]; i++) {
        if (lm->second[i] > lm->words) {
            return cmif_fail(err, CMIF_E_FORMAT, "pair %u of word %u has the second word %u, there are %u",
                             i - lm->first[a], a, lm->second[i], lm->words);
        }
        if (i > lm->first[a] && lm->second[i] <= lm->second[i - 1]) {
            return cmif_fail(err, CMIF_E_FORMAT, "the pairs of word %u do not ascend: %u comes after %u", a,
                             lm->second[i], lm->second[i - 1]);
        }
        if (lm->counts[i] == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "pair %u of word %u counts 0; expected at least 1", i - lm->first[a],
                             a);
        }
        sum += lm->counts[i];
    }
    if (sum > lm->unigrams[a]) {
        return cmif_fail(err, CMIF_E_FORMAT, "the pairs of word %u count %llu together, the word itself %u", a,
                         (unsigned long long) sum, lm->unigrams[a]);
    }
    return CMIF_OK;
}

static cmif_code read_lm(owned *o, cmif_err *err)
{
    cmif_lm  *lm = &o->lm;
    cmif_str  arch;
    uint8_t   text_hash[32];
    size_t    unigrams, first, second, counts;
    cmif_code rc = cmif_gguf_get_str(lm->file, "general.architecture", &arch, err);
    if (rc == CMIF_OK && (!cmif_str_is(arch, "cmif-lm") || cmif_gguf_tensor_count(lm->file) != 0)) {
        return cmif_fail(err, CMIF_E_FORMAT, "it is no language model of CMIF: make one with 'cmif lexicon lm build'");
    }
    rc = rc == CMIF_OK ? cmif_gguf_get_hash(lm->file, "cmif.lm.lexicon_hash", lm->lexicon_hash, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_get_hash(lm->file, "cmif.lm.text_hash", text_hash, err) : rc;
    rc = rc == CMIF_OK ? read_array(o, 0, "cmif.lm.unigrams", &lm->unigrams, &unigrams, err) : rc;
    rc = rc == CMIF_OK ? read_array(o, 1, "cmif.lm.first", &lm->first, &first, err) : rc;
    rc = rc == CMIF_OK ? read_array(o, 2, "cmif.lm.second", &lm->second, &second, err) : rc;
    rc = rc == CMIF_OK ? read_array(o, 3, "cmif.lm.counts", &lm->counts, &counts, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    if (unigrams < 2 || unigrams - 1 > CMIF_TABLE_WORDS_MAX || first != unigrams + 1) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "%zu words and %zu ends of pairs; expected 2 to %d words, their end included, and one more",
                         unigrams, first, CMIF_TABLE_WORDS_MAX + 1);
    }
    lm->words = (uint32_t) unigrams - 1;
    if (second != counts || lm->first[0] != 0 || lm->first[unigrams] != second) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "%zu second words, %zu counts, and pairs from %u to %u: these must be the same", second,
                         counts, lm->first[0], lm->first[unigrams]);
    }
    for (uint32_t a = 0; a <= lm->words; a++) { /* all of them before any pair is looked at */
        if (lm->first[a + 1] < lm->first[a]) {
            return cmif_fail(err, CMIF_E_FORMAT, "the pairs of word %u end at %u, before they begin at %u", a,
                             lm->first[a + 1], lm->first[a]);
        }
        lm->total += lm->unigrams[a];
    }
    if (lm->total == 0 || lm->unigrams[lm->words] == 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "it was made from a text without a %s", lm->total ? "sentence" : "word");
    }
    for (uint32_t a = 0; rc == CMIF_OK && a <= lm->words; a++) {
        rc = check_pairs(lm, a, err);
    }
    return rc;
}

cmif_code cmif_lm_open(const char *path, cmif_lm **out, cmif_err *err)
{
    owned *o = calloc(1, sizeof *o);
    if (!o) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a language model");
    }
    cmif_code rc = cmif_gguf_open(path, &o->lm.file, err);
    if (rc == CMIF_OK) {
        rc = read_lm(o, err);
    }
    if (rc == CMIF_OK) {
        *out = &o->lm;
    } else {
        cmif_err_context(err, "language model '%s'", path);
        cmif_lm_free(&o->lm);
    }
    return rc;
}

void cmif_lm_free(cmif_lm *lm)
{
    if (!lm) {
        return;
    }
    owned *o = (owned *) lm;
    for (int i = 0; i < ARRAYS; i++) {
        free(o->copies[i]);
    }
    cmif_gguf_free(lm->file);
    free(o);
}

void cmif_lm_discounts(const cmif_lm *lm, double discount[static 4])
{
    double pairs[5] = {0}; /* that come so many times */
    for (uint32_t i = 0; i < lm->first[lm->words + 1]; i++) {
        if (lm->counts[i] < 5) {
            pairs[lm->counts[i]]++;
        }
    }
    const bool   all = pairs[1] > 0 && pairs[2] > 0 && pairs[3] > 0 && pairs[4] > 0;
    const double y   = all ? pairs[1] / (pairs[1] + 2 * pairs[2]) : 0;
    discount[0]      = 0;
    for (int n = 1; n < 4; n++) {
        const double d = all ? n - (n + 1) * y * pairs[n + 1] / pairs[n] : 0.75;
        discount[n]    = d < 0.1 ? 0.1 : d > n - 0.1 ? n - 0.1 : d;
    }
}

bool cmif_lm_ends_sentence(const uint8_t *gap, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool mark  = gap[i] == '!' || gap[i] == '?' || (gap[i] == '.' && (i == 0 || gap[i - 1] != '.'));
        bool space = i + 1 < size && (gap[i + 1] == ' ' || gap[i + 1] == '\t');
        if (gap[i] == '\n' || (mark && space)) {
            return true;
        }
    }
    return false;
}
