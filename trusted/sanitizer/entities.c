/* One pass over the tokens. At each the surest reading is tried first: what is told by its form (patterns.c), then an
 * address, an organisation, a place, a person, then the word alone. No look goes further than a bounded number of
 * tokens, so time is linear. A second pass joins what is said of one person, and finds again names that became known
 * later in the text.
 *
 * Default-deny: a word that the public vocabulary does not have is `unknown`, and so is an ordinary word with a capital
 * that nothing explains. */
#include "sanitizer/entities.h"

#include "sanitizer/keys.h"
#include "sanitizer/patterns.h"

#include <string.h>

enum {
    PHRASE_MAX    = 10, /* words that are looked at together */
    JOINED_MAX    = 256,
    HINT_BACK     = 10, /* tokens that are looked back for what announces a number */
    SECRET_BACK   = 18,
    SECRET_MAX    = 8192,
    BLOCK_TOKENS  = 16384, /* of a key in PEM form */
    LOOK_UP       = 64,    /* tokens */
    COMPANY_AHEAD = 13,    /* tokens that three words may take */
    COUNT_MAX     = 12     /* a larger number says more than how many */
};

static const char *const class_names[CMIF_SPAN_CLASSES] = {
    "other",  "stop",    "word",    "topic",    "count",  "email",  "url",          "host",   "ip",   "phone",
    "card",   "iban",    "account", "id",       "secret", "crypto", "gps",          "date",   "time", "money",
    "number", "percent", "address", "postcode", "person", "place",  "organisation", "unknown"};

const char *cmif_span_class_name(cmif_span_class class)
{
    return (unsigned) class < CMIF_SPAN_CLASSES ? class_names[class] : "?";
}

bool cmif_span_class_find(const char *name, cmif_span_class *out)
{
    for (int i = 0; i < CMIF_SPAN_CLASSES; i++) {
        if (strcmp(class_names[i], name) == 0) {
            *out = (cmif_span_class) i;
            return true;
        }
    }
    return false;
}

/* ---- what is known of a token ---- */

typedef struct person { /* whom the text speaks of; tokens of their first mention, 0: not known (tokens count from 1) */
    uint32_t span, given, family;
} person;

typedef struct name_slot {
    uint32_t token, person;
} name_slot; /* token counts from 1; 0: empty */

typedef struct job {
    const cmif_scan  *scan;
    const cmif_lists *lists;
    size_t            count;
    cmif_known       *infos;
    cmif_window       window;
    char              joined[JOINED_MAX];
    size_t            block_end;    /* where the next key in PEM form ends; tokens are read from left to right */
    size_t            run_end;      /* of the run that was looked at last */
    size_t            seen, secret; /* tokens before the one that is read, and up to the last that announces a secret */
    size_t            company;      /* the next token that ends the name of one */
    cmif_spans        out;
    person           *persons;
    name_slot        *names;
    size_t            person_count, name_mask;
} job;

static const cmif_token *token_at(const job *j, size_t i)
{
    return &j->scan->tokens[i];
}
static cmif_str fold_at(const job *j, size_t i)
{
    return cmif_token_fold(j->scan, token_at(j, i));
}
static bool is_kind(const job *j, size_t i, cmif_token_kind kind)
{
    return i < j->count && token_at(j, i)->kind == kind;
}
static bool is_word(const job *j, size_t i)
{
    return is_kind(j, i, CMIF_TOKEN_WORD);
}
static bool has(const job *j, size_t i, uint32_t bits)
{
    return i < j->count && j->infos[i].bits & bits;
}
static bool is_key(const job *j, size_t i, uint32_t key)
{
    return i < j->count && j->infos[i].key & key;
}

/* The first byte of a mark; 0: no mark. */
static uint8_t mark_at(const job *j, size_t i)
{
    return is_kind(j, i, CMIF_TOKEN_MARK) && token_at(j, i)->fold_size ? (uint8_t) fold_at(j, i).data[0] : 0;
}

/* It begins with where the job lies, which no text can know: none is made of names that fall on one slot. */
static uint32_t hash_of(const job *j, const char *data, size_t size)
{
    uint32_t h = 2166136261u ^ (uint32_t) ((uintptr_t) j >> 12);
    for (size_t i = 0; i < size; i++) {
        h = (h ^ (uint8_t) data[i]) * 16777619u;
    }
    return h ^ h >> 15;
}

/* A word with other accents than a list has it, or an apostrophe too many: its bare form may be a name. */
static void look_up_bare(job *j, size_t i)
{
    uint8_t    bare[JOINED_MAX];
    cmif_str   fold  = fold_at(j, i);
    cmif_known known = {0};
    bool       plain = true;
    for (size_t k = 0; k < fold.size && plain; k++) {
        plain = !(fold.data[k] & 0x80) && fold.data[k] != '\'';
    }
    if (!plain && fold.size < sizeof bare / 4) {
        cmif_lists_look(j->lists, &(cmif_str){(const char *) bare, cmif_scan_bare(fold, bare, sizeof bare)}, 1, &known);
        j->infos[i].bits |= known.bits & ~(uint32_t) (WORD | STOP | CAPITAL);
        cmif_wipe(bare, sizeof bare);
    }
}

static void look_up_all(job *j)
{
    cmif_str words[LOOK_UP];
    for (size_t from = 0; from < j->count; from += LOOK_UP) {
        size_t count = j->count - from < LOOK_UP ? j->count - from : LOOK_UP;
        for (size_t k = 0; k < count; k++) {
            words[k] = is_word(j, from + k) ? fold_at(j, from + k) : (cmif_str){"", 0};
        }
        cmif_lists_look(j->lists, words, count, j->infos + from);
        for (size_t i = from; i < from + count; i++) {
            if (is_word(j, i) && fold_at(j, i).size == 2 && fold_at(j, i).data[0] == '\'') { /* 's */
                j->infos[i] = (cmif_known){WORD | STOP, 0};
            } else if (is_word(j, i) && !has(j, i, WORD)) {
                look_up_bare(j, i);
            }
        }
    }
}

/* Lines of capitals, and headings. */
static void look_at_lines(job *j)
{
    for (size_t from = 0; from < j->count;) {
        size_t to = from, upper = 0, words = 0, last = from;
        for (; to < j->count && !is_kind(j, to, CMIF_TOKEN_LINE); to++) {
            const cmif_token *t = token_at(j, to);
            if (t->kind == CMIF_TOKEN_WORD && t->fold_size > 1 && t->casing != CMIF_CASE_NONE) {
                words++;
                upper += t->casing == CMIF_CASE_UPPER;
            }
            last = t->kind == CMIF_TOKEN_SPACE ? last : to;
        }
        uint32_t bits = (words && 4 * upper >= 3 * words ? LOUD : 0) | (mark_at(j, from) == '#' ? HEADING : 0);
        for (size_t i = from; bits && i < to; i++) {
            j->infos[i].bits |= bits;
        }
        from = to + 1;
    }
}

/* How much a capital says: 0 there is none, 1 it may have another reason, 2 the word is a name. */
static int capital(const job *j, size_t i)
{
    const cmif_token *t = token_at(j, i);
    if (t->casing < CMIF_CASE_FIRST) {
        return 0;
    }
    if (has(j, i, LOUD | HEADING) || t->begins || t->code || (t->casing != CMIF_CASE_FIRST && has(j, i, WORD))) {
        return 1;
    }
    return 2;
}

static bool is_digit_word(const job *j, size_t i)
{
    return token_at(j, i)->digit;
}

/* Whether a word can be a part of a proper name where it stands. */
static bool is_proper(const job *j, size_t i)
{
    if (!is_word(j, i) || has(j, i, STOP) || is_digit_word(j, i)) {
        return false;
    }
    return !has(j, i, WORD) || (capital(j, i) && !has(j, i, LOUD | CAPITAL) && !token_at(j, i)->code);
}

/* ---- phrases: words with a space, a hyphen, a full stop or & between ---- */

typedef enum gap_kind { GAP_NONE, GAP_SPACE, GAP_HYPHEN, GAP_DOT, GAP_AND, GAP_COMMA, GAP_POSSESSIVE } gap_kind;

typedef struct phrase {
    uint32_t at[PHRASE_MAX];
    uint8_t  gap[PHRASE_MAX]; /* before the word */
    size_t   count;
} phrase;

