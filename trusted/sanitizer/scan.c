/* Words are split more simply than UAX 29 does: a word is letters, marks and digits with single apostrophes inside, so
 * "e-mail" and "3.14" are several tokens, and a run of Chinese is one. Nothing hides by that: what is not a known word
 * is protected. */
#include "sanitizer/scan.h"

#include <string.h>
#include <utf8proc.h>

enum {
    TEXT_SIZE_MAX = 1 << 30,
    MARKS_MAX     = 8,   /* of one letter; more are dropped, so that no letter takes long */
    CLUSTER_MAX   = 256, /* code points of a letter and its marks, decomposed: at most 18 + 8 * 4 */
    CODE_SIZE_MAX = 4
};

typedef enum char_kind {
    CHAR_LETTER,
    CHAR_DIGIT,
    CHAR_COMBINING,  /* goes on with a word, and with what is before it */
    CHAR_APOSTROPHE, /* one of them between two characters of a word belongs to it */
    CHAR_MARK,
    CHAR_SPACE,
    CHAR_LINE,
    CHAR_HIDDEN, /* nothing to see: belongs to what is before it */
    CHAR_BROKEN,
    CHAR_LONG /* of a byte: the start of more than one */
} char_kind;

typedef struct character {
    int32_t   code;
    uint32_t  size; /* bytes */
    char_kind kind;
} character;

/* ---- what a character is ---- */

static char_kind kind_of_byte(uint8_t byte)
{
    if ((uint8_t) ((byte | 0x20) - 'a') < 26) {
        return CHAR_LETTER;
    }
    if ((uint8_t) (byte - '0') < 10) {
        return CHAR_DIGIT;
    }
    if (byte >= 0x80) {
        return CHAR_LONG;
    }
    switch (byte) {
    case ' ':
    case '\t':
        return CHAR_SPACE;
    case '\n':
    case '\v':
    case '\f':
    case '\r':
        return CHAR_LINE;
    case '\'':
        return CHAR_APOSTROPHE;
    default:
        return byte < 0x20 || byte == 0x7f ? CHAR_BROKEN : CHAR_MARK;
    }
}

/* Invisible characters that Unicode does not call format characters. */
static bool is_hidden(int32_t code)
{
    return (code >= 0xfe00 && code <= 0xfe0f) || (code >= 0xe0000 && code <= 0xe0fff) || code == 0x34f ||
           code == 0x115f || code == 0x1160 || code == 0x3164 || code == 0xffa0 || code == 0x17b4 || code == 0x17b5 ||
           (code >= 0x180b && code <= 0x180f) || code == 0x2800;
}

/* Letters that stand in circles and squares, and flags; Unicode calls them symbols. 0: none of them. */
static int32_t letter_in_disguise(int32_t code)
{
    if (code >= 0x1f150 && code <= 0x1f169) {
        return 'A' + code - 0x1f150;
    }
    if (code >= 0x1f170 && code <= 0x1f189) {
        return 'A' + code - 0x1f170;
    }
    return code >= 0x1f1e6 && code <= 0x1f1ff ? 'A' + code - 0x1f1e6 : 0;
}

