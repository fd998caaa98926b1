/* Does what was replaced come back, whatever a model does with it? Every case goes through the gateway's own reply:
 * each surrogate in each guise, whole and streamed, as text, JSON and a tool's arguments, cut at every byte; and what
 * only looks like one, which must stay. At least 99 of 100 come back, and nothing comes back that was not meant. */
#define _GNU_SOURCE /* mkdtemp, strcasestr */
#include "gateway/reply.h"

#include "base/check.h"
#include "sanitizer/entities_rig.h"

#include <ctype.h>

enum { TEXT = 4096, PAIRS = 24 };

static cmif_lists  *lists;
static cmif_policy *policy;
static cmif_books   books;
static cmif_talks  *talks;
static char         folder[] = "/tmp/cmif-gateway-XXXXXX";

static struct talk_of {
    cmif_request *request;
    cmif_talk    *talk;
    cmif_tab      entry;
} ours, schema, other; /* other: somebody else's conversation */

static struct pair {
    char original[128], surrogate[128], class[16];
} pairs[PAIRS], others[PAIRS];
static size_t pair_count, other_count;

static size_t meant, restored, stayed, touched;

/* ---- conversations ---- */

#define SAID                                                                                                           \
    "I am Maria Lopez. Jonathan Abernathy-Smith called. Write to maria.lopez@acme-clinic.org or to "                   \
    "j.abernathy@northwind.example.net. Ring +49 30 5550817 or +1 212 555 0188. The card is 4539 1488 0343 6467, "     \
    "the IBAN DE89 3704 0044 0532 0130 00. She was born on 14 March 1987. Zo\u00eb M\u00fcller knows. See "            \
    "https://acme-clinic.org/maria/files from 192.168.17.4."

static cmif_code ask_for(struct talk_of *t, const char *owner, const char *text, bool whole_json)
{
    char                 json[TEXT];
    cmif_request_problem problem;
    cmif_talk_counts     counts;
    cmif_err             err = {0};
    snprintf(json, sizeof json, "{\"model\": \"m\", %s\"messages\": [{\"role\": \"user\", \"content\": \"%s\"}]}",
             whole_json ? "\"response_format\": {\"type\": \"json_object\"}, " : "", text);
    cmif_code rc = cmif_request_parse(CMIF_ENDPOINT_CHAT, json, strlen(json), &t->request, &problem, &err);
    if (rc == CMIF_OK) {
        t->request->show = true;
        rc               = cmif_talks_find(talks, owner, t->request, 1000, &t->talk, &err);
    }
    rc = rc == CMIF_OK ? cmif_talk_release(t->talk, t->request, &t->entry, &counts, &err) : rc;
    if (rc != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
    }
    return rc;
}

/* Which bytes left for which: as the person's own page is told. */
static size_t read_pairs(const struct talk_of *t, const char *text, struct pair *out)
{
    const json_t *message = json_array_get(t->request->left, 0), *span;
    const char   *left    = json_string_value(json_object_get(message, "text"));
    size_t        i, n = 0;
    json_array_foreach(json_object_get(message, "spans"), i, span)
    {
        json_int_t at[6] = {0};
        for (size_t k = 0; k < 6; k++) {
            at[k] = json_integer_value(json_array_get(span, k));
        }
        if (n < PAIRS && !strcmp(json_string_value(json_array_get(span, 3)), "surrogate")) {
            snprintf(out[n].surrogate, sizeof out[n].surrogate, "%.*s", (int) at[1], left + at[0]);
            snprintf(out[n].original, sizeof out[n].original, "%.*s", (int) at[5], text + at[4]);
            snprintf(out[n].class, sizeof out[n].class, "%s", json_string_value(json_array_get(span, 2)));
            n++;
        }
    }
    return n;
}

static void end_talk(struct talk_of *t)
{
    cmif_tab_close(&t->entry);
    cmif_talk_end(t->talk);
    cmif_request_free(t->request);
}

/* ---- one answer through the reply ---- */

static char   said[1 << 16];
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

typedef enum way { WHOLE, STREAM, TOOL, WAYS } way;

static const char *text_in(const json_t *choice, const char *where, way how)
{
    const json_t *part = json_object_get(choice, where);
    if (how == TOOL) {
        const json_t *call = json_array_get(json_object_get(part, "tool_calls"), 0);
        return json_string_value(json_object_get(json_object_get(call, "function"), "arguments"));
    }
    return json_string_value(json_object_get(part, "content"));
}

