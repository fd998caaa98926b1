#include "sanitizer/sanitizer.h"

#include "dp/draw.h"
#include "dp/released_make.h"
#include "sanitizer/entities.h"
#include "sanitizer/scan.h"
#include "secret/secret.h"

#include <openssl/evp.h>
#include <string.h>
#include <utf8proc.h>

enum {
    NAMED_SIZE_MAX = 256, /* bytes of a name that is allowed or denied */
    BETWEEN_MAX    = 3,   /* tokens between two words of one: ", ", " - ", "://" */
    ALLOWED        = 1,   /* marks of a token */
    DENIED         = 2,
    CLASS_SHIFT    = 2
};
static const uint32_t IN_DRAWING = UINT32_MAX;

typedef struct known { /* a text that was released */
    uint8_t        hash[32];
    size_t         text, text_size, word, word_count, span, span_count; /* places in the conversation's memory */
    cmif_sanitized what;
} known;

typedef struct sizes {
    size_t text, words, spans, known;
} sizes;

struct cmif_conversation { /* lies in locked memory itself */
    cmif_secret               self;
    cmif_conversation_options options;
    cmif_vault               *vault;
    cmif_noise               *noise;
    uint8_t                   key[32]; /* of the hashes of whole texts */
    cmif_secret               outputs; /* uint32_t by word of the table: 1 + what was drawn for it; 0: nothing yet */
    cmif_secret               fresh;   /* uint32_t: words that are drawn for what is prepared */
    /* What was released, and what is prepared behind it: texts, words, spans, entries of the memo. */
    cmif_secret    text, words, spans, known;
    sizes          taken; /* so much of them was given out */
    cmif_released *prepared;
    size_t         prepared_span, prepared_span_count;
};

static inline uint32_t *outputs_of(const cmif_conversation *c)
{
    return (uint32_t *) (void *) c->outputs.data;
}