/* The word after token i in the phrase, or 0. */
static size_t next_word(const job *j, size_t i, uint8_t *gap)
{
    size_t k     = i + 1;
    *gap         = GAP_NONE;
    uint8_t mark = mark_at(j, k);
    if (is_word(j, k)) { /* 's */
        *gap = GAP_POSSESSIVE;
        return k;
    }
    if (mark == '-' && is_word(j, k + 1)) {
        *gap = GAP_HYPHEN;
        return k + 1;
    }
    if ((mark == '.' || mark == ',') && is_word(j, k + 1) && mark == '.' && token_at(j, i)->fold_size <= 3) { /* J.R. */
        *gap = GAP_DOT;
        return k + 1;
    }
    if (mark == '.' || mark == ',') {
        *gap = mark == '.' ? GAP_DOT : GAP_COMMA;
        k++;
    }
    if (!is_kind(j, k, CMIF_TOKEN_SPACE)) {
        return 0;
    }
    k++;
    if (mark_at(j, k) == '&' && is_kind(j, k + 1, CMIF_TOKEN_SPACE)) {
        k += 2;
        *gap = GAP_AND;
    }
    if (!is_word(j, k)) {
        return 0;
    }
    *gap = *gap == GAP_NONE ? GAP_SPACE : *gap;
    return k;
}

static void gather(const job *j, size_t i, phrase *p)
{
    p->count  = 1;
    p->at[0]  = (uint32_t) i;
    p->gap[0] = GAP_NONE;
    while (p->count < PHRASE_MAX) {
        uint8_t gap;
        size_t  next = next_word(j, p->at[p->count - 1], &gap);
        if (!next) {
            return;
        }
        p->gap[p->count]  = gap;
        p->at[p->count++] = (uint32_t) next;
    }
}

/* Tokens from the first word of a phrase to its word k. */
static size_t tokens_to(const phrase *p, size_t k)
{
    return p->at[k] - p->at[0] + 1;
}

/* ---- readings: each returns how many tokens it takes, or 0 ---- */

typedef struct reading {
    size_t tokens;
    uint8_t class, part;
} reading;

static reading read_as(size_t tokens, int class, int part)
{
    return (reading){tokens, (uint8_t) class, (uint8_t) part};
}

/* The longest entry of a list of names of several words that begins here. */
static size_t listed_words(job *j, const phrase *p, uint32_t listed, uint32_t begins)
{
    size_t size = 0, best = 0, names = 0;
    for (size_t k = 0; k < p->count; k++) {
        cmif_str fold = fold_at(j, p->at[k]);
        if ((k > 0 && p->gap[k] != GAP_SPACE && p->gap[k] != GAP_HYPHEN && p->gap[k] != GAP_DOT) ||
            size + fold.size + 1 > JOINED_MAX) {
            break;
        }
        if (k > 0) {
            j->joined[size++] = ' ';
        }
        memcpy(j->joined + size, fold.data, fold.size);
        size += fold.size;
        bool lower = token_at(j, p->at[k])->casing < CMIF_CASE_FIRST;
        names += has(j, p->at[k], WORD) && (lower || has(j, p->at[k], LOUD)) ? 0 : 1;
        cmif_known known;
        cmif_lists_look(j->lists, &(cmif_str){j->joined, size}, 1, &known);
        bool country = listed == PLACE && known.bits & COUNTRY;
        if (known.bits & listed && k > 0 && (names > 0 || country)) {
            best = k + 1;
        }
        if (!(known.bits & begins)) {
            break;
        }
    }
    cmif_wipe(j->joined, size);
    return best ? tokens_to(p, best - 1) : 0;
}

/* Cedar Valley Clinic, Bettany & Sons, Orchid, Inc.: how many words of the phrase. In a line of capitals any word may
 * be of the name. */
static size_t words_to_head(const job *j, const phrase *p)
{
    size_t best = 0, names = 0;
    bool   loud = has(j, p->at[0], LOUD), plain = false; /* a word without a capital that may be of the name, or not */
    bool   starts = loud && (p->at[0] < 2 || !is_word(j, p->at[0] - 2) || has(j, p->at[0] - 2, STOP));

    for (size_t k = 0; k < p->count; k++) {
        size_t i       = p->at[k];
        bool   key     = is_key(j, i, KEY_ORG | KEY_SUFFIX),
             proper    = is_proper(j, i) || (starts && k < 5 && !has(j, i, STOP));
        bool short_dot = p->gap[k] == GAP_DOT && k > 0 && token_at(j, p->at[k - 1])->fold_size <= 3;
        bool list      = p->gap[k] == GAP_COMMA && k + 1 < p->count && p->gap[k + 1] == GAP_AND;
        if (p->gap[k] == GAP_POSSESSIVE) {
            continue;
        }
        if ((p->gap[k] == GAP_COMMA || p->gap[k] == GAP_DOT) && !is_key(j, i, KEY_SUFFIX) && !short_dot && !list) {
            break;
        }
        if (names > 0 && ((key && (capital(j, i) || !has(j, p->at[k - 1], WORD) || plain)) ||
                          (p->gap[k] == GAP_AND && capital(j, i)))) {
            best = k + 1;
        }
        bool small =
            names > 0 && !capital(j, i) && is_key(j, i, KEY_ORG | KEY_GEO | KEY_UNIT); /* tamworth building society */
        bool joins = names > 0 && is_key(j, i, KEY_OF) && k + 1 < p->count && is_proper(j, p->at[k + 1]) &&
                     is_key(j, p->at[0], KEY_ORG);
        if (!proper && !joins && !small && best != k + 1) {
            break;
        }
        plain |= small;
        names += proper && !(key && k == 0);
    }
    return best;
}

/* University of Leeds, Bank of America, Hotel Skovlund. Without capitals only what is no ordinary word is a name. */
static size_t words_from_head(const job *j, const phrase *p)
{
    bool   plain = !capital(j, p->at[0]) || has(j, p->at[0], LOUD), of = false;
    size_t best = 0, k = 1;
    if (!is_key(j, p->at[0], KEY_ORG)) {
        return 0;
    }
    for (; k < p->count && p->gap[k] == GAP_SPACE && is_key(j, p->at[k], KEY_OF | KEY_PARTICLE); k++) {
        of = true;
    }
    for (; k < p->count; k++) {
        size_t i      = p->at[k];
        bool   joined = p->gap[k] == GAP_SPACE || p->gap[k] == GAP_HYPHEN || p->gap[k] == GAP_POSSESSIVE ||
                      p->gap[k] == GAP_AND || (p->gap[k] == GAP_DOT && token_at(j, p->at[k - 1])->fold_size <= 3);
        bool named = is_proper(j, i) && (of || best || !has(j, i, WORD) || !is_key(j, i, KEY_ROLE)) &&
                     !(plain && has(j, i, WORD));
        bool joins = best && is_key(j, i, KEY_OF | KEY_PARTICLE) && k + 1 < p->count && is_proper(j, p->at[k + 1]);
        if (!joined || (!named && !joins)) {
            break;
        }
        best = named ? k + 1 : best;
    }
    return best;
}

/* orchid foods inc */
static size_t words_to_company(const job *j, const phrase *p)
{
    for (size_t k = 0; k < p->count && k < 4 && !has(j, p->at[k], STOP); k++) {
        bool company = is_key(j, p->at[k], KEY_COMPANY);
        if (k > 0 && company && (capital(j, p->at[0]) || !capital(j, p->at[k]))) {
            return k + 1;
        }
        if (k > 0 && p->gap[k] != GAP_SPACE) {
            break;
        }
    }
    return 0;
}

static reading organisation_at(const job *j, const phrase *p)
{
    if (p->at[0] > 0 && is_word(j, p->at[0] - 1)) {
        return (reading){0};
    }
    size_t best = words_to_head(j, p);
    best        = best ? best : words_from_head(j, p);
    best        = best ? best : words_to_company(j, p);
    if (best == 0) {
        return (reading){0};
    }
    size_t tokens = tokens_to(p, best - 1), end = p->at[0] + tokens;
    if (is_key(j, end - 1, KEY_SUFFIX) && mark_at(j, end) == '.' && token_at(j, end - 1)->fold_size <= 4) {
        tokens++;
    }
    return read_as(tokens, CMIF_SPAN_ORGANISATION, 0);
}

static bool single(const job *j, size_t i)
{
    return is_word(j, i) && token_at(j, i)->fold_size == 1;
}

/* J. R. R.; without a capital only before a full stop and a name: "j. pruitt" */
static bool is_initial(const job *j, size_t i)
{
    uint8_t gap;
    if (!single(j, i) || token_at(j, i)->casing >= CMIF_CASE_FIRST) {
        return single(j, i);
    }
    size_t next = mark_at(j, i + 1) == '.' ? next_word(j, i, &gap) : 0;
    return next && !has(j, next, WORD) && !is_digit_word(j, next);
}

