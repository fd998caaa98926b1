#include "gateway/api.h"

#include <string.h>

#define CHAT (1u << CMIF_ENDPOINT_CHAT)
#define COMPL (1u << CMIF_ENDPOINT_COMPLETIONS)
#define EMBED (1u << CMIF_ENDPOINT_EMBEDDINGS)
#define WRITE (CHAT | COMPL) /* endpoints that write an answer */
#define ALL (CHAT | COMPL | EMBED)

#define OBJECT CMIF_FIELD_OBJECT, 0, 0
#define ARRAY(n) CMIF_FIELD_ARRAY, 1, n
#define TEXT CMIF_FIELD_TEXT, 0, 0
#define NAME CMIF_FIELD_NAME, 0, 0
#define WORD CMIF_FIELD_WORD, 0, 0
#define FLAG CMIF_FIELD_FLAG, 0, 0
#define LOCAL CMIF_FIELD_LOCAL, 0, 0
#define REFUSED CMIF_FIELD_REFUSED, 0, 0

const cmif_field cmif_fields[] = {
    /* which model, and how it answers */
    {ALL, "model", LOCAL, "it names the upstream, and leaves as the upstream's own name for it", true},
    {WRITE, "stream", LOCAL, "how the gateway answers; the upstream is always asked to stream", false},
    {WRITE, "stream_options", LOCAL,
     "include_usage, and include_obfuscation (the padding of chunks, on by default): the gateway's own doing", false},
    {WRITE, "max_tokens", CMIF_FIELD_COUNT, 1, 1 << 24, NULL, false},
    {CHAT, "max_completion_tokens", CMIF_FIELD_COUNT, 1, 1 << 24, NULL, false},
    {WRITE, "temperature", CMIF_FIELD_NUMBER, 0, 100, NULL, false},
    {WRITE, "top_p", CMIF_FIELD_NUMBER, 0, 1, NULL, false},
    {WRITE, "top_k", CMIF_FIELD_COUNT, -1, 1 << 24, NULL, false},
    {WRITE, "min_p", CMIF_FIELD_NUMBER, 0, 1, NULL, false},
    {WRITE, "n", CMIF_FIELD_COUNT, 1, 8, NULL, false},
    {WRITE, "seed", CMIF_FIELD_COUNT, -9007199254740991.0, 9007199254740991.0, NULL, false},
    {WRITE, "presence_penalty", CMIF_FIELD_NUMBER, -2, 2, NULL, false},
    {WRITE, "frequency_penalty", CMIF_FIELD_NUMBER, -2, 2, NULL, false},
    {WRITE, "repetition_penalty", CMIF_FIELD_NUMBER, 0.01, 10, NULL, false},
    {CHAT, "logprobs", FLAG, NULL, false},
    {CHAT, "top_logprobs", CMIF_FIELD_COUNT, 0, 20, NULL, false},
    {COMPL, "logprobs", CMIF_FIELD_COUNT, 0, 5, NULL, false},
    {WRITE, "stop", TEXT, NULL, false},
    {WRITE, "stop", ARRAY(4), NULL, false},
    {WRITE, "stop[]", TEXT, NULL, false},
    {WRITE, "logit_bias", REFUSED, "token ids can spell words: leave it out", false},
    {CHAT, "reasoning_effort", WORD, "none minimal low medium high", false},
    {CHAT, "verbosity", WORD, "low medium high", false},
    {CHAT, "modalities", ARRAY(1), NULL, false},
    {CHAT, "modalities[]", WORD, "text", false},
    {CHAT, "audio", REFUSED, "only text can be sanitized: leave it out", false},
    {CHAT, "web_search_options", REFUSED, "a search would carry words elsewhere: leave it out", false},
    {CHAT, "chat_template_kwargs", OBJECT, NULL, false},
    {CHAT, "chat_template_kwargs.enable_thinking", FLAG, NULL, false},

    /* who asks */
    {ALL, "user", LOCAL, "it could name a person", false},
    {CHAT, "safety_identifier", LOCAL, "it could name a person", false},
    {CHAT, "metadata", LOCAL, "it could hold anything", false},
    {CHAT, "prompt_cache_key", LOCAL, "conversations are told apart by their content", false},
    {CHAT, "store", LOCAL, "nothing is asked to be stored", false},
    {CHAT, "service_tier", LOCAL, "prices are not ours to choose", false},
    {WRITE, "cache_salt", LOCAL, "it could hold anything", false},

    /* the conversation */
    {CHAT, "messages", ARRAY(32768), NULL, true},
    {CHAT, "messages[]", OBJECT, NULL, true},
    {CHAT, "messages[].role", WORD, "system developer user assistant tool", true},
    {CHAT, "messages[].content", TEXT, NULL, false},
    {CHAT, "messages[].content", ARRAY(1024), NULL, false},
    {CHAT, "messages[].content[]", OBJECT, NULL, true},
    {CHAT, "messages[].content[].type", WORD, "text refusal", true},
    {CHAT, "messages[].content[].text", TEXT, NULL, false},
    {CHAT, "messages[].content[].refusal", TEXT, NULL, false},
    {CHAT, "messages[].content[].image_url", REFUSED, "images cannot be sanitized: send text", false},
    {CHAT, "messages[].content[].input_audio", REFUSED, "audio cannot be sanitized: send text", false},
    {CHAT, "messages[].content[].file", REFUSED, "files cannot be sanitized: send their text", false},
    {CHAT, "messages[].name", LOCAL, "dropped: it could name a person", false},
    {CHAT, "messages[].refusal", TEXT, NULL, false},
    {CHAT, "messages[].annotations", LOCAL, "they point into text as it was", false},
    {CHAT, "messages[].audio", REFUSED, "audio cannot be sanitized: send its text", false},
    {CHAT, "messages[].function_call", REFUSED, "the old form of tool_calls: use those", false},
    {CHAT, "messages[].tool_call_id", CMIF_FIELD_ID, 0, 0, NULL, false},
    {CHAT, "messages[].tool_calls", ARRAY(128), NULL, false},
    {CHAT, "messages[].tool_calls[]", OBJECT, NULL, true},
    {CHAT, "messages[].tool_calls[].id", CMIF_FIELD_ID, 0, 0, NULL, true},
    {CHAT, "messages[].tool_calls[].type", WORD, "function", true},
    {CHAT, "messages[].tool_calls[].function", OBJECT, NULL, true},
    {CHAT, "messages[].tool_calls[].function.name", NAME, NULL, true},
    {CHAT, "messages[].tool_calls[].function.arguments", CMIF_FIELD_JSON, 0, 0, NULL, true},
    {CHAT, "prediction", OBJECT, NULL, false},
    {CHAT, "prediction.type", WORD, "content", true},
    {CHAT, "prediction.content", TEXT, NULL, false},
    {CHAT, "prediction.content", ARRAY(64), NULL, false},
    {CHAT, "prediction.content[]", OBJECT, NULL, true},
    {CHAT, "prediction.content[].type", WORD, "text", true},
    {CHAT, "prediction.content[].text", TEXT, NULL, true},

    /* tools and shapes of answers */
    {CHAT, "tools", ARRAY(128), NULL, false},
    {CHAT, "tools[]", OBJECT, NULL, true},
    {CHAT, "tools[].type", WORD, "function", true},
    {CHAT, "tools[].function", OBJECT, NULL, true},
    {CHAT, "tools[].function.name", NAME, NULL, true},
    {CHAT, "tools[].function.description", TEXT, NULL, false},
    {CHAT, "tools[].function.parameters", CMIF_FIELD_SCHEMA, 0, 0, NULL, false},
    {CHAT, "tools[].function.strict", FLAG, NULL, false},
    {CHAT, "tool_choice", WORD, "none auto required", false},
    {CHAT, "tool_choice", OBJECT, NULL, false},
    {CHAT, "tool_choice.type", WORD, "function", true},
    {CHAT, "tool_choice.function", OBJECT, NULL, true},
    {CHAT, "tool_choice.function.name", NAME, NULL, true},
    {CHAT, "parallel_tool_calls", FLAG, NULL, false},
    {CHAT, "functions", REFUSED, "the old form of tools: use those", false},
    {CHAT, "function_call", REFUSED, "the old form of tool_choice: use that", false},
    {CHAT, "response_format", OBJECT, NULL, false},
    {CHAT, "response_format.type", WORD, "text json_object json_schema", true},
    {CHAT, "response_format.json_schema", OBJECT, NULL, false},
    {CHAT, "response_format.json_schema.name", NAME, NULL, true},
    {CHAT, "response_format.json_schema.description", TEXT, NULL, false},
    {CHAT, "response_format.json_schema.schema", CMIF_FIELD_SCHEMA, 0, 0, NULL, false},
    {CHAT, "response_format.json_schema.strict", FLAG, NULL, false},

    /* plain completions */
    {COMPL, "prompt", TEXT, NULL, true},
    {COMPL, "prompt", ARRAY(64), NULL, true},
    {COMPL, "prompt[]", TEXT, NULL, true},
    {COMPL, "suffix", TEXT, NULL, false},
    {COMPL, "echo", FLAG, NULL, false},
    {COMPL, "best_of", REFUSED, "leave it out, or ask for n answers", false},

    /* embeddings */
    {EMBED, "input", TEXT, NULL, true},
    {EMBED, "input", ARRAY(2048), NULL, true},
    {EMBED, "input[]", TEXT, NULL, true},
    {EMBED, "encoding_format", LOCAL, "float or base64: the gateway writes both", false},
    {EMBED, "dimensions", CMIF_FIELD_COUNT, 1, 65536, NULL, false},
};
const size_t cmif_field_count = sizeof cmif_fields / sizeof *cmif_fields;

