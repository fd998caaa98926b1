#include "sanitizer/patterns.h"

#include "sanitizer/entities.h"
#include "sanitizer/keys.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- characters ---- the text is folded: letters are small, or bytes of 0x80 and more */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_small(char c)
{
    return c >= 'a' && c <= 'z';
}
static bool is_letter(char c)
{
    return is_small(c) || (c & 0x80);
}
static bool is_alnum(char c)
{
    return is_digit(c) || is_letter(c);
}
static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f');
}
static bool is_in(char c, const char *set)
{
    return c && strchr(set, c);
}

static size_t count_of(const char *t, bool (*is)(char))
{
    size_t n = 0;
    while (is(t[n])) {
        n++;
    }
    return n;
}

static unsigned number_of(const char *t, size_t count)
{
    unsigned value = 0;
    for (size_t i = 0; i < count && i < 9; i++) {
        value = 10 * value + (unsigned) (t[i] - '0');
    }
    return value;
}

/* Bytes of the word that t begins with, if it stands in words (a space before and after each); 0: it does not. */
static size_t one_of(const char *t, const char *words)
{
    size_t n = count_of(t, is_letter);
    for (const char *at = words; n && *at; at++) {
        if (*at == ' ' && at[1] == *t && strncmp(at + 1, t, n) == 0 && at[n + 1] == ' ') {
            return n;
        }
    }
    return 0;
}

static size_t text_of(const char *t, const char *text)
{
    size_t n = strlen(text);
    return strncmp(t, text, n) == 0 ? n : 0;
}

static size_t space_of(const char *t)
{
    return *t == ' ';
}

typedef struct subject { /* of a matcher: it returns how many bytes of t are what it looks for; 0: none */
    const char *t, *raw;
    int class; /* what it is, where a matcher knows better */
} subject;

/* ---- e-mail, URL, host ---- */

static const char top_domains[] = " com org net edu gov mil int io ai dev app info biz co me tv cc xyz online site "
                                  "shop tech cloud store blog page local internal corp "
                                  "lan intranet localdomain example test invalid onion uk de fr es it nl be ch at ro "
                                  "ru pl cz sk hu se no dk fi is ie pt gr tr ua bg "
                                  "hr si rs lt lv ee us ca mx br ar cl pe uy au nz in pk bd lk cn jp kr tw hk sg my th "
                                  "vn ph id za ng ke gh eg ma tn il ae sa qa ir "
                                  "iq eu asia scot cat wales london berlin law bank health museum name mobi jobs ";

static size_t domain_of(const char *t, size_t *labels, size_t *last)
{
    size_t n = 0;
    *labels = *last = 0;
    for (;;) {
        size_t label = 0;
        while (is_alnum(t[n + label]) || (label && t[n + label] == '-' && is_alnum(t[n + label + 1])) ||
               (t[n + label] == '_' && label)) {
            label++;
        }
        if (label == 0 || label > 63) {
            return *labels ? n - 1 : 0; /* without the dot */
        }
        ++*labels;
        *last = n;
        n += label;
        if (t[n] != '.' || !is_alnum(t[n + 1])) {
            return n;
        }
        n++;
    }
}

/* " (at) ", "[at]", " at ": an @ that is spelled; loud is false where only the word says so */
static size_t spelled(const char *t, const char *word, bool *loud)
{
    size_t n    = space_of(t), w;
    char   open = t[n];
    if (is_in(open, "([{<") && (w = text_of(t + n + 1, word)) && is_in(t[n + 1 + w], ")]}>")) {
        n += w + 2;
        return n + space_of(t + n);
    }
    if (n && (w = text_of(t + n, word)) && t[n + w] == ' ') {
        *loud = false;
        return n + w + 1;
    }
    return 0;
}

static size_t email(subject *s)
{
    const char *t    = s->t;
    size_t      n    = 0, labels, last, at;
    bool        loud = true;
    while (is_alnum(t[n]) || (n && is_in(t[n], "._%+-'=&~!#"))) {
        n++;
    }
    if (n == 0 || n > 64 || !is_alnum(t[0])) {
        return 0;
    }
    if (t[n] == '@') {
        size_t domain = domain_of(t + n + 1, &labels, &last);
        return domain ? n + 1 + domain : 0;
    }
    at = spelled(t + n, "at", &loud);
    if (!at) {
        return 0;
    }
    n += at;
    for (labels = 0;; labels++) {
        size_t label = count_of(t + n, is_alnum), dot;
        if (label == 0) {
            return 0;
        }
        n += label;
        if (t[n] == '.' && is_alnum(t[n + 1])) {
            dot = 1;
        } else {
            bool loud_dot = true;
            dot           = spelled(t + n, "dot", &loud_dot);
            loud |= dot != 0;
        }
        if (!dot) {
            return labels && loud ? n : 0;
        }
        n += dot;
    }
}

