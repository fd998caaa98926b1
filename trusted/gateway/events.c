#include "gateway/events.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cmif_code lied(cmif_err *err, const char *what)
{
    return cmif_fail(err, CMIF_E_PEER, "the upstream's answer is not as it should be: %s", what);
}

/* Is it an index, and which? */
static bool index_of(const json_t *object, const char *key, uint32_t most, uint32_t *out)
{
    const json_t    *value = json_object_get(object, key);
    const json_int_t n     = json_is_integer(value) ? json_integer_value(value) : value ? -1 : 0;
    *out                   = (uint32_t) n;
    return n >= 0 && n < (json_int_t) most;
}

static const char *text_of(const json_t *object, const char *key, size_t *size)
{
    const json_t *value = json_object_get(object, key);
    *size               = json_string_length(value);
    return json_string_value(value);
}

static cmif_code take_tools(cmif_events *e, uint32_t choice, const json_t *calls, cmif_err *err)
{
    const json_t *call;
    size_t        i, name_size, size;
    json_array_foreach(calls, i, call)
    {
        const json_t *function = json_object_get(call, "function");
        const char   *name = text_of(function, "name", &name_size), *arguments = text_of(function, "arguments", &size);
        uint32_t      at;
        if (!index_of(call, "index", 128, &at)) {
            return lied(err, "a tool call without its place");
        }
        e->hooks->on_tool(e->hooks->context, choice, at, name ? name : "", name_size, arguments ? arguments : "", size);
    }
    return CMIF_OK;
}

static bool finish_of(const char *name, cmif_finish *out)
{
    static const char *const names[] = {"stop", "length", "tool_calls", "content_filter"};
    for (size_t i = 0; i < 4; i++) {
        if (!strcmp(name, names[i])) {
            *out = (cmif_finish) i;
            return true;
        }
    }
    return false;
}

static cmif_code take_choice(cmif_events *e, const json_t *choice, cmif_err *err)
{
    const cmif_call_hooks *h     = e->hooks;
    const bool             chat  = e->endpoint == CMIF_ENDPOINT_CHAT;
    const json_t          *delta = chat ? json_object_get(choice, "delta") : choice,
                 *logprobs       = json_object_get(choice, "logprobs");
    const char *text, *reason;
    uint32_t    at;
    size_t      size;
    cmif_finish finish;
    if (!json_is_object(delta) || !index_of(choice, "index", 64, &at)) {
        return lied(err, "a choice without its place or delta");
    }
    e->any = true;
    text   = text_of(delta, chat ? "content" : "text", &size);
    if (text && size) {
        h->on_text(h->context, at, text, size);
    }
    text = text_of(delta, "refusal", &size);
    if (text && size) {
        h->on_refusal(h->context, at, text, size);
    }
    if (json_is_object(logprobs)) {
        h->on_logprobs(h->context, at, logprobs);
    }
    cmif_code rc = take_tools(e, at, json_object_get(delta, "tool_calls"), err);
    reason       = text_of(choice, "finish_reason", &size);
    if (rc == CMIF_OK && reason) {
        if (!finish_of(reason, &finish)) {
            return lied(err, "an unknown reason for the end");
        }
        h->on_finish(h->context, at, finish);
    }
    return rc;
}

static void take_usage(const cmif_events *e, const json_t *usage)
{
    const json_t    *details    = json_object_get(usage, "prompt_tokens_details");
    const json_int_t prompt     = json_integer_value(json_object_get(usage, "prompt_tokens")),
                     completion = json_integer_value(json_object_get(usage, "completion_tokens")),
                     cached     = json_integer_value(json_object_get(details, "cached_tokens"));
    const cmif_call_usage u     = {.prompt     = prompt > 0 ? (uint64_t) prompt : 0,
                                   .completion = completion > 0 ? (uint64_t) completion : 0,
                                   .cached     = cached > 0 ? (uint64_t) cached : 0};
    if (json_is_object(usage)) {
        e->hooks->on_usage(e->hooks->context, &u);
    }
}

