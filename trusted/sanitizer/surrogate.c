/* What a surrogate keeps of the value it stands for, its shape, and what is drawn; nothing else of the value is looked
 * at, save that no surrogate equals what was written.
 * docs/sanitizer.md has the table of shapes.
 *
 * Source  ISO 7812, ISO 13616, RFC 2606, 3849, 5737; docs/sanitizer.md. */
#include "sanitizer/surrogates.h"

#include "sanitizer/dates.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

enum { TRIES = 64, FLAG_FEMALE = 1, FLAG_MALE = 2, KIND_COUNTRY = 1, KIND_CITY = 2, KIND_REGION = 4, ALSO_A_WORD = 8 };

/* One surrogate in the making. The first failure stays, and what follows does nothing: ask `rc` once. */
typedef struct draft {
    cmif_vault      *v;
    const cmif_scan *scan;
    const cmif_span *span;
    cmif_secret     *out;
    cmif_code        rc;
    cmif_err        *err;
} draft;

/* ---- drawing ---- */

static uint32_t draw_word(draft *d)
{
    cmif_vault *v = d->v;
    if (v->random_left == 0 && d->rc == CMIF_OK) {
        d->rc = cmif_noise_take(v->noise, v->random, sizeof v->random, d->err);
        if (d->rc == CMIF_OK) {
            v->random_left = sizeof v->random / sizeof *v->random;
        }
    }
    if (d->rc != CMIF_OK) {
        return 0;
    }
    uint32_t value            = v->random[--v->random_left];
    v->random[v->random_left] = 0;
    return value;
}

/* Uniform in [0, n), n > 0. */
static uint32_t draw(draft *d, uint32_t n)
{
    uint32_t value, limit = UINT32_MAX - UINT32_MAX % n; /* a multiple of n */
    do {
        value = draw_word(d);
    } while (value >= limit && d->rc == CMIF_OK);
    return value % n;
}

/* ---- texts ---- */

static void text_put(vault_text *t, const void *bytes, size_t size)
{
    if (t->full || size > VAULT_TEXT_MAX - t->size) {
        t->full = true;
    } else {
        memcpy(t->data + t->size, bytes, size);
        t->size += size;
    }
}

static void text_char(vault_text *t, uint32_t c)
{
    uint8_t bytes[4];
    text_put(t, bytes, (size_t) utf8proc_encode_char((utf8proc_int32_t) c, bytes));
}

/* A word of small letters in a casing; NONE and MIXED give a capital at the front. */
static void text_cased(vault_text *t, const uint8_t *word, size_t size, unsigned casing)
{
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(word + i, (utf8proc_ssize_t) (size - i), &c);
        if (n < 1) {
            return; /* folded text is good UTF-8 */
        }
        bool big = casing == CMIF_CASE_UPPER || (i == 0 && casing != CMIF_CASE_LOWER);
        text_char(t, (uint32_t) (big ? utf8proc_toupper(c) : c));
        i += (size_t) n;
    }
}

static void out_put(draft *d, const void *bytes, size_t size)
{
    if (d->rc == CMIF_OK) {
        d->rc = cmif_secret_append(d->out, bytes, size, d->err);
    }
}

static void to_secret(draft *d, cmif_secret *s, const void *bytes, size_t size)
{
    if (d->rc == CMIF_OK) {
        d->rc = cmif_secret_append(s, bytes, size, d->err);
    }
}

static const cmif_token *token_at(const draft *d, size_t i)
{
    return &d->scan->tokens[d->span->first + i];
}

/* A token that needs no surrogate: as it was written, or folded where what is written may hide something. */
static void out_token(draft *d, const cmif_token *t)
{
    cmif_str s = t->odd || t->kind == CMIF_TOKEN_BROKEN ? cmif_token_fold(d->scan, t) : cmif_token_text(d->scan, t);
    out_put(d, s.data, s.size);
}

static bool one_of(cmif_str word, const char *const *all)
{
    for (; *all; all++) {
        if (cmif_str_is(word, *all)) {
            return true;
        }
    }
    return false;
}

/* ---- pairs ---- */

static const uint8_t *surrogate_of(const draft *d, const vault_entry *e)
{
    return d->v->bytes.data + e->surrogate;
}

static void key_start(draft *d, char kind)
{
    d->v->key.size = 0;
    to_secret(d, &d->v->key, &kind, 1);
}

static void key_put(draft *d, const void *bytes, size_t size)
{
    to_secret(d, &d->v->key, bytes, size);
}

static const vault_entry *find(draft *d)
{
    return d->rc == CMIF_OK ? vault_find(d->v) : NULL;
}

static void add(draft *d, vault_match match, const void *original, size_t original_size, const vault_text *t)
{
    if (d->rc == CMIF_OK) {
        d->rc = vault_add(d->v, (vault_entry){.class = d->span->class, .match = (uint8_t) match}, original,
                          original_size, t->data, t->size, d->err);
    }
}

/* A list is looked up only where there is one. */
static bool listed(const draft *d, cmif_list list, cmif_str word, uint32_t *flags)
{
    *flags = 0;
    return d->v->lists && cmif_lists_find(d->v->lists, list, word, flags);
}

/* Not written by the person, not another surrogate, no ordinary word. */
static bool is_free(const draft *d, const vault_text *t)
{
    uint64_t   hash    = vault_compact_hash(d->v, t->data, t->size);
    vault_text small   = {0};
    bool       letters = true;
    for (size_t i = 0; i < t->size; i++) {
        uint8_t c = t->data[i];
        text_char(&small, c >= 'A' && c <= 'Z' ? c + 32u : c);
        letters = letters && !vault_is_digit(c);
    }
    uint32_t
         flags; /* 4 % of all family names are words: "day" and "law" would be put back wherever an answer has them */
    bool ordinary = letters && listed(d, CMIF_LIST_WORD, (cmif_str){(const char *) small.data, small.size}, &flags);
    return !t->full && t->size > 0 && !ordinary && !vault_has(&d->v->taken, hash) && !vault_has(&d->v->seen, hash);
}

static void none_left(draft *d)
{
    if (d->rc == CMIF_OK) {
        d->rc =
            cmif_fail(d->err, CMIF_E_RANGE,
                      "no value of this shape is left that the text does not hold; let the class pass, or split the "
                      "text into conversations");
    }
}

/* ---- words ---- */

/* A pronounceable word that is in no list. */
static void draw_pseudo(draft *d, vault_text *t)
{
    static const char onsets[][3] = {"b", "d", "f", "g",  "k",  "l",  "m",  "n",  "p",  "r", "s",
                                     "t", "v", "z", "br", "dr", "kr", "pl", "tr", "st", "h", "j"};
    static const char vowels[] = "aeiou", codas[] = "lnrsk";
    for (int round = 0; round < TRIES && d->rc == CMIF_OK; round++) {
        int syllables = 3 + round / 24;
        *t            = (vault_text){0};
        for (int i = 0; i < syllables; i++) {
            const char *onset = onsets[draw(d, sizeof onsets / sizeof *onsets)];
            text_put(t, onset, strlen(onset));
            text_put(t, &vowels[draw(d, 5)], 1);
        }
        if (draw(d, 2)) {
            text_put(t, &codas[draw(d, 5)], 1);
        }
        cmif_str word = {(const char *) t->data, t->size};
        uint32_t flags;
        if (is_free(d, t) && !listed(d, CMIF_LIST_GIVEN, word, &flags) && !listed(d, CMIF_LIST_FAMILY, word, &flags) &&
            !listed(d, CMIF_LIST_PLACE, word, &flags)) {
            return;
        }
    }
    none_left(d);
}