/* Whether a word can be in a person's name after its first part; small: that has no capital. */
static bool is_name_part(const job *j, size_t i, bool loud, bool small)
{
    if (!is_word(j, i) || token_at(j, i)->fold_size < 2 || is_key(j, i, KEY_SUFFIX) || is_digit_word(j, i)) {
        return false;
    }
    if (loud || !capital(j, i)) {
        return (!has(j, i, WORD) && (loud || small || has(j, i, NAME))) || (has(j, i, FAMILY) && has(j, i, RARE));
    }
    return !has(j, i, STOP | CAPITAL) &&
           !(has(j, i, WORD) && is_key(j, i, KEY_ROLE | KEY_ORG) && !has(j, i, GIVEN_COMMON));
}

/* Words of a phrase from k on that go on with a person's name; the number of words, the last of which is no particle.
 */
static size_t name_words(const job *j, const phrase *p, size_t k, size_t most, bool loud)
{
    size_t end   = k;
    bool   small = !capital(j, p->at[0]);
    for (; k < p->count && k < most; k++) {
        size_t i = p->at[k];
        if (k > 0 && p->gap[k] != GAP_SPACE && p->gap[k] != GAP_HYPHEN && p->gap[k] != GAP_NONE &&
            !(p->gap[k] == GAP_DOT && (single(j, p->at[k - 1]) || is_key(j, p->at[k - 1], KEY_PARTICLE)))) {
            break;
        }
        if (is_key(j, i, KEY_PARTICLE) && k + 1 < p->count &&
            (p->gap[k + 1] == GAP_SPACE || p->gap[k + 1] == GAP_HYPHEN) &&
            (is_name_part(j, p->at[k + 1], loud, small) || is_key(j, p->at[k + 1], KEY_PARTICLE))) {
            continue;
        }
        if (is_initial(j, i) && k + 1 < p->count && (p->gap[k + 1] == GAP_DOT || p->gap[k + 1] == GAP_SPACE)) {
            continue;
        }
        if (is_initial(j, i) && mark_at(j, i + 1) == '.' && end > 0) {
            end = k + 1;
            break;
        }
        bool middle = loud && end == k && !has(j, i, STOP | CAPITAL) && k + 1 < p->count &&
                      p->gap[k + 1] == GAP_SPACE &&
                      is_name_part(j, p->at[k + 1], loud, small); /* in a line of capitals: a word between two names */
        bool joined = k > 0 && p->gap[k] == GAP_HYPHEN && (!has(j, i, WORD) || !has(j, p->at[k - 1], WORD)) &&
                      !is_digit_word(j, i);
        if (!middle && !joined && !is_name_part(j, i, loud, small)) {
            break;
        }
        end = k + 1;
    }
    return end;
}

/* A weak name is an ordinary word, too. */
static bool is_strong(const job *j, size_t i, uint32_t lists)
{
    return has(j, i, lists) && !has(j, i, WORD);
}

static bool after_title(const job *j, size_t i)
{
    size_t k = i;
    if (k > 0 && is_kind(j, k - 1, CMIF_TOKEN_SPACE)) {
        k--;
    }
    if (k > 0 && mark_at(j, k - 1) == '.') {
        k--;
    }
    if (k == 0 || k == i || !is_word(j, k - 1)) {
        return false;
    }
    bool kin = is_key(j, k - 1, KEY_KIN) && (capital(j, i) == 2 || (!has(j, i, WORD) && !has(j, i, PLACE))) &&
               !has(j, i, STOP);
    return is_key(j, k - 1, KEY_TITLE) || kin;
}

static bool after_key(const job *j, size_t i, uint32_t key)
{
    return i >= 2 && is_kind(j, i - 1, CMIF_TOKEN_SPACE) && is_key(j, i - 2, key);
}

static reading person_at(job *j, const phrase *p)
{
    size_t i    = p->at[0];
    bool   loud = has(j, i, LOUD), title = after_title(j, i);
    int    cap   = capital(j, i);
    size_t first = p->count > 1 ? p->at[1] : j->count;
    bool   near  = p->count > 1 && (p->gap[1] == GAP_SPACE || p->gap[1] == GAP_HYPHEN);

    if (title && !has(j, i, STOP) && !is_key(j, i, KEY_TITLE | KEY_ORG)) { /* Dr Strange */
        bool   quiet = !cap && has(j, i, WORD) && !has(j, i, NAME);
        size_t end   = quiet ? 0 : name_words(j, p, 0, 5, loud && !has(j, i, WORD));
        end          = end == 0 && !quiet && token_at(j, i)->fold_size > 1 && (cap || has(j, i, NAME)) ? 1 : end;
        if (end) {
            return read_as(tokens_to(p, end - 1), CMIF_SPAN_PERSON, end == 1 ? CMIF_PART_FAMILY : CMIF_PART_FULL);
        }
    }
    if (is_initial(j, i) && p->count > 1 &&
        (p->gap[1] == GAP_DOT ||
         (p->gap[1] == GAP_SPACE && token_at(j, i)->fold_size == 1 && cap == 2 && !has(j, i, STOP)))) {
        size_t k = 0;
        while (k + 1 < p->count && is_initial(j, p->at[k]) &&
               (p->gap[k + 1] == GAP_DOT || p->gap[k + 1] == GAP_SPACE)) {
            k++;
        }
        size_t end = name_words(j, p, k, k + 3, loud);
        if (end > k && !has(j, p->at[k], STOP) &&
            (!has(j, p->at[k], WORD) || (capital(j, p->at[k]) && p->gap[k] == GAP_DOT && has(j, p->at[k], NAME)))) {
            return read_as(tokens_to(p, end - 1), CMIF_SPAN_PERSON, CMIF_PART_FULL);
        }
    }
    if (is_key(j, i, KEY_PARTICLE) && cap && near && is_strong(j, first, FAMILY) &&
        capital(j, first)) { /* El Idrissi, Van Dyke */
        size_t end = name_words(j, p, 0, 4, loud);
        return end > 1 ? read_as(tokens_to(p, end - 1), CMIF_SPAN_PERSON, CMIF_PART_FAMILY) : (reading){0};
    }
    if (has(j, i, STOP) && !(cap == 2 && has(j, i, GIVEN_COMMON) && token_at(j, i)->casing == CMIF_CASE_FIRST &&
                             token_at(j, i)->fold_size >= 4)) {
        return (reading){0};
    }
    if (token_at(j, i)->fold_size < 2 || (has(j, i, WORD) && !cap) || has(j, i, CAPITAL)) {
        return (reading){0};
    }
    size_t end    = name_words(j, p, 1, 5, loud);
    bool   given  = is_strong(j, i, GIVEN) || (has(j, i, GIVEN) && cap == 2);
    bool   place  = is_strong(j, i, PLACE) && !has(j, i, GIVEN);
    bool   family = end > 1 && has(j, p->at[end - 1], FAMILY | GIVEN);
    if (end > 1 && !place) {
        bool sure = is_strong(j, p->at[end - 1], FAMILY) || (has(j, p->at[end - 1], FAMILY) && cap == 2 && given);
        if (given || (has(j, i, GIVEN) && (family || !has(j, p->at[end - 1], WORD))) || (sure && !has(j, i, WORD)) ||
            (sure && cap == 2 && is_proper(j, i)) || (family && is_strong(j, i, FAMILY))) {
            return read_as(tokens_to(p, end - 1), CMIF_SPAN_PERSON, CMIF_PART_FULL);
        }
    }
    if (p->count > 1 && p->gap[1] == GAP_COMMA && is_strong(j, i, FAMILY) && !place && is_strong(j, first, GIVEN) &&
        capital(j, first)) {
        size_t  stop = first + 1; /* Lopez, Maria */
        uint8_t gap;
        size_t  more = next_word(j, first, &gap);
        if (more && gap == GAP_SPACE && is_initial(j, more) && mark_at(j, more + 1) == '.') {
            stop = more + 2;
        }
        bool list = mark_at(j, stop) == ',' || is_key(j, next_word(j, first, &gap), KEY_OF); /* Lopez, Maria and Tom */
        if (!list) {
            return read_as(stop - i, CMIF_SPAN_PERSON, CMIF_PART_FULL);
        }
    }
    if (given && !(has(j, i, WORD) && !has(j, i, GIVEN_COMMON))) {
        bool in = has(j, i, PLACE) && !has(j, i, GIVEN_COMMON);
        in |= has(j, i, PLACE) && after_key(j, i, KEY_IN);
        if (!in) {
            return read_as(1, CMIF_SPAN_PERSON, CMIF_PART_GIVEN);
        }
    }
    if (is_strong(j, i, FAMILY | PERSON) && !has(j, i, PLACE)) {
        return read_as(1, CMIF_SPAN_PERSON, CMIF_PART_FAMILY);
    }
    return (reading){0};
}