/* The model that answers is one and the same. */
static cmif_code check_model(cmif_events *e, const json_t *object, cmif_err *err)
{
    size_t      size;
    const char *model = text_of(object, "model", &size);
    if (!model) {
        return CMIF_OK;
    }
    if (size >= sizeof e->model || (*e->model && strcmp(e->model, model) != 0)) {
        return lied(err, "another model answers than before");
    }
    strcpy(e->model, model);
    return CMIF_OK;
}

/* SGLang: {"text", "meta_info": {"finish_reason": null or {"type"}, "prompt_tokens", ...}} */
static cmif_code take_generated(cmif_events *e, const json_t *object, cmif_err *err)
{
    const cmif_call_hooks *h = e->hooks;
    const json_t    *meta = json_object_get(object, "meta_info"), *ending = json_object_get(meta, "finish_reason");
    const json_int_t tokens = json_integer_value(json_object_get(meta, "completion_tokens")),
                     prompt = json_integer_value(json_object_get(meta, "prompt_tokens")),
                     cached = json_integer_value(json_object_get(meta, "cached_tokens"));
    const bool  whole       = e->form == CMIF_EVENTS_WHOLE;
    size_t      size, reason_size;
    const char *text = text_of(object, "text", &size), *reason = text_of(ending, "type", &reason_size);
    cmif_finish finish = CMIF_FINISH_STOP;
    if (!text || !json_is_object(meta) || (json_is_object(ending) && !reason)) {
        return lied(err, "an event without text or what there is to say about it");
    }
    if (reason && !finish_of(reason, &finish)) {
        return lied(err, "an unknown reason for the end");
    }
    const size_t old = whole ? e->said.size : 0, same = old < size ? old : size;
    /* with its end, the begin of a stop that was there before may go */
    if ((same && memcmp(text, e->said.data, same) != 0) || (size < old && !(reason && finish == CMIF_FINISH_STOP))) {
        return lied(err, "it takes back what it said");
    }
    if (whole && size > old) { /* each event repeats all before: what grows ends where an event is too long */
        e->total = 0;
    }
    e->any       = true;
    cmif_code rc = whole && size > old ? cmif_secret_append(&e->said, text + old, size - old, err) : CMIF_OK;
    if (rc == CMIF_OK && size > old) {
        h->on_text(h->context, 0, text + old, size - old);
    }
    if (rc == CMIF_OK && reason) {
        const cmif_call_usage usage = {.prompt     = prompt > 0 ? (uint64_t) prompt : 0,
                                       .completion = tokens > 0 ? (uint64_t) tokens : 0,
                                       .cached     = cached > 0 ? (uint64_t) cached : 0};
        h->on_finish(h->context, 0, finish);
        h->on_usage(h->context, &usage);
    }
    return rc;
}

static cmif_code take_chunk(cmif_events *e, const void *bytes, size_t size, cmif_err *err)
{
    json_t       *object  = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *choices = json_object_get(object, "choices"), *choice;
    size_t        i;
    cmif_code     rc = !object                            ? lied(err, "an event that is no JSON")
                       : json_object_get(object, "error") ? lied(err, "it ends with an error")
                       : e->form != CMIF_EVENTS_OPENAI    ? take_generated(e, object, err)
                       : !json_is_array(choices)          ? lied(err, "an event without choices")
                                                          : check_model(e, object, err);
    if (rc == CMIF_OK && e->form == CMIF_EVENTS_OPENAI) {
        json_array_foreach(choices, i, choice)
        {
            rc = take_choice(e, choice, err);
            if (rc != CMIF_OK) {
                break;
            }
        }
        if (rc == CMIF_OK) {
            take_usage(e, json_object_get(object, "usage"));
        }
    }
    json_decref(object);
    return rc;
}

