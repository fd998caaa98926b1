#include "sanitizer/policy.h"

#include "base/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cmif_policy *parse(const char *text)
{
    cmif_err     err = {0};
    cmif_policy *p   = NULL;
    if (cmif_policy_parse(text, strlen(text), &p, &err) != CMIF_OK) {
        fprintf(stderr, "'%s': %s\n", text, err.text);
    }
    return p;
}

static void each_policy_does_by_default_what_the_table_says(void)
{
    for (int which = 0; which < 3; which++) {
        static const char *const names[] = {"names", "topics", "words"};
        cmif_policy             *p       = NULL;
        CHECK(cmif_policy_named(names[which], &p, NULL) == CMIF_OK);
        if (!p) {
            return;
        }
        CHECK(strcmp(p->base, names[which]) == 0);
        for (int class = 0; class < CMIF_SPAN_CLASSES; class ++) {
            cmif_action expected = CMIF_ACTION_SURROGATE;
            if (class == CMIF_SPAN_OTHER || class == CMIF_SPAN_STOP || class == CMIF_SPAN_COUNT_NUMBER) {
                expected = CMIF_ACTION_PASS;
            } else if (class == CMIF_SPAN_WORD) {
                expected = which == 2 ? CMIF_ACTION_CHANNEL : CMIF_ACTION_PASS;
            } else if (class == CMIF_SPAN_TOPIC) {
                expected = which >= 1 ? CMIF_ACTION_CHANNEL : CMIF_ACTION_PASS;
            }
            CHECK(p->actions[class] == expected);
        }
        CHECK(isinf(p->budget_request) && isinf(p->budget_day) && isinf(p->budget_key));
        CHECK(p->weights[0] == 1 && p->weights[8] == 1 && !p->allow_count && !p->deny_count);
        cmif_policy_free(p);
    }
}

static void other_names_are_no_policies(void)
{
    cmif_policy *p   = NULL;
    cmif_err     err = {0};
    CHECK(cmif_policy_named("everything", &p, &err) == CMIF_E_RANGE && !p);
    CHECK(strstr(err.text, "names, topics or words"));
    CHECK(cmif_policy_named("", &p, NULL) == CMIF_E_RANGE && !p);
    cmif_policy_free(NULL);
}

static const char full[] = "# mine\r\n\n"
                           "policy topics # comment\n"
                           "stop-words protect\n"
                           "\tclass person refuse\n"
                           "class number pass\n"
                           "class word channel\n"
                           "allow \"Acme  Inc.\"\n"
                           "deny \"Project HALCYON\"\n"
                           "deny \"L\xc3\xb3pez # \xef\xbc\xa1\" person # said so\n"
                           "budget request 50\nbudget day 0.000001\nbudget key 123456789.5\n"
                           "weight health 0.5";

static void everything_that_can_be_said_is_understood(void)
{
    cmif_policy *p = parse(full);
    CHECK(p);
    if (!p) {
        return;
    }
    CHECK(p->actions[CMIF_SPAN_STOP] == CMIF_ACTION_CHANNEL && p->actions[CMIF_SPAN_PERSON] == CMIF_ACTION_REFUSE);
    CHECK(p->actions[CMIF_SPAN_NUMBER] == CMIF_ACTION_PASS && p->actions[CMIF_SPAN_WORD] == CMIF_ACTION_CHANNEL);
    CHECK(p->allow_count == 1 && strcmp(p->allow[0].text, "acme inc") == 0);
    CHECK(p->deny_count == 2 && strcmp(p->deny[0].text, "l\xc3\xb3pez a") == 0 && p->deny[0].class == CMIF_SPAN_PERSON);
    CHECK(strcmp(p->deny[1].text, "project halcyon") == 0 && p->deny[1].class == CMIF_SPAN_ORGANISATION);
    CHECK(p->budget_request == 50 && p->budget_day == 0.000001 && p->budget_key == 123456789.5);
    CHECK(p->weights[0] == 0.5 && p->weights[1] == 1);
    cmif_policy_free(p);
}