static reading place_at(job *j, const phrase *p)
{
    size_t i = p->at[0], n = has(j, i, BEGINS_PLACE) ? listed_words(j, p, PLACE, BEGINS_PLACE) : 0;
    int    cap = capital(j, i);
    if (n) {
        return read_as(n, CMIF_SPAN_PLACE, 0);
    }
    bool near = p->count > 1 && (p->gap[1] == GAP_SPACE || p->gap[1] == GAP_DOT);
    if (near && is_key(j, i, KEY_GEO_FIRST) && cap && !has(j, i, LOUD) && !has(j, p->at[1], WORD) &&
        capital(j, p->at[1]) && !is_key(j, i, KEY_TITLE) && token_at(j, p->at[1])->fold_size > 1) { /* Lake Tahoe */
        return read_as(tokens_to(p, 1), CMIF_SPAN_PLACE, 0);
    }
    if (near && p->gap[1] == GAP_SPACE && is_proper(j, i) && cap && is_key(j, p->at[1], KEY_GEO) &&
        capital(j, p->at[1]) && !is_key(j, i, KEY_ROLE) && (!has(j, i, WORD) || capital(j, p->at[1]) == 2)) {
        return read_as(tokens_to(p, 1), CMIF_SPAN_PLACE, 0);
    }
    if (!has(j, i, PLACE) || has(j, i, STOP | CAPITAL)) {
        return (reading){0};
    }
    if (has(j, i, WORD) && !(cap == 2 && token_at(j, i)->casing == CMIF_CASE_FIRST && !is_key(j, i, KEY_ROLE) &&
                             (after_key(j, i, KEY_IN) || !after_key(j, i, KEY_DETERMINER)))) {
        return (reading){0};
    }
    if (has(j, i, GIVEN_COMMON) && !after_key(j, i, KEY_IN)) {
        return (reading){0};
    }
    return read_as(1, CMIF_SPAN_PLACE, 0);
}

/* ---- addresses ---- */

/* 12, 221B, 41-43, 14/3: a house number; the tokens of it */
static size_t house_number(const job *j, size_t i)
{
    size_t n = 0;
    for (;;) {
        cmif_str fold = i + n < j->count ? fold_at(j, i + n) : (cmif_str){0};
        if (!(is_kind(j, i + n, CMIF_TOKEN_NUMBER) || is_word(j, i + n)) || fold.size > 6 || fold.data[0] < '0' ||
            fold.data[0] > '9') {
            return n ? n - 1 : 0;
        }
        n++;
        if (fold.size > 2 && is_word(j, i + n - 1) &&
            (fold.data[fold.size - 1] == 'h' || fold.data[fold.size - 1] == 't')) {
            return 0; /* 15th, 1st */
        }
        if (mark_at(j, i + n) != '-' && mark_at(j, i + n) != '/') {
            return n;
        }
        n++;
    }
}

static bool ends_with(cmif_str s, const char *end)
{
    size_t n = strlen(end);
    return s.size > n && memcmp(s.data + s.size - n, end, n) == 0;
}

/* Hauptstraße, Prinsengracht */
static bool is_joined_street(const job *j, size_t i)
{
    static const char *const ends[] = {"straße", "strasse", "gasse",  "weg",  "platz", "allee", "damm", "ufer",
                                       "laan",   "straat",  "gracht", "kade", "gatan", "vägen", "gade", "brogade",
                                       "vej",    "veien",   "gata",   "katu", "plein", "tie"};
    cmif_str                 fold   = fold_at(j, i);
    for (size_t k = 0; k < sizeof ends / sizeof *ends && !has(j, i, WORD); k++) {
        if (ends_with(fold, ends[k])) {
            return true;
        }
    }
    return false;
}

/* ", Apt 9", " Unit 4B", " #3" behind a street; the tokens of it */
static size_t unit_after(const job *j, size_t i)
{
    size_t n = 0, house;
    n += mark_at(j, i) == ',';
    n += is_kind(j, i + n, CMIF_TOKEN_SPACE);
    if (n == 0) {
        return 0;
    }
    if (mark_at(j, i + n) == '#') {
        n++;
    } else if (is_key(j, i + n, KEY_UNIT)) {
        n++;
        n += mark_at(j, i + n) == '.';
        n += is_kind(j, i + n, CMIF_TOKEN_SPACE);
    } else {
        return 0;
    }
    house = house_number(j, i + n);
    return house ? n + house : is_initial(j, i + n) ? n + 1 : 0;
}

/* Nothing more of a sentence follows: a comma, a full stop, the line's end. */
static bool ends_line(const job *j, size_t i)
{
    uint8_t mark = mark_at(j, i + is_kind(j, i, CMIF_TOKEN_SPACE));
    return i >= j->count || is_kind(j, i, CMIF_TOKEN_LINE) || (mark && strchr(",.;#)|", mark));
}

/* A street from word k of a phrase on, up to its last word; words before the street's kind need capitals, unless the
 * text has none. */
static size_t street_end(const job *j, const phrase *p, size_t k, bool numbered)
{
    bool quiet = has(j, p->at[k], LOUD) || (numbered && !capital(j, p->at[k]));
    for (size_t at = k; at < p->count && at < k + 6; at++) {
        size_t i = p->at[at];
        if (at > k && p->gap[at] != GAP_SPACE && p->gap[at] != GAP_HYPHEN && p->gap[at] != GAP_POSSESSIVE &&
            !(p->gap[at] == GAP_DOT && token_at(j, p->at[at - 1])->fold_size <= 3)) {
            return 0;
        }
        bool street = at > k && (is_key(j, i, KEY_STREET) ||
                                 (is_key(j, i, KEY_STREET_SOFT) &&
                                  (quiet ? !has(j, p->at[k], WORD) || (numbered && at == k + 1 && ends_line(j, i + 1))
                                         : capital(j, i) > 0)));
        bool more   = at + 1 < p->count && p->gap[at + 1] == GAP_SPACE &&
                    is_key(j, p->at[at + 1], KEY_STREET | KEY_STREET_SOFT) &&
                    capital(j, p->at[at + 1]) >= capital(j, i); /* High Street Court */
        if (street && !more && (quiet || capital(j, p->at[k]))) {
            return at + 1;
        }
        bool fits = quiet ? !has(j, i, STOP) && at < k + 4
                          : is_proper(j, i) || capital(j, i) || is_key(j, i, KEY_OF | KEY_PARTICLE);
        if (!fits) {
            return 0;
        }
    }
    return 0;
}

/* rue de la Paix: words after the kind of street */
static size_t street_words(const job *j, const phrase *p, size_t k)
{
    size_t end = 0;
    if (!is_key(j, p->at[k], KEY_STREET_FIRST)) {
        return 0;
    }
    for (size_t at = k + 1; at < p->count && at < k + 7; at++) {
        if (p->gap[at] != GAP_SPACE && p->gap[at] != GAP_HYPHEN && !(at == k + 1 && p->gap[at] == GAP_DOT)) {
            break;
        }
        if (is_proper(j, p->at[at]) || (capital(j, p->at[at]) && at == k + 1)) {
            end = at + 1;
        } else if (!is_key(j, p->at[at], KEY_OF | KEY_PARTICLE) && token_at(j, p->at[at])->fold_size > 3) {
            break;
        }
    }
    return end;
}

static size_t comma_or_space(const job *j, size_t i)
{
    size_t n = mark_at(j, i) == ',';
    return is_kind(j, i + n, CMIF_TOKEN_SPACE) ? n + 1 : 0;
}

/* From a number: 14 Wexford Terrace, Flat 2, 88 Harehills Lane, 23 rue des Tanneurs */
static size_t address_from_number(const job *j, size_t i)
{
    phrase p;
    size_t start = i, house, gap, end;
    if (is_key(j, i, KEY_UNIT)) {
        size_t k = i + 1;
        k += mark_at(j, k) == '.';
        if (!is_kind(j, k, CMIF_TOKEN_SPACE)) {
            return 0;
        }
        k++;
        size_t unit = house_number(j, k);
        unit        = unit ? unit : is_initial(j, k);
        gap         = unit ? comma_or_space(j, k + unit) : 0;
        if (!unit) {
            return 0;
        }
        size_t rest = gap ? house_number(j, k + unit + gap) : 0;
        if (!rest) {
            return 0;
        }
        i = k + unit + gap;
    }
    house = house_number(j, i);
    gap   = house ? comma_or_space(j, i + house) : 0;
    if (!gap || !is_word(j, i + house + gap)) {
        if (!(gap && is_word(j, i + house + gap + 1))) {
            return 0;
        }
    }
    size_t first = i + house + gap;
    if (!is_word(j, first)) {
        return 0;
    }
    gather(j, first, &p);
    end = street_words(j, &p, 0);
    end = end ? end : street_end(j, &p, 0, true);
    if (!end) {
        return 0;
    }
    size_t stop = p.at[end - 1] + 1;
    if (mark_at(j, stop) == '.' && token_at(j, stop - 1)->fold_size <= 4 &&
        is_key(j, stop - 1, KEY_STREET | KEY_STREET_SOFT) && !is_kind(j, stop + 1, CMIF_TOKEN_LINE) &&
        stop + 1 < j->count) {
        stop++;
    }
    return stop + unit_after(j, stop) - start;
}