/* A line of server-sent events, without its end. */
static cmif_code take_line(cmif_events *e, const uint8_t *line, size_t size, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (size == 0) { /* dispatches what was gathered */
        if (e->data.size == 6 && !memcmp(e->data.data, "[DONE]", 6)) {
            e->done = true;
        } else if (e->data.size) {
            rc = take_chunk(e, e->data.data, e->data.size, err);
        }
        e->data.size = 0;
    } else if (size >= 5 && !memcmp(line, "data:", 5)) {
        const size_t skip = size > 5 && line[5] == ' ' ? 6 : 5;
        if (e->done) {
            return lied(err, "it goes on behind its end");
        }
        if (e->data.size + size > CMIF_EVENTS_LINE_MAX) {
            return lied(err, "an event that is too long");
        }
        rc = e->data.size ? cmif_secret_append(&e->data, "\n", 1, err) : CMIF_OK;
        if (rc == CMIF_OK) {
            rc = cmif_secret_append(&e->data, line + skip, size - skip, err);
        }
    }
    return rc; /* other fields, and comments, say nothing here */
}

/* ---- vectors ---- an answer may have thousands, of thousands of numbers: each is read when it is whole, and what is
 * around them is kept, with a 0 in the place of each: its shape is looked at when it is over. */

static cmif_code take_vector(cmif_events *e, const void *bytes, size_t size, cmif_err *err)
{
    json_t       *item   = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *vector = json_object_get(item, "embedding"), *number;
    const size_t  width  = json_array_size(vector);
    float        *values = malloc(width * sizeof *values + 1);
    size_t        k;
    uint32_t      at;
    cmif_code     rc = !values ? cmif_fail(err, CMIF_E_MEMORY, "no memory for a vector")
                       : width == 0 || width > CMIF_EVENTS_WIDTH_MAX || (e->vectors.count && width != e->vectors.width) ||
                           !index_of(item, "index", UINT32_MAX, &at) || at != e->vectors.count
                           ? lied(err, "no vector, or vectors out of order or of different widths")
                       : e->vectors.count == e->inputs ? lied(err, "more vectors than texts")
                                                       : CMIF_OK;
    json_array_foreach(vector, k, number)
    {
        if (rc == CMIF_OK) {
            values[k] = (float) json_number_value(number);
            rc = json_is_number(number) && isfinite(values[k]) ? rc : lied(err, "a vector with what is no number");
        }
    }
    if (rc == CMIF_OK) {
        e->any           = true;
        e->vectors.width = width;
        e->hooks->on_vector(e->hooks->context, (uint32_t) e->vectors.count++, values, width);
    }
    free(values);
    json_decref(item);
    return rc;
}

/* Does what was kept end with the name "data" of a member? */
static bool names_data(const cmif_secret *kept)
{
    static const char name[] = "\"data\"";
    size_t            n      = kept->size;
    bool              colon  = false;
    for (; n && (memchr(" \t\r\n", kept->data[n - 1], 4) || (kept->data[n - 1] == ':' && !colon)); n--) {
        colon = colon || kept->data[n - 1] == ':';
    }
    return colon && n > sizeof name - 1 && !memcmp(kept->data + n - (sizeof name - 1), name, sizeof name - 1) &&
           kept->data[n - sizeof name] != '\\';
}

static cmif_code keep_vectors(cmif_events *e, const uint8_t *bytes, size_t size, cmif_err *err)
{
    enum { NUMBER_MAX = 40, AROUND_MAX = 1 << 16, DEPTH_MAX = 64 };
    const bool item = e->vectors.item;
    if (item ? e->line.size + size > CMIF_EVENTS_WIDTH_MAX * NUMBER_MAX
             : e->data.size + size > AROUND_MAX + 16 * e->inputs) {
        return lied(err, "more than vectors of the texts that were asked for");
    }
    return e->vectors.depth > DEPTH_MAX ? lied(err, "it is too deep")
                                        : cmif_secret_append(item ? &e->line : &e->data, bytes, size, err);
}

