#define CHECK_MEMORY_MMAP
#include "sanitizer/restore_rig.h"

#include "base/check_memory.h"

#include "sanitizer/dates.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <utf8proc.h>

#ifdef __SANITIZE_ADDRESS__
#define UNDER_ASAN
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define UNDER_ASAN
#endif
#endif

static cmif_lists *lists;

static const char everything[] =
    "[person|Maria Lopez] and [person|Dr. KLAUS BERGMANN], [family|Okafor's] [place|Lyon] [place|France] [org|Halcyon "
    "Data Inc] "
    "[unknown|Zyprexol] [address|12b Hollyoak Street, Greenfield] [email|maria.lopez@acme.com] "
    "[url|https://a.acme.com/x/y?z=1] "
    "[host|a.b.c.acme.com] [ip|10.1.2.3:8080] [ip|fe80::1] [phone|+44 20 7946 0958] [card|4111-1111-1111-1111] "
    "[iban|DE89 3704 0044 0532 0130 00] [account|00123-456] [id|X1234567L] [postcode|SW1A 1AA] "
    "[secret|ghp_Ab3dE5fG7hI9jK] "
    "[crypto|0x52908400098527886E0F] [gps|48.8566, 2.3522] [time|2:35 pm] [date|Monday, 3 May 2021] [money|$1,250.75] "
    "[number|7,431] [percent|37%] [date|Easter] [number|twenty] [date|1987]";

/* One conversation with a text; the surrogates are borrowed until the next. */
static const rig_text *said(const char *marked)
{
    static rig_text t;
    cmif_vault     *vault = NULL;
    cmif_err        err   = {0};
    rig_wipe(&t);
    CHECK(cmif_vault_new(lists, &vault, NULL) == CMIF_OK);
    cmif_code rc = rig_send(&t, vault, marked, &err);
    if (rc != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(!"a surrogate for everything");
    }
    cmif_vault_free(vault);
    return &t;
}

static bool luhn(const char *s)
{
    unsigned sum = 0, place = 0;
    for (size_t i = strlen(s); i-- > 0;) {
        if (isdigit((unsigned char) s[i])) {
            unsigned digit = (unsigned) (s[i] - '0') * (place++ % 2 ? 2 : 1);
            sum += digit > 9 ? digit - 9 : digit;
        }
    }
    return sum % 10 == 0;
}

static bool mod97(const char *s)
{
    char     compact[64] = "", turned[64];
    size_t   n           = 0;
    unsigned rest        = 0;
    for (; *s; s++) {
        if (isalnum((unsigned char) *s)) {
            compact[n++] = *s;
        }
    }
    snprintf(turned, sizeof turned, "%s%.4s", compact + 4, compact);
    for (const char *p = turned; *p; p++) {
        rest = isdigit((unsigned char) *p) ? (rest * 10 + (unsigned) (*p - '0')) % 97
                                           : (rest * 100 + (unsigned) (toupper((unsigned char) *p) - 'A' + 10)) % 97;
    }
    return rest == 1;
}

/* Digits as 9, letters as a and A, the rest as it is. */
static const char *pattern_of(const char *s)
{
    static char out[4][300];
    static int  turn;
    char       *to = out[turn = (turn + 1) % 4];
    size_t      n  = 0;
    for (; s[n]; n++) {
        to[n] = isdigit((unsigned char) s[n])   ? '9'
                : isupper((unsigned char) s[n]) ? 'A'
                : islower((unsigned char) s[n]) ? 'a'
                                                : s[n];
    }
    to[n] = '\0';
    return to;
}