/* What a client sees of an answer that comes in two pieces, the first of `cut` bytes. */
static void show(const struct talk_of *t, const char *came, size_t cut, way how, char out[static TEXT])
{
    cmif_reply *reply  = NULL;
    t->request->stream = how == STREAM;
    said_size          = 0;
    out[0] = said[0]               = '\0';
    const cmif_reply_options about = {
        .request = t->request, .talk = t->talk, .model = "smol", .number = 1, .sink = keep};
    const size_t size = strlen(came), first = cut < size ? cut : size;
    bool         good = cmif_reply_new(&about, &reply, NULL) == CMIF_OK;
    if (how == TOOL) {
        good = good && cmif_reply_tool(reply, 0, 0, "f", 1, came, first, NULL) == CMIF_OK &&
               cmif_reply_tool(reply, 0, 0, "", 0, came + first, size - first, NULL) == CMIF_OK;
    } else {
        good = good && cmif_reply_text(reply, 0, came, first, NULL) == CMIF_OK &&
               cmif_reply_text(reply, 0, came + first, size - first, NULL) == CMIF_OK;
    }
    good = good && cmif_reply_finish(reply, 0, CMIF_FINISH_STOP, NULL) == CMIF_OK &&
           cmif_reply_end(reply, NULL, NULL) == CMIF_OK;
    CHECK(good);
    for (const char *at = said; good && *at;) {
        const char  *end  = how == STREAM ? strstr(at, "\n\n") : said + said_size;
        const size_t skip = how == STREAM ? 6 : 0;
        json_t      *one  = json_loadb(at + skip, (size_t) (end - at) - skip, JSON_REJECT_DUPLICATES, NULL);
        const char  *piece =
            text_in(json_array_get(json_object_get(one, "choices"), 0), how == STREAM ? "delta" : "message", how);
        snprintf(out + strlen(out), TEXT - strlen(out), "%s", piece ? piece : "");
        json_decref(one);
        at = how == STREAM ? end + 2 : end;
    }
    cmif_reply_free(reply);
}

/* ---- cases ---- */

static void should_be(const char *found, const char *right, const char *came)
{
    meant++;
    restored += !strcmp(found, right);
    if (strcmp(found, right) != 0) {
        fprintf(stderr, "came  %s\nfound %s\nright %s\n", came, found, right);
    }
    for (size_t i = 0; i < pair_count; i++) { /* and no original but those that were meant */
        if (strstr(found, pairs[i].original) && !strstr(right, pairs[i].original)) {
            touched++;
        }
    }
}

static void should_stay(const struct talk_of *t, const char *came)
{
    char found[TEXT];
    for (way how = WHOLE; how <= STREAM; how++) {
        show(t, came, strlen(came) / 2, how, found);
        stayed++;
        if (strcmp(found, came) != 0) {
            touched++;
            fprintf(stderr, "came  %s\nfound %s\n", came, found);
        }
    }
}

static void cased(const char *text, int (*to)(int), char out[static 128])
{
    size_t i = 0;
    for (; text[i] && i < 127; i++) {
        out[i] = (unsigned char) text[i] < 0x80 ? (char) to((unsigned char) text[i]) : text[i];
    }
    out[i] = '\0';
}

/* @ and ~ in a form stand for these two. */
static void fill(const char *form, const char *first, const char *second, char out[static TEXT])
{
    out[0] = '\0';
    for (; *form; form++) {
        const char one[2] = {*form, '\0'};
        strncat(out, *form == '@' ? first : *form == '~' ? second : one, TEXT - strlen(out) - 1);
    }
}

static bool is_name(const struct pair *p)
{
    return !strcmp(p->class, "person");
}

static bool ascii(const char *text)
{
    while ((unsigned char) *text - 1u < 0x7f) {
        text++;
    }
    return *text == '\0';
}

/* The guises that stand around a surrogate as it is. */
static const char *const around[] = {"@",        "Hello @!", "**@**", "*@*",      "`@`", "(@)",  "| a | @ | b |",
                                     "- @\n- b", "# @\n",    "\"@\"", "It is @.", "> @", "@, @", "a\n@\nb",
                                     "__@__",    "1. @",     "@; b"};

