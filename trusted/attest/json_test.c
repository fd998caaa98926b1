#include "attest/json.h"

#include "base/check.h"
#include "base/check_memory.h"

#include <string.h>

static cmif_code parse(const char *text, cmif_json *json)
{
    return cmif_json_parse((const uint8_t *) text, strlen(text), json, NULL);
}

static void values_keep_their_exact_bytes(void)
{
    cmif_json   json;
    const char *text;
    size_t      size;
    uint64_t    number;
    CHECK(parse(" { \"a\" : [ 1 , {\"b\":\"x\"} , [] ] ,\"c\":{ }, \"d\" : true }\n", &json) == CMIF_OK);
    uint32_t a = cmif_json_get(&json, 0, "a"), c = cmif_json_get(&json, 0, "c");
    CHECK(json.nodes[a].size == 22 && !memcmp(json.text + json.nodes[a].start, "[ 1 , {\"b\":\"x\"} , [] ]", 22));
    CHECK(json.nodes[c].size == 3 && json.nodes[0].start == 1);
    uint32_t one = cmif_json_first(&json, a), two = cmif_json_after(&json, a, one),
             three = cmif_json_after(&json, a, two);
    CHECK(cmif_json_uint(&json, one, 1, &number) && number == 1);
    CHECK(cmif_json_text(&json, cmif_json_get(&json, two, "b"), &text, &size) && size == 1 && *text == 'x');
    CHECK(cmif_json_after(&json, a, three) == CMIF_JSON_NONE && cmif_json_first(&json, three) == CMIF_JSON_NONE);
    CHECK(cmif_json_get(&json, 0, "b") == CMIF_JSON_NONE && cmif_json_get(&json, a, "b") == CMIF_JSON_NONE);
    CHECK(cmif_json_get(&json, CMIF_JSON_NONE, "b") == CMIF_JSON_NONE && !cmif_json_is(&json, CMIF_JSON_NONE, ""));
    CHECK(cmif_json_first(&json, c) == CMIF_JSON_NONE && !cmif_json_is(&json, cmif_json_get(&json, 0, "d"), "true"));
    cmif_json_wipe(&json);
}

static void what_is_not_json_is_refused(void)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "}",
                                      "[",
                                      "]",
                                      "{]",
                                      "[}",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "[1,,2]",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{\"a\" 1}",
                                      "{\"a\":1 \"b\":2}",
                                      "{1:1}",
                                      "{a:1}",
                                      "{,}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":1,\"b\":2,\"a\":{}}",
                                      "{\"\\u0061\":1}",
                                      "1 2",
                                      "1,",
                                      "{} {}",
                                      "[1]x",
                                      "tru",
                                      "truee",
                                      "True",
                                      "nul",
                                      "NaN",
                                      "Infinity",
                                      "+1",
                                      "01",
                                      "-",
                                      "-01",
                                      "1.",
                                      ".5",
                                      "1.e1",
                                      "1e",
                                      "1e+",
                                      "0x10",
                                      "\"",
                                      "\"a",
                                      "\"\\\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\u12G4\"",
                                      "\"a\nb\"",
                                      "\"\x7f\"",
                                      "\"\xc3\xa4\"",
                                      "'a'",
                                      "/**/1",
                                      "\xef\xbb\xbf{}",
                                      "[\"a\":1]",
                                      "{\"a\":1]",
                                      "[1}",
                                      "{\"\"}",
                                      "{\"a\"::1}"};
    cmif_json                json  = {.count = 77};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(parse(bad[i], &json) == CMIF_E_FORMAT);
        CHECK(json.count == 77);
    }
    CHECK(cmif_json_parse((const uint8_t *) "{}\0", 3, &json, NULL) == CMIF_E_FORMAT);
    static const char *const good[] = {"{}",
                                       "[]",
                                       "0",
                                       "-0",
                                       "-1.5e-7",
                                       "1E5",
                                       "\"\"",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\"",
                                       "true",
                                       "false",
                                       "null",
                                       "\t[\r\n]",
                                       "{\"a\":{\"a\":1},\"b\":{\"a\":1}}",
                                       "[[],{},[{}]]",
                                       "{\"\":1}"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK(parse(good[i], &json) == CMIF_OK);
        cmif_json_wipe(&json);
    }
}

