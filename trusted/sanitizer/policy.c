#include "sanitizer/policy.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_SIZE_MAX  = 1 << 20,
    NAMED_MAX      = 4096, /* names that are allowed, or denied */
    NAMED_SIZE_MAX = 256,  /* bytes of one, folded */
    TOPICS         = CMIF_TOPICS,
    BASES          = 3,
    BUDGETS        = 3
};
static const double MICRO = 1e6;

static const char *const action_names[]      = {"pass", "channel", "surrogate", "refuse"};
static const char *const base_names[BASES]   = {"names", "topics", "words"};
static const char *const topic_names[TOPICS] = {"health",   "money", "law",       "religion", "sex",
                                                "politics", "crime", "ethnicity", "family"}; /* by bit */
static const char *const budget_names[]      = {"request", "day", "key"};

/* What each named policy does; what is not here becomes a surrogate. */
static const struct {
    cmif_span_class class;
    cmif_action names, topics, words;
} defaults[] = {{CMIF_SPAN_OTHER, CMIF_ACTION_PASS, CMIF_ACTION_PASS, CMIF_ACTION_PASS},
                {CMIF_SPAN_STOP, CMIF_ACTION_PASS, CMIF_ACTION_PASS, CMIF_ACTION_PASS},
                {CMIF_SPAN_WORD, CMIF_ACTION_PASS, CMIF_ACTION_PASS, CMIF_ACTION_CHANNEL},
                {CMIF_SPAN_TOPIC, CMIF_ACTION_PASS, CMIF_ACTION_CHANNEL, CMIF_ACTION_CHANNEL},
                {CMIF_SPAN_COUNT_NUMBER, CMIF_ACTION_PASS, CMIF_ACTION_PASS, CMIF_ACTION_PASS}};

const char *cmif_action_name(cmif_action action)
{
    return (unsigned) action <= CMIF_ACTION_REFUSE ? action_names[action] : "?";
}

/* Which of the names it is, or count. */
static size_t find_name(cmif_str text, const char *const *names, size_t count)
{
    size_t i = 0;
    while (i < count && !cmif_str_is(text, names[i])) {
        i++;
    }
    return i;
}

static void set_defaults(cmif_policy *p, size_t base)
{
    snprintf(p->base, sizeof p->base, "%s", base_names[base]);
    for (size_t i = 0; i < CMIF_SPAN_CLASSES; i++) {
        p->actions[i] = CMIF_ACTION_SURROGATE;
    }
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        p->actions[defaults[i].class] = base == 0   ? defaults[i].names
                                        : base == 1 ? defaults[i].topics
                                                    : defaults[i].words;
    }
}

/* ---- reading ---- nothing that stands in the file is ever in a message: a name may have slipped into the wrong place.
 */

typedef struct reading {
    cmif_policy *policy;
    const char  *at, *end; /* of the line */
    unsigned     line;
    bool         has_base, has_class[CMIF_SPAN_CLASSES], has_budget[BUDGETS], has_weight[TOPICS];
    cmif_err    *err;
} reading;

static cmif_code bad(const reading *r, const char *what)
{
    return cmif_fail(r->err, CMIF_E_FORMAT, "line %u: %s", r->line, what);
}

/* The next field of the line: bytes up to white space or #, or what is between quotes. Empty: there is none. */
static cmif_code next_field(reading *r, bool quoted, cmif_str *out)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r')) {
        r->at++;
    }
    *out = (cmif_str){r->at, 0};
    if (r->at == r->end || *r->at == '#') {
        r->at = r->end;
        return CMIF_OK;
    }
    if (quoted != (*r->at == '"')) {
        return bad(r, quoted ? "expected a name between \" and \"" : "found a \" where none can be");
    }
    if (!quoted) {
        while (r->at < r->end && !memchr(" \t\r#\"", *r->at, 5)) {
            r->at++;
        }
        out->size = (size_t) (r->at - out->data);
        return CMIF_OK;
    }
    out->data++;
    r->at = memchr(out->data, '"', (size_t) (r->end - out->data));
    if (!r->at) {
        return bad(r, "a \" without the one that ends the name");
    }
    out->size = (size_t) (r->at++ - out->data);
    return CMIF_OK;
}

