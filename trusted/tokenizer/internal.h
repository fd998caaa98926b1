/* internal - what the files of the tokenizer share. Nobody outside this folder includes it. */
#ifndef CMIF_TOKENIZER_INTERNAL_H
#define CMIF_TOKENIZER_INTERNAL_H

#include "tokenizer.h"

#include <string.h>

#define TOK_NONE UINT32_MAX /* no symbol, no rank, no node */

/* ---- unicode.c: classes of code points ---- */

enum {
    CLASS_UNDEFINED = 0x01,
    CLASS_NUMBER    = 0x02,
    CLASS_LETTER    = 0x04,
    CLASS_SEPARATOR = 0x08,
    CLASS_MARK      = 0x10,
    CLASS_PUNCT     = 0x20,
    CLASS_SYMBOL    = 0x40,
    CLASS_CONTROL   = 0x80,
    CLASS_SPACE     = 0x100, /* Unicode White_Space, beside the category */
    /* what WordPiece makes of a code point, in a table of its own */
    CLASS_WORD  = 0x01,
    CLASS_DROP  = 0x02,
    CLASS_ALONE = 0x04 /* a word by itself: punctuation, CJK ideographs */
};

typedef uint16_t tok_page[256];

typedef struct tok_classes {
    uint8_t   index[0x1100]; /* page of each 256 code points */
    tok_page *pages;
    size_t    page_count;
} tok_classes;

/* Categories of Unicode 15.1, the version of the engine's tables. */
CMIF_MUST_USE cmif_code tok_classes_init(tok_classes *classes, cmif_err *err);
/* The same for WordPiece: CLASS_SPACE, _WORD, _DROP or _ALONE. */
CMIF_MUST_USE cmif_code tok_classes_init_wordpiece(tok_classes *classes, bool strip_accents, cmif_err *err);
void                    tok_classes_wipe(tok_classes *classes);
uint32_t                tok_without_accent(uint32_t c); /* first code point of its decomposition */
uint32_t                tok_lower(uint32_t c);

/* The code point at s[0..), which is clean text; *size is its bytes. */
static inline uint32_t tok_code_point(const uint8_t *s, size_t *size)
{
    if (s[0] < 0x80) {
        *size = 1;
        return s[0];
    }
    if (s[0] < 0xe0) {
        *size = 2;
        return (uint32_t) (s[0] & 0x1f) << 6 | (s[1] & 0x3fu);
    }
    if (s[0] < 0xf0) {
        *size = 3;
        return (uint32_t) (s[0] & 0x0f) << 12 | (uint32_t) (s[1] & 0x3f) << 6 | (s[2] & 0x3fu);
    }
    *size = 4;
    return (uint32_t) (s[0] & 0x07) << 18 | (uint32_t) (s[1] & 0x3f) << 12 | (uint32_t) (s[2] & 0x3f) << 6 |
           (s[3] & 0x3fu);
}

static inline unsigned tok_class(const tok_classes *classes, uint32_t c)
{
    return classes->pages[classes->index[c >> 8]][c & 0xff];
}

