#define _GNU_SOURCE /* mkdtemp, memmem */
#include "gateway/reply.h"

#include "base/check.h"
#include "sanitizer/entities_rig.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

static size_t       each_bytes, all_bytes; /* 0: as usual */
static cmif_lists  *lists;
static cmif_policy *policy;
static cmif_books   books;
static cmif_talks  *talks;
static char         folder[] = "/tmp/cmif-gateway-XXXXXX";

static void begin(uint32_t most)
{
    cmif_talks_options options = {.policy       = policy,
                                  .lists        = lists,
                                  .books        = &books,
                                  .most         = most,
                                  .idle_seconds = 60,
                                  .each_bytes   = each_bytes,
                                  .all_bytes    = all_bytes};
    CHECK(cmif_talks_new(&options, &talks, NULL) == CMIF_OK);
}

static void end(void)
{
    cmif_talks_free(talks);
    talks = NULL;
}

static uint64_t entries(void)
{
    cmif_spent spent;
    CHECK(cmif_ledger_sum(books.ledger, NULL, 0, &spent, NULL) == CMIF_OK);
    return spent.requests;
}

/* ---- one request through parse, find and release ---- */

typedef struct ask {
    cmif_request    *request;
    cmif_talk       *talk;
    cmif_tab         entry;
    cmif_talk_counts counts;
    char             body[8192];
} ask;

static cmif_code ask_for(ask *a, cmif_endpoint endpoint, const char *owner, const char *json)
{
    cmif_request_problem problem;
    cmif_err             err = {0};
    *a                       = (ask){0};
    cmif_code rc             = cmif_request_parse(endpoint, json, strlen(json), &a->request, &problem, &err);
    if (rc != CMIF_OK) {
        fprintf(stderr, "%s: %s\n", problem.param, err.text);
        return rc;
    }
    rc = cmif_talks_find(talks, owner, a->request, 1000, &a->talk, &err);
    if (rc == CMIF_OK) {
        rc = cmif_talk_release(a->talk, a->request, &a->entry, &a->counts, &err);
    }
    cmif_secret out = {0};
    if (rc == CMIF_OK) {
        rc = cmif_request_body(a->request, "m", &out, &err);
        snprintf(a->body, sizeof a->body, "%.*s", (int) out.size, (const char *) out.data);
    }
    cmif_secret_wipe(&out);
    return rc;
}

static void done(ask *a)
{
    cmif_tab_close(&a->entry);
    if (a->talk) {
        cmif_talk_end(a->talk);
    }
    cmif_request_free(a->request);
}

#define SYSTEM "{\"role\": \"system\", \"content\": \"You visit people.\"}"
#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define ASSISTANT(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define CHAT(messages) "{\"model\": \"m\", \"messages\": [" messages "]}"

/* What left in place of the first "Maria Lopez", from a body. */
static void surrogate_of(const char *body, const char *before, char out[static 64])
{
    const char *at = strstr(body, before);
    out[0]         = '\0';
    if (at) {
        at += strlen(before);
        snprintf(out, 64, "%.*s", (int) strcspn(at, ".,\""), at);
    }
}

static void history_leaves_as_it_left(void)
{
    ask  a, b;
    char first[64], text[512], *again;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " USER("I am Maria Lopez."))) == CMIF_OK);
    surrogate_of(a.body, "I am ", first);
    CHECK(*first && !strstr(a.body, "Maria") && !strstr(a.body, "Lopez"));
    CHECK(a.counts.by_class[CMIF_SPAN_PERSON][CMIF_ACTION_SURROGATE] == 1);
    snprintf(text, sizeof text, "hello %s", first); /* the answer as it came; the client sees the original */
    cmif_talk_answered(a.talk, text, strlen(text), "hello Maria Lopez", 17);

    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(SYSTEM ", " USER("I am Maria Lopez.") ", " ASSISTANT("hello Maria Lopez") ", " USER(
                      "who am I?"))) == CMIF_OK);
    CHECK(b.talk == a.talk && cmif_talks_count(talks) == 1);
    again = strstr(a.body, "\"messages\"");
    CHECK(again && strncmp(strstr(b.body, "\"messages\""), again, strlen(again) - 2) == 0); /* up to the "]}" */
    CHECK(strstr(b.body, text) && !strstr(b.body, "Maria") && !strstr(b.body, "Lopez"));
    done(&a);
    done(&b);
    end();
}

static void an_answer_that_was_changed_is_sanitized(void)
{
    ask a, b;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("I am Maria Lopez."))) == CMIF_OK);
    cmif_talk_answered(a.talk, "so it is", 8, "so it is", 8);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(USER("I am Maria Lopez.") ", " ASSISTANT("hello Wanjiru Smith") ", " USER("x"))) == CMIF_OK);
    CHECK(a.talk == b.talk && !strstr(b.body, "hello Wanjiru Smith"));
    done(&a);
    done(&b);
    end();
}