static bool is_plain_name(cmif_str s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] < 'a' || s.data[i] > 'z') {
            return false;
        }
    }
    return s.size >= 3 && s.size <= 12;
}

/* A name of a list with one of these flags (0: any); a pseudo-word where the list has none left. */
static void draw_name(draft *d, cmif_list list, uint32_t wanted, vault_text *t)
{
    size_t count = d->v->lists ? cmif_lists_count(d->v->lists, list) : 0;
    for (int round = 0; count > 0 && round < 4 * TRIES && d->rc == CMIF_OK; round++) {
        uint32_t flags, other;
        cmif_str name = cmif_lists_at(d->v->lists, list, draw(d, (uint32_t) count), &flags);
        *t            = (vault_text){0};
        text_put(t, name.data, name.size);
        if (is_plain_name(name) && (wanted == 0 || (flags & wanted)) && !listed(d, CMIF_LIST_PLACE, name, &other) &&
            is_free(d, t)) {
            return;
        }
    }
    draw_pseudo(d, t);
}

/* What a token says: folded, and as written. */
typedef struct word {
    cmif_str fold, written;
    unsigned casing;
    bool     odd;
} word;

static word word_of(const draft *d, const cmif_token *t)
{
    return (word){cmif_token_fold(d->scan, t), cmif_token_text(d->scan, t), t->casing, t->odd};
}

/* An ending "'s" stays as it is. */
static bool is_ending(const draft *d, const cmif_token *t)
{
    return cmif_str_is(cmif_token_fold(d->scan, t), "'s");
}

/* The surrogate of one word, of small letters: the one under this kind of key, or what draws gives. */
typedef void draw_fn(draft *d, cmif_str fold, vault_text *t);

static void bare_key(draft *d, char kind, cmif_str fold)
{
    uint8_t bare[128];
    size_t  size = cmif_scan_bare(fold, bare, sizeof bare);
    key_start(d, kind);
    key_put(d, size > 0 ? (const char *) bare : fold.data, size > 0 ? size : fold.size);
    cmif_wipe(bare, sizeof bare);
}

static void map_word(draft *d, char kind, const word *w, draw_fn *draws, vault_text *t)
{
    bare_key(d, kind, w->fold);
    const vault_entry *e = find(d);
    if (e) {
        vault_text small = {0};
        for (size_t i = 0; i < e->surrogate_size; i++) {
            uint8_t c = surrogate_of(d, e)[i];
            text_char(&small, c >= 'A' && c <= 'Z' ? c + 32u : c);
        }
        text_cased(t, small.data, small.size, w->casing);
        return;
    }
    vault_text small = {0}, original = {0};
    draws(d, w->fold, &small);
    text_cased(t, small.data, small.size, w->casing);
    bare_key(d, kind, w->fold);
    if (w->odd) {
        text_cased(&original, (const uint8_t *) w->fold.data, w->fold.size, w->casing);
        add(d, VAULT_WORDS, original.data, original.size, t);
    } else {
        add(d, VAULT_WORDS, w->written.data, w->written.size, t);
    }
    cmif_wipe(&original, sizeof original);
}

static void draw_given(draft *d, cmif_str fold, vault_text *t)
{
    uint32_t flags;
    (void) listed(d, CMIF_LIST_GIVEN, fold, &flags);
    flags &= FLAG_FEMALE | FLAG_MALE;
    draw_name(d, CMIF_LIST_GIVEN, flags == (FLAG_FEMALE | FLAG_MALE) ? 0 : flags, t);
}

static void draw_family(draft *d, cmif_str fold, vault_text *t)
{
    (void) fold;
    draw_name(d, CMIF_LIST_FAMILY, 0, t);
}

static void draw_unknown(draft *d, cmif_str fold, vault_text *t)
{
    (void) fold;
    draw_pseudo(d, t);
}

/* ---- places of letters and digits ---- */

static bool is_hex_only(const uint8_t *p, size_t size)
{
    bool letters = false;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = p[i] | 32;
        if (c >= 'a' && c <= 'z') {
            letters = true;
            if (c > 'f') {
                return false;
            }
        }
    }
    return letters;
}

/* Letters and digits drawn by their places, from `keep` on; marks stay; a leading digit that is not zero stays not
 * zero. */
static void draw_pattern(draft *d, const uint8_t *p, size_t size, size_t keep, vault_text *t)
{
    uint32_t letters = is_hex_only(p + keep, size - keep) ? 6 : 26;
    bool     leading = true;
    for (size_t i = 0; i < size; i++) {
        uint32_t c = p[i];
        if (i >= keep && vault_is_digit(c)) {
            c = leading && c != '0' ? '1' + draw(d, 9) : '0' + draw(d, 10);
        } else if (i >= keep && vault_is_alnum(c)) {
            c = (c >= 'a' ? 'a' : 'A') + draw(d, letters);
        }
        leading = leading && !vault_is_alnum(p[i]);
        text_put(t, &(uint8_t){(uint8_t) c}, 1);
    }
}

static void fix_luhn(vault_text *t)
{
    unsigned sum = 0, place = 0;
    uint8_t *last = NULL;
    for (size_t i = t->size; i-- > 0;) {
        if (vault_is_digit(t->data[i])) {
            unsigned digit = t->data[i] - '0';
            if (!last) {
                last  = &t->data[i];
                digit = 0;
            }
            unsigned twice = place++ % 2 ? 2 * digit : digit;
            sum += twice > 9 ? twice - 9 : twice;
        }
    }
    if (last) {
        *last = (uint8_t) ('0' + (10 - sum % 10) % 10);
    }
}

static void fix_iban(vault_text *t)
{
    uint8_t *check[2] = {NULL, NULL};
    unsigned rest     = 0;
    size_t   place    = 0;
    for (size_t round = 0; round < 2;
         round++) { /* from the fifth place to the end, then the first four with check 00 */
        place = 0;
        for (size_t i = 0; i < t->size; i++) {
            uint8_t c = t->data[i];
            if (!vault_is_alnum(c)) {
                continue;
            }
            if (place == 2 || place == 3) {
                check[place - 2] = &t->data[i];
                c                = '0';
            }
            if ((place < 4) == (round == 1)) {
                rest = vault_is_digit(c) ? (rest * 10 + c - '0') % 97 : (rest * 100 + (c | 32u) - 'a' + 10) % 97;
            }
            place++;
        }
    }
    if (check[1]) {
        *check[0] = (uint8_t) ('0' + (98 - rest) / 10);
        *check[1] = (uint8_t) ('0' + (98 - rest) % 10);
    }
}

