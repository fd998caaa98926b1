/* How restoring works. The answer is read as characters, each with the bytes that it came from: escapes of JSON and of
 * Markdown are undone here. At the start of each word three readers try, the longest match wins, and what is between
 * matches is copied byte by byte:
 *
 *     words    every surrogate as it was sent, small letters, one space for white space, marks of emphasis skipped
 *     codes    surrogates of digits and letters by their places: marks between are skipped, and stay in what is put
 * back dates    what reads as a date and is a surrogate's, in any form: it is put back in that form
 *
 * Words and codes are sorted arrays, narrowed by one byte at a time. Each reader stops at the first character that no
 * surrogate has there, so the time is linear in the answer, and what is held back is at most one surrogate with the
 * marks in it. */
#include "sanitizer/surrogates.h"

#include "sanitizer/dates.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    WINDOW     = 1024,     /* characters that one attempt may look at */
    QUOTE      = 0x110001, /* a quotation mark that begins or ends a JSON string */
    GAP_MAX    = 8,        /* white space between two words of a surrogate */
    MARKUP_MAX = 3,
    MARKS_MAX  = 3, /* between two digits of a code */
    GAPS       = 32
};

typedef struct pattern {
    const uint8_t *data; /* known when all are there; until then they begin at `from` of the bytes */
    size_t         from;
    uint32_t       size, entry;
    uint32_t       skip; /* bytes of the original that this form leaves out at its front */
} pattern;

typedef struct patterns {
    cmif_secret room;
    size_t      from[257]; /* by first byte */
} patterns;

typedef struct dated {
    uint32_t to, from; /* sorted by to, the surrogate's date */
} dated;

typedef struct letter {
    uint32_t c, from, size; /* bytes of the held ones */
} letter;

struct cmif_restore {
    cmif_secret         self, bytes, hold, dates, put;
    const cmif_vault   *vault;
    patterns            words, codes;
    uint32_t            days[13][32]; /* surrogate's month and day: the original's mmdd; 1: two are meant */
    bool                json, ended, starved, in_string;
    size_t              at;        /* in hold: what comes next */
    uint32_t            before[3]; /* characters before it, the last first */
    cmif_restore_counts counts;
    size_t              letters;
    size_t              blamed; /* characters to come that a damaged surrogate was counted for already */
    letter              window[WINDOW];
};

/* ---- characters ---- */

static bool is_letter(uint32_t c)
{
    if (c < 0x80) {
        return (c | 32) >= 'a' && (c | 32) <= 'z';
    }
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t) c);
    /* Letters of scripts without casing may stand beside a name: "Annaさん" */
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC ||
           k == UTF8PROC_CATEGORY_ND;
}

static bool is_word(uint32_t c)
{
    return vault_is_digit(c) || is_letter(c);
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xa0 || c == 0x202f || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x3000;
}

static bool is_markup(uint32_t c)
{
    return c == '*' || c == '_' || c == '`' || c == '~';
}

static bool is_big(uint32_t c)
{
    return utf8proc_tolower((utf8proc_int32_t) c) != (utf8proc_int32_t) c;
}

/* One writing for what is meant alike. */
static uint32_t plain(uint32_t c)
{
    switch (c) {
    case 0x2018:
    case 0x2019:
    case 0x2bc:
        return '\'';
    case 0x2010:
    case 0x2011:
    case 0x2012:
    case 0x2013:
    case 0x2212:
        return '-';
    default:
        return is_space(c) ? ' ' : (uint32_t) utf8proc_tolower((utf8proc_int32_t) c);
    }
}