/* From a word: Lindenstraße 47, Calle Colón 18, ul. Długa 14/3, San Bernardo Ave, P.O. Box 12 */
static size_t address_from_word(const job *j, const phrase *p)
{
    size_t i = p->at[0], end = street_words(j, p, 0), house;
    if (end && capital(j, p->at[end - 1])) {
        size_t stop = p->at[end - 1] + 1, gap = comma_or_space(j, stop);
        house = gap ? house_number(j, stop + gap) : 0;
        if (house) {
            return stop + gap + house - i;
        }
        return !has(j, i, WORD) || capital(j, i) == 2 ? stop - i : 0;
    }
    for (size_t k = 0; k < p->count && k < 3; k++) {
        if (k > 0 && p->gap[k] != GAP_SPACE && p->gap[k] != GAP_HYPHEN) {
            break;
        }
        if (is_joined_street(j, p->at[k])) {
            size_t stop = p->at[k] + 1;
            house       = is_kind(j, stop, CMIF_TOKEN_SPACE) ? house_number(j, stop + 1) : 0;
            return house ? stop + 1 + house - i : 0;
        }
        if (!is_proper(j, p->at[k])) {
            break;
        }
    }
    if (capital(j, i) && is_proper(j, i) && !is_key(j, i, KEY_ROLE)) {
        end = street_end(j, p, 0, false);
        if (end && capital(j, p->at[end - 1]) && !is_key(j, p->at[end - 1], KEY_STREET_SOFT)) {
            size_t stop = p->at[end - 1] + 1;
            return stop + unit_after(j, stop) - i;
        }
    }
    return 0;
}

/* ---- numbers ---- */

static void fill_window(job *j, size_t i)
{
    const cmif_token *first = token_at(j, i);
    cmif_window      *w     = &j->window;
    bool              same  = true; /* as many bytes are written as are folded, all along */
    size_t            end   = i;
    memset(w, 0, sizeof *w);
    for (; end < j->count && end - i < 250; end++) {
        const cmif_token *t = token_at(j, end);
        if (t->kind == CMIF_TOKEN_LINE || t->kind == CMIF_TOKEN_BROKEN || t->fold_size > CMIF_WINDOW_SIZE - w->size) {
            break;
        }
        w->size += t->fold_size;
        w->tokens[w->size] = t->fold_size ? (uint8_t) (end - i + 1) : w->tokens[w->size];
        same &= t->size == t->fold_size && !t->odd;
    }
    memcpy(w->text, fold_at(j, i).data, w->size); /* folds lie one behind the other */
    memcpy(w->raw, same ? (const char *) j->scan->text + first->from : w->text, w->size);
    for (size_t k = i; k < end && !same; k++) {
        const cmif_token *t = token_at(j, k);
        if (t->size == t->fold_size && !t->odd) {
            memcpy(w->raw + (t->fold_from - first->fold_from), j->scan->text + t->from, t->size);
        }
    }
    if (end == i) {
        return; /* a token that is longer than any form */
    }
    char after = w->text[first->fold_size];
    bool word =
        first->kind == CMIF_TOKEN_WORD && !first->digit && !(after & 0x80) && !memchr(w->text, '\'', first->fold_size);
    w->begins = word ? CMIF_FORM_WORD | j->infos[i].key | (after == '$' ? KEY_CURRENCY : 0) : UINT32_MAX;
}

/* What the words before a number announce: the class, or 0. */
static int announced_before(const job *j, size_t i)
{
    static const struct {
        uint32_t key;
        uint8_t class;
    } classes[] = {{KEY_ACCOUNT, CMIF_SPAN_ACCOUNT},
                   {KEY_PHONE, CMIF_SPAN_PHONE},
                   {KEY_POSTCODE, CMIF_SPAN_POSTCODE},
                   {KEY_ID, CMIF_SPAN_ID}};
    for (size_t back = 1; back <= HINT_BACK && back <= i; back++) {
        size_t  k    = i - back;
        uint8_t mark = mark_at(j, k);
        if (is_kind(j, k, CMIF_TOKEN_SPACE) || (mark && strchr(":#=.(\"'-*|`", mark))) {
            continue;
        }
        if (!is_word(j, k)) {
            return 0;
        }
        for (size_t c = 0; c < sizeof classes / sizeof *classes; c++) {
            bool no = is_key(j, k, KEY_FILLER) && !(back <= 3 && classes[c].key != KEY_PHONE);
            if (is_key(j, k, classes[c].key) && !no) {
                return classes[c].class;
            }
        }
        if (!is_key(j, k, KEY_FILLER)) {
            return 0;
        }
    }
    return 0;
}

/* Whether a number that stands alone only counts: "3 children", "step 2", "2." at the start of a line. */
static bool only_counts(const job *j, size_t i)
{
    cmif_str fold  = fold_at(j, i);
    unsigned value = 0;
    if (!is_kind(j, i, CMIF_TOKEN_NUMBER) || fold.size > 2 || (fold.size == 2 && fold.data[0] == '0')) {
        return false;
    }
    for (size_t k = 0; k < fold.size; k++) {
        value = 10 * value + (unsigned) (fold.data[k] - '0');
    }
    bool first = i == 0 || is_kind(j, i - 1, CMIF_TOKEN_LINE);
    if (first && (mark_at(j, i + 1) == '.' || mark_at(j, i + 1) == ')')) {
        return true; /* of a list */
    }
    if (value > COUNT_MAX || (i > 0 && !is_kind(j, i - 1, CMIF_TOKEN_SPACE) && !first && mark_at(j, i - 1) != '(')) {
        return false;
    }
    size_t before = i >= 2 && is_kind(j, i - 1, CMIF_TOKEN_SPACE) ? i - 2 : j->count;
    size_t after  = is_kind(j, i + 1, CMIF_TOKEN_SPACE) ? i + 2 : j->count;
    if (is_key(j, before, KEY_MEASURE | KEY_UNIT | KEY_ID | KEY_ACCOUNT | KEY_SECRET | KEY_STREET | KEY_PHONE) ||
        is_key(j, after, KEY_MEASURE)) {
        return false;
    }
    bool nouns = is_word(j, after) && has(j, after, WORD) && token_at(j, after)->casing == CMIF_CASE_LOWER &&
                 !has(j, after, STOP);
    bool nouns2 = is_word(j, after) && has(j, after, WORD) && has(j, after, LOUD);
    bool label  = is_word(j, before) && has(j, before, WORD) && is_key(j, before, KEY_ROLE) && !has(j, before, STOP);
    if (is_word(j, before) && !has(j, before, WORD)) {
        return false;
    }
    return nouns || nouns2 || label;
}

/* Tokens of the run without white space from i on that end at or before this byte of the text; the last is taken whole.
 */
static size_t tokens_up_to(const job *j, size_t i, size_t end)
{
    size_t k = i;
    while (k < j->count && token_at(j, k)->from < end) {
        k++;
    }
    return k - i;
}

/* Bytes of the run without white space and quotes from token i on. Runs are looked at from left to right. */
static size_t run_size(job *j, size_t i)
{
    size_t from = token_at(j, i)->from, end = j->run_end > from ? j->run_end : from;
    for (; j->run_end <= from && end < j->scan->size; end++) {
        uint8_t c = j->scan->text[end];
        if (c <= ' ' || c == '"' || c == '\'' || c == '`' || c == '<' || c == '>' || c == 0x7f) {
            break;
        }
    }
    j->run_end = end;
    return end - from < SECRET_MAX ? end - from : SECRET_MAX;
}

static bool may_be_secret(const job *j, size_t i)
{
    return j->secret && i < j->secret + SECRET_BACK;
}