static void conversations_are_told_apart(void)
{
    ask a, b, c, d;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " USER("I am Maria Lopez."))) == CMIF_OK);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " USER("I am Maria Lopez, hi."))) == CMIF_OK);
    CHECK(ask_for(&c, CMIF_ENDPOINT_CHAT, "other", CHAT(SYSTEM ", " USER("I am Maria Lopez."))) == CMIF_OK);
    CHECK(ask_for(&d, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " USER("I am Maria Lopez."))) == CMIF_OK);
    CHECK(a.talk != b.talk && a.talk != c.talk && a.talk == d.talk && cmif_talks_count(talks) == 3);
    CHECK(strcmp(a.body, d.body) == 0); /* asked again: the same bytes */
    done(&a);
    done(&b);
    done(&c);
    done(&d);
    CHECK(ask_for(&a, CMIF_ENDPOINT_EMBEDDINGS, "local",
                  "{\"model\": \"m\", \"input\": [\"Maria Lopez\", \"people\"]}") == CMIF_OK);
    CHECK(ask_for(&b, CMIF_ENDPOINT_EMBEDDINGS, "local",
                  "{\"model\": \"m\", \"input\": [\"Maria Lopez\", \"people\"]}") == CMIF_OK);
    CHECK(ask_for(&c, CMIF_ENDPOINT_EMBEDDINGS, "local", "{\"model\": \"m\", \"input\": [\"Maria Lopez\"]}") ==
          CMIF_OK);
    CHECK(a.talk == b.talk && a.talk != c.talk && strcmp(a.body, b.body) == 0);
    done(&a);
    done(&b);
    done(&c);
    end();
}

/* What no user began is found by nothing: a conversation of its own each time. */
static void a_request_without_a_user_is_a_conversation_of_its_own(void)
{
    ask a, b;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM)) == CMIF_OK);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " ASSISTANT("I am Maria Lopez."))) == CMIF_OK);
    CHECK(a.talk != b.talk && !strstr(b.body, "Maria") && cmif_talks_count(talks) == 2);
    done(&a);
    done(&b);
    end();
}

#define TOOLS(name, key)                                                                                               \
    ", \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"" name                                          \
    "\", \"parameters\": {\"type\": \"object\", "                                                                      \
    "\"properties\": {\"" key                                                                                          \
    "\": {\"type\": \"string\", \"enum\": [\"new_house\", \"Wanjiru\"]}}, \"required\": [\"" key "\"]}}}]}"

static void names_are_words_or_made_up_and_come_back(void)
{
    ask      a, b;
    cmif_str name;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  "{\"model\": \"m\", \"messages\": [" USER("hi") "]" TOOLS("call_doctor2", "patient_wanjiru")) ==
          CMIF_OK);
    CHECK(strstr(a.body, "\"call_doctor2\"") && strstr(a.body, "\"name_1\"") && strstr(a.body, "\"new_house\""));
    CHECK(!strstr(a.body, "wanjiru") && !strstr(a.body, "Wanjiru") && cmif_talk_has_names(a.talk));
    name = cmif_talk_name(a.talk, (cmif_str){"name_1", 6});
    CHECK(cmif_str_is(name, "patient_wanjiru") || cmif_str_is(name, "Wanjiru"));
    name = cmif_talk_name(a.talk, (cmif_str){"call_doctor2", 12});
    CHECK(cmif_str_is(name, "call_doctor2"));
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local",
                  "{\"model\": \"m\", \"messages\": [" USER("hi") "]" TOOLS("name_1", "patient_wanjiru")) == CMIF_OK);
    CHECK(a.talk == b.talk && strstr(b.body, "\"name_3\"")); /* ours would be taken for another one */
    done(&a);
    done(&b);
    end();
}

/* "Hi" is how many conversations begin; what they say then stays apart. */
static void two_that_begin_alike_are_two(void)
{
    ask a, b;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " USER("hello"))) == CMIF_OK);
    cmif_talk *first = a.talk;
    cmif_talk_answered(a.talk, "hi", 2, "hi", 2);
    done(&a);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(SYSTEM ", " USER("hello") ", " ASSISTANT("hi") ", " USER("I am Maria Lopez."))) == CMIF_OK);
    CHECK(a.talk == first);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(SYSTEM ", " USER("hello"))) == CMIF_OK);
    CHECK(b.talk != first);
    cmif_talk *second = b.talk;
    done(&b);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(SYSTEM ", " USER("hello") ", " ASSISTANT("hi") ", " USER("I am Wanjiru Smith."))) == CMIF_OK);
    CHECK(b.talk == second);
    done(&b);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(SYSTEM ", " USER("hello") ", " ASSISTANT("hi") ", " USER("I am Maria Lopez.") ", " ASSISTANT(
                      "ok") ", " USER("hello"))) == CMIF_OK);
    CHECK(b.talk == first);
    done(&a);
    done(&b);
    end();
}

static bool knows(const char *owner, const char *json)
{
    cmif_request        *request = NULL;
    cmif_request_problem problem;
    CHECK(cmif_request_parse(CMIF_ENDPOINT_CHAT, json, strlen(json), &request, &problem, NULL) == CMIF_OK);
    const bool yes = cmif_talks_knows(talks, owner, request);
    cmif_request_free(request);
    return yes;
}

/* A history that comes all at once (after a restart) is known from where something of it was replaced. */
static void a_history_at_once_is_known_from_its_first_name(void)
{
#define HISTORY USER("hello") ", " ASSISTANT("hi") ", " USER("I am Maria Lopez.") ", " ASSISTANT("ok")
    ask a, b;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(HISTORY ", " USER("so?"))) == CMIF_OK);
    CHECK(knows("local", CHAT(HISTORY ", " USER("what?"))) && knows("local", CHAT(HISTORY ", " USER("so?"))));
    CHECK(knows("local", CHAT(USER("hello") ", " ASSISTANT("hi") ", " USER("I am Maria Lopez."))));
    CHECK(!knows("local", CHAT(USER("hello"))) &&
          !knows("local", CHAT(USER("hello") ", " ASSISTANT("hi") ", " USER("so?"))));
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(HISTORY ", " USER("what?"))) == CMIF_OK && b.talk == a.talk);
    done(&b);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("hello"))) == CMIF_OK && b.talk != a.talk);
    done(&a);
    done(&b);
    end();
}

