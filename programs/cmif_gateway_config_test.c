/* What a file for the gateway may say, and what becomes of what may not. */
#include "cmif_gateway_config.h"

#include "base/check.h"

#include <string.h>

static cmif_gateway_config c;
static cmif_err            err;

static cmif_code read_text(const char *text)
{
    cmif_gateway_config_wipe(&c);
    err = (cmif_err){0};
    return cmif_gateway_config_parse(text, strlen(text), &c, &err);
}

#define SECTION "upstream one\n  url http://127.0.0.1:1\n  model there\n"

static void what_is_not_said_is_as_by_default(void)
{
    CHECK(read_text(SECTION) == CMIF_OK);
    CHECK(!strcmp(c.listen, "127.0.0.1:8800") && c.conversations == 1000 && c.idle == 3600 && c.silence == 120);
    CHECK(!c.keys && !c.tls_cert && !c.guard.policy && c.policy_count == 0 && c.upstream_count == 1);
    CHECK(c.upstreams[0].kind == CMIF_KIND_OPENAI && c.upstreams[0].weight == 1 && c.upstreams[0].line == 1);
}

static void values_may_be_quoted_and_lines_explained(void)
{
    CHECK(read_text("  # nothing\n\tkeys \"a b#c\"\t# whose\r\nlisten\t[::1]:0\r\n" SECTION) == CMIF_OK);
    CHECK(!strcmp(c.keys, "a b#c") && !strcmp(c.listen, "[::1]:0"));
    CHECK(read_text("keys \"\"\n" SECTION) == CMIF_OK && !strcmp(c.keys, ""));
    CHECK(read_text("keys a\"b\n" SECTION) == CMIF_OK && !strcmp(c.keys, "a\"b"));
    CHECK(read_text("keys \"a\"b\n" SECTION) == CMIF_E_FORMAT);
}

static void a_section_begins_as_the_lines_above_all_say_and_ends_at_the_next(void)
{
    CHECK(read_text("ca above\nsilence 9\nsessions 7\n"
                    "upstream one\n url http://127.0.0.1:1\n model a\n ca own\n weight 1000\n"
                    "upstream two\n server unix:/s\n model b\n"
                    "upstream one\n kind vllm\n any-version yes\n served c\n url http://127.0.0.1:2\n model c\n") ==
          CMIF_OK);
    const cmif_config_upstream *u = c.upstreams;
    CHECK(c.upstream_count == 3 && c.silence == 9);
    if (c.upstream_count != 3) {
        return;
    }
    CHECK(!strcmp(u[0].there.ca, "own") && u[0].weight == 1000 && u[0].kind == CMIF_KIND_OPENAI);
    CHECK(!strcmp(u[1].there.ca, "above") && u[1].weight == 1 && u[1].kind == CMIF_KIND_CMIF && !u[1].url);
    CHECK(u[1].there.sessions == 7 && !strcmp(u[1].name, "two") && u[1].line == 9);
    CHECK(u[2].kind == CMIF_KIND_VLLM && u[2].any_version && !u[1].any_version && !strcmp(u[2].served, "c"));
    for (size_t i = 0; i < 3; i++) {
        CHECK(!strcmp(u[i].there.guard.policy, "none")); /* what leaves was released before */
    }
}

static void policies_have_names(void)
{
    CHECK(read_text("policy strict\npolicy strict words\npolicy file \"/a b.policy\"\n" SECTION) == CMIF_OK);
    CHECK(c.policy_count == 2 && !strcmp(c.guard.policy, "strict"));
    CHECK(!strcmp(c.policies[1].name, "file") && !strcmp(c.policies[1].what, "/a b.policy"));
    CHECK(read_text("policy none words\n" SECTION) == CMIF_E_FORMAT);
    CHECK(read_text("policy a/b words\n" SECTION) == CMIF_E_FORMAT);
    CHECK(read_text(SECTION "policy late words\n") == CMIF_E_FORMAT);
    CHECK(read_text("policy channel\n" SECTION) == CMIF_E_RANGE);
}

static void what_is_refused_says_its_line_and_changes_nothing(void)
{
    static const struct {
        const char *text, *line;
    } bad[] = {{"keyz a\n" SECTION, "line 1:"},
               {"keys a\nkeys b\n" SECTION, "line 2:"},
               {SECTION "keys a\n", "line 4:"},
               {SECTION "url b\n", "line 4:"},
               {SECTION "upstream\n", "line 4:"},
               {SECTION "upstream \"\"\n", "line 4:"},
               {SECTION "upstream two\n url http://127.0.0.1:1\n\n\n#\nupstream three\n", "line 4:"},
               {"upstream one\n kind cmif\n url u\n model m\n", "line 1:"},
               {"upstream one\n url u\n model m\n served s\n", "line 1:"},
               {"upstream one\n url u\n model m\n any-version yes\n", "line 1:"},
               {"upstream one\n kind sglang\n model m\n", "line 1:"},
               {"upstream one\n server unix:/s\n key-file k\n model m\n", "line 1:"},
               {SECTION "weight 1001\n", "line 4:"},
               {SECTION "weight +1\n", "line 4:"},
               {SECTION "weight 1\nweight 1\n", "line 5:"},
               {"a b c d\n", "line 1:"},
               {"fields yes\n", "line 1:"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cmif_gateway_config before = {.idle = 77}, out = before;
        err = (cmif_err){0};
        CHECK(cmif_gateway_config_parse(bad[i].text, strlen(bad[i].text), &out, &err) != CMIF_OK);
        CHECK(!strncmp(err.text, bad[i].line, strlen(bad[i].line)));
        CHECK(!memcmp(&before, &out, sizeof out));
    }
    CHECK(cmif_gateway_config_parse("keys a\0b\n", 9, &c, &err) == CMIF_E_FORMAT);
}

static void what_needs_a_new_start_is_known(void)
{
    static const struct {
        const char *text, *name;
    } cases[]                 = {{SECTION, NULL},
                                 {"keys k\npolicy words\ntls-cert a\ntls-key b\n" SECTION, NULL},
                                 {"listen 127.0.0.1:1\n" SECTION, "listen"},
                                 {"idle 7\n" SECTION, "idle"},
                                 {"silence 7\n" SECTION, "silence"},
                                 {"conversations 7\n" SECTION, "conversations"},
                                 {"channel x\nno-guarantee yes\n" SECTION, NULL}, /* parts of policies */
                                 {SECTION SECTION, "upstream"},
                                 {SECTION "weight 2\n", "upstream"},
                                 {SECTION "ca x\n", "upstream"}};
    cmif_gateway_config first = {0};
    CHECK(cmif_gateway_config_parse(SECTION, strlen(SECTION), &first, NULL) == CMIF_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(read_text(cases[i].text) == CMIF_OK);
        const char *name = cmif_gateway_config_fixed(&first, &c);
        CHECK(cases[i].name ? name && !strcmp(name, cases[i].name) : !name);
    }
    cmif_gateway_config_wipe(&first);
}

int main(void)
{
    RUN(what_is_not_said_is_as_by_default);
    RUN(values_may_be_quoted_and_lines_explained);
    RUN(a_section_begins_as_the_lines_above_all_say_and_ends_at_the_next);
    RUN(policies_have_names);
    RUN(what_is_refused_says_its_line_and_changes_nothing);
    RUN(what_needs_a_new_start_is_known);
    cmif_gateway_config_wipe(&c);
    return check_report();
}
