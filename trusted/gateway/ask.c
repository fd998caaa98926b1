#include "gateway/ask.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define COMPLETION_TOKENS                                                                                              \
    16 /* what the API reference says of completions; a chat goes on until its context is full                         \
        */

/* ---- fields that the server cannot honour ---- */

/* A field that asks for nothing (null, false, "", {}, what it does anyway) is welcome: some programs send all of them.
 */
static const struct plain {
    const char *name;
    double      number; /* NAN: no number is welcome */
    const char *word, *why;
} plain_fields[] = {
    {"n", 1, NULL, "one answer at a time: ask again for another"},
    {"presence_penalty", 0, NULL, "the server draws tokens without penalties"},
    {"frequency_penalty", 0, NULL, "the server draws tokens without penalties"},
    {"repetition_penalty", 1, NULL, "the server draws tokens without penalties"},
    {"logprobs", NAN, NULL, "the server sends no probabilities"},
    {"top_logprobs", 0, NULL, "the server sends no probabilities"},
    {"echo", NAN, NULL, "the prompt is not sent back"},
    {"suffix", NAN, NULL, "the server goes on from a prompt, and fills no gaps"},
    {"reasoning_effort", NAN, NULL, "the chat format of a split model is fixed"},
    {"verbosity", NAN, "medium", "the chat format of a split model is fixed"},
    {"chat_template_kwargs", NAN, NULL, "the chat format of a split model is fixed"},
};

static bool is_plain(const struct plain *field, const json_t *value)
{
    const char *word = json_string_value(value);
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_TRUE:
        return false;
    case JSON_STRING:
        return !*word || (field->word && !strcmp(word, field->word));
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == field->number;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    default:
        return true;
    }
}

/* Needs no released text: what is refused here costs nothing. */
cmif_code cmif_ask_check(const cmif_request *r, const cmif_ask_model *m, cmif_err *err)
{
    const json_t *prompt     = json_object_get(r->tree, "prompt");
    const json_t *dimensions = json_object_get(r->tree, "dimensions");
    if (m->encoder != (r->endpoint == CMIF_ENDPOINT_EMBEDDINGS)) {
        return cmif_fail(err, CMIF_E_RANGE, "model: it %s",
                         m->encoder ? "makes vectors and no text: POST /v1/embeddings" : "makes text and no vectors");
    }
    if (r->has_tools) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "tools: a split model gets none, nor messages of role tool: leave them out");
    }
    if (r->has_schema) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "response_format: the server cannot bind an answer to a shape: ask for text");
    }
    for (const struct plain *f = plain_fields; f < plain_fields + sizeof plain_fields / sizeof *plain_fields; f++) {
        if (!is_plain(f, json_object_get(r->tree, f->name))) {
            return cmif_fail(err, CMIF_E_RANGE, "%s: %s: leave it out", f->name, f->why);
        }
    }
    if (json_is_number(dimensions) && json_number_value(dimensions) != m->outputs) {
        return cmif_fail(err, CMIF_E_RANGE, "dimensions: the model's vectors have %u, and are not shortened",
                         m->outputs);
    }
    if (json_is_array(prompt) && json_array_size(prompt) > 1) {
        return cmif_fail(err, CMIF_E_RANGE, "prompt: one at a time, found %zu: ask for each", json_array_size(prompt));
    }
    if (r->endpoint == CMIF_ENDPOINT_CHAT && !m->chat) {
        return cmif_fail(err, CMIF_E_RANGE, "messages: %s: POST /v1/completions", m->no_chat);
    }
    for (size_t i = 0; i < r->text_count; i++) {
        if (r->texts[i].message != UINT32_MAX && !r->texts[i].content) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "messages[]: a split model's chat format has content only: leave refusal out");
        }
    }
    return CMIF_OK;
}

/* ---- texts ---- */

static const cmif_released *released_of(const cmif_request *r, const json_t *value)
{
    const char *bytes = json_string_value(value);
    for (size_t i = 0; bytes && i < r->text_count; i++) {
        if (r->texts[i].text.data == bytes) { /* texts are borrowed from the tree */
            return r->texts[i].released;
        }
    }
    return NULL;
}

static cmif_code no_text(cmif_err *err)
{
    return cmif_fail(err, CMIF_E_RANGE, "a text was not released");
}

static cmif_code read_stops(const cmif_request *r, cmif_ask *ask, cmif_err *err)
{
    const json_t *stop  = json_object_get(r->tree, "stop");
    const size_t  count = json_is_array(stop) ? json_array_size(stop) : json_is_string(stop) ? 1 : 0;
    for (size_t i = 0; i < count && i < CMIF_ASK_STOPS_MAX; i++) {
        const cmif_released *text = released_of(r, json_is_array(stop) ? json_array_get(stop, i) : stop);
        size_t               size;
        const uint8_t       *bytes = text ? cmif_released_bytes(text, &size) : NULL;
        if (!bytes) {
            return no_text(err);
        }
        if (size) {
            struct cmif_ask_stop *s = &ask->stops[ask->stop_count];
            s->bytes                = malloc(size);
            if (!s->bytes) {
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for a stop");
            }
            memcpy(s->bytes, bytes, size);
            s->size = size;
            ask->stop_count++;
        }
    }
    return CMIF_OK;
}