static void the_canonical_text_is_the_same_policy(void)
{
    static const char *const texts[] = {
        full,
        "policy names",
        "policy words\nclass stop surrogate",
        "policy words\nclass stop refuse\nclass word refuse\nclass unknown refuse",
        "policy topics\nbudget request 0\nbudget day 0.1\nweight family 999999999.999999",
        "policy topics\ndeny \"b\"\ndeny \"a\" unknown\nallow \"O\xe2\x80\x99Neil's\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cmif_policy *p    = parse(texts[i]);
        char        *text = p ? cmif_policy_text(p) : NULL;
        cmif_policy *q    = text ? parse(text) : NULL;
        char        *more = q ? cmif_policy_text(q) : NULL;
        CHECK(more && strcmp(text, more) == 0 && memcmp(p->hash, q->hash, 32) == 0);
        CHECK(q && memcmp(p->actions, q->actions, sizeof p->actions) == 0 && p->budget_day == q->budget_day &&
              memcmp(p->weights, q->weights, sizeof p->weights) == 0);
        free(more);
        free(text);
        cmif_policy_free(q);
        cmif_policy_free(p);
    }
}

static void the_hash_knows_every_line_but_not_their_order(void)
{
    cmif_policy *a = parse("policy names\ndeny \"x\"\nclass url pass"),
                *b = parse("policy names\nclass url pass\ndeny \"X\"");
    cmif_policy *c = parse("policy names\ndeny \"x\" person\nclass url pass"),
                *d = parse("policy names\nclass url pass");
    CHECK(a && b && c && d && memcmp(a->hash, b->hash, 32) == 0);
    CHECK(a && c && d && memcmp(a->hash, c->hash, 32) != 0 && memcmp(a->hash, d->hash, 32) != 0);
    cmif_policy_free(a);
    cmif_policy_free(b);
    cmif_policy_free(c);
    cmif_policy_free(d);
}

static void what_is_wrong_is_named_by_its_line(void)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"", "line 1: expected 'policy names'"},
        {"# nothing\n\n", "line 2: expected 'policy names'"},
        {"class person pass\npolicy names", "line 1: expected 'policy names'"},
        {"policy names\npolicy names", "line 2: policy was given before"},
        {"policy canary", "line 1: expected names, topics or words"},
        {"policy", "line 1: expected names, topics or words"},
        {"policy names\n\ncanary 1", "line 3: expected policy, stop-words, class, allow, deny, budget or weight"},
        {"policy names\nclass canary pass", "line 2: expected the name of a class"},
        {"policy names\nclass", "line 2: expected the name of a class"},
        {"policy names\nclass other refuse", "line 2: white space"},
        {"policy names\nclass person canary", "line 2: expected surrogate, channel, pass or refuse"},
        {"policy names\nclass person", "line 2: expected surrogate"},
        {"policy names\nclass person pass\nclass person pass", "line 3: this class was given before"},
        {"policy names\nstop-words pass\nclass stop pass", "line 3: this class was given before"},
        {"policy names\nstop-words pass\nstop-words pass", "line 3: this class was given before"},
        {"policy names\nstop-words canary", "line 2: expected pass or protect"},
        {"policy names\nclass unknown pass", "line 2: unknown words never pass"},
        {"policy names\nclass unknown channel", "line 2: only the classes stop, word and topic"},
        {"policy names\nclass email channel", "line 2: only the classes stop, word and topic"},
        {"policy names\nclass person pass canary", "line 2: expected the end of the line"},
        {"policy names canary", "line 1: expected the end of the line"},
        {"policy names\nstop-words pass canary", "line 2: expected the end of the line"},
        {"policy names\nallow canary", "line 2: expected a name between"},
        {"policy names\nallow", "line 2: expected a name of words"},
        {"policy names\nallow \"canary", "line 2: a \" without"},
        {"policy names\nallow \"\"", "line 2: expected a name of words"},
        {"policy names\nallow \" - \"", "line 2: expected a name of words"},
        {"policy names\nallow \"canary\xff\"", "line 2: expected a name of words"},
        {"policy names\nallow \"canary\" person", "line 2: expected the end of the line"},
        {"policy names\ndeny \"canary\" person x", "line 2: expected the end of the line"},
        {"policy names\ndeny \"canary\" email", "line 2: what is denied is"},
        {"policy names\ndeny \"canary\" \"x\"", "line 2: found a \""},
        {"policy names\ndeny \"canary\"\ndeny \"CANARY\" person", "line 3: this name was allowed or denied before"},
        {"policy names\nallow \"canary\"\ndeny \"canary\"", "line 3: this name was allowed or denied before"},
        {"policy names\nbudget canary 1", "line 2: expected request, day or key"},
        {"policy names\nbudget day 1\nbudget day 1", "line 3: this budget was given before"},
        {"policy names\nbudget day", "line 2: expected a number"},
        {"policy names\nbudget day -1", "line 2: expected a number"},
        {"policy names\nbudget day 1e3", "line 2: expected a number"},
        {"policy names\nbudget day inf", "line 2: expected a number"},
        {"policy names\nbudget day .5", "line 2: expected a number"},
        {"policy names\nbudget day 5.", "line 2: expected a number"},
        {"policy names\nbudget day 1.2.3", "line 2: expected a number"},
        {"policy names\nbudget day 1234567890", "line 2: expected a number"},
        {"policy names\nbudget day 0.1234567", "line 2: expected a number"},
        {"policy names\nbudget day 1 canary", "line 2: expected the end of the line"},
        {"policy names\nweight canary 1", "line 2: expected a topic"},
        {"policy names\nweight law 0", "line 2: expected a number above 0"},
        {"policy names\nweight law 1\nweight law 2", "line 3: this weight was given before"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cmif_err     err = {0};
        cmif_policy *p   = NULL;
        cmif_code    rc  = cmif_policy_parse(cases[i].text, strlen(cases[i].text), &p, &err);
        CHECK(rc == CMIF_E_FORMAT && !p);
        CHECK(strstr(err.text, cases[i].said) == err.text && !strstr(err.text, "canary"));
        if (strstr(err.text, cases[i].said) != err.text) {
            fprintf(stderr, "'%s' said '%s', not '%s'\n", cases[i].text, err.text, cases[i].said);
        }
        cmif_policy_free(p);
    }
}