/* Of talks that are closed nothing is left but by what they are known; not even the policy that they were made for. */
static void closed_talks_are_known_and_nothing_else(void)
{
    ask          a;
    cmif_policy *usual = policy;
    char         long_[2048];
    CHECK(cmif_policy_named("names", &policy, NULL) == CMIF_OK);
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(USER("hello") ", " ASSISTANT("hi") ", " USER("I am Maria Lopez."))) == CMIF_OK);
    memset(long_, 'x', sizeof long_);
    cmif_talk_answered(a.talk, long_, sizeof long_, long_, sizeof long_);
    done(&a);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("people"))) == CMIF_OK);
    done(&a);
    CHECK(cmif_talks_count(talks) == 2 && cmif_talks_bytes(talks) > sizeof long_);
    cmif_talks_close(talks);
    cmif_policy_free(policy);
    policy = usual;
    CHECK(cmif_talks_count(talks) == 1 && cmif_talks_bytes(talks) < sizeof long_);
    CHECK(knows("local", CHAT(USER("hello") ", " ASSISTANT("hi") ", " USER("I am Maria Lopez.") ", " ASSISTANT(
                             "so?") ", " USER("and?"))));
    CHECK(!knows("local", CHAT(USER("hello"))) && !knows("local", CHAT(USER("people"))));
    cmif_talks_close(talks);
    CHECK(cmif_talks_count(talks) == 1);
    cmif_talks_tick(talks, 1061);
    CHECK(cmif_talks_count(talks) == 0 && cmif_talks_bytes(talks) == 0);
    end();
}

static void names_of_tools_tell_nothing_of_anybody(void)
{
    static const char *const made[] = {"call_rose", "my mother is old", "table account", "m_a_r_k", "callWanjiru",
                                       "xu_li",     "call.diabetes",    "call_12345"};
    static const char *const kept[] = {"call_table2", "orangeHouse", "account_id"};
    ask                      a;
    char                     json[512];
    begin(8);
    for (size_t i = 0; i < sizeof made / sizeof *made + 3; i++) {
        const bool  keeps = i >= sizeof made / sizeof *made;
        const char *key   = keeps ? kept[i - sizeof made / sizeof *made] : made[i];
        snprintf(json, sizeof json,
                 "{\"model\": \"m\", \"messages\": [" USER(
                     "hi") "], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"call\", "
                           "\"parameters\": {\"properties\": {\"%s\": {}}}}}]}",
                 key);
        CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", json) == CMIF_OK);
        const bool topic = strstr(key, "diabetes") != NULL; /* under `names` topics pass as they are */
        if ((strstr(a.body, key) != NULL) != (keeps || topic)) {
            fprintf(stderr, "%s\n", key);
        }
        CHECK((strstr(a.body, key) != NULL) == (keeps || topic));
        done(&a);
    }
    end();
}

static void one_owner_does_not_push_out_another(void)
{
    ask a, b;
    begin(3);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "anna", CHAT(USER("I am Maria Lopez."))) == CMIF_OK);
    cmif_talk *hers = a.talk;
    done(&a);
    for (int i = 0; i < 9; i++) {
        char json[128];
        snprintf(json, sizeof json, CHAT(USER("visit %d")), i);
        CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "ben", json) == CMIF_OK);
        done(&b);
    }
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "anna", CHAT(USER("I am Maria Lopez."))) == CMIF_OK && a.talk == hers);
    done(&a);
    end();
}

/* Conversation n of this owner, which stays in use. */
static cmif_code talk_of(const char *owner, int n, ask *a)
{
    char json[128];
    snprintf(json, sizeof json, CHAT(USER("I am Maria Lopez, visit %d")), n);
    return ask_for(a, CMIF_ENDPOINT_CHAT, owner, json);
}

static bool keeps(const char *owner, int n)
{
    char json[128];
    snprintf(json, sizeof json, CHAT(USER("I am Maria Lopez, visit %d")), n);
    return knows(owner, json);
}

static void who_has_most_conversations_pays_first(void)
{
    ask a, b[4], c;
    begin(5);
    CHECK(talk_of("anna", 0, &a) == CMIF_OK);
    done(&a); /* hers is idle longest from here on */
    for (int i = 0; i < 4; i++) {
        CHECK(talk_of("ben", i, &b[i]) == CMIF_OK);
    }
    CHECK(talk_of("ben", 4, &a) == CMIF_E_RANGE && keeps("anna", 0)); /* all of his are in use */
    done(&a);
    done(&b[1]);
    done(&b[0]);
    CHECK(talk_of("anna", 1, &a) == CMIF_OK && keeps("anna", 0) && !keeps("ben", 1) && keeps("ben", 0));
    CHECK(talk_of("cleo", 0, &c) == CMIF_OK && keeps("anna", 0) && !keeps("ben", 0));
    CHECK(talk_of("ben", 4, &b[0]) == CMIF_E_RANGE && keeps("anna", 0)); /* he would have more than anna */
    CHECK(talk_of("dora", 0, &b[1]) == CMIF_OK && !keeps("anna", 0) && keeps("anna", 1));
    CHECK(cmif_talks_count(talks) == 5);
    done(&a);
    for (size_t i = 0; i < 4; i++) {
        done(&b[i]);
    }
    done(&c);
    cmif_talks_tick(talks, 1061); /* of nobody anything is left */
    CHECK(cmif_talks_count(talks) == 0 && cmif_talks_bytes(talks) == 0);
    end();
}

static void who_has_most_bytes_pays_first(void)
{
    enum { LONG = 120 << 10 };
    static char json[LONG + 256];
    ask         a;
    all_bytes = 1 << 20;
    begin(100000);
    for (int i = 0; i < 2; i++) {
        CHECK(talk_of("anna", i, &a) == CMIF_OK);
        done(&a);
    }
    for (int i = 0; i < 40; i++) { /* as many as there is room for, and more */
        CHECK(talk_of("ben", i, &a) == CMIF_OK);
        done(&a);
    }
    CHECK(keeps("ben", 39) && !keeps("ben", 0));
    CHECK(talk_of("cleo", 0, &a) == CMIF_OK && keeps("anna", 0) && keeps("anna", 1));
    done(&a);
    for (size_t most = LONG / 4; most <= LONG; most *= 4) { /* the longer one would be more than anybody has */
        size_t size = (size_t) sprintf(json, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"");
        while (size < most) {
            size += (size_t) sprintf(json + size, "house ");
        }
        strcpy(json + size, "\"}]}");
        CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "dora", json) == (most < LONG ? CMIF_OK : CMIF_E_MEMORY));
        CHECK(keeps("anna", 0) && keeps("anna", 1) && keeps("cleo", 0) && keeps("ben", 39));
        CHECK(!*a.body == (most == LONG));
        done(&a);
    }
    end();
    all_bytes = 0;
}