static size_t scheme_of(const char *t)
{
    size_t n = count_of(t, is_small), w;
    while (n && (t[n] == '+' || t[n] == '-' || is_alnum(t[n])) && n < 16) {
        n++;
    }
    if (n && (w = text_of(t + n, "://"))) {
        return n + w;
    }
    return text_of(t, "www.");
}

/* What a URL may go on with; brackets and stops at its end are the sentence's. */
static size_t url_tail(const char *t)
{
    size_t n = 0, round = 0;
    while (t[n] && t[n] != ' ' && !is_in(t[n], "<>\"`|\n")) {
        round += t[n] == '(';
        if (t[n] == ')' && round-- == 0) {
            break;
        }
        n++;
    }
    while (n && is_in(t[n - 1], ".,;:!?'*_]}")) {
        n--;
    }
    return n;
}

static size_t url(subject *s)
{
    const char *t = s->t;
    size_t      n = scheme_of(t), labels, last;
    if (n) {
        size_t tail = url_tail(t + n);
        return tail ? n + tail : 0;
    }
    n = domain_of(t, &labels, &last);
    if (!n || labels < 2 || !one_of(t + last, top_domains) || last + one_of(t + last, top_domains) != n) {
        return 0;
    }
    s->class = CMIF_SPAN_HOST;
    if (t[n] == ':' && is_digit(t[n + 1])) {
        n += 1 + count_of(t + n + 1, is_digit);
    }
    if (t[n] == '/' && url_tail(t + n) > 1) {
        s->class = CMIF_SPAN_URL;
        n += url_tail(t + n);
    }
    return n;
}

/* ---- addresses of machines ---- */

static size_t ip4(subject *s)
{
    const char *t = s->t;
    size_t      n = 0;
    for (int part = 0; part < 4; part++) {
        size_t digits = count_of(t + n, is_digit);
        if (digits == 0 || digits > 3 || number_of(t + n, digits) > 255) {
            return 0;
        }
        n += digits;
        if (part < 3 && t[n++] != '.') {
            return 0;
        }
    }
    if (t[n] == '.' && is_digit(t[n + 1])) {
        return 0;
    }
    return t[n] == '/' && is_digit(t[n + 1]) ? n + 1 + count_of(t + n + 1, is_digit) : n;
}

static size_t ip6(subject *s)
{
    const char     *t = s->t;
    char            copy[64];
    struct in6_addr address;
    size_t          n = 0, colons = 0;
    while (is_hex(t[n]) || t[n] == ':' || (t[n] == '.' && is_digit(t[n + 1]))) {
        colons += t[n++] == ':';
    }
    while (n && t[n - 1] == ':' && !(n > 1 && t[n - 2] == ':')) {
        n--;
    }
    if (colons < 2 || n < 3 || n >= sizeof copy) {
        return 0;
    }
    memcpy(copy, t, n);
    copy[n] = '\0';
    return inet_pton(AF_INET6, copy, &address) == 1 ? n : 0;
}

/* Hexadecimal digits in groups of these sizes: of network cards, UUIDs. */
static size_t hex_groups(const char *t, const char *separators, const uint8_t *sizes, size_t count)
{
    size_t n         = 0;
    char   separator = 0;
    for (size_t group = 0; group < count; group++) {
        size_t digits = count_of(t + n, is_hex);
        if (digits != sizes[group]) {
            return 0;
        }
        n += digits;
        if (group + 1 < count) {
            if (!is_in(t[n], separators) || (separator && separator != t[n])) {
                return 0;
            }
            separator = t[n++];
        }
    }
    return n;
}

static size_t device(subject *s)
{
    const char          *t     = s->t;
    static const uint8_t mac[] = {2, 2, 2, 2, 2, 2}, uuid[] = {8, 4, 4, 4, 12};
    size_t               n = hex_groups(t, ":-", mac, sizeof mac);
    return n ? n : hex_groups(t, "-", uuid, sizeof uuid);
}

/* ---- numbers with check digits ---- */

bool cmif_pattern_luhn(const char *digits, size_t count)
{
    unsigned sum = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned d = (unsigned) (digits[count - 1 - i] - '0');
        d          = i % 2 ? 2 * d : d;
        sum += d > 9 ? d - 9 : d;
    }
    return count > 0 && sum % 10 == 0;
}