static void a_zero_byte_is_text_like_any_other(void)
{
    static const char text[] = "policy names\0";
    cmif_policy      *p      = NULL;
    CHECK(cmif_policy_parse(text, sizeof text - 1, &p, NULL) == CMIF_E_FORMAT && !p);
}

static void a_policy_cannot_be_endless(void)
{
    size_t       size = (1 << 20) + 1;
    char        *text = malloc(size);
    cmif_policy *p    = NULL;
    memset(text, '\n', size);
    memcpy(text, "policy names", 12);
    CHECK(cmif_policy_parse(text, size, &p, NULL) == CMIF_E_FORMAT && !p);
    CHECK(cmif_policy_parse(text, size - 1, &p, NULL) == CMIF_OK);
    cmif_policy_free(p);
    p = NULL;
    memset(text, 'a', size);
    memcpy(text, "policy names\nallow \"", 20);
    text[20 + 255] = '"';
    text[20 + 256] = '\n';
    CHECK(cmif_policy_parse(text, 20 + 256, &p, NULL) == CMIF_OK);
    cmif_policy_free(p);
    p              = NULL;
    text[20 + 255] = 'a';
    text[20 + 256] = '"';
    CHECK(cmif_policy_parse(text, 20 + 257, &p, NULL) == CMIF_E_FORMAT && !p);
    free(text);
}

static void files_are_read_whole_and_named_in_errors(void)
{
    char         path[] = "/tmp/cmif-policy-XXXXXX";
    cmif_policy *p      = NULL;
    cmif_err     err    = {0};
    int          fd     = mkstemp(path);
    CHECK(fd >= 0 && write(fd, full, sizeof full - 1) == (ssize_t) sizeof full - 1);
    CHECK(cmif_policy_open(path, &p, NULL) == CMIF_OK && p && p->deny_count == 2);
    cmif_policy_free(p);
    p = NULL;
    CHECK(write(fd, "\nx", 2) == 2);
    CHECK(cmif_policy_open(path, &p, &err) == CMIF_E_FORMAT && !p && strstr(err.text, path));
    close(fd);
    unlink(path);
    CHECK(cmif_policy_open(path, &p, &err) == CMIF_E_IO && !p && strstr(err.text, path));
}