const char *cmif_endpoint_path(cmif_endpoint endpoint)
{
    static const char *const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"};
    return (unsigned) endpoint < CMIF_ENDPOINTS ? paths[endpoint] : NULL;
}

const cmif_field *cmif_field_find(cmif_endpoint endpoint, const char *parent, const char *name, size_t size)
{
    const size_t above = strlen(parent), dot = above ? 1 : 0;
    for (size_t i = 0; i < cmif_field_count; i++) {
        const cmif_field *f = &cmif_fields[i];
        if ((f->endpoints & 1u << endpoint) && !strncmp(f->path, parent, above) && (!dot || f->path[above] == '.') &&
            strlen(f->path) == above + dot + size && !memcmp(f->path + above + dot, name, size)) {
            return f;
        }
    }
    return NULL;
}

/* ---- for people ---- */

static void print_bound(FILE *out, double x)
{
    for (int power = 24; power < 54; power++) {
        const double round = (double) (1ull << power);
        if (x == round || x == round - 1 || -x == round - 1) {
            fprintf(out, "%s2^%d%s", x < 0 ? "-" : "", power, x == round ? "" : x < 0 ? " + 1" : " - 1");
            return;
        }
    }
    fprintf(out, "%.10g", x);
}

static void print_values(FILE *out, const cmif_field *f)
{
    static const char *const kinds[CMIF_FIELD_REFUSED + 1] = {
        [CMIF_FIELD_OBJECT] = "object", [CMIF_FIELD_TEXT] = "text",   [CMIF_FIELD_JSON] = "JSON as text",
        [CMIF_FIELD_SCHEMA] = "object", [CMIF_FIELD_NAME] = "name",   [CMIF_FIELD_ID] = "text",
        [CMIF_FIELD_NUMBER] = "number", [CMIF_FIELD_COUNT] = "whole", [CMIF_FIELD_FLAG] = "true, false"};
    if (f->kind == CMIF_FIELD_WORD) {
        for (const char *c = f->about; *c; c++) {
            fprintf(out, *c == ' ' ? ", " : "%c", *c);
        }
    } else if (f->kind == CMIF_FIELD_ARRAY) {
        fprintf(out, f->high > 1 ? "array of 1 to %.0f" : "array of %.0f", f->high);
    } else {
        fputs(kinds[f->kind] ? kinds[f->kind] : "any", out);
    }
    if (f->kind == CMIF_FIELD_NUMBER || f->kind == CMIF_FIELD_COUNT) {
        fputs(", ", out);
        print_bound(out, f->low);
        fputs(" to ", out);
        print_bound(out, f->high);
    }
}