static cmif_code end_of_line(reading *r)
{
    cmif_str  more;
    cmif_code rc = next_field(r, false, &more);
    return rc == CMIF_OK && more.size > 0 ? bad(r, "expected the end of the line, found text") : rc;
}

/* A decimal number with at most 6 digits behind the point, in millionths: what is written is what is meant. */
static bool read_micro(cmif_str text, uint64_t *out)
{
    uint64_t value  = 0;
    size_t   before = 0, behind = 0;
    bool     point = false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t) (text.data[i] - '0');
        behind += point;
        before += !point;
        if (before > 9 || behind > 6) {
            return false;
        }
    }
    for (size_t i = behind; i < 6; i++) {
        value *= 10;
    }
    *out = value;
    return before > 0 && (!point || behind > 0);
}

/* Words as scan.h folds them, one space between. RANGE: no word, a character that is none, or too long. */
static cmif_code fold_words(cmif_str text, char out[static NAMED_SIZE_MAX + 1], size_t *size)
{
    cmif_scan scan = {0};
    cmif_code rc   = cmif_scan_text(text.data, text.size, &scan, NULL);
    *size          = 0;
    for (size_t i = 0; rc == CMIF_OK && i < scan.count; i++) {
        cmif_str fold = cmif_token_fold(&scan, &scan.tokens[i]);
        if (scan.tokens[i].kind == CMIF_TOKEN_BROKEN) {
            rc = CMIF_E_RANGE;
        } else if (scan.tokens[i].kind <= CMIF_TOKEN_NUMBER) {
            if (*size + 1 + fold.size > NAMED_SIZE_MAX) {
                rc = CMIF_E_RANGE;
                break;
            }
            if (*size > 0 && fold.data[0] != '\'') { /* 's is a word of its own, without a space in front */
                out[(*size)++] = ' ';
            }
            memcpy(out + *size, fold.data, fold.size);
            *size += fold.size;
        }
    }
    cmif_scan_wipe(&scan);
    out[*size] = 0;
    return rc == CMIF_OK && *size == 0 ? CMIF_E_RANGE : rc;
}

bool cmif_named_find(const cmif_named *list, size_t count, const char *text, size_t *place)
{
    size_t from = 0, to = count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int    order  = strcmp(list[middle].text, text);
        if (order == 0) {
            *place = middle;
            return true;
        }
        from = order < 0 ? middle + 1 : from;
        to   = order < 0 ? to : middle;
    }
    *place = from;
    return false;
}

