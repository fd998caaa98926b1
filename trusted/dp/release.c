#include "dp/released_ids.h"

#include "dp/draw.h"
#include "dp/released_make.h"
#include "secret/secret.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct cmif_released {
    cmif_secret         text; /* released, but there is no need to let it lie around */
    cmif_released_word *words;
    size_t              count, capacity;
};

cmif_code cmif_dp_release_identity(const void *text, size_t size, cmif_released **out, cmif_err *err)
{
    cmif_released *released = calloc(1, sizeof *released);
    if (!released) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for released text");
    }
    cmif_code rc = cmif_secret_append(&released->text, text, size, err);
    if (rc != CMIF_OK) {
        cmif_released_free(released);
        return rc;
    }
    *out = released;
    return CMIF_OK;
}

cmif_code cmif_released_make(const void *text, size_t size, const cmif_released_word *words, size_t count,
                             cmif_released **out, cmif_err *err)
{
    cmif_released *released = NULL;
    cmif_code      rc       = CMIF_OK;

    for (size_t i = 0, at = 0; i < count; at = (size_t) words[i].from + words[i].size, i++) {
        if (words[i].from < at || words[i].from > size || words[i].size > size - words[i].from) {
            return cmif_fail(err, CMIF_E_RANGE, "word %zu of a text to release is not where it should be", i);
        }
    }
    rc = cmif_dp_release_identity(text, size, &released, err);
    if (rc != CMIF_OK || count == 0) {
        goto done;
    }
    released->words = calloc(count, sizeof *words);
    if (!released->words) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu released words", count);
        goto done;
    }
    memcpy(released->words, words, count * sizeof *words);
    released->count = released->capacity = count;
done:
    if (rc == CMIF_OK) {
        *out     = released;
        released = NULL;
    }
    cmif_released_free(released);
    return rc;
}

void cmif_released_free(cmif_released *text)
{
    if (text) {
        cmif_secret_wipe(&text->text);
        free(text->words);
        free(text);
    }
}

const uint8_t *cmif_released_bytes(const cmif_released *text, size_t *size)
{
    *size = text->text.size;
    return text->text.data;
}

const cmif_released_word *cmif_released_words(const cmif_released *text, size_t *count)
{
    *count = text->count;
    return text->words;
}

/* ---- what a character is ---- */

typedef enum character_kind {
    KIND_BETWEEN,    /* leaves as it is */
    KIND_WORD,       /* never leaves: is drawn for */
    KIND_FORMAT,     /* nothing to see: inside a word it is dropped, elsewhere it leaves */
    KIND_APOSTROPHE, /* one of them between two characters of a word belongs to the word */
    KIND_LONG        /* of a byte: the start of more than one */
} character_kind;

typedef struct character {
    uint32_t       code;
    uint32_t       size; /* bytes; of an invalid one: 1 */
    character_kind kind;
    bool           valid, letter, upper;
} character;