static void tightening_is_a_partial_order(void)
{
    static const char *const texts[] = {"policy names",
                                        "policy topics",
                                        "policy words",
                                        "policy words\nstop-words protect",
                                        "policy names\nclass url pass",
                                        "policy names\nclass person refuse",
                                        "policy names\nallow \"a\"",
                                        "policy names\nallow \"a\"\nallow \"b\"",
                                        "policy names\ndeny \"a\"",
                                        "policy names\ndeny \"a\" person",
                                        "policy names\ndeny \"a\"\ndeny \"b\"",
                                        "policy names\nbudget day 5",
                                        "policy names\nbudget day 4",
                                        "policy names\nbudget key 4",
                                        "policy topics\nbudget day 4",
                                        "policy names\nweight law 0.5",
                                        "policy names\nweight law 2"};
    enum { COUNT = sizeof texts / sizeof *texts };
    cmif_policy *p[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        p[i] = parse(texts[i]);
        CHECK(p[i]);
    }
    for (size_t a = 0; a < COUNT; a++) {
        CHECK(cmif_policy_tightens(p[a], p[a]));
        for (size_t b = 0; b < COUNT; b++) {
            CHECK(a == b || !cmif_policy_tightens(p[a], p[b]) || !cmif_policy_tightens(p[b], p[a]));
            for (size_t c = 0; c < COUNT; c++) {
                CHECK(!cmif_policy_tightens(p[a], p[b]) || !cmif_policy_tightens(p[b], p[c]) ||
                      cmif_policy_tightens(p[a], p[c]));
            }
        }
    }
    static const struct {
        uint8_t a, b;
        bool    tightens;
    } pairs[] = {{0, 1, true},   {1, 0, false},  {1, 2, true},    {0, 3, true},    {2, 3, true},   {4, 0, true},
                 {0, 4, false},  {0, 5, true},   {5, 0, false},   {6, 0, true},    {0, 6, false},  {7, 6, true},
                 {6, 7, false},  {0, 8, true},   {8, 0, false},   {8, 9, false},   {8, 10, true},  {10, 8, false},
                 {0, 11, true},  {11, 12, true}, {12, 11, false}, {12, 13, false}, {11, 0, false}, {13, 12, false},
                 {11, 14, true}, {0, 15, false}, {15, 0, false},  {16, 15, false}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        CHECK(cmif_policy_tightens(p[pairs[i].a], p[pairs[i].b]) == pairs[i].tightens);
    }
    for (size_t i = 0; i < COUNT; i++) {
        cmif_policy_free(p[i]);
    }
}

static void note(void *context, const char *what, const char *name)
{
    char *text = context;
    snprintf(text + strlen(text), 256 - strlen(text), "%s %s;", what, name);
}

static void what_is_loosened_is_named(void)
{
    char         text[256] = "";
    cmif_policy *a         = parse("policy topics\ndeny \"Halcyon\"\nbudget day 3");
    cmif_policy *b =
        parse("policy topics\nclass person pass\nclass date refuse\nallow \"Acme\"\nweight law 2\nbudget day 4");
    CHECK(a && b);
    if (a && b) {
        CHECK(cmif_policy_loosens(a, b, note, text) == 5);
        CHECK(strcmp(text, "class person;allow acme;deny halcyon;budget day;weight law;") == 0);
        CHECK(cmif_policy_loosens(a, a, note, text) == 0);
    }
    cmif_policy_free(a);
    cmif_policy_free(b);
}

static void stop_words_by_option_are_stop_words_by_file(void)
{
    cmif_policy *option = parse("policy topics"), *file = parse("policy topics\nstop-words protect");
    CHECK(option && file && memcmp(option->hash, file->hash, 32) != 0);
    CHECK(option && file && cmif_policy_stop_words(option, CMIF_ACTION_CHANNEL, NULL) == CMIF_OK &&
          memcmp(option->hash, file->hash, 32) == 0 && cmif_policy_tightens(option, file) &&
          cmif_policy_tightens(file, option));
    cmif_policy_free(option);
    cmif_policy_free(file);
}

int main(void)
{
    RUN(what_is_loosened_is_named);
    RUN(stop_words_by_option_are_stop_words_by_file);
    RUN(each_policy_does_by_default_what_the_table_says);
    RUN(other_names_are_no_policies);
    RUN(everything_that_can_be_said_is_understood);
    RUN(the_canonical_text_is_the_same_policy);
    RUN(the_hash_knows_every_line_but_not_their_order);
    RUN(what_is_wrong_is_named_by_its_line);
    RUN(a_zero_byte_is_text_like_any_other);
    RUN(a_policy_cannot_be_endless);
    RUN(files_are_read_whole_and_named_in_errors);
    RUN(tightening_is_a_partial_order);
    return check_report();
}
