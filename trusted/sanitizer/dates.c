#include "sanitizer/dates.h"

#include <string.h>
#include <utf8proc.h>

enum { LANGUAGES = 5, LONGEST_NAME = 10 };

/* Small letters; what else is written is made so first. The first language with a name is taken: a month that reads
 * alike in two of them is written alike in most others. */
static const char *const months[LANGUAGES][12] = {
    {"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
     "december"},
    {"januar", "februar", "märz", "april", "mai", "juni", "juli", "august", "september", "oktober", "november",
     "dezember"},
    {"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
     "décembre"},
    {"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
     "diciembre"},
    {"gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre", "ottobre",
     "novembre", "dicembre"},
};
static const char *const short_months[12] = {"jan", "feb", "mar", "apr", "may", "jun",
                                             "jul", "aug", "sep", "oct", "nov", "dec"};

/* ---- the calendar ---- Hinnant's "chrono-compatible low-level date algorithms": years begin in March. */

int32_t cmif_date_days(uint32_t date)
{
    int32_t year = (int32_t) (date / 10000), month = (int32_t) (date / 100 % 100), day = (int32_t) (date % 100);
    year -= month <= 2;
    int32_t era = year / 400, of_era = year - era * 400;
    int32_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

uint32_t cmif_date_of_days(int32_t days)
{
    if (days < -719162 || days > 2932896) { /* 0001-01-01, 9999-12-31 */
        return 0;
    }
    days += 719468;
    int32_t era = days / 146097, of_era = days - era * 146097;
    int32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100), m = (5 * of_year + 2) / 153;
    int32_t day = of_year - (153 * m + 2) / 5 + 1, month = m + (m < 10 ? 3 : -9);
    return (uint32_t) ((year_of_era + era * 400 + (month <= 2)) * 10000 + month * 100 + day);
}