/* Digits of the country code of a number that begins with + or 00 (E.164): one, two or three. */
static size_t country_digits(const uint8_t *digits)
{
    static const char two[] =
        "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 "
        "81 82 84 86 90 91 92 93 94 95 98";
    if (digits[0] == '1' || digits[0] == '7') {
        return 1;
    }
    for (const char *p = two; *p; p += p[2] ? 3 : 2) {
        if (p[0] == digits[0] && p[1] == digits[1]) {
            return 2;
        }
    }
    return 3;
}

/* How many bytes of the written value stay as they are. */
static size_t kept_bytes(cmif_span_class class, const uint8_t *p, size_t size)
{
    if (class == CMIF_SPAN_IBAN) {
        return size < 2 ? size : 2;
    }
    if (class == CMIF_SPAN_CRYPTO) {
        return size > 8 && memcmp(p, "0x", 2) == 0 ? 2 : size > 8 && memcmp(p, "bc1", 3) == 0 ? 3 : size > 8;
    }
    if (class != CMIF_SPAN_PHONE) {
        return 0;
    }
    uint8_t digits[8] = {0};
    size_t  at[8] = {0}, n = 0;
    for (size_t i = 0; i < size && n < 6; i++) {
        if (vault_is_digit(p[i])) {
            at[n]       = i;
            digits[n++] = p[i];
        }
    }
    if (n < 6) {
        return 0;
    }
    if (p[0] == '+' || p[1] == '+') {
        return at[country_digits(digits) - 1] + 1;
    }
    if (digits[0] == '0' && digits[1] == '0') {
        return at[1 + country_digits(digits + 2)] + 1;
    }
    return digits[0] == '0' ? at[0] + 1 : 0;
}

/* The span as written, or folded where something odd is in it. */
static cmif_str span_text(const draft *d)
{
    bool odd = false;
    for (size_t i = 0; i < d->span->count; i++) {
        odd = odd || token_at(d, i)->odd || token_at(d, i)->kind == CMIF_TOKEN_BROKEN;
    }
    const cmif_token *first = token_at(d, 0), *last = token_at(d, d->span->count - 1);
    return odd ? (cmif_str){(const char *) d->scan->fold.data + first->fold_from,
                            last->fold_from + last->fold_size - first->fold_from}
               : (cmif_str){(const char *) d->scan->text + d->span->from, d->span->size};
}

static void key_compact(draft *d, char kind, const uint8_t *p, size_t size)
{
    key_start(d, kind);
    for (size_t i = 0; i < size; i++) {
        if (vault_is_alnum(p[i]) || p[i] >= 0x80) {
            key_put(d, &(uint8_t){p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]}, 1);
        }
    }
}

static size_t count_alnum(const uint8_t *p, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        n += vault_is_alnum(p[i]);
    }
    return n;
}

/* The letters and digits of a surrogate at the places of another writing of the same value. */
static void refill(draft *d, const vault_entry *e, const uint8_t *p, size_t size)
{
    const uint8_t *s = surrogate_of(d, e);
    if (count_alnum(p, size) != count_alnum(s, e->surrogate_size)) {
        out_put(d, s, e->surrogate_size);
        return;
    }
    for (size_t i = 0, k = 0; i < size; i++) {
        if (vault_is_alnum(p[i])) {
            while (!vault_is_alnum(s[k])) {
                k++;
            }
            out_put(d, &s[k++], 1);
        } else {
            out_put(d, &p[i], 1);
        }
    }
}

/* Letters and digits of ASCII have places; with any other letter the whole is drawn as a word. */
static bool has_places(const uint8_t *p, size_t size)
{
    bool any = false;
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t    c = 0;
        utf8proc_ssize_t    n = utf8proc_iterate(p + i, (utf8proc_ssize_t) (size - i), &c);
        utf8proc_category_t k = utf8proc_category(n < 1 ? 0 : c);
        if (c >= 0x80 && k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO) {
            return false;
        }
        any = any || vault_is_alnum(p[i]);
        i += n < 1 ? 1 : (size_t) n;
    }
    return any;
}

static void put_code(draft *d, cmif_str s)
{
    const uint8_t *p      = (const uint8_t *) s.data;
    cmif_span_class class = d->span->class;
    bool exact = class == CMIF_SPAN_SECRET || class == CMIF_SPAN_CRYPTO; /* where casing tells values apart */
    key_compact(d, 'c', p, s.size);
    bool any = has_places(p, s.size);
    if (exact || !any) {
        key_start(d, 's');
        key_put(d, p, s.size);
    }
    const vault_entry *e = find(d);
    if (e && (exact || !any)) {
        out_put(d, surrogate_of(d, e), e->surrogate_size);
        return;
    }
    if (e) {
        refill(d, e, p, s.size);
        return;
    }
    size_t size = s.size < 128 ? s.size : 128, keep;
    while (size < s.size && (p[size] & 0xc0) == 0x80) { /* no character is cut */
        size--;
    }
    keep = kept_bytes(class, p, size);
    for (int round = 0; round < TRIES && d->rc == CMIF_OK; round++) {
        vault_text t = {0};
        if (any) {
            draw_pattern(d, p, size, keep, &t);
        } else { /* nothing to keep the places of */
            draw_pseudo(d, &t);
        }
        if (any && class == CMIF_SPAN_CARD) {
            fix_luhn(&t);
        } else if (any && class == CMIF_SPAN_IBAN) {
            fix_iban(&t);
        }
        if (is_free(d, &t)) {
            add(d, exact || !any || size != s.size ? VAULT_EXACT : VAULT_CODE, p, s.size, &t);
            out_put(d, t.data, t.size);
            return;
        }
    }
    none_left(d);
}

/* ---- numbers ---- the digits and what is glued to them; currency, sign and unit stay around them. */

static void put_number(draft *d, cmif_str s)
{
    const uint8_t *p    = (const uint8_t *) s.data;
    size_t         from = 0, to = s.size;
    while (from < to && !vault_is_digit(p[from])) {
        from++;
    }
    while (to > from && !vault_is_digit(p[to - 1])) {
        to--;
    }
    if (from == to) { /* "twenty" */
        put_code(d, s);
        return;
    }
    size_t start = from;
    while (start > 0 && vault_is_alnum(p[start - 1])) { /* "USD20" */
        start--;
    }
    size_t end = to;
    while (end < s.size && vault_is_alnum(p[end])) { /* "20k" */
        end++;
    }
    /* Decimals: after the last mark, unless it is one of thousands. */
    size_t mark = to;
    while (mark > from && vault_is_digit(p[mark - 1])) {
        mark--;
    }
    bool decimals = mark > from && (p[mark - 1] == '.' || p[mark - 1] == ',') && to - mark != 3;
    key_compact(d, 'n', p + start, (decimals ? mark : end) - start);
    if (decimals) {
        key_put(d, ".", 1);
        key_put(d, p + mark, end - mark);
    }
    out_put(d, p, start);
    const vault_entry *e = find(d);
    if (e) {
        refill(d, e, p + start, end - start);
    } else {
        bool done = false;
        for (int round = 0; round < 4 * TRIES && !done && d->rc == CMIF_OK; round++) {
            vault_text t = {0};
            text_put(&t, p + start, from - start);
            for (int more = 0; more < round / TRIES; more++) {
                text_put(&t, &(uint8_t){(uint8_t) ('1' + draw(d, 9))}, 1);
            }
            vault_text digits = {0};
            draw_pattern(d, p + from, to - from, 0, &digits);
            text_put(&t, digits.data, digits.size);
            text_put(&t, p + to, end - to);
            if (is_free(d, &t)) {
                add(d, round < TRIES ? VAULT_NUMBER : VAULT_EXACT, p + start, end - start, &t);
                out_put(d, t.data, t.size);
                done = true;
            }
        }
        if (!done) {
            none_left(d);
        }
    }
    out_put(d, p + end, s.size - end);
}

