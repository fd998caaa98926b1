#include "lexicon/draft.h"

#include "base/bytes.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Keys: trusted/embed/lm.h */
enum { KEY_SIZE_MAX = CMIF_WORD_SIZE_MAX, TELL_EVERY = 1 << 20 /* bytes */ };

typedef struct counter {
    cmif_map      ids;      /* word -> id */
    uint32_t      end;      /* id of a sentence's end */
    uint32_t      before;   /* the word before; end: none */
    bool          empty;    /* the sentence has no words yet */
    uint32_t     *unigrams; /* [end + 1] */
    uint64_t     *pairs;    /* slots of a hash table: a << 32 | b, then its count in `counts`; counts 0: free */
    uint32_t     *counts;
    size_t        used, capacity;
    bool          failed; /* no memory */
    bool          full;   /* a count would not fit 32 bits */
    uint64_t      done, total;
    cmif_progress progress;
    void         *context;
} counter;

/* ---- counting ---- */

static size_t slot_of(const counter *c, uint64_t pair)
{
    uint64_t hash = pair * UINT64_C(0x9e3779b97f4a7c15);
    size_t   at   = (size_t) (hash ^ hash >> 29) & (c->capacity - 1);
    while (c->counts[at] && c->pairs[at] != pair) {
        at = (at + 1) & (c->capacity - 1);
    }
    return at;
}

static void grow_pairs(counter *c)
{
    counter grown = {.capacity = c->capacity ? 2 * c->capacity : 1 << 16};
    grown.pairs   = malloc(grown.capacity * sizeof *grown.pairs);
    grown.counts  = calloc(grown.capacity, sizeof *grown.counts);
    if (!grown.pairs || !grown.counts) {
        free(grown.pairs);
        free(grown.counts);
        c->failed = true;
        return;
    }
    for (size_t i = 0; i < c->capacity; i++) {
        if (c->counts[i]) {
            size_t at        = slot_of(&grown, c->pairs[i]);
            grown.pairs[at]  = c->pairs[i];
            grown.counts[at] = c->counts[i];
        }
    }
    free(c->pairs);
    free(c->counts);
    c->pairs    = grown.pairs;
    c->counts   = grown.counts;
    c->capacity = grown.capacity;
}

static void count_word(counter *c, uint32_t id)
{
    if (2 * c->used >= c->capacity) {
        grow_pairs(c);
    }
    if (c->failed) {
        return;
    }
    uint64_t pair = (uint64_t) c->before << 32 | id;
    size_t   at   = slot_of(c, pair);
    c->used += c->counts[at] == 0;
    c->pairs[at] = pair;
    c->full |= c->counts[at] == UINT32_MAX || c->unigrams[id] == UINT32_MAX;
    if (!c->full) {
        c->counts[at]++;
        c->unigrams[id]++;
    }
    c->before = id;
    c->empty  = false;
}

static void end_sentence(counter *c)
{
    if (!c->empty) {
        count_word(c, c->end);
        c->empty = true;
    }
}

/* ---- words of text, as trusted/dp/release.h says ---- */

typedef enum kind { BETWEEN, LETTER, APOSTROPHE, FORMAT } kind;

static kind kind_at(const char *text, size_t size, utf8proc_int32_t *code, size_t *used)
{
    unsigned char first = (unsigned char) text[0];
    *code               = first;
    *used               = 1;
    if (first < 0x80) {
        bool letter = (first | 0x20) >= 'a' && (first | 0x20) <= 'z';
        return letter || (first >= '0' && first <= '9') ? LETTER : first == '\'' ? APOSTROPHE : BETWEEN;
    }
    utf8proc_ssize_t taken = utf8proc_iterate((const uint8_t *) text, (utf8proc_ssize_t) size, code);
    if (taken <= 0) {
        *code = 0xfffd;
        return BETWEEN;
    }
    *used = (size_t) taken;
    if (*code == 0x2019) {
        return APOSTROPHE;
    }
    utf8proc_category_t category = utf8proc_category(*code);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO) {
        return LETTER; /* or a mark, or a number */
    }
    return category == UTF8PROC_CATEGORY_CF ? FORMAT : BETWEEN;
}