bool cmif_date_is(uint32_t date)
{
    uint32_t year = date / 10000, month = date / 100 % 100, day = date % 100;
    if (month == 0) {
        return day == 0 && year > 0;
    }
    static const uint8_t days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool                 leap     = year == 0 || (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    return month <= 12 && day <= days[month - 1] && (month != 2 || day < 29 || leap);
}

/* ---- reading ---- */

typedef struct reading {
    cmif_date_char at;
    void          *context;
    cmif_date     *out;
} reading;

static uint32_t small_at(const reading *r, size_t i)
{
    return (uint32_t) utf8proc_tolower((utf8proc_int32_t) r->at(r->context, i));
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint32_t c)
{
    return c >= 'A' && utf8proc_category((utf8proc_int32_t) c) <= UTF8PROC_CATEGORY_LO &&
           utf8proc_category((utf8proc_int32_t) c) >= UTF8PROC_CATEGORY_LU;
}

/* Digits at i: how many (5: more than four), and their value. */
static size_t digits(const reading *r, size_t i, uint32_t *value)
{
    size_t n = 0;
    for (*value = 0; n < 5 && is_digit(r->at(r->context, i + n)); n++) {
        *value = *value * 10 + r->at(r->context, i + n) - '0';
    }
    return n;
}

/* Whether a whole word stands at i; its size in characters. */
static size_t word(const reading *r, size_t i, const char *text)
{
    size_t n = 0;
    for (const uint8_t *p = (const uint8_t *) text; *p; n++) {
        utf8proc_int32_t c;
        p += utf8proc_iterate(p, -1, &c);
        if (small_at(r, i + n) != (uint32_t) c) {
            return 0;
        }
    }
    return is_letter(r->at(r->context, i + n)) ? 0 : n;
}

/* prefer: a language to read names in that several have. */
static size_t month_name(const reading *r, size_t i, uint8_t prefer, uint32_t *month)
{
    if (!is_letter(r->at(r->context, i))) {
        return 0;
    }
    for (uint32_t m = 0; m < 12; m++) {
        for (uint8_t k = 0; k < LANGUAGES; k++) {
            uint8_t language = (uint8_t) ((prefer + k) % LANGUAGES);
            size_t  n        = word(r, i, months[language][m]);
            if (n > 0) {
                r->out->language = language;
                *month           = m + 1;
                return n;
            }
        }
        size_t n = word(r, i, short_months[m]);
        n        = n == 0 && m == 8 ? word(r, i, "sept") : n;
        if (n > 0) {
            r->out->language    = 0;
            r->out->short_month = true;
            *month              = m + 1;
            return n;
        }
    }
    return 0;
}

static void piece(const reading *r, size_t from, size_t size, cmif_date_what what)
{
    r->out->piece[r->out->pieces++] = (struct cmif_date_piece){(uint8_t) from, (uint8_t) size, (uint8_t) what};
}

static bool finish(const reading *r, size_t size, uint32_t year, uint32_t month, uint32_t day)
{
    uint32_t next = r->at(r->context, size);
    r->out->size  = size;
    r->out->date  = year * 10000 + month * 100 + day;
    return !is_digit(next) && cmif_date_is(r->out->date);
}

static uint32_t whole_year(uint32_t year, size_t width)
{
    return width == 4 ? year : year + (year < 50 ? 2000 : 1900);
}

/* Three numbers with one separator, the year first or last. */
static bool read_numbers(const reading *r, uint32_t first, size_t width)
{
    uint32_t separator = r->at(r->context, width), second, third;
    if (separator != '-' && separator != '/' && separator != '.') {
        return false;
    }
    size_t at2 = width + 1, width2 = digits(r, at2, &second), at3 = at2 + width2 + 1;
    if (width2 < 1 || width2 > 2 || r->at(r->context, at3 - 1) != separator) {
        return false;
    }
    size_t width3 = digits(r, at3, &third);
    if (width == 4) {
        r->out->padded = width2 == 2;
        piece(r, 0, 4, CMIF_DATE_YEAR);
        piece(r, at2, width2, CMIF_DATE_MONTH);
        piece(r, at3, width3, CMIF_DATE_DAY);
        return width3 >= 1 && width3 <= 2 && finish(r, at3 + width3, first, second, third);
    }
    if (width > 2 || (width3 != 2 && width3 != 4)) {
        return false;
    }
    /* Slashes put the month first in most English texts; other marks, and a month above 12, the day. */
    uint32_t year      = whole_year(third, width3);
    bool     day_first = separator == '/' ? first > 12 : second <= 12;
    r->out->padded     = width == 2 && width2 == 2;
    piece(r, 0, width, day_first ? CMIF_DATE_DAY : CMIF_DATE_MONTH);
    piece(r, at2, width2, day_first ? CMIF_DATE_MONTH : CMIF_DATE_DAY);
    piece(r, at3, width3, CMIF_DATE_YEAR);
    uint32_t other = year * 10000 + (day_first ? first * 100 + second : second * 100 + first);
    r->out->other  = first != second && cmif_date_is(other) ? other : 0;
    return day_first ? finish(r, at3 + width3, year, second, first) : finish(r, at3 + width3, year, first, second);
}

static size_t spaces(const reading *r, size_t i)
{
    size_t n = 0;
    while (n < 3 && (r->at(r->context, i + n) == ' ' || r->at(r->context, i + n) == 0xa0)) {
        n++;
    }
    return n;
}

/* "st", "nd", "rd", "th" at i. */
static size_t ordinal(const reading *r, size_t i)
{
    static const char *const all[] = {"st", "nd", "rd", "th"};
    size_t                   n     = 0;
    for (size_t k = 0; k < 4 && n == 0; k++) {
        n = word(r, i, all[k]);
    }
    return n;
}

/* A year after a month or day, with what may stand between; 0: there is none, and the date ends at i. */
static size_t year_after(const reading *r, size_t i, uint32_t *year)
{
    size_t at = i;
    at += r->at(r->context, at) == '.';
    at += r->at(r->context, at) == ',';
    size_t gap = spaces(r, at);
    if (gap == 0 && r->at(r->context, at) == '-') {
        gap = 1;
    }
    at += gap;
    static const char *const links[] = {"of", "de", "del"};
    for (size_t k = 0; k < 3; k++) {
        size_t n = word(r, at, links[k]);
        if (n > 0 && spaces(r, at + n) > 0) {
            at += n + spaces(r, at + n);
            break;
        }
    }
    uint32_t value;
    if (at == i || digits(r, at, &value) != 4 || value < 1000 || value > 2999) {
        return 0;
    }
    *year = value;
    piece(r, at, 4, CMIF_DATE_YEAR);
    return at + 4;
}

static bool read_day_month(const reading *r, uint32_t day, size_t width)
{
    size_t  at = width, n = ordinal(r, at);
    uint8_t german = 0;
    piece(r, 0, width, CMIF_DATE_DAY);
    r->out->padded = r->at(r->context, 0) == '0';
    if (n > 0) {
        piece(r, at, n, CMIF_DATE_ORDINAL);
    } else if (r->at(r->context, at) == '.') { /* "3. August" */
        n      = 1;
        german = 1;
    }
    at += n;
    size_t gap = spaces(r, at);
    gap        = gap == 0 && n == 0 && r->at(r->context, at) == '-' ? 1 : gap;
    if (gap == 0) {
        return false;
    }
    at += gap;
    static const char *const links[] = {"of", "de", "di"};
    for (size_t k = 0; k < 3; k++) {
        n = word(r, at, links[k]);
        if (n > 0 && spaces(r, at + n) > 0) {
            at += n + spaces(r, at + n);
            break;
        }
    }
    uint32_t month = 0, year = 0;
    size_t   name = month_name(r, at, german, &month);
    if (name == 0) {
        return false;
    }
    piece(r, at, name, CMIF_DATE_MONTH_NAME);
    at += name;
    size_t end = year_after(r, at, &year);
    return finish(r, end > 0 ? end : at, year, month, day);
}

static bool read_month_day(const reading *r, uint32_t month, size_t name)
{
    piece(r, 0, name, CMIF_DATE_MONTH_NAME);
    uint32_t year = 0, day = 0;
    size_t   at = name + (r->at(r->context, name) == '.'), gap = spaces(r, at), width = digits(r, at + gap, &day);
    if (gap > 0 && width >= 1 && width <= 2) {
        at += gap;
        piece(r, at, width, CMIF_DATE_DAY);
        r->out->padded = r->at(r->context, at) == '0';
        at += width;
        size_t n = ordinal(r, at);
        if (n > 0) {
            piece(r, at, n, CMIF_DATE_ORDINAL);
        }
        at += n;
        size_t pieces = r->out->pieces, end = pieces < 4 ? year_after(r, at, &year) : 0;
        return finish(r, end > 0 ? end : at, year, month, day);
    }
    size_t end = year_after(r, name, &year);
    return end > 0 && finish(r, end, year, month, 0);
}

bool cmif_date_read(cmif_date_char at, void *context, cmif_date *out)
{
    cmif_date found = {0};
    reading   r     = {at, context, &found};
    uint32_t  value;
    size_t    width = digits(&r, 0, &value);
    bool      good  = false;
    if (width == 1 || width == 2 || width == 4) {
        good = read_numbers(&r, value, width);
        if (!good && width <= 2) {
            found = (cmif_date){0};
            good  = value > 0 && read_day_month(&r, value, width);
        }
    } else if (width == 0) {
        size_t name = month_name(&r, 0, 0, &value);
        good        = name > 0 && read_month_day(&r, value, name);
    }
    if (good) {
        *out = found;
    }
    return good;
}

/* ---- writing ---- */

static size_t write_number(uint32_t value, size_t width, uint8_t *out)
{
    size_t n = 0;
    for (uint32_t power = 1000; power > 0; power /= 10) {
        if (n > 0 || value >= power || power == 1 || (width == 2 && power == 10)) {
            out[n++] = (uint8_t) ('0' + value / power % 10);
        }
    }
    return n;
}

static size_t write_month(const cmif_date *form, uint32_t month, uint32_t first, uint32_t second, uint8_t *out)
{
    const char *name = form->short_month ? short_months[month - 1] : months[form->language][month - 1];
    bool        big  = utf8proc_tolower((utf8proc_int32_t) first) != (utf8proc_int32_t) first,
         all         = big && utf8proc_tolower((utf8proc_int32_t) second) != (utf8proc_int32_t) second;
    size_t n         = 0;
    for (const uint8_t *p = (const uint8_t *) name; *p;) {
        utf8proc_int32_t c;
        p += utf8proc_iterate(p, -1, &c);
        n += (size_t) utf8proc_encode_char(all || (big && n == 0) ? utf8proc_toupper(c) : c, out + n);
    }
    return n;
}

size_t cmif_date_piece_write(const cmif_date *form, size_t index, uint32_t date, uint32_t first, uint32_t second,
                             uint8_t out[static 16])
{
    const struct cmif_date_piece *p    = &form->piece[index];
    uint32_t                      year = date / 10000, month = date / 100 % 100, day = date % 100;
    switch ((cmif_date_what) p->what) {
    case CMIF_DATE_YEAR:
        return write_number(p->size == 2 ? year % 100 : year, p->size, out);
    case CMIF_DATE_MONTH:
        return write_number(month, form->padded ? 2 : 1, out);
    case CMIF_DATE_MONTH_NAME:
        return write_month(form, month, first, second, out);
    case CMIF_DATE_DAY:
        return write_number(day, form->padded ? 2 : 1, out);
    case CMIF_DATE_ORDINAL:
        break;
    }
    static const char endings[4][3] = {"th", "st", "nd", "rd"};
    memcpy(out, endings[day / 10 != 1 && day % 10 <= 3 ? day % 10 : 0], 2);
    return 2;
}