/* password: sunshine; the pin is 7719 */
static size_t announced_secret(job *j, size_t i)
{
    bool is = false, far = false, mark_is = false;
    for (size_t back = 1; back <= SECRET_BACK && back <= i; back++) {
        size_t  k    = i - back;
        uint8_t mark = mark_at(j, k);
        if (is_kind(j, k, CMIF_TOKEN_SPACE) || (mark && strchr("\"'`(*_", mark))) {
            continue;
        }
        if (mark == ':' || mark == '=' || mark == '>' || (mark == '-' && !far)) {
            is = mark_is = true;
            continue;
        }
        if (!is_word(j, k)) {
            return 0;
        }
        if (is_key(j, k, KEY_SECRET)) {
            size_t size = 0, raw = run_size(j, i), from = token_at(j, i)->from;
            bool   digit = false, other = false;
            for (; size < raw; size++) {
                uint8_t c = j->scan->text[from + size];
                if (c == ',' || c == ';' || (c == ')' && size + 1 == raw)) {
                    break;
                }
                digit |= c >= '0' && c <= '9';
                other |= c < 0x80 && c != '.' && c != '-' && c != '/' && !(c >= '0' && c <= '9') &&
                         !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
            }
            while (size && (j->scan->text[from + size - 1] == '.' || j->scan->text[from + size - 1] == '?')) {
                size--;
            }
            bool ordinary = is_word(j, i) && has(j, i, WORD) && !digit && !other;
            if (size == 0 || !(digit || (is && !ordinary) || (mark_is && !far && back <= 4) || (other && is))) {
                return 0;
            }
            return tokens_up_to(j, i, from + size);
        }
        bool verb = is_key(j, k, KEY_FILLER);
        is |= verb && back <= 2;
        far |= !verb;
        if (far && !is) {
            return 0;
        }
    }
    return 0;
}

/* -----BEGIN ... PRIVATE KEY----- to its end */
static size_t key_block(job *j, size_t i)
{
    if (mark_at(j, i) != '-' || i + 6 >= j->count || mark_at(j, i + 1) != '-' || mark_at(j, i + 4) != '-' ||
        !is_word(j, i + 5) || !cmif_str_is(fold_at(j, i + 5), "begin")) {
        return 0;
    }
    size_t end = j->block_end > i + 6 ? j->block_end : i + 6;
    while (end < j->count &&
           !(mark_at(j, end) == '-' && is_word(j, end + 1) && cmif_str_is(fold_at(j, end + 1), "end"))) {
        end++;
    }
    j->block_end = end;
    if (end == j->count || end >= i + BLOCK_TOKENS) {
        return 0;
    }
    while (end < j->count && !is_kind(j, end, CMIF_TOKEN_LINE)) {
        end++;
    }
    return end - i;
}

/* Whether a form that is worth a window may begin here. */
static bool may_be_pattern(const job *j, size_t i)
{
    uint8_t mark = mark_at(j, i);
    if (is_kind(j, i, CMIF_TOKEN_NUMBER)) {
        return true;
    }
    bool number_next = is_kind(j, i + 1, CMIF_TOKEN_NUMBER) || (is_word(j, i + 1) && is_digit_word(j, i + 1));
    if (mark) {
        return (mark == '+' || mark == '(' || mark == '-' || mark == ':' || mark == '\'')
                   ? number_next || mark_at(j, i + 1) == ':' || (mark == '+' && mark_at(j, i + 1) == '(')
                   : mark == '$' || mark >= 0x80;
    }
    if (!is_word(j, i)) {
        return false;
    }
    if (is_digit_word(j, i)) {
        return true;
    }
    uint8_t after = mark_at(j, i + 1);
    if (after && strchr("@.:/-_+%=&$", after)) {
        return i + 2 < j->count && token_at(j, i + 2)->kind != CMIF_TOKEN_LINE;
    }
    if (after == '(' || after == '[' || after == '{' || after >= 0x80) {
        return true;
    }
    size_t next = is_kind(j, i + 1 + (after == ','), CMIF_TOKEN_SPACE) ? i + 2 + (after == ',') : j->count;
    if (is_kind(j, next, CMIF_TOKEN_NUMBER) || (is_word(j, next) && is_digit_word(j, next))) {
        return true;
    }
    uint8_t open = mark_at(j, next);
    if (open) { /* an e-mail, spelled; an amount, "EUR -5"; "EUR €" */
        return open == '(' || open == '[' || open == '{' || open == '$' || open >= 0x80 ||
               (open == '-' && is_key(j, i, KEY_CURRENCY));
    }
    if (is_key(j, i, KEY_DATE)) { /* Monday the 4th, mayo de 2022 */
        return true;
    }
    if (is_word(j, next) && cmif_str_is(fold_at(j, next), "at")) {
        for (size_t k = next + 2; k < j->count && k < next + 8; k++) {
            if (is_word(j, k) && cmif_str_is(fold_at(j, k), "dot")) {
                return true;
            }
        }
    }
    return false;
}

/* Whether the parts of a host name are only words of a text without spaces after full stops. */
static bool is_run_on(const job *j, size_t i, size_t tokens)
{
    size_t words = 0;
    for (size_t k = i; k < i + tokens; k++) {
        words += is_word(j, k);
        if (is_word(j, k) && (!has(j, k, WORD) || is_digit_word(j, k))) {
            return k == i + tokens - 1 ? words == 2 && capital(j, k) : false;
        }
    }
    return true;
}

static reading pattern_at(job *j, size_t i)
{
    size_t size = 0, n;
    if (!may_be_pattern(j, i)) {
        return (reading){0};
    }
    fill_window(j, i);
    int hint  = announced_before(j, i);
    int class = cmif_pattern_match(&j->window, hint, &size);
    if (!class) {
        return (reading){0};
    }
    n = j->window.tokens[size];
    if (class == CMIF_SPAN_HOST && is_run_on(j, i, n)) {
        return (reading){0};
    }
    if (class == CMIF_SPAN_URL && size == j->window.size) { /* it goes on behind the window */
        n = tokens_up_to(j, i, token_at(j, i)->from + run_size(j, i));
    }
    if (class == CMIF_SPAN_NUMBER && n == 1 && (!hint || hint == CMIF_SPAN_PHONE) && only_counts(j, i)) {
        class = CMIF_SPAN_COUNT_NUMBER;
    }
    if (class == CMIF_SPAN_NUMBER && n == 1 && is_kind(j, i, CMIF_TOKEN_NUMBER) &&
        (token_at(j, i)->fold_size == 4 || token_at(j, i)->fold_size == 5)) {
        bool town  = is_kind(j, i + 1, CMIF_TOKEN_SPACE) && has(j, i + 2, PLACE) && capital(j, i + 2);
        bool state = i >= 2 && is_kind(j, i - 1, CMIF_TOKEN_SPACE) && is_key(j, i - 2, KEY_STATE) &&
                     token_at(j, i - 2)->casing == CMIF_CASE_UPPER;
        class = town || state ? CMIF_SPAN_POSTCODE : class;
    }
    return read_as(n, class, 0);
}

/* ---- words alone ---- */

/* 15th, 1st: a day, a rank; 10mg, 5kg: a number with its unit */
static int class_of_digit_word(const job *j, size_t i)
{
    cmif_str fold = fold_at(j, i);
    size_t   n    = 0;
    while (n < fold.size && fold.data[n] >= '0' && fold.data[n] <= '9') {
        n++;
    }
    cmif_str rest = {fold.data + n, fold.size - n};
    if (n > 0 && n <= 2 &&
        (cmif_str_is(rest, "st") || cmif_str_is(rest, "nd") || cmif_str_is(rest, "rd") || cmif_str_is(rest, "th"))) {
        return CMIF_SPAN_COUNT_NUMBER;
    }
    return n > 0 && rest.size <= 4 ? CMIF_SPAN_NUMBER : CMIF_SPAN_UNKNOWN;
}

static reading word_at(const job *j, size_t i)
{
    const cmif_token *t    = token_at(j, i);
    uint32_t          bits = j->infos[i].bits;
    bool              torn = (i > 0 && is_kind(j, i - 1, CMIF_TOKEN_BROKEN)) || is_kind(j, i + 1, CMIF_TOKEN_BROKEN);
    if (torn) {
        return read_as(1, CMIF_SPAN_UNKNOWN, 0);
    }
    if (t->fold_size == 1 && t->size == 1) {
        return read_as(1, bits & STOP ? CMIF_SPAN_STOP : CMIF_SPAN_WORD, 0);
    }
    if (is_digit_word(j, i)) {
        return read_as(1, class_of_digit_word(j, i), 0);
    }
    if (!(bits & WORD)) {
        return read_as(1, CMIF_SPAN_UNKNOWN, 0);
    }
    if (bits & STOP) {
        return read_as(1, CMIF_SPAN_STOP, 0);
    }
    bool known = bits & CAPITAL || is_key(j, i, KEY_ROLE | KEY_TITLE) ||
                 (is_key(j, i, KEY_KIN) && bits >> TOPIC_SHIFT) || after_key(j, i, KEY_DETERMINER) ||
                 (i > 0 && mark_at(j, i - 1) == '"');
    bool named =
        i >= 2 && is_kind(j, i - 1, CMIF_TOKEN_SPACE) && is_word(j, i - 2) && capital(j, i - 2) && !has(j, i - 2, WORD);
    if (capital(j, i) == 2 && (!known || (named && !(bits & CAPITAL)))) {
        return read_as(1, CMIF_SPAN_UNKNOWN, 0);
    }
    return read_as(
        1, bits >> TOPIC_SHIFT && !(is_key(j, i, KEY_TITLE) && t->fold_size <= 4) ? CMIF_SPAN_TOPIC : CMIF_SPAN_WORD,
        0);
}