static void what_fails_is_not_entered(void)
{
    ask               a;
    cmif_policy      *strict = NULL;
    static const char text[] = "policy names\nclass email refuse\n";
    const uint64_t    before = entries();
    CHECK(cmif_policy_parse(text, sizeof text - 1, &strict, NULL) == CMIF_OK);
    cmif_policy *usual = policy;
    policy             = strict;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("hi") ", " USER("write to maria@lopez.org"))) ==
          CMIF_E_RANGE);
    CHECK(entries() == before && !*a.body);
    done(&a);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("hi"))) == CMIF_OK && entries() == before + 1);
    done(&a);
    end();
    policy = usual;
    cmif_policy_free(strict);
}

/* The disk is full when several entries are to be written: nothing may leave, and what was replaced counts later. */
static void what_did_not_get_to_the_disk_counts_with_the_next(void)
{
    const struct rlimit most = {1, RLIM_INFINITY}, any = {RLIM_INFINITY, RLIM_INFINITY};
    cmif_spent          before, after;
    ask                 a, b;
    begin(8);
    cmif_books_gather(&books);
    CHECK(cmif_ledger_sum(books.ledger, NULL, 0, &before, NULL) == CMIF_OK);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("I am Maria Lopez, of acme@example.net."))) == CMIF_OK);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("hi"))) == CMIF_OK && cmif_talk_books(a.talk) == &books);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &most) == 0 && cmif_books_settle(&books, NULL) == CMIF_E_IO);
    CHECK(setrlimit(RLIMIT_FSIZE, &any) == 0);
    cmif_talk_unsettled(a.talk, &a.entry);
    cmif_talk_unsettled(b.talk, &b.entry);
    CHECK(entries() == before.requests);
    done(&a);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("I am Maria Lopez, of acme@example.net."))) == CMIF_OK);
    CHECK(cmif_books_settle(&books, NULL) == CMIF_OK);
    CHECK(cmif_ledger_sum(books.ledger, NULL, 0, &after, NULL) == CMIF_OK && after.requests == before.requests + 1);
    CHECK(after.surrogates >= before.surrogates + 4); /* a name and an address, twice over */
    done(&a);
    done(&b);
    end();
    cmif_books_close(&books); /* what follows does not gather */
    CHECK(cmif_books_open(&books, folder, NULL, &(cmif_certificate){0}, policy, NULL) == CMIF_OK);
}

static void memory_is_bounded(void)
{
    ask a, b, c;
    begin(2);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("one"))) == CMIF_OK);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("two"))) == CMIF_OK);
    CHECK(ask_for(&c, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("three"))) == CMIF_E_RANGE);
    done(&c);
    done(&a);
    CHECK(ask_for(&c, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("three"))) == CMIF_OK && cmif_talks_count(talks) == 2);
    done(&b);
    cmif_talks_tick(talks, 1061);
    CHECK(cmif_talks_count(talks) == 1); /* what is in use stays, */
    done(&c);
    cmif_talks_tick(talks, 1121);
    CHECK(cmif_talks_count(talks) == 1); /* and is idle from its end on */
    cmif_talks_tick(talks, 1122);
    CHECK(cmif_talks_count(talks) == 0);
    end();
}

static double seconds_to_ask(ask *a, const char *json)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    CHECK(ask_for(a, CMIF_ENDPOINT_CHAT, "local", json) == CMIF_OK);
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (double) (to.tv_sec - from.tv_sec) + 1e-9 * (double) (to.tv_nsec - from.tv_nsec);
}

/* A long conversation stays under its bound, and to send it again takes time that grows with its length only. */
static void ten_thousand_turns_are_remembered(void)
{
    enum { TURNS = 10000, STEP = 2500 };
    char        *json = malloc(TURNS * 256 + 256), *first;
    size_t       size = (size_t) sprintf(json, "{\"model\": \"m\", \"messages\": [");
    double       took[2];
    ask          a, b;
    cmif_talk   *talk   = NULL;
    const size_t before = size;
    begin(8);
    for (size_t turn = 0; turn < TURNS; turn++) {
        char came[128], shown[128];
        size += (size_t) sprintf(json + size, "%s" USER("Turn %zu: has Maria Lopez-%c%c%c paid 12%05zu.50 by now?"),
                                 size > before ? ", " : "", turn, (int) ('a' + turn / 676 % 26),
                                 (int) ('a' + turn / 26 % 26), (int) ('a' + turn % 26), turn);
        if (turn % STEP == STEP - 1) {
            const size_t which = turn >= STEP;
            strcpy(json + size, "]}");
            CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", json) == CMIF_OK && (!talk || a.talk == talk));
            talk        = a.talk;
            first       = strdup(a.body);
            took[which] = 1e9;
            for (int i = 0; i < 3; i++) { /* the same again: the quickest of three */
                const double seconds = seconds_to_ask(&b, json);
                took[which]          = seconds < took[which] ? seconds : took[which];
                CHECK(b.talk == a.talk && !strcmp(b.body, first) && b.counts.draws == 0);
                done(&b);
            }
            free(first);
            done(&a);
        }
        snprintf(came, sizeof came, "Not yet, in turn %zu; %s", turn, "as it came");
        snprintf(shown, sizeof shown, "Not yet, in turn %zu; as it is shown", turn);
        if (talk) {
            cmif_talk_answered(talk, came, strlen(came), shown, strlen(shown));
        }
        size += (size_t) sprintf(json + size, ", " ASSISTANT("%s"), shown);
    }
    printf("       %d turns: %zu KiB kept; sent again in %.0f ms, a quarter of it in %.0f ms\n", TURNS,
           cmif_talks_bytes(talks) >> 10, took[1] * 1e3, took[0] * 1e3);
    CHECK(cmif_talks_bytes(talks) < 64 << 20 && took[1] < 9 * took[0]);
    end();
    free(json);
}