static void codes_keep_their_shape_and_their_checks(void)
{
    static const char *const cards[] = {"4111 1111 1111 1111", "378282246310005", "6011-1111-1111-1117"};
    static const char *const ibans[] = {"DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819",
                                        "FR1420041010050500013M02606"};
    for (int round = 0; round < 200; round++) {
        char marked[200];
        for (size_t i = 0; i < 3; i++) {
            snprintf(marked, sizeof marked, "[card|%s]", cards[i]);
            const char *s = said(marked)->sent[0];
            CHECK(luhn(s) && strcmp(pattern_of(s), pattern_of(cards[i])) == 0 && strcmp(s, cards[i]) != 0);
            snprintf(marked, sizeof marked, "[iban|%s]", ibans[i]);
            s = said(marked)->sent[0];
            CHECK(mod97(s) && memcmp(s, ibans[i], 2) == 0 && strcmp(pattern_of(s), pattern_of(ibans[i])) == 0);
        }
    }
    static const char *const others[][2] = {{"id", "X1234567L"},          {"secret", "ghp_Ab3dE5fG7hI9jK"},
                                            {"phone", "(020) 7946-0958"}, {"postcode", "SW1A 1AA"},
                                            {"account", "00123-456"},     {"number", "7,431.50"},
                                            {"money", "EUR 83.500"},      {"percent", "37.5%"},
                                            {"time", "23:59:01"},         {"date", "2024-05-03"},
                                            {"date", "12/31/1999"},       {"gps", "48.8566, 2.3522"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char marked[200];
        snprintf(marked, sizeof marked, "[%s|%s]", others[i][0], others[i][1]);
        const char *s = said(marked)->sent[0];
        CHECK(strcmp(pattern_of(s), pattern_of(others[i][1])) == 0 && strcmp(s, others[i][1]) != 0);
    }
    CHECK(strncmp(said("[phone|+44 20 7946 0958]")->sent[0], "+44 ", 4) == 0);
    CHECK(strncmp(said("[phone|+1-415-555-2671]")->sent[0], "+1-", 3) == 0);
    CHECK(strncmp(said("[money|USD 12.50]")->sent[0], "USD ", 4) == 0);
    CHECK(strncmp(said("[crypto|0x52908400098527886E0F]")->sent[0], "0x", 2) == 0);
}

static bool ends_with(const char *s, const char *end)
{
    return strlen(s) > strlen(end) && strcmp(s + strlen(s) - strlen(end), end) == 0;
}

static void machines_are_in_documentation_ranges(void)
{
    for (int round = 0; round < 50; round++) {
        const rig_text *t =
            said("[ip|10.1.2.3:8080] [ip|fe80::1] [host|a.b.acme.com] [email|bob@acme.com] [url|https://acme.com/a/b]");
        CHECK(strncmp(t->sent[0], "192.0.2.", 8) == 0 || strncmp(t->sent[0], "198.51.100.", 11) == 0 ||
              strncmp(t->sent[0], "203.0.113.", 10) == 0);
        CHECK(ends_with(t->sent[0], ":8080"));
        CHECK(strncmp(t->sent[1], "2001:db8:", 9) == 0);
        CHECK(ends_with(t->sent[2], ".example.com") || ends_with(t->sent[2], ".example.net") ||
              ends_with(t->sent[2], ".example.org"));
        CHECK(strlen(pattern_of(t->sent[2])) > 0 && strchr(strchr(t->sent[2], '.') + 1, '.') != NULL);
        CHECK(strchr(t->sent[3], '@') && strstr(t->sent[3], ".example."));
        CHECK(strncmp(t->sent[4], "https://", 8) == 0 && strstr(t->sent[4], ".example."));
    }
}

static void the_hour_of_a_time_stamp_does_not_leave(void)
{
    const rig_text *t = said("[date|2024-05-03T08:12:44Z] [date|2024-05-03T08:12:44Z] [date|2024-05-03]");
    CHECK(strlen(t->sent[0]) == 20 && t->sent[0][10] == 'T' && t->sent[0][19] == 'Z');
    CHECK(strncmp(t->sent[0] + 11, "08:12:44", 8) != 0);
    CHECK(strcmp(t->sent[0], t->sent[1]) == 0);
    CHECK(strncmp(t->sent[0], t->sent[2], 10) == 0);
}

/* A date keeps its weekday, and two dates the days between. */
static void dates_move_together(void)
{
    for (int round = 0; round < 100; round++) {
        const rig_text *t = said("[date|2024-05-03] [date|2024-06-12] [date|2024-05-03]");
        int32_t         days[2];
        for (int i = 0; i < 2; i++) {
            unsigned y = 0, m = 0, d = 0;
            CHECK(sscanf(t->sent[i], "%u-%u-%u", &y, &m, &d) == 3 && cmif_date_is(y * 10000 + m * 100 + d));
            days[i] = cmif_date_days(y * 10000 + m * 100 + d);
        }
        CHECK(days[1] - days[0] == 40 && (days[0] - cmif_date_days(20240503)) % 7 == 0);
        CHECK(strcmp(t->sent[0], t->sent[2]) == 0 && abs(days[0] - cmif_date_days(20240503)) >= 400);
    }
    for (int32_t day = -700000; day < 2900000; day += 37) {
        uint32_t date = cmif_date_of_days(day);
        CHECK(cmif_date_is(date) && cmif_date_days(date) == day);
    }
    CHECK(cmif_date_of_days(0) == 19700101 && cmif_date_days(20000301) == 11017 && !cmif_date_is(20230229));
}

static void variants_of_a_person_share_one_surrogate(void)
{
    const rig_text *t =
        said("[person|Maria Lopez], [person|MARIA LOPEZ], [person|Ms Lopez], [given|maria], [person|Lopez, Maria], "
             "[person|María López's], [email|maria.lopez@acme.com], [email|Maria@acme.com], [unknown|lopez]");
    char given[100], family[100], all[300];
    CHECK(sscanf(t->sent[0], "%99s %99s", given, family) == 2);
    CHECK(isupper((unsigned char) given[0]) && islower((unsigned char) given[1]));
    snprintf(all, sizeof all, "Ms %s", family);
    CHECK(strcmp(t->sent[2], all) == 0);
    snprintf(all, sizeof all, "%s, %s", family, given);
    CHECK(strcmp(t->sent[4], all) == 0);
    snprintf(all, sizeof all, "%s %s's", given, family);
    CHECK(strcmp(t->sent[5], all) == 0);
    CHECK(strcasecmp(t->sent[1], t->sent[0]) == 0 && strcmp(t->sent[1], t->sent[0]) != 0);
    CHECK(strcasecmp(t->sent[3], given) == 0 && islower((unsigned char) t->sent[3][0]));
    snprintf(all, sizeof all, "%s.%s@", given, family);
    CHECK(strncasecmp(t->sent[6], all, strlen(all)) == 0);
    CHECK(strcmp(strchr(t->sent[6], '@'), strchr(t->sent[7], '@')) == 0);
    CHECK(strcasecmp(t->sent[8], family) == 0);
    /* the e-mail first */
    t = said("[email|maria.lopez@acme.com] is [person|Maria Lopez]");
    CHECK(sscanf(t->sent[1], "%99s %99s", given, family) == 2);
    snprintf(all, sizeof all, "%s.%s@", given, family);
    CHECK(strncasecmp(t->sent[0], all, strlen(all)) == 0 && isupper((unsigned char) given[0]));
}

/* A name of the list keeps its gender by list. */
static void names_keep_their_gender(void)
{
    for (int round = 0; round < 100; round++) {
        const rig_text *t = said("[given|Maria] [given|John]");
        for (int i = 0; i < 2; i++) {
            char     fold[64];
            uint32_t flags = 0;
            size_t   n     = strlen(t->sent[i]);
            for (size_t k = 0; k <= n; k++) {
                fold[k] = (char) tolower((unsigned char) t->sent[i][k]);
            }
            CHECK(cmif_lists_find(lists, CMIF_LIST_GIVEN, (cmif_str){fold, n}, &flags) &&
                  (flags & 3) == (i == 0 ? 1u : 2u));
        }
    }
}

static void no_surrogate_is_written_taken_or_an_ordinary_word(void)
{
    /* A text of all the names but one, and of nearly all numbers of two digits: what is left is found, or a longer one.
     */
    char text[8192] = "astrid smith okafor ";
    for (int i = 10; i < 97; i++) {
        snprintf(text + strlen(text), 8, "%d ", i);
    }
    for (int i = 10; i < 99; i++) {
        snprintf(text + strlen(text), 32, i % 3 ? "[number|%d] " : "[percent|%d%%] ", i);
    }
    const rig_text *t = said(text);
    for (size_t i = 0; i < t->marked_count; i++) {
        char spaced[32], digits[16];
        snprintf(digits, sizeof digits, "%.*s", (int) strspn(t->sent[i], "0123456789"), t->sent[i]);
        snprintf(spaced, sizeof spaced, " %s ", digits);
        CHECK(!strstr(t->text, spaced));
        for (size_t k = 0; k < i; k++) {
            CHECK(strncmp(t->sent[k], digits, strlen(digits)) != 0 ||
                  isdigit((unsigned char) t->sent[k][strlen(digits)]));
        }
    }
    for (int round = 0; round < 200; round++) {
        t = said("astrid smith [given|Maria] [person|Lena Lopez] [place|Lyon] [unknown|Zyp]");
        for (size_t i = 0; i < t->marked_count; i++) {
            static const char *const never[] = {"Astrid",  "Smith", "Grace", "Mark", "Price",
                                                "Reading", "Lopez", "Maria", "Lyon"};
            for (size_t k = 0; k < sizeof never / sizeof *never; k++) {
                CHECK(!strstr(t->sent[i], never[k]));
            }
        }
    }
}

static void a_shape_with_no_value_left_is_refused(void)
{
    static rig_text t;
    cmif_vault     *vault     = NULL;
    cmif_err        err       = {0};
    char            text[256] = "0 1 2 3 4 5 6 7 8 9 [id|7]";
    CHECK(cmif_vault_new(lists, &vault, NULL) == CMIF_OK);
    CHECK(rig_send(&t, vault, text, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "id at byte 20") || strstr(err.text, "at byte 20"));
    CHECK(!strstr(err.text, "7"));
    rig_wipe(&t);
    cmif_vault_free(vault);
}

/* Whether the text holds the value as a value of its own: "3 May" is not in "13 May 2016", nor "7,431" in "$7,431.77",
 * nor "lopez" in "lopezo", which chance makes now and then. */
static bool stands_in(const char *text, const char *value)
{
    const char *digits = "0123456789";
    for (const char *at = strstr(text, value); at; at = strstr(at + 1, value)) {
        char before = at > text ? at[-1] : ' ', after = at[strlen(value)];
        bool number = strchr(digits, value[0]) != NULL;
        bool within = !number && (isalpha((unsigned char) before) || isalpha((unsigned char) after));
        bool longer =
            (before && strchr("0123456789$.,", before)) || (after && strchr("0123456789", after)) ||
            ((after == '.' || after == ',') && at[strlen(value) + 1] && strchr(digits, at[strlen(value) + 1]));
        if (number ? !longer : !within) {
            return true;
        }
    }
    return false;
}

/* Nothing that may hide a word leaves, and nothing of the original. */
static void nothing_of_the_original_leaves(void)
{
    for (int round = 0; round < 20; round++) {
        const rig_text *t = said(everything);
        char            out[4096];
        snprintf(out, sizeof out, "%.*s", (int) t->out.size, (const char *) t->out.data);
        static const char *const never[] = {
            "Maria",     "Lopez",      "BERGMANN",   "Okafor",    "Lyon",     "France",   "Halcyon",  "Zyprexol",
            "12b Holly", "Hollyoak",   "Greenfield", "lopez",     "acme",     "10.1.2.3", "fe80::1",  "7946 0958",
            "4111-1",    "DE89 3704",  "00123-456",  "X1234567L", "SW1A 1AA", "Ab3dE5",   "52908400", "48.8566",
            "2:35 pm",   "3 May 2021", "1,250",      "7,431",     "37%",      "Easter",   "twenty"};
        for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
            if (stands_in(out, never[i])) {
                fprintf(stderr, "'%s' is in '%s'\n", never[i], out);
            }
            CHECK(!stands_in(out, never[i]));
        }
    }
    CHECK(!strstr(said("[id|A1\u6771\u4eac]")->sent[0], "\u6771") && !strstr(said("[iban|\u00e9]")->sent[0], "\u00e9"));
    CHECK(!strstr(said("[given|Don]")->sent[0], "Don") && !strstr(said("[person|ben lopez]")->sent[0], "ben"));
    CHECK(!strstr(said("[address|12 North Street]")->sent[0], "North") &&
          strstr(said("[address|1 Hay Street]")->sent[0], "Street"));
    CHECK(!strncmp(said("[person|Dr. Maria de la Cruz Jr]")->sent[0], "Dr. ", 4));
    CHECK(strstr(said("[person|Dr. Maria de la Cruz Jr]")->sent[0], " de la ") &&
          ends_with(said("[person|Dr. Maria Cruz Jr]")->sent[0], " Jr"));
    const rig_text *t = said("[person|Ma\u200bria L\u03bfpez] [unknown|\xff] [place|Ly\u00adon]");
    CHECK(!strstr(t->sent[0], "\u200b") && !strstr(t->sent[2], "\u00ad") && strcmp(t->sent[1], "\ufffd") == 0);
}