/* Places and hours: each run of digits within its range. */
static void put_measured(draft *d, cmif_str s, bool time)
{
    const uint8_t *p = (const uint8_t *) s.data;
    key_start(d, time ? 't' : 'g');
    key_put(d, p, s.size);
    const vault_entry *e = find(d);
    if (e) {
        out_put(d, surrogate_of(d, e), e->surrogate_size);
        return;
    }
    bool half = false, any = false;
    for (size_t i = 0; i < s.size; i++) {
        half = half || (p[i] | 32) == 'm';
        any  = any || vault_is_digit(p[i]);
    }
    if (!any) {
        put_code(d, s);
        return;
    }
    for (int round = 0; round < TRIES && d->rc == CMIF_OK; round++) {
        vault_text t     = {0};
        bool       first = true;
        for (size_t i = 0; i < s.size;) {
            size_t n = 0;
            while (i + n < s.size && vault_is_digit(p[i + n])) {
                n++;
            }
            if (n == 0) {
                text_put(&t, &p[i++], 1);
                continue;
            }
            char number[16];
            bool fraction = i > 0 && p[i - 1] == '.' && !time;
            if (n > 3 || fraction) {
                draw_pattern(d, p + i, n, 0, &t);
            } else {
                uint32_t low = n == 1 ? 0 : n == 2 ? (time ? 0 : 10) : 100, high = n == 1 ? 10 : n == 2 ? 60 : 180;
                if (time && first) {
                    low  = half ? (n == 1 ? 1 : 10) : n == 1 ? 0 : 10;
                    high = half ? (n == 1 ? 10 : 13) : n == 1 ? 10 : 24;
                    low  = n == 2 && p[i] == '0' ? 0 : low;
                    high = n == 2 && p[i] == '0' ? 10 : high;
                }
                snprintf(number, sizeof number, "%0*u", (int) n, low + draw(d, high - low));
                text_put(&t, number, n);
            }
            first = false;
            i += n;
        }
        if (is_free(d, &t)) {
            key_start(d, time ? 't' : 'g');
            key_put(d, p, s.size);
            add(d, VAULT_EXACT, p, s.size, &t);
            out_put(d, t.data, t.size);
            return;
        }
    }
    none_left(d);
}

/* ---- dates ---- */

static uint32_t date_char(void *context, size_t i)
{
    const cmif_str  *s  = context;
    utf8proc_int32_t c  = 0;
    size_t           at = 0;
    for (size_t k = 0; k <= i; k++) { /* a date has at most some forty characters */
        if (at >= s->size) {
            return 0;
        }
        utf8proc_ssize_t n = utf8proc_iterate((const uint8_t *) s->data + at, (utf8proc_ssize_t) (s->size - at), &c);
        at += n < 1 ? 1 : (size_t) n;
        c = n < 1 || c == 0 ? 0xfffd : c;
    }
    return (uint32_t) c;
}

static size_t char_bytes(const cmif_str *s, size_t chars)
{
    size_t at = 0;
    for (; chars > 0 && at < s->size; chars--) {
        do {
            at++;
        } while (at < s->size && ((uint8_t) s->data[at] & 0xc0) == 0x80);
    }
    return at;
}

static void text_date(vault_text *t, cmif_str s, const cmif_date *form, uint32_t date)
{
    size_t at = 0;
    for (size_t i = 0; i < form->pieces; i++) {
        uint8_t bytes[16];
        size_t  from = char_bytes(&s, form->piece[i].from);
        text_put(t, s.data + at, from - at);
        text_put(t, bytes,
                 cmif_date_piece_write(form, i, date, date_char(&s, form->piece[i].from),
                                       date_char(&s, form->piece[i].from + 1u), bytes));
        at = char_bytes(&s, (size_t) form->piece[i].from + form->piece[i].size);
    }
    size_t end = char_bytes(&s, form->size);
    text_put(t, s.data + at, end - at);
}

/* One shift for whole dates; months move by whole months, and days without a year as in a year of 365 days. */
static uint32_t shifted(uint32_t date, int32_t shift)
{
    uint32_t year = date / 10000, month = date / 100 % 100, day = date % 100;
    if (year == 0) {
        uint32_t moved =
            cmif_date_of_days(cmif_date_days(20010000 + (month == 2 && day == 29 ? 228 : date)) + shift % 365);
        return moved % 10000;
    }
    if (day == 0) {
        int32_t months = (int32_t) (year * 12 + month - 1) + shift * 100 / 3044;
        return (uint32_t) (months / 12 * 10000 + (months % 12 + 1) * 100);
    }
    return cmif_date_of_days(cmif_date_days(date) + shift);
}

/* Whether the time of day of an ISO 8601 time stamp is behind its date. */
static bool time_follows(cmif_str s, size_t at)
{
    return at + 1 < s.size && (s.data[at] | 32) == 't' && vault_is_digit((uint8_t) s.data[at + 1]);
}

/* A stamp comes back as a whole, as it was written; its date and its time of day do by themselves, too. */
static void keep_stamp(draft *d, cmif_str s, size_t out_from)
{
    vault_text t = {0};
    if (d->rc == CMIF_OK) {
        text_put(&t, d->out->data + out_from, d->out->size - out_from);
    }
    key_start(d, 'i');
    key_put(d, s.data, s.size);
    if (!find(d) && d->rc == CMIF_OK && !t.full) {
        const vault_entry entry = {.class = CMIF_SPAN_TIME, .match = VAULT_EXACT};
        d->rc                   = vault_add(d->v, entry, s.data, s.size, t.data, t.size, d->err);
    }
}

