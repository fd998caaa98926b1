#include "internal.h"

#include "base/bytes.h"
#include "dp/released_ids.h"
#include "secret/secret.h"

#include <stdlib.h>

enum { TEXT_MAX = 1 << 30, KEEP_WORD = 1 << 16 };

void cmif_tokenizer_free(cmif_tokenizer *t)
{
    if (!t) {
        return;
    }
    tok_word_wipe(&t->word);
    if (t->cache) {
        cmif_wipe(t->cache, sizeof *t->cache << TOK_CACHE_BITS);
    }
    free(t->cache);
    tok_merges_wipe(&t->merges);
    tok_trie_wipe(&t->trie);
    tok_classes_wipe(&t->classes);
    tok_specials_wipe(&t->specials);
    tok_pieces_wipe(&t->pieces);
    free(t->made_texts);
    free(t->empty_names);
    free(t->attrs);
    free(t);
}

static cmif_code load_wordpiece(cmif_tokenizer *t, cmif_err *err)
{
    cmif_code rc = tok_trie_init(&t->trie, err);
    for (size_t i = 0; rc == CMIF_OK && i < t->vocab; i++) {
        cmif_str text = t->pieces.texts[i];
        if (!(t->attrs[i] & ATTR_NO_TEXT)) {
            rc = tok_trie_add(&t->trie, text.data, text.size, (int32_t) i, err);
        }
    }
    return rc == CMIF_OK ? tok_classes_init_wordpiece(&t->classes, t->strip_accents, err) : rc;
}

cmif_code cmif_tokenizer_open(const cmif_gguf *file, cmif_tokenizer **out, cmif_err *err)
{
    cmif_code       rc = CMIF_OK;
    cmif_tokenizer *t  = calloc(1, sizeof *t);
    if (!t) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a tokenizer");
    }
    t->cache = calloc((size_t) 1 << TOK_CACHE_BITS, sizeof *t->cache);
    if (!t->cache) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the tokenizer's cache of words");
        goto done;
    }
    rc = tok_load(t, file, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    if (t->model == TOK_WORDPIECE) {
        rc = load_wordpiece(t, err);
    } else {
        rc = tok_load_merges(t, file, err);
        rc = rc == CMIF_OK && t->model == TOK_BPE ? tok_classes_init(&t->classes, err) : rc;
    }
    if (rc == CMIF_OK) {
        *out = t;
        t    = NULL;
    }
done:
    cmif_tokenizer_free(t);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "tokenizer");
    }
    return rc;
}

/* ---- ids on their way out ---- */

cmif_code tok_out_flush(tok_out *out)
{
    size_t count = out->count;
    out->count   = 0;
    return count ? cmif_ids_append(out->ids, out->pending, count, out->err) : CMIF_OK;
}

cmif_code tok_out_put(tok_out *out, int32_t id)
{
    if (out->count == sizeof out->pending / sizeof out->pending[0]) {
        cmif_code rc = tok_out_flush(out);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    out->pending[out->count++] = id;
    return CMIF_OK;
}

/* ---- one word ---- */

/* The token that the whole word is, written as tokens are; -1. Uses w->rank as scratch. */
static int32_t whole_word(const cmif_tokenizer *t, const tok_word *w, const uint8_t *word, size_t size)
{
    if (t->escape) {
        return tok_text_token(t, word, size);
    }
    uint8_t *written = (uint8_t *) w->rank;
    size_t   put     = 0;
    for (size_t i = 0; i < size; i++) {
        put += tok_put_utf8(t->byte_chars[word[i]], written + put); /* at most 2 bytes */
    }
    return tok_text_token(t, written, put);
}

static bool is_newlines(const uint8_t *word, size_t size)
{
    size_t at = 0;
    while (at < size && word[at] == '\n') {
        at++;
    }
    return at == size;
}

static cmif_code put_fallback(const cmif_tokenizer *t, const uint8_t *bytes, size_t size, tok_out *out)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < 2 * size; i++) {
        int32_t id = t->fallback[bytes[i / 2]][i % 2];
        rc         = id >= 0 ? tok_out_put(out, id) : CMIF_OK;
    }
    return rc;
}