static double number_or(const cmif_request *r, const char *name, double otherwise)
{
    const json_t *value = json_object_get(r->tree, name);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static cmif_code read_sampling(const cmif_request *r, cmif_ask *ask, cmif_err *err)
{
    const json_t *seed  = json_object_get(r->tree, "seed");
    const double  top_p = number_or(r, "top_p", 1), min_p = number_or(r, "min_p", 0), top_k = number_or(r, "top_k", 0);
    cmif_sampling s = {.temperature = (float) number_or(r, "temperature", 1),
                       .top_p       = (float) top_p,
                       .min_p       = (float) min_p,
                       .top_k       = top_k > 0 ? (uint32_t) top_k : 0};
    if (s.top_p <= 0 || s.min_p >= 1) { /* of all tokens only the likeliest is left */
        s.temperature = 0;
        s.top_p       = 1;
        s.min_p       = 0;
    }
    ask->seeded = json_is_integer(seed);
    if (ask->seeded) {
        s.seed = (uint64_t) json_integer_value(seed);
    } else if (getrandom(&s.seed, sizeof s.seed, 0) != sizeof s.seed) {
        return cmif_fail(err, CMIF_E_IO, "cannot draw a seed: %s", strerror(errno));
    }
    ask->sampling = s;
    return CMIF_OK;
}

/* ---- ids ---- */

static cmif_code put_text(const cmif_ask_model *m, const cmif_released *text, bool end, cmif_ids *ids, cmif_err *err)
{
    cmif_part part = {.text = text};
    (void) cmif_released_bytes(text, &part.size);
    cmif_code rc = cmif_tokenizer_put_start(m->tokenizer, ids, err);
    rc           = rc == CMIF_OK ? cmif_tokenizer_encode(m->tokenizer, &part, 1, ids, err) : rc;
    return rc == CMIF_OK && end ? cmif_tokenizer_put_end(m->tokenizer, ids, err) : rc;
}

/* Messages of a conversation as chat.h wants them: parts of one message are its lines, and what one side said in
 * several messages in a row is one, with blank lines between. */
typedef struct turns {
    cmif_message   *messages;
    cmif_released **made; /* of a message that is made of several texts; NULL: it is one of the request's */
    size_t          count;
    cmif_secret     joined; /* texts of the last message, while it has several */
} turns;

static cmif_code append_text(cmif_secret *to, const cmif_released *text, cmif_err *err)
{
    size_t         size;
    const uint8_t *bytes = cmif_released_bytes(text, &size);
    return cmif_secret_append(to, bytes, size, err);
}

static cmif_code end_turn(turns *t, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (t->joined.size) { /* nothing but what was released */
        rc = cmif_dp_release_identity(t->joined.data, t->joined.size, &t->made[t->count - 1], err);
    }
    if (rc == CMIF_OK && t->joined.size) {
        t->messages[t->count - 1].text = t->made[t->count - 1];
    }
    cmif_secret_wipe(&t->joined);
    return rc;
}

/* between: what stands before a text that goes on with the last message; NULL: it begins one. */
static cmif_code put_turn(turns *t, cmif_role role, const cmif_released *text, const char *between, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (!between) {
        rc                      = end_turn(t, err);
        t->messages[t->count++] = (cmif_message){role, text};
        return rc;
    }
    if (!t->joined.size) {
        rc = append_text(&t->joined, t->messages[t->count - 1].text, err);
    }
    rc = rc == CMIF_OK ? cmif_secret_append(&t->joined, between, strlen(between), err) : rc;
    return rc == CMIF_OK ? append_text(&t->joined, text, err) : rc;
}

static cmif_code read_turns(const cmif_request *r, turns *t, cmif_err *err)
{
    static const cmif_role roles[] = {CMIF_ROLE_SYSTEM, CMIF_ROLE_USER, CMIF_ROLE_ASSISTANT};
    for (size_t i = 0; i < r->message_count; i++) {
        const cmif_request_message *m = &r->messages[i];
        for (uint32_t k = 0; k < m->count; k++) {
            const cmif_request_text *text = &r->texts[m->first + k];
            const bool               more = t->count && t->messages[t->count - 1].role == roles[m->speaker];
            if (!text->released) {
                return no_text(err);
            }
            cmif_code rc = put_turn(t, roles[m->speaker], text->released, k ? "\n" : more ? "\n\n" : NULL, err);
            if (rc != CMIF_OK) {
                return rc;
            }
        }
    }
    return end_turn(t, err);
}

static cmif_code put_chat(const cmif_request *r, const cmif_ask_model *m, cmif_ids *ids, cmif_err *err)
{
    turns     t  = {.messages = calloc(r->text_count + 1, sizeof *t.messages),
                    .made     = calloc(r->text_count + 1, sizeof *t.made)};
    cmif_code rc = t.messages && t.made ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a conversation");
    rc           = rc == CMIF_OK ? read_turns(r, &t, err) : rc;
    if (rc == CMIF_OK) {
        rc = cmif_chat_render(m->chat, t.messages, t.count, ids, err);
        if (rc == CMIF_E_RANGE || rc == CMIF_E_UNSUPPORTED) {
            cmif_err_context(err, "messages");
            rc = CMIF_E_RANGE;
        }
    }
    for (size_t i = 0; t.made && i < t.count; i++) {
        cmif_released_free(t.made[i]);
    }
    cmif_secret_wipe(&t.joined);
    free(t.made);
    free(t.messages);
    return rc;
}

/* The texts of "prompt" or "input". */
static cmif_code put_texts(const cmif_request *r, const cmif_ask_model *m, const char *field, cmif_ask *ask,
                           cmif_err *err)
{
    const json_t *value = json_object_get(r->tree, field);
    const bool    end   = r->endpoint == CMIF_ENDPOINT_EMBEDDINGS;
    cmif_code     rc    = CMIF_OK;
    for (size_t i = 0; i < ask->input_count && rc == CMIF_OK; i++) {
        const cmif_released *text = released_of(r, json_is_array(value) ? json_array_get(value, i) : value);
        size_t               size = 0;
        if (text) {
            (void) cmif_released_bytes(text, &size);
        }
        rc = !text          ? no_text(err)
             : end && !size ? cmif_fail(err, CMIF_E_RANGE, "input: text %zu is empty", i + 1)
                            : put_text(m, text, end, &ask->inputs[i], err);
    }
    return rc;
}

static cmif_code check_room(const cmif_request *r, const cmif_ask_model *m, const char *field, cmif_ask *ask,
                            cmif_err *err)
{
    const double most = number_or(r, "max_completion_tokens", number_or(r, "max_tokens", INFINITY));
    for (size_t i = 0; i < ask->input_count; i++) {
        const size_t count = ask->inputs[i].count;
        if (count == 0 || count > m->context) {
            return cmif_fail(err, CMIF_E_RANGE,
                             count ? "%s: %zu tokens, the context holds %u: shorten it" : "%s: is empty", field, count,
                             m->context);
        }
        ask->prompt += count;
    }
    const double room = (double) m->context - (double) ask->inputs[0].count + 1; /* the last one needs no row */
    const double want = isfinite(most) ? most : ask->chat ? room : COMPLETION_TOKENS;
    ask->max_tokens   = (uint32_t) (want < room ? want : room);
    return CMIF_OK;
}

/* ---- the whole ---- */

void cmif_ask_wipe(cmif_ask *ask)
{
    for (size_t i = 0; i < ask->input_count; i++) {
        cmif_ids_free(&ask->inputs[i]);
    }
    for (size_t i = 0; i < ask->stop_count; i++) {
        free(ask->stops[i].bytes);
    }
    free(ask->inputs);
    *ask = (cmif_ask){0};
}

cmif_code cmif_ask_read(const cmif_request *r, const cmif_ask_model *m, cmif_ask *out, cmif_err *err)
{
    const char   *field = r->endpoint == CMIF_ENDPOINT_CHAT          ? "messages"
                          : r->endpoint == CMIF_ENDPOINT_COMPLETIONS ? "prompt"
                                                                     : "input";
    const json_t *value = json_object_get(r->tree, field);
    cmif_ask      ask   = {.chat = r->endpoint == CMIF_ENDPOINT_CHAT};
    cmif_code     rc    = cmif_ask_check(r, m, err);
    if (rc == CMIF_OK) {
        const size_t count = !ask.chat && json_is_array(value) ? json_array_size(value) : 1;
        ask.inputs         = calloc(count, sizeof *ask.inputs);
        ask.input_count    = ask.inputs ? count : 0;
        rc                 = ask.inputs ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu texts", count);
    }
    rc = rc == CMIF_OK ? read_stops(r, &ask, err) : rc;
    rc = rc == CMIF_OK ? read_sampling(r, &ask, err) : rc;
    if (rc == CMIF_OK) {
        rc = ask.chat ? put_chat(r, m, &ask.inputs[0], err) : put_texts(r, m, field, &ask, err);
    }
    rc = rc == CMIF_OK ? check_room(r, m, field, &ask, err) : rc;
    if (rc == CMIF_OK) {
        *out = ask;
    } else {
        cmif_ask_wipe(&ask);
    }
    return rc;
}