static void surrogates_come_back_in_every_guise(void)
{
    char came[TEXT], right[TEXT], found[TEXT], from[128], to[128];
    for (size_t i = 0; i < pair_count; i++) {
        const struct pair *p = &pairs[i];
        for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
            fill(around[k], p->surrogate, "", came);
            fill(around[k], p->original, "", right);
            for (way how = WHOLE; how <= STREAM; how++) {
                show(&ours, came, strlen(came) / 2, how, found);
                should_be(found, right, came);
            }
        }
        if (!is_name(p)) {
            continue;
        }
        for (int small = 0; ascii(p->surrogate) && ascii(p->original) && small < 2; small++) {
            cased(p->surrogate, small ? tolower : toupper, from);
            cased(p->original, small ? tolower : toupper, to);
            snprintf(came, sizeof came, "and %.127s too", from);
            snprintf(right, sizeof right, "and %.127s too", to);
            show(&ours, came, 9, STREAM, found);
            should_be(found, right, came);
        }
        snprintf(came, sizeof came, "%.127s's letter, %.127s\u2019s letter", p->surrogate, p->surrogate);
        snprintf(right, sizeof right, "%.127s's letter, %.127s\u2019s letter", p->original, p->original);
        show(&ours, came, 3, STREAM, found);
        should_be(found, right, came);
    }
}

/* "Maria Lopez": each part alone, with a title, in the other order, with marks between. */
static void parts_of_names_come_back(void)
{
    static const char *const forms[] = {"Hello @.", "Hello ~.", "Ms ~ is here.", "~, @", "**@** ~",
                                        "**@ ~**",  "@ *~*",    "@\n~",          "@  ~", "@'s and ~'s"};
    char                     came[TEXT], right[TEXT], found[TEXT];
    for (size_t i = 0; i < pair_count; i++) {
        const struct pair *p      = &pairs[i];
        const char        *middle = strchr(p->surrogate, ' '), *there = strchr(p->original, ' ');
        if (!is_name(p) || !middle || !there || strchr(middle + 1, ' ') || strchr(there + 1, ' ')) {
            continue;
        }
        for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
            char first[64], original_first[64];
            snprintf(first, sizeof first, "%.*s", (int) (middle - p->surrogate), p->surrogate);
            snprintf(original_first, sizeof original_first, "%.*s", (int) (there - p->original), p->original);
            fill(forms[k], first, middle + 1, came);
            fill(forms[k], original_first, there + 1, right);
            for (way how = WHOLE; how <= STREAM; how++) {
                show(&ours, came, 7, how, found);
                should_be(found, right, came);
            }
        }
    }
}

/* In JSON: as it is, in \u escapes of every letter, with \/; what comes back is JSON and means the original. */
static void json_stays_json(void)
{
    char came[TEXT], escaped[1024], found[TEXT];
    for (size_t i = 0; i < pair_count; i++) {
        for (int form = 0; form < 3; form++) {
            size_t at = 0;
            for (const char *c = pairs[i].surrogate; *c && at < sizeof escaped - 8; c++) {
                at += (size_t) (form == 1 && isalpha((unsigned char) *c) && (unsigned char) *c < 0x80
                                    ? snprintf(escaped + at, 8, "\\u%04x", (unsigned) *c)
                                : form == 2 && *c == '/' ? snprintf(escaped + at, 8, "\\/")
                                                         : snprintf(escaped + at, 8, "%c", *c));
            }
            came[0] = '\0';
            strcat(strcat(strcat(came, "{\"n\": [1, {\"who\": \""), escaped), "\"}], \"say\": \"a \\\"");
            strcat(strcat(came, escaped), "\\\" \\n b\"}");
            for (way how = WHOLE; how <= TOOL; how++) {
                const struct talk_of *t = how == TOOL ? &ours : &schema;
                show(t, came, strlen(came) / 3, how, found);
                json_t     *tree = json_loads(found, JSON_REJECT_DUPLICATES, NULL);
                const char *who =
                    json_string_value(json_object_get(json_array_get(json_object_get(tree, "n"), 1), "who"));
                CHECK(tree && json_string_value(json_object_get(tree, "say")));
                should_be(who ? who : "", pairs[i].original, came);
                json_decref(tree);
            }
        }
    }
}

static void it_may_be_cut_anywhere(void)
{
    char came[TEXT] = "", right[TEXT] = "", found[TEXT];
    for (size_t i = 0; i < pair_count; i++) {
        snprintf(came + strlen(came), sizeof came - strlen(came), "%s: %s\n", i ? "Then" : "First", pairs[i].surrogate);
        snprintf(right + strlen(right), sizeof right - strlen(right), "%s: %s\n", i ? "Then" : "First",
                 pairs[i].original);
    }
    for (size_t cut = 0; cut <= strlen(came); cut++) {
        show(&ours, came, cut, STREAM, found);
        should_be(found, right, came);
    }
}

/* The lists of this test are short: a family name of one of ours may be one of theirs by chance. */
static bool shares_a_family(const struct pair *p)
{
    const char *space = strrchr(p->surrogate, ' ');
    bool        any   = false;
    for (size_t i = 0; i < pair_count && is_name(p); i++) {
        any = any || (space && strcasestr(pairs[i].surrogate, space + 1));
    }
    return any;
}