cmif_code cmif_conversation_new(const cmif_conversation_options *options, cmif_conversation **out, cmif_err *err)
{
    cmif_code          rc   = CMIF_OK;
    cmif_secret        self = {0};
    cmif_conversation *c    = NULL;
    const cmif_table  *t    = options->table;

    for (size_t i = 0; i < CMIF_SPAN_CLASSES; i++) {
        if (options->policy->actions[i] == CMIF_ACTION_CHANNEL && !t) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "the policy sends the class %s through a channel, and there is no channel",
                             cmif_span_class_name((cmif_span_class) i));
        }
    }
    if (t && t->claim.adjacency == CMIF_ADJACENT_NONE && !options->no_guarantee) {
        return cmif_fail(
            err, CMIF_E_TRUST,
            "this channel guarantees nothing: it is a baseline for experiments; take another, or say that no "
            "guarantee is wanted");
    }
    rc = cmif_secret_reserve(&self, sizeof *c, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    c          = (cmif_conversation *) (void *) self.data; /* zeros */
    c->self    = self;
    c->options = *options;

    rc = cmif_vault_new(options->lists, &c->vault, err);
    if (rc == CMIF_OK) {
        rc = cmif_noise_new(&c->noise, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_noise_take(c->noise, c->key, sizeof c->key, err);
    }
    cmif_secret *memory[] = {&c->text, &c->words, &c->spans, &c->known, &c->fresh}; /* never NULL from here on */
    for (size_t i = 0; rc == CMIF_OK && i < sizeof memory / sizeof *memory; i++) {
        rc = cmif_secret_reserve(memory[i], 1, err);
    }
    if (rc == CMIF_OK && t) {
        rc = cmif_secret_reserve(&c->outputs, t->word_count * sizeof(uint32_t), err);
    }
    if (rc == CMIF_OK) {
        *out = c;
        c    = NULL;
    }
done:
    cmif_conversation_free(c);
    return rc;
}

void cmif_conversation_free(cmif_conversation *c)
{
    if (c) {
        cmif_released_free(c->prepared);
        cmif_vault_free(c->vault);
        cmif_noise_free(c->noise);
        cmif_secret_wipe(&c->outputs);
        cmif_secret_wipe(&c->fresh);
        cmif_secret_wipe(&c->text);
        cmif_secret_wipe(&c->words);
        cmif_secret_wipe(&c->spans);
        cmif_secret_wipe(&c->known);
        cmif_secret self = c->self;
        cmif_secret_wipe(&self);
    }
}

const cmif_vault *cmif_conversation_vault(const cmif_conversation *c)
{
    return c->vault;
}

/* ---- one text ---- */

typedef struct job {
    cmif_conversation *c;
    cmif_scan          scan;
    cmif_spans         spans;
    cmif_secret        marks;   /* uint8_t by token */
    cmif_secret        actions; /* uint8_t by span */
    cmif_secret        ids;     /* uint32_t by token: its id in the table, or CMIF_NO_WORD */
    known              entry;
} job;

static inline bool is_word(const cmif_token *t)
{
    return t->kind == CMIF_TOKEN_WORD || t->kind == CMIF_TOKEN_NUMBER;
}
static inline uint32_t *ids_of(const job *j)
{
    return (uint32_t *) (void *) j->ids.data;
}

/* Memory of so many zeros. */
static cmif_code zeros(cmif_secret *s, size_t count, size_t size, cmif_err *err)
{
    cmif_code rc = cmif_secret_reserve(s, count * size + 1, err);
    s->size      = rc == CMIF_OK ? count * size : 0;
    return rc;
}

static inline bool denied(const job *j, size_t token)
{
    return (j->marks.data[token] & DENIED) != 0;
}

/* Mark all tokens of all names of the list that begin at this token. */
static void mark_from(job *j, const cmif_named *list, size_t count, size_t first, uint8_t mark)
{
    char   name[NAMED_SIZE_MAX + 1];
    size_t size = 0, place;

    for (size_t i = first, between = 0; i < j->scan.count && between <= BETWEEN_MAX; i++) {
        const cmif_token *t    = &j->scan.tokens[i];
        cmif_str          fold = cmif_token_fold(&j->scan, t);
        if (!is_word(t)) {
            between = t->kind == CMIF_TOKEN_BROKEN ? BETWEEN_MAX + 1 : between + 1;
            continue;
        }
        between    = 0;
        bool space = size > 0 && fold.data[0] != '\''; /* as policy.c folds */
        if (size + space + fold.size > NAMED_SIZE_MAX) {
            break;
        }
        name[size] = ' ';
        memcpy(name + size + space, fold.data, fold.size);
        size += space + fold.size;
        name[size] = 0;
        if (cmif_named_find(list, count, name, &place)) {
            uint8_t marks = mark == DENIED ? (uint8_t) (DENIED | list[place].class << CLASS_SHIFT) : mark;
            for (size_t k = first; k <= i; k++) {
                j->marks.data[k] |= mark == DENIED && denied(j, k) ? 0 : marks; /* the first class stays */
            }
        }
        if (place == count || strncmp(list[place].text, name, size) != 0) {
            break; /* no name goes on like this */
        }
    }
    cmif_wipe(name, sizeof name);
}

/* What the policy says of each span. Names that are denied become spans of their own, with all that they touch; a span
 * is allowed when all of it is inside names that are. */
static cmif_code decide(job *j, cmif_err *err)
{
    const cmif_policy *p     = j->c->options.policy;
    size_t             count = 0;
    cmif_code          rc    = zeros(&j->marks, j->scan.count, 1, err);
    if (rc == CMIF_OK) {
        rc = zeros(&j->actions, j->spans.count, 1, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    for (size_t i = 0; i < j->scan.count && p->allow_count + p->deny_count > 0; i++) {
        if (is_word(&j->scan.tokens[i])) {
            mark_from(j, p->deny, p->deny_count, i, DENIED);
            mark_from(j, p->allow, p->allow_count, i, ALLOWED);
        }
    }
    for (size_t i = 0; i < j->spans.count; i++) {
        cmif_span   s       = j->spans.at[i];
        cmif_action action  = p->actions[s.class];
        bool        allowed = true, any = false, merged = false;
        uint8_t class = 0;
        for (size_t next = i;;) {
            size_t end = s.first + s.count;
            for (size_t k = j->spans.at[next].first; k < end; k++) {
                allowed = allowed && (j->marks.data[k] & ALLOWED);
                class   = !any && denied(j, k) ? j->marks.data[k] >> CLASS_SHIFT : class;
                any     = any || denied(j, k);
            }
            if (!denied(j, end - 1) || ++next == j->spans.count || !denied(j, j->spans.at[next].first)) {
                break;
            }
            const cmif_span *more = &j->spans.at[next]; /* the name goes on */
            action                = action > p->actions[more->class] ? action : p->actions[more->class];
            s.size += more->size;
            s.count += more->count;
            i      = next;
            merged = true;
        }
        if (any) { /* inside one span that is replaced anyway, that is enough */
            s.class = merged || action < CMIF_ACTION_SURROGATE ? class : s.class;
            action  = action < CMIF_ACTION_SURROGATE ? CMIF_ACTION_SURROGATE : action;
        } else if (allowed) {
            action = CMIF_ACTION_PASS;
        }
        if (action == CMIF_ACTION_REFUSE) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "the policy refuses what stands at byte %u (class %s): take it out, or change the policy; "
                             "nothing was released",
                             s.from, cmif_span_class_name((cmif_span_class) s.class));
        }
        s.link                 = (uint32_t) count; /* of no use from here on */
        j->spans.at[count]     = s;
        j->actions.data[count] = (uint8_t) action;
        count++;
    }
    j->spans.count = count;
    return CMIF_OK;
}

/* The id of each token's word in the table. The one place that a word is searched in. */
static cmif_code look_up(job *j, cmif_err *err)
{
    const cmif_table *table = j->c->options.table;
    cmif_code         rc    = zeros(&j->ids, j->scan.count, sizeof(uint32_t), err);
    for (size_t i = 0; rc == CMIF_OK && i < j->scan.count; i++) {
        cmif_str fold = cmif_token_fold(&j->scan, &j->scan.tokens[i]);
        ids_of(j)[i]  = table && is_word(&j->scan.tokens[i]) ? cmif_table_find(table, fold) : CMIF_NO_WORD;
    }
    return rc;
}

/* A span that would pass or be drawn, but cannot: a word that is not in the table, or what the answer's restoring would
 * take for a surrogate of ours. */
static bool cannot(const job *j, const cmif_span *s, cmif_action action)
{
    bool out =
        s->count > 1 && cmif_vault_holds(j->c->vault, (cmif_str){(const char *) j->scan.text + s->from, s->size});
    for (size_t k = s->first; k < s->first + s->count; k++) {
        const cmif_token *t = &j->scan.tokens[k];
        if (is_word(t)) {
            out = out || (action == CMIF_ACTION_CHANNEL && ids_of(j)[k] == CMIF_NO_WORD) ||
                  cmif_vault_holds(j->c->vault, cmif_token_fold(&j->scan, t));
        }
        out = out || (action == CMIF_ACTION_CHANNEL && t->kind == CMIF_TOKEN_BROKEN);
    }
    return out;
}

/* Draw for all words that are new in this conversation. */
static cmif_code draw(job *j, cmif_err *err)
{
    cmif_conversation *c    = j->c;
    cmif_secret        made = {0};
    cmif_code          rc   = CMIF_OK;

    for (size_t i = 0; rc == CMIF_OK && i < j->spans.count; i++) {
        const cmif_span *s      = &j->spans.at[i];
        uint8_t         *action = &j->actions.data[i];
        if (*action < CMIF_ACTION_SURROGATE && s->class != CMIF_SPAN_OTHER && cannot(j, s, (cmif_action) *action)) {
            *action = CMIF_ACTION_SURROGATE;
        }
        bool drawn = false;
        for (size_t k = s->first; rc == CMIF_OK && *action == CMIF_ACTION_CHANNEL && k < s->first + s->count; k++) {
            uint32_t id = ids_of(j)[k];
            if (id == CMIF_NO_WORD || cmif_table_passes(c->options.table, id)) {
                continue;
            }
            drawn = true;
            if (outputs_of(c)[id]) {
                j->entry.what.repeated++;
                continue;
            }
            rc = cmif_secret_append(&c->fresh, &id, sizeof id, err);
            if (rc == CMIF_OK) {
                outputs_of(c)[id] = IN_DRAWING;
                j->entry.what.draws++;
            }
        }
        if (*action == CMIF_ACTION_CHANNEL && !drawn) {
            *action = CMIF_ACTION_PASS; /* the table lets it pass, and so it is counted */
        }
    }
    if (rc == CMIF_OK && c->fresh.size > 0) {
        const uint32_t *words = (const uint32_t *) (const void *) c->fresh.data;
        size_t          count = c->fresh.size / sizeof *words;
        rc                    = zeros(&made, count, sizeof *words, err);
        if (rc == CMIF_OK) {
            uint32_t *drawn = (uint32_t *) (void *) made.data;
            rc              = cmif_dp_draw(c->options.table, c->noise, words, count, drawn, err);
            for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
                outputs_of(c)[words[i]] = drawn[i] + 1;
            }
        }
    }
    cmif_secret_wipe(&made);
    return rc;
}

