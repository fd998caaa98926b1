#include "sanitizer/sanitizer.h"

#include "dp/draw.h"
#include "dp/released_make.h"
#include "sanitizer/entities.h"
#include "sanitizer/scan.h"
#include "secret/secret.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    NAMED_SIZE_MAX = 256, /* bytes of a name that is allowed or denied */
    BETWEEN_MAX    = 3,   /* tokens between two words of one: ", ", " - ", "://" */
    ALLOWED        = 1,   /* marks of a token */
    DENIED         = 2,
    CLASS_SHIFT    = 2,
    CONSTANT       = 1 << 30 /* of a word's output: it is the constant of its block */
};
static const uint32_t IN_DRAWING = UINT32_MAX;
static const uint64_t MICRO      = 1000000;
static const uint64_t MICRO_MOST = 32 * MICRO; /* what is entered for a draw from a table that guarantees nothing */

typedef struct known { /* a text that was released */
    uint8_t  hash[32];
    size_t   text, text_size, word, word_count, span, span_count; /* places in the conversation's memory */
    uint64_t draws, repeated, constants;                          /* the rest of what was done is in the spans */
} known;

typedef struct sizes {
    size_t text, words, spans, known;
} sizes;

struct cmif_division {            /* of a request's budget; public */
    uint64_t  draws_max;          /* of one request; UINT64_MAX: all */
    uint32_t *levels, *constants; /* by block: how many weights are above the block's; an output. NULL: no limit */
    uint32_t  level_count;
};

struct cmif_conversation { /* lies in locked memory itself */
    cmif_secret               self;
    cmif_conversation_options options;
    cmif_vault               *vault;
    cmif_noise               *noise;
    uint8_t                   key[32]; /* of the hashes of whole texts */
    cmif_secret               outputs; /* uint32_t by word of the table: 1 + what leaves for it; 0: nothing yet */
    cmif_secret               fresh;   /* uint32_t: words that get their outputs by what is prepared */
    const cmif_division      *division;
    cmif_division            *own;                        /* where none was given */
    uint64_t                  draws_left, prepared_draws; /* of this request; by what is prepared */
    bool                      more;                       /* what is prepared next belongs to it, too */
    /* What was released, and what is prepared behind it: texts, words, spans, entries of the memo. */
    cmif_secret text, words, spans, known;
    sizes       taken;  /* so much of them was given out */
    cmif_secret places; /* of the memo: uint32_t by hash, 1 + place of a text that was given out; at most half full */
    cmif_released *prepared;
    size_t         prepared_span, prepared_span_count;
};

static inline uint32_t *outputs_of(const cmif_conversation *c)
{
    return (uint32_t *) (void *) c->outputs.data;
}

/* ---- a request's budget ----
 * Epsilon is divided between the new words of a text as all or nothing: as many as the budget lasts for are drawn with
 * the table's certified epsilon, those of the heaviest blocks first, then in order of appearance; the others leave as
 * the constant of their block. (Mixing the two by chance would give every epsilon between, and a loss that no table
 * certifies.)
 *
 * Why this tells no more than blocks and budget do: weight and constant of a block are functions of the block, made
 * here from public lists and the table before any text is read. Which words of a text are drawn is a function of the
 * weights in order of appearance, and of which words are the same. So take two texts that differ in one word,
 * everywhere it stands, by another word of its block: they have the same words drawn and the same constants. If the
 * word is one that is drawn, its output loses the table's epsilon; if it leaves as the constant, nothing. Where a
 * table's claim is about any two words, all blocks weigh the same and have one constant, and blocks are not told
 * either. A word keeps its constant for the whole conversation: drawn in a later text, it would tell which words of its
 * block had been new then. */

/* The output that is least unlikely for every word of these rows: the largest least weight, the first of such. */
static uint32_t constant_of(const cmif_table *t, const uint32_t *rows, uint32_t count, uint32_t block)
{
    uint32_t best       = 0;
    uint64_t best_least = 0;
    for (uint32_t j = 0; j < t->block_at[block + 1] - t->block_at[block]; j++) {
        uint64_t least = UINT64_MAX;
        for (uint32_t i = 0; i < count && least > best_least; i++) {
            uint64_t weight = cmif_table_weight(t, rows[i], j);
            least           = weight < least ? weight : least;
        }
        best       = least > best_least ? j : best;
        best_least = least > best_least ? least : best_least;
    }
    return t->outputs[t->block_at[block] + best];
}

