/* recall LISTS TABLE|- FOLDER... - how much of what people marked by hand in texts leaves the machine, under each
 * policy.
 *
 * A text marks what is sensitive as [[class|words]]. The marks are taken out and a conversation of its own releases the
 * text: what is measured is what leaves. A mark is protected if none of its words (3 letters or digits and more,
 * folded) stands in the released text at its place, but for what a surrogate of its class keeps by its shape
 * (docs/sanitizer.md) and for function words. It left through the channel if any of it did, else as a surrogate,
 * whatever its class: default-deny counts. Precision: how many of the surrogates touch a mark. Words of sensitive
 * topics are marked too; only the policies that send them through the channel are held to them.
 *
 * By class and by kind of text ("letter" of letter-1.txt); exit 1 when a goal is missed. Without a table (-) the policy
 * `names` only. Then words a second: of the scan and the finder alone, and of a conversation.
 *
 *   --misses  print what was missed, and what became a surrogate without a mark: words of the texts!
 *   --json    the texts, their marks, and what became a surrogate under `names`, for tools/presidio */
#include "sanitizer/sanitizer.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_MAX = 1 << 16, MARKS_MAX = 512, TEXTS_MAX = 256, TYPES_MAX = 32, WORD_MIN = 3, TRIES = 5 };

typedef struct mark {
    size_t from, to;
    cmif_span_class class;
} mark;

typedef struct sample {
    const char *folder;
    char        name[64], *text;
    size_t      size, type, mark_count;
    mark        marks[MARKS_MAX];
} sample;

typedef struct score {
    size_t marks, written, channel, surrogate, found, right;
} score;

typedef struct scores { /* under one policy */
    score  by_class[CMIF_SPAN_CLASSES], by_type[TYPES_MAX], patterns, names, all;
    size_t words[4]; /* by action */
} scores;

static sample      samples[TEXTS_MAX];
static size_t      sample_count, type_count, word_count;
static char        types[TYPES_MAX][32];
static bool        show_misses;
static cmif_lists *lists;
static cmif_table *table;

static void stop(const char *what, const char *name)
{
    fprintf(stderr, "recall: %s: %s\n", name, what);
    exit(2);
}

static void must(cmif_code rc, const cmif_err *err, const char *name)
{
    if (rc != CMIF_OK) {
        stop(err->text, name);
    }
}

static bool is_name(cmif_span_class class)
{
    return class == CMIF_SPAN_PERSON || class == CMIF_SPAN_PLACE || class == CMIF_SPAN_ORGANISATION ||
           class == CMIF_SPAN_UNKNOWN;
}

static bool is_word(const cmif_token *t)
{
    return t->kind == CMIF_TOKEN_WORD || t->kind == CMIF_TOKEN_NUMBER;
}

/* ---- texts ---- */

/* Take the marks out of the text, in place. */
static void read_marks(sample *s)
{
    char  *text = s->text;
    size_t out  = 0;
    bool   open = false;
    for (size_t at = 0; at < s->size;) {
        char class[32] = "";
        int letters    = 0;
        if (!open && sscanf(text + at, "[[%31[a-z]%n", class, &letters) == 1 && text[at + (size_t) letters] == '|') {
            if (s->mark_count == MARKS_MAX || !cmif_span_class_find(class, &s->marks[s->mark_count].class)) {
                stop("no such class, or too many marks", s->name);
            }
            s->marks[s->mark_count].from = out;
            open                         = true;
            at += (size_t) letters + 1;
        } else if (open && text[at] == ']' && text[at + 1] == ']') {
            s->marks[s->mark_count++].to = out;
            open                         = false;
            at += 2;
        } else {
            text[out++] = text[at++];
        }
    }
    if (open) {
        stop("a mark does not end", s->name);
    }
    text[out] = '\0';
    s->size   = out;
}