/* ---- writing ---- */

static cmif_code put(job *j, cmif_str text, cmif_err *err)
{
    return cmif_secret_append(&j->c->text, text.data, text.size, err);
}

/* A folded word or a word of the table, with the casing of what was written. */
static cmif_code put_cased(job *j, cmif_str word, uint8_t casing, cmif_err *err)
{
    bool      raising = casing == CMIF_CASE_FIRST || casing == CMIF_CASE_UPPER;
    cmif_code rc      = raising ? CMIF_OK : put(j, word, err);
    for (size_t at = 0; raising && rc == CMIF_OK && at < word.size;) {
        uint8_t          bytes[4];
        utf8proc_int32_t code = 0;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *) word.data + at, (utf8proc_ssize_t) (word.size - at), &code);
        if (used <= 0) {
            return put(j, (cmif_str){"\xef\xbf\xbd", 3}, err); /* no word is like this */
        }
        utf8proc_category_t category = utf8proc_category(code);
        utf8proc_ssize_t    size     = utf8proc_encode_char(utf8proc_toupper(code), bytes);
        rc                           = put(j, (cmif_str){(const char *) bytes, (size_t) size}, err);
        at += (size_t) used;
        if (casing == CMIF_CASE_FIRST && category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) {
            cmif_wipe(bytes, sizeof bytes);
            return rc == CMIF_OK ? put(j, (cmif_str){word.data + at, word.size - at}, err) : rc;
        }
        cmif_wipe(bytes, sizeof bytes);
    }
    return rc;
}