void cmif_fields_print(FILE *out)
{
    static const char *const becomes[] = {
        [CMIF_FIELD_OBJECT]  = "honoured, by its fields",
        [CMIF_FIELD_ARRAY]   = "honoured, by its items",
        [CMIF_FIELD_TEXT]    = "sanitized",
        [CMIF_FIELD_JSON]    = "sanitized: every string in it, names too; numbers as text",
        [CMIF_FIELD_SCHEMA]  = "sanitized: every string but JSON Schema's own words; names of properties as names",
        [CMIF_FIELD_NAME]    = "sanitized: as it is where it is made of ordinary words, else name_1, name_2, ...",
        [CMIF_FIELD_ID]      = "replaced: call_1, call_2, ...",
        [CMIF_FIELD_WORD]    = "honoured",
        [CMIF_FIELD_NUMBER]  = "honoured",
        [CMIF_FIELD_COUNT]   = "honoured",
        [CMIF_FIELD_FLAG]    = "honoured",
        [CMIF_FIELD_LOCAL]   = "stays here: ",
        [CMIF_FIELD_REFUSED] = "refused: "};
    for (cmif_endpoint e = CMIF_ENDPOINT_CHAT; e < CMIF_ENDPOINTS; e++) {
        fprintf(out, "%s### POST %s\n\n| field | takes | what becomes of it |\n| --- | --- | --- |\n", e ? "\n" : "",
                cmif_endpoint_path(e));
        for (size_t i = 0; i < cmif_field_count; i++) {
            const cmif_field *f = &cmif_fields[i];
            if (f->endpoints & 1u << e) {
                const bool says = f->kind == CMIF_FIELD_LOCAL || f->kind == CMIF_FIELD_REFUSED;
                fprintf(out, "| `%s`%s | ", f->path, f->required ? " (needed)" : "");
                print_values(out, f);
                fprintf(out, " | %s%s |\n", becomes[f->kind], says ? f->about : "");
            }
        }
    }
}
