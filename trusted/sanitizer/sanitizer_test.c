#define CHECK_MEMORY_MMAP
#include "sanitizer/sanitizer.h"

#include "audit_rig.h"
#include "base/check.h"
#include "base/check_memory.h"
#include "sanitizer/entities_rig.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static cmif_lists *lists;
static cmif_table *parts, *anything;
static cmif_table *fixed, *chance; /* all content words leave as "thing"; as any of them alike */

/* Words of the lists; "orange" and "cross" are not in the table. Ascending. */
static const char *const stop_words[]    = {"a",  "and", "at", "for", "i",  "in",  "is",
                                            "my", "not", "of", "the", "to", "with"};
static const char *const content_words[] = {"account", "apple",  "ate",   "bank",  "called",   "cancer", "child",
                                            "doctor",  "hello",  "word",  "house", "hospital", "money",  "mother",
                                            "people",  "street", "table", "thing", "visit",    "weeks",  "wrote"};
enum {
    STOP_WORDS    = sizeof stop_words / sizeof *stop_words,
    CONTENT_WORDS = sizeof content_words / sizeof *content_words,
    WORDS         = 1 + STOP_WORDS + CONTENT_WORDS
};

static bool is_content(const char *word)
{
    for (size_t i = 0; i < CONTENT_WORDS; i++) {
        if (strcmp(word, content_words[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void boost(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(4, self, size, total, weights);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static const char *left_alone = ""; /* a word that a stranger's table gives a block of its own */

static cmif_table *make_table(bool by_chance, cmif_adjacency adjacency)
{
    const char     *texts[WORDS] = {""};
    cmif_str        words[WORDS];
    uint32_t        prior[WORDS], block_of[WORDS], block_at[WORDS + 1], outputs[2 * WORDS];
    static uint64_t weights[WORDS * CONTENT_WORDS];
    uint32_t        blocks = 0, content = UINT32_MAX, made = 0, thing = 0, content_ids[CONTENT_WORDS], found = 0;
    memcpy(texts + 1, stop_words, sizeof stop_words);
    memcpy(texts + 1 + STOP_WORDS, content_words, sizeof content_words);
    qsort(texts, WORDS, sizeof *texts, by_text);
    for (uint32_t w = 0; w < WORDS; w++) {
        thing = strcmp(texts[w], "thing") == 0 ? w : thing;
        if (is_content(texts[w])) {
            content_ids[found++] = w;
        }
    }
    for (uint32_t w = 0; w < WORDS; w++) {
        const bool ours = is_content(texts[w]) && strcmp(texts[w], left_alone) != 0;
        words[w]        = (cmif_str){texts[w], strlen(texts[w])};
        prior[w]        = 1;
        block_of[w]     = ours && content != UINT32_MAX ? content : blocks;
        if (block_of[w] == blocks) {
            block_at[blocks++] = made;
            if (ours && by_chance) {
                memcpy(outputs + made, content_ids, sizeof content_ids);
                made += CONTENT_WORDS;
            } else {
                outputs[made++] = ours ? thing : w;
            }
            content = ours ? blocks - 1 : content;
        }
        for (uint32_t k = 0; k < CONTENT_WORDS; k++) {
            uint64_t part                  = ((uint64_t) 1 << 32) / CONTENT_WORDS;
            weights[w * CONTENT_WORDS + k] = !ours || !by_chance ? (uint64_t) 1 << 32 : part;
        }
        weights[w * CONTENT_WORDS] += ours && by_chance ? ((uint64_t) 1 << 32) % CONTENT_WORDS : 0;
    }
    block_at[blocks] = made;
    return rig_open(
        &(cmif_table_draft){.claim         = {.mechanism   = adjacency ? CMIF_MECHANISM_GENERAL : CMIF_MECHANISM_CUSTEXT,
                                              .adjacency   = adjacency,
                                              .k           = CONTENT_WORDS,
                                              .epsilon_num = 1,
                                              .epsilon_den = 1},
                            .weight_bits   = 32,
                            .word_count    = WORDS,
                            .row_count     = WORDS,
                            .block_count   = blocks,
                            .words         = words,
                            .prior         = prior,
                            .block_of      = block_of,
                            .block_at      = block_at,
                            .outputs       = outputs,
                            .weights       = weights,
                            .weight_stride = CONTENT_WORDS});
}

/* Content words in three blocks, in which each word is four times as likely to leave as itself than as any other: words
 * of health, three about families, the rest. Or all words in two blocks that have the same outputs, so that any two are
 * adjacent. */
static uint32_t part_of(const char *word)
{
    static const char *const of[2] = {" cancer doctor hospital ", " child mother people "};
    char                     spaced[32];
    snprintf(spaced, sizeof spaced, " %s ", word);
    return strstr(of[0], spaced) ? 0 : strstr(of[1], spaced) ? 1 : 2;
}

static cmif_table *make_parts(bool any)
{
    const char     *texts[WORDS] = {""};
    cmif_str        words[WORDS];
    uint32_t        block_of[WORDS], prior[WORDS], blocks = 0, part[3] = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
    uint32_t        block_at[3] = {0, WORDS, 2 * WORDS}, outputs[2 * WORDS];
    static uint64_t weights[WORDS * WORDS];
    memcpy(texts + 1, stop_words, sizeof stop_words);
    memcpy(texts + 1 + STOP_WORDS, content_words, sizeof content_words);
    qsort(texts, WORDS, sizeof *texts, by_text);
    for (uint32_t w = 0; w < WORDS; w++) {
        uint32_t *which = is_content(texts[w]) ? &part[part_of(texts[w])] : NULL;
        words[w]        = (cmif_str){texts[w], strlen(texts[w])};
        block_of[w]     = any ? w & 1 : which && *which != UINT32_MAX ? *which : blocks++;
        prior[w]        = 1;
        outputs[w] = outputs[WORDS + w] = w;
        if (which) {
            *which = block_of[w];
        }
        boost(w, w, WORDS, (uint64_t) 1 << 32, weights + w * WORDS);
    }
    return any ? rig_open(&(cmif_table_draft){.claim         = {.mechanism   = CMIF_MECHANISM_FULL,
                                                                .adjacency   = CMIF_ADJACENT_ANY,
                                                                .epsilon_num = 2,
                                                                .epsilon_den = 1},
                                              .weight_bits   = 32,
                                              .word_count    = WORDS,
                                              .row_count     = WORDS,
                                              .block_count   = 2,
                                              .words         = words,
                                              .prior         = prior,
                                              .block_of      = block_of,
                                              .block_at      = block_at,
                                              .outputs       = outputs,
                                              .weights       = weights,
                                              .weight_stride = WORDS})
               : rig_blocks(words, block_of, WORDS, blocks, 32, 2, boost);
}

/* ---- a conversation under a policy that is given as text ---- */

typedef struct talk {
    cmif_policy       *policy;
    cmif_conversation *c;
    cmif_sanitized     what;
    char               out[65536]; /* what left last */
    size_t             size;
    cmif_released_word words[4096];
    size_t             word_count;
    cmif_err           err;
} talk;

static talk *begin(const char *policy, const cmif_table *table)
{
    talk *t = calloc(1, sizeof *t);
    CHECK(cmif_policy_parse(policy, strlen(policy), &t->policy, &t->err) == CMIF_OK);
    CHECK(cmif_conversation_new(&(cmif_conversation_options){t->policy, lists, table, false, NULL}, &t->c, &t->err) ==
          CMIF_OK);
    return t;
}

static void end(talk *t)
{
    cmif_conversation_free(t->c);
    cmif_policy_free(t->policy);
    free(t);
}

static cmif_code say_bytes(talk *t, const void *text, size_t size)
{
    memset(&t->what, 0, sizeof t->what);
    t->size      = 0;
    cmif_code rc = cmif_conversation_prepare(t->c, text, size, &t->what, &t->err);
    if (rc != CMIF_OK) {
        return rc;
    }
    const cmif_released_span *spans = NULL;
    size_t                    count = 0, from = 0, out = 0;
    cmif_released            *r     = cmif_conversation_take(t->c, &spans, &count);
    const uint8_t            *bytes = cmif_released_bytes(r, &t->size);
    CHECK(t->size < sizeof t->out);
    memcpy(t->out, bytes, t->size);
    t->out[t->size] = 0;
    for (size_t i = 0; i < count; i++) { /* spans cover both texts whole */
        CHECK(spans[i].from == from && spans[i].out_from == out);
        from += spans[i].size;
        out += spans[i].out_size;
    }
    CHECK(from == size && out == t->size);
    const cmif_released_word *words = cmif_released_words(r, &t->word_count);
    CHECK(t->word_count < sizeof t->words / sizeof *t->words);
    if (t->word_count) {
        memcpy(t->words, words, t->word_count * sizeof *words);
    }
    cmif_released_free(r);
    return rc;
}

static const char *say(talk *t, const char *text)
{
    if (say_bytes(t, text, strlen(text)) != CMIF_OK) {
        fprintf(stderr, "'%s': %s\n", text, t->err.text);
        return "?";
    }
    return t->out;
}

static bool says(talk *t, const char *text, const char *expected)
{
    const char *found = say(t, text);
    if (strcmp(found, expected) != 0) {
        fprintf(stderr, "'%s' left as '%s', not as '%s'\n", text, found, expected);
        return false;
    }
    return true;
}

/* ---- promises ---- */

static void ordinary_words_pass_or_are_drawn_as_the_policy_says(void)
{
    talk *names = begin("policy names", NULL), *topics = begin("policy topics", fixed),
         *words = begin("policy words", fixed);
    CHECK(says(names, "The doctor ate the apple.", "The doctor ate the apple."));
    CHECK(says(topics, "The doctor ate the apple.", "The thing ate the apple."));
    CHECK(says(words, "The doctor ate the apple.", "The thing thing the thing."));
    CHECK(names->what.draws == 0 && topics->what.draws == 1 && words->what.draws == 3 && words->what.repeated == 0);
    CHECK(words->what.by_class[CMIF_SPAN_STOP][CMIF_ACTION_PASS] == 2);
    CHECK(words->what.by_class[CMIF_SPAN_TOPIC][CMIF_ACTION_CHANNEL] == 1);
    CHECK(words->what.by_class[CMIF_SPAN_WORD][CMIF_ACTION_CHANNEL] == 2);
    end(names);
    end(topics);
    end(words);
}

static void drawn_words_take_the_casing_of_what_they_stand_for(void)
{
    talk *t = begin("policy words", fixed);
    CHECK(says(t, "Apple apple APPLE aPPle", "Thing thing THING thing"));
    CHECK(t->what.draws == 1 && t->what.repeated == 3);
    end(t);
}

static void an_odd_spelling_never_leaves_as_written(void)
{
    talk *t = begin("policy names", NULL), *w = begin("policy words", fixed);
    CHECK(says(t,
               "th\xe2\x80\x8b"
               "e a\xc2\xad"
               "pple",
               "the apple"));
    CHECK(says(t, "\xef\xbc\xb4\xef\xbd\x88\xef\xbd\x85 \xd0\xb0pple", "The apple")); /* full width; Cyrillic a */
    CHECK(says(w, "A\xc2\xadPPLE th\xd0\xb5", "THING the"));
    CHECK(say(t, "the\xff apple") && !strchr(t->out, '\xff'));
    CHECK(say(w, "the \xff apple") && !strchr(w->out, '\xff'));
    end(t);
    end(w);
}

static void a_word_outside_table_or_vocabulary_never_passes(void)
{
    static const char *const policies[] = {"policy names", "policy topics", "policy words",
                                           "policy words\nstop-words protect"};
    static const char *const texts[]    = {"the zorblax of my mother", "Zorblax",  "zorb'lax",
                                           "zorblax-zorblax",          "ZORBLAX!", "\xe4\xb8\xad\xe6\x96\x87zorblax"};
    for (size_t p = 0; p < 4; p++) {
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            talk *t = begin(policies[p], fixed);
            CHECK(strcmp(say(t, texts[i]), "?") != 0);
            CHECK(!strstr(t->out, "orblax") && !strstr(t->out, "ORBLAX") && !strstr(t->out, "zorb"));
            end(t);
        }
    }
    talk *t = begin("policy words", fixed); /* in the vocabulary, not in the table */
    CHECK(say(t, "the orange table") && !strstr(t->out, "orange") && strstr(t->out, "the ") == t->out);
    CHECK(t->what.by_class[CMIF_SPAN_WORD][CMIF_ACTION_SURROGATE] == 1);
    CHECK(say(t, "she is the") &&
          !strstr(t->out, "?")); /* a stop word that is not in the table passes as stop words do */
    CHECK(strstr(t->out, "she is the"));
    end(t);
    t = begin("policy words\nstop-words protect", fixed);
    CHECK(say(t, "where is the") && !strstr(t->out, "where") && strstr(t->out, "is the"));
    CHECK(t->what.by_class[CMIF_SPAN_STOP][CMIF_ACTION_PASS] == 2 && t->what.draws == 0); /* alone in their blocks */
    CHECK(t->what.by_class[CMIF_SPAN_STOP][CMIF_ACTION_SURROGATE] == 1);
    end(t);
}

static void a_text_sent_again_is_the_same_bytes_and_costs_nothing(void)
{
    static const char text[] =
        "Maria Lopez wrote to my doctor in London: call +44 20 7946 0958 about the apple, bank, house, table.";
    talk *t = begin("policy words", chance);
    char  first[1024];
    snprintf(first, sizeof first, "%s", say(t, text));
    uint64_t       draws = t->what.draws;
    cmif_sanitized what  = t->what;
    CHECK(draws >= 5 && !t->what.again);
    say(t, "a text between, about my mother and the hospital");
    CHECK(!t->what.again);
    for (int i = 0; i < 3; i++) {
        CHECK(says(t, text, first));
        CHECK(t->what.again && t->what.draws == 0 && t->what.repeated == what.repeated + draws);
        CHECK(memcmp(t->what.by_class, what.by_class, sizeof what.by_class) == 0);
        CHECK(t->word_count > 5);
    }
    end(t);
}

static void a_word_keeps_its_output_in_a_conversation(void)
{
    static const char text[] =
        "account apple ate bank called cancer child doctor hello word house hospital money mother";
    talk *t = begin("policy words", chance);
    char  first[1024], one[64];
    snprintf(first, sizeof first, "%s", say(t, text));
    CHECK(t->what.draws == 14);
    char *save = NULL, *out = strtok_r(first, " ", &save),
         copy[]   = "account apple ate bank called cancer child doctor hello word "
                    "house hospital money mother";
    char *in_save = NULL;
    for (char *in = strtok_r(copy, " ", &in_save); in && out;
         in = strtok_r(NULL, " ", &in_save), out = strtok_r(NULL, " ", &save)) {
        snprintf(one, sizeof one, "the %s", in);
        CHECK(strcmp(say(t, one) + 4, out) == 0 && t->what.draws == 0 && t->what.repeated == 1);
    }
    CHECK(!out);
    end(t);
}

static void conversations_know_nothing_of_each_other(void)
{
    static const char text[] =
        "Zorblax account apple ate bank called cancer child doctor hello word house hospital money";
    talk *a = begin("policy words", chance), *b = begin("policy words", chance);
    CHECK(say(a, text) && say(b, text));
    CHECK(strcmp(a->out, b->out) != 0 && b->what.draws == a->what.draws &&
          !b->what.again); /* alike: less than 21^-13 */
    char *word = strtok(a->out, " "), *other = strtok(b->out, " ");
    CHECK(word && other && strcmp(word, other) != 0);
    end(a);
    end(b);
}

static void what_is_dropped_never_happened(void)
{
    static const char text[] =
        "account apple ate bank called cancer child doctor hello word house hospital money mother";
    talk          *t    = begin("policy words", chance);
    cmif_sanitized what = {0};
    char           first[1024];
    CHECK(!cmif_conversation_take(t->c, NULL, NULL));
    CHECK(cmif_conversation_prepare(t->c, text, strlen(text), &what, NULL) == CMIF_OK && what.draws == 14);
    cmif_conversation_drop(t->c);
    CHECK(!cmif_conversation_take(t->c, NULL, NULL));
    snprintf(first, sizeof first, "%s", say(t, text));
    CHECK(t->what.draws == 14 && !t->what.again && t->what.repeated == 0);
    /* a new prepare drops the old one, and what was taken stays as it is */
    CHECK(cmif_conversation_prepare(t->c, "the visit", 9, &what, NULL) == CMIF_OK && what.draws == 1);
    CHECK(cmif_conversation_prepare(t->c, "my people visit", 15, &what, NULL) == CMIF_OK && what.draws == 2);
    cmif_conversation_drop(t->c);
    cmif_conversation_drop(t->c);
    CHECK(says(t, text, first) && t->what.again);
    say(t, "the visit");
    CHECK(!t->what.again && t->what.draws == 1);
    CHECK(!cmif_conversation_take(t->c, NULL, NULL)); /* once */
    end(t);
}

static void what_is_refused_is_named_by_class_and_place_only(void)
{
    talk          *t      = begin("policy words\nclass email refuse", fixed);
    cmif_sanitized what   = {.draws = 77};
    const char     text[] = "the apple of kanari@vogel.org";
    CHECK(cmif_conversation_prepare(t->c, text, strlen(text), &what, &t->err) == CMIF_E_RANGE && what.draws == 77);
    CHECK(strstr(t->err.text, "byte 13") && strstr(t->err.text, "email") && !strstr(t->err.text, "kanari") &&
          !strstr(t->err.text, "apple"));
    CHECK(!cmif_conversation_take(t->c, NULL, NULL));
    CHECK(says(t, "the apple", "the thing") && t->what.draws == 1 && !t->what.again);
    CHECK(cmif_conversation_prepare(t->c, text, strlen(text), &what, NULL) == CMIF_E_RANGE);
    CHECK(!cmif_conversation_take(t->c, NULL, NULL));
    end(t);
}

static void names_that_are_denied_never_leave(void)
{
    static const char *const texts[] = {"the blue apple table",
                                        "Apple, Table",
                                        "APPLE-TABLE",
                                        "apple\ntable",
                                        "the apple table's",
                                        "apple a\xc2\xadpple t\xd0\xb0"
                                        "ble house"};
    talk *t = begin("policy names\ndeny \"Apple Table\"\ndeny \"table house\" person\nallow \"apple\"", NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        say(t, texts[i]);
        CHECK(!strstr(t->out, "able") && !strstr(t->out, "ABLE") && !strstr(t->out, "house"));
    }
    CHECK(t->what.by_class[CMIF_SPAN_ORGANISATION][CMIF_ACTION_SURROGATE] == 1);
    CHECK(says(t, "apple the table", "apple the table") && says(t, "apple house", "apple house"));
    end(t);
}

static void names_that_are_allowed_pass_whole_or_not_at_all(void)
{
    talk *t =
        begin("policy words\nallow \"Maria\"\nallow \"Zorblax\"\nallow \"apple\"\nallow \"help@vogel.org\"", fixed);
    CHECK(says(t, "Zorblax and the apple in the house", "Zorblax and the apple in the thing"));
    CHECK(t->what.draws == 1 && t->what.by_class[CMIF_SPAN_WORD][CMIF_ACTION_PASS] == 1);
    CHECK(says(t, "to help@vogel.org", "to help@vogel.org"));
    say(t, "to maria@zorblax.org");
    CHECK(!strstr(t->out, "maria") && !strstr(t->out, "zorblax"));
    say(t, "Zorb\xc2\xadlax");
    CHECK(strcmp(t->out, "Zorblax") == 0);
    end(t);
}

static void released_words_are_where_they_say(void)
{
    talk *t = begin("policy words", fixed);
    CHECK(strstr(say(t, "The Apple of zorblax is t\xc2\xadhe money"), "The Thing of "));
    uint32_t drawn = 0, passed = 0;
    for (size_t i = 0; i < t->word_count; i++) {
        cmif_str word = cmif_table_word(fixed, t->words[i].output);
        CHECK(t->words[i].size == word.size && t->words[i].from + word.size <= t->size);
        CHECK(strncasecmp(t->out + t->words[i].from, word.data, word.size) == 0);
        drawn += !t->words[i].passed;
        passed += t->words[i].passed;
        CHECK(t->words[i].passed == !cmif_str_is(word, "thing"));
    }
    CHECK(drawn == 2 && passed == 4); /* the, of, is, the; nothing for the surrogate */
    end(t);
    t = begin("policy topics", fixed); /* words that pass but that their block never gives have no row of their own */
    CHECK(says(t, "the apple is", "the apple is") && t->word_count == 2);
    end(t);
}

static void what_looks_like_a_surrogate_of_ours_never_passes(void)
{
    talk *t = begin("policy names\nclass person pass\ndeny \"maria\" person", NULL);
    char  surrogate[256], text[300];
    CHECK(says(t, "Grace", "Grace"));
    snprintf(surrogate, sizeof surrogate, "%s", say(t, "Maria"));
    CHECK(strcmp(surrogate, "Maria") != 0);
    snprintf(text, sizeof text, "%s is", surrogate);
    say(t, text);
    CHECK(!strstr(t->out, surrogate));
    CHECK(says(t, "Grace is", "Grace is"));
    end(t);
}

static void a_channel_that_lets_a_word_pass_lets_no_content_word_pass(void)
{
    left_alone        = "cancer";
    cmif_table *alone = make_table(false, CMIF_ADJACENT_BLOCK);
    left_alone        = "";
    talk *t = begin("policy topics", alone), *w = begin("policy words", alone);
    CHECK(strcmp(say(t, "the cancer of my doctor"), "?") != 0 && !strstr(t->out, "cancer") &&
          strstr(t->out, "the ") == t->out);
    CHECK(t->what.by_class[CMIF_SPAN_TOPIC][CMIF_ACTION_SURROGATE] == 1 && t->what.draws == 1);
    CHECK(strcmp(say(w, "the Cancer of my doctor"), "?") != 0 && !strstr(w->out, "ancer"));
    end(t);
    end(w);
    cmif_table_free(alone);
}

static void the_answer_is_restored_through_the_vault(void)
{
    talk         *t      = begin("policy names", NULL);
    cmif_restore *r      = NULL;
    cmif_secret   back   = {0};
    const char    text[] = "Dear Ms Lopez, call kanari@vogel.org about zorblax.";
    say(t, text);
    CHECK(!strstr(t->out, "Lopez") && !strstr(t->out, "kanari") && !strstr(t->out, "zorblax"));
    cmif_restore_counts counts;
    CHECK(cmif_restore_new(cmif_conversation_vault(t->c), false, &r, NULL) == CMIF_OK);
    CHECK(cmif_restore_feed(r, t->out, t->size, &back, NULL) == CMIF_OK &&
          cmif_restore_end(r, &back, &counts, NULL) == CMIF_OK);
    CHECK(back.size == strlen(text) && memcmp(back.data, text, back.size) == 0);
    cmif_restore_free(r);
    cmif_secret_wipe(&back);
    end(t);
}

static void an_answer_of_another_conversation_is_not_restored(void)
{
    talk *a = begin("policy names", NULL), *b = begin("policy names", NULL);
    char  answer[256];
    snprintf(answer, sizeof answer, "%s.", say(a, "zorblax"));
    say(b, "zorblax");
    end(a);
    for (int i = 0; i < 2; i++) { /* one that was there all the time, and one that begins after the other has ended */
        cmif_restore       *r    = NULL;
        cmif_secret         back = {0};
        cmif_restore_counts counts;
        CHECK(cmif_restore_new(cmif_conversation_vault(b->c), false, &r, NULL) == CMIF_OK);
        CHECK(cmif_restore_feed(r, answer, strlen(answer), &back, NULL) == CMIF_OK &&
              cmif_restore_end(r, &back, &counts, NULL) == CMIF_OK);
        CHECK(back.size == strlen(answer) && memcmp(back.data, answer, back.size) == 0 && counts.restored == 0);
        cmif_restore_free(r);
        cmif_secret_wipe(&back);
        end(b);
        b = i == 0 ? begin("policy names", NULL) : NULL;
    }
}

static void a_channel_that_is_needed_and_guarantees_nothing_is_refused(void)
{
    cmif_conversation *c       = NULL;
    cmif_err           err     = {0};
    cmif_policy       *p       = NULL;
    cmif_table        *nothing = make_table(true, CMIF_ADJACENT_NONE);
    CHECK(cmif_policy_named("topics", &p, NULL) == CMIF_OK && nothing);
    CHECK(cmif_conversation_new(&(cmif_conversation_options){p, lists, NULL, false, NULL}, &c, &err) == CMIF_E_RANGE &&
          !c);
    CHECK(strstr(err.text, "topic"));
    CHECK(cmif_conversation_new(&(cmif_conversation_options){p, lists, nothing, false, NULL}, &c, NULL) ==
              CMIF_E_TRUST &&
          !c);
    CHECK(cmif_conversation_new(&(cmif_conversation_options){p, lists, nothing, true, NULL}, &c, NULL) == CMIF_OK);
    cmif_conversation_free(c);
    cmif_conversation_free(NULL);
    cmif_policy_free(p);
    cmif_table_free(nothing);
}

static void fail_at_every_allocation(void)
{
    static const char        text[]     = "Maria Lopez wrote to kanari@vogel.org of the apple, my zorblax and the bank";
    static const char *const policies[] = {"policy words", "policy words\nbudget request 2\nweight health 2"};
    for (uint64_t k = 0; k < 2; k++) {
        cmif_policy   *p = NULL;
        cmif_sanitized what;
        long           failed = 0;
        bool           done   = false;
        CHECK(cmif_policy_parse(policies[k], strlen(policies[k]), &p, NULL) == CMIF_OK);
        for (long n = 0; !done && n < 1000; n++) { /* a whole conversation */
            cmif_conversation *c = NULL;
            allocations_left     = n;
            cmif_code rc         = cmif_conversation_new(
                        &(cmif_conversation_options){p, lists, k ? parts : chance, false, NULL}, &c, NULL);
            rc               = rc == CMIF_OK ? cmif_conversation_prepare(c, text, sizeof text - 1, &what, NULL) : rc;
            allocations_left = -1;
            done             = rc == CMIF_OK;
            if (c && !done) {
                failed++;
                CHECK(rc == CMIF_E_MEMORY && !cmif_conversation_take(c, NULL, NULL));
                CHECK(cmif_conversation_prepare(c, text, sizeof text - 1, &what, NULL) == CMIF_OK);
                CHECK(what.draws == 3 - 2 * k && what.constants == 2 * k && what.repeated == 0 && !what.again);
            }
            cmif_conversation_free(c);
        }
        CHECK(done && failed > 10);
        cmif_policy_free(p);
    }
}

/* In a child: it keeps no memory for the next (secret.c), so that every mapping is one that can fail. */
static void without_memory_nothing_is_released_or_counted(void)
{
    int         status = 1;
    const pid_t child  = fork();
    if (child == 0) {
        fail_at_every_allocation();
        _exit(check_failed_here);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t) (seed >> 32) % n;
}

/* ---- a request's budget ---- */

static uint64_t loss_of(const cmif_table *table) /* micro */
{
    cmif_certificate c;
    cmif_table_certify(table, table->claim.adjacency, &c);
    return c.epsilon_micro;
}

/* "thing" is in the table and not in the lists: it becomes a surrogate. */
static bool is_drawn(size_t content)
{
    return strcmp(content_words[content], "thing") != 0;
}

static talk *begin_with(const cmif_table *table, const char *more, uint64_t micro)
{
    char policy[512];
    snprintf(policy, sizeof policy, "policy words\n%s\nbudget request %llu.%06llu", more,
             (unsigned long long) (micro / 1000000), (unsigned long long) (micro % 1000000));
    return begin(policy, table);
}

static const char by_need[] =
    "weight health 0.5\nweight family 4"; /* heaviest: families, 2; the rest, 1; health, 0.5 */

/* Exactly the heaviest words are drawn, and only as many as the budget lasts for, to a millionth. */
static void a_budget_is_spent_on_the_heaviest_words_first_and_never_exceeded(void)
{
    static const char   text[]     = "Doctor cancer bank mother apple child house BANK";
    static const size_t rank[]     = {5, 6, 2, 0, 3, 1, 4, 2}; /* of each word of the text: when its turn comes */
    static const char  *constant[] = {"Cancer", "cancer", "account", "child", "account", "child", "account", "ACCOUNT"};
    const uint64_t      micro      = loss_of(parts);
    CHECK(micro > 1386294 && micro < 1386400); /* ln 4 */
    for (uint64_t n = 0; n <= 8; n++) {
        for (uint64_t less = 0; less < 2 && less <= n; less++) {
            const uint64_t draws = n - less < 7 ? n - less : 7;
            talk          *t     = begin_with(parts, by_need, n * micro - less);
            say(t, text);
            CHECK(t->word_count == 8 && t->what.draws == draws && draws * micro <= n * micro - less);
            uint64_t constants = 0;
            for (size_t i = 0; i < t->word_count; i++) {
                const cmif_released_word *w = &t->words[i];
                CHECK(w->passed == (rank[i] >= draws));
                CHECK(!w->passed ||
                      (w->size == strlen(constant[i]) && memcmp(t->out + w->from, constant[i], w->size) == 0));
                CHECK(!w->passed || cmif_str_is(cmif_table_word(parts, w->output), constant[i]) || i == 0 || i == 7);
                constants += w->passed;
            }
            CHECK(t->what.constants == constants && t->what.repeated == 8 - draws - constants);
            end(t);
        }
    }
    talk *t = begin_with(parts, "", 2 * micro); /* all weigh the same: in order of appearance */
    say(t, text);
    CHECK(!t->words[0].passed && !t->words[1].passed && t->words[2].passed && t->what.draws == 2);
    end(t);
    t = begin_with(chance, by_need, 0); /* what costs nothing is drawn */
    say(t, text);
    CHECK(t->what.draws == 7 && t->what.constants == 0);
    end(t);
}

/* Texts that leave together share one budget; the next request has a whole one again. */
static void texts_of_one_request_share_its_budget(void)
{
    talk *t = begin_with(parts, "", 3 * loss_of(parts));
    say(t, "house apple");
    CHECK(t->what.draws == 2 && t->what.constants == 0);
    cmif_conversation_more(t->c);
    say(t, "bank child doctor");
    CHECK(t->what.draws == 1 && t->what.constants == 2);
    cmif_conversation_more(t->c);
    say(t, "mother");
    CHECK(t->what.draws == 0 && t->what.constants == 1);
    say(t, "cancer");
    CHECK(t->what.draws == 1 && t->what.constants == 0);
    end(t);
}

static void a_constant_stays_for_the_conversation_and_is_not_kept_when_dropped(void)
{
    talk          *t    = begin_with(parts, "", loss_of(parts));
    cmif_sanitized what = {0};
    CHECK(cmif_conversation_prepare(t->c, "house apple bank", 16, &what, NULL) == CMIF_OK);
    CHECK(what.draws == 1 && what.constants == 2);
    cmif_conversation_drop(t->c);
    say(t, "apple bank");
    CHECK(t->what.draws == 1 && t->what.constants == 1 && !t->words[0].passed && t->words[1].passed);
    for (int i = 0; i < 3; i++) { /* the budget would last for it now */
        CHECK(says(t, "the bank", "the account") && t->what.draws == 0 && t->what.constants == 1 &&
              t->what.repeated == 0);
        CHECK(t->what.again == (i > 0));
        say(t, "apple bank");
        CHECK(t->what.again && t->what.draws == 0 && t->what.constants == 1 && t->what.repeated == 1);
    }
    say(t, "Bank apple house");
    CHECK(t->what.draws == 1 && t->what.repeated == 1 && t->what.constants == 1 && !t->words[2].passed);
    end(t);
}

/* Two texts that differ by words of the same blocks have the same words drawn, the same constants, the same counts:
 * nothing but the drawn words themselves tells them apart. */
static void texts_of_the_same_blocks_are_divided_alike(void)
{
    for (int round = 0; round < 400 && !check_failed_here; round++) {
        const bool        any   = round & 1;
        const cmif_table *table = any ? anything : parts;
        char              more[128];
        uint32_t          other[CONTENT_WORDS];
        snprintf(more, sizeof more, "weight health %u.5\nweight family %u.25\nweight money 7", below(4), below(3));
        uint64_t budget = loss_of(table) * below(12);
        talk    *a = begin_with(table, more, budget), *b = begin_with(table, more, budget);
        for (uint32_t i = 0; i < CONTENT_WORDS; i++) { /* a shuffle within each block, or of all words */
            other[i]   = i;
            uint32_t k = below(i + 1);
            if (is_drawn(i) && is_drawn(k) && (any || part_of(content_words[k]) == part_of(content_words[i]))) {
                other[i] = other[k];
                other[k] = i;
            }
        }
        for (int turn = 0; turn < 3; turn++) {
            char   one[2048] = "", two[2048] = "";
            size_t count = 1 + below(24);
            for (size_t i = 0; i < count; i++) {
                uint32_t word = below(CONTENT_WORDS);
                bool     stop = below(4) == 0 || !is_drawn(word);
                snprintf(one + strlen(one), 32, "%s ", stop ? "the" : content_words[word]);
                snprintf(two + strlen(two), 32, "%s ", stop ? "the" : content_words[other[word]]);
            }
            say(a, one);
            say(b, two);
            CHECK(a->what.draws == b->what.draws && a->what.repeated == b->what.repeated &&
                  a->what.constants == b->what.constants && a->word_count == b->word_count);
            CHECK(a->what.draws * loss_of(table) <= budget);
            for (size_t i = 0; i < a->word_count; i++) {
                CHECK(a->words[i].passed == b->words[i].passed);
                CHECK(!a->words[i].passed || a->words[i].output == b->words[i].output);
            }
        }
        end(a);
        end(b);
    }
}

/* ---- sent again and again ---- */

typedef struct guesses { /* of someone who knows table, prior and blocks, from all releases of each word: the likeliest
                          */
    double score[WORDS][WORDS];
} guesses;

static void observe(guesses *g, uint32_t word, uint32_t output)
{
    const uint32_t block = cmif_table_block(parts, word), from = parts->block_at[block];
    for (uint32_t j = 0; j < parts->block_at[block + 1] - from; j++) {
        for (uint32_t i = parts->rows_at[block]; parts->outputs[from + j] == output && i < parts->rows_at[block + 1];
             i++) {
            g->score[word][parts->rows[i]] += log((double) cmif_table_weight(parts, parts->rows[i], j));
        }
    }
}

static double recovered(const guesses *g) /* of the content words; among equals one by chance */
{
    double right = 0;
    for (uint32_t w = 0; w < WORDS; w++) {
        const uint32_t block = cmif_table_block(parts, w);
        double         best = 0, alike = 0, ours = 0;
        if (cmif_table_passes(parts, w) || cmif_str_is(cmif_table_word(parts, w), "thing")) {
            continue;
        }
        for (uint32_t i = parts->rows_at[block]; i < parts->rows_at[block + 1]; i++) {
            double p = g->score[w][parts->rows[i]] + log((double) parts->prior[parts->rows[i]]);
            if (i == parts->rows_at[block] || p > best + 1e-9) {
                best  = p;
                alike = ours = 0;
            }
            alike += p > best - 1e-9;
            ours += p > best - 1e-9 && parts->rows[i] == w;
        }
        right += ours / alike;
    }
    return right / (CONTENT_WORDS - 1);
}

static void watch(const talk *t, guesses *g) /* the words of a text are all content words, in order */
{
    for (size_t i = 0, k = 0; i < t->word_count; i++) {
        k += !is_drawn(k);
        if (!t->words[i].passed) {
            observe(g, cmif_table_find(parts, (cmif_str){content_words[k], strlen(content_words[k])}),
                    t->words[i].output);
            k++;
        }
    }
}

static void what_is_sent_again_teaches_nothing(void)
{
    enum { TRIALS = 200, TIMES = 16 };
    static guesses once, same, variants, fresh;
    double         by_once = 0, by_same = 0, by_variants = 0, by_fresh = 0;
    char           prompt[1024] = "", text[2048];
    for (size_t i = 0; i < CONTENT_WORDS; i++) {
        snprintf(prompt + strlen(prompt), 32, "%s ", is_drawn(i) ? content_words[i] : "");
    }
    for (int trial = 0; trial < TRIALS; trial++) {
        talk    *t = begin("policy words", parts);
        char     first[2048];
        uint64_t draws = 0;
        once = same = variants = fresh = (guesses){0};
        for (int i = 0; i < TIMES; i++) {
            say(t, prompt);
            draws += t->what.draws;
            if (i == 0) {
                memcpy(first, t->out, t->size + 1);
                watch(t, &once);
            }
            CHECK(strcmp(t->out, first) == 0);
            watch(t, &same);
            snprintf(text, sizeof text, "%s %s", stop_words[i % (int) STOP_WORDS],
                     prompt); /* another text, the same words */
            say(t, text);
            draws += t->what.draws;
            watch(t, &variants);
            talk *other = begin("policy words", parts);
            say(other, prompt);
            watch(other, &fresh);
            end(other);
        }
        CHECK(draws == CONTENT_WORDS - 1);
        end(t);
        by_once += recovered(&once) / TRIALS;
        by_same += recovered(&same) / TRIALS;
        by_variants += recovered(&variants) / TRIALS;
        by_fresh += recovered(&fresh) / TRIALS;
    }
    printf("       words recovered: %.3f from one release, %.3f from 16 of a conversation, %.3f from 16 other texts of "
           "it, "
           "%.3f from 16 conversations\n",
           by_once, by_same, by_variants, by_fresh);
    CHECK(by_same == by_once && by_variants == by_once);
    CHECK(by_once < .40 && by_fresh > by_once + .2); /* else there is nothing to see */
}

static void six_turns_leave_as_the_same_bytes_and_count_once(void)
{
    enum { TURNS = 6 };
    static const char *const turns[TURNS] = {"Maria Lopez called my doctor",        "the bank of my mother",
                                             "hello, the child ate the apple",      "my mother called the hospital",
                                             "Ms Lopez wrote: 4111 1111 1111 1111", "the doctor called the bank"};
    static const uint64_t    draws[TURNS] = {2, 2, 4, 1, 1, 0};
    char                     left[TURNS][512];
    talk                    *t = begin("policy words", parts);
    for (int turn = 0; turn < TURNS; turn++) { /* all turns before it are sent again with each */
        for (int i = 0; i <= turn; i++) {
            say(t, turns[i]);
            CHECK(t->what.again == (i < turn) && t->what.draws == (i < turn ? 0 : draws[i]));
            CHECK(i == turn || strcmp(t->out, left[i]) == 0);
        }
        CHECK(t->size < sizeof left[turn]);
        memcpy(left[turn], t->out, t->size + 1);
    }
    end(t);
}

/* What the surrogate of an organisation or an address says of its kind, and a title. */
static bool is_kind(cmif_str word)
{
    return cmif_str_is(word, "bank") || cmif_str_is(word, "hospital") || cmif_str_is(word, "doctor") ||
           cmif_str_is(word, "street");
}

static bool is_stop(cmif_str word)
{
    for (size_t i = 0; i < STOP_WORDS; i++) {
        if (cmif_str_is(word, stop_words[i])) {
            return true;
        }
    }
    return false;
}

/* Pieces that people write, in any order and glued in any way. */
static size_t random_text(char *text, size_t room)
{
    static const char *const pieces[] = {"maria",
                                         "Lopez",
                                         "London",
                                         "Albert Einstein",
                                         "kanari@vogel.org",
                                         "zorblax",
                                         "Qwerzu",
                                         "orange",
                                         "secret",
                                         "+44 20 7946 0958",
                                         "4111 1111 1111 1111",
                                         "192.168.77.31",
                                         "wanjiru",
                                         "f\xc3\xa1tima",
                                         "\xe4\xb8\xad\xe6\x96\x87",
                                         "za\xc2\xad"
                                         "pf",
                                         "\xd0\xb0pple",
                                         "\xef\xbd\x88\xef\xbd\x8f\xef\xbd\x8d\xef\xbd\x85",
                                         "Red Cross",
                                         "Dr",
                                         "x86z",
                                         "O'Brien"};
    static const char *const glue[]   = {" ", " ", " ", " ", ", ", ". ", "\n", "", "-", "'", "_", " (", "\t", "`"};
    size_t                   size     = 0;
    uint32_t                 count    = 1 + below(30);
    for (uint32_t i = 0; i < count && size + 64 < room; i++) {
        uint32_t    kind = below(3);
        const char *one  = kind == 0   ? stop_words[below(STOP_WORDS)]
                           : kind == 1 ? content_words[below(CONTENT_WORDS)]
                                       : pieces[below(sizeof pieces / sizeof *pieces)];
        size_t      from = size;
        size += (size_t) snprintf(text + size, room - size, "%s%s", one, glue[below(sizeof glue / sizeof *glue)]);
        text[from] = (char) (below(3) == 0 && text[from] >= 'a' && text[from] <= 'z' ? text[from] - 32 : text[from]);
    }
    return size;
}

static void no_word_that_is_not_a_stop_word_survives(void)
{
    static const char *const policies[] = {"policy words\nclass count surrogate",
                                           "policy words\nclass count surrogate\nstop-words protect"};
    for (int round = 0; round < 3000 && !check_failed_here; round++) {
        char      text[4096];
        talk     *t  = begin(policies[round & 1], fixed);
        cmif_scan in = {0}, out = {0};
        for (int turn = 0; turn < 2; turn++) {
            size_t size = random_text(text, sizeof text);
            CHECK(say_bytes(t, text, size) == CMIF_OK);
            CHECK(!strstr(t->out, "1111 1111") && !strstr(t->out, "7946 0958") && !strstr(t->out, "192.168.77"));
            CHECK(cmif_scan_text(text, size, &in, NULL) == CMIF_OK &&
                  cmif_scan_text(t->out, t->size, &out, NULL) == CMIF_OK);
            for (size_t i = 0; i < in.count; i++) {
                cmif_str word = cmif_token_fold(&in, &in.tokens[i]);
                if (in.tokens[i].kind != CMIF_TOKEN_WORD || word.size < 4 || is_stop(word) || is_kind(word) ||
                    cmif_str_is(word, "thing")) {
                    continue;
                }
                bool digit = false; /* drawn digits may be the same by chance */
                for (size_t k = 0; k < word.size; k++) {
                    digit = digit || (word.data[k] >= '0' && word.data[k] <= '9');
                }
                if (digit) {
                    continue;
                }
                if (turn > 0 && cmif_vault_holds(cmif_conversation_vault(t->c), word)) {
                    continue; /* it stood for something before it was written; what_looks_like_a_surrogate_... */
                }
                for (size_t k = 0; k < out.count; k++) {
                    cmif_str other = cmif_token_fold(&out, &out.tokens[k]);
                    bool     same  = other.size == word.size && memcmp(other.data, word.data, word.size) == 0;
                    CHECK(!same);
                    if (same) {
                        fprintf(stderr, "'%.*s' of '%.*s' survives in '%s'\n", (int) word.size, word.data, (int) size,
                                text, t->out);
                    }
                }
            }
            cmif_scan_wipe(&in);
            cmif_scan_wipe(&out);
        }
        end(t);
    }
}

int main(void)
{
    lists    = rig_lists();
    fixed    = make_table(false, CMIF_ADJACENT_BLOCK);
    chance   = make_table(true, CMIF_ADJACENT_BLOCK);
    parts    = make_parts(false);
    anything = make_parts(true);
    if (!fixed || !chance || !parts || !anything) {
        return 1;
    }
    RUN(ordinary_words_pass_or_are_drawn_as_the_policy_says);
    RUN(drawn_words_take_the_casing_of_what_they_stand_for);
    RUN(an_odd_spelling_never_leaves_as_written);
    RUN(a_word_outside_table_or_vocabulary_never_passes);
    RUN(a_text_sent_again_is_the_same_bytes_and_costs_nothing);
    RUN(a_word_keeps_its_output_in_a_conversation);
    RUN(conversations_know_nothing_of_each_other);
    RUN(what_is_dropped_never_happened);
    RUN(what_is_refused_is_named_by_class_and_place_only);
    RUN(names_that_are_denied_never_leave);
    RUN(names_that_are_allowed_pass_whole_or_not_at_all);
    RUN(released_words_are_where_they_say);
    RUN(what_looks_like_a_surrogate_of_ours_never_passes);
    RUN(a_channel_that_lets_a_word_pass_lets_no_content_word_pass);
    RUN(the_answer_is_restored_through_the_vault);
    RUN(an_answer_of_another_conversation_is_not_restored);
    RUN(a_channel_that_is_needed_and_guarantees_nothing_is_refused);
    RUN(without_memory_nothing_is_released_or_counted);
    RUN(a_budget_is_spent_on_the_heaviest_words_first_and_never_exceeded);
    RUN(texts_of_one_request_share_its_budget);
    RUN(a_constant_stays_for_the_conversation_and_is_not_kept_when_dropped);
    RUN(texts_of_the_same_blocks_are_divided_alike);
    RUN(what_is_sent_again_teaches_nothing);
    RUN(six_turns_leave_as_the_same_bytes_and_count_once);
    RUN(no_word_that_is_not_a_stop_word_survives);
    cmif_table_free(parts);
    cmif_table_free(anything);
    cmif_table_free(fixed);
    cmif_table_free(chance);
    cmif_lists_free(lists);
    return check_report();
}
