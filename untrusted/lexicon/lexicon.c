#include "lexicon/draft.h"

#include "base/bytes.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Keys of the file: arrays of the fields of cmif_lexicon; "sources": "name sha256" lines, for people. */
#define KEY "cmif.lexicon."

typedef struct lexicon { /* what a cmif_lexicon is inside */
    cmif_lexicon public; /* first */
    cmif_source bytes;   /* of the file that was opened, which file and strings point into */
    char       *text;    /* of a draft: glosses */
} lexicon;

cmif_code cmif_draft_new(cmif_lexicon **out, cmif_err *err)
{
    lexicon *lex = calloc(1, sizeof *lex);
    if (!lex) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a lexicon");
    }
    *out = &lex->public;
    return CMIF_OK;
}

void cmif_draft_own(cmif_lexicon *draft, char *text)
{
    ((lexicon *) draft)->text = text;
}

void cmif_lexicon_free(cmif_lexicon *lex)
{
    if (lex) {
        free(lex->words);
        free(lex->prior);
        free(lex->word_class);
        free(lex->valence);
        free(lex->topics);
        free(lex->lemma);
        free(lex->rude);
        free(lex->synonyms);
        free(lex->antonyms);
        free(lex->glosses);
        free(lex->gloss_first);
        free(lex->sense_gloss);
        free(lex->sense_weight);
        cmif_gguf_free(lex->file);
        cmif_source_free(&((lexicon *) lex)->bytes);
        free(((lexicon *) lex)->text);
        free(lex);
    }
}

bool cmif_word_is_text(cmif_str word)
{
    bool ascii = true;
    if (word.size == 0 || word.size > CMIF_WORD_SIZE_MAX) {
        return false;
    }
    for (size_t at = 0; at < word.size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *) word.data + at, (utf8proc_ssize_t) (word.size - at), &code);
        if (used <= 0 || utf8proc_category(code) == UTF8PROC_CATEGORY_CN ||
            utf8proc_category(code) >= UTF8PROC_CATEGORY_ZS || utf8proc_tolower(code) != code) {
            return false;
        }
        ascii &= used == 1;
        at += (size_t) used;
    }
    if (ascii) {
        return true;
    }
    char text[CMIF_WORD_SIZE_MAX + 1] = {0};
    memcpy(text, word.data, word.size);
    uint8_t *composed = utf8proc_NFC((const uint8_t *) text);
    bool     same     = composed && strcmp((const char *) composed, text) == 0;
    free(composed);
    return same;
}

/* ---- writing ---- */

static cmif_code put_edges(cmif_gguf_out *out, const char *name, const cmif_edge *edges, size_t count, cmif_err *err)
{
    static const char *const fields[] = {"a", "b", "weight"};
    char                     key[64];
    cmif_code                rc   = CMIF_OK;
    uint32_t                *flat = malloc((count ? count : 1) * sizeof *flat);

    if (!flat) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for pairs of words");
    }
    for (size_t field = 0; field < 3 && rc == CMIF_OK; field++) {
        for (size_t i = 0; i < count; i++) {
            memcpy(&flat[i], (const char *) &edges[i] + 4 * field, 4);
        }
        snprintf(key, sizeof key, KEY "%s.%s", name, fields[field]);
        rc = cmif_gguf_put_array(out, key, field == 2 ? CMIF_GGUF_F32 : CMIF_GGUF_U32, flat, count, err);
    }
    free(flat);
    return rc;
}