static size_t iban(subject *s)
{
    const char *t = s->t;
    char        code[34];
    size_t      count = 0, best = 0;
    if (!is_small(t[0]) || !is_small(t[1]) || !(is_digit(t[2]) || (t[2] == ' ' && is_digit(t[3])))) {
        return 0;
    }
    for (size_t n = 0; count < sizeof code && t[n]; n++) {
        if (is_digit(t[n]) || is_small(t[n])) {
            code[count++] = t[n];
        } else if (!(is_in(t[n], " -.") && (is_digit(t[n + 1]) || is_small(t[n + 1])))) {
            break;
        }
        if (count >= 15 && !is_alnum(t[n + 1])) {
            unsigned rest = 0;
            for (size_t i = 0; i < count; i++) {
                char c = code[(i + 4) % count];
                rest   = is_digit(c) ? (10 * rest + (unsigned) (c - '0')) % 97
                                     : (100 * rest + (unsigned) (c - 'a') + 10) % 97;
            }
            best = rest == 1 ? n + 1 : best;
        }
    }
    return best;
}

/* Digits in groups with one space or hyphen between; how many, and where the longest run ends that passes. */
static size_t card(subject *s)
{
    const char *t = s->t;
    char        digits[19];
    size_t      count = 0, best = 0;
    if (!is_in(t[0], "23456")) {
        return 0;
    }
    for (size_t n = 0; count < sizeof digits; n++) {
        if (is_digit(t[n])) {
            digits[count++] = t[n];
            if (count >= 13 && !is_digit(t[n + 1]) && cmif_pattern_luhn(digits, count)) {
                best = n + 1;
            }
        } else if (!(is_in(t[n], " -") && is_digit(t[n + 1]))) {
            break;
        }
    }
    return best && is_digit(t[best]) ? 0 : best;
}

/* d digits, s the separator: "ddd-dd-dddd" */
static size_t shape(const char *t, const char *form)
{
    size_t n = 0;
    for (; form[n]; n++) {
        bool fits = form[n] == 'd'   ? is_digit(t[n])
                    : form[n] == 'a' ? is_small(t[n])
                    : form[n] == 'x' ? is_alnum(t[n])
                                     : t[n] == form[n];
        if (!fits) {
            return 0;
        }
    }
    return is_alnum(t[n]) ? 0 : n;
}

static size_t identity(subject *s)
{
    const char              *t       = s->t;
    static const char *const forms[] = {"ddd-dd-dddd",                   /* US social security */
                                        "aadddddda",                     /* UK national insurance */
                                        "aa dd dd dd a",    "dddddddda", /* Spain's DNI, NIE */
                                        "adddddddda",       "aaddddddddda", "aaaddddd",
                                        "aaaaaddaaddaddda", "aaaaaddddda", /* Italy's codice fiscale, India's PAN */
                                        "aaaaaaddaddadddaa"};
    unsigned                 sum     = 0;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = shape(t, forms[i]);
        if (n) {
            return n;
        }
    }
    size_t n = shape(t, "ddd ddd dddd"); /* NHS, mod 11 */
    n        = n ? n : shape(t, "ddd-ddd-dddd");
    if (n) {
        unsigned weight = 10;
        for (size_t i = 0; i < n; i++) {
            sum += is_digit(t[i]) ? weight-- * (unsigned) (t[i] - '0') : 0;
        }
        return sum % 11 == 0 && t[3] == ' ' ? n : 0;
    }
    return 0;
}

static size_t postcode(subject *s)
{
    const char              *t       = s->t;
    static const char *const forms[] = {"ad daa", "add daa", "aad daa", "aadd daa", "ada daa", "aada daa", "ada dad"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = shape(t, forms[i]);
        if (n) {
            return n;
        }
    }
    return 0;
}

static size_t crypto(subject *s)
{
    const char *t = s->t;
    size_t      n = count_of(t, is_alnum);
    if (n == 42 && t[0] == '0' && t[1] == 'x' && count_of(t + 2, is_hex) == 40) {
        return n;
    }
    if (n >= 14 && n <= 90 && (text_of(t, "bc1") || text_of(t, "ltc1") || text_of(t, "tb1"))) {
        return n;
    }
    if ((n >= 26 && n <= 35 && is_in(t[0], "13lmd")) || (n == 95 && is_in(t[0], "48"))) { /* base58 has no 0, O, I, l */
        bool mixed = false;
        for (size_t i = 0; i < n; i++) {
            if (is_in(s->raw[i], "0OIl")) {
                return 0;
            }
            mixed |= i > 0 && is_digit(s->raw[i]) != is_digit(s->raw[0]);
        }
        return mixed ? n : 0;
    }
    return 0;
}

/* ---- dates and times ---- */