/* As it was written, unless that hides something. */
static cmif_code put_passed(job *j, const cmif_token *t, cmif_err *err)
{
    if (t->kind == CMIF_TOKEN_BROKEN) {
        return put(j, (cmif_str){"\xef\xbf\xbd", 3}, err);
    }
    return t->odd ? put_cased(j, cmif_token_fold(&j->scan, t), t->casing, err)
                  : put(j, cmif_token_text(&j->scan, t), err);
}

/* Whether the word's own block can give it: rows of released words are made for such only. */
static bool may_come_out(const cmif_table *t, uint32_t word)
{
    uint32_t block = cmif_table_block(t, word), from = t->block_at[block], to = t->block_at[block + 1];
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (t->outputs[middle] == word) {
            return true;
        }
        *(t->outputs[middle] < word ? &from : &to) = middle + (t->outputs[middle] < word);
    }
    return false;
}

static cmif_code put_token(job *j, size_t token, bool channel, cmif_err *err)
{
    const cmif_conversation *c     = j->c;
    const cmif_table        *table = c->options.table;
    const cmif_token        *t     = &j->scan.tokens[token];
    uint32_t                 id    = ids_of(j)[token];
    cmif_released_word       word  = {.from = (uint32_t) (c->text.size - j->entry.text), .output = id, .passed = true};
    cmif_code                rc    = CMIF_OK;

    if (channel && id != CMIF_NO_WORD && !cmif_table_passes(table, id)) {
        word.passed = false;
        word.output = outputs_of(c)[id] - 1;
        rc = put_cased(j, word.output ? cmif_table_word(table, word.output) : (cmif_str){"something", 9}, t->casing,
                       err);
    } else {
        rc = put_passed(j, t, err);
    }
    word.size = (uint32_t) (c->text.size - j->entry.text - word.from);
    if (rc == CMIF_OK && id != CMIF_NO_WORD && (!word.passed || may_come_out(table, id))) {
        rc = cmif_secret_append(&j->c->words, &word, sizeof word, err);
    }
    return rc;
}