static void read_sample(const char *folder, const char *name)
{
    sample *s          = &samples[sample_count++];
    char    path[4096] = "", type[32] = "";
    s->folder = folder;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(s->name, sizeof s->name, "%s", name);
    FILE *file = fopen(path, "rb");
    s->text    = calloc(1, TEXT_MAX + 2);
    s->size    = file && s->text ? fread(s->text, 1, TEXT_MAX, file) : 0;
    if (sample_count == TEXTS_MAX || s->size == 0 || s->size == TEXT_MAX) {
        stop("too many texts, or one that is empty, too long or cannot be read", path);
    }
    fclose(file);
    read_marks(s);
    snprintf(type, sizeof type, "%.*s", (int) strcspn(name, "-."), name);
    while (s->type < type_count && strcmp(types[s->type], type) != 0) {
        s->type++;
    }
    if (s->type == type_count) {
        memcpy(types[type_count++], type, sizeof type);
    }
    if (type_count == TYPES_MAX) {
        stop("too many kinds of text", path);
    }
}

/* ---- what left ---- */

/* What a surrogate keeps of any value of its class, and so tells nothing of this one. */
static bool kept_by_shape(cmif_span_class class, cmif_str word)
{
    static const char *const kept[CMIF_SPAN_CLASSES] = {
        [CMIF_SPAN_URL]     = " http https postgres mongodb srv www ",
        [CMIF_SPAN_EMAIL]   = " example ", /* all surrogates are there */
        [CMIF_SPAN_HOST]    = " example ",
        [CMIF_SPAN_IP]      = " 2001 db8 ", /* likewise */
        [CMIF_SPAN_PHONE]   = " 0043 353 234 ",
        [CMIF_SPAN_DATE]    = " monday friday fri ",
        [CMIF_SPAN_MONEY]   = " eur gbp kes pln sgd dollars euros pesos pounds quid million lakh ",
        [CMIF_SPAN_PERCENT] = " per cent ",
        [CMIF_SPAN_ADDRESS] =
            " street road ave avenue blvd boulevard lane drive terrace close court square rue calle unit flat apt ",
        [CMIF_SPAN_PERSON]       = " van der ",
        [CMIF_SPAN_ORGANISATION] = " inc ltd llc llp gmbh bank university hospital clinic school insurance partners ",
    };
    char needle[64];
    snprintf(needle, sizeof needle, " %.*s ", (int) word.size, word.data);
    return kept[class] && strstr(kept[class], needle);
}

static size_t letters(cmif_str word)
{
    size_t count = 0;
    for (size_t i = 0; i < word.size; i++) {
        count += ((uint8_t) word.data[i] & 0xc0) != 0x80;
    }
    return count;
}

/* For Python: places in characters. */
static json_t *place(const sample *s, size_t from, size_t to, const char *class)
{
    return json_pack("[I, I, s]", (json_int_t) letters((cmif_str){s->text, from}),
                     (json_int_t) letters((cmif_str){s->text, to}), class);
}

typedef struct left { /* what left in one conversation, and which bytes of the text it stands for */
    cmif_conversation        *c;
    cmif_released            *released;
    cmif_sanitized            what;
    const cmif_released_span *spans;
    size_t                    count;
} left;

static left *release(const sample *s, const cmif_policy *policy)
{
    cmif_conversation_options options = {.policy = policy, .lists = lists, .table = table};
    cmif_err                  err     = {0};
    left                     *l       = calloc(1, sizeof *l);
    must(cmif_conversation_new(&options, &l->c, &err), &err, s->name);
    must(cmif_conversation_prepare(l->c, s->text, s->size, &l->what, &err), &err, s->name);
    l->released = cmif_conversation_take(l->c, &l->spans, &l->count);
    return l;
}

static void release_free(left *l)
{
    cmif_released_free(l->released);
    cmif_conversation_free(l->c);
    free(l);
}

/* Whether this word of a mark stands in what left at the mark's place; spans cover both texts whole and in order. Not
 * asked of function words, nor of what the channel drew: that may be the word itself, and is as likely for its
 * neighbours. */