static bool hex4(const uint8_t *p, uint32_t *value)
{
    *value = 0;
    for (size_t i = 0; i < 4; i++) {
        uint8_t c = p[i] | 32;
        if (!vault_is_digit(p[i]) && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        *value = *value << 4 | (vault_is_digit(p[i]) ? p[i] - (uint32_t) '0' : c - (uint32_t) 'a' + 10);
    }
    return true;
}

/* The character at byte i of the held ones and its size; 0: more must come before it is known, or there is none. */
static size_t decode(const cmif_restore *r, size_t i, bool in_string, uint32_t *c)
{
    const size_t left = r->hold.size - i;
    if (left == 0) {
        return 0;
    }
    const uint8_t *p = r->hold.data + i;
    if (p[0] == '\\' && (!r->json || in_string)) {
        if (left < 2 || (p[1] == 'u' && left < 6)) {
            *c = '\\';
            return r->ended ? 1 : 0;
        }
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char       *known = p[1] ? strchr(from, p[1]) : NULL;
        if (p[1] == 'u' && hex4(p + 2, c)) {
            *c = *c == 0 || (*c >= 0xd800 && *c < 0xe000) ? 0xfffd : *c;
            return 6;
        }
        if (known && (r->json || p[1] == 'n' || p[1] == 't' || p[1] == 'r')) {
            *c = (uint32_t) to[known - from];
            return 2;
        }
        if (p[1] > ' ' && p[1] < 0x7f && !vault_is_alnum(p[1])) { /* \" of JSON, \_ of Markdown */
            *c = p[1];
            return 2;
        }
        *c = '\\';
        return 1;
    }
    if (p[0] == '"' && r->json) {
        *c = QUOTE;
        return 1;
    }
    size_t           want = p[0] < 0xc0 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    utf8proc_int32_t value;
    utf8proc_ssize_t n = utf8proc_iterate(p, (utf8proc_ssize_t) left, &value);
    if (n < 1 && left < want && !r->ended) {
        return 0;
    }
    *c = n < 1 || value == 0 ? 0xfffd : (uint32_t) value;
    return n < 1 ? 1 : (size_t) n;
}

/* Character i from r->at on; 0: there is none, and `starved` tells that it may still come. */
static uint32_t at(cmif_restore *r, size_t i)
{
    while (r->letters <= i) {
        const letter *last = r->letters ? &r->window[r->letters - 1] : NULL;
        size_t        from = last ? (size_t) last->from + last->size : r->at;
        uint32_t      c;
        if (r->letters == WINDOW || (last && last->c == QUOTE)) {
            return 0; /* nothing reaches out of a JSON string */
        }
        size_t size = decode(r, from, r->in_string, &c);
        if (size == 0) {
            r->starved = r->starved || !r->ended;
            return 0;
        }
        r->window[r->letters++] = (letter){c, (uint32_t) from, (uint32_t) size};
    }
    return r->window[i].c;
}

static uint32_t date_at(void *context, size_t i)
{
    uint32_t c = at(context, i);
    return c > 0x10ffff ? '"' : c;
}

/* ---- patterns ---- */

static int by_bytes(const void *a, const void *b)
{
    const pattern *x = a, *y = b;
    int            order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    if (order == 0 && x->size != y->size) {
        order = x->size < y->size ? -1 : 1;
    }
    return order != 0 ? order : x->entry < y->entry ? -1 : x->entry > y->entry;
}

static size_t count_of(const patterns *all)
{
    return all->room.size / sizeof(pattern);
}

static const pattern *pattern_at(const patterns *all, size_t i)
{
    return (const pattern *) (const void *) all->room.data + i;
}

typedef struct range {
    size_t low, high, depth;
} range;

static size_t first_not_below(const patterns *all, range g, unsigned byte)
{
    while (g.low < g.high) {
        size_t         middle = (g.low + g.high) / 2;
        const pattern *p      = pattern_at(all, middle);
        if (p->size > g.depth && p->data[g.depth] >= byte) {
            g.high = middle;
        } else {
            g.low = middle + 1;
        }
    }
    return g.low;
}

/* The patterns of the range that go on with this character; empty: none does. */
static range narrow(const patterns *all, range g, uint32_t c)
{
    uint8_t bytes[4];
    size_t  n = c > 0x10ffff ? 0 : (size_t) utf8proc_encode_char((utf8proc_int32_t) c, bytes);
    if (n == 0) {
        return (range){0};
    }
    for (size_t i = 0; i < n && g.low < g.high; i++, g.depth++) {
        if (g.depth == 0) {
            g.low  = all->from[bytes[i]];
            g.high = all->from[bytes[i] + 1];
        } else {
            size_t low = first_not_below(all, g, bytes[i]);
            g.high     = first_not_below(all, g, bytes[i] + 1u);
            g.low      = low;
        }
    }
    return g;
}

/* The pattern that ends here, or NULL. */
static const pattern *whole(const patterns *all, range g)
{
    const pattern *p = g.low < g.high ? pattern_at(all, g.low) : NULL;
    return p && p->size == g.depth ? p : NULL;
}

/* A surrogate as the readers compare it: words small, with single spaces; codes without marks. From its first letter or
 * digit to its last: a sign or bracket around them stays in the answer, as it stays around the original. */
static cmif_code add_pattern(cmif_restore *r, patterns *to, const uint8_t *p, size_t size, uint32_t entry,
                             uint32_t skip, bool code, cmif_err *err)
{
    size_t    start = r->bytes.size, end = start;
    cmif_code rc    = CMIF_OK;
    bool      space = false;
    for (size_t i = 0; i < size && rc == CMIF_OK;) {
        utf8proc_int32_t value;
        utf8proc_ssize_t n = utf8proc_iterate(p + i, (utf8proc_ssize_t) (size - i), &value);
        uint32_t         c = n < 1 ? 0xfffd : plain((uint32_t) value);
        uint8_t          bytes[4];
        bool drop = code ? !vault_is_alnum(c) : (c == ' ' && space) || (r->bytes.size == start && !is_word(c));
        i += n < 1 ? 1 : (size_t) n;
        if (!drop) {
            rc = cmif_secret_append(&r->bytes, bytes, (size_t) utf8proc_encode_char((utf8proc_int32_t) c, bytes), err);
            space = c == ' ';
            end   = is_word(c) && rc == CMIF_OK ? r->bytes.size : end;
        }
    }
    r->bytes.size = end;
    pattern fresh = {NULL, start, (uint32_t) (end - start), entry, skip};
    if (rc == CMIF_OK && fresh.size > 0) {
        rc = cmif_secret_append(&to->room, &fresh, sizeof fresh, err);
    }
    return rc;
}

/* Two forms that read alike: the first pair has it. */
static void sort_patterns(patterns *all, const uint8_t *bytes)
{
    pattern *p = (pattern *) (void *) all->room.data;
    size_t   n = count_of(all), kept = 0;
    for (size_t i = 0; i < n; i++) {
        p[i].data = bytes + p[i].from;
    }
    if (n == 0) {
        return;
    }
    qsort(p, n, sizeof *p, by_bytes);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || p[kept - 1].size != p[i].size || memcmp(p[kept - 1].data, p[i].data, p[i].size) != 0) {
            p[kept++] = p[i];
        }
    }
    all->room.size = kept * sizeof *p;
    for (size_t byte = 0, i = 0; byte <= 256; byte++) {
        while (i < kept && p[i].data[0] < byte) {
            i++;
        }
        all->from[byte] = i;
    }
}

static int by_to(const void *a, const void *b)
{
    const dated *x = a, *y = b;
    return x->to < y->to ? -1 : x->to > y->to;
}

static void know_day(cmif_restore *r, uint32_t to, uint32_t from)
{
    uint32_t *place = &r->days[to / 100 % 100 % 13][to % 100 % 32];
    *place          = *place == 0 || *place == from % 10000 ? from % 10000 : 1;
}

