#include "internal.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <utf8proc.h>

static unsigned class_of_category(int category)
{
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CLASS_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CLASS_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return CLASS_PUNCT;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return CLASS_SYMBOL;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CLASS_SEPARATOR | CLASS_SPACE;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
        return CLASS_CONTROL;
    default:
        return CLASS_UNDEFINED;
    }
}

static unsigned class_of(uint32_t c)
{
    /* The engine's tables are Unicode 15.1, utf8proc 2.8 has 15.0: these are all that came between (627 code points).
     */
    if ((c >= 0x2ffc && c <= 0x2fff) || c == 0x31ef) {
        return CLASS_SYMBOL;
    }
    if (c >= 0x2ebf0 && c <= 0x2ee5d) {
        return CLASS_LETTER;
    }
    unsigned of = class_of_category((int) utf8proc_category((utf8proc_int32_t) c));
    return (c >= 0x09 && c <= 0x0d) || c == 0x85 ? of | CLASS_SPACE : of;
}

uint32_t tok_without_accent(uint32_t c)
{
    utf8proc_int32_t parts[8];
    int              boundary = 0;
    utf8proc_ssize_t count    = utf8proc_decompose_char((utf8proc_int32_t) c, parts, 8, UTF8PROC_DECOMPOSE, &boundary);
    return count > 0 ? (uint32_t) parts[0] : c;
}

uint32_t tok_lower(uint32_t c)
{
    return (uint32_t) utf8proc_tolower((utf8proc_int32_t) c);
}

/* The Unicode blocks that BERT splits into single ideographs; 0x2b920 is the original's own slip. */
static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static unsigned class_for_wordpiece(uint32_t c, bool strip_accents)
{
    if (strip_accents) {
        c = tok_without_accent(c);
    }
    unsigned of = class_of(c);
    if (of & CLASS_SPACE) {
        return CLASS_SPACE;
    }
    if (c == 0 || c == 0xfffd || (of & CLASS_CONTROL) || (strip_accents && (of & CLASS_MARK))) {
        return CLASS_DROP;
    }
    return (of & CLASS_PUNCT) || (c < 0x7f && (of & CLASS_SYMBOL)) || is_ideograph(c) ? CLASS_ALONE : CLASS_WORD;
}

/* Pages of 256 code points, equal ones kept once: about 100 KB. */
static cmif_code fill(tok_classes *classes, bool wordpiece, bool strip_accents, cmif_err *err)
{
    size_t capacity = 0;
    for (uint32_t page = 0; page < 0x1100; page++) {
        tok_page now;
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = page << 8 | i;
            now[i]     = (uint16_t) (wordpiece ? class_for_wordpiece(c, strip_accents) : class_of(c));
        }
        size_t at = 0;
        while (at < classes->page_count && memcmp(classes->pages[at], now, sizeof now) != 0) {
            at++;
        }
        if (at > UINT8_MAX) {
            return cmif_fail(err, CMIF_E_UNSUPPORTED, "Unicode tables need %zu pages, room is for 256", at + 1);
        }
        if (at == capacity) {
            capacity        = capacity ? capacity * 2 : 64;
            tok_page *pages = realloc(classes->pages, capacity * sizeof *pages);
            if (!pages) {
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for the Unicode tables");
            }
            classes->pages = pages;
        }
        if (at == classes->page_count) {
            memcpy(classes->pages[classes->page_count++], now, sizeof now);
        }
        classes->index[page] = (uint8_t) at;
    }
    return CMIF_OK;
}

cmif_code tok_classes_init(tok_classes *classes, cmif_err *err)
{
    return fill(classes, /* wordpiece= */ false, /* strip_accents= */ false, err);
}

cmif_code tok_classes_init_wordpiece(tok_classes *classes, bool strip_accents, cmif_err *err)
{
    return fill(classes, /* wordpiece= */ true, strip_accents, err);
}

void tok_classes_wipe(tok_classes *classes)
{
    free(classes->pages);
    *classes = (tok_classes){0};
}

size_t tok_put_utf8(uint32_t c, uint8_t out[static 4])
{
    if (c < 0x80) {
        out[0] = (uint8_t) c;
        return 1;
    }
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; c >>= 6) {
        out[i] = (uint8_t) (0x80 | (c & 0x3f));
    }
    out[0] = (uint8_t) ((0xf00u >> size) | c);
    return size;
}

uint32_t tok_read_any(const uint8_t *s, size_t size, size_t *used, bool *clean)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t                need     = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xf8 ? tok_symbol_size(s[0]) : 0;
    bool                  valid    = need > 0 && need <= size;
    for (size_t i = 1; valid && i < need; i++) {
        valid = (s[i] & 0xc0) == 0x80;
    }
    if (valid) {
        uint32_t c = tok_code_point(s, used);
        *clean     = c >= least[need] && c <= 0x10ffff;
        if (c <= 0x10ffff) {
            return c;
        }
    }
    *used  = 1;
    *clean = false;
    return 0xfffd;
}

cmif_code tok_clean(const uint8_t *text, size_t size, uint8_t **out, size_t *out_size, cmif_err *err)
{
    size_t at = 0, used = 0;
    bool   clean = true;
    while (at < size) {
        uint64_t eight;
        if (size - at >= 8 && (memcpy(&eight, text + at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        (void) tok_read_any(text + at, size - at, &used, &clean);
        if (!clean) {
            break;
        }
        at += used;
    }
    *out      = NULL;
    *out_size = size;
    if (clean) {
        return CMIF_OK;
    }
    size_t room = 0;
    if (!cmif_size_mul(size - at, 3, &room) || !cmif_size_add(room, at + 4, &room)) { /* U+FFFD is 3 bytes for one */
        return cmif_fail(err, CMIF_E_RANGE, "%zu bytes are too many to tokenize", size);
    }
    uint8_t *fixed = malloc(room);
    if (!fixed) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of text", room);
    }
    memcpy(fixed, text, at);
    size_t put = at;
    for (; at < size; at += used) {
        put += tok_put_utf8(tok_read_any(text + at, size - at, &used, &clean), fixed + put);
    }
    *out      = fixed;
    *out_size = put;
    return CMIF_OK;
}