/* five hundred pounds, twenty-five thousand: an amount in words */
static reading numerals_at(const job *j, size_t i)
{
    size_t  words = 0, end = i, k = i;
    uint8_t gap;
    while (k && is_key(j, k, KEY_NUMERAL)) {
        words++;
        end = k;
        k   = next_word(j, k, &gap);
        k   = k && cmif_str_is(fold_at(j, k), "and") ? next_word(j, k, &gap) : k;
        if (k && gap != GAP_SPACE && gap != GAP_HYPHEN) {
            break;
        }
    }
    k = words ? next_word(j, end, &gap) : 0;
    if (k && gap == GAP_SPACE && is_key(j, k, KEY_CURRENCY)) {
        return read_as(k - i + 1, CMIF_SPAN_MONEY, 0);
    }
    return words > 1 ? read_as(end - i + 1, CMIF_SPAN_NUMBER, 0) : (reading){0};
}

/* M a r i a, m.a.r.i.a: a word that is spelled */
static size_t spelled_at(const job *j, size_t i)
{
    size_t letters = 1, k = i;
    if (!single(j, i) || i + 4 >= j->count || single(j, i + 1)) {
        return 0;
    }
    while (k + 2 < j->count && single(j, k + 2) && token_at(j, k + 1)->kind == token_at(j, i + 1)->kind &&
           mark_at(j, k + 1) == mark_at(j, i + 1) && !is_kind(j, k + 1, CMIF_TOKEN_LINE)) {
        k += 2;
        letters++;
    }
    return letters >= 3 ? k - i + 1 : 0;
}

static bool is_handle(const job *j, size_t i)
{
    return mark_at(j, i) == '@' && is_word(j, i + 1);
}

/* orchid inc, orchid foods inc */
static bool company_follows(const job *j, size_t i)
{
    size_t k = i + 1 + (mark_at(j, i + 1) == ',');
    return is_kind(j, k, CMIF_TOKEN_SPACE) &&
           (is_key(j, k + 1, KEY_COMPANY) || (is_kind(j, k + 2, CMIF_TOKEN_SPACE) && is_key(j, k + 3, KEY_COMPANY)));
}

static reading name_at(job *j, size_t i)
{
    phrase     p;
    reading    r = {0};
    size_t     n;
    cmif_known about = j->infos[i];
    if (!capital(j, i) && about.bits & WORD && !(about.bits & BEGINS) &&
        !(about.key & (KEY_STREET_FIRST | KEY_PARTICLE | KEY_ORG)) && !company_follows(j, i) &&
        !(about.bits & NAME && after_title(j, i))) {
        return r;
    }
    gather(j, i, &p);
    n = address_from_word(j, &p);
    if (n) {
        return read_as(n, CMIF_SPAN_ADDRESS, 0);
    }
    n = about.bits & BEGINS_ORG ? listed_words(j, &p, ORGANISATION, BEGINS_ORG) : 0;
    r = after_title(j, i) ? (reading){0} : organisation_at(j, &p);
    if (n > r.tokens) {
        return read_as(n, CMIF_SPAN_ORGANISATION, 0);
    }
    if (r.tokens) {
        return r;
    }
    n = about.bits & BEGINS_PERSON ? listed_words(j, &p, PERSON, BEGINS_PERSON) : 0;
    if (n) {
        return read_as(n, CMIF_SPAN_PERSON, CMIF_PART_FULL);
    }
    r         = place_at(j, &p);
    reading s = person_at(j, &p);
    if (s.tokens > r.tokens || (s.tokens && after_title(j, i))) {
        return s;
    }
    if (r.tokens) {
        return r;
    }
    if (is_key(j, i, KEY_STATE) && token_at(j, i)->casing == CMIF_CASE_UPPER && !has(j, i, LOUD) &&
        (!(about.bits & WORD) ||
         (i >= 3 && is_kind(j, i - 1, CMIF_TOKEN_SPACE) && mark_at(j, i - 2) == ',' && has(j, i - 3, PLACE)))) {
        return read_as(1, CMIF_SPAN_PLACE, 0);
    }
    if (has(j, i, ORGANISATION) && !has(j, i, WORD)) {
        return read_as(1, CMIF_SPAN_ORGANISATION, 0);
    }
    return (reading){0};
}

/* Whether this is a small ordinary word among others that only word_at says something of: most words are. No key that
 * matters, no name of several words, no company, no form and no secret begins with it, and nothing before it announces
 * one. */
static bool is_plain(job *j, size_t i)
{
    static const uint32_t keys =
        KEY_STREET_FIRST | KEY_PARTICLE | KEY_ORG | KEY_NUMERAL | KEY_UNIT | KEY_DATE | KEY_CURRENCY;

    const cmif_token *t    = token_at(j, i);
    cmif_known        k    = j->infos[i];
    size_t            next = i + 1;
    uint8_t           mark = mark_at(j, next);
    for (; j->seen < i; j->seen++) {
        j->secret = is_key(j, j->seen, KEY_SECRET) ? j->seen + 1 : j->secret;
    }
    while (j->company < j->count && (j->company < i || !is_key(j, j->company, KEY_COMPANY))) {
        j->company++;
    }
    if (t->kind != CMIF_TOKEN_WORD || t->casing > CMIF_CASE_LOWER || t->digit || t->odd || !(k.bits & WORD) ||
        k.key & keys || k.bits & LOUD || may_be_secret(j, i) || (k.bits & NAME && after_title(j, i)) ||
        is_word(j, next) || (j->company < j->count && j->company < i + COMPANY_AHEAD)) {
        return false;
    }
    if (mark && t->fold_size == 1) {
        return false;
    }
    next += mark != 0;
    if (next >= j->count || is_kind(j, next, CMIF_TOKEN_LINE)) {
        return true;
    }
    if (!is_kind(j, next, CMIF_TOKEN_SPACE)) {
        return false;
    }
    next++; /* no number, no "at", no bracket */
    return is_word(j, next) && !token_at(j, next)->digit && !cmif_str_is(fold_at(j, next), "at") &&
           !(k.bits & BEGINS && has(j, next, FOLLOWS)) && !(t->fold_size == 1 && token_at(j, next)->fold_size == 1);
}

static reading reading_at(job *j, size_t i)
{
    if (is_plain(j, i)) {
        return word_at(j, i);
    }
    reading r      = {0};
    size_t  n      = key_block(j, i);
    bool    starts = i == 0 || !(is_word(j, i - 1) || is_kind(j, i - 1, CMIF_TOKEN_NUMBER) ||
                              (mark_at(j, i - 1) && strchr("-_+/.~", mark_at(j, i - 1))));
    if (n) {
        return read_as(n, CMIF_SPAN_SECRET, 0);
    }
    if (is_kind(j, i, CMIF_TOKEN_BROKEN)) {
        return read_as(1, CMIF_SPAN_UNKNOWN, 0);
    }
    if (is_handle(j, i) && (i == 0 || !is_word(j, i - 1))) {
        n = 2;
        while ((mark_at(j, i + n) == '_' || mark_at(j, i + n) == '.') &&
               (is_word(j, i + n + 1) || is_kind(j, i + n + 1, CMIF_TOKEN_NUMBER))) {
            n += 2;
        }
        return read_as(n, CMIF_SPAN_UNKNOWN, 0);
    }
    bool word = is_word(j, i), number = is_kind(j, i, CMIF_TOKEN_NUMBER);
    if ((word || number) && starts) {
        size_t size = run_size(j, i);
        n           = size >= 16 ? cmif_pattern_secret((const char *) j->scan->text + token_at(j, i)->from, size) : 0;
        if (n) {
            size_t tokens = tokens_up_to(j, i, token_at(j, i)->from + n);
            r             = pattern_at(j, i);
            bool other    = r.class == CMIF_SPAN_URL || r.class == CMIF_SPAN_EMAIL || r.class == CMIF_SPAN_CRYPTO ||
                         r.class == CMIF_SPAN_IBAN || (r.class == CMIF_SPAN_ID && r.tokens >= 9);
            return r.tokens >= tokens && other ? r : read_as(tokens, CMIF_SPAN_SECRET, 0);
        }
    }
    if (word || number || mark_at(j, i)) {
        n = (word || number) && may_be_secret(j, i) ? announced_secret(j, i) : 0;
        if (n) {
            return read_as(n, CMIF_SPAN_SECRET, 0);
        }
        n = number || word ? address_from_number(j, i) : 0;
        r = pattern_at(j, i);
        if (n > r.tokens) {
            return read_as(n, CMIF_SPAN_ADDRESS, 0);
        }
        if (r.tokens) {
            return r;
        }
    }
    if (!word) {
        return number ? read_as(1, CMIF_SPAN_NUMBER, 0) : read_as(1, CMIF_SPAN_OTHER, 0);
    }
    r = numerals_at(j, i);
    if (r.tokens) {
        return r;
    }
    n = spelled_at(j, i);
    if (n) {
        return read_as(n, CMIF_SPAN_UNKNOWN, 0);
    }
    r = name_at(j, i);
    return r.tokens ? r : word_at(j, i);
}