static cmif_code index_vault(cmif_restore *r, cmif_err *err)
{
    const cmif_vault *v  = r->vault;
    cmif_code         rc = CMIF_OK;
    for (uint32_t i = 0; i < vault_entry_count(v) && rc == CMIF_OK; i++) {
        const vault_entry *e = &vault_entries(v)[i];
        const uint8_t     *s = v->bytes.data + e->surrogate, *o = v->bytes.data + e->original;
        rc = add_pattern(r, &r->words, s, e->surrogate_size, i, 0, false, err);
        if (rc == CMIF_OK && (e->match == VAULT_CODE || e->match == VAULT_NUMBER)) {
            rc = add_pattern(r, &r->codes, s, e->surrogate_size, i, 0, true, err);
        }
        /* A phone number may be written without the code of its country. */
        size_t j = 0, k = 0;
        while (e->class == CMIF_SPAN_PHONE && j < e->surrogate_size && k < e->original_size && s[j] == o[k] &&
               s[j] != ' ') {
            j++;
            k++;
        }
        if (rc == CMIF_OK && e->class == CMIF_SPAN_PHONE && e->match == VAULT_CODE && s[0] == '+' &&
            j < e->surrogate_size && s[j] == ' ' && o[k] == ' ') {
            rc = add_pattern(r, &r->codes, s + j, e->surrogate_size - j, i, (uint32_t) k, true, err);
        }
        if (rc == CMIF_OK && e->to > 0) {
            dated pair = {e->to, e->from};
            rc         = cmif_secret_append(&r->dates, &pair, sizeof pair, err);
            if (e->to % 100 > 0) {
                know_day(r, e->to, e->from);
            }
        }
    }
    if (rc == CMIF_OK) {
        sort_patterns(&r->words, r->bytes.data);
        sort_patterns(&r->codes, r->bytes.data);
        if (r->dates.size > 0) {
            qsort(r->dates.data, r->dates.size / sizeof(dated), sizeof(dated), by_to);
        }
    }
    return rc;
}

cmif_code cmif_restore_new(const cmif_vault *vault, bool json, cmif_restore **out, cmif_err *err)
{
    cmif_secret   self = {0};
    cmif_restore *r    = NULL;
    cmif_code     rc   = cmif_secret_reserve(&self, sizeof *r, err);
    if (rc == CMIF_OK) {
        r            = (cmif_restore *) (void *) self.data;
        r->self      = self;
        r->vault     = vault;
        r->json      = json;
        r->before[0] = r->before[1] = r->before[2] = ' ';
        rc                                         = index_vault(r, err);
    }
    if (rc == CMIF_OK) {
        *out = r;
        r    = NULL;
    }
    cmif_restore_free(r);
    return rc;
}

void cmif_restore_again(cmif_restore *r, bool json)
{
    cmif_wipe(r->hold.data, r->hold.size);
    r->hold.size = r->at = r->letters = r->blamed = 0;
    r->json                                       = json;
    r->ended = r->starved = r->in_string = false;
    r->before[0] = r->before[1] = r->before[2] = ' ';
    r->counts                                  = (cmif_restore_counts){0};
    cmif_wipe(r->window, sizeof r->window);
}

void cmif_restore_free(cmif_restore *r)
{
    if (r) {
        cmif_secret_wipe(&r->bytes);
        cmif_secret_wipe(&r->hold);
        cmif_secret_wipe(&r->dates);
        cmif_secret_wipe(&r->put);
        cmif_secret_wipe(&r->words.room);
        cmif_secret_wipe(&r->codes.room);
        cmif_secret self = r->self;
        cmif_secret_wipe(&self);
    }
}

/* ---- what may stand around a surrogate ---- */

typedef enum fit { FITS, ANOTHER_WORD, DAMAGED } fit; /* the last: it looks like the surrogate, and is not it */

/* before[0] is what stands right before the first character. */
static fit fits_left(const cmif_restore *r, uint32_t first, const vault_entry *e)
{
    uint32_t b = r->before[0], bb = r->before[1];
    bool     name = e->class == CMIF_SPAN_HOST || e->class == CMIF_SPAN_URL || e->class == CMIF_SPAN_EMAIL;
    if (is_word(b)) {
        return ANOTHER_WORD;
    }
    if (!is_word(bb)) {
        return FITS;
    }
    if (vault_is_digit(first) && vault_is_digit(bb) && b < 0x80 && strchr(".,:-/'+*^", (int) b)) {
        return DAMAGED;
    }
    switch (b) {
    case '@':
        return name && e->class != CMIF_SPAN_EMAIL ? FITS : DAMAGED;
    case '\'':
    case 0x2019:
        return !is_big(bb) && !is_word(r->before[2]) ? FITS : ANOTHER_WORD; /* d'Anna, not O'Anna */
    case '.':
        return name || !is_big(first) ? DAMAGED : FITS;
    case '-':
    case '_':
        return vault_is_digit(first) ? FITS : DAMAGED;
    default:
        return FITS;
    }
}

/* Whether a line begins here, but for white space and marks of emphasis or of headings. */
static bool opens_line(const cmif_restore *r)
{
    for (size_t i = 0; i < 3 && r->before[i] != '\n'; i++) {
        if (!is_space(r->before[i]) && !is_markup(r->before[i]) && r->before[i] != '#' && r->before[i] != '>') {
            return false;
        }
    }
    return true;
}

static bool is_currency(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t) (c > 0x10ffff ? ' ' : c)) == UTF8PROC_CATEGORY_SC;
}

/* Whether characters i and on are a sign or word that makes the number before them money, or a percentage. */
static bool is_unit(cmif_restore *r, size_t i, bool money)
{
    static const char *const currencies[] = {"dollar", "euro", "eur",  "usd", "gbp", "pound", "cent", "franc",
                                             "chf",    "buck", "quid", "yen", "jpy", "kr",    "pln",  NULL};
    static const char *const percent[]    = {"%",       "percent",    "per cent",  "pct",
                                             "prozent", "por ciento", "pour cent", NULL};
    i += is_space(at(r, i)) || at(r, i) == '-';
    if (money && is_currency(at(r, i))) {
        return true;
    }
    for (const char *const *unit = money ? currencies : percent; *unit; unit++) {
        size_t n = 0;
        while ((*unit)[n] && plain(at(r, i + n)) == (uint8_t) (*unit)[n]) {
            n++;
        }
        if (!(*unit)[n]) {
            return true;
        }
    }
    return false;
}