static size_t year_of(const char *t)
{
    size_t n = count_of(t, is_digit);
    return n == 4 && (t[0] == '1' || t[0] == '2') && !is_alnum(t[4])             ? 4
           : t[0] == '\'' && is_digit(t[1]) && is_digit(t[2]) && !is_alnum(t[3]) ? 3
                                                                                 : 0;
}

static size_t day_of(const char *t)
{
    size_t n = count_of(t, is_digit);
    if (n == 0 || n > 2 || number_of(t, n) == 0 || number_of(t, n) > 31) {
        return 0;
    }
    size_t ordinal = one_of(t + n, " st nd rd th er ste te ");
    return n + ordinal;
}

/* h:mm, h:mm:ss, 5 pm, 14h30, 9 o'clock, with zone */
static size_t time_of(const char *t)
{
    size_t n    = count_of(t, is_digit), w;
    bool   sure = false;
    if (n == 0 || n > 2 || number_of(t, n) > 24) {
        return 0;
    }
    bool dot = t[n] == '.';
    if ((t[n] == ':' || dot || t[n] == 'h') && is_digit(t[n + 1]) && is_digit(t[n + 2]) && !is_digit(t[n + 3]) &&
        number_of(t + n + 1, 2) < 60) {
        sure = !dot;
        n += 3;
        if ((t[n] == ':' || t[n] == '.') && is_digit(t[n + 1]) && is_digit(t[n + 2])) {
            n += 3;
            if (is_in(t[n], ".,") && is_digit(t[n + 1])) {
                n += 1 + count_of(t + n + 1, is_digit);
            }
        }
    }
    size_t gap = space_of(t + n);
    if ((w = one_of(t + n + gap, " am pm uhr h hrs noon ")) || (w = text_of(t + n + gap, "a.m.")) ||
        (w = text_of(t + n + gap, "p.m.")) || (w = text_of(t + n + gap, "a.m")) || (w = text_of(t + n + gap, "p.m")) ||
        (w = text_of(t + n + gap, "o'clock"))) {
        sure = true;
        n += gap + w;
        gap = space_of(t + n);
    }
    if (!sure) {
        return 0;
    }
    if (t[n] == 'z' && !is_alnum(t[n + 1])) {
        return n + 1;
    }
    if ((w = one_of(t + n + gap, " utc gmt cet cest est edt pst pdt cst bst ist "))) {
        n += gap + w;
        gap = space_of(t + n);
    }
    if (is_in(t[n + gap], "+-") && is_digit(t[n + gap + 1]) && is_digit(t[n + gap + 2])) {
        size_t zone = count_of(t + n + gap + 1, is_digit);
        zone += t[n + gap + 1 + zone] == ':' ? 1 + count_of(t + n + gap + 2 + zone, is_digit) : 0;
        n += zone <= 5 ? gap + 1 + zone : 0;
    }
    return n;
}