static cmif_code word_by_merges(cmif_tokenizer *t, const uint8_t *word, size_t size, tok_out *out)
{
    tok_word *w  = &t->word;
    cmif_code rc = tok_word_reserve(w, size < 256 ? 256 : size, out->err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (t->pre && (t->pre->ignore_merges || (t->pre->newlines && is_newlines(word, size)))) {
        int32_t id = whole_word(t, w, word, size);
        if (id >= 0) {
            return tok_out_put(out, id);
        }
    }
    w->count = 0;
    for (size_t at = 0; at < size; w->count++) {
        size_t used         = t->escape ? tok_symbol_size(word[at]) : 1;
        used                = used < size - at ? used : size - at;
        uint32_t symbol     = used == 1 ? t->ascii[word[at]] : tok_pieces_find(&t->pieces, word + at, used);
        bool     forbidden  = symbol < t->vocab && (t->attrs[symbol] & ATTR_NO_TEXT);
        w->from[w->count]   = (uint32_t) at;
        w->symbol[w->count] = forbidden ? TOK_NONE : symbol;
        at += used;
    }
    rc = tok_merge(&t->merges, w, out->err);
    for (size_t i = 0; rc == CMIF_OK && i < w->count; i++) {
        size_t end = i + 1 < w->count ? w->from[i + 1] : size;
        rc         = w->symbol[i] < t->vocab ? tok_out_put(out, (int32_t) w->symbol[i])
                                             : put_fallback(t, word + w->from[i], end - w->from[i], out);
    }
    return rc;
}

/* Where a short word is cached, if at all. The whole word is in the key: two words never share an entry. */
static tok_cached *cache_entry(const cmif_tokenizer *t, const uint8_t *word, size_t size, tok_cached *key)
{
    if (size > TOK_CACHE_WORD) {
        return NULL;
    }
    *key = (tok_cached){.size = (uint8_t) size};
    if (size >= 8) {
        memcpy(&key->low, word, 8);
        memcpy(&key->high, word + size - 8, 8);
    } else if (size >= 4) {
        memcpy(&key->low, word, 4);
        memcpy(&key->high, word + size - 4, 4);
    } else {
        key->low = (uint64_t) word[0] | (uint64_t) word[size / 2] << 8 | (uint64_t) word[size - 1] << 16;
    }
    uint64_t hash = (key->low ^ (key->high << 31 | key->high >> 33) ^ size) * 0x9e3779b97f4a7c15u;
    hash          = (hash ^ hash >> 32) * 0xff51afd7ed558ccdu;
    return &t->cache[hash >> (64 - TOK_CACHE_BITS)];
}

static cmif_code put_word(cmif_tokenizer *t, const uint8_t *word, size_t size, tok_out *out)
{
    enum { SHORT_WORD_IDS = 2 * TOK_CACHE_WORD }; /* a word that is cached gives at most two ids a byte */
    cmif_code   rc = CMIF_OK;
    tok_cached  key;
    tok_cached *entry = cache_entry(t, word, size, &key);
    if (entry && out->count > sizeof out->pending / sizeof out->pending[0] - SHORT_WORD_IDS) {
        rc = tok_out_flush(out);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    if (entry && entry->size == key.size && entry->low == key.low && entry->high == key.high) {
        memcpy(out->pending + out->count, entry->ids, sizeof entry->ids);
        out->count += entry->count;
        return CMIF_OK;
    }
    size_t before = out->count;
    rc = t->model == TOK_WORDPIECE ? tok_word_wordpiece(t, word, size, out) : word_by_merges(t, word, size, out);
    if (rc == CMIF_OK && entry && out->count - before <= TOK_CACHE_IDS) {
        key.count = (uint8_t) (out->count - before);
        memcpy(key.ids, out->pending + before, key.count * sizeof key.ids[0]);
        *entry = key;
    }
    return rc;
}

/* ---- ordinary text ---- */

static void wipe_free(uint8_t *text, size_t size)
{
    if (text) {
        cmif_wipe(text, size);
        free(text);
    }
}

/* A copy with U+2581 for each space, and one in front where wanted. */
static cmif_code escape_spaces(const uint8_t *text, size_t size, bool prefix, uint8_t **out, size_t *out_size,
                               cmif_err *err)
{
    size_t spaces = prefix;
    for (size_t i = 0; i < size; i++) {
        spaces += text[i] == ' ';
    }
    uint8_t *escaped = malloc(size + 2 * spaces + 1);
    if (!escaped) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of text", size + 2 * spaces);
    }
    uint8_t *put = escaped;
    for (size_t i = 0; i < size + prefix; i++) {
        uint8_t c = prefix && i == 0 ? ' ' : text[i - prefix];
        if (c == ' ') {
            memcpy(put, "\xe2\x96\x81", 3);
            put += 3;
        } else {
            *put++ = c;
        }
    }
    *out      = escaped;
    *out_size = (size_t) (put - escaped);
    return CMIF_OK;
}

static cmif_code put_text(cmif_tokenizer *t, const uint8_t *text, size_t size, bool prefix, tok_out *out)
{
    static const tok_split_step sentencepiece[TOK_SPLITS] = {tok_split_spaces};
    static const tok_split_step wordpiece[TOK_SPLITS]     = {tok_split_wordpiece};
    const tok_split_step       *steps = t->pre ? t->pre->steps : t->model == TOK_WORDPIECE ? wordpiece : sentencepiece;
    cmif_code                   rc    = CMIF_OK;
    uint8_t                    *escaped = NULL, *clean = NULL;
    size_t                      escaped_size = size, clean_size = size;
    tok_split                   split;
    if (t->escape) {
        rc = escape_spaces(text, size, prefix && t->add_space_prefix, &escaped, &escaped_size, out->err);
        if (rc != CMIF_OK) {
            goto done;
        }
        text       = escaped;
        clean_size = escaped_size;
    }
    if (t->model != TOK_SENTENCEPIECE) { /* that one takes bytes as they come */
        rc = tok_clean(text, clean_size, &clean, &clean_size, out->err);
        if (rc != CMIF_OK) {
            goto done;
        }
        text = clean ? clean : text;
    }
    size_t from, word_size;
    tok_split_start(&split, &t->classes, steps, t->cuts, text, clean_size);
    while (rc == CMIF_OK && tok_split_next(&split, &from, &word_size)) {
        rc = put_word(t, text + from, word_size, out);
    }
done:
    wipe_free(escaped, escaped_size);
    wipe_free(clean, clean_size);
    return rc;
}

/* ---- parts ---- */

static cmif_code part_bytes(const cmif_part *part, const uint8_t **bytes, size_t *size, cmif_err *err)
{
    if (!part->text) {
        *bytes = (const uint8_t *) part->literal.data;
        *size  = part->literal.size;
        return CMIF_OK;
    }
    size_t         text_size = 0;
    const uint8_t *text      = cmif_released_bytes(part->text, &text_size);
    if (part->from > text_size || part->size > text_size - part->from) {
        return cmif_fail(err, CMIF_E_RANGE, "a part of %zu bytes from %zu on is outside its text of %zu bytes",
                         part->size, part->from, text_size);
    }
    *bytes = text + part->from;
    *size  = part->size;
    return CMIF_OK;
}

/* Lay the parts out as one text. */
static cmif_code join(const cmif_part *parts, size_t count, tok_span *spans, uint8_t **out, size_t *out_size,
                      cmif_err *err)
{
    const uint8_t *bytes;
    size_t         size, total = 0;
    for (size_t i = 0; i < count; i++) {
        cmif_code rc = part_bytes(&parts[i], &bytes, &size, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (size > TEXT_MAX - total) {
            return cmif_fail(err, CMIF_E_RANGE, "a prompt of more than %d bytes; shorten it", TEXT_MAX);
        }
        spans[i] = (tok_span){total, total + size, parts[i].text == NULL};
        total += size;
    }
    uint8_t *joined = malloc(total + 1);
    if (!joined) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a prompt of %zu bytes", total);
    }
    for (size_t i = 0; i < count; i++) {
        cmif_code rc = part_bytes(&parts[i], &bytes, &size, err);
        if (rc != CMIF_OK) { /* was fine above */
            free(joined);
            return rc;
        }
        if (size > 0) {
            memcpy(joined + spans[i].from, bytes, size);
        }
    }
    *out      = joined;
    *out_size = total;
    return CMIF_OK;
}

cmif_code cmif_tokenizer_encode(cmif_tokenizer *t, const cmif_part *parts, size_t count, cmif_ids *ids, cmif_err *err)
{
    cmif_code  rc     = CMIF_OK;
    size_t     before = ids->count, size = 0, claim_count = 0;
    uint8_t   *text   = NULL;
    tok_claim *claims = NULL;
    tok_out    out;
    out.ids   = ids;
    out.err   = err;
    out.count = 0;

    tok_span *spans = calloc(count ? count : 1, sizeof *spans);
    if (!spans) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu parts of a prompt", count);
        goto done;
    }
    rc = join(parts, count, spans, &text, &size, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = tok_specials_find(&t->specials, text, spans, count, &claims, &claim_count, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    size_t at = 0;
    for (size_t i = 0; rc == CMIF_OK && i <= claim_count; i++) {
        size_t to = i < claim_count ? claims[i].from : size;
        if (to > at) {
            rc = put_text(t, text + at, to - at, /* prefix= */ at == 0 || i > 0, &out);
        }
        if (rc == CMIF_OK && i < claim_count) {
            rc = tok_out_put(&out, claims[i].id);
            at = claims[i].to;
        }
    }
    rc = rc == CMIF_OK ? tok_out_flush(&out) : rc;
done:
    if (rc != CMIF_OK) {
        cmif_ids_truncate(ids, before);
    }
    if (t->word.capacity > KEEP_WORD) {
        tok_word_wipe(&t->word);
    }
    free(claims);
    wipe_free(text, size);
    free(spans);
    cmif_wipe(out.pending, sizeof out.pending);
    return rc;
}

cmif_code cmif_tokenizer_put_start(const cmif_tokenizer *t, cmif_ids *ids, cmif_err *err)
{
    return t->add_bos ? cmif_ids_append(ids, &t->bos, 1, err) : CMIF_OK;
}

cmif_code cmif_tokenizer_put_end(const cmif_tokenizer *t, cmif_ids *ids, cmif_err *err)
{
    if (t->model == TOK_WORDPIECE) {
        return cmif_ids_append(ids, &t->sep, 1, err);
    }
    return t->add_eos ? cmif_ids_append(ids, &t->eos, 1, err) : CMIF_OK;
}

/* ---- ids -> text ---- */

typedef struct room {
    char  *out;
    size_t size, at;
} room;

static void put_bytes(room *r, const void *bytes, size_t size)
{
    size = size < r->size - r->at ? size : r->size - r->at;
    memcpy(r->out + r->at, bytes, size);
    r->at += size;
}

/* Byte-level BPE: each character stands for a byte. One that stands for none shows as the library shows it. */
static void put_byte_chars(const cmif_tokenizer *t, cmif_str text, room *r)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t    *at    = (const uint8_t *) text.data;
    for (size_t i = 0, used; i < text.size; i += used) {
        bool     clean;
        uint32_t c    = tok_read_any(at + i, text.size - i, &used, &clean);
        int      byte = c < sizeof t->char_bytes / sizeof t->char_bytes[0] ? t->char_bytes[c] : -1;
        if (byte >= 0) {
            uint8_t one = (uint8_t) byte;
            put_bytes(r, &one, 1);
            continue;
        }
        uint8_t utf8[4];
        size_t  size = tok_put_utf8(c, utf8);
        put_bytes(r, "[UNK_BYTE_0x", 12);
        for (size_t k = 0; k < size; k++) {
            put_bytes(r, (char[]){hex[utf8[k] >> 4], hex[utf8[k] & 15]}, 2);
        }
        put_bytes(r, text.data, text.size);
        put_bytes(r, "]", 1);
    }
}

static void put_unescaped(cmif_str text, room *r)
{
    for (size_t i = 0; i < text.size;) {
        bool mark = text.size - i >= 3 && memcmp(text.data + i, "\xe2\x96\x81", 3) == 0;
        put_bytes(r, mark ? " " : text.data + i, 1);
        i += mark ? 3 : 1;
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 0;
}

size_t cmif_tokenizer_decode(const cmif_tokenizer *t, int32_t id, bool show_special, char *out, size_t size)
{
    room r = {out, size, 0};
    if (id < 0 || (size_t) id >= t->vocab || (!show_special && cmif_tokenizer_is_special(t, id))) {
        return 0;
    }
    cmif_str text = t->pieces.texts[id];
    if (t->attrs[id] & (ATTR_CONTROL | ATTR_UNKNOWN | ATTR_USER)) {
        put_bytes(&r, text.data, text.size);
    } else if (t->attrs[id] & ATTR_NORMAL) {
        if (t->model == TOK_BPE && !t->escape) {
            put_byte_chars(t, text, &r);
        } else {
            put_unescaped(text, &r);
        }
    } else if ((t->attrs[id] & ATTR_BYTE) && text.size >= 5) {
        uint8_t byte = (uint8_t) (hex_digit(text.data[3]) << 4 | hex_digit(text.data[4])); /* <0xXX> */
        put_bytes(&r, &byte, 1);
    }
    return r.at;
}

size_t cmif_tokenizer_vocab(const cmif_tokenizer *t)
{
    return t->vocab;
}

size_t cmif_tokenizer_stops(const cmif_tokenizer *t, const int32_t **ids)
{
    *ids = t->stops;
    return t->stop_count;
}

bool cmif_tokenizer_is_special(const cmif_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t) id < t->vocab && (t->attrs[id] & (ATTR_CONTROL | ATTR_UNKNOWN));
}