static bool is_letter_or_digit(int32_t code)
{
    utf8proc_category_t category = utf8proc_category(code);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

static bool symbol_is_letter(int32_t code)
{
    utf8proc_int32_t parts[CLUSTER_MAX];
    int              boundary = 0;
    if (code == 0x2122 || code == 0x2120) { /* trade mark, service mark */
        return false;
    }
    if (letter_in_disguise(code)) {
        return true;
    }
    utf8proc_ssize_t count =
        utf8proc_decompose_char(code, parts, CLUSTER_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    for (utf8proc_ssize_t i = 0; i < count && i < CLUSTER_MAX; i++) {
        if (is_letter_or_digit(parts[i])) {
            return true;
        }
    }
    return false;
}

static char_kind kind_of_code(int32_t code)
{
    if (is_hidden(code)) {
        return CHAR_HIDDEN;
    }
    if (code == 0x2019) {
        return CHAR_APOSTROPHE;
    }
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CHAR_LETTER;
    case UTF8PROC_CATEGORY_ND:
        return CHAR_DIGIT;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CHAR_COMBINING;
    case UTF8PROC_CATEGORY_ZS:
        return CHAR_SPACE;
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CHAR_LINE;
    case UTF8PROC_CATEGORY_CF:
        return CHAR_HIDDEN;
    case UTF8PROC_CATEGORY_CC:
        return code == 0x85 ? CHAR_LINE : CHAR_BROKEN;
    case UTF8PROC_CATEGORY_CN: /* a letter of a later Unicode, for all we know */
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
        return CHAR_BROKEN;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return symbol_is_letter(code) ? CHAR_LETTER : CHAR_MARK;
    default:
        return CHAR_MARK;
    }
}

/* The character at the start of text; size >= 1. */
static character character_at(const uint8_t *text, size_t size)
{
    char_kind kind = kind_of_byte(text[0]);
    if (kind != CHAR_LONG) {
        return (character){.code = text[0], .size = 1, .kind = kind};
    }
    utf8proc_int32_t code = -1;
    utf8proc_ssize_t used = utf8proc_iterate(text, size < 4 ? (utf8proc_ssize_t) size : 4, &code);
    if (used <= 0) {
        return (character){.code = 0xfffd, .size = 1, .kind = CHAR_BROKEN};
    }
    return (character){.code = code, .size = (uint32_t) used, .kind = kind_of_code(code)};
}

/* ---- look-alikes ---- letters of other scripts, and the Latin letter that each looks like; upper and lower case
 * apart, because a capital eta looks like an H and a small one like an n. In ascending order. */

static const struct {
    uint16_t code;
    char     latin;
} look_alikes[] = {
    {0x0391, 'A'}, {0x0392, 'B'}, {0x0395, 'E'}, {0x0396, 'Z'}, {0x0397, 'H'}, {0x0399, 'I'}, {0x039a, 'K'},
    {0x039c, 'M'}, {0x039d, 'N'}, {0x039f, 'O'}, {0x03a1, 'P'}, {0x03a4, 'T'}, {0x03a5, 'Y'}, {0x03a7, 'X'},
    {0x03b1, 'a'}, {0x03b2, 'b'}, {0x03b3, 'y'}, {0x03b5, 'e'}, {0x03b7, 'n'}, {0x03b9, 'i'}, {0x03ba, 'k'},
    {0x03bd, 'v'}, {0x03bf, 'o'}, {0x03c1, 'p'}, {0x03c3, 'o'}, {0x03c4, 't'}, {0x03c5, 'u'}, {0x03c7, 'x'},
    {0x03c9, 'w'}, {0x03f2, 'c'}, {0x03f3, 'j'}, {0x03f9, 'C'}, {0x0405, 'S'}, {0x0406, 'I'}, {0x0408, 'J'},
    {0x0410, 'A'}, {0x0412, 'B'}, {0x0413, 'r'}, {0x0415, 'E'}, {0x041a, 'K'}, {0x041c, 'M'}, {0x041d, 'H'},
    {0x041e, 'O'}, {0x0420, 'P'}, {0x0421, 'C'}, {0x0422, 'T'}, {0x0423, 'Y'}, {0x0425, 'X'}, {0x0430, 'a'},
    {0x0432, 'b'}, {0x0433, 'r'}, {0x0435, 'e'}, {0x043a, 'k'}, {0x043c, 'm'}, {0x043d, 'h'}, {0x043e, 'o'},
    {0x043f, 'n'}, {0x0440, 'p'}, {0x0441, 'c'}, {0x0442, 't'}, {0x0443, 'y'}, {0x0445, 'x'}, {0x0455, 's'},
    {0x0456, 'i'}, {0x0458, 'j'}, {0x0475, 'v'}, {0x04ae, 'Y'}, {0x04af, 'y'}, {0x04ba, 'h'}, {0x04bb, 'h'},
    {0x04c0, 'I'}, {0x04cf, 'l'}, {0x04d5, 'a'}, {0x0501, 'd'}, {0x050c, 'G'}, {0x051a, 'Q'}, {0x051b, 'q'},
    {0x051c, 'W'}, {0x051d, 'w'}, {0x0555, 'O'}, {0x0561, 'w'}, {0x0563, 'q'}, {0x0566, 'q'}, {0x0570, 'h'},
    {0x0578, 'n'}, {0x057d, 'u'}, {0x0585, 'o'}, {0x13a0, 'D'}, {0x13a1, 'R'}, {0x13a2, 'T'}, {0x13aa, 'A'},
    {0x13ab, 'J'}, {0x13ac, 'E'}, {0x13b3, 'W'}, {0x13b7, 'M'}, {0x13bb, 'H'}, {0x13bd, 'Y'}, {0x13be, 'O'},
    {0x13c0, 'G'}, {0x13c2, 'h'}, {0x13c3, 'Z'}, {0x13cf, 'b'}, {0x13d2, 'R'}, {0x13d9, 'V'}, {0x13da, 'S'},
    {0x13de, 'L'}, {0x13df, 'C'}, {0x13e2, 'P'}, {0x13e6, 'K'}, {0x13e7, 'd'}, {0x13f4, 'B'}, {0x2c9f, 'o'},
    {0xa4d0, 'B'}, {0xa4d1, 'P'}, {0xa4d2, 'd'}, {0xa4d3, 'D'}, {0xa4d4, 'T'}, {0xa4d6, 'G'}, {0xa4d7, 'K'},
    {0xa4d9, 'J'}, {0xa4da, 'C'}, {0xa4dc, 'Z'}, {0xa4dd, 'F'}, {0xa4df, 'M'}, {0xa4e0, 'N'}, {0xa4e1, 'L'},
    {0xa4e2, 'S'}, {0xa4e3, 'R'}, {0xa4e6, 'V'}, {0xa4e7, 'H'}, {0xa4ea, 'W'}, {0xa4eb, 'X'}, {0xa4ec, 'Y'},
    {0xa4ee, 'A'}, {0xa4f0, 'E'}, {0xa4f2, 'I'}, {0xa4f3, 'O'}, {0xa4f4, 'U'}};

static char look_alike(int32_t code)
{
    size_t low = 0, high = sizeof look_alikes / sizeof *look_alikes;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (look_alikes[middle].code < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sizeof look_alikes / sizeof *look_alikes && look_alikes[low].code == code ? look_alikes[low].latin : 0;
}

/* Latin letters that are none of a to z with an accent, and stand for some. */
static const struct {
    uint16_t code;
    char     latin[3];
} bare_letters[] = {{0x00df, "ss"}, {0x00e6, "ae"}, {0x00f0, "d"}, {0x00f8, "o"},  {0x00fe, "th"}, {0x0111, "d"},
                    {0x0127, "h"},  {0x0131, "i"},  {0x0142, "l"}, {0x0153, "oe"}, {0x0180, "b"},  {0x0199, "k"},
                    {0x0253, "b"},  {0x0257, "d"},  {0x0251, "a"}, {0x0261, "g"},  {0x0262, "g"},  {0x026a, "i"},
                    {0x0274, "n"},  {0x0280, "r"},  {0x028f, "y"}, {0x0299, "b"},  {0x029c, "h"},  {0x029f, "l"},
                    {0x0433, "r"},  {0x1d00, "a"},  {0x1d04, "c"}, {0x1d05, "d"},  {0x1d07, "e"},  {0x1d0a, "j"},
                    {0x1d0b, "k"},  {0x1d0d, "m"},  {0x1d0f, "o"}, {0x1d18, "p"},  {0x1d1b, "t"},  {0x1d1c, "u"},
                    {0x1d20, "v"},  {0x1d21, "w"},  {0x1d22, "z"}, {0xa730, "f"},  {0xa731, "s"}};

static bool is_latin(int32_t code)
{
    return (code < 0x250 || (code >= 0x1e00 && code <= 0x1eff)) && code != 0xaa && code != 0xba;
}

/* The value of a decimal digit of any script: they stand in tens, in order. */
static int32_t digit_value(int32_t code)
{
    int32_t value = 0;
    while (value < 9 && utf8proc_category(code - value - 1) == UTF8PROC_CATEGORY_ND) {
        value++;
    }
    return value;
}

/* Marks that sit on letters and can be left out. Those of other scripts are part of the word. */
static bool is_accent(int32_t code)
{
    return (code >= 0x300 && code <= 0x36f) || (code >= 0x483 && code <= 0x489) || (code >= 0x1ab0 && code <= 0x1aff) ||
           (code >= 0x1dc0 && code <= 0x1dff) || (code >= 0x20d0 && code <= 0x20ff) ||
           (code >= 0xfe20 && code <= 0xfe2f);
}

/* ---- the scan ---- */

typedef struct cluster { /* a letter and its marks */
    int32_t raw[MARKS_MAX + 1], codes[CLUSTER_MAX];
    size_t  raw_count, count;
} cluster;

typedef struct job { /* in secret memory, but for the pointers */
    cmif_scan   out;
    size_t      at;
    cluster    *c;
    cmif_secret memory; /* holds the cluster */
} job;

static inline cmif_code put_token(job *j, const cmif_token *token, cmif_err *err)
{
    cmif_scan *s  = &j->out;
    cmif_code  rc = CMIF_OK;
    if (s->room.capacity - s->room.size <= sizeof *token) {
        rc = cmif_secret_reserve(&s->room, s->room.size + sizeof *token, err);
    }
    if (rc == CMIF_OK) {
        memcpy(s->room.data + s->room.size, token, sizeof *token);
        s->room.size += sizeof *token;
        s->count++;
    }
    return rc;
}

static cmif_code put_fold(job *j, cmif_token *token, int32_t code, cmif_err *err)
{
    uint8_t          bytes[CODE_SIZE_MAX];
    utf8proc_ssize_t size = utf8proc_encode_char(code, bytes);
    cmif_code        rc   = cmif_secret_append(&j->out.fold, bytes, (size_t) size, err);
    token->fold_size += (uint32_t) size;
    cmif_wipe(bytes, sizeof bytes);
    return rc;
}

static bool goes_on(const job *j, size_t at, character *c)
{
    if (at >= j->out.size) {
        return false;
    }
    *c = character_at(j->out.text + at, j->out.size - at);
    return true;
}

/* Whether an apostrophe at `at` begins the 's of a possessive: it is a word of its own, so that the name before it is
 * one, too. */
static bool is_possessive(const job *j, size_t at, uint32_t apostrophe)
{
    character c;
    at += apostrophe;
    return at < j->out.size && (j->out.text[at] | 0x20) == 's' &&
           !(goes_on(j, at + 1, &c) && (c.kind == CHAR_LETTER || c.kind == CHAR_DIGIT || c.kind == CHAR_COMBINING));
}

/* Whether the character at `at` belongs to the word before it. */
static bool in_word(const job *j, size_t at, character *c)
{
    character next;
    if (!goes_on(j, at, c)) {
        return false;
    }
    if (c->kind == CHAR_APOSTROPHE) {
        return goes_on(j, at + c->size, &next) && (next.kind == CHAR_LETTER || next.kind == CHAR_DIGIT) &&
               !is_possessive(j, at, c->size);
    }
    return c->kind == CHAR_LETTER || c->kind == CHAR_DIGIT || c->kind == CHAR_COMBINING || c->kind == CHAR_HIDDEN;
}

typedef struct word_facts {
    uint32_t latin, other, alike; /* letters: of the Latin script, of others, and of these how many look Latin */
    uint32_t upper, lower, letters;
    bool     digits_only, first_upper;
} word_facts;

/* A code point as part of a word: NFKC's parts, or what it stands for. Accents go behind their letter. */
static void add_code(cluster *c, int32_t code)
{
    int     boundary = 0;
    int32_t letter   = letter_in_disguise(code);
    if (c->raw_count < MARKS_MAX + 1) {
        c->raw[c->raw_count++] = code;
    }
    if (letter) {
        c->codes[c->count++] = letter;
        return;
    }
    if (utf8proc_category(code) == UTF8PROC_CATEGORY_ND && code >= 0x80) {
        utf8proc_int32_t parts[CLUSTER_MAX];
        utf8proc_ssize_t n =
            utf8proc_decompose_char(code, parts, CLUSTER_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
        c->codes[c->count++] = n == 1 && parts[0] < 0x80 ? parts[0] : '0' + digit_value(code);
        return;
    }
    utf8proc_ssize_t n = utf8proc_decompose_char(code, c->codes + c->count, (utf8proc_ssize_t) (CLUSTER_MAX - c->count),
                                                 UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    if (n > 0 && (size_t) n <= CLUSTER_MAX - c->count) {
        c->count += (size_t) n;
    }
}

static cmif_code end_cluster(job *j, cmif_token *token, word_facts *facts, bool map, bool dry, cmif_err *err)
{
    cluster  *c     = j->c;
    cmif_code rc    = CMIF_OK;
    size_t    count = 0;

    for (size_t i = 1; i < c->count; i++) { /* canonical order of marks */
        int32_t code = c->codes[i];
        int class    = utf8proc_get_property(code)->combining_class;
        size_t k     = i;
        for (; class && k > 0 && utf8proc_get_property(c->codes[k - 1])->combining_class > class; k--) {
            c->codes[k] = c->codes[k - 1];
        }
        c->codes[k] = code;
    }
    utf8proc_ssize_t made =
        utf8proc_normalize_utf32(c->codes, (utf8proc_ssize_t) c->count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    count     = made > 0 ? (size_t) made : 0;
    bool same = count == c->raw_count && memcmp(c->codes, c->raw, count * sizeof *c->raw) == 0;
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        int32_t             code     = c->codes[i];
        utf8proc_category_t category = utf8proc_category(code);
        bool                letter   = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
        char                latin    = letter ? look_alike(code) : 0;
        if (is_accent(code) || code == ' ') {
            same = false;
            continue;
        }
        if (dry) {
            facts->latin += letter && is_latin(code);
            facts->other += letter && !is_latin(code);
            facts->alike += latin != 0;
            continue;
        }
        if (map && latin) {
            code = latin;
            same = false;
        }
        category      = utf8proc_category(code);
        bool is_upper = category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT;
        facts->first_upper |= letter && !facts->letters && is_upper;
        facts->letters += letter && (is_upper || category == UTF8PROC_CATEGORY_LL);
        facts->upper += is_upper;
        facts->lower += category == UTF8PROC_CATEGORY_LL;
        facts->digits_only &= code >= '0' && code <= '9';
        token->digit |= code >= '0' && code <= '9';
        rc = put_fold(j, token, utf8proc_tolower(code), err);
    }
    token->odd |= !same;
    c->count = c->raw_count = 0;
    return rc;
}

/* One walk over a word; a dry one only counts scripts. */
static cmif_code walk_word(job *j, size_t end, cmif_token *token, word_facts *facts, bool map, bool dry, cmif_err *err)
{
    cmif_code rc    = CMIF_OK;
    size_t    marks = 0;

    for (size_t at = token->from; at < end && rc == CMIF_OK;) {
        character c = character_at(j->out.text + at, j->out.size - at);
        at += c.size;
        if (c.kind == CHAR_HIDDEN) {
            token->odd = true;
            continue;
        }
        if (c.kind == CHAR_COMBINING && ++marks > MARKS_MAX) {
            token->odd = true;
            continue;
        }
        if (c.kind != CHAR_COMBINING) {
            rc    = end_cluster(j, token, facts, map, dry, err);
            marks = 0;
        }
        if (c.kind == CHAR_APOSTROPHE) { /* however it is written: nobody hides a word behind it */
            if (!dry && rc == CMIF_OK) {
                facts->digits_only = false;
                rc                 = put_fold(j, token, '\'', err);
            }
            continue;
        }
        if (rc == CMIF_OK) {
            add_code(j->c, c.code);
        }
    }
    return rc == CMIF_OK ? end_cluster(j, token, facts, map, dry, err) : rc;
}

static uint8_t casing_of(const word_facts *f)
{
    return f->letters == 0                   ? CMIF_CASE_NONE
           : f->upper == 0                   ? CMIF_CASE_LOWER
           : f->first_upper && f->upper == 1 ? CMIF_CASE_FIRST
           : f->upper == f->letters          ? CMIF_CASE_UPPER
                                             : CMIF_CASE_MIXED;
}

/* Any word. */
static cmif_code scan_word(job *j, cmif_err *err)
{
    character  c;
    size_t     end   = j->at;
    cmif_token token = {.from = (uint32_t) j->at, .fold_from = (uint32_t) j->out.fold.size};
    word_facts facts = {.digits_only = true};

    while (in_word(j, end, &c)) {
        end += c.size;
    }
    cmif_code rc  = walk_word(j, end, &token, &facts, /* map= */ false, /* dry= */ true, err);
    bool      map = facts.alike && (facts.latin || facts.alike == facts.other);
    token.odd     = false;
    if (rc == CMIF_OK) {
        rc = walk_word(j, end, &token, &facts, map, /* dry= */ false, err);
    }
    token.size   = (uint32_t) (end - j->at);
    token.kind   = token.fold_size == 0 ? CMIF_TOKEN_BROKEN : facts.digits_only ? CMIF_TOKEN_NUMBER : CMIF_TOKEN_WORD;
    token.casing = casing_of(&facts);
    j->at        = end;
    cmif_wipe(j->c, sizeof *j->c);
    return rc == CMIF_OK ? put_token(j, &token, err) : rc;
}

/* A word of ASCII; false: it is not, and nothing was done. There is room for it in fold. */
static bool scan_simple_word(job *j, cmif_token *token)
{
    const uint8_t *text = j->out.text;
    size_t         size = j->out.size, at = j->at;
    uint8_t       *fold  = j->out.fold.data + j->out.fold.size;
    uint32_t       upper = 0, letters = 0;
    bool           first_upper = false, plain = true, digit = false;

    for (; at < size; at++) {
        uint8_t byte = text[at], low = byte | 0x20;
        if ((uint8_t) (low - 'a') < 26) {
            bool is_upper = byte != low;
            first_upper |= is_upper && letters == 0;
            upper += is_upper;
            letters++;
            *fold++ = low;
        } else if ((uint8_t) (byte - '0') < 10) {
            *fold++ = byte;
            digit   = true;
        } else if (byte == '\'' && at + 1 < size && kind_of_byte(text[at + 1]) <= CHAR_DIGIT &&
                   !is_possessive(j, at, 1)) {
            *fold++ = byte;
            plain   = false;
        } else if (byte >= 0x80 || (byte == '\'' && at + 1 < size && text[at + 1] >= 0x80)) {
            return false;
        } else {
            break;
        }
    }
    *token        = (cmif_token){.from      = (uint32_t) j->at,
                                 .size      = (uint32_t) (at - j->at),
                                 .fold_from = (uint32_t) j->out.fold.size,
                                 .fold_size = (uint32_t) (at - j->at),
                                 .kind      = letters || !plain ? CMIF_TOKEN_WORD : CMIF_TOKEN_NUMBER,
                                 .digit     = digit};
    word_facts f  = {.upper = upper, .letters = letters, .first_upper = first_upper};
    token->casing = casing_of(&f);
    j->out.fold.size += at - j->at;
    j->at = at;
    return true;
}

/* What most tokens are: a word of ASCII, a space, a mark, with neither white space nor anything but ASCII behind the
 * two latter. False: it is none of them, and nothing was done. */
static bool scan_simple(job *j, cmif_token *token)
{
    const uint8_t *text = j->out.text + j->at;
    char_kind      kind = kind_of_byte(*text), next = j->at + 1 < j->out.size ? kind_of_byte(text[1]) : CHAR_BROKEN;
    if (kind == CHAR_LETTER || kind == CHAR_DIGIT) {
        return scan_simple_word(j, token);
    }
    if ((*text != ' ' && kind != CHAR_MARK) || next == CHAR_LONG ||
        (kind == CHAR_SPACE && (next == CHAR_SPACE || next == CHAR_LINE))) {
        return false;
    }
    *token                               = (cmif_token){.from      = (uint32_t) j->at,
                                                        .size      = 1,
                                                        .fold_from = (uint32_t) j->out.fold.size,
                                                        .fold_size = 1,
                                                        .kind      = kind == CHAR_SPACE ? CMIF_TOKEN_SPACE : CMIF_TOKEN_MARK};
    j->out.fold.data[j->out.fold.size++] = *text;
    j->at++;
    return true;
}

static cmif_code scan_space(job *j, cmif_err *err)
{
    cmif_token token = {.from = (uint32_t) j->at, .fold_from = (uint32_t) j->out.fold.size, .kind = CMIF_TOKEN_SPACE};
    character  c;
    while (goes_on(j, j->at, &c) && (c.kind == CHAR_SPACE || c.kind == CHAR_LINE || c.kind == CHAR_HIDDEN)) {
        if (c.kind == CHAR_LINE) {
            token.kind = CMIF_TOKEN_LINE;
        }
        token.odd |= c.kind == CHAR_HIDDEN;
        j->at += c.size;
    }
    token.size   = (uint32_t) (j->at - token.from);
    cmif_code rc = put_fold(j, &token, token.kind == CMIF_TOKEN_LINE ? '\n' : ' ', err);
    return rc == CMIF_OK ? put_token(j, &token, err) : rc;
}

static bool follows_word(const job *j)
{
    const cmif_token *t = (const cmif_token *) (const void *) j->out.room.data;
    return j->out.count > 0 &&
           (t[j->out.count - 1].kind == CMIF_TOKEN_WORD || t[j->out.count - 1].kind == CMIF_TOKEN_NUMBER);
}

static cmif_code scan_possessive(job *j, uint32_t apostrophe, cmif_err *err)
{
    cmif_token token = {.from      = (uint32_t) j->at,
                        .size      = apostrophe + 1,
                        .fold_from = (uint32_t) j->out.fold.size,
                        .fold_size = 2,
                        .kind      = CMIF_TOKEN_WORD,
                        .casing    = CMIF_CASE_LOWER};
    j->at += token.size;
    cmif_code rc = cmif_secret_append(&j->out.fold, "'s", 2, err);
    return rc == CMIF_OK ? put_token(j, &token, err) : rc;
}

/* One character of punctuation, with what is hidden or set on top of it; or a broken one. */
static cmif_code scan_mark(job *j, character c, cmif_err *err)
{
    cmif_token token  = {.from = (uint32_t) j->at, .fold_from = (uint32_t) j->out.fold.size, .kind = CMIF_TOKEN_MARK};
    cmif_code  rc     = CMIF_OK;
    bool       broken = c.kind != CHAR_MARK && c.kind != CHAR_APOSTROPHE;

    j->at += c.size;
    if (broken) {
        token.kind = CMIF_TOKEN_BROKEN;
        token.odd  = true;
        rc         = put_fold(j, &token, 0xfffd, err);
    } else if (c.code < 0x80) {
        rc = put_fold(j, &token, c.code, err);
    } else {
        int              boundary = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char(c.code, j->c->codes, CLUSTER_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
        for (utf8proc_ssize_t i = 0; i < n && i < CLUSTER_MAX && rc == CMIF_OK; i++) {
            int32_t code = j->c->codes[i];
            bool    dash = (code >= 0x2010 && code <= 0x2015) || code == 0x2212;
            rc           = put_fold(j, &token, dash ? '-' : code == 0x2019 || code == 0x2018 ? '\'' : code, err);
        }
    }
    while (goes_on(j, j->at, &c) && (c.kind == CHAR_HIDDEN || c.kind == CHAR_COMBINING)) {
        token.odd = true;
        j->at += c.size;
    }
    token.size = (uint32_t) (j->at - token.from);
    return rc == CMIF_OK ? put_token(j, &token, err) : rc;
}

/* ---- where sentences and code begin ---- */

/* Words before a full stop that ends no sentence. */
static bool is_abbreviation(cmif_str w)
{
    static const char list[] =
        " mr mrs ms mx dr prof st mt ft sr jr rev hon capt lt col gen sgt vs etc no nr inc ltd corp co "
        "dept univ approx tel ext fig vol hr fr herr frau sra dra mme mlle ing dipl bzw ca eg ie ";
    for (const char *at = list; w.size <= 6 && *at; at++) {
        if (*at == ' ' && at[1] == w.data[0] && strncmp(at + 1, w.data, w.size) == 0 && at[w.size + 1] == ' ') {
            return true;
        }
    }
    return w.size == 1;
}

/* Whether the line of tokens [from, to) is one of a program: indented, and with what programs end lines with or call
 * things by. */
static bool line_is_code(const cmif_scan *s, size_t from, size_t to)
{
    uint8_t last = 0;
    bool    call = false;
    for (size_t i = from; i < to; i++) {
        const cmif_token *t = &s->tokens[i];
        if (t->kind != CMIF_TOKEN_SPACE && t->kind != CMIF_TOKEN_LINE) {
            uint8_t byte = t->fold_size ? s->fold.data[t->fold_from] : 0;
            call |= byte == ')' && last == '(';
            last = byte;
        }
    }
    return call || last == ';' || last == '{' || last == '}';
}

static bool is_indent(const cmif_scan *s,
                      size_t line) /* the white space before a line has a tab or four spaces after its last line end */
{
    uint32_t          spaces = 0;
    const cmif_token *t      = &s->tokens[line];
    for (uint32_t i = 0; i < t->size; i++) {
        uint8_t byte = s->text[t->from + i];
        spaces       = byte == '\n' ? 0 : byte == '\t' ? spaces + 4 : spaces + 1;
    }
    return spaces >= 4;
}

static uint8_t mark_of(const cmif_scan *s, size_t i)
{
    const cmif_token *t = &s->tokens[i];
    return t->kind == CMIF_TOKEN_MARK && t->fold_size ? s->fold.data[t->fold_from] : 0;
}

static void find_code(cmif_scan *s)
{
    bool fence = false;
    for (size_t from = 0; from < s->count;) {
        size_t to = from, ticks = 0;
        while (to < s->count && s->tokens[to].kind != CMIF_TOKEN_LINE) {
            ticks += mark_of(s, to++) == '`';
        }
        bool is_fence =
            to - from >= 3 && mark_of(s, from) == '`' && mark_of(s, from + 1) == '`' && mark_of(s, from + 2) == '`';
        bool code   = fence || is_fence || (from > 0 && is_indent(s, from - 1) && line_is_code(s, from, to));
        bool inside = false;
        for (size_t i = from; i < to; i++) {
            bool tick = !code && mark_of(s, i) == '`';
            ticks -= tick;
            inside            = tick ? !inside && ticks > 0 : inside;
            s->tokens[i].code = code || inside;
        }
        fence ^= is_fence;
        from = to + 1;
    }
}

static void find_begins(cmif_scan *s)
{
    bool begins = true, ended = false; /* ended: a full stop, and only quotes and brackets since */
    for (size_t i = 0; i < s->count; i++) {
        cmif_token *t = &s->tokens[i];
        switch ((cmif_token_kind) t->kind) {
        case CMIF_TOKEN_LINE:
            begins = true;
            ended  = false;
            break;
        case CMIF_TOKEN_SPACE:
            begins |= ended || memchr(s->text + t->from, '\t', t->size);
            break;
        case CMIF_TOKEN_MARK: {
            uint8_t mark = mark_of(s, i);
            bool    stop = mark == '.' || mark == '!' || mark == '?' || mark == ':';
            if (mark == '.' && i > 0 && s->tokens[i - 1].kind == CMIF_TOKEN_WORD) {
                stop = !is_abbreviation(cmif_token_fold(s, &s->tokens[i - 1]));
            }
            ended = stop || (ended && (mark == '"' || mark == '\'' || mark == ')' || mark == ']' || mark >= 0x80));
            begins |= mark == '|' || mark == ';';
            break;
        }
        case CMIF_TOKEN_NUMBER: /* "1. First", "12) Then" */
            ended = false;
            break;
        case CMIF_TOKEN_WORD:
        case CMIF_TOKEN_BROKEN:
            t->begins = begins;
            begins = ended = false;
            break;
        }
    }
}

cmif_code cmif_scan_text(const void *text, size_t size, cmif_scan *out, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    job       j  = {.out = {.text = text, .size = size}};

    if (size > TEXT_SIZE_MAX) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a text of %zu bytes: at most 2^30 can be read at once; send it in parts",
                       size);
        goto done;
    }
    rc = cmif_secret_reserve(&j.memory, sizeof *j.c, err);
    if (rc == CMIF_OK) {
        j.c = (cluster *) (void *) j.memory.data;
        rc  = cmif_secret_reserve(&j.out.fold, size + 16, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_secret_reserve(&j.out.room, (size / 8 * 3 + 16) * sizeof *out->tokens,
                                 err); /* English has one for 3 bytes */
    }
    while (j.at < size && rc == CMIF_OK) {
        cmif_token token;
        if (j.out.fold.capacity - j.out.fold.size <= size - j.at) { /* room for what is left, if it is ASCII */
            rc = cmif_secret_reserve(&j.out.fold, j.out.fold.size + (size - j.at), err);
            if (rc != CMIF_OK) {
                break;
            }
        }
        if (scan_simple(&j, &token)) {
            rc = put_token(&j, &token, err);
            continue;
        }
        character c = character_at(j.out.text + j.at, size - j.at);
        switch (c.kind) {
        case CHAR_LETTER:
        case CHAR_DIGIT:
            rc = scan_word(&j, err);
            break;
        case CHAR_SPACE:
        case CHAR_LINE:
            rc = scan_space(&j, err);
            break;
        case CHAR_APOSTROPHE:
            if (follows_word(&j) && is_possessive(&j, j.at, c.size)) {
                rc = scan_possessive(&j, c.size, err);
                break;
            }
            rc = scan_mark(&j, c, err);
            break;
        default:
            rc = scan_mark(&j, c, err);
        }
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    j.out.tokens = (cmif_token *) (void *) j.out.room.data;
    find_code(&j.out);
    find_begins(&j.out);
    *out  = j.out;
    j.out = (cmif_scan){0};
done:
    cmif_scan_wipe(&j.out);
    cmif_secret_wipe(&j.memory);
    return rc;
}

void cmif_scan_wipe(cmif_scan *scan)
{
    cmif_secret_wipe(&scan->fold);
    cmif_secret_wipe(&scan->room);
    *scan = (cmif_scan){0};
}

size_t cmif_scan_bare(cmif_str fold, uint8_t *out, size_t room)
{
    utf8proc_int32_t codes[CLUSTER_MAX];
    size_t           size = 0;

    for (size_t at = 0; at < fold.size;) {
        character c = character_at((const uint8_t *) fold.data + at, fold.size - at);
        at += c.size;
        if (c.code == '\'') {
            continue;
        }
        int              boundary = 0;
        utf8proc_ssize_t n        = utf8proc_decompose_char(c.code, codes, CLUSTER_MAX, UTF8PROC_DECOMPOSE, &boundary);
        for (utf8proc_ssize_t i = 0; i < n && i < CLUSTER_MAX; i++) {
            uint8_t     bytes[CODE_SIZE_MAX];
            const char *latin = NULL;
            if (is_accent(codes[i])) {
                continue;
            }
            for (size_t k = 0; k < sizeof bare_letters / sizeof *bare_letters && codes[i] >= 0x80; k++) {
                latin = bare_letters[k].code == codes[i] ? bare_letters[k].latin : latin;
            }
            size_t more = latin ? strlen(latin) : (size_t) utf8proc_encode_char(codes[i], bytes);
            if (more > room - size) {
                return 0;
            }
            memcpy(out + size, latin ? (const uint8_t *) latin : bytes, more);
            size += more;
        }
    }
    return size;
}