static size_t date_of(const char *t)
{
    size_t   a = count_of(t, is_digit), n, b, c, w, gap;
    unsigned x = number_of(t, a);

    if (a == 4 && x >= 1000 && x < 3000 && is_in(t[4], "-/.")) { /* 2024-05-17 */
        b = count_of(t + 5, is_digit);
        if (b >= 1 && b <= 2 && number_of(t + 5, b) >= 1 && number_of(t + 5, b) <= 12) {
            n = 5 + b;
            if (t[n] == t[4] && (c = day_of(t + n + 1)) && !is_digit(t[n + 1 + c])) {
                n += 1 + c;
                size_t more = t[n] == 't' ? time_of(t + n + 1) : 0;
                return n + (more ? 1 + more : 0);
            }
            return b == 2 && !is_alnum(t[n]) && !(is_in(t[n], "-/.") && is_digit(t[n + 1])) ? n : 0;
        }
    }
    if (a >= 1 && a <= 2 && is_in(t[a], "-/.")) { /* 17.05.2024, 5/17/24, 05/2018, 25/11 */
        char separator = t[a];
        b              = count_of(t + a + 1, is_digit);
        unsigned y     = number_of(t + a + 1, b);
        n              = a + 1 + b;
        if (b >= 1 && b <= 2 && x >= 1 && y >= 1 && x <= 31 && y <= 31 && (x <= 12 || y <= 12)) {
            gap = t[n] == separator ? 1 + (separator == '.' ? space_of(t + n + 1) : 0) : 0;
            c   = gap ? count_of(t + n + gap, is_digit) : 0;
            if ((c == 4 || (c == 2 && gap == 1)) && !is_alnum(t[n + gap + c])) {
                return n + gap + c;
            }
            return separator == '/' && !is_in(t[n], "/-.%") && !is_alnum(t[n]) ? n : 0;
        }
        if (b == 4 && x >= 1 && x <= 12 && separator != '-' && year_of(t + a + 1)) {
            return n;
        }
        size_t month = one_of(t + a + 1, cmif_key_months); /* 12-Mar-2024 */
        n            = a + 1 + month;
        if (month && t[n] == separator && (c = count_of(t + n + 1, is_digit)) && (c == 2 || c == 4)) {
            return n + 1 + c;
        }
    }
    if ((a = day_of(t))) { /* 12 March 2024, 12th of March, 4 de marzo de 2022 */
        n = a + (t[a] == '.');
        n += space_of(t + n);
        if ((w = one_of(t + n, " of de di do ")) && t[n + w] == ' ') {
            n += w + 1;
        }
        if ((w = one_of(t + n, cmif_key_months))) {
            n += w;
            size_t end = n;
            n += is_in(t[n], ".,") ? 1 : 0;
            n += space_of(t + n);
            if ((w = one_of(t + n, " of de del do ")) && t[n + w] == ' ') {
                n += w + 1;
            }
            c = year_of(t + n);
            return c ? n + c : end;
        }
    }
    w = one_of(t, cmif_key_months);
    if (w || one_of(t, cmif_key_seasons)) { /* March 12, 2024; Mar 2024; spring 2024 */
        bool season = !w;
        n           = season ? one_of(t, cmif_key_seasons) : w;
        n += is_in(t[n], ".,") ? 1 : 0;
        if (t[n] != ' ' && t[n] != '-') {
            return 0;
        }
        n++;
        if ((w = one_of(t + n, " of de del do ")) && t[n + w] == ' ') {
            n += w + 1;
        }
        if ((c = year_of(t + n))) {
            return n + c;
        }
        if (!season && (c = day_of(t + n)) && !is_in(t[n + c], "%:") && !(t[n + c] == '.' && is_digit(t[n + c + 1]))) {
            n += c;
            size_t end = n;
            n += t[n] == ',' ? 1 : 0;
            n += space_of(t + n);
            c = year_of(t + n);
            return c ? n + c : end;
        }
    }
    return 0;
}

static size_t date(subject *s)
{
    const char *t = s->t;
    size_t      n = one_of(t, cmif_key_weekdays), found;
    if (n) { /* Tue, 7 Nov 2023 */
        n += is_in(t[n], ".,") ? 1 : 0;
        n += space_of(t + n);
        n += text_of(t + n, "the ");
        found = date_of(t + n);
        return found ? n + found : 0;
    }
    found = date_of(t);
    if (found) {
        return found;
    }
    n = year_of(t);
    if (n == 4 && number_of(t, 4) >= 1900 && number_of(t, 4) < 2100 && !(is_in(t[4], ".,:/-") && is_digit(t[5]))) {
        return 4;
    }
    return count_of(t, is_digit) == 4 && t[4] == 's' && !is_alnum(t[5]) ? 5 : 0; /* 1990s */
}

static size_t clock_time(subject *s)
{
    const char *t = s->t;
    return time_of(t);
}

/* ---- phone ---- */

static size_t phone_with(const char *t, size_t least, size_t most)
{
    size_t n = 0, digits = 0, end = 0;
    while (t[n]) {
        if (is_digit(t[n])) {
            digits++;
            n++;
            end = is_digit(t[n]) ? end : n;
        } else if (is_in(t[n], " -./()") && digits + (t[n] == '(') > 0) {
            size_t gap = 1; /* at most two of them, as in ") " and " / " */
            while (gap < 3 && is_in(t[n + gap], " -./()")) {
                gap++;
            }
            if (!is_digit(t[n + gap]) || digits >= most) {
                break;
            }
            n += gap;
        } else {
            break;
        }
        if (digits > most) {
            return 0;
        }
    }
    return digits >= least && !is_letter(t[end]) ? end : 0;
}

static size_t extension_of(const char *t)
{
    size_t n = 0, w;
    n += t[n] == ',';
    n += space_of(t + n);
    w = one_of(t + n, " ext extension x durchwahl ");
    if (!w) {
        return 0;
    }
    n += w + (t[n + w] == '.');
    n += space_of(t + n);
    return is_digit(t[n]) ? n + count_of(t + n, is_digit) : 0;
}