static bool stands(const left *l, const mark *m, const cmif_token *t, cmif_str word)
{
    size_t         first = 0, last = 0, size = 0;
    cmif_scan      there = {0};
    cmif_err       err   = {0};
    const uint8_t *out   = cmif_released_bytes(l->released, &size);
    bool           found = false, open = false;
    while (l->spans[first].from + l->spans[first].size <= m->from) {
        first++;
    }
    for (last = first; last + 1 < l->count && l->spans[last + 1].from < m->to; last++) {
    }
    for (size_t s = first; s <= last; s++) {
        const cmif_released_span *span = &l->spans[s];
        open |= span->from <= t->from && span->from + span->size > t->from &&
                (span->action == CMIF_ACTION_SURROGATE ||
                 (span->action == CMIF_ACTION_PASS && span->class != CMIF_SPAN_STOP));
    }
    const cmif_released_span *from = &l->spans[first], *to = &l->spans[last];
    must(cmif_scan_text(out + from->out_from, to->out_from + to->out_size - from->out_from, &there, &err), &err,
         "what left");
    for (size_t k = 0; k < there.count && open; k++) {
        cmif_str other = cmif_token_fold(&there, &there.tokens[k]);
        found |= is_word(&there.tokens[k]) && word.size == other.size && !memcmp(word.data, other.data, word.size);
    }
    cmif_scan_wipe(&there);
    return found;
}

/* The word of the mark that stands there in all conversations: what does so in some is a draw, not the word. */
static cmif_str left_as_written(const mark *m, const cmif_scan *original, left *const *tries)
{
    for (size_t i = 0; i < original->count; i++) {
        const cmif_token *t    = &original->tokens[i];
        cmif_str          word = cmif_token_fold(original, t);
        bool all = is_word(t) && t->from >= m->from && t->from + t->size <= m->to && letters(word) >= WORD_MIN &&
                   !kept_by_shape(m->class, word);
        for (size_t k = 0; k < TRIES && all; k++) {
            all = stands(tries[k], m, t, word);
        }
        if (all) {
            return word;
        }
    }
    return (cmif_str){NULL, 0};
}

static void add(score *s, bool written, bool channel)
{
    s->marks++;
    s->written += written;
    s->channel += !written && channel;
    s->surrogate += !written && !channel;
}

static void measure(const sample *s, const cmif_policy *policy, scores *all, json_t *json)
{
    left     *tries[TRIES];
    cmif_scan scan = {0};
    cmif_err  err  = {0};
    for (size_t i = 0; i < TRIES; i++) {
        tries[i] = release(s, policy);
    }
    const cmif_released_span *spans = tries[0]->spans;
    const size_t              count = tries[0]->count;
    must(cmif_scan_text(s->text, s->size, &scan, &err), &err, s->name);
    for (size_t i = 0; i < s->mark_count; i++) {
        const mark *m       = &s->marks[i];
        cmif_str    word    = left_as_written(m, &scan, tries);
        bool        written = word.size > 0, channel = false;
        for (size_t k = 0; k < count; k++) {
            channel |= spans[k].from < m->to && spans[k].from + spans[k].size > m->from &&
                       spans[k].action == CMIF_ACTION_CHANNEL;
        }
        add(&all->by_class[m->class], written, channel);
        if (m->class != CMIF_SPAN_TOPIC) { /* a class of its own: `names` promises nothing of them */
            add(&all->by_type[s->type], written, channel);
            add(&all->all, written, channel);
            add(is_name(m->class) ? &all->names : &all->patterns, written, channel);
        }
        if (written && policy->actions[m->class] != CMIF_ACTION_PASS && show_misses) {
            printf("%s, %s: missed '%.*s' of %s '%.*s'\n", s->name, policy->base, (int) word.size, word.data,
                   cmif_span_class_name(m->class), (int) (m->to - m->from), s->text + m->from);
        }
    }
    for (size_t k = 0, t = 0; k < count; k++) {
        bool right = false;
        for (; t < scan.count && scan.tokens[t].from < spans[k].from + spans[k].size; t++) {
            all->words[spans[k].action] += is_word(&scan.tokens[t]);
        }
        for (size_t i = 0; i < s->mark_count; i++) {
            right |= spans[k].from < s->marks[i].to && spans[k].from + spans[k].size > s->marks[i].from;
        }
        if (spans[k].action != CMIF_ACTION_SURROGATE) {
            continue;
        }
        score *to[] = {&all->by_class[spans[k].class], &all->by_type[s->type], &all->all};
        for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
            to[i]->found++;
            to[i]->right += right;
        }
        const char *class = cmif_span_class_name((cmif_span_class) spans[k].class);
        if (!right && show_misses) {
            printf("%s, %s: no mark for %s '%.*s'\n", s->name, policy->base, class, (int) spans[k].size,
                   s->text + spans[k].from);
        }
        json_array_append_new(json_object_get(json, "spans"),
                              place(s, spans[k].from, spans[k].from + spans[k].size, class));
    }
    for (size_t i = 0; i < TRIES; i++) {
        release_free(tries[i]);
    }
    cmif_scan_wipe(&scan);
}

