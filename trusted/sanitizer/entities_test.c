#include "sanitizer/entities.h"

#include "base/check.h"
#include "sanitizer/entities_rig.h"

#include <time.h>

static cmif_lists *lists;

/* The spans of a text as "class[text] class[text]"; words, function words and what is between are left out. */
static const char *found(const char *text)
{
    static char out[8192];
    cmif_scan   scan  = {0};
    cmif_spans  spans = {0};
    size_t      at    = 0;
    out[0]            = '\0';
    CHECK(cmif_scan_text(text, strlen(text), &scan, NULL) == CMIF_OK);
    CHECK(cmif_find_entities(&scan, lists, &spans, NULL) == CMIF_OK);
    for (size_t i = 0; i < spans.count; i++) {
        const cmif_span *s = &spans.at[i];
        if (s->class > CMIF_SPAN_WORD && at < sizeof out - 600) {
            at += (size_t) snprintf(out + at, sizeof out - at, "%s%s[%.*s]", at ? " " : "",
                                    cmif_span_class_name((cmif_span_class) s->class),
                                    s->size < 500 ? (int) s->size : 500, text + s->from);
        }
    }
    cmif_spans_wipe(&spans);
    cmif_scan_wipe(&scan);
    return out;
}

static bool finds(const char *text, const char *expected)
{
    const char *is = found(text);
    if (strcmp(is, expected) != 0) {
        fprintf(stderr, "'%s'\n  gives    %s\n  expected %s\n", text, is, expected);
        return false;
    }
    return true;
}

/* Whether nothing of the text passes as an ordinary word or a count, but for these function words. */
static bool protects(const char *text)
{
    cmif_scan  scan  = {0};
    cmif_spans spans = {0};
    bool       good  = true;
    CHECK(cmif_scan_text(text, strlen(text), &scan, NULL) == CMIF_OK);
    CHECK(cmif_find_entities(&scan, lists, &spans, NULL) == CMIF_OK);
    for (size_t i = 0; i < spans.count; i++) {
        const cmif_span *s = &spans.at[i];
        bool open          = s->class == CMIF_SPAN_WORD || s->class == CMIF_SPAN_TOPIC || s->class == CMIF_SPAN_STOP ||
                    s->class == CMIF_SPAN_COUNT_NUMBER;
        for (uint32_t t = s->first; t < s->first + s->count; t++) {
            open |= s->class == CMIF_SPAN_OTHER && scan.tokens[t].kind <= CMIF_TOKEN_NUMBER;
        }
        good &= !open;
    }
    good &= spans.count > 0;
    cmif_spans_wipe(&spans);
    cmif_scan_wipe(&scan);
    return good;
}