static cmif_code feed_vectors(cmif_events *e, const uint8_t *bytes, size_t size, cmif_err *err)
{
    size_t    from = 0; /* what was not kept yet */
    cmif_code rc   = CMIF_OK;
    for (size_t i = 0; i < size && rc == CMIF_OK; i++) {
        const uint8_t c = bytes[i];
        if (e->vectors.string) {
            e->vectors.string  = e->vectors.escaped || c != '"';
            e->vectors.escaped = !e->vectors.escaped && c == '\\';
        } else if (c == '"') {
            e->vectors.string = true;
        } else if (c == '{' || c == '[') {
            rc   = keep_vectors(e, bytes + from, i - from, err);
            from = i;
            if (rc == CMIF_OK && c == '[' && e->vectors.depth == 1) {
                e->vectors.list = names_data(&e->data);
            } else if (rc == CMIF_OK && c == '{' && e->vectors.depth == 2 && e->vectors.list) {
                rc              = cmif_secret_append(&e->data, "0", 1, err);
                e->vectors.item = true;
                e->line.size    = 0;
            }
            e->vectors.depth++;
        } else if ((c == '}' || c == ']') && e->vectors.depth > 0) {
            e->vectors.depth--;
            if (e->vectors.item && e->vectors.depth == 2) {
                rc              = keep_vectors(e, bytes + from, i + 1 - from, err);
                rc              = rc == CMIF_OK ? take_vector(e, e->line.data, e->line.size, err) : rc;
                e->vectors.item = false;
                from            = i + 1;
            }
            e->vectors.list = e->vectors.list && e->vectors.depth > 1;
        }
    }
    return rc == CMIF_OK ? keep_vectors(e, bytes + from, size - from, err) : rc;
}

cmif_code cmif_events_feed(cmif_events *e, const void *bytes, size_t size, cmif_err *err)
{
    const uint8_t *at = bytes, *end = at + size;
    cmif_code      rc = CMIF_OK;
    e->total += size;
    if (e->total > CMIF_EVENTS_TOTAL_MAX) {
        return lied(err, "it has no end");
    }
    if (e->endpoint == CMIF_ENDPOINT_EMBEDDINGS) {
        return feed_vectors(e, bytes, size, err);
    }
    while (at < end && rc == CMIF_OK) {
        const uint8_t *newline = memchr(at, '\n', (size_t) (end - at));
        const size_t   n       = newline ? (size_t) (newline - at) : (size_t) (end - at);
        if (e->line.size + n > CMIF_EVENTS_LINE_MAX) {
            return lied(err, "a line that is too long");
        }
        rc = cmif_secret_append(&e->line, at, n, err);
        if (rc == CMIF_OK && newline) {
            const bool   cr     = e->line.size && e->line.data[e->line.size - 1] == '\r';
            const size_t length = cr ? e->line.size - 1 : e->line.size;
            rc                  = take_line(e, e->line.data, length, err);
            e->line.size        = 0;
        }
        at += n + (newline != NULL);
    }
    return rc;
}

cmif_code cmif_events_end(cmif_events *e, cmif_err *err)
{
    if (e->endpoint != CMIF_ENDPOINT_EMBEDDINGS) {
        return e->done && e->any ? CMIF_OK : lied(err, e->any ? "it broke off" : "it holds no answer");
    }
    json_t *object =
        json_loadb(e->data.size ? (const char *) e->data.data : "", e->data.size, JSON_REJECT_DUPLICATES, NULL);
    cmif_code rc = object ? check_model(e, object, err) : lied(err, "it is no JSON");
    if (rc == CMIF_OK && (!e->vectors.count || e->vectors.count != e->inputs ||
                          json_array_size(json_object_get(object, "data")) != e->vectors.count)) {
        rc = lied(err, "another number of vectors than of texts");
    }
    if (rc == CMIF_OK) {
        take_usage(e, json_object_get(object, "usage"));
    }
    json_decref(object);
    return rc;
}

void cmif_events_wipe(cmif_events *e)
{
    cmif_secret_wipe(&e->line);
    cmif_secret_wipe(&e->data);
    cmif_secret_wipe(&e->said);
}