cmif_code cmif_draft_write(const cmif_lexicon *lex, const char *sources, const char *path, cmif_err *err)
{
    cmif_gguf_out *out    = NULL;
    size_t         count  = lex->count;
    size_t         senses = lex->gloss_first[count];

    cmif_code rc = cmif_gguf_out_new(&out, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    const struct {
        const char    *key;
        cmif_gguf_type type;
        const void    *items;
        size_t         count;
    } arrays[] = {
        {KEY "prior", CMIF_GGUF_U32, lex->prior, count},
        {KEY "class", CMIF_GGUF_U8, lex->word_class, count},
        {KEY "valence", CMIF_GGUF_F32, lex->valence, count},
        {KEY "topics", CMIF_GGUF_U16, lex->topics, count},
        {KEY "lemma", CMIF_GGUF_U32, lex->lemma, count},
        {KEY "rude", CMIF_GGUF_U8, lex->rude, count},
        {KEY "gloss_first", CMIF_GGUF_U32, lex->gloss_first, count + 1},
        {KEY "sense_gloss", CMIF_GGUF_U32, lex->sense_gloss, senses},
        {KEY "sense_weight", CMIF_GGUF_F32, lex->sense_weight, senses},
    };
    rc = cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-lexicon", 12}, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_uint(out, KEY "version", 2, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(out, KEY "sources", (cmif_str){sources, strlen(sources)}, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_strs(out, KEY "words", lex->words, count, err);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && rc == CMIF_OK; i++) {
        rc = cmif_gguf_put_array(out, arrays[i].key, arrays[i].type, arrays[i].items, arrays[i].count, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_strs(out, KEY "glosses", lex->glosses, lex->gloss_count, err);
    }
    if (rc == CMIF_OK) {
        rc = put_edges(out, "synonyms", lex->synonyms, lex->synonym_count, err);
    }
    if (rc == CMIF_OK) {
        rc = put_edges(out, "antonyms", lex->antonyms, lex->antonym_count, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_write(out, path, NULL, NULL, err);
    }
    cmif_gguf_out_free(out);
    return rc;
}

/* ---- reading ---- */

/* A copy of an array that must have count items. */
static cmif_code get_array(const cmif_gguf *file, const char *key, cmif_gguf_type type, size_t item_size, size_t count,
                           void *out, cmif_err *err)
{
    const uint8_t *items;
    size_t         found;
    cmif_code      rc = cmif_gguf_get_array(file, key, type, &items, &found, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (found != count) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s has %zu items, expected %zu", key, found, count);
    }
    void *copy = malloc((count ? count : 1) * item_size);
    if (!copy) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %s", key);
    }
    memcpy(copy, items, count * item_size);
    memcpy(out, &copy, sizeof copy);
    return CMIF_OK;
}

static cmif_code get_edges(const cmif_gguf *file, const char *name, uint32_t words, cmif_edge **out, size_t *out_count,
                           cmif_err *err)
{
    char           a_key[64], b_key[64], weight_key[64];
    const uint8_t *a, *b, *weight;
    size_t         count, count_b, count_weight;

    snprintf(a_key, sizeof a_key, KEY "%s.a", name);
    snprintf(b_key, sizeof b_key, KEY "%s.b", name);
    snprintf(weight_key, sizeof weight_key, KEY "%s.weight", name);
    cmif_code rc = cmif_gguf_get_array(file, a_key, CMIF_GGUF_U32, &a, &count, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_array(file, b_key, CMIF_GGUF_U32, &b, &count_b, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_array(file, weight_key, CMIF_GGUF_F32, &weight, &count_weight, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    if (count_b != count || count_weight != count) {
        return cmif_fail(err, CMIF_E_FORMAT, KEY "%s has %zu, %zu and %zu items, expected equal counts", name, count,
                         count_b, count_weight);
    }
    cmif_edge *edges = calloc(count ? count : 1, sizeof *edges);
    if (!edges) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu pairs of words", count);
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&edges[i].a, a + 4 * i, 4);
        memcpy(&edges[i].b, b + 4 * i, 4);
        memcpy(&edges[i].weight, weight + 4 * i, 4);
        bool ascends =
            i == 0 || edges[i - 1].a < edges[i].a || (edges[i - 1].a == edges[i].a && edges[i - 1].b < edges[i].b);
        if (edges[i].a >= words || edges[i].b >= words || edges[i].a == edges[i].b || !ascends ||
            !(edges[i].weight > 0 && edges[i].weight <= 1)) {
            rc = cmif_fail(err, CMIF_E_FORMAT,
                           KEY "%s %zu is (%u, %u, %g), expected two of %u words, pairs ascending, a weight in (0, 1]",
                           name, i, edges[i].a, edges[i].b, (double) edges[i].weight, words);
            free(edges);
            return rc;
        }
    }
    *out       = edges;
    *out_count = count;
    return CMIF_OK;
}

/* Each pair is there in both directions with one weight. Edges ascend by (a, b), so walking them asks for the partners
 * of one word in ascending order. */
static cmif_code check_both_directions(const char *name, const cmif_edge *edges, size_t count, uint32_t words,
                                       cmif_err *err)
{
    size_t   *at = calloc((size_t) words + 1, sizeof *at); /* next edge of each word that nobody asked for */
    cmif_code rc = CMIF_OK;
    if (!at) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for pairs of words");
    }
    for (size_t i = 0; i < count; i++) {
        at[edges[i].a + 1] = i + 1;
    }
    for (uint32_t i = 0; i < words; i++) {
        at[i + 1] = at[i + 1] > at[i] ? at[i + 1] : at[i];
    }
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        size_t back = at[edges[i].b]++;
        if (back >= count || edges[back].a != edges[i].b || edges[back].b != edges[i].a ||
            edges[back].weight != edges[i].weight) {
            rc = cmif_fail(err, CMIF_E_FORMAT, KEY "%s %zu (%u, %u) has no equal one in the other direction", name, i,
                           edges[i].a, edges[i].b);
        }
    }
    free(at);
    return rc;
}

