#define _GNU_SOURCE /* memmem */
#include "gateway/request.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* A name planted in every place of a chat request that can hold one. */
#define ZYX "Zyxanthe \\\"Q\\\" Vorbrugg"
static const char planted[] =
    "{\"model\": \"m\", \"stream\": true, \"user\": \"" ZYX "\", \"safety_identifier\": \"" ZYX
    "\", \"prompt_cache_key\": \"" ZYX "\","
    " \"metadata\": {\"" ZYX "\": \"" ZYX "\"}, \"store\": false, \"service_tier\": \"" ZYX "\", \"cache_salt\": \"" ZYX
    "\","
    " \"temperature\": 0.5, \"max_completion_tokens\": 7, \"seed\": 3, \"stop\": [\"" ZYX "\", \"b\"],"
    " \"stream_options\": {\"include_usage\": true, \"x\": \"" ZYX "\"},"
    " \"prediction\": {\"type\": \"content\", \"content\": [{\"type\": \"text\", \"text\": \"" ZYX "\"}]},"
    " \"messages\": ["
    "  {\"role\": \"system\", \"content\": \"" ZYX "\", \"name\": \"Zyxanthe\"},"
    "  {\"role\": \"developer\", \"content\": \"" ZYX "\"},"
    "  {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"" ZYX
    "\"}, {\"type\": \"text\", \"text\": \"Zyxanthe\\ntwo\"}]},"
    "  {\"role\": \"assistant\", \"content\": null, \"refusal\": \"" ZYX "\", \"annotations\": [\"" ZYX
    "\"], \"tool_calls\": ["
    "    {\"id\": \"Zyxanthe1\", \"type\": \"function\", \"function\": {\"name\": \"call_Zyxanthe\", \"arguments\":"
    "       \"{\\\"Zyxanthe\\\": [\\\"Zyxanthe \\\\\\\"Q\\\\\\\"\\\", 4711.25, 47110815, true, null, {\\\"a\\\": "
    "\\\"Zyxanthe\\\"}]}\"}},"
    "    {\"id\": \"Zyxanthe2\", \"type\": \"function\", \"function\": {\"name\": \"g\", \"arguments\": \"no json: "
    "Zyxanthe \\\" {\"}}]},"
    "  {\"role\": \"tool\", \"tool_call_id\": \"Zyxanthe2\", \"content\": \"" ZYX "\"},"
    "  {\"role\": \"assistant\", \"content\": [{\"type\": \"refusal\", \"refusal\": \"" ZYX "\"}]},"
    "  {\"role\": \"user\", \"content\": \"" ZYX "\"}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"find_Zyxanthe\", \"description\": \"" ZYX
    "\", \"strict\": true, \"parameters\":"
    "   {\"$schema\": \"" ZYX "\", \"$id\": \"" ZYX "\", \"$comment\": \"" ZYX
    "\", \"type\": \"object\", \"title\": \"" ZYX "\", \"description\": \"" ZYX "\","
    "    \"properties\": {\"Zyxanthe\": {\"type\": [\"string\", \"null\"], \"enum\": [\"" ZYX
    "\", 4711.25], \"default\": {\"Zyxanthe\": \"" ZYX "\"}},"
    "                    \"b\": {\"$ref\": \"#/$defs/Zyxanthe\"}, \"c\": {\"const\": \"" ZYX
    "\", \"format\": \"Zyxanthe\", \"pattern\": \"Zyxanthe\"},"
    "                    \"d\": {\"type\": \"array\", \"items\": {\"examples\": [\"" ZYX
    "\"]}, \"minItems\": 1, \"prefixItems\": [{\"title\": \"Zyxanthe\"}]},"
    "                    \"e\": {\"anyOf\": [{\"title\": \"Zyxanthe\"}], \"oneOf\": [{\"title\": \"Zyxanthe\"}], "
    "\"allOf\": [{\"title\": \"Zyxanthe\"}],"
    "                            \"not\": {\"title\": \"Zyxanthe\"}, \"additionalProperties\": {\"title\": "
    "\"Zyxanthe\"}}},"
    "    \"required\": [\"Zyxanthe\"], \"additionalProperties\": false, \"$defs\": {\"Zyxanthe\": {\"description\": "
    "\"Zyxanthe\"}},"
    "    \"definitions\": {\"Zyxanthe\": {\"$ref\": \"#\"}}}}}],"
    " \"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"find_Zyxanthe\"}},"
    " \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"Zyxanthe\", \"description\": "
    "\"" ZYX "\","
    "    \"schema\": {\"title\": \"" ZYX "\"}, \"strict\": true}}}";

