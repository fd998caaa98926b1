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
    {ALL, "model", LOCAL, "names the upstream; what leaves is the upstream's own name for it", true},
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
    {ALL, "user", LOCAL, "dropped: it could name a person", false},
    {CHAT, "safety_identifier", LOCAL, "dropped: it could name a person", false},
    {CHAT, "metadata", LOCAL, "dropped: it could hold anything", false},
    {CHAT, "prompt_cache_key", LOCAL, "dropped: conversations are told apart by their content", false},
    {CHAT, "store", LOCAL, "dropped: nothing is asked to be stored", false},
    {CHAT, "service_tier", LOCAL, "dropped", false},
    {WRITE, "cache_salt", LOCAL, "dropped: the gateway salts caches itself", false},

    /* the conversation */
    {CHAT, "messages", ARRAY(4096), NULL, true},
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
    {CHAT, "messages[].name", NAME, NULL, false},
    {CHAT, "messages[].refusal", TEXT, NULL, false},
    {CHAT, "messages[].annotations", LOCAL, "dropped: they point into text as it was", false},
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