/* A date that is none would be looked up beyond the months. */
static void a_saved_vault_with_another_date_than_we_make_is_refused(void)
{
    static const struct {
        unsigned from, to;
        bool     good;
    } all[] = {{20240503, 20220603, true},  {503, 603, true},
               {20240500, 20220600, true},  {0, 0, true},
               {98988403, 20220603, false}, {20240003, 20220603, false},
               {20240503, 20221303, false}, {20240532, 20220603, false},
               {0, 20220603, false},        {20240503, 0, false},
               {120240503, 20220603, false}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cmif_vault *vault = NULL;
        char        json[300];
        snprintf(json, sizeof json,
                 "{\"cmif-vault\": 1, \"shift\": 700, \"entries\": [{\"class\": \"date\", \"key\": \"df\", "
                 "\"original\": \"2024-05-03\", \"surrogate\": \"2022-06-03\", \"match\": \"exact\", \"from\": %u, "
                 "\"to\": %u}]}",
                 all[i].from, all[i].to);
        CHECK(cmif_vault_new(NULL, &vault, NULL) == CMIF_OK);
        CHECK(cmif_vault_read(vault, json, strlen(json), NULL) == (all[i].good ? CMIF_OK : CMIF_E_FORMAT));
        cmif_vault_free(vault);
    }
}