/* The largest weight of a word's topics; 1: it has none. */
static double weight_of(const cmif_conversation_options *o, uint32_t word)
{
    const double *weights = o->policy->weights;
    uint32_t      flags   = 0;
    double        most    = 0;
    (void) cmif_lists_find(o->lists, CMIF_LIST_WORD, cmif_table_word(o->table, word), &flags);
    for (size_t i = 0; i < CMIF_TOPICS; i++) {
        most = (flags >> i & 1) && weights[i] > most ? weights[i] : most;
    }
    return most > 0 ? most : 1;
}

typedef struct weighed {
    double   weight;
    uint32_t block;
} weighed;

static int heavier_first(const void *a, const void *b)
{
    const weighed *x = a, *y = b;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

/* A level for each block, by the mean weight of its words. */
static cmif_code weigh_blocks(cmif_division *d, const cmif_conversation_options *o, cmif_err *err)
{
    const cmif_table *t      = o->table;
    weighed          *blocks = calloc(t->block_count, sizeof *blocks);
    if (!blocks) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the weights of %u blocks", t->block_count);
    }
    for (uint32_t w = 0; w < t->word_count; w++) {
        blocks[cmif_table_block(t, w)].weight += weight_of(o, w);
    }
    for (uint32_t b = 0; b < t->block_count; b++) {
        blocks[b] = (weighed){blocks[b].weight / t->words_in[b], b};
    }
    qsort(blocks, t->block_count, sizeof *blocks, heavier_first);
    for (uint32_t i = 1; i < t->block_count; i++) {
        d->level_count += heavier_first(&blocks[i - 1], &blocks[i]) != 0;
        d->levels[blocks[i].block] = d->level_count - 1;
    }
    free(blocks);
    return CMIF_OK;
}

static cmif_code divide_budget(cmif_division *d, const cmif_conversation_options *o, cmif_err *err)
{
    const cmif_table  *t    = o->table;
    const cmif_policy *p    = o->policy;
    cmif_code          rc   = CMIF_OK;
    bool               used = false;
    for (size_t i = 0; i < CMIF_SPAN_CLASSES; i++) {
        used = used || p->actions[i] == CMIF_ACTION_CHANNEL;
    }
    d->draws_max = UINT64_MAX;
    if (!used || !isfinite(p->budget_request)) {
        return CMIF_OK;
    }
    cmif_certificate loss;
    cmif_table_certify(t, t->claim.adjacency, &loss);
    uint64_t micro = loss.pure && loss.epsilon_micro < MICRO_MOST ? loss.epsilon_micro : MICRO_MOST;
    if (micro == 0) {
        return CMIF_OK;
    }
    d->draws_max   = (uint64_t) llround(p->budget_request * (double) MICRO) / micro;
    d->level_count = 1;
    d->levels      = calloc(t->block_count, sizeof *d->levels);
    d->constants   = calloc(t->block_count, sizeof *d->constants);
    if (!d->levels || !d->constants) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the weights of %u blocks", t->block_count);
    }
    bool any = t->claim.adjacency == CMIF_ADJACENT_ANY, even = true;
    for (size_t i = 0; i < CMIF_TOPICS; i++) {
        even = even && p->weights[i] == 1;
    }
    for (uint32_t b = 0; b < t->block_count; b++) {
        const uint32_t *rows = t->rows + t->rows_at[b];
        d->constants[b]      = any && b > 0 ? d->constants[0]
                               : any        ? constant_of(t, t->rows, t->row_count, 0)
                                            : constant_of(t, rows, t->rows_at[b + 1] - t->rows_at[b], b);
    }
    if (!any && !even) {
        rc = weigh_blocks(d, o, err);
    }
    return rc;
}

void cmif_division_free(cmif_division *d)
{
    if (d) {
        free(d->levels);
        free(d->constants);
        free(d);
    }
}