static cmif_code write_all(job *j, cmif_err *err)
{
    cmif_conversation *c  = j->c;
    cmif_code          rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < j->spans.count; i++) {
        const cmif_span   *s      = &j->spans.at[i];
        cmif_action        action = (cmif_action) j->actions.data[i];
        cmif_released_span done   = {.from     = s->from,
                                     .size     = s->size,
                                     .out_from = (uint32_t) (c->text.size - j->entry.text),
                                     .class    = s->class,
                                     .action   = (uint8_t) action};
        if (action == CMIF_ACTION_SURROGATE) {
            rc = cmif_vault_put(c->vault, &j->scan, &j->spans, i, &c->text, err);
        }
        for (size_t k = s->first; rc == CMIF_OK && action != CMIF_ACTION_SURROGATE && k < s->first + s->count; k++) {
            rc = put_token(j, k, action == CMIF_ACTION_CHANNEL, err);
        }
        if (rc == CMIF_OK && c->text.size - j->entry.text > UINT32_MAX / 2) {
            rc = cmif_fail(err, CMIF_E_RANGE, "a text of %zu bytes becomes too long", j->scan.size);
        }
        done.out_size = (uint32_t) (c->text.size - j->entry.text - done.out_from);
        if (rc == CMIF_OK) {
            rc = cmif_secret_append(&c->spans, &done, sizeof done, err);
        }
        j->entry.what.by_class[s->class][action]++;
    }
    return rc;
}

static cmif_code sanitize(job *j, const void *text, size_t size, cmif_err *err)
{
    cmif_conversation *c  = j->c;
    cmif_code          rc = cmif_scan_text(text, size, &j->scan, err);
    if (rc == CMIF_OK) {
        rc = cmif_find_entities(&j->scan, c->options.lists, &j->spans, err);
    }
    if (rc == CMIF_OK) {
        rc = decide(j, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vault_see(c->vault, &j->scan, err);
    }
    if (rc == CMIF_OK) {
        rc = look_up(j, err);
    }
    if (rc == CMIF_OK) {
        rc = draw(j, err);
    }
    if (rc == CMIF_OK) {
        rc = write_all(j, err);
    }
    if (rc == CMIF_OK) {
        j->entry.text_size  = c->text.size - j->entry.text;
        j->entry.word_count = c->words.size / sizeof(cmif_released_word) - j->entry.word;
        j->entry.span_count = c->spans.size / sizeof(cmif_released_span) - j->entry.span;
        rc                  = cmif_secret_append(&c->known, &j->entry, sizeof j->entry, err);
    }
    return rc;
}

/* ---- the memo of texts, and what is prepared ---- */

static cmif_code hash_text(const cmif_conversation *c, const void *text, size_t size, uint8_t out[static 32],
                           cmif_err *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new(); /* wiped when freed */
    bool        good    = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) &&
                EVP_DigestUpdate(context, c->key, sizeof c->key) && EVP_DigestUpdate(context, text, size) &&
                EVP_DigestFinal_ex(context, out, NULL);
    EVP_MD_CTX_free(context);
    return good ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
}

