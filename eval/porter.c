#include "porter.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct word {
    char  *text;
    size_t size;
} word;

static bool vowel(char c)
{
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
}

/* a y is a consonant at the start and after a vowel: in a run of them, every other one */
static bool consonant(const char *text, size_t at)
{
    bool turned = false;
    for (; at > 0 && text[at] == 'y'; at--) {
        turned = !turned;
    }
    return !vowel(text[at]) != turned;
}

/* Porter's m: how often a consonant follows a vowel in the first size letters; vowels, if asked, how many there are */
static size_t measure(const char *text, size_t size, size_t *vowels)
{
    size_t count = 0, some = 0;
    bool   before = true;
    for (size_t i = 0; i < size; i++) {
        bool now = text[i] == 'y' ? i == 0 || !before : !vowel(text[i]);
        count += now && !before;
        some += !now;
        before = now;
    }
    if (vowels) {
        *vowels = some;
    }
    return count;
}

/* consonant, vowel, consonant other than w, x, y; or (NLTK) nothing but a vowel and a consonant */
static bool ends_cvc(const char *text, size_t size)
{
    if (size == 2) {
        return !consonant(text, 0) && consonant(text, 1);
    }
    return size >= 3 && consonant(text, size - 3) && !consonant(text, size - 2) && consonant(text, size - 1) &&
           !strchr("wxy", text[size - 1]);
}

static bool ends(const word *w, const char *suffix)
{
    size_t size = strlen(suffix);
    return w->size >= size && memcmp(w->text + w->size - size, suffix, size) == 0;
}

/* Put to in the place of the suffix from, which is no shorter. */
static void replace(word *w, const char *from, const char *to)
{
    w->size -= strlen(from);
    memcpy(w->text + w->size, to, strlen(to));
    w->size += strlen(to);
}

typedef struct rule {
    const char *from, *to;
    size_t      above; /* m of what is before the suffix must be larger */
} rule;

/* The first rule whose suffix is there decides, whether its condition holds or not. */
static void apply(word *w, const rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ends(w, rules[i].from)) {
            if (measure(w->text, w->size - strlen(rules[i].from), NULL) > rules[i].above) {
                replace(w, rules[i].from, rules[i].to);
            }
            return;
        }
    }
}

#define APPLY(w, rules) apply((w), (rules), sizeof(rules) / sizeof(rules)[0])

static void plural(word *w) /* step 1a */
{
    if (ends(w, "ies")) {
        replace(w, "ies", w->size == 4 ? "ie" : "i");
    } else if (ends(w, "sses")) {
        replace(w, "sses", "ss");
    } else if (ends(w, "s") && !ends(w, "ss")) {
        w->size--;
    }
}

static void past(word *w) /* step 1b */
{
    if (ends(w, "ied")) {
        replace(w, "ied", w->size == 4 ? "ie" : "i");
        return;
    }
    if (ends(w, "eed")) {
        w->size -= measure(w->text, w->size - 3, NULL) > 0;
        return;
    }
    size_t suffix = ends(w, "ed") ? 2 : ends(w, "ing") ? 3 : 0;
    size_t vowels = 0;
    measure(w->text, w->size - suffix, &vowels);
    if (suffix == 0 || vowels == 0) {
        return;
    }
    w->size -= suffix;
    char last = w->text[w->size - 1];
    if (ends(w, "at") || ends(w, "bl") || ends(w, "iz")) {
        w->text[w->size++] = 'e';
    } else if (w->size >= 2 && w->text[w->size - 2] == last && consonant(w->text, w->size - 1)) {
        w->size -= !strchr("lsz", last);
    } else if (measure(w->text, w->size, NULL) == 1 && ends_cvc(w->text, w->size)) {
        w->text[w->size++] = 'e';
    }
}

static void double_suffix(word *w) /* step 2 */
{
    static const rule rules[] = {
        {"ational", "ate", 0}, {"tional", "tion", 0}, {"enci", "ence", 0}, {"anci", "ance", 0}, {"izer", "ize", 0},
        {"bli", "ble", 0},     {"alli", "al", 0},     {"entli", "ent", 0}, {"eli", "e", 0},     {"ousli", "ous", 0},
        {"ization", "ize", 0}, {"ation", "ate", 0},   {"ator", "ate", 0},  {"alism", "al", 0},  {"iveness", "ive", 0},
        {"fulness", "ful", 0}, {"ousness", "ous", 0}, {"aliti", "al", 0},  {"iviti", "ive", 0}, {"biliti", "ble", 0},
        {"fulli", "ful", 0},
    };
    if (ends(w, "alli") && measure(w->text, w->size - 4, NULL) > 0) {
        replace(w, "alli", "al"); /* and what is left goes on */
    }
    if (ends(w, "logi")) {
        w->size -= measure(w->text, w->size - 3, NULL) > 0; /* the l counts as before the suffix */
        return;
    }
    APPLY(w, rules);
}

static void single_suffix(word *w) /* steps 3 and 4 */
{
    static const rule third[]  = {{"icate", "ic", 0}, {"ative", "", 0}, {"alize", "al", 0}, {"iciti", "ic", 0},
                                  {"ical", "ic", 0},  {"ful", "", 0},   {"ness", "", 0}};
    static const rule fourth[] = {{"al", "", 1},   {"ance", "", 1}, {"ence", "", 1}, {"er", "", 1},    {"ic", "", 1},
                                  {"able", "", 1}, {"ible", "", 1}, {"ant", "", 1},  {"ement", "", 1}, {"ment", "", 1},
                                  {"ent", "", 1},  {"ou", "", 1},   {"ism", "", 1},  {"ate", "", 1},   {"iti", "", 1},
                                  {"ous", "", 1},  {"ive", "", 1},  {"ize", "", 1}};
    APPLY(w, third);
    if (ends(w, "ion")) { /* its s or t counts as before the suffix */
        bool goes = w->size > 3 && strchr("st", w->text[w->size - 4]) && measure(w->text, w->size - 3, NULL) > 1;
        w->size -= goes ? 3 : 0;
        return;
    }
    APPLY(w, fourth);
}

size_t cmif_porter_stem(char *text, size_t size)
{
    static const char *const irregular[][2] = {
        {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},        {"lying", "lie"},
        {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},   {"inning", "inning"},
        {"outings", "outing"}, {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
        {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"},
    };
    word w = {text, size};
    for (size_t i = 0; i < sizeof irregular / sizeof irregular[0]; i++) {
        if (strlen(irregular[i][0]) == size && memcmp(text, irregular[i][0], size) == 0) {
            memcpy(text, irregular[i][1], strlen(irregular[i][1]));
            return strlen(irregular[i][1]);
        }
    }
    if (size <= 2) {
        return size;
    }
    plural(&w);
    past(&w);
    if (ends(&w, "y") && w.size > 2 && consonant(text, w.size - 2)) { /* step 1c */
        text[w.size - 1] = 'i';
    }
    double_suffix(&w);
    single_suffix(&w);
    if (ends(&w, "e")) { /* step 5a */
        size_t m = measure(text, w.size - 1, NULL);
        w.size -= m > 1 || (m == 1 && !ends_cvc(text, w.size - 1));
    }
    if (ends(&w, "ll") && measure(text, w.size - 1, NULL) > 1) { /* step 5b */
        w.size--;
    }
    return w.size;
}