static size_t phone(subject *s)
{
    const char              *t       = s->t;
    static const char *const forms[] = {"(ddd) ddd-dddd", "(ddd)ddd-dddd",  "ddd-ddd-dddd", "ddd.ddd.dddd",
                                        "ddd ddd dddd",   "ddd ddd-dddd",   "ddd-dddd",     "1-ddd-ddd-dddd",
                                        "d-ddd-ddd-dddd", "(ddd) ddd dddd", "ddd/ddd-dddd"};
    size_t                   n       = 0;
    if (t[0] == '+' && is_digit(t[1])) {
        n = phone_with(t + 1, 7, 15);
        n += n ? 1 : 0;
    } else if (t[0] == '+' && t[1] == '(') {
        n = phone_with(t + 2, 7, 15);
        n += n ? 2 : 0;
    } else if (t[0] == '0' && t[1] == '0' && is_digit(t[2])) {
        n = phone_with(t, 9, 17);
    } else if (t[0] == '0' && is_digit(t[1])) {
        n = phone_with(t, 9, 12);
    } else if (t[0] == '(' && t[1] == '0') {
        n = phone_with(t + 1, 9, 12);
        n = n && memchr(t + 1, ')', n) ? n + 1 : 0;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !n; i++) {
        n = shape(t, forms[i]);
    }
    return n ? n + extension_of(t + n) : 0;
}

/* ---- places on a map ---- */

static size_t coordinate(const char *t)
{
    size_t n = is_in(t[0], "+-") ? 1 : 0, digits = count_of(t + n, is_digit), w;
    if (digits == 0 || digits > 3 || number_of(t + n, digits) > 180) {
        return 0;
    }
    n += digits;
    if (t[n] == '.') {
        size_t decimals = count_of(t + n + 1, is_digit);
        if (decimals < 3) {
            return 0;
        }
        n += 1 + decimals;
        n += text_of(t + n, "\u00b0");
    } else if ((w = text_of(t + n, "\u00b0"))) { /* degrees, minutes, seconds */
        n += w;
        while (is_digit(t[n]) || is_in(t[n], " .'\"") || (w = text_of(t + n, "\u2032")) ||
               (w = text_of(t + n, "\u2033"))) {
            n += is_digit(t[n]) || is_in(t[n], " .'\"") ? 1 : w;
        }
    } else {
        return 0;
    }
    w = space_of(t + n);
    return is_in(t[n + w], "nsewo") && !is_alnum(t[n + w + 1]) ? n + w + 1 : n;
}

static size_t gps(subject *s)
{
    const char *t = s->t;
    size_t      n = coordinate(t), second;
    if (!n) {
        return 0;
    }
    size_t gap = is_in(t[n], ",;/") ? 1 : 0;
    gap += space_of(t + n + gap);
    second = gap ? coordinate(t + n + gap) : 0;
    return second ? n + gap + second : strstr(t, "\u00b0") && is_in(t[n - 1], "nsewo") ? n : 0;
}

/* ---- amounts ---- */

static const char *const currency_signs[] = {
    "us$",    "a$",     "c$",     "nz$",    "hk$",    "s$",     "r$",     "mx$",    "$",      "\u20ac", "\u00a3",
    "\u00a5", "\u20b9", "\u20bd", "\u20ba", "\u20a6", "\u20a9", "\u20aa", "\u20ab", "\u0e3f", "\u20b4", "\u20bf"};
static const char multipliers[] =
    " k m mn bn b mio mrd tsd million millions billion billions thousand trillion lakh lakhs crore crores ";

static size_t sign_of(const char *t)
{
    for (size_t i = 0; i < sizeof currency_signs / sizeof *currency_signs; i++) {
        size_t n = text_of(t, currency_signs[i]);
        if (n) {
            return n;
        }
    }
    return 0;
}

/* 1,234.50  1.234,50  12 500  1'000  3.5  148/92  4.12.1  10-12 */
static size_t amount(const char *t)
{
    size_t n = count_of(t, is_digit);
    if (n == 0) {
        return 0;
    }
    for (;;) {
        bool joined = is_in(t[n], ".,:/'-_x") && is_digit(t[n + 1]);
        bool spaced = t[n] == ' ' && n <= 3 && count_of(t + n + 1, is_digit) == 3 && !is_alnum(t[n + 4]);
        if (t[n] == ' ' && n > 4 && t[n - 4] == ' ') { /* the next thousands */
            spaced = count_of(t + n + 1, is_digit) == 3 && !is_alnum(t[n + 4]);
        }
        if (!joined && !spaced) {
            return n;
        }
        n += 1 + count_of(t + n + 1, is_digit);
    }
}

static size_t multiplier_of(const char *t)
{
    size_t gap = space_of(t), n = one_of(t + gap, multipliers);
    return n && !(gap && n == 1) ? gap + n : 0;
}