/* A word in lower case, NFC, without format characters; both apostrophes are U+0027. false: in no lexicon. */
static bool make_key(const char *text, size_t size, char key[KEY_SIZE_MAX + 4], size_t *key_size)
{
    size_t put   = 0;
    bool   ascii = true;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code;
        size_t           used;
        kind             what = kind_at(text + at, size - at, &code, &used);
        at += used;
        if (put > KEY_SIZE_MAX - 1) {
            return false;
        }
        if (code < 0x80) {
            key[put++] = (char) (code >= 'A' && code <= 'Z' ? code | 0x20 : code);
        } else if (what == APOSTROPHE) {
            key[put++] = '\'';
        } else if (what != FORMAT) {
            put += (size_t) utf8proc_encode_char(utf8proc_tolower(code), (uint8_t *) key + put);
            ascii = false;
        }
    }
    if (!ascii) {
        key[put]        = 0;
        char  *text_nfc = (char *) utf8proc_NFC((const uint8_t *) key);
        size_t made     = text_nfc ? strlen(text_nfc) : KEY_SIZE_MAX + 1;
        if (made <= KEY_SIZE_MAX) {
            memcpy(key, text_nfc, made);
        }
        free(text_nfc);
        put = made;
    }
    *key_size = put;
    return put <= KEY_SIZE_MAX;
}

static uint32_t look_up(const counter *c, const char *text, size_t size)
{
    char   key[KEY_SIZE_MAX + 4];
    size_t key_size;
    return make_key(text, size, key, &key_size) ? cmif_map_get(&c->ids, (cmif_str){key, key_size}) : CMIF_MAP_NONE;
}

/* The word as a whole; if it is not known, its parts around apostrophes, 0 for unknown ones. */
static void take_word(counter *c, const char *text, size_t size, bool apostrophes)
{
    uint32_t id = look_up(c, text, size);
    if (id != CMIF_MAP_NONE || !apostrophes) {
        count_word(c, id == CMIF_MAP_NONE ? 0 : id);
        return;
    }
    for (size_t at = 0, from = 0; at <= size;) {
        utf8proc_int32_t code;
        size_t           used = 1;
        if (at == size || kind_at(text + at, size - at, &code, &used) == APOSTROPHE) {
            id = look_up(c, text + from, at - from);
            count_word(c, id == CMIF_MAP_NONE ? 0 : id);
            from = at + used;
        }
        at += used;
    }
}

/* Where the word that starts at `from` ends. */
static size_t end_of_word(const char *text, size_t size, size_t from, bool *apostrophes)
{
    size_t end    = from;
    bool   behind = false; /* an apostrophe */
    *apostrophes  = false;
    for (size_t at = from; at < size;) {
        utf8proc_int32_t code;
        size_t           used;
        kind             what = kind_at(text + at, size - at, &code, &used);
        if (what == BETWEEN || (what == APOSTROPHE && behind)) {
            break;
        }
        at += used;
        if (what == LETTER) {
            *apostrophes |= behind;
            end = at;
        }
        behind = what == APOSTROPHE || (what == FORMAT && behind);
    }
    return end;
}

/* ends: characters that end a sentence. false: stopped, or something failed */
static bool count_text(counter *c, const char *text, size_t size, const char *ends)
{
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code;
        size_t           used;
        bool             apostrophes;
        size_t           from = at;
        if (kind_at(text + at, size - at, &code, &used) == LETTER) {
            at = end_of_word(text, size, from, &apostrophes);
            take_word(c, text + from, at - from, apostrophes);
        } else {
            at += used;
            if (code && code < 0x80 && strchr(ends, code)) {
                end_sentence(c);
            }
        }
        uint64_t before = c->done / TELL_EVERY;
        c->done += at - from;
        if (c->failed || c->full ||
            (c->done / TELL_EVERY != before && c->progress &&
             !c->progress(c->context, "counting words", c->done, c->total))) {
            return false;
        }
    }
    end_sentence(c);
    return true;
}

/* ---- the file ---- */

typedef struct sorted {
    uint64_t pair;
    uint32_t count;
} sorted;

static int by_pair(const void *a, const void *b)
{
    const sorted *x = a, *y = b;
    return (x->pair > y->pair) - (x->pair < y->pair);
}

static cmif_code write_counts(const counter *c, const cmif_lexicon *lexicon, const char *text_hash, const char *path,
                              cmif_err *err)
{
    cmif_code      rc     = CMIF_OK;
    cmif_gguf_out *out    = NULL;
    size_t         n      = 0;
    sorted        *pairs  = malloc(c->used * sizeof *pairs);
    uint32_t      *first  = calloc((size_t) c->end + 2, sizeof *first);
    uint32_t      *second = malloc(c->used * sizeof *second);
    uint32_t      *counts = malloc(c->used * sizeof *counts);
    char           lexicon_hash[65];

    if (!pairs || !first || !second || !counts) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu pairs of words", c->used);
        goto done;
    }
    for (size_t i = 0; i < c->capacity; i++) {
        if (c->counts[i]) {
            pairs[n++] = (sorted){c->pairs[i], c->counts[i]};
        }
    }
    qsort(pairs, n, sizeof *pairs, by_pair);
    for (size_t i = 0; i < n; i++) {
        first[(pairs[i].pair >> 32) + 1]++;
        second[i] = (uint32_t) pairs[i].pair;
        counts[i] = pairs[i].count;
    }
    for (uint32_t i = 0; i <= c->end; i++) {
        first[i + 1] += first[i];
    }
    cmif_hex(lexicon->hash, 32, lexicon_hash);
    rc = cmif_gguf_out_new(&out, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-lm", 7}, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(out, "cmif.lm.lexicon_hash", (cmif_str){lexicon_hash, 64}, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(out, "cmif.lm.text_hash", (cmif_str){text_hash, 64}, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_array(out, "cmif.lm.unigrams", CMIF_GGUF_U32, c->unigrams, (size_t) c->end + 1, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_array(out, "cmif.lm.first", CMIF_GGUF_U32, first, (size_t) c->end + 2, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_array(out, "cmif.lm.second", CMIF_GGUF_U32, second, n, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_array(out, "cmif.lm.counts", CMIF_GGUF_U32, counts, n, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_write(out, path, NULL, NULL, err);
    }