/* The "8" of "$8" stands for nothing where an answer has an 8 of something else: a sum or share of one or two digits is
 * put back beside its sign or unit only. */
static bool has_unit(cmif_restore *r, size_t i, cmif_span_class class)
{
    uint32_t before = is_space(r->before[0]) ? r->before[1] : r->before[0];
    return is_unit(r, i, class == CMIF_SPAN_MONEY) ||
           (class == CMIF_SPAN_MONEY && (is_currency(before) || is_big(before)));
}

/* The same behind it; i is the first character after, last the surrogate's own. */
static fit fits_right(cmif_restore *r, size_t i, uint32_t last, const vault_entry *e)
{
    uint32_t n    = at(r, i);
    bool     name = e->class == CMIF_SPAN_HOST || e->class == CMIF_SPAN_URL || e->class == CMIF_SPAN_EMAIL;
    if (i <= 2 && (e->class == CMIF_SPAN_MONEY || e->class == CMIF_SPAN_PERCENT) && vault_is_digit(last) &&
        !has_unit(r, i, e->class)) {
        return DAMAGED;
    }
    if (is_word(n)) {
        if (e->match != VAULT_WORDS || vault_is_digit(last)) {
            bool hour = e->class == CMIF_SPAN_DATE && (n == 'T') && vault_is_digit(at(r, i + 1));
            return hour ? FITS : e->match == VAULT_WORDS ? ANOTHER_WORD : DAMAGED;
        }
        size_t plural = n == 's' ? 1 : n == 'e' && at(r, i + 1) == 's' && strchr("sxzh", (int) (last & 0x7f)) ? 2 : 0;
        return plural > 0 && !is_word(at(r, i + plural)) ? FITS : ANOTHER_WORD;
    }
    if (n >= 0x80 || n == 0 || !strchr(".,:-/'_@)", (int) n)) {
        return FITS;
    }
    uint32_t nn = at(r, i + 1);
    if (e->match == VAULT_NUMBER && i <= 2 && (n == '.' || n == ')') && opens_line(r) &&
        (nn == 0 || is_space(nn) || is_markup(nn))) {
        return DAMAGED; /* the number of an item: answers count what they list */
    }
    if (!is_word(nn)) {
        return FITS;
    }
    if (vault_is_digit(last) && vault_is_digit(nn)) {
        /* 1250.00 for 1250 */
        bool cents = e->match == VAULT_NUMBER && (n == '.' || n == ',') && nn == '0' && at(r, i + 2) == '0' &&
                     !is_word(at(r, i + 3));
        bool port = e->class == CMIF_SPAN_IP && !memchr(r->vault->bytes.data + e->surrogate, ':', e->surrogate_size);
        return cents || ((name || port) && (n == ':' || n == '/')) ? FITS : DAMAGED;
    }
    switch (n) {
    case '@':
        return DAMAGED;
    case '.':
        return name || !is_big(nn) ? DAMAGED : FITS;
    case '-':
        return is_big(nn) || name ? DAMAGED : FITS;
    case '_':
        return DAMAGED;
    default:
        return FITS;
    }
}

/* ---- readers ---- */

typedef struct match {
    const pattern *pattern; /* NULL: a date, or none */
    size_t         size;    /* characters */
    cmif_date      date;    /* with the original's numbers */
    bool           code, damaged;
    size_t         damaged_size;
    size_t         gaps; /* white space of the match, as characters */
    struct gap {
        uint32_t from, size;
    } gap[GAPS];
    bool markup, escaped;
} match;

static const vault_entry *entry_of(const cmif_restore *r, const pattern *p)
{
    return &vault_entries(r->vault)[p->entry];
}

static void settle(match *m, fit f, const pattern *p, size_t size, bool code)
{
    if (f == FITS) {
        m->pattern = p;
        m->size    = size;
        m->code    = code;
    } else if (f == DAMAGED && size > m->damaged_size) {
        m->damaged      = true;
        m->damaged_size = size;
    }
}

/* "Fatima Smith" where Fatima Idrissi is the surrogate: somebody else of whom we know nothing. A match of one word that
 * ends before character i, and a family name behind it. */
static bool is_of_another(cmif_restore *r, const pattern *p, const vault_entry *e, size_t i)
{
    char     name[64];
    size_t   size  = 0;
    uint32_t flags = 0;
    if (e->class != CMIF_SPAN_PERSON || !r->vault->lists || memchr(p->data, ' ', p->size) || at(r, i) != ' ' ||
        !is_big(at(r, i + 1))) {
        return false;
    }
    for (uint32_t c; is_letter(c = at(r, i + 1)) && size < sizeof name - 4; i++) {
        size += (size_t) utf8proc_encode_char((utf8proc_int32_t) plain(c), (utf8proc_uint8_t *) name + size);
    }
    const cmif_str word = {name, size};
    const bool     family =
        !cmif_vault_holds(r->vault, word) && cmif_lists_find(r->vault->lists, CMIF_LIST_FAMILY, word, &flags);
    cmif_wipe(name, sizeof name);
    return family;
}