/* Letters that Unicode calls symbols: circled, squared, regional indicators, Braille; trade marks and units. */
static bool is_letter_in_disguise(uint32_t code)
{
    utf8proc_int32_t parts[32];
    int              boundary = 0;

    if ((code >= 0x2800 && code <= 0x28ff) || (code >= 0x1f100 && code <= 0x1f1ff)) {
        return true;
    }
    utf8proc_ssize_t count =
        utf8proc_decompose_char((utf8proc_int32_t) code, parts, 32, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    for (utf8proc_ssize_t i = 0; i < count && i < 32; i++) {
        utf8proc_category_t category = utf8proc_category(parts[i]);
        if ((category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
            (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO)) {
            return true;
        }
    }
    return false;
}

static character_kind kind_of(uint32_t code, utf8proc_category_t category)
{
    if (code == '\'' || code == 0x2019) {
        return KIND_APOSTROPHE;
    }
    if ((code >= 0xfe00 && code <= 0xfe0f) || (code >= 0xe0000 && code <= 0xe0fff)) {
        return KIND_FORMAT; /* variation selectors, tags */
    }
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
    case UTF8PROC_CATEGORY_CN: /* a letter of a later Unicode, for all we know */
    case UTF8PROC_CATEGORY_CO: /* or of somebody's own */
    case UTF8PROC_CATEGORY_CS:
        return KIND_WORD;
    case UTF8PROC_CATEGORY_CF:
        return KIND_FORMAT;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return code >= 0x80 && is_letter_in_disguise(code) ? KIND_WORD : KIND_BETWEEN;
    default:
        return KIND_BETWEEN;
    }
}

/* The character at the start of text; size >= 1. */
static character character_at(const uint8_t *text, size_t size)
{
    utf8proc_int32_t code = -1;
    utf8proc_ssize_t used = utf8proc_iterate(text, (utf8proc_ssize_t) size, &code);
    if (used <= 0) {
        return (character){.code = 0xfffd, .size = 1, .kind = KIND_BETWEEN};
    }
    utf8proc_category_t category = utf8proc_category(code);
    return (character){.code   = (uint32_t) code,
                       .size   = (uint32_t) used,
                       .kind   = kind_of((uint32_t) code, category),
                       .valid  = true,
                       .letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO,
                       .upper  = category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT};
}

static inline bool is_ascii_upper(uint8_t byte)
{
    return (uint8_t) (byte - 'A') < 26;
}
static inline bool is_ascii_lower(uint8_t byte)
{
    return (uint8_t) (byte - 'a') < 26;
}

static inline character_kind kind_of_byte(uint8_t byte)
{
    if (is_ascii_lower(byte | 0x20) || (uint8_t) (byte - '0') < 10) {
        return KIND_WORD;
    }
    return byte >= 0x80 ? KIND_LONG : byte == '\'' ? KIND_APOSTROPHE : KIND_BETWEEN;
}

/* ---- the sanitizer ---- */

enum {
    KEY_SIZE      = CMIF_TABLE_WORD_SIZE_MAX,
    RAW_SIZE_MAX  = 512,              /* a longer word is in no table: lower case and NFC shrink it less than 8 times */
    CODES_MAX     = 4 * RAW_SIZE_MAX, /* decomposed */
    BATCH         = 1024,
    PARTS_MAX     = RAW_SIZE_MAX / 2, /* of a word that is looked up whole */
    UPPER_MAX     = 4 * KEY_SIZE,     /* bytes of a table's word in upper case */
    TEXT_SIZE_MAX = 1 << 30
};

typedef enum casing { CASING_LOWER, CASING_FIRST, CASING_ALL } casing;

typedef struct candidate { /* what may be looked up: a word, or a part of one */
    uint32_t from, to;     /* its bytes of the text */
    uint16_t parts;        /* so many candidates after it are its parts, and count if the whole is not in the table */
    uint8_t  key_size;     /* 0: in no table */
    uint8_t  casing;
} candidate;

typedef struct batch { /* in secret memory */
    size_t    count;
    candidate at[BATCH];
    uint8_t   keys[BATCH][KEY_SIZE]; /* lower case, NFC, then zeros */
    uint32_t  ids[BATCH];
    /* after look-up: what is drawn for */
    size_t   drawn;
    uint16_t which[BATCH];
    uint32_t words[BATCH];
    uint32_t outputs[BATCH];
    /* one word while it is normalised */
    utf8proc_int32_t codes[CODES_MAX];
} batch;

struct cmif_sanitizer {
    const cmif_table *table;
    cmif_noise       *noise;
    cmif_secret       memory; /* a batch */
    /* the table's words by hash; public but for its keys, which keep the maker of a table from slowing us down */
    uint32_t *slots; /* [slot_mask + 1] ids; CMIF_NO_WORD: empty */
    uint32_t  slot_mask;
    uint64_t  hash_keys[KEY_SIZE / 8 + 1];
};

/* NH (Black and others, 1999) of the key's words of 8 bytes, then multiply-shift. */
static inline uint32_t slot_of(const cmif_sanitizer *s, const uint8_t key[static KEY_SIZE], size_t size)
{
    uint64_t sum = size;
    for (size_t i = 0; i * 8 < size; i++) {
        uint64_t chunk;
        memcpy(&chunk, key + i * 8, sizeof chunk);
        uint32_t low  = (uint32_t) chunk + (uint32_t) s->hash_keys[i];
        uint32_t high = (uint32_t) (chunk >> 32) + (uint32_t) (s->hash_keys[i] >> 32);
        sum += (uint64_t) low * high;
    }
    return (uint32_t) ((sum * (s->hash_keys[KEY_SIZE / 8] | 1)) >> 32) & s->slot_mask;
}

static inline cmif_str word_of(const cmif_table *t, uint32_t word)
{
    return (cmif_str){t->text + t->word_at[word], t->word_at[word + 1] - t->word_at[word]};
}

static cmif_code index_words(cmif_sanitizer *s, cmif_err *err)
{
    size_t slots = 64;
    while (slots < 2 * (size_t) s->table->word_count) {
        slots *= 2;
    }
    s->slots     = malloc(slots * sizeof *s->slots);
    s->slot_mask = (uint32_t) (slots - 1);
    if (!s->slots) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for an index of %u words", s->table->word_count);
    }
    memset(s->slots, 0xff, slots * sizeof *s->slots);
    for (uint32_t word = 1; word < s->table->word_count; word++) {
        cmif_str text          = word_of(s->table, word);
        uint8_t  key[KEY_SIZE] = {0};
        if (text.size > KEY_SIZE) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u of the table has %zu bytes, at most %d can be", word,
                             text.size, KEY_SIZE);
        }
        memcpy(key, text.data, text.size);
        uint32_t slot = slot_of(s, key, text.size);
        while (s->slots[slot] != CMIF_NO_WORD) {
            slot = (slot + 1) & s->slot_mask;
        }
        s->slots[slot] = word;
    }
    return CMIF_OK;
}