static void what_only_looks_like_one_stays(void)
{
    char   came[TEXT];
    size_t alike = 0;
    for (size_t i = 0; i < other_count; i++) { /* of another conversation */
        alike += shares_a_family(&others[i]);
        if (shares_a_family(&others[i])) {
            continue;
        }
        snprintf(came, sizeof came, "It was %s.", others[i].surrogate);
        should_stay(&ours, came);
    }
    for (size_t i = 0; i < pair_count; i++) {
        const struct pair *p    = &pairs[i];
        const size_t       size = strlen(p->surrogate);
        char               text[160];
        snprintf(text, sizeof text, "%sx7q", p->surrogate); /* goes on as another word */
        if (is_name(p)) {
            should_stay(&ours, text + (strchr(text, ' ') ? strchr(text, ' ') - text + 1 : 0));
        }
        for (size_t k = 0; is_name(p) && k < size; k++) { /* one letter is another one */
            const char *space = strchr(p->surrogate, ' ');
            if (isalpha((unsigned char) p->surrogate[k]) && !space) {
                snprintf(text, sizeof text, "%s", p->surrogate);
                text[k] = text[k] == 'q' ? 'w' : 'q';
                should_stay(&ours, text);
            }
        }
        for (size_t k = 0; strcmp(p->class, "date") != 0 && k < size; k++) { /* one digit is */
            if (isdigit((unsigned char) p->surrogate[k])) {
                snprintf(text, sizeof text, "%s", p->surrogate);
                text[k] = text[k] == '9' ? '0' : (char) (text[k] + 1);
                should_stay(&ours, text);
            }
        }
    }
    CHECK(other_count - alike >= 2);
    static const char *const ordinary[] = {"The doctor will visit the house.",
                                           "maria@",
                                           "+49",
                                           "call me on 3 May",
                                           "{\"name\": 1}",
                                           "name_1",
                                           "192.168",
                                           "https://",
                                           "4539"};
    for (size_t i = 0; i < sizeof ordinary / sizeof *ordinary; i++) {
        should_stay(&ours, ordinary[i]);
    }
}

static void nearly_all_come_back_and_nothing_else(void)
{
    printf("       %zu cases, %zu came back (%.2f %%); %zu that only look alike, %zu false\n", meant, restored,
           100.0 * (double) restored / (double) meant, stayed, touched);
    CHECK(meant >= 500 && stayed >= 100);
    CHECK(100 * restored >= 99 * meant && touched == 0);
}

int main(void)
{
    char               command[64];
    cmif_talks_options options;
    lists = rig_lists();
    if (!mkdtemp(folder) || cmif_policy_named("names", &policy, NULL) != CMIF_OK ||
        cmif_books_open(&books, folder, NULL, &(cmif_certificate){0}, policy, NULL) != CMIF_OK) {
        return 1;
    }
    options = (cmif_talks_options){.policy = policy, .lists = lists, .books = &books, .most = 8, .idle_seconds = 60};
    if (cmif_talks_new(&options, &talks, NULL) != CMIF_OK || ask_for(&ours, "local", SAID, false) != CMIF_OK ||
        ask_for(&schema, "local", SAID, true) != CMIF_OK ||
        ask_for(&other, "local", "I am Wanjiru Lindqvist, wanjiru@lindqvist.example.net, +49 40 5551234.", false) !=
            CMIF_OK) {
        return 1;
    }
    CHECK(ours.talk == schema.talk && ours.talk != other.talk);
    pair_count  = read_pairs(&ours, SAID, pairs);
    other_count = read_pairs(&other, "I am Wanjiru Lindqvist, wanjiru@lindqvist.example.net, +49 40 5551234.", others);
    if (getenv("CMIF_SHOW")) {
        for (size_t i = 0; i < pair_count; i++) {
            printf("%s: %s -> %s\n", pairs[i].class, pairs[i].original, pairs[i].surrogate);
        }
    }
    CHECK(pair_count >= 9 && other_count >= 3);
    RUN(surrogates_come_back_in_every_guise);
    RUN(parts_of_names_come_back);
    RUN(json_stays_json);
    RUN(it_may_be_cut_anywhere);
    RUN(what_only_looks_like_one_stays);
    RUN(nearly_all_come_back_and_nothing_else);
    end_talk(&ours);
    end_talk(&schema);
    end_talk(&other);
    cmif_talks_free(talks);
    cmif_books_close(&books);
    cmif_policy_free(policy);
    cmif_lists_free(lists);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || check_report();
}