static cmif_request        *request;
static cmif_request_problem problem;
static cmif_err             wrong;

static bool same(const char *found, const char *expected)
{
    return found && strcmp(found, expected) == 0;
}

static cmif_code parse(cmif_endpoint endpoint, const char *body)
{
    request = NULL;
    wrong   = (cmif_err){0};
    return cmif_request_parse(endpoint, body, strlen(body), &request, &problem, &wrong);
}

/* Release each text as "T<n>", names as "n<n>", numbers as they are. */
static void release(void)
{
    for (size_t i = 0; i < request->text_count; i++) {
        cmif_request_text *t = &request->texts[i];
        char               text[64];
        snprintf(text, sizeof text,
                 t->form == CMIF_FORM_NAME     ? "n%zu"
                 : t->form == CMIF_FORM_NUMBER ? "%zu.5"
                                               : "T\"%zu\\\n",
                 i);
        CHECK(cmif_dp_release_identity(text, strlen(text), &t->released, NULL) == CMIF_OK);
    }
}

static char *body_of(const char *model)
{
    cmif_secret out = {0};
    CHECK(cmif_request_body(request, model, &out, &wrong) == CMIF_OK);
    char *copy = strndup(out.data ? (const char *) out.data : "", out.size);
    cmif_secret_wipe(&out);
    return copy;
}

static void what_was_planted_is_a_text_or_stays_here(void)
{
    CHECK(parse(CMIF_ENDPOINT_CHAT, planted) == CMIF_OK);
    if (!request) {
        fprintf(stderr, "%s %s\n", problem.param, wrong.text);
        return;
    }
    size_t holding = 0;
    for (size_t i = 0; i < request->text_count; i++) {
        holding += memmem(request->texts[i].text.data, request->texts[i].text.size, "Zyxanthe", 8) != NULL;
    }
    CHECK(holding >= 40);
    release();
    char   *body = body_of("the \"model\"");
    json_t *tree = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
    CHECK(tree && !strstr(body, "Zyx") && !strstr(body, "Vorbrugg") && !strstr(body, "4711"));
    if (!tree) {
        fprintf(stderr, "%s\n", body);
    }
    CHECK(same(json_string_value(json_object_get(tree, "model")), "the \"model\""));
    json_t *messages = json_object_get(tree, "messages");
    CHECK(json_array_size(messages) == 7 && request->message_count == 7);
    CHECK(json_is_null(json_object_get(tree, "user")) || !json_object_get(tree, "user"));
    json_t *calls = json_object_get(json_array_get(messages, 3), "tool_calls");
    CHECK(same(json_string_value(json_object_get(json_array_get(calls, 1), "id")), "call_2"));
    CHECK(same(json_string_value(json_object_get(json_array_get(messages, 4), "tool_call_id")), "call_2"));
    json_t *arguments = json_object_get(json_object_get(json_array_get(calls, 0), "function"), "arguments");
    json_t *inner     = json_loads(json_string_value(arguments), JSON_REJECT_DUPLICATES, NULL);
    CHECK(inner && json_object_size(inner) == 1);
    json_t *list = json_object_iter_value(json_object_iter(inner));
    CHECK(json_array_size(list) == 6 && json_is_real(json_array_get(list, 1)) && json_is_true(json_array_get(list, 3)));
    CHECK(strncmp(json_string_value(json_array_get(list, 0)), "T\"", 2) == 0);
    json_t *parameters =
        json_object_get(json_object_get(json_array_get(json_object_get(tree, "tools"), 0), "function"), "parameters");
    CHECK(json_object_get(parameters, "type") && json_object_get(parameters, "required") &&
          !json_object_get(parameters, "$id"));
    json_decref(inner);
    json_decref(tree);
    free(body);
    cmif_request_free(request);
}

static void messages_know_their_texts_and_speakers(void)
{
    CHECK(parse(CMIF_ENDPOINT_CHAT, planted) == CMIF_OK);
    static const cmif_speaker who[] = {CMIF_SPEAKER_SYSTEM,    CMIF_SPEAKER_SYSTEM, CMIF_SPEAKER_USER,
                                       CMIF_SPEAKER_ASSISTANT, CMIF_SPEAKER_TOOL,   CMIF_SPEAKER_ASSISTANT,
                                       CMIF_SPEAKER_USER};
    for (size_t i = 0; i < 7; i++) {
        const cmif_request_message *m = &request->messages[i];
        CHECK(m->speaker == who[i]);
        for (uint32_t k = 0; k < m->count; k++) {
            CHECK(request->texts[m->first + k].message == i);
        }
    }
    CHECK(request->messages[2].count == 2 && request->texts[request->messages[2].first + 1].content);
    CHECK(request->stream && request->include_usage && request->obfuscation && request->has_tools &&
          request->has_schema);
    cmif_request_free(request);
}