static void read_words(cmif_restore *r, match *m)
{
    range  g = {0, count_of(&r->words), 0};
    size_t i = 0, markup = 0;
    bool   commas = false;
    match  seen   = {0}; /* gaps and markup on the way */
    while (g.low < g.high) {
        uint32_t c    = plain(at(r, i));
        range    next = c ? narrow(&r->words, g, c == QUOTE ? 0x110002 : c) : (range){0};
        if (c == 0) {
            break;
        }
        size_t from = i;
        if (c == ' ' || (c == ',' && next.low >= next.high && is_space(at(r, i + 1)))) {
            commas = commas || c == ',';
            next   = narrow(&r->words, g, ' ');
            if (next.low >= next.high) {
                break; /* without a look at what follows, which may not be there yet */
            }
            i += c == ',';
            while (i - from < GAP_MAX && (is_space(at(r, i)) || is_markup(at(r, i)))) {
                seen.markup = seen.markup || is_markup(at(r, i));
                i++;
            }
            if (seen.gaps < GAPS) {
                seen.gap[seen.gaps++] = (struct gap){(uint32_t) from, (uint32_t) (i - from)};
            }
        } else if (next.low >= next.high && is_markup(c) && g.depth > 0 && markup++ < 2 * MARKUP_MAX) {
            /* Before a space it belongs to the gap. */
            size_t run = i;
            while (run - i < MARKUP_MAX && is_markup(at(r, run))) {
                run++;
            }
            seen.markup = true;
            if (is_space(at(r, run))) {
                while (run - i < GAP_MAX && (is_space(at(r, run)) || is_markup(at(r, run)))) {
                    run++;
                }
                next = narrow(&r->words, g, ' ');
                if (seen.gaps < GAPS) {
                    seen.gap[seen.gaps++] = (struct gap){(uint32_t) from, (uint32_t) (run - from)};
                }
            } else {
                next      = g;
                seen.gaps = GAPS; /* inside of a word: it cannot keep its place */
            }
            i = run;
        } else {
            i++;
        }
        g                = next;
        const pattern *p = whole(&r->words, g);
        if (p && i > from && is_word(at(r, i - 1))) {
            const vault_entry *e = entry_of(r, p);
            fit f = commas && e->class != CMIF_SPAN_ADDRESS ? ANOTHER_WORD : fits_right(r, i, at(r, i - 1), e);
            fit l = fits_left(r, at(r, 0), e);
            f     = l != FITS ? l : f == FITS && is_of_another(r, p, e, i) ? ANOTHER_WORD : f;
            settle(m, f, p, i, false);
            if (m->pattern == p && m->size == i) {
                m->gaps   = seen.gaps;
                m->markup = seen.markup;
                memcpy(m->gap, seen.gap, sizeof m->gap);
            }
        }
    }
}

typedef struct marks {
    size_t   count, places[GAPS];
    uint32_t c[GAPS];
    bool     doubled;
} marks;

/* Whether the marks between the digits leave the value what it is: the decimal mark stays, and thousands are grouped by
 * threes with one mark, or not at all. */
static bool number_is_meant(const cmif_vault *v, const vault_entry *e, const marks *seen)
{
    const uint8_t *s = v->bytes.data + e->surrogate;
    size_t         n = 0, decimals_at = SIZE_MAX, groups = 0;
    uint32_t       thousands = 0, decimal = 0;
    for (size_t i = 0; i < e->surrogate_size; i++) {
        size_t rest = 0;
        while (i + 1 + rest < e->surrogate_size && vault_is_digit(s[i + 1 + rest])) {
            rest++;
        }
        bool last = true;
        for (size_t k = i + 1; k < e->surrogate_size; k++) {
            last = last && !strchr(".,' ", s[k]);
        }
        if ((s[i] == '.' || s[i] == ',') && last && rest != 3) {
            decimals_at = n;
        }
        n += vault_is_alnum(s[i]);
    }
    size_t digits = 0;
    for (size_t i = 0, k = 0; i < e->surrogate_size && k < decimals_at; i++) {
        k += vault_is_alnum(s[i]);
        digits += vault_is_digit(s[i]);
    }
    for (size_t i = 0; i < seen->count; i++) {
        uint32_t c = seen->c[i];
        if (seen->places[i] == decimals_at && (c == '.' || c == ',')) {
            decimal = c;
        } else if (seen->places[i] < digits && (digits - seen->places[i]) % 3 == 0 &&
                   (thousands == 0 || thousands == c)) {
            thousands = c;
            groups++;
        } else {
            return false;
        }
    }
    return !seen->doubled && (decimals_at != SIZE_MAX) == (decimal != 0) && (decimal == 0 || decimal != thousands) &&
           (groups == 0 || groups == (digits - 1) / 3);
}

/* "58 3189923" of "+59 58 3189923": behind the code of a country that was not ours. */
static bool follows_digits(const cmif_restore *r)
{
    const uint32_t *b = r->before;
    return !is_word(b[0]) && (vault_is_digit(b[1]) || (!is_word(b[1]) && vault_is_digit(b[2])));
}

static void read_code(cmif_restore *r, match *m)
{
    range  g    = {0, count_of(&r->codes), 0};
    marks  seen = {0};
    size_t i = 0, run = 0;
    bool   comma = false, quoted = !r->json || r->in_string;
    for (uint32_t c; g.low < g.high && (c = plain(at(r, i))) != 0; i++) {
        if (!vault_is_alnum(c)) {
            bool mark = quoted ? c < 0x80 && strchr(" -.,/()'*_", (int) c) : c == '.';
            if (!mark || g.depth == 0 || ++run > MARKS_MAX || seen.count == GAPS) {
                break;
            }
            comma        = comma || c == ',' || c == '\'';
            seen.doubled = seen.doubled || run > 1;
            if (run == 1) {
                seen.places[seen.count] = g.depth;
                seen.c[seen.count++]    = c;
            }
            continue;
        }
        run              = 0;
        g                = narrow(&r->codes, g, c);
        const pattern *p = whole(&r->codes, g);
        if (p) {
            const vault_entry *e = entry_of(r, p);
            fit                f = fits_right(r, i + 1, c, e), l = fits_left(r, at(r, 0), e);
            f = l != FITS ? l : f;
            if (f == FITS) {
                f = e->match == VAULT_NUMBER                  ? (number_is_meant(r->vault, e, &seen) ? FITS : DAMAGED)
                    : comma || (p->skip && follows_digits(r)) ? DAMAGED
                                                              : FITS;
            }
            if (i + 1 > m->size) {
                settle(m, f, p, i + 1, true);
            }
        }
    }
}