/* Broken bytes are three each when folded: a long code of them is cut between two. */
static void a_long_code_is_cut_between_characters(void)
{
    for (size_t n = 40; n < 50; n++) {
        static rig_text t;
        cmif_vault     *vault     = NULL;
        char            text[300] = "";
        snprintf(text, sizeof text, "[secret|%.*s", 1 + (int) (n % 3), "a1b");
        memset(text + strlen(text), 0xff, n);
        strcat(text, "b2]");
        CHECK(cmif_vault_new(lists, &vault, NULL) == CMIF_OK && rig_send(&t, vault, text, NULL) == CMIF_OK);
        for (size_t at = 0; at < t.out.size;) {
            utf8proc_int32_t c;
            utf8proc_ssize_t used = utf8proc_iterate(t.out.data + at, (utf8proc_ssize_t) (t.out.size - at), &c);
            CHECK(used > 0);
            at += used > 0 ? (size_t) used : 1;
        }
        rig_wipe(&t);
        cmif_vault_free(vault);
    }
}

static void a_saved_vault_restores_and_goes_on(void)
{
    static rig_text     t, again;
    cmif_vault         *vault = NULL, *other = NULL;
    cmif_secret         json = {0}, json2 = {0};
    cmif_restore_counts counts;
    CHECK(cmif_vault_new(lists, &vault, NULL) == CMIF_OK && cmif_vault_new(lists, &other, NULL) == CMIF_OK);
    CHECK(rig_send(&t, vault, everything, NULL) == CMIF_OK);
    CHECK(cmif_vault_write(vault, &json, NULL) == CMIF_OK);
    CHECK(cmif_vault_read(other, json.data, json.size, NULL) == CMIF_OK &&
          cmif_vault_count(other) == cmif_vault_count(vault));
    CHECK(cmif_vault_write(other, &json2, NULL) == CMIF_OK);
    CHECK(json.size == json2.size && memcmp(json.data, json2.data, json.size) == 0);

    cmif_secret back = rig_restore(other, false, t.out.data, t.out.size, 0, &counts);
    if (back.size != t.size || memcmp(back.data, t.text, t.size) != 0) {
        fprintf(stderr, "%.*s\n%.*s\n%.*s\n", (int) t.size, t.text, (int) t.out.size, (const char *) t.out.data,
                (int) back.size, (const char *) back.data);
    }
    CHECK(back.size == t.size && memcmp(back.data, t.text, t.size) == 0);
    CHECK(rig_send(&again, other, everything, NULL) == CMIF_OK);
    CHECK(again.out.size == t.out.size && memcmp(again.out.data, t.out.data, t.out.size) == 0);
    cmif_secret_wipe(&back);

    /* Every prefix, and most changed bytes, are no vault; what is refused leaves the old one as it was. */
    cmif_err err    = {0};
    size_t   before = cmif_vault_count(other);
    for (size_t size = 0; size + 1 < json.size; size += 7) {
        CHECK(cmif_vault_read(other, json.data, size, &err) == CMIF_E_FORMAT && cmif_vault_count(other) == before);
    }
    CHECK(strstr(err.text, "byte"));
    rig_wipe(&t);
    rig_wipe(&again);
    cmif_secret_wipe(&json);
    cmif_secret_wipe(&json2);
    cmif_vault_free(vault);
    cmif_vault_free(other);
}