static void put_date(draft *d, cmif_str s)
{
    cmif_date form;
    size_t    from  = 0;
    bool      found = false, word_before = false;
    for (; from < s.size && !found; from += !found) { /* behind a weekday */
        cmif_str rest = {s.data + from, s.size - from};
        uint8_t  c    = (uint8_t) s.data[from];
        found         = !word_before && cmif_date_read(date_char, &rest, &form);
        word_before   = vault_is_alnum(c) || c >= 0x80;
    }
    if (!found) {
        cmif_str all = s;
        if (s.size == 4 && vault_is_digit((uint8_t) s.data[0])) {
            put_number(d, all); /* a year */
        } else {
            put_code(d, all);
        }
        return;
    }
    cmif_str rest = {s.data + from, s.size - from};
    size_t   end  = char_bytes(&rest, form.size);
    out_put(d, s.data, from);
    const size_t out_from = d->out->size;
    key_start(d, 'd');
    key_put(d, rest.data, end);
    const vault_entry *e = find(d);
    if (e) {
        out_put(d, surrogate_of(d, e), e->surrogate_size);
    }
    bool done = e != NULL;
    for (int32_t round = 0; round < TRIES && !done && d->rc == CMIF_OK; round++) {
        bool fresh = d->v->shift == 0;
        if (fresh) { /* 58 to 520 weeks, either way */
            int32_t weeks = 58 + (int32_t) draw(d, 463);
            d->v->shift   = draw(d, 2) ? 7 * weeks : -7 * weeks;
        }
        /* A date that the text holds makes the first one draw again, and a later one move by some weeks more. */
        uint32_t   to = shifted(form.date, d->v->shift + 7 * round * !fresh);
        vault_text t  = {0};
        if (to / 10000 > 0 || form.date < 10000) {
            text_date(&t, rest, &form, to);
        }
        if (to != form.date && is_free(d, &t)) {
            if (d->rc == CMIF_OK) {
                vault_entry entry = {.class = CMIF_SPAN_DATE, .match = VAULT_EXACT, .from = form.date, .to = to};
                d->rc             = vault_add(d->v, entry, rest.data, end, t.data, t.size, d->err);
            }
            out_put(d, t.data, t.size);
            done = true;
        } else if (fresh) {
            d->v->shift = 0;
        }
    }
    if (!done) {
        none_left(d);
    }
    if (time_follows(rest, end)) {
        out_put(d, rest.data + end, 1);
        put_measured(d, (cmif_str){rest.data + end + 1, rest.size - end - 1}, true);
        keep_stamp(d, rest, out_from);
    } else {
        out_put(d, rest.data + end, rest.size - end);
    }
}

/* ---- addresses of machines ---- */

static void put_ip(draft *d, cmif_str s)
{
    static const char *const nets[3] = {"192.0.2", "198.51.100", "203.0.113"};
    size_t                   end     = s.size;
    bool                     six     = false;
    for (size_t i = 0, colons = 0; i < s.size; i++) {
        colons += s.data[i] == ':';
        six = colons > 1;
    }
    for (size_t i = 0; i < s.size && end == s.size; i++) { /* port and prefix stay */
        if (s.data[i] == '/' || s.data[i] == ']' || s.data[i] == '%' || (s.data[i] == ':' && !six)) {
            end = i;
        }
    }
    size_t from = s.data[0] == '[';
    key_start(d, 'i');
    key_put(d, s.data + from, end - from);
    out_put(d, s.data, from);
    const vault_entry *e = find(d);
    if (e) {
        out_put(d, surrogate_of(d, e), e->surrogate_size);
    }
    bool done = e != NULL;
    for (int round = 0; round < 2 * TRIES && !done && d->rc == CMIF_OK; round++) {
        char       written[48];
        vault_text t = {0};
        if (six) {
            snprintf(written, sizeof written, "2001:db8:%x:%x::%x", draw(d, 65536), draw(d, 65536), 1 + draw(d, 65535));
        } else if (round < TRIES) {
            snprintf(written, sizeof written, "%s.%u", nets[draw(d, 3)], 1 + draw(d, 254));
        } else {
            snprintf(written, sizeof written, "198.%u.%u.%u", 18 + draw(d, 2), draw(d, 256), 1 + draw(d, 254));
        }
        text_put(&t, written, strlen(written));
        if (is_free(d, &t)) {
            add(d, VAULT_EXACT, s.data + from, end - from, &t);
            out_put(d, t.data, t.size);
            done = true;
        }
    }
    if (!done) {
        none_left(d);
    }
    out_put(d, s.data + end, s.size - end);
}

/* The surrogate of a host, appended to t. */
static void map_host(draft *d, cmif_str host, vault_text *t)
{
    static const char *const roots[3] = {"example.com", "example.net", "example.org"};
    key_start(d, 'h');
    for (size_t i = 0; i < host.size; i++) {
        char c = host.data[i];
        key_put(d, &(char){c >= 'A' && c <= 'Z' ? (char) (c + 32) : c}, 1);
    }
    const vault_entry *e = find(d);
    if (e) {
        text_put(t, surrogate_of(d, e), e->surrogate_size);
        return;
    }
    size_t labels = 1;
    for (size_t i = 0; i < host.size; i++) {
        labels += host.data[i] == '.';
    }
    labels           = labels < 3 ? 1 : labels > 6 ? 4 : labels - 2;
    vault_text fresh = {0}, label;
    for (size_t i = 0; i < labels; i++) {
        draw_pseudo(d, &label);
        text_put(&fresh, label.data, label.size);
        text_put(&fresh, ".", 1);
    }
    text_put(&fresh, roots[draw(d, 3)], 11);
    add(d, VAULT_EXACT, host.data, host.size, &fresh);
    text_put(t, fresh.data, fresh.size);
}

static void put_host(draft *d, cmif_str s)
{
    vault_text t   = {0};
    size_t     end = s.size;
    while (end > 0 && vault_is_digit((uint8_t) s.data[end - 1])) { /* a port stays */
        end--;
    }
    end = end > 0 && end < s.size && s.data[end - 1] == ':' ? end - 1 : s.size;
    map_host(d, (cmif_str){s.data, end}, &t);
    out_put(d, t.data, t.size);
    out_put(d, s.data + end, s.size - end);
}

static void put_url(draft *d, cmif_str s)
{
    size_t scheme = 0;
    for (size_t i = 0; i + 3 <= s.size && scheme == 0; i++) {
        scheme = memcmp(s.data + i, "://", 3) == 0 ? i + 3 : 0;
    }
    size_t end = scheme;
    while (end < s.size && !memchr("/?#", s.data[end], 3)) {
        end++;
    }
    key_start(d, 'r');
    key_put(d, s.data + scheme, s.size - scheme);
    out_put(d, s.data, scheme);
    const vault_entry *e = find(d);
    if (e) {
        out_put(d, surrogate_of(d, e), e->surrogate_size);
        return;
    }
    vault_text t    = {0}, part;
    size_t     host = end; /* without user and port, which go with the whole */
    for (size_t i = scheme; i < end; i++) {
        if (s.data[i] == '@') {
            scheme = i + 1;
        }
    }
    for (size_t i = scheme; i < end && host == end; i++) {
        host = s.data[i] == ':' ? i : host;
    }
    map_host(d, (cmif_str){s.data + scheme, host - scheme}, &t);
    size_t parts = 0;
    for (size_t i = end; i < s.size && parts < 8; i++) {
        if (memchr("/?#&=", s.data[i], 5)) {
            text_put(&t, &s.data[i], 1);
        } else if (i == 0 || memchr("/?#&=", s.data[i - 1], 5)) {
            draw_pseudo(d, &part);
            text_put(&t, part.data, part.size);
            parts++;
        }
    }
    if (end < s.size && !t.full) {
        size_t from = scheme; /* the key again: the host's took its place */
        while (from > 0 && !(from >= 3 && memcmp(s.data + from - 3, "://", 3) == 0)) {
            from--;
        }
        key_start(d, 'r');
        key_put(d, s.data + from, s.size - from);
        if (!is_free(d, &t)) { /* "/" alone: the host brings it back */
            out_put(d, t.data, t.size);
            return;
        }
        add(d, VAULT_EXACT, s.data + from, s.size - from, &t);
    }
    out_put(d, t.data, t.size);
}

