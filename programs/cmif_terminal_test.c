#define _XOPEN_SOURCE 700 /* posix_openpt */

#include "cmif_terminal.h"

#include "base/check.h"
#include "cmif_options.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the stream made of bytes that came in pieces of `piece`. The caller wipes it. */
static cmif_secret streamed(const char *bytes, size_t size, size_t piece, bool trim)
{
    cmif_stream s = {.trim = trim};
    for (size_t at = 0; at < size; at += piece) {
        CHECK(cmif_stream_put(&s, bytes + at, size - at < piece ? size - at : piece, NULL) == CMIF_OK);
        CHECK(cmif_check_utf8(s.kept.data, s.kept.size, NULL) == CMIF_OK); /* never half a code point */
    }
    CHECK(cmif_stream_end(&s, NULL) == CMIF_OK);
    cmif_secret kept = s.kept;
    s.kept           = (cmif_secret){0};
    cmif_stream_wipe(&s);
    return kept;
}

static bool comes_out_as(const char *bytes, size_t size, const char *wanted)
{
    bool same = true;
    for (size_t piece = 1; piece <= size; piece++) {
        cmif_secret kept = streamed(bytes, size, piece, false);
        same             = same && kept.size == strlen(wanted) && !memcmp(kept.data, wanted, kept.size);
        cmif_secret_wipe(&kept);
    }
    return same;
}

#define COMES_OUT_AS(bytes, wanted) CHECK(comes_out_as(bytes, sizeof(bytes) - 1, wanted))
#define BAD "\xef\xbf\xbd"

static void whole_code_points_come_out_however_the_bytes_arrive(void)
{
    COMES_OUT_AS("plain", "plain");
    COMES_OUT_AS("gl\xc3\xbc\x63klich \xe2\x82\xac \xf0\x9f\x90\xb3.",
                 "gl\xc3\xbc\x63klich \xe2\x82\xac \xf0\x9f\x90\xb3.");
    COMES_OUT_AS("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf");
}

static void bytes_that_are_no_utf8_are_replaced(void)
{
    COMES_OUT_AS("a\xff-", "a" BAD "-");
    COMES_OUT_AS("\xc0\xaf", BAD BAD);                 /* overlong */
    COMES_OUT_AS("\xed\xa0\x80", BAD BAD BAD);         /* a surrogate */
    COMES_OUT_AS("\xf4\x90\x80\x80", BAD BAD BAD BAD); /* beyond U+10FFFF */
    COMES_OUT_AS("\xe2\x82", BAD);                     /* cut at the end */
    COMES_OUT_AS("\xe2\x82x", BAD "x");
    COMES_OUT_AS("\xf0\x9f\xe2\x82\xac", BAD "\xe2\x82\xac");
}

static void leading_white_space_of_an_answer_is_dropped(void)
{
    cmif_secret kept = streamed(" \n a b ", 7, 1, true);
    CHECK(kept.size == 4 && !memcmp(kept.data, "a b ", 4));
    cmif_secret_wipe(&kept);
}

static void a_terminal_does_not_obey_an_answer(void)
{
    char        shown[128] = {0};
    int         master     = posix_openpt(O_RDWR | O_NOCTTY);
    cmif_stream s          = {0};
    const char  evil[]     = "ok\tso\033]0;title\007\xc2\x9b"
                             "31m\x7f!";

    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    s.to = fopen(ptsname(master), "we");
    CHECK(s.to && isatty(fileno(s.to)));
    if (s.to) {
        CHECK(cmif_stream_put(&s, evil, sizeof evil - 1, NULL) == CMIF_OK);
        CHECK(read(master, shown, sizeof shown - 1) > 0);
        CHECK(!strchr(shown, 27) && !strchr(shown, 7) && !strchr(shown, 127) && !strstr(shown, "\xc2\x9b"));
        CHECK(strstr(shown, "so" BAD "]0;title" BAD BAD "31m" BAD "!"));
        CHECK(s.kept.size == sizeof evil - 1); /* what is kept, for the next turn, is what came */
        fclose(s.to);
        s.to = NULL;
    }
    cmif_stream_wipe(&s);
    close(master);
}