cmif_code cmif_division_new(const cmif_conversation_options *options, cmif_division **out, cmif_err *err)
{
    cmif_division *d  = calloc(1, sizeof *d);
    cmif_code      rc = d ? divide_budget(d, options, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for a budget");
    if (rc == CMIF_OK) {
        *out = d;
        d    = NULL;
    }
    cmif_division_free(d);
    return rc;
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
    cmif_secret *memory[] = {&c->text,  &c->words, &c->spans,
                             &c->known, &c->fresh, &c->places}; /* never NULL from here on */
    for (size_t i = 0; rc == CMIF_OK && i < sizeof memory / sizeof *memory; i++) {
        rc = cmif_secret_reserve(memory[i], 1, err);
    }
    if (rc == CMIF_OK && t) {
        rc = cmif_secret_reserve(&c->outputs, t->word_count * sizeof(uint32_t), err);
    }
    if (rc == CMIF_OK && !options->division) {
        rc = cmif_division_new(options, &c->own, err);
    }
    c->division = options->division ? options->division : c->own;
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
        cmif_division_free(c->own);
        cmif_secret_wipe(&c->outputs);
        cmif_secret_wipe(&c->fresh);
        cmif_secret_wipe(&c->text);
        cmif_secret_wipe(&c->words);
        cmif_secret_wipe(&c->spans);
        cmif_secret_wipe(&c->known);
        cmif_secret_wipe(&c->places);
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
    const bool         named = p->allow_count + p->deny_count > 0;
    cmif_code          rc    = zeros(&j->actions, j->spans.count, 1, err);
    if (rc == CMIF_OK && named) {
        rc = zeros(&j->marks, j->scan.count, 1, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    for (size_t i = 0; named && i < j->scan.count; i++) {
        if (is_word(&j->scan.tokens[i])) {
            mark_from(j, p->deny, p->deny_count, i, DENIED);
            mark_from(j, p->allow, p->allow_count, i, ALLOWED);
        }
    }
    for (size_t i = 0; i < j->spans.count; i++) {
        cmif_span   s       = j->spans.at[i];
        cmif_action action  = p->actions[s.class];
        bool        allowed = named, any = false, merged = false;
        uint8_t class = 0;
        for (size_t next = i; named;) {
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

/* Leave as many of the new words to be drawn as the budget lasts for, and give the others their constants. */
static cmif_code divide(cmif_conversation *c, uint64_t *draws, cmif_err *err)
{
    const cmif_table *t     = c->options.table;
    const uint32_t   *words = (const uint32_t *) (const void *) c->fresh.data;
    cmif_secret       of    = {0}; /* words by level, then those of them that are drawn */
    cmif_code         rc    = zeros(&of, c->division->level_count, sizeof(uint64_t), err);
    if (rc != CMIF_OK) {
        return rc;
    }
    uint64_t *count = (uint64_t *) (void *) of.data, left = c->draws_left;
    for (size_t i = 0; i < *draws; i++) {
        count[c->division->levels[cmif_table_block(t, words[i])]]++;
    }
    for (uint32_t level = 0; level < c->division->level_count; level++) {
        count[level] = count[level] < left ? count[level] : left;
        left -= count[level];
    }
    for (size_t i = 0; i < *draws; i++) {
        uint32_t block = cmif_table_block(t, words[i]);
        if (count[c->division->levels[block]] > 0) {
            count[c->division->levels[block]]--;
        } else {
            outputs_of(c)[words[i]] = CONSTANT | (c->division->constants[block] + 1);
        }
    }
    *draws = c->draws_left;
    cmif_secret_wipe(&of);
    return CMIF_OK;
}

/* Outputs for all words that are new in this conversation. */
static cmif_code draw_fresh(job *j, cmif_err *err)
{
    cmif_conversation *c     = j->c;
    size_t             count = c->fresh.size / sizeof(uint32_t);
    uint64_t           draws = count;
    cmif_secret        made  = {0};
    cmif_code          rc    = draws > c->draws_left ? divide(c, &draws, err) : CMIF_OK;
    if (rc == CMIF_OK && draws > 0) {
        rc = zeros(&made, 2 * draws, sizeof(uint32_t), err);
    }
    if (rc == CMIF_OK && draws > 0) {
        const uint32_t *fresh = (const uint32_t *) (const void *) c->fresh.data;
        uint32_t       *words = (uint32_t *) (void *) made.data, *drawn = words + draws;
        for (size_t i = 0, k = 0; i < count; i++) {
            if (outputs_of(c)[fresh[i]] == IN_DRAWING) {
                words[k++] = fresh[i];
            }
        }
        rc = cmif_dp_draw(c->options.table, c->noise, words, draws, drawn, err);
        for (size_t i = 0; rc == CMIF_OK && i < draws; i++) {
            outputs_of(c)[words[i]] = drawn[i] + 1;
        }
    }
    j->entry.draws = draws;
    cmif_secret_wipe(&made);
    return rc;
}

/* Find the words that go through the channel, and see that each has an output. */
static cmif_code draw(job *j, cmif_err *err)
{
    cmif_conversation *c  = j->c;
    cmif_code          rc = CMIF_OK;

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
                continue;
            }
            rc = cmif_secret_append(&c->fresh, &id, sizeof id, err);
            if (rc == CMIF_OK) {
                outputs_of(c)[id] = IN_DRAWING;
            }
        }
        if (*action == CMIF_ACTION_CHANNEL && !drawn) { /* the table lets it pass: nobody certifies which words */
            *action = s->class == CMIF_SPAN_STOP ? CMIF_ACTION_PASS : CMIF_ACTION_SURROGATE;
        }
    }
    return rc == CMIF_OK ? draw_fresh(j, err) : rc;
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

/* A constant is released as a word that passed: its row is that of its text, for the posterior of the channel's row is
 * not its own. */
static cmif_code put_token(job *j, size_t token, bool channel, cmif_err *err)
{
    const cmif_conversation *c     = j->c;
    const cmif_table        *table = c->options.table;
    const cmif_token        *t     = &j->scan.tokens[token];
    uint32_t                 id    = ids_of(j)[token];
    cmif_released_word       word  = {.from = (uint32_t) (c->text.size - j->entry.text), .output = id, .passed = true};
    cmif_code                rc    = CMIF_OK;

    channel = channel && id != CMIF_NO_WORD && !cmif_table_passes(table, id);
    if (channel) {
        word.passed = outputs_of(c)[id] & CONSTANT;
        word.output = (outputs_of(c)[id] & ~(uint32_t) CONSTANT) - 1;
        *(word.passed ? &j->entry.constants : &j->entry.repeated) += 1;
        rc = put_cased(j, word.output ? cmif_table_word(table, word.output) : (cmif_str){"something", 9}, t->casing,
                       err);
    } else {
        rc = put_passed(j, t, err);
    }
    word.size = (uint32_t) (c->text.size - j->entry.text - word.from);
    if (rc == CMIF_OK && id != CMIF_NO_WORD && (channel || may_come_out(table, id))) {
        rc = cmif_secret_append(&j->c->words, &word, sizeof word, err);
    }
    return rc;
}

static cmif_code write_all(job *j, cmif_err *err)
{
    cmif_conversation *c = j->c;
    cmif_code rc = cmif_secret_reserve(&c->spans, c->spans.size + j->spans.count * sizeof(cmif_released_span), err);
    if (rc == CMIF_OK) {
        rc = cmif_secret_reserve(&c->text, c->text.size + j->scan.size, err);
    }
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
        j->entry.repeated -= j->entry.draws; /* their first ones */
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

/* The place of a hash: it is the text's, or free. Hashes are under a key: nobody can make them collide. */
static uint32_t *place_of(cmif_secret *places, const known *all, const uint8_t hash[static 32])
{
    uint32_t    *slots = (uint32_t *) (void *) places->data;
    const size_t last  = places->size / sizeof *slots - 1;
    uint64_t     at;
    memcpy(&at, hash, sizeof at);
    while (slots[at & last] && memcmp(all[slots[at & last] - 1].hash, hash, 32) != 0) {
        at++;
    }
    return &slots[at & last];
}

static const known *find_known(const cmif_conversation *c, const uint8_t hash[static 32])
{
    const known *all    = (const known *) (const void *) c->known.data;
    cmif_secret  places = c->places;
    uint32_t     at     = places.size ? *place_of(&places, all, hash) : 0;
    return at ? &all[at - 1] : NULL;
}

/* Places for one more text. */
static cmif_code make_place(cmif_conversation *c, cmif_err *err)
{
    const known *all   = (const known *) (const void *) c->known.data;
    const size_t count = c->taken.known / sizeof *all, have = c->places.size / sizeof(uint32_t);
    cmif_secret  more = {0};
    if (2 * (count + 1) <= have) {
        return CMIF_OK;
    }
    if (count >= UINT32_MAX / 8) {
        return cmif_fail(err, CMIF_E_MEMORY, "a conversation has too many texts");
    }
    cmif_code rc = zeros(&more, have ? 2 * have : 64, sizeof(uint32_t), err);
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        *place_of(&more, all, all[i].hash) = (uint32_t) i + 1;
    }
    if (rc == CMIF_OK) {
        cmif_secret_wipe(&c->places);
        c->places = more;
    }
    return rc;
}

/* What was done with a text, from its entry and its spans. */
static cmif_sanitized what_of(const cmif_conversation *c, const known *entry, bool again)
{
    const cmif_released_span *spans = (const cmif_released_span *) (const void *) c->spans.data + entry->span;
    cmif_sanitized            what  = {.draws     = again ? 0 : entry->draws,
                                       .repeated  = entry->repeated + (again ? entry->draws : 0),
                                       .constants = entry->constants,
                                       .again     = again};
    for (size_t i = 0; i < entry->span_count; i++) {
        what.by_class[spans[i].class][spans[i].action]++;
    }
    return what;
}

bool cmif_conversation_knows(const cmif_conversation *c, const void *text, size_t size)
{
    uint8_t hash[32];
    return hash_text(c, text, size, hash, NULL) == CMIF_OK && find_known(c, hash);
}

size_t cmif_conversation_size(const cmif_conversation *c)
{
    const cmif_secret *all[] = {&c->self,  &c->outputs, &c->fresh, &c->text,
                                &c->words, &c->spans,   &c->known, &c->places};
    size_t             size  = cmif_vault_size(c->vault);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size += all[i]->capacity;
    }
    return size;
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

void cmif_conversation_more(cmif_conversation *c)
{
    c->more = true;
}

cmif_code cmif_conversation_prepare(cmif_conversation *c, const void *text, size_t size, cmif_sanitized *what,
                                    cmif_err *err)
{
    cmif_conversation_drop(c);
    c->draws_left = c->more ? c->draws_left : c->division->draws_max;
    c->more       = false;

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
    } else {
        rc = make_place(c, err);
        rc = rc == CMIF_OK ? sanitize(&j, text, size, err) : rc;
    }
    const bool again = old != NULL; /* what it points to may have moved */
    if (rc == CMIF_OK) {
        const cmif_released_word *words = (const cmif_released_word *) (const void *) c->words.data;
        rc = cmif_released_make(c->text.data + j.entry.text, j.entry.text_size, words + j.entry.word,
                                j.entry.word_count, &c->prepared, err);
    }
    if (rc == CMIF_OK) {
        c->prepared_span       = j.entry.span;
        c->prepared_span_count = j.entry.span_count;
        *what                  = what_of(c, &j.entry, again);
        c->prepared_draws      = what->draws;
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
    c->draws_left -= c->draws_left == UINT64_MAX ? 0 : c->prepared_draws;
    for (size_t i = c->taken.known; i < c->known.size; i += sizeof(known)) { /* one, or none */
        const known *all                                      = (const known *) (const void *) c->known.data;
        *place_of(&c->places, all, all[i / sizeof *all].hash) = (uint32_t) (i / sizeof *all) + 1;
    }
    c->taken = (sizes){c->text.size, c->words.size, c->spans.size, c->known.size};
    cut(&c->fresh, 0);
    if (spans) {
        *spans = (const cmif_released_span *) (const void *) c->spans.data + c->prepared_span;
        *count = c->prepared_span_count;
    }
    return released;
}