static cmif_code check_words(const cmif_lexicon *lex, cmif_err *err)
{
    if (lex->count < 2 || lex->words[0].size) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "a lexicon begins with the empty word and has at least one more; this one has %u words",
                         lex->count);
    }
    for (uint32_t i = 1; i < lex->count; i++) {
        if (cmif_str_compare(lex->words[i - 1], lex->words[i]) >= 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u is not behind word %u in byte order (twice, or unordered)", i,
                             i - 1);
        }
        if (!cmif_word_is_text(lex->words[i])) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u is not UTF-8 text without spaces", i);
        }
    }
    for (uint32_t i = 0; i < lex->count; i++) {
        if (lex->prior[i] == 0 || lex->word_class[i] >= CMIF_CLASS_COUNT || lex->lemma[i] >= lex->count ||
            lex->topics[i] >= 2 * CMIF_TOPIC_FAMILY || (!isnan(lex->valence[i]) && !(fabsf(lex->valence[i]) <= 4))) {
            return cmif_fail(
                err, CMIF_E_FORMAT,
                "word %u has prior %u, class %u, lemma %u, topics %u, valence %g, expected prior >= 1, class < %d, "
                "lemma < %u, topics < %d, valence -4 to 4 or NaN",
                i, lex->prior[i], lex->word_class[i], lex->lemma[i], lex->topics[i], (double) lex->valence[i],
                CMIF_CLASS_COUNT, lex->count, 2 * CMIF_TOPIC_FAMILY);
        }
        bool passes = i == 0 || lex->word_class[i] <= CMIF_CLASS_NEGATION;
        if (lex->rude[i] > !passes) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u has rude %u, expected 0%s", i, lex->rude[i],
                             passes ? ", as it passes" : " or 1");
        }
    }
    return CMIF_OK;
}

static cmif_code check_senses(const cmif_lexicon *lex, cmif_err *err)
{
    for (uint32_t word = 0; word < lex->count; word++) {
        uint32_t from = lex->gloss_first[word], to = lex->gloss_first[word + 1];
        if ((word == 0 && from) || from > to || to - from > 3) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "word %u has senses %u to %u, expected at most 3, one word's after another's", word, from,
                             to);
        }
    }
    return CMIF_OK;
}

static cmif_code check_sense_items(const cmif_lexicon *lex, cmif_err *err)
{
    for (uint32_t i = 0; i < lex->gloss_first[lex->count]; i++) {
        if (lex->sense_gloss[i] >= lex->gloss_count || !(lex->sense_weight[i] > 0) || !isfinite(lex->sense_weight[i])) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "sense %u is gloss %u with weight %g, expected one of %u with a weight above 0", i,
                             lex->sense_gloss[i], (double) lex->sense_weight[i], lex->gloss_count);
        }
    }
    return CMIF_OK;
}