static void answers_leave_as_they_came_however_many_there_are(void)
{
    ask  a, b;
    char came[64], shown[64];
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("I am Maria Lopez."))) == CMIF_OK);
    for (int i = 0; i < 200; i++) {
        snprintf(came, sizeof came, "Answer %d as it came", i);
        snprintf(shown, sizeof shown, "Answer %d as it was shown", i);
        cmif_talk_answered(a.talk, came, strlen(came), shown, strlen(shown));
    }
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local",
                  CHAT(USER("I am Maria Lopez.") ", " ASSISTANT("Answer 0 as it was shown") ", " USER(
                      "and?") ", " ASSISTANT("Answer 199 as it was shown") ", " USER("so?"))) == CMIF_OK);
    CHECK(a.talk == b.talk && strstr(b.body, "Answer 0 as it came") && strstr(b.body, "Answer 199 as it came"));
    done(&a);
    done(&b);
    end();
}

/* What does not fit any more is refused and nothing of it is entered; what was there goes on. */
static void a_conversation_too_long_is_refused_aloud(void)
{
    ask      a, b;
    char     json[2048] = "", before[2048];
    uint64_t count;
    int      i;
    each_bytes = 200 << 10;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("I am Maria Lopez."))) == CMIF_OK);
    done(&a);
    for (i = 0; i < 50; i++) { /* it grows by its answers */
        snprintf(before, sizeof before, "%s", json);
        snprintf(json, sizeof json, CHAT(USER("I am Maria Lopez.") ", " USER("and now %d?")), i);
        cmif_code rc = ask_for(&a, CMIF_ENDPOINT_CHAT, "local", json);
        if (rc != CMIF_OK) {
            CHECK(rc == CMIF_E_UNSUPPORTED && i > 5 && !*a.body);
            break;
        }
        char big[16384];
        memset(big, 'x', sizeof big);
        snprintf(big, 32, "answer %d", i);
        cmif_talk_answered(a.talk, big, sizeof big, big, sizeof big);
        done(&a);
    }
    if (i == 50) {
        CHECK(!"it is refused");
        return;
    }
    CHECK(cmif_talks_bytes(talks) <= each_bytes + 65536);
    count = entries();
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", before) == CMIF_OK && b.talk == a.talk); /* what was there */
    CHECK(entries() == count + 1);
    done(&a);
    done(&b);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "local", CHAT(USER("I am Wanjiru Smith."))) == CMIF_OK); /* a new one */
    done(&b);
    end();
    each_bytes = 0;
}

/* Neither one that cannot fit, which is not even looked at, nor one that turns out not to, leaves anything behind. */
static void a_text_too_long_leaves_nothing_in_memory(void)
{
    enum { ROOM = 1 << 17 };
    static char json[ROOM + 256];
    ask         a;
    each_bytes = 256 << 10;
    for (size_t words = 1500; words <= 6000; words *= 4) {
        size_t size = (size_t) sprintf(json, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"");
        for (size_t i = 0; i < words; i++) {
            size += (size_t) sprintf(json + size, "%c%c%c%c house ", (int) ('a' + i % 26), (int) ('a' + i / 26 % 26),
                                     (int) ('a' + i / 676 % 26), 'x');
        }
        strcpy(json + size, "\"}]}");
        begin(8);
        CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local", json) == CMIF_E_UNSUPPORTED);
        const size_t while_it_was = cmif_talks_bytes(talks);
        CHECK((while_it_was > each_bytes) == (words == 1500));
        done(&a);
        CHECK(cmif_talks_bytes(talks) <= each_bytes / 2);
        end();
    }
    each_bytes = 0;
}

static void all_together_are_bounded(void)
{
    ask    a, b;
    size_t most = 0;
    all_bytes   = 1 << 20;
    begin(100000);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "anna", CHAT(USER("I am Maria Lopez."))) == CMIF_OK);
    for (int i = 0; i < 40; i++) {
        char json[256];
        snprintf(json, sizeof json, CHAT(USER("I am Wanjiru Smith, visit %d")), i);
        CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "ben", json) == CMIF_OK);
        done(&b);
        most = cmif_talks_bytes(talks) > most ? cmif_talks_bytes(talks) : most;
    }
    CHECK(most <= all_bytes + (200 << 10) && cmif_talks_count(talks) < 30 && cmif_talks_count(talks) > 2);
    CHECK(ask_for(&b, CMIF_ENDPOINT_CHAT, "anna", CHAT(USER("I am Maria Lopez."))) == CMIF_OK && b.talk == a.talk);
    done(&a);
    done(&b);
    end();
    all_bytes = 0;
}

/* ---- replies ---- */

static char   said[65536];
static size_t said_size;

static cmif_code keep(void *context, const void *bytes, size_t size, cmif_err *err)
{
    (void) context;
    if (said_size + size >= sizeof said) {
        return cmif_fail(err, CMIF_E_IO, "no room");
    }
    memcpy(said + said_size, bytes, size);
    said_size += size;
    said[said_size] = '\0';
    return CMIF_OK;
}

static cmif_reply *reply_to(ask *a)
{
    cmif_reply *reply = NULL;
    said_size         = 0;
    said[0]           = '\0';
    CHECK(cmif_reply_new(
              &(cmif_reply_options){
                  .request = a->request, .talk = a->talk, .model = "smol", .created = 7, .number = 42, .sink = keep},
              &reply, NULL) == CMIF_OK);
    return reply;
}

