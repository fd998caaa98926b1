#include "cmif_verdict.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static cmif_verdict verdict;

static char *printed(void)
{
    char  *text = NULL;
    size_t size = 0;
    FILE  *to   = open_memstream(&text, &size);
    if (to) {
        cmif_verdict_print(&verdict, to);
        fclose(to);
    }
    return text;
}

static void add_field(const char *name, const char *value)
{
    cmif_attest_field *field = &verdict.fields[verdict.field_count++];
    snprintf(field->name, sizeof field->name, "%s", name);
    snprintf(field->value, sizeof field->value, "%s", value);
}

/* Names in certificates are others' text: a terminal must not obey them, and the JSON must stay whole. */
static void text_of_others_is_not_obeyed(void)
{
    verdict = (cmif_verdict){.outcome = CMIF_REJECTED, .tee = CMIF_TEE_SNP};
    add_field("csp_id", "CN=\033[2J\r\nevil");
    add_field("product", "\xff\xfe broken");
    (void) cmif_fail(&verdict.sentence, CMIF_E_TRUST, "found '\033]0;x\a\xc3'");
    char *text = printed();
    CHECK(text && !strchr(text, '\033') && !strchr(text, '\a') && !strchr(text, '\r') && strstr(text, "evil"));
    free(text);
    json_t *object = cmif_verdict_json(&verdict);
    CHECK(object && json_string_value(json_object_get(object, "sentence")));
    CHECK(json_string_value(json_object_get(json_object_get(object, "fields"), "product")));
    json_decref(object);
}

static void a_line_never_leaves_its_room(void)
{
    verdict = (cmif_verdict){.outcome    = CMIF_REJECTED,
                             .tee        = CMIF_TEE_TDX,
                             .tcb_status = CMIF_TCB_OUT_OF_DATE,
                             .tcb_date   = 1710288000,
                             .debug      = true};
    for (size_t i = 0; i < CMIF_REASONS_MAX; i++) {
        snprintf(verdict.reasons[verdict.reason_count++], CMIF_REASON_SIZE,
                 "reason-%zu-that-is-rather-long-for-a-word-of-its-kind", i);
    }
    for (size_t room = 1; room < 300; room++) {
        char line[301];
        memset(line, 'x', sizeof line);
        cmif_verdict_line(&verdict, line, room);
        CHECK(memchr(line, 0, room) && line[room] == 'x');
    }
    char line[300];
    cmif_verdict_line(&verdict, line, sizeof line);
    CHECK(!strncmp(line, "rejected: Intel TDX, TCB OutOfDate of 2024-03-13, DEBUG; why: reason-0-", 71));
}

/* Every word that docs/attestation.md tells of has a sentence for a person. */
static void every_word_has_a_meaning(void)
{
    char   line[4096];
    size_t words = 0;
    bool   there = false;
    FILE  *page  = fopen(CMIF_SOURCE_DIR "/docs/attestation.md", "r");
    CHECK(page);
    while (page && fgets(line, sizeof line, page)) {
        there            = !strncmp(line, "| reason |", 10) || (there && line[0] == '|'); /* until the table ends */
        const bool  more = !strncmp(line, "| `invalid-", 11); /* errors stand in its second column */
        const char *stop = more ? line + strlen(line) : strchr(line + 2, '|');
        for (char *at = strchr(line, '`'); there && at && at < stop; at = strchr(at, '`')) {
            char *end = strchr(at + 1, '`');
            if (!end) {
                break;
            }
            *end = '\0';
            if (!strstr(at, "...") && !strstr(at, "STATUS")) {
                words++;
                CHECK(cmif_reason_meaning(at + 1));
                if (!cmif_reason_meaning(at + 1)) {
                    fprintf(stderr, "  %s\n", at + 1);
                }
            }
            at = end + 1;
        }
    }
    if (page) {
        fclose(page);
    }
    CHECK(words > 80);
    CHECK(!cmif_reason_meaning("no such word"));
}

static void times_have_one_form(void)
{
    int64_t when = 7;
    CHECK(cmif_time_read("2025-06-20", &when) && when == 1750377600);
    CHECK(cmif_time_read("2025-06-20T00:00:01Z", &when) && when == 1750377601);
    static const char *const bad[] = {"",
                                      "2025",
                                      "2025-6-20",
                                      "2025-02-29",
                                      "2025-06-20T24:00:00Z",
                                      "2025-06-20T00:00:00",
                                      "2025-06-20 00:00:00Z",
                                      "1969-12-31",
                                      "2025-06-20Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        when = 7;
        CHECK(!cmif_time_read(bad[i], &when) && when == 7);
    }
}

int main(void)
{
    RUN(text_of_others_is_not_obeyed);
    RUN(a_line_never_leaves_its_room);
    RUN(every_word_has_a_meaning);
    RUN(times_have_one_form);
    return check_report();
}