static const known *find_known(const cmif_conversation *c, const uint8_t hash[static 32])
{
    const known *at = (const known *) (const void *) c->known.data;
    for (size_t i = 0; i < c->known.size / sizeof *at; i++) {
        if (memcmp(at[i].hash, hash, sizeof at[i].hash) == 0) {
            return &at[i];
        }
    }
    return NULL;
}

static void cut(cmif_secret *s, size_t size)
{
    if (s->size > size) {
        cmif_wipe(s->data + size, s->size - size);
        s->size = size;
    }
}

void cmif_conversation_drop(cmif_conversation *c)
{
    const uint32_t *fresh = (const uint32_t *) (const void *) c->fresh.data;
    for (size_t i = 0; i < c->fresh.size / sizeof *fresh; i++) {
        outputs_of(c)[fresh[i]] = 0;
    }
    cut(&c->fresh, 0);
    cut(&c->text, c->taken.text);
    cut(&c->words, c->taken.words);
    cut(&c->spans, c->taken.spans);
    cut(&c->known, c->taken.known);
    cmif_released_free(c->prepared);
    c->prepared = NULL;
}

cmif_code cmif_conversation_prepare(cmif_conversation *c, const void *text, size_t size, cmif_sanitized *what,
                                    cmif_err *err)
{
    cmif_conversation_drop(c);

    job j = {.c     = c,
             .entry = {.text = c->text.size,
                       .word = c->words.size / sizeof(cmif_released_word),
                       .span = c->spans.size / sizeof(cmif_released_span)}};

    cmif_code rc = hash_text(c, text, size, j.entry.hash, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    const known *old = find_known(c, j.entry.hash);
    if (old) {
        j.entry = *old;
        j.entry.what.repeated += j.entry.what.draws;
        j.entry.what.draws = 0;
        j.entry.what.again = true;
    } else {
        rc = sanitize(&j, text, size, err);
    }
    if (rc == CMIF_OK) {
        const cmif_released_word *words = (const cmif_released_word *) (const void *) c->words.data;
        rc = cmif_released_make(c->text.data + j.entry.text, j.entry.text_size, words + j.entry.word,
                                j.entry.word_count, &c->prepared, err);
    }
    if (rc == CMIF_OK) {
        c->prepared_span       = j.entry.span;
        c->prepared_span_count = j.entry.span_count;
        *what                  = j.entry.what;
    }
done:
    if (rc != CMIF_OK) {
        cmif_conversation_drop(c);
    }
    cmif_secret_wipe(&j.ids);
    cmif_secret_wipe(&j.actions);
    cmif_secret_wipe(&j.marks);
    cmif_spans_wipe(&j.spans);
    cmif_scan_wipe(&j.scan);
    cmif_wipe(&j, sizeof j);
    return rc;
}

cmif_released *cmif_conversation_take(cmif_conversation *c, const cmif_released_span **spans, size_t *count)
{
    cmif_released *released = c->prepared;
    if (!released) {
        return NULL;
    }
    c->prepared = NULL;
    c->taken    = (sizes){c->text.size, c->words.size, c->spans.size, c->known.size};
    cut(&c->fresh, 0);
    if (spans) {
        *spans = (const cmif_released_span *) (const void *) c->spans.data + c->prepared_span;
        *count = c->prepared_span_count;
    }
    return released;
}