/* All events of a stream: their contents together, and the last chunk. */
static json_t *events(char *content, size_t room, size_t *count)
{
    json_t *last = NULL;
    content[0]   = '\0';
    *count       = 0;
    for (char *at = said; *at; at = strstr(at, "\n\n") + 2) {
        CHECK(strncmp(at, "data: ", 6) == 0 && strstr(at, "\n\n"));
        if (!strncmp(at, "data: [DONE]\n\n", 14)) {
            CHECK(at[14] == '\0');
            break;
        }
        json_t *one = json_loadb(at + 6, (size_t) (strstr(at, "\n\n") - at) - 6, JSON_REJECT_DUPLICATES, NULL);
        CHECK(one && json_object_get(one, "obfuscation") && ((size_t) (strstr(at, "\n\n") - at) - 6) % 64 == 0);
        const json_t *choice = json_array_get(json_object_get(one, "choices"), 0);
        const char   *text   = json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
        snprintf(content + strlen(content), room - strlen(content), "%s", text ? text : "");
        json_decref(last);
        last = one;
        ++*count;
    }
    return last;
}

static void a_stream_gives_originals_wherever_it_is_cut(void)
{
    for (size_t cut = 1; cut < 24; cut++) {
        ask    a;
        char   first[64], came[160], content[512];
        size_t count;
        begin(8);
        CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                      "{\"model\": \"m\", \"stream\": true, \"stream_options\": {\"include_usage\": true}, "
                      "\"messages\": [" USER("I am Maria Lopez.") "]}") == CMIF_OK);
        surrogate_of(a.body, "I am ", first);
        snprintf(came, sizeof came, "Hello %s, **%s**!", first, first);
        cmif_reply *reply = reply_to(&a);
        for (size_t at = 0; at < strlen(came); at += cut) {
            CHECK(cmif_reply_text(reply, 0, came + at, strlen(came) - at < cut ? strlen(came) - at : cut, NULL) ==
                  CMIF_OK);
        }
        CHECK(cmif_reply_finish(reply, 0, CMIF_FINISH_STOP, NULL) == CMIF_OK);
        cmif_reply_usage(reply, &(cmif_call_usage){.prompt = 10, .cached = 4, .completion = 5});
        CHECK(cmif_reply_end(reply,
                             &(cmif_reply_extension){.counts = &a.counts, .epsilon_left_day = INFINITY, .receipt = 3},
                             NULL) == CMIF_OK);
        json_t *last = events(content, sizeof content, &count);
        CHECK(strcmp(content, "Hello Maria Lopez, **Maria Lopez**!") == 0 && count >= 3);
        CHECK(json_integer_value(json_object_get(json_object_get(last, "usage"), "total_tokens")) == 15);
        CHECK(json_integer_value(json_object_get(json_object_get(last, "cmif"), "receipt")) == 3);
        CHECK(json_array_size(json_object_get(last, "choices")) == 0 &&
              strcmp(cmif_reply_type(reply), "text/event-stream") == 0);
        size_t size;
        CHECK(memmem(cmif_reply_came(reply, &size), strlen(came), first, strlen(first)) && size == strlen(came));
        json_decref(last);
        cmif_reply_free(reply);
        done(&a);
        end();
    }
}

static void a_whole_answer_has_the_shape_that_clients_expect(void)
{
    ask  a;
    char first[64], came[256];
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  "{\"model\": \"m\", \"messages\": [" USER("I am Maria Lopez.") "]" TOOLS(
                      "call", "patient_wanjiru")) == CMIF_OK);
    surrogate_of(a.body, "I am ", first);
    cmif_reply *reply = reply_to(&a);
    snprintf(came, sizeof came, "{\"name_1\": \"to %s\", \"n\": [1.5, null], \"v\": \"name_2\"}", first);
    CHECK(cmif_reply_tool(reply, 0, 0, "call", 4, came, 9, NULL) == CMIF_OK);
    CHECK(cmif_reply_tool(reply, 0, 0, "", 0, came + 9, strlen(came) - 9, NULL) == CMIF_OK);
    CHECK(cmif_reply_tool(reply, 0, 2, "late", 4, "", 0, NULL) == CMIF_E_PEER);
    CHECK(cmif_reply_finish(reply, 0, CMIF_FINISH_TOOLS, NULL) == CMIF_OK);
    CHECK(cmif_reply_end(reply, NULL, NULL) == CMIF_OK);
    json_t       *all     = json_loads(said, JSON_REJECT_DUPLICATES, NULL);
    const json_t *choice  = json_array_get(json_object_get(all, "choices"), 0),
                 *message = json_object_get(choice, "message");
    const json_t *call    = json_array_get(json_object_get(message, "tool_calls"), 0);
    const char   *inside  = json_string_value(json_object_get(json_object_get(call, "function"), "arguments"));
    CHECK(json_is_null(json_object_get(message, "content")) && json_is_null(json_object_get(all, "usage")));
    CHECK(strcmp(json_string_value(json_object_get(choice, "finish_reason")), "tool_calls") == 0);
    CHECK(strcmp(json_string_value(json_object_get(all, "object")), "chat.completion") == 0);
    json_t *arguments = json_loads(inside ? inside : "", JSON_REJECT_DUPLICATES, NULL);
    CHECK(json_object_get(arguments, "patient_wanjiru") || json_object_get(arguments, "Wanjiru"));
    CHECK(inside && strstr(inside, "to Maria Lopez") && !strstr(inside, "name_"));
    json_decref(arguments);
    json_decref(all);
    cmif_reply_free(reply);

    reply = reply_to(&a); /* what was not ended is no answer */
    CHECK(cmif_reply_text(reply, 1, "x", 1, NULL) == CMIF_OK && cmif_reply_end(reply, NULL, NULL) == CMIF_E_PEER);
    CHECK(cmif_reply_text(reply, 64, "x", 1, NULL) == CMIF_E_PEER);
    cmif_reply_free(reply);
    done(&a);
    end();
}