cmif_code cmif_sanitizer_new(const cmif_table *table, bool no_guarantee, cmif_sanitizer **out, cmif_err *err)
{
    cmif_code       rc = CMIF_OK;
    cmif_sanitizer *s  = calloc(1, sizeof *s);
    if (!s) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a sanitizer");
        goto done;
    }
    s->table = table;
    if (table->claim.adjacency == CMIF_ADJACENT_NONE && !no_guarantee) {
        rc =
            cmif_fail(err, CMIF_E_TRUST,
                      "this channel guarantees nothing: it is a baseline for experiments; take another, or say that no "
                      "guarantee is wanted");
        goto done;
    }
    rc = cmif_noise_new(&s->noise, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = cmif_noise_take(s->noise, s->hash_keys, sizeof s->hash_keys, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = index_words(s, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = cmif_secret_reserve(&s->memory, sizeof(batch), err);
    if (rc != CMIF_OK) {
        goto done;
    }
    *out = s;
    s    = NULL;
done:
    cmif_sanitizer_free(s);
    return rc;
}

void cmif_sanitizer_free(cmif_sanitizer *s)
{
    if (s) {
        cmif_noise_free(s->noise);
        cmif_secret_wipe(&s->memory);
        free(s->slots);
        cmif_wipe(s, sizeof *s);
        free(s);
    }
}

/* ---- from text to candidates ---- */

/* Lower case, NFC, without format characters; both apostrophes are U+0027. 0: in no table. */
static size_t make_key(batch *b, const uint8_t *text, size_t size, uint8_t key[static KEY_SIZE])
{
    utf8proc_int32_t *codes = b->codes;
    utf8proc_ssize_t  count = 0;
    size_t            made  = 0;

    if (size > RAW_SIZE_MAX) {
        return 0;
    }
    for (size_t at = 0; at < size;) {
        character c = character_at(text + at, size - at);
        at += c.size;
        if (c.kind == KIND_FORMAT) {
            continue;
        }
        int              boundary = 0;
        utf8proc_int32_t lower    = c.kind == KIND_APOSTROPHE ? '\'' : utf8proc_tolower((utf8proc_int32_t) c.code);
        utf8proc_ssize_t more =
            utf8proc_decompose_char(lower, codes + count, CODES_MAX - count, UTF8PROC_DECOMPOSE, &boundary);
        if (more < 0 || more > CODES_MAX - count) {
            goto done;
        }
        count += more;
    }
    /* canonical order: marks by class, an insertion sort, stable */
    for (utf8proc_ssize_t i = 1; i < count; i++) {
        utf8proc_int32_t code    = codes[i];
        utf8proc_propval_t class = utf8proc_get_property(code)->combining_class;
        utf8proc_ssize_t to      = i;
        for (; class && to && utf8proc_get_property(codes[to - 1])->combining_class > class; to--) {
            codes[to] = codes[to - 1];
        }
        codes[to] = code;
    }
    count = utf8proc_normalize_utf32(codes, count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        uint8_t          bytes[4];
        utf8proc_ssize_t n = utf8proc_encode_char(codes[i], bytes);
        if (n <= 0 || made + (size_t) n > KEY_SIZE) {
            made = 0;
            goto done;
        }
        memcpy(key + made, bytes, (size_t) n);
        made += (size_t) n;
    }
done:
    memset(key + made, 0, KEY_SIZE - made);
    return made;
}

static casing casing_of(size_t letters, size_t uppers, bool first_is_upper)
{
    return letters >= 2 && uppers == letters ? CASING_ALL : first_is_upper ? CASING_FIRST : CASING_LOWER;
}

static void add_candidate(batch *b, const uint8_t *text, size_t from, size_t to, size_t parts)
{
    candidate *c       = &b->at[b->count];
    size_t     letters = 0, uppers = 0;
    bool       first = false;

    for (size_t at = from; at < to;) {
        character one = character_at(text + at, to - at);
        first |= !letters && one.upper;
        letters += one.letter;
        uppers += one.upper;
        at += one.size;
    }
    *c          = (candidate){.from   = (uint32_t) from,
                              .to     = (uint32_t) to,
                              .parts  = (uint16_t) parts,
                              .casing = (uint8_t) casing_of(letters, uppers, first)};
    c->key_size = (uint8_t) make_key(b, text + from, to - from, b->keys[b->count]);
    b->count++;
}

/* A word that is all ASCII letters and digits: returns its end, or `from` (and adds nothing) when it is not that
 * simple. */
static inline size_t add_simple_word(batch *b, const uint8_t *text, size_t size, size_t from)
{
    uint8_t *key = b->keys[b->count];
    size_t   at = from, letters = 0, uppers = 0;
    bool     first = false;

    memset(key, 0, KEY_SIZE);
    for (; at < size && at - from < KEY_SIZE && kind_of_byte(text[at]) == KIND_WORD; at++) {
        bool upper     = is_ascii_upper(text[at]);
        key[at - from] = (uint8_t) (text[at] | upper << 5);
        first |= !letters && upper;
        uppers += upper;
        letters += is_ascii_lower(text[at] | 0x20);
    }
    if (at < size && kind_of_byte(text[at]) != KIND_BETWEEN) {
        return from;
    }
    b->at[b->count++] = (candidate){.from     = (uint32_t) from,
                                    .to       = (uint32_t) at,
                                    .key_size = (uint8_t) (at - from),
                                    .casing   = (uint8_t) casing_of(letters, uppers, first)};
    return at;
}

/* Where the word that starts at `from` ends. */
static size_t end_of_word(const uint8_t *text, size_t size, size_t from)
{
    size_t end        = from;
    bool   apostrophe = false;
    for (size_t at = from; at < size;) {
        character c = character_at(text + at, size - at);
        if (c.kind == KIND_BETWEEN || (c.kind == KIND_APOSTROPHE && apostrophe)) {
            break;
        }
        at += c.size;
        apostrophe = c.kind == KIND_APOSTROPHE || (apostrophe && c.kind == KIND_FORMAT);
        end        = c.kind == KIND_WORD ? at : end;
    }
    return end;
}

/* Where the part of a word that starts at `from` ends: at an apostrophe, whose size is put, or at `end`. */
static size_t end_of_part(const uint8_t *text, size_t end, size_t from, size_t *apostrophe_size)
{
    size_t at = from;
    while (at < end) {
        character c = character_at(text + at, end - at);
        if (c.kind == KIND_APOSTROPHE) {
            *apostrophe_size = c.size;
            return at;
        }
        at += c.size;
    }
    *apostrophe_size = 0;
    return end;
}

/* Add the word from `from` to `end` and, if there are apostrophes in it, its parts. A word that is too long to be in a
 * table counts by its parts only, one for each call, so that a batch has room. Returns where to go on. */
static size_t add_word(batch *b, const uint8_t *text, size_t from, size_t end)
{
    const bool whole      = end - from <= RAW_SIZE_MAX;
    size_t     apostrophe = 0, parts = 1;

    for (size_t at = end_of_part(text, end, from, &apostrophe); whole && at < end; parts++) {
        at = end_of_part(text, end, at + apostrophe, &apostrophe);
    }
    if (whole && parts > 1) {
        add_candidate(b, text, from, end, parts);
    }
    for (size_t at = from;;) {
        size_t to = end_of_part(text, end, at, &apostrophe);
        add_candidate(b, text, at, to, 0);
        at = to + apostrophe;
        if (!whole || to == end) {
            return at;
        }
    }
}

/* ---- look-up, drawing, writing ---- */

/* ids[i] of each key, or CMIF_NO_WORD. The one place that a word is searched in. */
static void look_up(const cmif_sanitizer *s, const candidate *at, const uint8_t keys[][KEY_SIZE], size_t count,
                    uint32_t *ids)
{
    for (size_t i = 0; i < count; i++) {
        ids[i] = CMIF_NO_WORD;
        if (!at[i].key_size) {
            continue;
        }
        for (uint32_t slot = slot_of(s, keys[i], at[i].key_size);; slot = (slot + 1) & s->slot_mask) {
            uint32_t word = s->slots[slot];
            if (word == CMIF_NO_WORD) {
                break;
            }
            cmif_str text = word_of(s->table, word);
            if (text.size == at[i].key_size && memcmp(text.data, keys[i], text.size) == 0) {
                ids[i] = word;
                break;
            }
        }
    }
}

typedef struct job { /* one text on its way out */
    cmif_sanitizer     *s;
    batch              *batch;
    const uint8_t      *text;
    size_t              written; /* bytes of text that are in released, one way or another */
    cmif_released      *released;
    cmif_release_counts counts;
} job;

/* What is between words, up to byte `to`: as it is, but for what is no UTF-8 and for tags, which spell letters unseen.
 */
static cmif_code write_between(job *j, size_t to, cmif_err *err)
{
    size_t from = j->written, at = from;

    j->written = to;
    for (;;) {
        character c = {.valid = true};
        while (at < to && j->text[at] < 0x80) {
            at++;
        }
        if (at < to) {
            c = character_at(j->text + at, to - at);
            if (c.valid && (c.code < 0xe0000 || c.code > 0xe0fff)) {
                at += c.size;
                continue;
            }
        }
        cmif_code rc = from < at ? cmif_secret_append(&j->released->text, j->text + from, at - from, err) : CMIF_OK;
        if (rc == CMIF_OK && !c.valid) {
            rc = cmif_secret_append(&j->released->text, "\xef\xbf\xbd", 3, err);
        }
        if (rc != CMIF_OK || at == to) {
            return rc;
        }
        at += c.size;
        from = at;
    }
}

static size_t write_in_casing(cmif_str word, casing how, uint8_t to[static UPPER_MAX])
{
    const uint8_t *from    = (const uint8_t *) word.data;
    size_t         made    = 0;
    bool           raising = how != CASING_LOWER;

    for (size_t at = 0; at < word.size;) {
        if (!raising || from[at] < 0x80) {
            bool letter = is_ascii_lower(from[at]);
            to[made++]  = (uint8_t) (from[at++] - ((raising && letter) << 5));
            raising     = raising && (how == CASING_ALL || !letter);
            continue;
        }
        character        c = character_at(from + at, word.size - at);
        utf8proc_ssize_t n = utf8proc_encode_char(utf8proc_toupper((utf8proc_int32_t) c.code), to + made);
        made += n > 0 ? (size_t) n : 0;
        at += c.size;
        raising = how == CASING_ALL || !c.letter;
    }
    return made;
}

static cmif_code write_word(job *j, const candidate *c, uint32_t word, uint32_t output, cmif_err *err)
{
    static const char unknown[] = "something";

    cmif_released *r    = j->released;
    cmif_str       text = output ? word_of(j->s->table, output) : (cmif_str){unknown, sizeof unknown - 1};
    bool           pass = word && cmif_table_passes(j->s->table, word);
    cmif_code      rc   = write_between(j, c->from, err);
    if (rc == CMIF_OK) {
        rc = cmif_secret_reserve(&r->text, r->text.size + UPPER_MAX, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    if (r->text.size > UINT32_MAX - UPPER_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "the released text has more than 2^32 bytes; release it in pieces");
    }
    size_t size = write_in_casing(text, (casing) c->casing, r->text.data + r->text.size);
    /* drawn: whatever has company, the unknown word, too, where a table gives it some: of its block, or, where any two
     * words are adjacent, of words in other blocks, with which it shares its outputs */
    const cmif_table *t     = j->s->table;
    uint32_t          block = cmif_table_block(t, word);
    bool              alone = t->words_in[block] == 1 && t->block_at[block + 1] - t->block_at[block] == 1;
    j->counts.unknown += !word && alone;
    j->counts.passed += word && alone;
    j->counts.drawn += !alone;
    r->words[r->count++] = (cmif_released_word){
        .from = (uint32_t) r->text.size, .size = (uint32_t) size, .output = output, .passed = pass};
    r->text.size += size;
    j->written = c->to;
    return CMIF_OK;
}

/* Room for the batch's words in the list of released words. */
static cmif_code reserve_words(cmif_released *r, size_t more, cmif_err *err)
{
    if (more > r->capacity - r->count) {
        size_t              capacity = 2 * r->capacity + more;
        cmif_released_word *words    = realloc(r->words, capacity * sizeof *words);
        if (!words) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for a list of %zu released words", capacity);
        }
        r->words    = words;
        r->capacity = capacity;
    }
    return CMIF_OK;
}

static cmif_code release_batch(job *j, cmif_err *err)
{
    batch    *b  = j->batch;
    cmif_code rc = reserve_words(j->released, b->count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    look_up(j->s, b->at, (const uint8_t(*)[KEY_SIZE]) b->keys, b->count, b->ids);
    b->drawn = 0;
    for (size_t i = 0; i < b->count; i++) {
        bool known = b->ids[i] != CMIF_NO_WORD;
        if (b->at[i].parts && !known) {
            continue; /* its parts follow */
        }
        b->which[b->drawn]   = (uint16_t) i;
        b->words[b->drawn++] = known ? b->ids[i] : 0;
        i += b->at[i].parts;
    }
    rc = cmif_dp_draw(j->s->table, j->s->noise, b->words, b->drawn, b->outputs, err);
    for (size_t i = 0; i < b->drawn && rc == CMIF_OK; i++) {
        rc = write_word(j, &b->at[b->which[i]], b->words[i], b->outputs[i], err);
    }
    b->count = 0;
    return rc;
}

static cmif_code release_text(job *j, size_t size, cmif_err *err)
{
    const uint8_t *text     = j->text;
    batch         *b        = j->batch;
    cmif_code      rc       = CMIF_OK;
    size_t         long_end = 0; /* end of a word that is added part by part */

    for (size_t at = 0; at < size;) {
        character_kind kind = kind_of_byte(text[at]);
        if (kind == KIND_LONG) {
            character c = character_at(text + at, size - at);
            if (c.kind != KIND_WORD && at >= long_end) {
                at += c.size;
                continue;
            }
        } else if (kind != KIND_WORD && at >= long_end) {
            at++;
            continue;
        }
        if (b->count > BATCH - PARTS_MAX - 2) {
            rc = release_batch(j, err);
            if (rc != CMIF_OK) {
                return rc;
            }
        }
        size_t next = at;
        if (kind == KIND_WORD && at >= long_end) {
            next = add_simple_word(b, text, size, at);
        }
        if (next == at) {
            if (at >= long_end) {
                long_end = end_of_word(text, size, at);
            }
            next = add_word(b, text, at, long_end);
        }
        at = next;
    }
    rc = release_batch(j, err);
    return rc == CMIF_OK ? write_between(j, size, err) : rc;
}

cmif_code cmif_dp_release_channel(cmif_sanitizer *sanitizer, const void *text, size_t size, cmif_release_counts *counts,
                                  cmif_released **out, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    job       j  = {.s = sanitizer, .batch = (batch *) sanitizer->memory.data, .text = text};

    j.batch->count = 0; /* after a fork this memory is zeros, too */
    if (size > TEXT_SIZE_MAX) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a text of %zu bytes: at most 2^30 can be released at once", size);
        goto done;
    }
    j.released = calloc(1, sizeof *j.released);
    if (!j.released) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for released text");
        goto done;
    }
    rc = cmif_secret_reserve(&j.released->text, size + size / 4 + UPPER_MAX, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = release_text(&j, size, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    if (counts) {
        counts->drawn += j.counts.drawn;
        counts->passed += j.counts.passed;
        counts->unknown += j.counts.unknown;
    }
    *out       = j.released;
    j.released = NULL;
done:
    cmif_released_free(j.released);
    cmif_wipe(j.batch, sizeof *j.batch);
    cmif_wipe(&j, sizeof j);
    return rc;
}

cmif_code cmif_ids_append(cmif_ids *ids, const int32_t *more, size_t count, cmif_err *err)
{
    if (count > ids->capacity - ids->count) {
        size_t capacity = ids->count + count;
        if (capacity < ids->count || capacity > SIZE_MAX / 2 / sizeof *ids->at) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu more token ids", count);
        }
        capacity    = capacity > 2 * ids->capacity ? capacity : 2 * ids->capacity;
        int32_t *at = malloc(capacity * sizeof *at);
        if (!at) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu token ids", capacity);
        }
        if (ids->count) {
            memcpy(at, ids->at, ids->count * sizeof *at);
        }
        if (ids->at) {
            cmif_wipe(ids->at, ids->capacity * sizeof *ids->at);
        }
        free(ids->at);
        ids->at       = at;
        ids->capacity = capacity;
    }
    if (count) {
        memcpy(ids->at + ids->count, more, count * sizeof *more);
        ids->count += count;
    }
    return CMIF_OK;
}

void cmif_ids_truncate(cmif_ids *ids, size_t count)
{
    if (count < ids->count) {
        cmif_wipe(ids->at + count, (ids->count - count) * sizeof *ids->at);
        ids->count = count;
    }
}

void cmif_ids_free(cmif_ids *ids)
{
    cmif_ids_truncate(ids, 0);
    free(ids->at);
    *ids = (cmif_ids){0};
}