#define CHAT(more) "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"Zyxanthe\"}]" more "}"
#define SAY(message) "{\"model\": \"m\", \"messages\": [" message "]}"
#define TOOL(schema)                                                                                                   \
    CHAT(", \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": " schema "}}]")

static void refused(cmif_endpoint endpoint, const char *body, const char *param)
{
    CHECK(parse(endpoint, body) == CMIF_E_RANGE && !request);
    if (strcmp(problem.param, param) != 0) {
        fprintf(stderr, "expected %s, found %s: %s\n", param, problem.param, wrong.text);
    }
    CHECK(same(problem.param, param));
    CHECK(!strstr(wrong.text, "Zyx") && !strstr(problem.param, "Zyx"));
}

static void what_is_not_in_the_table_is_refused_by_name(void)
{
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"extra_body\": {\"a\": \"Zyxanthe\"}"), "extra_body");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"Zyxanthe was here\": 1"), "?");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"logit_bias\": {\"4711\": 3}"), "logit_bias");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"functions\": []"), "functions");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"prompt\": \"Zyxanthe\""), "prompt");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"role\": \"user\", \"content\": \"a\", \"note\": \"Zyxanthe\"}"),
            "messages[].note");
    refused(
        CMIF_ENDPOINT_CHAT,
        SAY("{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"Zyxanthe\"}}]}"),
        "messages[].content[].type");
    refused(
        CMIF_ENDPOINT_CHAT,
        SAY("{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\", \"image_url\": \"Zyxanthe\"}]}"),
        "messages[].content[].image_url");
    refused(CMIF_ENDPOINT_CHAT, TOOL("{\"x-Zyxanthe\": 1}"), "tools[].function.parameters");
    refused(CMIF_ENDPOINT_CHAT, TOOL("{\"$ref\": \"https://Zyxanthe\"}"), "tools[].function.parameters");
    refused(CMIF_ENDPOINT_CHAT, TOOL("{\"$ref\": \"#/$defs/a/Zyxanthe\"}"), "tools[].function.parameters");
    refused(CMIF_ENDPOINT_CHAT, TOOL("{\"type\": \"Zyxanthe\"}"), "tools[].function.parameters");
    refused(CMIF_ENDPOINT_CHAT, TOOL("{\"minimum\": \"Zyxanthe\"}"), "tools[].function.parameters");
    refused(CMIF_ENDPOINT_EMBEDDINGS, "{\"model\": \"m\", \"input\": [[1, 2]]}", "input[]");
    refused(CMIF_ENDPOINT_COMPLETIONS, "{\"model\": \"m\", \"prompt\": [1, 2]}", "prompt[]");
}

static void types_ranges_and_roles_are_checked(void)
{
    refused(CMIF_ENDPOINT_CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", "model");
    refused(CMIF_ENDPOINT_CHAT, "{\"model\": \"m\"}", "messages");
    refused(CMIF_ENDPOINT_CHAT, SAY(""), "messages");
    refused(CMIF_ENDPOINT_CHAT, SAY("\"Zyxanthe\""), "messages[]");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"content\": \"a\"}"), "messages[].role");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"role\": \"Zyxanthe\", \"content\": \"a\"}"), "messages[].role");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"role\": \"user\"}"), "messages[].content");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"role\": \"user\", \"content\": null}"), "messages[].content");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"role\": \"tool\", \"content\": \"a\"}"), "messages[].tool_call_id");
    refused(CMIF_ENDPOINT_CHAT, SAY("{\"role\": \"user\", \"content\": \"a\", \"tool_call_id\": \"x\"}"),
            "messages[].tool_call_id");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"temperature\": 101"), "temperature");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"temperature\": \"Zyxanthe\""), "temperature");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"max_tokens\": 0"), "max_tokens");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"max_tokens\": 1.5"), "max_tokens");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"stop\": [\"a\", \"b\", \"c\", \"d\", \"e\"]"), "stop");
    refused(CMIF_ENDPOINT_CHAT, CHAT(", \"stream\": \"yes\""), "stream");
    refused(CMIF_ENDPOINT_EMBEDDINGS, "{\"model\": \"m\", \"input\": \"a\", \"encoding_format\": \"Zyxanthe\"}",
            "encoding_format");
    CHECK(parse(CMIF_ENDPOINT_CHAT, CHAT(", \"temperature\": null, \"tools\": null, \"stop\": \"Zyxanthe\"")) ==
          CMIF_OK);
    CHECK(request->text_count == 2);
    cmif_request_free(request);
}