static void vectors_come_as_numbers_or_in_base64(void)
{
    static const char *const formats[] = {"float", "base64"};
    static const float       values[]  = {1, -2.5f};
    for (size_t i = 0; i < 2; i++) {
        ask  a;
        char json[128];
        begin(8);
        snprintf(json, sizeof json, "{\"model\": \"m\", \"input\": \"people\", \"encoding_format\": \"%s\"}",
                 formats[i]);
        CHECK(ask_for(&a, CMIF_ENDPOINT_EMBEDDINGS, "local", json) == CMIF_OK && !strstr(a.body, "stream"));
        cmif_reply *reply = reply_to(&a);
        CHECK(cmif_reply_vector(reply, 1, values, 2, NULL) == CMIF_E_PEER &&
              cmif_reply_vector(reply, 0, values, 2, NULL) == CMIF_OK);
        const size_t one = said_size; /* written as it comes: all of them in memory are ten times as large */
        CHECK(one > 0 && cmif_reply_vector(reply, 1, values, 2, NULL) == CMIF_OK && said_size > one);
        cmif_reply_usage(reply, &(cmif_call_usage){.prompt = 10});
        CHECK(cmif_reply_end(reply,
                             &(cmif_reply_extension){.counts = &a.counts, .epsilon_left_day = INFINITY, .receipt = 3},
                             NULL) == CMIF_OK);
        json_t *all = json_loads(said, JSON_REJECT_DUPLICATES, NULL);
        CHECK(json_array_size(json_object_get(all, "data")) == 2 &&
              json_integer_value(json_object_get(json_array_get(json_object_get(all, "data"), 1), "index")) == 1);
        CHECK(json_integer_value(json_object_get(json_object_get(all, "usage"), "prompt_tokens")) == 10 &&
              json_integer_value(json_object_get(json_object_get(all, "cmif"), "receipt")) == 3 &&
              strcmp(json_string_value(json_object_get(all, "object")), "list") == 0 &&
              strcmp(json_string_value(json_object_get(all, "model")), "smol") == 0);
        const json_t *v = json_object_get(json_array_get(json_object_get(all, "data"), 0), "embedding");
        CHECK(i ? json_is_string(v) && strcmp(json_string_value(v), "AACAPwAAIMA=") == 0
                : json_array_size(v) == 2 && json_real_value(json_array_get(v, 1)) == -2.5);
        json_decref(all);
        cmif_reply_free(reply);
        done(&a);
        end();
    }
}

/* Its first three characters or so: whole ones. */
static size_t piece(const char *text)
{
    size_t n = 3;
    while (((unsigned char) text[n] & 0xc0) == 0x80) {
        n++;
    }
    return n;
}

static void tokens_of_logprobs_make_up_the_text(void)
{
    ask  a;
    char first[64];
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  "{\"model\": \"m\", \"logprobs\": true, \"messages\": [" USER("I am Maria Lopez.") "]}") == CMIF_OK);
    surrogate_of(a.body, "I am ", first);
    cmif_reply *reply = reply_to(&a);
    CHECK(cmif_reply_text(reply, 0, first, strlen(first), NULL) == CMIF_OK &&
          cmif_reply_text(reply, 0, ". ", 2, NULL) == CMIF_OK);
    json_t *tokens = json_pack("{s:[{s:s%, s:f, s:[i]}, {s:s, s:f}, {s:s, s:f}]}", "content", "token", first,
                               piece(first), "logprob", -0.1, "bytes", 65, "token", first + piece(first), "logprob",
                               -0.2, "token", ". ", "logprob", -0.3);
    CHECK(cmif_reply_logprobs(reply, 0, tokens, NULL) == CMIF_OK &&
          cmif_reply_finish(reply, 0, CMIF_FINISH_STOP, NULL) == CMIF_OK);
    json_decref(tokens);
    CHECK(cmif_reply_end(reply, NULL, NULL) == CMIF_OK);
    json_t       *all = json_loads(said, 0, NULL);
    const json_t *list =
        json_object_get(json_object_get(json_array_get(json_object_get(all, "choices"), 0), "logprobs"), "content");
    char text[256] = "";
    for (size_t i = 0; i < json_array_size(list); i++) {
        strcat(text, json_string_value(json_object_get(json_array_get(list, i), "token")));
        CHECK(json_is_null(json_object_get(json_array_get(list, i), "bytes")));
    }
    CHECK(strcmp(text, "Maria Lopez. ") == 0 && json_array_size(list) == 3);
    json_decref(all);
    cmif_reply_free(reply);
    done(&a);
    end();
}

/* Also where the answer ends with a name: what its last token holds is said with it. */
static void tokens_of_a_stream_make_up_the_text(void)
{
    ask    a;
    char   first[64], content[512], text[256] = "";
    size_t count, tokens = 0;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  "{\"model\": \"m\", \"logprobs\": true, \"stream\": true, \"messages\": [" USER(
                      "I am Maria Lopez.") "]}") == CMIF_OK);
    surrogate_of(a.body, "I am ", first);
    cmif_reply *reply    = reply_to(&a);
    const char *pieces[] = {"To ", first, first + piece(first)};
    for (size_t i = 0; i < 3; i++) {
        const size_t size = i == 1 ? piece(first) : strlen(pieces[i]);
        json_t      *one  = json_pack("{s:[{s:s%, s:f}]}", "content", "token", pieces[i], size, "logprob", -0.1);
        CHECK(cmif_reply_text(reply, 0, pieces[i], size, NULL) == CMIF_OK &&
              cmif_reply_logprobs(reply, 0, one, NULL) == CMIF_OK);
        json_decref(one);
    }
    CHECK(cmif_reply_finish(reply, 0, CMIF_FINISH_STOP, NULL) == CMIF_OK &&
          cmif_reply_end(reply, NULL, NULL) == CMIF_OK);
    for (const char *at = said; (at = strstr(at, "data: {")); at++) {
        json_t       *all = json_loadb(at + 6, (size_t) (strstr(at, "\n\n") - at) - 6, 0, NULL);
        const json_t *list =
            json_object_get(json_object_get(json_array_get(json_object_get(all, "choices"), 0), "logprobs"), "content");
        for (size_t i = 0; i < json_array_size(list); i++, tokens++) {
            strcat(text, json_string_value(json_object_get(json_array_get(list, i), "token")));
        }
        json_decref(all);
    }
    json_decref(events(content, sizeof content, &count));
    CHECK(strcmp(text, "To Maria Lopez") == 0 && strcmp(content, text) == 0 && tokens == 3);
    cmif_reply_free(reply);
    done(&a);
    end();
}