/* Whether the bytes are anywhere in memory that this process may write, but for those at `own`. */
static bool in_memory(const char *needle, const void *own)
{
    static char piece[1 << 16];
    FILE       *maps = fopen("/proc/self/maps", "r");
    int         mem  = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char        line[512];
    size_t      n = strlen(needle), read = 0;
    bool        found = false;
    CHECK(maps != NULL && mem >= 0);
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char          mode[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || mode[0] != 'r' || mode[1] != 'w') {
            continue;
        }
        for (; from < to; from += sizeof piece - 64) {
            ssize_t got = pread(mem, piece, to - from < sizeof piece ? to - from : sizeof piece, (off_t) from);
            for (ssize_t i = 0; i + (ssize_t) n <= got; i++) {
                uintptr_t at   = from + (uintptr_t) i;
                bool      here = at + n > (uintptr_t) piece && at < (uintptr_t) piece + sizeof piece;
                found          = found || (!here && at != (uintptr_t) own && memcmp(piece + i, needle, n) == 0);
            }
            read += got > 0 ? (size_t) got : 0;
        }
    }
    CHECK(read > 1 << 16);
    if (maps) {
        fclose(maps);
    }
    if (mem >= 0) {
        close(mem);
    }
    return found;
}

static void a_freed_vault_leaves_nothing_in_memory(void)
{
#ifdef UNDER_ASAN
    (void) in_memory;
    printf("       not under ASan\n");
#else
    static rig_text t;
    cmif_vault     *vault    = NULL;
    cmif_restore   *r        = NULL;
    char            marked[] = "[unknown|wvzcanaryqx]", needle[16];
    cmif_secret     out      = {0};
    memcpy(needle, marked + 9, 11);
    needle[11] = '\0';
    CHECK(cmif_vault_new(lists, &vault, NULL) == CMIF_OK && rig_send(&t, vault, marked, NULL) == CMIF_OK);
    cmif_wipe(marked, sizeof marked);
    CHECK(cmif_restore_new(vault, false, &r, NULL) == CMIF_OK);
    CHECK(cmif_restore_feed(r, t.sent[0], strlen(t.sent[0]), &out, NULL) == CMIF_OK);
    CHECK(cmif_restore_feed(r, " ", 1, &out, NULL) == CMIF_OK && memcmp(out.data, needle, 11) == 0);
    CHECK(in_memory(needle, needle));
    cmif_secret_wipe(&out);
    cmif_restore_free(r);
    rig_wipe(&t);
    cmif_vault_free(vault);
    CHECK(!in_memory(needle, needle));
#endif
}