/* ---- speed ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

/* Words a second; policy NULL: scan and finder alone. Each pass is a new conversation for each text. */
static double speed(const cmif_policy *policy)
{
    const double begin = seconds();
    double       used  = 0;
    size_t       words = 0;
    cmif_err     err   = {0};
    for (; used < .5; used = seconds() - begin) {
        for (size_t i = 0; i < sample_count; i++) {
            cmif_scan  scan  = {0};
            cmif_spans spans = {0};
            if (policy) {
                release_free(release(&samples[i], policy));
            } else {
                must(cmif_scan_text(samples[i].text, samples[i].size, &scan, &err), &err, samples[i].name);
                must(cmif_find_entities(&scan, lists, &spans, &err), &err, samples[i].name);
            }
            cmif_spans_wipe(&spans);
            cmif_scan_wipe(&scan);
        }
        words += word_count;
    }
    return (double) words / used;
}

/* ---- printing ---- */

static double share(size_t part, size_t whole)
{
    return whole ? 100. * (double) part / (double) whole : 100.;
}

static double recall(const score *s)
{
    return share(s->marks - s->written, s->marks);
}

static void print(const char *name, const score *s)
{
    printf("%-14s %5zu  %6.1f %%  %9zu  %7zu  %7zu  %6zu  %6.1f %%\n", name, s->marks, recall(s), s->surrogate,
           s->channel, s->written, s->found, share(s->right, s->found));
}

static bool report(const cmif_policy *policy)
{
    scores all  = {0};
    bool   good = true;
    for (size_t i = 0; i < sample_count; i++) {
        measure(&samples[i], policy, &all, NULL);
    }
    printf("\npolicy %s\n%-14s %5s  %8s  %9s  %7s  %7s  %6s  %8s\n", policy->base, "class", "marks", "recall",
           "surrogate", "channel", "written", "found", "precise");
    for (int c = 0; c < CMIF_SPAN_CLASSES; c++) {
        if (all.by_class[c].marks || all.by_class[c].found) {
            print(cmif_span_class_name((cmif_span_class) c), &all.by_class[c]);
        }
    }
    printf("\n");
    for (size_t i = 0; i < type_count; i++) {
        print(types[i], &all.by_type[i]);
        good &= recall(&all.by_type[i]) >= 90;
    }
    const score *topic = &all.by_class[CMIF_SPAN_TOPIC];
    const bool   held  = policy->actions[CMIF_SPAN_TOPIC] != CMIF_ACTION_PASS;
    size_t       words = all.words[0] + all.words[1] + all.words[2];
    printf(
        "\npolicy %s: recall of patterns %.1f %% of %zu (goal 98), of names %.1f %% of %zu (goal 95), of topics %.1f "
        "%% of "
        "%zu%s; least of a kind of text: goal 90; precision %.1f %%\n"
        "policy %s: of %zu words %.1f %% became surrogates, %.1f %% went through the channel, %.1f %% left as written; "
        "%.2f million words/s\n",
        policy->base, recall(&all.patterns), all.patterns.marks, recall(&all.names), all.names.marks, recall(topic),
        topic->marks, held ? "" : " (passes)", share(all.all.right, all.all.found), policy->base, words,
        share(all.words[CMIF_ACTION_SURROGATE], words), share(all.words[CMIF_ACTION_CHANNEL], words),
        share(all.words[CMIF_ACTION_PASS], words), speed(policy) / 1e6);
    return good && recall(&all.patterns) >= 98 && recall(&all.names) >= 95 && all.all.marks > 0;
}