static void patterns_are_found_and_nothing_around_them(void)
{
    static const struct {
        const char *class, *text;
    } cases[] = {{"email", "maria.lopez+x@mail.example.co.uk"},
                 {"email", "maria (at) example (dot) com"},
                 {"email", "maria at example dot com"},
                 {"url", "https://example.com/a?b=c&d=(e)"},
                 {"url", "www.example.com"},
                 {"url", "example.com/path/x"},
                 {"url", "ftp://10.0.0.1/x"},
                 {"host", "db-3.corp.example.net"},
                 {"host", "example.org:8080"},
                 {"ip", "192.168.17.204"},
                 {"ip", "10.0.0.0/8"},
                 {"ip", "2001:db8:85a3::8a2e:370:7334"},
                 {"ip", "fe80::1"},
                 {"phone", "+44 20 7946 0958"},
                 {"phone", "(510) 555-0147"},
                 {"phone", "919.555.0122"},
                 {"phone", "0049 30 901820"},
                 {"phone", "07700 900461"},
                 {"phone", "+1 (971) 555-0119"},
                 {"phone", "303-555-0180 ext. 22"},
                 {"phone", "0341 / 55 01 78 3"},
                 {"card", "4539 1488 0343 6467"},
                 {"card", "5555555555554444"},
                 {"card", "3782 822463 10005"},
                 {"iban", "DE89 3704 0044 0532 0130 00"},
                 {"iban", "GB82WEST12345698765432"},
                 {"iban", "FR14 2004 1010 0505 0001 3M02 606"},
                 {"id", "536-22-8841"},
                 {"id", "943 476 5919"},
                 {"id", "AB 12 34 56 C"},
                 {"id", "3c:52:82:4f:aa:19"},
                 {"id", "45678912Z"},
                 {"id", "550e8400-e29b-41d4-a716-446655440000"},
                 {"id", "AZ-2024/00817-B"},
                 {"secret", "AKIAIOSFODNN7EXAMPLE"},
                 {"secret", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"},
                 {"secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
                 {"secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtYXJpYSJ9.dBjftJeZ4CVPmB92K27uhb"},
                 {"secret", "d41d8cd98f00b204e9800998ecf8427e"},
                 {"secret", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"},
                 {"crypto", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"},
                 {"crypto", "0x742d35Cc6634C0532925a3b844Bc454e4438f44e"},
                 {"crypto", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"},
                 {"gps", "45.5289, -122.6987"},
                 {"gps", "57.8955 N, 5.1613 W"},
                 {"gps", "48\u00b051'30\"N 2\u00b017'40\"E"},
                 {"date", "2024-05-17T08:12:44Z"},
                 {"date", "12.02.2024"},
                 {"date", "3/14/24"},
                 {"date", "21st June 2023"},
                 {"date", "March 12, 2024"},
                 {"date", "Tue, 7 Nov 2023"},
                 {"date", "4 de marzo de 2022"},
                 {"date", "3. M\u00e4rz 2023"},
                 {"date", "1984"},
                 {"date", "05/2018"},
                 {"time", "10:40"},
                 {"time", "7:15 pm"},
                 {"time", "5pm"},
                 {"time", "2.30pm"},
                 {"time", "03:14:07"},
                 {"money", "$1,249.99"},
                 {"money", "EUR 1.450,00"},
                 {"money", "2 350 EUR"},
                 {"money", "\u00a318,500"},
                 {"money", "20 quid"},
                 {"money", "$2.4 million"},
                 {"money", "120z\u0142"},
                 {"percent", "6.3%"},
                 {"percent", "38 %"},
                 {"percent", "4.5 per cent"},
                 {"number", "143,208"},
                 {"number", "148/92"},
                 {"address", "221B Baker Street"},
                 {"address", "23 rue des Tanneurs"},
                 {"address", "Lindenstra\u00dfe 47"},
                 {"address", "Calle Col\u00f3n 18"},
                 {"address", "Flat 2, 88 Harehills Lane"},
                 {"address", "1180 NW Kearney St Unit 4B"},
                 {"postcode", "BS6 5JT"},
                 {"postcode", "K1A 0B1"}};
    char text[512], expected[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const char *const frames[][2] = {
            {"hello ", " and the table."}, {"(", ")"}, {"the number: ", ", please"}, {"", ""}};
        for (size_t f = 0; f < 4; f++) {
            bool phone_like = f == 2 && strcmp(cases[i].class, "number") == 0;
            snprintf(text, sizeof text, "%s%s%s", frames[f][0], cases[i].text, frames[f][1]);
            snprintf(expected, sizeof expected, "%s[%s]", cases[i].class, cases[i].text);
            CHECK(phone_like || finds(text, expected));
        }
    }
}

static void what_only_looks_like_a_pattern_is_none(void)
{
    CHECK(finds("he said. the table", ""));
    CHECK(finds("hello.the table", ""));
    CHECK(strstr(found("4539 1488 0343 6468"), "card[") == NULL && protects("4539 1488 0343 6468"));
    CHECK(strstr(found("My card number is 4539 1488 0343 6467."), "card[4539 1488 0343 6467]"));
    CHECK(strstr(found("Card 4539 1488 0343 6468"), "id[4539 1488 0343 6468]"));
    CHECK(strstr(found("300.1.2.3"), "ip[") == NULL && protects("300.1.2.3"));
    CHECK(finds("943 476 5918", "phone[943 476 5918]"));
    CHECK(finds("the password of the house and the table 45", "number[45]"));
    CHECK(strstr(found("1.2.3.4.5"), "ip[") == NULL && protects("1.2.3.4.5"));
    CHECK(strstr(found("DE89 3704 0044 0532 0130 01"), "iban[") == NULL && protects("DE89 3704 0044 0532 0130 01"));
}

static void small_numbers_in_counting_context_pass(void)
{
    CHECK(finds("she has 3 children and 2 weeks", "count[3] count[2]"));
    CHECK(finds("1. hello\n2. table", "count[1] count[2]"));
    CHECK(finds("step 2", "count[2]"));
    CHECK(finds("on the 15th", "count[15th]"));
    CHECK(finds("he is 3 years old", "number[3]"));
    CHECK(finds("age 9", "number[9]"));
    CHECK(finds("45 people", "number[45]"));
    CHECK(finds("my account 12", "account[12]"));
    CHECK(strstr(found("my phone is 4410"), "phone[4410]") != NULL);
}

static void what_a_word_announces_is_believed(void)
{
    CHECK(finds("my account number is 000123456789", "account[000123456789]"));
    CHECK(finds("password: sunshine", "secret[sunshine]") &&
          finds("the password is Blu3Gr4ss-9921.", "secret[Blu3Gr4ss-9921]"));
    CHECK(finds("the password is not secret", ""));
    CHECK(finds("my pin is 7719", "secret[7719]"));
    CHECK(finds("passport XK4829103", "id[XK4829103]"));
    CHECK(finds("sort code 20-49-11", "account[20-49-11]"));
    CHECK(finds("zip code 50312", "postcode[50312]"));
}

static void persons_are_found_in_all_their_forms(void)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {{"I met Maria Lopez today", "person[Maria Lopez]"},
                 {"I met Maria today", "person[Maria]"},
                 {"i met maria lopez today", "person[maria lopez]"},
                 {"I MET MARIA LOPEZ TODAY", "person[MARIA LOPEZ]"},
                 {"Lopez, Maria", "person[Lopez, Maria]"},
                 {"Dr. Black called", "person[Black]"},
                 {"mr black called", "person[black]"},
                 {"mr lopez called", "person[lopez]"},
                 {"Ms Quillfeather called", "person[Quillfeather]"},
                 {"M. Lopez", "person[M. Lopez]"},
                 {"J. R. R. Smith", "person[J. R. R. Smith]"},
                 {"John F. Smith", "person[John F. Smith]"},
                 {"Maria de la Lopez", "person[Maria de la Lopez]"},
                 {"Maria Garcia-Lopez", "person[Maria Garcia-Lopez]"},
                 {"Maria O'Brien's house", "person[Maria O'Brien]"},
                 {"I asked Mark about it", "person[Mark]"},
                 {"the mark on the table", ""},
                 {"Wanjiru Lopez", "person[Wanjiru Lopez]"},
                 {"Xyzzyq Lopez", "person[Xyzzyq Lopez]"},
                 {"said Albert Einstein", "person[Albert Einstein]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(finds(cases[i].text, cases[i].expected));
    }
}

static void places_and_organisations_are_found(void)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {{"he lives in London", "place[London]"},
                 {"he lives in london", "place[london]"},
                 {"in New York and new york", "place[New York] place[new york]"},
                 {"San Jos\u00e9", "place[San Jos\u00e9]"},
                 {"he lived in Reading", "place[Reading]"},
                 {"he was reading", ""},
                 {"a Mexican doctor", "place[Mexican] topic[doctor]"},
                 {"the Red Cross called", "organisation[Red Cross]"},
                 {"Quillfeather Ltd called", "organisation[Quillfeather Ltd]"},
                 {"Orchid Quill, Inc. called", "organisation[Orchid Quill, Inc.]"},
                 {"the University of Leeds", "organisation[University of Leeds]"},
                 {"Bank of Spain", "organisation[Bank of Spain]"},
                 {"at Cedarq Hospital", "organisation[Cedarq Hospital]"},
                 {"Smith & Black LLP", "organisation[Smith & Black LLP]"},
                 {"the hospital called", "topic[hospital]"},
                 {"we met at Zettabolt", "unknown[Zettabolt]"},
                 {"we ate at Apple", "unknown[Apple]"},
                 {"an apple", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(finds(cases[i].text, cases[i].expected));
    }
}

/* Spans about one person point to the first of them. */
static void the_same_person_is_linked(void)
{
    static const struct {
        const char *text;
        uint32_t    links[6]; /* the how-manieth person span each person span points to */
        size_t      count;
    } cases[] = {{"Maria Lopez called. Ms Lopez said that Maria is nice.", {0, 0, 0}, 3},
                 {"Ms Lopez called. Maria Lopez and Maria", {0, 0, 0}, 3},
                 {"Maria Lopez and John Lopez. John said, Maria said", {0, 1, 1, 0}, 4},
                 {"Maria Lopez and Tom Smith. Mr Smith", {0, 1, 1}, 3},
                 {"Lopez, Maria. M. Lopez", {0, 0}, 2},
                 {"Dr Strangeq. we met Strangeq", {0, 0}, 2},
                 {"we met Strangeq. Dr Strangeq", {0, 0}, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cmif_scan  scan  = {0};
        cmif_spans spans = {0};
        uint32_t   persons[8];
        size_t     count = 0;
        CHECK(cmif_scan_text(cases[i].text, strlen(cases[i].text), &scan, NULL) == CMIF_OK);
        CHECK(cmif_find_entities(&scan, lists, &spans, NULL) == CMIF_OK);
        for (uint32_t s = 0; s < spans.count && count < 8; s++) {
            if (spans.at[s].class == CMIF_SPAN_PERSON) {
                persons[count++] = s;
            }
        }
        CHECK(count == cases[i].count);
        for (size_t p = 0; p < count && count == cases[i].count; p++) {
            if (spans.at[persons[p]].link != persons[cases[i].links[p]]) {
                fprintf(stderr, "'%s': person %zu\n", cases[i].text, p);
                CHECK(false && "linked");
            }
        }
        cmif_spans_wipe(&spans);
        cmif_scan_wipe(&scan);
    }
}

/* A name, hidden by one trick. */
static void no_trick_of_unicode_hides_a_name(void)
{
    static const char *const cases[] = {"maria",
                                        "Maria",
                                        "MARIA",
                                        "mArIa",
                                        "Ma\u200bria",
                                        "Ma\u200cria",
                                        "Ma\u200dria",
                                        "Ma\u200eria",
                                        "Ma\u200fria",
                                        "Ma\u2060ria",
                                        "Ma\ufeffria",
                                        "Ma\u00adria",
                                        "M\u034faria",
                                        "Ma\ufe0fria",
                                        "Ma\ufe00ria",
                                        "Ma\U000e0100ria",
                                        "Ma\U000e0061ria",
                                        "Ma\u061cria",
                                        "Ma\u202eria\u202c",
                                        "Ma\u2066ria\u2069",
                                        "Ma\u180eria",
                                        "Ma\u115fria",
                                        "Ma\u3164ria",
                                        "Ma\uffa0ria",
                                        "Ma\u2800ria",
                                        "Ma\u17b4ria",
                                        "M\u0336a\u0336r\u0336i\u0336a\u0336",
                                        "M\u0301a\u0301r\u0301i\u0301a\u0301",
                                        "Mar\u00eda",
                                        "M\u00e4ri\u00e0",
                                        "M\u0105r\u012f\u0101",
                                        "Mari\u0430",
                                        "\u041caria",
                                        "\u041c\u0430ri\u0430",
                                        "M\u03b1ri\u03b1",
                                        "M\u0430r\u0456\u0430",
                                        "\uff2d\uff41\uff52\uff49\uff41",
                                        "\uff4d\uff41\uff52\uff49\uff41",
                                        "\U0001d40c\U0001d41a\U0001d42b\U0001d422\U0001d41a",
                                        "\U0001d4dc\U0001d4ea\U0001d4fb\U0001d4f2\U0001d4ea",
                                        "\U0001d5ac\U0001d5ba\U0001d5cb\U0001d5c2\U0001d5ba",
                                        "\U0001d67c\U0001d68a\U0001d69b\U0001d692\U0001d68a",
                                        "\u24c2\u24d0\u24e1\u24d8\u24d0",
                                        "\U0001f13c\U0001f130\U0001f141\U0001f138\U0001f130",
                                        "\U0001f15c\U0001f150\U0001f161\U0001f158\U0001f150",
                                        "\U0001f17c\U0001f170\U0001f181\U0001f178\U0001f170",
                                        "\U0001f1f2\U0001f1e6\U0001f1f7\U0001f1ee\U0001f1e6",
                                        "\u1d0d\u1d00\u0280\u026a\u1d00",
                                        "\u1d39\u1d43\u02b3\u2071\u1d43",
                                        "\u216daria",
                                        "M a r i a",
                                        "m.a.r.i.a",
                                        "M-a-r-i-a",
                                        "M_a_r_i_a",
                                        "m*a*r*i*a",
                                        "m/a/r/i/a",
                                        "mar1a",
                                        "m4r14",

                                        "M@ria",
                                        "maria\x01",
                                        "ma\x01ria",
                                        "table\x01word",
                                        "table\xffword",
                                        "ma\xffria",
                                        "ma\xc3ria",
                                        "Mar\ue000ia",
                                        "\u13b7aria",
                                        "M\u13aaria",
                                        "ma\u2019ria",
                                        "Ma'ria",
                                        "'Maria'",
                                        "\u201cMaria\u201d",
                                        "<Maria>",
                                        "Maria\u2122",
                                        "Mariaaa",
                                        "xXMariaXx",
                                        "MariaLopez",
                                        "maria_lopez",
                                        "maria-lopez",
                                        "lopez.maria",
                                        "@maria",
                                        "#Maria",
                                        "%4Daria",
                                        "&#77;aria",
                                        "airaM",
                                        "\u202eairaM",
                                        "TWFyaWEgTG9wZXo=",
                                        "Ma\nria",
                                        "M\u0430\u0433\u0456\u0430",
                                        "m\u0131r\u0131a",
                                        "\u0645\u0627\u0631\u064a\u0627",
                                        "\u041c\u0430\u0440\u0438\u044f",
                                        "\u739b\u4e3d\u4e9a",
                                        "\u30de\u30ea\u30a2",
                                        "\u039c\u03b1\u03c1\u03af\u03b1"};
    printf("       %zu cases\n", sizeof cases / sizeof *cases);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!protects(cases[i])) {
            fprintf(stderr, "'%s' (%zu) gives %s\n", cases[i], i, found(cases[i]));
            CHECK(false && "protected");
        }
    }
}

/* And a number. */
static void no_trick_of_unicode_hides_a_number(void)
{
    static const char *const cases[] = {"4539\u200b1488\u200b0343\u200b6467",
                                        "\uff14\uff15\uff13\uff19 1488 0343 6467",
                                        "4539\u00a01488\u00a00343\u00a06467",
                                        "\u0664\u0665\u0663\u0669148803436467",
                                        "4539\u20101488\u20100343\u20106467",
                                        "4539\u20111488\u20110343\u20116467",
                                        "+44\u00ad20 7946 0958",
                                        "\U0001d7d2\U0001d7d3\U0001d7d1\U0001d7d7 1488 0343 6467",
                                        "536\u201322\u20138841",
                                        "maria\uff20example.com",
                                        "maria@example\u3002com",
                                        "\u2463\u2464\u2462",
                                        "\u2074\u2075\u00b3\u2079",
                                        "192.168.17\uff0e204",
                                        "12\u204402\u20442024"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!protects(cases[i])) {
            fprintf(stderr, "'%s' (%zu) gives %s\n", cases[i], i, found(cases[i]));
            CHECK(false && "protected");
        }
    }
}

static void a_key_in_pem_form_is_one_secret(void)
{
    CHECK(finds("hello -----BEGIN RSA PRIVATE KEY-----\nMIIEow\nhello\n-----END RSA PRIVATE KEY-----\nthe table",
                "secret[-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nhello\n-----END RSA PRIVATE KEY-----]"));
}

/* Most words are read by themselves; these are not, for what is beside them. */
static void ordinary_words_can_begin_a_form_or_a_name(void)
{
    CHECK(finds("the table at house dot com", "email[table at house dot com]"));
    CHECK(finds("the table. at house dot com", "email[table. at house dot com]"));
    CHECK(finds("the table (at) house.com", "email[table (at) house.com]"));
    CHECK(finds("she called black apple inc", "organisation[black apple inc]"));
    CHECK(finds("she ate orange apple table inc", "organisation[apple table inc]"));
    CHECK(finds("she lives in new york", "place[new york]"));
    CHECK(finds("mr black, mr rose", "person[black] person[rose]"));
    CHECK(finds("password: table", "secret[table]"));
    CHECK(finds("the table 12 march", "date[12 march]"));
    CHECK(finds("may 12 was a table", "date[may 12]"));
    CHECK(finds("a b c d", "unknown[a b c d]"));
    CHECK(finds("the account is it 60x0542811101000000123456", "iban[it 60x0542811101000000123456]"));
    CHECK(finds("the bank of orchid", "organisation[bank of orchid]"));
    CHECK(finds("red HOUSE BANK TABLE", "organisation[red HOUSE BANK]"));
    CHECK(finds("the house of twelve children", "unknown[twelve]") && finds("the house, street 5", "number[5]"));
}

static void spans_cover_the_text_in_order(void)
{
    uint32_t seed = 1;
    for (int round = 0; round < 4000; round++) {
        static const char *const pieces[] = {
            "Maria", "lopez", "the", " ",      " ",    ",", ".",        "12",   "5",          "@",  "com",  "example",
            "/",     "-",     "St",  "Street", "+44",  "(", ")",        "Dr",   "University", "of", "Bank", "\n",
            "'s",    "&",     "Inc", "$",      "\xff", ":", "password", "0x12", "é",          "Xq"};
        char       text[256];
        size_t     size = 0, at = 0, token = 0;
        cmif_scan  scan  = {0};
        cmif_spans spans = {0};
        for (int i = 0; i < 20; i++) {
            seed              = seed * 1664525 + 1013904223;
            const char *piece = pieces[(seed >> 16) % (sizeof pieces / sizeof *pieces)];
            memcpy(text + size, piece, strlen(piece));
            size += strlen(piece);
        }
        CHECK(cmif_scan_text(text, size, &scan, NULL) == CMIF_OK &&
              cmif_find_entities(&scan, lists, &spans, NULL) == CMIF_OK);
        for (size_t i = 0; i < spans.count; i++) {
            const cmif_span *s = &spans.at[i];
            CHECK(s->from == at && s->first == token && s->size > 0 && s->count > 0 && s->class < CMIF_SPAN_CLASSES);
            CHECK(s->link <= i && spans.at[s->link].link == s->link && (s->class == CMIF_SPAN_PERSON || s->link == i));
            at += s->size;
            token += s->count;
        }
        CHECK(at == size && token == scan.count);
        cmif_spans_wipe(&spans);
        cmif_scan_wipe(&scan);
    }
}

static double seconds_for(const char *unit, size_t size)
{
    char      *text  = malloc(size + 64);
    size_t     n     = strlen(unit);
    cmif_scan  scan  = {0};
    cmif_spans spans = {0};
    for (size_t at = 0; at < size; at += n) {
        memcpy(text + at, unit, n < size + 64 - at ? n : size + 64 - at);
    }
    struct timespec a, b;
    CHECK(cmif_scan_text(text, size, &scan, NULL) == CMIF_OK);
    double best = 1e9; /* of three: what other programs do on the machine is in the others */
    for (int i = 0; i < 3; i++) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        CHECK(cmif_find_entities(&scan, lists, &spans, NULL) == CMIF_OK);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double took = (double) (b.tv_sec - a.tv_sec) + (double) (b.tv_nsec - a.tv_nsec) / 1e9;
        best        = took < best ? took : best;
        cmif_spans_wipe(&spans);
    }
    cmif_scan_wipe(&scan);
    free(text);
    return best;
}

static void no_text_is_worse_than_linear(void)
{
    static const char *const units[] = {"she called the hospital about the table and the house. ",
                                        "Maria Lopez ",
                                        "a.",
                                        "Aa-",
                                        "Aa ",
                                        "1 ",
                                        "1.",
                                        "12-",
                                        "x@",
                                        "a1b2",
                                        "-----BEGIN A ",
                                        "password ",
                                        "is ",
                                        "(",
                                        "Street ",
                                        "1 Aa ",
                                        "$1,",
                                        "A. ",
                                        "\xff",
                                        "Q q ",
                                        "University of ",
                                        "Aa & ",
                                        "a:b:",
                                        "+1",
                                        "7",
                                        "a",
                                        "a,",
                                        "aaaaaaaaaaaaaaaaa=",
                                        "-----begin a -"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        double small = seconds_for(units[i], 1 << 15), large = seconds_for(units[i], 1 << 17);
        if (large > 12 * small + .05) {
            fprintf(stderr, "'%s': %.3f s, then %.3f s for four times as much\n", units[i], small, large);
            CHECK(false && "linear");
        }
        if (i == 0) {
            printf("       %.1f million words per second of plain English\n", (1 << 17) / 5.5 / large / 1e6);
        }
    }
}

static void classes_have_stable_names(void)
{
    for (int i = 0; i < CMIF_SPAN_CLASSES; i++) {
        cmif_span_class class = CMIF_SPAN_CLASSES;
        CHECK(cmif_span_class_find(cmif_span_class_name((cmif_span_class) i), &class) && class == (cmif_span_class) i);
    }
    cmif_span_class class = CMIF_SPAN_IP;
    CHECK(!cmif_span_class_find("nothing", &class) && class == CMIF_SPAN_IP);
}

int main(void)
{
    lists = rig_lists();
    RUN(patterns_are_found_and_nothing_around_them);
    RUN(what_only_looks_like_a_pattern_is_none);
    RUN(small_numbers_in_counting_context_pass);
    RUN(what_a_word_announces_is_believed);
    RUN(persons_are_found_in_all_their_forms);
    RUN(places_and_organisations_are_found);
    RUN(the_same_person_is_linked);
    RUN(no_trick_of_unicode_hides_a_name);
    RUN(no_trick_of_unicode_hides_a_number);
    RUN(a_key_in_pem_form_is_one_secret);
    RUN(ordinary_words_can_begin_a_form_or_a_name);
    RUN(spans_cover_the_text_in_order);
    RUN(no_text_is_worse_than_linear);
    RUN(classes_have_stable_names);
    cmif_lists_free(lists);
    return check_report();
}