static size_t money(subject *s)
{
    const char *t = s->t;
    size_t      n = is_in(t[0], "+-") ? 1 : 0, sign = sign_of(t + n), code, number, gap;
    code = sign ? 0 : one_of(t + n, cmif_key_currencies);
    if (sign || code) {
        n += sign + code;
        n += t[n] == '.' && t[n + 1] == ' ' ? 1 : 0;
        n += space_of(t + n);
        n += is_in(t[n], "+-") ? 1 : 0;
        number = amount(t + n);
        if (!number) {
            return 0;
        }
        n += number;
        n += multiplier_of(t + n);
        gap  = space_of(t + n);
        code = sign ? one_of(t + n + gap, cmif_key_currencies) : 0;
        return n + (code ? gap + code : 0);
    }
    number = amount(t + n);
    if (!number) {
        return 0;
    }
    n += number;
    n += multiplier_of(t + n);
    gap  = space_of(t + n);
    code = one_of(t + n + gap, cmif_key_currencies);
    sign = code ? 0 : sign_of(t + n + gap);
    return code || sign ? n + gap + code + sign : 0;
}

static size_t percent(subject *s)
{
    const char              *t       = s->t;
    static const char *const words[] = {"%",         "percent",    "per cent",   "pct",   "prozent",
                                        "pour cent", "por ciento", "percentage", "\u2030"};
    size_t                   n = is_in(t[0], "+-") ? 1 : 0, number = amount(t + n);
    n += number;
    n += number ? space_of(t + n) : 0;
    for (size_t i = 0; number && i < sizeof words / sizeof *words; i++) {
        size_t w = text_of(t + n, words[i]);
        if (w && !(is_letter(t[n]) && is_alnum(t[n + w]))) {
            return n + w;
        }
    }
    return 0;
}

/* ---- codes ---- groups of letters and digits with - / _ . between; letters alone must be capitals */

static size_t code(subject *s)
{
    const char *t = s->t;
    size_t      n = 0, digits = 0, total = 0, groups = 0, letters = 0;
    for (;;) {
        size_t group = count_of(t + n, is_alnum), own = 0, lower = 0;
        for (size_t i = 0; i < group; i++) {
            own += is_digit(t[n + i]);
            lower += is_small(s->raw[n + i]) || (s->raw[n + i] & 0x80);
        }
        bool before_digits =
            group <= 4 && is_in(t[n + group], "-/_") && count_of(t + n + group + 1, is_digit) >= 3; /* inc-0048213 */
        if (group == 0 || (own == 0 && ((lower > 0 && !before_digits && !(group == 1 && digits > 3)) || group > 6))) {
            break;
        }
        groups++;
        n += group;
        total += group;
        digits += own;
        letters += group - own;
        if (!is_in(t[n], "-/_.") || !is_alnum(t[n + 1])) {
            n++;
            break;
        }
        n++;
    }
    n -= n > 0;
    bool long_digits = digits == total && groups > 1 && total >= 9 && !memchr(t, '.', n);
    return digits >= 2 && total >= 5 && ((letters && letters < total) || long_digits) ? n : 0;
}

/* What a word before has announced: groups with digits, with one space - / . between. */
static size_t announced(const char *t, const char *raw, bool upper_first)
{
    size_t n = 0, digits = 0, end = 0;
    for (size_t groups = 0; groups < 9; groups++) {
        size_t group = count_of(t + n, is_alnum), own = 0, lower = 0;
        for (size_t i = 0; i < group; i++) {
            own += is_digit(t[n + i]);
            lower += is_small(raw[n + i]) || (raw[n + i] & 0x80);
        }
        if (group == 0 || (own == 0 && (lower > 0 || group > 4 || (!upper_first && groups == 0)))) {
            break;
        }
        n += group;
        digits += own;
        end = own || n == group || is_in(t[n - group - 1], "-/.") ? n : end;
        if (!is_in(t[n], " -/.") || !is_alnum(t[n + 1])) {
            break;
        }
        n++;
    }
    return digits >= 3 || (digits && end == digits && digits >= 2) ? end : 0;
}

static size_t any_number(subject *s)
{
    const char *t = s->t;
    size_t      n = is_in(t[0], "+-") && is_digit(t[1]) ? 1 : 0, number = amount(t + n);
    if (!number) {
        return 0;
    }
    n += number;
    return n + multiplier_of(t + n);
}

/* ---- all of them, the surest first ---- */

/* What it begins with: anything, no word of letters only, or such a word only if it has the key. */
enum { ANY = -1, NO_WORD = 1 << 30 };

