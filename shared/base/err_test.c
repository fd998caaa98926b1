#include "base/check.h"
#include "base/err.h"

#include <string.h>

static void a_failure_says_code_text_and_place(void)
{
    cmif_err  err = {0};
    cmif_code rc  = cmif_fail(&err, CMIF_E_FORMAT, "data ends at byte %d, file has %d", 100, 50);
    CHECK(rc == CMIF_E_FORMAT && err.code == CMIF_E_FORMAT);
    CHECK(strcmp(err.text, "data ends at byte 100, file has 50") == 0);
    CHECK(err.where && strstr(err.where, "err_test.c:"));
    CHECK(cmif_fail(NULL, CMIF_E_IO, "nobody listens") == CMIF_E_IO);
    cmif_err_context(NULL, "nobody listens");
}

static void each_layer_puts_its_noun_in_front(void)
{
    cmif_err err;
    (void) cmif_fail(&err, CMIF_E_IO, "no such file");
    cmif_err_context(&err, "table '%s'", "m.gguf");
    cmif_err_context(&err, "model");
    CHECK(strcmp(err.text, "model: table 'm.gguf': no such file") == 0 && err.code == CMIF_E_IO);
}

static void the_cause_stays_when_room_runs_out(void)
{
    cmif_err err;
    char     noun[400];
    memset(noun, 'n', sizeof noun);
    noun[399] = '\0';

    for (int cause = 0; cause < 300; cause++) {
        char text[400];
        memset(text, 'c', sizeof text);
        text[cause] = '\0';
        (void) cmif_fail(&err, CMIF_E_IO, "%s", text);
        const size_t before = strlen(err.text);
        CHECK(before == (cause < 256 ? (size_t) cause : 255)); /* a text is cut at the end */
        cmif_err_context(&err, "%s", noun);
        const size_t after = strlen(err.text);
        CHECK(after < sizeof err.text && memcmp(err.text + after - before, text, before) == 0);
        if (before < 250) {
            CHECK(after == sizeof err.text - 1 && err.text[0] == 'n' &&
                  memcmp(err.text + after - before - 2, ": ", 2) == 0);
        }
        cmif_err_context(&err, "once more");
        CHECK(strlen(err.text) >= after && strlen(err.text) < sizeof err.text);
    }
}

static void every_code_has_a_word_of_its_own(void)
{
    for (int a = CMIF_OK; a <= CMIF_E_CANCELLED; a++) {
        CHECK(strcmp(cmif_code_name((cmif_code) a), "unknown") != 0);
        for (int b = CMIF_OK; b < a; b++) {
            CHECK(strcmp(cmif_code_name((cmif_code) a), cmif_code_name((cmif_code) b)) != 0);
        }
    }
    CHECK(strcmp(cmif_code_name((cmif_code) (CMIF_E_CANCELLED + 1)), "unknown") == 0);
    CHECK(strcmp(cmif_code_name((cmif_code) -1), "unknown") == 0);
}

int main(void)
{
    RUN(a_failure_says_code_text_and_place);
    RUN(each_layer_puts_its_noun_in_front);
    RUN(the_cause_stays_when_room_runs_out);
    RUN(every_code_has_a_word_of_its_own);
    return check_report();
}