static void put_email(draft *d, cmif_str s)
{
    size_t sign = s.size;
    for (size_t i = 0; i < s.size; i++) {
        sign = s.data[i] == '@' ? i : sign;
    }
    if (sign == s.size) {
        put_code(d, s);
        return;
    }
    key_start(d, 'e');
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        key_put(d, &(char){c >= 'A' && c <= 'Z' ? (char) (c + 32) : c}, 1);
    }
    const vault_entry *e = find(d);
    if (e) {
        out_put(d, surrogate_of(d, e), e->surrogate_size);
        return;
    }
    for (int round = 0; round < TRIES && d->rc == CMIF_OK; round++) {
        vault_text t = {0}, part;
        for (size_t i = 0; i < sign;) {
            uint8_t name[64];
            size_t  n = 0;
            while (i + n < sign && n < sizeof name && vault_is_alnum((uint8_t) s.data[i + n]) &&
                   !vault_is_digit((uint8_t) s.data[i + n])) {
                name[n] = (uint8_t) s.data[i + n] | 32;
                n++;
            }
            cmif_str fold = {(const char *) name, n};
            word     w    = {fold, {s.data + i, n}, CMIF_CASE_LOWER, false};
            uint32_t flags;
            bare_key(d, 'p', fold);
            const vault_entry *known = n > 0 ? find(d) : NULL;
            part                     = (vault_text){0};
            if (n == 0) {
                uint8_t c = (uint8_t) s.data[i];
                c         = vault_is_digit(c) ? (uint8_t) ('0' + draw(d, 10)) : c < 0x80 ? c : '-';
                text_put(&t, &c, 1);
                n = 1;
            } else if (n == 1) {
                text_put(&t, &(uint8_t){(uint8_t) ('a' + draw(d, 26))}, 1);
            } else if (known || listed(d, CMIF_LIST_GIVEN, fold, &flags)) {
                /* The pair is kept as a name would be: with its capital. */
                w.casing = known ? CMIF_CASE_LOWER : CMIF_CASE_FIRST;
                w.odd    = !known;
                map_word(d, 'p', &w, draw_given, &part);
                for (size_t k = 0; k < part.size; k++) {
                    part.data[k] |= 32;
                }
                text_put(&t, part.data, part.size);
            } else if (listed(d, CMIF_LIST_FAMILY, fold, &flags)) {
                w.casing = CMIF_CASE_FIRST;
                w.odd    = true;
                map_word(d, 'p', &w, draw_family, &part);
                for (size_t k = 0; k < part.size; k++) {
                    part.data[k] |= 32;
                }
                text_put(&t, part.data, part.size);
            } else {
                draw_pseudo(d, &part);
                text_put(&t, part.data, part.size);
            }
            cmif_wipe(name, sizeof name);
            i += n;
        }
        text_put(&t, "@", 1);
        map_host(d, (cmif_str){s.data + sign + 1, s.size - sign - 1}, &t);
        if (is_free(d, &t)) {
            key_start(d, 'e');
            for (size_t i = 0; i < s.size; i++) {
                char c = s.data[i];
                key_put(d, &(char){c >= 'A' && c <= 'Z' ? (char) (c + 32) : c}, 1);
            }
            add(d, VAULT_EXACT, s.data, s.size, &t);
            out_put(d, t.data, t.size);
            return;
        }
    }
    none_left(d);
}

/* ---- names ---- */

static const char *const titles[] = {
    "mr",   "mrs",     "ms",   "miss",   "mx",     "dr",      "prof",     "professor", "doctor", "sir",   "madam",
    "lord", "lady",    "herr", "frau",   "señor",  "señora",  "monsieur", "madame",    "mme",    "mlle",  "signor",
    "sig",  "signora", "rev",  "father", "sister", "brother", "captain",  "capt",      "sgt",    "judge", "jr",
    "ii",   "iii",     "phd",  "md",     "m",      "sr",      "sra",      "don",       "doña",   NULL};
static const char *const behind[]    = {"jr", "sr", "ii", "iii", "phd", "md", NULL};
static const char *const particles[] = {"de", "la", "le",  "van", "von", "der", "den", "del", "della",
                                        "di", "da", "dos", "du",  "al",  "el",  "bin", "ibn", "ben",
                                        "zu", "y",  "e",   "and", "und", "et",  NULL};
static const char *const forms[]     = {"inc",      "ltd",     "llc",         "llp",          "gmbh",       "ag",
                                        "sa",       "corp",    "co",          "plc",          "bv",         "nv",
                                        "oy",       "ab",      "kg",          "spa",          "srl",        "sas",
                                        "sarl",     "se",      "bank",        "university",   "hospital",   "clinic",
                                        "school",   "college", "group",       "holdings",     "foundation", "insurance",
                                        "partners", "limited", "corporation", "company",      "institute",  "church",
                                        "court",    "council", "association", "incorporated", NULL};
static const char *const openers[]   = {"rue", "via", "calle", "po",    "p",    "o",
                                        "box", "apt", "flat",  "suite", "unit", NULL};
static const char *const streets[]   = {"street",  "st",      "road",  "rd",    "avenue", "ave",    "lane",  "ln",
                                        "drive",   "dr",      "way",   "court", "place",  "square", "sq",    "boulevard",
                                        "blvd",    "terrace", "close", "row",   "po",     "box",    "apt",   "apartment",
                                        "flat",    "suite",   "unit",  "floor", "rue",    "via",    "calle", "straße",
                                        "strasse", "platz",   "weg",   "allee", "piazza", "plaza",  "north", "south",
                                        "east",    "west",    "n",     "s",     "e",      "w",      "no",    "the",
                                        "of",      "de",      "la",    "du",    "des",    "p",      "o",     NULL};

/* Under the key of a whole span: its words folded, one space between. */
static void key_words(draft *d, char kind, size_t first, size_t last)
{
    key_start(d, kind);
    for (size_t i = first; i <= last; i++) {
        word w = word_of(d, token_at(d, i));
        if (token_at(d, i)->kind == CMIF_TOKEN_SPACE || token_at(d, i)->kind == CMIF_TOKEN_LINE) {
            key_put(d, " ", 1);
        } else {
            key_put(d, w.fold.data, w.fold.size);
        }
    }
}

/* Keep the pair of tokens first to last, whose surrogate is what out holds from `from` on. */
static void add_whole(draft *d, char kind, size_t first, size_t last, size_t from)
{
    if (d->rc != CMIF_OK || d->out->size - from > VAULT_TEXT_MAX) {
        return;
    }
    vault_text t = {0};
    text_put(&t, d->out->data + from, d->out->size - from);
    word              end  = word_of(d, token_at(d, last));
    const cmif_token *a    = token_at(d, first);
    size_t            size = (size_t) (end.written.data - (const char *) d->scan->text) + end.written.size - a->from;
    key_words(d, kind, first, last);
    if (!find(d) && !vault_has(&d->v->taken, vault_compact_hash(d->v, t.data, t.size))) {
        add(d, VAULT_WORDS, d->scan->text + a->from, size, &t);
    }
}