static void depth_members_and_values_are_bounded(void)
{
    static char text[1 << 20];
    cmif_json   json;
    for (size_t depth = CMIF_JSON_DEPTH; depth <= CMIF_JSON_DEPTH + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        text[2 * depth] = 0;
        CHECK(parse(text, &json) == (depth == CMIF_JSON_DEPTH ? CMIF_OK : CMIF_E_RANGE));
        if (depth == CMIF_JSON_DEPTH) {
            cmif_json_wipe(&json);
        }
    }
    for (int members = CMIF_JSON_MEMBERS; members <= CMIF_JSON_MEMBERS + 1; members++) {
        int at = 0;
        for (int i = 0; i < members; i++) {
            at += snprintf(text + at, 32, "%s\"k%d\":0", i ? "," : "{", i);
        }
        snprintf(text + at, 2, "}");
        CHECK(parse(text, &json) == (members == CMIF_JSON_MEMBERS ? CMIF_OK : CMIF_E_RANGE));
        if (members == CMIF_JSON_MEMBERS) {
            cmif_json_wipe(&json);
        }
    }
    memset(text, '[', sizeof text); /* a megabyte of them takes no stack and no memory to speak of */
    CHECK(cmif_json_parse((const uint8_t *) text, sizeof text, &json, NULL) == CMIF_E_RANGE);
    for (size_t i = 1; i < sizeof text; i++) {
        text[i] = i % 2 ? '0' : ',';
    }
    text[0] = '[';
    CHECK(cmif_json_parse((const uint8_t *) text, sizeof text, &json, NULL) ==
          CMIF_E_RANGE); /* more than CMIF_JSON_NODES */
}

static void numbers_hexadecimals_and_times_have_one_form(void)
{
    static const struct {
        const char *text;
        int64_t     seconds; /* -1: none */
    } times[] = {{"1970-01-01T00:00:00Z", 0},
                 {"2025-06-15T15:06:40Z", 1750000000},
                 {"2000-02-29T23:59:59Z", 951868799},
                 {"2024-02-29T00:00:00Z", 1709164800},
                 {"9999-12-31T23:59:59Z", 253402300799},
                 {"2038-01-19T03:14:08Z", 2147483648},
                 {"2100-02-29T00:00:00Z", -1},
                 {"2023-02-29T00:00:00Z", -1},
                 {"2023-00-01T00:00:00Z", -1},
                 {"2023-13-01T00:00:00Z", -1},
                 {"2023-04-31T00:00:00Z", -1},
                 {"2023-04-00T00:00:00Z", -1},
                 {"2023-04-01T24:00:00Z", -1},
                 {"2023-04-01T00:60:00Z", -1},
                 {"2023-04-01T00:00:60Z", -1},
                 {"1969-12-31T23:59:59Z", -1},
                 {"2023-04-01T00:00:00z", -1},
                 {"2023-04-01t00:00:00Z", -1},
                 {"2023-04-01T00:00:00", -1},
                 {"2023-04-01T00:00:00ZZ", -1},
                 {"2023-4-01T00:00:00Z0", -1},
                 {"2023-04-01T00:00:0 Z", -1},
                 {"", -1}};
    cmif_json json;
    uint64_t  number = 77;
    int64_t   seconds;
    uint8_t   bytes[2];
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "\"%s\"", times[i].text);
        CHECK(parse(text, &json) == CMIF_OK);
        CHECK(cmif_json_time(&json, 0, &seconds) == (times[i].seconds >= 0));
        CHECK(times[i].seconds < 0 || seconds == times[i].seconds);
        cmif_json_wipe(&json);
    }
    static const char *const not_numbers[] = {
        "-1", "-0", "1.0", "1e2", "\"1\"", "256", "18446744073709551616", "99999999999999999999999", "true", "[]"};
    for (size_t i = 0; i < sizeof not_numbers / sizeof not_numbers[0]; i++) {
        CHECK(parse(not_numbers[i], &json) == CMIF_OK && !cmif_json_uint(&json, 0, 255, &number) && number == 77);
        cmif_json_wipe(&json);
    }
    CHECK(parse("18446744073709551615", &json) == CMIF_OK && cmif_json_uint(&json, 0, UINT64_MAX, &number) &&
          number == UINT64_MAX);
    cmif_json_wipe(&json);
    CHECK(parse("18446744073709551616", &json) == CMIF_OK && !cmif_json_uint(&json, 0, UINT64_MAX, &number));
    cmif_json_wipe(&json);
    CHECK(parse("\"aBCd\"", &json) == CMIF_OK && cmif_json_hex(&json, 0, bytes, 2) && bytes[0] == 0xab &&
          bytes[1] == 0xcd && !cmif_json_hex(&json, 0, bytes, 1));
    cmif_json_wipe(&json);
    CHECK(parse("\"abc\\u0064\"", &json) == CMIF_OK &&
          !cmif_json_hex(&json, 0, bytes, 2)); /* escaped: not its own meaning */
    cmif_json_wipe(&json);
    const char *text;
    size_t      size;
    CHECK(parse("\"a\\/b\"", &json) == CMIF_OK && !cmif_json_text(&json, 0, &text, &size) &&
          !cmif_json_is(&json, 0, "a\\/b"));
    cmif_json_wipe(&json);
}

static void no_memory_is_said(void)
{
    cmif_json json;
    allocations_left = 0;
    CHECK(parse("{}", &json) == CMIF_E_MEMORY);
    allocations_left = -1;
}

int main(void)
{
    RUN(values_keep_their_exact_bytes);
    RUN(what_is_not_json_is_refused);
    RUN(depth_members_and_values_are_bounded);
    RUN(numbers_hexadecimals_and_times_have_one_form);
    RUN(no_memory_is_said);
    return check_report();
}