static void what_is_no_json_is_named_by_its_place_alone(void)
{
    static const struct {
        const char *body, *says;
    } cases[] = {{"", "line 1"},
                 {"Zyxanthe", "line 1"},
                 {"[1]", "no object"},
                 {CHAT(", \"user\": \"Zyxanthe\", \"user\": \"b\""), "a key twice"},
                 {"{\"model\": \"Zyxanthe\\ud800\"}", "expected"},
                 {"{\"model\": \"Zyxanthe\xff\"}", "no UTF-8"},
                 {"{\"model\": \"Zyx\\u0000anthe\"}", "expected"},
                 {CHAT(", \"seed\": 123456789012345678901234567890"), "too large"},
                 {CHAT("} trailing Zyxanthe {"), "expected"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(parse(CMIF_ENDPOINT_CHAT, cases[i].body) == CMIF_E_FORMAT && !request);
        CHECK(strstr(wrong.text, cases[i].says) && !strstr(wrong.text, "Zyx"));
    }
    char deep[9000] = "{\"model\": \"m\", \"messages\": ";
    memset(deep + strlen(deep), '[', 5000);
    CHECK(parse(CMIF_ENDPOINT_CHAT, deep) == CMIF_E_FORMAT && strstr(wrong.text, "too deeply"));
    char nested[1200] = "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}], "
                        "\"response_format\": {\"type\": \"json_schema\", "
                        "\"json_schema\": {\"name\": \"n\", \"schema\": ";
    for (int i = 0; i < 60; i++) {
        strcat(nested, "{\"not\": ");
    }
    strcat(nested, "true");
    memset(nested + strlen(nested), '}', 63);
    refused(CMIF_ENDPOINT_CHAT, nested, "response_format.json_schema.schema");
}

static void a_body_needs_every_text_released_and_every_name_a_name(void)
{
    cmif_secret out = {0};
    CHECK(parse(CMIF_ENDPOINT_CHAT, TOOL("{}")) == CMIF_OK);
    CHECK(cmif_secret_append(&out, "x", 1, NULL) == CMIF_OK);
    CHECK(cmif_request_body(request, "m", &out, &wrong) == CMIF_E_RANGE && out.size == 1);
    CHECK(cmif_dp_release_identity("a", 1, &request->texts[0].released, NULL) == CMIF_OK);
    CHECK(cmif_dp_release_identity("not a name", 10, &request->texts[1].released, NULL) == CMIF_OK);
    CHECK(cmif_request_body(request, "m", &out, &wrong) == CMIF_E_RANGE && out.size == 1);
    cmif_released_free(request->texts[1].released);
    CHECK(cmif_dp_release_identity("name", 4, &request->texts[1].released, NULL) == CMIF_OK);
    CHECK(cmif_request_body(request, "m", &out, &wrong) == CMIF_OK);
    cmif_secret_wipe(&out);
    cmif_request_free(request);
}

static void every_line_of_the_table_makes_sense(void)
{
    for (size_t i = 0; i < cmif_field_count; i++) {
        const cmif_field *f = &cmif_fields[i];
        CHECK(f->endpoints && (f->kind != CMIF_FIELD_REFUSED || f->about) && (f->kind != CMIF_FIELD_WORD || f->about));
        CHECK(strlen(f->path) + 3 < CMIF_REQUEST_PARAM_SIZE && f->low <= f->high);
        for (size_t k = 0; k < i; k++) { /* two lines of one path are of two types */
            CHECK(strcmp(cmif_fields[k].path, f->path) != 0 || !(cmif_fields[k].endpoints & f->endpoints) ||
                  cmif_fields[k].kind != f->kind);
        }
    }
    CHECK(same(cmif_endpoint_path(CMIF_ENDPOINT_EMBEDDINGS), "/v1/embeddings"));
}

int main(void)
{
    RUN(what_was_planted_is_a_text_or_stays_here);
    RUN(messages_know_their_texts_and_speakers);
    RUN(what_is_not_in_the_table_is_refused_by_name);
    RUN(types_ranges_and_roles_are_checked);
    RUN(what_is_no_json_is_named_by_its_place_alone);
    RUN(a_body_needs_every_text_released_and_every_name_a_name);
    RUN(every_line_of_the_table_makes_sense);
    return check_report();
}