done:
    cmif_gguf_out_free(out);
    free(pairs);
    free(first);
    free(second);
    free(counts);
    return rc;
}

static cmif_code why_stopped(const counter *c, cmif_err *err)
{
    return c->failed ? cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu pairs of words", c->used)
           : c->full ? cmif_fail(err, CMIF_E_RANGE, "a word or pair comes more than 2^32 times; count less text")
                     : cmif_fail(err, CMIF_E_CANCELLED, "stopped; no bigram model was written");
}

/* SHA-256 over the bytes of the sources, one after another. */
static cmif_code hash_sources(const cmif_source *sources, size_t count, char hex[static 65], cmif_err *err)
{
    uint8_t     digest[32];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool        good = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    for (size_t i = 0; i < count && good; i++) {
        good = EVP_DigestUpdate(hash, sources[i].data, sources[i].size);
    }
    good = good && EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    if (!good) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    cmif_hex(digest, sizeof digest, hex);
    return CMIF_OK;
}

/* Definitions and examples are sentences; semicolons stand between them. */
static cmif_code count_wordnet(counter *c, const char *folder, char text_hash[static 65], cmif_err *err)
{
    cmif_wordnet *net = calloc(1, sizeof *net);
    cmif_code rc = net ? cmif_wordnet_read(folder, net, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for WordNet");
    for (size_t i = 0; rc == CMIF_OK && i < net->synset_count; i++) {
        c->total += net->synsets[i].gloss.size;
    }
    for (size_t i = 0; rc == CMIF_OK && i < net->synset_count; i++) {
        if (!count_text(c, net->synsets[i].gloss.data, net->synsets[i].gloss.size, ".!?;\n")) {
            rc = why_stopped(c, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = hash_sources(net->files, CMIF_POS_COUNT, text_hash, err); /* the data files */
    }
    if (net) {
        cmif_wordnet_free(net);
    }
    free(net);
    return rc;
}

static cmif_code count_files(counter *c, const char *const *texts, size_t count, char text_hash[static 65],
                             cmif_err *err)
{
    cmif_code    rc      = CMIF_OK;
    cmif_source *sources = calloc(count, sizeof *sources);
    if (!sources) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu texts", count);
    }
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        rc = cmif_source_read(texts[i], &sources[i], err);
        c->total += sources[i].size;
    }
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        if (!count_text(c, sources[i].data, sources[i].size, ".!?\n")) {
            rc = why_stopped(c, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = hash_sources(sources, count, text_hash, err);
    }
    for (size_t i = 0; i < count; i++) {
        cmif_source_free(&sources[i]);
    }
    free(sources);
    return rc;
}

cmif_code cmif_lm_build(const cmif_lexicon *lexicon, const char *wordnet, const char *const *texts, size_t count,
                        const char *path, cmif_progress progress, void *context, cmif_err *err)
{
    counter c = {
        .end = lexicon->count, .before = lexicon->count, .empty = true, .progress = progress, .context = context};
    cmif_code rc = CMIF_OK;
    char      text_hash[65];

    c.unigrams = calloc((size_t) c.end + 1, sizeof *c.unigrams);
    c.failed   = !c.unigrams;
    for (uint32_t i = 1; i < lexicon->count && !c.failed; i++) {
        c.failed = cmif_map_put(&c.ids, lexicon->words[i], i) == CMIF_MAP_NONE;
    }
    if (c.failed) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %u words", lexicon->count);
        goto done;
    }
    rc = count ? count_files(&c, texts, count, text_hash, err) : count_wordnet(&c, wordnet, text_hash, err);
    if (rc == CMIF_OK && c.used == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the %zu text files have no words", count);
    }
    if (rc == CMIF_OK) {
        rc = write_counts(&c, lexicon, text_hash, path, err);
    }
done:
    cmif_map_free(&c.ids);
    free(c.unigrams);
    free(c.pairs);
    free(c.counts);
    return rc;
}