size_t tok_put_utf8(uint32_t c, uint8_t out[static 4]); /* returns its bytes */
/* Bytes of the symbol that lead starts, as SentencePiece steps through text; invalid leads count as one byte. */
static inline size_t tok_symbol_size(uint8_t lead)
{
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* One code point of any bytes (size > 0). *clean: the bytes are its shortest form. */
uint32_t tok_read_any(const uint8_t *s, size_t size, size_t *used, bool *clean);
/* Text as the engine's library reads it: a byte that starts nothing valid is U+FFFD, an overlong form is its code point.
 *   out  malloc'd; NULL when text is clean already */
CMIF_MUST_USE cmif_code tok_clean(const uint8_t *text, size_t size, uint8_t **out, size_t *out_size, cmif_err *err);

/* ---- split.c: pre-tokenizers ---- */

enum { TOK_SPLITS = 6 };

typedef struct tok_split tok_split;
/* The end of the first piece of text[from, end), from < end; memo is the level's own, zero at first. */
typedef size_t (*tok_split_step)(tok_split *s, size_t from, size_t end, size_t memo[static 2]);

typedef struct tok_pre {
    const char    *name;
    tok_split_step steps[TOK_SPLITS]; /* each cuts the pieces of the one before */
    bool           ignore_merges;     /* a word that is a token is that token */
    bool           add_bos;
    bool           no_bos;   /* has no default BOS */
    bool           add_sep;
    bool           escape;   /* spaces become U+2581; symbols are characters, not bytes */
    bool           newlines; /* words of newlines may be tokens whole */
} tok_pre;

struct tok_split {
    const tok_classes    *classes;
    const tok_split_step *steps;
    size_t                step_count;
    const uint8_t        *text; /* clean */
    const bool           *cuts; /* for tok_split_spaces */
    size_t                limit[TOK_SPLITS + 1];
    size_t                memo[TOK_SPLITS][2];
    size_t                at;
};

const tok_pre *tok_pre_find(cmif_str name); /* NULL: not one we have */
/* SentencePiece: between a character and a U+2581 that no token joins (s->cuts, by the last byte before). */
size_t tok_split_spaces(tok_split *s, size_t from, size_t end, size_t memo[static 2]);
void   tok_split_start(tok_split *s, const tok_classes *classes, const tok_split_step *steps, const bool *cuts,
                       const uint8_t *text, size_t size);
bool   tok_split_next(tok_split *s, size_t *from, size_t *size); /* false: no more words */

/* ---- table.c: pieces by their bytes, a trie ---- */

typedef struct tok_pieces { /* text -> symbol; symbols below the vocabulary's size are token ids */
    cmif_str *texts;
    size_t    count, capacity;
    uint32_t *slots; /* symbol, or TOK_NONE */
    size_t    slot_count;
} tok_pieces;

CMIF_MUST_USE cmif_code tok_pieces_init(tok_pieces *pieces, size_t expected, cmif_err *err);
void                    tok_pieces_wipe(tok_pieces *pieces);
uint32_t                tok_pieces_find(const tok_pieces *pieces, const void *text, size_t size);
/* text is borrowed. *symbol is the one that was there, or the new one. */
CMIF_MUST_USE cmif_code tok_pieces_add(tok_pieces *pieces, cmif_str text, uint32_t *symbol, bool *is_new, cmif_err *err);

typedef struct tok_trie {
    struct tok_edge *slots;
    size_t           slot_count;
    int32_t         *values; /* by node; -1: none */
    size_t           node_count, node_capacity;
    uint32_t         root[256];
} tok_trie;

CMIF_MUST_USE cmif_code tok_trie_init(tok_trie *trie, cmif_err *err);
void                    tok_trie_wipe(tok_trie *trie);
CMIF_MUST_USE cmif_code tok_trie_add(tok_trie *trie, const void *text, size_t size, int32_t value, cmif_err *err);
uint32_t                tok_trie_step(const tok_trie *trie, uint32_t node, uint8_t byte); /* TOK_NONE: no such child */

/* ---- merge.c: byte-pair merging, of BPE (by rank) and SentencePiece (by score) ---- */

typedef struct tok_pair {
    uint64_t key; /* left << 32 | right */
    uint32_t rank, result;
} tok_pair;

typedef struct tok_merges {
    tok_pair *slots;
    size_t    slot_count, count;
    unsigned  shift;
} tok_merges;

typedef struct tok_word { /* symbols of one word, room for capacity */
    uint32_t *symbol, *from, *rank;
    size_t    count, capacity;
    void     *memory;
} tok_word;

CMIF_MUST_USE cmif_code tok_merges_init(tok_merges *merges, size_t expected, cmif_err *err);
void                    tok_merges_wipe(tok_merges *merges);
/* The first rank given to a pair stays. */
CMIF_MUST_USE cmif_code tok_merges_add(tok_merges *merges, uint32_t left, uint32_t right, uint32_t rank, uint32_t result,
                                       cmif_err *err);
CMIF_MUST_USE cmif_code tok_word_reserve(tok_word *word, size_t capacity, cmif_err *err);
void                    tok_word_wipe(tok_word *word);
/* Merge until nothing merges: the lowest rank first, the leftmost of equals. */
CMIF_MUST_USE cmif_code tok_merge(const tok_merges *merges, tok_word *word, cmif_err *err);

/* A heap of numbers, the smallest on top. */
void     tok_heap_make(uint64_t *heap, size_t count);
void     tok_heap_push(uint64_t *heap, size_t *count, uint64_t key);
uint64_t tok_heap_pop(uint64_t *heap, size_t *count);

/* ---- special.c: where special tokens lie in a text ---- */

typedef struct tok_special {
    int32_t  id;
    uint32_t size;    /* bytes of its text */
    uint32_t shorter; /* the longest special that this one begins with; TOK_NONE */
    uint32_t priority;
    bool     in_text; /* user-defined: found in ordinary text too */
    bool     strip_left, strip_right;
} tok_special;

typedef struct tok_specials {
    tok_special *items;
    size_t       count;
    tok_trie     trie;            /* text -> index of items */
    uint8_t      starts[0x10000]; /* by first two bytes: 1 literals, 2 ordinary text; [b << 8] also for one-byte tokens */
    bool         any_in_text, any_strip;
} tok_specials;

typedef struct tok_span { /* a part, in the joined text */
    size_t from, to;
    bool   literal;
} tok_span;

typedef struct tok_claim { /* text[from, to) is token id */
    uint32_t from, to;
    int32_t  id;
} tok_claim;

CMIF_MUST_USE cmif_code tok_specials_finish(tok_specials *specials, const cmif_str *texts, cmif_err *err);
void                    tok_specials_wipe(tok_specials *specials);
/* *claims is malloc'd, in order of position. */
CMIF_MUST_USE cmif_code tok_specials_find(const tok_specials *specials, const uint8_t *text, const tok_span *spans,
                                          size_t span_count, tok_claim **claims, size_t *claim_count, cmif_err *err);

/* ---- the tokenizer ---- */

typedef enum tok_model { TOK_SENTENCEPIECE, TOK_BPE, TOK_WORDPIECE } tok_model;

enum { /* attributes of a token */
    ATTR_NORMAL  = 0x01,
    ATTR_UNKNOWN = 0x02,
    ATTR_CONTROL = 0x04,
    ATTR_USER    = 0x08,
    ATTR_UNUSED  = 0x10,
    ATTR_BYTE    = 0x20,
    ATTR_NO_TEXT = 0x40 /* never made of ordinary text */
};

typedef struct tok_cached { /* a short word and its tokens; 32 bytes */
    uint64_t low, high;
    uint8_t  size, count; /* size 0: free */
    int32_t  ids[3];
} tok_cached;

enum { TOK_CACHE_BITS = 16, TOK_CACHE_WORD = 16, TOK_CACHE_IDS = 3 };

typedef struct tok_out { /* ids on their way to the caller */
    cmif_ids *ids;
    cmif_err *err;
    size_t    count;
    int32_t   pending[512];
} tok_out;

CMIF_MUST_USE cmif_code tok_out_flush(tok_out *out);
CMIF_MUST_USE cmif_code tok_out_put(tok_out *out, int32_t id);

struct cmif_tokenizer {
    tok_model      model;
    const tok_pre *pre; /* NULL but for BPE */
    size_t         vocab;
    uint8_t       *attrs; /* by id */
    char          *empty_names;
    tok_pieces     pieces;
    tok_specials   specials;
    tok_classes    classes;
    int32_t        bos, eos, eot, eom, unk, sep;
    bool           add_bos, add_eos, add_space_prefix, escape;
    bool           lowercase, strip_accents;
    int32_t        stops[40];
    size_t         stop_count;

    tok_merges merges;
    char      *made_texts;      /* texts of merge results that are no tokens */
    uint32_t   ascii[256];      /* symbol of each byte (byte-level) or ASCII character */
    int32_t    fallback[256][2]; /* tokens of a byte that no token covers; -1: none */
    bool       cuts[256];
    uint16_t   byte_chars[256];  /* byte-level BPE writes byte b as code point byte_chars[b] */
    int16_t    char_bytes[512];  /* and back; -1 */
    tok_trie   trie;             /* WordPiece */

    tok_word    word;
    tok_cached *cache;
};

/* One word, size > 0, of clean text. */
CMIF_MUST_USE cmif_code tok_word_wordpiece(cmif_tokenizer *t, const uint8_t *word, size_t size, tok_out *out);
size_t tok_split_wordpiece(tok_split *s, size_t from, size_t end, size_t memo[static 2]);

/* load.c: read the keys, find out what each token is */
CMIF_MUST_USE cmif_code tok_load(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err);
CMIF_MUST_USE cmif_code tok_load_merges(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err);
/* The token of this text that ordinary text may make; -1. */
int32_t tok_text_token(const cmif_tokenizer *t, const void *text, size_t size);

#endif
