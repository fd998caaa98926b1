/* Whatever an upstream says, in whichever pieces it comes: the same is made of it, an answer that is taken is one that
 * a client understands (each event is JSON, the last one is [DONE]), and one that is not taken ends the call. */
#include "gateway/events.h"
#include "gateway/reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct run {
    cmif_reply *reply;
    cmif_secret out;
    cmif_code   rc;
} run;

static void keep(run *r, cmif_code rc)
{
    r->rc = r->rc == CMIF_OK ? rc : r->rc;
}

static cmif_code sink(void *context, const void *bytes, size_t size, cmif_err *err)
{
    run *r = context;
    return cmif_secret_append(&r->out, bytes, size, err);
}

static void on_text(void *context, uint32_t choice, const char *bytes, size_t size)
{
    run *r = context;
    keep(r, cmif_reply_text(r->reply, choice, bytes, size, NULL));
}

static void on_refusal(void *context, uint32_t choice, const char *bytes, size_t size)
{
    run *r = context;
    keep(r, cmif_reply_refusal(r->reply, choice, bytes, size, NULL));
}

static void on_tool(void *context, uint32_t choice, uint32_t index, const char *name, size_t name_size,
                    const char *arguments, size_t size)
{
    run *r = context;
    keep(r, cmif_reply_tool(r->reply, choice, index, name, name_size, arguments, size, NULL));
}

static void on_logprobs(void *context, uint32_t choice, const json_t *logprobs)
{
    run *r = context;
    keep(r, cmif_reply_logprobs(r->reply, choice, logprobs, NULL));
}

static void on_vector(void *context, uint32_t index, const float *values, size_t count)
{
    run *r = context;
    keep(r, cmif_reply_vector(r->reply, index, values, count, NULL));
}

static void on_finish(void *context, uint32_t choice, cmif_finish reason)
{
    run *r = context;
    keep(r, cmif_reply_finish(r->reply, choice, reason, NULL));
}

static void on_usage(void *context, const cmif_call_usage *usage)
{
    run *r = context;
    cmif_reply_usage(r->reply, usage);
}

static void check_stream(const char *text)
{
    bool done = false;
    while (*text) {
        const char *end = strstr(text, "\n\n");
        if (done || !end || strncmp(text, "data: ", 6) != 0) {
            abort();
        }
        done         = end - text == 12 && !strncmp(text, "data: [DONE]", 12);
        json_t *tree = done ? NULL : json_loadb(text + 6, (size_t) (end - text) - 6, JSON_REJECT_DUPLICATES, NULL);
        if (!done && !json_is_object(tree)) {
            abort();
        }
        json_decref(tree);
        text = end + 2;
    }
    if (!done) {
        abort();
    }
}

/* piece 0: all at once. */
static run answer(const cmif_request *request, cmif_events_form form, cmif_talk *talk, const uint8_t *bytes,
                  size_t size, size_t piece)
{
    run                        r      = {0};
    const cmif_talk_counts     counts = {0};
    const cmif_reply_extension extra  = {.counts = &counts, .epsilon_left_day = INFINITY};
    const cmif_reply_options   about  = {
           .request = request, .talk = talk, .model = "m", .number = 1, .sink = sink, .context = &r};
    const cmif_call_hooks hooks  = {.on_text     = on_text,
                                    .on_refusal  = on_refusal,
                                    .on_tool     = on_tool,
                                    .on_logprobs = on_logprobs,
                                    .on_vector   = on_vector,
                                    .on_finish   = on_finish,
                                    .on_usage    = on_usage,
                                    .context     = &r};
    cmif_events           events = {.endpoint = request->endpoint, .inputs = 1, .form = form, .hooks = &hooks};
    if (cmif_reply_new(&about, &r.reply, NULL) != CMIF_OK) {
        abort();
    }
    for (size_t at = 0, n; at < size && r.rc == CMIF_OK; at += n) {
        n = piece && piece < size - at ? piece : size - at;
        keep(&r, cmif_events_feed(&events, bytes + at, n, NULL));
    }
    keep(&r, r.rc == CMIF_OK ? cmif_events_end(&events, NULL) : r.rc);
    keep(&r, r.rc == CMIF_OK ? cmif_reply_end(r.reply, &extra, NULL) : r.rc);
    if (cmif_secret_append(&r.out, "", 1, NULL) != CMIF_OK) {
        abort();
    }
    cmif_events_wipe(&events);
    cmif_reply_free(r.reply);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const bodies[] = {
        ("{\"model\": \"m\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"a\"}], "
         "\"stream_options\": {\"include_obfuscation\": false, \"include_usage\": true}}"),
        "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
        "{\"model\": \"m\", \"stream\": true, \"prompt\": \"a\", \"stream_options\": {\"include_obfuscation\": false}}",
        "{\"model\": \"m\", \"prompt\": \"a\"}",
        "{\"model\": \"m\", \"input\": \"a\"}",
        "{\"model\": \"m\", \"input\": \"a\", \"encoding_format\": \"base64\"}"};
    static cmif_books        books;
    const cmif_talks_options about = {.books = &books, .most = 1, .idle_seconds = 1};
    cmif_request_problem     problem;
    cmif_request            *request = NULL;
    cmif_talks              *talks   = NULL;
    cmif_talk               *talk    = NULL;
    const size_t             which   = size ? bytes[0] % 6 : 0;
    if (size < 2) {
        return 0;
    }
    if (cmif_request_parse((cmif_endpoint) (which / 2), bodies[which], strlen(bodies[which]), &request, &problem,
                           NULL) != CMIF_OK ||
        cmif_talks_new(&about, &talks, NULL) != CMIF_OK ||
        cmif_talks_find(talks, "local", request, 0, &talk, NULL) != CMIF_OK) {
        abort();
    }
    /* of completions in three forms: as OpenAI or SGLang write them */
    const cmif_events_form form =
        which / 2 == CMIF_ENDPOINT_COMPLETIONS ? (cmif_events_form) (bytes[0] / 6 % 3) : CMIF_EVENTS_OPENAI;
    run a = answer(request, form, talk, bytes + 2, size - 2, 0),
        b = answer(request, form, talk, bytes + 2, size - 2, 1 + bytes[1] % 9);
    if (a.rc != b.rc || (a.rc == CMIF_OK && (a.out.size != b.out.size || memcmp(a.out.data, b.out.data, a.out.size)))) {
        abort();
    }
    if (a.rc == CMIF_OK && request->stream) {
        check_stream((const char *) a.out.data);
    } else if (a.rc == CMIF_OK) {
        json_t *tree = json_loads((const char *) a.out.data, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(tree)) {
            abort();
        }
        json_decref(tree);
    }
    cmif_secret_wipe(&a.out);
    cmif_secret_wipe(&b.out);
    cmif_talk_end(talk);
    cmif_talks_free(talks);
    cmif_request_free(request);
    return 0;
}