static const struct {
    size_t (*match)(subject *s);
    uint8_t class;
    bool    loose; /* another reading may be better */
    int32_t begins;
} matchers[] = {{email, CMIF_SPAN_EMAIL, false, ANY},
                {device, CMIF_SPAN_ID, false, ANY},
                {ip4, CMIF_SPAN_IP, false, NO_WORD},
                {ip6, CMIF_SPAN_IP, false, ANY},
                {url, CMIF_SPAN_URL, false, ANY},
                {crypto, CMIF_SPAN_CRYPTO, false, NO_WORD},
                {iban, CMIF_SPAN_IBAN, false, ANY},
                {gps, CMIF_SPAN_GPS, false, NO_WORD},
                {identity, CMIF_SPAN_ID, true, ANY},
                {postcode, CMIF_SPAN_POSTCODE, true, NO_WORD},
                {money, CMIF_SPAN_MONEY, false, KEY_CURRENCY},
                {percent, CMIF_SPAN_PERCENT, false, NO_WORD},
                {date, CMIF_SPAN_DATE, true, KEY_DATE},
                {card, CMIF_SPAN_CARD, false, NO_WORD},
                {phone, CMIF_SPAN_PHONE, true, NO_WORD},
                {clock_time, CMIF_SPAN_TIME, true, NO_WORD},
                {code, CMIF_SPAN_ID, true, ANY},
                {any_number, CMIF_SPAN_NUMBER, true, NO_WORD}};

static bool ends_token(const cmif_window *w, size_t n)
{
    return n > 0 && n <= w->size && w->tokens[n] > 0;
}

int cmif_pattern_match(const cmif_window *w, int hint, size_t *size)
{
    if (hint == CMIF_SPAN_ID) { /* "card" announces an id, but a card is surer */
        subject s = {w->text, w->raw, CMIF_SPAN_CARD};
        size_t  n = card(&s);
        if (ends_token(w, n)) {
            *size = n;
            return CMIF_SPAN_CARD;
        }
    }
    for (size_t i = 0; i < sizeof matchers / sizeof *matchers; i++) {
        subject s = {w->text, w->raw, matchers[i].class};
        size_t  n = (uint32_t) matchers[i].begins & w->begins ? matchers[i].match(&s) : 0;
        if (hint && matchers[i].loose &&
            s.class != hint) { /* what was announced goes before what only looks like something */
            size_t m =
                hint == CMIF_SPAN_PHONE ? phone_with(w->text, 3, 15) : announced(w->text, w->raw, hint == CMIF_SPAN_ID);
            if (m >= n && ends_token(w, m)) {
                *size = m;
                return hint;
            }
        }
        if (ends_token(w, n)) {
            *size = n;
            return s.class;
        }
    }
    return 0;
}

/* ---- secrets ---- */

size_t cmif_pattern_secret(const char *raw, size_t size)
{
    static const char *const prefixes[] = {
        "sk-",    "sk_",   "pk_",   "rk_",   "ghp_",    "gho_",   "ghu_",   "ghs_", "ghr_",           "github_pat_",
        "glpat-", "xoxb-", "xoxp-", "xoxa-", "xoxs-",   "xapp-",  "AKIA",   "ASIA", "AIza",           "ya29.",
        "SG.",    "hf_",   "npm_",  "pypi-", "dop_v1_", "shpat_", "whsec_", "eyJ",  "AGE-SECRET-KEY-"};
    size_t   n = 0, best = 0, kinds = 0, changes = 0, digits = 0, hex = 0, words = 0, run = 0;
    unsigned seen = 0, last = 9;

    for (; n < size; n++) {
        char     c    = raw[n];
        unsigned kind = c >= 'A' && c <= 'Z'   ? 0
                        : c >= 'a' && c <= 'z' ? 1
                        : is_digit(c)          ? 2
                        : is_in(c, "-_+/.~")   ? 3
                        : c == '='             ? 4
                                               : 9;
        if (kind == 9 || (kind == 4 && n + 2 < size && raw[n + 1] != '=' && is_alnum(raw[n + 1] | 0x20) && n < 16)) {
            break;
        }
        seen |= 1u << kind;
        digits += kind == 2;
        hex += is_hex(c | 0x20) ? 1 : 0;
        changes += kind != last && last != 9;
        run = kind == 1 ? run + 1 : 0;
        words += run == 5;
        last = kind;
        best = kind < 3 || kind == 4 ? n + 1 : best;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t p = strlen(prefixes[i]);
        if (best >= p + 12 && memcmp(raw, prefixes[i], p) == 0) {
            return best;
        }
    }
    kinds = (seen & 1) + (seen >> 1 & 1) + (seen >> 2 & 1);
    bool mixed =
        best >= 20 && kinds == 3 && digits >= (best >= 32 ? 1u : 2u) && changes >= best / 5 && words <= best / 12;
    bool is_key = best >= 32 && hex == best && digits >= 6;
    return mixed || is_key ? best : 0;
}