static bool print_json(const cmif_policy *policy)
{
    json_t *texts = json_array();
    for (size_t i = 0; i < sample_count; i++) {
        const sample *s   = &samples[i];
        scores        all = {0};
        json_t *text = json_pack("{s:s, s:s, s:s, s:[], s:[]}", "folder", s->folder, "name", s->name, "text", s->text,
                                 "marks", "spans");
        for (size_t m = 0; m < s->mark_count; m++) {
            json_array_append_new(json_object_get(text, "marks"),
                                  place(s, s->marks[m].from, s->marks[m].to, cmif_span_class_name(s->marks[m].class)));
        }
        measure(s, policy, &all, text);
        json_array_append_new(texts, text);
    }
    json_t *result = json_pack("{s:o, s:I, s:f, s:f}", "texts", texts, "words", (json_int_t) word_count,
                               "finder_words_per_second", speed(NULL), "words_per_second", speed(policy));
    bool    good   = json_dumpf(result, stdout, JSON_COMPACT) == 0;
    printf("\n");
    json_decref(result);
    return good;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int main(int argc, char **argv)
{
    cmif_err err  = {0};
    bool     good = true, json = false;
    int      first = 1;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        show_misses |= strcmp(argv[first], "--misses") == 0;
        json |= strcmp(argv[first], "--json") == 0;
    }
    if (argc < first + 3) {
        fprintf(stderr, "usage: recall [--misses] [--json] LISTS TABLE|- FOLDER...\n");
        return 2;
    }
    FILE *there = fopen(argv[first], "rb");
    if (!there) {
        printf("skipped: no lists of names here; `tools/fetch names` and a build of them bring them\n");
        return 77;
    }
    fclose(there);
    must(cmif_lists_open(argv[first], &lists, &err), &err, argv[first]);
    const char *path = argv[first + 1];
    if (strcmp(path, "-") != 0) {
        must(cmif_table_open(path, &table, NULL, &err), &err, path);
    }
    for (int i = first + 2; i < argc; i++) {
        struct dirent **files = NULL;
        int             count = scandir(argv[i], &files, NULL, by_name);
        for (int k = 0; k < count; k++) {
            if (files[k]->d_name[0] != '.') {
                read_sample(argv[i], files[k]->d_name);
            }
            free(files[k]);
        }
        free(files);
    }
    for (size_t i = 0; i < sample_count; i++) {
        cmif_scan scan = {0};
        must(cmif_scan_text(samples[i].text, samples[i].size, &scan, &err), &err, samples[i].name);
        for (size_t t = 0; t < scan.count; t++) {
            word_count += is_word(&scan.tokens[t]);
        }
        cmif_scan_wipe(&scan);
    }
    if (!json) {
        printf("%zu texts, %zu words; scan and finder alone: %.2f million words/s\n", sample_count, word_count,
               speed(NULL) / 1e6);
    }
    static const char *const names[] = {"names", "topics", "words"};
    for (size_t i = 0; i < (table && !json ? 3 : 1); i++) {
        cmif_policy *policy = NULL;
        must(cmif_policy_named(names[i], &policy, &err), &err, names[i]);
        good &= json ? print_json(policy) : report(policy);
        cmif_policy_free(policy);
    }
    if (!table && !json) {
        printf("not measured, for lack of a table: the policies topics and words\n");
    }
    for (size_t i = 0; i < sample_count; i++) {
        free(samples[i].text);
    }
    cmif_table_free(table);
    cmif_lists_free(lists);
    return good ? 0 : 1;
}