/* Titles, numbers of kings and particles say nothing about who it is, where a name follows them or stands before;
 * alone, or in a text without capitals, they may be the name: "Don", "ben". The rest is drawn. */
static bool is_name_token(const draft *d, size_t i)
{
    const cmif_token *t = token_at(d, i);
    cmif_str          s = word_of(d, t).fold;
    if (t->kind != CMIF_TOKEN_WORD || is_ending(d, t)) {
        return false;
    }
    bool title = one_of(s, titles), particle = t->casing == CMIF_CASE_LOWER && one_of(s, particles),
         more = i > 0 && one_of(s, behind);
    for (size_t k = i + 1; k < d->span->count && k < i + 16 && !more; k++) {
        const cmif_token *next = token_at(d, k);
        cmif_str          fold = word_of(d, next).fold;
        more                   = next->kind == CMIF_TOKEN_WORD && !is_ending(d, next) && !one_of(fold, titles) &&
               (title || next->casing != CMIF_CASE_LOWER);
    }
    return !(more && (title || particle)) && !(title && d->span->part == CMIF_PART_TITLE);
}

static void put_person(draft *d)
{
    size_t first = SIZE_MAX, last = 0, names = 0, comma = SIZE_MAX;
    bool   marks = false;
    for (size_t i = 0; i < d->span->count; i++) {
        if (is_name_token(d, i)) {
            first = first == SIZE_MAX ? i : first;
            last  = i;
            names++;
        } else if (cmif_str_is(cmif_token_text(d->scan, token_at(d, i)), ",") && names == 1) {
            comma = i;
        }
    }
    for (size_t i = first; first != SIZE_MAX && i <= last; i++) {
        marks = marks || token_at(d, i)->kind == CMIF_TOKEN_MARK;
    }
    marks      = marks && last > first;
    bool start = false;
    if (first != SIZE_MAX) {
        key_words(d, 'P', first, last);
    }
    const vault_entry *whole = marks ? find(d) : NULL;
    size_t             from = 0, run = 0, run_from = 0; /* names with hyphens between: "Anne-Marie" comes back as one */
    for (size_t i = 0; i < d->span->count; i++) {
        const cmif_token *t = token_at(d, i);
        word              w = word_of(d, t);
        vault_text        s = {0};
        if (i == first && !start) {
            start = true;
            from  = d->out->size;
        }
        if (i == 0 || !cmif_str_is(cmif_token_text(d->scan, token_at(d, i - 1)), "-")) {
            if (!cmif_str_is(cmif_token_text(d->scan, t), "-")) {
                run      = i;
                run_from = d->out->size;
            }
        }
        if (whole && i >= first && i <= last) {
            if (i == first) {
                out_put(d, surrogate_of(d, whole), whole->surrogate_size);
            }
        } else if (t->kind == CMIF_TOKEN_NUMBER || (is_name_token(d, i) && w.fold.size == 1)) {
            draw_pattern(d, (const uint8_t *) (t->odd ? w.fold : w.written).data, (t->odd ? w.fold : w.written).size, 0,
                         &s);
        } else if (is_name_token(d, i)) {
            uint32_t flags;
            bool     family = i == last && names > 1 && comma == SIZE_MAX;
            family          = family || (comma != SIZE_MAX && i == first) || d->span->part == CMIF_PART_FAMILY;
            family          = family ||
                     (names == 1 && d->span->part != CMIF_PART_GIVEN && !listed(d, CMIF_LIST_GIVEN, w.fold, &flags));
            map_word(d, 'p', &w, family ? draw_family : draw_given, &s);
        } else {
            out_token(d, t);
            continue;
        }
        out_put(d, s.data, s.size);
        bool ends = i + 1 == d->span->count || !cmif_str_is(cmif_token_text(d->scan, token_at(d, i + 1)), "-");
        if (!whole && ends && run < i && run >= first) {
            add_whole(d, 'P', run, i, run_from);
        }
        if (i == last && marks && !whole) {
            add_whole(d, 'P', first, last, from);
        }
    }
}

static unsigned span_casing(const draft *d, size_t first, size_t last)
{
    unsigned upper = 0, lower = 0, words = 0;
    for (size_t i = first; i <= last; i++) {
        if (token_at(d, i)->kind == CMIF_TOKEN_WORD) {
            unsigned casing = word_of(d, token_at(d, i)).casing;
            upper += casing == CMIF_CASE_UPPER || (words > 0 && token_at(d, i)->fold_size == 1);
            lower += casing == CMIF_CASE_LOWER;
            words++;
        }
    }
    return words > 0 && upper == words   ? CMIF_CASE_UPPER
           : words > 0 && lower == words ? CMIF_CASE_LOWER
                                         : CMIF_CASE_FIRST;
}

/* One surrogate for tokens first to last, the ending of the last word after it. */
static void put_phrase(draft *d, char kind, size_t first, size_t last, draw_fn *draws)
{
    unsigned casing = span_casing(d, first, last);
    key_words(d, kind, first, last);
    const vault_entry *e     = find(d);
    vault_text         small = {0}, t = {0};
    size_t             from = d->out->size;
    if (e) {
        for (size_t i = 0; i < e->surrogate_size; i++) {
            uint8_t c = surrogate_of(d, e)[i];
            text_char(&small, c >= 'A' && c <= 'Z' ? c + 32u : c);
        }
    } else {
        draws(d, (cmif_str){(const char *) d->v->key.data + 1, d->v->key.size - 1}, &small);
    }
    for (size_t i = 0, n; i < small.size; i += n) {
        n = 0;
        while (i + n < small.size && small.data[i + n] != ' ') {
            n++;
        }
        text_cased(&t, small.data + i, n, casing);
        if (i + n < small.size) {
            text_put(&t, " ", 1);
            n++;
        }
    }
    out_put(d, t.data, t.size);
    if (!e) {
        add_whole(d, kind, first, last, from);
    }
}

static void draw_place(draft *d, cmif_str fold, vault_text *t)
{
    uint32_t kind;
    (void) listed(d, CMIF_LIST_PLACE, fold, &kind);
    kind &= KIND_COUNTRY | KIND_CITY | KIND_REGION;
    kind         = kind ? kind & (0u - kind) : KIND_CITY;
    size_t count = d->v->lists ? cmif_lists_count(d->v->lists, CMIF_LIST_PLACE) : 0;
    for (int round = 0; count > 0 && round < 4 * TRIES && d->rc == CMIF_OK; round++) {
        uint32_t flags, other;
        cmif_str name = cmif_lists_at(d->v->lists, CMIF_LIST_PLACE, draw(d, (uint32_t) count), &flags);
        bool     good = (flags & kind) && !(flags & ALSO_A_WORD);
        size_t   from = 0;
        *t            = (vault_text){0};
        text_put(t, name.data, name.size);
        good = good && is_free(d, t);
        /* Each word must be one that stands for nothing else. */
        for (size_t i = 0; good && i <= name.size; i++) {
            if (i == name.size || name.data[i] == ' ') {
                vault_text part = {0};
                cmif_str   one  = {name.data + from, i - from};
                text_put(&part, one.data, one.size);
                good = is_plain_name(one) && is_free(d, &part) && !listed(d, CMIF_LIST_GIVEN, one, &other) &&
                       !(name.size == one.size && listed(d, CMIF_LIST_FAMILY, one, &other));
                from = i + 1;
            }
        }
        if (good) {
            return;
        }
    }
    draw_pseudo(d, t);
}