static cmif_code read_lexicon(lexicon *lex, cmif_err *err)
{
    cmif_lexicon *p = &lex->public;
    cmif_str      architecture;
    uint32_t      version;
    size_t        count = 0, glosses = 0;

    cmif_code rc = cmif_gguf_open_memory(lex->bytes.data, lex->bytes.size, &p->file, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_str(p->file, "general.architecture", &architecture, err);
    }
    if (rc == CMIF_OK && !cmif_str_is(architecture, "cmif-lexicon")) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "it is a GGUF file, but no lexicon; `cmif lexicon build` makes one");
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_uint(p->file, KEY "version", &version, err);
    }
    if (rc == CMIF_OK && version != 2) { /* 1 did not know its rude words */
        rc = cmif_fail(err, CMIF_E_FORMAT, "it is a lexicon of version %u, expected 2; `cmif lexicon build` makes one",
                       version);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_strs(p->file, KEY "words", &p->words, &count, err);
    }
    p->count = (uint32_t) count; /* an array has at most 2^30 items */
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_strs(p->file, KEY "glosses", &p->glosses, &glosses, err);
    }
    p->gloss_count = (uint32_t) glosses;
    const struct {
        const char    *key;
        cmif_gguf_type type;
        size_t         size, count;
        void          *out;
    } arrays[] = {
        {KEY "prior", CMIF_GGUF_U32, 4, count, &p->prior},
        {KEY "class", CMIF_GGUF_U8, 1, count, &p->word_class},
        {KEY "valence", CMIF_GGUF_F32, 4, count, &p->valence},
        {KEY "topics", CMIF_GGUF_U16, 2, count, &p->topics},
        {KEY "lemma", CMIF_GGUF_U32, 4, count, &p->lemma},
        {KEY "rude", CMIF_GGUF_U8, 1, count, &p->rude},
        {KEY "gloss_first", CMIF_GGUF_U32, 4, count + 1, &p->gloss_first},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && rc == CMIF_OK; i++) {
        rc = get_array(p->file, arrays[i].key, arrays[i].type, arrays[i].size, arrays[i].count, arrays[i].out, err);
    }
    if (rc == CMIF_OK) {
        rc = check_words(p, err);
    }
    if (rc == CMIF_OK) {
        rc = check_senses(p, err);
    }
    if (rc == CMIF_OK) {
        rc = get_array(p->file, KEY "sense_gloss", CMIF_GGUF_U32, 4, p->gloss_first[count], &p->sense_gloss, err);
    }
    if (rc == CMIF_OK) {
        rc = get_array(p->file, KEY "sense_weight", CMIF_GGUF_F32, 4, p->gloss_first[count], &p->sense_weight, err);
    }
    if (rc == CMIF_OK) {
        rc = check_sense_items(p, err);
    }
    if (rc == CMIF_OK) {
        rc = get_edges(p->file, "synonyms", p->count, &p->synonyms, &p->synonym_count, err);
    }
    if (rc == CMIF_OK) {
        rc = get_edges(p->file, "antonyms", p->count, &p->antonyms, &p->antonym_count, err);
    }
    if (rc == CMIF_OK) {
        rc = check_both_directions("synonyms", p->synonyms, p->synonym_count, p->count, err);
    }
    if (rc == CMIF_OK) {
        rc = check_both_directions("antonyms", p->antonyms, p->antonym_count, p->count, err);
    }
    return rc;
}

static void hash_strings(EVP_MD_CTX *hash, const cmif_str *strings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        EVP_DigestUpdate(hash, strings[i].data, strings[i].size);
        EVP_DigestUpdate(hash, "", 1); /* no string holds a zero */
    }
}

/* Vectors take minutes: they are kept while this stays, whatever else of the lexicon changes. */
static cmif_code hash_meaning(cmif_lexicon *l, cmif_err *err)
{
    const uint64_t counts[] = {l->count, l->synonym_count, l->antonym_count, l->gloss_count};
    const size_t   senses   = l->gloss_first[l->count];
    EVP_MD_CTX    *hash     = EVP_MD_CTX_new();
    if (!hash || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(hash);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    EVP_DigestUpdate(hash, counts, sizeof counts);
    hash_strings(hash, l->words, l->count);
    hash_strings(hash, l->glosses, l->gloss_count);
    EVP_DigestUpdate(hash, l->valence, l->count * sizeof *l->valence);
    EVP_DigestUpdate(hash, l->synonyms, l->synonym_count * sizeof *l->synonyms);
    EVP_DigestUpdate(hash, l->antonyms, l->antonym_count * sizeof *l->antonyms);
    EVP_DigestUpdate(hash, l->gloss_first, (l->count + (size_t) 1) * sizeof *l->gloss_first);
    EVP_DigestUpdate(hash, l->sense_gloss, senses * sizeof *l->sense_gloss);
    EVP_DigestUpdate(hash, l->sense_weight, senses * sizeof *l->sense_weight);
    EVP_DigestFinal_ex(hash, l->meaning_hash, NULL);
    EVP_MD_CTX_free(hash);
    return CMIF_OK;
}

cmif_code cmif_lexicon_open(const char *path, cmif_lexicon **out, cmif_err *err)
{
    lexicon *lex = calloc(1, sizeof *lex);
    if (!lex) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a lexicon");
    }
    cmif_code rc = cmif_source_read(path, &lex->bytes, err);
    if (rc == CMIF_OK) {
        memcpy(lex->public.hash, lex->bytes.digest, sizeof lex->public.hash);
        rc = read_lexicon(lex, err);
        rc = rc == CMIF_OK ? hash_meaning(&lex->public, err) : rc;
        if (rc != CMIF_OK) {
            cmif_err_context(err, "lexicon '%s'", path);
        }
    }
    if (rc != CMIF_OK) {
        cmif_lexicon_free(&lex->public);
        return rc;
    }
    *out = &lex->public;
    return CMIF_OK;
}