static cmif_code read_named(reading *r, bool deny)
{
    cmif_policy *p     = r->policy;
    cmif_named **list  = deny ? &p->deny : &p->allow;
    size_t      *count = deny ? &p->deny_count : &p->allow_count, size = 0, again_size = 0, place = 0;
    char         text[NAMED_SIZE_MAX + 1] = {0}, again[NAMED_SIZE_MAX + 1] = {0};
    cmif_named   one = {.class = CMIF_SPAN_ORGANISATION};
    cmif_str     field;

    cmif_code rc = next_field(r, true, &field);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = fold_words(field, text, &size);
    if (rc == CMIF_OK) {
        rc = fold_words((cmif_str){text, size}, again, &again_size);
    }
    if (rc == CMIF_E_RANGE || (rc == CMIF_OK && strcmp(text, again) != 0)) {
        rc = bad(r, "expected a name of words between \" and \", of at most 256 bytes and no broken character");
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = next_field(r, false, &field);
    if (rc != CMIF_OK) {
        goto done;
    }
    if (deny && field.size > 0) {
        static const cmif_span_class may[] = {CMIF_SPAN_PERSON, CMIF_SPAN_PLACE, CMIF_SPAN_ORGANISATION,
                                              CMIF_SPAN_UNKNOWN};
        size_t                       i     = 0;
        while (i < 4 && !cmif_str_is(field, cmif_span_class_name(may[i]))) {
            i++;
        }
        if (i == 4) {
            rc = bad(r, "what is denied is a person, place, organisation or unknown");
            goto done;
        }
        one.class  = may[i];
        field.size = 0;
    }
    if (field.size > 0) {
        rc = bad(r, "expected the end of the line, found text");
        goto done;
    }
    if (cmif_named_find(p->allow, p->allow_count, text, &place) ||
        cmif_named_find(p->deny, p->deny_count, text, &place)) {
        rc = bad(r, "this name was allowed or denied before");
        goto done;
    }
    if (*count == NAMED_MAX) {
        rc = bad(r, "more than 4096 names");
        goto done;
    }
    (void) cmif_named_find(*list, *count, text, &place);
    if (!*list) {
        *list = calloc(NAMED_MAX, sizeof **list);
    }
    one.text = *list ? strdup(text) : NULL;
    if (!one.text) {
        rc = cmif_fail(r->err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    memmove(*list + place + 1, *list + place, (*count - place) * sizeof one);
    (*list)[place] = one;
    (*count)++;
done:
    cmif_wipe(text, sizeof text);
    cmif_wipe(again, sizeof again);
    return rc;
}

static bool may_be(cmif_span_class class, cmif_action action)
{
    if (class == CMIF_SPAN_UNKNOWN && action == CMIF_ACTION_PASS) {
        return false;
    }
    return action != CMIF_ACTION_CHANNEL || (class >= CMIF_SPAN_STOP && class <= CMIF_SPAN_TOPIC);
}

static cmif_code set_class(reading *r, cmif_span_class class, cmif_action action)
{
    if (r->has_class[class]) {
        return bad(r, "this class was given before");
    }
    if (!may_be(class, action)) {
        return bad(r, action == CMIF_ACTION_PASS ? "unknown words never pass: surrogate or refuse"
                                                 : "only the classes stop, word and topic go through a channel");
    }
    r->has_class[class]       = true;
    r->policy->actions[class] = action;
    return CMIF_OK;
}

static cmif_code read_class(reading *r)
{
    cmif_str name, action;
    cmif_span_class class = CMIF_SPAN_OTHER;
    cmif_code rc          = next_field(r, false, &name);
    if (rc == CMIF_OK) {
        rc = next_field(r, false, &action);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    while (class < CMIF_SPAN_CLASSES && !cmif_str_is(name, cmif_span_class_name(class))) {
        class ++;
    }
    if (class == CMIF_SPAN_CLASSES || class == CMIF_SPAN_OTHER) {
        return bad(r, class == CMIF_SPAN_OTHER ? "white space and punctuation always pass"
                                               : "expected the name of a class, as 'cmif policy show' lists them");
    }
    size_t which = find_name(action, action_names, sizeof action_names / sizeof *action_names);
    if (which > CMIF_ACTION_REFUSE) {
        return bad(r, "expected surrogate, channel, pass or refuse");
    }
    return set_class(r, class, (cmif_action) which);
}

/* "budget request 50", "weight health 0.5" */
static cmif_code read_number(reading *r, bool weight)
{
    cmif_str  name, number;
    uint64_t  micro = 0;
    cmif_code rc    = next_field(r, false, &name);
    if (rc == CMIF_OK) {
        rc = next_field(r, false, &number);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    size_t count = weight ? TOPICS : BUDGETS, which = find_name(name, weight ? topic_names : budget_names, count);
    if (which == count) {
        return bad(r, weight ? "expected a topic: health, money, law, religion, sex, politics, crime, ethnicity, family"
                             : "expected request, day or key");
    }
    bool *has = weight ? &r->has_weight[which] : &r->has_budget[which];
    if (*has) {
        return bad(r, weight ? "this weight was given before" : "this budget was given before");
    }
    if (!read_micro(number, &micro) || (weight && micro == 0)) {
        return bad(r, weight ? "expected a number above 0, of at most 9 digits, and 6 behind the point"
                             : "expected a number of at most 9 digits, and 6 behind the point");
    }
    double *budgets[BUDGETS] = {&r->policy->budget_request, &r->policy->budget_day, &r->policy->budget_key};
    *(weight ? &r->policy->weights[which] : budgets[which]) = (double) micro / MICRO;
    *has                                                    = true;
    return CMIF_OK;
}

static cmif_code read_line(reading *r)
{
    static const char *const keys[] = {"policy", "stop-words", "class", "allow", "deny", "budget", "weight"};
    enum { POLICY, STOP_WORDS, CLASS, ALLOW, DENY, BUDGET, WEIGHT, KEYS };
    cmif_str  key, value = {0};
    cmif_code rc = next_field(r, false, &key);
    if (rc != CMIF_OK || key.size == 0) {
        return rc;
    }
    size_t which = find_name(key, keys, KEYS);
    if (which == KEYS) {
        return bad(r, "expected policy, stop-words, class, allow, deny, budget or weight");
    }
    if ((which == POLICY) == r->has_base) {
        return bad(r, r->has_base ? "policy was given before"
                                  : "expected 'policy names', 'policy topics' or "
                                    "'policy words' first");
    }
    switch (which) {
    case POLICY:
    case STOP_WORDS:
        rc = next_field(r, false, &value);
        break;
    case CLASS:
        rc = read_class(r);
        break;
    case BUDGET:
    case WEIGHT:
        rc = read_number(r, which == WEIGHT);
        break;
    default:
        rc = read_named(r, which == DENY);
        break;
    }
    if (rc == CMIF_OK && which == POLICY) {
        size_t base = find_name(value, base_names, BASES);
        if (base == BASES) {
            return bad(r, "expected names, topics or words");
        }
        set_defaults(r->policy, base);
        r->has_base = true;
    } else if (rc == CMIF_OK && which == STOP_WORDS) {
        bool protect = cmif_str_is(value, "protect");
        if (!protect && !cmif_str_is(value, "pass")) {
            return bad(r, "expected pass or protect");
        }
        rc = set_class(r, CMIF_SPAN_STOP, protect ? CMIF_ACTION_CHANNEL : CMIF_ACTION_PASS);
    }
    return rc == CMIF_OK ? end_of_line(r) : rc;
}

static cmif_code set_hash(cmif_policy *p, cmif_err *err)
{
    char     *canonical = cmif_policy_text(p);
    size_t    size      = canonical ? strlen(canonical) : 0;
    cmif_code rc        = CMIF_OK;
    if (!canonical || !EVP_Digest(canonical, size, p->hash, NULL, EVP_sha256(), NULL)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
    }
    cmif_wipe(canonical, size);
    free(canonical);
    return rc;
}

cmif_code cmif_policy_stop_words(cmif_policy *policy, cmif_action action, cmif_err *err)
{
    policy->actions[CMIF_SPAN_STOP] = action;
    return set_hash(policy, err);
}

cmif_code cmif_policy_parse(const char *text, size_t size, cmif_policy **out, cmif_err *err)
{
    cmif_code    rc = CMIF_OK;
    cmif_policy *p  = calloc(1, sizeof *p);
    reading      r  = {.policy = p, .err = err};
    if (!p) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    p->budget_request = p->budget_day = p->budget_key = INFINITY;
    for (size_t i = 0; i < sizeof p->weights / sizeof *p->weights; i++) {
        p->weights[i] = 1;
    }
    if (size > FILE_SIZE_MAX) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "a policy of %zu bytes: at most %d can be", size, FILE_SIZE_MAX);
        goto done;
    }
    for (size_t at = 0; rc == CMIF_OK && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        r.at            = text + at;
        r.end           = end ? end : text + size;
        r.line++;
        at = (size_t) (r.end - text) + 1;
        rc = read_line(&r);
    }
    if (rc == CMIF_OK && !r.has_base) {
        r.line = r.line ? r.line : 1;
        rc     = bad(&r, "expected 'policy names', 'policy topics' or 'policy words' first");
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = set_hash(p, err);
    if (rc == CMIF_OK) {
        *out = p;
        p    = NULL;
    }
done:
    cmif_policy_free(p);
    return rc;
}

cmif_code cmif_policy_named(const char *name, cmif_policy **out, cmif_err *err)
{
    char text[32];
    if (find_name((cmif_str){name, strlen(name)}, base_names, BASES) == BASES) {
        return cmif_fail(err, CMIF_E_RANGE, "no such policy: expected names, topics or words");
    }
    int size = snprintf(text, sizeof text, "policy %s\n", name);
    return cmif_policy_parse(text, (size_t) size, out, err);
}

cmif_code cmif_policy_open(const char *path, cmif_policy **out, cmif_err *err)
{
    cmif_code   rc   = CMIF_OK;
    cmif_secret text = {0}; /* names that a person denies are nobody's business */
    int         fd   = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open policy '%s': %s", path, strerror(errno));
        goto done;
    }
    rc = cmif_secret_reserve(&text, FILE_SIZE_MAX + 1, err);
    while (rc == CMIF_OK && text.size <= FILE_SIZE_MAX) {
        ssize_t n = read(fd, text.data + text.size, FILE_SIZE_MAX + 1 - text.size);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read policy '%s': %s", path, strerror(errno));
        }
        text.size += n > 0 ? (size_t) n : 0;
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = cmif_policy_parse((const char *) text.data, text.size, out, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "policy '%s'", path);
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    cmif_secret_wipe(&text);
    return rc;
}

static void free_named(cmif_named *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cmif_wipe(list[i].text, strlen(list[i].text));
        free(list[i].text);
    }
    free(list);
}

void cmif_policy_free(cmif_policy *policy)
{
    if (policy) {
        free_named(policy->allow, policy->allow_count);
        free_named(policy->deny, policy->deny_count);
        free(policy);
    }
}

/* ---- writing ---- */

static void put(cmif_writer *w, const char *text)
{
    cmif_write_bytes(w, text, strlen(text));
}

static void put_line(cmif_writer *w, const char *key, const char *name, const char *value)
{
    const char *const parts[] = {key, " ", name, value ? " " : "", value ? value : "", "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        put(w, parts[i]);
    }
}

static void put_number(cmif_writer *w, const char *key, const char *name, double value)
{
    char     number[40];
    uint64_t micro = (uint64_t) llround(value * MICRO);
    int      size  = snprintf(number, sizeof number, "%llu.%06llu", (unsigned long long) (micro / 1000000),
                              (unsigned long long) (micro % 1000000));
    while (size > 0 && number[size - 1] == '0') {
        number[--size] = 0;
    }
    if (size > 0 && number[size - 1] == '.') {
        number[--size] = 0;
    }
    put_line(w, key, name, number);
}

static void put_named(cmif_writer *w, const char *key, const cmif_named *list, size_t count, bool classes)
{
    for (size_t i = 0; i < count; i++) {
        put(w, key);
        put(w, " \"");
        put(w, list[i].text);
        put(w, classes ? "\" " : "\"");
        put(w, classes ? cmif_span_class_name(list[i].class) : "");
        put(w, "\n");
    }
}

char *cmif_policy_text(const cmif_policy *p)
{
    const double budgets[BUDGETS] = {p->budget_request, p->budget_day, p->budget_key};
    cmif_action  stop             = p->actions[CMIF_SPAN_STOP];
    size_t       room             = 64 * (CMIF_SPAN_CLASSES + BUDGETS + TOPICS + 4);
    for (size_t i = 0; i < p->allow_count; i++) {
        room += strlen(p->allow[i].text) + 16;
    }
    for (size_t i = 0; i < p->deny_count; i++) {
        room += strlen(p->deny[i].text) + 32;
    }
    char *text = calloc(1, room);
    if (!text) {
        return NULL;
    }
    cmif_writer w = cmif_writer_over(text, room - 1);
    put_line(&w, "policy", p->base, NULL);
    if (stop <= CMIF_ACTION_CHANNEL) {
        put_line(&w, "stop-words", stop == CMIF_ACTION_PASS ? "pass" : "protect", NULL);
    } else {
        put_line(&w, "class", cmif_span_class_name(CMIF_SPAN_STOP), cmif_action_name(stop));
    }
    for (cmif_span_class class = CMIF_SPAN_WORD; class < CMIF_SPAN_CLASSES; class ++) {
        put_line(&w, "class", cmif_span_class_name(class), cmif_action_name(p->actions[class]));
    }
    put_named(&w, "allow", p->allow, p->allow_count, false);
    put_named(&w, "deny", p->deny, p->deny_count, true);
    for (size_t i = 0; i < BUDGETS; i++) {
        if (isfinite(budgets[i])) {
            put_number(&w, "budget", budget_names[i], budgets[i]);
        }
    }
    for (size_t i = 0; i < TOPICS; i++) {
        if (llround(p->weights[i] * MICRO) != llround(MICRO)) {
            put_number(&w, "weight", topic_names[i], p->weights[i]);
        }
    }
    return text;
}

/* ---- comparing ---- */

typedef struct differences {
    cmif_policy_each each;
    void            *context;
    size_t           count;
} differences;

static void tell(differences *d, const char *what, const char *name)
{
    d->count++;
    if (d->each) {
        d->each(d->context, what, name);
    }
}

/* Names of other that the list lacks, or has under another class. */
static void tell_missing(differences *d, const char *what, const cmif_named *list, size_t count,
                         const cmif_named *other, size_t other_count)
{
    for (size_t i = 0; i < other_count; i++) {
        size_t place;
        if (!cmif_named_find(list, count, other[i].text, &place) || list[place].class != other[i].class) {
            tell(d, what, other[i].text);
        }
    }
}

size_t cmif_policy_loosens(const cmif_policy *a, const cmif_policy *b, cmif_policy_each each, void *context)
{
    differences  d                  = {each, context, 0};
    const double budgets[BUDGETS]   = {a->budget_request, a->budget_day, a->budget_key};
    const double b_budgets[BUDGETS] = {b->budget_request, b->budget_day, b->budget_key};

    for (size_t i = 0; i < CMIF_SPAN_CLASSES; i++) {
        if (b->actions[i] < a->actions[i]) { /* the order of cmif_action is the order of what goes out */
            tell(&d, "class", cmif_span_class_name((cmif_span_class) i));
        }
    }
    tell_missing(&d, "allow", a->allow, a->allow_count, b->allow, b->allow_count);
    tell_missing(&d, "deny", b->deny, b->deny_count, a->deny, a->deny_count);
    for (size_t i = 0; i < BUDGETS; i++) {
        if (b_budgets[i] > budgets[i]) {
            tell(&d, "budget", budget_names[i]);
        }
    }
    for (size_t i = 0; i < TOPICS; i++) {
        if (llround(a->weights[i] * MICRO) !=
            llround(b->weights[i] * MICRO)) { /* less for one is more for the others */
            tell(&d, "weight", topic_names[i]);
        }
    }
    return d.count;
}

bool cmif_policy_tightens(const cmif_policy *a, const cmif_policy *b)
{
    return cmif_policy_loosens(a, b, NULL, NULL) == 0;
}