/* Completions have lists side by side; and a name at the very end is held back until the end. */
static void tokens_of_a_completion_make_up_the_text(void)
{
    ask  a;
    char first[64];
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_COMPLETIONS, "local",
                  "{\"model\": \"m\", \"logprobs\": 1, \"prompt\": \"I am Maria Lopez.\"}") == CMIF_OK);
    surrogate_of(a.body, "I am ", first);
    cmif_reply *reply = reply_to(&a);
    CHECK(cmif_reply_text(reply, 0, "To ", 3, NULL) == CMIF_OK &&
          cmif_reply_text(reply, 0, first, strlen(first), NULL) == CMIF_OK);
    for (int i = 0; i < 2; i++) { /* in two events */
        json_t *tokens =
            i ? json_pack("{s:[s%, s], s:[f, f], s:[i, i]}", "tokens", first, piece(first), first + piece(first),
                          "token_logprobs", -0.2, -0.3, "text_offset", 20, 23)
              : json_pack("{s:[s], s:[f], s:[i]}", "tokens", "To ", "token_logprobs", -0.1, "text_offset", 17);
        CHECK(cmif_reply_logprobs(reply, 0, tokens, NULL) == CMIF_OK);
        json_decref(tokens);
    }
    CHECK(cmif_reply_finish(reply, 0, CMIF_FINISH_STOP, NULL) == CMIF_OK &&
          cmif_reply_end(reply, NULL, NULL) == CMIF_OK);
    json_t       *all      = json_loads(said, 0, NULL);
    const json_t *choice   = json_array_get(json_object_get(all, "choices"), 0),
                 *logprobs = json_object_get(choice, "logprobs"), *list = json_object_get(logprobs, "tokens"),
                 *places = json_object_get(logprobs, "text_offset");
    char text[256]       = "";
    for (size_t i = 0; i < json_array_size(list); i++) {
        CHECK(json_integer_value(json_array_get(places, i)) == 17 + (json_int_t) strlen(text));
        strcat(text, json_string_value(json_array_get(list, i)));
    }
    CHECK(strcmp(text, "To Maria Lopez") == 0 && !strcmp(json_string_value(json_object_get(choice, "text")), text));
    CHECK(json_array_size(list) == 3 && json_array_size(json_object_get(logprobs, "token_logprobs")) == 3);
    json_decref(all);
    cmif_reply_free(reply);
    done(&a);
    end();
}

static void an_error_is_an_error_object(void)
{
    ask a;
    begin(8);
    CHECK(ask_for(&a, CMIF_ENDPOINT_CHAT, "local",
                  "{\"model\": \"m\", \"stream\": true, \"messages\": [" USER("hi") "]}") == CMIF_OK);
    cmif_reply *reply = reply_to(&a);
    CHECK(cmif_reply_ping(reply, NULL) == CMIF_OK && strcmp(said, ": ping\n\n") == 0);
    CHECK(cmif_reply_fail(reply, "server_error", "upstream_unavailable", "it \"broke\"", NULL) == CMIF_OK);
    CHECK(strstr(said,
                 "data: {\"error\":{\"message\":\"it "
                 "\\\"broke\\\"\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_unavailable\"}}\n\n"));
    cmif_reply_free(reply);
    done(&a);
    end();
}

int main(void)
{
    char command[64];
    lists = rig_lists();
    if (!mkdtemp(folder) || cmif_policy_named("names", &policy, NULL) != CMIF_OK ||
        cmif_books_open(&books, folder, NULL, &(cmif_certificate){0}, policy, NULL) != CMIF_OK) {
        return 1;
    }
    RUN(history_leaves_as_it_left);
    RUN(an_answer_that_was_changed_is_sanitized);
    RUN(conversations_are_told_apart);
    RUN(a_request_without_a_user_is_a_conversation_of_its_own);
    RUN(names_are_words_or_made_up_and_come_back);
    RUN(two_that_begin_alike_are_two);
    RUN(a_history_at_once_is_known_from_its_first_name);
    RUN(closed_talks_are_known_and_nothing_else);
    RUN(names_of_tools_tell_nothing_of_anybody);
    RUN(one_owner_does_not_push_out_another);
    RUN(who_has_most_conversations_pays_first);
    RUN(who_has_most_bytes_pays_first);
    RUN(what_fails_is_not_entered);
    RUN(what_did_not_get_to_the_disk_counts_with_the_next);
    RUN(memory_is_bounded);
    RUN(ten_thousand_turns_are_remembered);
    RUN(answers_leave_as_they_came_however_many_there_are);
    RUN(a_conversation_too_long_is_refused_aloud);
    RUN(a_text_too_long_leaves_nothing_in_memory);
    RUN(all_together_are_bounded);
    RUN(a_stream_gives_originals_wherever_it_is_cut);
    RUN(a_whole_answer_has_the_shape_that_clients_expect);
    RUN(vectors_come_as_numbers_or_in_base64);
    RUN(tokens_of_logprobs_make_up_the_text);
    RUN(tokens_of_a_stream_make_up_the_text);
    RUN(tokens_of_a_completion_make_up_the_text);
    RUN(an_error_is_an_error_object);
    cmif_books_close(&books);
    cmif_policy_free(policy);
    cmif_lists_free(lists);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || check_report();
}