/* The first of the surrogates' dates that is not before this one, or their number. */
static size_t find_date(const cmif_restore *r, uint32_t date)
{
    const dated *all = (const dated *) (const void *) r->dates.data;
    size_t       low = 0, high = r->dates.size / sizeof *all;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (all[middle].to < date) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* What the date was; 0: it is no surrogate's, 1: two are meant. */
static uint32_t original_date(const cmif_restore *r, uint32_t date)
{
    const dated *all   = (const dated *) (const void *) r->dates.data;
    size_t       n     = r->dates.size / sizeof *all;
    uint32_t     month = date / 100 % 100, day = date % 100;
    if (date < 10000) {
        return r->days[month][day];
    }
    size_t low = find_date(r, date);
    if (low < n && all[low].to == date) {
        return all[low].from;
    }
    if (day > 0 || low >= n || all[low].to / 100 != date / 100) {
        return 0;
    }
    /* A month of which one day is known. Two days of it may come from two months. */
    uint32_t from = all[low].from / 100 * 100;
    size_t   last = low;
    while (last + 1 < n && last - low < 40 && all[last + 1].to / 100 == date / 100) {
        from = all[++last].from / 100 * 100 == from ? from : 1;
    }
    return from;
}

/* Another day of a month that is known only because one of its days is a surrogate. The month alone would be put back:
 * but then the date that the answer gives would become one that it never meant. */
static bool is_another_day(const cmif_restore *r, uint32_t date)
{
    const dated *all   = (const dated *) (const void *) r->dates.data;
    uint32_t     month = date / 100 * 100;
    size_t       first = find_date(r, month);
    return date >= 10000 && date != month && first < r->dates.size / sizeof *all && all[first].to != month &&
           all[first].to / 100 == date / 100;
}

static void read_date(cmif_restore *r, match *m)
{
    cmif_date form;
    if (r->dates.size == 0 || r->blamed > 0 || !cmif_date_read(date_at, r, &form) || form.size <= m->size) {
        return;
    }
    uint32_t                 one = original_date(r, form.date), other = form.other ? original_date(r, form.other) : 0;
    static const vault_entry any = {.class = CMIF_SPAN_DATE, .match = VAULT_EXACT};
    if (one == 0 && other == 0) {
        if (is_another_day(r, form.date)) {
            settle(m, DAMAGED, NULL, form.size, false);
        }
        return;
    }
    fit left = fits_left(r, at(r, 0), &any), right = fits_right(r, form.size, at(r, form.size - 1), &any);
    if (left != FITS || right != FITS || one == 1 || other == 1 || (one > 0 && other > 0 && one != other)) {
        settle(m, left == ANOTHER_WORD ? left : DAMAGED, NULL, form.size, false);
        return;
    }
    if (one == 0) { /* day and month the other way round */
        for (size_t i = 0; i < form.pieces; i++) {
            uint8_t what       = form.piece[i].what;
            form.piece[i].what = (uint8_t) (what == CMIF_DATE_DAY     ? CMIF_DATE_MONTH
                                            : what == CMIF_DATE_MONTH ? CMIF_DATE_DAY
                                                                      : what);
        }
    }
    m->pattern   = NULL;
    m->size      = form.size;
    m->date      = form;
    m->date.date = one ? one : other;
}

/* ---- putting back ---- into r->put, plain; then escaped into the answer where it stands in JSON. */

static cmif_code put_bytes(cmif_restore *r, const void *bytes, size_t size, cmif_err *err)
{
    return cmif_secret_append(&r->put, bytes, size, err);
}

typedef enum casing { AS_IT_IS, SMALL, BIG, FIRST_BIG } casing;

static casing casing_of(bool big, bool small, bool first_big)
{
    return big && !small ? BIG : small && !big ? SMALL : first_big ? FIRST_BIG : AS_IT_IS;
}

/* How the match is cased where the surrogate is cased otherwise. */
static casing casing_asked(cmif_restore *r, const match *m, const vault_entry *e)
{
    bool   big = false, small = false, first_big = false, sent_big = false, sent_small = false, sent_first = false;
    size_t letters   = 0;
    const uint8_t *s = r->vault->bytes.data + e->surrogate;
    for (size_t i = 0; i < m->size; i++) {
        uint32_t c = at(r, i);
        if (is_letter(c) && !vault_is_digit(c)) {
            first_big = letters++ == 0 ? is_big(c) : first_big;
            big       = big || is_big(c);
            small     = small || !is_big(c);
        }
    }
    for (size_t i = 0, first = 0; i < e->surrogate_size; i++) {
        if ((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') {
            sent_first = first++ == 0 ? s[i] < 'a' : sent_first;
            sent_big   = sent_big || s[i] < 'a';
            sent_small = sent_small || s[i] >= 'a';
        }
    }
    casing wanted = casing_of(big, small, first_big), sent = casing_of(sent_big, sent_small, sent_first);
    return wanted == sent || letters == 0 ? AS_IT_IS : wanted;
}

static cmif_code put_cased(cmif_restore *r, const uint8_t *p, size_t size, casing how, cmif_err *err)
{
    cmif_code rc    = CMIF_OK;
    bool      first = true;
    for (size_t i = 0; i < size && rc == CMIF_OK;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(p + i, (utf8proc_ssize_t) (size - i), &c);
        if (n < 1 || how == AS_IT_IS) {
            n  = n < 1 ? 1 : n;
            rc = put_bytes(r, p + i, (size_t) n, err);
        } else {
            bool    big = how == BIG || (how == FIRST_BIG && first);
            uint8_t bytes[4];
            first = !is_word((uint32_t) c) && c != '\'';
            c     = big ? utf8proc_toupper(c) : utf8proc_tolower(c);
            rc    = put_bytes(r, bytes, (size_t) utf8proc_encode_char(c, bytes), err);
        }
        i += (size_t) n;
    }
    return rc;
}

static size_t words_in(const uint8_t *p, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        n += !is_space(p[i]) && (i == 0 || is_space(p[i - 1]));
    }
    return n;
}

/* Bytes of the answer that are characters from to from + size of the match: they are there already escaped. */
static cmif_code copy_raw(cmif_restore *r, size_t from, size_t size, cmif_secret *out, cmif_err *err)
{
    if (size == 0) {
        return CMIF_OK;
    }
    const letter *first = &r->window[from], *last = &r->window[from + size - 1];
    return cmif_secret_append(out, r->hold.data + first->from, last->from + last->size - first->from, err);
}

/* What r->put holds, into the answer: escaped where it must be. */
static cmif_code flush(cmif_restore *r, bool escaped, cmif_secret *out, cmif_err *err)
{
    cmif_code      rc   = CMIF_OK;
    const uint8_t *p    = r->put.data;
    size_t         size = r->put.size;
    if (!r->json && !escaped) {
        rc = cmif_secret_append(out, p, size, err);
    }
    for (size_t i = 0; i < size && rc == CMIF_OK && (r->json || escaped);) {
        static const char hex[] = "0123456789abcdef";
        utf8proc_int32_t  c;
        utf8proc_ssize_t  n    = utf8proc_iterate(p + i, (utf8proc_ssize_t) (size - i), &c);
        uint32_t          unit = n < 1 ? 0xfffd : (uint32_t) c;
        if (unit == '"' || unit == '\\') {
            rc = cmif_secret_append(out, unit == '"' ? "\\\"" : "\\\\", 2, err);
        } else if (unit < 0x20 || n < 1 || (escaped && unit >= 0x80)) {
            uint32_t units[2] = {unit, 0};
            if (unit > 0xffff) {
                units[0] = 0xd800 + ((unit - 0x10000) >> 10);
                units[1] = 0xdc00 + (unit & 0x3ff);
            }
            for (size_t k = 0; k < 2 && rc == CMIF_OK && (k == 0 || units[1]); k++) {
                char text[6] = {'\\',
                                'u',
                                hex[units[k] >> 12],
                                hex[units[k] >> 8 & 15],
                                hex[units[k] >> 4 & 15],
                                hex[units[k] & 15]};
                rc           = cmif_secret_append(out, text, 6, err);
            }
        } else {
            rc = cmif_secret_append(out, p + i, (size_t) n, err);
        }
        i += n < 1 ? 1 : (size_t) n;
    }
    cmif_wipe(r->put.data, r->put.size);
    r->put.size = 0;
    return rc;
}

static cmif_code put_words(cmif_restore *r, const match *m, const uint8_t *o, size_t size, casing how, bool escaped,
                           cmif_secret *out, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (m->gaps < GAPS && words_in(o, size) == m->gaps + 1) { /* word by word, with the answer's own gaps */
        size_t i = 0;
        for (size_t k = 0; k <= m->gaps && rc == CMIF_OK; k++) {
            size_t from = i;
            while (i < size && !is_space(o[i])) {
                i++;
            }
            rc = put_cased(r, o + from, i - from, how, err);
            if (rc == CMIF_OK) {
                rc = flush(r, escaped, out, err);
            }
            while (i < size && is_space(o[i])) {
                i++;
            }
            if (rc == CMIF_OK && k < m->gaps) {
                rc = copy_raw(r, m->gap[k].from, m->gap[k].size, out, err);
            }
        }
        return rc;
    }
    rc = put_cased(r, o, size, how, err);
    if (rc == CMIF_OK) {
        rc = flush(r, escaped, out, err);
    }
    for (size_t i = 0; m->markup && i < m->size && rc == CMIF_OK; i++) { /* emphasis that was begun must end */
        rc = is_markup(at(r, i)) && !is_markup(r->vault->bytes.data[entry_of(r, m->pattern)->surrogate])
                 ? copy_raw(r, i, 1, out, err)
                 : CMIF_OK;
    }
    return rc;
}

/* The answer's own marks, the original's letters and digits. */
static cmif_code put_code(cmif_restore *r, const match *m, const uint8_t *o, size_t size, cmif_secret *out,
                          bool escaped, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    size_t    k  = 0;
    for (size_t i = 0; i < m->size && rc == CMIF_OK; i++) {
        if (vault_is_alnum(at(r, i))) {
            while (k < size && !vault_is_alnum(o[k])) {
                k++;
            }
            rc = put_bytes(r, &o[k], k < size, err);
            k++;
        } else {
            rc = flush(r, escaped, out, err);
            rc = rc == CMIF_OK ? copy_raw(r, i, 1, out, err) : rc;
        }
    }
    return rc == CMIF_OK ? flush(r, escaped, out, err) : rc;
}

static cmif_code put_date(cmif_restore *r, const match *m, cmif_secret *out, bool escaped, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    size_t    done = 0;
    for (size_t i = 0; i < m->date.pieces && rc == CMIF_OK; i++) {
        size_t  from = m->date.piece[i].from;
        uint8_t bytes[16];
        rc = copy_raw(r, done, from - done, out, err);
        if (rc == CMIF_OK) {
            rc = put_bytes(r, bytes,
                           cmif_date_piece_write(&m->date, i, m->date.date, at(r, from), at(r, from + 1), bytes), err);
        }
        if (rc == CMIF_OK) {
            rc = flush(r, escaped, out, err);
        }
        done = from + m->date.piece[i].size;
    }
    return rc == CMIF_OK && done < m->size ? copy_raw(r, done, m->size - done, out, err) : rc;
}

/* Outside of a string JSON has numbers only. */
static bool is_json_number(const uint8_t *p, size_t size)
{
    size_t i = 0;
    while (i < size && vault_is_digit(p[i])) {
        i++;
    }
    if (i == 0 || (i > 1 && p[0] == '0')) {
        return false;
    }
    if (i < size && p[i] == '.') {
        size_t from = ++i;
        while (i < size && vault_is_digit(p[i])) {
            i++;
        }
        return i == size && i > from;
    }
    return i == size;
}

/* ---- the stream ---- */

/* Characters that are done with: copied as they are, or left out. */
static cmif_code pass(cmif_restore *r, size_t count, bool copy, cmif_secret *out, cmif_err *err)
{
    cmif_code rc = copy ? copy_raw(r, 0, count, out, err) : CMIF_OK;
    for (size_t i = 0; i < count && rc == CMIF_OK; i++) {
        const letter *l = &r->window[i];
        r->before[2]    = r->before[1];
        r->before[1]    = r->before[0];
        r->before[0]    = l->c == QUOTE ? '"' : l->c;
        r->in_string    = r->in_string != (l->c == QUOTE);
        r->at           = (size_t) l->from + l->size;
    }
    r->letters = 0;
    r->blamed -= count < r->blamed ? count : r->blamed;
    return rc;
}

static cmif_code put_match(cmif_restore *r, const match *m, bool *put, cmif_secret *out, cmif_err *err)
{
    const vault_entry *e    = m->pattern ? entry_of(r, m->pattern) : NULL;
    const uint8_t     *o    = e ? r->vault->bytes.data + e->original + m->pattern->skip : NULL;
    size_t             size = e ? e->original_size - m->pattern->skip : 0, start = out->size;
    bool               escaped = false;
    cmif_code          rc;
    for (size_t i = 0; i < m->size; i++) {
        escaped = escaped || r->window[i].size == 6;
    }
    /* The sign or bracket that stood around the surrogate stays around the match: it must not come twice. */
    if (e) {
        const uint8_t *s = r->vault->bytes.data + e->surrogate;
        size_t         k = 0, last = 0;
        while (k < size && k < e->surrogate_size && s[k] == o[k] && s[k] < 0x80 && !vault_is_alnum(s[k])) {
            k++;
        }
        while (last < size - k && last < e->surrogate_size - k &&
               s[e->surrogate_size - 1 - last] == o[size - 1 - last] && s[e->surrogate_size - 1 - last] < 0x80 &&
               !vault_is_alnum(s[e->surrogate_size - 1 - last])) {
            last++;
        }
        o += k;
        size -= k + last;
    }
    if (!e) {
        rc = put_date(r, m, out, escaped, err);
    } else if (m->code) {
        rc = put_code(r, m, o, size, out, escaped, err);
    } else {
        rc = put_words(r, m, o, size, e->match == VAULT_WORDS ? casing_asked(r, m, e) : AS_IT_IS, escaped, out, err);
    }
    *put = !r->json || r->in_string || is_json_number(out->data + start, out->size - start);
    if (!*put) {
        cmif_wipe(out->data + start, out->size - start);
        out->size = start;
    }
    return rc;
}

/* What begins at r->at, up to where the next word may begin. false: more must come first. */
static bool step(cmif_restore *r, cmif_secret *out, cmif_code *rc, cmif_err *err)
{
    r->letters     = 0;
    r->starved     = false;
    uint32_t first = at(r, 0);
    if (first == 0) {
        return false;
    }
    if (!is_word(first) && first < 0x80) {
        *rc = pass(r, 1, true, out, err);
        return true;
    }
    if (!is_word(r->before[0])) {
        match m = {0};
        read_words(r, &m);
        read_code(r, &m);
        read_date(r, &m);
        if (r->starved) {
            return false;
        }
        if (m.size > 0) {
            bool put;
            *rc = put_match(r, &m, &put, out, err);
            if (*rc == CMIF_OK) {
                *rc = pass(r, m.size, !put, out, err);
                r->counts.restored += put;
                r->counts.left += !put;
            }
            return true;
        }
        if (m.damaged && r->blamed == 0) {
            r->counts.left++;
            r->blamed = m.damaged_size;
        }
        r->letters = 0; /* what is left is looked at again where the next word begins */
        (void) at(r, 0);
    }
    *rc = pass(r, 1, true, out, err);
    return true;
}

static cmif_code run(cmif_restore *r, cmif_secret *out, cmif_err *err)
{
    size_t    size = out->size;
    cmif_code rc   = CMIF_OK;
    while (rc == CMIF_OK && step(r, out, &rc, err)) {
    }
    if (rc != CMIF_OK) {
        out->size = size;
        return rc;
    }
    size_t left = r->hold.size - r->at;
    if (r->at > 0) {
        memmove(r->hold.data, r->hold.data + r->at, left);
        cmif_wipe(r->hold.data + left, r->at);
        r->hold.size = left;
        r->at        = 0;
    }
    return CMIF_OK;
}

cmif_code cmif_restore_feed(cmif_restore *r, const void *bytes, size_t size, cmif_secret *out, cmif_err *err)
{
    cmif_code rc = cmif_secret_append(&r->hold, bytes, size, err);
    return rc == CMIF_OK ? run(r, out, err) : rc;
}

cmif_code cmif_restore_end(cmif_restore *r, cmif_secret *out, cmif_restore_counts *counts, cmif_err *err)
{
    r->ended     = true;
    cmif_code rc = run(r, out, err);
    if (rc == CMIF_OK) {
        *counts = r->counts;
    }
    return rc;
}