static void the_nth_allocation_may_fail(void)
{
    bool done = false;
    for (long n = 0; !done && n < 400; n++) {
        static rig_text     t;
        cmif_vault         *vault = NULL;
        cmif_restore       *r     = NULL;
        cmif_secret         json = {0}, out = {0};
        cmif_restore_counts counts = {0};
        allocations_left           = n;
        cmif_code rc               = cmif_vault_new(lists, &vault, NULL);
        rc                         = rc == CMIF_OK ? rig_send(&t, vault, everything, NULL) : rc;
        rc                         = rc == CMIF_OK ? cmif_vault_write(vault, &json, NULL) : rc;
        rc                         = rc == CMIF_OK ? cmif_vault_read(vault, json.data, json.size, NULL) : rc;
        rc                         = rc == CMIF_OK ? cmif_restore_new(vault, true, &r, NULL) : rc;
        rc                         = rc == CMIF_OK ? cmif_restore_feed(r, t.out.data, t.out.size, &out, NULL) : rc;
        rc                         = rc == CMIF_OK ? cmif_restore_end(r, &out, &counts, NULL) : rc;
        done                       = allocations_left >= 0;
        allocations_left           = -1;
        CHECK(rc == (done ? CMIF_OK : CMIF_E_MEMORY));
        cmif_restore_free(r);
        cmif_secret_wipe(&json);
        cmif_secret_wipe(&out);
        rig_wipe(&t);
        cmif_vault_free(vault);
    }
    CHECK(done);
}

int main(void)
{
    lists = rig_lists();
    RUN(codes_keep_their_shape_and_their_checks);
    RUN(machines_are_in_documentation_ranges);
    RUN(the_hour_of_a_time_stamp_does_not_leave);
    RUN(dates_move_together);
    RUN(variants_of_a_person_share_one_surrogate);
    RUN(names_keep_their_gender);
    RUN(no_surrogate_is_written_taken_or_an_ordinary_word);
    RUN(a_shape_with_no_value_left_is_refused);
    RUN(nothing_of_the_original_leaves);
    RUN(a_saved_vault_with_another_date_than_we_make_is_refused);
    RUN(a_long_code_is_cut_between_characters);
    RUN(a_saved_vault_restores_and_goes_on);
    RUN(a_freed_vault_leaves_nothing_in_memory);
    RUN(the_nth_allocation_may_fail);
    cmif_lists_free(lists);
    return check_report();
}