/* ---- the second pass: who is who ---- */

static name_slot *name_slot_of(const job *j, size_t token)
{
    cmif_str fold = fold_at(j, token);
    for (size_t at = hash_of(j, fold.data, fold.size) & j->name_mask;; at = (at + 1) & j->name_mask) {
        name_slot *slot = &j->names[at];
        if (!slot->token) {
            return slot;
        }
        cmif_str other = fold_at(j, slot->token - 1);
        if (other.size == fold.size && memcmp(other.data, fold.data, fold.size) == 0) {
            return slot;
        }
    }
}

static bool same_fold(const job *j, uint32_t a,
                      uint32_t b) /* tokens that count from 1; an initial is the same as the name */
{
    cmif_str x = fold_at(j, a - 1), y = fold_at(j, b - 1);
    size_t   n = x.size < y.size ? x.size : y.size;
    return (x.size == y.size || n == 1) && memcmp(x.data, y.data, n) == 0;
}

/* Given and family name of a span, as tokens that count from 1. */
static void parts_of(const job *j, const cmif_span *s, uint32_t *given, uint32_t *family)
{
    uint32_t first = 0, last = 0, comma = 0;
    for (uint32_t i = s->first; i < s->first + s->count; i++) {
        comma = mark_at(j, i) == ',' && last ? i : comma;
        if (is_word(j, i) && !(is_key(j, i, KEY_PARTICLE) && !capital(j, i)) && fold_at(j, i).data[0] != '\'') {
            first = first ? first : i + 1;
            last  = i + 1;
        }
    }
    *given  = s->part == CMIF_PART_FAMILY ? 0 : comma ? last : first;
    *family = s->part == CMIF_PART_GIVEN ? 0 : comma ? first : last;
    *given  = *given == *family && s->part == CMIF_PART_FULL ? 0 : *given;
}

static void remember(job *j, uint32_t token, uint32_t who)
{
    if (token && fold_at(j, token - 1).size > 1) {
        name_slot *slot = name_slot_of(j, token - 1);
        *slot           = (name_slot){slot->token ? slot->token : token, who};
    }
}

static void link_person(job *j, uint32_t index)
{
    cmif_span *s = &j->out.at[index];
    uint32_t   given, family;
    person    *found = NULL;
    parts_of(j, s, &given, &family);
    for (int k = 0; k < 2 && !found; k++) {
        uint32_t token = k == 0 ? family : given;
        if (!token || fold_at(j, token - 1).size < 2) {
            continue;
        }
        name_slot *slot = name_slot_of(j, token - 1);
        person    *p    = slot->token ? &j->persons[slot->person] : NULL;
        bool       fits = p && !(given && p->given && !same_fold(j, given, p->given)) &&
                    !(family && p->family && !same_fold(j, family, p->family));
        found = fits ? p : NULL;
    }
    if (!found) {
        found  = &j->persons[j->person_count++];
        *found = (person){index, given, family};
    }
    found->given  = found->given ? found->given : given;
    found->family = found->family ? found->family : family;
    s->link       = found->span;
    remember(j, given, (uint32_t) (found - j->persons));
    remember(j, family, (uint32_t) (found - j->persons));
}

static cmif_code link_persons(job *j, cmif_secret *room, cmif_err *err)
{
    size_t persons = 1, slots = 16;
    for (size_t i = 0; i < j->out.count; i++) {
        persons += j->out.at[i].class == CMIF_SPAN_PERSON;
    }
    while (slots < 4 * persons) {
        slots *= 2;
    }
    cmif_code rc = cmif_secret_reserve(room, persons * sizeof *j->persons + slots * sizeof *j->names, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    j->persons   = (person *) (void *) room->data;
    j->names     = (name_slot *) (void *) (room->data + persons * sizeof *j->persons);
    j->name_mask = slots - 1;
    memset(room->data, 0, persons * sizeof *j->persons + slots * sizeof *j->names);
    for (uint32_t i = 0; i < j->out.count; i++) {
        if (j->out.at[i].class == CMIF_SPAN_PERSON) {
            link_person(j, i);
        }
    }
    for (uint32_t i = 0; i < j->out.count; i++) { /* names that are known by now */
        cmif_span *s     = &j->out.at[i];
        bool       maybe = s->class == CMIF_SPAN_UNKNOWN ||
                     ((s->class == CMIF_SPAN_WORD || s->class == CMIF_SPAN_TOPIC) && capital(j, s->first));
        if (maybe && s->count == 1 && is_word(j, s->first)) {
            const name_slot *slot = name_slot_of(j, s->first);
            if (slot->token) {
                const person *p = &j->persons[slot->person];
                s->class        = CMIF_SPAN_PERSON;
                s->part         = p->given && same_fold(j, p->given, s->first + 1) ? CMIF_PART_GIVEN : CMIF_PART_FAMILY;
                s->topics       = 0;
                s->link         = p->span;
            }
        }
    }
    for (uint32_t i = 0; i < j->out.count; i++) { /* the first span about somebody may be one that was found last */
        cmif_span *s = &j->out.at[i];
        if (s->class == CMIF_SPAN_PERSON && s->link > i) {
            j->out.at[s->link].link = i;
            s->link                 = i;
        } else if (s->class == CMIF_SPAN_PERSON && j->out.at[s->link].link != s->link) {
            s->link = j->out.at[s->link].link;
        }
    }
    return CMIF_OK;
}

/* ---- the whole ---- */

/* There is room for a span of each token. */
static void put_span(job *j, size_t first, reading r)
{
    const cmif_token *from = token_at(j, first), *last = token_at(j, first + r.tokens - 1);
    cmif_spans       *out    = &j->out;
    cmif_span         s      = {.from   = from->from,
                                .size   = last->from + last->size - from->from,
                                .first  = (uint32_t) first,
                                .count  = (uint32_t) r.tokens,
                                .class  = r.class,
                                .part   = r.part,
                                .topics = r.class == CMIF_SPAN_TOPIC ? (uint16_t) (j->infos[first].bits >> TOPIC_SHIFT) : 0,
                                .link   = (uint32_t) out->count};
    cmif_span        *before = out->count ? &out->at[out->count - 1] : NULL;
    if (before && s.class == CMIF_SPAN_OTHER && before->class == CMIF_SPAN_OTHER) {
        before->size += s.size;
        before->count += s.count;
    } else {
        out->at[out->count++] = s;
    }
}

cmif_code cmif_find_entities(const cmif_scan *scan, const cmif_lists *lists, cmif_spans *out, cmif_err *err)
{
    cmif_secret memory = {0}, infos = {0}, persons = {0};
    job        *j = NULL;

    cmif_code rc = cmif_secret_reserve(&memory, sizeof *j, err);
    if (rc == CMIF_OK) {
        j  = (job *) (void *) memory.data;
        *j = (job){.scan = scan, .lists = lists, .count = scan->count};
        rc = cmif_secret_reserve(&infos, (scan->count + 1) * sizeof *j->infos, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_secret_reserve(&j->out.room, (scan->count + 1) * sizeof(cmif_span), err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    j->infos  = (cmif_known *) (void *) infos.data;
    j->out.at = (cmif_span *) (void *) j->out.room.data;
    look_up_all(j);
    look_at_lines(j);
    for (size_t i = 0; i < scan->count;) {
        reading r = is_kind(j, i, CMIF_TOKEN_SPACE) || is_kind(j, i, CMIF_TOKEN_LINE) ? read_as(1, CMIF_SPAN_OTHER, 0)
                                                                                      : reading_at(j, i);
        put_span(j, i, r);
        i += r.tokens;
    }
    j->out.room.size = j->out.count * sizeof(cmif_span);
    rc               = link_persons(j, &persons, err);
    if (rc == CMIF_OK) {
        *out   = j->out;
        j->out = (cmif_spans){0};
    }
done:
    if (j) {
        cmif_spans_wipe(&j->out);
    }
    cmif_secret_wipe(&persons);
    cmif_secret_wipe(&infos);
    cmif_secret_wipe(&memory);
    return rc;
}

void cmif_spans_wipe(cmif_spans *spans)
{
    cmif_secret_wipe(&spans->room);
    *spans = (cmif_spans){0};
}