static void put_words(draft *d, char kind, const char *const *suffixes, draw_fn *draws)
{
    size_t first = SIZE_MAX, last = SIZE_MAX;
    for (size_t i = 0; i < d->span->count; i++) {
        const cmif_token *t = token_at(d, i);
        if ((t->kind != CMIF_TOKEN_WORD && t->kind != CMIF_TOKEN_NUMBER) || is_ending(d, t)) {
            continue;
        }
        cmif_str fold = word_of(d, t).fold;
        if (first == SIZE_MAX && !cmif_str_is(fold, "the")) {
            first = i;
            last  = i;
        } else if (first != SIZE_MAX) {
            last = i;
        }
    }
    while (suffixes && first != SIZE_MAX && last > first &&
           (token_at(d, last)->kind != CMIF_TOKEN_WORD || one_of(word_of(d, token_at(d, last)).fold, suffixes))) {
        last--;
    }
    if (first == SIZE_MAX) {
        put_code(d, span_text(d));
        return;
    }
    for (size_t i = 0; i < d->span->count; i++) {
        if (i == first) {
            put_phrase(d, kind, first, last, draws);
            i = last;
        } else {
            out_token(d, token_at(d, i));
        }
    }
}

static void put_address(draft *d)
{
    size_t first = SIZE_MAX, last = 0, from = 0;
    bool   named = false; /* "North Street": only what stands behind a name is the kind of street */
    for (size_t i = 0; i < d->span->count; i++) {
        if (token_at(d, i)->kind == CMIF_TOKEN_WORD || token_at(d, i)->kind == CMIF_TOKEN_NUMBER) {
            first = first == SIZE_MAX ? i : first;
            last  = i;
        }
    }
    if (first == SIZE_MAX) {
        put_code(d, span_text(d));
        return;
    }
    key_words(d, 'A', first, last);
    const vault_entry *whole = find(d);
    for (size_t i = 0; i < d->span->count; i++) {
        const cmif_token *t      = token_at(d, i);
        word              w      = word_of(d, t);
        vault_text        s      = {0};
        bool              digits = t->kind == CMIF_TOKEN_NUMBER;
        for (size_t k = 0; k < w.fold.size; k++) {
            digits = digits || vault_is_digit((uint8_t) w.fold.data[k]);
        }
        from = i == first ? d->out->size : from;
        if (whole && i >= first && i <= last) {
            if (i == first) {
                out_put(d, surrogate_of(d, whole), whole->surrogate_size);
            }
        } else if (digits) {
            cmif_str p = t->odd ? w.fold : w.written;
            draw_pattern(d, (const uint8_t *) p.data, p.size, 0, &s);
        } else if (t->kind == CMIF_TOKEN_WORD && !is_ending(d, t) &&
                   !(one_of(w.fold, streets) && (named || one_of(w.fold, openers)))) {
            named = true;
            map_word(d, 'a', &w, draw_unknown, &s);
        } else {
            out_token(d, t);
            s.full = true;
        }
        if (!s.full) {
            out_put(d, s.data, s.size);
        }
        if (i == last && !whole && last > first) {
            add_whole(d, 'A', first, last, from);
        }
    }
}

static void put_unknown(draft *d)
{
    for (size_t i = 0; i < d->span->count; i++) {
        const cmif_token *t      = token_at(d, i);
        word              w      = word_of(d, t);
        vault_text        s      = {0};
        bool              digits = t->kind == CMIF_TOKEN_NUMBER;
        for (size_t k = 0; k < w.fold.size; k++) {
            digits = digits || vault_is_digit((uint8_t) w.fold.data[k]);
        }
        if (digits) {
            put_code(d, t->odd ? w.fold : w.written);
        } else if (t->kind == CMIF_TOKEN_WORD && !is_ending(d, t)) {
            bare_key(d, 'p', w.fold);
            map_word(d, find(d) ? 'p' : 'u', &w, draw_unknown, &s);
            out_put(d, s.data, s.size);
        } else {
            out_token(d, t);
            continue;
        }
    }
}

cmif_code vault_surrogate(cmif_vault *vault, const cmif_scan *scan, const cmif_span *span, cmif_secret *out,
                          cmif_err *err)
{
    draft d = {vault, scan, span, out, CMIF_OK, err};
    if (span->count == 0) {
        return CMIF_OK;
    }
    cmif_str all = span_text(&d); /* "2:35 pm" was seen in its parts only */
    d.rc         = vault_saw(vault, all.data, all.size, err);
    switch ((cmif_span_class) span->class) {
    case CMIF_SPAN_EMAIL:
        put_email(&d, span_text(&d));
        break;
    case CMIF_SPAN_URL:
        put_url(&d, span_text(&d));
        break;
    case CMIF_SPAN_HOST:
        put_host(&d, span_text(&d));
        break;
    case CMIF_SPAN_IP:
        put_ip(&d, span_text(&d));
        break;
    case CMIF_SPAN_GPS:
        put_measured(&d, span_text(&d), false);
        break;
    case CMIF_SPAN_TIME:
        put_measured(&d, span_text(&d), true);
        break;
    case CMIF_SPAN_DATE:
        put_date(&d, span_text(&d));
        break;
    case CMIF_SPAN_COUNT_NUMBER:
    case CMIF_SPAN_MONEY:
    case CMIF_SPAN_NUMBER:
    case CMIF_SPAN_PERCENT:
        put_number(&d, span_text(&d));
        break;
    case CMIF_SPAN_PHONE:
    case CMIF_SPAN_CARD:
    case CMIF_SPAN_IBAN:
    case CMIF_SPAN_ACCOUNT:
    case CMIF_SPAN_ID:
    case CMIF_SPAN_SECRET:
    case CMIF_SPAN_CRYPTO:
    case CMIF_SPAN_POSTCODE:
        put_code(&d, span_text(&d));
        break;
    case CMIF_SPAN_ADDRESS:
        put_address(&d);
        break;
    case CMIF_SPAN_PERSON:
        put_person(&d);
        break;
    case CMIF_SPAN_PLACE:
        put_words(&d, 'l', NULL, draw_place);
        break;
    case CMIF_SPAN_ORGANISATION:
        put_words(&d, 'o', forms, draw_unknown);
        break;
    case CMIF_SPAN_OTHER:
    case CMIF_SPAN_STOP:
    case CMIF_SPAN_WORD:
    case CMIF_SPAN_TOPIC:
    case CMIF_SPAN_UNKNOWN:
    case CMIF_SPAN_CLASSES:
        put_unknown(&d);
        break;
    }
    return d.rc;
}