static void text_that_is_no_utf8_is_refused_with_its_position(void)
{
    cmif_err err = {0};
    CHECK(cmif_check_utf8("", 0, NULL) == CMIF_OK);
    CHECK(cmif_check_utf8("a\0b\xc3\xbc", 5, NULL) == CMIF_OK);
    CHECK(cmif_check_utf8("a\0b\xc3", 4, &err) == CMIF_E_FORMAT && strstr(err.text, "byte 3 of 4"));
}

static void an_argument_is_blanked_where_others_can_see_it(void)
{
    char        argument[] = "zebrafinch";
    cmif_secret text       = {0};
    CHECK(cmif_take_argument(argument, &text, NULL) == CMIF_OK);
    CHECK(text.size == 10 && !memcmp(text.data, "zebrafinch", 10));
    for (size_t i = 0; i < sizeof argument; i++) {
        CHECK(argument[i] == 0);
    }
    cmif_secret_wipe(&text);
}

static void options_are_taken_in_every_form(void)
{
    bool               flag      = false;
    const char        *text      = NULL;
    uint32_t           count     = 7;
    float              real      = 0;
    uint64_t           seed      = 0;
    const cmif_option  options[] = {{'f', "flag", NULL, CMIF_OPTION_FLAG, &flag, 0, 0, ""},
                                    {'t', "text", "T", CMIF_OPTION_TEXT, &text, 0, 0, ""},
                                    {'n', "count", "N", CMIF_OPTION_COUNT, &count, 1, 99, ""},
                                    {0, "real", "R", CMIF_OPTION_REAL, &real, 0, 2, ""},
                                    {0, "seed", "S", CMIF_OPTION_SEED, &seed, 0, 0, ""}};
    const cmif_command command   = {"test", "", "", options, 5, NULL};
    char *argv[] = {"one", "-f", "-n5", "--text=a=b", "-", "--real", "0.5", "--seed", "18446744073709551615",
                    "--",  "-n"};
    int   rest   = 0;

    CHECK(cmif_options_parse(&command, 11, argv, &rest, NULL) == CMIF_OK);
    CHECK(flag && count == 5 && !strcmp(text, "a=b") && real == 0.5f && seed == UINT64_MAX);
    CHECK(rest == 3 && !strcmp(argv[0], "one") && !strcmp(argv[1], "-") && !strcmp(argv[2], "-n"));

    static const char *const wrong[] = {"-n0",      "-n100",     "-nx",        "-n",        "--count=", "--real=nan",
                                        "--real=3", "--seed=-1", "--flag=yes", "--unknown", "-x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char  word[16];
        char *one[] = {word};
        snprintf(word, sizeof word, "%s", wrong[i]);
        rest = 77;
        CHECK(cmif_options_parse(&command, 1, one, &rest, NULL) == CMIF_E_RANGE && rest == 77);
    }
}

static void the_nearest_word_is_offered_and_a_text_is_never_repeated(void)
{
    static const char *const words[] = {"model", "temp", "tokens", "pin"};
    CHECK(!strcmp(cmif_nearest("modle", words, 4), "model"));
    CHECK(!strcmp(cmif_nearest("temperature", words, 4), "temp"));
    CHECK(!cmif_nearest("entirely", words, 4));
    CHECK(!cmif_nearest("xy", words, 4));
    CHECK(cmif_printable_word("model-2") && !cmif_printable_word("my secret") && !cmif_printable_word(""));
    CHECK(!cmif_printable_word("a-very-long-word-that-is-rather-a-key"));
}

int main(void)
{
    RUN(whole_code_points_come_out_however_the_bytes_arrive);
    RUN(bytes_that_are_no_utf8_are_replaced);
    RUN(leading_white_space_of_an_answer_is_dropped);
    RUN(a_terminal_does_not_obey_an_answer);
    RUN(text_that_is_no_utf8_is_refused_with_its_position);
    RUN(an_argument_is_blanked_where_others_can_see_it);
    RUN(options_are_taken_in_every_form);
    RUN(the_nearest_word_is_offered_and_a_text_is_never_repeated);
    return check_report();
}
